//! The few types the server knows by name: those of identity, keys and the API itself. Everything here is a branch that
//! the generic handlers take before or after their own work; a type without a branch is wholly its declaration.

pub mod accounts;
pub mod certificates;
pub mod host_access;
pub mod identities;
pub mod keys;
pub mod projects;
pub mod register;
pub mod schemas;
pub mod secrets;
pub mod settings;
pub mod stacks;

use remuda_model::{ApiKey, SecretReference, Stack};
use remuda_orchestrator::commands::Context;
use remuda_schema::id::decode;
use remuda_schema::output::Document;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Resource, Role, Schema, filter};
use remuda_store::{Read, Scope, Tx};
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::Written;
use crate::lookup;
use crate::policy::{self, Act};
use crate::reply::{Content, Reply};

/// What a manager says to a GET.
pub enum Answer {
    Given(Document),
    /// The generic handler should answer.
    Generic,
}

/// What a manager says to a creation.
pub enum Created {
    Done(Written),
    /// The generic handler goes on; these values are shown once, in the answer.
    Prepared(Object),
}

/// Lists that are not a page of one table.
pub fn list(read: &Read<'_>, call: &Call, schema: &'static Schema, asked: &filter::Query) -> Result<Answer, Failure> {
    match schema.name {
        "schema" => Ok(Answer::Given(schemas::list(call, schema))),
        "typeDocumentation" => Ok(Answer::Given(schemas::documentation_list(call, schema))),
        "setting" | "activeSetting" => settings::list(read, call, schema).map(Answer::Given),
        "identity" => identities::list(read, call, schema, asked).map(Answer::Given),
        "project" => projects::list(read, call, schema).map(Answer::Given),
        "projectMember" => projects::member_list(read, call, schema).map(Answer::Given),
        _ => Ok(Answer::Generic),
    }
}

/// Resources that have no row of their own, or are known by a key.
pub fn one(read: &Read<'_>, call: &Call, schema: &'static Schema) -> Result<Answer, Failure> {
    let id = call.path.id.as_deref().unwrap_or_default();
    match schema.name {
        "schema" => schemas::one(call, id).map(Answer::Given),
        "typeDocumentation" => schemas::documentation_one(call, id).map(Answer::Given),
        "setting" | "activeSetting" => settings::one(read, call, id).map(Answer::Given),
        "identity" => identities::one(read, call, schema, id).map(Answer::Given),
        _ => Ok(Answer::Generic),
    }
}

/// 404 for ids that cannot be one; types known by a key take any text.
pub fn check_id(call: &Call) -> Result<(), ApiError> {
    let id = call.path.id.as_deref().unwrap_or_default();
    if decode(id).is_none() { Err(ApiError::new(Code::NotFound)) } else { Ok(()) }
}

/// Names of links know no case and are stored in lower case; a filter finds them however they are written.
pub fn fold_case(schema: &Schema, asked: &mut filter::Query) {
    if schema.name != "serviceConsumeMap" {
        return;
    }
    for condition in asked.conditions.iter_mut().filter(|condition| condition.field == "name") {
        use filter::{Operand, Test};
        match &mut condition.test {
            Test::Eq(Operand::Text(text))
            | Test::Ne(Operand::Text(text))
            | Test::Prefix(text)
            | Test::Like(text)
            | Test::NotLike(text) => text.make_ascii_lowercase(),
            _ => {}
        }
    }
}

/// Rows that a list shows. Keys are those of the account that asks, also to administrators.
pub fn list_scope(call: &Call, schema: &Schema, asked: &filter::Query) -> Scope {
    let names_account = asked.conditions.iter().any(|condition| condition.field == "accountId");
    match schema.base {
        "credential" if schema.name != "registrationToken" && !names_account => {
            Scope::Account(call.principal.effective_id)
        }
        base => policy::scope(&call.principal, base),
    }
}

/// Before a row is made: values only the server can give, and rows that are made with it.
pub fn create(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    fields: &mut Object,
    context: &Context,
) -> Result<Created, Failure> {
    check_images(call, fields)?;
    check_secrets(fields)?;
    match schema.name {
        "apiKey" | "credential" => keys::create(tx, call, fields).map(Created::Prepared),
        "certificate" => certificates::create(call, fields).map(|()| Created::Prepared(Object::new())),
        "registrationToken" => {
            keys::registration_create(call, fields);
            Ok(Created::Prepared(Object::new()))
        }
        "register" => register::create(tx, call, fields, context).map(|()| Created::Prepared(Object::new())),
        "project" => projects::create(call, fields).map(Created::Prepared),
        "secret" => secrets::create(tx, call, schema, fields, context).map(Created::Done),
        "setting" => settings::create(tx, call, fields).map(Created::Done),
        "subscribe" => Err(ApiError::new(Code::MethodNotAllowed).into()),
        _ if call.def(schema.name).is_none_or(|def| def.table().is_none()) => {
            Err(ApiError::new(Code::MethodNotAllowed).into())
        }
        _ => Ok(Created::Prepared(Object::new())),
    }
}

/// What a container is made from, wherever it stands: in a container, in a service with its sidekicks, in an upgrade.
fn workloads(fields: &Object) -> impl Iterator<Item = &Object> {
    let strategy = fields.get("inServiceStrategy").and_then(Value::as_object);
    let configs = [Some(fields), strategy].into_iter().flatten().flat_map(|fields| {
        let sidekicks = fields.get("secondaryLaunchConfigs").and_then(Value::as_array).into_iter().flatten();
        fields.get("launchConfig").into_iter().chain(sidekicks).filter_map(Value::as_object)
    });
    [fields].into_iter().chain(configs)
}

/// Secrets of containers are files that can be: a path, and rights that are numbers.
fn check_secrets(fields: &Object) -> Result<(), ApiError> {
    let references = workloads(fields).filter_map(|fields| fields.get("secrets")?.as_array()).flatten();
    for reference in references {
        let reference: SecretReference = serde_json::from_value(reference.clone())
            .map_err(|error| ApiError::field(Code::InvalidFormat, "secrets").because(error.to_string()))?;
        if let Some(problem) = reference.problem() {
            return Err(ApiError::field(Code::InvalidFormat, "secrets").because(problem));
        }
    }
    Ok(())
}

/// Simulated images are for servers that were started for them.
pub fn check_images(call: &Call, fields: &Object) -> Result<(), ApiError> {
    let mut images = workloads(fields).filter_map(|fields| fields.get("imageUuid")?.as_str());
    if call.server.options.simulator || !images.any(|image| image.starts_with("sim:")) {
        return Ok(());
    }
    Err(ApiError::field(Code::InvalidReference, "imageUuid")
        .because("`sim:` images are taken only by a server started with `--simulator`"))
}

/// After a row was made, in the same transaction.
pub fn created(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &Schema,
    row: &mut AnyRow,
    context: &Context,
) -> Result<(), Failure> {
    match schema.name {
        "environment" => stacks::created(tx, call, row, context),
        "project" => projects::created(tx, call, row),
        "account" => accounts::created(tx, call, row),
        _ => Ok(()),
    }
}

/// PUT of things that are not rows.
pub fn update(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema) -> Result<Option<Written>, Failure> {
    match schema.name {
        "setting" | "activeSetting" => settings::update(tx, call, schema).map(Some),
        _ => Ok(None),
    }
}

/// What a PUT of a row must not do, and the values that follow from those it brings.
pub fn prepare_update(
    tx: &Tx<'_>,
    call: &Call,
    schema: &Schema,
    row: &AnyRow,
    fields: &mut Object,
) -> Result<(), Failure> {
    match (schema.base, call.def(schema.name)) {
        ("account", _) => accounts::check_update(tx, call, row, fields),
        ("certificate", Some(def)) => certificates::update(tx, call, def, row, fields),
        _ => Ok(()),
    }
}

/// DELETE of things that are not rows.
pub fn remove(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema) -> Result<Option<Written>, Failure> {
    match schema.name {
        "secret" => secrets::remove(tx, call, schema).map(Some),
        "setting" | "activeSetting" => settings::remove(tx, call, schema).map(Some),
        _ => Ok(None),
    }
}

/// What a DELETE must not do, and what goes with the row.
pub fn check_remove(tx: &mut Tx<'_>, call: &Call, schema: &Schema, row: &AnyRow) -> Result<(), Failure> {
    match schema.base {
        "account" => accounts::check_remove(tx, call, row),
        "register" => register::removed(tx, row),
        "environment" => secrets::stack_removed(tx, call, row),
        _ => Ok(()),
    }
}

/// Actions the server answers itself.
pub fn act(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    row: &AnyRow,
    action: &str,
    fields: &Object,
) -> Result<Option<Written>, Failure> {
    check_images(call, fields)?;
    check_secrets(fields)?;
    match (schema.base, action) {
        ("account", "setmembers") => projects::set_members(tx, call, row).map(Some),
        ("account", "delete") => crate::handlers::write::remove_row(tx, call, schema, row.clone()).map(Some),
        ("account", "deactivate") => accounts::check_deactivate(tx, call, row).map(|()| None),
        ("instance", "execute" | "logs" | "proxy" | "console") => {
            host_access::container(tx, call, schema, row, action, fields).map(Some)
        }
        ("host", "dockersocket") => host_access::docker_socket(call, schema, row).map(Some),
        ("environment", "upgrade") => stacks::upgrade(tx, call, schema, row, fields).map(Some),
        ("environment", "exportconfig") => stacks::export_config(tx, call, schema, row, fields).map(Some),
        _ => Ok(None),
    }
}

/// The row with the values that are made when it is read.
pub fn decorate(call: &Call, schema: &Schema, row: &AnyRow) -> Result<AnyRow, Failure> {
    let mut row = row.clone();
    match schema.name {
        "registrationToken" => keys::registration_decorate(call, &mut row)?,
        "certificate" => certificates::decorate(call, &mut row),
        "projectMember" => projects::member_decorate(&mut row),
        "register" => register::decorate(call, &mut row)?,
        "credential" if call.principal.role != Role::Service => drop(row.data.remove("secretValue")),
        "container" | "instance" => host_access::overlay_sample(call, &mut row),
        "loadBalancerService" => host_access::overlay_traffic(call, &mut row),
        // A number without its type cannot be spelled.
        "auditLog" if row.get("resourceType").is_null() => drop(row.data.remove("resourceId")),
        _ => {}
    }
    Ok(row)
}

/// URL of a link that code answers; `None` when the row has none.
pub fn computed_link(call: &Call, schema: &Schema, link: &str, row: &AnyRow, id: &str) -> Option<Value> {
    let own = || Some(Value::String(call.urls.link(&schema.plural, id, link)));
    match (schema.name, link) {
        ("registrationToken", "registrationUrl") => keys::registration_url(call, row).ok().flatten().map(Value::String),
        ("auditLog", "resource") => (!row.get("resourceId").is_null()).then(own).flatten(),
        ("auditLog", "authenticatedAsIdentity") => {
            (!row.get("authenticatedAsIdentityId").is_null()).then(own).flatten()
        }
        ("project", "hostStats") => Some(Value::String(call.urls.inside(id).link("projects", id, link))),
        ("host", _) if row.meta.kind != "docker" && row.meta.kind != "sim" => None,
        _ => own(),
    }
}

/// What a link that code answers leads to.
pub fn follow_computed(
    read: &Read<'_>,
    call: &Call,
    schema: &Schema,
    row: &AnyRow,
    link: &str,
) -> Result<Option<Document>, Failure> {
    match (schema.name, link) {
        ("auditLog", "resource") => identities::audited_resource(read, call, row),
        ("auditLog", "authenticatedAsIdentity") => identities::audited_identity(read, call, row),
        (_, "stats" | "hostStats" | "containerStats") => host_access::stats(read, call, schema, row, link).map(Some),
        _ => Ok(None),
    }
}

/// A link that leads to an archive.
struct FileLink {
    of: &'static str,
    link: &'static str,
    file_name: &'static str,
    /// What is in it.
    make: fn(&Read<'_>, &Call, &AnyRow) -> Result<Vec<u8>, Failure>,
}

const FILE_LINKS: [FileLink; 2] = [
    FileLink { of: Stack::TYPE, link: "composeConfig", file_name: "compose.zip", make: stacks::archive },
    FileLink { of: ApiKey::TYPE, link: "certificate", file_name: "certificate.zip", make: keys::certificate },
];

/// What a link leads to that is a file; `None`: another thing was asked for.
pub fn file(read: &Read<'_>, call: &Call) -> Option<Result<Reply, Failure>> {
    let link = call.path.link.as_deref().filter(|_| !call.path.beyond)?;
    let schema = call.schema().ok()?;
    let asked = FILE_LINKS.iter().find(|file| schema.name == file.of && link.eq_ignore_ascii_case(file.link))?;
    Some(file_reply(read, call, schema, asked))
}

fn file_reply(read: &Read<'_>, call: &Call, schema: &'static Schema, asked: &FileLink) -> Result<Reply, Failure> {
    policy::decide(&call.principal, Act::Read, schema, None)?;
    let row = lookup::required(read, call, schema, call.path_number()?)?;
    let bytes = (asked.make)(read, call, &row)?;
    let content = Content::Bytes { content_type: "application/zip", bytes, file_name: Some(asked.file_name) };
    Ok(Reply { status: 200, content })
}

/// Whether an action that is no process is offered in the row's state.
pub fn handler_offered(schema: &Schema, row: &AnyRow, action: &str) -> bool {
    match (schema.base, action) {
        ("instance", "execute" | "proxy" | "console") => row.meta.state == "running",
        ("instance", "logs") => matches!(row.meta.state.as_str(), "running" | "stopping" | "stopped"),
        ("host", "dockersocket") => row.meta.is_live(),
        ("account", "setmembers" | "delete") => row.meta.is_live(),
        _ => row.meta.removed.is_none(),
    }
}
