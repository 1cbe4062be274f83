//! Where data lives (`resources-infra.md` §6.2).

use std::collections::BTreeMap;

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::image::Image;
use crate::instance::Instance;
use crate::machines;
use crate::storage_pool::StoragePool;

/// Where data lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "volume", machine = machines::VOLUME, access(project = "crd", user = "r", admin = "r", service = "crd", agent = "r"))]
#[common(name(create, required, nullable, unique, filter))]
#[action(activate, output = "volume")]
#[action(create, output = "volume")]
#[action(purge, output = "volume")]
#[action(remove, output = "volume")]
#[action(restore, output = "volume")]
#[action(update, output = "volume")]
#[extra_filters(
    allocationState = "string",
    attachedState = "string",
    format = "string",
    offeringId = "enum",
    physicalSizeMb = "int",
    virtualSizeMb = "int",
    zoneId = "enum"
)]
#[relation(mounts, children(of = "mount", by = "volumeId"))]
#[relation(storagePools, list(field = "storagePoolId", to = "storagePool"))]
pub struct Volume {
    /// Driver.
    #[field(create, required)]
    pub driver: Option<String>,
    /// Options of the driver.
    #[field(create, nullable)]
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Id at Docker, or whatever made the resource.
    #[field(nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// The image.
    #[field(nullable, filter)]
    pub image_id: Option<Id<Image>>,
    /// Container it belongs to.
    #[field(nullable, filter)]
    pub instance_id: Option<Id<Instance>>,
    /// A directory of the host.
    #[field(default = false)]
    pub is_host_path: bool,
    /// Where it is.
    #[field(nullable, filter, max_length = 512)]
    pub uri: Option<String>,
    /// Pool the volume lies in.
    #[field(hidden)]
    pub storage_pool_id: Option<Id<StoragePool>>,
    /// Host the volume lies on, for local pools.
    #[field(hidden)]
    pub host_id: Option<Id<Host>>,
    /// 0 for the root of a container, -1 for others.
    #[field(hidden, filter)]
    pub device_number: Option<i64>,
}
