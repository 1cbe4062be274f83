//! What a host saw happen to a container (`resources-infra.md` §10).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::Host;
use crate::machines;

/// What a host saw happen to a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "containerEvent", machine = machines::CREATE_REMOVE, access(project = "r", user = "r", admin = "r", service = "r", agent = "cr"))]
#[common(without(description, name, removed, uuid))]
#[action(create, output = "containerEvent")]
#[action(remove, output = "containerEvent")]
pub struct ContainerEvent {
    /// What Docker said of the container.
    #[field(roles(agent = "cr"))]
    pub docker_inspect: Option<Value>,
    /// Image the container was made from.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub external_from: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub external_id: Option<String>,
    /// `start`, `stop`, `die` or `destroy`.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub external_status: Option<String>,
    /// When it happened, in seconds.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub external_timestamp: Option<i64>,
    /// Host it is on.
    #[field(nullable, filter)]
    pub host_id: Option<Id<Host>>,
    /// Identity of the host that saw it.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub reported_host_uuid: Option<String>,
}
