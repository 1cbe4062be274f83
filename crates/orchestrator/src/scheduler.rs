//! Where a container goes: a pure choice over the [`World`].
//!
//! A host is a candidate when it is active and its agent is connected; it must meet every [`Constraint`]; of those
//! that do, the one with the fewest containers wins, then the older one (`scheduling-and-health.md` §§2, 3, 6). Soft
//! constraints are given up one by one when nobody meets all, and never save a hard failure (§5). A refusal carries the
//! sentence users read, made of the constraints the best candidate failed, and for operators how many hosts each
//! constraint excluded. A new rule is one more constraint in [`constraints`].

pub mod affinity;
#[cfg(test)]
mod oracle_tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use remuda_model::host::BRIDGE_PORTS;
use remuda_model::ports::PortSpec;
use remuda_model::states::{ACTIVE, UPDATING_ACTIVE};
use remuda_model::{Container, Host, LaunchConfig, Workload};
use remuda_schema::Row;
use serde_json::Value;

use crate::plan::service::units::{config_name, is_managed};
use crate::settings::Settings;
use crate::transitions::WANT_REMOVED;
use crate::world::{Bridge, World, dependencies};

/// One rule a host must meet to get the container.
pub trait Constraint {
    /// For operators: `ports`, `volumes`…
    fn name(&self) -> &'static str;
    /// Soft ones are given up when no host meets everything.
    fn is_hard(&self) -> bool {
        true
    }
    fn allows(&self, world: &World, host: &Row<Host>) -> bool;
    /// What the host would need, as users read it after `Scheduling failed: `.
    fn explanation(&self, world: &World) -> String;
}

/// Why no host took the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    /// Candidates excluded, by constraint.
    pub excluded: BTreeMap<&'static str, usize>,
    pub n_candidates: usize,
    /// Hosts that are no candidates, by what is wrong with them.
    pub unfit: BTreeMap<&'static str, usize>,
}

impl Refusal {
    fn of(reason: String) -> Refusal {
        Refusal { reason, excluded: BTreeMap::new(), n_candidates: 0, unfit: BTreeMap::new() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduling failed: {}", self.reason)?;
        let list = |counts: &BTreeMap<&'static str, usize>, one: fn(&str, usize) -> String| {
            counts.iter().map(|(what, n)| one(what, *n)).collect::<Vec<_>>().join(", ")
        };
        // Of one host the reason says it all.
        if self.n_candidates > 1 {
            let excluded = list(&self.excluded, |what, n| format!("{n} by {what}"));
            write!(f, " (excluded of {} hosts: {excluded})", self.n_candidates)?;
        }
        if self.n_candidates == 0 && !self.unfit.is_empty() {
            let n_hosts: usize = self.unfit.values().sum();
            let hosts = if n_hosts == 1 { "1 host".to_owned() } else { format!("{n_hosts} hosts") };
            write!(f, " ({hosts}: {})", list(&self.unfit, |what, n| format!("{n} {what}")))?;
        }
        Ok(())
    }
}

/// The answer of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    On(i64),
    /// A container it depends on has no host yet: ask again when it has.
    Later(String),
    Refused(Refusal),
}

/// Chooses a host.
pub fn place(world: &World, container: &Row<Container>, settings: &Settings) -> Placement {
    for id in dependencies(container) {
        let Some(other) = world.containers.get(&id).filter(|row| row.meta.is_live()) else {
            let reason = format!("container {} that it depends on is removed", public(id));
            return Placement::Refused(Refusal::of(reason));
        };
        if other.host_id.is_none() {
            return Placement::Later(format!("Dependent instance not allocated yet: {}", other.public_id()));
        }
    }
    let rules = constraints(world, container);
    let mut candidates: Vec<(i64, Failures)> = Vec::new();
    let mut unfit: BTreeMap<&'static str, usize> = BTreeMap::new();
    for host in in_order(world, settings.spreads()).filter(|host| host.meta.is_live()) {
        if let Some(why) = unfitness(world, host) {
            *unfit.entry(why).or_default() += 1;
            continue;
        }
        let failed: Failures = (0..rules.len()).filter(|rule| !rules[*rule].allows(world, host)).collect();
        if failed.is_empty() {
            return Placement::On(host.meta.id);
        }
        candidates.push((host.meta.id, failed));
    }
    let is_hard = |rule: usize| rules[rule].is_hard();
    let best = match relaxed(&mut candidates, is_hard) {
        Relaxed::On(host) => return Placement::On(host),
        Relaxed::Nobody(best) => best,
    };
    let mut excluded: BTreeMap<&'static str, usize> = BTreeMap::new();
    for rule in candidates.iter().flat_map(|(_, failed)| failed) {
        *excluded.entry(rules[*rule].name()).or_default() += 1;
    }
    let texts = best.map(|best| best.iter().map(|rule| rules[*rule].explanation(world)).collect::<Vec<_>>());
    let reason = texts.map_or_else(|| "No candidates available".to_owned(), |texts| texts.join(", "));
    Placement::Refused(Refusal { reason, excluded, n_candidates: candidates.len(), unfit })
}

/// Constraints that a candidate fails, by their place among all.
type Failures = Vec<usize>;

enum Relaxed {
    On(i64),
    /// With what the best candidate fails, if there is one: all of it hard.
    Nobody(Option<Failures>),
}

/// Gives soft constraints up until a candidate is left without failures: of the candidate with the fewest hard ones,
/// then the fewest soft ones, then the first, the last soft one.
fn relaxed(candidates: &mut [(i64, Failures)], is_hard: impl Fn(usize) -> bool) -> Relaxed {
    loop {
        if let Some((host, _)) = candidates.iter().find(|(_, failed)| failed.is_empty()) {
            return Relaxed::On(*host);
        }
        let n_hard = |failed: &Failures| failed.iter().filter(|rule| is_hard(**rule)).count();
        let best = candidates.iter().map(|(_, failed)| failed).min_by_key(|failed| (n_hard(failed), failed.len()));
        let Some(best) = best else { return Relaxed::Nobody(None) };
        let Some(given_up) = best.iter().rev().copied().find(|rule| !is_hard(*rule)) else {
            return Relaxed::Nobody(Some(best.clone()));
        };
        for (_, failed) in candidates.iter_mut() {
            failed.retain(|rule| *rule != given_up);
        }
    }
}

/// The hosts, the one that is to be tried first at the beginning.
fn in_order(world: &World, spread: bool) -> Box<dyn Iterator<Item = &Arc<Row<Host>>> + '_> {
    if spread {
        return Box::new(world.hosts_by_load());
    }
    let mut hosts: Vec<_> = world.hosts_by_load().collect();
    hosts.sort_by_key(|host| (Reverse(world.load(host.meta.id)), host.meta.id));
    Box::new(hosts.into_iter())
}

/// Takes new containers: active, its agent connected, and a live storage pool.
pub fn is_candidate(world: &World, host: &Row<Host>) -> bool {
    host.meta.is_live() && unfitness(world, host).is_none()
}

/// Why a host takes no new containers at all.
fn unfitness(world: &World, host: &Row<Host>) -> Option<&'static str> {
    let agent_is_active = match host.agent_id {
        None => true,
        Some(_) => world.agent_of(host).is_some_and(|agent| agent.meta.state == ACTIVE),
    };
    let pool_is_active = world
        .each(&world.storage_pools, &world.pools_by_host, host.meta.id)
        .any(|pool| matches!(pool.meta.state.as_str(), ACTIVE | UPDATING_ACTIVE));
    match host.meta.state.as_str() {
        ACTIVE | UPDATING_ACTIVE if !agent_is_active => Some("without a connected agent"),
        ACTIVE | UPDATING_ACTIVE if !pool_is_active => Some("without active storage"),
        ACTIVE | UPDATING_ACTIVE if host.lost_since.is_some() => Some("back after they were lost"),
        ACTIVE | UPDATING_ACTIVE if !world.unconfirmed.is_empty(&host.meta.id) => Some("with stale containers"),
        ACTIVE | UPDATING_ACTIVE => None,
        _ => Some("not active"),
    }
}

/// The rules for that container. With a requested host only the critical ones count.
fn constraints(world: &World, container: &Row<Container>) -> Vec<Box<dyn Constraint>> {
    let mut rules: Vec<Box<dyn Constraint>> = Vec::new();
    if let Some(host) = container.requested_host_id {
        rules.push(Box::new(OneOf { name: "requestedHost", hosts: vec![host.number()] }));
    }
    if let Some(hosts) = volume_hosts(world, container) {
        rules.push(Box::new(OneOf { name: "volumes", hosts }));
    }
    if container.network_mode.as_deref() == Some("managed") {
        rules.push(Box::new(MANAGED_NETWORK));
    }
    let unit = unit_host(world, container);
    if let Some(bridge) = Bridge::of_mode(container.network_mode.as_deref()) {
        // The others of the unit follow to the same host.
        let rest = rest_of_unit(world, container).filter(|_| unit.is_none());
        let rest = rest.filter(|config| Bridge::of_mode(config.network_mode.as_deref()) == Some(bridge));
        rules.push(Box::new(BridgePorts { bridge, n: 1 + rest.count() }));
    }
    if container.requested_host_id.is_some() {
        return rules;
    }
    rules.push(Box::new(ENGINE));
    let ports = world.ports_of(container.meta.id).filter_map(|row| PortNeed::of(&row.data));
    let mut ports: Vec<PortNeed> = ports.filter(|_| publishes(container.network_mode.as_deref())).collect();
    let mut reserved = RESOURCES.map(|resource| (resource.of)(container));
    match unit {
        Some(host) => rules.push(Box::new(OneOf { name: "unit", hosts: vec![host] })),
        // The others of the unit follow to the same host: it must do for them, too.
        None => {
            for config in rest_of_unit(world, container) {
                let specs = config.ports.iter().flatten().filter_map(|text| PortSpec::parse(text).ok());
                let specs = specs.filter(|_| publishes(config.network_mode.as_deref()));
                ports.extend(specs.filter_map(PortNeed::of_spec));
                for (resource, sum) in RESOURCES.iter().zip(&mut reserved) {
                    *sum = sum.saturating_add((resource.of)(config));
                }
                if let Some(host) = config.requested_host_id {
                    rules.push(Box::new(OneOf { name: "requestedHost", hosts: vec![host.number()] }));
                }
            }
        }
    }
    for (resource, amount) in RESOURCES.into_iter().zip(reserved).filter(|(_, amount)| *amount > 0) {
        rules.push(Box::new(Reserves { resource, amount, container: container.meta.id }));
    }
    if !ports.is_empty() {
        rules.push(Box::new(Ports { container: container.meta.id, ports }));
    }
    for id in dependencies(container) {
        let host = world.containers.get(&id).and_then(|row| row.host_id);
        rules.push(Box::new(OneOf { name: "collocation", hosts: host.iter().map(|id| id.number()).collect() }));
    }
    let none = BTreeMap::new();
    let (labels, environment) = (container.labels.as_ref(), container.environment.as_ref());
    let affinity = affinity::rules(labels.unwrap_or(&none), environment.unwrap_or(&none));
    rules.extend(affinity.into_iter().map(|rule| affinity::constraint(world, rule)));
    rules
}

/// Host of the containers that are in the same deployment unit already. Without sidekicks there are none.
fn unit_host(world: &World, container: &Row<Container>) -> Option<i64> {
    let (service, unit) = (container.service_id?.number(), container.deployment_unit_uuid.as_deref()?);
    world.services.get(&service)?.secondary_launch_configs.iter().flatten().next()?;
    let members = world.each(&world.containers, &world.containers_by_unit, unit.to_owned());
    let mut others = members.filter(|other| {
        other.meta.id != container.meta.id
            && other.service_id.is_some_and(|id| id.number() == service)
            && other.meta.is_live()
            && other.desired != WANT_REMOVED
            && is_managed(world, other)
    });
    others.find_map(|other| other.host_id).map(|id| id.number())
}

/// Launch configs of the containers that will be in one unit with this one.
fn rest_of_unit<'a>(world: &'a World, container: &Row<Container>) -> impl Iterator<Item = &'a LaunchConfig> {
    let service = container.service_id.and_then(|id| world.services.get(&id.number()));
    let own = config_name(container).to_owned();
    let configs = service.map(|row| row.launch_configs()).unwrap_or_default();
    configs.into_iter().filter(move |(name, _)| *name != own).map(|(_, config)| config)
}

/// Whether the network mode can publish ports.
pub fn publishes(network_mode: Option<&str>) -> bool {
    matches!(network_mode, Some("managed" | "bridge") | None)
}

/// Where the container would go if nothing of its unit were there yet.
pub fn place_apart(world: &World, container: &Row<Container>, settings: &Settings) -> Placement {
    let mut alone = container.clone();
    alone.deployment_unit_uuid = None;
    alone.network_container_id = None;
    alone.data_volumes_from = None;
    place(world, &alone, settings)
}

fn public(container: i64) -> String {
    remuda_schema::id::encode("instance", container)
}

/// Hosts that the container's existing local volumes lie on; `None` when none of them says.
fn volume_hosts(world: &World, container: &Row<Container>) -> Option<Vec<i64>> {
    let ids = container.data_volume_mounts.iter().flatten().map(|(_, id)| id.number());
    let hosts: Vec<i64> = ids.filter_map(|id| world.volumes.get(&id)?.host_id).map(|id| id.number()).collect();
    match hosts.split_first() {
        None => None,
        Some((first, rest)) if rest.iter().all(|host| host == first) => Some(vec![*first]),
        // Local volumes of different hosts can never be together.
        Some(_) => Some(Vec::new()),
    }
}

struct OneOf {
    name: &'static str,
    hosts: Vec<i64>,
}

impl Constraint for OneOf {
    fn name(&self) -> &'static str {
        self.name
    }
    fn allows(&self, _: &World, host: &Row<Host>) -> bool {
        self.hosts.contains(&host.meta.id)
    }
    fn explanation(&self, _: &World) -> String {
        let ids: Vec<String> = self.hosts.iter().map(|id| remuda_schema::id::encode("host", *id)).collect();
        format!("valid host(s) [{}]", ids.join(", "))
    }
}

/// Something of the host must work.
struct Works {
    name: &'static str,
    what: &'static str,
    problem: fn(&Host) -> Option<&String>,
}

const ENGINE: Works =
    Works { name: "engine", what: "a Docker Engine that answers", problem: |host| host.engine_problem.as_ref() };

const MANAGED_NETWORK: Works =
    Works { name: "network", what: "a working managed network", problem: |host| host.network_problem.as_ref() };

impl Constraint for Works {
    fn name(&self) -> &'static str {
        self.name
    }
    fn allows(&self, _: &World, host: &Row<Host>) -> bool {
        (self.problem)(host).is_none()
    }
    fn explanation(&self, world: &World) -> String {
        let problem = world.hosts.values().find_map(|host| (self.problem)(host));
        format!("host needs {} ({})", self.what, problem.map_or("", String::as_str))
    }
}

/// Each container on a bridge takes one of its ports while it runs.
struct BridgePorts {
    bridge: Bridge,
    n: usize,
}

impl Constraint for BridgePorts {
    fn name(&self) -> &'static str {
        "bridge"
    }
    fn allows(&self, world: &World, host: &Row<Host>) -> bool {
        world.on_bridge(host.meta.id, self.bridge) + self.n <= BRIDGE_PORTS
    }
    fn explanation(&self, _: &World) -> String {
        let network = match self.bridge {
            Bridge::Managed => "managed network",
            Bridge::Docker => "Docker bridge",
        };
        format!("host needs {} free port(s) on its {network}: a Linux bridge has {BRIDGE_PORTS}", self.n)
    }
}

/// Something of a host that containers reserve a part of (`scheduling-and-health.md` §3.3).
#[derive(Clone, Copy)]
struct Resource {
    what: &'static str,
    /// What a container reserves.
    of: fn(&Workload) -> i64,
    /// What a host has; `None` while it has not said.
    total: fn(&Host) -> Option<i64>,
}

const RESOURCES: [Resource; 3] = [
    Resource {
        what: "bytes of memory",
        of: |workload| workload.memory_reservation.unwrap_or(0).max(0),
        // The host tells in MiB.
        total: |host| whole(&host.info.as_ref()?["memoryInfo"]["memTotal"], 1024.0 * 1024.0),
    },
    Resource {
        what: "thousandths of a processor",
        of: |workload| workload.milli_cpu_reservation.unwrap_or(0).max(0),
        total: |host| whole(&host.info.as_ref()?["cpuInfo"]["count"], 1000.0),
    },
    Resource {
        what: "bytes of disk",
        of: |workload| {
            let labels = workload.labels.iter().flatten().filter(|(key, _)| key.starts_with(DISK_SIZE));
            labels.map(|(_, size)| disk_size(size)).fold(0, i64::saturating_add)
        },
        // The largest file system it has.
        total: |host| {
            let mounts = host.info.as_ref()?["diskInfo"]["mountPoints"].as_object()?;
            mounts.values().filter_map(|mount| whole(&mount["total"], 1024.0 * 1024.0)).max()
        },
    },
];

/// Start of the labels that reserve disk for a volume.
const DISK_SIZE: &str = "io.rancher.resource.disksize.";

/// `500m`, `10g`, `1t`; a bare number is GiB. What does not read reserves nothing.
fn disk_size(text: &str) -> i64 {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "k" => 10,
        "m" => 20,
        "" | "g" => 30,
        "t" => 40,
        _ => return 0,
    };
    text[..digits].parse::<i64>().unwrap_or(0).saturating_mul(1 << shift)
}

fn whole(number: &Value, factor: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "far below where whole numbers end")]
    number.as_f64().filter(|number| *number > 0.0).map(|number| (number * factor) as i64)
}

struct Reserves {
    resource: Resource,
    amount: i64,
    container: i64,
}

impl Constraint for Reserves {
    fn name(&self) -> &'static str {
        "resources"
    }
    fn allows(&self, world: &World, host: &Row<Host>) -> bool {
        let Some(total) = (self.resource.total)(host) else { return true };
        let others = world.containers_on(host.meta.id).filter(|row| row.meta.id != self.container);
        let others = others.filter(|row| row.meta.removed.is_none());
        let held = others.map(|row| (self.resource.of)(row)).fold(0, i64::saturating_add);
        held.saturating_add(self.amount) <= total
    }
    fn explanation(&self, _: &World) -> String {
        let Reserves { amount, resource: Resource { what, .. }, .. } = self;
        format!("No healthy hosts with sufficient resources available ({amount} {what} are to be reserved)")
    }
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNeed {
    pub bind_address: String,
    pub public_port: i64,
    pub protocol: String,
}

impl PortNeed {
    pub fn of(port: &remuda_model::Port) -> Option<PortNeed> {
        Some(PortNeed {
            bind_address: port.bind_address.clone().unwrap_or_default(),
            public_port: port.public_port?,
            protocol: port.protocol.clone().unwrap_or_else(|| "tcp".to_owned()),
        })
    }

    fn of_spec(spec: PortSpec) -> Option<PortNeed> {
        Some(PortNeed {
            bind_address: spec.bind.map(|address| address.to_string()).unwrap_or_default(),
            public_port: i64::from(spec.public?),
            protocol: spec.protocol.to_string(),
        })
    }

    /// Same number and protocol on an address in common; no address means every address.
    pub fn conflicts_with(&self, other: &PortNeed) -> bool {
        let everywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.public_port == other.public_port
            && self.protocol == other.protocol
            && (self.bind_address == other.bind_address
                || everywhere(&self.bind_address)
                || everywhere(&other.bind_address))
    }
}

struct Ports {
    container: i64,
    ports: Vec<PortNeed>,
}

impl Constraint for Ports {
    fn name(&self) -> &'static str {
        "ports"
    }
    fn allows(&self, world: &World, host: &Row<Host>) -> bool {
        self.ports.iter().all(|need| {
            let mut held = world.held_ports(host.meta.id, need.public_port);
            held.all(|port| {
                port.instance_id.is_some_and(|id| id.number() == self.container)
                    || PortNeed::of(&port.data).is_none_or(|other| !need.conflicts_with(&other))
            })
        })
    }
    fn explanation(&self, _: &World) -> String {
        let ports: Vec<String> =
            self.ports.iter().map(|need| format!("{}/{}", need.public_port, need.protocol)).collect();
        format!("host needs ports {} available", ports.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::world;

    fn check(container: Row<Container>, world: &World, expected: &str) {
        let told = match place(world, &container, &Settings::default()) {
            Placement::On(id) => format!("on {id}"),
            Placement::Later(why) => format!("later: {why}"),
            Placement::Refused(refusal) => format!("Scheduling failed: {}", refusal.reason),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn the_emptiest_host_wins_then_the_older() {
        let mut w = world().host("a").host("b");
        let (a, b) = (w.host_id("a"), w.host_id("b"));
        let first = w.draft_container("x");
        check(first, &w.world, &format!("on {a}"));
        w = w.running("x", "a");
        let next = w.draft_container("y");
        check(next, &w.world, &format!("on {b}"));
    }

    #[test]
    fn ports_conflict_by_address_and_protocol() {
        let cases = [
            ("8080:80", "8080:80", false),
            ("8080:80", "8080:80/udp", true),
            ("8080:80", "8081:80", true),
            ("127.0.0.1:8080:80", "8080:80", false),
            ("0.0.0.0:8080:80", "127.0.0.1:8080:80", false),
            ("127.0.0.1:8080:80", "127.0.0.2:8080:80", true),
        ];
        for (held, wanted, fits) in cases {
            let mut w = world().host("a").running_with_port("x", "a", held);
            let a = w.host_id("a");
            let container = w.draft_container_with_port("y", wanted);
            let proto = if wanted.ends_with("udp") { "udp" } else { "tcp" };
            let expected = if fits {
                format!("on {a}")
            } else {
                format!("Scheduling failed: host needs ports 8080/{proto} available")
            };
            check(container, &w.world, &expected);
        }
    }

    /// A draft with that affinity label.
    fn with_rule(w: &mut crate::testing::Language, rule: &str) -> Row<Container> {
        let (key, value) = rule.split_once(": ").expect("a rule");
        let mut container = w.draft_container("new");
        container.labels = Some([(format!("io.rancher.scheduler.affinity:{key}"), value.to_owned())].into());
        container
    }

    #[test]
    fn affinity_rules_choose_hosts() {
        // Host `a` is the emptier one, so that a rule nobody needs leads there.
        let mut w = world().host("a").host("b").label_host("b", "Disk", "SSD").running("db", "b").running("x", "b");
        w = w.running("y", "a").label_container("db", "role", "store").label_container("y", "role", "cache");
        let (a, b) = (format!("on {}", w.host_id("a")), format!("on {}", w.host_id("b")));
        let no = |text: &str| format!("Scheduling failed: {text}");
        for (rule, expected) in [
            ("host_label: disk=ssd", b.clone()),
            ("host_label: disk=hdd", no("needs host with label disk: hdd")),
            ("host_label: ssd", no("needs host with label : ssd")),
            ("host_label_ne: disk=ssd", a.clone()),
            ("host_label_ne: disk=hdd,ssd", a.clone()),
            ("host_label_soft: disk=ssd", b.clone()),
            ("host_label_soft: disk=hdd", a.clone()),
            ("host_label_soft_ne: disk=ssd", a.clone()),
            ("container_label: role=STORE", b.clone()),
            ("container_label: role=store,role=cache", no("host must have a container with label role=store")),
            ("container_label_ne: role=cache", b.clone()),
            ("container_label_ne: role=cache,role=store", no("host must not have a container with label role=cache")),
            ("container_label_soft_ne: role=cache,role=store", a.clone()),
            ("container_label_soft_ne: role=cache", b.clone()),
            ("container: DB", b.clone()),
            ("container_ne: y", b.clone()),
            ("container_ne: db,y", no("needs container with label y_ne")),
            ("container_soft: none", a.clone()),
        ] {
            let container = with_rule(&mut w, rule);
            let told = match place(&w.world, &container, &w.settings) {
                Placement::On(id) => format!("on {id}"),
                Placement::Later(why) => format!("later: {why}"),
                Placement::Refused(refusal) => format!("Scheduling failed: {}", refusal.reason),
            };
            assert_eq!(told, expected, "{rule}");
        }
    }

    #[test]
    fn a_requested_host_is_asked_no_affinity() {
        let mut w = world().host("a");
        let a = w.host_id("a");
        let mut container = with_rule(&mut w, "host_label: disk=ssd");
        container.requested_host_id = Some(remuda_schema::Id::new(a));
        check(container, &w.world, &format!("on {a}"));
    }

    #[test]
    fn reservations_fit_on_their_host_together() {
        let w = world().host("a").host("b").running("x", "a");
        let info = |memory: f64| Some(json!({"memoryInfo": {"memTotal": memory}, "cpuInfo": {"count": 2}}));
        let w = w.change_host("a", |row| row.info = info(1024.0)).change_host("b", |row| row.info = info(512.0));
        let mut w = w.change_container("x", |row| {
            row.memory_reservation = Some(700 << 20);
            row.milli_cpu_reservation = Some(1500);
        });
        let (a, b) = (format!("on {}", w.host_id("a")), format!("on {}", w.host_id("b")));
        let no = |amount: &str| {
            format!(
                "Scheduling failed: No healthy hosts with sufficient resources available ({amount} are to be reserved)"
            )
        };
        for (memory_mib, milli_cpu, expected) in [
            (None, None, b.clone()),
            (Some(512), None, b.clone()),
            (Some(513), None, no("537919488 bytes of memory")),
            (Some(1 << 40), None, no("1152921504606846976 bytes of memory")),
            (None, Some(2000), b.clone()),
            (None, Some(2001), no("2001 thousandths of a processor")),
        ] {
            let mut container = w.draft_container("new");
            container.memory_reservation = memory_mib.map(|mib: i64| mib << 20);
            container.milli_cpu_reservation = milli_cpu;
            check(container, &w.world, &expected);
        }
        // A host that has not said what it has is not kept from anything.
        let mut w = w.change_host("a", |row| row.info = None);
        let mut container = w.draft_container("new");
        container.memory_reservation = Some(600 << 20);
        check(container, &w.world, &a);
    }

    #[test]
    fn stopped_containers_count_and_failed_ones_do_not() {
        for (state, fits) in [("stopped", true), ("removing", true), ("error", false), ("purged", false)] {
            let w = world().host("a").running("x", "a").label_container("x", "role", "store");
            let mut w = w.change_container("x", |row| row.meta.state = state.to_owned());
            let container = with_rule(&mut w, "container_label: role=store");
            assert_eq!(matches!(place(&w.world, &container, &w.settings), Placement::On(_)), fits, "{state}");
        }
    }

    #[test]
    fn soft_rules_are_given_up_as_far_as_needed() {
        /// Candidates by what they fail; 0 to 4 are hard, the others soft.
        fn check(candidates: &[&[usize]], expected: Result<i64, Option<&[usize]>>) {
            let mut list: Vec<(i64, Failures)> = (1..).zip(candidates.iter().map(|failed| failed.to_vec())).collect();
            let told = match relaxed(&mut list, |rule| rule < 5) {
                Relaxed::On(host) => Ok(host),
                Relaxed::Nobody(best) => Err(best),
            };
            assert_eq!(told, expected.map_err(|best| best.map(<[usize]>::to_vec)), "{candidates:?}");
        }
        check(&[], Err(None));
        check(&[&[1, 5], &[6, 7], &[5]], Ok(3));
        check(&[&[5, 6], &[6, 7]], Ok(1));
        // The last of the first's goes, and that is all the second had.
        check(&[&[5, 6], &[6]], Ok(2));
        check(&[&[1], &[0, 1], &[2, 5]], Err(Some(&[1])));
        check(&[&[1, 5], &[2]], Err(Some(&[2])));
    }

    #[test]
    fn nobody_is_a_reason() {
        let mut w = world();
        let container = w.draft_container("x");
        check(container, &w.world, "Scheduling failed: No candidates available");
        let mut w = world().host("a").host_state("a", "inactive");
        let container = w.draft_container("x");
        check(container, &w.world, "Scheduling failed: No candidates available");
        let mut w = world().host("a").agent_state("a", "reconnecting");
        let container = w.draft_container("x");
        check(container, &w.world, "Scheduling failed: No candidates available");
    }

    #[test]
    fn a_host_whose_engine_is_away_takes_nothing_new() {
        let away = |w: crate::testing::Language, name: &str| {
            w.change_host(name, |row| row.engine_problem = Some("connection refused".into()))
        };
        let mut w = away(world().host("a").host("b"), "a");
        let b = w.host_id("b");
        let container = w.draft_container("x");
        check(container, &w.world, &format!("on {b}"));
        let mut w = away(w, "b");
        let container = w.draft_container("x");
        let expected = "Scheduling failed: host needs a Docker Engine that answers (connection refused)";
        check(container, &w.world, expected);
        let mut container = w.draft_container("x");
        container.requested_host_id = Some(remuda_schema::Id::new(b));
        check(container, &w.world, &format!("on {b}"));
    }

    #[test]
    fn a_requested_host_is_the_only_one() {
        let mut w = world().host("a").host("b").host_state("b", "inactive");
        let b = w.host_id("b");
        let mut container = w.draft_container("x");
        container.requested_host_id = Some(remuda_schema::Id::new(b));
        let expected = format!("Scheduling failed: valid host(s) [1h{b}]");
        check(container, &w.world, &expected);
    }

    #[test]
    fn shared_networks_and_volumes_keep_together() {
        let mut w = world().host("a").host("b").running("x", "b");
        let (b, x) = (w.host_id("b"), w.container_id("x"));
        let mut container = w.draft_container("y");
        container.network_container_id = Some(remuda_schema::Id::new(x));
        check(container.clone(), &w.world, &format!("on {b}"));
        container.network_container_id = None;
        container.data_volumes_from = Some(vec![remuda_schema::Id::new(x)]);
        check(container.clone(), &w.world, &format!("on {b}"));
        let unplaced = w.add_draft("z");
        container.data_volumes_from = Some(vec![remuda_schema::Id::new(unplaced)]);
        check(container, &w.world, &format!("later: Dependent instance not allocated yet: 1i{unplaced}"));
    }
}
