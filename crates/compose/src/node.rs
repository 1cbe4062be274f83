//! YAML as a tree whose every node knows its line and column, so that a problem found late still names its place.
//!
//! Scalars: `true` and `false` are booleans, `yes`, `no`, `on`, `off` and numbers with a leading zero stay text; a
//! duplicate key is an error; sizes, depth and aliases are bounded.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned, Tagged};

/// Largest file that is read, bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// Most values of one file, those that aliases repeat counted each time.
pub const MAX_NODES: usize = 200_000;

/// Where something stood; line and column counted from 1, 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Position of the file among those a compile read.
    pub file: usize,
    pub line: u64,
    pub column: u64,
}

/// A value and where it stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub place: Place,
    /// `!reset` or `!override`.
    pub tag: Option<Tag>,
    pub value: Value,
}

/// What a tag asks of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Forget what earlier files say.
    Reset,
    /// Replace it instead of merging.
    Override,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Key {
    pub place: Place,
    pub name: String,
}

impl Node {
    pub fn new(place: Place, value: Value) -> Node {
        Node { place, tag: None, value }
    }

    pub fn text(place: Place, text: impl Into<String>) -> Node {
        Node::new(place, Value::Text(text.into()))
    }

    /// The members of a map; none for anything else.
    pub fn members(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a member, when it is a scalar that is not empty.
    pub fn part(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Node::scalar).filter(|text| !text.is_empty())
    }

    /// The text of a scalar, as the tools of 2016 wrote it; `None` for lists, maps and null.
    pub fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::Text(value) => Some(value.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// What kind of thing it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The member of a map.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// As JSON, numbers and booleans kept.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.clone().into(),
            Value::List(items) => items.iter().map(Node::json).collect(),
            Value::Map(members) => members.iter().map(|(key, node)| (key.name.clone(), node.json())).collect(),
        }
    }
}

/// Why a text is not YAML we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub place: Place,
    pub text: String,
}

/// Reads one document; `file` goes into every place.
pub fn read(text: &str, file: usize) -> Result<Node, Unreadable> {
    let nowhere = |text: String| Unreadable { place: Place { file, ..Place::default() }, text };
    if text.len() > MAX_FILE_BYTES {
        return Err(nowhere(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    if text.trim().is_empty() {
        return Ok(Node::new(nowhere(String::new()).place, Value::Null));
    }
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.with_snippet = false;
    // Found here, where both places are known.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    options.budget = Some(budget);
    let mut aliases = serde_saphyr::options::AliasLimits::default();
    aliases.max_total_replayed_events = MAX_NODES;
    options.alias_limits = aliases;
    let tree: Tree = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map(|at| (at.line(), at.column())).unwrap_or_default();
        Unreadable { place: Place { file, line: at.0, column: at.1 }, text: first_line(&error.to_string()) }
    })?;
    tree.node(file, 0)
}

/// The library repeats the place after the message; we print it in front.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not YAML").trim_end_matches(':');
    let cut = line.find(" at line ").or_else(|| line.find(" (line "));
    line[..cut.unwrap_or(line.len())].to_owned()
}

/// What serde builds before depth is checked.
struct Tree(Spanned<Tagged<Branch>>);

enum Branch {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Spanned<String>, Tree)>),
}

fn place<T>(spanned: &Spanned<T>, file: usize) -> Place {
    Place { file, line: spanned.referenced.line(), column: spanned.referenced.column() }
}

impl Tree {
    fn node(self, file: usize, depth: usize) -> Result<Node, Unreadable> {
        let at = place(&self.0, file);
        if depth > MAX_DEPTH {
            return Err(Unreadable { place: at, text: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        let Tagged(branch, tag) = self.0.value;
        let tag = match tag.as_deref() {
            Some("!reset") => Some(Tag::Reset),
            Some("!override") => Some(Tag::Override),
            _ => None,
        };
        let value = match branch {
            Branch::Scalar(value) => value,
            Branch::List(items) => {
                Value::List(items.into_iter().map(|item| item.node(file, depth + 1)).collect::<Result<_, _>>()?)
            }
            Branch::Map(members) => {
                let mut map = Vec::with_capacity(members.len());
                let mut seen = HashMap::with_capacity(members.len());
                for (key, member) in members {
                    let key = Key { place: place(&key, file), name: key.value };
                    if let Some(first) = seen.insert(key.name.clone(), key.place.line) {
                        let text = format!("duplicate key `{}`: it stands in line {first} already", shown(&key.name));
                        return Err(Unreadable { place: key.place, text });
                    }
                    map.push((key, member.node(file, depth + 1)?));
                }
                Value::Map(map)
            }
        };
        Ok(Node { place: at, tag, value })
    }
}

/// A text somebody wrote, short enough for a message.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        Spanned::<Tagged<Branch>>::deserialize(deserializer).map(Tree)
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Branch, D::Error> {
        deserializer.deserialize_any(BranchVisitor)
    }
}

struct BranchVisitor;

impl<'de> Visitor<'de> for BranchVisitor {
    type Value = Branch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Bool(value)))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Int(value)))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Branch, E> {
        Ok(Branch::Scalar(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int)))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Float(value)))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Text(value.to_owned())))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Text(value)))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Null))
    }
    fn visit_none<E: de::Error>(self) -> Result<Branch, E> {
        Ok(Branch::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Branch, D::Error> {
        Branch::deserialize(deserializer)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Branch, D::Error> {
        Branch::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Branch, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Branch::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Branch, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Branch::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node: &Node) -> (u64, u64) {
        (node.place.line, node.place.column)
    }

    #[test]
    fn scalars_keep_what_people_meant() {
        let node = read("a: yes\nb: no\nc: true\nd: 0777\ne: 22:22\nf: 1.5\ng: ~\nh: 80\ni: '80'\n", 0).expect("reads");
        let scalars: Vec<_> =
            "abcdefghi".chars().map(|key| node.get(&key.to_string()).and_then(Node::scalar)).collect();
        let expected = ["yes", "no", "true", "0777", "22:22", "1.5", "", "80", "80"]
            .map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
        assert_eq!(scalars, expected);
    }

    #[test]
    fn nodes_know_their_place_and_anchors_merge() {
        let node = read("base: &base\n  image: x\nweb:\n  <<: *base\n  tty: true\n", 0).expect("reads");
        let web = node.get("web").expect("web");
        assert_eq!(web.get("image").and_then(Node::scalar).as_deref(), Some("x"));
        assert_eq!(at(web.get("tty").expect("tty")), (5, 8));
    }

    #[test]
    fn what_is_not_read_says_where() {
        let error = read("a: 1\nb: [1,\n", 0).expect_err("is broken");
        assert!(error.place.line >= 2, "{error:?}");
        let twice = read("a: 1\nb: 2\na: 3\n", 0).expect_err("has a key twice");
        assert!(twice.text.contains("stands in line 1") && twice.place.line == 3, "{twice:?}");
        let bomb = format!(
            "a: &a [{}]\n{}",
            "x,".repeat(9),
            (b'b'..=b'm')
                .map(|letter| {
                    let (name, before) = (char::from(letter), char::from(letter - 1));
                    format!("{name}: &{name} [{}]\n", format!("*{before},").repeat(9))
                })
                .collect::<String>()
        );
        assert!(read(&bomb, 0).is_err());
        assert!(read(&format!("a: {}1{}", "[".repeat(200), "]".repeat(200)), 0).is_err());
        assert!(read(&"x".repeat(MAX_FILE_BYTES + 1), 0).is_err());
    }

    #[test]
    fn tags_of_merges_are_kept() {
        let node = read("a: !reset null\nb: !override [x]\nc: !other x\n", 0).expect("reads");
        let tags: Vec<_> = node.members().iter().map(|(_, node)| node.tag).collect();
        assert_eq!(tags, [Some(Tag::Reset), Some(Tag::Override), None]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n\t]{0,200}") {
            drop(read(&text, 0));
        }
    }
}
