//! What the engine has, found by the names the plan knows.

use std::collections::BTreeMap;

use remuda_wire::plan::ContainerPlan;

use crate::engine::inspect::Container;

/// The engine's containers by Docker id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    containers: BTreeMap<String, Container>,
    by_uuid: BTreeMap<String, String>,
    by_name: BTreeMap<String, String>,
}

impl Observed {
    pub fn put(&mut self, container: Container) {
        self.take(&container.docker_id);
        let id = container.docker_id.clone();
        if let Some(uuid) = container.uuid() {
            self.by_uuid.insert(uuid.to_owned(), id.clone());
        }
        self.by_name.insert(container.name.clone(), id.clone());
        self.containers.insert(id, container);
    }

    pub fn take(&mut self, docker_id: &str) -> Option<Container> {
        let taken = self.containers.remove(docker_id)?;
        if let Some(uuid) = taken.uuid().filter(|uuid| self.by_uuid.get(*uuid).is_some_and(|id| id == docker_id)) {
            self.by_uuid.remove(uuid);
        }
        if self.by_name.get(&taken.name).is_some_and(|id| id == docker_id) {
            self.by_name.remove(&taken.name);
        }
        Some(taken)
    }

    pub fn get(&self, docker_id: &str) -> Option<&Container> {
        self.containers.get(docker_id)
    }

    /// By label, then by the name that is its uuid, then by Docker id.
    pub fn find(&self, uuid: &str, docker_id: Option<&str>) -> Option<&Container> {
        let labelled = self.by_uuid.get(uuid).or_else(|| self.by_name.get(uuid));
        labelled.and_then(|id| self.containers.get(id)).or_else(|| self.containers.get(docker_id?))
    }

    /// The container a plan speaks of.
    pub fn of(&self, plan: &ContainerPlan) -> Option<&Container> {
        self.find(&plan.uuid, plan.docker_id.as_deref())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    pub fn len(&self) -> usize {
        self.containers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::inspect::UUID_LABEL;

    fn container(docker_id: &str, name: &str, uuid: Option<&str>) -> Container {
        let labels = uuid.map(|uuid| (UUID_LABEL.to_owned(), uuid.to_owned())).into_iter().collect();
        Container { docker_id: docker_id.into(), name: name.into(), labels, ..Container::default() }
    }

    #[test]
    fn containers_are_found_by_label_name_and_id() {
        let mut observed = Observed::default();
        observed.put(container("d1", "r-web", Some("u1")));
        observed.put(container("d2", "u2", None));
        observed.put(container("d3", "plain", None));
        let id = |uuid: &str, docker_id: Option<&str>| {
            observed.find(uuid, docker_id).map(|container| container.docker_id.clone())
        };
        assert_eq!(id("u1", Some("d3")).as_deref(), Some("d1"));
        assert_eq!(id("u2", None).as_deref(), Some("d2"));
        assert_eq!(id("u3", Some("d3")).as_deref(), Some("d3"));
        assert_eq!(id("u3", None), None);
        observed.take("d1");
        assert_eq!(observed.find("u1", None), None);
    }
}
