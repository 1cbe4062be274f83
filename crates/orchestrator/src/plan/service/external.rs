//! The maps of an external service: one for each of its addresses, or one with its name, while it is active
//! (`services.md` §15.3). Clients count them; DNS and balancers read the service itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::{ACTIVE, is_active_like};
use remuda_model::{ExternalService, Service, ServiceExposeMap};
use remuda_schema::{Resource, Row};

use crate::plan::{Moment, Plan, ended};
use crate::world::World;

/// Makes and ends maps so that they say what the service says.
pub fn maps(world: &World, row: &Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    if row.meta.kind != ExternalService::TYPE {
        return;
    }
    let mut wanted: BTreeSet<(Option<String>, Option<String>)> = BTreeSet::new();
    if is_active_like(&row.meta.state) {
        let addresses = row.external_ip_addresses.iter().flatten();
        wanted.extend(addresses.map(|address| (Some(address.clone()), None)));
        let hostname = row.hostname.clone().filter(|name| !name.is_empty());
        wanted.extend(hostname.map(|name| (None, Some(name))));
    }
    for map in world.each(&world.expose_maps, &world.expose_maps_by_service, row.meta.id) {
        let is_place = map.instance_id.is_none() && map.meta.is_live();
        if is_place && !wanted.remove(&(map.ip_address.clone(), map.host_name.clone())) {
            plan.write(ended(Arc::clone(map), moment));
        }
    }
    for (ip_address, host_name) in wanted {
        let data = ServiceExposeMap {
            service_id: Some(row.id()),
            ip_address,
            host_name,
            managed: true,
            ..ServiceExposeMap::default()
        };
        plan.insert(Row::new(row.meta.account_id, ACTIVE, data));
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::states::*;

    use crate::testing::{Language, world};

    fn places(w: &Language) -> Vec<String> {
        let live = w.world.expose_maps.values().filter(|map| map.meta.is_live());
        let mut places: Vec<String> =
            live.filter_map(|map| map.ip_address.clone().or_else(|| map.host_name.clone())).collect();
        places.sort();
        places
    }

    #[test]
    fn maps_follow_addresses_while_the_service_is_active() {
        let addresses = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let w = world().service("ext", 1).change_service("ext", |row| {
            row.meta.kind = "externalService".to_owned();
            (row.launch_config, row.scale) = (None, None);
            row.external_ip_addresses = addresses(&["192.0.2.1", "192.0.2.2"]);
        });
        let w = w.settle();
        assert_eq!(
            (w.service_row("ext").meta.state.as_str(), places(&w).join(" ")),
            (ACTIVE, "192.0.2.1 192.0.2.2".into())
        );
        let kept = w.world.expose_maps.values().find(|map| map.ip_address.as_deref() == Some("192.0.2.2"));
        let kept = kept.map(|map| map.meta.id);
        let w = w
            .change_service("ext", |row| {
                row.external_ip_addresses = addresses(&["192.0.2.2", "192.0.2.3"]);
                row.meta.enter(UPDATING_ACTIVE)
            })
            .settle();
        assert_eq!(places(&w), ["192.0.2.2", "192.0.2.3"]);
        assert!(w.world.expose_maps.values().any(|map| Some(map.meta.id) == kept), "what stays is not made again");
        let w = w.change_service("ext", |row| row.meta.enter(DEACTIVATING)).settle();
        assert_eq!((w.service_row("ext").meta.state.as_str(), places(&w).len()), (INACTIVE, 0));
        let w = w
            .change_service("ext", |row| {
                (row.external_ip_addresses, row.hostname) = (None, Some("api.example.com".to_owned()));
                row.meta.enter(ACTIVATING)
            })
            .settle();
        assert_eq!(places(&w), ["api.example.com"]);
        let row = w.service_row("ext");
        assert_eq!((row.meta.state.as_str(), row.health_state.as_deref()), (ACTIVE, Some(HEALTHY)));
        let w = w.change_service("ext", |row| row.meta.enter(REMOVING)).settle();
        assert_eq!(places(&w), Vec::<String>::new());
    }
}
