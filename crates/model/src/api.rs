//! The types in which the API speaks of itself.

use std::collections::BTreeMap;

use remuda_schema::{Nested, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a type is: the schema document is made of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "schema",
    no_rows,
    access(project = "r", user = "r", admin = "r", service = "r", agent = "r", register = "r", token = "r")
)]
#[common(without(account_id, created, description, id, kind, name, removed, state, transitioning, uuid, data))]
pub struct Schema {
    /// Always empty: no type has actions on its collection.
    #[field(create)]
    pub collection_actions: Option<BTreeMap<String, Value>>,
    /// Always empty.
    #[field(create)]
    pub collection_fields: Option<BTreeMap<String, Value>>,
    /// Filters by name, with their modifiers.
    #[field(create)]
    pub collection_filters: Option<BTreeMap<String, Value>>,
    /// `GET` and `POST` as far as allowed.
    #[field(create)]
    pub collection_methods: Option<Vec<String>>,
    /// Links that `include` accepts.
    #[field(create)]
    pub includeable_links: Option<Vec<String>>,
    /// Plural in URLs.
    #[field(create)]
    pub plural_name: Option<String>,
    /// Actions by name, with their input and output.
    #[field(create)]
    pub resource_actions: Option<BTreeMap<String, Value>>,
    /// Fields by name.
    #[field(create)]
    pub resource_fields: Option<BTreeMap<String, Value>>,
    /// `GET`, `PUT` and `DELETE` as far as allowed.
    #[field(create)]
    pub resource_methods: Option<Vec<String>>,
}

/// A description of a type for the API browser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "typeDocumentation", no_rows, access(project = "r", user = "r", admin = "r", service = "r"))]
#[common(without(account_id, created, kind, name, removed, state, transitioning, uuid, data))]
#[common(id(ty = "string"), description(create, update))]
pub struct TypeDocumentation {
    /// Descriptions of the fields.
    #[field()]
    pub resource_fields: Option<BTreeMap<String, FieldDocumentation>>,
}

/// A description of a field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "fieldDocumentation", no_list, access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct FieldDocumentation {
    /// The description.
    #[field(create, update)]
    pub description: Option<String>,
}

/// The event stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "subscribe", plural = "subscribe", no_rows, access(project = "cr", service = "cr"))]
#[common(without(account_id, created, description, id, kind, name, removed, state, transitioning, uuid, data))]
pub struct Subscribe {
    /// Names of events, `*` as a wildcard.
    #[field(create, eq_filter, no_max_length, min_length = 1, valid_chars = "*._0-9a-zA-Z;=", transform = "")]
    pub event_names: Option<Vec<String>>,
}
