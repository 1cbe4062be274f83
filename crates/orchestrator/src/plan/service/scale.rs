//! The search for a scale (`services.md` §6.3): up by the increment while all units find a host, down by one when one
//! does not. What was found holds until policy or hosts are others.

use std::hash::{DefaultHasher, Hash, Hasher};

use remuda_model::{ScalePolicy, Service};
use remuda_schema::Row;

use super::units::units;
use crate::scheduler;
use crate::world::{World, is_unplaced};

/// How many units the search has come to.
pub fn current(row: &Service, policy: &ScalePolicy) -> i64 {
    row.current_scale.unwrap_or(policy.least()).clamp(policy.least(), policy.most())
}

/// Goes on with the search after a pass. Whether the scale is the one that was looked for.
pub fn search(world: &World, row: &Row<Service>, next: &mut Row<Service>, settled: bool) -> bool {
    let Some(policy) = row.scale_policy.as_ref().filter(|_| !row.is_global()) else { return true };
    let among = Some(circumstances(world, policy));
    let now = current(row, policy);
    next.current_scale = Some(now);
    let units = units(world, row.meta.id);
    if units.iter().flat_map(|unit| unit.members.values()).any(|container| is_unplaced(container)) {
        // What is too much already is on its way out.
        if now > policy.least() && i64::try_from(units.len()).is_ok_and(|n_units| n_units <= now) {
            next.current_scale = Some((now - policy.step()).max(policy.least()));
            next.scale_found = among;
        }
        return false;
    }
    if settled && next.scale_found != among {
        if now < policy.most() {
            next.current_scale = Some((now + policy.step()).min(policy.most()));
            return false;
        }
        next.scale_found = among;
    }
    true
}

/// What the end of a search depends on: the policy, and the hosts that take containers with their labels.
fn circumstances(world: &World, policy: &ScalePolicy) -> String {
    let mut hasher = DefaultHasher::new();
    (policy.least(), policy.most(), policy.step()).hash(&mut hasher);
    for host in world.hosts.values().filter(|host| scheduler::is_candidate(world, host)) {
        (host.meta.id, &host.labels).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use remuda_model::states::*;

    use super::*;
    use crate::testing::{Language, world};

    fn with_policy(w: Language, min: i64, max: Option<i64>, increment: i64) -> Language {
        w.change_service("web", |row| {
            row.scale_policy = Some(ScalePolicy { min: Some(min), max, increment: Some(increment) });
        })
    }

    /// Units there are, and what the service says of it.
    fn told(w: &Language) -> (usize, Option<i64>, &str, Option<&str>) {
        let row = w.service_row("web");
        let n_units = units(&w.world, row.meta.id).len();
        (n_units, row.current_scale, &row.meta.state, row.health_state.as_deref())
    }

    #[test]
    fn services_6_3_up_to_the_most_or_what_the_hosts_take() {
        let w = world().host("a").service("web", 7);
        let w = with_policy(w, 2, Some(5), 2).settle();
        assert_eq!(told(&w), (5, Some(5), ACTIVE, Some(HEALTHY)));
        // A port can be had once on each host.
        let w = world().host("a").host("b").service("web", 7).publish("web", "web", "80:80");
        let w = with_policy(w, 1, None, 1).settle();
        assert_eq!(told(&w), (2, Some(2), ACTIVE, Some(HEALTHY)));
        let w = w.host("c").settle();
        assert_eq!(told(&w), (3, Some(3), ACTIVE, Some(HEALTHY)), "a host that joins");
        let w = w.host_state("c", REMOVING).settle();
        assert_eq!(told(&w), (2, Some(2), ACTIVE, Some(HEALTHY)), "a host that goes");
    }

    #[test]
    fn services_6_3_not_below_the_least_and_again_with_another_policy() {
        let w = world().host("a").service("web", 1).publish("web", "web", "80:80");
        let w = with_policy(w, 2, None, 1).settle();
        assert_eq!(told(&w), (2, Some(2), ACTIVATING, Some(DEGRADED)));
        let w = with_policy(w, 1, None, 1).settle();
        assert_eq!(told(&w), (1, Some(1), ACTIVE, Some(HEALTHY)));
        let w = with_policy(world().host("a").service("web", 1), 1, Some(2), 1).settle();
        let w = with_policy(w, 1, Some(3), 1).settle();
        assert_eq!(told(&w), (3, Some(3), ACTIVE, Some(HEALTHY)));
        let w = with_policy(w, 1, Some(1), 1).settle();
        assert_eq!(told(&w), (1, Some(1), ACTIVE, Some(HEALTHY)));
        let w = with_policy(world().host("a").service("web", 1), 1, None, 30).settle();
        assert_eq!(told(&w).0, 100, "a search has to end");
    }
}
