//! What a person reads when a command fails, and the exit code that goes with it (`cli.md` §6).

use std::io::Write;

use remuda_client::Error;
use serde_json::json;

/// Exit codes.
pub mod exit {
    pub const DONE: u8 = 0;
    /// The operation failed on the server or for some of the arguments.
    pub const FAILED: u8 = 1;
    /// Wrong usage, or a compose file that does not compile; nothing was sent.
    pub const USAGE: u8 = 2;
    /// Not found, or ambiguous.
    pub const NOT_FOUND: u8 = 3;
    /// Cannot connect, TLS, 401, 403.
    pub const NO_SERVER: u8 = 4;
    /// Time ran out while waiting.
    pub const TIMED_OUT: u8 = 5;
    /// The state of the object forbids it.
    pub const STATE: u8 = 6;
    /// Trouble on our side of a remote command.
    pub const CLIENT_TROUBLE: u8 = 125;
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command failed: one sentence, and the next step where there is one.
#[derive(Debug)]
pub struct Failure {
    pub exit: u8,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Prints to stderr: a line, or one JSON object.
    pub fn print(&self, as_json: bool) {
        let mut err = std::io::stderr().lock();
        let printed = if as_json {
            let code = match self.exit {
                exit::USAGE => "usage",
                exit::NOT_FOUND => "notFound",
                exit::NO_SERVER => "server",
                exit::TIMED_OUT => "timeout",
                exit::STATE => "state",
                _ => "failed",
            };
            writeln!(
                err,
                "{}",
                json!({"error": {"code": code, "exit": self.exit, "message": self.message, "hint": self.hint}})
            )
        } else {
            let hint = self.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            writeln!(err, "error: {}{hint}", self.message)
        };
        // Nobody is left to tell when stderr is closed.
        drop(printed);
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.chain();
        let status = error.status();
        match error {
            Error::Unreachable { .. } => Failure::new(exit::NO_SERVER, message)
                .hint("is the server running, and is this its address? `remuda doctor` looks closer"),
            Error::NotAnApi { .. } | Error::BadUrl(_) | Error::Tls(_) => Failure::new(exit::NO_SERVER, message),
            Error::Rejected { .. } => {
                Failure::new(exit::NO_SERVER, message).hint("`remuda login URL` stores other keys")
            }
            Error::NoEnvironment(..) => Failure::new(exit::NOT_FOUND, message),
            Error::ActionMissing { .. } => Failure::new(exit::STATE, message),
            Error::LinkMissing { .. } => Failure::new(exit::FAILED, message),
            Error::TimedOut { .. } => {
                Failure::new(exit::TIMED_OUT, message).hint("it goes on without us; `--timeout` waits longer")
            }
            Error::Api(_) => match status {
                Some(401 | 403) => Failure::new(exit::NO_SERVER, message)
                    .hint("this key may not do that; use an environment key or `--env`"),
                Some(404) => Failure::new(exit::NOT_FOUND, message),
                Some(405 | 409) => Failure::new(exit::STATE, message),
                _ => Failure::new(exit::FAILED, message),
            },
            _ => Failure::new(exit::FAILED, message),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(exit::FAILED, error.to_string())
    }
}
