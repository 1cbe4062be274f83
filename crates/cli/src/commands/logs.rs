//! `logs`: the output of containers, several at once; containers that come while it is followed join in.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use remuda_client::Resource;
use remuda_client::events::Ear;
use remuda_client::stream::Source;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::{Moment, moment};
use crate::output::Format;
use crate::resolve::{self, Kind};
use crate::session::{Session, now_ms};

/// Print or follow logs.
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda logs                  # of the project here\n  remuda logs web\n  remuda logs -f --tail 20 shop/web#1\n  remuda logs --since 10m shop\n\nSee also: ps, events"
)]
pub struct Args {
    /// Services, stacks or containers; the stack of the compose file when none is named
    #[arg(value_name = "NAME", add = complete::running())]
    pub names: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Lines of the past to begin with
    #[arg(short = 'n', long, visible_alias = "lines", default_value = "100")]
    pub tail: i64,
    /// Nothing older than this, like 10m or 2026-05-01T12:00:00Z
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Nothing younger than this, like 5m or 2026-05-01T12:00:00Z
    #[arg(long, value_parser = moment, value_name = "TIME", conflicts_with = "follow")]
    pub until: Option<Moment>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Leave the name of the container out
    #[arg(long)]
    pub no_prefix: bool,
    /// Like --color never
    #[arg(long, hide = true)]
    pub no_color: bool,
}

/// How lines are printed.
struct Form {
    /// Names are padded to this width; it grows with whoever joins.
    width: Cell<usize>,
    prefix: bool,
    /// Names without their stack.
    short: bool,
    timestamps: bool,
    jsonl: bool,
    colour: bool,
    since: Option<i64>,
    until: Option<jiff::Timestamp>,
}

/// New containers are looked for at least this often while following.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// All there is of a container that joined.
const EVERYTHING: i64 = 10_000;

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let mut things = Vec::new();
    for name in &args.names {
        things.push(session.resolve(name, &[Kind::Service, Kind::Stack, Kind::Container]).await?);
    }
    if args.names.is_empty() {
        things.push(session.resolve(".", &[Kind::Stack]).await?);
    }
    let now = now_ms();
    let several = things.len() > 1 || things.iter().any(|thing| thing.kind() != "container");
    let form = Form {
        prefix: !args.no_prefix && several,
        timestamps: args.timestamps,
        jsonl: session.out.format == Format::Jsonl,
        colour: !args.no_color && session.globals.colour().on_stdout(),
        since: args.since.map(|since| since.at(now).as_second()),
        until: args.until.map(|until| until.at(now)),
        ..Form::plain(session)
    };
    Reader { session, things, form, seen: RefCell::default() }.read(args.tail, args.follow).await
}

/// Follows the services of a stack until interrupted.
pub async fn follow_stack(session: &Session, stack: &str, services: &[Resource]) -> Result<u8, Failure> {
    let form = Form::plain(session);
    let reader = Reader { session, things: services.to_vec(), form, seen: RefCell::default() };
    let code = reader.read(100, true).await?;
    session.progress.note(&format!("the services of {stack} keep running; `remuda logs -f` follows again"));
    Ok(code)
}

/// The logs of services as rancher-compose prints them: names without their stack, lines with their time.
pub async fn of_services(session: &Session, services: Vec<Resource>, lines: i64, follow: bool) -> Result<u8, Failure> {
    let form = Form { timestamps: true, short: true, ..Form::plain(session) };
    Reader { session, things: services, form, seen: RefCell::default() }.read(lines, follow).await
}

struct Reader<'a> {
    session: &'a Session,
    things: Vec<Resource>,
    form: Form,
    /// Time of the last line of each container, so that none is printed twice.
    seen: RefCell<BTreeMap<String, String>>,
}

impl Reader<'_> {
    async fn read(&self, tail: i64, follow: bool) -> Result<u8, Failure> {
        let mut ear = None;
        if follow {
            ear = self.session.client.feed().listen(&self.session.client).await.ok();
        }
        // Those that are being read, with the number of their start: a restart begins another log.
        let mut open: BTreeSet<(String, Option<i64>)> = BTreeSet::new();
        let mut reading = FuturesUnordered::new();
        let mut n_joined = 0;
        let mut lines = tail;
        let mut looks = true;
        let joins = follow && self.things.iter().any(|thing| thing.kind() != "container");
        loop {
            if std::mem::take(&mut looks) {
                let mut containers = self.containers().await?;
                containers.retain(|container| {
                    container.action("logs").is_some()
                        && open.insert((container.id().to_owned(), container.int("startCount")))
                });
                if self.form.prefix {
                    let widths = containers.iter().map(|container| self.form.name(container).chars().count());
                    self.form.width.set(widths.chain([self.form.width.get()]).max().unwrap_or(0));
                }
                for container in containers {
                    reading.push(self.print(container, n_joined, lines, follow));
                    n_joined += 1;
                }
                if open.is_empty() && !joins {
                    return Err(Failure::new(exit::STATE, "none of these has a container with a log yet"));
                }
                lines = EVERYTHING;
            }
            if reading.is_empty() && !joins {
                return Ok(exit::DONE);
            }
            tokio::select! {
                biased;
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    return Ok(exit::INTERRUPTED);
                }
                Some(outcome) = reading.next(), if !reading.is_empty() => match outcome {
                    // One that goes away takes nothing from the others.
                    Err(failure) if joins => self.session.progress.note(&failure.message),
                    outcome => outcome?,
                },
                () = change(self.session, &mut ear), if joins => looks = true,
            }
        }
    }

    /// The containers there are now.
    async fn containers(&self) -> Result<Vec<Resource>, Failure> {
        let all = join_all(self.things.iter().map(|thing| containers_of(self.session, thing))).await;
        Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    async fn print(&self, container: Resource, idx: usize, lines: i64, follow: bool) -> Result<(), Failure> {
        let form = &self.form;
        let input = json!({"follow": follow, "lines": lines, "since": form.since});
        let mut log = self.session.client.logs(&container, &input).await?;
        let before = self.seen.borrow().get(container.id()).cloned().unwrap_or_default();
        while let Some((source, piece)) = log.next().await? {
            for line in piece.lines() {
                // Each line begins with its time.
                let (time, text) = line.split_once(' ').filter(|(time, _)| time.ends_with('Z')).unwrap_or(("", line));
                let is_late = form.until.is_some_and(|until| time.parse().is_ok_and(|at: jiff::Timestamp| at > until));
                if is_late {
                    return Ok(());
                }
                if !time.is_empty() {
                    if time <= before.as_str() {
                        continue;
                    }
                    self.seen.borrow_mut().insert(container.id().to_owned(), time.to_owned());
                }
                let is_error = source == Source::Stderr;
                let line = form.line(&container, idx, time, text, is_error);
                if is_error && !form.jsonl {
                    // Nobody is left to read it when stderr is closed.
                    drop(writeln!(std::io::stderr().lock(), "{line}"));
                } else {
                    self.session.out.line(&line)?;
                }
            }
        }
        Ok(())
    }
}

/// Returns when there may be other containers than before.
async fn change(session: &Session, ear: &mut Option<Ear>) {
    let Some(open) = ear else {
        tokio::time::sleep(LOOK_AGAIN).await;
        *ear = session.client.feed().listen(&session.client).await.ok();
        return;
    };
    let heard = tokio::time::timeout(LOOK_AGAIN, async {
        loop {
            match session.client.feed().next(open).await {
                Ok(change) if matches!(change.kind.as_str(), "container" | "instance") => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    });
    if !heard.await.unwrap_or(true) {
        *ear = None;
    }
}

async fn containers_of(session: &Session, thing: &Resource) -> Result<Vec<Resource>, Failure> {
    match thing.kind() {
        "container" => Ok(vec![thing.clone()]),
        "environment" => {
            let filters = [("environmentId", thing.id()), ("removed_null", "true")];
            let services = session.client.list("services", &filters).await?;
            let all = join_all(services.iter().map(|service| resolve::containers_of(&session.client, service))).await;
            Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        _ => resolve::containers_of(&session.client, thing).await,
    }
}

impl Form {
    fn plain(session: &Session) -> Form {
        Form {
            width: Cell::new(0),
            prefix: true,
            short: false,
            timestamps: false,
            jsonl: false,
            colour: session.globals.colour().on_stdout(),
            since: None,
            until: None,
        }
    }

    /// What a container is called in front of its lines.
    fn name<'a>(&self, container: &'a Resource) -> &'a str {
        let name = container.name();
        let stack = container.get("labels").get("io.rancher.stack.name").and_then(Value::as_str).unwrap_or_default();
        let short = name.strip_prefix(stack).and_then(|rest| rest.strip_prefix(['_', '-']));
        if self.short { short.unwrap_or(name) } else { name }
    }

    fn line(&self, container: &Resource, idx: usize, time: &str, text: &str, is_error: bool) -> String {
        if self.jsonl {
            let stream = if is_error { "stderr" } else { "stdout" };
            return json!({
                "container": container.name(), "id": container.id(), "time": time, "stream": stream, "line": text,
            })
            .to_string();
        }
        let time = if self.timestamps && !time.is_empty() { format!("{time} ") } else { String::new() };
        let name = if self.prefix { self.prefix(self.name(container), idx) } else { String::new() };
        format!("{name}{time}{text}")
    }

    /// `name | `, each container in a colour of its own.
    fn prefix(&self, name: &str, idx: usize) -> String {
        let plain = format!("{name:width$} | ", width = self.width.get());
        if self.colour { format!("\u{1b}[{}m{plain}\u{1b}[0m", 31 + idx % 6) } else { plain }
    }
}
