//! Services without containers: aliases (`services.md` §15.2) and external ones (§15.3), on both stores.

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_15_2_an_alias_is_only_its_links,
    services_15_3_an_external_service_has_a_map_for_each_place,
    services_4_1_wrong_places_are_refused,
    services_without_containers_upgrade_their_labels,
    services_without_containers_come_from_files_and_go_back,
);

async fn stack(project: &Api) -> Value {
    let made = project.create("environments", json!({"name": "s"})).await;
    project.wait_state(&made, &["active"]).await
}

async fn service(project: &Api, plural: &str, stack: &Value, name: &str, more: Value) -> Value {
    let mut body = json!({"name": name, "environmentId": stack["id"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = project.create(plural, body).await;
    project.wait_state(&made, &["inactive", "active"]).await
}

fn own(resource: &Value) -> &str {
    resource["links"]["self"].as_str().unwrap()
}

async fn act(project: &Api, of: &Value, action: &str, input: Value, status: u16) -> Value {
    project.post(&format!("{}/?action={action}", own(of)), input).await.expect_status(status).body
}

async fn consumed(project: &Api, of: &Value) -> Vec<Value> {
    project.get(of["links"]["consumedservices"].as_str().unwrap()).await.expect_status(200).column("name")
}

async fn services_15_2_an_alias_is_only_its_links(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let config = json!({"launchConfig": {"imageUuid": "sim:x"}});
    let web = service(&project, "services", &s, "web", config.clone()).await;
    let api = service(&project, "services", &s, "api", config).await;
    // What would make containers is left out.
    let given =
        json!({"startOnCreate": true, "launchConfig": {"imageUuid": "sim:x", "ports": ["80"], "labels": {"a": "b"}}});
    let front = service(&project, "dnsServices", &s, "front", given).await;
    assert_eq!(
        (&front["type"], &front["kind"], &front["healthState"]),
        (&json!("dnsService"), &json!("dnsService"), &json!("healthy"))
    );
    assert!(front["id"].as_str().unwrap().starts_with("1s") && front.get("scale").is_none());
    assert_eq!(front["launchConfig"]["labels"], json!({"a": "b"}));
    assert_eq!((&front["launchConfig"]["imageUuid"], &front["launchConfig"]["ports"]), (&Value::Null, &Value::Null));
    let front = project.wait_state(&front, &["active"]).await;
    assert!(front["actions"].get("setservicelinks").is_some());

    let link = |to: &Value, name: Value| json!({"serviceLink": {"serviceId": to["id"], "name": name}});
    act(&project, &front, "addservicelink", link(&web, Value::Null), 200).await;
    act(&project, &front, "addservicelink", link(&web, json!("again")), 200).await;
    act(&project, &front, "addservicelink", link(&api, Value::Null), 200).await;
    assert_eq!(consumed(&project, &front).await, ["web", "api"]);
    act(&project, &front, "removeservicelink", link(&web, Value::Null), 200).await;
    act(&project, &front, "removeservicelink", link(&web, Value::Null), 200).await;
    assert_eq!(consumed(&project, &front).await, ["api"]);
    act(&project, &front, "setservicelinks", json!({"serviceLinks": [{"serviceId": web["id"]}]}), 200).await;
    assert_eq!(consumed(&project, &front).await, ["web"]);

    // Found in the list of all kinds, and in its own alone.
    assert_eq!(project.get("services?name=front").await.column("type"), ["dnsService"]);
    assert_eq!(project.get("dnsServices").await.column("name"), ["front"]);
    assert_eq!(project.get(&format!("services/{}", front["id"].as_str().unwrap())).await.body["type"], "dnsService");
    // The name is taken for every kind of service, and free again once it is gone.
    let twice = json!({"name": "Front", "environmentId": s["id"], "launchConfig": {"imageUuid": "sim:x"}});
    project.post("services", twice.clone()).await.expect_error(422, "NotUnique", Some("name"));
    act(&project, &front, "restart", json!({"rollingRestartStrategy": {}}), 202).await;
    project.wait_state(&front, &["active"]).await;
    act(&project, &front, "deactivate", json!({}), 202).await;
    project.wait_state(&front, &["inactive"]).await;
    act(&project, &front, "activate", json!({}), 202).await;
    project.wait_state(&front, &["active"]).await;
    project.delete(own(&front)).await.expect_status(200);
    project.wait_state(&front, &["removed"]).await;
    project.post("services", twice).await.expect_status(201);
}

/// Addresses of the live maps.
async fn places(project: &Api, of: &Value) -> Vec<Value> {
    let id = of["id"].as_str().unwrap();
    let answer = project.get(&format!("serviceExposeMaps?serviceId={id}&managed=true&state=active")).await;
    let mut found = answer.expect_status(200).column("ipAddress");
    found.sort_by_key(Value::to_string);
    found
}

async fn services_15_3_an_external_service_has_a_map_for_each_place(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let given = json!({"externalIpAddresses": ["192.0.2.1", "192.0.2.2"], "metadata": {"a": 1}});
    let far = service(&project, "externalServices", &s, "far", given).await;
    assert_eq!((&far["type"], &far["externalIpAddresses"][1]), (&json!("externalService"), &json!("192.0.2.2")));
    assert_eq!(places(&project, &far).await, Vec::<Value>::new(), "not while it is inactive");
    assert!(far["actions"].get("addservicelink").is_none());
    project.post(&format!("{}/?action=setservicelinks", own(&far)), json!({"serviceLinks": []})).await.expect_error(
        422,
        "InvalidAction",
        Some("action"),
    );
    act(&project, &far, "activate", json!({}), 202).await;
    project.wait_state(&far, &["active"]).await;
    assert_eq!(places(&project, &far).await, ["192.0.2.1", "192.0.2.2"]);
    let put = async |body: Value| {
        project.put(own(&far), body).await.expect_status(200);
        project.wait_state(&far, &["active"]).await
    };
    put(json!({"externalIpAddresses": ["192.0.2.2"]})).await;
    assert_eq!(places(&project, &far).await, ["192.0.2.2"]);
    put(json!({"externalIpAddresses": null, "hostname": "api.example.com"})).await;
    assert_eq!(places(&project, &far).await, [Value::Null]);
    act(&project, &far, "deactivate", json!({}), 202).await;
    project.wait_state(&far, &["inactive"]).await;
    assert_eq!(places(&project, &far).await, Vec::<Value>::new());
    // The stack is as well as what it holds.
    act(&project, &far, "activate", json!({}), 202).await;
    project.wait_state(&far, &["active"]).await;
    project.wait(&s, "healthy", |stack| stack["healthState"] == "healthy").await;
    project.delete(own(&s)).await.expect_status(200);
    project.wait_state(&far, &["removed"]).await;
}

async fn services_4_1_wrong_places_are_refused(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let post = async |more: Value| {
        let mut body = json!({"name": "far", "environmentId": s["id"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        project.post("externalServices", body).await
    };
    let both = "externalIpAddresses and hostname are mutually exclusive";
    let given = json!({"externalIpAddresses": ["192.0.2.1"], "hostname": "a.example"});
    post(given.clone()).await.expect_error(422, "InvalidOption", Some(both));
    post(json!({"externalIpAddresses": ["a.example"]})).await.expect_error(
        422,
        "InvalidFormat",
        Some("externalIpAddresses"),
    );
    post(json!({"hostname": "a b"})).await.expect_error(422, "InvalidCharacters", Some("hostname"));
    post(json!({"hostname": "a.example", "launchConfig": {"imageUuid": "docker:a:b:c"}})).await.expect_error(
        422,
        "InvalidReference",
        Some("imageUuid"),
    );
    let far = post(json!({"hostname": "a.example"})).await.expect_status(201).body;
    project.wait_state(&far, &["inactive"]).await;
    project.put(own(&far), given).await.expect_error(422, "InvalidOption", Some(both));
    project.put(own(&far), json!({"externalIpAddresses": ["192.0.2.1"]})).await.expect_error(
        422,
        "InvalidOption",
        Some(both),
    );
}

async fn services_without_containers_upgrade_their_labels(h: Harness) {
    let project = h.project();
    let s = stack(&project).await;
    let given = json!({"hostname": "a.example", "startOnCreate": true, "launchConfig": {"labels": {"v": "1"}}});
    let far = service(&project, "externalServices", &s, "far", given).await;
    let front = service(&project, "dnsServices", &s, "front", json!({"startOnCreate": true})).await;
    for one in [far, front] {
        let one = project.wait_state(&one, &["active"]).await;
        let before = one["launchConfig"]["labels"].clone();
        let wish = json!({"inServiceStrategy": {"launchConfig": {"imageUuid": "sim:x", "labels": {"v": "2"}}}});
        act(&project, &one, "upgrade", wish.clone(), 202).await;
        let upgraded = project.wait_state(&one, &["upgraded"]).await;
        assert_eq!(upgraded["launchConfig"]["labels"], json!({"v": "2"}));
        assert_eq!(upgraded["launchConfig"]["imageUuid"], Value::Null);
        act(&project, &one, "rollback", json!({}), 202).await;
        let back = project.wait_state(&one, &["active"]).await;
        assert_eq!(back["launchConfig"]["labels"], before);
        act(&project, &one, "upgrade", wish, 202).await;
        project.wait_state(&one, &["upgraded"]).await;
        act(&project, &one, "finishupgrade", json!({}), 202).await;
        project.wait_state(&one, &["active"]).await;
        let sidekicks = json!({"inServiceStrategy": {"secondaryLaunchConfigs": [{"name": "a", "imageUuid": "sim:x"}]}});
        let to = json!({"toServiceStrategy": {"toServiceId": one["id"]}});
        for (wish, field) in [(sidekicks, "secondaryLaunchConfigs"), (to, "toServiceStrategy")] {
            project.post(&format!("{}/?action=upgrade", own(&one)), wish).await.expect_error(
                422,
                "InvalidOption",
                Some(field),
            );
        }
    }
}

async fn services_without_containers_come_from_files_and_go_back(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let docker = r#"
web: {image: 'sim:web'}
front: {image: rancher/dns-service, links: [web, far], labels: {tier: front}}
far: {image: rancher/external-service}
near: {image: rancher/external-service}
"#;
    let rancher = r#"
far: {hostname: api.example.com}
near: {external_ips: [192.0.2.1], metadata: {a: 1}}
"#;
    let body = json!({"name": "s", "dockerCompose": docker, "rancherCompose": rancher, "startOnCreate": true});
    let made = project.create("environments", body).await;
    let made = project.wait_state(&made, &["active"]).await;
    let services = project.get(made["links"]["services"].as_str().unwrap()).await.expect_status(200);
    let of =
        |name: &str| services.body["data"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    for name in ["web", "front", "far", "near"] {
        project.wait_state(&of(name), &["active"]).await;
    }
    assert_eq!(consumed(&project, &of("front")).await, ["web", "far"]);
    assert_eq!((&of("near")["type"], &of("near")["metadata"]["a"]), (&json!("externalService"), &json!(1)));
    let files = act(&project, &made, "exportconfig", json!({"serviceIds": []}), 200).await;
    let text = |name: &str| files[name].as_str().unwrap().replace("\r\n", "\n");
    let (docker, rancher) = (text("dockerComposeConfig"), text("rancherComposeConfig"));
    for line in ["image: rancher/dns-service", "image: rancher/external-service", "tier: front", "- far:far"] {
        assert!(docker.contains(line), "{line} is missing in\n{docker}");
    }
    for line in ["hostname: api.example.com", "192.0.2.1"] {
        assert!(rancher.contains(line), "{line} is missing in\n{rancher}");
    }
    // The same files again change nothing; others change the place.
    let upgrade = async |rancher: &str| {
        let input = json!({"dockerCompose": docker, "rancherCompose": rancher});
        act(&project, &made, "upgrade", input, 202).await;
        project.wait_state(&made, &["upgraded"]).await;
        act(&project, &made, "finishupgrade", json!({}), 202).await;
        project.wait_state(&made, &["active"]).await;
    };
    upgrade(&rancher).await;
    upgrade(&rancher.replace("192.0.2.1", "192.0.2.9")).await;
    let near = project.wait_state(&of("near"), &["active"]).await;
    assert_eq!(near["externalIpAddresses"], json!(["192.0.2.9"]));
    assert_eq!(places(&project, &near).await, ["192.0.2.9"]);
}
