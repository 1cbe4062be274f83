//! agent
pub mod dns;
