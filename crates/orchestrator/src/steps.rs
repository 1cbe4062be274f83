//! What a plan decided, written. All steps of a transaction or none: a row that changed since, or a claim somebody
//! else has, fails the whole, and its keys are planned again.

use remuda_model::states::{CREATING, PURGED, REMOVED, STARTING};
use remuda_model::{Account, Agent, AgentApiKey, AuditLog, Container, Register};
use remuda_schema::{Id, Resource, Row, Time};
use remuda_store::{Error, Query, Scope, Tx};

use crate::commands::{Context, stack_upgrade};
use crate::plan::{Audit, Step};
use crate::record::Record;
use crate::rows;

/// Writes the steps.
pub fn apply(tx: &mut Tx<'_>, steps: &[Step], ctx: &Context) -> Result<(), Error> {
    let (now, random) = (ctx.now, &ctx.random);
    for step in steps {
        match step {
            Step::Write(record) => record.update(tx)?,
            Step::Insert(record) => record.insert(tx)?,
            Step::ContainerCreate(new) => {
                let row = rows::container_insert(tx, (**new).clone(), random)?;
                if let Some(service) = row.service_id {
                    let id = remuda_schema::id::encode(remuda_model::Service::TABLE, service.number());
                    let why = format!("Extra service instance is created by service.reconcile. Service id: {id}");
                    audit(tx, &Audit::of(row.meta.account_id, "instance.create", "instance", row.meta.id, &why))?;
                }
            }
            Step::ContainerAddress { row, requested } => {
                let mut row: Row<Container> = (**row).clone();
                rows::address_choose(tx, &mut row, requested.as_deref(), random)?;
                // One that waits for an address is not written again for having found none: it would be planned at once.
                if row.primary_ip_address.is_some() || !matches!(row.meta.state.as_str(), CREATING | STARTING) {
                    tx.update(&mut row)?;
                }
                rows::address_insert(tx, &row)?;
            }
            Step::AgentRemove(id) => agent_remove(tx, *id, now)?,
            Step::StackWork(work) => stack_upgrade::work(tx, ctx, work)?,
            Step::Claim(claim) => tx.claim(claim)?,
            Step::Release(claim) => drop(tx.release(claim)?),
            Step::ReleaseAll(holder) => drop(tx.release_all(holder)?),
            Step::Audit(line) => audit(tx, line)?,
        }
    }
    Ok(())
}

/// A line in the audit log about what the platform did by itself.
pub fn audit(tx: &mut Tx<'_>, line: &Audit) -> Result<(), Error> {
    let data = AuditLog {
        event_type: Some(line.event_type.clone()),
        resource_type: Some(line.resource_type.clone()),
        resource_id: Some(line.resource_id),
        ..AuditLog::default()
    };
    let mut row = Row::new(line.account_id, "", data);
    row.meta.description = Some(line.description.clone());
    tx.insert(row).map(drop)
}

/// The agent of a host that is gone: its account, key and registration go with it, so that the same machine can
/// register again.
fn agent_remove(tx: &mut Tx<'_>, id: i64, now: Time) -> Result<(), Error> {
    let Some(mut agent) = tx.get::<Agent>(&Scope::Everything, Id::new(id))? else { return Ok(()) };
    end(&mut agent, REMOVED, now);
    tx.update(&mut agent)?;
    for mut register in tx.list::<Register>(&Scope::Everything, &Query::new().eq("agentId", id))? {
        end(&mut register, PURGED, now);
        tx.update(&mut register)?;
    }
    let Some(account) = agent.meta.account_id else { return Ok(()) };
    for mut key in tx.list::<AgentApiKey>(&Scope::Everything, &Query::new().eq("accountId", account))? {
        end(&mut key, PURGED, now);
        tx.update(&mut key)?;
    }
    if let Some(mut account) = tx.get::<Account>(&Scope::Everything, Id::new(account))?
        && matches!(account.meta.kind.as_str(), "agent" | "registeredAgent")
    {
        end(&mut account, PURGED, now);
        tx.update(&mut account)?;
    }
    Ok(())
}

fn end<T>(row: &mut Row<T>, state: &str, now: Time) {
    row.meta.enter(state);
    row.meta.removed = row.meta.removed.or(Some(now));
    row.meta.remove_time = row.meta.remove_time.or(Some(now));
}

impl Record {
    /// Inserts the row.
    pub fn insert(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        self.with(tx, |tx, row| row.insert(tx))
    }

    /// Writes the row back, if it is still at its revision.
    pub fn update(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        self.with(tx, |tx, row| row.update(tx))
    }
}

/// A row that can be written without knowing its type.
pub trait Stored {
    fn insert(&self, tx: &mut Tx<'_>) -> Result<(), Error>;
    fn update(&self, tx: &mut Tx<'_>) -> Result<(), Error>;
}

impl<T: Resource> Stored for Row<T> {
    fn insert(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        tx.insert(self.clone()).map(drop)
    }

    fn update(&self, tx: &mut Tx<'_>) -> Result<(), Error> {
        tx.update(&mut self.clone())
    }
}
