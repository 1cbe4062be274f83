//! Carries out the way between hosts in the kernel: interface, address, peers, routes. What a change touches is done at
//! once; everything is compared periodically and mended. While there is no other host, nothing is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remuda_runtime::{Clock, Tasks};
use remuda_wire::directory::{Directory, Key};
use remuda_wire::plan::Backend;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep_until, timeout};

use super::commands::{self, Kind, Route};
use super::probe::Probe;
use super::tracker::{Peer, Touched, Tracker};
use super::wireguard::Tunnel;
use super::{PROTOCOL, Settings, Status, arp};
use crate::network::Problem;
use crate::network::linux::run;

/// How often the kernel is compared with what it should have.
const VERIFY_EVERY: Duration = Duration::from_secs(10);
/// The same after something failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long somebody waits for a change to be carried out before going on.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way between hosts. Clones share it.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Notify,
    /// Without the peers, which change by themselves.
    status: watch::Sender<Status>,
    probe: Probe,
    clock: Clock,
    tasks: Tasks,
}

#[derive(Default)]
struct State {
    settings: Option<Settings>,
    tracker: Tracker,
    touched: Touched,
    revision: Option<i64>,
}

impl Keeper {
    pub fn start(clock: &Clock, tasks: &Tasks) -> Keeper {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Notify::new(),
            status: watch::channel(Status::default()).0,
            probe: Probe::default(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn_until_stopped("overlay", shared.clone().keep());
        let (told, probe) = (shared.clone(), shared.probe.clone());
        // Whoever watches the status hears of a host that went or came.
        let changed = move || told.status.send_modify(|_| {});
        tasks.spawn_until_stopped("overlay probe", probe.run(clock.clone(), tasks.clone(), changed));
        Keeper(shared)
    }

    /// What the agent asks for.
    pub fn set(&self, settings: Settings) {
        let mut state = self.0.state();
        if state.settings.as_ref() != Some(&settings) {
            state.settings = Some(settings);
            state.touched.add(Touched::everything());
            self.0.wake.notify_one();
        }
    }

    /// What was asked for last.
    pub fn settings(&self) -> Option<Settings> {
        self.0.state().settings.clone()
    }

    /// The directory is another. `keys`: what differs from the one before; `None`: everything may.
    pub fn directory(&self, directory: &Directory, host_uuid: &str, keys: Option<Vec<Key>>) {
        let mut state = self.0.state();
        let touched = match keys {
            Some(keys) => state.tracker.update(directory, keys),
            None => {
                state.tracker = Tracker::of(directory, host_uuid);
                Touched::everything()
            }
        };
        state.touched.add(touched);
        state.revision = Some(directory.revision);
        self.0.wake.notify_one();
    }

    /// Waits until everything told so far is in the kernel, or has failed, or takes too long.
    pub async fn carried_out(&self) {
        let (revision, settings) = {
            let state = self.0.state();
            (state.revision, state.settings.clone())
        };
        let mut status = self.0.status.subscribe();
        let done = status.wait_for(|status| status.revision >= revision && status.settings == settings);
        drop(timeout(PATIENCE, done).await);
    }

    pub fn status(&self) -> Status {
        Status { peers: self.0.probe.status(), ..self.0.status.borrow().clone() }
    }
}

/// What to do, taken from the state at one moment.
struct Work {
    settings: Settings,
    own: Option<Ipv4Addr>,
    all: bool,
    own_changed: bool,
    has_peers: bool,
    /// Peers to look at, with the addresses behind them; `None`: gone.
    peers: BTreeMap<i64, Option<(Peer, Vec<Ipv4Addr>)>>,
    routes: Routes,
    revision: Option<i64>,
}

enum Routes {
    All(BTreeMap<Ipv4Addr, Route>),
    Some(BTreeMap<Ipv4Addr, Option<Route>>),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep(self: Arc<Shared>) {
        let mut line = Line::default();
        let mut verify_at = self.clock.instant();
        loop {
            let due = tokio::select! {
                biased;
                () = self.wake.notified() => false,
                () = sleep_until(verify_at) => true,
            };
            let Some(work) = self.take(due || line.is_broken) else {
                verify_at = self.clock.instant() + VERIFY_EVERY;
                continue;
            };
            let (settings, revision, own) = (work.settings.clone(), work.revision, work.own);
            let mut moved = Vec::new();
            let done = line.carry_out(&work, &mut moved).await;
            line.is_broken = done.is_err();
            if due || line.is_broken {
                verify_at = self.clock.instant() + if line.is_broken { RETRY_AFTER } else { VERIFY_EVERY };
            }
            if !moved.is_empty() {
                self.tasks.spawn_until_stopped(
                    "overlay arp",
                    arp::announce(self.clock.clone(), settings.bridge.clone(), moved),
                );
            }
            self.tell(&line, settings, revision, own, done.err());
        }
    }

    fn tell(
        &self,
        line: &Line,
        settings: Settings,
        revision: Option<i64>,
        address: Option<Ipv4Addr>,
        problem: Option<Problem>,
    ) {
        let problem = problem.map(|problem| problem.0);
        self.status.send_if_modified(|status| {
            if problem != status.problem {
                match &problem {
                    Some(problem) => tracing::warn!(problem, "the way to other hosts does not work"),
                    None => tracing::info!(carrier = line.name(), "the way to other hosts works"),
                }
            }
            let is_applied = problem.is_none();
            let next = Status {
                settings: Some(settings),
                is_applied,
                // Not in the kernel: whoever waits for it goes on waiting.
                revision: if is_applied { revision } else { status.revision },
                carrier: line.name().to_owned(),
                address,
                n_routes: line.routes.len(),
                problem,
                peers: Vec::new(),
            };
            let differs = *status != next;
            *status = next;
            differs
        });
    }

    /// What there is to do; `None`: nobody has asked for a network yet, so whatever is known is in force.
    fn take(&self, everything: bool) -> Option<Work> {
        let mut state = self.state();
        let mut touched = std::mem::take(&mut state.touched);
        if everything {
            touched.all = true;
        }
        let State { settings, tracker, revision, .. } = &*state;
        let Some(settings) = settings.clone() else {
            self.status.send_if_modified(|status| {
                let differs = status.revision != *revision;
                status.revision = *revision;
                differs
            });
            return None;
        };
        let own = tracker.own_overlay;
        let usable = |peer: &&Peer| peer.is_usable(settings.backend);
        let peer = |peer: &Peer| Some((peer.clone(), tracker.addresses_of(peer.host_id).collect()));
        let all = touched.all || touched.own;
        let (peers, routes) = if all {
            let peers = tracker.peers().filter(usable).map(|of| (of.host_id, peer(of))).collect();
            (peers, Routes::All(commands::routes_wanted(tracker, &settings)))
        } else {
            let look = |host: &i64| (*host, tracker.peer(*host).filter(usable).and_then(peer));
            let subnet = settings.subnet();
            let containers = touched.addresses.iter().filter(|address| subnet.contains(**address));
            let containers = containers.map(|address| (*address, tracker.route(*address)));
            let hosts = touched.peers.iter().filter_map(|host| tracker.peer(*host));
            let hosts = hosts.map(|peer| (peer.overlay, Some(peer)));
            let route = |(address, peer): (Ipv4Addr, Option<&Peer>)| {
                (address, peer.and_then(|peer| Route::to(address, peer, &settings, own)))
            };
            (touched.peers.iter().map(look).collect(), Routes::Some(containers.chain(hosts).map(route).collect()))
        };
        self.probe.set(own, tracker.peers().filter(usable));
        let has_peers = tracker.peers().any(|peer| peer.is_usable(settings.backend));
        Some(Work {
            settings: settings.clone(),
            own,
            all,
            own_changed: touched.own,
            has_peers,
            peers,
            routes,
            revision: *revision,
        })
    }
}

/// What carries packets at present.
#[derive(Default)]
enum Carrier {
    #[default]
    None,
    Tunnel(Tunnel),
    Vxlan,
    HostGw,
}

/// What is in the kernel, as far as we put it there.
#[derive(Default)]
struct Line {
    settings: Option<Settings>,
    carrier: Carrier,
    own: Option<Ipv4Addr>,
    /// Neighbours that the VXLAN knows.
    neighbours: BTreeMap<i64, Peer>,
    routes: BTreeSet<Ipv4Addr>,
    /// The last work failed: the next one looks at everything.
    is_broken: bool,
}

impl Line {
    fn name(&self) -> &'static str {
        match &self.carrier {
            Carrier::None => "",
            Carrier::Tunnel(tunnel) => tunnel.name(),
            Carrier::Vxlan => "vxlan",
            Carrier::HostGw => "host-gw",
        }
    }

    /// Everything but the addresses that `moved` says is done when it returns.
    async fn carry_out(&mut self, work: &Work, moved: &mut Vec<Ipv4Addr>) -> Result<(), Problem> {
        let is_new = self.settings.as_ref() != Some(&work.settings) || self.own != work.own;
        if is_new {
            self.close().await;
        }
        if !work.has_peers && matches!(self.carrier, Carrier::None) {
            if work.all {
                // What another datapath left is in nobody's way but ours.
                self.set_routes(&Routes::All(BTreeMap::new()), moved).await?;
            }
            return Ok(());
        }
        let Some(own) = work.own else {
            return Err(Problem::new(format!(
                "the server has no free address for this host in {}, so containers of other hosts cannot be reached; \
                 remove containers, and it is tried again within a minute",
                work.settings.subnet
            )));
        };
        if is_new || work.all || work.own_changed || matches!(self.carrier, Carrier::None) {
            self.open(&work.settings, own).await?;
        }
        (self.settings, self.own) = (Some(work.settings.clone()), Some(own));
        self.set_peers(work).await?;
        self.set_routes(&work.routes, moved).await
    }

    async fn close(&mut self) {
        self.neighbours.clear();
        if let Carrier::Tunnel(tunnel) = std::mem::take(&mut self.carrier) {
            tunnel.close().await;
        }
    }

    /// Interface and own address, made or found.
    async fn open(&mut self, settings: &Settings, own: Ipv4Addr) -> Result<(), Problem> {
        let device = settings.device.as_str();
        let found = kind_of(device).await;
        match settings.backend {
            Backend::Wireguard => self.open_wireguard(settings, found).await?,
            Backend::Vxlan => {
                let is_ours = found == Some(Kind::Vxlan { port: settings.port });
                // The Ethernet address goes with the own address: made anew when that is new.
                if !is_ours || !matches!(self.carrier, Carrier::Vxlan) {
                    remove(device, found).await?;
                    let args = commands::vxlan_add(settings, own);
                    run("ip", &args.iter().map(String::as_str).collect::<Vec<_>>(), None).await?;
                    self.neighbours.clear();
                }
                self.carrier = Carrier::Vxlan;
            }
            Backend::HostGw => {
                remove(device, found).await?;
                self.carrier = Carrier::HostGw;
            }
        }
        let (with, without) = match settings.backend {
            Backend::HostGw => (settings.bridge.as_str(), None),
            _ => {
                run("ip", &["link", "set", "dev", device, "mtu", &settings.mtu.to_string(), "up"], None).await?;
                (device, Some(settings.bridge.as_str()))
            }
        };
        let address = format!("{own}/32");
        run("ip", &["address", "replace", &address, "dev", with], None).await?;
        for (dev, keep) in [(Some(with), Some(own)), (without, None)] {
            let Some(dev) = dev else { continue };
            for stale in own_addresses(dev, settings).await.into_iter().filter(|found| Some(*found) != keep) {
                run("ip", &["address", "delete", &format!("{stale}/32"), "dev", dev], None).await?;
            }
        }
        Ok(())
    }

    async fn open_wireguard(&mut self, settings: &Settings, found: Option<Kind>) -> Result<(), Problem> {
        let device = settings.device.as_str();
        if let (Carrier::Tunnel(_), Some(Kind::Tun | Kind::Wireguard)) = (&self.carrier, found) {
            return Ok(());
        }
        self.close().await;
        if found == Some(Kind::Tun) {
            // A predecessor's: it goes on with its routes.
            self.carrier = Carrier::Tunnel(Tunnel::own(settings).await?);
            return Ok(());
        }
        if found != Some(Kind::Wireguard) {
            remove(device, found).await?;
            if let Err(problem) = run("ip", &["link", "add", device, "type", "wireguard"], None).await {
                tracing::debug!(%problem, "the kernel has no WireGuard");
                self.carrier = Carrier::Tunnel(Tunnel::own(settings).await?);
                return Ok(());
            }
        }
        let tunnel = match Tunnel::kernel(settings).await {
            Ok(tunnel) => tunnel,
            Err(problem) => {
                tracing::info!(%problem, "the kernel's WireGuard cannot be used; using our own");
                remove(device, Some(Kind::Wireguard)).await?;
                Tunnel::own(settings).await?
            }
        };
        self.carrier = Carrier::Tunnel(tunnel);
        Ok(())
    }

    async fn set_peers(&mut self, work: &Work) -> Result<(), Problem> {
        let device = work.settings.device.as_str();
        match &mut self.carrier {
            Carrier::None | Carrier::HostGw => Ok(()),
            Carrier::Tunnel(tunnel) => {
                let gone = tunnel.hosts().into_iter().filter(|host| work.all && !work.peers.contains_key(host));
                for host in gone {
                    tunnel.peer_set(host, None, [].into_iter()).await?;
                }
                for (host, peer) in &work.peers {
                    let addresses = peer.iter().flat_map(|(_, addresses)| addresses.iter().copied());
                    tunnel.peer_set(*host, peer.as_ref().map(|(peer, _)| peer), addresses).await?;
                }
                Ok(())
            }
            Carrier::Vxlan => {
                let (mut ip, mut bridge) = (String::new(), String::new());
                let gone = |host: &i64| match work.peers.get(host) {
                    Some(now) => now.is_none(),
                    None => work.all,
                };
                for (_, peer) in self.neighbours.extract_if(.., |host, _| gone(host)) {
                    let (neighbour, fdb) = commands::vxlan_forget(peer.overlay, device);
                    ip.push_str(&neighbour);
                    bridge.push_str(&fdb);
                }
                for (host, peer) in &work.peers {
                    let Some((peer, _)) = peer else { continue };
                    if !work.all && self.neighbours.get(host) == Some(peer) {
                        continue;
                    }
                    if let Some((neighbour, fdb)) = commands::vxlan_peer(peer, device) {
                        ip.push_str(&neighbour);
                        bridge.push_str(&fdb);
                        self.neighbours.insert(*host, peer.clone());
                    }
                }
                batch("ip", &ip).await?;
                batch("bridge", &bridge).await
            }
        }
    }

    async fn set_routes(&mut self, routes: &Routes, moved: &mut Vec<Ipv4Addr>) -> Result<(), Problem> {
        match routes {
            Routes::All(wanted) => {
                let shown = run("ip", &["-4", "route", "show", "proto", PROTOCOL], None).await?;
                let shown = commands::routes_shown(&shown);
                batch("ip", &commands::routes_difference(&shown, wanted)).await?;
                moved.extend(wanted.keys().filter(|address| !shown.contains_key(address)));
                self.routes = wanted.keys().copied().collect();
            }
            Routes::Some(touched) => {
                let lines = touched.iter().map(|(address, route)| match route {
                    Some(route) => route.replace(),
                    None => commands::route_delete(*address),
                });
                // A route that is not there is as good as deleted.
                let (gone, new): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("route delete"));
                batch("ip", &new.concat()).await?;
                drop(batch("ip", &gone.concat()).await);
                moved.extend(touched.iter().filter(|(_, route)| route.is_some()).map(|(address, _)| *address));
                for (address, route) in touched {
                    let _ = if route.is_some() { self.routes.insert(*address) } else { self.routes.remove(address) };
                }
            }
        }
        Ok(())
    }
}

async fn kind_of(device: &str) -> Option<Kind> {
    run("ip", &["-d", "-o", "link", "show", "dev", device], None).await.ok().map(|shown| commands::kind(&shown))
}

/// Takes the interface away, if there is one. Somebody else's is not touched.
async fn remove(device: &str, found: Option<Kind>) -> Result<(), Problem> {
    match found {
        None => Ok(()),
        Some(Kind::Other) => Err(Problem::new(format!(
            "the interface `{device}` is none of ours, so the tunnel to other hosts cannot be made; rename or remove it"
        ))),
        Some(_) => run("ip", &["link", "delete", "dev", device], None).await.map(drop),
    }
}

/// Single addresses of the managed network on the interface.
async fn own_addresses(device: &str, settings: &Settings) -> Vec<Ipv4Addr> {
    let shown = run("ip", &["-4", "-o", "address", "show", "dev", device], None).await.unwrap_or_default();
    let words = shown.lines().filter_map(|line| line.split_once(" inet ")?.1.split_whitespace().next());
    let single = words.filter_map(|word| word.strip_suffix("/32").unwrap_or(word).parse::<Ipv4Addr>().ok());
    single.filter(|address| settings.subnet().contains(*address)).collect()
}

/// Carries out many lines in one process. What fails does not keep the rest from being done.
async fn batch(program: &str, lines: &str) -> Result<(), Problem> {
    if lines.is_empty() {
        return Ok(());
    }
    run(program, &["-force", "-batch", "-"], Some(lines)).await.map(drop)
}

/// Everything of ours in the kernel but the bridge, for `remuda agent clean`.
pub async fn clean(device: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let shown = run("ip", &["-4", "route", "show", "proto", PROTOCOL], None).await.unwrap_or_default();
    let routes: String = commands::routes_shown(&shown).into_keys().map(commands::route_delete).collect();
    problems.extend(batch("ip", &routes).await.err());
    if let Some(found) = kind_of(device).await.filter(|kind| *kind != Kind::Other) {
        problems.extend(remove(device, Some(found)).await.err());
    }
    problems
}

/// The interface of the tunnel, when there is one, and the number of routes.
pub async fn found(device: &str) -> (bool, usize) {
    let shown = run("ip", &["-4", "route", "show", "proto", PROTOCOL], None).await.unwrap_or_default();
    (kind_of(device).await.is_some_and(|kind| kind != Kind::Other), shown.lines().count())
}
