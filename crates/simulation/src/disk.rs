//! The database as one server process sees it: slow, away, forgetful in answering, and dead at a chosen write.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::Random;
use remuda_store::{Fault, Faults};

/// Longest delay of a call to a slow database.
const SLOW_MS: u64 = 3_000;

/// How often what goes wrong, in percent of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    pub slow: u64,
    pub away: u64,
    /// Of writes.
    pub answer_lost: u64,
}

/// The faults of one server process. When the process is dead, nothing of it is carried out any more.
#[derive(Debug)]
pub struct Disk {
    random: Random,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trouble: Trouble,
    dead: bool,
    /// Writes until the process dies.
    dies_in: Option<u64>,
}

impl Disk {
    pub(crate) fn new(random: Random) -> Disk {
        Disk { random, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    /// The process dies at its `n`th write from now: before it or after it, by chance.
    pub fn die_in(&self, n_writes: u64) {
        self.state().dies_in = Some(n_writes);
    }

    /// Nothing goes wrong any more, except that a dead process stays dead.
    pub fn calm(&self) {
        let mut state = self.state();
        state.trouble = Trouble::default();
        state.dies_in = None;
    }

    /// From now on every call waits for ever.
    pub(crate) fn die(&self) {
        self.state().dead = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    fn strikes(&self, percent: u64) -> bool {
        percent > 0 && self.random.below(100) < percent
    }

    fn trouble(&self, trouble: Trouble) -> Option<Fault> {
        if self.strikes(trouble.away) {
            Some(Fault::Away)
        } else if self.strikes(trouble.slow) {
            Some(Fault::Slow(Duration::from_millis(self.random.below(SLOW_MS))))
        } else {
            None
        }
    }
}

impl Faults for Disk {
    fn read(&self) -> Option<Fault> {
        let (dead, trouble) = {
            let state = self.state();
            (state.dead, state.trouble)
        };
        if dead { Some(Fault::Stuck) } else { self.trouble(trouble) }
    }

    fn write(&self) -> Option<Fault> {
        let trouble = {
            let mut state = self.state();
            if state.dead {
                return Some(Fault::Stuck);
            }
            if let Some(left) = state.dies_in {
                state.dies_in = Some(left.saturating_sub(1));
                if left == 0 {
                    state.dead = true;
                    let after = self.random.below(2) == 0;
                    return Some(if after { Fault::StuckAfter } else { Fault::Stuck });
                }
            }
            state.trouble
        };
        let lost = self.strikes(trouble.answer_lost).then_some(Fault::AnswerLost);
        self.trouble(trouble).or(lost)
    }
}
