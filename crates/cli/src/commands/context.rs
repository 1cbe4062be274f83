//! `login`, `logout` and `context`: which servers we know, with which keys.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use remuda_client::{Client, Config};

use crate::complete;
use crate::config::{self, Context, File};
use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::output::{Columns, Item, Shape};
use crate::session::{self, environment};

/// Store the address and keys of a server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda login https://remuda.example.com\n  echo $SECRET | remuda login https://remuda.example.com --access-key A1B2 --secret-key-stdin\n  remuda login http://127.0.0.1:8080 --name lab\n\nThe keys are tried before they are stored. Contexts are in ~/.config/remuda/config.toml, readable by you only.\nSee also: context, logout, doctor"
)]
pub struct LoginArgs {
    /// Address of the server
    server: String,
    /// Name of the context [default: the server's host name]
    #[arg(long)]
    name: Option<String>,
    /// Read the secret key from stdin
    #[arg(long)]
    secret_key_stdin: bool,
    /// PEM file of an authority to trust
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Forget the keys of a context.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda logout\n  remuda logout lab\n\nSee also: login, context rm")]
pub struct LogoutArgs {
    /// Context; the current one when none is named
    name: Option<String>,
}

/// Choose between servers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda context\n  remuda context use lab\n  remuda context env staging\n  remuda context rm old\n\nSee also: login, env"
)]
pub struct ContextArgs {
    #[command(subcommand)]
    command: Option<ContextCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum ContextCommand {
    /// List contexts (also without a subcommand)
    Ls,
    /// Make a context the current one
    Use {
        #[arg(add = complete::contexts())]
        name: String,
    },
    /// Show a context, secrets masked; the current one when none is named
    Show {
        #[arg(add = complete::contexts())]
        name: Option<String>,
    },
    /// Forget a context
    Rm {
        #[arg(add = complete::contexts())]
        name: String,
    },
    /// Choose the environment of the current context
    Env {
        /// Environment, by name or id
        #[arg(add = complete::environments())]
        name: String,
    },
}

const CONTEXTS: Columns = Columns { usual: &["CURRENT", "NAME", "URL", "ENVIRONMENT", "ACCESS-KEY"], wide: &[] };

fn file() -> Result<(PathBuf, File), Failure> {
    let path = config::path(&environment).ok_or_else(|| {
        Failure::usage("there is no home directory to keep contexts in").hint("set HOME or XDG_CONFIG_HOME")
    })?;
    let file = config::load(&path)?;
    Ok((path, file))
}

fn unknown(name: &str, file: &File) -> Failure {
    let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(exit::NOT_FOUND, format!("no context `{name}`; there are: {known}"))
        .hint("`remuda login URL --name NAME` makes one")
}

pub async fn login(globals: &Globals, args: LoginArgs) -> Result<u8, Failure> {
    let (path, mut file) = file()?;
    let given = |flag: &Option<String>, name: &str| {
        flag.clone().or_else(|| environment(name)).filter(|value| !value.is_empty())
    };
    let mut access_key = given(&globals.access_key, "REMUDA_ACCESS_KEY");
    let mut secret_key = match args.secret_key_stdin {
        true => {
            let mut secret = String::new();
            std::io::stdin().lock().read_to_string(&mut secret)?;
            Some(secret.trim().to_owned())
        }
        false => given(&globals.secret_key, "REMUDA_SECRET_KEY"),
    };
    let ca = match &args.ca_file {
        Some(path) => Some(
            std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?,
        ),
        None => None,
    };
    let connect = async |access_key: &Option<String>, secret_key: &Option<String>| {
        Client::connect(Config {
            url: args.server.clone(),
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
            ca: ca.clone(),
            trace: globals.debug.then_some(session::trace as fn(&str)),
            ..Config::default()
        })
        .await
    };
    // A development server needs no keys: ask for some only when they are wanted.
    let mut client = connect(&access_key, &secret_key).await;
    if access_key.is_none() && matches!(client, Err(remuda_client::Error::Rejected { .. })) {
        access_key = Some(ask(globals, "Access key", false)?);
        if secret_key.is_none() {
            secret_key = Some(ask(globals, "Secret key", true)?);
        }
        client = connect(&access_key, &secret_key).await;
    }
    let mut client = client?;
    let project = match &globals.environment {
        Some(name) => {
            client.enter(name).await?;
            client.environment().map(str::to_owned)
        }
        None => client.environment().map(str::to_owned),
    };
    let projects = client.list_at(&format!("{}/projects", client.root()), &[]).await?;
    let name = args.name.unwrap_or_else(|| host_of(&args.server));
    let url = client.root().strip_suffix("/v1").unwrap_or(client.root()).to_owned();
    let context = Context {
        url: url.clone(),
        access_key,
        secret_key,
        environment: project.clone(),
        ca_file: args.ca_file.map(std::path::absolute).transpose()?,
        ..Context::default()
    };
    file.contexts.insert(name.clone(), context);
    file.current = Some(name.clone());
    config::save(&path, &file)?;
    let out = session::out(globals);
    out.line(&format!("context {name} is {url} now"))?;
    for found in &projects {
        let chosen = if project.as_deref() == Some(found.id()) { "  (chosen)" } else { "" };
        out.line(&format!("environment {} ({}){chosen}", found.name(), found.id()))?;
    }
    if projects.len() > 1 && project.is_none() {
        eprintln!("hint: `remuda context env NAME` chooses one for good");
    }
    Ok(exit::DONE)
}

/// `https://h.example.com:8080/x` is `h.example.com`.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or(rest);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    };
    host.to_owned()
}

fn ask(globals: &Globals, question: &str, is_secret: bool) -> Result<String, Failure> {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if globals.no_input || !terminal {
        return Err(Failure::new(exit::NO_SERVER, "the server wants keys, and there is nobody to ask")
            .hint("`--access-key KEY --secret-key-stdin` gives them"));
    }
    eprint!("{question}: ");
    std::io::stderr().flush()?;
    let answer =
        if is_secret { read_hidden()? } else { std::io::stdin().lines().next().transpose()?.unwrap_or_default() };
    let answer = answer.trim().to_owned();
    if answer.is_empty() {
        Err(Failure::usage(format!("no {} was given", question.to_lowercase())))
    } else {
        Ok(answer)
    }
}

/// A line of input that is not shown.
fn read_hidden() -> Result<String, Failure> {
    use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
    struct Raw;
    impl Drop for Raw {
        fn drop(&mut self) {
            drop(crossterm::terminal::disable_raw_mode());
            eprintln!();
        }
    }
    crossterm::terminal::enable_raw_mode()?;
    let _raw = Raw;
    let mut secret = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(secret),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(Failure::new(exit::INTERRUPTED, "interrupted"));
            }
            KeyCode::Backspace => drop(secret.pop()),
            KeyCode::Char(letter) => secret.push(letter),
            _ => {}
        }
    }
}

pub fn logout(globals: &Globals, args: LogoutArgs) -> Result<u8, Failure> {
    let (path, mut file) = file()?;
    let name = args.name.or_else(|| globals.context.clone()).or_else(|| file.current.clone());
    let name = name.ok_or_else(|| {
        Failure::new(exit::NOT_FOUND, "no context is the current one").hint("`remuda context ls` lists them")
    })?;
    let Some(context) = file.contexts.get_mut(&name) else { return Err(unknown(&name, &file)) };
    context.access_key = None;
    context.secret_key = None;
    context.secret_command = None;
    config::save(&path, &file)?;
    session::out(globals).line(&format!("the keys of context {name} are forgotten; they stay valid at the server"))?;
    Ok(exit::DONE)
}

pub async fn context(globals: &Globals, args: ContextArgs) -> Result<u8, Failure> {
    let (path, mut file) = file()?;
    let out = session::out(globals);
    match args.command.unwrap_or(ContextCommand::Ls) {
        ContextCommand::Ls => list(globals, &file)?,
        ContextCommand::Use { name } => {
            if !file.contexts.contains_key(&name) {
                return Err(unknown(&name, &file));
            }
            file.current = Some(name.clone());
            config::save(&path, &file)?;
            out.line(&format!("context {name} is the current one now"))?;
        }
        ContextCommand::Show { name } => {
            let (chosen, context) = match name {
                Some(name) => {
                    let globals = Globals { context: Some(name), ..globals.clone() };
                    config::choose(&globals, &file, &environment)?
                }
                None => config::choose(globals, &file, &environment)?,
            };
            if context.url.is_empty() {
                return Err(Failure::new(exit::NO_SERVER, "no server configured").hint("`remuda login URL` stores one"));
            }
            out.object(&shown(chosen.as_deref(), &context))?;
        }
        ContextCommand::Rm { name } => {
            if file.contexts.remove(&name).is_none() {
                return Err(unknown(&name, &file));
            }
            if file.current.as_ref() == Some(&name) {
                file.current = None;
            }
            config::save(&path, &file)?;
            out.line(&format!("context {name} is forgotten"))?;
        }
        ContextCommand::Env { name } => {
            let current = globals.context.clone().or_else(|| file.current.clone());
            let current = current.ok_or_else(|| {
                Failure::new(exit::NOT_FOUND, "no context is the current one")
                    .hint("`remuda context use NAME` makes one so")
            })?;
            let chosen = Globals { context: Some(current.clone()), environment: Some(name), ..globals.clone() };
            let client = session::connect(&chosen).await?;
            let Some(context) = file.contexts.get_mut(&current) else { return Err(unknown(&current, &file)) };
            context.environment = client.environment().map(str::to_owned);
            config::save(&path, &file)?;
            out.line(&format!("context {current} works in {} now", client.environment().unwrap_or_default()))?;
        }
    }
    Ok(exit::DONE)
}

fn list(globals: &Globals, file: &File) -> Result<(), Failure> {
    let current = config::choose(globals, file, &environment).ok().and_then(|(name, _)| name);
    let item = |name: &str, context: &Context| {
        let mark = if current.as_deref() == Some(name) { "*" } else { "" };
        let project = context.environment.clone().unwrap_or_default();
        let key = context.access_key.clone().unwrap_or_default();
        Item {
            id: name.to_owned(),
            kind: "context".to_owned(),
            name: name.to_owned(),
            cells: vec![mark.to_owned(), name.to_owned(), context.url.clone(), project, key],
            resource: shown(Some(name), context),
            ..Item::default()
        }
    };
    let mut items: Vec<Item> = file.contexts.iter().map(|(name, context)| item(name, context)).collect();
    if let Some(old) = config::rancher(None, &environment).filter(|_| !file.contexts.contains_key("rancher")) {
        items.push(item("rancher", &old));
    }
    session::out(globals).list(CONTEXTS, items, &Shape::default())
}

/// A context without its secret.
fn shown(name: Option<&str>, context: &Context) -> serde_json::Value {
    let secret = match (&context.secret_command, &context.secret_key) {
        (Some(words), _) => words.first().map(|program| format!("(from {program})")),
        (None, Some(_)) => Some("********".to_owned()),
        (None, None) => None,
    };
    serde_json::json!({
        "name": name, "url": context.url, "accessKey": context.access_key, "secretKey": secret,
        "environment": context.environment, "caFile": context.ca_file, "insecure": context.insecure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_called_after_their_host() {
        let cases = [
            ("https://h.example.com:8080/x", "h.example.com"),
            ("h:8080", "h"),
            ("http://u@[::1]:80/v1", "::1"),
            ("h", "h"),
        ];
        for (url, host) in cases {
            assert_eq!(host_of(url), host);
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let context = Context { url: "http://h".into(), secret_key: Some("S3CRET".into()), ..Context::default() };
        let text = shown(Some("x"), &context).to_string();
        assert!(text.contains("http://h") && !text.contains("S3CRET"), "{text}");
    }
}
