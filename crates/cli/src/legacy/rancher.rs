//! The `rancher` command line (`cli.md` §§3–4): its names, columns, and ids instead of waiting.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::{events, exec, export, inspect, lifecycle, logs, ps, scale, up, wait};
use crate::failure::{Failure, exit};
use crate::globals::{Globals, Moment, ProjectOptions, WaitOptions, interval, moment};
use crate::items;
use crate::output::{Columns, Format, Item, ListOptions, Section, Shape};
use crate::progress::Style;
use crate::resolve::Kind;
use crate::session::{self, Session, environment, now_ms};

/// The whole command line.
#[derive(Debug, clap::Parser)]
#[command(name = "rancher", about = "Rancher CLI, as remuda does it", version, disable_version_flag = true)]
pub struct Line {
    /// Print requests
    #[arg(long)]
    debug: bool,
    /// File with URL and keys [default: ~/.rancher/cli.json]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Environment, by name or id [env: RANCHER_ENVIRONMENT]
    #[arg(long, visible_alias = "env", value_name = "ENV")]
    environment: Option<String>,
    /// Address of the server [env: RANCHER_URL]
    #[arg(long)]
    url: Option<String>,
    /// Access key [env: RANCHER_ACCESS_KEY]
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// Secret key [env: RANCHER_SECRET_KEY]
    #[arg(long, value_name = "KEY")]
    secret_key: Option<String>,
    /// Wait until what was asked for is done
    #[arg(short, long)]
    wait: bool,
    /// Longest wait, in seconds
    #[arg(long, default_value = "600", value_name = "SECONDS")]
    wait_timeout: u64,
    /// State to wait for
    #[arg(long, value_enum, value_name = "STATE")]
    wait_state: Option<wait::Goal>,
    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List services or containers
    Ps(PsArgs),
    /// List stacks
    #[command(visible_alias = "stack", args_conflicts_with_subcommands = true)]
    Stacks(Listed),
    /// List hosts
    #[command(visible_alias = "host", args_conflicts_with_subcommands = true)]
    Hosts(Listed),
    /// List environments
    #[command(visible_alias = "env", args_conflicts_with_subcommands = true)]
    Environment(Listed),
    /// List volumes
    #[command(visible_alias = "volume", args_conflicts_with_subcommands = true)]
    Volumes(Listed),
    /// Create a service from an image
    Run(RunArgs),
    /// Set the number of containers of services
    Scale {
        /// SERVICE=N
        #[arg(required = true, value_name = "SERVICE=N")]
        services: Vec<String>,
    },
    /// Start things
    #[command(visible_alias = "activate")]
    Start(Things),
    /// Stop things
    #[command(visible_alias = "deactivate")]
    Stop(Things),
    /// Restart services or containers
    Restart(RestartArgs),
    /// Delete things
    Rm(RmArgs),
    /// Print logs
    Logs(LogsArgs),
    /// Run a command in a container
    Exec(exec::Args),
    /// Bring services of compose files up
    Up(up::Args),
    /// Write stacks as compose files
    Export(ExportArgs),
    /// Print things as JSON, one a line
    Inspect(InspectArgs),
    /// Print changes
    #[command(visible_alias = "event")]
    Events,
    /// Wait until things are as wanted
    Wait(Things),
}

/// How lists are printed.
#[derive(Debug, Default, clap::Args)]
struct List {
    /// Also what is inactive or stopped
    #[arg(short, long)]
    all: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// `json`, or a template
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Listed {
    #[command(flatten)]
    list: List,
    #[command(subcommand)]
    command: Option<Ls>,
}

#[derive(Debug, clap::Subcommand)]
enum Ls {
    /// The list, as without this word
    Ls(List),
}

impl Listed {
    fn list(self) -> List {
        match self.command {
            Some(Ls::Ls(list)) => list,
            None => self.list,
        }
    }
}

#[derive(Debug, clap::Args)]
struct PsArgs {
    #[command(flatten)]
    list: List,
    /// List containers
    #[arg(short, long)]
    containers: bool,
    /// Services whose containers are listed; with -c also hosts
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Things {
    /// Only things of these kinds
    #[arg(long = "type", value_enum, value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Things {
    /// Names with their kind, where one was given.
    fn typed(self) -> Vec<String> {
        match &self.kinds[..] {
            [kind] => self.names.iter().map(|name| format!("{}:{name}", kind.word())).collect(),
            _ => self.names,
        }
    }
}

#[derive(Debug, clap::Args)]
struct RestartArgs {
    #[command(flatten)]
    things: Things,
    /// Containers restarted at once
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(i64).range(1..))]
    batch_size: i64,
    /// Milliseconds between two batches
    #[arg(long, default_value = "1000", value_parser = interval)]
    interval: Duration,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    #[command(flatten)]
    things: Things,
    /// Stop them first
    #[arg(short, long)]
    stop: bool,
}

#[derive(Debug, clap::Args)]
struct LogsArgs {
    /// Services or containers
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Lines of the past
    #[arg(long, default_value = "100")]
    tail: i64,
    /// Nothing older than this, like 10m
    #[arg(long, value_parser = moment)]
    since: Option<Moment>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// [STACK/]SERVICE
    #[arg(long)]
    name: Option<String>,
    /// Ports, as [[ip:]public:]private[/protocol]
    #[arg(short, long)]
    publish: Vec<String>,
    /// Volumes, as source:path[:ro]
    #[arg(short, long)]
    volume: Vec<String>,
    /// Variables, KEY=VALUE; a KEY alone takes its value from here
    #[arg(short, long)]
    env: Vec<String>,
    /// Labels, KEY=VALUE
    #[arg(short, long)]
    label: Vec<String>,
    /// Containers
    #[arg(long, default_value = "1")]
    scale: i64,
    /// One container on every host
    #[arg(long)]
    schedule_global: bool,
    /// Image
    image: String,
    /// Command and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Stacks; all when none is named
    #[arg(value_name = "STACK")]
    stacks: Vec<String>,
    /// Write a tar archive; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    #[command(flatten)]
    things: Things,
    /// With links and actions
    #[arg(long)]
    links: bool,
    #[arg(long, hide = true, value_parser = ["json"])]
    format: Option<String>,
}

const SERVICES: &[&str] = &["ID", "TYPE", "NAME", "IMAGE", "STATE", "SCALE", "ENDPOINTS", "DETAIL"];
const CONTAINERS: &[&str] = &["ID", "NAME", "IMAGE", "STATE", "HOST", "IP", "DOCKER", "DETAIL"];
const STACKS: &[&str] = &["ID", "NAME", "STATE", "SERVICES", "DETAIL"];
const HOSTS: &[&str] = &["ID", "NAME", "STATE", "CONTAINERS", "IP", "LABELS", "DETAIL"];
const ENVIRONMENTS: &[&str] = &["ID", "NAME", "STATE", "AGE"];
const VOLUMES: Columns = Columns { usual: &["ID", "NAME", "STATE", "DRIVER", "DETAIL"], wide: &[] };

/// Runs one command line; the value is the exit code: 0, 1, or that of the command run in a container.
pub async fn run(line: Line) -> u8 {
    let is_exec = matches!(line.command, Command::Exec(_));
    match dispatch(line).await {
        Ok(exit::DONE) => exit::DONE,
        Ok(code) if is_exec => code,
        Ok(_) => exit::FAILED,
        Err(failure) => {
            failure.print(crate::failure::Look::default());
            exit::FAILED
        }
    }
}

async fn dispatch(line: Line) -> Result<u8, Failure> {
    let waits = WaitOptions { wait: line.wait_state == Some(wait::Goal::Healthy), no_wait: !line.wait };
    let is_up = matches!(line.command, Command::Up(_));
    let globals = Globals {
        url: line.url,
        access_key: line.access_key,
        secret_key: line.secret_key,
        environment: line.environment,
        rancher_config: line.config,
        timeout: Some(Duration::from_secs(line.wait_timeout)),
        progress: Some(if is_up { Style::Legacy } else { Style::Quiet }),
        debug: line.debug || environment("RANCHER_CLIENT_DEBUG").is_some_and(|value| value == "true"),
        // No command of it asks.
        yes: true,
        ..Globals::default()
    };
    if let Command::Environment(listed) = line.command {
        return environments(&globals, listed.list()).await;
    }
    let mut globals = globals;
    let mut command = line.command;
    if let Command::Up(args) = &mut command {
        globals = globals.with(std::mem::take(&mut args.project));
    }
    if matches!(command, Command::Inspect(_)) {
        globals.output = Some(Format::Jsonl);
    }
    let mut session = Session::open(globals).await?;
    match command {
        Command::Environment(_) => Ok(exit::DONE),
        Command::Ps(args) => {
            let asked = ps::Args {
                project: ProjectOptions::default(),
                names: args.names,
                containers: args.containers,
                all: args.list.all,
                list: ListOptions::default(),
            };
            let sections = ps::gather(&session, &asked).await?;
            show(&mut session, &args.list, sections)
        }
        Command::Stacks(listed) => {
            let sections = crate::commands::stack::gather(&session).await?;
            show(&mut session, &listed.list(), sections)
        }
        Command::Hosts(listed) => {
            let sections = crate::commands::host::gather(&session).await?;
            show(&mut session, &listed.list(), sections)
        }
        Command::Volumes(listed) => {
            let sections = volumes(&session).await?;
            show(&mut session, &listed.list(), sections)
        }
        Command::Run(args) => exec::run_image(&session, service(args, waits.no_wait)).await,
        Command::Scale { services } => {
            // Without a number it means one.
            let services = services.into_iter();
            let services = services.map(|text| if text.contains('=') { text } else { text + "=1" }).collect();
            scale::run(&session, scale::Args { services, wait: waits }).await
        }
        Command::Start(things) => {
            let names = things.typed();
            lifecycle::start(&session, lifecycle::StartArgs { project: ProjectOptions::default(), names, wait: waits })
                .await
        }
        Command::Stop(things) => {
            let project = ProjectOptions::default();
            let args = lifecycle::StopArgs { project, names: things.typed(), grace: None, no_wait: waits.no_wait };
            lifecycle::stop(&session, args).await
        }
        Command::Restart(args) => {
            let args = lifecycle::RestartArgs {
                project: ProjectOptions::default(),
                names: args.things.typed(),
                batch_size: args.batch_size,
                interval: Some(args.interval),
                wait: waits,
            };
            lifecycle::restart(&session, args).await
        }
        Command::Rm(args) => {
            let kinds = args.things.kinds.clone();
            let names = args.things.names;
            lifecycle::rm(&session, lifecycle::RmArgs { names, force: true, stop: args.stop, kinds }).await
        }
        Command::Logs(args) => {
            let args = logs::Args {
                names: args.names,
                follow: args.follow,
                tail: args.tail,
                since: args.since,
                timestamps: args.timestamps,
                ..logs::Args::default()
            };
            logs::run(&session, args).await
        }
        Command::Exec(args) => exec::run(&session, args).await,
        Command::Up(mut args) => {
            args.no_deps = true;
            args.upgrade.rollback_after = args.upgrade.rollback_after.or(Some(Duration::ZERO));
            args.wait = WaitOptions { wait: waits.wait, no_wait: false };
            up::run(&session, args).await
        }
        Command::Export(args) => {
            let dir = args.file.is_none().then(|| PathBuf::from("."));
            let args =
                export::Args { stacks: args.stacks, dir, tar: args.file, format: export::Format::V2, file: None };
            export::run(&session, args).await
        }
        Command::Inspect(args) => {
            let args = inspect::Args { names: args.things.typed(), links: args.links };
            inspect::run(&session, args).await
        }
        Command::Events => events::run(&session, events::Args::default()).await,
        Command::Wait(things) => wait::run(&session, wait::Args { names: things.typed(), goal: line.wait_state }).await,
    }
}

/// A list in the columns of old.
fn show(session: &mut Session, list: &List, sections: Vec<Section>) -> Result<u8, Failure> {
    if list.quiet {
        session.out.format = Format::Id;
    }
    for section in sections {
        // Which list it is tells its first item; an empty one prints the heading of whatever it is.
        let columns = section.columns;
        let wanted = [SERVICES, CONTAINERS, STACKS, HOSTS, ENVIRONMENTS];
        let has = |titles: &&&[&str]| {
            let all = [columns.usual, columns.wide].concat();
            titles.iter().all(|title| all.contains(title))
        };
        let titles = wanted.iter().find(has).copied().unwrap_or(columns.usual);
        let shape = Shape {
            columns: titles.iter().map(|title| (*title).to_owned()).collect(),
            format: list.format.clone(),
            ..Shape::default()
        };
        session.out.sections(vec![section], &shape)?;
    }
    Ok(exit::DONE)
}

async fn environments(globals: &Globals, list: List) -> Result<u8, Failure> {
    let client = session::connect(&Globals { environment: None, ..globals.clone() }).await?;
    let projects = client.list_at(&format!("{}/projects", client.root()), &[]).await?;
    let items = projects.iter().map(|project| items::environment(project, now_ms())).collect();
    let mut out = session::out(globals);
    if list.quiet {
        out.format = Format::Id;
    }
    let columns = ENVIRONMENTS.iter().map(|title| (*title).to_owned()).collect();
    out.list(items::ENVIRONMENTS, items, &Shape { columns, format: list.format, ..Shape::default() })?;
    Ok(exit::DONE)
}

async fn volumes(session: &Session) -> Result<Vec<Section>, Failure> {
    let volumes = session.client.list("volumes", &[("removed_null", "true")]).await?;
    let items = volumes.iter().map(|row| {
        let cells = [row.id(), row.name(), row.state(), row.text("driver"), items::detail(row)];
        Item {
            id: row.id().to_owned(),
            kind: "volume".to_owned(),
            name: row.name().to_owned(),
            state: row.state().to_owned(),
            cells: cells.map(str::to_owned).to_vec(),
            resource: row.0.clone(),
            ..Item::default()
        }
    });
    Ok(vec![Section { columns: VOLUMES, items: items.collect() }])
}

fn service(args: RunArgs, no_wait: bool) -> exec::RunArgs {
    let env = args.env.into_iter().map(|pair| match pair.contains('=') {
        true => pair,
        false => format!("{pair}={}", environment(&pair).unwrap_or_default()),
    });
    exec::RunArgs {
        name: args.name,
        rm: false,
        publish: args.publish,
        volume: args.volume,
        env: env.collect(),
        label: args.label,
        host: None,
        global: args.schedule_global,
        scale: args.scale,
        no_wait,
        image: args.image,
        command: args.command,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn lines_of_2016_are_understood() {
        Line::command().debug_assert();
        for line in [
            "rancher --env 1a5 ps -a -q",
            "rancher ps -c --format {{.Container.Name}} 1s5",
            "rancher stacks ls -q",
            "rancher hosts --format json",
            "rancher env ls",
            "rancher volumes",
            "rancher run --name shop/web -p 80:80 -e A=1 -l x=y --scale 2 nginx -- -g daemon",
            "rancher -w --wait-state healthy --wait-timeout 30 up -d -u -s shop -f a.yml",
            "rancher scale shop/web",
            "rancher start --type service web",
            "rancher stop 1s5",
            "rancher restart --batch-size 2 --interval 500 web",
            "rancher rm -s web",
            "rancher logs -f --tail 5 -t web",
            "rancher exec -it web sh",
            "rancher export -f x.tar shop",
            "rancher inspect --links --format json 1s5",
            "rancher events",
            "rancher -c keys.json wait 1s5",
        ] {
            crate::legacy::understood::<Line>(line);
        }
    }
}
