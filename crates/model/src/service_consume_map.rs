//! A link from one service to another (`services.md` §1.2).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::service::Service;

/// A link from one service to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "serviceConsumeMap", machine = machines::CONSUME_MAP, access(project = "r", user = "r", admin = "r", service = "r"))]
#[common(name(nullable, filter))]
#[action(create, output = "serviceConsumeMap")]
#[action(remove, output = "serviceConsumeMap")]
#[action(update, output = "serviceConsumeMap")]
pub struct ServiceConsumeMap {
    /// The linked service.
    #[field(nullable, filter)]
    pub consumed_service_id: Option<Id<Service>>,
    /// Rules of a load balancer that lead to the linked service.
    #[field(required, nullable)]
    pub ports: Option<Vec<String>>,
    /// The service.
    #[field(nullable, filter)]
    pub service_id: Option<Id<Service>>,
    /// Made by `selectorLink`, which also ends it.
    #[field(hidden)]
    pub by_selector: bool,
}
