//! A host with a balancer in its plan: the whole agent, with a server that is only heard and asked.

use std::time::Duration;

use remuda_agent::balancer::place::Place;
use remuda_runtime::Tasks;
use remuda_testbed::image;
use remuda_wire::balancer::{BalancerPlan, HealthListener, Listener, Protocol, Route, Servers, Target};
use remuda_wire::directory::{Container, DirectoryUpdate, Entry, Membership};
use remuda_wire::observe::Status;
use remuda_wire::plan::{PlanUpdate, PortPlan, Removal, VolumeCleanup};
use remuda_wire::session::{Consumer, Down};

use super::load::Targets;
use crate::fake_server::{Server, bridged, network};
use crate::start_agent;

/// `http://host:8080/` as text and code.
fn page(host: std::net::Ipv4Addr) -> String {
    let url = format!("http://{host}:8080/");
    let out = std::process::Command::new("curl").args(["-s", "-m", "10", "-w", "%{http_code}", &url]).output();
    String::from_utf8_lossy(&out.expect("curl is here").stdout).into_owned()
}

/// The only container of a service, at the test's own address.
fn target(id: i64, address: std::net::Ipv4Addr, state: &str) -> Entry {
    Entry::Container(Container {
        id,
        uuid: format!("target-{id}"),
        state: state.into(),
        address: Some(address.to_string()),
        network_mode: "managed".into(),
        services: vec![Membership { service_id: id, sidekick: None }],
        ..Container::default()
    })
}

async fn directory(server: &mut Server, base: Option<i64>, upserts: Vec<Entry>) -> i64 {
    server.revision += 1;
    let revision = server.revision;
    let update = DirectoryUpdate { revision, base, upserts, ..DirectoryUpdate::default() };
    server.say(Down::Directory(Box::new(update))).await;
    revision
}

async fn applied(server: &mut Server, revision: i64) {
    let is_applied = |server: &Server| server.applied.get(&Consumer::Balancer).is_some_and(|it| *it >= revision);
    server.until("the balancer works with that directory", is_applied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_follows_plan_and_directory_and_comes_back_without_a_server() {
    let bed = super::rig::bed();
    let mut targets = Targets::new(bed.gateway());
    let ports = [targets.open("one").await.address.port(), targets.open("two").await.address.port()];
    let tasks = Tasks::new();
    let mut server = start_agent(&bed, &tasks);
    server.accept().await;
    let mut container = bridged("lb", image::HAPROXY);
    container.spec.ports =
        vec![PortPlan { bind_address: String::new(), public: Some(8080), private: 80, protocol: "tcp".into() }];
    let targets = [(1, ports[0]), (2, ports[1])].map(|(id, port)| Target {
        servers: Servers::Service(id),
        port,
        ..Target::default()
    });
    let balancer = BalancerPlan {
        container: "lb".into(),
        service: "edge".into(),
        health: Some(HealthListener { port: 42, http: false }),
        listeners: vec![Listener { port: 80, protocol: Protocol::Http, accept_proxy: false }],
        routes: vec![Route { port: 80, targets: targets.to_vec(), ..Route::default() }],
        ..BalancerPlan::default()
    };
    let planned = |config: &str| PlanUpdate {
        containers: vec![container.clone()],
        balancers: vec![BalancerPlan { config: config.into(), ..balancer.clone() }],
        network: Some(network()),
        ..PlanUpdate::default()
    };
    server.update(planned("")).await;
    let gateway = bed.gateway();
    let both = vec![target(1, gateway, "running"), target(2, gateway, "stopped")];
    let first = directory(&mut server, None, both).await;
    server.until("it runs", |server| server.is("lb", Status::Running)).await;
    applied(&mut server, first).await;
    let host = bed.host(0).address;
    let clock = server.seams.clock.clone();
    // Nobody waits for a balancer that does not serve yet, so it may still be starting.
    let serves = async || {
        let deadline = clock.instant() + Duration::from_secs(60);
        while !page(host).ends_with("200") {
            assert!(clock.instant() < deadline, "it does not serve");
            clock.sleep(Duration::from_millis(50)).await;
        }
    };
    serves().await;
    assert_eq!(page(host), "one200");

    // One goes, another comes: told when it is so, and the balancer's container is none the wiser.
    let other = vec![target(1, gateway, "stopping"), target(2, gateway, "running")];
    let second = directory(&mut server, Some(first), other).await;
    applied(&mut server, second).await;
    assert_eq!((page(host), page(host)), ("two200".into(), "two200".into()));

    let counted = |server: &Server| server.balancer_samples.iter().any(|it| it.uuid == "lb" && it.requests >= 3);
    server.until("the requests are counted", counted).await;

    server.update(planned("global\n    rubbish\n")).await;
    let problem = |server: &Server| server.containers["lb"].balancer_problem.clone();
    server.until("the refusal is told", |server| problem(server).is_some()).await;
    let told = problem(&server).expect("is told");
    assert!(told.contains("unknown keyword 'rubbish' in 'global' section") && told.contains("(`rubbish`)"), "{told}");
    assert_eq!(page(host), "two200");
    // Targets go on coming and going.
    let third = directory(&mut server, Some(second), vec![target(1, gateway, "running")]).await;
    applied(&mut server, third).await;
    assert_ne!(page(host), page(host));

    // Agent and container die, and there is no server: the last configuration that worked is back.
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
    bed.host(0).docker(&["kill", "r-lb"]).expect("is killed");
    let tasks = Tasks::new();
    let mut server = start_agent(&bed, &tasks);
    serves().await;

    server.revision = 100;
    server.accept().await;
    server.update(planned("defaults\n    timeout client 7s\n")).await;
    server.until("all is well", |server| server.is("lb", Status::Running) && problem(server).is_none()).await;

    let place = Place::of(&bed.host(0).dir.join("agent"));
    assert_eq!(place.uuids(), ["lb"]);
    let removal = Removal { uuid: "lb".into(), docker_id: None, volumes: VolumeCleanup::default() };
    let base = Some(server.revision);
    server.update(PlanUpdate { base, removals: vec![removal], ..PlanUpdate::default() }).await;
    server.until("it is gone", |server| server.confirmed.contains("lb")).await;
    // The engine's own word may come before the files are gone.
    let deadline = clock.instant() + Duration::from_secs(60);
    while !place.uuids().is_empty() {
        assert!(clock.instant() < deadline, "{:?}", place.uuids());
        clock.sleep(Duration::from_millis(10)).await;
    }
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
}
