//! Load balancers on real HAProxy: what our configuration costs beside one written by hand, how soon a change of a
//! target is in effect, and how many requests fail while everything changes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use remuda_agent::balancer::instance::Run;
use remuda_agent::balancer::keeper::Keeper;
use remuda_agent::balancer::render::render;
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::metrics::Metrics;
use remuda_runtime::Seams;
use remuda_testbed::{Host, image};
use remuda_wire::balancer::{BalancerPlan, HealthListener, Listener, Protocol, Route, Servers, Target};
use remuda_wire::directory::{Container, Directory, Membership};

use crate::table::{Table, milliseconds, percentile};

#[path = "../../../agent/tests/balancer/churn.rs"]
mod churn;
#[path = "../../../agent/tests/balancer/load.rs"]
mod load;
#[path = "../../../agent/tests/balancer/rig.rs"]
mod rig;

const N_REQUESTS: u64 = 500_000;
const N_BALANCERS: usize = 50;
const N_TARGETS: i64 = 1_000;
const N_CHANGES: i64 = 200;
const N_ROUNDS: usize = 5;
/// A target that costs next to nothing.
const TARGET: &str = "defaults\n    mode http\n    timeout client 50s\n    timeout server 50s\n    timeout connect 5s\nfrontend f\n    bind *:80\n    http-request return status 200 content-type text/plain string hello\n";

pub fn measure(table: &mut Table) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        throughput(table).await?;
        changes_simulated(table).await?;
        changes_real(table).await;
        let churned = churn::churn(N_REQUESTS).await;
        let rate = churned.n_changes as f64 / churned.seconds;
        let counts = churned.counts;
        let n = churned.n_requests;
        let value = format!("0 of {n} at {rate:.1} changes/s, {} reloads", counts.reloads);
        table.plain_row("requests failed while targets, rules, certificates and agent change", value, "0");
        Ok(())
    })
}

fn plan(n_services: i64) -> BalancerPlan {
    let targets = (1..=n_services).map(|id| Target { servers: Servers::Service(id), port: 80, ..Target::default() });
    BalancerPlan {
        container: "lb".into(),
        service: "edge".into(),
        health: Some(HealthListener { port: 42, http: false }),
        listeners: vec![Listener { port: 80, protocol: Protocol::Http, accept_proxy: false }],
        routes: vec![Route { port: 80, targets: targets.collect(), ..Route::default() }],
        ..BalancerPlan::default()
    }
}

fn directory(revision: i64, containers: impl IntoIterator<Item = (i64, String)>) -> Arc<Directory> {
    let containers = containers.into_iter().map(|(id, address)| {
        let container = Container {
            id,
            uuid: format!("uuid-{id}"),
            state: "running".into(),
            address: Some(address),
            network_mode: "managed".into(),
            services: vec![Membership { service_id: 1, sidekick: None }],
            ..Container::default()
        };
        (id, Arc::new(container))
    });
    Arc::new(Directory { revision, containers: containers.collect(), ..Directory::default() })
}

/// `10.42.X.Y` for the number.
fn address(id: i64) -> String {
    format!("10.42.{}.{}", 1 + id / 250, 1 + id % 250)
}

/// Requests per second and p99 through our container, beside one that a person configured, with the same targets.
async fn throughput(table: &mut Table) -> Result<()> {
    let bed = rig::bed();
    let host = bed.host(0);
    let config = host.dir.join("target.cfg");
    std::fs::write(&config, TARGET)?;
    let mut targets = Vec::new();
    for name in ["t1", "t2"] {
        haproxy(host, name, &config, &[])?;
        let format = "{{.NetworkSettings.IPAddress}}";
        targets.push(host.docker(&["inspect", "-f", format, name])?.trim().to_owned());
    }
    let servers: String = targets.iter().map(|it| format!("    server {it} {it}:80\n")).collect();
    let by_hand = host.dir.join("by-hand.cfg");
    std::fs::write(
        &by_hand,
        format!(
            "global\n    maxconn 4096\ndefaults\n    mode http\n    option http-server-close\n    option forwardfor\n    timeout client 50s\n    timeout server 50s\n    timeout connect 5s\nfrontend f\n    bind *:80\n    default_backend b\nbackend b\n{servers}"
        ),
    )?;
    haproxy(host, "by-hand", &by_hand, &["-p", "8081:80"])?;
    let by_hand = format!("http://{}:8081/", host.address);

    let known = directory(1, (1..).zip(targets));
    let rendered = render(&plan(1), &known)?;
    let mut balancer = rig::Balancer::started(bed, &rendered).await;
    balancer.settle(&rendered).await;
    let ours = format!("http://{}/", balancer.address);
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..N_ROUNDS {
        own.push(wrk(&ours)?);
        other.push(wrk(&by_hand)?);
    }
    let median = |rounds: &[(f64, Duration)]| {
        let mut rates: Vec<f64> = rounds.iter().map(|(rate, _)| *rate).collect();
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() / 2], percentile(&mut rounds.iter().map(|(_, p99)| *p99).collect::<Vec<_>>(), 50))
    };
    let ((own_rate, own_p99), (other_rate, other_p99)) = (median(&own), median(&other));
    // Per request, so that the ratio reads like the others: below 1.05 is as good as 0.95 of the throughput.
    let (each, other_each) = (Duration::from_secs_f64(1.0 / own_rate), Duration::from_secs_f64(1.0 / other_rate));
    let shown = |rate: f64| format!("{rate:.0}/s");
    table.row(
        "requests through a load balancer (ratio: time for each)",
        shown(own_rate),
        "ratio <= 1.05",
        "HAProxy configured by hand",
        shown(other_rate),
        each,
        other_each,
    );
    let beside = "HAProxy configured by hand";
    let (own, other) = (milliseconds(own_p99), milliseconds(other_p99));
    table.row("request through a load balancer, p99", own, "ratio <= 1.05", beside, other, own_p99, other_p99);
    Ok(())
}

fn haproxy(host: &Host, name: &str, config: &std::path::Path, more: &[&str]) -> Result<()> {
    let bind = format!("{}:/haproxy.cfg:ro", config.display());
    let args = ["run", "-d", "--name", name, "--user", "0", "-v", &bind];
    let command = [image::HAPROXY, "haproxy", "-W", "-db", "-f", "/haproxy.cfg"];
    host.docker(&[args.as_slice(), more, &command].concat()).map(drop)
}

/// Requests per second, and the 99th percentile.
fn wrk(url: &str) -> Result<(f64, Duration)> {
    let out = Command::new("wrk").args(["-t", "2", "-c", "32", "-d", "4", "--latency", url]).output();
    let out = out.context("cannot run wrk: install the package wrk")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let after = |mark: &str| text.lines().find_map(|line| line.trim().strip_prefix(mark)).map(str::trim);
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        bail!("requests failed: {text}");
    }
    let rate = after("Requests/sec:").and_then(|word| word.parse().ok()).with_context(|| text.clone())?;
    let p99 = after("99%").with_context(|| text.clone())?;
    let at = p99.find(|letter: char| letter.is_ascii_alphabetic()).with_context(|| text.clone())?;
    let (number, unit) = p99.split_at(at);
    let seconds = number.parse::<f64>()?
        * match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            _ => 1.0,
        };
    Ok((rate, Duration::from_secs_f64(seconds)))
}

/// From a directory with a changed target to the word that it is in effect, at each of many balancers with all targets.
async fn changes_simulated(table: &mut Table) -> Result<()> {
    let seams = Seams::real();
    let plans = BTreeMap::from([("lb".to_owned(), plan(1))]);
    let run = Run { docker_id: "lb".into(), started_at: Some(1) };
    let keepers: Vec<Keeper> = (0..N_BALANCERS)
        .map(|_| {
            let engine = Arc::new(Simulated::new(seams.clone(), Latency::usual()));
            let keeper = Keeper::new(seams.clone(), engine, None, Metrics::default());
            keeper.plans_set(&plans);
            keeper.presence_set(&BTreeMap::from([("lb".to_owned(), run.clone())]), &BTreeSet::new());
            keeper
        })
        .collect();
    let mut times = Vec::new();
    for revision in 1..=N_CHANGES {
        // Another one is missing each time.
        let ids = (1..=N_TARGETS).filter(|id| *id != revision);
        let directory = directory(revision, ids.map(|id| (id, address(id))));
        let mut waiting: Vec<_> = keepers.iter().map(Keeper::applied).collect();
        let begin = Instant::now();
        keepers.iter().for_each(|keeper| keeper.directory_set(&directory));
        for applied in &mut waiting {
            applied.wait_for(|known| *known >= Some(revision)).await.context("a balancer ended")?;
            times.push(begin.elapsed());
        }
    }
    let p99 = percentile(&mut times, 99);
    let what =
        format!("changed target to effect, p99, {N_BALANCERS} simulated load balancers with {N_TARGETS} targets");
    table.plain_row(&what, milliseconds(p99), "< 500 ms");
    seams.tasks.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

/// The same on one real HAProxy, until its own table says so.
async fn changes_real(table: &mut Table) {
    let with = |revision: i64| {
        let ids = (1..=N_TARGETS).filter(move |id| *id != revision);
        directory(revision, ids.map(|id| (id, address(id))))
    };
    let Ok(first) = render(&plan(1), &with(0)) else { return };
    let mut balancer = rig::Balancer::started(rig::bed(), &first).await;
    balancer.settle(&first).await;
    let run = balancer.run().await;
    let mut times = Vec::new();
    for revision in 1..=N_CHANGES {
        let directory = with(revision);
        let begin = Instant::now();
        let Ok(rendered) = render(&plan(1), &directory) else { return };
        balancer.instance.pass(&run, &rendered).await.expect("passes");
        times.push(begin.elapsed());
    }
    let p99 = percentile(&mut times, 99);
    let what = format!("changed target to effect, p99, one real HAProxy with {N_TARGETS} targets");
    table.plain_row(&what, milliseconds(p99), "< 500 ms");
}
