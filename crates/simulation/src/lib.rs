//! The whole control plane on a virtual clock: server, store and simulated agents in one process, on one thread,
//! without sockets, from one seed (DESIGN §9). A run is a function of its seed; [`Simulation::log`] is what it did.
//!
//! The store runs inline on an in-memory database, agents connect by in-process links, requests go straight to the
//! router. What could differ between two runs (time, chance, tasks) comes in through `remuda_runtime::Seams`.
//!
//! Read in this order: [`server`] and [`machine`] (what can run and die), [`cable`] and [`disk`] (what is between them
//! and can fail), [`storm`] (what goes wrong, from the seed), [`users`] (what is asked for meanwhile), [`invariants`]
//! (what must hold afterwards).

pub mod cable;
pub mod disk;
pub mod invariants;
pub mod machine;
pub mod server;
pub mod storm;
pub mod users;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_agent::engine::simulated::neighbours::Neighbours;
use remuda_agent::state_dir::Identity;
use remuda_model::Credential;
use remuda_runtime::{Random, Seams, Tasks};
use remuda_store::{Error, Feed, Options, Query, Scope, Seal, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

use cable::Cable;
use disk::Disk;
use machine::Machine;
use server::{Server, Slot};

/// When every simulation begins, milliseconds since the epoch.
const BEGINNING_MS: i64 = 1_700_000_000_000;
/// Virtual time a condition may take; only a bug reaches it.
const PATIENCE: Duration = Duration::from_secs(600);
/// A client that is not answered within this virtual time gives up.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The project everything happens in.
pub const PROJECT: &str = "/v1/projects/1a5";

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Answer {
    Answered(StatusCode, Value),
    /// No server, or one that died or hung before it answered: it may have been done or not.
    Lost,
}

/// A control plane, and the machines around it.
pub struct Simulation {
    /// Of the world: its tasks outlive every process.
    pub seams: Seams,
    /// Undisturbed by what goes wrong for the server.
    pub store: Store,
    pub server: Slot,
    pub machines: Vec<Machine>,
    /// Chance of its own: what goes wrong does not depend on how often the program draws.
    pub chance: Random,
    seal: Seal,
    /// The machines reach each other.
    neighbours: Neighbours,
    log: Vec<String>,
}

impl Simulation {
    /// Server and store, no hosts yet. Call it on a current-thread runtime whose clock is paused.
    pub async fn start(seed: u64) -> Result<Simulation> {
        let seams = Seams { tasks: Tasks::inline(), ..Seams::seeded(seed, BEGINNING_MS) };
        let store = Store::open(Options::memory(), remuda_model::registry(), seams.clone()).await?;
        let seal = Seal::transient(&seams.random);
        let chance = Random::seeded(seed ^ 0x5EED);
        let (server, machines, log) = (Slot::default(), Vec::new(), Vec::new());
        let neighbours = Neighbours::default();
        let mut simulation = Simulation { seams, store, server, machines, chance, seal, neighbours, log };
        simulation.server_start().await?;
        Ok(simulation)
    }

    /// Starts the server, if none runs.
    pub async fn server_start(&mut self) -> Result<()> {
        if self.server.get().is_none() {
            let disk = Disk::new(Random::seeded(self.chance.next_u64()));
            let server = Server::start(&self.store, &self.seams, self.seal.clone(), disk).await?;
            self.server.set(Some(server));
            self.note("the server runs");
        }
        Ok(())
    }

    /// The server dies; whoever is connected hears that the connection is gone.
    pub fn server_crash(&mut self) {
        if let Some(server) = self.server.get() {
            self.server.set(None);
            self.machines.iter().for_each(|machine| machine.cable.cut());
            server.crash();
            self.note("the server is killed");
        }
    }

    /// The server stops in order.
    pub async fn server_stop(&mut self) {
        if let Some(server) = self.server.get() {
            self.server.set(None);
            self.note("the server is stopped");
            server.stop().await;
            self.machines.iter().for_each(|machine| machine.cable.cut());
        }
    }

    /// A request by nobody in particular: access control is off. The answer is logged.
    pub async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.expect(method, path, body, None).await
    }

    async fn expect(&mut self, method: &str, path: &str, body: &Value, basic: Option<&str>) -> Result<Value> {
        match self.send(method, path, body, basic).await? {
            Answer::Answered(status, value) if status.is_success() => Ok(value),
            other => bail!("{method} {path}: {other:?}"),
        }
    }

    /// A request that may fail.
    pub async fn attempt(&mut self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.send(method, path, body, None).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &Value, basic: Option<&str>) -> Result<Answer> {
        let answer = self.ask(method, path, body, basic).await?;
        if method != "GET" {
            match &answer {
                Answer::Answered(status, value) => self.note(&format!("{method} {path} {body} {status} {value}")),
                Answer::Lost => self.note(&format!("{method} {path} {body} lost")),
            }
        }
        Ok(answer)
    }

    /// A request runs in the server's tasks, and ends with them.
    async fn ask(&self, method: &str, path: &str, body: &Value, basic: Option<&str>) -> Result<Answer> {
        let Some(server) = self.server.get() else { return Ok(Answer::Lost) };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8080");
        if let Some(basic) = basic {
            request = request.header(header::AUTHORIZATION, format!("Basic {basic}"));
        }
        let request = request.body(Body::from(body.to_string()))?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let router = server.router.clone();
        server.tasks.spawn_until_stopped("request", async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status();
            let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await;
            // Whoever asked may have given up.
            drop(answer.send((status, bytes)));
        });
        let answered = tokio::select! {
            biased;
            answered = answered => answered.ok(),
            () = self.seams.clock.sleep(ANSWER_WITHIN) => None,
        };
        let Some((status, Ok(bytes))) = answered else { return Ok(Answer::Lost) };
        Ok(Answer::Answered(status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// A line in the log, with the virtual time.
    pub fn note(&mut self, line: &str) {
        self.log.push(format!("{} {line}", self.seams.clock.now_ms() - BEGINNING_MS));
    }

    /// What has been noted so far.
    pub fn noted(&self) -> &[String] {
        &self.log
    }

    /// A host joins the project `Default` the way every host does, and its agent runs until the simulation ends.
    pub async fn host(&mut self, name: &str) -> Result<()> {
        let token = self.call("POST", &format!("{PROJECT}/registrationtokens"), &json!({})).await?;
        let path = format!("{PROJECT}/registrationtokens/{}", token["id"].as_str().context("an id")?);
        let token = self.until(&path, |token| token["token"].is_string()).await?;
        let basic = basic("registrationToken", token["token"].as_str().context("a token")?);
        let identity =
            Identity { host_uuid: self.seams.random.uuid(), register_key: self.seams.random.uuid(), keys: None };
        self.expect("POST", "/v1/register", &json!({"key": identity.register_key}), Some(&basic)).await?;
        let path = format!("/v1/register?key={}", identity.register_key);
        let deadline = self.seams.clock.instant() + PATIENCE;
        let key = loop {
            let list = self.expect("GET", &path, &Value::Null, Some(&basic)).await?;
            if let Some(key) = list["data"][0]["accessKey"].as_str() {
                break key.to_owned();
            }
            anyhow::ensure!(self.seams.clock.instant() < deadline, "the host was never registered: {list}");
            self.seams.clock.sleep(Duration::from_millis(50)).await;
        };
        let of_key = Query::new().eq("publicValue", key);
        let found = self.store.read::<_, Error, _>(move |read| read.first::<Credential>(&Scope::Everything, &of_key));
        let account = found.await?.and_then(|row| row.meta.account_id).context("the agent's account")?;

        let cable = Cable::new(self.seams.clone(), self.server.clone(), account);
        let mut machine = Machine::new(name, &self.seams, &self.neighbours, identity, cable)?;
        machine.agent_start(&self.seams)?;
        self.machines.push(machine);
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
        let feed = self.store.changes(0, 1_000_000).await?;
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
