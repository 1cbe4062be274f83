//! What the way between hosts carries: iperf3 between two containers on two hosts by each backend, beside the same two
//! hosts without it; and what published ports cost a start.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use remuda_testbed::{Fleet, Host, image, wait};
use serde_json::{Value, json};

use super::DockerHost;
use super::table::{Table, milliseconds, percentile};

const LIMIT: Duration = Duration::from_secs(60);
/// Seconds of one measurement.
const SECONDS: &str = "4";
const N_ROUNDS: usize = 3;

pub fn measure(table: &mut Table) -> Result<()> {
    throughput(table)?;
    published_ports(table)
}

/// A network namespace to run iperf3 in: a host's, or that of one of its containers.
struct Place<'a> {
    host: &'a Host,
    /// Process whose namespace it is.
    of: Option<String>,
}

impl Place<'_> {
    fn command(&self, argv: &[&str]) -> Result<Command> {
        let mut command = match &self.of {
            None => self.host.command(argv[0])?,
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg(argv[0]);
                command
            }
        };
        command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
}

/// An iperf3 server for one measurement.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Megabits a second from one place to another.
fn megabits(from: &Place<'_>, to: &Place<'_>, address: &str) -> Result<f64> {
    let _server = Listener(to.command(&["iperf3", "--server", "--one-off"])?.spawn().context("iperf3 is missing")?);
    wait::until("iperf3", LIMIT, || {
        let output = from.command(&["iperf3", "--client", address, "--time", SECONDS, "--json"])?.output()?;
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
        bits.map(|bits| bits / 1e6).with_context(|| format!("it measured nothing: {}", said["error"]))
    })
}

fn throughput(table: &mut Table) -> Result<()> {
    let fleet = Fleet::start(Path::new(env!("CARGO_BIN_EXE_remuda")), 2)?;
    let project = fleet.list("projects")?[0]["id"].as_str().context("no project")?.to_owned();
    let containers = [container(&fleet, 0)?, container(&fleet, 1)?];
    let place = |host: usize| Place { host: fleet.host(host), of: Some(containers[host].0.clone()) };
    let bare = |host: usize| Place { host: fleet.host(host), of: None };
    let backends = ["wireguard", "vxlan", "host-gw"];
    let mut carried = [0.0_f64; 3];
    let mut plain = 0.0_f64;
    // Each round all of them, so that what else the machine does meets them alike; of several the best counts.
    for _ in 0..N_ROUNDS {
        plain = plain.max(megabits(&bare(0), &bare(1), &fleet.host(1).address.to_string())?);
        for (backend, best) in backends.iter().zip(&mut carried) {
            fleet.api("PUT", &format!("/v1/projects/{project}"), &json!({"networkBackend": backend}))?;
            by(&fleet, backend)?;
            *best = best.max(megabits(&place(0), &place(1), &containers[1].1)?);
        }
    }
    let carrier = match fleet.host(0).exec(&["modinfo", "wireguard"]) {
        Ok(_) => "kernel",
        Err(_) => "userspace",
    };
    for (backend, best) in backends.iter().zip(carried) {
        let name = if *backend == "wireguard" { format!("{backend} ({carrier})") } else { (*backend).to_owned() };
        table.ratio_row(
            &format!("container to container of another host, {name}, iperf3"),
            format!("{best:.0} Mbit/s"),
            "bare veth between the hosts",
            format!("{plain:.0} Mbit/s"),
            best / plain,
        );
    }
    Ok(())
}

/// Waits until both hosts carry packets by that backend.
fn by(fleet: &Fleet, backend: &str) -> Result<()> {
    wait::until(backend, LIMIT, || {
        for host in fleet.bed.hosts() {
            let routes = host.exec(&["ip", "-4", "route", "show", "proto", "142"])?;
            let is_by = match backend {
                "wireguard" => routes.contains("remuda1") && !routes.contains("onlink"),
                "vxlan" => routes.contains("onlink"),
                _ => routes.contains("eth0"),
            };
            anyhow::ensure!(is_by, "{}: {routes}", host.name);
        }
        Ok(())
    })
}

/// A container on that host: its process and its address.
fn container(fleet: &Fleet, host: usize) -> Result<(String, String)> {
    fleet.host(host).load_image(image::TESTBOX)?;
    let image = format!("docker:{}", image::TESTBOX);
    let body = json!({"name": format!("iperf{host}"), "imageUuid": image, "command": ["rest"],
                      "requestedHostId": fleet.host_row(host)?["id"]});
    let made = fleet.api("POST", "containers", &body)?;
    let path = format!("containers/{}", made["id"].as_str().context("a container without an id")?);
    wait::until("a container", LIMIT, || {
        let row = fleet.api("GET", &path, &Value::Null)?;
        anyhow::ensure!(row["state"] == "running", "{} {}", row["state"], row["transitioningMessage"]);
        let docker_id = row["externalId"].as_str().context("no Docker id yet")?;
        let pid = fleet.host(host).docker(&["inspect", "--format", "{{.State.Pid}}", docker_id])?;
        Ok((pid.trim().to_owned(), row["primaryIpAddress"].as_str().context("no address")?.to_owned()))
    })
}

/// From the request to `running` with that many ports, beside `docker run` with as many.
fn published_ports(table: &mut Table) -> Result<()> {
    let DockerHost { bed, dir: _dir, server, agent: _agent } = DockerHost::start()?;
    let mut api = server.project_api()?;
    for n_ports in [1_usize, 10, 50] {
        let (mut ours, mut docker) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let ports: Vec<String> = (0..n_ports).map(|number| format!("{}:80", 20_000 + number)).collect();
            let begin = Instant::now();
            let container = api.post(
                "/v1/containers",
                &json!({"name": format!("p{n_ports}-{round}"), "imageUuid": format!("docker:{}", image::TESTBOX),
                        "command": ["rest"], "ports": ports}),
            )?;
            let id = container["id"].as_str().context("a container without an id")?.to_string();
            api.wait_for_state("containers", &id, "running")?;
            ours.push(begin.elapsed());
            api.delete(&format!("/v1/containers/{id}"))?;
            api.wait_for_state("containers", &id, "removed")?;
            let flags: Vec<&str> = ports.iter().flat_map(|port| ["--publish", port.as_str()]).collect();
            let begin = Instant::now();
            let args = [&["run", "-d", "--network", "remuda"], &flags[..], &[image::TESTBOX, "rest"]].concat();
            let id = bed.host(0).docker(&args)?;
            docker.push(begin.elapsed());
            bed.host(0).docker(&["rm", "-f", id.trim()])?;
        }
        let (ours, docker) = (percentile(&mut ours, 50), percentile(&mut docker, 50));
        let over = ours.saturating_sub(docker);
        table.row(
            &format!("container with {n_ports} published ports created → running"),
            format!("{}, {} more", milliseconds(ours), milliseconds(over)),
            "< 50 ms more",
            "`docker run -d --publish …`",
            milliseconds(docker),
            ours,
            docker,
        );
    }
    Ok(())
}
