//! What one balancer container means: listeners, routes and certificates, resolved as far as rows can. It travels in the
//! host plan and not in the directory, because it carries private keys: only a host that runs the balancer gets them.
//!
//! Addresses of containers are not in it. They come from the directory, so that a container that comes or goes is the
//! business of the directory alone and changes no plan: the configuration is a function of both.
//!
//! Both ways to write rules down (links with `ports`, and `lbConfig`) are routes by the time they are here, aliases are
//! followed, and services that are not active have no target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One balancer container of this host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BalancerPlan {
    /// Uuid of the container, as in `ContainerPlan`.
    pub container: String,
    /// Row number of the balancer's service.
    pub service_id: i64,
    /// Name of the service, for messages.
    pub service: String,
    /// Row number of the host it runs on, for [`Locality`].
    pub host_id: i64,
    /// Where HAProxy says that it lives.
    pub health: Option<HealthListener>,
    /// At most one per port.
    pub listeners: Vec<Listener>,
    /// In the order of their creation; which one is asked first is decided where they are written out.
    pub routes: Vec<Route>,
    /// Shown when the client names none that is known. One of `certificates`, by id.
    pub default_certificate: Option<String>,
    pub certificates: Vec<Certificate>,
    pub stickiness: Option<Stickiness>,
    /// HAProxy text of the user, with section headers (`load-balancer.md` §13).
    pub config: String,
    pub locality: Locality,
}

/// The port on which the balancer's own health check finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthListener {
    pub port: u16,
    /// It is asked over HTTP; else a connection is enough.
    pub http: bool,
}

/// A port the balancer listens on, in its container. Where it is published is in the container's plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    pub port: u16,
    pub protocol: Protocol,
    /// Clients must send the PROXY protocol's header first.
    pub accept_proxy: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    #[default]
    Http,
    Https,
    Tcp,
    /// TLS ends here, what is in it is only passed on.
    Tls,
    /// TLS is passed on; the name in its first message chooses.
    Sni,
}

impl Protocol {
    /// Its name in `lbConfig`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::Sni => "sni",
        }
    }

    /// Requests are read, so hosts and paths count.
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Https)
    }

    /// TLS ends at the balancer.
    pub fn has_certificates(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }
}

/// Which requests go where. Routes that agree in port, host and path share a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// Port of a listener.
    pub port: u16,
    /// Exact, `*.domain`, `domain.*`, or `*` before or after any text. Empty: any.
    pub host: String,
    /// Prefix; empty: any.
    pub path: String,
    /// Lower is asked earlier; those without come after all that have one.
    pub priority: Option<u32>,
    /// Name of the backend, when the user gave one.
    pub backend: Option<String>,
    pub targets: Vec<Target>,
}

/// Servers of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    pub servers: Servers,
    pub port: u16,
    pub weight: Option<u16>,
    /// How HAProxy checks them; without, they always count as up.
    pub check: Option<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Servers {
    /// The service's containers, by row number: those of the primary launch config and those it selected.
    Service(i64),
    /// An address outside.
    Address(String),
    /// A host name outside, resolved while HAProxy runs.
    Name(String),
}

impl Default for Servers {
    fn default() -> Servers {
        Servers::Service(0)
    }
}

/// The target service's own health check, as HAProxy makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Check {
    pub port: u16,
    pub interval_ms: u32,
    pub response_timeout_ms: u32,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    /// `GET /healthz HTTP/1.0`; empty: a connection is enough.
    pub request_line: String,
}

/// A certificate with its private key. Text in PEM.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// Public id, `1c5`: its file's name.
    pub id: String,
    /// Name, for messages.
    pub name: String,
    pub cert: String,
    pub chain: String,
    /// Private key. In a plan inside the server it is sealed; it is opened when the plan is sent.
    pub key: String,
}

/// Without the key: plans are written into logs.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Requests of one client go to one server, by a cookie (`load-balancer.md` §7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stickiness {
    /// Name of the cookie; without, that of the backend.
    pub cookie: Option<String>,
    pub mode: CookieMode,
    pub indirect: bool,
    pub nocache: bool,
    pub postonly: bool,
    pub domain: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CookieMode {
    #[default]
    Insert,
    Rewrite,
    Prefix,
}

/// Label `io.rancher.lb_service.target`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Locality {
    #[default]
    Any,
    /// Containers of the same host only.
    OnlyLocal,
    /// Containers of the same host if there is one, else all.
    PreferLocal,
}
