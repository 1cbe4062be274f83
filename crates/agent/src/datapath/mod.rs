//! The part of a host that outlives the agent (DESIGN §6): a process of its own, same binary, that answers DNS for the
//! containers whatever happens to agent and server, and carries their packets to other hosts ([`crate::overlay`]).
//! Metadata and the fencing watchdog will live here too.
//!
//! [`control`] is what agent and datapath say to each other; [`core`] carries it out; [`cache`] is what it remembers;
//! [`process`] is the process around it; [`handle`] is the agent's end.

pub mod control;

pub mod core;

pub mod cache;

pub mod process;

pub mod handle;

pub use handle::{Handle, Launch};
pub use process::{Error, Options, run};
