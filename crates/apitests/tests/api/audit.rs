//! The audit log (`access-control.md` §11).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(writes_are_logged_and_reads_are_not);

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
