//! The image row of a container, and how image references are read (`resources.md` §6.3).

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machines;

/// The image of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "image", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "r", service = "r"))]
#[action(activate, output = "image")]
#[action(create, output = "image")]
#[action(deactivate, output = "image")]
#[action(purge, output = "image")]
#[action(remove, output = "image")]
#[action(restore, output = "image")]
#[action(update, output = "image")]
#[extra_filters(
    checksum = "string",
    format = "string",
    instanceKind = "string",
    isPublic = "enum",
    physicalSizeMb = "int",
    registryCredentialId = "enum",
    url = "string",
    virtualSizeMb = "int"
)]
#[relation(instances, children(of = "instance", by = "imageId"))]
#[relation(volumes, children(of = "volume", by = "imageId"))]
pub struct Image {
    /// The parsed reference.
    #[field(hidden)]
    pub docker_image: Option<Value>,
}
