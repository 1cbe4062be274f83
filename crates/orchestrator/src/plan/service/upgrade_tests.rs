//! Upgrades in the little language: what there is at each moment of one.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::states::*;
use remuda_model::{InServiceUpgradeStrategy, LaunchConfig, ServiceUpgrade};
use remuda_runtime::Random;

use super::units::{is_managed, units};
use super::upgrade::is_good;
use crate::testing::{Language, world};

/// Containers that are not removed by number: `name version state`, those set aside in parentheses.
fn told(w: &Language) -> Vec<String> {
    let rows = w.world.containers.values().filter(|row| row.meta.removed.is_none());
    let of = |row: &std::sync::Arc<remuda_schema::Row<remuda_model::Container>>| {
        let (name, version) = (row.meta.name.as_deref().unwrap_or("?"), row.version.as_deref().unwrap_or("?"));
        let text = format!("{name} {version} {}", row.meta.state);
        if is_managed(&w.world, row) { text } else { format!("({text})") }
    };
    rows.map(of).collect()
}

fn state(w: &Language) -> &str {
    &w.service_row("web").meta.state
}

/// Asks for new versions of those launch configs (`web` is the primary one), as the command does.
fn upgrade(w: Language, configs: &[&str], batch_size: i64, start_first: bool) -> Language {
    let now = w.now;
    w.change_service("web", |row| {
        let mut strategy = InServiceUpgradeStrategy {
            batch_size: Some(batch_size),
            interval_millis: Some(2000),
            start_first,
            previous_launch_config: row.launch_config.clone(),
            previous_secondary_launch_configs: row.secondary_launch_configs.clone(),
            ..InServiceUpgradeStrategy::default()
        };
        let renew = |config: &mut LaunchConfig| config.version = Some("new".to_owned());
        if configs.contains(&"web") {
            row.launch_config.iter_mut().for_each(renew);
            strategy.launch_config = row.launch_config.clone();
        }
        for sidekick in row.secondary_launch_configs.iter_mut().flatten() {
            if sidekick.name.as_deref().is_some_and(|name| configs.contains(&name)) {
                renew(&mut sidekick.config);
                strategy.secondary_launch_configs.get_or_insert_default().push(sidekick.clone());
            }
        }
        row.upgrade =
            Some(Box::new(ServiceUpgrade { in_service_strategy: Some(strategy), ..ServiceUpgrade::default() }));
        row.next_batch = Some(now);
        row.meta.enter(UPGRADING);
    })
}

fn roll_back(w: Language) -> Language {
    let now = w.now;
    w.change_service("web", |row| {
        row.put_back();
        row.next_batch = Some(now);
        row.meta.enter(ROLLING_BACK);
    })
}

fn enter(w: Language, state: &str) -> Language {
    w.change_service("web", |row| row.meta.enter(state)).settle()
}

/// Lets intervals pass until the upgrade rests.
fn run(mut w: Language) -> Language {
    for _ in 0..20 {
        w = w.settle();
        if !matches!(state(&w), UPGRADING | ROLLING_BACK | CANCELING_UPGRADE | CANCELING_ROLLBACK) {
            return w;
        }
        w = w.after_ms(2000);
    }
    panic!("the upgrade goes on for ever: {:?}", told(&w));
}

#[test]
fn services_11_2_batch_by_batch_and_the_old_ones_are_kept() {
    let w = world().host("a").host("b").service("web", 2).settle();
    let w = upgrade(w, &["web"], 1, false).settle();
    let expected = ["s_web_1 0 running", "s_web_2 0 running"];
    assert_ne!(told(&w), expected, "the first batch begins at once");
    assert_eq!(told(&w), ["(s_web_1 0 stopped)", "s_web_2 0 running", "s_web_1 new running"]);
    assert_eq!(state(&w), UPGRADING);
    let row = w.service_row("web");
    assert_eq!(row.meta.progress.percent, Some(50));
    let message = row.meta.progress.message.as_deref();
    assert_eq!(message, Some("1 of 2 units are exchanged; the next batch waits its interval"));
    let w = w.after_ms(1999).settle();
    assert_eq!(told(&w).len(), 3, "not before the interval has passed");
    let w = w.after_ms(1).settle();
    let done = ["(s_web_1 0 stopped)", "(s_web_2 0 stopped)", "s_web_1 new running", "s_web_2 new running"];
    assert_eq!((told(&w), state(&w)), (done.map(str::to_owned).to_vec(), UPGRADED));
    let [old, new] =
        [0, 2].map(|n| w.world.containers.values().nth(n).and_then(|row| row.deployment_unit_uuid.clone()));
    assert_ne!(old, new, "a unit that is exchanged whole is another one");

    let finished =
        enter(upgrade(world().host("a").service("web", 1).settle(), &["web"], 1, false).settle(), FINISHING_UPGRADE);
    assert_eq!((told(&finished), state(&finished)), (vec!["s_web_1 new running".to_owned()], ACTIVE));

    let before: BTreeSet<i64> = w.world.containers.keys().copied().take(2).collect();
    let w = run(roll_back(w));
    assert_eq!((told(&w), state(&w)), (expected.map(str::to_owned).to_vec(), ACTIVE));
    assert_eq!(
        w.world
            .containers
            .values()
            .filter(|row| row.meta.removed.is_none())
            .map(|row| row.meta.id)
            .collect::<BTreeSet<_>>(),
        before
    );
}

#[test]
fn services_11_2_with_start_first_the_old_one_runs_until_the_new_one_does() {
    let mut w = world().host("a").service("web", 1).settle();
    w = upgrade(w, &["web"], 1, true).settle_but_hosts();
    assert_eq!(told(&w), ["(s_web_1 0 running)", "s_web_1 new starting"]);
    let w = run(w);
    assert_eq!((told(&w), state(&w)), (vec!["(s_web_1 0 stopped)".into(), "s_web_1 new running".into()], UPGRADED));
    // Not before it is healthy, either.
    let w = upgrade(world().host("a").service("web", 1).settle(), &["web"], 1, true).settle_but_hosts();
    let w = w.change_container("s_web_1", |row| {
        row.meta.enter(RUNNING);
        row.health_state = Some(INITIALIZING.into());
    });
    let w = w.settle();
    assert_eq!((told(&w), state(&w)), (vec!["(s_web_1 0 running)".into(), "s_web_1 new running".into()], UPGRADING));
    let message = w.service_row("web").meta.progress.message.clone();
    assert_eq!(message.as_deref(), Some("Waiting for [instance:s_web_1] to be healthy. Its health is initializing"));
    let w = w.change_container("s_web_1", |row| row.health_state = Some(HEALTHY.into())).settle();
    assert_eq!((told(&w), state(&w)), (vec!["(s_web_1 0 stopped)".into(), "s_web_1 new running".into()], UPGRADED));
}

#[test]
fn services_11_2_a_running_one_that_was_set_aside_holds_its_ports() {
    let w = world().host("a").service("web", 1).change_service("web", |row| {
        row.launch_config.as_mut().expect("has one").ports = Some(vec!["80:80/tcp".into()]);
    });
    let w = upgrade(w.settle(), &["web"], 1, true).settle();
    assert_eq!((told(&w), state(&w)), (vec!["(s_web_1 0 running)".into(), "s_web_1 new error".into()], UPGRADING));
    let message = w.service_row("web").meta.progress.message.clone().unwrap_or_default();
    assert!(message.ends_with("Scheduling failed: host needs ports 80/tcp available"), "{message}");
    // Who cancels does not wait for what cannot be; and all is as before after a rollback.
    let w = enter(w, CANCELING_UPGRADE);
    assert_eq!(state(&w), CANCELED_UPGRADE);
    let w = run(roll_back(w));
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".to_owned()], ACTIVE));
    assert_eq!(w.named("s_web_1").map(|row| row.start_serial), Some(1), "it was never stopped");
}

#[test]
fn services_11_2_sidekicks_join_the_unit_they_leave() {
    let w = world().host("a").host("b").service("web", 2).sidekick("web", "log").settle();
    let home = |w: &Language| -> BTreeMap<String, Option<i64>> {
        let of = units(&w.world, w.service_row("web").meta.id);
        of.iter().map(|unit| (unit.uuid.to_owned(), unit.host())).collect()
    };
    let before = home(&w);
    let w = run(upgrade(w, &["log"], 1, false));
    assert_eq!((home(&w), state(&w)), (before.clone(), UPGRADED));
    assert_eq!(
        told(&w),
        [
            "s_web_1 0 running",
            "(s_web_log_1 0 stopped)",
            "s_web_2 0 running",
            "(s_web_log_2 0 stopped)",
            "s_web_log_1 new running",
            "s_web_log_2 new running"
        ]
    );
    let w = run(roll_back(w));
    assert_eq!((home(&w), state(&w)), (before, ACTIVE));
    assert_eq!(told(&w), ["s_web_1 0 running", "s_web_log_1 0 running", "s_web_2 0 running", "s_web_log_2 0 running"]);
}

#[test]
fn services_11_2_sidekicks_come_and_go() {
    let w = world().host("a").service("web", 1).sidekick("web", "log").settle();
    let w = upgrade(w.sidekick("web", "more"), &["more"], 1, false).change_service("web", |row| {
        // It was not there before.
        let strategy = row.upgrade.as_mut().and_then(|upgrade| upgrade.in_service_strategy.as_mut()).expect("one");
        strategy.previous_secondary_launch_configs.as_mut().expect("some").pop();
    });
    let w = run(w);
    assert_eq!((told(&w).len(), state(&w)), (3, UPGRADED));
    let w = run(roll_back(w));
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".into(), "s_web_log_1 0 running".into()], ACTIVE));

    let w = upgrade(w, &["log"], 1, false).change_service("web", |row| {
        let sidekicks = row.secondary_launch_configs.as_mut().expect("some");
        sidekicks[0].config.image_uuid = Some("rancher/none".into());
    });
    let w = run(w);
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".into(), "(s_web_log_1 0 stopped)".into()], UPGRADED));
    assert_eq!(w.service_row("web").secondary_launch_configs.as_ref().map(Vec::len), Some(1), "until it is finished");
    let w = enter(w, FINISHING_UPGRADE);
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".to_owned()], ACTIVE));
    assert_eq!(w.service_row("web").secondary_launch_configs.as_ref().map(Vec::len), Some(0));
}

#[test]
fn services_11_3_canceled_in_the_middle_and_finished_or_rolled_back() {
    let middle = || {
        let w = upgrade(world().host("a").service("web", 3).settle(), &["web"], 1, false).settle();
        let w = enter(w, CANCELING_UPGRADE);
        assert_eq!(state(&w), CANCELED_UPGRADE);
        assert_eq!(told(&w.after_ms(60_000).settle())[..1], ["(s_web_1 0 stopped)"]);
        enter(upgrade(world().host("a").service("web", 3).settle(), &["web"], 1, false).settle(), CANCELING_UPGRADE)
    };
    let w = enter(middle(), FINISHING_UPGRADE);
    assert_eq!(
        (told(&w), state(&w)),
        (vec!["s_web_2 0 running".into(), "s_web_3 0 running".into(), "s_web_1 new running".into()], ACTIVE)
    );
    let w = run(roll_back(middle()));
    assert_eq!((told(&w), state(&w)), ([1, 2, 3].map(|n| format!("s_web_{n} 0 running")).to_vec(), ACTIVE));
    // A rollback can be canceled too, and what then is there stays.
    let w = run(upgrade(world().host("a").service("web", 2).settle(), &["web"], 2, false));
    let w = roll_back(w).change_service("web", |row| {
        row.upgrade.as_mut().and_then(|upgrade| upgrade.in_service_strategy.as_mut()).expect("one").batch_size =
            Some(1);
    });
    let w = enter(w.settle(), CANCELING_ROLLBACK);
    assert_eq!(state(&w), CANCELED_ROLLBACK);
    let w = enter(w, FINISHING_UPGRADE);
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".into(), "s_web_2 new running".into()], ACTIVE));
}

#[test]
fn services_11_2_an_inactive_service_ends_up_started() {
    let w = enter(world().host("a").service("web", 2).settle(), DEACTIVATING);
    assert_eq!(state(&w), INACTIVE);
    let w = run(upgrade(w, &["web"], 2, false));
    assert_eq!(told(&w)[2..], ["s_web_1 new running", "s_web_2 new running"]);
    assert_eq!(state(&w), UPGRADED);
}

#[test]
fn services_11_2_global_services_are_exchanged_host_by_host() {
    let w = world().host("a").host("b").global("web").settle();
    let homes = |w: &Language| -> BTreeMap<String, Option<i64>> {
        let rows = w.world.containers.values().filter(|row| row.meta.removed.is_none() && is_managed(&w.world, row));
        rows.map(|row| (row.meta.name.clone().unwrap_or_default(), row.host_id.map(|id| id.number()))).collect()
    };
    let before = (homes(&w), told(&w));
    let w = run(upgrade(w, &["web"], 2, false));
    assert_eq!((homes(&w), told(&w).len(), state(&w)), (before.0.clone(), 4, UPGRADED));
    let w = run(roll_back(w));
    assert_eq!(((homes(&w), told(&w)), state(&w)), (before, ACTIVE));
}

#[test]
fn services_11_2_a_broken_service_can_be_upgraded_and_a_broken_upgrade_stops() {
    // What is down goes first.
    let w = world().host("a").service("web", 3).settle();
    let w = w.change_container("s_web_3", |row| row.health_state = Some(UNHEALTHY.into()));
    let w = upgrade(w, &["web"], 1, false).settle();
    assert_eq!(told(&w)[2..], ["(s_web_3 0 stopped)", "s_web_3 new running"]);
    assert_eq!(run(w).service_row("web").meta.state, UPGRADED);
    // New ones that do not become healthy: the other old ones go on.
    let mut w = upgrade(world().host("a").service("web", 3).settle(), &["web"], 1, false).settle_but_hosts();
    for _ in 0..5 {
        w = w.settle_but_hosts().sicken("new").after_ms(5000);
    }
    let good = w.world.containers.values().filter(|row| row.meta.state == RUNNING && row.health_state.is_none());
    assert_eq!((good.count(), state(&w)), (2, UPGRADING));
}

#[test]
fn services_9_3_addresses_stay_with_the_number() {
    let addresses = |w: &Language| -> BTreeMap<String, Option<String>> {
        let rows = w.world.containers.values().filter(|row| row.meta.state == RUNNING);
        rows.map(|row| (row.meta.name.clone().unwrap_or_default(), row.primary_ip_address.clone())).collect()
    };
    let w = world().host("a").service("web", 2).change_service("web", |row| row.retain_ip = Some(true)).settle();
    let before = addresses(&w);
    let w = w.remove_container("s_web_1").settle();
    assert_eq!(addresses(&w), before, "replaced");
    let w = run(upgrade(w, &["web"], 1, false));
    assert_eq!((addresses(&w), state(&w)), (before.clone(), UPGRADED), "exchanged");
    let w = run(roll_back(w));
    assert_eq!((addresses(&w), state(&w)), (before, ACTIVE), "and back");
    let w = w.change_service("web", |row| {
        row.scale = Some(1);
        row.meta.enter(UPDATING_ACTIVE);
    });
    assert_eq!(w.settle().service_row("web").retained.keys().collect::<Vec<_>>(), ["2"], "the newer one went");
}

fn change_strategy(w: Language, change: impl FnOnce(&mut InServiceUpgradeStrategy)) -> Language {
    w.change_service("web", |row| {
        change(row.upgrade.as_mut().and_then(|upgrade| upgrade.in_service_strategy.as_mut()).expect("one"));
    })
}

#[test]
fn an_upgrade_finishes_by_itself_if_that_is_wanted() {
    let w = upgrade(world().host("a").service("web", 1).settle(), &["web"], 1, false);
    let w = change_strategy(w, |strategy| strategy.auto_finish = true).settle();
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 new running".to_owned()], ACTIVE));
}

#[test]
fn an_upgrade_that_does_not_get_well_rolls_back_if_that_is_wanted() {
    let begun = |patience: Option<i64>| {
        let w = upgrade(world().host("a").service("web", 2).settle(), &["web"], 1, false);
        let mut w = change_strategy(w, |strategy| strategy.rollback_after_millis = patience);
        // The first new container starts and is not healthy, again and again.
        for _ in 0..11 {
            w = w.settle_but_hosts().sicken("new").settle_but_hosts().after_ms(1000);
        }
        w
    };
    assert_eq!(state(&begun(None)), UPGRADING, "off by default");
    assert_eq!(state(&begun(Some(30_000))), UPGRADING, "not before its time");
    let w = run(begun(Some(10_000)));
    assert_eq!((told(&w), state(&w)), (vec!["s_web_1 0 running".into(), "s_web_2 0 running".into()], ACTIVE));
    let progress = &w.service_row("web").meta.progress;
    let message = progress.message.as_deref().unwrap_or_default();
    assert!(message.starts_with("The upgrade was rolled back: new containers were not well for 10 s: "), "{message}");
    assert!(progress.failed, "a person has to know");
    assert_eq!(w.service_row("web").rollback_reason, None);
}

/// Whatever happens during an upgrade, never more than a batch is missing, and it ends.
#[test]
fn services_11_2_at_least_scale_minus_batch_are_served() {
    for seed in 0..60 {
        let random = Random::seeded(seed);
        let pick = |n: u64| i64::try_from(random.below(n)).unwrap_or(0);
        let (scale, batch_size, start_first) = (1 + pick(5), 1 + pick(3), pick(2) == 1);
        let mut w = world().host("a").host("b").service("web", scale).sidekick("web", "log");
        w = w.network_of_primary("web", "log").settle();
        let configs: &[&str] = [&["web", "log"][..], &["log"]][usize::try_from(pick(2)).unwrap_or(0)];
        let floor = if start_first { scale } else { (scale - batch_size).max(0) };
        let is_served = |w: &Language| {
            let rows = w.world.containers.values().filter(|row| row.launch_config_name.is_none());
            rows.filter(|row| row.meta.state == RUNNING && is_good(row)).count()
        };
        w = upgrade(w, configs, batch_size, start_first);
        for back in [false, true] {
            for _ in 0..400 {
                w = w.one_round();
                assert!(is_served(&w) >= usize::try_from(floor).unwrap_or(0), "seed {seed}: {:?}", told(&w));
                if matches!(state(&w), UPGRADED | ACTIVE) {
                    break;
                }
                w = w.after_ms(pick(3000));
            }
            assert_eq!(state(&w), if back { ACTIVE } else { UPGRADED }, "seed {seed}: {:?}", told(&w));
            w = w.settle();
            assert_eq!(units(&w.world, w.service_row("web").meta.id).len(), usize::try_from(scale).unwrap_or(0));
            w = if back { w } else { roll_back(w) };
        }
        assert!(told(&w).iter().all(|text| text.contains(" 0 ")), "seed {seed}: {:?}", told(&w));
    }
}
