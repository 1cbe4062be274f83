//! The root owner row: users, administrators, projects and machine accounts are all accounts (`resources.md` §2.1).

use remuda_schema::{Id, Resource};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::network::Network;
use crate::project::Project;

/// The root owner row: a user, an administrator, a project or a machine account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "account", machine = machines::DEFAULT, access(project = "r", user = "r", admin = "crud", service = "crud"))]
#[common(without(account_id))]
#[common(kind(nullable, filter, default = "user", roles(admin = "cru", service = "cru")))]
#[action(activate, output = "account")]
#[action(create, output = "account")]
#[action(deactivate, output = "account")]
#[action(purge, output = "account")]
#[action(remove, output = "account")]
#[action(restore, output = "account")]
#[action(update, output = "account")]
#[relation(networks, children(of = "network", by = "accountId"))]
#[relation(services, children(of = "service", by = "accountId"))]
#[relation(storagePools, children(of = "storagePool", by = "accountId"))]
#[relation(serviceConsumeMaps, children(of = "serviceConsumeMap", by = "accountId"))]
#[relation(labels, children(of = "label", by = "accountId"))]
#[relation(environments, children(of = "environment", by = "accountId"))]
#[relation(instanceLinks, children(of = "instanceLink", by = "accountId"))]
#[relation(containerEvents, children(of = "containerEvent", by = "accountId"))]
#[relation(healthcheckInstanceHostMaps, children(of = "healthcheckInstanceHostMap", by = "accountId"))]
#[relation(serviceEvents, children(of = "serviceEvent", by = "accountId"))]
#[relation(certificates, children(of = "certificate", by = "accountId"))]
#[relation(volumes, children(of = "volume", by = "accountId"))]
#[relation(instances, children(of = "instance", by = "accountId"))]
#[relation(ports, children(of = "port", by = "accountId"))]
#[relation(ipAddresses, children(of = "ipAddress", by = "accountId"))]
#[relation(mounts, children(of = "mount", by = "accountId"))]
#[relation(auditLogs, children(of = "auditLog", by = "accountId"))]
#[relation(serviceExposeMaps, children(of = "serviceExposeMap", by = "accountId"))]
#[relation(physicalHosts, children(of = "physicalHost", by = "accountId"))]
#[relation(hosts, children(of = "host", by = "accountId"))]
#[relation(images, children(of = "image", by = "accountId"))]
#[relation(credentials, children(of = "credential", by = "accountId"))]
#[relation(projectMembers, children(of = "projectMember", by = "projectId"))]
pub struct Account {
    /// Identity of the account at its authentication provider.
    #[field(nullable, admin, filter, roles(admin = "cru", service = "cru"))]
    pub external_id: Option<String>,
    /// Which provider.
    #[field(nullable, admin, filter, max_length = 128, roles(admin = "cru", service = "cru"))]
    pub external_id_type: Option<String>,
    /// Default project of a user.
    #[field(nullable, admin)]
    pub project_id: Option<Id<Project>>,
    /// Managed network of a project.
    #[field(hidden)]
    pub default_network_id: Option<Id<Network>>,
}
