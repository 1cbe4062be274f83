//! What a project knows about itself, as a pure function of the World (DESIGN §6). Entry by entry, so that a change
//! costs what changed; what many entries say alike, and what is large, is a value that they name by its hash. [`Log`] remembers which entries changed when, so that a host gets only what it lacks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use remuda_model::states::{REMOVED, UNHEALTHY, is_active_like};
use remuda_model::{Container, Host, LaunchConfig, Port, Project, Service, Stack, Workload, labels};
use remuda_schema::Row;
use remuda_wire::directory::{
    self, About, Common, Directory, DirectoryUpdate, Entry, Hash, Key, Launch, Link, Membership, Network, Value,
};
use remuda_wire::frame;
use remuda_wire::session::Down;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::hostplan::host_name;
use crate::transitions::label;
use crate::world::World;

/// The whole directory.
pub fn directory(world: &World) -> Directory {
    Log::new(world).current
}

fn keys(world: &World) -> impl Iterator<Item = Key> + '_ {
    (world.project.iter().map(|row| Key::Project(row.meta.id)))
        .chain(world.stacks.keys().map(|id| Key::Stack(*id)))
        .chain(world.services.keys().map(|id| Key::Service(*id)))
        .chain(world.containers.keys().map(|id| Key::Container(*id)))
        .chain(world.hosts.keys().map(|id| Key::Host(*id)))
}

/// The values an entry names, put together with it.
#[derive(Debug, Default)]
struct Values(Vec<Value>);

impl Values {
    fn name(&mut self, value: &impl Serialize) -> Option<Hash> {
        // A struct of strings and numbers always has a JSON.
        let value = Value::new(serde_json::to_value(value).ok()?);
        let hash = value.hash;
        self.0.push(value);
        Some(hash)
    }

    /// Nothing is no value.
    fn name_map<V: Serialize>(&mut self, map: Option<&BTreeMap<String, V>>) -> Option<Hash> {
        map.filter(|map| !map.is_empty()).and_then(|map| self.name(map))
    }
}

/// One entry; `None` when the directory does not have it (any more).
fn entry(world: &World, key: Key, values: &mut Values) -> Option<Entry> {
    match key {
        Key::Project(id) => world.project.as_ref().filter(|row| row.meta.id == id).map(|row| {
            let (uuid, name) = (row.meta.uuid.clone(), row.meta.name.clone().unwrap_or_default());
            Entry::Project(directory::Project { id, uuid, name, networks: networks(world, row) })
        }),
        Key::Value(_) => None,
        Key::Stack(id) => world.stacks.get(&id).filter(|row| row.meta.is_live()).map(|row| Entry::Stack(stack(row))),
        Key::Service(id) => world
            .services
            .get(&id)
            .filter(|row| row.meta.removed.is_none())
            .map(|row| Entry::Service(service(world, row, values))),
        Key::Container(id) => {
            let row = world.containers.get(&id).filter(|row| row.meta.removed.is_none() && row.meta.state != REMOVED);
            row.map(|row| Entry::Container(container(world, row, values)))
        }
        Key::Host(id) => {
            world.hosts.get(&id).filter(|row| row.meta.removed.is_none()).map(|row| Entry::Host(host(row, values)))
        }
    }
}

fn networks(world: &World, project: &Row<Project>) -> Vec<Network> {
    let of = |mode: &str| {
        let row = world.network_of_mode(mode)?;
        Some(Network {
            uuid: row.meta.uuid.clone(),
            name: row.meta.name.clone().unwrap_or_default(),
            mode: mode.to_owned(),
            is_default: project.default_network_id.is_some_and(|id| id.number() == row.meta.id),
        })
    };
    ["managed", "bridge", "host", "none", "container"].into_iter().filter_map(of).collect()
}

fn stack(row: &Row<Stack>) -> directory::Stack {
    directory::Stack { id: row.meta.id, uuid: row.meta.uuid.clone(), name: row.meta.name.clone().unwrap_or_default() }
}

fn service(world: &World, row: &Row<Service>, values: &mut Values) -> directory::Service {
    let maps = world.each(&world.consume_maps, &world.consume_maps_by_service, row.meta.id);
    let mut links: Vec<Link> = maps
        .filter(|map| map.meta.is_live())
        .filter_map(|map| Some(Link { alias: map.meta.name.clone(), service_id: map.consumed_service_id?.number() }))
        .collect();
    links.sort();
    let is_published = is_active_like(&row.meta.state);
    directory::Service {
        id: row.meta.id,
        uuid: row.meta.uuid.clone(),
        stack_id: row.environment_id.map_or(0, |id| id.number()),
        name: row.meta.name.clone().unwrap_or_default(),
        kind: row.meta.kind.clone(),
        state: row.meta.state.clone(),
        links,
        external_addresses: row.external_ip_addresses.clone().filter(|_| is_published).unwrap_or_default(),
        hostname: row.hostname.clone().filter(|name| is_published && !name.is_empty()),
        scale: row.scale,
        create_index: row.create_index,
        fqdn: row.fqdn.clone(),
        launches: values.name(&launches(row)),
        metadata: values.name_map(row.metadata.as_ref()),
    }
}

/// What is told of the launch configs; a service without containers tells of its labels.
fn launches(row: &Service) -> Vec<Launch> {
    let launch = |name: Option<&String>, config: &LaunchConfig| Launch {
        name: name.cloned(),
        labels: labels::stored(&config.labels.clone().unwrap_or_default()),
        ports: config.ports.clone().unwrap_or_default(),
        expose: config.expose.clone().unwrap_or_default(),
        health_check: check_shown(&config.workload),
    };
    let none = LaunchConfig::default();
    let sidekicks = row.secondary_launch_configs.iter().flatten().filter(|sidekick| sidekick.config.has_image());
    [launch(None, row.launch_config.as_ref().unwrap_or(&none))]
        .into_iter()
        .chain(sidekicks.map(|sidekick| launch(sidekick.name.as_ref(), &sidekick.config)))
        .collect()
}

/// A health check as metadata shows it.
fn check_shown(workload: &Workload) -> Option<Json> {
    let rules = workload.check()?.rules()?;
    Some(json!({
        "port": rules.port,
        "request_line": rules.request_line,
        "interval": rules.interval_ms,
        "response_timeout": rules.timeout_ms,
        "healthy_threshold": rules.rise,
        "unhealthy_threshold": rules.fall,
    }))
}

/// Labels that differ between containers of one launch config: they travel with the container, the others by hash.
const OWN_LABELS: [&str; 4] = [
    "io.rancher.service.deployment.unit",
    "io.rancher.service.requested.host.id",
    "io.rancher.container.requested_ip",
    "io.rancher.scheduler.affinity:container_label_soft",
];

fn about(world: &World, row: &Row<Container>, values: &mut Values) -> About {
    let all = row.labels.clone().unwrap_or_default();
    let (own, shared) = all.into_iter().partition(|(key, _)| OWN_LABELS.contains(&key.as_str()));
    let common = Common {
        labels: shared,
        dns_search: row.dns_search.clone().unwrap_or_default(),
        health_check: check_shown(&row.workload),
        memory_reservation: row.memory_reservation,
        milli_cpu_reservation: row.milli_cpu_reservation,
        system: row.system_container.is_some(),
    };
    About {
        common: values.name(&common),
        labels: own,
        ports: world
            .ports_of(row.meta.id)
            .filter(|port| port.meta.is_live())
            .filter_map(|port| port_shown(port))
            .collect(),
        service: row.service_id.map(|id| id.number()),
        create_index: row.create_index,
        service_index: row.service_index,
        hostname: row.hostname.clone(),
        start_count: row.start_count.unwrap_or(0),
        external_id: row.external_id.clone(),
        mac_address: row.mac_address.clone(),
        network_container: row.network_container_id.map(|id| id.number()),
    }
}

/// `[address:][public:]private/protocol`
fn port_shown(port: &Port) -> Option<String> {
    let bound = port.bind_address.as_deref().filter(|address| !matches!(*address, "" | "0.0.0.0" | "::"));
    let bound =
        bound.map(|address| if address.contains(':') { format!("[{address}]:") } else { format!("{address}:") });
    let public = port.public_port.map(|public| format!("{public}:")).unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("tcp");
    Some(format!("{}{public}{}/{protocol}", bound.unwrap_or_default(), port.private_port?))
}

fn container(world: &World, row: &Row<Container>, values: &mut Values) -> directory::Container {
    let id = row.meta.id;
    let maps = world.each(&world.expose_maps, &world.expose_maps_by_container, id);
    // A service that only selected the container shows it among its primary ones.
    let services: BTreeMap<i64, Option<String>> = maps
        .filter(|map| map.meta.is_live())
        .filter_map(|map| {
            Some((map.service_id?.number(), row.launch_config_name.clone().filter(|_| map.managed || map.upgrade)))
        })
        .collect();
    let links = world.links_of(id).filter(|link| link.meta.is_live());
    let dns_label = match label(row, "io.rancher.container.dns") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    };
    directory::Container {
        id,
        uuid: row.meta.uuid.clone(),
        name: row.meta.name.clone().unwrap_or_default(),
        state: row.meta.state.clone(),
        health: if is_on_a_lost_host(world, row) { Some(UNHEALTHY.to_owned()) } else { row.health_state.clone() },
        host_id: row.host_id.map(|id| id.number()),
        address: address(world, row, dns_label),
        network_mode: row.network_mode.clone().unwrap_or_else(|| "bridge".to_owned()),
        services: services.into_iter().map(|(service_id, sidekick)| Membership { service_id, sidekick }).collect(),
        links: links.filter_map(|link| Some((link.link_name.clone()?, link.target_instance_id?.number()))).collect(),
        create_index: id,
        dns: row.dns.clone().unwrap_or_default(),
        dns_label,
        check: check(world, row),
        about: about(world, row, values),
    }
}

/// How it is checked, and by whom.
fn check(world: &World, row: &Row<Container>) -> Option<Box<directory::Check>> {
    let rules = row.check()?.rules()?;
    let checkers = world.checks_of(row.meta.id).filter(|map| map.meta.is_live());
    let checkers = checkers
        .filter_map(|map| Some(directory::Checker { host_id: map.host_id?.number(), map: map.meta.uuid.clone() }));
    Some(Box::new(directory::Check {
        port: rules.port,
        request_line: rules.request_line,
        interval_ms: rules.interval_ms,
        timeout_ms: rules.timeout_ms,
        rise: rules.rise,
        fall: rules.fall,
        run: row.start_count.unwrap_or(0),
        checkers: checkers.collect(),
    }))
}

/// It may run, but nobody should be sent there.
fn is_on_a_lost_host(world: &World, row: &Row<Container>) -> bool {
    let host = row.host_id.and_then(|id| world.hosts.get(&id.number()));
    row.service_id.is_some() && host.is_some_and(|host| host.lost_since.is_some())
}

/// Where others reach it (`networking-and-dns.md` §1).
fn address(world: &World, row: &Row<Container>, dns_label: Option<bool>) -> Option<String> {
    match row.network_mode.as_deref() {
        Some("managed") => row.primary_ip_address.clone(),
        Some("host") if dns_label == Some(true) => world.hosts.get(&row.host_id?.number())?.agent_ip.clone(),
        Some("host" | "none") => None,
        Some("container") => {
            let target = world.containers.get(&row.network_container_id?.number())?;
            match target.network_mode.as_deref() {
                Some("managed") => target.primary_ip_address.clone(),
                Some("bridge") | None => target.docker_ip.clone(),
                _ => None,
            }
        }
        _ => row.docker_ip.clone(),
    }
}

fn host(row: &Row<Host>, values: &mut Values) -> directory::Host {
    // By the uuid it reports a host finds itself in the directory, and so the containers whose links it answers for.
    let uuid = row.reported_uuid.clone().unwrap_or_else(|| row.meta.uuid.clone());
    let of = |part: &str, field: &str| row.info.as_ref()?.get(part)?.get(field)?.as_f64();
    directory::Host {
        id: row.meta.id,
        uuid,
        name: host_name(row),
        address: row.agent_ip.clone(),
        overlay_address: row.network_address.clone(),
        public_key: row.network_key.clone(),
        public_uuid: row.meta.uuid.clone(),
        hostname: row.hostname.clone().unwrap_or_default(),
        state: row.meta.state.clone(),
        agent_state: row.agent_state.clone(),
        milli_cpu: of("cpuInfo", "count").map(|count| (count * 1000.0) as i64),
        // Told in MiB, shown in bytes.
        memory: of("memoryInfo", "memTotal").map(|mib| (mib * 1_048_576.0) as i64),
        local_storage_mb: storage(row),
        labels: values.name_map(row.labels.as_ref()),
    }
}

/// What the file systems hold together, as far as the host has said.
fn storage(row: &Host) -> Option<i64> {
    let disks = row.info.as_ref()?.get("diskInfo")?.get("fileSystems")?.as_object()?;
    Some(disks.values().filter_map(|disk| disk.get("capacity")?.as_f64()).sum::<f64>() as i64)
}

/// One update as hosts get it: packed once, however many hosts it is sent to.
#[derive(Debug)]
pub struct Message {
    /// Revision it needs; `None`: it is a snapshot.
    pub base: Option<i64>,
    /// Revision it leads to.
    pub revision: i64,
    down: Down,
    packed: OnceLock<Bytes>,
}

impl Message {
    fn new(update: DirectoryUpdate) -> Arc<Message> {
        let (base, revision) = (update.base, update.revision);
        Arc::new(Message { base, revision, down: Down::Directory(Box::new(update)), packed: OnceLock::new() })
    }

    /// The message itself.
    pub fn down(&self) -> &Down {
        &self.down
    }

    /// The frame for the connection.
    pub fn packed(&self) -> Result<Bytes, frame::Error> {
        if let Some(bytes) = self.packed.get() {
            return Ok(bytes.clone());
        }
        let bytes = frame::encode(&self.down)?;
        Ok(self.packed.get_or_init(|| bytes).clone())
    }
}

/// The directory as it is, when each entry last changed, and what hosts were told of it.
///
/// Hosts are told in steps that are the same for all of them: [`Log::publish`] makes a step of what changed since the
/// last one, so that an update is put together and packed once for a project, not once for a host.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub current: Directory,
    /// Revision of the last step.
    published: i64,
    steps: VecDeque<Arc<Message>>,
    snapshot: Option<Arc<Message>>,
    /// How many entries name a value.
    uses: BTreeMap<Hash, usize>,
    changed: BTreeMap<Key, i64>,
    order: BTreeSet<(i64, Key)>,
    /// Changes up to this revision are not told apart any more: who has an older directory needs a snapshot.
    floor: i64,
}

/// How many removed entries are remembered, for hosts that were away.
const REMEMBERED: usize = 100_000;
/// How many steps are kept for hosts whose connection is slow.
const STEPS: usize = 64;

impl Log {
    /// Starts from a World that was listed.
    pub fn new(world: &World) -> Log {
        let revision = world.revision;
        let mut log = Log { floor: revision, published: revision, ..Log::default() };
        for key in keys(world) {
            let mut values = Values::default();
            if let Some(entry) = entry(world, key, &mut values) {
                hashes(&entry).for_each(|hash| *log.uses.entry(hash).or_default() += 1);
                values.0.into_iter().for_each(|value| log.current.put(Entry::Value(value)));
                log.current.put(entry);
            }
        }
        log.current.revision = revision;
        log
    }

    /// Looks at entries again after the World has reached `revision`. Whether anything changed.
    pub fn refresh(&mut self, world: &World, keys: impl IntoIterator<Item = Key>, revision: i64) -> bool {
        let mut any = false;
        for key in keys {
            let mut values = Values::default();
            let (old, new) = (self.current.get(key), entry(world, key, &mut values));
            if old == new {
                continue;
            }
            any = true;
            for value in values.0 {
                let uses = self.uses.entry(value.hash).or_default();
                *uses += 1;
                if *uses == 1 {
                    self.note(Key::Value(value.hash), revision);
                    self.current.put(Entry::Value(value));
                }
            }
            for hash in old.iter().flat_map(hashes) {
                let uses = self.uses.entry(hash).or_default();
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    self.uses.remove(&hash);
                    self.current.remove(Key::Value(hash));
                    self.note(Key::Value(hash), revision);
                }
            }
            match new {
                Some(entry) => self.current.put(entry),
                None => self.current.remove(key),
            }
            self.note(key, revision);
        }
        if any {
            self.current.revision = revision;
        }
        while self.order.len() > REMEMBERED {
            if let Some((revision, key)) = self.order.pop_first() {
                self.changed.remove(&key);
                self.floor = self.floor.max(revision);
            }
        }
        any
    }

    fn note(&mut self, key: Key, revision: i64) {
        if let Some(before) = self.changed.insert(key, revision) {
            self.order.remove(&(before, key));
        }
        self.order.insert((revision, key));
    }

    /// Revision up to which hosts can be told.
    pub fn published(&self) -> i64 {
        self.published
    }

    /// Makes a step of what changed since the last one.
    pub fn publish(&mut self) {
        if self.published < self.current.revision {
            self.steps.push_back(Message::new(self.since(Some(self.published))));
            self.published = self.current.revision;
            self.snapshot = None;
            if self.steps.len() > STEPS {
                self.steps.pop_front();
            }
        }
    }

    /// What to tell a host that has revision `base`, in this order. Publishes first when the host stands between two
    /// steps, or has nothing yet: afterwards it stands where the others stand.
    pub fn told(&mut self, base: Option<i64>) -> Vec<Arc<Message>> {
        let Some(base) = base else { return vec![self.whole()] };
        if base >= self.published {
            return Vec::new();
        }
        match self.steps.iter().position(|step| step.base == Some(base)) {
            Some(first) => self.steps.range(first..).cloned().collect(),
            None if base < self.floor => vec![self.whole()],
            None => {
                self.publish();
                vec![Message::new(self.since(Some(base)))]
            }
        }
    }

    fn whole(&mut self) -> Arc<Message> {
        self.publish();
        let snapshot = self.snapshot.take().unwrap_or_else(|| Message::new(self.since(None)));
        Arc::clone(self.snapshot.insert(snapshot))
    }

    /// What brings a directory of revision `base` up to date; a snapshot when there is no usable base.
    fn since(&self, base: Option<i64>) -> DirectoryUpdate {
        let revision = self.current.revision;
        match base.filter(|base| *base >= self.floor && *base <= revision) {
            None => DirectoryUpdate { revision, base: None, upserts: self.current.entries(), removed: Vec::new() },
            Some(base) => {
                let mut update = DirectoryUpdate { revision, base: Some(base), ..DirectoryUpdate::default() };
                for (_, key) in self.order.range((base + 1, Key::Stack(i64::MIN))..) {
                    match self.current.get(*key) {
                        Some(entry) => update.upserts.push(entry),
                        None => update.removed.push(*key),
                    }
                }
                update
            }
        }
    }
}

/// The values an entry names.
fn hashes(entry: &Entry) -> impl Iterator<Item = Hash> + use<> {
    let found = match entry {
        Entry::Service(entry) => [entry.launches, entry.metadata],
        Entry::Container(entry) => [entry.about.common, None],
        Entry::Host(entry) => [entry.labels, None],
        Entry::Stack(_) | Entry::Project(_) | Entry::Value(_) => [None, None],
    };
    found.into_iter().flatten()
}

/// Entries that may look different after a row changed.
pub fn touched(world: &World, record: &crate::record::Record) -> Vec<Key> {
    use crate::record::Record;
    let id = record.meta().id;
    match record {
        Record::Project(_) => vec![Key::Project(id)],
        Record::Network(_) => world.project.iter().map(|row| Key::Project(row.meta.id)).collect(),
        Record::Stack(_) => vec![Key::Stack(id)],
        Record::Port(row) => row.instance_id.map(|id| Key::Container(id.number())).into_iter().collect(),
        Record::Service(_) => vec![Key::Service(id)],
        Record::Host(_) => {
            // Their address may be the host's, and whether anybody is sent there depends on whether it is lost.
            world.containers_on(id).map(|row| Key::Container(row.meta.id)).chain([Key::Host(id)]).collect()
        }
        Record::Container(_) => {
            let dependent = world.containers_by_dependency.get(&id).map(Key::Container);
            [Key::Container(id)].into_iter().chain(dependent).collect()
        }
        Record::HealthcheckInstanceHostMap(row) => {
            row.instance_id.map(|id| Key::Container(id.number())).into_iter().collect()
        }
        Record::ServiceExposeMap(row) => row.instance_id.map(|id| Key::Container(id.number())).into_iter().collect(),
        Record::ServiceConsumeMap(row) => row.service_id.map(|id| Key::Service(id.number())).into_iter().collect(),
        Record::InstanceLink(row) => row.instance_id.map(|id| Key::Container(id.number())).into_iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::testing::world;

    #[test]
    fn a_host_finds_itself_by_the_uuid_it_reports() {
        let w = world().host("a").change_host("a", |row| row.reported_uuid = Some("reported".into()));
        assert_eq!(directory(&w.world).hosts[&w.host_id("a")].uuid, "reported");
    }

    #[test]
    fn the_log_brings_any_older_directory_up_to_date() {
        let mut w = world().host("a").service("web", 2).settle();
        w.world.revision = 10;
        let mut log = Log::new(&w.world);
        let mut have = Directory::default();
        have.apply(log.since(None)).expect("a snapshot");
        assert_eq!((have.containers.len(), have.services.len(), have.hosts.len()), (2, 1, 1));
        let first = have.clone();
        for (revision, state) in [(11, "stopping"), (12, "stopped"), (13, "removed")] {
            let mut row = w.world.containers.values().next().expect("one").as_ref().clone();
            row.meta.enter(state);
            row.meta.removed = (state == "removed").then_some(w.now);
            let record = Record::from(row);
            w.world.put(&record);
            w.world.revision = revision;
            let keys = touched(&w.world, &record);
            assert!(log.refresh(&w.world, keys.clone(), revision));
            assert!(!log.refresh(&w.world, keys, revision), "the same again is no change");
            have.apply(log.since(Some(have.revision))).expect("fits");
            assert_eq!(have, log.current);
        }
        let mut late = first;
        late.apply(log.since(Some(10))).expect("fits");
        assert_eq!(late, log.current);
        assert_eq!(late.containers.len(), 1);
        assert_eq!(log.since(Some(9)).base, None, "older than the log: a snapshot");
        assert_eq!(directory(&w.world), log.current);
    }

    #[test]
    fn hosts_are_told_in_the_same_steps_and_each_is_packed_once() {
        let mut w = world().host("a").service("web", 2).settle();
        w.world.revision = 10;
        let mut log = Log::new(&w.world);
        let change = |w: &mut crate::testing::Language, log: &mut Log, revision: i64, state: &str| {
            let mut row = w.world.containers.values().next().expect("one").as_ref().clone();
            row.meta.enter(state);
            let record = Record::from(row);
            w.world.put(&record);
            w.world.revision = revision;
            log.refresh(&w.world, touched(&w.world, &record), revision);
        };
        let apply = |have: &mut Directory, told: &[Arc<Message>]| {
            for message in told {
                let Down::Directory(update) = message.down().clone() else { panic!("{message:?}") };
                have.apply(*update).expect("fits");
            }
        };
        let (mut quick, mut slow, mut between) = (Directory::default(), Directory::default(), Directory::default());
        let first = log.told(None);
        apply(&mut quick, &first);
        apply(&mut slow, &first);
        assert!(Arc::ptr_eq(&first[0], &log.told(None)[0]), "one snapshot for all");

        change(&mut w, &mut log, 11, "stopping");
        assert!(log.told(Some(quick.revision)).is_empty(), "not before the step");
        apply(&mut between, &[Message::new(log.since(None))]);
        log.publish();
        let step = log.told(Some(quick.revision));
        apply(&mut quick, &step);
        assert_eq!((step.len(), &quick), (1, &log.current));

        change(&mut w, &mut log, 12, "stopped");
        log.publish();
        let both = log.told(Some(slow.revision));
        assert!(Arc::ptr_eq(&both[0], &step[0]), "the same step for all");
        assert_eq!(both[0].packed().expect("packs").as_ptr(), step[0].packed().expect("packs").as_ptr());
        for have in [&mut quick, &mut slow, &mut between] {
            let told = log.told(Some(have.revision));
            apply(have, &told);
            assert_eq!(*have, log.current);
        }

        // A host that stands between two steps is brought to the newest state, and stands with the others from then on.
        change(&mut w, &mut log, 13, "running");
        change(&mut w, &mut log, 14, "stopping");
        let mut odd = Directory { revision: 13, ..log.current.clone() };
        log.publish();
        change(&mut w, &mut log, 15, "stopped");
        let told = log.told(Some(13));
        apply(&mut odd, &told);
        assert_eq!((odd.revision, log.published()), (15, 15));
    }

    /// Bytes that each host is sent when one container changes: the same in a project of any size.
    #[test]
    fn a_change_costs_a_host_the_same_however_large_the_project_is() {
        let sent = |n_hosts: usize, n_services: usize| {
            let mut w = world();
            for n in 0..n_hosts {
                w = w.host(&format!("h{n:02}"));
            }
            for n in 0..n_services {
                w = w.service(&format!("s{n:02}"), 2);
            }
            let mut w = w.settle();
            w.world.revision = 1000;
            let mut log = Log::new(&w.world);
            let mut row = w.named("s_s00_1").expect("is there").clone();
            row.meta.enter("stopping");
            let record = Record::from(row);
            w.world.put(&record);
            w.world.revision = 1001;
            log.refresh(&w.world, touched(&w.world, &record), 1001);
            log.publish();
            let told = log.told(Some(1000));
            assert_eq!(told.len(), 1);
            told[0].packed().expect("packs").len()
        };
        let (small, large) = (sent(2, 1), sent(20, 40));
        // Numbers of rows have more digits in the large one.
        assert!(large <= small + 24, "{small} bytes in a small project, {large} in a large one");
        assert!(small < 1024, "{small} bytes for one state");
    }

    #[test]
    fn what_entries_say_alike_is_sent_once_and_goes_with_the_last_of_them() {
        let mut w = world().host("a").service("web", 3).settle();
        w.world.revision = 10;
        let mut log = Log::new(&w.world);
        let of = |directory: &Directory| {
            let used: BTreeSet<Hash> = directory.containers.values().filter_map(|row| row.about.common).collect();
            let dangling =
                directory.entries().iter().flat_map(hashes).any(|hash| !directory.values.contains_key(&hash));
            (used.len(), dangling)
        };
        assert_eq!(of(&log.current), (1, false), "one for three containers");
        let n_values = log.current.values.len();
        let mut have = Directory::default();
        have.apply(log.since(None)).expect("a snapshot");
        let labelled = |w: &mut crate::testing::Language, log: &mut Log, revision: i64, label: Option<&str>| {
            let mut row = w.named("s_web_1").expect("is there").clone();
            row.labels.get_or_insert_default().remove("own");
            row.labels.get_or_insert_default().extend(label.map(|value| ("own".to_owned(), value.to_owned())));
            let record = Record::from(row);
            w.world.put(&record);
            w.world.revision = revision;
            log.refresh(&w.world, touched(&w.world, &record), revision);
        };
        for (revision, label, n_common) in [(11, Some("1"), 2), (12, Some("2"), 2), (13, None, 1)] {
            labelled(&mut w, &mut log, revision, label);
            have.apply(log.since(Some(have.revision))).expect("fits");
            assert_eq!(have, log.current);
            assert_eq!(of(&have), (n_common, false), "{label:?}");
        }
        assert_eq!(have.values.len(), n_values);
        assert_eq!(directory(&w.world), log.current);
    }

    #[test]
    fn addresses_are_those_others_can_use() {
        let cases = [
            ("managed", None, Some("10.42.0.9")),
            ("bridge", None, Some("172.17.0.2")),
            ("host", None, None),
            ("host", Some("true"), Some("192.168.0.2")),
            ("none", None, None),
        ];
        for (mode, label, expected) in cases {
            let w = world().host("a").running("web", "a").change_container("web", |row| {
                row.network_mode = Some(mode.into());
                row.primary_ip_address = Some("10.42.0.9".into());
                row.docker_ip = Some("172.17.0.2".into());
                row.labels =
                    label.map(|label: &str| [("io.rancher.container.dns".to_owned(), label.to_owned())].into());
            });
            let directory = directory(&w.world);
            let address = directory.containers.values().next().and_then(|row| row.address.clone());
            assert_eq!(address.as_deref(), expected, "{mode} {label:?}");
        }
    }
}
