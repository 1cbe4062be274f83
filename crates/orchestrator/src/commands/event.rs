//! Events that agents post (`resources-infra.md` §10): the same as a report over the agent's connection.

use std::sync::Arc;

use remuda_model::{Agent, Container, ContainerEvent, HealthcheckInstanceHostMap, Host, ServiceEvent};
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Role, Row, TypeDef};
use remuda_store::{Query, Scope, Tx};
use remuda_wire::observe::{ContainerObserved, StateChange, StateReport, Status, Vote};

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

/// What a host found out about a container that it checks (`scheduling-and-health.md` §8.3).
pub fn health(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<AnyRow, CommandError> {
    let mut row: Row<ServiceEvent> = draft(ctx, def, fields).typed()?;
    let at = row.external_timestamp.ok_or_else(|| ApiError::field(Code::MissingRequired, "externalTimestamp"))?;
    let unknown = || ApiError::new(Code::CantVerifyHealthcheck);
    let named = row.healthcheck_uuid.clone().unwrap_or_default();
    let (uuid, run) = match named.rsplit_once('_') {
        Some((uuid, run)) => (uuid, run.parse::<i64>().ok()),
        None => (named.as_str(), None),
    };
    let query = Query::new().eq("uuid", uuid);
    let mut map: Row<HealthcheckInstanceHostMap> =
        tx.first(&Scope::Everything, &query)?.filter(|_| !uuid.is_empty()).ok_or_else(unknown)?;
    let host = map.host_id.map(|id| tx.get::<Host>(&Scope::Everything, id)).transpose()?.flatten();
    let agent = tx.first::<Agent>(&Scope::Everything, &Query::new().eq("accountId", ctx.principal.account_id))?;
    let is_own = host.zip(agent).is_some_and(|(host, agent)| host.agent_id == Some(agent.id()));
    if !is_own || ctx.principal.role != Role::Agent {
        return Err(unknown().because("only the agent of the host that checks a container reports on it").into());
    }
    row.host_id = map.host_id;
    row.instance_id = map.instance_id;
    row.meta.account_id = map.meta.account_id;
    let container = map.instance_id.map(|id| tx.get::<Container>(&Scope::Everything, id.cast())).transpose()?.flatten();
    let current = container.and_then(|row| row.start_count).unwrap_or(0);
    let reported = row.reported_health.as_deref().unwrap_or_default();
    let is_newer = map.external_timestamp.is_none_or(|last| at >= last);
    if reported != "INIT" && is_newer && run.is_none_or(|run| run == current) {
        let healthy = reported == "UP";
        let reason = (!healthy).then(|| reported.to_owned());
        if observe::cast(&mut map, &Vote { map: String::new(), run: current, healthy, reason }, at) {
            tx.update(&mut map)?;
        }
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
        inspect: inspect.map(Arc::new),
        ..ContainerObserved::default()
    })))
}
