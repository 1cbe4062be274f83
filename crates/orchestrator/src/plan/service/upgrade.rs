//! Exchanging the containers of a service for others, and back (`services.md` §11.2, §11.3).
//!
//! Upgrade and rollback are one loop: containers of the version that goes are *set aside* (their map says `managed=false,
//! upgrade=true`), stopped and kept, and reconciliation makes up for what is then missing. Forward it makes containers of
//! the new launch configs; back it first takes the kept ones in again. Nothing is remembered between two passes but when
//! the next batch may begin: what is done, and what a batch waits for, is read from the containers.
//!
//! A batch begins when all that was exchanged before is up and, where it is checked, healthy, and has been so for the
//! interval. Units that are down or unhealthy anyway are exchanged first. So at least `scale - batchSize` units are
//! served at any time, and with `startFirst` all of them, as far as they were before.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, InServiceUpgradeStrategy, Service};
use remuda_schema::{Resource, Row};

use super::reconcile::{batch_size, go_on, pass, pause_is_over};
use super::units::{Unit, config_name, everyone, is_managed, is_up, ran_once, units};
use super::{AT_ONCE, PRIMARY, begin, retained, status_of, take_away_unit};
use crate::plan::{Moment, Plan, Step, claims};
use crate::transitions::{self, WANT_RUNNING};
use crate::world::{World, dependencies};

const OUT: &str = "Service instance is removed by service.upgrade";

/// An exchange under way.
pub struct Exchange<'a> {
    strategy: &'a InServiceUpgradeStrategy,
    /// Version the upgrade brought.
    version: &'a str,
    /// Launch configs it is about.
    configs: BTreeSet<&'a str>,
    /// To what was before.
    is_back: bool,
}

impl<'a> Exchange<'a> {
    /// What the state of the service says is being exchanged.
    pub fn under_way(row: &'a Row<Service>) -> Option<Exchange<'a>> {
        let is_back = match row.meta.state.as_str() {
            UPGRADING | CANCELING_UPGRADE => false,
            ROLLING_BACK | CANCELING_ROLLBACK => true,
            _ => return None,
        };
        let strategy = row.upgrade.as_ref()?.in_service_strategy.as_ref()?;
        let primary = strategy.launch_config.iter().map(|_| PRIMARY);
        let sidekicks = strategy.secondary_launch_configs.iter().flatten();
        let configs = primary.chain(sidekicks.filter_map(|sidekick| sidekick.name.as_deref())).collect();
        Some(Exchange { strategy, version: strategy.version()?, configs, is_back })
    }

    /// Whether the container has to go.
    fn goes(&self, row: &Container) -> bool {
        let is_new = row.version.as_deref() == Some(self.version);
        if self.is_back { is_new } else { !is_new && self.configs.contains(config_name(row)) }
    }

    /// Whether the unit waits for its turn. Until then it is not repaired, except that what stopped is started.
    pub fn awaits(&self, unit: &Unit<'_>) -> bool {
        unit.members.values().any(|row| self.goes(row))
    }
}

/// Containers of the service that were set aside, by number.
fn kept(world: &World, service: i64) -> impl Iterator<Item = &Arc<Row<Container>>> {
    everyone(world, service).live.into_iter().filter(|row| !is_managed(world, row))
}

/// Kept containers that can serve again in a unit: of the version that comes back, and all that they refer to is there.
pub(super) struct Returning<'a>(Vec<&'a Arc<Row<Container>>>);

impl<'a> Returning<'a> {
    /// None unless the service is rolled back.
    pub(super) fn of(world: &'a World, row: &Row<Service>) -> Returning<'a> {
        let Some(exchange) = Exchange::under_way(row).filter(|exchange| exchange.is_back) else {
            return Returning(Vec::new());
        };
        let configs = row.launch_configs();
        let host_lives = |row: &Row<Container>| {
            row.host_id.and_then(|id| world.hosts.get(&id.number())).is_some_and(|host| host.meta.is_live())
        };
        let mut rows: Vec<_> = kept(world, row.meta.id)
            .filter(|row| !exchange.goes(row) && configs.iter().any(|(name, _)| *name == config_name(row)))
            .filter(|row| matches!(row.meta.state.as_str(), RUNNING | STOPPED | STOPPING) && host_lives(row))
            .collect();
        // The newest of each number: older ones were kept of an upgrade that was not finished.
        rows.reverse();
        let mut seen = BTreeSet::new();
        rows.retain(|row| seen.insert((row.service_index, config_name(row))));
        loop {
            let ids: BTreeSet<i64> = rows.iter().map(|row| row.meta.id).collect();
            let n_before = rows.len();
            rows.retain(|row| {
                dependencies(row).all(|id| {
                    let on = world.containers.get(&id).filter(|on| on.meta.is_live());
                    on.is_some_and(|on| on.service_id != row.service_id || ids.contains(&id) || is_managed(world, on))
                })
            });
            if rows.len() == n_before {
                return Returning(rows);
            }
        }
    }

    /// The one for that place.
    pub(super) fn for_place(&self, unit: &str, config: &str) -> Option<&'a Arc<Row<Container>>> {
        let mut rows = self.0.iter().copied();
        rows.find(|row| row.deployment_unit_uuid.as_deref() == Some(unit) && config_name(row) == config)
    }

    /// Number and unit that come back: on that host, or of that number.
    pub(super) fn unit(&self, host: Option<i64>, index: i64) -> Option<(i64, String)> {
        let fits = |row: &&&Arc<Row<Container>>| match host {
            Some(host) => row.host_id.is_some_and(|id| id.number() == host),
            None => row.service_index == Some(index),
        };
        let row = self.0.iter().find(fits)?;
        Some((row.service_index?, row.deployment_unit_uuid.clone()?))
    }
}

/// Number of the container set aside on the host: its successor there takes it over.
pub(super) fn number_on(world: &World, service: i64, host: i64) -> Option<i64> {
    kept(world, service).filter(|row| row.host_id.is_some_and(|id| id.number() == host)).last()?.service_index
}

/// The container is no longer the service's: it gives up its number.
fn set_aside(world: &World, container: &Row<Container>, plan: &mut Plan) {
    retained::keep(world, container, plan);
    mark(world, container, false, plan);
    plan.steps.extend(number(container).map(Step::Release));
}

/// The container is the service's again, under its number.
pub(super) fn take_in(world: &World, container: &Row<Container>, plan: &mut Plan) {
    retained::give_back(world, container, plan);
    mark(world, container, true, plan);
    plan.steps.extend(number(container).map(Step::Claim));
}

pub(super) fn number(container: &Row<Container>) -> Option<remuda_store::Claim> {
    let (service, index) = (container.service_id?.number(), container.service_index?);
    Some(claims::service_index(service, container.launch_config_name.as_deref(), index, container.meta.id))
}

fn mark(world: &World, container: &Row<Container>, managed: bool, plan: &mut Plan) {
    let maps = world.each(&world.expose_maps, &world.expose_maps_by_container, container.meta.id);
    for map in maps.filter(|map| map.service_id == container.service_id && map.meta.is_live()) {
        let mut next = (**map).clone();
        (next.managed, next.upgrade) = (managed, !managed);
        plan.write(next);
    }
}

/// Stops the container if it may run. `false` when it has stopped.
pub(super) fn stop(container: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) -> bool {
    let stops = match container.meta.state.as_str() {
        CREATING | STARTING | RUNNING | RESTARTING | UPDATING_RUNNING => true,
        STOPPING => container.desired == WANT_RUNNING,
        _ => return false,
    };
    if stops {
        let mut stopping = container.clone();
        transitions::retire(&mut stopping, false, moment.settings, moment.now);
        plan.write(stopping);
    }
    true
}

/// Up and, where it is checked, healthy; or done, where it runs once.
pub(super) fn is_good(row: &Row<Container>) -> bool {
    ran_once(row) || is_up(row) && matches!(row.health_state.as_deref(), None | Some(HEALTHY | "updating-healthy"))
}

/// What is waited for before a container counts.
pub(super) fn what_is_wrong(row: &Row<Container>) -> String {
    match row.health_state.as_deref() {
        Some(health) if is_up(row) => {
            let name = row.meta.name.as_deref().unwrap_or(&row.meta.uuid);
            format!("Waiting for [instance:{name}] to be healthy. Its health is {health}")
        }
        _ => status_of(row),
    }
}

/// A step of an upgrade or rollback under way.
pub fn plan(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let machine = Service::type_def().machine;
    let end = machine.and_then(|machine| machine.running(&row.meta.state)).map_or(ACTIVE, |running| running.to);
    let Some(exchange) = Exchange::under_way(row) else { return next.meta.enter(end) };
    let strategy = exchange.strategy;
    let start_first = strategy.start_first && row.fence_after.is_none();
    let going: Vec<_> = kept(world, row.meta.id).filter(|container| exchange.goes(container)).collect();
    if !start_first {
        let waiting = stop_all(&going, moment, plan);
        if waiting.is_some() {
            return go_on(next, waiting, moment, plan);
        }
    }
    let (why, settled) = pass(world, row, next, moment, plan);
    let units = units(world, row.meta.id);
    let (await_turn, done): (Vec<_>, Vec<_>) = units.iter().partition(|unit| exchange.awaits(unit));
    let ill = done.iter().flat_map(|unit| unit.members.values()).find(|container| !is_good(container));
    let is_canceling = matches!(row.meta.state.as_str(), CANCELING_UPGRADE | CANCELING_ROLLBACK);
    if !settled || ill.is_some() {
        // A batch that fails is not waited for by who cancels it.
        let failed = done.iter().flat_map(|unit| unit.members.values()).any(|container| has_failed(container));
        if is_canceling && (failed || row.next_batch.is_some()) {
            return next.meta.enter(end);
        }
        next.next_batch = None;
        let wrong = why.or(ill.map(|container| what_is_wrong(container)));
        let since = *next.ailing_since.get_or_insert(moment.now);
        if let Some(patience) = strategy.rollback_after_millis.filter(|_| row.meta.state == UPGRADING) {
            if since.plus_ms(patience) <= moment.now {
                return give_up(next, patience, wrong, moment);
            }
            plan.look_again(since.plus_ms(patience));
        }
        return go_on(next, wrong, moment, plan);
    }
    next.ailing_since = None;
    if start_first {
        let waiting = stop_all(&going, moment, plan);
        if waiting.is_some() {
            return go_on(next, waiting, moment, plan);
        }
    }
    if is_canceling {
        return next.meta.enter(end);
    }
    if await_turn.is_empty() {
        next.next_batch = None;
        if exchange.is_back && !remove_kept(world, row, moment, plan) {
            return;
        }
        return match next.rollback_reason.take() {
            Some(reason) => next.meta.fail(end, reason),
            None if strategy.auto_finish && !exchange.is_back => begin(next, FINISHING_UPGRADE, moment),
            None => next.meta.enter(end),
        };
    }
    next.meta.progress.percent = i64::try_from(done.len() * 100 / units.len().max(1)).ok();
    if !pause_is_over(next, strategy.interval_millis, moment, plan) {
        let told = format!("{} of {} units are exchanged; the next batch waits its interval", done.len(), units.len());
        return go_on(next, Some(told), moment, plan);
    }
    let mut batch = await_turn;
    batch.sort_by_key(|unit| unit.members.values().all(|container| is_good(container)));
    for container in batch.into_iter().take(batch_size(strategy.batch_size)).flat_map(|unit| unit.members.values()) {
        if exchange.goes(container) {
            set_aside(world, container, plan);
        }
    }
    go_on(next, None, moment, plan);
}

/// The new containers do not get well: back to what was before. The reason is told when all is back.
fn give_up(next: &mut Row<Service>, patience_ms: i64, wrong: Option<String>, moment: Moment<'_>) {
    let wrong = wrong.map(|wrong| format!(": {wrong}")).unwrap_or_default();
    let reason =
        format!("The upgrade was rolled back: new containers were not well for {} s{wrong}", patience_ms / 1000);
    next.put_back();
    begin(next, ROLLING_BACK, moment);
    (next.next_batch, next.ailing_since, next.rollback_reason) = (Some(moment.now), None, Some(reason));
}

/// Stops those that may run; what is waited for until all have stopped.
fn stop_all(containers: &[&Arc<Row<Container>>], moment: Moment<'_>, plan: &mut Plan) -> Option<String> {
    let mut waiting = None;
    for container in containers {
        if stop(container, moment, plan) {
            waiting.get_or_insert_with(|| status_of(container));
        }
    }
    waiting
}

/// Did not start, or does not stay up.
fn has_failed(row: &Row<Container>) -> bool {
    matches!(row.meta.state.as_str(), ERROR | ERRORING | STOPPED) && !ran_once(row)
        || row.health_state.as_deref() == Some(UNHEALTHY)
}

/// The kept containers go. Whether that were all.
fn remove_kept(world: &World, row: &Row<Service>, moment: Moment<'_>, plan: &mut Plan) -> bool {
    for (n, container) in kept(world, row.meta.id).enumerate() {
        if n == AT_ONCE {
            plan.look_again(moment.now);
            return false;
        }
        take_away_unit(container, row, OUT, moment, plan);
    }
    true
}

/// Between upgrade and finish the service is kept running like an active one.
pub fn rest(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let (_, settled) = pass(world, row, next, moment, plan);
    if !settled {
        plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
}

/// What was kept for a rollback goes, and sidekicks that the upgrade took out; then all is as after any change.
pub fn finish(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    if !remove_kept(world, row, moment, plan) {
        return;
    }
    if let Some(sidekicks) = &mut next.secondary_launch_configs {
        sidekicks.retain(|sidekick| sidekick.config.has_image());
    }
    let (waiting, settled) = pass(world, row, next, moment, plan);
    if settled { next.meta.enter(ACTIVE) } else { go_on(next, waiting, moment, plan) }
}
