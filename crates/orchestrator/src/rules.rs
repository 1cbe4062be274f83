//! Texts with a grammar, as requests write them: ports, images, names (`resources.md` §§6.3, 6.4; `services.md` §4).
//! The errors are those clients match on.

use remuda_schema::{ApiError, Code};

/// `[ip:][public:]private[/protocol]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub bind_address: Option<String>,
    pub public: Option<u16>,
    pub private: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// Reads a port; `[fe80::1]:8080:80` and `ip::private` too.
pub fn port(text: &str) -> Result<Port, ApiError> {
    let wrong =
        || ApiError::new(Code::PortWrongFormat).because(format!("`{text}` is not `[ip:][public:]private[/protocol]`"));
    let (numbers, protocol) = match text.split_once('/') {
        None => (text, "tcp"),
        Some((numbers, protocol)) => (numbers, protocol),
    };
    let (bind, rest) = match numbers.strip_prefix('[') {
        Some(inside) => {
            let (address, rest) = inside.split_once("]:").ok_or_else(wrong)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(wrong());
            }
            (Some(address.to_owned()), rest)
        }
        None => match numbers.matches(':').count() {
            0 | 1 => (None, numbers),
            2 => {
                let (address, rest) = numbers.split_once(':').ok_or_else(wrong)?;
                if address.parse::<std::net::Ipv4Addr>().is_err() {
                    return Err(wrong());
                }
                (Some(address.to_owned()), rest)
            }
            _ => return Err(wrong()),
        },
    };
    let (public, private) = match rest.split_once(':') {
        None => (None, rest),
        Some(("", private)) if bind.is_some() => (None, private),
        Some((public, private)) => (Some(public), private),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(private) || public.is_some_and(|public| !is_number(public)) {
        return Err(wrong());
    }
    let number = |text: &str, code: Code| match text.parse::<u16>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(ApiError::new(code).because(format!("`{text}` is not a port from 1 to 65535"))),
    };
    let private = number(private, Code::PortInvalidPrivatePort)?;
    let public = public.map(|public| number(public, Code::PortInvalidPublicPort)).transpose()?;
    if !matches!(protocol, "tcp" | "udp") {
        return Err(ApiError::new(Code::PortInvalidProtocol).because(format!("`{protocol}` is not `tcp` or `udp`")));
    }
    Ok(Port { bind_address: bind, public, private, protocol: protocol.to_owned() })
}

/// The parts of an image name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Registry host.
    pub server: String,
    pub namespace: Option<String>,
    pub repository: String,
    /// Tag or digest.
    pub tag: String,
    /// The name with tag, as Docker reads it.
    pub full_name: String,
}

/// Reads `docker:<repo>[:tag][@digest]`; `sim:` for simulated hosts.
pub fn image(uuid: &str) -> Result<Image, ApiError> {
    let wrong = |why: &str| ApiError::field(Code::InvalidReference, "imageUuid").because(format!("`{uuid}` {why}"));
    if let Some(name) = uuid.strip_prefix("sim:") {
        return Ok(Image {
            server: "sim".to_owned(),
            namespace: None,
            repository: name.to_owned(),
            tag: "latest".to_owned(),
            full_name: uuid.to_owned(),
        });
    }
    let name = uuid.strip_prefix("docker:").ok_or_else(|| wrong("does not begin with `docker:`"))?;
    let (before_digest, digest) = match name.split_once('@') {
        None => (name, None),
        Some((before, digest)) => (before, Some(digest)),
    };
    let parts: Vec<&str> = before_digest.split('/').collect();
    let (server, path) = match parts.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && (first.contains(['.', ':']) || *first == "localhost") => {
            (Some(*first), rest)
        }
        all => (None, all),
    };
    let (namespace, last) = match path {
        [repository] => (None, *repository),
        [namespace, repository] => (Some(*namespace), *repository),
        _ => return Err(wrong("has more than a registry, a name space and a name")),
    };
    let (repository, tag) = match last.split_once(':') {
        None => (last, None),
        Some((repository, tag)) => (repository, Some(tag)),
    };
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|ch| ch.is_ascii_alphanumeric() || matches!(ch, '.' | '_' | '-'))
    };
    if !plain(repository) || namespace.is_some_and(|text| !plain(text)) || tag.is_some_and(|text| !plain(text)) {
        return Err(wrong("is not an image name"));
    }
    if digest.is_some_and(|digest| !digest.contains(':') || digest.len() < 10) {
        return Err(wrong("has a digest that is none"));
    }
    let full_name = if tag.is_none() && digest.is_none() { format!("{name}:latest") } else { name.to_owned() };
    Ok(Image {
        server: server.unwrap_or("index.docker.io").to_owned(),
        namespace: namespace.map(str::to_owned),
        repository: repository.to_owned(),
        tag: digest.or(tag).unwrap_or("latest").to_owned(),
        full_name,
    })
}

/// A service's name: letters and digits, single inner hyphens, at most 63.
pub fn service_name(name: &str) -> Result<(), ApiError> {
    let ok = name.chars().all(|ch| ch.is_ascii_alphanumeric() || ch == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !ok {
        return Err(ApiError::field(Code::InvalidCharacters, "name")
            .because("a service name has letters, digits and single hyphens between them"));
    }
    if name.len() > 63 {
        return Err(ApiError::field(Code::MaxLengthExceeded, "name"));
    }
    Ok(())
}

/// A stack's name: letters, digits and hyphens, none at the ends.
pub fn stack_name(name: &str) -> Result<(), ApiError> {
    if name.starts_with('-') || name.ends_with('-') {
        return Err(ApiError::field(Code::InvalidCharacters, "name")
            .because("a stack name does not begin or end with a hyphen"));
    }
    Ok(())
}

/// The name of a link: dot-separated parts like host names.
pub fn link_name(name: &str) -> Result<(), ApiError> {
    let invalid = || {
        ApiError::field(Code::InvalidCharacters, "name")
            .because(format!("`{name}` is not a link name: letters, digits, `-`, `_`, and single dots between parts"))
    };
    let known = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '-' | '.' | '_');
    if name.starts_with('.') || name.ends_with('.') || name.contains("..") || !name.chars().all(known) {
        return Err(invalid());
    }
    let too_long = name.contains('.') && (name.len() > 253 || name.split('.').any(|part| part.len() > 63));
    if too_long || (!name.contains('.') && name.len() > 63) {
        return Err(ApiError::field(Code::MaxLengthExceeded, "name"));
    }
    if name.split('.').any(|part| part.starts_with('-') || part.ends_with('-') || part.contains("--")) {
        return Err(invalid());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_or_refused_with_their_code() {
        type Read = Result<(&'static str, Option<u16>, u16, &'static str), Code>;
        let cases: &[(&str, Read)] = &[
            ("80", Ok(("", None, 80, "tcp"))),
            ("8080:80", Ok(("", Some(8080), 80, "tcp"))),
            ("8080:80/udp", Ok(("", Some(8080), 80, "udp"))),
            ("127.0.0.1:89:8999", Ok(("127.0.0.1", Some(89), 8999, "tcp"))),
            ("127.0.0.1::8999", Ok(("127.0.0.1", None, 8999, "tcp"))),
            ("[fe80::1]:8080:80", Ok(("fe80::1", Some(8080), 80, "tcp"))),
            ("", Err(Code::PortWrongFormat)),
            ("a:80", Err(Code::PortWrongFormat)),
            (":80", Err(Code::PortWrongFormat)),
            ("1:2:3:4", Err(Code::PortWrongFormat)),
            ("999.0.0.1:80:80", Err(Code::PortWrongFormat)),
            ("0", Err(Code::PortInvalidPrivatePort)),
            ("70000", Err(Code::PortInvalidPrivatePort)),
            ("70000:80", Err(Code::PortInvalidPublicPort)),
            ("80/TCP", Err(Code::PortInvalidProtocol)),
            ("80/sctp", Err(Code::PortInvalidProtocol)),
        ];
        for (text, expected) in cases {
            let found = port(text).map_err(|error| error.code);
            let expected = expected.map(|(bind, public, private, protocol)| Port {
                bind_address: (!bind.is_empty()).then(|| bind.to_owned()),
                public,
                private,
                protocol: protocol.to_owned(),
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn images_are_split_as_docker_does() {
        let told = |uuid: &str| {
            image(uuid).map(|image| (image.server, image.namespace, image.repository, image.tag, image.full_name)).ok()
        };
        let some = |a: &str, b: Option<&str>, c: &str, d: &str, e: &str| {
            Some((a.to_owned(), b.map(str::to_owned), c.to_owned(), d.to_owned(), e.to_owned()))
        };
        let hub = "index.docker.io";
        assert_eq!(told("docker:nginx"), some(hub, None, "nginx", "latest", "nginx:latest"));
        assert_eq!(told("docker:a/b:1"), some(hub, Some("a"), "b", "1", "a/b:1"));
        assert_eq!(told("docker:r.io:5000/a/b:1"), some("r.io:5000", Some("a"), "b", "1", "r.io:5000/a/b:1"));
        assert_eq!(told("docker:localhost/b"), some("localhost", None, "b", "latest", "localhost/b:latest"));
        for bad in ["nginx", "docker:", "docker:ubuntu:14:04", "docker:a/b/c", "docker:r.io/a/b/c", "docker:a b"] {
            assert_eq!(told(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_follow_dns() {
        for good in ["a", "web-1", "A9"] {
            assert!(service_name(good).is_ok(), "{good}");
        }
        for bad in ["-a", "a-", "a--b", "a_b", "ä"] {
            assert_eq!(service_name(bad).map_err(|error| error.code), Err(Code::InvalidCharacters), "{bad}");
        }
        assert_eq!(service_name(&"a".repeat(64)).map_err(|error| error.code), Err(Code::MaxLengthExceeded));
        for good in ["db", "my.db", "a_b"] {
            assert!(link_name(good).is_ok(), "{good}");
        }
        for bad in [".a", "a.", "a..b", "-a", "a.-b", "a--b", "a b"] {
            assert_eq!(link_name(bad).map_err(|error| error.code), Err(Code::InvalidCharacters), "{bad}");
        }
    }
}
