//! What must hold: [`always`], and [`settled`] when everything has been repaired and had its time (DESIGN §9).
//!
//! Each check gives sentences; none means that all is well. They read the store and the engines, not what the loops
//! believe, and the API only for what it alone says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use remuda_agent::engine::simulated::Counted;
use remuda_model::states::*;
use remuda_model::{Agent, Container, Host, Service, Stack, Volume};
use remuda_schema::{Resource, Row};
use remuda_store::{Claim, Error, Feed, Query, Scope};
use serde_json::Value;

use crate::{PROJECT, Simulation};

/// Virtual time in which everything must have come to rest after the repairs: more than the longest back-off, the
/// deadlines of starts and processes, and the delays before removal and purge together.
const SETTLE_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);
/// How often to look whether it has: soon at first, for what takes long less often.
const LOOKS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(120)];
const MANY_LOOKS: u32 = 60;
/// Connections that are dead are noticed within this time.
const CALM: Duration = Duration::from_secs(90);
/// So long nothing may happen when everything is at rest.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// What holds in every moment, whatever goes wrong.
pub fn always(simulation: &Simulation) -> Vec<String> {
    let mut broken = Vec::new();
    let mut running: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for machine in &simulation.machines {
        for container in machine.engine.census().into_iter().filter(|container| container.is_up) {
            if let Some(uuid) = container.uuid {
                running.entry(uuid).or_default().push(format!("{} on {}", container.name, machine.name));
            }
        }
    }
    for (uuid, copies) in running.into_iter().filter(|(_, copies)| copies.len() > 1) {
        broken.push(format!("container {uuid} runs twice: {}", copies.join(", ")));
    }
    broken
}

/// Waits until everything is as it shall be, and sees that it stays so.
pub async fn settle(simulation: &mut Simulation) -> Result<()> {
    simulation.seams.clock.sleep(CALM).await;
    let deadline = simulation.seams.clock.instant() + SETTLE_WITHIN;
    for n_looks in 0.. {
        let broken = settled(simulation).await?;
        if broken.is_empty() {
            break;
        }
        if simulation.seams.clock.instant() >= deadline {
            bail!("still not at rest {} min after the repairs:\n{}", SETTLE_WITHIN.as_secs() / 60, broken.join("\n"));
        }
        simulation.seams.clock.sleep(if n_looks < MANY_LOOKS { LOOKS[0] } else { LOOKS[1] }).await;
    }
    simulation.note("everything is at rest");
    let before = simulation.store.read::<_, Error, _>(|read| read.revision()).await?;
    simulation.seams.clock.sleep(QUIET).await;
    let restless = match simulation.store.changes(before, 100_000).await? {
        // What is past is forgotten after a while; that concerns nobody.
        Feed::Changes(changes) => changes.into_iter().map(|it| format!("{} {}", it.kind, it.id)).collect::<Vec<_>>(),
        Feed::TooOld => bail!("the feed does not reach back a quarter of an hour"),
    };
    if !restless.is_empty() {
        bail!("things change though nobody does anything: {}", restless.join(", "));
    }
    let mut broken = settled(simulation).await?;
    broken.extend(feed(simulation).await?);
    if !broken.is_empty() {
        bail!("it did not stay at rest:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// The rows that the checks look at.
struct Rows {
    hosts: Vec<Row<Host>>,
    agents: Vec<Row<Agent>>,
    stacks: Vec<Row<Stack>>,
    services: Vec<Row<Service>>,
    containers: Vec<Row<Container>>,
    volumes: Vec<Row<Volume>>,
    claims: Vec<Claim>,
}

/// What is not as it shall be.
pub async fn settled(simulation: &mut Simulation) -> Result<Vec<String>> {
    let rows = rows(simulation).await?;
    let mut broken = always(simulation);
    broken.extend(hosts(&rows));
    broken.extend(services(&rows));
    broken.extend(containers(&rows));
    broken.extend(engines(simulation, &rows));
    broken.extend(claims(&rows));
    if broken.is_empty() {
        broken.extend(resting(simulation).await?);
    }
    Ok(broken)
}

async fn rows(simulation: &Simulation) -> Result<Rows> {
    let read = simulation.store.read::<_, Error, _>(move |read| {
        fn all<T: Resource>(read: &remuda_store::Read<'_>) -> Result<Vec<Row<T>>, Error> {
            read.list(&Scope::Everything, &Query::new().all())
        }
        let (hosts, services) = (all::<Host>(read)?, all::<Service>(read)?);
        let project = 5;
        let mut claims = read.claims("address", project)?;
        claims.extend(read.claims("servicePort", project)?);
        for host in &hosts {
            claims.extend(read.claims("hostPort", host.meta.id)?);
        }
        for service in &services {
            claims.extend(read.claims("serviceIndex", service.meta.id)?);
        }
        Ok(Rows {
            hosts,
            services,
            claims,
            agents: all(read)?,
            stacks: all(read)?,
            containers: all(read)?,
            volumes: all(read)?,
        })
    });
    Ok(read.await?)
}

fn hosts(rows: &Rows) -> Vec<String> {
    let mut broken = Vec::new();
    for host in rows.hosts.iter().filter(|host| host.meta.is_live()) {
        let name = host.meta.name.as_deref().unwrap_or_default();
        if !matches!(host.meta.state.as_str(), ACTIVE | INACTIVE) {
            broken.push(format!("host {name} is {}", host.meta.state));
        }
        let agent = host.agent_id.and_then(|id| rows.agents.iter().find(|agent| agent.meta.id == id.number()));
        let state = agent.map(|agent| agent.meta.state.as_str());
        if state != Some(ACTIVE) || host.agent_state.as_deref() != Some(ACTIVE) {
            broken.push(format!("the agent of host {name} is {state:?}, the host says {:?}", host.agent_state));
        }
        if let Some(since) = host.lost_since {
            broken.push(format!("host {name} counts as lost since {since:?}"));
        }
        if host.network_problem.is_some() || host.engine_problem.is_some() {
            broken.push(format!("host {name} has a problem: {:?} {:?}", host.network_problem, host.engine_problem));
        }
    }
    broken
}

fn services(rows: &Rows) -> Vec<String> {
    let mut broken = Vec::new();
    for service in rows.services.iter().filter(|service| service.meta.is_live()) {
        let name = service.meta.name.as_deref().unwrap_or_default();
        let members: Vec<&Row<Container>> = rows
            .containers
            .iter()
            .filter(|row| row.meta.removed.is_none() && row.service_id == Some(service.id()))
            .collect();
        let told = |members: &[&Row<Container>]| {
            let each = members.iter().map(|row| format!("{} {}", row.public_id(), row.meta.state));
            each.collect::<Vec<_>>().join(", ")
        };
        match service.meta.state.as_str() {
            ACTIVE => {
                let wanted = match service.is_global() {
                    true => rows.hosts.iter().filter(|host| host.meta.state == ACTIVE).count(),
                    false => usize::try_from(service.scale.unwrap_or(1)).unwrap_or(0),
                };
                for (config, _) in service.launch_configs() {
                    let sidekick = (config != "io.rancher.service.primary.launch.config").then_some(config);
                    let mine: Vec<_> =
                        members.iter().filter(|row| row.launch_config_name.as_deref() == sidekick).copied().collect();
                    let up = mine.iter().filter(|row| row.meta.state == RUNNING).count();
                    // A host that is not active keeps its unit of a global service.
                    let enough = if service.is_global() { up >= wanted } else { up == wanted };
                    if !enough || mine.len() != up {
                        broken.push(format!("service {name} wants {wanted} of {config}: {}", told(&mine)));
                    }
                    let numbers: BTreeSet<_> = mine.iter().map(|row| row.service_index).collect();
                    if numbers.len() != mine.len() {
                        broken.push(format!("service {name} has a number twice: {numbers:?}"));
                    }
                }
            }
            // Its containers may be started one by one.
            INACTIVE => {}
            state => broken.push(format!(
                "service {name} is {state} ({}): {}",
                service.meta.progress.message.as_deref().unwrap_or_default(),
                told(&members)
            )),
        }
        let mut units: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for row in &members {
            let unit = row.deployment_unit_uuid.as_deref().unwrap_or_default();
            // One that was never placed is nowhere.
            units.entry(unit).or_default().extend(row.host_id.map(|id| id.number()));
        }
        for (unit, on) in units.into_iter().filter(|(_, on)| on.len() > 1) {
            broken.push(format!("unit {unit} of service {name} is on several hosts: {on:?}"));
        }
    }
    let live = |id: i64| rows.services.iter().any(|service| service.meta.id == id && service.meta.is_live());
    for row in rows.containers.iter().filter(|row| row.meta.removed.is_none()) {
        if let Some(service) = row.service_id.filter(|id| !live(id.number())) {
            broken.push(format!("{} outlives its service {service}", row.public_id()));
        }
    }
    let states = rows.stacks.iter().filter(|stack| stack.meta.is_live() && stack.meta.state != ACTIVE);
    broken.extend(states.map(|stack| format!("stack {} is {}", stack.public_id(), stack.meta.state)));
    broken
}

fn containers(rows: &Rows) -> Vec<String> {
    let mut broken = Vec::new();
    let mut addresses: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let is_active = |id: i64| rows.services.iter().any(|row| row.meta.id == id && row.meta.state == ACTIVE);
    for row in &rows.containers {
        let (id, state) = (row.public_id(), row.meta.state.as_str());
        if row.unconfirmed
            || (row.leaving.is_some() && row.meta.removed.is_none())
            || row.withdraw_by.is_some() && state == STOPPING
        {
            broken.push(format!("{id} leaves its host ({:?}, unconfirmed: {})", row.leaving, row.unconfirmed));
        }
        match state {
            RUNNING | STOPPED | PURGED => {}
            // Nothing replaces a container that cannot start, except an active service.
            ERROR if row.service_id.is_none_or(|id| !is_active(id.number())) => {}
            state => {
                broken.push(format!("{id} is {state}: {}", row.meta.progress.message.as_deref().unwrap_or_default()));
            }
        }
        // In the end everybody sees, and everything is well.
        if state == RUNNING && row.check().is_some() && row.health_state.as_deref() != Some(HEALTHY) {
            broken.push(format!("{id} is {}", row.health_state.as_deref().unwrap_or("not checked")));
        }
        let address = row.primary_ip_address.as_deref().filter(|_| row.network_mode.as_deref() == Some("managed"));
        if let Some(address) = address.filter(|_| row.meta.removed.is_none()) {
            addresses.entry(address).or_default().push(id);
        }
    }
    let twice = addresses.into_iter().filter(|(_, holders)| holders.len() > 1);
    broken.extend(twice.map(|(address, holders)| format!("{address} is the address of {}", holders.join(", "))));
    let volumes = rows
        .volumes
        .iter()
        .filter(|volume| !matches!(volume.meta.state.as_str(), ACTIVE | INACTIVE | REMOVED | PURGED | "detached"));
    broken.extend(volumes.map(|volume| format!("volume {} is {}", volume.public_id(), volume.meta.state)));
    broken
}

/// What the engines have is what the rows say, and nothing else.
fn engines(simulation: &Simulation, rows: &Rows) -> Vec<String> {
    let mut broken = Vec::new();
    let by_uuid: BTreeMap<&str, &Row<Container>> =
        rows.containers.iter().map(|row| (row.meta.uuid.as_str(), row)).collect();
    let mut addresses: BTreeMap<String, String> = BTreeMap::new();
    for machine in &simulation.machines {
        let mine = |host: &&Row<Host>| host.reported_uuid.as_deref() == Some(machine.host_uuid());
        let Some(host) = rows.hosts.iter().filter(|host| host.meta.is_live()).find(mine) else { continue };
        let census = machine.engine.census();
        for found in &census {
            let at = format!("{} on {}", found.name, machine.name);
            if let Some(address) = found.address.as_ref().filter(|_| found.is_up)
                && let Some(other) = addresses.insert(address.clone(), at.clone())
            {
                broken.push(format!("{at} and {other} both have {address}"));
            }
            let row = match &found.uuid {
                Some(uuid) => by_uuid.get(uuid.as_str()).copied(),
                None => rows.containers.iter().find(|row| row.external_id.as_ref() == Some(&found.docker_id)),
            };
            broken.extend(unlike(host, found, row).map(|why| format!("{at}: {why}")));
        }
        for row in rows.containers.iter().filter(|row| row.host_id == Some(host.id()) && row.meta.state == RUNNING) {
            let copies = census.iter().filter(|found| is_of(found, row)).count();
            if copies != 1 {
                broken.push(format!("{} runs on {} in {copies} copies", row.public_id(), machine.name));
            }
        }
    }
    broken
}

fn is_of(found: &Counted, row: &Row<Container>) -> bool {
    found.uuid.as_ref() == Some(&row.meta.uuid) || row.external_id.as_ref() == Some(&found.docker_id)
}

/// How a container differs from its row.
fn unlike(host: &Row<Host>, found: &Counted, row: Option<&Row<Container>>) -> Option<String> {
    let Some(row) = row else { return Some("the platform knows nothing of it".to_owned()) };
    let (id, state) = (row.public_id(), row.meta.state.as_str());
    if row.host_id != Some(host.id()) && state != PURGED {
        return Some(format!("{id} is said to be on {:?}", row.host_id));
    }
    match (state, found.is_up) {
        (RUNNING, true) | (STOPPED | ERROR | REMOVED, false) => None,
        (state, up) => Some(format!("{id} is {state}, here it is {}", if up { "up" } else { "down" })),
    }
}

/// Whoever holds something is there.
fn claims(rows: &Rows) -> Vec<String> {
    let held_by = |claim: &Claim| match claim.holder.table.as_str() {
        "instance" => {
            let row = rows.containers.iter().find(|row| row.meta.id == claim.holder.id)?;
            let leaves = row.meta.removed.is_some();
            let idle = claim.kind == "hostPort" && row.meta.state != RUNNING;
            (!leaves && !idle).then_some(())
        }
        // The address on its own network that its processes are known by.
        "host" => {
            let row = rows.hosts.iter().find(|row| row.meta.id == claim.holder.id)?;
            row.meta.removed.is_none().then_some(())
        }
        "service" => {
            let row = rows.services.iter().find(|row| row.meta.id == claim.holder.id)?;
            row.meta.removed.is_none().then_some(())
        }
        _ => None,
    };
    let left = rows.claims.iter().filter(|claim| held_by(claim).is_none());
    left.map(|claim| format!("{claim} is held by {} for nothing", claim.holder)).collect()
}

/// Revisions have no gaps, and a commit's changes stand together.
async fn feed(simulation: &Simulation) -> Result<Vec<String>> {
    let Feed::Changes(changes) = simulation.store.changes(0, 10_000_000).await? else {
        // Forgotten records are a matter of age.
        return Ok(Vec::new());
    };
    let mut last = 0;
    for change in changes {
        if change.revision != last && change.revision != last + 1 {
            return Ok(vec![format!("revision {} follows {last} in the feed", change.revision)]);
        }
        last = change.revision;
    }
    Ok(Vec::new())
}

/// Nothing in any list of the API is on its way somewhere.
async fn resting(simulation: &mut Simulation) -> Result<Vec<String>> {
    let schemas = simulation.call("GET", &format!("{PROJECT}/schemas?limit=1000"), &Value::Null).await?;
    let mut broken = Vec::new();
    let lists: BTreeSet<String> = schemas["data"]
        .as_array()
        .context("schemas")?
        .iter()
        .filter(|schema| {
            schema["collectionMethods"].as_array().is_some_and(|methods| methods.iter().any(|method| method == "GET"))
        })
        .filter(|schema| schema["resourceFields"]["transitioning"].is_object())
        .filter_map(|schema| schema["pluralName"].as_str().map(str::to_lowercase))
        .collect();
    anyhow::ensure!(lists.len() > 10, "the schemas name few lists: {lists:?}");
    for plural in lists {
        let list = simulation.call("GET", &format!("{PROJECT}/{plural}?limit=1000"), &Value::Null).await?;
        for row in list["data"].as_array().into_iter().flatten() {
            if row["transitioning"] == "yes" {
                broken.push(format!(
                    "{} {} is {}: {}",
                    row["type"], row["id"], row["state"], row["transitioningMessage"]
                ));
            }
        }
    }
    Ok(broken)
}
