//! One host: its processes, the rows that describe it, and what goes with it (`resources-infra.md` §3).

pub mod clearing;
pub mod lost;

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Host, IpAddress, Label};
use remuda_schema::Row;

use super::health::endpoints;
use super::{Moment, Plan, Step, claims, ended, purged, removed};
use crate::transitions;
use crate::world::World;

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.hosts.get(&id) else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REQUESTED | REGISTERING => begin(&mut next, ACTIVATING, moment),
        ACTIVATING | UPDATING_ACTIVE => next.meta.enter(ACTIVE),
        DEACTIVATING | UPDATING_INACTIVE => next.meta.enter(INACTIVE),
        RESTORING => {
            next.meta.enter(INACTIVE);
            next.meta.removed = None;
            next.meta.remove_time = None;
        }
        REMOVING => remove(world, row, &mut next, moment, &mut plan),
        REMOVED => {
            let due = row.meta.remove_time.unwrap_or(moment.now);
            if due > moment.now { plan.look_again(due) } else { purge(world, row, &mut next, moment, &mut plan) }
        }
        PURGING => purge(world, row, &mut next, moment, &mut plan),
        _ => {}
    }
    let agent_state = world.agent_of(row).map(|agent| agent.meta.state.clone());
    if agent_state.is_some() && row.agent_state != agent_state {
        next.agent_state = agent_state;
    }
    if row.meta.is_live() && row.meta.state != REMOVING {
        clearing::watch(world, row, &mut next, moment, &mut plan);
        lost::watch(world, row, &mut next, moment, &mut plan);
    }
    if row.meta.is_live() {
        let public = endpoints(world, world.containers_on(id).map(AsRef::as_ref));
        if row.public_endpoints.as_ref().map_or(!public.is_empty(), |known| *known != public) {
            next.public_endpoints = Some(public);
        }
        keep_labels(world, row, moment, &mut plan);
        keep_address(world, row, moment, &mut plan);
    }
    if next != **row {
        plan.write(next);
    }
    plan
}

/// Enters a transitional state.
pub fn begin(row: &mut Row<Host>, state: &str, moment: Moment<'_>) {
    row.meta.enter(state);
    row.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
}

/// Label rows say what the `labels` field says.
fn keep_labels(world: &World, row: &Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let mut wanted: BTreeMap<&str, &str> =
        row.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for label in world.each(&world.labels, &world.labels_by_host, row.meta.id) {
        let (key, value) = (label.key.as_deref().unwrap_or_default(), label.value.as_deref().unwrap_or_default());
        if wanted.get(key) == Some(&value) {
            wanted.remove(key);
        } else {
            plan.write(ended(Arc::clone(label), moment));
        }
    }
    for (key, value) in wanted {
        let data = Label {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
            r#type: Some("host".to_owned()),
            host_id: Some(row.id()),
            ..Label::default()
        };
        plan.insert(Row::new(row.meta.account_id, CREATED, data));
    }
}

/// The address row follows the registered address.
fn keep_address(world: &World, row: &Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let mut found = false;
    for address in world.each(&world.addresses, &world.addresses_by_host, row.meta.id) {
        if address.instance_id.is_some() {
            continue;
        }
        if !found && row.agent_ip.is_some() {
            found = true;
            if address.address != row.agent_ip {
                let mut moved = (**address).clone();
                moved.address.clone_from(&row.agent_ip);
                plan.write(moved);
            }
        } else {
            plan.write(ended(Arc::clone(address), moment));
        }
    }
    if let (false, Some(address)) = (found, &row.agent_ip) {
        let data = IpAddress { address: Some(address.clone()), host_id: Some(row.id()), ..IpAddress::default() };
        let mut address = Row::new(row.meta.account_id, ACTIVE, data);
        address.meta.kind = "ipAddress".to_owned();
        plan.insert(address);
    }
}

/// Its containers first; then agent, pool and address; the host last.
fn remove(world: &World, row: &Row<Host>, next: &mut Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    let id = row.meta.id;
    let mut n_left = 0;
    for container in world.containers_on(id).filter(|row| row.meta.removed.is_none()) {
        n_left += 1;
        let mut leaving = (**container).clone();
        if transitions::remove(&mut leaving, moment.settings, moment.now) {
            plan.write(leaving);
        }
    }
    if n_left > 0 {
        next.meta.progress.message = Some(format!("Waiting for {n_left} container(s) of the host to be removed"));
        return plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    for pool in world.each(&world.storage_pools, &world.pools_by_host, id) {
        plan.write(ended(Arc::clone(pool), moment));
    }
    for address in world.each(&world.addresses, &world.addresses_by_host, id) {
        plan.write(ended(Arc::clone(address), moment));
    }
    if let Some(physical) = row.physical_host_id.and_then(|id| world.physical_hosts.get(&id.number())) {
        plan.write(ended(Arc::clone(physical), moment));
    }
    if let Some(agent) = row.agent_id {
        plan.steps.push(Step::AgentRemove(agent.number()));
    }
    plan.steps.push(Step::ReleaseAll(claims::host(id)));
    next.network_address = None;
    next.network_peers = None;
    next.agent_state = Some(REMOVED.to_owned());
    next.public_endpoints = row.public_endpoints.as_ref().map(|_| Vec::new());
    removed(&mut next.meta, moment);
}

/// Local volumes lose their place; their names can be used again.
fn purge(world: &World, row: &Row<Host>, next: &mut Row<Host>, moment: Moment<'_>, plan: &mut Plan) {
    for volume in world.each(&world.volumes, &world.volumes_by_host, row.meta.id) {
        let mut unplaced = (**volume).clone();
        unplaced.host_id = None;
        unplaced.storage_pool_id = None;
        if unplaced.meta.state == ACTIVE {
            unplaced.meta.enter(INACTIVE);
        }
        plan.write(unplaced);
    }
    for label in world.each(&world.labels, &world.labels_by_host, row.meta.id) {
        plan.write(ended(Arc::clone(label), moment));
    }
    purged(&mut next.meta, moment);
}
