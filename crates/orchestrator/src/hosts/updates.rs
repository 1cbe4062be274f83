//! What one connection is sent: plan and directory as they change, snapshots first.

use std::sync::Arc;
use std::time::Duration;

use remuda_wire::plan::PlanUpdate;
use remuda_wire::session::Position;
use tokio::time::Instant;

use super::{HostSession, HostUpdate};
use crate::hostplan;
use crate::worlds::{ProjectLoop, Shared};

/// Directory changes are gathered that long, for all hosts of a project together.
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
    /// When the next step of the directory is made, for all hosts of the project.
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
        let state = &mut *project.state();
        let plan = state.plans.since(&state.world, self.session.host_id, self.plan_sent);
        let mut update = HostUpdate { plan, directory: Vec::new() };
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
        if state.directory_due.is_some_and(|due| now >= due) {
            state.directory.publish();
            state.directory_due = None;
        }
        update.directory = state.directory.told(self.directory_sent);
        if let Some(last) = update.directory.last() {
            self.directory_sent = Some(last.revision);
        }
        if state.directory.published() < state.directory.current.revision {
            state.directory_due.get_or_insert(now + DIRECTORY_BATCH);
        }
        self.directory_due = state.directory_due;
        (update.plan.is_some() || !update.directory.is_empty()).then_some(update)
    }
}
