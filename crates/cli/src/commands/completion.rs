//! `completion`: a stub for the shell, which asks the binary what may follow.

use clap_complete::env::Shells;

use crate::complete::VARIABLE;
use crate::failure::{Failure, exit};
use crate::globals::Globals;
use crate::session;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda completion bash > /etc/bash_completion.d/remuda\n  remuda completion zsh > ~/.zfunc/_remuda\n  remuda completion fish > ~/.config/fish/completions/remuda.fish\n\nCommands, flags and the names of services, stacks, hosts and contexts complete"
)]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

pub fn run(globals: &Globals, args: &Args, root: &clap::Command) -> Result<u8, Failure> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        return Err(Failure::usage(format!("no completion for `{}`", args.shell)));
    };
    let name = root.get_name();
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, name, name, name, &mut script)?;
    session::out(globals).bytes(&script)?;
    Ok(exit::DONE)
}
