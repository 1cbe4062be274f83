//! Which keys are due: coalesced, one at a time each, with backoff after failures and a time to look again.
//!
//! A plain value that is told the time; the loop around it ([`crate::worlds`]) owns waiting and writing. A key is not
//! given out again before the World has reached the revision of the key's own last commit.

use std::collections::{BTreeMap, BTreeSet};

use remuda_runtime::Random;
use remuda_schema::Time;

/// First pause after a failure; doubles up to [`MAX_BACKOFF_MS`], with jitter.
const BACKOFF_MS: i64 = 50;
const MAX_BACKOFF_MS: i64 = 15_000;

/// Keys of one loop.
#[derive(Debug)]
pub struct Queue<K> {
    ready: BTreeSet<K>,
    due: BTreeSet<(Time, K)>,
    keys: BTreeMap<K, Key>,
    /// Keys by the revision they wait for.
    blocked: BTreeSet<(i64, K)>,
    pub status: Status,
}

#[derive(Debug, Default)]
struct Key {
    due: Option<Time>,
    /// Not before the World has this revision.
    blocked_until: i64,
    failures: u32,
    /// Being worked on; a wake-up meanwhile is remembered in `ready`.
    running: bool,
}

/// For operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub n_passes: u64,
    pub last_pass: Option<Time>,
    pub last_error: Option<String>,
    pub next_try: Option<Time>,
}

impl<K> Default for Queue<K> {
    fn default() -> Queue<K> {
        Queue {
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            keys: BTreeMap::new(),
            blocked: BTreeSet::new(),
            status: Status::default(),
        }
    }
}

impl<K: Ord + Copy> Queue<K> {
    /// Something changed: look at the key.
    pub fn wake(&mut self, key: K) {
        self.ready.insert(key);
    }

    /// Look at the key by that time at the latest.
    pub fn wake_at(&mut self, key: K, at: Time) {
        let entry = self.keys.entry(key).or_default();
        if entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = entry.due.replace(at) {
            self.due.remove(&(due, key));
        }
        self.due.insert((at, key));
    }

    /// Up to `max` keys that can be worked on now, in order. They are running until [`Queue::done`].
    pub fn take(&mut self, now: Time, revision: i64, max: usize) -> Vec<K> {
        while let Some((at, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, key));
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.due = None;
            }
            self.ready.insert(key);
        }
        let free = |key: &&K| self.keys.get(key).is_none_or(|entry| !entry.running && entry.blocked_until <= revision);
        let taken: Vec<K> = self.ready.iter().filter(free).take(max).copied().collect();
        for key in &taken {
            self.ready.remove(key);
            self.keys.entry(*key).or_default().running = true;
        }
        taken
    }

    /// The key was planned, and written if there was something to write. `revision`: of its commit.
    pub fn done(&mut self, key: K, revision: Option<i64>, again: Option<Time>) {
        let entry = self.keys.entry(key).or_default();
        entry.running = false;
        entry.failures = 0;
        self.block(key, revision.unwrap_or(0));
        if let Some(at) = again {
            self.wake_at(key, at);
        }
        self.forget_idle(key);
    }

    /// The key was not written after all; it stays due, once the World has that revision.
    pub fn put_back(&mut self, key: K, revision: i64) {
        self.keys.entry(key).or_default().running = false;
        self.block(key, revision);
        self.ready.insert(key);
    }

    fn block(&mut self, key: K, revision: i64) {
        let entry = self.keys.entry(key).or_default();
        if revision > entry.blocked_until {
            self.blocked.remove(&(entry.blocked_until, key));
            entry.blocked_until = revision;
            self.blocked.insert((revision, key));
        }
    }

    /// What the key wanted to write was refused: try again after a pause.
    pub fn failed(&mut self, key: K, now: Time, error: String, random: &Random) {
        let entry = self.keys.entry(key).or_default();
        entry.running = false;
        entry.failures += 1;
        let pause = BACKOFF_MS.saturating_mul(1 << entry.failures.min(10)).min(MAX_BACKOFF_MS) / 2;
        let jitter = random.below(pause.unsigned_abs());
        let at = now.plus_ms(pause.saturating_add(i64::try_from(jitter).unwrap_or(0)));
        self.status.last_error = Some(error);
        self.status.next_try = Some(at);
        self.wake_at(key, at);
    }

    fn forget_idle(&mut self, key: K) {
        let idle =
            |entry: &Key| entry.due.is_none() && entry.blocked_until == 0 && !entry.running && entry.failures == 0;
        let idle = self.keys.get(&key).is_some_and(idle);
        if idle {
            self.keys.remove(&key);
        }
    }

    /// The World has reached that revision: what waited for it can go.
    pub fn reached(&mut self, revision: i64) {
        while let Some((until, key)) = self.blocked.first().copied().filter(|(until, _)| *until <= revision) {
            self.blocked.remove(&(until, key));
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.blocked_until = 0;
            }
            self.forget_idle(key);
        }
    }

    /// When something is due next though nothing changes.
    pub fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether a key could be taken at that revision.
    pub fn has_ready(&self, revision: i64) -> bool {
        let free = |key: &K| self.keys.get(key).is_none_or(|entry| !entry.running && entry.blocked_until <= revision);
        self.ready.iter().any(free)
    }

    pub fn n_waiting(&self) -> usize {
        self.ready.len() + self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_coalesce_and_running_keys_wait() {
        let mut queue = Queue::default();
        queue.wake(1);
        queue.wake(1);
        queue.wake(2);
        assert_eq!(queue.take(Time(0), 0, 10), [1, 2]);
        queue.wake(1);
        assert_eq!(queue.take(Time(0), 0, 10), Vec::<i32>::new());
        queue.done(1, None, None);
        assert_eq!(queue.take(Time(0), 0, 10), [1]);
    }

    #[test]
    fn a_key_waits_for_its_own_commit() {
        let mut queue = Queue::default();
        queue.wake(1);
        queue.take(Time(0), 4, 10);
        queue.done(1, Some(7), None);
        queue.wake(1);
        assert_eq!(queue.take(Time(0), 6, 10), Vec::<i32>::new());
        queue.reached(7);
        assert_eq!(queue.take(Time(0), 7, 10), [1]);
    }

    #[test]
    fn failures_back_off_and_times_come() {
        let mut queue = Queue::default();
        queue.wake(1);
        queue.take(Time(0), 0, 10);
        queue.failed(1, Time(0), "refused".into(), &Random::seeded(1));
        assert_eq!(queue.take(Time(0), 0, 10), Vec::<i32>::new());
        let at = queue.next_due().expect("a next try");
        assert!(at > Time(0) && at <= Time(200), "{at:?}");
        assert_eq!(queue.take(at, 0, 10), [1]);
        queue.done(1, None, Some(Time(900)));
        assert_eq!(queue.next_due(), Some(Time(900)));
    }
}
