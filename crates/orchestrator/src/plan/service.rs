//! One service: as many containers as its scale says, kept running (`services.md` §§2, 4-6, 8, 12).
//!
//! A unit is one container today; sidekicks, global services and upgrades come with their own issue and change
//! [`wanted`] and [`draft`], not the loop. Replacements wait until the number they take over is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, LaunchConfig, Service, ServiceConsumeMap, Stack};
use remuda_schema::{Id, Resource, Row, Time};
use remuda_store::Holder;

use super::health::{endpoints, health};
use super::{Audit, Moment, NewContainer, Plan, Step, ended, removed};
use crate::scheduler::{self, Placement};
use crate::transitions::{self, WANT_REMOVED, WANT_RUNNING, is_start_once};
use crate::world::{World, is_unplaced};

/// At most that many containers are made or removed in one pass, so that a transaction stays short.
const AT_ONCE: usize = 100;

/// Label value of the primary launch config.
pub const PRIMARY: &str = "io.rancher.service.primary.launch.config";

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.services.get(&id) else { return plan };
    let mut next = (**row).clone();
    match row.meta.state.as_str() {
        REQUESTED | REGISTERING if row.start_on_create == Some(true) => begin(&mut next, ACTIVATING, moment),
        REQUESTED | REGISTERING | UPDATING_INACTIVE => next.meta.enter(INACTIVE),
        ACTIVATING | ACTIVE | UPDATING_ACTIVE => reconcile(world, row, &mut next, moment, &mut plan),
        DEACTIVATING => deactivate(world, row, &mut next, moment, &mut plan),
        REMOVING => remove(world, row, &mut next, moment, &mut plan),
        _ => {}
    }
    if row.meta.is_live() {
        let health = health(world, row);
        if row.health_state.as_deref() != Some(health) {
            next.health_state = Some(health.to_owned());
        }
        let endpoints = endpoints(world, world.containers_of(id).map(AsRef::as_ref));
        if row.public_endpoints.as_ref().map_or(!endpoints.is_empty(), |known| *known != endpoints) {
            next.public_endpoints = Some(endpoints);
        }
    }
    if next != **row {
        plan.write(next);
    }
    plan
}

/// Enters a transitional state. Reconciliation has no end of its own: the deadline is when it is looked at again.
pub fn begin(row: &mut Row<Service>, state: &str, moment: Moment<'_>) {
    row.meta.enter(state);
    row.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
}

/// Asks for removal.
pub fn begin_remove(row: &mut Row<Service>, moment: Moment<'_>) {
    begin(row, REMOVING, moment);
}

/// Containers of the service, by what is to become of them.
pub(super) struct Members<'a> {
    /// Not on their way out, by number.
    pub(super) live: Vec<&'a Arc<Row<Container>>>,
    /// On their way out, not removed yet: they still have their number.
    leaving: Vec<&'a Arc<Row<Container>>>,
}

pub(super) fn members<'a>(world: &'a World, service: i64) -> Members<'a> {
    let (mut live, mut leaving) = (Vec::new(), Vec::new());
    for row in world.containers_of(service) {
        match row.meta.state.as_str() {
            REMOVED | PURGING | PURGED | RESTORING => {}
            REMOVING => leaving.push(row),
            _ if row.desired == WANT_REMOVED => leaving.push(row),
            _ => live.push(row),
        }
    }
    Members { live, leaving }
}

/// How many containers the service shall have.
pub fn wanted(row: &Service) -> usize {
    if has_image(row) { usize::try_from(row.scale.unwrap_or(1)).unwrap_or(0) } else { 0 }
}

fn has_image(row: &Service) -> bool {
    let image = row.launch_config.as_ref().and_then(|config| config.image_uuid.as_deref());
    image.is_some_and(|image| !image.is_empty() && !image.starts_with("rancher/none"))
}

/// Ran once and is done, or is not meant to run again by itself.
pub(super) fn ran_once(row: &Row<Container>) -> bool {
    is_start_once(row)
        && row.first_running.is_some()
        && matches!(row.meta.state.as_str(), STOPPED | STOPPING | UPDATING_STOPPED)
}

fn reconcile(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    if row.meta.state == ACTIVATING {
        let awaited = row.awaited_services.iter().filter_map(|id| world.services.get(&id.number()));
        if let Some(other) = awaited.into_iter().find(|other| other.meta.state == ACTIVATING) {
            let name = other.meta.name.clone().unwrap_or_else(|| other.public_id());
            next.meta.progress.message = Some(format!("Waiting for consumed service {name}"));
            next.meta.progress.percent = Some(0);
            return plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
        }
    }
    next.awaited_services.clear();
    let scale = wanted(row);
    let Members { live, mut leaving } = members(world, row.meta.id);
    let mut waiting: Option<String> = None;
    let mut settled = true;
    let mut keep: Vec<&Arc<Row<Container>>> = Vec::new();
    for container in &live {
        let host = container.host_id.and_then(|id| world.hosts.get(&id.number()));
        let host_is_gone =
            container.host_id.is_some() && host.is_none_or(|host| !host.meta.is_live() || host.meta.state == REMOVING);
        if host_is_gone {
            take_away(container, row, "Service instance in a bad state is removed by service.reconcile", moment, plan);
            leaving.push(*container);
            settled = false;
        } else if matches!(container.meta.state.as_str(), ERROR | ERRORING) {
            settled = false;
            let due = replace_after(world, row.meta.id, container, moment);
            if due > moment.now {
                plan.look_again(due);
                waiting.get_or_insert_with(|| status_of(container));
                keep.push(container);
            } else {
                take_away(
                    container,
                    row,
                    "Service instance in a bad state is removed by service.reconcile",
                    moment,
                    plan,
                );
                leaving.push(*container);
            }
        } else {
            keep.push(container);
        }
    }
    if keep.len() > scale {
        keep.sort_by_key(|container| order_of_leaving(container));
        for container in keep.drain(..keep.len() - scale).take(AT_ONCE) {
            take_away(container, row, "Extra service instance is removed by service.reconcile", moment, plan);
        }
        settled = false;
    }
    for container in &keep {
        match container.meta.state.as_str() {
            RUNNING | UPDATING_RUNNING => {}
            _ if ran_once(container) => {}
            STOPPED if !start_is_due(container, moment, plan) => {
                settled = false;
                waiting.get_or_insert_with(|| status_of(container));
            }
            STOPPED => {
                let mut started = (***container).clone();
                transitions::start(&mut started, moment.settings, moment.now);
                plan.write(started);
                settled = false;
            }
            ERROR | ERRORING => {}
            _ => {
                settled = false;
                waiting.get_or_insert_with(|| status_of(container));
            }
        }
    }
    if keep.len() < scale {
        settled = false;
        waiting = {
            let n_missing = scale - keep.len();
            let members = Members { live: keep, leaving };
            create_missing(world, row, next, &members, n_missing, moment, plan).or(waiting)
        };
    }
    // Those that leave are no reason to call the service unsettled, except for a number that is awaited.
    if settled {
        if row.meta.state != ACTIVE {
            next.meta.enter(ACTIVE);
        }
        return;
    }
    if row.meta.state == ACTIVE {
        begin(next, UPDATING_ACTIVE, moment);
    }
    if next.meta.progress.message != waiting && waiting.is_some() {
        next.meta.progress.message = waiting;
    }
    let deadline = next.meta.progress.deadline.unwrap_or(moment.now);
    if deadline <= moment.now {
        next.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
}

/// A container that stopped by itself is started again; after repeated exits with growing pauses.
fn start_is_due(container: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) -> bool {
    match container.meta.progress.deadline {
        Some(due) if due > moment.now => {
            plan.look_again(due);
            false
        }
        _ => true,
    }
}

/// `Waiting for [instance:web_app_1]. Instance status: …`
fn status_of(container: &Row<Container>) -> String {
    let name = container.meta.name.as_deref().unwrap_or(&container.meta.uuid);
    let status = container.meta.progress.message.clone().unwrap_or_else(|| container.meta.state.clone());
    format!("Waiting for [instance:{name}]. Instance status: {status}")
}

/// Unhealthy first, then what does not run yet, then the newest.
fn order_of_leaving(container: &Row<Container>) -> (u8, i64) {
    let rank = match (container.meta.state.as_str(), container.health_state.as_deref()) {
        (ERROR | ERRORING, _) | (_, Some(UNHEALTHY)) => 0,
        (_, Some(INITIALIZING)) => 1,
        (RUNNING | UPDATING_RUNNING, _) => 3,
        _ => 2,
    };
    (rank, -container.create_index.unwrap_or(container.meta.id))
}

/// When a container in `error` is replaced: at once when no host took it and one would now, else after a pause that
/// doubles with each failure of the same number.
fn replace_after(world: &World, service: i64, container: &Row<Container>, moment: Moment<'_>) -> Time {
    if is_unplaced(container) && matches!(scheduler::place(world, container), Placement::On(_)) {
        return container.meta.created;
    }
    let failures = world
        .containers_of(service)
        .filter(|other| other.meta.id != container.meta.id && other.service_index == container.service_index)
        .filter(|other| other.first_running.is_none() && other.meta.removed.is_some())
        .count();
    let pause = moment.settings.error_replace_after_ms() << failures.min(10);
    container.meta.created.plus_ms(pause.min(moment.settings.error_replace_after_ms().max(60_000)))
}

fn take_away(container: &Row<Container>, service: &Row<Service>, why: &str, moment: Moment<'_>, plan: &mut Plan) {
    let mut next = container.clone();
    if transitions::remove(&mut next, moment.settings, moment.now) {
        plan.write(next);
        plan.steps.push(Step::Audit(audit("instance.delete", container.meta.id, service, why)));
    }
}

fn audit(event_type: &str, container: i64, service: &Row<Service>, why: &str) -> Audit {
    Audit {
        event_type: event_type.to_owned(),
        resource_type: "instance".to_owned(),
        resource_id: container,
        description: format!("{why}. Service id: {}", service.public_id()),
    }
}

/// Makes what is missing. The answer is what the pass waits for, if a number is still taken.
fn create_missing(
    world: &World,
    row: &Row<Service>,
    next: &mut Row<Service>,
    members: &Members<'_>,
    n_missing: usize,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> Option<String> {
    let stack = world.stacks.get(&row.environment_id?.number())?;
    let config = row.launch_config.as_ref()?;
    let Members { live: keep, leaving } = members;
    let index_of = |container: &&Arc<Row<Container>>| container.service_index;
    let mut used: BTreeSet<i64> = keep.iter().filter_map(index_of).collect();
    let held: BTreeMap<i64, &Arc<Row<Container>>> =
        leaving.iter().filter_map(|container| Some((container.service_index?, *container))).collect();
    let mut waiting = None;
    for _ in 0..n_missing.min(AT_ONCE) {
        let index = (1..).find(|index| !used.contains(index)).unwrap_or(1);
        used.insert(index);
        // The container that has the number is leaving: its successor takes the number over when it is free.
        if let Some(container) = held.get(&index) {
            waiting.get_or_insert_with(|| status_of(container));
            continue;
        }
        next.create_index = Some(next.create_index.unwrap_or(0) + 1);
        let unit = unit_of_predecessor(world, row.meta.id, index).unwrap_or_else(|| moment.random.uuid());
        let mut new = draft(stack, row, config, index, next.create_index, &unit, moment);
        new.links.extend(consumed(world, row));
        plan.steps.push(Step::ContainerCreate(Box::new(new)));
    }
    if n_missing > AT_ONCE {
        plan.look_again(moment.now);
    }
    waiting
}

/// A link on record for each consumed service; what it leads to is the resolver's business.
fn consumed(world: &World, row: &Row<Service>) -> Vec<(String, Option<i64>)> {
    let maps = world.each(&world.consume_maps, &world.consume_maps_by_service, row.meta.id);
    let live = maps.filter(|map| map.meta.is_live());
    let named = live.filter_map(|map| {
        let target = world.services.get(&map.consumed_service_id?.number())?;
        map.meta.name.clone().or_else(|| target.meta.name.clone())
    });
    named.map(|alias| (alias, None)).collect()
}

/// A container that was removed by itself is made again in its unit.
fn unit_of_predecessor(world: &World, service: i64, index: i64) -> Option<String> {
    let mut before = world.containers_of(service).rev();
    before.find(|row| row.service_index == Some(index) && row.meta.removed.is_some())?.deployment_unit_uuid.clone()
}

/// The container with that number (`services.md` §5).
fn draft(
    stack: &Row<Stack>,
    service: &Row<Service>,
    config: &LaunchConfig,
    index: i64,
    create_index: Option<i64>,
    unit: &str,
    moment: Moment<'_>,
) -> NewContainer {
    let stack_name = stack.meta.name.clone().unwrap_or_default();
    let service_name = service.meta.name.clone().unwrap_or_default();
    let name = format!("{stack_name}_{service_name}_{index}");
    let mut labels = crate::rows::with_lowercase_platform_keys(config.labels.clone().unwrap_or_default());
    let has_dns_label = labels.contains_key("io.rancher.container.dns");
    let full = format!("{stack_name}/{service_name}");
    for (key, value) in [
        ("io.rancher.stack.name", stack_name.as_str()),
        ("io.rancher.stack_service.name", full.as_str()),
        ("io.rancher.project.name", stack_name.as_str()),
        ("io.rancher.project_service.name", full.as_str()),
        ("io.rancher.service.deployment.unit", unit),
        ("io.rancher.service.launch.config", PRIMARY),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mut dns_search = config.dns_search.clone().unwrap_or_default();
    if !has_dns_label {
        let (stack_name, service_name) = (stack_name.to_lowercase(), service_name.to_lowercase());
        for domain in
            [format!("{stack_name}.rancher.internal"), format!("{service_name}.{stack_name}.rancher.internal")]
        {
            if !dns_search.contains(&domain) {
                dns_search.push(domain);
            }
        }
    }
    let overridden = labels.get("io.rancher.container.hostname_override").map(String::as_str) == Some("container_name");
    let hostname = if overridden {
        Some(hostname_of(&name, index, config.domain_name.as_deref()))
    } else {
        config.hostname.clone()
    };
    let data = Container {
        labels: Some(labels),
        dns_search: Some(dns_search).filter(|domains| !domains.is_empty()),
        hostname,
        create_index,
        deployment_unit_uuid: Some(unit.to_owned()),
        version: config.version.clone().or_else(|| Some("0".to_owned())),
        service_id: Some(Id::new(service.meta.id)),
        stack_id: Some(Id::new(stack.meta.id)),
        service_index: Some(index),
        desired: WANT_RUNNING.to_owned(),
        start_serial: 1,
        start_on_create: true,
        ..crate::rows::container_of(config)
    };
    let mut row = Row::new(service.meta.account_id, CREATING, data);
    row.meta.name = Some(name);
    row.meta.description = config.description.clone();
    row.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.container_start_deadline_ms()));
    let links =
        config.instance_links.iter().flatten().map(|(alias, id)| (alias.clone(), id.map(|id| id.number()))).collect();
    NewContainer { row, links, requested_address: config.requested_ip_address.clone() }
}

/// The container name as host name: with the domain at most 64 characters, the number kept.
fn hostname_of(name: &str, index: i64, domain: Option<&str>) -> String {
    let suffix = format!("_{index}");
    let room = 64_usize.saturating_sub(domain.map_or(0, |domain| domain.chars().count() + 1));
    if name.chars().count() <= room {
        return name.to_owned();
    }
    let base = name.strip_suffix(&suffix).unwrap_or(name);
    let kept: String = base.chars().take(room.saturating_sub(suffix.chars().count())).collect();
    format!("{kept}{suffix}")
}

fn deactivate(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let mut waiting = None;
    for container in members(world, row.meta.id).live {
        match container.meta.state.as_str() {
            CREATING | STARTING | RUNNING | RESTARTING | UPDATING_RUNNING => {
                let mut stopping = (**container).clone();
                transitions::stop(&mut stopping, None, false, moment.settings, moment.now);
                plan.write(stopping);
                waiting.get_or_insert_with(|| status_of(container));
            }
            STOPPING if container.desired == WANT_RUNNING => {
                let mut stopping = (**container).clone();
                transitions::stop(&mut stopping, None, false, moment.settings, moment.now);
                plan.write(stopping);
                waiting.get_or_insert_with(|| status_of(container));
            }
            STOPPING => drop(waiting.get_or_insert_with(|| status_of(container))),
            _ => {}
        }
    }
    match waiting {
        None => next.meta.enter(INACTIVE),
        Some(_) => next.meta.progress.message = waiting,
    }
}

/// All its containers go, then its links, then itself.
fn remove(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let id = row.meta.id;
    let Members { live, leaving } = members(world, id);
    for container in live.iter().take(AT_ONCE) {
        take_away(container, row, "Service instance is removed with its service", moment, plan);
    }
    if let Some(container) = live.first().or(leaving.first()) {
        next.meta.progress.message = Some(status_of(container));
        return plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    for map in world.each(&world.expose_maps, &world.expose_maps_by_service, id) {
        plan.write(ended(Arc::clone(map), moment));
    }
    let links = world.each(&world.consume_maps, &world.consume_maps_by_service, id).chain(world.each(
        &world.consume_maps,
        &world.consume_maps_by_consumed,
        id,
    ));
    let unique: BTreeMap<i64, &Arc<Row<ServiceConsumeMap>>> = links.map(|map| (map.meta.id, map)).collect();
    for map in unique.into_values() {
        plan.write(ended(Arc::clone(map), moment));
    }
    plan.steps.push(Step::ReleaseAll(Holder::new(Service::TABLE, id)));
    removed(&mut next.meta, moment);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::health::STARTED_ONCE;
    use crate::testing::world;

    #[test]
    fn a_service_reaches_its_scale_spread_over_hosts() {
        let w = world().host("a").host("b").service("web", 3).settle();
        assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running", "s_web_3 running"]);
        let on = |name: &str| w.named(name).and_then(|row| row.host_id).map(|id| id.number());
        assert_eq!(
            [on("s_web_1"), on("s_web_2"), on("s_web_3")].map(|id| id == Some(w.host_id("a"))),
            [true, false, true]
        );
        let row = w.service_row("web");
        assert_eq!((row.meta.state.as_str(), row.health_state.as_deref()), (ACTIVE, Some(HEALTHY)));
        assert_eq!(row.create_index, Some(3));
        let labels = w.named("s_web_1").and_then(|row| row.labels.clone()).unwrap_or_default();
        assert_eq!(labels["io.rancher.stack_service.name"], "s/web");
        assert_eq!(labels["io.rancher.service.launch.config"], PRIMARY);
        let search = w.named("s_web_1").and_then(|row| row.dns_search.clone());
        assert_eq!(search, Some(vec!["s.rancher.internal".into(), "web.s.rancher.internal".into()]));
    }

    #[test]
    fn scaling_down_takes_the_newest_and_up_again_the_lowest_number() {
        let w = world().host("a").service("web", 3).settle();
        let w = w
            .change_service("web", |row| {
                row.scale = Some(1);
                row.meta.enter(UPDATING_ACTIVE)
            })
            .settle();
        assert_eq!(w.told(), ["s_web_1 running"]);
        let w = w
            .change_service("web", |row| {
                row.scale = Some(2);
                row.meta.enter(UPDATING_ACTIVE)
            })
            .settle();
        assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running"]);
        assert_eq!(w.service_row("web").create_index, Some(4));
    }

    #[test]
    fn a_stopped_container_is_started_and_a_removed_one_made_again_in_its_unit() {
        let w = world().host("a").service("web", 1).settle();
        let unit = w.named("s_web_1").and_then(|row| row.deployment_unit_uuid.clone());
        let w = w
            .change_container("s_web_1", |row| {
                row.meta.enter(STOPPED);
                row.desired = "stopped".into()
            })
            .settle();
        assert_eq!(w.told(), ["s_web_1 running"]);
        assert_eq!(w.named("s_web_1").map(|row| row.start_serial), Some(2));
        let before = w.named("s_web_1").map(|row| row.meta.id);
        let (settings, now) = (w.settings.clone(), w.now);
        let w = w.change_container("s_web_1", |row| assert!(transitions::remove(row, &settings, now)));
        let w = w.settle();
        assert_eq!(w.told(), ["s_web_1 running"]);
        assert_ne!(w.named("s_web_1").map(|row| row.meta.id), before);
        assert_eq!(w.named("s_web_1").and_then(|row| row.deployment_unit_uuid.clone()), unit);
    }

    #[test]
    fn no_host_is_said_and_healed() {
        let w = world().service("web", 1).settle();
        assert_eq!(w.told(), ["s_web_1 error"]);
        let message = w.service_row("web").meta.progress.message.clone();
        let expected = "Waiting for [instance:s_web_1]. Instance status: Scheduling failed: No candidates available";
        assert_eq!((w.service_row("web").meta.state.as_str(), message.as_deref()), (ACTIVATING, Some(expected)));
        // As soon as there is one, not when the next try is due.
        let w = w.host("a").settle();
        assert_eq!(w.told(), ["s_web_1 running"]);
        assert_eq!(w.service_row("web").meta.state, ACTIVE);
    }

    #[test]
    fn a_deactivated_service_keeps_stopped_containers_and_starts_the_same_again() {
        let w = world().host("a").service("web", 2).settle();
        let ids: Vec<i64> = w.world.containers.keys().copied().collect();
        let w = w.change_service("web", |row| row.meta.enter(DEACTIVATING)).settle();
        assert_eq!(w.told(), ["s_web_1 stopped", "s_web_2 stopped"]);
        assert_eq!(w.service_row("web").meta.state, INACTIVE);
        assert_eq!(w.service_row("web").health_state.as_deref(), Some(UNHEALTHY));
        let w = w.change_service("web", |row| row.meta.enter(ACTIVATING)).settle();
        assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running"]);
        assert_eq!(w.world.containers.keys().copied().collect::<Vec<_>>(), ids);
    }

    #[test]
    fn a_removed_stack_takes_everything_along() {
        let mut w = world().host("a").service("web", 2).service("db", 1).settle();
        let stack = w.world.stacks.keys().next().copied().expect("a stack");
        let mut row = (*w.world.stacks[&stack]).clone();
        row.meta.enter(REMOVING);
        w.world.put(&row.into());
        let w = w.settle();
        assert_eq!(w.told(), Vec::<String>::new());
        assert!(w.world.services.is_empty() && w.world.stacks.is_empty());
        let w = w.after_ms(61_000).settle();
        assert!(w.world.containers.is_empty(), "purged after the delay");
        assert!(w.world.expose_maps.is_empty());
    }

    #[test]
    fn a_container_that_ran_once_is_done() {
        let w = world().host("a").service("job", 1).change_service("job", |row| {
            let config = row.launch_config.as_mut().expect("has one");
            config.labels = Some([("io.rancher.container.start_once".to_owned(), "true".to_owned())].into());
        });
        let w = w.settle().change_container("s_job_1", |row| row.meta.enter(STOPPED)).settle();
        assert_eq!(w.told(), ["s_job_1 stopped"]);
        let row = w.service_row("job");
        assert_eq!((row.meta.state.as_str(), row.health_state.as_deref()), (ACTIVE, Some(STARTED_ONCE)));
    }

    #[test]
    fn a_host_that_goes_is_replaced() {
        let w = world().host("a").host("b").service("web", 2).settle().host_state("a", REMOVING).settle();
        assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running"]);
        let b = w.host_id("b");
        assert!(
            w.world
                .containers
                .values()
                .filter(|row| row.meta.removed.is_none())
                .all(|row| { row.host_id.is_some_and(|id| id.number() == b) })
        );
    }

    #[test]
    fn long_names_become_host_names_that_keep_the_number() {
        let name = format!("s_{}_12", "w".repeat(63));
        assert_eq!(hostname_of(&name, 12, None).len(), 64);
        assert!(hostname_of(&name, 12, Some("example.com")).ends_with("w_12"));
        assert_eq!(hostname_of("s_web_1", 1, None), "s_web_1");
    }
}
