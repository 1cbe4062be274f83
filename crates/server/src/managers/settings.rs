//! `setting` and `activeSetting`: one storage, known by name (`access-control.md` §12).

use remuda_model::Setting;
use remuda_schema::id::{Decoded, decode, encode, encode_key};
use remuda_schema::output::{self, Document};
use remuda_schema::row::Object;
use remuda_schema::{ApiError, Code, Id, Row, Schema};
use remuda_store::{Query, Read, Scope, Tx};
use serde_json::Value;

use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::Written;
use crate::policy::{self, Act};
use crate::render;
use crate::settings::{self, Known};

/// Longest name and value.
const MAX_NAME: usize = 255;

/// All settings the caller may see, by name; filters do not narrow it.
pub fn list(read: &Read<'_>, call: &Call, schema: &Schema) -> Result<Document, Failure> {
    let rows = settings::rows(read)?;
    let public = call.server.settings.public(&call.settings);
    let sees_all = policy::sees_everything(&call.principal)
        && call.query.get("all").is_none_or(|all| !all.eq_ignore_ascii_case("false"));
    let known = call.server.settings.all(&rows);
    let data = known.iter().filter(|known| sees_all || public.contains(&known.name)).map(|known| active(call, known));
    let url = call.urls.collection(&schema.plural);
    let data = data.collect();
    Ok(render::plain_collection(call, schema, &url, data))
}

/// One setting by name, `1as!name` or the number of its row.
pub fn one(read: &Read<'_>, call: &Call, id: &str) -> Result<Document, Failure> {
    let (name, row) = find(read, call, id)?;
    let is_admin = policy::sees_everything(&call.principal);
    let is_public = name.as_ref().is_some_and(|name| call.server.settings.public(&call.settings).contains(name));
    if !is_admin && !is_public {
        return Err(ApiError::new(Code::NotFound).into());
    }
    // An administrator asking for a name that nobody has set is told so, not turned away.
    let known = call.server.settings.known(name.as_deref().unwrap_or(id), row.as_ref());
    Ok(active(call, &known))
}

/// Name and row of an id.
fn find(read: &Read<'_>, call: &Call, id: &str) -> Result<(Option<String>, Option<Row<Setting>>), Failure> {
    match decode(id) {
        Some(Decoded::Number(number)) => {
            let row: Option<Row<Setting>> = read.get(&Scope::Everything, Id::new(number))?;
            Ok((row.as_ref().and_then(|row| row.meta.name.clone()), row))
        }
        Some(Decoded::Key(name)) if settings::is_listed(&name) => {
            let row = by_name(read, &name)?;
            let exists = row.is_some() || call.server.settings.value(&call.settings, &name).is_some();
            let is_admin = policy::sees_everything(&call.principal);
            Ok(((exists || is_admin).then_some(name), row))
        }
        _ => Err(ApiError::new(Code::NotFound).into()),
    }
}

fn by_name(read: &Read<'_>, name: &str) -> Result<Option<Row<Setting>>, Failure> {
    Ok(read.first(&Scope::Everything, &Query::new().eq("name", name))?)
}

/// As `activeSetting`, which is what reading answers.
fn active(call: &Call, known: &Known) -> Document {
    let id = match known.row_id {
        Some(number) => encode("activeSetting", number),
        None => encode_key("activeSetting", &known.name),
    };
    document(call, "activeSetting", &id, known)
}

fn document(call: &Call, type_name: &str, id: &str, known: &Known) -> Document {
    let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
    let mut data = Object::new();
    data.insert("name".into(), known.name.clone().into());
    data.insert("value".into(), text(if known.stored.is_some() { &known.stored } else { &known.active }));
    data.insert("activeValue".into(), text(&known.active));
    data.insert("source".into(), known.source.map_or(Value::Null, Value::from));
    data.insert("inDb".into(), known.row_id.is_some().into());
    let Some(schema) = call.schemas.get(type_name) else { return render::value(call, type_name, &data) };
    let mut links = Object::new();
    links.insert("self".into(), call.urls.resource(&schema.plural, id).into());
    output::value(call.schemas, schema, Value::String(id.to_owned()), &data, links, Object::new())
}

/// POST: makes the row, or writes the one of that name.
pub fn create(tx: &mut Tx<'_>, call: &Call, fields: &Object) -> Result<Written, Failure> {
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::field(Code::MissingRequired, "name").into());
    }
    let row = store(tx, call, name, fields.get("value"))?;
    let known = call.server.settings.known(name, Some(&row));
    written(201, document(call, "setting", &encode("setting", row.meta.id), &known), row.meta.id)
}

/// PUT: stores the value under the name.
pub fn update(tx: &mut Tx<'_>, call: &Call, schema: &Schema) -> Result<Written, Failure> {
    policy::decide(&call.principal, Act::Update, schema, None)?;
    let (name, _) = find(tx, call, call.path.id.as_deref().unwrap_or_default())?;
    let name = name.ok_or_else(|| ApiError::new(Code::NotFound))?;
    let row = store(tx, call, &name, call.input.get("value"))?;
    let known = call.server.settings.known(&name, Some(&row));
    written(200, active(call, &known), row.meta.id)
}

/// DELETE: the default holds again.
pub fn remove(tx: &mut Tx<'_>, call: &Call, schema: &Schema) -> Result<Written, Failure> {
    policy::decide(&call.principal, Act::Delete, schema, None)?;
    let (name, row) = find(tx, call, call.path.id.as_deref().unwrap_or_default())?;
    let name = name.ok_or_else(|| ApiError::new(Code::NotFound))?;
    let id = row.as_ref().map_or(0, |row| row.meta.id);
    if let (Some(row), Some(def)) = (row, call.def("setting")) {
        tx.delete_any(def, row.meta.id)?;
    }
    written(200, active(call, &call.server.settings.known(&name, None)), id)
}

fn store(tx: &mut Tx<'_>, call: &Call, name: &str, value: Option<&Value>) -> Result<Row<Setting>, Failure> {
    if !settings::is_listed(name) {
        return Err(ApiError::field(Code::InvalidCharacters, "name")
            .because("names of settings begin with a lower-case letter")
            .into());
    }
    if name.len() > MAX_NAME {
        return Err(ApiError::field(Code::MaxLengthExceeded, "name").into());
    }
    if call.server.settings.is_fixed(name) {
        return Err(ApiError::new(Code::MethodNotAllowed)
            .detailed(format!("`{name}` follows from how the server was started and cannot be set"))
            .into());
    }
    let value = match value {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => None,
        Some(Value::Array(_) | Value::Object(_)) => return Err(ApiError::field(Code::InvalidFormat, "value").into()),
        Some(other) => Some(other.to_string()),
    };
    if value.as_ref().is_some_and(|value| value.chars().count() > 1024) {
        return Err(ApiError::field(Code::MaxLengthExceeded, "value").into());
    }
    match by_name(tx, name)? {
        Some(mut row) => {
            row.data.value = value;
            tx.update(&mut row)?;
            Ok(row)
        }
        None => {
            let mut row = Row::new(None, "active", Setting { value, ..Setting::default() });
            row.meta.name = Some(name.to_owned());
            Ok(tx.insert(row)?)
        }
    }
}

fn written(status: u16, document: Document, row_id: i64) -> Result<Written, Failure> {
    Ok(Written { status, document: Some(document), resource_type: "setting", resource_id: Some(row_id) })
}
