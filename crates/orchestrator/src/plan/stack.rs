//! One stack: active at once, healthy as its services are, removed with them (`services.md` §§3, 12).

pub mod upgrade;

use remuda_model::states::*;

use super::health::stack_health;
use super::service::begin_remove;
use super::{Moment, Plan, Step, removed};
use crate::world::World;

/// What a service of the stack is still being made or started for.
fn unsettled(world: &World, id: i64) -> Option<String> {
    let mut services = world.services_of(id).filter(|row| row.meta.is_live());
    let row = services.find(|row| matches!(row.meta.state.as_str(), REQUESTED | REGISTERING | ACTIVATING))?;
    Some(upgrade::told(row))
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
        UPGRADING => upgrade::plan(world, row, &mut next, moment, &mut plan),
        FINISHING_UPGRADE | ROLLING_BACK => upgrade::end(world, row, &mut next, &mut plan),
        CANCELING_UPGRADE | CANCELING_ROLLBACK => next.meta.enter(CANCELED_UPGRADE),
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
    // What is asked of services writes the row of the stack, too.
    if plan.steps.iter().any(|step| matches!(step, Step::StackWork(_))) {
        return plan;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn the_health_of_a_stack_is_that_of_its_services() {
        const RAN: &str = "started-once";
        for (services, expected) in [
            (&[(ACTIVE, HEALTHY), (ACTIVE, HEALTHY)][..], HEALTHY),
            (&[(ACTIVE, RAN), (ACTIVE, RAN)], RAN),
            (&[(ACTIVE, RAN), (UPGRADED, HEALTHY)], HEALTHY),
            (&[(ACTIVE, HEALTHY), (ACTIVE, INITIALIZING)], INITIALIZING),
            (&[(ACTIVE, HEALTHY), (ACTIVE, UNHEALTHY)], DEGRADED),
            // One that nobody started counts as not healthy, whatever it says.
            (&[(ACTIVE, HEALTHY), (INACTIVE, HEALTHY)], DEGRADED),
            (&[(INACTIVE, HEALTHY)], UNHEALTHY),
            (&[(ACTIVE, UNHEALTHY), (ROLLING_BACK, DEGRADED)], UNHEALTHY),
            (&[(ACTIVE, HEALTHY), (REMOVING, UNHEALTHY)], HEALTHY),
            (&[(REMOVING, UNHEALTHY)], HEALTHY),
        ] {
            let w = services.iter().enumerate().fold(world(), |w, (idx, (state, health))| {
                let name = format!("s{idx}");
                w.service(&name, 1).change_service(&name, |row| {
                    row.meta.enter(state);
                    row.health_state = Some((*health).to_owned());
                })
            });
            let row = w.world.stacks.values().next().expect("a stack");
            assert_eq!(stack_health(&w.world, row), expected, "{services:?}");
        }
    }
}
