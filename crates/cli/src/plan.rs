//! What a project command does, decided before anything is done: the files and what the server has, to steps.
//!
//! Pure. [`plan`] is what `up`, `up --dry-run`, `create`, `start` and `diff` have in common, so that what is shown is
//! what is done (`compose.md` §§8–9). [`crate::found`] reads what the server has, [`crate::apply`] takes the steps.

mod show;

use std::collections::{BTreeMap, BTreeSet};

use remuda_client::Resource;
use remuda_compose::diff::NO_IMAGE;
use remuda_compose::{Condition, Diff, Kind, Link, Project, Service, diff};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, exit};

pub use show::{Shown, shown};

/// How far a command takes the services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// They exist and stay as they are: `create`.
    Created,
    /// Those that exist run: `start`.
    Started,
    /// They exist and run: `up`.
    #[default]
    Up,
}

/// What happens to services that are other than their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, but a warning.
    #[default]
    No,
    Changed,
    /// These are replaced whether they changed or not; services and sidekicks, all when none is named.
    Forced(BTreeSet<String>),
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub goal: Goal,
    /// Services that were named; all when empty.
    pub named: Vec<String>,
    /// The services the named ones need are left out.
    pub no_deps: bool,
    pub upgrade: Upgrade,
    /// Upgrades are finished, also the one made now.
    pub confirm: bool,
    pub rollback: bool,
    pub batch_size: Option<i64>,
    pub interval_ms: Option<i64>,
    pub start_first: bool,
    /// An upgrade whose new containers are not healthy for so long goes back by itself.
    pub rollback_after_ms: Option<i64>,
    /// Services of the stack that the files do not have are removed.
    pub prune: bool,
    pub scales: BTreeMap<String, i64>,
    /// The files' `deploy.replicas` is left alone.
    pub no_scale: bool,
}

/// What the server has.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub stack: Option<Resource>,
    /// The live services of the stack.
    pub services: Vec<Resource>,
    /// Explicit links, by id of the service that has them.
    pub links: BTreeMap<String, Vec<FoundLink>>,
    /// Services of other stacks that the files name, by stack and name.
    pub elsewhere: BTreeMap<(String, String), Resource>,
}

/// A link as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLink {
    pub target_id: String,
    pub alias: Option<String>,
    /// Rules, of a load balancer's link.
    pub ports: Vec<String>,
}

/// One thing to do to a service. What it starts is waited for before the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create(Value),
    /// All links it has from now on.
    Link(Vec<LinkTo>),
    /// Fields of the service itself.
    Update(Value),
    /// Input of the action.
    Upgrade(Value),
    Finish,
    Rollback,
    Scale(i64),
    Activate,
    /// Nothing is asked for, but something is under way, or has failed.
    Settle,
    /// Because something it depends on was upgraded.
    Restart(Value),
}

/// A link to write. Targets made in the same run have no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTo {
    pub target: Target,
    pub alias: Option<String>,
    /// Rules, of a load balancer's link.
    pub ports: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(String),
    /// A service of the plan, by name.
    Planned(String),
}

/// What is to be done about one service.
#[derive(Clone, Debug)]
pub struct Work {
    pub service: Service,
    pub row: Option<Resource>,
    /// How it differs from its file; none when it is missing.
    pub diff: Option<Diff>,
    pub steps: Vec<Step>,
    /// Services of the plan that come first, and what of them is waited for.
    pub after: Vec<(String, Condition)>,
}

/// Everything to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The stack is made first.
    pub creates_stack: bool,
    /// In an order in which each comes after those it needs, as far as there is one.
    pub works: Vec<Work>,
    pub removed: Vec<Resource>,
    /// Services of the stack that the files do not have, and that stay.
    pub strangers: Vec<Resource>,
    pub warnings: Vec<String>,
}

impl Plan {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        !self.creates_stack && self.removed.is_empty() && self.works.iter().all(|work| work.steps.is_empty())
    }
}

/// Plans, or says everything that is in the way.
pub fn plan(project: &Project, found: &Found, wish: &Wish) -> Result<Plan, Vec<Failure>> {
    let mut failures = unknown(project, wish);
    if !failures.is_empty() {
        return Err(failures);
    }
    let named: Vec<&Service> =
        project.services.iter().filter(|service| wish.named.is_empty() || names(service, &wish.named)).collect();
    let chosen = with_needed(project, &named, found, wish);
    let mut plan = Plan { creates_stack: found.stack.is_none() && wish.goal != Goal::Started, ..Plan::default() };
    for service in &chosen {
        let is_named = named.iter().any(|other| other.name == service.name);
        match work(project, service, is_named, &chosen, found, wish) {
            Ok((work, warning)) => {
                plan.warnings.extend(warning);
                plan.works.push(work);
            }
            Err(failure) => failures.push(failure),
        }
    }
    restart_dependants(&mut plan);
    let is_ours = |row: &Resource| project.services.iter().any(|service| is(row, &service.name));
    let strangers = found.services.iter().filter(|row| !is_ours(row)).cloned().collect();
    if wish.prune {
        plan.removed = strangers;
    } else {
        plan.strangers = strangers;
    }
    if failures.is_empty() { Ok(plan) } else { Err(failures) }
}

/// A name that the files do not have; `known` are those they have.
pub fn no_such_service(name: &str, known: &[&str]) -> Failure {
    Failure::usage(format!("No such service: {name}; the files have {}", known.join(", ")))
}

/// Whether the service, or a sidekick of it, is one of these.
pub fn names(service: &Service, names: &[String]) -> bool {
    names.iter().any(|name| *name == service.name || service.sidekicks.contains(name))
}

fn is(row: &Resource, name: &str) -> bool {
    row.name().eq_ignore_ascii_case(name)
}

/// Every name of the wish that the files do not have.
fn unknown(project: &Project, wish: &Wish) -> Vec<Failure> {
    let known: Vec<&str> = project.services.iter().map(|service| service.name.as_str()).collect();
    let sidekicks = project.services.iter().flat_map(|service| service.sidekicks.iter().map(String::as_str));
    let all: Vec<&str> = known.iter().copied().chain(sidekicks).collect();
    let named = wish.named.iter().filter(|name| !all.contains(&name.as_str()));
    let scaled = wish.scales.keys().filter(|name| !known.contains(&name.as_str()));
    named.chain(scaled).map(|name| no_such_service(name, &all)).collect()
}

/// The named services, and those they need that do not run yet, in the order of the project.
fn with_needed<'a>(project: &'a Project, named: &[&'a Service], found: &Found, wish: &Wish) -> Vec<&'a Service> {
    let mut wanted: Vec<&str> = named.iter().map(|service| service.name.as_str()).collect();
    let runs = |name: &str| found.services.iter().any(|row| is(row, name) && row.state() != "inactive");
    if !wish.no_deps && wish.goal == Goal::Up && !wish.rollback {
        let mut idx = 0;
        while let Some(name) = wanted.get(idx).copied() {
            let service = project.services.iter().find(|service| service.name == name);
            for needed in service.iter().flat_map(|service| service.needs()) {
                if !wanted.contains(&needed) && !runs(needed) {
                    wanted.push(needed);
                }
            }
            idx += 1;
        }
    }
    project.services.iter().filter(|service| wanted.contains(&service.name.as_str())).collect()
}

/// The steps of one service, and what to warn of.
fn work(
    project: &Project,
    service: &Service,
    is_named: bool,
    chosen: &[&Service],
    found: &Found,
    wish: &Wish,
) -> Result<(Work, Option<String>), Failure> {
    let after = after(service, chosen);
    let Some(row) = found.services.iter().find(|row| is(row, &service.name)) else {
        let work = Work { service: service.clone(), row: None, diff: None, steps: Vec::new(), after };
        return missing(project, work, found, wish).map(|work| (work, None));
    };
    let existing = links_of(row, found);
    let diff = diff(service, &row.0).with_links(service, &existing);
    let mut steps = Vec::new();
    let mut warning = None;
    if wish.rollback {
        if !matches!(row.state(), "upgraded" | "canceled-upgrade") {
            let message = format!("{} is {}: there is no upgrade to roll back", row.title(), row.state());
            return Err(Failure::new(exit::STATE, message).about(row));
        }
        steps.push(Step::Rollback);
        return Ok((Work { service: service.clone(), row: Some(row.clone()), diff: Some(diff), steps, after }, None));
    }
    if writes_links(service, row, &existing, wish.goal) && diff.links {
        steps.push(Step::Link(links(project, service, found)?));
    }
    let asked = if is_named { wish.upgrade.clone() } else { Upgrade::No };
    let input = upgrade_input(service, row, &diff, &asked, wish);
    let differs = diff.service || diff.needs_upgrade();
    match asked {
        Upgrade::No if differs && !diff.is_unmarked && wish.goal == Goal::Up && is_named => {
            warning = Some(format!(
                "{} differs from its file and is left as it is; `remuda diff` shows how, `remuda up -u` upgrades it",
                service.name
            ));
        }
        Upgrade::No => {}
        Upgrade::Changed | Upgrade::Forced(_) => {
            let is_upgraded = matches!(row.state(), "upgraded");
            if (diff.service || input.is_some()) && is_upgraded {
                steps.push(Step::Finish);
            }
            if diff.service {
                steps.push(Step::Update(fields(service, &diff)));
            }
            if let Some(input) = input {
                may_upgrade(row)?;
                steps.push(Step::Upgrade(input));
            }
        }
    }
    let ends_upgraded = steps.iter().any(|step| matches!(step, Step::Upgrade(_)));
    let is_upgraded = row.state() == "upgraded" && !steps.contains(&Step::Finish);
    if wish.confirm && (ends_upgraded || is_upgraded) {
        steps.push(Step::Finish);
    }
    if let Some(scale) = scale(service, wish)
        && row.int("scale") != Some(scale)
        && wish.goal == Goal::Up
    {
        steps.push(Step::Scale(scale));
    }
    // An upgrade ends with a service that runs.
    if wish.goal != Goal::Created
        && !ends_upgraded
        && matches!(row.state(), "inactive" | "registering" | "deactivating")
    {
        steps.push(Step::Activate);
    }
    let starts_something = steps.iter().any(|step| !matches!(step, Step::Link(_)));
    if wish.goal != Goal::Created && !starts_something && (row.is_transitioning() || row.has_failed()) {
        steps.push(Step::Settle);
    }
    Ok((Work { service: service.clone(), row: Some(row.clone()), diff: Some(diff), steps, after }, warning))
}

fn missing(project: &Project, mut work: Work, found: &Found, wish: &Wish) -> Result<Work, Failure> {
    let service = &work.service;
    if wish.rollback || wish.goal == Goal::Started {
        let message = format!("service {} is not on the server", service.name);
        return Err(Failure::new(exit::NOT_FOUND, message).hint("`remuda up` creates it"));
    }
    let mut body = Value::Object(service.api.clone());
    if let Some(scale) = scale(service, wish) {
        body["scale"] = scale.into();
    }
    work.steps.push(Step::Create(body));
    if !service.links.is_empty() {
        work.steps.push(Step::Link(links(project, service, found)?));
    }
    if wish.goal == Goal::Up {
        work.steps.push(Step::Activate);
    }
    Ok(work)
}

/// The scale this command gives the service, if it does.
fn scale(service: &Service, wish: &Wish) -> Option<i64> {
    let declared = service.declared_scale.filter(|_| !wish.no_scale);
    wish.scales.get(&service.name).copied().or(declared)
}

/// Links are the file's, except where something else decides them.
fn writes_links(service: &Service, row: &Resource, existing: &[Link], goal: Goal) -> bool {
    if service.kind == Kind::External || !row.text("selectorLink").is_empty() {
        return false;
    }
    goal != Goal::Created || row.state() == "inactive" || existing.is_empty()
}

fn after(service: &Service, chosen: &[&Service]) -> Vec<(String, Condition)> {
    let mut after: BTreeMap<&str, Condition> = BTreeMap::new();
    for needed in service.needs() {
        after.entry(needed).or_default();
    }
    for edge in &service.depends_on {
        after.insert(&edge.target, edge.condition);
    }
    let is_chosen = |name: &&str| **name != *service.name && chosen.iter().any(|other| other.name == **name);
    after
        .into_iter()
        .filter(|(name, _)| is_chosen(name))
        .map(|(name, condition)| (name.to_owned(), condition))
        .collect()
}

/// Links of the server by name, as the files write them.
fn links_of(row: &Resource, found: &Found) -> Vec<Link> {
    let links = found.links.get(row.id()).into_iter().flatten();
    let link = |link: &FoundLink| {
        let (stack, target) = match found.services.iter().find(|other| other.id() == link.target_id) {
            Some(other) => (None, other.name().to_owned()),
            None => match found.elsewhere.iter().find(|(_, other)| other.id() == link.target_id) {
                Some(((stack, name), _)) => (Some(stack.clone()), name.clone()),
                None => (Some("?".to_owned()), link.target_id.clone()),
            },
        };
        Link { target, stack, alias: link.alias.clone(), ports: link.ports.clone() }
    };
    links.map(link).collect()
}

fn links(project: &Project, service: &Service, found: &Found) -> Result<Vec<LinkTo>, Failure> {
    let target = |link: &Link| -> Result<Target, Failure> {
        if let Some(stack) = &link.stack {
            let row = found.elsewhere.get(&(stack.clone(), link.target.clone()));
            return row.map(|row| Target::Id(row.id().to_owned())).ok_or_else(|| {
                let message = format!("{}: there is no service `{stack}/{}` to link to", service.name, link.target);
                Failure::usage(message).hint("`external_links` name services that exist; `remuda ps` lists them")
            });
        }
        if let Some(row) = found.services.iter().find(|row| is(row, &link.target)) {
            return Ok(Target::Id(row.id().to_owned()));
        }
        let known = project.services.iter().find(|other| other.name == link.target);
        known.map(|other| Target::Planned(other.name.clone())).ok_or_else(|| {
            Failure::usage(format!("{}: there is no service `{}` to link to", service.name, link.target))
        })
    };
    let written = |link: &Link| {
        target(link).map(|target| LinkTo { target, alias: link.alias.clone(), ports: link.ports.clone() })
    };
    service.links.iter().map(written).collect()
}

/// Fields of the service itself that the file decides; those it no longer has are emptied.
fn fields(service: &Service, diff: &Diff) -> Value {
    const NOT_HERE: &[&str] =
        &["launchConfig", "secondaryLaunchConfigs", "scale", "name", "environmentId", "startOnCreate", "type"];
    let mut fields: Map<String, Value> = service
        .api
        .iter()
        .filter(|(key, _)| !NOT_HERE.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for field in &diff.fields {
        let name = field.path.split('.').next().unwrap_or_default();
        let is_own = !service.sidekicks.iter().chain(&diff.sidekicks_removed).any(|sidekick| sidekick == name);
        if is_own && name != "links" && !NOT_HERE.contains(&name) && !service.api.contains_key(name) {
            fields.insert(name.to_owned(), Value::Null);
        }
    }
    Value::Object(fields)
}

/// Input of the action `upgrade`, if there is anything to replace.
fn upgrade_input(service: &Service, row: &Resource, diff: &Diff, asked: &Upgrade, wish: &Wish) -> Option<Value> {
    if matches!(service.kind, Kind::Dns | Kind::External) {
        return None;
    }
    let forced = |name: &str| match asked {
        Upgrade::Forced(names) => names.is_empty() || names.contains(name),
        Upgrade::No | Upgrade::Changed => false,
    };
    if *asked == Upgrade::No {
        return None;
    }
    let mut strategy = Map::new();
    if diff.launch_config || forced(&service.name) {
        strategy.insert("launchConfig".to_owned(), service.api.get("launchConfig")?.clone());
    }
    let own = service.api.get("secondaryLaunchConfigs").and_then(Value::as_array).into_iter().flatten();
    let changed = own.filter(|config| {
        let name = config["name"].as_str().unwrap_or_default().to_owned();
        diff.sidekicks_changed.contains(&name) || diff.sidekicks_added.contains(&name) || forced(&name)
    });
    let gone =
        diff.sidekicks_removed.iter().map(|name| json!({"name": name, "imageUuid": format!("docker:{NO_IMAGE}")}));
    let secondaries: Vec<Value> = changed.cloned().chain(gone).collect();
    if !secondaries.is_empty() {
        strategy.insert("secondaryLaunchConfigs".to_owned(), secondaries.into());
    }
    if strategy.is_empty() {
        return None;
    }
    let file = service.upgrade_strategy;
    strategy.insert("batchSize".to_owned(), wish.batch_size.or(file.batch_size).unwrap_or(BATCH_SIZE).into());
    strategy.insert("intervalMillis".to_owned(), wish.interval_ms.or(file.interval_ms).unwrap_or(INTERVAL_MS).into());
    let start_first = wish.start_first || file.start_first.unwrap_or(false);
    // An address that is kept cannot be had twice.
    let start_first = start_first && row.get("retainIp") != &Value::Bool(true);
    strategy.insert("startFirst".to_owned(), start_first.into());
    if let Some(limit) = wish.rollback_after_ms {
        strategy.insert("rollbackAfterMillis".to_owned(), limit.into());
    }
    Some(json!({ "inServiceStrategy": strategy }))
}

/// `--batch-size` and `--interval` when neither the command nor the file says.
pub const BATCH_SIZE: i64 = 2;
pub const INTERVAL_MS: i64 = 1000;

/// States from which an upgrade is not reached by waiting.
fn may_upgrade(row: &Resource) -> Result<(), Failure> {
    match row.state() {
        "upgrading" | "canceling-upgrade" | "canceled-upgrade" | "rolling-back" | "canceling-rollback"
        | "canceled-rollback" | "removing" | "error" => {
            let message = format!("{} is {}; it cannot be upgraded now", row.title(), row.state());
            let hint = "`remuda upgrade finish` or `remuda upgrade rollback` ends the upgrade before";
            Err(Failure::new(exit::STATE, message).hint(hint).about(row))
        }
        _ => Ok(()),
    }
}

/// `depends_on: {x: {restart: true}}`: an upgrade of x restarts the service.
fn restart_dependants(plan: &mut Plan) {
    let is_upgraded = |work: &Work| work.steps.iter().any(|step| matches!(step, Step::Upgrade(_)));
    let upgraded: BTreeSet<String> =
        plan.works.iter().filter(|work| is_upgraded(work)).map(|work| work.service.name.clone()).collect();
    for work in plan.works.iter_mut().filter(|work| work.row.is_some()) {
        let must = work.service.depends_on.iter().any(|edge| edge.restart && upgraded.contains(&edge.target));
        let starts_anyway =
            work.steps.iter().any(|step| matches!(step, Step::Upgrade(_) | Step::Activate | Step::Rollback));
        if must && !starts_anyway {
            work.steps.push(Step::Restart(restart_input(1, INTERVAL_MS)));
        }
    }
}

/// Input of the action `restart`.
pub fn restart_input(batch_size: i64, interval_ms: i64) -> Value {
    json!({"rollingRestartStrategy": {"batchSize": batch_size, "intervalMillis": interval_ms}})
}

#[cfg(test)]
mod tests;
