//! Rows without effects of their own: keys, networks, images, labels, members… Their processes only pass through the
//! states of the default set (`resources.md` §1.3), and end as those of every other row do.

use remuda_model::states::*;
use remuda_schema::Time;

use super::{Moment, purged, removed};
use crate::record::Record;

/// The row after its next step; `None` when it rests. Types with a plan of their own rest here.
pub fn settle(record: &Record, moment: Moment<'_>) -> Option<Record> {
    if has_own_plan(record) {
        return None;
    }
    let mut next = record.clone();
    let meta = next.meta_mut();
    match meta.state.clone().as_str() {
        REQUESTED | REGISTERING if rests_active(record) => meta.enter(ACTIVE),
        REQUESTED | REGISTERING => meta.enter(INACTIVE),
        ACTIVATING | UPDATING_ACTIVE | BOOTSTRAPPING | UPDATING => meta.enter(ACTIVE),
        UPDATING_INACTIVE | DEACTIVATING => meta.enter(INACTIVE),
        CREATING => meta.enter(CREATED),
        ERRORING => meta.enter(ERROR),
        RESTORING => {
            meta.enter(INACTIVE);
            meta.removed = None;
            meta.remove_time = None;
        }
        REMOVING => removed(meta, moment),
        REMOVED if !record.has_ended() && due(record) <= moment.now => purged(meta, moment),
        PURGING => purged(meta, moment),
        _ => return None,
    }
    Some(next)
}

/// When the row has to be looked at again though nothing changes.
pub fn again(record: &Record) -> Option<Time> {
    let waits = record.meta().state == REMOVED && !record.has_ended() && !has_own_plan(record);
    waits.then(|| due(record))
}

fn due(record: &Record) -> Time {
    record.meta().remove_time.unwrap_or(Time(0))
}

fn has_own_plan(record: &Record) -> bool {
    matches!(
        record,
        Record::Project(_)
            | Record::Host(_)
            | Record::Stack(_)
            | Record::Service(_)
            | Record::Container(_)
            | Record::Volume(_)
    ) || matches!(record, Record::Agent(agent) if matches!(agent.meta.state.as_str(), RECONNECTING | DISCONNECTED))
}

/// Active by default; others rest inactive until something activates them.
fn rests_active(record: &Record) -> bool {
    !matches!(record, Record::Port(_) | Record::InstanceLink(_) | Record::Mount(_))
}

#[cfg(test)]
mod tests {
    use remuda_model::{Credential, Label, Port};
    use remuda_runtime::Random;
    use remuda_schema::Row;

    use super::*;
    use crate::settings::Settings;

    /// Every state the row passes from `state` on.
    fn path(record: impl Into<Record>, now: i64) -> Vec<String> {
        let (settings, random) = (Settings::default(), Random::seeded(1));
        let mut record = record.into();
        let mut states = vec![];
        while let Some(next) = settle(&record, Moment { now: Time(now), settings: &settings, random: &random }) {
            states.push(next.meta().state.clone());
            record = next;
        }
        states
    }

    #[test]
    fn processes_end() {
        let key = |state: &str| Row::new(Some(1), state, Credential::default());
        assert_eq!(path(key("registering"), 0), ["active"]);
        assert_eq!(path(key("updating-active"), 0), ["active"]);
        assert_eq!(path(key("deactivating"), 0), ["inactive"]);
        assert_eq!(path(key("removing"), 0), ["removed"]);
        assert_eq!(path(key("removed"), 5), ["purged"]);
        assert_eq!(path(Row::new(Some(1), "registering", Port::default()), 0), ["inactive"]);
        assert_eq!(path(Row::new(Some(1), "creating", Label::default()), 0), ["created"]);
        assert_eq!(path(Row::new(Some(1), "removing", Label::default()), 0), ["removed"]);
    }

    #[test]
    fn a_removed_row_waits_for_its_time() {
        let mut key = Row::new(Some(1), "removed", Credential::default());
        key.meta.remove_time = Some(Time(10));
        let record = Record::from(key.clone());
        assert_eq!(again(&record), Some(Time(10)));
        assert_eq!(path(key, 9), Vec::<String>::new());
    }
}
