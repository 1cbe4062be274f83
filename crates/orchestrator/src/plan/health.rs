//! Verdicts and addresses that follow from containers: health of services and stacks, public endpoints.

use std::collections::BTreeMap;

use remuda_model::states::*;
use remuda_model::{Container, PublicEndpoint, Service, Stack};
use remuda_schema::Row;

use super::service::units::{members, needed, ran_once};
use crate::world::World;

/// Health of services whose containers ran to their end once.
pub const STARTED_ONCE: &str = "started-once";

/// Health of a service (`services.md` §12).
pub fn health(world: &World, row: &Row<Service>) -> &'static str {
    let is_global = row.is_global();
    let managed = members(world, row.meta.id).live;
    let expected = if is_global { managed.len() } else { needed(row) * row.launch_configs().len() };
    let (mut n_good, mut n_initializing, mut n_once) = (0, 0, 0);
    for container in managed {
        let host = container.host_id.and_then(|id| world.hosts.get(&id.number()));
        let runs = matches!(container.meta.state.as_str(), RUNNING | UPDATING_RUNNING)
            && host.is_none_or(|host| host.lost_since.is_none());
        match container.health_state.as_deref() {
            _ if ran_once(container) => n_once += 1,
            None | Some(HEALTHY | "updating-healthy") if runs => n_good += 1,
            Some(INITIALIZING | REINITIALIZING) if runs => n_initializing += 1,
            _ => {}
        }
    }
    if n_once > 0 && n_once >= expected {
        STARTED_ONCE
    } else if n_good + n_once >= expected && (!is_global || n_good + n_once > 0) {
        HEALTHY
    } else if n_initializing > 0 {
        INITIALIZING
    } else if n_good > 0 {
        DEGRADED
    } else {
        UNHEALTHY
    }
}

/// Published ports of running containers, without repetition (`services.md` §13).
pub fn endpoints<'a>(world: &World, containers: impl Iterator<Item = &'a Row<Container>>) -> Vec<PublicEndpoint> {
    let mut endpoints: BTreeMap<(String, i64), PublicEndpoint> = BTreeMap::new();
    for container in containers {
        let Some(host) = container.host_id.and_then(|id| world.hosts.get(&id.number())) else { continue };
        for port in world.ports_of(container.meta.id).filter(|port| port.meta.state == ACTIVE) {
            let Some(public) = port.public_port else { continue };
            let bound = port.bind_address.clone().filter(|address| !matches!(address.as_str(), "" | "0.0.0.0" | "::"));
            let Some(address) = bound.or_else(|| host.agent_ip.clone()) else { continue };
            endpoints.insert(
                (address.clone(), public),
                PublicEndpoint {
                    host_id: Some(host.id()),
                    instance_id: Some(container.id().cast()),
                    ip_address: Some(address),
                    port: Some(public),
                    service_id: container.service_id,
                },
            );
        }
    }
    endpoints.into_values().collect()
}

/// The roll-up of a stack over its services (`services.md` §12).
pub fn stack_health(world: &World, row: &Row<Stack>) -> &'static str {
    let services: Vec<&Row<Service>> =
        world.services_of(row.meta.id).map(AsRef::as_ref).filter(|service| service.meta.is_live()).collect();
    let state = |service: &Row<Service>| service.health_state.clone().unwrap_or_else(|| HEALTHY.to_owned());
    let good = |service: &&&Row<Service>| {
        is_active_like(&service.meta.state) && matches!(state(service).as_str(), HEALTHY | STARTED_ONCE)
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
