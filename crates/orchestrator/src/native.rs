//! Containers started by plain docker become rows (`resources.md` §6.10). They can be managed; they are never made
//! again by us.

use std::collections::BTreeMap;

use remuda_model::states::{RUNNING, STOPPED};
use remuda_model::{Container, Network, RestartPolicy, Workload};
use remuda_schema::{Id, Row};
use remuda_store::{Error, Query, Scope, Tx};
use remuda_wire::observe::ContainerObserved;
use serde_json::Value;

use crate::observe::Observer;
use crate::plan::NewContainer;
use crate::rows::{self, Range};
use crate::transitions::{WANT_RUNNING, WANT_STOPPED};

/// Makes the row of a container nobody here knows. Containers of the platform itself are not shown.
pub fn import(tx: &mut Tx<'_>, who: &Observer, observed: &ContainerObserved) -> Result<(), Error> {
    let inspect = observed.inspect.clone().unwrap_or(Value::Null);
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
    rows::container_insert(tx, NewContainer { row, links: Vec::new(), requested_address: None }, &who.random).map(drop)
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
        devices: host["Devices"].as_array().filter(|devices| !devices.is_empty()).map(|devices| {
            let one = |device: &Value| {
                let path = |key: &str| device[key].as_str().unwrap_or_default().to_owned();
                let permissions = text(&device["CgroupPermissions"]).unwrap_or_else(|| "rwm".to_owned());
                format!("{}:{}:{permissions}", path("PathOnHost"), path("PathInContainer"))
            };
            devices.iter().map(one).collect()
        }),
        ports: ports(observed),
        labels: Some(labels),
        network_mode: Some(network_mode),
        network_container_id: network_container.map(Id::new),
        version: Some("0".to_owned()),
        ..Workload::default()
    };
    Ok(Container { workload, restart_policy: policy, ..Container::default() })
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
