//! Projects and their members (`access-control.md` §8).

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::{Project, ProjectMember};
use remuda_schema::id::encode;
use remuda_schema::output::{Document, Secrets};
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Row, Schema, Time};
use remuda_store::{Op, Query as Select, Read, Scope, Tx};
use serde_json::Value;

use crate::auth::RANCHER_ID;
use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::Written;
use crate::lookup;
use crate::managers::identities;
use crate::policy;
use crate::render;

/// The caller's projects; every project with `?all=true` for those who may; inside a project just that one.
/// No filters, no sort, no pages, except `uuid` and, because clients send it, `name`.
pub fn list(read: &Read<'_>, call: &Call, schema: &Schema) -> Result<Document, Failure> {
    let principal = &call.principal;
    let mut query = Select::new().eq("kind", "project").visibility(call.listed());
    for name in ["uuid", "name"] {
        for value in call.query.all(name) {
            query = query.eq(name, value);
        }
    }
    let everything = principal.is_administrator && !principal.is_scoped();
    let scope = if everything && call.query.is_true("all") {
        Scope::Everything
    } else if everything {
        Scope::Rows(principal.memberships.keys().copied().collect())
    } else {
        policy::scope(principal, schema.base)
    };
    let Some(def) = call.def(schema.name) else { return Err(Failure::internal("projects are not declared")) };
    let rows = read.list_any(def, &scope, &query)?;
    let data = lookup::readable(call, schema, rows)
        .map(|row| render::resource(call, schema, &row, Secrets::Masked))
        .collect::<Result<_, _>>()?;
    Ok(render::plain_collection(call, schema, &call.urls.collection(&schema.plural), data))
}

/// Active members of the projects the caller can see, or of the one named.
pub fn member_list(read: &Read<'_>, call: &Call, schema: &Schema) -> Result<Document, Failure> {
    let mut query = Select::new().eq("state", "active");
    if call.principal.is_scoped() {
        query = query.eq("projectId", call.principal.effective_id);
    }
    let Some(def) = call.def(schema.name) else { return Err(Failure::internal("members are not declared")) };
    let rows = read.list_any(def, &policy::scope(&call.principal, schema.base), &query)?;
    let data = lookup::readable(call, schema, rows)
        .map(|row| render::resource(call, schema, &row, Secrets::Masked))
        .collect::<Result<_, _>>()?;
    Ok(render::plain_collection(call, schema, &call.urls.collection(&schema.plural), data))
}

/// Our own identities are stored as numbers and shown as account ids.
pub fn member_decorate(row: &mut AnyRow) {
    if row.get("externalIdType") == RANCHER_ID
        && let Some(number) = row.get("externalId").as_str().and_then(|text| text.parse::<i64>().ok())
    {
        row.data.insert("externalId".into(), encode("account", number).into());
    }
}

/// A member as asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    ty: String,
    external_id: String,
    role: String,
}

/// Takes the members out of the fields and checks their form; they become rows of their own in [`created`].
pub fn create(call: &Call, fields: &mut Object) -> Result<Object, Failure> {
    if call.principal.is_scoped() || call.principal.role == remuda_schema::Role::Project {
        return Err(ApiError::new(Code::Forbidden).into());
    }
    fields.remove("members");
    match call.input.get("members") {
        Some(Value::Array(members)) if !members.is_empty() => drop(wanted(members)?),
        _ => {}
    }
    Ok(Object::new())
}

/// Writes the members of a new project: those asked for, else its maker as owner.
pub fn created(tx: &mut Tx<'_>, call: &Call, row: &AnyRow) -> Result<(), Failure> {
    let members = match call.input.get("members") {
        Some(Value::Array(members)) if !members.is_empty() => {
            wanted(members)?.into_iter().map(|member| known(tx, member)).collect::<Result<BTreeSet<_>, _>>()?
        }
        _ => BTreeSet::from([Wanted {
            ty: RANCHER_ID.to_owned(),
            external_id: call.principal.account_id.to_string(),
            role: "owner".to_owned(),
        }]),
    };
    for member in members {
        tx.insert(member_row(row.meta.id, member, call.now))?;
    }
    Ok(())
}

/// Replaces the members of a project. Those that stay keep their rows. Looks at the body itself: the checked input has
/// defaults where the original wants every value said.
pub fn set_members(tx: &mut Tx<'_>, call: &Call, row: &AnyRow) -> Result<Written, Failure> {
    let project_id = row.meta.id;
    let members = match call.input.get("members") {
        Some(Value::Array(members)) if !members.is_empty() => members,
        _ => return Err(ApiError::field(Code::MissingRequired, "members").into()),
    };
    let wanted = wanted(members)?.into_iter().map(|member| known(tx, member)).collect::<Result<BTreeSet<_>, _>>()?;
    let query = Select::new().eq("projectId", project_id).filter("state", Op::Eq, "active");
    let present: Vec<Row<ProjectMember>> = tx.list(&Scope::Everything, &query)?;
    let mut kept = BTreeMap::new();
    for mut member in present {
        let is = Wanted {
            ty: member.data.external_id_type.clone().unwrap_or_default(),
            external_id: member.data.external_id.clone().unwrap_or_default(),
            role: member.data.role.clone().unwrap_or_default(),
        };
        if wanted.contains(&is) && !kept.contains_key(&is) {
            kept.insert(is, member);
        } else {
            member.meta.enter("removed");
            member.meta.removed = Some(call.now);
            member.meta.remove_time = Some(call.now);
            tx.update(&mut member)?;
        }
    }
    let mut rows = Vec::new();
    for member in wanted {
        rows.push(match kept.remove(&member) {
            Some(row) => row,
            None => tx.insert(member_row(project_id, member, call.now))?,
        });
    }
    let schema = call.schemas.get("projectMember").ok_or_else(|| ApiError::new(Code::NotFound))?;
    let mut data = Vec::with_capacity(rows.len());
    for row in rows {
        data.push(render::resource(call, schema, &row.to_any()?, Secrets::Masked)?);
    }
    let url = call.urls.link("projects", &encode("account", project_id), "projectMembers");
    Ok(Written {
        status: 200,
        document: Some(render::plain_collection(call, schema, &url, data)),
        resource_type: "project",
        resource_id: Some(project_id),
    })
}

/// Checks a list of members as sent: each with all three values, at least one owner.
fn wanted(members: &[Value]) -> Result<BTreeSet<Wanted>, ApiError> {
    let malformed = |why: &str| ApiError::field(Code::InvalidFormat, "members").with_status(400).because(why);
    let mut found = BTreeSet::new();
    for member in members {
        let text = |name: &str| match member.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            _ => Err(malformed("a member has `externalId`, `externalIdType` and `role`")),
        };
        let member = Wanted { ty: text("externalIdType")?, external_id: text("externalId")?, role: text("role")? };
        if !matches!(member.role.as_str(), "owner" | "member" | "readonly" | "restricted") {
            return Err(ApiError::field(Code::InvalidOption, "role"));
        }
        found.insert(member);
    }
    if found.iter().any(|member| member.role == "owner") {
        Ok(found)
    } else {
        Err(malformed("a project has at least one owner"))
    }
}

/// The member with the id as it is stored; identities nobody has are 404.
fn known(read: &Read<'_>, member: Wanted) -> Result<Wanted, Failure> {
    if member.ty != RANCHER_ID {
        return Err(ApiError::new(Code::InvalidIdentityType).into());
    }
    match identities::find(read, &member.external_id)? {
        Some(account) => Ok(Wanted { external_id: account.meta.id.to_string(), ..member }),
        None => Err(ApiError::new(Code::IdentityNotFound).into()),
    }
}

fn member_row(project_id: i64, member: Wanted, now: Time) -> Row<ProjectMember> {
    let data = ProjectMember {
        external_id: Some(member.external_id),
        external_id_type: Some(member.ty),
        project_id: Some(Id::<Project>::new(project_id)),
        role: Some(member.role),
    };
    let mut row = Row::new(Some(project_id), "active", data);
    row.meta.created = now;
    row
}

/// The row of an owner, for projects made at the first start.
pub fn owner_row(project_id: i64, account_id: i64, now: Time) -> Row<ProjectMember> {
    let owner = Wanted { ty: RANCHER_ID.to_owned(), external_id: account_id.to_string(), role: "owner".to_owned() };
    member_row(project_id, owner, now)
}
