//! Secrets (`compose.md` §13, DESIGN §4): sealed, never shown, given to hosts of the project.

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    compose_13_a_secret_never_comes_back,
    compose_13_a_secret_belongs_to_one_project,
    compose_13_hosts_get_what_containers_name,
    compose_13_a_secret_goes_with_its_stack,
);

/// `hush`, in base64.
const HUSH: &str = "aHVzaA==";

async fn compose_13_a_secret_never_comes_back(h: Harness) {
    let project = h.project();
    let made = project.create("secrets", json!({"name": "db", "value": HUSH})).await;
    assert_eq!((&made["name"], &made["state"], &made["value"]), (&json!("db"), &json!("active"), &Value::Null));
    let same = project.post("secrets", json!({"name": "db", "value": HUSH})).await.expect_status(200);
    assert_eq!(same.body["id"], made["id"], "the same again is the same");
    let other = project.create("secrets", json!({"name": "db", "value": "b3RoZXI="})).await;
    assert_ne!(other["id"], made["id"]);
    let own = made["links"]["self"].as_str().unwrap();
    for path in [own, "secrets", "auditlogs?resourceType=secret&limit=100"] {
        let text = project.get(path).await.expect_status(200).text;
        assert!(!text.contains(HUSH) && !text.contains("hush") && !text.contains("ealedValue"), "{path}: {text}");
        assert!(!text.contains("ingerprint"), "{path}: {text}");
    }
    for (body, code) in [
        (json!({"name": "x", "value": "!"}), "InvalidFormat"),
        (json!({"name": "x"}), "MissingRequired"),
        (json!({"value": HUSH}), "MissingRequired"),
    ] {
        let refused = project.post("secrets", body.clone()).await.expect_status(422);
        assert_eq!(refused.body["code"], code, "{body}");
    }
    let id = own.rsplit('/').next().unwrap();
    let number =
        id.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_start_matches(|c: char| c.is_ascii_lowercase());
    for api in [&project, &h.admin()] {
        api.get(&format!("/v1/secretvalues/{number}")).await.expect_error(403, "Forbidden", None);
    }
    h.anonymous().get(&format!("/v1/secretvalues/{number}")).await.expect_error(401, "Unauthorized", None);
}

async fn compose_13_a_secret_belongs_to_one_project(h: Harness) {
    let project = h.project();
    let other = h.admin().create("projects", json!({"name": "other"})).await;
    let other = h.admin().wait_state(&other, &["active"]).await["id"].as_str().unwrap().to_owned();
    let theirs = h.admin().inside(&other).create("secrets", json!({"name": "db", "value": HUSH})).await;
    let path = theirs["links"]["self"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(project.get("secrets").await.column("id").is_empty());
    let reference = json!({"secretId": path, "name": "db"});
    let body = json!({"imageUuid": "sim:x", "secrets": [reference]});
    let refused = project.post("containers", body).await.expect_status(422);
    assert_eq!(refused.body["code"], "InvalidReference", "{}", refused.text);
}

async fn compose_13_hosts_get_what_containers_name(h: Harness) {
    h.hosts(1).await;
    let project = h.project();
    let secret = project.create("secrets", json!({"name": "db", "value": HUSH})).await;
    for (name, mode) in [("../x", "0400"), ("db", "rw")] {
        let body = json!({"imageUuid": "sim:x", "secrets": [{"secretId": secret["id"], "name": name, "mode": mode}]});
        project.post("containers", body).await.expect_error(422, "InvalidFormat", Some("secrets"));
    }
    let stack = project.create("environments", json!({"name": "s"})).await;
    let reference = json!({"secretId": secret["id"], "name": "db", "mode": "0400", "uid": "33"});
    let service = json!({"name": "web", "environmentId": stack["id"], "startOnCreate": true,
                         "launchConfig": {"imageUuid": "sim:x", "secrets": [reference]}});
    let service = project.create("services", service).await;
    let service = project.wait_state(&service, &["active"]).await;
    assert_eq!(service["launchConfig"]["secrets"][0]["secretId"], secret["id"]);
    assert_eq!(service["launchConfig"]["secrets"][0]["mode"], "0400");
    let refused = project.delete(secret["links"]["self"].as_str().unwrap()).await.expect_status(409);
    assert!(refused.text.contains("`web`"), "{}", refused.text);
}

async fn compose_13_a_secret_goes_with_its_stack(h: Harness) {
    let project = h.project();
    let stack = project.create("environments", json!({"name": "s"})).await;
    let stack = project.wait_state(&stack, &["active"]).await;
    let body = json!({"name": "s_db", "value": HUSH, "environmentId": stack["id"]});
    project.create("secrets", body).await;
    let kept = project.create("secrets", json!({"name": "mine", "value": HUSH})).await;
    project.delete(stack["links"]["self"].as_str().unwrap()).await.expect_status(200);
    assert_eq!(project.get("secrets").await.column("id"), [kept["id"].clone()]);
    project.delete(kept["links"]["self"].as_str().unwrap()).await.expect_status(200);
    assert!(project.get("secrets").await.column("id").is_empty());
}
