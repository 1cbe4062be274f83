//! Load balancers as the API shows them (`load-balancer.md` §§1, 2, 4, 12-14). What HAProxy makes of them is tested with
//! the agent.

use std::collections::BTreeMap;

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Value, json};

use crate::certificates::certificate;

on_both_stores!(
    a_balancer_gets_what_nobody_said,
    targets_are_links_with_rules,
    wrong_input_is_refused_by_code,
    certificates_in_use_stay,
    instances_listen_on_what_they_publish,
    files_become_a_balancer_and_come_back
);

fn own(row: &Value) -> &str {
    row["links"]["self"].as_str().expect("a link to itself")
}

async fn stack(api: &Api, name: &str) -> Value {
    let made = api.create("environments", json!({"name": name})).await;
    api.wait_state(&made, &["active"]).await
}

async fn service(api: &Api, stack: &Value, name: &str) -> Value {
    let body = json!({"name": name, "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:x"}});
    let made = api.create("services", body).await;
    api.wait_state(&made, &["inactive"]).await
}

fn body(stack: &Value, more: Value) -> Value {
    let mut body = json!({
        "name": "edge", "environmentId": stack["id"], "launchConfig": {"imageUuid": "sim:haproxy", "ports": ["80:8080"]},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn balancer(api: &Api, stack: &Value, more: Value) -> Value {
    let made = api.create("loadbalancerservices", body(stack, more)).await;
    api.wait_state(&made, &["inactive"]).await
}

async fn act(api: &Api, row: &Value, action: &str, input: Value) -> remuda_apitests::Answer {
    api.post(&format!("{}/?action={action}", own(row)), input).await
}

async fn a_balancer_gets_what_nobody_said(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let config = json!({"launchConfig": {"ports": ["80:8080", "9999:99/tcp", "82"], "expose": ["81:90"]}});
    let lb = balancer(&project, &s, config).await;
    assert_eq!(
        (&lb["type"], &lb["scale"], &lb["kind"]),
        (&json!("loadBalancerService"), &json!(1), &json!("loadBalancerService"))
    );
    let config = &lb["launchConfig"];
    assert_eq!(config["imageUuid"], "docker:haproxy:2.8", "the setting's");
    let check = &config["healthCheck"];
    let told: Vec<i64> = ["port", "interval", "healthyThreshold", "unhealthyThreshold", "responseTimeout"]
        .iter()
        .filter_map(|name| check[name].as_i64())
        .collect();
    assert_eq!(told, [42, 2000, 2, 3, 2000]);
    // A port without a public one gets one; the rest stays as it was written.
    let ports: Vec<&str> = config["ports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(ports[..2], ["80:8080", "9999:99/tcp"]);
    let (public, private) = ports[2].split_once(':').expect("a public port");
    assert!(private == "82" && public.parse::<u16>().is_ok_and(|port| port >= 49153), "{ports:?}");
    assert_eq!(config["expose"], json!(["81:90"]));
    // In the union of all services it has its own type.
    let listed = project.get("services").await.expect_status(200);
    assert_eq!(listed.body["data"][0]["type"], "loadBalancerService");
    for (name, image) in [("lb.instance.image", json!({"value": "registry:5000/ha:1"}))] {
        h.admin().put(&format!("settings/{name}"), image).await.expect_status(200);
    }
    let second = balancer(&project, &s, json!({"name": "second", "launchConfig": {}})).await;
    assert_eq!(second["launchConfig"]["imageUuid"], "docker:registry:5000/ha:1");
    // What the later form says, and policies with names that the original dropped.
    let policy = json!({"lbCookieStickinessPolicy": {"cookie": "c", "mode": "insert", "indirect": true}, "name": "dropped",
        "appCookieStickinessPolicy": {"cookie": "c", "maxLength": 5, "timeout": 5}});
    let changed = project.put(own(&lb), json!({"loadBalancerConfig": policy})).await.expect_status(200);
    let policy = &changed.body["loadBalancerConfig"];
    assert_eq!(policy["lbCookieStickinessPolicy"]["cookie"], "c");
    assert!(policy.get("name").is_none() && policy.get("appCookieStickinessPolicy").is_none(), "{policy}");
}

async fn targets_are_links_with_rules(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let (web, db) = (service(&project, &s, "web").await, service(&project, &s, "db").await);
    let lb = balancer(&project, &s, json!({})).await;
    let links = async || -> BTreeMap<String, Value> {
        let maps = project.get("serviceconsumemaps?removed_null=").await;
        let maps = maps.body["data"].as_array().unwrap().clone();
        let live = maps.into_iter().filter(|map| map["state"] == "active" && map["serviceId"] == lb["id"]);
        live.map(|map| (map["consumedServiceId"].as_str().unwrap().to_owned(), map["ports"].clone())).collect()
    };
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let add = json!({"serviceLink": {"serviceId": web["id"], "ports": ["a.test:80/x=81", " 90 "]}});
    act(&project, &lb, "addservicelink", add.clone()).await.expect_status(200);
    act(&project, &lb, "addservicelink", add).await.expect_error(422, "NotUnique", Some("serviceId"));
    assert_eq!(links().await, [(id(&web), json!(["a.test:80/x=81", "90"]))].into());

    // A link that stays has its rules replaced.
    let set = json!({"serviceLinks": [{"serviceId": web["id"], "ports": ["/y"]}, {"serviceId": db["id"]}]});
    act(&project, &lb, "setservicelinks", set).await.expect_status(200);
    assert_eq!(links().await, [(id(&web), json!(["/y"])), (id(&db), json!([]))].into());
    let twice = json!({"serviceLinks": [{"serviceId": web["id"]}, {"serviceId": web["id"], "ports": ["80"]}]});
    let answer = act(&project, &lb, "setservicelinks", twice).await;
    answer.expect_error(422, "NotUnique", Some("serviceId and link name combination"));

    let remove = json!({"serviceLink": {"serviceId": db["id"]}});
    act(&project, &lb, "removeservicelink", remove.clone()).await.expect_status(200);
    act(&project, &lb, "removeservicelink", remove).await.expect_error(422, "InvalidReference", Some("serviceId"));
    act(&project, &lb, "setservicelinks", json!({"serviceLinks": []})).await.expect_status(200);
    assert_eq!(links().await, BTreeMap::new());
    let unknown = json!({"serviceLink": {"serviceId": "1s999"}});
    act(&project, &lb, "addservicelink", unknown).await.expect_error(422, "InvalidReference", Some("serviceId"));
    project.delete(own(&db)).await.expect_status(200);
    project.wait_state(&db, &["removed"]).await;
    let gone = json!({"serviceLinks": [{"serviceId": db["id"]}]});
    let answer = act(&project, &lb, "setservicelinks", gone).await;
    answer.expect_error(422, "InvalidReference", Some("Service db is removed"));
}

async fn wrong_input_is_refused_by_code(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let web = service(&project, &s, "web").await;
    let lb = balancer(&project, &s, json!({})).await;
    for rule in ["90=100=100", "a.com:b.com:80", "a.com/x=y", "a b", "0"] {
        let link = json!({"serviceId": web["id"], "ports": [rule]});
        let answer = act(&project, &lb, "setservicelinks", json!({"serviceLinks": [link]})).await;
        answer.expect_error(422, "InvalidPort", None);
    }
    let port_42 = "Port 42 is reserved for loadBalancerService health check";
    let ports = |ports: Value| json!({"name": "n", "launchConfig": {"ports": ports}});
    let rule = |more: Value| {
        let mut rule = json!({"sourcePort": 80, "serviceId": web["id"], "targetPort": 80});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": "n", "lbConfig": {"portRules": [rule]}})
    };
    for (more, code, field) in [
        (ports(json!(["42:80"])), "InvalidOption", Some(port_42)),
        (ports(json!(["42"])), "InvalidOption", Some(port_42)),
        (json!({"name": "n", "launchConfig": {"expose": ["42"]}}), "InvalidOption", Some(port_42)),
        (ports(json!(["80:80/udp"])), "InvalidOption", Some("ports")),
        (ports(json!(["1:2:3:4"])), "PortWrongFormat", None),
        (ports(json!(["80:99999"])), "PortInvalidPrivatePort", None),
        (ports(json!(["99999:80"])), "PortInvalidPublicPort", None),
        (ports(json!(["80:80/xyz"])), "PortInvalidProtocol", None),
        (json!({"name": "n", "selectorLink": "a b"}), "InvalidFormat", Some("Invalid format selector : a b")),
        (json!({"name": "web"}), "NotUnique", Some("name")),
        (json!({"name": "a--b"}), "InvalidCharacters", Some("name")),
        (json!({"name": "n", "certificateIds": ["1c999"]}), "InvalidReference", Some("certificateIds")),
        (json!({"name": "n", "defaultCertificateId": "1c999"}), "InvalidReference", Some("defaultCertificateId")),
        (rule(json!({"serviceId": null})), "MissingRequired", Some("serviceId")),
        (rule(json!({"selector": "a=b"})), "InvalidOption", Some("Can't specify both selector and serviceId")),
        (rule(json!({"targetPort": null})), "MissingRequired", Some("targetPort")),
        (rule(json!({"sourcePort": null})), "MissingRequired", Some("sourcePort")),
        (rule(json!({"sourcePort": 42})), "InvalidOption", Some(port_42)),
        (rule(json!({"hostname": "a\nglobal"})), "InvalidCharacters", Some("hostname")),
        (rule(json!({"protocol": "smtp"})), "InvalidOption", Some("protocol")),
        (rule(json!({"weight": 257})), "MaxLimitExceeded", Some("weight")),
    ] {
        let answer = project.post("loadbalancerservices", body(&s, more.clone())).await;
        println!("{more}");
        answer.expect_error(422, code, field);
    }
    // Two rules for the same requests that want different things name each other, also by PUT.
    let clash = json!({"portRules": [
        {"sourcePort": 80, "hostname": "A.test", "serviceId": web["id"], "targetPort": 80, "backendName": "x"},
        {"sourcePort": 80, "hostname": "a.test", "serviceId": web["id"], "targetPort": 81, "backendName": "y"},
    ]});
    let answer = project.put(own(&lb), json!({"lbConfig": clash})).await;
    let told = answer.body["detail"].as_str().unwrap_or_default().to_owned();
    answer.expect_error(422, "InvalidOption", Some("backendName"));
    assert!(told.contains("rules 1 and 2") && told.contains("a.test:80"), "{told}");
    project.delete(own(&s)).await.expect_status(200);
    project.wait_state(&s, &["removed"]).await;
    let late = project.post("loadbalancerservices", body(&s, json!({}))).await;
    late.expect_error(422, "InvalidState", Some("environment"));
}

async fn certificates_in_use_stay(h: Harness) {
    let project = h.project();
    let s = stack(&project, "s").await;
    let make = async |name: &str| {
        let (cert, key) = certificate(name, 2099);
        let made = project.create("certificates", json!({"name": name, "cert": cert, "key": key})).await;
        project.wait_state(&made, &["active"]).await
    };
    let (main, more, later) = (make("main").await, make("more").await, make("later").await);
    let first = balancer(&project, &s, json!({"name": "a", "defaultCertificateId": main["id"]})).await;
    let config = json!({"certificateIds": [later["id"]], "portRules": []});
    balancer(&project, &s, json!({"name": "b", "certificateIds": [more["id"], main["id"]], "lbConfig": config})).await;
    for (row, users) in [(&main, "a,b"), (&more, "b"), (&later, "b")] {
        let expected = format!("Certificate is in use by load balancer services: {users}");
        let answer = project.delete(own(row)).await;
        assert_eq!(answer.body["detail"], json!(expected));
        answer.expect_error(405, "InvalidAction", None);
        act(&project, row, "remove", json!({})).await.expect_error(405, "InvalidAction", None);
    }
    // Absent in an update means unchanged, null means none.
    let unchanged = project.put(own(&first), json!({"description": "d"})).await.expect_status(200);
    assert_eq!(unchanged.body["defaultCertificateId"], main["id"]);
    let cleared = project.put(own(&first), json!({"defaultCertificateId": null})).await.expect_status(200);
    assert_eq!(cleared.body["defaultCertificateId"], Value::Null);
}

async fn instances_listen_on_what_they_publish(h: Harness) {
    h.hosts(2).await;
    let project = h.project();
    let s = stack(&project, "s").await;
    let web = service(&project, &s, "web").await;
    let config = json!({"imageUuid": "sim:haproxy", "ports": ["80:8080", "81:99/tcp"], "expose": ["82:90"],
        "labels": {"io.rancher.scheduler.global": "true", "mine": "kept"}});
    let lb = json!({"launchConfig": config, "startOnCreate": true});
    let lb = project.create("loadbalancerservices", body(&s, lb)).await;
    let link = json!({"serviceLink": {"serviceId": web["id"]}});
    act(&project, &lb, "addservicelink", link).await.expect_status(200);
    let lb = project.wait_state(&lb, &["active"]).await;
    let containers = project.get(&format!("{}/instances", own(&lb))).await;
    let rows = containers.body["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "one on each host");
    for row in rows {
        let row = project.get(own(row)).await.body;
        assert_eq!(row["ports"], json!(["80:80/tcp", "81:81/tcp"]));
        assert_eq!((&row["systemContainer"], &row["privileged"]), (&json!("LoadBalancerAgent"), &json!(false)));
        let labels = &row["labels"];
        assert_eq!(labels["io.rancher.container.agent.role"], "LoadBalancerAgent");
        assert_eq!((&labels["io.rancher.container.create_agent"], &labels["mine"]), (&json!("true"), &json!("kept")));
        assert!(row["name"].as_str().unwrap().starts_with("s_edge_"));
    }
    // Exchanged like those of any service, image and check filled in again.
    let strategy = json!({"inServiceStrategy": {"launchConfig": {"imageUuid": "sim:haproxy2", "ports": ["80:9090"]}}});
    let upgraded = act(&project, &lb, "upgrade", strategy).await.expect_status(202);
    let upgraded = project.wait_state(&upgraded.body, &["upgraded"]).await;
    assert_eq!(upgraded["launchConfig"]["ports"], json!(["80:9090"]));
    assert_eq!(upgraded["launchConfig"]["healthCheck"]["port"], 42);
}

async fn files_become_a_balancer_and_come_back(h: Harness) {
    let project = h.project();
    let (cert, key) = certificate("wild.test", 2099);
    let made = project.create("certificates", json!({"name": "wild", "cert": cert, "key": key})).await;
    let wild = project.wait_state(&made, &["active"]).await;
    let docker = "edge:\n  image: rancher/load-balancer-service\n  ports:\n  - 443:8080\n  links:\n  - shop\n  labels:\n    \
                  io.rancher.loadbalancer.ssl.ports: '443'\n    \
                  io.rancher.loadbalancer.target.shop: shop.example.com:443=8080,/x\n\
                  shop:\n  image: sim:x\n";
    let rancher =
        "edge:\n  default_cert: wild\n  load_balancer_config:\n    haproxy_config:\n      defaults: balance first\n";
    let body = json!({"name": "files", "dockerCompose": docker, "rancherCompose": rancher});
    let made = project.create("environments", body).await;
    let files = project.wait_state(&made, &["active"]).await;
    let found = project.get(&format!("loadbalancerservices?environmentId={}", files["id"].as_str().unwrap())).await;
    let lb = &found.body["data"][0];
    assert_eq!((&lb["name"], &lb["defaultCertificateId"]), (&json!("edge"), &wild["id"]));
    assert_eq!(lb["launchConfig"]["ports"], json!(["443:8080"]));
    assert_eq!(lb["loadBalancerConfig"]["haproxyConfig"]["defaults"], "balance first");
    let maps = project.get("serviceconsumemaps").await;
    assert_eq!(maps.body["data"][0]["ports"], json!(["shop.example.com:443=8080", "/x"]));

    let exported = act(&project, &files, "exportconfig", json!({})).await.expect_status(200);
    let text = |name: &str| exported.body[name].as_str().unwrap().replace("\r\n", "\n");
    let (docker, rancher) = (text("dockerComposeConfig"), text("rancherComposeConfig"));
    for expected in [
        "image: rancher/load-balancer-service",
        "443:8080",
        "io.rancher.loadbalancer.target.shop: shop.example.com:443=8080,/x",
        "io.rancher.loadbalancer.ssl.ports: '443'",
    ] {
        assert!(docker.contains(expected), "no `{expected}` in\n{docker}");
    }
    assert!(rancher.contains("default_cert: wild") && rancher.contains("balance first"), "{rancher}");
    assert!(!rancher.contains("42"), "its own check is the server's business\n{rancher}");

    // A certificate that is not there is said with its place.
    let body = json!({"name": "wrong", "dockerCompose": docker, "rancherCompose": "edge:\n  certs: [nosuch]\n"});
    let made = project.create("environments", body).await;
    let wrong = project.wait_state(&made, &["error"]).await;
    let told = wrong["transitioningMessage"].as_str().unwrap_or_default();
    assert!(told.contains("Failed to find certificate nosuch"), "{told}");
}
