//! A small server for tests of whole hosts: keeps what it was told.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remuda_agent::links::Incoming;
use remuda_runtime::{Link, Seams};
use remuda_wire::frame;
use remuda_wire::observe::{BalancerSample, ContainerObserved, StartFailed, StateChange, Status, Vote};
use remuda_wire::plan::{ContainerPlan, ContainerSpec, Desired, NetworkMode, NetworkPlan, PlanUpdate};
use remuda_wire::session::{Consumer, Down, Hello, Position, Up, Welcome};
use remuda_wire::stream::{StreamOpen, StreamRequest};
use tokio::sync::mpsc;

pub const PATIENCE: Duration = Duration::from_secs(600);

/// The server's side: keeps what it was told.
pub struct Server {
    pub seams: Seams,
    pub incoming: mpsc::Receiver<Incoming>,
    pub link: Option<Link>,
    pub store: String,
    pub revision: i64,
    pub hello: Option<Hello>,
    pub containers: BTreeMap<String, ContainerObserved>,
    pub confirmed: BTreeSet<String>,
    pub volumes_gone: BTreeSet<String>,
    /// Last vote on each container that the host checks.
    pub votes: BTreeMap<String, Vote>,
    pub failures: Vec<StartFailed>,
    pub progress: usize,
    pub balancer_samples: Vec<BalancerSample>,
    pub network: Option<Option<String>>,
    pub applied: BTreeMap<Consumer, i64>,
    pub n_complete: usize,
    pub streams: Vec<(String, Link)>,
    pub acknowledges: bool,
}

impl Server {
    pub fn new(seams: Seams, incoming: mpsc::Receiver<Incoming>) -> Server {
        Server {
            seams,
            incoming,
            link: None,
            store: "store-1".into(),
            revision: 10,
            hello: None,
            containers: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            volumes_gone: BTreeSet::new(),
            votes: BTreeMap::new(),
            failures: Vec::new(),
            progress: 0,
            balancer_samples: Vec::new(),
            network: None,
            applied: BTreeMap::new(),
            n_complete: 0,
            streams: Vec::new(),
            acknowledges: true,
        }
    }

    /// Takes the next connection and greets it.
    pub async fn accept(&mut self) {
        let mut link = loop {
            match self.incoming.recv().await.expect("the agent connects") {
                Incoming::Connect(link) => break link,
                Incoming::Stream { id, link } => self.streams.push((id, link)),
            }
        };
        let hello = link.receive().await.expect("says hello").expect("reads");
        let Up::Hello(hello) = frame::decode(&hello).expect("decodes") else { panic!("hello comes first") };
        self.hello = Some(*hello);
        self.link = Some(link);
        self.n_complete = 0;
        let position = Position { store: self.store.clone(), epoch: 1, revision: self.revision };
        let welcome = Welcome {
            protocol: 1,
            server_version: "test".into(),
            generation: 1,
            position,
            host_id: "1h1".into(),
            heartbeat_ms: 5_000,
            acknowledges_beats: false,
        };
        self.say(Down::Welcome(welcome)).await;
    }

    pub async fn say(&mut self, down: Down) {
        let bytes = frame::encode(&down).expect("encodes");
        self.link.as_mut().expect("is connected").send(bytes).await.expect("is heard");
    }

    pub async fn plan(&mut self, containers: Vec<ContainerPlan>) {
        self.update(PlanUpdate { containers, network: Some(network()), ..PlanUpdate::default() }).await;
    }

    pub async fn update(&mut self, update: PlanUpdate) {
        self.revision += 1;
        self.say(Down::Plan(Box::new(PlanUpdate { revision: self.revision, ..update }))).await;
    }

    /// Hears until that holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Server) -> bool) {
        let clock = self.seams.clock.clone();
        let patience = clock.sleep(PATIENCE);
        tokio::pin!(patience);
        while !holds(self) {
            let link = self.link.as_mut().expect("is connected");
            tokio::select! {
                biased;
                message = link.receive() => {
                    let message = message.expect("is connected").expect("reads");
                    self.hear(frame::decode(&message).expect("decodes")).await;
                }
                incoming = self.incoming.recv() => match incoming.expect("the agent lives") {
                    Incoming::Stream { id, link } => self.streams.push((id, link)),
                    Incoming::Connect(_) => panic!("connects twice while waiting until {what}"),
                },
                () = &mut patience => panic!("waited in vain until {what}: {:?} {:?}", self.containers, self.failures),
            }
        }
    }

    pub async fn hear(&mut self, up: Up) {
        match up {
            Up::State(report) => {
                let mut before = self.containers.clone();
                if report.complete {
                    self.containers.clear();
                    self.n_complete += 1;
                }
                for change in report.changes {
                    match change {
                        StateChange::Container(container) => {
                            let key = container.uuid.clone().unwrap_or_else(|| container.docker_id.clone());
                            let mut container = *container;
                            // The whole answer comes with a start only: what a report leaves out is still known.
                            let known = before.remove(&key).and_then(|before| before.inspect);
                            container.inspect = container.inspect.or(known);
                            self.containers.insert(key, container);
                        }
                        StateChange::ContainerGone { uuid, docker_id } => {
                            self.containers.retain(|_, known| Some(&known.docker_id) != docker_id.as_ref());
                            self.confirmed.extend(uuid);
                        }
                        StateChange::StartFailed(failed) => self.failures.push(failed),
                        StateChange::VolumeGone { uuid } => drop(self.volumes_gone.insert(uuid)),
                        StateChange::VolumeKept { .. } => {}
                        StateChange::Network { problem } => self.network = Some(problem),
                        StateChange::Health(vote) => drop(self.votes.insert(vote.map.clone(), vote)),
                    }
                }
                if self.acknowledges {
                    self.say(Down::Ack { serial: report.serial }).await;
                }
            }
            Up::Applied { consumer, revision } => drop(self.applied.insert(consumer, revision)),
            Up::Progress { .. } => self.progress += 1,
            Up::Balancers { samples } => self.balancer_samples.extend(samples),
            Up::StreamFailed { message, .. } => panic!("{message}"),
            Up::Hello(_) | Up::Heartbeat | Up::Beat { .. } | Up::Facts(_) | Up::Stopping { .. } => {}
        }
    }

    pub fn is(&self, uuid: &str, status: Status) -> bool {
        self.containers.get(uuid).is_some_and(|container| container.status == status)
    }

    pub async fn stream(&mut self, request: StreamRequest) -> Link {
        let open = StreamOpen { stream: "s1".into(), server: None, request };
        self.say(Down::Open(open)).await;
        self.until("the stream is dialled", |server| !server.streams.is_empty()).await;
        self.streams.remove(0).1
    }
}

pub fn network() -> NetworkPlan {
    NetworkPlan { subnet: "10.42.0.0/16".into(), gateway: "10.42.0.1".into(), mtu: 1500, ..NetworkPlan::default() }
}

/// A service container.
pub fn plan(uuid: &str, image: &str) -> ContainerPlan {
    ContainerPlan {
        uuid: uuid.into(),
        id: format!("1i{uuid}"),
        name: uuid.into(),
        docker_id: None,
        desired: Desired::Running,
        start_serial: 1,
        stop_timeout_seconds: 10,
        supervise: true,
        start_once: false,
        after: Vec::new(),
        native: false,
        fence_after_ms: None,
        spec: ContainerSpec {
            docker_name: format!("r-{uuid}"),
            image: image.into(),
            network: NetworkMode::Managed { address: format!("10.42.0.{}", uuid.len() + 1), mac: String::new() },
            ..ContainerSpec::default()
        },
    }
}

pub fn bridged(uuid: &str, image: &str) -> ContainerPlan {
    let mut plan = plan(uuid, image);
    plan.spec.network = NetworkMode::Bridge;
    plan
}

pub fn exec(container: &str, command: &[&str], stdin: bool) -> StreamRequest {
    StreamRequest::Exec {
        container: container.into(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdin,
        stdout: true,
        tty: false,
        user: None,
        working_dir: None,
        env: Vec::new(),
    }
}
