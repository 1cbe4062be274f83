//! The tree as one client sees it in one version (`metadata-service.md` §§3, 4, 6, 7, 10).
//!
//! Lists are walked without being made: an element is found by its index, name or uuid among rows, and only what is
//! asked for is put together.

use std::net::IpAddr;

use remuda_wire::directory::{Common, Container, Hash, Host, Launch, Service, Stack};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::request::Version;
use crate::book::Book;

type Object = Map<String, Value>;

/// The tree of one client.
pub struct Tree<'b> {
    book: &'b Book,
    version: Version,
    /// Who asks, when that is a managed container of this host.
    client: Option<&'b Container>,
}

/// Something lists hold.
#[derive(Clone, Copy)]
enum Item<'b> {
    Container(&'b Container),
    /// A service, as one of its launch configs: the idx-th.
    Service(&'b Service, usize),
    Stack(&'b Stack),
    Host(&'b Host),
}

impl<'b> Tree<'b> {
    pub fn new(book: &'b Book, source: IpAddr, version: Version) -> Tree<'b> {
        let client = match source.to_canonical() {
            IpAddr::V4(address) => book.client(address),
            IpAddr::V6(_) => None,
        };
        let client = client.and_then(|client| book.directory().containers.get(&client.container));
        Tree { book, version, client: client.map(AsRef::as_ref) }
    }

    /// What is at that path, or at the same path in lower case.
    pub fn find(&self, path: &[String]) -> Option<Value> {
        self.at(path).or_else(|| {
            let lower: Vec<String> = path.iter().map(|element| element.to_lowercase()).collect();
            (lower != path).then(|| self.at(&lower))?
        })
    }

    /// Whether the value there holds a whole list of the project.
    pub fn is_large(&self, path: &[String]) -> bool {
        match path {
            [] => true,
            [list] => matches!(list.as_str(), "containers" | "services" | "stacks"),
            _ => false,
        }
    }

    fn at(&self, path: &[String]) -> Option<Value> {
        let Some((first, rest)) = path.split_first() else { return Some(self.whole()) };
        match first.as_str() {
            "version" => walk(json!(self.version_text()), rest),
            "self" => self.of_self(rest),
            "networks" if self.version == Version::V3 => walk_list(self.networks(), rest),
            list => self.in_list(&self.list(list)?, rest),
        }
    }

    /// Changes whenever anything in the tree does, also when the server's database becomes another one.
    fn version_text(&self) -> String {
        let place = Hash::of(&json!(self.book.source));
        let place = String::from(place);
        format!("{}-{}", self.book.version(), &place[..8])
    }

    fn whole(&self) -> Value {
        let lists = ["containers", "hosts", "services", "stacks"];
        let mut tree = Object::new();
        for list in lists {
            let items = self.list(list).unwrap_or_default();
            tree.insert(list.to_owned(), items.into_iter().map(|item| self.value(item)).collect());
        }
        tree.insert("self".to_owned(), self.of_self(&[]).unwrap_or_default());
        tree.insert("version".to_owned(), self.version_text().into());
        if self.version == Version::V3 {
            tree.insert("networks".to_owned(), self.networks().into());
        }
        Value::Object(tree)
    }

    /// The list of that name, in order of creation.
    fn list(&self, name: &str) -> Option<Vec<Item<'b>>> {
        let directory = self.book.directory();
        Some(match name {
            "containers" => {
                let all = directory.containers.values().map(AsRef::as_ref);
                all.filter(|container| self.is_listed(container)).map(Item::Container).collect()
            }
            "services" => directory.services.values().flat_map(|service| self.entries(service)).collect(),
            "stacks" => directory.stacks.values().map(Item::Stack).collect(),
            "hosts" => directory.hosts.values().map(Item::Host).collect(),
            _ => return None,
        })
    }

    /// On a host and not going away; with an address, which only the newest version does without.
    fn is_listed(&self, container: &Container) -> bool {
        container.host_id.is_some()
            && !matches!(container.state.as_str(), "removing" | "removed" | "purging" | "purged")
            && (self.version == Version::V3 || primary_ip(container).is_some())
    }

    /// One entry for each launch config.
    fn entries(&self, service: &'b Service) -> Vec<Item<'b>> {
        let n_launches = self.launches(service).len().max(1);
        (0..n_launches).map(|idx| Item::Service(service, idx)).collect()
    }

    fn of_self(&self, path: &[String]) -> Option<Value> {
        let own = self.book.own().and_then(|id| self.book.directory().hosts.get(&id));
        let service = self.client.and_then(|client| self.service_of(client));
        let stack = service.and_then(|(service, _)| self.book.directory().stacks.get(&service.stack_id));
        let item = |name: &str| match name {
            "host" => Some(own.map(Item::Host)),
            "container" => self.client.map(|client| Some(Item::Container(client))),
            "service" => self.client.map(|_| service.map(|(service, idx)| Item::Service(service, idx))),
            "stack" => self.client.map(|_| stack.map(Item::Stack)),
            _ => None,
        };
        match path.split_first() {
            Some((name, rest)) => match item(name)? {
                Some(item) => self.in_item(item, rest),
                None => walk(Value::Null, rest),
            },
            None => {
                let all = ["container", "host", "service", "stack"];
                let shown =
                    |name: &str| Some((name.to_owned(), item(name)?.map_or(Value::Null, |item| self.value(item))));
                Some(Value::Object(all.into_iter().filter_map(shown).collect()))
            }
        }
    }

    /// The service a container belongs to, and the launch config it was made from. Its own comes before those that
    /// only selected it.
    fn service_of(&self, container: &Container) -> Option<(&'b Service, usize)> {
        let own = |of: &&remuda_wire::directory::Membership| Some(of.service_id) == container.about.service;
        let of = container.services.iter().find(own).or(container.services.first())?;
        let service = self.book.directory().services.get(&of.service_id)?;
        let idx = self.launches(service).iter().position(|launch| launch.name == of.sidekick).unwrap_or(0);
        Some((service, idx))
    }

    fn in_list(&self, items: &[Item<'b>], path: &[String]) -> Option<Value> {
        let Some((element, rest)) = path.split_first() else {
            return Some(items.iter().map(|item| self.value(*item)).collect());
        };
        let item = match element.parse::<usize>() {
            Ok(idx) => items.get(idx),
            Err(_) => items
                .iter()
                .find(|item| self.name(**item) == *element)
                .or_else(|| items.iter().find(|item| uuid(**item) == element)),
        };
        self.in_item(*item?, rest)
    }

    fn in_item(&self, item: Item<'b>, path: &[String]) -> Option<Value> {
        let Some((element, rest)) = path.split_first() else { return Some(self.value(item)) };
        match (self.inner(item), element.as_str()) {
            (Some((list, items)), element) if element == list => match self.version {
                Version::V1 => walk(self.inner_value(&items), rest),
                _ => self.in_list(&items, rest),
            },
            _ => walk(Value::Object(self.shallow(item)), path),
        }
    }

    /// The list inside an item, by its name.
    fn inner(&self, item: Item<'b>) -> Option<(&'static str, Vec<Item<'b>>)> {
        match item {
            Item::Service(service, idx) => {
                let sidekick = self.launches(service).into_iter().nth(idx).and_then(|launch| launch.name);
                let members = self.book.members_of(service.id, sidekick.as_deref()).map(AsRef::as_ref);
                let listed = members.filter(|container| self.is_listed(container));
                Some(("containers", listed.map(Item::Container).collect()))
            }
            Item::Stack(stack) => {
                let all = self.book.directory().services.values();
                let own = all.filter(|service| service.stack_id == stack.id);
                Some(("services", own.flat_map(|service| self.entries(service)).collect()))
            }
            Item::Container(_) | Item::Host(_) => None,
        }
    }

    /// Names in the first version, objects later.
    fn inner_value(&self, items: &[Item<'b>]) -> Value {
        match self.version {
            Version::V1 => items.iter().map(|item| Value::from(self.name(*item))).collect(),
            _ => items.iter().map(|item| self.value(*item)).collect(),
        }
    }

    fn value(&self, item: Item<'b>) -> Value {
        let mut members = self.shallow(item);
        if let Some((list, items)) = self.inner(item) {
            members.insert(list.to_owned(), self.inner_value(&items));
        }
        Value::Object(members)
    }

    /// The members of an item without the list inside.
    fn shallow(&self, item: Item<'b>) -> Object {
        match item {
            Item::Container(container) => self.container(container),
            Item::Service(service, idx) => self.service(service, idx),
            Item::Stack(stack) => self.stack(stack),
            Item::Host(host) => self.host(host),
        }
    }

    fn name(&self, item: Item<'b>) -> String {
        match item {
            Item::Container(container) => self.cased(container_name(container)),
            Item::Service(service, idx) => {
                let launch = self.launches(service).into_iter().nth(idx);
                self.cased(&launch.and_then(|launch| launch.name).unwrap_or_else(|| service.name.clone()))
            }
            Item::Stack(stack) => self.cased(&stack.name),
            Item::Host(host) => self.cased(&host.name),
        }
    }

    /// Names are in lower case in the newest version.
    fn cased(&self, name: &str) -> String {
        if self.version == Version::V3 { name.to_lowercase() } else { name.to_owned() }
    }

    fn container(&self, container: &Container) -> Object {
        let about = &container.about;
        let directory = self.book.directory();
        let host = container.host_id.and_then(|id| directory.hosts.get(&id));
        let service = self.service_of(container);
        let stack = service.and_then(|(service, _)| directory.stacks.get(&service.stack_id));
        let common: Common = self.read(about.common);
        let mut labels = common.labels;
        labels.extend(about.labels.clone());
        let ip = primary_ip(container);
        let mut members = object(json!({
            "name": self.cased(container_name(container)),
            "uuid": container.uuid,
            "primary_ip": ip,
            "ips": ip.iter().collect::<Vec<_>>(),
            "ports": about.ports.iter().map(|port| self.port(port, host)).collect::<Vec<_>>(),
            "service_name": service.map(|(service, idx)| self.name(Item::Service(service, idx))),
            "stack_name": stack.map(|stack| self.cased(&stack.name)),
            "labels": labels,
            "create_index": about.create_index,
            "service_index": about.service_index.map(|index| index.to_string()),
            "host_uuid": host.map(|host| &host.public_uuid),
            "hostname": about.hostname,
            "health_state": container.health,
            "start_count": about.start_count,
        }));
        if self.version == Version::V3 {
            let uuid_of = |id: &i64| directory.containers.get(id).map(|row| row.uuid.clone());
            let links =
                container.links.iter().filter_map(|(name, id)| Some((name.to_lowercase(), uuid_of(id)?.into())));
            let checkers = container.check.iter().flat_map(|check| &check.checkers);
            let checkers = checkers.filter_map(|checker| directory.hosts.get(&checker.host_id));
            members.extend(object(json!({
                "state": container.state,
                "external_id": about.external_id,
                "stack_uuid": stack.map(|stack| &stack.uuid),
                "service_uuid": service.map(|(service, _)| &service.uuid),
                "environment_uuid": self.environment_uuid(),
                "primary_mac_address": about.mac_address,
                "network_uuid": self.network_of(container),
                "network_from_container_uuid": about.network_container.as_ref().and_then(uuid_of),
                "system": common.system,
                "dns": container.dns,
                "dns_search": common.dns_search,
                "health_check_hosts": checkers.map(|host| &host.public_uuid).collect::<Vec<_>>(),
                "health_check": common.health_check,
                "links": Value::Object(links.collect()),
                "memory_reservation": common.memory_reservation,
                "milli_cpu_reservation": common.milli_cpu_reservation,
            })));
        }
        members
    }

    /// The host's address stands in front of a port that is bound to none.
    fn port(&self, port: &str, host: Option<&Host>) -> String {
        let (spec, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let is_bound = spec.starts_with('[') || spec.matches(':').count() > 1;
        let anywhere = if self.version == Version::V3 { Some("0.0.0.0") } else { None };
        match anywhere.or(host.and_then(|host| host.address.as_deref())) {
            Some(address) if !is_bound => format!("{address}:{spec}/{protocol}"),
            _ => port.to_owned(),
        }
    }

    fn service(&self, service: &Service, idx: usize) -> Object {
        let directory = self.book.directory();
        let mut launches = self.launches(service);
        let sidekicks: Vec<String> =
            launches.iter().filter_map(|launch| launch.name.as_deref()).map(|name| self.cased(name)).collect();
        let launch = if idx < launches.len() { launches.swap_remove(idx) } else { Launch::default() };
        let is_primary = launch.name.is_none();
        let stack = directory.stacks.get(&service.stack_id);
        let mut links = Object::new();
        for link in service.links.iter().filter(|_| is_primary) {
            let Some(target) = directory.services.get(&link.service_id) else { continue };
            let of = directory.stacks.get(&target.stack_id).map_or("", |stack| &stack.name);
            let alias = link.alias.as_deref().filter(|alias| !alias.is_empty()).unwrap_or(&target.name);
            links.insert(self.cased(&format!("{of}/{}", target.name)), alias.into());
        }
        let metadata = service.metadata.and_then(|hash| directory.values.get(&hash));
        let mut members = object(json!({
            "name": self.cased(launch.name.as_deref().unwrap_or(&service.name)),
            "uuid": service.uuid,
            "stack_name": stack.map(|stack| self.cased(&stack.name)),
            "kind": service.kind,
            "sidekicks": if is_primary { sidekicks } else { Vec::new() },
            "links": links,
            "ports": launch.ports,
            "expose": launch.expose,
            "labels": launch.labels,
            "metadata": metadata.map_or_else(|| json!({}), |metadata| (**metadata).clone()),
            "scale": service.scale,
            "vip": null,
            "fqdn": service.fqdn,
            "external_ips": service.external_addresses,
            "hostname": service.hostname,
        }));
        if self.version != Version::V1 {
            members.insert("create_index".to_owned(), json!(service.create_index));
        }
        if self.version == Version::V3 {
            members.extend(object(json!({
                "stack_uuid": stack.map(|stack| &stack.uuid),
                "environment_uuid": self.environment_uuid(),
                "state": service.state,
                "system": false,
                "primary_service_name": self.cased(&service.name),
                "health_check": launch.health_check,
                "token": null,
            })));
        }
        members
    }

    fn stack(&self, stack: &Stack) -> Object {
        let project = self.book.directory().project.as_ref();
        let mut members = object(json!({
            "name": self.cased(&stack.name),
            "uuid": stack.uuid,
            "environment_name": project.map(|project| &project.name),
        }));
        if self.version == Version::V3 {
            members.extend(object(json!({"environment_uuid": self.environment_uuid(), "system": false})));
        }
        members
    }

    fn host(&self, host: &Host) -> Object {
        let labels: Value = self.read(host.labels);
        let mut members = object(json!({
            "name": self.cased(&host.name),
            "hostname": host.hostname,
            "agent_ip": host.address,
            "labels": if labels.is_null() { json!({}) } else { labels },
            "uuid": host.public_uuid,
        }));
        if self.version == Version::V3 {
            members.extend(object(json!({
                "state": host.state,
                "agent_state": host.agent_state,
                "milli_cpu": host.milli_cpu,
                "memory": host.memory,
                "local_storage_mb": host.local_storage_mb,
                "environment_uuid": self.environment_uuid(),
            })));
        } else {
            members.insert("hostId".to_owned(), host.id.into());
        }
        members
    }

    fn networks(&self) -> Vec<Value> {
        let project = self.book.directory().project.as_ref();
        let networks = project.iter().flat_map(|project| &project.networks);
        let show = |network: &remuda_wire::directory::Network| {
            json!({
                "name": network.name,
                "uuid": network.uuid,
                "is_default": network.is_default,
                "host_ports": true,
                "metadata": {},
                "default_policy_action": "allow",
                "policy": null,
                "environment_uuid": self.environment_uuid(),
            })
        };
        networks.map(show).collect()
    }

    fn network_of(&self, container: &Container) -> Option<&'b str> {
        let networks = &self.book.directory().project.as_ref()?.networks;
        networks.iter().find(|network| network.mode == container.network_mode).map(|network| network.uuid.as_str())
    }

    fn environment_uuid(&self) -> Option<&'b str> {
        self.book.directory().project.as_ref().map(|project| project.uuid.as_str())
    }

    fn launches(&self, service: &Service) -> Vec<Launch> {
        self.read(service.launches)
    }

    /// A value of the directory; nothing when it is not there.
    fn read<T: DeserializeOwned + Default>(&self, hash: Option<Hash>) -> T {
        let value = hash.and_then(|hash| self.book.directory().values.get(&hash));
        value.and_then(|value| T::deserialize(value.as_ref()).ok()).unwrap_or_default()
    }
}

/// A container nobody named goes by its uuid: readers of lists fall over names that are null.
fn container_name(container: &Container) -> &str {
    if container.name.is_empty() { &container.uuid } else { &container.name }
}

fn primary_ip(container: &Container) -> Option<&str> {
    // Who shares a network is seen under the address of whose it is.
    let address = container.address.as_deref().filter(|_| container.network_mode != "container")?;
    address.split('/').next()
}

fn uuid<'b>(item: Item<'b>) -> &'b str {
    match item {
        Item::Container(container) => &container.uuid,
        Item::Service(service, _) => &service.uuid,
        Item::Stack(stack) => &stack.uuid,
        Item::Host(host) => &host.public_uuid,
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

/// Down from a value: keys in maps, indexes and names in lists.
fn walk(mut value: Value, path: &[String]) -> Option<Value> {
    for (idx, element) in path.iter().enumerate() {
        value = match value {
            Value::Object(mut members) => members.remove(element)?,
            Value::Array(items) => return walk_list(items, &path[idx..]),
            _ => return None,
        };
    }
    Some(value)
}

fn walk_list(mut items: Vec<Value>, path: &[String]) -> Option<Value> {
    let Some((element, rest)) = path.split_first() else { return Some(Value::Array(items)) };
    let is_called = |key: &str, item: &Value| item.get(key).and_then(Value::as_str) == Some(element);
    let at = match element.parse::<usize>() {
        Ok(at) => at,
        Err(_) => items
            .iter()
            .position(|item| is_called("name", item))
            .or_else(|| items.iter().position(|item| is_called("uuid", item)))?,
    };
    if at >= items.len() {
        return None;
    }
    walk(items.swap_remove(at), rest)
}

#[cfg(test)]
mod tests {
    use remuda_wire::directory::{About, Directory, Entry, Link, Membership, Network, Project, Value as Shared};

    use super::*;

    /// The worked example of §13: `shop` with `web` (two containers on `node1`, sidekick `logger`) and `db`.
    fn book() -> Book {
        let mut directory = Directory { revision: 9, ..Directory::default() };
        let mut value = |value: Value| {
            let shared = Shared::new(value);
            let hash = shared.hash;
            directory.put(Entry::Value(shared));
            Some(hash)
        };
        let launches = json!([
            {"labels": {"tier": "front"}, "ports": ["8080:80/tcp"], "expose": ["99"]},
            {"name": "logger", "labels": {"l": "1"}},
        ]);
        let launches = value(launches);
        let metadata = value(json!({"pool": {"size": 4, "names": ["a", "b"]}}));
        let common = value(json!({"labels": {"tier": "front"}, "dnsSearch": ["shop.rancher.internal"]}));
        let labels = value(json!({"zone": "a"}));
        let network = Network { uuid: "n".into(), mode: "managed".into(), ..Network::default() };
        directory.put(Entry::Project(Project {
            id: 5,
            uuid: "env".into(),
            name: "Default".into(),
            networks: vec![network],
        }));
        directory.put(Entry::Stack(Stack { id: 1, uuid: "st".into(), name: "shop".into() }));
        let web = Service {
            id: 1,
            uuid: "sw".into(),
            stack_id: 1,
            name: "Web".into(),
            kind: "service".into(),
            scale: Some(2),
            create_index: Some(4),
            links: vec![Link { alias: Some("mysql".into()), service_id: 2 }],
            launches,
            metadata,
            ..Service::default()
        };
        directory.put(Entry::Service(web));
        let db = Service { id: 2, uuid: "sd".into(), stack_id: 1, name: "db".into(), ..Service::default() };
        directory.put(Entry::Service(db));
        for (id, uuid, name, address) in [(1, "h1", "node1", "192.0.2.11"), (2, "h2", "node2", "192.0.2.12")] {
            directory.put(Entry::Host(Host {
                id,
                uuid: format!("reported-{uuid}"),
                public_uuid: uuid.into(),
                name: name.into(),
                hostname: name.into(),
                address: Some(address.into()),
                labels,
                ..Host::default()
            }));
        }
        let container = |id: i64, name: &str, host: i64, sidekick: Option<&str>| Container {
            id,
            uuid: format!("c{id}"),
            name: name.into(),
            state: "running".into(),
            host_id: Some(host),
            address: Some(format!("10.42.20.{id}")),
            network_mode: "managed".into(),
            create_index: id,
            services: vec![Membership { service_id: 1, sidekick: sidekick.map(str::to_owned) }],
            about: About {
                common,
                labels: [("io.rancher.service.deployment.unit".to_owned(), format!("u{id}"))].into(),
                ports: vec!["8080:80/tcp".into(), "127.0.0.1:81:81/udp".into(), "99/tcp".into()],
                service: Some(1),
                create_index: Some(id),
                service_index: Some(id),
                start_count: 1,
                ..About::default()
            },
            ..Container::default()
        };
        for row in [
            container(7, "shop_Web_1", 1, None),
            container(8, "shop_Web_2", 2, None),
            container(9, "shop_Web_logger_1", 1, Some("logger")),
            Container {
                services: vec![],
                about: About::default(),
                health: Some("healthy".into()),
                ..container(10, "", 1, None)
            },
            Container { address: None, network_mode: "none".into(), ..container(11, "hidden", 1, None) },
            Container { state: "removing".into(), ..container(12, "leaving", 1, None) },
        ] {
            directory.put(Entry::Container(row));
        }
        let mut book = Book::of(directory, "reported-h1");
        book.source = "store 0".into();
        book
    }

    /// What the client finds, as a web client would write it down.
    fn ask(book: &Book, client: &str, path: &str) -> String {
        let asked = super::super::request::read(path, None).expect("a path");
        let super::super::request::Asked::Tree { version, path, .. } = asked else { panic!("{path}") };
        let found = Tree::new(book, client.parse().expect("an address"), version).find(&path);
        found.map_or("none".to_owned(), |value| super::super::render::body(&value, super::super::request::Form::Text))
    }

    const WEB: &str = "10.42.20.7";
    const LOGGER: &str = "10.42.20.9";
    const ALONE: &str = "10.42.20.10";
    const HOST: &str = "192.0.2.11";

    #[test]
    fn the_worked_example() {
        let book = book();
        let keys = "create_index\nhealth_state\nhost_uuid\nhostname\nips/\nlabels/\nname\nports/\nprimary_ip\n\
                    service_index\nservice_name\nstack_name\nstart_count\nuuid\n";
        let cases = [
            (WEB, "/2015-12-19", "containers/\nhosts/\nself/\nservices/\nstacks/\nversion\n"),
            (WEB, "/2015-12-19/self", "container/\nhost/\nservice/\nstack/\n"),
            (WEB, "/2015-12-19/self/container", keys),
            (WEB, "/2015-12-19/self/container/ports/0", "192.0.2.11:8080:80/tcp"),
            (WEB, "/2015-12-19/self/container/ports/1", "127.0.0.1:81:81/udp"),
            (WEB, "/2015-12-19/self/container/ports/2", "192.0.2.11:99/tcp"),
            (WEB, "/2016-07-29/self/container/ports/0", "0.0.0.0:8080:80/tcp"),
            (WEB, "/2015-12-19/self/service/containers", "0=shop_Web_1\n1=shop_Web_2\n"),
            (WEB, "/2015-07-25/self/service/containers", "0\n1\n"),
            (WEB, "/2015-07-25/self/service/containers/1", "shop_Web_2"),
            (WEB, "/2015-07-25/self/service/create_index", "none"),
            (WEB, "/latest/self/service/create_index", "4"),
            (WEB, "/2015-12-19/self/service/links", "shop%2Fdb\n"),
            (WEB, "/2015-12-19/self/service/links/shop%2Fdb", "mysql"),
            (WEB, "/2015-12-19/self/stack/environment_name", "Default"),
            (WEB, "/2015-12-19/self/service/sidekicks/0", "logger"),
            (WEB, "/2015-12-19/self/service/metadata", "pool/\n"),
            (WEB, "/2015-12-19/self/service/metadata/pool", "names/\nsize\n"),
            (WEB, "/2015-12-19/self/service/metadata/pool/names/1", "b"),
            (WEB, "/2015-12-19/self/nothing", "none"),
            (WEB, "/2015-12-19/self/container/labels/io.rancher.service.deployment.unit", "u7"),
            (WEB, "/2015-12-19/self/container/labels/tier", "front"),
            (WEB, "/2015-12-19/self/host/labels/zone", "a"),
            (WEB, "/2015-12-19/hosts/node1/hostId", "1"),
            (WEB, "/2016-07-29/hosts/node1/hostId", "none"),
            (WEB, "/2015-12-19/hosts/node2/uuid", "h2"),
            (LOGGER, "/latest/self/service/name", "logger"),
            (LOGGER, "/latest/self/service/sidekicks", ""),
            (LOGGER, "/latest/self/service/links", ""),
            (LOGGER, "/latest/self/service/uuid", "sw"),
            (LOGGER, "/latest/self/service/containers/0/name", "shop_Web_logger_1"),
            (LOGGER, "/latest/self/service/metadata/pool/size", "4"),
            (LOGGER, "/latest/self/container/service_name", "logger"),
            (LOGGER, "/latest/self/stack/name", "shop"),
        ];
        for (client, path, expected) in cases {
            assert_eq!(ask(&book, client, path), expected, "{client} asks {path}");
        }
    }

    #[test]
    fn each_client_is_told_only_of_itself() {
        let book = book();
        let cases = [
            (HOST, "/latest/self", "host/\n"),
            (HOST, "/latest/self/container", "none"),
            (HOST, "/latest/self/service", "none"),
            (HOST, "/latest/self/host/name", "node1"),
            // On another host, and so not known here by its address.
            ("10.42.20.8", "/latest/self", "host/\n"),
            (ALONE, "/latest/self", "container/\nhost/\nservice\nstack\n"),
            (ALONE, "/latest/self/service", ""),
            (ALONE, "/latest/self/service/name", "none"),
            (ALONE, "/latest/self/container/name", "c10"),
            (ALONE, "/latest/self/container/create_index", ""),
            (ALONE, "/latest/self/container/health_state", "healthy"),
        ];
        for (client, path, expected) in cases {
            assert_eq!(ask(&book, client, path), expected, "{client} asks {path}");
        }
    }

    #[test]
    fn lists_are_walked_by_index_name_and_uuid() {
        let book = book();
        let all = "0=shop_Web_1\n1=shop_Web_2\n2=shop_Web_logger_1\n3=c10\n";
        let cases = [
            ("/latest/containers", all),
            ("/latest/containers/1/uuid", "c8"),
            ("/latest/containers/shop_Web_2/uuid", "c8"),
            ("/latest/containers/c8/name", "shop_Web_2"),
            ("/latest/containers/4", "none"),
            ("/latest/containers/-1", "none"),
            ("/latest/containers/hidden", "none"),
            ("/2016-07-29/containers/hidden/primary_ip", ""),
            ("/2016-07-29/containers/hidden/uuid", "c11"),
            ("/latest/containers/leaving", "none"),
            ("/latest/services", "0=Web\n1=logger\n2=db\n"),
            ("/latest/stacks/shop/services", "0=Web\n1=logger\n2=db\n"),
            ("/latest/stacks/shop/services/logger/containers/0/name", "shop_Web_logger_1"),
            ("/2015-07-25/stacks/shop/services/2", "db"),
            ("/2015-07-25/stacks/shop/services/db", "none"),
            ("/latest/services/Web/expose/0", "99"),
            ("/latest/services/web/name", "none"),
            ("/2016-07-29/services/WEB/name", "web"),
            ("/2016-07-29/services/web/containers/0/service_name", "web"),
            ("/2016-07-29/networks/0/uuid", "n"),
            ("/2016-07-29/self/container/network_uuid", "n"),
            ("/2016-07-29/self/container/dns_search/0", "shop.rancher.internal"),
            ("/latest/networks", "none"),
            ("/latest/services/db/external_ips", ""),
            ("/latest/nothing", "none"),
            ("/latest/version/x", "none"),
        ];
        for (path, expected) in cases {
            assert_eq!(ask(&book, WEB, path), expected, "{path}");
        }
        // What is in a list is what is found in it.
        let at = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|element| (*element).to_owned()).collect();
            Tree::new(&book, WEB.parse().expect("an address"), Version::V2).find(&path)
        };
        let whole = at(&[]).expect("the tree");
        assert_eq!(whole["self"]["service"], whole["services"][0]);
        assert_eq!(Some(&whole["stacks"][0]["services"][1]["containers"][0]), at(&["containers", "2"]).as_ref());
    }

    #[test]
    fn the_version_changes_with_what_is_seen_and_only_then() {
        let mut book = book();
        let version = |book: &Book| ask(book, WEB, "/latest/version");
        let first = version(&book);
        let same = book.directory().get(remuda_wire::directory::Key::Stack(1)).expect("there");
        let update = |revision: i64, base: i64, upserts| remuda_wire::directory::DirectoryUpdate {
            revision,
            base: Some(base),
            upserts,
            removed: vec![],
        };
        book.apply(update(10, 9, vec![same])).expect("fits");
        assert_eq!(version(&book), first);
        book.apply(update(11, 10, vec![Entry::Stack(Stack { id: 1, name: "store".into(), ..Stack::default() })]))
            .expect("fits");
        assert_ne!(version(&book), first);
        assert_eq!(ask(&book, WEB, "/latest/self/stack/name"), "store");
        assert_eq!(ask(&book, WEB, "/latest/self/service/links"), "store%2Fdb\n");
    }

    #[test]
    fn whole_lists_are_large() {
        let book = book();
        let tree = Tree::new(&book, WEB.parse().expect("an address"), Version::V2);
        let is_large = |path: &[&str]| tree.is_large(&path.iter().map(|of| (*of).to_owned()).collect::<Vec<_>>());
        assert!(is_large(&[]) && is_large(&["containers"]) && !is_large(&["self"]) && !is_large(&["containers", "0"]));
    }
}
