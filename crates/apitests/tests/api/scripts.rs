//! Scripts and the agent's binary (`resources-infra.md` §1.2).

use remuda_apitests::{Harness, On, on_both_stores};
use serde_json::json;

on_both_stores!(scripts_need_no_key);

async fn scripts_need_no_key(h: Harness) {
    let anyone = h.anonymous();
    assert!(anyone.get("scripts/api.crt").await.expect_status(200).text.starts_with("-----BEGIN PUBLIC KEY-----"));
    let bootstrap = anyone.get("scripts/bootstrap").await.expect_status(200);
    assert!(
        bootstrap.text.starts_with("#!/bin/sh") && bootstrap.header("content-type").unwrap().starts_with("text/plain")
    );
    for name in ["nosuch", "a:1:b", "a:b:c:d", "%00:1:x"] {
        anyone.get(&format!("scripts/{name}")).await.expect_status(404);
    }
    for base in ["scripts/transform", "/v1/projects/1a5/scripts/transform"] {
        let inspect = json!({"Config": {"Image": "nginx"}, "HostConfig": {}});
        let answer = anyone.post(base, inspect).await.expect_status(200);
        assert_eq!(answer.body["imageUuid"], "docker:nginx");
        assert!(answer.body["logConfig"].is_object());
    }
    anyone.send("POST", "scripts/transform", Some(b"{".to_vec())).await.expect_error(400, "InvalidBodyContent", None);
    let foreign = json!({"HostConfig": {"NetworkMode": "container:x"}});
    anyone.post("scripts/transform", foreign).await.expect_error(422, "InvalidOption", Some("networkMode"));
}

#[tokio::test]
async fn agents_fetch_their_binary() {
    let h = Harness::start(On::Memory).await;
    let anyone = h.anonymous();
    let own = anyone.get(&format!("/agent/binary?arch={}", std::env::consts::ARCH)).await.expect_status(200);
    assert_eq!(own.header("content-type"), Some("application/octet-stream"));
    let other = if std::env::consts::ARCH == "x86_64" { "aarch64" } else { "x86_64" };
    assert!(anyone.get(&format!("/agent/binary?arch={other}")).await.expect_status(404).text.contains("--agents-dir"));
    anyone.get("/agent/binary?arch=vax").await.expect_status(404);
}
