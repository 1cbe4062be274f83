//! Units in the little language: what there is after each kind of event.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::InstanceHealthCheck;
use remuda_model::states::*;
use remuda_runtime::Random;

use super::units::units;
use crate::plan::Subject;
use crate::testing::{Language, world};

fn ids(w: &Language) -> BTreeMap<String, i64> {
    let rows = w.world.containers.values().filter(|row| row.meta.removed.is_none());
    rows.map(|row| (row.meta.name.clone().unwrap_or_default(), row.meta.id)).collect()
}

/// Every unit is whole, on one host, and its containers are the only ones; their number.
fn whole_units(w: &Language, service: &str) -> usize {
    let row = w.service_row(service);
    let configs: BTreeSet<&str> = row.launch_configs().into_iter().map(|(name, _)| name).collect();
    let units = units(&w.world, row.meta.id);
    let mut indexes = BTreeSet::new();
    for unit in &units {
        assert_eq!(unit.members.keys().copied().collect::<BTreeSet<_>>(), configs);
        assert!(indexes.insert(unit.index), "two units with number {}", unit.index);
        let hosts: BTreeSet<_> = unit.members.values().map(|row| row.host_id.map(|id| id.number())).collect();
        assert_eq!(hosts.len(), 1, "unit {} is on {hosts:?}", unit.index);
        for row in unit.members.values() {
            assert_eq!(row.meta.state, RUNNING, "{:?}", row.meta.name);
        }
    }
    units.len()
}

#[test]
fn a_unit_has_one_container_of_each_launch_config_on_one_host() {
    let w = world().host("a").host("b").service("web", 2).sidekick("web", "data").volumes_from("web", "data");
    let w = w.settle();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running", "s_web_data_1 running", "s_web_data_2 running"]);
    assert_eq!(whole_units(&w, "web"), 2);
    let (web, data) = (w.named("s_web_1").expect("it"), w.named("s_web_data_1").expect("it"));
    assert_eq!(web.data_volumes_from, Some(vec![data.id()]));
    assert!(data.meta.id < web.meta.id, "what is referred to comes first");
    let labels = data.labels.clone().unwrap_or_default();
    assert_eq!(labels["io.rancher.stack_service.name"], "s/web/data");
    assert_eq!(labels["io.rancher.service.launch.config"], "data");
    let together =
        format!("io.rancher.service.deployment.unit={}", data.deployment_unit_uuid.as_deref().unwrap_or("?"));
    assert_eq!(labels["io.rancher.scheduler.affinity:container_label_soft"], together);
    let row = w.service_row("web");
    assert_eq!((row.meta.state.as_str(), row.health_state.as_deref()), (ACTIVE, Some(HEALTHY)));
    assert_eq!(row.create_index, Some(4));
}

#[test]
fn a_rule_of_a_unit_compares_each_container_with_its_peers() {
    let w = world().host("a").host("b").service("web", 2).sidekick("web", "log").change_service("web", |row| {
        let rule = "io.rancher.stack_service.name=${stack_name}/${service_name}".to_owned();
        let labels = [("io.rancher.scheduler.affinity:container_label_ne".to_owned(), rule)];
        row.launch_config.as_mut().expect("has one").labels = Some(labels.into());
    });
    let w = w.settle();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running", "s_web_log_1 running", "s_web_log_2 running"]);
    let host = |name: &str| w.named(name).and_then(|row| row.host_id);
    assert_ne!(host("s_web_1"), host("s_web_2"));
    assert_eq!((host("s_web_1"), host("s_web_2")), (host("s_web_log_1"), host("s_web_log_2")));
    let labels = w.named("s_web_log_1").and_then(|row| row.labels.clone()).unwrap_or_default();
    let kept = &labels["io.rancher.scheduler.affinity:container_label_ne"];
    assert_eq!(kept, "io.rancher.stack_service.name=s/web/log");
}

#[test]
fn a_removed_container_comes_back_in_its_unit_with_what_depends_on_it() {
    let w = world().host("a").host("b").service("web", 1);
    let w = w.sidekick("web", "data").sidekick("web", "log").volumes_from("web", "data").settle();
    let before = ids(&w);
    let unit = w.named("s_web_1").and_then(|row| row.deployment_unit_uuid.clone());
    let w = w.remove_container("s_web_data_1").settle();
    assert_eq!(whole_units(&w, "web"), 1);
    let after = ids(&w);
    let changed: Vec<&String> = before.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert_eq!(changed, ["s_web_1", "s_web_data_1"]);
    assert_eq!(w.named("s_web_1").and_then(|row| row.deployment_unit_uuid.clone()), unit);
}

#[test]
fn who_shares_a_network_is_stopped_and_started_with_its_owner() {
    let w = world().host("a").service("web", 1).sidekick("web", "log").network_of_primary("web", "log").settle();
    let before = ids(&w);
    let log = w.named("s_web_log_1").expect("it");
    assert_eq!(log.network_container_id.map(|id| id.number()), Some(before["s_web_1"]));
    assert_eq!(log.network_mode.as_deref(), Some("container"));
    let w = w.change_container("s_web_1", |row| row.meta.enter(STOPPED)).settle();
    assert_eq!((whole_units(&w, "web"), ids(&w)), (1, before));
    assert_eq!(w.named("s_web_log_1").map(|row| row.start_serial), Some(2));
}

#[test]
fn a_global_service_has_one_unit_on_each_host_that_qualifies() {
    let on = |w: &Language| {
        let units = units(&w.world, w.service_row("agent").meta.id);
        units.iter().filter_map(super::units::Unit::host).collect::<BTreeSet<i64>>()
    };
    let w = world().host("a").host("b").global("agent").settle();
    assert_eq!((whole_units(&w, "agent"), on(&w)), (2, [w.host_id("a"), w.host_id("b")].into()));
    let w = w.host("c").settle();
    assert_eq!(whole_units(&w, "agent"), 3);
    let w = w.host_state("a", INACTIVE).settle();
    assert_eq!(whole_units(&w, "agent"), 3, "a host that takes nothing new keeps its unit");
    let w = w.host_state("b", REMOVING).settle();
    assert_eq!((whole_units(&w, "agent"), on(&w)), (2, [w.host_id("a"), w.host_id("c")].into()));
    assert_eq!(w.service_row("agent").health_state.as_deref(), Some(HEALTHY));
}

#[test]
fn a_global_service_follows_the_labels_of_hosts() {
    let w = world().host("a").host("b").label_host("a", "disk", "ssd").global("agent").change_service("agent", |row| {
        let labels = row.launch_config.as_mut().and_then(|config| config.labels.as_mut()).expect("has some");
        labels.insert("io.rancher.scheduler.affinity:host_label".into(), "disk=ssd".into());
        labels.insert("io.rancher.scheduler.affinity:host_label_ne".into(), "old=yes".into());
    });
    let w = w.settle();
    assert_eq!((whole_units(&w, "agent"), w.told()), (1, vec!["s_agent_1 running".to_owned()]));
    let w = w.label_host("b", "disk", "ssd").settle();
    assert_eq!(whole_units(&w, "agent"), 2);
    let w = w.label_host("a", "old", "yes").settle();
    assert_eq!(whole_units(&w, "agent"), 1);
}

/// While what leaves still has the numbers, nothing can be made, and looking again at once would find the same.
#[test]
fn waiting_for_numbers_does_not_look_again_at_once() {
    let mut w = world().host("a").service("web", 2).sidekick("web", "data").settle();
    for name in ids(&w).into_keys() {
        w = w.change_container(&name, |row| row.external_id = Some(name.clone())).remove_container(&name);
    }
    let w = w.settle_but_hosts();
    let plan = w.plan(Subject::Service(w.service_row("web").meta.id));
    assert_eq!(plan.steps, []);
    assert!(plan.again.is_some_and(|at| at > w.now), "{:?} at {:?}", plan.again, w.now);
}

fn hosts(w: &Language) -> BTreeSet<Option<i64>> {
    let rows = w.world.containers.values().filter(|row| row.meta.removed.is_none() && row.service_id.is_some());
    rows.map(|row| row.host_id.map(|id| id.number())).collect()
}

#[test]
fn a_unit_goes_where_all_of_it_fits() {
    // Host `a` is the emptier one and has no room for the sidekick's port.
    let w = world().host("a").host("b").running_with_port("x", "a", "80:80").running("y", "b").running("z", "b");
    let w = w.service("web", 1).sidekick("web", "log").publish("web", "log", "80:80").settle();
    assert_eq!((whole_units(&w, "web"), hosts(&w)), (1, [Some(w.host_id("b"))].into()));
    assert_eq!(w.service_row("web").create_index, Some(2), "at the first try");
    let w = world().host("a").running_with_port("x", "a", "80:80").service("web", 1).sidekick("web", "log");
    let w = w.publish("web", "log", "80:80").settle();
    let message = w.service_row("web").meta.progress.message.clone().unwrap_or_default();
    assert!(message.ends_with("Scheduling failed: host needs ports 80/tcp available"), "{message}");
}

#[test]
fn a_unit_moves_when_its_host_has_no_room_for_a_part_of_it() {
    let w =
        world().host("a").host("b").service("web", 1).sidekick("web", "log").publish("web", "log", "80:80").settle();
    assert_eq!(hosts(&w), [Some(w.host_id("a"))].into());
    let w = w.remove_container("s_web_log_1").running_with_port("x", "a", "80:80").settle();
    assert_eq!((whole_units(&w, "web"), hosts(&w)), (1, [Some(w.host_id("b"))].into()));
    assert_eq!(w.service_row("web").meta.state, ACTIVE);
}

#[test]
fn a_unit_that_was_taken_away_is_over() {
    let unit = |w: &Language| w.named("s_web_2").and_then(|row| row.deployment_unit_uuid.clone());
    let scale = |w: Language, scale: i64| {
        let w = w.change_service("web", |row| {
            row.scale = Some(scale);
            row.meta.enter(UPDATING_ACTIVE);
        });
        w.settle()
    };
    let w = world().host("a").service("web", 2).settle();
    let before = unit(&w);
    let w = scale(scale(w, 1), 2);
    assert!(unit(&w).is_some() && unit(&w) != before, "scaled down and up again");
    let before = unit(&w);
    let w = w.change_service("web", |row| {
        row.launch_config.as_mut().expect("has one").health_check = Some(InstanceHealthCheck::default());
    });
    let w = w.change_container("s_web_2", |row| row.health_state = Some(UNHEALTHY.into())).settle();
    assert!(unit(&w).is_some() && unit(&w) != before, "replaced because it was ill");
    let before = unit(&w);
    assert_eq!(unit(&w.remove_container("s_web_2").settle()), before, "removed by hand");
}

/// Whatever happens, in the end there are exactly the units that are wanted.
#[test]
fn any_sequence_of_events_ends_with_the_wanted_units() {
    for seed in 0..40 {
        let random = Random::seeded(seed);
        let mut w = world().host("a").host("b").host("c").service("web", 2);
        w = w.sidekick("web", "data").sidekick("web", "log").volumes_from("web", "data");
        w = w.network_of_primary("web", "log").settle();
        let mut scale = 2;
        for _ in 0..12 {
            let names: Vec<String> = ids(&w).into_keys().collect();
            let pick = usize::try_from(random.below(1000)).unwrap_or(0);
            let name = names.get(pick % names.len().max(1)).cloned();
            w = match (random.below(5), name) {
                (0, Some(name)) => w.remove_container(&name),
                (1, Some(name)) => w.change_container(&name, |row| row.meta.enter(STOPPED)),
                (2, Some(name)) => w.change_container(&name, |row| row.health_state = Some(UNHEALTHY.into())),
                (3, _) => {
                    scale = pick % 4;
                    w.change_service("web", |row| {
                        row.scale = i64::try_from(scale).ok();
                        row.meta.enter(UPDATING_ACTIVE);
                    })
                }
                _ => w.host(&format!("h{pick}")).settle().host_state(&format!("h{pick}"), REMOVING),
            };
            w = w.settle();
            assert_eq!(whole_units(&w, "web"), scale, "seed {seed}");
            assert_eq!(w.service_row("web").meta.state, ACTIVE, "seed {seed}");
        }
    }
}
