//! The projection of one project that plans read: its rows by number, and the relations between them as indexes.
//! Kept by the change feed, one row at a time; no operation walks the whole project.
//!
//! Rows that have ended (purged, or removed where there is no purge) or are deleted leave the World. A row that a plan
//! has just decided on is put in at once
//! ([`World::put`] again), so that the next decision of the same round sees it; the feed brings the stored one later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remuda_model::states::{
    CREATING, ERROR, ERRORING, PURGED, RESTARTING, RUNNING, STARTING, STOPPING, UPDATING_RUNNING,
};
use remuda_model::{
    Agent, Certificate, Container, Credential, HealthcheckInstanceHostMap, Host, Image, InstanceLink, IpAddress, Label,
    Mount, Network, PhysicalHost, Port, Project, ProjectMember, Service, ServiceConsumeMap, ServiceExposeMap, Stack,
    StoragePool, Volume,
};
use remuda_schema::{Resource, Row, Time};

use remuda_wire::session::Consumer;

use crate::balancer::is_balancer;
use crate::plan::selection::Selectors;
use crate::record::Record;

/// Rows of one type by number.
pub type Rows<T> = BTreeMap<i64, Arc<Row<T>>>;

/// A one-to-many relation: key to the numbers of the rows that have it.
#[derive(Clone, Debug)]
pub struct Index<K = i64>(BTreeMap<K, BTreeSet<i64>>);

impl<K> Default for Index<K> {
    fn default() -> Index<K> {
        Index(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Index<K> {
    /// Numbers under that key, ascending.
    pub fn get<'a>(&'a self, key: &K) -> impl DoubleEndedIterator<Item = i64> + use<'a, K> {
        self.0.get(key).into_iter().flatten().copied()
    }

    pub fn is_empty(&self, key: &K) -> bool {
        !self.0.contains_key(key)
    }

    pub fn count(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    fn replace(&mut self, old: Option<K>, new: Option<K>, id: i64) {
        if old == new {
            return;
        }
        if let Some(key) = old
            && let Some(set) = self.0.get_mut(&key)
        {
            set.remove(&id);
            if set.is_empty() {
                self.0.remove(&key);
            }
        }
        if let Some(key) = new {
            self.0.entry(key).or_default().insert(id);
        }
    }
}

/// A bridge of a host that containers are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bridge {
    Managed,
    Docker,
}

impl Bridge {
    /// The one that a network mode plugs into.
    pub fn of_mode(mode: Option<&str>) -> Option<Bridge> {
        match mode {
            Some("managed") => Some(Bridge::Managed),
            Some("bridge") | None => Some(Bridge::Docker),
            Some(_) => None,
        }
    }
}

/// The bridge that a container takes a port of, while it does.
fn bridge_port(row: &Row<Container>) -> Option<(i64, Bridge)> {
    let takes = matches!(row.meta.state.as_str(), STARTING | RESTARTING | RUNNING | UPDATING_RUNNING | STOPPING);
    Some((row.host_id.filter(|_| takes)?.number(), Bridge::of_mode(row.network_mode.as_deref())?))
}

/// How a label is looked up: without regard to case.
pub fn pair_key(key: &str, value: &str) -> (String, String) {
    (key.to_ascii_lowercase(), value.to_ascii_lowercase())
}

/// One project as plans see it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Row number of the project.
    pub project_id: i64,
    /// Every change up to this revision is in.
    pub revision: i64,
    /// When this server began to look: what hosts did while nobody listened is yet to be heard.
    pub since: Time,
    pub project: Option<Arc<Row<Project>>>,
    pub agents: Rows<Agent>,
    pub hosts: Rows<Host>,
    pub physical_hosts: Rows<PhysicalHost>,
    pub storage_pools: Rows<StoragePool>,
    pub stacks: Rows<Stack>,
    pub services: Rows<Service>,
    /// Selectors of the services that have some.
    pub selectors: BTreeMap<i64, Selectors>,
    pub containers: Rows<Container>,
    /// Who checks which container, and how they vote.
    pub checks: Rows<HealthcheckInstanceHostMap>,
    pub expose_maps: Rows<ServiceExposeMap>,
    pub consume_maps: Rows<ServiceConsumeMap>,
    pub ports: Rows<Port>,
    pub volumes: Rows<Volume>,
    pub mounts: Rows<Mount>,
    pub certificates: Rows<Certificate>,
    pub images: Rows<Image>,
    pub links: Rows<InstanceLink>,
    pub networks: Rows<Network>,
    pub addresses: Rows<IpAddress>,
    pub labels: Rows<Label>,
    pub credentials: Rows<Credential>,
    pub members: Rows<ProjectMember>,

    /// When a host last told of progress of a container (samples: not stored).
    pub progress_at: BTreeMap<i64, Time>,
    /// Directory revision that a consumer on a host works with (samples: not stored).
    pub applied: BTreeMap<(i64, Consumer), i64>,
    /// Containers that run on until no host routes to them: the revision from which hosts know.
    pub withdrawing: BTreeMap<i64, i64>,
    /// Containers of services that have not run yet.
    pub beginning: BTreeSet<i64>,
    /// Containers that are to be, or being, replaced on another host.
    pub leaving: BTreeSet<i64>,
    /// Containers that were stopped without their host, by host.
    pub unconfirmed: Index,
    /// Services whose containers route to others.
    pub balancers: BTreeSet<i64>,

    pub hosts_by_agent: Index,
    pub containers_by_host: Index,
    pub containers_by_service: Index,
    /// Containers that no host took, by service.
    unplaced: Index,
    /// Containers that join the network of the key, or mount its volumes.
    pub containers_by_dependency: Index,
    pub checks_by_container: Index,
    pub checks_by_host: Index,
    /// Running containers that could do with one more host that checks them.
    pub short_of_checkers: BTreeSet<i64>,
    pub services_by_stack: Index,
    /// By the service they are upgraded to.
    pub services_by_successor: Index,
    /// Services whose number of units depends on the hosts there are.
    pub services_by_hosts: BTreeSet<i64>,
    pub expose_maps_by_service: Index,
    pub expose_maps_by_container: Index,
    pub consume_maps_by_service: Index,
    pub consume_maps_by_consumed: Index,
    pub ports_by_container: Index,
    pub mounts_by_container: Index,
    pub mounts_by_volume: Index,
    pub links_by_container: Index,
    pub links_by_target: Index,
    pub addresses_by_container: Index,
    pub addresses_by_host: Index,
    pub labels_by_container: Index,
    pub labels_by_host: Index,
    /// Labels of containers by key and value in lower case.
    pub labels_by_pair: Index<(String, String)>,
    /// Containers by name in lower case.
    pub containers_by_name: Index<String>,
    pub containers_by_unit: Index<String>,
    /// Root volumes.
    pub volumes_by_container: Index,
    pub volumes_by_host: Index,
    pub volumes_by_name: Index<String>,
    pub pools_by_host: Index,
    container_by_uuid: BTreeMap<String, i64>,
    container_by_docker_id: BTreeMap<String, i64>,
    /// Port rows by host and public port, of containers in any state.
    published: Index<(i64, i64)>,
    on_bridge: BTreeMap<(i64, Bridge), usize>,
    /// Numbers of the hosts, ascending: for draws.
    host_ids: Vec<i64>,
    /// How many containers that are not removed each host has.
    load: BTreeMap<i64, usize>,
    /// The same as an order: fewest containers first, then the older host.
    by_load: BTreeSet<(usize, i64)>,
}

/// The row as it was and as it is.
type Swapped<T> = (Option<Arc<Row<T>>>, Option<Arc<Row<T>>>);

/// Takes a row into its map and gives back the one it replaces; one that has ended is only taken out.
fn swap<T>(rows: &mut Rows<T>, row: &Arc<Row<T>>, ended: bool) -> Swapped<T> {
    let id = row.meta.id;
    if ended {
        return (rows.remove(&id), None);
    }
    (rows.insert(id, Arc::clone(row)), Some(Arc::clone(row)))
}

macro_rules! reindex {
    ($world:ident, $id:expr, $old:ident, $new:ident, $($index:ident = |$row:ident| $key:expr),* $(,)?) => {
        $($world.$index.replace(
            $old.as_deref().and_then(|$row| $key),
            $new.as_deref().and_then(|$row| $key),
            $id,
        );)*
    };
}

impl World {
    pub fn new(project_id: i64, since: Time) -> World {
        World { project_id, since, ..World::default() }
    }

    /// Takes one row over: new, changed, or gone when it is purged.
    pub fn put(&mut self, record: &Record) {
        let id = record.meta().id;
        let ended = record.has_ended();
        match record {
            Record::Project(row) => self.project = (!ended).then(|| Arc::clone(row)),
            Record::Agent(row) => drop(swap(&mut self.agents, row, ended)),
            Record::Network(row) => drop(swap(&mut self.networks, row, ended)),
            Record::Certificate(row) => drop(swap(&mut self.certificates, row, ended)),
            Record::Image(row) => drop(swap(&mut self.images, row, ended)),
            Record::Credential(row) => drop(swap(&mut self.credentials, row, ended)),
            Record::ProjectMember(row) => drop(swap(&mut self.members, row, ended)),
            Record::Account(_) | Record::ContainerEvent(_) | Record::Register(_) | Record::ServiceEvent(_) => {}
            Record::Stack(row) => drop(swap(&mut self.stacks, row, ended)),
            Record::PhysicalHost(row) => drop(swap(&mut self.physical_hosts, row, ended)),
            Record::StoragePool(row) => {
                let (old, new) = swap(&mut self.storage_pools, row, ended);
                reindex!(self, id, old, new, pools_by_host = |row| row.host_id.map(|id| id.number()));
            }
            Record::Host(row) => {
                let (old, new) = swap(&mut self.hosts, row, ended);
                reindex!(self, id, old, new, hosts_by_agent = |row| row.agent_id.map(|id| id.number()));
                match (new.is_some(), self.host_ids.binary_search(&id)) {
                    (true, Err(at)) => self.host_ids.insert(at, id),
                    (false, Ok(at)) => drop(self.host_ids.remove(at)),
                    _ => {}
                }
                let load = self.load.get(&id).copied().unwrap_or(0);
                if new.is_some() {
                    self.by_load.insert((load, id));
                } else {
                    self.by_load.remove(&(load, id));
                }
            }
            Record::Service(row) => {
                let (old, new) = swap(&mut self.services, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    services_by_stack = |row| row.environment_id.map(|id| id.number()),
                    services_by_successor = |row| row.upgrades_to(),
                );
                match new.as_deref().and_then(Selectors::of) {
                    Some(selectors) => drop(self.selectors.insert(id, selectors)),
                    None => drop(self.selectors.remove(&id)),
                }
                if new.as_ref().is_some_and(|row| is_balancer(&row.meta.kind)) {
                    self.balancers.insert(id);
                } else {
                    self.balancers.remove(&id);
                }
                if new.is_some_and(|row| row.is_global() || row.scale_policy.is_some()) {
                    self.services_by_hosts.insert(id);
                } else {
                    self.services_by_hosts.remove(&id);
                }
            }
            Record::Container(row) => {
                let (old, new) = swap(&mut self.containers, row, ended);
                self.container_changed(id, old.as_deref(), new.as_deref());
                self.note_checkers(id);
            }
            Record::HealthcheckInstanceHostMap(row) => {
                let (old, new) = swap(&mut self.checks, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    checks_by_container = |row| row.instance_id.map(|id| id.number()),
                    checks_by_host = |row| row.host_id.map(|id| id.number()),
                );
                for row in [old, new].into_iter().flatten() {
                    row.instance_id.into_iter().for_each(|id| self.note_checkers(id.number()));
                }
            }
            Record::ServiceExposeMap(row) => {
                let (old, new) = swap(&mut self.expose_maps, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    expose_maps_by_service = |row| row.service_id.map(|id| id.number()),
                    expose_maps_by_container = |row| row.instance_id.map(|id| id.number()),
                );
            }
            Record::ServiceConsumeMap(row) => {
                let (old, new) = swap(&mut self.consume_maps, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    consume_maps_by_service = |row| row.service_id.map(|id| id.number()),
                    consume_maps_by_consumed = |row| row.consumed_service_id.map(|id| id.number()),
                );
            }
            Record::Port(row) => {
                let (old, new) = swap(&mut self.ports, row, ended);
                reindex!(self, id, old, new, ports_by_container = |row| row.instance_id.map(|id| id.number()));
                let before = old.as_deref().and_then(|row| self.published_key(row));
                let after = new.as_deref().and_then(|row| self.published_key(row));
                self.published.replace(before, after, id);
            }
            Record::Volume(row) => {
                let (old, new) = swap(&mut self.volumes, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    volumes_by_container = |row| row.instance_id.map(|id| id.number()),
                    volumes_by_host = |row| row.host_id.map(|id| id.number()),
                    volumes_by_name = |row| row.meta.name.clone(),
                );
            }
            Record::Mount(row) => {
                let (old, new) = swap(&mut self.mounts, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    mounts_by_container = |row| row.instance_id.map(|id| id.number()),
                    mounts_by_volume = |row| row.volume_id.map(|id| id.number()),
                );
            }
            Record::InstanceLink(row) => {
                let (old, new) = swap(&mut self.links, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    links_by_container = |row| row.instance_id.map(|id| id.number()),
                    links_by_target = |row| row.target_instance_id.map(|id| id.number()),
                );
            }
            Record::IpAddress(row) => {
                let (old, new) = swap(&mut self.addresses, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    addresses_by_container = |row| row.instance_id.map(|id| id.number()),
                    addresses_by_host = |row| row.host_id.map(|id| id.number()),
                );
            }
            Record::Label(row) => {
                let (old, new) = swap(&mut self.labels, row, ended);
                reindex!(
                    self,
                    id,
                    old,
                    new,
                    labels_by_container = |row| row.instance_id.map(|id| id.number()),
                    labels_by_host = |row| row.host_id.map(|id| id.number()),
                    labels_by_pair = |row| row
                        .key
                        .as_deref()
                        .filter(|_| row.instance_id.is_some())
                        .map(|key| { pair_key(key, row.value.as_deref().unwrap_or_default()) }),
                );
            }
        }
    }

    /// Everything is about to be listed anew: what the rows do not say is kept.
    pub fn emptied(&mut self) -> World {
        let (progress_at, applied) = (std::mem::take(&mut self.progress_at), std::mem::take(&mut self.applied));
        World { progress_at, applied, ..World::new(self.project_id, self.since) }
    }

    /// The row is deleted from the store.
    pub fn forget(&mut self, table: &str, id: i64) {
        let Some(mut record) = self.record(table, id) else { return };
        record.meta_mut().state = PURGED.to_owned();
        self.put(&record);
    }

    /// The row as it is here.
    pub fn record(&self, table: &str, id: i64) -> Option<Record> {
        fn find<T>(rows: &Rows<T>, id: i64) -> Option<Record>
        where
            Record: From<Arc<Row<T>>>,
        {
            rows.get(&id).map(|row| Record::from(Arc::clone(row)))
        }
        macro_rules! by_table {
            ($($ty:ty: $rows:ident),* $(,)?) => {
                $(if table == <$ty>::TABLE {
                    return find(&self.$rows, id);
                })*
            };
        }
        if table == Project::TABLE {
            return self.project.as_ref().filter(|row| row.meta.id == id).map(|row| Record::from(Arc::clone(row)));
        }
        by_table!(
            Agent: agents,
            Host: hosts,
            PhysicalHost: physical_hosts,
            StoragePool: storage_pools,
            Stack: stacks,
            Service: services,
            Container: containers,
            HealthcheckInstanceHostMap: checks,
            ServiceExposeMap: expose_maps,
            ServiceConsumeMap: consume_maps,
            Port: ports,
            Volume: volumes,
            Mount: mounts,
            Certificate: certificates,
            Image: images,
            InstanceLink: links,
            Network: networks,
            IpAddress: addresses,
            Label: labels,
            Credential: credentials,
            ProjectMember: members,
        );
        None
    }

    fn container_changed(&mut self, id: i64, old: Option<&Row<Container>>, new: Option<&Row<Container>>) {
        let host = |row: &Row<Container>| row.host_id.map(|id| id.number());
        let service = |row: &Row<Container>| row.service_id.map(|id| id.number());
        self.containers_by_service.replace(old.and_then(service), new.and_then(service), id);
        let unplaced = |row: &Row<Container>| is_unplaced(row).then(|| service(row)).flatten();
        self.unplaced.replace(old.and_then(unplaced), new.and_then(unplaced), id);
        for (row, present) in [(old, false), (new, true)] {
            for on in row.into_iter().flat_map(dependencies) {
                let (before, after) = if present { (None, Some(on)) } else { (Some(on), None) };
                self.containers_by_dependency.replace(before, after, id);
            }
        }
        let (before, after) = (old.and_then(host), new.and_then(host));
        if before != after {
            self.containers_by_host.replace(before, after, id);
            let ports: Vec<i64> = self.ports_by_container.get(&id).collect();
            for port_id in ports {
                let Some(public) = self.ports.get(&port_id).and_then(|row| row.public_port) else { continue };
                self.published.replace(before.map(|host| (host, public)), after.map(|host| (host, public)), port_id);
            }
        }
        let name = |row: &Row<Container>| row.meta.name.as_ref().map(|name| name.to_ascii_lowercase());
        self.containers_by_name.replace(old.and_then(name), new.and_then(name), id);
        let unit = |row: &Row<Container>| row.deployment_unit_uuid.clone();
        self.containers_by_unit.replace(old.and_then(unit), new.and_then(unit), id);
        let (before, after) = (old.and_then(bridge_port), new.and_then(bridge_port));
        if before != after {
            for (key, one_more) in [(before, false), (after, true)] {
                let Some(key) = key else { continue };
                let count = self.on_bridge.entry(key).or_default();
                *count = if one_more { *count + 1 } else { count.saturating_sub(1) };
            }
        }
        let is = |set: &mut BTreeSet<i64>, holds: bool| if holds { set.insert(id) } else { set.remove(&id) };
        let begins = |row: &Row<Container>| {
            row.service_id.is_some()
                && row.first_running.is_none()
                && matches!(row.meta.state.as_str(), CREATING | STARTING)
        };
        is(&mut self.beginning, new.is_some_and(begins));
        is(&mut self.leaving, new.is_some_and(|row| row.leaving.is_some() && row.meta.removed.is_none()));
        let unconfirmed = |row: &Row<Container>| host(row).filter(|_| row.unconfirmed);
        self.unconfirmed.replace(old.and_then(unconfirmed), new.and_then(unconfirmed), id);
        let counted = |row: Option<&Row<Container>>| row.filter(|row| row.meta.removed.is_none()).and_then(host);
        let (before, after) = (counted(old), counted(new));
        if before != after {
            self.add_load(before, false);
            self.add_load(after, true);
        }
        let docker_id = |row: Option<&Row<Container>>| row.and_then(|row| row.external_id.clone());
        replace_unique(
            &mut self.container_by_uuid,
            old.map(|row| row.meta.uuid.clone()),
            new.map(|row| row.meta.uuid.clone()),
            id,
        );
        replace_unique(&mut self.container_by_docker_id, docker_id(old), docker_id(new), id);
    }

    fn note_checkers(&mut self, container: i64) {
        let runs = self.containers.get(&container).is_some_and(|row| crate::plan::checkers::are_wanted(row));
        if runs && self.checks_by_container.count(&container) < crate::plan::checkers::MOST {
            self.short_of_checkers.insert(container);
        } else {
            self.short_of_checkers.remove(&container);
        }
    }

    fn add_load(&mut self, host: Option<i64>, one_more: bool) {
        let Some(host) = host else { return };
        let load = self.load.entry(host).or_default();
        let known = self.by_load.remove(&(*load, host));
        *load = if one_more { *load + 1 } else { load.saturating_sub(1) };
        if known {
            self.by_load.insert((*load, host));
        }
    }

    fn published_key(&self, port: &Row<Port>) -> Option<(i64, i64)> {
        let container = self.containers.get(&port.instance_id?.number())?;
        Some((container.host_id?.number(), port.public_port?))
    }

    /// Numbers of the hosts, ascending.
    pub fn host_ids(&self) -> &[i64] {
        &self.host_ids
    }

    /// How many containers that are not removed the host has.
    pub fn load(&self, host: i64) -> usize {
        self.load.get(&host).copied().unwrap_or(0)
    }

    /// How many containers on that bridge of the host run, or are about to.
    pub fn on_bridge(&self, host: i64, bridge: Bridge) -> usize {
        self.on_bridge.get(&(host, bridge)).copied().unwrap_or(0)
    }

    /// Hosts, fewest containers first, then the older one.
    pub fn hosts_by_load(&self) -> impl DoubleEndedIterator<Item = &Arc<Row<Host>>> {
        self.by_load.iter().filter_map(|(_, id)| self.hosts.get(id))
    }

    /// Ports of that number on that host whose container holds them: it runs, starts or has not stopped yet.
    pub fn held_ports(&self, host: i64, public_port: i64) -> impl Iterator<Item = &Arc<Row<Port>>> {
        self.published.get(&(host, public_port)).filter_map(|id| self.ports.get(&id)).filter(|port| {
            let container = port.instance_id.and_then(|id| self.containers.get(&id.number()));
            container.is_some_and(|row| matches!(row.meta.state.as_str(), STARTING | RESTARTING | RUNNING | STOPPING))
        })
    }

    pub fn container_by_uuid(&self, uuid: &str) -> Option<&Arc<Row<Container>>> {
        self.containers.get(self.container_by_uuid.get(uuid)?)
    }

    pub fn container_by_docker_id(&self, docker_id: &str) -> Option<&Arc<Row<Container>>> {
        self.containers.get(self.container_by_docker_id.get(docker_id)?)
    }

    /// The host's agent.
    pub fn agent_of(&self, host: &Row<Host>) -> Option<&Arc<Row<Agent>>> {
        self.agents.get(&host.agent_id?.number())
    }

    /// Rows of one type that an index names under a key.
    pub fn each<'a, T, K: Ord>(
        &self,
        rows: &'a Rows<T>,
        index: &'a Index<K>,
        key: K,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<Row<T>>> + use<'a, T, K> {
        index.0.get(&key).into_iter().flatten().filter_map(|id| rows.get(id))
    }

    pub fn ports_of(&self, container: i64) -> impl Iterator<Item = &Arc<Row<Port>>> {
        self.each(&self.ports, &self.ports_by_container, container)
    }

    pub fn mounts_of(&self, container: i64) -> impl Iterator<Item = &Arc<Row<Mount>>> {
        self.each(&self.mounts, &self.mounts_by_container, container)
    }

    /// Hosts that check the container, with their votes.
    pub fn checks_of(&self, container: i64) -> impl Iterator<Item = &Arc<Row<HealthcheckInstanceHostMap>>> {
        self.each(&self.checks, &self.checks_by_container, container)
    }

    pub fn links_of(&self, container: i64) -> impl Iterator<Item = &Arc<Row<InstanceLink>>> {
        self.each(&self.links, &self.links_by_container, container)
    }

    pub fn containers_on(&self, host: i64) -> impl Iterator<Item = &Arc<Row<Container>>> {
        self.each(&self.containers, &self.containers_by_host, host)
    }

    /// Containers the service made, by number.
    pub fn containers_of(&self, service: i64) -> impl DoubleEndedIterator<Item = &Arc<Row<Container>>> {
        self.each(&self.containers, &self.containers_by_service, service)
    }

    /// Services with containers that no host took: they wait for a change of the hosts.
    pub fn services_unplaced(&self) -> impl Iterator<Item = i64> + '_ {
        self.unplaced.0.keys().copied()
    }

    pub fn services_of(&self, stack: i64) -> impl Iterator<Item = &Arc<Row<Service>>> {
        self.each(&self.services, &self.services_by_stack, stack)
    }

    /// The network containers of that mode are on.
    pub fn network_of_mode(&self, mode: &str) -> Option<&Arc<Row<Network>>> {
        let kind = crate::rows::network_kind(mode)?;
        self.networks.values().find(|row| row.meta.kind == kind)
    }
}

fn replace_unique(map: &mut BTreeMap<String, i64>, old: Option<String>, new: Option<String>, id: i64) {
    if old == new {
        return;
    }
    if let Some(key) = old
        && map.get(&key) == Some(&id)
    {
        map.remove(&key);
    }
    if let Some(key) = new {
        map.insert(key, id);
    }
}

/// Containers that must be on the same host and run first.
pub fn dependencies(row: &Row<Container>) -> impl Iterator<Item = i64> + '_ {
    let network = row.network_container_id.iter().map(|id| id.number());
    network.chain(row.data_volumes_from.iter().flatten().map(|id| id.number()))
}

/// No host took it.
pub fn is_unplaced(row: &Row<Container>) -> bool {
    row.host_id.is_none() && matches!(row.meta.state.as_str(), ERROR | ERRORING)
}
