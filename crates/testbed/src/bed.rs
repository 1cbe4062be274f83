//! A testbed: hosts on one wire.
//!
//! The wire is a bridge in the root namespace with an address of its own, so that a server run by the test and the
//! hosts reach each other. Addresses are 10.213.SLOT.0/24: outside Docker's own pools and outside the 10.42.0.0/16 of
//! managed networks. There is no way out: what a host sends elsewhere is refused at once rather than lost, so that a
//! mistaken image pull fails in milliseconds and not after minutes of DNS time-outs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};

use crate::host::{Host, ip, output};
use crate::slot::Slot;

/// Hosts, until dropped.
pub struct Testbed {
    hosts: Vec<Host>,
    guardian: Child,
    slot: Slot,
}

impl Testbed {
    /// Makes `n_hosts` hosts and waits until their daemons answer.
    pub fn start(n_hosts: usize) -> Result<Testbed> {
        if !(1..=200).contains(&n_hosts) {
            bail!("a testbed has 1 to 200 hosts, not {n_hosts}");
        }
        possible()?;
        let slot = Slot::take()?;
        fs::create_dir_all(slot.dir()).with_context(|| format!("cannot make {}", slot.dir().display()))?;
        let guardian = slot.guard()?;
        // From here on Drop cleans, also when a step fails half way.
        let mut bed = Testbed { hosts: Vec::new(), guardian, slot };
        bed.make_bridge().context("cannot make the testbed's bridge")?;
        for host_idx in 0..n_hosts {
            let host = bed.make_host(host_idx).with_context(|| format!("cannot make host{}", host_idx + 1))?;
            bed.hosts.push(host);
        }
        std::thread::scope(|scope| {
            let starts: Vec<_> = bed.hosts.iter().map(|host| scope.spawn(|| host.start_dockerd())).collect();
            starts.into_iter().try_for_each(|start| start.join().map_err(|_| anyhow!("starting a daemon panicked"))?)
        })?;
        Ok(bed)
    }

    /// All hosts, `host1` first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host, counted from zero.
    ///
    /// # Panics
    /// When the testbed has fewer hosts.
    pub fn host(&self, host_idx: usize) -> &Host {
        &self.hosts[host_idx]
    }

    /// The test machine's address as the hosts see it: where a server has to listen.
    pub fn gateway(&self) -> Ipv4Addr {
        self.slot.gateway()
    }

    /// A directory that disappears with the testbed.
    pub fn dir(&self) -> PathBuf {
        self.slot.dir()
    }

    /// The number all its names and addresses carry.
    pub fn slot(&self) -> u8 {
        self.slot.number
    }

    /// A command that runs on the test machine itself, beside the hosts, and ends with the testbed.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let cgroup = crate::host::hierarchy().join(format!("remuda-testbed/{}/beside", self.slot.number));
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
        let mut command = Command::new("sh");
        command.arg(crate::slot::scripts()?.join("enter.sh")).arg("/proc/self/ns/net").arg(cgroup).arg(program);
        Ok(command)
    }

    /// Loads an image on all hosts at once.
    pub fn load_image(&self, name: &str) -> Result<()> {
        std::thread::scope(|scope| {
            let loads: Vec<_> = self.hosts.iter().map(|host| scope.spawn(move || host.load_image(name))).collect();
            loads.into_iter().try_for_each(|load| load.join().map_err(|_| anyhow!("loading {name} panicked"))?)
        })
    }

    fn make_bridge(&self) -> Result<()> {
        let bridge = self.slot.bridge();
        let gateway = format!("{}/24", self.slot.gateway());
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["address", "add", &gateway, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        // A refusal is sent only by an interface that forwards; `prohibit` is the one that UDP clients hear, too.
        let forwarding = format!("/proc/sys/net/ipv4/conf/{bridge}/forwarding");
        fs::write(&forwarding, "1").with_context(|| format!("cannot write {forwarding}"))?;
        ip(&["rule", "add", "iif", &bridge, "prohibit"])?;
        // A machine on which a dockerd ever ran drops bridged traffic by default.
        let mut accept = Command::new("iptables");
        accept.args(["-w", "-I", "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"]);
        output(accept)?;
        Ok(())
    }

    fn make_host(&self, host_idx: usize) -> Result<Host> {
        let slot = &self.slot;
        let (netns, wire, bridge) = (slot.netns(host_idx), slot.wire(host_idx), slot.bridge());
        let host = Host {
            name: format!("host{}", host_idx + 1),
            address: slot.address(host_idx),
            netns_name: netns.clone(),
            dir: slot.dir().join(format!("h{}", host_idx + 1)),
            wire: wire.clone(),
            cgroup: slot.cgroup(host_idx),
            dockerd: Mutex::new(None),
        };
        for dir in [host.dir.clone(), host.daemons_cgroup()] {
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let address = format!("{}/24", host.address);
        let gateway = slot.gateway().to_string();
        ip(&["netns", "add", &netns])?;
        ip(&["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &netns])?;
        ip(&["link", "set", &wire, "master", &bridge, "up"])?;
        ip(&["-n", &netns, "link", "set", "lo", "up"])?;
        ip(&["-n", &netns, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &netns, "link", "set", "eth0", "up"])?;
        ip(&["-n", &netns, "route", "add", "default", "via", &gateway])?;
        // Refusals from the gateway are limited to one a second; a resolver that asks twice would wait for the other.
        for name_server in name_servers() {
            ip(&["-n", &netns, "route", "replace", "prohibit", &name_server.to_string()])?;
        }
        Ok(host)
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(error) = self.slot.clean() {
            eprintln!("testbed: {error:#}");
        }
        for host in &self.hosts {
            // clean.sh has ended them; the zombies are ours to bury.
            if let Err(error) = host.kill_dockerd() {
                eprintln!("testbed: {error:#}");
            }
        }
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
    }
}

/// The machine's own name servers, which no host reaches. Loopback ones refuse by themselves.
fn name_servers() -> Vec<Ipv4Addr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok());
    servers.filter(|server| !server.is_loopback()).collect()
}

/// Says in one sentence what the machine lacks, before anything is made.
fn possible() -> Result<()> {
    if !fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        bail!("a testbed makes network namespaces and starts dockerd: run the tests as root");
    }
    let path = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let needed = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io or docker-cli"),
        ("iptables", "iptables"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("flock", "util-linux"),
    ];
    for (program, package) in needed {
        if !path.iter().any(|dir| Path::new(dir).join(program).exists()) {
            bail!("a testbed needs `{program}`: install {package}, or run `packaging/install-deps`");
        }
    }
    Ok(())
}

/// Removes what dead processes left behind and gives the numbers of those testbeds.
pub fn sweep() -> Result<Vec<u8>> {
    crate::slot::sweep()
}

/// The directories of testbeds whose owners live.
pub fn dirs_in_use() -> Result<Vec<PathBuf>> {
    Ok(crate::slot::used()?.into_iter().map(crate::slot::dir).collect())
}
