//! What a new container of a service looks like (`services.md` §5).

use remuda_model::states::*;
use remuda_model::{Container, LaunchConfig, Service, Stack};
use remuda_schema::{Id, Row};

use super::PRIMARY;
use crate::plan::{Moment, NewContainer};
use crate::transitions::WANT_RUNNING;
use crate::world::World;

/// The container with that number (`services.md` §5).
pub(super) fn draft(
    stack: &Row<Stack>,
    service: &Row<Service>,
    config: &LaunchConfig,
    index: i64,
    create_index: Option<i64>,
    unit: &str,
    moment: Moment<'_>,
) -> NewContainer {
    let stack_name = stack.meta.name.clone().unwrap_or_default();
    let service_name = service.meta.name.clone().unwrap_or_default();
    let name = format!("{stack_name}_{service_name}_{index}");
    let mut labels = crate::rows::with_lowercase_platform_keys(config.labels.clone().unwrap_or_default());
    let has_dns_label = labels.contains_key("io.rancher.container.dns");
    let full = format!("{stack_name}/{service_name}");
    for (key, value) in [
        ("io.rancher.stack.name", stack_name.as_str()),
        ("io.rancher.stack_service.name", full.as_str()),
        ("io.rancher.project.name", stack_name.as_str()),
        ("io.rancher.project_service.name", full.as_str()),
        ("io.rancher.service.deployment.unit", unit),
        ("io.rancher.service.launch.config", PRIMARY),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
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
    let overridden = labels.get("io.rancher.container.hostname_override").map(String::as_str) == Some("container_name");
    let hostname = if overridden {
        Some(hostname_of(&name, index, config.domain_name.as_deref()))
    } else {
        config.hostname.clone()
    };
    let data = Container {
        labels: Some(labels),
        dns_search: Some(dns_search).filter(|domains| !domains.is_empty()),
        hostname,
        create_index,
        deployment_unit_uuid: Some(unit.to_owned()),
        version: config.version.clone().or_else(|| Some("0".to_owned())),
        service_id: Some(Id::new(service.meta.id)),
        stack_id: Some(Id::new(stack.meta.id)),
        service_index: Some(index),
        desired: WANT_RUNNING.to_owned(),
        start_serial: 1,
        start_on_create: true,
        ..crate::rows::container_of(config)
    };
    let mut row = Row::new(service.meta.account_id, CREATING, data);
    row.meta.name = Some(name);
    row.meta.description = config.description.clone();
    row.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.container_start_deadline_ms()));
    let links =
        config.instance_links.iter().flatten().map(|(alias, id)| (alias.clone(), id.map(|id| id.number()))).collect();
    NewContainer { row, links, requested_address: config.requested_ip_address.clone() }
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

/// The container name as host name: with the domain at most 64 characters, the number kept.
fn hostname_of(name: &str, index: i64, domain: Option<&str>) -> String {
    let suffix = format!("_{index}");
    let room = 64_usize.saturating_sub(domain.map_or(0, |domain| domain.chars().count() + 1));
    if name.chars().count() <= room {
        return name.to_owned();
    }
    let base = name.strip_suffix(&suffix).unwrap_or(name);
    let kept: String = base.chars().take(room.saturating_sub(suffix.chars().count())).collect();
    format!("{kept}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_become_host_names_that_keep_the_number() {
        let name = format!("s_{}_12", "w".repeat(63));
        assert_eq!(hostname_of(&name, 12, None).len(), 64);
        assert!(hostname_of(&name, 12, Some("example.com")).ends_with("w_12"));
        assert_eq!(hostname_of("s_web_1", 1, None), "s_web_1");
    }
}
