//! Whether a container does what it is for: the check that is asked for, who makes it, and what they report
//! (`scheduling-and-health.md` §8).

use remuda_schema::{Id, Nested, Resource};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::instance::Instance;
use crate::machines;
use crate::workload::Workload;

/// The check of a container, made by other hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "instanceHealthCheck", no_list, access(project = "cr", user = "cr", admin = "cr", service = "cr"))]
pub struct InstanceHealthCheck {
    /// Passed checks in a row with which it is healthy again; 2 if absent.
    #[field(create, nullable)]
    pub healthy_threshold: Option<i64>,
    /// Milliseconds after which a container that never passed a check is removed; it is waited for if absent.
    #[field(create, nullable)]
    pub initializing_timeout: Option<i64>,
    /// Milliseconds between two checks; 2000 if absent.
    #[field(create, nullable)]
    pub interval: Option<i64>,
    /// Name of the check.
    #[field(create, update, nullable, transform = "")]
    pub name: Option<String>,
    /// Port of the container.
    #[field(create, required, nullable, min = 1, max = 65535, transform = "")]
    pub port: Option<i64>,
    /// Details of the strategy `recreateOnQuorum`.
    #[field(create, nullable, transform = "")]
    pub recreate_on_quorum_strategy_config: Option<RecreateOnQuorumStrategyConfig>,
    /// Milliseconds after which a container that has not passed a check since it was started again is removed.
    #[field(create, nullable)]
    pub reinitializing_timeout: Option<i64>,
    /// HTTP request, like `GET /ready HTTP/1.0`, with header lines after `\r\n`; a TCP connection is enough if absent.
    #[field(create, nullable, max_length = 4096, transform = "")]
    pub request_line: Option<String>,
    /// Milliseconds a check may take; 2000 if absent.
    #[field(create, nullable)]
    pub response_timeout: Option<i64>,
    /// What a service does with an unhealthy unit.
    #[field(create, nullable, default = "recreate", options = ["none", "recreate", "recreateOnQuorum"], transform = "")]
    pub strategy: Option<String>,
    /// Failed checks in a row with which it is unhealthy; 3 if absent.
    #[field(create, nullable)]
    pub unhealthy_threshold: Option<i64>,
}

/// When unhealthy units are replaced though others are unhealthy too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "recreateOnQuorumStrategyConfig",
    no_list,
    access(project = "cr", user = "cr", admin = "cr", service = "cr")
)]
pub struct RecreateOnQuorumStrategyConfig {
    /// Units that must be healthy.
    #[field(create, required, nullable, transform = "")]
    pub quorum: Option<i64>,
}

/// What a service does with an unhealthy unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Nothing: people look at it.
    Keep,
    /// Replaces it.
    Recreate,
    /// Replaces it while at least so many units are healthy.
    RecreateOnQuorum(usize),
}

/// How a check is made: what was asked for, and where nothing was, what is usual. Numbers that make no sense are
/// stored as they came and taken for the nearest that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRules {
    pub port: u16,
    pub request_line: Option<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Passes in a row to go up.
    pub rise: u32,
    /// Failures in a row to go down.
    pub fall: u32,
}

const MOST_MS: u64 = 24 * 60 * 60 * 1000;
const MOST_IN_A_ROW: u32 = 1000;

impl InstanceHealthCheck {
    /// How it is made; `None` without a port that there is.
    pub fn rules(&self) -> Option<CheckRules> {
        let within = |given: Option<i64>, usual: u64, least: u64, most: u64| {
            given.map_or(usual, |number| u64::try_from(number).unwrap_or(0)).clamp(least, most)
        };
        let row = |given, usual| u32::try_from(within(given, usual, 1, u64::from(MOST_IN_A_ROW))).unwrap_or(1);
        Some(CheckRules {
            port: self.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?,
            request_line: self.request_line.clone().filter(|line| !line.trim().is_empty()),
            interval_ms: within(self.interval, 2000, 100, MOST_MS),
            timeout_ms: within(self.response_timeout, 2000, 1, MOST_MS),
            rise: row(self.healthy_threshold, 2),
            fall: row(self.unhealthy_threshold, 3),
        })
    }

    pub fn strategy(&self) -> Strategy {
        match self.strategy.as_deref() {
            Some("none") => Strategy::Keep,
            Some("recreateOnQuorum") => {
                let config = self.recreate_on_quorum_strategy_config.as_ref();
                let quorum = config.and_then(|config| config.quorum).unwrap_or(1);
                Strategy::RecreateOnQuorum(usize::try_from(quorum).unwrap_or(0))
            }
            _ => Strategy::Recreate,
        }
    }
}

impl Workload {
    /// The check that other hosts make: they reach only containers of the managed network.
    pub fn check(&self) -> Option<&InstanceHealthCheck> {
        self.health_check.as_ref().filter(|_| self.network_mode.as_deref() == Some("managed"))
    }
}

impl Workload {
    /// The engine makes a check of its own, by the wish of whoever made the container, and nobody else does.
    pub fn has_engine_check(&self) -> bool {
        let asked = self.health_cmd.as_ref().and_then(|command| command.first());
        self.health_check.is_none() && asked.is_some_and(|word| word != "NONE")
    }
}

/// A host that checks a container, and its vote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "healthcheckInstanceHostMap", machine = machines::MAP, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(create, output = "healthcheckInstanceHostMap")]
#[action(remove, output = "healthcheckInstanceHostMap")]
#[extra_filters(healthcheckInstanceId = "enum")]
pub struct HealthcheckInstanceHostMap {
    /// When the vote was cast, in seconds by the host's clock.
    #[field(nullable, filter, admin)]
    pub external_timestamp: Option<i64>,
    /// Vote of the host: `healthy` or `unhealthy`.
    #[field(nullable, filter, max_length = 128)]
    pub health_state: Option<String>,
    /// Host that checks.
    #[field(nullable, filter)]
    pub host_id: Option<Id<Host>>,
    /// Container that is checked.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// Why the vote is no, as the host found it.
    #[field(nullable, max_length = 255)]
    pub reason: Option<String>,
    /// Start of the container that the vote is about, by `startCount`.
    #[field(hidden)]
    pub run: i64,
}

/// What a host reports about a container that it checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceEvent", machine = machines::CREATE_REMOVE, access(project = "r", user = "r", admin = "r", service = "r", agent = "cr"))]
#[action(create, output = "serviceEvent")]
#[action(remove, output = "serviceEvent")]
#[extra_filters(healthcheckInstanceId = "enum")]
pub struct ServiceEvent {
    /// When it was found, in seconds by the host's clock.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub external_timestamp: Option<i64>,
    /// Number of the map that the report is about, `_`, and of the start of the container.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub healthcheck_uuid: Option<String>,
    /// Host that reports.
    #[field(nullable, filter)]
    pub host_id: Option<Id<Host>>,
    /// Container that is checked.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// `UP`, `INIT`, or anything else for a failed check.
    #[field(nullable, filter, roles(agent = "cr"))]
    pub reported_health: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_is_as_usual_and_nonsense_is_near_it() {
        let check = InstanceHealthCheck { port: Some(80), ..InstanceHealthCheck::default() };
        let usual = CheckRules { port: 80, request_line: None, interval_ms: 2000, timeout_ms: 2000, rise: 2, fall: 3 };
        assert_eq!(check.rules(), Some(usual.clone()));
        assert_eq!(check.strategy(), Strategy::Recreate);
        let odd = InstanceHealthCheck {
            interval: Some(-5),
            response_timeout: Some(i64::MAX),
            healthy_threshold: Some(0),
            unhealthy_threshold: Some(1 << 40),
            request_line: Some(" ".into()),
            ..check
        };
        let near = CheckRules { interval_ms: 100, timeout_ms: MOST_MS, rise: 1, fall: MOST_IN_A_ROW, ..usual };
        assert_eq!(odd.rules(), Some(near));
        for port in [None, Some(0), Some(65_536), Some(-1)] {
            assert_eq!(InstanceHealthCheck { port, ..odd.clone() }.rules(), None, "{port:?}");
        }
    }

    #[test]
    fn strategies_are_read_by_name() {
        let of = |name: &str, quorum: Option<i64>| {
            let config = quorum.map(|quorum| RecreateOnQuorumStrategyConfig { quorum: Some(quorum) });
            let check = InstanceHealthCheck {
                strategy: Some(name.into()),
                recreate_on_quorum_strategy_config: config,
                ..InstanceHealthCheck::default()
            };
            check.strategy()
        };
        assert_eq!(of("none", None), Strategy::Keep);
        assert_eq!(of("recreateOnQuorum", None), Strategy::RecreateOnQuorum(1));
        assert_eq!(of("recreateOnQuorum", Some(3)), Strategy::RecreateOnQuorum(3));
        assert_eq!(of("recreate", Some(3)), Strategy::Recreate);
    }
}
