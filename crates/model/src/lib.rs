//! Every resource of Remuda, declared once: struct, schema flags, state machine, and the rules that need no I/O.
//!
//! A new resource is one file here and one line in [`registry`]. Names are those of the wire, except that v1's
//! `environment` is [`Stack`] in code. Structs that share a table (`Instance` and `Container`, `Account` and
//! `Project`, the credentials) are views of the same rows: read through the general one, write through the special.

use std::sync::OnceLock;

use remuda_schema::{Nested, Registry, Resource};

pub mod machines;
pub mod states;

pub mod address;
pub mod build_context;
pub mod docker_name;
pub mod labels;
pub mod names;
pub mod ports;
pub mod selector;
pub mod settings;

pub mod account;
pub mod agent;
pub mod api;
pub mod audit_log;
pub mod balancer;
pub mod certificate;
pub mod container;
pub mod container_event;
pub mod credential;
pub mod dns_service;
pub mod docker;
pub mod external_service;
pub mod health_check;
pub mod host;
pub mod identity;
pub mod image;
pub mod instance;
pub mod instance_link;
pub mod ip_address;
pub mod label;
pub mod launch_config;
pub mod load_balancer_service;
pub mod mount;
pub mod network;
pub mod physical_host;
pub mod port;
pub mod project;
pub mod project_member;
pub mod register;
pub mod secret;
pub mod service;
pub mod service_common;
pub mod service_consume_map;
pub mod service_expose_map;
pub mod service_upgrade;
pub mod setting;
pub mod stack;
pub mod storage_pool;
pub mod streams;
pub mod volume;
pub mod workload;

pub use account::Account;
pub use agent::Agent;
pub use api::{FieldDocumentation, Schema, Subscribe, TypeDocumentation};
pub use audit_log::AuditLog;
pub use certificate::Certificate;
pub use container::{Container, InstanceStop, Leaving, SetLabelsInput};
pub use container_event::ContainerEvent;
pub use credential::{AgentApiKey, ApiKey, Credential, RegistrationToken};
pub use dns_service::DnsService;
pub use docker::{BlkioDeviceOption, DockerBuild, LogConfig, RestartPolicy, Ulimit};
pub use external_service::ExternalService;
pub use health_check::{
    CheckRules, HealthcheckInstanceHostMap, InstanceHealthCheck, RecreateOnQuorumStrategyConfig, ServiceEvent, Strategy,
};
pub use host::{Clearing, Host, NetworkPeer};
pub use identity::Identity;
pub use image::{Image, ImageEngine, ImageReference};
pub use instance::Instance;
pub use instance_link::InstanceLink;
pub use ip_address::IpAddress;
pub use label::Label;
pub use launch_config::{LaunchConfig, SecondaryLaunchConfig};
pub use load_balancer_service::{
    AddRemoveLoadBalancerServiceLinkInput, BalancerTraffic, HaproxyConfig, LbConfig, LoadBalancerConfig,
    LoadBalancerCookieStickinessPolicy, LoadBalancerService, LoadBalancerServiceLink, PortRule,
    SetLoadBalancerServiceLinksInput,
};
pub use mount::Mount;
pub use network::Network;
pub use physical_host::PhysicalHost;
pub use port::Port;
pub use project::{Project, ServicesPortRange, SetProjectMembersInput};
pub use project_member::ProjectMember;
pub use register::Register;
pub use secret::{Secret, SecretReference};
pub use service::{
    AddRemoveServiceLinkInput, Awaited, PublicEndpoint, ScalePolicy, Service, ServiceLink, SetServiceLinksInput, Until,
};
pub use service_common::ServiceCommon;
pub use service_consume_map::ServiceConsumeMap;
pub use service_expose_map::ServiceExposeMap;
pub use service_upgrade::{
    InServiceUpgradeStrategy, RollingRestartStrategy, ServiceRestart, ServiceUpgrade, ToServiceUpgradeStrategy,
};
pub use setting::{ActiveSetting, Setting};
pub use stack::{
    AddOutputsInput, ComposeConfig, ComposeConfigInput, EnvironmentUpgrade, ServiceChange, Stack, StackUpgrade,
};
pub use storage_pool::StoragePool;
pub use streams::{ContainerExec, ContainerLogs, ContainerProxy, HostAccess, StatsAccess};
pub use volume::Volume;
pub use workload::Workload;

/// Every type of the program. Built once; the declarations are constants, so a wrong one fails every test.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let types = vec![
            Account::type_def(),
            ActiveSetting::type_def(),
            AddOutputsInput::type_def(),
            AddRemoveLoadBalancerServiceLinkInput::type_def(),
            AddRemoveServiceLinkInput::type_def(),
            Agent::type_def(),
            AgentApiKey::type_def(),
            ApiKey::type_def(),
            AuditLog::type_def(),
            BlkioDeviceOption::type_def(),
            Certificate::type_def(),
            ComposeConfig::type_def(),
            ComposeConfigInput::type_def(),
            Container::type_def(),
            ContainerEvent::type_def(),
            ContainerExec::type_def(),
            ContainerLogs::type_def(),
            ContainerProxy::type_def(),
            Credential::type_def(),
            DnsService::type_def(),
            DockerBuild::type_def(),
            EnvironmentUpgrade::type_def(),
            ExternalService::type_def(),
            FieldDocumentation::type_def(),
            HealthcheckInstanceHostMap::type_def(),
            HaproxyConfig::type_def(),
            Host::type_def(),
            HostAccess::type_def(),
            Identity::type_def(),
            Image::type_def(),
            Instance::type_def(),
            InstanceHealthCheck::type_def(),
            InstanceLink::type_def(),
            InServiceUpgradeStrategy::type_def(),
            InstanceStop::type_def(),
            IpAddress::type_def(),
            Label::type_def(),
            LaunchConfig::type_def(),
            BalancerTraffic::type_def(),
            LbConfig::type_def(),
            LoadBalancerConfig::type_def(),
            LoadBalancerCookieStickinessPolicy::type_def(),
            LoadBalancerService::type_def(),
            LoadBalancerServiceLink::type_def(),
            LogConfig::type_def(),
            Mount::type_def(),
            Network::type_def(),
            PhysicalHost::type_def(),
            Port::type_def(),
            PortRule::type_def(),
            Project::type_def(),
            ProjectMember::type_def(),
            PublicEndpoint::type_def(),
            RecreateOnQuorumStrategyConfig::type_def(),
            NetworkPeer::type_def(),
            Register::type_def(),
            RegistrationToken::type_def(),
            RestartPolicy::type_def(),
            RollingRestartStrategy::type_def(),
            ScalePolicy::type_def(),
            Schema::type_def(),
            SecondaryLaunchConfig::type_def(),
            Secret::type_def(),
            SecretReference::type_def(),
            Service::type_def(),
            ServiceConsumeMap::type_def(),
            ServiceEvent::type_def(),
            ServiceExposeMap::type_def(),
            ServiceLink::type_def(),
            ServiceRestart::type_def(),
            ServiceUpgrade::type_def(),
            ServicesPortRange::type_def(),
            SetLabelsInput::type_def(),
            SetLoadBalancerServiceLinksInput::type_def(),
            SetProjectMembersInput::type_def(),
            SetServiceLinksInput::type_def(),
            Setting::type_def(),
            Stack::type_def(),
            StatsAccess::type_def(),
            StoragePool::type_def(),
            Subscribe::type_def(),
            ToServiceUpgradeStrategy::type_def(),
            TypeDocumentation::type_def(),
            Ulimit::type_def(),
            Volume::type_def(),
        ];
        Registry::new(types).unwrap_or_else(|error| panic!("the resource declarations contradict each other: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::registry;

    #[test]
    fn declarations_fit_together() {
        assert!(registry().get("container").is_some());
        assert_eq!(registry().base("apiKey"), "credential");
    }
}
