//! An engine that touches nothing and behaves like Docker where the platform can tell: latencies, exits, restart
//! policies, ports and addresses that are taken, names that are taken, events, logs, exec, stats, and failures on
//! request ([`behaviour`]). Everything it does follows from its calls, the clock and the random source, so a
//! simulation repeats. A host is a few kilobytes and has no task of its own: a thousand fit in a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use remuda_runtime::Seams;
use remuda_wire::observe::Status;
use remuda_wire::plan::{Build, VolumePlan};
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;

use crate::engine::{
    Answer, Engine, Error, Event, ExecQuery, Info, Listed, LogsQuery, Output, Process, Progress, Socket, Tar, inspect,
};

pub mod behaviour;
pub mod neighbours;
mod output;
pub mod shell;

use behaviour::Behaviour;
use neighbours::Neighbours;

use crate::health::probe::{Finding, Prober, Target};

/// How long things take: between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub create: (Duration, Duration),
    pub start: (Duration, Duration),
    pub stop: (Duration, Duration),
    pub remove: (Duration, Duration),
    pub pull: (Duration, Duration),
}

impl Latency {
    /// As a quick engine on a quick machine has them.
    pub fn usual() -> Latency {
        let between = |low, high| (Duration::from_millis(low), Duration::from_millis(high));
        Latency {
            create: between(2, 8),
            start: between(10, 30),
            stop: between(5, 20),
            remove: between(2, 10),
            pull: between(20, 80),
        }
    }

    /// Everything at once.
    pub fn none() -> Latency {
        let zero = (Duration::ZERO, Duration::ZERO);
        Latency { create: zero, start: zero, stop: zero, remove: zero, pull: zero }
    }
}

/// What goes wrong with calls that change something, in percent of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// The engine refuses; nothing was done.
    pub refused: u64,
    /// It was done, but the caller hears that the engine does not answer.
    pub unanswered: u64,
    /// It takes up to [`SLOW`] longer.
    pub slow: u64,
}

/// A container as [`Simulated::census`] counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub docker_id: String,
    pub name: String,
    /// Ours have one.
    pub uuid: Option<String>,
    pub is_up: bool,
    /// On the managed network.
    pub address: Option<String>,
    /// Protocol, bind address and number of each host port it asks for.
    pub host_ports: Vec<(String, String, String)>,
}

/// Longest delay of a call that [`Trouble`] makes slow.
pub const SLOW: Duration = Duration::from_secs(20);

/// A simulated engine. Clones share it.
#[derive(Clone)]
pub struct Simulated {
    inner: Arc<Inner>,
}

struct Inner {
    seams: Seams,
    latency: Latency,
    state: Mutex<State>,
    neighbours: Neighbours,
    events: broadcast::Sender<Said>,
}

#[derive(Clone, Debug)]
enum Said {
    Container(String),
    Gone,
}

#[derive(Default)]
struct State {
    unreachable: bool,
    /// Health checks made from here find nobody.
    blind: bool,
    trouble: Trouble,
    containers: BTreeMap<String, Container>,
    images: BTreeSet<String>,
    /// Images that were built, with the bytes of their contexts.
    builds: Vec<(String, usize)>,
    volumes: BTreeMap<String, VolumePlan>,
    networks: BTreeMap<String, Value>,
    execs: BTreeMap<String, Option<i64>>,
    next_bridge_address: u32,
    next_public_port: u16,
}

#[derive(Clone)]
struct Container {
    name: String,
    image: String,
    body: Arc<Value>,
    behaviour: Behaviour,
    status: Status,
    exit_code: i64,
    error: String,
    created_ms: i64,
    started_ms: Option<i64>,
    finished_ms: Option<i64>,
    /// What health checks find, if it was set by hand.
    healthy: Option<bool>,
    /// Grows by one per start: an exit timer of an earlier run finds that it is not meant.
    run: u64,
    start_failures: u64,
    /// Restarts by the engine's own policy in a row.
    policy_restarts: u64,
    bridge_address: Option<String>,
    mounts: Vec<Value>,
    /// Host ports by container port, while it runs.
    bindings: Map<String, Value>,
}

impl Simulated {
    /// An engine that is alone on its network.
    pub fn new(seams: Seams, latency: Latency) -> Simulated {
        Simulated::among(&Neighbours::default(), seams, latency)
    }

    /// An engine whose host reaches the containers of those neighbours.
    pub fn among(neighbours: &Neighbours, seams: Seams, latency: Latency) -> Simulated {
        // Small: whoever lags hears `Unknown` and looks at everything.
        let (events, _) = broadcast::channel(32);
        let state = State { next_bridge_address: 2, next_public_port: 32768, ..State::default() };
        let neighbours = neighbours.clone();
        Simulated { inner: Arc::new(Inner { seams, latency, state: Mutex::new(state), neighbours, events }) }
    }

    /// Makes every call fail, and event streams end, until it is set back: a daemon that was killed.
    pub fn set_reachable(&self, reachable: bool) {
        self.state().unreachable = !reachable;
        if !reachable {
            drop(self.inner.events.send(Said::Gone));
        }
    }

    /// Makes that part of the calls go wrong from now on.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    /// From now on the container answers health checks, or does not, whatever its image says.
    pub fn set_healthy(&self, container: &str, healthy: bool) {
        let mut state = self.state();
        let Some(id) = state.find(container).ok().map(|(id, _)| id.clone()) else { return };
        if let Some(found) = state.containers.get_mut(&id) {
            found.healthy = Some(healthy);
        }
        drop(state);
        // The engine's own check sees it, too.
        self.say(&id);
    }

    /// Every container is again as healthy as its image says.
    pub fn heal(&self) {
        self.state().containers.values_mut().for_each(|container| container.healthy = None);
    }

    /// From now on health checks made from this host find nobody, or find what there is.
    pub fn set_blind(&self, blind: bool) {
        self.state().blind = blind;
    }

    /// What a health check of the container finds.
    fn health(&self, docker_id: &str) -> Finding {
        let now = self.inner.seams.clock.now_ms();
        match self.state().containers.get(docker_id).filter(|container| container.status.is_up()) {
            Some(container) if container.is_healthy(now) => Finding::Passed,
            Some(_) => Finding::Failed("the simulated program does not answer".to_owned()),
            None => Finding::Failed("the simulated container does not run".to_owned()),
        }
    }

    /// What was built here: image, and bytes of its context.
    pub fn builds(&self) -> Vec<(String, usize)> {
        self.state().builds.clone()
    }

    /// Id, name, uuid label and status of every container: what somebody at the machine would see, also while the
    /// engine does not answer agents.
    pub fn census(&self) -> Vec<Counted> {
        let state = self.state();
        let count = |(id, container): (&String, &Container)| Counted {
            docker_id: id.clone(),
            name: container.name.clone(),
            uuid: inspect::strings(&container.body["Labels"]).remove(inspect::UUID_LABEL),
            is_up: container.status.is_up(),
            address: container.address().map(str::to_owned),
            host_ports: container.wanted_ports(),
        };
        state.containers.iter().map(count).collect()
    }

    /// The process of a container ends by itself.
    pub fn exit(&self, container: &str, code: i64) {
        let run = self.state().find(container).ok().map(|(id, found)| (id.clone(), found.run));
        if let Some((id, run)) = run {
            self.process_ended(&id, run, code);
        }
    }

    /// All processes end, as when the machine lost power. Containers stay.
    pub fn reboot(&self) {
        let now = self.inner.seams.clock.now_ms();
        for container in self.state().containers.values_mut().filter(|container| container.status.is_up()) {
            container.end(255, now);
        }
        drop(self.inner.events.send(Said::Gone));
    }

    /// Somebody else starts a container by plain docker; gives its id.
    pub fn run_native(&self, name: &str, image: &str) -> String {
        let body = json!({ "Image": image, "Labels": {}, "HostConfig": { "NetworkMode": "default" } });
        let id = self.add(name, &body);
        self.set_running(&id);
        id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if the engine answers.
    fn answering(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        match state.unreachable {
            true => Err(Error::Unreachable("the simulated engine was stopped".to_owned())),
            false => Ok(state),
        }
    }

    async fn pause(&self, (low, high): (Duration, Duration)) {
        let span = u64::try_from((high.saturating_sub(low)).as_micros()).unwrap_or(u64::MAX);
        let wait = low + Duration::from_micros(self.inner.seams.random.below(span));
        if !wait.is_zero() {
            self.inner.seams.clock.sleep(wait).await;
        }
    }

    /// Carries out a call that changes something, and goes on when the caller goes away, as a daemon does.
    fn carry_out<T, F>(&self, call: F) -> BoxFuture<'static, Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (engine, (answer, answered)) = (self.clone(), tokio::sync::oneshot::channel());
        boxed(async move {
            let tasks = engine.inner.seams.tasks.clone();
            tasks.spawn_until_stopped("simulated-call", async move {
                // Whoever asked may be gone.
                drop(answer.send(engine.troubled(call).await));
            });
            answered.await.unwrap_or_else(|_| Err(Error::Unreachable("the simulation ends".to_owned())))
        })
    }

    async fn troubled<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Trouble { refused, unanswered, slow } = self.answering()?.trouble;
        let random = &self.inner.seams.random;
        let strikes = |percent: u64| percent > 0 && random.below(100) < percent;
        if strikes(slow) {
            let most = u64::try_from(SLOW.as_millis()).unwrap_or(u64::MAX);
            self.inner.seams.clock.sleep(Duration::from_millis(random.below(most))).await;
        }
        if strikes(refused) {
            return Err(Error::Refused { status: 500, message: "simulated trouble".to_owned() });
        }
        let done = call.await?;
        match strikes(unanswered) {
            true => Err(Error::Unreachable("simulated trouble: the answer was lost".to_owned())),
            false => Ok(done),
        }
    }

    fn say(&self, id: &str) {
        // Nobody listening is fine.
        drop(self.inner.events.send(Said::Container(id.to_owned())));
    }

    fn new_id(&self) -> String {
        self.inner.seams.random.text(b"0123456789abcdef", 64)
    }

    fn add(&self, name: &str, body: &Value) -> String {
        let id = self.new_id();
        let image = body["Image"].as_str().unwrap_or_default().to_owned();
        let labels = inspect::strings(&body["Labels"]);
        let mut anonymous = Vec::new();
        for path in body["Volumes"].as_object().into_iter().flatten().map(|(path, _)| path) {
            anonymous.push((self.new_id(), path.clone()));
        }
        let mut state = self.state();
        let mounts = state.mount(body, anonymous);
        let mode = body["HostConfig"]["NetworkMode"].as_str().unwrap_or("default");
        let bridge_address = matches!(mode, "default" | "bridge" | "").then(|| {
            let number = state.next_bridge_address;
            state.next_bridge_address = if number >= 65_000 { 2 } else { number + 1 };
            format!("172.17.{}.{}", number / 256, number % 256)
        });
        let container = Container {
            name: name.to_owned(),
            behaviour: behaviour::read(&image, &labels),
            image,
            body: Arc::new(body.clone()),
            status: Status::Created,
            exit_code: 0,
            error: String::new(),
            created_ms: self.inner.seams.clock.now_ms(),
            started_ms: None,
            finished_ms: None,
            healthy: None,
            run: 0,
            start_failures: 0,
            policy_restarts: 0,
            bridge_address,
            mounts,
            bindings: Map::new(),
        };
        state.containers.insert(id.clone(), container);
        drop(state);
        if let Some(uuid) = labels.get(inspect::UUID_LABEL) {
            self.inner.neighbours.add(uuid, &self.inner, &id);
        }
        self.say(&id);
        id
    }

    fn set_running(&self, id: &str) {
        let now = self.inner.seams.clock.now_ms();
        let mut state = self.state();
        let mut next_port = state.next_public_port;
        let Some(container) = state.containers.get_mut(id) else { return };
        container.status = Status::Running;
        container.run += 1;
        container.healthy = None;
        container.started_ms = Some(now);
        container.error.clear();
        container.bind(&mut next_port);
        let (run, behaviour) = (container.run, container.behaviour.clone());
        state.next_public_port = next_port;
        drop(state);
        self.say(id);
        let ends = behaviour.run_for.or(behaviour.exit.map(|_| Duration::from_millis(1)));
        if let Some(after) = ends {
            let (engine, id) = (self.clone(), id.to_owned());
            self.inner.seams.tasks.spawn_until_stopped("simulated-exit", async move {
                engine.inner.seams.clock.sleep(after).await;
                engine.process_ended(&id, run, behaviour.exit.unwrap_or(0));
            });
        }
    }

    fn process_ended(&self, id: &str, run: u64, code: i64) {
        let now = self.inner.seams.clock.now_ms();
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(id) else { return };
        if container.run != run || !container.status.is_up() {
            return;
        }
        container.end(code, now);
        let again = container.policy_restart(code);
        drop(state);
        self.say(id);
        if let Some(after) = again {
            let (engine, id) = (self.clone(), id.to_owned());
            self.inner.seams.tasks.spawn_until_stopped("simulated-restart", async move {
                engine.inner.seams.clock.sleep(after).await;
                let waiting = engine.state().containers.get(&id).map(|container| container.status);
                if waiting == Some(Status::Restarting) {
                    engine.set_running(&id);
                }
            });
        }
    }

    async fn create_container(&self, name: &str, body: &Value) -> Result<String, Error> {
        let image = body["Image"].as_str().unwrap_or_default();
        {
            let state = self.answering()?;
            if !state.images.contains(image) {
                return Err(Error::NotFound(format!("No such image: {image}")));
            }
        }
        self.pause(self.inner.latency.create).await;
        {
            let state = self.answering()?;
            if let Ok((id, _)) = state.find(name) {
                let message = format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
                );
                return Err(Error::Conflict(message));
            }
            if behaviour::read(image, &inspect::strings(&body["Labels"])).create_fail {
                let message = "simulated create failure".to_owned();
                return Err(Error::Refused { status: 400, message });
            }
        }
        Ok(self.add(name, body))
    }

    async fn remove_container(&self, name: &str) -> Result<(), Error> {
        drop(self.answering()?);
        self.pause(self.inner.latency.remove).await;
        let mut state = self.answering()?;
        let id = state.find(name)?.0.clone();
        let gone = state.containers.remove(&id);
        drop(state);
        let uuid = gone.and_then(|gone| inspect::strings(&gone.body["Labels"]).remove(inspect::UUID_LABEL));
        uuid.into_iter().for_each(|uuid| self.inner.neighbours.remove(&uuid, &id));
        self.say(&id);
        Ok(())
    }

    async fn pull_image(&self, image: &str, progress: Progress) -> Result<(), Error> {
        let behaviour = behaviour::read(image, &BTreeMap::new());
        progress(format!("Pulling {image}"), Some(0));
        match behaviour.pull_takes {
            Some(takes) => {
                for step in 1..=4 {
                    self.inner.seams.clock.sleep(takes / 4).await;
                    progress(format!("Downloading {image}"), Some(step * 25));
                }
            }
            None => self.pause(self.inner.latency.pull).await,
        }
        if behaviour.pull_fail {
            return Err(pull_refused(image));
        }
        self.answering()?.images.insert(image.to_owned());
        Ok(())
    }

    async fn start_container(&self, name: &str) -> Result<(), Error> {
        let takes = self.answering()?.find(name)?.1.behaviour.start_takes;
        match takes {
            Some(takes) => self.inner.seams.clock.sleep(takes).await,
            None => self.pause(self.inner.latency.start).await,
        }
        let id = {
            let mut state = self.answering()?;
            let id = state.find(name)?.0.clone();
            if state.containers[&id].status.is_up() {
                return Ok(());
            }
            let taken = state.taken(&id);
            let Some(container) = state.containers.get_mut(&id) else { return Ok(()) };
            let refused = match (taken, container.behaviour.start_fail) {
                (Some(taken), _) => Some(taken),
                (None, Some(times)) if container.start_failures < times => {
                    Some("OCI runtime create failed: simulated start failure".to_owned())
                }
                _ => None,
            };
            if let Some(message) = refused {
                container.start_failures += 1;
                container.error.clone_from(&message);
                container.exit_code = 128;
                return Err(Error::Refused { status: 500, message });
            }
            container.policy_restarts = 0;
            id
        };
        self.set_running(&id);
        Ok(())
    }

    async fn stop_container(&self, name: &str, timeout_seconds: i64) -> Result<(), Error> {
        let (up, ignores) = {
            let state = self.answering()?;
            let container = state.find(name)?.1;
            (container.status.is_up(), container.behaviour.ignore_term)
        };
        if !up {
            return Ok(());
        }
        match ignores {
            true => {
                let patience = u64::try_from(timeout_seconds).unwrap_or(0);
                self.inner.seams.clock.sleep(Duration::from_secs(patience)).await;
            }
            false => self.pause(self.inner.latency.stop).await,
        }
        self.end_now(name, if ignores { 137 } else { 0 })
    }

    fn end_now(&self, name: &str, code: i64) -> Result<(), Error> {
        let now = self.inner.seams.clock.now_ms();
        let mut state = self.answering()?;
        let id = state.find(name)?.0.clone();
        let Some(container) = state.containers.get_mut(&id) else { return Ok(()) };
        if container.status.is_up() {
            container.end(code, now);
            drop(state);
            self.say(&id);
        }
        Ok(())
    }

    fn exec_ended(&self, exec: &str, code: i64) {
        self.state().execs.insert(exec.to_owned(), Some(code));
    }
}

impl State {
    fn find(&self, name: &str) -> Result<(&String, &Container), Error> {
        let by_id = self.containers.get_key_value(name);
        let found = by_id.or_else(|| self.containers.iter().find(|(_, container)| container.name == name));
        let found = found.or_else(|| {
            let long_enough = name.len() >= 12;
            self.containers.iter().find(|(id, _)| long_enough && id.starts_with(name))
        });
        found.ok_or_else(|| Error::NotFound(format!("No such container: {name}")))
    }

    /// What a container cannot have because another one that runs has it.
    fn taken(&self, id: &str) -> Option<String> {
        let wanted = self.containers.get(id)?;
        let (ports, address) = (wanted.wanted_ports(), wanted.address());
        let others = self.containers.iter().filter(|(other, container)| *other != id && container.status.is_up());
        for (_, other) in others {
            if address.is_some() && other.address() == address {
                return Some("Address already in use".to_owned());
            }
            let held = other.wanted_ports();
            let clash = |port: &&(String, String, String)| {
                let any = |bind: &str| bind.is_empty() || bind == "0.0.0.0";
                held.iter().any(|(protocol, bind, number)| {
                    *number == port.2 && *protocol == port.0 && (*bind == port.1 || any(bind) || any(&port.1))
                })
            };
            if let Some((_, bind, number)) = ports.iter().find(clash) {
                let bind = if bind.is_empty() { "0.0.0.0" } else { bind };
                return Some(format!(
                    "driver failed programming external connectivity on endpoint {}: Bind for {bind}:{number} failed: port is already allocated",
                    wanted.name
                ));
            }
        }
        None
    }

    fn mount(&mut self, body: &Value, anonymous: Vec<(String, String)>) -> Vec<Value> {
        let mut mounts = Vec::new();
        for bind in body["HostConfig"]["Binds"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let parts: Vec<&str> = bind.split(':').collect();
            let (Some(source), Some(path)) = (parts.first(), parts.get(1)) else { continue };
            let read_only = parts.get(2).is_some_and(|mode| mode.split(',').any(|word| word == "ro"));
            mounts.push(if source.starts_with('/') {
                json!({ "Type": "bind", "Source": source, "Destination": path, "RW": !read_only })
            } else {
                self.volume(source, body);
                volume_mount(source, path, !read_only)
            });
        }
        for (name, path) in anonymous {
            self.volume(&name, body);
            mounts.push(volume_mount(&name, &path, true));
        }
        for other in body["HostConfig"]["VolumesFrom"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            mounts.extend(self.find(other).map(|(_, other)| other.mounts.clone()).unwrap_or_default());
        }
        mounts
    }

    fn volume(&mut self, name: &str, body: &Value) {
        let driver = body["HostConfig"]["VolumeDriver"].as_str().map(str::to_owned);
        let volume = VolumePlan { name: name.to_owned(), driver, ..VolumePlan::default() };
        self.volumes.entry(name.to_owned()).or_insert(volume);
    }
}

fn volume_mount(name: &str, path: &str, writable: bool) -> Value {
    let source = format!("/var/lib/docker/volumes/{name}/_data");
    json!({ "Type": "volume", "Name": name, "Driver": "local", "Source": source, "Destination": path, "RW": writable })
}

impl Container {
    /// What the check says that the engine was told to make.
    fn engine_health(&self, now_ms: i64) -> Value {
        match self.body["Healthcheck"]["Test"][0].as_str() {
            None | Some("NONE") => Value::Null,
            Some(_) if self.is_healthy(now_ms) => json!({ "Status": "healthy" }),
            Some(_) => json!({ "Status": "unhealthy" }),
        }
    }

    fn is_healthy(&self, now_ms: i64) -> bool {
        let ran = Duration::from_millis(u64::try_from(now_ms - self.started_ms.unwrap_or(now_ms)).unwrap_or(0));
        self.healthy.unwrap_or_else(|| self.behaviour.is_healthy(ran))
    }

    fn end(&mut self, code: i64, now: i64) {
        self.status = Status::Exited;
        self.exit_code = code;
        self.finished_ms = Some(now);
        self.bindings = Map::new();
    }

    /// Docker's own restart policy: when it starts again, growing from 100 ms to a minute.
    fn policy_restart(&mut self, code: i64) -> Option<Duration> {
        let policy = &self.body["HostConfig"]["RestartPolicy"];
        let limit = policy["MaximumRetryCount"].as_u64().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let again = match policy["Name"].as_str() {
            Some("always" | "unless-stopped") => true,
            Some("on-failure") => code != 0 && self.policy_restarts < limit,
            _ => false,
        };
        if !again {
            return None;
        }
        self.status = Status::Restarting;
        self.policy_restarts += 1;
        Some(Duration::from_millis(100 << self.policy_restarts.min(9)).min(Duration::from_secs(60)))
    }

    /// Protocol, bind address and number of each host port asked for.
    fn wanted_ports(&self) -> Vec<(String, String, String)> {
        let mut wanted = Vec::new();
        for (key, bindings) in self.body["HostConfig"]["PortBindings"].as_object().into_iter().flatten() {
            let protocol = key.split_once('/').map_or("tcp", |(_, protocol)| protocol);
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |name: &str| binding[name].as_str().unwrap_or_default().to_owned();
                wanted.push((protocol.to_owned(), text("HostIp"), text("HostPort")));
            }
        }
        wanted
    }

    fn address(&self) -> Option<&str> {
        let endpoints = self.body["NetworkingConfig"]["EndpointsConfig"].as_object()?;
        endpoints.values().find_map(|endpoint| endpoint["IPAMConfig"]["IPv4Address"].as_str())
    }

    fn bind(&mut self, next_port: &mut u16) {
        let mut ports = Map::new();
        for key in self.body["ExposedPorts"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let asked = self.body["HostConfig"]["PortBindings"][key].as_array().cloned();
            let all = self.body["HostConfig"]["PublishAllPorts"].as_bool().unwrap_or(false);
            let shown = match asked {
                Some(bindings) => Value::Array(bindings.into_iter().map(shown_binding).collect()),
                None if all => {
                    let port = *next_port;
                    *next_port = port.checked_add(1).unwrap_or(32768);
                    json!([{ "HostIp": "0.0.0.0", "HostPort": port.to_string() }])
                }
                None => Value::Null,
            };
            ports.insert(key.clone(), shown);
        }
        self.bindings = ports;
    }

    fn inspect(&self, id: &str, now_ms: i64) -> Value {
        let up = self.status.is_up();
        let word = match self.status {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Dead => "dead",
        };
        let mut config = self.body.as_object().cloned().unwrap_or_default();
        let mut host_config = config.remove("HostConfig").unwrap_or_else(|| json!({}));
        config.remove("NetworkingConfig");
        config.entry("Hostname").or_insert_with(|| json!(&id[..12]));
        config.entry("Env").or_insert_with(|| json!([]));
        config.entry("Cmd").or_insert(Value::Null);
        if let Some(host_config) = host_config.as_object_mut() {
            host_config.entry("RestartPolicy").or_insert_with(|| json!({ "Name": "no", "MaximumRetryCount": 0 }));
        }
        let mode = host_config["NetworkMode"].as_str().unwrap_or("default").to_owned();
        let address = self.address().or(self.bridge_address.as_deref()).filter(|_| up).unwrap_or_default();
        let network = if mode == "default" { "bridge" } else { mode.as_str() };
        let mac = self.body["MacAddress"].as_str().unwrap_or_default();
        let mut networks = Map::new();
        if !network.starts_with("container:") {
            networks.insert(network.to_owned(), json!({ "IPAddress": address, "MacAddress": mac }));
        }
        json!({
            "Id": id,
            "Name": format!("/{}", self.name),
            "Created": time_text(Some(self.created_ms)),
            "Image": format!("sha256:{}", "0".repeat(64)),
            "Driver": "simulated",
            "RestartCount": self.policy_restarts,
            "State": {
                "Status": word, "Running": up, "Paused": false, "Restarting": self.status == Status::Restarting,
                "OOMKilled": false, "Dead": false, "Pid": if up { 1 } else { 0 }, "ExitCode": self.exit_code,
                "Health": self.engine_health(now_ms), "Error": self.error, "StartedAt": time_text(self.started_ms), "FinishedAt": time_text(self.finished_ms),
            },
            "Config": config,
            "HostConfig": host_config,
            "Mounts": self.mounts,
            "NetworkSettings": {
                "IPAddress": if network == "bridge" { address } else { "" },
                "MacAddress": mac,
                "Ports": self.bindings,
                "Networks": networks,
            },
        })
    }
}

fn shown_binding(binding: Value) -> Value {
    let bind = binding["HostIp"].as_str().filter(|bind| !bind.is_empty()).unwrap_or("0.0.0.0");
    json!({ "HostIp": bind, "HostPort": binding["HostPort"] })
}

fn time_text(ms: Option<i64>) -> String {
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| format!("{time:.9}"))
}

fn pull_refused(image: &str) -> Error {
    Error::NotFound(format!("pull access denied for {image}, repository does not exist or may require 'docker login'"))
}

fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

impl Prober for Simulated {
    fn probe<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Finding> {
        boxed(async move {
            if self.state().blind {
                return Finding::Failed("no answer".to_owned());
            }
            match self.inner.neighbours.find(&target.uuid) {
                Some((engine, docker_id)) => engine.health(&docker_id),
                None => Finding::Failed("no simulated host of this process has the container".to_owned()),
            }
        })
    }
}

impl Engine for Simulated {
    fn kind(&self) -> &'static str {
        "sim"
    }

    fn info(&self) -> Answer<'_, Info> {
        boxed(async move {
            drop(self.answering()?);
            Ok(Info {
                version: "20.10.24".to_owned(),
                version_text: "Docker version 20.10.24, build simulated".to_owned(),
                operating_system: "Simulated Linux".to_owned(),
                kernel_version: "6.1.0".to_owned(),
                storage_driver: "simulated".to_owned(),
                storage_driver_status: BTreeMap::new(),
                docker_root: "/var/lib/docker".to_owned(),
                n_cpus: 4,
                memory_bytes: 8 << 30,
            })
        })
    }

    fn list(&self) -> Answer<'_, Vec<Listed>> {
        boxed(async move {
            let state = self.answering()?;
            let listed = state.containers.iter().map(|(id, container)| Listed {
                docker_id: id.clone(),
                names: vec![container.name.clone()],
                labels: inspect::strings(&container.body["Labels"]),
            });
            Ok(listed.collect())
        })
    }

    fn inspect<'a>(&'a self, container: &'a str) -> Answer<'a, Value> {
        boxed(async move {
            let state = self.answering()?;
            let (id, found) = state.find(container)?;
            Ok(found.inspect(id, self.inner.seams.clock.now_ms()))
        })
    }

    fn create<'a>(&'a self, name: &'a str, body: &'a Value) -> Answer<'a, String> {
        let (engine, name, body) = (self.clone(), name.to_owned(), body.clone());
        self.carry_out(async move { engine.create_container(&name, &body).await })
    }

    fn start<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        let (engine, container) = (self.clone(), container.to_owned());
        self.carry_out(async move { engine.start_container(&container).await })
    }

    fn stop<'a>(&'a self, container: &'a str, timeout_seconds: i64) -> Answer<'a, ()> {
        let (engine, container) = (self.clone(), container.to_owned());
        self.carry_out(async move { engine.stop_container(&container, timeout_seconds).await })
    }

    fn kill<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        boxed(async move { self.end_now(container, 137) })
    }

    fn remove<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        let (engine, container) = (self.clone(), container.to_owned());
        self.carry_out(async move { engine.remove_container(&container).await })
    }

    fn image_exists<'a>(&'a self, image: &'a str) -> Answer<'a, bool> {
        boxed(async move { Ok(self.answering()?.images.contains(image)) })
    }

    fn pull<'a>(&'a self, image: &'a str, progress: Progress) -> Answer<'a, ()> {
        // A pull ends with its caller.
        boxed(self.troubled(self.pull_image(image, progress)))
    }

    fn build<'a>(
        &'a self,
        image: &'a str,
        _build: &'a Build,
        context: Option<Tar>,
        progress: Progress,
    ) -> Answer<'a, ()> {
        boxed(async move {
            drop(self.answering()?);
            let mut n_bytes = 0;
            if let Some(mut context) = context {
                while let Some(piece) = context.next().await {
                    let broken = |error: std::io::Error| Error::Refused { status: 500, message: error.to_string() };
                    n_bytes += piece.map_err(broken)?.len();
                }
            }
            self.answering()?.builds.push((image.to_owned(), n_bytes));
            progress("Step 1/1 : FROM scratch".to_owned(), None);
            self.pause(self.inner.latency.pull).await;
            if behaviour::read(image, &BTreeMap::new()).pull_fail {
                return Err(Error::Refused { status: 500, message: "simulated build failure".to_owned() });
            }
            self.answering()?.images.insert(image.to_owned());
            Ok(())
        })
    }

    fn volume_create<'a>(&'a self, volume: &'a VolumePlan) -> Answer<'a, ()> {
        boxed(async move {
            self.answering()?.volumes.entry(volume.name.clone()).or_insert_with(|| volume.clone());
            Ok(())
        })
    }

    fn volume_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        boxed(async move {
            let state = self.answering()?;
            let found = state.volumes.get(name).ok_or_else(|| Error::NotFound(format!("no such volume: {name}")))?;
            Ok(
                json!({ "Name": name, "Driver": found.driver.as_deref().unwrap_or("local"), "Options": found.driver_opts }),
            )
        })
    }

    fn volume_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        boxed(async move {
            let mut state = self.answering()?;
            let uses = |container: &Container| container.mounts.iter().any(|mount| mount["Name"] == name);
            if let Some((id, _)) = state.containers.iter().find(|(_, container)| uses(container)) {
                return Err(Error::Conflict(format!("remove {name}: volume is in use - [{id}]")));
            }
            match state.volumes.remove(name) {
                Some(_) => Ok(()),
                None => Err(Error::NotFound(format!("get {name}: no such volume"))),
            }
        })
    }

    fn network_list(&self) -> Answer<'_, Vec<Value>> {
        boxed(async move { Ok(self.answering()?.networks.values().cloned().collect()) })
    }

    fn network_inspect<'a>(&'a self, name: &'a str) -> Answer<'a, Value> {
        boxed(async move {
            let state = self.answering()?;
            state.networks.get(name).cloned().ok_or_else(|| Error::NotFound(format!("network {name} not found")))
        })
    }

    fn network_create<'a>(&'a self, body: &'a Value) -> Answer<'a, String> {
        boxed(async move {
            let id = self.new_id();
            let name = body["Name"].as_str().unwrap_or_default().to_owned();
            let mut network = body.clone();
            network["Id"] = json!(id);
            let mut state = self.answering()?;
            if state.networks.contains_key(&name) {
                return Err(Error::Conflict(format!("network with name {name} already exists")));
            }
            state.networks.insert(name, network);
            Ok(id)
        })
    }

    fn network_remove<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        boxed(async move {
            let removed = self.answering()?.networks.remove(name);
            removed.map(drop).ok_or_else(|| Error::NotFound(format!("network {name} not found")))
        })
    }

    fn events(&self) -> Answer<'_, BoxStream<'static, Result<Event, Error>>> {
        boxed(async move {
            drop(self.answering()?);
            let events = self.inner.events.subscribe();
            let events = futures_util::stream::unfold(events, |mut events| async move {
                match events.recv().await {
                    Ok(Said::Container(docker_id)) => Some((Ok(Event::Container { docker_id }), events)),
                    Err(broadcast::error::RecvError::Lagged(_)) => Some((Ok(Event::Unknown), events)),
                    Ok(Said::Gone) | Err(broadcast::error::RecvError::Closed) => None,
                }
            });
            Ok(events.boxed())
        })
    }

    fn logs<'a>(&'a self, container: &'a str, query: LogsQuery) -> Answer<'a, Output> {
        boxed(async move {
            let id = self.answering()?.find(container)?.0.clone();
            Ok(output::logs(self.clone(), id, query))
        })
    }

    fn exec<'a>(&'a self, container: &'a str, query: ExecQuery) -> Answer<'a, Process> {
        boxed(async move {
            let found = {
                let state = self.answering()?;
                let (id, found) = state.find(container)?;
                if !found.status.is_up() {
                    return Err(Error::Conflict(format!("Container {id} is not running")));
                }
                found.clone()
            };
            let exec = self.new_id();
            self.state().execs.insert(exec.clone(), None);
            Ok(output::exec(self.clone(), exec, &found, query))
        })
    }

    fn exec_resize<'a>(&'a self, exec: &'a str, _rows: u16, _columns: u16) -> Answer<'a, ()> {
        boxed(async move {
            let known = self.answering()?.execs.contains_key(exec);
            known.then_some(()).ok_or_else(|| Error::NotFound(format!("No such exec instance: {exec}")))
        })
    }

    fn exec_exit_code<'a>(&'a self, exec: &'a str) -> Answer<'a, Option<i64>> {
        boxed(async move {
            let mut state = self.answering()?;
            let code = state.execs.get(exec).copied();
            let code = code.ok_or_else(|| Error::NotFound(format!("No such exec instance: {exec}")))?;
            if code.is_some() {
                state.execs.remove(exec);
            }
            Ok(code)
        })
    }

    fn attach<'a>(&'a self, container: &'a str) -> Answer<'a, Process> {
        boxed(async move {
            let id = self.answering()?.find(container)?.0.clone();
            let query = LogsQuery { follow: true, lines: Some(0), ..LogsQuery::default() };
            let (ours, theirs) = tokio::io::duplex(4096);
            // The simulated program reads its input and says nothing to it.
            self.inner.seams.tasks.spawn_until_stopped("simulated-attach", async move {
                let mut ours = ours;
                let mut swallowed = [0; 4096];
                while matches!(ours.read(&mut swallowed).await, Ok(n) if n > 0) {}
            });
            let output = output::logs(self.clone(), id.clone(), query);
            Ok(Process { id, output: output::without_times(output), input: Box::new(theirs) })
        })
    }

    fn attach_resize<'a>(&'a self, container: &'a str, _rows: u16, _columns: u16) -> Answer<'a, ()> {
        boxed(async move { self.answering()?.find(container).map(drop) })
    }

    fn stats<'a>(&'a self, container: &'a str) -> Answer<'a, BoxStream<'static, Result<Value, Error>>> {
        boxed(async move {
            let id = self.answering()?.find(container)?.0.clone();
            Ok(output::stats(self.clone(), id))
        })
    }

    fn dial(&self) -> Answer<'_, Box<dyn Socket>> {
        boxed(async move {
            drop(self.answering()?);
            let (ours, theirs) = tokio::io::duplex(16 << 10);
            let tasks = self.inner.seams.tasks.clone();
            tasks.spawn_until_stopped("simulated-socket", output::answer_socket(ours));
            Ok(Box::new(theirs) as Box<dyn Socket>)
        })
    }

    fn prober(&self) -> Arc<dyn Prober> {
        Arc::new(self.clone())
    }

    fn dial_tcp<'a>(&'a self, address: &'a str) -> Answer<'a, Box<dyn Socket>> {
        boxed(async move {
            let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
            let name = {
                let state = self.answering()?;
                let mut up = state.containers.values().filter(|container| container.status.is_up());
                let has = |container: &&Container| {
                    container.address() == Some(host) || container.bridge_address.as_deref() == Some(host)
                };
                up.find(has).map(|container| container.name.clone())
            };
            let nobody = || Error::Refused { status: 502, message: format!("nothing listens at {address}") };
            let name = name.ok_or_else(nobody)?;
            let (ours, theirs) = tokio::io::duplex(16 << 10);
            let tasks = self.inner.seams.tasks.clone();
            tasks.spawn_until_stopped("simulated-server", output::answer_http(ours, name));
            Ok(Box::new(theirs) as Box<dyn Socket>)
        })
    }
}

#[cfg(test)]
mod tests;
