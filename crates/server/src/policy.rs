//! What a caller may do: the one decision `(principal, act, type, row)`, denied by default (DESIGN §8), and the rows a
//! caller may see at all. Field visibility follows from the schema set of the caller's role.

use remuda_schema::{AnyRow, ApiError, Code, Role, Schema};
use remuda_store::Scope;

use crate::auth::{self, Principal};

/// What is asked of a type or of one row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'a> {
    List,
    Read,
    Create,
    Update,
    Delete,
    Action(&'a str),
}

/// Decides. The error is the answer the caller gets.
pub fn decide(principal: &Principal, act: Act<'_>, schema: &Schema, row: Option<&AnyRow>) -> Result<(), ApiError> {
    let allowed = match act {
        Act::List => schema.collection_allows("GET"),
        Act::Read => schema.resource_allows("GET"),
        Act::Create => schema.collection_allows("POST") && schema.name != "projectMember",
        Act::Update => schema.resource_allows("PUT"),
        Act::Delete => schema.resource_allows("DELETE"),
        Act::Action(name) => schema.action(name).is_some(),
    };
    let member_role = principal.member_role().unwrap_or("owner");
    if schema.name == "registrationToken" && is_limited(principal, member_role) {
        return Err(ApiError::new(Code::NotFound));
    }
    if !allowed || !member_may(principal, member_role, act, schema) {
        return Err(match act {
            Act::Action(_) => ApiError::field(Code::ActionNotAvailable, "action"),
            _ => ApiError::new(Code::MethodNotAllowed),
        });
    }
    match row {
        Some(row) => decide_row(principal, act, schema, row),
        None => Ok(()),
    }
}

/// Members with less than a member's rights.
fn is_limited(principal: &Principal, member_role: &str) -> bool {
    principal.role == Role::Project && !principal.is_administrator && matches!(member_role, "restricted" | "readonly")
}

fn member_may(principal: &Principal, member_role: &str, act: Act<'_>, schema: &Schema) -> bool {
    if !is_limited(principal, member_role) || matches!(act, Act::List | Act::Read) {
        return true;
    }
    match member_role {
        "readonly" => act == Act::Action("logs") && matches!(schema.name, "container" | "instance"),
        _ => !matches!(schema.base, "host" | "physicalHost"),
    }
}

fn decide_row(principal: &Principal, act: Act<'_>, schema: &Schema, row: &AnyRow) -> Result<(), ApiError> {
    if schema.base == "account" {
        return decide_account(principal, act, row);
    }
    let is_own = row.meta.account_id == Some(principal.effective_id)
        || row.meta.account_id.is_some() && row.meta.account_id == principal.resource_account_id;
    let is_public = row.get("isPublic") == true && matches!(act, Act::List | Act::Read);
    if is_own || is_public || sees_everything(principal) || is_member_row_of_mine(principal, act, schema, row) {
        Ok(())
    } else {
        Err(ApiError::new(Code::NotFound))
    }
}

/// Projects and other accounts: an inactive project is there for its owners only, and only they may change it.
fn decide_account(principal: &Principal, act: Act<'_>, row: &AnyRow) -> Result<(), ApiError> {
    let id = row.meta.id;
    let is_project = row.meta.kind == "project";
    let is_owner = is_project && principal.is_owner(id);
    let is_visible = sees_everything(principal)
        || id == principal.effective_id
        || is_owner
        || principal.memberships.contains_key(&id) && auth::is_active(&row.meta.state);
    if !is_visible {
        return Err(ApiError::new(Code::NotFound));
    }
    match act {
        Act::List | Act::Read | Act::Create => Ok(()),
        Act::Action(_) if is_project && !is_owner => Err(ApiError::field(Code::ActionNotAvailable, "action")),
        Act::Update if is_project && !is_owner => Err(ApiError::new(Code::NotFound)),
        Act::Delete if is_project && !is_owner => {
            Err(ApiError::new(Code::Forbidden).because("You must be a project owner to delete a project"))
        }
        Act::Action(_) | Act::Update | Act::Delete if !is_project && !principal.is_administrator => {
            Err(ApiError::field(Code::ActionNotAvailable, "action"))
        }
        Act::Update | Act::Delete | Act::Action(_) => Ok(()),
    }
}

fn is_member_row_of_mine(principal: &Principal, act: Act<'_>, schema: &Schema, row: &AnyRow) -> bool {
    schema.name == "projectMember"
        && matches!(act, Act::List | Act::Read)
        && row.get("projectId").as_i64().is_some_and(|id| principal.memberships.contains_key(&id))
}

/// Callers outside any project whose role reads every account.
pub fn sees_everything(principal: &Principal) -> bool {
    principal.role.all_accounts()
}

/// Rows of a type the caller may see. What the store is asked with; [`decide`] judges each row once more.
pub fn scope(principal: &Principal, base: &str) -> Scope {
    if sees_everything(principal) {
        return Scope::Everything;
    }
    match base {
        "account" => {
            let projects =
                if principal.role == Role::User { principal.memberships.keys().copied().collect() } else { vec![] };
            Scope::Rows([vec![principal.effective_id], projects].concat())
        }
        "agent" => Scope::Account(principal.effective_id),
        // Each row is held against the memberships by `decide`; the store knows nothing of those.
        "projectMember" if principal.role == Role::User => Scope::Everything,
        _ => Scope::Account(principal.owner_id()),
    }
}
