//! A host's request for keys of its own (`resources-infra.md` §1.3).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::machines;

/// The request of a host for keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "register", plural = "register", machine = machines::DEFAULT, access(project = "cr", user = "r", admin = "r", service = "cr", register = "crd"))]
#[action(activate, output = "genericObject")]
#[action(create, output = "genericObject")]
#[action(deactivate, output = "genericObject")]
#[action(purge, output = "genericObject")]
#[action(remove, output = "genericObject")]
#[action(restore, output = "genericObject")]
#[action(update, output = "genericObject")]
#[extra_filters(token = "enum")]
pub struct Register {
    /// Access key for the agent; shown to who asks by key.
    #[field()]
    pub access_key: Option<String>,
    /// Random key the host made for itself.
    #[field(create, required, nullable, filter)]
    pub key: Option<String>,
    /// Secret key for the agent; shown to who asks by key.
    #[field()]
    pub secret_key: Option<String>,
    /// The agent made for this key.
    #[field(hidden)]
    pub agent_id: Option<Id<Agent>>,
    /// Secret key of the agent, sealed, until the host has fetched it.
    #[field(hidden)]
    pub sealed_secret: Option<String>,
}
