//! The commands. Each has a file: its arguments, and `run`.

mod exec;
mod lifecycle;
mod logs;
mod scale;
mod up;

use clap::Subcommand;

use crate::failure::Failure;
use crate::globals::Globals;
use crate::session::Session;

/// Commands of the client.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and start the services of a compose file
    Up(up::Args),
    /// Stop and remove the services of the compose file, and the stack when nothing is left in it
    Down(up::DownArgs),
    /// Print what the compose file compiles to
    Config(up::ConfigArgs),
    /// Change the number of containers of services
    Scale(scale::Args),
    /// Start services or containers
    Start(lifecycle::StartArgs),
    /// Stop services or containers; everything is kept
    Stop(lifecycle::StopArgs),
    /// Restart containers
    Restart(lifecycle::RestartArgs),
    /// Remove services, stacks, containers, hosts or volumes
    Rm(lifecycle::RmArgs),
    /// Print or follow logs
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Create a service from an image, or run one container to its end
    Run(exec::RunArgs),
}

/// Runs a command; the value is the exit code.
pub async fn run(globals: Globals, command: Command, _root: clap::Command) -> Result<u8, Failure> {
    let session = Session::open(globals).await?;
    match command {
        Command::Up(args) => up::run(&session, args).await,
        Command::Down(args) => up::down(&session, args).await,
        Command::Config(args) => up::config(&session, &args),
        Command::Scale(args) => scale::run(&session, args).await,
        Command::Start(args) => lifecycle::start(&session, args).await,
        Command::Stop(args) => lifecycle::stop(&session, args).await,
        Command::Restart(args) => lifecycle::restart(&session, args).await,
        Command::Rm(args) => lifecycle::rm(&session, args).await,
        Command::Logs(args) => logs::run(&session, args).await,
        Command::Exec(args) => exec::run(&session, args).await,
        Command::Run(args) => exec::run_image(&session, args).await,
    }
}
