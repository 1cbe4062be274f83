//! Secrets: sealed as they come, never shown, given to the hosts of their project (DESIGN §4).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use remuda_model::secret::MAX_BYTES;
use remuda_model::{Secret, Service};
use remuda_orchestrator::commands::Context;
use remuda_schema::output::Secrets;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Resource, Row, Schema};
use remuda_store::{Query, Scope, Tx};
use ring::hmac;
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::Written;
use crate::lookup;
use crate::policy::{self, Act};
use crate::render;

/// POST: one of that name, stack and value is given back as it is, so that whoever sends the same again changes
/// nothing.
pub fn create(
    tx: &mut Tx<'_>,
    call: &Call,
    schema: &'static Schema,
    fields: &Object,
    context: &Context,
) -> Result<Written, Failure> {
    let invalid = |code, why: &str| Failure::from(ApiError::field(code, "value").because(why));
    let value = fields.get("value").and_then(Value::as_str).unwrap_or_default();
    let value = BASE64_STANDARD.decode(value).map_err(|_| invalid(Code::InvalidFormat, "`value` is not base64"))?;
    if value.len() > MAX_BYTES {
        return Err(invalid(Code::MaxLengthExceeded, &format!("a secret has at most {MAX_BYTES} bytes")));
    }
    let account = context.account_id;
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    let environment_id = fields.get("environmentId").and_then(Value::as_i64).map(Id::new);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &call.server.seal.derived("secret fingerprints"));
    let tag = hmac::sign(&key, &[account.to_string().as_bytes(), b"\n", &value].concat());
    let fingerprint: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let named: Vec<Row<Secret>> = tx.list(&Scope::Account(account), &Query::new().eq("name", name))?;
    let same = |row: &Row<Secret>| {
        row.data.environment_id == environment_id && row.data.fingerprint.as_deref() == Some(fingerprint.as_str())
    };
    let (status, row) = match named.into_iter().find(same) {
        Some(row) => (200, row),
        None => {
            let sealed_value = Some(call.server.seal.seal(&value));
            let data = Secret { environment_id, sealed_value, fingerprint: Some(fingerprint), value: None };
            let mut row = Row::new(Some(account), "active", data);
            row.meta.name = Some(name.to_owned());
            row.meta.description = fields.get("description").and_then(Value::as_str).map(str::to_owned);
            row.meta.created = call.now;
            (201, tx.insert(row)?)
        }
    };
    let document = render::resource(call, schema, &row.to_any()?, Secrets::Masked)?;
    Ok(Written { status, document: Some(document), resource_type: Secret::TYPE, resource_id: Some(row.meta.id) })
}

/// DELETE: refused while a service names it.
pub fn remove(tx: &mut Tx<'_>, call: &Call, schema: &'static Schema) -> Result<Written, Failure> {
    policy::decide(&call.principal, Act::Delete, schema, None)?;
    let row = lookup::required(tx, call, schema, call.path_number()?)?;
    policy::decide(&call.principal, Act::Delete, schema, Some(&row))?;
    let id: Id<Secret> = Id::new(row.meta.id);
    let scope = row.meta.account_id.map_or(Scope::Everything, Scope::Account);
    let uses = |service: &Row<Service>| {
        let configs = service.launch_configs();
        configs.iter().any(|(_, config)| config.secrets.iter().flatten().any(|it| it.secret_id == Some(id)))
    };
    if let Some(service) = tx.list::<Service>(&scope, &Query::new())?.iter().find(|row| uses(row)) {
        let name = service.meta.name.as_deref().unwrap_or_default();
        return Err(ApiError::new(Code::Conflict).because(format!("service `{name}` uses this secret")).into());
    }
    let document = render::resource(call, schema, &row, Secrets::Masked)?;
    delete(tx, call, row.meta.id)?;
    Ok(Written { status: 200, document: Some(document), resource_type: Secret::TYPE, resource_id: Some(row.meta.id) })
}

/// With a stack go the secrets that came with it.
pub fn stack_removed(tx: &mut Tx<'_>, call: &Call, stack: &AnyRow) -> Result<(), Failure> {
    let query = Query::new().eq("environmentId", stack.meta.id);
    for row in tx.list::<Secret>(&Scope::Everything, &query)? {
        delete(tx, call, row.meta.id)?;
    }
    Ok(())
}

fn delete(tx: &mut Tx<'_>, call: &Call, id: i64) -> Result<(), Failure> {
    let def = call.def(Secret::TYPE).ok_or_else(|| Failure::internal("secrets are not declared"))?;
    tx.delete_any(def, id)?;
    Ok(())
}
