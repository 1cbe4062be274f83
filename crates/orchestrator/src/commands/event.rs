//! Container events that agents post (`resources-infra.md` §10): the same as a report over the agent's connection.

use remuda_model::{Agent, ContainerEvent, Host};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Role, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};
use remuda_wire::observe::{ContainerObserved, StateChange, StateReport, Status};

use super::{CommandError, Context, draft};
use crate::observe::{self, Observer};

pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row: Row<ContainerEvent> = draft(ctx, def, fields).typed()?;
    for (field, given) in [
        ("reportedHostUuid", row.reported_host_uuid.is_some()),
        ("externalId", row.external_id.is_some()),
        ("externalStatus", row.external_status.is_some()),
    ] {
        if !given {
            return Err(ApiError::field(Code::MissingRequired, field).into());
        }
    }
    if ctx.principal.role != Role::Agent {
        return Err(ApiError::new(Code::CantVerifyAgent).because("only agents report container events").into());
    }
    let agent = tx
        .first::<Agent>(&Scope::Everything, &Query::new().eq("accountId", ctx.principal.account_id))?
        .ok_or_else(|| ApiError::new(Code::CantVerifyAgent))?;
    let hosts: Vec<Row<Host>> = tx.list(&Scope::Everything, &Query::new().eq("agentId", agent.meta.id))?;
    let host = hosts
        .into_iter()
        .find(|host| host.reported_uuid == row.reported_host_uuid)
        .ok_or_else(|| ApiError::field(Code::InvalidReference, "hostId"))?;
    row.host_id = Some(host.id());
    row.meta.account_id = host.meta.account_id;
    let who = Observer {
        project_id: host.meta.account_id.unwrap_or(ctx.account_id),
        host_id: host.meta.id,
        now: ctx.now,
        settings: ctx.settings.clone(),
        random: ctx.random.clone(),
    };
    if let Some(change) = change(&row) {
        observe::report(tx, &who, &StateReport { changes: vec![change], ..StateReport::default() })?;
    }
    Ok(tx.insert(row)?.to_any()?)
}

fn change(row: &ContainerEvent) -> Option<StateChange> {
    let inspect = row.docker_inspect.clone();
    let labels = inspect.as_ref().map(|inspect| inspect["Config"]["Labels"].clone()).unwrap_or_default();
    let uuid = labels["io.rancher.container.uuid"].as_str().map(str::to_owned);
    let docker_id = row.external_id.clone()?;
    let status = match row.external_status.as_deref()? {
        "start" => Status::Running,
        "stop" | "die" => Status::Exited,
        "destroy" => return Some(StateChange::ContainerGone { uuid, docker_id: Some(docker_id) }),
        _ => return None,
    };
    let exit_code = inspect.as_ref().and_then(|inspect| inspect["State"]["ExitCode"].as_i64());
    Some(StateChange::Container(Box::new(ContainerObserved {
        uuid,
        docker_id,
        status,
        exit_code: exit_code.or_else(|| (status == Status::Exited).then_some(0)),
        inspect,
        ..ContainerObserved::default()
    })))
}
