//! One simulated machine: an engine that outlives its agent, a state directory that outlives it too, and the cable to
//! the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remuda_agent::engine::Engine;
use remuda_agent::engine::simulated::neighbours::Neighbours;
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::host_network::SimulatedNetwork;
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{self, Host};
use remuda_agent::state_dir::{Identity, StateDir};
use remuda_runtime::{Clock, Seams, Tasks};

use crate::cable::Cable;

const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A machine. Its agent runs, or does not.
pub struct Machine {
    pub name: String,
    pub engine: Simulated,
    pub cable: Cable,
    /// The machine's own; it may be wrong.
    pub clock: Clock,
    identity: Identity,
    state: tempfile::TempDir,
    agent: Option<Tasks>,
}

impl Machine {
    pub(crate) fn new(
        name: &str,
        seams: &Seams,
        neighbours: &Neighbours,
        identity: Identity,
        cable: Cable,
    ) -> Result<Machine> {
        Ok(Machine {
            name: name.to_owned(),
            engine: Simulated::among(neighbours, seams.clone(), Latency::usual()),
            cable,
            clock: Clock::virtual_from(seams.clock.now_ms()),
            identity,
            state: tempfile::tempdir()?,
            agent: None,
        })
    }

    /// The host's own name for itself, which the server knows it by.
    pub fn host_uuid(&self) -> &str {
        &self.identity.host_uuid
    }

    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// Starts the agent, if it does not run.
    pub fn agent_start(&mut self, world: &Seams) -> Result<()> {
        if self.agent.is_some() {
            return Ok(());
        }
        let tasks = world.tasks.child();
        let seams = Seams { clock: self.clock.clone(), tasks: tasks.clone(), ..world.clone() };
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let network = Arc::new(SimulatedNetwork);
        let mut host = Host::simulated(&self.name, engine, network, self.identity.clone(), None, BTreeMap::new());
        host.state_dir = Some(StateDir::open(self.state.path())?);
        let source = Arc::new(self.cable.clone());
        tasks.spawn_until_stopped("agent", async move {
            if let Err(error) = run::run(seams, host, source, Metrics::default()).await {
                tracing::info!(%error, "the agent ends");
            }
        });
        self.agent = Some(tasks);
        Ok(())
    }

    /// Ends the agent as SIGKILL does. What the engine was told goes on.
    pub fn agent_crash(&mut self) {
        self.cable.cut();
        if let Some(tasks) = self.agent.take() {
            tasks.stop();
        }
    }

    /// Ends the agent as SIGTERM does: it says goodbye.
    pub async fn agent_stop(&mut self) {
        if let Some(tasks) = self.agent.take() {
            tasks.shut_down(STOP_WITHIN).await;
        }
    }

    /// Somebody deletes the agent's cache; the identity stays. Only while the agent does not run.
    pub fn cache_lose(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.state.path())? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(())
    }
}
