//! One host: what runs on it, seen from the engine's side (DESIGN §6, §7).
//!
//! The agent holds a plan from the server and compares it with what the engine reports; it acts on the difference
//! and reports what it sees. It never reads the store and keeps nothing that Docker or the server would not tell it
//! again. Read [`engine`], then `reconcile`, then `session`; [`dns`] is what containers ask for names, [`datapath`] the process
//! that answers them, [`network`] what the host is given so that they can ask.

pub mod datapath;
pub mod dns;
pub mod engine;
pub mod network;
