//! What the selectors of one service take in: services it is linked to, containers it shows as its own
//! (`services.md` §§10.3, 10.4).
//!
//! A plan of its own and not part of the service's, because selections hold in every state of the service, also while
//! it is inactive. Level-triggered: the maps that should be are compared with those that are, and only maps that a
//! selector made are ended. [`differs`] lets a change wake only the selections it changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::labels::Labels;
use remuda_model::selector::Selector;
use remuda_model::states::ACTIVE;
use remuda_model::{Container, Service, ServiceConsumeMap, ServiceExposeMap};
use remuda_schema::{Id, Row};

use super::{Moment, Plan, Subject, ended};
use crate::record::Record;
use crate::world::World;

/// At most that many maps are made in one pass, so that a transaction stays short.
const AT_ONCE: usize = 200;

/// The selectors of a service, read.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    links: Option<Selector>,
    containers: Option<Selector>,
}

impl Selectors {
    /// `None` when the service selects nothing. Checked when the request came in; what does not parse selects nothing.
    pub fn of(row: &Row<Service>) -> Option<Selectors> {
        let read = |text: &Option<String>| text.as_deref().and_then(|text| Selector::parse(text).ok());
        let selectors = Selectors { links: read(&row.selector_link), containers: read(&row.selector_container) };
        (row.meta.is_live() && (selectors.links.is_some() || selectors.containers.is_some())).then_some(selectors)
    }
}

fn selects(selector: &Option<Selector>, labels: Option<&Labels>) -> bool {
    match (selector, labels) {
        (Some(selector), Some(labels)) => selector.matches(labels),
        _ => false,
    }
}

/// Whether the service shall be linked to that one: another live one, without an explicit link that says the same.
fn wants_link(world: &World, id: i64, selectors: &Selectors, other: &Row<Service>) -> bool {
    let labels = other.launch_config.as_ref().and_then(|config| config.labels.as_ref());
    let is_explicit = |map: &Arc<Row<ServiceConsumeMap>>| {
        !map.by_selector && map.meta.is_live() && map.meta.name.is_none() && leads_to(map) == Some(other.meta.id)
    };
    other.meta.id != id
        && other.meta.is_live()
        && selects(&selectors.links, labels)
        && !world.each(&world.consume_maps, &world.consume_maps_by_service, id).any(is_explicit)
}

fn leads_to(map: &Row<ServiceConsumeMap>) -> Option<i64> {
    map.consumed_service_id.map(|id| id.number())
}

/// Whether the service shall have that container: a live one that it did not make itself.
fn wants_container(id: i64, selectors: &Selectors, row: &Row<Container>) -> bool {
    row.meta.is_live()
        && selects(&selectors.containers, row.labels.as_ref())
        && row.service_id.is_none_or(|service| service.number() != id)
}

/// Links a selector of the service made.
fn selected_links(world: &World, id: i64) -> impl Iterator<Item = &Arc<Row<ServiceConsumeMap>>> {
    let maps = world.each(&world.consume_maps, &world.consume_maps_by_service, id);
    maps.filter(|map| map.by_selector && map.meta.is_live())
}

/// Maps of containers that the service selected.
fn selected_containers(world: &World, id: i64) -> impl Iterator<Item = &Arc<Row<ServiceExposeMap>>> {
    let maps = world.each(&world.expose_maps, &world.expose_maps_by_service, id);
    maps.filter(|map| !map.managed && !map.upgrade && map.instance_id.is_some() && map.meta.is_live())
}

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    // A service that is going takes its maps along itself.
    let Some(row) = world.services.get(&id).filter(|row| row.meta.is_live()) else { return plan };
    let none = Selectors::default();
    let selectors = world.selectors.get(&id).unwrap_or(&none);

    let mut linked = BTreeSet::new();
    for map in selected_links(world, id) {
        let target = leads_to(map).and_then(|id| world.services.get(&id));
        match target.filter(|target| wants_link(world, id, selectors, target)) {
            Some(target) if linked.insert(target.meta.id) => {}
            _ => plan.write(ended(Arc::clone(map), moment)),
        }
    }
    let mut shown = BTreeSet::new();
    for map in selected_containers(world, id) {
        let container = map.instance_id.and_then(|id| world.containers.get(&id.number()));
        match container.filter(|row| wants_container(id, selectors, row)) {
            Some(container) if shown.insert(container.meta.id) => {}
            _ => plan.write(ended(Arc::clone(map), moment)),
        }
    }

    if selectors.links.is_some() {
        let wanted = world.services.values().filter(|other| !linked.contains(&other.meta.id));
        for other in wanted.filter(|other| wants_link(world, id, selectors, other)) {
            let data = ServiceConsumeMap {
                service_id: Some(Id::new(id)),
                consumed_service_id: Some(Id::new(other.meta.id)),
                by_selector: true,
                ports: None,
            };
            plan.insert(Row::new(row.meta.account_id, ACTIVE, data));
        }
    }
    if selectors.containers.is_some() {
        let wanted = world.containers.values().filter(|container| !shown.contains(&container.meta.id));
        for container in wanted.filter(|container| wants_container(id, selectors, container)) {
            let data = ServiceExposeMap {
                service_id: Some(Id::new(id)),
                instance_id: Some(container.id().cast()),
                managed: false,
                ..ServiceExposeMap::default()
            };
            plan.insert(Row::new(row.meta.account_id, ACTIVE, data));
        }
    }
    if plan.steps.len() > AT_ONCE {
        plan.steps.truncate(AT_ONCE);
        plan.look_again(moment.now);
    }
    plan
}

/// Selections that the row makes differ from what is there: O(selecting services), none in most projects.
pub fn differs(world: &World, record: &Record) -> Vec<Subject> {
    let id = record.meta().id;
    match record {
        Record::Service(row) => {
            let own = row.selector_link.is_some() || row.selector_container.is_some();
            let selecting = world.selectors.iter().filter(|(service, selectors)| {
                let has = selected_links(world, **service).any(|map| leads_to(map) == Some(id));
                has != wants_link(world, **service, selectors, row)
            });
            selecting
                .map(|(service, _)| Subject::Selection(*service))
                .chain(own.then_some(Subject::Selection(id)))
                .collect()
        }
        Record::Container(row) => {
            let has = |service: i64| {
                let mut maps = world.each(&world.expose_maps, &world.expose_maps_by_container, id);
                maps.any(|map| {
                    !map.managed
                        && !map.upgrade
                        && map.meta.is_live()
                        && map.service_id.map(|id| id.number()) == Some(service)
                })
            };
            let selecting = world
                .selectors
                .iter()
                .filter(|(service, selectors)| has(**service) != wants_container(**service, selectors, row));
            selecting.map(|(service, _)| Subject::Selection(*service)).collect()
        }
        // What was selected may have changed before the map came.
        Record::ServiceExposeMap(row) if !row.managed => selection_of(row.service_id),
        Record::ServiceConsumeMap(row) => {
            selection_of(row.service_id.filter(|id| row.by_selector || world.selectors.contains_key(&id.number())))
        }
        _ => Vec::new(),
    }
}

fn selection_of(service: Option<Id<Service>>) -> Vec<Subject> {
    service.map(|id| Subject::Selection(id.number())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::directory;
    use crate::testing::{Language, world};

    fn labelled(mut w: Language, name: &str, label: (&str, &str)) -> Language {
        let labels: Labels = [(label.0.to_owned(), label.1.to_owned())].into();
        w = match name.strip_prefix("c:") {
            Some(name) => w.change_container(name, |row| row.labels = Some(labels)),
            None => w.change_service(name, |row| row.launch_config.as_mut().expect("has one").labels = Some(labels)),
        };
        w
    }

    /// Names of the services the directory says `name` is linked to, with aliases.
    fn links(w: &Language, name: &str) -> Vec<String> {
        let directory = directory(&w.world);
        let service = &directory.services[&w.service_row(name).meta.id];
        let named = service.links.iter().map(|link| {
            let target = &directory.services[&link.service_id].name;
            link.alias.as_ref().map_or_else(|| target.clone(), |alias| format!("{alias}={target}"))
        });
        named.collect()
    }

    /// Names of the containers the directory shows as members of `name`.
    fn members(w: &Language, name: &str) -> Vec<String> {
        let id = w.service_row(name).meta.id;
        let directory = directory(&w.world);
        let of = directory.containers.values().filter(|row| row.services.iter().any(|one| one.service_id == id));
        of.map(|row| row.name.clone()).collect()
    }

    #[test]
    fn a_link_selector_follows_labels_and_leaves_explicit_links_alone() {
        let w =
            labelled(world().host("a").service("web", 1).service("db", 1).service("log", 1), "db", ("tier", "data"));
        let w = labelled(w, "log", ("tier", "logs"));
        let w = labelled(w, "web", ("tier", "data"));
        let w = w.change_service("web", |row| row.selector_link = Some("tier=data".into())).settle();
        assert_eq!(links(&w, "web"), ["db"], "never itself");
        let w = w.explicit_link("web", "log", None).explicit_link("web", "db", Some("store")).settle();
        assert_eq!(links(&w, "web"), ["db", "log", "store=db"]);
        let w = w.change_service("web", |row| row.selector_link = Some("tier in (data, logs)".into())).settle();
        assert_eq!(links(&w, "web"), ["db", "log", "store=db"], "the explicit link says it already");
        let w = labelled(w, "db", ("tier", "old")).settle();
        assert_eq!(links(&w, "web"), ["log", "store=db"]);
        let w = labelled(w, "db", ("tier", "data")).settle();
        let w = w.change_service("web", |row| row.selector_link = None).settle();
        assert_eq!(links(&w, "web"), ["log", "store=db"], "only what the selector made goes");
    }

    #[test]
    fn a_container_selector_shows_containers_and_does_nothing_to_them() {
        let w = world().host("a").running("x", "a").running("y", "a").service("web", 0).service("own", 1);
        let w = labelled(labelled(w, "c:x", ("app", "web")), "own", ("app", "web"));
        let w = w.change_service("web", |row| row.selector_container = Some("app = WEB".into())).settle();
        assert_eq!(members(&w, "web"), ["x", "s_own_1"]);
        assert_eq!(members(&w, "own"), ["s_own_1"]);
        assert!(w.world.expose_maps.values().filter(|map| !map.managed).count() == 2);
        let w = labelled(w, "c:y", ("app", "web")).settle();
        assert_eq!(members(&w, "web"), ["x", "y", "s_own_1"]);
        let w = labelled(w, "c:x", ("app", "other")).settle();
        assert_eq!(members(&w, "web"), ["y", "s_own_1"]);
        let w = w.change_service("web", |row| row.selector_container = None).settle();
        assert_eq!((members(&w, "web").len(), members(&w, "own").len()), (0, 1));
        assert_eq!(w.told(), ["s_own_1 running", "x running", "y running"]);
    }

    #[test]
    fn a_service_shows_its_own_containers_once() {
        let w = labelled(world().host("a").service("web", 2), "web", ("app", "web"));
        let w = w.change_service("web", |row| row.selector_container = Some("app=web".into())).settle();
        assert_eq!(w.world.expose_maps.len(), 2);
    }

    #[test]
    fn only_a_change_that_matters_wakes_a_selection() {
        let w = world().host("a").running("x", "a").running("y", "a").service("web", 0);
        let w = w.change_service("web", |row| row.selector_container = Some("app=web".into())).settle();
        let id = w.service_row("web").meta.id;
        let woken = |w: &Language, name: &str| {
            let record = w.world.record("instance", w.container_id(name)).expect("a container");
            differs(&w.world, &record)
        };
        assert_eq!(woken(&w, "x"), []);
        let w = labelled(w, "c:x", ("app", "web"));
        assert_eq!((woken(&w, "x"), woken(&w, "y")), (vec![Subject::Selection(id)], vec![]));
        let w = w.settle();
        assert_eq!(woken(&w, "x"), []);
    }
}
