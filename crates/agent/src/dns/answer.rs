//! What a name means to whom, worked out from the [`Book`] when somebody asks.
//!
//! All clients see one section of names; every managed container of this host has names of its own besides, those that
//! its links make. Who asks is known by the source address. Names are looked up in lower case, without the final dot
//! and without our domain.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use remuda_wire::directory::Service;

use crate::book::{Book, Names, Target, is_usable, unique};

/// The domain this host is authoritative for.
pub const DOMAIN: &str = "rancher.internal";

/// Where containers reach DNS and metadata.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 250);

/// Its name, below our domain.
const METADATA: &str = "rancher-metadata";

/// CNAMEs followed before giving up.
const MAX_DEPTH: usize = 10;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Records {
    Addresses(Arc<[Ipv4Addr]>),
    /// CNAME to a full name, for external services.
    Alias(Arc<str>),
}

/// The names as one client sees them.
#[derive(Clone, Copy, Debug)]
pub struct View<'b> {
    book: &'b Book,
    client: Option<&'b Names>,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A records, to be shuffled.
    Addresses(Arc<[Ipv4Addr]>),
    /// The CNAME itself.
    Alias(Arc<str>),
    /// CNAMEs one after the other, then the A records of the last target.
    Chain { targets: Vec<Arc<str>>, end: ChainEnd },
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
pub enum ChainEnd {
    Addresses(Arc<[Ipv4Addr]>),
    /// Ask upstream for the A records of the last target; when it has none, give this answer instead of the chain.
    Upstream {
        otherwise: Box<Answer>,
    },
}

impl<'b> View<'b> {
    /// What the client with that source address sees.
    pub fn new(book: &'b Book, source: IpAddr) -> View<'b> {
        let client = match source.to_canonical() {
            IpAddr::V4(address) => book.client(address),
            IpAddr::V6(_) => None,
        };
        View { book, client: client.map(|client| book.names_of(client)) }
    }

    /// Servers this client wants asked before the host's.
    pub fn upstreams(&self) -> &'b [IpAddr] {
        self.client.map_or(&[], |client| &client.upstreams)
    }

    /// The answer for `name` (lower case, no final dot) in class IN.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
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

    fn addresses(&self, name: &str) -> Answer {
        let mut targets: Vec<Arc<str>> = Vec::new();
        loop {
            let current: &str = targets.last().map_or(name, |target| target);
            match self.alias(current) {
                Some(target) if *target != *current => {
                    if targets.len() == MAX_DEPTH {
                        return self.without_chain(name);
                    }
                    targets.push(target);
                }
                _ => break,
            }
        }
        let end: &str = targets.last().map_or(name, |target| target);
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
    fn without_chain(&self, name: &str) -> Answer {
        self.find(name, addresses).map_or_else(|| self.without_records(name), Answer::Addresses)
    }

    /// The answer when there are no records of the type asked for. Nodes that only have names below them do not
    /// exist: an empty NOERROR would end the search of musl's resolver.
    fn without_records(&self, name: &str) -> Answer {
        match () {
            () if !is_below_domain(name) => Answer::Forward,
            () if name == DOMAIN || self.exists(name) => Answer::Empty,
            () => Answer::Missing,
        }
    }

    fn alias(&self, name: &str) -> Option<Arc<str>> {
        if self.book.has_elsewhere() { self.find(name, alias) } else { None }
    }

    fn exists(&self, name: &str) -> bool {
        self.find(name, |_| Some(())).is_some()
    }

    /// The look-up of §11: own section, default section, default section with the domain alone; in each the name as it
    /// is when it is below our domain, else with every suffix.
    fn find<T>(&self, name: &str, pick: fn(Records) -> Option<T>) -> Option<T> {
        let own = |rest: &str| {
            let target = self.client.and_then(|client| client.links.get(rest))?;
            records_of(self.book, *target).and_then(pick)
        };
        let all = |rest: &str| records(self.book, rest).and_then(pick);
        if is_below_domain(name) {
            let rest = name.strip_suffix(DOMAIN).map_or(name, |rest| rest.trim_end_matches('.'));
            return own(rest).or_else(|| all(rest));
        }
        let suffixes = self.client.map_or_else(|| &self.book.shared_names().suffixes, |client| &client.suffixes);
        let mut full = String::with_capacity(name.len() + 64);
        let mut with = |suffix: &str, look: &dyn Fn(&str) -> Option<T>| {
            if suffix.is_empty() {
                return look(name);
            }
            full.clear();
            full.push_str(name);
            full.push('.');
            full.push_str(suffix);
            look(&full)
        };
        if self.client.is_some_and(|client| !client.links.is_empty())
            && let Some(found) = suffixes.iter().find_map(|suffix| with(suffix, &own))
        {
            return Some(found);
        }
        // The domain alone is the last suffix.
        suffixes.iter().find_map(|suffix| with(suffix, &all))
    }
}

/// What everybody gets for a name without our domain: services, then links of containers in host network mode, then
/// containers by their own name, whatever their health.
fn records(book: &Book, rest: &str) -> Option<Records> {
    if rest == METADATA {
        return Some(Records::Addresses(Arc::new([SERVICE_ADDRESS])));
    }
    if let Some((head, stack)) = rest.rsplit_once('.')
        && let Some(found) = book.stacks_named(stack).iter().find_map(|stack| of_stack(book, *stack, head))
    {
        return Some(found);
    }
    if let Some(found) = book.shared_names().links.get(rest).and_then(|target| records_of(book, *target)) {
        return Some(found);
    }
    let found: Vec<Ipv4Addr> = book.containers_named(rest).filter_map(|container| book.address(container)).collect();
    (!found.is_empty()).then(|| Records::Addresses(unique(found)))
}

/// `service` or `sidekick.service` of a stack.
fn of_stack(book: &Book, stack: i64, head: &str) -> Option<Records> {
    let Some((sidekick, service)) = head.split_once('.') else {
        return of_service(book, book.service_named(stack, head)?);
    };
    let service = book.service_named(stack, service)?;
    let named = |name: &Option<String>| name.as_ref().is_some_and(|name| name.to_lowercase() == sidekick);
    let members = book.members(service.id).iter().find(|members| named(&members.sidekick))?;
    let found = book.member_addresses(members);
    (!found.is_empty()).then(|| Records::Addresses(Arc::clone(found)))
}

fn records_of(book: &Book, target: Target) -> Option<Records> {
    match target {
        Target::Service(id) => of_service(book, book.directory().services.get(&id)?),
        Target::Container(id) => {
            let container = book.directory().containers.get(&id).filter(|container| is_usable(container))?;
            Some(Records::Addresses(Arc::new([book.address(container)?])))
        }
    }
}

/// What a service's own name, and every link to it, stands for; `None` when it has no records.
fn of_service(book: &Book, service: &Service) -> Option<Records> {
    if has_members(service) {
        let members = book.members(service.id).iter().find(|members| members.sidekick.is_none())?;
        let found = book.member_addresses(members);
        return (!found.is_empty()).then(|| Records::Addresses(Arc::clone(found)));
    }
    let mut found = Found::default();
    collect(book, service, &mut found);
    match found.hostname {
        _ if !found.addresses.is_empty() => Some(Records::Addresses(unique(found.addresses))),
        hostname => hostname.map(Records::Alias),
    }
}

fn has_members(service: &Service) -> bool {
    matches!(service.kind.as_str(), "service" | "loadBalancerService")
}

/// What is found on the way through a service and, for an alias, all it leads to.
#[derive(Debug, Default)]
struct Found {
    seen: BTreeSet<i64>,
    addresses: Vec<Ipv4Addr>,
    /// The first name elsewhere. It counts when there is no address: a name has addresses or a CNAME, not both.
    hostname: Option<Arc<str>>,
}

/// §10.1 for services with containers, §10.3 for aliases (cycles end at a service seen before), §10.4 for those
/// elsewhere.
fn collect(book: &Book, service: &Service, found: &mut Found) {
    if !found.seen.insert(service.id) {
        return;
    }
    match service.kind.as_str() {
        _ if has_members(service) => {
            let primary = book.members(service.id).iter().find(|members| members.sidekick.is_none());
            found.addresses.extend(primary.into_iter().flat_map(|members| book.member_addresses(members).iter()));
        }
        "dnsService" => {
            let targets = service.links.iter().filter_map(|link| book.directory().services.get(&link.service_id));
            targets.for_each(|target| collect(book, target, found));
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

/// The name is our domain or below it, and so never asked elsewhere.
pub fn is_below_domain(name: &str) -> bool {
    name.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn addresses(records: Records) -> Option<Arc<[Ipv4Addr]>> {
    match records {
        Records::Addresses(found) => Some(found),
        Records::Alias(_) => None,
    }
}

fn alias(records: Records) -> Option<Arc<str>> {
    match records {
        Records::Alias(target) => Some(target),
        Records::Addresses(_) => None,
    }
}

/// A name server a container or its host asks for; never ourselves.
pub fn usable_upstream(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().filter(|address| *address != IpAddr::V4(SERVICE_ADDRESS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use remuda_wire::directory::{Container, Directory, Entry as Row, Host, Link, Membership, Stack};

    use super::*;

    const HERE: i64 = 1;
    const THERE: i64 = 2;

    /// Two hosts (10.0.0.1 is ours, 10.0.0.2) and what the calls add.
    struct World(Directory);

    fn world() -> World {
        let mut directory = Directory { revision: 7, ..Directory::default() };
        for (id, address) in [(HERE, "10.0.0.1"), (THERE, "10.0.0.2")] {
            let uuid = format!("host-{id}");
            directory.put(Row::Host(Host { id, uuid, address: Some(address.into()), ..Host::default() }));
        }
        for (id, name) in [(1, "stackA"), (2, "stackB")] {
            directory.put(Row::Stack(Stack { id, name: name.into(), ..Stack::default() }));
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

        fn zone(&self) -> Book {
            Book::of(self.0.clone(), "host-1")
        }
    }

    /// What A for `name` gives the client with that address, in words.
    fn ask(zone: &Book, client: &str, kind: RecordType, name: &str) -> String {
        let view = View::new(zone, client.parse().unwrap());
        say(&view.answer(&name.to_lowercase(), kind))
    }

    fn say(answer: &Answer) -> String {
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

    fn check(zone: &Book, kind: RecordType, cases: &[(&str, &str, &str)]) {
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
        assert_eq!(zone.version(), 7);
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
        let view = View::new(&zone, "::ffff:10.42.0.1".parse().unwrap());
        assert_eq!(view.upstreams(), ["9.9.9.9".parse::<IpAddr>().unwrap(), "2620:fe::fe".parse().unwrap()]);
        assert!(View::new(&zone, "10.42.0.2".parse().unwrap()).upstreams().is_empty());
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

    #[test]
    fn cnames_are_chased_at_home_then_upstream() {
        let mut world = world().service(1, 1, "web", "service", &[]).container("", "10.42.0.1", of(1));
        for n in 0..12 {
            world = world.external(20 + n, 1, &format!("n{n}"), &format!("n{}.stacka.rancher.internal", n + 1));
        }
        let zone = world
            .external(2, 1, "ext", "api.example.com")
            .external(3, 1, "twice", "ext.stacka.rancher.internal")
            .external(4, 1, "inside", "web.stacka.rancher.internal")
            .external(5, 1, "self", "self.stacka.rancher.internal")
            .zone();
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
                (who, "n0.stacka.rancher.internal", "empty"),
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
