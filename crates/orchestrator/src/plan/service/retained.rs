//! Addresses that stay with a number of a launch config, whichever container has it (`services.md` §9.3).
//!
//! The service notes the address of each number. The claim on it is the container's while that serves, and the service's
//! in between: when the container is removed, or set aside by an upgrade, it goes to the service, and from there to the
//! next container of the number.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::{REMOVED, REMOVING};
use remuda_model::{Container, Service};
use remuda_schema::Row;

use super::units::{everyone, is_managed, members};
use crate::plan::{Plan, Step, claims};
use crate::world::World;

/// Number and address of a container that has both.
fn of(container: &Container) -> Option<(String, &str)> {
    let number = claims::number(container.launch_config_name.as_deref(), container.service_index?);
    let managed = container.network_mode.as_deref() == Some("managed");
    Some((number, container.primary_ip_address.as_deref().filter(|_| managed)?))
}

fn retains(service: &Row<Service>) -> bool {
    service.retain_ip == Some(true) && !matches!(service.meta.state.as_str(), REMOVING | REMOVED)
}

/// Notes the addresses of the containers there are.
pub fn note(world: &World, row: &Row<Service>, next: &mut Row<Service>) {
    if retains(row) {
        let live = members(world, row.meta.id).live;
        next.retained.extend(live.iter().filter_map(|row| of(row)).map(|(number, of)| (number, of.to_owned())));
    }
}

/// Gives up the addresses of numbers that nobody has any more, once all is as it shall be.
pub fn give_up_unused(world: &World, row: &Row<Service>, next: &mut Row<Service>, plan: &mut Plan) {
    let used: BTreeSet<String> =
        everyone(world, row.meta.id).live.iter().filter_map(|row| of(row)).map(|(number, _)| number).collect();
    let project = row.meta.account_id.unwrap_or(0);
    for (_, address) in next.retained.extract_if(.., |number, _| !used.contains(number)) {
        plan.steps.push(Step::Release(claims::retained_address(project, &address, row.meta.id)));
    }
}

/// A container is removed: the service keeps its address. The row of the service is written with it, so that of this and
/// of [`give_up_unused`] one is planned again when both happen in the same moment.
pub fn keep_of_removed(world: &World, container: &Row<Container>, plan: &mut Plan) {
    let n_before = plan.steps.len();
    keep(world, container, plan);
    let service = container.service_id.and_then(|id| world.services.get(&id.number()));
    if let Some(service) = service.filter(|_| plan.steps.len() > n_before) {
        plan.write(Arc::clone(service));
    }
}

/// The service keeps the address of a container that goes.
pub fn keep(world: &World, container: &Row<Container>, plan: &mut Plan) {
    let service = container.service_id.and_then(|id| world.services.get(&id.number())).filter(|row| retains(row));
    let (Some(service), Some((number, address))) = (service, of(container)) else { return };
    // What was set aside has given its address away already.
    if service.retained.get(&number).map(String::as_str) != Some(address) || !is_managed(world, container) {
        return;
    }
    let project = container.meta.account_id.unwrap_or(0);
    plan.steps.push(Step::Release(claims::address(project, address, container.meta.id)));
    plan.steps.push(Step::Claim(claims::retained_address(project, address, service.meta.id)));
}

/// A container that comes back has its address again.
pub fn give_back(world: &World, container: &Row<Container>, plan: &mut Plan) {
    let service = container.service_id.and_then(|id| world.services.get(&id.number())).filter(|row| retains(row));
    let (Some(service), Some((_, address))) = (service, of(container)) else { return };
    let project = container.meta.account_id.unwrap_or(0);
    plan.steps.push(Step::Release(claims::retained_address(project, address, service.meta.id)));
    plan.steps.push(Step::Claim(claims::address(project, address, container.meta.id)));
}
