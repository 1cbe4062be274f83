//! How a container row enters a process. Requests, services and hosts that go all use the same few functions, so
//! that "stop" means the same whoever asks.

use remuda_model::Container;
use remuda_model::states::{
    ERROR, REMOVED, REMOVING, RESTARTING, RUNNING, STARTING, STOPPED, STOPPING, UPDATING_RUNNING,
};
use remuda_schema::{Row, Time};

use crate::settings::Settings;

/// What we want on the host, as stored in `container.desired`.
pub const WANT_RUNNING: &str = "running";
pub const WANT_STOPPED: &str = "stopped";
pub const WANT_REMOVED: &str = "removed";

/// Default grace period of a stop, in seconds.
pub const STOP_TIMEOUT_SECONDS: i64 = 10;

/// Asks for a start: one more serial for the host to act on.
pub fn start(row: &mut Row<Container>, settings: &Settings, now: Time) {
    (row.withdraw_by, row.unconfirmed) = (None, false);
    row.desired = WANT_RUNNING.to_owned();
    row.start_serial += 1;
    enter(row, STARTING, now.plus_ms(settings.container_start_deadline_ms()));
}

/// Asks for a restart: the row passes through stopping and starting, the host gets one more serial.
pub fn restart(row: &mut Row<Container>, settings: &Settings, now: Time) {
    row.desired = WANT_RUNNING.to_owned();
    row.start_serial += 1;
    enter(row, RESTARTING, now.plus_ms(settings.container_start_deadline_ms()));
}

/// Asks for a stop; `removed`: and for removal once it has stopped.
pub fn stop(row: &mut Row<Container>, timeout: Option<i64>, removed: bool, settings: &Settings, now: Time) {
    row.desired = if removed { WANT_REMOVED } else { WANT_STOPPED }.to_owned();
    row.stop_timeout_seconds = timeout.filter(|seconds| *seconds >= 0).or(row.stop_timeout_seconds);
    row.withdraw_by = None;
    enter(row, STOPPING, stopped_by(row, settings, now));
}

/// When a host that is told to stop it now must have done so.
pub fn stopped_by(row: &Container, settings: &Settings, now: Time) -> Time {
    let grace_ms = row.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT_SECONDS).saturating_mul(1000);
    now.plus_ms(grace_ms.saturating_add(settings.container_stop_margin_ms()))
}

/// A stop by the platform of a member of a service that goes on: those who route to it are told first.
pub fn retire(row: &mut Row<Container>, removed: bool, settings: &Settings, now: Time) {
    let serves = matches!(row.meta.state.as_str(), RUNNING | UPDATING_RUNNING);
    stop(row, None, removed, settings, now);
    let patience = settings.withdraw_deadline_ms();
    if serves && patience > 0 {
        row.withdraw_by = Some(now.plus_ms(patience));
        row.meta.progress.deadline = Some(stopped_by(row, settings, now.plus_ms(patience)));
        row.meta.progress.message = Some("Stopping when no host routes to it any more".to_owned());
    }
}

/// The same on the way to removal; `false`: nothing to do, as [`remove`] says.
pub fn retire_and_remove(row: &mut Row<Container>, settings: &Settings, now: Time) -> bool {
    if matches!(row.meta.state.as_str(), RUNNING | UPDATING_RUNNING) {
        retire(row, true, settings, now);
        return true;
    }
    remove(row, settings, now)
}

/// Asks for removal, through a stop where there may be a process. `false`: nothing to do, it is on its way or gone.
pub fn remove(row: &mut Row<Container>, settings: &Settings, now: Time) -> bool {
    match row.meta.state.as_str() {
        REMOVING | REMOVED | "purging" | "purged" => return false,
        STOPPING if row.desired == WANT_REMOVED => return false,
        STOPPING | STARTING | RUNNING | RESTARTING => stop(row, None, true, settings, now),
        _ => {
            row.desired = WANT_REMOVED.to_owned();
            enter(row, REMOVING, now.plus_ms(settings.process_deadline_ms()));
        }
    }
    true
}

/// A start that did not succeed: `error` if it never ran, else `stopped` with the reason.
pub fn start_failed(row: &mut Row<Container>, reason: &str) {
    if row.first_running.is_none() && !row.native_container {
        row.meta.fail(ERROR, reason);
    } else {
        row.desired = WANT_STOPPED.to_owned();
        row.meta.fail(STOPPED, reason);
    }
}

/// Enters a transitional state that ends by that time.
pub fn enter(row: &mut Row<Container>, state: &str, deadline: Time) {
    row.meta.enter(state);
    row.meta.progress.deadline = Some(deadline);
}

/// Runs to its end once (`services.md` §9.1).
pub fn is_start_once(row: &Container) -> bool {
    label(row, "io.rancher.container.start_once") == Some("true")
}

/// A label of the container.
pub fn label<'a>(row: &'a Container, key: &str) -> Option<&'a str> {
    row.labels.as_ref()?.get(key).map(String::as_str)
}
