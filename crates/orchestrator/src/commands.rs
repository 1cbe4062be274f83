//! What requests do, each inside the one transaction of the request: checks beyond the schema, the rows written, the
//! process entered. The server has found the row, checked permission and converted the input; nothing here knows HTTP.

pub mod container;
pub mod event;
pub mod external;
pub mod host;
pub mod link;
pub mod load_balancer;
pub mod project;
pub mod service;
pub mod stack;
pub mod stack_files;
pub mod stack_upgrade;
pub mod upgrade;
pub mod volume;

use std::sync::Arc;

use remuda_model::{Certificate, Container, ContainerEvent, Host, Project, Service, ServiceEvent, Stack, Volume};
use remuda_runtime::Random;
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{ApiError, Code, Machine, Meta, Resource, Role, Row, Time, TypeDef};
use remuda_store::{Error, Query, Scope, Tx};
use serde_json::Value;

use crate::settings::Settings;

pub use project::project_networks;

/// Who asks, when, and for which account.
#[derive(Clone, Debug)]
pub struct Context {
    pub now: Time,
    pub random: Random,
    /// Effective account: the project of project-scoped requests.
    pub account_id: i64,
    pub settings: Arc<Settings>,
    pub principal: Principal,
}

/// The authenticated account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    pub account_id: i64,
    pub role: Role,
}

/// Why a request was not carried out; nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// The client's mistake, with the documented code.
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] Error),
    /// A stored row that its own type cannot read.
    #[error("a stored row does not read as its type")]
    Row(#[source] Arc<remuda_schema::row::RowError>),
}

impl From<remuda_schema::row::RowError> for CommandError {
    fn from(error: remuda_schema::row::RowError) -> CommandError {
        CommandError::Row(Arc::new(error))
    }
}

/// The answer to PUT. `conflict`: the fields are written, but the process that the change asks for cannot start now;
/// commit, then answer 409.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    pub row: AnyRow,
    pub conflict: bool,
}

/// The answer to an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// 202 with the resource.
    Process(AnyRow),
    /// 200 with the resource.
    Handled(AnyRow),
    /// 200 with this.
    Value(Value),
}

/// POST on a collection. Several rows only for containers with `count`.
pub fn create(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, fields: Object) -> Result<Vec<AnyRow>, CommandError> {
    match def.name {
        Container::TYPE => container::create(tx, ctx, def, fields),
        _ if is_service(def) => service::create(tx, ctx, def, fields).map(one),
        Stack::TYPE => stack::create(tx, ctx, def, fields).map(one),
        Volume::TYPE => volume::create(tx, ctx, def, fields).map(one),
        Project::TYPE => project::create(tx, ctx, def, fields).map(one),
        ContainerEvent::TYPE => event::create(tx, ctx, def, fields).map(one),
        ServiceEvent::TYPE => event::health(tx, ctx, def, fields).map(one),
        _ => Ok(vec![tx.insert_any(def, draft(ctx, def, fields))?]),
    }
}

/// A service of any kind.
fn is_service(def: &TypeDef) -> bool {
    def.table() == Some(Service::TABLE)
}

fn one(row: AnyRow) -> Vec<AnyRow> {
    vec![row]
}

/// A row of the type with those fields, in the state its creation is under way in.
fn draft(ctx: &Context, def: &TypeDef, fields: Object) -> AnyRow {
    let mut meta = Meta { kind: def.name.to_owned(), ..Meta::default() };
    // Accounts belong to nobody.
    meta.account_id = Some(ctx.account_id).filter(|_| def.table() != Some("account"));
    let mut row = Row { meta, data: Object::new() };
    row.apply(fields);
    if let Some(start) = def.machine.and_then(|machine| machine.start("create", "requested")) {
        enter(&mut row, start.via, ctx);
    }
    let input_only = def.fields.iter().filter(|field| field.input_only);
    input_only.for_each(|field| drop(row.data.remove(field.name)));
    row
}

/// Enters a transitional state with a deadline.
fn enter<T>(row: &mut Row<T>, state: &str, ctx: &Context) {
    row.meta.enter(state);
    row.meta.progress.deadline = Some(ctx.now.plus_ms(ctx.settings.process_deadline_ms()));
}

/// The state that the action of an upgrade enters; refused where the state of the `what` does not offer it, also when it is
/// under way: a second `upgrade` brings something else and cannot be a repetition.
fn upgrade_step<T: Resource>(state: &str, action: &str, what: &str) -> Result<&'static str, ApiError> {
    let start = T::type_def().machine.and_then(|machine| machine.start(action, state));
    start.map(|start| start.via).ok_or_else(|| not_offered(action, what, state))
}

fn not_offered(action: &str, what: &str, state: &str) -> ApiError {
    ApiError::field(Code::ActionNotAvailable, "action")
        .because(format!("`{action}` is not possible while the {what} is {state}"))
}

/// PUT: writes what changed; a change that needs it starts the `update` process.
pub fn update(
    tx: &mut Tx<'_>,
    ctx: &Context,
    def: &TypeDef,
    mut row: AnyRow,
    fields: Object,
) -> Result<Updated, CommandError> {
    match def.name {
        _ if is_service(def) => service::check_update(tx, &row, &fields)?,
        Stack::TYPE => stack::check_update(&fields)?,
        _ => {}
    }
    let changed = row.apply(fields);
    let needs_process = |name: &String| def.field(name).is_some_and(|field| field.schedules_update);
    let mut conflict = false;
    if let Some(machine) = def.machine
        && changed.iter().any(needs_process)
    {
        match machine.start("update", &row.meta.state) {
            Some(start) => enter(&mut row, start.via, ctx),
            None => conflict = true,
        }
    }
    if !changed.is_empty() {
        tx.update_any(def, &mut row)?;
    }
    Ok(Updated { row, conflict })
}

/// POST with `?action=`.
pub fn action(
    tx: &mut Tx<'_>,
    ctx: &Context,
    def: &TypeDef,
    row: AnyRow,
    action: &str,
    input: Object,
) -> Result<Outcome, CommandError> {
    // Services of every kind act alike.
    match (if is_service(def) { Service::TYPE } else { def.name }, action) {
        (Service::TYPE, "addservicelink") => return link::add(tx, ctx, &row, &input).map(|()| Outcome::Handled(row)),
        (Service::TYPE, "removeservicelink") => {
            return link::remove(tx, ctx, &row, &input).map(|()| Outcome::Handled(row));
        }
        (Service::TYPE, "upgrade" | "finishupgrade" | "cancelupgrade" | "rollback" | "cancelrollback" | "restart") => {
            return upgrade::act(tx, ctx, &row, action, &input).map(Outcome::Process);
        }
        (Service::TYPE, "setservicelinks") => return link::set(tx, ctx, &row, &input).map(|()| Outcome::Handled(row)),
        (Host::TYPE, "drain" | "evacuate" | "giveup") => return host::act(tx, ctx, &row, action).map(Outcome::Process),
        (Stack::TYPE, "activateservices") => {
            return stack::activate_services(tx, ctx, &row).map(|()| Outcome::Handled(row));
        }
        (Stack::TYPE, "deactivateservices") => {
            return stack::deactivate_services(tx, ctx, &row).map(|()| Outcome::Handled(row));
        }
        (Stack::TYPE, "finishupgrade" | "cancelupgrade" | "rollback" | "cancelrollback") => {
            return stack_upgrade::go_on(tx, ctx, &row, action);
        }
        (Stack::TYPE, "addoutputs") => return stack::add_outputs(tx, def, row, &input).map(Outcome::Handled),
        (Container::TYPE, "setlabels") => {
            return container::set_labels(tx, ctx, &row, &input).map(|()| Outcome::Handled(row));
        }
        (Certificate::TYPE, "remove") => load_balancer::check_certificate_remove(tx, &row)?,
        _ => {}
    }
    let machine = machine(def).ok_or_else(|| ApiError::field(Code::InvalidAction, "action"))?;
    if !machine.has(action) {
        return Err(ApiError::field(Code::InvalidAction, "action").into());
    }
    let Some(start) = machine.start(action, &row.meta.state) else {
        if machine.under_way_or_done(action, &row.meta.state) {
            return Ok(Outcome::Process(row));
        }
        return Err(not_offered(action, "resource", &row.meta.state).into());
    };
    if def.table() == Some("instance") {
        return container::process(tx, ctx, row, action, &input).map(Outcome::Process);
    }
    let mut row = row;
    enter(&mut row, start.via, ctx);
    tx.update_any(def, &mut row)?;
    Ok(Outcome::Process(row))
}

/// Rows of a general type are of a special one, and its machine counts.
fn machine(def: &TypeDef) -> Option<&'static Machine> {
    def.machine
}

/// DELETE.
pub fn remove(tx: &mut Tx<'_>, ctx: &Context, def: &TypeDef, mut row: AnyRow) -> Result<AnyRow, CommandError> {
    let Some(machine) = machine(def) else {
        tx.delete_any(def, row.meta.id)?;
        return Ok(row);
    };
    if def.table() == Some("instance") {
        return container::remove(tx, ctx, row);
    }
    if def.name == Certificate::TYPE {
        load_balancer::check_certificate_remove(tx, &row)?;
    }
    let start = machine.start("remove", &row.meta.state);
    let via = match start {
        Some(start) => start.via,
        None if machine.under_way_or_done("remove", &row.meta.state) || row.meta.removed.is_some() => return Ok(row),
        // An active project is deactivated and removed in one.
        None if def.name == Project::TYPE => "removing",
        None => {
            return Err(ApiError::new(Code::MethodNotAllowed)
                .because(format!("a {} that is {} cannot be removed", def.name, row.meta.state))
                .into());
        }
    };
    enter(&mut row, via, ctx);
    tx.update_any(def, &mut row)?;
    Ok(row)
}

/// Whether the row offers the action now, as far as its type and state decide; who asks is the server's business.
pub fn offered(def: &TypeDef, row: &AnyRow, action: &str) -> bool {
    let state = row.meta.state.as_str();
    match (def.name, action) {
        ("container", "execute" | "proxy") => state == "running",
        ("container", "logs") => matches!(state, "running" | "stopping" | "stopped"),
        ("host", "drain" | "evacuate" | "giveup") => {
            host::offered(state, row.data.get("agentState").and_then(Value::as_str), action)
        }
        ("host", "dockersocket") => matches!(state, "active" | "inactive" | "activating" | "deactivating"),
        // Users neither allocate nor deactivate volumes.
        _ => match machine(def).filter(|machine| machine.has(action)) {
            Some(machine) => machine.start(action, state).is_some(),
            None => true,
        },
    }
}

/// A live row of the account has that name already. `same_case`: compared exactly.
fn name_is_taken(tx: &Tx<'_>, def: &TypeDef, account_id: i64, name: &str) -> Result<bool, CommandError> {
    let query = Query::new().eq("name", name);
    Ok(tx.count_any(def, &Scope::Account(account_id), &query)? > 0)
}
