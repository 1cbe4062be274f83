//! The project's managed network on this host (DESIGN §7): a Docker bridge, our own firewall rules, the address DNS
//! answers at, and the resolver files of containers.
//!
//! [`resolver`] is the text of a container's `resolv.conf`; [`routes`],
//! [`options`] and [`firewall`] decide, purely; [`linux`] acts.

pub mod resolver;

pub mod routes;

pub mod options;

pub mod firewall;

pub mod linux;

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
