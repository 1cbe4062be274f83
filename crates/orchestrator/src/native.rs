//! Containers started by plain docker become rows (`resources.md` §6.10). They can be managed; they are never made
//! again by us.

use std::collections::BTreeMap;

use remuda_model::states::{RUNNING, STOPPED};
use remuda_model::{BlkioDeviceOption, Container, Network, RestartPolicy, Ulimit, Workload};
use remuda_schema::{Id, Row};
use remuda_store::{Error, Query, Scope, Tx};
use remuda_wire::observe::ContainerObserved;
use serde_json::Value;

use crate::observe::{self, Observer};
use crate::plan::NewContainer;
use crate::rows::{self, Range};
use crate::transitions::{WANT_RUNNING, WANT_STOPPED};

/// Makes the row of a container nobody here knows. Containers of the platform itself are not shown.
pub fn import(tx: &mut Tx<'_>, who: &Observer, observed: &ContainerObserved) -> Result<(), Error> {
    let inspect = observed.inspect.clone().unwrap_or_default();
    let labels = texts(&inspect["Config"]["Labels"]);
    let ours = labels.keys().any(|key| key.starts_with("io.remuda."));
    if !who.settings.manages_native_containers() || labels.contains_key("io.rancher.container.system") || ours {
        return Ok(());
    }
    // Without the inspection there is no name and no image to show; the host sends it with the first report.
    if observed.inspect.is_none() || observed.docker_id.is_empty() {
        return Ok(());
    }
    let up = observed.status.is_up();
    let mut data = container(tx, who, &inspect, &labels, observed)?;
    data.native_container = true;
    data.host_id = Some(Id::new(who.host_id));
    data.external_id = Some(observed.docker_id.clone());
    data.docker_ip.clone_from(&observed.docker_ip);
    data.primary_ip_address.clone_from(&observed.docker_ip);
    data.desired = if up { WANT_RUNNING } else { WANT_STOPPED }.to_owned();
    data.exit_code = observed.exit_code;
    data.first_running = observed.started_at.map(remuda_schema::Time).or_else(|| up.then_some(who.now));
    data.start_count = Some(1);
    data.start_on_create = true;
    data.docker_inspect = Some(inspect.clone());
    let name = labels.get("io.rancher.container.display_name").cloned().or_else(|| {
        let name = inspect["Name"].as_str()?.trim_start_matches('/');
        Some(name.to_owned())
    });
    let mut row = Row::new(Some(who.project_id), if up { RUNNING } else { STOPPED }, data);
    row.meta.name = name.filter(|name| !name.is_empty());
    if let Some(uuid) = &observed.uuid {
        row.meta.uuid.clone_from(uuid);
    }
    let row =
        rows::container_insert(tx, NewContainer { row, links: Vec::new(), requested_address: None }, &who.random)?;
    observe::engine_address(tx, &row)
}

/// The fields an inspection answers for. What is empty or zero there is not set.
fn container(
    tx: &Tx<'_>,
    who: &Observer,
    inspect: &Value,
    labels: &BTreeMap<String, String>,
    observed: &ContainerObserved,
) -> Result<Container, Error> {
    let (config, host) = (&inspect["Config"], &inspect["HostConfig"]);
    let mut labels = labels.clone();
    labels.entry("io.rancher.container.volume_cleanup_strategy".to_owned()).or_insert_with(|| "none".to_owned());
    let (network_mode, network_container) = network(tx, who, inspect, &labels, observed)?;
    let policy = text(&host["RestartPolicy"]["Name"]).map(|name| RestartPolicy {
        name: Some(name),
        maximum_retry_count: number(&host["RestartPolicy"]["MaximumRetryCount"]),
    });
    let workload = Workload {
        ports: ports(observed),
        labels: Some(labels),
        network_mode: Some(network_mode),
        network_container_id: network_container.map(Id::new),
        version: Some("0".to_owned()),
        ..settings(config, host)
    };
    Ok(Container { workload, restart_policy: policy, ..Container::default() })
}

/// The fields that stand in the inspection as they were given; zero and empty mean not given.
fn settings(config: &Value, host: &Value) -> Workload {
    Workload {
        image_uuid: text(&config["Image"]).map(|image| format!("docker:{image}")),
        command: list(&config["Cmd"]),
        entry_point: list(&config["Entrypoint"]),
        environment: list(&config["Env"]).map(|variables| {
            let split = |line: String| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            variables.into_iter().filter_map(split).collect()
        }),
        hostname: text(&config["Hostname"]),
        domain_name: text(&config["Domainname"]),
        user: text(&config["User"]),
        working_dir: text(&config["WorkingDir"]),
        tty: config["Tty"] == Value::Bool(true),
        stdin_open: config["OpenStdin"] == Value::Bool(true),
        privileged: host["Privileged"] == Value::Bool(true),
        read_only: host["ReadonlyRootfs"] == Value::Bool(true),
        publish_all_ports: host["PublishAllPorts"] == Value::Bool(true),
        cap_add: list(&host["CapAdd"]),
        cap_drop: list(&host["CapDrop"]),
        dns: list(&host["Dns"]),
        dns_search: list(&host["DnsSearch"]),
        extra_hosts: list(&host["ExtraHosts"]),
        security_opt: list(&host["SecurityOpt"]),
        data_volumes: list(&host["Binds"]),
        memory: number(&host["Memory"]),
        memory_swap: number(&host["MemorySwap"]),
        cpu_shares: number(&host["CpuShares"]),
        cpu_set: text(&host["CpusetCpus"]),
        pid_mode: text(&host["PidMode"]).filter(|mode| mode == "host"),
        volume_driver: text(&host["VolumeDriver"]),
        blkio_device_options: blkio_device_options(host),
        blkio_weight: number(&host["BlkioWeight"]),
        cgroup_parent: text(&host["CgroupParent"]),
        cpu_period: number(&host["CpuPeriod"]),
        cpu_quota: number(&host["CpuQuota"]),
        cpu_set_mems: text(&host["CpusetMems"]),
        dns_opt: list(&host["DnsOptions"]),
        group_add: list(&host["GroupAdd"]),
        health_cmd: list(&config["Healthcheck"]["Test"]),
        health_interval: seconds(&config["Healthcheck"]["Interval"]),
        health_retries: number(&config["Healthcheck"]["Retries"]),
        health_timeout: seconds(&config["Healthcheck"]["Timeout"]),
        ipc_mode: text(&host["IpcMode"]),
        isolation: text(&host["Isolation"]),
        memory_reservation: number(&host["MemoryReservation"]),
        memory_swappiness: host["MemorySwappiness"].as_i64().filter(|swappiness| *swappiness >= 0),
        oom_kill_disable: host["OomKillDisable"].as_bool().filter(|is_disabled| *is_disabled),
        oom_score_adj: number(&host["OomScoreAdj"]),
        pids_limit: number(&host["PidsLimit"]),
        shm_size: number(&host["ShmSize"]),
        stop_signal: text(&config["StopSignal"]),
        storage_opt: map(&host["StorageOpt"]),
        sysctls: map(&host["Sysctls"]),
        tmpfs: map(&host["Tmpfs"]),
        ulimits: ulimits(&host["Ulimits"]),
        userns_mode: text(&host["UsernsMode"]),
        uts: text(&host["UTSMode"]),
        devices: host["Devices"].as_array().filter(|devices| !devices.is_empty()).map(|devices| {
            let one = |device: &Value| {
                let path = |key: &str| device[key].as_str().unwrap_or_default().to_owned();
                let permissions = text(&device["CgroupPermissions"]).unwrap_or_else(|| "rwm".to_owned());
                format!("{}:{}:{permissions}", path("PathOnHost"), path("PathInContainer"))
            };
            devices.iter().map(one).collect()
        }),
        ..Workload::default()
    }
}

fn ports(observed: &ContainerObserved) -> Option<Vec<String>> {
    let published = observed.ports.iter().filter_map(|port| {
        let public = port.public?;
        let bind = match port.bind_address.as_str() {
            "" | "0.0.0.0" | "::" => String::new(),
            address if address.contains(':') => format!("[{address}]:"),
            address => format!("{address}:"),
        };
        Some(format!("{bind}{public}:{}/{}", port.private, port.protocol))
    });
    let mut ports: Vec<String> = published.collect();
    // Docker reports a port once for IPv4 and once for IPv6.
    ports.sort();
    ports.dedup();
    Some(ports).filter(|ports| !ports.is_empty())
}

fn network(
    tx: &Tx<'_>,
    who: &Observer,
    inspect: &Value,
    labels: &BTreeMap<String, String>,
    observed: &ContainerObserved,
) -> Result<(String, Option<i64>), Error> {
    let mode = inspect["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
    if inspect["Config"]["NetworkDisabled"] == Value::Bool(true) || mode == "none" {
        return Ok(("none".to_owned(), None));
    }
    if mode == "host" {
        return Ok(("host".to_owned(), None));
    }
    if let Some(target) = mode.strip_prefix("container:") {
        let query = Query::new().eq("externalId", target).eq("hostId", who.host_id);
        let target = tx.first::<Container>(&Scope::Account(who.project_id), &query)?;
        return Ok(match target {
            Some(row) => ("container".to_owned(), Some(row.meta.id)),
            None => ("none".to_owned(), None),
        });
    }
    let query = Query::new().eq("accountId", who.project_id).eq("kind", "hostOnlyNetwork");
    let managed = tx.first::<Network>(&Scope::Everything, &query)?;
    let range = managed.and_then(|row| Range::of(row.subnet.as_deref()?));
    let address = observed.docker_ip.as_deref().and_then(|text| text.parse().ok());
    let inside = range.zip(address).is_some_and(|(range, address)| range.contains(address));
    let asked = labels.get("io.rancher.container.network").map(String::as_str) == Some("true");
    Ok((if inside || asked { "managed" } else { "bridge" }.to_owned(), None))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn seconds(nanoseconds: &Value) -> Option<i64> {
    number(nanoseconds).map(|nanoseconds| nanoseconds / 1_000_000_000)
}

fn map(value: &Value) -> Option<BTreeMap<String, String>> {
    Some(texts(value)).filter(|map| !map.is_empty())
}

fn ulimits(value: &Value) -> Option<Vec<Ulimit>> {
    let limits = value.as_array().filter(|limits| !limits.is_empty())?.iter();
    let limit = |limit: &Value| Ulimit {
        name: text(&limit["Name"]),
        soft: limit["Soft"].as_i64(),
        hard: limit["Hard"].as_i64(),
    };
    Some(limits.map(limit).collect())
}

fn blkio_device_options(host: &Value) -> Option<BTreeMap<String, BlkioDeviceOption>> {
    let mut options: BTreeMap<String, BlkioDeviceOption> = BTreeMap::new();
    let mut read = |key: &str, unit: &str, place: fn(&mut BlkioDeviceOption) -> &mut Option<i64>| {
        for device in host[key].as_array().into_iter().flatten() {
            let Some(path) = text(&device["Path"]) else { continue };
            *place(options.entry(path).or_default()) = number(&device[unit]);
        }
    };
    read("BlkioWeightDevice", "Weight", |of| &mut of.weight);
    read("BlkioDeviceReadBps", "Rate", |of| &mut of.read_bps);
    read("BlkioDeviceWriteBps", "Rate", |of| &mut of.write_bps);
    read("BlkioDeviceReadIOps", "Rate", |of| &mut of.read_iops);
    read("BlkioDeviceWriteIOps", "Rate", |of| &mut of.write_iops);
    Some(options).filter(|options| !options.is_empty())
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().filter(|number| *number != 0)
}

fn list(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(vec![text.clone()]),
        Value::Array(items) if !items.is_empty() => {
            Some(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
        }
        _ => None,
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_the_engine_are_read_back() {
        let inspect = json!({
            "Config": {
                "StopSignal": "SIGQUIT",
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 9_000_000_000_i64, "Retries": 10},
            },
            "HostConfig": {
                "BlkioWeight": 0, "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 2}],
                "BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 1}], "CpuPeriod": 7, "DnsOptions": [],
                "MemorySwappiness": 0, "OomKillDisable": false, "Tmpfs": {"/run": "size=1m"}, "Sysctls": null,
                "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 1}], "UTSMode": "host",
            },
        });
        let read = settings(&inspect["Config"], &inspect["HostConfig"]);
        let device = BlkioDeviceOption { read_bps: Some(2), weight: Some(1), ..BlkioDeviceOption::default() };
        let expected = Workload {
            blkio_device_options: Some([("/dev/sda".to_owned(), device)].into()),
            cpu_period: Some(7),
            health_cmd: Some(vec!["CMD".to_owned(), "true".to_owned()]),
            health_interval: Some(9),
            health_retries: Some(10),
            memory_swappiness: Some(0),
            stop_signal: Some("SIGQUIT".to_owned()),
            tmpfs: Some([("/run".to_owned(), "size=1m".to_owned())].into()),
            ulimits: Some(vec![Ulimit { name: Some("core".to_owned()), soft: Some(0), hard: Some(1) }]),
            uts: Some("host".to_owned()),
            ..Workload::default()
        };
        assert_eq!(read, expected);
    }
}
