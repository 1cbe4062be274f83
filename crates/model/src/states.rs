//! State names. Machines, rules and controllers spell them through these, so that a typo does not compile.

pub const REQUESTED: &str = "requested";
pub const REGISTERING: &str = "registering";
pub const CREATING: &str = "creating";
pub const CREATED: &str = "created";
pub const INACTIVE: &str = "inactive";
pub const ACTIVATING: &str = "activating";
pub const ACTIVE: &str = "active";
pub const DEACTIVATING: &str = "deactivating";
pub const UPDATING_ACTIVE: &str = "updating-active";
pub const UPDATING_INACTIVE: &str = "updating-inactive";
pub const REMOVING: &str = "removing";
pub const REMOVED: &str = "removed";
pub const RESTORING: &str = "restoring";
pub const PURGING: &str = "purging";
pub const PURGED: &str = "purged";

pub const STARTING: &str = "starting";
pub const RUNNING: &str = "running";
pub const STOPPING: &str = "stopping";
pub const STOPPED: &str = "stopped";
pub const RESTARTING: &str = "restarting";
pub const UPDATING_RUNNING: &str = "updating-running";
pub const UPDATING_STOPPED: &str = "updating-stopped";
pub const ERRORING: &str = "erroring";
pub const ERROR: &str = "error";

pub const UPGRADING: &str = "upgrading";
pub const UPGRADED: &str = "upgraded";
pub const CANCELING_UPGRADE: &str = "canceling-upgrade";
pub const CANCELED_UPGRADE: &str = "canceled-upgrade";
pub const ROLLING_BACK: &str = "rolling-back";
pub const CANCELING_ROLLBACK: &str = "canceling-rollback";
pub const CANCELED_ROLLBACK: &str = "canceled-rollback";
pub const FINISHING_UPGRADE: &str = "finishing-upgrade";

pub const BOOTSTRAPPING: &str = "bootstrapping";
pub const UPDATING: &str = "updating";

pub const RECONNECTING: &str = "reconnecting";
pub const DISCONNECTING: &str = "disconnecting";
pub const DISCONNECTED: &str = "disconnected";

/// Health verdicts (`resources.md` §4.7), not process states.
pub const HEALTHY: &str = "healthy";
pub const UNHEALTHY: &str = "unhealthy";
pub const INITIALIZING: &str = "initializing";
pub const REINITIALIZING: &str = "reinitializing";
pub const DEGRADED: &str = "degraded";

/// States of a service in which its containers are there to be used (`services.md` §2).
pub fn is_active_like(state: &str) -> bool {
    matches!(
        state,
        ACTIVATING
            | ACTIVE
            | UPDATING_ACTIVE
            | UPGRADING
            | UPGRADED
            | ROLLING_BACK
            | CANCELING_UPGRADE
            | CANCELED_UPGRADE
            | CANCELING_ROLLBACK
            | CANCELED_ROLLBACK
            | FINISHING_UPGRADE
            | RESTARTING
    )
}
