//! Build contexts on the server and on the hosts that build (`compose.md` §11).

use remuda_agent::engine::simulated::Simulated;
use remuda_apitests::{Api, Harness, on_both_stores};
use remuda_server::ServerState;
use remuda_server::contexts::keep;
use serde_json::{Value, json};

on_both_stores!(
    compose_11_a_context_is_kept_once_for_its_project,
    compose_11_what_is_too_much_is_refused,
    compose_11_every_host_builds_once,
    compose_11_a_build_that_fails_says_why,
    compose_11_what_nobody_names_goes,
);

/// `hello`, and its hash.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn engines(h: &Harness) -> Vec<Simulated> {
    h.engines.lock().unwrap().clone()
}

fn state(h: &Harness) -> &ServerState {
    &h.running.as_ref().unwrap().state
}

fn path(hash: &str) -> String {
    format!("buildcontexts/{hash}")
}

async fn put(api: &Api, hash: &str, text: &str) -> remuda_apitests::Answer {
    api.send("PUT", &path(hash), Some(text.as_bytes().to_vec())).await
}

async fn service(project: &Api, name: &str, scale: i64, hash: &str) -> Value {
    let stack = project.create("environments", json!({"name": format!("s{name}")})).await;
    let build = json!({"context": format!("/v1/buildcontexts/{hash}"), "dockerfile": "Dockerfile"});
    let config = json!({"imageUuid": format!("sim:{name}:ctx-1"), "build": build});
    let body = json!({"name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
                      "launchConfig": config});
    project.create("services", body).await
}

async fn compose_11_a_context_is_kept_once_for_its_project(h: Harness) {
    let project = h.project();
    project.send("HEAD", &path(HELLO), None).await.expect_status(404);
    let made = put(&project, HELLO, "hello").await.expect_status(201);
    assert_eq!(made.body, json!({"hash": HELLO, "context": format!("/v1/buildcontexts/{HELLO}")}));
    project.send("HEAD", &path(HELLO), None).await.expect_status(200);
    assert_eq!(project.get(&path(HELLO)).await.expect_status(200).text, "hello");
    // Whatever comes again under that name is not even looked at.
    put(&project, HELLO, "something else").await.expect_status(200);
    assert_eq!(project.get(&path(HELLO)).await.text, "hello");

    // Another project has none of it, and nobody has it outside of projects.
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let other = h.admin().wait_state(&other, &["active"]).await["id"].as_str().unwrap().to_owned();
    h.admin().inside(&other).get(&path(HELLO)).await.expect_error(404, "Not Found", None);
    h.admin().get(&path(HELLO)).await.expect_error(404, "Not Found", None);
    h.anonymous().get(&path(HELLO)).await.expect_error(401, "Unauthorized", None);
    put(&h.anonymous().inside("1a5"), HELLO, "hello").await.expect_error(401, "Unauthorized", None);
    for name in ["x", "..%2F..%2Fremuda.db", &HELLO.to_uppercase()] {
        project.get(&path(name)).await.expect_error(404, "Not Found", None);
        put(&project, name, "hello").await.expect_error(404, "Not Found", None);
    }
}

async fn compose_11_what_is_too_much_is_refused(h: Harness) {
    let project = h.project();
    let other = "0".repeat(64);
    let refused = put(&project, &other, "hello").await.expect_error(400, "InvalidBodyContent", None);
    assert!(refused.text.contains(HELLO), "{}", refused.text);
    for (name, value) in [("build.context.max.bytes", "4"), ("build.context.max.count", "1")] {
        h.admin().put(&format!("settings/1as!{name}"), json!({"value": value})).await.expect_status(200);
    }
    let missing = project.send("HEAD", &path(HELLO), None).await.expect_status(404);
    assert_eq!(missing.header("x-build-context-max-bytes"), Some("4"));
    let refused = put(&project, HELLO, "hello").await.expect_error(413, "Request Entity Too Long", None);
    assert!(refused.text.contains("build.context.max.bytes"), "{}", refused.text);
    let (a, b) = (
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
    );
    put(&project, a, "a").await.expect_status(201);
    // One that nobody names makes room; one that a service names does not.
    put(&project, b, "b").await.expect_status(201);
    project.get(&path(a)).await.expect_status(404);
    service(&project, "web", 1, b).await;
    let refused = put(&project, a, "a").await.expect_error(422, "MaxLimitExceeded", None);
    assert!(refused.text.contains("build.context.max.count"), "{}", refused.text);
    project.get(&path(b)).await.expect_status(200);
}

async fn compose_11_every_host_builds_once(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    put(&project, HELLO, "hello").await.expect_status(201);
    let service = service(&project, "web", 4, HELLO).await;
    project.wait_state(&service, &["active"]).await;
    let built = || -> Vec<_> { engines(&h).iter().map(|engine| engine.builds()).collect() };
    let once = vec![("sim:web:ctx-1".to_owned(), 5)];
    assert_eq!(built(), vec![once.clone(), once.clone()]);

    // A host that joins later builds for itself.
    let token = h.token().await;
    let third = h.host(3, &token).await;
    h.seams.tasks.spawn("host", async move { drop(third.await) });
    let joined = async {
        while project.get("hosts?state=active").await.column("id").len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(remuda_apitests::PATIENCE, joined).await.expect("the third host is active");
    project.put(service["links"]["self"].as_str().unwrap(), json!({"scale": 6})).await.expect_status(200);
    project.wait(&service, "six", |row| row["state"] == "active" && row["createIndex"] == 6).await;
    let engines = engines(&h);
    let third = engines.last().unwrap();
    let used = third.census().iter().any(|container| container.is_up);
    assert_eq!((used, third.builds()), (true, once));
}

async fn compose_11_a_build_that_fails_says_why(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let missing = service(&project, "web", 1, HELLO).await;
    let told = project
        .wait(&missing, "the reason", |row| {
            row["transitioningMessage"].as_str().unwrap_or_default().contains("does not keep that build context")
        })
        .await;
    let message = told["transitioningMessage"].as_str().unwrap();
    assert!(message.contains("cannot build image `sim:web:ctx-1`"), "{message}");
    // It comes as soon as the context does.
    put(&project, HELLO, "hello").await.expect_status(201);
    project.wait_state(&missing, &["active"]).await;
}

async fn compose_11_what_nobody_names_goes(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    put(&project, HELLO, "hello").await.expect_status(201);
    let service = service(&project, "web", 1, HELLO).await;
    project.wait_state(&service, &["active"]).await;
    for name in ["build.context.keep.seconds", "object.remove.time.delay.seconds"] {
        h.admin().put(&format!("settings/1as!{name}"), json!({"value": "0"})).await.expect_status(200);
    }
    keep::pass(state(&h)).await.expect("a pass");
    project.send("HEAD", &path(HELLO), None).await.expect_status(200);

    // The version before is named, whether the service can still go back to it or not; the one before that is not.
    for image in ["sim:new", "sim:newer"] {
        let row = project.get(service["links"]["self"].as_str().unwrap()).await.body;
        let upgrade = json!({"inServiceStrategy": {"launchConfig": {"imageUuid": image}, "intervalMillis": 100}});
        keep::pass(state(&h)).await.expect("a pass");
        project.send("HEAD", &path(HELLO), None).await.expect_status(200);
        project.post(row["actions"]["upgrade"].as_str().unwrap(), upgrade).await.expect_status(202);
        let upgraded = project.wait_state(&service, &["upgraded"]).await;
        project.post(upgraded["actions"]["finishupgrade"].as_str().unwrap(), json!({})).await.expect_status(202);
        project.wait_state(&service, &["active"]).await;
    }
    let gone = async {
        loop {
            keep::pass(state(&h)).await.expect("a pass");
            if project.send("HEAD", &path(HELLO), None).await.status == 404 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(remuda_apitests::PATIENCE, gone).await.expect("goes when nothing names it");
}
