//! Text of users as words of HAProxy: nothing a rule can say becomes a second word or a second line.

use std::fmt::Write as _;

/// One word. What is not plainly harmless is written as `\xNN`, which HAProxy reads back as that byte and as nothing
/// else. NUL cannot be said and cannot be met in a request either: it is left out.
pub fn word(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes().filter(|byte| *byte != 0) {
        if byte.is_ascii_alphanumeric() || b"._-/:*,=@+~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    // An empty word is none at all.
    if out.is_empty() { "\"\"".to_owned() } else { out }
}

/// A name of a backend: `_` for every run of what is neither letter nor digit.
pub fn name(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for ch in text.chars() {
        if ch.is_ascii_alphanumeric() {
            out.push(ch);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out
}

/// A name that the user chose: what HAProxy allows in names stays.
pub fn chosen_name(text: &str) -> String {
    let allowed = |ch: char| ch.is_ascii_alphanumeric() || "-_.:".contains(ch);
    let name: String = text.chars().map(|ch| if allowed(ch) { ch } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// The request of a health check as the words of `option httpchk`: method, path, and the rest, which may go on with
/// header lines, as people have written them for years (`HTTP/1.1\r\nHost:\ www`). `None`: there is none.
pub fn request_line(text: &str) -> Option<String> {
    let text = unescaped(text);
    let (method, rest) = next_word(&text)?;
    let Some((path, rest)) = next_word(rest) else {
        // One word alone is a path, as it is for HAProxy.
        return Some(word(method));
    };
    let rest = rest.trim();
    let mut line = format!("{} {}", word(method), word(path));
    if !rest.is_empty() {
        line.push(' ');
        line.push_str(&word(rest));
    }
    Some(line)
}

fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    (!text.is_empty()).then(|| text.split_once(char::is_whitespace).unwrap_or((text, "")))
}

/// `\r`, `\n`, `\t`, and a backslash before anything else, as HAProxy reads them.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(ch) = chars.next() {
        match ch {
            '\\' => match chars.next() {
                Some('r') => out.push('\r'),
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            ch => out.push(ch),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one() {
        for (text, expected) in [
            ("www.a.test", "www.a.test"),
            ("a b\n\"'\\#$", r"a\x20b\x0a\x22\x27\x5c\x23\x24"),
            ("ä\0", r"\xc3\xa4"),
            ("", "\"\""),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (text, expected) in [("80__", "80_"), ("80_*.corp.test_/adm", "80_corp_test_adm"), ("80_ä_", "80_")] {
            assert_eq!(name(text), expected);
        }
        assert_eq!((chosen_name("my.b-1:x"), chosen_name("a b\n")), ("my.b-1:x".to_owned(), "a_b_".to_owned()));
    }

    #[test]
    fn request_lines_may_carry_headers() {
        for (text, expected) in [
            ("GET / HTTP/1.0", Some("GET / HTTP/1.0")),
            ("  OPTIONS   /x  ", Some("OPTIONS /x")),
            ("GET / HTTP/1.1\\r\\nHost:\\ www", Some(r"GET / HTTP/1.1\x0d\x0aHost:\x20www")),
            ("GET / HTTP/1.1\r\nHost: www", Some(r"GET / HTTP/1.1\x0d\x0aHost:\x20www")),
            ("/health", Some("/health")),
            ("  ", None),
        ] {
            assert_eq!(request_line(text).as_deref(), expected, "{text:?}");
        }
    }
}
