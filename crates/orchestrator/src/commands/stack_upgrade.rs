//! Upgrade of a stack and what follows it (`services.md` §11.6), by request; and what the stack's plan then has done to
//! its services, each in a transaction of the loop.

use remuda_model::{Service, ServiceChange, Stack, StackUpgrade};
use remuda_schema::row::AnyRow;
use remuda_schema::{ApiError, Code, Id, Resource, Row, Time};
use remuda_store::{Error, Scope, Tx};

use super::stack_files::sentence;
use super::{CommandError, Context, Outcome, upgrade};
use crate::plan::{ServiceAct, StackWork};

/// How long a refused change rests.
const RETRY_MS: i64 = 15_000;

/// The state that the action enters; refused when the stack's state does not offer it.
pub fn check_offered(row: &AnyRow, action: &str) -> Result<&'static str, ApiError> {
    super::upgrade_step::<Stack>(&row.meta.state, action, "stack")
}

/// `upgrade`. `None`: a stack that was not made from files has nothing to do.
pub fn begin(
    tx: &mut Tx<'_>,
    ctx: &Context,
    row: AnyRow,
    upgrade: Option<StackUpgrade>,
) -> Result<AnyRow, CommandError> {
    let via = check_offered(&row, "upgrade")?;
    let mut row: Row<Stack> = row.typed()?;
    super::enter(&mut row, via, ctx);
    row.pending_upgrade = upgrade;
    tx.update(&mut row)?;
    Ok(row.to_any()?)
}

/// `finishupgrade`, `cancelupgrade`, `rollback`, `cancelrollback`. What was not begun is not begun any more.
pub fn go_on(tx: &mut Tx<'_>, ctx: &Context, row: &AnyRow, action: &str) -> Result<Outcome, CommandError> {
    let via = check_offered(row, action)?;
    let mut row: Row<Stack> = row.typed()?;
    super::enter(&mut row, via, ctx);
    row.pending_upgrade = None;
    tx.update(&mut row)?;
    Ok(Outcome::Process(row.to_any()?))
}

/// Does one thing that a stack's plan decided. A refusal is the stack's message, and tried again.
pub fn work(tx: &mut Tx<'_>, ctx: &Context, work: &StackWork) -> Result<(), Error> {
    let stack = tx.get::<Stack>(&Scope::Everything, Id::new(work.stack))?;
    let service = tx.get::<Service>(&Scope::Everything, Id::new(work.service))?;
    let (Some(mut stack), Some(service)) = (stack, service) else { return Ok(()) };
    let name = service.meta.name.clone().unwrap_or_default();
    let done = match work.act {
        ServiceAct::Finish => upgrade::go_on(tx, ctx, service, "finishupgrade").map(drop),
        ServiceAct::RollBack => upgrade::go_on(tx, ctx, service, "rollback").map(drop),
        ServiceAct::Change => take(&mut stack, work.service).map_or(Ok(()), |todo| change(tx, ctx, service, todo)),
    };
    match done {
        Ok(()) if work.act == ServiceAct::Change => tx.update(&mut stack),
        Ok(()) => Ok(()),
        // The service has moved on since it was looked at; the plan looks again.
        Err(CommandError::Api(error)) if error.code == Code::ActionNotAvailable => Ok(()),
        Err(CommandError::Api(error)) => refused(tx, ctx.now, work.stack, &format!("{name}: {}", sentence(&error))),
        Err(CommandError::Store(error)) => Err(error),
        Err(CommandError::Row(error)) => {
            Err(Error::Unstorable { table: Service::TABLE, reason: format!("{error}, for service {name}") })
        }
    }
}

/// Takes the change of a service off the list of its stack.
fn take(stack: &mut Row<Stack>, service: i64) -> Option<ServiceChange> {
    let changes = &mut stack.pending_upgrade.as_mut()?.changes;
    let at = changes.iter().position(|change| change.service.number() == service)?;
    Some(changes.remove(at))
}

/// Fields first; an upgrade of containers takes them along.
fn change(tx: &mut Tx<'_>, ctx: &Context, row: Row<Service>, change: ServiceChange) -> Result<(), CommandError> {
    let def = remuda_model::registry().get(&row.meta.kind).ok_or_else(|| ApiError::new(Code::NotFound))?;
    let Some(input) = change.upgrade else {
        return super::update(tx, ctx, def, row.to_any()?, change.fields).map(drop);
    };
    let mut row = row.to_any()?;
    row.apply(change.fields);
    upgrade::act(tx, ctx, &row, "upgrade", &input).map(drop)
}

fn refused(tx: &mut Tx<'_>, now: Time, stack: i64, why: &str) -> Result<(), Error> {
    let Some(mut stack) = tx.get::<Stack>(&Scope::Everything, Id::new(stack))? else { return Ok(()) };
    stack.meta.progress.message = Some(why.to_owned());
    if let Some(upgrade) = &mut stack.pending_upgrade {
        upgrade.retry_at = Some(now.plus_ms(RETRY_MS));
    }
    tx.update(&mut stack)
}
