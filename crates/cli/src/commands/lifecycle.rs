//! `start`, `stop`, `restart` and `rm`, of services, stacks and containers.

use remuda_client::Resource;
use remuda_client::wait::Change;
use serde_json::{Value, json};

use crate::commands::up::remove;
use crate::complete;
use crate::failure::{Failure, exit};
use crate::resolve::{self, Kind};
use crate::session::Session;

/// Start services or containers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda start web\n  remuda start shop\n  remuda start container:cache\n\nSee also: stop, up"
)]
pub struct StartArgs {
    /// Services, stacks or containers
    #[arg(required = true, value_name = "NAME", add = complete::running())]
    names: Vec<String>,
}

/// Stop services or containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda stop web\n  remuda stop shop/web#2 --grace 30\n\nSee also: start, down")]
pub struct StopArgs {
    /// Services, stacks or containers
    #[arg(required = true, value_name = "NAME", add = complete::running())]
    names: Vec<String>,
    /// Seconds a container has to end by itself
    #[arg(long, value_name = "SECONDS")]
    grace: Option<i64>,
}

/// Restart containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda restart shop/web#1\n  remuda restart shop/web\n\nSee also: stop, start")]
pub struct RestartArgs {
    /// Containers, or services whose containers are restarted one after the other
    #[arg(required = true, value_name = "NAME", add = complete::running())]
    names: Vec<String>,
}

/// Remove things.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda rm web\n  remuda rm stack:shop --yes\n  remuda rm host:node3 --yes\n\nSee also: down, stop"
)]
pub struct RmArgs {
    /// Services, stacks, containers, hosts or volumes
    #[arg(required = true, value_name = "NAME", add = complete::things())]
    names: Vec<String>,
    /// Ask nothing, like --yes
    #[arg(short, long)]
    force: bool,
}

impl RmArgs {
    /// As if these names had been given.
    pub fn of(names: Vec<String>) -> RmArgs {
        RmArgs { names, force: false }
    }
}

const STARTABLE: &[Kind] = &[Kind::Service, Kind::Stack, Kind::Container];

/// Posts an action unless the resource is there already, and waits.
pub async fn act(
    session: &Session,
    resource: &Resource,
    action: &str,
    input: &Value,
    there: &[&str],
) -> Result<(), Failure> {
    let watch = |row: &Resource| {
        session.progress.say(row.name(), row.state(), row.message().filter(|_| row.is_transitioning()))
    };
    let resource = if there.contains(&resource.state()) && resource.action(action).is_none() {
        resource.clone()
    } else {
        session.client.change(resource, Change::Action(action, input), session.globals.timeout(), watch).await?
    };
    let row = session.client.wait(&resource, session.globals.timeout(), remuda_client::wait::settled, watch).await?;
    session.progress.done(row.name(), row.state(), true);
    Ok(())
}

/// The services of a stack, for actions that concern each of them.
async fn members(session: &Session, stack: &Resource) -> Result<Vec<Resource>, Failure> {
    Ok(session.client.list("services", &[("environmentId", stack.id()), ("removed_null", "true")]).await?)
}

/// Does one thing to each: the first that fails does not keep the others from being tried. One failure alone keeps its
/// own code; of several things, each failure is printed and the code is 1.
pub async fn each<'a, T>(
    session: &Session,
    things: &'a [T],
    mut step: impl AsyncFnMut(&'a T) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut code = exit::DONE;
    for thing in things {
        match step(thing).await {
            Ok(()) => {}
            Err(failure) if things.len() == 1 => return Err(failure),
            Err(failure) => {
                failure.print(session.globals.look());
                code = exit::FAILED;
            }
        }
    }
    Ok(code)
}

pub async fn start(session: &Session, args: StartArgs) -> Result<u8, Failure> {
    each(session, &args.names, async |name| start_one(session, name).await).await
}

async fn start_one(session: &Session, name: &str) -> Result<(), Failure> {
    const UP: &[&str] = &["active", "activating", "updating-active"];
    let resource = session.resolve(name, STARTABLE).await?;
    match resource.kind() {
        "container" => act(session, &resource, "start", &Value::Null, &["running", "starting"]).await,
        "environment" => {
            session.client.action(&resource, "activateservices", &Value::Null).await?;
            for service in members(session, &resource).await? {
                act(session, &service, "activate", &Value::Null, UP).await?;
            }
            Ok(())
        }
        _ => act(session, &resource, "activate", &Value::Null, UP).await,
    }
}

pub async fn stop(session: &Session, args: StopArgs) -> Result<u8, Failure> {
    each(session, &args.names, async |name| stop_one(session, name, args.grace).await).await
}

async fn stop_one(session: &Session, name: &str, grace: Option<i64>) -> Result<(), Failure> {
    const DOWN: &[&str] = &["inactive", "deactivating"];
    let resource = session.resolve(name, STARTABLE).await?;
    match resource.kind() {
        "container" => {
            let input = grace.map_or(Value::Null, |seconds| json!({"timeout": seconds}));
            act(session, &resource, "stop", &input, &["stopped", "stopping"]).await
        }
        "environment" => {
            for service in members(session, &resource).await? {
                act(session, &service, "deactivate", &Value::Null, DOWN).await?;
            }
            Ok(())
        }
        _ => act(session, &resource, "deactivate", &Value::Null, DOWN).await,
    }
}

pub async fn restart(session: &Session, args: RestartArgs) -> Result<u8, Failure> {
    each(session, &args.names, async |name| restart_one(session, name).await).await
}

async fn restart_one(session: &Session, name: &str) -> Result<(), Failure> {
    let resource = session.resolve(name, &[Kind::Service, Kind::Container]).await?;
    let containers = if resource.kind() == "container" {
        vec![resource]
    } else {
        resolve::containers_of(&session.client, &resource).await?
    };
    for container in containers {
        act(session, &container, "restart", &Value::Null, &["restarting"]).await?;
    }
    Ok(())
}

pub async fn rm(session: &Session, args: RmArgs) -> Result<u8, Failure> {
    // All names first: what is asked about is the whole of it, and a mistyped name removes nothing.
    let mut found = Vec::new();
    for name in &args.names {
        found.push(session.resolve(name, Kind::ALL).await?);
    }
    let grave: Vec<String> = found
        .iter()
        .filter(|resource| matches!(resource.kind(), "environment" | "host" | "volume"))
        .map(Resource::title)
        .collect();
    if !grave.is_empty() && !args.force && !session.confirm(&format!("Remove {}?", grave.join(", ")))? {
        return Ok(exit::FAILED);
    }
    each(session, &found, async |resource| remove_one(session, resource).await).await
}

async fn remove_one(session: &Session, resource: &Resource) -> Result<(), Failure> {
    // An active host takes containers until it is deactivated; nobody who removes it wants that.
    if resource.kind() == "host" && resource.action("deactivate").is_some() {
        act(session, resource, "deactivate", &Value::Null, &["inactive"]).await?;
        return remove(session, &session.client.reload(resource).await?).await;
    }
    remove(session, resource).await
}
