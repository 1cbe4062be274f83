//! Secrets and configs of a compose file, in a real container (`compose.md` §13).

use std::fs;

use crate::ride::{Ride, eventually};

#[test]
fn secrets_and_configs_are_files_of_the_container() {
    let ride = Ride::start();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &[u8]| fs::write(dir.path().join(name), text).unwrap();
    put("db.txt", b"hush\xff\n");
    put(
        "compose.yaml",
        b"name: sec
services:
  web:
    image: remuda/hello:1
    command: store
    secrets: [db, {source: token, target: tok, uid: '33', gid: '34', mode: 0400}]
    configs: [{source: app, target: /etc/app.conf}, plain]
secrets: {db: {file: ./db.txt}, token: {environment: HOME}}
configs: {app: {content: 'a=1'}, plain: {file: db.txt}}
",
    );
    let file = dir.path().join("compose.yaml").into_os_string().into_string().unwrap();
    ride.cli(&["-f", &file, "up", "-d"]);
    let web = ride.container("sec_web_1");
    let sh = |line: &str| ride.docker(&["exec", &web, "sh", "-c", line]);
    assert_eq!(sh("stat -c '%a %u %g' /run/secrets/db /run/secrets/tok"), "444 0 0\n400 33 34\n");
    assert_eq!(
        sh("cat /etc/app.conf; tail -c 2 /run/secrets/db | od -An -tx1; cmp /plain /run/secrets/db && echo same"),
        "a=1 ff 0a\nsame\n"
    );
    assert!(ride.try_docker(&["exec", &web, "sh", "-c", "echo x > /run/secrets/db"]).is_err(), "read-only");
    let inspected = ride.docker(&["inspect", &web]);
    assert!(!inspected.contains("hush"), "{inspected}");

    // The same again is the same; another value is another container, and only when it is asked for.
    let before = ride.running();
    ride.cli(&["-f", &file, "up", "-d"]);
    assert_eq!(ride.running(), before);
    put("db.txt", b"changed");
    ride.cli(&["-f", &file, "up", "-d", "-u", "-c"]);
    eventually("the new value", || {
        let running = ride.running();
        anyhow::ensure!(running.len() == 1, "{running:?}");
        let said = ride.try_docker(&["exec", &running[0].id, "cat", "/run/secrets/db"])?;
        anyhow::ensure!(said == "changed", "{said}");
        Ok(())
    });
}
