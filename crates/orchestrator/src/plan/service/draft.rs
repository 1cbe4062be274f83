//! What a new container of a service looks like (`services.md` §5).

use remuda_model::names::{container_name, hostname_of};
use remuda_model::ports::PortSpec;
use remuda_model::states::*;
use remuda_model::{Container, Service, Stack, Workload, labels};
use remuda_schema::{Id, Row};

use super::PRIMARY;
use super::units::{Unit, primary_or_sidekick, scheduler_labels};
use crate::balancer;
use crate::plan::{Moment, NewContainer, claims};
use crate::transitions::WANT_RUNNING;
use crate::world::World;

/// Where a new container belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Launch config; [`PRIMARY`] or a sidekick.
    pub config: &'a str,
    pub unit: &'a Unit<'a>,
    pub create_index: Option<i64>,
    /// Host the unit is tied to: that of a global service.
    pub host: Option<i64>,
}

/// The container of that launch config in that unit; `None` when the service has no such launch config.
pub fn draft(stack: &Row<Stack>, service: &Row<Service>, place: Place<'_>, moment: Moment<'_>) -> Option<NewContainer> {
    let configs = service.launch_configs();
    let config = configs.iter().find(|(name, _)| *name == place.config)?.1;
    let sidekick = Some(place.config).filter(|name| *name != PRIMARY);
    let (unit, index, create_index) = (place.unit.uuid, place.unit.index, place.create_index);
    let stack_name = stack.meta.name.clone().unwrap_or_default();
    let service_name = service.meta.name.clone().unwrap_or_default();
    let name = container_name(&stack_name, &service_name, sidekick, index);
    let number = index.to_string();
    let filled = |text: &String| labels::filled_in(text, &stack_name, &service_name, &number);
    let mut labels = labels::stored(&config.labels.clone().unwrap_or_default());
    let has_dns_label = labels.contains_key(labels::CONTAINER_DNS);
    labels::merge(&mut labels, &scheduler_labels(service));
    // In labels a sidekick has its own name, so that rules compare it with its peers.
    let of_config = sidekick.map_or_else(|| service_name.clone(), |name| format!("{service_name}/{name}"));
    labels.values_mut().for_each(|value| *value = labels::filled_in(value, &stack_name, &of_config, &number));
    let full = format!("{stack_name}/{of_config}");
    for (key, value) in [
        (labels::STACK_NAME, stack_name.as_str()),
        (labels::STACK_SERVICE_NAME, full.as_str()),
        (labels::PROJECT_NAME, stack_name.as_str()),
        (labels::PROJECT_SERVICE_NAME, full.as_str()),
        (labels::DEPLOYMENT_UNIT, unit),
        (labels::LAUNCH_CONFIG, place.config),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    if configs.len() > 1 {
        let together = format!("{}={unit}", labels::DEPLOYMENT_UNIT);
        let rule = [(format!("{}_soft", labels::AFFINITY_CONTAINER_LABEL), together)];
        labels::merge(&mut labels, &rule.into());
    }
    if let Some(host) = place.host {
        labels.insert(labels::REQUESTED_HOST_ID.to_owned(), host.to_string());
    }
    let member = |name: &str| place.unit.members.get(primary_or_sidekick(service, name)).map(|row| row.id());
    let network_from = config.network_launch_config.as_deref().and_then(member);
    let volumes_from = config.data_volumes_from_launch_configs.iter().flatten().filter_map(|name| member(name));
    let volumes_from: Vec<_> = config.data_volumes_from.iter().flatten().copied().chain(volumes_from).collect();
    let mut dns_search = config.dns_search.clone().unwrap_or_default();
    if !has_dns_label {
        let (stack_name, service_name) = (stack_name.to_lowercase(), service_name.to_lowercase());
        for domain in
            [format!("{stack_name}.rancher.internal"), format!("{service_name}.{stack_name}.rancher.internal")]
        {
            if !dns_search.contains(&domain) {
                dns_search.push(domain);
            }
        }
    }
    let overridden = labels.get(labels::HOSTNAME_OVERRIDE).map(String::as_str) == Some("container_name");
    let hostname =
        if overridden { Some(hostname_of(&name, config.domain_name.as_deref())) } else { config.hostname.clone() };
    let workload = Workload {
        labels: Some(labels),
        dns_search: Some(dns_search).filter(|domains| !domains.is_empty()),
        hostname,
        data_volumes: config.data_volumes.as_ref().map(|volumes| volumes.iter().map(filled).collect()),
        version: config.version.clone().or_else(|| Some("0".to_owned())),
        ..config.workload.clone()
    };
    let balances = balancer::is_balancer(&service.meta.kind);
    let mut data = Container {
        system_container: balances.then(|| BALANCER_ROLE.to_owned()),
        workload: if balances { balancing(workload) } else { workload },
        create_index,
        deployment_unit_uuid: Some(unit.to_owned()),
        launch_config_name: sidekick.map(str::to_owned),
        service_id: Some(Id::new(service.meta.id)),
        stack_id: Some(Id::new(stack.meta.id)),
        service_index: Some(index),
        desired: WANT_RUNNING.to_owned(),
        start_serial: 1,
        start_on_create: true,
        ..Container::default()
    };
    if !volumes_from.is_empty() {
        data.data_volumes_from = Some(volumes_from);
    }
    if network_from.is_some() {
        data.network_container_id = network_from;
        data.network_mode = Some("container".to_owned());
    }
    if let Some(host) = place.host {
        data.requested_host_id = Some(Id::new(host));
    }
    let mut row = Row::new(service.meta.account_id, CREATING, data);
    row.meta.name = Some(name);
    row.meta.description = config.description.clone();
    row.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.container_start_deadline_ms()));
    let links =
        config.instance_links.iter().flatten().map(|(alias, id)| (alias.clone(), id.map(|id| id.number()))).collect();
    let retained = service.retained.get(&claims::number(sidekick, index)).cloned();
    Some(NewContainer { row, links, requested_address: retained.or_else(|| config.requested_ip_address.clone()) })
}

/// Role of containers that are HAProxy, as the original names it.
const BALANCER_ROLE: &str = "LoadBalancerAgent";

/// A container of a load balancer listens on the ports it publishes, and has the labels by which clients know it. It is
/// not privileged, as the original's was: HAProxy does not need that.
fn balancing(mut workload: Workload) -> Workload {
    let labels = workload.labels.get_or_insert_default();
    labels.insert("io.rancher.container.agent.role".to_owned(), BALANCER_ROLE.to_owned());
    labels.insert("io.rancher.container.create_agent".to_owned(), "true".to_owned());
    workload.ports = workload.ports.as_deref().map(remuda_model::balancer::container_ports);
    let source = |text: &String| PortSpec::parse(text).ok().map(|spec| spec.public.unwrap_or(spec.private).to_string());
    workload.expose = workload.expose.map(|texts| texts.iter().filter_map(source).collect());
    workload
}

/// A link on record for each consumed service; what it leads to is the resolver's business.
pub(super) fn consumed(world: &World, row: &Row<Service>) -> Vec<(String, Option<i64>)> {
    let maps = world.each(&world.consume_maps, &world.consume_maps_by_service, row.meta.id);
    let live = maps.filter(|map| map.meta.is_live());
    let named = live.filter_map(|map| {
        let target = world.services.get(&map.consumed_service_id?.number())?;
        map.meta.name.clone().or_else(|| target.meta.name.clone())
    });
    named.map(|alias| (alias, None)).collect()
}
