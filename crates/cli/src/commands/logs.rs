//! `logs`: the output of containers, several at once.

use std::io::Write;
use std::time::Duration;

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::stream::Source;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::duration;
use crate::output::Format;
use crate::resolve::{self, Kind};
use crate::session::{Session, now_ms};

/// Print or follow logs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda logs web\n  remuda logs -f --tail 20 shop/web#1\n  remuda logs --since 10m shop\n\nSee also: ps, events"
)]
pub struct Args {
    /// Services, stacks or containers
    #[arg(required = true, value_name = "NAME", add = complete::running())]
    names: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Lines of the past to begin with
    #[arg(short = 'n', long, visible_alias = "lines", default_value = "100")]
    tail: i64,
    /// Nothing older than this, like 10m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Leave the name of the container out
    #[arg(long)]
    no_prefix: bool,
    /// Like --color never
    #[arg(long, hide = true)]
    no_color: bool,
}

/// How lines are printed.
#[derive(Clone)]
struct Form {
    /// Name in front, padded to this width.
    width: usize,
    prefix: bool,
    timestamps: bool,
    jsonl: bool,
    colour: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let mut containers = Vec::new();
    for name in &args.names {
        let kinds = [Kind::Service, Kind::Stack, Kind::Container];
        let resource = session.resolve(name, &kinds).await?;
        containers.extend(containers_of(session, resource).await?);
    }
    containers.retain(|container| container.action("logs").is_some());
    if containers.is_empty() {
        return Err(Failure::new(exit::STATE, "none of these has a container with a log yet"));
    }
    let since = args.since.map(|since| jiff::Timestamp::from_millisecond(now_ms() - since.as_millis() as i64));
    let since = since.and_then(Result::ok).map(|at| at.as_second());
    let input = json!({"follow": args.follow, "lines": args.tail, "since": since});
    let form = Form {
        width: width(&containers),
        prefix: !args.no_prefix && containers.len() > 1,
        timestamps: args.timestamps,
        jsonl: session.out.format == Format::Jsonl,
        colour: !args.no_color && session.globals.colour().on_stdout(),
    };
    print_all(session, &containers, &input, &form).await
}

/// Follows the containers of services until interrupted.
pub async fn follow_services(session: &Session, services: &[Resource]) -> Result<u8, Failure> {
    let mut containers = Vec::new();
    for service in services {
        containers.extend(resolve::containers_of(&session.client, service).await?);
    }
    containers.retain(|container| container.action("logs").is_some());
    let form = Form {
        width: width(&containers),
        prefix: true,
        timestamps: false,
        jsonl: false,
        colour: session.globals.colour().on_stdout(),
    };
    print_all(session, &containers, &json!({"follow": true, "lines": 100}), &form).await
}

async fn containers_of(session: &Session, resource: Resource) -> Result<Vec<Resource>, Failure> {
    Ok(match resource.kind() {
        "container" => vec![resource],
        "environment" => {
            let mut containers = Vec::new();
            for service in
                session.client.list("services", &[("environmentId", resource.id()), ("removed_null", "true")]).await?
            {
                containers.extend(resolve::containers_of(&session.client, &service).await?);
            }
            containers
        }
        _ => resolve::containers_of(&session.client, &resource).await?,
    })
}

fn width(containers: &[Resource]) -> usize {
    containers.iter().map(|container| container.name().chars().count()).max().unwrap_or(0)
}

async fn print_all(session: &Session, containers: &[Resource], input: &Value, form: &Form) -> Result<u8, Failure> {
    let all =
        join_all(containers.iter().enumerate().map(|(idx, container)| print(session, container, idx, input, form)));
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Ok(exit::INTERRUPTED)
        }
        outcomes = all => {
            for outcome in outcomes {
                outcome?;
            }
            Ok(exit::DONE)
        }
    }
}

async fn print(session: &Session, container: &Resource, idx: usize, input: &Value, form: &Form) -> Result<(), Failure> {
    let mut log = session.client.logs(container, input).await?;
    while let Some((source, piece)) = log.next().await? {
        for line in piece.lines() {
            // Each line begins with its time.
            let (time, text) = line.split_once(' ').filter(|(time, _)| time.ends_with('Z')).unwrap_or(("", line));
            let line = if form.jsonl {
                let stream = if source == Source::Stderr { "stderr" } else { "stdout" };
                json!({"container": container.name(), "id": container.id(), "time": time, "stream": stream, "line": text}).to_string()
            } else {
                let time = if form.timestamps && !time.is_empty() { format!("{time} ") } else { String::new() };
                let name = if form.prefix { prefix(container.name(), idx, form) } else { String::new() };
                format!("{name}{time}{text}")
            };
            if source == Source::Stderr && !form.jsonl {
                // Nobody is left to read it when stderr is closed.
                drop(writeln!(std::io::stderr().lock(), "{line}"));
            } else {
                session.out.line(&line)?;
            }
        }
    }
    Ok(())
}

/// `name | `, each container in a colour of its own.
fn prefix(name: &str, idx: usize, form: &Form) -> String {
    let plain = format!("{name:width$} | ", width = form.width);
    if form.colour { format!("\u{1b}[{}m{plain}\u{1b}[0m", 31 + idx % 6) } else { plain }
}
