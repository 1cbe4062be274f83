//! Membership of a container in a service (`services.md` §1.2).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::machines;
use crate::service::Service;

/// Membership of a container in a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceExposeMap", machine = machines::MAP, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(create, output = "serviceExposeMap")]
#[action(remove, output = "serviceExposeMap")]
#[extra_filters(dnsPrefix = "string", upgrade = "enum")]
pub struct ServiceExposeMap {
    /// Container it belongs to.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// Name of an external service, in the place of an address.
    #[field(hidden, filter)]
    pub host_name: Option<String>,
    /// Address of an external service.
    #[field(nullable, filter)]
    pub ip_address: Option<String>,
    /// Made by the service, not only selected by it.
    #[field(filter)]
    pub managed: bool,
    /// The service.
    #[field(nullable, filter)]
    pub service_id: Option<Id<Service>>,
    /// Made by the service and exchanged by an upgrade: kept for a rollback.
    #[field(hidden)]
    pub upgrade: bool,
}
