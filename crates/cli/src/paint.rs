//! Colour: never the only way something is said, and off wherever nobody sees it.

use std::io::IsTerminal;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    Always,
    Never,
}

impl Colour {
    /// For results.
    pub fn on_stdout(self) -> bool {
        self.decide(std::io::stdout().is_terminal(), no_color())
    }

    /// For everything else.
    pub fn on_stderr(self) -> bool {
        self.decide(std::io::stderr().is_terminal(), no_color())
    }

    fn decide(self, is_terminal: bool, no_color: bool) -> bool {
        match self {
            Colour::Auto => is_terminal && !no_color,
            Colour::Always => true,
            Colour::Never => false,
        }
    }
}

/// <https://no-color.org>: set and not empty.
fn no_color() -> bool {
    crate::session::environment("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// A colour of eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// The text in that colour, if any is wanted.
pub fn ink(text: &str, ink: Ink, is_on: bool) -> String {
    if is_on { format!("\u{1b}[{}m{text}\u{1b}[0m", ink as u8) } else { text.to_owned() }
}

/// What colour a state has: at its goal, on its way, or in trouble. Resting ones have none.
pub fn state(state: &str) -> Option<Ink> {
    match state {
        "active" | "running" | "healthy" | "started-once" => Some(Ink::Green),
        "error" | "unhealthy" | "erroring" | "disconnected" | "alert" => Some(Ink::Red),
        "degraded" | "initializing" | "reconnecting" | "upgraded" | "canceled-upgrade" | "canceled-rollback" => {
            Some(Ink::Yellow)
        }
        moving if moving.ends_with("ing") || moving.contains("ing-") => Some(Ink::Yellow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_eyes() {
        for (choice, is_terminal, no_color, expected) in [
            (Colour::Auto, true, false, true),
            (Colour::Auto, true, true, false),
            (Colour::Auto, false, false, false),
            (Colour::Always, false, true, true),
            (Colour::Never, true, false, false),
        ] {
            assert_eq!(choice.decide(is_terminal, no_color), expected, "{choice:?} {is_terminal} {no_color}");
        }
    }

    #[test]
    fn states_have_the_colour_of_what_they_mean() {
        for (name, expected) in [
            ("active", Some(Ink::Green)),
            ("updating-active", Some(Ink::Yellow)),
            ("upgrading", Some(Ink::Yellow)),
            ("unhealthy", Some(Ink::Red)),
            ("stopped", None),
        ] {
            assert_eq!(state(name), expected, "{name}");
        }
    }
}
