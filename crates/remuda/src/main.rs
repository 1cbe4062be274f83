//! The binary: `remuda server`, `remuda agent`, and the commands of a person. Says what exists and hands over.

mod agent;
mod logging;
mod server;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use remuda_cli::legacy::{Name, compose, rancher};
use remuda_cli::overview::{grouped, overview};

/// The whole command line.
#[derive(Parser)]
#[command(name = "remuda", version, about = "Run services on your own hosts", max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    globals: remuda_cli::Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server: API, database, decisions; or ask one how its loops fare
    Server(server::ServerCommand),
    /// Run this host's agent, or look after what it put here
    Agent(agent::AgentCommand),
    /// The process that answers names for containers; the agent starts it
    #[command(hide = true)]
    Datapath(agent::DatapathArgs),
    #[command(flatten)]
    Client(remuda_cli::Command),
}

fn main() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    match Name::of(&program) {
        Name::Remuda => {
            remuda_cli::complete(Cli::command);
            run()
        }
        Name::RancherCompose => {
            remuda_cli::complete(compose::Line::command);
            old(compose::Line::try_parse(), compose::run)
        }
        Name::Rancher => {
            remuda_cli::complete(rancher::Line::command);
            old(rancher::Line::try_parse(), rancher::run)
        }
    }
}

/// Runs a command line of 2016, whose exit codes are 0 and 1.
#[tokio::main]
async fn old<Line, Run: Future<Output = u8>>(
    line: clap::error::Result<Line>,
    run: impl FnOnce(Line) -> Run,
) -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match line {
        Ok(line) => ExitCode::from(run(line).await),
        Err(error) => {
            let is_help = error.exit_code() == 0;
            drop(error.print());
            if is_help { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

#[tokio::main]
async fn run() -> ExitCode {
    // One provider for every TLS connection; the only error is that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = grouped(Cli::command());
    let cli = Cli::from_arg_matches(&root.clone().get_matches()).unwrap_or_else(|error| error.exit());
    let Some(command) = cli.command else {
        // What there is to say, said well: no error.
        print!("{}", overview(&root, &cli.globals));
        return ExitCode::SUCCESS;
    };
    match command {
        Command::Server(command) => match command.ask {
            Some(server::Ask::Status) => {
                let globals = cli.globals.merged();
                match remuda_cli::commands::doctor::server_status(&globals).await {
                    Ok(code) => ExitCode::from(code),
                    Err(failure) => {
                        failure.print(globals.look());
                        ExitCode::from(failure.exit)
                    }
                }
            }
            None => report(server::run(command.args).await),
        },
        Command::Agent(command) => report(agent::run(cli.globals, command).await),
        Command::Datapath(args) => report(agent::datapath(args).await),
        Command::Client(command) => ExitCode::from(remuda_cli::run(cli.globals, command, Cli::command()).await),
    }
}

/// A long-running part ends well, or says as a whole chain why not.
fn report(ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remuda: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_overview() {
        assert_eq!(remuda_cli::overview::ungrouped(&Cli::command()), Vec::<String>::new());
        Cli::command().debug_assert();
    }
}
