//! Values as text, JSON and YAML (`metadata-service.md` §5). YAML is written as JSON, which every reader of YAML reads.

use serde_json::{Value, json};

use super::request::{Form, Refused};

pub fn content_type(form: Form) -> &'static str {
    match form {
        Form::Text => "text/plain; charset=utf-8",
        Form::Json => "application/json",
        Form::Yaml => "text/yaml; charset=utf-8",
    }
}

/// The answer's body.
pub fn body(value: &Value, form: Form) -> String {
    match form {
        Form::Text => text(value),
        Form::Json | Form::Yaml => json_text(value),
    }
}

/// The body of a refusal.
pub fn refusal(refused: &Refused, status: u16, form: Form) -> String {
    match form {
        Form::Text => format!("{refused}\n"),
        Form::Json | Form::Yaml => {
            json_text(&json!({"type": "error", "code": status, "message": refused.to_string()})) + "\n"
        }
    }
}

/// What a waiting client compares with: the text of a scalar, some form of its own for all else.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => value.to_string(),
        scalar => text(scalar),
    }
}

fn json_text(value: &Value) -> String {
    // These three stand nowhere in JSON but inside of strings.
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            match number.as_i64().map(|n| n.to_string()).or(number.as_u64().map(|n| n.to_string())) {
                Some(whole) => whole,
                // Written without exponent, as short as it can be.
                None => format!("{}", number.as_f64().unwrap_or_default()),
            }
        }
        Value::Object(members) => {
            let line = |(key, value): (&String, &Value)| {
                let slash = if value.is_object() || value.is_array() { "/" } else { "" };
                format!("{}{slash}\n", escape(key))
            };
            members.iter().map(line).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(idx, item)| item_line(idx, item)).collect(),
    }
}

fn item_line(idx: usize, item: &Value) -> String {
    let named = |key: &str| item.get(key).and_then(Value::as_str);
    match named("name").or_else(|| named("uuid")) {
        Some(name) => format!("{idx}={}\n", escape(name)),
        None if item.is_object() || item.is_array() => format!("{idx}/\n"),
        None => format!("{idx}\n"),
    }
}

/// As in the query of a URL.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_text() {
        let cases = [
            (json!("a b\n"), "a b\n"),
            (json!(7), "7"),
            (json!(-7), "-7"),
            (json!(1.50), "1.5"),
            (json!(2.0), "2"),
            (json!(1e21), "1000000000000000000000"),
            (json!(true), "true"),
            (json!(null), ""),
            (json!({}), ""),
            (json!([]), ""),
            (json!({"b": 1, "a b:c/d": {}, "B": [], "n": null}), "B/\na+b%3Ac%2Fd/\nb\nn\n"),
            (json!(["x", {"name": "a b"}, {"uuid": "u"}, {"x": 1}, [1]]), "0\n1=a+b\n2=u\n3/\n4/\n"),
        ];
        for (value, expected) in cases {
            assert_eq!(body(&value, Form::Text), expected, "{value}");
        }
    }

    #[test]
    fn json_is_sorted_and_harmless_in_html() {
        let value = json!({"b": "<a>&", "a": 1.5});
        assert_eq!(body(&value, Form::Json), r#"{"a":1.5,"b":"\u003ca\u003e\u0026"}"#);
        assert_eq!(
            (body(&json!("web"), Form::Json), body(&json!(null), Form::Yaml)),
            ("\"web\"".into(), "null".into())
        );
        assert_eq!(refusal(&Refused::NotFound, 404, Form::Text), "Not found\n");
        let expected = "{\"code\":404,\"message\":\"Invalid version\",\"type\":\"error\"}\n";
        assert_eq!(refusal(&Refused::InvalidVersion, 404, Form::Json), expected);
    }
}
