//! Who checks a container, and what their votes come to (`scheduling-and-health.md` §8.2 to §8.5).
//!
//! Both are read from what is there, whatever happened in between: the rows say which hosts check and how each voted
//! last, the container says which of its starts a vote must be about. So a report that comes twice or late, and a
//! server that was away, change nothing. Votes are kept while the container is initializing too; they only do not
//! count against it (`docs/decisions/health-votes.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Container, HealthcheckInstanceHostMap, Host};
use remuda_schema::{Row, Time};

use super::{Audit, Moment, Plan, ended};
use crate::transitions;
use crate::world::World;

/// So many hosts check a container, if there are that many.
pub const MOST: usize = 3;
/// Draws at random before all hosts are looked at.
const DRAWS: usize = 24;

/// Whether hosts shall check the container now.
pub fn are_wanted(row: &Row<Container>) -> bool {
    row.host_id.is_some()
        && matches!(row.meta.state.as_str(), STARTING | RESTARTING | RUNNING | UPDATING_RUNNING)
        && row.check().is_some_and(|check| check.rules().is_some())
}

/// The first verdict of a container that is about to run; `None` when nobody checks it.
pub fn first_verdict(row: &Container) -> Option<&'static str> {
    (row.check().is_some() || row.has_engine_check()).then_some(INITIALIZING)
}

/// What the engine's own check says is the verdict where other hosts have none.
pub fn engine_says(row: &mut Row<Container>, said: Option<&str>, now: Time) {
    let health = match said {
        Some(HEALTHY) => HEALTHY,
        Some(UNHEALTHY) => UNHEALTHY,
        Some("starting") => INITIALIZING,
        _ => return,
    };
    if row.has_engine_check() && row.health_state.as_deref() != Some(health) {
        row.health_state = Some(health.to_owned());
        row.health_updated = Some(now);
    }
}

/// A container was started once more: what was found out about it before is history, but that it was unhealthy.
pub fn started_again(row: &mut Row<Container>, now: Time) {
    let next = match row.health_state.as_deref() {
        _ if row.check().is_none() => return,
        None => INITIALIZING,
        Some(HEALTHY | "updating-healthy") => REINITIALIZING,
        Some(_) => return,
    };
    row.health_state = Some(next.to_owned());
    row.health_updated = Some(now);
}

/// Appoints hosts, dismisses those that cannot check, counts the votes, and ends waits that last too long.
pub fn plan(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let gone = matches!(row.meta.state.as_str(), REMOVED | PURGING | PURGED);
    let (mut stay, mut go): (Vec<_>, Vec<_>) =
        world.checks_of(row.meta.id).partition(|map| !gone && row.check().is_some() && can_check(world, map));
    if are_wanted(row) {
        appoint(world, row, &mut stay, &mut go, moment, plan);
    }
    go.into_iter().for_each(|map| plan.write(ended(Arc::clone(map), moment)));
    // Another step of the container is under way; when that is stored it is looked at again.
    let is_written = plan.writes().any(|key| key == ("instance", row.meta.id));
    if is_written || row.meta.state != RUNNING || row.check().is_none() {
        return;
    }
    let votes = stay.iter().map(|map| vote(map, row));
    if let Some(health) = verdict(row.health_state.as_deref(), votes) {
        let mut next = row.clone();
        next.health_state = Some(health.to_owned());
        next.health_updated = Some(moment.now);
        return plan.write(next);
    }
    end_wait(world, row, moment, plan);
}

/// What the votes of the hosts that check come to; `None`: the verdict stays.
pub fn verdict(health: Option<&str>, votes: impl Iterator<Item = Option<bool>>) -> Option<&'static str> {
    let (mut n_votes, mut all_against) = (0, true);
    for vote in votes {
        match vote {
            // One yes is enough.
            Some(true) => return (health != Some(HEALTHY)).then_some(HEALTHY),
            Some(false) => {}
            None => all_against = false,
        }
        n_votes += 1;
    }
    (n_votes > 0 && all_against && health == Some(HEALTHY)).then_some(UNHEALTHY)
}

/// What the host says of the container as it runs now.
fn vote(map: &HealthcheckInstanceHostMap, row: &Row<Container>) -> Option<bool> {
    let is_current = map.run == row.start_count.unwrap_or(0);
    map.health_state.as_deref().filter(|_| is_current).map(|vote| vote == HEALTHY)
}

/// Its host is there and heard. One that takes nothing new goes on checking.
fn can_check(world: &World, map: &HealthcheckInstanceHostMap) -> bool {
    let host = map.host_id.and_then(|id| world.hosts.get(&id.number()));
    host.is_some_and(|host| {
        host.meta.is_live() && host.meta.state != REMOVING && host.network_problem.is_none() && is_heard(world, host)
    })
}

fn is_heard(world: &World, host: &Row<Host>) -> bool {
    host.agent_id.is_none() || world.agent_of(host).is_some_and(|agent| agent.meta.state == ACTIVE)
}

/// Takes checks on: active, heard, and on the managed network.
fn is_candidate(world: &World, host: &Row<Host>) -> bool {
    matches!(host.meta.state.as_str(), ACTIVE | UPDATING_ACTIVE)
        && host.network_problem.is_none()
        && is_heard(world, host)
}

/// Tops the hosts that check up, at random. The container's own host checks only while nobody else does.
fn appoint<'a>(
    world: &'a World,
    row: &Row<Container>,
    stay: &mut Vec<&'a Arc<Row<HealthcheckInstanceHostMap>>>,
    go: &mut Vec<&'a Arc<Row<HealthcheckInstanceHostMap>>>,
    moment: Moment<'_>,
    plan: &mut Plan,
) {
    let Some(own) = row.host_id.map(|id| id.number()) else { return };
    let taken: BTreeSet<i64> = stay.iter().filter_map(|map| Some(map.host_id?.number())).chain([own]).collect();
    let n_others = taken.len() - 1;
    let mut chosen = draw(world, &taken, MOST.saturating_sub(n_others), moment);
    if n_others + chosen.len() > 0 {
        go.extend(stay.extract_if(.., |map| map.host_id.is_some_and(|id| id.number() == own)));
    } else if stay.is_empty() && world.hosts.get(&own).is_some_and(|host| is_candidate(world, host)) {
        chosen.push(own);
    }
    for host in chosen {
        let data = HealthcheckInstanceHostMap {
            host_id: Some(remuda_schema::Id::new(host)),
            instance_id: Some(row.id().cast()),
            ..HealthcheckInstanceHostMap::default()
        };
        let mut map = Row::new(row.meta.account_id, ACTIVE, data);
        map.meta.uuid = moment.random.uuid();
        plan.insert(map);
    }
}

/// Up to so many hosts that take checks and are not among those. In a large project a few draws find them; only when
/// they do not, every host is looked at.
fn draw(world: &World, taken: &BTreeSet<i64>, n: usize, moment: Moment<'_>) -> Vec<i64> {
    let mut chosen: Vec<i64> = Vec::new();
    let fits = |id: &i64| !taken.contains(id) && world.hosts.get(id).is_some_and(|host| is_candidate(world, host));
    let all = world.host_ids();
    let any = |among: &[i64]| {
        let n_all = u64::try_from(among.len()).unwrap_or(u64::MAX);
        usize::try_from(moment.random.below(n_all)).ok().and_then(|at| among.get(at).copied())
    };
    if all.len() > DRAWS {
        for _ in 0..DRAWS {
            if chosen.len() >= n {
                return chosen;
            }
            chosen.extend(any(all).filter(|id| fits(id) && !chosen.contains(id)));
        }
    }
    if chosen.len() < n {
        let mut left: Vec<i64> = all.iter().copied().filter(|id| fits(id) && !chosen.contains(id)).collect();
        while chosen.len() < n
            && let Some(id) = any(&left)
        {
            left.retain(|other| *other != id);
            chosen.push(id);
        }
    }
    chosen
}

/// A container that is not healthy within the time it was given goes; a service makes another.
fn end_wait(world: &World, row: &Row<Container>, moment: Moment<'_>, plan: &mut Plan) {
    let Some(check) = row.check() else { return };
    let timeout = match row.health_state.as_deref() {
        Some(INITIALIZING) => check.initializing_timeout,
        Some(REINITIALIZING) => check.reinitializing_timeout,
        _ => None,
    };
    let Some(timeout) = timeout.filter(|ms| *ms > 0) else { return };
    // What was voted while no server listened is heard first.
    let since = row.health_updated.unwrap_or(moment.now).max(world.since);
    let due = since.plus_ms(timeout);
    if due > moment.now {
        return plan.look_again(due);
    }
    let health = row.health_state.as_deref().unwrap_or_default();
    let why = format!("It was {health} for {} s, longer than its health check allows", timeout.div_euclid(1000));
    let mut next = row.clone();
    if transitions::remove(&mut next, moment.settings, moment.now) {
        next.meta.progress.message = Some(why.clone());
        plan.write(next);
        let audit = Audit::of(row.meta.account_id, "instance.delete", "instance", row.meta.id, &why);
        plan.steps.push(super::Step::Audit(audit));
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::InstanceHealthCheck;
    use remuda_schema::Id;

    use super::*;
    use crate::testing::{Language, world};

    #[test]
    fn votes_come_to_a_verdict() {
        let (yes, no, none) = (Some(true), Some(false), None);
        let check = |health: Option<&str>, votes: &[Option<bool>], expected: Option<&str>| {
            assert_eq!(verdict(health, votes.iter().copied()), expected, "{health:?} {votes:?}");
        };
        for health in [None, Some(INITIALIZING), Some(REINITIALIZING), Some(UNHEALTHY)] {
            check(health, &[no, yes, none], Some(HEALTHY));
            check(health, &[no, no, no], None);
            check(health, &[none, none], None);
            check(health, &[], None);
        }
        check(Some(HEALTHY), &[yes, no, no], None);
        check(Some(HEALTHY), &[no, no, none], None);
        check(Some(HEALTHY), &[no, no, no], Some(UNHEALTHY));
        check(Some(HEALTHY), &[no], Some(UNHEALTHY));
        check(Some(HEALTHY), &[], None);
    }

    fn with_check(w: Language, name: &str) -> Language {
        w.change_container(name, |row| {
            row.health_check = Some(InstanceHealthCheck { port: Some(80), ..InstanceHealthCheck::default() });
            row.health_state = Some(INITIALIZING.into());
            row.health_updated = Some(Time(1_000_000));
            row.start_count = Some(1);
        })
    }

    fn hosts(n: usize) -> Language {
        (0..n).fold(world(), |w, host| w.host(&format!("h{host}"))).running("x", "h0")
    }

    fn checked(n: usize) -> Language {
        with_check(hosts(n), "x").settle()
    }

    /// Hosts that check, by name.
    fn checkers(w: &Language) -> Vec<String> {
        let id = w.container_id("x");
        let of = |map: &Arc<Row<HealthcheckInstanceHostMap>>| {
            let host = map.host_id.and_then(|id| w.world.hosts.get(&id.number()));
            host.and_then(|host| host.hostname.clone()).unwrap_or_default()
        };
        let mut names: Vec<String> = w.world.checks_of(id).map(of).collect();
        names.sort();
        names
    }

    /// The host votes about the present run.
    fn voted(mut w: Language, host: &str, healthy: bool) -> Language {
        let (id, host) = (w.container_id("x"), w.host_id(host));
        let maps: Vec<_> = w.world.checks_of(id).cloned().collect();
        let map = maps.iter().find(|map| map.host_id == Some(Id::new(host))).expect("it checks");
        let mut next = (**map).clone();
        next.health_state = Some(if healthy { HEALTHY } else { UNHEALTHY }.into());
        next.run = w.world.containers[&id].start_count.unwrap_or(0);
        w.world.put(&next.into());
        w
    }

    fn health(w: &Language) -> &str {
        w.named("x").and_then(|row| row.health_state.as_deref()).unwrap_or("none")
    }

    #[test]
    fn others_check_and_up_to_three() {
        assert_eq!(checkers(&checked(1)), ["h0"], "nobody else is there");
        assert_eq!(checkers(&checked(2)), ["h1"]);
        assert_eq!(checkers(&checked(3)), ["h1", "h2"]);
        for n in [4, 9, 40] {
            let found = checkers(&checked(n));
            assert!(found.len() == 3 && !found.contains(&"h0".to_owned()), "{found:?}");
        }
        assert_eq!(checkers(&checked(4).settle()), ["h1", "h2", "h3"], "a second look appoints nobody");
    }

    #[test]
    fn who_joins_is_asked_and_the_own_host_let_go() {
        let w = checked(1).host("late").settle();
        assert_eq!(checkers(&w), ["late"]);
        let w = w.host("later").host_state("later", INACTIVE).settle();
        assert_eq!(checkers(&w), ["late"], "takes nothing new");
        let w = w.host_state("later", ACTIVE).settle();
        assert_eq!(checkers(&w), ["late", "later"]);
        let w = w.host_state("late", INACTIVE).settle();
        assert_eq!(checkers(&w), ["late", "later"], "goes on with what it has");
        let w = w.change_host("later", |row| row.network_problem = Some("none".into())).settle();
        assert_eq!(checkers(&w), ["late"], "cannot reach anybody");
    }

    #[test]
    fn a_lost_host_is_replaced_and_its_vote_no_longer_counts() {
        let w = checked(5);
        let [first, second, third] = &checkers(&w)[..] else { panic!("three check") };
        let (first, second, third) = (first.clone(), second.clone(), third.clone());
        let w = voted(w, &first, true).settle();
        assert_eq!(health(&w), HEALTHY, "one yes is enough");
        let w = voted(voted(w, &second, false), &third, false).settle();
        assert_eq!(health(&w), HEALTHY, "the last yes stands");
        let w = w.agent_state(&first, "reconnecting").settle();
        assert_eq!(health(&w), UNHEALTHY);
        let now = checkers(&w);
        assert!(now.len() == 3 && !now.contains(&first), "{now:?}");
    }

    #[test]
    fn votes_against_do_not_count_while_it_starts_up_and_not_about_an_earlier_start() {
        let w = voted(checked(2), "h1", false).settle();
        assert_eq!(health(&w), INITIALIZING);
        let w = voted(w, "h1", true).settle();
        assert_eq!(health(&w), HEALTHY);
        let again = |row: &mut Row<Container>| {
            row.start_count = Some(row.start_count.unwrap_or(0) + 1);
            started_again(row, Time(5));
        };
        let w = w.change_container("x", again).settle();
        assert_eq!(health(&w), REINITIALIZING, "the yes was about the start before");
        let w = voted(voted(w, "h1", true).settle(), "h1", false).settle();
        assert_eq!(health(&w), UNHEALTHY);
        let w = w.change_container("x", again).settle();
        assert_eq!(health(&w), UNHEALTHY, "until somebody says otherwise");
    }

    #[test]
    fn a_wait_for_health_ends_when_it_was_asked_to() {
        let w = checked(2).change_container("x", |row| {
            let check = row.health_check.as_mut().expect("has one");
            (check.initializing_timeout, check.reinitializing_timeout) = (Some(60_000), Some(10_000));
        });
        let w = w.after_ms(59_999).settle_but_hosts();
        assert_eq!(w.told(), ["x running"]);
        let gone = w.after_ms(1);
        let steps = gone.plan(crate::plan::Subject::Container(gone.container_id("x"))).steps;
        let why = steps.iter().find_map(|step| match step {
            crate::plan::Step::Audit(audit) => Some(audit.description.as_str()),
            _ => None,
        });
        assert_eq!(why, Some("It was initializing for 60 s, longer than its health check allows"));
        assert_eq!(gone.settle().told(), Vec::<String>::new());
        let well = voted(checked(2), "h1", true).after_ms(900_000).settle_but_hosts();
        assert_eq!((well.told(), health(&well)), (vec!["x running".to_owned()], HEALTHY));
    }

    #[test]
    fn where_only_the_engine_checks_it_has_the_say() {
        let w = hosts(2).change_container("x", |row| row.health_cmd = Some(vec!["CMD".into(), "true".into()]));
        let says = |w: Language, said: Option<&'static str>| {
            w.change_container("x", |row| engine_says(row, said, Time(9))).settle()
        };
        assert_eq!(first_verdict(w.named("x").expect("there")), Some(INITIALIZING));
        let w = says(w, Some("healthy"));
        assert_eq!((health(&w), checkers(&w)), (HEALTHY, vec![]));
        let w = says(says(w, Some("unhealthy")), None);
        assert_eq!(health(&w), UNHEALTHY, "an engine that says nothing changes nothing");
        let both = says(with_check(w, "x"), Some("healthy"));
        assert_eq!(health(&both), INITIALIZING, "Rancher's check counts where both are");
        let off = hosts(1).change_container("x", |row| row.health_cmd = Some(vec!["NONE".into()]));
        assert_eq!(first_verdict(off.named("x").expect("there")), None);
    }

    #[test]
    fn what_nobody_can_reach_has_no_verdict() {
        let w = with_check(hosts(3), "x").change_container("x", |row| {
            row.network_mode = Some("bridge".into());
            row.health_state = None;
        });
        let w = w.settle();
        assert_eq!((checkers(&w), health(&w)), (vec![], "none"));
        let removed = checked(3).remove_container("x").settle();
        assert_eq!(removed.world.checks.len(), 0, "rows end with their container");
    }
}
