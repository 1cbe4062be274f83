//! How an agent reaches its server: over WebSockets, or within one process.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use remuda_runtime::link::Closed;
use remuda_runtime::{Link, Seams};
use remuda_wire::frame::MAX_MESSAGE_BYTES;
use remuda_wire::session::CONNECT_PATH;
use remuda_wire::stream::{STREAM_PATH, StreamOpen};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::engine::Tar;
use crate::fetch;
use crate::state_dir::Keys;
use crate::tls;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("server URL `{url}` cannot be used: {reason}")]
    Url { url: String, reason: String },
    #[error("cannot connect to {url}: {reason}")]
    Connect { url: String, reason: String },
    #[error("{url} does not take this agent's key (HTTP {status}): it was removed, or belongs to another server")]
    Denied { url: String, status: u16 },
    #[error("connecting to {url} took longer than {seconds} s")]
    Slow { url: String, seconds: u64 },
}

/// Where connections come from.
pub trait Source: Send + Sync + 'static {
    /// The agent's one connection.
    fn connect(&self) -> BoxFuture<'_, Result<Link, Error>>;
    /// The far end of a stream somebody waits for.
    fn stream<'a>(&'a self, open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, Error>>;
    /// A file of the server, by its path there. Sources within one process have none to give.
    fn fetch(&self, path: String) -> BoxFuture<'_, Result<Tar, String>> {
        Box::pin(async move { Err(format!("{path} does not come over this connection")) })
    }
}

const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// A ping that often keeps the connection, and whatever is between, awake.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Nothing heard for that long, not even an answer to a ping: the connection is dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
/// Messages in each direction between the socket and its user.
const QUEUE: usize = 4;

/// Over WebSockets, with the agent's key as Basic credentials.
#[derive(Clone)]
pub struct WebSockets {
    seams: Seams,
    keys: Keys,
}

impl WebSockets {
    pub fn new(seams: Seams, keys: Keys) -> WebSockets {
        tls::provider_choose();
        WebSockets { seams, keys }
    }

    async fn dial(&self, base: &str, path: &str) -> Result<Link, Error> {
        let url = web_socket_url(base, path)?;
        let failed = |reason: String| Error::Connect { url: url.clone(), reason };
        let mut request = url.as_str().into_client_request().map_err(|error| failed(error.to_string()))?;
        let credentials = format!("{}:{}", self.keys.access_key, self.keys.secret_key);
        let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
        let mut value =
            HeaderValue::try_from(format!("Basic {credentials}")).map_err(|error| failed(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
        let connected = tokio::select! {
            biased;
            connected = connecting => connected,
            () = self.seams.clock.sleep(CONNECT_LIMIT) => {
                return Err(Error::Slow { url, seconds: CONNECT_LIMIT.as_secs() });
            }
        };
        match connected {
            Ok((socket, _)) => Ok(pump(&self.seams, socket)),
            Err(tungstenite::Error::Http(answer)) => Err(match answer.status() {
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    Error::Denied { url, status: status.as_u16() }
                }
                status => Error::Connect { url, reason: format!("it answers HTTP {status}") },
            }),
            Err(other) => Err(failed(other.to_string())),
        }
    }
}

impl Source for WebSockets {
    fn connect(&self) -> BoxFuture<'_, Result<Link, Error>> {
        Box::pin(self.dial(&self.keys.url, CONNECT_PATH))
    }

    fn stream<'a>(&'a self, open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, Error>> {
        Box::pin(async move {
            let base = open.server.as_deref().unwrap_or(&self.keys.url);
            self.dial(base, &format!("{STREAM_PATH}/{}", open.stream)).await
        })
    }

    fn fetch(&self, path: String) -> BoxFuture<'_, Result<Tar, String>> {
        Box::pin(async move { fetch::get(&self.keys, &path).await })
    }
}

/// `http://h:8080/v1` and `/agent/connect` make `ws://h:8080/agent/connect`.
fn web_socket_url(base: &str, path: &str) -> Result<String, Error> {
    let odd = |reason: &str| Error::Url { url: base.to_owned(), reason: reason.to_owned() };
    let base = base.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let (scheme, rest) = base.split_once("://").ok_or_else(|| odd("it does not begin with http:// or https://"))?;
    let scheme = match scheme {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err(odd("it does not begin with http:// or https://")),
    };
    if rest.is_empty() {
        return Err(odd("it names no host"));
    }
    Ok(format!("{scheme}://{rest}{path}"))
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A link whose two directions never wait for each other: each has a task, so a server that is slow to read cannot
/// keep us from reading what it says.
fn pump(seams: &Seams, socket: Socket) -> Link {
    let (user, ours) = Link::pair(QUEUE);
    let (mut to_socket, mut from_socket) = socket.split();
    let (mut to_user, mut from_user) = (ours.sender, ours.receiver);
    let writer_clock = seams.clock.clone();
    let (dead, died) = tokio::sync::oneshot::channel::<()>();
    seams.tasks.spawn("socket-writer", async move {
        let mut died = died;
        // Whatever else is sent: the server may have nothing to say for long, and only its pongs tell that it is there.
        let mut ping_at = writer_clock.instant() + PING_EVERY;
        loop {
            let until_ping = ping_at.saturating_duration_since(writer_clock.instant());
            let message = tokio::select! {
                biased;
                _ = &mut died => break,
                () = writer_clock.sleep(until_ping) => {
                    ping_at = writer_clock.instant() + PING_EVERY;
                    Message::Ping(Bytes::new())
                }
                message = from_user.next() => match message {
                    Some(Ok(message)) => Message::Binary(message),
                    _ => break,
                },
            };
            // A peer that reads nothing at all fills the kernel's buffer; the reader notices its silence.
            let sent = tokio::select! {
                biased;
                _ = &mut died => break,
                sent = to_socket.send(message) => sent,
            };
            if sent.is_err() {
                break;
            }
        }
        let closing = to_socket.close();
        tokio::select! {
            biased;
            _ = closing => {}
            () = writer_clock.sleep(Duration::from_secs(1)) => {}
        }
    });
    let clock = seams.clock.clone();
    seams.tasks.spawn("socket-reader", async move {
        loop {
            let message = tokio::select! {
                biased;
                message = from_socket.next() => message,
                () = clock.sleep(SILENCE_LIMIT) => None,
            };
            let bytes = match message {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Text(text))) => Bytes::from(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            };
            if to_user.send(bytes).await.is_err() {
                break;
            }
        }
        drop(dead);
    });
    user
}

/// What the server's side of an in-process connection receives.
pub enum Incoming {
    Connect(Link),
    Stream { id: String, link: Link },
}

/// Within one process (`--dev`, simulation): links arrive at the receiver that [`in_process`] gives.
#[derive(Clone)]
pub struct InProcess {
    incoming: mpsc::Sender<Incoming>,
}

/// A source and the end where its links arrive.
pub fn in_process() -> (InProcess, mpsc::Receiver<Incoming>) {
    let (incoming, arriving) = mpsc::channel(16);
    (InProcess { incoming }, arriving)
}

impl InProcess {
    async fn offer(&self, incoming: Incoming, link: Link) -> Result<Link, Error> {
        let sent = self.incoming.send(incoming).await;
        sent.map(|()| link).map_err(|_| Error::Connect {
            url: "the server in this process".to_owned(),
            reason: Closed("it has ended".to_owned()).to_string(),
        })
    }
}

impl Source for InProcess {
    fn connect(&self) -> BoxFuture<'_, Result<Link, Error>> {
        let (ours, theirs) = Link::pair(64);
        Box::pin(self.offer(Incoming::Connect(theirs), ours))
    }

    fn stream<'a>(&'a self, open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, Error>> {
        // Nothing is buffered beyond one chunk per direction.
        let (ours, theirs) = Link::pair(1);
        Box::pin(self.offer(Incoming::Stream { id: open.stream.clone(), link: theirs }, ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_turned_into_socket_urls() {
        let check = |base: &str, expected: &str| {
            assert_eq!(web_socket_url(base, "/agent/connect").as_deref(), Ok(expected), "{base}");
        };
        check("http://h:8080/v1", "ws://h:8080/agent/connect");
        check("https://h/", "wss://h/agent/connect");
        check("http://h:8080/prefix/v1/", "ws://h:8080/prefix/agent/connect");
        assert!(web_socket_url("h:8080", "/x").is_err());
        assert!(web_socket_url("ftp://h", "/x").is_err());
        assert!(web_socket_url("http://", "/x").is_err());
    }

    fn keys(url: String) -> Keys {
        Keys { url, access_key: "a".into(), secret_key: "s".into() }
    }

    #[tokio::test]
    #[expect(clippy::result_large_err, reason = "the shape of the library's callback")]
    async fn messages_travel_over_a_real_socket_with_credentials() {
        use tungstenite::handshake::server::{Request, Response};
        let seams = Seams::real();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let url = format!("http://{}/v1", listener.local_addr().expect("has an address"));
        seams.tasks.spawn_until_stopped("server", async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let check = |request: &Request, response: Response| {
                assert_eq!(request.uri().path(), "/agent/connect");
                assert_eq!(request.headers()[header::AUTHORIZATION], "Basic YTpz");
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, check).await.expect("a WebSocket");
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() {
                    socket.send(message).await.expect("sent");
                }
            }
            // The next one is not let in.
            let (mut stream, _) = listener.accept().await.expect("a connection");
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            drop(stream.read(&mut [0; 4096]).await);
            drop(stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await);
            drop(stream.shutdown().await);
        });
        let source = WebSockets::new(seams.clone(), keys(url));
        let mut link = source.connect().await.expect("connects");
        let large = Bytes::from(vec![7; 3 << 20]);
        for message in [Bytes::from_static(b"hello"), large] {
            link.send(message.clone()).await.expect("sent");
            assert_eq!(link.receive().await, Some(Ok(message)));
        }
        drop(link);
        assert!(matches!(source.connect().await, Err(Error::Denied { status: 401, .. })));
        assert!(seams.tasks.shut_down(Duration::from_secs(5)).await);
    }
}
