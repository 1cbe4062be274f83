//! Links between services (`services.md` §10.1), selectors (§§10.3, 10.4), and what they do for a stack (§3.2).

use remuda_apitests::{Api, Harness, PATIENCE, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_10_1_links_are_set_added_and_removed,
    services_10_1_wrong_links_are_refused,
    services_10_1_links_are_found_in_any_case,
    services_10_3_links_follow_labels,
    services_10_4_containers_are_shown_by_label,
    services_3_2_consumed_services_come_first,
);

async fn stack(project: &Api) -> Value {
    let made = project.create("environments", json!({"name": "s"})).await;
    project.wait_state(&made, &["active"]).await
}

async fn service(project: &Api, stack: &Value, name: &str, more: Value) -> Value {
    let mut body = json!({"name": name, "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = project.create("services", body).await;
    project.wait_state(&made, &["inactive", "activating", "active"]).await
}

fn own(resource: &Value) -> &str {
    resource["links"]["self"].as_str().unwrap()
}

/// The live links of a service: target and name, in order.
async fn links(project: &Api, from: &Value) -> Vec<(String, Value)> {
    let id = from["id"].as_str().unwrap();
    let answer = project.get(&format!("serviceConsumeMaps?serviceId={id}&removed_null=1")).await.expect_status(200);
    let data = answer.body["data"].as_array().unwrap().clone();
    let mut found: Vec<(String, Value)> =
        data.iter().map(|map| (map["consumedServiceId"].as_str().unwrap().to_owned(), map["name"].clone())).collect();
    found.sort_by_key(|(target, name)| (target.clone(), name.to_string()));
    found
}

/// Reads until it is so.
async fn until<T: PartialEq + std::fmt::Debug>(expected: T, read: impl AsyncFn() -> T) {
    let waiting = async {
        while read().await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("waited for {expected:?}: {:?}", read().await);
    }
}

fn link(target: &Value, name: Value) -> Value {
    json!({"serviceId": target["id"], "name": name})
}

fn pair(target: &Value, name: Value) -> (String, Value) {
    (target["id"].as_str().unwrap().to_owned(), name)
}

async fn services_10_1_links_are_set_added_and_removed(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let s = stack(&project).await;
    let web = service(&project, &s, "web", json!({})).await;
    let db = service(&project, &s, "db", json!({})).await;
    let log = service(&project, &s, "log", json!({})).await;
    let act = async |action: &str, input: Value| {
        project.post(&format!("{}/?action={action}", own(&web)), input).await.expect_status(200)
    };
    let set = async |links: Value| act("setservicelinks", json!({ "serviceLinks": links })).await;
    set(json!([link(&db, json!("Store")), link(&db, json!("cache"))])).await;
    assert_eq!(links(&project, &web).await, [pair(&db, json!("cache")), pair(&db, json!("store"))]);
    let by_name = project.get("serviceConsumeMaps?name=store").await.expect_status(200);
    assert_eq!(by_name.column("name"), ["store"]);
    let kept = by_name.column("id");
    set(json!([link(&db, json!("Store")), link(&log, Value::Null)])).await;
    assert_eq!(links(&project, &web).await, [pair(&db, json!("store")), pair(&log, Value::Null)]);
    assert_eq!(project.get("serviceConsumeMaps?name=store&removed_null=1").await.column("id"), kept, "the same kept");
    act("removeservicelink", json!({"serviceLink": {"serviceId": log["id"]}})).await;
    assert_eq!(links(&project, &web).await, [pair(&db, json!("store"))]);
    act("addservicelink", json!({"serviceLink": link(&log, json!("logs"))})).await;
    let consumed = project.get(&format!("{}/consumedservices", own(&web))).await.column("name");
    assert_eq!(consumed, ["db", "log"]);
    assert_eq!(project.get(&format!("{}/consumedbyservices", own(&db))).await.column("name"), ["web"]);
    // With several names for one service, the name selects.
    set(json!([link(&db, json!("one")), link(&db, json!("two"))])).await;
    act("removeservicelink", json!({"serviceLink": link(&db, json!("TWO"))})).await;
    assert_eq!(links(&project, &web).await, [pair(&db, json!("one"))]);
    // Activation waits for nobody, and its containers have the link on record.
    project.post(&format!("{}/?action=activate", own(&web)), json!({})).await.expect_status(202);
    project.wait_state(&web, &["active"]).await;
    let instance = project.get(&format!("{}/instances", own(&web))).await.body["data"][0].clone();
    let recorded = project.get(instance["links"]["instanceLinks"].as_str().unwrap()).await.expect_status(200);
    assert_eq!(recorded.column("linkName"), ["one"]);
    // A removed service takes its links along.
    project.delete(own(&db)).await.expect_status(200);
    project.wait_state(&db, &["removed"]).await;
    assert_eq!(links(&project, &web).await, []);
    set(json!([])).await;
}

async fn services_10_1_wrong_links_are_refused(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let web = service(&project, &s, "web", json!({})).await;
    let db = service(&project, &s, "db", json!({})).await;
    let gone = service(&project, &s, "gone", json!({})).await;
    project.delete(own(&gone)).await.expect_status(200);
    project.wait_state(&gone, &["removed"]).await;
    let refused = async |action: &str, input: Value, code: &str, field: &str| {
        let answer = project.post(&format!("{}/?action={action}", own(&web)), input.clone()).await;
        let found = (answer.status, answer.body["code"].as_str(), answer.body["fieldName"].as_str());
        assert_eq!(found, (422, Some(code), Some(field)), "{action} {input}");
    };
    let set = |links: Value| json!({ "serviceLinks": links });
    let one = |link: Value| json!({ "serviceLink": link });
    let twice = set(json!([link(&db, json!("a")), link(&db, json!("a"))]));
    refused("setservicelinks", twice, "NotUnique", "serviceId and link name combination").await;
    refused("setservicelinks", set(json!([{"serviceId": "1s999"}])), "InvalidReference", "serviceId").await;
    refused("addservicelink", one(json!({"serviceId": "1s999"})), "InvalidReference", "serviceId").await;
    let removed = set(json!([link(&gone, Value::Null)]));
    refused("setservicelinks", removed, "InvalidReference", "Service gone is removed").await;
    refused("removeservicelink", one(link(&db, Value::Null)), "InvalidReference", "serviceId").await;
    for name in [".a", "a.", "a..b", "-a", "a-", "a.-b", "a--b", "a b", "a/b"] {
        refused("addservicelink", one(link(&db, json!(name))), "InvalidCharacters", "name").await;
        refused("setservicelinks", set(json!([link(&db, json!(name))])), "InvalidCharacters", "name").await;
    }
    for name in [format!("a.{}", "b".repeat(64)), vec!["abcdefghi"; 26].join(".")] {
        refused("addservicelink", one(link(&db, json!(name))), "MaxLengthExceeded", "name").await;
    }
    assert_eq!(links(&project, &web).await, [], "nothing was made");
    let added = one(link(&db, json!("my.db")));
    project.post(&format!("{}/?action=addservicelink", own(&web)), added).await.expect_status(200);
    refused("addservicelink", one(link(&db, json!("other"))), "NotUnique", "serviceId").await;
}

async fn services_10_3_links_follow_labels(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let labelled = |tier: &str| json!({"launchConfig": {"imageUuid": "sim:x", "labels": {"tier": tier}}});
    let db = service(&project, &s, "db", labelled("data")).await;
    let log = service(&project, &s, "log", labelled("logs")).await;
    let selecting = json!({
        "selectorLink": "tier=DATA", "launchConfig": {"imageUuid": "sim:x", "labels": {"tier": "data"}},
    });
    let web = service(&project, &s, "web", selecting).await;
    let linked = async || links(&project, &web).await;
    until(vec![pair(&db, Value::Null)], &linked).await;
    // A candidate that comes later is linked too.
    let cache = service(&project, &s, "cache", labelled("data")).await;
    until(vec![pair(&db, Value::Null), pair(&cache, Value::Null)], &linked).await;
    // What the selector made is its own to end; an explicit link stays whatever it selects.
    let act = async |action: &str, input: Value| project.post(&format!("{}/?action={action}", own(&web)), input).await;
    let one = json!({"serviceLink": {"serviceId": db["id"]}});
    act("removeservicelink", one).await.expect_error(422, "InvalidReference", Some("serviceId"));
    act("setservicelinks", json!({"serviceLinks": [link(&log, json!("logs"))]})).await.expect_status(200);
    let put = async |selector: Value| {
        project.put(own(&web), json!({ "selectorLink": selector })).await.expect_status(200);
        project.wait_state(&web, &["inactive"]).await;
    };
    put(json!("tier in (logs)")).await;
    until(vec![pair(&log, json!("logs")), pair(&log, Value::Null)], &linked).await;
    put(Value::Null).await;
    until(vec![pair(&log, json!("logs"))], &linked).await;
    let found = project.get("services?selectorLink_null=1").await.expect_status(200);
    assert_eq!(found.column("name").len(), 4);
}

async fn services_10_4_containers_are_shown_by_label(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let s = stack(&project).await;
    let container = async |name: &str, app: &str| {
        let body = json!({"name": name, "imageUuid": "sim:x", "labels": {"app": app}});
        project.create("containers", body).await
    };
    let early = container("early", "web").await;
    container("other", "else").await;
    let selecting = json!({
        "startOnCreate": true, "selectorContainer": "app=web", "launchConfig": {"imageUuid": "rancher/none"}, "scale": 3,
    });
    let web = service(&project, &s, "web", selecting).await;
    let active = project.wait_state(&web, &["active"]).await;
    assert_eq!(active["healthState"], "healthy");
    let shown = async || project.get(&format!("{}/instances", own(&web))).await.expect_status(200).column("name");
    until(vec![json!("early")], &shown).await;
    let late = container("late", "web").await;
    until(vec![json!("early"), json!("late")], &shown).await;
    let id = web["id"].as_str().unwrap();
    let maps = project.get(&format!("serviceExposeMaps?serviceId={id}&removed_null=1")).await.expect_status(200);
    assert_eq!(maps.column("managed"), [false, false]);
    // The service does nothing to them: not when it stops, not when it goes.
    project.wait_state(&late, &["running"]).await;
    project.post(&format!("{}/?action=deactivate", own(&web)), json!({})).await.expect_status(202);
    project.wait_state(&web, &["inactive"]).await;
    assert_eq!(project.get(own(&late)).await.body["state"], "running");
    project.delete(own(&late)).await.expect_status(200);
    until(vec![json!("early")], &shown).await;
    project.put(own(&web), json!({"selectorContainer": "app=nobody"})).await.expect_status(200);
    until(vec![], &shown).await;
    project.put(own(&web), json!({"selectorContainer": "app"})).await;
    until(vec![json!("early"), json!("other")], &shown).await;
    project.delete(own(&web)).await.expect_status(200);
    project.wait_state(&web, &["removed"]).await;
    assert_eq!(project.get(own(&early)).await.body["state"], "running");
}

async fn services_10_1_links_are_found_in_any_case(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let web = service(&project, &s, "web", json!({})).await;
    let db = service(&project, &s, "db", json!({})).await;
    let input = json!({"serviceLinks": [link(&db, json!("MyDb")), link(&db, json!("other"))]});
    project.post(&format!("{}/?action=setservicelinks", own(&web)), input).await.expect_status(200);
    for filter in ["name=MyDb", "name=MYDB", "name_prefix=My", "name_like=%25YDB", "name_ne=OTHER", "name_notlike=O%25"]
    {
        let found = project.get(&format!("serviceConsumeMaps?{filter}")).await.expect_status(200).column("name");
        assert_eq!(found, ["mydb"], "{filter}");
    }
}

async fn services_3_2_consumed_services_come_first(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let s = stack(&project).await;
    let web = service(&project, &s, "web", json!({})).await;
    let db = service(&project, &s, "db", json!({})).await;
    let input = json!({"serviceLinks": [link(&db, Value::Null)]});
    project.post(&format!("{}/?action=setservicelinks", own(&web)), input).await.expect_status(200);
    let act = async |action: &str| {
        let answer = project.post(&format!("{}/?action={action}", own(&s)), json!({})).await.expect_status(200);
        assert_eq!(answer.body["state"], "active", "the stack stays as it is");
    };
    act("activateservices").await;
    for one in [&web, &db] {
        project.wait_state(one, &["active"]).await;
    }
    let created = project.get("containers?sort=id").await.column("name");
    assert_eq!(created, ["s_db_1", "s_web_1"], "the consumer waited");
    // What is done on a service's behalf is in the log of its containers, and names the service.
    let first = project.get("containers?name=s_db_1").await.body["data"][0]["id"].as_str().unwrap().to_owned();
    let logged = project.get(&format!("auditLogs?resourceType=instance&resourceId={first}")).await.expect_status(200);
    let why =
        format!("Extra service instance is created by service.reconcile. Service id: {}", db["id"].as_str().unwrap());
    assert!(logged.column("description").contains(&json!(why)), "{logged:?}");
    act("deactivateservices").await;
    for one in [&web, &db] {
        project.wait_state(one, &["inactive"]).await;
    }
}
