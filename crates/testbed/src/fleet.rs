//! Hosts with an agent each, and the server they belong to: all of the real binary, on a testbed.
//!
//! The server runs beside the test, on the testbed's wire; its process, too, ends with the testbed when the owner dies.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bed::Testbed;
use crate::host::{Host, output};
use crate::trouble::Part;
use crate::wait;

/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(90);

/// A server and the hosts that have joined it, until dropped.
pub struct Fleet {
    pub bed: Testbed,
    bin: PathBuf,
    address: SocketAddr,
    keys: Vec<(String, String)>,
    token: String,
    server: Mutex<Option<Child>>,
    agents: Vec<Mutex<Option<Child>>>,
}

impl Fleet {
    /// Makes hosts, starts the server `bin` and an agent on each host, and waits until all have joined.
    pub fn start(bin: &Path, n_hosts: usize) -> Result<Fleet> {
        let bed = Testbed::start(n_hosts)?;
        let address = TcpListener::bind((bed.gateway(), 0)).context("no port is free")?.local_addr()?;
        let agents = (0..n_hosts).map(|_| Mutex::default()).collect();
        let (keys, token, bin) = (Vec::new(), String::new(), bin.to_path_buf());
        let mut fleet = Fleet { bed, bin, address, keys, token, server: Mutex::default(), agents };
        fleet.start_server()?;
        fleet.keys = wait::until("admin.env", LIMIT, || fleet.read_keys())?;
        let made: Value = serde_json::from_str(&fleet.cli(&["host", "add", "--output", "json"])?)?;
        fleet.token = made["token"].as_str().context("no registration token")?.to_owned();
        for host_idx in 0..n_hosts {
            fleet.start_agent(host_idx)?;
        }
        wait::until("all hosts to join", LIMIT, || {
            let n_active = fleet.hosts()?.iter().filter(|host| host["state"] == "active").count();
            anyhow::ensure!(n_active == n_hosts, "{n_active} of {n_hosts} are active");
            Ok(())
        })?;
        Ok(fleet)
    }

    fn read_keys(&self) -> Result<Vec<(String, String)>> {
        let written = fs::read_to_string(self.bed.dir().join("data/admin.env"))?;
        let values = written.lines().filter_map(|line| line.trim_start_matches("export ").split_once('='));
        let keys = values.map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()));
        Ok(keys.filter(|(name, _)| name != "REMUDA_URL").collect())
    }

    /// `http://…` of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lines for a shell after which `remuda` speaks to the server.
    pub fn environment(&self) -> String {
        let url = ("REMUDA_URL".to_owned(), self.url());
        self.keys.iter().chain([&url]).map(|(name, value)| format!("export {name}='{value}'\n")).collect()
    }

    pub fn host(&self, host_idx: usize) -> &Host {
        self.bed.host(host_idx)
    }

    /// Starts the server when it does not run, and waits until it answers.
    pub fn start_server(&self) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if is_running(&mut server) {
            return Ok(());
        }
        let mut command = self.bed.command(&self.bin)?;
        command.args(["server", "--listen", &self.address.to_string(), "--data-dir"]).arg(self.bed.dir().join("data"));
        *server = Some(self.spawn(command, "server")?);
        wait::until("the server", LIMIT, || {
            anyhow::ensure!(is_running(&mut server), "it ended: {}", self.log("server"));
            ping(self.address)
        })
    }

    /// Ends the server as SIGKILL does.
    pub fn kill_server(&self) -> Result<()> {
        end(&self.server)
    }

    /// Freezes the server, or lets it go on.
    pub fn pause_server(&self, paused: bool) -> Result<()> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = server.as_ref().context("the server does not run")?.id();
        let mut command = Command::new("kill");
        command.args([if paused { "-STOP" } else { "-CONT" }, &pid.to_string()]);
        output(command).map(drop)
    }

    /// Starts the agent of a host when it does not run.
    pub fn start_agent(&self, host_idx: usize) -> Result<()> {
        let mut agent = self.agents[host_idx].lock().unwrap_or_else(PoisonError::into_inner);
        if is_running(&mut agent) {
            return Ok(());
        }
        let host = self.host(host_idx);
        let mut command = host.command(&self.bin)?;
        command.args(["agent", "--url", &self.url(), "--token", &self.token, "--name", &host.name]);
        command.args(["--docker-host", &host.docker_host(), "--state-dir"]).arg(host.dir.join("agent"));
        command.args(["--address", &host.address.to_string()]);
        *agent = Some(self.spawn(command, &format!("agent-{}", host.name))?);
        Ok(())
    }

    /// Ends the agent as SIGKILL does.
    pub fn kill_agent(&self, host_idx: usize) -> Result<()> {
        end(&self.agents[host_idx])
    }

    /// Ends the agent as SIGTERM does: it takes its leave.
    pub fn stop_agent(&self, host_idx: usize) -> Result<()> {
        let mut agent = self.agents[host_idx].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = agent.take() else { return Ok(()) };
        let mut command = Command::new("kill");
        command.args(["-TERM", &child.id().to_string()]);
        output(command)?;
        child.wait().context("cannot wait for the agent").map(drop)
    }

    /// The power of a host fails.
    pub fn kill_host(&self, host_idx: usize) -> Result<()> {
        self.host(host_idx).kill(Part::Host)?;
        self.kill_agent(host_idx)
    }

    /// It comes back: the daemon, then the agent.
    pub fn boot_host(&self, host_idx: usize) -> Result<()> {
        self.host(host_idx).start_dockerd()?;
        self.start_agent(host_idx)
    }

    /// The command line against the server; what it printed.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.bin);
        // No context of the machine's user is read or written.
        command.args(args).env("HOME", self.bed.dir()).env_remove("XDG_CONFIG_HOME").env("REMUDA_URL", self.url());
        command.current_dir("/").envs(self.keys.iter().map(|(name, value)| (name, value)));
        output(command)
    }

    /// A call of the API; what it answered.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut args = vec!["api", method, path];
        if method != "GET" {
            args.extend(["--data", &body]);
        }
        serde_json::from_str(&self.cli(&args)?).context("the API answered something that is not JSON")
    }

    /// A collection's resources.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut page = self.api("GET", path, &Value::Null)?;
        Ok(page["data"].take().as_array().cloned().unwrap_or_default())
    }

    /// The rows of the hosts.
    pub fn hosts(&self) -> Result<Vec<Value>> {
        self.list("hosts?removed_null=true")
    }

    /// The row of one host.
    pub fn host_row(&self, host_idx: usize) -> Result<Value> {
        let name = &self.host(host_idx).name;
        let row = self.hosts()?.into_iter().find(|row| row["name"] == **name);
        row.with_context(|| format!("the server does not know {name}"))
    }

    /// Sets a setting of the server.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.api("PUT", &format!("/v1/settings/{name}"), &serde_json::json!({"value": value})).map(drop)
    }

    /// The end of a log: `server`, `agent-host1` and so on.
    pub fn log(&self, name: &str) -> String {
        let text = fs::read(self.bed.dir().join(format!("{name}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn spawn(&self, mut command: Command, name: &str) -> Result<Child> {
        let log = self.bed.dir().join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).current_dir("/");
        command.spawn().with_context(|| format!("cannot start {name}"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let agents = self.bed.hosts().iter().map(|host| format!("agent-{}", host.name));
            for name in agents.chain(["server".to_owned()]) {
                eprintln!("the end of {name}'s log:\n{}\n", self.log(&name));
            }
        }
        for child in self.agents.iter().chain([&self.server]) {
            if let Err(error) = end(child) {
                eprintln!("testbed: {error:#}");
            }
        }
    }
}

fn is_running(child: &mut Option<Child>) -> bool {
    child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
}

fn end(child: &Mutex<Option<Child>>) -> Result<()> {
    let Some(mut child) = child.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
    child.kill().context("cannot kill it")?;
    child.wait().context("cannot wait for it").map(drop)
}

fn ping(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET /ping HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.lines().next() {
        Some(line) if line.contains(" 200 ") => Ok(()),
        line => bail!("it answered {line:?}"),
    }
}
