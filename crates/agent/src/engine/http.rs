//! The Engine API's transport: HTTP over a unix socket or TCP, one connection per call.
//!
//! Our own on hyper, not a Docker client library (`docs/decisions/docker-client.md`): answers stay JSON, whatever a
//! newer engine adds to its enums; a terminal's bytes are told from framed ones by what the container is, not by
//! guessing from the first byte; and nothing is collected that a reader did not ask for.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::body::{Body, Frame, Incoming};
use hyper::header;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use remuda_runtime::Seams;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};

use crate::engine::{Chunk, Error, Output, Socket};

/// An ordinary answer beyond this is not one.
const MOST_ANSWER_BYTES: usize = 64 << 20;
/// One line of a stream of JSON.
const MOST_LINE_BYTES: usize = 4 << 20;
/// A framed piece up to this size is handed on whole, so that log lines stay whole.
const WHOLE_FRAME_BYTES: usize = 64 << 10;
const PIECE_BYTES: usize = 16 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// A docker host that cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("docker host `{0}` cannot be used; give unix:///PATH or tcp://HOST:PORT")]
pub struct BadAddress(pub String);

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            Some(("tcp" | "http", rest)) => {
                let authority = rest.trim_end_matches('/');
                let has_port = authority
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                has_port.then(|| Address::Tcp(authority.to_owned())).ok_or_else(bad)
            }
            None if text.starts_with('/') => Ok(Address::Unix(text.into())),
            _ => Err(bad()),
        }
    }
}

/// Body of a request.
pub enum Payload {
    None,
    Json(Value),
    /// A tar, as it arrives.
    Tar(BoxStream<'static, io::Result<Bytes>>),
}

/// The engine at one address.
#[derive(Clone)]
pub struct Client {
    address: Address,
    seams: Seams,
}

impl Client {
    pub fn new(address: Address, seams: Seams) -> Client {
        Client { address, seams }
    }

    /// A raw connection.
    pub async fn dial(&self) -> Result<Box<dyn Socket>, Error> {
        let connecting = async {
            Ok(match &self.address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?) as Box<dyn Socket>,
                Address::Tcp(authority) => Box::new(TcpStream::connect(authority).await?) as Box<dyn Socket>,
            })
        };
        let name = match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(authority) => authority.clone(),
        };
        let connected: io::Result<_> = self.within(CONNECT_LIMIT, connecting).await?;
        connected.map_err(|error| Error::Unreachable(format!("{name}: {error}")))
    }

    /// A call with an ordinary answer; `Null` when it has no body.
    pub async fn call(&self, method: Method, path: &str, payload: Payload, limit: Duration) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        let answering = async {
            let answer = self.open(method, path, payload, false).await?;
            let body = collect(answer.into_body()).await?;
            Ok::<Bytes, Error>(body)
        };
        let body = self.within(limit, answering).await??;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Error::Odd { call: what, reason: error.to_string() })
    }

    /// A call whose answer is a stream of JSON values.
    pub async fn values(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<BoxStream<'static, Result<Value, Error>>, Error> {
        let what = format!("{method} {path}");
        Ok(lines(self.open(method, path, payload, false).await?.into_body(), what))
    }

    /// A call whose answer is a container's output.
    pub async fn output(&self, path: &str, tty: bool) -> Result<Output, Error> {
        let body = self.open(Method::GET, path, Payload::None, false).await?.into_body();
        let bytes = pieces(body).map(|piece| piece.map_err(io::Error::other));
        Ok(output(tokio_util::io::StreamReader::new(bytes.boxed()), tty))
    }

    /// A call that turns the connection into a raw one.
    pub async fn upgrade(&self, path: &str, payload: Payload) -> Result<impl Socket + 'static, Error> {
        let answer = self.open(Method::POST, path, payload, true).await?;
        let upgraded = hyper::upgrade::on(answer).await;
        upgraded.map(TokioIo::new).map_err(|error| Error::Unreachable(error.to_string()))
    }

    /// Sends a request; an answer that is a refusal is the error.
    async fn open(
        &self,
        method: Method,
        path: &str,
        payload: Payload,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Error> {
        let what = format!("{method} {path}");
        let odd = |reason: String| Error::Odd { call: what.clone(), reason };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let body = match payload {
            Payload::None => RequestBody::whole(Bytes::new()),
            Payload::Json(value) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                RequestBody::whole(serde_json::to_vec(&value).map_err(|error| odd(error.to_string()))?.into())
            }
            Payload::Tar(stream) => {
                request = request.header(header::CONTENT_TYPE, "application/x-tar");
                RequestBody::Streamed(stream)
            }
        };
        let request = request.body(body).map_err(|error| odd(error.to_string()))?;
        let gone = |error: hyper::Error| Error::Unreachable(error.to_string());
        let socket = self.dial().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(gone)?;
        // Ends when the answer was read or dropped.
        self.seams.tasks.spawn_until_stopped("engine-connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the engine broke");
            }
        });
        let answer = sender.send_request(request).await.map_err(gone)?;
        let status = answer.status();
        if status.is_success() || status.as_u16() == 101 || status.as_u16() == 304 {
            return Ok(answer);
        }
        let body = collect(answer.into_body()).await?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = said["message"].as_str().map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
        let message = if text.trim().is_empty() { format!("HTTP {status}") } else { text.trim().to_owned() };
        Err(match status.as_u16() {
            404 => Error::NotFound(message),
            409 => Error::Conflict(message),
            status => Error::Refused { status, message },
        })
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.seams.clock.sleep(limit) => {
                Err(Error::Unreachable(format!("no answer within {} s", limit.as_secs())))
            }
        }
    }
}

enum RequestBody {
    Whole(Option<Bytes>),
    Streamed(BoxStream<'static, io::Result<Bytes>>),
}

impl RequestBody {
    fn whole(bytes: Bytes) -> RequestBody {
        RequestBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Streamed(stream) => stream.poll_next_unpin(cx).map(|next| next.map(|it| it.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, RequestBody::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            RequestBody::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            RequestBody::Streamed(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// The answer's bytes as they come; the next is read when it is asked for.
fn pieces(body: Incoming) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static {
    stream::unfold(body, |mut body| async move {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Some((Ok(data), body)),
                // Trailers say nothing to us.
                Ok(Err(_)) => {}
                Err(error) => return Some((Err(Error::Unreachable(error.to_string())), body)),
            }
        }
    })
}

async fn collect(body: Incoming) -> Result<Bytes, Error> {
    let mut whole = BytesMut::new();
    let pieces = pieces(body);
    tokio::pin!(pieces);
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece?);
        if whole.len() > MOST_ANSWER_BYTES {
            let reason = format!("it is larger than {MOST_ANSWER_BYTES} bytes");
            return Err(Error::Odd { call: "the request".to_owned(), reason });
        }
    }
    Ok(whole.freeze())
}

fn lines(body: Incoming, call: String) -> BoxStream<'static, Result<Value, Error>> {
    let pieces = pieces(body).boxed();
    stream::unfold((pieces, BytesMut::new(), false), move |(mut pieces, mut buffer, mut ended)| {
        let call = call.clone();
        async move {
            let odd = |reason: String| Error::Odd { call, reason };
            loop {
                let line = match buffer.iter().position(|byte| *byte == b'\n') {
                    Some(end) => buffer.split_to(end + 1),
                    None if ended => buffer.split(),
                    None => match pieces.next().await {
                        Some(Ok(piece)) if buffer.len() + piece.len() <= MOST_LINE_BYTES => {
                            buffer.extend_from_slice(&piece);
                            continue;
                        }
                        Some(Ok(_)) => {
                            let reason = format!("a line is longer than {MOST_LINE_BYTES} bytes");
                            return Some((Err(odd(reason)), (pieces, BytesMut::new(), true)));
                        }
                        Some(Err(error)) => return Some((Err(error), (pieces, BytesMut::new(), true))),
                        None => {
                            ended = true;
                            continue;
                        }
                    },
                };
                if !line.iter().all(u8::is_ascii_whitespace) {
                    let value = serde_json::from_slice(&line).map_err(|error| odd(error.to_string()));
                    return Some((value, (pieces, buffer, ended)));
                }
                if ended && buffer.is_empty() {
                    return None;
                }
            }
        }
    })
    .boxed()
}

/// A container's output: raw when it has a terminal, else framed (stream number, length, bytes).
pub fn output(reader: impl AsyncRead + Send + Unpin + 'static, tty: bool) -> Output {
    let state = Frames { reader, tty, stderr: false, left: 0 };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(state))),
            Ok(None) => None,
            // The far end of a process that was killed may just break.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some((Err(Error::Unreachable(error.to_string())), None)),
        }
    })
    .boxed()
}

struct Frames<R> {
    reader: R,
    tty: bool,
    stderr: bool,
    /// Bytes of the current frame that were not read yet.
    left: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn next(&mut self) -> io::Result<Option<Chunk>> {
        if self.tty {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            let n_bytes = self.reader.read_buf(&mut piece).await?;
            return Ok((n_bytes > 0).then(|| Chunk::Stdout(piece.freeze())));
        }
        while self.left == 0 {
            let mut head = [0; 8];
            if self.reader.read(&mut head[..1]).await? == 0 {
                return Ok(None);
            }
            self.reader.read_exact(&mut head[1..]).await?;
            self.stderr = head[0] == 2;
            self.left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        }
        let n_bytes = if self.left <= WHOLE_FRAME_BYTES { self.left } else { PIECE_BYTES };
        let mut piece = vec![0; n_bytes];
        self.reader.read_exact(&mut piece).await?;
        self.left -= n_bytes;
        Ok(Some(if self.stderr { Chunk::Stderr(piece.into()) } else { Chunk::Stdout(piece.into()) }))
    }
}

/// A value as part of a query or path.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let check = |text: &str, expected: Option<Address>| assert_eq!(text.parse().ok(), expected, "{text}");
        check("unix:///run/docker.sock", Some(Address::Unix("/run/docker.sock".into())));
        check("/run/docker.sock", Some(Address::Unix("/run/docker.sock".into())));
        check("tcp://10.0.0.1:2375", Some(Address::Tcp("10.0.0.1:2375".into())));
        check("tcp://10.0.0.1", None);
        check("ssh://host", None);
        check("", None);
    }

    #[tokio::test]
    async fn framed_and_raw_output_are_told_apart() {
        let read = |bytes: &'static [u8], tty: bool| output(bytes, tty).collect::<Vec<_>>();
        let framed = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\0";
        let expected = [Ok(Chunk::Stdout("hi".into())), Ok(Chunk::Stderr("!".into()))];
        assert_eq!(read(framed, false).await, expected);
        // A terminal may begin with any byte.
        assert_eq!(read(b"\x01\0x", true).await, [Ok(Chunk::Stdout(Bytes::from_static(b"\x01\0x")))]);
        assert_eq!(read(b"\x01\0\0\0\0\0\0\x09cut", false).await, []);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a/b:c d&e=ü"), "a%2Fb%3Ac%20d%26e%3D%C3%BC");
    }
}
