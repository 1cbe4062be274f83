//! Withdraw before stop (DESIGN §5): a member of a service that is to be stopped by the platform is first shown as
//! `stopping` in the directory, and its host is told to stop it only when those who route to it work with that.
//!
//! Who routes: the names of every host that is connected, and the balancers of the hosts that have some. Each says which
//! revision of the directory it works with ([`Consumer`]); the container's row says until when that is waited for
//! (`withdraw_by`). What a person stops is stopped at once, and so is what no host runs any more.
//!
//! Rejected: a state of its own for such containers. Clients know `stopping`, and nothing that they could do differs.

use remuda_model::states::{ACTIVE, STOPPING};
use remuda_model::{Container, Host};
use remuda_schema::Row;
use remuda_wire::session::Consumer;

use crate::world::World;

/// Keeps in mind from which revision on hosts know that the container is withdrawn.
pub fn note(world: &mut World, row: &Row<Container>, revision: i64) {
    if row.meta.state == STOPPING && row.withdraw_by.is_some() {
        world.withdrawing.entry(row.meta.id).or_insert(revision);
    } else {
        world.withdrawing.remove(&row.meta.id);
    }
}

/// Hosts that may still route to the container.
pub fn unaware(world: &World, container: i64) -> impl Iterator<Item = &Row<Host>> {
    // One that the feed has not brought yet is known to nobody.
    let revision = world.withdrawing.get(&container).copied().unwrap_or(i64::MAX);
    behind(world, revision)
}

/// Hosts that work with an older directory.
fn behind(world: &World, revision: i64) -> impl Iterator<Item = &Row<Host>> {
    let hosts = world.hosts.values().map(AsRef::as_ref).filter(|host| host.meta.is_live() && is_heard(world, host));
    hosts.filter(move |host| consumers(world, host).any(|consumer| applied(world, host, consumer) < revision))
}

fn is_heard(world: &World, host: &Row<Host>) -> bool {
    world.agent_of(host).is_some_and(|agent| agent.meta.state == ACTIVE)
}

/// Who on the host routes to members of services.
fn consumers<'a>(world: &'a World, host: &Row<Host>) -> impl Iterator<Item = Consumer> + use<'a> {
    let id = host.meta.id;
    let balances = world.balancers.iter().any(|service| {
        let mut rows = world.containers_of(*service);
        rows.any(|row| row.meta.removed.is_none() && row.host_id.is_some_and(|host| host.number() == id))
    });
    [Consumer::Dns].into_iter().chain(balances.then_some(Consumer::Balancer))
}

fn applied(world: &World, host: &Row<Host>, consumer: Consumer) -> i64 {
    let told_here = world.applied.get(&(host.meta.id, consumer)).copied();
    let told_elsewhere = world.agent_of(host).and_then(|agent| agent.applied);
    told_here.max(told_elsewhere).unwrap_or(-1)
}

/// Revision that everybody on the host works with.
pub fn of_host(world: &World, host: i64) -> Option<i64> {
    let host = world.hosts.get(&host)?;
    consumers(world, host).map(|consumer| world.applied.get(&(host.meta.id, consumer)).copied()).min().flatten()
}

/// Containers nobody routes to any more, now that somebody works with that revision.
pub fn ready(world: &World, revision: i64) -> Vec<i64> {
    let known = world.withdrawing.iter().filter(|(_, from)| **from <= revision);
    let Some(newest) = known.clone().map(|(_, from)| *from).max() else { return Vec::new() };
    // The newest first: when that is known everywhere, so is all before it.
    if behind(world, newest).next().is_none() {
        return known.map(|(id, _)| *id).collect();
    }
    let oldest = known.clone().map(|(_, from)| *from).min().unwrap_or(newest);
    if oldest == newest || behind(world, oldest).next().is_some() {
        return Vec::new();
    }
    known.filter(|(_, from)| behind(world, **from).next().is_none()).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use remuda_model::states::*;

    use super::*;
    use crate::hostplan::{self, Part};
    use crate::plan::Subject;
    use crate::record::Record;
    use crate::testing::{Language, world};

    /// `s_web_2` is to go, since revision 20.
    fn withdrawn() -> Language {
        let mut w = world().host("a").host("b").service("web", 2).settle();
        w = w.change_container("s_web_2", |row| row.external_id = Some("d".into()));
        w = w.change_service("web", |row| {
            row.scale = Some(1);
            row.meta.enter(UPDATING_ACTIVE);
        });
        w = w.settle_but_hosts();
        let row = w.named("s_web_2").expect("goes").clone();
        note(&mut w.world, &row, 20);
        w
    }

    fn is_told_to_stop(w: &Language) -> bool {
        let row = w.named("s_web_2").expect("is there");
        let host = row.host_id.expect("one").number();
        match hostplan::part(&w.world, host, row) {
            Part::Keep(plan) => plan.desired == remuda_wire::plan::Desired::Stopped,
            other => panic!("{other:?}"),
        }
    }

    /// What the plan of the container does now.
    fn planned(w: Language) -> Language {
        let id = w.named("s_web_2").expect("is there").meta.id;
        let plan = w.plan(Subject::Container(id));
        let mut w = w;
        for step in plan.steps {
            if let crate::plan::Step::Write(record @ Record::Container(_)) = step {
                w.world.put(&record);
            }
        }
        w
    }

    fn apply(mut w: Language, host: &str, consumer: Consumer, revision: i64) -> Language {
        let id = w.host_id(host);
        w.world.applied.insert((id, consumer), revision);
        w
    }

    #[test]
    fn a_member_is_stopped_when_every_host_that_is_connected_knows() {
        let w = withdrawn();
        assert_eq!(w.named("s_web_2").map(|row| row.meta.state.as_str()), Some(STOPPING));
        assert!(!is_told_to_stop(&planned(w)), "nobody knows");
        let w = apply(apply(withdrawn(), "a", Consumer::Dns, 25), "b", Consumer::Dns, 19);
        assert!(ready(&w.world, 25).is_empty());
        let w = planned(w);
        assert!(!is_told_to_stop(&w), "b does not");
        let w = apply(w, "b", Consumer::Dns, 20);
        assert_eq!(ready(&w.world, 20), [w.named("s_web_2").expect("goes").meta.id]);
        let w = planned(w);
        assert!(is_told_to_stop(&w));
        assert_eq!(w.named("s_web_2").and_then(|row| row.meta.progress.message.clone()), None);
    }

    #[test]
    fn who_is_not_connected_is_not_waited_for() {
        let w = apply(withdrawn(), "a", Consumer::Dns, 20).agent_state("b", RECONNECTING);
        let on_a = w.named("s_web_2").and_then(|row| row.host_id).map(|id| id.number()) == Some(w.host_id("a"));
        // Its own host being silent, nobody can be told to stop it; else the silent one does not count.
        let w = planned(w);
        assert!(if on_a { is_told_to_stop(&w) } else { w.named("s_web_2").is_some() });
        assert_eq!(unaware(&w.world, 0).count(), 1, "only a counts");
    }

    #[test]
    fn a_deadline_ends_the_wait_and_says_who_did_not_answer() {
        let w = apply(withdrawn(), "a", Consumer::Dns, 20).after_ms(9_999);
        let w = planned(w);
        assert!(!is_told_to_stop(&w));
        let w = planned(w.after_ms(1));
        assert!(is_told_to_stop(&w));
        let message = w.named("s_web_2").and_then(|row| row.meta.progress.message.clone());
        assert_eq!(
            message.as_deref(),
            Some("Stopped though 1 host(s) have not confirmed in 10 s that they no longer route to it: b")
        );
    }

    #[test]
    fn a_host_with_a_balancer_has_to_say_so_for_it_too() {
        let w =
            world().host("a").service("lb", 1).change_service("lb", |row| row.meta.kind = "loadBalancerService".into());
        let w = w.service("web", 1).settle();
        let w = apply(w, "a", Consumer::Dns, 30);
        assert_eq!(behind(&w.world, 30).count(), 1);
        let w = apply(w, "a", Consumer::Balancer, 30);
        assert_eq!(behind(&w.world, 30).count(), 0);
        assert_eq!(of_host(&w.world, w.host_id("a")), Some(30));
    }
}
