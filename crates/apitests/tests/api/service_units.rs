//! Units of services on simulated hosts: sidekicks (`services.md` §7), global services (§6.2), and their checks (§4.1).

use std::collections::BTreeSet;

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_7_a_unit_is_made_and_remade_together,
    services_6_2_one_unit_on_every_host,
    services_7_a_unit_moves_where_all_of_it_fits,
    services_7_a_unit_that_was_scaled_away_is_over,
    services_6_3_as_many_units_as_the_hosts_take,
    services_8_a_crash_says_when_the_next_start_is,
    services_4_1_sidekicks_are_checked,
);

const PRIMARY: &str = "io.rancher.service.primary.launch.config";

async fn stack(project: &Api) -> Value {
    let made = project.create("environments", json!({"name": "s"})).await;
    project.wait_state(&made, &["active"]).await
}

/// Containers of a service that are not removed, by name.
async fn containers(project: &Api, service: &Value) -> Vec<Value> {
    let link = service["links"]["instances"].as_str().unwrap();
    let answer = project.get(&format!("{link}?removed_null=1")).await.expect_status(200);
    let mut rows = answer.body["data"].as_array().unwrap().clone();
    rows.retain(|row| row["removed"].is_null());
    rows.sort_by_key(|row| row["name"].to_string());
    rows
}

fn names(containers: &[Value]) -> Vec<&str> {
    containers.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

async fn services_7_a_unit_is_made_and_remade_together(h: Harness) {
    h.hosts(3).await;
    let project = h.project();
    let stack = stack(&project).await;
    let sidekick = json!({"name": "data", "imageUuid": "sim:data",
                          "labels": {"io.rancher.container.start_once": "true", "mine": "1"}});
    let body = json!({"name": "web", "environmentId": stack["id"], "scale": 2, "startOnCreate": true,
                      "launchConfig": {"imageUuid": "sim:web", "dataVolumesFromLaunchConfigs": ["data"]},
                      "secondaryLaunchConfigs": [sidekick]});
    let service = project.create("services", body).await;
    project.wait_state(&service, &["active"]).await;

    let made = containers(&project, &service).await;
    assert_eq!(names(&made), ["s_web_1", "s_web_2", "s_web_data_1", "s_web_data_2"]);
    for number in 0..2 {
        let (web, data) = (&made[number], &made[number + 2]);
        assert_eq!(web["hostId"], data["hostId"], "a unit is on one host");
        assert_eq!(web["deploymentUnitUuid"], data["deploymentUnitUuid"]);
        assert_eq!(web["dataVolumesFrom"], json!([data["id"]]));
        assert_eq!(web["labels"]["io.rancher.service.launch.config"], PRIMARY);
        assert_eq!(data["labels"]["io.rancher.service.launch.config"], "data");
        assert_eq!(data["labels"]["io.rancher.stack_service.name"], "s/web/data");
        assert_eq!((&data["labels"]["mine"], &web["labels"]["mine"]), (&json!("1"), &Value::Null));
    }

    // Who depends on what goes is made again with it, in the same unit; the other unit stays.
    project.delete(made[2]["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&made[0], &["removed"]).await;
    project.wait_state(&service, &["active"]).await;
    let again = containers(&project, &service).await;
    assert_eq!(names(&again), ["s_web_1", "s_web_2", "s_web_data_1", "s_web_data_2"]);
    assert_ne!((&again[0]["id"], &again[2]["id"]), (&made[0]["id"], &made[2]["id"]));
    assert_eq!((&again[1]["id"], &again[3]["id"]), (&made[1]["id"], &made[3]["id"]));
    assert_eq!(again[0]["dataVolumesFrom"], json!([again[2]["id"]]));
    assert_eq!(again[0]["hostId"], again[2]["hostId"]);

    // The newest primary goes with its whole unit: that of the first, made again.
    project.put(service["links"]["self"].as_str().unwrap(), json!({"scale": 1})).await.expect_status(200);
    project.wait_state(&again[2], &["removed"]).await;
    project.wait_state(&service, &["active"]).await;
    assert_eq!(names(&containers(&project, &service).await), ["s_web_2", "s_web_data_2"]);
    let healthy = |row: &Value| row["healthState"] == "healthy";
    project.wait(&service, "health of a service with sidekicks", healthy).await;
}

async fn services_6_2_one_unit_on_every_host(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let stack = stack(&project).await;
    let config = json!({"imageUuid": "sim:agent", "labels": {"io.rancher.scheduler.global": "true"}});
    let body = json!({"name": "agent", "environmentId": stack["id"], "scale": 7, "startOnCreate": true,
                      "launchConfig": config});
    let service = project.create("services", body).await;
    let active = project.wait_state(&service, &["active"]).await;
    assert_eq!(active["scale"], 7, "stored, and ignored");
    let hosts = |rows: &[Value]| -> BTreeSet<String> { rows.iter().map(|row| row["hostId"].to_string()).collect() };
    let made = containers(&project, &service).await;
    assert_eq!((made.len(), hosts(&made).len()), (2, 2));

    // A host that joins gets its unit.
    h.hosts(1).await;
    let waiting = async {
        loop {
            let now = containers(&project, &service).await;
            let running = now.iter().filter(|row| row["state"] == "running").count();
            if running == 3 && hosts(&now).len() == 3 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(remuda_apitests::PATIENCE, waiting).await.expect("the new host gets a unit");
}

async fn services_4_1_sidekicks_are_checked(h: Harness) {
    let project = h.project();
    let stack = stack(&project).await;
    let body = |config: Value, sidekicks: Value| json!({"name": "web", "environmentId": stack["id"], "launchConfig": config, "secondaryLaunchConfigs": sidekicks});
    let plain = json!({"imageUuid": "sim:x"});
    let side = |name: &str, more: Value| {
        let mut config = json!({"name": name, "imageUuid": "sim:y"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let none = json!({});
    let cases = [
        (plain.clone(), json!([side("web", none.clone())]), "NotUnique", "name"),
        (plain.clone(), json!([side("a", none.clone()), side("A", none.clone())]), "NotUnique", "name"),
        (plain.clone(), json!([side("a--b", none.clone())]), "InvalidCharacters", "name"),
        (
            json!({"imageUuid": "sim:x", "networkLaunchConfig": "other"}),
            json!([side("a", none.clone())]),
            "InvalidReference",
            "LaunchConfigName",
        ),
        (
            json!({"imageUuid": "sim:x", "dataVolumesFromLaunchConfigs": ["a"]}),
            json!([side("a", json!({"networkLaunchConfig": "web"}))]),
            "InvalidReference",
            "CircularReference",
        ),
    ];
    for (config, sidekicks, code, field) in cases {
        let answer = project.post("services", body(config, sidekicks)).await;
        answer.expect_error(422, code, Some(field));
    }
    project.create("services", body(plain.clone(), json!([side("a", none)]))).await;
    let taken = json!({"name": "A", "environmentId": stack["id"], "launchConfig": plain});
    project.post("services", taken).await.expect_error(422, "NotUnique", Some("name"));
    // Not by renaming, either: neither the service itself nor another.
    let web = project.get("services?name=web").await.body["data"][0].clone();
    project.wait_state(&web, &["inactive"]).await;
    let rename = async |to: &str| project.put(web["links"]["self"].as_str().unwrap(), json!({ "name": to })).await;
    rename("A").await.expect_error(422, "NotUnique", Some("name"));
    rename("b").await.expect_status(200);
}

async fn services_7_a_unit_moves_where_all_of_it_fits(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let stack = stack(&project).await;
    let holder =
        project.create("containers", json!({"name": "holder", "imageUuid": "sim:x", "ports": ["80:80"]})).await;
    let holder = project.wait_state(&holder, &["running"]).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "startOnCreate": true,
                      "launchConfig": {"imageUuid": "sim:web"},
                      "secondaryLaunchConfigs": [{"name": "log", "imageUuid": "sim:log", "ports": ["80:80"]}]});
    let service = project.create("services", body).await;
    project.wait_state(&service, &["active"]).await;
    let hosts = |rows: &[Value]| -> BTreeSet<String> { rows.iter().map(|row| row["hostId"].to_string()).collect() };
    let made = containers(&project, &service).await;
    assert_eq!((made.len(), hosts(&made).len()), (2, 1), "{made:?}");
    assert_ne!(made[0]["hostId"], holder["hostId"], "the primary container went where its sidekick finds room");
    assert_eq!(project.get(service["links"]["self"].as_str().unwrap()).await.body["createIndex"], 2);
}

async fn services_7_a_unit_that_was_scaled_away_is_over(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let stack = stack(&project).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "scale": 2, "startOnCreate": true,
                      "launchConfig": {"imageUuid": "sim:web"}});
    let service = project.create("services", body).await;
    let active = project.wait_state(&service, &["active"]).await;
    let own = active["links"]["self"].as_str().unwrap();
    let before = containers(&project, &service).await;
    project.put(own, json!({"scale": 1})).await.expect_status(200);
    project.wait_state(&before[1], &["removed"]).await;
    project.wait_state(&service, &["active"]).await;
    project.put(own, json!({"scale": 2})).await.expect_status(200);
    project.wait_state(&service, &["active"]).await;
    let after = containers(&project, &service).await;
    assert_eq!(names(&after), ["s_web_1", "s_web_2"]);
    assert_eq!(after[0]["deploymentUnitUuid"], before[0]["deploymentUnitUuid"]);
    assert_ne!(after[1]["deploymentUnitUuid"], before[1]["deploymentUnitUuid"]);
}

async fn services_8_a_crash_says_when_the_next_start_is(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let stack = stack(&project).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "startOnCreate": true,
                      "launchConfig": {"imageUuid": "sim:run-for/1ms/exit/3"}});
    let service = project.create("services", body).await;
    let told = |row: &Value| {
        let message = row["transitioningMessage"].as_str().unwrap_or_default();
        message.starts_with("Waiting for [instance:s_web_1]. Instance status: Exited with code 3; next start in ")
    };
    project.wait(&service, "the next start", told).await;
}

async fn services_6_3_as_many_units_as_the_hosts_take(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let stack = stack(&project).await;
    let body = |policy: Value| {
        json!({"name": "web", "environmentId": stack["id"], "scale": 9, "startOnCreate": true, "scalePolicy": policy,
               "launchConfig": {"imageUuid": "sim:web", "ports": ["80:80"]}})
    };
    const TOO_MANY: &str = "Min scale can't exceed scale";
    let wrong = project.post("services", body(json!({"min": 3, "max": 2}))).await;
    wrong.expect_error(422, "MaxLimitExceeded", Some(TOO_MANY));
    project.post("services", body(json!({"min": 0}))).await.expect_error(422, "MinLimitExceeded", Some("min"));
    let service = project.create("services", body(json!({"max": 5}))).await;
    assert_eq!(service["scalePolicy"]["increment"], 1);
    let own = service["links"]["self"].as_str().unwrap();
    let found = async |scale: i64| {
        let is = |row: &Value| row["currentScale"] == scale && row["state"] == "active";
        let row = project.wait(&service, &format!("a scale of {scale}"), is).await;
        assert_eq!((&row["scale"], &row["healthState"]), (&json!(9), &json!("healthy")));
        let running = async {
            loop {
                let now = containers(&project, &service).await;
                if now.len() as i64 == scale && now.iter().all(|row| row["state"] == "running") {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(remuda_apitests::PATIENCE, running).await.expect("as many containers");
    };
    found(2).await;
    // Another host, another policy: it looks again.
    h.hosts(1).await;
    found(3).await;
    project.put(own, json!({"scalePolicy": {"min": 4, "max": 3}})).await.expect_error(
        422,
        "MaxLimitExceeded",
        Some(TOO_MANY),
    );
    project.put(own, json!({"scalePolicy": {"min": 1, "max": 2}})).await.expect_status(200);
    found(2).await;
}
