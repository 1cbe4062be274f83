//! Hosts that are cut off, on real Docker Engines: what runs there is replaced, stale copies go, and what must never run
//! twice does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use remuda_testbed::image::TESTBOX;
use remuda_testbed::{Fleet, wait};
use serde_json::{Value, json};

/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(90);

fn fleet(n_hosts: usize) -> Fleet {
    let fleet = Fleet::start(Path::new(env!("CARGO_BIN_EXE_remuda")), n_hosts).unwrap();
    fleet.bed.load_image(TESTBOX).unwrap();
    // All have joined: nothing is left to observe.
    fleet.set("host.lost.observe.seconds", "0").unwrap();
    fleet
}

fn service(fleet: &Fleet, name: &str, scale: u64, more: Value) -> Value {
    let stack = match fleet.list("environments?name=s").unwrap().first() {
        Some(stack) => stack.clone(),
        None => fleet.api("POST", "environments", &json!({"name": "s"})).unwrap(),
    };
    let mut body = json!({"name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
        "launchConfig": {"imageUuid": format!("docker:{TESTBOX}"), "command": ["/bin/rest"]}});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let made = fleet.api("POST", "services", &body).unwrap();
    wait_service(fleet, &made, "active");
    made
}

fn wait_service(fleet: &Fleet, service: &Value, state: &str) {
    let path = format!("services/{}", service["id"].as_str().unwrap());
    wait::until(&format!("service {state}"), LIMIT, || {
        let now = fleet.api("GET", &path, &Value::Null)?;
        ensure!(now["state"] == state, "{} {}", now["state"], now["transitioningMessage"]);
        Ok(())
    })
    .unwrap();
}

/// Running containers of the stack, as the API has them: name and host.
fn running(fleet: &Fleet) -> Result<BTreeMap<String, String>> {
    let hosts: BTreeMap<String, String> = fleet
        .hosts()?
        .into_iter()
        .map(|row| {
            (row["id"].as_str().unwrap_or_default().to_owned(), row["name"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let rows = fleet.list("containers?state=running&limit=1000")?;
    let pairs = rows.iter().map(|row| {
        let host = hosts.get(row["hostId"].as_str().unwrap_or_default()).cloned().unwrap_or_default();
        (row["name"].as_str().unwrap_or_default().to_owned(), host)
    });
    Ok(pairs.collect())
}

/// Names of what runs on an engine, without Docker's prefix.
fn on_engine(fleet: &Fleet, host_idx: usize) -> Result<Vec<String>> {
    let text = fleet.host(host_idx).docker(&["ps", "--format", "{{.Names}}"])?;
    let mut names: Vec<String> = text.lines().map(|name| name.trim_start_matches("r-").to_owned()).collect();
    names.sort();
    Ok(names)
}

#[test]
fn a_host_that_is_cut_off_is_replaced_and_cleans_up_when_it_is_back() {
    let fleet = fleet(3);
    let web = service(&fleet, "web", 3, json!({}));
    let tied = json!({"launchConfig": {"imageUuid": format!("docker:{TESTBOX}"), "command": ["/bin/rest"],
        "dataVolumes": ["db-data:/data"]}});
    let db = service(&fleet, "db", 1, tied);
    let before = running(&fleet).unwrap();
    let home = before["s_db_1"].clone();
    let lost = fleet.bed.hosts().iter().position(|host| host.name == home).unwrap();
    let gone: Vec<String> = before
        .iter()
        .filter(|(name, host)| **host == home && name.starts_with("s_web"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!((before.len(), gone.len()), (4, 1), "{before:?}");

    fleet.host(lost).disconnect().unwrap();
    wait::until("the replacement", LIMIT, || {
        let now = running(&fleet)?;
        let moved = gone.iter().all(|name| now.get(name).is_some_and(|host| *host != home));
        ensure!(moved, "{now:?}");
        Ok(())
    })
    .unwrap();
    wait_service(&fleet, &web, "active");
    // Cut off it goes on; and what has its data there is not made anew.
    assert!(on_engine(&fleet, lost).unwrap().contains(&gone[0]));
    assert_eq!(running(&fleet).unwrap().get("s_db_1"), Some(&home));
    let told = fleet.api("GET", &format!("services/{}", db["id"].as_str().unwrap()), &Value::Null).unwrap();
    let expected = format!("s_db_1 stays on host {home}, which is lost: its volume `db-data` is there");
    assert_eq!(told["transitioningMessage"], json!(expected), "{told}");

    fleet.host(lost).reconnect().unwrap();
    wait::until("the stale copy to go", LIMIT, || {
        let names = on_engine(&fleet, lost)?;
        ensure!(names == ["s_db_1"], "{names:?}");
        let row = fleet.host_row(lost)?;
        ensure!(row["lostSince"].is_null() && row["agentState"] == "active", "{row}");
        Ok(())
    })
    .unwrap();
    // It takes new work again.
    let path = format!("services/{}", web["id"].as_str().unwrap());
    fleet.api("PUT", &path, &json!({"scale": 6})).unwrap();
    wait_service(&fleet, &web, "active");
    let now = running(&fleet).unwrap();
    assert!(now.iter().any(|(name, host)| name.starts_with("s_web") && *host == home), "{now:?}");

    // For maintenance: everything is replaced first, then goes; what has its data there stays.
    fleet.cli(&["host", "drain", &home]).unwrap();
    wait::until("the host to be drained", LIMIT, || {
        let names = on_engine(&fleet, lost)?;
        ensure!(names == ["s_db_1"], "{names:?}");
        Ok(())
    })
    .unwrap();
    wait_service(&fleet, &web, "active");
    assert_eq!(running(&fleet).unwrap().len(), 7);
}

/// When the engine says that the container started and ended, as texts that compare like times.
fn times(fleet: &Fleet, host_idx: usize, name: &str) -> Result<(String, String)> {
    let ids = fleet.host(host_idx).docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("name=r-{name}")])?;
    let id = ids.lines().next().context("not there")?;
    let text = fleet.host(host_idx).docker(&["inspect", "-f", "{{.State.StartedAt}} {{.State.FinishedAt}}", id])?;
    let (started, ended) = text.trim().split_once(' ').context("two times")?;
    let padded = |text: &str| {
        let (seconds, fraction) = text.trim_end_matches('Z').split_once('.').unwrap_or((text, ""));
        format!("{seconds}.{fraction:0<9}")
    };
    Ok((padded(started), padded(ended)))
}

#[test]
fn what_must_never_run_twice_does_not() {
    let fleet = fleet(3);
    let only = service(&fleet, "only", 1, json!({"fenceAfter": 8}));
    let home = running(&fleet).unwrap()["s_only_1"].clone();
    let lost = fleet.bed.hosts().iter().position(|host| host.name == home).unwrap();

    // The agent dies with the wire: the watchdog has to do it alone.
    fleet.host(lost).disconnect().unwrap();
    fleet.kill_agent(lost).unwrap();
    let now = wait::until("the replacement", LIMIT, || {
        let now = running(&fleet)?;
        ensure!(now.get("s_only_1").is_some_and(|host| *host != home), "{now:?}");
        Ok(now)
    })
    .unwrap();
    let new = fleet.bed.hosts().iter().position(|host| host.name == now["s_only_1"]).unwrap();
    let (_, ended) = times(&fleet, lost, "s_only_1").unwrap();
    let (started, _) = times(&fleet, new, "s_only_1").unwrap();
    assert!(ended.as_str() > "2" && ended < started, "the first ended at {ended}, the second started at {started}");
    assert_eq!(on_engine(&fleet, lost).unwrap(), Vec::<String>::new());

    // Back: one runs, and no other was begun.
    fleet.start_agent(lost).unwrap();
    fleet.host(lost).reconnect().unwrap();
    wait::until("the host", LIMIT, || {
        let row = fleet.host_row(lost)?;
        ensure!(row["lostSince"].is_null() && row["agentState"] == "active", "{row}");
        Ok(())
    })
    .unwrap();
    wait_service(&fleet, &only, "active");
    assert_eq!(on_engine(&fleet, lost).unwrap(), Vec::<String>::new());
    assert_eq!(on_engine(&fleet, new).unwrap(), ["s_only_1"]);
}
