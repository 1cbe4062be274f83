//! `rancher-compose` (`cli.md` §2): its commands, flags, lines on stdout and exit codes.

use std::path::PathBuf;
use std::time::Duration;

use remuda_client::Resource;
use serde_json::json;

use crate::apply::{Patience, remove};
use crate::commands::up::{Images, bring};
use crate::commands::{images, lifecycle, logs, scale, up, upgrade};
use crate::failure::{Failure, exit};
use crate::globals::{Globals, ProjectOptions, WaitOptions, interval};
use crate::plan::{Goal, Wish, restart_input};
use crate::progress::{Style, fatal};
use crate::project;
use crate::session::{Session, environment};

/// The whole command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "rancher-compose",
    about = "Docker-compose to Rancher, as remuda does it",
    version,
    disable_version_flag = true
)]
pub struct Line {
    /// Print requests
    #[arg(long, alias = "debug")]
    verbose: bool,
    /// Compose file; several are merged
    #[arg(short, long, env = "COMPOSE_FILE", hide_env = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Name of the stack [default: that of the directory]
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// Address of the server [env: RANCHER_URL]
    #[arg(long)]
    url: Option<String>,
    /// Access key [env: RANCHER_ACCESS_KEY]
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// Secret key [env: RANCHER_SECRET_KEY]
    #[arg(long, value_name = "KEY")]
    secret_key: Option<String>,
    /// rancher-compose file [default: rancher-compose.yml beside the compose file]
    #[arg(short, long, value_name = "FILE")]
    rancher_file: Option<PathBuf>,
    /// File with values of variables
    #[arg(short, long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create services, without starting them
    Create(Services),
    /// Bring services up
    Up(UpArgs),
    /// Start services
    Start(StartArgs),
    /// Print logs
    Logs(LogsArgs),
    /// Restart services
    Restart(RestartArgs),
    /// Stop services
    #[command(visible_alias = "down")]
    Stop(StopArgs),
    /// Set the number of containers of services
    Scale(ScaleArgs),
    /// Delete services
    Rm(RmArgs),
    /// Pull the images of services
    Pull(PullArgs),
    /// Replace one service by another
    Upgrade(UpgradeArgs),
}

#[derive(Debug, clap::Args)]
struct Services {
    /// Services of the file; all when none is named
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    #[command(flatten)]
    services: Services,
    /// Do not follow the logs
    #[arg(short)]
    d: bool,
    /// Pull images on all hosts first
    #[arg(short, long)]
    pull: bool,
    /// Upgrade services that changed
    #[arg(short, long, alias = "recreate")]
    upgrade: bool,
    /// Upgrade services whether they changed or not
    #[arg(long, alias = "force-recreate")]
    force_upgrade: bool,
    /// Confirm upgrades
    #[arg(short, long)]
    confirm_upgrade: bool,
    /// Roll back upgrades
    #[arg(short, long)]
    rollback: bool,
    /// Containers upgraded at once
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(i64).range(1..))]
    batch_size: i64,
    /// Milliseconds between two batches
    #[arg(long, default_value = "1000", value_parser = interval)]
    interval: Duration,
}

#[derive(Debug, clap::Args)]
struct StartArgs {
    #[command(flatten)]
    services: Services,
    #[arg(short, hide = true)]
    d: bool,
}

#[derive(Debug, clap::Args)]
struct LogsArgs {
    #[command(flatten)]
    services: Services,
    /// Lines of the past
    #[arg(long, default_value = "100")]
    lines: i64,
    /// Go on with what comes
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, clap::Args)]
struct RestartArgs {
    #[command(flatten)]
    services: Services,
    /// Containers restarted at once
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(i64).range(1..))]
    batch_size: i64,
    /// Milliseconds between two batches; 0: as the server likes
    #[arg(long, default_value = "0", value_parser = interval)]
    interval: Duration,
}

#[derive(Debug, clap::Args)]
struct StopArgs {
    #[command(flatten)]
    services: Services,
    #[arg(short, long, hide = true)]
    timeout: Option<i64>,
}

#[derive(Debug, clap::Args)]
struct ScaleArgs {
    /// SERVICE=N
    #[arg(required = true, value_name = "SERVICE=N")]
    services: Vec<String>,
    #[arg(short, long, hide = true)]
    timeout: Option<i64>,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    #[command(flatten)]
    services: Services,
    /// Delete all services of the file
    #[arg(short, long)]
    force: bool,
    #[arg(short, hide = true)]
    v: bool,
}

#[derive(Debug, clap::Args)]
struct PullArgs {
    #[command(flatten)]
    services: Services,
    /// Only on hosts that have the image
    #[arg(short, long)]
    cached: bool,
}

#[derive(Debug, clap::Args)]
struct UpgradeArgs {
    /// Service to replace
    from: String,
    /// Service in its place
    to: String,
    /// Containers moved at once
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(i64).range(1..))]
    batch_size: i64,
    /// Scale in the end; -1: that of the old service
    #[arg(long, default_value = "-1", allow_hyphen_values = true)]
    scale: i64,
    /// Milliseconds between two batches
    #[arg(long, default_value = "2000", value_parser = interval)]
    interval: Duration,
    /// Links to the old service are written to the new one, too
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    update_links: bool,
    /// Wait until it is done
    #[arg(short, long)]
    wait: bool,
    /// Remove the old service when it is empty
    #[arg(short, long)]
    cleanup: bool,
}

/// Runs one command line; the value is the exit code, which is 0 or 1.
pub async fn run(line: Line) -> u8 {
    match dispatch(line).await {
        Ok(exit::DONE) => exit::DONE,
        Ok(_) => exit::FAILED,
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            fatal(&format!("{}{hint}", failure.message));
            exit::FAILED
        }
    }
}

async fn dispatch(line: Line) -> Result<u8, Failure> {
    let debug = line.verbose || environment("RANCHER_CLIENT_DEBUG").is_some_and(|value| value == "true");
    let session = Session::open(Globals {
        url: line.url,
        access_key: line.access_key,
        secret_key: line.secret_key,
        file: line.file,
        rancher_file: line.rancher_file,
        stack: line.project_name,
        env_file: line.env_file,
        progress: Some(Style::Legacy),
        debug,
        ..Globals::default()
    })
    .await?;
    let session = &session;
    match line.command {
        Command::Create(args) => {
            let wish = Wish { goal: Goal::Created, named: args.services, no_deps: true, ..Wish::default() };
            bring(session, wish, Images::MISSING, Patience::Settled, false).await?;
            Ok(exit::DONE)
        }
        Command::Up(args) => up(session, args).await,
        Command::Start(args) => {
            let wish = Wish { goal: Goal::Started, named: args.services.services, ..Wish::default() };
            bring(session, wish, Images::MISSING, Patience::Settled, false).await?;
            Ok(exit::DONE)
        }
        Command::Logs(args) => {
            let rows = rows(session, &args.services).await?;
            logs::of_services(session, rows, args.lines, args.follow).await
        }
        Command::Restart(args) => {
            let rows = rows(session, &args.services).await?;
            let mut input = restart_input(args.batch_size, up::millis(args.interval));
            if args.interval.is_zero() {
                input["rollingRestartStrategy"] = json!({"batchSize": args.batch_size});
            }
            lifecycle::all(session, &rows, async |row| {
                lifecycle::restart_row(session, row, &input, Patience::Settled).await
            })
            .await
        }
        Command::Stop(args) => {
            let rows = rows(session, &args.services).await?;
            lifecycle::stop_services(session, &rows, Patience::Settled).await
        }
        Command::Scale(args) => scale_all(session, args).await,
        Command::Rm(args) => rm(session, args).await,
        Command::Pull(args) => {
            let (services, host) = (args.services.services, Vec::new());
            let project = ProjectOptions::default();
            images::pull(session, images::PullArgs { project, services, cached: args.cached, host }).await
        }
        Command::Upgrade(args) => {
            let names = [args.from, args.to].to_vec();
            let no_wait = !args.wait && !args.cleanup;
            let args = upgrade::Args {
                batch_size: args.batch_size,
                interval: args.interval,
                scale: args.scale,
                update_links: args.update_links,
                cleanup: args.cleanup,
                wait: WaitOptions { no_wait, ..WaitOptions::default() },
                ..upgrade::Args::of(names)
            };
            upgrade::run(session, args).await
        }
    }
}

async fn up(session: &Session, args: UpArgs) -> Result<u8, Failure> {
    let wish = up::Args {
        services: args.services.services,
        // Only what was named, nothing it needs.
        no_deps: true,
        upgrade: up::UpgradeOptions {
            upgrade: args.upgrade,
            force_upgrade: args.force_upgrade,
            confirm_upgrade: args.confirm_upgrade,
            rollback: args.rollback,
            batch_size: Some(args.batch_size),
            interval: Some(args.interval),
            // Nobody who calls it so expects an upgrade to go back by itself.
            rollback_after: Some(Duration::ZERO),
            ..up::UpgradeOptions::default()
        },
        ..up::Args::default()
    }
    .wish()?;
    let images = Images { pull: args.pull, ..Images::MISSING };
    let (_, rows) = bring(session, wish, images, Patience::Settled, false).await?;
    if args.d {
        return Ok(exit::DONE);
    }
    logs::of_services(session, rows.unwrap_or_default(), 100, true).await
}

/// What the server has of the services of the file: the named ones, or all. Those it does not have are no mistake.
async fn rows(session: &Session, named: &Services) -> Result<Vec<Resource>, Failure> {
    let (project, found) = project::load_with_server(session, &named.services).await?;
    let services = &project.compiled.services;
    if let Some(name) = named.services.iter().find(|name| !services.iter().any(|service| service.name == **name)) {
        return Err(Failure::usage(format!("No such service: {name}")));
    }
    let is_meant = |row: &Resource| {
        let mut known = services.iter().filter(|service| service.name.eq_ignore_ascii_case(row.name()));
        known.any(|service| named.services.is_empty() || named.services.contains(&service.name))
    };
    Ok(found.services.into_iter().filter(is_meant).collect())
}

async fn scale_all(session: &Session, args: ScaleArgs) -> Result<u8, Failure> {
    let rows = rows(session, &Services { services: Vec::new() }).await?;
    // All arguments are checked before anything changes.
    let mut work = Vec::new();
    for argument in &args.services {
        let (name, scale) = scale::exactly(argument)?;
        let row = rows.iter().find(|row| row.name().eq_ignore_ascii_case(name));
        let row = row.ok_or_else(|| Failure::usage(format!("No such service: {name}")))?;
        work.push((row, scale));
    }
    for (row, scale) in work {
        scale::one(session, row, scale, Patience::Settled).await?;
    }
    Ok(exit::DONE)
}

async fn rm(session: &Session, args: RmArgs) -> Result<u8, Failure> {
    if args.services.services.is_empty() && !args.force {
        return Err(Failure::usage("Will not remove all services without --force"));
    }
    let rows = rows(session, &args.services).await?;
    lifecycle::all(session, &rows, async |row| remove(session, row.name(), row).await).await
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lines_of_2016_are_understood() {
        Line::command().debug_assert();
        for line in [
            "rancher-compose -p s up -d -p",
            "rancher-compose -f a.yml -f b.yml -r r.yml -e env -p s --url http://h --access-key a --secret-key b up",
            "rancher-compose up --upgrade --confirm-upgrade --batch-size 1 --interval 500 web",
            "rancher-compose up -d --force-recreate -c",
            "rancher-compose up -r web",
            "rancher-compose --debug create web db",
            "rancher-compose start -d web",
            "rancher-compose logs --lines 5 --follow web",
            "rancher-compose restart --batch-size 2 --interval 0",
            "rancher-compose down -t 10",
            "rancher-compose stop web",
            "rancher-compose scale web=2 db=1",
            "rancher-compose pull --cached web",
            "rancher-compose rm -f -v",
            "rancher-compose upgrade web1 web2 --scale 3 --update-links=false --wait --cleanup",
        ] {
            crate::legacy::understood::<Line>(line);
        }
    }
}
