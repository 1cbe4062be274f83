//! Health checks that this host makes for the others (`scheduling-and-health.md` §8.2).
//!
//! [`duty`] reads from the directory what this host is to check, [`tally`] turns answers into votes, [`probe`] asks,
//! and [`checker`] is the loop that does it in time. Nothing here needs the server: checks go on from the last
//! directory while it is away, and votes wait until it takes them.

pub mod checker;
pub mod duty;
pub mod probe;
pub mod tally;

pub use checker::{Checker, Handle};
