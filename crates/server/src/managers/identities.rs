//! Identities: who a person is to an authentication provider (`access-control.md` §7.1). The one provider here is
//! ourselves: `rancher_id`, with the account's id.

use remuda_model::Account;
use remuda_schema::id::{Decoded, decode, encode, encode_key};
use remuda_schema::output::{self, Document, Secrets};
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Row, Schema, filter};
use remuda_store::{Op, Query as Select, Read, Scope};
use serde_json::{Value, json};

use crate::auth::RANCHER_ID;
use crate::call::Call;
use crate::failure::Failure;
use crate::render;

/// Kinds of accounts that stand for people.
const PEOPLE: [&str; 2] = ["admin", "user"];

/// The caller's own identities, or those a search finds.
pub fn list(read: &Read<'_>, call: &Call, schema: &Schema, asked: &filter::Query) -> Result<Document, Failure> {
    let search = asked.custom.first();
    let mut accounts: Vec<Row<Account>> = Vec::new();
    match search {
        None => accounts.extend(read.get::<Account>(&Scope::Everything, Id::new(call.principal.account_id))?),
        Some((how, text)) => {
            let live = Select::new().any_of("kind", PEOPLE).limit(100);
            let query = match *how {
                "all" => live.filter("name", Op::Like, format!("%{}%", escaped(text))),
                _ => live.eq("name", text.as_str()),
            };
            accounts.extend(read.list::<Account>(&Scope::Everything, &query)?);
        }
    }
    let data = accounts.iter().map(|account| identity(call, schema, account)).collect();
    Ok(render::plain_collection(call, schema, &call.urls.collection(&schema.plural), data))
}

/// One identity by `1i!type:externalId`, or by `type:externalId`.
pub fn one(read: &Read<'_>, call: &Call, schema: &Schema, id: &str) -> Result<Document, Failure> {
    let not_found = || Failure::from(ApiError::new(Code::NotFound));
    let Some(Decoded::Key(key)) = decode(id) else { return Err(not_found()) };
    let (ty, external_id) = key.split_once(':').ok_or_else(not_found)?;
    if ty != RANCHER_ID {
        return Err(ApiError::new(Code::InvalidIdentityType).into());
    }
    let account = find(read, external_id)?.ok_or_else(|| ApiError::new(Code::IdentityNotFound))?;
    Ok(identity(call, schema, &account))
}

/// The account an external id of ours names: `1a7`, or the bare number.
pub fn find(read: &Read<'_>, external_id: &str) -> Result<Option<Row<Account>>, Failure> {
    let number = match decode(external_id) {
        Some(Decoded::Number(number)) => Some(number),
        _ => external_id.parse().ok(),
    };
    let Some(number) = number else { return Ok(None) };
    let account: Option<Row<Account>> = read.get(&Scope::Everything, Id::new(number))?;
    Ok(account.filter(|account| account.meta.is_live() && PEOPLE.contains(&account.meta.kind.as_str())))
}

/// Id of our own identity of an account.
pub fn identity_id(account_id: i64) -> String {
    encode_key("identity", &format!("{RANCHER_ID}:{}", encode("account", account_id)))
}

fn identity(call: &Call, schema: &Schema, account: &Row<Account>) -> Document {
    let id = identity_id(account.meta.id);
    let login = account.meta.name.clone();
    let mut data = Object::new();
    data.insert("externalId".into(), encode("account", account.meta.id).into());
    data.insert("externalIdType".into(), RANCHER_ID.into());
    data.insert("name".into(), login.clone().into());
    data.insert("login".into(), login.into());
    let mut links = Object::new();
    links.insert("self".into(), call.urls.resource(&schema.plural, &id).into());
    output::value(call.schemas, schema, Value::String(id), &data, links, Object::new())
}

/// The link `authenticatedAsIdentity` of an audit log.
pub fn audited_identity(read: &Read<'_>, call: &Call, row: &AnyRow) -> Result<Option<Document>, Failure> {
    let Some(schema) = call.schemas.get("identity") else { return Ok(None) };
    let key = row.get("authenticatedAsIdentityId");
    match key.as_str().and_then(|key| key.split_once(':')) {
        Some((_, external_id)) => Ok(find(read, external_id)?.map(|account| identity(call, schema, &account))),
        None => Ok(None),
    }
}

/// The link `resource` of an audit log.
pub fn audited_resource(read: &Read<'_>, call: &Call, row: &AnyRow) -> Result<Option<Document>, Failure> {
    let (ty, number) = (row.get("resourceType"), row.get("resourceId"));
    let (Some(schema), Some(number)) = (ty.as_str().and_then(|ty| call.schemas.get(ty)), number.as_i64()) else {
        return Ok(None);
    };
    match crate::lookup::by_number(read, call, schema, number)? {
        Some(row) => Ok(Some(render::resource(call, schema, &row, Secrets::Masked)?)),
        None => Ok(None),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// The identity as the members of a project carry it.
pub fn as_json(account_id: i64) -> Value {
    json!(identity_id(account_id))
}
