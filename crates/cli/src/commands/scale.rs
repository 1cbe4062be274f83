//! `scale`: how many containers a service has.

use remuda_client::Resource;
use remuda_client::wait::{Change, Verdict, settled};
use serde_json::json;

use crate::complete;
use crate::failure::{Failure, exit};
use crate::resolve::Kind;
use crate::session::Session;

/// Change the number of containers of services.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda scale web=3\n  remuda scale shop/web=+1 shop/api=2\n\nSee also: up, ps")]
pub struct Args {
    /// SERVICE=N, or SERVICE=+N and SERVICE=-N relative to now
    #[arg(required = true, value_name = "SERVICE=N", add = complete::scales())]
    services: Vec<String>,
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
        let scale = match target {
            Target::Exactly(scale) => scale,
            Target::By(change) => (service.int("scale").unwrap_or(0) + change).max(0),
        };
        work.push((service, scale));
    }
    for (service, scale) in work {
        let name = service.name().to_owned();
        session.progress.say(&name, "scaling", Some(&format!("to {scale}")));
        let watch =
            |row: &Resource| session.progress.say(&name, row.state(), row.message().filter(|_| row.is_transitioning()));
        let body = json!({"scale": scale});
        let service = session.client.change(&service, Change::Update(&body), session.globals.timeout(), watch).await?;
        let there = |row: &Resource| if row.int("scale") == Some(scale) { settled(row) } else { Verdict::NotYet };
        session.client.wait(&service, session.globals.timeout(), there, watch).await?;
        session.progress.done(&name, &format!("scale {scale}"), true);
    }
    Ok(exit::DONE)
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
