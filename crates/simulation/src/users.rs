//! What people ask of the platform while things go wrong: stacks, services and containers come, change and go.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{Answer, PROJECT, Simulation};

/// So many services and stand-alone containers at a time.
const MOST_SERVICES: usize = 5;
const MOST_CONTAINERS: usize = 6;
const MOST_SCALE: u64 = 5;
/// Ports that services publish; each service that does so has one of its own.
const FIRST_PORT: u64 = 8000;

#[derive(Clone, Copy, Debug)]
enum Deed {
    ServiceCreate,
    ServiceScale,
    ContainerCreate,
    /// In place, some units at a time.
    Upgrade,
    Restart,
    /// An action that the resource offers.
    Act(&'static str, &'static [&'static str]),
    Remove(&'static str),
}

/// What is asked for, and how often compared with the others.
const DEEDS: &[(u64, Deed)] = &[
    (5, Deed::ServiceCreate),
    (6, Deed::ServiceScale),
    (3, Deed::ContainerCreate),
    (5, Deed::Upgrade),
    (2, Deed::Restart),
    (4, Deed::Act("services", &["activate", "deactivate"])),
    (5, Deed::Act("services", &["finishupgrade", "rollback", "cancelupgrade", "cancelrollback"])),
    (5, Deed::Act("containers", &["start", "stop", "restart", "restore", "purge"])),
    (1, Deed::Act("environments", &["activateservices", "deactivateservices"])),
    (2, Deed::Act("hosts", &["activate", "deactivate"])),
    (4, Deed::Remove("containers")),
    (1, Deed::Remove("services")),
];

/// Picks by weight.
pub(crate) fn pick<T: Copy>(simulation: &Simulation, table: &[(u64, T)]) -> Option<T> {
    let all = table.iter().map(|(weight, _)| weight).sum();
    let mut left = simulation.chance.below(all);
    for (weight, choice) in table {
        if left < *weight {
            return Some(*choice);
        }
        left -= weight;
    }
    None
}

/// One of them.
pub(crate) fn one<'a, T>(simulation: &Simulation, of: &'a [T]) -> Option<&'a T> {
    of.get(usize::try_from(simulation.chance.below(of.len() as u64)).unwrap_or(0))
}

/// Somebody does something. It may be refused or lost; only an answer that no request may get is an error.
pub async fn deed(simulation: &mut Simulation) -> Result<()> {
    match pick(simulation, DEEDS) {
        Some(Deed::ServiceCreate) => service_create(simulation).await,
        Some(Deed::ServiceScale) => {
            let services = list(simulation, "services").await?;
            let Some(service) = one(simulation, &services).filter(|service| service["scale"].is_i64()) else {
                return Ok(());
            };
            // A service with a fixed port has at most one container on each host, also after a rollback.
            let before = &service["upgrade"]["inServiceStrategy"]["previousLaunchConfig"];
            let publishes = |config: &Value| config["ports"].as_array().is_some_and(|ports| !ports.is_empty());
            let fixed = publishes(&service["launchConfig"]) || publishes(before);
            let most = if fixed { simulation.machines.len() as u64 } else { MOST_SCALE };
            let scale = simulation.chance.below(most) + 1;
            let path = path(service, "services");
            request(simulation, "PUT", &path, json!({ "scale": scale })).await
        }
        Some(Deed::ContainerCreate) => container_create(simulation).await,
        Some(Deed::Upgrade) => {
            let strategy = json!({ "inServiceStrategy": {
                "batchSize": simulation.chance.below(2) + 1, "intervalMillis": 1000,
                "startFirst": simulation.chance.below(2) == 0,
                "launchConfig": { "imageUuid": format!("sim:image{}", simulation.chance.below(5)) },
            }});
            service_act(simulation, "upgrade", strategy).await
        }
        Some(Deed::Restart) => {
            let strategy = json!({ "rollingRestartStrategy": { "batchSize": 1, "intervalMillis": 1000 } });
            service_act(simulation, "restart", strategy).await
        }
        Some(Deed::Act(plural, wanted)) => {
            let rows = list(simulation, plural).await?;
            let Some(row) = one(simulation, &rows) else { return Ok(()) };
            let offered: Vec<&str> =
                wanted.iter().filter(|action| row["actions"][**action].is_string()).copied().collect();
            let Some(action) = one(simulation, &offered) else { return Ok(()) };
            let path = format!("{}?action={action}", path(row, plural));
            request(simulation, "POST", &path, json!({})).await
        }
        Some(Deed::Remove(plural)) => {
            let rows = list(simulation, plural).await?;
            let Some(row) = one(simulation, &rows) else { return Ok(()) };
            let path = path(row, plural);
            request(simulation, "DELETE", &path, Value::Null).await
        }
        None => Ok(()),
    }
}

/// Does something to a service that offers it.
async fn service_act(simulation: &mut Simulation, action: &str, input: Value) -> Result<()> {
    let services = list(simulation, "services").await?;
    let offering: Vec<&Value> = services.iter().filter(|row| row["actions"][action].is_string()).collect();
    let Some(service) = one(simulation, &offering) else { return Ok(()) };
    let path = format!("{}?action={action}", path(service, "services"));
    request(simulation, "POST", &path, input).await
}

/// Brings every upgrade to its end, one way or the other.
pub async fn upgrades_end(simulation: &mut Simulation) -> Result<()> {
    const ENDED: [&str; 8] = [
        "active",
        "inactive",
        "activating",
        "deactivating",
        "updating-active",
        "updating-inactive",
        "removing",
        "restarting",
    ];
    let deadline = simulation.seams.clock.instant() + std::time::Duration::from_secs(60 * 60);
    loop {
        let services = list(simulation, "services").await?;
        let under_way: Vec<&Value> =
            services.iter().filter(|row| !ENDED.contains(&row["state"].as_str().unwrap_or_default())).collect();
        if under_way.is_empty() {
            return Ok(());
        }
        let told = |row: &&Value| format!("{} {} {}", row["name"], row["state"], row["transitioningMessage"]);
        ensure!(
            simulation.seams.clock.instant() < deadline,
            "upgrades do not end: {}",
            under_way.iter().map(told).collect::<Vec<_>>().join(", ")
        );
        for service in under_way {
            let ways = if simulation.chance.below(2) == 0 {
                ["finishupgrade", "rollback"]
            } else {
                ["rollback", "finishupgrade"]
            };
            if let Some(way) = ways.iter().find(|way| service["actions"][**way].is_string()) {
                let path = format!("{}?action={way}", path(service, "services"));
                request(simulation, "POST", &path, json!({})).await?;
            }
        }
        simulation.seams.clock.sleep(std::time::Duration::from_secs(5)).await;
    }
}

/// Gives a host up that will not come back, as somebody does whose machine burned.
pub async fn host_remove(simulation: &mut Simulation, name: &str) -> Result<()> {
    let hosts = list(simulation, "hosts").await?;
    let host = hosts.iter().find(|host| host["name"] == name).cloned().unwrap_or_default();
    let path = path(&host, "hosts");
    simulation.call("POST", &format!("{path}?action=deactivate"), &json!({})).await?;
    simulation.until(&path, |host| host["state"] == "inactive").await?;
    simulation.call("DELETE", &path, &Value::Null).await?;
    simulation.until(&path, |host| host["state"] == "removed" || host["state"] == "purged").await?;
    Ok(())
}

/// Takes every host into use again, as soon as it can be.
pub async fn hosts_activate(simulation: &mut Simulation) -> Result<()> {
    let path = format!("{PROJECT}/hosts?limit=1000");
    loop {
        let hosts = simulation.call("GET", &path, &Value::Null).await?["data"].as_array().cloned().unwrap_or_default();
        if hosts.iter().all(|host| host["state"] == "active" || !host["removed"].is_null()) {
            return Ok(());
        }
        for host in hosts.iter().filter(|host| host["actions"]["activate"].is_string()) {
            let path = format!("{}?action=activate", self::path(host, "hosts"));
            request(simulation, "POST", &path, json!({})).await?;
        }
        simulation.seams.clock.sleep(std::time::Duration::from_secs(1)).await;
    }
}

async fn service_create(simulation: &mut Simulation) -> Result<()> {
    let services = list(simulation, "services").await?;
    if services.len() >= MOST_SERVICES {
        return Ok(());
    }
    let stacks = list(simulation, "environments").await?;
    let Some(stack) = stacks.first().cloned() else {
        return request(simulation, "POST", &format!("{PROJECT}/environments"), json!({ "name": "stack" })).await;
    };
    let number = simulation.chance.below(1_000_000);
    let n_hosts = simulation.machines.len() as u64;
    let mut body = json!({
        "name": format!("s{number}"), "environmentId": stack["id"], "startOnCreate": true,
        "scale": simulation.chance.below(MOST_SCALE) + 1,
        "launchConfig": { "imageUuid": format!("sim:image{}", number % 5) },
    });
    match simulation.chance.below(6) {
        0 => {
            body["scale"] = json!(simulation.chance.below(n_hosts) + 1);
            body["launchConfig"]["ports"] = json!([format!("{}:80", FIRST_PORT + number % 1000)]);
        }
        1 => body["launchConfig"]["labels"] = json!({ "io.rancher.scheduler.global": "true" }),
        2 => {
            body["launchConfig"]["dataVolumesFromLaunchConfigs"] = json!(["data"]);
            body["secondaryLaunchConfigs"] = json!([{ "name": "data", "imageUuid": "sim:data" }]);
        }
        3 => {
            body["secondaryLaunchConfigs"] =
                json!([{ "name": "log", "imageUuid": "sim:log", "networkLaunchConfig": format!("s{number}") }]);
        }
        _ => {}
    }
    let strategy =
        ["recreate", "recreateOnQuorum", "none"].get(usize::try_from(simulation.chance.below(6)).unwrap_or(0));
    if let Some(strategy) = strategy {
        body["launchConfig"]["healthCheck"] = json!({ "port": 80, "interval": 3_000, "strategy": strategy });
    }
    request(simulation, "POST", &format!("{PROJECT}/services"), body).await
}

async fn container_create(simulation: &mut Simulation) -> Result<()> {
    let containers = list(simulation, "containers").await?;
    if containers.iter().filter(|row| row["serviceId"].is_null()).count() >= MOST_CONTAINERS {
        return Ok(());
    }
    let number = simulation.chance.below(1_000_000);
    let mut body = json!({ "name": format!("c{number}"), "imageUuid": "sim:alone", "networkMode": "managed" });
    match simulation.chance.below(5) {
        0 => body["networkMode"] = json!("bridge"),
        1 => body["ports"] = json!([format!("{}:80", FIRST_PORT + 1000 + number % 1000)]),
        2 => body["dataVolumes"] = json!(["/data", format!("named{}:/named", number % 3)]),
        3 => body["restartPolicy"] = json!({ "name": "always" }),
        _ => {}
    }
    request(simulation, "POST", &format!("{PROJECT}/containers"), body).await
}

fn path(row: &Value, plural: &str) -> String {
    format!("{PROJECT}/{plural}/{}", row["id"].as_str().unwrap_or_default())
}

/// What there is and is not removed; nothing when the server does not answer.
async fn list(simulation: &mut Simulation, plural: &str) -> Result<Vec<Value>> {
    let path = format!("{PROJECT}/{plural}?removed_null=1&limit=1000");
    match simulation.attempt("GET", &path, &Value::Null).await? {
        Answer::Answered(status, body) => {
            ensure!(status != 500, "GET {path} was answered with {status} {body}");
            Ok(body["data"].as_array().cloned().unwrap_or_default())
        }
        Answer::Lost => Ok(Vec::new()),
    }
}

async fn request(simulation: &mut Simulation, method: &str, path: &str, body: Value) -> Result<()> {
    if let Answer::Answered(status, answer) = simulation.attempt(method, path, &body).await? {
        // Wrong at that moment (409, 422), gone (404), or the database was away (503): never a fault of ours.
        ensure!(status != 500, "{method} {path} {body} was answered with {status} {answer}");
    }
    Ok(())
}
