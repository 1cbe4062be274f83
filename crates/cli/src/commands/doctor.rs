//! `doctor`, `version` and the client's side of `server status`: is everything as it should be, and if not, what next.

use std::collections::BTreeMap;

use remuda_client::{Client, Resource};
use serde_json::{Value, json};

use crate::config;
use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::items;
use crate::output::{Columns, Format, Item, Shape, age};
use crate::session::{self, environment, now_ms};

/// Check URL, keys, clock, database, hosts and versions.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda doctor\n  remuda --context lab doctor\n\nExit code 1 when something is wrong. See also: server status, version"
)]
pub struct Args {}

/// Print the versions of client, server and API.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda version\n  remuda version -o json")]
pub struct VersionArgs {}

/// Clocks further apart than this make certificates and tokens fail.
const SKEW_MS: i64 = 30_000;

const LOOPS: Columns = Columns { usual: &["NAME", "STATE", "LAST-PASS", "NEXT-TRY", "LAST-ERROR"], wide: &[] };

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Odd,
    Bad,
}

struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
    hint: Option<String>,
}

fn check(name: &'static str, verdict: Verdict, text: impl Into<String>) -> Check {
    Check { name, verdict, text: text.into(), hint: None }
}

impl Check {
    fn hint(mut self, hint: impl Into<String>) -> Check {
        self.hint = Some(hint.into());
        self
    }
}

pub async fn run(globals: &Globals, _args: Args) -> Result<u8, Failure> {
    let checks = checks(globals).await;
    let out = session::out(globals);
    if matches!(out.format, Format::Json | Format::Jsonl | Format::Yaml) {
        let shown: Vec<Value> = checks
            .iter()
            .map(|check| json!({"name": check.name, "verdict": check.verdict.word(), "text": check.text, "hint": check.hint}))
            .collect();
        out.object(&Value::Array(shown))?;
    } else {
        for check in &checks {
            out.line(&format!("{:<7} {:<9} {}", check.verdict.word(), check.name, check.text))?;
            if let Some(hint) = &check.hint {
                out.line(&format!("{:17} hint: {hint}", ""))?;
            }
        }
    }
    let is_bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if is_bad { exit::FAILED } else { exit::DONE })
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Odd => "warning",
            Verdict::Bad => "wrong",
        }
    }
}

async fn checks(globals: &Globals) -> Vec<Check> {
    let mut checks = vec![configuration(globals)];
    let client = match session::connect(globals).await {
        Ok(client) => client,
        Err(failure) => {
            let found = check("server", Verdict::Bad, failure.message);
            checks.push(Check { hint: failure.hint, ..found });
            return checks;
        }
    };
    checks.push(check("server", Verdict::Good, format!("{} is a Remuda/Rancher API", client.root())));
    checks.push(match client.access_key() {
        Some(key) => check("keys", Verdict::Good, format!("access key {key} is accepted")),
        None => check("keys", Verdict::Good, "none are used, and the server asks for none"),
    });
    checks.push(clock(&client).await);
    checks.push(version(&client).await);
    checks.extend(health(&client).await);
    checks.extend(environments(client).await);
    checks
}

fn configuration(globals: &Globals) -> Check {
    let path = config::path(&environment);
    let file = match path.as_deref().map(config::load).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(failure) => return check("context", Verdict::Bad, failure.message),
    };
    if let Some(path) = path.filter(|path| path.exists()) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).map(|found| found.permissions().mode() & 0o077).unwrap_or(0);
        if mode != 0 {
            return check("context", Verdict::Odd, format!("{} can be read by others", path.display()))
                .hint(format!("chmod 600 {}", path.display()));
        }
    }
    match config::choose(globals, &file, &environment) {
        Ok((Some(name), context)) => check("context", Verdict::Good, format!("{name}: {}", context.url)),
        Ok((None, context)) if context.url.is_empty() => {
            check("context", Verdict::Odd, "none is configured; the development server of this machine is tried")
                .hint("`remuda login URL` stores a server")
        }
        Ok((None, context)) => check("context", Verdict::Good, format!("{} by flag or variable", context.url)),
        Err(failure) => Check { hint: failure.hint, ..check("context", Verdict::Bad, failure.message) },
    }
}

async fn clock(client: &Client) -> Check {
    let before = now_ms();
    let date = match client.date().await {
        Ok(date) => date,
        Err(error) => return check("clock", Verdict::Bad, error.chain()),
    };
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
    let theirs = match theirs {
        Some(at) => at.timestamp().as_millisecond(),
        None => return check("clock", Verdict::Odd, "the server does not say what time it is"),
    };
    // The header counts whole seconds.
    let apart = (theirs - before).abs() - 1000;
    if apart > SKEW_MS {
        check("clock", Verdict::Bad, format!("this machine and the server are {} s apart", apart / 1000))
            .hint("start a time service on both, like chrony")
    } else {
        check("clock", Verdict::Good, "this machine and the server agree")
    }
}

async fn version(client: &Client) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match server_version(client).await {
        Some(theirs) if theirs == ours => check("version", Verdict::Good, format!("client and server are {ours}")),
        Some(theirs) => check("version", Verdict::Odd, format!("the client is {ours}, the server {theirs}"))
            .hint("use the client that came with the server"),
        None => check("version", Verdict::Odd, "the server does not tell its version; it may not be Remuda"),
    }
}

async fn server_version(client: &Client) -> Option<String> {
    let (status, text) = client.outside("/version").await.ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    value.get("version").and_then(Value::as_str).filter(|_| status == 200).map(str::to_owned)
}

/// The server's own checks, by name.
async fn server_checks(client: &Client) -> Result<BTreeMap<String, Value>, Failure> {
    let (status, text) = client.outside("/healthcheck").await?;
    match serde_json::from_str(&text) {
        Ok(checks) => Ok(checks),
        Err(_) => {
            let message = format!("/healthcheck was answered with {status}, and not as a Remuda server does");
            Err(Failure::new(exit::FAILED, message))
        }
    }
}

fn is_healthy(value: &Value) -> bool {
    value.get("healthy").and_then(Value::as_bool).unwrap_or(false)
}

async fn health(client: &Client) -> Vec<Check> {
    let found = match server_checks(client).await {
        Ok(found) => found,
        Err(failure) => return vec![check("health", Verdict::Odd, failure.message)],
    };
    let wrong: Vec<Check> = found
        .iter()
        .filter(|(_, value)| !is_healthy(value))
        .map(|(name, value)| {
            let why = value.get("message").and_then(Value::as_str).unwrap_or("no reason was given");
            check("health", Verdict::Bad, format!("{name}: {why}")).hint("`remuda server status` shows every loop")
        })
        .collect();
    if wrong.is_empty() {
        let names: Vec<&str> = found.keys().map(String::as_str).take(8).collect();
        let more = found.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return vec![check("health", Verdict::Good, format!("{}{more}", names.join(", ")))];
    }
    wrong
}

async fn environments(client: Client) -> Vec<Check> {
    let client = match session::enter_default(client).await {
        Ok(client) => client,
        Err(failure) => return vec![Check { hint: failure.hint, ..check("hosts", Verdict::Odd, failure.message) }],
    };
    let project = client.environment().unwrap_or_default().to_owned();
    let hosts = match client.list("hosts", &[("removed_null", "true")]).await {
        Ok(hosts) => hosts,
        Err(error) => return vec![check("hosts", Verdict::Bad, error.chain())],
    };
    if hosts.is_empty() {
        return vec![
            check("hosts", Verdict::Odd, format!("environment {project} has none"))
                .hint("`remuda agent --url URL --token TOKEN` on a machine with Docker adds it"),
        ];
    }
    let describe = |host: &Resource| {
        let why = host.message().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{} is {}{why}", items::host_name(host), items::state(host))
    };
    let away: Vec<String> = hosts.iter().filter(|host| items::state(host) != "active").map(describe).collect();
    if away.is_empty() {
        vec![check("hosts", Verdict::Good, format!("all {} of environment {project} are active", hosts.len()))]
    } else {
        vec![
            check("hosts", Verdict::Odd, format!("{} of {}: {}", away.len(), hosts.len(), away.join(", ")))
                .hint("look at the agent's log on that machine; `remuda host activate NAME` if it was deactivated"),
        ]
    }
}

/// Body of `version`.
pub async fn versions(globals: &Globals, _args: VersionArgs) -> Result<u8, Failure> {
    let out = session::out(globals);
    let client = session::connect(globals).await;
    let server = match &client {
        Ok(client) => server_version(client).await.unwrap_or_else(|| "unknown".to_owned()),
        Err(_) => "not reached".to_owned(),
    };
    let api = client.as_ref().map(|client| client.root().to_owned()).unwrap_or_default();
    if matches!(out.format, Format::Table | Format::Wide) {
        out.line(&format!("client  {}", env!("CARGO_PKG_VERSION")))?;
        out.line(&format!("server  {server}"))?;
        if !api.is_empty() {
            out.line(&format!("API     {api}"))?;
        }
    } else {
        out.object(&json!({"client": env!("CARGO_PKG_VERSION"), "server": server, "api": api}))?;
    }
    // Without a server the client's own version is still the answer.
    Ok(exit::DONE)
}

/// What `remuda server status` prints: every loop with its last pass, last error and next try.
pub async fn server_status(globals: &Globals) -> Result<u8, Failure> {
    let client = session::connect(globals).await?;
    let checks = server_checks(&client).await?;
    let now = now_ms();
    let time = |value: &Value, name: &str| value.get(name).and_then(Value::as_i64);
    let items: Vec<Item> = checks
        .iter()
        .map(|(name, value)| {
            let state = if is_healthy(value) { "well" } else { "failing" };
            let last = time(value, "lastPassTS").map(|at| format!("{} ago", age(at, now))).unwrap_or_default();
            let next = time(value, "nextTryTS").map(|at| format!("in {}", age(now, at))).unwrap_or_default();
            let error = value.get("message").and_then(Value::as_str).unwrap_or_default();
            Item {
                id: name.clone(),
                kind: "check".to_owned(),
                name: name.clone(),
                state: state.to_owned(),
                detail: error.to_owned(),
                cells: [name.as_str(), state, &last, &next, error].map(str::to_owned).to_vec(),
                resource: value.clone(),
                ..Item::default()
            }
        })
        .collect();
    session::out(globals).list(LOOPS, items, &Shape::default())?;
    Ok(if checks.values().all(is_healthy) { exit::DONE } else { exit::FAILED })
}
