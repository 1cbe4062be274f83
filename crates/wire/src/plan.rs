//! The host plan: what one host shall run. A pure function of the rows; the agent compares it with what its engine
//! reports and acts on the difference. One of our containers that the plan does not mention is left alone and
//! reported: **absence never removes**, only an entry in [`PlanUpdate::removals`] does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::balancer::BalancerPlan;

/// Snapshot (`base` is `None`) or the difference to the plan of revision `base`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanUpdate {
    pub revision: i64,
    pub base: Option<i64>,
    /// New or changed containers; in a snapshot all of them.
    pub containers: Vec<ContainerPlan>,
    /// Containers to delete from the engine; repeated until the agent confirms with `ContainerGone`.
    pub removals: Vec<Removal>,
    /// Uuids no longer in the plan (removal confirmed, or moved away). Says nothing about the engine.
    pub forgotten: Vec<String>,
    /// Named volumes to delete; repeated until confirmed.
    pub volume_removals: Vec<VolumeRemoval>,
    /// The managed network as it applies to this host; `None` in a delta means unchanged.
    pub network: Option<NetworkPlan>,
    /// New or changed balancers; in a snapshot all of them. One is dropped with its container.
    pub balancers: Vec<BalancerPlan>,
}

/// One container the host shall have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPlan {
    /// Identity of the container: label `io.rancher.container.uuid`.
    pub uuid: String,
    /// Public id, `1i7`, for messages and stats.
    pub id: String,
    /// Name as the API shows it.
    pub name: String,
    /// Docker id, when the server knows it (imported containers have no uuid label).
    pub docker_id: Option<String>,
    pub desired: Desired,
    /// Raised by one for each start or restart somebody asked for. A running container whose acknowledged serial is
    /// lower is restarted; a stopped one is started; an exited one with an equal serial is left to `supervise`.
    pub start_serial: i64,
    /// Grace period before the kill.
    pub stop_timeout_seconds: i64,
    /// The agent starts it again when it exits (service containers).
    pub supervise: bool,
    /// Runs to its end once: an exit is success, never started again by the agent.
    pub start_once: bool,
    /// Uuids of containers of this host that must run first (network, volumes from).
    pub after: Vec<String>,
    /// Started by somebody else; never created or re-created by us. `spec` is empty then.
    pub native: bool,
    /// It must never run twice: without an acknowledged heartbeat for that long it does not run here.
    #[serde(default)]
    pub fence_after_ms: Option<i64>,
    pub spec: ContainerSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Desired {
    Running,
    /// Exists or not, but does not run.
    Stopped,
    /// Created, never started (`startOnCreate: false`): nothing is done on the engine yet.
    Nothing,
}

/// Everything the engine needs to create a container (`resources.md` §6.6). Names follow the Engine API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSpec {
    /// Preferred engine name, `r-<name>`; the agent falls back to the uuid when taken.
    pub docker_name: String,
    /// Full reference without the `docker:` prefix.
    pub image: String,
    pub pull: Pull,
    pub secrets: Vec<SecretPlan>,
    pub build: Option<Build>,
    pub command: Option<Vec<String>>,
    pub entry_point: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub domain_name: Option<String>,
    pub tty: bool,
    pub stdin_open: bool,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<PortPlan>,
    pub expose: Vec<String>,
    pub publish_all_ports: bool,
    /// `src:dst[:mode]` or `dst`.
    pub data_volumes: Vec<String>,
    /// Uuids of containers of this host.
    pub volumes_from: Vec<String>,
    pub volume_driver: Option<String>,
    /// Volumes to create (or find) before the container: name, driver, driver options.
    pub volumes: Vec<VolumePlan>,
    pub network: NetworkMode,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    /// Bind our resolver file over `/etc/resolv.conf`.
    pub resolver: bool,
    pub extra_hosts: Vec<String>,
    /// Bridge mode: uuid of the target and alias, given to the engine. Otherwise names come from DNS.
    pub links: Vec<LinkPlan>,
    pub devices: Vec<String>,
    pub restart_policy: Option<RestartPolicy>,
    pub memory: Option<i64>,
    pub memory_swap: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub cpu_set: Option<String>,
    pub pid_mode: Option<String>,
    pub privileged: bool,
    pub read_only: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub log_driver: Option<String>,
    pub log_options: BTreeMap<String, String>,
    pub blkio_devices: Vec<BlkioDevice>,
    pub blkio_weight: Option<i64>,
    pub cgroup_parent: Option<String>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub cpu_set_mems: Option<String>,
    pub dns_opt: Vec<String>,
    pub group_add: Vec<String>,
    /// The engine's own check.
    pub health_check: Option<HealthCheck>,
    pub ipc_mode: Option<String>,
    pub isolation: Option<String>,
    pub memory_reservation: Option<i64>,
    pub memory_swappiness: Option<i64>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: Option<i64>,
    pub pids_limit: Option<i64>,
    pub shm_size: Option<i64>,
    pub stop_signal: Option<String>,
    pub storage_opt: BTreeMap<String, String>,
    pub sysctls: BTreeMap<String, String>,
    pub tmpfs: BTreeMap<String, String>,
    pub ulimits: Vec<Ulimit>,
    pub userns_mode: Option<String>,
    pub uts: Option<String>,
}

/// Limits at one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlkioDevice {
    pub path: String,
    pub weight: Option<i64>,
    pub read_bps: Option<i64>,
    pub write_bps: Option<i64>,
    pub read_iops: Option<i64>,
    pub write_iops: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// A check that the engine runs. What is `None` is the image's, or the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// Empty: the image's.
    pub test: Vec<String>,
    pub interval_seconds: Option<i64>,
    pub timeout_seconds: Option<i64>,
    pub retries: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pull {
    #[default]
    IfMissing,
    /// Before each creation, not before a restart of the same container.
    Always,
}

/// `resources.md` §6.8.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Build {
    pub args: BTreeMap<String, String>,
    /// One the server keeps (`remuda_model::build_context`), or the URL of a tar.
    pub context: Option<String>,
    /// Git URL, fetched by the engine.
    pub remote: Option<String>,
    pub dockerfile: Option<String>,
    pub no_cache: bool,
    pub force_rm: bool,
    pub target: Option<String>,
}

/// A secret as a file of a container. Its value is no part of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretPlan {
    /// Number of its row; the server gives the value for it.
    pub id: i64,
    /// Where it is in the container.
    pub path: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortPlan {
    /// Empty: every address.
    pub bind_address: String,
    /// `None`: exposed, not published.
    pub public: Option<u16>,
    pub private: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkPlan {
    pub alias: String,
    pub target_uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartPolicy {
    pub name: String,
    pub maximum_retry_count: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "camelCase")]
pub enum NetworkMode {
    /// Fixed address on the project's network.
    Managed {
        address: String,
        mac: String,
    },
    #[default]
    Bridge,
    Host,
    None,
    /// Joins the network of another container of this host.
    Container {
        uuid: String,
    },
}

/// The project's network on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPlan {
    /// `10.42.0.0/16`
    pub subnet: String,
    /// `10.42.0.1`
    pub gateway: String,
    /// Of the containers: what fits into a packet between hosts whatever the backend, so that the backend can change
    /// under running containers.
    pub mtu: u32,
    /// How packets get from host to host.
    pub backend: Backend,
    /// Largest packet of the network between the hosts.
    pub underlay_mtu: u32,
    /// UDP port of the hosts; 0: the backend's own.
    pub port: u16,
}

/// How packets get from host to host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Encrypted: the kernel's, else our own.
    #[default]
    Wireguard,
    /// In UDP, in the clear.
    Vxlan,
    /// As they are, where hosts are neighbours.
    HostGw,
}

impl Backend {
    pub const ALL: [Backend; 3] = [Backend::Wireguard, Backend::Vxlan, Backend::HostGw];

    /// Its name, as people choose it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Wireguard => "wireguard",
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
        }
    }

    /// The backend of that name.
    pub fn named(name: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// Its UDP port unless another is chosen; `None`: it has none.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Backend::Wireguard => Some(4500),
            Backend::Vxlan => Some(4789),
            Backend::HostGw => None,
        }
    }

    /// Bytes it puts around each packet.
    pub fn overhead(self) -> u32 {
        match self {
            Backend::Wireguard => 60,
            Backend::Vxlan => 50,
            Backend::HostGw => 0,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumePlan {
    pub name: String,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
}

/// A container to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    pub uuid: String,
    pub docker_id: Option<String>,
    /// Native containers known only by Docker id are matched by it.
    pub volumes: VolumeCleanup,
}

/// Label `io.rancher.container.volume_cleanup_strategy`, decided by the server: these volumes go with the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeCleanup {
    /// Engine volume names; one still in use is left and reported.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRemoval {
    /// Uuid of the volume row.
    pub uuid: String,
    pub name: String,
    pub driver: Option<String>,
}
