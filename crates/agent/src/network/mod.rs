//! The project's managed network on this host (DESIGN §7): a Docker bridge, our own firewall rules, the address DNS
//! answers at, and the resolver files of containers.
//!
//! [`HostNetwork`] is what the reconciler asks for; [`resolver`] is the text of a container's `resolv.conf`; [`routes`],
//! [`options`] and [`firewall`] decide, purely; [`linux`] acts.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use remuda_wire::plan::NetworkPlan;

pub mod resolver;

pub mod routes;

pub mod options;

pub mod firewall;

pub mod linux;

/// What the host's network can do for containers. Simulated hosts have one that touches no kernel.
pub trait HostNetwork: Send + Sync + 'static {
    /// Makes the project's network exist and work, or says why it cannot. Idempotent; called before the first managed
    /// container and whenever the plan changes. The answer is the name of the engine's network to attach to.
    fn ensure<'a>(&'a self, plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>>;

    /// Writes the resolver file of a container and says where it is, to be mounted read-only over `/etc/resolv.conf`.
    fn resolver(&self, request: &ResolverRequest) -> Result<PathBuf, Problem>;

    /// The container is gone: so is its resolver file.
    fn forget_resolver(&self, uuid: &str);
}

/// Why the managed network, or a part of it, cannot be had here: one sentence for people, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(pub String);

impl Problem {
    pub fn new(sentence: impl Into<String>) -> Problem {
        Problem(sentence.into())
    }
}

/// A container whose resolver is ours (`ContainerSpec::resolver`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverRequest {
    /// The container's uuid.
    pub uuid: String,
    /// `ContainerSpec::dns`: the user's servers, asked by our resolver before the host's.
    pub dns: Vec<String>,
    /// `ContainerSpec::dns_search`: the user's domains, then those of the project.
    pub dns_search: Vec<String>,
}
