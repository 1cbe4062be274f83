//! The agent's side of its one connection: hello, plan and directory in, reports out, again and again with growing
//! pauses. Whatever happens here, the containers go on running and are supervised.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use remuda_runtime::{Link, Seams};
use remuda_wire::directory::{Directory, DirectoryUpdate};
use remuda_wire::frame;
use remuda_wire::observe::{BalancerSample, HostFacts};
use remuda_wire::session::{Consumer, Down, Hello, PROTOCOL, Position, Up, Welcome};
use remuda_wire::stream::StreamOpen;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::balancer::keeper::Keeper;
use crate::facts::Facts;
use crate::fence::Fence;
use crate::health;
use crate::host_network::HostNetwork;
use crate::links::{self, Source};
use crate::metrics::Metrics;
use crate::reconcile::worker::{Handle, Input};
use crate::state_dir::StateDir;
use crate::streams::Streams;

const DIRECTORY_CACHE: &str = "directory";
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const WELCOME_LIMIT: Duration = Duration::from_secs(30);
/// Messages waiting for the connection.
const OUTBOX: usize = 64;
const FACTS_EVERY: Duration = Duration::from_secs(60);
const FACTS_GATHER: Duration = Duration::from_millis(200);
/// A large directory is not written down more often.
const CACHE_EVERY: Duration = Duration::from_secs(10);
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Ended {
    #[error(transparent)]
    Link(#[from] links::Error),
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the server sent something that does not read: {0}")]
    Odd(String),
    #[error("the server did not greet within {} s", WELCOME_LIMIT.as_secs())]
    NoWelcome,
    #[error("the server refuses this agent: {reason}")]
    Refused { reason: String, again: bool },
    #[error("the server says goodbye: {0}")]
    Goodbye(String),
    #[error("{0}; asking for everything anew")]
    WrongBase(String),
    #[error("the agent stops")]
    Stopping,
}

/// The directory as it is cached.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cached {
    store: String,
    epoch: i64,
    #[serde(with = "shared")]
    directory: Arc<Directory>,
}

/// A shared directory is written like one that is not.
mod shared {
    use super::{Arc, Deserialize, Directory, Serialize};

    pub fn serialize<S: serde::Serializer>(directory: &Arc<Directory>, to: S) -> Result<S::Ok, S::Error> {
        Directory::serialize(directory, to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<Directory>, D::Error> {
        Directory::deserialize(from).map(Arc::new)
    }
}

/// What a session needs to know.
pub struct Session {
    pub seams: Seams,
    pub source: Arc<dyn Source>,
    pub worker: Handle,
    pub network: Arc<dyn HostNetwork>,
    /// Health checks that this host makes.
    pub health: health::Handle,
    pub balancers: Keeper,
    pub streams: Streams,
    pub fence: Fence,
    pub facts: Facts,
    pub state_dir: Option<StateDir>,
    pub metrics: Metrics,
    pub host_uuid: String,
    pub name: Option<String>,
    /// `docker` or `sim`.
    pub kind: String,
}

/// Connects and reconnects until stopped, or until the server refuses for good (the reason is the error).
pub async fn run(session: Session) -> Result<(), Ended> {
    let cached: Cached = session.state_dir.as_ref().map(|state| state.load_cache(DIRECTORY_CACHE)).unwrap_or_default();
    let has_cache = !cached.store.is_empty();
    let (directory, directories) = watch::channel(cached);
    let (outbox, _) = watch::channel::<Option<mpsc::Sender<Up>>>(None);
    let outbox = Arc::new(outbox);
    if has_cache {
        let cached = directory.borrow().clone();
        let all = snapshot(&cached.directory);
        session.health.update(&cached.directory, &all);
        directory_pass(session.network.as_ref(), &cached, all);
        session.balancers.directory_cached(&cached.directory);
    }
    let telling = tell_balancers(session.balancers.applied(), outbox.clone());
    session.seams.tasks.spawn_until_stopped("balancers", telling);
    let telling = tell_samples(session.balancers.samples(), outbox.clone());
    session.seams.tasks.spawn_until_stopped("balancer samples", telling);
    for consumer in [Consumer::Dns, Consumer::Routes] {
        let telling = acknowledge(session.network.clone(), consumer, directories.clone(), outbox.clone(), has_cache);
        session.seams.tasks.spawn_until_stopped("directory", telling);
    }
    if let Some(state_dir) = session.state_dir.clone() {
        let saving = save_directories(session.seams.clone(), state_dir, directories);
        session.seams.tasks.spawn_until_stopped("directory cache", saving);
    }

    let mut pause = FIRST_PAUSE;
    let mut from_scratch = false;
    loop {
        if session.seams.tasks.is_stopping() {
            return Ok(());
        }
        let mut welcomed = false;
        let ended = once(&session, &directory, &outbox, from_scratch, &mut welcomed).await;
        outbox.send_replace(None);
        drop(session.worker.inputs.send(Input::Disconnected).await);
        if welcomed {
            pause = FIRST_PAUSE;
            session.metrics.connected.dec();
        }
        from_scratch = matches!(ended, Ended::WrongBase(_));
        match &ended {
            Ended::Stopping => return Ok(()),
            Ended::Refused { again: false, .. } => return Err(ended),
            Ended::WrongBase(_) => {
                tracing::info!(reason = %ended, "reconnecting");
                continue;
            }
            Ended::Link(links::Error::Denied { .. }) => {
                pause = LONGEST_PAUSE;
                tracing::error!(reason = %ended, "cannot connect; containers go on running");
            }
            _ => tracing::warn!(reason = %ended, "not connected; containers go on running"),
        }
        let jitter = session.seams.random.below(u64::try_from(pause.as_millis() / 2).unwrap_or(0));
        tokio::select! {
            biased;
            () = session.seams.tasks.stopping() => return Ok(()),
            () = session.seams.clock.sleep(pause / 2 + Duration::from_millis(jitter)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One connection from hello to its end.
async fn once(
    session: &Session,
    directory: &watch::Sender<Cached>,
    outboxes: &Arc<watch::Sender<Option<mpsc::Sender<Up>>>>,
    from_scratch: bool,
    welcomed: &mut bool,
) -> Ended {
    let linked = tokio::select! {
        biased;
        () = session.seams.tasks.stopping() => return Ended::Stopping,
        linked = session.source.connect() => linked,
    };
    let mut link = match linked {
        Ok(link) => link,
        Err(error) => return error.into(),
    };
    let have = if from_scratch { None } else { position(directory) };
    let hello = Hello {
        protocol: PROTOCOL,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        host_uuid: session.host_uuid.clone(),
        machine: session.facts.machine(),
        have,
        kind: session.kind.clone(),
        name: session.name.clone(),
        facts: facts(session).await,
    };
    if let Err(ended) = send(&mut link, &Up::Hello(Box::new(hello))).await {
        return ended;
    }
    let welcome = match greet(session, &mut link).await {
        Ok(welcome) => welcome,
        Err(ended) => return ended,
    };
    *welcomed = true;
    session.metrics.connects.inc();
    session.metrics.connected.inc();
    tracing::info!(
        host = welcome.host_id,
        generation = welcome.generation,
        server = welcome.server_version,
        "connected"
    );
    let (outbox, waiting) = mpsc::channel(OUTBOX);
    let connected = Input::Connected { outbox: outbox.clone(), position: welcome.position.clone() };
    if session.worker.inputs.send(connected).await.is_err() {
        return Ended::Stopping;
    }
    outboxes.send_replace(Some(outbox.clone()));
    talk(session, link, &welcome, directory, &outbox, waiting).await
}

/// The host's facts, with what the loop found out about its network.
async fn facts(session: &Session) -> HostFacts {
    let found = session.worker.network_problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let network = session.network.facts();
    HostFacts {
        network_problem: found,
        public_key: network.public_key,
        peers: network.peers,
        ..session.facts.gather().await
    }
}

/// The directory we hold, for deltas. The plan is small and always sent whole, so where it stands does not matter.
fn position(directory: &watch::Sender<Cached>) -> Option<Position> {
    let cached = directory.borrow();
    let (store, epoch, revision) = (cached.store.clone(), cached.epoch, cached.directory.revision);
    (!store.is_empty()).then_some(Position { store, epoch, revision })
}

async fn send(link: &mut Link, up: &Up) -> Result<(), Ended> {
    let bytes = frame::encode(up).map_err(|error| Ended::Odd(error.to_string()))?;
    link.send(bytes).await.map_err(|closed| Ended::Lost(closed.0))
}

async fn greet(session: &Session, link: &mut Link) -> Result<Welcome, Ended> {
    let first = tokio::select! {
        biased;
        () = session.seams.tasks.stopping() => return Err(Ended::Stopping),
        first = link.receive() => first,
        () = session.seams.clock.sleep(WELCOME_LIMIT) => return Err(Ended::NoWelcome),
    };
    match read(first)? {
        Down::Welcome(welcome) if welcome.protocol != PROTOCOL => Err(Ended::Refused {
            reason: format!(
                "it speaks protocol {}, this agent {PROTOCOL}; use the agent of its release",
                welcome.protocol
            ),
            again: true,
        }),
        Down::Welcome(welcome) => Ok(welcome),
        Down::Refused { reason, again } => Err(Ended::Refused { reason, again }),
        Down::Goodbye { reason } => Err(Ended::Goodbye(reason)),
        other => Err(Ended::Odd(format!("it began with {other:?}"))),
    }
}

fn read(message: Option<Result<bytes::Bytes, remuda_runtime::link::Closed>>) -> Result<Down, Ended> {
    match message {
        Some(Ok(bytes)) => frame::decode(&bytes).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Ended::Odd(format!("{error}{cause}"))
        }),
        Some(Err(closed)) => Err(Ended::Lost(closed.0)),
        None => Err(Ended::Lost("the server closed it".to_owned())),
    }
}

/// Both directions at once, so that neither waits for the other.
async fn talk(
    session: &Session,
    link: Link,
    welcome: &Welcome,
    directory: &watch::Sender<Cached>,
    outbox: &mpsc::Sender<Up>,
    mut waiting: mpsc::Receiver<Up>,
) -> Ended {
    let Link { mut sender, mut receiver } = link;
    let heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(100, 60_000));
    let clock = &session.seams.clock;
    let write = async {
        use futures_util::SinkExt;
        let mut next_heartbeat = if welcome.acknowledges_beats { clock.instant() } else { clock.instant() + heartbeat };
        let mut number = 0;
        session.fence.connected();
        loop {
            let up = tokio::select! {
                biased;
                () = session.seams.tasks.stopping() => {
                    let farewell = Up::Stopping { reason: "the agent was asked to stop".to_owned() };
                    if let Ok(bytes) = frame::encode(&farewell) {
                        tokio::select! {
                            biased;
                            _ = sender.send(bytes) => {}
                            () = clock.sleep(FAREWELL_LIMIT) => {}
                        }
                    }
                    return Ended::Stopping;
                }
                () = clock.sleep(next_heartbeat.saturating_duration_since(clock.instant())) => {
                    next_heartbeat = clock.instant() + heartbeat;
                    number += 1;
                    if welcome.acknowledges_beats {
                        session.fence.sending(number);
                        Up::Beat { number }
                    } else {
                        Up::Heartbeat
                    }
                }
                up = waiting.recv() => match up {
                    Some(up) => up,
                    None => return Ended::Stopping,
                },
            };
            let bytes = match frame::encode(&up) {
                Ok(bytes) => bytes,
                Err(error) => return Ended::Odd(error.to_string()),
            };
            if let Err(closed) = sender.send(bytes).await {
                return Ended::Lost(closed.0);
            }
        }
    };
    let listen = async {
        loop {
            let down = match read(receiver.next().await) {
                Ok(down) => down,
                Err(ended) => return ended,
            };
            if let Err(ended) = hear(session, welcome, directory, outbox, down).await {
                return ended;
            }
        }
    };
    let tell_facts = async {
        loop {
            tokio::select! {
                biased;
                () = session.worker.engine_changed.notified() => {}
                // Several hosts that go at once are one message.
                () = session.network.facts_changed() => clock.sleep(FACTS_GATHER).await,
                () = clock.sleep(FACTS_EVERY) => {}
            }
            let gathered = facts(session).await;
            if outbox.send(Up::Facts(Box::new(gathered))).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        ended = write => ended,
        ended = listen => ended,
        () = tell_facts => Ended::Stopping,
    }
}

async fn hear(
    session: &Session,
    welcome: &Welcome,
    directory: &watch::Sender<Cached>,
    outbox: &mpsc::Sender<Up>,
    down: Down,
) -> Result<(), Ended> {
    match down {
        Down::Plan(update) => {
            let (reply, answer) = oneshot::channel();
            let input = Input::Plan { update, position: welcome.position.clone(), reply };
            session.worker.inputs.send(input).await.map_err(|_| Ended::Stopping)?;
            let applied = answer.await.map_err(|_| Ended::Stopping)?;
            applied.map_err(|wrong| Ended::WrongBase(wrong.to_string()))
        }
        Down::Directory(update) => directory_take(session, welcome, directory, *update),
        Down::Ack { serial } => {
            session.worker.inputs.send(Input::Acknowledged { serial }).await.map_err(|_| Ended::Stopping)
        }
        Down::Open(open) => {
            stream_open(session, outbox, open);
            Ok(())
        }
        Down::Heard { number } => {
            let was_over = !session.fence.over().0.is_empty();
            session.fence.acknowledged(number);
            if was_over {
                // What was fenced may run again: the loop looks.
                session.worker.look_at_everything.notify_one();
            }
            Ok(())
        }
        Down::Goodbye { reason } => Err(Ended::Goodbye(reason)),
        Down::Refused { reason, again } => Err(Ended::Refused { reason, again }),
        Down::Welcome(_) => Err(Ended::Odd("it greeted twice".to_owned())),
    }
}

fn directory_take(
    session: &Session,
    welcome: &Welcome,
    directory: &watch::Sender<Cached>,
    update: DirectoryUpdate,
) -> Result<(), Ended> {
    let mut result = Ok(());
    directory.send_if_modified(|cached| {
        // Copied only while somebody still works with the one before.
        let applied = Arc::make_mut(&mut cached.directory).apply(update.clone());
        result = applied.map_err(|wrong| Ended::WrongBase(wrong.to_string()));
        if result.is_ok() {
            Position { store: cached.store, epoch: cached.epoch, .. } = welcome.position.clone();
            // Before anybody is told that there is a new one.
            session.health.update(&cached.directory, &update);
            directory_pass(session.network.as_ref(), cached, update);
            session.balancers.directory_set(&cached.directory);
        }
        result.is_ok()
    });
    result
}

/// Hands an update on; whoever has another base gets everything.
fn directory_pass(network: &dyn HostNetwork, cached: &Cached, update: DirectoryUpdate) {
    let source = format!("{} {}", cached.store, cached.epoch);
    let passed = network.directory_update(&source, update);
    if passed.is_err()
        && let Err(wrong) = network.directory_update(&source, snapshot(&cached.directory))
    {
        tracing::error!(%wrong, "the host's network refuses a whole directory");
    }
}

fn snapshot(directory: &Directory) -> DirectoryUpdate {
    DirectoryUpdate { revision: directory.revision, upserts: directory.entries(), ..DirectoryUpdate::default() }
}

fn stream_open(session: &Session, outbox: &mpsc::Sender<Up>, open: StreamOpen) {
    let id = open.stream.clone();
    if let Err(message) = session.streams.open(session.source.clone(), outbox.clone(), open) {
        // The connection being full is no reason to wait here: the client's own deadline tells it.
        drop(outbox.try_send(Up::StreamFailed { stream: id, message }));
    }
}

/// Writes the directory down now and then.
async fn save_directories(seams: Seams, state_dir: StateDir, mut directories: watch::Receiver<Cached>) {
    while directories.changed().await.is_ok() {
        let cached = directories.borrow_and_update().clone();
        let saving = state_dir.clone();
        let saved = seams.tasks.blocking(move || saving.save_cache(DIRECTORY_CACHE, &cached));
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(%error, "the directory is not cached: names need the server after a restart");
        }
        seams.clock.sleep(CACHE_EVERY).await;
    }
}

/// Tells the server which directory a consumer works with: when that changes, and to each new connection.
async fn acknowledge(
    network: Arc<dyn HostNetwork>,
    consumer: Consumer,
    mut directories: watch::Receiver<Cached>,
    outbox: Arc<watch::Sender<Option<mpsc::Sender<Up>>>>,
    has_cache: bool,
) {
    let mut connections = outbox.subscribe();
    let mut wanted = has_cache.then(|| directories.borrow().directory.revision);
    let mut working: Option<i64> = None;
    loop {
        let applied = async {
            match wanted {
                Some(revision) => {
                    network.directory_applied(consumer, revision).await;
                    revision
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            revision = applied => {
                (wanted, working) = (None, Some(revision));
                tell(&outbox, consumer, revision).await;
            }
            changed = directories.changed() => {
                if changed.is_err() {
                    return;
                }
                wanted = Some(directories.borrow_and_update().directory.revision);
            }
            changed = connections.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Some(revision) = working {
                    tell(&outbox, consumer, revision).await;
                }
            }
        }
    }
}

/// Says which directory the host's balancers work with.
async fn tell_balancers(
    mut applied: watch::Receiver<Option<i64>>,
    outbox: Arc<watch::Sender<Option<mpsc::Sender<Up>>>>,
) {
    let mut connections = outbox.subscribe();
    loop {
        let known = *applied.borrow_and_update();
        if let Some(revision) = known {
            tell(&outbox, Consumer::Balancer, revision).await;
        }
        let changed = tokio::select! {
            biased;
            changed = applied.changed() => changed,
            changed = connections.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Samples: what finds no connection, or a full one, is not said; totals say it the next time.
async fn tell_samples(
    mut samples: watch::Receiver<Vec<BalancerSample>>,
    outbox: Arc<watch::Sender<Option<mpsc::Sender<Up>>>>,
) {
    while samples.changed().await.is_ok() {
        let samples = samples.borrow_and_update().clone();
        if let Some(outbox) = outbox.borrow().as_ref() {
            drop(outbox.try_send(Up::Balancers { samples }));
        }
    }
}

async fn tell(outbox: &watch::Sender<Option<mpsc::Sender<Up>>>, consumer: Consumer, revision: i64) {
    let outbox = outbox.borrow().clone();
    if let Some(outbox) = outbox {
        // A connection that has ended: the next one is told anew.
        drop(outbox.send(Up::Applied { consumer, revision }).await);
    }
}
