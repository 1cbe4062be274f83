//! One published or exposed port of a container (`resources-infra.md` §7.1).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::ip_address::IpAddress;
use crate::machines;

/// One published or exposed port of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "port", machine = machines::DEFAULT, access(project = "ru", user = "r", admin = "r", service = "ru"))]
#[action(activate, output = "port")]
#[action(create, output = "port")]
#[action(deactivate, output = "port")]
#[action(purge, output = "port")]
#[action(remove, output = "port")]
#[action(restore, output = "port")]
#[action(update, output = "port")]
pub struct Port {
    /// Host address to publish on.
    #[field(nullable)]
    pub bind_address: Option<String>,
    /// Container it belongs to.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// Address of the container.
    #[field(nullable, filter)]
    pub private_ip_address_id: Option<Id<IpAddress>>,
    /// Port of the container.
    #[field(nullable, filter)]
    pub private_port: Option<i64>,
    /// `tcp` or `udp`.
    #[field(nullable, filter, max_length = 128)]
    pub protocol: Option<String>,
    /// Address of the host.
    #[field(nullable, filter)]
    pub public_ip_address_id: Option<Id<IpAddress>>,
    /// Port of the host.
    #[field(update, nullable, filter, schedules_update)]
    pub public_port: Option<i64>,
}
