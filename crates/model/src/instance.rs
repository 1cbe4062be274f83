//! The read-only union of everything that runs (`resources.md` §5).

use remuda_schema::{Id, Resource, Time};
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::host::Host;
use crate::image::Image;
use crate::machines;

/// The read-only union of everything that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "instance", machine = machines::CONTAINER, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(create, output = "instance")]
#[action(error, output = "instance")]
#[action(purge, output = "instance")]
#[action(remove, output = "instance")]
#[action(restart, output = "instance")]
#[action(restore, output = "instance")]
#[action(start, output = "instance")]
#[action(stop, input = "instanceStop", output = "instance")]
#[action(update, output = "instance")]
#[extra_filters(
    agentId = "enum",
    allocationState = "string",
    compute = "int",
    dnsInternal = "string",
    dnsSearchInternal = "string",
    domain = "string",
    healthUpdated = "int",
    instanceTriggeredStop = "string",
    memoryMb = "int",
    offeringId = "enum",
    registryCredentialId = "enum",
    serviceIndexId = "enum",
    token = "string",
    userdata = "string",
    zoneId = "enum"
)]
#[relation(instances, children(of = "instance", by = "networkContainerId"))]
#[relation(instanceLinks, children(of = "instanceLink", by = "instanceId"))]
#[relation(targetInstanceLinks, children(of = "instanceLink", by = "targetInstanceId"))]
#[relation(instanceLabels, children(of = "label", by = "instanceId"))]
#[relation(ports, children(of = "port", by = "instanceId"))]
#[relation(mounts, children(of = "mount", by = "instanceId"))]
#[relation(volumes, children(of = "volume", by = "instanceId"))]
#[relation(serviceExposeMaps, children(of = "serviceExposeMap", by = "instanceId"))]
#[relation(healthcheckInstanceHostMaps, children(of = "healthcheckInstanceHostMap", by = "instanceId"))]
#[relation(serviceEvents, children(of = "serviceEvent", by = "instanceId"))]
#[relation(services, through(to = "service", through = "serviceExposeMap", from = "instanceId", via = "serviceId"))]
#[relation(hosts, list(field = "hostId", to = "host"))]
#[relation(stats, computed)]
#[relation(containerStats, computed)]
pub struct Instance {
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Host it is on.
    #[field(nullable)]
    pub host_id: Option<Id<Host>>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub image_id: Option<Id<Image>>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub network_container_id: Option<Id<Container>>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub create_index: Option<i64>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub deployment_unit_uuid: Option<String>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub first_running: Option<Time>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub health_state: Option<String>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub hostname: Option<String>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub native_container: bool,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub start_count: Option<i64>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub system_container: Option<String>,
    /// Column of containers that the union can be filtered by.
    #[field(hidden, filter)]
    pub version: Option<String>,
}
