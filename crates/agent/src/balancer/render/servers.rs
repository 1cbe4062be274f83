//! The servers of a backend: what targets are right now (`load-balancer.md` §3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use remuda_wire::balancer::{BalancerPlan, Locality, Servers, Target};
use remuda_wire::directory::{Container, Directory};

use super::words::word;
use crate::balancer::rendered::Server;

/// States in which a container is given work. Whether it is healthy HAProxy finds out for itself. One that starts has
/// no process yet, and may have none for the length of a pull: 1.0 gave it work all the same, and each request that met it
/// hung until its connection timed out.
const SERVING: [&str; 2] = ["running", "updating-running"];

/// Usable containers by service, of the services this balancer has as targets.
pub struct Members<'a>(BTreeMap<i64, Vec<(&'a Container, IpAddr)>>);

impl<'a> Members<'a> {
    pub fn of(plan: &BalancerPlan, directory: &'a Directory) -> Members<'a> {
        let targets = plan.routes.iter().flat_map(|route| &route.targets);
        let mut members: BTreeMap<i64, Vec<(&Container, IpAddr)>> = targets
            .filter_map(|target| match target.servers {
                Servers::Service(id) => Some((id, Vec::new())),
                Servers::Address(_) | Servers::Name(_) => None,
            })
            .collect();
        for container in directory.containers.values() {
            if container.network_mode != "managed" || !SERVING.contains(&container.state.as_str()) {
                continue;
            }
            let Some(address) = container.address.as_deref().and_then(|address| address.parse().ok()) else { continue };
            for membership in container.services.iter().filter(|membership| membership.sidekick.is_none()) {
                if let Some(of) = members.get_mut(&membership.service_id) {
                    of.push((container, address));
                }
            }
        }
        for of in members.values_mut() {
            let is_local = |container: &Container| container.host_id == Some(plan.host_id);
            match plan.locality {
                Locality::Any => {}
                Locality::PreferLocal if !of.iter().any(|(container, _)| is_local(container)) => {}
                Locality::OnlyLocal | Locality::PreferLocal => of.retain(|(container, _)| is_local(container)),
            }
        }
        Members(members)
    }

    /// Servers with an address, and whole lines for those that HAProxy has to resolve by name. An address with a port
    /// is there once.
    pub fn servers(&self, targets: &[Target], sticky: bool, options: &[String]) -> (Vec<Server>, Vec<String>) {
        let (mut servers, mut lines) = (Vec::new(), Vec::new());
        let (mut known, mut known_names) = (BTreeSet::new(), BTreeSet::new());
        for target in targets {
            let port = target.port;
            let mut add = |name: String, cookie: &str, address: IpAddr| {
                let address = SocketAddr::new(address, port);
                if known.insert(address) {
                    let options = server_options(target, sticky.then_some(cookie), options);
                    servers.push(Server { name, address, options, drain: false });
                }
            };
            match &target.servers {
                Servers::Service(id) => {
                    for (container, address) in self.0.get(id).into_iter().flatten() {
                        add(format!("1i{}-{port}", container.id), &container.uuid, *address);
                    }
                }
                Servers::Address(text) => {
                    if let Ok(address) = text.parse::<IpAddr>() {
                        let name = format!("{address}-{port}");
                        add(name.clone(), &name, address);
                    }
                }
                Servers::Name(host) => {
                    let host = host.trim_end_matches('.');
                    // HAProxy takes files, descriptors and variables for addresses, too.
                    if is_host_name(host) && known_names.insert((host, port)) {
                        let name = format!("{host}-{port}");
                        let options = server_options(target, sticky.then_some(&name), options).join(" ");
                        let line = format!("server {name} {host}:{port} resolvers remuda init-addr none");
                        lines.push(format!("{line} {options}").trim_end().to_owned());
                    }
                }
            }
        }
        (servers, lines)
    }
}

fn is_host_name(text: &str) -> bool {
    let allowed = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '-' | '_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(allowed);
    text.len() <= 253 && text.split('.').all(is_label)
}

fn server_options(target: &Target, cookie: Option<&str>, options: &[String]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    if let Some(cookie) = cookie {
        words.extend(["cookie".to_owned(), word(cookie)]);
    }
    if let Some(weight) = target.weight {
        words.extend(["weight".to_owned(), weight.min(256).to_string()]);
    }
    if let Some(check) = &target.check {
        words.extend(["check", "port"].map(str::to_owned));
        words.push(check.port.max(1).to_string());
        for (key, value) in
            [("inter", check.interval_ms), ("rise", check.healthy_threshold), ("fall", check.unhealthy_threshold)]
        {
            words.extend([key.to_owned(), value.max(1).to_string()]);
        }
    }
    words.extend(options.iter().cloned());
    words
}
