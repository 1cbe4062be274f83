//! What goes wrong between a caller and the database, on request: how a simulation gets disks that are slow, a database
//! that is away, commits whose answer is lost, and processes that die between any two writes (DESIGN §9).
//!
//! It belongs to a handle ([`crate::Store::with_faults`]), not to the database: a server's handle can fail while whoever
//! checks the outcome reads undisturbed. Without faults nothing of this is ever looked at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// What becomes of one read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes that long, then goes on.
    Slow(Duration),
    /// The database does not answer; nothing was done.
    Away,
    /// The caller waits for ever; nothing was done.
    Stuck,
    /// It was done, but the caller hears that the connection broke.
    AnswerLost,
    /// It was done, and the caller waits for ever: its process is about to die.
    StuckAfter,
}

/// Decides what goes wrong next.
pub trait Faults: Send + Sync + 'static {
    /// What becomes of the next read; `None`: it works.
    fn read(&self) -> Option<Fault>;
    /// What becomes of the next write.
    fn write(&self) -> Option<Fault>;
}

/// The faults of a handle, if it has any.
#[derive(Clone, Default)]
pub(crate) struct Handle(pub(crate) Option<Arc<dyn Faults>>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults" } else { "NoFaults" })
    }
}

/// The error of a database that was made to be away.
pub(crate) fn away() -> Error {
    Error::Unavailable { step: "a fault that was asked for", cause: cause() }
}

/// The error of a commit whose answer was made to be lost.
pub(crate) fn answer_lost() -> Error {
    Error::Uncertain { cause: cause() }
}

fn cause() -> crate::error::Cause {
    Arc::new(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "simulated"))
}
