//! The audit log: one row per authenticated request that is no GET, whatever came of it (`access-control.md` §11).
//!
//! The row of a request that succeeded is written in the request's own transaction. Secrets are blanked: what a field's
//! declaration calls a password, and the names under which secrets travel.

use remuda_model::AuditLog;
use remuda_schema::row::Object;
use remuda_schema::{Id, Row, Schema, Schemas, Time, Type};
use remuda_store::Tx;
use serde_json::Value;

use crate::auth::Principal;
use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::action_name;
use crate::managers::identities;
use crate::request::Verb;

/// Types nobody wants a row for.
const NEVER: [&str; 15] = [
    "publish",
    "configContent",
    "externalHandler",
    "externalService",
    "hostApiProxyToken",
    "token",
    "scripts",
    "serviceEvent",
    "userPreference",
    "dynamicSchema",
    "containerEvent",
    "externalEvent",
    "externalServiceEvent",
    "externalVolumeEvent",
    "externalStoragePoolEvent",
];
/// Names under which secrets travel, beside fields declared as passwords.
const SECRET_NAMES: [&str; 8] =
    ["secretValue", "secretKey", "password", "token", "key", "oldSecret", "newSecret", "secret"];
/// Longest text of a body that is kept, bytes.
const MAX_TEXT: usize = 64 * 1024;

/// What a request came to.
pub struct Outcome<'o> {
    pub status: u16,
    pub body: Option<&'o Value>,
    pub resource_id: Option<i64>,
}

/// The row for a request; `None` for those that are never logged.
pub fn entry(call: &Call, outcome: &Outcome<'_>) -> Option<Row<AuditLog>> {
    let schema = call.path.type_name.as_deref().and_then(|name| call.find(name));
    let resource_type = schema.map_or("unknown", |schema| schema.name);
    if call.verb == Verb::Get || NEVER.contains(&resource_type) {
        return None;
    }
    let principal = &call.principal;
    let data = AuditLog {
        auth_type: Some(principal.auth_type.to_owned()),
        authenticated_as_account_id: Some(Id::new(principal.account_id)),
        authenticated_as_identity_id: identity(principal),
        client_ip: Some(call.client_ip.clone()),
        event_type: Some(event_type(call, resource_type)),
        request_object: text(call.schemas, &Value::Object(request(call, schema))),
        resource_id: outcome.resource_id,
        resource_type: Some(resource_type.to_owned()),
        response_code: Some(outcome.status.to_string()),
        response_object: outcome.body.and_then(|body| text(call.schemas, body)),
    };
    let mut row = Row::new(Some(principal.effective_id), "", data);
    row.meta.created = Time(call.now.0);
    Some(row)
}

/// Writes the row of a request that is being committed.
pub fn write(tx: &mut Tx<'_>, call: &Call, outcome: &Outcome<'_>) -> Result<(), Failure> {
    if let Some(row) = entry(call, outcome) {
        tx.insert(row)?;
    }
    Ok(())
}

fn identity(principal: &Principal) -> Option<String> {
    let id = identities::identity_id(principal.account_id);
    id.split_once('!').map(|(_, key)| key.to_owned())
}

fn event_type(call: &Call, resource_type: &str) -> String {
    let shown = match resource_type {
        "environment" => "stack",
        "project" => "environment",
        other => other,
    };
    let verb = match call.verb {
        Verb::Post => action_name(call).unwrap_or_else(|| "create".to_owned()),
        Verb::Put => "update".to_owned(),
        Verb::Delete => "delete".to_owned(),
        Verb::Get | Verb::Other => call.verb.name().to_ascii_lowercase(),
    };
    let verb: String = verb.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    format!("api.{shown}.{verb}")
}

/// The body of a request without what its type declares to be secret: few clients say the type in the body as well.
fn request(call: &Call, schema: Option<&Schema>) -> Object {
    let mut fields = call.input.clone();
    for (name, value) in fields.iter_mut().filter(|(_, value)| !value.is_null()) {
        let declared = schema.and_then(|schema| schema.fields.get(name.as_str()));
        if declared.is_some_and(|field| field.ty == Type::Password) {
            *value = Value::String(String::new());
        }
    }
    fields
}

/// The value as text, secrets blanked, no longer than is kept.
fn text(schemas: &Schemas, value: &Value) -> Option<String> {
    let mut value = value.clone();
    blank(schemas, &mut value);
    let mut text = value.to_string();
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    Some(text)
}

/// Blanks every secret in a value, whatever its depth.
pub fn blank(schemas: &Schemas, value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| blank(schemas, value)),
        Value::Object(fields) => {
            let declared = fields.get("type").and_then(Value::as_str).and_then(|name| schemas.get(name));
            for (name, value) in fields.iter_mut() {
                let is_password = declared
                    .and_then(|schema| schema.fields.get(name.as_str()))
                    .is_some_and(|field| field.ty == Type::Password || field.read_on_create_only);
                if is_password || SECRET_NAMES.contains(&name.as_str()) || name.starts_with("_") {
                    if !value.is_null() {
                        *value = Value::String(String::new());
                    }
                } else if matches!(name.as_str(), "registrationUrl" | "command") && has_token(value) {
                    *value = Value::String(String::new());
                } else {
                    blank(schemas, value);
                }
            }
        }
        _ => {}
    }
}

/// Registration URLs and commands carry the token inside.
fn has_token(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("/v1/scripts/"))
}

#[cfg(test)]
mod tests {
    use remuda_schema::Role;
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_blanked_at_any_depth() {
        let mut value = json!({
            "type": "apiKey", "publicValue": "P", "secretValue": "S",
            "data": [{"password": "S", "token": "S", "command": ["keep"], "nested": {"secretKey": "S"}}],
            "links": {"registrationUrl": "http://h/v1/scripts/S"}, "command": "curl http://h/v1/scripts/S | sh",
            "key": null,
        });
        blank(remuda_model::registry().schemas(Role::Project), &mut value);
        assert!(!value.to_string().contains('S'), "{value}");
        assert_eq!(value["publicValue"], "P");
        assert_eq!(value["data"][0]["command"], json!(["keep"]));
        assert_eq!(value["key"], Value::Null);
    }
}
