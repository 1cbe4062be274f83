//! Requests, loops and a host that obeys, over a store in memory: what a client sees happen.
//!
//! One thread, paused clock, seeded randomness: time passes only when everybody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remuda_model::{
    Account, Agent, AuditLog, Container, Host, IpAddress, Mount, Port, Project, Service, ServiceExposeMap, Stack,
    Volume, registry,
};
use remuda_orchestrator::commands::{self, CommandError, Context, Outcome, Principal};
use remuda_orchestrator::hosts::HostSession;
use remuda_orchestrator::{Options, Orchestrator, Ownership, Settings};
use remuda_runtime::Seams;
use remuda_schema::row::{AnyRow, Object};
use remuda_schema::{Id, Resource, Role, Row, Time};
use remuda_store::{Fault, Faults, Query, Scope, Store};
use remuda_wire::directory::Directory;
use remuda_wire::observe::{ContainerObserved, HostFacts, MountObserved, StateChange, StateReport, Status};
use remuda_wire::plan::{ContainerPlan, Desired, PlanUpdate};
use remuda_wire::session::{Consumer, Down, Hello};
use serde_json::{Value, json};

struct Bed {
    store: Store,
    seams: Seams,
    orchestrator: Orchestrator,
    project: i64,
}

impl Bed {
    async fn new() -> Bed {
        Bed::with(Options::default(), None).await
    }

    /// The loops see the store through these faults, the test does not.
    async fn with(options: Options, faults: Option<Arc<dyn Faults>>) -> Bed {
        let seams = Seams::seeded(3, 1_450_000_000_000);
        let store = Store::open(remuda_store::Options::memory(), registry(), seams.clone()).await.expect("opens");
        let seen = faults.map_or_else(|| store.clone(), |faults| store.with_faults(faults));
        let orchestrator = Orchestrator::start(seen, seams.clone(), options);
        let mut bed = Bed { store, seams, orchestrator, project: 0 };
        bed.set("object.remove.time.delay.seconds", "5").await;
        let made = bed.create::<Project>(json!({"name": "Default"})).await.expect("a project");
        bed.project = made[0].meta.id;
        bed.until::<Project>(bed.project, "active").await;
        bed
    }

    async fn set(&self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let committed = self
            .store
            .write(move |tx| -> Result<(), remuda_store::Error> {
                let data = remuda_model::Setting { value: Some(value.clone()), ..Default::default() };
                let mut row = Row::new(None, "", data);
                row.meta.name = Some(name.clone());
                tx.insert(row).map(drop)
            })
            .await
            .expect("stored");
        self.orchestrator.reached(committed.revision).await;
    }

    fn context(&self) -> Context {
        Context {
            now: Time(self.seams.clock.now_ms()),
            random: self.seams.random.clone(),
            account_id: self.project,
            settings: Arc::<Settings>::clone(&self.orchestrator.settings()),
            principal: Principal { account_id: self.project, role: Role::Project },
        }
    }

    async fn create<T: Resource>(&self, fields: Value) -> Result<Vec<AnyRow>, CommandError> {
        let ctx = self.context();
        let def = registry().get(T::TYPE).expect("declared");
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        Ok(self.store.write(move |tx| commands::create(tx, &ctx, def, fields.clone())).await?.value)
    }

    async fn create_one<T: Resource>(&self, fields: Value) -> i64 {
        self.create::<T>(fields).await.expect("accepted")[0].meta.id
    }

    async fn act<T: Resource>(&self, id: i64, action: &str, input: Value) -> Result<Outcome, CommandError> {
        let ctx = self.context();
        let def = registry().get(T::TYPE).expect("declared");
        let (action, input) = (action.to_owned(), input.as_object().cloned().unwrap_or_default());
        let run = move |tx: &mut remuda_store::Tx<'_>| {
            let row = tx.get_any(def, &Scope::Everything, id)?.expect("there");
            commands::action(tx, &ctx, def, row, &action, input.clone())
        };
        Ok(self.store.write(run).await?.value)
    }

    async fn put<T: Resource>(&self, id: i64, fields: Value) -> commands::Updated {
        let ctx = self.context();
        let def = registry().get(T::TYPE).expect("declared");
        let fields: Object = fields.as_object().cloned().expect("an object");
        let run = move |tx: &mut remuda_store::Tx<'_>| {
            let row = tx.get_any(def, &Scope::Everything, id)?.expect("there");
            commands::update(tx, &ctx, def, row, fields.clone())
        };
        self.store.write(run).await.expect("updated").value
    }

    async fn delete<T: Resource>(&self, id: i64) -> Result<AnyRow, CommandError> {
        let ctx = self.context();
        let def = registry().get(T::TYPE).expect("declared");
        let run = move |tx: &mut remuda_store::Tx<'_>| {
            let row = tx.get_any(def, &Scope::Everything, id)?.expect("there");
            commands::remove(tx, &ctx, def, row)
        };
        Ok(self.store.write(run).await?.value)
    }

    async fn get<T: Resource>(&self, id: i64) -> Row<T> {
        let read = self.store.read(move |read| read.get::<T>(&Scope::Everything, Id::new(id))).await;
        read.expect("reads").expect("there")
    }

    async fn list<T: Resource>(&self, query: Query) -> Vec<Row<T>> {
        self.store.read(move |read| read.list::<T>(&Scope::Everything, &query)).await.expect("reads")
    }

    async fn until<T: Resource>(&self, id: i64, state: &str) -> Row<T> {
        self.wait(&format!("{} {id} {state}", T::TYPE), async |bed| {
            let row = bed.get::<T>(id).await;
            (row.meta.state == state).then_some(row)
        })
        .await
    }

    /// Waits for a condition; the bound is virtual time that only a bug can use up.
    async fn wait<R>(&self, what: &str, condition: impl AsyncFn(&Bed) -> Option<R>) -> R {
        for _ in 0..20_000 {
            if let Some(found) = condition(self).await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let containers = self.list::<Container>(Query::new().all()).await;
        let told: Vec<_> = containers.iter().map(|row| (&row.meta.name, &row.meta.state, &row.meta.progress)).collect();
        panic!("waited in vain for {what}: {told:#?} {:#?}", self.orchestrator.status());
    }

    async fn agent(&self) -> (i64, i64) {
        let project = self.project;
        let made = self
            .store
            .write(move |tx| -> Result<(i64, i64), remuda_store::Error> {
                let mut account = Row::new(None, "active", Account::default());
                account.meta.kind = "agent".into();
                let account = tx.insert(account)?;
                let data = Agent {
                    uri: Some(format!("event://{}", account.meta.id)),
                    resource_account_id: Some(Id::new(project)),
                    ..Agent::default()
                };
                let agent = tx.insert(Row::new(Some(account.meta.id), "active", data))?;
                Ok((account.meta.id, agent.meta.id))
            })
            .await
            .expect("stored");
        made.value
    }

    /// A host that does at once what it is told, and is active.
    async fn host(&self, name: &str) -> FakeHost {
        let (account, _) = self.agent().await;
        let host = FakeHost { engine: Arc::default(), account, name: name.to_owned() };
        host.connect(self).await;
        self.until::<Host>(host.id(), "active").await;
        host
    }
}

#[derive(Default)]
struct Engine {
    containers: BTreeMap<String, Running>,
    directory: Directory,
    session: Option<HostSession>,
    tasks: remuda_runtime::Tasks,
    fails: Option<String>,
    /// Does not say which directory it works with.
    deaf: bool,
    /// Everything this connection was told, in order.
    told: Vec<PlanUpdate>,
}

struct Running {
    plan: ContainerPlan,
    docker_id: String,
    up: bool,
    serial: i64,
}

#[derive(Clone)]
struct FakeHost {
    engine: Arc<std::sync::Mutex<Engine>>,
    account: i64,
    name: String,
}

impl FakeHost {
    fn engine(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().expect("no panic while locked")
    }

    fn id(&self) -> i64 {
        self.engine().session.as_ref().expect("connected").host_id
    }

    async fn connect(&self, bed: &Bed) {
        let hello = Hello {
            protocol: 1,
            agent_version: "test".into(),
            host_uuid: format!("uuid-of-{}", self.name),
            machine: self.name.clone(),
            have: None,
            kind: "sim".into(),
            name: None,
            facts: HostFacts {
                hostname: self.name.clone(),
                address: Some("192.168.7.1".into()),
                labels: [("zone".to_owned(), "z1".to_owned())].into(),
                info: json!({"cpuInfo": {"count": 2}}),
                ..HostFacts::default()
            },
        };
        let session = bed.orchestrator.host_connect(self.account, &hello).await.expect("welcome");
        let tasks = remuda_runtime::Tasks::new();
        {
            let mut engine = self.engine();
            engine.session = Some(session.clone());
            engine.told.clear();
            engine.tasks = tasks.clone();
        }
        let mut updates = bed.orchestrator.host_updates(&session, None);
        let (host, orchestrator) = (self.clone(), bed.orchestrator.clone());
        tasks.spawn_until_stopped("fake host", async move {
            while let Some(update) = updates.next().await {
                if let Some(plan) = update.plan {
                    let report = host.obey(plan);
                    if !report.changes.is_empty() {
                        orchestrator.host_report(&session, report).await.expect("taken");
                    }
                }
                for message in update.directory {
                    let Down::Directory(update) = message.down().clone() else { panic!("{message:?}") };
                    let revision = update.revision;
                    host.engine().directory.apply(*update).expect("fits");
                    if !host.engine().deaf {
                        orchestrator.host_applied(&session, Consumer::Dns, revision).await;
                    }
                }
            }
        });
        let (orchestrator, session) = (bed.orchestrator.clone(), self.engine().session.clone().expect("connected"));
        tasks.spawn_until_stopped("heartbeat", async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                orchestrator.host_heard(&session).await.expect("current");
            }
        });
    }

    /// The connection breaks; the containers stay.
    async fn lose(&self, bed: &Bed) {
        let (tasks, session) = {
            let engine = self.engine();
            (engine.tasks.clone(), engine.session.clone().expect("connected"))
        };
        tasks.stop();
        bed.orchestrator.host_gone(&session, false).await;
    }

    fn obey(&self, update: PlanUpdate) -> StateReport {
        let mut engine = self.engine();
        let engine = &mut *engine;
        engine.told.push(update.clone());
        let mut changes = Vec::new();
        for plan in update.containers {
            let uuid = plan.uuid.clone();
            if let (Desired::Running, Some(message)) = (plan.desired, &engine.fails) {
                changes.push(StateChange::StartFailed(remuda_wire::observe::StartFailed {
                    uuid,
                    start_serial: plan.start_serial,
                    attempts: 3,
                    last: true,
                    message: message.clone(),
                }));
                continue;
            }
            let existing = engine.containers.contains_key(&uuid);
            if !existing && plan.desired != Desired::Running {
                if plan.desired == Desired::Stopped {
                    changes.push(StateChange::ContainerGone { uuid: Some(uuid), docker_id: None });
                }
                continue;
            }
            let running = engine.containers.entry(uuid.clone()).or_insert_with(|| Running {
                docker_id: format!("docker-{uuid}"),
                up: false,
                serial: 0,
                plan: plan.clone(),
            });
            running.plan = plan.clone();
            match plan.desired {
                Desired::Running if running.serial < plan.start_serial => {
                    running.up = true;
                    running.serial = plan.start_serial;
                }
                Desired::Stopped if running.up => running.up = false,
                _ => {}
            }
            changes.push(StateChange::Container(Box::new(observed(running))));
        }
        for removal in update.removals {
            engine.containers.remove(&removal.uuid);
            changes.push(StateChange::ContainerGone { uuid: Some(removal.uuid), docker_id: removal.docker_id });
        }
        for removal in update.volume_removals {
            changes.push(StateChange::VolumeGone { uuid: removal.uuid });
        }
        StateReport { serial: 1, complete: false, changes }
    }

    /// A container ends by itself.
    async fn exit(&self, bed: &Bed, uuid: &str, code: i64) {
        let (session, report) = {
            let mut engine = self.engine();
            let running = engine.containers.get_mut(uuid).expect("there");
            running.up = false;
            let exited = ContainerObserved { exit_code: Some(code), ..observed(running) };
            let report =
                StateReport { changes: vec![StateChange::Container(Box::new(exited))], ..StateReport::default() };
            (engine.session.clone().expect("connected"), report)
        };
        bed.orchestrator.host_report(&session, report).await.expect("taken");
    }

    async fn report(&self, bed: &Bed, complete: bool, changes: Vec<StateChange>) {
        let session = self.engine().session.clone().expect("connected");
        let report = StateReport { serial: 1, complete, changes };
        bed.orchestrator.host_report(&session, report).await.expect("taken");
    }

    fn names(&self) -> Vec<String> {
        let engine = self.engine();
        let up = engine.containers.values().filter(|running| running.up);
        let mut names: Vec<String> = up.map(|running| running.plan.name.clone()).collect();
        names.sort();
        names
    }
}

fn observed(running: &Running) -> ContainerObserved {
    let mounts = running.plan.spec.data_volumes.iter().filter_map(|entry| {
        let (source, path) = entry.split_once(':')?;
        let named = !source.starts_with('/');
        Some(MountObserved {
            name: named.then(|| source.to_owned()),
            driver: named.then(|| "local".to_owned()),
            source: source.to_owned(),
            path: path.to_owned(),
            read_only: false,
        })
    });
    ContainerObserved {
        uuid: Some(running.plan.uuid.clone()),
        docker_id: running.docker_id.clone(),
        status: if running.up { Status::Running } else { Status::Exited },
        start_serial: running.serial,
        mounts: mounts.collect(),
        ..ContainerObserved::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_lives_and_dies() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let fields = json!({"name": "web", "imageUuid": "sim:nginx", "networkMode": "managed", "startOnCreate": true,
        "ports": ["8080:80/tcp", "81"], "labels": {"tier": "front"}});
    let made = bed.create::<Container>(fields).await.expect("accepted").remove(0);
    assert_eq!(made.meta.state, "creating");
    let id = made.meta.id;
    let row = bed.until::<Container>(id, "running").await;
    assert_eq!(row.host_id.map(|id| id.number()), Some(host.id()));
    assert!(row.primary_ip_address.as_deref().is_some_and(|address| address.starts_with("10.42.")), "{row:?}");
    assert_eq!((row.start_count, row.external_id.is_some(), row.first_running.is_some()), (Some(1), true, true));
    bed.wait("ports to be active", async |bed| {
        let ports = bed.list::<Port>(Query::new().eq("instanceId", id)).await;
        (ports.len() == 2 && ports.iter().all(|port| port.meta.state == "active")).then_some(())
    })
    .await;
    let row = bed.wait("an endpoint", async |bed| {
        let row = bed.get::<Host>(host.id()).await;
        row.public_endpoints.clone().filter(|endpoints| !endpoints.is_empty())
    });
    assert_eq!(row.await[0].port, Some(8080));

    let first = bed.get::<Container>(id).await;
    bed.act::<Container>(id, "restart", json!({})).await.expect("restarts");
    let row = bed.until::<Container>(id, "running").await;
    assert_eq!((row.start_count, row.first_running), (Some(2), first.first_running));

    bed.act::<Container>(id, "stop", json!({"timeout": 1})).await.expect("stops");
    bed.until::<Container>(id, "stopped").await;
    assert_eq!(host.names(), Vec::<String>::new());
    bed.act::<Container>(id, "start", json!({})).await.expect("starts");
    bed.until::<Container>(id, "running").await;
    assert_eq!(host.names(), ["web"]);

    let gone = bed.delete::<Container>(id).await.expect("goes");
    assert_eq!(gone.meta.state, "stopping");
    let row = bed.until::<Container>(id, "removed").await;
    assert!(row.meta.removed.is_some());
    bed.act::<Container>(id, "restore", json!({})).await.expect("comes back");
    let row = bed.until::<Container>(id, "stopped").await;
    assert_eq!((row.meta.removed, row.primary_ip_address.as_ref()), (None, first.primary_ip_address.as_ref()));
    bed.act::<Container>(id, "start", json!({})).await.expect("starts");
    bed.until::<Container>(id, "running").await;
    bed.delete::<Container>(id).await.expect("goes");
    bed.until::<Container>(id, "purged").await;
    assert!(host.engine().containers.is_empty(), "deleted on the host");
    let ports = bed.list::<Port>(Query::new().all().eq("instanceId", id)).await;
    assert!(ports.iter().all(|port| port.meta.state == "purged"));
    let claims = bed.store.read(move |read| read.claims_of(&remuda_store::Holder::new("instance", id))).await;
    assert_eq!(claims.expect("reads"), []);
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_told_and_a_failed_start_is_an_error() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let fields = json!({"imageUuid": "sim:x", "networkMode": "bridge", "startOnCreate": true});
    let id = bed.create_one::<Container>(fields.clone()).await;
    let row = bed.until::<Container>(id, "running").await;
    host.exit(&bed, &row.meta.uuid, 3).await;
    let row = bed.until::<Container>(id, "stopped").await;
    assert_eq!((row.meta.progress.failed, row.meta.progress.message.as_deref()), (true, Some("Exited with code 3")));
    host.engine().fails = Some("no such image".into());
    let id = bed.create_one::<Container>(fields).await;
    let row = bed.until::<Container>(id, "error").await;
    assert_eq!(row.meta.progress.message.as_deref(), Some("no such image"));
    bed.delete::<Container>(id).await.expect("goes");
    bed.until::<Container>(id, "purged").await;
}

#[tokio::test(start_paused = true)]
async fn no_host_is_an_error_that_says_so() {
    let bed = Bed::new().await;
    let fields = json!({"imageUuid": "sim:x", "networkMode": "managed", "startOnCreate": true, "count": 2});
    let made = bed.create::<Container>(fields).await.expect("accepted");
    assert_eq!(made.len(), 2);
    for row in made {
        let row = bed.until::<Container>(row.meta.id, "error").await;
        assert_eq!(row.meta.progress.message.as_deref(), Some("Scheduling failed: No candidates available"));
    }
}

#[tokio::test(start_paused = true)]
async fn bad_requests_have_their_codes() {
    let bed = Bed::new().await;
    let told = async |fields: Value| match bed.create::<Container>(fields).await {
        Err(CommandError::Api(error)) => (error.code.table().0.to_owned(), error.status, error.field),
        other => panic!("accepted: {other:?}"),
    };
    let field = |name: &str| Some(name.to_owned());
    assert_eq!(told(json!({})).await, ("MissingRequired".into(), 422, field("imageUuid")));
    assert_eq!(told(json!({"imageUuid": "nginx"})).await, ("InvalidReference".into(), 422, field("imageUuid")));
    assert_eq!(told(json!({"imageUuid": "sim:x", "ports": ["a"]})).await, ("PortWrongFormat".into(), 422, None));
    let labels = json!({"io.rancher.container.volume_cleanup_strategy": "some"});
    assert_eq!(told(json!({"imageUuid": "sim:x", "labels": labels})).await, ("InvalidOption".into(), 400, None));
}

async fn service(bed: &Bed, stack: i64, name: &str, scale: i64) -> i64 {
    service_with_ports(bed, stack, name, scale, &[]).await
}

async fn service_with_ports(bed: &Bed, stack: i64, name: &str, scale: i64, ports: &[&str]) -> i64 {
    let fields = json!({"name": name, "environmentId": stack, "scale": scale, "startOnCreate": true,
        "launchConfig": {"imageUuid": "sim:x", "networkMode": "managed", "ports": ports}});
    bed.create_one::<Service>(fields).await
}

#[tokio::test(start_paused = true)]
async fn a_stack_is_brought_up_scaled_healed_and_removed() {
    let bed = Bed::new().await;
    let (a, b) = (bed.host("a").await, bed.host("b").await);
    let stack = bed.create_one::<Stack>(json!({"name": "shop"})).await;
    bed.until::<Stack>(stack, "active").await;
    let web = service_with_ports(&bed, stack, "web", 2, &["80"]).await;
    let row = bed.until::<Service>(web, "active").await;
    let ports = row.launch_config.as_ref().and_then(|config| config.ports.clone()).expect("ports");
    assert!(ports[0].ends_with(":80/tcp") && ports[0].len() > 8, "{ports:?}");
    assert_eq!((a.names(), b.names()), (vec!["shop_web_1".into()], vec!["shop_web_2".into()]));
    assert_eq!(bed.list::<ServiceExposeMap>(Query::new().eq("serviceId", web)).await.len(), 2);
    bed.wait("a healthy stack", async |bed| {
        (bed.get::<Stack>(stack).await.health_state.as_deref() == Some("healthy")).then_some(())
    })
    .await;
    bed.wait("the directory", async |_| {
        let engine = a.engine();
        let states: Vec<_> = engine.directory.containers.values().map(|row| row.state.clone()).collect();
        (states == ["running", "running"]).then_some(())
    })
    .await;

    let updated = bed.put::<Service>(web, json!({"scale": 1})).await;
    assert_eq!((updated.row.meta.state.as_str(), updated.conflict), ("updating-active", false));
    bed.until::<Service>(web, "active").await;
    bed.wait("one container", async |_| (a.names().len() + b.names().len() == 1).then_some(())).await;

    // Removed by hand: made again under the same name.
    let one = bed.list::<Container>(Query::new().eq("name", "shop_web_1")).await.remove(0);
    bed.delete::<Container>(one.meta.id).await.expect("goes");
    let again = bed
        .wait("a new container", async |bed| {
            let rows = bed.list::<Container>(Query::new().eq("name", "shop_web_1").eq("state", "running")).await;
            rows.into_iter().find(|row| row.meta.id != one.meta.id)
        })
        .await;
    assert_eq!(again.deployment_unit_uuid, one.deployment_unit_uuid);
    bed.until::<Service>(web, "active").await;

    // Stopped by request: started again.
    bed.act::<Container>(again.meta.id, "stop", json!({})).await.expect("stops");
    bed.wait("a second start", async |bed| {
        let row = bed.get::<Container>(again.meta.id).await;
        (row.meta.state == "running" && row.start_count == Some(2)).then_some(())
    })
    .await;

    bed.act::<Service>(web, "deactivate", json!({})).await.expect("deactivates");
    bed.until::<Service>(web, "inactive").await;
    assert_eq!(a.names().len() + b.names().len(), 0);
    bed.act::<Stack>(stack, "activateservices", json!({})).await.expect("activates");
    bed.until::<Service>(web, "active").await;

    bed.delete::<Stack>(stack).await.expect("goes");
    bed.until::<Stack>(stack, "removed").await;
    bed.until::<Service>(web, "removed").await;
    bed.wait("empty hosts", async |_| {
        (a.engine().containers.is_empty() && b.engine().containers.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn links_are_set_added_and_refused() {
    let bed = Bed::new().await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let make = async |name: &str| {
        let config = json!({"imageUuid": "sim:x"});
        bed.create_one::<Service>(json!({"name": name, "environmentId": stack, "launchConfig": config})).await
    };
    let (web, db) = (make("web").await, make("db").await);
    bed.until::<Service>(web, "inactive").await;
    let add = json!({"serviceLink": {"serviceId": db, "name": "mysql"}});
    bed.act::<Service>(web, "addservicelink", add.clone()).await.expect("added");
    let code = async |action: &str, input: Value| match bed.act::<Service>(web, action, input).await {
        Err(CommandError::Api(error)) => error.code.table().0,
        other => panic!("accepted: {other:?}"),
    };
    assert_eq!(code("addservicelink", add.clone()).await, "NotUnique");
    assert_eq!(code("setservicelinks", json!({"serviceLinks": [{"serviceId": 999}]})).await, "InvalidReference");
    let bad = json!({"serviceLinks": [{"serviceId": db, "name": "-x"}]});
    assert_eq!(code("setservicelinks", bad).await, "InvalidCharacters");
    bed.act::<Service>(web, "removeservicelink", add.clone()).await.expect("removed");
    assert_eq!(code("removeservicelink", add).await, "InvalidReference");
    let taken = json!({"name": "WEB", "environmentId": stack, "launchConfig": {"imageUuid": "sim:x"}});
    match bed.create::<Service>(taken).await {
        Err(CommandError::Api(error)) => assert_eq!(error.code.table().0, "NotUnique"),
        other => panic!("accepted: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_appear_follow_their_container_and_are_deleted() {
    let bed = Bed::new().await;
    let _host = bed.host("a").await;
    let asked = bed.create_one::<Volume>(json!({"name": "pgdata", "driver": "local"})).await;
    assert_eq!(bed.get::<Volume>(asked).await.meta.state, "requested");
    let fields = json!({"imageUuid": "sim:x", "networkMode": "managed", "startOnCreate": true,
        "dataVolumes": ["pgdata:/var/lib", "/srv:/srv"]});
    let id = bed.create_one::<Container>(fields).await;
    let row = bed.until::<Container>(id, "running").await;
    assert_eq!(row.data_volume_mounts.as_ref().and_then(|mounts| mounts.get("/var/lib")), Some(&Id::new(asked)));
    bed.until::<Volume>(asked, "active").await;
    assert_eq!(bed.list::<Mount>(Query::new().eq("instanceId", id)).await.len(), 2);
    bed.delete::<Container>(id).await.expect("goes");
    bed.until::<Volume>(asked, "inactive").await;
    bed.until::<Container>(id, "purged").await;
    bed.delete::<Volume>(asked).await.expect("goes");
    bed.until::<Volume>(asked, "purged").await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_and_forgiven() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let id = bed
        .create_one::<Container>(json!({"imageUuid": "sim:x", "networkMode": "managed", "startOnCreate": true}))
        .await;
    bed.until::<Container>(id, "running").await;
    let state = async |wanted: &str| {
        bed.wait(wanted, async |bed| {
            (bed.get::<Host>(host.id()).await.agent_state.as_deref() == Some(wanted)).then_some(())
        })
        .await;
    };
    state("active").await;
    host.lose(&bed).await;
    state("reconnecting").await;
    assert_eq!(bed.get::<Container>(id).await.meta.state, "running", "a cut-off host keeps its containers");
    host.connect(&bed).await;
    state("active").await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_host_takes_its_agent_along_and_services_move() {
    let bed = Bed::new().await;
    let a = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 1).await;
    bed.until::<Service>(web, "active").await;
    let b = bed.host("b").await;
    assert!(bed.delete::<Host>(a.id()).await.is_err(), "an active host is deactivated first");
    bed.act::<Host>(a.id(), "deactivate", json!({})).await.expect("deactivates");
    bed.until::<Host>(a.id(), "inactive").await;
    bed.delete::<Host>(a.id()).await.expect("goes");
    bed.until::<Host>(a.id(), "removed").await;
    bed.wait("the service on the other host", async |_| (b.names() == ["s_web_1"]).then_some(())).await;
    let agent = bed.get::<Host>(a.id()).await.agent_id.expect("had one").number();
    assert!(bed.get::<Agent>(agent).await.meta.removed.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_member_is_stopped_when_nobody_routes_to_it_any_more() {
    let bed = Bed::new().await;
    let (a, b) = (bed.host("a").await, bed.host("b").await);
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 2).await;
    bed.until::<Service>(web, "active").await;
    let going = bed.list::<Container>(Query::new().eq("name", "s_web_2")).await.remove(0).meta.id;

    // One host does not answer: the container runs on, shown as `stopping` to everybody, until the deadline.
    a.engine().deaf = true;
    let begun = bed.seams.clock.now_ms();
    bed.put::<Service>(web, json!({"scale": 1})).await;
    bed.wait("the word to be passed", async |_| {
        let told = |host: &FakeHost| host.engine().directory.containers.get(&going).map(|row| row.state.clone());
        (told(&a).as_deref() == Some("stopping") && told(&b).as_deref() == Some("stopping")).then_some(())
    })
    .await;
    assert_eq!(b.names(), ["s_web_2"], "it still answers whoever has not heard");
    bed.wait("the deadline", async |_| b.names().is_empty().then_some(())).await;
    assert!(bed.seams.clock.now_ms() - begun >= 10_000);
    let log = bed.list::<AuditLog>(Query::new().eq("resourceType", "service").eq("resourceId", web)).await;
    let told = "s_web_2: Stopped though 1 host(s) have not confirmed in 10 s that they no longer route to it: a";
    assert!(log.iter().any(|row| row.meta.description.as_deref() == Some(told)), "{log:?}");
    bed.until::<Container>(going, "removed").await;

    // All answer: no longer than that takes.
    a.engine().deaf = false;
    bed.put::<Service>(web, json!({"scale": 2})).await;
    bed.until::<Service>(web, "active").await;
    let begun = bed.seams.clock.now_ms();
    bed.put::<Service>(web, json!({"scale": 1})).await;
    bed.wait("one container", async |_| (a.names().len() + b.names().len() == 1).then_some(())).await;
    assert!(bed.seams.clock.now_ms() - begun < 1_000, "{}", bed.seams.clock.now_ms() - begun);

    // Who is silent is not waited for.
    bed.put::<Service>(web, json!({"scale": 2})).await;
    bed.until::<Service>(web, "active").await;
    a.engine().deaf = true;
    let begun = bed.seams.clock.now_ms();
    bed.put::<Service>(web, json!({"scale": 1})).await;
    a.lose(&bed).await;
    bed.wait("one container", async |_| b.names().is_empty().then_some(())).await;
    let taken = bed.seams.clock.now_ms() - begun;
    assert!(taken <= 12_000, "{taken}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_host_is_replaced_and_stops_what_was_replaced_before_anything_else() {
    let bed = Bed::new().await;
    bed.set("host.lost.observe.seconds", "0").await;
    let (a, b) = (bed.host("a").await, bed.host("b").await);
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 2).await;
    bed.until::<Service>(web, "active").await;
    let alone = json!({"imageUuid": "sim:x", "name": "alone", "startOnCreate": true, "requestedHostId": a.id()});
    let alone = bed.create_one::<Container>(alone).await;
    bed.until::<Container>(alone, "running").await;
    let stale = bed.list::<Container>(Query::new().eq("name", "s_web_1")).await.remove(0);
    assert_eq!((a.names(), b.names()), (vec!["alone".into(), "s_web_1".into()], vec!["s_web_2".into()]));
    let address = stale.primary_ip_address.clone().expect("one");

    let begun = bed.seams.clock.now_ms();
    a.lose(&bed).await;
    bed.wait("a replacement", async |_| (b.names() == ["s_web_1", "s_web_2"]).then_some(())).await;
    let taken = bed.seams.clock.now_ms() - begun;
    assert!((11_000..15_000).contains(&taken), "{taken} ms");
    assert!(bed.get::<Host>(a.id()).await.lost_since.is_some());
    assert_eq!(bed.get::<Container>(alone).await.meta.state, "running", "stand-alone containers stay");
    bed.until::<Service>(web, "active").await;
    // What may run there yet keeps its address.
    let holder = bed.store.read({
        let (project, address) = (bed.project, address.clone());
        move |read| read.claims("address", project).map(|all| all.into_iter().find(|claim| claim.key == address))
    });
    assert_eq!(holder.await.expect("reads").map(|claim| claim.holder.id), Some(stale.meta.id));

    assert!(a.names().contains(&"s_web_1".to_owned()), "cut off it goes on");
    a.connect(&bed).await;
    bed.wait("the stop", async |_| (a.names() == ["alone"]).then_some(())).await;
    let first = a.engine().told[0].clone();
    let plan = first.containers.iter().find(|plan| plan.uuid == stale.meta.uuid).expect("in the first plan").clone();
    assert_eq!(plan.desired, Desired::Stopped);
    assert!(first.containers.iter().all(|plan| ["alone", "s_web_1"].contains(&plan.name.as_str())), "{first:?}");
    bed.wait("the host to be as before", async |bed| bed.get::<Host>(a.id()).await.lost_since.is_none().then_some(()))
        .await;
    bed.until::<Container>(stale.meta.id, "purged").await;
    bed.wait("the address to be free", async |bed| {
        let project = bed.project;
        let claims = bed.store.read(move |read| read.claims("address", project)).await.expect("reads");
        claims.iter().all(|claim| claim.key != address).then_some(())
    })
    .await;
    assert_eq!((a.names(), b.names().len()), (vec!["alone".to_owned()], 2), "nothing moves back by itself");
    bed.put::<Service>(web, json!({"scale": 3})).await;
    bed.until::<Service>(web, "active").await;
    assert_eq!(a.names(), ["alone", "s_web_3"], "it takes new work");
}

#[tokio::test(start_paused = true)]
async fn a_drained_host_is_empty_and_an_agent_that_takes_its_leave_may_come_back() {
    let bed = Bed::new().await;
    bed.set("host.lost.observe.seconds", "0").await;
    let (a, b) = (bed.host("a").await, bed.host("b").await);
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 4).await;
    bed.until::<Service>(web, "active").await;

    // On purpose: for two minutes nobody misses it.
    let session = a.engine().session.clone().expect("connected");
    a.engine().tasks.stop();
    bed.orchestrator.host_gone(&session, true).await;
    tokio::time::sleep(Duration::from_secs(110)).await;
    assert_eq!((bed.get::<Host>(a.id()).await.lost_since, b.names().len()), (None, 2));
    a.connect(&bed).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((a.names().len(), b.names().len()), (2, 2));

    assert!(bed.act::<Host>(a.id(), "giveup", json!({})).await.is_err(), "it answers");
    bed.act::<Host>(a.id(), "drain", json!({})).await.expect("drains");
    bed.wait("an empty host", async |_| a.names().is_empty().then_some(())).await;
    assert_eq!(b.names(), ["s_web_1", "s_web_2", "s_web_3", "s_web_4"]);
    let row = bed.until::<Host>(a.id(), "inactive").await;
    assert_eq!(row.meta.progress.message.as_deref(), Some("Drained"));
    bed.act::<Host>(a.id(), "activate", json!({})).await.expect("activates");
    let row = bed.until::<Host>(a.id(), "active").await;
    assert_eq!(row.meta.progress.message, None);
    bed.until::<Service>(web, "active").await;
}

/// A container that somebody started by plain docker.
fn by_hand(docker_id: &str) -> ContainerObserved {
    let inspect = json!({"Name": "/by-hand", "Config": {"Image": "busybox", "Env": ["A=b"], "Labels": {}},
        "HostConfig": {"NetworkMode": "default", "RestartPolicy": {"Name": ""}}});
    ContainerObserved {
        docker_id: docker_id.to_owned(),
        status: Status::Running,
        docker_ip: Some("172.17.0.2".into()),
        inspect: Some(Arc::new(inspect)),
        ..ContainerObserved::default()
    }
}

#[tokio::test(start_paused = true)]
async fn engines_of_two_hosts_may_give_the_same_address() {
    let bed = Bed::new().await;
    for (name, docker_id) in [("a", "d1"), ("b", "d2")] {
        let host = bed.host(name).await;
        host.report(&bed, false, vec![StateChange::Container(Box::new(by_hand(docker_id)))]).await;
    }
    let addresses = bed.list::<IpAddress>(Query::new().not_null("instanceId")).await;
    let shown: Vec<_> = addresses.iter().map(|row| (row.address.as_deref(), row.network_id)).collect();
    assert_eq!(shown, [(Some("172.17.0.2"), None); 2]);
}

#[tokio::test(start_paused = true)]
async fn containers_of_plain_docker_appear_and_what_is_absent_goes() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let seen = by_hand("d1");
    host.report(&bed, false, vec![StateChange::Container(Box::new(seen.clone()))]).await;
    host.report(&bed, false, vec![StateChange::Container(Box::new(seen.clone()))]).await;
    let rows = bed.list::<Container>(Query::new()).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row.meta.name.as_deref(), row.image_uuid.as_deref(), row.native_container, row.meta.state.as_str()),
        (Some("by-hand"), Some("docker:busybox"), true, "running")
    );
    let stopped = ContainerObserved { status: Status::Exited, exit_code: Some(0), inspect: None, ..seen.clone() };
    host.report(&bed, false, vec![StateChange::Container(Box::new(stopped))]).await;
    bed.until::<Container>(row.meta.id, "stopped").await;
    host.report(&bed, false, vec![StateChange::Container(Box::new(seen))]).await;
    bed.until::<Container>(row.meta.id, "running").await;
    host.report(&bed, true, vec![]).await;
    bed.until::<Container>(row.meta.id, "removed").await;
}

#[tokio::test(start_paused = true)]
async fn a_purged_project_leaves_nothing() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 2).await;
    bed.until::<Service>(web, "active").await;
    bed.delete::<Project>(bed.project).await.expect("goes");
    bed.until::<Project>(bed.project, "purged").await;
    assert!(bed.get::<Host>(host.id()).await.meta.removed.is_some());
    let rows = bed.list::<Container>(Query::new()).await;
    assert_eq!(rows, []);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_goes_on_where_it_was() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    // The loops stop before the service is created: nothing happens until others take over.
    host.lose(&bed).await;
    bed.seams.tasks.stop();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let web = service(&bed, stack, "web", 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.get::<Service>(web).await.meta.state, "registering");
    let seams = Seams { tasks: remuda_runtime::Tasks::new(), ..bed.seams.clone() };
    let orchestrator = Orchestrator::start(bed.store.clone(), seams.clone(), Options::default());
    let bed = Bed { orchestrator, seams, ..bed };
    host.connect(&bed).await;
    bed.until::<Service>(web, "active").await;
    assert_eq!(host.names(), ["s_web_1", "s_web_2", "s_web_3"]);
}

#[tokio::test(start_paused = true)]
async fn a_supervised_container_that_exits_says_so_until_it_runs_again() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 1).await;
    bed.until::<Service>(web, "active").await;
    let row = bed.list::<Container>(Query::new().eq("name", "s_web_1")).await.remove(0);
    let told = async |up: bool, restarts: i64, next_try_ms: Option<i64>| {
        let seen = ContainerObserved {
            uuid: Some(row.meta.uuid.clone()),
            docker_id: row.external_id.clone().expect("was seen"),
            status: if up { Status::Running } else { Status::Exited },
            exit_code: (!up).then_some(1),
            start_serial: row.start_serial,
            restarts,
            next_try_ms,
            ..ContainerObserved::default()
        };
        let changes = vec![StateChange::Container(Box::new(seen))];
        host.engine().containers.get_mut(&row.meta.uuid).expect("there").up = up;
        host.report(&bed, false, changes.clone()).await;
        host.report(&bed, false, changes).await;
        bed.get::<Container>(row.meta.id).await
    };
    let exited = told(false, 0, Some(4000)).await;
    assert_eq!((exited.meta.state.as_str(), exited.start_count, exited.exit_code), ("starting", Some(1), Some(1)));
    assert_eq!(exited.meta.progress.message.as_deref(), Some("Exited with code 1; next start in 4 s"));
    bed.until::<Service>(web, "updating-active").await;
    let again = told(true, 1, None).await;
    assert_eq!((again.meta.state.as_str(), again.start_count), ("running", Some(2)), "{again:?}");
    bed.until::<Service>(web, "active").await;
    assert_eq!(bed.get::<Container>(row.meta.id).await.start_serial, row.start_serial, "nobody asked for a start");
}

/// `docker rm -f` kills first: the exit is heard before the end.
#[tokio::test(start_paused = true)]
async fn a_container_deleted_by_hand_is_made_again_though_its_exit_was_heard_first() {
    let bed = Bed::new().await;
    let host = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 1).await;
    bed.until::<Service>(web, "active").await;
    let row = bed.list::<Container>(Query::new().eq("name", "s_web_1")).await.remove(0);
    let docker_id = row.external_id.clone().expect("was seen");
    host.engine().containers.remove(&row.meta.uuid);
    let exited = ContainerObserved {
        uuid: Some(row.meta.uuid.clone()),
        docker_id: docker_id.clone(),
        status: Status::Exited,
        exit_code: Some(137),
        start_serial: row.start_serial,
        next_try_ms: Some(1000),
        ..ContainerObserved::default()
    };
    host.report(&bed, false, vec![StateChange::Container(Box::new(exited))]).await;
    assert_eq!(bed.get::<Container>(row.meta.id).await.meta.state, "starting");
    let gone = StateChange::ContainerGone { uuid: Some(row.meta.uuid.clone()), docker_id: Some(docker_id) };
    host.report(&bed, false, vec![gone]).await;
    let again = bed
        .wait("another container", async |bed| {
            let rows = bed.list::<Container>(Query::new().eq("name", "s_web_1").eq("state", "running")).await;
            rows.into_iter().find(|other| other.meta.id != row.meta.id)
        })
        .await;
    assert_eq!(again.deployment_unit_uuid, row.deployment_unit_uuid);
    bed.until::<Service>(web, "active").await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_history() {
    let run = async || {
        let bed = Bed::new().await;
        let _hosts = [bed.host("a").await, bed.host("b").await];
        let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
        let web = service_with_ports(&bed, stack, "web", 2, &["80"]).await;
        bed.until::<Service>(web, "active").await;
        bed.put::<Service>(web, json!({"scale": 1})).await;
        bed.until::<Service>(web, "active").await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let rows = bed.list::<Container>(Query::new().all()).await;
        let feed = bed.store.changes(0, 1_000_000).await.expect("reads");
        format!("{rows:?}\n{feed:?}")
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_waits_for_what_it_consumes() {
    let bed = Bed::new().await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let make = async |name: &str| {
        let config = json!({"imageUuid": "sim:x", "networkMode": "managed"});
        bed.create_one::<Service>(json!({"name": name, "environmentId": stack, "launchConfig": config})).await
    };
    let (web, db) = (make("web").await, make("db").await);
    bed.until::<Service>(web, "inactive").await;
    bed.until::<Service>(db, "inactive").await;
    bed.act::<Service>(web, "setservicelinks", json!({"serviceLinks": [{"serviceId": db}]})).await.expect("linked");
    bed.act::<Stack>(stack, "activateservices", json!({})).await.expect("activates");
    bed.wait("the reason", async |bed| {
        let message = bed.get::<Service>(web).await.meta.progress.message;
        (message.as_deref() == Some("Waiting for consumed service db")).then_some(())
    })
    .await;
    assert_eq!(bed.list::<Container>(Query::new().eq("name", "s_web_1")).await, []);
    let host = bed.host("a").await;
    bed.until::<Service>(web, "active").await;
    assert_eq!(bed.get::<Service>(db).await.meta.state, "active");
    assert_eq!(host.names(), ["s_db_1", "s_web_1"]);
    bed.act::<Stack>(stack, "deactivateservices", json!({})).await.expect("deactivates");
    bed.until::<Service>(web, "inactive").await;
    bed.until::<Service>(db, "inactive").await;
}

/// A database that takes longer for each write than a lease lasts, once it is switched on.
#[derive(Default)]
struct Lag(std::sync::atomic::AtomicBool);

impl Faults for Lag {
    fn read(&self) -> Option<Fault> {
        None
    }

    fn write(&self) -> Option<Fault> {
        self.0.load(std::sync::atomic::Ordering::Relaxed).then_some(Fault::Slow(Duration::from_secs(30)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_too_long_decides_nothing_more() {
    let options = || Options { ownership: Ownership::leased(), ..Options::default() };
    let lag = Arc::new(Lag::default());
    let bed = Bed::with(options(), Some(lag.clone())).await;
    let first = bed.orchestrator.clone();
    let second = Orchestrator::start(bed.store.clone(), bed.seams.clone(), options());
    // Hosts are connected to the second, the first decides.
    let bed = Bed { orchestrator: second.clone(), ..bed };
    let decides = |server: &Orchestrator| server.status().iter().any(|status| status.name.starts_with("project"));
    let host = bed.host("a").await;
    let stack = bed.create_one::<Stack>(json!({"name": "s"})).await;
    let web = service(&bed, stack, "web", 2).await;
    bed.until::<Service>(web, "active").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((decides(&first), decides(&second)), (true, false));
    assert_eq!(bed.get::<Host>(host.id()).await.agent_state.as_deref(), Some("active"), "judged by its own server");

    lag.0.store(true, std::sync::atomic::Ordering::Relaxed);
    bed.put::<Service>(web, json!({"scale": 4})).await;
    bed.wait("the second decides", async |_| decides(&second).then_some(())).await;
    bed.wait("four containers", async |_| (host.names().len() == 4).then_some(())).await;
    // What the first had decided reaches the database only now.
    lag.0.store(false, std::sync::atomic::Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((decides(&first), decides(&second)), (false, true));
    assert_eq!(bed.list::<Container>(Query::new().all()).await.len(), 4);
    bed.until::<Service>(web, "active").await;
}
