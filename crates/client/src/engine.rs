//! The Engine API of a host, through the server: HTTP over the stream that `dockersocket` opens.
//!
//! [`call`] calls one of this machine instead. One stream per call, and no task behind it: whoever waits for the answer moves the bytes. Answers are JSON, one value
//! a line, as `POST /build` and `POST /images/create` send their progress.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hyper::body::{Body, Frame};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::error::Error;
use crate::http::Client;
use crate::resource::Resource;
use crate::stream::{Socket, open};

/// Subprotocol of streams whose frames are bytes as they are.
const BINARY: &str = "binary";
const PIECE: usize = 64 << 10;
/// One line of an answer; longer ones are not from an engine.
const MOST_LINE: usize = 4 << 20;

/// A call.
pub struct Call {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub content_type: Option<&'static str>,
    /// For pushes: what the registry wants to know, in base64.
    pub registry_auth: Option<String>,
    pub body: Upload,
}

impl Call {
    /// A call without body.
    pub fn bare(method: Method, path: String) -> Call {
        Call { method, path, content_type: None, registry_auth: None, body: Upload::none() }
    }

    /// A call that sends a tar.
    pub fn tar(path: String, body: Upload) -> Call {
        Call { body, content_type: Some("application/x-tar"), ..Call::bare(Method::POST, path) }
    }
}

/// Body of a call, piece by piece, as somebody makes it.
pub struct Upload(mpsc::Receiver<io::Result<Bytes>>);

impl Upload {
    /// What is sent by the other end; it ends when that is dropped.
    pub fn from(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Upload {
        Upload(pieces)
    }

    pub fn none() -> Upload {
        Upload(mpsc::channel(1).1)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

impl Client {
    /// Calls the engine of a host; `watch` sees every value of the answer. An answer that says `error`, or has not status
    /// 2xx, is a failure; the status of one without a value of its own is in its text.
    pub async fn engine(&self, host: &Resource, call: Call, watch: impl FnMut(&Value)) -> Result<(), Error> {
        let access = self.action(host, "dockersocket", &Value::Null).await?;
        let (socket, _) = open(&access, BINARY).await?;
        let (near, far) = tokio::io::duplex(PIECE);
        let ended = RefCell::new(None);
        let moved = async {
            let reason = pump(socket, far).await;
            *ended.borrow_mut() = Some(reason);
            std::future::pending::<Infallible>().await
        };
        let outcome = tokio::select! {
            biased;
            outcome = talk(near, call, watch) => outcome,
            never = moved => match never {},
        };
        outcome.map_err(|message| {
            let reason = ended.borrow().clone().flatten();
            Error::Failed { what: host.into(), message: reason.unwrap_or(message) }
        })
    }
}

/// Moves bytes until either side ends; the value is why, when the server said.
async fn pump(socket: Socket, far: DuplexStream) -> Option<String> {
    let (mut sink, mut frames) = socket.split();
    let (mut from_us, mut to_us) = tokio::io::split(far);
    let up = async {
        let mut piece = BytesMut::with_capacity(PIECE);
        while from_us.read_buf(&mut piece).await.unwrap_or(0) > 0 {
            if sink.send(Message::binary(piece.split().freeze())).await.is_err() {
                break;
            }
        }
        // The engine's answer is still to come.
        std::future::pending::<Infallible>().await
    };
    let down = async {
        loop {
            let bytes = match frames.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Close(Some(close)))) => return Some(close.reason.to_string()),
                Some(Ok(Message::Close(None))) | None => return None,
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Some(error.to_string()),
            };
            if to_us.write_all(&bytes).await.is_err() {
                return None;
            }
        }
    };
    let reason = tokio::select! {
        biased;
        reason = down => reason,
        never = up => match never {},
    };
    reason.filter(|reason| !reason.is_empty())
}

/// Calls the engine at `unix://PATH` or `tcp://HOST:PORT`, as the command line of Docker would: no server between.
pub async fn call(address: &str, call: Call, watch: impl FnMut(&Value)) -> Result<(), String> {
    let failed = |error: io::Error| format!("no engine answers at {address}: {error}");
    match (address.strip_prefix("unix://"), address.strip_prefix("tcp://")) {
        (Some(path), _) => talk(UnixStream::connect(path).await.map_err(failed)?, call, watch).await,
        (_, Some(host)) => talk(TcpStream::connect(host).await.map_err(failed)?, call, watch).await,
        _ => Err(format!("`{address}` is not the address of an engine: write `unix://PATH` or `tcp://HOST:PORT`")),
    }
}

async fn talk(
    near: impl AsyncRead + AsyncWrite + Unpin,
    call: Call,
    mut watch: impl FnMut(&Value),
) -> Result<(), String> {
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.map_err(text)?;
    let answer = async {
        let mut request = Request::builder().method(call.method).uri(call.path).header("host", "docker");
        if let Some(kind) = call.content_type {
            request = request.header("content-type", kind);
        }
        if let Some(credentials) = &call.registry_auth {
            request = request.header("x-registry-auth", credentials.as_str());
        }
        let request = request.body(call.body).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut lines = BytesMut::new();
        let mut failed = None;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Ok(data) = frame.map_err(text)?.into_data() else { continue };
            lines.extend_from_slice(&data);
            if lines.len() > MOST_LINE {
                return Err("the engine sends a line without end".to_owned());
            }
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                failed = failed.or(look(&lines.split_to(end + 1), &mut watch));
            }
        }
        failed = failed.or(look(&lines, &mut watch));
        match failed {
            Some(message) => Err(message),
            None if status.is_success() => Ok(()),
            None => Err(format!("the engine answered {status}")),
        }
    };
    let driven = async {
        // How it ends shows in the answer.
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        outcome = answer => outcome,
        never = driven => match never {},
    }
}

/// One line of an answer; the value is the failure it tells of.
fn look(line: &[u8], watch: &mut impl FnMut(&Value)) -> Option<String> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let said = value.get("error").or_else(|| value.get("message")).and_then(Value::as_str).map(str::to_owned);
    if said.is_none() {
        watch(&value);
    }
    said
}
