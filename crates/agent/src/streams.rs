//! Streams the server asks for: the agent dials back for each and copies until one side closes.
//!
//! Nothing is buffered beyond a chunk per direction: whoever is slow makes the other wait, down to the pipe of the
//! process. Each stream is a task of its own; there are at most [`MOST_OPEN`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use remuda_runtime::link::{self, Closed};
use remuda_runtime::{Link, Seams};
use remuda_wire::session::Up;
use remuda_wire::stream::{Channel, Control, StreamOpen, StreamRequest};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::engine::inspect::{self, UUID_LABEL};
use crate::engine::{Chunk, Engine, Error, ExecQuery, LogsQuery, Output, Process, Socket};
use crate::links::Source;
use crate::metrics::Metrics;
use crate::reconcile::worker::{Handle, Input};

pub mod container_stats;
pub mod host_stats;

/// Streams of one host at once.
pub const MOST_OPEN: usize = 512;
/// End of transmission: what a terminal sends for Ctrl-D.
const EOT: u8 = 4;
const PIECE_BYTES: usize = 16 << 10;
const STATS_EVERY: Duration = Duration::from_secs(1);
/// How often the set of containers is looked at again when all are watched.
const RESCAN_EVERY: u32 = 5;
const EXIT_CODE_TRIES: u32 = 100;

/// Opens streams. Clones share the limit.
#[derive(Clone)]
pub struct Streams {
    seams: Seams,
    engine: Arc<dyn Engine>,
    worker: Handle,
    metrics: Metrics,
    free: Arc<Semaphore>,
    host_stats: host_stats::HostStats,
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Engine(#[from] Error),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("container `{0}` is not on this host")]
    NoContainer(String),
    #[error("cannot write to the process: {0}")]
    Write(std::io::Error),
    #[error("cannot read from the connection: {0}")]
    Read(std::io::Error),
}

impl Streams {
    pub fn new(
        seams: Seams,
        engine: Arc<dyn Engine>,
        worker: Handle,
        metrics: Metrics,
        host_stats: host_stats::HostStats,
    ) -> Streams {
        Streams { seams, engine, worker, metrics, free: Arc::new(Semaphore::new(MOST_OPEN)), host_stats }
    }

    /// Begins a stream in the background. The error is for people.
    pub fn open(&self, source: Arc<dyn Source>, outbox: mpsc::Sender<Up>, open: StreamOpen) -> Result<(), String> {
        let Ok(place) = self.free.clone().try_acquire_owned() else {
            return Err(format!("this host has {MOST_OPEN} streams open already"));
        };
        let streams = self.clone();
        self.seams.tasks.spawn("stream", async move {
            streams.metrics.streams.inc();
            streams.metrics.streams_open.inc();
            match source.stream(&open).await {
                Ok(link) => streams.serve(link, open.request).await,
                Err(error) => {
                    let message = error.to_string();
                    tracing::warn!(message, "cannot open a stream");
                    drop(outbox.send(Up::StreamFailed { stream: open.stream, message }).await);
                }
            }
            streams.metrics.streams_open.dec();
            drop(place);
        });
        Ok(())
    }

    /// Copies until one side closes.
    pub async fn serve(&self, link: Link, request: StreamRequest) {
        let Link { sender, mut receiver } = link;
        let mut sender = Sender { sender };
        let message = tokio::select! {
            biased;
            () = self.seams.tasks.stopping() => "the agent stops".to_owned(),
            ended = self.copy(&mut sender, &mut receiver, request) => match ended {
                Ok(()) | Err(Ended::Closed(_)) => return,
                Err(other) => other.to_string(),
            },
        };
        // Briefly: a client that does not read will not read this either.
        let last_words = Control::Failed { message };
        tokio::select! {
            biased;
            _ = sender.control(&last_words) => {}
            () = self.seams.clock.sleep(Duration::from_secs(1)) => {}
        }
    }

    async fn copy(
        &self,
        sender: &mut Sender,
        receiver: &mut link::Receiver,
        request: StreamRequest,
    ) -> Result<(), Ended> {
        match request {
            StreamRequest::Logs { container, follow, lines, since, until } => {
                let (docker_id, tty) = self.find(&container).await?;
                let query = LogsQuery { follow, lines, since, until };
                if tty {
                    sender.control(&Control::Tty).await?;
                }
                let mut output = self.engine.logs(&docker_id, query).await?;
                tokio::select! {
                    biased;
                    () = closed(receiver) => Ok(()),
                    copied = copy_output(&mut output, sender) => copied,
                }
            }
            StreamRequest::Exec { container, command, stdin, stdout, tty, user, working_dir, env } => {
                let (docker_id, _) = self.find(&container).await?;
                let query = ExecQuery { command, stdin, stdout, tty, user, working_dir, env };
                let process = self.engine.exec(&docker_id, query).await?;
                let talk = Talk { tty, stdin, is_exec: true, id: process.id.clone() };
                self.talk(process, &talk, sender, receiver).await?;
                let code = self.exec_exit_code(&talk.id).await?;
                Ok(sender.control(&Control::Exit { code }).await?)
            }
            StreamRequest::Console { container } => {
                let (docker_id, tty) = self.find(&container).await?;
                let process = self.engine.attach(&docker_id).await?;
                let talk = Talk { tty: false, stdin: true, is_exec: false, id: docker_id.clone() };
                if tty {
                    sender.control(&Control::Tty).await?;
                }
                self.talk(process, &talk, sender, receiver).await?;
                let seen = inspect::read(&self.engine.inspect(&docker_id).await?);
                match seen.and_then(|container| container.exit_code) {
                    Some(code) => Ok(sender.control(&Control::Exit { code }).await?),
                    None => Ok(()),
                }
            }
            StreamRequest::ContainerStats { containers } => {
                tokio::select! {
                    biased;
                    () = closed(receiver) => Ok(()),
                    ended = self.container_stats(containers, sender) => ended,
                }
            }
            StreamRequest::HostStats { host_id } => {
                tokio::select! {
                    biased;
                    () = closed(receiver) => Ok(()),
                    ended = self.host_stats(&host_id, sender) => ended,
                }
            }
            StreamRequest::DockerSocket => copy_socket(self.engine.dial().await?, sender, receiver).await,
            StreamRequest::Tcp { address } => {
                copy_socket(self.engine.dial_tcp(&address).await?, sender, receiver).await
            }
        }
    }

    /// Docker id of a container named by it or by uuid, and whether it has a terminal.
    async fn find(&self, container: &str) -> Result<(String, bool), Ended> {
        let answer = match self.engine.inspect(container).await {
            Ok(answer) => answer,
            Err(Error::NotFound(_)) => {
                let listed = self.engine.list().await?;
                let found = listed.into_iter().find(|it| it.labels.get(UUID_LABEL).is_some_and(|it| it == container));
                let found = found.ok_or_else(|| Ended::NoContainer(container.to_owned()))?;
                self.engine.inspect(&found.docker_id).await?
            }
            Err(other) => return Err(other.into()),
        };
        let found = inspect::read(&answer).ok_or_else(|| Ended::NoContainer(container.to_owned()))?;
        Ok((found.docker_id, found.tty))
    }

    /// Until the process ends (`Ok`) or the client leaves (`Closed`).
    async fn talk(
        &self,
        process: Process,
        talk: &Talk,
        sender: &mut Sender,
        receiver: &mut link::Receiver,
    ) -> Result<(), Ended> {
        let Process { mut output, input, .. } = process;
        tokio::select! {
            biased;
            copied = copy_output(&mut output, sender) => copied,
            left = self.listen(input, talk, receiver) => Err(left),
        }
    }

    /// What the client says, until it leaves.
    async fn listen(
        &self,
        input: Box<dyn AsyncWrite + Send + Unpin>,
        talk: &Talk,
        receiver: &mut link::Receiver,
    ) -> Ended {
        // `None` once it was closed.
        let mut input = Some(input).filter(|_| talk.stdin);
        loop {
            let Some(Ok(message)) = receiver.next().await else { break };
            let Some((channel, mut data)) = split(message) else { continue };
            match channel {
                Channel::Stdin => {
                    let Some(open) = input.as_mut() else { continue };
                    // A process that closed its input is not at fault.
                    let written = async {
                        open.write_all_buf(&mut data).await?;
                        open.flush().await
                    };
                    if written.await.is_err() {
                        input = None;
                    }
                }
                Channel::Control => match serde_json::from_slice(&data) {
                    Ok(Control::Resize { rows, columns }) => {
                        let resized = match talk.is_exec {
                            true => self.engine.exec_resize(&talk.id, rows, columns).await,
                            false => self.engine.attach_resize(&talk.id, rows, columns).await,
                        };
                        if let Err(error) = resized {
                            tracing::debug!(%error, "cannot resize");
                        }
                    }
                    Ok(Control::StdinClosed) => {
                        if let Some(mut open) = input.take()
                            && let Err(error) = open.shutdown().await
                        {
                            tracing::debug!(%error, "cannot close the input");
                        }
                    }
                    _ => {}
                },
                Channel::Stdout | Channel::Stderr => {}
            }
        }
        if let Some(mut open) = input {
            if talk.tty {
                drop(open.write_all(&[EOT]).await);
            }
            drop(open.shutdown().await);
        }
        Ended::Closed(Closed("the client left".to_owned()))
    }

    async fn exec_exit_code(&self, exec: &str) -> Result<i64, Ended> {
        // The output may end a moment before the engine knows the code.
        for _ in 0..EXIT_CODE_TRIES {
            if let Some(code) = self.engine.exec_exit_code(exec).await? {
                return Ok(code);
            }
            self.seams.clock.sleep(Duration::from_millis(20)).await;
        }
        Err(Error::Odd { call: "exec".to_owned(), reason: "its output ended, but it is still running".to_owned() }
            .into())
    }

    async fn container_stats(&self, containers: BTreeMap<String, String>, sender: &mut Sender) -> Result<(), Ended> {
        let all = containers.is_empty();
        let mut watched = container_stats::Watched::default();
        if !all {
            watched.follow(self.engine.as_ref(), &containers).await;
        }
        let mut round = 0;
        loop {
            if all && round % RESCAN_EVERY == 0 {
                let (reply, answer) = oneshot::channel();
                let asked = self.worker.inputs.send(Input::PublicIds { reply }).await;
                if asked.is_ok()
                    && let Ok(ids) = answer.await
                {
                    watched.follow(self.engine.as_ref(), &ids).await;
                }
            }
            round = round.wrapping_add(1);
            let next = self.seams.clock.sleep(STATS_EVERY);
            watched.gather(next).await;
            let samples = watched.take();
            if !samples.is_empty() {
                sender.send(Channel::Stdout, json_bytes(&samples)).await?;
            }
            if !all && watched.is_over() {
                return Ok(());
            }
        }
    }

    async fn host_stats(&self, host_id: &str, sender: &mut Sender) -> Result<(), Ended> {
        loop {
            let sample = self.host_stats.sample(host_id, self.seams.clock.now_ms());
            sender.send(Channel::Stdout, json_bytes(&[sample])).await?;
            self.seams.clock.sleep(STATS_EVERY).await;
        }
    }
}

struct Talk {
    /// It has a terminal, which is told when the client leaves.
    tty: bool,
    stdin: bool,
    is_exec: bool,
    id: String,
}

/// Outgoing half: one message per chunk.
struct Sender {
    sender: link::Sender,
}

impl Sender {
    async fn send(&mut self, channel: Channel, data: Bytes) -> Result<(), Closed> {
        self.sender.send(chunk(channel, &data)).await
    }

    async fn control(&mut self, control: &Control) -> Result<(), Closed> {
        self.send(Channel::Control, json_bytes(control)).await
    }
}

fn json_bytes<T: serde::Serialize + ?Sized>(value: &T) -> Bytes {
    // Maps with string keys and plain values: writing them cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// One message of a stream.
pub fn chunk(channel: Channel, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel as u8);
    message.put_slice(data);
    message.freeze()
}

/// Its two parts; `None` for a message that is none.
pub fn split(message: Bytes) -> Option<(Channel, Bytes)> {
    let channel = Channel::from_byte(*message.first()?)?;
    Some((channel, message.slice(1..)))
}

async fn copy_output(output: &mut Output, sender: &mut Sender) -> Result<(), Ended> {
    while let Some(piece) = output.next().await {
        match piece? {
            Chunk::Stdout(data) => sender.send(Channel::Stdout, data).await?,
            Chunk::Stderr(data) => sender.send(Channel::Stderr, data).await?,
        }
    }
    Ok(())
}

/// Resolves when the client closed; what it says before is ignored.
async fn closed(receiver: &mut link::Receiver) {
    while let Some(Ok(_)) = receiver.next().await {}
}

/// Raw bytes both ways, until the socket ends or the client leaves.
async fn copy_socket(socket: Box<dyn Socket>, sender: &mut Sender, receiver: &mut link::Receiver) -> Result<(), Ended> {
    let (mut from_socket, mut to_socket) = tokio::io::split(socket);
    let down = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let n_bytes = from_socket.read(&mut piece).await.map_err(Ended::Read)?;
            if n_bytes == 0 {
                return Ok(());
            }
            sender.send(Channel::Stdout, Bytes::copy_from_slice(&piece[..n_bytes])).await?;
        }
    };
    let up = async {
        while let Some(Ok(message)) = receiver.next().await {
            match split(message) {
                Some((Channel::Stdin, mut data)) => {
                    to_socket.write_all_buf(&mut data).await.map_err(Ended::Write)?;
                    to_socket.flush().await.map_err(Ended::Write)?;
                }
                Some((Channel::Control, data)) if matches!(serde_json::from_slice(&data), Ok(Control::StdinClosed)) => {
                    to_socket.shutdown().await.map_err(Ended::Write)?;
                }
                _ => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        ended = down => ended,
        ended = up => ended,
    }
}
