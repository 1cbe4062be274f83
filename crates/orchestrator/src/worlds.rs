//! The loops: one follower of the change feed for all projects, one planning loop per project, one for rows without a
//! plan of their own.
//!
//! The follower loads each changed row once and puts it into the World of its project, which wakes the keys that
//! care. A project's loop takes what is due, plans it against the World, and writes the steps of many keys in one
//! transaction. Two keys of a batch never write the same row. When the transaction is refused, each key is written
//! by itself, so that only the one that was wrong waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use remuda_model::states::PURGED;
use remuda_model::{Container, Project, Setting};
use remuda_runtime::{Seams, Signal};
use remuda_schema::{Resource, Role, Row, Time};
use remuda_store::{Error, Feed, Query, Scope, Store};
use remuda_wire::session::Consumer;
use tokio::sync::Notify;

use crate::commands::{Context, Principal};
use crate::directory;
use crate::hostplan;
use crate::leases::{self, Hold, Leases};
use crate::load::{self, Loaded};
use crate::plan::{self, Moment, Plan, Step, Subject, lifecycle};
use crate::queue::Queue;
use crate::record::Record;
use crate::settings::Settings;
use crate::steps;
use crate::wake;
use crate::withdraw;
use crate::world::World;

/// Keys planned and written together.
const BATCH: usize = 256;
/// Changes read from the feed at once.
const FEED_LIMIT: u64 = 2000;
/// The follower looks that often though nobody wakes it.
const POLL: Duration = Duration::from_secs(2);

/// A key of the loop for rows without a plan: table, type, number.
type RowKey = (&'static str, &'static str, i64);

/// What all loops share.
pub struct Shared {
    pub store: Store,
    pub seams: Seams,
    pub leases: Leases,
    settings: RwLock<Arc<Settings>>,
    projects: Mutex<BTreeMap<i64, Arc<ProjectLoop>>>,
    /// Revision every World has reached.
    pub revision: Signal,
    rows: Mutex<Queue<RowKey>>,
    rows_wake: Notify,
    follower_error: Mutex<Option<String>>,
}

/// One project: its World and its loop.
pub struct ProjectLoop {
    pub id: i64,
    state: Mutex<ProjectState>,
    wake: Notify,
    /// Raised when what hosts are told may have changed.
    pub told: Signal,
}

/// What the lock of a project guards.
pub struct ProjectState {
    pub world: World,
    pub directory: directory::Log,
    /// When what changed in the directory is told.
    pub directory_due: Option<tokio::time::Instant>,
    pub plans: hostplan::Log,
    queue: Queue<Subject>,
    next_full_pass: Time,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProjectLoop {
    fn new(id: i64, now: Time) -> ProjectLoop {
        let state = ProjectState {
            world: World::new(id, now),
            directory: directory::Log::default(),
            directory_due: None,
            plans: hostplan::Log::default(),
            queue: Queue::default(),
            next_full_pass: Time(0),
        };
        ProjectLoop { id, state: Mutex::new(state), wake: Notify::new(), told: Signal::default() }
    }

    /// Something is due that the feed did not bring.
    pub(crate) fn nudge(&self) {
        self.wake.notify_one();
    }

    /// The World and what hosts are told of it.
    pub fn state(&self) -> MutexGuard<'_, ProjectState> {
        lock(&self.state)
    }
}

impl ProjectState {
    /// Takes a changed row over, and wakes the keys that care.
    fn put(&mut self, record: &Record, revision: i64) {
        let before = self.world.record(record.table(), record.meta().id);
        // Who is touched may depend on what the row said before as well as on what it says now.
        let mut subjects = before.as_ref().map(|old| wake::subjects(&self.world, old)).unwrap_or_default();
        if let Some(old) = &before {
            self.plans.touch(&self.world, old, revision);
        }
        self.world.put(record);
        if let Record::Container(row) = record {
            withdraw::note(&mut self.world, row, revision);
        }
        subjects.extend(wake::subjects(&self.world, record));
        self.plans.touch(&self.world, record, revision);
        let keys = directory::touched(&self.world, record);
        self.directory.refresh(&self.world, keys, revision);
        subjects.into_iter().for_each(|subject| self.queue.wake(subject));
    }

    fn forget(&mut self, table: &str, id: i64, revision: i64) {
        if let Some(mut record) = self.world.record(table, id) {
            record.meta_mut().state = PURGED.to_owned();
            self.put(&record, revision);
        }
    }

    /// A consumer on a host works with that directory revision: wakes what nobody routes to any more.
    pub(crate) fn applied(&mut self, host: i64, consumer: Consumer, revision: i64) -> bool {
        self.world.applied.insert((host, consumer), revision);
        let ready = withdraw::ready(&self.world, revision);
        ready.iter().for_each(|id| self.queue.wake(Subject::Container(*id)));
        !ready.is_empty()
    }

    fn wake_all(&mut self) {
        let world = &self.world;
        let all = [Subject::Project]
            .into_iter()
            .chain(world.hosts.keys().map(|id| Subject::Host(*id)))
            .chain(world.stacks.keys().map(|id| Subject::Stack(*id)))
            .chain(world.services.keys().map(|id| Subject::Service(*id)))
            .chain(world.services.keys().map(|id| Subject::Selection(*id)))
            .chain(world.containers.keys().map(|id| Subject::Container(*id)))
            .chain(world.volumes.keys().map(|id| Subject::Volume(*id)));
        for subject in all {
            self.queue.wake(subject);
        }
    }
}

impl Shared {
    pub fn new(store: Store, seams: Seams, leases: Leases) -> Shared {
        Shared {
            store,
            seams,
            leases,
            settings: RwLock::default(),
            projects: Mutex::default(),
            revision: Signal::default(),
            rows: Mutex::new(Queue::default()),
            rows_wake: Notify::new(),
            follower_error: Mutex::default(),
        }
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn now(&self) -> Time {
        Time(self.seams.clock.now_ms())
    }

    /// The loop of a project, if it is known.
    pub fn project(&self, id: i64) -> Option<Arc<ProjectLoop>> {
        lock(&self.projects).get(&id).cloned()
    }

    /// Every project, by number.
    pub fn projects(&self) -> Vec<Arc<ProjectLoop>> {
        lock(&self.projects).values().cloned().collect()
    }

    /// Revision every World has reached.
    pub fn reached(&self) -> i64 {
        self.revision.at()
    }

    /// The project a row belongs to.
    fn project_of(record: &Record) -> Option<i64> {
        match record {
            Record::Project(row) => Some(row.meta.id),
            Record::Agent(row) => row.resource_account_id.map(|id| id.number()),
            Record::ProjectMember(row) => row.project_id.map(|id| id.number()),
            other => other.meta().account_id,
        }
    }

    /// Takes changed rows over.
    fn take(self: &Arc<Self>, mut records: Vec<Record>, gone: &[(String, i64)], revision: i64) {
        // A project before what is in it.
        records.sort_by_key(|record| !matches!(record, Record::Project(_)));
        let mut by_project: BTreeMap<i64, Vec<&Record>> = BTreeMap::new();
        for record in &records {
            if let Record::Project(row) = record {
                self.ensure_project(row);
            }
            if let Some(id) = Self::project_of(record) {
                by_project.entry(id).or_default().push(record);
            }
        }
        let mut touched: BTreeSet<i64> = BTreeSet::new();
        for project in self.projects() {
            let records = by_project.remove(&project.id).unwrap_or_default();
            if records.is_empty() && gone.is_empty() {
                continue;
            }
            // Under one lock: hosts are told up to a revision, and would never hear of its other half.
            let mut state = project.state();
            records.into_iter().for_each(|record| state.put(record, revision));
            gone.iter().for_each(|(table, id)| state.forget(table, *id, revision));
            drop(state);
            touched.insert(project.id);
        }
        records.iter().for_each(|record| self.look_at_row(record));
        self.revision.raise(revision);
        for project in self.projects() {
            let mut state = project.state();
            state.world.revision = revision;
            state.queue.reached(revision);
            let due = state.queue.has_ready(revision);
            drop(state);
            if due {
                project.wake.notify_one();
            }
            if touched.contains(&project.id) {
                project.told.raise(revision);
            }
        }

        lock(&self.rows).reached(revision);
        self.rows_wake.notify_one();
    }

    fn ensure_project(self: &Arc<Self>, row: &Row<Project>) {
        let id = row.meta.id;
        let mut projects = lock(&self.projects);
        if row.meta.state == PURGED {
            if let Some(gone) = projects.remove(&id) {
                gone.wake.notify_one();
            }
        } else if !projects.contains_key(&id) {
            let project = Arc::new(ProjectLoop::new(id, self.now()));
            projects.insert(id, Arc::clone(&project));
            drop(projects);
            self.leases.wanted.notify_one();
            let shared = Arc::clone(self);
            self.seams.tasks.spawn_until_stopped("project", async move { shared.run_project(project).await });
        }
    }

    fn look_at_row(&self, record: &Record) {
        let settings = self.settings();
        let moment = Moment { now: self.now(), settings: &settings, random: &self.seams.random };
        let key = (record.table(), record.type_name(), record.meta().id);
        let mut rows = lock(&self.rows);
        if lifecycle::settle(record, moment).is_some() {
            rows.wake(key);
        } else if let Some(at) = lifecycle::again(record) {
            rows.wake_at(key, at);
        }
    }

    // ---- the follower

    /// Lists everything, then follows the feed.
    pub async fn follow(self: Arc<Self>) {
        let mut at: Option<i64> = None;
        let mut losses = self.store.losses();
        loop {
            let now_lost = self.store.losses();
            if now_lost != losses {
                (losses, at) = (now_lost, None);
            }
            // Taken before the feed is read: what is shown later wakes. It may be ahead of the feed, and that must not.
            let shown = self.store.newest().at();
            let step = match at {
                None => self.list().await.map(Some),
                Some(after) => self.advance(after).await,
            };
            match step {
                Ok(next) => {
                    *lock(&self.follower_error) = None;
                    let moved = next != at;
                    at = next;
                    if moved {
                        continue;
                    }
                    tokio::select! {
                        biased;
                        () = self.store.newest().reached(at.unwrap_or(0).max(shown) + 1) => {}
                        () = self.seams.clock.sleep(POLL) => {}
                    }
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the change feed cannot be followed; trying again");
                    *lock(&self.follower_error) = Some(error.to_string());
                    self.seams.clock.sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn list(self: &Arc<Self>) -> Result<i64, Error> {
        let (records, settings, revision) = self
            .store
            .read(|read| -> Result<_, Error> { Ok((load::all(read)?, load::settings(read)?, read.revision()?)) })
            .await?;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        for project in self.projects() {
            let mut state = project.state();
            state.world = state.world.emptied();
            state.directory = directory::Log::default();
            state.plans = hostplan::Log::default();
        }
        self.take(records, &[], revision);
        for project in self.projects() {
            let mut state = project.state();
            state.directory = directory::Log::new(&state.world);
            state.plans = hostplan::Log::starting_at(revision);
            state.wake_all();
            drop(state);
            project.wake.notify_one();
            project.told.raise(revision);
        }
        Ok(revision)
    }

    /// The revision reached; `None` when the feed does not reach back and everything must be listed again.
    async fn advance(self: &Arc<Self>, after: i64) -> Result<Option<i64>, Error> {
        let loaded = self
            .store
            .read(move |read| -> Result<_, Error> {
                let changes = match read.changes(after, FEED_LIMIT)? {
                    Feed::TooOld => return Ok(None),
                    Feed::Changes(changes) => changes,
                };
                let Some(last) = changes.last().map(|change| change.revision) else { return Ok(Some(None)) };
                let settings = changes.iter().any(|change| change.table == Setting::TABLE);
                let settings = if settings { Some(load::settings(read)?) } else { None };
                let loaded = load::changed(read, &changes)?;
                Ok(Some(Some((loaded, settings, last))))
            })
            .await?;
        let Some(loaded) = loaded else { return Ok(None) };
        let Some((Loaded { records, gone }, settings, last)) = loaded else { return Ok(Some(after)) };
        if let Some(settings) = settings {
            *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        }
        self.take(records, &gone, last);
        Ok(Some(last))
    }

    // ---- a project's loop

    /// This server decides for these from now on. What another server had under way has its deadlines anew, and all is
    /// looked at.
    pub(crate) fn take_over(&self, names: &[String]) {
        let now = self.now();
        for project in self.projects() {
            if names.contains(&leases::of_project(project.id)) {
                tracing::info!(project = project.id, "this server decides for the project");
                let mut state = project.state();
                state.world.since = now;
                state.wake_all();
                drop(state);
                project.wake.notify_one();
            }
        }
        if names.iter().any(|name| name == leases::ROWS) {
            self.rows_wake.notify_one();
        }
    }

    fn hold(&self, name: &str) -> Hold {
        self.leases.hold(name, self.seams.clock.instant())
    }

    /// Whether this server decides for the project.
    pub(crate) fn decides_for(&self, project: i64) -> bool {
        self.hold(&leases::of_project(project)) != Hold::Elsewhere
    }

    async fn run_project(self: Arc<Self>, project: Arc<ProjectLoop>) {
        let lease = leases::of_project(project.id);
        loop {
            if self.project(project.id).is_none() {
                return;
            }
            let hold = self.hold(&lease);
            if hold == Hold::Elsewhere {
                // What wakes keys meanwhile keeps them due until the takeover.
                project.wake.notified().await;
                continue;
            }
            let batch = self.plan_batch(&project);
            if batch.is_empty() {
                let wait = self.until_due(&project);
                tokio::select! {
                    biased;
                    () = project.wake.notified() => {}
                    () = self.seams.clock.sleep(wait) => {}
                }
                continue;
            }
            self.write_batch(&project, batch, &hold).await;
        }
    }

    fn until_due(&self, project: &ProjectLoop) -> Duration {
        let state = project.state();
        let due = state.queue.next_due().map_or(state.next_full_pass, |due| due.min(state.next_full_pass));
        Duration::from_millis(due.ms_since(self.now()).clamp(1, 60_000).unsigned_abs())
    }

    /// Plans what is due. What needs no write is done; what is left wants to be written.
    fn plan_batch(&self, project: &ProjectLoop) -> Vec<(Subject, Plan)> {
        let settings = self.settings();
        let now = self.now();
        let mut guard = project.state();
        let state = &mut *guard;
        if now >= state.next_full_pass {
            state.next_full_pass = now.plus_ms(settings.full_pass_ms());
            state.wake_all();
        }
        let mut batch: Vec<(Subject, Plan)> = Vec::new();
        let mut written: BTreeSet<(&'static str, i64)> = BTreeSet::new();
        loop {
            let taken = state.queue.take(now, self.reached(), BATCH);
            if taken.is_empty() {
                break;
            }
            state.queue.status.n_passes += 1;
            state.queue.status.last_pass = Some(now);
            for subject in taken {
                let moment = Moment { now, settings: &settings, random: &self.seams.random };
                let plan = plan::plan(&state.world, subject, moment);
                if plan.steps.is_empty() {
                    state.queue.done(subject, None, plan.again);
                    continue;
                }
                if plan.writes().any(|key| written.contains(&key)) {
                    // The row is written by another key of this batch: plan again when that has come back.
                    batch.push((subject, Plan::default()));
                    continue;
                }
                written.extend(plan.writes());
                show(&mut state.world, &plan);
                batch.push((subject, plan));
            }
            if batch.len() >= BATCH {
                break;
            }
        }
        batch
    }

    async fn write_batch(&self, project: &ProjectLoop, batch: Vec<(Subject, Plan)>, hold: &Hold) {
        let (deferred, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|(_, plan)| plan.steps.is_empty());
        let steps: Vec<Step> = batch.iter().flat_map(|(_, plan)| plan.steps.iter().cloned()).collect();
        let n_keys = batch.len();
        let mut committed = 0;
        match self.write_steps(project.id, steps, hold).await {
            Ok(revision) => {
                committed = revision;
                let mut state = project.state();
                for (subject, plan) in batch {
                    state.queue.done(subject, Some(revision), plan.again);
                }
            }
            Err(error) if n_keys == 1 || !is_somebodys_fault(&error) => {
                for (subject, plan) in batch {
                    self.refused(project, subject, &plan, &error).await;
                }
            }
            Err(_) => {
                for (subject, plan) in batch {
                    match self.write_steps(project.id, plan.steps.clone(), hold).await {
                        Ok(revision) => {
                            committed = revision;
                            project.state().queue.done(subject, Some(revision), plan.again);
                        }
                        Err(error) => self.refused(project, subject, &plan, &error).await,
                    }
                }
            }
        }
        let mut state = project.state();
        for (subject, _) in deferred {
            state.queue.put_back(subject, committed);
        }
        // The feed may have been faster than the answer to the write.
        let reached = self.reached();
        state.queue.reached(reached);
    }

    async fn write_steps(&self, project: i64, steps: Vec<Step>, hold: &Hold) -> Result<i64, Error> {
        let ctx = Context {
            now: self.now(),
            random: self.seams.random.clone(),
            account_id: project,
            settings: self.settings(),
            principal: Principal { account_id: project, role: Role::Service },
        };
        let hold = hold.clone();
        let written = self.store.write(move |tx| {
            hold.check(tx)?;
            steps::apply(tx, &steps, &ctx)
        });
        match written.await {
            Ok(committed) => Ok(committed.revision),
            Err(error) => {
                if let Error::LeaseLost { name, .. } = &error {
                    self.leases.lost(name);
                }
                Err(error)
            }
        }
    }

    /// Nothing of the plan was written: what was shown early is taken back, and the key waits.
    async fn refused(&self, project: &ProjectLoop, subject: Subject, plan: &Plan, error: &Error) {
        match error {
            Error::Changed { .. } | Error::Claimed { .. } | Error::LeaseLost { .. } => {
                tracing::debug!(project = project.id, ?subject, %error, "planned on what has changed; planning again");
            }
            error => {
                tracing::warn!(project = project.id, ?subject, %error, "a plan could not be written; trying again")
            }
        }
        let shown: Vec<i64> = plan.steps.iter().filter_map(placed).map(|row| row.meta.id).collect();
        if !shown.is_empty() {
            let ids = shown.clone();
            let stored = self
                .store
                .read(move |read| -> Result<_, Error> {
                    let query = Query::new().all().any_of("id", ids);
                    read.list::<Container>(&Scope::Everything, &query)
                })
                .await;
            let mut state = project.state();
            for row in stored.unwrap_or_default() {
                // The feed may have brought a newer one meanwhile.
                let shown_row = state.world.containers.get(&row.meta.id).map(|row| row.meta.revision);
                if shown_row.is_some_and(|revision| revision <= row.meta.revision) {
                    state.world.put(&row.into());
                }
            }
        }
        let now = self.now();
        project.state().queue.failed(subject, now, error.to_string(), &self.seams.random);
    }

    // ---- rows without a plan

    /// Moves keys, images, labels and the like through their processes.
    pub async fn run_rows(self: Arc<Self>) {
        loop {
            let now = self.now();
            let hold = self.hold(leases::ROWS);
            if hold == Hold::Elsewhere {
                self.rows_wake.notified().await;
                continue;
            }
            let keys = lock(&self.rows).take(now, self.reached(), BATCH);
            if keys.is_empty() {
                let due = lock(&self.rows).next_due();
                let wait = due.map_or(60_000, |due| due.ms_since(now).clamp(1, 60_000));
                tokio::select! {
                    biased;
                    () = self.rows_wake.notified() => {}
                    () = self.seams.clock.sleep(Duration::from_millis(wait.unsigned_abs())) => {}
                }
                continue;
            }
            let (settings, random, batch) = (self.settings(), self.seams.random.clone(), keys.clone());
            let written = self
                .store
                .write(move |tx| -> Result<(), Error> {
                    hold.check(tx)?;
                    for (table, type_name, id) in &batch {
                        let Some(record) = load::one(tx, table, type_name, *id)? else { continue };
                        let moment = Moment { now, settings: &settings, random: &random };
                        if let Some(next) = lifecycle::settle(&record, moment) {
                            next.update(tx)?;
                        }
                    }
                    Ok(())
                })
                .await;
            let reached = self.reached();
            let mut rows = lock(&self.rows);
            rows.status.last_pass = Some(now);
            for key in keys {
                match &written {
                    Ok(committed) => rows.done(key, Some(committed.revision), None),
                    Err(error) => rows.failed(key, now, error.to_string(), &self.seams.random),
                }
            }
            rows.reached(reached);
        }
    }

    // ---- for operators

    /// What each loop is doing.
    pub fn status(&self) -> Vec<LoopStatus> {
        let status = |name: String, n_keys: usize, status: &crate::queue::Status| LoopStatus {
            name,
            n_keys,
            last_pass_ms: status.last_pass.map(|at| at.0),
            last_error: status.last_error.clone(),
            next_try_ms: status.next_try.map(|at| at.0),
        };
        let mut all = vec![LoopStatus {
            name: "feed".to_owned(),
            n_keys: 0,
            last_pass_ms: None,
            last_error: lock(&self.follower_error).clone(),
            next_try_ms: None,
        }];
        let rows = lock(&self.rows);
        all.push(status("rows".to_owned(), rows.n_waiting(), &rows.status));
        drop(rows);
        // What another server decides is not this one's to tell.
        for project in self.projects().into_iter().filter(|project| self.decides_for(project.id)) {
            let state = project.state();
            let name = format!("project {}", remuda_schema::id::encode(Project::TABLE, project.id));
            all.push(status(name, state.queue.n_waiting(), &state.queue.status));
        }
        all
    }
}

/// One loop, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopStatus {
    pub name: String,
    /// Keys that wait for their turn or their time.
    pub n_keys: usize,
    pub last_pass_ms: Option<i64>,
    pub last_error: Option<String>,
    pub next_try_ms: Option<i64>,
}

/// A refusal that concerns one key and not the database.
fn is_somebodys_fault(error: &Error) -> bool {
    !matches!(error, Error::Unavailable { .. } | Error::Closed | Error::Uncertain { .. } | Error::LeaseLost { .. })
}

/// The step places a container on a host.
fn placed(step: &Step) -> Option<&Arc<Row<Container>>> {
    match step {
        Step::Write(Record::Container(row)) if row.host_id.is_some() => Some(row),
        _ => None,
    }
}

/// Placements count at once, so that the next one of the batch sees them.
fn show(world: &mut World, plan: &Plan) {
    for row in plan.steps.iter().filter_map(placed) {
        let new = world.containers.get(&row.meta.id).is_some_and(|before| before.host_id.is_none());
        if new {
            world.put(&Record::Container(Arc::clone(row)));
        }
    }
}
