//! `top`: what containers use, from the samples their hosts send once a second.

use std::io::IsTerminal;
use std::time::Duration;

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::stream::Stats;
use serde_json::{Value, json};

use crate::complete;
use crate::failure::{Failure, exit};
use crate::items::bytes;
use crate::output::{Columns, Format, Item, Shape};
use crate::resolve::{self, Kind};
use crate::session::Session;

/// Show what containers use.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda top\n  remuda top shop/web --once\n  remuda top -o jsonl\n\nOn a terminal it goes on until Ctrl-C; elsewhere it prints once. See also: ps"
)]
pub struct Args {
    /// Services, stacks or containers; everything that runs when none is named
    #[arg(value_name = "NAME", add = complete::running())]
    names: Vec<String>,
    /// Print once and end, also on a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    shape: Shape,
}

/// So many containers are watched at most.
const MOST: usize = 200;
/// Hosts send a sample a second; one that is silent for so long sends none.
const PATIENCE: Duration = Duration::from_secs(5);

const COLUMNS: Columns = Columns { usual: &["NAME", "CPU", "MEMORY", "LIMIT", "NET-IN", "NET-OUT"], wide: &[] };

struct Watched {
    container: Resource,
    stats: Stats,
    last: Option<Sample>,
    usage: Option<Usage>,
}

/// Counters of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at_ms: i64,
    cpu_ns: f64,
    memory: f64,
    limit: f64,
    received: f64,
    sent: f64,
}

/// What two moments tell.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    /// Percent of one core.
    cpu: f64,
    memory: f64,
    limit: f64,
    received: f64,
    sent: f64,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let containers = containers(session, &args.names).await?;
    if containers.is_empty() {
        return Err(Failure::new(exit::STATE, "nothing runs here").hint("`remuda ps -c -a` lists what is stopped"));
    }
    if containers.len() > MOST {
        return Err(Failure::usage(format!("{} containers run; at most {MOST} are watched at once", containers.len()))
            .hint("name services, like `remuda top shop/web`"));
    }
    let opened = containers.into_iter().map(|container| async move {
        let stats = session.client.stats(&container, "containerStats").await;
        (container, stats)
    });
    let mut watched = Vec::new();
    for (container, stats) in join_all(opened).await {
        match stats {
            Ok(stats) => watched.push(Watched { container, stats, last: None, usage: None }),
            Err(error) => session.progress.note(&format!("no figures of {}: {error}", container.title())),
        }
    }
    let is_table = matches!(session.out.format, Format::Table | Format::Wide);
    let redraws = !args.once && is_table && std::io::stdout().is_terminal();
    let goes_on = redraws || (!args.once && session.out.format == Format::Jsonl);
    loop {
        let round = join_all(watched.iter_mut().map(advance));
        tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(exit::DONE);
            }
            alive = round => {
                let mut alive = alive.into_iter();
                watched.retain(|_| alive.next().unwrap_or(false));
            }
        }
        if watched.is_empty() {
            return Err(Failure::new(exit::FAILED, "no host sends figures of these containers"));
        }
        if watched.iter().all(|one| one.usage.is_none()) {
            continue;
        }
        if redraws {
            session.out.text("\u{1b}[H\u{1b}[2J")?;
        }
        let mut items: Vec<Item> = watched.iter().filter_map(line).collect();
        items.sort_by(|left, right| left.name.cmp(&right.name));
        session.out.list(COLUMNS, items, &args.shape)?;
        if !goes_on {
            return Ok(exit::DONE);
        }
    }
}

async fn containers(session: &Session, names: &[String]) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    if names.is_empty() {
        found = session.client.list("containers", &[("removed_null", "true")]).await?;
    }
    for name in names {
        let kinds = [Kind::Service, Kind::Stack, Kind::Container];
        let resource = session.resolve(name, &kinds).await?;
        match resource.kind() {
            "container" => found.push(resource),
            "environment" => {
                let filters = [("environmentId", resource.id()), ("removed_null", "true")];
                for service in session.client.list("services", &filters).await? {
                    found.extend(resolve::containers_of(&session.client, &service).await?);
                }
            }
            _ => found.extend(resolve::containers_of(&session.client, &resource).await?),
        }
    }
    found.retain(|container| container.state() == "running");
    Ok(found)
}

/// Takes the next sample; `false` when there will be none.
async fn advance(watched: &mut Watched) -> bool {
    let Ok(Ok(Some(samples))) = tokio::time::timeout(PATIENCE, watched.stats.next()).await else { return false };
    let id = watched.container.id();
    let mine = samples.iter().find(|sample| sample.get("id").and_then(Value::as_str) == Some(id));
    let Some(now) = mine.or(samples.first()).and_then(sample) else { return true };
    if let Some(before) = watched.last {
        watched.usage = usage(&before, &now);
    }
    watched.last = Some(now);
    true
}

fn sample(value: &Value) -> Option<Sample> {
    let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let at: jiff::Timestamp = value.get("timestamp")?.as_str()?.parse().ok()?;
    Some(Sample {
        at_ms: at.as_millisecond(),
        cpu_ns: number("/cpu/usage/total"),
        memory: number("/memory/usage"),
        limit: number("/memLimit"),
        received: number("/network/rx_bytes"),
        sent: number("/network/tx_bytes"),
    })
}

fn usage(before: &Sample, now: &Sample) -> Option<Usage> {
    let elapsed_ns = (now.at_ms - before.at_ms) as f64 * 1e6;
    (elapsed_ns > 0.0).then(|| Usage {
        // A restarted container counts from nothing again.
        cpu: ((now.cpu_ns - before.cpu_ns) / elapsed_ns * 100.0).max(0.0),
        memory: now.memory,
        limit: now.limit,
        received: now.received,
        sent: now.sent,
    })
}

fn line(watched: &Watched) -> Option<Item> {
    let Usage { cpu, memory, limit, received, sent } = watched.usage?;
    let container = &watched.container;
    Some(Item {
        id: container.id().to_owned(),
        kind: "container".to_owned(),
        name: container.name().to_owned(),
        state: container.state().to_owned(),
        cells: vec![
            container.name().to_owned(),
            format!("{cpu:.1}%"),
            bytes(memory),
            if limit > 0.0 { bytes(limit) } else { String::new() },
            bytes(received),
            bytes(sent),
        ],
        resource: json!({
            "cpuPercent": cpu, "memory": memory, "memoryLimit": limit, "networkReceived": received, "networkSent": sent,
        }),
        ..Item::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_make_a_percentage() {
        let at = |second: u32, cpu: f64| {
            sample(&json!({
                "id": "1i5", "timestamp": format!("2026-04-02T10:11:{second:02}.500Z"), "memLimit": 1000,
                "cpu": {"usage": {"total": cpu}}, "memory": {"usage": 400}, "network": {"rx_bytes": 7, "tx_bytes": 8},
            }))
            .expect("reads")
        };
        let found = usage(&at(1, 1e9), &at(3, 2e9)).expect("time passed");
        assert_eq!(found, Usage { cpu: 50.0, memory: 400.0, limit: 1000.0, received: 7.0, sent: 8.0 });
        assert_eq!(usage(&at(1, 0.0), &at(1, 1e9)), None);
        assert_eq!(usage(&at(1, 2e9), &at(2, 0.0)).expect("time passed").cpu, 0.0);
        assert_eq!(sample(&json!({"id": "1i5"})), None);
    }
}
