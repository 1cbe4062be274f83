//! What the agent asks of the host's network: an interface, so that simulated hosts and hosts without root do not
//! touch the kernel, and so that supervising containers does not depend on how names and routes are made.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use remuda_wire::directory::{DirectoryUpdate, WrongBase};
use remuda_wire::observe::PeerObserved;
use remuda_wire::plan::{ContainerSpec, NetworkPlan};
use remuda_wire::session::Consumer;

use crate::datapath;
use crate::metrics::Metrics;
use crate::network::ResolverRequest;
use crate::network::linux::LinuxNetwork;
use crate::overlay::PeerStatus;

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
    /// Waits until that consumer works with this revision or a later one. May wait for ever.
    fn directory_applied(&self, consumer: Consumer, revision: i64) -> BoxFuture<'_, ()>;
    /// Waits until the container can ask for its own names and metadata. May wait for ever.
    fn container_known<'a>(&'a self, _uuid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
    /// What the host tells of its network.
    fn facts(&self) -> NetworkFacts {
        NetworkFacts::default()
    }
    /// Waits until [`HostNetwork::facts`] says something else of the other hosts.
    fn facts_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// What a host tells of its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFacts {
    pub public_key: Option<String>,
    /// The other hosts as seen from here, those that were asked long enough; `None`: nobody is asked.
    pub peers: Option<Vec<PeerObserved>>,
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

    fn directory_applied(&self, _consumer: Consumer, _revision: i64) -> BoxFuture<'_, ()> {
        Box::pin(async {})
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

    fn directory_applied(&self, _consumer: Consumer, _revision: i64) -> BoxFuture<'_, ()> {
        // Nobody here uses it; saying so at once keeps others from waiting for this host.
        Box::pin(async {})
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

    fn container_known<'a>(&'a self, uuid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.datapath.wait_known(uuid).await.is_err() {
                std::future::pending().await
            }
        })
    }

    fn directory_applied(&self, consumer: Consumer, revision: i64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let applied = match consumer {
                Consumer::Routes => self.datapath.wait_routes(revision).await,
                _ => self.datapath.wait_applied(revision).await,
            };
            if let Err(error) = applied {
                tracing::warn!(%error, ?consumer, "the directory is not kept up to date here");
                std::future::pending().await
            }
        })
    }

    fn facts(&self) -> NetworkFacts {
        let public_key = self.network.public_key().map_err(|problem| tracing::warn!(%problem, "no key to tell")).ok();
        NetworkFacts { public_key, peers: self.peers() }
    }

    fn facts_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (mut status, told) = (self.datapath.status(), self.peers());
            while self.peers() == told {
                if status.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

impl Managed {
    /// Shows the other hosts to whoever scrapes this one, until the tasks stop.
    pub async fn measure(self, metrics: Metrics) {
        let mut status = self.datapath.status();
        loop {
            let peers = match &*status.borrow_and_update() {
                Ok(status) => status.overlay.peers.clone(),
                Err(_) => Vec::new(),
            };
            metrics.set_peers(&peers);
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    fn peers(&self) -> Option<Vec<PeerObserved>> {
        let status = self.datapath.status();
        let status = status.borrow();
        let overlay = &status.as_ref().ok()?.overlay;
        overlay.settings.as_ref()?;
        let seen = |peer: &PeerStatus| Some(PeerObserved { host_id: peer.host_id, reachable: peer.is_reachable? });
        Some(overlay.peers.iter().filter_map(seen).collect())
    }
}
