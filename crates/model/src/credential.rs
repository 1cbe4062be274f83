//! Keys: of people, of projects, of hosts that join, of agents (`resources.md` §2.5, `resources-infra.md` §1.1).

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};

use crate::machines;

/// The read-only union of all keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "credential", machine = machines::CREDENTIAL, access(project = "r", user = "r", admin = "cr", service = "cr"))]
#[action(activate, output = "credential")]
#[action(create, output = "credential")]
#[action(deactivate, output = "credential")]
#[action(purge, output = "credential")]
#[action(remove, output = "credential")]
#[action(update, output = "credential")]
#[extra_filters(registryId = "enum")]
pub struct Credential {
    /// The access key.
    #[field(nullable, filter, max_length = 4096, roles(admin = "cr", service = "cr"))]
    pub public_value: Option<String>,
    /// The secret key; shown once, when it is made.
    #[field(ty = "password", nullable, filter, max_length = 4096, roles(admin = "cr", service = "cr"))]
    pub secret_value: Option<String>,
    /// Hash of an API key's secret.
    #[field(hidden)]
    pub secret_hash: Option<String>,
    /// A secret we must reproduce, sealed with the key file.
    #[field(hidden)]
    pub sealed_secret: Option<String>,
}

/// A key pair for the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "apiKey", parent = "credential", machine = machines::CREDENTIAL, access(project = "crud", user = "crud", admin = "crud", service = "crud"))]
#[action(activate, output = "credential")]
#[action(create, output = "credential")]
#[action(deactivate, output = "credential")]
#[action(purge, output = "credential")]
#[action(remove, output = "credential")]
#[action(update, output = "credential")]
#[extra_filters(registryId = "enum")]
#[relation(certificate, computed)]
#[common(account_id(ty = "reference[account]", nullable, filter, roles(admin = "cr", service = "cr")))]
pub struct ApiKey {
    /// The access key.
    #[field(nullable, filter, max_length = 4096, roles(admin = "cr", service = "cr"))]
    pub public_value: Option<String>,
    /// The secret key; shown once, when it is made.
    #[field(
        ty = "password",
        nullable,
        read_on_create_only,
        filter,
        max_length = 4096,
        roles(admin = "cr", service = "cr")
    )]
    pub secret_value: Option<String>,
    /// Hash of an API key's secret.
    #[field(hidden)]
    pub secret_hash: Option<String>,
    /// A secret we must reproduce, sealed with the key file.
    #[field(hidden)]
    pub sealed_secret: Option<String>,
}

/// What lets a host join a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "registrationToken", parent = "credential", machine = machines::CREDENTIAL, access(project = "cr", user = "r", admin = "r", service = "cr"))]
#[action(activate, output = "credential")]
#[action(create, output = "credential")]
#[action(deactivate, output = "credential")]
#[action(purge, output = "credential")]
#[action(remove, output = "credential")]
#[action(update, output = "credential")]
#[extra_filters(registryId = "enum", secretValue = "string")]
#[relation(registrationUrl, computed)]
#[common(account_id(ty = "reference[account]", nullable, filter, roles(service = "cr")))]
pub struct RegistrationToken {
    /// The line to paste on a host to join it.
    #[field()]
    pub command: Option<String>,
    /// Image of the agent.
    #[field()]
    pub image: Option<String>,
    /// Address of the registration script.
    #[field()]
    pub registration_url: Option<String>,
    /// Name of the registration script.
    #[field()]
    pub token: Option<String>,
    /// Hash of an API key's secret.
    #[field(hidden)]
    pub secret_hash: Option<String>,
    /// A secret we must reproduce, sealed with the key file.
    #[field(hidden)]
    pub sealed_secret: Option<String>,
    /// First part of the token.
    #[field(hidden, filter, max_length = 4096)]
    pub public_value: Option<String>,
}

/// The key of an agent. Nobody sees it through the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "agentApiKey", parent = "credential", machine = machines::CREDENTIAL)]
pub struct AgentApiKey {
    /// The access key.
    #[field(nullable, hidden, filter, max_length = 4096)]
    pub public_value: Option<String>,
    /// Hash of the secret key.
    #[field(hidden)]
    pub secret_hash: Option<String>,
}
