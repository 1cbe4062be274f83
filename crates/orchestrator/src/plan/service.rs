//! One service: as many containers as its scale says, kept running (`services.md` §§2, 4-6, 8, 12).
//!
//! [`units`] collects what there is, [`draft`] says what a new container looks like, [`reconcile`] brings the one to
//! the other, [`upgrade`] exchanges containers for those of other launch configs, [`replace`] what is unhealthy, [`retained`] keeps addresses, [`scale`] looks for a scale, [`to_service`] hands over to another service, [`restart`] stops and starts them; here are
//! the processes that ask for it.

pub mod awaited;
pub mod create;
pub mod draft;
pub mod external;
pub mod log;
pub mod moves;
pub mod reconcile;
pub mod replace;
#[cfg(test)]
mod replace_tests;
pub mod restart;
pub mod retained;
pub mod scale;
pub mod to_service;
#[cfg(test)]
mod unit_tests;
pub mod units;
pub mod upgrade;
#[cfg(test)]
mod upgrade_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Service, ServiceConsumeMap};
use remuda_schema::{Resource, Row};
use remuda_store::Holder;

use self::reconcile::reconcile;
use self::units::{Members, everyone, members};
use super::health::{endpoints, health};
use super::{Audit, Moment, Plan, Step, ended, removed};
use crate::balancer;
use crate::transitions::{self, WANT_RUNNING};
use crate::world::World;

/// At most that many containers are made or removed in one pass, so that a transaction stays short.
const AT_ONCE: usize = 400;

/// Label value of the primary launch config.
pub const PRIMARY: &str = "io.rancher.service.primary.launch.config";

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.services.get(&id) else { return plan };
    let mut next = (**row).clone();
    retained::note(world, row, &mut next);
    match row.meta.state.as_str() {
        REQUESTED | REGISTERING if row.start_on_create == Some(true) => begin(&mut next, ACTIVATING, moment),
        REQUESTED | REGISTERING | UPDATING_INACTIVE => next.meta.enter(INACTIVE),
        ACTIVATING | ACTIVE | UPDATING_ACTIVE => reconcile(world, row, &mut next, moment, &mut plan),
        UPGRADING | CANCELING_UPGRADE | ROLLING_BACK | CANCELING_ROLLBACK => {
            match row.upgrade.as_ref().and_then(|upgrade| upgrade.to_service_strategy.as_ref()) {
                Some(strategy) => to_service::plan(world, row, strategy, &mut next, moment, &mut plan),
                None => upgrade::plan(world, row, &mut next, moment, &mut plan),
            }
        }
        UPGRADED | CANCELED_UPGRADE | CANCELED_ROLLBACK => {
            upgrade::rest(world, row, &mut next, moment, &mut plan);
        }
        FINISHING_UPGRADE => upgrade::finish(world, row, &mut next, moment, &mut plan),
        RESTARTING => restart::plan(world, row, &mut next, moment, &mut plan),
        DEACTIVATING => deactivate(world, row, &mut next, moment, &mut plan),
        REMOVING => remove(world, row, &mut next, moment, &mut plan),
        _ => {}
    }
    complain(world, row, &mut next);
    if row.meta.is_live() {
        external::maps(world, row, moment, &mut plan);
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

/// What its load balancers' own process refuses, or what they lack, is the service's message for as long as that is so.
/// Clients show it because it counts as an error (`transitioning`).
fn complain(world: &World, row: &Row<Service>, next: &mut Row<Service>) {
    const BEGIN: &str = "HAProxy of ";
    const LACKS: &str = "Load balancer: ";
    let mut containers = world.containers_of(row.meta.id).filter(|container| container.meta.is_live());
    let complaint = containers.find_map(|container| {
        let name = container.meta.name.as_deref().unwrap_or(&container.meta.uuid);
        Some(format!("{BEGIN}{name}: {}", container.balancer_problem.as_deref()?))
    });
    let lacks = || {
        let problem = balancer::is_balancer(&row.meta.kind).then(|| balancer::problem(world, next)).flatten();
        problem.map(|problem| format!("{LACKS}{problem}"))
    };
    let complaint = complaint.or_else(lacks);
    let progress = &mut next.meta.progress;
    let is_said = progress.message.as_ref().is_some_and(|known| known.starts_with(BEGIN) || known.starts_with(LACKS));
    match complaint {
        Some(complaint) if next.meta.state == ACTIVE => (progress.failed, progress.message) = (true, Some(complaint)),
        None if is_said => (progress.failed, progress.message) = (false, None),
        _ => {}
    }
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

/// `Waiting for [instance:web_app_1]. Instance status: …`
pub fn status_of(container: &Row<Container>) -> String {
    let name = container.meta.name.as_deref().unwrap_or(&container.meta.uuid);
    let status = container.meta.progress.message.clone().unwrap_or_else(|| container.meta.state.clone());
    format!("Waiting for [instance:{name}]. Instance status: {status}")
}

/// Asks for the container's removal, when nobody routes to it any more; whether it was not on its way already.
pub fn take_away(
    container: &Row<Container>,
    service: &Row<Service>,
    why: &str,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> bool {
    let mut next = container.clone();
    let goes = transitions::retire_and_remove(&mut next, moment.settings, moment.now);
    if goes {
        plan.write(next);
        plan.steps.push(Step::Audit(audit("instance.delete", container.meta.id, service, why)));
    }
    goes
}

/// The same, when its unit ends with it.
pub fn take_away_unit(
    container: &Row<Container>,
    service: &Row<Service>,
    why: &str,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> bool {
    let mut ending = container.clone();
    ending.unit_ended = true;
    take_away(&ending, service, why, moment, plan)
}

fn audit(event_type: &str, container: i64, service: &Row<Service>, why: &str) -> Audit {
    let text = format!("{why}. Service id: {}", service.public_id());
    Audit::of(service.meta.account_id, event_type, "instance", container, &text)
}

fn deactivate(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    let mut waiting = None;
    let Members { live, outgoing, .. } = members(world, row.meta.id);
    for container in outgoing {
        let why = "Service instance that was to be replaced is removed by service.deactivate";
        take_away_unit(container, row, why, moment, plan);
    }
    for container in live {
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
    let Members { live, leaving, .. } = everyone(world, id);
    for container in live.iter().take(AT_ONCE) {
        // With the whole service gone there is nobody else to route to.
        let mut going = (***container).clone();
        if transitions::remove(&mut going, moment.settings, moment.now) {
            plan.write(going);
            let why = "Service instance is removed with its service";
            plan.steps.push(Step::Audit(audit("instance.delete", container.meta.id, row, why)));
        }
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
    fn labels_and_volumes_have_their_macros_filled_in() {
        let w = world().host("a").service("web", 2).change_service("web", |row| {
            let config = row.launch_config.as_mut().expect("has one");
            let rule = "io.rancher.stack_service.name=${stack_name}/${service_name}";
            config.labels =
                Some([("io.rancher.scheduler.affinity:container_label_soft_ne".into(), rule.into())].into());
            config.data_volumes = Some(vec!["s_data_${service_index}:/data".into(), "/h:/${other}".into()]);
        });
        let w = w.settle();
        for (name, number) in [("s_web_1", 1), ("s_web_2", 2)] {
            let row = w.named(name).expect("is there");
            assert_eq!(row.data_volumes, Some(vec![format!("s_data_{number}:/data"), "/h:/${other}".into()]));
            let rule = &row.labels.as_ref().expect("has some")["io.rancher.scheduler.affinity:container_label_soft_ne"];
            assert_eq!(rule, "io.rancher.stack_service.name=s/web");
        }
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
    fn what_a_balancers_process_refuses_is_said_until_it_is_mended() {
        let w = world().host("a").service("web", 2).settle();
        let refused = |why: Option<&str>| {
            let why = why.map(str::to_owned);
            move |row: &mut Row<Container>| row.balancer_problem = why
        };
        let w = w.change_container("s_web_2", refused(Some("unknown keyword"))).settle();
        let told = |w: &crate::testing::Language| {
            let row = w.service_row("web");
            (row.meta.state.clone(), row.meta.progress.message.clone().unwrap_or_default())
        };
        assert_eq!(told(&w), (ACTIVE.to_owned(), "HAProxy of s_web_2: unknown keyword".to_owned()));
        let w = w.change_container("s_web_2", refused(None)).settle();
        assert_eq!(told(&w), (ACTIVE.to_owned(), String::new()));
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
}
