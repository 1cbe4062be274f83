//! Makes the units that are missing, and what is missing in them (`services.md` §§6, 7).
//!
//! Inside a unit a container is made when those it refers to run. A number, like a name, is taken over when the one
//! that had it is gone. With sidekicks, one unit is placed before the next is made.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::labels;
use remuda_model::states::{CREATING, STARTING};
use remuda_model::{Container, Service, Stack};
use remuda_schema::Row;

use super::draft::{Place, consumed, draft};
use super::reconcile::Pass;
use super::units::{Unit, config_name, eligible_hosts, is_up, references, wanted};
use super::upgrade::{number_on, take_in};
use super::{AT_ONCE, status_of};
use crate::plan::{Plan, Step};
use crate::scheduler::affinity;
use crate::world::World;

/// Do not wait for each unit's placement before making the next.
const SKIP_SERIALIZE: &str = "io.rancher.service.allocate.skip.serialize";

/// Makes what is missing in the units that stay, then new units.
pub(super) fn missing(pass: &mut Pass<'_>, keep: Vec<Unit<'_>>, next: &mut Row<Service>, plan: &mut Plan) {
    let is_global = pass.row.is_global();
    for unit in &keep {
        if pass.awaits_exchange(unit) {
            continue;
        }
        let host = if is_global { unit.host() } else { None };
        fill(pass, unit, host, next, plan);
    }
    let homes: Vec<Option<i64>> = if pass.row.launch_configs().is_empty() {
        Vec::new()
    } else if is_global {
        let served: BTreeSet<i64> = keep.iter().filter_map(Unit::host).collect();
        eligible_hosts(pass.world, pass.row).into_iter().filter(|host| !served.contains(host)).map(Some).collect()
    } else {
        vec![None; wanted(pass.row).saturating_sub(keep.len())]
    };
    let serial = is_serial(pass.row);
    if serial && !homes.is_empty() {
        let first = keep.iter().flat_map(|unit| unit.members.values().copied()).find(|row| is_unplaced_yet(row));
        if let Some(container) = first {
            return pass.wait(Some(status_of(container)));
        }
    }
    let mut used: BTreeSet<i64> = keep.iter().map(|unit| unit.index).collect();
    let predecessors = if homes.is_empty() { BTreeMap::new() } else { predecessors(pass.world, pass.row.meta.id) };
    let mut free = 1;
    for (n, home) in homes.iter().enumerate() {
        if n == AT_ONCE || (serial && n == 1) {
            plan.look_again(pass.moment.now);
            return pass.wait(None);
        }
        let service = pass.row.meta.id;
        let before = home.and_then(|host| number_on(pass.world, service, host)).filter(|index| !used.contains(index));
        // Numbers are only ever taken in here: what was not free once will not be.
        while used.contains(&free) {
            free += 1;
        }
        let own = before.unwrap_or(free);
        let (index, known) = match pass.returning.unit(*home, own).filter(|(index, _)| !used.contains(index)) {
            Some((index, uuid)) => (index, Some(uuid)),
            None => (own, predecessors.get(&own).and_then(|last| unit_to_fill(last))),
        };
        used.insert(index);
        let uuid = known.unwrap_or_else(|| pass.moment.random.uuid());
        let unit = Unit { uuid: &uuid, index, members: BTreeMap::new() };
        fill(pass, &unit, *home, next, plan);
    }
}

fn is_unplaced_yet(row: &Row<Container>) -> bool {
    row.host_id.is_none() && matches!(row.meta.state.as_str(), CREATING | STARTING)
}

fn is_serial(row: &Service) -> bool {
    let configs = row.launch_configs();
    let skips = |of: &labels::Labels| labels::is_true(&labels::stored(of), SKIP_SERIALIZE);
    configs.len() > 1 && !configs.iter().any(|(_, config)| config.labels.as_ref().is_some_and(skips))
}

/// Makes the containers that the unit lacks and whose references run.
fn fill(pass: &mut Pass<'_>, unit: &Unit<'_>, host: Option<i64>, next: &mut Row<Service>, plan: &mut Plan) {
    let row = pass.row;
    let Some(stack) = row.environment_id.and_then(|id| pass.world.stacks.get(&id.number())) else { return };
    for (name, config) in row.launch_configs() {
        if unit.members.contains_key(name) {
            continue;
        }
        // The container that has the number is leaving: its successor takes the number over when it is free.
        let mut leaving = pass.leaving.iter().copied();
        if let Some(held) = leaving.find(|it| it.service_index == Some(unit.index) && config_name(it) == name) {
            pass.wait(Some(status_of(held)));
            continue;
        }
        if let Some(kept) = pass.returning.for_place(unit.uuid, name) {
            take_in(pass.world, kept, plan);
            pass.wait(Some(status_of(kept)));
            continue;
        }
        let not_up = references(row, config).find(|on| !unit.members.get(on).is_some_and(|it| is_up(it)));
        if let Some(on) = not_up {
            let status = unit.members.get(on).map(|it| status_of(it));
            pass.wait(status);
            continue;
        }
        next.create_index = Some(next.create_index.unwrap_or(0) + 1);
        let place = Place { config: name, unit, create_index: next.create_index, host };
        if let Some(mut new) = draft(stack, row, place, pass.moment) {
            new.links.extend(consumed(pass.world, row));
            name_services_in_full(pass.world, stack, &mut new.row);
            pass.log.say("Created", &new.row);
            plan.steps.push(Step::ContainerCreate(Box::new(new)));
        }
        pass.wait(None);
    }
}

/// In affinity rules, so that the container's labels say which services are meant.
fn name_services_in_full(world: &World, stack: &Row<Stack>, container: &mut Row<Container>) {
    let Some(labels) = &mut container.labels else { return };
    let Some(own) = labels.get(labels::STACK_SERVICE_NAME).cloned() else { return };
    let is_sibling = |name: &str| {
        let mut services = world.services_of(stack.meta.id).filter(|row| row.meta.removed.is_none());
        services.any(|row| row.meta.name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
    };
    affinity::qualify(labels, &own, is_sibling);
}

/// The last container that had each number.
fn predecessors(world: &World, service: i64) -> BTreeMap<i64, &Row<Container>> {
    let rows = world.containers_of(service);
    rows.filter_map(|row| row.service_index.map(|index| (index, &**row))).collect()
}

/// A container that was removed by itself is made again in its unit. A unit that the service took away is over.
fn unit_to_fill(last: &Row<Container>) -> Option<String> {
    last.deployment_unit_uuid.clone().filter(|_| last.meta.removed.is_some() && !last.unit_ended)
}
