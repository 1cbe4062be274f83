//! `up`, `create` and `diff`: the services of compose files, as they are to be (`compose.md` §§8–9).

use std::collections::BTreeMap;
use std::time::Duration;

use remuda_client::Resource;
use remuda_compose::{Kind, Service};
use serde_json::Value;

use crate::apply::{self, Applied, Patience, apply};
use crate::commands::images::When;
use crate::commands::{images, logs};
use crate::failure::{Failure, exit};
use crate::globals::{ProjectOptions, WaitOptions, duration, interval};
use crate::output::Format;
use crate::plan::{Goal, Plan, Step, Upgrade, Wish, Work, plan, shown};
use crate::project::{self, Project};
use crate::session::Session;
use crate::{complete, contexts, local_engine, secrets};

/// Create, upgrade and start the services of compose files.
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda up -d\n  remuda up -d web db\n  remuda up --dry-run -u\n  remuda up -d -u --batch-size 1 --start-first\n  remuda -f shop.yml -s shop up --wait\n\nSee also: diff, down, scale, upgrade, logs"
)]
pub struct Args {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services to bring up, with those they need that do not run; all when none is named
    #[arg(add = complete::project_services())]
    pub services: Vec<String>,
    /// Return when everything runs, instead of following the logs
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub wait: WaitOptions,
    /// Leave out the services the named ones need
    #[arg(long)]
    pub no_deps: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove services of the stack that the files do not have
    #[arg(long, visible_alias = "remove-orphans")]
    pub prune: bool,
    /// Containers of a service, SERVICE=N
    #[arg(long, value_name = "SERVICE=N")]
    pub scale: Vec<String>,
    /// Leave `deploy.replicas` of the files alone
    #[arg(long)]
    pub no_scale: bool,
    /// Pull images on every active host first
    #[arg(short, long)]
    pub pull: bool,
    /// Build images first, also where there are some of that name: on every active host, on this machine if it is the
    /// only one, or here to push them to their registry
    #[arg(
        long,
        value_name = "WHERE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "hosts",
        conflicts_with = "no_build"
    )]
    pub build: Option<Where>,
    /// Take images as they are on the hosts
    #[arg(long)]
    pub no_build: bool,
    #[command(flatten)]
    pub upgrade: UpgradeOptions,
}

/// Where `--build` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Where {
    /// Every active host
    Hosts,
    /// The engine of this machine, which is the only host
    Local,
    /// The engine of this machine; the image goes to the registry its name begins with
    Push,
}

/// What happens to services that are other than their file.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Upgrade options")]
pub struct UpgradeOptions {
    /// Upgrade services that differ from their file
    #[arg(short, long, alias = "recreate")]
    pub upgrade: bool,
    /// Upgrade also what does not differ: the named services, all when none is named
    #[arg(long, visible_alias = "force-recreate")]
    pub force_upgrade: bool,
    /// Confirm upgrades: containers from before are removed
    #[arg(short, long)]
    pub confirm_upgrade: bool,
    /// Go back to the containers from before the upgrade
    #[arg(short, long, conflicts_with_all = ["upgrade", "force_upgrade", "confirm_upgrade"])]
    pub rollback: bool,
    /// Containers replaced at a time [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub batch_size: Option<i64>,
    /// Pause between two batches, like 5s; a bare number is milliseconds [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub interval: Option<Duration>,
    /// Start new containers before the old ones stop
    #[arg(long)]
    pub start_first: bool,
    /// Go back by itself when new containers are not healthy for so long; 0 is never [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub rollback_after: Option<Duration>,
}

/// Longer than images take to come, shorter than people take to look.
const ROLLBACK_AFTER: Duration = Duration::from_secs(300);

/// Create the services of compose files without starting them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  remuda create\n  remuda create web\n\nSee also: up, start")]
pub struct CreateArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services to create; all when none is named
    #[arg(add = complete::project_services())]
    pub services: Vec<String>,
}

/// Show what `up --upgrade` would change.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda diff\n  remuda diff web -o json\n\nExit code 0: the same; 1: something differs. See also: up --dry-run, config"
)]
pub struct DiffArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services to compare; all when none is named
    #[arg(add = complete::project_services())]
    pub services: Vec<String>,
}

/// What happens to images before services are touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Images {
    pub pull: bool,
    pub build: When,
}

impl Images {
    /// Nothing is pulled, and built only what is not there.
    pub const MISSING: Images = Images { pull: false, build: When::Missing };
}

impl Args {
    /// What these flags ask of images.
    pub fn images(&self) -> Images {
        let build = match (self.build, self.no_build) {
            (Some(Where::Hosts), _) => When::Always,
            (Some(Where::Local), _) => When::Local,
            (Some(Where::Push), _) => When::Push,
            (None, true) => When::Never,
            (None, false) => When::Missing,
        };
        Images { pull: self.pull, build }
    }

    /// What these flags ask for.
    pub fn wish(&self) -> Result<Wish, Failure> {
        let options = &self.upgrade;
        let upgrade = match (options.force_upgrade, options.upgrade) {
            (true, _) => Upgrade::Forced(self.services.iter().cloned().collect()),
            (false, true) => Upgrade::Changed,
            (false, false) => Upgrade::No,
        };
        Ok(Wish {
            goal: Goal::Up,
            named: self.services.clone(),
            no_deps: self.no_deps,
            upgrade,
            confirm: options.confirm_upgrade,
            rollback: options.rollback,
            batch_size: options.batch_size,
            interval_ms: options.interval.map(millis),
            start_first: options.start_first,
            rollback_after_ms: Some(millis(options.rollback_after.unwrap_or(ROLLBACK_AFTER)))
                .filter(|limit| *limit > 0),
            prune: self.prune,
            scales: scales(&self.scale)?,
            no_scale: self.no_scale,
        })
    }
}

/// A time as the API takes it.
pub fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn scales(arguments: &[String]) -> Result<BTreeMap<String, i64>, Failure> {
    let one = |argument: &String| {
        let parsed = argument.split_once('=').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
        parsed.filter(|(_, number)| *number >= 0).ok_or_else(|| {
            Failure::usage(format!("`{argument}` does not say how many")).hint("write it like `--scale web=3`")
        })
    };
    arguments.iter().map(one).collect()
}

pub async fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let wish = args.wish()?;
    let (project, rows) =
        bring(session, wish, args.images(), args.wait.patience(&session.globals), args.dry_run).await?;
    let Some(rows) = rows else { return Ok(exit::DONE) };
    if args.wait.no_wait {
        rows.iter().try_for_each(|row| session.out.line(row.id()))?;
    }
    if args.detach || args.dry_run || args.wait.wait || args.wait.no_wait || session.globals.wait {
        return Ok(exit::DONE);
    }
    session.progress.note("following logs; Ctrl-C stops following, the services keep running");
    logs::follow_stack(session, &project.stack, &rows).await
}

/// Plans and applies; the rows of the services, or none when it was only shown.
pub async fn bring(
    session: &Session,
    wish: Wish,
    images: Images,
    patience: Patience,
    dry_run: bool,
) -> Result<(Project, Option<Vec<Resource>>), Failure> {
    let (mut project, mut found) = project::load_with_server(session, &wish.named).await?;
    if wish.goal != Goal::Started {
        contexts::name(&mut project.compiled.services, images.build).await?;
        if !project.compiled.secrets.is_empty() {
            if found.stack.is_none() && !dry_run {
                // They belong to the stack, and services name them by their ids.
                found.stack = Some(apply::create_stack(session, &project.stack).await?);
            }
            let stack = found.stack.as_ref().filter(|_| !dry_run);
            secrets::name(session, &mut project.compiled, stack).await?;
        }
    }
    let plan = checked(session, plan(&project.compiled, &found, &wish)).await?;
    if dry_run {
        print_steps(session, &plan)?;
        return Ok((project, None));
    }
    for warning in &plan.warnings {
        session.progress.warn(warning);
    }
    let stays: Vec<&str> = plan.strangers.iter().map(Resource::name).collect();
    if !stays.is_empty() && wish.goal == Goal::Up && wish.named.is_empty() && !session.progress.is_old() {
        session.progress.note(&format!("{} not in the file: `up --prune` removes what is not", stays.join(", ")));
    }
    prepare(session, &plan, images).await?;
    let n_services = plan.works.len();
    let does_nothing = plan.is_empty();
    let begun = format!("Project [{}]: Starting project ", project.stack);
    session.progress.old(&begun);
    let applied = apply(session, &project.stack, plan, &found, patience).await?;
    // Active is not well: a container may end again and again, and be up when its service is looked at.
    for (name, message) in session.progress.restarts() {
        session.progress.warn(&format!("{name} had to be started again: {message}; `remuda logs {name}` may tell why"));
    }
    finish(session, n_services, does_nothing, &wish, &applied);
    session.progress.old(&begun.replace("Starting project", "Project started"));
    if let Some(failure) = report(session, applied.failures) {
        return Err(failure);
    }
    Ok((project, Some(applied.rows.into_values().collect())))
}

/// Pulls and builds for the services that are about to change; all of them succeed before anything changes.
async fn prepare(session: &Session, plan: &Plan, images: Images) -> Result<(), Failure> {
    let makes = |work: &&Work| work.steps.iter().any(|step| matches!(step, Step::Create(_) | Step::Upgrade(_)));
    let changing: Vec<&Service> = plan.works.iter().filter(makes).map(|work| &work.service).collect();
    let is_built = changing.iter().any(|service| !service.builds.is_empty());
    if changing.is_empty() || !(images.pull || is_built) {
        return Ok(());
    }
    let mut failures = Vec::new();
    if images.pull {
        let hosts = images::hosts(session, &[]).await?;
        failures.extend(images::pull_on(session, &changing, &hosts, false).await);
    }
    if is_built {
        failures.extend(build(session, &changing, images.build).await?);
    }
    report(session, failures).map_or(Ok(()), Err)
}

/// Sees to it that the images of these services are built, or can be.
async fn build(session: &Session, services: &[&Service], when: When) -> Result<Vec<Failure>, Failure> {
    match when {
        When::Missing => Ok(contexts::send(session, services).await),
        When::Always => {
            let failures = contexts::send(session, services).await;
            if !failures.is_empty() {
                return Ok(failures);
            }
            let hosts = images::hosts(session, &[]).await?;
            Ok(images::build_on(session, services, &hosts, false).await)
        }
        When::Local => {
            let hosts = images::hosts(session, &[]).await?;
            let others = local_engine::others(session, &hosts).await?;
            if !others.is_empty() {
                let text = format!("`--build=local` builds here only, and {} could not run it", others.join(", "));
                return Err(Failure::usage(text).hint("`--build` builds on every active host"));
            }
            Ok(images::build_here(session, services, false).await)
        }
        When::Push => Ok(images::build_here(session, services, true).await),
        When::Never => contexts::check_known(session, services).await,
    }
}

/// Every failure but the last is printed here; that one is the command's.
pub fn report(session: &Session, mut failures: Vec<Failure>) -> Option<Failure> {
    let last = failures.pop()?;
    for failure in &failures {
        failure.print(session.globals.look());
    }
    Some(if failures.is_empty() { last } else { Failure { exit: exit::FAILED, ..last } })
}

fn finish(session: &Session, n_services: usize, does_nothing: bool, wish: &Wish, applied: &Applied) {
    let plural = if n_services == 1 { "" } else { "s" };
    let mut text = format!("{n_services} service{plural}");
    if does_nothing {
        text.push_str(", nothing to do");
    }
    for (count, word) in [(applied.n_upgraded, "upgraded"), (applied.failures.len(), "failed")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    session.progress.summary(&text);
    if applied.n_upgraded > 0 && !wish.confirm {
        session.progress.note(
            "`remuda upgrade finish .` removes the containers from before, `remuda upgrade rollback .` goes back to them",
        );
    }
}

/// The plan, when this release and this server can carry it out. Nothing was sent before.
async fn checked(session: &Session, plan: Result<Plan, Vec<Failure>>) -> Result<Plan, Failure> {
    let plan = plan.map_err(|failures| {
        Failure::all(failures).unwrap_or_else(|| Failure::new(exit::FAILED, "there is no plan, and no reason why"))
    })?;
    let mut problems = Vec::new();
    let mut known: BTreeMap<&str, bool> = BTreeMap::new();
    for service in plan.works.iter().map(|work| &work.service) {
        let mut refuse =
            |what: String| problems.push(Failure::usage(format!("{}: {}: {what}", service.place, service.name)));
        let resource = service.kind.resource();
        if service.kind != Kind::Service {
            let is_known = match known.get(resource) {
                Some(is_known) => *is_known,
                None => session.client.by_id("schemas", resource).await?.is_some(),
            };
            known.insert(resource, is_known);
            if !is_known {
                refuse(format!("this server has no {resource} yet"));
            }
        }
    }
    Failure::all(problems).map_or(Ok(plan), Err)
}

fn print_steps(session: &Session, plan: &Plan) -> Result<(), Failure> {
    let all = shown(plan);
    if !matches!(session.out.format, Format::Table | Format::Wide) {
        return session.out.object(&all.iter().map(crate::plan::Shown::json).collect::<Value>());
    }
    if plan.is_empty() {
        session.progress.note("nothing to do");
    }
    if plan.creates_stack {
        session.out.line("create the stack")?;
    }
    let width = all.iter().map(|shown| shown.service.chars().count()).max().unwrap_or(0);
    for shown in all.iter().filter(|shown| !shown.steps.is_empty()) {
        session.out.line(&format!("{:width$}  {}", shown.service, shown.steps.join(", ")))?;
        for line in &shown.lines {
            session.out.line(&format!("{:width$}    {line}", ""))?;
        }
    }
    plan.warnings.iter().for_each(|warning| session.progress.warn(warning));
    Ok(())
}

pub async fn create(session: &Session, args: CreateArgs) -> Result<u8, Failure> {
    let wish = Wish { goal: Goal::Created, named: args.services, ..Wish::default() };
    bring(session, wish, Images::MISSING, Patience::Settled, false).await?;
    Ok(exit::DONE)
}

pub async fn diff(session: &Session, args: DiffArgs) -> Result<u8, Failure> {
    let (mut project, found) = project::load_with_server(session, &args.services).await?;
    contexts::name(&mut project.compiled.services, When::Missing).await?;
    secrets::name(session, &mut project.compiled, None).await?;
    let wish = Wish { named: args.services, no_deps: true, upgrade: Upgrade::No, ..Wish::default() };
    let plan = plan(&project.compiled, &found, &wish).map_err(|failures| {
        Failure::all(failures).unwrap_or_else(|| Failure::new(exit::FAILED, "there is nothing to compare"))
    })?;
    let mut all = shown(&plan);
    if !wish.named.is_empty() {
        all.retain(|shown| shown.change != "not in the file");
    }
    let differs = all.iter().any(|shown| shown.change != "unchanged");
    if matches!(session.out.format, Format::Table | Format::Wide) {
        for shown in &all {
            session.out.line(&shown.title())?;
            for line in &shown.lines {
                session.out.line(&format!("  {line}"))?;
            }
        }
    } else {
        session.out.object(&all.iter().map(crate::plan::Shown::json).collect::<Value>())?;
    }
    Ok(if differs { exit::FAILED } else { exit::DONE })
}
