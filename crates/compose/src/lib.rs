//! Compose files to API objects. Pure: text in, objects or problems out; used by the command line and by the server.
//!
//! [`project`] is the interface: what a compile reads and makes. [`node`] reads YAML and remembers where everything
//! stood; [`load`] puts files together (forms, variables by [`interpolate`], `include`, `extends`, overrides by
//! [`merge`]); [`keys`] is the table of service keys; [`convert`] reads one definition, [`rancher`], [`deploy`] and
//! [`balancer`] its parts; [`assemble`] decides what several services decide
//! together, with [`edges`] between them and what they have in common ([`shared`]). [`hash`], [`diff`] and [`order`]
//! say what an `up` must do; [`export`] is the way back.

mod assemble;
mod balancer;
mod build;
mod built;
mod context;
mod convert;
mod deploy;
pub mod diff;
mod edges;
pub mod envfile;
mod environment;
pub mod export;
pub mod hash;
mod healthcheck;
pub mod interpolate;
mod keys;
mod load;
mod merge;
pub mod names;
pub mod node;
pub mod order;
pub mod problem;
pub mod project;
pub mod questions;
mod rancher;
mod secrets;
mod shared;
mod values;
mod words;
mod yaml;

pub use assemble::compile;
pub use diff::{Diff, diff};
pub use order::order;
pub use problem::{Problem, Problems, Severity};
pub use project::{
    Build, Condition, Dependency, FileError, Files, Kind, Link, NoFiles, Project, SecretKind, SecretSource, Service,
    SourceFile, Sources, UpgradeStrategy, Volume,
};
pub use questions::Question;
