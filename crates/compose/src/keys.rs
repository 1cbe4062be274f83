//! The table of service keys. Adding one whose value goes straight into `launchConfig` is one line here.

use crate::node::Node;
use crate::values::{self, Read};

/// What a key does.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Its value becomes that field of `launchConfig`.
    Launch(&'static str, fn(&Node) -> Read),
    /// [`crate::convert`] has code for it.
    Own,
    /// Legal, without meaning here: one warning says why.
    Ignored(&'static str),
    /// Leaving it out would be unsafe: an error says why.
    Refused(&'static str),
}

use Rule::{Ignored, Launch, Own, Refused};

const NO_FIELD: &str = "containers here have no such setting";
const NO_VM: &str = "there are no virtual machines here (the memory of a container is `mem_limit`)";
const NO_HOOK: &str = "nothing here would run it, and the service may not work without";

/// Keys of docker-compose files.
pub const DOCKER: &[(&str, Rule)] = &[
    ("image", Own),
    ("build", Own),
    ("dockerfile", Own),
    ("command", Launch("command", values::command)),
    ("entrypoint", Launch("entryPoint", values::command)),
    ("environment", Own),
    ("env_file", Own),
    ("ports", Own),
    ("expose", Own),
    ("volumes", Own),
    ("volume_driver", Launch("volumeDriver", values::text)),
    ("volumes_from", Own),
    ("links", Own),
    ("external_links", Own),
    ("depends_on", Own),
    ("labels", Own),
    ("label_file", Own),
    ("annotations", Own),
    ("net", Own),
    ("network_mode", Own),
    ("networks", Own),
    ("restart", Own),
    ("healthcheck", Own),
    ("deploy", Own),
    ("profiles", Own),
    ("pull_policy", Own),
    ("dns", Launch("dns", values::one_or_list)),
    ("dns_search", Launch("dnsSearch", values::one_or_list)),
    ("dns_opt", Launch("dnsOpt", values::list)),
    ("cap_add", Launch("capAdd", values::list)),
    ("cap_drop", Launch("capDrop", values::list)),
    ("mem_limit", Launch("memory", values::bytes)),
    ("memswap_limit", Launch("memorySwap", values::bytes)),
    ("mem_reservation", Launch("memoryReservation", values::bytes)),
    ("mem_swappiness", Launch("memorySwappiness", values::int)),
    ("oom_kill_disable", Launch("oomKillDisable", values::boolean)),
    ("oom_score_adj", Launch("oomScoreAdj", values::int)),
    ("cpu_shares", Launch("cpuShares", values::int)),
    ("cpu_quota", Launch("cpuQuota", values::int)),
    ("cpu_period", Launch("cpuPeriod", values::int)),
    ("cpus", Own),
    ("cpuset", Launch("cpuSet", values::text)),
    ("devices", Launch("devices", values::devices)),
    ("extra_hosts", Launch("extraHosts", values::extra_hosts)),
    ("log_driver", Own),
    ("log_opt", Own),
    ("logging", Own),
    ("privileged", Launch("privileged", values::boolean)),
    ("read_only", Launch("readOnly", values::boolean)),
    ("stdin_open", Launch("stdinOpen", values::boolean)),
    ("tty", Launch("tty", values::boolean)),
    ("security_opt", Launch("securityOpt", values::list)),
    ("user", Launch("user", values::text)),
    ("working_dir", Launch("workingDir", values::text)),
    ("hostname", Launch("hostname", values::text)),
    ("domainname", Launch("domainName", values::text)),
    ("pid", Launch("pidMode", values::text)),
    ("ipc", Launch("ipcMode", values::text)),
    ("userns_mode", Launch("usernsMode", values::text)),
    ("pids_limit", Launch("pidsLimit", values::int)),
    ("storage_opt", Launch("storageOpt", values::text_map)),
    ("uts", Launch("uts", values::text)),
    ("isolation", Launch("isolation", values::text)),
    ("cgroup_parent", Launch("cgroupParent", values::text)),
    ("ulimits", Launch("ulimits", values::ulimits)),
    ("sysctls", Launch("sysctls", values::text_map)),
    ("tmpfs", Launch("tmpfs", values::tmpfs)),
    ("shm_size", Launch("shmSize", values::bytes)),
    ("stop_signal", Launch("stopSignal", values::text)),
    ("group_add", Launch("groupAdd", values::list)),
    ("blkio_weight", Launch("blkioWeight", values::int)),
    ("blkio_weight_device", Own),
    ("device_read_bps", Own),
    ("device_read_iops", Own),
    ("device_write_bps", Own),
    ("device_write_iops", Own),
    ("scale", Own),
    ("secrets", Own),
    ("configs", Own),
    ("container_name", Ignored("containers are named stack_service_N")),
    ("mac_address", Ignored(NO_FIELD)),
    ("init", Ignored(NO_FIELD)),
    ("stop_grace_period", Ignored(NO_FIELD)),
    ("runtime", Ignored(NO_FIELD)),
    ("cpu_count", Ignored(NO_FIELD)),
    ("cpu_percent", Ignored(NO_FIELD)),
    ("cpu_rt_period", Ignored(NO_FIELD)),
    ("cpu_rt_runtime", Ignored(NO_FIELD)),
    ("cgroup", Ignored(NO_FIELD)),
    ("credential_spec", Ignored(NO_FIELD)),
    ("device_cgroup_rules", Ignored(NO_FIELD)),
    ("blkio_config", Ignored("write `blkio_weight` and the `device_…` keys instead")),
    ("platform", Ignored("hosts carry no label with their architecture")),
    ("develop", Ignored("it is for `docker compose watch`")),
    ("attach", Ignored("`logs` chooses what is shown")),
    ("gpus", Refused("hosts do not hand out devices by number")),
    ("post_start", Refused(NO_HOOK)),
    ("pre_stop", Refused(NO_HOOK)),
    ("provider", Refused(NO_HOOK)),
    ("models", Refused(NO_HOOK)),
    ("use_api_socket", Refused(NO_HOOK)),
];

/// Keys of rancher-compose files, also legal in docker-compose files and under `x-rancher`.
pub const RANCHER: &[(&str, Rule)] = &[
    ("scale", Own),
    ("scale_policy", Own),
    ("health_check", Own),
    ("metadata", Own),
    ("upgrade_strategy", Own),
    ("retain_ip", Own),
    ("load_balancer_config", Own),
    ("lb_config", Own),
    ("default_cert", Own),
    ("certs", Own),
    ("external_ips", Own),
    // In a docker-compose file it is the container's.
    ("hostname", Own),
    ("type", Refused(NO_VM)),
    ("vcpu", Refused(NO_VM)),
    ("memory", Refused(NO_VM)),
    ("userdata", Refused(NO_VM)),
    ("disks", Refused(NO_VM)),
    ("storage_driver", Refused("drivers of one's own are not supported")),
    ("network_driver", Refused("drivers of one's own are not supported")),
    ("service_schemas", Ignored("it was never sent")),
    ("drain_timeout_ms", Ignored(NO_FIELD)),
    ("milli_cpu_reservation", Ignored(NO_FIELD)),
];

/// Common slips that are not close to the right word.
pub const SLIPS: &[(&str, &str)] = &[
    ("port", "ports"),
    ("workdir", "working_dir"),
    ("hosts", "extra_hosts"),
    ("memory_swap", "memswap_limit"),
    ("env", "environment"),
    ("volume", "volumes"),
    ("update_strategy", "upgrade_strategy"),
];

/// The rule of a key.
pub fn find(table: &[(&'static str, Rule)], name: &str) -> Option<Rule> {
    table.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}

/// Whether a key of a docker-compose file is Rancher's.
pub fn is_rancher(name: &str) -> bool {
    find(RANCHER, name).is_some() && name != "hostname"
}
