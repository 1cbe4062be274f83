//! From a planned container to the body of `POST /containers/create` (`resources.md` §6.6): a pure function.
//!
//! The body is JSON, not a client library's type: one such type follows the newest API only and has lost
//! `MacAddress`, which engines before API 1.44 need at the top.

use std::collections::BTreeMap;
use std::path::PathBuf;

use remuda_wire::plan::{BlkioDevice, ContainerSpec, HealthCheck, NetworkMode, Ulimit};
use serde_json::{Map, Value, json};

use crate::engine::inspect::UUID_LABEL;

const NAME_LABEL: &str = "io.rancher.container.name";
const IP_LABEL: &str = "io.rancher.container.ip";
const SYSTEM_LABEL: &str = "io.rancher.container.system";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What this host adds to a plan's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Name of the managed network on this engine, and its prefix length.
    pub network: Option<(String, u8)>,
    /// Docker ids of the containers the spec refers to by uuid.
    pub docker_ids: BTreeMap<String, String>,
    /// File to bind over the container's `/etc/resolv.conf`.
    pub resolver: Option<PathBuf>,
    /// Files of secrets, and where each is in the container.
    pub secrets: Vec<(PathBuf, String)>,
    /// The host's own search domains.
    pub search: Vec<String>,
    /// It is a load balancer, and HAProxy is run so.
    pub balancer: Option<Balancer>,
}

/// How HAProxy is run, whatever the image would do by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancer {
    pub command: Vec<String>,
    pub binds: Vec<String>,
}

/// A spec that cannot be carried out here, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("it needs container {uuid} ({why}), which is not on this host")]
    MissingContainer { uuid: String, why: &'static str },
    #[error("the managed network is not available on this host")]
    NoNetwork,
    #[error("device `{0}` does not read as host[:container[:permissions]]")]
    Device(String),
    #[error("data volume `{0}` does not read as path, source:path or source:path:mode")]
    DataVolume(String),
    #[error("exposed port `{0}` does not read as port[-port][/protocol]")]
    Expose(String),
}

/// The body that creates the container.
pub fn create_body(uuid: &str, name: &str, spec: &ContainerSpec, here: &Here) -> Result<Value, Error> {
    let mut body = Map::new();
    put(&mut body, "Image", Some(&spec.image));
    put(&mut body, "Cmd", spec.command.as_ref());
    put(&mut body, "Entrypoint", spec.entry_point.as_ref());
    let environment: Vec<String> = spec.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    put(&mut body, "Env", filled(&environment));
    put(&mut body, "WorkingDir", given(&spec.working_dir));
    put(&mut body, "User", given(&spec.user));
    put(&mut body, "Domainname", given(&spec.domain_name));
    let joins_names = matches!(spec.network, NetworkMode::Host | NetworkMode::Container { .. });
    if !joins_names && spec.uts.as_deref() != Some("host") {
        put(&mut body, "Hostname", given(&spec.hostname));
    }
    put(&mut body, "Tty", Some(spec.tty));
    put(&mut body, "OpenStdin", Some(spec.stdin_open));
    put(&mut body, "StopSignal", given(&spec.stop_signal));
    put(&mut body, "Healthcheck", spec.health_check.as_ref().map(health_check));
    put(&mut body, "Labels", Some(labels(uuid, name, spec, here)));

    let mut host = Map::new();
    network(spec, here, &mut body, &mut host)?;
    if matches!(spec.network, NetworkMode::Managed { .. } | NetworkMode::Bridge) {
        ports(spec, &mut body, &mut host)?;
    }
    volumes(spec, here, &mut body, &mut host)?;
    resources(spec, &mut host)?;
    names(spec, here, &mut host);
    if let Some(balancer) = &here.balancer {
        self::balancer(balancer, &mut body);
    }
    body.insert("HostConfig".to_owned(), Value::Object(host));
    Ok(Value::Object(body))
}

/// The image's own entry point may want to be helpful; its user cannot read keys; and only this signal drains.
fn balancer(balancer: &Balancer, body: &mut Map<String, Value>) {
    put(body, "Entrypoint", Some(&balancer.command));
    put(body, "Cmd", Some(Vec::<String>::new()));
    put(body, "User", Some("0:0"));
    put(body, "StopSignal", Some("SIGUSR1"));
}

fn put<T: serde::Serialize>(body: &mut Map<String, Value>, key: &str, value: Option<T>) {
    let value = value.and_then(|value| serde_json::to_value(value).ok());
    if let Some(value) = value.filter(|value| !value.is_null()) {
        body.insert(key.to_owned(), value);
    }
}

fn given(text: &Option<String>) -> Option<&String> {
    text.as_ref().filter(|text| !text.is_empty())
}

fn set(number: Option<i64>) -> Option<i64> {
    number.filter(|number| *number != 0)
}

fn filled(list: &[String]) -> Option<&[String]> {
    (!list.is_empty()).then_some(list)
}

fn labels(uuid: &str, name: &str, spec: &ContainerSpec, here: &Here) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.insert(UUID_LABEL.to_owned(), uuid.to_owned());
    labels.entry(NAME_LABEL.to_owned()).or_insert_with(|| name.to_owned());
    if let (NetworkMode::Managed { address, .. }, Some((_, prefix))) = (&spec.network, &here.network) {
        labels.entry(IP_LABEL.to_owned()).or_insert_with(|| format!("{address}/{prefix}"));
    }
    labels
}

fn network(
    spec: &ContainerSpec,
    here: &Here,
    body: &mut Map<String, Value>,
    host: &mut Map<String, Value>,
) -> Result<(), Error> {
    let mode = match &spec.network {
        NetworkMode::Managed { address, mac } => {
            let (network, _) = here.network.as_ref().ok_or(Error::NoNetwork)?;
            let mut endpoint = Map::new();
            if !address.is_empty() {
                endpoint.insert("IPAMConfig".to_owned(), json!({ "IPv4Address": address }));
            }
            if !mac.is_empty() {
                // Before API 1.44 the engine reads the one at the top, after it the one of the endpoint.
                endpoint.insert("MacAddress".to_owned(), json!(mac));
                body.insert("MacAddress".to_owned(), json!(mac));
            }
            let endpoints = Map::from_iter([(network.clone(), Value::Object(endpoint))]);
            body.insert("NetworkingConfig".to_owned(), json!({ "EndpointsConfig": endpoints }));
            network.clone()
        }
        NetworkMode::Bridge => {
            let links: Result<Vec<String>, Error> = spec
                .links
                .iter()
                .map(|link| Ok(format!("{}:{}", docker_id(here, &link.target_uuid, "link")?, link.alias)))
                .collect();
            put(host, "Links", filled(&links?));
            "bridge".to_owned()
        }
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => {
            body.insert("NetworkDisabled".to_owned(), json!(true));
            "none".to_owned()
        }
        NetworkMode::Container { uuid } => format!("container:{}", docker_id(here, uuid, "network")?),
    };
    host.insert("NetworkMode".to_owned(), json!(mode));
    Ok(())
}

fn docker_id<'a>(here: &'a Here, uuid: &str, why: &'static str) -> Result<&'a str, Error> {
    let found = here.docker_ids.get(uuid).map(String::as_str);
    found.ok_or_else(|| Error::MissingContainer { uuid: uuid.to_owned(), why })
}

fn ports(spec: &ContainerSpec, body: &mut Map<String, Value>, host: &mut Map<String, Value>) -> Result<(), Error> {
    let mut exposed = Map::new();
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in &spec.ports {
        let key = format!("{}/{}", port.private, port.protocol);
        exposed.insert(key.clone(), json!({}));
        if let Some(public) = port.public {
            let binding = json!({ "HostIp": port.bind_address, "HostPort": public.to_string() });
            bindings.entry(key).or_default().push(binding);
        }
    }
    for entry in &spec.expose {
        let odd = || Error::Expose(entry.clone());
        let (range, protocol) = entry.split_once('/').unwrap_or((entry, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: u16 = first.trim().parse().map_err(|_| odd())?;
        let last: u16 = last.trim().parse().map_err(|_| odd())?;
        exposed.extend((first..=last).map(|port| (format!("{port}/{protocol}"), json!({}))));
    }
    if !exposed.is_empty() {
        body.insert("ExposedPorts".to_owned(), Value::Object(exposed));
    }
    put(host, "PortBindings", (!bindings.is_empty()).then_some(bindings));
    put(host, "PublishAllPorts", spec.publish_all_ports.then_some(true));
    Ok(())
}

fn volumes(
    spec: &ContainerSpec,
    here: &Here,
    body: &mut Map<String, Value>,
    host: &mut Map<String, Value>,
) -> Result<(), Error> {
    let mut anonymous = Map::new();
    let mut binds = Vec::new();
    let mut users_resolv_conf = false;
    for entry in &spec.data_volumes {
        let parts: Vec<&str> = entry.split(':').collect();
        let target = match parts.as_slice() {
            [path] if path.starts_with('/') => {
                anonymous.insert((*path).to_owned(), json!({}));
                *path
            }
            [source, path] | [source, path, _] if !source.is_empty() && path.starts_with('/') => {
                binds.push(entry.clone());
                *path
            }
            _ => return Err(Error::DataVolume(entry.clone())),
        };
        users_resolv_conf |= target == RESOLV_CONF;
    }
    binds.extend(here.balancer.iter().flat_map(|balancer| balancer.binds.iter().cloned()));
    if let Some(file) = here.resolver.as_ref().filter(|_| spec.resolver && !users_resolv_conf) {
        binds.push(format!("{}:{RESOLV_CONF}:ro", file.display()));
    }
    binds.extend(here.secrets.iter().map(|(file, path)| format!("{}:{path}:ro", file.display())));
    if !anonymous.is_empty() {
        body.insert("Volumes".to_owned(), Value::Object(anonymous));
    }
    put(host, "Binds", filled(&binds));
    let from: Result<Vec<String>, Error> =
        spec.volumes_from.iter().map(|uuid| docker_id(here, uuid, "volumes").map(str::to_owned)).collect();
    put(host, "VolumesFrom", filled(&from?));
    put(host, "VolumeDriver", given(&spec.volume_driver));
    Ok(())
}

fn resources(spec: &ContainerSpec, host: &mut Map<String, Value>) -> Result<(), Error> {
    let devices: Result<Vec<Value>, Error> = spec.devices.iter().map(|device| self::device(device)).collect();
    put(host, "Devices", Some(devices?).filter(|devices| !devices.is_empty()));
    if let Some(policy) = &spec.restart_policy {
        let retries = policy.maximum_retry_count.filter(|_| policy.name == "on-failure").unwrap_or(0);
        host.insert("RestartPolicy".to_owned(), json!({ "Name": policy.name, "MaximumRetryCount": retries }));
    }
    put(host, "Memory", set(spec.memory));
    put(host, "MemorySwap", set(spec.memory_swap));
    put(host, "CpuShares", set(spec.cpu_shares));
    put(host, "CpusetCpus", given(&spec.cpu_set));
    put(host, "CpusetMems", given(&spec.cpu_set_mems));
    put(host, "CpuPeriod", set(spec.cpu_period));
    put(host, "CpuQuota", set(spec.cpu_quota));
    put(host, "MemoryReservation", set(spec.memory_reservation));
    // Zero is a wish here: never swap.
    put(host, "MemorySwappiness", spec.memory_swappiness);
    put(host, "OomKillDisable", spec.oom_kill_disable.then_some(true));
    put(host, "OomScoreAdj", set(spec.oom_score_adj));
    put(host, "PidsLimit", set(spec.pids_limit));
    put(host, "ShmSize", set(spec.shm_size));
    put(host, "Ulimits", Some(spec.ulimits.iter().map(ulimit).collect::<Vec<_>>()).filter(|list| !list.is_empty()));
    put(host, "CgroupParent", given(&spec.cgroup_parent));
    put(host, "IpcMode", given(&spec.ipc_mode));
    put(host, "UTSMode", given(&spec.uts));
    put(host, "UsernsMode", given(&spec.userns_mode));
    put(host, "Isolation", given(&spec.isolation));
    put(host, "GroupAdd", filled(&spec.group_add));
    put(host, "Sysctls", some(&spec.sysctls));
    put(host, "StorageOpt", some(&spec.storage_opt));
    put(host, "Tmpfs", some(&spec.tmpfs));
    block_devices(spec, host);
    put(host, "PidMode", given(&spec.pid_mode));
    put(host, "Privileged", spec.privileged.then_some(true));
    put(host, "ReadonlyRootfs", spec.read_only.then_some(true));
    put(host, "CapAdd", filled(&spec.cap_add));
    put(host, "CapDrop", filled(&spec.cap_drop));
    put(host, "SecurityOpt", filled(&spec.security_opt));
    if spec.log_driver.is_some() || !spec.log_options.is_empty() {
        let driver = spec.log_driver.as_deref().unwrap_or_default();
        host.insert("LogConfig".to_owned(), json!({ "Type": driver, "Config": spec.log_options }));
    }
    Ok(())
}

fn some(map: &BTreeMap<String, String>) -> Option<&BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

fn ulimit(limit: &Ulimit) -> Value {
    json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard })
}

fn block_devices(spec: &ContainerSpec, host: &mut Map<String, Value>) {
    put(host, "BlkioWeight", set(spec.blkio_weight));
    let mut limit = |key: &str, unit: &str, of: fn(&BlkioDevice) -> Option<i64>| {
        let limited = spec.blkio_devices.iter().filter_map(|device| Some((device, set(of(device))?)));
        let list: Vec<Value> = limited.map(|(device, amount)| json!({ "Path": device.path, unit: amount })).collect();
        put(host, key, Some(list).filter(|list| !list.is_empty()));
    };
    limit("BlkioWeightDevice", "Weight", |device| device.weight);
    limit("BlkioDeviceReadBps", "Rate", |device| device.read_bps);
    limit("BlkioDeviceWriteBps", "Rate", |device| device.write_bps);
    limit("BlkioDeviceReadIOps", "Rate", |device| device.read_iops);
    limit("BlkioDeviceWriteIOps", "Rate", |device| device.write_iops);
}

/// The engine counts in nanoseconds.
fn health_check(check: &HealthCheck) -> Value {
    let nanoseconds = |seconds: Option<i64>| set(seconds).map(|seconds| seconds.saturating_mul(1_000_000_000));
    let mut body = Map::new();
    put(&mut body, "Test", filled(&check.test));
    put(&mut body, "Interval", nanoseconds(check.interval_seconds));
    put(&mut body, "Timeout", nanoseconds(check.timeout_seconds));
    put(&mut body, "Retries", set(check.retries));
    Value::Object(body)
}

fn device(entry: &str) -> Result<Value, Error> {
    let parts: Vec<&str> = entry.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        // `/dev/x:rw`, as the Docker command line reads it.
        [host, permissions] if !permissions.starts_with('/') => (*host, *host, *permissions),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] => (*host, *container, *permissions),
        _ => return Err(Error::Device(entry.to_owned())),
    };
    if host.is_empty() || container.is_empty() {
        return Err(Error::Device(entry.to_owned()));
    }
    Ok(json!({ "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions }))
}

fn names(spec: &ContainerSpec, here: &Here, host: &mut Map<String, Value>) {
    // A container without a network of its own takes its names from elsewhere; the engine refuses these then.
    if matches!(spec.network, NetworkMode::Container { .. }) {
        return;
    }
    put(host, "Dns", filled(&spec.dns));
    let ours_only = spec.dns_search.iter().all(|domain| domain.ends_with("rancher.internal"));
    let system = spec.labels.contains_key(SYSTEM_LABEL);
    let mut search = Vec::new();
    if ours_only && !system && !spec.dns_search.is_empty() {
        search.extend(here.search.iter().filter(|domain| !spec.dns_search.contains(domain)).cloned());
    }
    search.extend(spec.dns_search.iter().cloned());
    put(host, "DnsSearch", filled(&search));
    put(host, "DnsOptions", filled(&spec.dns_opt));
    put(host, "ExtraHosts", filled(&spec.extra_hosts));
}

#[cfg(test)]
mod tests {
    use remuda_wire::plan::{LinkPlan, PortPlan, RestartPolicy};

    use super::*;

    fn here() -> Here {
        Here {
            secrets: Vec::new(),
            network: Some(("remuda".into(), 16)),
            docker_ids: [("u2".to_owned(), "d2".to_owned())].into(),
            resolver: Some("/state/resolv.conf".into()),
            search: vec!["lan".into()],
            balancer: None,
        }
    }

    fn port(bind: &str, public: Option<u16>, private: u16, protocol: &str) -> PortPlan {
        PortPlan { bind_address: bind.into(), public, private, protocol: protocol.into() }
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    /// The body holds at least what `expected` says, and nothing at the paths in `absent`.
    fn check(spec: ContainerSpec, expected: Value, absent: &[&str]) {
        let body = create_body("u1", "web", &spec, &here()).expect("can be created");
        holds(&body, &expected, "");
        for pointer in absent {
            assert_eq!(body.pointer(pointer), None, "{pointer} of {body}");
        }
    }

    fn holds(body: &Value, expected: &Value, path: &str) {
        match expected {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| holds(&body[key], value, &format!("{path}/{key}")))
            }
            other => assert_eq!(body, other, "at {path}"),
        }
    }

    #[test]
    fn secrets_are_bound_read_only() {
        let secrets = vec![("/state/secrets/u1/0-7".into(), "/run/secrets/db".to_owned())];
        let spec = ContainerSpec { image: "x".into(), ..ContainerSpec::default() };
        let body = create_body("u1", "web", &spec, &Here { secrets, ..here() }).expect("can be created");
        assert_eq!(body["HostConfig"]["Binds"], json!(["/state/secrets/u1/0-7:/run/secrets/db:ro"]));
    }

    #[test]
    fn a_balancer_runs_our_way_whatever_was_asked_for() {
        let balancer = Balancer { command: texts(&["haproxy", "-W"]), binds: texts(&["/s:/d:ro"]) };
        let here = Here { balancer: Some(balancer), ..here() };
        let spec = ContainerSpec {
            entry_point: Some(texts(&["sh"])),
            command: Some(texts(&["x"])),
            user: Some("haproxy".into()),
            data_volumes: texts(&["/a:/b"]),
            ..ContainerSpec::default()
        };
        let body = create_body("u1", "lb", &spec, &here).expect("can be created");
        let expected = json!({
            "Entrypoint": ["haproxy", "-W"], "Cmd": [], "User": "0:0", "StopSignal": "SIGUSR1",
            "HostConfig": { "Binds": ["/a:/b", "/s:/d:ro"] },
        });
        holds(&body, &expected, "");
    }

    #[test]
    fn every_field_has_its_place() {
        let managed = || NetworkMode::Managed { address: "10.42.3.4".into(), mac: "02:00:00:00:00:01".into() };
        let d = ContainerSpec::default;
        let cases = [
            (
                ContainerSpec { image: "nginx:1.9".into(), ..d() },
                json!({"Image": "nginx:1.9"}),
                vec!["/Cmd", "/Entrypoint", "/Env", "/HostConfig/RestartPolicy"],
            ),
            (ContainerSpec { command: Some(texts(&["a", "b"])), ..d() }, json!({"Cmd": ["a", "b"]}), vec![]),
            (ContainerSpec { entry_point: Some(texts(&["sh"])), ..d() }, json!({"Entrypoint": ["sh"]}), vec![]),
            (
                ContainerSpec { environment: [("A".into(), "b=c".into())].into(), ..d() },
                json!({"Env": ["A=b=c"]}),
                vec![],
            ),
            (
                ContainerSpec { working_dir: Some("/w".into()), user: Some("1".into()), ..d() },
                json!({"WorkingDir": "/w", "User": "1"}),
                vec![],
            ),
            (
                ContainerSpec { hostname: Some("h".into()), domain_name: Some("d".into()), ..d() },
                json!({"Hostname": "h", "Domainname": "d"}),
                vec![],
            ),
            (
                ContainerSpec { hostname: Some("h".into()), network: NetworkMode::Host, ..d() },
                json!({"HostConfig": {"NetworkMode": "host"}}),
                vec!["/Hostname"],
            ),
            (ContainerSpec { tty: true, stdin_open: true, ..d() }, json!({"Tty": true, "OpenStdin": true}), vec![]),
            (
                ContainerSpec { labels: [("tier".into(), "front".into())].into(), ..d() },
                json!({"Labels": {"tier": "front", "io.rancher.container.uuid": "u1", "io.rancher.container.name": "web"}}),
                vec![],
            ),
            (
                ContainerSpec {
                    ports: vec![
                        port("", Some(8080), 80, "tcp"),
                        port("127.0.0.1", Some(81), 80, "tcp"),
                        port("", None, 53, "udp"),
                    ],
                    ..d()
                },
                json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [
                    {"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "81"}]}}}),
                vec!["/HostConfig/PortBindings/53~1udp"],
            ),
            (
                ContainerSpec {
                    ports: vec![port("", Some(8080), 80, "tcp")],
                    publish_all_ports: true,
                    network: NetworkMode::None,
                    ..d()
                },
                json!({"NetworkDisabled": true, "HostConfig": {"NetworkMode": "none"}}),
                vec!["/ExposedPorts", "/HostConfig/PortBindings", "/HostConfig/PublishAllPorts"],
            ),
            (
                ContainerSpec { expose: texts(&["90", "100-101/udp"]), ..d() },
                json!({"ExposedPorts": {"90/tcp": {}, "100/udp": {}, "101/udp": {}}}),
                vec![],
            ),
            (
                ContainerSpec { publish_all_ports: true, ..d() },
                json!({"HostConfig": {"PublishAllPorts": true}}),
                vec![],
            ),
            (
                ContainerSpec { data_volumes: texts(&["/anon", "/srv:/www:ro", "pg:/var/lib"]), ..d() },
                json!({"Volumes": {"/anon": {}}, "HostConfig": {"Binds": ["/srv:/www:ro", "pg:/var/lib"]}}),
                vec![],
            ),
            (
                ContainerSpec { resolver: true, ..d() },
                json!({"HostConfig": {"Binds": ["/state/resolv.conf:/etc/resolv.conf:ro"]}}),
                vec![],
            ),
            (
                ContainerSpec { resolver: true, data_volumes: texts(&["/mine:/etc/resolv.conf"]), ..d() },
                json!({"HostConfig": {"Binds": ["/mine:/etc/resolv.conf"]}}),
                vec![],
            ),
            (
                ContainerSpec { volumes_from: texts(&["u2"]), volume_driver: Some("nfs".into()), ..d() },
                json!({"HostConfig": {"VolumesFrom": ["d2"], "VolumeDriver": "nfs"}}),
                vec![],
            ),
            (
                ContainerSpec { network: managed(), ..d() },
                json!({"MacAddress": "02:00:00:00:00:01", "Labels": {"io.rancher.container.ip": "10.42.3.4/16"}, "HostConfig": {"NetworkMode": "remuda"},
                    "NetworkingConfig": {"EndpointsConfig": {"remuda": {"IPAMConfig": {"IPv4Address": "10.42.3.4"}, "MacAddress": "02:00:00:00:00:01"}}}}),
                vec![],
            ),
            (
                ContainerSpec { links: vec![LinkPlan { alias: "db".into(), target_uuid: "u2".into() }], ..d() },
                json!({"HostConfig": {"NetworkMode": "bridge", "Links": ["d2:db"]}}),
                vec![],
            ),
            (
                ContainerSpec {
                    network: NetworkMode::Container { uuid: "u2".into() },
                    hostname: Some("h".into()),
                    dns: texts(&["1.1.1.1"]),
                    ..d()
                },
                json!({"HostConfig": {"NetworkMode": "container:d2"}}),
                vec!["/Hostname", "/HostConfig/Dns"],
            ),
            (
                ContainerSpec {
                    dns: texts(&["1.1.1.1"]),
                    dns_search: texts(&["a.rancher.internal", "rancher.internal"]),
                    ..d()
                },
                json!({"HostConfig": {"Dns": ["1.1.1.1"], "DnsSearch": ["lan", "a.rancher.internal", "rancher.internal"]}}),
                vec![],
            ),
            (
                ContainerSpec { dns_search: texts(&["example.com", "rancher.internal"]), ..d() },
                json!({"HostConfig": {"DnsSearch": ["example.com", "rancher.internal"]}}),
                vec![],
            ),
            (
                ContainerSpec {
                    dns_search: texts(&["rancher.internal"]),
                    labels: [(SYSTEM_LABEL.into(), "x".into())].into(),
                    ..d()
                },
                json!({"HostConfig": {"DnsSearch": ["rancher.internal"]}}),
                vec![],
            ),
            (
                ContainerSpec { extra_hosts: texts(&["a:1.2.3.4"]), ..d() },
                json!({"HostConfig": {"ExtraHosts": ["a:1.2.3.4"]}}),
                vec![],
            ),
            (
                ContainerSpec { devices: texts(&["/dev/a", "/dev/b:/dev/c", "/dev/d:/dev/e:r"]), ..d() },
                json!({"HostConfig": {"Devices": [
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/d", "PathInContainer": "/dev/e", "CgroupPermissions": "r"}]}}),
                vec![],
            ),
            (
                ContainerSpec {
                    restart_policy: Some(RestartPolicy { name: "on-failure".into(), maximum_retry_count: Some(3) }),
                    ..d()
                },
                json!({"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}}),
                vec![],
            ),
            (
                ContainerSpec {
                    restart_policy: Some(RestartPolicy { name: "always".into(), maximum_retry_count: Some(3) }),
                    ..d()
                },
                json!({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}}),
                vec![],
            ),
            (
                ContainerSpec {
                    memory: Some(5),
                    memory_swap: Some(-1),
                    cpu_shares: Some(7),
                    cpu_set: Some("0-1".into()),
                    ..d()
                },
                json!({"HostConfig": {"Memory": 5, "MemorySwap": -1, "CpuShares": 7, "CpusetCpus": "0-1"}}),
                vec![],
            ),
            (ContainerSpec { memory: Some(0), ..d() }, json!({}), vec!["/HostConfig/Memory"]),
            (
                ContainerSpec { pid_mode: Some("host".into()), privileged: true, read_only: true, ..d() },
                json!({"HostConfig": {"PidMode": "host", "Privileged": true, "ReadonlyRootfs": true}}),
                vec![],
            ),
            (
                ContainerSpec {
                    cap_add: texts(&["NET_ADMIN"]),
                    cap_drop: texts(&["ALL"]),
                    security_opt: texts(&["label:x"]),
                    ..d()
                },
                json!({"HostConfig": {"CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "SecurityOpt": ["label:x"]}}),
                vec![],
            ),
            (
                ContainerSpec {
                    cpu_period: Some(1),
                    cpu_quota: Some(2),
                    cpu_set_mems: Some("0".into()),
                    memory_reservation: Some(3),
                    memory_swappiness: Some(0),
                    oom_score_adj: Some(-4),
                    oom_kill_disable: true,
                    pids_limit: Some(-1),
                    shm_size: Some(5),
                    ..d()
                },
                json!({"HostConfig": {"CpuPeriod": 1, "CpuQuota": 2, "CpusetMems": "0", "MemoryReservation": 3,
                    "MemorySwappiness": 0, "OomScoreAdj": -4, "OomKillDisable": true, "PidsLimit": -1, "ShmSize": 5}}),
                vec![],
            ),
            (
                ContainerSpec {
                    cgroup_parent: Some("/g".into()),
                    ipc_mode: Some("host".into()),
                    uts: Some("host".into()),
                    hostname: Some("h".into()),
                    userns_mode: Some("host".into()),
                    isolation: Some("default".into()),
                    stop_signal: Some("SIGQUIT".into()),
                    ..d()
                },
                json!({"StopSignal": "SIGQUIT", "HostConfig": {"CgroupParent": "/g", "IpcMode": "host",
                    "UTSMode": "host", "UsernsMode": "host", "Isolation": "default"}}),
                vec!["/Hostname"],
            ),
            (
                ContainerSpec {
                    group_add: texts(&["audio"]),
                    dns_opt: texts(&["ndots:1"]),
                    sysctls: [("net.core.somaxconn".into(), "9".into())].into(),
                    storage_opt: [("size".into(), "1G".into())].into(),
                    tmpfs: [("/run".into(), "size=1m".into())].into(),
                    ulimits: vec![Ulimit { name: "core".into(), soft: 0, hard: 1 }],
                    ..d()
                },
                json!({"HostConfig": {"GroupAdd": ["audio"], "DnsOptions": ["ndots:1"],
                    "Sysctls": {"net.core.somaxconn": "9"}, "StorageOpt": {"size": "1G"},
                    "Tmpfs": {"/run": "size=1m"}, "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 1}]}}),
                vec![],
            ),
            (
                ContainerSpec {
                    blkio_weight: Some(10),
                    blkio_devices: vec![
                        BlkioDevice {
                            path: "/dev/a".into(),
                            read_bps: Some(1),
                            write_iops: Some(2),
                            ..Default::default()
                        },
                        BlkioDevice { path: "/dev/b".into(), weight: Some(3), ..Default::default() },
                    ],
                    ..d()
                },
                json!({"HostConfig": {"BlkioWeight": 10,
                    "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 1}],
                    "BlkioDeviceWriteIOps": [{"Path": "/dev/a", "Rate": 2}],
                    "BlkioWeightDevice": [{"Path": "/dev/b", "Weight": 3}]}}),
                vec!["/HostConfig/BlkioDeviceWriteBps", "/HostConfig/BlkioDeviceReadIOps"],
            ),
            (
                ContainerSpec {
                    health_check: Some(HealthCheck {
                        test: texts(&["CMD", "true"]),
                        interval_seconds: Some(5),
                        timeout_seconds: None,
                        retries: Some(2),
                    }),
                    ..d()
                },
                json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_i64, "Retries": 2}}),
                vec!["/Healthcheck/Timeout"],
            ),
            (
                ContainerSpec { log_driver: Some("syslog".into()), ..d() },
                json!({"HostConfig": {"LogConfig": {"Type": "syslog", "Config": {}}}}),
                vec![],
            ),
            (
                ContainerSpec { log_options: [("max-size".into(), "1m".into())].into(), ..d() },
                json!({"HostConfig": {"LogConfig": {"Type": "", "Config": {"max-size": "1m"}}}}),
                vec![],
            ),
        ];
        for (spec, expected, absent) in cases {
            check(spec, expected, &absent);
        }
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let check = |spec: ContainerSpec, here: Here, expected: Error| {
            assert_eq!(create_body("u1", "web", &spec, &here).expect_err("refused"), expected);
        };
        let d = ContainerSpec::default;
        let other = NetworkMode::Container { uuid: "u9".into() };
        check(
            ContainerSpec { network: other, ..d() },
            here(),
            Error::MissingContainer { uuid: "u9".into(), why: "network" },
        );
        let managed = NetworkMode::Managed { address: String::new(), mac: String::new() };
        check(ContainerSpec { network: managed, ..d() }, Here::default(), Error::NoNetwork);
        check(ContainerSpec { devices: texts(&["a:b:c:d"]), ..d() }, here(), Error::Device("a:b:c:d".into()));
        check(ContainerSpec { data_volumes: texts(&["nowhere"]), ..d() }, here(), Error::DataVolume("nowhere".into()));
        check(ContainerSpec { expose: texts(&["http"]), ..d() }, here(), Error::Expose("http".into()));
    }
}
