//! One container: placed, started, stopped, removed, purged (`resources.md` §6).
//!
//! The host does the work and reports it ([`crate::observe`]); this plan takes the steps that need no host, and ends
//! every wait: a deadline that passes turns into a state a person can act on, with the reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Host, Leaving};
use remuda_schema::{Id, Row, Time};

use super::{Moment, Plan, Step, checkers, claims, ended, purged, removed, service};
use crate::fence;
use crate::record::Record;
use crate::rows::Range;
use crate::scheduler::{self, Placement, PortNeed};
use crate::transitions::{self, WANT_REMOVED, WANT_RUNNING, WANT_STOPPED, enter, label};
use crate::withdraw;
use crate::world::World;

/// So many hosts a message names.
const NAMED_HOSTS: usize = 5;

pub fn plan(world: &World, id: i64, moment: Moment<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(row) = world.containers.get(&id) else { return plan };
    match row.meta.state.as_str() {
        CREATING if row.desired == WANT_RUNNING => schedule(world, row, moment, &mut plan),
        CREATING => settle(row, STOPPED, &mut plan),
        STARTING if row.host_id.is_none() => schedule(world, row, moment, &mut plan),
        STARTING => await_start(world, row, moment, &mut plan),
        RESTARTING => step_on(row, STOPPING, moment, &mut plan),
        STOPPING if row.desired == WANT_RUNNING => step_on(row, STARTING, moment, &mut plan),
        STOPPING => await_stop(world, row, moment, &mut plan),
        STOPPED if row.desired == WANT_REMOVED => {
            let mut next = (**row).clone();
            enter(&mut next, REMOVING, moment.now.plus_ms(moment.settings.process_deadline_ms()));
            plan.write(next);
        }
        UPDATING_RUNNING => settle(row, RUNNING, &mut plan),
        UPDATING_STOPPED => settle(row, STOPPED, &mut plan),
        ERRORING => settle(row, ERROR, &mut plan),
        REMOVING => remove(world, row, moment, &mut plan),
        REMOVED => {
            let due = row.meta.remove_time.unwrap_or(moment.now);
            // What was replaced elsewhere meanwhile is nothing to restore.
            let is_stale = row.leaving == Some(Leaving::Lost)
                && live_host(world, row).is_none_or(|host| is_heard(world, host) && !row.unconfirmed);
            if due > moment.now && !is_stale {
                plan.look_again(due);
            } else {
                let mut next = (**row).clone();
                enter(&mut next, PURGING, moment.now.plus_ms(moment.settings.process_deadline_ms()));
                plan.write(next);
            }
        }
        PURGING => purge(world, row, moment, &mut plan),
        RESTORING => restore(world, row, &mut plan),
        _ => {}
    }
    keep_rows_in_step(world, row, &mut plan);
    checkers::plan(world, row, moment, &mut plan);
    plan
}

fn settle(row: &Row<Container>, state: &str, plan: &mut Plan) {
    let mut next = row.clone();
    next.meta.enter(state);
    plan.write(next);
}

/// Passes to the next transitional state of a restart.
fn step_on(row: &Row<Container>, state: &str, moment: Moment<'_>, plan: &mut Plan) {
    let mut next = row.clone();
    enter(&mut next, state, moment.now.plus_ms(moment.settings.container_start_deadline_ms()));
    plan.write(next);
}

fn schedule(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    if lacks_address(world, row) {
        return await_address(world, row, moment, plan);
    }
    let mut next = row.clone();
    match scheduler::place(world, row, moment.settings) {
        Placement::On(host) => {
            next.host_id = Some(Id::new(host));
            enter(&mut next, STARTING, moment.now.plus_ms(moment.settings.container_start_deadline_ms()));
            next.meta.progress.message = Some("Starting".to_owned());
            next.health_state = checkers::first_verdict(row).map(str::to_owned);
            next.health_updated = next.health_state.is_some().then_some(moment.now);
            claim_ports(world, row, host, plan);
            plan.write(next);
        }
        Placement::Later(why) => {
            let deadline = row.meta.progress.deadline.unwrap_or(moment.now);
            if deadline <= moment.now {
                transitions::start_failed(&mut next, &format!("Scheduling failed: {why}"));
                plan.write(next);
            } else {
                plan.look_again(deadline.min(moment.now.plus_ms(1000)));
                say(row, &why, plan);
            }
        }
        Placement::Refused(refusal) => {
            tracing::debug!(container = %row.public_id(), "{refusal}");
            transitions::start_failed(&mut next, &refusal.to_string());
            plan.write(next);
        }
    }
}

/// It belongs on the managed network, which had no address for it.
fn lacks_address(world: &World, row: &Row<Container>) -> bool {
    let managed = row.network_mode.as_deref() == Some("managed") && !row.native_container;
    managed && row.primary_ip_address.is_none() && world.network_of_mode("managed").is_some()
}

/// Takes an address as soon as one is free; says so while none is.
fn await_address(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let subnet = world.network_of_mode("managed").and_then(|row| row.subnet.as_deref()).unwrap_or_default();
    let n_all = Range::of(subnet).map_or(0, |range| range.size() as usize);
    let of_containers = world.addresses.values().filter(|row| row.network_id.is_some() && row.meta.removed.is_none());
    let of_hosts = world.hosts.values().filter(|row| row.network_address.is_some());
    let (n_containers, n_hosts) = (of_containers.count(), of_hosts.count());
    let why = format!(
        "{NO_ADDRESS} in {subnet}: of {n_all} containers have {n_containers} and hosts {n_hosts}; remove \
         containers, or use an environment with a larger network"
    );
    let deadline = row.meta.progress.deadline.unwrap_or(moment.now);
    // Said first: the step writes the row only when it finds one.
    let is_said = row.meta.progress.message.as_deref().is_some_and(|message| message.starts_with(NO_ADDRESS));
    if n_containers + n_hosts < n_all && is_said {
        plan.look_again(moment.now.plus_ms(1000));
        return plan.steps.push(Step::ContainerAddress { row: Box::new(row.clone()), requested: None });
    }
    if n_containers + n_hosts >= n_all && deadline <= moment.now {
        let mut next = row.clone();
        transitions::start_failed(&mut next, &format!("Scheduling failed: {why}"));
        return plan.write(next);
    }
    say(row, &why, plan);
    plan.look_again(moment.now.plus_ms(1000));
}

const NO_ADDRESS: &str = "No address is free";

/// Ports the scheduler has checked are claimed, so that two servers cannot both give them away.
fn claim_ports(world: &World, row: &Row<Container>, host: i64, plan: &mut Plan) {
    if row.requested_host_id.is_some() || !scheduler::publishes(row.network_mode.as_deref()) {
        return;
    }
    let needs = world.ports_of(row.meta.id).filter_map(|port| PortNeed::of(&port.data));
    plan.steps.extend(needs.map(|need| Step::Claim(claims::host_port(host, &need, row.meta.id))));
}

fn release_ports(world: &World, row: &Row<Container>, plan: &mut Plan) {
    let Some(host) = row.host_id else { return };
    let needs = world.ports_of(row.meta.id).filter_map(|port| PortNeed::of(&port.data));
    plan.steps.extend(needs.map(|need| Step::Release(claims::host_port(host.number(), &need, row.meta.id))));
}

/// The host the container is on, while it can still be told something.
fn live_host<'a>(world: &'a World, row: &Row<Container>) -> Option<&'a Arc<Row<Host>>> {
    let host = world.hosts.get(&row.host_id?.number())?;
    (!matches!(host.meta.state.as_str(), REMOVED | PURGING | PURGED)).then_some(host)
}

/// The agent of that host is connected.
fn is_heard(world: &World, host: &Row<Host>) -> bool {
    host.agent_id.is_none() || world.agent_of(host).is_some_and(|agent| agent.meta.state == ACTIVE)
}

fn host_name(host: &Row<Host>) -> String {
    host.meta.name.clone().or_else(|| host.hostname.clone()).unwrap_or_else(|| host.public_id())
}

/// After a start of the server hosts are heard first; until then no deadline of theirs has passed.
fn grace(world: &World, moment: Moment<'_>) -> Time {
    world.since.plus_ms(moment.settings.reconnecting_after_ms().saturating_mul(3))
}

fn await_start(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let mut next = row.clone();
    let Some(host) = live_host(world, row) else {
        transitions::start_failed(&mut next, "The host it was placed on has been removed");
        release_ports(world, row, plan);
        return plan.write(next);
    };
    let heard = world.progress_at.get(&row.meta.id).copied().unwrap_or(Time(0));
    let patience = heard.plus_ms(moment.settings.container_start_deadline_ms());
    let deadline = row.meta.progress.deadline.unwrap_or(moment.now).max(patience).max(grace(world, moment));
    if deadline > moment.now {
        return plan.look_again(deadline);
    }
    if is_heard(world, host) {
        let seconds = moment.settings.container_start_deadline_ms() / 1000;
        let reason = format!("Host {} has not reported a start within {seconds} s", host_name(host));
        transitions::start_failed(&mut next, &reason);
        release_ports(world, row, plan);
        plan.write(next);
    } else {
        say(row, &format!("Waiting for host {}, whose agent is not connected", host_name(host)), plan);
        plan.look_again(moment.now.plus_ms(moment.settings.full_pass_ms()));
    }
}

/// A stop ends when the host says so; at once when there is no host that could.
fn await_stop(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let host = live_host(world, row).filter(|host| is_heard(world, host));
    // Of what must never run twice it is not enough that nobody can say.
    let silent = live_host(world, row).filter(|host| row.start_serial > 0 && !is_heard(world, host));
    if let Some((silent, after_ms)) = silent.zip(fence::of(world, row)) {
        let over = fence::stopped_at(world, row, silent, after_ms);
        if over.is_none_or(|over| over > moment.now) {
            say(row, &format!("Waiting until host {}, which is silent, must have stopped it", host_name(silent)), plan);
            return plan.look_again(over.unwrap_or(moment.now.plus_ms(moment.settings.full_pass_ms())));
        }
    }
    // Never seen on the host: there is nothing to stop; should it appear yet, the plan has it stopped.
    let Some(host) = host.filter(|_| row.external_id.is_some()) else {
        release_ports(world, row, plan);
        let mut next = row.clone();
        // Its host may have it, and cannot be asked.
        next.unconfirmed = row.start_serial > 0 && live_host(world, row).is_some_and(|host| !is_heard(world, host));
        next.withdraw_by = None;
        if row.desired == WANT_REMOVED {
            enter(&mut next, REMOVING, moment.now.plus_ms(moment.settings.process_deadline_ms()));
        } else {
            next.meta.enter(STOPPED);
        }
        return plan.write(next);
    };
    if let Some(due) = row.withdraw_by {
        return withdraw(world, row, due, moment, plan);
    }
    let deadline = row.meta.progress.deadline.unwrap_or(moment.now).max(grace(world, moment));
    if deadline > moment.now {
        return plan.look_again(deadline);
    }
    let mut next = row.clone();
    let reason = format!("Failed to stop container {}: host {} has not confirmed it", row.meta.uuid, host_name(host));
    if row.desired == WANT_REMOVED {
        // The removal goes on: the plan of the host asks for it until it is confirmed.
        next.meta.fail(STOPPED, reason);
    } else {
        next.desired = WANT_RUNNING.to_owned();
        next.meta.fail(RUNNING, reason);
    }
    plan.write(next);
}

/// Its host is told to stop it when nobody routes to it any more, or when that takes too long.
fn withdraw(world: &World, row: &Row<Container>, due: Time, moment: Moment<'_>, plan: &mut Plan) {
    let unaware: Vec<&Row<Host>> = withdraw::unaware(world, row.meta.id).collect();
    if !unaware.is_empty() && due > moment.now {
        return plan.look_again(due);
    }
    let mut next = row.clone();
    next.withdraw_by = None;
    enter(&mut next, STOPPING, transitions::stopped_by(row, moment.settings, moment.now));
    if !unaware.is_empty() {
        let mut names: Vec<String> = unaware.iter().take(NAMED_HOSTS).map(|host| host_name(host)).collect();
        names.extend((unaware.len() > NAMED_HOSTS).then(|| "…".to_owned()));
        let (n_hosts, seconds) = (unaware.len(), moment.settings.withdraw_deadline_ms() / 1000);
        let told = format!(
            "Stopped though {n_hosts} host(s) have not confirmed in {seconds} s that they no longer route to it: {}",
            names.join(", ")
        );
        if let Some(service) = row.service_id {
            let name = row.meta.name.as_deref().unwrap_or(&row.meta.uuid);
            let line = service::log::audit(row.meta.account_id, service.number(), &format!("{name}: {told}"));
            plan.steps.push(Step::Audit(line));
        }
        next.meta.progress.message = Some(told);
    }
    plan.write(next);
}

/// The row leaves the lists; the container stays stopped on its host so that `restore` works.
fn remove(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let id = row.meta.id;
    let mut next = row.clone();
    removed(&mut next.meta, moment);
    next.desired = WANT_REMOVED.to_owned();
    plan.write(next);
    if row.unconfirmed {
        // Its host, which is silent, may run it yet: nobody else gets its address before that is known.
        let config = row.launch_config_name.as_deref();
        let number = row.service_id.zip(row.service_index);
        let number = number.map(|(service, index)| claims::service_index(service.number(), config, index, id));
        plan.steps.extend(number.map(Step::Release));
        release_ports(world, row, plan);
    } else {
        plan.steps.push(Step::ReleaseAll(claims::container(id)));
    }
    service::retained::keep_of_removed(world, row, plan);
    for address in world.each(&world.addresses, &world.addresses_by_container, id) {
        plan.write(ended(Arc::clone(address), moment));
    }
    for map in world.each(&world.expose_maps, &world.expose_maps_by_container, id) {
        plan.write(ended(Arc::clone(map), moment));
    }
    for mount in world.mounts_of(id) {
        let mut gone = (**mount).clone();
        gone.meta.enter(INACTIVE);
        plan.write(gone);
        let others = |volume: i64| {
            world
                .each(&world.mounts, &world.mounts_by_volume, volume)
                .any(|other| other.instance_id.is_some_and(|of| of.number() != id) && other.meta.state == ACTIVE)
        };
        let volume = mount.volume_id.and_then(|volume| world.volumes.get(&volume.number()));
        if let Some(volume) = volume
            && volume.meta.state == ACTIVE
            && !others(volume.meta.id)
            && !plan.writes().any(|key| key == ("volume", volume.meta.id))
        {
            let mut idle = (**volume).clone();
            idle.meta.enter(INACTIVE);
            plan.write(idle);
        }
    }
}

/// Waits until the host has confirmed that nothing is left, then the row and everything of it is history.
fn purge(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    if let Some(host) = live_host(world, row)
        && !row.purge_confirmed
        && (row.start_serial > 0 || row.native_container)
    {
        let why = if is_heard(world, host) {
            format!("Waiting for host {} to delete the container", host_name(host))
        } else {
            format!("Waiting for host {}, whose agent is not connected, to delete the container", host_name(host))
        };
        say(row, &why, plan);
        return plan.look_again(moment.now.plus_ms(moment.settings.full_pass_ms()));
    }
    let id = row.meta.id;
    let mut next = row.clone();
    purged(&mut next.meta, moment);
    next.unconfirmed = false;
    plan.write(next);
    plan.steps.push(Step::ReleaseAll(claims::container(id)));
    let mut end = |record: Record| plan.write(ended(record, moment));
    world.ports_of(id).for_each(|row| end(Arc::clone(row).into()));
    world.links_of(id).for_each(|row| end(Arc::clone(row).into()));
    world.each(&world.labels, &world.labels_by_container, id).for_each(|row| end(Arc::clone(row).into()));
    world.each(&world.volumes, &world.volumes_by_container, id).for_each(|row| end(Arc::clone(row).into()));
    if let Some(image) = row.image_id.and_then(|image| world.images.get(&image.number())) {
        end(Arc::clone(image).into());
    }
    // Named volumes went with the container, as the host plan said; their rows follow, and the mounts.
    cleanup_volumes(world, row).for_each(|volume| end(Arc::clone(volume).into()));
    world.mounts_of(id).for_each(|row| end(Arc::clone(row).into()));
}

/// Volumes that go with the container (`resources.md` §6.9): local ones of its host nobody else has mounted, by label
/// `unnamed` (default), `all` or `none`. Host paths never.
pub fn cleanup_volumes<'a>(
    world: &'a World,
    row: &'a Row<Container>,
) -> impl Iterator<Item = &'a Arc<Row<remuda_model::Volume>>> {
    let strategy = label(row, "io.rancher.container.volume_cleanup_strategy").unwrap_or("unnamed");
    let ids: BTreeSet<i64> = world.mounts_of(row.meta.id).filter_map(|mount| Some(mount.volume_id?.number())).collect();
    ids.into_iter().filter_map(move |id| world.volumes.get(&id)).filter(move |volume| {
        let name = volume.meta.name.as_deref().unwrap_or_default();
        let unnamed = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let in_use = world
            .each(&world.mounts, &world.mounts_by_volume, volume.meta.id)
            .any(|mount| mount.instance_id.is_some_and(|of| of.number() != row.meta.id) && mount.meta.state == ACTIVE);
        let chosen = match strategy {
            "all" => true,
            "none" => false,
            _ => unnamed,
        };
        chosen && !volume.is_host_path && !in_use && !name.is_empty() && !name.starts_with('/')
    })
}

fn restore(world: &World, row: &Row<Container>, plan: &mut Plan) {
    let mut next = row.clone();
    next.meta.enter(STOPPED);
    next.meta.removed = None;
    next.meta.remove_time = None;
    next.desired = WANT_STOPPED.to_owned();
    next.purge_confirmed = false;
    // A restored container is no longer part of its service.
    next.service_id = None;
    next.stack_id = None;
    next.service_index = None;
    next.gives_way = false;
    let managed = row.network_mode.as_deref() == Some("managed") && !row.native_container;
    if managed && world.addresses_by_container.is_empty(&row.meta.id) {
        let requested = row.primary_ip_address.clone();
        plan.steps.push(Step::ContainerAddress { row: Box::new(next), requested });
    } else {
        plan.write(next);
    }
}

/// Stores a message of the running process, if it is another than before.
fn say(row: &Row<Container>, message: &str, plan: &mut Plan) {
    if row.meta.progress.message.as_deref() != Some(message) {
        let mut next = row.clone();
        next.meta.progress.message = Some(message.to_owned());
        plan.write(next);
    }
}

/// Port rows and the root volume follow the container.
fn keep_rows_in_step(world: &World, row: &Row<Container>, plan: &mut Plan) {
    let state = row.meta.state.as_str();
    if matches!(state, REMOVING | REMOVED | PURGING | PURGED) {
        let ports: Vec<_> = world.ports_of(row.meta.id).filter(|port| port.meta.state == ACTIVE).cloned().collect();
        if state == REMOVED {
            ports.iter().for_each(|port| put_state(Arc::clone(port).into(), INACTIVE, plan));
        }
        return;
    }
    let port_state = match state {
        RUNNING | UPDATING_RUNNING => Some(ACTIVE),
        STOPPED | UPDATING_STOPPED | ERROR => Some(INACTIVE),
        _ => None,
    };
    if let Some(wanted) = port_state {
        let off: Vec<_> = world
            .ports_of(row.meta.id)
            .filter(|port| matches!(port.meta.state.as_str(), ACTIVE | INACTIVE) && port.meta.state != wanted)
            .cloned()
            .collect();
        off.into_iter().for_each(|port| put_state(port.into(), wanted, plan));
    }
    if row.host_id.is_some() {
        let roots = world.each(&world.volumes, &world.volumes_by_container, row.meta.id);
        let idle: Vec<_> = roots.filter(|volume| volume.meta.state == INACTIVE).cloned().collect();
        idle.into_iter().for_each(|volume| put_state(volume.into(), ACTIVE, plan));
    }
}

fn put_state(mut record: Record, state: &str, plan: &mut Plan) {
    record.meta_mut().enter(state);
    plan.write(record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Subject;
    use crate::testing::{Language, world};

    /// State and message the plan writes into the row, if it writes it.
    fn next(w: &Language, name: &str) -> Option<(String, Option<String>)> {
        let row = w.named(name).or_else(|| w.world.containers.values().next_back().map(AsRef::as_ref)).expect("there");
        let plan = w.plan(Subject::Container(row.meta.id));
        plan.steps.iter().find_map(|step| match step {
            Step::Write(Record::Container(row)) => Some((row.meta.state.clone(), row.meta.progress.message.clone())),
            _ => None,
        })
    }

    fn at(w: &Language, ms: i64) -> Option<Time> {
        Some(w.now.plus_ms(ms))
    }

    #[test]
    fn every_wait_ends() {
        let waiting = |state: &'static str, desired: &'static str| {
            let w = world().host("a").running("x", "a");
            let deadline = at(&w, 1000);
            w.change_container("x", |row| {
                row.meta.enter(state);
                row.meta.progress.deadline = deadline;
                row.desired = desired.into();
                row.external_id = Some("d".into());
            })
        };
        let late = 700_000;
        // A start that nobody reports.
        assert_eq!(next(&waiting("starting", "running"), "x"), None);
        let (state, message) = next(&waiting("starting", "running").after_ms(late), "x").expect("an end");
        assert_eq!(
            (state.as_str(), message.as_deref()),
            ("stopped", Some("Host a has not reported a start within 600 s"))
        );
        let first = waiting("starting", "running").change_container("x", |row| row.first_running = None);
        assert_eq!(next(&first.after_ms(late), "x").expect("an end").0, "error");
        // A stop that nobody confirms.
        assert_eq!(next(&waiting("stopping", "stopped"), "x"), None);
        let (state, message) = next(&waiting("stopping", "stopped").after_ms(late), "x").expect("an end");
        assert_eq!(state, "running");
        assert!(message.is_some_and(|message| message.starts_with("Failed to stop container")));
        // A host that cannot be told anything.
        let deaf = waiting("stopping", "stopped").agent_state("a", "reconnecting");
        assert_eq!(next(&deaf, "x").expect("at once").0, "stopped");
        let deaf = waiting("starting", "running").agent_state("a", "reconnecting").after_ms(late);
        let (state, message) = next(&deaf, "x").expect("says why");
        assert_eq!(
            (state.as_str(), message.as_deref()),
            ("starting", Some("Waiting for host a, whose agent is not connected"))
        );
        let gone = waiting("starting", "running").host_state("a", "removed");
        assert_eq!(next(&gone, "x").expect("an end").0, "stopped");
    }

    #[test]
    fn processes_of_the_server_pass_on() {
        let cases = [
            ("restarting", "running", "stopping"),
            ("stopping", "running", "starting"),
            ("updating-running", "running", "running"),
            ("updating-stopped", "stopped", "stopped"),
            ("erroring", "running", "error"),
            ("stopped", "removed", "removing"),
            ("removing", "removed", "removed"),
            ("restoring", "removed", "stopped"),
        ];
        for (state, desired, expected) in cases {
            let w = world().host("a").running("x", "a").change_container("x", |row| {
                row.meta.enter(state);
                row.desired = desired.into();
                row.network_mode = Some("bridge".into());
            });
            assert_eq!(next(&w, "x").map(|(state, _)| state).as_deref(), Some(expected), "{state}");
        }
    }

    #[test]
    fn a_purge_waits_for_the_host_and_not_for_a_lost_one() {
        let purging = |confirmed: bool| {
            world().host("a").running("x", "a").change_container("x", |row| {
                row.meta.enter("purging");
                row.purge_confirmed = confirmed;
            })
        };
        assert_eq!(next(&purging(false), "x").expect("says why").0, "purging");
        assert_eq!(next(&purging(true), "x").expect("an end").0, "purged");
        assert_eq!(next(&purging(false).host_state("a", "removed"), "x").expect("an end").0, "purged");
    }
}
