//! Live completion: names of what is on the server, asked for while somebody types (`cli.md` §7).
//!
//! The shell's stub calls the binary back with `REMUDA_COMPLETE` set, before anything else runs. What is asked must
//! come soon or not at all, asks nobody anything, and says nothing of errors: without a server there are only the
//! words of the command line itself. Answers are kept for a few seconds, because people press Tab in bursts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use remuda_client::Client;
use serde::{Deserialize, Serialize};

use crate::globals::Globals;
use crate::items;
use crate::resolve::Kind;
use crate::session::{self, environment, now_ms};
use crate::{config, project};

/// Variable that makes the binary answer a shell instead of running a command.
pub const VARIABLE: &str = "REMUDA_COMPLETE";
/// Somebody waits with a finger on the key.
const BUDGET: Duration = Duration::from_millis(300);
const KEPT_MS: i64 = 5_000;

/// Everything that commands take by name.
pub fn things() -> ArgValueCompleter {
    of(Kind::ALL)
}

/// Services, stacks and containers.
pub fn running() -> ArgValueCompleter {
    of(&[Kind::Service, Kind::Stack, Kind::Container])
}

/// Containers, and services for their first one.
pub fn containers() -> ArgValueCompleter {
    of(&[Kind::Service, Kind::Container])
}

pub fn services() -> ArgValueCompleter {
    of(&[Kind::Service])
}

pub fn stacks() -> ArgValueCompleter {
    of(&[Kind::Stack])
}

pub fn hosts() -> ArgValueCompleter {
    of(&[Kind::Host])
}

/// `SERVICE=`.
pub fn scales() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = names(&[Kind::Service]).into_iter().map(|name| name + "=");
        matching(current, names)
    })
}

/// Services of the compose file.
pub fn project_services() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let compiled = project::quiet(&typed_globals());
        let names = compiled.into_iter().flat_map(|project| project.compiled.services);
        matching(current, names.map(|service| service.name))
    })
}

pub fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let file = config::path(&environment).and_then(|path| config::load(&path).ok()).unwrap_or_default();
        matching(current, file.contexts.into_keys())
    })
}

/// Environments of the server.
pub fn environments() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let globals = Globals { environment: None, ..typed_globals() };
        let asked = within_budget(async {
            let client = session::connect(&globals).await.ok()?;
            let projects = client.list_at(&format!("{}/projects", client.root()), &[]).await.ok()?;
            Some(projects.iter().map(|project| project.name().to_owned()).collect::<Vec<_>>())
        });
        matching(current, asked.flatten().unwrap_or_default())
    })
}

fn of(kinds: &'static [Kind]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| matching(current, names(kinds)))
}

fn matching(current: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let start = current.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*start)).map(CompletionCandidate::new).collect()
}

fn within_budget<T>(asked: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(BUDGET, asked).await.ok() });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    answer
}

/// Names of those kinds, as commands take them.
fn names(kinds: &[Kind]) -> Vec<String> {
    let globals = typed_globals();
    let mut names = Vec::new();
    let mut missing = Vec::new();
    for kind in kinds {
        match Kept::read(&globals, *kind) {
            Some(kept) => names.extend(kept),
            None => missing.push(*kind),
        }
    }
    if !missing.is_empty() {
        let asked = within_budget(async {
            let client = session::entered(&globals).await.ok()?;
            let all = missing.iter().map(|kind| named(&client, *kind));
            Some(futures_util::future::join_all(all).await)
        });
        for (kind, found) in missing.into_iter().zip(asked.flatten().unwrap_or_default()) {
            let Some(found) = found else { continue };
            Kept::write(&globals, kind, &found);
            names.extend(found);
        }
    }
    // Services of the project at hand go by their bare names too.
    if kinds.contains(&Kind::Service)
        && let Some(stack) = globals.stack.clone().or_else(|| project::quiet(&globals).map(|project| project.stack))
    {
        let start = format!("{stack}/");
        let own: Vec<String> = names.iter().filter_map(|name| name.strip_prefix(&start)).map(str::to_owned).collect();
        names.extend(own);
    }
    names.sort();
    names
}

async fn named(client: &Client, kind: Kind) -> Option<Vec<String>> {
    let live = [("removed_null", "true")];
    let rows = client.list(kind.collection(), &live);
    if kind == Kind::Service {
        let (rows, stacks) = futures_util::future::join(rows, client.list("environments", &live)).await;
        let stacks: BTreeMap<String, String> =
            stacks.ok()?.iter().map(|stack| (stack.id().to_owned(), stack.name().to_owned())).collect();
        let path = |service: &remuda_client::Resource| {
            Some(format!("{}/{}", stacks.get(service.text("environmentId"))?, service.name()))
        };
        return Some(rows.ok()?.iter().filter_map(path).collect());
    }
    let name = |row: &remuda_client::Resource| match kind {
        Kind::Host => items::host_name(row).to_owned(),
        _ => row.name().to_owned(),
    };
    Some(rows.await.ok()?.iter().map(name).filter(|name| !name.is_empty()).collect())
}

/// The global flags on the line so far. It is not whole yet, so nothing that parses whole lines can read it.
fn typed_globals() -> Globals {
    globals_of(&std::env::args().skip_while(|word| word != "--").collect::<Vec<_>>())
}

fn globals_of(words: &[String]) -> Globals {
    let values = |flags: &[&str]| -> Vec<String> {
        let mut values = Vec::new();
        for (idx, word) in words.iter().enumerate() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if flags.contains(&flag) {
                values.extend(inline.or_else(|| words.get(idx + 1).cloned()));
            }
        }
        values
    };
    let value = |flags: &[&str]| values(flags).pop();
    Globals {
        context: value(&["--context"]).or_else(|| environment("REMUDA_CONTEXT").filter(|name| !name.is_empty())),
        url: value(&["--url"]),
        access_key: value(&["--access-key"]),
        secret_key: value(&["--secret-key"]),
        environment: value(&["--env", "--environment"]),
        stack: value(&["-s", "-p", "--stack", "--project-name"]),
        file: values(&["-f", "--file"]).into_iter().map(PathBuf::from).collect(),
        ..Globals::default()
    }
}

/// What was found a moment ago.
#[derive(Serialize, Deserialize)]
struct Kept {
    at_ms: i64,
    names: Vec<String>,
}

impl Kept {
    /// One file per server, environment and kind; what it is called tells nothing.
    fn path(globals: &Globals, kind: Kind) -> Option<PathBuf> {
        let base = environment("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(environment("HOME")?).join(".cache")))?;
        let file = config::path(&environment).and_then(|path| config::load(&path).ok()).unwrap_or_default();
        let (_, context) = config::choose(globals, &file, &environment).ok()?;
        let whose = format!("{}\n{:?}\n{:?}", context.url, context.environment, context.access_key);
        let whose = remuda_compose::hash::hex(whose.as_bytes());
        Some(base.join("remuda").join(format!("{}-{}.json", kind.word(), &whose[..16])))
    }

    fn read(globals: &Globals, kind: Kind) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(Kept::path(globals, kind)?).ok()?;
        let kept: Kept = serde_json::from_str(&text).ok()?;
        (0..KEPT_MS).contains(&(now_ms() - kept.at_ms)).then_some(kept.names)
    }

    fn write(globals: &Globals, kind: Kind, names: &[String]) {
        let write = || -> Option<()> {
            let path = Kept::path(globals, kind)?;
            std::fs::create_dir_all(path.parent()?).ok()?;
            let text = serde_json::to_string(&Kept { at_ms: now_ms(), names: names.to_vec() }).ok()?;
            let draft = path.with_extension(std::process::id().to_string());
            std::fs::write(&draft, text).ok()?;
            std::fs::rename(draft, path).ok()
        };
        // It is only faster with it.
        let _ = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_off_an_unfinished_line() {
        let words = ["--", "remuda", "--context=lab", "-f", "a.yml", "-s", "shop", "logs", "--env", "Test", "we"];
        let globals = globals_of(&words.map(str::to_owned));
        assert_eq!(globals.context.as_deref(), Some("lab"));
        assert_eq!(globals.stack.as_deref(), Some("shop"));
        assert_eq!(globals.environment.as_deref(), Some("Test"));
        assert_eq!(globals.file, [PathBuf::from("a.yml")]);
        assert_eq!(globals.url, None);
    }
}
