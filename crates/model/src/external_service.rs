//! A service that runs elsewhere (`services.md` §15.3): addresses or a name, known inside under a name of ours.

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};

use crate::health_check::InstanceHealthCheck;
use crate::machines;
use crate::service_common::ServiceCommon;

/// A service that runs elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "externalService", parent = "service", machine = machines::SERVICE, access(project = "crud", user = "r", admin = "r", service = "crud"))]
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
#[extra_filters(createIndex = "int", selectorContainer = "string", selectorLink = "string")]
pub struct ExternalService {
    /// What services of every kind have.
    #[field(flatten)]
    #[serde(flatten)]
    pub common: ServiceCommon,
    /// Where it is, as addresses.
    #[field(create, update, nullable, schedules_update)]
    pub external_ip_addresses: Option<Vec<String>>,
    /// How load balancers check it.
    #[field(create, nullable)]
    pub health_check: Option<InstanceHealthCheck>,
    /// Where it is, as a name. Excludes addresses.
    #[field(create, update, nullable, schedules_update)]
    pub hostname: Option<String>,
}
