//! `start`, `stop`, `restart` and `rm`, of services, stacks and containers.

use remuda_client::Resource;
use serde_json::{Value, json};

use crate::commands::up::remove;
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
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Stop services or containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda stop web\n  remuda stop shop/web#2 --grace 30\n\nSee also: start, down")]
pub struct StopArgs {
    /// Services, stacks or containers
    #[arg(required = true, value_name = "NAME")]
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
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Remove things.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda rm web\n  remuda rm stack:shop --yes\n  remuda rm host:node3 --yes\n\nSee also: down, stop"
)]
pub struct RmArgs {
    /// Services, stacks, containers, hosts or volumes
    #[arg(required = true, value_name = "NAME")]
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

async fn resolved(session: &Session, names: &[String], kinds: &[Kind]) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    for name in names {
        found.push(resolve::one(&session.client, name, kinds, session.globals.stack.as_deref()).await?);
    }
    Ok(found)
}

/// Posts an action unless the resource is there already, and waits.
pub async fn act(
    session: &Session,
    resource: &Resource,
    action: &str,
    input: &Value,
    there: &[&str],
) -> Result<(), Failure> {
    let resource = if there.contains(&resource.state()) && resource.action(action).is_none() {
        resource.clone()
    } else {
        session.client.action(resource, action, input).await?
    };
    let watch = |row: &Resource| {
        session.progress.say(row.name(), row.state(), row.message().filter(|_| row.is_transitioning()))
    };
    let row = session.client.wait(&resource, session.globals.timeout(), remuda_client::wait::settled, watch).await?;
    session.progress.done(row.name(), row.state(), true);
    Ok(())
}

/// The services of a stack, for actions that concern each of them.
async fn members(session: &Session, stack: &Resource) -> Result<Vec<Resource>, Failure> {
    Ok(session.client.list("services", &[("environmentId", stack.id()), ("removed_null", "true")]).await?)
}

pub async fn start(session: &Session, args: StartArgs) -> Result<u8, Failure> {
    for resource in resolved(session, &args.names, STARTABLE).await? {
        match resource.kind() {
            "container" => act(session, &resource, "start", &Value::Null, &["running", "starting"]).await?,
            "environment" => {
                session.client.action(&resource, "activateservices", &Value::Null).await?;
                for service in members(session, &resource).await? {
                    act(session, &service, "activate", &Value::Null, &["active", "activating", "updating-active"])
                        .await?;
                }
            }
            _ => {
                act(session, &resource, "activate", &Value::Null, &["active", "activating", "updating-active"]).await?
            }
        }
    }
    Ok(exit::DONE)
}

pub async fn stop(session: &Session, args: StopArgs) -> Result<u8, Failure> {
    for resource in resolved(session, &args.names, STARTABLE).await? {
        match resource.kind() {
            "container" => {
                let input = args.grace.map_or(Value::Null, |seconds| json!({"timeout": seconds}));
                act(session, &resource, "stop", &input, &["stopped", "stopping"]).await?;
            }
            "environment" => {
                for service in members(session, &resource).await? {
                    act(session, &service, "deactivate", &Value::Null, &["inactive", "deactivating"]).await?;
                }
            }
            _ => act(session, &resource, "deactivate", &Value::Null, &["inactive", "deactivating"]).await?,
        }
    }
    Ok(exit::DONE)
}

pub async fn restart(session: &Session, args: RestartArgs) -> Result<u8, Failure> {
    for resource in resolved(session, &args.names, &[Kind::Service, Kind::Container]).await? {
        let containers = if resource.kind() == "container" {
            vec![resource]
        } else {
            resolve::containers_of(&session.client, &resource).await?
        };
        for container in containers {
            act(session, &container, "restart", &Value::Null, &["restarting"]).await?;
        }
    }
    Ok(exit::DONE)
}

pub async fn rm(session: &Session, args: RmArgs) -> Result<u8, Failure> {
    let found = resolved(session, &args.names, Kind::ALL).await?;
    let grave: Vec<String> = found
        .iter()
        .filter(|resource| matches!(resource.kind(), "environment" | "host" | "volume"))
        .map(Resource::title)
        .collect();
    if !grave.is_empty() && !args.force && !session.confirm(&format!("Remove {}?", grave.join(", ")))? {
        return Ok(exit::FAILED);
    }
    for resource in found {
        // An active host takes containers until it is deactivated; nobody who removes it wants that.
        if resource.kind() == "host" && resource.action("deactivate").is_some() {
            act(session, &resource, "deactivate", &Value::Null, &["inactive"]).await?;
            remove(session, &session.client.reload(&resource).await?).await?;
        } else {
            remove(session, &resource).await?;
        }
    }
    Ok(exit::DONE)
}
