//! Affinity rules on simulated hosts (`scheduling-and-health.md` §§4, 5).

use std::collections::BTreeSet;

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Map, Value, json};

on_both_stores!(scheduling_4_rules_choose_the_host, scheduling_4_4_services_spread_and_follow);

/// Labels of one affinity rule.
fn rule(kind: &str, value: &str) -> Value {
    Map::from_iter([(format!("io.rancher.scheduler.affinity:{kind}"), json!(value))]).into()
}

async fn placed(project: &Api, name: &str, body: Value) -> Value {
    let mut body = body;
    body["name"] = json!(name);
    body["imageUuid"] = json!("sim:x");
    let made = project.create("containers", body).await;
    project.wait_state(&made, &["running", "error"]).await
}

async fn scheduling_4_rules_choose_the_host(h: Harness) {
    let hosts = h.hosts(2).await;
    let project = h.project();
    let labels = json!({"labels": {"Disk": "ssd"}});
    project.put(hosts[1]["links"]["self"].as_str().unwrap(), labels).await.expect_status(200);
    project.wait_state(&hosts[1], &["active"]).await;

    let db = placed(&project, "db", json!({"labels": rule("host_label", "disk=SSD")})).await;
    assert_eq!(db["hostId"], hosts[1]["id"]);
    let beside = placed(&project, "beside", json!({"labels": rule("container", "DB")})).await;
    assert_eq!(beside["hostId"], hosts[1]["id"]);
    let variable = placed(&project, "variable", json!({"environment": {"constraint:disk==ssd": ""}})).await;
    assert_eq!(variable["hostId"], hosts[1]["id"]);
    // The other host has room, and is still not taken.
    for (kind, value, text) in [
        ("host_label", "disk=hdd", "needs host with label disk: hdd"),
        ("container_label", "role=web", "host must have a container with label role=web"),
    ] {
        let refused = placed(&project, "refused", json!({"labels": rule(kind, value)})).await;
        let expected = format!("Scheduling failed: {text} (excluded of 2 hosts: 2 by affinity)");
        assert_eq!((&refused["state"], &refused["transitioningMessage"]), (&json!("error"), &json!(expected)));
    }
    let soft = placed(&project, "soft", json!({"labels": rule("host_label_soft", "disk=hdd")})).await;
    assert_eq!(soft["hostId"], hosts[0]["id"], "the emptier one");

    // The labels of a container are those it has now, not those it was made with.
    let set = json!({"labels": {"role": "web"}});
    project.post(soft["actions"]["setlabels"].as_str().unwrap(), set).await.expect_status(200);
    let follower = placed(&project, "follower", json!({"labels": rule("container_label", "role=web")})).await;
    assert_eq!(follower["hostId"], hosts[0]["id"]);
}

async fn scheduling_4_4_services_spread_and_follow(h: Harness) {
    h.hosts(3).await;
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    let service = async |name: &str, scale: usize, labels: Value| {
        let config = json!({"imageUuid": "sim:x", "labels": labels});
        let body = json!({"name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
                          "launchConfig": config});
        let made = project.create("services", body).await;
        project.wait_state(&made, &["active"]).await;
        let rows = project.get(&format!("{}?removed_null=1", made["links"]["instances"].as_str().unwrap())).await;
        let rows = rows.expect_status(200).body["data"].as_array().unwrap().clone();
        assert_eq!(rows.len(), scale, "{name}");
        rows
    };
    let hosts = |rows: &[Value]| rows.iter().map(|row| row["hostId"].to_string()).collect::<BTreeSet<_>>();

    let own = "io.rancher.stack_service.name=${stack_name}/${service_name}";
    let apart = service("apart", 3, rule("container_label_ne", own)).await;
    assert_eq!(hosts(&apart).len(), 3);

    let db = service("db", 1, json!({})).await;
    let web = service("web", 2, rule("container_label", "io.rancher.stack_service.name=db")).await;
    assert_eq!(hosts(&web), hosts(&db));
    let kept = &web[0]["labels"]["io.rancher.scheduler.affinity:container_label"];
    assert_eq!(kept, "io.rancher.stack_service.name=s/db");

    let soft = service("soft", 4, rule("container_label_soft_ne", own)).await;
    assert_eq!(hosts(&soft).len(), 3, "apart as far as it goes");
}
