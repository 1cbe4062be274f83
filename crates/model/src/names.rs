//! Which names stacks, services and links may have, and the names the platform makes (`resources.md` §3.1, §4.3, §4.4;
//! `services.md` §5.1). Characters and lengths that the schema states are checked before these.

use remuda_schema::{ApiError, Code};

/// The longest DNS label.
const MAX_LABEL: usize = 63;
/// The longest DNS name.
const MAX_NAME: usize = 253;

fn refuse(code: Code, why: &str) -> ApiError {
    ApiError::field(code, "name").because(why)
}

/// A stack's name neither begins nor ends with `-`.
pub fn check_stack_name(name: &str) -> Result<(), ApiError> {
    if name.starts_with('-') || name.ends_with('-') {
        return Err(refuse(Code::InvalidCharacters, "a stack name neither begins nor ends with `-`"));
    }
    Ok(())
}

/// A service's (or sidekick's) name: a letter or digit, then letters, digits and single `-`, not at the end.
pub fn check_service_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(refuse(Code::MinLengthExceeded, "a service needs a name"));
    }
    let allowed = name.chars().all(|ch| ch.is_ascii_alphanumeric() || ch == '-');
    if !allowed || name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err(refuse(
            Code::InvalidCharacters,
            "a service name is made of letters, digits and single `-`, and neither begins nor ends with `-`",
        ));
    }
    if name.len() > MAX_LABEL {
        return Err(refuse(Code::MaxLengthExceeded, "a service name has at most 63 characters"));
    }
    Ok(())
}

/// A link's name: dot-separated labels, each neither beginning nor ending with `-` nor with `--` in it.
pub fn check_link_name(name: &str) -> Result<(), ApiError> {
    let allowed = name.chars().all(|ch| ch.is_ascii_alphanumeric() || "-._".contains(ch));
    let label_ok =
        |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && !label.contains("--");
    if !allowed || !name.split('.').all(label_ok) {
        return Err(refuse(
            Code::InvalidCharacters,
            "a link name is made of parts of letters, digits, `_` and single `-`, separated by single dots",
        ));
    }
    if name.len() > MAX_NAME || name.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(refuse(
            Code::MaxLengthExceeded,
            "a link name has at most 253 characters, and each of its parts at most 63",
        ));
    }
    Ok(())
}

/// Name of the N-th container of a service, or of one of its sidekicks.
pub fn container_name(stack: &str, service: &str, sidekick: Option<&str>, index: i64) -> String {
    let sidekick = sidekick.map(|name| format!("_{name}")).unwrap_or_default();
    format!("{stack}_{service}{sidekick}_{index}")
}

/// The name as a host name, cut so that it fits in 64 characters with `_N` and the domain kept.
pub fn hostname_of(container_name: &str, domain: Option<&str>) -> String {
    const MAX: usize = 64;
    let domain = domain.filter(|domain| !domain.is_empty()).map_or(0, |domain| domain.len() + 1);
    if container_name.len() + domain <= MAX {
        return container_name.to_owned();
    }
    let (front, suffix) = match container_name.rfind('_') {
        Some(at) if container_name[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => container_name.split_at(at),
        _ => (container_name, ""),
    };
    let room = MAX.saturating_sub(domain + suffix.len());
    let cut = (0..=room.min(front.len())).rev().find(|at| front.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{suffix}", &front[..cut])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(result: Result<(), ApiError>) -> Option<Code> {
        result.err().map(|error| {
            assert_eq!(error.field.as_deref(), Some("name"));
            error.code
        })
    }

    #[test]
    fn stack_names() {
        for (name, expected) in [
            ("web", None),
            ("a--b", None),
            ("-a", Some(Code::InvalidCharacters)),
            ("a-", Some(Code::InvalidCharacters)),
        ] {
            assert_eq!(code(check_stack_name(name)), expected, "{name}");
        }
    }

    #[test]
    fn service_names() {
        let long = "a".repeat(64);
        for (name, expected) in [
            ("web-1", None),
            ("1web", None),
            ("", Some(Code::MinLengthExceeded)),
            ("a--b", Some(Code::InvalidCharacters)),
            ("a_b", Some(Code::InvalidCharacters)),
            ("-a", Some(Code::InvalidCharacters)),
            ("a-", Some(Code::InvalidCharacters)),
            ("é", Some(Code::InvalidCharacters)),
            (&long, Some(Code::MaxLengthExceeded)),
            (&long[1..], None),
        ] {
            assert_eq!(code(check_service_name(name)), expected, "{name}");
        }
    }

    #[test]
    fn link_names() {
        let long_part = "a".repeat(64);
        let long_name = vec!["a".repeat(50); 6].join(".");
        for (name, expected) in [
            ("db", None),
            ("my_db.example.com", None),
            (".db", Some(Code::InvalidCharacters)),
            ("db.", Some(Code::InvalidCharacters)),
            ("a..b", Some(Code::InvalidCharacters)),
            ("a.-b", Some(Code::InvalidCharacters)),
            ("a.b--c", Some(Code::InvalidCharacters)),
            ("a b", Some(Code::InvalidCharacters)),
            (&long_part, Some(Code::MaxLengthExceeded)),
            (&long_name, Some(Code::MaxLengthExceeded)),
        ] {
            assert_eq!(code(check_link_name(name)), expected, "{name}");
        }
    }

    #[test]
    fn host_names_keep_the_number() {
        assert_eq!(hostname_of("s_web_1", None), "s_web_1");
        assert_eq!(container_name("s", "web", Some("data"), 1), "s_web_data_1");
        let long = container_name("s", &"w".repeat(63), None, 12);
        assert_eq!(hostname_of(&long, None).len(), 64);
        assert!(hostname_of(&long, Some("example.com")).ends_with("w_12"));
        let long = container_name(&"s".repeat(63), "web", None, 12);
        assert_eq!(hostname_of(&long, None), format!("{}_12", "s".repeat(61)));
        assert_eq!(hostname_of(&long, Some("example.com")).len() + ".example.com".len(), 64);
    }

    proptest! {
        #[test]
        fn host_names_fit(name in ".{0,120}", domain in proptest::option::of("[a-z.]{0,80}")) {
            let made = hostname_of(&name, domain.as_deref());
            prop_assert!(made.len() <= name.len().max(64) + 1);
        }
    }
}
