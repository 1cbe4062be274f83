//! The table of service keys. Adding one whose value goes straight into `launchConfig` is one line here.

use crate::node::Node;
use crate::values::{self, Read};

/// What a key does.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Its value becomes that field of `launchConfig`.
    Launch(&'static str, fn(&Node) -> Read),
    /// [`crate::compile`] has code for it.
    Own,
    /// Legal, without meaning here: one warning says why.
    Ignored(&'static str),
    /// Understood by Rancher or Compose, not by this release: an error, because leaving it out would be unsafe.
    NotYet,
}

/// Keys of docker-compose files.
pub const DOCKER: &[(&str, Rule)] = &[
    ("image", Rule::Own),
    ("command", Rule::Launch("command", values::command)),
    ("entrypoint", Rule::Launch("entryPoint", values::command)),
    ("environment", Rule::Own),
    ("ports", Rule::Launch("ports", values::ports)),
    ("expose", Rule::Launch("expose", values::list)),
    ("volumes", Rule::Launch("dataVolumes", values::volumes)),
    ("volume_driver", Rule::Launch("volumeDriver", values::text)),
    ("links", Rule::Own),
    ("depends_on", Rule::Own),
    ("labels", Rule::Own),
    ("net", Rule::Own),
    ("network_mode", Rule::Own),
    ("restart", Rule::Own),
    ("dns", Rule::Launch("dns", values::one_or_list)),
    ("dns_search", Rule::Launch("dnsSearch", values::one_or_list)),
    ("cap_add", Rule::Launch("capAdd", values::list)),
    ("cap_drop", Rule::Launch("capDrop", values::list)),
    ("mem_limit", Rule::Launch("memory", values::bytes)),
    ("memswap_limit", Rule::Launch("memorySwap", values::bytes)),
    ("cpu_shares", Rule::Launch("cpuShares", values::int)),
    ("cpuset", Rule::Launch("cpuSet", values::text)),
    ("devices", Rule::Launch("devices", values::devices)),
    ("extra_hosts", Rule::Launch("extraHosts", values::extra_hosts)),
    ("log_driver", Rule::Own),
    ("log_opt", Rule::Own),
    ("logging", Rule::Own),
    ("privileged", Rule::Launch("privileged", values::boolean)),
    ("read_only", Rule::Launch("readOnly", values::boolean)),
    ("stdin_open", Rule::Launch("stdinOpen", values::boolean)),
    ("tty", Rule::Launch("tty", values::boolean)),
    ("security_opt", Rule::Launch("securityOpt", values::list)),
    ("user", Rule::Launch("user", values::text)),
    ("working_dir", Rule::Launch("workingDir", values::text)),
    ("hostname", Rule::Launch("hostname", values::text)),
    ("domainname", Rule::Launch("domainName", values::text)),
    ("pid", Rule::Launch("pidMode", values::text)),
    ("scale", Rule::Own),
    ("metadata", Rule::Own),
    ("container_name", Rule::Ignored("containers are named stack_service_N")),
    ("build", Rule::NotYet),
    ("dockerfile", Rule::NotYet),
    ("env_file", Rule::NotYet),
    ("extends", Rule::NotYet),
    ("volumes_from", Rule::NotYet),
    ("external_links", Rule::NotYet),
    ("networks", Rule::NotYet),
    ("deploy", Rule::NotYet),
    ("healthcheck", Rule::NotYet),
    ("secrets", Rule::NotYet),
    ("configs", Rule::NotYet),
    ("profiles", Rule::NotYet),
    ("ulimits", Rule::NotYet),
    ("sysctls", Rule::NotYet),
    ("tmpfs", Rule::NotYet),
    ("shm_size", Rule::NotYet),
    ("stop_signal", Rule::NotYet),
    ("stop_grace_period", Rule::NotYet),
    ("pull_policy", Rule::NotYet),
    ("init", Rule::NotYet),
    ("ipc", Rule::NotYet),
    ("uts", Rule::NotYet),
    ("cgroup_parent", Rule::NotYet),
    ("mac_address", Rule::NotYet),
    ("cpu_quota", Rule::NotYet),
    ("cpus", Rule::NotYet),
    ("platform", Rule::NotYet),
];

/// Keys of rancher-compose files, also legal in docker-compose files.
pub const RANCHER: &[(&str, Rule)] = &[
    ("scale", Rule::Own),
    ("metadata", Rule::Own),
    ("scale_policy", Rule::NotYet),
    ("health_check", Rule::NotYet),
    ("upgrade_strategy", Rule::NotYet),
    ("retain_ip", Rule::NotYet),
    ("load_balancer_config", Rule::NotYet),
    ("lb_config", Rule::NotYet),
    ("default_cert", Rule::NotYet),
    ("certs", Rule::NotYet),
    ("external_ips", Rule::NotYet),
    ("hostname", Rule::NotYet),
];

/// Common slips that are not close to the right word.
pub const SLIPS: &[(&str, &str)] = &[
    ("port", "ports"),
    ("workdir", "working_dir"),
    ("hosts", "extra_hosts"),
    ("memory_swap", "memswap_limit"),
    ("memory", "mem_limit"),
    ("env", "environment"),
    ("volume", "volumes"),
];

/// The rule of a key.
pub fn find(table: &[(&'static str, Rule)], name: &str) -> Option<Rule> {
    table.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}
