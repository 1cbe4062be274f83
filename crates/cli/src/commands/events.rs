//! `events`: changes as they happen, for as long as somebody reads.

use std::time::Duration;

use remuda_client::events::Change;
use serde_json::json;

use crate::failure::{Failure, exit};
use crate::items;
use crate::output::Format;
use crate::session::{Session, now_ms};

/// Watch changes.
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda events\n  remuda events --type service --type container\n  remuda events -o jsonl | jq .state\n\nSee also: wait, logs"
)]
pub struct Args {
    /// Only changes of this type (service, container, host, stack, …); may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// End when nothing has changed for that long, like 30s
    #[arg(long, value_name = "TIME", value_parser = crate::globals::duration)]
    pub until_idle: Option<Duration>,
}

/// Between two attempts to subscribe again.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    // People say stack where the API says environment.
    let types: Vec<&str> =
        args.types.iter().map(|kind| if kind == "stack" { "environment" } else { kind.as_str() }).collect();
    let mut events = session.client.events().await?;
    loop {
        let next = async {
            match args.until_idle {
                Some(idle) => tokio::time::timeout(idle, events.next()).await.ok(),
                None => Some(events.next().await),
            }
        };
        let next = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(exit::INTERRUPTED);
            }
            next = next => next,
        };
        match next {
            None => return Ok(exit::DONE),
            Some(Ok(change)) => {
                if types.is_empty() || types.iter().any(|kind| kind.eq_ignore_ascii_case(&change.kind)) {
                    print(session, &change)?;
                }
            }
            Some(Err(error)) => {
                session.progress.note(&format!("{error}; subscribing again, changes meanwhile are not shown"));
                events = loop {
                    match session.client.events().await {
                        Ok(events) => break events,
                        Err(_) => tokio::time::sleep(AGAIN).await,
                    }
                };
            }
        }
    }
}

fn print(session: &Session, change: &Change) -> Result<(), Failure> {
    let resource = change.resource.clone().unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(now_ms()).map(|now| now.to_string()).unwrap_or_default();
    match session.out.format {
        Format::Id => session.out.line(&change.id),
        Format::Name => session.out.line(resource.name()),
        Format::Api => session.out.line(&resource.0.to_string()),
        Format::Json | Format::Jsonl | Format::Yaml => session.out.line(
            &json!({
                "time": time, "type": change.kind, "id": change.id, "name": resource.name(), "state": resource.state(),
                "message": resource.message(), "resource": resource.0,
            })
            .to_string(),
        ),
        Format::Table | Format::Wide => {
            let state = if change.resource.is_some() { items::state(&resource) } else { "gone" };
            let parts = [&time, &change.kind, &change.id, state, resource.name(), items::detail(&resource)];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            session.out.line(&parts.join(" "))
        }
    }
}
