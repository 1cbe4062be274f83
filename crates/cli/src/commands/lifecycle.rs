//! `start`, `stop`, `restart` and `rm`, of services, stacks and containers; without names, of the project at hand.

use std::time::Duration;

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::wait::{Change, Verdict, settled};
use serde_json::{Value, json};

use crate::apply::{Patience, healthy, remove};
use crate::commands::up::{Images, bring, millis, report};
use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::{ProjectOptions, WaitOptions, interval};
use crate::plan::{Goal, INTERVAL_MS, Wish, restart_input};
use crate::project;
use crate::resolve::Kind;
use crate::session::Session;

/// Start services or containers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda start                 # the project of the compose file here\n  remuda start web\n  remuda start stack:shop\n  remuda start container:cache\n\nSee also: stop, up"
)]
pub struct StartArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services, stacks or containers; the services of the compose file when none is named
    #[arg(value_name = "NAME", add = complete::running())]
    pub names: Vec<String>,
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Stop services or containers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda stop\n  remuda stop web\n  remuda stop shop/web#2 --grace 30\n\nEverything is kept. See also: start, down"
)]
pub struct StopArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services, stacks or containers; the services of the compose file when none is named
    #[arg(value_name = "NAME", add = complete::running())]
    pub names: Vec<String>,
    /// Seconds a container has to end by itself
    #[arg(long, value_name = "SECONDS")]
    pub grace: Option<i64>,
    /// Return when the server has accepted the requests
    #[arg(long)]
    pub no_wait: bool,
}

/// Restart services or containers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda restart\n  remuda restart shop/web#1\n  remuda restart shop/web --batch-size 2 --interval 5s\n\nSee also: stop, start"
)]
pub struct RestartArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services or containers; the services of the compose file when none is named
    #[arg(value_name = "NAME", add = complete::containers())]
    pub names: Vec<String>,
    /// Containers of a service restarted at a time
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(i64).range(1..))]
    pub batch_size: i64,
    /// Pause between two batches, like 5s; a bare number is milliseconds
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub interval: Option<Duration>,
    #[command(flatten)]
    pub wait: WaitOptions,
}

/// Remove things.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda rm web\n  remuda rm stack:shop --yes\n  remuda rm host:node3 --yes\n\nSee also: down, stop"
)]
pub struct RmArgs {
    /// Services, stacks, containers, hosts or volumes; the services of the compose file when none is named
    #[arg(value_name = "NAME", add = complete::things())]
    pub names: Vec<String>,
    /// Ask nothing, like --yes
    #[arg(short, long)]
    pub force: bool,
    /// Stop them first
    #[arg(long)]
    pub stop: bool,
    /// Only things of these kinds
    #[arg(long = "type", value_enum, value_name = "KIND")]
    pub kinds: Vec<Kind>,
}

impl RmArgs {
    /// As if these names had been given.
    pub fn of(names: Vec<String>) -> RmArgs {
        RmArgs { names, force: false, stop: false, kinds: Vec::new() }
    }
}

const STARTABLE: &[Kind] = &[Kind::Service, Kind::Stack, Kind::Container];

/// Posts an action unless the resource is there already, and waits as long as was asked.
pub async fn act(
    session: &Session,
    resource: &Resource,
    action: &str,
    input: &Value,
    there: &[&str],
    patience: Patience,
) -> Result<(), Failure> {
    let watch = |row: &Resource| session.progress.row(row.name(), row);
    let limit = session.globals.timeout();
    let resource = if there.contains(&resource.state()) && resource.action(action).is_none() {
        resource.clone()
    } else {
        session.client.change(resource, Change::Action(action, input), limit, watch).await?
    };
    if patience == Patience::None {
        return session.out.line(resource.id());
    }
    let judge = |row: &Resource| match settled(row) {
        Verdict::Done if patience == Patience::Healthy => healthy(row),
        verdict => verdict,
    };
    let row = session.client.wait(&resource, limit, judge, watch).await?;
    session.progress.done(row.name(), row.state(), true);
    Ok(())
}

/// What the server has of the services of the compose file.
async fn project_rows(session: &Session) -> Result<Vec<Resource>, Failure> {
    let (project, found) = project::load_with_server(session, &[]).await?;
    let mut rows = found.services;
    rows.retain(|row| project.compiled.services.iter().any(|service| service.name.eq_ignore_ascii_case(row.name())));
    if rows.is_empty() {
        session.progress.note(&format!("stack {} has none of the services of the file", project.stack));
    }
    Ok(rows)
}

/// One step for each at the same time; every failure is told.
pub async fn all<'a>(
    session: &Session,
    rows: &'a [Resource],
    step: impl AsyncFn(&'a Resource) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let outcomes = join_all(rows.iter().map(|row| step(row))).await;
    report(session, outcomes.into_iter().filter_map(Result::err).collect()).map_or(Ok(exit::DONE), Err)
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

const UP: &[&str] = &["active", "activating", "updating-active"];
const DOWN: &[&str] = &["inactive", "deactivating"];

pub async fn start(session: &Session, args: StartArgs) -> Result<u8, Failure> {
    let patience = args.wait.patience(&session.globals);
    if args.names.is_empty() {
        // In the order of the files, with their links.
        let wish = Wish { goal: Goal::Started, ..Wish::default() };
        bring(session, wish, Images::MISSING, patience, false).await?;
        return Ok(exit::DONE);
    }
    each(session, &args.names, async |name| start_one(session, name, patience).await).await
}

async fn start_one(session: &Session, name: &str, patience: Patience) -> Result<(), Failure> {
    let resource = session.resolve(name, STARTABLE).await?;
    match resource.kind() {
        "container" => act(session, &resource, "start", &Value::Null, &["running", "starting"], patience).await,
        "environment" => {
            session.client.action(&resource, "activateservices", &Value::Null).await?;
            let services = members(session, &resource).await?;
            let started = async |row| act(session, row, "activate", &Value::Null, UP, patience).await;
            all(session, &services, started).await.map(drop)
        }
        _ => act(session, &resource, "activate", &Value::Null, UP, patience).await,
    }
}

pub async fn stop(session: &Session, args: StopArgs) -> Result<u8, Failure> {
    let patience = if args.no_wait { Patience::None } else { Patience::Settled };
    if args.names.is_empty() {
        return stop_services(session, &project_rows(session).await?, patience).await;
    }
    each(session, &args.names, async |name| stop_one(session, name, args.grace, patience).await).await
}

/// Stops those that run, all at once.
pub async fn stop_services(session: &Session, rows: &[Resource], patience: Patience) -> Result<u8, Failure> {
    all(session, rows, async |row| {
        session.progress.old(&format!("[{}]: Stopping ", row.name()));
        act(session, row, "deactivate", &Value::Null, DOWN, patience).await?;
        session.progress.old(&format!("[{}]: Stopped ", row.name()));
        Ok(())
    })
    .await
}

async fn stop_one(session: &Session, name: &str, grace: Option<i64>, patience: Patience) -> Result<(), Failure> {
    let resource = session.resolve(name, STARTABLE).await?;
    match resource.kind() {
        "container" => {
            let input = grace.map_or(Value::Null, |seconds| json!({"timeout": seconds}));
            act(session, &resource, "stop", &input, &["stopped", "stopping"], patience).await
        }
        "environment" => {
            let services = members(session, &resource).await?;
            stop_services(session, &services, patience).await.map(drop)
        }
        _ => act(session, &resource, "deactivate", &Value::Null, DOWN, patience).await,
    }
}

pub async fn restart(session: &Session, args: RestartArgs) -> Result<u8, Failure> {
    let patience = args.wait.patience(&session.globals);
    let interval_ms = args.interval.map_or(INTERVAL_MS, millis);
    let input = restart_input(args.batch_size, interval_ms);
    if args.names.is_empty() {
        let rows = project_rows(session).await?;
        return all(session, &rows, async |row| restart_row(session, row, &input, patience).await).await;
    }
    each(session, &args.names, async |name| {
        let row = session.resolve(name, &[Kind::Service, Kind::Container]).await?;
        restart_row(session, &row, &input, patience).await
    })
    .await
}

pub async fn restart_row(session: &Session, row: &Resource, input: &Value, patience: Patience) -> Result<(), Failure> {
    if row.kind() == "container" {
        return act(session, row, "restart", &Value::Null, &["restarting"], patience).await;
    }
    session.progress.old(&format!("[{}]: Restarting ", row.name()));
    act(session, row, "restart", input, &[], patience).await?;
    session.progress.old(&format!("[{}]: Restarted ", row.name()));
    Ok(())
}

pub async fn rm(session: &Session, args: RmArgs) -> Result<u8, Failure> {
    let kinds = if args.kinds.is_empty() { Kind::ALL } else { &args.kinds };
    // All names first: what is asked about is the whole of it, and a mistyped name removes nothing.
    let mut found = Vec::new();
    for name in &args.names {
        found.push(session.resolve(name, kinds).await?);
    }
    if args.names.is_empty() {
        found = project_rows(session).await?;
    }
    let asks = |row: &&Resource| args.names.is_empty() || matches!(row.kind(), "environment" | "host" | "volume");
    let grave: Vec<String> = found.iter().filter(asks).map(Resource::title).collect();
    if !grave.is_empty() && !args.force && !session.confirm(&format!("Remove {}?", grave.join(", ")))? {
        return Ok(exit::FAILED);
    }
    each(session, &found, async |resource| remove_one(session, resource, args.stop).await).await
}

async fn remove_one(session: &Session, resource: &Resource, stop: bool) -> Result<(), Failure> {
    let title = resource.name().to_owned();
    // An active host takes containers until it is deactivated; nobody who removes it wants that.
    let first = match resource.kind() {
        "host" => Some("deactivate"),
        "container" if stop => Some("stop"),
        "environment" if stop => {
            stop_services(session, &members(session, resource).await?, Patience::Settled).await?;
            None
        }
        _ if stop => Some("deactivate"),
        _ => None,
    };
    if let Some(action) = first.filter(|action| resource.action(action).is_some()) {
        act(session, resource, action, &Value::Null, &[], Patience::Settled).await?;
        return remove(session, &title, &session.client.reload(resource).await?).await;
    }
    remove(session, &title, resource).await
}
