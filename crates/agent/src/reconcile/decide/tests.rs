//! Tables of what is decided.

use remuda_wire::plan::VolumeCleanup;

use super::testing::{container, seen};
use super::*;

/// A host in a few words: `host().plan(..).seen(..).carried_out("a", 1).expect(&["start a"])`.
#[derive(Default)]
struct Host {
    held: Held,
    observed: Observed,
    memory: Memory,
    busy: BTreeSet<String>,
    hold_removals: bool,
    now_ms: u64,
}

fn host() -> Host {
    Host { now_ms: 100_000, ..Host::default() }
}

impl Host {
    fn plan(mut self, plan: ContainerPlan) -> Host {
        self.held.containers.insert(plan.uuid.clone(), plan);
        self
    }

    fn seen(mut self, container: Container) -> Host {
        self.observed.put(container);
        self
    }

    fn carried_out(mut self, uuid: &str, serial: i64) -> Host {
        self.memory.entry(uuid).serial = Some(serial);
        self
    }

    fn failed(mut self, uuid: &str, times: i64) -> Host {
        for _ in 0..times {
            self.memory.failed(uuid, 1, true, self.now_ms);
        }
        self
    }

    fn busy(mut self, uuid: &str) -> Host {
        self.busy.insert(uuid.into());
        self
    }

    fn removal(mut self, uuid: &str) -> Host {
        let removal = Removal { uuid: uuid.into(), docker_id: None, volumes: VolumeCleanup::default() };
        self.held.removals.insert(uuid.into(), removal);
        self
    }

    #[track_caller]
    fn expect(self, expected: &[&str]) -> Decision {
        let decision = decide(Situation {
            held: &self.held,
            observed: &self.observed,
            memory: &self.memory,
            busy: &self.busy,
            hold_removals: self.hold_removals,
            now_ms: self.now_ms,
        });
        let words: Vec<String> = decision.actions.iter().map(word).collect();
        assert_eq!(words, expected);
        decision
    }
}

fn word(action: &Action) -> String {
    let start = |verb: &str, start: &Start| {
        let existing = if start.existing.is_some() { "" } else { " new" };
        let asked = if start.asked { "" } else { " again" };
        format!("{verb} {}{existing}{asked}", start.plan.uuid)
    };
    match action {
        Action::Start(it) => start("start", it),
        Action::Restart(it) => start("restart", it),
        Action::Stop { uuid, timeout_seconds, .. } => format!("stop {uuid} {timeout_seconds}"),
        Action::Remove { removal, .. } => format!("remove {}", removal.uuid),
        Action::ConfirmRemoved { removal } => format!("confirm {}", removal.uuid),
        Action::RemoveVolume { removal } => format!("remove volume {}", removal.name),
    }
}

fn up(uuid: &str) -> Container {
    seen(uuid, Status::Running)
}

fn down(uuid: &str) -> Container {
    seen(uuid, Status::Exited)
}

fn with(change: impl Fn(&mut ContainerPlan)) -> ContainerPlan {
    let mut plan = container("a");
    change(&mut plan);
    plan
}

#[test]
fn a_container_is_brought_to_run() {
    let alone = || with(|plan| plan.supervise = false);
    let again = || with(|plan| plan.start_serial = 2);
    host().plan(container("a")).expect(&["start a new"]);
    host().plan(container("a")).seen(seen("a", Status::Created)).expect(&["start a"]);
    host().plan(container("a")).seen(up("a")).carried_out("a", 1).expect(&[]);
    host().plan(container("a")).busy("a").expect(&[]);
    host().plan(again()).seen(up("a")).carried_out("a", 1).expect(&["restart a"]);
    host().plan(again()).seen(down("a")).carried_out("a", 1).expect(&["start a"]);
    host().plan(container("a")).seen(down("a")).carried_out("a", 1).expect(&["start a again"]);
    host().plan(alone()).seen(down("a")).carried_out("a", 1).expect(&[]);
    host().plan(with(|plan| plan.start_once = true)).seen(down("a")).carried_out("a", 1).expect(&[]);
    for status in [Status::Paused, Status::Restarting] {
        host().plan(container("a")).seen(seen("a", status)).carried_out("a", 1).expect(&[]);
    }
    // Somebody deleted it: the server decides.
    host().plan(container("a")).carried_out("a", 1).expect(&[]);
    host().plan(again()).carried_out("a", 1).expect(&["start a new"]);
}

#[test]
fn stopped_and_untouched() {
    let stopped = || with(|plan| plan.desired = Desired::Stopped);
    host().plan(stopped()).seen(up("a")).expect(&["stop a 10"]);
    host().plan(stopped()).seen(seen("a", Status::Restarting)).expect(&["stop a 10"]);
    host().plan(stopped()).seen(down("a")).expect(&[]);
    host().plan(stopped()).expect(&[]);
    host().plan(with(|plan| plan.desired = Desired::Nothing)).expect(&[]);
    host().plan(with(|plan| plan.desired = Desired::Nothing)).seen(up("a")).expect(&[]);
    // Ours, but not in the plan: left alone.
    host().seen(up("z")).expect(&[]);
}

#[test]
fn native_containers_are_never_made() {
    let native = || {
        with(|plan| {
            plan.native = true;
            plan.supervise = false;
            plan.docker_id = Some("docker-n".into());
        })
    };
    let plain = |status| Container { labels: Default::default(), ..seen("n", status) };
    host().plan(native()).expect(&[]);
    host().plan(native()).seen(plain(Status::Running)).carried_out("a", 1).expect(&[]);
    host().plan(native()).seen(plain(Status::Exited)).carried_out("a", 0).expect(&["start a"]);
    host().plan(native()).seen(plain(Status::Exited)).carried_out("a", 1).expect(&[]);
}

#[test]
fn failures_are_tried_three_times_and_crashes_pause() {
    assert_eq!(host().plan(container("a")).failed("a", 1).expect(&[]).look_again_ms, Some(100_250));
    let mut later = host().plan(container("a")).failed("a", 1);
    later.now_ms += 250;
    later.expect(&["start a new"]);
    assert_eq!(host().plan(container("a")).failed("a", 3).expect(&[]).look_again_ms, None);
    host().plan(with(|plan| plan.start_serial = 2)).failed("a", 3).expect(&["start a new"]);

    let mut crashing = host().plan(container("a")).seen(down("a")).carried_out("a", 1);
    crashing.memory.entry("a").pause_until_ms = Some(104_000);
    assert_eq!(crashing.expect(&[]).look_again_ms, Some(104_000));
}

#[test]
fn what_must_run_first_runs_first() {
    let b = || ContainerPlan { after: vec!["a".into()], ..container("b") };
    let once = || with(|plan| plan.start_once = true);
    host().plan(container("a")).plan(b()).expect(&["start a new"]);
    host().plan(container("a")).plan(b()).busy("a").expect(&[]);
    host().plan(container("a")).plan(b()).seen(up("a")).carried_out("a", 1).expect(&["start b new"]);
    // Not waited for: stopped on purpose, ran to its end, gave up, unknown, gone for good.
    host().plan(with(|plan| plan.desired = Desired::Stopped)).plan(b()).expect(&["start b new"]);
    host().plan(once()).plan(b()).seen(down("a")).carried_out("a", 1).expect(&["start b new"]);
    host().plan(container("a")).plan(b()).failed("a", 3).expect(&["start b new"]);
    host().plan(b()).expect(&["start b new"]);
    host().plan(container("a")).plan(b()).carried_out("a", 1).expect(&["start b new"]);
}

#[test]
fn a_container_follows_the_network_it_lives_in() {
    let mut b = container("b");
    b.spec.network = NetworkMode::Container { uuid: "a".into() };
    let later = Container { started_at: Some(5_000), ..up("a") };
    let both = || host().plan(container("a")).plan(b.clone()).carried_out("a", 1).carried_out("b", 1);
    both().seen(up("a")).seen(up("b")).expect(&[]);
    both().seen(later).seen(up("b")).expect(&["restart b again"]);
    let decision =
        host().plan(container("a")).plan(b.clone()).carried_out("a", 1).seen(up("a")).expect(&["start b new"]);
    let Action::Start(start) = &decision.actions[0] else { panic!("a start") };
    assert_eq!(start.docker_ids, [("a".to_owned(), "docker-a".to_owned())].into());
}

#[test]
fn removals_are_confirmed_and_held_back_in_doubt() {
    host().removal("a").seen(up("a")).expect(&["remove a"]);
    host().removal("a").expect(&["confirm a"]);
    host().removal("a").busy("a").expect(&[]);
    Host { hold_removals: true, ..host().removal("a").seen(up("a")) }.expect(&[]);
    let mut volumes = host();
    let removal = VolumeRemoval { uuid: "v".into(), name: "data".into(), driver: None };
    volumes.held.volume_removals.insert("v".into(), removal);
    volumes.expect(&["remove volume data"]);
}
