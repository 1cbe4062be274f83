//! YAML as a tree whose every node knows its line and column, so that a problem found late still names its place.
//!
//! Scalars: `true` and `false` are booleans, `yes`, `no`, `on`, `off` and numbers with a leading zero stay text; a
//! duplicate key is an error; sizes, depth and aliases are bounded.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Largest file that is read, bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// Where something stood; both counted from 1, 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A value and where it stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub place: Place,
    pub value: Value,
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
        match &self.value {
            Value::Map(members) => members.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
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

/// Reads one document.
pub fn read(text: &str) -> Result<Node, Unreadable> {
    let nowhere = |text: String| Unreadable { place: Place::default(), text };
    if text.len() > MAX_FILE_BYTES {
        return Err(nowhere(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    if text.trim().is_empty() {
        return Ok(Node::default());
    }
    let mut options = serde_saphyr::Options::default();
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.with_snippet = false;
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    options.budget = Some(budget);
    let tree: Tree = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| Place { line: at.line(), column: at.column() }).unwrap_or_default();
        Unreadable { place, text: first_line(&error.to_string()) }
    })?;
    tree.node(0).map_err(|place| Unreadable { place, text: format!("nested deeper than {MAX_DEPTH} levels") })
}

/// The library repeats the place after the message; we print it in front.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("not YAML").trim_end_matches(':');
    let cut = line.find(" at line ").or_else(|| line.find(" (line "));
    line[..cut.unwrap_or(line.len())].to_owned()
}

/// What serde builds before depth is checked.
struct Tree(Spanned<Branch>);

enum Branch {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Spanned<String>, Tree)>),
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

impl Tree {
    fn node(self, depth: usize) -> Result<Node, Place> {
        let at = place(&self.0);
        if depth > MAX_DEPTH {
            return Err(at);
        }
        let value = match self.0.value {
            Branch::Scalar(value) => value,
            Branch::List(items) => {
                Value::List(items.into_iter().map(|item| item.node(depth + 1)).collect::<Result<_, _>>()?)
            }
            Branch::Map(members) => {
                let mut map = Vec::with_capacity(members.len());
                for (key, member) in members {
                    map.push((Key { place: place(&key), name: key.value }, member.node(depth + 1)?));
                }
                Value::Map(map)
            }
        };
        Ok(Node { place: at, value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        Spanned::<Branch>::deserialize(deserializer).map(Tree)
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
        let node = read("a: yes\nb: no\nc: true\nd: 0777\ne: 22:22\nf: 1.5\ng: ~\nh: 80\ni: '80'\n").expect("reads");
        let scalars: Vec<_> =
            "abcdefghi".chars().map(|key| node.get(&key.to_string()).and_then(Node::scalar)).collect();
        let expected = ["yes", "no", "true", "0777", "22:22", "1.5", "", "80", "80"]
            .map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
        assert_eq!(scalars, expected);
    }

    #[test]
    fn nodes_know_their_place_and_anchors_merge() {
        let node = read("base: &base\n  image: x\nweb:\n  <<: *base\n  tty: true\n").expect("reads");
        let web = node.get("web").expect("web");
        assert_eq!(web.get("image").and_then(Node::scalar).as_deref(), Some("x"));
        assert_eq!(at(web.get("tty").expect("tty")), (5, 8));
    }

    #[test]
    fn what_is_not_read_says_where() {
        let error = read("a: 1\nb: [1,\n").expect_err("is broken");
        assert!(error.place.line >= 2, "{error:?}");
        let twice = read("a: 1\nb: 2\na: 3\n").expect_err("has a key twice");
        assert!(twice.text.contains("duplicate") && twice.place.line == 3, "{twice:?}");
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
        assert!(read(&bomb).is_err());
        assert!(read(&format!("a: {}1{}", "[".repeat(200), "]".repeat(200))).is_err());
        assert!(read(&"x".repeat(MAX_FILE_BYTES + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~\n\t]{0,200}") {
            drop(read(&text));
        }
    }
}
