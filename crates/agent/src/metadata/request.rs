//! A request, read: version, path, representation, and how long to wait (`metadata-service.md` §§2, 4, 5, 10.1).

use std::time::Duration;

/// Shapes of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `2015-07-25`: lists of names where later ones have objects.
    V1,
    /// `2015-12-19`, and `latest`.
    V2,
    /// `2016-07-29`: names in lower case, and more of everything.
    V3,
}

impl Version {
    fn of(text: &str) -> Option<Version> {
        match text {
            "2015-07-25" => Some(Version::V1),
            "2015-12-19" | "latest" => Some(Version::V2),
            "2016-07-29" => Some(Version::V3),
            _ => None,
        }
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
    Yaml,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The list of versions.
    Versions,
    Tree {
        version: Version,
        path: Vec<String>,
        wait: Option<Wait>,
    },
}

/// Answer when the value is another one, or the time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub value: String,
    pub longest: Duration,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("Not found")]
    NotFound,
    #[error("Invalid version")]
    InvalidVersion,
    #[error("invalid URL escape {0:?}")]
    BadEscape(String),
}

const DEFAULT_WAIT: u64 = 60;
const LONGEST_WAIT: u64 = 120;

/// Reads path and query, both as they stand in the request line.
pub fn read(path: &str, query: Option<&str>) -> Result<Asked, Refused> {
    let mut parts = path.trim_end_matches('/').split('/').skip(1);
    let Some(version) = parts.next() else { return Ok(Asked::Versions) };
    if version == "favicon.ico" {
        return Err(Refused::NotFound);
    }
    let version = Version::of(version).ok_or(Refused::InvalidVersion)?;
    let path: Vec<String> = parts.map(unescape).collect::<Result<_, _>>()?;
    let wait = if path.is_empty() { None } else { wait(query.unwrap_or_default())? };
    Ok(Asked::Tree { version, path, wait })
}

/// Both `wait=true` and `value` have to be there.
fn wait(query: &str) -> Result<Option<Wait>, Refused> {
    let (mut asked, mut value, mut longest) = (false, None, DEFAULT_WAIT);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "wait" => asked = unescape(text)? == "true",
            "value" => value = Some(unescape(text)?),
            "maxWait" => {
                let seconds = unescape(text)?.parse::<u64>().ok().filter(|seconds| *seconds > 0);
                longest = seconds.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT);
            }
            _ => {}
        }
    }
    Ok(value.filter(|_| asked).map(|value| Wait { value, longest: Duration::from_secs(longest) }))
}

/// A query component: `+` is a space, `%2F` a slash inside one element.
fn unescape(text: &str) -> Result<String, Refused> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let byte = digits.filter(is_hex).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let shown = || String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned();
                out.push(byte.ok_or_else(|| Refused::BadEscape(shown()))?);
                at += 2;
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    // No key of the tree holds anything else than text.
    String::from_utf8(out).map_err(|_| Refused::NotFound)
}

/// The representation that `Accept` prefers: text when it names nothing that we have.
pub fn form(accept: Option<&str>) -> Form {
    const OFFERED: [(&str, Form); 6] = [
        ("text/plain", Form::Text),
        ("application/json", Form::Json),
        ("application/yaml", Form::Yaml),
        ("application/x-yaml", Form::Yaml),
        ("text/yaml", Form::Yaml),
        ("text/x-yaml", Form::Yaml),
    ];
    let ranges: Vec<(&str, f32)> = accept.unwrap_or("*/*").split(',').take(64).map(range).collect();
    let quality = |offered: &str| {
        let kind = offered.split('/').next().unwrap_or_default();
        // The most exact range counts.
        let exactness = |range: &str| match range {
            range if range == offered => 3,
            "*/*" => 1,
            range if range.strip_suffix("/*") == Some(kind) => 2,
            _ => 0,
        };
        let fits = ranges.iter().filter(|(range, _)| exactness(range) > 0);
        fits.max_by_key(|(range, _)| exactness(range)).map_or(0.0, |(_, quality)| *quality)
    };
    let mut best = (0.0, Form::Text);
    for (offered, form) in OFFERED {
        let found = quality(offered);
        if found > best.0 {
            best = (found, form);
        }
    }
    best.1
}

fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|text| text.parse().ok());
    (range, quality.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_element_by_element() {
        let show = |path: &str| match read(path, None) {
            Ok(Asked::Versions) => "versions".to_owned(),
            Ok(Asked::Tree { version, path, .. }) => format!("{version:?} {}", path.join(" | ")),
            Err(refused) => refused.to_string(),
        };
        let cases = [
            ("/", "versions"),
            ("", "versions"),
            ("//", "versions"),
            ("/latest", "V2 "),
            ("/2015-07-25/self/container/", "V1 self | container"),
            ("/2016-07-29//x", "V3  | x"),
            ("/2015-12-19/self/service/links/shop%2Fdb+x", "V2 self | service | links | shop/db x"),
            ("/latest/%zz", "invalid URL escape \"%zz\""),
            ("/latest/a%2", "invalid URL escape \"%2\""),
            ("/latest/%+1", "invalid URL escape \"%+1\""),
            ("/latest/%ff", "Not found"),
            ("/v1", "Invalid version"),
            ("/favicon.ico", "Not found"),
        ];
        for (path, expected) in cases {
            assert_eq!(show(path), expected, "{path}");
        }
    }

    #[test]
    fn waiting_is_asked_for_with_both_words() {
        let show = |path: &str, query: &str| match read(path, Some(query)) {
            Ok(Asked::Tree { wait: Some(wait), .. }) => format!("{} {}", wait.value, wait.longest.as_secs()),
            other => format!("{:?}", other.map(|_| "no wait")),
        };
        let cases = [
            ("/latest/version", "wait=true&value=a%20b", "a b 60"),
            ("/latest/version", "value=&wait=true&maxWait=5", " 5"),
            ("/latest/version", "wait=true&value=1&maxWait=900", "1 120"),
            ("/latest/version", "wait=true&value=1&maxWait=0", "1 60"),
            ("/latest/version", "wait=true&value=1&maxWait=soon", "1 60"),
            ("/latest/version", "wait=true", "Ok(\"no wait\")"),
            ("/latest/version", "wait=1&value=1", "Ok(\"no wait\")"),
            ("/latest", "wait=true&value=1", "Ok(\"no wait\")"),
            ("/latest/version", "wait=true&value=%", "Err(BadEscape(\"%\"))"),
        ];
        for (path, query, expected) in cases {
            assert_eq!(show(path, query), expected, "{path}?{query}");
        }
    }

    #[test]
    fn the_accepted_representation_is_chosen() {
        let cases = [
            (None, Form::Text),
            (Some(""), Form::Text),
            (Some("*/*"), Form::Text),
            (Some("image/png"), Form::Text),
            (Some("application/json"), Form::Json),
            (Some("application/*"), Form::Json),
            (Some("text/yaml, text/plain;q=0.5"), Form::Yaml),
            (Some("text/plain;q=0.1, application/json;q=0.9"), Form::Json),
            (Some("text/html, application/xhtml+xml, */*;q=0.8"), Form::Text),
            (Some("application/json;q=0, */*"), Form::Text),
            (Some("application/json;q=x"), Form::Json),
        ];
        for (accept, expected) in cases {
            assert_eq!(form(accept), expected, "{accept:?}");
        }
    }
}
