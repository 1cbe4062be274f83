//! What silence means: an agent that is not heard of is `reconnecting`, then `disconnected`; heard again it is active.
//!
//! The server an agent is connected to judges it. When that server is gone, the one that decides for the project does:
//! it counts the silence from when it noticed, so an agent has the same time to find another server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remuda_model::Agent;
use remuda_model::states::*;
use remuda_schema::{Id, Row, Time};
use remuda_store::{Error, Scope};

use super::{HostSession, Live, ReportRefused, check_generation, lock};
use crate::worlds::Shared;

/// The loop looks that often.
const LOOK: Duration = Duration::from_secs(1);
/// A look that comes so much too late, or too early, says nothing about hosts.
const STALL_MS: i64 = 5_000;

/// Turns silence into states, and forgets samples of containers that are done.
pub async fn watch_liveness(shared: Arc<Shared>, live: Arc<Live>) {
    let mut started = shared.now();
    let mut looked = started;
    // Agents whose server is gone, and since when.
    let mut left: BTreeMap<i64, Time> = BTreeMap::new();
    loop {
        shared.seams.clock.sleep(LOOK).await;
        let now = shared.now();
        if now.ms_since(looked).abs() > STALL_MS {
            // We stood still, or the clock was set: what looks like silence is ours.
            tracing::warn!(ms = now.ms_since(looked), "time has jumped; hosts are observed before any counts as lost");
            started = now;
            left.clear();
            shared.projects().iter().for_each(|project| project.state().world.since = now);
        }
        looked = now;
        let settings = shared.settings();
        let mut silent: Vec<(i64, i64, &'static str, Time)> = Vec::new();
        for project in shared.projects() {
            let decides = shared.decides_for(project.id);
            let mut state = project.state();
            for (id, agent) in &state.world.agents {
                let heard = match judge(&shared, agent, decides) {
                    Judge::Connected => {
                        left.remove(id);
                        lock(&live.sessions).get(id).map_or(started, |connection| connection.heard).max(started)
                    }
                    Judge::Heir => *left.entry(*id).or_insert(now),
                    Judge::Another => {
                        left.remove(id);
                        continue;
                    }
                };
                let silence = now.ms_since(heard);
                let verdict = match agent.meta.state.as_str() {
                    ACTIVE if silence >= settings.reconnecting_after_ms() => RECONNECTING,
                    RECONNECTING if silence >= settings.disconnected_after_ms() => DISCONNECTED,
                    _ => continue,
                };
                silent.push((*id, agent.generation, verdict, heard));
            }
            let done = |id: &i64, world: &crate::world::World| {
                world.containers.get(id).is_none_or(|row| matches!(row.meta.state.as_str(), RUNNING | STOPPED | ERROR))
            };
            let ended: Vec<i64> = state.world.progress_at.keys().filter(|id| done(id, &state.world)).copied().collect();
            for id in ended {
                state.world.progress_at.remove(&id);
                lock(&live.samples).remove(&id);
            }
        }
        if silent.is_empty() {
            continue;
        }
        let written = shared
            .store
            .write(move |tx| -> Result<(), Error> {
                for (id, generation, verdict, heard) in &silent {
                    let Some(mut agent) = tx.get::<Agent>(&Scope::Everything, Id::new(*id))? else { continue };
                    let from = if *verdict == RECONNECTING { ACTIVE } else { RECONNECTING };
                    // It may have connected elsewhere meanwhile.
                    if agent.meta.state == from && agent.generation == *generation {
                        agent.meta.enter(verdict);
                        agent.silent_since = agent.silent_since.or(Some(*heard));
                        tx.update(&mut agent)?;
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "the state of silent agents could not be recorded; trying again");
        }
    }
}

/// Who says that an agent is silent.
enum Judge {
    /// This server, which it is connected to, or was last.
    Connected,
    /// This server, because the one it was connected to is gone.
    Heir,
    Another,
}

fn judge(shared: &Shared, agent: &Row<Agent>, decides: bool) -> Judge {
    let leases = &shared.leases;
    match agent.server.as_deref() {
        _ if leases.is_alone() => Judge::Connected,
        Some(server) if server == leases.owner => Judge::Connected,
        Some(server) if leases.is_there(server) => Judge::Another,
        _ if decides => Judge::Heir,
        _ => Judge::Another,
    }
}

/// A host that was silent is heard again on the same connection: it is active.
pub async fn host_back(shared: &Shared, session: &HostSession) -> Result<(), ReportRefused> {
    let (agent, generation) = (session.agent_id, session.generation);
    shared
        .store
        .write(move |tx| -> Result<(), ReportRefused> {
            check_generation(tx, agent, generation)?;
            if let Some(mut agent) = tx.get::<Agent>(&Scope::Everything, Id::new(agent))?
                && matches!(agent.meta.state.as_str(), RECONNECTING | DISCONNECTED)
            {
                agent.meta.enter(ACTIVE);
                (agent.silent_since, agent.away_until) = (None, None);
                tx.update(&mut agent)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}
