//! A server, an agent on a host with its own Docker Engine, and the command line: all of the real binary.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use remuda_client::{Client, Config, Resource};
use remuda_testbed::{Host, Testbed, wait};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const BIN: &str = env!("CARGO_BIN_EXE_remuda");
/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(90);

/// Probes until it succeeds; a test fails with the last reason.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T>) -> T {
    wait::until(what, LIMIT, probe).unwrap()
}

/// One of our containers as Docker reports it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    pub name: String,
    pub id: String,
}

pub struct Ride {
    server: Option<Child>,
    agent: Option<Child>,
    address: String,
    token: String,
    keys: Vec<(String, String)>,
    runtime: Runtime,
    bed: Testbed,
}

impl Ride {
    /// A server, and one host that has joined it and has the example's image.
    pub fn start() -> Ride {
        let bed = Testbed::start(1).unwrap();
        let port = std::net::TcpListener::bind((bed.gateway(), 0)).unwrap().local_addr().unwrap().port();
        let address = format!("{}:{port}", bed.gateway());
        let runtime = Runtime::new().unwrap();
        let mut ride =
            Ride { server: None, agent: None, address, token: String::new(), keys: Vec::new(), runtime, bed };

        let mut build = Command::new(root().join("examples/hello/build-image"));
        build.env("DOCKER_HOST", ride.host().docker_host());
        succeed(build);
        ride.start_server();
        let written = eventually("admin.env", || Ok(fs::read_to_string(ride.bed.dir().join("data/admin.env"))?));
        let values = written.lines().filter_map(|line| line.trim_start_matches("export ").split_once('='));
        ride.keys =
            values.map(|(name, value)| (name.to_string(), value.trim_matches(['"', '\'']).to_string())).collect();
        ride.keys.retain(|(name, _)| name != "REMUDA_URL");
        ride.token = ride.registration_token();
        ride.start_agent();
        eventually("the host", || {
            let hosts = ride.list("hosts", &[("state", "active")])?;
            anyhow::ensure!(!hosts.is_empty(), "none has joined; the agent says:\n{}", ride.log("agent"));
            Ok(())
        });
        ride
    }

    pub fn host(&self) -> &Host {
        self.bed.host(0)
    }

    pub fn start_server(&mut self) {
        let mut command = Command::new(BIN);
        command.args(["server", "--listen", &self.address, "--data-dir"]).arg(self.bed.dir().join("data"));
        self.server = Some(self.spawn(command, "server"));
        eventually("the server", || {
            if let Some(status) = self.server.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the server ended ({status}): {}", self.log("server"));
            }
            get(&self.address, "/ping").map(drop)
        });
    }

    pub fn start_agent(&mut self) {
        let mut command = self.host().command(BIN).unwrap();
        command.args(["agent", "--url", &format!("http://{}", self.address), "--token", &self.token]);
        command.args(["--docker-host", &self.host().docker_host(), "--state-dir"]).arg(self.host().dir.join("agent"));
        command.args(["--address", &self.host().address.to_string()]);
        self.agent = Some(self.spawn(command, "agent"));
    }

    pub fn kill_server(&mut self) {
        kill(self.server.take());
    }

    pub fn kill_agent(&mut self) {
        kill(self.agent.take());
    }

    pub fn kill_dockerd(&self) {
        self.host().kill_dockerd().unwrap();
    }

    pub fn start_dockerd(&self) {
        self.host().start_dockerd().unwrap();
    }

    /// Waits until exactly these containers run, the page answers and the API says what it said before.
    pub fn settled(&self, containers: &[Container], services: &str) {
        eventually("the same containers", || {
            let running = self.running();
            anyhow::ensure!(running == containers, "{running:?}; the agent says:\n{}", self.log("agent"));
            Ok(())
        });
        let page = eventually("the page", || {
            let page = self.page()?;
            anyhow::ensure!(page.contains("store at 10.42."), "{page}");
            Ok(page)
        });
        assert!(page.contains("visit"), "{page}");
        eventually("the same answers", || {
            let now = self.services()?;
            anyhow::ensure!(now == services, "{now}\ninstead of\n{services}");
            Ok(())
        });
    }

    /// The example's page, over its published port.
    pub fn page(&self) -> Result<String> {
        get(&format!("{}:8000", self.host().address), "/")
    }

    /// What runs on the host, by name.
    pub fn running(&self) -> Vec<Container> {
        let text = self.docker(&["ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let mut found: Vec<_> =
            pairs.map(|(name, id)| Container { name: name.to_string(), id: id.to_string() }).collect();
        found.sort();
        found
    }

    /// The Docker id of the container that we call so.
    pub fn container(&self, name: &str) -> String {
        let found = self.running().into_iter().find(|container| container.name.contains(name));
        found.unwrap_or_else(|| panic!("no container {name} in {:?}", self.running())).id
    }

    /// What the API says of services and their containers, without what time changes.
    pub fn services(&self) -> Result<String> {
        let mut said = String::new();
        for service in self.list("services", &[("removed_null", "true")])? {
            said += &format!("{} {} {}\n", service.name(), service.state(), service.get("scale"));
        }
        for container in self.list("containers", &[("removed_null", "true"), ("sort", "name")])? {
            let (external, address) = (container.text("externalId"), container.text("primaryIpAddress"));
            said += &format!("{} {} {external} {address}\n", container.name(), container.state());
        }
        Ok(said)
    }

    /// What a collection holds, over a connection of its own: the server may be another since.
    pub fn list(&self, collection: &str, filters: &[(&str, &str)]) -> Result<Vec<Resource>> {
        self.runtime.block_on(async { Ok(self.client().await?.list(collection, filters).await?) })
    }

    pub fn create(&self, collection: &str, body: Value) -> Resource {
        self.runtime.block_on(async { self.client().await.unwrap().create(collection, &body).await.unwrap() })
    }

    /// Changes fields of the resource as it is now.
    pub fn update(&self, resource: &Resource, fields: Value) {
        self.runtime.block_on(async {
            let client = self.client().await.unwrap();
            let now = client.reload(resource).await.unwrap();
            client.update(&now, &fields).await.unwrap();
        });
    }

    /// Asks for an action of the resource as it is now.
    pub fn act(&self, resource: &Resource, action: &str, input: Value) {
        self.runtime.block_on(async {
            let client = self.client().await.unwrap();
            let now = client.reload(resource).await.unwrap();
            client.action(&now, action, &input).await.unwrap();
        });
    }

    pub fn wait_state(&self, resource: &Resource, state: &str) {
        eventually(&format!("{} {state}", resource.name()), || {
            let now = self.reload(resource)?;
            anyhow::ensure!(now.state() == state, "{} {:?}", now.state(), now.message());
            Ok(())
        });
    }

    fn reload(&self, resource: &Resource) -> Result<Resource> {
        self.runtime.block_on(async { Ok(self.client().await?.reload(resource).await?) })
    }

    async fn client(&self) -> Result<Client> {
        let key = |name: &str| self.keys.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let config = Config {
            url: format!("http://{}", self.address),
            access_key: key("REMUDA_ACCESS_KEY"),
            secret_key: key("REMUDA_SECRET_KEY"),
            environment: Some(String::from("Default")),
            ..Config::default()
        };
        Ok(Client::connect(config).await?)
    }

    pub fn docker(&self, args: &[&str]) -> String {
        self.host().docker(args).unwrap()
    }

    pub fn try_docker(&self, args: &[&str]) -> Result<String> {
        self.host().docker(args)
    }

    /// Runs the command line, which has to succeed, and gives its standard output.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new(BIN);
        command.args(args);
        self.prepare(&mut command);
        succeed(command)
    }

    /// The exit code of the command line.
    pub fn cli_status(&self, args: &[&str]) -> Option<i32> {
        let mut command = Command::new(BIN);
        command.args(args);
        self.prepare(&mut command);
        command.output().unwrap().status.code()
    }

    /// Runs the command line, which has to fail, and gives what it says.
    pub fn fail(&self, args: &[&str]) -> String {
        let mut command = Command::new(BIN);
        command.args(args);
        self.prepare(&mut command);
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{args:?} ends well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.bed.dir().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn registration_token(&self) -> String {
        let token = self.create("registrationTokens", json!({}));
        // It has the token once it is active.
        eventually("a registration token", || {
            let now = self.reload(&token)?;
            now.maybe("token").map(str::to_owned).with_context(|| format!("{now:?}"))
        })
    }

    /// The home directory is the testbed's: no context of the machine's user is read or written.
    fn prepare(&self, command: &mut Command) {
        command.current_dir(root()).env("REMUDA_URL", format!("http://{}", self.address)).envs(self.keys.clone());
        command.env("HOME", self.bed.dir()).env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        command.env("DOCKER_HOST", self.host().docker_host());
    }

    fn spawn(&self, mut command: Command, name: &str) -> Child {
        let log = self.bed.dir().join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).current_dir("/").spawn().unwrap()
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["server", "agent"] {
                eprintln!("the end of {name}'s log:\n{}\n", self.log(name));
            }
        }
        kill(self.server.take());
        kill(self.agent.take());
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn succeed(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} failed ({status}):\n{stdout}{stderr}");
    stdout.into_owned()
}

/// A page, over a connection of its own.
fn get(address: &str, path: &str) -> Result<String> {
    let address: std::net::SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        bail!("{path} answered {:?}", head.lines().next());
    }
    Ok(body.to_string())
}
