//! Names of stacks and services (`compose.md` §2, `cli.md` §2.1).

/// Longest name the API takes.
const MAX_LENGTH: usize = 63;

/// A stack name made of what a person or a directory is called: lower case, anything but letters, digits and `-`
/// becomes `-`, an `x` before a leading sign.
pub fn stack_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let lead = lower.starts_with(['-', '.', '_']);
    let mut name = String::from(if lead { "x" } else { "" });
    name.extend(lower.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }));
    name
}

/// Why a name would be refused, with a better one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name here: {why}; `{better}` would do")]
pub struct BadName {
    pub name: String,
    pub why: &'static str,
    pub better: String,
}

/// Checks a stack or service name as the API will.
pub fn check(name: &str) -> Result<(), BadName> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_LENGTH {
        "it has more than 63 characters"
    } else if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
        "only letters, digits and `-` are allowed"
    } else if name.starts_with('-') || name.ends_with('-') {
        "it starts or ends with `-`"
    } else if name.contains("--") {
        "it has `--`"
    } else {
        return Ok(());
    };
    Err(BadName { name: name.to_owned(), why, better: better(name) })
}

fn better(name: &str) -> String {
    let mut better = String::new();
    for letter in name.chars() {
        let letter = if letter.is_ascii_alphanumeric() { letter } else { '-' };
        if letter != '-' || !(better.is_empty() || better.ends_with('-')) {
            better.push(letter);
        }
    }
    better.truncate(MAX_LENGTH);
    let trimmed = better.trim_matches('-');
    if trimmed.is_empty() { "app".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_become_stack_names() {
        for (directory, name) in
            [("something-v0.2.6", "something-v0-2-6"), ("My_App", "my-app"), (".hidden", "x-hidden"), ("_x", "x-x")]
        {
            assert_eq!(stack_name(directory), name);
        }
    }

    #[test]
    fn refused_names_come_with_a_better_one() {
        for (name, better) in [("my_app", "my-app"), ("-a-", "a"), ("a--b", "a-b"), ("", "app"), ("__", "app")] {
            assert_eq!(check(name).expect_err(name).better, better);
        }
        assert_eq!(check("Web-1"), Ok(()));
    }
}
