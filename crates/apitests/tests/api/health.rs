//! Health checks over the API (`scheduling-and-health.md` §8).

use remuda_apitests::{Api, Harness, PATIENCE, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    declared_in_full,
    old_agents_report_by_event,
    what_hangs_is_replaced,
    one_that_sees_nothing_changes_nothing,
    what_never_gets_well_is_removed_or_rolled_back,
    a_restart_begins_anew,
    the_engines_own_check_is_told,
);

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
    // What the hosts themselves find out once is told before anything else.
    for map in &maps {
        project.wait(map, "a first vote", |map| map["healthState"] == "healthy").await;
    }
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
    for n in [0, 1, 2] {
        says(n, "DOWN", late - 2).await;
    }
    health("unhealthy").await;
    says(0, "INIT", late).await;
    assert_eq!(project.get(own(&maps[0])).await.body["healthState"], "unhealthy", "INIT says nothing");
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

/// Quick, so that a test need not wait.
fn quick() -> Value {
    json!({"port": 80, "interval": 100, "responseTimeout": 100, "healthyThreshold": 1, "unhealthyThreshold": 2})
}

async fn service(project: &Api, name: &str, scale: u64, config: Value) -> Value {
    let stack = project.create("environments", json!({ "name": format!("s{name}") })).await;
    let body = json!({
        "name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true, "launchConfig": config,
    });
    project.create("services", body).await
}

/// Containers of the service that are not on their way out: name, id, health.
async fn members(project: &Api, service: &Value) -> Vec<(String, String, String)> {
    let answer = project.get(&format!("{}/instances?state=running", own(service))).await;
    let rows = answer.body["data"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> =
        rows.iter().map(|row| (text(row, "name"), text(row, "id"), text(row, "healthState"))).collect();
    all.sort();
    all
}

async fn what_hangs_is_replaced(h: Harness) {
    h.hosts(3).await;
    let project = h.project();
    let web = service(&project, "web", 2, json!({"imageUuid": "sim:web", "healthCheck": quick()})).await;
    let is_well = |row: &Value| row["state"] == "active" && row["healthState"] == "healthy";
    project.wait(&web, "healthy", is_well).await;
    let before = members(&project, &web).await;
    assert!(before.len() == 2 && before.iter().all(|(_, _, health)| health == "healthy"), "{before:?}");
    let hangs = |name: &str| {
        let docker_name = format!("r-{name}");
        h.engines.lock().unwrap().iter().for_each(|engine| engine.set_healthy(&docker_name, false));
    };
    hangs("sweb_web_1");
    let old = json!({"links": {"self": h.project().url(&format!("containers/{}", before[0].1))}});
    project.wait_state(&old, &["removed", "purging", "purged"]).await;
    project.wait(&web, "healthy again", is_well).await;
    let after = members(&project, &web).await;
    assert_eq!((&after[0].0, after[0].1 == before[0].1, &after[1]), (&before[0].0, false, &before[1]));
    let stack = project.get(web["links"]["environment"].as_str().unwrap()).await.body;
    project.wait(&stack, "a healthy stack", |row| row["healthState"] == "healthy").await;
    let told = project.get("auditlogs?limit=100").await.text;
    assert!(told.contains("Replaced because it is unhealthy: sweb_web_1"), "{told}");
}

async fn one_that_sees_nothing_changes_nothing(h: Harness) {
    let hosts = h.hosts(4).await;
    let project = h.project();
    let body = json!({"name": "x", "imageUuid": "sim:x", "healthCheck": quick(), "requestedHostId": hosts[0]["id"]});
    let container = project.create("containers", body).await;
    let is = |health: &'static str| move |row: &Value| row["healthState"] == health;
    project.wait(&container, "healthy", is("healthy")).await;
    let maps = checkers(&project, &container, 3).await;
    for map in &maps {
        project.wait(map, "a yes of all", is("healthy")).await;
    }
    let sees = |numbers: &[usize], something: bool| {
        let engines = h.engines.lock().unwrap();
        numbers.iter().for_each(|number| engines[*number].set_blind(!something));
    };
    sees(&[1, 2], false);
    let no = |map: &&Value| map["hostId"] != hosts[3]["id"];
    for map in maps.iter().filter(no) {
        let voted = project.wait(map, "a no", is("unhealthy")).await;
        assert_eq!(voted["reason"], "no answer");
    }
    assert_eq!(project.get(own(&container)).await.body["healthState"], "healthy", "one of three says yes");
    sees(&[3], false);
    project.wait(&container, "unhealthy", is("unhealthy")).await;
    sees(&[2], true);
    let back = project.wait(&container, "healthy", is("healthy")).await;
    assert_eq!(back["state"], "running", "nobody replaces a container that stands alone");
}

async fn what_never_gets_well_is_removed_or_rolled_back(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let mut check = quick();
    check["initializingTimeout"] = json!(700);
    let alone = json!({"name": "alone", "imageUuid": "sim:unhealthy", "healthCheck": check});
    let alone = project.create("containers", alone).await;
    project.wait(&alone, "initializing", |row| row["healthState"] == "initializing").await;
    project.wait_state(&alone, &["removed", "purging", "purged"]).await;

    let web = service(&project, "web", 2, json!({"imageUuid": "sim:web", "healthCheck": quick()})).await;
    let is_well = |row: &Value| row["state"] == "active" && row["healthState"] == "healthy";
    project.wait(&web, "healthy", is_well).await;
    let before = members(&project, &web).await;
    let strategy = json!({"inServiceStrategy": {
        "batchSize": 1, "intervalMillis": 100, "startFirst": true, "rollbackAfterMillis": 1500,
        "launchConfig": {"imageUuid": "sim:unhealthy", "healthCheck": quick()},
    }});
    project.post(&format!("{}/?action=upgrade", own(&web)), strategy).await.expect_status(202);
    let waits = |row: &Value| row["transitioningMessage"].as_str().is_some_and(|said| said.contains("to be healthy"));
    project.wait(&web, "the upgrade to wait for health", waits).await;
    project.wait(&web, "the old ones back", is_well).await;
    let only_they = async {
        while members(&project, &web).await != before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, only_they).await.expect("the new ones to go");
}

async fn a_restart_begins_anew(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let mut check = quick();
    check["reinitializingTimeout"] = json!(1500);
    let body = json!({"name": "x", "imageUuid": "sim:healthy-after/400ms", "healthCheck": check});
    let container = project.create("containers", body).await;
    let is = |health: &'static str| move |row: &Value| row["healthState"] == health;
    project.wait(&container, "initializing", is("initializing")).await;
    let well = project.wait(&container, "healthy", is("healthy")).await;
    project.post(well["actions"]["restart"].as_str().unwrap(), json!({})).await.expect_status(202);
    project.wait(&container, "reinitializing", is("reinitializing")).await;
    let again = project.wait(&container, "healthy again", is("healthy")).await;
    assert_eq!(again["startCount"], json!(2));
    // Stopping leaves the verdict; the next start begins anew, and this time nobody finds it well.
    project.post(again["actions"]["stop"].as_str().unwrap(), json!({})).await.expect_status(202);
    let stopped = project.wait_state(&container, &["stopped"]).await;
    assert_eq!(stopped["healthState"], "healthy");
    h.engines.lock().unwrap().iter().for_each(|engine| engine.set_blind(true));
    project.post(stopped["actions"]["start"].as_str().unwrap(), json!({})).await.expect_status(202);
    project.wait(&container, "reinitializing", is("reinitializing")).await;
    project.wait_state(&container, &["removed", "purging", "purged"]).await;
}

async fn the_engines_own_check_is_told(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let config = json!({"imageUuid": "sim:x", "healthCmd": ["CMD", "true"]});
    let web = service(&project, "web", 1, config).await;
    let is = |health: &'static str| move |row: &Value| row["state"] == "active" && row["healthState"] == health;
    project.wait(&web, "healthy", is("healthy")).await;
    let before = members(&project, &web).await;
    assert_eq!(before[0].2, "healthy");
    h.engines.lock().unwrap()[0].set_healthy("r-sweb_web_1", false);
    project.wait(&web, "unhealthy", is("unhealthy")).await;
    h.engines.lock().unwrap()[0].set_healthy("r-sweb_web_1", true);
    project.wait(&web, "healthy again", is("healthy")).await;
    assert_eq!(members(&project, &web).await, before, "Docker replaces nothing, and neither do we");
    assert_eq!(project.get("healthcheckinstancehostmaps").await.column("id"), Vec::<Value>::new());
}
