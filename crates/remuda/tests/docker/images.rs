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

    // Another directory is another image; nothing happens to what runs before that is asked for.
    put("said", "hello again\n");
    let before = ride.running();
    ride.cli(&["-f", &file, "up", "-d"]);
    assert_eq!(ride.running(), before);
    ride.cli(&["-f", &file, "up", "-d", "-u", "-c"]);
    let said = |expected: &str| {
        eventually("the new container", || {
            let running = ride.running();
            anyhow::ensure!(running.len() == 1, "{running:?}");
            let said = ride.try_docker(&["exec", &running[0].id, "cat", "/said"])?;
            anyhow::ensure!(said == expected, "{said}");
            Ok(())
        });
    };
    said("hello again\n");

    // The host builds when it has lost the image, from what the server keeps: nobody sends the directory again.
    let image = ride.docker(&["inspect", "-f", "{{.Config.Image}}", &ride.running()[0].id]).trim().to_owned();
    assert!(image.starts_with("made_web:ctx-"), "{image}");
    fs::remove_file(dir.path().join("said")).unwrap();
    ride.cli(&["stop", "made/web"]);
    let old = ride.docker(&["ps", "-aq"]);
    for id in old.split_whitespace() {
        drop(ride.try_docker(&["rm", "-f", id]));
    }
    ride.docker(&["rmi", "-f", &image]);
    ride.cli(&["start", "made/web"]);
    said("hello again\n");

    // This machine is the only host, so it may build for it; another engine would be refused.
    put("said", "built here\n");
    ride.cli(&["-f", &file, "up", "-d", "--build=local", "-u", "-c"]);
    said("built here\n");

    // What goes wrong while a host builds is told with Docker's own words.
    put("compose.yaml", "name: bad\nservices:\n  web: {build: .}\n");
    put("Dockerfile", "FROM remuda/hello:1\nRUN exit 9\n");
    let failure = ride.fail(&["-f", &file, "--timeout", "20s", "up", "-d"]);
    assert!(failure.contains("cannot build image") && failure.contains("code: 9"), "{failure}");

    // What goes wrong on a host is told with its own words.
    put("Dockerfile", "FROM remuda/hello:1\nCOPY nothing /\n");
    let failure = ride.fail(&["-f", &file, "build"]);
    assert!(failure.contains("nothing") && failure.contains("the context was"), "{failure}");
    put("compose.yaml", "name: made\nservices:\n  web: {image: 'localhost:1/no/such:1'}\n");
    let failure = ride.fail(&["-f", &file, "pull"]);
    assert!(failure.contains("localhost:1"), "{failure}");
    ride.cli(&["-f", &file, "pull", "--cached"]);
}
