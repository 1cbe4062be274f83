//! Settings in effect: stored values over the defaults. A snapshot; a change of a setting makes a new one.

use std::collections::BTreeMap;

use remuda_model::settings;

/// Values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    stored: BTreeMap<String, String>,
}

impl Settings {
    /// Defaults, and what is stored.
    pub fn new(stored: BTreeMap<String, String>) -> Settings {
        Settings { stored }
    }

    /// The value in effect; `None` for an unknown name that is not stored.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.stored.get(name).map(String::as_str).or_else(|| Settings::default_of(name))
    }

    /// The same settings with one value changed.
    pub fn with(mut self, name: &str, value: Option<String>) -> Settings {
        match value {
            Some(value) => drop(self.stored.insert(name.to_owned(), value)),
            None => drop(self.stored.remove(name)),
        }
        self
    }

    /// Milliseconds of a setting in seconds (fractions allowed). A stored value that is no number counts as absent.
    fn ms(&self, name: &str) -> i64 {
        let parse =
            |text: &str| text.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        let stored = self.stored.get(name).and_then(|text| parse(text));
        let seconds = stored.or_else(|| Settings::default_of(name).and_then(parse)).unwrap_or(0.0);
        (seconds * 1000.0).min(9.0e15) as i64
    }

    fn default_of(name: &str) -> Option<&'static str> {
        settings::known(name).map(|setting| setting.default)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    pub fn remove_delay_ms(&self) -> i64 {
        self.ms("object.remove.time.delay.seconds")
    }
    pub fn error_replace_after_ms(&self) -> i64 {
        self.ms("remove.resources.after.seconds")
    }
    pub fn trim_after_ms(&self) -> i64 {
        self.ms("main_tables.purge.after.seconds")
    }
    pub fn reconnecting_after_ms(&self) -> i64 {
        self.ms("agent.reconnecting.after.seconds")
    }
    pub fn disconnected_after_ms(&self) -> i64 {
        self.ms("agent.disconnected.after.seconds")
    }
    pub fn container_start_deadline_ms(&self) -> i64 {
        self.ms("container.start.deadline.seconds")
    }
    pub fn container_stop_margin_ms(&self) -> i64 {
        self.ms("container.stop.margin.seconds")
    }
    /// At least so long after a host is given no new containers that others, which vanished with it, are noticed too.
    pub fn lost_after_ms(&self) -> i64 {
        const APART_MS: i64 = 4_000;
        self.ms("host.lost.after.seconds").max(self.reconnecting_after_ms().saturating_add(APART_MS))
    }
    pub fn lost_brake_ms(&self) -> i64 {
        self.ms("host.lost.brake.seconds")
    }
    pub fn lost_observe_ms(&self) -> i64 {
        self.ms("host.lost.observe.seconds")
    }
    pub fn replaces_lost(&self) -> bool {
        self.flag("host.lost.replace")
    }
    pub fn moves_at_once(&self) -> usize {
        let number = |text: &str| text.trim().parse().ok().filter(|n: &usize| *n > 0);
        self.get("host.moves.at.once").and_then(number).unwrap_or(50)
    }
    pub fn restart_window_ms(&self) -> i64 {
        self.ms("agent.restart.window.seconds")
    }
    pub fn withdraw_deadline_ms(&self) -> i64 {
        self.ms("service.withdraw.deadline.seconds")
    }
    pub fn process_deadline_ms(&self) -> i64 {
        self.ms("process.deadline.seconds")
    }
    pub fn full_pass_ms(&self) -> i64 {
        self.ms("reconcile.full.pass.seconds").max(1000)
    }
    pub fn manages_native_containers(&self) -> bool {
        self.flag("manage.nonrancher.containers")
    }
    /// The emptiest host first, not the fullest.
    pub fn spreads(&self) -> bool {
        self.flag("simple.allocator.spread")
    }
    pub fn network_cidr(&self) -> &str {
        self.get("docker.network.subnet.cidr").unwrap_or("10.42.0.0/16")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_values_win_unless_they_are_nonsense() {
        let settings = Settings::default().with("object.remove.time.delay.seconds", Some("0.5".into()));
        assert_eq!(settings.remove_delay_ms(), 500);
        let settings = settings.with("object.remove.time.delay.seconds", Some("soon".into()));
        assert_eq!(settings.remove_delay_ms(), 60_000);
        assert!(settings.manages_native_containers());
        assert_eq!(settings.get("no.such.setting"), None);
    }
}
