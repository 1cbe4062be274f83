//! Who has to look again after a row changed. Too many is only slow; too few is mended by the periodic full pass.

use std::sync::Arc;

use remuda_model::Service;
use remuda_schema::Row;

use crate::plan::{Subject, selection};
use crate::record::Record;
use crate::world::World;

/// Keys whose plan may come out differently after that row changed.
pub fn subjects(world: &World, record: &Record) -> Vec<Subject> {
    let id = record.meta().id;
    let of_container = |container: i64| {
        let row = world.containers.get(&container);
        let service = row.and_then(|row| row.service_id).map(|id| Subject::Service(id.number()));
        let host = row.and_then(|row| row.host_id).map(|id| Subject::Host(id.number()));
        [Some(Subject::Container(container)), service, host].into_iter().flatten()
    };
    let mut woken = match record {
        Record::Project(_) => vec![Subject::Project],
        Record::Agent(_) => world.hosts_by_agent.get(&id).map(Subject::Host).collect(),
        Record::Host(_) => vec![Subject::Host(id)],
        Record::Stack(_) => vec![Subject::Stack(id)],
        Record::Service(row) => {
            let stack = row.environment_id.map(|id| Subject::Stack(id.number()));
            let consumers = world.each(&world.consume_maps, &world.consume_maps_by_consumed, id);
            let consumers = consumers.filter_map(|map| Some(Subject::Service(map.service_id?.number())));
            // Others of the stack may wait for it without a link.
            let others = row.environment_id.into_iter().flat_map(|stack| world.services_of(stack.number()));
            let waits = |other: &&Arc<Row<Service>>| other.awaited.iter().any(|awaited| awaited.service.number() == id);
            let waiting = others.filter(waits).map(|other| Subject::Service(other.meta.id));
            let predecessors = world.services_by_successor.get(&id).map(Subject::Service);
            stack
                .into_iter()
                .chain(consumers)
                .chain(predecessors)
                .chain(waiting)
                .chain([Subject::Service(id)])
                .collect()
        }
        Record::Container(row) => {
            let service = row.service_id.map(|id| Subject::Service(id.number()));
            let host = row.host_id.map(|id| Subject::Host(id.number()));
            let dependent = world.containers_by_dependency.get(&id).map(Subject::Container);
            dependent.chain(service).chain(host).chain([Subject::Container(id)]).collect()
        }
        Record::ServiceExposeMap(row) => row.service_id.map(|id| Subject::Service(id.number())).into_iter().collect(),
        Record::ServiceConsumeMap(row) => row.service_id.map(|id| Subject::Service(id.number())).into_iter().collect(),
        Record::Port(row) => row.instance_id.map(|id| of_container(id.number()).collect()).unwrap_or_default(),
        Record::Mount(row) => row.volume_id.map(|id| Subject::Volume(id.number())).into_iter().collect(),
        Record::Volume(row) => {
            let root = row.instance_id.map(|id| Subject::Container(id.number()));
            root.into_iter().chain([Subject::Volume(id)]).collect()
        }
        Record::HealthcheckInstanceHostMap(row) => {
            row.instance_id.map(|id| Subject::Container(id.number())).into_iter().collect()
        }
        Record::Label(row) => row.host_id.map(|id| Subject::Host(id.number())).into_iter().collect(),
        Record::IpAddress(row) => {
            // One that is free again may be what others wait for.
            let freed = row.network_id.is_some() && row.meta.removed.is_some();
            let waiting = world.services_unplaced().filter(|_| freed).map(Subject::Service);
            row.host_id.map(|id| Subject::Host(id.number())).into_iter().chain(waiting).collect()
        }
        _ => Vec::new(),
    };
    woken.extend(selection::differs(world, record));
    // A host that changed (or whose agent did) matters to what waits for it there.
    let hosts: Vec<i64> = match record {
        Record::Host(_) => vec![id],
        Record::Agent(_) => world.hosts_by_agent.get(&id).collect(),
        _ => Vec::new(),
    };
    // A label of a host, too, can be what a container waits for.
    let hosts_differ = !hosts.is_empty() || matches!(record, Record::Label(row) if row.host_id.is_some());
    if hosts_differ || matches!(record, Record::StoragePool(_)) {
        woken.extend(world.services_unplaced().map(Subject::Service));
        woken.extend(world.services_by_hosts.iter().copied().map(Subject::Service));
    }
    // Who is silent is not waited for; and what could not leave may be able to now.
    if !hosts.is_empty() {
        let leaving = world.leaving.iter().filter_map(|id| world.containers.get(id)?.service_id);
        woken.extend(leaving.map(|id| Subject::Service(id.number())));
        woken.extend(world.withdrawing.keys().copied().map(Subject::Container));
    }
    for host in hosts {
        for row in world.containers_on(host) {
            let waits = remuda_model::machines::CONTAINER.is_transitional(&row.meta.state);
            woken.extend(row.service_id.map(|id| Subject::Service(id.number())));
            woken.extend(waits.then_some(Subject::Container(row.meta.id)));
        }
        woken.extend(world.volumes_by_host.get(&host).map(Subject::Volume));
        let checked = world.each(&world.checks, &world.checks_by_host, host);
        woken.extend(checked.filter_map(|map| Some(Subject::Container(map.instance_id?.number()))));
        woken.extend(world.short_of_checkers.iter().copied().map(Subject::Container));
    }
    if world.project.as_ref().is_some_and(|row| row.meta.state == "purging") {
        woken.push(Subject::Project);
    }
    woken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn what_no_host_took_looks_again_when_a_host_comes() {
        let w = world().service("web", 1).settle().host("a");
        let service = w.service_row("web").meta.id;
        let host = w.world.record("host", w.host_id("a")).expect("a host");
        assert!(subjects(&w.world, &host).contains(&Subject::Service(service)));
        let w = w.settle();
        assert!(!subjects(&w.world, &host).is_empty());
        assert_eq!(w.world.services_unplaced().count(), 0, "placed, so it waits no longer");
    }
}
