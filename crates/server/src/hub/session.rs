//! One agent's connection, from `Hello` to the end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use remuda_model::Host;
use remuda_orchestrator::Orchestrator;
use remuda_orchestrator::hosts::{HostSession, ReportRefused};
use remuda_runtime::link::{Closed, Receiver, Sender};
use remuda_runtime::{Link, Tasks};
use remuda_schema::Id;
use remuda_store::Seal;
use remuda_wire::frame;
use remuda_wire::plan::PlanUpdate;
use remuda_wire::session::{Down, Hello, PROTOCOL, Up, Welcome};
use tokio::sync::mpsc;

use super::sessions::Sessions;

/// How long a new connection has for its first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How often an agent says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Silence after which a connection is dead: the agent is declared lost by the orchestrator's own clock, not by this.
const SILENCE: Duration = Duration::from_secs(10);
/// A message that the other side does not take within this time ends the connection.
const SEND_WITHIN: Duration = Duration::from_secs(30);

/// The server's side of all agent connections. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    orchestrator: Orchestrator,
    sessions: Sessions,
    tasks: Tasks,
    /// Opens the keys of certificates that a plan carries.
    seal: Seal,
    /// Whether hosts with a simulated engine may join.
    simulator: bool,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("no first message within {} s", HELLO_WITHIN.as_secs())]
    NoHello,
    #[error("nothing heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("a message was not taken within {} s", SEND_WITHIN.as_secs())]
    Stuck,
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the agent closed the connection")]
    Left,
    #[error("the agent stops: {0}")]
    Announced(String),
    #[error("a newer connection of the same host took over, or the host is gone")]
    Superseded,
    #[error("the server stops")]
    Stopping,
    #[error("a message cannot be read")]
    Frame(#[from] frame::Error),
    #[error("what the host reported was not taken")]
    Report(#[from] ReportRefused),
}

impl Hub {
    pub fn new(orchestrator: Orchestrator, sessions: Sessions, tasks: Tasks, seal: Seal, simulator: bool) -> Hub {
        Hub { orchestrator, sessions, tasks, seal, simulator }
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Speaks with one agent until the connection ends. `agent_account_id` is whose key it used.
    pub async fn serve(&self, link: Link, agent_account_id: i64) {
        let Link { mut sender, mut receiver } = link;
        let end = self.converse(&mut sender, &mut receiver, agent_account_id).await;
        tracing::info!(agent_account_id, reason = %end, "agent connection ended");
    }

    async fn converse(&self, sender: &mut Sender, receiver: &mut Receiver, agent_account_id: i64) -> End {
        let hello = match tokio::time::timeout(HELLO_WITHIN, next(receiver)).await {
            Ok(Ok(Up::Hello(hello))) => *hello,
            Ok(Ok(_)) | Err(_) => return End::NoHello,
            Ok(Err(end)) => return end,
        };
        if hello.protocol != PROTOCOL {
            let reason = format!(
                "this server speaks protocol {PROTOCOL}, agent {} speaks {}; install the agent of this server again",
                hello.agent_version, hello.protocol
            );
            return refuse(sender, reason, false).await;
        }
        if hello.kind == "sim" && !self.simulator {
            let reason = "this server takes no simulated hosts; start it with `--simulator`, or the agent with \
                          `--engine docker`";
            return refuse(sender, reason.to_owned(), false).await;
        }
        let session = match self.orchestrator.host_connect(agent_account_id, &hello).await {
            Ok(session) => session,
            Err(refused) => return refuse(sender, chain(&refused), refused.again()).await,
        };
        let commands = self.sessions.enter(session.host_id, session.generation, agent_account_id);
        let end = self.work(sender, receiver, &session, agent_account_id, &hello, commands).await;
        let current = self.sessions.leave(session.host_id, session.generation);
        if current && !matches!(end, End::Stopping) {
            self.orchestrator.host_gone(&session, matches!(end, End::Announced(_))).await;
        }
        end
    }

    async fn work(
        &self,
        sender: &mut Sender,
        receiver: &mut Receiver,
        session: &HostSession,
        agent_account_id: i64,
        hello: &Hello,
        commands: mpsc::Receiver<Down>,
    ) -> End {
        let welcome = Down::Welcome(Welcome {
            protocol: PROTOCOL,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: session.generation,
            position: session.position.clone(),
            host_id: public_id(session),
            heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX),
            acknowledges_beats: true,
        });
        if let Err(end) = say(sender, &welcome).await {
            return end;
        }
        tracing::info!(
            host = public_id(session),
            name = hello.name,
            generation = session.generation,
            "agent connected"
        );
        let (acks, acked) = mpsc::channel(64);
        tokio::select! {
            biased;
            end = self.speak(sender, session, hello, commands, acked) => end,
            end = self.listen(receiver, session, agent_account_id, acks) => end,
        }
    }

    /// Everything that goes down: acknowledgements, requests for streams, plan and directory.
    async fn speak(
        &self,
        sender: &mut Sender,
        session: &HostSession,
        hello: &Hello,
        mut commands: mpsc::Receiver<Down>,
        mut acked: mpsc::Receiver<Down>,
    ) -> End {
        let mut updates = self.orchestrator.host_updates(session, hello.have.clone());
        loop {
            let downs = tokio::select! {
                biased;
                () = self.tasks.stopping() => {
                    drop(say(sender, &Down::Goodbye { reason: "the server stops".to_owned() }).await);
                    return End::Stopping;
                }
                ack = acked.recv() => match ack {
                    Some(ack) => vec![ack],
                    None => return End::Left,
                },
                command = commands.recv() => match command {
                    Some(command) => vec![command],
                    None => return End::Superseded,
                },
                update = updates.next() => match update {
                    Some(update) => {
                        if let Some(plan) = update.plan.map(|plan| opened(&self.seal, plan))
                            && let Err(end) = say(sender, &Down::Plan(Box::new(plan))).await
                        {
                            return end;
                        }
                        for message in update.directory {
                            let sent = match message.packed() {
                                Ok(bytes) => send(sender, bytes).await,
                                Err(error) => Err(error.into()),
                            };
                            if let Err(end) = sent {
                                return end;
                            }
                        }
                        continue;
                    }
                    None => return End::Superseded,
                },
            };
            for down in downs {
                if let Err(end) = say(sender, &down).await {
                    return end;
                }
            }
        }
    }

    /// Everything that comes up. A report is acknowledged when it is stored, never before.
    async fn listen(
        &self,
        receiver: &mut Receiver,
        session: &HostSession,
        agent_account_id: i64,
        acks: mpsc::Sender<Down>,
    ) -> End {
        loop {
            let up = match tokio::time::timeout(SILENCE, next(receiver)).await {
                Ok(Ok(up)) => up,
                Ok(Err(end)) => return end,
                Err(_) => return End::Silent,
            };
            if let Err(error) = self.orchestrator.host_heard(session).await {
                return End::Report(error);
            }
            let stored = match up {
                Up::Hello(_) | Up::Heartbeat => Ok(()),
                Up::Beat { number } => {
                    let counts = self.orchestrator.host_counts(session);
                    if counts && acks.send(Down::Heard { number }).await.is_err() {
                        return End::Left;
                    }
                    Ok(())
                }
                Up::State(report) => {
                    let serial = report.serial;
                    let stored = self.orchestrator.host_report(session, report).await;
                    if stored.is_ok() && acks.send(Down::Ack { serial }).await.is_err() {
                        return End::Left;
                    }
                    stored
                }
                Up::Facts(facts) => self.orchestrator.host_facts(session, *facts).await,
                Up::Applied { consumer, revision } => {
                    self.orchestrator.host_applied(session, consumer, revision).await;
                    Ok(())
                }
                Up::Progress { uuid, message, percent } => {
                    self.orchestrator.host_progress(session, &uuid, message, percent);
                    Ok(())
                }
                Up::Balancers { samples } => {
                    self.orchestrator.host_balancers(session, samples);
                    Ok(())
                }
                Up::Stopping { reason } => return End::Announced(reason),
                Up::StreamFailed { stream, message } => {
                    self.sessions.failed(&stream, agent_account_id, message);
                    Ok(())
                }
            };
            if let Err(error) = stored {
                // The agent repeats what was not acknowledged, on this connection or the next.
                tracing::warn!(host = public_id(session), error = chain(&error), "a host's report was not stored");
                return End::Report(error);
            }
        }
    }
}

/// The plan with the private keys that its balancers need: this is the only place where they are in the clear.
fn opened(seal: &Seal, mut plan: PlanUpdate) -> PlanUpdate {
    for balancer in &mut plan.balancers {
        balancer.certificates.retain_mut(|certificate| match seal.open(&certificate.key) {
            Ok(key) => {
                certificate.key = String::from_utf8_lossy(&key).into_owned();
                true
            }
            Err(error) => {
                tracing::error!(certificate = certificate.id, error = chain(&error), "a key cannot be opened");
                false
            }
        });
    }
    plan
}

async fn next(receiver: &mut Receiver) -> Result<Up, End> {
    match receiver.next().await {
        Some(Ok(bytes)) => Ok(frame::decode(&bytes)?),
        Some(Err(closed)) => Err(End::Closed(closed)),
        None => Err(End::Left),
    }
}

async fn say(sender: &mut Sender, down: &Down) -> Result<(), End> {
    send(sender, frame::encode(down)?).await
}

async fn send(sender: &mut Sender, bytes: Bytes) -> Result<(), End> {
    match tokio::time::timeout(SEND_WITHIN, sender.send(bytes)).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(End::Stuck),
    }
}

async fn refuse(sender: &mut Sender, reason: String, again: bool) -> End {
    tracing::warn!(reason, "agent refused");
    drop(say(sender, &Down::Refused { reason: reason.clone(), again }).await);
    End::Closed(Closed(reason))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn public_id(session: &HostSession) -> String {
    Id::<Host>::new(session.host_id).to_string()
}
