//! What a person reads when a command fails, and the exit code that goes with it (`cli.md` §6).

use std::io::Write;

use remuda_client::Error;
use remuda_client::error::Subject;
use serde_json::{Value, json};

use crate::paint::{Ink, ink};

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
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: u8,
    pub message: String,
    pub hint: Option<String>,
    /// What the server said, when it was the server that refused.
    pub server: Option<Box<Server>>,
}

/// The server's part in a failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    pub about: Option<Subject>,
    pub status: Option<u16>,
    /// The error object of the API.
    pub body: Option<Value>,
}

/// In which form failures are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub json: bool,
    pub colour: bool,
}

impl Failure {
    pub fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None, server: None }
    }

    /// Several as one: a code of their own only where they agree on it.
    pub fn all(failures: Vec<Failure>) -> Option<Failure> {
        let mut failures = failures.into_iter();
        let mut all = failures.next()?;
        for failure in failures {
            if failure.exit != all.exit {
                all.exit = exit::FAILED;
            }
            all.message.push('\n');
            all.message.push_str(&failure.message);
            all.hint = all.hint.or(failure.hint);
            all.server = all.server.or(failure.server);
        }
        Some(all)
    }

    /// About that thing, which the server knows.
    #[must_use]
    pub fn about(mut self, what: impl Into<Subject>) -> Failure {
        self.server.get_or_insert_default().about = Some(what.into());
        self
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
    pub fn print(&self, look: Look) {
        let mut err = std::io::stderr().lock();
        let printed = if look.json {
            writeln!(err, "{}", self.json())
        } else {
            let hint = self.hint.as_ref().map(|hint| format!("\n{} {hint}", ink("hint:", Ink::Yellow, look.colour)));
            writeln!(err, "{} {}{}", ink("error:", Ink::Red, look.colour), self.message, hint.unwrap_or_default())
        };
        // Nobody is left to tell when stderr is closed.
        drop(printed);
    }

    /// The object programs read (`cli.md` §6); what is not known is left out.
    fn json(&self) -> Value {
        let code = match self.exit {
            exit::USAGE => "usage",
            exit::NOT_FOUND => "notFound",
            exit::NO_SERVER => "server",
            exit::TIMED_OUT => "timeout",
            exit::STATE => "state",
            _ => "failed",
        };
        let server = self.server.as_deref().cloned().unwrap_or_default();
        let (kind, id) = server.about.map(|about| (about.kind, about.id)).unwrap_or_default();
        let mut error = json!({
            "code": code, "exit": self.exit, "message": self.message, "hint": self.hint, "kind": kind, "id": id,
            "status": server.status, "server": server.body,
        });
        if let Some(fields) = error.as_object_mut() {
            fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        }
        json!({ "error": error })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.chain();
        let status = error.status();
        let server = Server {
            about: error.about().cloned(),
            status,
            body: match &error {
                Error::Api(answer) => Some(answer.body.clone()).filter(|body| !body.is_null()),
                _ => None,
            },
        };
        let failure = match error {
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
        };
        let is_said = server != Server::default();
        Failure { server: is_said.then(|| Box::new(server)), ..failure }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(exit::FAILED, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use remuda_client::Resource;

    use super::*;

    #[test]
    fn programs_read_what_the_server_said_and_about_what() {
        let service = Resource(json!({"type": "service", "id": "1s5", "name": "web", "state": "upgrading"}));
        let missing = Error::ActionMissing {
            what: (&service).into(),
            action: "restart".to_owned(),
            state: "upgrading".to_owned(),
            allowed: "cancelupgrade".to_owned(),
        };
        assert_eq!(
            Failure::from(missing).json(),
            json!({"error": {
                "code": "state", "exit": 6, "kind": "service", "id": "1s5",
                "message": "service web (1s5) is upgrading; cannot restart; allowed now: cancelupgrade",
            }})
        );
        assert_eq!(
            Failure::usage("no").hint("yes").json(),
            json!({"error": {"code": "usage", "exit": 2, "message": "no", "hint": "yes"}})
        );
    }
}
