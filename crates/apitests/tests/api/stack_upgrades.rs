//! Upgrades of stacks by new files (`services.md` §11.6) on both stores.

use remuda_apitests::{Api, Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    services_11_6_new_files_upgrade_what_they_change,
    services_11_6_a_rollback_brings_everything_back,
    services_11_6_what_is_refused_changes_nothing,
);

const BEFORE: &str = "
web: {image: 'sim:web:$TAG', links: [db]}
db: {image: 'sim:db'}
old: {image: 'sim:old'}
";

const AFTER: &str = "
web: {image: 'sim:web:$TAG', links: ['db:data', cache]}
db: {image: 'sim:db'}
cache: {image: 'sim:cache'}
";

/// An active stack of three running services.
async fn stack(h: &Harness) -> Value {
    h.hosts(1).await;
    let project = h.project();
    let body = json!({"name": "shop", "dockerCompose": BEFORE, "startOnCreate": true, "externalId": "catalog://shop:0",
                      "environment": {"TAG": "1", "KEPT": "yes"}});
    let stack = project.create("environments", body).await;
    project.wait_state(&stack, &["active"]).await
}

async fn act(project: &Api, stack: &Value, action: &str, input: Value) -> Value {
    let now = project.get(stack["links"]["self"].as_str().unwrap()).await.body;
    let url = now["actions"][action].as_str().unwrap_or_else(|| panic!("{action} is not offered: {now}")).to_owned();
    project.post(&url, input).await.expect_status(202).body
}

async fn service(project: &Api, name: &str) -> Value {
    let rows = project.get(&format!("services?name={name}&removed_null=1")).await;
    rows.body["data"][0].clone()
}

/// `name state image` of each live container.
async fn containers(project: &Api) -> Vec<String> {
    let rows = project.get("containers?removed_null=1").await.body["data"].as_array().unwrap().clone();
    let live = rows.iter().filter(|row| row["removed"].is_null() && row["state"] != "removing");
    let mut told: Vec<String> = live
        .map(|row| {
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("name"), text("state"), text("imageUuid"))
        })
        .collect();
    told.sort();
    told
}

async fn services_11_6_new_files_upgrade_what_they_change(h: Harness) {
    let project = h.project();
    let stack = stack(&h).await;
    let input = json!({"dockerCompose": AFTER, "rancherCompose": "web: {metadata: {note: new}, upgrade_strategy: {start_first: true}}",
                       "environment": {"TAG": "2"}, "externalId": "catalog://shop:1"});
    let going = act(&project, &stack, "upgrade", input).await;
    assert_eq!((&going["state"], &going["transitioning"]), (&json!("upgrading"), &json!("yes")));
    let stack = project.wait_state(&stack, &["upgraded"]).await;
    assert_eq!(
        (&stack["externalId"], &stack["previousExternalId"]),
        (&json!("catalog://shop:1"), &json!("catalog://shop:0"))
    );
    assert_eq!(stack["environment"], json!({"TAG": "2", "KEPT": "yes"}));
    assert_eq!(stack["previousEnvironment"], json!({"TAG": "1", "KEPT": "yes"}));
    assert_eq!(stack["dockerCompose"], json!(BEFORE), "the stack keeps its first files");
    let expected = [
        "shop_cache_1 running sim:cache",
        "shop_db_1 running sim:db",
        "shop_old_1 running sim:old",
        "shop_web_1 running sim:web:2",
        "shop_web_1 stopped sim:web:1",
    ];
    assert_eq!(containers(&project).await, expected);
    let web = service(&project, "web").await;
    assert_eq!((&web["state"], &web["metadata"]["note"]), (&json!("upgraded"), &json!("new")));
    assert_eq!(web["upgrade"]["inServiceStrategy"]["startFirst"], true);
    for name in ["db", "old", "cache"] {
        assert_eq!(service(&project, name).await["state"], "active", "{name}");
    }
    let mut linked = project.get(web["links"]["consumedservices"].as_str().unwrap()).await.column("name");
    linked.sort_by_key(ToString::to_string);
    assert_eq!(linked, ["cache", "db"]);
    assert!(!stack["actions"].as_object().unwrap().contains_key("upgrade"));

    act(&project, &stack, "finishupgrade", Value::Null).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    assert_eq!((&stack["externalId"], &stack["previousExternalId"]), (&json!("catalog://shop:1"), &Value::Null));
    assert_eq!(stack["previousEnvironment"], Value::Null);
    project.wait_state(&web, &["active"]).await;
    let is_gone = |rows: Vec<String>| rows.iter().all(|row| !row.contains("sim:web:1"));
    assert!(is_gone(containers(&project).await));

    // The same files again change nothing.
    let input = json!({"dockerCompose": AFTER, "rancherCompose": "web: {metadata: {note: new}}"});
    act(&project, &stack, "upgrade", input).await;
    project.wait_state(&stack, &["upgraded"]).await;
    assert_eq!(service(&project, "web").await["state"], "active");
}

async fn services_11_6_a_rollback_brings_everything_back(h: Harness) {
    let project = h.project();
    let stack = stack(&h).await;
    // New answers to the files it has.
    let input = json!({"environment": {"TAG": "2"}, "externalId": "catalog://shop:1"});
    act(&project, &stack, "upgrade", input).await;
    let stack = project.wait_state(&stack, &["upgraded"]).await;
    assert_eq!(service(&project, "web").await["launchConfig"]["imageUuid"], "sim:web:2");
    act(&project, &stack, "rollback", Value::Null).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    assert_eq!((&stack["externalId"], &stack["previousExternalId"]), (&json!("catalog://shop:0"), &Value::Null));
    assert_eq!((&stack["environment"]["TAG"], &stack["previousEnvironment"]), (&json!("1"), &Value::Null));
    let web = service(&project, "web").await;
    assert_eq!((&web["state"], &web["launchConfig"]["imageUuid"]), (&json!("active"), &json!("sim:web:1")));
    let running = containers(&project).await.into_iter().filter(|row| row.contains("running")).collect::<Vec<_>>();
    assert_eq!(running, ["shop_db_1 running sim:db", "shop_old_1 running sim:old", "shop_web_1 running sim:web:1"]);

    // One whose new containers never come up: what is not begun is given up, what is begun goes back.
    let bad = BEFORE.replace("sim:web:$TAG", "sim:$TAG/start-fail");
    act(&project, &stack, "upgrade", json!({"dockerCompose": bad})).await;
    let stuck =
        |row: &Value| row["transitioningMessage"].as_str().is_some_and(|text| text.starts_with("Service web: "));
    project.wait(&stack, "what it waits for", stuck).await;
    act(&project, &stack, "cancelupgrade", Value::Null).await;
    project.wait_state(&stack, &["canceled-upgrade"]).await;
    let web = service(&project, "web").await;
    let cancel = web["actions"]["cancelupgrade"].as_str().unwrap();
    project.post(cancel, Value::Null).await.expect_status(202);
    let web = project.wait_state(&web, &["canceled-upgrade"]).await;
    project.post(web["actions"]["rollback"].as_str().unwrap(), Value::Null).await.expect_status(202);
    act(&project, &stack, "rollback", Value::Null).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    assert_eq!(stack["externalId"], "catalog://shop:0");
    let web = project.wait_state(&web, &["active"]).await;
    assert_eq!(web["launchConfig"]["imageUuid"], "sim:web:1");
}

async fn services_11_6_what_is_refused_changes_nothing(h: Harness) {
    let project = h.project();
    let stack = stack(&h).await;
    let upgrade = stack["actions"]["upgrade"].as_str().unwrap();
    let before = containers(&project).await;
    for (docker, expected) in [
        ("web:\n  image: x\n  imge: y", "docker-compose.yml:3:3: web.imge: is no key of a service"),
        (
            "fresh: {image: 'sim:x'}\nlb: {image: rancher/load-balancer-service, ports: ['42:80']}",
            "Port 42 is reserved for loadBalancerService health check",
        ),
        ("fresh: {image: 'sim:x'}\nweb: {image: 'a:b:c'}", "docker-compose.yml:2: web: "),
    ] {
        let answer = project.post(upgrade, json!({"dockerCompose": docker})).await;
        let answer = answer.expect_error(422, "InvalidFormat", Some("dockerCompose"));
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{message}");
    }
    let now = project.get(stack["links"]["self"].as_str().unwrap()).await.body;
    assert_eq!((&now["state"], &now["externalId"]), (&json!("active"), &json!("catalog://shop:0")));
    assert_eq!(containers(&project).await, before);
    assert_eq!(service(&project, "fresh").await, Value::Null, "nothing of a refused file is made");

    // Not offered: said so, whatever the input.
    for action in ["finishupgrade", "rollback", "cancelupgrade", "cancelrollback"] {
        let url = format!("{}/?action={action}", stack["links"]["self"].as_str().unwrap());
        project.post(&url, Value::Null).await.expect_error(422, "ActionNotAvailable", Some("action"));
    }
    // A stack that was not made from files has nothing to upgrade.
    let plain = project.create("environments", json!({"name": "plain", "externalId": "x"})).await;
    let plain = project.wait_state(&plain, &["active"]).await;
    act(&project, &plain, "upgrade", json!({"dockerCompose": "a: {image: 'sim:a'}", "externalId": "y"})).await;
    let plain = project.wait_state(&plain, &["upgraded"]).await;
    assert_eq!((&plain["externalId"], &plain["environment"]), (&json!("x"), &Value::Null));
    let again = format!("{}/?action=upgrade", plain["links"]["self"].as_str().unwrap());
    project.post(&again, json!({})).await.expect_error(422, "ActionNotAvailable", Some("action"));
    project.delete(plain["links"]["self"].as_str().unwrap()).await.expect_status(200);
    project.wait_state(&plain, &["removed"]).await;
}
