//! Who belongs to a project (`resources.md` §2.3).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::project::Project;

/// Somebody who belongs to a project, and in which role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "projectMember", machine = machines::DEFAULT, access(project = "r", user = "cr", admin = "cr", service = "r"))]
#[common(hidden(account_id))]
#[common(name(nullable, filter))]
#[action(activate, output = "projectMember")]
#[action(create, output = "projectMember")]
#[action(deactivate, output = "projectMember")]
#[action(purge, output = "projectMember")]
#[action(remove, output = "projectMember")]
#[action(restore, output = "projectMember")]
#[action(update, output = "projectMember")]
pub struct ProjectMember {
    /// Id at Docker, or whatever made the resource.
    #[field(create, nullable, filter)]
    pub external_id: Option<String>,
    /// Which authentication provider.
    #[field(create, nullable, filter, max_length = 255, default = "rancher_id", options = ["github_user", "github_org", "github_team", "rancher_id", "ldap_user", "ldap_group", "openldap_user", "openldap_group"])]
    pub external_id_type: Option<String>,
    /// Project it belongs to.
    #[field(filter)]
    pub project_id: Option<Id<Project>>,
    /// Role in the project.
    #[field(create, nullable, filter, max_length = 255, default = "member", options = ["member", "owner", "readonly", "restricted"])]
    pub role: Option<String>,
}
