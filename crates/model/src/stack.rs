//! A named group of services, `environment` on the wire (`services.md` §1.1).

use std::collections::BTreeMap;

use remuda_schema::{Nested, Resource};
use serde::{Deserialize, Serialize};

use crate::machines;

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
#[action(create, output = "environment")]
#[action(deactivateservices, output = "environment")]
#[action(error, output = "environment")]
#[action(remove, output = "environment")]
#[action(update, output = "environment")]
#[relation(services, children(of = "service", by = "environmentId"))]
pub struct Stack {
    /// Id at Docker, or whatever made the resource.
    #[field(create, update, nullable, filter, max_length = 128)]
    pub external_id: Option<String>,
    /// Verdict of the health checks.
    #[field(nullable, filter, max_length = 128)]
    pub health_state: Option<String>,
    /// Free-form results by name.
    #[field(create, update, nullable)]
    pub outputs: Option<BTreeMap<String, String>>,
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
