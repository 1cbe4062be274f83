//! Client of the API, for the command line and for tests.
//!
//! [`Client::connect`] finds the API and the environment; [`Client`] lists, reads, writes and acts on [`Resource`]s;
//! [`events`] follows changes; [`wait`] waits for transitions; [`stream`] opens logs, exec, stats and sockets; [`engine`]
//! calls the Engine API of a host through the server.
//! Resources stay JSON with accessors: the schema belongs to the server, and an older or newer one must do.

pub mod build_context;
pub mod engine;
pub mod error;
pub mod events;
pub mod http;
pub mod resource;
pub mod stream;
pub mod wait;

pub use error::Error;
pub use http::{Client, Config};
/// Method of a raw request.
pub use reqwest::Method;
pub use resource::Resource;
