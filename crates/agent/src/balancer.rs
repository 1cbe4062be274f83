//! Load balancers: HAProxy in containers, kept at what the rules say.
//!
//! [`rendered`] is the line between two halves. What a balancer *means* is a pure function from plan and directory to
//! a configuration: [`render`]. How it is *run* is the other half: [`decide`] says what has to happen between two
//! configurations, [`place`] keeps them on this host, [`commands`] and [`master`] speak with HAProxy, [`instance`] applies
//! one after the other without losing a request, and [`keeper`] does so for all balancers of the host.

pub mod rendered;

pub mod render;

pub mod decide;

pub mod commands;

pub mod place;

pub mod master;

pub mod check;

pub mod instance;

pub mod stats;

pub mod keeper;
