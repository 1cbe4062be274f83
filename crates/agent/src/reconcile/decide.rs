//! What to do now: a pure function of plan, engine and memory.

use std::collections::{BTreeMap, BTreeSet};

use remuda_wire::observe::Status;
use remuda_wire::plan::{ContainerPlan, Desired, NetworkMode, Removal, VolumeRemoval};

use crate::engine::inspect::Container;
use crate::reconcile::held::Held;
use crate::reconcile::memory::{Memory, REMOVING, STOPPING};
use crate::reconcile::observed::Observed;

/// One thing to do. Actions of one container never overlap.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make it run: create it when it is not there, delete it first when it can only be deleted.
    Start(Box<Start>),
    /// Stop it when it runs, then as `Start`.
    Restart(Box<Start>),
    Stop {
        uuid: String,
        docker_id: String,
        timeout_seconds: i64,
    },
    Remove {
        removal: Removal,
        docker_id: String,
    },
    /// Nothing of it is on the engine: only the volumes are left to do.
    ConfirmRemoved {
        removal: Removal,
    },
    RemoveVolume {
        removal: VolumeRemoval,
    },
}

/// What a start needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    pub plan: ContainerPlan,
    /// The container as it is; `None`: to be created.
    pub existing: Option<Container>,
    /// Somebody asked for it (a new serial); else the agent does it by itself.
    pub asked: bool,
    /// Docker ids of the containers the spec names.
    pub docker_ids: BTreeMap<String, String>,
}

impl Action {
    /// What it is about; one action per key at a time.
    pub fn key(&self) -> String {
        match self {
            Action::Start(start) | Action::Restart(start) => start.plan.uuid.clone(),
            Action::Stop { uuid, .. } => uuid.clone(),
            Action::Remove { removal, .. } | Action::ConfirmRemoved { removal } => removal.uuid.clone(),
            Action::RemoveVolume { removal } => volume_key(&removal.uuid),
        }
    }
}

/// Volumes and containers both have uuids; a volume's key cannot be a container's.
pub const VOLUME_KEY: &str = "volume ";

pub fn volume_key(uuid: &str) -> String {
    format!("{VOLUME_KEY}{uuid}")
}

/// Actions, and when to look again without being woken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub actions: Vec<Action>,
    pub look_again_ms: Option<u64>,
}

/// What there is to compare.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub held: &'a Held,
    pub observed: &'a Observed,
    pub memory: &'a Memory,
    /// Keys with an action under way.
    pub busy: &'a BTreeSet<String>,
    /// Another store, or one that went back in time: nothing is deleted until it has heard what is here.
    pub hold_removals: bool,
    pub now_ms: u64,
}

impl Situation<'_> {
    /// The thing failed before and is tried again only then.
    fn waits(&self, key: &str, serial: i64) -> Option<u64> {
        let failure = self.memory.get(key)?.failure.as_ref()?;
        (failure.serial == serial && failure.next_try_ms > self.now_ms).then_some(failure.next_try_ms)
    }
}

/// Compares.
pub fn decide(situation: Situation<'_>) -> Decision {
    let mut decision = Decision::default();
    if !situation.hold_removals {
        removals(situation, &mut decision);
    }
    for plan in situation.held.containers.values() {
        if situation.busy.contains(&plan.uuid) {
            continue;
        }
        match wish(situation, plan) {
            Wish::Nothing => {}
            Wish::Do(action) => decision.actions.push(action),
            Wish::Later(at) => decision.wait(at),
        }
    }
    decision
}

impl Decision {
    fn wait(&mut self, at: u64) {
        self.look_again_ms = Some(self.look_again_ms.map_or(at, |other| other.min(at)));
    }
}

enum Wish {
    Nothing,
    Do(Action),
    Later(u64),
}

fn removals(situation: Situation<'_>, decision: &mut Decision) {
    let waits = |key: &str| situation.waits(key, REMOVING);
    for removal in situation.held.removals.values().filter(|removal| !situation.busy.contains(&removal.uuid)) {
        match (waits(&removal.uuid), situation.observed.find(&removal.uuid, removal.docker_id.as_deref())) {
            (Some(at), _) => decision.wait(at),
            (None, None) => decision.actions.push(Action::ConfirmRemoved { removal: removal.clone() }),
            (None, Some(found)) => {
                decision.actions.push(Action::Remove { removal: removal.clone(), docker_id: found.docker_id.clone() })
            }
        }
    }
    for removal in situation.held.volume_removals.values() {
        let key = volume_key(&removal.uuid);
        match waits(&key) {
            _ if situation.busy.contains(&key) => {}
            Some(at) => decision.wait(at),
            None => decision.actions.push(Action::RemoveVolume { removal: removal.clone() }),
        }
    }
}

fn wish(situation: Situation<'_>, plan: &ContainerPlan) -> Wish {
    let found = situation.observed.of(plan);
    match plan.desired {
        Desired::Nothing => Wish::Nothing,
        Desired::Stopped => match found.filter(|container| container.status.is_up()) {
            Some(container) => match situation.waits(&plan.uuid, STOPPING) {
                Some(at) => Wish::Later(at),
                None => Wish::Do(Action::Stop {
                    uuid: plan.uuid.clone(),
                    docker_id: container.docker_id.clone(),
                    timeout_seconds: plan.stop_timeout_seconds,
                }),
            },
            None => Wish::Nothing,
        },
        Desired::Running => wish_running(situation, plan, found),
    }
}

fn wish_running(situation: Situation<'_>, plan: &ContainerPlan, found: Option<&Container>) -> Wish {
    let remembered = situation.memory.get(&plan.uuid);
    let behind = remembered.and_then(|remembered| remembered.serial).is_none_or(|serial| serial < plan.start_serial);
    let start = |asked: bool| {
        let start =
            Start { plan: plan.clone(), existing: found.cloned(), asked, docker_ids: docker_ids(situation, plan) };
        Box::new(start)
    };
    let asked = |action: fn(Box<Start>) -> Action| {
        let failure = remembered.and_then(|remembered| remembered.failure.as_ref());
        let failure = failure.filter(|failure| failure.serial == plan.start_serial);
        match failure {
            Some(failure) if failure.is_last() => Wish::Nothing,
            Some(failure) if failure.next_try_ms > situation.now_ms => Wish::Later(failure.next_try_ms),
            _ if dependency_missing(situation, plan) => Wish::Nothing,
            _ => Wish::Do(action(start(true))),
        }
    };
    match found {
        None if plan.native || !behind => Wish::Nothing,
        None => asked(Action::Start),
        Some(container) if container.status.is_up() && behind => asked(Action::Restart),
        Some(container) if container.status.is_up() && network_is_stale(situation, plan, container) => {
            Wish::Do(Action::Restart(start(false)))
        }
        Some(container) if container.status.is_up() => Wish::Nothing,
        Some(_) if behind => asked(Action::Start),
        Some(_) if !plan.supervise || plan.start_once => Wish::Nothing,
        Some(_) => match remembered.and_then(|remembered| remembered.pause_until_ms) {
            Some(until) if until > situation.now_ms => Wish::Later(until),
            _ if dependency_missing(situation, plan) => Wish::Nothing,
            _ => Wish::Do(Action::Start(start(false))),
        },
    }
}

/// Something of this host must run first and does not yet. What will not run by itself is not waited for: then the
/// engine says what is wrong.
fn dependency_missing(situation: Situation<'_>, plan: &ContainerPlan) -> bool {
    plan.after.iter().any(|uuid| {
        let Some(needed) = situation.held.containers.get(uuid) else { return false };
        let found = situation.observed.of(needed);
        if situation.busy.contains(uuid) {
            return true;
        }
        if found.is_some_and(|container| container.status.is_up()) || needed.desired != Desired::Running {
            return false;
        }
        let remembered = situation.memory.get(uuid);
        let carried_out =
            remembered.and_then(|remembered| remembered.serial).is_some_and(|serial| serial >= needed.start_serial);
        let gave_up = remembered
            .and_then(|remembered| remembered.failure.as_ref())
            .is_some_and(|failure| failure.serial == needed.start_serial && failure.is_last() && !carried_out);
        // It will run: it is about to be started, or supervision brings it back.
        !gave_up && (!carried_out || (needed.supervise && !needed.start_once && found.is_some()))
    })
}

/// It lives in the network of a container that was started after it: that network is not there any more.
fn network_is_stale(situation: Situation<'_>, plan: &ContainerPlan, container: &Container) -> bool {
    let NetworkMode::Container { uuid } = &plan.spec.network else { return false };
    let needed = situation.held.containers.get(uuid);
    let Some(target) = needed.and_then(|needed| situation.observed.of(needed)) else { return false };
    plan.supervise
        && !situation.busy.contains(uuid)
        && target.status == Status::Running
        && container.status == Status::Running
        && matches!((container.started_at, target.started_at), (Some(ours), Some(theirs)) if ours < theirs)
}

fn docker_ids(situation: Situation<'_>, plan: &ContainerPlan) -> BTreeMap<String, String> {
    let network = match &plan.spec.network {
        NetworkMode::Container { uuid } => Some(uuid),
        _ => None,
    };
    let links = plan.spec.links.iter().map(|link| &link.target_uuid);
    let named = network.into_iter().chain(&plan.spec.volumes_from).chain(links);
    named
        .filter_map(|uuid| {
            let docker_id = situation.held.containers.get(uuid).and_then(|plan| plan.docker_id.as_deref());
            Some((uuid.clone(), situation.observed.find(uuid, docker_id)?.docker_id.clone()))
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Short ways to say a plan and an engine.

    use remuda_wire::plan::ContainerSpec;

    use super::*;
    use crate::engine::inspect::UUID_LABEL;

    /// A supervised service container that shall run.
    pub fn container(uuid: &str) -> ContainerPlan {
        ContainerPlan {
            uuid: uuid.into(),
            id: format!("1i{uuid}"),
            name: uuid.into(),
            docker_id: None,
            desired: Desired::Running,
            start_serial: 1,
            stop_timeout_seconds: 10,
            supervise: true,
            start_once: false,
            after: Vec::new(),
            native: false,
            fence_after_ms: None,
            spec: ContainerSpec {
                docker_name: format!("r-{uuid}"),
                image: "sim:web".into(),
                ..ContainerSpec::default()
            },
        }
    }

    /// It as the engine has it.
    pub fn seen(uuid: &str, status: Status) -> Container {
        Container {
            docker_id: format!("docker-{uuid}"),
            name: format!("r-{uuid}"),
            labels: [(UUID_LABEL.to_owned(), uuid.to_owned())].into(),
            status,
            started_at: (status != Status::Created).then_some(1_000),
            finished_at: (!status.is_up() && status != Status::Created).then_some(2_000),
            ..Container::default()
        }
    }
}

#[cfg(test)]
mod tests;
