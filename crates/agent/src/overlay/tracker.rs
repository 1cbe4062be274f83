//! Who is where: the other hosts, and the host of each container address. A pure function of the directory and the own
//! host, kept up with what a change touches: its cost is that of the change, not of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use remuda_wire::directory::{Container, Directory, Host, Key};
use remuda_wire::plan::Backend;

/// Another host, as far as packets to it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub host_id: i64,
    pub name: String,
    /// Its own address on the managed network.
    pub overlay: Ipv4Addr,
    /// Where it was registered.
    pub endpoint: Option<IpAddr>,
    pub public_key: Option<String>,
}

impl Peer {
    fn of(host: &Host) -> Option<Peer> {
        Some(Peer {
            host_id: host.id,
            name: host.name.clone(),
            overlay: host.overlay_address.as_ref()?.parse().ok()?,
            // What a development server's own host is registered with leads elsewhere to elsewhere.
            endpoint: host
                .address
                .as_ref()
                .and_then(|address| address.parse().ok())
                .filter(|ip: &IpAddr| !ip.is_loopback()),
            public_key: host.public_key.clone(),
        })
    }

    /// The address other backends than WireGuard need.
    pub fn endpoint_v4(&self) -> Option<Ipv4Addr> {
        match self.endpoint? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// Enough is known of it to send there.
    pub fn is_usable(&self, backend: Backend) -> bool {
        match backend {
            Backend::Wireguard => self.public_key.is_some(),
            Backend::Vxlan | Backend::HostGw => self.endpoint_v4().is_some(),
        }
    }
}

/// What to look at again after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Everything: it is another directory.
    pub all: bool,
    /// The own address is another.
    pub own: bool,
    pub peers: BTreeSet<i64>,
    pub addresses: BTreeSet<Ipv4Addr>,
}

impl Touched {
    pub fn everything() -> Touched {
        Touched { all: true, ..Touched::default() }
    }

    pub fn is_empty(&self) -> bool {
        *self == Touched::default()
    }

    pub fn add(&mut self, other: Touched) {
        self.all |= other.all;
        self.own |= other.own;
        self.peers.extend(other.peers);
        self.addresses.extend(other.addresses);
    }
}

/// A container that says it has an address. The greatest has it: one that runs before one that does not, the newest
/// of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    is_up: bool,
    create_index: i64,
    id: i64,
    host: i64,
}

/// Put together from a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    host_uuid: String,
    own: Option<i64>,
    /// The own host's address on the managed network.
    pub own_overlay: Option<Ipv4Addr>,
    peers: BTreeMap<i64, Peer>,
    holders: BTreeMap<Ipv4Addr, BTreeSet<Holder>>,
    by_container: BTreeMap<i64, (Ipv4Addr, Holder)>,
    by_host: BTreeMap<i64, BTreeSet<Ipv4Addr>>,
}

impl Tracker {
    pub fn of(directory: &Directory, host_uuid: &str) -> Tracker {
        let mut tracker = Tracker { host_uuid: host_uuid.to_owned(), ..Tracker::default() };
        let hosts = directory.hosts.keys().map(|id| Key::Host(*id));
        let containers = directory.containers.keys().map(|id| Key::Container(*id));
        tracker.update(directory, hosts.chain(containers));
        tracker
    }

    /// Looks at entries again: `directory` is as it is after they changed.
    pub fn update(&mut self, directory: &Directory, keys: impl IntoIterator<Item = Key>) -> Touched {
        let mut touched = Touched::default();
        for key in keys {
            match key {
                Key::Host(id) => self.host(id, directory.hosts.get(&id), &mut touched),
                Key::Container(id) => {
                    self.container(id, directory.containers.get(&id).map(AsRef::as_ref), &mut touched)
                }
                _ => {}
            }
        }
        touched
    }

    fn host(&mut self, id: i64, host: Option<&Host>, touched: &mut Touched) {
        if host.is_some_and(|host| host.uuid == self.host_uuid) {
            let overlay = host.and_then(|host| host.overlay_address.as_ref()?.parse().ok());
            touched.own |= self.own != Some(id) || self.own_overlay != overlay;
            if self.own != Some(id) {
                // Addresses here need no route, those of the host it was before do.
                touched.addresses.extend(self.addresses_of(id));
                touched.addresses.extend(self.own.into_iter().flat_map(|own| self.addresses_of(own)));
            }
            (self.own, self.own_overlay) = (Some(id), overlay);
            if self.peers.remove(&id).is_some() {
                touched.peers.insert(id);
            }
            return;
        }
        if self.own == Some(id) {
            (self.own, self.own_overlay, touched.own) = (None, None, true);
            touched.addresses.extend(self.addresses_of(id));
        }
        let peer = host.and_then(Peer::of);
        if self.peers.get(&id) == peer.as_ref() {
            return;
        }
        touched.peers.insert(id);
        touched.addresses.extend(self.addresses_of(id));
        match peer {
            Some(peer) => drop(self.peers.insert(id, peer)),
            None => drop(self.peers.remove(&id)),
        }
    }

    fn container(&mut self, id: i64, container: Option<&Container>, touched: &mut Touched) {
        let now = container.and_then(held);
        let before = self.by_container.get(&id).copied();
        if before == now {
            return;
        }
        for (address, holder) in before.into_iter().chain(now) {
            touched.addresses.insert(address);
            let had = self.host_of(address);
            if before == Some((address, holder)) {
                if let Some(holders) = self.holders.get_mut(&address) {
                    holders.remove(&holder);
                    if holders.is_empty() {
                        self.holders.remove(&address);
                    }
                }
            } else {
                self.holders.entry(address).or_default().insert(holder);
            }
            // What is behind a host is a part of what it is as a peer.
            touched.peers.extend(self.index(address, had));
        }
        match now {
            Some(now) => drop(self.by_container.insert(id, now)),
            None => drop(self.by_container.remove(&id)),
        }
    }

    /// Keeps the addresses by host after the holders of one changed; gives the hosts that lost and gained it.
    fn index(&mut self, address: Ipv4Addr, before: Option<i64>) -> impl Iterator<Item = i64> + use<> {
        let now = self.host_of(address);
        let (lost, gained) = if before == now { (None, None) } else { (before, now) };
        if let Some(host) = lost
            && let Some(addresses) = self.by_host.get_mut(&host)
        {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.by_host.remove(&host);
            }
        }
        if let Some(host) = gained {
            self.by_host.entry(host).or_default().insert(address);
        }
        [lost, gained].into_iter().flatten()
    }

    fn host_of(&self, address: Ipv4Addr) -> Option<i64> {
        self.holders.get(&address)?.last().map(|holder| holder.host)
    }

    /// Addresses of containers of a host.
    pub fn addresses_of(&self, host: i64) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.by_host.get(&host).into_iter().flatten().copied()
    }

    pub fn peer(&self, host: i64) -> Option<&Peer> {
        self.peers.get(&host)
    }

    /// The other hosts.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Where packets to the address go: the host of its container; `None`: nowhere, or to this host.
    pub fn route(&self, address: Ipv4Addr) -> Option<&Peer> {
        self.peers.get(&self.host_of(address)?)
    }

    /// Every address with a route.
    pub fn routes(&self) -> impl Iterator<Item = (Ipv4Addr, &Peer)> {
        let of_host = |(host, addresses): (&i64, _)| Some((self.peers.get(host)?, addresses));
        let pairs = self.by_host.iter().filter_map(of_host);
        pairs.flat_map(|(peer, addresses): (_, &BTreeSet<Ipv4Addr>)| {
            addresses.iter().map(move |address| (*address, peer))
        })
    }
}

fn held(container: &Container) -> Option<(Ipv4Addr, Holder)> {
    if container.network_mode != "managed" {
        return None;
    }
    let address = container.address.as_ref()?.parse().ok()?;
    let is_up = matches!(container.state.as_str(), "running" | "starting" | "restarting" | "updating-running");
    let host = container.host_id?;
    Some((address, Holder { is_up, create_index: container.create_index, id: container.id, host }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remuda_wire::directory::{DirectoryUpdate, Entry};

    use super::*;

    fn host(id: i64, overlay: Option<&str>) -> Entry {
        Entry::Host(Host {
            id,
            uuid: format!("h{id}"),
            name: format!("host{id}"),
            address: Some(format!("192.0.2.{id}")),
            overlay_address: overlay.map(str::to_owned),
            public_key: Some(format!("key{id}")),
            ..Host::default()
        })
    }

    fn container(id: i64, address: u8, host: i64, state: &str) -> Entry {
        Entry::Container(Container {
            id,
            state: state.into(),
            host_id: (host > 0).then_some(host),
            address: Some(format!("10.42.0.{address}")),
            network_mode: "managed".into(),
            create_index: id,
            ..Container::default()
        })
    }

    fn directory(entries: impl IntoIterator<Item = Entry>) -> Directory {
        let mut directory = Directory::default();
        entries.into_iter().for_each(|entry| directory.put(entry));
        directory
    }

    fn shown(tracker: &Tracker) -> Vec<String> {
        tracker.routes().map(|(address, peer)| format!("{address} {}", peer.name)).collect()
    }

    #[test]
    fn addresses_of_other_hosts_have_routes() {
        let known = directory([
            host(1, Some("10.42.9.1")),
            host(2, Some("10.42.9.2")),
            host(3, None),
            container(10, 10, 1, "running"),
            container(11, 11, 2, "running"),
            container(12, 12, 3, "running"),
            container(13, 13, 0, "creating"),
            container(14, 14, 2, "stopped"),
        ]);
        let tracker = Tracker::of(&known, "h1");
        assert_eq!(tracker.own_overlay, Some(Ipv4Addr::new(10, 42, 9, 1)));
        assert_eq!(shown(&tracker), ["10.42.0.11 host2", "10.42.0.14 host2"]);
        assert_eq!(shown(&Tracker::of(&known, "h2")), ["10.42.0.10 host1"]);
        assert_eq!(Tracker::of(&known, "elsewhere").routes().count(), 3, "not itself in the directory");
    }

    #[test]
    fn an_address_that_moves_is_where_it_runs_and_where_it_is_newest() {
        let hosts = || [1, 2, 3].map(|id| host(id, Some(["10.42.9.1", "10.42.9.2", "10.42.9.3"][id as usize - 1])));
        let at = |containers: [Entry; 2]| {
            let known = directory(hosts().into_iter().chain(containers));
            shown(&Tracker::of(&known, "h1")).join(" ")
        };
        let address = "10.42.0.10";
        for (old, new, expected) in [
            ("running", "starting", "host3"),
            ("stopped", "starting", "host3"),
            ("running", "stopped", "host2"),
            ("stopped", "stopped", "host3"),
        ] {
            let found = at([container(10, 10, 2, old), container(11, 10, 3, new)]);
            assert_eq!(found, format!("{address} {expected}"), "{old} {new}");
        }
        assert_eq!(at([container(10, 10, 2, "stopping"), container(11, 10, 1, "running")]), "", "it came here");
    }

    #[test]
    fn a_change_touches_what_it_changes() {
        let entries = |n: i64| (1..=n).map(|id| container(100 + id, u8::try_from(id).unwrap(), 2, "running"));
        for n in [2, 200] {
            let hosts = [host(1, Some("10.42.9.1")), host(2, Some("10.42.9.2"))];
            let mut known = directory(hosts.into_iter().chain(entries(n)));
            let mut tracker = Tracker::of(&known, "h1");
            known.put(container(101, 250, 2, "running"));
            let touched = tracker.update(&known, [Key::Container(101)]);
            assert_eq!((touched.addresses.len(), touched.peers.len(), touched.own), (2, 1, false), "of {n}");
            known.put(container(101, 250, 2, "running"));
            assert!(tracker.update(&known, [Key::Container(101)]).is_empty());
        }
    }

    proptest! {
        #[test]
        fn deltas_and_the_whole_come_to_the_same(
            steps in prop::collection::vec((0..8_i64, 0..6_u8, 0..5_i64, 0..4_usize, any::<bool>()), 0..60)
        ) {
            let mut known = directory([]);
            let mut tracker = Tracker::of(&known, "h1");
            for (number, address, place, state, gone) in steps {
                let (entry, key) = match number {
                    0..3 => (host(number + 1, (address > 1).then_some("10.42.9.9")), Key::Host(number + 1)),
                    _ => {
                        let state = ["running", "stopped", "starting", "stopping"][state];
                        (container(number, address, place, state), Key::Container(number))
                    }
                };
                let update = DirectoryUpdate {
                    revision: known.revision + 1,
                    base: Some(known.revision),
                    upserts: if gone { vec![] } else { vec![entry] },
                    removed: if gone { vec![key] } else { vec![] },
                };
                known.apply(update).unwrap();
                let before = tracker.clone();
                let touched = tracker.update(&known, [key]);
                prop_assert_eq!(&tracker, &Tracker::of(&known, "h1"));
                // Nothing changed that was not named.
                for (address, peer) in before.routes().chain(tracker.routes()) {
                    let differs = before.route(address) != tracker.route(address);
                    prop_assert!(!differs || touched.addresses.contains(&address), "{} {:?}", address, peer);
                }
            }
        }
    }
}
