//! The little the engine cannot tell: which start was carried out last, and how a container has been failing.

use std::collections::BTreeMap;

use remuda_wire::plan::ContainerPlan;
use serde::{Deserialize, Serialize};

use crate::engine::inspect::Container;
use crate::reconcile::decide::VOLUME_KEY;
use crate::reconcile::held::Held;
use crate::reconcile::observed::Observed;

/// A run shorter than this counts towards a crash loop.
const HEALTHY_RUN_MS: i64 = 10_000;
const FIRST_PAUSE_MS: u64 = 1_000;
const LONGEST_PAUSE_MS: u64 = 300_000;
/// Starts that are tried before the agent gives up and says so.
pub const START_TRIES: i64 = 3;
const TRY_PAUSES_MS: [u64; 2] = [250, 1_000];

/// By uuid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory {
    containers: BTreeMap<String, Remembered>,
}

/// Of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Remembered {
    /// Serial of the last start that was carried out; `None`: none was.
    pub serial: Option<i64>,
    /// A start that was begun.
    pub attempt: Option<Attempt>,
    /// Starts the agent made by itself since the last one somebody asked for.
    pub restarts: i64,
    /// Short runs in a row.
    pub quick_exits: u32,
    /// The end of the run that was counted last.
    pub counted_exit: Option<i64>,
    /// Supervision waits until then (monotonic, so not kept).
    #[serde(skip)]
    pub pause_until_ms: Option<u64>,
    #[serde(skip)]
    pub failure: Option<Failure>,
}

/// A start as it was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    pub serial: i64,
    /// `StartedAt` of the engine before it.
    pub started_before: Option<i64>,
}

/// Stands for the serial in a [`Failure`] to stop.
pub const STOPPING: i64 = -1;
/// Stands for the serial in a [`Failure`] to remove.
pub const REMOVING: i64 = -2;

/// Tries of one thing that did not succeed. Forgotten when the agent restarts: then it tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub serial: i64,
    pub attempts: i64,
    pub next_try_ms: u64,
}

impl Failure {
    pub fn is_last(&self) -> bool {
        self.attempts >= START_TRIES
    }
}

impl Memory {
    pub fn get(&self, uuid: &str) -> Option<&Remembered> {
        self.containers.get(uuid)
    }

    pub fn entry(&mut self, uuid: &str) -> &mut Remembered {
        self.containers.entry(uuid.to_owned()).or_default()
    }

    pub fn forget(&mut self, uuid: &str) {
        self.containers.remove(uuid);
    }

    /// The last start that was carried out.
    pub fn serial(&self, uuid: &str) -> Option<i64> {
        self.containers.get(uuid)?.serial
    }

    /// After the agent started and has seen the engine: which attempts came through, which containers are taken over
    /// as they are. Gives whether something changed.
    pub fn settle(&mut self, held: &Held, observed: &Observed) -> bool {
        let mut changed = false;
        for plan in held.containers.values() {
            let Some(container) = observed.of(plan) else { continue };
            changed |= self.adopt(plan, container);
        }
        changed
    }

    /// One container of the plan that no action is under way for.
    pub fn adopt(&mut self, plan: &ContainerPlan, container: &Container) -> bool {
        let known = self.containers.get(&plan.uuid);
        if known.is_some_and(|known| known.serial.is_some() && known.attempt.is_none()) {
            return false;
        }
        let remembered = self.entry(&plan.uuid);
        let before = remembered.clone();
        match remembered.attempt.take() {
            Some(attempt) if container.started_at.is_some() && container.started_at != attempt.started_before => {
                remembered.serial = Some(attempt.serial);
            }
            // The start was not carried out: what was known before it still holds.
            Some(_) => {}
            None if container.started_at.is_some() || plan.native => remembered.serial = Some(plan.start_serial),
            None => {}
        }
        *remembered != before
    }

    /// An exit of a supervised container, seen for the first time: how long to wait before it is started again.
    pub fn note_exit(&mut self, plan: &ContainerPlan, container: &Container, now_ms: u64) -> bool {
        let Some(finished) = container.finished_at.filter(|_| plan.supervise && !container.status.is_up()) else {
            return false;
        };
        let remembered = self.entry(&plan.uuid);
        if remembered.counted_exit == Some(finished) {
            return false;
        }
        let ran_ms = container.started_at.map_or(0, |started| finished - started);
        remembered.quick_exits = if ran_ms < HEALTHY_RUN_MS { remembered.quick_exits.saturating_add(1) } else { 0 };
        remembered.pause_until_ms = pause_ms(remembered.quick_exits).map(|pause| now_ms + pause);
        remembered.counted_exit = Some(finished);
        true
    }

    /// A start begins; written down before the engine hears of it.
    pub fn begin(&mut self, uuid: &str, serial: i64, started_before: Option<i64>) {
        self.entry(uuid).attempt = Some(Attempt { serial, started_before });
    }

    /// It came through.
    pub fn started(&mut self, uuid: &str, asked: bool) {
        let remembered = self.entry(uuid);
        let serial = remembered.attempt.take().map(|attempt| attempt.serial);
        remembered.serial = serial.or(remembered.serial);
        remembered.failure = None;
        remembered.pause_until_ms = None;
        if asked {
            remembered.restarts = 0;
            remembered.quick_exits = 0;
        } else {
            remembered.restarts += 1;
        }
    }

    /// It did not. Gives the failure so far.
    pub fn failed(&mut self, uuid: &str, serial: i64, asked: bool, now_ms: u64) -> Failure {
        let remembered = self.entry(uuid);
        remembered.attempt = None;
        let same = remembered.failure.take().filter(|failure| failure.serial == serial);
        let attempts = same.map_or(0, |failure| failure.attempts) + 1;
        let pause = if asked {
            let tries = usize::try_from(attempts - 1).unwrap_or(0);
            TRY_PAUSES_MS.get(tries).copied().unwrap_or(LONGEST_PAUSE_MS)
        } else {
            // Supervision does not give up; it grows slower.
            pause_ms(u32::try_from(attempts).unwrap_or(u32::MAX)).unwrap_or(FIRST_PAUSE_MS)
        };
        let failure = Failure { serial, attempts, next_try_ms: now_ms + pause };
        if !asked {
            remembered.pause_until_ms = Some(failure.next_try_ms);
        }
        remembered.failure = Some(failure.clone());
        failure
    }

    /// A stop or removal came through.
    pub fn succeeded(&mut self, uuid: &str) {
        self.plan_changed(uuid);
    }

    /// The attempt was cut short by an engine that went away; it does not count.
    pub fn interrupted(&mut self, plan: Option<&ContainerPlan>, uuid: &str, container: Option<&Container>) {
        match (plan, container) {
            (Some(plan), Some(container)) => drop(self.adopt(plan, container)),
            // The attempt stays on record until the engine can be asked again.
            (Some(_), None) => {}
            (None, _) => self.forget(uuid),
        }
    }

    /// The plan of a container changed: what failed before may work now.
    pub fn plan_changed(&mut self, uuid: &str) {
        if let Some(remembered) = self.containers.get_mut(uuid) {
            remembered.failure = None;
        }
    }

    /// Drops what neither the plan nor the engine knows. A container that left the plan but is still on the engine may
    /// come back (restore), and then it matters which start was its last.
    pub fn keep_only(&mut self, held: &Held, observed: &Observed) {
        self.containers.retain(|key, _| match key.strip_prefix(VOLUME_KEY) {
            Some(volume) => held.volume_removals.contains_key(volume),
            None => {
                held.containers.contains_key(key)
                    || held.removals.contains_key(key)
                    || observed.find(key, None).is_some()
            }
        });
    }
}

/// 1 s, 2 s, 4 s … 5 min; `None` for a run that was long enough.
fn pause_ms(quick_exits: u32) -> Option<u64> {
    let doublings = quick_exits.checked_sub(1)?.min(16);
    Some((FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS))
}

#[cfg(test)]
mod tests {
    use remuda_wire::observe::Status;

    use super::*;
    use crate::reconcile::decide::testing::{container as plan, seen};

    #[test]
    fn pauses_grow_from_a_second_to_five_minutes() {
        let pauses: Vec<_> = [0, 1, 2, 3, 8, 9, 10, 40].into_iter().map(pause_ms).collect();
        let expected =
            [None, Some(1_000), Some(2_000), Some(4_000), Some(128_000), Some(256_000), Some(300_000), Some(300_000)];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn an_exit_counts_once_and_a_long_run_forgives() {
        let mut memory = Memory::default();
        let plan = plan("a");
        let exit = |finished: i64, ran: i64| Container {
            started_at: Some(finished - ran),
            finished_at: Some(finished),
            ..seen("a", Status::Exited)
        };
        assert!(memory.note_exit(&plan, &exit(100_000, 500), 10));
        assert!(!memory.note_exit(&plan, &exit(100_000, 500), 20));
        assert_eq!(memory.entry("a").pause_until_ms, Some(1_010));
        assert!(memory.note_exit(&plan, &exit(101_000, 500), 2_000));
        assert_eq!(memory.entry("a").pause_until_ms, Some(4_000));
        assert!(memory.note_exit(&plan, &exit(900_000, 60_000), 5_000));
        assert_eq!(memory.entry("a").pause_until_ms, None);
    }

    #[test]
    fn what_is_on_the_engine_is_remembered_without_a_plan() {
        let mut memory = Memory::default();
        for key in ["planned", "there", "gone", "volume v1", "volume v2"] {
            memory.entry(key).serial = Some(1);
        }
        let mut held = Held::default();
        held.containers.insert("planned".into(), plan("planned"));
        let removal = remuda_wire::plan::VolumeRemoval { uuid: "v1".into(), name: "data".into(), driver: None };
        held.volume_removals.insert("v1".into(), removal);
        let mut observed = Observed::default();
        observed.put(seen("there", Status::Exited));
        memory.keep_only(&held, &observed);
        assert_eq!(memory.containers.keys().collect::<Vec<_>>(), ["planned", "there", "volume v1"]);
    }

    #[test]
    fn losing_the_cache_takes_running_containers_over() {
        let check = |attempt: Option<Attempt>, serial: Option<i64>, started_at: Option<i64>, expected: Option<i64>| {
            let mut memory = Memory::default();
            *memory.entry("a") = Remembered { serial, attempt, ..Remembered::default() };
            let plan = ContainerPlan { start_serial: 4, ..plan("a") };
            memory.adopt(&plan, &Container { started_at, ..seen("a", Status::Running) });
            assert_eq!(memory.serial("a"), expected);
            assert_eq!(memory.entry("a").attempt, None);
        };
        let attempt = |started_before| Some(Attempt { serial: 3, started_before });
        check(None, None, Some(7), Some(4));
        check(None, None, None, None);
        check(None, Some(2), Some(7), Some(2));
        // Killed while starting: the engine's time says whether it came through.
        check(attempt(None), None, Some(7), Some(3));
        check(attempt(Some(7)), Some(2), Some(7), Some(2));
        check(attempt(Some(7)), Some(2), Some(9), Some(3));
    }
}
