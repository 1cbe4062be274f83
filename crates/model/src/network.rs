//! The networks of a project (`resources-infra.md` §8).

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};

use crate::machines;

/// A network of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "network", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(activate, output = "network")]
#[action(create, output = "network")]
#[action(deactivate, output = "network")]
#[action(purge, output = "network")]
#[action(remove, output = "network")]
#[action(restore, output = "network")]
#[action(update, output = "network")]
#[extra_filters(domain = "string", isPublic = "enum")]
#[relation(ipAddresses, children(of = "ipAddress", by = "networkId"))]
pub struct Network {
    /// Range in CIDR notation.
    #[field(hidden)]
    pub subnet: Option<String>,
    /// Gateway address.
    #[field(hidden)]
    pub gateway: Option<String>,
}
