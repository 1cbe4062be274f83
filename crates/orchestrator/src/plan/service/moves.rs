//! Units that leave their host: because it is lost, or because somebody wants them elsewhere.
//!
//! What is on a lost host goes, and is made again elsewhere. What is to move is replaced first: the old unit gives up its
//! number, its successor takes it, and when that is up the old one is withdrawn and goes. Where both cannot be at once (a
//! fixed address; never twice) it goes first. A unit whose data is on its host, or that no other host would take, stays,
//! and its service says why.

use std::collections::BTreeSet;
use std::sync::Arc;

use remuda_model::states::*;
use remuda_model::{Clearing, Container, Leaving, Service, labels};
use remuda_schema::Row;

use super::PRIMARY;
use super::units::{Unit, is_managed, ran_once};
use crate::plan::Moment;
use crate::plan::host::lost;
use crate::scheduler::{self, Placement};
use crate::settings::Settings;
use crate::transitions::{WANT_REMOVED, label};
use crate::world::World;

/// Where the engine and the machine say things of themselves: no data of the container's.
const NOT_DATA: [&str; 6] = ["/var/run/", "/run/", "/dev/", "/proc/", "/sys/", "/etc/"];

/// Whether the container, on a lost host, is to be marked.
pub fn is_replaced_when_lost(world: &World, row: &Row<Container>, moment: Moment<'_>) -> bool {
    let Some(service) = of_service(world, row) else { return false };
    let policy = service.replace_lost.unwrap_or_else(|| moment.settings.replaces_lost());
    policy && row.leaving.is_none_or(|leaving| leaving == Leaving::Away) && is_movable(service, row)
}

/// Whether the container is one that can be made elsewhere: of a service that says how many, not on every host.
pub fn is_movable(service: &Row<Service>, row: &Row<Container>) -> bool {
    let is_going = row.desired == WANT_REMOVED || row.meta.removed.is_some() || row.meta.state == REMOVING;
    !is_going && !service.is_global() && !ran_once(row)
}

/// The service that made the container, while it keeps it running.
pub fn of_service<'a>(world: &'a World, row: &Row<Container>) -> Option<&'a Arc<Row<Service>>> {
    let service = world.services.get(&row.service_id?.number())?;
    let keeps = !matches!(service.meta.state.as_str(), INACTIVE | DEACTIVATING | REMOVING | REMOVED);
    (keeps && is_managed(world, row)).then_some(service)
}

/// What becomes of a unit with containers that are to leave.
pub enum Verdict {
    /// It goes, and is made again.
    Goes(&'static str),
    /// It is replaced, then goes.
    IsReplaced,
    /// It stays, and why.
    Stays(String),
    /// Not yet, and why.
    Waits(String),
    /// Nothing of it leaves.
    None,
}

/// Judges one unit. `n_replaced`: how many units of the project are being replaced already.
pub fn verdict(
    world: &World,
    service: &Row<Service>,
    unit: &Unit<'_>,
    n_replaced: usize,
    moment: Moment<'_>,
) -> Verdict {
    let Some(leaving) = unit.members.values().filter_map(|row| row.leaving).min_by_key(|leaving| *leaving as u8) else {
        return Verdict::None;
    };
    let Some(host) = unit.members.values().find(|row| row.leaving.is_some()).and_then(|row| row.host_id) else {
        return Verdict::None;
    };
    let host = host.number();
    let name = name_of(unit);
    let tied = tied(world, unit, host);
    match leaving {
        Leaving::Lost => {
            let told = |why: &str| format!("{name} stays on host {}, which is lost: {why}", lost::named(world, host));
            if let Some(why) = tied.filter(|_| service.replace_lost != Some(true)) {
                return Verdict::Stays(told(&why));
            }
            match elsewhere(world, unit, moment.settings) {
                Some(why) => Verdict::Stays(told(&why)),
                None => Verdict::Goes("its host is lost"),
            }
        }
        Leaving::Away => {
            let is_forced = world.hosts.get(&host).is_some_and(|row| row.clearing == Some(Clearing::Evacuate));
            let told = |why: &str| format!("{name} stays on host {}: {why}", lost::named(world, host));
            if is_forced && (tied.is_some() || elsewhere(world, unit, moment.settings).is_some()) {
                return Verdict::Goes("its host is evacuated");
            }
            if let Some(why) = tied.or_else(|| elsewhere(world, unit, moment.settings)) {
                return Verdict::Stays(told(&why));
            }
            if n_replaced >= moment.settings.moves_at_once() {
                let host = lost::named(world, host);
                return Verdict::Waits(format!(
                    "{name} leaves host {host} when its turn comes: {n_replaced} are being moved"
                ));
            }
            if cannot_be_twice(service, unit) { Verdict::Goes("it moves to another host") } else { Verdict::IsReplaced }
        }
    }
}

fn name_of(unit: &Unit<'_>) -> String {
    let row = unit.members.get(PRIMARY).or(unit.members.values().next());
    row.map_or_else(String::new, |row| row.meta.name.clone().unwrap_or_else(|| row.meta.uuid.clone()))
}

/// Both at once would have the same address, or is ruled out.
fn cannot_be_twice(service: &Row<Service>, unit: &Unit<'_>) -> bool {
    let asks = |row: &Row<Container>| label(row, labels::REQUESTED_IP).is_some();
    service.retain_ip == Some(true)
        || service.fence_after.is_some()
        || service.launch_configs().iter().any(|(_, config)| config.requested_ip_address.is_some())
        || unit.members.values().any(|row| asks(row))
}

/// Why the unit's data would be left behind: it lies on its host.
fn tied(world: &World, unit: &Unit<'_>, host: i64) -> Option<String> {
    unit.members.values().find_map(|row| {
        if row.data_volumes_from.as_ref().is_some_and(|from| !from.is_empty()) {
            return Some("it uses the volumes of a container there".to_owned());
        }
        let mounted = world.mounts_of(row.meta.id).filter(|mount| mount.meta.state == ACTIVE);
        let mounted = mounted.filter_map(|mount| mount.volume_id).map(|id| id.number());
        let given = row.data_volume_mounts.iter().flatten().map(|(_, id)| id.number());
        let volumes: BTreeSet<i64> = mounted.chain(given).collect();
        let local = volumes.into_iter().filter_map(|id| world.volumes.get(&id)).find(|volume| {
            let name = volume.meta.name.as_deref().unwrap_or_default();
            let is_local = volume.driver.as_deref().is_none_or(|driver| matches!(driver, "" | "local"));
            let is_unnamed = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            !volume.is_host_path
                && is_local
                && !is_unnamed
                && !name.is_empty()
                && !name.starts_with('/')
                && volume.host_id.is_some_and(|id| id.number() == host)
        });
        if let Some(volume) = local {
            return Some(format!("its volume `{}` is there", volume.meta.name.as_deref().unwrap_or_default()));
        }
        let path = row.data_volumes.iter().flatten().find_map(|entry| host_path(entry))?;
        Some(format!("it writes to `{path}` of that host"))
    })
}

/// The directory of the host that a container writes to, of `path:where:mode`.
fn host_path(entry: &str) -> Option<&str> {
    let mut parts = entry.split(':');
    let path = parts.next().filter(|path| path.starts_with('/'))?;
    parts.next()?;
    let read_only = parts.next().is_some_and(|mode| mode.split(',').any(|word| word == "ro"));
    let is_data = !NOT_DATA.iter().any(|known| path.starts_with(known) || path == known.trim_end_matches('/'));
    (is_data && !read_only).then_some(path)
}

/// Why no other host would take the unit; `None` when one does.
fn elsewhere(world: &World, unit: &Unit<'_>, settings: &Settings) -> Option<String> {
    let row = unit.members.get(PRIMARY).or(unit.members.values().next())?;
    let mut copy = (***row).clone();
    // Another container as far as rules about containers go, of the same ports.
    copy.host_id = None;
    match scheduler::place_apart(world, &copy, settings) {
        Placement::On(other) if unit.host() == Some(other) => Some("no other host is better".to_owned()),
        Placement::On(_) => None,
        Placement::Later(why) => Some(why),
        Placement::Refused(refusal) => Some(refusal.to_string()),
    }
}

/// How many containers of the project are being replaced.
pub fn n_replaced(world: &World) -> usize {
    let rows = world.leaving.iter().filter_map(|id| world.containers.get(id));
    rows.filter(|row| row.gives_way && row.leaving.is_some()).count()
}
