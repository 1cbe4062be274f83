//! What a command works with: the server, the environment, the way out.

use std::cell::OnceCell;
use std::io::IsTerminal;

use remuda_client::{Client, Config, Resource};

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::output::{Format, Out};
use crate::progress::Progress;
use crate::resolve::{self, Kind};
use crate::{config, project};

/// A command's surroundings.
pub struct Session {
    pub client: Client,
    pub out: Out,
    pub progress: Progress,
    pub globals: Globals,
    /// Name of the stack of the project at hand, once it was looked for.
    stack: OnceCell<Option<String>>,
}

/// The process environment.
#[expect(clippy::disallowed_methods, reason = "this is where the command line reads its configuration")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Now, in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the command line runs on the user's clock")]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Where results go, by the flags.
pub fn out(globals: &Globals) -> Out {
    let format = if globals.quiet { Format::Id } else { globals.output.unwrap_or_default() };
    Out { format, headers: !globals.no_headers, colour: globals.colour() }
}

/// The address of a development server on this machine, tried when nothing is configured.
const LOCAL: &str = "http://127.0.0.1:8080";

impl Session {
    /// Connects, and enters the environment: the chosen one, else the only one, else `Default`.
    pub async fn open(globals: Globals) -> Result<Session, Failure> {
        let client = entered(&globals).await?;
        let progress = Progress::new(globals.progress);
        Ok(Session { out: out(&globals), progress, client, globals, stack: OnceCell::new() })
    }

    /// The stack whose services bare names mean first: the one of the flags, else that of the compose file here.
    pub fn stack(&self) -> Option<&str> {
        let found = || {
            let given = self.globals.stack.clone();
            given.or_else(|| project::quiet(&self.globals).map(|project| project.stack))
        };
        self.stack.get_or_init(found).as_deref()
    }

    /// What a name given by a person means (`cli.md` §5); `.` is the stack of the project at hand.
    pub async fn resolve(&self, text: &str, kinds: &[Kind]) -> Result<Resource, Failure> {
        if text != "." || !kinds.contains(&Kind::Stack) {
            return resolve::one(&self.client, text, kinds, self.stack()).await;
        }
        let Some(name) = self.stack() else {
            // The reason it is not known is worth more than that it is not.
            project::load(&self.globals, &self.progress)?;
            return Err(Failure::usage("`.` is the stack of a compose file, and there is none"));
        };
        resolve::stack_named(&self.client, name).await?.ok_or_else(|| {
            Failure::new(exit::NOT_FOUND, format!("stack `{name}` of this project is not on the server"))
                .hint("`remuda up` creates it")
        })
    }

    /// Everything a link leads to, page by page.
    pub async fn members(&self, resource: &Resource, link: &str) -> Result<Vec<Resource>, Failure> {
        let url = resource
            .link(link)
            .ok_or_else(|| Failure::new(exit::FAILED, format!("{} has no link `{link}`", resource.title())))?;
        let mut members = self.client.list_at(url, &[]).await?;
        members.retain(|member| member.get("removed").is_null());
        Ok(members)
    }

    /// Asks before something is lost. Without a terminal and without `--yes` it is refused.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        if self.globals.yes {
            return Ok(true);
        }
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if self.globals.no_input || !terminal {
            return Err(Failure::usage(format!("{question} refused: there is nobody to ask"))
                .hint("add `--yes` to do it without asking"));
        }
        eprint!("{question} [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

/// The server, in the environment that was chosen, else the only one, else `Default`.
pub async fn entered(globals: &Globals) -> Result<Client, Failure> {
    enter_default(connect(globals).await?).await
}

/// Enters an environment unless one was chosen.
pub async fn enter_default(mut client: Client) -> Result<Client, Failure> {
    if client.environment().is_some() {
        return Ok(client);
    }
    let projects = client.list("projects", &[]).await?;
    let default = projects.iter().find(|project| project.name() == "Default");
    match (default, &projects[..]) {
        (Some(project), _) | (None, [project]) => client.enter_project(project),
        (None, []) => return Err(Failure::new(exit::NOT_FOUND, "this key sees no environment")),
        (None, several) => {
            let names: Vec<String> = several.iter().map(Resource::title).collect();
            return Err(Failure::usage(format!("several environments: {}", names.join(", ")))
                .hint("choose one with `--env NAME`"));
        }
    }
    Ok(client)
}

/// The server of the flags, variables and contexts, without an environment of our choosing.
pub async fn connect(globals: &Globals) -> Result<Client, Failure> {
    let path = config::path(&environment);
    let file = path.as_deref().map(config::load).transpose()?.unwrap_or_default();
    let (_, context) = config::choose(globals, &file, &environment)?;
    let unconfigured = context.url.is_empty();
    let ca = match &context.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Failure::new(exit::NO_SERVER, format!("cannot read ca_file {}: {error}", path.display()))
        })?),
        None => None,
    };
    let client = Client::connect(Config {
        url: if unconfigured { LOCAL.to_owned() } else { context.url.clone() },
        access_key: context.access_key.clone(),
        secret_key: context.secret()?,
        environment: context.environment.clone(),
        ca,
        insecure: context.insecure,
        trace: globals.debug.then_some(trace as fn(&str)),
    })
    .await;
    match client {
        Err(_) if unconfigured => {
            Err(Failure::new(exit::NO_SERVER, format!("no server configured, and none answers at {LOCAL}"))
                .hint("`remuda login URL` stores one; `remuda server --dev` starts one here"))
        }
        outcome => Ok(outcome?),
    }
}

/// Prints a request.
pub fn trace(line: &str) {
    eprintln!("{line}");
}
