//! The directory as the datapath looks things up in it: the rows, and indexes by the names and addresses that questions
//! come with. Kept by difference: a change costs what changed, however large the project is.
//!
//! What a name or a path stands for is worked out when somebody asks ([`crate::dns::answer`], [`crate::metadata`]);
//! only the lists that every answer needs, the usable members of a service and the links of a client, are kept once
//! worked out, until something they depend on changes. A zone built anew for each revision was what we had: each change
//! anywhere cost every host work that grew with the whole project.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use remuda_wire::directory::{Container, Directory, DirectoryUpdate, Entry, Key, Service, WrongBase};

use crate::dns::answer::usable_upstream;

/// The rows and their indexes, for one host.
#[derive(Debug, Default)]
pub struct Book {
    directory: Directory,
    /// How this host is called in the directory.
    host_uuid: String,
    /// Its row there; `None` until it is listed.
    own: Option<i64>,
    /// The server's database and its restore epoch.
    pub source: String,
    /// Revision of the last change that anybody can see.
    version: i64,
    /// Stacks by name in lower case.
    stacks: HashMap<String, Vec<i64>>,
    /// Services by stack and name in lower case.
    services: HashMap<i64, HashMap<String, i64>>,
    /// Members of each service, by launch config.
    members: HashMap<i64, Vec<Members>>,
    /// Containers by name in lower case.
    named: HashMap<String, Vec<i64>>,
    /// Managed containers of this host by address.
    clients: HashMap<Ipv4Addr, Client>,
    /// Containers of this host in host network mode.
    host_mode: BTreeSet<i64>,
    /// Links and suffixes of those: everybody on this host has them.
    shared: OnceLock<Names>,
    /// Services that are a name elsewhere.
    n_elsewhere: usize,
}

/// The members of a service that were made from one launch config.
#[derive(Debug, Default)]
pub struct Members {
    /// Sidekick name; `None`: the primary one, or selected.
    pub sidekick: Option<String>,
    /// Order of creation and row.
    ids: BTreeSet<(i64, i64)>,
    addresses: OnceLock<Arc<[Ipv4Addr]>>,
}

/// A managed container of this host.
#[derive(Debug)]
pub struct Client {
    pub container: i64,
    names: OnceLock<Names>,
}

/// What a client knows by names of its own.
#[derive(Debug, Default)]
pub struct Names {
    /// By name without our domain, in lower case.
    pub links: HashMap<String, Target>,
    /// What is tried behind a name: without our domain, and the domain alone as nothing.
    pub suffixes: Vec<String>,
    pub upstreams: Vec<IpAddr>,
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Service(i64),
    Container(i64),
}

impl Book {
    /// The book of a host over that directory.
    pub fn of(directory: Directory, host_uuid: &str) -> Book {
        let version = directory.revision;
        Book::with_version(directory, host_uuid, version)
    }

    /// The same, when it is known since when nobody could see a change.
    pub fn with_version(directory: Directory, host_uuid: &str, version: i64) -> Book {
        let mut book = Book { directory, host_uuid: host_uuid.to_owned(), version, ..Book::default() };
        book.find_own();
        let keys: Vec<Key> = book.keys().collect();
        keys.into_iter().for_each(|key| book.index(key));
        book
    }

    /// Takes a difference over as a whole, or not at all. A snapshot is a book of its own.
    pub fn apply(&mut self, update: DirectoryUpdate) -> Result<(), WrongBase> {
        let have = self.directory.revision;
        if update.base != Some(have) {
            return Err(WrongBase { base: update.base.unwrap_or(0), have });
        }
        let revision = update.revision;
        let is_seen = !update.removed.is_empty() || update.upserts.iter().any(|entry| self.is_seen(entry));
        let hosts_differ = (update.upserts.iter().map(Entry::key).chain(update.removed.iter().copied()))
            .any(|key| matches!(key, Key::Host(_)));
        let keys: Vec<Key> = update.upserts.iter().map(Entry::key).collect();
        update.removed.iter().chain(&keys).for_each(|key| self.unindex(*key));
        self.directory.apply(update)?;
        if hosts_differ {
            self.find_own();
        }
        keys.into_iter().for_each(|key| self.index(key));
        if is_seen {
            self.version = revision;
        }
        Ok(())
    }

    /// Whether the entry says something new that names or metadata show.
    fn is_seen(&self, entry: &Entry) -> bool {
        let Some(mut old) = self.directory.get(entry.key()) else { return true };
        // How hosts reach each other is shown nowhere.
        if let (Entry::Host(old), Entry::Host(new)) = (&mut old, entry) {
            old.overlay_address.clone_from(&new.overlay_address);
            old.public_key.clone_from(&new.public_key);
        }
        old != *entry
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn host_uuid(&self) -> &str {
        &self.host_uuid
    }

    /// Row of this host.
    pub fn own(&self) -> Option<i64> {
        self.own
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    /// Whether any name leads elsewhere.
    pub fn has_elsewhere(&self) -> bool {
        self.n_elsewhere > 0
    }

    /// How many names everybody can ask for.
    pub fn n_names(&self) -> usize {
        self.directory.services.len() + self.named.len()
    }

    /// A copy to look through while this one changes. Containers are shared, not copied.
    pub fn copy(&self) -> Directory {
        self.directory.clone()
    }

    /// The managed container of this host with that address.
    pub fn client(&self, address: Ipv4Addr) -> Option<&Client> {
        self.clients.get(&address)
    }

    /// Stacks of that name, in lower case.
    pub fn stacks_named(&self, name: &str) -> &[i64] {
        self.stacks.get(name).map_or(&[], Vec::as_slice)
    }

    /// The service of a stack by its name in lower case.
    pub fn service_named(&self, stack: i64, name: &str) -> Option<&Service> {
        self.directory.services.get(self.services.get(&stack)?.get(name)?)
    }

    /// Containers of that name, in lower case.
    pub fn containers_named(&self, name: &str) -> impl Iterator<Item = &Container> {
        let ids = self.named.get(name).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.directory.containers.get(id)).map(AsRef::as_ref)
    }

    /// Members of the service by launch config.
    pub fn members(&self, service: i64) -> &[Members] {
        self.members.get(&service).map_or(&[], Vec::as_slice)
    }

    /// Members made from one launch config, oldest first.
    pub fn members_of(&self, service: i64, sidekick: Option<&str>) -> impl DoubleEndedIterator<Item = &Arc<Container>> {
        let members = self.members(service).iter().find(|members| members.sidekick.as_deref() == sidekick);
        let ids = members.into_iter().flat_map(|members| &members.ids);
        ids.filter_map(|(_, id)| self.directory.containers.get(id))
    }

    /// The members that may be used (§10.1); when none may, the most recently created one, so that a service resolves
    /// as long as it has containers.
    pub fn member_addresses<'b>(&'b self, members: &'b Members) -> &'b Arc<[Ipv4Addr]> {
        members.addresses.get_or_init(|| {
            let of = members.ids.iter().filter_map(|(_, id)| self.directory.containers.get(id));
            let candidates: Vec<_> =
                of.filter_map(|container| Some((is_usable(container), self.address(container)?))).collect();
            let usable: Vec<_> = candidates.iter().filter(|(usable, _)| *usable).map(|found| found.1).collect();
            match usable.is_empty() {
                true => candidates.last().map(|(_, address)| *address).into_iter().collect(),
                false => unique(usable),
            }
        })
    }

    /// The address a container is published with, if at all (§1, §10.2).
    pub fn address(&self, container: &Container) -> Option<Ipv4Addr> {
        if is_removed(&container.state) {
            return None;
        }
        let labelled = container.dns_label == Some(true);
        let text = match container.network_mode.as_str() {
            "managed" | "container" => container.address.as_deref(),
            "bridge" if labelled => container.address.as_deref(),
            "host" if labelled => self.directory.hosts.get(&container.host_id?)?.address.as_deref(),
            _ => None,
        };
        text?.split('/').next()?.parse().ok()
    }

    /// Names of a client's own.
    pub fn names_of<'b>(&'b self, client: &'b Client) -> &'b Names {
        client.names.get_or_init(|| {
            let Some(container) = self.directory.containers.get(&client.container) else { return Names::default() };
            let mut names = Names { suffixes: self.suffixes([container.as_ref()].into_iter()), ..Names::default() };
            for (link, id) in &container.links {
                if let Some(target) = self.directory.containers.get(id) {
                    names.links.insert(target.name.to_lowercase(), Target::Container(*id));
                    names.links.insert(link.to_lowercase(), Target::Container(*id));
                }
            }
            // The links of a service win.
            self.service_links(container, &mut names.links);
            names.upstreams = container.dns.iter().filter_map(|server| usable_upstream(server)).collect();
            names
        })
    }

    /// Names that everybody on this host has: containers in host network mode cannot be told apart by address.
    pub fn shared_names(&self) -> &Names {
        self.shared.get_or_init(|| {
            let here = || self.host_mode.iter().filter_map(|id| self.directory.containers.get(id)).map(AsRef::as_ref);
            let labelled = here().filter(|container| container.dns_label == Some(true));
            let mut names = Names { suffixes: self.suffixes(labelled), ..Names::default() };
            for container in here() {
                let mut own = HashMap::new();
                self.service_links(container, &mut own);
                for (name, target) in own {
                    names.links.entry(name).or_insert(target);
                }
            }
            names
        })
    }

    /// Services the container belongs to.
    pub fn services_of<'b>(&'b self, container: &'b Container) -> impl Iterator<Item = &'b Service> {
        let services = &self.directory.services;
        container.services.iter().filter_map(|membership| services.get(&membership.service_id))
    }

    /// Stack, then service, for every service of the containers; the domain alone comes last.
    fn suffixes<'b>(&'b self, containers: impl Iterator<Item = &'b Container>) -> Vec<String> {
        let mut suffixes: Vec<String> = Vec::new();
        for service in containers.flat_map(|container| self.services_of(container)) {
            let Some(stack) = self.stack_name(service) else { continue };
            for suffix in [stack.clone(), format!("{}.{stack}", service.name.to_lowercase())] {
                if !suffixes.contains(&suffix) {
                    suffixes.push(suffix);
                }
            }
        }
        suffixes.push(String::new());
        suffixes
    }

    /// Names made by the links of the container's services; the primary's links are those of its sidekicks too.
    fn service_links(&self, container: &Container, names: &mut HashMap<String, Target>) {
        for service in self.services_of(container) {
            let Some(stack) = self.stack_name(service) else { continue };
            for link in &service.links {
                let Some(target) = self.directory.services.get(&link.service_id) else { continue };
                let name = link.alias.as_deref().filter(|alias| !alias.is_empty()).unwrap_or(&target.name);
                let name = name.to_lowercase();
                names.insert(format!("{name}.{stack}"), Target::Service(target.id));
                names.insert(name, Target::Service(target.id));
            }
        }
    }

    fn stack_name(&self, service: &Service) -> Option<String> {
        self.directory.stacks.get(&service.stack_id).map(|stack| stack.name.to_lowercase())
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let directory = &self.directory;
        (directory.stacks.keys().map(|id| Key::Stack(*id)))
            .chain(directory.services.keys().map(|id| Key::Service(*id)))
            .chain(directory.containers.keys().map(|id| Key::Container(*id)))
    }

    /// Finds this host's row. When it is another one than before, other containers are clients.
    fn find_own(&mut self) {
        let own = self.directory.hosts.values().find(|host| host.uuid == self.host_uuid).map(|host| host.id);
        // Containers in host network mode have the address of their host.
        self.members.values_mut().flatten().for_each(Members::reset);
        if own != self.own {
            self.own = own;
            self.clients.clear();
            self.host_mode.clear();
            self.shared.take();
            let containers: Vec<Arc<Container>> = self.directory.containers.values().cloned().collect();
            containers.iter().for_each(|container| self.index_client(container));
        }
    }

    fn index_client(&mut self, container: &Container) {
        if self.own.is_none() || container.host_id != self.own || is_removed(&container.state) {
            return;
        }
        match container.network_mode.as_str() {
            "managed" => {
                if let Some(address) = self.address(container) {
                    self.clients.insert(address, Client { container: container.id, names: OnceLock::new() });
                }
            }
            "host" => {
                self.host_mode.insert(container.id);
                self.shared.take();
            }
            _ => {}
        }
    }

    /// Puts the entry that is there now into the indexes.
    fn index(&mut self, key: Key) {
        match key {
            Key::Stack(id) => {
                let Some(stack) = self.directory.stacks.get(&id) else { return };
                self.stacks.entry(stack.name.to_lowercase()).or_default().push(id);
                self.forget_links();
            }
            Key::Service(id) => {
                let Some(service) = self.directory.services.get(&id) else { return };
                self.n_elsewhere += usize::from(service.hostname.is_some());
                self.services.entry(service.stack_id).or_default().insert(service.name.to_lowercase(), id);
                self.forget_links();
            }
            Key::Container(id) => {
                let Some(container) = self.directory.containers.get(&id).cloned() else { return };
                for membership in &container.services {
                    let of = self.members.entry(membership.service_id).or_default();
                    let at = of.iter().position(|members| members.sidekick == membership.sidekick);
                    let at = at.unwrap_or_else(|| {
                        of.push(Members { sidekick: membership.sidekick.clone(), ..Members::default() });
                        of.len() - 1
                    });
                    of[at].ids.insert((container.create_index, id));
                    of[at].reset();
                }
                if !container.name.is_empty() {
                    self.named.entry(container.name.to_lowercase()).or_default().push(id);
                }
                self.index_client(&container);
            }
            Key::Host(_) | Key::Project(_) | Key::Value(_) => {}
        }
    }

    /// Takes the entry as it is now out of the indexes.
    fn unindex(&mut self, key: Key) {
        match key {
            Key::Stack(id) => {
                let Some(stack) = self.directory.stacks.get(&id) else { return };
                take_out(&mut self.stacks, &stack.name.to_lowercase(), id);
                self.forget_links();
            }
            Key::Service(id) => {
                let Some(service) = self.directory.services.get(&id) else { return };
                self.n_elsewhere -= usize::from(service.hostname.is_some());
                if let Some(of) = self.services.get_mut(&service.stack_id) {
                    let name = service.name.to_lowercase();
                    if of.get(&name) == Some(&id) {
                        of.remove(&name);
                    }
                    if of.is_empty() {
                        self.services.remove(&service.stack_id);
                    }
                }
                self.forget_links();
            }
            Key::Container(id) => {
                let Some(container) = self.directory.containers.get(&id).cloned() else { return };
                for membership in &container.services {
                    let Some(of) = self.members.get_mut(&membership.service_id) else { continue };
                    if let Some(members) = of.iter_mut().find(|members| members.sidekick == membership.sidekick) {
                        members.ids.remove(&(container.create_index, id));
                        members.reset();
                    }
                    of.retain(|members| !members.ids.is_empty());
                    if of.is_empty() {
                        self.members.remove(&membership.service_id);
                    }
                }
                take_out(&mut self.named, &container.name.to_lowercase(), id);
                if let Some(address) = self.address(&container)
                    && self.clients.get(&address).is_some_and(|client| client.container == id)
                {
                    self.clients.remove(&address);
                }
                if self.host_mode.remove(&id) {
                    self.shared.take();
                }
            }
            Key::Host(_) | Key::Project(_) | Key::Value(_) => {}
        }
    }

    /// What a link is called depends on services and stacks; those change rarely.
    fn forget_links(&mut self) {
        self.clients.values_mut().for_each(|client| drop(client.names.take()));
        self.shared.take();
    }
}

impl Members {
    fn reset(&mut self) {
        self.addresses.take();
    }
}

fn take_out(of: &mut HashMap<String, Vec<i64>>, name: &str, id: i64) {
    if let Some(ids) = of.get_mut(name) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            of.remove(name);
        }
    }
}

/// Running or about to, and not known to be unwell.
pub fn is_usable(container: &Container) -> bool {
    matches!(container.state.as_str(), "running" | "starting")
        && matches!(container.health.as_deref(), None | Some("healthy" | "updating-healthy"))
}

pub fn is_removed(state: &str) -> bool {
    matches!(state, "removed" | "purging" | "purged")
}

/// Each address once, in the order it was found.
pub fn unique(found: Vec<Ipv4Addr>) -> Arc<[Ipv4Addr]> {
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|address| seen.insert(*address)).collect()
}
