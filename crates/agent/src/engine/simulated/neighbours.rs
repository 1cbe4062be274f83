//! Simulated hosts that reach each other's containers, as health checks do over the managed network.
//!
//! Containers are found by uuid, not by address: the hosts of one process may belong to several projects, whose
//! networks have the same addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Inner, Simulated};

/// Engine and Docker id of each container, by uuid.
type ByUuid = BTreeMap<String, (Weak<Inner>, String)>;

/// Hosts on one network. Clones share it.
#[derive(Clone, Default)]
pub struct Neighbours {
    by_uuid: Arc<Mutex<ByUuid>>,
}

impl Neighbours {
    fn all(&self) -> MutexGuard<'_, ByUuid> {
        self.by_uuid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, uuid: &str, engine: &Arc<Inner>, docker_id: &str) {
        self.all().insert(uuid.to_owned(), (Arc::downgrade(engine), docker_id.to_owned()));
    }

    /// Unless another container has the uuid by now.
    pub(super) fn remove(&self, uuid: &str, docker_id: &str) {
        let mut all = self.all();
        if all.get(uuid).is_some_and(|(_, known)| known == docker_id) {
            all.remove(uuid);
        }
    }

    pub(super) fn find(&self, uuid: &str) -> Option<(Simulated, String)> {
        let (engine, docker_id) = self.all().get(uuid).cloned()?;
        Some((Simulated { inner: engine.upgrade()? }, docker_id))
    }
}
