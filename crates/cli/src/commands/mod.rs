//! The commands. Each has a file: its arguments, and `run`.

mod api;
mod completion;
mod config;
mod context;
pub mod doctor;
mod down;
pub mod env;
pub mod events;
pub mod exec;
pub mod export;
pub mod host;
pub mod images;
pub mod inspect;
pub mod lifecycle;
pub mod logs;
pub mod ps;
pub mod scale;
pub mod stack;
mod top;
pub mod up;
pub mod upgrade;
pub mod wait;

use clap::Subcommand;

use crate::failure::Failure;
use crate::globals::{Globals, ProjectOptions};
use crate::session::Session;

/// Commands of the client.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, upgrade and start the services of the compose file
    Up(up::Args),
    /// Create the services of the compose file without starting them
    Create(up::CreateArgs),
    /// Stop and remove the services of the compose file, and the stack when nothing is left in it
    Down(down::Args),
    /// Show what `up --upgrade` would change
    Diff(up::DiffArgs),
    /// Print what the compose files say
    Config(config::Args),
    /// Pull the images of the compose files on hosts
    Pull(images::PullArgs),
    /// Build the images of the compose files on hosts
    Build(images::BuildArgs),
    /// Write stacks as compose files
    Export(export::Args),
    /// Replace services, confirm or roll back upgrades
    Upgrade(upgrade::Args),
    /// Change the number of containers of services
    Scale(scale::Args),
    /// Start services or containers
    Start(lifecycle::StartArgs),
    /// Stop services or containers; everything is kept
    Stop(lifecycle::StopArgs),
    /// Restart services or containers
    Restart(lifecycle::RestartArgs),
    /// Remove services, stacks, containers, hosts or volumes
    Rm(lifecycle::RmArgs),
    /// Print or follow logs
    Logs(logs::Args),
    /// List services or containers
    Ps(ps::Args),
    /// Show one thing in full
    Inspect(inspect::Args),
    /// Watch changes
    #[command(alias = "event")]
    Events(events::Args),
    /// Show what containers use
    #[command(visible_alias = "stats")]
    Top(top::Args),
    /// Wait until things are as wanted
    Wait(wait::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Create a service from an image, or run one container to its end
    Run(exec::RunArgs),
    /// List and manage hosts
    #[command(alias = "hosts")]
    Host(host::Args),
    /// List and manage stacks
    #[command(alias = "stacks")]
    Stack(stack::Args),
    /// List environments
    #[command(alias = "environment")]
    Env(env::Args),
    /// Store the address and keys of a server
    Login(context::LoginArgs),
    /// Forget the keys of a context
    Logout(context::LogoutArgs),
    /// Choose between servers
    #[command(alias = "contexts")]
    Context(context::ContextArgs),
    /// Call the API
    Api(api::Args),
    /// Check URL, keys, clock, database, hosts and versions
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print the versions of client, server and API
    Version(doctor::VersionArgs),
}

impl Command {
    /// Takes the project options that were given after the command.
    pub fn project_options(&mut self) -> ProjectOptions {
        match self {
            Command::Up(args) => std::mem::take(&mut args.project),
            Command::Down(args) => std::mem::take(&mut args.project),
            Command::Config(args) => std::mem::take(&mut args.project),
            Command::Ps(args) => std::mem::take(&mut args.project),
            Command::Pull(args) => std::mem::take(&mut args.project),
            Command::Build(args) => std::mem::take(&mut args.project),
            Command::Create(args) => std::mem::take(&mut args.project),
            Command::Diff(args) => std::mem::take(&mut args.project),
            Command::Upgrade(args) => std::mem::take(&mut args.project),
            Command::Start(args) => std::mem::take(&mut args.project),
            Command::Stop(args) => std::mem::take(&mut args.project),
            Command::Restart(args) => std::mem::take(&mut args.project),
            _ => ProjectOptions::default(),
        }
    }
}

/// Runs a command; the value is the exit code.
pub async fn run(globals: Globals, mut command: Command, root: clap::Command) -> Result<u8, Failure> {
    let globals = globals.with(command.project_options());
    // Only those that need a session open one: the others need no server, or look at it more closely.
    let open = Session::open(globals.clone());
    match command {
        Command::Completion(args) => completion::run(&globals, &args, &root),
        Command::Login(args) => context::login(&globals, args).await,
        Command::Logout(args) => context::logout(&globals, args),
        Command::Context(args) => context::context(&globals, args).await,
        Command::Version(args) => doctor::versions(&globals, args).await,
        Command::Doctor(args) => doctor::run(&globals, args).await,
        Command::Api(args) => api::run(&globals, args).await,
        Command::Env(args) => env::run(&globals, args).await,
        Command::Ps(args) => ps::run(&open.await?, args).await,
        Command::Inspect(args) => inspect::run(&open.await?, args).await,
        Command::Events(args) => events::run(&open.await?, args).await,
        Command::Top(args) => top::run(&open.await?, args).await,
        Command::Wait(args) => wait::run(&open.await?, args).await,
        Command::Host(args) => host::run(&open.await?, args).await,
        Command::Stack(args) => stack::run(&open.await?, args).await,
        Command::Up(args) => up::run(&open.await?, args).await,
        Command::Create(args) => up::create(&open.await?, args).await,
        Command::Down(args) => down::run(&open.await?, args).await,
        Command::Diff(args) => up::diff(&open.await?, args).await,
        Command::Config(args) => config::run(&globals, &args).await,
        Command::Pull(args) => images::pull(&open.await?, args).await,
        Command::Build(args) => images::build(&open.await?, args).await,
        Command::Export(args) => export::run(&open.await?, args).await,
        Command::Upgrade(args) => upgrade::run(&open.await?, args).await,
        Command::Scale(args) => scale::run(&open.await?, args).await,
        Command::Start(args) => lifecycle::start(&open.await?, args).await,
        Command::Stop(args) => lifecycle::stop(&open.await?, args).await,
        Command::Restart(args) => lifecycle::restart(&open.await?, args).await,
        Command::Rm(args) => lifecycle::rm(&open.await?, args).await,
        Command::Logs(args) => logs::run(&open.await?, args).await,
        Command::Exec(args) => exec::run(&open.await?, args).await,
        Command::Run(args) => exec::run_image(&open.await?, args).await,
    }
}
