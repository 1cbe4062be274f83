//! HTTP: API versions, authentication, policy, websockets, and the hub that agents connect to.

pub mod access;

pub mod hub;
pub mod streams;
