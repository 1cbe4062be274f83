//! Which URL clients reach us by, and every URL made from it (`api-conventions.md` §1.1, §1.2).

use axum::http::HeaderMap;

use crate::request::Query;

/// How a request arrived, as far as URLs care.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'r> {
    pub headers: &'r HeaderMap,
    /// `host[:port]` of the request line or the `Host` header.
    pub host: Option<&'r str>,
    /// Path of the request, as sent.
    pub path: &'r str,
    /// Where we listen: the host when the client named none.
    pub local: &'r str,
    /// The connection says so itself: TLS here, or a PROXY header naming an https port.
    pub secure: bool,
    /// Setting `api.allow.client.override`.
    pub allow_override: bool,
}

/// `scheme://host[:port]` of the server, as this client must call it; lower-case, without a slash at the end.
pub fn origin(arrival: &Arrival<'_>) -> String {
    let header = |name: &str| first(arrival.headers, name);
    if arrival.allow_override
        && let Some(url) = header("x-api-request-url")
        && let Some(base) = before_path(url, arrival.path)
    {
        return base.to_ascii_lowercase();
    }
    let host = arrival.host.filter(|host| is_host(host)).unwrap_or(arrival.local);
    if let Some(proto) = header("x-forwarded-proto").filter(|proto| is_scheme(proto)) {
        let host = header("x-forwarded-host").filter(|host| is_host(host)).unwrap_or(host);
        let forwarded = header("x-forwarded-port").and_then(|port| port.parse::<u16>().ok());
        return spelled(proto, host, forwarded).to_ascii_lowercase();
    }
    spelled(if arrival.secure { "https" } else { "http" }, host, None).to_ascii_lowercase()
}

/// First element of a header that proxies append to.
pub fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?;
    let value = value.split(',').next().unwrap_or_default().trim();
    (!value.is_empty()).then_some(value)
}

/// The client's address: the socket's, else what proxies say, and what the client says where that is allowed.
pub fn client_ip(headers: &HeaderMap, peer: Option<std::net::IpAddr>, allow_override: bool) -> String {
    if allow_override && let Some(said) = first(headers, "x-api-client-ip") {
        return said.to_owned();
    }
    match peer {
        Some(peer) => peer.to_canonical().to_string(),
        None => first(headers, "x-forwarded-for").unwrap_or_default().to_owned(),
    }
}

fn spelled(scheme: &str, host: &str, port: Option<u16>) -> String {
    let (name, own_port) = split_port(host);
    match port.or(own_port) {
        None | Some(80 | 443) => format!("{scheme}://{name}"),
        Some(port) => format!("{scheme}://{name}:{port}"),
    }
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && (!name.contains(':') || name.ends_with(']')) => {
            (name, port.parse().ok())
        }
        _ => (host, None),
    }
}

/// The part of `url` before the path of the request; its scheme and host when it shows another path.
fn before_path<'u>(url: &'u str, path: &str) -> Option<&'u str> {
    let url = url.split(['?', '#']).next()?;
    let (scheme, rest) = url.split_once("://")?;
    if !is_scheme(scheme) {
        return None;
    }
    let url = url.trim_end_matches('/');
    let path = path.trim_end_matches('/');
    match url.strip_suffix(path) {
        Some(base) if !path.is_empty() && is_host(rest.split('/').next()?) => Some(base),
        _ => {
            let host = rest.split('/').next().filter(|host| is_host(host))?;
            Some(&url[..scheme.len() + 3 + host.len()])
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.eq_ignore_ascii_case("http") || text.eq_ignore_ascii_case("https")
}

/// Only what can stand in a URL's host, so that no header puts markup or line ends into answers.
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

/// Makes URLs for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// `http://host:8080`.
    pub origin: String,
    /// `/v1` or `/v1/projects/1a5`.
    pub prefix: String,
}

impl Urls {
    /// URLs of an unscoped request, or of one below `/v1/projects/{pid}`.
    pub fn new(origin: String, project: Option<&str>) -> Urls {
        let prefix = match project {
            Some(pid) => format!("/v1/projects/{}", crate::request::percent_encode(&pid.to_lowercase())),
            None => "/v1".to_owned(),
        };
        Urls { origin, prefix }
    }

    /// The same server seen from inside a project.
    pub fn inside(&self, project: &str) -> Urls {
        Urls::new(self.origin.clone(), Some(project))
    }

    /// The API's own root, `http://host/v1[/projects/1a5]`.
    pub fn version(&self) -> String {
        format!("{}{}", self.origin, self.prefix)
    }

    pub fn collection(&self, plural: &str) -> String {
        format!("{}{}/{}", self.origin, self.prefix, plural.to_lowercase())
    }

    pub fn resource(&self, plural: &str, id: &str) -> String {
        format!("{}{}/{}/{}", self.origin, self.prefix, plural.to_lowercase(), segment(id))
    }

    pub fn link(&self, plural: &str, id: &str, link: &str) -> String {
        format!("{}/{}", self.resource(plural, id), link.to_lowercase())
    }

    pub fn action(&self, plural: &str, id: &str, action: &str) -> String {
        format!("{}/?action={}", self.resource(plural, id), action.to_lowercase())
    }

    /// For clients that look for the schemas first.
    pub fn schemas(&self) -> String {
        self.collection("schemas")
    }

    /// `ws://…` of the same server.
    pub fn socket(&self, path: &str) -> String {
        let origin = match self.origin.strip_prefix("https://") {
            Some(host) => format!("wss://{host}"),
            None => format!("ws://{}", self.origin.strip_prefix("http://").unwrap_or(&self.origin)),
        };
        format!("{origin}{path}")
    }
}

impl remuda_schema::document::Urls for Urls {
    fn collection(&self, plural: &str) -> String {
        Urls::collection(self, plural)
    }

    fn resource(&self, plural: &str, id: &str) -> String {
        Urls::resource(self, plural, id)
    }
}

/// An id as a path segment: lower-case like every URL we make.
fn segment(id: &str) -> String {
    crate::request::percent_encode(&id.to_lowercase())
}

/// A collection's own URL with another query.
pub fn with_query(url: &str, query: &Query) -> String {
    format!("{url}{}", query.suffix())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(sent: &[(&'static str, &'static str)], allow_override: bool, secure: bool, expected: &str) {
        let headers: HeaderMap =
            sent.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect();
        let host = headers.get("host").and_then(|host| host.to_str().ok());
        let arrival = Arrival {
            headers: &headers,
            host,
            path: "/v1/containers/",
            local: "127.0.0.1:8080",
            secure,
            allow_override,
        };
        assert_eq!(origin(&arrival), expected, "{sent:?}");
    }

    #[test]
    fn the_base_url_follows_proxies() {
        check(&[], false, false, "http://127.0.0.1:8080");
        check(&[("host", "Example.COM:80")], false, false, "http://example.com");
        check(&[("host", "h:8080")], false, true, "https://h:8080");
        check(&[("host", "[::1]:8080")], false, false, "http://[::1]:8080");
        check(&[("host", "h:8080"), ("x-forwarded-proto", "https")], false, false, "https://h:8080");
        check(
            &[("host", "h:8080"), ("x-forwarded-proto", "https,http"), ("x-forwarded-host", "p.io:99, q")],
            false,
            false,
            "https://p.io:99",
        );
        check(
            &[("host", "h:8080"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")],
            false,
            false,
            "https://h",
        );
        check(&[("host", "h:8080"), ("x-forwarded-port", "444")], false, false, "http://h:8080");
        check(&[("host", "h"), ("x-forwarded-proto", "javascript")], false, false, "http://h");
        check(&[("host", "<script>")], false, false, "http://127.0.0.1:8080");
        let url = ("x-api-request-url", "https://x.io/rancher/v1/containers?limit=1");
        check(&[("host", "h"), url], true, false, "https://x.io/rancher");
        check(&[("host", "h"), url], false, false, "http://h");
        check(&[("host", "h"), ("x-api-request-url", "https://x.io/other")], true, false, "https://x.io");
        check(&[("host", "h"), ("x-api-request-url", "nonsense")], true, false, "http://h");
    }

    #[test]
    fn urls_are_lower_case_and_keep_the_project() {
        let urls = Urls::new("https://h".into(), Some("1A5"));
        assert_eq!(urls.collection("loadBalancerServices"), "https://h/v1/projects/1a5/loadbalancerservices");
        assert_eq!(
            urls.link("containers", "1i5", "instanceLinks"),
            "https://h/v1/projects/1a5/containers/1i5/instancelinks"
        );
        assert_eq!(
            urls.action("services", "1s1", "addServiceLink"),
            "https://h/v1/projects/1a5/services/1s1/?action=addservicelink"
        );
        assert_eq!(urls.socket("/v1/exec/"), "wss://h/v1/exec/");
        assert_eq!(
            Urls::new("http://h".into(), None).resource("settings", "1as!api.host"),
            "http://h/v1/settings/1as!api.host"
        );
    }
}
