//! Upgrades of services (`services.md` §11) on simulated hosts, with their errors (§16).

use remuda_apitests::{Answer, Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_11_1_input_is_checked,
    services_11_2_upgraded_then_finished,
    services_11_2_upgraded_then_rolled_back,
    services_11_2_sidekicks_are_exchanged_added_and_removed,
    services_11_2_ports_given_by_chance_are_kept,
    services_9_3_addresses_stay_with_the_number,
    services_11_3_canceled_in_the_middle,
    services_11_3_what_each_state_offers,
    services_11_3_removed_with_all_that_was_kept,
    services_11_3_finished_and_rolled_back_by_itself,
    services_11_4_upgraded_to_another_service,
    services_11_5_restarted_some_at_a_time,
);

async fn service(project: &Api, more: Value) -> Value {
    let stack = project.create("environments", json!({"name": "s"})).await;
    project.wait_state(&stack, &["active"]).await;
    let mut body = json!({"name": "web", "environmentId": stack["id"], "scale": 2, "startOnCreate": true,
                          "launchConfig": {"imageUuid": "sim:web:1"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let service = project.create("services", body).await;
    project.wait_state(&service, &["active", "inactive"]).await;
    service
}

async fn act(project: &Api, service: &Value, action: &str, input: Value) -> Answer {
    let own = service["links"]["self"].as_str().unwrap();
    project.post(&format!("{own}/?action={action}"), input).await
}

fn in_service(more: Value) -> Value {
    let mut strategy = json!({"batchSize": 1, "intervalMillis": 100, "launchConfig": {"imageUuid": "sim:web:2"}});
    strategy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "inServiceStrategy": strategy })
}

/// Containers that the service made, by name and number: `name image state`, those that it keeps in parentheses.
async fn told(project: &Api, service: &Value) -> Vec<String> {
    let id = service["id"].as_str().unwrap();
    let maps = project.get(&format!("serviceexposemaps?serviceId={id}&removed_null=1")).await.expect_status(200);
    let mut told = Vec::new();
    for map in maps.body["data"].as_array().unwrap() {
        let row = project.get(&format!("containers/{}", map["instanceId"].as_str().unwrap())).await.body;
        let (name, image) = (row["name"].as_str().unwrap(), row["imageUuid"].as_str().unwrap());
        let text = format!("{name} {image} {}", row["state"].as_str().unwrap());
        told.push(if map["managed"] == true { text } else { format!("({text})") });
    }
    told.sort();
    told
}

/// Ids, uuids and addresses of the running containers.
async fn running(project: &Api) -> Vec<[Value; 3]> {
    let rows = project.get("containers?state=running&sort=name").await.expect_status(200).body["data"].clone();
    let of = |row: &Value| ["id", "uuid", "primaryIpAddress"].map(|field| row[field].clone());
    rows.as_array().unwrap().iter().map(of).collect()
}

async fn services_11_1_input_is_checked(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let web = service(&project, json!({"secondaryLaunchConfigs": [{"name": "log", "imageUuid": "sim:log:1"}]})).await;
    const NONE: &str = "LaunchConfig/secondaryLaunchConfigs need to be specified for inService strategy";
    let sidekick = |config: Value| in_service(json!({"launchConfig": null, "secondaryLaunchConfigs": [config]}));
    let cases: Vec<(Value, &str, Option<&str>)> = vec![
        (json!({}), "MissingRequired", Some("Upgrade strategy needs to be set")),
        (json!({"inServiceStrategy": {}}), "InvalidOption", Some(NONE)),
        (in_service(json!({"batchSize": 0})), "MinLimitExceeded", Some("batchSize")),
        (in_service(json!({"rollbackAfterMillis": 1})), "MinLimitExceeded", Some("rollbackAfterMillis")),
        (json!({"toServiceStrategy": {}}), "MissingRequired", Some("toServiceId")),
        (json!({"toServiceStrategy": {"toServiceId": "1s999"}}), "InvalidReference", Some("toServiceId")),
        (json!({"toServiceStrategy": {"toServiceId": web["id"]}}), "InvalidReference", Some("toServiceId")),
        (in_service(json!({"intervalMillis": 99})), "MinLimitExceeded", Some("intervalMillis")),
        (
            sidekick(json!({"name": "no", "imageUuid": "rancher/none"})),
            "InvalidOption",
            Some("Invalid secondary launch config name no"),
        ),
        (sidekick(json!({"name": "web", "imageUuid": "sim:x"})), "NotUnique", Some("name")),
        (sidekick(json!({"imageUuid": "sim:x"})), "MissingRequired", Some("name")),
        (in_service(json!({"launchConfig": {"imageUuid": "ubuntu"}})), "InvalidReference", Some("imageUuid")),
        (
            in_service(json!({"launchConfig": {"imageUuid": "rancher/none"}})),
            "InvalidOption",
            Some("Image is required when selectorContainer is not passed in"),
        ),
        (
            in_service(json!({"launchConfig": {"imageUuid": "sim:x", "networkLaunchConfig": "no"}})),
            "InvalidReference",
            Some("LaunchConfigName"),
        ),
        (in_service(json!({"launchConfig": {"imageUuid": "sim:x", "ports": ["1:2:3:4"]}})), "PortWrongFormat", None),
    ];
    for (input, code, field) in cases {
        act(&project, &web, "upgrade", input).await.expect_error(422, code, field);
    }
    // Nothing of them was done.
    let now = project.get(web["links"]["self"].as_str().unwrap()).await.body;
    assert_eq!((&now["state"], &now["upgrade"]), (&json!("active"), &Value::Null));
    assert_eq!(now["launchConfig"]["version"], "0");

    let body = json!({"name": "sees", "environmentId": web["environmentId"], "selectorContainer": "a=b",
                      "launchConfig": {"imageUuid": "rancher/none"}});
    let sees = project.create("services", body).await;
    project.wait_state(&sees, &["inactive"]).await;
    let answer = act(&project, &sees, "upgrade", in_service(json!({}))).await;
    answer.expect_error(422, "InvalidAction", Some("Can't upgrade selector only service"));
}

async fn services_11_2_upgraded_then_finished(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let web = service(&project, json!({"launchConfig": {"imageUuid": "sim:web:1", "labels": {"old": "1"}}})).await;
    let answer = act(&project, &web, "upgrade", in_service(json!({}))).await.expect_status(202);
    // The launch config is the new one at once, whole; the old one is in the strategy.
    assert_eq!((&answer.body["state"], &answer.body["transitioning"]), (&json!("upgrading"), &json!("yes")));
    let (now, strategy) = (&answer.body["launchConfig"], &answer.body["upgrade"]["inServiceStrategy"]);
    assert_eq!((&now["imageUuid"], &now["labels"]), (&json!("sim:web:2"), &Value::Null));
    assert_eq!(strategy["launchConfig"]["version"], now["version"]);
    assert_eq!(now["version"].as_str().unwrap().len(), 36, "a uuid");
    assert_eq!(strategy["previousLaunchConfig"]["imageUuid"], "sim:web:1");
    assert_eq!((&strategy["batchSize"], &strategy["startFirst"]), (&json!(1), &json!(false)));

    let upgraded = project.wait_state(&web, &["upgraded"]).await;
    assert_eq!(upgraded["transitioning"], "no");
    let expected = [
        "(s_web_1 sim:web:1 stopped)",
        "(s_web_2 sim:web:1 stopped)",
        "s_web_1 sim:web:2 running",
        "s_web_2 sim:web:2 running",
    ];
    assert_eq!(told(&project, &web).await, expected);
    let instances = project.get(web["links"]["instances"].as_str().unwrap()).await;
    assert_eq!(instances.column("id").len(), 4, "the link shows both");
    act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
    let done = project.wait_state(&web, &["active"]).await;
    assert_eq!(done["upgrade"]["inServiceStrategy"]["batchSize"], 1, "the last strategy stays");
    let left = async {
        while told(&project, &web).await != ["s_web_1 sim:web:2 running", "s_web_2 sim:web:2 running"] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(remuda_apitests::PATIENCE, left).await.expect("the old ones go");
    // And again.
    let input = in_service(json!({"launchConfig": {"imageUuid": "sim:web:3"}, "startFirst": true, "batchSize": 2}));
    act(&project, &web, "upgrade", input).await.expect_status(202);
    project.wait_state(&web, &["upgraded"]).await;
    assert_eq!(told(&project, &web).await[2..], ["s_web_1 sim:web:3 running", "s_web_2 sim:web:3 running"]);
}

async fn services_11_2_upgraded_then_rolled_back(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let web = service(&project, json!({})).await;
    let before = running(&project).await;
    for start_first in [false, true] {
        let input = in_service(json!({ "startFirst": start_first }));
        act(&project, &web, "upgrade", input).await.expect_status(202);
        project.wait_state(&web, &["upgraded"]).await;
        assert_eq!(running(&project).await.len(), 2);
        assert_ne!(running(&project).await, before);
        let answer = act(&project, &web, "rollback", json!({})).await.expect_status(202);
        assert_eq!(
            (&answer.body["state"], &answer.body["launchConfig"]["version"]),
            (&json!("rolling-back"), &json!("0"))
        );
        let back = project.wait_state(&web, &["active"]).await;
        assert_eq!(back["launchConfig"]["imageUuid"], "sim:web:1");
        assert_eq!(running(&project).await, before, "the same containers at the same addresses");
    }
}

async fn services_11_2_sidekicks_are_exchanged_added_and_removed(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let log = json!({"name": "log", "imageUuid": "sim:log:1", "networkLaunchConfig": "web"});
    let web = service(&project, json!({"scale": 1, "secondaryLaunchConfigs": [log]})).await;
    let primary = project.get("containers?name=s_web_1").await.body["data"][0].clone();
    let sidekick = |config: Value| in_service(json!({"launchConfig": null, "secondaryLaunchConfigs": [config]}));
    let finish = async || {
        project.wait_state(&web, &["upgraded"]).await;
        act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
        project.wait_state(&web, &["active"]).await
    };
    // One sidekick: the other container of the unit stays as it is.
    let new = json!({"name": "log", "imageUuid": "sim:log:2"});
    act(&project, &web, "upgrade", sidekick(new)).await.expect_status(202);
    project.wait_state(&web, &["upgraded"]).await;
    let expected = ["(s_web_log_1 sim:log:1 stopped)", "s_web_1 sim:web:1 running", "s_web_log_1 sim:log:2 running"];
    assert_eq!(told(&project, &web).await, expected);
    let now = project.get("containers?imageUuid=sim:log:2&state=running").await.body["data"][0].clone();
    assert_eq!(now["deploymentUnitUuid"], primary["deploymentUnitUuid"]);
    finish().await;
    // One more.
    act(&project, &web, "upgrade", sidekick(json!({"name": "more", "imageUuid": "sim:more"}))).await.expect_status(202);
    project.wait_state(&web, &["upgraded"]).await;
    assert!(told(&project, &web).await.contains(&"s_web_more_1 sim:more running".to_owned()));
    act(&project, &web, "rollback", json!({})).await.expect_status(202);
    let back = project.wait_state(&web, &["active"]).await;
    assert_eq!(back["secondaryLaunchConfigs"].as_array().unwrap().len(), 1);
    // One less: it stays in the list until the upgrade is finished.
    let gone = json!({"name": "log", "imageUuid": "docker:rancher/none"});
    let answer = act(&project, &web, "upgrade", sidekick(gone)).await.expect_status(202);
    assert_eq!(answer.body["secondaryLaunchConfigs"].as_array().unwrap().len(), 1);
    assert_eq!(finish().await["secondaryLaunchConfigs"], json!([]));
    let healthy = |row: &Value| row["healthState"] == "healthy";
    project.wait(&web, "health without the sidekick", healthy).await;
}

async fn services_11_2_ports_given_by_chance_are_kept(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let config = |image: &str, ports: Value| json!({"imageUuid": image, "ports": ports});
    let web = service(&project, json!({"scale": 1, "launchConfig": config("sim:web:1", json!(["80", "81"]))})).await;
    let given = project.get(web["links"]["self"].as_str().unwrap()).await.body["launchConfig"]["ports"].clone();
    let (first, second) = (given[0].as_str().unwrap().to_owned(), given[1].as_str().unwrap().to_owned());
    assert!(first.ends_with(":80/tcp") && second.ends_with(":81/tcp"), "{given}");
    let input = in_service(json!({"launchConfig": config("sim:web:2", json!(["80", "90:90"]))}));
    let answer = act(&project, &web, "upgrade", input).await.expect_status(202);
    assert_eq!(answer.body["launchConfig"]["ports"], json!(["90:90/tcp", first]));
    project.wait_state(&web, &["upgraded"]).await;
    act(&project, &web, "rollback", json!({})).await.expect_status(202);
    let back = project.wait_state(&web, &["active"]).await;
    assert_eq!(back["launchConfig"]["ports"], given);
    let published = |row: &Value| row["publicEndpoints"].as_array().is_some_and(|all| all.len() == 2);
    project.wait(&web, "both endpoints", published).await;
}

/// Upgrades of which the first batch is done and the second does not begin.
async fn half_way(project: &Api, web: &Value) {
    act(project, web, "upgrade", in_service(json!({"intervalMillis": 600_000}))).await.expect_status(202);
    let paused = |row: &Value| {
        let message = row["transitioningMessage"].as_str().unwrap_or_default();
        message == "1 of 2 units are exchanged; the next batch waits its interval"
    };
    project.wait(web, "the pause", paused).await;
}

async fn services_11_3_canceled_in_the_middle(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let web = service(&project, json!({})).await;
    let before = running(&project).await;
    half_way(&project, &web).await;
    act(&project, &web, "cancelupgrade", json!({})).await.expect_status(202);
    project.wait_state(&web, &["canceled-upgrade"]).await;
    let mixed = ["(s_web_1 sim:web:1 stopped)", "s_web_1 sim:web:2 running", "s_web_2 sim:web:1 running"];
    assert_eq!(told(&project, &web).await, mixed);
    act(&project, &web, "rollback", json!({})).await.expect_status(202);
    project.wait_state(&web, &["active"]).await;
    assert_eq!(running(&project).await, before);

    half_way(&project, &web).await;
    act(&project, &web, "cancelupgrade", json!({})).await.expect_status(202);
    project.wait_state(&web, &["canceled-upgrade"]).await;
    act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
    let done = project.wait_state(&web, &["active"]).await;
    assert_eq!(done["launchConfig"]["imageUuid"], "sim:web:2");
    assert_eq!(told(&project, &web).await.last().map(String::as_str), Some("s_web_2 sim:web:1 running"));
}

async fn services_11_3_what_each_state_offers(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let web = service(&project, json!({})).await;
    let own = web["links"]["self"].as_str().unwrap();
    const OURS: [&str; 6] = ["upgrade", "finishupgrade", "cancelupgrade", "rollback", "cancelrollback", "restart"];
    let offers = async |state: &str, expected: &[&str]| {
        let row = project.wait_state(&web, &[state]).await;
        let offered: Vec<&str> = OURS.into_iter().filter(|action| row["actions"][action].is_string()).collect();
        assert_eq!(offered, expected, "{state}");
        for action in OURS.into_iter().filter(|action| !expected.contains(action)) {
            act(
                &project,
                &web,
                action,
                json!({"inServiceStrategy": {"launchConfig": {}}, "rollingRestartStrategy": {}}),
            )
            .await
            .expect_error(422, "ActionNotAvailable", Some("action"));
        }
    };
    offers("active", &["upgrade", "restart"]).await;
    half_way(&project, &web).await;
    offers("upgrading", &["cancelupgrade"]).await;
    act(&project, &web, "cancelupgrade", json!({})).await.expect_status(202);
    offers("canceled-upgrade", &["finishupgrade", "rollback"]).await;
    act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
    offers("active", &["upgrade", "restart"]).await;
    act(&project, &web, "upgrade", in_service(json!({"batchSize": 2, "intervalMillis": 600_000}))).await;
    offers("upgraded", &["finishupgrade", "rollback"]).await;
    // Stored, and 409: the change is made when the state allows it.
    project.put(own, json!({"scale": 3})).await.expect_error(409, "Conflict", None);
    assert_eq!(project.get(own).await.body["scale"], 3);
    project.put(own, json!({"description": "d"})).await.expect_status(200);
    act(&project, &web, "deactivate", json!({})).await.expect_error(422, "ActionNotAvailable", Some("action"));
    act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
    project.wait_state(&web, &["active"]).await;
    assert_eq!(running(&project).await.len(), 3);
    // Half way back.
    act(&project, &web, "upgrade", in_service(json!({"batchSize": 1}))).await;
    project.wait_state(&web, &["upgraded"]).await;
    act(&project, &web, "rollback", json!({})).await.expect_status(202);
    act(&project, &web, "cancelrollback", json!({})).await.expect_status(202);
    offers("canceled-rollback", &["finishupgrade"]).await;
    act(&project, &web, "finishupgrade", json!({})).await.expect_status(202);
    offers("active", &["upgrade", "restart"]).await;
}

async fn services_11_3_removed_with_all_that_was_kept(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let web = service(&project, json!({})).await;
    act(&project, &web, "upgrade", in_service(json!({}))).await.expect_status(202);
    project.wait_state(&web, &["upgraded"]).await;
    project.delete(web["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&web, &["removed"]).await;
    assert_eq!(project.get("containers?removed_null=1").await.column("id"), Vec::<Value>::new());
}

async fn services_11_5_restarted_some_at_a_time(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let log = json!({"name": "log", "imageUuid": "sim:log:1", "networkLaunchConfig": "web"});
    let web = service(&project, json!({"scale": 3, "secondaryLaunchConfigs": [log]})).await;
    let started = async || {
        let rows = project.get("containers?sort=name").await.body["data"].clone();
        let of = |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["startCount"].as_i64().unwrap());
        rows.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let before = started().await;
    let missing = act(&project, &web, "restart", json!({})).await;
    missing.expect_error(422, "MissingRequired", Some("rollingRestartStrategy"));
    let input = |batch: i64| json!({"rollingRestartStrategy": {"batchSize": batch, "intervalMillis": 100}});
    act(&project, &web, "restart", input(0)).await.expect_error(422, "MinLimitExceeded", Some("batchSize"));
    let answer = act(&project, &web, "restart", input(2)).await.expect_status(202);
    assert_eq!((&answer.body["state"], &answer.body["transitioning"]), (&json!("restarting"), &json!("yes")));
    project.wait_state(&web, &["active"]).await;
    let once_more: Vec<(String, i64)> = before.into_iter().map(|(id, count)| (id, count + 1)).collect();
    assert_eq!(started().await, once_more, "each once, and the same containers");
    // Who deactivates does not wait for the restart.
    let slow = json!({"rollingRestartStrategy": {"intervalMillis": 600_000}});
    act(&project, &web, "restart", slow).await.expect_status(202);
    act(&project, &web, "deactivate", json!({})).await.expect_status(202);
    project.wait_state(&web, &["inactive"]).await;
}

async fn services_11_3_finished_and_rolled_back_by_itself(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let web = service(&project, json!({})).await;
    act(&project, &web, "upgrade", in_service(json!({"autoFinish": true}))).await.expect_status(202);
    let done = project.wait_state(&web, &["active", "upgraded"]).await;
    assert_eq!((&done["state"], &done["launchConfig"]["imageUuid"]), (&json!("active"), &json!("sim:web:2")));
    let before = running(&project).await;
    // The only host there is cannot give the port twice.
    let config = json!({"imageUuid": "sim:web:3", "ports": ["80:80"]});
    let input = in_service(json!({"launchConfig": config, "rollbackAfterMillis": 1000, "batchSize": 2}));
    act(&project, &web, "upgrade", input).await.expect_status(202);
    let back = project.wait_state(&web, &["active", "upgraded"]).await;
    assert_eq!((&back["state"], &back["transitioning"]), (&json!("active"), &json!("error")));
    let message = back["transitioningMessage"].as_str().unwrap();
    assert!(message.starts_with("The upgrade was rolled back: new containers were not well for 1 s"), "{message}");
    assert!(message.contains("host needs ports 80/tcp available"), "{message}");
    assert_eq!((running(&project).await, &back["launchConfig"]["imageUuid"]), (before, &json!("sim:web:2")));
}

async fn services_11_4_upgraded_to_another_service(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let old = service(&project, json!({})).await;
    let make = async |name: &str, scale: i64| {
        let body = json!({"name": name, "environmentId": old["environmentId"], "scale": scale,
                          "launchConfig": {"imageUuid": "sim:other"}});
        let made = project.create("services", body).await;
        project.wait_state(&made, &["inactive"]).await
    };
    let (new, user) = (make("new", 1).await, make("user", 1).await);
    let link = json!({"serviceLinks": [{"serviceId": old["id"], "name": "web"}, {"serviceId": old["id"]}]});
    act(&project, &user, "setservicelinks", link).await.expect_status(200);
    let strategy = json!({"toServiceId": new["id"], "finalScale": 3, "batchSize": 2, "intervalMillis": 100,
                          "updateLinks": true});
    let answer = act(&project, &old, "upgrade", json!({"toServiceStrategy": strategy})).await.expect_status(202);
    assert_eq!(answer.body["upgrade"]["toServiceStrategy"]["toServiceId"], new["id"]);
    // The links are there before anything is scaled, and those to the old service stay.
    let links = project.get(&format!("serviceconsumemaps?serviceId={}", user["id"].as_str().unwrap())).await;
    let mut found: Vec<(Value, Value)> =
        links.column("consumedServiceId").into_iter().zip(links.column("name")).collect();
    found.sort_by_key(|link| format!("{link:?}"));
    let expected = [&old, &new].map(|to| [(to["id"].clone(), Value::Null), (to["id"].clone(), json!("web"))]);
    let mut expected = expected.concat();
    expected.sort_by_key(|link| format!("{link:?}"));
    assert_eq!(found, expected);
    let done = project.wait_state(&old, &["upgraded"]).await;
    assert_eq!(done["scale"], 0);
    let target = project.wait_state(&new, &["active"]).await;
    assert_eq!((&target["scale"], running(&project).await.len()), (&json!(3), 3));
    act(&project, &old, "finishupgrade", json!({})).await.expect_status(202);
    assert_eq!(project.wait_state(&old, &["active"]).await["scale"], 0);
}

async fn services_9_3_addresses_stay_with_the_number(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let web = service(&project, json!({"retainIp": true, "scale": 2})).await;
    let addresses = async || {
        let rows = project.get("containers?state=running&sort=name").await.expect_status(200);
        rows.column("name").into_iter().zip(rows.column("primaryIpAddress")).collect::<Vec<_>>()
    };
    let before = addresses().await;
    assert_eq!(before.len(), 2);
    let answer = act(&project, &web, "upgrade", in_service(json!({"startFirst": true}))).await;
    const NOT_BOTH: &str = "StartFirst option can't be used for service with retainIp field set";
    answer.expect_error(422, "InvalidOption", Some(NOT_BOTH));
    // Replaced.
    let first = project.get("containers?name=s_web_1&state=running").await.body["data"][0].clone();
    project.delete(first["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&first, &["removed", "purged"]).await;
    project.wait_state(&web, &["active"]).await;
    assert_eq!(addresses().await, before);
    // Exchanged, and back; and for good.
    for (action, end) in [("rollback", "active"), ("finishupgrade", "active")] {
        act(&project, &web, "upgrade", in_service(json!({}))).await.expect_status(202);
        project.wait_state(&web, &["upgraded"]).await;
        assert_eq!(addresses().await, before, "before {action}");
        act(&project, &web, action, json!({})).await.expect_status(202);
        project.wait_state(&web, &[end]).await;
        assert_eq!(addresses().await, before, "after {action}");
    }
    // A number that goes gives its address back, and so does the service.
    let own = web["links"]["self"].as_str().unwrap();
    let second = project.get("containers?name=s_web_2&state=running").await.body["data"][0].clone();
    project.put(own, json!({"scale": 1})).await.expect_status(200);
    project.wait_state(&second, &["removed", "purged"]).await;
    project.wait_state(&web, &["active"]).await;
    let free = async |address: &Value| {
        let labels = json!({"io.rancher.container.requested_ip": address});
        let body = json!({"name": "x", "imageUuid": "sim:x", "labels": labels});
        let made = project.create("containers", body).await;
        project.wait_state(&made, &["running"]).await["primaryIpAddress"] == *address
    };
    assert!(free(&before[1].1).await, "the address of the number that went");
    project.delete(own).await.expect_status(200);
    project.wait_state(&web, &["removed"]).await;
    assert!(free(&before[0].1).await, "the address of the service that went");
}
