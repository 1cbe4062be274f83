//! Compose files to API objects. Pure: text in, objects or problems out; used by the command line and by the server.
//!
//! [`node`] reads YAML and remembers where everything stood; [`interpolate`] fills in variables; [`keys`] is the table
//! of service keys, what each may hold and which field of `launchConfig` it becomes; [`compile`] puts a
//! docker-compose and a rancher-compose file together; [`names`] has the rules for stack and service names;
//! [`problem`] is what is wrong, with file, line and column.
//!
//! This release reads the keys whose effect it has (`compose.md` §§4, 6). Every other key is refused by name, so that
//! nothing is dropped in silence.

pub mod compile;
pub mod interpolate;
mod keys;
pub mod names;
pub mod node;
pub mod problem;
mod values;
mod words;

pub use compile::{Compiled, Input, Link, Service, Source, compile};
pub use problem::{Problem, Problems};
