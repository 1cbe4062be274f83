//! `up`, `down` and `config`: the services of a compose file (`compose.md` §§8–9).

use futures_util::future::join_all;
use remuda_client::{
    Resource,
    wait::{Change, Verdict, settled},
};
use remuda_compose::{Kind, Service, diff};
use serde_json::{Value, json};

use crate::commands::logs;
use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::{Globals, ProjectOptions};
use crate::progress::Progress;
use crate::project::{self, Project};
use crate::resolve;
use crate::session::{self, Session};

/// Create and start the services of a compose file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda up -d\n  remuda up -d web db\n  remuda -f shop.yml -s shop up --wait\n\nSee also: down, scale, ps, logs"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services to bring up, with those they need; all when none is named
    #[arg(add = complete::project_services())]
    services: Vec<String>,
    /// Return when everything runs, instead of following the logs
    #[arg(short, long)]
    detach: bool,
    /// Leave out the services the named ones need
    #[arg(long)]
    no_deps: bool,
    /// Like --detach
    #[arg(long)]
    wait: bool,
}

/// Stop and remove the services of a compose file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda down\n  remuda -s shop down --yes\n\nSee also: stop (keeps everything)")]
pub struct DownArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
}

/// Print what a compose file compiles to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda config -o yaml\n  remuda config --services\n\nSee also: up")]
pub struct ConfigArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Print the names of the services only
    #[arg(long)]
    services: bool,
    /// Print the images only
    #[arg(long)]
    images: bool,
    /// Print the variables the files use, with their values
    #[arg(long)]
    variables: bool,
    /// Print the hash of each service and of each of its launch configs
    #[arg(long)]
    hash: bool,
}

/// Body of `config`: nothing is sent.
pub fn config(globals: &Globals, args: &ConfigArgs) -> Result<u8, Failure> {
    let out = session::out(globals);
    let project = project::load(globals, &Progress::new(globals.progress))?;
    let services = &project.compiled.services;
    if args.services || args.images {
        for service in services {
            if args.services {
                out.line(&service.name)?;
            }
            for image in service.images.iter().filter(|_| args.images) {
                out.line(image)?;
            }
        }
        return Ok(exit::DONE);
    }
    if args.variables {
        for (name, value) in &project.compiled.variables {
            out.line(&value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")))?;
        }
        return Ok(exit::DONE);
    }
    if args.hash {
        for service in services {
            out.line(&format!("{} {}", service.name, service.hash))?;
            for (config, hash) in &service.lc_hashes {
                out.line(&format!("{}/{config} {hash}", service.name))?;
            }
        }
        return Ok(exit::DONE);
    }
    let bodies: serde_json::Map<String, Value> = services
        .iter()
        .map(|service| {
            let links: Vec<Value> =
                service.links.iter().map(|link| json!({"service": link.target, "stack": link.stack, "alias": link.alias, "ports": link.ports})).collect();
            let mut body = service.body("");
            if let Some(body) = body.as_object_mut() {
                body.remove("environmentId");
                body.insert("links".to_owned(), links.into());
            }
            (service.name.clone(), body)
        })
        .collect();
    out.object(&json!({"stack": project.stack, "services": bodies}))?;
    Ok(exit::DONE)
}

/// A service of the file and the row it is on the server.
struct Placed<'a> {
    service: &'a Service,
    row: Resource,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let project = project::load_named(&session.globals, &session.progress, &args.services)?;
    let chosen = with_dependencies(&project, &args)?;
    chosen.iter().try_for_each(|service| check(service))?;
    let stack = stack(session, &project.stack).await?;
    let existing = session.client.list("services", &[("environmentId", stack.id()), ("removed_null", "true")]).await?;
    let mut placed = Vec::new();
    let mut changed = Vec::new();
    for service in &chosen {
        let found = existing.iter().find(|row| row.name().eq_ignore_ascii_case(&service.name));
        let row = match found {
            Some(row) => {
                if differs(row, service) {
                    changed.push(service.name.clone());
                }
                row.clone()
            }
            None => {
                session.progress.say(&service.name, "creating", None);
                let row = session.client.create("services", &service.body(stack.id())).await?;
                session.client.wait_settled(&row, session.globals.timeout()).await?
            }
        };
        placed.push(Placed { service, row });
    }
    link(session, &placed, &existing).await?;
    let outcome = activate(session, &placed).await;
    if !changed.is_empty() {
        session.progress.note(&format!(
            "warning: the file says something else than the server about {}; what runs was left as it is",
            changed.join(", ")
        ));
    }
    outcome?;
    if !changed.is_empty() {
        return Err(Failure::new(exit::FAILED, format!("{} differ from the file", changed.join(", ")))
            .hint("in this release: `remuda rm` them, then `up` again"));
    }
    if args.detach || args.wait {
        return Ok(exit::DONE);
    }
    session.progress.note("following logs; Ctrl-C stops following, the services keep running");
    let rows: Vec<Resource> = placed.into_iter().map(|placed| placed.row).collect();
    logs::follow_services(session, &rows).await
}

/// The chosen services and, unless told otherwise, those they need; in order.
fn with_dependencies<'a>(project: &'a Project, args: &Args) -> Result<Vec<&'a Service>, Failure> {
    let named = project::select(project, &args.services)?;
    let mut wanted: Vec<&str> = named.iter().map(|service| service.name.as_str()).collect();
    if !args.no_deps {
        let mut idx = 0;
        while let Some(name) = wanted.get(idx).copied() {
            let service = project.compiled.services.iter().find(|service| service.name == name);
            for needed in service.iter().flat_map(|service| service.needs()) {
                if !wanted.contains(&needed) {
                    wanted.push(needed);
                }
            }
            idx += 1;
        }
    }
    Ok(project.compiled.services.iter().filter(|service| wanted.contains(&service.name.as_str())).collect())
}

/// The stack of that name, made when it is missing.
async fn stack(session: &Session, name: &str) -> Result<Resource, Failure> {
    if let Some(stack) = resolve::stack_named(&session.client, name).await? {
        return Ok(stack);
    }
    session.progress.note(&format!("creating stack {name}"));
    let stack = session.client.create("environments", &json!({"name": name})).await?;
    Ok(session.client.wait_settled(&stack, session.globals.timeout()).await?)
}

/// Whether the server's service is another than the file's. One that no tool marked is left alone without a word.
fn differs(row: &Resource, service: &Service) -> bool {
    let diff = diff(service, &row.0);
    !diff.is_unmarked && !diff.is_same()
}

/// Refuses what this release cannot bring up, before anything is sent.
fn check(service: &Service) -> Result<(), Failure> {
    let refuse = |what: String| Err(Failure::new(exit::USAGE, format!("{}: {}: {what}", service.place, service.name)));
    if service.kind != Kind::Service {
        return refuse(format!("this server has no {} yet", service.kind.resource()));
    }
    if let Some(build) = service.builds.first() {
        return refuse(format!("the image of `{}` must be built, which this release cannot", build.launch_config));
    }
    if service.links.iter().any(|link| link.stack.is_some()) {
        return refuse("`external_links` to another stack cannot be written by this release".to_owned());
    }
    Ok(())
}

/// Writes the links of every service: the file's, exactly.
async fn link(session: &Session, placed: &[Placed<'_>], existing: &[Resource]) -> Result<(), Failure> {
    for Placed { service, row } in placed {
        let id = |name: &str| {
            let here = placed.iter().find(|other| other.service.name == name).map(|other| other.row.id());
            here.or_else(|| existing.iter().find(|row| row.name().eq_ignore_ascii_case(name)).map(Resource::id))
        };
        let known = existing.iter().any(|row| row.name().eq_ignore_ascii_case(&service.name));
        if service.links.is_empty() && !known {
            continue;
        }
        let links: Vec<Value> = service
            .links
            .iter()
            .filter_map(|link| {
                let target = id(&link.target)?;
                Some(match &link.alias {
                    Some(alias) => json!({"serviceId": target, "name": alias}),
                    None => json!({"serviceId": target}),
                })
            })
            .collect();
        session.client.action(row, "setservicelinks", &json!({"serviceLinks": links})).await?;
    }
    Ok(())
}

/// Activates every service after those it needs; one that fails does not stop the others.
async fn activate(session: &Session, placed: &[Placed<'_>]) -> Result<(), Failure> {
    let mut waiting: Vec<&Placed<'_>> = placed.iter().collect();
    let mut first_failure = None;
    while !waiting.is_empty() {
        let names: Vec<&str> = waiting.iter().map(|placed| placed.service.name.as_str()).collect();
        let free = |placed: &&Placed<'_>| {
            placed.service.needs().all(|name| name == placed.service.name || !names.contains(&name))
        };
        let (mut now, later): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(free);
        waiting = later;
        if now.is_empty() {
            // They need each other: the order of the file decides.
            now.push(waiting.remove(0));
        }
        let outcomes = join_all(now.into_iter().map(|placed| activate_one(session, placed))).await;
        first_failure =
            outcomes.into_iter().filter_map(Result::err).fold(first_failure, |first, next| first.or(Some(next)));
    }
    first_failure.map_or(Ok(()), Err)
}

async fn activate_one(session: &Session, Placed { service, row }: &Placed<'_>) -> Result<(), Failure> {
    let row = session.client.reload(row).await?;
    let name = &service.name;
    let row = if row.action("activate").is_some() {
        session.client.action(&row, "activate", &Value::Null).await?
    } else {
        row
    };
    let active = |row: &Resource| match settled(row) {
        Verdict::Done if row.state() != "active" => Verdict::Failed(format!("it is {}", row.state())),
        verdict => verdict,
    };
    let watch =
        |row: &Resource| session.progress.say(name, row.state(), row.message().filter(|_| row.is_transitioning()));
    match session.client.wait(&row, session.globals.timeout(), active, watch).await {
        Ok(row) => {
            session.progress.done(name, row.state(), true);
            Ok(())
        }
        Err(error) => {
            session.progress.done(name, &error.to_string(), false);
            Err(error.into())
        }
    }
}

pub async fn down(session: &Session, _args: DownArgs) -> Result<u8, Failure> {
    let project = project::load(&session.globals, &session.progress)?;
    let Some(stack) = resolve::stack_named(&session.client, &project.stack).await? else {
        session.progress.note(&format!("there is no stack {}; nothing to do", project.stack));
        return Ok(exit::DONE);
    };
    let rows = session.client.list("services", &[("environmentId", stack.id()), ("removed_null", "true")]).await?;
    let (mine, others): (Vec<Resource>, Vec<Resource>) = rows
        .into_iter()
        .partition(|row| project.compiled.services.iter().any(|service| service.name.eq_ignore_ascii_case(row.name())));
    let names: Vec<&str> = mine.iter().map(Resource::name).collect();
    if !session.confirm(&format!(
        "Remove {} of stack {}?",
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
        stack.name()
    ))? {
        return Ok(exit::FAILED);
    }
    let removals = mine.iter().map(|row| remove(session, row));
    for outcome in join_all(removals).await {
        outcome?;
    }
    if others.is_empty() {
        remove(session, &stack).await?;
    } else {
        let names: Vec<&str> = others.iter().map(Resource::name).collect();
        session.progress.note(&format!("stack {} stays: {} are not in the file", stack.name(), names.join(", ")));
    }
    Ok(exit::DONE)
}

/// Deletes one resource and waits until it is gone.
pub async fn remove(session: &Session, row: &Resource) -> Result<(), Failure> {
    let gone = |row: &Resource| match row.state() {
        "removed" | "purging" | "purged" => Verdict::Done,
        _ if row.has_failed() => Verdict::Failed(row.message().unwrap_or_default().to_owned()),
        _ => Verdict::NotYet,
    };
    let watch = |row: &Resource| session.progress.say(row.name(), row.state(), row.message());
    let row = session.client.change(row, Change::Delete, session.globals.timeout(), watch).await?;
    let row = session.client.wait(&row, session.globals.timeout(), gone, watch).await?;
    session.progress.done(row.name(), "removed", true);
    Ok(())
}
