//! A stack of twenty services through `remuda up`, docker-compose and `docker stack deploy` on one daemon; one service
//! from one container to fifty.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use remuda_testbed::{Host, image, wait};
use serde_json::json;

use crate::http::Api;
use crate::table::{Table, milliseconds, percentile};
use crate::{DockerHost, LIMIT, Server};

const N_SERVICES: usize = 20;
const N_ROUNDS: usize = 3;
const SCALE: i64 = 50;

pub fn measure(table: &mut Table) -> Result<()> {
    let docker = DockerHost::start()?;
    let (host, server, dir) = (docker.bed.host(0), &docker.server, &docker.dir);
    host.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;

    let (two, three) = (dir.path().join("two.yml"), dir.path().join("three.yml"));
    std::fs::write(&two, stack("2"))?;
    std::fs::write(&three, stack("3"))?;
    let (mut ours, mut again, mut compose, mut swarm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..N_ROUNDS {
        let name = format!("bench{round}");
        ours.push(timed(|| cli(server, &["-f", &text(&two)?, "-s", &name, "up", "-d"]))?);
        again.push(timed(|| cli(server, &["-f", &text(&two)?, "-s", &name, "up", "-d"]))?);
        cli(server, &["-f", &text(&two)?, "-s", &name, "down", "--yes"])?;
        wait_for_none(host)?;
        compose.push(timed(|| docker_compose(host, &two, &name, &["up", "-d"]))?);
        docker_compose(host, &two, &name, &["down", "-t", "0"])?;
        wait_for_none(host)?;
        swarm.push(timed(|| {
            host.docker(&["stack", "deploy", "--resolve-image", "never", "-c", &text(&three)?, &name])?;
            wait_for_running(host, N_SERVICES)
        })?);
        host.docker(&["stack", "rm", &name])?;
        wait_for_none(host)?;
        wait::until("the stack's network to go", LIMIT, || {
            let networks = host.docker(&["network", "ls", "-q", "--filter", &format!("name={name}_")])?;
            if networks.trim().is_empty() { Ok(()) } else { bail!("it is there") }
        })?;
    }
    let medians = [&mut ours, &mut again, &mut compose, &mut swarm].map(|times| percentile(times, 50));
    let [ours, again, compose, swarm] = medians;
    let what = format!("`up -d` of {N_SERVICES} services");
    for (other, name) in [(compose, "`docker-compose up -d`"), (swarm, "`docker stack deploy`, all running")] {
        table.row(&what, milliseconds(ours), "no slower", name, milliseconds(other), ours, other);
    }
    let what = format!("the same `up -d` again, nothing to do, {N_SERVICES} services");
    table.row(&what, milliseconds(again), "< 300 ms", "the first `up -d`", milliseconds(ours), again, ours);
    // Nobody spoke on the first connection meanwhile: the server has closed it.
    scale(table, &mut server.project_api()?, host)
}

/// One service from one container to fifty on one host.
fn scale(table: &mut Table, api: &mut Api, host: &Host) -> Result<()> {
    let stack = api.post("/v1/environments", &json!({"name": "scale"}))?;
    let launch = json!({"imageUuid": format!("docker:{}", image::TESTBOX), "command": ["rest"]});
    let body =
        json!({"name": "one", "environmentId": stack["id"], "scale": 1, "startOnCreate": true, "launchConfig": launch});
    let service = api.post("/v1/services", &body)?;
    let id = service["id"].as_str().context("a service without an id")?;
    let path = format!("/v1/services/{id}");
    api.wait_for_state("services", id, "active")?;
    let mut ours = Vec::new();
    let mut swarm = Vec::new();
    for _ in 0..N_ROUNDS {
        ours.push(timed(|| {
            api.put(&path, &json!({"scale": SCALE}))?;
            api.wait_for_state("services", id, "active")
        })?);
        api.put(&path, &json!({"scale": 1}))?;
        api.wait_for_state("services", id, "active")?;
        wait_for_running(host, 1)?;
    }
    api.delete(&path)?;
    wait_for_none(host)?;
    host.docker(&["service", "create", "-d", "--no-resolve-image", "--name", "one", image::TESTBOX, "rest"])?;
    wait_for_running(host, 1)?;
    let n_running = usize::try_from(SCALE)?;
    for _ in 0..N_ROUNDS {
        swarm.push(timed(|| {
            host.docker(&["service", "scale", "-d", &format!("one={SCALE}")])?;
            wait_for_running(host, n_running)
        })?);
        host.docker(&["service", "scale", "-d", "one=1"])?;
        wait_for_running(host, 1)?;
    }
    let (ours, swarm) = (percentile(&mut ours, 50), percentile(&mut swarm, 50));
    let what = format!("scale of a service 1 → {SCALE}, one host");
    table.row(&what, milliseconds(ours), "", "`docker service scale`", milliseconds(swarm), ours, swarm);
    Ok(())
}

/// Twenty services that do nothing, each the next one's neighbour.
fn stack(version: &str) -> String {
    let mut text = format!("version: '{version}'\nservices:\n");
    for number in 0..N_SERVICES {
        // Writing to a string does not fail.
        let _ = write!(text, "  s{number}:\n    image: {}\n    command: rest\n", image::TESTBOX);
    }
    text
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is no text")?.to_owned())
}

fn cli(server: &Server, args: &[&str]) -> Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    let home = tempfile::tempdir()?;
    command.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).args(args);
    for (name, value) in server.admin_env()? {
        command.env(name, value);
    }
    run(&mut command)
}

fn docker_compose(host: &Host, file: &Path, name: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new("docker-compose");
    command.args(["-f", &text(file)?, "-p", name]).args(args).env("DOCKER_HOST", host.docker_host());
    run(&mut command)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn wait_for_running(host: &Host, n: usize) -> Result<()> {
    wait::until(&format!("{n} running containers"), LIMIT, || {
        let found = host.docker(&["ps", "-q"])?.lines().count();
        if found == n { Ok(()) } else { bail!("there are {found}") }
    })
}

fn wait_for_none(host: &Host) -> Result<()> {
    wait::until("no container to be left", LIMIT, || {
        let left = host.docker(&["ps", "-aq"])?;
        if left.trim().is_empty() { Ok(()) } else { bail!("there are {}", left.lines().count()) }
    })
}
