//! A balancer's container on a testbed's host, and configurations for it. Also of `make bench`.
#![allow(dead_code, reason = "each of those who work with it uses its part")]

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
    pub place: Place,
    pub seams: Seams,
    pub bed: Testbed,
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
    pub fn subject(&self) -> String {
        let args = ["-s", "-k", "-v", "-m", "10", "-o", "/dev/null", &format!("https://{}/", self.address_tls)];
        let out = std::process::Command::new("curl").args(args).output().expect("curl is here");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("subject: "));
        line.map_or(said.clone(), |(_, subject)| subject.to_owned())
    }

    pub fn worker(&self) -> String {
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
