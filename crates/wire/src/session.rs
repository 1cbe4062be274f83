//! The messages of the agent's one connection.
//!
//! Agent: `Hello`. Server: `Welcome` (with the connection's generation) or `Refused`. Then, in any order: the server
//! sends `Plan` and `Directory` (first as snapshot or as delta from the position named in `Hello`), acknowledges
//! `State` reports, and asks for streams; the agent reports. A state report is repeated until acknowledged; samples
//! are not. A connection that sends nothing for `heartbeat_ms * 3` is dead to the other side.

use serde::{Deserialize, Serialize};

use crate::directory::DirectoryUpdate;
use crate::observe::{BalancerSample, HostFacts, StateReport};
use crate::plan::PlanUpdate;
use crate::stream::StreamOpen;

/// Version of this crate's messages. Raised when an older peer would misunderstand.
pub const PROTOCOL: u32 = 1;

/// Path the agent connects to (WebSocket), with its access key and secret as Basic credentials.
pub const CONNECT_PATH: &str = "/agent/connect";

/// A place in a server's change feed. Another store id, another epoch, or a revision going backwards means: report
/// everything, remove nothing, until the server has compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// Random id of the database.
    pub store: String,
    /// Restore epoch of the database.
    pub epoch: i64,
    pub revision: i64,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Up {
    Hello(Box<Hello>),
    /// "I am here": a sample, never stored as such.
    Heartbeat,
    /// The same, when the server said that it acknowledges them.
    Beat {
        /// Grows by one on each connection.
        number: u64,
    },
    /// Stored facts; repeated until `Down::Ack` names its serial.
    State(StateReport),
    /// Host facts that change slowly; sent on material change or once a minute.
    Facts(Box<HostFacts>),
    /// A consumer on this host now works with that directory revision (withdraw before stop).
    Applied {
        consumer: Consumer,
        revision: i64,
    },
    /// Progress of a pull or build, for people: at most one a second per container.
    Progress {
        uuid: String,
        message: String,
        percent: Option<i64>,
    },
    /// What load balancers did since the last time: samples, for those that did something.
    Balancers {
        samples: Vec<BalancerSample>,
    },
    /// The agent stops on purpose; its containers go on running.
    Stopping {
        reason: String,
    },
    /// A stream the server asked for cannot be had.
    StreamFailed {
        stream: String,
        message: String,
    },
}

/// Who uses the directory on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consumer {
    Dns,
    Routes,
    Balancer,
}

/// First message of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub protocol: u32,
    pub agent_version: String,
    /// The host's own uuid, made once and kept in the state directory.
    pub host_uuid: String,
    /// Identifies the machine and boot, to tell two machines with one identity apart.
    pub machine: String,
    /// The directory the agent holds already, and of which server.
    pub have: Option<Position>,
    /// `docker` or `sim`.
    pub kind: String,
    pub name: Option<String>,
    pub facts: HostFacts,
}

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Down {
    Welcome(Welcome),
    /// The server will not talk to this agent; the reason is for people. The agent retries with backoff when `again`.
    Refused {
        reason: String,
        again: bool,
    },
    Plan(Box<PlanUpdate>),
    Directory(Box<DirectoryUpdate>),
    /// The state report of that serial is stored.
    Ack {
        serial: u64,
    },
    Open(StreamOpen),
    /// The server has heard that beat, and the host counts as there.
    Heard {
        number: u64,
    },
    /// The server stops on purpose; reconnect with backoff.
    Goodbye {
        reason: String,
    },
}

/// The server's answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    pub protocol: u32,
    pub server_version: String,
    /// Connection number from the database; reports of an older generation are refused.
    pub generation: i64,
    pub position: Position,
    /// Public id of the host row, `1h3`.
    pub host_id: String,
    pub heartbeat_ms: u64,
    /// The server answers `Beat`.
    #[serde(default)]
    pub acknowledges_beats: bool,
}
