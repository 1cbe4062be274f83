//! One stack: active at once, healthy as its services are, removed with them (`services.md` §§3, 12).

use remuda_model::states::*;

use super::health::stack_health;
use super::service::begin_remove;
use super::{Moment, Plan, removed};
use crate::world::World;

/// What a service of the stack is still being made or started for.
fn unsettled(world: &World, id: i64) -> Option<String> {
    let mut services = world.services_of(id).filter(|row| row.meta.is_live());
    let row = services.find(|row| matches!(row.meta.state.as_str(), REQUESTED | REGISTERING | ACTIVATING))?;
    let name = row.meta.name.as_deref().unwrap_or_default();
    Some(match &row.meta.progress.message {
        Some(message) => format!("Service {name}: {message}"),
        None => format!("Service {name} is {}", row.meta.state),
    })
}

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.stacks.get(&id) else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REQUESTED | ACTIVATING if row.docker_compose.is_some() => match unsettled(world, id) {
            Some(why) => next.meta.progress.message = Some(why),
            None => next.meta.enter(ACTIVE),
        },
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
    let health = stack_health(world, row);
    if row.meta.is_live() && row.health_state.as_deref() != Some(health) {
        next.health_state = Some(health.to_owned());
    }
    if next != **row {
        plan.write(next);
    }
    plan
}
