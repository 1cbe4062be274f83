//! The name a container gets in Docker (`resources.md` §6.6). Names of our API need not be unique; Docker's must be.

/// `r-NAME` when Docker accepts that name and no container of the host has it, else the container's uuid.
pub fn docker_name(name: Option<&str>, uuid: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if let Some(name) = name.filter(|name| is_docker_name(name)) {
        let wanted = format!("r-{name}");
        if !is_taken(&wanted) {
            return wanted;
        }
    }
    uuid.to_owned()
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
fn is_docker_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() > 1
        && chars.all(|ch| ch.is_ascii_alphanumeric() || "_.-".contains(ch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_docker_refuses_or_has_become_the_uuid() {
        for (name, expected) in [
            (Some("web"), "r-web"),
            (Some("s_web_1"), "r-s_web_1"),
            (Some("taken"), "uuid"),
            (Some("a"), "uuid"),
            (Some("_a"), "uuid"),
            (Some("my web"), "uuid"),
            (Some("é1"), "uuid"),
            (Some(""), "uuid"),
            (None, "uuid"),
        ] {
            assert_eq!(docker_name(name, "uuid", |name| name == "r-taken"), expected, "{name:?}");
        }
    }
}
