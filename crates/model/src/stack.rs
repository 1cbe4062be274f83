//! A named group of services, `environment` on the wire (`services.md` §1.1).

use std::collections::BTreeMap;

use remuda_schema::row::Object;
use remuda_schema::{Id, Nested, Resource, Time};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::service::Service;

/// A named group of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "environment", machine = machines::STACK, access(project = "crud", user = "r", admin = "r", service = "crud"))]
#[common(name(
    create,
    update,
    required,
    nullable,
    filter,
    max_length = 63,
    min_length = 1,
    valid_chars = "a-zA-Z0-9-",
    schedules_update
))]
#[action(activateservices, output = "environment")]
#[action(addoutputs, input = "addOutputsInput", output = "environment")]
#[action(cancelrollback, output = "environment")]
#[action(cancelupgrade, output = "environment")]
#[action(create, output = "environment")]
#[action(deactivateservices, output = "environment")]
#[action(error, output = "environment")]
#[action(exportconfig, input = "composeConfigInput", output = "composeConfig")]
#[action(finishupgrade, output = "environment")]
#[action(remove, output = "environment")]
#[action(rollback, output = "environment")]
#[action(update, output = "environment")]
#[action(upgrade, input = "environmentUpgrade", output = "environment")]
#[relation(services, children(of = "service", by = "environmentId"))]
#[relation(composeConfig, computed)]
pub struct Stack {
    /// Text of the compose file its services are made from.
    #[field(create)]
    pub docker_compose: Option<String>,
    /// Values of the variables of its files.
    #[field(create)]
    pub environment: Option<BTreeMap<String, String>>,
    /// Id at Docker, or whatever made the resource.
    #[field(create, update, nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Verdict of the health checks.
    #[field(nullable, filter, max_length = 128)]
    pub health_state: Option<String>,
    /// Free-form results by name.
    #[field(create, update, nullable)]
    pub outputs: Option<BTreeMap<String, String>>,
    /// Values of the variables before the upgrade.
    #[field(create, update, nullable)]
    pub previous_environment: Option<BTreeMap<String, String>>,
    /// `externalId` before the upgrade.
    #[field(create, update, nullable)]
    pub previous_external_id: Option<String>,
    /// Text of the file with Rancher's own keys for the services of the compose file.
    #[field(create)]
    pub rancher_compose: Option<String>,
    /// Start the services of the compose file right after their creation.
    #[field(create, nullable)]
    pub start_on_create: Option<bool>,
    /// The upgrade under way.
    #[field(hidden, ty = "json")]
    pub pending_upgrade: Option<StackUpgrade>,
}

/// What an upgrade of a stack has still to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StackUpgrade {
    /// Values of the stack when it is done.
    pub external_id: Option<String>,
    pub environment: BTreeMap<String, String>,
    /// Changes that are not begun.
    pub changes: Vec<ServiceChange>,
    /// Services whose end is waited for.
    pub services: Vec<Id<Service>>,
    /// A change was refused; when it is tried again.
    pub retry_at: Option<Time>,
}

/// What an upgrade of a stack does to one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceChange {
    pub service: Id<Service>,
    /// Services that come first.
    pub after: Vec<Id<Service>>,
    /// Fields as a PUT writes them, in storage form.
    pub fields: Object,
    /// Input of the service's own upgrade, in storage form.
    pub upgrade: Option<Object>,
}

/// New files and answers for a stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "environmentUpgrade", access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct EnvironmentUpgrade {
    /// Text of the new compose file; the stack's own when it is absent.
    #[field(create)]
    pub docker_compose: Option<String>,
    /// Values of variables, over those of the stack.
    #[field(create)]
    pub environment: Option<BTreeMap<String, String>>,
    /// What the stack is then made from.
    #[field(create)]
    pub external_id: Option<String>,
    /// Text of the new file with Rancher's own keys.
    #[field(create)]
    pub rancher_compose: Option<String>,
}

/// Services to write as compose files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "composeConfigInput", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct ComposeConfigInput {
    /// The services; all of the stack when none is named.
    #[field(create, nullable)]
    pub service_ids: Option<Vec<Id<Service>>>,
}

/// Services written as compose files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "composeConfig", no_list, access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct ComposeConfig {
    /// Text for `docker-compose.yml`.
    #[field()]
    pub docker_compose_config: Option<String>,
    /// Text for `rancher-compose.yml`.
    #[field()]
    pub rancher_compose_config: Option<String>,
}

/// Outputs to merge into those of a stack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "addOutputsInput", access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct AddOutputsInput {
    /// Free-form results by name.
    #[field(create, required)]
    pub outputs: Option<BTreeMap<String, String>>,
}
