//! What a service does with unhealthy units, by strategy.

use remuda_model::states::*;
use remuda_model::{Container, InstanceHealthCheck, RecreateOnQuorumStrategyConfig};
use remuda_schema::Row;

use super::units::units;
use crate::testing::{Language, world};

fn with_strategy(w: Language, strategy: &str, quorum: Option<i64>) -> Language {
    w.change_service("web", |row| {
        row.launch_config.as_mut().expect("has one").health_check = Some(InstanceHealthCheck {
            port: Some(80),
            strategy: Some(strategy.into()),
            recreate_on_quorum_strategy_config: quorum
                .map(|quorum| RecreateOnQuorumStrategyConfig { quorum: Some(quorum) }),
            ..InstanceHealthCheck::default()
        });
    })
}

fn web(scale: i64, strategy: &str, quorum: Option<i64>) -> Language {
    let w = with_strategy(world().host("a").host("b").service("web", scale), strategy, quorum).settle();
    all(w, HEALTHY)
}

/// Every container that runs has that health.
fn all(w: Language, health: &str) -> Language {
    let names: Vec<String> =
        w.told().iter().filter_map(|told| told.strip_suffix(" running").map(str::to_owned)).collect();
    names.into_iter().fold(w, |w, name| turn(w, &name, health))
}

fn turn(w: Language, name: &str, health: &str) -> Language {
    w.change_container(name, |row| row.health_state = Some(health.into()))
}

fn id(w: &Language, name: &str) -> Option<i64> {
    w.named(name).map(|row| row.meta.id)
}

#[test]
fn recreate_makes_another_of_the_same_name_before_it_removes() {
    let w = web(2, "recreate", None);
    let before = (id(&w, "s_web_1"), id(&w, "s_web_2"));
    let w = turn(w, "s_web_1", UNHEALTHY).settle_but_hosts();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_1 starting", "s_web_2 running"], "the old one waits");
    assert_eq!(units(&w.world, w.service_row("web").meta.id).len(), 2, "it is no longer counted");
    let w = w.settle();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running"]);
    assert_ne!(id(&w, "s_web_1"), before.0);
    assert_eq!(id(&w, "s_web_2"), before.1);
    assert_eq!(w.named("s_web_1").and_then(|row| row.health_state.as_deref()), Some(INITIALIZING));
    assert_eq!(w.service_row("web").health_state.as_deref(), Some(INITIALIZING));
    assert_eq!(w.service_row("web").meta.state, ACTIVE);
}

#[test]
fn what_cannot_be_there_twice_goes_first() {
    let w = web(1, "recreate", None).publish("web", "web", "80:80");
    let before = id(&w, "s_web_1");
    let w = turn(w, "s_web_1", UNHEALTHY).settle_but_hosts();
    assert!(
        w.named("s_web_1").is_none_or(|row| row.meta.id != before.unwrap_or(0)) || w.told() == ["s_web_1 stopping"],
        "{:?}",
        w.told()
    );
    let w = w.settle();
    assert_eq!(w.told(), ["s_web_1 running"]);
    assert_ne!(id(&w, "s_web_1"), before);
}

#[test]
fn one_that_keeps_its_replacement_from_a_host_goes_at_once() {
    let w = world().host("a").service("web", 1).change_service("web", |row| {
        let key = "io.rancher.scheduler.affinity:container_label_ne".to_owned();
        let labels = row.launch_config.as_mut().expect("has one").labels.get_or_insert_default();
        labels.insert(key, "io.rancher.stack_service.name=s/web".into());
    });
    let w = all(with_strategy(w, "recreate", None).settle(), HEALTHY);
    let w = w.label_container_of("s_web_1", "io.rancher.stack_service.name", "s/web");
    let before = id(&w, "s_web_1");
    let w = turn(w, "s_web_1", UNHEALTHY).settle().after_ms(120_000).settle();
    assert_eq!(w.told(), ["s_web_1 running"]);
    assert_ne!(id(&w, "s_web_1"), before);
}

#[test]
fn none_keeps_what_is_unhealthy() {
    let w = web(2, "none", None);
    let before = id(&w, "s_web_1");
    let w = turn(w, "s_web_1", UNHEALTHY).settle();
    assert_eq!((w.told(), id(&w, "s_web_1")), (vec!["s_web_1 running".to_owned(), "s_web_2 running".into()], before));
    assert_eq!(w.service_row("web").health_state.as_deref(), Some(DEGRADED));
    let gone = w.remove_container("s_web_1").settle();
    assert_eq!(gone.told(), ["s_web_1 running", "s_web_2 running"]);
    assert_ne!(id(&gone, "s_web_1"), before, "removed by hand it is made again");
}

#[test]
fn on_quorum_replaces_while_enough_others_are_well() {
    let w = web(3, "recreateOnQuorum", Some(2));
    let before = ["s_web_1", "s_web_2"].map(|name| id(&w, name));
    let both = turn(turn(w, "s_web_1", UNHEALTHY), "s_web_2", UNHEALTHY).settle();
    assert_eq!(["s_web_1", "s_web_2"].map(|name| id(&both, name)), before, "one is well, two are asked for");
    assert_eq!(both.service_row("web").meta.state, ACTIVE);
    let w = turn(both, "s_web_1", HEALTHY).settle();
    assert_eq!(id(&w, "s_web_1"), before[0]);
    assert_ne!(id(&w, "s_web_2"), before[1], "two are well");
    let starting = turn(turn(w, "s_web_2", INITIALIZING), "s_web_1", UNHEALTHY).settle();
    assert_eq!(id(&starting, "s_web_1"), before[0], "what starts up is not well yet");
}

#[test]
fn a_unit_is_replaced_whole() {
    let w = with_strategy(world().host("a").service("web", 1), "recreate", None).sidekick("web", "log").settle();
    let w = all(w, HEALTHY);
    let before = ["s_web_1", "s_web_log_1"].map(|name| id(&w, name));
    let w = turn(w, "s_web_log_1", UNHEALTHY).settle();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_log_1 running"]);
    let after = ["s_web_1", "s_web_log_1"].map(|name| id(&w, name));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
}

#[test]
fn a_service_that_is_deactivated_or_scaled_down_leaves_none_behind() {
    let half_way = || turn(web(1, "recreate", None), "s_web_1", UNHEALTHY).settle_but_hosts();
    assert_eq!(half_way().told().len(), 2);
    let w = half_way().change_service("web", |row| row.meta.enter(DEACTIVATING)).settle();
    assert_eq!(w.told(), ["s_web_1 stopped"]);
    let none = |row: &mut Row<remuda_model::Service>| {
        row.scale = Some(0);
        row.meta.enter(UPDATING_ACTIVE);
    };
    assert_eq!(half_way().change_service("web", none).settle().told(), Vec::<String>::new());
    let gone = half_way().change_service("web", |row| row.meta.enter(REMOVING)).settle();
    assert_eq!(gone.told(), Vec::<String>::new());
    let down = half_way().change_container("s_web_1", |row: &mut Row<Container>| row.meta.enter(RUNNING)).settle();
    assert_eq!(down.told(), ["s_web_1 running"]);
}
