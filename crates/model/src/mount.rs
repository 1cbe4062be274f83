//! Which volume is mounted where (`resources-infra.md` §6.3).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::machines;
use crate::volume::Volume;

/// A volume mounted in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "mount", machine = machines::MOUNT, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(create, output = "mount")]
#[action(deactivate, output = "mount")]
#[action(remove, output = "mount")]
pub struct Mount {
    /// Container it belongs to.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// Mount path.
    #[field(nullable, filter, max_length = 512)]
    pub path: Option<String>,
    /// `rw` or `ro`.
    #[field(nullable, filter, max_length = 128)]
    pub permissions: Option<String>,
    /// The volume.
    #[field(nullable, filter)]
    pub volume_id: Option<Id<Volume>>,
}
