//! The pass that brings a service to its scale (`services.md` §8): what is bad goes, what is too much goes, what is
//! missing is made, what stopped is started. The answer of a pass is what it waits for.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, Leaving, Service};
use remuda_schema::{Row, Time};

use super::log::Log;
use super::moves::{self, Verdict};
use super::units::{
    Members, Unit, group, is_up, meets_host_labels, members, ran_once, references, scheduler_labels, wanted,
};
use super::upgrade::{Exchange, Returning};
use super::{AT_ONCE, PRIMARY, awaited, begin, create, replace, retained, scale, status_of, take_away, take_away_unit};
use crate::plan::{Moment, Plan};
use crate::scheduler::{self, Placement};
use crate::transitions;
use crate::world::{World, dependencies, is_unplaced};

pub fn reconcile(world: &World, row: &Row<Service>, next: &mut Row<Service>, moment: Moment<'_>, plan: &mut Plan) {
    if row.meta.state == ACTIVATING
        && let Some(why) = row.awaited.iter().find_map(|awaited| awaited::missing(world, awaited))
    {
        next.meta.progress.message = Some(why);
        next.meta.progress.percent = Some(0);
        return plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    next.awaited.clear();
    let (waiting, settled) = pass(world, row, next, moment, plan);
    let settled = scale::search(world, row, next, settled) && settled;
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
    go_on(next, waiting, moment, plan);
}

/// The process goes on: says what it waits for, and looks again.
pub(super) fn go_on(next: &mut Row<Service>, waiting: Option<String>, moment: Moment<'_>, plan: &mut Plan) {
    if waiting.is_some() {
        next.meta.progress.message = waiting;
    }
    let deadline = next.meta.progress.deadline.unwrap_or(moment.now);
    if deadline <= moment.now {
        next.meta.progress.deadline = Some(moment.now.plus_ms(moment.settings.process_deadline_ms()));
    }
    plan.look_again(moment.now.plus_ms(moment.settings.process_deadline_ms()));
}

/// Whether the next batch or round may begin: all has been well for the interval, 2 s unless another was asked for.
pub(super) fn pause_is_over(
    next: &mut Row<Service>,
    interval_ms: Option<i64>,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> bool {
    let due = *next.next_batch.get_or_insert_with(|| moment.now.plus_ms(interval_ms.unwrap_or(2000)));
    if due > moment.now {
        plan.look_again(due);
        return false;
    }
    next.next_batch = None;
    true
}

/// How many units a batch has, 1 unless more were asked for.
pub(super) fn batch_size(asked: Option<i64>) -> usize {
    usize::try_from(asked.unwrap_or(1)).unwrap_or(1).max(1)
}

/// Brings the containers nearer to what the service asks for, in any state of the service that wants them to run.
/// What it waits for, and whether all is as it shall be.
pub fn pass(
    world: &World,
    row: &Row<Service>,
    next: &mut Row<Service>,
    moment: Moment<'_>,
    plan: &mut Plan,
) -> (Option<String>, bool) {
    let Members { live, leaving, outgoing } = members(world, row.meta.id);
    let (exchange, returning) = (Exchange::under_way(row), Returning::of(world, row));
    let mut pass = Pass {
        world,
        row,
        moment,
        leaving,
        exchange,
        returning,
        log: Log::default(),
        waiting: None,
        settled: true,
        stays: None,
        n_replaced: moves::n_replaced(world),
    };
    let mut keep: Vec<Unit<'_>> = Vec::new();
    let units = group(&live);
    let may_replace = replace::may_replace(row, &units);
    for unit in units {
        pass.sort_out(unit, may_replace, &mut keep, plan);
    }
    pass.surplus(&mut keep, plan);
    replace::let_go(&mut pass, &outgoing, &keep, plan);
    for unit in &mut keep {
        let told = (pass.waiting.clone(), pass.settled);
        pass.dependants(unit, plan);
        pass.start(unit, plan);
        // What is exchanged soon is not waited for.
        if pass.awaits_exchange(unit) {
            (pass.waiting, pass.settled) = told;
        }
    }
    create::missing(&mut pass, keep, next, plan);
    tell_stay(row, next, pass.stays.take());
    if pass.settled {
        retained::give_up_unused(world, row, next, plan);
    }
    plan.steps.extend(pass.log.steps(row));
    (pass.waiting, pass.settled)
}

/// What stays where it should not is told while nothing else is.
fn tell_stay(row: &Row<Service>, next: &mut Row<Service>, stays: Option<String>) {
    if row.meta.state == ACTIVE && !row.meta.progress.failed {
        next.meta.progress.message = stays;
    }
}

/// What one pass has found out.
pub(super) struct Pass<'a> {
    pub(super) world: &'a World,
    pub(super) row: &'a Row<Service>,
    pub(super) moment: Moment<'a>,
    pub(super) leaving: Vec<&'a Arc<Row<Container>>>,
    exchange: Option<Exchange<'a>>,
    pub(super) returning: Returning<'a>,
    pub(super) log: Log,
    waiting: Option<String>,
    settled: bool,
    /// Why a unit is not where it should be.
    stays: Option<String>,
    /// How many containers of the project are being replaced.
    n_replaced: usize,
}

pub(super) const MOVED: &str = "Service instance that was replaced on another host is removed by service.reconcile";
const BAD: &str = "Service instance in a bad state is removed by service.reconcile";
const EXTRA: &str = "Extra service instance is removed by service.reconcile";
const MISPLACED: &str = "Service instance whose host has no room for its sidekicks is removed by service.reconcile";
pub(super) const UNHEALTHY_ONE: &str = "Unhealthy service instance is removed by service.reconcile";

impl<'a> Pass<'a> {
    /// All is not as it shall be; the first reason is the one that is told.
    pub(super) fn wait(&mut self, why: Option<String>) {
        self.settled = false;
        if self.waiting.is_none() {
            self.waiting = why;
        }
    }

    pub(super) fn awaits_exchange(&self, unit: &Unit<'_>) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.awaits(unit))
    }

    /// What hinders the service is told when it becomes the service's message, and not again while it is.
    fn tell_wait(&mut self, container: &Row<Container>) {
        let status = status_of(container);
        let writes_message = matches!(self.row.meta.state.as_str(), ACTIVE | ACTIVATING | UPDATING_ACTIVE);
        if writes_message && self.waiting.is_none() && self.row.meta.progress.message.as_ref() != Some(&status) {
            self.log.say_plainly(status);
        }
    }

    fn take(&mut self, container: &'a Arc<Row<Container>>, why: &str, because: &str, plan: &mut Plan) {
        if take_away(container, self.row, why, self.moment, plan) {
            self.log.say(&format!("Removed because {because}"), container);
        }
        self.leaving.push(container);
        self.settled = false;
    }

    pub(super) fn take_unit(&mut self, unit: Unit<'a>, why: &str, because: &str, plan: &mut Plan) {
        for container in unit.members.into_values() {
            if take_away_unit(container, self.row, why, self.moment, plan) {
                self.log.say(&format!("Removed because {because}"), container);
            }
            self.leaving.push(container);
        }
        self.settled = false;
    }

    /// Keeps the unit, or takes it or one of its containers away.
    fn sort_out(&mut self, mut unit: Unit<'a>, may_replace: bool, keep: &mut Vec<Unit<'a>>, plan: &mut Plan) {
        let host_is_gone = |row: &Row<Container>| {
            let host = row.host_id.and_then(|id| self.world.hosts.get(&id.number()));
            row.host_id.is_some() && host.is_none_or(|host| !host.meta.is_live() || host.meta.state == REMOVING)
        };
        let unhealthy =
            |row: &Row<Container>| row.health_state.as_deref() == Some(UNHEALTHY) && row.meta.state == RUNNING;
        let doom = if unit.members.values().any(|row| host_is_gone(row)) {
            Some((BAD, "its host is gone"))
        } else if unit.members.values().any(|row| row.leaving == Some(Leaving::Lost)) {
            return self.leave(unit, keep, plan);
        } else if self.awaits_exchange(&unit) {
            return keep.push(unit);
        } else if unit.members.values().any(|row| row.leaving.is_some()) {
            return self.leave(unit, keep, plan);
        } else if may_replace && unit.members.values().any(|row| unhealthy(row)) {
            if replace::may_overlap(self.row) {
                return replace::give_way(self, &unit, "it is unhealthy", plan);
            }
            Some((UNHEALTHY_ONE, "it is unhealthy"))
        } else {
            None
        };
        if let Some((why, because)) = doom {
            return self.take_unit(unit, why, because, plan);
        }
        let failed: Vec<(&str, &Arc<Row<Container>>)> = unit
            .members
            .iter()
            .filter(|(_, row)| matches!(row.meta.state.as_str(), ERROR | ERRORING))
            .map(|(name, row)| (*name, *row))
            .collect();
        // A unit whose host does not take one of it, while another host would take the whole, goes there.
        let moves = |row: &Row<Container>| {
            self.exchange.is_none()
                && is_unplaced(row)
                && matches!(scheduler::place_apart(self.world, row, self.moment.settings), Placement::On(other) if unit.host() != Some(other))
        };
        if unit.members.len() > 1 && !self.row.is_global() && failed.iter().any(|(_, row)| moves(row)) {
            return self.take_unit(unit, MISPLACED, "its host has no room for its sidekicks", plan);
        }
        for (name, container) in failed {
            let due = replace_after(self.world, self.row.meta.id, container, self.moment);
            if due > self.moment.now {
                plan.look_again(due);
                self.tell_wait(container);
                self.wait(Some(status_of(container)));
            } else {
                unit.members.remove(name);
                let reason = container.meta.progress.message.as_deref().unwrap_or("it did not start");
                self.take(container, BAD, &format!("it failed ({reason})"), plan);
            }
        }
        if !unit.members.is_empty() {
            keep.push(unit);
        }
    }

    /// A unit that shall not stay where it is.
    fn leave(&mut self, unit: Unit<'a>, keep: &mut Vec<Unit<'a>>, plan: &mut Plan) {
        match moves::verdict(self.world, self.row, &unit, self.n_replaced, self.moment) {
            Verdict::Goes(because) => self.take_unit(unit, BAD, because, plan),
            Verdict::IsReplaced => {
                self.n_replaced += unit.members.len();
                replace::give_way(self, &unit, "it leaves its host", plan);
            }
            Verdict::Stays(why) => {
                let is_news = self.row.meta.progress.message.as_ref() != Some(&why) && self.stays.is_none();
                if is_news && self.row.meta.state == ACTIVE {
                    self.log.say_plainly(why.clone());
                }
                self.stays.get_or_insert(why);
                plan.look_again(self.moment.now.plus_ms(self.moment.settings.process_deadline_ms()));
                keep.push(unit);
            }
            Verdict::Waits(why) => {
                self.wait(Some(why));
                keep.push(unit);
            }
            Verdict::None => keep.push(unit),
        }
    }

    /// Units beyond what is wanted go whole.
    fn surplus(&mut self, keep: &mut Vec<Unit<'a>>, plan: &mut Plan) {
        let mut extra: Vec<Unit<'a>> = Vec::new();
        if self.row.is_global() {
            let rules = scheduler_labels(self.row);
            let mut taken = BTreeSet::new();
            extra.extend(keep.extract_if(.., |unit| match unit.host() {
                Some(host) => !taken.insert(host) || !meets_host_labels(self.world, host, &rules),
                None => true,
            }));
        } else {
            let scale = wanted(self.row);
            if keep.len() > scale {
                keep.sort_by_key(order_of_leaving);
                extra.extend(keep.drain(..keep.len() - scale));
            }
        }
        let because = match self.row.is_global() {
            true => "its host is not one for it".to_owned(),
            false => format!("the scale is {}", wanted(self.row)),
        };
        for unit in extra.into_iter().take(AT_ONCE) {
            self.take_unit(unit, EXTRA, &because, plan);
        }
        keep.sort_by_key(|unit| unit.index);
    }

    /// Takes away what depends on a container that is missing: it is made again after that one.
    fn dependants(&mut self, unit: &mut Unit<'a>, plan: &mut Plan) {
        loop {
            let configs = self.row.launch_configs();
            let lost = configs.iter().find_map(|(name, config)| {
                let has_all = references(self.row, config).all(|on| unit.members.contains_key(on));
                if has_all { None } else { unit.members.keys().copied().find(|member| member == name) }
            });
            let Some(container) = lost.and_then(|name| unit.members.remove(name)) else { return };
            self.take(container, BAD, "what it refers to is made again", plan);
        }
    }

    /// Starts what stopped, after what it depends on. Who uses the network of one that does not run is stopped with it.
    fn start(&mut self, unit: &Unit<'a>, plan: &mut Plan) {
        for container in unit.members.values() {
            let ready = dependencies(container).all(|id| {
                let member = unit.members.values().find(|row| row.meta.id == id);
                member.is_none_or(|row| is_up(row))
            });
            match container.meta.state.as_str() {
                RUNNING | UPDATING_RUNNING if !self.lost_network(unit, container) => {}
                RUNNING => {
                    let mut stopped = (***container).clone();
                    transitions::stop(&mut stopped, None, false, self.moment.settings, self.moment.now);
                    plan.write(stopped);
                    self.wait(Some(status_of(container)));
                }
                _ if ran_once(container) => {}
                STOPPED if !ready => self.wait(Some(status_of(container))),
                STOPPED if !start_is_due(container, self.moment, plan) => self.wait(Some(status_of(container))),
                STOPPED => {
                    let mut started = (***container).clone();
                    transitions::start(&mut started, self.moment.settings, self.moment.now);
                    plan.write(started);
                    self.log.say(&stopped_with(container), container);
                    self.settled = false;
                }
                ERROR | ERRORING => self.settled = false,
                _ => self.wait(Some(status_of(container))),
            }
        }
    }

    fn lost_network(&self, unit: &Unit<'_>, container: &Row<Container>) -> bool {
        let Some(id) = container.network_container_id else { return false };
        let owner = unit.members.values().find(|row| row.meta.id == id.number());
        owner.is_some_and(|row| {
            !ran_once(row) && matches!(row.meta.state.as_str(), STOPPED | STOPPING | STARTING | RESTARTING)
        })
    }
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

fn stopped_with(container: &Row<Container>) -> String {
    match container.exit_code {
        Some(code) => format!("Started again after it stopped with code {code}"),
        None => "Started again after it stopped".to_owned(),
    }
}

/// Unhealthy first, then what does not run yet, then the newest.
fn order_of_leaving(unit: &Unit<'_>) -> (u8, i64) {
    let rank = unit.members.values().map(|row| rank_of(row)).min().unwrap_or(0);
    let newest = unit.members.get(PRIMARY).or(unit.members.values().next());
    (rank, -newest.map_or(0, |row| row.create_index.unwrap_or(row.meta.id)))
}

fn rank_of(container: &Row<Container>) -> u8 {
    match (container.meta.state.as_str(), container.health_state.as_deref()) {
        (ERROR | ERRORING, _) | (_, Some(UNHEALTHY)) => 0,
        (_, Some(INITIALIZING | REINITIALIZING)) => 1,
        (RUNNING | UPDATING_RUNNING, _) => 3,
        _ => 2,
    }
}

/// When a container in `error` is replaced: at once when no host took it and one would now, else after a pause that
/// doubles with each failure of the same number.
fn replace_after(world: &World, service: i64, container: &Row<Container>, moment: Moment<'_>) -> Time {
    if is_unplaced(container) && matches!(scheduler::place(world, container, moment.settings), Placement::On(_)) {
        return container.meta.created;
    }
    let failures = world
        .containers_of(service)
        .filter(|other| other.meta.id != container.meta.id && other.service_index == container.service_index)
        .filter(|other| other.launch_config_name == container.launch_config_name)
        .filter(|other| other.first_running.is_none() && other.meta.removed.is_some())
        .count();
    let pause = moment.settings.error_replace_after_ms() << failures.min(10);
    container.meta.created.plus_ms(pause.min(moment.settings.error_replace_after_ms().max(60_000)))
}
