//! `wait`: until something is as wanted.

use futures_util::future::join_all;
use remuda_client::wait::Verdict;
use remuda_client::{Error, Resource};

use crate::complete;
use crate::failure::{Failure, exit};
use crate::resolve::Kind;
use crate::session::Session;

/// Wait until things are as wanted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda wait shop/web\n  remuda wait --for removed 1i42 --timeout 2m\n  remuda wait --for stopped container:job\n\nExit code 5 when the time is over. See also: events, ps"
)]
pub struct Args {
    /// Services, stacks, containers, hosts or volumes
    #[arg(required = true, value_name = "NAME", add = complete::things())]
    pub names: Vec<String>,
    /// What to wait for [default: the good resting state of its kind]
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub goal: Option<Goal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Goal {
    Active,
    Inactive,
    /// Every health check passes; where there is none: active or running
    Healthy,
    Running,
    Stopped,
    Removed,
    Upgraded,
    /// Every container of a start-once service has ended
    Completed,
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let mut resources = Vec::new();
    for name in &args.names {
        match session.resolve(name, Kind::ALL).await {
            Ok(resource) => resources.push(resource),
            // What is gone is removed.
            Err(failure) if failure.exit == exit::NOT_FOUND && args.goal == Some(Goal::Removed) => {}
            Err(failure) => return Err(failure),
        }
    }
    let outcomes = join_all(resources.iter().map(|resource| one(session, resource, args.goal))).await;
    for outcome in outcomes {
        outcome?;
    }
    Ok(exit::DONE)
}

async fn one(session: &Session, resource: &Resource, goal: Option<Goal>) -> Result<(), Failure> {
    let is_job =
        resource.get("launchConfig").pointer("/labels/io.rancher.container.start_once") == Some(&"true".into());
    let goal = goal.unwrap_or(match resource.kind() {
        "container" if is_start_once(resource) => Goal::Stopped,
        "container" => Goal::Running,
        _ if is_job => Goal::Completed,
        _ => Goal::Active,
    });
    let name = resource.title();
    let watch = |row: &Resource| {
        session.progress.say(&name, row.state(), row.message().filter(|_| row.is_transitioning()));
    };
    match session.client.wait(resource, session.globals.timeout(), |row| judge(row, goal), watch).await {
        Ok(row) => {
            session.progress.done(&name, row.state(), true);
            Ok(())
        }
        Err(error) if error.is_not_found() && goal == Goal::Removed => Ok(()),
        Err(error) => {
            session.progress.done(&name, resource.state(), false);
            let state_forbids = matches!(error, Error::Failed { .. });
            let failure = Failure::from(error);
            Err(if state_forbids { failure.hint("`remuda inspect` shows it in full") } else { failure })
        }
    }
}

/// A container that is to end by itself.
fn is_start_once(container: &Resource) -> bool {
    container.get("labels").get("io.rancher.container.start_once") == Some(&"true".into())
}

/// Whether the goal is reached, or cannot be any more.
fn judge(row: &Resource, goal: Goal) -> Verdict {
    let state = row.state();
    let gone = matches!(state, "removed" | "purging" | "purged") || !row.get("removed").is_null();
    let reached = match goal {
        Goal::Active => state == "active" || (row.kind() == "container" && state == "running"),
        Goal::Inactive => state == "inactive",
        Goal::Running => state == "running" || (row.kind() != "container" && state == "active"),
        Goal::Stopped => state == "stopped" || state == "inactive",
        Goal::Removed => gone,
        Goal::Completed => state == "active" && row.text("healthState") == "started-once",
        Goal::Upgraded => state == "upgraded",
        Goal::Healthy => matches!(state, "active" | "running") && matches!(row.text("healthState"), "" | "healthy"),
    };
    if reached && (goal == Goal::Removed || !row.is_transitioning()) {
        Verdict::Done
    } else if gone {
        Verdict::Failed("it was removed".to_owned())
    } else if row.has_failed() {
        Verdict::Failed(row.message().unwrap_or("no reason was given").to_owned())
    } else {
        Verdict::NotYet
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn goals_are_reached_missed_or_still_possible() {
        let done = || Verdict::Done;
        let not_yet = || Verdict::NotYet;
        let cases = [
            (json!({"type": "service", "state": "active", "transitioning": "no"}), Goal::Active, done()),
            (json!({"type": "service", "state": "updating-active", "transitioning": "yes"}), Goal::Active, not_yet()),
            (json!({"type": "container", "state": "stopped", "transitioning": "no"}), Goal::Running, not_yet()),
            (json!({"type": "container", "state": "stopped", "transitioning": "no"}), Goal::Stopped, done()),
            (json!({"type": "service", "state": "active", "healthState": "degraded"}), Goal::Healthy, not_yet()),
            (json!({"type": "service", "state": "active", "healthState": "healthy"}), Goal::Healthy, done()),
            (json!({"type": "service", "state": "removed", "transitioning": "no"}), Goal::Removed, done()),
            (json!({"type": "service", "state": "upgrading", "transitioning": "yes"}), Goal::Upgraded, not_yet()),
            (json!({"type": "service", "state": "upgraded", "transitioning": "no"}), Goal::Upgraded, done()),
            (json!({"type": "service", "state": "active", "healthState": "started-once"}), Goal::Completed, done()),
            (json!({"type": "service", "state": "active", "healthState": "healthy"}), Goal::Completed, not_yet()),
            (json!({"type": "service", "state": "removed"}), Goal::Active, Verdict::Failed("it was removed".into())),
            (
                json!({"type": "container", "state": "error", "transitioning": "error", "transitioningMessage": "no such image"}),
                Goal::Running,
                Verdict::Failed("no such image".into()),
            ),
        ];
        for (row, goal, verdict) in cases {
            assert_eq!(judge(&Resource(row.clone()), goal), verdict, "{row} {goal:?}");
        }
    }
}
