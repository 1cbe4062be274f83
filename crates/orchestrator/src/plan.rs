//! Plans: what to write next for one resource. `plan` is pure: a World, a key, a time and a seed give steps. The
//! loop ([`crate::worlds`]) applies all steps of a plan in one store transaction, or none of them.

pub mod checkers;
pub mod container;
pub mod health;
pub mod host;
pub mod lifecycle;
pub mod project;
pub mod selection;
pub mod service;
pub mod stack;
pub mod volume;

use remuda_model::Container;
use remuda_runtime::Random;
use remuda_schema::{Row, Time};
use remuda_store::{Claim, Holder};

use crate::record::Record;
use crate::settings::Settings;
use crate::world::World;

/// What a plan is about: the unit of one-worker-at-a-time. The order is the order of work when several are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Project,
    Host(i64),
    Stack(i64),
    Service(i64),
    /// What the selectors of that service take in.
    Selection(i64),
    Container(i64),
    Volume(i64),
}

/// One write. Rows are written only if they are still at the revision the plan read.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Replaces a row.
    Write(Record),
    /// A new row.
    Insert(Record),
    /// A new container with everything that belongs to it.
    ContainerCreate(Box<NewContainer>),
    /// Replaces a container row, with an address on the managed network (`requested` if it is free).
    ContainerAddress { row: Box<Row<Container>>, requested: Option<String> },
    /// The agent of a host that was removed, with its account, key and registration.
    AgentRemove(i64),
    /// Something that must be unique.
    Claim(Claim),
    /// The end of a claim.
    Release(Claim),
    /// The end of every claim of a row.
    ReleaseAll(Holder),
    /// What a stack asks of one of its services.
    StackWork(StackWork),
    /// A line in the audit log about what the platform did by itself.
    Audit(Audit),
}

/// What is claimed, and how each claim is spelled: stated here once.
pub mod claims {
    use remuda_store::{Claim, Holder};

    use crate::scheduler::PortNeed;

    /// Containers hold ports, addresses and service numbers under this name.
    pub fn container(id: i64) -> Holder {
        Holder::new("instance", id)
    }

    /// A host holds its own address.
    pub fn host(id: i64) -> Holder {
        Holder::new("host", id)
    }

    pub fn host_port(host: i64, need: &PortNeed, container_id: i64) -> Claim {
        let key = format!("{}/{}/{}", need.protocol, need.public_port, need.bind_address);
        Claim::new("hostPort", host, key, container(container_id))
    }

    pub fn address(project: i64, address: &str, container_id: i64) -> Claim {
        Claim::new("address", project, address, container(container_id))
    }

    /// The number of a container among those of its launch config.
    pub fn service_index(service: i64, sidekick: Option<&str>, index: i64, container_id: i64) -> Claim {
        Claim::new("serviceIndex", service, number(sidekick, index), container(container_id))
    }

    /// A number of a launch config among those of the service.
    pub fn number(sidekick: Option<&str>, index: i64) -> String {
        sidekick.map_or_else(|| index.to_string(), |name| format!("{name}/{index}"))
    }

    /// The same address as [`address`], kept by the service for the next container of that number.
    pub fn retained_address(project: i64, address: &str, service: i64) -> Claim {
        Claim::new("address", project, address, Holder::new("service", service))
    }

    pub fn service_port(project: i64, port: i64, service: i64) -> Claim {
        Claim::new("servicePort", project, port.to_string(), Holder::new("service", service))
    }
}

/// A container to make, before it has a number.
#[derive(Clone, Debug, PartialEq)]
pub struct NewContainer {
    /// Row in its first state; number, uuid and address are filled in at insertion.
    pub row: Row<Container>,
    /// Links by alias, target row number.
    pub links: Vec<(String, Option<i64>)>,
    /// Address to take if it is free.
    pub requested_address: Option<String>,
}

/// Something a stack has done to one of its services, as a request would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackWork {
    pub stack: i64,
    pub service: i64,
    pub act: ServiceAct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAct {
    /// The change that the stack's upgrade has for it.
    Change,
    Finish,
    RollBack,
}

/// A line of the audit log about what the platform did by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Project that may read it.
    pub account_id: Option<i64>,
    pub event_type: String,
    pub resource_type: String,
    pub resource_id: i64,
    pub description: String,
}

impl Audit {
    /// Longest description, characters.
    pub const MAX_LENGTH: usize = 1_000;

    /// A line about a resource, cut to the longest that is kept.
    pub fn of(account_id: Option<i64>, event_type: &str, resource_type: &str, resource_id: i64, text: &str) -> Audit {
        Audit {
            account_id,
            event_type: event_type.to_owned(),
            resource_type: resource_type.to_owned(),
            resource_id,
            description: text.chars().take(Audit::MAX_LENGTH).collect(),
        }
    }
}

/// What to do for one key, and when to look again though nothing changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub again: Option<Time>,
}

impl Plan {
    pub fn write(&mut self, record: impl Into<Record>) {
        self.steps.push(Step::Write(record.into()));
    }

    pub fn insert(&mut self, record: impl Into<Record>) {
        self.steps.push(Step::Insert(record.into()));
    }

    /// Looks again by that time at the latest.
    pub fn look_again(&mut self, at: Time) {
        self.again = Some(self.again.map_or(at, |already| already.min(at)));
    }

    /// Rows the steps write.
    pub fn writes(&self) -> impl Iterator<Item = (&'static str, i64)> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::Write(record) => Some(record.key()),
            Step::ContainerAddress { row, .. } => Some(("instance", row.meta.id)),
            _ => None,
        })
    }
}

/// What every plan may look at besides the World.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub now: Time,
    pub settings: &'a Settings,
    pub random: &'a Random,
}

/// A plan that writes nothing finds the same when it looks again at once, for ever: it waits at least that long.
const IDLE_MS: i64 = 1_000;

/// The plan of one key.
pub fn plan(world: &World, subject: Subject, moment: Moment<'_>) -> Plan {
    let mut plan = plan_of(world, subject, moment);
    if plan.steps.is_empty() {
        let earliest = moment.now.plus_ms(IDLE_MS);
        plan.again = plan.again.map(|at| at.max(earliest));
    }
    plan
}

fn plan_of(world: &World, subject: Subject, moment: Moment<'_>) -> Plan {
    match subject {
        Subject::Project => project::plan(world, moment),
        Subject::Host(id) => host::plan(world, id, moment),
        Subject::Stack(id) => stack::plan(world, id, moment),
        Subject::Service(id) => service::plan(world, id, moment),
        Subject::Selection(id) => selection::plan(world, id, moment),
        Subject::Container(id) => container::plan(world, id, moment),
        Subject::Volume(id) => volume::plan(world, id, moment),
    }
}

/// Marks a row removed: it leaves the lists, and may be purged after the delay.
pub fn removed(meta: &mut remuda_schema::Meta, moment: Moment<'_>) {
    meta.enter(remuda_model::states::REMOVED);
    meta.removed = Some(moment.now);
    meta.remove_time = Some(moment.now.plus_ms(moment.settings.remove_delay_ms()));
}

/// Ends a row that has no life of its own: what it belongs to is gone.
pub fn ended(record: impl Into<Record>, moment: Moment<'_>) -> Record {
    let mut record = record.into();
    let state = record.end_state();
    purged(record.meta_mut(), moment);
    record.meta_mut().state = state.to_owned();
    record
}

/// Marks a row purged, and removed if it was not yet.
pub fn purged(meta: &mut remuda_schema::Meta, moment: Moment<'_>) {
    meta.enter(remuda_model::states::PURGED);
    meta.removed = meta.removed.or(Some(moment.now));
    meta.remove_time = meta.remove_time.or(Some(moment.now));
}
