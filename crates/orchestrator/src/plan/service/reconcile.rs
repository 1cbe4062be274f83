//! The pass that brings a service to its scale (`services.md` §8): what is bad goes, what is too much goes, what is
//! missing is made, what stopped is started. The answer of a pass is what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Service};
use remuda_schema::{Row, Time};

use super::draft::{consumed, draft};
use super::units::{Members, members, ran_once, wanted};
use super::{AT_ONCE, begin, status_of, take_away};
use crate::plan::{Moment, Plan, Step};
use crate::scheduler::{self, Placement};
use crate::transitions;
use crate::world::{World, is_unplaced};

pub fn reconcile(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    if row.meta.state == ACTIVATING {
        let awaited = row.awaited_services.iter().filter_map(|id| world.services.get(&id.number()));
        if let Some(other) = awaited.into_iter().find(|other| other.meta.state == ACTIVATING) {
            let name = other.meta.name.clone().unwrap_or_else(|| other.public_id());
            next.meta.progress.message = Some(format!("Waiting for consumed service {name}"));
            next.meta.progress.percent = Some(0);
            return plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
        }
    }
    next.awaited_services.clear();
    let scale = wanted(row);
    let Members { live, mut leaving } = members(world, row.meta.id);
    let mut waiting: Option<String> = None;
    let mut settled = true;
    let mut keep: Vec<&Arc<Row<Container>>> = Vec::new();
    for container in &live {
        let host = container.host_id.and_then(|id| world.hosts.get(&id.number()));
        let host_is_gone =
            container.host_id.is_some() && host.is_none_or(|host| !host.meta.is_live() || host.meta.state == REMOVING);
        if host_is_gone {
            take_away(container, row, "Service instance in a bad state is removed by service.reconcile", moment, plan);
            leaving.push(*container);
            settled = false;
        } else if matches!(container.meta.state.as_str(), ERROR | ERRORING) {
            settled = false;
            let due = replace_after(world, row.meta.id, container, moment);
            if due > moment.now {
                plan.look_again(due);
                waiting.get_or_insert_with(|| status_of(container));
                keep.push(container);
            } else {
                take_away(
                    container,
                    row,
                    "Service instance in a bad state is removed by service.reconcile",
                    moment,
                    plan,
                );
                leaving.push(*container);
            }
        } else {
            keep.push(container);
        }
    }
    if keep.len() > scale {
        keep.sort_by_key(|container| order_of_leaving(container));
        for container in keep.drain(..keep.len() - scale).take(AT_ONCE) {
            take_away(container, row, "Extra service instance is removed by service.reconcile", moment, plan);
        }
        settled = false;
    }
    for container in &keep {
        match container.meta.state.as_str() {
            RUNNING | UPDATING_RUNNING => {}
            _ if ran_once(container) => {}
            STOPPED if !start_is_due(container, moment, plan) => {
                settled = false;
                waiting.get_or_insert_with(|| status_of(container));
            }
            STOPPED => {
                let mut started = (***container).clone();
                transitions::start(&mut started, moment.settings, moment.now);
                plan.write(started);
                settled = false;
            }
            ERROR | ERRORING => {}
            _ => {
                settled = false;
                waiting.get_or_insert_with(|| status_of(container));
            }
        }
    }
    if keep.len() < scale {
        settled = false;
        waiting = {
            let n_missing = scale - keep.len();
            let members = Members { live: keep, leaving };
            create_missing(world, row, next, &members, n_missing, moment, plan).or(waiting)
        };
    }
    // Those that leave are no reason to call the service unsettled, except for a number that is awaited.
    if settled {
        if row.meta.state != ACTIVE {
            next.meta.enter(ACTIVE);
        }
        return;
    }
    if row.meta.state == ACTIVE {
        begin(next, UPDATING_ACTIVE, moment);
    }
    if next.meta.progress.message != waiting && waiting.is_some() {
        next.meta.progress.message = waiting;
    }
    let deadline = next.meta.progress.deadline.unwrap_or(moment.now);
    if deadline <= moment.now {
        next.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
}

/// A container that stopped by itself is started again; after repeated exits with growing pauses.
fn start_is_due(container: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) -> bool {
    match container.meta.progress.deadline {
        Some(due) if due > moment.now => {
            plan.look_again(due);
            false
        }
        _ => true,
    }
}

/// Unhealthy first, then what does not run yet, then the newest.
fn order_of_leaving(container: &Row<Container>) -> (u8, i64) {
    let rank = match (container.meta.state.as_str(), container.health_state.as_deref()) {
        (ERROR | ERRORING, _) | (_, Some(UNHEALTHY)) => 0,
        (_, Some(INITIALIZING)) => 1,
        (RUNNING | UPDATING_RUNNING, _) => 3,
        _ => 2,
    };
    (rank, -container.create_index.unwrap_or(container.meta.id))
}

/// When a container in `error` is replaced: at once when no host took it and one would now, else after a pause that
/// doubles with each failure of the same number.
fn replace_after(world: &World, service: i64, container: &Row<Container>, moment: Moment<'_>) -> Time {
    if is_unplaced(container) && matches!(scheduler::place(world, container), Placement::On(_)) {
        return container.meta.created;
    }
    let failures = world
        .containers_of(service)
        .filter(|other| other.meta.id != container.meta.id && other.service_index == container.service_index)
        .filter(|other| other.first_running.is_none() && other.meta.removed.is_some())
        .count();
    let pause = moment.settings.error_replace_after_ms() << failures.min(10);
    container.meta.created.plus_ms(pause.min(moment.settings.error_replace_after_ms().max(60_000)))
}

/// Makes what is missing. The answer is what the pass waits for, if a number is still taken.
fn create_missing(
    world: &World,
    row: &Row<Service>,
    next: &mut Row<Service>,
    members: &Members<'_>,
    n_missing: usize,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> Option<String> {
    let stack = world.stacks.get(&row.environment_id?.number())?;
    let config = row.launch_config.as_ref()?;
    let Members { live: keep, leaving } = members;
    let index_of = |container: &&Arc<Row<Container>>| container.service_index;
    let mut used: BTreeSet<i64> = keep.iter().filter_map(index_of).collect();
    let held: BTreeMap<i64, &Arc<Row<Container>>> =
        leaving.iter().filter_map(|container| Some((container.service_index?, *container))).collect();
    let mut waiting = None;
    for _ in 0..n_missing.min(AT_ONCE) {
        let index = (1..).find(|index| !used.contains(index)).unwrap_or(1);
        used.insert(index);
        // The container that has the number is leaving: its successor takes the number over when it is free.
        if let Some(container) = held.get(&index) {
            waiting.get_or_insert_with(|| status_of(container));
            continue;
        }
        next.create_index = Some(next.create_index.unwrap_or(0) + 1);
        let unit = unit_of_predecessor(world, row.meta.id, index).unwrap_or_else(|| moment.random.uuid());
        let mut new = draft(stack, row, config, index, next.create_index, &unit, moment);
        new.links.extend(consumed(world, row));
        plan.steps.push(Step::ContainerCreate(Box::new(new)));
    }
    if n_missing > AT_ONCE {
        plan.look_again(moment.now);
    }
    waiting
}

/// A container that was removed by itself is made again in its unit.
fn unit_of_predecessor(world: &World, service: i64, index: i64) -> Option<String> {
    let mut before = world.containers_of(service).rev();
    before.find(|row| row.service_index == Some(index) && row.meta.removed.is_some())?.deployment_unit_uuid.clone()
}
