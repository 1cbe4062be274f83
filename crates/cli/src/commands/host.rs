//! `host`: the machines containers run on.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::wait::Change;
use serde_json::{Value, json};

use crate::apply::Patience;
use crate::commands::lifecycle;
use crate::failure::{Failure, exit};
use crate::output::{Format, ListOptions, Section};
use crate::resolve::Kind;
use crate::session::{Session, now_ms};
use crate::{complete, items, watch};

/// List and manage hosts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda host\n  remuda host show node3\n  remuda host add                 # the line to paste on a new host\n  remuda host label node3 zone=a disk-\n  remuda host drain node3\n  remuda host deactivate node3\n  remuda host rm node3 --yes\n\nSee also: ps host:NAME, doctor"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    list: ListOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List hosts (also without a subcommand)
    Ls(ListOptions),
    /// Print the line that joins a machine as a host: paste it there, as root
    Add,
    /// Show what is known of hosts
    Show(Names),
    /// Set and remove labels: KEY=VALUE sets one, KEY- removes it; without any the labels are listed
    Label {
        /// Host, by name, host name or id
        #[arg(value_name = "HOST", add = complete::hosts())]
        name: String,
        /// KEY=VALUE or KEY-
        #[arg(value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// Let hosts take containers again
    Activate(Names),
    /// Give hosts no new containers; those there stay
    Deactivate(Names),
    /// Replace what services have there on other hosts, then remove it there; `activate` ends it
    Drain(Names),
    /// Empty hosts for good: what cannot be replaced first is stopped first, stand-alone containers are removed
    Evacuate(Names),
    /// Have silent hosts count as lost at once, also when many vanished together
    Giveup(Names),
    /// Deactivate and remove hosts, and what runs on them
    Rm(Names),
}

#[derive(Debug, clap::Args)]
struct Names {
    /// Hosts, by name, host name or id
    #[arg(required = true, value_name = "HOST", add = complete::hosts())]
    names: Vec<String>,
}

/// Up to so many hosts are asked for details at once.
const DETAILED: usize = 100;

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    match args.command.unwrap_or(Command::Ls(args.list)) {
        Command::Ls(options) => watch::list(session, &options, async || gather(session).await).await,
        Command::Add => add(session).await,
        Command::Show(names) => lifecycle::each(session, &names.names, async |name| show(session, name).await).await,
        Command::Label { name, labels } => label(session, &name, &labels).await,
        Command::Activate(names) => act(session, &names, "activate", &["active", "activating"]).await,
        Command::Deactivate(names) => act(session, &names, "deactivate", &["inactive", "deactivating"]).await,
        Command::Drain(names) => act(session, &names, "drain", &[]).await,
        Command::Evacuate(names) => act(session, &names, "evacuate", &[]).await,
        Command::Giveup(names) => act(session, &names, "giveup", &[]).await,
        Command::Rm(names) => {
            let names = names.names.iter().map(|name| format!("host:{}", name.trim_start_matches("host:")));
            lifecycle::rm(session, lifecycle::RmArgs::of(names.collect())).await
        }
    }
}

async fn host(session: &Session, name: &str) -> Result<Resource, Failure> {
    session.resolve(name, &[Kind::Host]).await
}

/// What is listed.
pub async fn gather(session: &Session) -> Result<Vec<Section>, Failure> {
    let mut hosts = session.client.list("hosts", &[("removed_null", "true")]).await?;
    hosts.sort_by(|left, right| items::host_name(left).cmp(items::host_name(right)));
    let containers = session.client.list("containers", &[("removed_null", "true")]).await?;
    let addresses = if hosts.len() <= DETAILED {
        join_all(hosts.iter().map(|host| address(session, host))).await
    } else {
        vec![String::new(); hosts.len()]
    };
    let items = hosts
        .iter()
        .zip(addresses)
        .map(|(host, address)| {
            let n_containers = containers.iter().filter(|container| container.text("hostId") == host.id()).count();
            items::host(host, &address, n_containers, now_ms())
        })
        .collect();
    Ok(vec![Section { columns: items::HOSTS, items }])
}

/// A registration token of the environment, made when there is none, as the line that uses it.
async fn add(session: &Session) -> Result<u8, Failure> {
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

async fn show(session: &Session, name: &str) -> Result<(), Failure> {
    let host = host(session, name).await?;
    if !matches!(session.out.format, Format::Table | Format::Wide) {
        return session.out.object(&host.0);
    }
    let facts = items::facts(&host);
    let address = address(session, &host).await;
    let labels: Vec<String> = labels_of(&host).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let n_containers = session.members(&host, "instances").await?.len();
    let peers = peers(session, &host).await?;
    let lines = [
        ("Name", items::host_name(&host)),
        ("Id", host.id()),
        ("State", host.state()),
        ("Agent", host.text("agentState")),
        ("Detail", host.message().unwrap_or_default()),
        ("Lost since", host.text("lostSince")),
        ("Engine", host.text("engineProblem")),
        ("Network", host.text("networkProblem")),
        ("Address", &address),
        ("Own address", host.text("networkAddress")),
        ("Hosts", &peers),
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
    Ok(())
}

/// The other hosts, and whether they answer this one over the managed network.
async fn peers(session: &Session, host: &Resource) -> Result<String, Failure> {
    let peers = host.get("networkPeers").as_array().cloned().unwrap_or_default();
    if peers.is_empty() {
        return Ok(String::new());
    }
    let hosts = session.client.list("hosts", &[("removed_null", "true")]).await?;
    let name = |id: &str| hosts.iter().find(|host| host.id() == id).map_or(id, items::host_name).to_owned();
    let mut said: Vec<String> = peers
        .iter()
        .map(|peer| {
            let text = |field: &str| peer[field].as_str().unwrap_or_default();
            format!("{} {}", name(text("hostId")), text("state"))
        })
        .collect();
    said.sort();
    Ok(said.join(", "))
}

fn labels_of(host: &Resource) -> BTreeMap<String, String> {
    let labels = host.get("labels").as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// The server keeps whole maps, so what is not changed is sent again.
async fn label(session: &Session, name: &str, changes: &[String]) -> Result<u8, Failure> {
    let host = host(session, name).await?;
    let mut labels = labels_of(&host);
    for change in changes {
        relabel(&mut labels, change)?;
    }
    if labels != labels_of(&host) {
        let name = items::host_name(&host);
        let watch = |row: &Resource| session.progress.say(name, row.state(), None);
        let body = json!({"labels": labels});
        session.client.change(&host, Change::Update(&body), session.globals.timeout(), watch).await?;
        session.progress.done(name, "labelled", true);
    }
    if changes.is_empty() {
        match session.out.format {
            Format::Table | Format::Wide => {
                labels.iter().try_for_each(|(key, value)| session.out.line(&format!("{key}={value}")))?;
            }
            _ => session.out.object(&json!(labels))?,
        }
    }
    Ok(exit::DONE)
}

fn relabel(labels: &mut BTreeMap<String, String>, change: &str) -> Result<(), Failure> {
    match (change.split_once('='), change.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => {
            labels.insert(key.to_owned(), value.to_owned());
        }
        (None, Some(key)) if !key.is_empty() => {
            labels.remove(key);
        }
        _ => {
            return Err(Failure::usage(format!("`{change}` is no change of a label"))
                .hint("KEY=VALUE sets a label, KEY- removes it"));
        }
    }
    Ok(())
}

async fn act(session: &Session, names: &Names, action: &str, there: &[&str]) -> Result<u8, Failure> {
    lifecycle::each(session, &names.names, async |name| {
        let host = host(session, name).await?;
        lifecycle::act(session, &host, action, &Value::Null, there, Patience::Settled).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let mut labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("gone".to_owned(), String::new())]);
        for change in ["zone=b", "gone-", "with-dash=x=y", "not-there-"] {
            relabel(&mut labels, change).expect(change);
        }
        let expected = [("with-dash", "x=y"), ("zone", "b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(labels, BTreeMap::from(expected));
        for wrong in ["zone", "=x", "-", ""] {
            assert_eq!(relabel(&mut labels, wrong).expect_err(wrong).exit, exit::USAGE, "{wrong}");
        }
    }
}
