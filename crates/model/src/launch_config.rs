//! What each container of a service is made from: the container's fields (`services.md` §1.2).

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use remuda_schema::{Id, Nested, Time};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::host::Host;
use crate::instance::Instance;
use crate::network::Network;
use crate::workload::Workload;

/// What each container of a service is made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "launchConfig", no_list, access(project = "cru", user = "cru", admin = "cru", service = "cru"))]
pub struct LaunchConfig {
    /// What they run, and how.
    #[field(flatten)]
    #[serde(flatten)]
    pub workload: Workload,
    /// Owner.
    #[field(nullable, max_length = 255)]
    pub account_id: Option<Id<Account>>,
    /// How many containers to make at once.
    #[field(create, nullable)]
    pub count: Option<i64>,
    /// Sequence number among the containers of a service.
    #[field(nullable, max_length = 255)]
    pub create_index: Option<i64>,
    /// When it was made.
    #[field(nullable, max_length = 255)]
    pub created: Option<Time>,
    /// Launch configs of the service whose containers' volumes to mount.
    #[field(create, nullable)]
    pub data_volumes_from_launch_configs: Option<Vec<String>>,
    /// Unit of the service the container belongs to.
    #[field(nullable, max_length = 128)]
    pub deployment_unit_uuid: Option<String>,
    /// Free text.
    #[field(create, update, nullable, max_length = 1024)]
    pub description: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, max_length = 128)]
    pub external_id: Option<String>,
    /// When it first ran.
    #[field(nullable, max_length = 255)]
    pub first_running: Option<Time>,
    /// Verdict of the health checks.
    #[field(nullable, max_length = 128, options = ["healthy", "unhealthy", "updating-healthy", "updating-unhealthy", "initializing"])]
    pub health_state: Option<String>,
    /// Host it is on.
    #[field(nullable)]
    pub host_id: Option<Id<Host>>,
    /// Public id.
    #[field(nullable)]
    pub id: Option<i64>,
    /// Linked containers by alias.
    #[field(create, nullable)]
    pub instance_links: Option<BTreeMap<String, Option<Id<Instance>>>>,
    /// Kind of the containers.
    #[field(create, nullable, max_length = 255, default = "container", options = ["container"])]
    pub kind: Option<String>,
    /// Started outside Remuda.
    #[field(max_length = 255)]
    pub native_container: bool,
    /// Networks to join.
    #[field(create, nullable)]
    pub network_ids: Option<Vec<Id<Network>>>,
    /// Launch config of the service whose container's network to share.
    #[field(create, nullable)]
    pub network_launch_config: Option<String>,
    /// Address on its first network.
    #[field()]
    pub primary_ip_address: Option<String>,
    /// When it was removed.
    #[field(nullable, max_length = 255)]
    pub removed: Option<Time>,
    /// Address to take if it is free.
    #[field(create, nullable)]
    pub requested_ip_address: Option<String>,
    /// How often it was started.
    #[field(nullable, max_length = 255)]
    pub start_count: Option<i64>,
    /// Start it right after creation.
    #[field(create, default = true)]
    pub start_on_create: bool,
    /// State.
    #[field(ty = "enum", max_length = 128, options = ["creating", "error", "erroring", "purged", "purging", "removed", "removing", "requested", "restarting", "restoring", "running", "starting", "stopped", "stopping", "updating-running", "updating-stopped"])]
    pub state: Option<String>,
    /// Role among the containers of the platform.
    #[field(nullable, max_length = 128, options = ["NetworkAgent", "LoadBalancerAgent"])]
    pub system_container: Option<String>,
    /// Whether a process runs.
    #[field(options = ["yes", "no", "error"])]
    pub transitioning: Option<String>,
    /// What the process is doing.
    #[field(nullable)]
    pub transitioning_message: Option<String>,
    /// Percent done.
    #[field(nullable)]
    pub transitioning_progress: Option<i64>,
    /// Unique everywhere.
    #[field(nullable, max_length = 128)]
    pub uuid: Option<String>,
}

/// The wire does not know the part: `config.image_uuid` reads as it does there.
impl Deref for LaunchConfig {
    type Target = Workload;

    fn deref(&self) -> &Workload {
        &self.workload
    }
}

impl DerefMut for LaunchConfig {
    fn deref_mut(&mut self) -> &mut Workload {
        &mut self.workload
    }
}

impl LaunchConfig {
    /// Whether containers can be made from it.
    pub fn has_image(&self) -> bool {
        let image = self.image_uuid.as_deref().unwrap_or_default();
        let image = image.strip_prefix("docker:").unwrap_or(image);
        !image.is_empty() && !image.starts_with("rancher/none")
    }

    /// Names of the launch configs that must run before this one: whose network it joins, whose volumes it mounts.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let volumes = self.data_volumes_from_launch_configs.iter().flatten();
        self.network_launch_config.iter().chain(volumes).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// A launch config beside the primary one: a sidekick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "secondaryLaunchConfig",
    no_list,
    access(project = "cru", user = "cru", admin = "cru", service = "cru")
)]
pub struct SecondaryLaunchConfig {
    /// Name, unique among the services and sidekicks of the stack.
    #[field(create, required, min_length = 1, max_length = 63, valid_chars = "a-zA-Z0-9-")]
    pub name: Option<String>,
    /// What its containers are made from.
    #[field(flatten)]
    #[serde(flatten)]
    pub config: LaunchConfig,
}
