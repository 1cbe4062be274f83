//! What one connection is sent: plan and directory as they change, snapshots first.

use std::sync::Arc;
use std::time::Duration;

use remuda_wire::plan::PlanUpdate;
use remuda_wire::session::Position;
use tokio::time::Instant;

use super::{HostSession, HostUpdate};
use crate::hostplan;
use crate::worlds::{ProjectLoop, Shared};

/// Directory changes are gathered that long.
const DIRECTORY_BATCH: Duration = Duration::from_millis(100);
/// Unconfirmed removals are asked for again that often.
const REPEAT: Duration = Duration::from_secs(30);

/// The stream of what to send to one connection.
pub struct HostUpdates {
    shared: Arc<Shared>,
    session: HostSession,
    project: Option<Arc<ProjectLoop>>,
    /// What [`ProjectLoop::told`] said when this connection last looked.
    told: i64,
    plan_sent: Option<i64>,
    directory_sent: Option<i64>,
    directory_due: Option<Instant>,
    repeat_at: Instant,
}

impl HostUpdates {
    pub(crate) fn new(shared: Arc<Shared>, session: HostSession, have: Option<Position>) -> HostUpdates {
        let identity = shared.store.identity();
        // The directory of the same store, epoch and past is worth a delta; the plan is small and always sent whole.
        let same = |have: &Position| {
            have.store == identity.store_id
                && have.epoch == identity.epoch
                && have.revision <= session.position.revision
        };
        let directory_sent = have.filter(same).map(|have| have.revision);
        let repeat_at = shared.seams.clock.instant() + REPEAT;
        HostUpdates {
            shared,
            session,
            project: None,
            told: 0,
            plan_sent: None,
            directory_sent,
            directory_due: None,
            repeat_at,
        }
    }

    /// The next update; `None` when the host or its project is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<HostUpdate> {
        self.wait_for_world().await?;
        let project = Arc::clone(self.project.as_ref()?);
        loop {
            let now = self.shared.seams.clock.instant();
            self.told = project.told.at();
            self.is_wanted(&project).then_some(())?;
            if let Some(update) = self.due(&project, now) {
                return Some(update);
            }
            let wake_at = self.directory_due.map_or(self.repeat_at, |due| due.min(self.repeat_at));
            tokio::select! {
                biased;
                () = project.told.reached(self.told + 1) => {}
                () = self.shared.seams.clock.sleep(wake_at.saturating_duration_since(now)) => {}
            }
        }
    }

    fn is_wanted(&self, project: &ProjectLoop) -> bool {
        let state = project.state();
        let host = state.world.hosts.get(&self.session.host_id);
        host.is_some_and(|host| host.meta.removed.is_none()) && self.shared.project(project.id).is_some()
    }

    /// The rows of this very connection must be in the World first.
    async fn wait_for_world(&mut self) -> Option<()> {
        if self.project.is_some() {
            return Some(());
        }
        self.shared.revision.reached(self.session.position.revision).await;
        self.project = Some(self.shared.project(self.session.project_id)?);
        Some(())
    }

    fn due(&mut self, project: &ProjectLoop, now: Instant) -> Option<HostUpdate> {
        let state = project.state();
        let plan = state.plans.since(&state.world, self.session.host_id, self.plan_sent);
        let mut update = HostUpdate { plan, directory: None };
        if update.plan.is_none() && now >= self.repeat_at {
            update.plan = hostplan::Log::outstanding(&state.world, self.session.host_id).map(|repeat| PlanUpdate {
                base: self.plan_sent,
                revision: self.plan_sent.unwrap_or(repeat.revision),
                ..repeat
            });
            self.repeat_at = now + REPEAT;
        }
        if let Some(plan) = &update.plan {
            self.plan_sent = Some(plan.revision);
        }
        let behind = self.directory_sent.is_none_or(|sent| sent < state.directory.current.revision);
        let first = self.directory_due.is_none() && update.plan.as_ref().is_some_and(|plan| plan.base.is_none());
        if behind && (first || self.directory_due.is_some_and(|due| now >= due)) {
            let directory = state.directory.since(self.directory_sent);
            self.directory_sent = Some(directory.revision);
            self.directory_due = None;
            update.directory = Some(directory);
        } else if behind && self.directory_due.is_none() {
            self.directory_due = Some(now + DIRECTORY_BATCH);
        }
        (update != HostUpdate::default()).then_some(update)
    }
}
