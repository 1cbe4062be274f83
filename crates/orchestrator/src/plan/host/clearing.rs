//! A host that is emptied (`scheduling-and-health.md` §7): `drain` for maintenance, `evacuate` for good.
//!
//! It is deactivated first. Then containers of services are marked: each is replaced on another host and goes when its
//! successor is up ([`crate::plan::service::moves`]). What cannot be replaced stays when the host is drained, and its
//! service says why; an evacuated host loses it too, and its stand-alone containers. Activating the host ends it.

use remuda_model::states::*;
use remuda_model::{Clearing, Container, Host, Leaving};
use remuda_schema::Row;

use super::super::service::moves;
use super::{Moment, Plan};
use crate::transitions;
use crate::world::World;

pub fn watch(world: &World, row: &Row<Host>, next: &mut Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let Some(clearing) = row.clearing else { return };
    if !matches!(row.meta.state.as_str(), INACTIVE | DEACTIVATING | UPDATING_INACTIVE) {
        return give_up(world, row, next, plan);
    }
    let mut movable: Vec<&Row<Container>> = Vec::new();
    let (mut n_alone, mut n_global) = (0, 0);
    for container in world.containers_on(row.meta.id).filter(|it| it.meta.removed.is_none()).map(AsRef::as_ref) {
        match moves::of_service(world, container) {
            Some(service) if moves::is_movable(service, container) => movable.push(container),
            Some(_) if container.desired == transitions::WANT_REMOVED || container.meta.state == REMOVING => {
                movable.push(container)
            }
            Some(service) if service.is_global() => n_global += 1,
            Some(_) => {}
            None if clearing == Clearing::Evacuate && container.system_container.is_none() => {
                let mut leaving = container.clone();
                if transitions::remove(&mut leaving, moment.settings, moment.now) {
                    plan.write(leaving);
                }
                movable.push(container);
            }
            None => n_alone += usize::from(container.meta.state == RUNNING),
        }
    }
    for container in movable.iter().filter(|it| it.leaving.is_none() && it.service_id.is_some()) {
        let mut marked = (*container).clone();
        if marked.desired != transitions::WANT_REMOVED && marked.meta.state != REMOVING {
            marked.leaving = Some(Leaving::Away);
            plan.write(marked);
        }
    }
    let n_left = i64::try_from(movable.len()).unwrap_or(i64::MAX);
    next.n_to_clear = row.n_to_clear.max(n_left);
    let n_gone = next.n_to_clear - n_left;
    let mut told = match (n_left, clearing) {
        (0, Clearing::Drain) => "Drained".to_owned(),
        (0, Clearing::Evacuate) => "Evacuated".to_owned(),
        _ => format!("{n_gone} of {} containers have left", next.n_to_clear),
    };
    if n_global + n_alone > 0 {
        told.push_str(&format!("; {n_global} of global services and {n_alone} stand-alone stay"));
    }
    next.meta.progress.message = Some(told);
    next.meta.progress.percent = (n_left > 0).then(|| n_gone * 100 / next.n_to_clear.max(1));
    if n_left == 0 && clearing == Clearing::Evacuate {
        (next.clearing, next.n_to_clear) = (None, 0);
    }
}

/// It takes containers again: what has not left stays.
fn give_up(world: &World, row: &Row<Host>, next: &mut Row<Host>, plan: &mut Plan) {
    (next.clearing, next.n_to_clear) = (None, 0);
    (next.meta.progress.message, next.meta.progress.percent) = (None, None);
    for container in world.containers_on(row.meta.id).filter(|it| it.leaving == Some(Leaving::Away)) {
        let mut stays = (**container).clone();
        stays.leaving = None;
        plan.write(stays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Language, world};

    fn clear(w: Language, name: &str, how: Clearing) -> Language {
        w.change_host(name, |row| {
            row.clearing = Some(how);
            row.meta.enter(DEACTIVATING);
        })
    }

    fn message(w: &Language, name: &str) -> String {
        w.world.hosts[&w.host_id(name)].meta.progress.message.clone().unwrap_or_default()
    }

    fn served(w: &Language) -> usize {
        let rows = w.world.containers.values();
        rows.filter(|row| row.meta.state == RUNNING && row.service_id.is_some() && row.withdraw_by.is_none()).count()
    }

    #[test]
    fn a_drained_host_loses_what_was_replaced_first() {
        let mut w = world().host("a").host("b").service("web", 4).global("log").running("alone", "a").settle();
        let before = w.world.containers.len();
        w = clear(w, "a", Clearing::Drain);
        for _ in 0..40 {
            w = w.one_round();
            assert!(served(&w) >= 6, "never fewer than before: {:?}", w.told());
        }
        let w = w.settle();
        assert_eq!((1..=4).map(|n| w.host_of(&format!("s_web_{n}"))).collect::<Vec<_>>(), ["b"; 4]);
        let expected = ["alone running", "s_log_1 running", "s_log_2 running"].map(str::to_owned);
        let told = w.told();
        assert_eq!((&told[..3], told.len()), (&expected[..], before));
        assert_eq!(message(&w, "a"), "Drained; 1 of global services and 1 stand-alone stay");
        assert_eq!(w.service_row("web").meta.state, ACTIVE);
        let numbers: Vec<_> =
            (1..=4).map(|n| w.named(&format!("s_web_{n}")).and_then(|row| row.service_index)).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
        // Activated it takes containers again, and nothing is said of it any more.
        let w = w.change_host("a", |row| row.meta.enter(ACTIVATING)).settle();
        assert_eq!((message(&w, "a").as_str(), w.world.hosts[&w.host_id("a")].clearing), ("", None));
    }

    #[test]
    fn progress_is_told_and_activating_ends_it() {
        let mut w = world().host("a").host("b").service("web", 4).settle();
        w.settings = w.settings.clone().with("host.moves.at.once", Some("1".into()));
        let w = clear(w, "a", Clearing::Drain).settle_but_hosts();
        assert_eq!(message(&w, "a"), "0 of 2 containers have left");
        let told = w.service_row("web").meta.progress.message.clone();
        assert!(told.is_some(), "{:?}", w.told());
        let w = w.change_host("a", |row| row.meta.enter(ACTIVATING)).settle();
        assert_eq!((1..=4).filter(|n| w.host_of(&format!("s_web_{n}")) == "a").count(), 1, "one had been replaced");
        assert!(w.world.leaving.is_empty());
    }

    #[test]
    fn what_cannot_be_twice_goes_first_and_what_has_its_data_there_stays() {
        let w = world().host("a").host("b").service("web", 2).change_service("web", |row| row.retain_ip = Some(true));
        let w = w.settle();
        let before = w.named("s_web_1").and_then(|row| row.primary_ip_address.clone());
        let w = clear(w, "a", Clearing::Drain).settle();
        assert_eq!(w.host_of("s_web_1"), "b");
        assert_eq!(w.named("s_web_1").and_then(|row| row.primary_ip_address.clone()), before);

        let tied = || {
            let w = world().host("a").host("b").service("web", 2).change_service("web", |row| {
                row.launch_config.as_mut().expect("has one").data_volumes = Some(vec!["/srv:/data".into()]);
            });
            w.settle()
        };
        let w = clear(tied(), "a", Clearing::Drain).settle();
        assert_eq!(w.host_of("s_web_1"), "a");
        let told = w.service_row("web").meta.progress.message.clone();
        assert_eq!(told.as_deref(), Some("s_web_1 stays on host a: it writes to `/srv` of that host"));
        assert_eq!(message(&w, "a"), "0 of 1 containers have left");
        // Who evacuates means it.
        let w = clear(tied().running("alone", "a"), "a", Clearing::Evacuate).settle();
        assert_eq!(
            (w.host_of("s_web_1").as_str(), w.told()),
            ("b", vec!["s_web_1 running".into(), "s_web_2 running".into()])
        );
        assert_eq!(message(&w, "a"), "Evacuated");
    }

    #[test]
    fn sidekicks_go_with_their_unit_and_a_successor_that_fails_keeps_the_old_one() {
        let w = world().host("a").host("b").service("web", 2).sidekick("web", "log").network_of_primary("web", "log");
        let w = clear(w.settle(), "a", Clearing::Drain).settle();
        assert_eq!((w.host_of("s_web_1"), w.host_of("s_web_log_1")), ("b".into(), "b".into()));
        assert_eq!(w.told().len(), 4);

        let mut w = clear(world().host("a").host("b").service("web", 2).settle(), "a", Clearing::Drain);
        let old = w.named("s_web_1").expect("one").meta.id;
        for _ in 0..6 {
            w = w.settle_but_hosts().after_ms(1000);
            assert_eq!(w.world.containers[&old].meta.state, RUNNING, "the other has not started");
        }
        let w = w.settle();
        assert!(w.world.containers[&old].meta.removed.is_some());
    }
}
