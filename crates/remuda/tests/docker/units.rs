//! Units on a real Docker Engine: a primary container that mounts the volumes of one sidekick and gives its network to
//! another, replaced together, and a service with one unit on every host.

use remuda_testbed::image::TESTBOX;
use serde_json::json;

use crate::ride::{Ride, eventually};

/// The Docker id of the container that the API calls so. On the host it may have another name: the one before it, which
/// is removed and not yet forgotten, has that.
fn id(ride: &Ride, name: &str) -> String {
    let rows = ride.list("containers", &[("name", name), ("state", "running")]).unwrap();
    rows.first().unwrap_or_else(|| panic!("{name} does not run")).text("externalId").to_owned()
}

fn network_of(ride: &Ride, name: &str) -> String {
    ride.docker(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", &id(ride, name)]).trim().to_owned()
}

#[test]
fn services_7_a_unit_shares_what_it_shares_and_is_replaced_together() {
    let ride = Ride::start();
    ride.host().load_image(TESTBOX).unwrap();
    let stack = ride.create("environments", json!({"name": "u"}));
    let image = format!("docker:{TESTBOX}");
    let data = json!({"name": "data", "imageUuid": image, "command": ["/bin/rest"], "dataVolumes": ["/shared"]});
    let log = json!({"name": "log", "imageUuid": image, "command": ["/bin/rest"], "networkLaunchConfig": "web"});
    let body = json!({"name": "web", "environmentId": stack.id(), "scale": 1, "startOnCreate": true,
                      "launchConfig": {"imageUuid": image, "dataVolumesFromLaunchConfigs": ["data"]},
                      "secondaryLaunchConfigs": [data, log]});
    let web = ride.create("services", body);
    ride.wait_state(&web, "active");

    ride.docker(&["exec", &id(&ride, "u_web_data_1"), "sh", "-c", "echo here > /shared/file"]);
    let seen = ride.docker(&["exec", &id(&ride, "u_web_1"), "cat", "/shared/file"]);
    assert_eq!(seen.trim(), "here");
    let served = ride.docker(&["exec", &id(&ride, "u_web_log_1"), "getent", "hosts", "web"]);
    assert_eq!(network_of(&ride, "u_web_log_1"), format!("container:{}", id(&ride, "u_web_1")), "{served}");

    // Who uses the network of what goes is replaced with it; the data stays.
    let before = ["u_web_1", "u_web_log_1", "u_web_data_1"].map(|name| id(&ride, name));
    ride.docker(&["rm", "--force", &before[0]]);
    eventually("a new unit", || {
        let rows = ride.list("containers", &[("state", "running")])?;
        let is_new = |name: &str| {
            rows.iter().any(|row| row.name() == name && !before.contains(&row.text("externalId").to_owned()))
        };
        anyhow::ensure!(is_new("u_web_1") && is_new("u_web_log_1"), "{}", ride.services()?);
        Ok(())
    });
    ride.wait_state(&web, "active");
    assert_eq!(id(&ride, "u_web_data_1"), before[2]);
    assert_eq!(network_of(&ride, "u_web_log_1"), format!("container:{}", id(&ride, "u_web_1")));
    let seen = ride.docker(&["exec", &id(&ride, "u_web_1"), "cat", "/shared/file"]);
    assert_eq!(seen.trim(), "here");

    let config = json!({"imageUuid": image, "labels": {"io.rancher.scheduler.global": "true"}});
    let body = json!({"name": "agent", "environmentId": stack.id(), "scale": 5, "startOnCreate": true,
                      "launchConfig": config});
    let agent = ride.create("services", body);
    ride.wait_state(&agent, "active");
    let n_agents = ride.running().iter().filter(|row| row.name.contains("u_agent_")).count();
    assert_eq!(n_agents, 1, "one on the one host there is");
}
