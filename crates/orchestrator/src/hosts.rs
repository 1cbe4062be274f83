//! Agents and their connections: who may connect, what they are told, what they report, and what their silence means
//! (DESIGN §§5, 6). The server's hub carries the messages; decisions and rows are here.
//!
//! Liveness is kept in memory; rows change only when a verdict does: silent too long (`reconnecting`, then
//! `disconnected`), or back (`active`).

pub mod balancing;
pub mod liveness;
pub mod updates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use remuda_model::states::*;
use remuda_model::{Agent, Host, NetworkPeer, PhysicalHost, StoragePool};
use remuda_schema::{Id, Row, Time};
use remuda_store::{Error, Query, Scope, Tx};
use remuda_wire::observe::{HostFacts, PeerObserved, StateReport};
use remuda_wire::plan::PlanUpdate;
use remuda_wire::session::{Consumer, Hello, Position};

use crate::directory;
use crate::observe::{self, Observer};
use crate::rows;
use crate::withdraw;
use crate::worlds::Shared;

pub use updates::HostUpdates;

/// One connection of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSession {
    pub agent_id: i64,
    pub host_id: i64,
    pub project_id: i64,
    /// Number of the connection; what comes with an older one is refused.
    pub generation: i64,
    /// Where the feed is now.
    pub position: Position,
}

/// Why an agent is not served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectRefused {
    #[error("there is no agent for this key (any more); the host was removed or never registered. Register it again")]
    Unknown,
    #[error("the agent is {state}; its host was deactivated or removed")]
    Inactive { state: String },
    #[error(
        "another machine is connected with this identity (`{other}`); one of the two is a copy. Remove the state \
         directory on the copy and register it by itself"
    )]
    TwoMachines { other: String },
    #[error("the connection could not be recorded")]
    Store(#[from] Error),
}

impl ConnectRefused {
    /// Whether trying again later can help without a person.
    pub fn again(&self) -> bool {
        !matches!(self, ConnectRefused::Unknown)
    }
}

/// Why a report was not taken. After `Outdated` the connection is useless; after `Store` the agent repeats the report.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReportRefused {
    #[error("a newer connection of this agent exists (generation {newest}, this is {generation})")]
    Outdated { generation: i64, newest: i64 },
    #[error("the host of this agent was removed")]
    Removed,
    #[error("the report could not be stored")]
    Store(#[from] Error),
}

/// What to send to a host.
#[derive(Clone, Debug, Default)]
pub struct HostUpdate {
    pub plan: Option<PlanUpdate>,
    /// In this order.
    pub directory: Vec<Arc<directory::Message>>,
}

/// What a host says of a container's pull or start; not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub message: String,
    pub percent: Option<i64>,
    pub at: Time,
}

/// Live connections and samples, in memory.
#[derive(Debug, Default)]
pub struct Live {
    sessions: Mutex<BTreeMap<i64, Connection>>,
    samples: Mutex<BTreeMap<i64, Sample>>,
    applied: Mutex<BTreeMap<(i64, Consumer), i64>>,
    /// By the row number of the load balancer's container.
    balancing: Mutex<BTreeMap<i64, balancing::Told>>,
}

#[derive(Clone, Debug)]
struct Connection {
    generation: i64,
    machine: String,
    heard: Time,
    connected: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    fn heard(&self, agent: i64, generation: i64, now: Time) {
        if let Some(connection) = lock(&self.sessions).get_mut(&agent)
            && connection.generation == generation
        {
            connection.heard = now;
        }
    }

    /// Progress of that container, as its host last told it.
    pub fn sample(&self, container: i64) -> Option<Sample> {
        lock(&self.samples).get(&container).cloned()
    }

    /// Directory revision that consumer of the host works with.
    pub fn applied(&self, host: i64, consumer: Consumer) -> Option<i64> {
        lock(&self.applied).get(&(host, consumer)).copied()
    }
}

/// Who reports.
fn observer(shared: &Shared, session: &HostSession) -> Observer {
    Observer {
        project_id: session.project_id,
        host_id: session.host_id,
        now: shared.now(),
        settings: shared.settings(),
        random: shared.seams.random.clone(),
    }
}

/// An agent has connected: its rows, made at the first time, and the number of the connection.
pub async fn host_connect(
    shared: &Shared,
    live: &Live,
    agent_account_id: i64,
    hello: &Hello,
) -> Result<HostSession, ConnectRefused> {
    let now = shared.now();
    let settings = shared.settings();
    let (hello, machine) = (hello.clone(), hello.machine.clone());
    let other = {
        let patience = settings.reconnecting_after_ms();
        let agent = shared
            .store
            .read(move |read| read.first::<Agent>(&Scope::Everything, &Query::new().eq("accountId", agent_account_id)))
            .await?
            .ok_or(ConnectRefused::Unknown)?;
        let connection = lock(&live.sessions).get(&agent.meta.id).cloned();
        connection.filter(|known| known.connected && known.machine != machine && now.ms_since(known.heard) < patience)
    };
    if let Some(other) = other {
        tracing::warn!(
            agent_account_id,
            "two machines have the identity of one agent: {} and {machine}",
            other.machine
        );
        return Err(ConnectRefused::TwoMachines { other: other.machine });
    }
    let identity = shared.store.identity().clone();
    let server = shared.leases.owner.clone();
    let committed = shared
        .store
        .write(move |tx| -> Result<HostSession, ConnectRefused> { connect(tx, agent_account_id, &hello, &server, now) })
        .await?;
    let mut session = committed.value;
    session.position = Position { store: identity.store_id, epoch: identity.epoch, revision: committed.revision };
    let connection = Connection { generation: session.generation, machine, heard: now, connected: true };
    lock(&live.sessions).insert(session.agent_id, connection);
    Ok(session)
}

fn connect(
    tx: &mut Tx<'_>,
    account: i64,
    hello: &Hello,
    server: &str,
    now: Time,
) -> Result<HostSession, ConnectRefused> {
    let query = Query::new().eq("accountId", account);
    let mut agent = tx.first::<Agent>(&Scope::Everything, &query)?.ok_or(ConnectRefused::Unknown)?;
    match agent.meta.state.as_str() {
        REMOVING | REMOVED | PURGING | PURGED => return Err(ConnectRefused::Unknown),
        INACTIVE | DEACTIVATING => return Err(ConnectRefused::Inactive { state: agent.meta.state.clone() }),
        _ => {}
    }
    let project = agent.resource_account_id.ok_or(ConnectRefused::Unknown)?.number();
    agent.generation += 1;
    agent.server = Some(server.to_owned());
    agent.last_seen = Some(now);
    (agent.silent_since, agent.away_until) = (None, None);
    if agent.meta.state != ACTIVE {
        agent.meta.enter(ACTIVE);
    }
    tx.update(&mut agent)?;
    let hosts: Vec<Row<Host>> = tx.list(&Scope::Everything, &Query::new().eq("agentId", agent.meta.id))?;
    let known = hosts.into_iter().find(|host| host.reported_uuid.as_deref() == Some(&hello.host_uuid));
    let host_id = match known {
        Some(mut host) => {
            let addressed = rows::host_address(tx, &mut host)?;
            if facts(&mut host, &hello.facts, now) || addressed {
                tx.update(&mut host)?;
            }
            host.meta.id
        }
        None => host_insert(tx, &agent, project, hello, now)?,
    };
    Ok(HostSession {
        agent_id: agent.meta.id,
        host_id,
        project_id: project,
        generation: agent.generation,
        position: Position::default(),
    })
}

/// The rows of a host that connects for the first time (`resources-infra.md` §3.5).
fn host_insert(tx: &mut Tx<'_>, agent: &Row<Agent>, project: i64, hello: &Hello, now: Time) -> Result<i64, Error> {
    let physical = PhysicalHost { agent_id: Some(agent.id()), ..PhysicalHost::default() };
    let mut physical = Row::new(Some(project), ACTIVE, physical);
    physical.meta.name = Some(hello.facts.hostname.clone());
    let physical = tx.insert(physical)?;
    let mut labels = hello.facts.create_labels.clone();
    labels.extend(hello.facts.labels.clone());
    let data = Host {
        agent_id: Some(agent.id()),
        agent_state: Some(ACTIVE.to_owned()),
        compute_total: Some(1_000_000),
        physical_host_id: Some(physical.id()),
        reported_uuid: Some(hello.host_uuid.clone()),
        labels: Some(labels),
        ..Host::default()
    };
    let mut host = Row::new(Some(project), REGISTERING, data);
    host.meta.kind.clone_from(&hello.kind);
    host.meta.name.clone_from(&hello.name);
    facts(&mut host, &hello.facts, now);
    let mut host = tx.insert(host)?;
    if rows::host_address(tx, &mut host)? {
        tx.update(&mut host)?;
    }
    let pool = StoragePool { host_id: Some(host.id()), agent_id: Some(agent.id()), ..StoragePool::default() };
    let mut pool = Row::new(Some(project), ACTIVE, pool);
    pool.meta.kind.clone_from(&hello.kind);
    pool.meta.name = Some(format!("{} Storage Pool", hello.facts.hostname));
    tx.insert(pool)?;
    Ok(host.meta.id)
}

/// Takes reported facts over: reported keys win, others stay. Whether anything changed.
fn facts(host: &mut Row<Host>, facts: &HostFacts, now: Time) -> bool {
    let before = host.clone();
    if !facts.hostname.is_empty() {
        host.hostname = Some(facts.hostname.clone());
    }
    if facts.address.is_some() {
        host.agent_ip.clone_from(&facts.address);
    }
    if !facts.info.is_null() {
        let mut info = host.info.take().unwrap_or_default();
        merge(&mut info, &facts.info);
        host.info = Some(info);
    }
    host.network_problem.clone_from(&facts.network_problem);
    host.engine_problem.clone_from(&facts.engine_problem);
    if facts.public_key.is_some() {
        host.network_key.clone_from(&facts.public_key);
    }
    if let Some(seen) = &facts.peers {
        host.network_peers = Some(peers(host.network_peers.as_deref().unwrap_or_default(), seen, now));
    }
    if !facts.labels.is_empty() {
        host.labels.get_or_insert_with(BTreeMap::new).extend(facts.labels.clone());
    }
    *host != before
}

/// What a host says of the others, with the time each has been so.
fn peers(known: &[NetworkPeer], seen: &[PeerObserved], now: Time) -> Vec<NetworkPeer> {
    let peer = |seen: &PeerObserved| {
        let state = if seen.reachable { "reachable" } else { "unreachable" };
        let before = known.iter().find(|peer| peer.host_id.is_some_and(|id| id.number() == seen.host_id));
        let since = before.filter(|peer| peer.state.as_deref() == Some(state)).and_then(|peer| peer.since);
        NetworkPeer {
            host_id: Some(Id::new(seen.host_id)),
            state: Some(state.to_owned()),
            since: Some(since.unwrap_or(now)),
        }
    };
    seen.iter().map(peer).collect()
}

/// Key by key at the first level, as the original merged maps.
fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    match (into.as_object_mut(), from.as_object()) {
        (Some(into), Some(from)) => {
            into.extend(
                from.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        _ => *into = from.clone(),
    }
}

/// Stores a state report, in one transaction. Reports of an older connection are refused.
pub async fn host_report(
    shared: &Shared,
    live: &Live,
    session: &HostSession,
    report: StateReport,
) -> Result<(), ReportRefused> {
    live.heard(session.agent_id, session.generation, shared.now());
    let who = observer(shared, session);
    let (agent, generation) = (session.agent_id, session.generation);
    let report = Arc::new(report);
    shared
        .store
        .write(move |tx| -> Result<(), ReportRefused> {
            check_generation(tx, agent, generation)?;
            Ok(observe::report(tx, &who, &report)?)
        })
        .await?;
    Ok(())
}

fn check_generation(tx: &Tx<'_>, agent: i64, generation: i64) -> Result<(), ReportRefused> {
    let agent = tx.get::<Agent>(&Scope::Everything, Id::new(agent))?;
    let agent = agent.filter(|agent| agent.meta.removed.is_none()).ok_or(ReportRefused::Removed)?;
    if agent.generation == generation {
        Ok(())
    } else {
        Err(ReportRefused::Outdated { generation, newest: agent.generation })
    }
}

/// Stores facts that changed.
pub async fn host_facts(
    shared: &Shared,
    live: &Live,
    session: &HostSession,
    told: HostFacts,
) -> Result<(), ReportRefused> {
    live.heard(session.agent_id, session.generation, shared.now());
    let (agent, generation, host) = (session.agent_id, session.generation, session.host_id);
    let now = shared.now();
    shared
        .store
        .write(move |tx| -> Result<(), ReportRefused> {
            check_generation(tx, agent, generation)?;
            if let Some(mut host) = tx.get::<Host>(&Scope::Everything, Id::new(host))? {
                // One that found no address free has another try.
                let addressed = host.network_address.is_none() && rows::host_address(tx, &mut host)?;
                if facts(&mut host, &told, now) || addressed {
                    tx.update(&mut host)?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// The agent is there.
pub fn host_heard(shared: &Shared, live: &Live, session: &HostSession) {
    live.heard(session.agent_id, session.generation, shared.now());
}

/// Whether the host counts as there, as far as this server may say so: it knows what was decided, and the host is not lost.
pub fn host_counts(shared: &Shared, session: &HostSession) -> bool {
    let Some(project) = shared.project(session.project_id) else { return false };
    let state = project.state();
    let agent = state.world.agents.get(&session.agent_id);
    let is_there = agent.is_some_and(|row| row.meta.state == ACTIVE && row.generation == session.generation);
    let host = state.world.hosts.get(&session.host_id);
    is_there
        && host.is_some_and(|row| row.lost_since.is_none())
        && shared.leases.is_current(shared.seams.clock.instant())
}

/// The connection ended. An announced end is believed at once; another only counts when it lasts.
pub async fn host_gone(shared: &Shared, live: &Live, session: &HostSession, announced: bool) {
    {
        let mut sessions = lock(&live.sessions);
        let Some(connection) = sessions.get_mut(&session.agent_id) else { return };
        if connection.generation != session.generation {
            return;
        }
        connection.connected = false;
    }
    if announced {
        let (agent, generation) = (session.agent_id, session.generation);
        let (now, window) = (shared.now(), shared.settings().restart_window_ms());
        let written = shared
            .store
            .write(move |tx| -> Result<(), Error> {
                let Some(mut agent) = tx.get::<Agent>(&Scope::Everything, Id::new(agent))? else { return Ok(()) };
                if agent.generation == generation && agent.meta.state == ACTIVE {
                    agent.meta.enter(RECONNECTING);
                    (agent.silent_since, agent.away_until) = (Some(now), Some(now.plus_ms(window)));
                    agent.meta.progress.message = Some("The agent was stopped on purpose".to_owned());
                    tx.update(&mut agent)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, agent = session.agent_id, "the end of a connection could not be recorded");
        }
    }
}

/// A consumer on the host works with that directory revision.
///
/// Kept in memory; stored only when the server that decides is another one and something waits for it there.
pub async fn host_applied(shared: &Shared, live: &Live, session: &HostSession, consumer: Consumer, revision: i64) {
    lock(&live.applied).insert((session.host_id, consumer), revision);
    let Some(project) = shared.project(session.project_id) else { return };
    let all = {
        let mut state = project.state();
        let is_ready = state.applied(session.host_id, consumer, revision);
        if shared.decides_for(project.id) {
            drop(state);
            if is_ready {
                project.nudge();
            }
            return;
        }
        let told = state.world.agents.get(&session.agent_id).and_then(|agent| agent.applied);
        let all = withdraw::of_host(&state.world, session.host_id);
        let awaited = |all: &i64| state.world.withdrawing.values().any(|from| told < Some(*from) && from <= all);
        all.filter(awaited)
    };
    let Some(all) = all else { return };
    let (agent, generation) = (session.agent_id, session.generation);
    let written = shared.store.write(move |tx| -> Result<(), Error> {
        let Some(mut agent) = tx.get::<Agent>(&Scope::Everything, Id::new(agent))? else { return Ok(()) };
        if agent.generation == generation && agent.applied < Some(all) {
            agent.applied = Some(all);
            tx.update(&mut agent)?;
        }
        Ok(())
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, agent = session.agent_id, "what a host works with could not be recorded");
    }
}

/// Progress of a pull or build: shown, not stored; and a reason to go on waiting.
pub fn host_progress(
    shared: &Shared,
    live: &Live,
    session: &HostSession,
    uuid: &str,
    message: String,
    percent: Option<i64>,
) {
    let now = shared.now();
    live.heard(session.agent_id, session.generation, now);
    let Some(project) = shared.project(session.project_id) else { return };
    let mut state = project.state();
    let Some(row) = state.world.container_by_uuid(uuid) else { return };
    let id = row.meta.id;
    let waits = matches!(row.meta.state.as_str(), STARTING | CREATING | RESTARTING | STOPPING);
    let mut samples = lock(&live.samples);
    if waits {
        state.world.progress_at.insert(id, now);
        samples.insert(id, Sample { message, percent, at: now });
    } else {
        state.world.progress_at.remove(&id);
        samples.remove(&id);
    }
}
