//! What is wrong with a file, where, and what to do about it.

use std::fmt;

use crate::node::Place;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// Longest word that is compared with the known ones.
const MAX_WORD: usize = 64;

/// One problem, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// File as the user named it.
    pub file: String,
    pub place: Place,
    /// `web.ports`; empty for the file as a whole.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

/// The known word closest to `given`, if one is close enough to be what was meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > MAX_WORD {
        return None;
    }
    let limit = (given.chars().count() / 3).max(1);
    let by_distance = known.into_iter().map(|word| (distance(given, word), word));
    by_distance.filter(|(distance, _)| *distance <= limit).min().map(|(_, word)| word)
}

/// ` (did you mean …?)`, or nothing.
pub fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (idx, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = idx + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        let known = ["image", "ports", "environment", "command"];
        for (given, meant) in [("port", Some("ports")), ("enviroment", Some("environment")), ("xyz", None), ("", None)]
        {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
    }
}
