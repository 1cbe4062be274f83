//! The encrypted tunnel: the kernel's WireGuard where it is, else our own (gotatun) on a TUN device. Both are told the
//! same: a key and a port, peers, and which addresses are behind each.
//!
//! The kernel's is configured with `wg`; a kernel that has WireGuard on a host without `wg` gets our own. A peer's
//! endpoint is set when it is new or has changed, never again: what a host behind NAT was heard from is better.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gotatun::device::{Device, DeviceBuilder, Peer as OwnPeer};
use gotatun::udp::socket::UdpSocketFactory;

use super::commands::wg_peer;
use super::tracker::Peer;
use super::tun::Tun;
use super::{Settings, key};
use crate::network::Problem;
use crate::network::linux::run;
use crate::state_dir::StateDir;

/// How often a quiet pair says something, so that a NAT between them does not forget it.
pub const KEEPALIVE_SECONDS: u16 = 25;
/// Room for packets that arrive in bursts; the kernel may give less.
const BUFFER: usize = 4 << 20;

type Own = Device<(UdpSocketFactory, Tun, Tun)>;

/// A tunnel that is up.
pub struct Tunnel {
    carrier: Carrier,
    port: u16,
    device: String,
    /// What each peer was last told to be.
    peers: BTreeMap<i64, Told>,
}

enum Carrier {
    Kernel,
    Own(Own),
}

#[derive(Clone, PartialEq, Eq)]
struct Told {
    peer: Peer,
    allowed: Vec<Ipv4Addr>,
}

fn read_key(settings: &Settings) -> Result<key::Key, Problem> {
    let failed = |reason: String| Problem::new(format!("the tunnel to other hosts has no key: {reason}"));
    let state = StateDir::open(&settings.key_dir).map_err(|error| failed(error.to_string()))?;
    let found = key::load(&state).map_err(|error| failed(error.to_string()))?;
    found.ok_or_else(|| failed(format!("{} is missing in {}", key::FILE, settings.key_dir.display())))
}

impl Tunnel {
    /// Opens the kernel's, on an interface that [`super::keeper`] has made.
    pub async fn kernel(settings: &Settings) -> Result<Tunnel, Problem> {
        let (key, port) = (read_key(settings)?, settings.port.to_string());
        let args = ["set", &settings.device, "listen-port", &port, "private-key", "/dev/stdin"];
        run("wg", &args, Some(&format!("{}\n", key.text()))).await?;
        Ok(Tunnel::new(Carrier::Kernel, settings))
    }

    /// Opens our own.
    pub async fn own(settings: &Settings) -> Result<Tunnel, Problem> {
        let key = read_key(settings)?;
        let mtu = u16::try_from(settings.mtu).unwrap_or(u16::MAX);
        let tun = Tun::open(&settings.device, mtu).map_err(|error| {
            Problem::new(format!(
                "the tunnel to other hosts needs /dev/net/tun and CAP_NET_ADMIN ({error}); load the kernel module \
                 `tun`, or choose another `networkBackend` for the environment"
            ))
        })?;
        let built = DeviceBuilder::new()
            .with_default_udp()
            .udp_recv_buffer_size(BUFFER)
            .udp_send_buffer_size(BUFFER)
            .with_ip(tun)
            .with_listen_port(settings.port)
            .build();
        let device = built.await.map_err(|error| cannot_open(settings.port, &error))?;
        // A device opens its port when it is built with peers, or when its key changes: without this it never would.
        device.set_private_key(key.secret()).await.map_err(|error| cannot_open(settings.port, &error))?;
        Ok(Tunnel::new(Carrier::Own(device), settings))
    }

    fn new(carrier: Carrier, settings: &Settings) -> Tunnel {
        Tunnel { carrier, port: settings.port, device: settings.device.clone(), peers: BTreeMap::new() }
    }

    pub fn name(&self) -> &'static str {
        match self.carrier {
            Carrier::Kernel => "wireguard (kernel)",
            Carrier::Own(_) => "wireguard (userspace)",
        }
    }

    /// Makes a peer what it should be, with the addresses of its containers; `None`: it is gone.
    pub async fn peer_set(
        &mut self,
        host: i64,
        peer: Option<&Peer>,
        containers: impl Iterator<Item = Ipv4Addr>,
    ) -> Result<(), Problem> {
        let told = peer
            .filter(|peer| peer.public_key.is_some())
            .map(|peer| Told { allowed: [peer.overlay].into_iter().chain(containers).collect(), peer: peer.clone() });
        let before = self.peers.get(&host).cloned();
        if before == told {
            return Ok(());
        }
        if let Some(before) = &before
            && told.as_ref().is_none_or(|told| told.peer.public_key != before.peer.public_key)
        {
            self.forget(&before.peer).await?;
            self.peers.remove(&host);
        }
        let Some(told) = told else { return Ok(()) };
        let known = self.peers.get(&host);
        let endpoint_differs = known.is_none_or(|known| known.peer.endpoint != told.peer.endpoint);
        self.tell(&told, known.is_none(), endpoint_differs).await?;
        self.peers.insert(host, told);
        Ok(())
    }

    /// Hosts that were told of and may be gone.
    pub fn hosts(&self) -> Vec<i64> {
        self.peers.keys().copied().collect()
    }

    async fn tell(&self, told: &Told, is_new: bool, endpoint_differs: bool) -> Result<(), Problem> {
        let Told { peer, allowed } = told;
        match &self.carrier {
            Carrier::Kernel => {
                let args = wg_peer(&self.device, peer, self.port, endpoint_differs, allowed);
                let args = args.unwrap_or_default();
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                run("wg", &args, None).await.map(drop)
            }
            Carrier::Own(device) => {
                let Some(public) = peer.public_key.as_deref().and_then(key::public) else {
                    return Err(Problem::new(format!("the key of host {} does not read", peer.name)));
                };
                let endpoint = peer.endpoint.map(|address| SocketAddr::new(address, self.port));
                let allowed: Vec<IpAddr> = allowed.iter().copied().map(IpAddr::V4).collect();
                let change = device.write(async |device| {
                    if is_new {
                        let mut own = OwnPeer::new(public);
                        own.endpoint = endpoint;
                        own.keepalive = Some(KEEPALIVE_SECONDS);
                        device.add_or_update_peer(own).await;
                    }
                    let changed = device.modify_peer(&public, |peer| {
                        peer.clear_allowed_ips();
                        peer.add_allowed_ips(allowed);
                        if endpoint_differs {
                            peer.set_endpoint(endpoint);
                        }
                    });
                    changed.await;
                });
                change.await.map_err(|error| cannot_open(self.port, &error))
            }
        }
    }

    async fn forget(&self, peer: &Peer) -> Result<(), Problem> {
        let Some(key) = peer.public_key.as_deref() else { return Ok(()) };
        match &self.carrier {
            Carrier::Kernel => run("wg", &["set", &self.device, "peer", key, "remove"], None).await.map(drop),
            Carrier::Own(device) => {
                let Some(public) = key::public(key) else { return Ok(()) };
                let removal = device.write(async |device| {
                    device.remove_peer(&public).await;
                });
                removal.await.map_err(|error| cannot_open(self.port, &error))
            }
        }
    }

    /// Lets go of the interface and the port.
    pub async fn close(self) {
        if let Carrier::Own(device) = self.carrier {
            device.stop().await;
        }
    }
}

fn cannot_open(port: u16, error: &gotatun::device::Error) -> Problem {
    Problem::new(format!(
        "the tunnel to other hosts cannot use UDP port {port} ({error}); free it, or change `networkPort` of the \
         environment"
    ))
}
