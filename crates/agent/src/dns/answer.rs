//! What a name means to whom: a [`Zone`] is computed once per directory revision and host, and every question is then
//! a few hash look-ups in it.
//!
//! A zone has one section that all clients see and, for every managed container of this host, a section of its own
//! with the names its links make. Who asks is known by the source address. Names are kept in lower case without the
//! final dot. The whole zone is built anew for each revision and replaced at once, so that no answer ever comes from
//! half an update; keeping it by difference was rejected because links, aliases and the "one is left" rule make every
//! name depend on several entries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use remuda_wire::directory::{Container, Directory, Service};

/// The domain this host is authoritative for.
pub const DOMAIN: &str = "rancher.internal";

/// Where containers reach DNS and metadata.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 250);

/// CNAMEs followed before giving up.
const MAX_DEPTH: usize = 10;

/// Everything this host answers, as of one directory revision.
#[derive(Debug, Default)]
pub struct Zone {
    revision: i64,
    default: Section,
    /// Suffixes tried for clients without a section of their own.
    default_suffixes: Vec<String>,
    clients: HashMap<Ipv4Addr, Client>,
    /// Some name is a CNAME: without one the first half of every look-up is skipped.
    has_aliases: bool,
}

/// Full name, lower case, without the final dot -> what it stands for.
type Section = HashMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Addresses(Arc<[Ipv4Addr]>),
    /// CNAME to a full name, for external services.
    Alias(Arc<str>),
}

/// A managed container of this host.
#[derive(Debug, Default)]
struct Client {
    section: Section,
    suffixes: Vec<String>,
    upstreams: Vec<IpAddr>,
}

/// The zone as one client sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'z> {
    zone: &'z Zone,
    client: Option<&'z Client>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'z> {
    /// A records, to be shuffled.
    Addresses(&'z [Ipv4Addr]),
    /// The CNAME itself.
    Alias(&'z str),
    /// CNAMEs one after the other, then the A records of the last target.
    Chain { targets: Vec<&'z str>, end: ChainEnd<'z> },
    /// The name is ours, but has no records of that type: NOERROR. Below our domain the SOA says so.
    Empty,
    /// Below our domain and nothing there: NXDOMAIN and the SOA.
    Missing,
    /// Our domain's own SOA.
    Soa,
    /// Not ours: the upstream servers know.
    Forward,
    /// We never answer such a question.
    NotImplemented,
}

/// Where a chain of CNAMEs ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEnd<'z> {
    Addresses(&'z [Ipv4Addr]),
    /// Ask upstream for the A records of the last target; when it has none, give this answer instead of the chain.
    Upstream {
        otherwise: Box<Answer<'z>>,
    },
}

impl Zone {
    /// Computes the zone of the host whose row in the directory is `host`; `None` when the host is not listed yet.
    pub fn build(directory: &Directory, host: Option<i64>) -> Zone {
        Builder::new(directory, host).build()
    }

    /// Revision of the directory it was built from.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Names in the section all clients see.
    pub fn n_names(&self) -> usize {
        self.default.len()
    }

    /// What the client with that source address sees.
    pub fn view(&self, source: IpAddr) -> View<'_> {
        let client = match source.to_canonical() {
            IpAddr::V4(address) => self.clients.get(&address),
            IpAddr::V6(_) => None,
        };
        View { zone: self, client }
    }
}

impl<'z> View<'z> {
    /// Servers this client wants asked before the host's.
    pub fn upstreams(&self) -> &'z [IpAddr] {
        self.client.map_or(&[], |client| &client.upstreams)
    }

    /// The answer for `name` (lower case, no final dot) in class IN.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer<'z> {
        match kind {
            RecordType::ANY => Answer::NotImplemented,
            RecordType::A => self.addresses(name),
            RecordType::AAAA if self.exists(name) => Answer::Empty,
            RecordType::CNAME => match self.alias(name) {
                Some(target) => Answer::Alias(target),
                None => self.without_records(name),
            },
            RecordType::SOA if name == DOMAIN => Answer::Soa,
            _ => self.without_records(name),
        }
    }

    fn addresses(&self, name: &str) -> Answer<'z> {
        let mut targets: Vec<&'z str> = Vec::new();
        loop {
            let current = targets.last().copied().unwrap_or(name);
            match self.alias(current) {
                Some(target) if target != current => {
                    if targets.len() == MAX_DEPTH {
                        return self.without_chain(name);
                    }
                    targets.push(target);
                }
                _ => break,
            }
        }
        let end = targets.last().copied().unwrap_or(name);
        match (self.find(end, addresses), targets.is_empty()) {
            (Some(found), true) => Answer::Addresses(found),
            (Some(found), false) => Answer::Chain { targets, end: ChainEnd::Addresses(found) },
            (None, true) => self.without_records(name),
            (None, false) if is_below_domain(end) => self.without_chain(name),
            (None, false) => {
                let otherwise = Box::new(self.without_chain(name));
                Answer::Chain { targets, end: ChainEnd::Upstream { otherwise } }
            }
        }
    }

    /// The answer for A when the CNAMEs of the name lead nowhere.
    fn without_chain(&self, name: &str) -> Answer<'z> {
        self.find(name, addresses).map_or_else(|| self.without_records(name), Answer::Addresses)
    }

    /// The answer when there are no records of the type asked for. Nodes that only have names below them do not
    /// exist: an empty NOERROR would end the search of musl's resolver.
    fn without_records(&self, name: &str) -> Answer<'z> {
        match () {
            () if !is_below_domain(name) => Answer::Forward,
            () if name == DOMAIN || self.exists(name) => Answer::Empty,
            () => Answer::Missing,
        }
    }

    fn alias(&self, name: &str) -> Option<&'z str> {
        if self.zone.has_aliases { self.find(name, alias) } else { None }
    }

    fn exists(&self, name: &str) -> bool {
        self.find(name, |_| Some(())).is_some()
    }

    /// The look-up of §11: own section, default section, default section with the domain alone; in each the name as it
    /// is, then with every suffix.
    fn find<T>(&self, name: &str, pick: fn(&'z Entry) -> Option<T>) -> Option<T> {
        let zone = self.zone;
        let own = self.client.map(|client| &client.section);
        let mut suffixes = self.client.map_or(&zone.default_suffixes, |client| &client.suffixes).as_slice();
        if is_below_domain(name) {
            suffixes = &[];
        }
        let mut full = String::with_capacity(name.len() + 64);
        full.push_str(name);
        full.push('.');
        for section in own.into_iter().chain([&zone.default]) {
            if let Some(found) = section.get(name).and_then(pick) {
                return Some(found);
            }
            for suffix in suffixes {
                full.truncate(name.len() + 1);
                full.push_str(suffix);
                if let Some(found) = section.get(&full).and_then(pick) {
                    return Some(found);
                }
            }
        }
        full.truncate(name.len() + 1);
        full.push_str(DOMAIN);
        zone.default.get(&full).and_then(pick)
    }
}

/// The name is our domain or below it, and so never asked elsewhere.
pub fn is_below_domain(name: &str) -> bool {
    name.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn addresses(entry: &Entry) -> Option<&[Ipv4Addr]> {
    match entry {
        Entry::Addresses(found) => Some(found),
        Entry::Alias(_) => None,
    }
}

fn alias(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Alias(target) => Some(target),
        Entry::Addresses(_) => None,
    }
}

/// What is found on the way through a service and, for an alias, all it leads to.
#[derive(Debug, Default)]
struct Found {
    seen: BTreeSet<i64>,
    addresses: Vec<Ipv4Addr>,
    /// The first name elsewhere. It counts when there is no address: a name has addresses or a CNAME, not both.
    hostname: Option<Arc<str>>,
}

/// The directory, indexed for one build.
struct Builder<'d> {
    directory: &'d Directory,
    host: Option<i64>,
    /// (service, sidekick) -> members, oldest first.
    members: BTreeMap<(i64, Option<&'d str>), Vec<&'d Container>>,
}

impl<'d> Builder<'d> {
    fn new(directory: &'d Directory, host: Option<i64>) -> Builder<'d> {
        let mut members: BTreeMap<_, Vec<&Container>> = BTreeMap::new();
        for container in directory.containers.values() {
            for membership in &container.services {
                members.entry((membership.service_id, membership.sidekick.as_deref())).or_default().push(container);
            }
        }
        for containers in members.values_mut() {
            containers.sort_by_key(|container| (container.create_index, container.id));
        }
        Builder { directory, host, members }
    }

    fn build(self) -> Zone {
        let targets: BTreeMap<i64, Entry> =
            self.directory.services.values().filter_map(|service| Some((service.id, self.service(service)?))).collect();
        let mut zone = Zone { revision: self.directory.revision, ..Zone::default() };
        self.put_services(&targets, &mut zone.default);
        self.put_host_network_links(&targets, &mut zone.default);
        zone.default.insert(full("rancher-metadata"), Entry::Addresses(Arc::new([SERVICE_ADDRESS])));
        self.put_containers(&mut zone.default);
        zone.default_suffixes = self.default_suffixes();
        zone.clients = self.clients(&targets);
        zone.has_aliases = targets.values().any(|entry| matches!(entry, Entry::Alias(_)));
        zone
    }

    /// What a service's own name, and every link to it, stands for; `None` when it has no records.
    fn service(&self, service: &Service) -> Option<Entry> {
        let mut found = Found::default();
        self.collect(service, &mut found);
        match found.hostname {
            _ if !found.addresses.is_empty() => Some(Entry::Addresses(unique(found.addresses))),
            hostname => hostname.map(Entry::Alias),
        }
    }

    /// §10.1 for services with containers, §10.3 for aliases (cycles end at a service seen before), §10.4 for those
    /// elsewhere.
    fn collect(&self, service: &Service, found: &mut Found) {
        if !found.seen.insert(service.id) {
            return;
        }
        match service.kind.as_str() {
            "service" | "loadBalancerService" => found.addresses.extend(self.member_addresses(service.id, None)),
            "dnsService" => {
                let targets = service.links.iter().filter_map(|link| self.directory.services.get(&link.service_id));
                targets.for_each(|target| self.collect(target, found));
            }
            "externalService" => {
                let given = service.external_addresses.iter();
                found.addresses.extend(given.filter_map(|address| address.parse::<Ipv4Addr>().ok()));
                if let (None, Some(name)) = (&found.hostname, &service.hostname) {
                    found.hostname = Some(name.trim_end_matches('.').to_lowercase().into());
                }
            }
            _ => {}
        }
    }

    /// The members that may be used; when none may, the most recently created one, so that a service resolves as long
    /// as it has containers.
    fn member_addresses(&self, service: i64, sidekick: Option<&str>) -> Vec<Ipv4Addr> {
        let Some(members) = self.members.get(&(service, sidekick)) else { return Vec::new() };
        let candidates: Vec<_> =
            members.iter().filter_map(|container| Some((*container, self.address(container)?))).collect();
        let usable: Vec<_> = candidates.iter().filter(|(container, _)| is_usable(container)).map(|c| c.1).collect();
        match usable.is_empty() {
            true => candidates.last().map(|(_, address)| *address).into_iter().collect(),
            false => usable,
        }
    }

    /// The address a container is published with, if at all (§1, §10.2).
    fn address(&self, container: &Container) -> Option<Ipv4Addr> {
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

    fn stack_domain(&self, service: &Service) -> Option<String> {
        self.directory.stacks.get(&service.stack_id).map(|stack| full(&stack.name))
    }

    fn service_domain(&self, service: &Service) -> Option<String> {
        Some(format!("{}.{}", service.name.to_lowercase(), self.stack_domain(service)?))
    }

    fn put_services(&self, targets: &BTreeMap<i64, Entry>, section: &mut Section) {
        for service in self.directory.services.values() {
            let Some(domain) = self.service_domain(service) else { continue };
            let after_primary = (Bound::Excluded((service.id, None)), Bound::Unbounded);
            let members = self.members.range(after_primary).take_while(|((id, _), _)| *id == service.id);
            for ((_, sidekick), _) in members {
                let found = self.member_addresses(service.id, *sidekick);
                if let (Some(sidekick), false) = (sidekick, found.is_empty()) {
                    section.insert(format!("{}.{domain}", sidekick.to_lowercase()), Entry::Addresses(unique(found)));
                }
            }
            if let Some(entry) = targets.get(&service.id) {
                section.insert(domain, entry.clone());
            }
        }
    }

    /// Containers by their own name, whatever their health; a service of the same full name wins.
    fn put_containers(&self, section: &mut Section) {
        let mut named: BTreeMap<String, Vec<Ipv4Addr>> = BTreeMap::new();
        for container in self.directory.containers.values().filter(|container| !container.name.is_empty()) {
            if let Some(address) = self.address(container) {
                named.entry(full(&container.name)).or_default().push(address);
            }
        }
        for (name, found) in named {
            section.entry(name).or_insert_with(|| Entry::Addresses(unique(found)));
        }
    }

    /// Containers in host network mode cannot be told apart by source address: their links go to everybody here.
    fn put_host_network_links(&self, targets: &BTreeMap<i64, Entry>, section: &mut Section) {
        for container in self.of_this_host().filter(|container| container.network_mode == "host") {
            for (name, entry) in self.service_links(container, targets) {
                section.entry(name).or_insert(entry);
            }
        }
    }

    fn default_suffixes(&self) -> Vec<String> {
        let labelled = |container: &&Container| container.network_mode == "host" && container.dns_label == Some(true);
        let services = self.of_this_host().filter(labelled).flat_map(|container| self.suffixes(container));
        with_domain_last(services)
    }

    fn clients(&self, targets: &BTreeMap<i64, Entry>) -> HashMap<Ipv4Addr, Client> {
        let managed = self.of_this_host().filter(|container| container.network_mode == "managed");
        managed
            .filter_map(|container| {
                let address = self.address(container)?;
                let mut section = self.container_links(container);
                section.extend(self.service_links(container, targets));
                let client = Client {
                    section,
                    suffixes: with_domain_last(self.suffixes(container).into_iter()),
                    upstreams: container.dns.iter().filter_map(|server| usable_upstream(server)).collect(),
                };
                Some((address, client))
            })
            .collect()
    }

    fn of_this_host(&self) -> impl Iterator<Item = &'d Container> {
        let host = self.host;
        let ours = move |container: &&Container| host.is_some() && container.host_id == host;
        self.directory.containers.values().filter(ours).filter(|container| !is_removed(&container.state))
    }

    fn services_of(&self, container: &'d Container) -> impl Iterator<Item = &'d Service> {
        let services = &self.directory.services;
        container.services.iter().filter_map(|membership| services.get(&membership.service_id))
    }

    /// Stack, then service, for every service the container belongs to.
    fn suffixes(&self, container: &'d Container) -> Vec<String> {
        let services = self.services_of(container);
        services
            .filter_map(|service| Some([self.stack_domain(service)?, self.service_domain(service)?]))
            .flatten()
            .collect()
    }

    /// Names made by the links of the container's services; the primary's links are those of its sidekicks too.
    fn service_links(&self, container: &'d Container, targets: &BTreeMap<i64, Entry>) -> BTreeMap<String, Entry> {
        let mut names = BTreeMap::new();
        for service in self.services_of(container) {
            let Some(stack) = self.stack_domain(service) else { continue };
            for link in &service.links {
                let Some(entry) = targets.get(&link.service_id) else { continue };
                let target = self.directory.services.get(&link.service_id).map(|target| target.name.as_str());
                let Some(name) = link.alias.as_deref().filter(|alias| !alias.is_empty()).or(target) else { continue };
                let name = name.to_lowercase();
                names.insert(format!("{name}.{stack}"), entry.clone());
                names.insert(full(&name), entry.clone());
            }
        }
        names
    }

    /// Names made by container links: the link's and the target's own.
    fn container_links(&self, container: &'d Container) -> Section {
        let mut names = Section::new();
        for (link, target) in &container.links {
            let target = self.directory.containers.get(target).filter(|target| is_usable(target));
            let Some((target, address)) = target.and_then(|target| Some((target, self.address(target)?))) else {
                continue;
            };
            let entry = Entry::Addresses(Arc::new([address]));
            names.insert(full(&target.name), entry.clone());
            names.insert(full(link), entry);
        }
        names
    }
}

/// Running or about to, and not known to be unwell.
fn is_usable(container: &Container) -> bool {
    matches!(container.state.as_str(), "running" | "starting")
        && matches!(container.health.as_deref(), None | Some("healthy" | "updating-healthy"))
}

fn is_removed(state: &str) -> bool {
    matches!(state, "removed" | "purging" | "purged")
}

fn full(name: &str) -> String {
    format!("{}.{DOMAIN}", name.to_lowercase())
}

fn with_domain_last(suffixes: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::from([DOMAIN.to_owned()]);
    let mut kept: Vec<String> = suffixes.filter(|suffix| seen.insert(suffix.clone())).collect();
    kept.push(DOMAIN.to_owned());
    kept
}

fn unique(found: Vec<Ipv4Addr>) -> Arc<[Ipv4Addr]> {
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|address| seen.insert(*address)).collect()
}

/// A name server a container or its host asks for; never ourselves.
pub fn usable_upstream(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().filter(|address| *address != IpAddr::V4(SERVICE_ADDRESS))
}

#[cfg(test)]
mod tests {
    use remuda_wire::directory::{Entry as Row, Host, Link, Membership, Stack};

    use super::*;

    const HERE: i64 = 1;
    const THERE: i64 = 2;

    /// Two hosts (10.0.0.1 is ours, 10.0.0.2) and what the calls add.
    struct World(Directory);

    fn world() -> World {
        let mut directory = Directory { revision: 7, ..Directory::default() };
        for (id, address) in [(HERE, "10.0.0.1"), (THERE, "10.0.0.2")] {
            directory.put(Row::Host(Host { id, address: Some(address.into()), ..Host::default() }));
        }
        for (id, name) in [(1, "stackA"), (2, "stackB")] {
            directory.put(Row::Stack(Stack { id, name: name.into() }));
        }
        World(directory)
    }

    /// Members of a service: primary, or a sidekick.
    fn of(service_id: i64) -> Vec<Membership> {
        vec![Membership { service_id, sidekick: None }]
    }

    fn sidekick(service_id: i64, name: &str) -> Vec<Membership> {
        vec![Membership { service_id, sidekick: Some(name.into()) }]
    }

    impl World {
        fn service(mut self, id: i64, stack_id: i64, name: &str, kind: &str, links: &[(Option<&str>, i64)]) -> World {
            let link = |(alias, service_id): &(Option<&str>, i64)| Link {
                alias: alias.map(str::to_owned),
                service_id: *service_id,
            };
            let links = links.iter().map(link).collect();
            self.0.put(Row::Service(Service {
                id,
                stack_id,
                name: name.into(),
                kind: kind.into(),
                state: "active".into(),
                links,
                ..Service::default()
            }));
            self
        }

        /// An active external service with addresses, or else a name.
        fn external(mut self, id: i64, stack_id: i64, name: &str, place: &str) -> World {
            let (names, addresses): (Vec<&str>, Vec<&str>) =
                place.split(' ').partition(|word| word.contains(|c: char| c.is_ascii_alphabetic()));
            self.0.put(Row::Service(Service {
                id,
                stack_id,
                name: name.into(),
                kind: "externalService".into(),
                state: "active".into(),
                external_addresses: addresses.into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect(),
                hostname: names.first().map(|name| (*name).to_owned()),
                ..Service::default()
            }));
            self
        }

        /// A running managed container on our host, numbered in order.
        fn container(self, name: &str, address: &str, services: Vec<Membership>) -> World {
            self.container_with(name, address, services, |_| {})
        }

        fn container_with(
            mut self,
            name: &str,
            address: &str,
            services: Vec<Membership>,
            change: impl FnOnce(&mut Container),
        ) -> World {
            let id = self.0.containers.len() as i64 + 1;
            let mut container = Container {
                id,
                create_index: id,
                name: name.into(),
                state: "running".into(),
                address: Some(address.into()).filter(|address: &String| !address.is_empty()),
                network_mode: "managed".into(),
                host_id: Some(HERE),
                services,
                ..Container::default()
            };
            change(&mut container);
            self.0.put(Row::Container(container));
            self
        }

        fn zone(&self) -> Zone {
            Zone::build(&self.0, Some(HERE))
        }
    }

    /// What A for `name` gives the client with that address, in words.
    fn ask(zone: &Zone, client: &str, kind: RecordType, name: &str) -> String {
        let view = zone.view(client.parse().unwrap());
        say(&view.answer(&name.to_lowercase(), kind))
    }

    fn say(answer: &Answer<'_>) -> String {
        let list = |found: &[Ipv4Addr]| found.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(" ");
        match answer {
            Answer::Addresses(found) => list(found),
            Answer::Alias(target) => format!("CNAME {target}"),
            Answer::Chain { targets, end: ChainEnd::Addresses(found) } => {
                format!("CNAME {} {}", targets.join(" "), list(found))
            }
            Answer::Chain { targets, end: ChainEnd::Upstream { otherwise } } => {
                format!("CNAME {} upstream, else {}", targets.join(" "), say(otherwise))
            }
            Answer::Empty => "empty".into(),
            Answer::Missing => "missing".into(),
            Answer::Soa => "soa".into(),
            Answer::Forward => "forward".into(),
            Answer::NotImplemented => "not implemented".into(),
        }
    }

    fn check(zone: &Zone, kind: RecordType, cases: &[(&str, &str, &str)]) {
        for (client, name, expected) in cases {
            assert_eq!(ask(zone, client, kind, name), *expected, "{client} asks {kind} {name}");
        }
    }

    /// §14
    fn worked_example() -> World {
        world()
            .service(1, 1, "web", "service", &[(Some("mysql"), 3)])
            .service(2, 1, "front", "dnsService", &[(None, 1)])
            .service(3, 2, "db", "service", &[])
            .external(4, 1, "ext", "api.example.com")
            .container("stackA_web_1", "10.42.1.1", of(1))
            .container("stackA_web_2", "10.42.1.2", of(1))
            .container("stackB_db_1", "10.42.9.9", of(3))
            .container_with("stackB_db_2", "10.42.9.10", of(3), |c| c.health = Some("unhealthy".into()))
    }

    #[test]
    fn the_worked_example() {
        let zone = worked_example().zone();
        let (web, db, host) = ("10.42.1.1", "10.42.9.9", "10.42.0.1");
        check(
            &zone,
            RecordType::A,
            &[
                (web, "mysql", "10.42.9.9"),
                (web, "MYSQL.rancher.internal", "10.42.9.9"),
                (web, "mysql.stacka", "10.42.9.9"),
                (web, "db.stackb", "10.42.9.9"),
                (web, "front", "10.42.1.1 10.42.1.2"),
                (web, "ext", "CNAME api.example.com upstream, else forward"),
                (web, "web", "10.42.1.1 10.42.1.2"),
                (db, "web", "forward"),
                (db, "web.stacka", "10.42.1.1 10.42.1.2"),
                (db, "mysql.rancher.internal", "missing"),
                (web, "stackB_db_2", "10.42.9.10"),
                (host, "stackB_db_2", "10.42.9.10"),
                (host, "stackB_db_2.rancher.internal", "10.42.9.10"),
                (host, "mysql", "forward"),
                (host, "rancher-metadata", "169.254.169.250"),
                (host, "web.stacka.rancher.internal.rancher.internal", "missing"),
                (host, "example.com", "forward"),
                (host, "notrancher.internal", "forward"),
                (host, "rancher.internal", "empty"),
                (web, "stacka.rancher.internal", "missing"),
            ],
        );
        check(
            &zone,
            RecordType::AAAA,
            &[
                (web, "web", "empty"),
                (web, "mysql.rancher.internal", "empty"),
                (db, "web", "forward"),
                (db, "mysql.rancher.internal", "missing"),
            ],
        );
        check(&zone, RecordType::ANY, &[(web, "web", "not implemented"), (web, "example.com", "not implemented")]);
        check(
            &zone,
            RecordType::MX,
            &[
                (web, "web.stacka.rancher.internal", "empty"),
                (web, "nobody.rancher.internal", "missing"),
                (web, "web", "forward"),
            ],
        );
        check(
            &zone,
            RecordType::SOA,
            &[(web, "rancher.internal", "soa"), (web, "web.stacka.rancher.internal", "empty")],
        );
        assert_eq!(zone.revision(), 7);
    }

    #[test]
    fn only_the_usable_are_returned_and_one_is_always_left() {
        // (state, health) of two containers of one service, and what the name gives.
        let cases = [
            ([("running", None), ("running", None)], "10.42.0.11 10.42.0.12"),
            ([("starting", Some("healthy")), ("running", Some("updating-healthy"))], "10.42.0.11 10.42.0.12"),
            ([("running", Some("initializing")), ("running", Some("healthy"))], "10.42.0.12"),
            ([("running", Some("healthy")), ("running", Some("unhealthy"))], "10.42.0.11"),
            ([("running", Some("healthy")), ("running", Some("updating-unhealthy"))], "10.42.0.11"),
            ([("running", None), ("stopped", None)], "10.42.0.11"),
            ([("running", None), ("removed", None)], "10.42.0.11"),
            ([("stopped", None), ("stopped", None)], "10.42.0.12"),
            ([("stopped", None), ("removing", None)], "10.42.0.12"),
            ([("stopped", None), ("removed", None)], "10.42.0.11"),
            ([("running", Some("unhealthy")), ("running", Some("unhealthy"))], "10.42.0.12"),
            ([("removed", None), ("purged", None)], "missing"),
        ];
        for (states, expected) in cases {
            let mut world = world().service(1, 1, "web", "service", &[]);
            for (idx, (state, health)) in states.iter().enumerate() {
                world = world.container_with("", &format!("10.42.0.1{}", idx + 1), of(1), |c| {
                    c.state = (*state).into();
                    c.health = health.map(str::to_owned);
                });
            }
            assert_eq!(
                ask(&world.zone(), "10.9.9.9", RecordType::A, "web.stacka.rancher.internal"),
                expected,
                "{states:?}"
            );
        }
    }

    #[test]
    fn the_one_left_is_the_most_recently_created() {
        let stopped =
            |create_index| move |c: &mut Container| (c.state, c.create_index) = ("stopped".into(), create_index);
        let world = world()
            .service(1, 1, "web", "service", &[])
            .container_with("", "10.42.0.11", of(1), stopped(9))
            .container_with("", "10.42.0.12", of(1), stopped(3));
        check(&world.zone(), RecordType::A, &[("10.9.9.9", "web.stacka", "10.42.0.11")]);
    }

    #[test]
    fn sidekicks_have_names_below_their_service() {
        let zone = world()
            .service(1, 1, "foo", "service", &[(Some("store"), 2)])
            .service(2, 1, "db", "service", &[])
            .container("stackA_foo_1", "10.42.0.11", of(1))
            .container("stackA_foo_bar_1", "10.42.0.21", sidekick(1, "Bar"))
            .container_with("stackA_foo_bar_2", "10.42.0.22", sidekick(1, "Bar"), |c| c.host_id = Some(THERE))
            .container("stackA_db_1", "10.42.0.31", of(2))
            .container("stackA_db_log_1", "10.42.0.32", sidekick(2, "log"))
            .zone();
        let (foo, bar, db) = ("10.42.0.11", "10.42.0.21", "10.42.0.31");
        check(
            &zone,
            RecordType::A,
            &[
                (foo, "foo", "10.42.0.11"),
                (foo, "bar", "10.42.0.21 10.42.0.22"),
                (foo, "bar.foo", "10.42.0.21 10.42.0.22"),
                (bar, "bar", "10.42.0.21 10.42.0.22"),
                (bar, "store", "10.42.0.31"),
                (bar, "store.stacka.rancher.internal", "10.42.0.31"),
                (db, "bar", "forward"),
                (db, "bar.foo", "10.42.0.21 10.42.0.22"),
                (db, "store", "forward"),
                (db, "stacka_foo_bar_2", "10.42.0.22"),
            ],
        );
    }

    #[test]
    fn links_without_alias_use_the_target_name_and_aliases_may_have_dots() {
        let zone = world()
            .service(1, 1, "web", "service", &[(None, 3), (Some("My.Db"), 3), (Some(""), 4)])
            .service(3, 2, "db", "service", &[])
            .service(4, 2, "cache", "service", &[])
            .container("stackA_web_1", "10.42.1.1", of(1))
            .container("stackB_db_1", "10.42.9.9", of(3))
            .container("stackB_cache_1", "10.42.9.8", of(4))
            .zone();
        let expected =
            [("db", "10.42.9.9"), ("my.db", "10.42.9.9"), ("my.db.stacka", "10.42.9.9"), ("cache", "10.42.9.8")];
        for (name, address) in expected {
            check(&zone, RecordType::A, &[("10.42.1.1", name, address)]);
        }
        check(&zone, RecordType::A, &[("10.42.9.9", "my.db", "forward")]);
    }

    #[test]
    fn container_links_follow_usability_and_lose_to_service_links() {
        let link = |names: &[(&str, i64)]| {
            let links: BTreeMap<_, _> = names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
            move |c: &mut Container| c.links = links
        };
        let zone = world()
            .service(1, 1, "web", "service", &[(Some("db"), 2)])
            .service(2, 2, "pg", "service", &[])
            .container("target", "10.42.0.1", vec![])
            .container_with("stopped", "10.42.0.2", vec![], |c| c.state = "stopped".into())
            .container_with("client", "10.42.0.3", vec![], link(&[("db", 1), ("gone", 2), ("nowhere", 99)]))
            .container_with("stackA_web_1", "10.42.0.4", of(1), link(&[("db", 1)]))
            .container("stackB_pg_1", "10.42.0.5", of(2))
            .zone();
        let (client, web) = ("10.42.0.3", "10.42.0.4");
        check(
            &zone,
            RecordType::A,
            &[
                (client, "db", "10.42.0.1"),
                (client, "db.rancher.internal", "10.42.0.1"),
                (client, "target", "10.42.0.1"),
                (client, "gone", "forward"),
                (client, "gone.rancher.internal", "missing"),
                (client, "nowhere.rancher.internal", "missing"),
                (client, "stopped", "10.42.0.2"),
                (web, "db", "10.42.0.5"),
            ],
        );
    }

    #[test]
    fn network_modes_decide_what_is_published() {
        // (mode, label, own address, expected)
        let cases = [
            ("managed", None, "10.42.0.9", "10.42.0.9"),
            ("managed", Some(false), "10.42.0.9/16", "10.42.0.9"),
            ("container", None, "10.42.0.9", "10.42.0.9"),
            ("bridge", None, "172.17.0.2", "missing"),
            ("bridge", Some(true), "172.17.0.2", "172.17.0.2"),
            ("host", None, "", "missing"),
            ("host", Some(false), "", "missing"),
            ("host", Some(true), "", "10.0.0.1"),
            ("none", Some(true), "", "missing"),
            ("managed", None, "", "missing"),
            ("managed", None, "fe80::1", "missing"),
        ];
        for (mode, label, address, expected) in cases {
            let change = |c: &mut Container| (c.network_mode, c.dns_label) = (mode.to_owned(), label);
            let zone = world()
                .service(1, 1, "web", "service", &[])
                .container_with("it", address, of(1), change)
                .container_with("twin", address, of(1), change)
                .zone();
            for name in ["web.stacka.rancher.internal", "it.rancher.internal"] {
                assert_eq!(ask(&zone, "10.9.9.9", RecordType::A, name), expected, "{mode} {label:?} {name}");
            }
        }
    }

    #[test]
    fn host_network_services_share_suffixes_and_aliases_on_their_host_only() {
        let host_mode = |host: i64| {
            move |c: &mut Container| {
                (c.network_mode, c.dns_label, c.host_id) = ("host".into(), Some(true), Some(host));
            }
        };
        let on = |host| {
            world()
                .service(1, 1, "edge", "service", &[(Some("mysql"), 2)])
                .service(2, 2, "db", "service", &[])
                .container_with("stackA_edge_1", "", of(1), host_mode(host))
                .container("stackB_db_1", "10.42.0.5", of(2))
                .zone()
        };
        let process = "10.0.0.1";
        check(&on(HERE), RecordType::A, &[(process, "edge", "10.0.0.1"), (process, "mysql", "10.42.0.5")]);
        check(&on(THERE), RecordType::A, &[(process, "edge", "forward"), (process, "mysql", "forward")]);
        check(&on(THERE), RecordType::A, &[(process, "edge.stacka", "10.0.0.2")]);
    }

    #[test]
    fn a_service_name_wins_over_a_container_of_that_name() {
        let zone = world()
            .service(1, 1, "web", "service", &[])
            .container("stackA_web_1", "10.42.0.1", of(1))
            .container("web.stackA", "10.42.0.2", vec![])
            .container("rancher-metadata", "10.42.0.3", vec![])
            .container("twice", "10.42.0.4", vec![])
            .container("twice", "10.42.0.5", vec![])
            .zone();
        check(
            &zone,
            RecordType::A,
            &[
                ("10.9.9.9", "web.stacka", "10.42.0.1"),
                ("10.9.9.9", "rancher-metadata", "169.254.169.250"),
                ("10.9.9.9", "twice", "10.42.0.4 10.42.0.5"),
            ],
        );
    }

    #[test]
    fn alias_services_are_followed_and_cycles_end() {
        let zone = world()
            .service(1, 1, "a", "dnsService", &[(None, 2), (None, 3)])
            .service(2, 1, "b", "dnsService", &[(None, 1), (None, 4)])
            .service(3, 1, "web", "service", &[])
            .service(4, 2, "db", "service", &[])
            .service(5, 1, "nothing", "dnsService", &[])
            .container("", "10.42.0.1", of(3))
            .container("", "10.42.0.2", of(4))
            .container("", "10.42.0.3", sidekick(4, "log"))
            .zone();
        let who = "10.42.0.1";
        check(
            &zone,
            RecordType::A,
            &[
                (who, "a", "10.42.0.2 10.42.0.1"),
                (who, "b", "10.42.0.1 10.42.0.2"),
                (who, "nothing.stacka.rancher.internal", "missing"),
            ],
        );
    }

    #[test]
    fn other_hosts_containers_have_no_section_here() {
        let zone = world()
            .service(1, 1, "web", "service", &[(Some("db"), 1)])
            .container_with("stackA_web_1", "10.42.0.1", of(1), |c| c.host_id = Some(THERE))
            .zone();
        check(&zone, RecordType::A, &[("10.42.0.1", "db", "forward"), ("10.42.0.1", "web.stacka", "10.42.0.1")]);
    }

    #[test]
    fn upstreams_are_the_containers_own_without_ourselves() {
        let dns = ["9.9.9.9", "169.254.169.250", "nonsense", "2620:fe::fe"].map(str::to_owned).to_vec();
        let zone = world().container_with("c", "10.42.0.1", vec![], |c| c.dns = dns).zone();
        let view = zone.view("::ffff:10.42.0.1".parse().unwrap());
        assert_eq!(view.upstreams(), ["9.9.9.9".parse::<IpAddr>().unwrap(), "2620:fe::fe".parse().unwrap()]);
        assert!(zone.view("10.42.0.2".parse().unwrap()).upstreams().is_empty());
    }

    #[test]
    fn external_services_are_addresses_or_a_name_also_behind_links_and_aliases() {
        let zone = world()
            .service(1, 1, "web", "service", &[(Some("api"), 2), (Some("pool"), 3)])
            .external(2, 2, "far", "API.example.com.")
            .external(3, 2, "near", "192.0.2.1 192.0.2.2 2001:db8::1")
            .external(4, 2, "idle", "")
            .service(5, 1, "both", "dnsService", &[(None, 2), (None, 3)])
            .service(6, 1, "only", "dnsService", &[(None, 2), (None, 4)])
            .service(7, 1, "round", "dnsService", &[(None, 6)])
            .container("stackA_web_1", "10.42.1.1", of(1))
            .zone();
        let web = "10.42.1.1";
        check(
            &zone,
            RecordType::A,
            &[
                (web, "far.stackb", "CNAME api.example.com upstream, else forward"),
                (web, "api", "CNAME api.example.com upstream, else forward"),
                (web, "near.stackb", "192.0.2.1 192.0.2.2"),
                (web, "pool", "192.0.2.1 192.0.2.2"),
                (web, "idle.stackb.rancher.internal", "missing"),
                (web, "both", "192.0.2.1 192.0.2.2"),
                (web, "only", "CNAME api.example.com upstream, else forward"),
                (web, "round.stacka.rancher.internal", "CNAME api.example.com upstream, else empty"),
            ],
        );
        check(&zone, RecordType::CNAME, &[(web, "api", "CNAME api.example.com"), (web, "pool", "forward")]);
        check(&zone, RecordType::AAAA, &[(web, "api", "empty"), (web, "pool", "empty")]);
    }

    /// Chains of CNAMEs, which only names of external services that lead back here can make.
    fn with_aliases(names: &[(&str, &str)]) -> Zone {
        let mut zone = world().service(1, 1, "web", "service", &[]).container("", "10.42.0.1", of(1)).zone();
        zone.has_aliases = true;
        for (name, target) in names {
            zone.default.insert(full(name), Entry::Alias((*target).into()));
        }
        zone
    }

    #[test]
    fn cnames_are_chased_at_home_then_upstream() {
        let chain: Vec<(String, String)> = (0..12).map(|n| (format!("n{n}"), full(&format!("n{}", n + 1)))).collect();
        let mut names: Vec<(&str, &str)> =
            chain.iter().map(|(name, target)| (name.as_str(), target.as_str())).collect();
        names.extend([
            ("ext.stacka", "api.example.com"),
            ("twice.stacka", "ext.stacka.rancher.internal"),
            ("inside.stacka", "web.stacka.rancher.internal"),
            ("self", "self.rancher.internal"),
        ]);
        let zone = with_aliases(&names);
        let who = "10.42.0.1";
        check(
            &zone,
            RecordType::A,
            &[
                (who, "ext", "CNAME api.example.com upstream, else forward"),
                (who, "ext.stacka.rancher.internal", "CNAME api.example.com upstream, else empty"),
                (who, "twice", "CNAME ext.stacka.rancher.internal api.example.com upstream, else forward"),
                (who, "inside", "CNAME web.stacka.rancher.internal 10.42.0.1"),
                (who, "self", "forward"),
                (who, "n0.rancher.internal", "empty"),
            ],
        );
        check(
            &zone,
            RecordType::CNAME,
            &[(who, "ext", "CNAME api.example.com"), (who, "web.stacka.rancher.internal", "empty")],
        );
        check(&zone, RecordType::AAAA, &[(who, "ext", "empty")]);
    }
}
