//! The agent's end of the datapath: finds the running process by its socket or starts one, keeps it told, and says
//! which directory revision it answers from.
//!
//! The agent hands over directory updates and never waits; a task holds the connection, repeats what a new process
//! does not know, and starts another when the old one is gone.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::{Random, Seams};
use remuda_wire::directory::{Container, Directory, DirectoryUpdate, Entry, Key, WrongBase};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::control::{self, Listening, PROTOCOL, Refused, Reply, Request, Status, What};
use super::core::Core;
use crate::overlay;

/// Differences kept for a datapath that lags; beyond that it gets a snapshot.
const MAX_PENDING: usize = 64;
/// How often a quiet connection is tried.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long one exchange may take; taking a large directory over is part of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a new process may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The log of the process is started anew with it beyond this size.
const LOG_LIMIT: u64 = 1 << 20;

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

impl Launch {
    /// `PROGRAM datapath --state-dir DIR`, the program being the agent's own executable.
    pub fn of_executable(program: PathBuf, state_dir: &Path) -> Launch {
        Launch { program, args: vec!["datapath".into(), "--state-dir".into(), state_dir.into()] }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("the datapath is not running: {reason}")]
    NotRunning { reason: String },
    #[error("{message}")]
    Refused { message: String },
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    status: watch::Receiver<Result<Status, Error>>,
}

struct Shared {
    wanted: Mutex<Wanted>,
    changed: Notify,
    /// The directory has become another one.
    updated: watch::Sender<()>,
}

/// What the datapath shall know and do.
#[derive(Default)]
struct Wanted {
    host_uuid: String,
    source: String,
    directory: Option<Directory>,
    /// Differences that lead from some revision to the directory's, each based on the one before.
    pending: VecDeque<DirectoryUpdate>,
    upstreams: Option<Vec<SocketAddr>>,
    overlay: Option<overlay::Settings>,
    listen: Vec<(What, SocketAddr)>,
    stop: bool,
}

impl Handle {
    /// A process of its own in `state_dir`. It is found or started at once and whenever it is gone.
    pub fn of_process(seams: &Seams, state_dir: PathBuf, host_uuid: String, launch: Launch) -> Handle {
        Handle::start(seams, host_uuid, Peer::Process { state_dir, launch })
    }

    /// The datapath inside this process: for tests and hosts without a state directory. Remembers nothing.
    pub async fn in_process(seams: &Seams, host_uuid: String, resolv_conf: PathBuf) -> Handle {
        let core = Core::start(&seams.clock, seams.random.clone(), seams.tasks.child(), resolv_conf, None).await;
        Handle::start(seams, host_uuid, Peer::Here(core))
    }

    fn start(seams: &Seams, host_uuid: String, peer: Peer) -> Handle {
        let shared = Arc::new(Shared {
            wanted: Mutex::new(Wanted { host_uuid, ..Wanted::default() }),
            changed: Notify::new(),
            updated: watch::Sender::new(()),
        });
        let (sender, status) = watch::channel(Err(Error::NotRunning { reason: "it is being started".to_owned() }));
        let keeper = Keeper { shared: shared.clone(), peer, status: sender, random: seams.random.clone() };
        seams.tasks.spawn_until_stopped("datapath keeper", keeper.run());
        Handle { shared, status }
    }

    /// Takes an update of the directory over and passes it on. `source` names the server's database and restore
    /// epoch; an update of another source must be a snapshot.
    pub fn update(&self, source: &str, update: DirectoryUpdate) -> Result<(), WrongBase> {
        {
            let mut wanted = self.wanted();
            if let Some(base) = update.base {
                let have = wanted.directory.as_ref().filter(|_| wanted.source == source);
                let have = have.map_or(0, |directory| directory.revision);
                if have != base {
                    return Err(WrongBase { base, have });
                }
            }
            wanted.directory.get_or_insert_default().apply(update.clone())?;
            source.clone_into(&mut wanted.source);
            match update.base {
                None => wanted.pending.clear(),
                Some(_) if wanted.pending.len() < MAX_PENDING => wanted.pending.push_back(update),
                Some(_) => wanted.pending.clear(),
            }
        }
        self.shared.changed.notify_one();
        self.shared.updated.send_replace(());
        Ok(())
    }

    /// Name servers to use instead of the host's.
    pub fn set_upstreams(&self, servers: Vec<SocketAddr>) {
        self.wanted().upstreams = Some(servers);
        self.shared.changed.notify_one();
    }

    /// Answers on this address as well, and returns where: the port differs when the one asked for is taken.
    pub async fn listen(&self, what: What, address: SocketAddr) -> Result<SocketAddr, Error> {
        {
            let mut wanted = self.wanted();
            if !wanted.listen.contains(&(what, address)) {
                wanted.listen.push((what, address));
            }
        }
        self.shared.changed.notify_one();
        let mut status = self.status.clone();
        let found = async {
            loop {
                if let Ok(status) = &*status.borrow_and_update()
                    && let Some(bound) = bound_of(&status.listening, what, address)
                {
                    return Ok(bound);
                }
                status.changed().await.map_err(|_| ended())?;
                if let Ok(status) = &*status.borrow()
                    && let Some(refused) =
                        status.refused.iter().find(|refused| (refused.what, refused.asked) == (what, address))
                {
                    return Err(Error::Refused { message: refused.message.clone() });
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| {
            Err(match &*self.status.borrow() {
                Err(error) => error.clone(),
                Ok(_) => Error::NotRunning { reason: "it did not answer in time".to_owned() },
            })
        })
    }

    /// Has the way to other hosts made so, and waits until it is; why not, when it cannot be.
    pub async fn overlay(&self, settings: overlay::Settings) -> Result<(), Error> {
        self.wanted().overlay = Some(settings.clone());
        self.shared.changed.notify_one();
        let mut status = self.status.clone();
        let applied = status.wait_for(|status| {
            let overlay = status.as_ref().map(|status| &status.overlay);
            overlay.is_ok_and(|overlay| overlay.settings.as_ref() == Some(&settings))
        });
        match timeout(PATIENCE, applied).await {
            Ok(Ok(status)) => match status.as_ref().ok().and_then(|status| status.overlay.problem.clone()) {
                Some(message) => Err(Error::Refused { message }),
                None => Ok(()),
            },
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(Error::NotRunning { reason: "it did not answer in time".to_owned() }),
        }
    }

    /// Waits until routes are of `revision` of the current source or a later one.
    pub async fn wait_routes(&self, revision: i64) -> Result<(), Error> {
        let mut status = self.status.clone();
        loop {
            let routes = {
                let source = self.wanted().source.clone();
                let status = status.borrow_and_update();
                status.as_ref().ok().filter(|status| status.source == source).and_then(|status| status.overlay.revision)
            };
            if routes.is_some_and(|routes| routes >= revision) {
                return Ok(());
            }
            status.changed().await.map_err(|_| ended())?;
        }
    }

    /// How the datapath stands, as of the last exchange; changes are seen by [`watch::Receiver::changed`].
    pub fn status(&self) -> watch::Receiver<Result<Status, Error>> {
        self.status.clone()
    }

    /// Revision of the directory that answers come from now; `None` while unknown or of another source.
    pub fn applied(&self) -> Option<i64> {
        let wanted = self.wanted();
        let status = self.status.borrow();
        status.as_ref().ok().filter(|status| status.source == wanted.source).and_then(|status| status.revision)
    }

    /// Waits until answers come from `revision` of the current source or a later one.
    pub async fn wait_applied(&self, revision: i64) -> Result<(), Error> {
        let mut status = self.status.clone();
        loop {
            if self.applied().is_some_and(|applied| applied >= revision) {
                return Ok(());
            }
            status.changed().await.map_err(|_| ended())?;
        }
    }

    /// Waits until answers come from a directory that has the container of that uuid on a host.
    pub async fn wait_known(&self, uuid: &str) -> Result<(), Error> {
        let mut updated = self.shared.updated.subscribe();
        loop {
            updated.borrow_and_update();
            let known = {
                let wanted = self.wanted();
                let directory = wanted.directory.as_ref();
                let is_it = |row: &Arc<Container>| row.uuid == uuid && row.host_id.is_some();
                directory.filter(|directory| directory.containers.values().any(is_it)).map(|found| found.revision)
            };
            match known {
                Some(revision) => return self.wait_applied(revision).await,
                None => updated.changed().await.map_err(|_| ended())?,
            }
        }
    }

    /// Ends the datapath for good: names stop resolving on this host. Returns when it is gone.
    pub async fn stop(&self) {
        self.wanted().stop = true;
        self.shared.changed.notify_one();
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.shared.wanted()
    }
}

fn ended() -> Error {
    Error::NotRunning { reason: "it was stopped".to_owned() }
}

fn bound_of(listening: &[Listening], what: What, asked: SocketAddr) -> Option<SocketAddr> {
    listening
        .iter()
        .find(|listening| (listening.what, listening.asked) == (what, asked))
        .map(|listening| listening.bound)
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Peer {
    Process { state_dir: PathBuf, launch: Launch },
    Here(Arc<Core>),
}

enum Connection {
    Socket(BufReader<UnixStream>),
    Here(Arc<Core>),
}

impl Connection {
    async fn call(&mut self, request: Request) -> io::Result<Reply> {
        match self {
            Connection::Here(core) => Ok(core.handle(request).await),
            Connection::Socket(stream) => {
                let exchange = async {
                    control::write(stream, &request).await?;
                    control::read(stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
                };
                timeout(PATIENCE, exchange).await?
            }
        }
    }
}

/// The task behind a [`Handle`].
struct Keeper {
    shared: Arc<Shared>,
    peer: Peer,
    status: watch::Sender<Result<Status, Error>>,
    random: Random,
}

impl Keeper {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = match self.connect().await {
                Ok(connection) => {
                    pause = FIRST_PAUSE;
                    self.keep(connection).await
                }
                Err(error) => Some(error),
            };
            let Some(error) = ended else { return };
            tracing::warn!(%error, "the datapath cannot be reached; trying again");
            drop(self.status.send_replace(Err(Error::NotRunning { reason: error.to_string() })));
            if self.shared.wanted().stop {
                return;
            }
            let jitter = Duration::from_millis(self.random.below(100));
            tokio::time::sleep(pause + jitter).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Keeps the datapath told until the connection fails (why) or it was stopped on request (`None`).
    async fn keep(&self, mut connection: Connection) -> Option<io::Error> {
        loop {
            match self.tell(&mut connection).await {
                Ok(Some(status)) => drop(self.status.send_replace(Ok(status))),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
            match connection {
                Connection::Here(_) => self.shared.changed.notified().await,
                Connection::Socket(_) => drop(timeout(PING_EVERY, self.shared.changed.notified()).await),
            }
        }
    }

    /// One round: asks how it stands and says what it does not know. `None`: it was told to stop.
    async fn tell(&self, connection: &mut Connection) -> io::Result<Option<Status>> {
        let mut status = expect_status(connection.call(Request::Status).await?)?;
        if self.shared.wanted().stop {
            connection.call(Request::Stop).await?;
            self.wait_until_gone().await;
            return Ok(None);
        }
        let upstreams = self.shared.wanted().upstreams.clone();
        if let Some(servers) = upstreams.filter(|servers| *servers != status.upstreams) {
            status = expect_status(connection.call(Request::Upstreams { servers }).await?)?;
        }
        let overlay = self.shared.wanted().overlay.clone();
        if let Some(settings) = overlay.filter(|settings| status.overlay.settings.as_ref() != Some(settings)) {
            status = expect_status(connection.call(Request::Overlay { settings }).await?)?;
        }
        while let Some(request) = self.next_directory(&status) {
            status = match connection.call(request).await? {
                Reply::WrongBase { .. } => {
                    self.shared.wanted().pending.clear();
                    expect_status(connection.call(Request::Status).await?)?
                }
                other => expect_status(other)?,
            };
        }
        let listen = self.shared.wanted().listen.clone();
        let mut refused = Vec::new();
        for (what, asked) in listen {
            if bound_of(&status.listening, what, asked).is_none() {
                match connection.call(Request::Listen { address: asked, what }).await? {
                    Reply::Failed { message } => refused.push(Refused { what, asked, message }),
                    other => status = expect_status(other)?,
                }
            }
        }
        Ok(Some(Status { refused, ..status }))
    }

    /// What to send so that the datapath gets nearer to the directory here; `None` when it has that, or a later one.
    fn next_directory(&self, status: &Status) -> Option<Request> {
        let mut wanted = self.shared.wanted();
        let target = wanted.directory.as_ref()?.revision;
        let have = status.revision.filter(|_| status.source == wanted.source);
        if have.is_some_and(|have| have >= target) {
            wanted.pending.clear();
            return None;
        }
        while wanted.pending.front().is_some_and(|update| update.base < have) {
            wanted.pending.pop_front();
        }
        let fits = have.is_some() && wanted.pending.front().is_some_and(|update| update.base == have);
        let difference = if fits { merged(wanted.pending.drain(..)) } else { None };
        let update = difference.unwrap_or_else(|| {
            wanted.pending.clear();
            let directory = wanted.directory.as_ref();
            DirectoryUpdate {
                revision: target,
                base: None,
                upserts: directory.map(Directory::entries).unwrap_or_default(),
                removed: Vec::new(),
            }
        });
        Some(Request::Directory { source: wanted.source.clone(), host_uuid: wanted.host_uuid.clone(), update })
    }

    async fn connect(&self) -> io::Result<Connection> {
        let (state_dir, launch) = match &self.peer {
            Peer::Here(core) => return Ok(Connection::Here(core.clone())),
            Peer::Process { state_dir, launch } => (state_dir, launch),
        };
        if let Ok(mut connection) = open(state_dir).await {
            match connection.call(Request::Status).await {
                Ok(Reply::Status(status)) if status.protocol == PROTOCOL => return Ok(connection),
                answer => {
                    tracing::info!(?answer, "replacing a datapath that speaks another protocol");
                    let _ = connection.call(Request::Stop).await;
                    self.wait_until_gone().await;
                }
            }
        }
        if self.shared.wanted().stop {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "it was stopped"));
        }
        launch_process(state_dir, launch)?;
        let listening = async {
            loop {
                match open(state_dir).await {
                    Ok(connection) => return connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        timeout(START_PATIENCE, listening).await.map_err(|_| {
            let log = log_path(state_dir);
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it was started and does not listen; see {}", log.display()),
            )
        })
    }

    async fn wait_until_gone(&self) {
        if let Peer::Process { state_dir, .. } = &self.peer {
            wait_until_gone(state_dir).await;
        }
    }
}

/// How the datapath of that state directory stands, if one runs: for `remuda agent status`.
pub async fn status_of(state_dir: &Path) -> Option<Status> {
    let reply = open(state_dir).await.ok()?.call(Request::Status).await.ok()?;
    expect_status(reply).ok()
}

/// Ends the datapath of that state directory, if one runs: for `remuda agent clean`. `true` when there was one.
pub async fn stop_process(state_dir: &Path) -> bool {
    let Ok(mut connection) = open(state_dir).await else { return false };
    let _ = connection.call(Request::Stop).await;
    wait_until_gone(state_dir).await;
    true
}

async fn wait_until_gone(state_dir: &Path) {
    let gone = async {
        while open(state_dir).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(START_PATIENCE, gone).await.is_err() {
        tracing::warn!(state_dir = %state_dir.display(), "a datapath that was told to stop still answers");
    }
}

/// Differences that follow each other as one: a busy project must not build up a queue.
fn merged(updates: impl Iterator<Item = DirectoryUpdate>) -> Option<DirectoryUpdate> {
    let mut updates = updates.peekable();
    let base = updates.peek()?.base;
    let mut revision = 0;
    let mut changes: BTreeMap<Key, Option<Entry>> = BTreeMap::new();
    for update in updates {
        revision = update.revision;
        changes.extend(update.removed.into_iter().map(|key| (key, None)));
        changes.extend(update.upserts.into_iter().map(|entry| (entry.key(), Some(entry))));
    }
    let removed = changes.iter().filter(|(_, entry)| entry.is_none()).map(|(key, _)| *key).collect();
    Some(DirectoryUpdate { revision, base, upserts: changes.into_values().flatten().collect(), removed })
}

fn expect_status(reply: Reply) -> io::Result<Status> {
    let unexpected = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    match reply {
        Reply::Status(status) => Ok(*status),
        Reply::Failed { message } => Err(unexpected(message)),
        Reply::WrongBase { have } => Err(unexpected(format!("it asks for a snapshot to replace revision {have}"))),
    }
}

/// The control socket.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("datapath.sock")
}

fn log_path(state_dir: &Path) -> PathBuf {
    state_dir.join("datapath.log")
}

/// Unix socket addresses hold 108 bytes; the directory's descriptor makes any path short while it is open.
pub(crate) fn shortened(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket needs a directory"));
    };
    let dir = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok((dir, short))
}

async fn open(state_dir: &Path) -> io::Result<Connection> {
    let (_dir, short) = shortened(&socket_path(state_dir))?;
    Ok(Connection::Socket(BufReader::new(UnixStream::connect(short).await?)))
}

/// Its output goes to a file: a pipe of ours would end with us.
fn launch_process(state_dir: &Path, launch: &Launch) -> io::Result<()> {
    std::fs::create_dir_all(state_dir)?;
    let path = log_path(state_dir);
    let is_long = std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_LIMIT);
    let log = File::options().create(true).write(true).append(!is_long).truncate(is_long).open(&path)?;
    let mut command = tokio::process::Command::new(&launch.program);
    command.args(&launch.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Not waited for: it outlives us, and the runtime collects it when it ends before us.
    let child = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", launch.program.display())))?;
    tracing::info!(pid = child.id(), "started the datapath");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use hickory_proto::op::Message;
    use remuda_wire::directory::{Container, Host, Stack};
    use tokio::net::UdpSocket;

    use super::super::process;
    use super::*;
    use crate::dns::packet;

    /// A filter that matches no test, so that the test program takes it.
    const CHILD_MARK: &str = "state-directory-of-the-datapath:";
    const SOURCE: &str = "store.0";
    /// Far beyond what anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    fn container(address: &str) -> Entry {
        Entry::Container(Container {
            id: 1,
            name: "box".into(),
            state: "running".into(),
            network_mode: "managed".into(),
            host_id: Some(1),
            address: Some(address.into()),
            ..Container::default()
        })
    }

    fn snapshot(revision: i64, address: &str) -> DirectoryUpdate {
        let host = Entry::Host(Host { id: 1, uuid: "host".into(), ..Host::default() });
        DirectoryUpdate { revision, base: None, upserts: vec![host, container(address)], removed: vec![] }
    }

    fn delta(base: i64, revision: i64, address: &str) -> DirectoryUpdate {
        DirectoryUpdate { revision, base: Some(base), upserts: vec![container(address)], removed: vec![] }
    }

    /// The addresses of `box`, or the code when there are none.
    async fn ask(server: SocketAddr) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server).await.unwrap();
        socket.send(&packet::write_question(7, "box.rancher.internal").unwrap()).await.unwrap();
        let mut buffer = [0; 512];
        let length = timeout(LIMIT, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
        let message = Message::from_vec(&buffer[..length]).unwrap();
        match message.answers.is_empty() {
            true => format!("{:?}", message.response_code),
            false => message.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(" "),
        }
    }

    async fn within<T>(what: impl Future<Output = T>) -> T {
        timeout(LIMIT, what).await.expect("in time")
    }

    #[test]
    fn merged_differences_do_what_they_do_one_by_one() {
        let stack = |id: i64, name: &str| Entry::Stack(Stack { id, name: name.into(), ..Stack::default() });
        let update = |revision: i64, upserts: Vec<Entry>, removed: Vec<Key>| DirectoryUpdate {
            revision,
            base: Some(revision - 1),
            upserts,
            removed,
        };
        let updates = [
            update(2, vec![stack(1, "new"), stack(2, "short-lived")], vec![]),
            update(3, vec![stack(3, "back")], vec![Key::Stack(2), Key::Stack(4)]),
            update(4, vec![stack(1, "newer"), stack(4, "back")], vec![Key::Stack(3)]),
        ];
        let mut start = Directory { revision: 1, ..Directory::default() };
        for id in [1, 3, 4] {
            start.put(stack(id, "old"));
        }
        let mut one_by_one = start.clone();
        for update in updates.clone() {
            one_by_one.apply(update).unwrap();
        }
        let mut at_once = start;
        at_once.apply(merged(updates.into_iter()).unwrap()).unwrap();
        assert_eq!(at_once, one_by_one);
        assert_eq!(merged(std::iter::empty()), None);
    }

    #[tokio::test]
    async fn updates_are_applied_in_the_same_process() {
        let seams = Seams::real();
        let handle = Handle::in_process(&seams, "host".into(), "/nonexistent".into()).await;
        let server = handle.listen(What::Dns, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!((ask(server).await.as_str(), handle.applied()), ("ServFail", None));
        handle.update(SOURCE, snapshot(5, "10.42.0.5")).unwrap();
        within(handle.wait_applied(5)).await.unwrap();
        assert_eq!(ask(server).await, "10.42.0.5");
        for revision in 6..200 {
            handle.update(SOURCE, delta(revision - 1, revision, &format!("10.42.0.{revision}"))).unwrap();
        }
        within(handle.wait_applied(199)).await.unwrap();
        assert_eq!(ask(server).await, "10.42.0.199");
        assert_eq!(handle.update(SOURCE, delta(3, 4, "10.42.0.9")), Err(WrongBase { base: 3, have: 199 }));
        assert!(handle.update("restored.1", delta(199, 200, "10.42.0.9")).is_err(), "another database");
        handle.update("restored.1", snapshot(2, "10.42.0.2")).unwrap();
        within(handle.wait_applied(2)).await.unwrap();
        assert_eq!((ask(server).await.as_str(), handle.applied()), ("10.42.0.2", Some(2)));
        let gone = DirectoryUpdate { revision: 3, base: Some(2), upserts: vec![], removed: vec![Key::Container(1)] };
        handle.update("restored.1", gone).unwrap();
        within(handle.wait_applied(3)).await.unwrap();
        assert_eq!(ask(server).await, "NXDomain");
        within(handle.stop()).await;
        assert!(seams.tasks.shut_down(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_refused_with_the_reason() {
        let seams = Seams::real();
        let handle = Handle::in_process(&seams, "host".into(), "/nonexistent".into()).await;
        let error = within(handle.listen(What::Dns, "192.0.2.1:0".parse().unwrap())).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot answer DNS on 192.0.2.1:0"), "{error}");
        seams.tasks.shut_down(Duration::from_secs(5)).await;
    }

    /// The process the next test starts: this test program again, told by a trailing argument which directory to use.
    #[test]
    fn datapath_child() {
        let Some(dir) = std::env::args().skip_while(|arg| arg != CHILD_MARK).nth(1) else { return };
        let options = process::Options { state_dir: dir.into(), resolv_conf: "/nonexistent".into() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(process::run(options, Seams::real())).unwrap();
    }

    fn launch(state_dir: &Path) -> Launch {
        let args = ["--exact", "datapath::handle::tests::datapath_child", "--nocapture", CHILD_MARK];
        let args = args.iter().map(OsString::from).chain([state_dir.into()]).collect();
        Launch { program: std::env::current_exe().unwrap(), args }
    }

    async fn pid(handle: &Handle, other_than: u32) -> u32 {
        let mut status = handle.status();
        let found = status.wait_for(|status| status.as_ref().is_ok_and(|status| status.pid != other_than));
        let status = within(found).await.unwrap();
        status.as_ref().unwrap().pid
    }

    #[tokio::test]
    async fn the_process_outlives_its_agent_and_is_replaced_when_it_dies() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than a socket address may be.
        let state_dir = dir.path().join("a-state-directory-with-quite-a-long-name".repeat(3));
        let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let asked: SocketAddr = ([127, 0, 0, 1], port).into();
        let agent = |seams: &Seams| Handle::of_process(seams, state_dir.clone(), "host".into(), launch(&state_dir));

        let seams = Seams::real();
        let first = agent(&seams);
        let server = within(first.listen(What::Dns, asked)).await.unwrap();
        first.update(SOURCE, snapshot(5, "10.42.0.5")).unwrap();
        within(first.wait_applied(5)).await.unwrap();
        first.update(SOURCE, delta(5, 6, "10.42.0.6")).unwrap();
        within(first.wait_applied(6)).await.unwrap();
        let process = pid(&first, 0).await;
        assert_ne!(process, std::process::id());
        assert!(seams.tasks.shut_down(Duration::from_secs(5)).await, "the agent ends");
        assert_eq!(ask(server).await, "10.42.0.6");

        let seams = Seams::real();
        let second = agent(&seams);
        assert_eq!(pid(&second, 0).await, process, "found again");
        second.update(SOURCE, snapshot(4, "10.42.0.4")).unwrap();
        assert_eq!(within(second.listen(What::Dns, asked)).await.unwrap(), server);
        assert_eq!((ask(server).await.as_str(), second.applied()), ("10.42.0.6", Some(6)), "never back in time");
        second.update(SOURCE, delta(4, 7, "10.42.0.7")).unwrap();
        within(second.wait_applied(7)).await.unwrap();

        let killed = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap();
        assert!(killed.success());
        let successor = pid(&second, process).await;
        within(second.wait_applied(7)).await.unwrap();
        let server = within(second.listen(What::Dns, asked)).await.unwrap();
        assert_eq!(ask(server).await, "10.42.0.7");
        assert_eq!(status_of(&state_dir).await.map(|status| status.pid), Some(successor));
        assert_eq!(std::fs::metadata(socket_path(&state_dir)).unwrap().permissions().mode() & 0o777, 0o600);

        within(second.stop()).await;
        assert!(status_of(&state_dir).await.is_none());
        assert!(!stop_process(&state_dir).await, "nothing left to stop");
        seams.tasks.shut_down(Duration::from_secs(5)).await;
    }
}
