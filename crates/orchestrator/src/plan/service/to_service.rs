//! An upgrade to another service (`services.md` §11.4): that one grows while this one shrinks, round by round.

use remuda_model::states::*;
use remuda_model::{Service, ToServiceUpgradeStrategy};
use remuda_schema::Row;

use super::begin;
use super::reconcile::{go_on, pass, pause_is_over};
use super::units::units;
use crate::plan::health::STARTED_ONCE;
use crate::plan::{Moment, Plan};
use crate::world::World;

/// The scales of the next round: of the service that is left and of the one that takes over. `None` when it is done.
fn round(from: i64, to: i64, strategy: &ToServiceUpgradeStrategy) -> Option<(i64, i64)> {
    let (wanted, batch) = (strategy.final_scale.unwrap_or(1).max(1), strategy.batch_size.unwrap_or(1).max(1));
    let total = from + to;
    if from == 0 {
        (to != wanted).then_some((0, wanted))
    } else if total > wanted {
        Some((from - batch.min(total - wanted).min(from), to))
    } else {
        Some((from, to + batch.min(wanted - to).min(wanted + batch - total)))
    }
}

pub fn plan(
    world: &World,
    row: &Row<Service>,
    strategy: &ToServiceUpgradeStrategy,
    next: &mut Row<Service>,
    moment: Moment<'_>,
    plan: &mut Plan,
) {
    match row.meta.state.as_str() {
        // Each service goes on to the scale of the last round by itself.
        CANCELING_UPGRADE => return next.meta.enter(CANCELED_UPGRADE),
        CANCELING_ROLLBACK => return next.meta.enter(CANCELED_ROLLBACK),
        ROLLING_BACK => {
            let (waiting, settled) = pass(world, row, next, moment, plan);
            return if settled { next.meta.enter(ACTIVE) } else { go_on(next, waiting, moment, plan) };
        }
        _ => {}
    }
    let target = strategy.to_service_id.and_then(|id| world.services.get(&id.number()));
    let Some(target) = target.filter(|target| target.meta.is_live()) else { return next.meta.enter(UPGRADED) };
    let name = target.meta.name.clone().unwrap_or_else(|| target.public_id());
    if target.meta.state == INACTIVE {
        let mut started = (**target).clone();
        begin(&mut started, ACTIVATING, moment);
        plan.write(started);
    }
    if target.meta.state != ACTIVE {
        return go_on(next, Some(format!("Waiting for service {name}, which is {}", target.meta.state)), moment, plan);
    }
    let (waiting, _) = pass(world, row, next, moment, plan);
    // That this one is ill may be why it is left: only its number of units is waited for.
    let scale = row.scale.unwrap_or(1);
    if !row.is_global() && i64::try_from(units(world, row.meta.id).len()).ok() != Some(scale) {
        return go_on(next, waiting, moment, plan);
    }
    let health = target.health_state.as_deref().unwrap_or(HEALTHY);
    if !matches!(health, HEALTHY | STARTED_ONCE) {
        next.next_batch = None;
        return go_on(next, Some(format!("Waiting for service {name}, whose health is {health}")), moment, plan);
    }
    let Some((from, to)) = round(scale, target.scale.unwrap_or(1), strategy) else {
        next.next_batch = None;
        return next.meta.enter(UPGRADED);
    };
    if !pause_is_over(next, strategy.interval_millis, moment, plan) {
        let told = format!(
            "The next round waits its interval: {scale} here, {} in service {name}",
            to.min(target.scale.unwrap_or(1))
        );
        return go_on(next, Some(told), moment, plan);
    }
    next.scale = Some(from);
    if target.scale != Some(to) {
        let mut scaled = (**target).clone();
        scaled.scale = Some(to);
        begin(&mut scaled, UPDATING_ACTIVE, moment);
        plan.write(scaled);
    }
    go_on(next, None, moment, plan);
}

#[cfg(test)]
mod tests {
    use remuda_model::ServiceUpgrade;

    use super::*;
    use crate::testing::{Language, world};

    #[test]
    fn services_11_4_rounds() {
        let check = |from: i64, to: i64, wanted: i64, batch: i64, expected: &[(i64, i64)]| {
            let strategy = ToServiceUpgradeStrategy {
                final_scale: Some(wanted),
                batch_size: Some(batch),
                ..ToServiceUpgradeStrategy::default()
            };
            let (mut at, mut rounds) = ((from, to), Vec::new());
            while let Some(next) = round(at.0, at.1, &strategy) {
                rounds.push(next);
                at = next;
                assert!(rounds.len() < 50, "{rounds:?}");
            }
            assert_eq!(rounds, expected);
        };
        check(2, 0, 5, 2, &[(2, 2), (2, 4), (1, 4), (1, 5), (0, 5)]);
        check(3, 0, 1, 1, &[(2, 0), (1, 0), (1, 1), (0, 1)]);
        check(0, 4, 2, 1, &[(0, 2)]);
        check(1, 0, 1, 3, &[(1, 1), (0, 1)]);
        check(0, 2, 2, 1, &[]);
    }

    fn upgrade(w: Language, wanted: i64, batch: i64) -> Language {
        let (target, now) = (w.service_row("web2").id(), w.now);
        w.change_service("web", |row| {
            let strategy = ToServiceUpgradeStrategy {
                to_service_id: Some(target),
                final_scale: Some(wanted),
                batch_size: Some(batch),
                interval_millis: Some(2000),
                update_links: None,
            };
            row.upgrade =
                Some(Box::new(ServiceUpgrade { to_service_strategy: Some(strategy), ..ServiceUpgrade::default() }));
            row.next_batch = Some(now);
            row.meta.enter(UPGRADING);
        })
    }

    fn scales(w: &Language) -> (i64, i64) {
        let units = |name: &str| i64::try_from(units(&w.world, w.service_row(name).meta.id).len()).unwrap_or(0);
        (units("web"), units("web2"))
    }

    #[test]
    fn services_11_4_one_grows_and_the_other_shrinks() {
        let w = world().host("a").service("web", 2).service("web2", 0).settle();
        let mut w = upgrade(w.change_service("web2", |row| row.meta.enter(INACTIVE)), 5, 2).settle();
        let mut seen = vec![scales(&w)];
        while w.service_row("web").meta.state == UPGRADING {
            w = w.after_ms(2000).settle();
            seen.push(scales(&w));
        }
        assert_eq!(seen, [(2, 2), (2, 4), (1, 4), (1, 5), (0, 5)]);
        let (old, new) = (w.service_row("web"), w.service_row("web2"));
        assert_eq!((old.meta.state.as_str(), old.scale), (UPGRADED, Some(0)));
        assert_eq!((new.meta.state.as_str(), new.scale), (ACTIVE, Some(5)));
        let w = w.change_service("web", |row| row.meta.enter(ROLLING_BACK)).settle();
        assert_eq!((w.service_row("web").meta.state.as_str(), scales(&w)), (ACTIVE, (0, 5)));
    }

    #[test]
    fn services_11_4_what_takes_over_must_be_healthy_and_there() {
        let w = world().host("a").service("web", 2).service("web2", 1).settle();
        let ill = w.change_container("s_web2_1", |row| row.meta.enter(ERROR));
        let w = upgrade(ill.settle_but_hosts(), 2, 1).settle_but_hosts();
        assert_eq!((scales(&w), w.service_row("web").meta.state.as_str()), ((2, 1), UPGRADING));
        let message = w.service_row("web").meta.progress.message.clone().unwrap_or_default();
        assert!(message.starts_with("Waiting for service web2, "), "{message}");
        let w = w.change_service("web2", |row| row.meta.enter(REMOVING)).settle();
        let row = w.service_row("web");
        assert_eq!((row.meta.state.as_str(), units(&w.world, row.meta.id).len()), (UPGRADED, 2));
    }
}
