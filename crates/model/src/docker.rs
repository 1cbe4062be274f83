//! Values that containers and launch configs pass to Docker.

use std::collections::BTreeMap;

use remuda_schema::Nested;
use serde::{Deserialize, Serialize};

/// When Docker starts a container again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "restartPolicy", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct RestartPolicy {
    /// How often to try with `on-failure`.
    #[field(create)]
    pub maximum_retry_count: Option<i64>,
    /// `no`, `always`, `on-failure` or `unless-stopped`.
    #[field(create, update)]
    pub name: Option<String>,
}

/// Where Docker sends the logs of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "logConfig", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct LogConfig {
    /// Options of the driver.
    #[field(create, nullable, transform = "")]
    pub config: Option<BTreeMap<String, String>>,
    /// Driver.
    #[field(create, nullable, transform = "")]
    pub driver: Option<String>,
}

/// How to build the image of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "dockerBuild", access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct DockerBuild {
    /// Values of the Dockerfile's `ARG`s.
    #[field(create, nullable)]
    pub args: Option<BTreeMap<String, String>>,
    /// The build context: one the server keeps, as `/v1/buildcontexts/HASH`, or the URL of a tar.
    #[field(create, nullable, transform = "")]
    pub context: Option<String>,
    /// Name of the Dockerfile.
    #[field(create, nullable, transform = "")]
    pub dockerfile: Option<String>,
    /// Remove intermediate containers even after a failure.
    #[field(create)]
    pub forcerm: bool,
    /// Build without cache.
    #[field(create)]
    pub nocache: bool,
    /// Git repository to build from.
    #[field(create, nullable, transform = "")]
    pub remote: Option<String>,
    /// Remove intermediate containers.
    #[field(create)]
    pub rm: bool,
    /// Stage of the Dockerfile to build; the last one when absent.
    #[field(create, nullable)]
    pub target: Option<String>,
}

/// Limits of a container at one block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "blkioDeviceOption", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct BlkioDeviceOption {
    /// Bytes a second it may read.
    #[field(create, nullable)]
    pub read_bps: Option<i64>,
    /// Reads a second.
    #[field(create, nullable)]
    pub read_iops: Option<i64>,
    /// Relative weight at the device.
    #[field(create, nullable)]
    pub weight: Option<i64>,
    /// Bytes a second it may write.
    #[field(create, nullable)]
    pub write_bps: Option<i64>,
    /// Writes a second.
    #[field(create, nullable)]
    pub write_iops: Option<i64>,
}

/// One limit of the processes of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "ulimit", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct Ulimit {
    /// How far a process may raise the limit; that of `soft` when absent.
    #[field(create, nullable)]
    pub hard: Option<i64>,
    /// `nofile`, `core`, ...
    #[field(create, required)]
    pub name: Option<String>,
    /// The limit; that of `hard` when absent.
    #[field(create, nullable)]
    pub soft: Option<i64>,
}
