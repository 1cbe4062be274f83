//! What services of every kind have (`services.md` §1.2): containers, balancers, aliases, external ones.

use std::collections::BTreeMap;

use remuda_schema::{Fields, Id};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::launch_config::LaunchConfig;
use crate::service_upgrade::ServiceUpgrade;
use crate::stack::Stack;

/// What services of every kind have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Fields)]
#[serde(rename_all = "camelCase", default)]
#[action(activate, output = "service")]
#[action(cancelrollback, output = "service")]
#[action(cancelupgrade, output = "service")]
#[action(create, output = "service")]
#[action(deactivate, output = "service")]
#[action(finishupgrade, output = "service")]
#[action(remove, output = "service")]
#[action(restart, input = "serviceRestart", output = "service")]
#[action(rollback, output = "service")]
#[action(update, output = "service")]
#[action(upgrade, input = "serviceUpgrade", output = "service")]
#[relation(serviceExposeMaps, children(of = "serviceExposeMap", by = "serviceId"))]
#[relation(instances, through(to = "instance", through = "serviceExposeMap", from = "serviceId", via = "instanceId"))]
#[relation(
    consumedservices,
    through(to = "service", through = "serviceConsumeMap", from = "serviceId", via = "consumedServiceId")
)]
#[relation(
    consumedbyservices,
    through(to = "service", through = "serviceConsumeMap", from = "consumedServiceId", via = "serviceId")
)]
pub struct ServiceCommon {
    /// Stack it belongs to.
    #[field(create, required, filter)]
    pub environment_id: Option<Id<Stack>>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter)]
    pub external_id: Option<String>,
    /// Name in public DNS.
    #[field(nullable)]
    pub fqdn: Option<String>,
    /// Verdict of the health checks.
    #[field(nullable, filter, max_length = 128)]
    pub health_state: Option<String>,
    /// What its containers are made from; of services without containers only the labels count.
    #[field(create, nullable)]
    pub launch_config: Option<LaunchConfig>,
    /// Free-form values its containers can read.
    #[field(create, update, nullable, schedules_update)]
    pub metadata: Option<BTreeMap<String, Value>>,
    /// Start it right after creation.
    #[field(create, nullable, default = false)]
    pub start_on_create: Option<bool>,
    /// The running or last upgrade.
    #[field(nullable)]
    pub upgrade: Option<Box<ServiceUpgrade>>,
}
