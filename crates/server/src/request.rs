//! A request as the API understands it: which path names what, which query parameters were sent, which method is
//! meant (`api-conventions.md` §1, §2). Pure: text in, values out, nothing looked up and nothing refused here that
//! the processing order wants refused later.

use axum::http::{HeaderMap, Method};

use crate::origin;

/// What a method means to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
    Delete,
    /// HEAD, OPTIONS, PATCH and whatever else: always 405.
    Other,
}

impl Verb {
    fn named(name: &str) -> Verb {
        match name.to_ascii_uppercase().as_str() {
            "GET" => Verb::Get,
            "POST" => Verb::Post,
            "PUT" => Verb::Put,
            "DELETE" => Verb::Delete,
            _ => Verb::Other,
        }
    }

    /// Whether a request with it may change anything.
    pub fn is_write(self) -> bool {
        !matches!(self, Verb::Get)
    }

    /// Spelling in schema documents and logs.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
            Verb::Other => "OTHER",
        }
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `/`: the index page or the list of versions.
    Root,
    /// `/v1/scripts/NAME`, unauthenticated text.
    Script { name: String },
    /// `/v1` and everything below it.
    Api(Path),
    /// Begins like a version of the API, but there is none of that name.
    UnsupportedVersion { version: String },
    /// Not the API's.
    Page,
}

/// A path below `/v1`, project prefix taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Public id from `/v1/projects/{pid}/…`, as written.
    pub project: Option<String>,
    /// Type segment as written; none for `/v1` itself.
    pub type_name: Option<String>,
    pub id: Option<String>,
    pub link: Option<String>,
    /// Segments beyond the link: nothing has that many.
    pub beyond: bool,
}

/// Finds out what a path (still percent-encoded, without query) leads to.
pub fn target(path: &str) -> Target {
    let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect();
    let Some(version) = segments.first() else { return Target::Root };
    if version != "v1" {
        return if version.starts_with("v1") {
            Target::UnsupportedVersion { version: version.clone() }
        } else {
            Target::Page
        };
    }
    let mut rest = &segments[1..];
    let mut project = None;
    // Four segments `v1/projects/{pid}/{x}` make the scoped form, once: what follows may name a project again.
    if let [projects, pid, x, ..] = rest
        && projects.eq_ignore_ascii_case("projects")
        && !x.eq_ignore_ascii_case("projectmembers")
    {
        project = Some(pid.clone());
        rest = &rest[2..];
    }
    if let [scripts, name] = rest
        && scripts.eq_ignore_ascii_case("scripts")
    {
        return Target::Script { name: name.clone() };
    }
    let segment = |idx: usize| rest.get(idx).cloned();
    Target::Api(Path { project, type_name: segment(0), id: segment(1), link: segment(2), beyond: rest.len() > 3 })
}

/// Decodes `%xx`. What is not UTF-8 becomes replacement characters, and so does U+0000, which PostgreSQL cannot hold.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut idx = 0;
    while idx < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[idx], hex(idx + 1), hex(idx + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                idx += 3;
            }
            (byte, ..) => {
                out.push(byte);
                idx += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).replace('\0', "\u{FFFD}")
}

/// Encodes what may not stand in a query value or a path segment.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'!' | b':' | b'*' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Query or form parameters in the order sent, repeated ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`. Never fails: a part without `=` is a name with an empty value.
    pub fn parse(text: &str) -> Query {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        Query(
            text.split('&')
                .filter(|part| !part.is_empty())
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// First value of that exact name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of that exact name.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there and says `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The same query without the named parameters.
    pub fn without(&self, names: &[&str]) -> Query {
        Query(self.0.iter().filter(|(key, _)| !names.contains(&key.as_str())).cloned().collect())
    }

    /// The same query with one more parameter.
    pub fn with(mut self, name: &str, value: &str) -> Query {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As it goes into a URL, with `?` when there is anything.
    pub fn suffix(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let parts: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect();
        format!("?{}", parts.join("&"))
    }
}

/// The verb that is meant: `_method` in the query or the form overrides the HTTP method, except that a browser's GET
/// never becomes a write (DESIGN §8: a link or an image on some page must not be able to change anything).
pub fn verb(method: &Method, overridden: Option<&str>, headers: &HeaderMap) -> Verb {
    let sent = Verb::named(method.as_str());
    match overridden.map(Verb::named) {
        Some(meant) if meant.is_write() && !sent.is_write() && origin::is_browser(headers) => sent,
        Some(meant) => meant,
        None => sent,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn api(project: Option<&str>, segments: &[&str]) -> Target {
        let at = |idx: usize| segments.get(idx).map(|text| (*text).to_owned());
        Target::Api(Path {
            project: project.map(str::to_owned),
            type_name: at(0),
            id: at(1),
            link: at(2),
            beyond: segments.len() > 3,
        })
    }

    #[test]
    fn paths_lead_where_the_specification_says() {
        let cases = [
            ("/", Target::Root),
            ("", Target::Root),
            ("//", Target::Root),
            ("/v1", api(None, &[])),
            ("/v1/", api(None, &[])),
            ("//v1//containers//1i5/", api(None, &["containers", "1i5"])),
            ("/v1/CONTAINERS/1i5/instanceLinks", api(None, &["CONTAINERS", "1i5", "instanceLinks"])),
            ("/v1/projects/1a5", api(None, &["projects", "1a5"])),
            ("/v1/projects/1a5/", api(None, &["projects", "1a5"])),
            ("/v1/projects/1a5/projectMembers", api(None, &["projects", "1a5", "projectMembers"])),
            ("/v1/Projects/1a5/containers", api(Some("1a5"), &["containers"])),
            ("/v1/projects/1a5/containers/1i7/logs", api(Some("1a5"), &["containers", "1i7", "logs"])),
            ("/v1/projects/1a5/projects/1a5/hoststats", api(Some("1a5"), &["projects", "1a5", "hoststats"])),
            ("/v1/projects/1a5/schemas/schemas", api(Some("1a5"), &["schemas", "schemas"])),
            ("/v1/a/b/c/d", api(None, &["a", "b", "c", "d"])),
            ("/v1/settings/api%2Ehost", api(None, &["settings", "api.host"])),
            ("/v1/x%FFy", api(None, &["x\u{FFFD}y"])),
            ("/v1/x%00", api(None, &["x\u{FFFD}"])),
            ("/v1/100%", api(None, &["100%"])),
            ("/v1/scripts/A:1:b", Target::Script { name: "A:1:b".into() }),
            ("/v1/projects/1a5/scripts/transform", Target::Script { name: "transform".into() }),
            ("/v10/x", Target::UnsupportedVersion { version: "v10".into() }),
            ("/v1x", Target::UnsupportedVersion { version: "v1x".into() }),
            ("/v2-beta", Target::Page),
            ("/env/1a5/apps", Target::Page),
        ];
        for (path, expected) in cases {
            assert_eq!(target(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_keep_order_repetition_and_oddities() {
        let query = Query::parse("state_ne=a&state_ne=b+c&removed_null=%3Cnil%3E&flag&=x&&%zz=%4");
        let states: Vec<&str> = query.all("state_ne").collect();
        assert_eq!(states, ["a", "b c"]);
        assert_eq!(query.get("removed_null"), Some("<nil>"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("%zz"), Some("%4"));
        assert_eq!(
            query.without(&["state_ne", "flag", "", "%zz"]).with("sort", "name").suffix(),
            "?removed_null=%3Cnil%3E&sort=name"
        );
        assert_eq!(Query::default().suffix(), "");
    }

    #[test]
    fn method_overrides_hold_except_for_a_browsers_get() {
        let mut browser = HeaderMap::new();
        browser.insert("user-agent", HeaderValue::from_static("Mozilla/5.0"));
        let curl = HeaderMap::new();
        let cases = [
            (Method::GET, None, &curl, Verb::Get),
            (Method::GET, Some("delete"), &curl, Verb::Delete),
            (Method::GET, Some("DELETE"), &browser, Verb::Get),
            (Method::GET, Some("TRACE"), &browser, Verb::Get),
            (Method::POST, Some("PUT"), &browser, Verb::Put),
            (Method::POST, Some("GET"), &curl, Verb::Get),
            (Method::PATCH, None, &curl, Verb::Other),
            (Method::HEAD, None, &curl, Verb::Other),
        ];
        for (method, overridden, headers, expected) in cases {
            assert_eq!(verb(&method, overridden, headers), expected, "{method} {overridden:?}");
        }
    }
}
