//! Variables in values: `$NAME`, `${NAME}`, `$$`, and the operators of today's specification (`compose.md` §3).
//! Applied after parsing, so a value cannot inject structure.

use crate::node::shown;

/// A `${…}` that does not read; the sentence says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// Longest chain of operators inside each other.
const MAX_DEPTH: usize = 16;
/// Longest text that variables may make of one value, bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Fills in the variables of one value. `unset` hears each name that has no value and no default,
/// `used` every name that is looked up.
pub fn interpolate(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    used: &mut dyn FnMut(&str),
) -> Result<String, Malformed> {
    expand(text, lookup, unset, used, 0)
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    used: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed(format!("variables are nested deeper than {MAX_DEPTH} levels")));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        if out.len() > MAX_VALUE_BYTES {
            return Err(Malformed(format!("variables make it longer than {MAX_VALUE_BYTES} bytes")));
        }
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inside) = after.strip_prefix('{') {
            let end =
                closing(inside).ok_or_else(|| Malformed(format!("`${{{}` has no closing brace", shown(inside))))?;
            out.push_str(&braced(&inside[..end], lookup, unset, used, depth)?);
            rest = &inside[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                // A lone dollar is kept: passwords and shell snippets have them.
                out.push('$');
            } else {
                out.push_str(&value(&after[..length], lookup, unset, used));
            }
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace opened before `inside` closes, nested ones skipped.
fn closing(inside: &str) -> Option<usize> {
    let mut open = 0;
    let bytes = inside.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

fn name_length(text: &str) -> usize {
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !starts {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

fn value(
    name: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    used: &mut dyn FnMut(&str),
) -> String {
    used(name);
    lookup(name).unwrap_or_else(|| {
        unset(name);
        String::new()
    })
}

fn braced(
    inside: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
    used: &mut dyn FnMut(&str),
    depth: usize,
) -> Result<String, Malformed> {
    let length = name_length(inside);
    let (name, operator) = inside.split_at(length);
    if name.is_empty() {
        return Err(Malformed(format!("`${{{inside}}}` names no variable")));
    }
    if operator.is_empty() {
        return Ok(value(name, lookup, unset, used));
    }
    let (empty_counts, operator) = match operator.strip_prefix(':') {
        Some(rest) => (false, rest),
        None => (true, operator),
    };
    used(name);
    let set = lookup(name).filter(|value| empty_counts || !value.is_empty());
    let word = operator.get(1..).unwrap_or_default();
    match (operator.chars().next(), set) {
        (Some('-'), Some(value)) | (Some('?'), Some(value)) => Ok(value),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(word, lookup, unset, used, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = if word.is_empty() {
                "it has no value".to_owned()
            } else {
                expand(word, lookup, unset, used, depth + 1)?
            };
            Err(Malformed(format!("variable `{name}` is required: {why}")))
        }
        _ => Err(Malformed(format!("`${{{inside}}}` has an operator nobody knows; there are :- - :? ? :+ +"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let lookup = |name: &str| match name {
            "A" => Some("B".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let found = interpolate(text, &lookup, &mut |_| {}, &mut |_| {});
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(Malformed(found)), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn values() {
        check("img:${A}", Ok("img:B"));
        check("$C-x", Ok("-x"));
        check("$${A} $$", Ok("${A} $"));
        check("io.x=$${stack_name}/web", Ok("io.x=${stack_name}/web"));
        check("100$ and $1", Ok("100$ and $1"));
        check("${C:-d} ${EMPTY:-d} ${EMPTY-d} ${A:-d}", Ok("d d  B"));
        check("${C+a}${A+a} ${EMPTY:+a}${EMPTY+a}", Ok("a a"));
        check("${C:-${A}}-${C:-${D:-x}}", Ok("B-x"));
        check("${A", Err("closing brace"));
        check("${}", Err("names no variable"));
        check("${A!x}", Err("operator"));
        check("${C:?set it in .env}", Err("`C` is required: set it in .env"));
        check("é$Aé", Ok("éBé"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text: String) {
            drop(interpolate(&text, &|_| None, &mut |_| {}, &mut |_| {}));
        }
    }
}
