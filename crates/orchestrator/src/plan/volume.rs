//! One volume (`resources-infra.md` §6): its processes, and the wait for the host that deletes it.

use remuda_model::Volume;
use remuda_model::states::*;
use remuda_schema::Row;

use super::{Moment, Plan, purged, removed};
use crate::world::World;

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.volumes.get(&id) else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REGISTERING | DEACTIVATING | UPDATING_INACTIVE | RESTORING => {
            next.meta.enter(INACTIVE);
            next.meta.removed = None;
            next.meta.remove_time = None;
        }
        ACTIVATING | UPDATING_ACTIVE => next.meta.enter(ACTIVE),
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
        PURGING if !is_on_a_host(world, row) => purged(&mut next.meta, moment),
        _ => {}
    }
    if next != **row {
        plan.write(next);
    }
    plan
}

/// Something of the volume can still be deleted on a host: it is named, no host path, and its host is there.
pub fn is_on_a_host(world: &World, row: &Row<Volume>) -> bool {
    let host = row.host_id.and_then(|id| world.hosts.get(&id.number()));
    host.is_some_and(|host| host.meta.is_live())
        && !row.is_host_path
        && row.meta.name.as_deref().is_some_and(|name| !name.is_empty() && !name.starts_with('/'))
        && row.device_number != Some(0)
}
