//! The row behind each host that its agent connects as (`resources-infra.md` §2).

use remuda_schema::{Id, Resource, Time};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::project::Project;

/// Behind each host: what its agent connects as.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "agent", machine = machines::AGENT, access(admin = "r", service = "r", agent = "r"))]
#[action(activate, output = "agent")]
#[action(create, output = "agent")]
#[action(deactivate, output = "agent")]
#[action(purge, output = "agent")]
#[action(reconnect, output = "agent")]
#[action(remove, output = "agent")]
#[action(restore, output = "agent")]
#[action(update, output = "agent")]
#[relation(hosts, children(of = "host", by = "agentId"))]
#[relation(physicalHosts, children(of = "physicalHost", by = "agentId"))]
#[relation(storagePools, children(of = "storagePool", by = "agentId"))]
pub struct Agent {
    /// Where the agent is; unique.
    #[field(nullable, unique, admin, filter)]
    pub uri: Option<String>,
    /// Kept for clients of the original; always false.
    #[field(admin, default = false)]
    pub managed_config: bool,
    /// Project that owns what the agent reports.
    #[field(hidden)]
    pub resource_account_id: Option<Id<Project>>,
    /// Number of its newest connection; observations of older ones are refused.
    #[field(hidden)]
    pub generation: i64,
    /// The server it is connected to, or was last.
    #[field(hidden)]
    pub server: Option<String>,
    /// When it was last heard of.
    #[field(hidden)]
    pub last_seen: Option<Time>,
    /// Since when it has been silent, as far as that is noticed.
    #[field(hidden)]
    pub silent_since: Option<Time>,
    /// It was stopped on purpose and may be away until then.
    #[field(hidden)]
    pub away_until: Option<Time>,
    /// Directory revision that all consumers of its host work with; stored only while somebody waits for it who cannot
    /// know: the server that decides, when the agent is connected to another.
    #[field(hidden)]
    pub applied: Option<i64>,
}
