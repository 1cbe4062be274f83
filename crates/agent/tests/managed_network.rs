//! The managed network on a real daemon: two containers with fixed addresses reach each other and the world, ask
//! 169.254.169.250 for names and are known by their address, and neither a flushed firewall nor the agent's end
//! stops that for long.
//!
//! The agent's parts run inside the test host's network namespace: this test program starts itself there, told by
//! arguments behind a mark what to be.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use remuda_agent::datapath::{Handle, Launch, process};
use remuda_agent::dns::packet::{self, Answers, Asked};
use remuda_agent::engine::Engine;
use remuda_agent::engine::docker::DockerEngine;
use remuda_agent::network::ResolverRequest;
use remuda_agent::network::linux::{LinuxNetwork, Settings, clean, status};
use remuda_runtime::Seams;
use remuda_testbed::{Host, Testbed, image, wait};
use remuda_wire::directory as wire;
use remuda_wire::plan::NetworkPlan;

/// A filter that matches no test: what follows it is for the test functions that act as a process.
const MARK: &str = "arguments-for-the-child:";
/// Far beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const WEB: &str = "10.42.0.10";
const DB: &str = "10.42.0.11";

fn child_args() -> Option<Vec<String>> {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == MARK)?;
    Some(args[at + 1..].to_vec())
}

/// Arguments that make this program be the test function `role` with `args`.
fn as_role(role: &str, args: &[&str]) -> Vec<OsString> {
    ["--exact", role, "--nocapture", MARK].iter().chain(args).map(OsString::from).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Is the datapath when started so.
#[test]
fn datapath_child() {
    let Some(args) = child_args() else { return };
    let options = process::Options { state_dir: args[0].clone().into(), resolv_conf: args[1].clone().into() };
    block_on(process::run(options, Seams::real())).unwrap();
}

/// Is the agent's network part when started so: says `ready` and goes on until it is killed, or `problem: …`.
#[test]
fn agent_child() {
    let Some(args) = child_args() else { return };
    let [dir, docker_socket, directory] = &args[..] else { panic!("{args:?}") };
    block_on(async {
        let seams = Seams::real();
        let settings = settings(Path::new(dir));
        let args = as_role("datapath_child", &[dir, settings.resolv_conf.to_str().unwrap()]);
        let launch = Launch { program: std::env::current_exe().unwrap(), args };
        let datapath = Handle::of_process(&seams, dir.into(), "here".into(), launch);
        let directory: wire::DirectoryUpdate = serde_json::from_str(directory).unwrap();
        let revision = directory.revision;
        datapath.update("store.0", directory).unwrap();
        let network = LinuxNetwork::new(&seams, docker(docker_socket, &seams), settings, datapath.clone());
        let plan = NetworkPlan {
            subnet: "10.42.0.0/16".into(),
            gateway: "10.42.0.1".into(),
            mtu: 1402,
            ..NetworkPlan::default()
        };
        if let Err(problem) = network.ensure(&plan).await {
            println!("problem: {problem}");
            return;
        }
        for (uuid, search) in [("web", "a.rancher.internal web.a.rancher.internal"), ("db", "b.rancher.internal")] {
            let dns_search = search.split(' ').chain(["rancher.internal"]).map(str::to_owned).collect();
            network.resolver(&ResolverRequest { uuid: uuid.into(), dns: vec![], dns_search }).unwrap();
        }
        datapath.wait_applied(revision).await.unwrap();
        println!("ready");
        std::future::pending::<()>().await;
    });
}

/// Asks for a name again and again until its input ends; says how often, and how often there was no answer.
#[test]
fn ask_child() {
    let Some(_) = child_args() else { return };
    let request = packet::write_question(7, "web.a.rancher.internal").unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = ended.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let (mut asked, mut lost) = (0, 0);
    println!("asking");
    while !ended.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.connect("169.254.169.250:53").unwrap();
        let mut buffer = [0; 512];
        let answered = socket.send(&request).and_then(|_| socket.recv(&mut buffer));
        asked += 1;
        // One address of the service, and no error.
        lost += usize::from(!answered.is_ok_and(|length| length > 12 && buffer[3] & 15 == 0 && buffer[7] == 1));
    }
    println!("asked {asked} lost {lost}");
}

/// Lists what is ours, cleans, and lists again.
#[test]
fn clean_child() {
    let Some(args) = child_args() else { return };
    block_on(async {
        let (networks, settings) = (docker(&args[1], &Seams::real()), settings(Path::new(&args[0])));
        let kinds = |items: Vec<remuda_agent::network::linux::Item>| {
            let mut kinds: Vec<_> = items.into_iter().map(|item| item.kind).collect();
            kinds.dedup();
            kinds.join(" ")
        };
        println!("before: {}", kinds(status(&networks, &settings).await));
        println!("problems: {:?}", clean(&networks, &settings).await.err());
        println!("after: {}", kinds(status(&networks, &settings).await));
    });
}

fn settings(dir: &Path) -> Settings {
    Settings { resolv_conf: dir.join("resolv.conf"), ..Settings::of(dir.to_path_buf()) }
}

fn docker(socket: &str, seams: &Seams) -> Arc<dyn Engine> {
    // As `main` does; the engine's downloads ask for it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Arc::new(DockerEngine::connect(Some(&format!("unix://{socket}")), seams).unwrap())
}

/// Stack `a` with `web` that is linked to `db` of stack `b` as `mysql`; `extra` is one more name for the database.
fn directory(revision: i64, extra: &str) -> String {
    let host = wire::Host { id: 1, uuid: "here".into(), ..wire::Host::default() };
    let service = |id: i64, name: &str, links: Vec<wire::Link>| wire::Service {
        id,
        stack_id: id,
        name: name.into(),
        kind: "service".into(),
        links,
        ..wire::Service::default()
    };
    let container = |id: i64, name: &str, address: &str| wire::Container {
        id,
        name: name.into(),
        state: "running".into(),
        host_id: Some(1),
        address: Some(address.into()),
        network_mode: "managed".into(),
        services: vec![wire::Membership { service_id: id, sidekick: None }],
        ..wire::Container::default()
    };
    let link = |alias: &str| wire::Link { alias: Some(alias.into()), service_id: 2 };
    let upserts = vec![
        wire::Entry::Host(host),
        wire::Entry::Stack(wire::Stack { id: 1, name: "a".into(), ..Default::default() }),
        wire::Entry::Stack(wire::Stack { id: 2, name: "b".into(), ..Default::default() }),
        wire::Entry::Service(service(1, "web", vec![link("mysql"), link(extra)])),
        wire::Entry::Service(service(2, "db", vec![])),
        wire::Entry::Container(container(1, "a_web_1", WEB)),
        wire::Entry::Container(container(2, "b_db_1", DB)),
    ];
    serde_json::to_string(&wire::DirectoryUpdate { revision, base: None, upserts, removed: vec![] }).unwrap()
}

/// The one host under test.
struct Place {
    bed: Testbed,
    dir: PathBuf,
}

impl Place {
    fn host(&self) -> &Host {
        self.bed.host(0)
    }

    fn start(&self, role: &str, args: &[&str]) -> Child {
        let mut command = self.host().command(std::env::current_exe().unwrap()).unwrap();
        let socket = self.host().docker_socket();
        let own = [self.dir.to_str().unwrap(), socket.to_str().unwrap()];
        let args: Vec<&str> = own.into_iter().chain(args.iter().copied()).collect();
        command.args(as_role(role, &args)).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Somebody who asks for a name all the time, and has begun.
    fn ask(&self) -> Child {
        let mut command = self.host().command(std::env::current_exe().unwrap()).unwrap();
        command.args(as_role("ask_child", &[])).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.as_mut().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"asking\n") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        child
    }

    /// Starts the agent and gives what it says first.
    fn agent(&self, directory: &str) -> (Agent, String) {
        let mut child = self.start("agent_child", &[directory]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        let said = lines.find(|line| line == "ready" || line.starts_with("problem")).unwrap_or_default();
        (Agent { child, _output: output }, said)
    }

    fn run(&self, name: &str, address: &str) {
        let resolver = format!("{}/resolver/{name}.conf:/etc/resolv.conf:ro", self.dir.display());
        let args =
            ["run", "-d", "--name", name, "--network", "remuda", "--ip", address, "-v", &resolver, image::TESTBOX];
        self.host().docker(&args).unwrap();
    }

    fn inside(&self, container: &str, argv: &[&str]) -> Result<String> {
        self.host().docker(&[&["exec", container], argv].concat())
    }

    /// The addresses a name has in a container, through its resolver library.
    fn resolve(&self, container: &str, name: &str) -> Result<String> {
        let found = self.inside(container, &["getent", "ahostsv4", name])?;
        let mut addresses: Vec<_> = found.lines().filter_map(|line| line.split_whitespace().next()).collect();
        addresses.dedup();
        Ok(addresses.join(" "))
    }

    /// The source address the world sees when a container connects to it.
    fn seen_outside(&self, container: &str) -> Result<IpAddr> {
        let listener = TcpListener::bind((self.bed.gateway(), 0))?;
        listener.set_nonblocking(true)?;
        let (gateway, port) = (self.bed.gateway().to_string(), listener.local_addr()?.port().to_string());
        let peer = std::thread::scope(|scope| {
            // Ends when the connection does, and that is when this function lets go of it.
            scope.spawn(|| self.inside(container, &["timeout", "5", "nc", "-w", "2", &gateway, &port]));
            wait::until("a connection", Duration::from_secs(6), || Ok(listener.accept()?.1))
        })?;
        ensure!(peer.port() >= 1024, "port {}", peer.port());
        Ok(peer.ip())
    }
}

/// A name server of the world: everything is 192.0.2.77.
struct Upstream(Arc<AtomicBool>);

impl Upstream {
    fn start(bed: &Testbed) -> Upstream {
        let socket = UdpSocket::bind((bed.gateway(), 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while !seen.load(Ordering::Relaxed) {
                let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
                if let Asked::Question(question) = packet::read(&buffer[..length]) {
                    let answers = Answers::addresses(&question, &["192.0.2.77".parse().unwrap()], 0);
                    let _ = socket.send_to(&packet::write_answers(&question, answers, 512), source);
                }
            }
        });
        Upstream(ended)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn eventually(what: &str, check: impl Fn() -> Result<()>) {
    wait::until(what, LIMIT, check).unwrap();
}

/// The running agent. What it prints must find an open pipe.
struct Agent {
    child: Child,
    _output: BufReader<ChildStdout>,
}

fn end(mut agent: Agent) {
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
}

#[test]
fn containers_reach_each_other_the_world_and_names() {
    let bed = Testbed::start(1).unwrap();
    let dir = bed.host(0).dir.join("agent");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("resolv.conf"), format!("nameserver {}\noptions timeout:1\n", bed.gateway())).unwrap();
    bed.load_image(image::TESTBOX).unwrap();
    let _upstream = Upstream::start(&bed);
    let place = Place { bed, dir };

    // Somebody else's route is in the way.
    place.host().exec(&["ip", "route", "add", "blackhole", "10.42.7.0/24"]).unwrap();
    let (child, said) = place.agent(&directory(1, "first"));
    end(child);
    assert!(said.contains("10.42.0.0/16 overlaps with the route 10.42.7.0/24"), "{said}");
    place.host().exec(&["ip", "route", "delete", "blackhole", "10.42.7.0/24"]).unwrap();

    let (first, said) = place.agent(&directory(1, "first"));
    assert_eq!(said, "ready");
    // A second agent on one machine would take the first one's interfaces away.
    let (second, said) = place.agent(&directory(1, "first"));
    end(second);
    assert!(said.contains("another agent on this machine has the managed network (interface `remuda0`)"), "{said}");
    place.run("web", WEB);
    place.run("db", DB);

    let address = place.inside("web", &["ip", "-4", "-o", "address", "show", "dev", "eth0"]).unwrap();
    assert!(address.contains(&format!("{WEB}/16")), "{address}");
    let mtu = place.inside("web", &["cat", "/sys/class/net/eth0/mtu"]).unwrap();
    assert_eq!(mtu.trim(), "1402");
    place.inside("web", &["ping", "-c", "1", "-W", "5", DB]).unwrap();
    assert_eq!(place.seen_outside("web").unwrap(), IpAddr::V4(place.host().address), "masqueraded");

    let file = place.inside("web", &["cat", "/etc/resolv.conf"]).unwrap();
    assert!(file.contains("search a.rancher.internal web.a.rancher.internal rancher.internal\n"), "{file}");
    for (client, name, expected) in [
        ("web", "mysql", DB),
        ("web", "MYSQL.rancher.internal", DB),
        ("web", "first", DB),
        ("web", "db.b", DB),
        ("web", "web", WEB),
        ("db", "web.a", WEB),
        ("db", "a_web_1", WEB),
        ("db", "rancher-metadata", "169.254.169.250"),
        ("db", "example.com", "192.0.2.77"),
        // Not linked: an unknown short name of the world.
        ("db", "mysql", "192.0.2.77"),
    ] {
        assert_eq!(place.resolve(client, name).unwrap(), expected, "{client} asks for {name}");
    }
    assert!(place.resolve("db", "mysql.rancher.internal").is_err(), "only `web` has that link");

    // Somebody empties the firewall: Docker's rules are gone too, and what we need comes back.
    for table in ["filter", "nat"] {
        place.host().exec(&["iptables", "-t", table, "-F"]).unwrap();
    }
    eventually("the repaired firewall", || {
        ensure!(place.resolve("web", "mysql")? == DB);
        ensure!(place.seen_outside("db")? == IpAddr::V4(place.host().address));
        place.inside("db", &["ping", "-c", "1", "-W", "1", WEB]).map(drop)
    });

    // Metadata, by who asks.
    let metadata = |client: &str, path: &str| {
        place.inside(client, &["wget", "-q", "-O", "-", &format!("http://rancher-metadata/latest/{path}")])
    };
    for (client, path, expected) in [
        ("web", "self/container/name", "a_web_1"),
        ("web", "self/container/primary_ip", WEB),
        ("web", "self/service/name", "web"),
        ("db", "self/stack/name", "b"),
        ("db", "services/web/containers/0/name", "a_web_1"),
    ] {
        assert_eq!(metadata(client, path).unwrap(), expected, "{client} asks for {path}");
    }

    // The agent ends as a crash would, and comes back: names go on, and no question is lost.
    let mut asking = place.ask();
    end(first);
    assert_eq!(place.resolve("web", "mysql").unwrap(), DB);
    assert_eq!(metadata("web", "self/container/name").unwrap(), "a_web_1");
    assert_eq!(place.resolve("db", "example.com").unwrap(), "192.0.2.77");
    let (second, said) = place.agent(&directory(2, "second"));
    assert_eq!(said, "ready");
    assert_eq!(place.resolve("web", "second").unwrap(), DB);
    assert_eq!(place.resolve("web", "first").unwrap(), "192.0.2.77", "the alias is gone");
    drop(asking.stdin.take());
    let said = String::from_utf8(asking.wait_with_output().unwrap().stdout).unwrap();
    let counts: Vec<u64> = said
        .lines()
        .filter(|line| line.starts_with("asked "))
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(counts[0] > 100 && counts[1] == 0, "{said}");

    // A restarted daemon puts its chains in front of ours, and finds its network again.
    place.host().restart_dockerd().unwrap();
    place.host().docker(&["start", "web", "db"]).unwrap();
    eventually("names after dockerd's restart", || {
        ensure!(place.resolve("web", "second")? == DB);
        ensure!(place.seen_outside("web")? == IpAddr::V4(place.host().address));
        Ok(())
    });

    end(second);
    place.host().docker(&["rm", "-f", "web", "db"]).unwrap();
    let output = place.start("clean_child", &[]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for line in ["before: engineNetwork address firewallChain resolverFile datapath", "problems: None", "after: "] {
        assert!(said.lines().any(|found| found == line), "{line:?} is not in {said}");
    }
    assert!(!place.host().exec(&["iptables-save"]).unwrap().contains("REMUDA"));
    assert!(place.host().exec(&["ip", "link", "show", "dev", "remuda0"]).is_err(), "the bridge is gone");
}
