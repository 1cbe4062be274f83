//! A whole server for tests, over real HTTP, on either store.
//!
//! [`Harness`] starts a server on a port of its own with a database of its own; [`Api`] talks to it as somebody. Tests
//! say what they expect of an answer with [`Answer`]; they wait for states, never for time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_agent::engine::Engine;
use remuda_agent::engine::simulated::neighbours::Neighbours;
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::host_network::SimulatedNetwork;
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{self, Host};
use remuda_agent::state_dir::Identity;
use remuda_orchestrator::{Orchestrator, Ownership};
use remuda_runtime::Seams;
use remuda_server::{Running, ServerOptions};
use remuda_store::{Database, Fault, Faults, Options, Seal, Store};
use serde_json::{Value, json};

/// Longest wait for a state: only a bug gets there.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Which store a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Memory,
    Postgres,
}

/// How a test's server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Guarded,
    NoSimulator,
    Dev,
}

/// A running server.
pub struct Harness {
    pub running: Option<Running>,
    pub store: Store,
    pub seams: Seams,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Engines of the simulated hosts, in the order they joined.
    pub engines: Mutex<Vec<Simulated>>,
    /// They reach each other's containers.
    pub neighbours: Neighbours,
    /// What each of them, by name, shows the server.
    pub agent_keys: Mutex<Vec<(String, (String, String))>>,
    /// The administrator; `None` in `--dev`, where nobody needs a key.
    pub admin_key: Option<(String, String)>,
    http: reqwest::Client,
    dir: tempfile::TempDir,
    power: Arc<Power>,
    /// What a second server on the same database needs.
    again: (Options, Seal),
}

/// What a server has of its database: one whose process is dead reads and writes nothing any more.
#[derive(Debug, Default)]
struct Power {
    is_dead: AtomicBool,
    is_away: AtomicBool,
}

impl Power {
    fn fault(&self) -> Option<Fault> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match (is(&self.is_dead), is(&self.is_away)) {
            (true, _) => Some(Fault::Stuck),
            (_, true) => Some(Fault::Away),
            _ => None,
        }
    }
}

impl Faults for Power {
    fn read(&self) -> Option<Fault> {
        self.fault()
    }

    fn write(&self) -> Option<Fault> {
        self.fault()
    }
}

impl Harness {
    /// A server with access control on.
    pub async fn start(on: On) -> Harness {
        Harness::with(on, Mode::Guarded).await
    }

    /// A server that takes no simulated hosts.
    pub async fn without_simulator(on: On) -> Harness {
        Harness::with(on, Mode::NoSimulator).await
    }

    /// A server as `--dev` starts it.
    pub async fn dev(on: On) -> Harness {
        Harness::with(on, Mode::Dev).await
    }

    async fn with(on: On, mode: Mode) -> Harness {
        // Fails when another test of the process has done it, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // What the server warns of is shown with the test that fails.
        drop(
            tracing_subscriber::fmt()
                .with_test_writer()
                .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
                .try_init(),
        );
        let seams = Seams::real();
        let dir = tempfile::tempdir().expect("a directory");
        let database = match on {
            On::Memory => Options::memory(),
            On::Postgres => {
                let name = format!("api{}", seams.random.uuid().replace('-', ""));
                Options::new(Database::Postgres { url: remuda_testbed::postgres_url(&name) })
            }
        };
        let seal = Seal::transient(&seams.random);
        Harness::open(database, seal, mode, seams, dir).await
    }

    /// Another server on the same database. Only PostgreSQL takes a second one.
    pub async fn beside(&self) -> Harness {
        let dir = tempfile::tempdir().expect("a directory");
        let (database, seal) = self.again.clone();
        let mut other = Harness::open(database, seal, Mode::Guarded, Seams::real(), dir).await;
        other.admin_key.clone_from(&self.admin_key);
        other
    }

    async fn open(database: Options, seal: Seal, mode: Mode, seams: Seams, dir: tempfile::TempDir) -> Harness {
        let again = (database.clone(), seal.clone());
        let power = Arc::new(Power::default());
        let store = Store::open(database, remuda_model::registry(), seams.clone()).await.expect("the store opens");
        let store = store.with_faults(power.clone());
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: dir.path().to_owned(),
            database: String::new(),
            key_file: dir.path().join("key"),
            agents_dir: None,
            contexts_dir: dir.path().join("contexts"),
            log: "info".into(),
            dev: mode == Mode::Dev,
            simulator: mode != Mode::NoSimulator,
        };
        let ownership = if store.is_shared() { Ownership::leased() } else { Ownership::Alone };
        let loops = remuda_orchestrator::Options { ownership, ..remuda_orchestrator::Options::default() };
        let orchestrator = Orchestrator::start(store.clone(), seams.clone(), loops);
        let running = remuda_server::start(options, store.clone(), orchestrator, seams.clone(), seal)
            .await
            .expect("the server starts");
        let admin_key = running.admin_key.as_ref().map(|key| (key.access_key.clone(), key.secret_key.clone()));
        let url = format!("http://{}", running.address);
        let http = reqwest::Client::builder().pool_max_idle_per_host(4).build().expect("a client");
        let (engines, agent_keys) = (Mutex::default(), Mutex::default());
        Harness {
            running: Some(running),
            seams,
            store,
            url,
            engines,
            neighbours: Neighbours::default(),
            agent_keys,
            admin_key,
            http,
            dir,
            power,
            again,
        }
    }

    /// The file the first start writes for programs.
    pub fn admin_env(&self) -> std::path::PathBuf {
        self.dir.path().join("admin.env")
    }

    /// The administrator, outside any project.
    pub fn admin(&self) -> Api {
        self.keyed(self.admin_key.clone())
    }

    /// Nobody in particular.
    pub fn anonymous(&self) -> Api {
        self.keyed(None)
    }

    /// Whoever has that key.
    pub fn keyed(&self, key: Option<(String, String)>) -> Api {
        Api {
            http: self.http.clone(),
            root: self.url.clone(),
            base: format!("{}/v1", self.url),
            key,
            headers: Vec::new(),
        }
    }

    /// The administrator inside project `Default`.
    pub fn project(&self) -> Api {
        self.admin().inside("1a5")
    }

    /// Registers a simulated host in this process, and runs it until it ends or is refused.
    pub async fn host(&self, number: usize, token: &str) -> impl Future<Output = Result<(), run::Error>> + use<> {
        let seams = self.seams.clone();
        let identity = Identity { host_uuid: seams.random.uuid(), register_key: seams.random.uuid(), keys: None };
        let engine = Simulated::among(&self.neighbours, seams.clone(), Latency::none());
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.clone());
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let name = format!("host-{number}");
        let address = Some(std::net::IpAddr::from([10, 1, 0, number as u8]));
        let network = Arc::new(SimulatedNetwork);
        let mut host = Host::simulated(&name, engine, network, identity, address, BTreeMap::new());
        let source = run::registered(&seams, &mut host, Some(&self.url), Some(token)).await.expect("registers");
        let keys = host.identity.keys.clone().expect("has keys now");
        let keys = (name, (keys.access_key, keys.secret_key));
        self.agent_keys.lock().unwrap_or_else(PoisonError::into_inner).push(keys);
        run::run(seams, host, source, Metrics::default())
    }

    /// The agent of that simulated host.
    pub fn agent(&self, name: &str) -> Api {
        let keys = self.agent_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let found = keys.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no host {name}"));
        self.keyed(Some(found.1.clone()))
    }

    /// A registration token of project `Default`.
    pub async fn token(&self) -> String {
        let project = self.project();
        let token = project.create("registrationtokens", json!({})).await;
        project.wait_state(&token, &["active"]).await["token"].as_str().expect("a token").to_owned()
    }

    /// Simulated hosts in this process, joined to project `Default` over HTTP like any others; when all are active.
    pub async fn hosts(&self, n_hosts: usize) -> Vec<Value> {
        let project = self.project();
        let token = self.token().await;
        for number in 1..=n_hosts {
            let running = self.host(number, &token).await;
            self.seams.tasks.spawn("host", async move { drop(running.await) });
        }
        let joined = async {
            loop {
                let hosts = project.get("hosts").await.body["data"].as_array().cloned().unwrap_or_default();
                if hosts.iter().filter(|host| host["state"] == "active").count() >= n_hosts {
                    return hosts;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, joined).await {
            Ok(hosts) => hosts,
            Err(_) => panic!("waited for {n_hosts} hosts: {:?}", project.get("hosts").await),
        }
    }

    /// The server dies: it writes nothing more, gives nothing back, and its connections end.
    pub fn kill(&self) {
        self.power.is_dead.store(true, Ordering::Relaxed);
        self.seams.tasks.stop();
    }

    /// From now on the database does not answer the server.
    pub fn database_away(&self) {
        self.power.is_away.store(true, Ordering::Relaxed);
    }

    /// Stops the server in order; `false` when something did not end.
    pub async fn stop(mut self) -> bool {
        match self.running.take() {
            Some(running) => running.shut_down().await && self.seams.tasks.shut_down(PATIENCE).await,
            None => true,
        }
    }
}

/// A caller of the API.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    pub root: String,
    /// `…/v1` or `…/v1/projects/ID`.
    pub base: String,
    pub key: Option<(String, String)>,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// Null when the body is no JSON.
    pub body: Value,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

impl Api {
    /// The same caller in a project.
    pub fn inside(&self, project: &str) -> Api {
        Api { base: format!("{}/v1/projects/{project}", self.root), ..self.clone() }
    }

    /// The same caller, sending one more header.
    pub fn header(&self, name: &str, value: &str) -> Api {
        let mut headers = self.headers.clone();
        headers.push((name.to_owned(), value.to_owned()));
        Api { headers, ..self.clone() }
    }

    /// The URL of a path below the base, of one from `/`, or as it stands.
    pub fn url(&self, path: &str) -> String {
        if path.starts_with("http") {
            path.to_owned()
        } else if path.starts_with('/') {
            format!("{}{path}", self.root)
        } else {
            format!("{}/{path}", self.base)
        }
    }

    /// Sends a request with raw bytes as body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Answer {
        let method: reqwest::Method = method.parse().expect("a method");
        let mut request = self.http.request(method, self.url(path));
        if let Some((access, secret)) = &self.key {
            let basic = BASE64_STANDARD.encode(format!("{access}:{secret}"));
            request = request.header("authorization", format!("Basic {basic}"));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.timeout(PATIENCE).send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = String::from_utf8_lossy(&answer.bytes().await.expect("a body")).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body.to_string().into_bytes())).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body.to_string().into_bytes())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    /// Makes a resource and gives it back.
    #[track_caller]
    pub fn create(&self, plural: &str, body: Value) -> impl Future<Output = Value> {
        let (api, plural) = (self.clone(), plural.to_owned());
        async move { api.post(&plural, body).await.expect_status(201).body }
    }

    /// Reads the resource until its state is one of these.
    pub async fn wait_state(&self, resource: &Value, states: &[&str]) -> Value {
        let in_state = |row: &Value| row["state"].as_str().is_some_and(|state| states.contains(&state));
        self.wait(resource, &format!("{states:?}"), in_state).await
    }

    /// Reads a resource until it is as expected.
    pub async fn wait(&self, resource: &Value, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let own = resource["links"]["self"].as_str().unwrap_or_else(|| panic!("no self link: {resource}")).to_owned();
        let waiting = async {
            loop {
                let answer = self.get(&own).await;
                if is(&answer.body) {
                    return answer.body;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(resource) => resource,
            Err(_) => panic!("waited for {what}: {:?}", self.get(&own).await),
        }
    }
}

impl Answer {
    /// The answer, which must have that status.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// The answer must be an error with that status, code and field.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str, field: Option<&str>) -> Answer {
        let found = (self.status, self.body["code"].as_str(), self.body["fieldName"].as_str());
        assert_eq!(found, (status, Some(code), field), "{}", self.text);
        assert_eq!(self.body["type"], "error");
        assert_eq!(self.body["status"], status);
        self
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// One field of every item of a collection, in order.
    pub fn column(&self, field: &str) -> Vec<Value> {
        let data = self.body["data"].as_array().unwrap_or_else(|| panic!("no collection: {}", self.text));
        data.iter().map(|item| item[field].clone()).collect()
    }
}

/// Runs each test, a function of [`Harness`], on both stores.
#[macro_export]
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::Harness::start($crate::On::Memory).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::Harness::start($crate::On::Postgres).await).await;
            })*
        }
    };
}
