//! Storms from seeds: things go wrong while users work, everything is repaired, and then all must be as it shall be.
//!
//! A failure prints its seed and what happened. `REMUDA_SIM_SEED=N` runs one seed and shows what happened, `REMUDA_SIM_SEEDS=N` that many
//! instead of a few; `REMUDA_SIM_LOG=debug` shows what the program itself says.
#![allow(clippy::disallowed_methods, reason = "the variables are this test's configuration")]

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Result, ensure};
use remuda_simulation::{Simulation, invariants, storm, users};

/// Seeds of an ordinary run, shared by the tests below so that they run side by side.
const N_SEEDS: u64 = 12;
const N_SHARES: u64 = 4;
const LASTS: Duration = Duration::from_secs(180);

thread_local! {
    /// Panics on this thread: a task that panics ends quietly, and nobody would hear of it.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(panic);
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One seed; the log tells what happened, whatever the outcome.
async fn weather(simulation: &mut Simulation) -> Result<()> {
    for name in ["one", "two", "three"] {
        simulation.host(name).await?;
    }
    storm::rage(simulation, LASTS).await?;
    invariants::settle(simulation).await?;
    // A machine that is lost for good: another takes its place and its work.
    let lost = usize::try_from(simulation.chance.below(simulation.machines.len() as u64))?;
    let machine = &mut simulation.machines[lost];
    let name = machine.name.clone();
    machine.cable.unplug();
    machine.agent_crash();
    simulation.host("four").await?;
    users::host_remove(simulation, &name).await?;
    simulation.machines.remove(lost);
    invariants::settle(simulation).await?;
    // Killing every process changes nothing of what runs.
    let before: Vec<_> = simulation.machines.iter().map(|machine| machine.engine.census()).collect();
    simulation.server_crash();
    let seams = simulation.seams.clone();
    for machine in &mut simulation.machines {
        machine.agent_crash();
        machine.agent_start(&seams)?;
    }
    simulation.server_start().await?;
    invariants::settle(simulation).await?;
    let after: Vec<_> = simulation.machines.iter().map(|machine| machine.engine.census()).collect();
    ensure!(before == after, "a restart of everything changed what runs: {before:#?} {after:#?}");
    Ok(())
}

fn run(seed: u64) -> (Result<()>, Vec<String>) {
    count_panics();
    let n_panics = PANICS.with(Cell::get);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return (Err(error.into()), Vec::new()),
    };
    runtime.block_on(async {
        let mut simulation = match Simulation::start(seed).await {
            Ok(simulation) => simulation,
            Err(error) => return (Err(error), Vec::new()),
        };
        let mut outcome = weather(&mut simulation).await;
        if PANICS.with(Cell::get) != n_panics {
            outcome = outcome.and(Err(anyhow::anyhow!("something panicked; see above")));
        }
        let noted = simulation.noted().to_vec();
        match (outcome, simulation.log().await) {
            (Ok(()), Ok(log)) => (Ok(()), log),
            (outcome, log) => (outcome.and(log.map(drop)), noted),
        }
    })
}

fn check(seed: u64) {
    let (outcome, log) = run(seed);
    if outcome.is_err() || number("REMUDA_SIM_SEED").is_some() {
        for line in &log {
            eprintln!("{line}");
        }
    }
    if let Err(error) = outcome {
        panic!(
            "seed {seed}: {error:#}\nagain: REMUDA_SIM_SEED={seed} cargo nextest run -p remuda-simulation --test faults --no-capture storms_0"
        );
    }
}

fn share(number_of_share: u64) {
    if let Some(directives) = std::env::var_os("REMUDA_SIM_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(directives.to_string_lossy());
        drop(tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).try_init());
    }
    if let Some(seed) = number("REMUDA_SIM_SEED") {
        if number_of_share == 0 {
            check(seed);
        }
        return;
    }
    let n_seeds = number("REMUDA_SIM_SEEDS").unwrap_or(N_SEEDS);
    (0..n_seeds).filter(|seed| seed % N_SHARES == number_of_share).for_each(check);
}

#[test]
fn storms_0() {
    share(0);
}

#[test]
fn storms_1() {
    share(1);
}

#[test]
fn storms_2() {
    share(2);
}

#[test]
fn storms_3() {
    share(3);
}

/// Without that, no seed could be run again.
#[test]
fn a_storm_repeats() {
    let (first, second) = (run(1_000_003).1, run(1_000_003).1);
    for (idx, (left, right)) in first.iter().zip(&second).enumerate() {
        assert_eq!(left, right, "line {idx} differs");
    }
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 200, "the storm did next to nothing: {first:#?}");
}
