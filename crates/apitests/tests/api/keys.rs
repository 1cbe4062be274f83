//! API keys, registration tokens, registration (`access-control.md` §§4, 9).

use remuda_apitests::{Harness, on_both_stores};
use serde_json::{Value, json};

on_both_stores!(
    secrets_are_shown_once,
    wrong_keys_are_refused,
    the_first_key_is_in_a_file,
    a_key_has_a_client_certificate
);

async fn a_key_has_a_client_certificate(h: Harness) {
    let project = h.project();
    let key = project.create("apikeys", json!({"name": "n"})).await;
    let link = key["links"]["certificate"].as_str().unwrap();
    let zip = project.get(link).await.expect_status(200);
    assert_eq!(zip.header("content-type"), Some("application/zip"));
    assert_eq!(zip.header("content-disposition"), Some("attachment; filename=certificate.zip"));
    for part in ["ca.pem", "cert.pem", "key.pem", "-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"] {
        assert!(zip.text.contains(part), "no {part} in {}", zip.text);
    }
    // It acts as the key, so it is for those alone who see the key.
    let stranger = h.admin().create("projects", json!({"name": "other"})).await;
    let stranger = h.admin().wait_state(&stranger, &["active"]).await;
    let inside = h.admin().inside(stranger["id"].as_str().unwrap());
    let path = format!("apikeys/{}/certificate", key["id"].as_str().unwrap());
    inside.get(&path).await.expect_error(404, "Not Found", None);
    h.anonymous().get(link).await.expect_error(401, "Unauthorized", None);
}

async fn secrets_are_shown_once(h: Harness) {
    let admin = h.admin();
    let made = admin.create("apikeys", json!({"name": "n", "description": "d", "publicValue": "MINE"})).await;
    assert_eq!(
        (&made["publicValue"], &made["type"], &made["accountId"]),
        (&json!("MINE"), &json!("apiKey"), &json!("1a1"))
    );
    assert_eq!(made["secretValue"].as_str().map(str::len), Some(40));
    let own = made["links"]["self"].as_str().unwrap();
    let read = admin.get(own).await.expect_status(200);
    assert_eq!(read.body["secretValue"], Value::Null);
    assert!(read.body.get("secretHash").is_none());
    let secret = made["secretValue"].as_str().unwrap();
    for path in ["apikeys", "credentials", "auditlogs", "auditlogs?limit=0"] {
        assert!(!admin.get(path).await.expect_status(200).text.contains(secret), "{path}");
    }
    admin.post("apikeys", json!({"publicValue": "mine"})).await.expect_error(422, "NotUnique", Some("publicValue"));
    let put = admin.put(own, json!({"name": "m", "publicValue": "X", "secretValue": "Y"})).await.expect_status(200);
    assert_eq!((&put.body["name"], &put.body["publicValue"]), (&json!("m"), &json!("MINE")));
    // What the project makes is the project's.
    let generated = h.project().create("apikeys", json!({"publicValue": "ignored"})).await;
    assert_eq!(generated["accountId"], "1a5");
    let public = generated["publicValue"].as_str().unwrap();
    assert!(public.len() == 20 && public.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)));
    let listed = admin.get("apikeys").await.column("accountId");
    assert!(listed.iter().all(|account| account == "1a1"), "{listed:?}");
}

async fn wrong_keys_are_refused(h: Harness) {
    let (access, secret) = h.admin_key.clone().unwrap();
    for key in [(access.clone(), "wrong".to_owned()), ("wrong".into(), secret), (String::new(), String::new())] {
        h.keyed(Some(key)).get("/v1").await.expect_error(401, "Unauthorized", None);
    }
    for header in ["Bearer x", "Basic !!!", "Basic", "Digest a", "Basic AAAA"] {
        h.anonymous().header("Authorization", header).get("/v1").await.expect_error(401, "Unauthorized", None);
    }
    h.keyed(Some(("x-api-bearer".into(), "t".into()))).get("/v1").await.expect_error(401, "Unauthorized", None);
    h.keyed(Some(("registrationToken".into(), "a:1:b".into()))).get("/v1").await.expect_error(
        401,
        "Unauthorized",
        None,
    );
    h.anonymous().header("Cookie", "token=x").get("/v1?token=y").await.expect_error(401, "Unauthorized", None);
}

async fn the_first_key_is_in_a_file(h: Harness) {
    use std::os::unix::fs::PermissionsExt;
    let path = h.admin_env();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(path).unwrap();
    let (access, secret) = h.admin_key.clone().unwrap();
    assert_eq!(text, format!("REMUDA_URL={}\nREMUDA_ACCESS_KEY={access}\nREMUDA_SECRET_KEY={secret}\n", h.url));
}
