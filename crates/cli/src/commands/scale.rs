//! `scale`: how many containers a service has.

use futures_util::future::join_all;
use remuda_client::Resource;
use remuda_client::wait::{Change, Verdict, settled};
use serde_json::json;

use crate::apply::{Patience, healthy};
use crate::commands::up::report;
use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::WaitOptions;
use crate::items::is_global;
use crate::resolve::Kind;
use crate::session::Session;

/// Change the number of containers of services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda scale web=3\n  remuda scale shop/web=+1 shop/api=2\n\nSee also: up, ps")]
pub struct Args {
    /// SERVICE=N, or SERVICE=+N and SERVICE=-N relative to now
    #[arg(required = true, value_name = "SERVICE=N", add = complete::scales())]
    pub services: Vec<String>,
    #[command(flatten)]
    pub wait: WaitOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Exactly(i64),
    By(i64),
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    // All arguments are checked before anything changes.
    let mut work = Vec::new();
    for argument in &args.services {
        let (name, target) = parse(argument)?;
        let service = session.resolve(name, &[Kind::Service]).await?;
        if is_global(&service) {
            let message = format!("{} is global: it has one container on every host", service.title());
            return Err(Failure::usage(message).hint("labels of hosts and of the service decide which hosts"));
        }
        let scale = match target {
            Target::Exactly(scale) => scale,
            Target::By(change) => (service.int("scale").unwrap_or(0) + change).max(0),
        };
        work.push((service, scale));
    }
    let patience = args.wait.patience(&session.globals);
    let outcomes = work.iter().map(async |(service, scale)| one(session, service, *scale, patience).await);
    let outcomes = join_all(outcomes).await;
    report(session, outcomes.into_iter().filter_map(Result::err).collect()).map_or(Ok(exit::DONE), Err)
}

/// Gives one service a scale and waits for it.
pub async fn one(session: &Session, service: &Resource, scale: i64, patience: Patience) -> Result<(), Failure> {
    let name = service.name();
    session.progress.old(&format!("Setting scale {name}={scale}..."));
    session.progress.say(name, "scaling", Some(&format!("to {scale}")));
    let watch = |row: &Resource| session.progress.row(name, row);
    let body = json!({"scale": scale});
    let limit = session.globals.timeout();
    let service = session.client.change(service, Change::Update(&body), limit, watch).await?;
    if patience == Patience::None {
        return session.out.line(service.id());
    }
    let there = |row: &Resource| match settled(row) {
        Verdict::Done if row.int("scale") != Some(scale) => Verdict::NotYet,
        Verdict::Done if patience == Patience::Healthy => healthy(row),
        verdict => verdict,
    };
    session.client.wait(&service, limit, there, watch).await?;
    session.progress.done(name, &format!("scale {scale}"), true);
    Ok(())
}

/// `web=3` of the old command line, which knows no relative numbers.
pub fn exactly(argument: &str) -> Result<(&str, i64), Failure> {
    match parse(argument)? {
        (name, Target::Exactly(scale)) => Ok((name, scale)),
        (_, Target::By(_)) => Err(Failure::usage(format!("`{argument}` does not say how many; write it like web=3"))),
    }
}

fn parse(argument: &str) -> Result<(&str, Target), Failure> {
    let wrong =
        || Failure::usage(format!("`{argument}` does not say how many")).hint("write it like web=3, web=+1 or web=-1");
    let (name, number) = argument.rsplit_once('=').ok_or_else(wrong)?;
    let relative = number.starts_with(['+', '-']);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    if name.is_empty() {
        return Err(wrong());
    }
    Ok((name, if relative { Target::By(number) } else { Target::Exactly(number) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        for (text, expected) in [
            ("web=3", ("web", Target::Exactly(3))),
            ("s/web=+1", ("s/web", Target::By(1))),
            ("web=-2", ("web", Target::By(-2))),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        for wrong in ["web", "web=", "=3", "web=x", "s/web"] {
            assert_eq!(parse(wrong).expect_err(wrong).exit, exit::USAGE);
        }
    }
}
