//! Addresses of containers and hosts (`resources-infra.md` §7.2).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::instance::Instance;
use crate::machines;
use crate::network::Network;

/// An address of a container or host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "ipAddress", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(activate, output = "ipAddress")]
#[action(create, output = "ipAddress")]
#[action(deactivate, output = "ipAddress")]
#[action(purge, output = "ipAddress")]
#[action(remove, output = "ipAddress")]
#[action(restore, output = "ipAddress")]
#[action(update, output = "ipAddress")]
#[extra_filters(hostname = "string", ipPoolId = "enum", isPublic = "enum", subnetId = "enum")]
#[relation(publicPorts, children(of = "port", by = "publicIpAddressId"))]
#[relation(privatePorts, children(of = "port", by = "privateIpAddressId"))]
#[relation(hosts, list(field = "hostId", to = "host"))]
pub struct IpAddress {
    /// The address.
    #[field(nullable, filter)]
    pub address: Option<String>,
    /// Network it belongs to.
    #[field(nullable, filter)]
    pub network_id: Option<Id<Network>>,
    /// Container that has the address.
    #[field(hidden)]
    pub instance_id: Option<Id<Instance>>,
    /// Host that has the address.
    #[field(hidden)]
    pub host_id: Option<Id<Host>>,
    /// `primary` for the address shown as `primaryIpAddress`.
    #[field(hidden, filter)]
    pub role: Option<String>,
}
