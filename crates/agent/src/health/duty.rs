//! What a host is to check: a pure function of the directory and of the host. Kept by the directory's deltas, so that
//! a change costs what changed.

use std::collections::{BTreeMap, BTreeSet};

use remuda_wire::directory::{Check, Container, Directory, DirectoryUpdate, Entry, Key};

/// One container to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// What the votes are given for.
    pub map: String,
    pub uuid: String,
    pub address: String,
    pub check: Check,
}

/// Whether that host is to check the container now.
pub fn duty(host: i64, container: &Container) -> Option<Duty> {
    let check = container.check.as_ref()?;
    let own = check.checkers.iter().find(|checker| checker.host_id == host)?;
    // What starts or stops is not what a vote would be about.
    if !matches!(container.state.as_str(), "running" | "updating-running") {
        return None;
    }
    // Who else checks is no concern of this host.
    let check = Check { checkers: Vec::new(), ..(**check).clone() };
    Some(Duty { map: own.map.clone(), uuid: container.uuid.clone(), address: container.address.clone()?, check })
}

/// The duties of one host, by container.
#[derive(Debug)]
pub struct Duties {
    /// How the host finds itself in the directory.
    host_uuid: String,
    host: Option<i64>,
    pub by_container: BTreeMap<i64, Duty>,
    /// Containers whose duty changed and was not looked at yet.
    changed: BTreeSet<i64>,
}

impl Duties {
    pub fn new(host_uuid: String) -> Duties {
        Duties { host_uuid, host: None, by_container: BTreeMap::new(), changed: BTreeSet::new() }
    }

    /// Takes over what changed; `directory` has it already.
    pub fn update(&mut self, directory: &Directory, update: &DirectoryUpdate) {
        let names_host = update.base.is_none()
            || update.upserts.iter().any(|entry| matches!(entry, Entry::Host(_)))
            || update.removed.iter().any(|key| matches!(key, Key::Host(_)));
        let mut is_new = update.base.is_none();
        if names_host {
            let own = directory.hosts.values().find(|host| host.uuid == self.host_uuid).map(|host| host.id);
            is_new |= std::mem::replace(&mut self.host, own) != own;
        }
        if is_new {
            let before: Vec<i64> = self.by_container.keys().copied().collect();
            let gone = before.into_iter().filter(|id| !directory.containers.contains_key(id));
            gone.collect::<Vec<_>>().into_iter().for_each(|id| self.put(id, None));
            directory.containers.values().for_each(|container| self.look(container));
            return;
        }
        for entry in &update.upserts {
            if let Entry::Container(container) = entry {
                self.look(container);
            }
        }
        for key in &update.removed {
            if let Key::Container(id) = key {
                self.put(*id, None);
            }
        }
    }

    fn look(&mut self, container: &Container) {
        self.put(container.id, self.host.and_then(|host| duty(host, container)));
    }

    fn put(&mut self, id: i64, duty: Option<Duty>) {
        if self.by_container.get(&id) == duty.as_ref() {
            return;
        }
        self.changed.insert(id);
        match duty {
            Some(duty) => drop(self.by_container.insert(id, duty)),
            None => drop(self.by_container.remove(&id)),
        }
    }

    /// Containers whose duty changed, each once.
    pub fn take_changed(&mut self) -> Vec<(i64, Option<Duty>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|id| (id, self.by_container.get(&id).cloned())).collect()
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use remuda_wire::directory::{Checker, Host};

    use super::*;

    fn container(id: i64, state: &str, hosts: &[i64]) -> Container {
        let checkers = hosts.iter().map(|host| Checker { host_id: *host, map: format!("{id}-{host}") });
        Container {
            id,
            uuid: format!("c{id}"),
            state: state.to_owned(),
            address: Some(format!("10.42.0.{id}")),
            check: Some(Box::new(Check { port: 80, checkers: checkers.collect(), ..Check::default() })),
            ..Container::default()
        }
    }

    fn host(id: i64, uuid: &str) -> Entry {
        Entry::Host(Host { id, uuid: uuid.to_owned(), ..Host::default() })
    }

    struct Told {
        directory: Directory,
        duties: Duties,
    }

    impl Told {
        /// Maps of the duties that changed; `-` for one that ended.
        fn hear(&mut self, base: Option<i64>, upserts: Vec<Entry>, removed: Vec<Key>) -> Vec<String> {
            let update = DirectoryUpdate { revision: self.directory.revision + 1, base, upserts, removed };
            self.directory.apply(update.clone()).unwrap();
            self.duties.update(&self.directory, &update);
            let told = |(id, duty): (i64, Option<Duty>)| duty.map_or(format!("-{id}"), |duty| duty.map);
            self.duties.take_changed().into_iter().map(told).collect()
        }

        fn delta(&mut self, upserts: Vec<Entry>) -> Vec<String> {
            self.hear(Some(self.directory.revision), upserts, Vec::new())
        }
    }

    fn told() -> Told {
        Told { directory: Directory::default(), duties: Duties::new("me".into()) }
    }

    #[test]
    fn a_host_checks_what_names_it_and_runs() {
        assert_eq!(duty(7, &container(1, "running", &[7, 8])).map(|duty| duty.map).as_deref(), Some("1-7"));
        assert!(duty(7, &container(1, "running", &[7])).is_some_and(|duty| duty.check.checkers.is_empty()));
        for state in ["starting", "stopping", "stopped", "restarting"] {
            assert_eq!(duty(7, &container(1, state, &[7])), None, "{state}");
        }
        assert_eq!(duty(7, &container(1, "running", &[8])), None);
        assert_eq!(duty(7, &Container { address: None, ..container(1, "running", &[7]) }), None);
        assert_eq!(duty(7, &Container { check: None, ..container(1, "running", &[7]) }), None);
    }

    #[test]
    fn deltas_tell_what_changed_and_a_snapshot_what_is() {
        let mut told = told();
        let c = |id, state, hosts: &[i64]| Entry::Container(container(id, state, hosts));
        assert_eq!(told.hear(None, vec![c(1, "running", &[7]), c(2, "running", &[8]), host(7, "me")], vec![]), ["1-7"]);
        assert_eq!(told.delta(vec![c(1, "running", &[7, 8])]), Vec::<String>::new(), "somebody else's duty");
        assert_eq!(told.delta(vec![c(2, "running", &[8, 7]), c(1, "stopping", &[7])]), ["-1", "2-7"]);
        assert_eq!(told.delta(vec![host(8, "other")]), Vec::<String>::new());
        let revision = told.directory.revision;
        assert_eq!(told.hear(Some(revision), vec![], vec![Key::Container(2)]), ["-2"]);
        assert_eq!(told.delta(vec![c(3, "running", &[7])]), ["3-7"]);
        // Registered anew: another number, other duties.
        assert_eq!(told.delta(vec![c(4, "running", &[9]), host(7, "old me"), host(9, "me")]), ["-3", "4-9"]);
        assert_eq!(told.hear(None, vec![host(9, "me"), c(4, "running", &[9])], vec![]), Vec::<String>::new());
        assert_eq!(told.hear(None, vec![c(4, "running", &[9])], vec![]), ["-4"], "not in the project");
    }
}
