//! Every row of the error index (`services.md` §16), asked for once. The table below is the index; the test fails when a
//! row was not visited, and also when a row waits for something that the API has meanwhile.

use std::collections::BTreeSet;

use remuda_apitests::{Answer, Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(services_16_every_row_of_the_index);

/// Row, status, code, `fieldName`.
type Row = (&'static str, u16, &'static str, Option<&'static str>);

const INDEX: &[Row] = &[
    ("name of a service", 422, "MissingRequired", Some("name")),
    ("stack of a service", 422, "MissingRequired", Some("environmentId")),
    ("port of a check", 422, "MissingRequired", Some("port")),
    ("strategy of a restart", 422, "MissingRequired", Some("rollingRestartStrategy")),
    ("target of a link", 422, "MissingRequired", Some("serviceId")),
    ("time of an event", 422, "MissingRequired", Some("externalTimestamp")),
    ("strategy of an upgrade", 422, "MissingRequired", Some("Upgrade strategy needs to be set")),
    ("name of a stack twice", 422, "NotUnique", Some("name")),
    ("name of a service twice", 422, "NotUnique", Some("name")),
    ("new name of a service twice", 422, "NotUnique", Some("name")),
    ("link twice", 422, "NotUnique", Some("serviceId")),
    ("link twice in a set", 422, "NotUnique", Some("serviceId and link name combination")),
    ("letters of a stack", 422, "InvalidCharacters", Some("name")),
    ("letters of a service", 422, "InvalidCharacters", Some("name")),
    ("letters of a sidekick", 422, "InvalidCharacters", Some("name")),
    ("letters of a link", 422, "InvalidCharacters", Some("name")),
    ("length of a service", 422, "MaxLengthExceeded", Some("name")),
    ("length of a part of a link", 422, "MaxLengthExceeded", Some("name")),
    ("length of a link", 422, "MaxLengthExceeded", Some("name")),
    ("state of the stack", 422, "InvalidState", Some("environment")),
    (
        "state at deactivation",
        422,
        "InvalidState",
        Some("Service web is not in valid state to be deactivated: upgrading"),
    ),
    ("image", 422, "InvalidReference", Some("imageUuid")),
    ("target that is none", 422, "InvalidReference", Some("serviceId")),
    ("stack that is none", 422, "InvalidReference", Some("environmentId")),
    ("launch config that is none", 422, "InvalidReference", Some("LaunchConfigName")),
    ("launch configs in a circle", 422, "InvalidReference", Some("CircularReference")),
    ("target that is removed", 422, "InvalidReference", Some("Service gone is removed")),
    ("no image", 422, "InvalidOption", Some("Image is required when selectorContainer is not passed in")),
    ("addresses and host name", 422, "InvalidOption", Some("externalIpAddresses and hostname are mutually exclusive")),
    ("port 42", 422, "InvalidOption", Some("Port 42 is reserved for loadBalancerService health check")),
    (
        "upgrade to nothing",
        422,
        "InvalidOption",
        Some("LaunchConfig/secondaryLaunchConfigs need to be specified for inService strategy"),
    ),
    (
        "start first and kept addresses",
        422,
        "InvalidOption",
        Some("StartFirst option can't be used for service with retainIp field set"),
    ),
    ("sidekick that is none", 422, "InvalidOption", Some("Invalid secondary launch config name none")),
    ("one of a few values", 422, "InvalidOption", Some("networkMode")),
    ("selector", 422, "InvalidFormat", Some("Invalid format selector : a b = c")),
    ("wrong type", 422, "InvalidFormat", Some("scale")),
    ("too small", 422, "MinLimitExceeded", Some("batchSize")),
    ("too much metadata", 422, "MaxLimitExceeded", Some("metadata limit is 1MB")),
    ("bounds of a scale", 422, "MaxLimitExceeded", Some("Min scale can't exceed scale")),
    ("form of a port", 422, "PortWrongFormat", None),
    ("private port", 422, "PortInvalidPrivatePort", None),
    ("public port", 422, "PortInvalidPublicPort", None),
    ("protocol of a port", 422, "PortInvalidProtocol", None),
    ("port of a balancer's link", 422, "InvalidPort", None),
    ("upgrade of what only selects", 422, "InvalidAction", Some("Can't upgrade selector only service")),
    ("unknown action", 422, "InvalidAction", Some("action")),
    ("action of another state", 422, "ActionNotAvailable", Some("action")),
    ("certificate in use", 405, "InvalidAction", None),
    ("what cannot be deleted", 405, "Method not allowed", None),
    ("update in another state", 409, "Conflict", None),
    ("another project's", 404, "Not Found", None),
];

/// Rows that nothing can raise yet, and the type or field they wait for.
const WAITING: &[(&str, &str)] = &[];

/// The rows that were visited.
#[derive(Default)]
struct Visited(BTreeSet<&'static str>);

impl Visited {
    /// That answer is the error of that row.
    #[track_caller]
    fn see(&mut self, row: &'static str, answer: Answer) {
        let (_, status, code, field) = INDEX.iter().find(|(name, ..)| *name == row).expect("a row of the index");
        let found = (answer.status, answer.body["code"].as_str(), answer.body["fieldName"].as_str());
        assert_eq!(
            found,
            (*status, Some(*code), *field),
            "{row}: {}",
            answer.text.chars().take(500).collect::<String>()
        );
        self.0.insert(row);
    }
}

/// Whether the API has the type, or the field of one.
async fn is_declared(project: &Api, what: &str) -> bool {
    let (ty, field) = what.split_once('.').unwrap_or((what, ""));
    let schema = project.get(&format!("schemas/{ty}")).await;
    schema.status == 200 && (field.is_empty() || schema.body["resourceFields"].get(field).is_some())
}

fn own(row: &Value) -> &str {
    row["links"]["self"].as_str().unwrap()
}

async fn services_16_every_row_of_the_index(h: Harness) {
    let project = h.project();
    let mut visited = Visited::default();
    creation(&project, &mut visited).await;
    links(&project, &mut visited).await;
    balancers(&project, &mut visited).await;
    upgrades(&project, &mut visited).await;
    states(&h, &project, &mut visited).await;

    for (row, what) in WAITING {
        assert!(!visited.0.contains(row), "`{row}` waits for nothing");
        assert!(!is_declared(&project, what).await, "there is `{what}` now: ask for `{row}`");
    }
    let waiting = |row: &str| WAITING.iter().any(|(name, _)| *name == row);
    let missed: Vec<&str> =
        INDEX.iter().map(|(name, ..)| *name).filter(|name| !visited.0.contains(name) && !waiting(name)).collect();
    assert_eq!(missed, Vec::<&str>::new(), "rows that were not visited");
}

async fn stack(project: &Api, name: &str) -> Value {
    let made = project.create("environments", json!({"name": name})).await;
    project.wait_state(&made, &["active"]).await
}

/// A body that is right, with some of it replaced.
fn body(stack: &Value, more: Value) -> Value {
    let mut body = json!({"name": "fine", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn service(project: &Api, stack: &Value, more: Value) -> Value {
    let made = project.create("services", body(stack, more)).await;
    project.wait_state(&made, &["inactive"]).await
}

async fn creation(project: &Api, visited: &mut Visited) {
    let s = stack(project, "made").await;
    let gone = stack(project, "gone").await;
    project.delete(own(&gone)).await.expect_status(200);
    project.wait_state(&gone, &["removed"]).await;
    service(project, &s, json!({"name": "taken"})).await;
    let mine = service(project, &s, json!({"name": "mine"})).await;
    let config = |more: Value| json!({"launchConfig": body(&s, more)["launchConfig"]});
    let port = |port: &str| config(json!({"launchConfig": {"imageUuid": "sim:x", "ports": [port]}}));
    let sidekick = |name: &str, own: Value, refers: Value| {
        let mut side = json!({"name": name, "imageUuid": "sim:y"});
        side.as_object_mut().unwrap().extend(refers.as_object().unwrap().clone());
        let mut config = json!({"imageUuid": "sim:x"});
        config.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        json!({"launchConfig": config, "secondaryLaunchConfigs": [side]})
    };
    let places =
        json!({"name": "far", "environmentId": s["id"], "externalIpAddresses": ["192.0.2.1"], "hostname": "a.b"});
    visited.see("addresses and host name", project.post("externalServices", places).await);
    let none = json!({});
    let image = |image: Value| json!({"launchConfig": {"imageUuid": image}});
    for (row, wrong) in [
        ("name of a service", json!({"name": null})),
        ("stack of a service", json!({"environmentId": null})),
        ("name of a service twice", json!({"name": "TAKEN"})),
        ("letters of a service", json!({"name": "a--b"})),
        ("letters of a sidekick", sidekick("a_b", none.clone(), none.clone())),
        ("length of a service", json!({"name": "x".repeat(64)})),
        ("state of the stack", json!({"environmentId": gone["id"]})),
        ("image", image(json!("ubuntu"))),
        ("stack that is none", json!({"environmentId": "1e999"})),
        ("launch config that is none", sidekick("a", json!({"networkLaunchConfig": "b"}), none.clone())),
        (
            "launch configs in a circle",
            sidekick("a", json!({"networkLaunchConfig": "a"}), json!({"dataVolumesFromLaunchConfigs": ["fine"]})),
        ),
        ("no image", image(Value::Null)),
        ("port of a check", config(json!({"launchConfig": {"imageUuid": "sim:x", "healthCheck": {}}}))),
        ("one of a few values", json!({"launchConfig": {"imageUuid": "sim:x", "networkMode": "x"}})),
        ("selector", json!({"selectorLink": "a b = c"})),
        ("wrong type", json!({"scale": "many"})),
        ("too much metadata", json!({"metadata": {"k": "x".repeat(1_048_577)}})),
        ("bounds of a scale", json!({"scalePolicy": {"min": 3, "max": 2}})),
        ("form of a port", port("1:2:3:4")),
        ("private port", port("80:99999")),
        ("public port", port("99999:80")),
        ("protocol of a port", port("80:80/xyz")),
    ] {
        visited.see(row, project.post("services", body(&s, wrong)).await);
    }
    visited.see("new name of a service twice", project.put(own(&mine), json!({"name": "Taken"})).await);
    visited.see("name of a stack twice", project.post("environments", json!({"name": "made"})).await);
    visited.see("letters of a stack", project.post("environments", json!({"name": "-s"})).await);
}

async fn links(project: &Api, visited: &mut Visited) {
    let s = stack(project, "linked").await;
    let from = service(project, &s, json!({"name": "from"})).await;
    let to = service(project, &s, json!({"name": "to"})).await;
    let gone = service(project, &s, json!({"name": "gone"})).await;
    project.delete(own(&gone)).await.expect_status(200);
    project.wait_state(&gone, &["removed"]).await;
    let act = async |action: &str, input: Value| project.post(&format!("{}/?action={action}", own(&from)), input).await;
    let add = async |link: Value| act("addservicelink", json!({ "serviceLink": link })).await;
    let named = |name: String| json!({"serviceId": to["id"], "name": name});
    visited.see("target of a link", add(json!({})).await);
    visited.see("target that is none", add(json!({"serviceId": "1s999"})).await);
    visited.see("letters of a link", add(named("a--b".into())).await);
    visited.see("length of a part of a link", add(named(format!("{}.b", "a".repeat(64)))).await);
    visited.see("length of a link", add(named(vec!["a".repeat(60); 5].join("."))).await);
    add(json!({"serviceId": to["id"]})).await.expect_status(200);
    visited.see("link twice", add(json!({"serviceId": to["id"]})).await);
    let set = |links: Value| act("setservicelinks", json!({ "serviceLinks": links }));
    visited.see("link twice in a set", set(json!([{"serviceId": to["id"]}, {"serviceId": to["id"]}])).await);
    visited.see("target that is removed", set(json!([{"serviceId": gone["id"]}])).await);
}

async fn balancers(project: &Api, visited: &mut Visited) {
    let s = stack(project, "balanced").await;
    let web = service(project, &s, json!({"name": "web"})).await;
    let (cert, key) = crate::certificates::certificate("a.test", 2099);
    let made = project.create("certificates", json!({"name": "a", "cert": cert, "key": key})).await;
    let certificate = project.wait_state(&made, &["active"]).await;
    let balancer = |ports: &str| {
        let config = json!({"imageUuid": "sim:x", "ports": [ports]});
        json!({"name": "lb", "environmentId": s["id"], "launchConfig": config, "defaultCertificateId": certificate["id"]})
    };
    visited.see("port 42", project.post("loadbalancerservices", balancer("42:80")).await);
    let lb = project.create("loadbalancerservices", balancer("80:80")).await;
    let lb = project.wait_state(&lb, &["inactive"]).await;
    let link = json!({"serviceLink": {"serviceId": web["id"], "ports": ["80=80=80"]}});
    let add = project.post(&format!("{}/?action=addservicelink", own(&lb)), link).await;
    visited.see("port of a balancer's link", add);
    visited.see("certificate in use", project.delete(own(&certificate)).await);
}

async fn upgrades(project: &Api, visited: &mut Visited) {
    let s = stack(project, "upgraded").await;
    let web = service(project, &s, json!({"name": "web"})).await;
    let selects = json!({"name": "selects", "launchConfig": {"imageUuid": "rancher/none"}, "selectorContainer": "a=b"});
    let selects = service(project, &s, selects).await;
    let upgrade =
        async |of: &Value, strategy: Value| project.post(&format!("{}/?action=upgrade", own(of)), strategy).await;
    let in_service = |strategy: Value| json!({ "inServiceStrategy": strategy });
    visited.see("strategy of an upgrade", upgrade(&web, json!({})).await);
    visited.see("upgrade to nothing", upgrade(&web, in_service(json!({}))).await);
    let none = json!([{"name": "none", "imageUuid": "rancher/none"}]);
    visited.see("sidekick that is none", upgrade(&web, in_service(json!({"secondaryLaunchConfigs": none}))).await);
    let keeps = service(project, &s, json!({"name": "keeps", "retainIp": true})).await;
    let first = json!({"startFirst": true, "launchConfig": {"imageUuid": "sim:x"}});
    visited.see("start first and kept addresses", upgrade(&keeps, in_service(first)).await);
    visited.see("too small", upgrade(&web, in_service(json!({"batchSize": 0}))).await);
    let config = json!({"launchConfig": {"imageUuid": "sim:x"}});
    visited.see("upgrade of what only selects", upgrade(&selects, in_service(config.clone())).await);
    visited.see("unknown action", project.post(&format!("{}/?action=nosuch", own(&web)), json!({})).await);
    visited.see("action of another state", project.post(&format!("{}/?action=rollback", own(&web)), json!({})).await);
    // No host: it goes on upgrading.
    upgrade(&web, in_service(config)).await.expect_status(202);
    let deactivate = format!("{}/?action=deactivateservices", own(&s));
    visited.see("state at deactivation", project.post(&deactivate, json!({})).await);
}

async fn states(h: &Harness, project: &Api, visited: &mut Visited) {
    let s = stack(project, "states").await;
    let empty = service(project, &s, json!({"name": "empty", "scale": 0})).await;
    project.post(&format!("{}/?action=activate", own(&empty)), json!({})).await.expect_status(202);
    project.wait_state(&empty, &["active"]).await;
    visited.see("strategy of a restart", project.post(&format!("{}/?action=restart", own(&empty)), json!({})).await);
    let web = service(project, &s, json!({"name": "web"})).await;
    project.post(&format!("{}/?action=activate", own(&web)), json!({})).await.expect_status(202);
    visited.see("update in another state", project.put(own(&web), json!({"scale": 2})).await);
    let link = json!({"serviceLink": {"serviceId": empty["id"]}});
    project.post(&format!("{}/?action=addservicelink", own(&web)), link).await.expect_status(200);
    let maps = project.get("serviceconsumemaps?limit=1").await;
    visited.see("what cannot be deleted", project.delete(own(&maps.body["data"][0])).await);
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    h.admin().wait_state(&other, &["active"]).await;
    let other = h.admin().inside(other["id"].as_str().unwrap());
    visited.see("another project's", other.get(&format!("services/{}", web["id"].as_str().unwrap())).await);
    h.hosts(1).await;
    visited.see("time of an event", h.agent("host-1").post("serviceevents", json!({})).await);
}
