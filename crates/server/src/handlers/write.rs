//! POST, PUT, DELETE and actions: check, let the orchestrator decide, show what came of it. Everything happens inside
//! the one transaction that the caller commits.

use remuda_orchestrator::commands::{self, Outcome};
use remuda_schema::declare::LinkKind;
use remuda_schema::input::{self, Operation};
use remuda_schema::output::{Document, Secrets};
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Schema, TypeDef};
use remuda_store::Tx;
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::lookup::{self, Resolver};
use crate::managers::{self, Created};
use crate::policy::{self, Act};
use crate::render;
use crate::request::Verb;

/// What a write came to: the answer, and what the audit log says it was done to.
pub struct Written {
    pub status: u16,
    /// None: the status alone.
    pub document: Option<Document>,
    pub resource_type: &'static str,
    /// Row of the answer, when the answer is one resource.
    pub resource_id: Option<i64>,
}

/// Does what the request asks.
pub fn write(tx: &mut Tx<'_>, call: &Call) -> Result<Written, Failure> {
    if call.path.type_name.is_none() {
        return Err(ApiError::new(Code::MethodNotAllowed).into());
    }
    if call.verb == Verb::Post && action_name(call).is_none() && call.path.link.is_some() && !call.path.beyond {
        return create_child(tx, call);
    }
    if call.path.id.is_some() {
        // An id that cannot be one is 404 before anything is said about the type.
        managers::check_id(call)?;
    }
    let schema = call.schema()?;
    if let (Verb::Post, Some(action)) = (call.verb, action_name(call)) {
        return act(tx, call, schema, &action);
    }
    match (call.verb, &call.path.id) {
        (Verb::Post, None) => {
            policy::decide(&call.principal, Act::Create, schema, None)?;
            create(tx, call, schema, &call.input, None)
        }
        (Verb::Put, Some(_)) => update(tx, call, schema),
        (Verb::Delete, Some(_)) => remove(tx, call, schema),
        _ => Err(ApiError::new(Code::MethodNotAllowed).into()),
    }
}

/// The action a POST names, lower-case as actions are.
pub fn action_name(call: &Call) -> Option<String> {
    call.query.get("action").filter(|name| !name.is_empty()).map(str::to_ascii_lowercase)
}

/// The orchestrator's view of the request.
pub fn context(call: &Call) -> commands::Context {
    commands::Context {
        now: call.now,
        random: call.server.seams.random.clone(),
        account_id: call.principal.owner_id(),
        settings: call.settings.clone(),
        principal: commands::Principal { account_id: call.principal.account_id, role: call.principal.role },
    }
}

fn def(call: &Call, schema: &Schema) -> Result<&'static TypeDef, Failure> {
    call.def(schema.name).ok_or_else(|| Failure::internal(format!("type `{}` is not declared", schema.name)))
}

/// Checks input against the type's declaration, references included.
pub fn checked(
    tx: &Tx<'_>,
    call: &Call,
    type_name: &str,
    operation: Operation,
    body: &Object,
) -> Result<Object, Failure> {
    let mut resolver = Resolver::new(tx, call);
    let fields = input::read(call.schemas, type_name, operation, body, &mut resolver);
    match resolver.failed.take() {
        Some(failure) => Err(failure),
        None => Ok(fields?),
    }
}

fn create_child(tx: &mut Tx<'_>, call: &Call) -> Result<Written, Failure> {
    let not_found = || Failure::from(ApiError::new(Code::NotFound));
    managers::check_id(call)?;
    let parent = call.schema()?;
    let name = call.path.link.as_deref().unwrap_or_default();
    let row = lookup::required(tx, call, parent, call.path_number()?)?;
    let shown = call.schemas.shown_as(parent, &row.meta.kind);
    let link = shown.link(name).or_else(|| parent.link(name)).ok_or_else(not_found)?;
    let LinkKind::Children { of, by } = link.kind else { return Err(ApiError::new(Code::MethodNotAllowed).into()) };
    let schema = call.schemas.get(of).ok_or_else(not_found)?;
    policy::decide(&call.principal, Act::Create, schema, None)?;
    let mut body = call.input.clone();
    body.insert(by.to_owned(), Value::String(call.public_id(parent, row.meta.id)));
    create(tx, call, schema, &body, Some((by, row.meta.id)))
}

fn create(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    body: &Object,
    preset: Option<(&str, i64)>,
) -> Result<Written, Failure> {
    let mut fields = checked(tx, call, schema.name, Operation::Create, body)?;
    if let Some((by, id)) = preset.filter(|(by, _)| *by != "accountId") {
        fields.insert(by.to_owned(), Value::from(id));
    }
    let mut context = context(call);
    // Administrators may make rows for other accounts where the declaration says so.
    if let Some(account_id) = fields.remove("accountId").and_then(|id| id.as_i64()) {
        context.account_id = account_id;
    }
    check_unique(tx, call, schema, &fields, context.account_id)?;
    let kept = match managers::create(tx, call, schema, &mut fields, &context)? {
        Created::Done(written) => return Ok(written),
        Created::Prepared(kept) => kept,
    };
    let rows = commands::create(tx, &context, def(call, schema)?, fields).map_err(Failure::from)?;
    let mut documents = Vec::with_capacity(rows.len());
    let mut first = None;
    for mut row in rows {
        first.get_or_insert(row.meta.id);
        managers::created(tx, call, schema, &mut row, &context)?;
        for (name, value) in &kept {
            row.data.insert(name.clone(), value.clone());
        }
        documents.push(render::resource(call, schema, &row, Secrets::Shown)?);
    }
    if documents.len() > 1 {
        let url = call.self_url(schema);
        let document = render::plain_collection(call, schema, &url, documents);
        return Ok(Written { status: 201, document: Some(document), resource_type: schema.name, resource_id: None });
    }
    Ok(Written { status: 201, document: documents.pop(), resource_type: schema.name, resource_id: first })
}

/// Fields declared unique are so among the account's rows that are not removed: what others have is not told.
fn check_unique(tx: &Tx<'_>, call: &Call, schema: &Schema, fields: &Object, account_id: i64) -> Result<(), Failure> {
    for field in schema.fields.values().filter(|field| field.unique) {
        let Some(value) = fields.get(field.name).filter(|value| !value.is_null()) else { continue };
        let query = remuda_store::Query::new().eq(field.name, value.clone());
        let n_found = tx.count_any(def(call, schema)?, &remuda_store::Scope::Account(account_id), &query)?;
        if n_found > 0 {
            return Err(ApiError::field(Code::NotUnique, field.name).into());
        }
    }
    Ok(())
}

/// The resource as the answer.
pub fn shown(call: &Call, schema: &Schema, row: &AnyRow, status: u16, secrets: Secrets) -> Result<Written, Failure> {
    let document = render::resource(call, schema, row, secrets)?;
    let resource_type = call.def(schema.name).map_or("", |def| def.name);
    Ok(Written { status, document: Some(document), resource_type, resource_id: Some(row.meta.id) })
}

fn update(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema) -> Result<Written, Failure> {
    policy::decide(&call.principal, Act::Update, schema, None)?;
    if let Some(written) = managers::update(tx, call, schema)? {
        return Ok(written);
    }
    let row = lookup::required(tx, call, schema, call.path_number()?)?;
    policy::decide(&call.principal, Act::Update, schema, Some(&row))?;
    let shown_as = call.schemas.shown_as(schema, &row.meta.kind);
    policy::decide(&call.principal, Act::Update, shown_as, Some(&row))?;
    let mut fields = checked(tx, call, shown_as.name, Operation::Update, &call.input)?;
    managers::prepare_update(tx, call, shown_as, &row, &mut fields)?;
    let updated = commands::update(tx, &context(call), def(call, shown_as)?, row, fields).map_err(Failure::from)?;
    if updated.conflict {
        // The fields stay written; only their process could not start (`resources.md` §1.9).
        let error = ApiError::new(Code::Conflict)
            .detailed("the fields are stored, but the update process cannot start in the present state");
        return Ok(conflict(shown_as, &updated.row, &error, call));
    }
    let written = shown(call, schema, &updated.row, 200, Secrets::Masked)?;
    Ok(Written { resource_type: schema.name, ..written })
}

fn conflict(schema: &'static Schema, row: &AnyRow, error: &ApiError, call: &Call) -> Written {
    let mut document = Document::new();
    if let Value::Object(members) = error.body(&call.server.seams.random.uuid()) {
        for (name, value) in members {
            document.set(&name, value);
        }
    }
    Written {
        status: error.status,
        document: Some(document),
        resource_type: schema.name,
        resource_id: Some(row.meta.id),
    }
}

fn remove(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema) -> Result<Written, Failure> {
    policy::decide(&call.principal, Act::Delete, schema, None)?;
    if let Some(written) = managers::remove(tx, call, schema)? {
        return Ok(written);
    }
    let row = lookup::required(tx, call, schema, call.path_number()?)?;
    let shown_as = call.schemas.shown_as(schema, &row.meta.kind);
    policy::decide(&call.principal, Act::Delete, shown_as, Some(&row))?;
    remove_row(tx, call, shown_as, row)
}

/// Starts the removal of a row that the caller may remove.
pub fn remove_row(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema, row: AnyRow) -> Result<Written, Failure> {
    managers::check_remove(tx, call, schema, &row)?;
    let row = commands::remove(tx, &context(call), def(call, schema)?, row).map_err(Failure::from)?;
    let written = shown(call, schema, &row, 200, Secrets::Masked)?;
    Ok(Written { resource_type: schema.name, ..written })
}

fn act(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema, name: &str) -> Result<Written, Failure> {
    let unknown = || Failure::from(ApiError::field(Code::InvalidAction, "action"));
    let not_available = || Failure::from(ApiError::field(Code::ActionNotAvailable, "action"));
    let is_known = |schema: &Schema| schema.action(name).is_some();
    let kinds = schema.subtypes.iter().filter_map(|kind| call.schemas.get(kind));
    if call.path.id.is_none() || call.path.link.is_some() || ![schema].into_iter().chain(kinds).any(is_known) {
        return Err(unknown());
    }
    let row = lookup::required(tx, call, schema, call.path_number()?)?;
    let schema = call.schemas.shown_as(schema, &row.meta.kind);
    let action = schema.action(name).ok_or_else(unknown)?;
    policy::decide(&call.principal, Act::Action(name), schema, Some(&row))?;
    if !render::is_offered(call, schema, &row, name) {
        let is_done = schema.machine.is_some_and(|machine| machine.under_way_or_done(name, &row.meta.state));
        if !is_done {
            return Err(not_available());
        }
    }
    let fields = match action.input {
        Some(input) => checked(tx, call, input, Operation::Create, &call.input)?,
        None => Object::new(),
    };
    if let Some(written) = managers::act(tx, call, schema, &row, name, &fields)? {
        return Ok(written);
    }
    let outcome = commands::action(tx, &context(call), def(call, schema)?, row, name, fields).map_err(Failure::from)?;
    match outcome {
        Outcome::Process(row) => shown(call, schema, &row, 202, Secrets::Shown),
        Outcome::Handled(row) => shown(call, schema, &row, 200, Secrets::Shown),
        Outcome::Value(value) => Ok(Written {
            status: 200,
            document: value.as_object().map(|value| render::value(call, action.output.unwrap_or(schema.name), value)),
            resource_type: schema.name,
            resource_id: None,
        }),
    }
}
