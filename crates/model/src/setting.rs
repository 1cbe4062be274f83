//! Settings by name (`resources-infra.md` §11.1).

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A setting of the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "setting", access(project = "r", user = "r", admin = "crud", service = "crud"))]
#[common(without(account_id, created, description, kind, removed, state, uuid, transitioning))]
#[common(name(nullable, filter, roles(admin = "cr", service = "cr")))]
pub struct Setting {
    /// The value in effect.
    #[field()]
    pub active_value: Option<String>,
    /// The value that was set, if any.
    #[field(nullable, filter, max_length = 1024, roles(admin = "cru", service = "cru"))]
    pub value: Option<String>,
    /// Where the value comes from.
    #[field(admin)]
    pub source: Option<String>,
    /// Whether the value was set here.
    #[field(admin)]
    pub in_db: bool,
}

/// The value of a setting that is in effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "activeSetting", no_list, access(project = "r", user = "r", admin = "rud", service = "rud"))]
#[common(without(account_id, created, description, kind, removed, state, uuid, transitioning))]
#[common(name(), id(ty = "string"))]
pub struct ActiveSetting {
    /// The value in effect.
    #[field()]
    pub active_value: Option<Value>,
    /// The value.
    #[field(transform = "", roles(admin = "ru", service = "ru"))]
    pub value: Option<String>,
    /// Where the value comes from.
    #[field(admin)]
    pub source: Option<String>,
    /// Whether the value was set here.
    #[field(admin)]
    pub in_db: bool,
}
