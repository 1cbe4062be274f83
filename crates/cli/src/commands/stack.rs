//! `stack`: the named groups of services.

use serde_json::json;

use crate::commands::lifecycle;
use crate::failure::{Failure, exit};
use crate::output::{ListOptions, Section};
use crate::resolve;
use crate::session::{Session, now_ms};
use crate::{complete, items, watch};

/// List and manage stacks.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda stack\n  remuda stack create shop\n  remuda stack rm shop --yes\n\nSee also: up, ps, start, stop"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    list: ListOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List stacks (also without a subcommand)
    Ls(ListOptions),
    /// Create an empty stack
    Create {
        /// Name of the stack
        name: String,
    },
    /// Remove stacks and their services
    Rm {
        /// Stacks, by name or id
        #[arg(required = true, value_name = "STACK", add = complete::stacks())]
        names: Vec<String>,
    },
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    match args.command.unwrap_or(Command::Ls(args.list)) {
        Command::Ls(options) => watch::list(session, &options, async || gather(session).await).await,
        Command::Create { name } => create(session, &name).await,
        Command::Rm { names } => {
            let names = names.iter().map(|name| format!("stack:{}", name.trim_start_matches("stack:")));
            lifecycle::rm(session, lifecycle::RmArgs::of(names.collect())).await
        }
    }
}

/// What is listed.
pub async fn gather(session: &Session) -> Result<Vec<Section>, Failure> {
    let mut stacks = session.client.list("environments", &[("removed_null", "true")]).await?;
    stacks.sort_by(|left, right| left.name().cmp(right.name()));
    let services = session.client.list("services", &[("removed_null", "true")]).await?;
    let items = stacks
        .iter()
        .map(|stack| {
            let n_services = services.iter().filter(|service| service.text("environmentId") == stack.id()).count();
            items::stack(stack, n_services, now_ms())
        })
        .collect();
    Ok(vec![Section { columns: items::STACKS, items }])
}

async fn create(session: &Session, name: &str) -> Result<u8, Failure> {
    remuda_compose::names::check(name).map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(stack) = resolve::stack_named(&session.client, name).await? {
        return Err(Failure::new(exit::FAILED, format!("{} exists already", stack.title())));
    }
    let stack = session.client.create("environments", &json!({ "name": name })).await?;
    let stack = session.client.wait_settled(&stack, session.globals.timeout()).await?;
    session.out.line(stack.id())?;
    Ok(exit::DONE)
}
