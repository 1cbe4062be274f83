//! Parsers of what comes from outside (requests, filters, compose files), fed with what nobody would send on purpose.
//!
//! Each target is a function from bytes to nothing that panics when a promise is broken: no input makes a parser panic,
//! and what it accepts keeps to what is declared. Inputs are mutated from good ones, from a seed that a failure prints;
//! `REMUDA_FUZZ_SEED` repeats it, `REMUDA_FUZZ_RUNS` makes it longer. A coverage-guided fuzzer (cargo-fuzz) finds more
//! but needs a nightly compiler, which neither CI nor every contributor has; the targets would serve it unchanged.
#![allow(clippy::disallowed_methods, reason = "the two variables are this test's configuration")]
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

mod mutate;

mod compose;

mod filter;

mod request;

use std::panic::{AssertUnwindSafe, catch_unwind};

use remuda_runtime::Random;

/// Inputs per target in an ordinary run: a few seconds each in a debug build. Each goes through every type.
const N_RUNS: u64 = 3_000;

/// Feeds a target with its corpus, then with mutations of it.
pub fn fuzz(corpus: &[&[u8]], words: &[&str], target: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let n_runs = number("REMUDA_FUZZ_RUNS").unwrap_or(N_RUNS);
    let seed = number("REMUDA_FUZZ_SEED").unwrap_or_else(|| Random::from_os().next_u64());
    let random = Random::seeded(seed);
    for input in corpus {
        target(input);
    }
    for run in 0..n_runs {
        let input = mutate::mutate(&random, corpus, words);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            panic!("run {run} of REMUDA_FUZZ_SEED={seed}, input {:?}", String::from_utf8_lossy(&input));
        }
    }
}
