//! The loop of one host: takes what it hears (plan, engine, connection, ends of actions), decides, acts, reports.
//!
//! One task owns all of it, so there is nothing to lock and every decision sees one state. Actions run beside it, one
//! per container at a time; their ends come back as inputs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remuda_runtime::Seams;
use remuda_wire::observe::{ContainerObserved, StartFailed, StateChange, Status, Vote};
use remuda_wire::plan::{Desired, NetworkPlan, PlanUpdate};
use remuda_wire::session::{Position, Up};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::balancer::instance::Run;
use crate::engine::Progress;
use crate::engine::inspect::Container;
use crate::host_network::Problem;
use crate::metrics::Metrics;
use crate::reconcile::act::{Outcome, Seen, Tools, act};
use crate::reconcile::decide::{Action, Situation, decide};
use crate::reconcile::held::{Held, WrongBase};
use crate::reconcile::memory::{Memory, REMOVING, STOPPING};
use crate::reconcile::observed::Observed;
use crate::reconcile::report::Reporter;
use crate::state_dir::StateDir;

const PLAN_CACHE: &str = "plan";
const MEMORY_CACHE: &str = "memory";
/// Actions under way at once; most of them wait for a turn at the engine or for a pull.
const MOST_ACTIONS: usize = 64;
/// Inputs taken before the next decision.
const INPUTS_AT_ONCE: usize = 256;
/// A report that found the connection full is offered again after that long.
const REOFFER_MS: u64 = 100;
/// Why the engine counts as away before it was asked.
const NOT_ASKED: &str = "it was not asked yet";
const PROGRESS_EVERY_MS: u64 = 1_000;
/// The plan is cached at most that often: writing all of it for each container of many is work without use, and what a
/// killed agent did not write down the server tells it again.
const PLAN_EVERY_MS: u64 = 1_000;
/// The network is looked after that often: engines and firewalls rewrite what they find.
const NETWORK_EVERY_MS: u64 = 30_000;

/// What the loop hears.
pub enum Input {
    /// A plan from the server; the answer says whether it fits.
    Plan {
        update: Box<PlanUpdate>,
        position: Position,
        reply: oneshot::Sender<Result<(), WrongBase>>,
    },
    /// Docker ids of planned containers that run, with the ids the API shows: for statistics.
    PublicIds {
        reply: oneshot::Sender<BTreeMap<String, String>>,
    },
    /// A connection is up.
    Connected {
        outbox: mpsc::Sender<Up>,
        position: Position,
    },
    Disconnected,
    /// The server stored a report.
    Acknowledged {
        serial: u64,
    },
    /// Everything the engine has. Containers with a higher ticket that it does not name are newer than it.
    Listing {
        ticket: u64,
        containers: Vec<Seen>,
    },
    Seen(Seen),
    EngineDown(String),
    Ended {
        action: Box<Action>,
        outcome: Outcome,
    },
    /// A health check has come to something.
    Vote(Vote),
    /// This host does not check that any more.
    VoteOver {
        map: String,
    },
    Network {
        plan: NetworkPlan,
        result: Result<String, Problem>,
    },
    Progress {
        uuid: String,
        message: String,
        percent: Option<i64>,
    },
}

/// The plan as it is cached: it means something only for the store it came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cached {
    store: String,
    epoch: i64,
    held: Held,
}

/// What the server knows of a container.
struct Shown {
    observed: ContainerObserved,
    pause_until_ms: Option<u64>,
}

pub struct Worker {
    tools: Arc<Tools>,
    seams: Seams,
    origin: tokio::time::Instant,
    state_dir: Option<StateDir>,
    metrics: Metrics,
    inputs: mpsc::Receiver<Input>,
    /// For the actions.
    own_inputs: mpsc::Sender<Input>,
    look_at_everything: Arc<Notify>,
    engine_changed: Arc<Notify>,

    cached: Cached,
    /// The plan is not cached as it is.
    plan_changed: bool,
    plan_saved_at_ms: u64,
    observed: Observed,
    /// Ticket of the latest look at a container, also of one that is gone.
    tickets: BTreeMap<String, u64>,
    memory: Memory,
    memory_changed: bool,
    busy: BTreeSet<String>,
    engine_down: Option<String>,
    settled: bool,

    outbox: Option<mpsc::Sender<Up>>,
    reporter: Reporter,
    complete_owed: bool,
    /// Removals wait until a complete report was acknowledged.
    hold_removals: bool,
    reoffer_at_ms: Option<u64>,
    shown: BTreeMap<String, Shown>,
    /// Start of the run whose inspect answer the server has.
    inspects_known: BTreeMap<String, i64>,
    /// Inspect answers the server does not have yet.
    inspects: BTreeMap<String, Arc<Value>>,
    progress_at_ms: BTreeMap<String, u64>,
    /// The last vote on each container that this host checks, by what it is given for.
    votes: BTreeMap<String, Vote>,

    /// What is wrong with balancers, by uuid.
    balancer_problems: watch::Receiver<BTreeMap<String, String>>,

    network_busy: bool,
    network_at_ms: u64,
    network_problem: Option<Option<String>>,
    network_problem_found: Arc<Mutex<Option<String>>>,
}

/// Where to send inputs, and the way to ask for a look at everything.
#[derive(Clone)]
pub struct Handle {
    pub inputs: mpsc::Sender<Input>,
    pub look_at_everything: Arc<Notify>,
    /// Told when the engine goes away or comes back.
    pub engine_changed: Arc<Notify>,
    /// Why the managed network is not available here, as found last; host facts repeat it.
    pub network_problem: Arc<Mutex<Option<String>>>,
}

/// The plan, in which what is fenced shall not run.
fn without<'a>(held: &'a Held, fenced: &[String]) -> Cow<'a, Held> {
    let mut held = Cow::Borrowed(held);
    for uuid in fenced {
        if let Some(plan) = held.to_mut().containers.get_mut(uuid) {
            plan.desired = Desired::Stopped;
        }
    }
    held
}

impl Worker {
    /// A loop with what the cache holds. [`Worker::run`] runs it.
    pub fn new(tools: Arc<Tools>, seams: Seams, state_dir: Option<StateDir>, metrics: Metrics) -> (Worker, Handle) {
        let (own_inputs, inputs) = mpsc::channel(INPUTS_AT_ONCE);
        let cached: Cached = state_dir.as_ref().map(|state| state.load_cache(PLAN_CACHE)).unwrap_or_default();
        let memory: Memory = state_dir.as_ref().map(|state| state.load_cache(MEMORY_CACHE)).unwrap_or_default();
        let handle = Handle {
            inputs: own_inputs.clone(),
            look_at_everything: Arc::new(Notify::new()),
            engine_changed: Arc::new(Notify::new()),
            network_problem: Arc::default(),
        };
        tools.balancers.plans_set(&cached.held.balancers);
        tools.fence.plan(cached.held.containers.values());
        let worker = Worker {
            balancer_problems: tools.balancers.problems(),
            origin: seams.clock.instant(),
            tools,
            seams,
            state_dir,
            metrics,
            inputs,
            own_inputs,
            look_at_everything: handle.look_at_everything.clone(),
            engine_changed: handle.engine_changed.clone(),
            cached,
            plan_changed: false,
            plan_saved_at_ms: 0,
            observed: Observed::default(),
            tickets: BTreeMap::new(),
            memory,
            memory_changed: false,
            busy: BTreeSet::new(),
            engine_down: Some(NOT_ASKED.to_owned()),
            settled: false,
            outbox: None,
            reporter: Reporter::default(),
            complete_owed: false,
            hold_removals: false,
            reoffer_at_ms: None,
            shown: BTreeMap::new(),
            inspects_known: BTreeMap::new(),
            inspects: BTreeMap::new(),
            progress_at_ms: BTreeMap::new(),
            votes: BTreeMap::new(),
            network_busy: false,
            network_at_ms: 0,
            network_problem: None,
            network_problem_found: handle.network_problem.clone(),
        };
        (worker, handle)
    }

    /// Runs until the group stops.
    pub async fn run(mut self) {
        let tasks = self.seams.tasks.clone();
        let clock = self.seams.clock.clone();
        let mut look_again_ms: Option<u64> = None;
        loop {
            let sleep = match look_again_ms {
                Some(at) => Duration::from_millis(at.saturating_sub(self.now_ms()).max(1)),
                None => Duration::from_secs(3600),
            };
            tokio::select! {
                biased;
                () = tasks.stopping() => {
                    self.save_plan(u64::MAX);
                    return;
                }
                input = self.inputs.recv() => {
                    let Some(input) = input else { return };
                    self.hear(input);
                    for _ in 0..INPUTS_AT_ONCE {
                        let Ok(input) = self.inputs.try_recv() else { break };
                        self.hear(input);
                    }
                }
                changed = self.balancer_problems.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.tell_balancers();
                }
                () = clock.sleep(sleep) => {}
            }
            look_again_ms = self.turn();
        }
    }

    fn now_ms(&self) -> u64 {
        // Never zero, so that zero can mean "long ago".
        u64::try_from((self.seams.clock.instant() - self.origin).as_millis()).unwrap_or(u64::MAX).saturating_add(60_000)
    }

    /// Decides, acts, reports; gives when to look again.
    fn turn(&mut self) -> Option<u64> {
        let now_ms = self.now_ms();
        let mut look_again_ms: Option<u64> = None;
        let mut wait = |at: Option<u64>| {
            look_again_ms = look_again_ms.into_iter().chain(at).min();
        };
        if self.engine_down.is_none() && self.settled {
            self.look_after_network(now_ms);
            let (fenced, next) = self.tools.fence.over();
            wait(next.map(|next| now_ms.saturating_add(u64::try_from(next.as_millis()).unwrap_or(u64::MAX))));
            let held = without(&self.cached.held, &fenced);
            let decision = decide(Situation {
                held: &held,
                observed: &self.observed,
                memory: &self.memory,
                busy: &self.busy,
                hold_removals: self.hold_removals,
                now_ms,
            });
            wait(decision.look_again_ms);
            let next_look = self.cached.held.network.as_ref().filter(|_| !self.network_busy);
            wait(next_look.map(|_| self.network_at_ms + NETWORK_EVERY_MS));
            let free = MOST_ACTIONS.saturating_sub(self.busy.len());
            let actions: Vec<Action> = decision.actions.into_iter().take(free).collect();
            for action in &actions {
                self.note_begin(action);
            }
            // Before the engine hears of any of them.
            self.save_memory();
            for action in actions {
                self.begin(action);
            }
        }
        self.look_after_balancers();
        self.save_memory();
        wait(self.save_plan(now_ms));
        wait(self.report(now_ms));
        look_again_ms
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::Plan { update, position, reply } => drop(reply.send(self.plan_apply(*update, &position))),
            Input::PublicIds { reply } => drop(reply.send(self.public_ids())),
            Input::Connected { outbox, position } => self.connected(outbox, &position),
            Input::Disconnected => {
                self.outbox = None;
                self.reoffer_at_ms = None;
            }
            Input::Acknowledged { serial } => self.acknowledged(serial),
            Input::Listing { ticket, containers } => self.listed(ticket, containers),
            Input::Seen(seen) => self.seen(seen),
            Input::EngineDown(reason) => {
                if self.engine_down.as_deref().is_none_or(|known| known == NOT_ASKED) {
                    tracing::warn!(reason, "the container engine does not answer");
                    self.engine_changed.notify_one();
                }
                self.engine_down = Some(reason);
            }
            Input::Ended { action, outcome } => self.ended(&action, outcome),
            Input::Vote(vote) => self.vote(vote),
            Input::VoteOver { map } => drop(self.votes.remove(&map)),
            Input::Network { plan, result } => self.network_ended(&plan, result),
            Input::Progress { uuid, message, percent } => self.progress(uuid, message, percent),
        }
        self.metrics.engine_up.set(i64::from(self.engine_down.is_none()));
        self.metrics.containers_observed.set(i64::try_from(self.observed.len()).unwrap_or(i64::MAX));
        self.metrics.containers_planned.set(i64::try_from(self.cached.held.containers.len()).unwrap_or(i64::MAX));
        self.metrics.actions_running.set(i64::try_from(self.busy.len()).unwrap_or(i64::MAX));
    }

    // ---- plan ----

    fn plan_apply(&mut self, update: PlanUpdate, position: &Position) -> Result<(), WrongBase> {
        let network = self.cached.held.network.clone();
        let changed = self.cached.held.apply(update)?;
        if self.cached.held.network != network {
            // Another backend is for now, not for the next look.
            self.network_at_ms = 0;
        }
        (self.cached.store, self.cached.epoch) = (position.store.clone(), position.epoch);
        for uuid in &changed {
            self.memory.plan_changed(uuid);
        }
        self.tools.balancers.plans_set(&self.cached.held.balancers);
        self.tools.fence.plan(self.cached.held.containers.values());
        self.memory_changed = true;
        if self.settled {
            self.memory.keep_only(&self.cached.held, &self.observed);
            self.adopt(&changed);
        }
        self.plan_changed = true;
        Ok(())
    }

    fn position(&self) -> Option<Position> {
        let Cached { store, epoch, held } = &self.cached;
        let position = Position { store: store.clone(), epoch: *epoch, revision: held.revision };
        (!store.is_empty()).then_some(position)
    }

    fn public_ids(&self) -> BTreeMap<String, String> {
        let plans = self.cached.held.containers.values();
        let running = plans.filter_map(|plan| {
            let container = self.observed.of(plan).filter(|container| container.status.is_up())?;
            Some((container.docker_id.clone(), plan.id.clone()))
        });
        running.collect()
    }

    /// Caches the plan when it changed and the last time is long enough ago; gives when it will be.
    fn save_plan(&mut self, now_ms: u64) -> Option<u64> {
        let due = self.plan_saved_at_ms.saturating_add(PLAN_EVERY_MS);
        if !self.plan_changed {
            return None;
        }
        if now_ms < due {
            return Some(due);
        }
        (self.plan_changed, self.plan_saved_at_ms) = (false, now_ms);
        if let Some(Err(error)) = self.state_dir.as_ref().map(|state| state.save_cache(PLAN_CACHE, &self.cached)) {
            tracing::warn!(%error, "the plan is not cached: a restart needs the server");
        }
        None
    }

    fn save_memory(&mut self) {
        if !std::mem::take(&mut self.memory_changed) {
            return;
        }
        if let Some(Err(error)) = self.state_dir.as_ref().map(|state| state.save_cache(MEMORY_CACHE, &self.memory)) {
            tracing::warn!(%error, "the serials of starts are not cached");
        }
    }

    // ---- connection ----

    fn connected(&mut self, outbox: mpsc::Sender<Up>, position: &Position) {
        let known = self.position();
        let other_store = known.as_ref().is_some_and(|known| {
            known.store != position.store || known.epoch != position.epoch || known.revision > position.revision
        });
        if other_store {
            tracing::warn!(
                store = position.store,
                "another store, or an older state of it: nothing is removed until it knows what is here"
            );
            self.hold_removals = true;
            self.inspects_known.clear();
            // Brings the inspect answers along.
            self.look_at_everything.notify_one();
        }
        self.outbox = Some(outbox);
        self.reporter.connected();
        self.votes.values().cloned().for_each(|vote| self.reporter.push(StateChange::Health(vote)));
        self.reoffer_at_ms = None;
        self.complete_owed = true;
        self.network_problem = None;
        self.network_at_ms = 0;
    }

    fn acknowledged(&mut self, serial: u64) {
        let Some(report) = self.reporter.acknowledged(serial) else { return };
        if report.complete && self.hold_removals {
            self.hold_removals = false;
        }
        for change in &report.changes {
            if let StateChange::Container(container) = change
                && container.inspect.is_some()
            {
                let run = container.started_at.unwrap_or(0);
                self.inspects_known.insert(container.docker_id.clone(), run);
                let current = self.observed.get(&container.docker_id).and_then(|container| container.started_at);
                if current.unwrap_or(0) == run {
                    self.inspects.remove(&container.docker_id);
                }
            }
        }
    }

    /// Sends what is due; gives when to try again.
    fn report(&mut self, now_ms: u64) -> Option<u64> {
        let outbox = self.outbox.clone()?;
        if self.complete_owed && self.engine_down.is_none() && self.settled {
            self.complete_owed = false;
            self.shown.clear();
            let containers: Vec<Container> = self.observed.iter().cloned().collect();
            let changes: Vec<StateChange> =
                containers.iter().filter_map(|container| self.show(container, now_ms)).collect();
            self.reporter.complete(changes);
        }
        if self.reoffer_at_ms.is_some_and(|at| at > now_ms) {
            return self.reoffer_at_ms;
        }
        self.reoffer_at_ms = None;
        // Before the complete report of a connection nothing else is said.
        if let Some(report) = (!self.complete_owed).then(|| self.reporter.next(now_ms)).flatten()
            && let Err(refused) = outbox.try_send(Up::State(report))
        {
            self.reporter.not_sent();
            match refused {
                mpsc::error::TrySendError::Full(_) => self.reoffer_at_ms = Some(now_ms + REOFFER_MS),
                mpsc::error::TrySendError::Closed(_) => self.outbox = None,
            }
        }
        self.reoffer_at_ms.or_else(|| self.reporter.repeat_at_ms())
    }

    /// What the server is to hear of a container; `None` when it knows.
    fn show(&mut self, container: &Container, now_ms: u64) -> Option<StateChange> {
        let mut observed = container.observed();
        let planned = self.planned(container).map(str::to_owned);
        let remembered = planned.as_deref().and_then(|uuid| self.memory.get(uuid));
        observed.start_serial = remembered.and_then(|remembered| remembered.serial).unwrap_or(0);
        observed.restarts = remembered.map_or(0, |remembered| remembered.restarts);
        let pause = remembered.and_then(|remembered| remembered.pause_until_ms);
        let pause = pause.filter(|until| *until > now_ms && !container.status.is_up());
        observed.balancer_problem =
            planned.as_ref().and_then(|uuid| self.balancer_problems.borrow().get(uuid).cloned());
        let known = self.shown.get(&container.docker_id);
        if known.is_some_and(|known| known.observed == observed && known.pause_until_ms == pause) {
            return None;
        }
        let shown = Shown { observed: observed.clone(), pause_until_ms: pause };
        self.shown.insert(container.docker_id.clone(), shown);
        observed.next_try_ms = pause.map(|until| i64::try_from(until - now_ms).unwrap_or(i64::MAX));
        observed.inspect = self.inspects.get(&container.docker_id).cloned();
        Some(StateChange::Container(Box::new(observed)))
    }

    /// The uuid the plan has for a container.
    fn planned<'a>(&'a self, container: &'a Container) -> Option<&'a str> {
        let by_label = container.uuid().or(Some(container.name.as_str()));
        let labelled = by_label.and_then(|uuid| self.cached.held.containers.get(uuid));
        let found = labelled.or_else(|| {
            let plans = self.cached.held.containers.values();
            plans.into_iter().find(|plan| plan.docker_id.as_deref() == Some(&container.docker_id))
        });
        found.map(|plan| plan.uuid.as_str())
    }

    fn tell(&mut self, docker_id: &str) {
        let now_ms = self.now_ms();
        let Some(container) = self.observed.get(docker_id).cloned() else { return };
        if self.outbox.is_some()
            && !self.complete_owed
            && let Some(change) = self.show(&container, now_ms)
        {
            self.reporter.push(change);
        }
    }

    /// Votes wait for a connection in the list that every connection begins with.
    fn vote(&mut self, vote: Vote) {
        if self.outbox.is_some() {
            self.reporter.push(StateChange::Health(vote.clone()));
        }
        self.votes.insert(vote.map.clone(), vote);
    }

    fn progress(&mut self, uuid: String, message: String, percent: Option<i64>) {
        let now_ms = self.now_ms();
        let last = self.progress_at_ms.get(&uuid).copied().unwrap_or(0);
        if now_ms < last + PROGRESS_EVERY_MS || !self.busy.contains(&uuid) {
            return;
        }
        self.progress_at_ms.insert(uuid.clone(), now_ms);
        if let Some(outbox) = &self.outbox {
            // A sample: when the connection is full, the next one tells as much.
            drop(outbox.try_send(Up::Progress { uuid, message, percent }));
        }
    }

    // ---- engine ----

    fn listed(&mut self, ticket: u64, containers: Vec<Seen>) {
        if let Some(reason) = self.engine_down.take() {
            if reason != NOT_ASKED {
                tracing::info!(reason, "the container engine answers again");
                self.engine_changed.notify_one();
            }
            self.network_at_ms = 0;
        }
        let named: BTreeSet<String> = containers.iter().map(|seen| seen.docker_id.clone()).collect();
        for seen in containers {
            self.seen(seen);
        }
        let older = |id: &String| self.tickets.get(id).is_none_or(|seen| *seen < ticket);
        let vanished: Vec<String> = self.observed.iter().map(|container| container.docker_id.clone()).collect();
        let vanished: Vec<String> = vanished.into_iter().filter(|id| !named.contains(id) && older(id)).collect();
        for docker_id in vanished {
            self.seen(Seen { ticket, docker_id, container: None });
        }
        let observed = &self.observed;
        self.tickets.retain(|id, seen| *seen >= ticket || observed.get(id).is_some());
        if !self.settled {
            self.settled = true;
            self.memory_changed |= self.memory.settle(&self.cached.held, &self.observed);
            self.note_exits();
        }
        self.complete_owed |= self.outbox.is_some();
    }

    fn seen(&mut self, seen: Seen) {
        if self.tickets.get(&seen.docker_id).is_some_and(|known| *known >= seen.ticket) {
            return;
        }
        self.tickets.insert(seen.docker_id.clone(), seen.ticket);
        match seen.container {
            Some((container, inspect)) => {
                let run = container.started_at.unwrap_or(0);
                if self.inspects_known.get(&seen.docker_id) != Some(&run) {
                    self.inspects.insert(seen.docker_id.clone(), Arc::new(inspect));
                }
                self.observed.put(container);
                if self.settled {
                    self.adopt_one(&seen.docker_id);
                }
                self.tell(&seen.docker_id);
            }
            None => self.gone(&seen.docker_id),
        }
    }

    fn gone(&mut self, docker_id: &str) {
        self.inspects.remove(docker_id);
        self.inspects_known.remove(docker_id);
        self.shown.remove(docker_id);
        let Some(container) = self.observed.take(docker_id) else { return };
        let uuid = self.planned(&container).or(container.uuid()).map(str::to_owned);
        self.reporter.push(StateChange::ContainerGone { uuid, docker_id: Some(docker_id.to_owned()) });
    }

    /// Takes over what the plan newly speaks of and the memory does not know.
    fn adopt(&mut self, uuids: &BTreeSet<String>) {
        let plans = uuids.iter().filter_map(|uuid| self.cached.held.containers.get(uuid));
        let found = plans.filter_map(|plan| self.observed.of(plan));
        let ids: Vec<String> = found.map(|container| container.docker_id.clone()).collect();
        for docker_id in ids {
            self.adopt_one(&docker_id);
            // Its serial may be known only now.
            self.tell(&docker_id);
        }
    }

    fn adopt_one(&mut self, docker_id: &str) {
        let now_ms = self.now_ms();
        let Some(container) = self.observed.get(docker_id) else { return };
        let Some(uuid) = self.planned(container).map(str::to_owned) else { return };
        let Some(plan) = self.cached.held.containers.get(&uuid) else { return };
        if !self.busy.contains(&uuid) {
            self.memory_changed |= self.memory.adopt(plan, container);
        }
        self.memory_changed |= self.memory.note_exit(plan, container, now_ms);
    }

    fn note_exits(&mut self) {
        // After a restart of agent, engine or machine the first try is at once: these ends say nothing about health.
        for plan in self.cached.held.containers.values() {
            if let Some(container) = self.observed.of(plan) {
                self.memory_changed |= self.memory.note_exit(plan, container, 0);
            }
        }
    }

    // ---- actions ----

    /// Remembers what is about to be tried.
    fn note_begin(&mut self, action: &Action) {
        let key = action.key();
        if let Action::Start(start) | Action::Restart(start) = action {
            let before = start.existing.as_ref().and_then(|container| container.started_at);
            let serial = match start.asked {
                true => start.plan.start_serial,
                false => self.memory.serial(&key).unwrap_or(start.plan.start_serial),
            };
            self.memory.begin(&key, serial, before);
            self.memory_changed = true;
        }
    }

    fn begin(&mut self, action: Action) {
        let key = action.key();
        tracing::debug!(?action, "begins");
        self.metrics.actions.inc();
        self.busy.insert(key.clone());
        let (tools, inputs) = (self.tools.clone(), self.own_inputs.clone());
        let network = self.cached.held.network.clone();
        let progress: Progress = {
            let inputs = inputs.clone();
            Arc::new(move |message, percent| {
                // A sample: dropped when the loop is busy.
                drop(inputs.try_send(Input::Progress { uuid: key.clone(), message, percent }));
            })
        };
        self.seams.tasks.spawn_until_stopped("action", async move {
            let outcome = act(&tools, &action, network.as_ref(), progress).await;
            drop(inputs.send(Input::Ended { action: Box::new(action), outcome }).await);
        });
    }

    fn ended(&mut self, action: &Action, outcome: Outcome) {
        let now_ms = self.now_ms();
        let key = action.key();
        self.busy.remove(&key);
        self.progress_at_ms.remove(&key);
        self.memory_changed = true;
        for kept in &outcome.kept {
            tracing::warn!(uuid = key, kept, "left behind");
        }
        let failed = outcome.result.err();
        if let Some(failed) = failed.as_ref() {
            self.metrics.actions_failed.inc();
            tracing::warn!(uuid = key, error = %failed, "did not succeed");
        }
        let docker_id = outcome.seen.as_ref().map(|seen| seen.docker_id.clone());
        match (action, failed) {
            (Action::Start(start) | Action::Restart(start), None) => {
                self.memory.started(&key, start.asked);
                if !start.asked {
                    self.metrics.restarts.inc();
                }
            }
            (Action::Start(start) | Action::Restart(start), Some(failed)) if failed.is_unreachable() => {
                let container = outcome.seen.as_ref().and_then(|seen| seen.container.as_ref()).map(|(it, _)| it);
                let plan = self.cached.held.containers.get(&start.plan.uuid);
                self.memory.interrupted(plan, &key, container);
                self.look_at_everything.notify_one();
            }
            (Action::Start(start) | Action::Restart(start), Some(failed)) => {
                let serial = start.plan.start_serial;
                let failure = self.memory.failed(&key, serial, start.asked, now_ms);
                self.reporter.push(StateChange::StartFailed(StartFailed {
                    uuid: key.clone(),
                    start_serial: serial,
                    attempts: failure.attempts,
                    last: start.asked && failure.is_last(),
                    message: failed.to_string(),
                }));
            }
            (Action::Stop { .. }, None) => self.memory.succeeded(&key),
            (Action::Stop { .. }, Some(failed)) => {
                if failed.is_unreachable() {
                    self.look_at_everything.notify_one();
                }
                self.memory.failed(&key, STOPPING, false, now_ms);
            }
            (Action::Remove { removal, .. } | Action::ConfirmRemoved { removal }, None) => {
                self.memory.forget(&key);
                if self.cached.held.removals.get(&key) == Some(removal) {
                    self.cached.held.removals.remove(&key);
                    self.plan_changed = true;
                }
                let docker_id = docker_id.clone().or_else(|| removal.docker_id.clone());
                self.reporter.push(StateChange::ContainerGone { uuid: Some(key.clone()), docker_id });
            }
            (Action::RemoveVolume { removal }, None) => {
                self.memory.forget(&key);
                self.cached.held.volume_removals.remove(&removal.uuid);
                self.plan_changed = true;
                self.reporter.push(StateChange::VolumeGone { uuid: removal.uuid.clone() });
            }
            (Action::RemoveVolume { removal }, Some(failed)) => {
                self.memory.failed(&key, REMOVING, false, now_ms);
                let reason = failed.to_string();
                self.reporter.push(StateChange::VolumeKept { uuid: removal.uuid.clone(), reason });
            }
            (Action::Remove { .. } | Action::ConfirmRemoved { .. }, Some(_)) => {
                self.memory.failed(&key, REMOVING, false, now_ms);
            }
        }
        if let Some(seen) = outcome.seen {
            self.seen(seen);
        }
        if let Some(docker_id) = docker_id {
            // An event may have brought the container's state before; what the memory says is news.
            self.tell(&docker_id);
        }
    }

    // ---- balancers ----

    /// Tells which of their containers run.
    fn look_after_balancers(&self) {
        let held = &self.cached.held;
        if held.balancers.is_empty() {
            return;
        }
        let runs = held.balancers.keys().filter_map(|uuid| {
            let container = self.observed.of(held.containers.get(uuid)?)?;
            let (docker_id, started_at) = (container.docker_id.clone(), container.started_at);
            (container.status == Status::Running).then(|| (uuid.clone(), Run { docker_id, started_at }))
        });
        self.tools.balancers.presence_set(&runs.collect(), &self.busy);
    }

    fn tell_balancers(&mut self) {
        let held = &self.cached.held;
        let of = |uuid| held.containers.get(uuid).and_then(|plan| self.observed.of(plan));
        let ids: Vec<String> = held.balancers.keys().filter_map(of).map(|it| it.docker_id.clone()).collect();
        ids.iter().for_each(|docker_id| self.tell(docker_id));
    }

    // ---- network ----

    fn look_after_network(&mut self, now_ms: u64) {
        let Some(plan) = self.cached.held.network.clone() else { return };
        if self.network_busy || (self.network_at_ms != 0 && now_ms < self.network_at_ms + NETWORK_EVERY_MS) {
            return;
        }
        (self.network_busy, self.network_at_ms) = (true, now_ms);
        let (tools, inputs) = (self.tools.clone(), self.own_inputs.clone());
        self.seams.tasks.spawn_until_stopped("network", async move {
            let result = tools.network.ensure(&plan).await;
            drop(inputs.send(Input::Network { plan, result }).await);
        });
    }

    fn network_ended(&mut self, plan: &NetworkPlan, result: Result<String, Problem>) {
        self.network_busy = false;
        if self.cached.held.network.as_ref() != Some(plan) {
            self.network_at_ms = 0;
            return;
        }
        let problem = result.err().map(|problem| problem.0);
        self.network_problem_found.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&problem);
        if self.network_problem.as_ref() != Some(&problem) && self.outbox.is_some() {
            if let Some(problem) = &problem {
                tracing::warn!(problem, "the managed network is not available");
            }
            self.network_problem = Some(problem.clone());
            self.reporter.push(StateChange::Network { problem });
        }
    }
}
