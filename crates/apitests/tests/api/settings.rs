//! Settings by name (`access-control.md` §12).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(settings_are_made_changed_and_reverted, only_public_settings_are_public);

async fn settings_are_made_changed_and_reverted(h: Harness) {
    let admin = h.admin();
    let made = admin.post("settings", json!({"name": "api.host", "value": "h.example:8080"})).await.expect_status(201);
    assert_eq!(made.body["type"], "setting");
    let again = admin.post("settings", json!({"name": "api.host", "value": "h.example"})).await.expect_status(201);
    assert_eq!(again.body["id"], made.body["id"]);
    let row_id = made.body["id"].as_str().unwrap().replace("1s", "1as");
    for id in ["api.host", "1as!api.host", row_id.as_str(), made.body["id"].as_str().unwrap()] {
        let read = admin.get(&format!("settings/{id}")).await.expect_status(200);
        assert_eq!((&read.body["value"], &read.body["source"]), (&json!("h.example"), &json!("Database")), "{id}");
        assert_eq!(read.body["type"], "activeSetting");
    }
    admin.put("settings/vm.enabled", json!({"value": true})).await.expect_status(200);
    let listed = admin.get("settings").await.expect_status(200);
    let names: Vec<_> = listed.column("name").iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert!(names.is_sorted() && names.len() > 20);
    let find = |name: &str| listed.body["data"].as_array().unwrap().iter().find(|item| item["name"] == name).cloned();
    let changed = find("vm.enabled").unwrap();
    assert_eq!((&changed["value"], &changed["inDb"]), (&json!("true"), &json!(true)));
    assert_eq!(find("rancher.compose.version").unwrap()["id"], "1as!rancher.compose.version");
    let gone = admin.delete("settings/vm.enabled").await.expect_status(200);
    assert_eq!((&gone.body["value"], &gone.body["inDb"]), (&json!("false"), &json!(false)));
    let unknown = admin.get("settings/no.such.setting").await.expect_status(200);
    assert_eq!((&unknown.body["value"], &unknown.body["activeValue"]), (&Value::Null, &Value::Null));
    assert_eq!(admin.get("settings/api.security.enabled").await.body["activeValue"], "true");
    admin.put("settings/api.security.enabled", json!({"value": "false"})).await.expect_error(
        405,
        "Method not allowed",
        None,
    );
    admin.post("settings", json!({"value": "x"})).await.expect_error(422, "MissingRequired", Some("name"));
    admin.post("settings", json!({"name": "CATTLE_X", "value": "x"})).await.expect_error(
        422,
        "InvalidCharacters",
        Some("name"),
    );
    admin.post("settings", json!({"name": "x".repeat(300), "value": "x"})).await.expect_error(
        422,
        "MaxLengthExceeded",
        Some("name"),
    );
    // It takes effect: registration scripts name the host that was set.
    assert_eq!(admin.get("settings/api.host").await.body["value"], "h.example");
}

async fn only_public_settings_are_public(h: Harness) {
    let project = h.project();
    let names = project.get("settings").await.expect_status(200).column("name");
    assert!(names.contains(&json!("rancher.compose.version")) && !names.contains(&json!("api.host")), "{names:?}");
    let narrow = h.admin().get("settings?all=false").await.column("name");
    assert_eq!(narrow, names);
    assert_eq!(project.get("settings?all=true").await.column("name"), names);
    project.get("settings/rancher.compose.version").await.expect_status(200);
    project.get("settings/api.host").await.expect_error(404, "Not Found", None);
    project.put("settings/rancher.compose.version", json!({"value": "x"})).await.expect_error(
        405,
        "Method not allowed",
        None,
    );
    project.post("settings", json!({"name": "a", "value": "x"})).await.expect_error(405, "Method not allowed", None);
}
