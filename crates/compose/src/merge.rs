//! How definitions add up: a base and what extends it, a file and its overrides (`compose.md` §5).

use std::collections::{HashMap, HashSet, hash_map::Entry};

use crate::node::{Key, Node, Tag, Value};
use crate::values;

/// How two values of a key become one.
#[derive(Clone, Copy)]
enum Way {
    /// The later one counts.
    Replace,
    /// Key by key, lists of `key=value` taken as maps.
    Pairs(&'static [char]),
    /// Member by member, a list of names taken as a map of them.
    Names,
    /// Appended; entries that mean the same place appear once, the later one.
    Unique(fn(&Node) -> String),
    /// Maps member by member, lists appended, scalars replaced.
    Usual,
}

fn way(path: &[&str]) -> Way {
    match path {
        ["command" | "entrypoint"] | ["healthcheck", "test"] => Way::Replace,
        ["environment" | "labels" | "annotations" | "log_opt" | "sysctls"]
        | ["build", "args" | "labels"]
        | ["deploy", "labels"] => Way::Pairs(&['=']),
        ["extra_hosts"] => Way::Pairs(&['=', ':']),
        ["depends_on" | "networks"] => Way::Names,
        ["ports"] => Way::Unique(port_identity),
        ["volumes" | "devices"] => Way::Unique(target_identity),
        ["secrets" | "configs"] => Way::Unique(source_identity),
        ["expose" | "cap_add" | "cap_drop" | "dns" | "dns_search" | "security_opt" | "external_links" | "links"] => {
            Way::Unique(|node| node.scalar().unwrap_or_default())
        }
        _ => Way::Usual,
    }
}

fn port_identity(node: &Node) -> String {
    if node.scalar().is_some_and(|text| text.contains('-')) {
        return node.scalar().unwrap_or_default();
    }
    let list = Node::new(node.place, Value::List(vec![node.clone()]));
    values::ports(&list).map(|ports| ports.to_string()).unwrap_or_else(|_| node.scalar().unwrap_or_default())
}

fn target_identity(node: &Node) -> String {
    let short = || {
        let text = node.scalar().unwrap_or_default();
        let mut parts = text.split(':');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.next().map(str::to_owned).unwrap_or(first)
    };
    node.part("target").unwrap_or_else(short)
}

fn source_identity(node: &Node) -> String {
    node.part("target").or_else(|| node.part("source")).or_else(|| node.scalar()).unwrap_or_default()
}

/// A service and what is written over it.
pub fn service(base: &Node, over: &Node) -> Node {
    let mut base = base.clone();
    if let Value::Map(members) = &mut base.value {
        // Either an image or a way to make one: the last word counts.
        let other = match (over.get("image").is_some(), over.get("build").is_some()) {
            (true, false) => Some("build"),
            (false, true) => Some("image"),
            _ => None,
        };
        members.retain(|(key, _)| other != Some(key.name.as_str()));
    }
    merge(&base, over, &mut Vec::new())
}

/// Two maps, the later one winning key by key.
pub fn replaced(base: &Node, over: &Node) -> Node {
    Node::new(over.place, members(base.members(), over.members(), |_, over, _| over.clone()))
}

/// Two maps whose members are merged by the usual rules.
pub fn maps(base: &Node, over: &Node) -> Node {
    merge(base, over, &mut vec!["-"])
}

fn merge<'n>(base: &Node, over: &'n Node, path: &mut Vec<&'n str>) -> Node {
    if over.tag == Some(Tag::Override) {
        return Node { tag: None, ..over.clone() };
    }
    let made = |value| Node::new(over.place, value);
    match way(path) {
        Way::Replace => return over.clone(),
        Way::Pairs(separators) => {
            let (base, over) = (as_map(base, separators), as_map(over, separators));
            return made(members(base.members(), over.members(), |_, over, _| over.clone()));
        }
        Way::Names => {
            let (base, over) = (as_map(base, &[]), as_map(over, &[]));
            let later = |base: &Node, over: &Node, _: &str| if over.is_null() { base.clone() } else { over.clone() };
            return made(members(base.members(), over.members(), later));
        }
        Way::Unique(identity) => {
            let mut items: Vec<Node> = Vec::new();
            let mut known: HashMap<String, usize> = HashMap::new();
            for item in as_list(base).into_iter().chain(as_list(over)) {
                match known.entry(identity(&item)) {
                    Entry::Occupied(at) => items[*at.get()] = item,
                    Entry::Vacant(free) => {
                        free.insert(items.len());
                        items.push(item);
                    }
                }
            }
            return made(Value::List(items));
        }
        Way::Usual => {}
    }
    match (&base.value, &over.value) {
        (Value::Map(from), Value::Map(onto)) => made(members(from, onto, |base, over, key| {
            path.push(key);
            let merged = merge(base, over, path);
            path.pop();
            merged
        })),
        (Value::List(from), Value::List(onto)) => made(Value::List(from.iter().chain(onto).cloned().collect())),
        // One or several, as in `env_file`.
        (Value::List(_), Value::Text(_)) | (Value::Text(_), Value::List(_)) if path.as_slice() == ["env_file"] => {
            made(Value::List(as_list(base).into_iter().chain(as_list(over)).collect()))
        }
        (Value::Text(_), Value::Text(_)) if path.as_slice() == ["env_file"] => {
            made(Value::List(vec![base.clone(), over.clone()]))
        }
        _ => over.clone(),
    }
}

/// The members of both; `both` makes one of two.
fn members<'n>(
    from: &[(Key, Node)],
    onto: &'n [(Key, Node)],
    mut both: impl FnMut(&Node, &'n Node, &'n str) -> Node,
) -> Value {
    let mut made: Vec<(Key, Node)> = from.to_vec();
    let known: HashMap<&str, usize> = from.iter().enumerate().map(|(at, (key, _))| (key.name.as_str(), at)).collect();
    let mut reset = HashSet::new();
    for (key, member) in onto {
        if member.tag == Some(Tag::Reset) {
            reset.insert(key.name.as_str());
            continue;
        }
        match known.get(key.name.as_str()) {
            Some(at) => made[*at] = (key.clone(), both(&made[*at].1, member, &key.name)),
            None => made.push((key.clone(), member.clone())),
        }
    }
    made.retain(|(key, _)| !reset.contains(key.name.as_str()));
    Value::Map(made)
}

fn as_list(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::List(items) => items.clone(),
        Value::Null => Vec::new(),
        _ => vec![node.clone()],
    }
}

/// A list of `key=value` as the map it stands for.
fn as_map(node: &Node, separators: &[char]) -> Node {
    let Value::List(items) = &node.value else { return node.clone() };
    let mut members: Vec<(Key, Node)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.scalar() else { continue };
        let (name, value) = match text.split_once(separators) {
            Some((name, value)) if !separators.is_empty() => (name.to_owned(), Value::Text(value.to_owned())),
            _ => (text, Value::Null),
        };
        let key = Key { place: item.place, name };
        members.push((key, Node::new(item.place, value)));
    }
    Node::new(node.place, Value::Map(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::read;

    #[test]
    fn keys_merge_in_their_own_way() {
        for (base, over, expected) in [
            ("command: a b", "command: c", r#"{"command":"c"}"#),
            ("environment: {A: 1, B: 2}", "environment: [B=3, C]", r#"{"environment":{"A":1,"B":"3","C":null}}"#),
            ("extra_hosts: ['a:1']", "extra_hosts: {a: 2}", r#"{"extra_hosts":{"a":2}}"#),
            (
                "ports: ['80:80', '81:81']",
                "ports: ['80:80/tcp', '82:82']",
                r#"{"ports":["80:80/tcp","81:81","82:82"]}"#,
            ),
            ("volumes: ['a:/d', /e]", "volumes: ['b:/d']", r#"{"volumes":["b:/d","/e"]}"#),
            (
                "depends_on: [a]",
                "depends_on: {b: {condition: service_healthy}}",
                r#"{"depends_on":{"a":null,"b":{"condition":"service_healthy"}}}"#,
            ),
            ("ulimits: {a: 1}", "ulimits: {b: 2}", r#"{"ulimits":{"a":1,"b":2}}"#),
            ("env_file: a", "env_file: [b]", r#"{"env_file":["a","b"]}"#),
            ("build: .", "image: x", r#"{"image":"x"}"#),
            ("image: x", "build: .", r#"{"build":"."}"#),
            ("ports: ['80:80']\ntty: true", "ports: !override ['81:81']\ntty: !reset null", r#"{"ports":["81:81"]}"#),
            ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", r#"{"environment":{"B":2}}"#),
            (
                "healthcheck: {test: [a], retries: 3}",
                "healthcheck: {test: [b]}",
                r#"{"healthcheck":{"retries":3,"test":["b"]}}"#,
            ),
        ] {
            let (base, over) = (read(base, 0).expect(base), read(over, 1).expect(over));
            assert_eq!(service(&base, &over).json().to_string(), expected);
        }
    }
}
