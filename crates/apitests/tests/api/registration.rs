//! How a host gets its keys (`access-control.md` §9, `resources-infra.md` §1).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(a_token_leads_to_keys_of_an_agent, tokens_say_how_to_join);

async fn tokens_say_how_to_join(h: Harness) {
    let project = h.project();
    let made = project.create("registrationtokens", json!({"name": "t"})).await;
    assert_eq!((&made["state"], &made["token"]), (&json!("registering"), &Value::Null));
    let token = project.wait_state(&made, &["active"]).await;
    let text = token["token"].as_str().unwrap();
    assert_eq!(text.split(':').count(), 3);
    let url = format!("{}/v1/scripts/{text}", h.url);
    assert_eq!((&token["registrationUrl"], &token["links"]["registrationUrl"]), (&json!(url), &json!(url)));
    assert!(token["command"].as_str().unwrap().contains(&url) && token["image"].is_string());
    assert!(token.get("publicValue").is_none() && token.get("secretValue").is_none());
    let script = h.anonymous().get(&url).await.expect_status(200);
    let head = format!(
        "#!/bin/sh\nexport CATTLE_REGISTRATION_ACCESS_KEY=\"registrationToken\"\nexport CATTLE_REGISTRATION_SECRET_KEY=\"{text}\"\n\
         export CATTLE_URL=\"{}/v1\"\nexport DETECTED_CATTLE_AGENT_IP=\"127.0.0.1\"\n",
        h.url
    );
    assert!(script.text.starts_with(&head), "{}", script.text);
    h.anonymous().post(&url, json!({})).await.expect_status(200);
    h.anonymous().get(&format!("{url}x")).await.expect_status(404);
    // A set base URL is what hosts are told.
    h.admin().post("settings", json!({"name": "api.host", "value": "https://r.example"})).await.expect_status(201);
    let read = project.get(token["links"]["self"].as_str().unwrap()).await.body;
    assert!(read["registrationUrl"].as_str().unwrap().starts_with("https://r.example/v1/scripts/"));
    h.admin().put("settings/api.host", json!({"value": "r.example:8080"})).await.expect_status(200);
    let script = h.anonymous().get(&url).await.expect_status(200);
    assert!(script.text.contains("CATTLE_URL=\"http://r.example:8080/v1\""));
    // Deactivated, it lets nobody in.
    project
        .post(&format!("{}/?action=deactivate", token["links"]["self"].as_str().unwrap()), json!({}))
        .await
        .expect_status(202);
    h.anonymous().get(&url).await.expect_status(404);
    project.delete(token["links"]["self"].as_str().unwrap()).await.expect_status(405);
}

async fn a_token_leads_to_keys_of_an_agent(h: Harness) {
    let project = h.project();
    let token = project.create("registrationtokens", json!({})).await;
    let token = project.wait_state(&token, &["active"]).await["token"].as_str().unwrap().to_owned();
    let joining = h.keyed(Some(("registrationToken".into(), token.clone())));
    let mut types = joining.get("schemas").await.expect_status(200).column("id");
    types.sort_by_key(Value::to_string);
    assert_eq!(types, ["register", "schema"]);
    joining.get("hosts").await.expect_error(404, "Not Found", None);
    assert_eq!(joining.get("register?key=mine").await.expect_status(200).column("id"), Vec::<Value>::new());
    let made = joining.create("register", json!({"key": "mine"})).await;
    for name in ["accessKey", "secretKey"] {
        assert_eq!(made[name], Value::Null);
    }
    joining.wait_state(&made, &["active"]).await;
    joining.post("register", json!({"key": "mine"})).await.expect_error(422, "NotUnique", Some("key"));
    joining.post("register", json!({})).await.expect_error(422, "MissingRequired", Some("key"));
    let by_id = joining.get(made["links"]["self"].as_str().unwrap()).await.expect_status(200);
    let unfiltered = joining.get("register").await.expect_status(200);
    for answer in [&by_id.body, &unfiltered.body["data"][0]] {
        assert!(answer["secretKey"].is_null() && answer["accessKey"].is_null() && answer["key"].is_null(), "{answer}");
    }
    let found = joining.get("register?key=mine").await.expect_status(200).body["data"][0].clone();
    assert_eq!(found["key"], "mine");
    let agent = h.keyed(Some((
        found["accessKey"].as_str().unwrap().to_owned(),
        found["secretKey"].as_str().unwrap().to_owned(),
    )));
    // The agent's key opens what agents need and nothing else.
    agent.get("schemas/schema").await.expect_status(200);
    agent.get("schemas/account").await.expect_error(404, "Not Found", None);
    for path in ["containers", "accounts", "settings", "projects"] {
        agent.get(path).await.expect_error(404, "Not Found", None);
    }
    agent.inside("1a5").get("containers").await.expect_error(403, "Forbidden", None);
    let agents = h.admin().get("agents").await.expect_status(200);
    assert_eq!(agents.column("kind"), ["registeredAgent"]);
    assert!(agents.column("uri")[0].as_str().unwrap().starts_with("event://"));
    // The audit log knows of it, without the secrets.
    let secret = found["secretKey"].as_str().unwrap();
    let logs = h.admin().get("auditlogs?limit=0").await.expect_status(200);
    assert!(!logs.text.contains(secret) && !logs.text.contains(&token));
    // Removing the registration takes the keys away.
    joining.delete(made["links"]["self"].as_str().unwrap()).await;
}
