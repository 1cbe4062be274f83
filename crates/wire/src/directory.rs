//! The directory: what a project knows about itself, the same for every host. DNS, metadata, routes, balancers and
//! health checks are each a pure function of it and of the asking host. Sent as snapshot, then as small deltas.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::sync::Arc;

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
    Project(i64),
    Value(Hash),
}

/// Names a big value by what is in it. The server makes it, hosts only compare: it need not be the same in another
/// release. Who could make two values of one hash would deceive nobody but his own project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(u128);

impl Hash {
    /// Of the value's JSON.
    pub fn of(value: &serde_json::Value) -> Hash {
        let text = value.to_string();
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            (seed, &text).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        Hash(half(1) << 64 | half(2))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        format!("{:032x}", hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Hash, std::num::ParseIntError> {
        u128::from_str_radix(&text, 16).map(Hash)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    Stack(Stack),
    Service(Service),
    Container(Container),
    Host(Host),
    Project(Project),
    Value(Value),
}

impl Entry {
    pub fn key(&self) -> Key {
        match self {
            Entry::Stack(entry) => Key::Stack(entry.id),
            Entry::Service(entry) => Key::Service(entry.id),
            Entry::Container(entry) => Key::Container(entry.id),
            Entry::Host(entry) => Key::Host(entry.id),
            Entry::Project(entry) => Key::Project(entry.id),
            Entry::Value(entry) => Key::Value(entry.hash),
        }
    }
}

/// What many entries say alike, or what is large: sent once, named by its hash from then on. It is there as long as an
/// entry names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Value {
    pub hash: Hash,
    pub value: Arc<serde_json::Value>,
}

impl Value {
    pub fn new(value: serde_json::Value) -> Value {
        Value { hash: Hash::of(&value), value: Arc::new(value) }
    }
}

/// The project itself; there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Project {
    pub id: i64,
    pub uuid: String,
    pub name: String,
    pub networks: Vec<Network>,
}

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    pub uuid: String,
    pub name: String,
    /// Containers of this network mode are on it.
    pub mode: String,
    pub is_default: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stack {
    pub id: i64,
    pub uuid: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub id: i64,
    pub uuid: String,
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
    pub scale: Option<i64>,
    /// Last number handed out to a container.
    pub create_index: Option<i64>,
    pub fqdn: Option<String>,
    /// The launch configs, the primary one first: a list of [`Launch`].
    pub launches: Option<Hash>,
    /// The user's metadata.
    pub metadata: Option<Hash>,
}

/// What is told of a launch config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Launch {
    /// Sidekick name; `None` for the primary one.
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<String>,
    pub expose: Vec<String>,
    /// As metadata shows it.
    pub health_check: Option<serde_json::Value>,
}

/// What containers of one launch config have in common, besides the launch config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Common {
    /// All labels but those in [`About::labels`].
    pub labels: BTreeMap<String, String>,
    pub dns_search: Vec<String>,
    /// As metadata shows it.
    pub health_check: Option<serde_json::Value>,
    pub memory_reservation: Option<i64>,
    pub milli_cpu_reservation: Option<i64>,
    /// A container of the platform.
    pub system: bool,
}

/// What only metadata tells of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// A [`Common`].
    pub common: Option<Hash>,
    /// Labels that no other container has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Published and other ports, `[address:][public:]private/protocol`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// The service that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<i64>,
    /// Number among all containers its service ever had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_index: Option<i64>,
    /// The N of `stack_service_N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    pub start_count: i64,
    /// Id at the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Whose network it shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_container: Option<i64>,
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
    pub about: About,
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
    /// The one the API shows.
    pub public_uuid: String,
    pub hostname: String,
    pub state: String,
    pub agent_state: Option<String>,
    /// Processors and memory, as far as the host has said.
    pub milli_cpu: Option<i64>,
    pub memory: Option<i64>,
    pub local_storage_mb: Option<i64>,
    /// Labels, a map of strings.
    pub labels: Option<Hash>,
}

/// A directory put together from updates. Both ends keep one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Directory {
    pub revision: i64,
    pub stacks: BTreeMap<i64, Stack>,
    pub services: BTreeMap<i64, Service>,
    /// Shared: a directory is copied to be written down or looked through while it changes.
    pub containers: BTreeMap<i64, Arc<Container>>,
    pub hosts: BTreeMap<i64, Host>,
    pub project: Option<Project>,
    pub values: BTreeMap<Hash, Arc<serde_json::Value>>,
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
            self.remove(key);
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
            Entry::Container(entry) => drop(self.containers.insert(entry.id, Arc::new(entry))),
            Entry::Host(entry) => drop(self.hosts.insert(entry.id, entry)),
            Entry::Project(entry) => self.project = Some(entry),
            Entry::Value(entry) => drop(self.values.insert(entry.hash, entry.value)),
        }
    }

    /// Takes one entry out.
    pub fn remove(&mut self, key: Key) {
        match key {
            Key::Stack(id) => drop(self.stacks.remove(&id)),
            Key::Service(id) => drop(self.services.remove(&id)),
            Key::Container(id) => drop(self.containers.remove(&id)),
            Key::Host(id) => drop(self.hosts.remove(&id)),
            Key::Project(id) => drop(self.project.take_if(|project| project.id == id)),
            Key::Value(hash) => drop(self.values.remove(&hash)),
        }
    }

    /// The entry of that name.
    pub fn get(&self, key: Key) -> Option<Entry> {
        match key {
            Key::Stack(id) => self.stacks.get(&id).cloned().map(Entry::Stack),
            Key::Service(id) => self.services.get(&id).cloned().map(Entry::Service),
            Key::Container(id) => self.containers.get(&id).map(|entry| Entry::Container((**entry).clone())),
            Key::Host(id) => self.hosts.get(&id).cloned().map(Entry::Host),
            Key::Project(id) => self.project.clone().filter(|project| project.id == id).map(Entry::Project),
            Key::Value(hash) => self.values.get(&hash).map(|value| Entry::Value(Value { hash, value: value.clone() })),
        }
    }

    /// Every entry, for a snapshot.
    pub fn entries(&self) -> Vec<Entry> {
        let stacks = self.stacks.values().cloned().map(Entry::Stack);
        let services = self.services.values().cloned().map(Entry::Service);
        let containers = self.containers.values().map(|entry| Entry::Container((**entry).clone()));
        let hosts = self.hosts.values().cloned().map(Entry::Host);
        let project = self.project.clone().map(Entry::Project);
        let value = |(hash, value): (&Hash, &Arc<_>)| Entry::Value(Value { hash: *hash, value: Arc::clone(value) });
        let values = self.values.iter().map(value);
        values.chain(project).chain(stacks).chain(services).chain(containers).chain(hosts).collect()
    }
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
    fn what_is_put_is_found_and_listed_and_goes() {
        let value = Value::new(serde_json::json!({"tier": "front"}));
        let entries = [
            Entry::Value(value.clone()),
            Entry::Project(Project { id: 5, ..Project::default() }),
            Entry::Stack(Stack { id: 1, ..Stack::default() }),
            Entry::Service(Service { id: 4, ..Service::default() }),
            Entry::Container(Container { id: 7, ..Container::default() }),
            Entry::Host(Host { id: 2, ..Host::default() }),
        ];
        let mut directory = Directory::default();
        entries.iter().cloned().for_each(|entry| directory.put(entry));
        assert_eq!(directory.entries(), entries);
        for entry in &entries {
            assert_eq!(directory.get(entry.key()).as_ref(), Some(entry));
            directory.remove(entry.key());
        }
        assert_eq!(directory, Directory::default());
        let text = serde_json::to_string(&Key::Value(value.hash)).expect("writes");
        assert_eq!(serde_json::from_str::<Key>(&text).expect("reads"), Key::Value(value.hash));
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
