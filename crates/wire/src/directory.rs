//! The directory: what a project knows about itself, the same for every host. DNS, metadata, routes, balancers and
//! health checks are each a pure function of it and of the asking host. Sent as snapshot, then as small deltas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Snapshot (`base` is `None`) or the difference to the directory of revision `base`. Applied as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectoryUpdate {
    pub revision: i64,
    pub base: Option<i64>,
    pub upserts: Vec<Entry>,
    pub removed: Vec<Key>,
}

/// Names an entry: kind letter and row number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Key {
    Stack(i64),
    Service(i64),
    Container(i64),
    Host(i64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    Stack(Stack),
    Service(Service),
    Container(Container),
    Host(Host),
}

impl Entry {
    pub fn key(&self) -> Key {
        match self {
            Entry::Stack(entry) => Key::Stack(entry.id),
            Entry::Service(entry) => Key::Service(entry.id),
            Entry::Container(entry) => Key::Container(entry.id),
            Entry::Host(entry) => Key::Host(entry.id),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stack {
    pub id: i64,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub id: i64,
    pub stack_id: i64,
    pub name: String,
    /// `service`, `loadBalancerService`, `dnsService`, `externalService`.
    pub kind: String,
    pub state: String,
    pub links: Vec<Link>,
    /// Addresses of an external service, as given, while it is active.
    pub external_addresses: Vec<String>,
    /// Name of an external service elsewhere, as given, while it is active.
    pub hostname: Option<String>,
}

/// A service link of the consumer. Without alias the target's own name counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Link {
    pub alias: Option<String>,
    pub service_id: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub id: i64,
    pub uuid: String,
    pub name: String,
    pub state: String,
    pub health: Option<String>,
    pub host_id: Option<i64>,
    /// Address other containers reach it at: managed, bridge, the target's for container mode; `None` if it has none.
    pub address: Option<String>,
    /// `managed`, `bridge`, `host`, `none`, `container`.
    pub network_mode: String,
    /// Services it is a member of, with the launch config it was made from (`None`: primary, or selected).
    pub services: Vec<Membership>,
    /// Container links: alias and target row.
    pub links: BTreeMap<String, i64>,
    /// Order of creation, for "the most recently created".
    pub create_index: i64,
    /// The user's own `dns` servers, asked before the host's.
    pub dns: Vec<String>,
    /// Label `io.rancher.container.dns`, when given.
    pub dns_label: Option<bool>,
    /// How it is checked, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<Check>>,
}

/// A health check (`scheduling-and-health.md` §8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Check {
    pub port: u16,
    /// HTTP request with its header lines; a TCP connection is enough if absent.
    pub request_line: Option<String>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Passes in a row to go up, failures in a row to go down.
    pub rise: u32,
    pub fall: u32,
    /// Which start of the container this is: votes name it.
    pub run: i64,
    /// Hosts that check.
    pub checkers: Vec<Checker>,
}

/// A host that checks a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Checker {
    pub host_id: i64,
    /// What its votes are given for.
    pub map: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Membership {
    pub service_id: i64,
    /// Sidekick name; `None` for the primary launch config.
    pub sidekick: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    pub id: i64,
    /// The one its agent says of itself: how a host finds its own entry.
    pub uuid: String,
    pub name: String,
    /// Registered address.
    pub address: Option<String>,
    /// Its own address on the managed network.
    pub overlay_address: Option<String>,
    /// Its WireGuard key.
    pub public_key: Option<String>,
}

/// A directory put together from updates. Both ends keep one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Directory {
    pub revision: i64,
    pub stacks: BTreeMap<i64, Stack>,
    pub services: BTreeMap<i64, Service>,
    pub containers: BTreeMap<i64, Container>,
    pub hosts: BTreeMap<i64, Host>,
}

/// A delta whose base is not what we have: ask for a snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("directory delta is based on revision {base}, but revision {have} is here")]
pub struct WrongBase {
    pub base: i64,
    pub have: i64,
}

impl Directory {
    /// Takes an update over as a whole, or not at all.
    pub fn apply(&mut self, update: DirectoryUpdate) -> Result<(), WrongBase> {
        match update.base {
            None => *self = Directory::default(),
            Some(base) if base == self.revision => {}
            Some(base) => return Err(WrongBase { base, have: self.revision }),
        }
        for key in update.removed {
            match key {
                Key::Stack(id) => drop(self.stacks.remove(&id)),
                Key::Service(id) => drop(self.services.remove(&id)),
                Key::Container(id) => drop(self.containers.remove(&id)),
                Key::Host(id) => drop(self.hosts.remove(&id)),
            }
        }
        for entry in update.upserts {
            self.put(entry);
        }
        self.revision = update.revision;
        Ok(())
    }

    /// Inserts or replaces one entry.
    pub fn put(&mut self, entry: Entry) {
        match entry {
            Entry::Stack(entry) => drop(self.stacks.insert(entry.id, entry)),
            Entry::Service(entry) => drop(self.services.insert(entry.id, entry)),
            Entry::Container(entry) => drop(self.containers.insert(entry.id, entry)),
            Entry::Host(entry) => drop(self.hosts.insert(entry.id, entry)),
        }
    }

    /// Every entry, for a snapshot.
    pub fn entries(&self) -> Vec<Entry> {
        let stacks = self.stacks.values().cloned().map(Entry::Stack);
        let services = self.services.values().cloned().map(Entry::Service);
        let containers = self.containers.values().cloned().map(Entry::Container);
        let hosts = self.hosts.values().cloned().map(Entry::Host);
        stacks.chain(services).chain(containers).chain(hosts).collect()
    }

    /// The update that turns `self` into `next`; `None` when only the revision differs.
    pub fn difference(&self, next: &Directory) -> Option<DirectoryUpdate> {
        let mut update =
            DirectoryUpdate { revision: next.revision, base: Some(self.revision), ..DirectoryUpdate::default() };
        compare(&self.stacks, &next.stacks, &mut update, Entry::Stack, Key::Stack);
        compare(&self.services, &next.services, &mut update, Entry::Service, Key::Service);
        compare(&self.containers, &next.containers, &mut update, Entry::Container, Key::Container);
        compare(&self.hosts, &next.hosts, &mut update, Entry::Host, Key::Host);
        (!update.upserts.is_empty() || !update.removed.is_empty()).then_some(update)
    }
}

fn compare<T: Clone + PartialEq>(
    old: &BTreeMap<i64, T>,
    new: &BTreeMap<i64, T>,
    update: &mut DirectoryUpdate,
    entry: fn(T) -> Entry,
    key: fn(i64) -> Key,
) {
    let changed = new.iter().filter(|(id, value)| old.get(id) != Some(value));
    update.upserts.extend(changed.map(|(_, value)| entry(value.clone())));
    update.removed.extend(old.keys().filter(|id| !new.contains_key(id)).map(|id| key(*id)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_service(revision: i64, name: &str) -> Directory {
        let mut directory = Directory { revision, ..Directory::default() };
        directory.put(Entry::Service(Service { id: 4, name: name.into(), ..Service::default() }));
        directory
    }

    #[test]
    fn a_difference_turns_one_into_the_other() {
        let (old, new) = (with_service(3, "web"), Directory { revision: 9, ..with_service(9, "api") });
        let update = old.difference(&new).expect("the service changed");
        let mut applied = old.clone();
        applied.apply(update).expect("base matches");
        assert_eq!(applied, new);
        assert_eq!(new.difference(&Directory { revision: 10, ..new.clone() }), None);
    }

    #[test]
    fn a_delta_on_another_base_changes_nothing() {
        let mut have = with_service(3, "web");
        let before = have.clone();
        let update =
            DirectoryUpdate { revision: 9, base: Some(8), removed: vec![Key::Service(4)], ..Default::default() };
        assert_eq!(have.apply(update), Err(WrongBase { base: 8, have: 3 }));
        assert_eq!(have, before);
    }
}
