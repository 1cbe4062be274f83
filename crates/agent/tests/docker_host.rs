//! The agent on a real Docker Engine: a private daemon in a network namespace of its own (needs root and dockerd).

mod balancer;
mod fake_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use remuda_agent::engine::docker::DockerEngine;
use remuda_agent::engine::{Chunk, Engine, Error, Event, ExecQuery, LogsQuery, Output, inspect, spec};
use remuda_agent::facts::Facts;
use remuda_agent::host_network::NoNetwork;
use remuda_agent::links::in_process;
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{Host, identity, run};
use remuda_agent::state_dir::StateDir;
use remuda_agent::streams::host_stats::HostStats;
use remuda_agent::streams::{chunk, split};
use remuda_runtime::{Clock, Seams, Tasks};
use remuda_testbed::{Testbed, image};
use remuda_wire::observe::Status;
use remuda_wire::plan::{
    BlkioDevice, ContainerPlan, ContainerSpec, Desired, HealthCheck, PlanUpdate, PortPlan, Removal, Ulimit,
    VolumeCleanup, VolumePlan,
};
use remuda_wire::stream::{Channel, Control, StreamRequest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use fake_server::{Server, bridged, exec};

fn bed() -> Testbed {
    let bed = Testbed::start(1).expect("a host with a Docker daemon");
    bed.load_image(image::TESTBOX).expect("an image");
    bed
}

fn engine(bed: &Testbed, seams: &Seams) -> DockerEngine {
    DockerEngine::connect(Some(&bed.host(0).docker_host()), seams).expect("an address")
}

async fn whole(output: Output) -> (String, String) {
    let mut texts = (Vec::new(), Vec::new());
    for piece in output.collect::<Vec<_>>().await {
        match piece.expect("reads") {
            Chunk::Stdout(data) => texts.0.extend_from_slice(&data),
            Chunk::Stderr(data) => texts.1.extend_from_slice(&data),
        }
    }
    (String::from_utf8_lossy(&texts.0).into_owned(), String::from_utf8_lossy(&texts.1).into_owned())
}

fn query(script: &str) -> ExecQuery {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecQuery { command, stdout: true, ..ExecQuery::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_answers_every_call() {
    let bed = bed();
    let seams = Seams::real();
    let engine = engine(&bed, &seams);
    let info = engine.info().await.expect("answers");
    assert!(info.version_text.starts_with("Docker version "), "{info:?}");
    assert!(info.n_cpus > 0 && !info.storage_driver.is_empty(), "{info:?}");

    assert!(engine.image_exists(image::TESTBOX).await.expect("answers"));
    assert!(!engine.image_exists("none.such/image:1").await.expect("answers"));
    let refused = engine.pull("127.0.0.1:9/none:1", Arc::new(|_, _| {})).await.expect_err("no registry is there");
    assert!(!refused.is_unreachable(), "{refused}");

    let mut events = engine.events().await.expect("listens");
    let body = json!({ "Image": image::TESTBOX, "Cmd": ["sh", "-c", "echo out; echo err >&2; exec rest"], "Labels": { "a": "b" } });
    let id = engine.create("one", &body).await.expect("creates");
    assert_eq!(events.next().await, Some(Ok(Event::Container { docker_id: id.clone() })));
    assert!(matches!(engine.create("one", &body).await, Err(Error::Conflict(_))));
    assert!(matches!(engine.create("two", &json!({ "Image": "none:1" })).await, Err(Error::NotFound(_))));
    engine.start(&id).await.expect("starts");
    engine.start(&id).await.expect("starting twice is no error");
    let seen = inspect::read(&engine.inspect("one").await.expect("is there")).expect("reads");
    assert_eq!((seen.docker_id.as_str(), seen.name.as_str(), seen.status), (id.as_str(), "one", Status::Running));
    assert!(seen.started_at.is_some() && seen.docker_ip.is_some(), "{seen:?}");
    let listed = engine.list().await.expect("lists");
    assert_eq!(listed[0].labels.get("a").map(String::as_str), Some("b"));

    let process = engine.exec(&id, query("echo hi; echo bad >&2; exit 7")).await.expect("execs");
    assert_eq!(whole(process.output).await, ("hi\n".to_owned(), "bad\n".to_owned()));
    assert_eq!(engine.exec_exit_code(&process.id).await, Ok(Some(7)));

    let mut process = engine
        .exec(&id, ExecQuery { stdin: true, tty: true, ..query("read a; stty size; printf '\\1\\0%s' $a") })
        .await
        .expect("execs");
    engine.exec_resize(&process.id, 33, 99).await.expect("resizes");
    process.input.write_all(b"typed\n").await.expect("is read");
    let (said, _) = whole(process.output).await;
    assert!(said.ends_with("33 99\r\n\u{1}\0typed"), "{said:?}");

    let stopped = LogsQuery { lines: Some(5), ..LogsQuery::default() };
    let mut logs = (String::new(), String::new());
    while logs.1.is_empty() {
        logs = whole(engine.logs(&id, stopped.clone()).await.expect("logs")).await;
    }
    assert!(logs.0.ends_with("Z out\n") && logs.1.ends_with("Z err\n"), "{logs:?}");

    let sample = engine.stats(&id).await.expect("answers").next().await.expect("one").expect("reads");
    assert!(sample["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().is_some(), "{sample}");

    let volume = VolumePlan { name: "data".into(), ..VolumePlan::default() };
    engine.volume_create(&volume).await.expect("creates");
    engine.volume_create(&volume).await.expect("finds");
    assert_eq!(engine.volume_inspect("data").await.expect("is there")["Driver"], "local");
    engine.volume_remove("data").await.expect("removes");
    assert!(matches!(engine.volume_remove("data").await, Err(Error::NotFound(_))));

    engine.network_create(&json!({ "Name": "net", "Driver": "bridge" })).await.expect("creates");
    assert!(engine.network_list().await.expect("lists").iter().any(|network| network["Name"] == "net"));
    engine.network_remove("net").await.expect("removes");
    assert!(matches!(engine.network_inspect("net").await, Err(Error::NotFound(_))));

    engine.stop(&id, 10).await.expect("stops");
    let seen = inspect::read(&engine.inspect(&id).await.expect("is there")).expect("reads");
    assert_eq!((seen.status, seen.exit_code), (Status::Exited, Some(0)));
    engine.remove(&id).await.expect("removes");
    assert!(matches!(engine.inspect(&id).await, Err(Error::NotFound(_))));
    assert!(seams.tasks.shut_down(Duration::from_secs(5)).await);
}

/// What the engine reports of a running container is what the spec asked for, key by key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_reaches_the_engine() {
    let bed = bed();
    let seams = Seams::real();
    let engine = engine(&bed, &seams);
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let device = BlkioDevice {
        path: "/dev/loop0".into(),
        read_bps: Some(1 << 20),
        write_bps: Some(2 << 20),
        read_iops: Some(30),
        write_iops: Some(40),
        weight: None,
    };
    let spec = ContainerSpec {
        image: image::TESTBOX.into(),
        command: Some(texts(&["rest"])),
        memory: Some(64 << 20),
        memory_reservation: Some(32 << 20),
        oom_score_adj: Some(500),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        cpu_set_mems: Some("0".into()),
        pids_limit: Some(99),
        shm_size: Some(1 << 20),
        cgroup_parent: Some("/remuda-test".into()),
        ipc_mode: Some("shareable".into()),
        uts: Some("host".into()),
        hostname: Some("not-with-uts".into()),
        userns_mode: Some("host".into()),
        isolation: Some("default".into()),
        stop_signal: Some("SIGQUIT".into()),
        dns_opt: texts(&["ndots:3"]),
        group_add: texts(&["4321"]),
        sysctls: [("net.ipv4.ip_default_ttl".to_owned(), "63".to_owned())].into(),
        tmpfs: [("/scratch".to_owned(), "size=65536".to_owned())].into(),
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 111, hard: 222 }],
        blkio_devices: vec![device],
        health_check: Some(HealthCheck {
            test: texts(&["CMD", "true"]),
            interval_seconds: Some(1),
            timeout_seconds: Some(2),
            retries: Some(3),
        }),
        ..ContainerSpec::default()
    };
    let body = spec::create_body("u1", "all", &spec, &spec::Here::default()).expect("can be created");
    let id = engine.create("all", &body).await.expect("creates");
    engine.start(&id).await.expect("starts");
    let seen = engine.inspect(&id).await.expect("is there");
    for (part, found) in [(&body["HostConfig"], &seen["HostConfig"]), (&body, &seen["Config"])] {
        for (key, asked) in part.as_object().expect("an object").iter().filter(|(key, _)| *key != "HostConfig") {
            assert_eq!(&found[key.as_str()], asked, "{key}");
        }
    }

    // And the kernel was told.
    let inside = "cat /proc/self/limits /proc/sys/net/ipv4/ip_default_ttl /etc/resolv.conf /proc/mounts; id -G";
    let process = engine.exec(&id, query(inside)).await.expect("execs");
    let (said, _) = whole(process.output).await;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in ["Max open files 111 222", " 63 ", "ndots:3", " /scratch tmpfs ", "size=64k", "size=1024k", "4321"]
    {
        assert!(words.contains(expected), "no `{expected}` in {words}");
    }

    // What an engine cannot do it says itself.
    let refused = ContainerSpec { sysctls: [("none.such".to_owned(), "1".to_owned())].into(), ..spec };
    let body = spec::create_body("u2", "refused", &refused, &spec::Here::default()).expect("can be created");
    let told = match engine.create("refused", &body).await {
        Ok(id) => engine.start(&id).await.expect_err("no such parameter").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("none.such"), "{told}");
    assert!(seams.tasks.shut_down(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_makes_an_image_and_a_failed_one_says_why() {
    let bed = bed();
    let seams = Seams::real();
    let engine = engine(&bed, &seams);
    // A web server for two tars, as long as the test lasts.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let base = format!("http://{}", listener.local_addr().expect("has an address"));
    seams.tasks.spawn_until_stopped("contexts", async move {
        for dockerfile in ["FROM remuda/testbox:1\nLABEL built=yes\n", "FROM remuda/testbox:1\nRUN false\n"] {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                socket.read_buf(&mut request).await.expect("a request");
            }
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(dockerfile.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes()).expect("a tar");
            let tar = tar.into_inner().expect("a tar");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", tar.len());
            drop(socket.write_all(head.as_bytes()).await);
            drop(socket.write_all(&tar).await);
            drop(socket.shutdown().await);
        }
    });
    let build = remuda_wire::plan::Build { context: Some(base), ..Default::default() };
    engine.build("built:1", &build, None, Arc::new(|_, _| {})).await.expect("builds");
    assert!(engine.image_exists("built:1").await.expect("answers"));
    let failed = engine.build("built:2", &build, None, Arc::new(|_, _| {})).await.expect_err("RUN false");
    assert!(failed.to_string().contains("returned a non-zero code: 1"), "{failed}");
    assert!(seams.tasks.shut_down(Duration::from_secs(5)).await);
}

/// A planned container of the test image.
fn testbox(uuid: &str, command: &[&str]) -> ContainerPlan {
    let mut plan = bridged(uuid, image::TESTBOX);
    plan.spec.command = Some(command.iter().map(|word| (*word).to_owned()).collect());
    plan
}

fn start_agent(bed: &Testbed, tasks: &Tasks) -> Server {
    let seams = Seams { tasks: tasks.clone(), clock: Clock::system(), ..Seams::real() };
    let engine: Arc<dyn Engine> = Arc::new(engine(bed, &seams));
    let state = StateDir::open(&bed.host(0).dir.join("agent")).expect("a state directory");
    let host = Host {
        name: None,
        facts: Facts::of_this_machine(engine.clone(), None, None, BTreeMap::new()),
        engine,
        network: Arc::new(NoNetwork { reason: "not in this test".into() }),
        identity: identity(&seams, Some(&state)).expect("an identity"),
        state_dir: Some(state),
        host_stats: HostStats::of_this_machine(),
    };
    let (source, incoming) = in_process();
    let running = run(seams.clone(), host, Arc::new(source), Metrics::default());
    seams.tasks.spawn("agent", async move { drop(running.await) });
    Server::new(seams, incoming)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_supervised_through_crashes_of_daemon_and_agent() {
    let bed = bed();
    let host = bed.host(0);
    let tasks = Tasks::new();
    let mut server = start_agent(&bed, &tasks);
    server.accept().await;
    host.docker(&["run", "-d", "--name", "r-taken", image::TESTBOX, "rest"]).expect("a native container");
    let mut web = testbox("web", &["serve"]);
    web.spec.ports =
        vec![PortPlan { bind_address: String::new(), public: Some(8080), private: 80, protocol: "tcp".into() }];
    web.spec.data_volumes = vec!["data:/data".into(), "/anon".into()];
    web.spec.environment = [("A".to_owned(), "b c".to_owned())].into();
    let taken =
        ContainerPlan { name: "taken".into(), spec: testbox("r", &["rest"]).spec, ..testbox("c0ffee", &["rest"]) };
    let mut taken = ContainerPlan { supervise: true, ..taken };
    taken.spec.docker_name = "r-taken".into();
    let crash = testbox("crash", &["sh", "-c", "exit 3"]);
    let bad = testbox("bad", &["/none/such"]);
    server.plan(vec![web.clone(), taken.clone(), crash, bad]).await;
    server
        .until("all is as planned", |server| {
            server.is("web", Status::Running)
                && server.is("c0ffee", Status::Running)
                && server.containers.get("crash").is_some_and(|it| it.exit_code == Some(3) && it.next_try_ms.is_some())
                && server.failures.iter().any(|failed| failed.uuid == "bad" && failed.last)
                && server.containers.values().any(|it| it.uuid.is_none() && it.status == Status::Running)
        })
        .await;
    assert_eq!(server.network, Some(Some("not in this test".into())));
    let seen = server.containers["web"].clone();
    assert_eq!((seen.ports[0].public, seen.ports[0].private, seen.start_serial), (Some(8080), 80, 1));
    assert!(seen.mounts.iter().any(|mount| mount.name.as_deref() == Some("data") && mount.path == "/data"));
    let inspect = seen.inspect.clone().expect("is shown whole");
    assert!(inspect["Config"]["Env"].as_array().is_some_and(|env| env.contains(&json!("A=b c"))));
    let name = server.containers["c0ffee"].inspect.as_ref().expect("is shown whole")["Name"].clone();
    assert_eq!(name, "/c0ffee", "r-taken was taken");
    let why = server.failures.iter().find(|failed| failed.uuid == "bad").expect("is told").message.clone();
    assert!(why.starts_with("cannot start the container: ") && why.contains("/none/such"), "{why}");

    // Streams.
    let mut link = server.stream(exec("web", &["sh", "-c", "cat; exit 5"], true)).await;
    link.send(chunk(Channel::Stdin, b"through")).await.expect("is heard");
    let closed = serde_json::to_vec(&Control::StdinClosed).expect("JSON");
    link.send(chunk(Channel::Control, &closed)).await.expect("is heard");
    let mut said = Vec::new();
    while let Some(Ok(message)) = link.receive().await {
        said.push(split(message).expect("a chunk"));
    }
    let exit = serde_json::to_vec(&Control::Exit { code: 5 }).expect("JSON");
    assert_eq!(said, [(Channel::Stdout, "through".into()), (Channel::Control, exit.into())]);
    let mut link = server.stream(StreamRequest::ContainerStats { containers: BTreeMap::new() }).await;
    let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
    let samples: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
    assert!(samples[0]["memory"]["usage"].as_u64() > Some(0), "{samples}");
    drop(link);
    let mut link = server.stream(StreamRequest::DockerSocket).await;
    link.send(chunk(Channel::Stdin, b"GET /_ping HTTP/1.0\r\n\r\n")).await.expect("is heard");
    let (_, data) = split(link.receive().await.expect("answers").expect("reads")).expect("a chunk");
    assert!(data.starts_with(b"HTTP/1.0 200"), "{data:?}");
    drop(link);

    // The daemon is killed and comes back: what was running runs again, and is counted.
    tokio::task::block_in_place(|| host.restart_dockerd()).expect("restarts");
    server
        .until("web was started again", |server| {
            server.is("web", Status::Running) && server.containers["web"].started_at > seen.started_at
        })
        .await;

    // The agent is cut off mid-way and begins anew: nothing healthy is restarted.
    let started = server.containers["web"].started_at;
    tasks.shut_down(Duration::from_secs(5)).await;
    let tasks = Tasks::new();
    let mut server = start_agent(&bed, &tasks);
    server.accept().await;
    server.until("all is reported", |server| server.n_complete > 0 && server.is("web", Status::Running)).await;
    assert_eq!(server.containers["web"].started_at, started);

    // Somebody deletes one by hand: it is told, and stays gone.
    host.docker(&["rm", "-f", "c0ffee"]).expect("deletes");
    server.until("it is gone", |server| server.confirmed.contains("c0ffee")).await;

    let stopped = ContainerPlan { desired: Desired::Stopped, ..web };
    server.plan(vec![stopped]).await;
    server.until("web is stopped", |server| server.is("web", Status::Exited)).await;
    let volumes = VolumeCleanup { names: vec!["data".into()] };
    let removal = Removal { uuid: "web".into(), docker_id: None, volumes };
    server.update(PlanUpdate { removals: vec![removal], ..PlanUpdate::default() }).await;
    server.until("web is removed", |server| server.confirmed.contains("web")).await;
    let left = host.docker(&["volume", "ls", "-q"]).expect("lists");
    assert!(!left.lines().any(|name| name == "data"), "{left}");
    // The crash loop, the one that never started, the native one: not in the plan any more, left alone.
    assert_eq!(host.docker(&["ps", "-aq"]).expect("lists").lines().count(), 3);
    assert!(tasks.shut_down(Duration::from_secs(5)).await);
}
