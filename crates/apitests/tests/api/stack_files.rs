//! Stacks made from compose files (`services.md` §3.1, `compose.md` §1), and written as such (§14) on both stores.

use remuda_apitests::{Api, Harness, On, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_3_1_a_compose_file_becomes_services,
    services_3_1_services_start_in_order,
    services_3_1_wrong_files_are_told_with_their_place,
    services_3_1_warnings_are_in_the_log_of_the_stack,
    services_14_services_become_files,
);

const DOCKER: &str = r#"
web:
  image: ${IMAGE}
  links: ['db:mysql']
  volumes_from: [assets]
  labels: {io.rancher.sidekicks: assets}
  environment: {MODE: "$MODE", HOME: /srv}
assets: {image: 'sim:assets', labels: {io.rancher.container.start_once: 'true'}}
db: {image: 'sim:db', links: [web], ports: ['3306']}
"#;

const RANCHER: &str = r#"
.catalog:
  questions:
    - {variable: MODE, default: production}
    - {variable: SIZE, type: int, default: '2'}
web: {scale: 2, metadata: {note: ['a', {b: 1}]}}
"#;

/// Services of the stack by name, as the API shows them.
async fn services(project: &Api, stack: &Value) -> Vec<Value> {
    let link = stack["links"]["services"].as_str().unwrap();
    let mut rows = project.get(link).await.expect_status(200).body["data"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["name"].to_string());
    rows
}

fn column<'a>(rows: &'a [Value], field: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row[field].as_str().unwrap_or_default()).collect()
}

async fn services_3_1_a_compose_file_becomes_services(h: Harness) {
    let project = h.project();
    let body = json!({"name": "shop", "dockerCompose": DOCKER, "rancherCompose": RANCHER,
                      "environment": {"IMAGE": "sim:web"}, "externalId": "catalog://c:t:0"});
    let stack = project.create("environments", body).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    assert_eq!((&stack["dockerCompose"], &stack["rancherCompose"]), (&json!(DOCKER), &json!(RANCHER)));
    assert_eq!((&stack["environment"], &stack["transitioning"]), (&json!({"IMAGE": "sim:web"}), &json!("no")));

    // Made, not started.
    let made = services(&project, &stack).await;
    assert_eq!(column(&made, "name"), ["db", "web"]);
    assert_eq!(column(&made, "state"), ["inactive", "inactive"]);
    let web = &made[1];
    assert_eq!(web["launchConfig"]["imageUuid"], "sim:web");
    assert_eq!(web["launchConfig"]["environment"], json!({"MODE": "production", "HOME": "/srv"}));
    assert_eq!(web["launchConfig"]["dataVolumesFromLaunchConfigs"], json!(["assets"]));
    assert_eq!(web["secondaryLaunchConfigs"][0]["name"], "assets");
    assert_eq!((&web["scale"], &web["metadata"]["note"]), (&json!(2), &json!(["a", {"b": 1}])));
    assert!(web["metadata"]["io.rancher.service.hash"].as_str().unwrap().starts_with("r1-"));
    let port = made[0]["launchConfig"]["ports"][0].as_str().unwrap();
    assert!(port.ends_with(":3306/tcp"), "a public port was chosen: {port}");

    // Links go in a circle.
    let links = project.get("serviceconsumemaps").await;
    let mut links: Vec<(Value, Value, Value)> = links.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| (map["serviceId"].clone(), map["consumedServiceId"].clone(), map["name"].clone()))
        .collect();
    links.sort_by_key(|link| link.0.to_string());
    let (db, web) = (made[0]["id"].clone(), made[1]["id"].clone());
    let mut expected = vec![(db.clone(), web.clone(), Value::Null), (web, db, json!("mysql"))];
    expected.sort_by_key(|link| link.0.to_string());
    assert_eq!(links, expected);

    // A stack without files has nothing to wait for.
    let empty = project.create("environments", json!({"name": "empty", "dockerCompose": " "})).await;
    project.wait_state(&empty, &["active"]).await;
    assert_eq!(services(&project, &empty).await.len(), 0);
}

async fn services_3_1_services_start_in_order(h: Harness) {
    let project = h.project();
    let docker = r#"
services:
  web: {image: 'sim:web', links: [api], external_links: ['other/log:l']}
  api: {image: 'sim:api', depends_on: {setup: {condition: service_completed_successfully}}}
  setup: {image: 'sim:exit/0', labels: {io.rancher.container.start_once: 'true'}}
"#;
    let other = json!({"name": "Other", "dockerCompose": "log: {image: 'sim:log'}"});
    let other = project.create("environments", other).await;
    let other = project.wait_state(&other, &["active"]).await;
    let body = json!({"name": "app", "dockerCompose": docker, "startOnCreate": true});
    let stack = project.create("environments", body).await;
    let told = |row: &Value| row["transitioningMessage"].as_str().is_some_and(|text| text.contains("setup"));
    // Nothing can run: every service says what it waits for, and the stack the first of them.
    let waiting = project.wait(&stack, "a message", told).await;
    assert_eq!((&waiting["state"], &waiting["transitioning"]), (&json!("activating"), &json!("yes")));
    let made = services(&project, &stack).await;
    assert_eq!(column(&made, "name"), ["api", "setup", "web"]);
    project
        .wait(&made[0], "its reason", |row| row["transitioningMessage"] == "Waiting for consumed service setup")
        .await;
    project.wait(&made[2], "its reason", |row| row["transitioningMessage"] == "Waiting for consumed service api").await;

    h.hosts(1).await;
    project.wait_state(&stack, &["active"]).await;
    let made = services(&project, &stack).await;
    assert_eq!(column(&made, "state"), ["active"; 3]);
    let consumed = project.get(made[2]["links"]["consumedservices"].as_str().unwrap()).await;
    let mut names = consumed.column("name");
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["api", "log"]);
    // In order: the containers of who waits are younger.
    let created = |service: &Value| {
        let (project, link) = (project.clone(), service["links"]["instances"].as_str().unwrap().to_owned());
        async move { project.get(&link).await.body["data"][0]["createdTS"].as_i64().unwrap() }
    };
    let (api, setup, web) = (created(&made[0]).await, created(&made[1]).await, created(&made[2]).await);
    assert!(setup <= api && api <= web, "{setup} {api} {web}");
    assert_eq!(column(&services(&project, &other).await, "state"), ["inactive"], "not its business");
}

async fn services_3_1_wrong_files_are_told_with_their_place(h: Harness) {
    let project = h.project();
    let long = "x".repeat(70);
    let cases: [(&str, &str, Value, &str); 12] = [
        ("web:\n  image: x\n  imge: y\n", "", json!({}), "docker-compose.yml:3:3: web.imge: is no key of a service"),
        ("web: {image: x\n", "", json!({}), "docker-compose.yml:"),
        ("web: {image: x, env_file: a.env}", "", json!({}), "the server has only the texts it was given"),
        ("web: {image: x, build: .}", "", json!({}), "docker-compose.yml:1:"),
        ("web: {image: x}", "web:\n  sclae: 2", json!({}), "rancher-compose.yml:2:3:"),
        ("lb: {image: rancher/load-balancer-service, ports: ['42:80']}", "", json!({}), "Port 42 is reserved for"),
        ("web: {image: 'a:b:c'}", "", json!({}), "docker-compose.yml:1: web: "),
        ("web: {image: x, net: 'custom'}", "", json!({}), "docker-compose.yml:1"),
        (&format!("{long}: {{image: x}}"), "", json!({}), "63 characters"),
        ("web: {image: x, external_links: [nowhere/db]}", "", json!({}), "there is no stack `nowhere`"),
        (
            "web: {image: x}",
            ".catalog: {questions: [{variable: N, type: int, max: 3}]}",
            json!({"N": "7"}),
            "the answer to `N` will not do: 7 is more than 3",
        ),
        ("a: &a [x, x]\nb: &b [*a, *a]\nweb: {image: x}", "", json!({}), "docker-compose.yml:1:"),
    ];
    for (idx, (docker, rancher, answers, expected)) in cases.into_iter().enumerate() {
        let body = json!({"name": format!("s{idx}"), "dockerCompose": docker, "rancherCompose": rancher,
                          "environment": answers});
        let stack = project.create("environments", body).await;
        let told = project.wait_state(&stack, &["error"]).await;
        let message = told["transitioningMessage"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{docker}: {message}");
        assert_eq!(told["transitioning"], "error");
        // Nothing can be done but to remove it, and then the name is free.
        let service = json!({"name": "x", "environmentId": told["id"], "launchConfig": {"imageUuid": "sim:x"}});
        project.post("services", service).await.expect_error(422, "InvalidState", Some("environment"));
        project.delete(told["links"]["self"].as_str().unwrap()).await.expect_status(200);
        project.wait_state(&told, &["removed"]).await;
        project.create("environments", json!({"name": format!("s{idx}")})).await;
    }
    // Limits of the declarations hold for compiled services too; what was made before stays.
    let docker = "a: {image: 'sim:a'}\nb: {image: 'sim:b', labels: {io.rancher.service.selector.link: 'a b'}}\n";
    let stack = project.create("environments", json!({"name": "half", "dockerCompose": docker})).await;
    let told = project.wait_state(&stack, &["error"]).await;
    let expected = "docker-compose.yml:2: b: Invalid format selector : a b";
    assert_eq!(told["transitioningMessage"], expected);
    assert_eq!(column(&services(&project, &stack).await, "name"), ["a"]);
    // A file that asks for too much is refused as a whole.
    let many: String = (0..201).map(|idx| format!("s{idx}: {{image: x}}\n")).collect();
    let stack = project.create("environments", json!({"name": "many", "dockerCompose": many})).await;
    let told = project.wait_state(&stack, &["error"]).await;
    assert_eq!(told["transitioningMessage"], "201 services are more than the 200 that one request makes");
}

async fn services_3_1_warnings_are_in_the_log_of_the_stack(h: Harness) {
    let project = h.project();
    let docker = "web: {image: 'sim:a$TAG', mac_address: a}";
    let stack = project.create("environments", json!({"name": "s", "dockerCompose": docker})).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    let logged = async || {
        let id = stack["id"].as_str().unwrap();
        let path = format!("auditlogs?resourceType=environment&resourceId={id}&eventType=stack.compile");
        project.get(&path).await.expect_status(200).column("description")
    };
    let unset = "docker-compose.yml:1:14: web.image: variable `TAG` is not set; it counts as empty";
    let lines = logged().await;
    assert!(lines.contains(&json!(unset)) && lines.len() == 2, "{lines:?}");
    let upgrade = stack["actions"]["upgrade"].as_str().unwrap();
    project.post(upgrade, json!({"environment": {"TAG": "1"}})).await.expect_status(202);
    assert_eq!(logged().await.len(), 3, "what is still so is told again");
}

/// No agent of a server without `--simulator` knows what a simulated image is.
#[tokio::test]
async fn simulated_images_are_refused_wherever_they_stand() {
    let h = Harness::without_simulator(On::Memory).await;
    let project = h.project();
    let docker = "web: {image: real, labels: {io.rancher.sidekicks: side}}\nside: {image: 'sim:x'}";
    let stack = project.create("environments", json!({"name": "s", "dockerCompose": docker})).await;
    let told = project.wait_state(&stack, &["error"]).await;
    let message = told["transitioningMessage"].as_str().unwrap();
    assert!(message.starts_with("docker-compose.yml:1: web: ") && message.contains("--simulator"), "{message}");
    let stack = project.create("environments", json!({"name": "t"})).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "launchConfig": {"imageUuid": "docker:x"}});
    let service = project.create("services", body).await;
    let service = project.wait_state(&service, &["inactive"]).await;
    let input = json!({"inServiceStrategy": {"secondaryLaunchConfigs": [{"name": "a", "imageUuid": "sim:x"}]}});
    let answer = project.post(service["actions"]["upgrade"].as_str().unwrap(), input).await;
    answer.expect_error(422, "InvalidReference", Some("imageUuid"));
}

async fn services_14_services_become_files(h: Harness) {
    let project = h.project();
    let body = json!({"name": "shop", "dockerCompose": DOCKER, "rancherCompose": RANCHER,
                      "environment": {"IMAGE": "docker:nginx:1.11", "MODE": "a$b"}});
    let stack = project.create("environments", body).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    let action = stack["actions"]["exportconfig"].as_str().unwrap();
    let all = project.post(action, json!({})).await.expect_status(200).body;
    assert_eq!(all["type"], "composeConfig");
    let docker = all["dockerComposeConfig"].as_str().unwrap();
    let rancher = all["rancherComposeConfig"].as_str().unwrap();
    assert!(docker.contains("\r\n") && docker.contains("MODE: a$$b"), "{docker}");
    assert!(docker.contains("- db:mysql") && docker.contains("- web:web"), "{docker}");
    assert!(rancher.contains("scale: 2"), "{rancher}");

    // What is exported makes the same again.
    let again = json!({"name": "again", "dockerCompose": docker, "rancherCompose": rancher});
    let again = project.create("environments", again).await;
    let again = project.wait_state(&again, &["active"]).await;
    let hash =
        |row: &Value| (row["metadata"].clone(), row["launchConfig"]["labels"]["io.rancher.service.hash"].clone());
    let (old, new) = (services(&project, &stack).await, services(&project, &again).await);
    assert_eq!(old[1]["metadata"]["note"], new[1]["metadata"]["note"]);
    assert_eq!(hash(&old[1]), hash(&new[1]));

    // Of one service: its link to what is not exported is left out.
    let one = json!({"serviceIds": [old[1]["id"]]});
    let one = project.post(action, one).await.expect_status(200).body;
    let docker = one["dockerComposeConfig"].as_str().unwrap();
    assert!(!docker.contains("db") && docker.contains("web:"), "{docker}");
    let foreign = json!({"serviceIds": [new[1]["id"]]});
    project.post(action, foreign).await.expect_error(422, "InvalidReference", Some("serviceIds"));

    let zip = project.get(stack["links"]["composeConfig"].as_str().unwrap()).await.expect_status(200);
    assert_eq!(zip.header("content-type"), Some("application/zip"));
    assert_eq!(zip.header("content-disposition"), Some("attachment; filename=compose.zip"));
    assert!(zip.text.starts_with("PK") && zip.text.contains("docker-compose.yml"), "{}", zip.text);
    assert!(zip.text.contains("rancher-compose.yml") && zip.text.contains("MODE: a$$b"), "stored as it is");
    h.anonymous().get(stack["links"]["composeConfig"].as_str().unwrap()).await.expect_status(401);
}
