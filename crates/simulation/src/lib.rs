//! The whole control plane on a virtual clock: server, store and simulated agents in one process, on one thread,
//! without sockets, from one seed (DESIGN §9). A run is a function of its seed; [`Simulation::log`] is what it did.
//!
//! The store runs inline on an in-memory database, agents connect by in-process links, requests go straight to the
//! router. What could differ between two runs (time, chance, tasks) comes in through `remuda_runtime::Seams`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::host_network::SimulatedNetwork;
use remuda_agent::links::{Incoming, in_process};
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{self, Host};
use remuda_agent::state_dir::Identity;
use remuda_model::Credential;
use remuda_orchestrator::Orchestrator;
use remuda_runtime::Seams;
use remuda_server::{ServerOptions, ServerState, bootstrap, serve};
use remuda_store::{Error, Feed, Options, Query, Scope, Seal, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

/// When every simulation begins, milliseconds since the epoch.
const BEGINNING_MS: i64 = 1_700_000_000_000;
/// Virtual time a condition may take; only a bug reaches it.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running control plane.
pub struct Simulation {
    pub seams: Seams,
    state: ServerState,
    router: Router,
    log: Vec<String>,
}

impl Simulation {
    /// Server and store, no hosts yet. Call it on a current-thread runtime whose clock is paused.
    pub async fn start(seed: u64) -> Result<Simulation> {
        let seams = Seams::seeded(seed, BEGINNING_MS);
        let store = Store::open(Options::memory(), remuda_model::registry(), seams.clone()).await?;
        let orchestrator = Orchestrator::start(store.clone(), seams.clone(), remuda_orchestrator::Options::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let options = ServerOptions {
            listen: address,
            data_dir: "/nowhere".into(),
            database: String::new(),
            key_file: "/nowhere".into(),
            agents_dir: None,
            log: String::new(),
            dev: true,
            simulator: true,
        };
        let seal = Seal::transient(&seams.random);
        let state = serve::open(options, store, orchestrator, seams.clone(), seal).await?;
        bootstrap::prepare(&state, address).await?;
        let router = serve::router(state.clone());
        Ok(Simulation { seams, state, router, log: Vec::new() })
    }

    /// A request by nobody in particular: access control is off. The answer is logged.
    pub async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.send(method, path, body, None).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &Value, basic: Option<&str>) -> Result<Value> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8080");
        if let Some(basic) = basic {
            request = request.header(header::AUTHORIZATION, format!("Basic {basic}"));
        }
        let request = request.body(Body::from(body.to_string()))?;
        let answer = self.router.clone().oneshot(request).await?;
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 64 << 20).await?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if method != "GET" {
            self.note(&format!("{method} {path} {status} {value}"));
        }
        if !status.is_success() {
            bail!("{method} {path}: {status} {value}");
        }
        Ok(value)
    }

    /// A line in the log, with the virtual time.
    fn note(&mut self, line: &str) {
        self.log.push(format!("{} {line}", self.seams.clock.now_ms() - BEGINNING_MS));
    }

    /// A host joins the project `Default` the way every host does, and its agent runs until the simulation ends.
    pub async fn host(&mut self, name: &str) -> Result<()> {
        let token = self.call("POST", "/v1/projects/1a5/registrationtokens", &json!({})).await?;
        let path = format!("/v1/projects/1a5/registrationtokens/{}", token["id"].as_str().context("an id")?);
        let token = self.until(&path, |token| token["token"].is_string()).await?;
        let basic = basic("registrationToken", token["token"].as_str().context("a token")?);
        let identity =
            Identity { host_uuid: self.seams.random.uuid(), register_key: self.seams.random.uuid(), keys: None };
        self.send("POST", "/v1/register", &json!({"key": identity.register_key}), Some(&basic)).await?;
        let path = format!("/v1/register?key={}", identity.register_key);
        let deadline = self.seams.clock.instant() + PATIENCE;
        let key = loop {
            let list = self.send("GET", &path, &Value::Null, Some(&basic)).await?;
            if let Some(key) = list["data"][0]["accessKey"].as_str() {
                break key.to_owned();
            }
            anyhow::ensure!(self.seams.clock.instant() < deadline, "the host was never registered: {list}");
            self.seams.clock.sleep(Duration::from_millis(50)).await;
        };
        let of_key = Query::new().eq("publicValue", key);
        let found =
            self.state.store.read::<_, Error, _>(move |read| read.first::<Credential>(&Scope::Everything, &of_key));
        let account = found.await?.and_then(|row| row.meta.account_id).context("the agent's account")?;

        let engine = Arc::new(Simulated::new(self.seams.clone(), Latency::usual()));
        let host = Host::simulated(name, engine, Arc::new(SimulatedNetwork), identity, None, BTreeMap::new());
        let (source, mut arriving) = in_process();
        let (hub, tasks) = (serve::hub(&self.state), self.seams.tasks.clone());
        self.seams.tasks.spawn_until_stopped("links", async move {
            while let Some(incoming) = arriving.recv().await {
                match incoming {
                    Incoming::Connect(link) => {
                        let hub = hub.clone();
                        tasks.spawn_until_stopped("session", async move { hub.serve(link, account).await });
                    }
                    Incoming::Stream { id, link } => drop(hub.sessions().arrive(&id, account, link)),
                }
            }
        });
        let seams = self.seams.clone();
        self.seams.tasks.spawn_until_stopped("agent", async move {
            drop(run::run(seams, host, Arc::new(source), Metrics::default()).await);
        });
        Ok(())
    }

    /// Reads a path again and again, in virtual time, until it is as wanted.
    pub async fn until(&mut self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = self.seams.clock.instant() + PATIENCE;
        loop {
            let value = self.call("GET", path, &Value::Null).await?;
            if wanted(&value) {
                self.note(&format!("GET {path} {value}"));
                return Ok(value);
            }
            if self.seams.clock.instant() >= deadline {
                bail!("{path} never became as wanted: {value}");
            }
            self.seams.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends everything; gives what happened: every request and answer with its time, then every change of the store.
    pub async fn log(mut self) -> Result<Vec<String>> {
        let feed = self.state.store.changes(0, 1_000_000).await?;
        match feed {
            Feed::Changes(changes) => self.log.extend(changes.iter().map(|change| format!("{change:?}"))),
            Feed::TooOld => bail!("the feed no longer reaches back to the beginning"),
        }
        self.seams.tasks.shut_down(Duration::from_secs(60)).await;
        Ok(self.log)
    }
}

fn basic(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}
