//! `completion`: a script for the shell.

use clap_complete::Shell;

use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::session;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda completion bash > /etc/bash_completion.d/remuda\n  remuda completion zsh > ~/.zfunc/_remuda\n  remuda completion fish > ~/.config/fish/completions/remuda.fish"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(globals: &Globals, args: &Args, mut root: clap::Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    let name = root.get_name().to_owned();
    clap_complete::generate(args.shell, &mut root, name, &mut script);
    session::out(globals).bytes(&script)?;
    Ok(exit::DONE)
}
