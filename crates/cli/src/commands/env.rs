//! `env`: the environments a key can see.

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::output::Shape;
use crate::session::now_ms;
use crate::{items, session};

/// List environments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda env\n  remuda --env staging ps\n\nSee also: context env (chooses one for good)"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    shape: Shape,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List environments (also without a subcommand)
    Ls(Shape),
}

pub async fn run(globals: &Globals, args: Args) -> Result<u8, Failure> {
    let Command::Ls(shape) = args.command.unwrap_or(Command::Ls(args.shape));
    // All of them, whichever is the chosen one.
    let client = session::connect(&Globals { environment: None, ..globals.clone() }).await?;
    let mut projects = client.list_at(&format!("{}/projects", client.root()), &[]).await?;
    projects.sort_by(|left, right| left.name().cmp(right.name()));
    let items = projects.iter().map(|project| items::environment(project, now_ms())).collect();
    session::out(globals).list(items::ENVIRONMENTS, items, &shape)?;
    Ok(exit::DONE)
}
