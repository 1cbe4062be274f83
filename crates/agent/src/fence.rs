//! Fencing (DESIGN §5): containers that must never run twice are stopped on a host that the server cannot hear.
//!
//! The server acknowledges heartbeats while the host counts as there. The agent notes when it *sent* the last one that was
//! acknowledged, on a clock that counts sleep, into a small file beside its other state. The watchdog, in the datapath
//! process, reads that file and stops each fenced container so long after; the server replaces it only after that, the time
//! a stop takes, and a margin. Agent and watchdog may each be killed: the file is there for whoever starts again, and after
//! a boot, whose number the file carries, nothing was acknowledged.
//!
//! Rejected: telling the watchdog over the control socket. What it must know has to survive it, so it is a file anyway.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::Clock;
use remuda_wire::plan::{ContainerPlan, Desired};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::engine::inspect;

/// The watchdog looks that often.
const LOOK: Duration = Duration::from_millis(250);
/// A container that did not stop, or came back, is stopped again after that long.
const AGAIN: Duration = Duration::from_secs(2);
/// Heartbeats whose acknowledgement may still come.
const REMEMBERED: usize = 64;

/// What the watchdog has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Orders {
    /// Boot in which the time was read.
    pub boot: String,
    /// When the last acknowledged heartbeat was sent, milliseconds since boot; `None`: none was in this boot.
    pub alive_ms: Option<u64>,
    /// Containers by uuid.
    pub containers: BTreeMap<String, Fenced>,
}

/// One container that must not run twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fenced {
    pub after_ms: u64,
    pub stop_timeout_seconds: i64,
}

impl Orders {
    /// Containers whose time is over, in that boot at that time.
    pub fn over<'a>(&'a self, boot: &str, now_ms: u64) -> impl Iterator<Item = (&'a str, Fenced)> {
        let alive = self.alive_ms.filter(|_| self.boot == boot);
        let is_over = move |of: &Fenced| alive.is_none_or(|alive| now_ms >= alive.saturating_add(of.after_ms));
        self.containers.iter().filter(move |(_, of)| is_over(of)).map(|(uuid, of)| (uuid.as_str(), *of))
    }
}

/// Where the orders are.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("fence.json")
}

fn load(path: &Path) -> Option<Orders> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn save(path: &Path, orders: &Orders) -> io::Result<()> {
    let fresh = path.with_extension("json.new");
    std::fs::write(&fresh, serde_json::to_vec(orders)?)?;
    std::fs::rename(fresh, path)
}

/// The agent's side. Clones share it.
#[derive(Clone)]
pub struct Fence {
    clock: Clock,
    boot: Arc<str>,
    path: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    orders: Orders,
    sent: BTreeMap<u64, u64>,
}

impl Fence {
    /// Goes on where the file is; without one nothing was acknowledged.
    pub fn new(clock: Clock, state_dir: Option<&Path>) -> Fence {
        let boot: Arc<str> = clock.boot().into();
        let path = state_dir.map(path);
        let known = path.as_deref().and_then(load).filter(|orders| orders.boot == *boot).unwrap_or_default();
        let orders = Orders { boot: boot.to_string(), ..known };
        Fence { clock, boot, path, state: Arc::new(Mutex::new(State { orders, sent: BTreeMap::new() })) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A heartbeat is about to be sent.
    pub fn sending(&self, number: u64) {
        let now = self.clock.boot_ms();
        let mut state = self.state();
        state.sent.insert(number, now);
        while state.sent.len() > REMEMBERED {
            state.sent.pop_first();
        }
    }

    /// A new connection numbers its heartbeats anew.
    pub fn connected(&self) {
        self.state().sent.clear();
    }

    /// The server has heard that one.
    pub fn acknowledged(&self, number: u64) {
        let mut state = self.state();
        let Some(sent) = state.sent.remove(&number) else { return };
        state.sent.retain(|other, _| *other > number);
        state.orders.alive_ms = state.orders.alive_ms.max(Some(sent));
        if !state.orders.containers.is_empty() {
            self.write(&state.orders);
        }
    }

    /// The plan is another.
    pub fn plan<'a>(&self, plans: impl Iterator<Item = &'a ContainerPlan>) {
        let fenced = plans.filter(|plan| plan.desired == Desired::Running).filter_map(|plan| {
            let after_ms = u64::try_from(plan.fence_after_ms?).ok()?;
            Some((plan.uuid.clone(), Fenced { after_ms, stop_timeout_seconds: plan.stop_timeout_seconds }))
        });
        let containers = fenced.collect();
        let mut state = self.state();
        if state.orders.containers != containers {
            state.orders.containers = containers;
            self.write(&state.orders);
        }
    }

    /// Containers that must not run now, and when the next one will not be allowed to.
    pub fn over(&self) -> (Vec<String>, Option<Duration>) {
        let state = self.state();
        if state.orders.containers.is_empty() {
            return (Vec::new(), None);
        }
        let now = self.clock.boot_ms();
        let over: Vec<String> = state.orders.over(&self.boot, now).map(|(uuid, _)| uuid.to_owned()).collect();
        let alive = state.orders.alive_ms.unwrap_or(0);
        let ends = state.orders.containers.values().map(|of| alive.saturating_add(of.after_ms));
        let next = ends.filter(|end| *end > now).min().map(|end| Duration::from_millis(end - now));
        (over, next)
    }

    fn write(&self, orders: &Orders) {
        let Some(path) = &self.path else { return };
        if let Err(error) = save(path, orders) {
            tracing::warn!(%error, path = %path.display(), "the watchdog cannot be told; it stops fenced containers early");
        }
    }
}

/// The watchdog: stops what must not run any more, with or without an agent. Ends never.
pub async fn watch(state_dir: PathBuf, engine: Arc<dyn Engine>, clock: Clock) {
    let (path, boot) = (path(&state_dir), clock.boot());
    let mut stopped: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        clock.sleep(LOOK).await;
        let Some(orders) = load(&path) else { continue };
        let now = clock.boot_ms();
        let over: Vec<(String, Fenced)> = orders.over(&boot, now).map(|(uuid, of)| (uuid.to_owned(), of)).collect();
        stopped.retain(|uuid, _| over.iter().any(|(other, _)| other == uuid));
        let again = u64::try_from(AGAIN.as_millis()).unwrap_or(u64::MAX);
        let due = |uuid: &String| stopped.get(uuid).is_none_or(|at| now >= at.saturating_add(again));
        let due: Vec<(String, Fenced)> = over.into_iter().filter(|(uuid, _)| due(uuid)).collect();
        if due.is_empty() {
            continue;
        }
        let listed = match engine.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "the engine does not say what runs; fenced containers cannot be stopped yet");
                continue;
            }
        };
        let stops = due.iter().flat_map(|(uuid, of)| {
            let is = move |labels: &BTreeMap<String, String>| labels.get(inspect::UUID_LABEL) == Some(uuid);
            listed.iter().filter(move |known| is(&known.labels)).map(move |known| (uuid, of, &known.docker_id))
        });
        let stops = stops.map(|(uuid, of, docker_id)| {
            let engine = &engine;
            async move {
                tracing::warn!(uuid, "the server has not been heard for too long: stopping a fenced container");
                let ended = engine.stop(docker_id, of.stop_timeout_seconds).await;
                if let Err(error) = ended {
                    tracing::warn!(%error, uuid, "a fenced container does not stop; killing it");
                    drop(engine.kill(docker_id).await);
                }
            }
        });
        futures_util::future::join_all(stops).await;
        stopped.extend(due.into_iter().map(|(uuid, _)| (uuid, now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::decide::testing::container;

    fn fenced(uuid: &str, after_ms: i64) -> ContainerPlan {
        ContainerPlan { fence_after_ms: Some(after_ms), ..container(uuid) }
    }

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_sending_the_last_heartbeat_that_was_heard() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::virtual_from(0);
        let fence = Fence::new(clock.clone(), Some(dir.path()));
        fence.plan([fenced("a", 10_000), fenced("b", 20_000), container("c")].iter());
        assert_eq!(fence.over().0, ["a", "b"], "nothing was heard yet");
        fence.sending(1);
        clock.sleep(Duration::from_secs(4)).await;
        fence.sending(2);
        fence.acknowledged(1);
        assert_eq!(fence.over(), (vec![], Some(Duration::from_secs(6))));
        clock.sleep(Duration::from_secs(6)).await;
        assert_eq!(fence.over().0, ["a"]);
        // The answer to the second comes late: it counts from when that was sent.
        fence.acknowledged(2);
        assert_eq!(fence.over(), (vec![], Some(Duration::from_secs(4))));
        // An agent that starts again goes on; after a boot nothing was heard.
        let again = Fence::new(clock.clone(), Some(dir.path()));
        assert_eq!(again.over(), (vec![], Some(Duration::from_secs(4))));
        let orders = load(&path(dir.path())).expect("orders");
        assert_eq!(orders.over(&clock.boot(), clock.boot_ms()).count(), 0);
        assert_eq!(orders.over("another boot", clock.boot_ms()).count(), 2);
        // An acknowledgement of what was not sent on this connection says nothing.
        again.connected();
        again.acknowledged(2);
        clock.sleep(Duration::from_secs(4)).await;
        assert_eq!(again.over().0, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_stops_without_an_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let seams = remuda_runtime::Seams::seeded(1, 0);
        let engine =
            crate::engine::simulated::Simulated::new(seams.clone(), crate::engine::simulated::Latency::usual());
        let body = serde_json::json!({"Image": "sim:x", "Labels": {inspect::UUID_LABEL: "a"}});
        engine.pull("sim:x", Arc::new(|_, _| {})).await.expect("pulled");
        let id = engine.create("x", &body).await.expect("made");
        engine.start(&id).await.expect("started");
        let fence = Fence::new(seams.clock.clone(), Some(dir.path()));
        fence.sending(1);
        fence.acknowledged(1);
        fence.plan([fenced("a", 10_000)].iter());
        drop(fence);
        let watching = watch(dir.path().to_path_buf(), Arc::new(engine.clone()), seams.clock.clone());
        let is_up = || engine.census().iter().any(|container| container.is_up);
        let looking = async {
            seams.clock.sleep(Duration::from_millis(9_900)).await;
            assert!(is_up());
            seams.clock.sleep(Duration::from_secs(12)).await;
            assert!(!is_up());
            // Somebody starts it again: it is stopped again.
            engine.start(&id).await.expect("started");
            seams.clock.sleep(Duration::from_secs(14)).await;
            assert!(!is_up());
        };
        tokio::select! {
            biased;
            () = watching => {}
            () = looking => {}
        }
    }
}
