//! Carries out what the agent asks for: keeps the book of names and metadata, opens sockets. The same whether it runs
//! in a process of its own or inside the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use remuda_runtime::{Clock, Random, Tasks};
use remuda_wire::directory::{Directory, DirectoryUpdate, Entry, Key};
use tokio::sync::{Mutex, Notify, watch};

use super::cache::{self, Remembered};
use super::control::{Listening, PROTOCOL, Reply, Request, Status, What};
use crate::book::Book;
use crate::dns;
use crate::dns::forward::host_upstreams;
use crate::dns::server::{Responder, Shelf};
use crate::metadata;
use crate::overlay;

/// How long changes gather before they are saved: a busy project would otherwise write its directory all the time. What
/// a crash loses the agent sends again.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// A large directory is saved less often: no more bytes a second than this.
const SAVED_BYTES_PER_SECOND: u64 = 1 << 20;
/// How often the host's `resolv.conf` is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The datapath itself.
pub struct Core {
    shelf: Shelf,
    responder: Arc<Responder>,
    metadata: Arc<metadata::Server>,
    /// What metadata shows has changed.
    seen: watch::Sender<i64>,
    tasks: Tasks,
    state: Mutex<State>,
    /// Where the state is kept; `None` keeps nothing.
    cache: Option<PathBuf>,
    resolv_conf: PathBuf,
    changed: Notify,
    overlay: overlay::Keeper,
}

#[derive(Default)]
struct State {
    source: String,
    host_uuid: String,
    /// Name servers the agent named; empty: those of the host.
    given: Vec<SocketAddr>,
    upstreams: Vec<SocketAddr>,
    listening: Vec<Listening>,
}

impl Core {
    /// Starts from what is remembered, if anything is, and keeps saving until `tasks` stops.
    pub async fn start(
        clock: &Clock,
        random: Random,
        tasks: Tasks,
        resolv_conf: PathBuf,
        cache: Option<PathBuf>,
    ) -> Arc<Core> {
        let (shelf, seen) = (Shelf::default(), watch::Sender::new(0));
        let core = Arc::new(Core {
            responder: Arc::new(Responder::new(random, shelf.clone())),
            metadata: Arc::new(metadata::Server::new(shelf.clone(), seen.subscribe())),
            shelf,
            seen,
            tasks: tasks.clone(),
            state: Mutex::default(),
            cache,
            resolv_conf,
            changed: Notify::new(),
            overlay: overlay::Keeper::start(clock, &tasks),
        });
        core.restore().await;
        tasks.spawn_until_stopped("datapath upstreams", core.clone().follow_resolv_conf());
        if core.cache.is_some() {
            tasks.spawn("datapath cache", core.clone().keep_saved());
        }
        core
    }

    /// Does what is asked. [`Request::Stop`] stops the core's tasks.
    pub async fn handle(&self, request: Request) -> Reply {
        let mut state = self.state.lock().await;
        let concerns_overlay = matches!(request, Request::Directory { .. } | Request::Overlay { .. });
        let done = match request {
            Request::Status => Ok(()),
            Request::Directory { source, host_uuid, update } => {
                self.directory(&mut state, source, host_uuid, update).await
            }
            Request::Upstreams { servers } => {
                state.given = servers;
                self.refresh_upstreams(&mut state);
                self.changed.notify_one();
                Ok(())
            }
            Request::Listen { address, what } => self.listen(&mut state, what, address).await,
            Request::Overlay { settings } => {
                self.overlay.set(settings);
                self.changed.notify_one();
                Ok(())
            }
            Request::Stop => {
                self.tasks.stop();
                Ok(())
            }
        };
        if concerns_overlay && done.is_ok() {
            // What the answer says of routes shall be so. Names are in force already, and others may ask meanwhile.
            drop(state);
            self.overlay.carried_out().await;
            state = self.state.lock().await;
        }
        done.map_or_else(|reply| reply, |()| Reply::Status(Box::new(self.status(&state))))
    }

    fn status(&self, state: &State) -> Status {
        Status {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            source: state.source.clone(),
            revision: self.revision(),
            n_names: self.look(Book::n_names).unwrap_or(0),
            listening: state.listening.clone(),
            upstreams: state.upstreams.clone(),
            counts: self.responder.counts(),
            overlay: self.overlay.status(),
            refused: Vec::new(),
        }
    }

    async fn directory(
        &self,
        state: &mut State,
        source: String,
        host_uuid: String,
        update: DirectoryUpdate,
    ) -> Result<(), Reply> {
        let have = self.revision().filter(|_| state.source == source);
        // An agent that was restarted may hold an older cache than we do: names must not go back in time.
        if update.base.is_none() && have.is_some_and(|have| have > update.revision) && state.host_uuid == host_uuid {
            return Ok(());
        }
        // Another host of the same name space has other clients: everything is looked at again.
        if update.base.is_some() && (update.base != have || state.host_uuid != host_uuid) {
            return Err(Reply::WrongBase { have: have.filter(|_| state.host_uuid == host_uuid).unwrap_or(0) });
        }
        let keys: Option<Vec<Key>> = update.base.map(|_| {
            let upserts = update.upserts.iter().map(Entry::key);
            upserts.chain(update.removed.iter().copied()).collect()
        });
        match update.base {
            Some(_) => {
                let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
                let applied = shelf.as_mut().map(|book| book.apply(update));
                applied.unwrap_or(Ok(())).map_err(|wrong| Reply::WrongBase { have: wrong.have })?;
            }
            None => self.replace(&source, &host_uuid, update).await?,
        }
        self.look(|book| self.overlay.directory(book.directory(), &host_uuid, keys));
        (state.source, state.host_uuid) = (source, host_uuid);
        self.tell();
        self.changed.notify_one();
        Ok(())
    }

    /// A whole directory. Put together on another thread: a large project takes longer than a question may wait.
    async fn replace(&self, source: &str, host_uuid: &str, update: DirectoryUpdate) -> Result<(), Reply> {
        let before = self.look(|book| (book.copy(), book.version(), book.source.clone()));
        let (source, host_uuid) = (source.to_owned(), host_uuid.to_owned());
        let build = move || {
            let mut directory = Directory::default();
            // A snapshot has no base that could be wrong.
            let _ = directory.apply(update);
            let same = before.and_then(|(before, version, old)| {
                let before = Directory { revision: directory.revision, ..before };
                (old == source && before == directory).then_some(version)
            });
            let version = same.unwrap_or(directory.revision);
            let mut book = Book::with_version(directory, &host_uuid, version);
            book.source = source;
            book
        };
        let book = self.tasks.blocking(build).await;
        let book =
            book.map_err(|error| Reply::Failed { message: format!("taking a directory over failed: {error}") })?;
        let old = self.shelf.write().unwrap_or_else(PoisonError::into_inner).replace(book);
        // A large one takes its time to go, and nobody has to wait for that.
        drop(self.tasks.blocking(move || drop(old)).await);
        Ok(())
    }

    /// Something of the current book.
    fn look<T>(&self, at: impl FnOnce(&Book) -> T) -> Option<T> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(at)
    }

    fn revision(&self) -> Option<i64> {
        self.look(|book| book.directory().revision)
    }

    /// Wakes who waits for metadata to change.
    fn tell(&self) {
        if let Some(version) = self.look(Book::version) {
            self.seen.send_if_modified(|seen| std::mem::replace(seen, version) != version);
        }
    }

    async fn listen(&self, state: &mut State, what: What, asked: SocketAddr) -> Result<(), Reply> {
        if state.listening.iter().any(|listening| (listening.what, listening.asked) == (what, asked)) {
            return Ok(());
        }
        let bound = match self.open(what, asked).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                self.open(what, SocketAddr::new(asked.ip(), 0)).await
            }
            other => other,
        };
        let bound =
            bound.map_err(|error| Reply::Failed { message: format!("cannot answer {what} on {asked}: {error}") })?;
        state.listening.push(Listening { what, asked, bound });
        self.changed.notify_one();
        Ok(())
    }

    async fn open(&self, what: What, address: SocketAddr) -> std::io::Result<SocketAddr> {
        match what {
            What::Dns => dns::server::listen(&self.responder, &self.tasks, address).await,
            What::Metadata => metadata::listen(&self.metadata, &self.tasks, address).await,
        }
    }

    fn refresh_upstreams(&self, state: &mut State) {
        let servers = match state.given.is_empty() {
            false => state.given.clone(),
            true => host_upstreams(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default()),
        };
        if servers != state.upstreams {
            self.responder.set_upstreams(&servers);
            state.upstreams = servers;
        }
    }

    async fn follow_resolv_conf(self: Arc<Core>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.refresh_upstreams(&mut *self.state.lock().await);
        }
    }

    async fn restore(&self) {
        let mut state = self.state.lock().await;
        if let Some(path) = &self.cache {
            let Remembered { source, host_uuid, directory, version, listen, upstreams, overlay } = cache::load(path);
            // The tunnel first: it is what no other process can do.
            overlay.into_iter().for_each(|settings| self.overlay.set(settings));
            if let Some(directory) = &directory {
                self.overlay.directory(directory, &host_uuid, None);
            }
            (state.source, state.host_uuid, state.given) = (source, host_uuid, upstreams);
            if let Some(directory) = directory {
                let mut book = Book::with_version(directory, &state.host_uuid, version);
                book.source.clone_from(&state.source);
                *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = Some(book);
                self.tell();
            }
            for (what, address) in listen {
                if let Err(Reply::Failed { message }) = self.listen(&mut state, what, address).await {
                    tracing::warn!("{message}");
                }
            }
        }
        self.refresh_upstreams(&mut state);
    }

    async fn keep_saved(self: Arc<Core>) {
        let Some(path) = self.cache.clone() else { return };
        let mut n_saved = 0;
        loop {
            let stopping = tokio::select! {
                biased;
                () = self.tasks.stopping() => true,
                () = self.changed.notified() => false,
            };
            if !stopping {
                let pause = SAVE_EVERY.max(Duration::from_secs(n_saved as u64 / SAVED_BYTES_PER_SECOND));
                let _ = tokio::time::timeout(pause, self.tasks.stopping()).await;
            }
            let remembered = self.remembered().await;
            let target = path.clone();
            let saved = self.tasks.blocking(move || cache::save(&target, &remembered)).await;
            match saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok(length) => n_saved = length,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "saving the datapath's cache failed; it is tried again");
                }
            }
            if stopping {
                return;
            }
        }
    }

    async fn remembered(&self) -> Remembered {
        let state = self.state.lock().await;
        Remembered {
            source: state.source.clone(),
            host_uuid: state.host_uuid.clone(),
            directory: self.look(Book::copy),
            version: self.look(Book::version).unwrap_or(0),
            listen: state.listening.iter().map(|listening| (listening.what, listening.asked)).collect(),
            upstreams: state.given.clone(),
            overlay: self.overlay.settings(),
        }
    }
}
