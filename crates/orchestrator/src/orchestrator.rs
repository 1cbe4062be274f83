//! The front door: starts the loops, and gives the server what it needs of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remuda_runtime::Seams;
use remuda_store::{Error, Retention, Store};
use remuda_wire::observe::{BalancerSample, HostFacts, StateReport};
use remuda_wire::session::{Consumer, Hello, Position};

use crate::hosts::balancing::{self, Balancing};
use crate::hosts::liveness::{host_back, watch_liveness};
use crate::hosts::{self, ConnectRefused, HostSession, HostUpdates, Live, ReportRefused, Sample};
use crate::leases::{self, Hold, Leases, Ownership};
use crate::settings::Settings;
use crate::worlds::{LoopStatus, Shared};

/// How the loops run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long purged rows, change records and logs are kept.
    pub retention: Retention,
    /// How often what is no longer kept is removed.
    pub trim_every: Duration,
    /// Whether other servers work on the same database.
    pub ownership: Ownership,
}

impl Default for Options {
    fn default() -> Options {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        let retention = Retention {
            removed_is_final: crate::record::REMOVED_IS_FINAL.iter().map(|table| (*table).to_owned()).collect(),
            aged: BTreeMap::from([
                ("auditLog".to_owned(), 90 * DAY_MS),
                ("containerEvent".to_owned(), DAY_MS),
                ("serviceEvent".to_owned(), DAY_MS),
            ]),
            ..Retention::default()
        };
        Options { retention, trim_every: Duration::from_secs(15 * 60), ownership: Ownership::Alone }
    }
}

/// The running loops. Clones share them.
#[derive(Clone)]
pub struct Orchestrator {
    shared: Arc<Shared>,
    live: Arc<Live>,
}

impl std::fmt::Debug for Orchestrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestrator").field("revision", &self.shared.reached()).finish_non_exhaustive()
    }
}

impl Orchestrator {
    /// Starts following the store. The loops belong to `seams.tasks` and end with them.
    pub fn start(store: Store, seams: Seams, options: Options) -> Orchestrator {
        let leases = Leases::new(options.ownership, &seams.random);
        let shared = Arc::new(Shared::new(store, seams.clone(), leases));
        let live = Arc::new(Live::default());
        seams.tasks.spawn("leases", leases::keep(Arc::clone(&shared)));
        seams.tasks.spawn_until_stopped("feed", Arc::clone(&shared).follow());
        seams.tasks.spawn_until_stopped("rows", Arc::clone(&shared).run_rows());
        seams.tasks.spawn_until_stopped("liveness", watch_liveness(Arc::clone(&shared), Arc::clone(&live)));
        seams.tasks.spawn_until_stopped("trim", trim(Arc::clone(&shared), options));
        Orchestrator { shared, live }
    }

    /// Settings in effect.
    pub fn settings(&self) -> Arc<Settings> {
        self.shared.settings()
    }

    /// What each loop is doing.
    pub fn status(&self) -> Vec<LoopStatus> {
        self.shared.status()
    }

    /// Waits until every World has seen that commit.
    pub async fn reached(&self, revision: i64) {
        self.shared.revision.reached(revision).await;
    }

    /// Progress of a container, as its host last told it: overlays what is stored.
    pub fn sample(&self, container_id: i64) -> Option<Sample> {
        self.live.sample(container_id)
    }

    pub async fn host_connect(&self, agent_account_id: i64, hello: &Hello) -> Result<HostSession, ConnectRefused> {
        hosts::host_connect(&self.shared, &self.live, agent_account_id, hello).await
    }

    pub fn host_updates(&self, session: &HostSession, have: Option<Position>) -> HostUpdates {
        HostUpdates::new(Arc::clone(&self.shared), session.clone(), have)
    }

    pub async fn host_report(&self, session: &HostSession, report: StateReport) -> Result<(), ReportRefused> {
        // Two reports of one agent never race; a write that lost against a plan is simply done again.
        let mut tries = 0;
        loop {
            match hosts::host_report(&self.shared, &self.live, session, report.clone()).await {
                Err(ReportRefused::Store(Error::Changed { .. } | Error::Claimed { .. })) if tries < 5 => tries += 1,
                answer => return answer,
            }
        }
    }

    pub async fn host_facts(&self, session: &HostSession, facts: HostFacts) -> Result<(), ReportRefused> {
        hosts::host_facts(&self.shared, &self.live, session, facts).await
    }

    /// The agent is there. Cheap: nothing is stored unless it was given up before.
    pub async fn host_heard(&self, session: &HostSession) -> Result<(), ReportRefused> {
        hosts::host_heard(&self.shared, &self.live, session);
        let silent = self.shared.project(session.project_id).is_some_and(|project| {
            let state = project.state();
            let agent = state.world.agents.get(&session.agent_id);
            agent.is_some_and(|agent| matches!(agent.meta.state.as_str(), "reconnecting" | "disconnected"))
        });
        if silent { host_back(&self.shared, session).await } else { Ok(()) }
    }

    /// Whether the host counts as there: only then may its heartbeats be acknowledged, for what must never run twice.
    pub fn host_counts(&self, session: &HostSession) -> bool {
        hosts::host_counts(&self.shared, session)
    }

    /// The connection ended; `announced`: on purpose.
    pub async fn host_gone(&self, session: &HostSession, announced: bool) {
        hosts::host_gone(&self.shared, &self.live, session, announced).await;
    }

    pub async fn host_applied(&self, session: &HostSession, consumer: Consumer, revision: i64) {
        hosts::host_applied(&self.shared, &self.live, session, consumer, revision).await;
    }

    /// Directory revision that a consumer on a host works with.
    pub fn applied(&self, host_id: i64, consumer: Consumer) -> Option<i64> {
        self.live.applied(host_id, consumer)
    }

    pub fn balancing_of(&self, service: i64) -> Option<Balancing> {
        balancing::of_service(&self.live, service, self.shared.now())
    }

    /// What load balancers do, by their service's row number.
    pub fn balancing(&self) -> BTreeMap<i64, Balancing> {
        balancing::by_service(&self.live, self.shared.now())
    }

    pub fn host_balancers(&self, session: &HostSession, samples: Vec<BalancerSample>) {
        balancing::host_balancers(&self.shared, &self.live, session, samples);
    }

    pub fn host_progress(&self, session: &HostSession, uuid: &str, message: String, percent: Option<i64>) {
        hosts::host_progress(&self.shared, &self.live, session, uuid, message, percent);
    }
}

/// Removes what need not be kept any longer.
async fn trim(shared: Arc<Shared>, options: Options) {
    loop {
        shared.seams.clock.sleep(options.trim_every).await;
        if shared.leases.hold(leases::ROWS, shared.seams.clock.instant()) == Hold::Elsewhere {
            continue;
        }
        let mut retention = options.retention.clone();
        retention.purged_after_ms = shared.settings().trim_after_ms();
        match shared.store.trim(&retention).await {
            Ok(trimmed) if trimmed.rows + trimmed.changes > 0 => {
                tracing::debug!(rows = trimmed.rows, changes = trimmed.changes, "removed what is no longer kept");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what is no longer kept could not be removed; trying again later"),
        }
    }
}
