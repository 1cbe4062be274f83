//! One balancer on this host: brings its HAProxy from what it runs to what it shall run.
//!
//! A pass looks at what runs, takes the steps of [`decide`], and looks again: runtime commands first, then (when they
//! are not enough, or did not work) check and reload. A configuration that HAProxy refuses never replaces one that
//! runs; servers go on coming and going in the one that does. Between passes nothing is remembered that the directory
//! on disk and HAProxy itself would not tell again, so an agent that was killed goes on where it was.
//!
//! Each start begins with [`Instance::prepare`]: the configuration is on disk before HAProxy is. One that ran before
//! is started again, with today's servers; one that never ran is tried once, and when the container ends with it,
//! the next start is with an idle configuration, so that HAProxy lives and can be asked what was wrong.

use std::sync::Arc;
use std::time::Duration;

use remuda_runtime::Clock;
use tokio::time::Instant;

use crate::balancer::check;
use crate::balancer::commands::{self, ActualServers};
use crate::balancer::decide::{Lingering, Step, decide, skeleton, with_servers_of};
use crate::balancer::master::{self, Master};
use crate::balancer::place::{self, Dir, State};
use crate::balancer::rendered::Rendered;
use crate::engine::{self, Engine};

/// Reloads of one balancer are at least that far apart: each leaves a worker that finishes its connections.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// Withdrawn servers whose connections did not end are tried again after that long.
const LINGER_LOOK: Duration = Duration::from_secs(1);

/// A step that did not succeed; the pass may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Place(#[from] place::Error),
    #[error(transparent)]
    Master(#[from] master::Error),
    #[error("cannot have HAProxy check the configuration: {0}")]
    Check(#[source] engine::Error),
}

/// One run of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub docker_id: String,
    /// Tells one run of a container from the next.
    pub started_at: Option<i64>,
}

/// How a pass ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What HAProxy refuses, in its words. The servers are right nevertheless.
    pub problem: Option<String>,
    /// Something is still to do then.
    pub again: Option<Duration>,
}

/// What HAProxy runs.
struct Running {
    rendered: Rendered,
    generation: u64,
    lingering: Lingering,
}

/// A configuration that was refused is not tried again until it changes.
struct Refused {
    skeleton: String,
    files: std::collections::BTreeMap<String, Vec<u8>>,
    reason: String,
}

impl Refused {
    fn is(&self, wanted: &Rendered) -> bool {
        self.files == wanted.files && self.skeleton == skeleton(wanted)
    }
}

/// What passes did, for those who count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reloads: u64,
    /// Conversations that changed servers or certificates.
    pub runtime_changes: u64,
    pub refusals: u64,
}

pub struct Instance {
    dir: Dir,
    engine: Arc<dyn Engine>,
    clock: Clock,
    master: Master,
    run: Option<Run>,
    /// `None`: not known yet.
    running: Option<Running>,
    refused: Option<Refused>,
    reloaded_at: Option<Instant>,
    /// Of the directory that is being followed.
    pub revision: i64,
    pub counts: Counts,
}

impl Instance {
    pub fn new(dir: Dir, engine: Arc<dyn Engine>, clock: Clock) -> Instance {
        let master = Master::new(dir.socket(), clock.clone());
        Instance {
            dir,
            engine,
            clock,
            master,
            run: None,
            running: None,
            refused: None,
            reloaded_at: None,
            revision: 0,
            counts: Counts::default(),
        }
    }

    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub fn master(&self) -> &Master {
        &self.master
    }

    /// Of the directory that what HAProxy runs was made from; it may be newer than the one an agent finds in its cache.
    pub fn revision_on_disk(&self) -> Option<i64> {
        self.dir.state().map(|state| state.revision)
    }

    /// Before a start: puts on disk what HAProxy shall begin with.
    pub fn prepare(&mut self, wanted: &Rendered) -> Result<(), Error> {
        self.dir.make()?;
        (self.run, self.running) = (None, None);
        let before = self.dir.state();
        let known = before.as_ref().and_then(|state| self.dir.rendered(state).ok());
        let (begin, proven) = match (&before, known) {
            (Some(state), Some(known)) if state.proven => (with_servers_of(&known, wanted), true),
            (Some(_), _) => (idle(wanted), true),
            (None, _) => (wanted.clone(), false),
        };
        let generation = self.dir.write(&begin)?;
        self.dir.switch(generation)?;
        self.dir.state_save(&State { generation, proven, revision: self.revision, backends: begin.backends })?;
        self.dir.tidy();
        Ok(())
    }

    /// Brings the HAProxy of this run to `wanted`.
    pub async fn pass(&mut self, run: &Run, wanted: &Rendered) -> Result<Passed, Error> {
        if self.run.as_ref() != Some(run) {
            (self.run, self.running) = (Some(run.clone()), None);
        }
        let passed = self.pass_from_known(run, wanted).await;
        if passed.is_err() {
            // Half of the steps may have been taken.
            self.running = None;
        }
        passed
    }

    async fn pass_from_known(&mut self, run: &Run, wanted: &Rendered) -> Result<Passed, Error> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.found().await?,
        };
        drop(self.refused.take_if(|refused| !refused.is(wanted)));
        let refused = self.refused.as_ref().map(|refused| refused.reason.clone());
        let reachable = with_servers_of(&running.rendered, wanted);
        let target = if refused.is_some() { &reachable } else { wanted };
        let mut steps = decide(&running.rendered, &running.lingering, target);
        let mut reload = match steps.pop_if(|step| matches!(step, Step::Reload { .. })) {
            Some(Step::Reload { why }) => Some(why),
            _ => None,
        };
        let mut failed = None;
        if !steps.is_empty() {
            failed = self.take(&steps, &mut running, &reachable, wanted).await?;
            reload = reload.or_else(|| failed.clone());
        }
        let mut passed = Passed { problem: refused.clone(), again: None };
        if let Some(why) = reload {
            match self.until_next_reload() {
                Some(wait) => passed.again = Some(wait),
                None => {
                    let problem = self.reload(run, target, &mut running, &why).await?;
                    // What was refused now must not keep the servers from what a reload of the old rules can do.
                    passed.again = problem.as_ref().and(failed).filter(|_| refused.is_none()).map(|_| RELOAD_EVERY);
                    passed.problem = problem.or(refused);
                }
            }
        }
        if !running.lingering.is_empty() {
            self.delete_lingering(&mut running).await?;
            if !running.lingering.is_empty() {
                passed.again = Some(passed.again.map_or(LINGER_LOOK, |wait| wait.min(LINGER_LOOK)));
            }
        }
        self.running = Some(running);
        Ok(passed)
    }

    /// What runs in a container that this value has not met: what the disk says, if HAProxy says the same.
    async fn found(&mut self) -> Result<Running, Error> {
        self.master.wait_started().await?;
        let actual = self.master.servers().await?;
        let Some(mut state) = self.dir.state() else { return Ok(unknown()) };
        let Ok(rendered) = self.dir.rendered(&state) else { return Ok(unknown()) };
        if !state.proven {
            state.proven = true;
            self.dir.state_save(&state)?;
        }
        // Drained servers have their state from a command, which a start forgets.
        let drains = drains(&rendered, &actual);
        for line in commands::lines(&drains) {
            self.master.ask(&line).await?;
        }
        let actual = if drains.is_empty() { actual } else { self.master.servers().await? };
        if let Some(mismatch) = commands::mismatch(&actual, &rendered) {
            tracing::debug!(mismatch, "HAProxy runs something else than is on disk");
            return Ok(unknown());
        }
        Ok(Running { rendered, generation: state.generation, lingering: Lingering::new() })
    }

    /// Takes steps while HAProxy runs; gives why they were not enough.
    async fn take(
        &mut self,
        steps: &[Step],
        running: &mut Running,
        reachable: &Rendered,
        wanted: &Rendered,
    ) -> Result<Option<String>, Error> {
        self.counts.runtime_changes += 1;
        let mut said = String::new();
        for line in commands::lines(steps) {
            said.push_str(&self.master.ask(&line).await?);
        }
        let actual = self.master.servers().await?;
        if let Some(mismatch) = commands::mismatch(&actual, reachable) {
            tracing::debug!(mismatch, said = said.trim(), "commands were not enough");
            return Ok(Some(mismatch));
        }
        let mut next = reachable.clone();
        let mut failed = None;
        for step in steps {
            match step {
                Step::Withdraw { backend, name } => {
                    let servers = running.rendered.backends.get(backend).into_iter().flatten();
                    if let Some(server) = servers.into_iter().find(|server| server.name == *name) {
                        running.lingering.insert((backend.clone(), name.clone()), server.clone());
                    }
                }
                Step::TakeBack { backend, server } => {
                    running.lingering.remove(&(backend.clone(), server.name.clone()));
                }
                Step::Certificate { path, pem } => {
                    if let Err(words) = self.master.certificate_replace(path, pem).await? {
                        tracing::debug!(path, words, "the certificate was not taken while running");
                        failed = Some(format!("the certificate {path} changed"));
                    } else {
                        next.files.insert(path.clone(), pem.clone());
                    }
                }
                Step::Add { .. } | Step::Drain { .. } | Step::Weight { .. } | Step::Reload { .. } => {}
            }
        }
        // The text is the wanted one's where that is what runs now: the next start reads it.
        if skeleton(&next) == skeleton(wanted) && next.backends == wanted.backends {
            next.config.clone_from(&wanted.config);
        }
        running.generation = self.dir.write(&next)?;
        self.in_use(running.generation, &next)?;
        running.rendered = next;
        Ok(failed)
    }

    /// A generation is what runs.
    fn in_use(&self, generation: u64, rendered: &Rendered) -> Result<(), Error> {
        self.dir.switch(generation)?;
        let backends = rendered.backends.clone();
        self.dir.state_save(&State { generation, proven: true, revision: self.revision, backends })?;
        self.dir.tidy();
        Ok(())
    }

    fn until_next_reload(&self) -> Option<Duration> {
        let next = self.reloaded_at? + RELOAD_EVERY;
        let wait = next.saturating_duration_since(self.clock.instant());
        (!wait.is_zero()).then_some(wait)
    }

    /// Has HAProxy check the configuration and, when it takes it, read it. Gives its words when it does not.
    async fn reload(
        &mut self,
        run: &Run,
        wanted: &Rendered,
        running: &mut Running,
        why: &str,
    ) -> Result<Option<String>, Error> {
        let generation = self.dir.write(wanted)?;
        let checked = check::check(self.engine.as_ref(), &self.clock, &run.docker_id, generation, &wanted.config).await;
        let mut refusal = checked.map_err(Error::Check)?.err();
        if refusal.is_none() {
            // From here until the state is saved the disk says "not known", for an agent that is killed meanwhile.
            self.dir.switch(generation)?;
            match self.master.reload().await {
                Ok(processes) => {
                    tracing::info!(why, old_workers = processes.n_old, "HAProxy has a new configuration");
                    self.counts.reloads += 1;
                    self.reloaded_at = Some(self.clock.instant());
                    self.in_use(generation, wanted)?;
                    let drains = drains(wanted, &self.master.servers().await?);
                    for line in commands::lines(&drains) {
                        self.master.ask(&line).await?;
                    }
                    *running = Running { rendered: wanted.clone(), generation, lingering: Lingering::new() };
                }
                Err(master::Error::NotLoaded) => {
                    refusal = Some(master::Error::NotLoaded.to_string());
                    self.reloaded_at = Some(self.clock.instant());
                    // The master waits for something it can load.
                    if running.generation != 0 {
                        self.dir.switch(running.generation)?;
                        self.master.reload().await?;
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        if let Some(reason) = &refusal {
            self.counts.refusals += 1;
            self.refused =
                Some(Refused { skeleton: skeleton(wanted), files: wanted.files.clone(), reason: reason.clone() });
            self.dir.tidy();
        }
        Ok(refusal)
    }

    /// HAProxy deletes a server when its last connection is gone.
    async fn delete_lingering(&mut self, running: &mut Running) -> Result<(), Error> {
        for line in commands::deletions(running.lingering.keys()) {
            self.master.ask(&line).await?;
        }
        let actual = self.master.servers().await?;
        running.lingering.retain(|of, _| actual.contains_key(of));
        Ok(())
    }
}

/// Something runs, and nobody knows what: only a reload helps.
fn unknown() -> Running {
    Running { rendered: Rendered::default(), generation: 0, lingering: Lingering::new() }
}

/// The commands that drain what shall drain: a configuration file cannot say it.
fn drains(wanted: &Rendered, actual: &ActualServers) -> Vec<Step> {
    let servers = wanted.backends.iter().flat_map(|(backend, servers)| servers.iter().map(move |it| (backend, it)));
    let missing = servers.filter(|(backend, server)| {
        let known = actual.get(&((*backend).clone(), server.name.clone()));
        server.drain && known.is_some_and(|known| !known.drain)
    });
    missing
        .map(|(backend, server)| Step::Drain { backend: backend.clone(), name: server.name.clone(), drain: true })
        .collect()
}

/// The wanted configuration's health listener and nothing else: every HAProxy takes it.
fn idle(wanted: &Rendered) -> Rendered {
    let lines = wanted.config.lines();
    let section = lines.skip_while(|line| line.split_whitespace().collect::<Vec<_>>() != ["listen", "health"]);
    let binds: Vec<&str> = section
        .skip(1)
        .take_while(|line| line.starts_with(char::is_whitespace))
        .filter(|line| line.split_whitespace().next() == Some("bind"))
        .collect();
    let binds = if binds.is_empty() { "    bind :42".to_owned() } else { binds.join("\n") };
    let config = format!(
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\nlisten health\n{binds}\n"
    );
    Rendered { config, ..Rendered::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_configuration_keeps_the_health_listener() {
        let config = "global\n    rubbish\nlisten health\n    mode tcp\n    bind *:77\nfrontend 80\n    bind *:80\n";
        let idle = idle(&Rendered { config: config.into(), ..Rendered::default() });
        assert!(idle.config.contains("bind *:77") && !idle.config.contains("80"), "{}", idle.config);
        assert!(!idle.config.contains("rubbish"), "{}", idle.config);
    }
}
