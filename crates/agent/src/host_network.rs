//! What the agent asks of the host's network: an interface, so that simulated hosts and hosts without root do not
//! touch the kernel, and so that supervising containers does not depend on how names and routes are made.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use remuda_wire::directory::{DirectoryUpdate, WrongBase};
use remuda_wire::plan::{ContainerSpec, NetworkPlan};
use remuda_wire::session::Consumer;

use crate::datapath;
use crate::network::ResolverRequest;
use crate::network::linux::LinuxNetwork;

pub use crate::network::Problem;

/// The host's side of the managed network. Every call may be repeated.
pub trait HostNetwork: Send + Sync + 'static {
    /// Makes the managed network, or finds that it is there; gives its name on the engine. Cheap when nothing is to do.
    fn ensure<'a>(&'a self, plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>>;
    /// The file to bind over this container's `/etc/resolv.conf`; `None`: the engine's own.
    fn resolver(&self, spec: &ContainerSpec, uuid: &str) -> Result<Option<PathBuf>, Problem>;
    /// The container is gone; what was made for it may go too.
    fn forget(&self, uuid: &str);
    /// Takes an update of the directory over. `source` names the server's database and restore epoch; an update of
    /// another source is a snapshot.
    fn directory_update(&self, source: &str, update: DirectoryUpdate) -> Result<(), WrongBase>;
    /// Waits until this revision, or a later one, is what the host works with; gives who does. May wait for ever.
    fn directory_applied(&self, revision: i64) -> BoxFuture<'_, Vec<Consumer>>;
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

    fn directory_update(&self, _source: &str, _update: DirectoryUpdate) -> Result<(), WrongBase> {
        Ok(())
    }

    fn directory_applied(&self, _revision: i64) -> BoxFuture<'_, Vec<Consumer>> {
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

    fn directory_update(&self, _source: &str, _update: DirectoryUpdate) -> Result<(), WrongBase> {
        Ok(())
    }

    fn directory_applied(&self, _revision: i64) -> BoxFuture<'_, Vec<Consumer>> {
        // Nobody here uses it; saying so at once keeps others from waiting for this host.
        Box::pin(async { vec![Consumer::Dns, Consumer::Routes] })
    }
}

/// A Linux host with root: Docker bridge, firewall rules and resolver files ([`crate::network`]), names from the
/// datapath process ([`crate::datapath`]).
#[derive(Clone)]
pub struct Managed {
    pub network: LinuxNetwork,
    pub datapath: datapath::Handle,
}

impl HostNetwork for Managed {
    fn ensure<'a>(&'a self, plan: &'a NetworkPlan) -> BoxFuture<'a, Result<String, Problem>> {
        Box::pin(self.network.ensure(plan))
    }

    fn resolver(&self, spec: &ContainerSpec, uuid: &str) -> Result<Option<PathBuf>, Problem> {
        let request =
            ResolverRequest { uuid: uuid.to_owned(), dns: spec.dns.clone(), dns_search: spec.dns_search.clone() };
        self.network.resolver(&request).map(Some)
    }

    fn forget(&self, uuid: &str) {
        self.network.forget_resolver(uuid);
    }

    fn directory_update(&self, source: &str, update: DirectoryUpdate) -> Result<(), WrongBase> {
        self.datapath.update(source, update)
    }

    fn directory_applied(&self, revision: i64) -> BoxFuture<'_, Vec<Consumer>> {
        Box::pin(async move {
            match self.datapath.wait_applied(revision).await {
                // Routes between hosts follow the directory in a later release; nobody has to wait for them here.
                Ok(()) => vec![Consumer::Dns, Consumer::Routes],
                Err(error) => {
                    tracing::warn!(%error, "names are not kept up to date");
                    std::future::pending().await
                }
            }
        })
    }
}
