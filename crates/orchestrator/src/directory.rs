//! What a project knows about itself, as a pure function of the World (DESIGN §6). Entry by entry, so that a change
//! costs what changed; [`Log`] remembers which entries changed when, so that a host gets only what it lacks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use remuda_model::states::{REMOVED, UNHEALTHY, is_active_like};
use remuda_model::{Container, Host, Service, Stack};
use remuda_schema::Row;
use remuda_wire::directory::{self, Directory, DirectoryUpdate, Entry, Key, Link, Membership};
use remuda_wire::frame;
use remuda_wire::session::Down;

use crate::hostplan::host_name;
use crate::transitions::label;
use crate::world::World;

/// The whole directory.
pub fn directory(world: &World) -> Directory {
    let mut directory = Directory { revision: world.revision, ..Directory::default() };
    let keys = (world.stacks.keys().map(|id| Key::Stack(*id)))
        .chain(world.services.keys().map(|id| Key::Service(*id)))
        .chain(world.containers.keys().map(|id| Key::Container(*id)))
        .chain(world.hosts.keys().map(|id| Key::Host(*id)));
    keys.filter_map(|key| entry(world, key)).for_each(|entry| directory.put(entry));
    directory
}

/// One entry; `None` when the directory does not have it (any more).
pub fn entry(world: &World, key: Key) -> Option<Entry> {
    match key {
        Key::Stack(id) => world.stacks.get(&id).filter(|row| row.meta.is_live()).map(|row| Entry::Stack(stack(row))),
        Key::Service(id) => world
            .services
            .get(&id)
            .filter(|row| row.meta.removed.is_none())
            .map(|row| Entry::Service(service(world, row))),
        Key::Container(id) => {
            let row = world.containers.get(&id).filter(|row| row.meta.removed.is_none() && row.meta.state != REMOVED);
            row.map(|row| Entry::Container(container(world, row)))
        }
        Key::Host(id) => {
            world.hosts.get(&id).filter(|row| row.meta.removed.is_none()).map(|row| Entry::Host(host(row)))
        }
    }
}

fn stack(row: &Row<Stack>) -> directory::Stack {
    directory::Stack { id: row.meta.id, name: row.meta.name.clone().unwrap_or_default() }
}

fn service(world: &World, row: &Row<Service>) -> directory::Service {
    let maps = world.each(&world.consume_maps, &world.consume_maps_by_service, row.meta.id);
    let mut links: Vec<Link> = maps
        .filter(|map| map.meta.is_live())
        .filter_map(|map| Some(Link { alias: map.meta.name.clone(), service_id: map.consumed_service_id?.number() }))
        .collect();
    links.sort();
    let is_published = is_active_like(&row.meta.state);
    directory::Service {
        id: row.meta.id,
        stack_id: row.environment_id.map_or(0, |id| id.number()),
        name: row.meta.name.clone().unwrap_or_default(),
        kind: row.meta.kind.clone(),
        state: row.meta.state.clone(),
        links,
        external_addresses: row.external_ip_addresses.clone().filter(|_| is_published).unwrap_or_default(),
        hostname: row.hostname.clone().filter(|name| is_published && !name.is_empty()),
    }
}

fn container(world: &World, row: &Row<Container>) -> directory::Container {
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

fn host(row: &Row<Host>) -> directory::Host {
    // By the uuid it reports a host finds itself in the directory, and so the containers whose links it answers for.
    let uuid = row.reported_uuid.clone().unwrap_or_else(|| row.meta.uuid.clone());
    directory::Host {
        id: row.meta.id,
        uuid,
        name: host_name(row),
        address: row.agent_ip.clone(),
        overlay_address: row.network_address.clone(),
        public_key: row.network_key.clone(),
    }
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
        Log { current: directory(world), floor: world.revision, published: world.revision, ..Log::default() }
    }

    /// Looks at entries again after the World has reached `revision`. Whether anything changed.
    pub fn refresh(&mut self, world: &World, keys: impl IntoIterator<Item = Key>, revision: i64) -> bool {
        let mut any = false;
        for key in keys {
            let new = entry(world, key);
            if self.entry(key) == new {
                continue;
            }
            any = true;
            match new {
                Some(entry) => self.current.put(entry),
                None => drop(self.current.apply(DirectoryUpdate {
                    revision: self.current.revision,
                    base: Some(self.current.revision),
                    removed: vec![key],
                    ..DirectoryUpdate::default()
                })),
            }
            if let Some(before) = self.changed.insert(key, revision) {
                self.order.remove(&(before, key));
            }
            self.order.insert((revision, key));
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
                    match self.entry(*key) {
                        Some(entry) => update.upserts.push(entry),
                        None => update.removed.push(*key),
                    }
                }
                update
            }
        }
    }

    fn entry(&self, key: Key) -> Option<Entry> {
        match key {
            Key::Stack(id) => self.current.stacks.get(&id).cloned().map(Entry::Stack),
            Key::Service(id) => self.current.services.get(&id).cloned().map(Entry::Service),
            Key::Container(id) => self.current.containers.get(&id).cloned().map(Entry::Container),
            Key::Host(id) => self.current.hosts.get(&id).cloned().map(Entry::Host),
        }
    }
}

/// Entries that may look different after a row changed.
pub fn touched(world: &World, record: &crate::record::Record) -> Vec<Key> {
    use crate::record::Record;
    let id = record.meta().id;
    match record {
        Record::Stack(_) => vec![Key::Stack(id)],
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
