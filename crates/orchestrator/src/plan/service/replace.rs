//! Unhealthy units (`scheduling-and-health.md` §8.6): replaced, or kept while too few others are well; and units that are
//! well but shall be elsewhere ([`super::moves`]).
//!
//! The replacement comes first: the unit *gives way*, that is, gives up its number and goes when the other runs. Where
//! two of them cannot be there at once (published ports, fixed addresses, volumes, host network, one per host) it goes
//! at once, and so it does when it keeps its own successor from finding a host.

use std::sync::Arc;

use remuda_model::ports::PortSpec;
use remuda_model::{Container, InstanceHealthCheck, LaunchConfig, Service, Strategy};
use remuda_schema::Row;
use remuda_store::Claim;

use super::reconcile::{MOVED, Pass, UNHEALTHY_ONE};
use super::units::{Unit, group, is_up, wanted};
use super::{status_of, upgrade};
use crate::plan::{Plan, Step};
use crate::world::is_unplaced;

/// Whether unhealthy units are replaced now. The primary launch config says how for the whole unit.
pub(super) fn may_replace(row: &Service, units: &[Unit<'_>]) -> bool {
    let check = row.launch_config.as_ref().and_then(|config| config.health_check.as_ref());
    // A check of the engine's own is told, and nothing more: Docker does not replace either.
    match check.map_or(Strategy::Keep, InstanceHealthCheck::strategy) {
        Strategy::Keep => false,
        Strategy::Recreate => true,
        Strategy::RecreateOnQuorum(quorum) => {
            let is_well = |unit: &&Unit<'_>| unit.members.values().all(|row| upgrade::is_good(row));
            units.iter().filter(is_well).count() >= quorum
        }
    }
}

/// Whether a unit and its replacement can be there at once.
pub(super) fn may_overlap(row: &Service) -> bool {
    !row.is_global()
        && row.retain_ip != Some(true)
        && row.fence_after.is_none()
        && row.launch_configs().iter().all(|(_, config)| is_free(config))
}

fn is_free(config: &LaunchConfig) -> bool {
    let publishes = |text: &String| PortSpec::parse(text).is_ok_and(|spec| spec.public.is_some());
    let label = "io.rancher.container.requested_ip";
    config.requested_ip_address.is_none()
        && config.labels.as_ref().is_none_or(|labels| !labels.contains_key(label))
        && config.network_mode.as_deref() != Some("host")
        && !config.ports.iter().flatten().any(publishes)
        && !config.data_volumes.iter().flatten().any(|volume| volume.contains(':'))
        && config.data_volume_mounts.as_ref().is_none_or(|mounts| mounts.is_empty())
        && config.data_volumes_from.as_ref().is_none_or(|from| from.is_empty())
}

/// The unit leaves its number to another, and runs until that one does.
pub(super) fn give_way(pass: &mut Pass<'_>, unit: &Unit<'_>, because: &str, plan: &mut Plan) {
    for container in unit.members.values() {
        let mut next = (***container).clone();
        next.gives_way = true;
        plan.write(next);
        let claim: Option<Claim> = upgrade::number(container);
        plan.steps.extend(claim.map(Step::Release));
        pass.log.say(&format!("Replaced because {because}"), container);
    }
    pass.wait(None);
}

/// Takes away the units that gave way, when their successors run, are blocked by them, or are not wanted.
pub(super) fn let_go<'a>(
    pass: &mut Pass<'a>,
    outgoing: &[&'a Arc<Row<Container>>],
    keep: &[Unit<'_>],
    plan: &mut Plan,
) {
    let configs: Vec<String> = pass.row.launch_configs().iter().map(|(name, _)| (*name).to_owned()).collect();
    for unit in group(outgoing) {
        let successor = keep.iter().find(|other| other.index == unit.index);
        // One that is well, and only shall be elsewhere, goes for nothing less than one that is well.
        let moves = unit.members.values().any(|row| row.leaving.is_some());
        let stands = |row: &Row<Container>| if moves { upgrade::is_good(row) } else { is_up(row) };
        let has_come = successor.is_some_and(|other| {
            configs.iter().all(|name| other.members.get(name.as_str()).is_some_and(|row| stands(row)))
        });
        let in_the_way = !moves && successor.is_some_and(|other| other.members.values().any(|row| is_unplaced(row)));
        let needless = successor.is_none() && keep.len() >= wanted(pass.row);
        let down = !unit.members.values().all(|row| is_up(row));
        if moves && (has_come || needless || down) {
            pass.take_unit(unit, MOVED, "another has taken its place", plan);
        } else if has_come || needless || down {
            pass.take_unit(unit, UNHEALTHY_ONE, "it was unhealthy", plan);
        } else if in_the_way {
            pass.take_unit(unit, UNHEALTHY_ONE, "it is unhealthy and in the way of its replacement", plan);
        } else {
            let awaited = successor.and_then(|other| other.members.values().find(|row| !is_up(row)));
            pass.wait(awaited.map(|row| status_of(row)));
        }
    }
}
