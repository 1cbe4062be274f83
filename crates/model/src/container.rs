//! One workload on one host (`resources.md` §6).

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use remuda_schema::{Id, Nested, Resource, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::docker::RestartPolicy;
use crate::host::Host;
use crate::image::Image;
use crate::instance::Instance;
use crate::machines;
use crate::network::Network;
use crate::service::Service;
use crate::stack::Stack;
use crate::workload::Workload;

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "container", parent = "instance", machine = machines::CONTAINER, access(project = "crud", user = "r", admin = "r", service = "crud"))]
#[action(create, output = "instance")]
#[action(error, output = "instance")]
#[action(execute, input = "containerExec", output = "hostAccess")]
#[action(logs, input = "containerLogs", output = "hostAccess")]
#[action(proxy, input = "containerProxy", output = "hostAccess")]
#[action(purge, output = "instance")]
#[action(remove, output = "instance")]
#[action(restart, output = "instance")]
#[action(restore, output = "instance")]
#[action(setlabels, input = "setLabelsInput", output = "container")]
#[action(start, output = "instance")]
#[action(stop, input = "instanceStop", output = "instance")]
#[action(update, output = "instance")]
#[extra_filters(
    allocationState = "string",
    compute = "int",
    dnsInternal = "string",
    dnsSearchInternal = "string",
    domain = "string",
    healthUpdated = "int",
    instanceTriggeredStop = "string",
    memoryMb = "int",
    offeringId = "enum",
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
pub struct Container {
    /// What it runs, and how.
    #[field(flatten)]
    #[serde(flatten)]
    pub workload: Workload,
    /// How many containers to make at once.
    #[field(create, nullable, input_only)]
    pub count: Option<i64>,
    /// Sequence number among the containers of a service.
    #[field(nullable, filter)]
    pub create_index: Option<i64>,
    /// Unit of the service the container belongs to.
    #[field(nullable, filter, max_length = 128)]
    pub deployment_unit_uuid: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// When it first ran.
    #[field(nullable, filter)]
    pub first_running: Option<Time>,
    /// Verdict of the health checks.
    #[field(nullable, filter, max_length = 128, options = ["healthy", "unhealthy", "updating-healthy", "updating-unhealthy", "initializing"])]
    pub health_state: Option<String>,
    /// When the verdict became what it is.
    #[field(hidden)]
    pub health_updated: Option<Time>,
    /// Host it is on.
    #[field(nullable)]
    pub host_id: Option<Id<Host>>,
    /// Linked containers by alias.
    #[field(create, nullable, input_only)]
    pub instance_links: Option<BTreeMap<String, Option<Id<Instance>>>>,
    /// Started outside Remuda.
    #[field(filter)]
    pub native_container: bool,
    /// Networks to join.
    #[field(create, nullable, input_only)]
    pub network_ids: Option<Vec<Id<Network>>>,
    /// Address on its first network.
    #[field()]
    pub primary_ip_address: Option<String>,
    /// When Docker starts it again.
    #[field(create, nullable)]
    pub restart_policy: Option<RestartPolicy>,
    /// How often it was started.
    #[field(nullable, filter)]
    pub start_count: Option<i64>,
    /// Start it right after creation.
    #[field(create, default = true)]
    pub start_on_create: bool,
    /// Role among the containers of the platform.
    #[field(nullable, filter, max_length = 128, options = ["NetworkAgent", "LoadBalancerAgent"])]
    pub system_container: Option<String>,
    /// Agent of a container that has one.
    #[field(hidden, filter, no_link)]
    pub agent_id: Option<Id<Agent>>,
    /// Row of its image.
    #[field(hidden, filter)]
    pub image_id: Option<Id<Image>>,
    /// What we want on the host: `running`, `stopped` or `removed`.
    #[field(hidden)]
    pub desired: String,
    /// One per request to start: the host starts the container once for each.
    #[field(hidden)]
    pub start_serial: i64,
    /// The service took it away with its whole unit: none is made again in that unit.
    #[field(hidden)]
    pub unit_ended: bool,
    /// It is unhealthy, and goes as soon as another has taken its place: its number is the other's already.
    #[field(hidden)]
    pub gives_way: bool,
    /// Time a stop may take before the process is killed.
    #[field(hidden)]
    pub stop_timeout_seconds: Option<i64>,
    /// It is to be, or being, replaced on another host, and why.
    #[field(hidden, ty = "string")]
    pub leaving: Option<Leaving>,
    /// It was stopped for us without its host, which was silent: there may be a process yet.
    #[field(hidden)]
    pub unconfirmed: bool,
    /// While it stops: until then its host is not told to stop it, because those who route to it are told first.
    #[field(hidden)]
    pub withdraw_by: Option<Time>,
    /// It is a load balancer, and HAProxy does not follow its rules: why.
    #[field(hidden)]
    pub balancer_problem: Option<String>,
    /// Service that made the container.
    #[field(hidden)]
    pub service_id: Option<Id<Service>>,
    /// Stack of that service.
    #[field(hidden)]
    pub stack_id: Option<Id<Stack>>,
    /// Which launch config of the service; `None` for the primary.
    #[field(hidden)]
    pub launch_config_name: Option<String>,
    /// The N of `stack_service_N`.
    #[field(hidden)]
    pub service_index: Option<i64>,
    /// Last inspection by the host.
    #[field(hidden)]
    pub docker_inspect: Option<Arc<Value>>,
    /// Address Docker gave it on the bridge.
    #[field(hidden)]
    pub docker_ip: Option<String>,
    /// Ethernet address on the managed network.
    #[field(hidden)]
    pub mac_address: Option<String>,
    /// Exit code of its last run.
    #[field(nullable)]
    pub exit_code: Option<i64>,
    /// Restarts by the host since the last request to start.
    #[field(hidden)]
    pub restarts: i64,
    /// The host has confirmed that nothing of it is left.
    #[field(hidden)]
    pub purge_confirmed: bool,
}

/// Why a container of a service leaves its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Leaving {
    /// Its host is lost: it goes, then another is made.
    Lost,
    /// Somebody wants it elsewhere: another is made, then it goes.
    Away,
}

/// The wire does not know the part: `row.image_uuid` reads as it does there.
impl Deref for Container {
    type Target = Workload;

    fn deref(&self) -> &Workload {
        &self.workload
    }
}

impl DerefMut for Container {
    fn deref_mut(&mut self) -> &mut Workload {
        &mut self.workload
    }
}

/// How to stop a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "instanceStop", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct InstanceStop {
    /// Remove it once it has stopped.
    #[field(create)]
    pub remove: bool,
    /// Seconds to wait before killing it.
    #[field(create)]
    pub timeout: Option<i64>,
}

/// Labels that replace those of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "setLabelsInput", no_list, access(project = "cr", user = "cr", admin = "cr", service = "cr"))]
pub struct SetLabelsInput {
    /// Labels.
    #[field(create)]
    pub labels: Option<Value>,
}
