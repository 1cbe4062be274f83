//! Where volumes can live; each host has one for Docker's local driver (`resources-infra.md` §6.1).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::host::Host;
use crate::machines;

/// Where volumes can live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "storagePool", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "r", service = "r", agent = "r"))]
#[action(activate, output = "storagePool")]
#[action(create, output = "storagePool")]
#[action(deactivate, output = "storagePool")]
#[action(purge, output = "storagePool")]
#[action(remove, output = "storagePool")]
#[action(restore, output = "storagePool")]
#[action(update, output = "storagePool")]
#[extra_filters(external = "enum", physicalTotalSizeMb = "int", virtualTotalSizeMb = "int", zoneId = "enum")]
#[relation(volumes, children(of = "volume", by = "storagePoolId"))]
#[relation(hosts, list(field = "hostId", to = "host"))]
pub struct StoragePool {
    /// Volume driver it serves.
    #[field(nullable, filter)]
    pub driver_name: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Host of a local pool.
    #[field(hidden)]
    pub host_id: Option<Id<Host>>,
    /// Agent that reported the pool.
    #[field(hidden, filter, no_link)]
    pub agent_id: Option<Id<Agent>>,
}
