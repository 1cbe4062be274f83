//! Health checks over the API (`scheduling-and-health.md` §8).

use remuda_apitests::{Api, Harness, PATIENCE, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(declared_in_full, old_agents_report_by_event);

fn own(row: &Value) -> &str {
    row["links"]["self"].as_str().unwrap()
}

/// The hosts that check the container, when there are that many.
async fn checkers(project: &Api, container: &Value, n: usize) -> Vec<Value> {
    let list = format!("healthcheckinstancehostmaps?state=active&instanceId={}", container["id"].as_str().unwrap());
    let looking = async {
        loop {
            let found = project.get(&list).await.body["data"].as_array().cloned().unwrap_or_default();
            if found.len() == n {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("waited for {n} hosts that check: {:?}", project.get(&list).await),
    }
}

async fn declared_in_full(h: Harness) {
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    let check = json!({
        "name": "mine", "port": 80, "requestLine": "GET / HTTP/1.0", "interval": 500, "responseTimeout": 300,
        "healthyThreshold": 1, "unhealthyThreshold": 4, "initializingTimeout": 60000, "reinitializingTimeout": 50000,
        "strategy": "recreateOnQuorum", "recreateOnQuorumStrategyConfig": {"quorum": 2},
    });
    let with = |check: Value| json!({"imageUuid": "sim:x", "healthCheck": check});
    let service = |check: Value| json!({"name": "web", "environmentId": stack["id"], "launchConfig": with(check)});
    for (wrong, code, field) in [
        (json!({}), "MissingRequired", "port"),
        (json!({"port": 0}), "MinLimitExceeded", "port"),
        (json!({"port": 65536}), "MaxLimitExceeded", "port"),
        (json!({"port": 80, "strategy": "pray"}), "InvalidOption", "strategy"),
        (json!({"port": 80, "interval": "soon"}), "InvalidFormat", "interval"),
        (json!({"port": 80, "requestLine": "x".repeat(4097)}), "MaxLengthExceeded", "requestLine"),
        (json!({"port": 80, "recreateOnQuorumStrategyConfig": {}}), "MissingRequired", "quorum"),
    ] {
        project.post("services", service(wrong.clone())).await.expect_error(422, code, Some(field));
        project.post("containers", with(wrong)).await.expect_error(422, code, Some(field));
    }
    let made = project.create("services", service(check.clone())).await;
    let made = project.wait_state(&made, &["inactive"]).await;
    let kept = |row: &Value| {
        let entries = check.as_object().unwrap().iter();
        entries.filter(|(key, value)| row[key] != **value && *key != "recreateOnQuorumStrategyConfig").count()
    };
    assert_eq!(kept(&made["launchConfig"]["healthCheck"]), 0, "{made}");
    assert_eq!(made["launchConfig"]["healthCheck"]["recreateOnQuorumStrategyConfig"]["quorum"], 2);
    let small = project.create("containers", with(json!({"port": 80}))).await;
    assert_eq!(
        (&small["healthCheck"]["strategy"], &small["healthCheck"]["interval"]),
        (&json!("recreate"), &Value::Null)
    );
}

async fn old_agents_report_by_event(h: Harness) {
    let hosts = h.hosts(4).await;
    let project = h.project();
    // Nobody but this test finds anything out.
    let check = json!({"port": 80, "interval": 86_400_000, "strategy": "none"});
    let body = json!({"name": "x", "imageUuid": "sim:x", "healthCheck": check, "requestedHostId": hosts[0]["id"]});
    let container = project.create("containers", body).await;
    let container = project.wait_state(&container, &["running"]).await;
    let maps = checkers(&project, &container, 3).await;
    assert!(maps.iter().all(|map| map["hostId"] != hosts[0]["id"]), "the own host checks: {maps:?}");
    let name_of = |map: &Value| {
        let host = hosts.iter().find(|host| host["id"] == map["hostId"]).unwrap();
        host["name"].as_str().or(host["hostname"].as_str()).unwrap().to_owned()
    };
    let run = container["startCount"].as_i64().unwrap();
    let uuid = |map: &Value| format!("{}_{run}", map["uuid"].as_str().unwrap());
    let event = |uuid: String, health: &str, at: i64| json!({"healthcheckUuid": uuid, "reportedHealth": health, "externalTimestamp": at});
    let health = async |expected: &str| {
        project.wait(&container, expected, |row| row["healthState"] == expected).await;
    };
    let agents: Vec<Api> = maps.iter().map(|map| h.agent(&name_of(map))).collect();
    let says = async |n: usize, health: &str, at: i64| {
        agents[n].post("serviceevents", event(uuid(&maps[n]), health, at)).await.expect_status(201).body
    };
    let without_time = json!({"healthcheckUuid": uuid(&maps[0]), "reportedHealth": "UP"});
    let answer = agents[0].post("serviceevents", without_time).await;
    answer.expect_error(422, "MissingRequired", Some("externalTimestamp"));
    for (who, what) in [(0, "none_1".to_owned()), (0, String::new()), (1, uuid(&maps[0]))] {
        agents[who].post("serviceevents", event(what, "UP", 5_000_000_000)).await.expect_error(
            403,
            "CantVerifyHealthcheck",
            None,
        );
    }

    let late = 5_000_000_000;
    says(0, "INIT", late).await;
    let first = says(0, "UP", late).await;
    assert_eq!((&first["type"], &first["instanceId"]), (&json!("serviceEvent"), &container["id"]));
    project.wait_state(&first, &["created"]).await;
    health("healthy").await;
    for n in [1, 2] {
        says(n, "UP", late).await;
    }
    says(1, "DOWN", late + 1).await;
    says(2, "MAINT", late + 1).await;
    says(0, "DOWN", late - 1).await;
    let other = event(format!("{}_{}", maps[0]["uuid"].as_str().unwrap(), run + 1), "DOWN", late + 1);
    agents[0].post("serviceevents", other).await.expect_status(201);
    let voted = project.get(own(&maps[0])).await.body;
    assert_eq!(voted["healthState"], "healthy", "an older report, and one about another start, changed a vote");
    assert_eq!(project.get(own(&container)).await.body["healthState"], "healthy", "two of three is not all");
    says(0, "DOWN", late + 2).await;
    health("unhealthy").await;
    says(2, "UP", late + 3).await;
    health("healthy").await;
    let read = project.get(&format!("{}/healthcheckInstanceHostMaps", own(&container))).await.expect_status(200);
    assert_eq!(read.body["data"].as_array().map(Vec::len), Some(3));
    project.get(&format!("{}/serviceEvents", own(&container))).await.expect_status(200);
}
