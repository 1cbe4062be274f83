//! `exec` and `run`: a command in a container, with its terminal and its exit status.

use std::io::{IsTerminal, Read, Write};

use remuda_client::Resource;
use remuda_client::stream::{ExecInput, Output, Source};
use remuda_client::wait::Verdict;
use remuda_model::image;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::complete;
use crate::failure::{Failure, exit};
use crate::resolve::{self, Kind};
use crate::session::Session;

/// Run a command in a container.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda exec shop/web -- ls /\n  remuda exec -it shop/web#2 -- sh\n  echo hi | remuda exec -i web -- cat\n\nThe exit code is that of the command. See also: logs, run"
)]
pub struct Args {
    /// Container, or service (its first running container)
    #[arg(add = complete::containers())]
    pub container: String,
    /// Pass input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User to run as
    #[arg(short, long)]
    pub user: Option<String>,
    /// Directory to run in
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// Variables for the command, KEY=VALUE
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// Create a service from an image, or run one container to its end.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda run --name cache --publish 6379:6379 redis:7\n  remuda run --rm busybox:1 -- echo hello\n\nSee also: up, exec"
)]
pub struct RunArgs {
    /// Name of the service, STACK/SERVICE; the stack is `Default` without one
    #[arg(long)]
    pub name: Option<String>,
    /// Run one container attached, return its exit code, remove it
    #[arg(long)]
    pub rm: bool,
    /// Ports, as [[ip:]public:]private[/protocol]
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Volumes, as source:path[:ro]
    #[arg(short, long, value_name = "VOLUME")]
    pub volume: Vec<String>,
    /// Variables, KEY=VALUE
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Labels, KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Host it must run on
    #[arg(long, add = complete::hosts())]
    pub host: Option<String>,
    /// One container on every host
    #[arg(long, conflicts_with_all = ["rm", "scale", "host"])]
    pub global: bool,
    /// Containers of the service
    #[arg(long, default_value = "1", conflicts_with = "rm")]
    pub scale: i64,
    /// Return when the server has accepted it
    #[arg(long, conflicts_with = "rm")]
    pub no_wait: bool,
    /// Image
    pub image: String,
    /// Command and arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let container = session.resolve(&args.container, &[Kind::Container]).await?;
    let input = json!({
        "command": args.command, "attachStdin": args.interactive, "attachStdout": true, "tty": args.tty,
        "user": args.user, "workingDir": args.workdir, "env": args.env,
    });
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(
            Failure::new(exit::CLIENT_TROUBLE, "a terminal was asked for, but input is none").hint("leave -t out")
        );
    }
    let process = session.client.exec(&container, &input).await.map_err(|error| match error {
        remuda_client::Error::StreamRefused(why) => {
            Failure::new(exit::CLIENT_TROUBLE, format!("{} cannot be reached: {why}", container.title()))
        }
        other => other.into(),
    })?;
    let _raw = if args.tty { Some(Raw::enter()?) } else { None };
    let (input, mut output) = process.split();
    let printed = async {
        loop {
            match output.next().await? {
                Output::Data(Source::Stdout, bytes) => session.out.bytes(&bytes)?,
                Output::Data(Source::Stderr, bytes) => {
                    let mut err = std::io::stderr().lock();
                    drop(err.write_all(&bytes).and_then(|()| err.flush()));
                }
                Output::Ended(code) => return Ok::<_, Failure>(code),
            }
        }
    };
    let resized = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())?;
    let code = tokio::select! {
        biased;
        code = printed => code?,
        never = feed(input, args.interactive, args.tty, resized) => match never {},
    };
    match code {
        Some(code) => Ok(u8::try_from(code.rem_euclid(256)).unwrap_or(exit::FAILED)),
        None => {
            session.progress.note("warning: this server does not tell how the command ended");
            Ok(exit::DONE)
        }
    }
}

/// Passes on what is typed and the size of the terminal, until the process ends. What goes wrong here shows there.
async fn feed(
    mut input: ExecInput,
    is_interactive: bool,
    is_tty: bool,
    mut resized: tokio::signal::unix::Signal,
) -> std::convert::Infallible {
    let mut typed = if is_interactive { Some(keyboard()) } else { None };
    if is_tty {
        resize(&mut input).await;
    }
    loop {
        tokio::select! {
            biased;
            _ = resized.recv(), if is_tty => resize(&mut input).await,
            bytes = next_typed(&mut typed), if typed.is_some() => match bytes {
                Some(bytes) => {
                    if input.write(&bytes).await.is_err() {
                        typed = None;
                    }
                }
                None => {
                    typed = None;
                    drop(input.close().await);
                }
            },
            else => std::future::pending().await,
        }
    }
}

async fn next_typed(typed: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => None,
    }
}

async fn resize(input: &mut ExecInput) {
    if let Ok((columns, rows)) = crossterm::terminal::size() {
        drop(input.resize(rows, columns).await);
    }
}

/// Standard input, piece by piece. On a thread of its own, which does not keep the program from ending as a blocked
/// read of the runtime would.
fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 8192];
        let mut stdin = std::io::stdin().lock();
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The terminal in raw mode, given back when dropped.
struct Raw;

impl Raw {
    fn enter() -> Result<Raw, Failure> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        drop(crossterm::terminal::disable_raw_mode());
    }
}

fn pairs(items: &[String]) -> Result<Value, Failure> {
    let mut map = serde_json::Map::new();
    for item in items {
        let (key, value) = item.split_once('=').ok_or_else(|| Failure::usage(format!("`{item}` is not KEY=VALUE")))?;
        map.insert(key.to_owned(), value.into());
    }
    Ok(Value::Object(map))
}

pub async fn run_image(session: &Session, args: RunArgs) -> Result<u8, Failure> {
    let image = image::uuid_of(&args.image);
    let mut config = json!({
        "imageUuid": image, "ports": args.publish, "dataVolumes": args.volume, "environment": pairs(&args.env)?,
        "labels": pairs(&args.label)?,
    });
    if !args.command.is_empty() {
        config["command"] = json!(args.command);
    }
    if let Some(host) = &args.host {
        config["requestedHostId"] = resolve::one(&session.client, host, &[Kind::Host], None).await?.id().into();
    }
    if args.global {
        config["labels"]["io.rancher.scheduler.global"] = "true".into();
    }
    if args.rm {
        return run_once(session, config, args.name).await;
    }
    let name = args.name.unwrap_or_else(|| default_name(&args.image));
    let (stack, service) = name.split_once('/').unwrap_or(("Default", &name));
    let stack = match resolve::stack_named(&session.client, stack).await? {
        Some(stack) => stack,
        None => {
            let stack = session.client.create("environments", &json!({"name": stack})).await?;
            session.client.wait_settled(&stack, session.globals.timeout()).await?
        }
    };
    let body = json!({"name": service, "environmentId": stack.id(), "scale": args.scale, "launchConfig": config, "startOnCreate": true});
    let row = session.client.create("services", &body).await?;
    if args.no_wait {
        session.out.line(row.id())?;
        return Ok(exit::DONE);
    }
    let active = |row: &Resource| match (row.state(), row.has_failed()) {
        ("active", false) => Verdict::Done,
        (_, true) => Verdict::Failed(row.message().unwrap_or_default().to_owned()),
        _ => Verdict::NotYet,
    };
    let watch = |row: &Resource| {
        session.progress.say(row.name(), row.state(), row.message().filter(|_| row.is_transitioning()))
    };
    let row = session.client.wait(&row, session.globals.timeout(), active, watch).await?;
    session.progress.done(row.name(), "active", true);
    session.out.line(row.id())?;
    Ok(exit::DONE)
}

/// `redis:7` is `redis`.
fn default_name(image: &str) -> String {
    let image = image.trim_start_matches("docker:").trim_start_matches("sim:");
    let last = image.rsplit('/').next().unwrap_or(image);
    remuda_compose::names::stack_name(last.split([':', '@']).next().unwrap_or(last))
}

/// One container, attached: its output, its exit code, nothing left.
async fn run_once(session: &Session, mut config: Value, name: Option<String>) -> Result<u8, Failure> {
    config["name"] = name.map_or(Value::Null, Value::String);
    config["restartPolicy"] = json!({"name": "no"});
    let container = session.client.create("containers", &config).await?;
    let outcome = attached(session, &container).await;
    let removed = crate::apply::remove(session, container.name(), &session.client.reload(&container).await?).await;
    let code = outcome?;
    removed?;
    Ok(code)
}

async fn attached(session: &Session, container: &Resource) -> Result<u8, Failure> {
    // Started is enough: it may be over before we look.
    let started = |row: &Resource| match row.state() {
        "error" => Verdict::Failed(row.message().unwrap_or_default().to_owned()),
        "running" | "stopped" => Verdict::Done,
        _ => Verdict::NotYet,
    };
    let watch =
        |row: &Resource| session.progress.say(row.id(), row.state(), row.message().filter(|_| row.is_transitioning()));
    let container = session.client.wait(container, session.globals.timeout(), started, watch).await?;
    let mut log = session.client.logs(&container, &json!({"follow": true, "lines": 10_000})).await?;
    while let Some((source, piece)) = log.next().await? {
        for line in piece.lines() {
            let (_, text) = line.split_once(' ').filter(|(time, _)| time.ends_with('Z')).unwrap_or(("", line));
            match source {
                Source::Stdout => session.out.line(text)?,
                Source::Stderr => drop(writeln!(std::io::stderr().lock(), "{text}")),
            }
        }
    }
    let stopped = |row: &Resource| if row.state() == "stopped" { Verdict::Done } else { Verdict::NotYet };
    let container = session.client.wait(&container, session.globals.timeout(), stopped, |_| {}).await?;
    let code = container.int("exitCode").unwrap_or(0);
    Ok(u8::try_from(code.rem_euclid(256)).unwrap_or(exit::FAILED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_their_services() {
        for (image, name) in
            [("redis:7", "redis"), ("docker:acme/web_app@sha256:12", "web-app"), ("localhost:5000/x:1", "x")]
        {
            assert_eq!(default_name(image), name);
        }
    }
}
