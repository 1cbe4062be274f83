//! The managed network over three hosts, with the real binary: who reaches whom and as whom (`networking-and-dns.md` §4)
//! by each backend, addresses that move, hosts that cannot be dialled, and what the death of a part costs.
#![allow(clippy::disallowed_methods, reason = "a person who looks wants to know how long it took")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use remuda_testbed::{Fleet, Part, Way, image, wait};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_remuda");
/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(90);
/// Says as whom it sees the one who asks.
const WHO: &str = "printf '#!/bin/sh\\nprintf \"Content-Type: text/plain\\\\r\\\\n\\\\r\\\\n$REMOTE_ADDR\"\\n' \
                   > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -p 8000 -h /www";

fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T>) -> T {
    wait::until(what, LIMIT, probe).unwrap()
}

struct Place(Fleet);

/// A container that runs.
#[derive(Clone, Debug)]
struct Made {
    host: usize,
    docker_id: String,
    address: String,
    path: String,
}

impl Place {
    fn start() -> Place {
        let fleet = Fleet::start(Path::new(BIN), 3).unwrap();
        for host in fleet.bed.hosts() {
            host.load_image(image::TESTBOX).unwrap();
        }
        Place(fleet)
    }

    fn choose(&self, backend: &str) {
        let projects = self.0.list("projects").unwrap();
        let path = format!("/v1/projects/{}", projects[0]["id"].as_str().unwrap());
        self.0.api("PUT", &path, &json!({"networkBackend": backend})).unwrap();
    }

    /// Runs a container on a host that says who asks, with those other fields.
    fn run(&self, name: &str, host: usize, fields: Value) -> Made {
        let (image, on) = (format!("docker:{}", image::TESTBOX), self.0.host_row(host).unwrap()["id"].clone());
        let mut body = json!({"name": name, "imageUuid": image, "requestedHostId": on, "command": ["sh", "-c", WHO]});
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let made = self.0.api("POST", "containers", &body).unwrap();
        let path = format!("containers/{}", made["id"].as_str().unwrap());
        self.running(host, path)
    }

    /// The same as the one container of a service, which is started again whatever ends it.
    fn serve(&self, name: &str, host: usize) -> Made {
        let (image, on) = (format!("docker:{}", image::TESTBOX), self.0.host_row(host).unwrap()["id"].clone());
        let stack = self.0.api("POST", "environments", &json!({"name": "net"})).unwrap();
        let config = json!({"imageUuid": image, "requestedHostId": on, "command": ["sh", "-c", WHO]});
        let body = json!({"name": name, "environmentId": stack["id"], "launchConfig": config, "startOnCreate": true});
        let service = self.0.api("POST", "services", &body).unwrap();
        let of = format!("services/{}/instances", service["id"].as_str().unwrap());
        let row = eventually(name, || self.0.list(&of)?.into_iter().next().context("no container yet"));
        self.running(host, format!("containers/{}", row["id"].as_str().unwrap()))
    }

    fn running(&self, host: usize, path: String) -> Made {
        eventually(&path, || {
            let row = self.0.api("GET", &path, &Value::Null)?;
            ensure!(row["state"] == "running", "{} {}", row["state"], row["transitioningMessage"]);
            let text = |field: &str| row[field].as_str().map(str::to_owned).context("not there yet");
            let (docker_id, address) = (text("externalId")?, text("primaryIpAddress")?);
            Ok(Made { host, docker_id, address, path: path.clone() })
        })
    }

    fn remove(&self, container: &Made) {
        self.0.api("DELETE", &container.path, &Value::Null).unwrap();
        eventually("the removal", || {
            let row = self.0.api("GET", &container.path, &Value::Null)?;
            ensure!(matches!(row["state"].as_str(), Some("removed" | "purging" | "purged")), "{}", row["state"]);
            Ok(())
        });
    }

    fn inside(&self, container: &Made, argv: &[&str]) -> Result<String> {
        self.0.host(container.host).docker(&[&["exec", &container.docker_id], argv].concat())
    }

    /// As whom a container is seen that asks there.
    fn seen(&self, container: &Made, address: &str, port: u16) -> Result<String> {
        let url = format!("http://{address}:{port}/cgi-bin/who");
        source(&self.inside(container, &["timeout", "5", "wget", "-q", "-O", "-", &url])?)
    }

    /// As whom a process of the host is seen.
    fn seen_of_host(&self, host: usize, address: &str, port: u16) -> Result<String> {
        let url = format!("http://{address}:{port}/cgi-bin/who");
        source(&self.0.host(host).exec(&["curl", "--silent", "--show-error", "--max-time", "5", &url])?)
    }

    fn ping(&self, from: &Made, address: &str) -> Result<String> {
        self.inside(from, &["ping", "-c", "1", "-W", "2", address])
    }

    fn overlay_address(&self, host: usize) -> String {
        self.0.host_row(host).unwrap()["networkAddress"].as_str().unwrap().to_owned()
    }

    /// What the row of a host says of another.
    fn peer(&self, host: usize, other: usize) -> Result<String> {
        let id = self.0.host_row(other)?["id"].clone();
        let row = self.0.host_row(host)?;
        let peer = row["networkPeers"].as_array().into_iter().flatten().find(|peer| peer["hostId"] == id).cloned();
        let peer = peer.with_context(|| format!("{} says nothing of it: {}", row["name"], row["networkProblem"]))?;
        Ok(peer["state"].as_str().unwrap_or_default().to_owned())
    }

    fn all_reachable(&self) {
        for (host, other) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            eventually(&format!("{other} as seen from {host}"), || {
                let state = self.peer(host, other)?;
                ensure!(state == "reachable", "it is {state}");
                Ok(())
            });
        }
    }

    /// A steady stream of packets from a host to a container, 20 a second.
    fn stream(&self, host: usize, address: &str) -> Child {
        let mut command = self.0.host(host).command("ping").unwrap();
        command.args(["-n", "-i", "0.05", address]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    /// `remuda agent status` or `clean` on the host.
    fn care(&self, host: usize, verb: &str) -> String {
        let host = self.0.host(host);
        let (dir, docker) = (host.dir.join("agent"), host.docker_host());
        host.exec(&[BIN, "agent", verb, "--state-dir", dir.to_str().unwrap(), "--docker-host", &docker]).unwrap()
    }
}

/// The address in the answer; the server writes IPv4 in several ways.
fn source(text: &str) -> Result<String> {
    let words = text.split(|ch: char| !ch.is_ascii_digit() && ch != '.');
    words.filter(|word| word.matches('.').count() == 3).map(str::to_owned).next_back().with_context(|| text.to_owned())
}

/// Ends a stream; how many packets were sent, and how many of them were lost.
fn ended(stream: Child) -> (u32, u32) {
    let pid = stream.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = stream.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_else(|| panic!("{text}"));
    let numbers: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[0] - numbers[1])
}

#[test]
fn everybody_reaches_whom_the_specification_says_by_each_backend() {
    let place = Place::start();
    let near = place.run("near", 0, json!({}));
    let here = place.run("here", 0, json!({"ports": ["7001:8000"]}));
    let there = place.run("there", 1, json!({"ports": ["7002:8000"]}));
    let far = place.run("far", 2, json!({}));
    let of = |host: usize| place.0.host(host).address.to_string();
    for (backend, carrier) in [("wireguard", "tun type tun"), ("vxlan", "vxlan id 1042"), ("host-gw", "")] {
        place.choose(backend);
        eventually(backend, || {
            for host in 0..3 {
                let shown = place.0.host(host).exec(&["ip", "-d", "-o", "link", "show", "dev", "remuda1"]);
                let is_there = shown.as_ref().is_ok_and(|shown| carrier.is_empty() || shown.contains(carrier));
                ensure!(is_there != carrier.is_empty(), "{shown:?}");
            }
            Ok(())
        });
        for (what, from, to, port, expected) in [
            ("one of the same host", &near, &here.address, 8000, near.address.clone()),
            ("one of another host", &near, &there.address, 8000, near.address.clone()),
            ("one of another host", &far, &here.address, 8000, far.address.clone()),
            ("another host's port", &near, &of(1), 7002, of(0)),
            ("a port of the other host from there", &far, &of(0), 7001, of(2)),
        ] {
            let seen = eventually(&format!("{backend}: {what}"), || place.seen(from, to, port));
            assert_eq!(seen, expected, "{backend}: container to {what}");
        }
        // Of the own host's port it is promised that it answers.
        eventually("its own host's port", || place.seen(&near, &of(0), 7001));
        for (what, from, to, port, expected) in [
            ("its own container", 0, &here.address, 8000, "10.42.0.1".to_owned()),
            ("a container of another host", 0, &there.address, 8000, place.overlay_address(0)),
            ("a port of another host", 0, &of(1), 7002, of(0)),
        ] {
            let seen = eventually(&format!("{backend}: host to {what}"), || place.seen_of_host(from, to, port));
            assert_eq!(seen, expected, "{backend}: host to {what}");
        }
        eventually("its own port", || place.seen_of_host(1, &of(1), 7002));
        // ICMP, and a packet as large as a container's interface takes, in one piece.
        eventually("a large packet", || {
            place.0.host(0).exec(&["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1374", &there.address])?;
            place.inside(&near, &["ping", "-c", "1", "-W", "2", "-s", "1374", &there.address])
        });
        eventually("another host's own address", || place.ping(&near, &place.overlay_address(2)));
        assert_eq!(place.inside(&near, &["cat", "/sys/class/net/eth0/mtu"]).unwrap().trim(), "1402");
        place.all_reachable();
        let neighbours = place.inside(&near, &["ip", "-4", "-o", "address", "show", "dev", "eth0"]).unwrap();
        assert_eq!(neighbours.lines().count(), 1, "one address: {neighbours}");
    }
    let status = place.care(0, "status");
    assert!(status.contains("routes  4 to containers and hosts"), "{status}");
    // Not a way in from outside: the test's own machine is on the wire and knows the way.
    place.choose("wireguard");
    place.all_reachable();
    let outside = |address: &str| {
        let mut ping = std::process::Command::new("ping");
        ping.args(["-c", "1", "-W", "1", address]).stdout(Stdio::null()).status().unwrap().success()
    };
    assert!(outside(&of(0)), "the host answers");
    assert!(!outside(&here.address), "no route leads there");
    let status = place.care(0, "status");
    assert!(status.contains("tunnel  remuda1") && status.contains("routes  4 to"), "{status}");

    place.0.kill_agent(0).unwrap();
    for container in [&near, &here] {
        place.0.host(0).docker(&["rm", "-f", &container.docker_id]).unwrap();
    }
    place.care(0, "clean");
    assert_eq!(place.care(0, "status"), "");
    let left = place.0.host(0).exec(&["ip", "-4", "route", "show", "proto", "142"]).unwrap();
    assert_eq!(left, "");
}

#[test]
fn no_packet_is_lost_with_an_agent_and_few_with_more() {
    let place = Place::start();
    let near = place.run("near", 0, json!({}));
    let there = place.serve("there", 1);
    place.all_reachable();
    eventually("the first packet", || place.ping(&near, &there.address));

    // The agents of both ends die and come back, as an upgrade has it, and the server is away meanwhile.
    let stream = place.stream(0, &there.address);
    for host in [0, 1] {
        place.0.kill_agent(host).unwrap();
    }
    place.0.kill_server().unwrap();
    place.0.start_server().unwrap();
    for host in [0, 1] {
        place.0.start_agent(host).unwrap();
    }
    eventually("the agents", || {
        for host in [0, 1] {
            let row = place.0.host_row(host)?;
            ensure!(row["agentState"] == "active", "{}", row["agentState"]);
        }
        Ok(())
    });
    // What runs later finds its way, so the agents have done their part.
    let late = place.run("late", 0, json!({}));
    eventually("the late one", || place.ping(&late, &there.address));
    let (n_sent, n_lost) = ended(stream);
    println!("agents and server killed: {n_lost} of {n_sent} packets lost");
    // A fast machine is done within a second of twenty packets.
    assert!(n_sent >= 10, "{n_sent}");
    assert_eq!(n_lost, 0, "of {n_sent}");

    // Somebody empties the firewall; the host settings are tampered with; dockerd starts anew.
    let host = place.0.host(1);
    for table in ["filter", "nat"] {
        host.exec(&["iptables", "-t", table, "-F"]).unwrap();
    }
    host.exec(&["sysctl", "-w", "net.ipv4.conf.remuda0.proxy_arp=0", "net.ipv4.neigh.remuda0.proxy_delay=80"]).unwrap();
    host.exec(&["ip", "link", "delete", "dev", "remuda1"]).unwrap();
    eventually("what was broken", || {
        let setting = |name: &str| host.exec(&["cat", &format!("/proc/sys/net/ipv4/{name}")]);
        ensure!(
            setting("conf/remuda0/proxy_arp")?.trim() == "1" && setting("conf/remuda0/send_redirects")?.trim() == "0"
        );
        ensure!(setting("neigh/remuda0/proxy_delay")?.trim() == "0");
        place.ping(&near, &there.address)?;
        place.inside(&there, &["ping", "-c", "1", "-W", "2", &near.address])
    });
    host.restart_dockerd().unwrap();
    let there = place.running(1, there.path.clone());
    eventually("the restarted dockerd's container", || {
        let again = place.running(1, there.path.clone());
        ensure!(again.address == there.address, "{again:?}");
        place.ping(&near, &again.address)
    });

    // The datapath itself dies: another takes over.
    let begin = Instant::now();
    host.kill(Part::Datapath).unwrap();
    eventually("another datapath", || place.ping(&near, &there.address));
    println!("datapath killed: packets flow after {:?}", begin.elapsed());

    // The power fails: addresses are kept.
    place.0.kill_host(1).unwrap();
    place.0.boot_host(1).unwrap();
    let booted = place.running(1, there.path.clone());
    assert_eq!(booted.address, there.address);
    eventually("the booted host's container", || {
        let booted = place.running(1, there.path.clone());
        place.ping(&near, &booted.address)
    });
}

#[test]
fn addresses_move_and_pairs_are_watched() {
    let place = Place::start();
    place.all_reachable();
    let wanted = "10.42.77.7";
    let fields = json!({"labels": {"io.rancher.container.requested_ip": wanted}});
    let clients = [0, 1, 2].map(|host| place.run(&format!("client{host}"), host, json!({})));
    let mut holder = place.run("at1", 1, fields.clone());
    for next in [2, 0, 1] {
        assert_eq!(holder.address, wanted);
        for client in &clients {
            eventually("the holder", || place.ping(client, wanted));
        }
        place.remove(&holder);
        holder = place.run(&format!("at{next}-again"), next, fields.clone());
        let begin = Instant::now();
        for client in &clients {
            eventually("the address that moved", || place.ping(client, wanted));
        }
        println!("moved to host {next}: all three reach it {:?} after it was seen to run", begin.elapsed());
    }

    // One pair is cut: both say so of each other, and of nobody else.
    place.0.host(1).cut(place.0.host(2).address, Way::Both).unwrap();
    let expect = |host: usize, other: usize, expected: &str| {
        eventually(&format!("{other} {expected} from {host}"), || {
            let state = place.peer(host, other)?;
            ensure!(state == expected, "it is {state}");
            Ok(())
        });
    };
    expect(1, 2, "unreachable");
    expect(2, 1, "unreachable");
    expect(0, 1, "reachable");
    expect(1, 0, "reachable");
    let shown = place.0.cli(&["host", "show", "host2"]).unwrap();
    assert!(shown.contains("host1 reachable") && shown.contains("host3 unreachable"), "{shown}");
    place.0.host(1).mend().unwrap();
    place.all_reachable();

    // A host whose address nobody can dial, as behind NAT: it dials, and is answered.
    place.0.kill_agent(2).unwrap();
    let host = place.0.host(2);
    host.kill(Part::Datapath).unwrap();
    let mut hidden = host.command(BIN).unwrap();
    hidden.args(["agent", "--url", &place.0.url(), "--docker-host", &host.docker_host(), "--state-dir"]);
    hidden.arg(host.dir.join("agent")).args(["--address", "192.0.2.99", "--name", &host.name]);
    let mut hidden = hidden.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the new address", || {
        let rows = place.0.list("ipAddresses")?;
        ensure!(rows.iter().any(|row| row["address"] == "192.0.2.99"), "not told yet");
        Ok(())
    });
    eventually("the way to the hidden host", || {
        place.ping(&clients[2], &clients[0].address)?;
        place.ping(&clients[0], &clients[2].address)
    });
    place.all_reachable();
    hidden.kill().unwrap();
    hidden.wait().unwrap();
}
