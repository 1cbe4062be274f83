//! What one balancer shall run: the line between what rules mean (`render`) and how HAProxy is made to follow them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A complete configuration. HAProxy is started in the directory that holds `config` as `haproxy.cfg` and each of
/// `files` at its path, so the configuration names files by these relative paths (`crt certs/main.pem`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// `haproxy.cfg`, servers included. With the lines of `backends` left out it is the same before and after a
    /// change of targets only.
    pub config: String,
    /// Path below the balancer's directory -> bytes: certificates (`*.pem`), lists.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The servers that may come and go while HAProxy runs, by the backend they are in.
    pub backends: BTreeMap<String, Vec<Server>>,
}

/// Words that begin a section of a configuration, wherever they stand first on a line.
pub const SECTIONS: [&str; 17] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "mailers",
    "resolvers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
];

/// One `server` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Unique in its backend, and the same target's for as long as it lives.
    pub name: String,
    pub address: SocketAddr,
    /// The words after the address: `["check", "inter", "2000"]`.
    pub options: Vec<String>,
    /// Takes no new work, keeps what it has.
    pub drain: bool,
}
