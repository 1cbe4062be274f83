//! The way between hosts: which host has which address, and how packets get there (DESIGN §7).
//!
//! It lives in the datapath process, because it must go on without the agent. [`tracker`] says who is where, a pure
//! function of the directory kept by deltas; [`commands`] says it in the language of `ip` and `wg`, purely; [`keeper`]
//! carries it out and looks again periodically; [`wireguard`] is the encrypted tunnel, the kernel's or our own on a
//! [`tun`] device; [`probe`] asks the other hosts whether they are there; [`arp`] tells containers that an address has
//! moved; [`key`] is the host's key.
//!
//! `ip` by argument vector and batch was chosen over a netlink library: a batch of ten thousand routes is one process,
//! and what it says when it fails is what people find explained elsewhere.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use remuda_wire::plan::Backend;
use serde::{Deserialize, Serialize};

use crate::network::routes::Subnet;

pub mod tracker;

pub mod commands;

pub mod key;

pub mod tun;

pub mod wireguard;

pub mod arp;

pub mod probe;

pub mod keeper;

pub use keeper::Keeper;

/// Mark of our routes in the kernel's tables (`proto`).
pub const PROTOCOL: &str = "142";
/// Identifier of our VXLAN, that of the original's.
pub const VXLAN_ID: u32 = 1042;

/// What the agent tells the datapath of the way between hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    pub backend: Backend,
    /// The managed network, `10.42.0.0/16`.
    pub subnet: String,
    /// Interface of the containers.
    pub bridge: String,
    /// Interface of the tunnel; there is none with `host-gw`.
    pub device: String,
    pub port: u16,
    /// Of the tunnel's interface.
    pub mtu: u32,
    /// The directory with this host's key. The key itself is told to nobody.
    pub key_dir: PathBuf,
    /// The public half: another means that the file has changed.
    pub public_key: String,
}

impl Settings {
    /// The managed network; whoever wrote it wrote it from a parsed one.
    pub fn subnet(&self) -> Subnet {
        self.subnet.parse().unwrap_or(Subnet::new(Ipv4Addr::UNSPECIFIED, 32))
    }
}

/// How the way between hosts stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// What was asked for last.
    pub settings: Option<Settings>,
    /// What was asked for is in the kernel.
    pub is_applied: bool,
    /// Directory revision the routes are of.
    pub revision: Option<i64>,
    /// `wireguard (kernel)`, `wireguard (userspace)`, `vxlan`, `host-gw`; empty while there is no other host.
    pub carrier: String,
    /// This host's own address on the managed network.
    pub address: Option<Ipv4Addr>,
    pub n_routes: usize,
    /// Why it does not work, in one sentence.
    pub problem: Option<String>,
    pub peers: Vec<PeerStatus>,
}

/// Another host as seen from here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    /// Row number.
    pub host_id: i64,
    pub name: String,
    /// Its address on the managed network.
    pub address: Option<Ipv4Addr>,
    /// `None`: not asked long enough to say.
    pub is_reachable: Option<bool>,
    /// Of the last answer.
    pub round_trip_us: u64,
}
