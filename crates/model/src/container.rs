//! One workload on one host (`resources.md` §6).

use std::collections::BTreeMap;

use remuda_schema::{Id, Nested, Resource, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::docker::DockerBuild;
use crate::docker::LogConfig;
use crate::docker::RestartPolicy;
use crate::host::Host;
use crate::image::Image;
use crate::instance::Instance;
use crate::machines;
use crate::network::Network;
use crate::service::Service;
use crate::stack::Stack;
use crate::volume::Volume;

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
#[relation(services, through(to = "service", through = "serviceExposeMap", from = "instanceId", via = "serviceId"))]
#[relation(hosts, list(field = "hostId", to = "host"))]
#[relation(stats, computed)]
#[relation(containerStats, computed)]
pub struct Container {
    /// How to build the image before the container is made.
    #[field(create, nullable)]
    pub build: Option<DockerBuild>,
    /// Linux capabilities to add.
    #[field(create, nullable, options = ["ALL", "AUDIT_CONTROL", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"])]
    pub cap_add: Option<Vec<String>>,
    /// Linux capabilities to drop.
    #[field(create, nullable, options = ["ALL", "AUDIT_CONTROL", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"])]
    pub cap_drop: Option<Vec<String>>,
    /// Command and arguments.
    #[field(create, nullable)]
    pub command: Option<Vec<String>>,
    /// How many containers to make at once.
    #[field(create, nullable, input_only)]
    pub count: Option<i64>,
    /// CPUs the container may use, like `0-2,4`.
    #[field(create, nullable)]
    pub cpu_set: Option<String>,
    /// Relative CPU weight.
    #[field(create, nullable)]
    pub cpu_shares: Option<i64>,
    /// Sequence number among the containers of a service.
    #[field(nullable, filter)]
    pub create_index: Option<i64>,
    /// Volumes by mount path.
    #[field(create, nullable)]
    pub data_volume_mounts: Option<BTreeMap<String, Id<Volume>>>,
    /// Volumes as `source:path[:mode]`.
    #[field(create, nullable)]
    pub data_volumes: Option<Vec<String>>,
    /// Containers whose volumes to mount.
    #[field(create, nullable)]
    pub data_volumes_from: Option<Vec<Id<Container>>>,
    /// Unit of the service the container belongs to.
    #[field(nullable, filter, max_length = 128)]
    pub deployment_unit_uuid: Option<String>,
    /// Devices as `host:container[:mode]`.
    #[field(create, nullable)]
    pub devices: Option<Vec<String>>,
    /// Name servers.
    #[field(create, nullable)]
    pub dns: Option<Vec<String>>,
    /// Search domains.
    #[field(create, nullable)]
    pub dns_search: Option<Vec<String>>,
    /// Domain part of the host name.
    #[field(create, nullable)]
    pub domain_name: Option<String>,
    /// Entry point of the image, replaced.
    #[field(create, nullable)]
    pub entry_point: Option<Vec<String>>,
    /// Environment variables.
    #[field(create)]
    pub environment: Option<BTreeMap<String, String>>,
    /// Ports to expose without publishing.
    #[field(create, nullable)]
    pub expose: Option<Vec<String>>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Lines of the hosts file as `name:ip`.
    #[field(create, nullable)]
    pub extra_hosts: Option<Vec<String>>,
    /// When it first ran.
    #[field(nullable, filter)]
    pub first_running: Option<Time>,
    /// Verdict of the health checks.
    #[field(nullable, filter, max_length = 128, options = ["healthy", "unhealthy", "updating-healthy", "updating-unhealthy", "initializing"])]
    pub health_state: Option<String>,
    /// Host it is on.
    #[field(nullable)]
    pub host_id: Option<Id<Host>>,
    /// Host name.
    #[field(create, nullable, filter, min_length = 1)]
    pub hostname: Option<String>,
    /// Image as `docker:name[:tag]`.
    #[field(create, nullable)]
    pub image_uuid: Option<String>,
    /// Linked containers by alias.
    #[field(create, nullable, input_only)]
    pub instance_links: Option<BTreeMap<String, Option<Id<Instance>>>>,
    /// Labels.
    #[field(create)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Where Docker sends the logs.
    #[field(create, nullable)]
    pub log_config: Option<LogConfig>,
    /// Memory limit in bytes.
    #[field(create, nullable)]
    pub memory: Option<i64>,
    /// Limit of memory and swap in bytes; -1 for none.
    #[field(create, nullable)]
    pub memory_swap: Option<i64>,
    /// Started outside Remuda.
    #[field(filter)]
    pub native_container: bool,
    /// Container whose network to share.
    #[field(create, nullable, filter)]
    pub network_container_id: Option<Id<Container>>,
    /// Networks to join.
    #[field(create, nullable, input_only)]
    pub network_ids: Option<Vec<Id<Network>>>,
    /// Kind of network.
    #[field(create, nullable, default = "managed", options = ["none", "bridge", "host", "managed", "container"])]
    pub network_mode: Option<String>,
    /// `host` to share the process table of the host.
    #[field(create, nullable, options = ["host"])]
    pub pid_mode: Option<String>,
    /// Ports as `[[ip:]public:]private[/protocol]`.
    #[field(create, nullable)]
    pub ports: Option<Vec<String>>,
    /// Address on its first network.
    #[field()]
    pub primary_ip_address: Option<String>,
    /// Run with all rights on the host.
    #[field(create, default = false)]
    pub privileged: bool,
    /// Publish every exposed port on a random one.
    #[field(create, default = false)]
    pub publish_all_ports: bool,
    /// Mount the root file system read-only.
    #[field(create, default = false)]
    pub read_only: bool,
    /// Host it must run on.
    #[field(create, nullable)]
    pub requested_host_id: Option<Id<Host>>,
    /// When Docker starts it again.
    #[field(create, nullable)]
    pub restart_policy: Option<RestartPolicy>,
    /// Security options of Docker.
    #[field(create, nullable)]
    pub security_opt: Option<Vec<String>>,
    /// How often it was started.
    #[field(nullable, filter)]
    pub start_count: Option<i64>,
    /// Start it right after creation.
    #[field(create, default = true)]
    pub start_on_create: bool,
    /// Keep standard input open.
    #[field(create, default = false)]
    pub stdin_open: bool,
    /// Role among the containers of the platform.
    #[field(nullable, filter, max_length = 128, options = ["NetworkAgent", "LoadBalancerAgent"])]
    pub system_container: Option<String>,
    /// Allocate a terminal.
    #[field(create, default = false)]
    pub tty: bool,
    /// User to run as.
    #[field(create, nullable, min_length = 1)]
    pub user: Option<String>,
    /// Version of the launch config it was made from.
    #[field(filter, default = "0")]
    pub version: Option<String>,
    /// Driver of its named volumes.
    #[field(create, nullable)]
    pub volume_driver: Option<String>,
    /// Directory the command starts in.
    #[field(create, nullable, min_length = 1)]
    pub working_dir: Option<String>,
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
    /// Time a stop may take before the process is killed.
    #[field(hidden)]
    pub stop_timeout_seconds: Option<i64>,
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
    pub docker_inspect: Option<Value>,
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
