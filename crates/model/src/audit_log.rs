//! Who did what (`resources-infra.md` §11.2).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::account::Account;

/// One thing somebody did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "auditLog", access(project = "r", user = "r", admin = "r", service = "r"))]
#[common(without(name, removed, state, uuid, transitioning))]
#[common(description(nullable, filter, max_length = 1024))]
#[extra_filters(runtime = "int")]
#[relation(resource, computed)]
#[relation(authenticatedAsIdentity, computed)]
pub struct AuditLog {
    /// How the caller authenticated.
    #[field(required, nullable, filter, max_length = 255, options = ["AdminAuth", "BasicAuth", "RegistrationToken", "TokenAccount", "TokenAuth"])]
    pub auth_type: Option<String>,
    /// Account the caller authenticated as.
    #[field(nullable, filter)]
    pub authenticated_as_account_id: Option<Id<Account>>,
    /// Identity the caller authenticated as.
    #[field(ty = "reference[identity]", nullable, filter)]
    pub authenticated_as_identity_id: Option<String>,
    /// Address of the caller.
    #[field(nullable, filter)]
    pub client_ip: Option<String>,
    /// What was done, like `api.container.create`.
    #[field(nullable, filter)]
    pub event_type: Option<String>,
    /// The request body, as text.
    #[field()]
    pub request_object: Option<String>,
    /// The resource it was done to.
    #[field(nullable, filter, id_of = "resourceType")]
    pub resource_id: Option<i64>,
    /// Type of that resource.
    #[field(nullable, filter)]
    pub resource_type: Option<String>,
    /// The answered HTTP status.
    #[field()]
    pub response_code: Option<String>,
    /// The answer, as text.
    #[field()]
    pub response_object: Option<String>,
}
