//! The command lines of 2016, offered when the binary is called by their names (`cli.md` §5, principle 3).
//!
//! Each has its own table of commands and its own defaults, and ends in the same functions as our own commands. Two
//! things are not kept: reading creates no stack, and `transitioning=error` is a failure.

pub mod compose;
pub mod rancher;

use std::ffi::OsStr;
use std::path::Path;

/// Whose command line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Remuda,
    RancherCompose,
    Rancher,
}

impl Name {
    /// By what the program was called.
    pub fn of(program: &OsStr) -> Name {
        match Path::new(program).file_stem().and_then(OsStr::to_str) {
            Some("rancher-compose") => Name::RancherCompose,
            Some("rancher") => Name::Rancher,
            _ => Name::Remuda,
        }
    }
}

/// The line is one of that program's.
#[cfg(test)]
fn understood<L: clap::Parser>(line: &str) {
    if let Err(error) = L::try_parse_from(line.split(' ')) {
        panic!("{line}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_decides() {
        for (program, name) in [
            ("/usr/bin/rancher-compose", Name::RancherCompose),
            ("rancher", Name::Rancher),
            ("./remuda", Name::Remuda),
            ("", Name::Remuda),
        ] {
            assert_eq!(Name::of(OsStr::new(program)), name, "{program}");
        }
    }
}
