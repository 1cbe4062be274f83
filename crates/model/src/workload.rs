//! What runs in a container, and how: the fields that a container takes over from its launch config.
//!
//! Declared here once, so that a new one is one line for both. Fields that both types have and that are *not* taken
//! over stand in each: a service decides itself how many containers it makes, when they start, and what they link to;
//! the restart policy belongs to the container alone, because a service's containers are restarted by the platform.

use std::collections::BTreeMap;

use remuda_schema::{Fields, Id};
use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::docker::{BlkioDeviceOption, DockerBuild, LogConfig, Ulimit};
use crate::health_check::InstanceHealthCheck;
use crate::host::Host;
use crate::secret::SecretReference;
use crate::volume::Volume;

/// What runs in a container, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Fields)]
#[serde(rename_all = "camelCase", default)]
pub struct Workload {
    /// Limits of single block devices, by path.
    #[field(create, nullable)]
    pub blkio_device_options: Option<BTreeMap<String, BlkioDeviceOption>>,
    /// Relative weight at block devices.
    #[field(create, nullable)]
    pub blkio_weight: Option<i64>,
    /// How to build the image before the container is made.
    #[field(create, nullable)]
    pub build: Option<DockerBuild>,
    /// Linux capabilities to add.
    #[field(create, nullable, options = ["ALL", "AUDIT_CONTROL", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"])]
    pub cap_add: Option<Vec<String>>,
    /// Linux capabilities to drop.
    #[field(create, nullable, options = ["ALL", "AUDIT_CONTROL", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"])]
    pub cap_drop: Option<Vec<String>>,
    /// Control group that the container's own is made in.
    #[field(create, nullable)]
    pub cgroup_parent: Option<String>,
    /// Command and arguments.
    #[field(create, nullable)]
    pub command: Option<Vec<String>>,
    /// Length in microseconds of the period that `cpuQuota` is a part of.
    #[field(create, nullable)]
    pub cpu_period: Option<i64>,
    /// Microseconds of processor time the container may use in each period.
    #[field(create, nullable)]
    pub cpu_quota: Option<i64>,
    /// CPUs the container may use, like `0-2,4`.
    #[field(create, nullable)]
    pub cpu_set: Option<String>,
    /// Memory nodes the container may use, like `0-2,4`.
    #[field(create, nullable)]
    pub cpu_set_mems: Option<String>,
    /// Relative CPU weight.
    #[field(create, nullable)]
    pub cpu_shares: Option<i64>,
    /// Volumes by mount path.
    #[field(create, nullable)]
    pub data_volume_mounts: Option<BTreeMap<String, Id<Volume>>>,
    /// Volumes as `source:path[:mode]`.
    #[field(create, nullable)]
    pub data_volumes: Option<Vec<String>>,
    /// Containers whose volumes to mount.
    #[field(create, nullable)]
    pub data_volumes_from: Option<Vec<Id<Container>>>,
    /// Devices as `host:container[:mode]`.
    #[field(create, nullable)]
    pub devices: Option<Vec<String>>,
    /// Name servers.
    #[field(create, nullable)]
    pub dns: Option<Vec<String>>,
    /// Options of the resolver.
    #[field(create, nullable)]
    pub dns_opt: Option<Vec<String>>,
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
    /// Lines of the hosts file as `name:ip`.
    #[field(create, nullable)]
    pub extra_hosts: Option<Vec<String>>,
    /// Further groups of the user.
    #[field(create, nullable)]
    pub group_add: Option<Vec<String>>,
    /// Check that other hosts make.
    #[field(create, nullable)]
    pub health_check: Option<InstanceHealthCheck>,
    /// Check that Docker itself runs, as `["CMD", ...]` or `["CMD-SHELL", line]`; `["NONE"]` turns off the image's.
    #[field(create, nullable)]
    pub health_cmd: Option<Vec<String>>,
    /// Seconds between two such checks.
    #[field(create, nullable)]
    pub health_interval: Option<i64>,
    /// Failed checks in a row that make a container unhealthy for Docker.
    #[field(create, nullable)]
    pub health_retries: Option<i64>,
    /// Seconds such a check may take.
    #[field(create, nullable)]
    pub health_timeout: Option<i64>,
    /// Host name.
    #[field(create, nullable, filter, min_length = 1)]
    pub hostname: Option<String>,
    /// Image as `docker:name[:tag]`.
    #[field(create, nullable)]
    pub image_uuid: Option<String>,
    /// Whose memory and semaphores to share: `host`, `shareable`, `private`, `container:name`.
    #[field(create, nullable)]
    pub ipc_mode: Option<String>,
    /// How Docker isolates the container; Linux knows `default`.
    #[field(create, nullable)]
    pub isolation: Option<String>,
    /// Labels.
    #[field(create)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Where Docker sends the logs.
    #[field(create, nullable)]
    pub log_config: Option<LogConfig>,
    /// Memory limit in bytes.
    #[field(create, nullable)]
    pub memory: Option<i64>,
    /// Memory in bytes that the scheduler keeps free for it, and that Docker holds it to when the host has little left.
    #[field(create, nullable)]
    pub memory_reservation: Option<i64>,
    /// Limit of memory and swap in bytes; -1 for none.
    #[field(create, nullable)]
    pub memory_swap: Option<i64>,
    /// How eagerly the kernel swaps it out, from 0 to 100; control groups of version 1.
    #[field(create, nullable)]
    pub memory_swappiness: Option<i64>,
    /// Thousandths of a processor that the scheduler keeps free for it.
    #[field(create, nullable, max_length = 255)]
    pub milli_cpu_reservation: Option<i64>,
    /// Container whose network to share.
    #[field(create, nullable, filter)]
    pub network_container_id: Option<Id<Container>>,
    /// Kind of network.
    #[field(create, nullable, default = "managed", options = ["none", "bridge", "host", "managed", "container"])]
    pub network_mode: Option<String>,
    /// Let it wait instead of killing it when its memory is used up; control groups of version 1.
    #[field(create, nullable)]
    pub oom_kill_disable: Option<bool>,
    /// How soon the kernel kills it when the host is out of memory, from -1000 to 1000.
    #[field(create, nullable)]
    pub oom_score_adj: Option<i64>,
    /// `host` to share the process table of the host.
    #[field(create, nullable, options = ["host"])]
    pub pid_mode: Option<String>,
    /// How many processes it may have; -1 for any number.
    #[field(create, nullable)]
    pub pids_limit: Option<i64>,
    /// Ports as `[[ip:]public:]private[/protocol]`.
    #[field(create, nullable)]
    pub ports: Option<Vec<String>>,
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
    /// Secrets it gets as files.
    #[field(create, nullable)]
    pub secrets: Option<Vec<SecretReference>>,
    /// Security options of Docker.
    #[field(create, nullable)]
    pub security_opt: Option<Vec<String>>,
    /// Size of `/dev/shm` in bytes.
    #[field(create, nullable)]
    pub shm_size: Option<i64>,
    /// Keep standard input open.
    #[field(create, default = false)]
    pub stdin_open: bool,
    /// Signal that asks it to stop.
    #[field(create, nullable)]
    pub stop_signal: Option<String>,
    /// Options of the storage driver for its file system.
    #[field(create, nullable)]
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Kernel parameters of its namespaces.
    #[field(create, nullable)]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// File systems in memory: mount options by path.
    #[field(create, nullable)]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// Allocate a terminal.
    #[field(create, default = false)]
    pub tty: bool,
    /// Limits of its processes.
    #[field(create, nullable)]
    pub ulimits: Option<Vec<Ulimit>>,
    /// User to run as.
    #[field(create, nullable, min_length = 1)]
    pub user: Option<String>,
    /// `host` to leave out the engine's mapping of users.
    #[field(create, nullable)]
    pub userns_mode: Option<String>,
    /// `host` to share the host name of the host.
    #[field(create, nullable)]
    pub uts: Option<String>,
    /// Version of the launch config it was made from.
    #[field(filter, default = "0")]
    pub version: Option<String>,
    /// Driver of its named volumes.
    #[field(create, nullable)]
    pub volume_driver: Option<String>,
    /// Directory the command starts in.
    #[field(create, nullable, min_length = 1)]
    pub working_dir: Option<String>,
}
