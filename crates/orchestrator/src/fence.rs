//! The server's part of fencing (DESIGN §5; the host's is `agent/src/fence.rs`): what must never run twice is believed to
//! have stopped on a silent host only when that host must have stopped it.
//!
//! The host counts from when it sent the last heartbeat that was acknowledged, which is before it was heard here. So the
//! server waits from when it heard it, for the same time, the time a stop takes, and a margin; and until the host counts as
//! lost, because from then on its heartbeats are not acknowledged.

use remuda_model::{Container, Host};
use remuda_schema::{Row, Time};

use crate::transitions::STOP_TIMEOUT_SECONDS;
use crate::world::World;

/// For what is under way: a look of the watchdog, a kill, an acknowledgement.
const MARGIN_MS: i64 = 5_000;

/// After what silence, in milliseconds, the container does not run; `None`: it is not fenced.
pub fn of(world: &World, row: &Row<Container>) -> Option<i64> {
    let service = world.services.get(&row.service_id?.number())?;
    service.fence_after.map(|seconds| seconds.saturating_mul(1000))
}

/// When a container on a silent host must have stopped; `None`: not as things are, the host does not count as lost.
pub fn stopped_at(world: &World, row: &Row<Container>, host: &Row<Host>, after_ms: i64) -> Option<Time> {
    let lost = host.lost_since?;
    // Who took over without the record knows only that it has heard nothing itself.
    let silent = world.agent_of(host).and_then(|agent| agent.silent_since).unwrap_or(lost).max(Time(0));
    let grace_ms = row.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT_SECONDS).saturating_mul(1000);
    let over = silent.plus_ms(after_ms).plus_ms(grace_ms);
    Some(over.max(lost).plus_ms(MARGIN_MS))
}

#[cfg(test)]
mod tests {
    use crate::testing::world;

    #[test]
    fn another_is_made_only_when_the_first_must_have_stopped() {
        let w = world().host("a").host("b").service("web", 1).change_service("web", |row| row.fence_after = Some(20));
        let w = w.settle();
        assert_eq!(w.host_of("s_web_1"), "a");
        let part = crate::hostplan::part(&w.world, w.host_id("a"), w.named("s_web_1").expect("one"));
        assert!(matches!(part, crate::hostplan::Part::Keep(plan) if plan.fence_after_ms == Some(20_000)));
        // 20 s, 10 s for the stop, and the margin.
        let w = w.silent("a").after_ms(12_000).settle().after_ms(22_999).settle();
        assert_eq!(w.told(), ["s_web_1 stopping"]);
        let told = w.named("s_web_1").and_then(|row| row.meta.progress.message.clone());
        assert_eq!(told.as_deref(), Some("Waiting until host a, which is silent, must have stopped it"));
        let w = w.after_ms(1).settle();
        assert_eq!((w.told(), w.host_of("s_web_1").as_str()), (vec!["s_web_1 running".to_owned()], "b"));
    }

    #[test]
    fn without_a_lost_host_nothing_is_made_however_long_it_takes() {
        // Two of two are silent: the brake, or nobody to go to.
        let w = world()
            .host("a")
            .host("b")
            .host("c")
            .service("web", 1)
            .change_service("web", |row| row.fence_after = Some(5));
        let w = w.settle().silent("a").silent("b").after_ms(3_600_000).settle();
        let w = w.remove_container("s_web_1").settle();
        assert_eq!(w.told(), ["s_web_1 stopping"], "a removal does not make it twice either");
        let w = w.heard("a", false).settle();
        assert_eq!(w.told(), ["s_web_1 running"]);
    }
}
