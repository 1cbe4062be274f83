//! The audit log (`access-control.md` §11).

use remuda_apitests::{Api, Harness, PATIENCE, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(writes_are_logged_and_reads_are_not, services_8_what_reconcile_does_is_told_on_the_service);

async fn writes_are_logged_and_reads_are_not(h: Harness) {
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    project.put("environments/1e999", json!({"name": "t"})).await.expect_status(404);
    project.post("environments", json!({"name": "bad name!"})).await;
    project.get("environments").await.expect_status(200);
    h.anonymous().post("/v1/projects/1a5/environments", json!({})).await.expect_status(401);
    let logs = h.admin().get("auditlogs?sort=id").await.expect_status(200);
    let find = |event: &str, code: &str| {
        let logs = logs.body["data"].as_array().unwrap();
        logs.iter().find(|log| log["eventType"] == event && log["responseCode"] == code).cloned()
    };
    let made = find("api.stack.create", "201").expect("the creation is logged");
    assert_eq!(
        (&made["accountId"], &made["authenticatedAsAccountId"], &made["resourceType"], &made["resourceId"]),
        (&json!("1a5"), &json!("1a1"), &json!("environment"), &stack["id"])
    );
    assert_eq!((&made["authType"], &made["clientIp"]), (&json!("BasicAuth"), &json!("127.0.0.1")));
    assert_eq!(made["authenticatedAsIdentityId"], "1i!rancher_id:1a1");
    assert_eq!(serde_json::from_str::<Value>(made["requestObject"].as_str().unwrap()).unwrap()["name"], "s");
    assert!(find("api.stack.update", "404").is_some());
    assert_eq!(logs.column("eventType").iter().filter(|event| *event == "api.stack.create").count(), 2);
    for (name, url) in made["links"].as_object().unwrap() {
        h.admin().get(url.as_str().unwrap()).await.expect_status(200);
        assert_ne!(name, "");
    }
    // Each project sees its own.
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let newest = h.admin().get("auditlogs?limit=1").await.column("eventType");
    assert_eq!(newest, ["api.environment.create"]);
    assert_eq!(other["type"], "project");
    let inside = project.get("auditlogs").await.column("accountId");
    assert!(!inside.is_empty() && inside.iter().all(|account| account == "1a5"));
    let id = stack["id"].as_str().unwrap();
    let found = project.get(&format!("auditlogs?resourceType=environment&resourceId={id}")).await;
    assert_eq!(found.column("eventType"), ["api.stack.create"]);
    project.post("auditlogs", json!({})).await.expect_error(405, "Method not allowed", None);
}

async fn services_8_what_reconcile_does_is_told_on_the_service(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    let service = async |name: &str, image: &str, scale: u32| {
        let config = json!({"imageUuid": image});
        let body = json!({"name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
                          "launchConfig": config});
        project.create("services", body).await
    };
    let web = service("web", "sim:web", 2).await;
    let own = web["links"]["self"].as_str().unwrap();
    project.wait_state(&web, &["active"]).await;
    until(&project, &web, "Created: s_web_1, s_web_2").await;
    project.put(own, json!({"scale": 1})).await.expect_status(200);
    project.wait_state(&web, &["active"]).await;
    until(&project, &web, "Removed because the scale is 1: s_web_2").await;
    let first = project.get("containers?name=s_web_1").await.body["data"][0].clone();
    project.delete(first["links"]["self"].as_str().unwrap()).await.expect_status(200);
    until(&project, &web, "Created: s_web_1").await;
    let job = service("job", "sim:run-for/20ms/exit/3", 1).await;
    until(&project, &job, "s_job_1: Exited with code 3").await;
    let lines = project.get(&log(&web)).await.expect_status(200);
    assert!(lines.column("eventType").iter().any(|event| event == "service.reconcile"));
    assert!(lines.column("accountId").iter().all(|account| account == "1a5"));
}

fn log(service: &Value) -> String {
    format!("auditlogs?resourceType=service&resourceId={}", service["id"].as_str().unwrap())
}

/// Reads the log of the service until it has that line.
async fn until(project: &Api, service: &Value, line: &str) {
    let reading = async {
        loop {
            let lines = project.get(&log(service)).await.expect_status(200).column("description");
            if lines.iter().any(|text| text.as_str().is_some_and(|text| text.starts_with(line))) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        panic!("waited for `{line}`: {:?}", project.get(&log(service)).await.column("description"));
    }
}
