//! The command line: commands, names, tables, progress.
//!
//! [`Command`] is the tree of commands and [`Globals`] the flags of all of them; the binary adds its server-side
//! commands and calls [`run`]. A command gets a [`session::Session`] (server, environment, output) and gives an exit
//! code or a [`failure::Failure`], which says what, why and what to do next. Results go to stdout, everything else to
//! stderr.

pub mod apply;
pub mod commands;
pub mod complete;
pub mod config;
pub mod context;
pub mod contexts;
pub mod failure;
pub mod found;
pub mod globals;
pub mod items;
pub mod legacy;
pub mod local_engine;
pub mod output;
pub mod overview;
pub mod paint;
pub mod plan;
pub mod progress;
pub mod project;
pub mod resolve;
pub mod secrets;
pub mod session;
pub mod template;
pub mod watch;

pub use commands::Command;
pub use globals::Globals;

/// Answers a shell that asks what may follow on a command line; a run like any other otherwise. Before there are other
/// threads, because it takes its variable out of the environment.
pub fn complete(root: fn() -> clap::Command) {
    clap_complete::CompleteEnv::with_factory(root).var(complete::VARIABLE).complete();
}

/// Runs one command to its end; the value is the exit code of the process (`cli.md` §6). `root` is the whole command
/// line of the binary, for completion.
pub async fn run(globals: Globals, command: Command, root: clap::Command) -> u8 {
    let globals = globals.merged();
    let look = globals.look();
    match commands::run(globals, command, root).await {
        Ok(code) => code,
        Err(failure) => {
            failure.print(look);
            failure.exit
        }
    }
}
