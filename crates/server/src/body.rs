//! The body of a request as an object (`api-conventions.md` §2). Three forms are taken: JSON, a URL-encoded form and
//! multipart form fields. The content type is a hint only; what the body begins with decides.

use remuda_schema::{ApiError, Code};
use serde_json::{Map, Value};

use crate::request::Query;

/// Largest body, bytes. Beyond it: 413.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// Largest multipart body, bytes.
pub const MAX_MULTIPART: usize = 100 * 1024;

/// A parsed body and whether it was a form, whose `_method` counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub fields: Map<String, Value>,
    pub is_form: bool,
}

/// Reads a body. Anything that is JSON but no object is an empty object; an empty body is one too.
pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Body, ApiError> {
    if bytes.len() > MAX_BODY {
        return Err(too_large(MAX_BODY));
    }
    let content_type = content_type.unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "multipart/form-data" {
        if bytes.len() > MAX_MULTIPART {
            return Err(too_large(MAX_MULTIPART));
        }
        let boundary = boundary(content_type).ok_or_else(|| malformed("the multipart boundary is missing"))?;
        let fields = multipart(bytes, &boundary).ok_or_else(|| malformed("the multipart body is malformed"))?;
        return Ok(Body { fields: gather(fields), is_form: true });
    }
    let Some(begin) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else { return Ok(Body::default()) };
    let looks_like_json = match bytes[begin] {
        b'{' | b'[' | b'"' => true,
        _ => kind != "application/x-www-form-urlencoded" && serde_json::from_slice::<Value>(bytes).is_ok(),
    };
    if looks_like_json {
        let value: Value = serde_json::from_slice(bytes).map_err(|cause| malformed(cause.to_string()))?;
        if holds_nul(&value) {
            return Err(malformed("text may not contain the character U+0000"));
        }
        let fields = match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        return Ok(Body { fields, is_form: false });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8"))?.trim();
    if kind == "application/x-www-form-urlencoded" || looks_like_form(text) {
        return Ok(Body { fields: gather(Query::parse(text).0), is_form: true });
    }
    Err(malformed("the body is neither a JSON object nor a form"))
}

/// Query parameters under the body: what the body says wins (`_…` parameters are options, never fields).
pub fn merge(query: &Query, body: Map<String, Value>) -> Map<String, Value> {
    let mut merged = gather(query.0.iter().filter(|(name, _)| !name.starts_with('_')).cloned().collect());
    merged.extend(body);
    merged
}

fn malformed(why: impl Into<String>) -> ApiError {
    ApiError::new(Code::InvalidBodyContent).because(why)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(Code::RequestTooLarge).detailed(format!("the body has more than {limit} bytes"))
}

fn looks_like_form(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'%' | b'+' | b'[' | b']'))
    })
}

/// Repeated names become lists.
fn gather(pairs: Vec<(String, String)>) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(earlier) => {
                let first = earlier.take();
                *earlier = Value::Array(vec![first, value]);
            }
        }
    }
    fields
}

/// PostgreSQL cannot hold U+0000 in text; refusing it at the door keeps both stores alike.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

fn boundary(content_type: &str) -> Option<String> {
    content_type
        .split(';')
        .filter_map(|part| part.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .filter(|value| !value.is_empty())
}

/// Name and text of every part that is a plain field; files are not fields of anything and are passed over.
fn multipart(bytes: &[u8], boundary: &str) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut parts = text.split(delimiter.as_str());
    parts.next()?;
    for part in parts {
        if part.starts_with("--") {
            return Some(fields);
        }
        let part = part.strip_prefix("\r\n").or_else(|| part.strip_prefix('\n'))?;
        let (head, value) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        let value = value.strip_suffix("\r\n").or_else(|| value.strip_suffix('\n')).unwrap_or(value);
        let disposition = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))?
            .1;
        let attribute = |wanted: &str| {
            disposition
                .split(';')
                .filter_map(|part| part.trim().split_once('='))
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim_matches('"').to_owned())
        };
        if attribute("filename").is_none() {
            fields.push((attribute("name")?, value.replace('\0', "\u{FFFD}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(content_type: Option<&str>, body: &[u8], expected: Result<Value, Code>) {
        let found = parse(content_type, body).map(|body| Value::Object(body.fields)).map_err(|error| error.code);
        assert_eq!(found, expected, "{content_type:?} {:?}", String::from_utf8_lossy(body));
    }

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    const JSON: Option<&str> = Some("application/json");

    #[test]
    fn the_three_forms_are_taken() {
        check(None, b"", Ok(json!({})));
        check(JSON, b" \n ", Ok(json!({})));
        check(JSON, br#"{"a":1,"a":[2]}"#, Ok(json!({"a": [2]})));
        check(FORM, br#"{"a":"curl -d"}"#, Ok(json!({"a": "curl -d"})));
        check(JSON, b"[{\"a\":1}]", Ok(json!({})));
        for scalar in ["1", "true", "null", "\"text\"", "-1.5e3"] {
            check(JSON, scalar.as_bytes(), Ok(json!({})));
        }
        check(FORM, b"a=1&b=x+y&a=%32", Ok(json!({"a": ["1", "2"], "b": "x y"})));
        check(None, b"a=1", Ok(json!({"a": "1"})));
        check(
            Some("multipart/form-data; boundary=\"x\""),
            b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"g\"\r\n\r\nfile\r\n--x--\r\n",
            Ok(json!({"a": "1"})),
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let bad = Err(Code::InvalidBodyContent);
        check(JSON, b"{", bad.clone());
        check(JSON, b"hello", bad.clone());
        check(JSON, b"<xml a=1/>", bad.clone());
        check(JSON, b"{\"a\":\"\xff\"}", bad.clone());
        check(JSON, b"{\"a\":\"\\u0000\"}", bad.clone());
        check(JSON, &[b"[".repeat(200), b"]".repeat(200)].concat(), bad.clone());
        check(JSON, &[b"{\"a\":".repeat(200), b"1".to_vec(), b"}".repeat(200)].concat(), bad.clone());
        check(Some("multipart/form-data"), b"--x--", bad.clone());
        check(Some("multipart/form-data; boundary=x"), b"nothing", bad);
        check(Some("multipart/form-data; boundary=x"), &vec![b'a'; MAX_MULTIPART + 1], Err(Code::RequestTooLarge));
        check(JSON, &vec![b' '; MAX_BODY + 1], Err(Code::RequestTooLarge));
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let body = json!({"a": 1}).as_object().cloned().expect("an object");
        assert_eq!(Value::Object(merge(&Query::parse("a=2&b=3&_format=json"), body)), json!({"a": 1, "b": "3"}));
    }
}
