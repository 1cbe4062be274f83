//! Images built and pulled through a host's own engine, by way of the server.

use std::fs;

use crate::ride::{Ride, eventually};

#[test]
fn an_image_is_built_from_a_directory_on_the_host() {
    let ride = Ride::start();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("Dockerfile", "FROM remuda/hello:1\nARG GREETING\nENV GREETING=$GREETING\nCOPY said /said\n");
    put("said", "hello from the context\n");
    put("ignored", "x");
    put(".dockerignore", "ignored\n");
    put(
        "compose.yaml",
        "name: made\nservices:\n  web:\n    build: {context: ., args: {GREETING: hi there}}\n    command: store\n",
    );
    let file = dir.path().join("compose.yaml").into_os_string().into_string().unwrap();
    ride.cli(&["-f", &file, "up", "-d"]);
    let web = ride.container("made_web_1");
    assert_eq!(ride.docker(&["exec", &web, "cat", "/said"]), "hello from the context\n");
    assert!(ride.docker(&["inspect", "-f", "{{.Config.Env}}", &web]).contains("GREETING=hi there"));

    // What is there is not built again, unless that is asked for.
    put("said", "hello again\n");
    ride.cli(&["-f", &file, "up", "-d", "--force-upgrade", "-c"]);
    let said = |expected: &str| {
        eventually("the new container", || {
            let running = ride.running();
            anyhow::ensure!(running.len() == 1, "{running:?}");
            let said = ride.try_docker(&["exec", &running[0].id, "cat", "/said"])?;
            anyhow::ensure!(said == expected, "{said}");
            Ok(())
        });
    };
    said("hello from the context\n");
    ride.cli(&["-f", &file, "up", "-d", "--build", "--force-upgrade", "-c"]);
    said("hello again\n");

    // What goes wrong on a host is told with its own words.
    put("Dockerfile", "FROM remuda/hello:1\nCOPY nothing /\n");
    let failure = ride.fail(&["-f", &file, "build"]);
    assert!(failure.contains("nothing") && failure.contains("the context was"), "{failure}");
    put("compose.yaml", "name: made\nservices:\n  web: {image: 'localhost:1/no/such:1'}\n");
    let failure = ride.fail(&["-f", &file, "pull"]);
    assert!(failure.contains("localhost:1"), "{failure}");
    ride.cli(&["-f", &file, "pull", "--cached"]);
}
