//! One script, twice from one seed: the same answers at the same virtual times, the same changes in the same order.

use anyhow::Result;
use remuda_simulation::Simulation;
use serde_json::json;

/// A stack of two services on two hosts: up, scaled, a container removed by hand, all of it removed.
async fn script(seed: u64) -> Result<Vec<String>> {
    let mut simulation = Simulation::start(seed).await?;
    for name in ["one", "two"] {
        simulation.host(name).await?;
    }
    let project = "/v1/projects/1a5";
    let active = |wanted: usize| {
        move |list: &serde_json::Value| {
            let hosts = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            hosts.iter().filter(|host| host["state"] == "active").count() == wanted
        }
    };
    simulation.until(&format!("{project}/hosts"), active(2)).await?;

    let stack = simulation.call("POST", &format!("{project}/environments"), &json!({"name": "hello"})).await?;
    let mut services = Vec::new();
    for (name, scale) in [("store", 2), ("web", 3)] {
        let body = json!({
            "name": name, "environmentId": stack["id"], "scale": scale, "startOnCreate": true,
            "launchConfig": {"imageUuid": format!("sim:{name}")},
        });
        let service = simulation.call("POST", &format!("{project}/services"), &body).await?;
        services.push(format!("{project}/services/{}", service["id"].as_str().unwrap_or_default()));
    }
    for service in &services {
        simulation.until(service, |service| service["state"] == "active").await?;
    }
    simulation.call("PUT", &services[1], &json!({"scale": 5})).await?;
    let running = |wanted: usize| {
        move |list: &serde_json::Value| {
            let rows = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            rows.iter().filter(|row| row["state"] == "running").count() == wanted
        }
    };
    let containers = format!("{project}/containers?removed_null=1");
    let list = simulation.until(&containers, running(7)).await?;
    let victim = list["data"][0]["id"].as_str().unwrap_or_default().to_owned();
    simulation.call("DELETE", &format!("{project}/containers/{victim}"), &json!({})).await?;
    simulation
        .until(&format!("{project}/containers/{victim}"), |row| row["state"] == "removed" || row["state"] == "purged")
        .await?;
    simulation.until(&containers, running(7)).await?;

    let stack = format!("{project}/environments/{}", stack["id"].as_str().unwrap_or_default());
    simulation.call("DELETE", &stack, &json!({})).await?;
    simulation.until(&stack, |stack| stack["state"] == "removed").await?;
    simulation.until(&containers, |list| list["data"].as_array().is_some_and(Vec::is_empty)).await?;
    simulation.log().await
}

fn run(seed: u64) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(script(seed))
}

#[test]
fn one_seed_gives_one_history() -> Result<()> {
    let seed = 20_261_123;
    let (first, second) = (run(seed)?, run(seed)?);
    for (idx, (left, right)) in first.iter().zip(&second).enumerate() {
        assert_eq!(left, right, "line {idx} differs, seed {seed}");
    }
    assert_eq!(first.len(), second.len(), "seed {seed}");
    assert!(first.len() > 50, "the script did next to nothing: {first:#?}");
    Ok(())
}

#[test]
fn another_seed_gives_another_history() -> Result<()> {
    assert_ne!(run(1)?, run(2)?);
    Ok(())
}
