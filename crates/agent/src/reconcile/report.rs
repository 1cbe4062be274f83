//! What the server has not acknowledged yet: one report under way at a time, the rest waiting and coalesced.
//!
//! A report on its way makes later changes wait, so that bursts become batches and the order is kept. Over a broken
//! connection only what the engine cannot repeat is carried along (failed starts, confirmations); container states
//! come anew with the complete report of the next connection.

use remuda_wire::observe::{StateChange, StateReport};

/// Changes in one report, unless it is a complete one.
const MOST_CHANGES: usize = 500;
/// An unacknowledged report is sent again after that long on one connection.
const REPEAT_MS: u64 = 15_000;

#[derive(Debug, Default)]
pub struct Reporter {
    next_serial: u64,
    outstanding: Option<(StateReport, u64)>,
    pending: Vec<StateChange>,
    complete: bool,
}

impl Reporter {
    /// A change to tell. A later state of the same container replaces an earlier one that was not sent.
    pub fn push(&mut self, change: StateChange) {
        if let Some(id) = docker_id(&change) {
            let id = id.to_owned();
            self.pending.retain(|earlier| docker_id(earlier) != Some(&id) || is_confirmation(earlier));
        }
        if let StateChange::Health(vote) = &change {
            let map = &vote.map;
            self.pending.retain(|earlier| !matches!(earlier, StateChange::Health(vote) if vote.map == *map));
        }
        if let StateChange::Network { .. } = change {
            self.pending.retain(|earlier| !matches!(earlier, StateChange::Network { .. }));
        }
        if !self.pending.contains(&change) {
            self.pending.push(change);
        }
    }

    /// A new connection: serials begin anew, what was under way is not.
    pub fn connected(&mut self) {
        let mut changes = self.outstanding.take().map(|(report, _)| report.changes).unwrap_or_default();
        changes.append(&mut self.pending);
        // These are all told anew.
        changes.retain(|change| {
            !matches!(change, StateChange::Container(_) | StateChange::Network { .. } | StateChange::Health(_))
        });
        *self = Reporter { next_serial: 1, pending: changes, ..Reporter::default() };
    }

    /// The next report names everything the engine has.
    pub fn complete(&mut self, containers: Vec<StateChange>) {
        self.pending.retain(|change| !matches!(change, StateChange::Container(_)));
        self.pending.extend(containers);
        self.complete = true;
    }

    /// The report to send now, if any. Also one that was not acknowledged for long.
    pub fn next(&mut self, now_ms: u64) -> Option<StateReport> {
        if let Some((report, sent)) = &mut self.outstanding {
            return (now_ms >= *sent + REPEAT_MS).then(|| {
                *sent = now_ms;
                report.clone()
            });
        }
        if self.pending.is_empty() && !self.complete {
            return None;
        }
        let complete = std::mem::take(&mut self.complete);
        let n_changes = if complete { self.pending.len() } else { self.pending.len().min(MOST_CHANGES) };
        let changes = self.pending.drain(..n_changes).collect();
        let report = StateReport { serial: self.next_serial, complete, changes };
        self.next_serial += 1;
        self.outstanding = Some((report.clone(), now_ms));
        Some(report)
    }

    /// The report could not be handed over; it goes again at once when that is possible.
    pub fn not_sent(&mut self) {
        if let Some((_, sent)) = &mut self.outstanding {
            *sent = 0;
        }
    }

    /// When an unacknowledged report is to be repeated.
    pub fn repeat_at_ms(&self) -> Option<u64> {
        self.outstanding.as_ref().map(|(_, sent)| sent + REPEAT_MS)
    }

    /// The server has stored it. Gives the report, once.
    pub fn acknowledged(&mut self, serial: u64) -> Option<StateReport> {
        self.outstanding.take_if(|(report, _)| report.serial == serial).map(|(report, _)| report)
    }
}

fn docker_id(change: &StateChange) -> Option<&str> {
    match change {
        StateChange::Container(container) => Some(&container.docker_id),
        StateChange::ContainerGone { docker_id, .. } => docker_id.as_deref(),
        _ => None,
    }
}

fn is_confirmation(change: &StateChange) -> bool {
    matches!(change, StateChange::ContainerGone { uuid: Some(_), .. })
}

#[cfg(test)]
mod tests {
    use remuda_wire::observe::{ContainerObserved, Status};

    use super::*;

    fn state(docker_id: &str, status: Status) -> StateChange {
        StateChange::Container(Box::new(ContainerObserved {
            docker_id: docker_id.into(),
            status,
            ..Default::default()
        }))
    }

    fn gone(uuid: &str) -> StateChange {
        StateChange::ContainerGone { uuid: Some(uuid.into()), docker_id: None }
    }

    #[test]
    fn changes_wait_for_the_report_under_way_and_coalesce() {
        let mut reporter = Reporter::default();
        reporter.connected();
        reporter.push(state("a", Status::Created));
        assert_eq!(reporter.next(0).expect("sent").serial, 1);
        reporter.push(state("a", Status::Running));
        reporter.push(gone("z"));
        reporter.push(state("a", Status::Exited));
        assert_eq!(reporter.next(1), None);
        assert_eq!(reporter.next(REPEAT_MS).expect("repeated").serial, 1);
        assert_eq!(reporter.acknowledged(7), None);
        assert!(reporter.acknowledged(1).is_some());
        let second = reporter.next(2).expect("sent");
        assert_eq!((second.serial, second.changes), (2, vec![gone("z"), state("a", Status::Exited)]));
    }

    #[test]
    fn a_new_connection_keeps_what_the_engine_cannot_repeat() {
        let mut reporter = Reporter::default();
        reporter.connected();
        reporter.push(gone("z"));
        reporter.push(state("a", Status::Running));
        reporter.next(0).expect("sent");
        reporter.connected();
        reporter.complete(vec![state("b", Status::Running)]);
        let first = reporter.next(1).expect("sent");
        assert_eq!((first.serial, first.complete), (1, true));
        assert_eq!(first.changes, [gone("z"), state("b", Status::Running)]);
    }
}
