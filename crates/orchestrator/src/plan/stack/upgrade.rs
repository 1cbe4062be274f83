//! The upgrade of a stack and its ends (`services.md` §11.6): services are asked one after the other for their own
//! upgrade, finish or rollback, and waited for. What is still to be asked is on the stack's row; whether it has been
//! done is read from the services.

use remuda_model::states::*;
use remuda_model::{Service, ServiceChange, Stack, machines};
use remuda_schema::Row;

use crate::plan::{Moment, Plan, ServiceAct, StackWork, Step};
use crate::world::World;

/// `upgrading`: changes are begun as soon as what they need has come through its own.
pub fn plan(world: &World, row: &Row<Stack>, next: &mut Row<Stack>, moment: Moment<'_>, plan: &mut Plan) {
    let Some(upgrade) = &row.pending_upgrade else { return next.meta.enter(UPGRADED) };
    if let Some(at) = upgrade.retry_at.filter(|at| *at > moment.now) {
        return plan.look_again(at);
    }
    let service =
        |change: &ServiceChange| world.services.get(&change.service.number()).filter(|row| row.meta.is_live());
    let mut asked = Vec::new();
    let mut waiting = None;
    for change in &upgrade.changes {
        let Some(service) = service(change) else { continue };
        let needed = change.after.iter().filter_map(|id| world.services.get(&id.number()));
        let is_open = |other: &Row<Service>| {
            is_busy(other) || upgrade.changes.iter().any(|change| change.service.number() == other.meta.id)
        };
        match service.meta.state.as_str() {
            ACTIVE | INACTIVE => match needed.into_iter().find(|other| other.meta.is_live() && is_open(other)) {
                Some(other) => drop(waiting.get_or_insert_with(|| told(other))),
                None => asked.push((&**service, ServiceAct::Change)),
            },
            // One that rests after an upgrade of its own is finished first.
            UPGRADED | CANCELED_UPGRADE | CANCELED_ROLLBACK => asked.push((&**service, ServiceAct::Finish)),
            _ => drop(waiting.get_or_insert_with(|| told(service))),
        }
    }
    if ask(row, asked, plan) {
        return;
    }
    let gone = upgrade.changes.iter().any(|change| service(change).is_none());
    if let Some(pending) = next.pending_upgrade.as_mut().filter(|_| gone) {
        pending.changes.retain(|change| service(change).is_some());
    }
    let begun = upgrade.services.iter().filter_map(|id| world.services.get(&id.number()));
    let busy = begun.into_iter().find(|service| service.meta.is_live() && is_busy(service));
    match waiting.or_else(|| busy.map(|service| told(service))) {
        Some(why) => next.meta.progress.message = Some(why),
        None if gone => {}
        None => {
            next.previous_external_id = next.previous_external_id.take().or(next.external_id.clone());
            next.previous_environment = next.previous_environment.take().or(next.environment.clone());
            next.external_id = upgrade.external_id.clone().or(next.external_id.take());
            next.environment = Some(upgrade.environment.clone());
            next.pending_upgrade = None;
            next.meta.enter(UPGRADED);
        }
    }
}

/// `finishing-upgrade` and `rolling-back`: what rests in `upgraded` is finished or rolled back, once all has settled.
pub fn end(world: &World, row: &Row<Stack>, next: &mut Row<Stack>, plan: &mut Plan) {
    let rolls_back = row.meta.state == ROLLING_BACK;
    let act = if rolls_back { ServiceAct::RollBack } else { ServiceAct::Finish };
    let services = || world.services_of(row.meta.id).filter(|service| service.meta.is_live());
    let asked = services().filter(|service| service.meta.state == UPGRADED).map(|service| (&**service, act));
    if ask(row, asked.collect(), plan) {
        return;
    }
    if let Some(service) = services().find(|service| is_busy(service)) {
        next.meta.progress.message = Some(told(service));
        return;
    }
    let (external_id, environment) = (next.previous_external_id.take(), next.previous_environment.take());
    if rolls_back {
        next.external_id = external_id.or(next.external_id.take());
        next.environment = environment.or(next.environment.take());
    }
    next.meta.enter(ACTIVE);
}

/// Whether there was anything to ask. The stack's row is then the step's to write.
fn ask(row: &Row<Stack>, asked: Vec<(&Row<Service>, ServiceAct)>, plan: &mut Plan) -> bool {
    let work = |(service, act): &(&Row<Service>, ServiceAct)| {
        Step::StackWork(StackWork { stack: row.meta.id, service: service.meta.id, act: *act })
    };
    plan.steps.extend(asked.iter().map(work));
    !asked.is_empty()
}

fn is_busy(service: &Row<Service>) -> bool {
    machines::SERVICE.is_transitional(&service.meta.state)
}

/// What a service is waited for, in its own words.
pub fn told(service: &Row<Service>) -> String {
    let name = service.meta.name.as_deref().unwrap_or_default();
    match &service.meta.progress.message {
        Some(message) => format!("Service {name}: {message}"),
        None => format!("Service {name} is {}", service.meta.state),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use remuda_model::StackUpgrade;
    use remuda_schema::{Id, Time};

    use super::*;
    use crate::plan::Subject;
    use crate::testing::{Language, world};

    fn stack(w: &Language) -> Row<Stack> {
        w.world.stacks.values().next().map(|row| (**row).clone()).expect("a stack")
    }

    fn change(w: &Language, name: &str, after: &[&str]) -> ServiceChange {
        let id = |name: &str| Id::new(w.service_row(name).meta.id);
        let after = after.iter().map(|name| id(name)).collect();
        ServiceChange { service: id(name), after, fields: Default::default(), upgrade: None }
    }

    /// Which acts the plan asks for, the message, and the state.
    fn said(w: &Language) -> (Vec<(String, ServiceAct)>, Option<String>, String) {
        let row = stack(w);
        let plan = w.plan(Subject::Stack(row.meta.id));
        let name = |id: i64| w.world.services[&id].meta.name.clone().unwrap_or_default();
        let mut asked = Vec::new();
        let mut next = row;
        for step in plan.steps {
            match step {
                Step::StackWork(work) => asked.push((name(work.service), work.act)),
                Step::Write(crate::record::Record::Stack(row)) => next = (*row).clone(),
                other => panic!("{other:?}"),
            }
        }
        (asked, next.meta.progress.message.clone(), next.meta.state)
    }

    fn upgrading(mut w: Language, upgrade: StackUpgrade) -> Language {
        let mut row = stack(&w);
        row.meta.enter(UPGRADING);
        row.pending_upgrade = Some(upgrade);
        w.world.put(&row.into());
        w
    }

    #[test]
    fn changes_wait_for_what_they_need_and_for_their_own_rest() {
        let w = world().host("a").service("web", 1).service("db", 1).service("old", 1).settle();
        let w = w.change_service("old", |row| row.meta.enter(UPGRADED));
        let changes = vec![change(&w, "web", &["db"]), change(&w, "db", &[]), change(&w, "old", &[])];
        let w = upgrading(w, StackUpgrade { changes, ..StackUpgrade::default() });
        let expected = [("db".to_owned(), ServiceAct::Change), ("old".to_owned(), ServiceAct::Finish)];
        assert_eq!(said(&w).0, expected);
        // The change of `db` is begun, `old` is on its way.
        let w = w.change_service("db", |row| row.meta.enter(UPGRADING));
        let w = w.change_service("old", |row| row.meta.enter(FINISHING_UPGRADE));
        let changes = vec![change(&w, "web", &["db"]), change(&w, "old", &[])];
        let w = upgrading(w, StackUpgrade { changes, ..StackUpgrade::default() });
        let (asked, message, state) = said(&w);
        assert_eq!((asked.len(), message.as_deref(), state.as_str()), (0, Some("Service db is upgrading"), UPGRADING));
        let w = w.change_service("db", |row| row.meta.enter(UPGRADED));
        assert_eq!(said(&w).0, [("web".to_owned(), ServiceAct::Change)]);
        // Removed meanwhile: nothing is left to do.
        let w = w.change_service("web", |row| row.meta.enter(REMOVING));
        let w = w.change_service("old", |row| row.meta.enter(REMOVING));
        let mut w = w;
        let row = w.plan(Subject::Stack(stack(&w).meta.id)).steps.into_iter().find_map(|step| match step {
            Step::Write(record) => Some(record),
            _ => None,
        });
        w.world.put(&row.expect("the changes are forgotten"));
        assert_eq!(said(&w).2, UPGRADED);
    }

    #[test]
    fn a_refused_change_is_tried_again_later() {
        let w = world().host("a").service("web", 1).settle();
        let retry_at = Some(Time(w.now.0 + 15_000));
        let changes = vec![change(&w, "web", &[])];
        let w = upgrading(w, StackUpgrade { changes, retry_at, ..StackUpgrade::default() });
        assert_eq!(said(&w).0, []);
        let w = w.after_ms(15_000);
        assert_eq!(said(&w).0, [("web".to_owned(), ServiceAct::Change)]);
    }

    #[test]
    fn values_change_when_all_is_done_and_come_back() {
        let w = world().host("a").service("web", 1).settle();
        let environment = BTreeMap::from([("A".to_owned(), "2".to_owned())]);
        let services = vec![Id::new(w.service_row("web").meta.id)];
        let upgrade =
            StackUpgrade { external_id: Some("new".into()), environment, services, ..StackUpgrade::default() };
        let mut w = upgrading(w, upgrade).change_service("web", |row| row.meta.enter(UPGRADING));
        let mut row = stack(&w);
        row.external_id = Some("old".into());
        w.world.put(&row.into());
        assert_eq!(said(&w).2, UPGRADING);
        let w = w.change_service("web", |row| row.meta.enter(UPGRADED));
        let w = apply(w);
        let row = stack(&w);
        assert_eq!((row.external_id.as_deref(), row.previous_external_id.as_deref()), (Some("new"), Some("old")));
        assert_eq!(row.environment.as_ref().map(|of| of["A"].as_str()), Some("2"));
        let mut w = w;
        let mut row = row;
        row.meta.enter(ROLLING_BACK);
        w.world.put(&row.into());
        assert_eq!(said(&w).0, [("web".to_owned(), ServiceAct::RollBack)]);
        let w = apply(w.change_service("web", |row| row.meta.enter(ACTIVE)));
        let row = stack(&w);
        assert_eq!((row.external_id.as_deref(), row.previous_external_id.as_deref()), (Some("old"), None));
        assert_eq!(row.meta.state, ACTIVE);
    }

    fn apply(mut w: Language) -> Language {
        for step in w.plan(Subject::Stack(stack(&w).meta.id)).steps {
            if let Step::Write(record) = step {
                w.world.put(&record);
            }
        }
        w
    }
}
