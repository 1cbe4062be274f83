//! The host plan as a whole, put together from a snapshot and deltas.

use std::collections::{BTreeMap, BTreeSet};

use remuda_wire::balancer::BalancerPlan;
use remuda_wire::plan::{ContainerPlan, NetworkPlan, PlanUpdate, Removal, VolumeRemoval};
use serde::{Deserialize, Serialize};

/// What this host shall run. Kept in the state directory, so that a host works without the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    pub revision: i64,
    pub containers: BTreeMap<String, ContainerPlan>,
    /// By uuid; dropped when done and when the server says so.
    pub removals: BTreeMap<String, Removal>,
    pub volume_removals: BTreeMap<String, VolumeRemoval>,
    pub network: Option<NetworkPlan>,
    /// By the uuid of their container, and only while that is here.
    pub balancers: BTreeMap<String, BalancerPlan>,
}

/// A delta whose base is not what is held: reconnect without naming a position, to get a snapshot.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("plan delta is based on revision {base}, but revision {have} is here")]
pub struct WrongBase {
    pub base: i64,
    pub have: i64,
}

impl Held {
    /// Takes an update over as a whole, or not at all. Gives the uuids whose plan changed.
    pub fn apply(&mut self, update: PlanUpdate) -> Result<BTreeSet<String>, WrongBase> {
        let mut changed = BTreeSet::new();
        match update.base {
            None => {
                let before = std::mem::take(self);
                let kept: BTreeSet<&String> = update.containers.iter().map(|container| &container.uuid).collect();
                changed.extend(before.containers.keys().filter(|uuid| !kept.contains(uuid)).cloned());
                changed.extend(
                    update
                        .containers
                        .iter()
                        .filter(|container| before.containers.get(&container.uuid) != Some(container))
                        .map(|container| container.uuid.clone()),
                );
            }
            Some(base) if base == self.revision => {
                let containers = update.containers.iter();
                changed.extend(
                    containers
                        .filter(|container| self.containers.get(&container.uuid) != Some(container))
                        .map(|container| container.uuid.clone()),
                );
            }
            Some(base) => return Err(WrongBase { base, have: self.revision }),
        }
        for uuid in &update.forgotten {
            self.removals.remove(uuid);
            self.volume_removals.remove(uuid);
            if self.containers.remove(uuid).is_some() {
                changed.insert(uuid.clone());
            }
        }
        for container in update.containers {
            // A container that is wanted again is not to be deleted any more.
            self.removals.remove(&container.uuid);
            self.containers.insert(container.uuid.clone(), container);
        }
        for removal in update.removals {
            self.containers.remove(&removal.uuid);
            changed.insert(removal.uuid.clone());
            self.removals.insert(removal.uuid.clone(), removal);
        }
        let volumes = update.volume_removals.into_iter();
        self.volume_removals.extend(volumes.map(|removal| (removal.uuid.clone(), removal)));
        if update.network.is_some() {
            self.network = update.network;
        }
        let balancers = update.balancers.into_iter();
        self.balancers.extend(balancers.map(|balancer| (balancer.container.clone(), balancer)));
        self.balancers.retain(|uuid, _| self.containers.contains_key(uuid));
        self.revision = update.revision;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::decide::testing::container;

    fn removal(uuid: &str) -> Removal {
        Removal { uuid: uuid.into(), docker_id: None, volumes: Default::default() }
    }

    fn uuids(held: &Held) -> Vec<&str> {
        held.containers.keys().map(String::as_str).collect()
    }

    #[test]
    fn balancers_go_with_their_containers() {
        let mut held = Held::default();
        let balancer = |uuid: &str| BalancerPlan { container: uuid.into(), ..BalancerPlan::default() };
        let snapshot = PlanUpdate {
            revision: 5,
            containers: vec![container("a"), container("b")],
            balancers: vec![balancer("a"), balancer("b"), balancer("nowhere")],
            ..PlanUpdate::default()
        };
        held.apply(snapshot).expect("snapshot");
        assert_eq!(held.balancers.keys().collect::<Vec<_>>(), ["a", "b"]);
        let changed = BalancerPlan { service: "edge".into(), ..balancer("a") };
        let (balancers, forgotten) = (vec![changed.clone()], vec!["b".into()]);
        let delta = PlanUpdate { revision: 6, base: Some(5), balancers, forgotten, ..PlanUpdate::default() };
        held.apply(delta).expect("delta");
        assert_eq!(held.balancers.into_values().collect::<Vec<_>>(), [changed]);
    }

    #[test]
    fn snapshots_replace_and_deltas_add() {
        let mut held = Held::default();
        let snapshot = PlanUpdate {
            revision: 5,
            containers: vec![container("a"), container("b")],
            network: Some(NetworkPlan::default()),
            ..PlanUpdate::default()
        };
        assert_eq!(held.apply(snapshot.clone()).expect("snapshot").len(), 2);
        assert_eq!(held.apply(snapshot).expect("same again").len(), 0);
        let delta = PlanUpdate {
            revision: 6,
            base: Some(5),
            containers: vec![container("c")],
            removals: vec![removal("a")],
            forgotten: vec!["b".into()],
            ..PlanUpdate::default()
        };
        assert_eq!(held.apply(delta.clone()).expect("delta").len(), 3);
        assert_eq!((uuids(&held), held.removals.len(), held.network.is_some()), (vec!["c"], 1, true));
        let before = held.clone();
        assert_eq!(held.apply(delta), Err(WrongBase { base: 5, have: 6 }));
        assert_eq!(held, before);
        let snapshot = PlanUpdate { revision: 9, containers: vec![container("a")], ..PlanUpdate::default() };
        held.apply(snapshot).expect("snapshot");
        assert_eq!((uuids(&held), held.removals.len(), held.network.is_some()), (vec!["a"], 0, false));
    }
}
