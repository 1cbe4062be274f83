//! The simulated engine against what the platform relies on.

use super::*;
use crate::engine::Chunk;

fn engine() -> Simulated {
    Simulated::new(Seams::seeded(1, 1_800_000_000_000), Latency::usual())
}

fn silent() -> Progress {
    Arc::new(|_, _| {})
}

async fn run(engine: &Simulated, name: &str, body: Value) -> Result<String, Error> {
    engine.pull(body["Image"].as_str().expect("has an image"), silent()).await?;
    let id = engine.create(name, &body).await?;
    engine.start(&id).await?;
    Ok(id)
}

async fn seen(engine: &Simulated, id: &str) -> inspect::Container {
    inspect::read(&engine.inspect(id).await.expect("is there")).expect("reads")
}

#[tokio::test(start_paused = true)]
async fn a_container_lives_and_ends_as_asked() {
    let engine = engine();
    let missing = engine.create("a", &json!({ "Image": "sim:web" })).await;
    assert_eq!(missing, Err(Error::NotFound("No such image: sim:web".into())));
    let id = run(&engine, "a", json!({ "Image": "sim:run-for/2s/exit/3" })).await.expect("runs");
    assert_eq!(seen(&engine, &id).await.status, Status::Running);
    let mut events = engine.events().await.expect("listens");
    assert_eq!(events.next().await, Some(Ok(Event::Container { docker_id: id.clone() })));
    let ended = seen(&engine, &id).await;
    assert_eq!((ended.status, ended.exit_code), (Status::Exited, Some(3)));
    engine.remove(&id).await.expect("removes");
    assert!(matches!(engine.inspect(&id).await, Err(Error::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_is_refused_as_docker_does() {
    let engine = engine();
    let body = json!({ "Image": "sim:web", "ExposedPorts": { "80/tcp": {} },
        "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] } } });
    let first = run(&engine, "a", body.clone()).await.expect("runs");
    assert!(matches!(engine.create("a", &body).await, Err(Error::Conflict(_))));
    let second = engine.create("b", &body).await.expect("creates");
    let refused = engine.start(&second).await.expect_err("port is taken");
    assert!(refused.to_string().contains("port is already allocated"), "{refused}");
    engine.stop(&first, 10).await.expect("stops");
    engine.start(&second).await.expect("port is free");
    assert_eq!(seen(&engine, &second).await.ports[0].public, Some(8080));
}

#[tokio::test(start_paused = true)]
async fn a_restart_policy_starts_again() {
    let engine = engine();
    let body = json!({ "Image": "sim:run-for/1s/exit/1", "HostConfig": { "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 1 } } });
    let id = run(&engine, "a", body).await.expect("runs");
    engine.inner.seams.clock.sleep(Duration::from_millis(1100)).await;
    assert_eq!(seen(&engine, &id).await.status, Status::Restarting);
    engine.inner.seams.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(seen(&engine, &id).await.status, Status::Exited);
}

#[tokio::test(start_paused = true)]
async fn exec_answers_and_has_an_exit_code() {
    let engine = engine();
    let id = run(&engine, "a", json!({ "Image": "sim:web" })).await.expect("runs");
    let command = ["sh", "-c", "echo hi; exit 4"].map(str::to_owned).to_vec();
    let mut process = engine.exec(&id, ExecQuery { command, ..ExecQuery::default() }).await.expect("execs");
    assert_eq!(process.output.next().await, Some(Ok(Chunk::Stdout("hi\n".into()))));
    assert_eq!(process.output.next().await, None);
    assert_eq!(engine.exec_exit_code(&process.id).await, Ok(Some(4)));
}

#[tokio::test(start_paused = true)]
async fn logs_follow_to_the_end() {
    let engine = engine();
    let id = run(&engine, "a", json!({ "Image": "sim:run-for/2500ms/exit/3" })).await.expect("runs");
    let logs = engine.logs(&id, LogsQuery { follow: true, ..LogsQuery::default() }).await.expect("logs");
    let lines: Vec<_> = logs.map(|chunk| chunk.expect("reads")).collect().await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(matches!(&lines[3], Chunk::Stderr(text) if text.ends_with(b" ends with exit code 3\n")));
    let last = engine.logs(&id, LogsQuery { lines: Some(1), ..LogsQuery::default() }).await.expect("logs");
    assert_eq!(last.count().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_engine_answers_nothing_and_comes_back() {
    let engine = engine();
    let id = run(&engine, "a", json!({ "Image": "sim:web" })).await.expect("runs");
    let mut events = engine.events().await.expect("listens");
    engine.set_reachable(false);
    assert_eq!(events.next().await, None);
    assert!(engine.list().await.expect_err("is away").is_unreachable());
    engine.set_reachable(true);
    assert_eq!(seen(&engine, &id).await.status, Status::Running);
}
