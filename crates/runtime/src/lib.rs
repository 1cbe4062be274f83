//! The seams to everything that is not determined by input: time ([`clock`]), randomness ([`random`]), tasks
//! ([`tasks`]), waiting for a number that grows ([`signal`]), and the links between server and agents ([`link`]).
//!
//! Production code gets them as values, never by a global call (`clippy.toml` bans the calls), so that the whole
//! control plane also runs on one thread with a paused clock and seeded randomness, twice alike (DESIGN §9).

pub mod clock;
pub mod link;
pub mod random;
pub mod signal;
pub mod tasks;

pub use clock::Clock;
pub use link::Link;
pub use random::Random;
pub use signal::Signal;
pub use tasks::Tasks;

/// The seams together, cheap to clone.
#[derive(Clone, Debug)]
pub struct Seams {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

impl Seams {
    /// The real ones: wall clock, the operating system's randomness.
    pub fn real() -> Seams {
        Seams { clock: Clock::system(), random: Random::from_os(), tasks: Tasks::new() }
    }

    /// Virtual time starting at `start_ms` (the runtime's clock, which a test pauses) and randomness from a seed.
    pub fn seeded(seed: u64, start_ms: i64) -> Seams {
        Seams { clock: Clock::virtual_from(start_ms), random: Random::seeded(seed), tasks: Tasks::new() }
    }
}
