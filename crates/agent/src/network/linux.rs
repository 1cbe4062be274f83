//! Carries out what the host's network needs on Linux: asks the engine for the bridge, gives `lo` the address DNS
//! answers at, and keeps our firewall rules in place. Programs (`ip`, `iptables-save`, `iptables-restore`) are run by
//! argument vector; which of iptables' two backends is chosen by where Docker's chains are.

use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use remuda_runtime::{Clock, Random, Seams};
use remuda_wire::plan::{self, NetworkPlan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::firewall::{self, Rules, Saved, Tunnel};
use super::resolver::{HostResolver, resolv_conf};
use super::routes::{self, Subnet};
use super::{Problem, ResolverRequest, options};
use crate::balancer::place::Place;
use crate::datapath;
use crate::datapath::control::What;
use crate::dns::answer::SERVICE_ADDRESS;
use crate::engine;
use crate::overlay;
use crate::state_dir::StateDir;

/// How often the host is compared with what it should have.
const VERIFY_EVERY: Duration = Duration::from_secs(5);
/// How long one program may take. `iptables -w` waits for others who change rules.
const PATIENCE: Duration = Duration::from_secs(20);
/// Programs of one backend, in the order they are tried.
const BACKENDS: [Backend; 3] = [Backend("iptables"), Backend("iptables-nft"), Backend("iptables-legacy")];

/// The engine as far as networks go.
pub trait Networks: Send + Sync + 'static {
    fn version(&self) -> engine::Answer<'_, String>;
    fn network_inspect<'a>(&'a self, name: &'a str) -> engine::Answer<'a, Value>;
    fn network_create<'a>(&'a self, body: &'a Value) -> engine::Answer<'a, String>;
    fn network_remove<'a>(&'a self, name: &'a str) -> engine::Answer<'a, ()>;
}

impl Networks for Arc<dyn engine::Engine> {
    fn version(&self) -> engine::Answer<'_, String> {
        Box::pin(async { Ok(self.as_ref().info().await?.version) })
    }

    fn network_inspect<'a>(&'a self, name: &'a str) -> engine::Answer<'a, Value> {
        self.as_ref().network_inspect(name)
    }

    fn network_create<'a>(&'a self, body: &'a Value) -> engine::Answer<'a, String> {
        self.as_ref().network_create(body)
    }

    fn network_remove<'a>(&'a self, name: &'a str) -> engine::Answer<'a, ()> {
        self.as_ref().network_remove(name)
    }
}

/// Names and places on this host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The agent's state directory; resolver files are in `resolver/`.
    pub state_dir: PathBuf,
    /// The host's `resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Name of the engine's network.
    pub network: String,
    /// Name of its interface.
    pub bridge: String,
    /// Name of the interface to other hosts.
    pub tunnel: String,
    /// Port the datapath answers DNS on, when it is free.
    pub dns_port: u16,
    /// The same for metadata.
    pub metadata_port: u16,
}

impl Settings {
    pub fn of(state_dir: PathBuf) -> Settings {
        Settings {
            state_dir,
            resolv_conf: "/etc/resolv.conf".into(),
            network: "remuda".to_owned(),
            bridge: "remuda0".to_owned(),
            tunnel: "remuda1".to_owned(),
            dns_port: 42053,
            metadata_port: 42080,
        }
    }

    fn resolver_dir(&self) -> PathBuf {
        self.state_dir.join("resolver")
    }

    fn address(&self, what: What) -> std::net::SocketAddr {
        let port = match what {
            What::Dns => self.dns_port,
            What::Metadata => self.metadata_port,
        };
        std::net::SocketAddr::new(IpAddr::V4(SERVICE_ADDRESS), port)
    }
}

/// One thing of ours on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// `engineNetwork`, `address`, `firewallChain`, `resolverFile`, `balancer`, `tunnel`, `routes`, `datapath`.
    pub kind: String,
    pub name: String,
}

/// The network of a Linux host with root. Clones share it.
#[derive(Clone)]
pub struct LinuxNetwork(Arc<Inner>);

struct Inner {
    networks: Box<dyn Networks>,
    settings: Settings,
    datapath: datapath::Handle,
    clock: Clock,
    random: Random,
    /// One at a time changes the host.
    state: Mutex<State>,
    problem: watch::Sender<Option<Problem>>,
    /// The plan that was found carried out last, and when: what makes [`LinuxNetwork::ensure`] cheap.
    verified: std::sync::Mutex<Option<(NetworkPlan, Instant)>>,
}

#[derive(Default)]
struct State {
    /// What was asked for last; verified periodically.
    plan: Option<NetworkPlan>,
    backend: Option<Backend>,
    /// Held while the managed network of this machine is ours.
    guard: Option<UnixListener>,
}

/// One of iptables' implementations, by the first part of its programs' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backend(&'static str);

impl LinuxNetwork {
    /// Does nothing to the host yet; from the first [`LinuxNetwork::ensure`] on the host is also checked periodically.
    pub fn new(seams: &Seams, networks: impl Networks, settings: Settings, datapath: datapath::Handle) -> LinuxNetwork {
        let inner = Arc::new(Inner {
            networks: Box::new(networks),
            settings,
            datapath,
            clock: seams.clock.clone(),
            random: seams.random.clone(),
            state: Mutex::default(),
            problem: watch::channel(None).0,
            verified: std::sync::Mutex::default(),
        });
        seams.tasks.spawn_until_stopped("network keeper", inner.clone().keep());
        LinuxNetwork(inner)
    }

    /// Why the network does not work at present; `None` while it does or nobody asked for it.
    pub fn problem(&self) -> watch::Receiver<Option<Problem>> {
        self.0.problem.subscribe()
    }

    /// Makes the project's network exist and work, or says why it cannot. Cheap when nothing is to do. The answer is
    /// the name of the engine's network to attach to.
    pub async fn ensure(&self, plan: &NetworkPlan) -> Result<String, Problem> {
        if !self.0.is_verified(plan) {
            let mut state = self.0.state.lock().await;
            // Others who waited here with us may have done it.
            if !self.0.is_verified(plan) {
                state.plan = Some(plan.clone());
                self.0.verify(&mut state, plan).await?;
            }
        }
        Ok(self.0.settings.network.clone())
    }

    /// The public half of this host's key.
    pub fn public_key(&self) -> Result<String, Problem> {
        self.0.public_key()
    }

    /// Writes the resolver file of a container and says where it is, to be mounted read-only over `/etc/resolv.conf`.
    pub fn resolver(&self, request: &ResolverRequest) -> Result<PathBuf, Problem> {
        let settings = &self.0.settings;
        let host = HostResolver::parse(&std::fs::read_to_string(&settings.resolv_conf).unwrap_or_default());
        let text = resolv_conf(request, &host);
        // The engine takes absolute paths only.
        let path = settings.resolver_dir().join(file_name(&request.uuid)?);
        let path = std::path::absolute(&path)
            .map_err(|error| Problem::new(format!("cannot name the resolver file {}: {error}", path.display())))?;
        if std::fs::read_to_string(&path).is_ok_and(|existing| existing == text) {
            return Ok(path);
        }
        let fresh = path.with_extension("new");
        std::fs::create_dir_all(settings.resolver_dir())
            .and_then(|()| std::fs::write(&fresh, text))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| Problem::new(format!("cannot write the resolver file {}: {error}", path.display())))?;
        Ok(path)
    }

    /// The container is gone: so is its resolver file.
    pub fn forget_resolver(&self, uuid: &str) {
        if let Ok(name) = file_name(uuid) {
            // Not there is as good as gone; anything else is found by `clean`.
            let _ = std::fs::remove_file(self.0.settings.resolver_dir().join(name));
        }
    }
}

/// Uuids come from the server: one that could leave the directory is refused.
fn file_name(uuid: &str) -> Result<String, Problem> {
    let is_plain = !uuid.is_empty() && uuid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_plain { Ok(format!("{uuid}.conf")) } else { Err(Problem::new(format!("`{uuid}` is no container uuid"))) }
}

impl Inner {
    /// The keeper found it in order not long ago.
    fn is_verified(&self, plan: &NetworkPlan) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: Instant| self.clock.instant().duration_since(at) < 3 * VERIFY_EVERY;
        verified.as_ref().is_some_and(|(known, at)| known == plan && is_fresh(*at))
    }

    /// Makes it so, and says how that went.
    async fn verify(&self, state: &mut State, plan: &NetworkPlan) -> Result<(), Problem> {
        let done = self.ensure(state, plan).await;
        *self.verified.lock().unwrap_or_else(PoisonError::into_inner) =
            done.is_ok().then(|| (plan.clone(), self.clock.instant()));
        let problem = done.as_ref().err().cloned();
        self.problem.send_if_modified(|shown| {
            if *shown == problem {
                return false;
            }
            match &problem {
                Some(problem) => tracing::warn!(%problem, "the managed network does not work"),
                None => tracing::info!("the managed network works again"),
            }
            *shown = problem;
            true
        });
        done
    }

    async fn ensure(&self, state: &mut State, plan: &NetworkPlan) -> Result<(), Problem> {
        if !may_administer_network(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
            return Err(Problem::new(
                "the managed network needs root (CAP_NET_ADMIN) for the agent; start it as root, or use network \
                 mode bridge, host or none",
            ));
        }
        let subnet: Subnet =
            plan.subnet.parse().map_err(|error| Problem::new(format!("the plan's network is wrong: {error}")))?;
        self.claim_machine(state)?;
        let table = run("ip", &["-4", "route", "show"], None).await?;
        if let Some(reason) =
            routes::conflict(subnet, &routes::parse(&table), &[&self.settings.bridge, &self.settings.tunnel])
        {
            return Err(Problem::new(reason));
        }
        self.ensure_engine_network(plan).await?;
        self.ensure_host(state, subnet, plan).await?;
        let way = self.overlay(plan)?;
        self.datapath.overlay(way).await.map_err(|error| Problem::new(error.to_string()))
    }

    /// One managed network on one machine: two agents would take each other's interfaces away. The name is one of the
    /// machine's network namespace, and free again when this process ends, however it ends.
    fn claim_machine(&self, state: &mut State) -> Result<(), Problem> {
        if state.guard.is_some() {
            return Ok(());
        }
        let bridge = &self.settings.bridge;
        let bound = SocketAddr::from_abstract_name(format!("remuda-network-{bridge}"))
            .and_then(|name| UnixListener::bind_addr(&name));
        match bound {
            Ok(guard) => {
                state.guard = Some(guard);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Problem::new(format!(
                "another agent on this machine has the managed network (interface `{bridge}`); a machine belongs to one \
                 environment: stop the other agent, or run it in a network namespace of its own"
            ))),
            Err(error) => Err(Problem::new(format!("the managed network of this machine cannot be claimed: {error}"))),
        }
    }

    /// What the datapath is told of the way to other hosts.
    fn overlay(&self, plan: &NetworkPlan) -> Result<overlay::Settings, Problem> {
        let underlay = if plan.underlay_mtu == 0 { 1500 } else { plan.underlay_mtu };
        Ok(overlay::Settings {
            backend: plan.backend,
            subnet: plan.subnet.clone(),
            bridge: self.settings.bridge.clone(),
            device: self.settings.tunnel.clone(),
            port: port(plan),
            mtu: underlay.saturating_sub(plan.backend.overhead()),
            key_dir: self.settings.state_dir.clone(),
            public_key: self.public_key()?,
        })
    }

    /// The public key of this host's registration.
    fn public_key(&self) -> Result<String, Problem> {
        let key = StateDir::open(&self.settings.state_dir)
            .and_then(|state| overlay::key::of_registration(&state, &self.random));
        key.map(|key| key.public()).map_err(|error| Problem::new(format!("this host has no key: {error}")))
    }

    async fn ensure_engine_network(&self, plan: &NetworkPlan) -> Result<(), Problem> {
        let name = &self.settings.network;
        let failed = |what: &str, error: engine::Error| {
            Problem::new(format!("cannot {what} the engine's network `{name}`: {error}"))
        };
        let version = self.networks.version().await.map_err(|error| failed("make", error))?;
        let body = options::create_body(name, &self.settings.bridge, &version, plan)?;
        let existing = match self.networks.network_inspect(name).await {
            Ok(existing) => Some(existing),
            Err(engine::Error::NotFound(_)) => None,
            Err(error) => return Err(failed("look at", error)),
        };
        if let Some(existing) = existing {
            let Some(difference) = options::difference(&existing, &body) else { return Ok(()) };
            let attached = options::attached(&existing);
            if !attached.is_empty() && options::is_tolerable(&existing, &body) {
                return Ok(());
            }
            if !attached.is_empty() {
                return Err(Problem::new(format!(
                    "the engine's network `{name}` is not as it should be ({difference}) and cannot be replaced while \
                     {} containers use it: {}; stop or remove them",
                    attached.len(),
                    attached.join(", ")
                )));
            }
            tracing::info!(network = name, difference, "replacing the engine's network");
            self.networks.network_remove(name).await.map_err(|error| failed("replace", error))?;
        }
        match self.networks.network_create(&body).await {
            // Somebody was faster; the next check compares what they made.
            Ok(_) | Err(engine::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(failed("make", error)),
        }
    }

    /// Everything that is not the engine's: safe to repeat, and repeated.
    async fn ensure_host(&self, state: &mut State, subnet: Subnet, plan: &NetworkPlan) -> Result<(), Problem> {
        let address = format!("{SERVICE_ADDRESS}/32");
        run("ip", &["link", "set", "dev", "lo", "up"], None).await?;
        run("ip", &["address", "replace", &address, "dev", "lo", "scope", "host"], None).await?;
        // Containers of one bridge reach each other directly; being told so about remote ones would cut the tunnel out.
        let bridge = &self.settings.bridge;
        for (path, value) in [
            (format!("conf/{bridge}/send_redirects"), "0"),
            // Containers see one network: the host answers for addresses that are on other hosts, and at once.
            (format!("conf/{bridge}/proxy_arp"), "1"),
            (format!("neigh/{bridge}/proxy_delay"), "0"),
            ("ip_forward".to_owned(), "1"),
        ] {
            let path = format!("/proc/sys/net/ipv4/{path}");
            if std::fs::read_to_string(&path).is_ok_and(|found| found.trim() == value) {
                continue;
            }
            std::fs::write(&path, value).map_err(|error| {
                Problem::new(format!("the kernel setting {path} cannot be made {value} ({error}); make it so"))
            })?;
        }
        let listen = async |what: What| {
            let bound = self.datapath.listen(what, self.settings.address(what)).await;
            bound.map_err(|error| Problem::new(format!("{what} cannot be answered on this host: {error}")))
        };
        let (dns, metadata) = (listen(What::Dns).await?, listen(What::Metadata).await?);
        let tunnel = match plan.backend {
            plan::Backend::HostGw => Tunnel::Neighbours,
            _ => Tunnel::Device { name: self.settings.tunnel.clone(), port: port(plan) },
        };
        let rules = Rules { bridge: self.settings.bridge.clone(), subnet, tunnel, dns, metadata };
        self.ensure_rules(state, &rules).await
    }

    async fn ensure_rules(&self, state: &mut State, rules: &Rules) -> Result<(), Problem> {
        let mut backend = match state.backend {
            Some(backend) => backend,
            None => Backend::of_docker().await?,
        };
        let mut saved = backend.saved().await?;
        if !firewall::has_docker_chains(&saved.nat) {
            backend = Backend::of_docker().await?;
            saved = backend.saved().await?;
        }
        state.backend = Some(backend);
        let Some(text) = firewall::repair(&saved, rules) else { return Ok(()) };
        tracing::info!(backend = backend.0, "writing our firewall rules");
        backend.restore(&text).await
    }

    async fn keep(self: Arc<Inner>) {
        loop {
            self.clock.sleep(VERIFY_EVERY).await;
            let mut state = self.state.lock().await;
            let Some(plan) = state.plan.clone() else { continue };
            // The result is in the log and in `problem`.
            let _ = self.verify(&mut state, &plan).await;
        }
    }
}

/// UDP port of the hosts; 0 where they speak without.
fn port(plan: &NetworkPlan) -> u16 {
    if plan.port == 0 { plan.backend.default_port().unwrap_or(0) } else { plan.port }
}

/// What of ours is on this host, whether an agent runs or not.
pub async fn status(networks: &impl Networks, settings: &Settings) -> Vec<Item> {
    let item = |kind: &str, name: String| Item { kind: kind.to_owned(), name };
    let mut items = Vec::new();
    if networks.network_inspect(&settings.network).await.is_ok_and(|found| is_ours(&found)) {
        items.push(item("engineNetwork", settings.network.clone()));
    }
    if has_address().await {
        items.push(item("address", format!("{SERVICE_ADDRESS}/32 on lo")));
    }
    for backend in BACKENDS {
        // A backend that is missing has no chains.
        let Ok(saved) = backend.saved().await else { continue };
        let chains = firewall::present(&saved);
        items.extend(chains.iter().map(|chain| item("firewallChain", chain.clone())));
        if !chains.is_empty() {
            break;
        }
    }
    let files = std::fs::read_dir(settings.resolver_dir()).into_iter().flatten().flatten();
    let mut files: Vec<_> = files.map(|file| item("resolverFile", file.path().display().to_string())).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    items.extend(files);
    let balancers = Place::of(&settings.state_dir);
    items.extend(
        balancers.uuids().iter().map(|uuid| item("balancer", balancers.path().join(uuid).display().to_string())),
    );
    let (tunnel, n_routes) = overlay::keeper::found(&settings.tunnel).await;
    if tunnel {
        items.push(item("tunnel", settings.tunnel.clone()));
    }
    if n_routes > 0 {
        items.push(item("routes", format!("{n_routes} to containers and hosts, protocol {}", overlay::PROTOCOL)));
    }
    if let Some(status) = datapath::handle::status_of(&settings.state_dir).await {
        items.push(item("datapath", format!("process {}", status.pid)));
    }
    items
}

/// Takes everything of ours off this host. What cannot be removed is said; the rest is removed all the same.
pub async fn clean(networks: &impl Networks, settings: &Settings) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    datapath::handle::stop_process(&settings.state_dir).await;
    problems.extend(overlay::keeper::clean(&settings.tunnel).await);
    for backend in BACKENDS {
        let Ok(saved) = backend.saved().await else { continue };
        if let Some(text) = firewall::removal(&saved) {
            problems.extend(backend.restore(&text).await.err());
        }
    }
    if has_address().await {
        let address = format!("{SERVICE_ADDRESS}/32");
        problems.extend(run("ip", &["address", "delete", &address, "dev", "lo"], None).await.err());
    }
    match networks.network_inspect(&settings.network).await {
        Ok(found) if is_ours(&found) => {
            let removed = networks.network_remove(&settings.network).await;
            problems.extend(removed.err().map(|error| {
                Problem::new(format!("cannot remove the engine's network `{}`: {error}", settings.network))
            }));
        }
        Ok(_) | Err(engine::Error::NotFound(_)) => {}
        Err(error) => problems.push(Problem::new(format!("cannot ask the engine for networks: {error}"))),
    }
    if let Err(error) = std::fs::remove_dir_all(settings.resolver_dir())
        && error.kind() != io::ErrorKind::NotFound
    {
        problems.push(Problem::new(format!("cannot remove {}: {error}", settings.resolver_dir().display())));
    }
    let balancers = Place::of(&settings.state_dir);
    if let Err(error) = balancers.clean() {
        problems.push(Problem::new(format!("cannot remove {}: {error}", balancers.path().display())));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn is_ours(network: &Value) -> bool {
    network["Labels"].get(options::LABEL).is_some()
}

async fn has_address() -> bool {
    let shown = run("ip", &["-4", "-o", "address", "show", "dev", "lo"], None).await;
    shown.is_ok_and(|text| text.contains(&format!("{SERVICE_ADDRESS}/32")))
}

impl Backend {
    /// The backend Docker's chains live in; the host's default one when Docker made none.
    async fn of_docker() -> Result<Backend, Problem> {
        let mut first = Err(Problem::new("`iptables` is not installed on this host; install the package iptables"));
        for backend in BACKENDS {
            match backend.save("nat").await {
                Ok(text) if firewall::has_docker_chains(&text) => return Ok(backend),
                Ok(_) if first.is_err() => first = Ok(backend),
                Ok(_) => {}
                Err(problem) => tracing::debug!(backend = backend.0, %problem, "an iptables backend is not usable"),
            }
        }
        first
    }

    async fn saved(self) -> Result<Saved, Problem> {
        Ok(Saved { nat: self.save("nat").await?, filter: self.save("filter").await? })
    }

    async fn save(self, table: &str) -> Result<String, Problem> {
        run(&format!("{}-save", self.0), &["-t", table], None).await
    }

    async fn restore(self, text: &str) -> Result<(), Problem> {
        run(&format!("{}-restore", self.0), &["--noflush", "-w"], Some(text)).await.map(drop)
    }
}

/// Runs a program to its end; a failure carries what it said.
pub(crate) async fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String, Problem> {
    let failed = |reason: String| Problem::new(format!("`{program} {}` failed: {reason}", args.join(" ")));
    let exchange = async {
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn()?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match timeout(PATIENCE, exchange).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed("it is not installed on this host".to_owned()));
        }
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("it did not end within {} s", PATIENCE.as_secs()))),
    };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// CAP_NET_ADMIN is in the effective set, from the text of `/proc/self/status`.
fn may_administer_network(status: &str) -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> CAP_NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_decide() {
        let cases = [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", true),
            ("CapEff:\t0000000000001000", true),
            ("CapEff:\t0000000000000fff", false),
            ("CapEff:\trubbish", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(may_administer_network(text), expected, "{text}");
        }
    }

    #[test]
    fn only_plain_uuids_become_files() {
        assert_eq!(file_name("0a-b_1").unwrap(), "0a-b_1.conf");
        for wrong in ["", "../x", "a/b", "a b", ".hidden"] {
            assert!(file_name(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn programs_say_why_they_failed() {
        let missing = run("remuda-no-such-program", &["a"], None).await.unwrap_err();
        assert_eq!(missing.0, "`remuda-no-such-program a` failed: it is not installed on this host");
        let failed = run("cat", &["/nonexistent"], None).await.unwrap_err();
        assert!(failed.0.contains("/nonexistent: No such file"), "{failed}");
        assert_eq!(run("cat", &[], Some("text")).await.unwrap(), "text");
    }
}
