//! One Docker engine (`resources-infra.md` §3).

use std::collections::BTreeMap;

use remuda_schema::{Id, Nested, Resource, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::machines;
use crate::physical_host::PhysicalHost;
use crate::service::PublicEndpoint;

/// Containers that one Linux bridge takes: `BR_MAX_PORTS` of the kernel is 1024, and none has number 0. Hosts tell it
/// (`bridgePortsMax`), simulated ones do not: they have no bridge.
pub const BRIDGE_PORTS: usize = 1023;

/// One Docker engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "host", machine = machines::DEFAULT, access(project = "rud", user = "r", admin = "r", service = "rud"))]
#[action(activate, output = "host")]
#[action(create, output = "host")]
#[action(deactivate, output = "host")]
#[action(dockersocket, output = "hostAccess")]
#[action(drain, output = "host")]
#[action(evacuate, output = "host")]
#[action(giveup, output = "host")]
#[action(purge, output = "host")]
#[action(remove, output = "host")]
#[action(restore, output = "host")]
#[action(update, output = "host")]
#[extra_filters(computeFree = "int", isPublic = "enum", uri = "string")]
#[relation(instances, children(of = "instance", by = "hostId"))]
#[relation(hostLabels, children(of = "label", by = "hostId"))]
#[relation(ipAddresses, children(of = "ipAddress", by = "hostId"))]
#[relation(storagePools, children(of = "storagePool", by = "hostId"))]
#[relation(containerEvents, children(of = "containerEvent", by = "hostId"))]
#[relation(healthcheckInstanceHostMaps, children(of = "healthcheckInstanceHostMap", by = "hostId"))]
#[relation(serviceEvents, children(of = "serviceEvent", by = "hostId"))]
#[relation(stats, computed)]
#[relation(hostStats, computed)]
#[relation(containerStats, computed)]
pub struct Host {
    /// State of its agent.
    #[field(nullable, filter, max_length = 128)]
    pub agent_state: Option<String>,
    /// Capacity for the scheduler.
    #[field(nullable, filter)]
    pub compute_total: Option<i64>,
    /// Host name.
    #[field()]
    pub hostname: Option<String>,
    /// Facts about the machine.
    #[field()]
    pub info: Option<Value>,
    /// Labels.
    #[field(update, schedules_update)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Machine it runs on.
    #[field(nullable, filter)]
    pub physical_host_id: Option<Id<PhysicalHost>>,
    /// Where its published ports are reached.
    #[field(nullable)]
    pub public_endpoints: Option<Vec<PublicEndpoint>>,
    /// The agent that speaks for the host.
    #[field(hidden)]
    pub agent_id: Option<Id<Agent>>,
    /// Identity the host gave itself.
    #[field(hidden)]
    pub reported_uuid: Option<String>,
    /// Address under which the host is reached.
    #[field(hidden)]
    pub agent_ip: Option<String>,
    /// Why the Docker Engine of the host does not answer.
    #[field(nullable)]
    pub engine_problem: Option<String>,
    /// Since when the host counts as lost: containers of services are replaced elsewhere.
    #[field(nullable)]
    pub lost_since: Option<Time>,
    /// Since when it would count as lost, but too many vanished with it.
    #[field(hidden)]
    pub braked_since: Option<Time>,
    /// When a person said that it is lost.
    #[field(hidden)]
    pub given_up: Option<Time>,
    /// When the next containers of a lost host are replaced.
    #[field(hidden)]
    pub next_moves: Option<Time>,
    /// What is to become of its containers.
    #[field(hidden, ty = "string")]
    pub clearing: Option<Clearing>,
    /// How many containers there were to move when that began.
    #[field(hidden)]
    pub n_to_clear: i64,
    /// Why the managed network cannot be set up on the host.
    #[field(nullable)]
    pub network_problem: Option<String>,
    /// Address of the host itself on the managed network.
    #[field(nullable)]
    pub network_address: Option<String>,
    /// Whether the other hosts answer this one over the managed network.
    #[field(nullable)]
    pub network_peers: Option<Vec<NetworkPeer>>,
    /// Its WireGuard key.
    #[field(hidden)]
    pub network_key: Option<String>,
}

/// Another host as a host sees it over the managed network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "networkPeer", no_list, access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct NetworkPeer {
    /// The other host.
    #[field(transform = "")]
    pub host_id: Option<Id<Host>>,
    /// Whether it answers.
    #[field(options = ["reachable", "unreachable"])]
    pub state: Option<String>,
    /// Since when.
    #[field()]
    pub since: Option<Time>,
}

/// How a host is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clearing {
    /// For maintenance: containers of services are replaced elsewhere first; what cannot be stays.
    Drain,
    /// For good: what cannot be replaced first is stopped first, and stand-alone containers are removed.
    Evacuate,
}
