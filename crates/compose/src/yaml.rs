//! Writes YAML in block style, keys sorted, so that [`crate::node`] reads the same back.

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// YAML reads at most 1024 characters before the colon of a plain `key: value`.
const MAX_KEY: usize = 1_000;

/// A document; `newline` ends every line.
pub fn write(value: &Json, newline: &str) -> String {
    let mut out = String::new();
    block(value, 0, newline, &mut out);
    out
}

fn block(value: &Json, indent: usize, newline: &str, out: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Json::Object(members) if !members.is_empty() => {
            let sorted: BTreeMap<&String, &Json> = members.iter().collect();
            for (key, value) in sorted {
                let key = text(key);
                out.push_str(&pad);
                if key.len() > MAX_KEY {
                    out.push_str(&format!("? {key}{newline}{pad}"));
                } else {
                    out.push_str(&key);
                }
                out.push(':');
                // Lists stand at the column of their key, as everybody writes them.
                let deeper = if value.is_array() { indent } else { indent + 1 };
                rest(value, deeper, newline, out);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&pad);
                out.push('-');
                rest(item, indent + 1, newline, out);
            }
        }
        scalar => {
            out.push_str(&pad);
            out.push_str(&inline(scalar));
            out.push_str(newline);
        }
    }
}

/// What comes after `key:` or `-`.
fn rest(value: &Json, indent: usize, newline: &str, out: &mut String) {
    let is_block = matches!(value, Json::Object(members) if !members.is_empty())
        || matches!(value, Json::Array(items) if !items.is_empty());
    if is_block {
        out.push_str(newline);
        block(value, indent, newline, out);
    } else {
        out.push(' ');
        out.push_str(&inline(value));
        out.push_str(newline);
    }
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(value) => text(value),
        Json::Object(_) => "{}".to_owned(),
        Json::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// Text as it is where nothing could be read into it, else in quotes.
fn text(value: &str) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    if value.chars().all(|letter| matches!(letter, ' '..='~') && letter != '\'') {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{a0}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{fff0}'..='\u{ffff}'
            | '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn is_plain(value: &str) -> bool {
    const WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let mut letters = value.chars();
    let starts = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_'));
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "/_.-+=@:$ ,".contains(letter);
    let number_like = value.starts_with(|letter: char| letter.is_ascii_digit())
        && value.chars().all(|letter| letter.is_ascii_hexdigit() || "xXoO_.:+-TtZz ".contains(letter));
    starts
        && letters.all(inner)
        && !number_like
        && !value.contains(": ")
        && !value.ends_with([':', ' '])
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::read;

    #[test]
    fn block_style() {
        insta::assert_snapshot!(write(&json!({"web": {"ports": ["8080:80/tcp", "80"], "tty": true, "deep": {"a": [{"b": 1}], "e": {}}}}), "\n"), @"
        web:
          deep:
            a:
            -
              b: 1
            e: {}
          ports:
          - 8080:80/tcp
          - '80'
          tty: true
        ");
    }

    #[test]
    fn long_keys_come_back() {
        let value = json!({"a".repeat(3_000): {"b c: ".repeat(400): [1], "d": "x"}});
        let yaml = write(&value, "\r\n");
        assert_eq!(read(&yaml, 0).unwrap_or_else(|error| panic!("{yaml}: {error:?}")).json(), value);
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back(text: String, key in "\\PC{1,8}") {
            let value = json!({key: [text, {"x": text}]});
            let yaml = write(&value, "\n");
            let found = read(&yaml, 0).unwrap_or_else(|error| panic!("{yaml}: {error:?}")).json();
            proptest::prop_assert_eq!(found, value, "{}", yaml);
        }
    }
}
