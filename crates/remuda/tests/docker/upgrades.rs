//! An upgrade on a real Docker Engine, while somebody asks the service without a pause.

use std::collections::BTreeMap;

use remuda_testbed::image::TESTBOX_CURL;
use serde_json::{Value, json};

use crate::ride::{Ride, eventually};

const N_CLIENTS: usize = 4;

/// Four that ask `web` until told to stop; one line for each answer: status of curl, of HTTP, and who was asked.
const ASK: &str = "ask() { while [ ! -e /tmp/stop ]; do \
    answer=$(curl -s -o /dev/null -m 5 -w '%{http_code} %{remote_ip}' http://web/cgi-bin/hello); \
    echo \"$? $answer\" >> /tmp/asked; done; }; ask & ask & ask & ask & wait";

/// What was asked: how many times it went well, and the lines that went wrong.
fn asked(ride: &Ride, asker: &str) -> (usize, Vec<String>) {
    let text = ride.docker(&["exec", asker, "cat", "/tmp/asked"]);
    let (good, bad): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("0 200 "));
    (good.len(), bad.into_iter().map(str::to_owned).collect())
}

/// Addresses of the service's containers that run.
fn addresses(ride: &Ride) -> BTreeMap<String, String> {
    let rows = ride.list("containers", &[("state", "running")]).unwrap();
    let web = rows.iter().filter(|row| row.name().starts_with("load_web_"));
    web.map(|row| (row.text("primaryIpAddress").to_owned(), row.text("externalId").to_owned())).collect()
}

#[test]
fn services_11_2_an_upgrade_fails_no_request_to_a_healthy_container() {
    let ride = Ride::start();
    ride.host().load_image(TESTBOX_CURL).unwrap();
    let stack = ride.create("environments", json!({"name": "load"}));
    let image = format!("docker:{TESTBOX_CURL}");
    let make = |name: &str, scale: i64, command: Value| {
        let config = json!({"imageUuid": image, "command": command, "environment": {"VERSION": "1"}});
        let body = json!({"name": name, "environmentId": stack.id(), "scale": scale, "startOnCreate": true,
                          "launchConfig": config});
        ride.create("services", body)
    };
    let (web, asker) = (make("web", 2, json!(["/bin/serve"])), make("ask", 1, json!(["/bin/rest"])));
    ride.wait_state(&web, "active");
    ride.wait_state(&asker, "active");
    let asker = ride.container("load_ask_1");
    eventually("the name", || ride.try_docker(&["exec", &asker, "curl", "-sf", "http://web/"]));
    ride.docker(&["exec", &asker, "touch", "/tmp/asked"]);
    ride.docker(&["exec", "--detach", &asker, "sh", "-c", ASK]);

    for (start_first, version) in [(true, "2"), (false, "3")] {
        let before = addresses(&ride);
        assert_eq!(before.len(), 2);
        let n_before = asked(&ride, &asker).0;
        let config = json!({"imageUuid": image, "command": ["/bin/serve"], "environment": {"VERSION": version}});
        let strategy =
            json!({"batchSize": 1, "intervalMillis": 1000, "startFirst": start_first, "launchConfig": config});
        ride.act(&web, "upgrade", json!({ "inServiceStrategy": strategy }));
        ride.wait_state(&web, "upgraded");
        let after = addresses(&ride);
        assert_eq!(after.len(), 2);
        assert!(after.keys().all(|address| !before.contains_key(address)), "{before:?} {after:?}");
        for id in after.values() {
            let inspect: Value = serde_json::from_str(&ride.docker(&["inspect", id])).unwrap();
            let environment = inspect[0]["Config"]["Env"].to_string();
            assert!(environment.contains(&format!("VERSION={version}")), "{environment}");
        }
        eventually("answers after the upgrade", || {
            let (good, _) = asked(&ride, &asker);
            anyhow::ensure!(good > n_before + 20, "{good} answers, {n_before} of them before");
            Ok(())
        });
        // Whoever was asked in the very moment it was told to stop may have been cut off, by each client once; nobody else.
        let (good, bad) = asked(&ride, &asker);
        let cut: usize = bad.iter().filter(|line| before.keys().any(|address| line.ends_with(address))).count();
        println!("startFirst {start_first}: {good} answers, failed: {bad:?}");
        assert_eq!(bad.len(), cut, "requests to healthy containers failed: {bad:?}; new ones: {after:?}");
        assert!(cut <= before.len() * N_CLIENTS, "{bad:?}");
        ride.docker(&["exec", &asker, "sh", "-c", ": > /tmp/asked"]);

        if start_first {
            // The very containers of before come back, and answer.
            ride.act(&web, "rollback", json!({}));
            ride.wait_state(&web, "active");
            assert_eq!(addresses(&ride), before);
            ride.docker(&["exec", &asker, "sh", "-c", ": > /tmp/asked"]);
        } else {
            ride.act(&web, "finishupgrade", json!({}));
            ride.wait_state(&web, "active");
            eventually("the old ones to go", || {
                let all = ride.docker(&["ps", "--all", "--format", "{{.Names}}"]);
                let n_web = all.lines().filter(|name| name.contains("load_web_")).count();
                anyhow::ensure!(n_web == 2, "{all}");
                Ok(())
            });
        }
    }
    ride.docker(&["exec", &asker, "touch", "/tmp/stop"]);
}

/// The old container is stopped and kept while the new one has its address, and the other way round.
#[test]
fn services_9_3_an_upgrade_leaves_the_address() {
    let ride = Ride::start();
    ride.host().load_image(TESTBOX_CURL).unwrap();
    let stack = ride.create("environments", json!({"name": "load"}));
    let config = json!({"imageUuid": format!("docker:{TESTBOX_CURL}"), "command": ["/bin/serve"]});
    let body = json!({"name": "web", "environmentId": stack.id(), "startOnCreate": true, "retainIp": true,
                      "launchConfig": config});
    let web = ride.create("services", body);
    ride.wait_state(&web, "active");
    let before = addresses(&ride);
    let answers = |id: &str, address: &str| {
        eventually("the page", || ride.try_docker(&["exec", id, "curl", "-sf", &format!("http://{address}/")]));
    };
    ride.act(&web, "upgrade", json!({"inServiceStrategy": {"launchConfig": config}}));
    ride.wait_state(&web, "upgraded");
    let after = addresses(&ride);
    assert!(after.keys().eq(before.keys()) && !after.values().eq(before.values()), "{before:?} {after:?}");
    after.iter().for_each(|(address, id)| answers(id, address));
    ride.act(&web, "rollback", json!({}));
    ride.wait_state(&web, "active");
    assert_eq!(addresses(&ride), before);
    before.iter().for_each(|(address, id)| answers(id, address));
}
