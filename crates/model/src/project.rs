//! The tenancy unit that owns hosts, stacks, containers and keys (`resources.md` §2.2).

use remuda_schema::{Id, Nested, Resource};
use serde::{Deserialize, Serialize};

use crate::machines;
use crate::network::Network;
use crate::project_member::ProjectMember;

/// The tenancy unit that owns hosts, stacks, containers and keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "project", parent = "account", machine = machines::DEFAULT, access(project = "r", user = "crud", admin = "crud", service = "cr"))]
#[common(without(account_id))]
#[common(kind(nullable, filter, default = "user"))]
#[action(activate, output = "account")]
#[action(create, output = "account")]
#[action(deactivate, output = "account")]
#[action(delete)]
#[action(purge, output = "account")]
#[action(remove, output = "account")]
#[action(restore, output = "account")]
#[action(setmembers, input = "setProjectMembersInput", output = "setProjectMembersInput")]
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
#[relation(hostStats, computed)]
pub struct Project {
    /// Members of the project.
    #[field(create, nullable)]
    pub members: Option<Vec<ProjectMember>>,
    /// Ports that services may be given.
    #[field(create, update, nullable, schedules_update)]
    pub services_port_range: Option<ServicesPortRange>,
    /// Identity of the account at its authentication provider.
    #[field(nullable, admin, filter, roles(admin = "cru", service = "cru"))]
    pub external_id: Option<String>,
    /// Which provider.
    #[field(nullable, admin, filter, max_length = 128, roles(admin = "cru", service = "cru"))]
    pub external_id_type: Option<String>,
    /// How packets get from host to host: encrypted, in UDP, or as they are where hosts are neighbours.
    #[field(create, update, nullable, default = "wireguard", options = ["wireguard", "vxlan", "host-gw"], schedules_update)]
    pub network_backend: Option<String>,
    /// Largest packet of the network between the hosts, bytes; fixed when the project is created.
    #[field(create, nullable, default = 1500, min = 1280, max = 9000)]
    pub network_mtu: Option<i64>,
    /// UDP port the hosts speak on; without one 4500 for WireGuard and 4789 for VXLAN.
    #[field(create, update, nullable, min = 1, max = 65535, schedules_update)]
    pub network_port: Option<i64>,
    /// The managed network: where containers go that name none.
    #[field(hidden)]
    pub default_network_id: Option<Id<Network>>,
}

/// Ports that services may be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "servicesPortRange", no_list, access(project = "cru", user = "cru", admin = "cru", service = "cru"))]
pub struct ServicesPortRange {
    /// Last port.
    #[field(create, update, required, nullable, min = 1, max = 65535, transform = "")]
    pub end_port: Option<i64>,
    /// First port.
    #[field(create, update, required, nullable, min = 1, max = 65535, transform = "")]
    pub start_port: Option<i64>,
}

/// Members that replace those of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "setProjectMembersInput", no_list, access(project = "cr", user = "r", admin = "r", service = "cr"))]
pub struct SetProjectMembersInput {
    /// Members of the project.
    #[field(create, required, min_length = 1)]
    pub members: Option<Vec<ProjectMember>>,
}
