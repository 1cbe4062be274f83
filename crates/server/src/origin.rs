//! What a web page may make a browser do to us: nothing (DESIGN §8).
//!
//! A page of another site can make its visitor's browser send requests to a server on the visitor's own machine or
//! network. Browsers label such requests with `Origin` or `Sec-Fetch-Site`; programs send neither. With access control
//! off the `Host` must name this machine too, which defeats pages whose name was made to resolve to 127.0.0.1.

use std::net::IpAddr;

use axum::http::HeaderMap;
use remuda_schema::{ApiError, Code};

/// Whether the request comes from a browser, as far as its headers tell.
pub fn is_browser(headers: &HeaderMap) -> bool {
    is_mozilla(headers) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

/// The original's test for a browser: the user agent says Mozilla, as all of them do.
pub fn is_mozilla(headers: &HeaderMap) -> bool {
    text(headers, "user-agent").is_some_and(|agent| agent.to_ascii_lowercase().contains("mozilla"))
}

/// Whether the request asks for another protocol on its connection.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    text(headers, "connection").is_some_and(|value| value.to_ascii_lowercase().contains("upgrade"))
        && headers.contains_key("upgrade")
}

/// Refuses a state-changing request or an upgrade that a page of another origin caused. `origin` is ours.
pub fn check_origin(headers: &HeaderMap, origin: &str) -> Result<(), ApiError> {
    if text(headers, "sec-fetch-site").is_some_and(|site| site.eq_ignore_ascii_case("cross-site")) {
        return Err(ApiError::new(Code::Forbidden).detailed("a page of another site caused this request"));
    }
    match headers.get("origin") {
        None => Ok(()),
        Some(theirs) if theirs.as_bytes().eq_ignore_ascii_case(origin.as_bytes()) => Ok(()),
        Some(_) => {
            Err(ApiError::new(Code::Forbidden).detailed(format!("the Origin of this request is not `{origin}`")))
        }
    }
}

/// With access control off: the name we were called by must be this machine's own.
pub fn check_loopback_host(host: Option<&str>) -> Result<(), ApiError> {
    match host {
        None => Ok(()),
        Some(host) if is_loopback(host) => Ok(()),
        Some(host) => Err(ApiError::new(Code::Forbidden).detailed(format!(
            "access control is off (`--dev`), so this server answers only to localhost, not to `{host}`"
        ))),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let cases: [(&[(&'static str, &'static str)], bool); 8] = [
            (&[], true),
            (&[("origin", "http://localhost:8080")], true),
            (&[("origin", "HTTP://LOCALHOST:8080")], true),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://localhost:8081")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")], true),
        ];
        for (sent, allowed) in cases {
            let headers: HeaderMap = sent
                .iter()
                .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(check_origin(&headers, "http://localhost:8080").is_ok(), allowed, "{sent:?}");
        }
    }

    #[test]
    fn only_this_machines_names_are_loopback() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:80", "127.8.9.1", "[::1]:8080", "[::1]"] {
            assert!(check_loopback_host(Some(host)).is_ok(), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "[fe80::1]:80", "", "0.0.0.0"] {
            assert!(check_loopback_host(Some(host)).is_err(), "{host}");
        }
        assert!(check_loopback_host(None).is_ok());
    }
}
