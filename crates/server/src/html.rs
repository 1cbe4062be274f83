//! The API browser: the same answer as a page, for people who follow a link into the API (`api-conventions.md` §12.3).
//!
//! The page is made here, whole: the JSON with its URLs as links, and a button per action. The original pulled scripts
//! from a third-party site; a page that shows secrets to administrators should not.

use std::fmt::Write;

use axum::http::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::origin;

/// Whether the caller is a person at a browser rather than a program: `_format` decides, else the headers.
pub fn wants_page(headers: &HeaderMap, format: Option<&str>) -> bool {
    match format {
        Some(format) if format.eq_ignore_ascii_case("html") => true,
        Some(format) if format.eq_ignore_ascii_case("json") => false,
        _ => {
            let accept = headers.get("accept").and_then(|accept| accept.to_str().ok());
            origin::is_mozilla(headers) && accept.is_none_or(|accept| accept.contains("*/*"))
        }
    }
}

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}\
pre{background:#f6f6f4;padding:1rem;overflow:auto}a{color:#0550ae}button{font:inherit;margin:0 .5rem .5rem 0}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#191919}pre{background:#242424}a{color:#79b8ff}}";

/// Actions are plain POSTs; the CSRF cookie is repeated in the header as the API asks of browsers.
const SCRIPT: &str = "document.addEventListener('click',async e=>{const b=e.target.closest('button[data-url]');if(!b)return;\
const m=b.dataset.method;if(m==='DELETE'&&!confirm('Delete this?'))return;\
const c=(document.cookie.match(/(?:^|; )CSRF=([^;]*)/)||[])[1]||'';\
const r=await fetch(b.dataset.url,{method:m,headers:{'Accept':'application/json','Content-Type':'application/json','X-API-CSRF':c},body:m==='POST'?'{}':undefined});\
document.getElementById('answer').textContent=r.status+' '+await r.text();});";

/// Only our own style and script, by its hash; nothing may frame the page.
pub fn content_security_policy() -> String {
    let hash = BASE64_STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
}

/// The page for an answer.
pub fn page(title: &str, schemas: &str, body: &Value) -> String {
    let mut out = String::with_capacity(8192);
    let title = escape(title);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n\
<p><a href=\"{}\">Schemas</a></p>\n<p>",
        escape(schemas)
    );
    if let Some(actions) = body.get("actions").and_then(Value::as_object) {
        for (name, url) in actions.iter().filter_map(|(name, url)| Some((name, url.as_str()?))) {
            button(&mut out, "POST", url, name);
        }
    }
    let is_resource = body.get("state").is_some();
    if let (true, Some(own)) = (is_resource, body.pointer("/links/self").and_then(Value::as_str)) {
        button(&mut out, "DELETE", own, "delete");
    }
    out.push_str("</p>\n<pre>");
    json(&mut out, body, 0);
    let _ = write!(out, "</pre>\n<pre id=\"answer\"></pre>\n<script>{SCRIPT}</script></body></html>\n");
    out
}

/// The page at `/` and at every address that is not the API's.
pub fn index(version: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Remuda</title><style>{STYLE}</style></head>\n\
<body><h1>Remuda</h1>\n<p>This server answers the API at <a href=\"/v1\">/v1</a> (version {}).</p>\n\
<p>On the command line: <code>remuda login</code>, then <code>remuda ps</code>.</p></body></html>\n",
        escape(version)
    )
}

fn button(out: &mut String, method: &str, url: &str, label: &str) {
    let _ = write!(out, "<button data-method=\"{method}\" data-url=\"{}\">{}</button>", escape(url), escape(label));
}

fn json(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth + 1);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push_str("{\n");
            for (idx, (name, value)) in fields.iter().enumerate() {
                let _ = write!(out, "{indent}&quot;{}&quot;: ", escape(name));
                json(out, value, depth + 1);
                out.push_str(if idx + 1 < fields.len() { ",\n" } else { "\n" });
            }
            let _ = write!(out, "{}}}", "  ".repeat(depth));
        }
        Value::Array(values) if !values.is_empty() => {
            out.push_str("[\n");
            for (idx, value) in values.iter().enumerate() {
                out.push_str(&indent);
                json(out, value, depth + 1);
                out.push_str(if idx + 1 < values.len() { ",\n" } else { "\n" });
            }
            let _ = write!(out, "{}]", "  ".repeat(depth));
        }
        Value::String(text) if text.starts_with("http://") || text.starts_with("https://") => {
            let text = escape(text);
            let _ = write!(out, "&quot;<a href=\"{text}\">{text}</a>&quot;");
        }
        other => out.push_str(&escape(&other.to_string())),
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for ch in text.chars() {
        match ch {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(ch),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_for_browsers_that_navigate() {
        let headers = |agent: &'static str, accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert("user-agent", HeaderValue::from_static(agent));
            if let Some(accept) = accept {
                headers.insert("accept", HeaderValue::from_static(accept));
            }
            headers
        };
        let cases = [
            ("Mozilla/5.0", Some("text/html,*/*;q=0.8"), None, true),
            ("Mozilla/5.0", None, None, true),
            ("Mozilla/5.0", Some("application/json"), None, false),
            ("Mozilla/5.0", Some("*/*"), Some("json"), false),
            ("curl/8", Some("*/*"), None, false),
            ("curl/8", Some("*/*"), Some("HTML"), true),
        ];
        for (agent, accept, format, expected) in cases {
            assert_eq!(wants_page(&headers(agent, accept), format), expected, "{agent} {accept:?} {format:?}");
        }
    }

    #[test]
    fn nothing_in_an_answer_becomes_markup() {
        let evil = "</pre><script>alert(1)</script>";
        let page = page(
            evil,
            "http://h/\"><script>",
            &json!({
                "actions": {evil: "http://h/\" onclick=\"x"}, evil: [evil, "http://h/<script>"], "state": "active",
                "links": {"self": "http://h/v1/x"},
            }),
        );
        assert_eq!(page.matches("<script>").count(), 1, "{page}");
        assert!(!page.contains("onclick=\"x"));
        assert!(page.contains("data-method=\"DELETE\""));
    }
}
