//! The machine a host runs on (`resources-infra.md` §4).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::machines;

/// The machine a host runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "physicalHost", machine = machines::PHYSICAL_HOST, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(bootstrap, output = "physicalHost")]
#[action(create, output = "physicalHost")]
#[action(error, output = "physicalHost")]
#[action(remove, output = "physicalHost")]
#[action(update, output = "physicalHost")]
#[relation(hosts, children(of = "host", by = "physicalHostId"))]
pub struct PhysicalHost {
    /// Driver.
    #[field(nullable, filter, max_length = 128)]
    pub driver: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Agent that reported it.
    #[field(hidden, filter, no_link)]
    pub agent_id: Option<Id<Agent>>,
}
