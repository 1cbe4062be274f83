//! The promised numbers, measured with the real binary: `make bench`.
//!
//! Absolute times say as much about the machine as about us, so each number stands beside one measured in the same run
//! that the machine determines: what `docker run` takes, what an empty answer takes. Nothing is asserted; a person
//! compares the table with the targets in it. `-- --record FILE` puts the table into a page between its two marks;
//! names of parts measure those only.
#![allow(clippy::disallowed_methods, reason = "measuring is the one place that reads the real clock on purpose")]

mod balancing;
mod http;
mod network;
mod placement;
mod planning;
mod rendering;
mod stacks;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use remuda_testbed::{Postgres, Testbed, Tuning, image, wait};
use serde_json::{Value, json};

use http::Api;
use table::{Table, milliseconds, percentile};

const LIMIT: Duration = Duration::from_secs(120);
const N_STORED: usize = 10_000;
const N_TIMED: usize = 1_000;
const N_HOSTS: usize = 100;
const N_WRITERS: usize = 16;

type Part = (&'static str, fn(&mut Table) -> Result<()>);

const PARTS: [Part; 10] = [
    ("start", start_and_idle),
    ("planning", planning::measure),
    ("rendering", rendering::measure),
    ("placement", placement::measure),
    ("docker", containers_on_docker),
    ("stacks", stacks::measure),
    ("balancing", balancing::measure),
    ("network", network::measure),
    ("sqlite", |table| many_containers(table, "SQLite", None)),
    ("postgres", |table| {
        let server = Postgres::start(Tuning::AsInstalled)?;
        let database = server.database("bench")?;
        many_containers(table, "PostgreSQL", Some(&database.url))
    }),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut args = args.into_iter();
    let (mut record, mut wanted) = (None, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--record" => record = Some(PathBuf::from(args.next().context("--record needs a file")?)),
            part if PARTS.iter().any(|(name, _)| *name == part) => wanted.push(arg),
            other => bail!("`{other}` is no part; there are {}", PARTS.map(|(name, _)| name).join(", ")),
        }
    }
    if record.is_some() && !wanted.is_empty() {
        bail!("a recorded table is of one whole run: name no parts with --record");
    }
    let mut table = Table::new();
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            measure(&mut table)?;
        }
    }
    println!("{table}");
    if let Some(path) = record {
        table.record(&path)?;
        println!("recorded in {}", path.display());
    }
    Ok(())
}

/// How soon a new server answers, and what it holds when nothing happens.
fn start_and_idle(table: &mut Table) -> Result<()> {
    let mut bare = Vec::new();
    let mut first = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        let version = Command::new(env!("CARGO_BIN_EXE_remuda")).arg("--version").stdout(Stdio::null()).status()?;
        if !version.success() {
            bail!("`remuda --version` failed ({version})");
        }
        bare.push(begin.elapsed());
        let dir = tempfile::tempdir()?;
        let server = Server::start(dir.path(), "127.0.0.1", &["--simulator"])?;
        first.push(server.answered_after);
    }
    let (bare, first) = (percentile(&mut bare, 50), percentile(&mut first, 50));
    table.row(
        "start to first answered request",
        milliseconds(first),
        "< 300 ms",
        "`remuda --version`",
        milliseconds(bare),
        first,
        bare,
    );
    Ok(())
}

/// From the request to `running` through everything, beside `docker run -d` on the same daemon.
fn containers_on_docker(table: &mut Table) -> Result<()> {
    const N_ROUNDS: usize = 20;
    let DockerHost { bed, dir: _dir, server, agent } = DockerHost::start()?;
    let host = bed.host(0);
    let mut api = server.project_api()?;
    let modes = ["bridge", "managed"];
    // Like for like: Docker serves names in networks other than `bridge`, and setting that up is part of its start.
    let networks = ["bridge", "remuda"];
    let mut docker: [Vec<Duration>; 2] = Default::default();
    let mut ours: [Vec<Duration>; 2] = Default::default();
    for round in 0..N_ROUNDS {
        for (mode, times) in modes.iter().zip(&mut ours) {
            let begin = Instant::now();
            let container = api.post(
                "/v1/containers",
                &json!({"name": format!("{mode}-{round}"), "imageUuid": format!("docker:{}", image::TESTBOX),
                        "command": ["rest"], "networkMode": mode}),
            )?;
            let id = container["id"].as_str().context("a container without an id")?.to_string();
            api.wait_for_state("containers", &id, "running")?;
            times.push(begin.elapsed());
            api.delete(&format!("/v1/containers/{id}"))?;
            api.wait_for_state("containers", &id, "removed")?;
        }
        for (network, times) in networks.iter().zip(&mut docker) {
            let begin = Instant::now();
            let id = host.docker(&["run", "-d", "--network", network, image::TESTBOX, "rest"])?;
            times.push(begin.elapsed());
            host.docker(&["rm", "-f", id.trim()])?;
        }
    }
    let docker = docker.map(|mut times| percentile(&mut times, 50));
    let ours = ours.map(|mut times| percentile(&mut times, 50));
    let pairs = [("bridge", ours[0], 0), ("managed", ours[1], 0), ("managed", ours[1], 1)];
    for (mode, median, beside) in pairs {
        let over = median.saturating_sub(docker[beside]);
        let value = format!("{}, {} more", milliseconds(median), milliseconds(over));
        table.row(
            &format!("container created → running, {mode} network"),
            value,
            "< 50 ms more",
            &format!("`docker run -d --network {}`", networks[beside]),
            milliseconds(docker[beside]),
            median,
            docker[beside],
        );
    }

    let dockerd = resident_mib(&host.docker(&["info", "-f", "{{.ID}}"]).and_then(|_| dockerd_pid(&host.dir))?)?;
    for (what, pid, target) in [("server", server.running.pid(), "< 60 MB"), ("agent", agent.pid(), "< 30 MB")] {
        let resident = resident_mib(&pid)?;
        table.size_row(&format!("{what}, resident memory when idle, one host"), resident, target, "dockerd", dockerd);
    }
    Ok(())
}

/// Ten thousand containers on a hundred simulated hosts: how fast they come, and how fast they are read.
fn many_containers(table: &mut Table, store: &str, database: Option<&str>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut options = vec!["--simulator"];
    options.extend(database.iter().flat_map(|url| ["--database", url]));
    let server = Server::start(dir.path(), "127.0.0.1", &options)?;
    let mut api = server.project_api()?;
    let mut agents = Command::new(env!("CARGO_BIN_EXE_remuda"));
    agents.args(["agent", "--engine", "simulated", "--hosts", &N_HOSTS.to_string(), "--url", &server.url]);
    agents.args(["--token", &api.registration_token()?]).arg("--state-dir").arg(dir.path().join("agents"));
    let _agents = Running::spawn(&mut agents, &dir.path().join("agents.log"))?;
    api.wait_for_hosts(N_HOSTS)?;

    let begin = Instant::now();
    let ids = create(&server, &api, N_TIMED)?;
    api.wait_for_all_running()?;
    let per_second = ids.len() as f64 / begin.elapsed().as_secs_f64();
    create(&server, &api, N_STORED - N_TIMED)?;
    api.wait_for_all_running()?;
    api.wait_for_count("/v1/containers?state=running&limit=-1", N_STORED)?;

    let mut ping = api.time(2_000, |_| String::from("/ping"))?;
    let mut one = api.time(2_000, |round| format!("/v1/containers/{}", ids[round % ids.len()]))?;
    let mut list =
        api.time(300, |round| format!("/v1/containers?limit=100&marker=m{}", round * 7 % (N_STORED - 100)))?;
    let ping = percentile(&mut ping, 99);
    for (what, times, target) in [("GET one", &mut one, "< 2 ms"), ("list of 100", &mut list, "< 10 ms")] {
        let (median, p99) = (percentile(times, 50), percentile(times, 99));
        let value = format!("{} (median {})", milliseconds(p99), milliseconds(median));
        let what = format!("{what}, p99, {N_STORED} containers stored, {store}");
        table.row(&what, value, target, "`/ping`, p99", milliseconds(ping), p99, ping);
    }
    table.plain_row(
        &format!("{N_TIMED} simulated containers created → running, {store}"),
        format!("{per_second:.0} per second"),
        "≥ 1000 per second",
    );
    Ok(())
}

/// Creates from several connections at once, as several clients would.
fn create(server: &Server, api: &Api, n: usize) -> Result<Vec<String>> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let left = AtomicUsize::new(n);
    let writer = |mut api: Api| -> Result<Vec<String>> {
        let mut ids = Vec::new();
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let name = format!("c{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let made = api.post("/v1/containers", &json!({"name": name, "imageUuid": "sim:bench"}))?;
            ids.push(made["id"].as_str().context("a container without an id")?.to_string());
        }
        Ok(ids)
    };
    let apis = (0..N_WRITERS).map(|_| api.again(server.port)).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let writers: Vec<_> = apis.into_iter().map(|api| scope.spawn(|| writer(api))).collect();
        let mut ids = Vec::new();
        for writer in writers {
            ids.extend(writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??);
        }
        Ok(ids)
    })
}

/// A server with one host on a real Docker Engine that has the image of the tests.
struct DockerHost {
    // Ended in this order: the agent before its engine.
    agent: Running,
    server: Server,
    bed: Testbed,
    dir: tempfile::TempDir,
}

impl DockerHost {
    fn start() -> Result<DockerHost> {
        let bed = Testbed::start(1)?;
        bed.load_image(image::TESTBOX)?;
        let host = bed.host(0);
        let dir = tempfile::tempdir()?;
        let server = Server::start(dir.path(), &bed.gateway().to_string(), &[])?;
        let mut api = server.project_api()?;
        let token = api.registration_token()?;
        let mut agent = host.command(env!("CARGO_BIN_EXE_remuda"))?;
        agent.args(["agent", "--url", &server.url, "--token", &token, "--docker-host", &host.docker_host()]);
        agent.arg("--state-dir").arg(host.dir.join("agent"));
        let agent = Running::spawn(&mut agent, &dir.path().join("agent.log"))?;
        api.wait_for_hosts(1)?;
        Ok(DockerHost { agent, server, bed, dir })
    }
}

/// A server of the real binary, ended when dropped.
struct Server {
    running: Running,
    url: String,
    host: String,
    port: u16,
    data: PathBuf,
    answered_after: Duration,
}

impl Server {
    fn start(dir: &Path, host: &str, options: &[&str]) -> Result<Server> {
        let port = std::net::TcpListener::bind((host, 0))?.local_addr()?.port();
        let data = dir.join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
        command.arg("server").args(options).args(["--listen", &format!("{host}:{port}")]).arg("--data-dir").arg(&data);
        let begin = Instant::now();
        let running = Running::spawn(&mut command, &dir.join("server.log"))?;
        let mut server = Server {
            running,
            url: format!("http://{host}:{port}"),
            host: host.to_string(),
            port,
            data,
            answered_after: Duration::ZERO,
        };
        wait::until("the server to answer", LIMIT, || {
            server.running.check()?;
            Api::connect(host, port, None)?.get("/ping").map(drop)
        })?;
        server.answered_after = begin.elapsed();
        Ok(server)
    }

    /// What the first start wrote down for clients: names and values.
    fn admin_env(&self) -> Result<Vec<(String, String)>> {
        let path = self.data.join("admin.env");
        let text = wait::until("admin.env", LIMIT, || fs::read_to_string(&path).context("it is not there"))?;
        let pairs = text.lines().filter_map(|line| line.trim_start_matches("export ").split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect())
    }

    /// The API as the default project sees it, with the key that the first start wrote down.
    fn project_api(&self) -> Result<Api> {
        let env = self.admin_env()?;
        let value = |name: &str| {
            let found = env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            found.with_context(|| format!("admin.env lacks {name}"))
        };
        let mut api =
            Api::connect(&self.host, self.port, Some((value("REMUDA_ACCESS_KEY")?, value("REMUDA_SECRET_KEY")?)))?;
        let projects = api.get("/v1/projects")?;
        let default = projects["data"].as_array().into_iter().flatten().find(|project| project["name"] == "Default");
        let id = default.and_then(|project| project["id"].as_str()).context("there is no project `Default`")?;
        api.project = Some(id.to_string());
        Ok(api)
    }
}

/// A process that ends with us.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn spawn(command: &mut Command, log: &Path) -> Result<Running> {
        let out = fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        Ok(Running { child: child.with_context(|| format!("cannot start {command:?}"))?, log: log.to_path_buf() })
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended ({status}): {}", fs::read_to_string(&self.log).unwrap_or_default()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dockerd_pid(dir: &Path) -> Result<String> {
    Ok(fs::read_to_string(dir.join("docker.pid"))?.trim().to_string())
}

fn resident_mib(pid: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is no number")?;
    Ok(kib / 1024.0)
}

impl Api {
    fn registration_token(&mut self) -> Result<String> {
        let made = self.post("/v1/registrationtokens", &json!({}))?;
        let id = made["id"].as_str().context("a token without an id")?.to_string();
        self.wait_for_state("registrationtokens", &id, "active")?;
        let token = self.get(&format!("/v1/registrationtokens/{id}"))?;
        Ok(token["token"].as_str().context("an active token without a token")?.to_string())
    }

    fn wait_for_hosts(&mut self, n_hosts: usize) -> Result<()> {
        self.wait_for_count("/v1/hosts?state=active&limit=-1", n_hosts)
    }

    fn wait_for_count(&mut self, path: &str, n: usize) -> Result<()> {
        wait::until(&format!("{n} in {path}"), LIMIT * 5, || {
            let found = self.get(path)?["data"].as_array().map_or(0, Vec::len);
            if found == n { Ok(()) } else { bail!("there are {found}") }
        })
    }

    /// Asks for one that does not run yet, so that asking costs the server next to nothing of what is measured.
    fn wait_for_all_running(&mut self) -> Result<()> {
        self.wait_for_count("/v1/containers?state_ne=running&limit=1", 0)
    }

    fn wait_for_state(&mut self, plural: &str, id: &str, state: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let found = self.get(&format!("/v1/{plural}/{id}"))?;
            if found["state"] == state {
                return Ok(());
            }
            if found["transitioning"] == "error" || Instant::now() > end {
                bail!("{plural}/{id} is {} instead of {state}: {}", found["state"], found["transitioningMessage"]);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn time(&mut self, n: usize, path: impl Fn(usize) -> String) -> Result<Vec<Duration>> {
        for round in 0..n / 10 {
            self.get_raw(&path(round))?;
        }
        let mut times = Vec::with_capacity(n);
        for round in 0..n {
            let path = path(round);
            let begin = Instant::now();
            self.get_raw(&path)?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    fn get(&mut self, path: &str) -> Result<Value> {
        let body = self.get_raw(path)?;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}
