//! `remuda agent` and `remuda datapath`: this machine as a host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use remuda_agent::datapath::{self, Launch};
use remuda_agent::engine::Engine;
use remuda_agent::engine::docker::DockerEngine;
use remuda_agent::engine::simulated::neighbours::Neighbours;
use remuda_agent::engine::simulated::{Latency, Simulated};
use remuda_agent::facts::{Facts, detect_address};
use remuda_agent::fence;
use remuda_agent::host_network::{HostNetwork, Managed, NoNetwork, SimulatedNetwork};
use remuda_agent::metrics::Metrics;
use remuda_agent::network::linux;
use remuda_agent::run::{self, Host};
use remuda_agent::state_dir::{Identity, StateDir};
use remuda_agent::streams::host_stats::HostStats;
use remuda_cli::Globals;
use remuda_client::{Client, Config};
use remuda_runtime::Seams;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use crate::logging;

const DEFAULT_STATE_DIR: &str = "/var/lib/remuda-agent";
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Run this host's agent.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  remuda agent --url http://server:8080 --token TOKEN\n  remuda agent --engine simulated --hosts 3 --url http://127.0.0.1:8080 --token TOKEN\n  remuda agent status\n  remuda agent clean"
)]
pub struct AgentCommand {
    #[command(flatten)]
    args: AgentArgs,
    #[command(subcommand)]
    care: Option<Care>,
}

#[derive(Debug, clap::Args)]
struct AgentArgs {
    /// Registration token; needed once, the host keeps its own key
    #[arg(long, value_name = "TOKEN", env = "REMUDA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What runs containers
    #[arg(long, value_enum, default_value = "docker", env = "REMUDA_ENGINE")]
    engine: EngineKind,
    /// Address of the Docker Engine [default: unix:///var/run/docker.sock]
    #[arg(long, value_name = "unix://…", env = "REMUDA_DOCKER_HOST")]
    docker_host: Option<String>,
    /// Directory for the host's identity and its cache of the plan
    #[arg(long, value_name = "DIR", env = "REMUDA_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Name of the host [default: its hostname]
    #[arg(long, value_name = "NAME", env = "REMUDA_NAME")]
    name: Option<String>,
    /// Address under which others reach this host [default: that of the way to the server]
    #[arg(long, value_name = "IP", env = "REMUDA_ADDRESS")]
    address: Option<IpAddr>,
    /// Labels of the host, given when it joins
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Simulated hosts to run in this process
    #[arg(long, value_name = "N", default_value = "1")]
    hosts: usize,
    /// Address for Prometheus metrics, like 127.0.0.1:9108
    #[arg(long, value_name = "ADDR", env = "REMUDA_METRICS")]
    metrics: Option<SocketAddr>,
    /// What to log: a level, or directives
    #[arg(long, value_name = "FILTER", env = "REMUDA_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EngineKind {
    Docker,
    Simulated,
}

#[derive(Debug, clap::Subcommand)]
enum Care {
    /// List everything the agent put on this host
    Status(CareArgs),
    /// Remove everything the agent put on this host; containers are left
    Clean(CareArgs),
}

#[derive(Debug, clap::Args)]
struct CareArgs {
    /// State directory of the agent
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Address of the Docker Engine
    #[arg(long, value_name = "unix://…")]
    docker_host: Option<String>,
}

/// The process that answers names.
#[derive(Debug, clap::Args)]
pub struct DatapathArgs {
    /// State directory of the agent that starts it
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Address of the Docker Engine, for containers that must not run twice
    #[arg(long, value_name = "unix://…")]
    docker_host: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

pub async fn run(globals: Globals, command: AgentCommand) -> anyhow::Result<()> {
    match command.care {
        Some(Care::Status(args)) => status(&args).await,
        Some(Care::Clean(args)) => clean(&args).await,
        None => serve(globals, command.args).await,
    }
}

async fn serve(globals: Globals, args: AgentArgs) -> anyhow::Result<()> {
    logging::start(&args.log)?;
    let seams = Seams::real();
    let metrics = Metrics::default();
    if let Some(address) = args.metrics {
        serve_metrics(&seams, address, metrics.clone()).await?;
    }
    let url = globals.url.or_else(|| remuda_cli::session::environment("REMUDA_URL"));
    let labels: BTreeMap<String, String> = args.labels.iter().cloned().collect();
    let (mut hosts, neighbours) = (Vec::new(), Neighbours::default());
    for number in 1..=args.hosts.max(1) {
        let mut host = match args.engine {
            EngineKind::Simulated => simulated(&seams, &neighbours, &args, url.as_deref(), number, &labels)?,
            EngineKind::Docker if args.hosts > 1 => bail!("`--hosts` is for simulated hosts; this machine is one"),
            EngineKind::Docker => {
                let address = args.address.or_else(|| detect_address(url.as_deref()));
                let docker_host = args.docker_host.as_deref();
                docker(&seams, docker_host, &args.state_dir, args.name.clone(), address, labels.clone(), &metrics)?
            }
        };
        let source = run::registered(&seams, &mut host, url.as_deref(), args.token.as_deref()).await?;
        hosts.push((host, source));
    }
    let running = run::run_all(seams.clone(), hosts, metrics);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        biased;
        outcomes = running => outcomes.into_iter().find_map(Result::err),
        () = async {
            tokio::select! { biased; _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            // The agents take their leave when the group stops.
            seams.tasks.shut_down(STOP_WITHIN).await;
        } => None,
    };
    seams.tasks.shut_down(STOP_WITHIN).await;
    outcome.map_or(Ok(()), |error| Err(error.into()))
}

/// Answers Prometheus on an address of its own.
async fn serve_metrics(seams: &Seams, address: SocketAddr, metrics: Metrics) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for metrics; `--metrics ADDR` names another"))?;
    let tasks = seams.tasks.clone();
    seams.tasks.spawn_until_stopped("metrics", async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let text = metrics.text();
            tasks.spawn_until_stopped("metrics answer", async move {
                let mut head = [0; 1024];
                // Whatever is asked, there is one answer.
                drop(tokio::time::timeout(STOP_WITHIN, stream.read(&mut head)).await);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
                drop(tokio::time::timeout(STOP_WITHIN, stream.write_all(answer.as_bytes())).await);
            });
        }
    });
    Ok(())
}

/// A host whose engine, network and facts are made up.
fn simulated(
    seams: &Seams,
    neighbours: &Neighbours,
    args: &AgentArgs,
    url: Option<&str>,
    number: usize,
    labels: &BTreeMap<String, String>,
) -> anyhow::Result<Host> {
    let base = args.name.clone().unwrap_or_else(|| "sim".to_owned());
    let name = if args.hosts > 1 { format!("{base}-{number}") } else { base };
    // Simulated containers end with the process, and so does a simulated host's identity.
    let identity = Identity { host_uuid: seams.random.uuid(), register_key: seams.random.uuid(), keys: None };
    let engine: Arc<dyn Engine> = Arc::new(Simulated::among(neighbours, seams.clone(), Latency::usual()));
    let address = args.address.or_else(|| detect_address(url));
    Ok(Host::simulated(&name, engine, Arc::new(SimulatedNetwork), identity, address, labels.clone()))
}

fn engine(seams: &Seams, docker_host: Option<&str>) -> anyhow::Result<Arc<dyn Engine>> {
    Ok(Arc::new(DockerEngine::connect(docker_host, seams).context("the Docker Engine cannot be reached")?))
}

/// This machine. The process that answers names starts with it.
fn docker(
    seams: &Seams,
    docker_host: Option<&str>,
    state_dir: &Path,
    name: Option<String>,
    address: Option<IpAddr>,
    labels: BTreeMap<String, String>,
    metrics: &Metrics,
) -> anyhow::Result<Host> {
    let engine = engine(seams, docker_host)?;
    let state = StateDir::open(state_dir)
        .with_context(|| format!("cannot use the state directory `{}`", state_dir.display()))?;
    let identity = run::identity(seams, Some(&state))?;
    let network: Arc<dyn HostNetwork> = if is_root() {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut launch = Launch::of_executable(program, state_dir);
        launch.args.extend(docker_host.iter().flat_map(|host| ["--docker-host".into(), host.into()]));
        let datapath = datapath::Handle::of_process(seams, state_dir.to_owned(), identity.host_uuid.clone(), launch);
        let settings = linux::Settings::of(state_dir.to_owned());
        let network = linux::LinuxNetwork::new(seams, engine.clone(), settings, datapath.clone());
        let managed = Managed { network, datapath };
        seams.tasks.spawn_until_stopped("peers measured", managed.clone().measure(metrics.clone()));
        Arc::new(managed)
    } else {
        Arc::new(NoNetwork {
            reason:
                "the agent does not run as root, so the managed network cannot be set up; bridge, host and none work"
                    .to_owned(),
        })
    };
    Ok(Host {
        facts: Facts::of_this_machine(engine.clone(), name.as_deref(), address, labels),
        name,
        host_stats: HostStats::of_this_machine(),
        engine,
        network,
        identity,
        state_dir: Some(state),
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// The development server's own host: this machine's Docker, joined over loopback like any other host.
pub async fn local_host(seams: Seams, url: String, data_dir: PathBuf) {
    let joined = async {
        let state_dir = std::path::absolute(data_dir.join("agent"))?;
        // Asked before anything is started for it.
        let engine = engine(&seams, None)?;
        engine.info().await.context("no Docker Engine answers on this machine")?;
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let metrics = Metrics::default();
        let mut host = docker(&seams, None, &state_dir, None, Some(loopback), BTreeMap::new(), &metrics)?;
        let token = match host.identity.keys {
            Some(_) => None,
            None => Some(registration_token(&url).await?),
        };
        let source = run::registered(&seams, &mut host, Some(&url), token.as_deref()).await?;
        run::run(seams.clone(), host, source, metrics).await?;
        anyhow::Ok(())
    };
    if let Err(error) = joined.await {
        tracing::warn!(error = format!("{error:#}"), "this machine is not a host");
        eprintln!("note: this machine is not a host: {error:#}");
    }
}

/// A token of the first environment of a server without access control.
async fn registration_token(url: &str) -> anyhow::Result<String> {
    let config = Config { url: url.to_owned(), environment: Some("Default".to_owned()), ..Config::default() };
    let client = Client::connect(config).await?;
    let token = client.create("registrationtokens", &json!({})).await?;
    let token = client.wait_settled(&token, Duration::from_secs(10)).await?;
    Ok(token.text("token").to_owned())
}

async fn status(args: &CareArgs) -> anyhow::Result<()> {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(args.docker_host.as_deref(), &Seams::real())?);
    for item in linux::status(&engine, &linux::Settings::of(args.state_dir.clone())).await {
        println!("{}  {}", item.kind, item.name);
    }
    Ok(())
}

async fn clean(args: &CareArgs) -> anyhow::Result<()> {
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(args.docker_host.as_deref(), &Seams::real())?);
    match linux::clean(&engine, &linux::Settings::of(args.state_dir.clone())).await {
        Ok(()) => Ok(()),
        Err(problems) => {
            let list: Vec<String> = problems.into_iter().map(|problem| problem.0).collect();
            bail!("some of it is still there: {}", list.join("; "))
        }
    }
}

/// Body of `remuda datapath`.
pub async fn datapath(args: DatapathArgs) -> anyhow::Result<()> {
    logging::start("info")?;
    let seams = Seams::real();
    let engine = engine(&seams, args.docker_host.as_deref())?;
    seams.tasks.spawn_until_stopped("fence", fence::watch(args.state_dir.clone(), engine, seams.clock.clone()));
    let options = datapath::Options { state_dir: args.state_dir, resolv_conf: "/etc/resolv.conf".into() };
    Ok(datapath::run(options, seams).await?)
}
