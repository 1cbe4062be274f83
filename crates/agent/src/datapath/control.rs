//! What the agent says to the datapath over its unix socket: one JSON object per line, one reply line per request, in
//! order. Every request may be repeated.

use std::io;
use std::net::SocketAddr;

use remuda_wire::directory::DirectoryUpdate;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::dns::server::Counts;
use crate::overlay;

/// Raised when an older peer would misunderstand; agent and datapath of different numbers do not work together, and
/// the agent replaces the process.
pub const PROTOCOL: u32 = 3;

/// Longest line taken: a snapshot of a large project. Only the machine's administrator can write to the socket.
const MAX_LINE: usize = 256 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    Status,
    /// The project's directory, as snapshot or difference. `source` names the database and its restore epoch; an
    /// older revision of the same source changes nothing.
    Directory {
        source: String,
        host_uuid: String,
        update: DirectoryUpdate,
    },
    /// The host's name servers; empty: as the host's own `resolv.conf` says, followed when it changes.
    Upstreams {
        servers: Vec<SocketAddr>,
    },
    /// Answers on this address too. When its port is taken, a free one is used: see [`Status::listening`].
    Listen {
        address: SocketAddr,
        what: What,
    },
    /// The way to other hosts.
    Overlay {
        settings: overlay::Settings,
    },
    Stop,
}

/// What is answered on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    Dns,
    Metadata,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            What::Dns => "DNS",
            What::Metadata => "metadata",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reply {
    /// Done; this is how things stand now.
    Status(Box<Status>),
    /// The difference is not based on the revision here: a snapshot is needed.
    WrongBase { have: i64 },
    /// Not done, and why.
    Failed { message: String },
}

/// How the datapath stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub protocol: u32,
    pub version: String,
    pub pid: u32,
    pub source: String,
    /// Revision every answer comes from; `None` before the first directory.
    pub revision: Option<i64>,
    pub n_names: usize,
    pub listening: Vec<Listening>,
    pub upstreams: Vec<SocketAddr>,
    pub counts: Counts,
    /// The way to other hosts.
    pub overlay: overlay::Status,
    /// Addresses it could not listen on when the agent last asked; the agent's own note.
    #[serde(skip)]
    pub refused: Vec<Refused>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub what: What,
    pub asked: SocketAddr,
    pub message: String,
}

/// An address asked for, and the one it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listening {
    pub what: What,
    pub asked: SocketAddr,
    pub bound: SocketAddr,
}

/// The next object; `None` when the other side closed.
pub async fn read<T: for<'a> Deserialize<'a>>(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        line.extend_from_slice(&chunk[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return serde_json::from_slice(&line).map(Some).map_err(io::Error::from);
        }
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a control message is too long"));
        }
    }
}

pub async fn write(writer: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use remuda_wire::directory::{Container, Entry, Key};

    use super::*;

    #[tokio::test]
    async fn messages_survive_the_line() {
        let container = Container { id: 4, links: [("db".to_owned(), 7)].into(), ..Container::default() };
        let update = DirectoryUpdate {
            revision: 9,
            base: Some(3),
            upserts: vec![Entry::Container(container)],
            removed: vec![Key::Stack(2)],
        };
        let sent = [
            Request::Directory { source: "s.0".into(), host_uuid: "h".into(), update },
            Request::Listen { address: "169.254.169.250:42053".parse().unwrap(), what: What::Dns },
            Request::Stop,
        ];
        let mut bytes = Vec::new();
        for request in &sent {
            write(&mut bytes, request).await.unwrap();
        }
        let mut reader = &bytes[..];
        for request in sent {
            assert_eq!(read::<Request>(&mut reader).await.unwrap(), Some(request));
        }
        assert_eq!(read::<Request>(&mut reader).await.unwrap(), None);
        assert!(read::<Request>(&mut &b"{\"type\":\"stop\"}"[..]).await.is_err(), "cut off in the middle");
        assert!(read::<Request>(&mut &b"rubbish\n"[..]).await.is_err());
    }
}
