//! Labels of hosts and containers as rows (`resources-infra.md` §9).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::instance::Instance;
use crate::machines;

/// A label of a host or container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "label", machine = machines::CREATE_REMOVE, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(create, output = "label")]
#[action(remove, output = "label")]
#[relation(hosts, list(field = "hostId", to = "host"))]
#[relation(instances, list(field = "instanceId", to = "instance"))]
pub struct Label {
    /// The key.
    #[field(nullable, filter, max_length = 1024)]
    pub key: Option<String>,
    /// The value.
    #[field(nullable, filter, max_length = 4096)]
    pub value: Option<String>,
    /// `host` or `container`.
    #[field(hidden, filter)]
    pub r#type: Option<String>,
    /// Container that carries the label.
    #[field(hidden)]
    pub instance_id: Option<Id<Instance>>,
    /// Host that carries the label.
    #[field(hidden)]
    pub host_id: Option<Id<Host>>,
}
