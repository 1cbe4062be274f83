//! The command line against a real server with simulated hosts: what it prints, and the codes it ends with (`cli.md`).
#![allow(clippy::unwrap_used, reason = "a test ends where it finds something wrong")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use remuda_testbed::wait;
use serde_json::Value;

const BIN: &str = env!("CARGO_BIN_EXE_remuda");
/// Only a bug takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// A server with access control, two simulated hosts, and a home directory for the person.
struct World {
    server: Child,
    agent: Option<Child>,
    url: String,
    keys: (String, String),
    home: tempfile::TempDir,
}

/// What a command line did.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl World {
    fn start() -> World {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let mut command = Command::new(BIN);
        command.args(["server", "--simulator", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        let log = fs::File::create(home.path().join("server.log")).unwrap();
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().strip_prefix("ready: ").map(str::to_owned)).unwrap();
        let url = ready.split(' ').next().unwrap().to_owned();
        let written = fs::read_to_string(data.join("admin.env")).unwrap();
        let value = |name: &str| {
            let mut lines = written.lines().filter_map(|line| line.trim_start_matches("export ").split_once('='));
            lines.find(|(key, _)| *key == name).unwrap().1.trim_matches(['"', '\'']).to_owned()
        };
        let keys = (value("REMUDA_ACCESS_KEY"), value("REMUDA_SECRET_KEY"));
        World { server, agent: None, url, keys, home }
    }

    /// With two hosts.
    fn with_hosts() -> World {
        let mut world = World::start();
        world.join();
        world
    }

    /// Two hosts join.
    fn join(&mut self) {
        let world = self;
        let token: Value = serde_json::from_str(&world.ok(&["host", "add", "-o", "json"])).unwrap();
        let token = token["token"].as_str().unwrap().to_owned();
        let log = fs::File::create(world.home.path().join("agent.log")).unwrap();
        let agent = Command::new(BIN)
            .args(["agent", "--engine", "simulated", "--hosts", "2", "--url", &world.url, "--token", &token])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        world.agent = Some(agent);
        eventually("two hosts", || {
            let hosts: Value = serde_json::from_str(&world.ok(&["host", "ls", "-o", "json"]))?;
            let active = hosts.as_array().unwrap().iter().filter(|host| host["state"] == "active").count();
            anyhow::ensure!(active == 2, "{hosts}");
            Ok(())
        });
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BIN);
        command.args(args).current_dir(self.home.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.home.path()).env("REMUDA_URL", &self.url);
        command.env("REMUDA_ACCESS_KEY", &self.keys.0).env("REMUDA_SECRET_KEY", &self.keys.1);
        command
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// The error object of a command that has to fail.
    fn error(&self, args: &[&str]) -> Value {
        let run = self.run(args);
        let error: Value = serde_json::from_str(run.stderr.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {run:?}"));
        assert_eq!(error["error"]["exit"], run.code.unwrap(), "{error}");
        error["error"].clone()
    }

    /// Standard output of a command that has to succeed.
    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        run.stdout
    }

    /// A command that has to end with that code and say that.
    fn refused(&self, args: &[&str], code: i32, says: &str) {
        let run = self.run(args);
        assert_eq!(run.code, Some(code), "{args:?}: {run:?}");
        assert!(run.stderr.contains(says), "{args:?} does not say {says:?}: {run:?}");
        assert!(!run.stderr.contains(&self.keys.1), "{args:?} shows the secret: {run:?}");
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Run {
    fn of(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["server.log", "agent.log"] {
                let log = fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("the end of {name}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
        for child in self.agent.iter_mut().chain([&mut self.server]) {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn eventually<T>(what: &str, probe: impl FnMut() -> anyhow::Result<T>) -> T {
    wait::until(what, LIMIT, probe).unwrap()
}

const COMPOSE: &str = "web:\n  image: sim:web\n  ports: ['8000:80']\n  links: ['store:db']\nstore:\n  image: sim:store\n  environment: {A: '1'}\n";

#[test]
fn without_hosts_everything_is_empty_and_every_mistake_has_its_code() {
    let world = World::start();
    assert_eq!(world.ok(&["ps", "-q"]), "");
    assert_eq!(world.ok(&["ps", "-c", "-o", "json"]), "[]\n");
    assert_eq!(world.ok(&["host", "ls", "--no-headers"]), "");
    assert_eq!(world.ok(&["env", "-o", "name"]), "Default\n");
    let overview = world.ok(&[]);
    for part in
        ["Usage: remuda", "\nProject (compose.yaml", "  up          Create", &format!("Context: ({})", world.url)]
    {
        assert!(overview.contains(part), "no {part:?} in {overview}");
    }
    assert!(world.ok(&["completion", "bash"]).contains("remuda"));
    assert!(world.ok(&["version"]).contains(concat!("server  ", env!("CARGO_PKG_VERSION"))));
    assert!(world.ok(&["server", "status"]).contains("database"));
    assert!(world.ok(&["doctor"]).contains("is accepted"));

    world.refused(&["inspect", "nobody"], 3, "is called `nobody`");
    world.refused(&["logs", "nobody"], 3, "is called `nobody`");
    world.refused(&["scale", "web=x"], 2, "web=x");
    world.refused(&["ps", "--columns", "SIZE"], 2, "columns: NAME");
    world.refused(&["stack", "create", "my_app"], 2, "`my-app`");
    world.refused(&["up", "-d"], 2, "compose.yaml");
    world.refused(&["api", "GET", "services/1s99"], 3, "404");
    world.refused(&["api", "GET", "http://elsewhere/v1"], 2, "keys are not sent elsewhere");
    world.refused(&["--env", "nowhere", "ps"], 3, "Default (1a5)");
    world.refused(&["--url", "http://127.0.0.1:1", "ps"], 4, "cannot connect");
    world.refused(&["--secret-key", "wrong", "ps"], 4, "rejected access key");
    world.refused(&["--debug", "ps"], 0, "GET");
    // Looking leaves nothing behind.
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");

    world.write("bad/docker-compose.yml", "web:\n  image: sim:web\n  port: ['80']\n  links: [stor]\n");
    let run = world.run(&["-f", "bad/docker-compose.yml", "up", "-d"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    for part in ["bad/docker-compose.yml:3:3: web.port", "did you mean `ports`", "no service `stor`"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }

    assert_eq!(world.error(&["-o", "json", "inspect", "nobody"])["code"], "notFound");
    assert_eq!(world.error(&["-o", "jsonl", "inspect", "nobody"])["code"], "notFound");
    let refused = world.error(&["-o", "json", "run", "--name", "shop/web", "-p", "no-port", "sim:web"]);
    assert_eq!((&refused["kind"], &refused["status"]), (&"service".into(), &422.into()), "{refused}");
    assert!(
        refused["server"]["code"].is_string() && refused["message"].as_str().unwrap().contains("service web"),
        "{refused}"
    );
    assert!(world.run(&["--color", "always", "inspect", "nobody"]).stderr.starts_with("\u{1b}[31merror:\u{1b}[0m "));
}

#[test]
fn a_closed_input_never_hangs() {
    let world = World::start();
    world.ok(&["stack", "create", "shop"]);
    for (line, code) in [
        ("rm stack:shop", 2),
        ("login $REMUDA_URL --name x --secret-key-stdin --access-key y", 4),
        ("-f - up -d", 2),
        ("ps", 0),
        ("exec -i nobody -- cat", 3),
    ] {
        let mut command = Command::new("timeout");
        let script = format!("exec {BIN} {line} <&-");
        command.args(["60", "sh", "-c", &script]).current_dir(world.home.path()).env("HOME", world.home.path());
        command.env("REMUDA_URL", &world.url).env("REMUDA_ACCESS_KEY", &world.keys.0);
        command.env("REMUDA_SECRET_KEY", &world.keys.1).env_remove("REMUDA_CONTEXT");
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, Some(code), "{line}: {run:?}");
    }
}

#[test]
fn a_change_waits_for_the_transition_that_is_in_its_way() {
    let mut world = World::start();
    let made: Value =
        serde_json::from_str(&world.ok(&["api", "POST", "environments", "-d", r#"{"name":"shop"}"#])).unwrap();
    let body = format!(
        r#"{{"name":"web","environmentId":{},"startOnCreate":true,"launchConfig":{{"imageUuid":"sim:web"}}}}"#,
        made["id"]
    );
    world.ok(&["api", "POST", "services", "-d", &body]);
    eventually("the service waits for a host", || {
        let service: Value = serde_json::from_str(&world.ok(&["inspect", "shop/web"]))?;
        anyhow::ensure!(service["state"] == "activating", "{service}");
        Ok(())
    });
    let error = world.error(&["-o", "json", "scale", "shop/web=2", "--timeout", "1s"]);
    assert_eq!((&error["code"], &error["kind"]), (&"timeout".into(), &"service".into()), "{error}");

    let child = world.command(&["scale", "shop/web=3"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    world.join();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(world.ok(&["ps", "shop/web", "-q"]).lines().count(), 3);
}

#[test]
fn keys_are_tried_stored_and_masked() {
    let world = World::start();
    let bare = |args: &[&str]| {
        let mut command = world.command(args);
        command.env_remove("REMUDA_URL").env_remove("REMUDA_ACCESS_KEY").env_remove("REMUDA_SECRET_KEY");
        command
    };
    // Nobody to ask, and nothing hangs.
    let run = Run::of(bare(&["login", &world.url]).output().unwrap());
    assert_eq!(run.code, Some(4), "{run:?}");
    let login = ["login", &world.url, "--name", "lab", "--access-key", &world.keys.0, "--secret-key-stdin"];
    let mut child = bare(&login).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", world.keys.1).as_bytes()).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.contains("environment Default (1a5)"), "{run:?}");

    let file = world.home.path().join(".config/remuda/config.toml");
    assert_eq!(mode(&file), 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains(&world.keys.1));
    let ok = |args: &[&str]| {
        let run = Run::of(bare(args).output().unwrap());
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        run.stdout
    };
    assert_eq!(ok(&["context", "ls", "-q"]), "lab\n");
    let shown = ok(&["context", "show"]);
    assert!(shown.contains(&world.url) && !shown.contains(&world.keys.1), "{shown}");
    assert_eq!(ok(&["ps", "-q"]), "");
    ok(&["context", "env", "Default"]);
    assert!(ok(&["context", "show"]).contains("1a5"));
    ok(&["logout"]);
    assert!(!fs::read_to_string(&file).unwrap().contains(&world.keys.1));
    let run = Run::of(bare(&["ps"]).output().unwrap());
    assert_eq!(run.code, Some(4), "{run:?}");
    ok(&["context", "rm", "lab"]);
    assert_eq!(ok(&["context", "ls", "-q"]), "");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_stack_comes_up_changes_size_and_goes() {
    let world = World::with_hosts();
    world.write("My_Shop/docker-compose.yml", COMPOSE);
    world.write("My_Shop/rancher-compose.yml", "store:\n  scale: 2\n");
    let up = ["-f", "My_Shop/docker-compose.yml", "up", "-d"];

    assert_eq!(world.ok(&["-f", "My_Shop/docker-compose.yml", "config", "--services"]), "store\nweb\n");
    let hashes = world.ok(&["-f", "My_Shop/docker-compose.yml", "config", "--hash"]);
    let lines: Vec<&str> = hashes.lines().filter_map(|line| line.split(" r1-").next()).collect();
    assert_eq!(lines, ["store", "store/store", "web", "web/web"]);
    world.write("vars/docker-compose.yml", "web: {image: 'sim:${TAG:-web}'}\n");
    world.write("vars/.env", "TAG=job\n");
    assert_eq!(world.ok(&["-f", "vars/docker-compose.yml", "config", "--variables"]), "TAG=job\n");
    world.ok(&up);
    let services = world.ok(&["ps", "--columns", "NAME,STATE,SCALE,IMAGE", "--no-headers"]);
    let rows: Vec<Vec<&str>> = services.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{services}");
    assert_eq!((rows[0][0], rows[0][2], rows[0][3]), ("my-shop/store", "2/2", "sim:store"), "{services}");
    assert_eq!((rows[1][0], rows[1][2]), ("my-shop/web", "1/1"), "{services}");

    // `.` is the stack of the compose file at hand, and bare names are its services.
    let here = |args: &[&str]| {
        let run = Run::of(world.command(args).current_dir(world.home.path().join("My_Shop")).output().unwrap());
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        run.stdout
    };
    assert_eq!(here(&["ps", ".", "-q"]).lines().count(), 2);
    assert_eq!(here(&["inspect", ".", "-o", "name"]), "my-shop\n");
    world.ok(&["run", "--name", "other/web", "sim:other"]);
    assert!(here(&["inspect", "web"]).contains("sim:web"));
    world.ok(&["rm", "other", "--yes"]);
    world.refused(&["ps", "."], 2, "no compose file");

    // Lists as they are asked for.
    let sorted = world.ok(&["ps", "--sort-by", "image", "--columns", "image", "--no-headers"]);
    assert_eq!(sorted, "sim:store\nsim:web\n");
    world.refused(&["ps", "--sort-by", "size"], 2, "columns: NAME");
    assert!(world.ok(&["ps", "--color", "always"]).contains("\u{1b}[38;5;2m"));
    let api: Value = serde_json::from_str(&world.ok(&["ps", "-o", "api"])).unwrap();
    assert_eq!(api[0]["type"], "service");

    // What a shell is told.
    let told = |words: &[&str]| {
        let mut command = world.command(&["--", "remuda"]);
        command.args(words).env("REMUDA_COMPLETE", "fish").current_dir(world.home.path().join("My_Shop"));
        let run = Run::of(command.output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&["logs", "my-shop/"]), ["my-shop/store", "my-shop/web"]);
    assert_eq!(told(&["scale", "we"]), ["web="]);
    assert_eq!(told(&["up", "st"]), ["store"]);
    assert_eq!(told(&["stack", "rm", "my"]), ["my-shop"]);
    assert_eq!(told(&["--env", "Def"]), ["Default"]);
    assert!(
        told(&["host", "show", "sim-"]).len() == 2 && told(&["--url", "http://127.0.0.1:1", "logs", "my"]).is_empty()
    );

    // Up again changes nothing; the stack is found whatever its case.
    let containers = world.ok(&["ps", "-c", "-q"]);
    assert_eq!(containers.lines().count(), 3, "{containers}");
    world.ok(&up);
    world.ok(&["-p", "MY-SHOP", "-f", "My_Shop/docker-compose.yml", "up", "-d"]);
    assert_eq!(world.ok(&["ps", "-c", "-q"]), containers);
    assert_eq!(world.ok(&["stack", "ls", "-o", "name"]), "my-shop\n");

    // A changed service is said, and left alone.
    world.write("My_Shop/docker-compose.yml", &COMPOSE.replace("'1'", "'2'"));
    world.refused(&up, 0, "store differs from its file");
    assert_eq!(world.ok(&["ps", "-c", "-q"]), containers);
    world.write("My_Shop/docker-compose.yml", COMPOSE);

    world.ok(&["scale", "my-shop/store=3"]);
    assert_eq!(world.ok(&["ps", "my-shop/store", "-q"]).lines().count(), 3);
    world.refused(&["scale", "my-shop/stor=3"], 3, "did you mean `store`?");

    world.ok(&["stop", "my-shop/web"]);
    world.ok(&["wait", "my-shop/web", "--for", "inactive"]);
    assert_eq!(world.ok(&["ps", "-q"]).lines().count(), 1);
    assert_eq!(world.ok(&["ps", "-a", "-q"]).lines().count(), 2);
    world.ok(&["start", "my-shop/web"]);
    world.refused(&["wait", "my-shop/web", "--for", "inactive", "--timeout", "1s"], 5, "timed out");

    // Of several, each is tried; one alone keeps its own code.
    world.refused(&["stop", "nothere"], 3, "nothere");
    world.refused(&["stop", "nothere", "my-shop/web"], 1, "nothere");
    assert!(world.ok(&["inspect", "my-shop/web"]).contains("\"inactive\""));
    world.refused(&["start", "nothere", "my-shop/web"], 1, "nothere");
    assert!(world.ok(&["inspect", "my-shop/web"]).contains("\"active\""));
    // A name that is not there removes nothing of the others.
    world.refused(&["rm", "my-shop/web", "nothere"], 3, "nothere");
    world.ok(&["inspect", "my-shop/web"]);

    world.refused(&["rm", "my-shop"], 2, "--yes");
    world.ok(&["rm", "my-shop", "--force", "-y"]);
    // A stack is gone as soon as its services are; their containers follow.
    wait::until_true("no container is left", Duration::from_secs(60), || {
        world.ok(&["ps", "-c", "-a", "-q"]).is_empty()
    })
    .unwrap();
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");
}

#[test]
fn a_project_is_planned_shown_and_taken_through_its_life() {
    let world = World::with_hosts();
    world.write("compose.yaml", "name: shop\nservices:\n  web: {image: 'sim:web', links: ['db:store']}\n  db: {image: 'sim:db', environment: {A: '1'}}\n  job: {image: 'sim:job', profiles: [once]}\n");

    // A simulated host has no engine to pull or build with, and says so.
    world.refused(&["pull", "db"], 1, "this host is simulated");
    world.refused(&["pull", "nobody"], 2, "No such service: nobody");
    assert!(world.run(&["build"]).stderr.contains("nothing to build"));

    // What will be done, and nothing done.
    let steps = world.ok(&["up", "--dry-run"]);
    assert_eq!(steps, "create the stack\ndb   create, start\nweb  create, link to db as store, start\n");
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");
    let run = world.run(&["diff"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), "db: new\nweb: new\n"), "{run:?}");
    world.refused(&["start"], 3, "`remuda up` creates it");
    world.refused(&["up", "-d", "wep"], 2, "No such service: wep");

    world.ok(&["create"]);
    assert_eq!(world.ok(&["ps", "-a", "--columns", "name", "--no-headers"]), "shop/db\nshop/web\n");
    assert_eq!(world.ok(&["ps", "-c", "-q"]), "");
    world.ok(&["start"]);
    assert_eq!(world.ok(&["ps", ".", "-c", "-q"]).lines().count(), 2);
    assert_eq!(world.ok(&["diff"]), "db: unchanged\nweb: unchanged\n");
    assert_eq!(world.ok(&["up", "--dry-run", "-u"]), "");
    world.ok(&["stop"]);
    assert_eq!(world.ok(&["ps", "-q"]), "");
    world.ok(&["stop"]);
    // Only what was named, and what that needs and does not run.
    world.ok(&["up", "-d", "--wait", "web"]);
    assert_eq!(world.ok(&["ps", "-q"]).lines().count(), 2);
    world.ok(&["restart"]);

    // Profiles, scale, and what the files no longer have.
    world.ok(&["--profile", "once", "up", "-d", "--scale", "job=3"]);
    assert_eq!(world.ok(&["ps", "job", "-q"]).lines().count(), 3);
    let run = world.run(&["up", "-d"]);
    assert!(run.stderr.contains("job not in the file: `up --prune`"), "{run:?}");
    world.ok(&["up", "-d", "--prune"]);
    assert_eq!(world.ok(&["ps", "-a", "--columns", "name", "--no-headers"]), "shop/db\nshop/web\n");

    world.write(
        "compose.yaml",
        "name: shop\nservices:\n  web: {image: 'sim:web'}\n  db: {image: 'sim:db', environment: {A: '2'}}\n",
    );
    let run = world.run(&["diff"]);
    let expected =
        "web: links\n  links: [\"db:store\"] -> []\ndb: launch config\n  launchConfig.environment.A: 1 -> 2\n";
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), expected), "{run:?}");
    let json: Value = serde_json::from_str(&world.run(&["diff", "-o", "json", "web"]).stdout).unwrap();
    assert_eq!((&json[0]["service"], &json[0]["parts"][0]), (&"web".into(), &"links".into()), "{json}");
    let run = world.run(&["up", "--dry-run", "-u", "-o", "json"]);
    assert!(run.stdout.contains("upgrade, 2 at a time") && run.stdout.contains("remove its links"), "{run:?}");
    world.refused(&["up", "--rollback"], 6, "there is no upgrade to roll back");
    world.refused(&["upgrade", "finish", "web"], 6, "there is no upgrade to confirm");
    assert!(world.run(&["upgrade", "rollback", "."]).stderr.contains("there is no upgrade to roll back"));
    world.refused(&["upgrade", "web"], 2, "--image");
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["diff", "web"]), "web: unchanged\n");

    // Upgrades wait for a decision, unless it is made with them.
    let image = |name: &str| {
        format!(
            "name: shop\nservices:\n  web: {{image: 'sim:web'}}\n  db: {{image: 'sim:{name}', environment: {{A: '2'}}}}\n"
        )
    };
    let of_db = || {
        let row: Value = serde_json::from_str(&world.ok(&["inspect", "shop/db"])).unwrap();
        (row["state"].as_str().unwrap().to_owned(), row["launchConfig"]["imageUuid"].as_str().unwrap().to_owned())
    };
    let is = |state: &str, image: &str| assert_eq!(of_db(), (state.to_owned(), image.to_owned()));
    let run = world.run(&["up", "-d", "-u"]);
    assert!(
        run.code == Some(0) && run.stderr.contains("1 upgraded") && run.stderr.contains("upgrade finish ."),
        "{run:?}"
    );
    is("upgraded", "sim:db");
    assert_eq!(world.ok(&["upgrade", "status", "--columns", "name,state", "--no-headers"]).lines().count(), 1);
    world.ok(&["wait", "shop/db", "--for", "upgraded"]);
    world.ok(&["upgrade", "finish", "."]);
    is("active", "sim:db");
    world.write("compose.yaml", &image("two"));
    world.ok(&["up", "-d", "-u", "-c", "--interval", "100", "--start-first"]);
    is("active", "sim:two");
    assert_eq!(world.ok(&["up", "--dry-run", "-u"]), "");
    world.write("compose.yaml", &image("three"));
    world.ok(&["up", "-d", "-u", "--interval", "100"]);
    world.ok(&["up", "--rollback", "-d", "db"]);
    is("active", "sim:two");
    // What was left upgraded is confirmed by the next upgrade.
    world.ok(&["up", "-d", "-u", "--interval", "100"]);
    world.write("compose.yaml", &image("four"));
    world.ok(&["up", "-d", "-u", "-c", "--interval", "100"]);
    is("active", "sim:four");
    world.ok(&["up", "-d", "--force-upgrade", "-c", "--interval", "100", "db"]);
    world.ok(&["upgrade", "db", "--image", "sim:five", "--interval", "100"]);
    world.ok(&["upgrade", "rollback", "shop/db"]);
    is("active", "sim:four");
    assert_eq!(world.ok(&["diff", "db"]), "db: unchanged\n");
    // One service in the place of another.
    let text = image("four") + "  db2: {image: 'sim:six'}\n";
    world.write("compose.yaml", &text);
    world.ok(&["upgrade", "db", "db2", "--interval", "100", "--cleanup"]);
    world.refused(&["inspect", "shop/db"], 3, "did you mean");
    assert!(world.ok(&["inspect", "shop/db2"]).contains("\"scale\": 1"));
    world.write("compose.yaml", &image("four"));
    world.ok(&["up", "-d", "--prune"]);
    world.ok(&["restart", "--interval", "100"]);

    // The way back to files, which say the same.
    let written = world.ok(&["export", "."]);
    world.write("again/compose.yaml", &written);
    let run = world.run(&["-f", "again/compose.yaml", "-s", "shop", "diff"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "db: unchanged\nweb: unchanged\n"), "{written}\n{run:?}");
    world.ok(&["export", "--format", "v1", "--dir", "out"]);
    let files = fs::read_to_string(world.home.path().join("out/shop/docker-compose.yml")).unwrap();
    assert!(files.contains("image: sim:web") || files.contains("image: \"sim:web\""), "{files}");
    world.refused(&["export", "--dir", "out"], 1, "nothing is overwritten");
    world.ok(&["export", "--tar", "all.tar", "shop"]);
    assert!(fs::metadata(world.home.path().join("all.tar")).unwrap().len() > 1024);

    // For scripts of the old command line, and for programs.
    let run = world.run(&["--progress", "legacy", "up", "-d", "--scale", "web=2"]);
    assert!(
        run.stdout.contains("level=info msg=\"Project [shop]: Starting project \"") && run.stderr.is_empty(),
        "{run:?}"
    );
    let run = world.run(&["--progress", "json", "scale", "web=1"]);
    let lines: Vec<Value> = run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["service"] == "web" && line["ts"].is_string()), "{lines:?}");
    let id = world.ok(&["scale", "web=2", "--no-wait"]);
    assert!(id.starts_with("1s"), "{id}");

    world.write("compose.yaml", "name: shop\nservices:\n  web: {image: 'sim:web'}\n");
    world.refused(&["down"], 2, "Remove web of stack shop?");
    let run = world.run(&["down", "-y"]);
    assert!(run.code == Some(0) && run.stderr.contains("stack shop stays: db not in the file"), "{run:?}");
    world.ok(&["down", "--remove-orphans", "-y"]);
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");
    assert!(world.run(&["down", "-y"]).stderr.contains("nothing to do"));
}

#[test]
fn under_the_names_of_2016_it_is_those_programs() {
    let world = World::with_hosts();
    let linked = |name: &str| {
        let path = world.home.path().join(name);
        std::os::unix::fs::symlink(BIN, &path).unwrap();
        path
    };
    let (compose, rancher) = (linked("rancher-compose"), linked("rancher"));
    let call = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(world.home.path()).stdin(Stdio::null()).env_clear();
        command.env("HOME", world.home.path()).env("RANCHER_URL", &world.url);
        command.env("RANCHER_ACCESS_KEY", &world.keys.0).env("RANCHER_SECRET_KEY", &world.keys.1);
        Run::of(command.output().unwrap())
    };
    let ok = |program: &Path, args: &[&str]| {
        let run = call(program, args);
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        run.stdout
    };
    let refused = |program: &Path, args: &[&str], says: &str| {
        let run = call(program, args);
        assert_eq!(run.code, Some(1), "{args:?}: {run:?}");
        assert!((run.stdout.clone() + &run.stderr).contains(says), "{args:?} does not say {says}: {run:?}");
    };
    world.write("docker-compose.yml", "web:\n  image: sim:web/lines/3\n  links: [db]\ndb:\n  image: sim:db\n");
    world.write("rancher-compose.yml", "db:\n  scale: 2\n");

    // Reading creates nothing.
    refused(&compose, &["-p", "My_Shop", "logs", "nobody"], "No such service: nobody");
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");
    ok(&compose, &["-p", "My_Shop", "create"]);
    let up = ok(&compose, &["-p", "My_Shop", "up", "-d"]);
    for line in
        ["msg=\"Project [my-shop]: Starting project \"", "[web]: Starting ", "[web]: Started ", "Project started"]
    {
        assert!(up.contains(line), "no {line:?} in {up}");
    }
    // Only what is named.
    ok(&compose, &["-p", "alone", "up", "-d", "web"]);
    assert_eq!(world.ok(&["ps", "-s", "alone", "-q"]).lines().count(), 1);
    ok(&compose, &["-p", "alone", "rm", "--force"]);
    assert_eq!(world.ok(&["ps", "-a", "-s", "alone", "-q"]), "");

    let logs = ok(&compose, &["-p", "my-shop", "logs", "--lines", "3", "web"]);
    assert!(logs.lines().count() == 3 && logs.lines().all(|line| line.starts_with("web_1 | ")), "{logs}");
    let scaled = ok(&compose, &["-p", "my-shop", "scale", "web=2"]);
    assert!(scaled.contains("Setting scale web=2..."), "{scaled}");
    refused(&compose, &["-p", "my-shop", "scale", "wep=2"], "No such service: wep");
    refused(&compose, &["-p", "my-shop", "scale", "web"], "web=3");
    refused(&compose, &["-p", "my-shop", "rm"], "Will not remove all services without --force");
    refused(&compose, &["-p", "my-shop", "up", "--rollback"], "level=fatal");
    refused(&compose, &["no-such-command"], "no-such-command");
    ok(&compose, &["-p", "my-shop", "restart", "web"]);
    world.write("docker-compose.yml", "web:\n  image: sim:web2\n  links: [db]\ndb:\n  image: sim:db\n");
    let up = ok(&compose, &["-p", "my-shop", "up", "-d", "--upgrade", "--interval", "100"]);
    assert!(up.contains("Upgrading web"), "{up}");
    ok(&compose, &["-p", "my-shop", "up", "-d", "--confirm-upgrade"]);
    assert!(world.ok(&["inspect", "my-shop/web"]).contains("sim:web2"));
    // `down` removes nothing.
    ok(&compose, &["-p", "my-shop", "down"]);
    assert_eq!(world.ok(&["ps", "-a", "-s", "my-shop", "-q"]).lines().count(), 2);
    assert_eq!(world.ok(&["ps", "-s", "my-shop", "-q"]), "");
    ok(&compose, &["-p", "my-shop", "start"]);

    // The other one prints ids and does not wait, unless told to.
    let services = ok(&rancher, &["ps"]);
    assert!(services.starts_with("ID ") && services.contains("my-shop/web"), "{services}");
    let id = ok(&rancher, &["ps", "-q"]).lines().next().unwrap().to_owned();
    assert!(id.starts_with("1s"), "{id}");
    let names = ok(&rancher, &["ps", "--format", "{{.Stack.Name}}/{{.Service.Name}}"]);
    assert_eq!(names, "my-shop/db\nmy-shop/web\n");
    let line: Value =
        serde_json::from_str(ok(&rancher, &["stacks", "--format", "json"]).lines().next().unwrap()).unwrap();
    assert!(line["ID"].is_string() && line["Stack"]["type"] == "environment", "{line}");
    assert_eq!(ok(&rancher, &["hosts", "ls", "-q"]).lines().count(), 2);
    assert!(ok(&rancher, &["env"]).contains("Default"));
    assert!(ok(&rancher, &["-w", "scale", "my-shop/web"]).is_empty());
    assert!(world.ok(&["inspect", "my-shop/web"]).contains("\"scale\": 1"));
    assert_eq!(ok(&rancher, &["stop", &id]).trim(), id);
    ok(&rancher, &["-w", "start", &id]);
    let made = ok(&rancher, &["run", "--name", "my-shop/more", "sim:more"]);
    ok(&rancher, &["-w", "wait", made.trim()]);
    let inspected = ok(&rancher, &["inspect", "my-shop/more"]);
    assert_eq!(inspected.lines().count(), 1);
    refused(&rancher, &["inspect", "nobody"], "is called `nobody`");
    ok(&rancher, &["up", "-d", "-s", "my-shop"]);
    ok(&rancher, &["export", "my-shop"]);
    assert!(world.home.path().join("my-shop/docker-compose.yml").is_file());
    ok(&rancher, &["rm", "--type", "stack", "my-shop"]);
    // Its keys are where they always were.
    let keys = format!(
        r#"{{"url":"{}/v1/schemas","accessKey":"{}","secretKey":"{}"}}"#,
        world.url, world.keys.0, world.keys.1
    );
    world.write("keys.json", &keys);
    let mut command = Command::new(&rancher);
    command.args(["-c", "keys.json", "ps", "-q"]).env_clear().current_dir(world.home.path());
    let run = Run::of(command.env("HOME", world.home.path()).stdin(Stdio::null()).output().unwrap());
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn every_example_compiles_and_comes_up_on_simulated_hosts() {
    let world = World::with_hosts();
    world.ok(&["host", "label", "sim-1", "disk=ssd"]);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names: Vec<String> =
        fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| examples.join(name).is_dir());
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let readme = fs::read_to_string(examples.join("README.md")).unwrap();
    for name in &names {
        assert!(readme.contains(&format!("[{name}](")), "the README says nothing of {name}");
        let dir = examples.join(name);
        let file =
            ["compose.yaml", "docker-compose.yml"].map(|file| dir.join(file)).into_iter().find(|file| file.is_file());
        let file = file.unwrap().into_os_string().into_string().unwrap();
        let config = world.run(&["-f", &file, "config", "-o", "json"]);
        assert_eq!((config.code, config.stderr.as_str()), (Some(0), ""), "{name}");

        // The same with images that need no registry.
        let resolved: Value = serde_json::from_str(&config.stdout).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let is_first_form = !text.contains("\nservices:");
        let mut images = serde_json::Map::new();
        for (service, definition) in resolved["services"].as_object().unwrap() {
            let once = definition["labels"]["io.rancher.container.start_once"] == "true";
            images.insert(service.clone(), serde_json::json!({"image": if once { "sim:exit/0" } else { "sim:run" }}));
        }
        let over = if is_first_form { Value::Object(images) } else { serde_json::json!({"services": images}) };
        world.write("over.yaml", &over.to_string());
        let of = |args: &[&str]| world.ok(&[&["-f", &file, "-f", "over.yaml", "-s", name], args].concat());
        of(&["up", "-d", "--wait"]);
        assert!(of(&["diff"]).lines().all(|line| line.ends_with(": unchanged")), "{name}: {}", of(&["diff"]));
        of(&["down", "--yes"]);
    }
    assert_eq!(world.ok(&["stack", "ls", "-q"]), "");
}

#[test]
fn one_service_that_does_not_come_up_stops_no_other() {
    let world = World::with_hosts();
    let nowhere = "labels: {io.rancher.scheduler.affinity:host_label: nowhere=there}";
    world.write(
        "compose.yaml",
        &format!("name: part\nservices:\n  lost: {{image: 'sim:lost', {nowhere}}}\n  well: {{image: 'sim:well'}}\n"),
    );
    // Why it waits is said while it waits and at the end.
    world.refused(&["up", "-d", "--timeout", "5s"], 5, "service lost");
    assert_eq!(world.ok(&["ps", "well", "-q"]).lines().count(), 1);
    let run = world.run(&["-o", "json", "up", "-d", "--timeout", "1s"]);
    let last: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&last["error"]["code"], &last["error"]["kind"]), (&"timeout".into(), &"service".into()), "{run:?}");
    // One whose container ends again and again is active, and not well.
    world.write("ill.yaml", "name: ill\nservices:\n  crash: {image: 'sim:exit/3'}\n");
    let run = world.run(&["-f", "ill.yaml", "up", "-d"]);
    assert!(
        run.code == Some(0) && run.stderr.contains("warning: ill/crash had to be started again: Exited with code 3;"),
        "{run:?}"
    );
    let ids = world.ok(&["up", "--no-wait", "well"]);
    assert!(ids.starts_with("1s") && ids.lines().count() == 1, "{ids}");
}

#[test]
fn coming_up_again_asks_little_whatever_the_size() {
    let world = World::with_hosts();
    let services: String = (1..=20).map(|idx| format!("  s{idx}: {{image: 'sim:s'}}\n")).collect();
    world.write("compose.yaml", &format!("name: big\nservices:\n{services}"));
    world.ok(&["up", "-d"]);
    let run = world.run(&["--debug", "up", "-d"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let requests: Vec<&str> =
        run.stderr.lines().filter(|line| ["GET ", "POST ", "PUT "].iter().any(|verb| line.starts_with(verb))).collect();
    assert!(requests.len() <= 5, "{requests:#?}");
    assert!(requests.iter().all(|request| request.starts_with("GET")), "{requests:#?}");
}

#[test]
fn containers_that_come_while_logs_are_followed_join_in() {
    let world = World::with_hosts();
    world.ok(&["run", "--name", "app/job", "sim:job/lines/5"]);
    let mut child = world
        .command(&["logs", "-f", "-n", "1", "app/job"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map(|line| line.unwrap()).try_for_each(|line| sender.send(line)));
    let until = |start: &str| {
        while !shown.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{start} is never shown")).starts_with(start) {}
    };
    until("app_job_1 | ");
    world.ok(&["scale", "app/job=2"]);
    until("app_job_2 | ");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn commands_run_in_containers_and_logs_come_out() {
    let world = World::with_hosts();
    world.write("app/docker-compose.yml", "job:\n  image: sim:job/lines/5\nother:\n  image: sim:other\n");
    world.ok(&["-f", "app/docker-compose.yml", "up", "-d"]);

    for (command, code, stdout) in [
        (&["exec", "app/job", "--", "echo", "hello"][..], 0, "hello\n"),
        (&["exec", "app/job", "--", "sh", "-c", "exit 3"], 3, ""),
        (&["exec", "app/job#1", "--", "no-such-program"], 127, ""),
    ] {
        let run = world.run(command);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), stdout), "{command:?}: {run:?}");
    }
    let mut child = world
        .command(&["exec", "-i", "app/job", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than any buffer on the way: whoever reads only after all is written would wait for ever.
    let text = "0123456789abcdef".repeat(1 << 16);
    let sent = text.clone();
    let writer = std::thread::spawn(move || input.write_all(sent.as_bytes()));
    let run = Run::of(child.wait_with_output().unwrap());
    writer.join().unwrap().unwrap();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout == text, "{} of {} bytes came back", run.stdout.len(), text.len());

    for (option, value, command, expected) in [
        ("-e", "A=b", &["printenv", "A"][..], "b\n"),
        ("-w", "/srv", &["pwd"], "/srv\n"),
        ("-u", "app", &["whoami"], "app\n"),
    ] {
        assert_eq!(world.ok(&[&["exec", option, value, "app/job", "--"], command].concat()), expected);
    }

    assert_eq!(world.ok(&["logs", "-n", "5", "app/job"]).lines().count(), 5);
    assert_eq!(world.ok(&["logs", "--since", "2099-01-01T00:00:00Z", "app/job"]), "");
    assert_eq!(world.ok(&["logs", "--until", "2001-01-01T00:00:00Z", "app/job"]), "");
    let lines = world.ok(&["logs", "-o", "jsonl", "-n", "1", "app/job"]);
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["container"], "app_job_1", "{line}");

    let top = world.ok(&["top", "--once", "-o", "json"]);
    let top: Value = serde_json::from_str(&top).unwrap();
    assert_eq!(top.as_array().unwrap().len(), 2, "{top}");

    // A name of two kinds is asked back, with what to type.
    world.ok(&["stack", "create", "job"]);
    world.refused(&["inspect", "job"], 3, "service job (1s");
    assert!(world.ok(&["inspect", "stack:job"]).contains("\"environment\""));

    // A reader that goes away ends the command quietly.
    let mut child =
        world.command(&["api", "GET", "/v1/schemas"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn hosts_are_added_shown_rested_and_removed() {
    let world = World::with_hosts();
    let line = world.ok(&["host", "add"]);
    assert_eq!(line.lines().count(), 1, "nothing but the line: {line}");
    assert!(line.contains("curl") && line.contains("/v1/scripts/"), "{line}");
    let tokens: Value = serde_json::from_str(&world.ok(&["api", "GET", "registrationtokens"])).unwrap();
    assert_eq!(tokens["data"].as_array().map(Vec::len), Some(1), "the token there is serves again");
    let shown = world.ok(&["host", "show", "sim-1"]);
    assert!(shown.contains("Name        sim-1") && shown.contains("active"), "{shown}");
    // Of several, each is tried.
    let several = world.run(&["host", "show", "nothere", "sim-2"]);
    assert_eq!(several.code, Some(1), "{several:?}");
    assert!(several.stderr.contains("nothere") && several.stdout.contains("sim-2"), "{several:?}");
    world.refused(&["host", "deactivate", "nothere", "sim-1"], 1, "nothere");
    world.ok(&["wait", "host:sim-1", "--for", "inactive"]);
    world.ok(&["host", "activate", "sim-1"]);

    world.ok(&["host", "label", "sim-1", "zone=a", "disk=ssd"]);
    world.ok(&["host", "label", "sim-1", "zone=b", "disk-"]);
    let labels = world.ok(&["host", "label", "sim-1"]);
    assert!(labels.contains("zone=b\n") && !labels.contains("disk"), "{labels}");
    world.refused(&["host", "label", "sim-1", "zone"], 2, "KEY=VALUE");

    world.ok(&["host", "deactivate", "sim-1"]);
    world.ok(&["wait", "host:sim-1", "--for", "inactive"]);
    world.ok(&["run", "--name", "test/one", "--scale", "2", "sim:one"]);
    assert_eq!(world.ok(&["ps", "-c", "--columns", "HOST", "--no-headers"]), "sim-2\nsim-2\n");
    world.ok(&["host", "activate", "sim-1"]);
    world.refused(&["host", "rm", "sim-1"], 2, "--yes");
    world.ok(&["host", "rm", "sim-1", "--yes"]);
    assert_eq!(world.ok(&["host", "ls", "-o", "name"]), "sim-2\n");
}

#[test]
fn a_watched_list_goes_on_with_what_changes() {
    let world = World::start();
    world.ok(&["stack", "create", "one"]);
    let mut child = world
        .command(&["stack", "--watch", "--columns", "name,state"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map(|line| line.unwrap()).try_for_each(|line| sender.send(line)));
    let until = |wanted: &[&str]| {
        let line = || shown.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("the list never shows {wanted:?}"));
        while !line().split_whitespace().eq(wanted.iter().copied()) {}
    };
    until(&["NAME", "STATE"]);
    until(&["one", "healthy"]);
    world.ok(&["stack", "create", "two"]);
    until(&["two", "healthy"]);
    world.ok(&["stack", "rm", "one", "--yes"]);
    until(&["one", "removed"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_terminal_is_passed_through() {
    let world = World::with_hosts();
    world.ok(&["run", "--name", "app/job", "sim:job"]);
    world.refused(&["exec", "-t", "app/job", "--", "sh"], 125, "leave -t out");

    let mut terminal = Terminal::open();
    // A session of its own, whose terminal this is.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", BIN, "exec", "-it", "app/job", "--", "sh"]).env_clear();
    command.env("HOME", world.home.path()).env("PATH", "/usr/bin:/bin").env("REMUDA_URL", &world.url);
    command.env("REMUDA_ACCESS_KEY", &world.keys.0).env("REMUDA_SECRET_KEY", &world.keys.1);
    let mut child = terminal.spawn(&mut command);
    terminal.until("/ # ");
    // The shell echoes, the terminal on this side does not: raw, so that every key goes through.
    terminal.type_in("echo two words\r");
    let shown = terminal.until("\n/ # ");
    assert_eq!(shown.matches("echo two words").count(), 1, "{shown:?}");
    assert!(shown.contains("\r\ntwo words\r\n"), "{shown:?}");
    // Ctrl-C is for the command, not for us.
    terminal.type_in("\u{3}\r");
    terminal.until("/ # ");
    terminal.type_in("exit 7\r");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(terminal.is_cooked(), "the terminal is given back as it was");
}

/// A pseudo-terminal: what a person would see, and a keyboard.
struct Terminal {
    person: fs::File,
    program: fs::File,
}

impl Terminal {
    fn open() -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let program = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        Terminal { person: person.into(), program }
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.program.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    fn type_in(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    /// What is shown up to and with that text.
    fn until(&mut self, end: &str) -> String {
        let mut shown = String::new();
        let mut bytes = [0; 1];
        let mut person = self.person.try_clone().unwrap();
        // A byte at a time, so that nothing is lost for whoever reads next.
        let (sender, receiver) = std::sync::mpsc::channel();
        let wanted = end.to_owned();
        std::thread::spawn(move || {
            while !shown.ends_with(&wanted) && std::io::Read::read(&mut person, &mut bytes).unwrap_or(0) > 0 {
                shown.push(char::from(bytes[0]));
            }
            drop(sender.send(shown));
        });
        receiver.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("the terminal never shows {end:?}"))
    }

    fn is_cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }
}
