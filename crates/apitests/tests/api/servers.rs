//! Two servers on one PostgreSQL (DESIGN §5, "Ownership"): either takes requests and hosts, one decides, and the other
//! takes over when it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use remuda_agent::engine::Engine;
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::host_network::SimulatedNetwork;
use remuda_agent::links::{Error, Source, WebSockets};
use remuda_agent::metrics::Metrics;
use remuda_agent::run::{self, Host};
use remuda_agent::state_dir::{Identity, Keys};
use remuda_apitests::{Api, Harness, On};
use remuda_runtime::{Link, Seams};
use remuda_wire::stream::StreamOpen;
use serde_json::{Value, json};

/// The way to whichever server answers, as behind one name.
struct Either(Vec<WebSockets>);

impl Source for Either {
    fn connect(&self) -> BoxFuture<'_, Result<Link, Error>> {
        Box::pin(async {
            let mut last = Err(Error::Url { url: String::new(), reason: "there is no server".to_owned() });
            for way in &self.0 {
                last = way.connect().await;
                if last.is_ok() {
                    break;
                }
            }
            last
        })
    }

    fn stream<'a>(&'a self, open: &'a StreamOpen) -> BoxFuture<'a, Result<Link, Error>> {
        self.0[0].stream(open)
    }
}

/// A host that knows both servers, on tasks of its own.
async fn host(seams: &Seams, servers: [&Harness; 2], name: &str) {
    let token = servers[0].token().await;
    let engine: Arc<dyn Engine> = Arc::new(Simulated::among(&servers[0].neighbours, seams.clone(), Latency::none()));
    let identity = Identity { host_uuid: seams.random.uuid(), register_key: seams.random.uuid(), keys: None };
    let mut host = Host::simulated(name, engine, Arc::new(SimulatedNetwork), identity, None, BTreeMap::new());
    let registered = run::registered(seams, &mut host, Some(&servers[0].url), Some(&token)).await;
    drop(registered.expect("registers"));
    let keys = host.identity.keys.clone().expect("keys");
    let ways = servers.map(|server| WebSockets::new(seams.clone(), Keys { url: server.url.clone(), ..keys.clone() }));
    let running = run::run(seams.clone(), host, Arc::new(Either(ways.into())), Metrics::default());
    seams.tasks.spawn("host", async move { drop(running.await) });
}

/// Id and Docker's id of every container that runs.
async fn running(project: &Api) -> BTreeSet<(String, String)> {
    let answer = project.get("containers?removed_null=1").await.expect_status(200);
    let rows = answer.body["data"].as_array().unwrap().clone();
    let up = rows.iter().filter(|row| row["state"] == "running");
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    up.map(|row| (text(row, "id"), text(row, "externalId"))).collect()
}

/// The loops of projects that a server tells of are those it decides for.
async fn n_decided(server: &Harness) -> usize {
    let health = server.anonymous().get(&format!("{}/healthcheck", server.url)).await.expect_status(200);
    health.body.as_object().unwrap().keys().filter(|name| name.starts_with("loop project")).count()
}

async fn wait_for<R>(what: &str, found: impl AsyncFn() -> Option<R>) -> R {
    let waiting = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(remuda_apitests::PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test]
async fn another_server_takes_over() {
    let one = Harness::start(On::Postgres).await;
    wait_for("the first server decides", async || (n_decided(&one).await > 0).then_some(())).await;
    let two = one.beside().await;
    let seams = Seams::real();
    for name in ["a", "b"] {
        host(&seams, [&one, &two], name).await;
    }
    let project = two.project();
    let active = async |n_hosts: usize| {
        let hosts = project.get("hosts").await.body["data"].as_array().cloned().unwrap_or_default();
        let is_active = |host: &&Value| host["state"] == "active" && host["agentState"] == "active";
        (hosts.iter().filter(is_active).count() == n_hosts).then_some(())
    };
    wait_for("hosts, as the second server has them", async || active(2).await).await;

    // A request to the server that does not decide is carried out by the one that does.
    let stack = project.create("environments", json!({"name": "s"})).await;
    let body = json!({"name": "web", "environmentId": stack["id"], "scale": 3, "startOnCreate": true,
                      "launchConfig": {"imageUuid": "sim:web"}});
    let service = project.create("services", body).await;
    project.wait_state(&service, &["active"]).await;
    let before = running(&project).await;
    assert_eq!(before.len(), 3, "{before:?}");
    assert_eq!(n_decided(&two).await, 0, "the first server decides");

    one.kill();
    wait_for("the second server decides", async || (n_decided(&two).await > 0).then_some(())).await;
    project.put(service["links"]["self"].as_str().unwrap(), json!({"scale": 5})).await.expect_status(200);
    wait_for("five containers", async || (running(&project).await.len() == 5).then_some(())).await;
    wait_for("hosts that found the second server", async || active(2).await).await;
    let after = running(&project).await;
    assert!(after.is_superset(&before), "what ran goes on: {before:?} {after:?}");
    let all = project.get("containers?all=true&limit=1000").await.expect_status(200).body;
    assert_eq!(all["data"].as_array().map(Vec::len), Some(5), "nothing was made twice: {all}");

    // A stop in order gives the leases back at once.
    let three = two.beside().await;
    let project = three.project();
    assert_eq!(n_decided(&three).await, 0);
    assert!(two.stop().await);
    project.put(&service_path(&service), json!({"scale": 2})).await.expect_status(200);
    wait_for("the third server decides", async || (n_decided(&three).await > 0).then_some(())).await;
    let wanted = |row: &Value| row["state"] == "active" && row["scale"] == 2;
    wait_for("it is done", async || wanted(&project.get(&service_path(&service)).await.body).then_some(())).await;
    drop(seams);
}

fn service_path(service: &Value) -> String {
    format!("services/{}", service["id"].as_str().unwrap())
}
