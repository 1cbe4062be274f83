//! One project: its processes; and when its removal can no longer be undone, everything in it goes
//! (`resources.md` §2.2).

use std::sync::Arc;

use remuda_model::states::*;

use super::{Moment, Plan, ended, host, purged, removed, service};
use crate::transitions;
use crate::world::World;

pub fn plan(world: &World, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = &world.project else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REQUESTED | REGISTERING | ACTIVATING | UPDATING_ACTIVE => next.meta.enter(ACTIVE),
        UPDATING_INACTIVE | DEACTIVATING => next.meta.enter(INACTIVE),
        RESTORING => {
            next.meta.enter(INACTIVE);
            next.meta.removed = None;
            next.meta.remove_time = None;
        }
        REMOVING => removed(&mut next.meta, moment),
        REMOVED => {
            let due = row.meta.remove_time.unwrap_or(moment.now);
            if due > moment.now {
                plan.look_again(due);
            } else {
                next.meta.enter(PURGING);
                next.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
            }
        }
        PURGING => {
            let n_left = empty(world, moment, &mut plan);
            if n_left == 0 {
                purged(&mut next.meta, moment);
            } else {
                next.meta.progress.message = Some(format!("Waiting for {n_left} resource(s) of the environment to go"));
                plan.look_again(moment.now.plus_ms(1000));
            }
        }
        _ => {}
    }
    if next != **row {
        plan.write(next);
    }
    plan
}

/// Takes everything away; how much is still there.
fn empty(world: &World, moment: Moment<'_>, plan: &mut Plan) -> usize {
    let deadline = moment.now.plus_ms(moment.settings.process_deadline_ms());
    let mut n_left = 0;
    for row in world.credentials.values() {
        plan.write(ended(Arc::clone(row), moment));
    }
    for row in world.stacks.values().filter(|row| row.meta.is_live()) {
        let mut going = (**row).clone();
        going.meta.enter(REMOVING);
        going.meta.progress.deadline = Some(deadline);
        plan.write(going);
        n_left += 1;
    }
    for row in world.services.values() {
        n_left += 1;
        if row.meta.is_live() && !world.stacks.contains_key(&row.environment_id.map_or(0, |id| id.number())) {
            let mut going = (**row).clone();
            service::begin_remove(&mut going, moment);
            plan.write(going);
        }
    }
    for row in world.containers.values().filter(|row| row.meta.removed.is_none()) {
        n_left += 1;
        let mut going = (**row).clone();
        if row.service_id.is_none() && transitions::remove(&mut going, moment.settings, moment.now) {
            plan.write(going);
        }
    }
    for row in world.hosts.values().filter(|row| row.meta.removed.is_none()) {
        n_left += 1;
        if n_containers_left(world) == 0 && row.meta.state != REMOVING {
            let mut going = (**row).clone();
            host::begin(&mut going, REMOVING, moment);
            plan.write(going);
        }
    }
    if n_left > 0 {
        return n_left;
    }
    let volumes = world.volumes.values().filter(|row| row.instance_id.is_none()).cloned();
    volumes.for_each(|row| plan.write(ended(row, moment)));
    world.networks.values().for_each(|row| plan.write(ended(Arc::clone(row), moment)));
    world.members.values().for_each(|row| plan.write(ended(Arc::clone(row), moment)));
    0
}

fn n_containers_left(world: &World) -> usize {
    world.containers.values().filter(|row| row.meta.removed.is_none()).count()
}
