//! Who asks: from credentials to a [`Principal`], and from there to the account the request acts for
//! (`access-control.md` §2).
//!
//! With access control off (`--dev`) a request without credentials is the first administrator. A request with *wrong*
//! credentials is refused in every mode: a typing error must not become an administrator (DESIGN §11).

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_model::{Account, Agent, Credential, ProjectMember};
use remuda_schema::id::{Decoded, decode};
use remuda_schema::{ApiError, Code, Id, Role, Row};
use remuda_store::{Op, Query as Select, Read, Scope};

use crate::failure::Failure;
use crate::request::Query;
use remuda_store::{Seal, secret};

use crate::registration_token;

/// Kinds of credentials that HTTP Basic takes.
const KEY_KINDS: [&str; 2] = ["agentApiKey", "apiKey"];
/// The provider type of accounts that are ours.
pub const RANCHER_ID: &str = "rancher_id";

/// An authenticated caller, and what the request acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// How the caller authenticated, as the audit log names it.
    pub auth_type: &'static str,
    /// Row number of the account that authenticated.
    pub account_id: i64,
    /// Row number of the account the request acts for: the project when scoped.
    pub effective_id: i64,
    /// The schema set the request sees.
    pub role: Role,
    /// The account that authenticated may read any row and act as any project's owner.
    pub is_administrator: bool,
    /// Projects the caller is an active member of, with the role.
    pub memberships: BTreeMap<i64, String>,
    /// For agents: the project that owns what they report.
    pub resource_account_id: Option<i64>,
}

impl Principal {
    /// Whether the caller owns that project: may change it and its members.
    pub fn is_owner(&self, project_id: i64) -> bool {
        self.is_administrator || self.memberships.get(&project_id).is_some_and(|role| role == "owner")
    }

    /// Role in the project the request acts for, when the caller is a member there.
    pub fn member_role(&self) -> Option<&str> {
        self.memberships.get(&self.effective_id).map(String::as_str)
    }

    /// Whether the request acts for another account than the one that authenticated.
    pub fn is_scoped(&self) -> bool {
        self.account_id != self.effective_id
    }

    /// The account that new rows belong to.
    pub fn owner_id(&self) -> i64 {
        self.resource_account_id.unwrap_or(self.effective_id)
    }
}

/// What authentication looks at.
#[derive(Clone, Copy)]
pub struct Asked<'r> {
    pub headers: &'r HeaderMap,
    pub query: &'r Query,
    /// From `/v1/projects/{pid}/…`.
    pub path_project: Option<&'r str>,
    pub now_ms: i64,
    /// Access control is off.
    pub dev: bool,
    pub seal: &'r Seal,
    /// How long registration tokens are good for.
    pub registration_period_ms: i64,
}

/// Credentials as sent.
enum Sent {
    Nothing,
    Basic { user: String, password: String },
    Unusable,
}

/// Finds out who asks and for which account.
pub fn authenticate(read: &Read<'_>, asked: &Asked<'_>) -> Result<Principal, Failure> {
    let unauthorized = || Failure::from(ApiError::new(Code::Unauthorized));
    let open = asked.dev && !is_true(asked.headers, "x-enforce-authentication");
    let mut bearer_project = None;
    let principal = match sent(asked.headers) {
        Sent::Nothing if open => first_admin(read)?,
        // Python clients without keys send their idea of nothing.
        Sent::Basic { user, password } if open && user == password && matches!(user.as_str(), "" | "None") => {
            first_admin(read)?
        }
        Sent::Basic { user, .. } if is_bearer(&user) => {
            bearer_project = user.split_once('=').map(|(_, pid)| pid.to_owned());
            if !open {
                return Err(unauthorized());
            }
            first_admin(read)?
        }
        Sent::Basic { user, password } if user == "registrationToken" => {
            by_registration_token(read, asked, &password)?.ok_or_else(unauthorized)?
        }
        Sent::Basic { user, password } => by_key(read, &user, &password)?.ok_or_else(unauthorized)?,
        Sent::Nothing | Sent::Unusable => return Err(unauthorized()),
    };
    scoped(read, asked, principal, bearer_project.as_deref())
}

fn sent(headers: &HeaderMap) -> Sent {
    let Some(header) = headers.get("authorization") else { return Sent::Nothing };
    let basic = header.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, encoded)| {
        scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()).ok()).flatten()
    });
    let text = basic.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.contains('\0'));
    match text.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => Sent::Basic { user: user.to_owned(), password: password.to_owned() },
        None => Sent::Unusable,
    }
}

fn is_bearer(user: &str) -> bool {
    user.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("x-api-bearer"))
}

fn is_true(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Active, or being changed while active.
pub fn is_active(state: &str) -> bool {
    matches!(state, "active" | "updating-active")
}

fn first_admin(read: &Read<'_>) -> Result<Principal, Failure> {
    let query = Select::new().eq("kind", "admin").eq("state", "active");
    let admin: Option<Row<Account>> = read.first(&Scope::Everything, &query)?;
    match admin {
        Some(admin) => principal(read, &admin, "AdminAuth")?.ok_or_else(|| ApiError::new(Code::Unauthorized).into()),
        None => Err(ApiError::new(Code::Unauthorized).into()),
    }
}

fn by_key(read: &Read<'_>, user: &str, password: &str) -> Result<Option<Principal>, Failure> {
    let query = Select::new().eq("publicValue", user).any_of("kind", KEY_KINDS).eq("state", "active");
    let keys: Vec<Row<Credential>> = read.list(&Scope::Everything, &query)?;
    for key in keys {
        let is_right = key.data.secret_hash.as_deref().is_some_and(|stored| secret::verify(stored, password));
        if let (true, Some(account_id)) = (is_right, key.meta.account_id) {
            let account: Option<Row<Account>> = read.get(&Scope::Everything, Id::new(account_id))?;
            return match account {
                Some(account) => principal(read, &account, "BasicAuth"),
                None => Ok(None),
            };
        }
    }
    Ok(None)
}

fn by_registration_token(read: &Read<'_>, asked: &Asked<'_>, token: &str) -> Result<Option<Principal>, Failure> {
    let found = registration_account(read, asked.seal, token, asked.now_ms, asked.registration_period_ms)?;
    Ok(found.map(|account_id| Principal {
        auth_type: "RegistrationToken",
        account_id,
        effective_id: account_id,
        role: Role::Register,
        is_administrator: false,
        memberships: BTreeMap::new(),
        resource_account_id: None,
    }))
}

/// The account a registration token registers for, if the token is good.
pub fn registration_account(
    read: &Read<'_>,
    seal: &Seal,
    token: &str,
    now_ms: i64,
    period_ms: i64,
) -> Result<Option<i64>, Failure> {
    let Some((public_value, ..)) = registration_token::parts(token) else { return Ok(None) };
    let query = Select::new().eq("publicValue", public_value).eq("kind", "registrationToken").eq("state", "active");
    let Some(row) = read.first::<Credential>(&Scope::Everything, &query)? else { return Ok(None) };
    let (Some(sealed), Some(account_id)) = (&row.data.sealed_secret, row.meta.account_id) else { return Ok(None) };
    let secret = seal.open(sealed)?;
    if !registration_token::is_good(token, &secret, now_ms, period_ms) {
        return Ok(None);
    }
    let account: Option<Row<Account>> = read.get(&Scope::Everything, Id::new(account_id))?;
    Ok(account.filter(|account| is_active(&account.meta.state)).map(|_| account_id))
}

/// The principal of an account; `None` when the account may not act.
fn principal(read: &Read<'_>, account: &Row<Account>, auth_type: &'static str) -> Result<Option<Principal>, Failure> {
    let Some(role) = role_of(&account.meta.kind).filter(|_| is_active(&account.meta.state)) else { return Ok(None) };
    let account_id = account.meta.id;
    let is_person = matches!(role, Role::Admin | Role::User);
    let memberships = if is_person { memberships(read, account_id)? } else { BTreeMap::new() };
    let resource_account_id = if role == Role::Agent { agent_project(read, account_id)? } else { None };
    Ok(Some(Principal {
        auth_type,
        account_id,
        effective_id: account_id,
        role,
        is_administrator: role.all_accounts(),
        memberships,
        resource_account_id,
    }))
}

/// The schema set of an account kind; kinds without one have no rights.
pub fn role_of(kind: &str) -> Option<Role> {
    Some(match kind {
        "admin" => Role::Admin,
        "user" => Role::User,
        "project" => Role::Project,
        "service" | "superadmin" => Role::Service,
        "agent" | "registeredAgent" => Role::Agent,
        _ => return None,
    })
}

fn memberships(read: &Read<'_>, account_id: i64) -> Result<BTreeMap<i64, String>, Failure> {
    let query = Select::new().eq("externalId", account_id.to_string()).eq("externalIdType", RANCHER_ID).filter(
        "state",
        Op::In,
        vec!["active", "activating", "registering", "updating-active"],
    );
    let rows: Vec<Row<ProjectMember>> = read.list(&Scope::Everything, &query)?;
    let mut found = BTreeMap::new();
    for row in rows {
        if let (Some(project), Some(role)) = (row.data.project_id, &row.data.role) {
            let best = found.entry(project.number()).or_insert_with(|| role.clone());
            if priority(role) < priority(best) {
                *best = role.clone();
            }
        }
    }
    Ok(found)
}

/// Of several memberships the strongest counts.
fn priority(role: &str) -> u8 {
    match role {
        "owner" => 0,
        "member" => 1,
        "restricted" => 2,
        _ => 3,
    }
}

fn agent_project(read: &Read<'_>, account_id: i64) -> Result<Option<i64>, Failure> {
    let agent: Option<Row<Agent>> = read.first(&Scope::Everything, &Select::new().eq("accountId", account_id))?;
    Ok(agent.and_then(|agent| agent.data.resource_account_id).map(|id| id.number()))
}

/// The same caller acting for the account the request names, if it names one.
fn scoped(
    read: &Read<'_>,
    asked: &Asked<'_>,
    principal: Principal,
    bearer_project: Option<&str>,
) -> Result<Principal, Failure> {
    let forbidden = || Failure::from(ApiError::new(Code::Forbidden));
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let named = asked
        .path_project
        .or_else(|| header("x-api-project-id"))
        .or_else(|| asked.query.get("projectId"))
        .or(bearer_project);
    let wanted = match (named, header("x-api-client-access-key")) {
        (Some(id), _) => match decode(id.trim()) {
            Some(Decoded::Number(number)) => number,
            _ => return Err(forbidden()),
        },
        (None, Some(key)) => {
            let query = Select::new().eq("publicValue", key).any_of("kind", KEY_KINDS).eq("state", "active");
            let key: Option<Row<Credential>> = read.first(&Scope::Everything, &query)?;
            key.and_then(|key| key.meta.account_id).ok_or_else(forbidden)?
        }
        (None, None) => return Ok(principal),
    };
    if wanted == principal.effective_id {
        return Ok(principal);
    }
    if !principal.is_administrator && !principal.memberships.contains_key(&wanted) {
        return Err(forbidden());
    }
    let account: Row<Account> = read.get(&Scope::Everything, Id::new(wanted))?.ok_or_else(forbidden)?;
    match role_of(&account.meta.kind) {
        Some(role) if is_active(&account.meta.state) => {
            let role = if role.all_accounts() { principal.role } else { role };
            Ok(Principal { effective_id: wanted, role, ..principal })
        }
        _ => Err(forbidden()),
    }
}
