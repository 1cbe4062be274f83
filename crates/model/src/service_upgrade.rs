//! How the containers of a service are exchanged for others (`services.md` §1.2, §11).

use remuda_schema::{Id, Nested};
use serde::{Deserialize, Serialize};

use crate::launch_config::{LaunchConfig, SecondaryLaunchConfig};
use crate::service::Service;

/// What to upgrade, and how: the input of `upgrade`, and what the service keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceUpgrade", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ServiceUpgrade {
    /// New containers in the same service.
    #[field(create, nullable, transform = "")]
    pub in_service_strategy: Option<InServiceUpgradeStrategy>,
    /// Another service takes over.
    #[field(create, nullable, transform = "")]
    pub to_service_strategy: Option<ToServiceUpgradeStrategy>,
}

/// New containers take the place of the old ones, some at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "inServiceUpgradeStrategy", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct InServiceUpgradeStrategy {
    /// Finish as soon as all is exchanged: nothing is kept for a rollback.
    #[field(create, default = false)]
    pub auto_finish: bool,
    /// How many units are exchanged together.
    #[field(create, nullable, default = 1, min = 1, transform = "")]
    pub batch_size: Option<i64>,
    /// Pause between batches, in milliseconds.
    #[field(create, nullable, default = 2000, min = 100, transform = "")]
    pub interval_millis: Option<i64>,
    /// The new launch config.
    #[field(create, nullable)]
    pub launch_config: Option<LaunchConfig>,
    /// The launch config before.
    #[field(nullable)]
    pub previous_launch_config: Option<LaunchConfig>,
    /// The sidekicks before.
    #[field()]
    pub previous_secondary_launch_configs: Option<Vec<SecondaryLaunchConfig>>,
    /// Roll back by itself when new containers are not up and healthy for so long, in milliseconds; never if absent.
    #[field(create, nullable, min = 1000)]
    pub rollback_after_millis: Option<i64>,
    /// The new launch configs of sidekicks.
    #[field(create)]
    pub secondary_launch_configs: Option<Vec<SecondaryLaunchConfig>>,
    /// Start the new containers of a batch before the old ones are stopped.
    #[field(create, default = false, transform = "")]
    pub start_first: bool,
}

/// Another service grows while this one shrinks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "toServiceUpgradeStrategy", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ToServiceUpgradeStrategy {
    /// How many units are added or taken away together.
    #[field(create, nullable, default = 1, min = 1, transform = "")]
    pub batch_size: Option<i64>,
    /// Scale of the other service in the end.
    #[field(create, nullable, default = 1, min = 1, transform = "")]
    pub final_scale: Option<i64>,
    /// Pause between rounds, in milliseconds.
    #[field(create, nullable, default = 2000, min = 100, transform = "")]
    pub interval_millis: Option<i64>,
    /// The other service.
    #[field(create, transform = "")]
    pub to_service_id: Option<Id<Service>>,
    /// Whoever is linked to this service is linked to the other one, too.
    #[field(create)]
    pub update_links: Option<bool>,
}

impl InServiceUpgradeStrategy {
    /// Version of the launch configs that are exchanged.
    pub fn version(&self) -> Option<&str> {
        let sidekicks = self.secondary_launch_configs.iter().flatten().map(|sidekick| &sidekick.config);
        self.launch_config.iter().chain(sidekicks).find_map(|config| config.version.as_deref())
    }
}

/// How to restart a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceRestart", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ServiceRestart {
    /// Some units at a time.
    #[field(create, required, transform = "")]
    pub rolling_restart_strategy: Option<RollingRestartStrategy>,
}

/// Containers are stopped and started again, some units at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "rollingRestartStrategy", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct RollingRestartStrategy {
    /// How many units are down together.
    #[field(create, nullable, default = 1, min = 1, transform = "")]
    pub batch_size: Option<i64>,
    /// Pause between batches, in milliseconds.
    #[field(create, nullable, default = 2000, min = 100, transform = "")]
    pub interval_millis: Option<i64>,
}
