//! Inputs and answers of logs, exec, proxy and stats (`resources.md` §6.12).

use remuda_schema::Nested;
use serde::{Deserialize, Serialize};

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "containerExec", access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ContainerExec {
    /// Connect standard input.
    #[field(create, default = true, transform = "")]
    pub attach_stdin: bool,
    /// Connect standard output and error.
    #[field(create, default = true, transform = "")]
    pub attach_stdout: bool,
    /// Command and arguments to run.
    #[field(create, required, transform = "")]
    pub command: Option<Vec<String>>,
    /// Allocate a terminal.
    #[field(create, default = true, transform = "")]
    pub tty: bool,
    /// Variables for the command, as KEY=VALUE.
    #[field(create, nullable)]
    pub env: Option<Vec<String>>,
    /// User to run as.
    #[field(create, nullable)]
    pub user: Option<String>,
    /// Directory to run in.
    #[field(create, nullable)]
    pub working_dir: Option<String>,
}

/// Which log lines of a container to send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "containerLogs", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ContainerLogs {
    /// Keep sending new lines.
    #[field(create, default = true, transform = "")]
    pub follow: bool,
    /// How many past lines to send.
    #[field(create, nullable, min = 0, default = 100, transform = "")]
    pub lines: Option<i64>,
    /// Nothing older than this, in seconds since the epoch.
    #[field(create, nullable)]
    pub since: Option<i64>,
    /// Nothing newer than this, in seconds since the epoch.
    #[field(create, nullable)]
    pub until: Option<i64>,
}

/// Which port of a container to reach.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "containerProxy", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ContainerProxy {
    /// Port number.
    #[field(create, nullable, min = 0, default = 80, transform = "")]
    pub port: Option<i64>,
    /// `http` or `https`.
    #[field(create, default = "http", transform = "", options = ["http", "https"])]
    pub scheme: Option<String>,
}

/// Where to connect for a stream, and the token for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "hostAccess", access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct HostAccess {
    /// Token for the connection.
    #[field()]
    pub token: Option<String>,
    /// Address to connect to.
    #[field()]
    pub url: Option<String>,
}

/// Where to connect for measurements, and the token for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "statsAccess", access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct StatsAccess {
    /// Token for the connection.
    #[field()]
    pub token: Option<String>,
    /// Address to connect to.
    #[field()]
    pub url: Option<String>,
}
