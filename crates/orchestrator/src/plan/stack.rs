//! One stack: active at once, healthy as its services are, removed with them (`services.md` §§3, 12).

use remuda_model::states::*;
use remuda_model::{Service, Stack};
use remuda_schema::Row;

use super::service::begin_remove;
use super::{Moment, Plan, removed};
use crate::world::World;

/// Health of services whose containers ran to their end once.
pub const STARTED_ONCE: &str = "started-once";

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.stacks.get(&id) else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REQUESTED | ACTIVATING | UPDATING_ACTIVE => next.meta.enter(ACTIVE),
        ERRORING => next.meta.enter(ERROR),
        REMOVING => {
            // The services go on removing their containers; the name is free at once.
            for service in world.services_of(id).filter(|service| service.meta.is_live()) {
                let mut going = (**service).clone();
                begin_remove(&mut going, moment);
                plan.write(going);
            }
            removed(&mut next.meta, moment);
        }
        _ => {}
    }
    let health = health(world, row);
    if row.meta.is_live() && row.health_state.as_deref() != Some(health) {
        next.health_state = Some(health.to_owned());
    }
    if next != **row {
        plan.write(next);
    }
    plan
}

/// The roll-up over its services.
pub fn health(world: &World, row: &Row<Stack>) -> &'static str {
    let services: Vec<&Row<Service>> =
        world.services_of(row.meta.id).map(AsRef::as_ref).filter(|service| service.meta.is_live()).collect();
    let state = |service: &Row<Service>| service.health_state.clone().unwrap_or_else(|| HEALTHY.to_owned());
    let good = |service: &&&Row<Service>| {
        let is_up = matches!(service.meta.state.as_str(), ACTIVATING | ACTIVE | UPDATING_ACTIVE | "finishing-upgrade");
        is_up && matches!(state(service).as_str(), HEALTHY | STARTED_ONCE)
    };
    let n_good = services.iter().filter(good).count();
    if services.is_empty() {
        HEALTHY
    } else if services.iter().all(|service| state(service) == STARTED_ONCE) {
        STARTED_ONCE
    } else if n_good == services.len() {
        HEALTHY
    } else if services.iter().any(|service| state(service) == INITIALIZING) {
        INITIALIZING
    } else if n_good > 0 {
        DEGRADED
    } else {
        UNHEALTHY
    }
}
