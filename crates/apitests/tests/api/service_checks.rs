//! What a service must be to be made or changed (`services.md` §4.1), and where each error comes from (§16).
//!
//! Rows that need load balancers, external services, certificates, health checks or sidekicks are tested with those.

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(services_4_1_create, services_4_1_update, services_16_states_and_actions);

/// A body that is right, with some fields of it replaced.
fn body(stack: &Value, more: Value) -> Value {
    let mut body = json!({"name": "fine", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn stack(project: &Api, name: &str) -> Value {
    let made = project.create("environments", json!({"name": name})).await;
    project.wait_state(&made, &["active"]).await
}

const NO_IMAGE: &str = "Image is required when selectorContainer is not passed in";
const BAD_SELECTOR: &str = "Invalid format selector : a b = c";

async fn services_4_1_create(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let gone = stack(&project, "gone").await;
    project.delete(gone["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&gone, &["removed"]).await;
    project.create("services", body(&s, json!({"name": "Taken"}))).await;
    let image = |image: Value| json!({"launchConfig": {"imageUuid": image}});
    let port = |port: &str| json!({"launchConfig": {"imageUuid": "sim:x", "ports": [port]}});
    let long = "x".repeat(64);
    let big = json!({"metadata": {"k": "x".repeat(1_048_577)}});
    // Number of the check, what is wrong, code, field.
    let cases: Vec<(u8, Value, &str, Option<&str>)> = vec![
        (1, json!({"name": null}), "MissingRequired", Some("name")),
        (1, json!({"environmentId": null}), "MissingRequired", Some("environmentId")),
        (1, json!({"environmentId": "1e999"}), "InvalidReference", Some("environmentId")),
        (1, json!({"scale": "many"}), "InvalidFormat", Some("scale")),
        (1, json!({"launchConfig": {"imageUuid": "sim:x", "networkMode": "x"}}), "InvalidOption", Some("networkMode")),
        (1, json!({"selectorLink": "x".repeat(4097)}), "MaxLengthExceeded", Some("selectorLink")),
        (2, json!({"environmentId": gone["id"]}), "InvalidState", Some("environment")),
        (3, json!({"selectorLink": "a b = c"}), "InvalidFormat", Some(BAD_SELECTOR)),
        (3, json!({"selectorContainer": "a b = c"}), "InvalidFormat", Some(BAD_SELECTOR)),
        (4, big, "MaxLimitExceeded", Some("metadata limit is 1MB")),
        (5, json!({"name": "a_b"}), "InvalidCharacters", Some("name")),
        (5, json!({"name": "-a"}), "InvalidCharacters", Some("name")),
        (5, json!({"name": "a-"}), "InvalidCharacters", Some("name")),
        (5, json!({"name": "a--b"}), "InvalidCharacters", Some("name")),
        (6, json!({"name": long}), "MaxLengthExceeded", Some("name")),
        (7, json!({"name": "tAKEN"}), "NotUnique", Some("name")),
        (11, image(json!("docker:ubuntu:14:04")), "InvalidReference", Some("imageUuid")),
        (11, image(json!("ubuntu")), "InvalidReference", Some("imageUuid")),
        (12, port("1:2:3:4"), "PortWrongFormat", None),
        (12, port("80:99999"), "PortInvalidPrivatePort", None),
        (12, port("99999:80"), "PortInvalidPublicPort", None),
        (12, port("80:80/xyz"), "PortInvalidProtocol", None),
        (14, image(Value::Null), "InvalidOption", Some(NO_IMAGE)),
        (14, image(json!("rancher/none")), "InvalidOption", Some(NO_IMAGE)),
    ];
    for (check, wrong, code, field) in cases {
        let answer = project.post("services", body(&s, wrong.clone())).await;
        let found = (answer.status, answer.body["code"].as_str(), answer.body["fieldName"].as_str());
        let shown: String = wrong.to_string().chars().take(80).collect();
        assert_eq!(found, (422, Some(code), field), "check {check}, {shown}");
    }
    assert_eq!(project.get("services").await.column("name"), ["Taken"], "nothing was made");
    for right in [
        json!({"name": "a1-b"}),
        json!({"name": "nothing", "launchConfig": null}),
        json!({"name": "selects", "launchConfig": {"imageUuid": "rancher/none"}, "selectorContainer": "a=b"}),
        json!({"name": "zero", "scale": 0}),
    ] {
        project.create("services", body(&s, right)).await;
    }
    let one = project.create("services", body(&s, json!({"name": "one", "scale": null}))).await;
    assert_eq!(one["scale"], 1);
    // The name of a removed service is free again, and another stack has names of its own.
    let taken = project.get("services?name=Taken").await.body["data"][0].clone();
    project.delete(taken["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&taken, &["removed"]).await;
    project.create("services", body(&s, json!({"name": "taken"}))).await;
    let other = stack(&project, "other").await;
    project.create("services", body(&other, json!({"name": "taken"}))).await;
}

async fn services_4_1_update(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    project.create("services", body(&s, json!({"name": "taken"}))).await;
    let made = project.create("services", body(&s, json!({"name": "mine"}))).await;
    project.wait_state(&made, &["inactive"]).await;
    let own = made["links"]["self"].as_str().unwrap();
    let long = "x".repeat(64);
    for (check, wrong, code, field) in [
        (3, json!({"selectorLink": "a b = c"}), "InvalidFormat", BAD_SELECTOR),
        (3, json!({"selectorContainer": "a b = c"}), "InvalidFormat", BAD_SELECTOR),
        (5, json!({"name": "a--b"}), "InvalidCharacters", "name"),
        (6, json!({"name": long}), "MaxLengthExceeded", "name"),
        (7, json!({"name": "TAKEN"}), "NotUnique", "name"),
    ] {
        let answer = project.put(own, wrong).await;
        let found = (answer.status, answer.body["code"].as_str(), answer.body["fieldName"].as_str());
        assert_eq!(found, (422, Some(code), Some(field)), "check {check}");
    }
    let same = project.put(own, json!({"name": "mine", "description": "d"})).await.expect_status(200);
    assert_eq!((&same.body["state"], &same.body["description"]), (&json!("inactive"), &json!("d")));
    let renamed = project.put(own, json!({"name": "MINE"})).await.expect_status(200);
    assert_eq!(renamed.body["state"], "updating-inactive");
}

async fn services_16_states_and_actions(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let stack_own = s["links"]["self"].as_str().unwrap();
    project.post("environments", json!({"name": "s"})).await.expect_error(422, "NotUnique", Some("name"));
    for name in ["-s", "s-", "a b"] {
        project.post("environments", json!({"name": name})).await.expect_error(422, "InvalidCharacters", Some("name"));
    }
    let made = project.create("services", body(&s, json!({"name": "web"}))).await;
    project.wait_state(&made, &["inactive"]).await;
    let own = made["links"]["self"].as_str().unwrap();
    let act = async |action: &str, input: Value| project.post(&format!("{own}/?action={action}"), input).await;
    act("nosuch", json!({})).await.expect_error(422, "InvalidAction", Some("action"));
    act("addservicelink", json!({})).await.expect_error(422, "MissingRequired", Some("serviceLink"));
    act("addservicelink", json!({"serviceLink": {}})).await.expect_error(422, "MissingRequired", Some("serviceId"));
    project.get("services/1s999").await.expect_error(404, "Not Found", None);
    // No host: it goes on activating, and a PUT that needs `update` cannot start; the fields are stored all the same.
    act("activate", json!({})).await.expect_status(202);
    let answer = project.put(own, json!({"scale": 2})).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (409, Some("Conflict")), "{answer:?}");
    assert_eq!(project.get(own).await.body["scale"], 2);
    act("activate", json!({})).await.expect_status(202);
    // Outputs merge, whatever the state.
    let outputs = async |outputs: Value| {
        let input = json!({ "outputs": outputs });
        project.post(&format!("{stack_own}/?action=addoutputs"), input).await.expect_status(200).body["outputs"].clone()
    };
    outputs(json!({"a": "1", "b": "2"})).await;
    assert_eq!(outputs(json!({"b": "3"})).await, json!({"a": "1", "b": "3"}));
    project.delete(own).await.expect_status(200);
    project.wait_state(&made, &["removed"]).await;
    act("activate", json!({})).await.expect_error(422, "ActionNotAvailable", Some("action"));
}
