//! A whole simulated host against a small server in the test, over an in-process link, on a virtual clock.

mod fake_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::host_network::{NoNetwork, SimulatedNetwork};
use remuda_agent::links::{InProcess, Incoming, in_process};
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{Host, identity, run};
use remuda_agent::session::Ended;
use remuda_agent::state_dir::StateDir;
use remuda_agent::streams::{chunk, split};
use remuda_runtime::Seams;
use remuda_wire::frame;
use remuda_wire::observe::{ContainerObserved, Status};
use remuda_wire::plan::{ContainerPlan, Desired, NetworkMode, PlanUpdate, Removal, VolumeCleanup, VolumeRemoval};
use remuda_wire::session::{Consumer, Down};
use remuda_wire::stream::{Channel, Control, StreamRequest};

use fake_server::{PATIENCE, Server, bridged, exec, plan};

/// A host and its server.
struct World {
    engine: Simulated,
    server: Server,
}

fn seams() -> Seams {
    Seams::seeded(7, 1_800_000_000_000)
}

fn start_agent(seams: &Seams, engine: &Simulated, source: InProcess, state_dir: Option<StateDir>) {
    let identity = identity(seams, state_dir.as_ref()).expect("an identity");
    let network = Arc::new(SimulatedNetwork);
    let engine = Arc::new(engine.clone());
    let mut host = Host::simulated("host-1", engine, network, identity, None, BTreeMap::new());
    host.state_dir = state_dir;
    let running = run(seams.clone(), host, Arc::new(source), Metrics::default());
    seams.tasks.spawn("agent", async move {
        if let Err(error) = running.await {
            tracing::error!(%error, "the agent ended");
        }
    });
}

async fn world() -> World {
    let seams = seams();
    let engine = Simulated::new(seams.clone(), Latency::usual());
    let (source, incoming) = in_process();
    start_agent(&seams, &engine, source, None);
    let mut server = Server::new(seams, incoming);
    server.accept().await;
    World { engine, server }
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_carried_out_changed_and_removed() {
    let World { mut server, .. } = world().await;
    server.plan(vec![plan("web", "sim:web")]).await;
    server.until("web runs", |server| server.is("web", Status::Running)).await;
    let web = &server.containers["web"];
    assert_eq!((web.start_serial, web.restarts), (1, 0));
    let inspect = web.inspect.as_ref().expect("a new container is shown whole");
    assert_eq!(inspect["Name"], "/r-web");
    assert_eq!(inspect["Config"]["Labels"]["io.rancher.container.ip"], "10.42.0.4/16");
    server.until("the network is reported", |server| server.network == Some(None)).await;

    let started = server.containers["web"].started_at;
    server.plan(vec![ContainerPlan { start_serial: 2, ..plan("web", "sim:web") }]).await;
    server.until("web is restarted", |server| server.containers["web"].start_serial == 2).await;
    assert!(server.containers["web"].started_at > started);

    server.plan(vec![ContainerPlan { desired: Desired::Stopped, ..plan("web", "sim:web") }]).await;
    server.until("web is stopped", |server| server.is("web", Status::Exited)).await;

    let removal = Removal { uuid: "web".into(), docker_id: None, volumes: VolumeCleanup::default() };
    let volume = VolumeRemoval { uuid: "v1".into(), name: "never-there".into(), driver: None };
    let base = Some(server.revision);
    let update = PlanUpdate { base, removals: vec![removal], volume_removals: vec![volume], ..PlanUpdate::default() };
    server.update(update.clone()).await;
    server
        .until("both are confirmed", |server| server.confirmed.contains("web") && server.volumes_gone.contains("v1"))
        .await;
    assert!(!server.containers.contains_key("web"));
    // Asked again, confirmed again.
    server.confirmed.clear();
    server.update(PlanUpdate { base: Some(server.revision), ..update }).await;
    server.until("it is confirmed again", |server| server.confirmed.contains("web")).await;
}

#[tokio::test(start_paused = true)]
async fn crashes_pause_visibly_and_failures_are_told() {
    let World { mut server, .. } = world().await;
    server
        .plan(vec![
            bridged("a", "sim:run-for/100ms/exit/3"),
            bridged("b", "sim:start-fail"),
            bridged("c", "sim:pull-fail"),
        ])
        .await;
    server
        .until("a crash loop shows", |server| {
            server
                .containers
                .get("a")
                .is_some_and(|a| a.restarts >= 3 && a.next_try_ms.is_some() && a.exit_code == Some(3))
        })
        .await;
    server.until("both gave up", |server| server.failures.iter().filter(|failed| failed.last).count() == 2).await;
    let message = |uuid: &str| {
        let failed = server.failures.iter().find(|failed| failed.uuid == uuid).expect("is told");
        failed.message.clone()
    };
    assert_eq!(message("b"), "cannot start the container: OCI runtime create failed: simulated start failure");
    assert!(message("c").starts_with("cannot pull image `sim:pull-fail`: pull access denied"), "{}", message("c"));
    let tries: Vec<i64> = server.failures.iter().filter(|failed| failed.uuid == "b").map(|it| it.attempts).collect();
    assert_eq!(tries, [1, 2, 3]);
    // A new start is tried anew.
    server.failures.clear();
    server.plan(vec![ContainerPlan { start_serial: 2, ..bridged("b", "sim:start-fail") }]).await;
    server.until("it is tried again", |server| server.failures.len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_once_and_one_that_needs_another() {
    let World { mut server, .. } = world().await;
    let once = ContainerPlan { start_once: true, ..bridged("once", "sim:exit/0") };
    let mut side = ContainerPlan { after: vec!["main".into()], ..bridged("side", "sim:web") };
    side.spec.network = NetworkMode::Container { uuid: "main".into() };
    server.plan(vec![once, side, bridged("main", "sim:start-takes/5s")]).await;
    server
        .until("all came to their end", |server| {
            server.is("once", Status::Exited) && server.is("side", Status::Running)
        })
        .await;
    let (main, side) = (&server.containers["main"], &server.containers["side"]);
    assert!(side.started_at >= main.started_at);
    let mode = &side.inspect.as_ref().expect("is shown")["HostConfig"]["NetworkMode"];
    assert_eq!(mode, &format!("container:{}", main.docker_id));
    assert_eq!(server.containers["once"].restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_an_engine_that_went_away_and_native_containers() {
    let World { engine, mut server } = world().await;
    server.plan(vec![bridged("web", "sim:web")]).await;
    server.until("web runs", |server| server.is("web", Status::Running)).await;
    let native = engine.run_native("plain", "nginx");
    server.until("the native one shows", |server| server.is(&native, Status::Running)).await;
    assert_eq!(server.containers[&native].uuid, None);

    server.link = None;
    server.accept().await;
    let have = server.hello.as_ref().and_then(|hello| hello.have.clone());
    assert_eq!(have, None, "there was no directory yet");
    server.until("all is reported", |server| server.n_complete > 0).await;
    assert_eq!(server.containers.len(), 2);

    engine.set_reachable(false);
    engine.reboot();
    server.plan(vec![bridged("web", "sim:web"), bridged("db", "sim:web")]).await;
    engine.set_reachable(true);
    server.until("both run", |server| server.is("db", Status::Running) && server.is("web", Status::Running)).await;
    assert_eq!(server.containers["web"].restarts, 1);
    assert!(server.is(&native, Status::Exited), "nobody supervises it");

    // Not in the plan any more, and not to be removed: left alone, and reported.
    server.plan(vec![bridged("db", "sim:web")]).await;
    engine.exit("r-db", 1);
    server.until("db was started again", |server| server.containers["db"].restarts == 1).await;
    assert!(server.is("web", Status::Running));
}

#[tokio::test(start_paused = true)]
async fn another_store_hears_everything_before_anything_is_removed() {
    let World { mut server, .. } = world().await;
    server.plan(vec![bridged("web", "sim:web")]).await;
    server.until("web runs", |server| server.is("web", Status::Running)).await;
    server.link = None;
    (server.store, server.acknowledges) = ("store-2".into(), false);
    server.accept().await;
    let removal = Removal { uuid: "web".into(), docker_id: None, volumes: VolumeCleanup::default() };
    server.update(PlanUpdate { removals: vec![removal], ..PlanUpdate::default() }).await;
    server.until("everything was reported", |server| server.n_complete > 0).await;
    let clock = server.seams.clock.clone();
    clock.sleep(Duration::from_secs(1)).await;
    assert!(!server.confirmed.contains("web"));
    server.acknowledges = true;
    // The report is repeated until it is acknowledged.
    server.until("it is removed then", |server| server.confirmed.contains("web")).await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_without_its_server_supervises_and_restarts_nothing() {
    let seams = seams();
    let engine = Simulated::new(seams.clone(), Latency::usual());
    let directory = tempfile::tempdir().expect("a directory");
    let state = StateDir::open(directory.path()).expect("opens");
    let begin = |tasks: &remuda_runtime::Tasks, incoming: InProcess| {
        let seams = Seams { tasks: tasks.child(), ..seams.clone() };
        start_agent(&seams, &engine, incoming, Some(state.clone()));
        seams.tasks
    };
    let (source, incoming) = in_process();
    let first = begin(&seams.tasks, source);
    let mut server = Server::new(seams.clone(), incoming);
    server.accept().await;
    let uuid = server.hello.as_ref().map(|hello| hello.host_uuid.clone());
    let again = ContainerPlan { start_serial: 4, ..bridged("web", "sim:web") };
    server.plan(vec![again, bridged("db", "sim:web")]).await;
    server.until("both run", |server| server.is("web", Status::Running) && server.is("db", Status::Running)).await;
    let started = server.containers["web"].started_at;
    assert!(first.shut_down(Duration::from_secs(5)).await);

    engine.exit("r-db", 1);
    let (source, incoming) = in_process();
    let second = begin(&seams.tasks, source);
    // The server is not there, but db comes back.
    let up = async {
        use remuda_agent::engine::Engine;
        while engine.inspect("r-db").await.expect("is there")["State"]["Running"] != true {
            seams.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("db runs again");
    let mut server = Server::new(seams.clone(), incoming);
    server.accept().await;
    assert_eq!(server.hello.as_ref().map(|hello| hello.host_uuid.clone()), uuid);
    server.until("all is reported", |server| server.n_complete > 0).await;
    assert_eq!((server.containers["web"].started_at, server.containers["web"].start_serial), (started, 4));
    assert!(second.shut_down(Duration::from_secs(5)).await);

    // Without the cache nothing healthy is restarted either.
    for cache in ["plan", "memory", "directory"] {
        drop(std::fs::remove_file(directory.path().join(cache)));
    }
    let (source, incoming) = in_process();
    begin(&seams.tasks, source);
    let mut server = Server::new(seams.clone(), incoming);
    server.accept().await;
    server.plan(vec![ContainerPlan { start_serial: 5, ..bridged("web", "sim:web") }]).await;
    server
        .until("web is taken over", |server| server.containers.get("web").is_some_and(|web| web.start_serial == 5))
        .await;
    assert_eq!(server.containers["web"].started_at, started);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_base_asks_anew_and_directories_are_applied() {
    let World { mut server, .. } = world().await;
    server.plan(vec![bridged("web", "sim:web")]).await;
    // The directory changes more often than the plan; deltas follow what is held of it.
    let revision = server.revision + 7;
    let directory = remuda_wire::directory::DirectoryUpdate { revision, ..Default::default() };
    server.say(Down::Directory(Box::new(directory))).await;
    server.until("it is applied", |server| server.applied.get(&Consumer::Dns) == Some(&revision)).await;
    server.link = None;
    server.accept().await;
    let have = server.hello.as_ref().and_then(|hello| hello.have.clone()).expect("a position");
    assert_eq!((have.store.as_str(), have.revision), ("store-1", revision));
    server.update(PlanUpdate { base: Some(3), ..PlanUpdate::default() }).await;
    server.accept().await;
    assert_eq!(server.hello.as_ref().and_then(|hello| hello.have.clone()), None);
    assert!(
        server.hello.as_ref().is_some_and(|hello| hello.kind == "sim" && hello.facts.info["cpuInfo"]["count"] == 4)
    );
}

#[tokio::test(start_paused = true)]
async fn logs_exec_stats_and_sockets_travel() {
    let World { mut server, .. } = world().await;
    server.plan(vec![plan("web", "sim:lines/5")]).await;
    server.until("web runs", |server| server.is("web", Status::Running)).await;
    let docker_id = server.containers["web"].docker_id.clone();

    let logs = StreamRequest::Logs { container: "web".into(), follow: false, lines: Some(3), since: None, until: None };
    let mut link = server.stream(logs).await;
    let mut lines = 0;
    while let Some(Ok(message)) = link.receive().await {
        let (channel, text) = split(message).expect("a chunk");
        assert_eq!((channel, text.last()), (Channel::Stdout, Some(&b'\n')));
        lines += 1;
    }
    assert_eq!(lines, 3);

    let mut link = server.stream(exec(&docker_id, &["sh", "-c", "echo hi; exit 3"], false)).await;
    let mut said = Vec::new();
    while let Some(Ok(message)) = link.receive().await {
        let (channel, data) = split(message).expect("a chunk");
        said.push((channel, String::from_utf8_lossy(&data).into_owned()));
    }
    let exit = serde_json::to_string(&Control::Exit { code: 3 }).expect("JSON");
    assert_eq!(said, [(Channel::Stdout, "hi\n".to_owned()), (Channel::Control, exit)]);

    let mut link = server.stream(exec(&docker_id, &["cat"], true)).await;
    link.send(chunk(Channel::Stdin, b"echoed")).await.expect("heard");
    let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
    assert_eq!(&data[..], b"echoed");
    let closed = serde_json::to_vec(&Control::StdinClosed).expect("JSON");
    link.send(chunk(Channel::Control, &closed)).await.expect("heard");
    let (channel, _) = split(link.receive().await.expect("ends").expect("reads")).expect("a chunk");
    assert_eq!(channel, Channel::Control);

    let mut link = server.stream(StreamRequest::ContainerStats { containers: BTreeMap::new() }).await;
    for _ in 0..2 {
        let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
        let samples: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!((&samples[0]["id"], &samples[0]["resourceType"]), (&"1iweb".into(), &"container".into()));
    }
    drop(link);

    let mut link = server.stream(StreamRequest::HostStats { host_id: "1h1".into() }).await;
    let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
    let samples: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    assert_eq!(samples[0]["id"], "1h1");
    drop(link);

    for (request, expected) in [
        (StreamRequest::DockerSocket, "OK"),
        (StreamRequest::Tcp { address: "10.42.0.4:80".into() }, "r-web answers GET /_ping HTTP/1.1\n"),
    ] {
        let mut link = server.stream(request).await;
        link.send(chunk(Channel::Stdin, b"GET /_ping HTTP/1.1\r\n\r\n")).await.expect("heard");
        let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
        assert!(String::from_utf8_lossy(&data).ends_with(expected), "{data:?}");
    }

    let mut link = server.stream(exec("nowhere", &["true"], false)).await;
    let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
    let failed = Control::Failed { message: "container `nowhere` is not on this host".into() };
    assert_eq!(serde_json::from_slice::<Control>(&data).expect("JSON"), failed);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_ends_the_agent() {
    let seams = seams();
    let engine = Arc::new(Simulated::new(seams.clone(), Latency::none()));
    let (source, mut incoming) = in_process();
    let identity = identity(&seams, None).expect("an identity");
    let host = Host::simulated("h", engine, Arc::new(SimulatedNetwork), identity, None, BTreeMap::new());
    let refusing = async {
        let Some(Incoming::Connect(mut link)) = incoming.recv().await else { panic!("a connection") };
        drop(link.receive().await);
        let refused = Down::Refused { reason: "removed".into(), again: false };
        link.send(frame::encode(&refused).expect("encodes")).await.expect("heard");
        link
    };
    let running = run(seams.clone(), host, Arc::new(source), Metrics::default());
    let (ended, _link) = tokio::join!(running, refusing);
    let Err(remuda_agent::run::Error::Session(Ended::Refused { again: false, reason })) = ended else {
        panic!("refused, got {ended:?}");
    };
    assert_eq!(reason, "removed");
}

/// Twice from one seed, the same reports.
#[tokio::test(start_paused = true)]
async fn a_seed_repeats() {
    let once = || async {
        let World { mut server, .. } = world().await;
        let plans = (1..6).map(|n| bridged(&format!("c{n}"), "sim:run-for/300ms/exit/1")).collect();
        server.plan(plans).await;
        server
            .until("all crashed twice", |server| {
                server.containers.len() == 5 && server.containers.values().all(|container| container.restarts >= 2)
            })
            .await;
        server.seams.tasks.stop();
        server.containers
    };
    let (first, second) = (once().await, once().await);
    let times = |containers: &BTreeMap<String, ContainerObserved>| -> Vec<(String, String, Option<i64>)> {
        containers.values().map(|it| (it.docker_id.clone(), format!("{:?}", it.status), it.exit_code)).collect()
    };
    assert_eq!(times(&first), times(&second));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_left_the_plan_and_comes_back_is_started_when_asked() {
    let World { mut server, .. } = world().await;
    let alone =
        |start_serial, desired| ContainerPlan { supervise: false, start_serial, desired, ..bridged("job", "sim:web") };
    server.plan(vec![alone(1, Desired::Running)]).await;
    server.until("it runs", |server| server.is("job", Status::Running)).await;
    server.plan(vec![alone(1, Desired::Stopped)]).await;
    server.until("it is stopped", |server| server.is("job", Status::Exited)).await;
    let base = Some(server.revision);
    server.update(PlanUpdate { base, forgotten: vec!["job".into()], ..PlanUpdate::default() }).await;
    // Restored and started before the agent heard of the first.
    server.plan(vec![alone(2, Desired::Running)]).await;
    server.until("it runs again", |server| server.is("job", Status::Running)).await;
    assert_eq!(server.containers["job"].start_serial, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_nobody_up() {
    let World { mut server, .. } = world().await;
    server.plan(vec![bridged("web", "sim:lines/100000000")]).await;
    server.until("web runs", |server| server.is("web", Status::Running)).await;
    let logs = StreamRequest::Logs { container: "web".into(), follow: true, lines: None, since: None, until: None };
    let mut slow = server.stream(logs).await;
    let mut links = Vec::new();
    for _ in 0..50 {
        links.push(server.stream(exec("web", &["echo", "quick"], false)).await);
    }
    for mut link in links {
        let mut n_chunks = 0;
        while let Some(Ok(_)) = link.receive().await {
            n_chunks += 1;
        }
        assert_eq!(n_chunks, 2);
    }
    // A hundred million lines wait in nobody's memory: the next is made when this one was taken.
    for number in 0..3 {
        let (_, text) = split(slow.receive().await.expect("a line").expect("reads")).expect("a chunk");
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(number == 0 || text.contains(&format!(" line {number} of ")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_hosts_live_in_one_process() {
    const HOSTS: usize = 200;
    let seams = seams();
    let mut servers = Vec::new();
    for _ in 0..HOSTS {
        let engine = Simulated::new(seams.clone(), Latency::usual());
        let (source, incoming) = in_process();
        start_agent(&seams, &engine, source, None);
        servers.push(Server::new(seams.clone(), incoming));
    }
    for server in &mut servers {
        server.accept().await;
        server.plan((0..5).map(|n| bridged(&format!("c{n}"), "sim:web")).collect()).await;
    }
    for server in &mut servers {
        server.until("all run", |server| (0..5).all(|n| server.is(&format!("c{n}"), Status::Running))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_network_is_said_again_with_the_next_hello() {
    let seams = seams();
    let engine = Arc::new(Simulated::new(seams.clone(), Latency::usual()));
    let (source, incoming) = in_process();
    let identity = identity(&seams, None).expect("an identity");
    let network = Arc::new(NoNetwork { reason: "no root".into() });
    let host = Host::simulated("h", engine, network, identity, None, BTreeMap::new());
    let running = run(seams.clone(), host, Arc::new(source), Metrics::default());
    seams.tasks.spawn("agent", async move { drop(running.await) });
    let mut server = Server::new(seams, incoming);
    server.accept().await;
    server.plan(vec![plan("web", "sim:web")]).await;
    server.until("it is told", |server| server.network == Some(Some("no root".into()))).await;
    server.until("the container cannot start", |server| server.failures.iter().any(|failed| failed.last)).await;
    assert_eq!(server.failures[0].message, "cannot use the managed network: no root");
    server.link = None;
    server.accept().await;
    let said = server.hello.as_ref().and_then(|hello| hello.facts.network_problem.clone());
    assert_eq!(said.as_deref(), Some("no root"));
}
