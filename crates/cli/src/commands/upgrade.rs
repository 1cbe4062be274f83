//! `upgrade`: one service replaced by another, an image replaced in place, and what becomes of upgrades.

use std::collections::BTreeMap;
use std::time::Duration;

use remuda_client::Resource;
use remuda_client::wait::{Change, Verdict, settled};
use remuda_compose::hash::HASH_KEY;
use remuda_model::image;
use serde_json::{Value, json};

use crate::apply::{Patience, remove};
use crate::commands::lifecycle::each;
use crate::commands::up::{Images, bring, millis};
use crate::complete;
use crate::failure::{Failure, exit};
use crate::globals::{ProjectOptions, WaitOptions, interval};
use crate::items::{self, Names};
use crate::output::{ListOptions, Section};
use crate::plan::{self, Wish};
use crate::project;
use crate::resolve::Kind;
use crate::session::{Session, now_ms};
use crate::watch;

/// Replace a service by another, or its image; confirm or roll back upgrades.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  remuda upgrade web1 web2              # move from one service of the file to another\n  remuda upgrade shop/web --image nginx:1.27\n  remuda upgrade status\n  remuda upgrade finish shop/web\n  remuda upgrade rollback .\n\nSee also: up --upgrade, diff"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// FROM and TO, both in the compose file; or one service with --image
    #[arg(required = true, num_args = 1..=2, value_name = "SERVICE", add = complete::services())]
    pub services: Vec<String>,
    /// Image that replaces the service's, in place
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Variables to set with the new image, KEY=VALUE
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "image")]
    pub set: Vec<String>,
    /// Containers replaced at a time
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(i64).range(1..))]
    pub batch_size: i64,
    /// Pause between two batches, like 5s; a bare number is milliseconds
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub interval: Duration,
    /// Start new containers before the old ones stop (with --image)
    #[arg(long, requires = "image")]
    pub start_first: bool,
    /// Containers TO has in the end; -1: as many as FROM has
    #[arg(long, default_value = "-1", allow_hyphen_values = true, value_name = "N")]
    pub scale: i64,
    /// Services that link to FROM get links to TO
    #[arg(long, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    pub update_links: bool,
    /// Remove FROM when it is empty
    #[arg(short, long)]
    pub cleanup: bool,
    #[command(flatten)]
    pub wait: WaitOptions,
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Args {
    /// Of these services, as the command line has it without flags.
    pub fn of(services: Vec<String>) -> Args {
        Args {
            project: ProjectOptions::default(),
            services,
            image: None,
            set: Vec::new(),
            batch_size: 2,
            interval: Duration::from_secs(2),
            start_first: false,
            scale: -1,
            update_links: true,
            cleanup: false,
            wait: WaitOptions::default(),
            command: None,
        }
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Confirm upgrades: the containers from before are removed
    #[command(visible_alias = "confirm")]
    Finish(Things),
    /// Go back to the containers from before
    Rollback(Things),
    /// Halt upgrades, or roll-backs, that are under way
    Cancel(Things),
    /// List services that are being upgraded or wait for a decision
    Status(ListOptions),
}

#[derive(Debug, clap::Args)]
pub struct Things {
    /// Services, or stacks for those of their services it concerns
    #[arg(required = true, value_name = "NAME", add = complete::running())]
    names: Vec<String>,
}

/// What becomes of an upgrade, and in which states of a service that can be said.
struct Decision {
    word: &'static str,
    actions: &'static [(&'static str, &'static [&'static str])],
}

const FINISH: Decision =
    Decision { word: "confirm", actions: &[("finishupgrade", &["upgraded", "canceled-upgrade", "canceled-rollback"])] };
const ROLLBACK: Decision = Decision { word: "roll back", actions: &[("rollback", &["upgraded", "canceled-upgrade"])] };
const CANCEL: Decision =
    Decision { word: "cancel", actions: &[("cancelupgrade", &["upgrading"]), ("cancelrollback", &["rolling-back"])] };

/// States in which somebody may want to decide something.
const OPEN: &[&str] = &[
    "upgrading",
    "upgraded",
    "canceling-upgrade",
    "canceled-upgrade",
    "rolling-back",
    "canceling-rollback",
    "canceled-rollback",
    "finishing-upgrade",
];

impl Decision {
    fn action(&self, row: &Resource) -> Option<&'static str> {
        self.actions.iter().find(|(_, states)| states.contains(&row.state())).map(|(action, _)| *action)
    }
}

pub async fn run(session: &Session, mut args: Args) -> Result<u8, Failure> {
    let decide = async |decision: &Decision, things: Things| {
        each(session, &things.names, async |name| decide(session, decision, name).await).await
    };
    match (args.command.take(), &args.services[..]) {
        (Some(Command::Finish(things)), _) => decide(&FINISH, things).await,
        (Some(Command::Rollback(things)), _) => decide(&ROLLBACK, things).await,
        (Some(Command::Cancel(things)), _) => decide(&CANCEL, things).await,
        (Some(Command::Status(options)), _) => watch::list(session, &options, async || status(session).await).await,
        (None, [service]) => match &args.image {
            Some(image) => in_place(session, service, image, &args).await,
            None => Err(Failure::usage(format!("`upgrade {service}` does not say to what"))
                .hint("`upgrade FROM TO` moves to another service, `--image IMAGE` replaces the image")),
        },
        (None, [_, _]) if args.image.is_some() => Err(Failure::usage("`--image` takes one service")),
        (None, [from, to]) => to_service(session, from, to, &args).await,
        (None, _) => Err(Failure::usage("`upgrade` takes one or two services")),
    }
}

async fn decide(session: &Session, decision: &Decision, name: &str) -> Result<(), Failure> {
    let thing = session.resolve(name, &[Kind::Service, Kind::Stack]).await?;
    if thing.kind() != "environment" {
        let Some(action) = decision.action(&thing) else {
            let message = format!("{} is {}: there is no upgrade to {}", thing.title(), thing.state(), decision.word);
            return Err(Failure::new(exit::STATE, message).about(&thing));
        };
        return act(session, thing.name(), &thing, action).await;
    }
    let services = session.client.list("services", &[("environmentId", thing.id()), ("removed_null", "true")]).await?;
    let due: Vec<(&Resource, &str)> =
        services.iter().filter_map(|row| decision.action(row).map(|action| (row, action))).collect();
    if due.is_empty() {
        session.progress.note(&format!("{}: there is no upgrade to {}", thing.title(), decision.word));
    }
    let acts = due
        .into_iter()
        .map(async |(row, action)| act(session, &format!("{}/{}", thing.name(), row.name()), row, action).await);
    let outcomes = futures_util::future::join_all(acts).await;
    crate::commands::up::report(session, outcomes.into_iter().filter_map(Result::err).collect()).map_or(Ok(()), Err)
}

async fn act(session: &Session, title: &str, row: &Resource, action: &str) -> Result<(), Failure> {
    let watch = |row: &Resource| session.progress.row(title, row);
    let limit = session.globals.timeout();
    let row = session.client.change(row, Change::Action(action, &Value::Null), limit, watch).await?;
    let row = session.client.wait(&row, limit, settled, watch).await?;
    session.progress.done(title, row.state(), true);
    Ok(())
}

async fn status(session: &Session) -> Result<Vec<Section>, Failure> {
    let client = &session.client;
    let mut services = client.list("services", &[("removed_null", "true")]).await?;
    services.retain(|service| OPEN.contains(&service.state()));
    let names = Names::read(client).await?;
    services.sort_by_key(|row| names.of_service(row));
    let running = items::running(&client.list("containers", &[("removed_null", "true"), ("state", "running")]).await?);
    let items = services.iter().map(|row| items::service(row, &names, &running, now_ms())).collect();
    Ok(vec![Section { columns: items::SERVICES, items }])
}

/// The service as it is, with another image.
async fn in_place(session: &Session, name: &str, image: &str, args: &Args) -> Result<u8, Failure> {
    let row = session.resolve(name, &[Kind::Service]).await?;
    let config = with_image(row.get("launchConfig"), image, &args.set)?;
    let input = json!({"inServiceStrategy": {
        "batchSize": args.batch_size, "intervalMillis": millis(args.interval), "startFirst": args.start_first,
        "launchConfig": config,
    }});
    let title = row.name().to_owned();
    let row = begin(session, &title, &row, &input).await?;
    if args.wait.no_wait {
        session.out.line(row.id())?;
        return Ok(exit::DONE);
    }
    end(session, &title, &row, args.wait.patience(&session.globals)).await?;
    let after = format!(
        "`remuda upgrade finish {name}` removes the containers from before, `remuda upgrade rollback {name}` goes back to them"
    );
    session.progress.note(&after);
    Ok(exit::DONE)
}

/// Without the mark of the file it came from: it is not what that says any more.
fn with_image(config: &Value, image: &str, set: &[String]) -> Result<Value, Failure> {
    let mut config = config.clone();
    config["imageUuid"] = image::uuid_of(image).into();
    if let Some(labels) = config["labels"].as_object_mut() {
        labels.remove(HASH_KEY);
    }
    for pair in set {
        let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("`{pair}` is not KEY=VALUE")))?;
        if !config["environment"].is_object() {
            config["environment"] = json!({});
        }
        config["environment"][key] = value.into();
    }
    Ok(config)
}

async fn begin(session: &Session, title: &str, row: &Resource, input: &Value) -> Result<Resource, Failure> {
    let watch = |row: &Resource| session.progress.row(title, row);
    let limit = session.globals.timeout();
    Ok(session.client.change(row, Change::Action("upgrade", input), limit, watch).await?)
}

async fn end(session: &Session, title: &str, row: &Resource, patience: Patience) -> Result<Resource, Failure> {
    let watch = |row: &Resource| session.progress.row(title, row);
    let judge = |row: &Resource| match settled(row) {
        Verdict::Done if patience == Patience::Healthy => crate::apply::healthy(row),
        verdict => verdict,
    };
    let row = session.client.wait(row, session.globals.timeout(), judge, watch).await?;
    session.progress.done(title, row.state(), true);
    Ok(row)
}

/// FROM gives its containers up as TO gets its own (`cli.md` §2.2).
async fn to_service(session: &Session, from: &str, to: &str, args: &Args) -> Result<u8, Failure> {
    let (project, found) = project::load_with_server(session, &[]).await?;
    for name in [from, to] {
        let Some(service) = project.compiled.services.iter().find(|service| service.name == name) else {
            let known: Vec<&str> = project.compiled.services.iter().map(|service| service.name.as_str()).collect();
            return Err(plan::no_such_service(name, &known));
        };
        let labels = service.api.get("launchConfig").map(|config| &config["labels"]);
        if labels.is_some_and(|labels| labels["io.rancher.scheduler.global"] == "true") {
            return Err(Failure::usage(format!("{name} is global, and only services with a scale can be moved")));
        }
    }
    let row = |name: &str| found.services.iter().find(|row| row.name().eq_ignore_ascii_case(name));
    let Some(old) = row(from) else {
        let message = format!("service {from} is not on the server, so there is nothing to move");
        return Err(Failure::new(exit::NOT_FOUND, message));
    };
    let scales = if row(to).is_none() { BTreeMap::from([(to.to_owned(), 0)]) } else { BTreeMap::new() };
    let wish = Wish { named: vec![to.to_owned()], no_deps: true, no_scale: true, scales, ..Wish::default() };
    let (_, rows) = bring(session, wish, Images::MISSING, Patience::Settled, false).await?;
    let Some(new) = rows.into_iter().flatten().find(|row| row.name().eq_ignore_ascii_case(to)) else {
        return Err(Failure::new(exit::FAILED, format!("service {to} is not there after it was brought up")));
    };
    let scale = if args.scale < 0 { old.int("scale").unwrap_or(1) } else { args.scale };
    session.progress.old(&format!("Upgrading {from} to {to}, scale={scale}"));
    let input = json!({"toServiceStrategy": {
        "toServiceId": new.id(), "finalScale": scale, "batchSize": args.batch_size,
        "intervalMillis": millis(args.interval), "updateLinks": args.update_links,
    }});
    let row = begin(session, from, old, &input).await?;
    if args.wait.no_wait && !args.cleanup {
        return Ok(exit::DONE);
    }
    let row = end(session, from, &row, Patience::Settled).await?;
    if args.cleanup {
        if row.int("scale") != Some(0) {
            session.progress.warn(&format!("{from} was not removed: its scale is {}, not 0", row.get("scale")));
            return Ok(exit::DONE);
        }
        remove(session, from, &row).await?;
    } else {
        session
            .progress
            .note(&format!("`remuda upgrade finish {from}` confirms it, `remuda rm {from}` removes what is left"));
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_image_keeps_everything_but_the_mark_of_the_file() {
        let config = json!({
            "imageUuid": "docker:nginx:1", "environment": {"A": "1"}, "labels": {"a": "b", HASH_KEY: "r1-0"},
        });
        let set = ["B=x=y".to_owned()];
        let new = with_image(&config, "nginx:2", &set).expect("sets");
        let expected =
            json!({"imageUuid": "docker:nginx:2", "environment": {"A": "1", "B": "x=y"}, "labels": {"a": "b"}});
        assert_eq!(new, expected);
        assert_eq!(with_image(&json!({}), "sim:x", &set).expect("sets")["environment"]["B"], "x=y");
        assert_eq!(with_image(&config, "nginx:2", &["B".to_owned()]).expect_err("no value").exit, exit::USAGE);
    }

    #[test]
    fn each_state_has_its_decisions() {
        let row = |state: &str| Resource(json!({"type": "service", "state": state}));
        for (state, finish, rollback, cancel) in [
            ("upgraded", Some("finishupgrade"), Some("rollback"), None),
            ("upgrading", None, None, Some("cancelupgrade")),
            ("rolling-back", None, None, Some("cancelrollback")),
            ("canceled-rollback", Some("finishupgrade"), None, None),
            ("active", None, None, None),
        ] {
            let found = [&FINISH, &ROLLBACK, &CANCEL].map(|decision| decision.action(&row(state)));
            assert_eq!(found, [finish, rollback, cancel], "{state}");
        }
    }
}
