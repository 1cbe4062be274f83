//! `#[derive(Resource)]`, `#[derive(Nested)]` and `#[derive(Fields)]`: read a resource declaration off a struct.
//!
//! The struct is the storage form of the resource; its attributes say what the schema document must say and what
//! the Rust type does not already say. Everything checkable at compile time is refused here with a span; what needs
//! other types (unknown parents, references, inputs) is refused by `Registry::new`.
//!
//! ```text
//! #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
//! #[serde(rename_all = "camelCase", default)]
//! #[resource(id = "port", machine = machines::PORT, access(project = "ru", admin = "r"))]
//! #[common(without(description), name(nullable, filter))]    // how the common fields differ from the usual ones
//! #[action(activate, output = "port")]
//! #[relation(instances, children(of = "instance", by = "hostId"))] // also: through, list, reference, computed
//! #[extra_filters(zoneId = "enum")]                            // columns of the original that we do not have
//! pub struct Port {
//!     /// Becomes the description in the schema document.
//!     #[field(update, nullable, filter, min = 1, max = 65535)]
//!     pub public_port: Option<i64>,
//! }
//! ```
//!
//! What several types share is a struct of its own with `#[derive(Fields)]`; a member with `#[field(flatten)]` and
//! `#[serde(flatten)]` takes its fields, actions and links into a resource, or another such struct, and its fields into a
//! value.
//!
//! Attribute macros that rewrite the struct were rejected: a derive leaves the struct as the reader sees it.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::expand::Role;

/// A type with rows of its own (or, with `#[resource(no_rows)]`, one that is answered without a table).
#[proc_macro_derive(Resource, attributes(resource, common, field, action, relation, extra_filters))]
pub fn derive_resource(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive(&input, Role::Resource).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// A value: the input of an action, or embedded in a resource.
#[proc_macro_derive(Nested, attributes(resource, field))]
pub fn derive_nested(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive(&input, Role::Nested).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Fields, actions and links that several types have in common: no type of its own.
#[proc_macro_derive(Fields, attributes(field, action, relation))]
pub fn derive_fields(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive_fields(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
