//! Web pages must not drive a server (DESIGN §8), least of all one without access control.

use remuda_apitests::{Harness, On};
use serde_json::json;

#[tokio::test]
async fn dev_needs_no_key_and_refuses_wrong_ones() {
    let h = Harness::dev(On::Memory).await;
    assert_eq!(h.admin_key, None);
    assert!(!h.admin_env().exists());
    let anyone = h.anonymous();
    assert_eq!(anyone.get("/v1").await.expect_status(200).header("x-api-account-id"), Some("1a1"));
    let nothing = h.keyed(Some(("None".into(), "None".into())));
    nothing.get("/v1").await.expect_status(200);
    h.keyed(Some(("a".into(), "b".into()))).get("/v1").await.expect_error(401, "Unauthorized", None);
    anyone.header("X-ENFORCE-AUTHENTICATION", "true").get("/v1").await.expect_error(401, "Unauthorized", None);
    let bearer = h.keyed(Some(("x-api-bearer=1a5".into(), "t".into())));
    assert_eq!(bearer.get("networks").await.expect_status(200).header("x-api-account-id"), Some("1a5"));
    assert_eq!(anyone.get("settings/api.security.enabled").await.body["activeValue"], "false");
    assert!(h.stop().await);
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    for h in [Harness::dev(On::Memory).await, Harness::start(On::Memory).await] {
        let admin = h.admin();
        let forbidden = async |api: &remuda_apitests::Api| {
            api.post("apikeys", json!({})).await.expect_error(403, "Forbidden", None);
        };
        forbidden(&admin.header("Origin", "http://evil.example")).await;
        forbidden(&admin.header("Origin", "null")).await;
        forbidden(&admin.header("Sec-Fetch-Site", "cross-site")).await;
        let own = admin.header("Origin", &h.url).header("Sec-Fetch-Site", "same-origin");
        own.post("apikeys", json!({})).await.expect_status(201);
        admin.post("apikeys", json!({})).await.expect_status(201);
        // Reading is what the same-origin policy of browsers guards.
        admin.header("Origin", "http://evil.example").get("apikeys").await.expect_status(200);
        let upgrade = admin
            .header("Origin", "http://evil.example")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        upgrade.get("/v1/projects/1a5/subscribe?eventNames=resource.change").await.expect_error(403, "Forbidden", None);
        upgrade.get("/v1/exec/?token=x").await.expect_error(403, "Forbidden", None);
        assert!(h.stop().await);
    }
}

#[tokio::test]
async fn dev_answers_to_this_machine_only() {
    let h = Harness::dev(On::Memory).await;
    for host in ["evil.example", "evil.example:8080", "10.0.0.1", "localhost.evil.example"] {
        h.anonymous().header("Host", host).get("/v1").await.expect_error(403, "Forbidden", None);
        h.anonymous().header("Host", host).get("/ping").await.expect_status(403);
    }
    for host in ["localhost:8080", "127.0.0.1", "[::1]:9"] {
        h.anonymous().header("Host", host).get("/v1").await.expect_status(200);
    }
    let h = Harness::start(On::Memory).await;
    h.admin().header("Host", "rancher.example").get("/v1").await.expect_status(200);
}
