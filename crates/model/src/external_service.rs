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
#[action(activate, output = "service")]
#[action(cancelrollback, output = "service")]
#[action(cancelupgrade, output = "service")]
#[action(create, output = "service")]
#[action(deactivate, output = "service")]
#[action(finishupgrade, output = "service")]
#[action(remove, output = "service")]
#[action(restart, input = "serviceRestart", output = "service")]
#[action(rollback, output = "service")]
#[action(update, output = "service")]
#[action(upgrade, input = "serviceUpgrade", output = "service")]
#[extra_filters(createIndex = "int", selectorContainer = "string", selectorLink = "string")]
#[relation(serviceExposeMaps, children(of = "serviceExposeMap", by = "serviceId"))]
#[relation(instances, through(to = "instance", through = "serviceExposeMap", from = "serviceId", via = "instanceId"))]
#[relation(
    consumedservices,
    through(to = "service", through = "serviceConsumeMap", from = "serviceId", via = "consumedServiceId")
)]
#[relation(
    consumedbyservices,
    through(to = "service", through = "serviceConsumeMap", from = "consumedServiceId", via = "serviceId")
)]
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
