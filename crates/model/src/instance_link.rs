//! A name under which one container knows another (`resources.md` §6.7).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::machines;

/// A name under which one container knows another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "instanceLink", machine = machines::DEFAULT, access(project = "ru", user = "r", admin = "r", service = "ru"))]
#[action(activate, output = "instanceLink")]
#[action(create, output = "instanceLink")]
#[action(deactivate, output = "instanceLink")]
#[action(purge, output = "instanceLink")]
#[action(remove, output = "instanceLink")]
#[action(restore, output = "instanceLink")]
#[action(update, output = "instanceLink")]
#[extra_filters(serviceConsumeMapId = "enum")]
pub struct InstanceLink {
    /// Container it belongs to.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// Alias of the target.
    #[field(nullable, filter)]
    pub link_name: Option<String>,
    /// The linked container.
    #[field(update, nullable, filter, schedules_update)]
    pub target_instance_id: Option<Id<Instance>>,
}
