//! `down`: the services of the compose files go, and the stack when nothing is left in it.

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::wait::Verdict;

use crate::apply::remove;
use crate::commands::up::report;
use crate::failure::{Failure, exit};
use crate::globals::ProjectOptions;
use crate::project;
use crate::resolve;
use crate::session::Session;

/// Stop and remove the services of compose files.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda down\n  remuda -s shop down --yes\n  remuda down --remove-orphans --volumes\n\nSee also: stop (keeps everything), rm"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Also services of the stack that the files do not have
    #[arg(long, visible_alias = "prune")]
    remove_orphans: bool,
    /// Also the named volumes of the files
    #[arg(long)]
    volumes: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let (project, found) = project::load_with_server(session, &[]).await?;
    let Some(stack) = found.stack else {
        session.progress.note(&format!("there is no stack {}; nothing to do", project.stack));
        return Ok(exit::DONE);
    };
    let is_ours = |row: &Resource| {
        let mut services = project.compiled.services.iter();
        args.remove_orphans || services.any(|service| service.name.eq_ignore_ascii_case(row.name()))
    };
    let (mine, others): (Vec<Resource>, Vec<Resource>) = found.services.into_iter().partition(is_ours);
    let volumes: Vec<&str> = match args.volumes {
        true => {
            let own = project.compiled.volumes.iter().filter(|volume| !volume.external);
            own.map(|volume| volume.real_name.as_str()).collect()
        }
        false => Vec::new(),
    };
    if !session.confirm(&format!("{}?", question(stack.name(), &mine, &others, &volumes)))? {
        return Ok(exit::FAILED);
    }
    let title = |row: &Resource| format!("{}/{}", stack.name(), row.name());
    let mut containers = Vec::new();
    if !volumes.is_empty() {
        for service in &mine {
            containers.extend(resolve::containers_of(&session.client, service).await?);
        }
    }
    let removals = join_all(mine.iter().map(async |row| remove(session, &title(row), row).await)).await;
    if let Some(failure) = report(session, removals.into_iter().filter_map(Result::err).collect()) {
        return Err(failure);
    }
    if others.is_empty() {
        remove(session, stack.name(), &stack).await?;
    } else {
        let names: Vec<&str> = others.iter().map(Resource::name).collect();
        let hint = "`--remove-orphans` takes them along";
        session.progress.note(&format!("stack {} stays: {} not in the file; {hint}", stack.name(), names.join(", ")));
    }
    remove_volumes(session, &volumes, &containers).await?;
    Ok(exit::DONE)
}

/// Everything that goes, so that nobody says yes to more than they read.
fn question(stack: &str, mine: &[Resource], others: &[Resource], volumes: &[&str]) -> String {
    let services: Vec<&str> = mine.iter().map(Resource::name).collect();
    let mut goes = Vec::new();
    if !services.is_empty() {
        goes.push(format!("{} of stack {stack}", services.join(", ")));
    }
    if others.is_empty() {
        goes.push(if services.is_empty() { format!("stack {stack}") } else { "the stack itself".to_owned() });
    }
    if !volumes.is_empty() {
        goes.push(format!("with what is in them the volumes {}", volumes.join(", ")));
    }
    if goes.is_empty() { "Remove nothing".to_owned() } else { format!("Remove {}", goes.join(" and ")) }
}

/// Volumes can go when no container uses them any more.
async fn remove_volumes(session: &Session, names: &[&str], containers: &[Resource]) -> Result<(), Failure> {
    let limit = session.globals.timeout();
    for container in containers {
        let gone = |row: &Resource| match row.state() {
            "removed" | "purging" | "purged" => Verdict::Done,
            _ => Verdict::NotYet,
        };
        match session.client.wait(container, limit, gone, |_| {}).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    for name in names {
        for volume in session.client.list("volumes", &[("name", name), ("removed_null", "true")]).await? {
            remove(session, name, &volume).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_question_names_everything_that_goes() {
        let row = |name: &str| Resource(json!({"name": name}));
        for (mine, others, volumes, expected) in [
            (
                &["web", "db"][..],
                &[][..],
                &["shop_data"][..],
                "Remove web, db of stack shop and the stack itself and with what is in them the volumes shop_data",
            ),
            (&["web"], &["old"], &[], "Remove web of stack shop"),
            (&[], &[], &[], "Remove stack shop"),
            (&[], &["old"], &[], "Remove nothing"),
        ] {
            let rows = |names: &[&str]| names.iter().map(|name| row(name)).collect::<Vec<_>>();
            assert_eq!(question("shop", &rows(mine), &rows(others), volumes), expected);
        }
    }
}
