//! Label selectors: `key`, `key = v`, `key != v`, `key in (a, b)`, `key notin (a, b)`, comma-separated
//! (`services.md` §10.2).

use remuda_schema::{ApiError, Code};

use crate::labels::Labels;

/// All terms must hold; none matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The key is compared exactly.
    Present,
    In(Vec<String>),
    /// The label is present with another value.
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads a selector. The whole text stands in the error's `fieldName`, as in the original.
    pub fn parse(text: &str) -> Result<Selector, ApiError> {
        let terms: Option<Vec<Term>> =
            split(text).into_iter().map(str::trim).filter(|term| !term.is_empty()).map(parse_term).collect();
        terms.map(|terms| Selector { terms }).ok_or_else(|| {
            let sentence = format!("Invalid format selector : {text}");
            ApiError::field(Code::InvalidFormat, sentence.clone()).detailed(sentence)
        })
    }

    /// Whether the labels pass every term.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.terms.is_empty() && self.terms.iter().all(|term| term.matches(labels))
    }
}

impl Term {
    fn matches(&self, labels: &Labels) -> bool {
        let same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
        let mut values = labels.iter().filter(|(key, _)| same(key, &self.key)).map(|(_, value)| value);
        match &self.test {
            Test::Present => labels.contains_key(&self.key),
            Test::In(wanted) => values.any(|value| wanted.iter().any(|one| same(one, value))),
            Test::NotIn(unwanted) => values.any(|value| !unwanted.iter().any(|one| same(one, value))),
        }
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, ch) in text.char_indices() {
        match ch {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Option<Term> {
    let make = |key: &str, test: Test| {
        let key = key.trim();
        (!key.is_empty() && !key.contains(char::is_whitespace)).then(|| Term { key: key.to_owned(), test })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    let list = |values: &str| {
        let values = values.trim();
        let values = values.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(values);
        values.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    if let Some((key, value)) = term.split_once("!=") {
        return make(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = term.split_once('=') {
        return make(key, Test::In(one(value)));
    }
    if let Some((key, values)) = term.split_once(" notin ") {
        return make(key, Test::NotIn(list(values)));
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return make(key, Test::In(list(values)));
    }
    make(term, Test::Present)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_hold_or_not() {
        let labels: Labels =
            [("tier", "Front"), ("Env", "prod")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, expected) in [
            ("tier", true),
            ("Tier", false),
            ("tier=front", true),
            ("TIER = FRONT", true),
            ("tier=back", false),
            ("tier!=back", true),
            ("absent!=back", false),
            ("tier in (back, front)", true),
            ("tier notin (back, middle)", true),
            ("absent notin (back)", false),
            ("tier=front, env in (test,prod)", true),
            ("tier=front, env=test", false),
            ("", false),
            (" , ", false),
        ] {
            assert_eq!(Selector::parse(text).map(|selector| selector.matches(&labels)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_key_with_a_blank_is_refused() {
        for text in ["a b", "a b=c", "x=y, a b", "a in(b)", "=v"] {
            let error = Selector::parse(text).expect_err(text);
            assert_eq!(error.code, Code::InvalidFormat);
            assert_eq!(error.field, Some(format!("Invalid format selector : {text}")));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c=!,() notin]*") {
            let labels: Labels = [("a".to_owned(), "b".to_owned())].into();
            let _ = Selector::parse(&text).map(|selector| selector.matches(&labels));
        }
    }
}
