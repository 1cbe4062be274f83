//! Services whose containers are HAProxy (`load-balancer.md` §§1, 13).

use remuda_schema::{Id, Nested, Resource};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::machines;
use crate::service::{PublicEndpoint, ScalePolicy, Service};
use crate::service_common::ServiceCommon;

/// A load balancer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "loadBalancerService", parent = "service", machine = machines::SERVICE, access(project = "crud", user = "r", admin = "r", service = "crud"))]
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
#[action(addservicelink, input = "addRemoveLoadBalancerServiceLinkInput", output = "service")]
#[action(removeservicelink, input = "addRemoveLoadBalancerServiceLinkInput", output = "service")]
#[action(setservicelinks, input = "setLoadBalancerServiceLinksInput", output = "service")]
#[extra_filters(createIndex = "int", selectorContainer = "string")]
pub struct LoadBalancerService {
    /// What services of every kind have.
    #[field(flatten)]
    #[serde(flatten)]
    pub common: ServiceCommon,
    /// Certificates that are chosen by the name a client asks for.
    #[field(create, update, nullable, schedules_update)]
    pub certificate_ids: Option<Vec<Id<Certificate>>>,
    /// How many units the search for a scale has come to.
    #[field(nullable)]
    pub current_scale: Option<i64>,
    /// Certificate that is shown when none fits.
    #[field(create, update, nullable, no_link, schedules_update)]
    pub default_certificate_id: Option<Id<Certificate>>,
    /// Rules of the later form; with it the earlier one counts no more.
    #[field(create, update, nullable, schedules_update)]
    pub lb_config: Option<LbConfig>,
    /// Text for HAProxy, and stickiness.
    #[field(create, update, nullable, schedules_update)]
    pub load_balancer_config: Option<LoadBalancerConfig>,
    /// Where its published ports are reached.
    #[field(nullable)]
    pub public_endpoints: Option<Vec<PublicEndpoint>>,
    /// A container that takes the place of another takes its address over.
    #[field(create, nullable)]
    pub retain_ip: Option<bool>,
    /// How many containers to keep.
    #[field(create, update, default = 1, schedules_update)]
    pub scale: Option<i64>,
    /// How many units to look for, in the place of `scale`.
    #[field(create, update, nullable, schedules_update)]
    pub scale_policy: Option<ScalePolicy>,
    /// What it does right now; `null` while no host has told it to the server that is asked.
    #[field(nullable)]
    pub traffic: Option<BalancerTraffic>,
    /// Which services of the project are its targets, by label.
    #[field(create, update, nullable, filter, max_length = 4096, schedules_update)]
    pub selector_link: Option<String>,
}

/// What the containers of a load balancer do together, as their hosts told it in the last seconds. Never stored: totals
/// begin with the agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "balancerTraffic", no_list, access(project = "r", user = "r", admin = "r", service = "r"))]
pub struct BalancerTraffic {
    /// HTTP requests, and connections where HTTP is not read.
    #[field()]
    pub requests: i64,
    /// Answers 5xx, and connections to which no target was found.
    #[field()]
    pub errors: i64,
    /// Bytes from clients.
    #[field()]
    pub bytes_in: i64,
    /// Bytes to clients.
    #[field()]
    pub bytes_out: i64,
    /// Open connections.
    #[field()]
    pub connections: i64,
    /// Requests in a second.
    #[field()]
    pub requests_per_second: f64,
    /// Errors in a second.
    #[field()]
    pub errors_per_second: f64,
    /// How long targets took to answer, in milliseconds.
    #[field(nullable)]
    pub response_time: Option<f64>,
}

/// Text for HAProxy, and stickiness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "loadBalancerConfig", no_list, access(project = "cru", user = "r", admin = "r", service = "cru"))]
pub struct LoadBalancerConfig {
    /// Lines for the configuration.
    #[field(create, update, nullable)]
    pub haproxy_config: Option<HaproxyConfig>,
    /// Requests of one client go to one container.
    #[field(create, update, nullable)]
    pub lb_cookie_stickiness_policy: Option<LoadBalancerCookieStickinessPolicy>,
}

/// Lines for sections of HAProxy's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "haproxyConfig", no_list, access(project = "cru", user = "r", admin = "r", service = "cru"))]
pub struct HaproxyConfig {
    /// Lines of the section `defaults`.
    #[field(create, update, nullable, transform = "")]
    pub defaults: Option<String>,
    /// Lines of the section `global`.
    #[field(create, update, nullable, transform = "")]
    pub global: Option<String>,
}

/// Requests of one client go to one container, by a cookie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "loadBalancerCookieStickinessPolicy",
    no_list,
    access(project = "cru", user = "r", admin = "r", service = "cru")
)]
pub struct LoadBalancerCookieStickinessPolicy {
    /// Name of the cookie.
    #[field(create, update)]
    pub cookie: Option<String>,
    /// Domain the cookie is for.
    #[field(create, update)]
    pub domain: Option<String>,
    /// Take the cookie out of requests.
    #[field(create, update, nullable)]
    pub indirect: Option<bool>,
    /// What is done with the cookie.
    #[field(create, update, options = ["rewrite", "insert", "prefix"])]
    pub mode: Option<String>,
    /// Name of the policy.
    #[field(create, update)]
    pub name: Option<String>,
    /// Answers that set it are not to be cached.
    #[field(create, update, nullable)]
    pub nocache: Option<bool>,
    /// Only answers to POST set it.
    #[field(create, update, nullable)]
    pub postonly: Option<bool>,
}

/// Rules of a load balancer, one for each way to a service; on another service, what it adds to a selector's rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "lbConfig", no_list, access(project = "cru", user = "r", admin = "r", service = "cru"))]
pub struct LbConfig {
    /// Certificates that are chosen by the name a client asks for.
    #[field(create, update, nullable)]
    pub certificate_ids: Option<Vec<Id<Certificate>>>,
    /// Text for HAProxy, with section headers.
    #[field(create, update, nullable)]
    pub config: Option<String>,
    /// Certificate that is shown when none fits.
    #[field(create, update, nullable)]
    pub default_certificate_id: Option<Id<Certificate>>,
    /// The rules.
    #[field(create, update)]
    pub port_rules: Option<Vec<PortRule>>,
    /// Requests of one client go to one container.
    #[field(create, update, nullable)]
    pub stickiness_policy: Option<LoadBalancerCookieStickinessPolicy>,
}

/// One way to a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "portRule", no_list, access(project = "cru", user = "r", admin = "r", service = "cru"))]
pub struct PortRule {
    /// Name of the backend, for text of one's own.
    #[field(create, update, nullable)]
    pub backend_name: Option<String>,
    /// Host that is asked for.
    #[field(create, update, nullable)]
    pub hostname: Option<String>,
    /// Beginning of the path that is asked for.
    #[field(create, update, nullable)]
    pub path: Option<String>,
    /// Lower is tried earlier.
    #[field(create, update, nullable, min = 0)]
    pub priority: Option<i64>,
    /// What the port speaks.
    #[field(create, update, nullable, default = "http", options = ["http", "tcp", "https", "tls", "sni", "udp"])]
    pub protocol: Option<String>,
    /// Which services are meant, by label.
    #[field(create, update, nullable)]
    pub selector: Option<String>,
    /// The service.
    #[field(create, update, nullable)]
    pub service_id: Option<Id<Service>>,
    /// Port of the balancer.
    #[field(create, update, nullable, min = 1, max = 65535)]
    pub source_port: Option<i64>,
    /// Port of the service.
    #[field(create, update, nullable, min = 1, max = 65535)]
    pub target_port: Option<i64>,
    /// Share of each of its containers.
    #[field(create, update, nullable, min = 0, max = 256)]
    pub weight: Option<i64>,
}

/// A target of a load balancer, and what leads to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "loadBalancerServiceLink", no_list, access(project = "cr", user = "cr", admin = "cr", service = "cr"))]
pub struct LoadBalancerServiceLink {
    /// Rules: `[host][:source port][/path][=target port]`.
    #[field(create, nullable)]
    pub ports: Option<Vec<String>>,
    /// The service.
    #[field(create, required)]
    pub service_id: Option<Id<Service>>,
    /// Unique everywhere.
    #[field()]
    pub uuid: Option<String>,
}

/// A target to add or to remove.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "addRemoveLoadBalancerServiceLinkInput",
    no_list,
    access(project = "r", user = "r", admin = "r", service = "r")
)]
pub struct AddRemoveLoadBalancerServiceLinkInput {
    /// The target.
    #[field(create, required)]
    pub service_link: Option<LoadBalancerServiceLink>,
}

/// Targets that replace those of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Nested)]
#[serde(rename_all = "camelCase", default)]
#[resource(
    id = "setLoadBalancerServiceLinksInput",
    no_list,
    access(project = "r", user = "r", admin = "r", service = "r")
)]
pub struct SetLoadBalancerServiceLinksInput {
    /// The targets.
    #[field(create, nullable)]
    pub service_links: Option<Vec<LoadBalancerServiceLink>>,
}
