//! The main job on a real Docker Engine with the real binary: a compose stack comes up, its services find each other,
//! and no crash of a part loses or doubles anything.
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

mod balancers;
mod health;
mod images;
mod lost;
mod network;
mod ride;
mod secrets;
mod stacks;
mod units;
mod upgrades;
mod zero_loss;

use std::collections::BTreeMap;

use ride::{Ride, eventually};
use serde_json::{Value, json};

#[test]
fn a_compose_stack_comes_up_and_finds_its_services_by_name() {
    let ride = Ride::start();
    ride.cli(&["-f", "examples/hello/docker-compose.yml", "up", "-d"]);

    let page = eventually("the page", || ride.page());
    assert!(page.starts_with("web: this is container "), "{page}");
    // Both containers of `store` get their turn, and it is really they who answer.
    let mut seen = BTreeMap::new();
    eventually("both stores", || {
        let page = ride.page()?;
        let address = between(&page, "store at ", ":").ok_or_else(|| anyhow::anyhow!("{page}"))?;
        let container = page.lines().nth(1).and_then(|line| between(line, "this is container ", ","));
        seen.insert(address, container.ok_or_else(|| anyhow::anyhow!("{page}"))?);
        anyhow::ensure!(seen.len() == 2, "only {seen:?}");
        Ok(())
    });
    for (address, hostname) in &seen {
        assert!(address.starts_with("10.42."), "{address} is not an address of the managed network");
        assert!(ride.running().iter().any(|container| container.id.starts_with(hostname)), "{hostname} is nobody");
    }

    // A name is answered by us, not by Docker or a hosts file.
    let web = ride.container("hello_web_1");
    let resolver = ride.docker(&["exec", &web, "cat", "/etc/resolv.conf"]);
    assert!(resolver.contains("nameserver 169.254.169.250"), "{resolver}");
    let hosts = ride.docker(&["exec", &web, "cat", "/etc/hosts"]);
    assert!(!hosts.contains("store"), "{hosts}");

    // Up again changes nothing.
    let before = ride.running();
    ride.cli(&["-f", "examples/hello/docker-compose.yml", "up", "-d"]);
    assert_eq!(ride.running(), before);

    ride.cli(&["scale", "hello/store=3"]);
    eventually("a third store", || {
        let names = ride.running().into_iter().map(|container| container.name).collect::<Vec<_>>();
        anyhow::ensure!(names.iter().any(|name| name.contains("hello_store_3")), "{names:?}");
        Ok(())
    });
    eventually("the third store's name", || {
        let found = ride.try_docker(&["exec", &web, "getent", "ahostsv4", "store"])?;
        let addresses =
            found.lines().filter_map(|line| line.split(' ').next()).collect::<std::collections::BTreeSet<_>>();
        anyhow::ensure!(addresses.len() == 3, "{addresses:?}");
        Ok(())
    });

    let code = ride.cli_status(&["exec", "hello/web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code, Some(7), "the exit code of a command is the remote one's");

    ride.cli(&["rm", "hello", "--force"]);
    eventually("an empty host", || {
        anyhow::ensure!(ride.running().is_empty(), "{:?}", ride.running());
        Ok(())
    });
}

#[test]
fn whatever_is_killed_the_same_containers_run_again() {
    let mut ride = Ride::start();
    ride.cli(&["-f", "examples/hello/docker-compose.yml", "up", "-d"]);
    eventually("the page", || ride.page());
    let before = ride.running();
    assert_eq!(before.len(), 3, "{before:?}");
    let answers = ride.services().unwrap();

    ride.kill_server();
    // A server that is down is no outage: containers, addresses and names go on.
    let page = ride.page().unwrap();
    assert!(page.contains("store at 10.42."), "{page}");
    assert_eq!(ride.running(), before);
    ride.start_server();
    assert_eq!(ride.services().unwrap(), answers);

    ride.kill_agent();
    let page = ride.page().unwrap();
    assert!(page.contains("store at 10.42."), "{page}");
    ride.start_agent();
    ride.settled(&before, &answers);

    ride.kill_dockerd();
    ride.start_dockerd();
    ride.settled(&before, &answers);

    // All at once, and a container dies meanwhile.
    ride.kill_server();
    ride.kill_agent();
    ride.docker(&["kill", &before[0].id]);
    ride.start_agent();
    ride.start_server();
    ride.settled(&before, &answers);
}

/// Each key of a compose file that is a setting of the engine, all the way: file, launch config, plan, container.
#[test]
fn settings_of_a_compose_file_reach_the_engine() {
    let ride = Ride::start();
    ride.cli(&["-f", "crates/remuda/tests/docker/settings.yml", "up", "-d"]);
    let inspect = ride.docker(&["inspect", &ride.container("settings_all_1")]);
    let inspect: Value = serde_json::from_str(&inspect).unwrap();
    for (pointer, expected) in [
        ("/HostConfig/BlkioDeviceReadBps", json!([{"Path": "/dev/loop0", "Rate": 1 << 20}])),
        ("/HostConfig/BlkioDeviceWriteBps", json!([{"Path": "/dev/loop0", "Rate": 2 << 20}])),
        ("/HostConfig/BlkioDeviceReadIOps", json!([{"Path": "/dev/loop0", "Rate": 30}])),
        ("/HostConfig/BlkioDeviceWriteIOps", json!([{"Path": "/dev/loop0", "Rate": 40}])),
        ("/HostConfig/CgroupParent", json!("/settings")),
        ("/HostConfig/CpuPeriod", json!(50_000)),
        ("/HostConfig/CpuQuota", json!(25_000)),
        ("/HostConfig/DnsOptions", json!(["ndots:3"])),
        ("/HostConfig/GroupAdd", json!(["4321"])),
        ("/HostConfig/IpcMode", json!("shareable")),
        ("/HostConfig/Isolation", json!("default")),
        ("/HostConfig/MemoryReservation", json!(32 << 20)),
        ("/HostConfig/OomScoreAdj", json!(500)),
        ("/HostConfig/PidsLimit", json!(99)),
        ("/HostConfig/ShmSize", json!(1 << 20)),
        ("/HostConfig/Sysctls", json!({"net.ipv4.ip_default_ttl": "63"})),
        ("/HostConfig/Tmpfs", json!({"/scratch": "size=65536"})),
        ("/HostConfig/Ulimits", json!([{"Name": "nofile", "Soft": 111, "Hard": 222}])),
        ("/HostConfig/UsernsMode", json!("host")),
        ("/HostConfig/UTSMode", json!("host")),
        ("/Config/StopSignal", json!("SIGQUIT")),
        ("/Config/Healthcheck/Test", json!(["CMD", "true"])),
        ("/Config/Healthcheck/Interval", json!(5_000_000_000_i64)),
        ("/Config/Healthcheck/Timeout", json!(2_000_000_000_i64)),
        ("/Config/Healthcheck/Retries", json!(3)),
    ] {
        assert_eq!(inspect[0].pointer(pointer), Some(&expected), "{pointer}");
    }
    ride.cli(&["rm", "settings", "--force"]);
}

/// The text after `start` up to `end`.
fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0.to_string())
}
