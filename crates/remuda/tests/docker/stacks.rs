//! A stack that the server makes from files, and upgrades by new answers, on a real Docker Engine.

use remuda_testbed::image::TESTBOX_CURL;
use serde_json::{Value, json};

use crate::ride::{Ride, eventually};

/// Docker's id of the container of that name that runs; while its predecessor has the name, it has another at Docker.
fn running(ride: &Ride, name: &str) -> String {
    let rows = ride.list("containers", &[("state", "running"), ("name", name)]).unwrap();
    rows.first().unwrap_or_else(|| panic!("no {name} runs")).text("externalId").to_owned()
}

#[test]
fn services_3_1_a_stack_from_files_runs_and_is_upgraded() {
    let ride = Ride::start();
    ride.host().load_image(TESTBOX_CURL).unwrap();
    let files = format!(
        "services:\n  \
           ask: {{image: '{TESTBOX_CURL}', command: [/bin/rest], links: ['web:page']}}\n  \
           web: {{image: '{TESTBOX_CURL}', command: [/bin/serve], volumes: ['data:/data'], environment: {{VERSION: $VERSION}}}}\n\
         volumes: {{data: {{per_container: true}}}}\n"
    );
    let body = json!({"name": "files", "dockerCompose": files, "rancherCompose": "web: {scale: 2}",
                      "environment": {"VERSION": "1"}, "startOnCreate": true});
    let stack = ride.create("environments", body);
    ride.wait_state(&stack, "active");
    let ask = ride.container("files_ask_1");
    eventually("the alias of a link", || ride.try_docker(&["exec", &ask, "curl", "-sf", "http://page/"]));
    // Each container has a volume of its own.
    let volumes = ride.docker(&["volume", "ls", "--format", "{{.Name}}"]);
    let mut volumes: Vec<&str> = volumes.lines().filter(|name| name.starts_with("files_")).collect();
    volumes.sort_unstable();
    assert_eq!(volumes, ["files_data_1", "files_data_2"]);
    ride.docker(&["exec", &ride.container("files_web_1"), "touch", "/data/kept"]);

    ride.act(&stack, "upgrade", json!({"environment": {"VERSION": "2"}}));
    ride.wait_state(&stack, "upgraded");
    ride.act(&stack, "finishupgrade", json!({}));
    ride.wait_state(&stack, "active");
    for name in ["files_web_1", "files_web_2"] {
        let container = running(&ride, name);
        let inspect: Value = serde_json::from_str(&ride.docker(&["inspect", &container])).unwrap();
        let environment = inspect[0]["Config"]["Env"].to_string();
        assert!(environment.contains("VERSION=2"), "{name}: {environment}");
    }
    // The successor has the data of its predecessor.
    eventually("the data", || ride.try_docker(&["exec", &running(&ride, "files_web_1"), "ls", "/data/kept"]));
    assert_eq!(ride.container("files_ask_1"), ask, "what the answers do not change goes on");
    eventually("the alias of a link", || ride.try_docker(&["exec", &ask, "curl", "-sf", "http://page/"]));
}
