//! What a host reports becomes state: one report, one transaction (`resources.md` §6.10,
//! `scheduling-and-health.md` §9.3). Reports are repeated until acknowledged, so everything here may happen twice.
//!
//! The host is believed about what is; what shall be stays the server's. A container in a process of the server's own
//! only takes the step that ends it.

use std::collections::{BTreeMap, BTreeSet};

use remuda_model::states::*;
use remuda_model::{Container, HealthcheckInstanceHostMap, Host, IpAddress, Mount, Port, StoragePool, Volume};
use remuda_runtime::Random;
use remuda_schema::{Id, Row, Time};
use remuda_store::{Error, Query, Scope, Tx};
use remuda_wire::observe::{ContainerObserved, MountObserved, StartFailed, StateChange, StateReport, Status, Vote};

use crate::native;
use crate::plan::service::log;
use crate::plan::{checkers, claims};
use crate::scheduler::PortNeed;
use crate::settings::Settings;
use crate::steps;
use crate::transitions::{self, WANT_REMOVED, WANT_RUNNING, is_start_once};

/// Votes that are looked up together.
const VOTES_AT_ONCE: usize = 500;
/// Characters of a vote's reason that are kept.
const MOST_REASON: usize = 200;

/// Who reports, and when.
#[derive(Clone, Debug)]
pub struct Observer {
    pub project_id: i64,
    pub host_id: i64,
    pub now: Time,
    pub settings: std::sync::Arc<Settings>,
    pub random: Random,
}

/// Writes what the report says.
pub fn report(tx: &mut Tx<'_>, who: &Observer, report: &StateReport) -> Result<(), Error> {
    let mut known = known(tx, who, report)?;
    for change in &report.changes {
        match change {
            StateChange::Container(observed) => {
                let row = observed.uuid.as_ref().and_then(|uuid| known.remove(uuid));
                container(tx, who, observed, row)?
            }
            StateChange::ContainerGone { uuid, docker_id } => {
                if let Some(row) = find(tx, who, uuid.as_deref(), docker_id.as_deref().unwrap_or_default())? {
                    gone(tx, who, row)?;
                }
            }
            StateChange::StartFailed(failed) => start_failed(tx, who, failed)?,
            StateChange::VolumeGone { uuid } => volume_gone(tx, who, uuid)?,
            StateChange::VolumeKept { uuid, reason } => volume_kept(tx, who, uuid, reason)?,
            StateChange::Network { problem } => network(tx, who, problem.as_deref())?,
            // All together, below.
            StateChange::Health(_) => {}
        }
    }
    votes(tx, who, &report.changes)?;
    if report.complete {
        absent(tx, who, report)?;
    }
    Ok(())
}

/// The rows of the containers that the report speaks of once, read together: no other change in it writes them.
fn known(tx: &Tx<'_>, who: &Observer, report: &StateReport) -> Result<BTreeMap<String, Row<Container>>, Error> {
    let mut n_changes: BTreeMap<&str, usize> = BTreeMap::new();
    for change in &report.changes {
        let uuid = match change {
            StateChange::Container(observed) => observed.uuid.as_deref(),
            StateChange::ContainerGone { uuid, .. } => uuid.as_deref(),
            StateChange::StartFailed(failed) => Some(failed.uuid.as_str()),
            StateChange::VolumeGone { .. }
            | StateChange::VolumeKept { .. }
            | StateChange::Network { .. }
            | StateChange::Health(_) => None,
        };
        if let Some(uuid) = uuid {
            *n_changes.entry(uuid).or_default() += 1;
        }
    }
    let once: Vec<&str> = n_changes.into_iter().filter_map(|(uuid, n)| (n == 1).then_some(uuid)).collect();
    if once.len() < 2 {
        return Ok(BTreeMap::new());
    }
    let rows = tx.list(&Scope::Account(who.project_id), &Query::new().all().any_of("uuid", once))?;
    Ok(rows.into_iter().map(|row: Row<Container>| (row.meta.uuid.clone(), row)).collect())
}

/// Takes the votes of this host over; on what it does not check it has none.
fn votes(tx: &mut Tx<'_>, who: &Observer, changes: &[StateChange]) -> Result<(), Error> {
    let votes = changes.iter().filter_map(|change| match change {
        StateChange::Health(vote) => Some((vote.map.as_str(), vote)),
        _ => None,
    });
    // The last one of each counts.
    let votes: BTreeMap<&str, &Vote> = votes.collect();
    let maps: Vec<&str> = votes.keys().copied().collect();
    for maps in maps.chunks(VOTES_AT_ONCE) {
        let query = Query::new().any_of("uuid", maps.to_vec()).eq("hostId", who.host_id);
        let rows: Vec<Row<HealthcheckInstanceHostMap>> = tx.list(&Scope::Account(who.project_id), &query)?;
        for mut row in rows {
            let Some(vote) = votes.get(row.meta.uuid.as_str()) else { continue };
            // Of an earlier start: overtaken by what this one says itself.
            if vote.run >= row.run && cast(&mut row, vote, who.now.0.div_euclid(1000)) {
                tx.update(&mut row)?;
            }
        }
    }
    Ok(())
}

/// Writes a vote into its row. Whether it is another than before.
pub(crate) fn cast(row: &mut Row<HealthcheckInstanceHostMap>, vote: &Vote, at_seconds: i64) -> bool {
    let health = if vote.healthy { HEALTHY } else { UNHEALTHY };
    if row.health_state.as_deref() == Some(health) && row.run == vote.run {
        return false;
    }
    row.health_state = Some(health.to_owned());
    row.run = vote.run;
    row.external_timestamp = Some(at_seconds);
    let reason = vote.reason.as_ref().filter(|_| !vote.healthy);
    row.reason = reason.map(|reason| reason.chars().take(MOST_REASON).collect());
    true
}

/// The row of a container of this host: by our uuid, else by Docker's id.
fn find(tx: &Tx<'_>, who: &Observer, uuid: Option<&str>, docker_id: &str) -> Result<Option<Row<Container>>, Error> {
    let scope = Scope::Account(who.project_id);
    if let Some(uuid) = uuid
        && let Some(row) = tx.first::<Container>(&scope, &Query::new().all().eq("uuid", uuid))?
    {
        return Ok(Some(row));
    }
    if docker_id.is_empty() {
        return Ok(None);
    }
    let query = Query::new().all().eq("externalId", docker_id).eq("hostId", who.host_id);
    tx.first::<Container>(&scope, &query)
}

fn container(
    tx: &mut Tx<'_>,
    who: &Observer,
    observed: &ContainerObserved,
    known: Option<Row<Container>>,
) -> Result<(), Error> {
    let found = match known {
        Some(row) => Some(row),
        None => find(tx, who, observed.uuid.as_deref(), &observed.docker_id)?,
    };
    let Some(mut row) = found else { return native::import(tx, who, observed) };
    // Placed elsewhere meanwhile: this copy is not the one the row speaks of.
    if row.host_id.is_some_and(|id| id.number() != who.host_id) {
        return Ok(());
    }
    row.host_id = Some(Id::new(who.host_id));
    let before = row.clone();
    facts(&mut row, observed);
    let up = observed.status.is_up();
    row.unconfirmed &= up;
    let started = if up { is_up(&mut row, observed, who) } else { is_down(&mut row, observed, who) };
    count_starts(&mut row, observed, started, who.now);
    if up {
        checkers::engine_says(&mut row, observed.engine_health.as_deref(), who.now);
    }
    if matches!(row.meta.state.as_str(), STOPPED | REMOVING)
        && !matches!(before.meta.state.as_str(), STOPPED | REMOVING)
        || row.meta.state == ERROR && before.meta.state != ERROR
    {
        release_ports(tx, &row)?;
    }
    let ran = row.clone();
    if row != before {
        tx.update(&mut row)?;
        tell_exit(tx, &before, &ran)?;
    }
    if up && (started || before.external_id != ran.external_id) {
        mounts(tx, who, &ran, &observed.mounts)?;
        ports(tx, &ran, observed)?;
        engine_address(tx, &ran)?;
    }
    Ok(())
}

/// What is true of the container in whatever state.
fn facts(row: &mut Row<Container>, observed: &ContainerObserved) {
    if !observed.docker_id.is_empty() {
        row.external_id = Some(observed.docker_id.clone());
    }
    if let Some(inspect) = &observed.inspect {
        row.docker_inspect = Some(inspect.clone());
    }
    row.docker_ip.clone_from(&observed.docker_ip);
    if row.network_mode.as_deref() == Some("bridge") {
        row.primary_ip_address.clone_from(&observed.docker_ip);
    }
    row.balancer_problem.clone_from(&observed.balancer_problem);
    if observed.exit_code.is_some() {
        row.exit_code = observed.exit_code;
    }
}

/// Starts made by the host itself count like those that were asked for; a start that was asked for begins anew.
fn count_starts(row: &mut Row<Container>, observed: &ContainerObserved, started: bool, now: Time) {
    let by_itself = (observed.restarts - row.restarts).max(0);
    let n_starts = if started { by_itself.max(1) } else { by_itself };
    if n_starts > 0 {
        row.start_count = Some(row.start_count.unwrap_or(0) + n_starts);
        checkers::started_again(row, now);
    }
    row.restarts = observed.restarts;
}

/// It runs. Whether it has started since the row was written last.
fn is_up(row: &mut Row<Container>, observed: &ContainerObserved, who: &Observer) -> bool {
    let serial_is_current = observed.start_serial >= row.start_serial || row.native_container;
    match row.meta.state.as_str() {
        STARTING | RESTARTING if serial_is_current => has_started(row, who),
        STOPPING if row.desired == WANT_RUNNING && serial_is_current => has_started(row, who),
        // Left by itself and came back: its own restart policy, or somebody's `docker start`.
        STOPPED if row.desired == WANT_RUNNING || row.native_container => {
            row.desired = WANT_RUNNING.to_owned();
            has_started(row, who)
        }
        // Deleted as far as we know: delete it again.
        PURGED => {
            row.purge_confirmed = false;
            transitions::enter(row, PURGING, who.now.plus_ms(who.settings.process_deadline_ms()));
            false
        }
        _ => false,
    }
}

fn has_started(row: &mut Row<Container>, who: &Observer) -> bool {
    row.first_running = row.first_running.or(Some(who.now));
    row.exit_code = None;
    row.meta.enter(RUNNING);
    true
}

/// It does not run. Whether it has started, and ended already, since the row was written last.
fn is_down(row: &mut Row<Container>, observed: &ContainerObserved, who: &Observer) -> bool {
    let has_run = !matches!(observed.status, Status::Created);
    match row.meta.state.as_str() {
        RUNNING | UPDATING_RUNNING => exited(row, observed, who),
        // The agent tries again by itself: only the reason is news.
        STARTING if has_run && is_supervised(row) && observed.start_serial >= row.start_serial => {
            row.first_running = row.first_running.or(Some(who.now));
            row.meta.progress.message = Some(restart_message(observed));
        }
        STARTING | RESTARTING if has_run && is_current(row, observed) => {
            has_started(row, who);
            exited(row, observed, who);
            return true;
        }
        STOPPING if row.desired == WANT_RUNNING && has_run && is_current(row, observed) => {
            has_started(row, who);
            exited(row, observed, who);
            return true;
        }
        STOPPING if row.desired != WANT_RUNNING => has_stopped(row, who),
        PURGED => {
            row.purge_confirmed = false;
            transitions::enter(row, PURGING, who.now.plus_ms(who.settings.process_deadline_ms()));
        }
        _ => {}
    }
    false
}

/// A stop that was asked for is done. One on the way to removal does not rest: clients wait for `removed`, and a moment
/// of `stopped` would look like the end.
fn has_stopped(row: &mut Row<Container>, who: &Observer) {
    if row.desired == WANT_REMOVED {
        transitions::enter(row, REMOVING, who.now.plus_ms(who.settings.process_deadline_ms()));
    } else {
        row.meta.enter(STOPPED);
    }
}

/// What is reported is the run that was asked for last, not the one before it.
fn is_current(row: &Row<Container>, observed: &ContainerObserved) -> bool {
    !row.native_container && observed.start_serial >= row.start_serial && observed.next_try_ms.is_none()
}

/// The process ended though nobody asked for it.
fn exited(row: &mut Row<Container>, observed: &ContainerObserved, who: &Observer) {
    row.exit_code = observed.exit_code.or(row.exit_code);
    if is_supervised(row) {
        // The agent starts it again; how long it waits grows with each exit.
        let pause_ms = observed.next_try_ms.unwrap_or(0).max(0);
        let deadline = who.now.plus_ms(pause_ms.saturating_add(who.settings.container_start_deadline_ms()));
        transitions::enter(row, STARTING, deadline);
        row.meta.progress.message = Some(restart_message(observed));
    } else if observed.exit_code == Some(0) && observed.error.is_none() {
        row.meta.enter(STOPPED);
    } else {
        row.meta.fail(STOPPED, exit_message(observed));
    }
}

/// The agent starts it again when it ends.
fn is_supervised(row: &Row<Container>) -> bool {
    row.service_id.is_some() && !is_start_once(row) && !row.native_container && row.desired == WANT_RUNNING
}

fn restart_message(observed: &ContainerObserved) -> String {
    let message = exit_message(observed);
    match observed.next_try_ms {
        Some(pause_ms) if pause_ms >= 1000 => format!("{message}; next start in {} s", pause_ms / 1000),
        _ => message,
    }
}

fn exit_message(observed: &ContainerObserved) -> String {
    let mut message = match observed.exit_code {
        Some(code) => format!("Exited with code {code}"),
        None => "Exited".to_owned(),
    };
    if observed.oom_killed {
        message.push_str(" (out of memory)");
    }
    if let Some(error) = observed.error.as_deref().filter(|error| !error.is_empty()) {
        message.push_str(": ");
        message.push_str(error);
    }
    message
}

/// An exit that the host mends by itself is told on the service: the service sees a container that starts.
fn tell_exit(tx: &mut Tx<'_>, before: &Row<Container>, now: &Row<Container>) -> Result<(), Error> {
    let (Some(service), Some(message)) = (now.service_id, &now.meta.progress.message) else { return Ok(()) };
    let is_news =
        now.meta.state == STARTING && is_supervised(now) && before.meta.progress.message.as_ref() != Some(message);
    if !is_news {
        return Ok(());
    }
    let name = now.meta.name.as_deref().unwrap_or(&now.meta.uuid);
    steps::audit(tx, &log::audit(now.meta.account_id, service.number(), &format!("{name}: {message}")))
}

/// A stopped container holds no ports.
fn release_ports(tx: &mut Tx<'_>, row: &Row<Container>) -> Result<(), Error> {
    let Some(host) = row.host_id else { return Ok(()) };
    for port in tx.list::<Port>(&Scope::Everything, &Query::new().eq("instanceId", row.meta.id))? {
        if let Some(need) = PortNeed::of(&port.data) {
            tx.release(&claims::host_port(host.number(), &need, row.meta.id))?;
        }
    }
    Ok(())
}

/// The engine has nothing of it.
fn gone(tx: &mut Tx<'_>, who: &Observer, mut row: Row<Container>) -> Result<(), Error> {
    if row.host_id.is_some_and(|id| id.number() != who.host_id) {
        return Ok(());
    }
    let was_unconfirmed = std::mem::take(&mut row.unconfirmed);
    match row.meta.state.as_str() {
        PURGING | REMOVED | REMOVING => {
            if row.purge_confirmed && !was_unconfirmed {
                return Ok(());
            }
            row.purge_confirmed = true;
        }
        STARTING if !(row.external_id.is_some() && is_supervised(&row)) => return Ok(()),
        // Deleted by hand: the row follows. A container that was never seen is still to be made; one of a service may
        // have been told to have exited in the same moment, and nobody starts what is not there.
        RUNNING | STOPPED | UPDATING_RUNNING | UPDATING_STOPPED | STOPPING | STARTING
            if row.external_id.is_some() || row.native_container =>
        {
            if row.meta.state == STOPPING && row.desired == WANT_RUNNING {
                return Ok(());
            }
            row.desired = WANT_REMOVED.to_owned();
            row.purge_confirmed = true;
            transitions::enter(&mut row, REMOVING, who.now.plus_ms(who.settings.process_deadline_ms()));
            release_ports(tx, &row)?;
        }
        STOPPING if row.desired != WANT_RUNNING => has_stopped(&mut row, who),
        _ if was_unconfirmed => {}
        _ => return Ok(()),
    }
    tx.update(&mut row)
}

/// A complete list was sent: what it does not name is gone.
fn absent(tx: &mut Tx<'_>, who: &Observer, report: &StateReport) -> Result<(), Error> {
    let (mut uuids, mut docker_ids) = (BTreeSet::new(), BTreeSet::new());
    for change in &report.changes {
        if let StateChange::Container(observed) = change {
            uuids.extend(observed.uuid.as_deref());
            docker_ids.insert(observed.docker_id.as_str());
        }
    }
    let query = Query::new().all().eq("hostId", who.host_id).ne("state", PURGED);
    for row in tx.list::<Container>(&Scope::Account(who.project_id), &query)? {
        let named = uuids.contains(row.meta.uuid.as_str())
            || row.external_id.as_deref().is_some_and(|id| docker_ids.contains(id));
        if !named {
            gone(tx, who, row)?;
        }
    }
    Ok(())
}

fn start_failed(tx: &mut Tx<'_>, who: &Observer, failed: &StartFailed) -> Result<(), Error> {
    let Some(mut row) = find(tx, who, Some(&failed.uuid), "")? else { return Ok(()) };
    let awaited = matches!(row.meta.state.as_str(), STARTING | RESTARTING)
        || (row.meta.state == STOPPING && row.desired == WANT_RUNNING);
    if !awaited || failed.start_serial < row.start_serial || row.host_id.is_none_or(|id| id.number() != who.host_id) {
        return Ok(());
    }
    if failed.last {
        transitions::start_failed(&mut row, &failed.message);
        release_ports(tx, &row)?;
    } else {
        row.meta.progress.message = Some(format!("Try {} failed: {}", failed.attempts, failed.message));
    }
    tx.update(&mut row)
}

fn volume(tx: &Tx<'_>, who: &Observer, uuid: &str) -> Result<Option<Row<Volume>>, Error> {
    tx.first::<Volume>(&Scope::Account(who.project_id), &Query::new().all().eq("uuid", uuid))
}

fn volume_gone(tx: &mut Tx<'_>, who: &Observer, uuid: &str) -> Result<(), Error> {
    let Some(mut row) = volume(tx, who, uuid)?.filter(|row| row.meta.state == PURGING) else { return Ok(()) };
    row.meta.enter(PURGED);
    tx.update(&mut row)
}

fn volume_kept(tx: &mut Tx<'_>, who: &Observer, uuid: &str, reason: &str) -> Result<(), Error> {
    let Some(mut row) = volume(tx, who, uuid)?.filter(|row| row.meta.state == PURGING) else { return Ok(()) };
    row.meta.progress.message = Some(reason.to_owned());
    tx.update(&mut row)
}

fn network(tx: &mut Tx<'_>, who: &Observer, problem: Option<&str>) -> Result<(), Error> {
    let Some(mut host) = tx.get::<Host>(&Scope::Everything, Id::new(who.host_id))? else { return Ok(()) };
    host.network_problem = problem.map(str::to_owned);
    tx.update(&mut host)
}

/// Mounts of the container become rows; a volume seen for the first time too (`resources-infra.md` §6.2).
fn mounts(tx: &mut Tx<'_>, who: &Observer, row: &Row<Container>, seen: &[MountObserved]) -> Result<(), Error> {
    if seen.is_empty() {
        return Ok(());
    }
    let known: Vec<Row<Mount>> = tx.list(&Scope::Everything, &Query::new().eq("instanceId", row.meta.id))?;
    for mount in seen {
        let mut volume = match volume_of(tx, who, mount)? {
            Some(volume) => volume,
            None => volume_insert(tx, who, mount)?,
        };
        if volume.meta.state != ACTIVE && volume.meta.is_live() || volume.host_id.is_none() {
            volume.meta.enter(ACTIVE);
            place(tx, who, &mut volume)?;
            tx.update(&mut volume)?;
        }
        let permissions = if mount.read_only { "ro" } else { "rw" }.to_owned();
        match known.iter().find(|row| row.path.as_deref() == Some(&mount.path)) {
            Some(have) if have.volume_id == Some(volume.id()) && have.meta.state == ACTIVE => {}
            Some(have) => {
                let mut again = have.clone();
                again.volume_id = Some(volume.id());
                again.permissions = Some(permissions);
                again.meta.enter(ACTIVE);
                tx.update(&mut again)?;
            }
            None => {
                let data = Mount {
                    instance_id: Some(row.id().cast()),
                    path: Some(mount.path.clone()),
                    permissions: Some(permissions),
                    volume_id: Some(volume.id()),
                };
                tx.insert(Row::new(row.meta.account_id, ACTIVE, data))?;
            }
        }
    }
    Ok(())
}

fn volume_of(tx: &Tx<'_>, who: &Observer, mount: &MountObserved) -> Result<Option<Row<Volume>>, Error> {
    let name = mount.name.as_deref().unwrap_or(&mount.source);
    let query = Query::new().eq("name", name);
    let rows: Vec<Row<Volume>> = tx.list(&Scope::Account(who.project_id), &query)?;
    let mut usable: Vec<Row<Volume>> = rows
        .into_iter()
        .filter(|row| row.meta.is_live() && row.is_host_path == mount.name.is_none())
        .filter(|row| row.host_id.is_none_or(|id| id.number() == who.host_id))
        .collect();
    // One that lies here already before one that was asked for and lies nowhere.
    usable.sort_by_key(|row| (row.host_id.is_none(), row.meta.id));
    Ok(usable.into_iter().next())
}

fn volume_insert(tx: &mut Tx<'_>, who: &Observer, mount: &MountObserved) -> Result<Row<Volume>, Error> {
    let driver = mount.driver.clone().filter(|driver| !driver.is_empty());
    let uri = match &driver {
        Some(driver) if driver != "local" => format!("{driver}://{}", mount.source),
        _ => format!("file://{}", mount.source),
    };
    let data = Volume {
        driver,
        external_id: mount.name.clone(),
        is_host_path: mount.name.is_none(),
        uri: Some(uri),
        device_number: Some(-1),
        ..Volume::default()
    };
    let mut row = Row::new(Some(who.project_id), ACTIVE, data);
    row.meta.name = Some(mount.name.clone().unwrap_or_else(|| mount.source.clone()));
    place(tx, who, &mut row)?;
    tx.insert(row)
}

/// The volume lies on the reporting host, in its local pool.
fn place(tx: &Tx<'_>, who: &Observer, row: &mut Row<Volume>) -> Result<(), Error> {
    row.host_id = Some(Id::new(who.host_id));
    let pool = tx.first::<StoragePool>(&Scope::Account(who.project_id), &Query::new().eq("hostId", who.host_id))?;
    row.storage_pool_id = pool.map(|pool| pool.id());
    Ok(())
}

/// Ports that the image or Docker added become rows; ports Docker chose are written back.
fn ports(tx: &mut Tx<'_>, row: &Row<Container>, observed: &ContainerObserved) -> Result<(), Error> {
    if observed.ports.is_empty() {
        return Ok(());
    }
    let mut known: Vec<Row<Port>> = tx.list(&Scope::Everything, &Query::new().eq("instanceId", row.meta.id))?;
    for seen in &observed.ports {
        let (private, public) = (i64::from(seen.private), seen.public.map(i64::from));
        let same = |port: &Row<Port>| {
            port.private_port == Some(private) && port.protocol.as_deref().unwrap_or("tcp") == seen.protocol
        };
        if known.iter().any(|port| same(port) && port.public_port == public) {
            continue;
        }
        if let Some(port) = known.iter_mut().find(|port| same(port)) {
            // An asked-for public port stays what was asked for.
            if port.public_port.is_none() && public.is_some() && port.meta.kind == "imagePort" {
                port.public_port = public;
                tx.update(port)?;
            }
            continue;
        }
        let data = Port {
            bind_address: Some(seen.bind_address.clone()).filter(|address| !address.is_empty()),
            instance_id: Some(row.id().cast()),
            private_port: Some(private),
            public_port: public,
            protocol: Some(seen.protocol.clone()),
            ..Port::default()
        };
        let mut port = Row::new(row.meta.account_id, ACTIVE, data);
        port.meta.kind = "imagePort".to_owned();
        known.push(tx.insert(port)?);
    }
    Ok(())
}

/// The address the engine gave, as a row; nobody claims it, for other hosts give the same.
pub(crate) fn engine_address(tx: &mut Tx<'_>, row: &Row<Container>) -> Result<(), Error> {
    if row.network_mode.as_deref() != Some("bridge") && !row.native_container {
        return Ok(());
    }
    let known = tx.first::<IpAddress>(&Scope::Everything, &Query::new().eq("instanceId", row.meta.id))?;
    match known {
        Some(mut address) => {
            address.address.clone_from(&row.docker_ip);
            tx.update(&mut address)
        }
        None if row.docker_ip.is_some() => {
            let data = IpAddress {
                address: row.docker_ip.clone(),
                instance_id: Some(row.id().cast()),
                role: Some("primary".to_owned()),
                ..IpAddress::default()
            };
            let mut address = Row::new(row.meta.account_id, ACTIVE, data);
            address.meta.kind = "docker".to_owned();
            tx.insert(address).map(drop)
        }
        None => Ok(()),
    }
}
