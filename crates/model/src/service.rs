//! N copies of a container, kept running (`services.md` §1.2). Services of all kinds are rows of one table, and this is
//! the struct that all of them are read through: it has the fields of every kind, hidden where they are not its own.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use remuda_schema::{Id, Nested, Resource, Time};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::health_check::InstanceHealthCheck;
use crate::host::Host;
use crate::instance::Instance;
use crate::labels;
use crate::launch_config::{LaunchConfig, SecondaryLaunchConfig};
use crate::load_balancer_service::{LbConfig, LoadBalancerConfig};
use crate::machines;
use crate::service_common::ServiceCommon;
use crate::service_upgrade::RollingRestartStrategy;

/// A number of equal containers that are kept running.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "service", machine = machines::SERVICE, access(project = "crud", user = "r", admin = "r", service = "crud"))]
#[common(name(
    create,
    update,
    required,
    nullable,
    filter,
    max_length = 63,
    min_length = 1,
    valid_chars = "a-zA-Z0-9-",
    schedules_update
))]
#[action(addservicelink, input = "addRemoveServiceLinkInput", output = "service")]
#[action(removeservicelink, input = "addRemoveServiceLinkInput", output = "service")]
#[action(setservicelinks, input = "setServiceLinksInput", output = "service")]
#[relation(containerStats, computed)]
pub struct Service {
    /// What services of every kind have.
    #[field(flatten)]
    #[serde(flatten)]
    pub common: ServiceCommon,
    /// Sequence number of the last container made.
    #[field(nullable, filter)]
    pub create_index: Option<i64>,
    /// Where its published ports are reached.
    #[field(nullable)]
    pub public_endpoints: Option<Vec<PublicEndpoint>>,
    /// A container that takes the place of another takes its address over.
    #[field(create, nullable)]
    pub retain_ip: Option<bool>,
    /// Whether its containers on a host that is lost are replaced elsewhere. Not given: as the setting says, and except
    /// those whose data is on that host.
    #[field(create, update, nullable, schedules_update)]
    pub replace_lost: Option<bool>,
    /// Its containers must never run twice: a host stops them when the server has not acknowledged it for so many
    /// seconds, and only after that others are made.
    #[field(create, update, nullable, min = 5, schedules_update)]
    pub fence_after: Option<i64>,
    /// How many containers to keep.
    #[field(create, update, default = 1, schedules_update)]
    pub scale: Option<i64>,
    /// How many units to look for, in the place of `scale`.
    #[field(create, update, nullable, schedules_update)]
    pub scale_policy: Option<ScalePolicy>,
    /// How many units the search for a scale has come to.
    #[field(nullable)]
    pub current_scale: Option<i64>,
    /// Which containers of the project it shows besides its own, by label.
    #[field(create, update, nullable, filter, max_length = 4096, schedules_update)]
    pub selector_container: Option<String>,
    /// Which services of the project it is linked to, by label.
    #[field(create, update, nullable, filter, max_length = 4096, schedules_update)]
    pub selector_link: Option<String>,
    /// Sidekicks: each unit has one container of the primary launch config and one of each of these.
    #[field(create)]
    pub secondary_launch_configs: Option<Vec<SecondaryLaunchConfig>>,
    /// What must have come first before this one's containers are made: of `activateservices`, and of compose files.
    #[field(hidden, ty = "json")]
    pub awaited: Vec<Awaited>,
    /// The restart under way.
    #[field(hidden)]
    pub restart: Option<RollingRestartStrategy>,
    /// How often each container, by number, had been started when the restart began.
    #[field(hidden)]
    pub restart_counts: Option<BTreeMap<String, i64>>,
    /// Since when the running upgrade waits for new containers to be up and healthy.
    #[field(hidden)]
    pub ailing_since: Option<Time>,
    /// Policy and hosts with which the search for a scale has ended.
    #[field(hidden)]
    pub scale_found: Option<String>,
    /// Addresses that stay, by launch config and number, when `retainIp` asks for it.
    #[field(hidden)]
    pub retained: BTreeMap<String, String>,
    /// Why the running upgrade rolls back by itself.
    #[field(hidden)]
    pub rollback_reason: Option<String>,
    /// When the next batch of an upgrade or restart begins, once the last one is done.
    #[field(hidden)]
    pub next_batch: Option<Time>,
    /// Secret the service's own containers know.
    #[field(hidden)]
    pub token: Option<String>,
    /// What it adds to the rule of a load balancer that selects it by its labels.
    #[field(create, update, nullable)]
    pub lb_config: Option<LbConfig>,
    /// Of a load balancer: see there.
    #[field(hidden)]
    pub certificate_ids: Option<Vec<Id<Certificate>>>,
    /// Of a load balancer: see there.
    #[field(hidden)]
    pub default_certificate_id: Option<Id<Certificate>>,
    /// Of a load balancer: see there.
    #[field(hidden)]
    pub load_balancer_config: Option<LoadBalancerConfig>,
    /// Of an external service: see there.
    #[field(hidden)]
    pub health_check: Option<InstanceHealthCheck>,
    /// Of an external service: see there.
    #[field(hidden)]
    pub external_ip_addresses: Option<Vec<String>>,
    /// Of an external service: see there.
    #[field(hidden)]
    pub hostname: Option<String>,
}

/// The wire does not know the part: `row.launch_config` reads as it does there.
impl Deref for Service {
    type Target = ServiceCommon;

    fn deref(&self) -> &ServiceCommon {
        &self.common
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut ServiceCommon {
        &mut self.common
    }
}

impl Service {
    /// The launch configs by name, the primary one first. Without an image of its own a service has none; a sidekick
    /// without one is on its way out (`services.md` §11.2).
    pub fn launch_configs(&self) -> Vec<(&str, &LaunchConfig)> {
        let Some(primary) = self.launch_config.as_ref().filter(|config| config.has_image()) else { return Vec::new() };
        let sidekicks = self.secondary_launch_configs.iter().flatten().filter(|sidekick| sidekick.config.has_image());
        let named = sidekicks.filter_map(|sidekick| Some((sidekick.name.as_deref()?, &sidekick.config)));
        [(labels::PRIMARY_LAUNCH_CONFIG, primary)].into_iter().chain(named).collect()
    }

    /// The launch configs of before the last upgrade, as far as it was about them.
    pub fn put_back(&mut self) {
        let Some(strategy) = self.upgrade.as_ref().and_then(|upgrade| upgrade.in_service_strategy.clone()) else {
            return;
        };
        if strategy.launch_config.is_some() {
            self.launch_config = strategy.previous_launch_config;
        }
        if strategy.secondary_launch_configs.is_some() {
            self.secondary_launch_configs = strategy.previous_secondary_launch_configs;
        }
    }

    /// The service it is being upgraded to.
    pub fn upgrades_to(&self) -> Option<i64> {
        Some(self.upgrade.as_ref()?.to_service_strategy.as_ref()?.to_service_id?.number())
    }

    /// One unit on every host that qualifies, whatever the scale says.
    pub fn is_global(&self) -> bool {
        let global = |config: &LaunchConfig| {
            config.labels.as_ref().is_some_and(|of| labels::is_true(&labels::stored(of), labels::SCHEDULER_GLOBAL))
        };
        self.launch_configs().into_iter().any(|(_, config)| global(config))
    }
}

/// A service that comes first, and how far it must have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Awaited {
    pub service: Id<Service>,
    pub until: Until,
}

/// How far a service must have come. Each one includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Until {
    /// It no longer starts.
    #[default]
    Active,
    Healthy,
    /// All its containers ran to their end without a fault.
    Completed,
}

/// As many units as the hosts take, between two bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "scalePolicy", no_list, access(project = "cru", user = "cru", admin = "cru", service = "cru"))]
pub struct ScalePolicy {
    /// Units to add, or to take away again, at a time.
    #[field(create, update, nullable, default = 1, min = 1)]
    pub increment: Option<i64>,
    /// Most units.
    #[field(create, update, nullable, min = 1)]
    pub max: Option<i64>,
    /// Least units.
    #[field(create, update, required, default = 1, min = 1)]
    pub min: Option<i64>,
}

impl ScalePolicy {
    /// Most units of a policy that names no bound: a search has to end.
    pub const UNBOUNDED: i64 = 100;

    pub fn least(&self) -> i64 {
        self.min.unwrap_or(1).max(0)
    }

    pub fn most(&self) -> i64 {
        self.max.unwrap_or(ScalePolicy::UNBOUNDED).max(self.least())
    }

    pub fn step(&self) -> i64 {
        self.increment.unwrap_or(1).max(1)
    }
}

/// A service to link to, and the name it gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceLink", no_list, access(project = "cr", user = "cr", admin = "cr", service = "cr"))]
pub struct ServiceLink {
    /// Name under which the service is known; its own if absent.
    #[field(create, nullable, valid_chars = "a-zA-Z0-9-._")]
    pub name: Option<String>,
    /// The service.
    #[field(create, required)]
    pub service_id: Option<Id<Service>>,
    /// Unique everywhere.
    #[field()]
    pub uuid: Option<String>,
}

/// A link to add or to remove.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "addRemoveServiceLinkInput", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct AddRemoveServiceLinkInput {
    /// The link.
    #[field(create, required)]
    pub service_link: Option<ServiceLink>,
}

/// Links that replace those of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "setServiceLinksInput", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct SetServiceLinksInput {
    /// The links.
    #[field(create, nullable)]
    pub service_links: Option<Vec<ServiceLink>>,
}

/// Where a published port is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "publicEndpoint", no_list, access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct PublicEndpoint {
    /// Host it is on.
    #[field(transform = "")]
    pub host_id: Option<Id<Host>>,
    /// Container it belongs to.
    #[field(transform = "")]
    pub instance_id: Option<Id<Instance>>,
    /// The address.
    #[field()]
    pub ip_address: Option<String>,
    /// Port number.
    #[field(nullable)]
    pub port: Option<i64>,
    /// The service.
    #[field(transform = "")]
    pub service_id: Option<Id<Service>>,
}
