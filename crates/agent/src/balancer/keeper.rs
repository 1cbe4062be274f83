//! All balancers of this host: one task for each, woken by a new plan, a new directory, or a container that starts.
//!
//! A wake-up says "look", never "what": a task that was busy finds the newest of everything when it comes back, so many
//! changes become one pass and none waits for quiet. When every balancer that serves works with a directory, its
//! revision is [`Keeper::applied`]: what those wait for who want to stop a target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use remuda_runtime::{Seams, Tasks};
use remuda_wire::balancer::BalancerPlan;
use remuda_wire::directory::Directory;
use remuda_wire::observe::BalancerSample;
use tokio::sync::{Notify, watch};

use crate::balancer::instance::{Instance, Passed, Run};
use crate::balancer::master::Master;
use crate::balancer::place::{Dir, Place};
use crate::balancer::render::render;
use crate::balancer::rendered::Rendered;
use crate::balancer::stats::Summary;
use crate::engine::Engine;
use crate::metrics::Metrics;

/// A container that is about to start waits that long for the directory.
const DIRECTORY_LIMIT: Duration = Duration::from_secs(20);
/// How often HAProxy's counters are read.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pauses after a pass that did not succeed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Passes that fail one after the other before people hear of it.
const QUIET_FAILURES: u32 = 5;

/// Why a balancer cannot be started, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Problem(pub String);

/// The balancers of one host. Clones share them.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

struct Shared {
    seams: Seams,
    engine: Arc<dyn Engine>,
    /// `None`: simulated containers have no HAProxy; all but that is as it is elsewhere.
    place: Option<Place>,
    metrics: Metrics,
    state: Mutex<State>,
    directory: watch::Sender<Known>,
    applied: watch::Sender<Option<i64>>,
    problems: watch::Sender<BTreeMap<String, String>>,
    samples: watch::Sender<Vec<BalancerSample>>,
}

/// The newest directory. It is the session's: held here, each change of it would copy the whole.
#[derive(Clone, Default)]
struct Known {
    revision: Option<i64>,
    directory: Weak<Directory>,
    /// It was found on disk, and may be older than what HAProxy follows already.
    cached: bool,
}

#[derive(Default)]
struct State {
    balancers: BTreeMap<String, Balancer>,
}

struct Balancer {
    plan: Arc<BalancerPlan>,
    presence: Presence,
    /// Of the directory it works with.
    applied: i64,
    instance: Option<Arc<tokio::sync::Mutex<Instance>>>,
    master: Option<Master>,
    summary: Summary,
    sample: BalancerSample,
    wake: Arc<Notify>,
    tasks: Tasks,
}

/// What is there of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Presence {
    Down,
    /// It was prepared and is being started: it may serve at any moment.
    Starting,
    Up(Run),
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Keeper {
    pub fn new(seams: Seams, engine: Arc<dyn Engine>, place: Option<Place>, metrics: Metrics) -> Keeper {
        let shared = Arc::new(Shared {
            seams,
            engine,
            place,
            metrics,
            state: Mutex::default(),
            directory: watch::channel(Known::default()).0,
            applied: watch::channel(None).0,
            problems: watch::channel(BTreeMap::new()).0,
            samples: watch::channel(Vec::new()).0,
        });
        if shared.place.is_some() {
            let looking = shared.clone();
            let task = async move { looking.look_at_all().await };
            shared.seams.tasks.spawn_until_stopped("balancer statistics", task);
        }
        Keeper(shared)
    }

    /// Revision of the directory that all of this host's balancers work with.
    pub fn applied(&self) -> watch::Receiver<Option<i64>> {
        self.0.applied.subscribe()
    }

    /// What is wrong with balancers, by the uuid of their containers.
    pub fn problems(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.0.problems.subscribe()
    }

    /// What balancers did, for those that did something since the last time.
    pub fn samples(&self) -> watch::Receiver<Vec<BalancerSample>> {
        self.0.samples.subscribe()
    }

    /// The balancers of the plan, by the uuid of their containers.
    pub fn plans_set(&self, plans: &BTreeMap<String, BalancerPlan>) {
        let mut state = self.0.state();
        state.balancers.retain(|uuid, balancer| {
            let stays = plans.contains_key(uuid);
            if !stays {
                self.0.metrics.balancer_forget(&balancer.plan.service, uuid);
            }
            stays
        });
        for (uuid, plan) in plans {
            match state.balancers.get_mut(uuid) {
                Some(known) if *known.plan == *plan => {}
                Some(known) => {
                    known.plan = Arc::new(plan.clone());
                    known.wake.notify_one();
                }
                None => {
                    let balancer = self.0.begin(uuid, plan.clone());
                    state.balancers.insert(uuid.clone(), balancer);
                }
            }
        }
        self.0.problems.send_if_modified(|problems| {
            let before = problems.len();
            problems.retain(|uuid, _| plans.contains_key(uuid));
            problems.len() != before
        });
        self.0.publish(&state);
    }

    /// A directory from the server.
    pub fn directory_set(&self, directory: &Arc<Directory>) {
        self.directory_take(directory, false);
    }

    /// The directory that was found in the state directory: written now and then only, so that balancers which follow a
    /// newer one stay with that.
    pub fn directory_cached(&self, directory: &Arc<Directory>) {
        self.directory_take(directory, true);
    }

    fn directory_take(&self, directory: &Arc<Directory>, cached: bool) {
        let known = Known { revision: Some(directory.revision), directory: Arc::downgrade(directory), cached };
        self.0.directory.send_replace(known);
        let state = self.0.state();
        for balancer in state.balancers.values() {
            balancer.wake.notify_one();
        }
        self.0.publish(&state);
    }

    /// Which balancers' containers run, and which have an action under way.
    pub fn presence_set(&self, up: &BTreeMap<String, Run>, busy: &BTreeSet<String>) {
        let mut state = self.0.state();
        let mut changed = false;
        for (uuid, balancer) in &mut state.balancers {
            let now = match up.get(uuid) {
                Some(run) => Presence::Up(run.clone()),
                None if balancer.presence == Presence::Starting && busy.contains(uuid) => Presence::Starting,
                None => Presence::Down,
            };
            if balancer.presence != now {
                balancer.presence = now;
                balancer.wake.notify_one();
                changed = true;
            }
        }
        if changed {
            self.0.publish(&state);
        }
    }

    /// Before a container is created or started: what it begins with is on disk. `None`: it is no balancer.
    pub async fn prepare(&self, uuid: &str) -> Result<Option<Dir>, Problem> {
        let known = {
            let state = self.0.state();
            state.balancers.get(uuid).and_then(|balancer| Some((balancer.instance.clone()?, balancer.plan.clone())))
        };
        let Some((instance, plan)) = known else { return Ok(None) };
        let mut directories = self.0.directory.subscribe();
        let known = async {
            loop {
                let known = directories.borrow_and_update().directory.upgrade();
                if known.is_some() || directories.changed().await.is_err() {
                    return known;
                }
            }
        };
        let known = tokio::select! {
            biased;
            known = known => known,
            () = self.0.seams.clock.sleep(DIRECTORY_LIMIT) => None,
        };
        let missing = || Problem("the server has not said yet which containers there are".to_owned());
        let directory = known.ok_or_else(missing)?;
        let revision = directory.revision;
        let rendered = render(&plan, &directory).map_err(|error| Problem(error.to_string()))?;
        drop(directory);
        let mut instance = instance.lock().await;
        instance.revision = revision;
        instance.prepare(&rendered).map_err(|error| Problem(error.to_string()))?;
        let mut state = self.0.state();
        if let Some(balancer) = state.balancers.get_mut(uuid) {
            (balancer.presence, balancer.applied) = (Presence::Starting, revision);
        }
        Ok(Some(instance.dir().clone()))
    }

    /// The container is gone: nothing of its configuration stays.
    pub fn forget(&self, uuid: &str) {
        if let Some(place) = &self.0.place
            && let Err(error) = place.dir(uuid).remove()
        {
            tracing::warn!(uuid, %error, "the configuration of a removed load balancer stays");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Shared>, uuid: &str, plan: BalancerPlan) -> Balancer {
        let instance = self.place.as_ref().map(|place| {
            let instance = Instance::new(place.dir(uuid), self.engine.clone(), self.seams.clock.clone());
            Arc::new(tokio::sync::Mutex::new(instance))
        });
        let master = self.place.as_ref().map(|place| Master::new(place.dir(uuid).socket(), self.seams.clock.clone()));
        let tasks = self.seams.tasks.child();
        let wake = Arc::new(Notify::new());
        let (shared, uuid) = (self.clone(), uuid.to_owned());
        tasks.spawn_until_stopped("balancer", {
            let (wake, instance) = (wake.clone(), instance.clone());
            async move { shared.keep(&uuid, &wake, instance.as_deref()).await }
        });
        Balancer {
            plan: Arc::new(plan),
            presence: Presence::Down,
            applied: -1,
            instance,
            master,
            summary: Summary::default(),
            sample: BalancerSample::default(),
            wake,
            tasks,
        }
    }

    /// Says which directory all balancers that serve work with.
    fn publish(&self, state: &State) {
        let Some(newest) = self.directory.borrow().revision else { return };
        let serving = state.balancers.values().filter(|balancer| balancer.presence != Presence::Down);
        let applied = serving.map(|balancer| balancer.applied).chain([newest]).min();
        // Never back: what was said of one that starts is still true of those that served.
        self.applied.send_if_modified(|known| {
            let news = applied > *known && applied.is_some_and(|revision| revision >= 0);
            if news {
                *known = applied;
            }
            news
        });
    }

    /// One balancer, until it is no longer planned.
    async fn keep(&self, uuid: &str, wake: &Notify, instance: Option<&tokio::sync::Mutex<Instance>>) {
        let mut again: Option<Duration> = None;
        let mut n_failures = 0_u32;
        loop {
            match again {
                Some(pause) => tokio::select! {
                    biased;
                    () = wake.notified(), if n_failures == 0 => {}
                    () = self.seams.clock.sleep(pause) => {}
                },
                None => wake.notified().await,
            }
            again = None;
            let seen = {
                let state = self.state();
                let balancer = state.balancers.get(uuid);
                balancer.map(|balancer| (balancer.plan.clone(), balancer.presence.clone()))
            };
            let Some((plan, Presence::Up(run))) = seen else { continue };
            // While a newer one is made there is none for a moment; it wakes us.
            let known = self.directory.borrow().clone();
            let Some(directory) = known.directory.upgrade() else { continue };
            if known.cached && is_behind(instance, directory.revision).await {
                continue;
            }
            let (revision, rendered) = (directory.revision, render(&plan, &directory));
            drop(directory);
            let passed = match rendered {
                Ok(rendered) => self.pass(instance, &run, revision, &rendered).await,
                Err(error) => {
                    // No other try makes a difference.
                    self.problem_set(uuid, Some(error.to_string()));
                    continue;
                }
            };
            match passed {
                Ok(passed) => {
                    n_failures = 0;
                    again = passed.again;
                    self.problem_set(uuid, passed.problem);
                    let mut state = self.state();
                    if let Some(balancer) = state.balancers.get_mut(uuid)
                        && balancer.presence == Presence::Up(run)
                    {
                        balancer.applied = revision;
                    }
                    self.publish(&state);
                }
                Err(reason) => {
                    n_failures = n_failures.saturating_add(1);
                    again = Some((FIRST_PAUSE * 2_u32.pow(n_failures.min(8) - 1)).min(LONGEST_PAUSE));
                    tracing::debug!(uuid, reason, n_failures, "a load balancer does not follow yet");
                    if n_failures == QUIET_FAILURES {
                        tracing::warn!(uuid, service = plan.service, reason, "a load balancer does not follow");
                        self.problem_set(uuid, Some(reason));
                    }
                }
            }
        }
    }

    async fn pass(
        &self,
        instance: Option<&tokio::sync::Mutex<Instance>>,
        run: &Run,
        revision: i64,
        rendered: &Rendered,
    ) -> Result<Passed, String> {
        let Some(instance) = instance else { return Ok(Passed::default()) };
        let mut instance = instance.lock().await;
        let before = instance.counts;
        instance.revision = revision;
        let passed = instance.pass(run, rendered).await;
        let after = instance.counts;
        self.metrics.balancer_reloads.inc_by(after.reloads - before.reloads);
        self.metrics.balancer_runtime_changes.inc_by(after.runtime_changes - before.runtime_changes);
        self.metrics.balancer_refusals.inc_by(after.refusals - before.refusals);
        passed.map_err(|error| error.to_string())
    }

    /// Reads the counters of all that run, again and again.
    async fn look_at_all(&self) {
        loop {
            self.seams.clock.sleep(LOOK_EVERY).await;
            let running: Vec<(String, Master)> = {
                let state = self.state();
                let up = state.balancers.iter().filter(|(_, it)| matches!(it.presence, Presence::Up(_)));
                up.filter_map(|(uuid, it)| Some((uuid.clone(), it.master.clone()?))).collect()
            };
            let mut news = Vec::new();
            for (uuid, master) in running {
                // One that is just being reloaded is looked at the next time.
                let Ok((pid, look)) = master.look().await else { continue };
                let now_ms = u64::try_from(self.seams.clock.now_ms()).unwrap_or(0);
                let mut state = self.state();
                let Some(balancer) = state.balancers.get_mut(&uuid) else { continue };
                let sample = balancer.summary.take(&uuid, pid, now_ms, look);
                if sample != balancer.sample {
                    self.metrics.balancer_sample(&balancer.plan.service, &sample);
                    balancer.sample = sample.clone();
                    news.push(sample);
                }
            }
            if !news.is_empty() {
                self.samples.send_replace(news);
            }
        }
    }

    fn problem_set(&self, uuid: &str, problem: Option<String>) {
        self.problems.send_if_modified(|problems| match problem {
            Some(problem) if problems.get(uuid) == Some(&problem) => false,
            Some(problem) => {
                problems.insert(uuid.to_owned(), problem);
                true
            }
            None => problems.remove(uuid).is_some(),
        });
    }
}

/// Whether what HAProxy follows was made from a newer directory.
async fn is_behind(instance: Option<&tokio::sync::Mutex<Instance>>, revision: i64) -> bool {
    match instance {
        Some(instance) => instance.lock().await.revision_on_disk().is_some_and(|known| known > revision),
        None => false,
    }
}
