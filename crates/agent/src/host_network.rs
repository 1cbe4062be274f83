//! What the agent asks of the host's network: an interface, so that simulated hosts and hosts without root do not
//! touch the kernel, and so that supervising containers does not depend on how names and routes are made.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use remuda_wire::directory::Directory;
use remuda_wire::plan::{ContainerSpec, NetworkPlan};
use remuda_wire::session::Consumer;

/// Why something cannot be had on this host, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Problem(pub String);

/// The host's side of the managed network. Every call may be repeated.
pub trait HostNetwork: Send + Sync + 'static {
    /// Makes the managed network, or finds that it is there; gives its name on the engine. Cheap when nothing is to do.
    fn ensure<'a>(&'a self, plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>>;
    /// The file to bind over this container's `/etc/resolv.conf`; `None`: the engine's own.
    fn resolver(&self, spec: &ContainerSpec, uuid: &str) -> Result<Option<PathBuf>, Problem>;
    /// The container is gone; what was made for it may go too.
    fn forget(&self, uuid: &str);
    /// Works with this directory from now on; gives who does.
    fn directory_apply(&self, directory: Arc<Directory>) -> BoxFuture<'_, Vec<Consumer>>;
}

/// The network of simulated hosts: everything works, nothing is touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedNetwork;

impl HostNetwork for SimulatedNetwork {
    fn ensure<'a>(&'a self, _plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>> {
        Box::pin(async { Ok("remuda".to_owned()) })
    }

    fn resolver(&self, _spec: &ContainerSpec, _uuid: &str) -> Result<Option<PathBuf>, Problem> {
        Ok(None)
    }

    fn forget(&self, _uuid: &str) {}

    fn directory_apply(&self, _directory: Arc<Directory>) -> BoxFuture<'_, Vec<Consumer>> {
        Box::pin(async { vec![Consumer::Dns, Consumer::Routes] })
    }
}

/// No managed network on this host, with the reason; bridge, host and none work.
#[derive(Clone, Debug)]
pub struct NoNetwork {
    pub reason: String,
}

impl HostNetwork for NoNetwork {
    fn ensure<'a>(&'a self, _plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>> {
        Box::pin(async { Err(Problem(self.reason.clone())) })
    }

    fn resolver(&self, _spec: &ContainerSpec, _uuid: &str) -> Result<Option<PathBuf>, Problem> {
        Ok(None)
    }

    fn forget(&self, _uuid: &str) {}

    fn directory_apply(&self, _directory: Arc<Directory>) -> BoxFuture<'_, Vec<Consumer>> {
        // Nobody here uses it; saying so at once keeps others from waiting for this host.
        Box::pin(async { vec![Consumer::Dns, Consumer::Routes] })
    }
}
