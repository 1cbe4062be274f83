//! A rolling restart (`services.md` §11.5): every container of the service is stopped and started again, some units at a
//! time. How often each had been started is noted when it begins: one that has been started since is not due any more.

use std::collections::BTreeMap;

use remuda_model::states::*;
use remuda_model::{Container, Service};
use remuda_schema::Row;

use super::reconcile::{batch_size, go_on, pass, pause_is_over};
use super::status_of;
use super::units::{Unit, units};
use super::upgrade::{is_good, stop, what_is_wrong};
use crate::plan::{Moment, Plan};
use crate::world::World;

pub fn plan(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let units = units(world, row.meta.id);
    let members = || units.iter().flat_map(|unit| unit.members.values());
    let Some(strategy) = &row.restart else { return next.meta.enter(ACTIVE) };
    let count = |row: &Row<Container>| row.start_count.unwrap_or(0);
    let Some(counts) = &row.restart_counts else {
        let of: BTreeMap<String, i64> = members().map(|row| (row.meta.id.to_string(), count(row))).collect();
        next.restart_counts = Some(of);
        plan.look_again(moment.now);
        return go_on(next, None, moment, plan);
    };
    // A batch is stopped whole before any of it is started.
    if let Some(container) = members().find(|row| row.meta.state == STOPPING) {
        return go_on(next, Some(status_of(container)), moment, plan);
    }
    let (why, settled) = pass(world, row, next, moment, plan);
    let ill = members().find(|container| !is_good(container));
    if !settled || ill.is_some() {
        next.next_batch = None;
        return go_on(next, why.or(ill.map(|container| what_is_wrong(container))), moment, plan);
    }
    let is_due =
        |row: &Row<Container>| row.meta.state == RUNNING && counts.get(&row.meta.id.to_string()) == Some(&count(row));
    let due: Vec<&Unit<'_>> = units.iter().filter(|unit| unit.members.values().any(|row| is_due(row))).collect();
    if due.is_empty() {
        (next.restart, next.restart_counts, next.next_batch) = (None, None, None);
        return next.meta.enter(ACTIVE);
    }
    let n_done = units.len() - due.len();
    next.meta.progress.percent = i64::try_from(n_done * 100 / units.len().max(1)).ok();
    if !pause_is_over(next, strategy.interval_millis, moment, plan) {
        let told = format!("{n_done} of {} units are restarted; the next batch waits its interval", units.len());
        return go_on(next, Some(told), moment, plan);
    }
    for container in due.into_iter().take(batch_size(strategy.batch_size)).flat_map(|unit| unit.members.values()) {
        if is_due(container) {
            stop(container, moment, plan);
        }
    }
    go_on(next, None, moment, plan);
}

#[cfg(test)]
mod tests {
    use remuda_model::RollingRestartStrategy;

    use super::*;
    use crate::testing::{Language, world};

    fn restart(w: Language, batch_size: i64) -> Language {
        let now = w.now;
        w.change_service("web", |row| {
            row.restart = Some(RollingRestartStrategy { batch_size: Some(batch_size), interval_millis: Some(2000) });
            row.restart_counts = None;
            row.next_batch = Some(now);
            row.meta.enter(RESTARTING);
        })
    }

    fn counts(w: &Language) -> Vec<(i64, i64)> {
        w.world.containers.values().map(|row| (row.meta.id, row.start_count.unwrap_or(0))).collect()
    }

    #[test]
    fn services_11_5_every_container_once_and_the_same_one() {
        let w = world().host("a").service("web", 3).settle();
        let before = counts(&w);
        let w = restart(w, 2).settle();
        let n_again =
            |w: &Language| counts(w).iter().zip(&before).filter(|(now, before)| now.1 == before.1 + 1).count();
        assert_eq!((n_again(&w), w.service_row("web").meta.state.as_str()), (2, RESTARTING));
        let message = w.service_row("web").meta.progress.message.clone();
        assert_eq!(message.as_deref(), Some("2 of 3 units are restarted; the next batch waits its interval"));
        let w = w.after_ms(2000).settle();
        assert_eq!((n_again(&w), w.service_row("web").meta.state.as_str()), (3, ACTIVE));
        assert_eq!(counts(&w).len(), 3, "none is made anew");
    }

    #[test]
    fn services_11_5_a_batch_is_down_at_most_and_units_go_whole() {
        let mut w =
            world().host("a").service("web", 3).sidekick("web", "log").network_of_primary("web", "log").settle();
        let before = counts(&w);
        w = restart(w, 1);
        while w.service_row("web").meta.state != ACTIVE {
            let running = w.world.containers.values().filter(|row| row.meta.state == RUNNING);
            assert!(running.filter(|row| row.launch_config_name.is_none()).count() >= 2);
            w = w.one_round().after_ms(1000);
        }
        assert!(counts(&w).iter().zip(&before).all(|(now, before)| now.1 == before.1 + 1));
    }

    #[test]
    fn services_11_5_who_was_started_meanwhile_is_skipped_and_who_runs_once_is_not_started_again() {
        let w = restart(world().host("a").service("web", 2).settle(), 1).settle();
        let w = w.change_container("s_web_2", |row| row.start_count = Some(9)).after_ms(2000).settle();
        assert_eq!(w.named("s_web_2").and_then(|row| row.start_count), Some(9));
        assert_eq!(w.service_row("web").meta.state, ACTIVE);
        let w = w.change_service("web", |row| {
            let config = row.launch_config.as_mut().expect("has one");
            config.labels = Some([("io.rancher.container.start_once".to_owned(), "true".to_owned())].into());
        });
        let once = |row: &mut Row<Container>| {
            row.labels.get_or_insert_default().insert("io.rancher.container.start_once".into(), "true".into());
        };
        let w = w.change_container("s_web_1", once).change_container("s_web_2", once);
        let w = restart(w, 2).settle();
        assert_eq!(
            (w.told(), w.service_row("web").meta.state.as_str()),
            (vec!["s_web_1 stopped".into(), "s_web_2 stopped".into()], ACTIVE)
        );
    }
}
