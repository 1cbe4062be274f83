//! One host: what runs on it, seen from the engine's side (DESIGN §6, §7).
//!
//! The agent holds a plan from the server and compares it with what the engine reports; it acts on the difference
//! and reports what it sees. It never reads the store and keeps nothing that Docker or the server would not tell it
//! again. Read [`run`](mod@run) for what belongs together, then [`engine`], [`reconcile`] and [`session`]; [`streams`]
//! carry logs and terminals; [`dns`] is what containers ask for names, [`datapath`] the process that answers them,
//! [`network`] what the host is given so that they can ask.

pub mod balancer;
pub mod book;
pub mod datapath;
pub mod dns;
pub mod engine;
pub mod facts;
pub mod fence;
mod fetch;
pub mod health;
pub mod host_network;
pub mod links;
pub mod metadata;
pub mod metrics;
pub mod network;
pub mod overlay;
pub mod reconcile;
pub mod register;
pub mod run;
pub mod secrets;
pub mod session;
pub mod state_dir;
pub mod streams;
mod tls;
