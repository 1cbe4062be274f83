//! The scheduler against a second one that knows no index and no shortcut: written from the text of
//! `scheduling-and-health.md` §§2 to 5 alone, over plain lists, and asked the same questions about thousands of small
//! worlds. Then the worked examples of §10.

use std::collections::BTreeMap;

use remuda_model::states::*;
use remuda_model::{Agent, Container, Host, InstanceHealthCheck, Label, Port, ServiceExposeMap, StoragePool, Workload};
use remuda_runtime::Random;
use remuda_schema::{Id, Resource, Row, Time};

use super::{BRIDGE_PORTS, Placement, place};
use crate::record::Record;
use crate::settings::Settings;
use crate::testing::{PROJECT, world};
use crate::world::World;

/// A host, as far as it matters.
#[derive(Clone, Debug)]
struct SomeHost {
    id: i64,
    state: &'static str,
    agent: Option<&'static str>,
    has_pool: bool,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct SomeContainer {
    id: i64,
    name: String,
    uuid: String,
    host: Option<i64>,
    state: &'static str,
    removed: bool,
    upgraded_out: bool,
    labels: BTreeMap<String, String>,
    /// Address, public port, protocol.
    ports: Vec<(String, i64, String)>,
}

/// The container to place.
#[derive(Clone, Debug)]
struct Question {
    labels: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    ports: Vec<(String, i64, String)>,
    requested: Option<i64>,
    volumes_from: Vec<i64>,
    spread: bool,
}

// ---- the second scheduler

/// One rule: what it is about, whether it must be there, whether it is hard.
#[derive(Clone, Debug)]
enum About {
    HostLabel(Option<(String, String)>),
    ContainerLabel(Option<(String, String)>),
    Container(String),
    Ports,
    Beside(i64),
    Requested(i64),
}

#[derive(Clone, Debug)]
struct SomeRule {
    about: About,
    must: bool,
    hard: bool,
}

fn pair(element: &str) -> Option<(String, String)> {
    let (key, value) = element.split_once('=')?;
    Some((key.trim().to_lowercase(), value.trim().to_lowercase()))
}

fn rules_of(question: &Question) -> Vec<SomeRule> {
    let mut rules = Vec::new();
    if let Some(host) = question.requested {
        // The others are skipped.
        return vec![SomeRule { about: About::Requested(host), must: true, hard: true }];
    }
    rules.push(SomeRule { about: About::Ports, must: true, hard: true });
    for id in &question.volumes_from {
        rules.push(SomeRule { about: About::Beside(*id), must: true, hard: true });
    }
    for (key, value) in &question.labels {
        let key = key.to_lowercase();
        let Some(rest) = key.strip_prefix("io.rancher.scheduler.affinity:") else { continue };
        // The longest subject that the key begins with.
        let subject = ["container_label", "host_label", "container"].into_iter().find(|name| rest.starts_with(name));
        let Some(subject) = subject else { continue };
        let (must, hard) = match &rest[subject.len()..] {
            "" => (true, true),
            "_ne" => (false, true),
            "_soft" => (true, false),
            "_soft_ne" => (false, false),
            _ => continue,
        };
        for element in value.split(',').map(str::trim).filter(|element| !element.is_empty()) {
            let about = match subject {
                "host_label" => About::HostLabel(pair(element)),
                "container_label" => About::ContainerLabel(pair(element)),
                _ => About::Container(element.to_lowercase()),
            };
            rules.push(SomeRule { about, must, hard });
        }
    }
    for name in question.environment.keys() {
        let Some((kind, rule)) = name.split_once(':') else { continue };
        let parsed = [("==~", true, false), ("!=~", false, false), ("==", true, true), ("!=", false, true)]
            .into_iter()
            .find_map(|(sign, must, hard)| rule.split_once(sign).map(|(key, value)| (key, value, must, hard)));
        let Some((key, value, must, hard)) = parsed else { continue };
        let (key, value) = (key.to_lowercase(), value.to_lowercase());
        let about = match (kind, key.as_str()) {
            ("constraint", _) => About::HostLabel(Some((key, value))),
            ("affinity", "container") => About::Container(value),
            ("affinity", _) => About::ContainerLabel(Some((key, value))),
            _ => continue,
        };
        rules.push(SomeRule { about, must, hard });
    }
    rules
}

fn holds(rule: &SomeRule, host: &SomeHost, question: &Question, all: &[SomeContainer]) -> bool {
    let here: Vec<&SomeContainer> = all.iter().filter(|row| row.host == Some(host.id)).collect();
    let same = |labels: &BTreeMap<String, String>, wanted: &(String, String)| {
        labels.iter().any(|(key, value)| key.to_lowercase() == wanted.0 && value.to_lowercase() == wanted.1)
    };
    let there = match &rule.about {
        About::HostLabel(wanted) => wanted.as_ref().is_some_and(|wanted| same(&host.labels, wanted)),
        About::ContainerLabel(wanted) => wanted.as_ref().is_some_and(|wanted| {
            here.iter().any(|row| {
                !row.removed && !matches!(row.state, ERROR | ERRORING) && !row.upgraded_out && same(&row.labels, wanted)
            })
        }),
        About::Container(name) => here
            .iter()
            .any(|row| !row.removed && (row.name.to_lowercase() == *name || row.uuid.to_lowercase() == *name)),
        About::Ports => question.ports.iter().all(|(address, port, protocol)| {
            let any = |address: &str| address.is_empty() || address == "0.0.0.0";
            !here.iter().any(|row| {
                // One that stops has the port until it has stopped.
                matches!(row.state, STARTING | RESTARTING | RUNNING | STOPPING)
                    && row.ports.iter().any(|(other, number, of)| {
                        number == port && of == protocol && (other == address || any(other) || any(address))
                    })
            })
        }),
        About::Beside(id) => here.iter().any(|row| row.id == *id),
        About::Requested(id) => host.id == *id,
    };
    there == rule.must
}

/// The host, or nobody.
fn second_opinion(hosts: &[SomeHost], all: &[SomeContainer], question: &Question) -> Option<i64> {
    let mut candidates: Vec<&SomeHost> = hosts
        .iter()
        .filter(|host| matches!(host.state, ACTIVE | UPDATING_ACTIVE))
        .filter(|host| host.agent.is_none_or(|agent| agent == ACTIVE) && host.has_pool)
        .collect();
    let load = |host: &SomeHost| {
        let n = all.iter().filter(|row| row.host == Some(host.id) && !row.removed).count();
        i64::try_from(n).unwrap() * if question.spread { 1 } else { -1 }
    };
    candidates.sort_by_key(|host| (load(host), host.id));
    let mut rules = rules_of(question);
    loop {
        let failed = |host: &SomeHost| -> Vec<usize> {
            (0..rules.len()).filter(|at| !holds(&rules[*at], host, question, all)).collect()
        };
        if let Some(host) = candidates.iter().find(|host| failed(host).is_empty()) {
            return Some(host.id);
        }
        // The candidate that fails least; the first of several.
        let mut best: Option<(usize, usize, Vec<usize>)> = None;
        for host in &candidates {
            let failed = failed(host);
            let n_hard = failed.iter().filter(|at| rules[**at].hard).count();
            let key = (n_hard, failed.len() - n_hard);
            if best.as_ref().is_none_or(|(hard, soft, _)| key < (*hard, *soft)) {
                best = Some((key.0, key.1, failed));
            }
        }
        // One of its soft rules goes: the one that was written last.
        let given_up = best?.2.into_iter().rev().find(|at| !rules[*at].hard)?;
        rules.remove(given_up);
    }
}

// ---- worlds

struct Dice<'a>(&'a Random);

impl Dice<'_> {
    fn below(&self, n: usize) -> usize {
        usize::try_from(self.0.below(u64::try_from(n).unwrap())).unwrap()
    }

    fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let one = |_| (self.one(&["disk", "Zone", "role"]).to_owned(), self.one(&["a", "A", "b"]).to_owned());
        (0..self.below(3)).map(one).collect()
    }

    fn ports(&self) -> Vec<(String, i64, String)> {
        let one = |_| {
            let address = self.one(&["", "", "0.0.0.0", "10.0.0.1", "10.0.0.2"]);
            (address.to_owned(), self.one(&[80, 81]), self.one(&["tcp", "tcp", "udp"]).to_owned())
        };
        (0..self.below(3)).map(one).collect()
    }

    fn rules(&self) -> BTreeMap<String, String> {
        let one = |_| {
            let subject = self.one(&["host_label", "HOST_label", "container_label", "container", "volumes"]);
            let suffix = self.one(&["", "_ne", "_soft", "_soft_ne", "_maybe"]);
            let element = |_| match subject {
                "container" => self.one(&["c1", "C2", "uuid-3", "none", ""]),
                _ => self.one(&["disk=a", "zone=A", "Role = b", "disk", "", "role=a"]),
            };
            let value: Vec<&str> = (0..=self.below(3)).map(element).collect();
            (format!("io.rancher.scheduler.affinity:{subject}{suffix}"), value.join(","))
        };
        (0..self.below(4)).map(one).collect()
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let one = |_| {
            let sign = self.one(&["==", "!=", "==~", "!=~"]);
            let name = match self.below(4) {
                0 => format!("constraint:disk{sign}a"),
                1 => format!("affinity:container{sign}c1"),
                2 => format!("affinity:role{sign}b"),
                _ => "PATH".to_owned(),
            };
            (name, String::new())
        };
        (0..self.below(2)).map(one).collect()
    }
}

fn put<T: Resource>(w: &mut World, id: i64, mut row: Row<T>)
where
    Record: From<Row<T>>,
{
    row.meta.id = id;
    if row.meta.uuid.is_empty() {
        row.meta.uuid = format!("uuid-{id}");
    }
    w.put(&row.into());
}

fn port_rows(w: &mut World, container: i64, ports: &[(String, i64, String)]) {
    for (n, (address, port, protocol)) in ports.iter().enumerate() {
        let data = Port {
            instance_id: Some(Id::new(container)),
            bind_address: Some(address.clone()).filter(|address| !address.is_empty()),
            private_port: Some(1),
            public_port: Some(*port),
            protocol: Some(protocol.clone()),
            ..Port::default()
        };
        put(w, container * 10 + i64::try_from(n).unwrap(), Row::new(Some(PROJECT), ACTIVE, data));
    }
}

fn as_world(hosts: &[SomeHost], all: &[SomeContainer]) -> World {
    let mut w = World::new(PROJECT, Time(0));
    for host in hosts {
        let agent = host.agent.map(|state| {
            put(&mut w, 1000 + host.id, Row::new(Some(99), state, Agent::default()));
            Id::new(1000 + host.id)
        });
        let data = Host { agent_id: agent, labels: Some(host.labels.clone()), ..Host::default() };
        put(&mut w, host.id, Row::new(Some(PROJECT), host.state, data));
        if host.has_pool {
            let pool = StoragePool { host_id: Some(Id::new(host.id)), ..StoragePool::default() };
            put(&mut w, 2000 + host.id, Row::new(Some(PROJECT), ACTIVE, pool));
        }
    }
    for it in all {
        let data = Container {
            host_id: it.host.map(Id::new),
            service_id: it.upgraded_out.then(|| Id::new(77)),
            workload: Workload { network_mode: Some("bridge".into()), ..Workload::default() },
            ..Container::default()
        };
        let mut row = Row::new(Some(PROJECT), it.state, data);
        row.meta.name = Some(it.name.clone());
        row.meta.uuid.clone_from(&it.uuid);
        row.meta.removed = it.removed.then_some(Time(1));
        put(&mut w, it.id, row);
        port_rows(&mut w, it.id, &it.ports);
        for (n, (key, value)) in it.labels.iter().enumerate() {
            let data = Label {
                key: Some(key.clone()),
                value: Some(value.clone()),
                instance_id: Some(Id::new(it.id)),
                ..Label::default()
            };
            put(&mut w, it.id * 10 + i64::try_from(n).unwrap(), Row::new(Some(PROJECT), CREATED, data));
        }
        let map = ServiceExposeMap {
            instance_id: Some(Id::new(it.id)),
            service_id: Some(Id::new(77)),
            managed: !it.upgraded_out,
            upgrade: it.upgraded_out,
            ..ServiceExposeMap::default()
        };
        if it.upgraded_out {
            put(&mut w, 5000 + it.id, Row::new(Some(PROJECT), ACTIVE, map));
        }
    }
    w
}

fn ask(w: &mut World, question: &Question) -> Placement {
    let data = Container {
        workload: Workload {
            labels: Some(question.labels.clone()),
            environment: Some(question.environment.clone()),
            network_mode: Some("bridge".into()),
            requested_host_id: question.requested.map(Id::new),
            data_volumes_from: Some(question.volumes_from.iter().copied().map(Id::new).collect()),
            ..Workload::default()
        },
        desired: "running".into(),
        ..Container::default()
    };
    let mut row = Row::new(Some(PROJECT), CREATING, data);
    (row.meta.id, row.meta.uuid) = (900, "uuid-900".into());
    port_rows(w, 900, &question.ports);
    let spread = if question.spread { "true" } else { "false" };
    let settings = Settings::default().with("simple.allocator.spread", Some(spread.into()));
    place(w, &row, &settings)
}

#[test]
fn both_schedulers_choose_the_same_host() {
    let (mut n_placed, mut n_refused) = (0, 0);
    for seed in 0..6_000 {
        let random = Random::seeded(seed);
        let dice = Dice(&random);
        let states = [ACTIVE, ACTIVE, ACTIVE, ACTIVE, UPDATING_ACTIVE, INACTIVE, REMOVING];
        let agents = [Some(ACTIVE), Some(ACTIVE), Some(ACTIVE), None, Some(RECONNECTING)];
        let hosts: Vec<SomeHost> = (1..=1 + i64::try_from(dice.below(5)).unwrap())
            .map(|id| SomeHost {
                id,
                state: dice.one(&states),
                agent: dice.one(&agents),
                has_pool: dice.below(10) > 0,
                labels: dice.labels(),
            })
            .collect();
        let states = [RUNNING, RUNNING, STARTING, STOPPED, STOPPING, RESTARTING, ERROR, ERRORING, REMOVED, PURGING];
        let all: Vec<SomeContainer> = (1..=i64::try_from(dice.below(9)).unwrap())
            .map(|id| {
                let state = dice.one(&states);
                SomeContainer {
                    id,
                    name: format!("c{}", 1 + dice.below(4)),
                    uuid: format!("uuid-{id}"),
                    host: Some(1 + i64::try_from(dice.below(hosts.len())).unwrap()),
                    state,
                    removed: matches!(state, REMOVED | PURGING),
                    upgraded_out: dice.below(5) == 0,
                    labels: dice.labels(),
                    ports: dice.ports(),
                }
            })
            .collect();
        let live: Vec<i64> = all.iter().filter(|row| !row.removed).map(|row| row.id).collect();
        let question = Question {
            labels: dice.rules(),
            environment: dice.variables(),
            ports: dice.ports(),
            requested: (dice.below(6) == 0).then(|| 1 + i64::try_from(dice.below(6)).unwrap()),
            volumes_from: (0..dice.below(2)).filter(|_| !live.is_empty()).map(|_| dice.one(&live)).collect(),
            spread: dice.below(5) > 0,
        };
        let expected = second_opinion(&hosts, &all, &question);
        let found = match ask(&mut as_world(&hosts, &all), &question) {
            Placement::On(host) => Some(host),
            Placement::Refused(_) => None,
            Placement::Later(why) => panic!("seed {seed}: {why}"),
        };
        assert_eq!(found, expected, "seed {seed}: {hosts:#?} {all:#?} {question:#?}");
        if found.is_some() { n_placed += 1 } else { n_refused += 1 }
    }
    assert!(n_placed > 1_500 && n_refused > 1_500, "{n_placed} placed, {n_refused} refused: too much of one kind");
}

// ---- §10

#[test]
fn scheduling_10_1_port_limit() {
    let w = world().host("a").host("b").host("c").service("web", 4).publish("web", "web", "80:80").settle();
    assert_eq!(w.told(), ["s_web_1 running", "s_web_2 running", "s_web_3 running", "s_web_4 error"]);
    let row = w.service_row("web");
    let expected = "Waiting for [instance:s_web_4]. Instance status: \
                    Scheduling failed: host needs ports 80/tcp available (excluded of 3 hosts: 3 by ports)";
    assert_eq!(row.meta.progress.message.as_deref(), Some(expected));
    assert_eq!((row.meta.state.as_str(), row.health_state.as_deref()), (ACTIVATING, Some(DEGRADED)));
    let more = w.host("d").settle();
    assert_eq!(more.service_row("web").meta.state, ACTIVE);
    assert_eq!(more.told().iter().filter(|told| told.ends_with(" running")).count(), 4);
}

#[test]
fn scheduling_10_2_anti_affinity() {
    let key = "io.rancher.scheduler.affinity:container_label_soft_ne";
    let w = world().host("a").host("b").service("web", 2).change_service("web", |row| {
        let labels = row.launch_config.as_mut().expect("has one").labels.get_or_insert_default();
        labels.insert(key.into(), "io.rancher.stack_service.name=web".into());
    });
    // What requests do and this language does not: labels of containers are rows too.
    let labelled = |w: crate::testing::Language| {
        let names: Vec<String> = w.told().iter().filter_map(|told| Some(told.split_once(' ')?.0.to_owned())).collect();
        names.into_iter().fold(w, |w, name| w.label_container_of(&name, "io.rancher.stack_service.name", "s/web"))
    };
    let w = labelled(w.settle());
    let rule = w.named("s_web_1").and_then(|row| row.labels.clone()).unwrap_or_default()[key].clone();
    assert_eq!(rule, "io.rancher.stack_service.name=s/web");
    let host = |name: &str| w.named(name).and_then(|row| row.host_id).map(|id| id.number());
    assert_ne!(host("s_web_1"), host("s_web_2"));
    let w = w.running("other", "a").change_service("web", |row| row.scale = Some(3)).settle();
    let third = w.named("s_web_3").and_then(|row| row.host_id).map(|id| id.number());
    assert_eq!(third, Some(w.host_id("b")), "no host is free of them: the emptier one");
}

#[test]
fn scheduling_10_3_mixed() {
    let mut w =
        world().host("a").host("b").label_host("a", "disk", "ssd").running("x", "a").label_container("x", "app", "x");
    let mut row = w.draft_container("new");
    let rule = |kind: &str| format!("io.rancher.scheduler.affinity:{kind}");
    let rules = [(rule("host_label"), "disk=ssd".to_owned()), (rule("container_label_soft_ne"), "app=x".to_owned())];
    row.labels = Some(rules.into());
    assert_eq!(place(&w.world, &row, &w.settings), Placement::On(w.host_id("a")));
}

// ---- what a refusal tells

fn told(w: &World, row: &Row<Container>) -> String {
    match place(w, row, &Settings::default()) {
        Placement::On(host) => format!("on {host}"),
        Placement::Later(why) => why,
        Placement::Refused(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_refusal_counts_what_each_constraint_excludes() {
    let mut w =
        world().host("a").host("b").host("c").host("d").label_host("a", "disk", "ssd").host_state("d", INACTIVE);
    w = w.running_with_port("x", "a", "80:80");
    let mut row = w.draft_container_with_port("new", "80:80");
    row.labels = Some([("io.rancher.scheduler.affinity:host_label".to_owned(), "disk=ssd".to_owned())].into());
    let expected =
        "Scheduling failed: needs host with label disk: ssd (excluded of 3 hosts: 2 by affinity, 1 by ports)";
    assert_eq!(told(&w.world, &row), expected);
    let w = w.host_state("a", "inactive").agent_state("b", "reconnecting").agent_state("c", "disconnected");
    let expected = "Scheduling failed: No candidates available (4 hosts: 2 not active, 2 without a connected agent)";
    assert_eq!(told(&w.world, &row), expected);
}

#[test]
fn a_bridge_has_so_many_ports() {
    let mut w = (0..BRIDGE_PORTS).fold(world().host("a"), |w, n| w.running(&format!("c{n}"), "a"));
    let a = w.host_id("a");
    let mut row = w.draft_container("new");
    let full = "Scheduling failed: host needs 1 free port(s) on its managed network: a Linux bridge has 1023";
    assert_eq!(told(&w.world, &row), full);
    row.requested_host_id = Some(Id::new(a));
    assert_eq!(told(&w.world, &row), full, "a wish does not make it wider");
    row.network_mode = Some("bridge".into());
    assert_eq!(told(&w.world, &row), format!("on {a}"), "Docker's own is another one");
    row.network_mode = Some("managed".into());
    let w = w.change_container("c7", |row| row.meta.enter(STOPPED));
    assert_eq!(told(&w.world, &row), format!("on {a}"), "what is stopped is not plugged in");
    let w = w.host("b");
    row.requested_host_id = None;
    assert_eq!(told(&w.world, &row), format!("on {}", w.host_id("b")));
}

#[test]
fn disk_is_reserved_by_labels() {
    let info =
        serde_json::json!({"diskInfo": {"mountPoints": {"/dev/a": {"total": 10_240.0}, "/dev/b": {"total": 99.0}}}});
    let w = world().host("a").change_host("a", |row| row.info = Some(info)).running("x", "a");
    let label = |size: &str| Some([("io.rancher.resource.disksize.data".to_owned(), size.to_owned())].into());
    let mut w = w.change_container("x", |row| row.labels = label("6"));
    for (size, fits) in [("4g", true), ("4GB", true), ("4097m", false), ("1t", false), ("much", true), ("4", true)] {
        let mut row = w.draft_container("new");
        row.labels = label(size);
        assert_eq!(told(&w.world, &row).starts_with("on "), fits, "{size}");
    }
}

#[test]
fn health_has_no_say() {
    let w = world().host("a").host("b").running("x", "a").change_container("x", |row| {
        row.health_check = Some(InstanceHealthCheck { port: Some(1), ..InstanceHealthCheck::default() });
        row.health_state = Some(UNHEALTHY.into());
    });
    let mut w = w.running("y", "b").running("z", "b");
    let row = w.draft_container("new");
    assert_eq!(told(&w.world, &row), format!("on {}", w.host_id("a")));
}

#[test]
fn what_is_removed_has_no_weight_until_and_after_it_is_purged() {
    for state in [REMOVED, PURGING] {
        let w = world().host("a").host("b").running("x", "a").change_container("x", |row| {
            row.meta.enter(state);
            row.meta.removed = Some(Time(1));
        });
        let mut w = w;
        let row = w.draft_container("new");
        assert_eq!(told(&w.world, &row), format!("on {}", w.host_id("a")), "{state}");
    }
}
