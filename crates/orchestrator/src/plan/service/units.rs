//! The deployment units of a service: one container of each launch config, together on one host (`services.md` §7).

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Host, LaunchConfig, Service, labels};
use remuda_schema::Row;

use super::{PRIMARY, scale};
use crate::scheduler;
use crate::transitions::{WANT_REMOVED, is_start_once};
use crate::world::World;

/// Containers of the service, by what is to become of them.
pub struct Members<'a> {
    /// Not on their way out, by number.
    pub live: Vec<&'a Arc<Row<Container>>>,
    /// On their way out, not removed yet: they still have their number.
    pub leaving: Vec<&'a Arc<Row<Container>>>,
    /// Unhealthy ones that run until another has taken their place, by number.
    pub outgoing: Vec<&'a Arc<Row<Container>>>,
}

/// The containers that count: those kept of an upgrade do not, nor those that another has the number of already.
pub fn members(world: &World, service: i64) -> Members<'_> {
    let mut members = everyone(world, service);
    members.live.retain(|row| is_managed(world, row));
    members.leaving.retain(|row| is_managed(world, row));
    (members.outgoing, members.live) = members.live.into_iter().partition(|row| row.gives_way);
    members
}

/// All its containers, those kept of an upgrade and those that give way too.
pub fn everyone(world: &World, service: i64) -> Members<'_> {
    let (mut live, mut leaving) = (Vec::new(), Vec::new());
    for row in world.containers_of(service) {
        match row.meta.state.as_str() {
            REMOVED | PURGING | PURGED | RESTORING => {}
            REMOVING => leaving.push(row),
            _ if row.desired == WANT_REMOVED => leaving.push(row),
            _ => live.push(row),
        }
    }
    Members { live, leaving, outgoing: Vec::new() }
}

/// Whether the service counts the container as its own: no map says otherwise.
pub fn is_managed(world: &World, row: &Row<Container>) -> bool {
    let mut maps = world.each(&world.expose_maps, &world.expose_maps_by_container, row.meta.id);
    maps.all(|map| map.managed || map.service_id != row.service_id)
}

/// One deployment unit, as far as it exists.
#[derive(Clone, Debug)]
pub struct Unit<'a> {
    pub uuid: &'a str,
    /// The N of its names.
    pub index: i64,
    /// By launch config; the primary one under [`PRIMARY`].
    pub members: BTreeMap<&'a str, &'a Arc<Row<Container>>>,
}

impl Unit<'_> {
    /// Where its containers are, or shall be.
    pub fn host(&self) -> Option<i64> {
        let on = |row: &&Arc<Row<Container>>| row.host_id.or(row.requested_host_id).map(|id| id.number());
        self.members.values().find_map(on)
    }
}

/// The launch config a container was made from.
pub fn config_name(row: &Container) -> &str {
    row.launch_config_name.as_deref().unwrap_or(PRIMARY)
}

/// The units of the service, by number.
pub fn units(world: &World, service: i64) -> Vec<Unit<'_>> {
    group(&members(world, service).live)
}

/// Containers by unit. One that no unit is known of is a unit by itself.
pub fn group<'a>(live: &[&'a Arc<Row<Container>>]) -> Vec<Unit<'a>> {
    let mut units: BTreeMap<&str, Unit<'a>> = BTreeMap::new();
    for row in live.iter().copied() {
        let uuid = row.deployment_unit_uuid.as_deref().unwrap_or(&row.meta.uuid);
        let index = row.service_index.unwrap_or(0);
        let unit = units.entry(uuid).or_insert_with(|| Unit { uuid, index, members: BTreeMap::new() });
        unit.members.insert(config_name(row), row);
    }
    let mut units: Vec<Unit<'a>> = units.into_values().collect();
    units.sort_by_key(|unit| (unit.index, unit.members.values().map(|row| row.meta.id).min()));
    units
}

/// How many units a service that is not global shall have now.
pub fn wanted(row: &Service) -> usize {
    let scale = row.scale_policy.as_ref().map_or(row.scale.unwrap_or(1), |policy| scale::current(row, policy));
    if row.launch_configs().is_empty() { 0 } else { usize::try_from(scale).unwrap_or(0) }
}

/// With how many units it is healthy.
pub fn needed(row: &Service) -> usize {
    match &row.scale_policy {
        Some(policy) if !row.launch_configs().is_empty() => usize::try_from(policy.least()).unwrap_or(0),
        _ => wanted(row),
    }
}

/// Launch configs that one refers to. The service's own name, also a former one, stands for the primary.
pub fn references<'a>(row: &'a Service, config: &'a LaunchConfig) -> impl Iterator<Item = &'a str> {
    config.references().map(|name| primary_or_sidekick(row, name))
}

pub fn primary_or_sidekick<'a>(row: &Service, name: &'a str) -> &'a str {
    let mut sidekicks = row.secondary_launch_configs.iter().flatten();
    if sidekicks.any(|sidekick| sidekick.name.as_deref() == Some(name)) { name } else { PRIMARY }
}

/// Platform labels for the scheduler, of every launch config: a unit is placed as one (`services.md` §5.3).
pub fn scheduler_labels(row: &Service) -> labels::Labels {
    let mut merged = labels::Labels::new();
    for (_, config) in row.launch_configs() {
        let of = labels::stored(&config.labels.clone().unwrap_or_default());
        labels::merge(
            &mut merged,
            &of.into_iter().filter(|(key, _)| key.starts_with(labels::SCHEDULER_PREFIX)).collect(),
        );
    }
    merged
}

/// Hosts that shall have a unit of a global service (`services.md` §6.2).
pub fn eligible_hosts(world: &World, row: &Service) -> Vec<i64> {
    let rules = scheduler_labels(row);
    let fits =
        |host: &&Arc<Row<Host>>| scheduler::is_candidate(world, host) && meets_host_labels(world, host.meta.id, &rules);
    world.hosts.values().filter(fits).map(|host| host.meta.id).collect()
}

/// Whether the host meets the hard host-label rules.
pub fn meets_host_labels(world: &World, host: i64, rules: &labels::Labels) -> bool {
    world.hosts.get(&host).is_some_and(|row| scheduler::affinity::meets_host_labels(row, rules))
}

/// Ran once and is done, or is not meant to run again by itself.
pub fn ran_once(row: &Row<Container>) -> bool {
    is_start_once(row)
        && row.first_running.is_some()
        && matches!(row.meta.state.as_str(), STOPPED | STOPPING | UPDATING_STOPPED)
}

/// What refers to it may be made or started.
pub fn is_up(row: &Row<Container>) -> bool {
    matches!(row.meta.state.as_str(), RUNNING | UPDATING_RUNNING) || ran_once(row)
}
