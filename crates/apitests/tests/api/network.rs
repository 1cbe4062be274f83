//! The managed network as the API shows it: the hosts' own addresses, the choice of a backend, and a network that is full.

use std::collections::BTreeSet;
use std::time::Duration;

use remuda_apitests::{Harness, PATIENCE, on_both_stores};
use serde_json::json;

on_both_stores!(hosts_have_addresses_and_give_them_back, a_backend_is_chosen_per_environment, a_full_network_says_so);

async fn hosts_have_addresses_and_give_them_back(h: Harness) {
    let hosts = h.hosts(3).await;
    let project = h.project();
    let addresses: BTreeSet<&str> = hosts.iter().filter_map(|host| host["networkAddress"].as_str()).collect();
    assert_eq!(addresses.len(), 3, "{hosts:?}");
    assert!(addresses.iter().all(|address| address.starts_with("10.42.")), "{addresses:?}");
    // Nobody else gets one of them, not even by asking.
    let body = json!({"name": "c", "imageUuid": "sim:c", "labels": {"io.rancher.container.requested_ip": hosts[0]["networkAddress"]}});
    let made = project.create("containers", body).await;
    let running = project.wait_state(&made, &["running"]).await;
    assert_ne!(running["primaryIpAddress"], hosts[0]["networkAddress"]);
    let host = hosts[0]["links"]["self"].as_str().unwrap();
    project.post(&format!("{host}/?action=deactivate"), json!({})).await.expect_status(202);
    project.wait_state(&hosts[0], &["inactive"]).await;
    project.post(&format!("{host}/?action=remove"), json!({})).await.expect_status(202);
    project.wait(&hosts[0], "no address", |host| host["networkAddress"].is_null()).await;
    let body = json!({"name": "d", "imageUuid": "sim:d", "labels": {"io.rancher.container.requested_ip": hosts[0]["networkAddress"]}});
    let made = project.create("containers", body).await;
    let running = project.wait_state(&made, &["running"]).await;
    assert_eq!(running["primaryIpAddress"], hosts[0]["networkAddress"], "free again");
}

async fn a_backend_is_chosen_per_environment(h: Harness) {
    let admin = h.admin();
    let made = admin.create("projects", json!({"name": "n"})).await;
    let told = (&made["networkBackend"], &made["networkMtu"], &made["networkPort"]);
    assert_eq!(told, (&json!("wireguard"), &json!(1500), &json!(null)));
    let made = admin.wait_state(&made, &["active"]).await;
    let url = made["links"]["self"].as_str().unwrap();
    let changed = admin.put(url, json!({"networkBackend": "vxlan", "networkPort": 4790})).await.expect_status(200);
    assert_eq!(changed.body["networkBackend"], "vxlan");
    for (body, code, field) in [
        (json!({"networkBackend": "ipsec"}), "InvalidOption", "networkBackend"),
        (json!({"networkPort": 70_000}), "MaxLimitExceeded", "networkPort"),
    ] {
        admin.put(url, body).await.expect_error(422, code, Some(field));
    }
    let small = json!({"name": "m", "networkMtu": 500});
    admin.post("projects", small).await.expect_error(422, "MinLimitExceeded", Some("networkMtu"));
}

/// Nine addresses, of which the host has one.
async fn a_full_network_says_so(h: Harness) {
    let admin = h.admin();
    admin.put("settings/docker.network.subnet.cidr", json!({"value": "10.42.7.0/28"})).await.expect_status(200);
    let made = admin.create("projects", json!({"name": "small"})).await;
    let made = admin.wait_state(&made, &["active"]).await;
    let small = admin.inside(made["id"].as_str().unwrap());
    let token = small.create("registrationtokens", json!({})).await;
    let token = small.wait_state(&token, &["active"]).await["token"].as_str().unwrap().to_owned();
    let running = h.host(1, &token).await;
    h.seams.tasks.spawn("host", async move { drop(running.await) });
    let create = |name: &str| small.create("containers", json!({"name": name, "imageUuid": "sim:c"}));
    let joined = async {
        while small.get("hosts").await.column("state") != ["active"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, joined).await.expect("the host joins");
    let first = create("c0").await;
    let first = small.wait_state(&first, &["running"]).await;
    for number in 1..8 {
        let made = create(&format!("c{number}")).await;
        small.wait_state(&made, &["running"]).await;
    }
    let late = create("late").await;
    let waiting = small
        .wait(&late, "the reason", |row| {
            row["transitioningMessage"].as_str().is_some_and(|said| said.starts_with("No address is free"))
        })
        .await;
    assert_eq!(
        waiting["transitioningMessage"],
        "No address is free in 10.42.7.0/28: of 9 containers have 8 and hosts 1; remove containers, or use an \
         environment with a larger network"
    );
    assert_eq!((&waiting["state"], &waiting["primaryIpAddress"]), (&json!("creating"), &json!(null)));
    small.delete(first["links"]["self"].as_str().unwrap()).await.expect_status(200);
    let running = small.wait_state(&late, &["running"]).await;
    assert_eq!(running["primaryIpAddress"], first["primaryIpAddress"], "the one that was freed");
}
