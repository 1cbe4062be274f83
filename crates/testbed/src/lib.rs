//! Hosts for tests: each a network namespace with a Docker daemon of its own, and a PostgreSQL for tests to write to.
//!
//! A test says `Testbed::start(2)?` and gets two machines as far as Docker and the network can tell: own addresses on
//! a common wire, own iptables, own daemon, own images. Nothing of the machine's own Docker is used or touched.
//! Two daemons in one namespace were rejected: they fight over `docker0` and each other's iptables chains. Virtual
//! machines were rejected: they take minutes where this takes a second.
//!
//! What a testbed makes is found again by name, not by memory: processes by cgroup, interfaces and namespaces by the
//! number of the slot, files by the slot's directory. So one script (`clean.sh`) can remove a testbed whatever
//! happened to the process that made it. It runs when a [`Testbed`] is dropped, by a guardian when the process died,
//! and before a slot is used again. Linux and root are needed; [`Testbed::start`] says so when they are missing.

pub mod wait;

mod slot;

pub mod image;

pub mod host;

pub mod trouble;

pub mod bed;

pub mod fleet;

pub mod postgres;

pub use bed::Testbed;
pub use fleet::Fleet;
pub use host::Host;
pub use postgres::{Database, Postgres, Tuning, postgres_url};
pub use trouble::{Part, Way};
