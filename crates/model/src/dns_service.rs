//! A name for other services (`services.md` §15.2): no containers, only links, whose targets' addresses it stands for.

use remuda_schema::Resource;
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::service_common::ServiceCommon;

/// A name for other services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "dnsService", parent = "service", machine = machines::SERVICE, access(project = "crud", user = "r", admin = "r", service = "crud"))]
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
#[action(addservicelink, input = "addRemoveServiceLinkInput", output = "service")]
#[action(removeservicelink, input = "addRemoveServiceLinkInput", output = "service")]
#[action(setservicelinks, input = "setServiceLinksInput", output = "service")]
#[extra_filters(createIndex = "int", selectorContainer = "string")]
pub struct DnsService {
    /// What services of every kind have.
    #[field(flatten)]
    #[serde(flatten)]
    pub common: ServiceCommon,
    /// Which services of the project it is linked to, by label.
    #[field(create, update, nullable, filter, max_length = 4096, schedules_update)]
    pub selector_link: Option<String>,
    /// Taken for clients that send it: there are no containers whose addresses could stay.
    #[field(create, nullable)]
    pub retain_ip: Option<bool>,
}
