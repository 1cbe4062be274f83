//! What each container of a service is made from: the container's fields (`services.md` §1.2).

use std::collections::BTreeMap;

use remuda_schema::{Field, FieldType, Id, Nested, Time, Type, TypeDef};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::container::Container;
use crate::docker::DockerBuild;
use crate::docker::LogConfig;
use crate::host::Host;
use crate::instance::Instance;
use crate::network::Network;
use crate::volume::Volume;

/// What each container of a service is made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "launchConfig", no_list, access(project = "cru", user = "cru", admin = "cru", service = "cru"))]
pub struct LaunchConfig {
    /// Owner.
    #[field(nullable, max_length = 255)]
    pub account_id: Option<Id<Account>>,
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
    #[field(create, nullable)]
    pub count: Option<i64>,
    /// CPUs the container may use, like `0-2,4`.
    #[field(create, nullable)]
    pub cpu_set: Option<String>,
    /// Relative CPU weight.
    #[field(create, nullable)]
    pub cpu_shares: Option<i64>,
    /// Sequence number among the containers of a service.
    #[field(nullable, max_length = 255)]
    pub create_index: Option<i64>,
    /// When it was made.
    #[field(nullable, max_length = 255)]
    pub created: Option<Time>,
    /// Volumes by mount path.
    #[field(create, nullable)]
    pub data_volume_mounts: Option<BTreeMap<String, Id<Volume>>>,
    /// Volumes as `source:path[:mode]`.
    #[field(create, nullable)]
    pub data_volumes: Option<Vec<String>>,
    /// Containers whose volumes to mount.
    #[field(create, nullable)]
    pub data_volumes_from: Option<Vec<Id<Container>>>,
    /// Launch configs of the service whose containers' volumes to mount.
    #[field(create, nullable)]
    pub data_volumes_from_launch_configs: Option<Vec<String>>,
    /// Unit of the service the container belongs to.
    #[field(nullable, max_length = 128)]
    pub deployment_unit_uuid: Option<String>,
    /// Free text.
    #[field(create, update, nullable, max_length = 1024)]
    pub description: Option<String>,
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
    #[field(nullable, max_length = 128)]
    pub external_id: Option<String>,
    /// Lines of the hosts file as `name:ip`.
    #[field(create, nullable)]
    pub extra_hosts: Option<Vec<String>>,
    /// When it first ran.
    #[field(nullable, max_length = 255)]
    pub first_running: Option<Time>,
    /// Verdict of the health checks.
    #[field(nullable, max_length = 128, options = ["healthy", "unhealthy", "updating-healthy", "updating-unhealthy", "initializing"])]
    pub health_state: Option<String>,
    /// Host it is on.
    #[field(nullable)]
    pub host_id: Option<Id<Host>>,
    /// Host name.
    #[field(create, nullable, max_length = 255, min_length = 1)]
    pub hostname: Option<String>,
    /// Public id.
    #[field(nullable)]
    pub id: Option<i64>,
    /// Image as `docker:name[:tag]`.
    #[field(create, nullable)]
    pub image_uuid: Option<String>,
    /// Linked containers by alias.
    #[field(create, nullable)]
    pub instance_links: Option<BTreeMap<String, Option<Id<Instance>>>>,
    /// Kind of the containers.
    #[field(create, nullable, max_length = 255, default = "container", options = ["container"])]
    pub kind: Option<String>,
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
    #[field(max_length = 255)]
    pub native_container: bool,
    /// Container whose network to share.
    #[field(create, nullable, max_length = 255)]
    pub network_container_id: Option<Id<Container>>,
    /// Networks to join.
    #[field(create, nullable)]
    pub network_ids: Option<Vec<Id<Network>>>,
    /// Launch config of the service whose container's network to share.
    #[field(create, nullable)]
    pub network_launch_config: Option<String>,
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
    /// When it was removed.
    #[field(nullable, max_length = 255)]
    pub removed: Option<Time>,
    /// Host it must run on.
    #[field(create, nullable)]
    pub requested_host_id: Option<Id<Host>>,
    /// Address to take if it is free.
    #[field(create, nullable)]
    pub requested_ip_address: Option<String>,
    /// Security options of Docker.
    #[field(create, nullable)]
    pub security_opt: Option<Vec<String>>,
    /// How often it was started.
    #[field(nullable, max_length = 255)]
    pub start_count: Option<i64>,
    /// Start it right after creation.
    #[field(create, default = true)]
    pub start_on_create: bool,
    /// State.
    #[field(ty = "enum", max_length = 128, options = ["creating", "error", "erroring", "purged", "purging", "removed", "removing", "requested", "restarting", "restoring", "running", "starting", "stopped", "stopping", "updating-running", "updating-stopped"])]
    pub state: Option<String>,
    /// Keep standard input open.
    #[field(create, default = false)]
    pub stdin_open: bool,
    /// Role among the containers of the platform.
    #[field(nullable, max_length = 128, options = ["NetworkAgent", "LoadBalancerAgent"])]
    pub system_container: Option<String>,
    /// Whether a process runs.
    #[field(options = ["yes", "no", "error"])]
    pub transitioning: Option<String>,
    /// What the process is doing.
    #[field(nullable)]
    pub transitioning_message: Option<String>,
    /// Percent done.
    #[field(nullable)]
    pub transitioning_progress: Option<i64>,
    /// Allocate a terminal.
    #[field(create, default = false)]
    pub tty: bool,
    /// User to run as.
    #[field(create, nullable, min_length = 1)]
    pub user: Option<String>,
    /// Unique everywhere.
    #[field(nullable, max_length = 128)]
    pub uuid: Option<String>,
    /// Version of the launch config it was made from.
    #[field(max_length = 255, default = "0")]
    pub version: Option<String>,
    /// Driver of its named volumes.
    #[field(create, nullable)]
    pub volume_driver: Option<String>,
    /// Directory the command starts in.
    #[field(create, nullable, min_length = 1)]
    pub working_dir: Option<String>,
}

impl LaunchConfig {
    /// Names of the launch configs that must run before this one: whose network it joins, whose volumes it mounts.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let volumes = self.data_volumes_from_launch_configs.iter().flatten();
        self.network_launch_config.iter().chain(volumes).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// A launch config beside the primary one: a sidekick. The same fields, and a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecondaryLaunchConfig {
    /// Name, unique among the services and sidekicks of the stack.
    pub name: Option<String>,
    /// What its containers are made from.
    #[serde(flatten)]
    pub config: LaunchConfig,
}

impl Nested for SecondaryLaunchConfig {
    const TYPE: &'static str = "secondaryLaunchConfig";

    fn type_def() -> TypeDef {
        let mut def = LaunchConfig::type_def();
        def.name = Self::TYPE;
        def.description = "A launch config beside the primary one: a sidekick.";
        def.fields.push(Field {
            create: true,
            required: true,
            min_length: Some(1),
            max_length: Some(63),
            valid_chars: Some("a-zA-Z0-9-"),
            description: "Name, unique among the services and sidekicks of the stack.",
            ..Field::new("name", Type::String)
        });
        def
    }
}

impl FieldType for SecondaryLaunchConfig {
    fn field_type() -> Type {
        Type::Nested(Self::TYPE.to_owned())
    }
}
