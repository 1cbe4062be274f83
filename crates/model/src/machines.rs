//! The state tables (`resources.md` §1.3, §4.2, §6.1; `services.md` §2; `resources-infra.md`). What an action does
//! in which state is read from here and nowhere else. Processes that belong to later work (upgrades of stacks,
//! migration, allocation, health as a process) are not in the tables.

use remuda_schema::Machine;
use remuda_schema::machine::{Transition, transition};

use crate::states::*;

const CREATE: Transition = transition("create", &[REQUESTED], REGISTERING, INACTIVE);
const ACTIVATE: Transition = transition("activate", &[INACTIVE, REGISTERING], ACTIVATING, ACTIVE);
const UPDATE_INACTIVE: Transition = transition("update", &[INACTIVE], UPDATING_INACTIVE, INACTIVE);
const UPDATE_ACTIVE: Transition = transition("update", &[ACTIVE], UPDATING_ACTIVE, ACTIVE);
const DEACTIVATE: Transition = transition(
    "deactivate",
    &[REGISTERING, ACTIVE, ACTIVATING, UPDATING_ACTIVE, UPDATING_INACTIVE],
    DEACTIVATING,
    INACTIVE,
);
const REMOVE: Transition =
    transition("remove", &[REQUESTED, INACTIVE, REGISTERING, UPDATING_ACTIVE, UPDATING_INACTIVE], REMOVING, REMOVED);
const PURGE: Transition = transition("purge", &[REMOVED], PURGING, PURGED);
const RESTORE: Transition = transition("restore", &[REMOVED], RESTORING, INACTIVE);

/// Accounts, hosts, images, networks, ports and most others.
pub static DEFAULT: Machine =
    Machine { transitions: &[CREATE, ACTIVATE, UPDATE_INACTIVE, UPDATE_ACTIVE, DEACTIVATE, REMOVE, PURGE, RESTORE] };

/// Keys: a removed key cannot come back.
pub static CREDENTIAL: Machine =
    Machine { transitions: &[CREATE, ACTIVATE, UPDATE_INACTIVE, UPDATE_ACTIVE, DEACTIVATE, REMOVE, PURGE] };

/// Agents: the default set, and what the connection does.
pub static AGENT: Machine = Machine {
    transitions: &[
        CREATE,
        ACTIVATE,
        UPDATE_INACTIVE,
        UPDATE_ACTIVE,
        transition(
            "deactivate",
            &[
                REGISTERING,
                ACTIVE,
                ACTIVATING,
                UPDATING_ACTIVE,
                UPDATING_INACTIVE,
                RECONNECTING,
                DISCONNECTING,
                DISCONNECTED,
            ],
            DEACTIVATING,
            INACTIVE,
        ),
        REMOVE,
        PURGE,
        RESTORE,
        transition("reconnect", &[ACTIVE, ACTIVATING, DISCONNECTED], RECONNECTING, ACTIVE),
        transition("disconnect", &[ACTIVE, RECONNECTING], DISCONNECTING, DISCONNECTED),
    ],
};

/// Volumes made by a request stay `requested` until a container uses them.
pub static VOLUME: Machine = Machine {
    transitions: &[
        CREATE,
        transition("activate", &[INACTIVE, REGISTERING, REQUESTED], ACTIVATING, ACTIVE),
        UPDATE_INACTIVE,
        UPDATE_ACTIVE,
        DEACTIVATE,
        REMOVE,
        PURGE,
        RESTORE,
    ],
};

/// Labels and events: made and forgotten.
pub static CREATE_REMOVE: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], CREATING, CREATED),
        transition("remove", &[REQUESTED, CREATING, CREATED], REMOVING, REMOVED),
    ],
};

/// Rows that connect two others.
pub static MAP: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], ACTIVATING, ACTIVE),
        transition("remove", &[REQUESTED, ACTIVATING, ACTIVE], REMOVING, REMOVED),
    ],
};

/// Links between services can change.
pub static CONSUME_MAP: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], ACTIVATING, ACTIVE),
        UPDATE_ACTIVE,
        transition("remove", &[REQUESTED, ACTIVATING, ACTIVE, UPDATING_ACTIVE], REMOVING, REMOVED),
    ],
};

/// Certificates: active or gone.
pub static CERTIFICATE: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], ACTIVATING, ACTIVE),
        UPDATE_ACTIVE,
        transition("remove", &[REQUESTED, ACTIVE, ACTIVATING], REMOVING, REMOVED),
    ],
};

pub static MOUNT: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], ACTIVATING, ACTIVE),
        transition("deactivate", &[ACTIVATING, ACTIVE], DEACTIVATING, INACTIVE),
        transition("remove", &[REQUESTED, INACTIVE, DEACTIVATING], REMOVING, REMOVED),
    ],
};

/// `create` goes on to `start` from `creating` unless `startOnCreate` is false. A restart never rests in between.
pub static CONTAINER: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], CREATING, STOPPED),
        transition("start", &[CREATING, STOPPED], STARTING, RUNNING),
        transition("stop", &[CREATING, STARTING, RUNNING, UPDATING_RUNNING, UPDATING_STOPPED], STOPPING, STOPPED),
        transition("restart", &[RUNNING], RESTARTING, RUNNING),
        transition("update", &[RUNNING], UPDATING_RUNNING, RUNNING),
        transition("update", &[STOPPED], UPDATING_STOPPED, STOPPED),
        transition("error", &[CREATING, STOPPED], ERRORING, ERROR),
        transition(
            "remove",
            &[REQUESTED, CREATING, STOPPED, UPDATING_RUNNING, UPDATING_STOPPED, ERRORING, ERROR],
            REMOVING,
            REMOVED,
        ),
        PURGE,
        transition("restore", &[REMOVED], RESTORING, STOPPED),
    ],
};

/// An active stack; it has no inactive state, its services have.
pub static STACK: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], ACTIVATING, ACTIVE),
        UPDATE_ACTIVE,
        transition("error", &[ACTIVATING], ERRORING, ERROR),
        transition("upgrade", &[ACTIVE], UPGRADING, UPGRADED),
        transition("cancelupgrade", &[UPGRADING], CANCELING_UPGRADE, CANCELED_UPGRADE),
        transition("rollback", &[UPGRADED, CANCELED_UPGRADE], ROLLING_BACK, ACTIVE),
        transition("cancelrollback", &[ROLLING_BACK], CANCELING_ROLLBACK, CANCELED_UPGRADE),
        transition("finishupgrade", &[UPGRADED, CANCELED_UPGRADE], FINISHING_UPGRADE, ACTIVE),
        transition(
            "remove",
            &[
                REQUESTED,
                ACTIVATING,
                ACTIVE,
                UPDATING_ACTIVE,
                ERRORING,
                ERROR,
                UPGRADING,
                UPGRADED,
                CANCELING_UPGRADE,
                CANCELED_UPGRADE,
                ROLLING_BACK,
                CANCELING_ROLLBACK,
                FINISHING_UPGRADE,
            ],
            REMOVING,
            REMOVED,
        ),
    ],
};

/// Finishing an upgrade is not cancelled: what it removes is gone with its first step.
pub static SERVICE: Machine = Machine {
    transitions: &[
        CREATE,
        transition("activate", &[INACTIVE, RESTARTING], ACTIVATING, ACTIVE),
        UPDATE_INACTIVE,
        transition("update", &[ACTIVE, UPDATING_ACTIVE], UPDATING_ACTIVE, ACTIVE),
        transition(
            "deactivate",
            &[ACTIVE, ACTIVATING, UPDATING_ACTIVE, UPDATING_INACTIVE, RESTARTING],
            DEACTIVATING,
            INACTIVE,
        ),
        transition("upgrade", &[ACTIVE, INACTIVE], UPGRADING, UPGRADED),
        transition("cancelupgrade", &[UPGRADING], CANCELING_UPGRADE, CANCELED_UPGRADE),
        transition("rollback", &[UPGRADED, CANCELED_UPGRADE], ROLLING_BACK, ACTIVE),
        transition("cancelrollback", &[ROLLING_BACK], CANCELING_ROLLBACK, CANCELED_ROLLBACK),
        transition("finishupgrade", &[UPGRADED, CANCELED_UPGRADE, CANCELED_ROLLBACK], FINISHING_UPGRADE, ACTIVE),
        transition("restart", &[ACTIVE], RESTARTING, ACTIVE),
        transition(
            "remove",
            &[
                REQUESTED,
                REGISTERING,
                INACTIVE,
                ACTIVATING,
                ACTIVE,
                UPDATING_ACTIVE,
                UPDATING_INACTIVE,
                DEACTIVATING,
                UPGRADING,
                UPGRADED,
                CANCELING_UPGRADE,
                CANCELED_UPGRADE,
                ROLLING_BACK,
                CANCELING_ROLLBACK,
                CANCELED_ROLLBACK,
                FINISHING_UPGRADE,
                RESTARTING,
            ],
            REMOVING,
            REMOVED,
        ),
    ],
};

pub static PHYSICAL_HOST: Machine = Machine {
    transitions: &[
        transition("create", &[REQUESTED], CREATING, CREATED),
        transition("bootstrap", &[CREATED, CREATING], BOOTSTRAPPING, ACTIVE),
        transition("update", &[ACTIVE], UPDATING, ACTIVE),
        transition("error", &[CREATING, BOOTSTRAPPING, UPDATING], ERRORING, ERROR),
        transition(
            "remove",
            &[ACTIVE, REQUESTED, BOOTSTRAPPING, CREATING, CREATED, UPDATING, ERROR, ERRORING],
            REMOVING,
            REMOVED,
        ),
    ],
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::registry;

    /// Actions that are answered by code in every state or under conditions of their own.
    const HANDLED: [&str; 17] = [
        "activateservices",
        "addoutputs",
        "addservicelink",
        "deactivateservices",
        "delete",
        "dockersocket",
        "drain",
        "evacuate",
        "execute",
        "exportconfig",
        "giveup",
        "logs",
        "proxy",
        "removeservicelink",
        "setlabels",
        "setmembers",
        "setservicelinks",
    ];

    #[test]
    fn a_transitional_state_tells_its_process_and_its_end() {
        for ty in registry().types() {
            let Some(machine) = ty.machine else { continue };
            let rows = machine.transitions;
            for row in rows {
                let others = rows.iter().filter(|other| other.via == row.via);
                assert!(others.clone().all(|other| (other.action, other.to) == (row.action, row.to)), "{}", row.via);
                assert!(rows.iter().all(|other| other.to != row.via), "{} of {} rests while it runs", row.via, ty.name);
            }
            for state in machine.states() {
                let left = rows.iter().any(|row| row.from.contains(&state) || row.via == state);
                assert!(left || ["removed", "purged"].contains(&state), "{} is stuck in `{state}`", ty.name);
            }
        }
    }

    #[test]
    fn every_action_is_a_process_or_handled() {
        let mut handled = BTreeSet::new();
        for ty in registry().types() {
            for action in &ty.actions {
                if !ty.machine.is_some_and(|machine| machine.has(action.name)) {
                    assert!(HANDLED.contains(&action.name), "`{}` of `{}` does nothing", action.name, ty.name);
                    handled.insert(action.name);
                }
            }
        }
        assert_eq!(handled, BTreeSet::from(HANDLED), "listed as handled, but declared nowhere");
    }
}
