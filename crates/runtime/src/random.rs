//! Randomness: from the operating system in production, from a seed in simulation.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};

/// A source of random bytes. Clones share it.
#[derive(Clone)]
pub struct Random(Arc<Source>);

enum Source {
    Os(SystemRandom),
    /// xorshift64*: good enough to choose, never used for secrets outside tests.
    Seeded(Mutex<u64>),
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.0 {
            Source::Os(_) => "Random(os)",
            Source::Seeded(_) => "Random(seeded)",
        })
    }
}

impl Random {
    pub fn from_os() -> Random {
        Random(Arc::new(Source::Os(SystemRandom::new())))
    }

    pub fn seeded(seed: u64) -> Random {
        // Zero is the one state xorshift never leaves.
        Random(Arc::new(Source::Seeded(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))))
    }

    /// Fills `out`. The operating system's source does not fail after boot; if it does, stopping is the only safe answer.
    pub fn fill(&self, out: &mut [u8]) {
        match &*self.0 {
            Source::Os(source) => source.fill(out).expect("the operating system gives random bytes"),
            Source::Seeded(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                for chunk in out.chunks_mut(8) {
                    *state ^= *state >> 12;
                    *state ^= *state << 25;
                    *state ^= *state >> 27;
                    let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
    }

    pub fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64 }
    }

    /// A version 4 uuid.
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// `length` characters drawn from `alphabet` without bias. The alphabet has 1 to 256 characters.
    pub fn text(&self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len() as u64) as usize])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats() {
        let draw = |seed| (Random::seeded(seed).uuid(), Random::seeded(seed).text(b"abc", 9));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn below_stays_below() {
        let random = Random::seeded(1);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
