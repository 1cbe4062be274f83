//! Names of build contexts the server keeps (`compose.md` §11): `build.context` of a launch config holds a path of our
//! own API, without a server before it. Each agent asks its own server, and the text is the same whoever uploaded it,
//! by whatever address; a whole URL would differ, and so make services differ that do not.

/// Where contexts are on every server.
pub const PATH: &str = "/v1/buildcontexts";

/// The `build.context` that means the context of that hash.
pub fn reference(hash: &str) -> String {
    format!("{PATH}/{hash}")
}

/// The hash of a `build.context` that is one of ours; any other is a URL.
pub fn hash_of(context: &str) -> Option<&str> {
    let rest = context.strip_prefix(PATH)?.strip_prefix('/')?;
    is_hash(rest).then_some(rest)
}

/// SHA-256 in small hexadecimal letters.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Every hash named somewhere in a text, like a row as JSON.
pub fn hashes_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PATH).filter_map(|(at, _)| {
        let hash = text.get(at + PATH.len() + 1..at + PATH.len() + 65)?;
        is_hash(hash).then_some(hash)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_told_from_urls() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(hash_of(&reference(&hash)), Some(hash.as_str()));
        for other in [
            "http://h/v1/buildcontexts/x".to_owned(),
            format!("/v1/buildcontexts/{}", hash.to_uppercase()),
            format!("/v1/buildcontexts/../{hash}"),
            format!("/v1/buildcontexts/{hash}/"),
        ] {
            assert_eq!(hash_of(&other), None, "{other}");
        }
    }

    #[test]
    fn what_a_row_names_is_found() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let text = format!(r#"{{"x":"{}","y":"{} /v1/buildcontexts/short"}}"#, reference(&a), reference(&b));
        assert_eq!(hashes_in(&text).collect::<Vec<_>>(), [a, b]);
        assert_eq!(hashes_in("/v1/buildcontexts").count(), 0);
    }
}
