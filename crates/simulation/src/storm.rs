//! What goes wrong, from the seed: processes die and come back, connections break, engines and the database fail, and
//! people interfere by hand. Every trouble has a repair and a time for it; when the storm is over, all is repaired.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use remuda_agent::engine::Engine;
use remuda_agent::engine::simulated::Trouble as EngineTrouble;

use crate::disk::Trouble as DiskTrouble;
use crate::users::{one, pick};
use crate::{Simulation, invariants, users};

#[derive(Clone, Copy, Debug)]
enum Trouble {
    ConnectionCut,
    ConnectionHalfCut,
    CableUnplugged,
    CableSlow,
    AgentKilled,
    AgentStopped,
    MachineRebooted,
    ClockWrong,
    EngineDown,
    EngineTroubled,
    ContainerExits,
    ContainerRemovedByHand,
    ContainerStoppedByHand,
    ContainerRunByHand,
    ContainerSickens,
    HostBlinded,
    ServerKilled,
    ServerDiesAtWrite,
    ServerStopped,
    DatabaseTroubled,
}

/// What goes wrong, and how often compared with the others.
const TROUBLES: &[(u64, Trouble)] = &[
    (4, Trouble::ConnectionCut),
    (4, Trouble::ConnectionHalfCut),
    (3, Trouble::CableUnplugged),
    (3, Trouble::CableSlow),
    (4, Trouble::AgentKilled),
    (1, Trouble::AgentStopped),
    (2, Trouble::MachineRebooted),
    (1, Trouble::ClockWrong),
    (3, Trouble::EngineDown),
    (4, Trouble::EngineTroubled),
    (5, Trouble::ContainerExits),
    (4, Trouble::ContainerRemovedByHand),
    (3, Trouble::ContainerStoppedByHand),
    (1, Trouble::ContainerRunByHand),
    (4, Trouble::ContainerSickens),
    (2, Trouble::HostBlinded),
    (2, Trouble::ServerKilled),
    (4, Trouble::ServerDiesAtWrite),
    (1, Trouble::ServerStopped),
    (3, Trouble::DatabaseTroubled),
];

/// What ends a trouble; machines by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Plug(usize),
    Quicken(usize),
    AgentStart(usize),
    ClockSet(usize),
    EngineUp(usize),
    EngineCalm(usize),
    Heal(usize),
    See(usize),
    ServerStart,
    DatabaseCalm,
}

/// Troubles under way.
#[derive(Debug, Default)]
struct Storm {
    repairs: BTreeMap<(tokio::time::Instant, u64), Repair>,
    n_troubles: u64,
}

/// Lets things go wrong for that long, with users at work, then repairs everything.
pub async fn rage(simulation: &mut Simulation, lasts: Duration) -> Result<()> {
    let mut storm = Storm::default();
    let end = simulation.seams.clock.instant() + lasts;
    let mut next = simulation.seams.clock.instant();
    while simulation.seams.clock.instant() < end {
        let due = storm.repairs.first_key_value().map_or(next, |((at, _), _)| (*at).min(next));
        simulation.seams.clock.sleep(due.saturating_duration_since(simulation.seams.clock.instant())).await;
        storm.bury_server(simulation);
        let now = simulation.seams.clock.instant();
        while let Some(entry) = storm.repairs.first_entry().filter(|entry| entry.key().0 <= now) {
            let repair = entry.remove();
            apply(simulation, repair).await?;
        }
        if now >= next {
            next = now + Duration::from_millis(simulation.chance.below(4_000));
            if simulation.chance.below(100) < 60 {
                users::deed(simulation).await?;
            } else if let Some(trouble) = pick(simulation, TROUBLES) {
                storm.strike(simulation, trouble).await?;
            }
        }
        let broken = invariants::always(simulation);
        if !broken.is_empty() {
            bail!("in the middle of it: {}", broken.join("; "));
        }
    }
    storm.bury_server(simulation);
    for repair in std::mem::take(&mut storm.repairs).into_values() {
        apply(simulation, repair).await?;
    }
    if let Some(server) = simulation.server.get() {
        server.disk.calm();
    }
    storm.bury_server(simulation);
    apply(simulation, Repair::ServerStart).await?;
    // With all hosts in use there is room for everything that was asked for.
    users::hosts_activate(simulation).await?;
    users::upgrades_end(simulation).await?;
    simulation.note("the storm is over");
    Ok(())
}

impl Storm {
    fn later(&mut self, simulation: &Simulation, most_ms: u64, repair: Repair) {
        let at = simulation.seams.clock.instant() + Duration::from_millis(simulation.chance.below(most_ms));
        self.n_troubles += 1;
        self.repairs.insert((at, self.n_troubles), repair);
    }

    /// A server whose disk has stopped it is dead: it is cleared away and started again.
    fn bury_server(&mut self, simulation: &mut Simulation) {
        if simulation.server.get().is_some_and(|server| server.disk.is_dead()) {
            simulation.server_crash();
            self.later(simulation, 20_000, Repair::ServerStart);
        }
    }

    async fn strike(&mut self, simulation: &mut Simulation, trouble: Trouble) -> Result<()> {
        let n_machines = simulation.machines.len() as u64;
        let which = usize::try_from(simulation.chance.below(n_machines)).unwrap_or(0);
        let machine = &mut simulation.machines[which];
        let chance = simulation.chance.clone();
        let name = machine.name.clone();
        let mut said = format!("{trouble:?} {name}");
        match trouble {
            Trouble::ConnectionCut => machine.cable.cut(),
            Trouble::ConnectionHalfCut => machine.cable.cut_agents_end(),
            Trouble::CableUnplugged => {
                machine.cable.unplug();
                self.later(simulation, 90_000, Repair::Plug(which));
            }
            Trouble::CableSlow => {
                machine.cable.lag(Duration::from_millis(chance.below(3_000)));
                self.later(simulation, 40_000, Repair::Quicken(which));
            }
            Trouble::AgentKilled => {
                machine.agent_crash();
                if chance.below(4) == 0 {
                    machine.cache_lose()?;
                    said.push_str(", cache lost");
                }
                self.later(simulation, 25_000, Repair::AgentStart(which));
            }
            Trouble::AgentStopped => {
                machine.agent_stop().await;
                self.later(simulation, 25_000, Repair::AgentStart(which));
            }
            Trouble::MachineRebooted => {
                machine.agent_crash();
                machine.engine.reboot();
                self.later(simulation, 40_000, Repair::AgentStart(which));
            }
            Trouble::ClockWrong => {
                let skew = i64::try_from(chance.below(600_000)).unwrap_or(0) - 300_000;
                machine.clock.set_skew_ms(skew);
                self.later(simulation, 60_000, Repair::ClockSet(which));
            }
            Trouble::EngineDown => {
                machine.engine.set_reachable(false);
                self.later(simulation, 30_000, Repair::EngineUp(which));
            }
            Trouble::EngineTroubled => {
                let trouble =
                    EngineTrouble { refused: chance.below(60), unanswered: chance.below(40), slow: chance.below(60) };
                machine.engine.set_trouble(trouble);
                said = format!("{said} {trouble:?}");
                self.later(simulation, 40_000, Repair::EngineCalm(which));
            }
            Trouble::HostBlinded => {
                machine.engine.set_blind(true);
                self.later(simulation, 40_000, Repair::See(which));
            }
            Trouble::ContainerExits
            | Trouble::ContainerSickens
            | Trouble::ContainerRemovedByHand
            | Trouble::ContainerStoppedByHand
            | Trouble::ContainerRunByHand => {
                let engine = machine.engine.clone();
                let up: Vec<_> = engine.census().into_iter().filter(|container| container.is_up).collect();
                let chosen = one(simulation, &up).cloned();
                let exit_code = i64::try_from(chance.below(3)).unwrap_or(0);
                match (trouble, chosen) {
                    (Trouble::ContainerRunByHand, _) => {
                        let native = format!("native{}", chance.below(1_000_000));
                        engine.run_native(&native, "busybox");
                        said = format!("{said} {native}");
                    }
                    (_, None) => return Ok(()),
                    (Trouble::ContainerSickens, Some(it)) => {
                        engine.set_healthy(&it.docker_id, false);
                        said = format!("{said} {}", it.name);
                        self.later(simulation, 60_000, Repair::Heal(which));
                    }
                    (Trouble::ContainerExits, Some(it)) => {
                        engine.exit(&it.docker_id, exit_code);
                        said = format!("{said} {} with {exit_code}", it.name);
                    }
                    (Trouble::ContainerRemovedByHand, Some(it)) => {
                        // The engine may refuse just now, as it may refuse agents.
                        let removed = engine.remove(&it.docker_id).await;
                        said = format!("{said} {} {removed:?}", it.name);
                    }
                    (_, Some(it)) => {
                        let stopped = engine.stop(&it.docker_id, 10).await;
                        said = format!("{said} {} {stopped:?}", it.name);
                    }
                }
            }
            Trouble::ServerKilled => {
                simulation.server_crash();
                self.later(simulation, 40_000, Repair::ServerStart);
            }
            Trouble::ServerDiesAtWrite => {
                if let Some(server) = simulation.server.get() {
                    server.disk.die_in(chance.below(20));
                }
            }
            Trouble::ServerStopped => {
                simulation.server_stop().await;
                self.later(simulation, 20_000, Repair::ServerStart);
            }
            Trouble::DatabaseTroubled => {
                let trouble =
                    DiskTrouble { slow: chance.below(30), away: chance.below(30), answer_lost: chance.below(20) };
                if let Some(server) = simulation.server.get() {
                    server.disk.set_trouble(trouble);
                }
                said = format!("{trouble:?}");
                self.later(simulation, 20_000, Repair::DatabaseCalm);
            }
        }
        simulation.note(&said);
        Ok(())
    }
}

async fn apply(simulation: &mut Simulation, repair: Repair) -> Result<()> {
    match repair {
        Repair::Plug(which) => simulation.machines[which].cable.plug(),
        Repair::Quicken(which) => simulation.machines[which].cable.lag(Duration::ZERO),
        Repair::AgentStart(which) => {
            let seams = simulation.seams.clone();
            simulation.machines[which].agent_start(&seams)?;
        }
        Repair::ClockSet(which) => simulation.machines[which].clock.set_skew_ms(0),
        Repair::EngineUp(which) => simulation.machines[which].engine.set_reachable(true),
        Repair::EngineCalm(which) => simulation.machines[which].engine.set_trouble(EngineTrouble::default()),
        Repair::Heal(which) => simulation.machines[which].engine.heal(),
        Repair::See(which) => simulation.machines[which].engine.set_blind(false),
        Repair::ServerStart => simulation.server_start().await?,
        Repair::DatabaseCalm => {
            if let Some(server) = simulation.server.get() {
                server.disk.set_trouble(DiskTrouble::default());
            }
        }
    }
    simulation.note(&format!("{repair:?}"));
    Ok(())
}
