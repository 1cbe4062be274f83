//! One server process: it starts on the store it finds, stops in order, or dies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use remuda_orchestrator::Orchestrator;
use remuda_runtime::{Seams, Tasks};
use remuda_server::{ServerOptions, ServerState, bootstrap, serve};
use remuda_store::{Seal, Store};

use crate::disk::Disk;

/// A start that takes longer has failed: the database does not answer.
const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A running server. Clones share it.
#[derive(Clone)]
pub struct Server {
    pub state: ServerState,
    pub router: Router,
    pub tasks: Tasks,
    pub disk: Arc<Disk>,
    loops: Tasks,
}

/// The address of the server: whoever listens there now.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Option<Server>>>);

impl Slot {
    pub fn get(&self) -> Option<Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, server: Option<Server>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
}

impl Server {
    /// Starts one on a store; it sees the store through `disk`.
    pub(crate) async fn start(store: &Store, seams: &Seams, seal: Seal, disk: Disk) -> Result<Server> {
        let disk = Arc::new(disk);
        let store = store.with_faults(disk.clone());
        let loops = seams.tasks.child();
        let seams = Seams { tasks: loops.clone(), ..seams.clone() };
        let orchestrator = Orchestrator::start(store.clone(), seams.clone(), remuda_orchestrator::Options::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let options = ServerOptions {
            listen: address,
            data_dir: "/nowhere".into(),
            database: String::new(),
            key_file: "/nowhere".into(),
            agents_dir: None,
            contexts_dir: "contexts".into(),
            log: String::new(),
            dev: true,
            simulator: true,
        };
        let clock = seams.clock.clone();
        let seams = Seams { tasks: loops.child(), ..seams };
        let tasks = seams.tasks.clone();
        let starting = async {
            let state = serve::open(options, store, orchestrator, seams, seal).await?;
            bootstrap::prepare(&state, address).await?;
            anyhow::Ok(state)
        };
        let started = tokio::select! {
            biased;
            started = starting => started,
            () = clock.sleep(START_WITHIN) => Err(anyhow::anyhow!("the database does not answer")),
        };
        if started.is_err() {
            disk.die();
            loops.stop();
        }
        let state = started.context("the server does not start")?;
        Ok(Server { router: serve::router(state.clone()), state, tasks, disk, loops })
    }

    /// Ends as after SIGTERM.
    pub(crate) async fn stop(self) {
        self.tasks.shut_down(STOP_WITHIN).await;
        self.loops.shut_down(STOP_WITHIN).await;
        self.disk.die();
    }

    /// Ends as after SIGKILL: nothing more is written, nobody is told.
    pub(crate) fn crash(self) {
        self.disk.die();
        self.loops.stop();
    }
}
