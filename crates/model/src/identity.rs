//! A person or group as an authentication provider knows it (`resources.md` §2.4).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::project::Project;

/// A person or group as an authentication provider knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "identity",
    plural = "identities",
    no_rows,
    access(project = "r", user = "r", admin = "r", service = "r")
)]
#[common(without(account_id, created, description, kind, removed, state, uuid, transitioning))]
#[common(name(create, nullable, eq_filter, no_max_length, transform = ""), id(ty = "string", nullable, transform = ""))]
pub struct Identity {
    /// Fuzzy search text.
    #[field(create, nullable, eq_filter, no_max_length, transform = "")]
    pub all: Option<String>,
    /// Id at Docker, or whatever made the resource.
    #[field(create, required, transform = "")]
    pub external_id: Option<String>,
    /// Which authentication provider.
    #[field(create, required, transform = "")]
    pub external_id_type: Option<String>,
    /// Login name.
    #[field(create, nullable, transform = "")]
    pub login: Option<String>,
    /// Picture.
    #[field(create, nullable, transform = "")]
    pub profile_picture: Option<String>,
    /// Web page.
    #[field(create, nullable, transform = "")]
    pub profile_url: Option<String>,
    /// Project it belongs to.
    #[field(create, nullable, transform = "")]
    pub project_id: Option<Id<Project>>,
    /// Role in the project.
    #[field(create, nullable, transform = "")]
    pub role: Option<String>,
}
