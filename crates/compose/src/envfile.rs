//! Env files: `KEY=VALUE` lines with comments, quotes and `export`, as today's specification has them.

use std::collections::BTreeMap;

use crate::interpolate::{Malformed, interpolate};
use crate::node::{MAX_FILE_BYTES, shown};

/// One line: the value is `None` when there is no `=`.
pub type Entry = (String, Option<String>);

/// What is wrong with a file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct BadLine {
    pub line: usize,
    pub text: String,
}

/// Every line as it stands, as `format: raw` asks for.
pub fn raw(text: &str) -> Vec<Entry> {
    let lines = text.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty());
    let entry = |line: &str| match line.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (line.to_owned(), None),
    };
    lines.filter(|line| !line.starts_with('#')).map(entry).collect()
}

/// Reads a file; variables in values come from earlier lines, then from `lookup`.
pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Entry>, BadLine> {
    let too_large = |line: usize| BadLine { line, text: format!("more than {} MiB of values", MAX_FILE_BYTES >> 20) };
    if text.len() > MAX_FILE_BYTES {
        return Err(too_large(0));
    }
    let mut entries = Vec::new();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut size = 0;
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((idx, line)) = lines.next() {
        let wrong = |text: String| BadLine { line: idx + 1, text };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((key, value)) = line.split_once('=') else {
            entries.push((name(line).map_err(wrong)?, None));
            continue;
        };
        let key = name(key.trim_end()).map_err(wrong)?;
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let inside = quoted(quote, &value[1..], &mut lines).map_err(wrong)?;
                if quote == '"' { fill(&inside, &known, lookup).map_err(wrong)? } else { inside }
            }
            _ => {
                let comment = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
                let plain = if value.starts_with('#') { "" } else { &value[..comment] };
                fill(plain.trim_end(), &known, lookup).map_err(wrong)?
            }
        };
        size += value.len();
        if size > MAX_FILE_BYTES {
            return Err(too_large(idx + 1));
        }
        known.insert(key.clone(), value.clone());
        entries.push((key, Some(value)));
    }
    Ok(entries)
}

fn name(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && !text.contains(char::is_whitespace) && !text.contains(['\'', '"', '\0']);
    if good { Ok(text.to_owned()) } else { Err(format!("`{}` is no name of a variable", shown(text))) }
}

/// What stands between quotes, over several lines when need be. Backslashes mean something in double quotes only.
fn quoted<'t>(
    quote: char,
    first: &'t str,
    lines: &mut impl Iterator<Item = (usize, &'t str)>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut line = first;
    loop {
        let mut letters = line.char_indices();
        while let Some((at, letter)) = letters.next() {
            if letter == quote {
                let rest = line[at + 1..].trim_start();
                return if rest.is_empty() || rest.starts_with('#') {
                    Ok(out)
                } else {
                    Err(format!("`{}` after the closing quote", shown(rest)))
                };
            }
            match letter {
                '\\' if quote == '"' => match letters.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 't')) => out.push('\t'),
                    // Kept from being a variable.
                    Some((_, '$')) => out.push_str("$$"),
                    Some((_, escaped @ ('"' | '\\'))) => out.push(escaped),
                    Some((_, other)) => out.extend(['\\', other]),
                    None => out.push('\\'),
                },
                other => out.push(other),
            }
        }
        out.push('\n');
        match lines.next() {
            Some((_, next)) => line = next,
            None => return Err(format!("the quote {quote} is not closed")),
        }
    }
}

fn fill(
    text: &str,
    known: &BTreeMap<String, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let lookup = |name: &str| known.get(name).cloned().or_else(|| lookup(name));
    interpolate(text, &lookup, &mut |_| {}, &mut |_| {}).map_err(|Malformed(why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_entries(text: &str) -> String {
        match parse(text, &|name| (name == "OUT").then(|| "outside".to_owned())) {
            Ok(entries) => entries
                .iter()
                .map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")))
                .collect::<Vec<_>>()
                .join("|"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lines_as_people_write_them() {
        for (text, expected) in [
            ("# c\nA=1\nexport B='two words'\n\nF=a=b", "A=1|B=two words|F=a=b"),
            ("C=\"x#y\" # why\nD=plain # why\nE=\nG", "C=x#y|D=plain|E=|G"),
            ("A=1\nB=$A-${OUT}-${NO:-d}\nC='$A'\nD=\"\\$A $A\\n\"", "A=1|B=1-outside-d|C=$A|D=$A 1\n"),
            ("A=\"one\ntwo\"\nB=#", "A=one\ntwo|B="),
            ("A = 1", "A=1"),
            ("A='open\nB=1", "line 1: the quote ' is not closed"),
            ("A=\"x\" y", "line 1: `y` after the closing quote"),
            ("A B=1", "line 1: `A B` is no name of a variable"),
        ] {
            assert_eq!(shown_entries(text), expected, "{text}");
        }
        assert_eq!(raw("A='1' # x\n#\nB"), [("A".to_owned(), Some("'1' # x".to_owned())), ("B".to_owned(), None)]);
    }

    #[test]
    fn values_that_double_themselves_end() {
        let bomb: String = "A0=0123456789\n".to_owned()
            + &(0..40).map(|idx| format!("A{}=$A{idx}$A{idx}\n", idx + 1)).collect::<String>();
        assert!(shown_entries(&bomb).contains("longer than") || shown_entries(&bomb).contains("MiB of values"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A-C=$'\"\\\\ #\n{}]{0,60}") {
            drop(parse(&text, &|_| None));
        }
    }
}
