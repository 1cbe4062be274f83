//! `remuda server`: puts store, decisions and HTTP together, and takes them apart on SIGTERM.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use remuda_orchestrator::{Options as Loops, Orchestrator, Ownership};
use remuda_runtime::Seams;
use remuda_server::{ServerArgs, ServerOptions};
use remuda_store::{Database, Options, Seal, Store};
use tokio::signal::unix::{SignalKind, signal};

use crate::{agent, logging};

/// What has not ended by then is left behind: an operator who stops a server waits for it.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Run the server: API, database, decisions.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Every flag is also a REMUDA_* variable and a key of the file named by --config.\n\nExamples:\n  remuda server --dev\n  remuda server --database postgres://remuda@db/remuda\n  remuda server status"
)]
pub struct ServerCommand {
    #[command(flatten)]
    pub args: ServerArgs,
    #[command(subcommand)]
    pub ask: Option<Ask>,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Ask {
    /// Each loop of a running server: last pass, last error, next try
    Status,
}

/// Runs a server until it is told to stop.
pub async fn run(args: ServerArgs) -> Result<()> {
    let options = args.resolve()?;
    logging::start(&options.log)?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    make_private(&options.data_dir)?;

    let seams = Seams::real();
    let store = Store::open(Options::new(database(&options)?), remuda_model::registry(), seams.clone());
    let store = store.await.context("cannot open the database")?;
    let seal = Seal::load(&options.key_file, &seams.random).context("cannot read the key that seals secrets")?;
    let ownership = match store.is_shared() {
        true => Ownership::leased(),
        false => Ownership::Alone,
    };
    let orchestrator = Orchestrator::start(store.clone(), seams.clone(), Loops { ownership, ..Loops::default() });
    let dev = options.dev;
    let data_dir = options.data_dir.clone();
    let running = remuda_server::start(options, store.clone(), orchestrator, seams.clone(), seal).await?;

    let url = format!("http://{}", running.address);
    if let Some(key) = &running.admin_key {
        announce(&format!(
            "This is the first start. The key of the administrator, shown once and kept in {}:\n  access key  {}\n  secret key  {}\n",
            key.file.display(),
            key.access_key,
            key.secret_key
        ))?;
    }
    let access = if dev { " (access control is off: loopback only)" } else { "" };
    if dev {
        seams.tasks.spawn_until_stopped("local host", agent::local_host(seams.clone(), url.clone(), data_dir));
    }
    announce(&format!("ready: {url}{access}\n"))?;

    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let drained = running.shut_down().await;
    let ended = seams.tasks.shut_down(STOP_WITHIN).await;
    store.close().await;
    if !(drained && ended) {
        tracing::warn!("some work did not end in time and was left behind");
    }
    Ok(())
}

fn database(options: &ServerOptions) -> Result<Database> {
    if let Some(path) = options.database.strip_prefix("sqlite://") {
        return Ok(Database::Sqlite { path: PathBuf::from(path) });
    }
    if options.database.starts_with("postgres://") || options.database.starts_with("postgresql://") {
        return Ok(Database::Postgres { url: options.database.clone() });
    }
    // The URL may hold a password: only its form is named.
    bail!("`--database` is neither `postgres://…` nor `sqlite://PATH`")
}

/// The data directory holds the database and the administrator's key: nobody else's business.
fn make_private(dir: &std::path::Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the data directory {}", dir.display()))
}

fn announce(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}
