//! An answer on its way out: status, body, the headers every API answer carries (`api-conventions.md` §12.1).

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use remuda_schema::ApiError;
use remuda_schema::output::Document;
use serde_json::Value;

use crate::origin;

/// What a 401 asks the client for.
const CHALLENGE: &str = "Basic realm=\"Enter API access key and secret key as username and password\"";
/// Answers shorter than this are not worth compressing.
const COMPRESS_FROM: usize = 256;

/// Type of pages; they get a content security policy.
pub const HTML: &str = "text/html; charset=utf-8";

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Json(Value),
    /// JSON whose members keep their order.
    Document(Document),
    /// An action or a creation that found nothing: the status alone.
    Empty,
    Text {
        content_type: &'static str,
        text: String,
    },
    Bytes {
        content_type: &'static str,
        bytes: Vec<u8>,
        file_name: Option<&'static str>,
    },
}

/// An answer of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub content: Content,
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Reply {
        Reply { status, content: Content::Json(body) }
    }

    pub fn ok(body: Value) -> Reply {
        Reply::json(200, body)
    }

    pub fn document(status: u16, document: Document) -> Reply {
        Reply { status, content: Content::Document(document) }
    }

    pub fn html(page: String) -> Reply {
        Reply { status: 200, content: Content::Text { content_type: HTML, text: page } }
    }

    pub fn text(text: impl Into<String>) -> Reply {
        Reply { status: 200, content: Content::Text { content_type: "text/plain; charset=utf-8", text: text.into() } }
    }

    /// The error as clients see it; `id` is in the log too.
    pub fn error(error: &ApiError, id: &str) -> Reply {
        Reply::json(error.status, error.body(id))
    }
}

/// What the headers of an API answer tell besides the body.
#[derive(Clone, Debug, Default)]
pub struct ApiHeaders {
    /// URL of the schemas collection.
    pub schemas: String,
    /// Public id of the effective account, once known.
    pub account_id: Option<String>,
    pub client_ip: String,
    /// `Set-Cookie` values.
    pub cookies: Vec<String>,
    pub request_id: String,
}

/// Writes an API answer. `page` turns JSON into the API browser's page for those who asked for one.
pub fn api_response(
    reply: Reply,
    request: &HeaderMap,
    told: &ApiHeaders,
    page: Option<&dyn Fn(&Value) -> String>,
) -> Response<Body> {
    let is_json = matches!(reply.content, Content::Json(_) | Content::Document(_));
    let mut response = write(reply, request, page);
    let headers = response.headers_mut();
    set(headers, HeaderName::from_static("x-api-schemas"), &told.schemas);
    if let Some(account_id) = &told.account_id {
        set(headers, HeaderName::from_static("x-api-account-id"), account_id);
    }
    set(headers, HeaderName::from_static("x-api-client-ip"), &told.client_ip);
    set(headers, HeaderName::from_static("x-request-id"), &told.request_id);
    if is_json {
        // Answers depend on who asks and change all the time.
        set(headers, header::CACHE_CONTROL, "private, max-age=0, no-cache, no-store");
        headers.append(header::VARY, HeaderValue::from_static("Accept, Authorization, Cookie"));
    }
    for cookie in &told.cookies {
        if let Ok(value) = HeaderValue::from_str(cookie) {
            headers.append(header::SET_COOKIE, value);
        }
    }
    let no_challenge =
        request.get("x-api-no-challenge").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if response.status() == StatusCode::UNAUTHORIZED && !no_challenge && !origin::is_upgrade(request) {
        set(response.headers_mut(), header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// Writes an answer without the API's headers, for pages and probes.
pub fn write(reply: Reply, request: &HeaderMap, page: Option<&dyn Fn(&Value) -> String>) -> Response<Body> {
    let mut file_name = None;
    let (content_type, bytes) = match reply.content {
        Content::Json(body) => match page {
            Some(page) => (HTML, page(&body).into_bytes()),
            None => ("application/json; charset=utf-8", serde_json::to_vec(&body).unwrap_or_default()),
        },
        Content::Document(body) => match page {
            Some(page) => (HTML, page(&body.to_value()).into_bytes()),
            None => ("application/json; charset=utf-8", serde_json::to_vec(&body).unwrap_or_default()),
        },
        Content::Empty => ("application/json; charset=utf-8", Vec::new()),
        Content::Text { content_type, text } => (content_type, text.into_bytes()),
        Content::Bytes { content_type, bytes, file_name: name } => {
            file_name = name;
            (content_type, bytes)
        }
    };
    let compressible = content_type.starts_with("text/") || content_type.starts_with("application/json");
    let compressed = (compressible && bytes.len() >= COMPRESS_FROM && accepts_gzip(request)).then(|| gzip(&bytes));
    let is_compressed = compressed.is_some();
    let bytes = compressed.unwrap_or(bytes);
    let length = bytes.len();
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    set(headers, header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if content_type == HTML {
        set(headers, header::CONTENT_SECURITY_POLICY, &crate::html::content_security_policy());
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    if compressible {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(name) = file_name {
        set(headers, header::CONTENT_DISPOSITION, &format!("attachment; filename={name}"));
    }
    response
}

/// Header values come from requests and rows in part; what cannot stand in a header is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    request
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip && !parts.any(|part| part.replace(' ', "").trim_end_matches(['0', '.']) == "q=")
        })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing into memory does not fail.
    drop(encoder.write_all(bytes));
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use remuda_schema::Code;
    use serde_json::json;

    use super::*;

    fn request(sent: &[(&'static str, &'static str)]) -> HeaderMap {
        sent.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn gzip_only_when_asked_for() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;q=1.0", true),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&request(&[("accept-encoding", accept)])), expected, "{accept}");
        }
    }

    #[test]
    fn unauthorized_challenges_unless_told_not_to() {
        let refused = || Reply::error(&ApiError::new(Code::Unauthorized), "id");
        let challenged = |sent: &[(&'static str, &'static str)]| {
            api_response(refused(), &request(sent), &ApiHeaders::default(), None)
                .headers()
                .contains_key("www-authenticate")
        };
        assert!(challenged(&[]));
        assert!(!challenged(&[("x-api-no-challenge", "true")]));
        assert!(!challenged(&[("connection", "Upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn every_answer_has_its_length_and_headers() {
        let told = ApiHeaders {
            schemas: "http://h/v1/schemas".into(),
            account_id: Some("1a1".into()),
            client_ip: "::1".into(),
            cookies: vec!["PL=rancher".into(), "bad\ncookie".into()],
            request_id: "r".into(),
        };
        let response = api_response(Reply::ok(json!({"a": 1})), &request(&[]), &told, None);
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("content-length"), Some("7"));
        assert_eq!(header("x-api-schemas"), Some("http://h/v1/schemas"));
        assert_eq!(header("x-api-account-id"), Some("1a1"));
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 1);
        let page = |_: &Value| "<html>".to_owned();
        let response = api_response(Reply::ok(json!({})), &request(&[]), &told, Some(&page));
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    }
}
