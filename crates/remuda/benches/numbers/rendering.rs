//! How long a host takes to write the configuration of a load balancer with a thousand rules and ten targets each, and
//! how long HAProxy takes to read it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use remuda_agent::balancer::render::render;
use remuda_wire::balancer::{BalancerPlan, Listener, Protocol, Route, Servers, Target};
use remuda_wire::directory::{Container, Directory, Membership};

use crate::table::{Table, milliseconds};

const N_RULES: i64 = 1_000;
const N_TARGETS: i64 = 10;
const ROUNDS: u32 = 20;

pub fn measure(table: &mut Table) -> Result<()> {
    let (plan, directory) = (plan(), directory());
    let mut fastest = Duration::MAX;
    let mut config = String::new();
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        config = render(&plan, &directory)?.config;
        fastest = fastest.min(begin.elapsed());
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("haproxy.cfg");
    std::fs::write(&path, &config)?;
    let begin = Instant::now();
    let read =
        Command::new("/usr/sbin/haproxy").arg("-c").arg("-f").arg(&path).output().context("haproxy is needed")?;
    let reading = begin.elapsed();
    if !read.status.success() {
        bail!("HAProxy refuses the configuration: {}", String::from_utf8_lossy(&read.stderr));
    }
    table.row(
        &format!("writing a balancer of {N_RULES} rules and {} servers", N_RULES * N_TARGETS),
        milliseconds(fastest),
        "< 20 ms",
        "HAProxy reading it",
        milliseconds(reading),
        fastest,
        reading,
    );
    Ok(())
}

fn plan() -> BalancerPlan {
    let route = |n: i64| Route {
        port: 80,
        host: format!("app-{n}.example.com"),
        path: format!("/v{}", n % 7),
        targets: vec![Target { servers: Servers::Service(n), port: 8080, ..Target::default() }],
        ..Route::default()
    };
    BalancerPlan {
        listeners: vec![Listener { port: 80, protocol: Protocol::Http, accept_proxy: false }],
        routes: (0..N_RULES).map(route).collect(),
        ..BalancerPlan::default()
    }
}

fn directory() -> Directory {
    let container = |id: i64| Container {
        id,
        uuid: format!("uuid-{id}"),
        state: "running".to_owned(),
        address: Some(format!("10.42.{}.{}", id / 250, id % 250 + 2)),
        network_mode: "managed".to_owned(),
        services: vec![Membership { service_id: id / N_TARGETS, sidekick: None }],
        ..Container::default()
    };
    let containers = (0..N_RULES * N_TARGETS).map(|id| (id, std::sync::Arc::new(container(id)))).collect();
    Directory { containers, ..Directory::default() }
}
