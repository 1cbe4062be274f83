//! Carries out what the agent asks for: keeps the directory, replaces the zone, opens sockets. The same whether it runs
//! in a process of its own or inside the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remuda_runtime::{Clock, Random, Tasks};
use remuda_wire::directory::{Directory, DirectoryUpdate, Entry};
use tokio::sync::{Mutex, Notify};

use super::cache::{self, Remembered};
use super::control::{Listening, PROTOCOL, Reply, Request, Status};
use crate::dns::answer::Zone;
use crate::dns::forward::host_upstreams;
use crate::dns::server::{Responder, listen};
use crate::overlay;

/// How long changes gather before they are saved: a busy project would otherwise write its directory all the time. What
/// a crash loses the agent sends again.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How often the host's `resolv.conf` is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The datapath itself.
pub struct Core {
    responder: Arc<Responder>,
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
    directory: Option<Arc<Directory>>,
    n_names: usize,
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
        let core = Arc::new(Core {
            responder: Arc::new(Responder::new(random)),
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
            Request::Listen { address } => self.listen(&mut state, address).await,
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
            revision: state.directory.as_ref().map(|directory| directory.revision),
            n_names: state.n_names,
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
        let have = state.directory.as_ref().filter(|_| state.source == source).map(|directory| directory.revision);
        // An agent that was restarted may hold an older cache than we do: names must not go back in time.
        if update.base.is_none() && have.is_some_and(|have| have > update.revision) && state.host_uuid == host_uuid {
            return Ok(());
        }
        if update.base.is_some() && update.base != have {
            return Err(Reply::WrongBase { have: have.unwrap_or(0) });
        }
        let mut directory = match update.base {
            Some(_) => state.directory.take().unwrap_or_default(),
            None => Arc::default(),
        };
        let keys = update.base.map(|_| {
            let upserts = update.upserts.iter().map(Entry::key);
            upserts.chain(update.removed.iter().copied()).collect()
        });
        Arc::make_mut(&mut directory).apply(update).map_err(|wrong| Reply::WrongBase { have: wrong.have })?;
        self.overlay.directory(&directory, &host_uuid, keys);
        (state.source, state.host_uuid, state.directory) = (source, host_uuid, Some(directory));
        self.replace_zone(state).await;
        self.changed.notify_one();
        Ok(())
    }

    /// Built on another thread: a large project takes longer than a question may wait.
    async fn replace_zone(&self, state: &mut State) {
        let Some(directory) = state.directory.clone() else { return };
        let host_uuid = state.host_uuid.clone();
        let build = move || {
            let host = directory.hosts.values().find(|host| host.uuid == host_uuid).map(|host| host.id);
            Zone::build(&directory, host)
        };
        match self.tasks.blocking(build).await {
            Ok(zone) => {
                state.n_names = zone.n_names();
                self.responder.set_zone(Arc::new(zone));
            }
            Err(error) => tracing::error!(%error, "building the DNS zone failed; the previous one stays"),
        }
    }

    async fn listen(&self, state: &mut State, asked: SocketAddr) -> Result<(), Reply> {
        if state.listening.iter().any(|listening| listening.asked == asked) {
            return Ok(());
        }
        let bound = match listen(&self.responder, &self.tasks, asked).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                listen(&self.responder, &self.tasks, SocketAddr::new(asked.ip(), 0)).await
            }
            other => other,
        };
        let bound =
            bound.map_err(|error| Reply::Failed { message: format!("cannot answer DNS on {asked}: {error}") })?;
        state.listening.push(Listening { asked, bound });
        self.changed.notify_one();
        Ok(())
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
            let Remembered { source, host_uuid, directory, listen, upstreams, overlay } = cache::load(path);
            // The tunnel first: it is what no other process can do.
            overlay.into_iter().for_each(|settings| self.overlay.set(settings));
            if let Some(directory) = &directory {
                self.overlay.directory(directory, &host_uuid, None);
            }
            (state.source, state.host_uuid, state.given) = (source, host_uuid, upstreams);
            state.directory = directory.map(Arc::new);
            self.replace_zone(&mut state).await;
            for address in listen {
                if let Err(Reply::Failed { message }) = self.listen(&mut state, address).await {
                    tracing::warn!("{message}");
                }
            }
        }
        self.refresh_upstreams(&mut state);
    }

    async fn keep_saved(self: Arc<Core>) {
        let Some(path) = self.cache.clone() else { return };
        loop {
            let stopping = tokio::select! {
                biased;
                () = self.tasks.stopping() => true,
                () = self.changed.notified() => false,
            };
            if !stopping {
                let _ = tokio::time::timeout(SAVE_EVERY, self.tasks.stopping()).await;
            }
            let remembered = self.remembered().await;
            let target = path.clone();
            let saved = self.tasks.blocking(move || cache::save(&target, &remembered)).await;
            if let Err(error) = saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                tracing::warn!(path = %path.display(), %error, "saving the datapath's cache failed; it is tried again");
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
            directory: state.directory.as_deref().cloned(),
            listen: state.listening.iter().map(|listening| listening.asked).collect(),
            upstreams: state.given.clone(),
            overlay: self.overlay.settings(),
        }
    }
}
