//! Balancers on real HAProxy in a real container: what is changed while it runs, what is refused, what a kill leaves.

mod host;
mod load;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remuda_agent::balancer::instance::{Instance, Passed, Run};
use remuda_agent::balancer::place::{Dir, Place};
use remuda_agent::balancer::rendered::{Rendered, Server};
use remuda_agent::engine::docker::DockerEngine;
use remuda_agent::engine::{Engine, inspect};
use remuda_runtime::Seams;
use remuda_testbed::{Testbed, image};
use serde_json::json;

/// Where the container's port 80 is published.
const PORT: u16 = 8080;
const PORT_TLS: u16 = 8443;

/// A balancer's container on a testbed's host, and what keeps it right.
pub struct Balancer {
    pub engine: Arc<dyn Engine>,
    pub instance: Instance,
    pub docker_id: String,
    pub address: SocketAddr,
    pub address_tls: SocketAddr,
    place: Place,
    seams: Seams,
    bed: Testbed,
}

pub fn bed() -> Testbed {
    let bed = Testbed::start(1).expect("a host with a Docker daemon");
    bed.load_image(image::HAPROXY).expect("an image");
    bed
}

impl Balancer {
    /// Created, with `wanted` on disk; not started.
    pub async fn create(bed: Testbed, wanted: &Rendered) -> Balancer {
        let seams = Seams::real();
        let engine: Arc<dyn Engine> =
            Arc::new(DockerEngine::connect(Some(&bed.host(0).docker_host()), &seams).expect("an address"));
        let place = Place::of(&bed.host(0).dir.join("agent"));
        let mut instance = Instance::new(place.dir("balancer"), engine.clone(), seams.clock.clone());
        instance.prepare(wanted).expect("is on disk");
        let publish = |port: u16| json!([{ "HostPort": port.to_string() }]);
        let body = json!({
            "Image": image::HAPROXY, "User": "0:0", "Entrypoint": Dir::command(), "Cmd": [], "StopSignal": "SIGUSR1",
            "ExposedPorts": { "80/tcp": {}, "443/tcp": {} },
            "HostConfig": {
                "Binds": instance.dir().binds(),
                "PortBindings": { "80/tcp": publish(PORT), "443/tcp": publish(PORT_TLS) },
            },
        });
        let docker_id = engine.create("balancer", &body).await.expect("creates");
        let at = |port| SocketAddr::from((bed.host(0).address, port));
        Balancer { engine, instance, docker_id, address: at(PORT), address_tls: at(PORT_TLS), place, seams, bed }
    }

    pub async fn started(bed: Testbed, wanted: &Rendered) -> Balancer {
        let balancer = Balancer::create(bed, wanted).await;
        balancer.engine.start(&balancer.docker_id).await.expect("starts");
        balancer
    }

    pub async fn run(&self) -> Run {
        let seen = inspect::read(&self.engine.inspect(&self.docker_id).await.expect("is there")).expect("reads");
        Run { docker_id: self.docker_id.clone(), started_at: seen.started_at }
    }

    pub async fn pass(&mut self, wanted: &Rendered) -> Passed {
        let run = self.run().await;
        self.instance.pass(&run, wanted).await.expect("passes")
    }

    /// Passes until nothing is left to do.
    pub async fn settle(&mut self, wanted: &Rendered) -> Passed {
        loop {
            let passed = self.pass(wanted).await;
            let Some(again) = passed.again else { return passed };
            self.seams.clock.sleep(again).await;
        }
    }

    /// As an agent that was killed and started again.
    pub fn forget(&mut self) {
        self.instance = Instance::new(self.place.dir("balancer"), self.engine.clone(), self.seams.clock.clone());
    }

    /// What the page says, or what went wrong.
    pub fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        let out = std::process::Command::new("curl").args(["-s", "-m", "10", "-w", "%{http_code}", &url]).output();
        String::from_utf8_lossy(&out.expect("curl is here").stdout).into_owned()
    }

    /// The subject of the certificate that is shown.
    fn subject(&self) -> String {
        let args = ["-s", "-k", "-v", "-m", "10", "-o", "/dev/null", &format!("https://{}/", self.address_tls)];
        let out = std::process::Command::new("curl").args(args).output().expect("curl is here");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("subject: "));
        line.map_or(said.clone(), |(_, subject)| subject.to_owned())
    }

    fn worker(&self) -> String {
        self.bed.host(0).docker(&["top", "balancer", "-o", "pid"]).expect("runs")
    }
}

/// A server of a test's configuration.
pub fn server(name: &str, address: SocketAddr) -> Server {
    Server { name: name.into(), address, options: Vec::new(), drain: false }
}

/// A configuration with rules on port 80 and one backend; `tls` is a certificate for port 443.
pub fn web<'a>(rules: &str, servers: impl IntoIterator<Item = &'a Server>, tls: Option<&[u8]>) -> Rendered {
    let servers: Vec<Server> = servers.into_iter().cloned().collect();
    let mut config = "global\n    maxconn 4096\n    uid 99\n    gid 99\ndefaults\n    mode http\n    option redispatch\n    option http-server-close\n    option idle-close-on-response\n    retries 3\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\nlisten health\n    mode tcp\n    bind *:42\n".to_owned();
    config.push_str(&format!("frontend 80\n    bind *:80\n{rules}    default_backend 80_\n"));
    if tls.is_some() {
        config.push_str("frontend 443\n    bind *:443 ssl crt certs/main.pem\n    default_backend 80_\n");
    }
    config.push_str("backend 80_\n");
    for Server { name, address, options, .. } in &servers {
        config.push_str(format!("    server {name} {address} {}", options.join(" ")).trim_end());
        config.push('\n');
    }
    let files = tls.map(|pem| ("certs/main.pem".to_owned(), pem.to_vec()));
    Rendered {
        config,
        files: files.into_iter().collect::<BTreeMap<_, _>>(),
        backends: [("80_".to_owned(), servers)].into(),
    }
}

/// A key and a certificate for `name`, as HAProxy reads them.
pub fn certificate(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"])
        .args(["-subj", &format!("/CN={name}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is here");
    assert!(made.status.success(), "{made:?}");
    [std::fs::read(key).expect("a key"), std::fs::read(cert).expect("a certificate")].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_and_certificates_change_while_the_same_worker_serves() {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let (one, two) = (targets.open("one").await, targets.open("two").await);
    let (first, second) = (certificate("first.test"), certificate("second.test"));
    let mut balancer = Balancer::started(bed, &web("", [&one], Some(&first))).await;
    assert_eq!(balancer.settle(&web("", [&one], Some(&first))).await.problem, None);
    let worker = balancer.worker();
    assert_eq!((balancer.get("/"), balancer.get("/")), ("one200".into(), "one200".into()));

    balancer.settle(&web("", [&one, &two], Some(&first))).await;
    let both = [balancer.get("/"), balancer.get("/")];
    assert!(both.contains(&"one200".into()) && both.contains(&"two200".into()), "{both:?}");

    let drained = Server { drain: true, ..one.clone() };
    balancer.settle(&web("", [&drained, &two], Some(&first))).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("two200".into(), "two200".into()));
    balancer.settle(&web("", [&one], Some(&first))).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("one200".into(), "one200".into()));

    assert!(balancer.subject().contains("first.test"), "{}", balancer.subject());
    balancer.settle(&web("", [&one], Some(&second))).await;
    assert!(balancer.subject().contains("second.test"), "{}", balancer.subject());
    assert_eq!((balancer.worker(), balancer.instance.counts.reloads), (worker, 0));

    // An agent that was killed finds everything as it is.
    balancer.forget();
    balancer.settle(&web("", [&one, &two], Some(&second))).await;
    assert_eq!(balancer.instance.counts.reloads, 0);

    // A container that starts anew begins with the last configuration, drained servers included.
    let wanted = web("", [&drained, &two], Some(&second));
    balancer.settle(&wanted).await;
    balancer.engine.stop(&balancer.docker_id, 5).await.expect("stops");
    balancer.instance.prepare(&wanted).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    balancer.settle(&wanted).await;
    assert_eq!((balancer.get("/"), balancer.get("/")), ("two200".into(), "two200".into()));
    assert!(balancer.subject().contains("second.test"), "{}", balancer.subject());
    assert_eq!(balancer.instance.counts.reloads, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_haproxy_refuses_never_replaces_what_runs() {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let (one, two) = (targets.open("one").await, targets.open("two").await);
    let bad = web("    http-request rubbish\n", [&one], None);

    // From the first: the container ends with it, starts idle at the second try, and says what is wrong.
    let mut balancer = Balancer::started(bed, &bad).await;
    while balancer.engine.inspect(&balancer.docker_id).await.expect("is there")["State"]["Running"] == true {
        balancer.seams.clock.sleep(std::time::Duration::from_millis(20)).await;
    }
    balancer.instance.prepare(&bad).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    let problem = balancer.settle(&bad).await.problem.expect("is refused");
    assert!(problem.contains("'rubbish'") && problem.contains("(`http-request rubbish`)"), "{problem}");

    let good = |server: &Server| web("    acl a path_beg /a\n    http-request deny if a\n", [server], None);
    assert_eq!(balancer.settle(&good(&one)).await.problem, None);
    assert_eq!((balancer.get("/"), &balancer.get("/a")[balancer.get("/a").len() - 3..]), ("one200".into(), "403"));

    // Bad rules again: the good ones go on, their targets follow, and it is asked once.
    let bad = |server: &Server| web("    http-request rubbish\n", [server], None);
    assert!(balancer.settle(&bad(&one)).await.problem.is_some());
    assert!(balancer.settle(&bad(&two)).await.problem.is_some());
    assert_eq!(balancer.get("/"), "two200");
    assert!(balancer.get("/a").ends_with("403"));
    assert_eq!(balancer.instance.counts.refusals, 2);

    // An agent that starts anew keeps the good rules, and so does the container.
    balancer.forget();
    assert!(balancer.settle(&bad(&one)).await.problem.is_some());
    assert_eq!((balancer.get("/"), balancer.instance.counts.reloads), ("one200".into(), 0));
    balancer.engine.stop(&balancer.docker_id, 5).await.expect("stops");
    balancer.instance.prepare(&bad(&two)).expect("is on disk");
    balancer.engine.start(&balancer.docker_id).await.expect("starts");
    assert!(balancer.settle(&bad(&two)).await.problem.is_some());
    assert_eq!(balancer.get("/"), "two200");

    assert_eq!(balancer.settle(&good(&one)).await.problem, None);
    assert_eq!(balancer.get("/"), "one200");

    // A certificate that is none: the old one stays.
    let first = certificate("first.test");
    assert_eq!(balancer.settle(&web("", [&one], Some(&first))).await.problem, None);
    let problem = balancer.settle(&web("", [&two], Some(b"rubbish"))).await.problem.expect("is refused");
    assert!(problem.contains("certs/main.pem"), "{problem}");
    assert!(balancer.subject().contains("first.test"));
    assert_eq!(balancer.get("/"), "two200");
}

/// What a long run came to.
struct Churned {
    n_requests: u64,
    n_changes: u64,
    seconds: f64,
    counts: remuda_agent::balancer::instance::Counts,
}

/// Clients ask without a pause and without a second try, while targets come and go between two and ten, rules and
/// certificates change and the agent is killed, ten changes a second and more. Ends at that many answers.
async fn churn(n_requests: u64) -> Churned {
    let bed = bed();
    let mut targets = load::Targets::new(bed.gateway());
    let mut servers = vec![targets.open("t0").await, targets.open("t1").await];
    let certificates = [certificate("a.test"), certificate("b.test")];
    let rules = ["", "    http-request set-header X-A 1\n", "    acl a path_beg /a\n    http-request deny if a\n"];
    let mut wanted = web(rules[0], &servers, Some(&certificates[0]));
    let mut balancer = Balancer::started(bed, &wanted).await;
    balancer.settle(&wanted).await;
    let run = balancer.run().await;
    let clock = balancer.seams.clock.clone();
    let tasks = balancer.seams.tasks.child();
    let met = load::clients(balancer.address, 16, &tasks);

    let begin = clock.instant();
    let (mut n_changes, mut n_targets, mut grows) = (0_u64, 2, true);
    let (mut rule, mut certificate) = (0, 0);
    let mut leaving: Vec<String> = Vec::new();
    let mut counts = balancer.instance.counts;
    while met.answered.load(std::sync::atomic::Ordering::Relaxed) < n_requests
        && met.failed.load(std::sync::atomic::Ordering::Relaxed) == 0
    {
        n_changes += 1;
        match n_changes % 20 {
            7 => rule = (rule + 1) % rules.len(),
            13 => certificate = 1 - certificate,
            19 => {
                let before = balancer.instance.counts;
                counts.reloads += before.reloads;
                counts.runtime_changes += before.runtime_changes;
                balancer.forget();
            }
            _ if grows => {
                servers.push(targets.open(&format!("t{n_targets}")).await);
                n_targets += 1;
                grows = servers.len() < 10;
            }
            _ => {
                // The oldest goes, as in an upgrade.
                leaving.push(servers.remove(0).name);
                grows = servers.len() <= 2;
            }
        }
        wanted = web(rules[rule], &servers, Some(&certificates[certificate]));
        let passed = balancer.instance.pass(&run, &wanted).await.expect("passes");
        assert_eq!(passed.problem, None);
        // Withdrawn: now it may end.
        for name in leaving.drain(..) {
            targets.close(&name);
        }
        let next = begin + std::time::Duration::from_millis(n_changes * 80);
        clock.sleep(next.saturating_duration_since(clock.instant())).await;
    }
    let seconds = (clock.instant() - begin).as_secs_f64();
    tasks.shut_down(std::time::Duration::from_secs(30)).await;
    met.check();
    counts.reloads += balancer.instance.counts.reloads;
    counts.runtime_changes += balancer.instance.counts.runtime_changes;
    let answered = met.answered.load(std::sync::atomic::Ordering::Relaxed);
    Churned { n_requests: answered, n_changes, seconds, counts }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_everything_changes() {
    let Churned { n_requests, n_changes, seconds, counts } = churn(20_000).await;
    println!("{n_requests} requests in {seconds:.1} s, {:.1} changes/s, {counts:?}", n_changes as f64 / seconds);
    assert!(n_requests >= 20_000 && counts.runtime_changes > counts.reloads, "{counts:?}");
}
