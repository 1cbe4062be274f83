//! Where agents connect: one session per host, and the meeting point of streams.
//!
//! [`Hub::serve`] speaks the protocol of `wire::session` over any [`Link`]: the WebSocket of `/agent/connect`, or an
//! in-process pair. It stores nothing itself; what a host says goes to the orchestrator, what a host shall do comes
//! from there.

pub mod link;
mod routes;
mod session;
pub mod sessions;

pub use routes::{Authenticate, routes};
pub use session::Hub;
