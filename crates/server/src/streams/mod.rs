//! Client sockets for logs, exec, console, stats, the docker socket and the container proxy (`api-conventions.md`
//! §§15–17). The token says what may be opened; the hub brings the agent's end; here the frames of the two meet.
//!
//! Every copy loop holds one chunk and waits for the slower side, so that a slow reader costs its own connection
//! and nothing else.

mod exec;
mod logs;
mod proxy;
mod raw;
mod stats;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use remuda_runtime::{Clock, Link, Tasks};
use remuda_wire::stream::{Channel, Control, StreamRequest};

use crate::access::{Claim, Tokens};
use crate::hub::sessions::{OpenError, Sessions};

/// What the stream routes need.
#[derive(Clone)]
pub struct Streams {
    pub sessions: Sessions,
    pub tokens: Tokens,
    pub clock: Clock,
    pub tasks: Tasks,
}

/// The routes, with their state. Paths are matched with and without trailing slash.
pub fn routes(streams: Streams) -> Router {
    let mut router = Router::new();
    for path in
        ["/v1/exec", "/v1/logs", "/v1/console", "/v1/dockersocket", "/v1/stats", "/v1/hoststats", "/v1/containerstats"]
    {
        router = router.route(path, get(open)).route(&format!("{path}/"), get(open));
        router = router.route(&format!("{path}/{{*rest}}"), get(open));
    }
    router
        .route("/v1/container-proxy", any(proxy::relay))
        .route("/v1/container-proxy/", any(proxy::relay))
        .route("/v1/container-proxy/{*path}", any(proxy::relay))
        .with_state(streams)
}

/// One answer for every token that opens nothing, before any upgrade.
fn refused() -> Response {
    (StatusCode::UNAUTHORIZED, "Failed authentication").into_response()
}

impl Streams {
    /// The claim of the request's token: query `token`, else Bearer.
    fn claim(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Claim> {
        let from_query =
            query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token=")).map(percent_decode));
        let bearer = || {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            value.strip_prefix("Bearer ").map(str::to_owned)
        };
        let token = from_query.or_else(bearer)?;
        self.tokens.verify(&token, self.clock.now_ms()).ok()
    }
}

/// Tokens are URL-safe; clients that escape them anyway are understood.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        let value =
            escaped.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How bytes travel to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Text frames with base64, the original's default.
    Base64,
    /// Binary frames with raw bytes: subprotocol `binary`.
    Binary,
    /// Chunks with a channel byte, exit status included: subprotocol `remuda.exec.v1`.
    Channels,
}

const BINARY: &str = "binary";
const EXEC_V1: &str = "remuda.exec.v1";

/// Every socket but the proxy: check the token, bring the host's end, upgrade, copy.
async fn open(
    State(streams): State<Streams>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Some(claim) = streams.claim(&headers, query.as_deref()) else { return refused() };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([EXEC_V1, BINARY]),
        Err(_) => return (StatusCode::BAD_REQUEST, "this address speaks WebSocket only").into_response(),
    };
    let request = match claim {
        Claim::ContainerStats { .. } | Claim::HostStats { .. } => return stats::open(streams, claim, upgrade).await,
        Claim::Proxy { .. } => return refused(),
        Claim::Exec { host_id, container, command, stdin, stdout, tty, user, working_dir, env } => {
            let request = StreamRequest::Exec { container, command, stdin, stdout, tty, user, working_dir, env };
            (host_id, request)
        }
        Claim::Logs { host_id, container, follow, lines, since, until } => {
            (host_id, StreamRequest::Logs { container, follow, lines, since, until })
        }
        Claim::Console { host_id, container } => (host_id, StreamRequest::Console { container }),
        Claim::DockerSocket { host_id } => (host_id, StreamRequest::DockerSocket),
    };
    let (host_id, request) = request;
    let link = match streams.sessions.open(host_id, request.clone()).await {
        Ok(link) => link,
        Err(error) => return unavailable(host_id, &error),
    };
    let stop = streams.tasks.clone();
    upgrade.on_upgrade(move |socket| async move {
        let framing = match socket.protocol().and_then(|name| name.to_str().ok()) {
            Some(EXEC_V1) => Framing::Channels,
            Some(BINARY) => Framing::Binary,
            _ => Framing::Base64,
        };
        let copy = async {
            match request {
                StreamRequest::Logs { .. } => logs::copy(socket, link).await,
                StreamRequest::Exec { tty, .. } => exec::copy(socket, link, framing, tty).await,
                _ => raw::copy(socket, link, framing).await,
            }
        };
        tokio::select! {
            biased;
            () = copy => {}
            () = stop.stopping() => {}
        }
    })
}

/// A host that cannot be reached looks like a bad token to old clients: 401 before the upgrade.
fn unavailable(host_id: i64, error: &OpenError) -> Response {
    tracing::info!(host_id, %error, "stream cannot be opened");
    refused()
}

/// Ends a client's socket in order, with a reason people can read.
async fn close(mut socket: WebSocket, code: u16, reason: &str) {
    // A close frame's reason holds 123 bytes at most (RFC 6455 §5.5).
    let mut end = reason.len().min(120);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    drop(socket.send(Message::Close(Some(CloseFrame { code, reason: reason[..end].into() }))).await);
}

/// RFC 6455 §7.4.1.
const NORMAL: u16 = 1000;
const SERVER_ERROR: u16 = 1011;

/// A chunk from the agent, taken apart. Chunks of unknown channels are skipped: the agent may be newer.
enum FromHost {
    Bytes(Channel, bytes::Bytes),
    Control(Control),
    Skipped,
}

fn take_apart(mut chunk: bytes::Bytes) -> FromHost {
    if chunk.is_empty() {
        return FromHost::Skipped;
    }
    let first = chunk.split_to(1)[0];
    match Channel::from_byte(first) {
        Some(Channel::Control) => serde_json::from_slice(&chunk).map_or(FromHost::Skipped, FromHost::Control),
        Some(channel) => FromHost::Bytes(channel, chunk),
        None => FromHost::Skipped,
    }
}

fn chunk(channel: Channel, bytes: &[u8]) -> bytes::Bytes {
    let mut chunk = Vec::with_capacity(bytes.len() + 1);
    chunk.push(channel as u8);
    chunk.extend_from_slice(bytes);
    chunk.into()
}

fn control(message: &Control) -> bytes::Bytes {
    chunk(Channel::Control, &serde_json::to_vec(message).unwrap_or_default())
}

/// Sends one control message to the host; a host that is gone is noticed by the reader.
async fn tell(link: &mut Link, message: &Control) -> bool {
    link.send(control(message)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_tokens_are_understood() {
        for (text, plain) in [("abc", "abc"), ("a%2Eb", "a.b"), ("100%", "100%"), ("%zz", "%zz"), ("%e", "%e")] {
            assert_eq!(percent_decode(text), plain);
        }
    }

    #[test]
    fn chunks_are_taken_apart() {
        assert!(
            matches!(take_apart(chunk(Channel::Stderr, b"x")), FromHost::Bytes(Channel::Stderr, bytes) if &bytes[..] == b"x")
        );
        assert!(matches!(
            take_apart(control(&Control::Exit { code: 3 })),
            FromHost::Control(Control::Exit { code: 3 })
        ));
        assert!(matches!(take_apart(bytes::Bytes::from_static(b"\x09new")), FromHost::Skipped));
        assert!(matches!(take_apart(bytes::Bytes::new()), FromHost::Skipped));
    }
}
