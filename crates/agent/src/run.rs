//! One entry for everybody who runs hosts: the `agent` command, the server's own host with `--dev`, the simulation.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::join_all;
use remuda_runtime::Seams;
use tokio::sync::Semaphore;

use crate::balancer::keeper::Keeper;
use crate::balancer::place::Place;
use crate::engine::Engine;
use crate::facts::Facts;
use crate::fence::Fence;
use crate::health::Checker;
use crate::host_network::HostNetwork;
use crate::links::{Source, WebSockets};
use crate::metrics::Metrics;
use crate::reconcile::act::{Pulls, Tools, search_domains};
use crate::reconcile::watch;
use crate::reconcile::worker::Worker;
use crate::register;
use crate::secrets::Secrets;
use crate::session::{self, Session};
use crate::state_dir::{self, IDENTITY, Identity, StateDir};
use crate::streams::Streams;
use crate::streams::host_stats::HostStats;

/// Creates and starts at once: engines get slower, not faster, beyond a few.
const STARTS_AT_ONCE: usize = 6;
/// Everything is looked at and reported that often, whatever events say.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the state directory")]
    State(#[from] state_dir::Error),
    #[error("this host is not registered yet: give the server's URL and a registration token (`--url`, `--token`)")]
    NotRegistered,
    #[error("cannot register this host")]
    Register(#[from] register::Error),
    #[error("cannot go on")]
    Session(#[from] session::Ended),
}

/// One host.
pub struct Host {
    /// What it is called; the server falls back to the hostname.
    pub name: Option<String>,
    pub engine: Arc<dyn Engine>,
    pub network: Arc<dyn HostNetwork>,
    pub identity: Identity,
    /// `None`: nothing is kept (simulation).
    pub state_dir: Option<StateDir>,
    pub facts: Facts,
    pub host_stats: HostStats,
}

impl Host {
    /// A host on an engine that is simulated: nothing of this machine is looked at or touched.
    pub fn simulated(
        name: &str,
        engine: Arc<dyn Engine>,
        network: Arc<dyn HostNetwork>,
        identity: Identity,
        address: Option<IpAddr>,
        labels: BTreeMap<String, String>,
    ) -> Host {
        Host {
            name: Some(name.to_owned()),
            facts: Facts::simulated(engine.clone(), name, address, labels),
            engine,
            network,
            identity,
            state_dir: None,
            host_stats: HostStats::simulated(),
        }
    }
}

/// The identity in a state directory; a new one when there is none.
pub fn identity(seams: &Seams, state_dir: Option<&StateDir>) -> Result<Identity, state_dir::Error> {
    let kept = state_dir.map(|state| state.load::<Identity>(IDENTITY)).transpose()?.flatten();
    if let Some(identity) = kept {
        return Ok(identity);
    }
    let identity = Identity { host_uuid: seams.random.uuid(), register_key: seams.random.uuid(), keys: None };
    if let Some(state) = state_dir {
        state.save(IDENTITY, &identity)?;
    }
    Ok(identity)
}

/// The host's keys and the way to its server: those it has, or new ones for the token.
pub async fn registered(
    seams: &Seams,
    host: &mut Host,
    url: Option<&str>,
    token: Option<&str>,
) -> Result<Arc<dyn Source>, Error> {
    let same_server = |kept: &str| {
        let trim = |url: &str| url.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/').to_owned();
        url.is_none_or(|url| trim(url) == trim(kept))
    };
    let kept = host.identity.keys.clone().filter(|keys| same_server(&keys.url));
    let keys = match (kept, url, token) {
        (Some(keys), _, _) => keys,
        (None, Some(url), Some(token)) => {
            let keys = tokio::select! {
                biased;
                () = seams.tasks.stopping() => return Err(Error::Session(session::Ended::Stopping)),
                keys = register::register(&seams.clock, url, token, &host.identity.register_key) => keys?,
            };
            host.identity.keys = Some(keys.clone());
            if let Some(state) = &host.state_dir {
                state.save(IDENTITY, &host.identity)?;
            }
            tracing::info!(url, "registered");
            keys
        }
        (None, _, _) => return Err(Error::NotRegistered),
    };
    Ok(Arc::new(WebSockets::new(seams.clone(), keys)))
}

/// Runs one host until its group stops, or until the server refuses it for good.
pub async fn run(seams: Seams, host: Host, source: Arc<dyn Source>, metrics: Metrics) -> Result<(), Error> {
    // What is simulated has no HAProxy and touches no file.
    let place = host.state_dir.as_ref().filter(|_| host.engine.kind() != "sim").map(|state| Place::of(state.path()));
    let balancers = Keeper::new(seams.clone(), host.engine.clone(), place, metrics.clone());
    let fence = Fence::new(seams.clock.clone(), host.state_dir.as_ref().map(StateDir::path));
    let tools = Arc::new(Tools {
        engine: host.engine.clone(),
        network: host.network.clone(),
        server: source.clone(),
        secrets: Secrets::new(host.state_dir.as_ref().map(StateDir::path)),
        clock: seams.clock.clone(),
        pulls: Pulls::default(),
        starts: Semaphore::new(STARTS_AT_ONCE),
        tickets: AtomicU64::new(0),
        search: match host.engine.kind() {
            "sim" => Vec::new(),
            _ => search_domains(Path::new("/etc/resolv.conf")),
        },
        balancers: balancers.clone(),
        fence: fence.clone(),
    });
    let (worker, handle) = Worker::new(tools.clone(), seams.clone(), host.state_dir.clone(), metrics.clone());
    seams.tasks.spawn("host", worker.run());
    let (checker, health) = Checker::new(
        seams.clone(),
        host.identity.host_uuid.clone(),
        host.engine.prober(),
        host.state_dir.clone(),
        handle.inputs.clone(),
    );
    seams.tasks.spawn("health", checker.run());
    let watching =
        watch::watch(tools, seams.clone(), handle.inputs.clone(), handle.look_at_everything.clone(), LOOK_EVERY);
    seams.tasks.spawn_until_stopped("engine", watching);
    let streams =
        Streams::new(seams.clone(), host.engine.clone(), handle.clone(), metrics.clone(), host.host_stats.clone());
    let session = Session {
        kind: host.engine.kind().to_owned(),
        source,
        worker: handle,
        network: host.network,
        health,
        balancers,
        streams,
        fence,
        facts: host.facts,
        state_dir: host.state_dir,
        metrics,
        host_uuid: host.identity.host_uuid,
        name: host.name,
        seams,
    };
    Ok(session::run(session).await?)
}

/// Runs many hosts; gives how each ended.
pub async fn run_all(seams: Seams, hosts: Vec<(Host, Arc<dyn Source>)>, metrics: Metrics) -> Vec<Result<(), Error>> {
    join_all(hosts.into_iter().map(|(host, source)| run(seams.clone(), host, source, metrics.clone()))).await
}
