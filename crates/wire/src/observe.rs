//! What a host reports. *State* is stored and acknowledged; *facts* are stored on material change; samples are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A batch of state changes, in the order they were seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateReport {
    /// Grows by one per report of this connection.
    pub serial: u64,
    /// The complete list of what the engine has, not only changes: what it does not name is gone.
    pub complete: bool,
    pub changes: Vec<StateChange>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StateChange {
    Container(Box<ContainerObserved>),
    /// Not on the engine any more (removed by us on request, or by somebody else).
    ContainerGone {
        uuid: Option<String>,
        docker_id: Option<String>,
    },
    /// A start was tried and did not succeed.
    StartFailed(StartFailed),
    VolumeGone {
        uuid: String,
    },
    /// A volume removal did not succeed; the reason is for people, the removal stays asked for.
    VolumeKept {
        uuid: String,
        reason: String,
    },
    /// The managed network cannot be had on this host: the reason is shown on the host row. `None`: it works.
    Network {
        problem: Option<String>,
    },
    /// What this host found out about a container that it checks.
    Health(Vote),
}

/// The vote of a host on a container (`scheduling-and-health.md` §8.3). Told when it changes, and anew on every
/// connection: the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Vote {
    /// What the directory says the vote is given for.
    pub map: String,
    /// Start of the container that was checked.
    pub run: i64,
    pub healthy: bool,
    /// Why not, for people.
    pub reason: Option<String>,
}

/// One container as the engine has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerObserved {
    /// Our label; `None` for containers started by plain docker.
    pub uuid: Option<String>,
    pub docker_id: String,
    pub status: Status,
    /// Serial of the last start the agent carried out for this container.
    pub start_serial: i64,
    /// Starts the agent made by itself since (supervision).
    pub restarts: i64,
    pub exit_code: Option<i64>,
    pub oom_killed: bool,
    /// Engine's error text of the last start or run.
    pub error: Option<String>,
    /// Milliseconds since the epoch, by the engine's clock.
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// What the engine's own health check says, if it makes one: `starting`, `healthy`, `unhealthy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_health: Option<String>,
    /// A crash loop pauses: next try, milliseconds from now.
    pub next_try_ms: Option<i64>,
    /// Address on the engine's own network (bridge mode).
    pub docker_ip: Option<String>,
    pub ports: Vec<PortObserved>,
    pub mounts: Vec<MountObserved>,
    /// It is a load balancer, and HAProxy does not follow its rules: why.
    pub balancer_problem: Option<String>,
    /// Full inspect answer; sent when the container is new to the server or started anew.
    pub inspect: Option<Arc<Value>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Dead,
}

impl Status {
    /// A process is there.
    pub fn is_up(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortObserved {
    /// Host address of the binding; empty when not published.
    pub bind_address: String,
    pub public: Option<u16>,
    pub private: u16,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountObserved {
    /// Volume name; `None` for a host path.
    pub name: Option<String>,
    pub driver: Option<String>,
    pub source: String,
    pub path: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartFailed {
    pub uuid: String,
    pub start_serial: i64,
    /// Tries so far; after the last one the agent waits for a new serial or plan.
    pub attempts: i64,
    pub last: bool,
    /// Sentence for people, the engine's own words included.
    pub message: String,
}

/// How much one load balancer does: a sample, never stored. Totals begin with the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BalancerSample {
    /// Of its container.
    pub uuid: String,
    /// HTTP requests, and connections where HTTP is not read.
    pub requests: u64,
    /// Answers 5xx, and connections to which no server was found.
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Open now.
    pub connections: u64,
    pub requests_per_second: f64,
    pub errors_per_second: f64,
    /// How long servers took to answer; `None`: nobody asked.
    pub response_ms: Option<f64>,
}

/// Another host as a host sees it over the managed network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerObserved {
    /// Row number of the other host.
    pub host_id: i64,
    pub reachable: bool,
}

/// What a host is (`resources-infra.md` §3.4) and can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostFacts {
    pub hostname: String,
    /// Registered address.
    pub address: Option<String>,
    /// The `info` object of the host resource.
    pub info: Value,
    /// Labels the agent detects; they overwrite same-named ones.
    pub labels: BTreeMap<String, String>,
    /// Labels given at registration; used when the host row is created.
    pub create_labels: BTreeMap<String, String>,
    /// The WireGuard key of this host.
    pub public_key: Option<String>,
    /// The other hosts as seen from here; `None`: not looked at.
    pub peers: Option<Vec<PeerObserved>>,
    /// The managed network works here; else why not.
    pub network_problem: Option<String>,
    /// The container engine answers; else why not.
    pub engine_problem: Option<String>,
}
