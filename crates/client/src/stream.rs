//! Logs, exec, stats and sockets: an API call gives a URL and a token, the socket carries frames.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::error::Error;
use crate::http::Client;
use crate::resource::Resource;

/// A client socket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const EXEC_V1: &str = "remuda.exec.v1";

/// Opens a WebSocket. `protocols` is offered in order; the second value is the one the server chose.
pub(crate) async fn dial(
    url: &str,
    protocols: &str,
    credentials: Option<(&str, &str)>,
) -> Result<(Socket, Option<String>), Error> {
    let refused = |error: tungstenite::Error| match error {
        tungstenite::Error::Http(answer) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            Error::StreamRefused(format!("{} {body}", answer.status()))
        }
        other => Error::Stream(other.to_string()),
    };
    let mut request = url.into_client_request().map_err(refused)?;
    if !protocols.is_empty() {
        let value = HeaderValue::from_str(protocols).map_err(|error| Error::Stream(error.to_string()))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", value);
    }
    if let Some((key, secret)) = credentials {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{key}:{secret}")));
        let value = HeaderValue::from_str(&basic).map_err(|error| Error::Stream(error.to_string()))?;
        request.headers_mut().insert("Authorization", value);
    }
    let (socket, answer) = tokio_tungstenite::connect_async(request).await.map_err(refused)?;
    let chosen =
        answer.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok((socket, chosen))
}

/// Opens what an access object (`hostAccess`, `statsAccess`) allows.
pub async fn open(access: &Resource, protocols: &str) -> Result<(Socket, Option<String>), Error> {
    let (url, token) = (access.text("url"), access.text("token"));
    if url.is_empty() || token.is_empty() {
        return Err(Error::StreamRefused("there is nothing to connect to yet".to_owned()));
    }
    let joint = if url.contains('?') { '&' } else { '?' };
    dial(&format!("{url}{joint}token={token}"), protocols, None).await
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

/// The lines of a container.
pub struct Logs(Socket);

impl Client {
    /// Follows or reads the log. `lines`: how many of the last to begin with.
    pub async fn logs(&self, container: &Resource, input: &Value) -> Result<Logs, Error> {
        let access = self.action(container, "logs", input).await?;
        Ok(Logs(open(&access, "").await?.0))
    }

    /// Runs a command in the container. `input` is a `containerExec`.
    pub async fn exec(&self, container: &Resource, input: &Value) -> Result<Exec, Error> {
        let access = self.action(container, "execute", input).await?;
        let (socket, protocol) = open(&access, EXEC_V1).await?;
        let channels = protocol.as_deref() == Some(EXEC_V1);
        let (sink, stream) = socket.split();
        Ok(Exec { input: ExecInput { sink, channels }, output: ExecOutput { stream, channels } })
    }

    /// One array of samples a second. `link` is `stats`, `hostStats` or `containerStats`.
    pub async fn stats(&self, resource: &Resource, link: &str) -> Result<Stats, Error> {
        let access = Resource(self.get(self.link_url(resource, link)?).await?);
        Ok(Stats(open(&access, "").await?.0))
    }
}

impl Logs {
    /// The next piece: one or more lines, each beginning with its timestamp. `None`: the log ended.
    pub async fn next(&mut self) -> Result<Option<(Source, String)>, Error> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    let (stream, rest) = text.as_str().split_at_checked(3).unwrap_or(("01 ", text.as_str()));
                    let source = if stream == "02 " { Source::Stderr } else { Source::Stdout };
                    return Ok(Some((source, rest.to_owned())));
                }
                other => {
                    if ended(other)? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Samples of containers or hosts.
pub struct Stats(Socket);

impl Stats {
    /// The next samples. `None`: no host is left.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                    Ok(Value::Array(samples)) => return Ok(Some(samples)),
                    Ok(sample) => return Ok(Some(vec![sample])),
                    Err(error) => return Err(Error::Stream(error.to_string())),
                },
                other => {
                    if ended(other)? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// `true`: the socket ended in order. A reason given with any other code than 1000 is an error.
fn ended(frame: Option<Result<Message, tungstenite::Error>>) -> Result<bool, Error> {
    match frame {
        None | Some(Err(tungstenite::Error::ConnectionClosed)) => Ok(true),
        Some(Ok(Message::Close(Some(close)))) if u16::from(close.code) != 1000 && !close.reason.is_empty() => {
            Err(Error::Stream(close.reason.to_string()))
        }
        Some(Ok(Message::Close(_))) => Ok(true),
        Some(Ok(_)) => Ok(false),
        Some(Err(error)) => Err(Error::Stream(error.to_string())),
    }
}

/// A process in a container.
pub struct Exec {
    input: ExecInput,
    output: ExecOutput,
}

/// The way to a process. Apart from its output: a process that is not read does not read either.
pub struct ExecInput {
    sink: SplitSink<Socket, Message>,
    channels: bool,
}

/// What comes from a process.
pub struct ExecOutput {
    stream: SplitStream<Socket>,
    /// The server speaks `remuda.exec.v1`: separate channels, resize, exit status.
    channels: bool,
}

/// What a process says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Data(Source, Bytes),
    /// The process ended; `None`: the server does not tell how.
    Ended(Option<i64>),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Control {
    Exit {
        code: i64,
    },
    Failed {
        message: String,
    },
    #[serde(other)]
    Other,
}

impl Exec {
    /// Whether the exit status will be known.
    pub fn tells_status(&self) -> bool {
        self.output.channels
    }

    /// Both directions, to be used at the same time.
    pub fn split(self) -> (ExecInput, ExecOutput) {
        (self.input, self.output)
    }

    /// Input for the process.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.input.write(bytes).await
    }

    /// No more input.
    pub async fn close_input(&mut self) -> Result<(), Error> {
        self.input.close().await
    }

    /// The terminal has a new size.
    pub async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), Error> {
        self.input.resize(rows, columns).await
    }

    /// The next output.
    pub async fn next(&mut self) -> Result<Output, Error> {
        self.output.next().await
    }
}

impl ExecInput {
    /// Input for the process.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let message = if self.channels { channel(0, bytes) } else { Message::text(BASE64_STANDARD.encode(bytes)) };
        self.send(message).await
    }

    /// No more input.
    pub async fn close(&mut self) -> Result<(), Error> {
        if self.channels {
            self.control(&json!({"type": "stdinClosed"})).await
        } else {
            // The old frames know no end of input but that of a terminal.
            self.write(&[4]).await
        }
    }

    /// The terminal has a new size. Servers of the old frames cannot be told.
    pub async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), Error> {
        if !self.channels {
            return Ok(());
        }
        self.control(&json!({"type": "resize", "rows": rows, "columns": columns})).await
    }

    async fn control(&mut self, message: &Value) -> Result<(), Error> {
        self.send(channel(3, message.to_string().as_bytes())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.sink.send(message).await.map_err(|error| Error::Stream(error.to_string()))
    }
}

impl ExecOutput {
    /// The next output.
    pub async fn next(&mut self) -> Result<Output, Error> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Binary(bytes))) if self.channels => {
                    let Some(first) = bytes.first().copied() else { continue };
                    let rest = bytes.slice(1..);
                    match first {
                        1 => return Ok(Output::Data(Source::Stdout, rest)),
                        2 => return Ok(Output::Data(Source::Stderr, rest)),
                        3 => match serde_json::from_slice(&rest) {
                            Ok(Control::Exit { code }) => return Ok(Output::Ended(Some(code))),
                            Ok(Control::Failed { message }) => return Err(Error::Stream(message)),
                            Ok(Control::Other) | Err(_) => {}
                        },
                        _ => {}
                    }
                }
                Some(Ok(Message::Text(text))) => {
                    let bytes =
                        BASE64_STANDARD.decode(text.as_str()).map_err(|error| Error::Stream(error.to_string()))?;
                    return Ok(Output::Data(Source::Stdout, bytes.into()));
                }
                other => {
                    if ended(other)? {
                        return Ok(Output::Ended(None));
                    }
                }
            }
        }
    }
}

fn channel(number: u8, bytes: &[u8]) -> Message {
    Message::binary(Bytes::from([&[number], bytes].concat()))
}
