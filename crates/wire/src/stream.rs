//! Logs, exec, stats, sockets: the client's WebSocket meets the agent's at the server.
//!
//! The server sends `Down::Open`; the agent dials back `STREAM_PATH/<id>` (WebSocket, its own credentials) and both
//! sides copy until one closes. On that connection every binary message is one chunk: first byte the [`Channel`],
//! the rest raw bytes. Copying waits for the slower side; nothing is buffered beyond one chunk per direction.

use serde::{Deserialize, Serialize};

/// Prefix of the path an agent dials for a stream.
pub const STREAM_PATH: &str = "/agent/streams";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamOpen {
    /// Unguessable.
    pub stream: String,
    /// Base URL of the server where the client waits; `None`: the one this connection leads to.
    pub server: Option<String>,
    pub request: StreamRequest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum StreamRequest {
    Logs {
        /// Docker id, else uuid.
        container: String,
        follow: bool,
        /// Last lines to begin with; `None` for all.
        lines: Option<i64>,
        /// Seconds since the epoch.
        since: Option<i64>,
        until: Option<i64>,
    },
    Exec {
        container: String,
        command: Vec<String>,
        stdin: bool,
        stdout: bool,
        tty: bool,
        user: Option<String>,
        working_dir: Option<String>,
        env: Vec<String>,
    },
    /// Attach to the container's terminal.
    Console {
        container: String,
    },
    /// One JSON array of samples per second (`api-conventions.md` §16). Ids map Docker id to public id; empty: all of the host's.
    ContainerStats {
        containers: std::collections::BTreeMap<String, String>,
    },
    HostStats {
        host_id: String,
    },
    /// Raw bytes to and from the engine's socket.
    DockerSocket,
    /// Raw TCP to `address` (`ip:port`) as seen from the host.
    Tcp {
        address: String,
    },
}

/// First byte of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// Towards the process.
    Stdin = 0,
    /// From the process, or the plain byte stream of sockets; logs of a terminal.
    Stdout = 1,
    Stderr = 2,
    /// JSON [`Control`], either direction.
    Control = 3,
}

impl Channel {
    pub fn from_byte(byte: u8) -> Option<Channel> {
        [Channel::Stdin, Channel::Stdout, Channel::Stderr, Channel::Control]
            .into_iter()
            .find(|channel| *channel as u8 == byte)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Control {
    /// The terminal's size changed (client to process).
    Resize { rows: u16, columns: u16 },
    /// No more input (client to process).
    StdinClosed,
    /// The process ended (last message of an exec).
    Exit { code: i64 },
    /// The container has a terminal: its log is one stream (first message of logs).
    Tty,
    /// The stream ends early; a sentence for people.
    Failed { message: String },
}
