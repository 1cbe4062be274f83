//! What to tell `ip`, `bridge` and `wg`, as text and arguments: pure, so that it can be read and tested.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use remuda_wire::plan::Backend;

use super::tracker::{Peer, Tracker};
use super::{PROTOCOL, Settings, VXLAN_ID};

/// A route of ours, as the kernel shows it or as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub address: Ipv4Addr,
    /// The neighbour it goes over; `None`: straight into the device.
    pub via: Option<Ipv4Addr>,
    /// `None`: the kernel finds the one that leads to the neighbour.
    pub device: Option<String>,
    /// Source of what this host sends.
    pub source: Option<Ipv4Addr>,
}

impl Route {
    /// To a container of that host, or to the host itself.
    pub fn to(address: Ipv4Addr, peer: &Peer, settings: &Settings, source: Option<Ipv4Addr>) -> Option<Route> {
        if !peer.is_usable(settings.backend) {
            return None;
        }
        let (via, device) = match settings.backend {
            Backend::Wireguard => (None, Some(settings.device.clone())),
            Backend::Vxlan if address == peer.overlay => (None, Some(settings.device.clone())),
            Backend::Vxlan => (Some(peer.overlay), Some(settings.device.clone())),
            Backend::HostGw => (Some(peer.endpoint_v4()?), None),
        };
        Some(Route { address, via, device, source })
    }

    /// The line that makes it so, for `ip -batch`.
    pub fn replace(&self) -> String {
        let mut line = format!("route replace {}/32", self.address);
        if let Some(via) = self.via {
            let _ = write!(line, " via {via}");
        }
        if let Some(device) = &self.device {
            let _ = write!(line, " dev {device}");
        }
        let _ = write!(line, " proto {PROTOCOL}");
        if let Some(source) = self.source {
            let _ = write!(line, " src {source}");
        }
        match (self.via, &self.device) {
            // The neighbour is at the other end of the tunnel, on no network of the device.
            (Some(_), Some(_)) => line.push_str(" onlink"),
            (None, _) => line.push_str(" scope link"),
            _ => {}
        }
        line.push('\n');
        line
    }

    /// Whether the kernel has what is wanted.
    pub fn is_as(&self, wanted: &Route) -> bool {
        let device = wanted.device.is_none() || self.device == wanted.device;
        self.address == wanted.address && self.via == wanted.via && device && self.source == wanted.source
    }
}

/// The line that takes a route away.
pub fn route_delete(address: Ipv4Addr) -> String {
    format!("route delete {address}/32 proto {PROTOCOL}\n")
}

/// Reads `ip -4 route show proto 142`. What does not read is not ours.
pub fn routes_shown(text: &str) -> BTreeMap<Ipv4Addr, Route> {
    text.lines().filter_map(route_shown).map(|route| (route.address, route)).collect()
}

fn route_shown(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
    Some(Route {
        address: words.first()?.parse().ok()?,
        via: after("via").and_then(|word| word.parse().ok()),
        device: after("dev").map(|word| (*word).to_owned()),
        source: after("src").and_then(|word| word.parse().ok()),
    })
}

/// Every route there should be.
pub fn routes_wanted(tracker: &Tracker, settings: &Settings) -> BTreeMap<Ipv4Addr, Route> {
    let subnet = settings.subnet();
    let containers = tracker.routes().filter(|(address, _)| subnet.contains(*address));
    let hosts = tracker.peers().map(|peer| (peer.overlay, peer));
    let route = |(address, peer)| Some((address, Route::to(address, peer, settings, tracker.own_overlay)?));
    containers.chain(hosts).filter_map(route).collect()
}

/// Lines that turn the routes the kernel has into those wanted. Those that are new first: an address that moves is
/// never without one.
pub fn routes_difference(shown: &BTreeMap<Ipv4Addr, Route>, wanted: &BTreeMap<Ipv4Addr, Route>) -> String {
    let differs = |wanted: &&Route| shown.get(&wanted.address).is_none_or(|shown| !shown.is_as(wanted));
    let new = wanted.values().filter(differs).map(Route::replace);
    let old = shown.keys().filter(|address| !wanted.contains_key(address)).map(|address| route_delete(*address));
    new.chain(old).collect()
}

/// The Ethernet address of a host's end of the VXLAN: as unique as its address.
pub fn vxlan_mac(overlay: Ipv4Addr) -> String {
    let [a, b, c, d] = overlay.octets();
    format!("02:73:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Lines for `ip -batch` and `bridge -batch` that make the neighbour known to the VXLAN.
pub fn vxlan_peer(peer: &Peer, device: &str) -> Option<(String, String)> {
    let (endpoint, mac) = (peer.endpoint_v4()?, vxlan_mac(peer.overlay));
    Some((
        format!("neigh replace {} lladdr {mac} dev {device} nud permanent\n", peer.overlay),
        format!("fdb replace {mac} dev {device} dst {endpoint} self permanent\n"),
    ))
}

/// The same taken away.
pub fn vxlan_forget(overlay: Ipv4Addr, device: &str) -> (String, String) {
    (format!("neigh delete {overlay} dev {device}\n"), format!("fdb delete {} dev {device} self\n", vxlan_mac(overlay)))
}

/// `ip link add …` for the VXLAN.
pub fn vxlan_add(settings: &Settings, overlay: Ipv4Addr) -> Vec<String> {
    let words = format!(
        "link add {} address {} type vxlan id {VXLAN_ID} dstport {} nolearning",
        settings.device,
        vxlan_mac(overlay),
        settings.port
    );
    words.split(' ').map(str::to_owned).collect()
}

/// What an interface is, from `ip -d -o link show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tun,
    Wireguard,
    Vxlan {
        port: u16,
    },
    /// Somebody else's.
    Other,
}

/// Reads what `ip -d -o link show dev NAME` says.
pub fn kind(shown: &str) -> Kind {
    let words: Vec<&str> = shown.split_whitespace().collect();
    let has = |a: &str, b: &str| words.windows(2).any(|pair| pair == [a, b]);
    if has("vxlan", "id") {
        let port = words.windows(2).find(|pair| pair[0] == "dstport").and_then(|pair| pair[1].parse().ok());
        return Kind::Vxlan { port: port.unwrap_or(0) };
    }
    match (has("tun", "type"), words.contains(&"wireguard")) {
        (true, _) => Kind::Tun,
        (_, true) => Kind::Wireguard,
        _ => Kind::Other,
    }
}

/// Arguments of `wg` that make a peer as it should be. `endpoint`: set it; otherwise what the kernel learned stays.
pub fn wg_peer(device: &str, peer: &Peer, port: u16, endpoint: bool, allowed: &[Ipv4Addr]) -> Option<Vec<String>> {
    let key = peer.public_key.clone()?;
    let mut args: Vec<String> = ["set", device, "peer", &key].map(str::to_owned).into();
    if let Some(address) = peer.endpoint.filter(|_| endpoint) {
        args.extend(["endpoint".to_owned(), std::net::SocketAddr::new(address, port).to_string()]);
    }
    let allowed: Vec<String> = allowed.iter().map(|address| format!("{address}/32")).collect();
    args.extend(["persistent-keepalive".to_owned(), super::wireguard::KEEPALIVE_SECONDS.to_string()]);
    args.extend(["allowed-ips".to_owned(), allowed.join(",")]);
    Some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(backend: Backend) -> Settings {
        Settings {
            backend,
            subnet: "10.42.0.0/16".into(),
            bridge: "remuda0".into(),
            device: "remuda1".into(),
            port: backend.default_port().unwrap_or(0),
            ..Settings::default()
        }
    }

    fn peer() -> Peer {
        Peer {
            host_id: 2,
            name: "b".into(),
            overlay: Ipv4Addr::new(10, 42, 9, 2),
            endpoint: Some("192.0.2.2".parse().unwrap()),
            public_key: Some("KEY".into()),
        }
    }

    #[test]
    fn each_backend_has_its_routes() {
        let container = Ipv4Addr::new(10, 42, 0, 7);
        let own = Some(Ipv4Addr::new(10, 42, 9, 1));
        let line = |backend, address, peer: &Peer| {
            Route::to(address, peer, &settings(backend), own).map(|route| route.replace().trim_end().to_owned())
        };
        for (backend, address, expected) in [
            (Backend::Wireguard, container, "10.42.0.7/32 dev remuda1 proto 142 src 10.42.9.1 scope link"),
            (Backend::Vxlan, container, "10.42.0.7/32 via 10.42.9.2 dev remuda1 proto 142 src 10.42.9.1 onlink"),
            (Backend::Vxlan, peer().overlay, "10.42.9.2/32 dev remuda1 proto 142 src 10.42.9.1 scope link"),
            (Backend::HostGw, container, "10.42.0.7/32 via 192.0.2.2 proto 142 src 10.42.9.1"),
        ] {
            assert_eq!(line(backend, address, &peer()).unwrap(), format!("route replace {expected}"));
        }
        let unknown = Peer { endpoint: None, public_key: None, ..peer() };
        for backend in Backend::ALL {
            assert_eq!(line(backend, container, &unknown), None, "{backend:?}");
        }
        let behind_nat = Peer { endpoint: None, ..peer() };
        assert!(line(Backend::Wireguard, container, &behind_nat).is_some(), "it dials");
    }

    #[test]
    fn routes_are_compared_with_what_the_kernel_shows() {
        let shown = "10.42.0.7 dev remuda1 scope link src 10.42.9.1 \n\
                     10.42.0.8 via 10.42.9.2 dev remuda1 src 10.42.9.1 onlink \n\
                     10.42.0.9 via 192.0.2.2 dev eth0 src 10.42.9.1 \n\
                     10.42.1.0/24 dev x\n\nblackhole 10.42.0.1\n";
        let shown = routes_shown(shown);
        assert_eq!(shown.len(), 3);
        let wanted = |backend, address| {
            let own = Some(Ipv4Addr::new(10, 42, 9, 1));
            Route::to(Ipv4Addr::new(10, 42, 0, address), &peer(), &settings(backend), own).unwrap()
        };
        let same = [wanted(Backend::Wireguard, 7), wanted(Backend::Vxlan, 8), wanted(Backend::HostGw, 9)];
        let same: BTreeMap<_, _> = same.map(|route| (route.address, route)).into();
        assert_eq!(routes_difference(&shown, &same), "");
        let other = BTreeMap::from([wanted(Backend::Vxlan, 7)].map(|route| (route.address, route)));
        assert_eq!(
            routes_difference(&shown, &other),
            "route replace 10.42.0.7/32 via 10.42.9.2 dev remuda1 proto 142 src 10.42.9.1 onlink\n\
             route delete 10.42.0.8/32 proto 142\nroute delete 10.42.0.9/32 proto 142\n"
        );
    }

    #[test]
    fn interfaces_are_told_apart() {
        for (shown, expected) in [
            (
                "7: remuda1: <POINTOPOINT> mtu 1440 ... promiscuity 0 tun type tun pi off vnet_hdr off persist on",
                Kind::Tun,
            ),
            ("7: remuda1: <POINTOPOINT,NOARP> mtu 1420 ... promiscuity 0 wireguard numtxqueues 1", Kind::Wireguard),
            (
                "8: remuda1: <BROADCAST> mtu 1450 ... vxlan id 1042 srcport 0 0 dstport 4789 nolearning",
                Kind::Vxlan { port: 4789 },
            ),
            ("2: remuda1: <BROADCAST> mtu 1500 qdisc noqueue veth", Kind::Other),
        ] {
            assert_eq!(kind(shown), expected, "{shown}");
        }
    }

    #[test]
    fn the_kernels_wireguard_is_told_of_a_peer() {
        let allowed = [Ipv4Addr::new(10, 42, 9, 2), Ipv4Addr::new(10, 42, 0, 7)];
        let told = |endpoint| wg_peer("remuda1", &peer(), 4500, endpoint, &allowed).unwrap().join(" ");
        let rest = "persistent-keepalive 25 allowed-ips 10.42.9.2/32,10.42.0.7/32";
        assert_eq!(told(true), format!("set remuda1 peer KEY endpoint 192.0.2.2:4500 {rest}"));
        assert_eq!(told(false), format!("set remuda1 peer KEY {rest}"));
        let (neighbour, fdb) = vxlan_peer(&peer(), "remuda1").unwrap();
        assert_eq!(neighbour, "neigh replace 10.42.9.2 lladdr 02:73:0a:2a:09:02 dev remuda1 nud permanent\n");
        assert_eq!(fdb, "fdb replace 02:73:0a:2a:09:02 dev remuda1 dst 192.0.2.2 self permanent\n");
    }
}
