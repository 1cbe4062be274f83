//! The settings of the server: name, default, who sees them (`access-control.md` §12, `resources-infra.md` §11.1).
//!
//! Only settings with an effect are listed, and those that clients of the original read from everybody's list. Server
//! and orchestrator read their defaults here; the server overlays facts about its process (`cattle.version`).

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

/// The names everybody may see, separated by commas: its default is the table's `public` flags.
pub const PUBLIC_NAMES: &str = "settings.public";

const fn private(name: &'static str, default: &'static str, description: &'static str) -> Known {
    Known { name, default, public: false, description }
}

const fn public(name: &'static str, default: &'static str, description: &'static str) -> Known {
    Known { name, default, public: true, description }
}

/// Every setting, by name. The delays are shorter than the original's where no client can tell the difference.
pub const SETTINGS: &[Known] = &[
    private(
        "agent.disconnected.after.seconds",
        "180",
        "Seconds of silence after which an agent counts as disconnected",
    ),
    private("agent.reconnecting.after.seconds", "8", "Seconds of silence after which a host gets no new containers"),
    private(
        "agent.restart.window.seconds",
        "120",
        "Seconds for which a host whose agent was stopped on purpose does not count as lost",
    ),
    private("api.allow.client.override", "false", "Trust the headers `X-API-request-url` and `X-API-client-ip`"),
    private("api.host", "", "Base URL handed to hosts; empty means that of the request"),
    private("api.show.removed.for.seconds", "300", "Seconds for which lists show removed resources at most"),
    public("api.ui.index", "local", "Page that browsers are sent to"),
    private("audit_log.purge.after.seconds", "7776000", "Seconds for which the audit log is kept"),
    private("bootstrap.required.image", "remuda/agent", "Image of the agent shown with a registration token"),
    private("build.context.keep.seconds", "604800", "Seconds for which a build context is kept that no service names"),
    private("build.context.max.bytes", "2147483648", "Bytes a build context may have"),
    private("build.context.max.count", "100", "Build contexts kept for one project at a time"),
    public("catalog.url", "", "Where templates come from"),
    public("cattle.version", "", "Version of the server"),
    private(
        "container.start.deadline.seconds",
        "600",
        "Seconds after which a start that the host does not report has failed; progress of a pull extends it",
    ),
    private("container.stop.margin.seconds", "30", "Seconds a host may take beyond a container's own time to stop"),
    public("docker.machine.version", "", "Version of docker-machine"),
    private("docker.network.subnet.cidr", "10.42.0.0/16", "Managed network of projects made from now on"),
    private("docker.register.command", "curl -fsSL %URL% | sudo sh", "The line to paste on a host to join it"),
    public("engine.install.url", "https://get.docker.com", "Script that installs Docker"),
    public("go.machine.service.version", "", "Version of the machine service"),
    public("help.enabled", "true", "Whether the web page shows help"),
    private("host.lost.after.seconds", "12", "Seconds of silence after which a host counts as lost"),
    private(
        "host.lost.brake.seconds",
        "0",
        "Seconds after which hosts that vanished together count as lost; 0: not before somebody says so (`giveup`)",
    ),
    private(
        "host.lost.observe.seconds",
        "60",
        "Seconds after a start of the server in which no host counts as lost, so that all can connect",
    ),
    private(
        "host.lost.replace",
        "true",
        "Whether containers of services on lost hosts are replaced; `replaceLost` of a service wins",
    ),
    private("host.moves.at.once", "50", "Containers that are moved from hosts at the same time, per environment"),
    private("lb.instance.image", "haproxy:2.8", "Image of load balancers that name none; HAProxy 2.4 or newer"),
    private("main_tables.purge.after.seconds", "604800", "Seconds for which purged resources are kept"),
    private("manage.nonrancher.containers", "true", "Whether containers started outside appear"),
    private("object.remove.time.delay.seconds", "60", "Seconds for which a removed resource can be restored"),
    private("process.deadline.seconds", "60", "Seconds after which a process is looked at again"),
    public(
        "rancher.compose.darwin.url",
        "https://releases.rancher.com/compose/v0.12.5/rancher-compose-darwin-amd64-v0.12.5.tar.gz",
        "Download of rancher-compose for macOS",
    ),
    public(
        "rancher.compose.linux.url",
        "https://releases.rancher.com/compose/v0.12.5/rancher-compose-linux-amd64-v0.12.5.tar.gz",
        "Download of rancher-compose for Linux",
    ),
    public("rancher.compose.version", "v0.12.5", "Version of rancher-compose"),
    public(
        "rancher.compose.windows.url",
        "https://releases.rancher.com/compose/v0.12.5/rancher-compose-windows-386-v0.12.5.zip",
        "Download of rancher-compose for Windows",
    ),
    public("rancher.server.image", "", "Image of the server"),
    private("reconcile.full.pass.seconds", "60", "Seconds between two full passes of each controller"),
    private(
        "registration.token.period.millis",
        "315360000000",
        "Milliseconds for which a registration token is accepted",
    ),
    private(
        "remove.resources.after.seconds",
        "5",
        "Seconds after which a service's container in `error` is replaced at first; doubles up to a minute",
    ),
    private(
        "service.withdraw.deadline.seconds",
        "10",
        "Seconds for which a service's container runs on at most until no host routes to it any more; 0 stops at once",
    ),
    private(
        "simple.allocator.spread",
        "true",
        "Whether a container goes to the host with the fewest containers, not to the one with the most",
    ),
    public("swarm.tls.port", "2376", "Port of Swarm"),
    private("ui.pl", "rancher", "Product name in a cookie that web pages read"),
    public("vm.enabled", "false", "Whether virtual machines can be made"),
];

/// The setting of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Value of the setting while none is stored.
pub fn default(name: &str) -> Option<String> {
    match name {
        PUBLIC_NAMES => Some(public_names().collect::<Vec<_>>().join(",")),
        name => known(name).map(|setting| setting.default.to_owned()),
    }
}

/// The settings everybody may see unless [`PUBLIC_NAMES`] says otherwise.
pub fn public_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter(|setting| setting.public).map(|setting| setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_and_unique() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(default(PUBLIC_NAMES).map(|names| names.split(',').count()), Some(14));
        assert_eq!(default("no.such.setting"), None);
    }

    #[test]
    fn the_default_subnet_is_one() {
        let default = known("docker.network.subnet.cidr").map(|setting| setting.default.parse());
        assert_eq!(default, Some(Ok(crate::address::DEFAULT_SUBNET)));
    }
}
