//! What a container can ask about itself and its project over HTTP at 169.254.169.250 (`metadata-service.md`).
//!
//! [`request`] reads what is asked, [`tree`] finds it in the [`crate::book::Book`], [`render`] writes it as text or
//! JSON, [`server`] has the sockets and the waiting. Nothing is made before somebody asks: the tree of a large project
//! is never there as a whole.

pub mod request;

pub mod tree;

pub mod render;

pub mod server;

pub use server::{Server, listen};
