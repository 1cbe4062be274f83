//! A load balancer in front of a service, all of the real binary on a real Docker Engine: clients ask without a pause and
//! without a second try, while everything changes and the parts of the platform are killed.

#[path = "../../../agent/tests/balancer/load.rs"]
#[allow(dead_code, reason = "targets are containers here")]
mod load;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use remuda_runtime::Seams;
use remuda_testbed::image::HAPROXY;
use serde_json::{Value, json};

use crate::ride::{Ride, eventually};

const N_CLIENTS: usize = 8;
/// What answers: a program that serves at once, and ends at once when it is asked to.
const TARGET: &str = "defaults\n    mode http\n    timeout client 50s\n    timeout server 50s\n    timeout connect 5s\nfrontend f\n    bind *:8080\n    http-request return status 200 content-type text/plain string hello\n";

fn compose(target: &str) -> String {
    format!(
        "edge:
  image: rancher/load-balancer-service
  ports: ['8000:8080', '8443:8080']
  links: [web]
  labels:
    io.rancher.loadbalancer.ssl.ports: '8443'
web:
  image: {HAPROXY}
  command: [haproxy, -db, -f, /target.cfg]
  volumes: ['{target}:/target.cfg:ro']
"
    )
}

#[test]
fn no_request_fails_while_a_stack_and_the_platform_change() {
    let mut ride = Ride::start();
    ride.host().load_image(HAPROXY).unwrap();
    // The image that the setting names when nobody changed it.
    ride.docker(&["tag", HAPROXY, "haproxy:2.8"]);
    let certificate = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        json!({"name": "main", "cert": made.cert.pem(), "key": made.signing_key.serialize_pem()})
    };
    let main = ride.create("certificates", certificate("one.test"));
    ride.wait_state(&main, "active");
    let dir = ride.host().dir.clone();
    let target = dir.join("target.cfg");
    fs::write(&target, TARGET).unwrap();
    fs::write(dir.join("docker-compose.yml"), compose(target.to_str().unwrap())).unwrap();
    fs::write(dir.join("rancher-compose.yml"), "edge: {default_cert: main}\nweb: {scale: 2}\n").unwrap();
    let file = dir.join("docker-compose.yml").into_os_string().into_string().unwrap();
    ride.cli(&["-f", &file, "-p", "shop", "up", "-d"]);
    let web = ride.list("services", &[("name", "web")]).unwrap().remove(0);
    let edge = ride.list("loadbalancerservices", &[("name", "edge")]).unwrap().remove(0);
    let address = std::net::SocketAddr::from((ride.host().address, 8000));
    eventually("the page", || {
        let url = format!("http://{address}/");
        let out = std::process::Command::new("curl").args(["-sf", "-m", "5", &url]).output()?;
        ensure!(out.stdout == b"hello", "{out:?}");
        Ok(())
    });

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seams = Seams::real();
    let met = {
        let _inside = runtime.enter();
        load::clients(address, N_CLIENTS, &seams.tasks)
    };
    let mut n_changes = 0;
    let mut rules = |ride: &Ride, n: usize| {
        for number in 0..n {
            // One that is asked for, one that is not; the page goes on being the default.
            let rule = format!("h{number}.test:8000/p={}", 8080);
            ride.act(&edge, "setservicelinks", links(&web, &[&rule, "8000=8080", "8443=8080"]));
            n_changes += 1;
        }
    };
    let running = |ride: &Ride, n: usize| {
        eventually(&format!("{n} containers of `web`"), || {
            let rows = ride.list("containers", &[("state", "running")])?;
            let there = rows.iter().filter(|row| row.name().starts_with("shop_web_")).count();
            ensure!(there == n, "{there}: {}", ride.log("agent"));
            Ok(())
        });
    };

    ride.cli(&["scale", "shop/web=6"]);
    rules(&ride, 10);
    running(&ride, 6);
    ride.update(&main, certificate("two.test"));
    ride.cli(&["scale", "shop/web=2"]);
    rules(&ride, 10);
    running(&ride, 2);

    // An agent that is away changes nothing; when it is back it does what it missed.
    ride.kill_agent();
    ride.update(&web, json!({"scale": 3}));
    rules(&ride, 3);
    ride.start_agent();
    running(&ride, 3);
    ride.kill_server();
    ride.start_server();
    rules(&ride, 3);

    let config: Value = web.get("launchConfig").clone();
    let mut next = config.clone();
    next["environment"] = json!({"VERSION": "2"});
    let strategy = json!({"batchSize": 1, "intervalMillis": 500, "startFirst": true, "launchConfig": next});
    ride.act(&web, "upgrade", json!({ "inServiceStrategy": strategy }));
    rules(&ride, 5);
    ride.wait_state(&web, "upgraded");
    ride.act(&web, "finishupgrade", json!({}));
    ride.wait_state(&web, "active");

    eventually("what the balancer did", || {
        let edge = ride.list("loadbalancerservices", &[("name", "edge")])?.remove(0);
        let requests = edge.get("traffic")["requests"].as_i64().unwrap_or(0);
        ensure!(requests > 0, "{:?}", edge.get("traffic"));
        Ok(())
    });
    runtime.block_on(seams.tasks.shut_down(Duration::from_secs(30)));
    met.check();
    let answered = met.answered.load(Ordering::Relaxed);
    println!("{answered} requests, none failed, during {n_changes} changes of rules and 11 others");
    assert!(answered > 1_000, "only {answered}");
}

fn links(web: &remuda_client::Resource, rules: &[&str]) -> Value {
    json!({ "serviceLinks": [{ "serviceId": web.id(), "ports": rules }] })
}
