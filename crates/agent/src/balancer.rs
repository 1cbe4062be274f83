//! Load balancers: HAProxy in containers, kept at what the rules say.
//!
//! [`rendered`] is the line between two halves. What a balancer *means* is a pure function from plan and directory to
//! a configuration. How it is *run* is the other half.

pub mod rendered;
