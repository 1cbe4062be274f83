//! `host`: the machines containers run on.

use futures_util::future::join_all;
use remuda_client::Resource;
use serde_json::{Value, json};

use crate::commands::lifecycle;
use crate::commands::logs::now_ms;
use crate::failure::{Failure, exit};
use crate::items;
use crate::resolve::{self, Kind};
use crate::session::Session;

/// List and manage hosts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda host\n  remuda host show node3\n  remuda host add                 # the line to paste on a new host\n  remuda host deactivate node3\n  remuda host rm node3 --yes\n\nSee also: ps host:NAME, doctor"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List hosts (also without a subcommand)
    Ls,
    /// Print the line that joins a machine as a host: paste it there, as root
    Add,
    /// Show what is known of hosts
    Show(Names),
    /// Let hosts take containers again
    Activate(Names),
    /// Give hosts no new containers; those there stay
    Deactivate(Names),
    /// Deactivate and remove hosts, and what runs on them
    Rm(Names),
}

#[derive(Debug, clap::Args)]
struct Names {
    /// Hosts, by name, host name or id
    #[arg(required = true, value_name = "HOST")]
    names: Vec<String>,
}

/// Up to so many hosts are asked for details at once.
const DETAILED: usize = 100;

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    match args.command.unwrap_or(Command::Ls) {
        Command::Ls => ls(session).await,
        Command::Add => add(session).await,
        Command::Show(names) => show(session, &names).await,
        Command::Activate(names) => act(session, &names, "activate", &["active", "activating"]).await,
        Command::Deactivate(names) => act(session, &names, "deactivate", &["inactive", "deactivating"]).await,
        Command::Rm(names) => {
            let names = names.names.iter().map(|name| format!("host:{}", name.trim_start_matches("host:")));
            lifecycle::rm(session, lifecycle::RmArgs::of(names.collect())).await
        }
    }
}

async fn hosts(session: &Session, names: &Names) -> Result<Vec<Resource>, Failure> {
    let mut hosts = Vec::new();
    for name in &names.names {
        hosts.push(resolve::one(&session.client, name, &[Kind::Host], None).await?);
    }
    Ok(hosts)
}

async fn ls(session: &Session) -> Result<u8, Failure> {
    let mut hosts = session.client.list("hosts", &[("removed_null", "true")]).await?;
    hosts.sort_by(|left, right| items::host_name(left).cmp(items::host_name(right)));
    let containers = session.client.list("containers", &[("removed_null", "true")]).await?;
    let addresses = if hosts.len() <= DETAILED {
        join_all(hosts.iter().map(|host| address(session, host))).await
    } else {
        vec![String::new(); hosts.len()]
    };
    let items: Vec<_> = hosts
        .iter()
        .zip(addresses)
        .map(|(host, address)| {
            let n_containers = containers.iter().filter(|container| container.text("hostId") == host.id()).count();
            items::host(host, &address, n_containers, now_ms())
        })
        .collect();
    session.out.list(items::HOST_COLUMNS, items::HOST_WIDE, &items)?;
    Ok(exit::DONE)
}

/// A registration token of the environment, made when there is none, as the line that uses it.
async fn add(session: &Session) -> Result<u8, Failure> {
    use crate::output::Format;
    let known = session.client.list("registrationtokens", &[("state", "active")]).await?;
    let token = match known.into_iter().next() {
        Some(token) => token,
        None => {
            let made = session.client.create("registrationtokens", &json!({})).await?;
            session.client.wait_settled(&made, session.globals.timeout()).await?
        }
    };
    if !matches!(session.out.format, Format::Table | Format::Wide) {
        session.out.object(&token.0)?;
        return Ok(exit::DONE);
    }
    session.progress.note("paste this line on the machine that joins, as root; `remuda host ls` shows when it has");
    session.out.line(token.text("command"))?;
    Ok(exit::DONE)
}

/// Address the host registered with; empty when it cannot be told.
async fn address(session: &Session, host: &Resource) -> String {
    let addresses = session.client.follow(host, "ipAddresses").await.unwrap_or_default();
    let all: Vec<&str> = addresses.iter().map(|address| address.text("address")).collect();
    all.into_iter().find(|address| !address.is_empty()).unwrap_or_default().to_owned()
}

async fn show(session: &Session, names: &Names) -> Result<u8, Failure> {
    use crate::output::Format;
    for host in hosts(session, names).await? {
        if !matches!(session.out.format, Format::Table | Format::Wide) {
            session.out.object(&host.0)?;
            continue;
        }
        let facts = items::facts(&host);
        let address = address(session, &host).await;
        let labels = host.get("labels").as_object().into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let n_containers = session.members(&host, "instances").await?.len();
        let lines = [
            ("Name", items::host_name(&host)),
            ("Id", host.id()),
            ("State", host.state()),
            ("Agent", host.text("agentState")),
            ("Detail", host.message().unwrap_or_default()),
            ("Engine", host.text("engineProblem")),
            ("Network", host.text("networkProblem")),
            ("Address", &address),
            ("Containers", &n_containers.to_string()),
            ("CPUs", &facts.cpus),
            ("Memory", &facts.memory),
            ("System", &facts.system),
            ("Docker", &facts.docker),
            ("Labels", &labels.join(", ")),
        ];
        for (title, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
            session.out.line(&format!("{title:<11} {value}"))?;
        }
    }
    Ok(exit::DONE)
}

async fn act(session: &Session, names: &Names, action: &str, there: &[&str]) -> Result<u8, Failure> {
    for host in hosts(session, names).await? {
        lifecycle::act(session, &host, action, &Value::Null, there).await?;
    }
    Ok(exit::DONE)
}
