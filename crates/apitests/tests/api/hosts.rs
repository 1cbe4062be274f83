//! Containers and services on simulated hosts, through the API alone.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::StreamExt;
use remuda_apitests::{Harness, On, PATIENCE, on_both_stores};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

on_both_stores!(
    a_container_lives_and_dies,
    a_service_keeps_its_scale,
    streams_open_with_their_token,
    an_engine_that_is_away_is_shown
);

/// An engine that stops answering is named on its host, which takes nothing new until it is back.
async fn an_engine_that_is_away_is_shown(h: Harness) {
    let host = h.hosts(1).await.remove(0);
    assert!(host["engineProblem"].is_null() && host["networkProblem"].is_null(), "{host}");
    let project = h.project();
    let reach = |reachable| h.engines.lock().unwrap()[0].set_reachable(reachable);
    reach(false);
    project.wait(&host, "the problem", |host| host["engineProblem"].is_string()).await;
    let refused = project.create("containers", json!({"name": "x", "imageUuid": "sim:x"})).await;
    let refused = project.wait_state(&refused, &["error"]).await;
    let message = refused["transitioningMessage"].as_str().unwrap();
    assert!(message.starts_with("Scheduling failed: host needs a Docker Engine that answers ("), "{message}");
    reach(true);
    project.wait(&host, "no problem", |host| host["engineProblem"].is_null()).await;
    let made = project.create("containers", json!({"name": "y", "imageUuid": "sim:y"})).await;
    project.wait_state(&made, &["running"]).await;
}

#[tokio::test]
async fn simulated_hosts_need_a_server_that_takes_them() {
    let h = Harness::without_simulator(On::Memory).await;
    let token = h.token().await;
    let refused = h.host(1, &token).await.await.expect_err("refused");
    let chain = format!("{:#}", std::error::Error::source(&refused).expect("has a cause"));
    assert!(chain.contains("start it with `--simulator`"), "{chain}");
    assert_eq!(h.project().get("hosts").await.column("id"), Vec::<Value>::new());
}

async fn a_container_lives_and_dies(h: Harness) {
    let hosts = h.hosts(2).await;
    assert_eq!(hosts[0]["kind"], "sim");
    assert!(hosts[0]["info"]["cpuInfo"].is_object() || hosts[0]["info"].is_object());
    let project = h.project();
    let body = json!({"name": "web", "imageUuid": "sim:web", "labels": {"a": "b"}, "requestedHostId": hosts[1]["id"]});
    let made = project.create("containers", body).await;
    assert_eq!((&made["state"], &made["transitioning"]), (&json!("creating"), &json!("yes")));
    let running = project.wait_state(&made, &["running"]).await;
    assert_eq!((&running["transitioning"], &running["hostId"]), (&json!("no"), &hosts[1]["id"]));
    assert!(running["primaryIpAddress"].as_str().unwrap().starts_with("10.42."), "{running}");
    let own = running["links"]["self"].as_str().unwrap();
    for link in ["hosts", "account", "instanceLabels", "ports", "volumes"] {
        project.get(running["links"][link].as_str().unwrap()).await.expect_status(200);
    }
    assert_eq!(project.get(&format!("{own}/hosts")).await.column("id"), [hosts[1]["id"].clone()]);
    let acted =
        project.post(running["actions"]["stop"].as_str().unwrap(), json!({"timeout": 0})).await.expect_status(202);
    assert!(matches!(acted.body["state"].as_str(), Some("stopping" | "stopped")), "{acted:?}");
    let stopped = project.wait_state(&made, &["stopped"]).await;
    assert!(stopped["actions"]["execute"].is_null() && stopped["actions"]["start"].is_string());
    project.post(&format!("{own}/?action=execute"), json!({"command": ["x"]})).await.expect_error(
        422,
        "ActionNotAvailable",
        Some("action"),
    );
    project.post(&format!("{own}/?action=start"), json!({})).await.expect_status(202);
    project.wait_state(&made, &["running"]).await;
    project.post(&format!("{own}/?action=start"), json!({})).await.expect_status(202);
    let deleted = project.delete(own).await.expect_status(200);
    assert!(matches!(deleted.body["state"].as_str(), Some("stopping" | "removing" | "removed")), "{deleted:?}");
    let removed = project.wait_state(&made, &["removed"]).await;
    assert!(removed["removed"].is_string() && removed["removedTS"].is_i64());
    project.delete(own).await.expect_status(200);
    assert!(project.get("containers?removed_null=1").await.column("id").is_empty());
    assert_eq!(project.get("containers").await.column("state"), ["removed"], "listed for a minute");
}

async fn a_service_keeps_its_scale(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    let body =
        json!({"name": "web", "environmentId": stack["id"], "scale": 2, "launchConfig": {"imageUuid": "sim:web"}});
    let service = project.create("services", body).await;
    let inactive = project.wait_state(&service, &["inactive"]).await;
    project.post(inactive["actions"]["activate"].as_str().unwrap(), json!({})).await.expect_status(202);
    let active = project.wait_state(&service, &["active"]).await;
    let own = active["links"]["self"].as_str().unwrap();
    let instances = project.get(&format!("{own}/instances")).await.expect_status(200);
    assert_eq!(instances.column("name"), ["s_web_1", "s_web_2"]);
    assert_eq!(instances.column("state"), ["running", "running"]);
    let scaled = project.put(own, json!({"scale": 3})).await.expect_status(200);
    assert_eq!(scaled.body["state"], "updating-active");
    project.wait_state(&service, &["active"]).await;
    let included = project.get("services?include=instances&name=web").await.expect_status(200);
    assert_eq!(included.body["data"][0]["instances"].as_array().map(Vec::len), Some(3));
    let access = project.get(&format!("{own}/containerstats")).await.expect_status(200);
    assert!(access.body["url"].as_str().unwrap().ends_with("/v1/containerstats/service/"));
    project.delete(own).await.expect_status(200);
    project.wait_state(&service, &["removed"]).await;
    project.delete(stack["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&stack, &["removed"]).await;
}

/// Text frames of a socket until it closes or enough is there.
async fn frames(access: &Value, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let url = format!("{}?token={}", access["url"].as_str().unwrap(), access["token"].as_str().unwrap());
    let (mut socket, _) = connect_async(url).await.expect("101");
    let reading = async {
        let mut found = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                found.push(text.to_string());
            }
            if enough(&found) {
                break;
            }
        }
        found
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the stream says enough")
}

async fn streams_open_with_their_token(h: Harness) {
    let hosts = h.hosts(1).await;
    let project = h.project();
    let made = project.create("containers", json!({"imageUuid": "sim:lines/5"})).await;
    let running = project.wait_state(&made, &["running"]).await;
    let own = running["links"]["self"].as_str().unwrap();
    let act = async |action: &str, input: Value| {
        let answer = project.post(&format!("{own}/?action={action}"), input).await.expect_status(200);
        assert_eq!((&answer.body["type"], &answer.body["id"]), (&json!("hostAccess"), &Value::Null));
        answer.body
    };
    let logs = act("logs", json!({"follow": false, "lines": 2})).await;
    assert!(logs["url"].as_str().unwrap().starts_with("ws://") && logs["url"].as_str().unwrap().ends_with("/v1/logs/"));
    let lines = frames(&logs, |_| false).await;
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.starts_with("01 ") || line.starts_with("00 ")),
        "{lines:?}"
    );
    let exec = act("execute", json!({"command": ["echo", "hello"], "attachStdin": false})).await;
    let output = frames(&exec, |_| false).await.concat();
    let said = BASE64_STANDARD.decode(&output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(said.as_deref().is_ok_and(|said| said.contains("hello")), "{output:?}");
    project.post(&format!("{own}/?action=execute"), json!({})).await.expect_error(
        422,
        "MissingRequired",
        Some("command"),
    );
    let proxy = act("proxy", json!({"port": 8080})).await;
    assert!(proxy["url"].as_str().unwrap().ends_with("/v1/container-proxy/"));
    let stats = project.get(running["links"]["containerStats"].as_str().unwrap()).await.expect_status(200).body;
    assert_eq!(stats["type"], "statsAccess");
    let samples = frames(&stats, |found| !found.is_empty()).await;
    let sample: Value = serde_json::from_str(&samples[0]).unwrap();
    assert_eq!((&sample[0]["id"], &sample[0]["resourceType"]), (&running["id"], &json!("container")));
    let host = project.get(hosts[0]["links"]["hostStats"].as_str().unwrap()).await.expect_status(200).body;
    let samples = frames(&host, |found| !found.is_empty()).await;
    let sample: Value = serde_json::from_str(&samples[0]).unwrap();
    assert_eq!((&sample[0]["id"], &sample[0]["resourceType"]), (&hosts[0]["id"], &json!("host")));
    let all = project.get(project.get("/v1/projects/1a5").await.body["links"]["hostStats"].as_str().unwrap()).await;
    assert!(all.expect_status(200).body["url"].as_str().unwrap().ends_with("/v1/hoststats/project/"));
    let socket =
        project.post(hosts[0]["actions"]["dockersocket"].as_str().unwrap(), json!({})).await.expect_status(200);
    assert!(socket.body["url"].as_str().unwrap().ends_with("/v1/dockersocket/"));
    // Nothing else opens them.
    for token in ["", "x", "x.y"] {
        let answer = h.anonymous().get(&format!("/v1/logs/?token={token}")).await.expect_status(401);
        assert_eq!(answer.text, "Failed authentication");
    }
}
