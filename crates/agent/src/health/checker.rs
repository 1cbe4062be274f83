//! The loop that checks in time: one task for all checks of a host, with a bounded number of questions under way.
//!
//! Checks begin at a random moment and drift a little, so that a thousand of them do not ask in the same instant. One
//! that is late because all questions are under way is late, not skipped. Votes are kept over a restart: a checker
//! that begins anew would let a single lost answer decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use remuda_runtime::Seams;
use remuda_wire::directory::{Directory, DirectoryUpdate};
use remuda_wire::observe::Vote;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::duty::{Duties, Duty};
use super::probe::{Finding, Prober, Target};
use super::tally::Tally;
use crate::reconcile::worker::Input;
use crate::state_dir::StateDir;

/// Questions under way at once: each takes a file descriptor.
const MOST_AT_ONCE: usize = 512;
/// Results taken before the next look at what is due.
const RESULTS_AT_ONCE: usize = 256;
/// The first check of a container comes within that time.
const FIRST_WITHIN_MS: u64 = 1_000;
/// Votes of before a restart whose container was not seen again for so long are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Votes are not written down more often.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const CACHE: &str = "votes";

/// Where the directory goes.
#[derive(Clone)]
pub struct Handle {
    duties: Arc<Mutex<Duties>>,
    changed: Arc<Notify>,
}

impl Handle {
    fn duties(&self) -> MutexGuard<'_, Duties> {
        self.duties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what changed; `directory` has it already.
    pub fn update(&self, directory: &Directory, update: &DirectoryUpdate) {
        let mut duties = self.duties();
        duties.update(directory, update);
        if duties.has_changed() {
            self.changed.notify_one();
        }
    }
}

/// A vote as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    run: i64,
    healthy: bool,
}

struct Entry {
    duty: Duty,
    tally: Tally,
    /// Names this entry in results: those for one before it are not meant.
    ticket: u64,
}

/// What came of one question.
struct Answer {
    container: i64,
    ticket: u64,
    finding: Finding,
    /// When the next one is due.
    next: Instant,
}

type Asking = FuturesUnordered<BoxFuture<'static, Answer>>;

/// All checks of a host.
pub struct Checker {
    seams: Seams,
    prober: Arc<dyn Prober>,
    handle: Handle,
    state_dir: Option<StateDir>,
    votes: mpsc::Sender<Input>,
    entries: BTreeMap<i64, Entry>,
    due: BTreeSet<(Instant, i64, u64)>,
    /// Votes of before the restart, by map, until their container is seen again.
    kept: BTreeMap<String, Kept>,
    next_ticket: u64,
    unsaved: bool,
    save_at: Instant,
    forget_at: Instant,
}

impl Checker {
    /// Checks for the host of that uuid, and gives votes to the worker.
    pub fn new(
        seams: Seams,
        host_uuid: String,
        prober: Arc<dyn Prober>,
        state_dir: Option<StateDir>,
        votes: mpsc::Sender<Input>,
    ) -> (Checker, Handle) {
        let handle = Handle { duties: Arc::new(Mutex::new(Duties::new(host_uuid))), changed: Arc::new(Notify::new()) };
        let kept = state_dir.as_ref().map(|state| state.load_cache(CACHE)).unwrap_or_default();
        let checker = Checker {
            save_at: seams.clock.instant(),
            forget_at: seams.clock.instant() + FORGET_AFTER,
            seams,
            prober,
            handle: handle.clone(),
            state_dir,
            votes,
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            kept,
            next_ticket: 0,
            unsaved: false,
        };
        (checker, handle)
    }

    /// Checks until the group stops.
    pub async fn run(mut self) {
        let (tasks, clock) = (self.seams.tasks.clone(), self.seams.clock.clone());
        let changed = self.handle.changed.clone();
        let mut asking: Asking = FuturesUnordered::new();
        loop {
            let now = clock.instant();
            let mut next = if self.unsaved { Some(self.save_at) } else { None };
            if asking.len() < MOST_AT_ONCE {
                next = next.into_iter().chain(self.due.first().map(|(at, ..)| *at)).min();
            }
            let wait = next.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            tokio::select! {
                biased;
                () = tasks.stopping() => break,
                () = changed.notified() => self.look_at_duties().await,
                Some(answer) = asking.next(), if !asking.is_empty() => {
                    self.take(answer).await;
                    for _ in 0..RESULTS_AT_ONCE {
                        match futures_util::FutureExt::now_or_never(asking.next()) {
                            Some(Some(answer)) => self.take(answer).await,
                            _ => break,
                        }
                    }
                }
                () = clock.sleep(wait) => {}
            }
            self.ask(&mut asking);
            if self.unsaved && clock.instant() >= self.save_at {
                self.save();
            }
        }
        if self.unsaved {
            self.save();
        }
    }

    async fn look_at_duties(&mut self) {
        let changed = self.handle.duties().take_changed();
        for (container, duty) in changed {
            let before = self.entries.remove(&container);
            if let Some(before) = &before {
                let is_over = duty.as_ref().is_none_or(|duty| duty.map != before.duty.map);
                if is_over {
                    self.unsaved = true;
                    self.tell(Input::VoteOver { map: before.duty.map.clone() }).await;
                }
            }
            let Some(duty) = duty else { continue };
            let kept = self.kept.remove(&duty.map).filter(|kept| kept.run == duty.check.run);
            let same_run =
                before.filter(|before| (&before.duty.map, before.duty.check.run) == (&duty.map, duty.check.run));
            let tally = match (same_run, &kept) {
                (Some(before), _) => before.tally,
                (None, kept) => Tally::from(kept.as_ref().map(|kept| kept.healthy)),
            };
            if let Some(kept) = kept {
                // The server may not have it yet.
                self.vote(&duty, kept.healthy, None).await;
            }
            self.next_ticket += 1;
            let ticket = self.next_ticket;
            let within = duty.check.interval_ms.clamp(1, FIRST_WITHIN_MS);
            let first = Duration::from_millis(self.seams.random.below(within));
            self.due.insert((self.seams.clock.instant() + first, container, ticket));
            self.entries.insert(container, Entry { duty, tally, ticket });
        }
    }

    /// Asks what is due, as far as there is room.
    fn ask(&mut self, asking: &mut Asking) {
        let now = self.seams.clock.instant();
        while asking.len() < MOST_AT_ONCE
            && let Some((at, container, ticket)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some(entry) = self.entries.get(&container).filter(|entry| entry.ticket == ticket) else { continue };
            let check = &entry.duty.check;
            let target = Target {
                uuid: entry.duty.uuid.clone(),
                address: entry.duty.address.clone(),
                port: check.port,
                request: check.request_line.clone(),
                timeout: Duration::from_millis(check.timeout_ms),
            };
            // The next one counts from the beginning of this one, and is not asked before it has ended.
            let jitter = check.interval_ms / 20;
            let pause = check.interval_ms - jitter + self.seams.random.below(2 * jitter + 1);
            let next = now + Duration::from_millis(pause);
            let prober = self.prober.clone();
            asking.push(Box::pin(async move {
                let finding = prober.probe(&target).await;
                Answer { container, ticket, finding, next }
            }));
        }
    }

    async fn take(&mut self, answer: Answer) {
        let Answer { container, ticket, finding, next } = answer;
        let Some(entry) = self.entries.get_mut(&container).filter(|entry| entry.ticket == ticket) else { return };
        self.due.insert((next.max(self.seams.clock.instant()), container, ticket));
        let (passed, reason) = match finding {
            Finding::Passed => (true, None),
            Finding::Failed(why) => (false, Some(why)),
            Finding::Unknown(why) => {
                tracing::debug!(uuid = entry.duty.uuid, why, "a check could not be made");
                return;
            }
        };
        let check = &entry.duty.check;
        if let Some(healthy) = entry.tally.take(passed, check.rise, check.fall) {
            let duty = entry.duty.clone();
            self.unsaved = true;
            self.vote(&duty, healthy, reason).await;
        }
    }

    async fn vote(&self, duty: &Duty, healthy: bool, reason: Option<String>) {
        tracing::debug!(uuid = duty.uuid, healthy, reason, "votes");
        let vote = Vote { map: duty.map.clone(), run: duty.check.run, healthy, reason };
        self.tell(Input::Vote(vote)).await;
    }

    async fn tell(&self, input: Input) {
        // The worker ends only with the whole host.
        drop(self.votes.send(input).await);
    }

    fn save(&mut self) {
        (self.unsaved, self.save_at) = (false, self.seams.clock.instant() + SAVE_EVERY);
        if self.save_at >= self.forget_at {
            self.kept.clear();
        }
        let Some(state) = &self.state_dir else { return };
        let votes = self.entries.values().filter_map(|entry| {
            Some((entry.duty.map.clone(), Kept { run: entry.duty.check.run, healthy: entry.tally.up? }))
        });
        let all: BTreeMap<String, Kept> = self.kept.clone().into_iter().chain(votes).collect();
        if let Err(error) = state.save_cache(CACHE, &all) {
            tracing::warn!(%error, "votes are not kept over a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use remuda_wire::directory::{Check, Checker as CheckingHost, Container, Entry as DirectoryEntry, Host};

    use super::*;

    /// Answers what it is told to, and counts.
    #[derive(Default)]
    struct Fake {
        failing: Mutex<BTreeSet<String>>,
        /// Nobody answers: each question takes its whole time.
        silent: bool,
        n_asked: AtomicUsize,
        n_open: AtomicUsize,
        most_open: AtomicUsize,
    }

    struct Asked(Arc<Fake>, Seams);

    impl Prober for Asked {
        fn probe<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Finding> {
            Box::pin(async move {
                self.0.n_asked.fetch_add(1, Ordering::Relaxed);
                let open = self.0.n_open.fetch_add(1, Ordering::Relaxed) + 1;
                self.0.most_open.fetch_max(open, Ordering::Relaxed);
                let wait = if self.0.silent { target.timeout } else { Duration::from_millis(1) };
                self.1.clock.sleep(wait).await;
                self.0.n_open.fetch_sub(1, Ordering::Relaxed);
                match self.0.failing.lock().unwrap().contains(&target.uuid) || self.0.silent {
                    true => Finding::Failed("no".into()),
                    false => Finding::Passed,
                }
            })
        }
    }

    struct Bed {
        seams: Seams,
        fake: Arc<Fake>,
        handle: Handle,
        votes: mpsc::Receiver<Input>,
        directory: Directory,
    }

    impl Bed {
        fn start(fake: Fake, state_dir: Option<StateDir>) -> Bed {
            let seams = Seams::seeded(1, 1_800_000_000_000);
            let (inputs, votes) = mpsc::channel(100_000);
            let fake = Arc::new(fake);
            let prober = Arc::new(Asked(fake.clone(), seams.clone()));
            let (checker, handle) = Checker::new(seams.clone(), "me".into(), prober, state_dir, inputs);
            seams.tasks.spawn("health", checker.run());
            let mut bed = Bed { seams, fake, handle, votes, directory: Directory::default() };
            bed.tell(vec![DirectoryEntry::Host(Host { id: 7, uuid: "me".into(), ..Host::default() })]);
            bed
        }

        fn tell(&mut self, upserts: Vec<DirectoryEntry>) {
            let base = Some(self.directory.revision).filter(|revision| *revision > 0);
            let update = DirectoryUpdate { revision: self.directory.revision + 1, base, upserts, removed: Vec::new() };
            self.directory.apply(update.clone()).unwrap();
            self.handle.update(&self.directory, &update);
        }

        async fn pass(&self, ms: u64) {
            self.seams.clock.sleep(Duration::from_millis(ms)).await;
        }

        /// Votes since the last time, as `+c1`.
        fn voted(&mut self) -> Vec<String> {
            let mut voted = Vec::new();
            while let Ok(input) = self.votes.try_recv() {
                voted.push(match input {
                    Input::Vote(vote) => format!("{}{} {}", if vote.healthy { '+' } else { '-' }, vote.map, vote.run),
                    Input::VoteOver { map } => format!("over {map}"),
                    _ => unreachable!(),
                });
            }
            voted.sort();
            voted
        }
    }

    fn container(id: i64, run: i64) -> DirectoryEntry {
        let check = Check {
            port: 80,
            interval_ms: 2000,
            timeout_ms: 2000,
            rise: 2,
            fall: 3,
            run,
            checkers: vec![CheckingHost { host_id: 7, map: format!("m{id}") }],
            ..Check::default()
        };
        DirectoryEntry::Container(Container {
            id,
            uuid: format!("c{id}"),
            state: "running".into(),
            address: Some("10.42.0.1".into()),
            check: Some(Box::new(check)),
            ..Container::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn votes_follow_thresholds_and_starts() {
        let mut bed = Bed::start(Fake::default(), None);
        bed.tell(vec![container(1, 1), container(2, 1)]);
        bed.pass(1_100).await;
        assert_eq!(bed.voted(), ["+m1 1", "+m2 1"], "the first answer decides");
        bed.fake.failing.lock().unwrap().insert("c1".into());
        bed.pass(3_500).await;
        assert_eq!(bed.voted(), Vec::<String>::new(), "two failures are not three");
        bed.pass(3_500).await;
        assert_eq!(bed.voted(), ["-m1 1"]);
        bed.tell(vec![container(1, 2)]);
        bed.pass(1_100).await;
        assert_eq!(bed.voted(), ["-m1 2"], "another start is told anew");
        bed.fake.failing.lock().unwrap().clear();
        bed.pass(2_200).await;
        assert_eq!(bed.voted(), Vec::<String>::new(), "one pass is not two");
        bed.pass(2_200).await;
        assert_eq!(bed.voted(), ["+m1 2"]);
        let DirectoryEntry::Container(mut gone) = container(1, 2) else { unreachable!() };
        gone.state = "stopping".into();
        bed.tell(vec![DirectoryEntry::Container(gone)]);
        bed.pass(10_000).await;
        assert_eq!(bed.voted(), ["over m1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn thousands_are_asked_in_time_and_evenly() {
        let mut bed = Bed::start(Fake::default(), None);
        bed.tell((1..=5_000).map(|id| container(id, 1)).collect());
        bed.pass(20_000).await;
        let n_asked = bed.fake.n_asked.load(Ordering::Relaxed);
        // Nine or ten each, from the first second on.
        assert!((45_000..=55_000).contains(&n_asked), "{n_asked} questions");
        let most = bed.fake.most_open.load(Ordering::Relaxed);
        assert!(most < 200, "{most} at once");
        assert_eq!(bed.voted().len(), 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_holds_up_only_so_many() {
        let mut bed = Bed::start(Fake { silent: true, ..Fake::default() }, None);
        bed.tell((1..=2_000).map(|id| container(id, 1)).collect());
        bed.pass(30_000).await;
        assert_eq!(bed.fake.most_open.load(Ordering::Relaxed), MOST_AT_ONCE);
        assert_eq!(bed.voted().len(), 2_000, "late, but none is skipped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_keeps_votes_and_tells_them_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = || Some(StateDir::open(dir.path()).unwrap());
        let mut bed = Bed::start(Fake::default(), state());
        bed.tell(vec![container(1, 1), container(2, 1)]);
        bed.pass(7_000).await;
        assert_eq!(bed.voted(), ["+m1 1", "+m2 1"]);
        bed.seams.tasks.shut_down(Duration::from_secs(1)).await;

        let mut bed = Bed::start(Fake::default(), state());
        bed.fake.failing.lock().unwrap().extend(["c1".to_owned(), "c2".to_owned()]);
        // The second one was started anew meanwhile.
        bed.tell(vec![container(1, 1), container(2, 2)]);
        bed.pass(1_100).await;
        assert_eq!(bed.voted(), ["+m1 1", "-m2 2"], "one lost answer is no verdict on the first");
        bed.pass(4_500).await;
        assert_eq!(bed.voted(), ["-m1 1"]);
    }
}
