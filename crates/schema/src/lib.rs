//! The language in which resources are declared, and everything that follows from a declaration alone.
//!
//! A resource is a Rust struct with `#[derive(Resource)]` (or `#[derive(Nested)]` for a value without rows of
//! its own; `#[derive(Fields)]` for what several of them share). The derive yields a [`TypeDef`]; all [`TypeDef`]s of a program form a [`Registry`]; the part of
//! it that one role may see is a [`Schemas`]. From these come the schema document, validation of input,
//! filters, permissions, and the columns of the store. This crate knows no resource by name and does no I/O.
//!
//! Read in this order: [`types`] (what a field holds), [`declare`] (what a type says), [`machine`] (its states),
//! [`row`] (one stored resource), [`id`] and [`time`] (how rows are named and dated), [`registry`] (all types
//! together: parents, plurals), [`access`] and [`schemas`] (what each role sees), [`document`] (what `/v1/schemas`
//! says), [`input`] (request body to checked values), [`filter`] (query parameters to conditions), [`output`] and
//! [`collection`] (rows to answers), [`error`] (the codes clients match on).

// The derives write `::remuda_schema`, also in this crate's own tests.
extern crate self as remuda_schema;

pub mod access;
pub mod collection;
pub mod declare;
pub mod document;
pub mod error;
pub mod filter;
pub mod id;
pub mod input;
pub mod machine;
pub mod output;
pub mod registry;
pub mod row;
pub mod schemas;
#[doc(hidden)]
pub mod support;
#[cfg(test)]
mod testing;
pub mod time;
pub mod types;

pub use access::{Access, Role};
pub use declare::{Action, Field, Fields, Link, LinkKind, Nested, Resource, Storage, TypeDef, Visibility};
pub use error::{ApiError, Code};
pub use id::Id;
pub use machine::{Machine, Transition};
pub use registry::{DeclarationError, Registry};
pub use remuda_schema_derive::{Fields, Nested, Resource};
pub use row::{AnyRow, Meta, Object, Progress, Row, RowError};
pub use schemas::{Filter, Schema, Schemas};
pub use time::Time;
pub use types::{FieldType, Type};
