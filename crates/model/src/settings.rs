//! The settings of the server: name, default, who sees them (`access-control.md` §12, `resources-infra.md` §11.1).
//!
//! Only settings with an effect are listed, and those that clients of the original read from everybody's list.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    /// Value in effect when none is set.
    pub default: &'static str,
    /// Seen by projects and users, not by administrators only.
    pub public: bool,
    pub description: &'static str,
}

/// Base URL handed to hosts and put in answers; empty means the request's own.
pub const API_HOST: &str = "api.host";
/// Trust `X-API-request-url` and `X-API-client-ip`.
pub const ALLOW_CLIENT_OVERRIDE: &str = "api.allow.client.override";
/// How long lists show removed rows at most.
pub const SHOW_REMOVED_SECONDS: &str = "api.show.removed.for.seconds";
/// Time between removal and purge of a row.
pub const REMOVE_TIME_DELAY_SECONDS: &str = "object.remove.time.delay.seconds";
/// Time between two pings on an event stream.
pub const PING_INTERVAL_MS: &str = "api.sub.ping.interval.millis";
/// Whether containers started outside appear.
pub const MANAGE_NATIVE: &str = "manage.nonrancher.containers";
/// Managed network of projects made from now on.
pub const SUBNET: &str = "docker.network.subnet.cidr";
/// How long a registration token is accepted.
pub const REGISTRATION_TOKEN_PERIOD_MS: &str = "registration.token.period.millis";
/// How long the audit log is kept.
pub const AUDIT_LOG_SECONDS: &str = "audit_log.purge.after.seconds";
/// A silent agent's host gets no new containers after that time.
pub const AGENT_RECONNECTING_SECONDS: &str = "agent.reconnecting.after.seconds";
/// A silent agent counts as disconnected after that time.
pub const AGENT_DISCONNECTED_SECONDS: &str = "agent.disconnected.after.seconds";
/// A start that the host does not report within that time has failed.
pub const START_DEADLINE_SECONDS: &str = "container.start.deadline.seconds";
/// What a host may take to stop a container beyond the container's own time.
pub const STOP_MARGIN_SECONDS: &str = "container.stop.margin.seconds";
/// Any other process is looked at again after that time.
pub const PROCESS_DEADLINE_SECONDS: &str = "process.deadline.seconds";
/// Everything is planned again at least that often.
pub const FULL_PASS_SECONDS: &str = "reconcile.full.pass.seconds";
/// Age at which a service's container in `error` is replaced.
pub const REMOVE_ERRORED_SECONDS: &str = "remove.resources.after.seconds";
/// How long purged rows are kept.
pub const PURGED_SECONDS: &str = "main_tables.purge.after.seconds";

const fn private(name: &'static str, default: &'static str, description: &'static str) -> Known {
    Known { name, default, public: false, description }
}

const fn public(name: &'static str, default: &'static str, description: &'static str) -> Known {
    Known { name, default, public: true, description }
}

/// Every setting, by name.
pub const SETTINGS: &[Known] = &[
    private(AGENT_DISCONNECTED_SECONDS, "180", "Seconds of silence after which an agent counts as disconnected"),
    private(AGENT_RECONNECTING_SECONDS, "10", "Seconds of silence after which a host gets no new containers"),
    private(ALLOW_CLIENT_OVERRIDE, "false", "Trust the headers `X-API-request-url` and `X-API-client-ip`"),
    private(API_HOST, "", "Base URL handed to hosts; empty means that of the request"),
    private(SHOW_REMOVED_SECONDS, "300", "Seconds for which lists show removed resources at most"),
    private(PING_INTERVAL_MS, "5000", "Milliseconds between two pings on an event stream"),
    public("api.ui.index", "", "Page that browsers are sent to"),
    private(AUDIT_LOG_SECONDS, "7776000", "Seconds for which the audit log is kept"),
    public("catalog.url", "", "Where templates come from"),
    public("cattle.version", env!("CARGO_PKG_VERSION"), "Version of the server"),
    private(START_DEADLINE_SECONDS, "600", "Seconds after which a start that the host does not report has failed"),
    private(STOP_MARGIN_SECONDS, "30", "Seconds a host may take beyond a container's own time to stop"),
    public("docker.machine.version", "", "Version of docker-machine"),
    private(SUBNET, "10.42.0.0/16", "Managed network of projects made from now on"),
    public("engine.install.url", "https://get.docker.com", "Script that installs Docker"),
    public("go.machine.service.version", "", "Version of the machine service"),
    public("help.enabled", "false", "Whether the web page shows help"),
    private(PURGED_SECONDS, "604800", "Seconds for which purged resources are kept"),
    private(MANAGE_NATIVE, "true", "Whether containers started outside appear"),
    private(REMOVE_TIME_DELAY_SECONDS, "60", "Seconds between removal and purge of a resource"),
    private(PROCESS_DEADLINE_SECONDS, "60", "Seconds after which a process is looked at again"),
    public("rancher.compose.darwin.url", "", "Download of rancher-compose for macOS"),
    public("rancher.compose.linux.url", "", "Download of rancher-compose for Linux"),
    public("rancher.compose.version", "", "Version of rancher-compose"),
    public("rancher.compose.windows.url", "", "Download of rancher-compose for Windows"),
    public("rancher.server.image", "", "Image of the server"),
    private(FULL_PASS_SECONDS, "60", "Seconds between two full passes of each controller"),
    private(REGISTRATION_TOKEN_PERIOD_MS, "315360000000", "Milliseconds for which a registration token is accepted"),
    private(REMOVE_ERRORED_SECONDS, "5", "Seconds after which a service's container in `error` is replaced"),
    public("swarm.tls.port", "", "Port of Swarm"),
    public("vm.enabled", "false", "Whether virtual machines can be made"),
];

/// The setting of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_and_unique() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(known(SUBNET).map(|setting| setting.public), Some(false));
    }

    #[test]
    fn the_default_subnet_is_one() {
        let default = known(SUBNET).map(|setting| setting.default.parse());
        assert_eq!(default, Some(Ok(crate::address::DEFAULT_SUBNET)));
    }
}
