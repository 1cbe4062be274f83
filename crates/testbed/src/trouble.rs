//! What a test, or a person, does to a host: pulls its cable, cuts it off from some others, freezes it, ends it.
//!
//! Everything is found by name (namespace, wire, cgroup), so that any process can do it, not only the one that made the
//! testbed; and all of it goes away with the testbed, also when its owner is killed in the middle.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::{Host, hierarchy, ip, output};
use crate::wait;

/// Tells our firewall rules from those of Docker and of the agent.
const MARK: &str = "remuda-testbed-cut";
/// A process that is killed is gone within this time.
const DIES_WITHIN: Duration = Duration::from_secs(20);

/// Which packets between a host and another machine are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Both,
    /// What the others send.
    In,
    /// What this host sends.
    Out,
}

/// A part of a host that can be frozen or ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything on it, containers too: as if the power failed.
    Host,
    /// The Docker daemon, with its containerd; running containers stay.
    Dockerd,
    /// `remuda agent`.
    Agent,
    /// `remuda datapath`.
    Datapath,
    /// What runs in containers.
    Containers,
}

impl Part {
    /// All of them, by the names people write.
    pub const NAMES: [(&str, Part); 5] = [
        ("host", Part::Host),
        ("dockerd", Part::Dockerd),
        ("agent", Part::Agent),
        ("datapath", Part::Datapath),
        ("containers", Part::Containers),
    ];

    /// By its name.
    pub fn of(name: &str) -> Result<Part> {
        let known = Part::NAMES.iter().find(|(known, _)| *known == name);
        let names = Part::NAMES.map(|(name, _)| name).join(", ");
        known.map(|(_, part)| *part).with_context(|| format!("`{name}` is no part of a host; there are {names}"))
    }

    fn has(self, cgroup: &str, arguments: &[String]) -> bool {
        let is_container = cgroup.contains("/containers");
        let program = arguments.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let command = arguments.get(1).map(String::as_str).unwrap_or_default();
        match self {
            Part::Host => true,
            Part::Containers => is_container,
            Part::Dockerd => !is_container && matches!(program, "dockerd" | "containerd"),
            Part::Agent => !is_container && command == "agent",
            Part::Datapath => !is_container && command == "datapath",
        }
    }
}

impl Host {
    /// Takes this host off the wire, as a pulled cable would.
    pub fn disconnect(&self) -> Result<()> {
        ip(&["link", "set", &self.wire, "down"])
    }

    /// Puts it back, and ends what [`Host::cut`] did.
    pub fn reconnect(&self) -> Result<()> {
        ip(&["link", "set", &self.wire, "up"])?;
        self.mend()
    }

    /// From now on packets between this host and that address are lost, without a word to either.
    pub fn cut(&self, other: Ipv4Addr, way: Way) -> Result<()> {
        let other = other.to_string();
        if way != Way::Out {
            self.raw(&["-I", "PREROUTING", "-s", &other])?;
        }
        if way != Way::In {
            self.raw(&["-I", "OUTPUT", "-d", &other])?;
            // What its containers send is forwarded.
            self.raw(&["-I", "PREROUTING", "-d", &other])?;
        }
        Ok(())
    }

    /// Ends every cut of this host.
    pub fn mend(&self) -> Result<()> {
        let rules = self.exec(&["iptables", "-w", "-t", "raw", "-S"])?;
        for rule in rules.lines().filter(|rule| rule.contains(MARK)) {
            let words: Vec<&str> = rule.split_whitespace().skip(1).map(|word| word.trim_matches('"')).collect();
            self.exec(&[&["iptables", "-w", "-t", "raw", "-D"], &words[..]].concat())?;
        }
        Ok(())
    }

    fn raw(&self, rule: &[&str]) -> Result<()> {
        let tail = ["-m", "comment", "--comment", MARK, "-j", "DROP"];
        self.exec(&[&["iptables", "-w", "-t", "raw"], rule, &tail[..]].concat()).map(drop)
    }

    /// The processes of a part, by their ids.
    pub fn processes(&self, part: Part) -> Vec<u32> {
        let root = hierarchy().join(self.cgroup.trim_start_matches('/'));
        let mut found = BTreeSet::new();
        gather(&root, &mut |cgroup, pid| {
            let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<String> =
                text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into()).collect();
            if part.has(cgroup, &arguments) && !is_dead(pid) {
                found.insert(pid);
            }
        });
        found.into_iter().collect()
    }

    /// Freezes a part: it does nothing any more, and its connections stay open.
    pub fn pause(&self, part: Part) -> Result<()> {
        // What starts others may have done so meanwhile.
        let mut paused = BTreeSet::new();
        loop {
            let fresh: Vec<u32> = self.processes(part).into_iter().filter(|pid| !paused.contains(pid)).collect();
            if fresh.is_empty() {
                return if paused.is_empty() { self.nobody(part) } else { Ok(()) };
            }
            signal("-STOP", &fresh)?;
            paused.extend(fresh);
        }
    }

    /// Lets it go on.
    pub fn resume(&self, part: Part) -> Result<()> {
        match self.processes(part) {
            pids if pids.is_empty() => self.nobody(part),
            pids => signal("-CONT", &pids),
        }
    }

    /// Ends a part as SIGKILL does, and waits until it is gone. What is gone already is no mistake.
    pub fn kill(&self, part: Part) -> Result<()> {
        wait::until(&format!("the end of {part:?} of {}", self.name), DIES_WITHIN, || {
            let pids = self.processes(part);
            if pids.is_empty() {
                return Ok(());
            }
            signal("-KILL", &pids)?;
            bail!("{} processes live", pids.len())
        })?;
        if matches!(part, Part::Host | Part::Dockerd) {
            self.kill_dockerd()?;
        }
        if part == Part::Host {
            self.forget_network()?;
        }
        Ok(())
    }

    /// What the kernel of a machine forgets when it boots: interfaces of its own making, and every firewall rule.
    fn forget_network(&self) -> Result<()> {
        let links = self.exec(&["ip", "-o", "link", "show"])?;
        let names = links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
        for name in names.filter(|name| !matches!(*name, "lo" | "eth0")) {
            // The other end of a pair goes with the first.
            let _ = self.exec(&["ip", "link", "del", name]);
        }
        for table in ["filter", "nat", "mangle", "raw"] {
            for act in ["-F", "-X"] {
                self.exec(&["iptables", "-w", "-t", table, act])?;
            }
        }
        Ok(())
    }

    fn nobody(&self, part: Part) -> Result<()> {
        bail!("nothing of {part:?} runs on {}", self.name)
    }
}

fn gather(dir: &Path, found: &mut impl FnMut(&str, u32)) {
    let name = dir.to_string_lossy();
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).for_each(|pid| found(&name, pid));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), found);
        }
    }
}

/// A zombie is dead; burying it is its parent's business.
fn is_dead(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.lines().any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"))
}

/// Sends a signal to processes; one that ended meanwhile is no mistake.
fn signal(name: &str, pids: &[u32]) -> Result<()> {
    let mut command = Command::new("kill");
    command.arg(name).args(pids.iter().map(u32::to_string));
    match output(command) {
        Err(error) if pids.iter().any(|pid| !is_dead(*pid)) && name != "-KILL" => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_by_what_they_run() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (cgroup, line, expected) in [
            ("/x/0/h1/daemons", "/usr/sbin/dockerd --host unix:///x", Some(Part::Dockerd)),
            ("/x/0/h1/daemons", "containerd --config /x", Some(Part::Dockerd)),
            ("/x/0/h1/daemons", "/usr/bin/containerd-shim-runc-v2 -id 4", None),
            ("/x/0/h1/daemons", "/t/remuda agent --url http://x", Some(Part::Agent)),
            ("/x/0/h1/daemons", "/t/remuda datapath --state-dir /x", Some(Part::Datapath)),
            ("/x/0/h1/containers/4f", "/t/remuda agent", Some(Part::Containers)),
        ] {
            let all = [Part::Dockerd, Part::Agent, Part::Datapath, Part::Containers];
            let found: Vec<Part> = all.into_iter().filter(|part| part.has(cgroup, &words(line))).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{line}");
        }
        assert!(Part::of("moon").is_err_and(|error| error.to_string().contains("there are host, dockerd")));
    }
}
