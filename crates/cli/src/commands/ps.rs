//! `ps`: services, or containers.

use remuda_client::Resource;

use crate::failure::{Failure, exit};
use crate::globals::ProjectOptions;
use crate::items::{self, Names};
use crate::output::{Format, ListOptions, Section};
use crate::resolve::{self, Kind};
use crate::session::{Session, now_ms};
use crate::{complete, watch};

/// List services or containers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda ps\n  remuda ps -c\n  remuda ps shop/web\n  remuda ps host:node3\n  remuda ps -c -o json\n  remuda ps . --watch\n  remuda ps -c --sort-by host\n\nSee also: inspect, logs, top"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services (their containers are listed), stacks, hosts or containers; all services when none is named
    #[arg(value_name = "NAME", add = complete::things())]
    pub names: Vec<String>,
    /// List containers
    #[arg(short, long)]
    pub containers: bool,
    /// Also what is inactive, stopped or being removed
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub list: ListOptions,
}

/// States that are left out without `--all`.
const RESTING: &[&str] = &["inactive", "stopped", "removing", "removed", "purging", "purged"];

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    watch::list(session, &args.list, async || gather(session, &args).await).await
}

/// What is listed.
pub async fn gather(session: &Session, args: &Args) -> Result<Vec<Section>, Failure> {
    let client = &session.client;
    let mut services = Vec::new();
    let mut containers = Vec::new();
    let live = [("removed_null", "true")];
    for name in &args.names {
        let resource = session.resolve(name, Kind::ALL).await?;
        match resource.kind() {
            "environment" => {
                services.extend(client.list("services", &[("environmentId", resource.id()), live[0]]).await?);
            }
            "container" => containers.push(resource),
            "host" => containers.extend(session.members(&resource, "instances").await?),
            "volume" => {
                return Err(Failure::usage(format!("`{name}` is a volume; `ps` lists services and containers")));
            }
            _ => containers.extend(resolve::containers_of(client, &resource).await?),
        }
    }
    if args.names.is_empty() {
        match &session.globals.stack {
            Some(name) => {
                let stack = resolve::stack_named(client, name).await?;
                let stack =
                    stack.ok_or_else(|| Failure::new(exit::NOT_FOUND, format!("no stack is called `{name}`")))?;
                services = client.list("services", &[("environmentId", stack.id()), live[0]]).await?;
            }
            None if args.containers => containers = client.list("containers", &live).await?,
            None => services = client.list("services", &live).await?,
        }
    }
    services.retain(|service| service.get("removed").is_null());
    if args.containers {
        for service in std::mem::take(&mut services) {
            containers.extend(resolve::containers_of(client, &service).await?);
        }
    }
    let names = Names::read(client).await?;
    let mut sections = Vec::new();
    if !containers.is_empty() || args.containers || (!args.names.is_empty() && services.is_empty()) {
        let mut rows = awake(session, args, containers);
        rows.sort_by_key(|row| natural(row.name()));
        let items = rows.iter().map(|row| items::container(row, &names, now_ms())).collect();
        sections.push(Section { columns: items::CONTAINERS, items });
    }
    if !args.containers && (!services.is_empty() || args.names.is_empty()) {
        let all = client.list("containers", &[live[0], ("state", "running")]).await?;
        let mut rows = awake(session, args, services);
        rows.sort_by_key(|row| names.of_service(row));
        let running = items::running(&all);
        let items = rows.iter().map(|row| items::service(row, &names, &running, now_ms())).collect();
        sections.push(Section { columns: items::SERVICES, items });
    }
    Ok(sections)
}

/// Leaves out what rests, and says so where a person reads.
fn awake(session: &Session, args: &Args, mut rows: Vec<Resource>) -> Vec<Resource> {
    let n_all = rows.len();
    rows.retain(|row| args.all || !RESTING.contains(&row.state()));
    let n_hidden = n_all - rows.len();
    if n_hidden > 0 && !args.list.watch && matches!(session.out.format, Format::Table | Format::Wide) {
        session.progress.note(&format!("{n_hidden} not running; `-a` lists them too"));
    }
    rows
}

/// Sorts `web_10` after `web_9`.
fn natural(name: &str) -> (String, u64) {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    (stem.to_owned(), name[stem.len()..].parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["a_web_10", "a_web_9", "a_db_1", "b"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a_db_1", "a_web_9", "a_web_10", "b"]);
    }
}
