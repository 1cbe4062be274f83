//! Resources as lines of lists: what people call them, the state that matters, and the facts worth a column.

use std::collections::{BTreeMap, BTreeSet};

use remuda_client::{Client, Resource};
use serde_json::Value;

use crate::failure::Failure;
use crate::output::{Columns, Item, age};

/// Label by which a container tells its service: `stack/service`.
const SERVICE_LABEL: &str = "io.rancher.stack_service.name";

/// Names of other things that lines mention.
#[derive(Default)]
pub struct Names {
    /// Stack names by id.
    pub stacks: BTreeMap<String, String>,
    /// Host names by id.
    pub hosts: BTreeMap<String, String>,
}

impl Names {
    /// Reads the names of stacks and hosts.
    pub async fn read(client: &Client) -> Result<Names, Failure> {
        let live = [("removed_null", "true")];
        let stacks = client.list("environments", &live).await?;
        let hosts = client.list("hosts", &live).await?;
        Ok(Names {
            stacks: stacks.iter().map(|stack| (stack.id().to_owned(), stack.name().to_owned())).collect(),
            hosts: hosts.iter().map(|host| (host.id().to_owned(), host_name(host).to_owned())).collect(),
        })
    }

    /// `stack/service`.
    pub fn of_service(&self, service: &Resource) -> String {
        match self.stacks.get(service.text("environmentId")) {
            Some(stack) => format!("{stack}/{}", service.name()),
            None => service.name().to_owned(),
        }
    }
}

/// What a host is called: the name it was given, else the one it reported.
pub fn host_name(host: &Resource) -> &str {
    if host.name().is_empty() { host.text("hostname") } else { host.name() }
}

/// The state people ask for: health while the thing is up, the agent's state for hosts.
pub fn state(resource: &Resource) -> &str {
    let more = match resource.kind() {
        "host" => resource.text("agentState"),
        _ => resource.text("healthState"),
    };
    if matches!(resource.state(), "active" | "running") && !more.is_empty() { more } else { resource.state() }
}

/// The message of a transition or of its failure.
pub fn detail(resource: &Resource) -> &str {
    let speaks = resource.is_transitioning() || resource.has_failed();
    if speaks { resource.message().unwrap_or_default() } else { "" }
}

/// The message of a transition, else what keeps the host from taking containers.
fn host_detail(host: &Resource) -> &str {
    let texts = [detail(host), host.text("engineProblem"), host.text("networkProblem")];
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

/// Image without the prefix of the API.
fn image(uuid: &str) -> &str {
    uuid.strip_prefix("docker:").unwrap_or(uuid)
}

/// `address:port` of every published port, once.
fn endpoints(resource: &Resource) -> String {
    endpoint_list(resource.get("publicEndpoints"))
}

/// `address:port` of a list of endpoints, each once.
pub fn endpoint_list(endpoints: &Value) -> String {
    let endpoints = endpoints.as_array().into_iter().flatten();
    let shown: BTreeSet<String> = endpoints
        .filter_map(|endpoint| {
            let address = endpoint.get("ipAddress").and_then(Value::as_str).unwrap_or("*");
            Some(format!("{address}:{}", endpoint.get("port")?.as_i64()?))
        })
        .collect();
    shown.into_iter().collect::<Vec<_>>().join(", ")
}

fn item(resource: &Resource, kind: &str, name: String, cells: Vec<String>) -> Item {
    Item {
        id: resource.id().to_owned(),
        kind: kind.to_owned(),
        name,
        stack: None,
        state: resource.state().to_owned(),
        health: resource.maybe("healthState").map(str::to_owned),
        detail: detail(resource).to_owned(),
        cells,
        resource: resource.0.clone(),
    }
}

fn created(resource: &Resource, now_ms: i64) -> String {
    resource.int("createdTS").map(|at| age(at, now_ms)).unwrap_or_default()
}

pub const SERVICES: Columns = Columns {
    usual: &["NAME", "STATE", "SCALE", "IMAGE", "ENDPOINTS", "AGE", "DETAIL"],
    wide: &["ID", "TYPE", "STACK"],
};

/// How many containers of each `stack/service` run.
pub fn running(containers: &[Resource]) -> BTreeMap<String, usize> {
    let mut running = BTreeMap::new();
    for container in containers.iter().filter(|container| container.state() == "running") {
        if let Some(service) = container.get("labels").get(SERVICE_LABEL).and_then(Value::as_str) {
            *running.entry(service.to_owned()).or_default() += 1;
        }
    }
    running
}

/// One unit on every host.
pub fn is_global(service: &Resource) -> bool {
    service.get("launchConfig").pointer("/labels/io.rancher.scheduler.global").is_some_and(|value| value == "true")
}

pub fn service(service: &Resource, names: &Names, running: &BTreeMap<String, usize>, now_ms: i64) -> Item {
    let name = names.of_service(service);
    let stack = names.stacks.get(service.text("environmentId")).cloned().unwrap_or_default();
    let uuid = service.get("launchConfig").get("imageUuid").and_then(Value::as_str).unwrap_or_default();
    let n_running = running.get(&name).copied().unwrap_or(0);
    let scale = match is_global(service) {
        // As many as there are hosts for it; the number that was given means nothing.
        true => n_running.to_string(),
        false => format!("{n_running}/{}", service.int("scale").unwrap_or(1)),
    };
    let cells = [
        &name,
        state(service),
        &scale,
        image(uuid),
        &endpoints(service),
        &created(service, now_ms),
        detail(service),
        service.id(),
        service.kind(),
        &stack,
    ];
    let cells = cells.map(str::to_owned).to_vec();
    Item { stack: Some(stack), ..item(service, "service", name, cells) }
}

pub const CONTAINERS: Columns =
    Columns { usual: &["NAME", "STATE", "HOST", "IP", "IMAGE", "AGE", "DETAIL"], wide: &["ID", "DOCKER"] };

pub fn container(container: &Resource, names: &Names, now_ms: i64) -> Item {
    let host = names.hosts.get(container.text("hostId")).cloned().unwrap_or_default();
    let docker: String = container.text("externalId").chars().take(12).collect();
    let cells = [
        container.name(),
        state(container),
        &host,
        container.text("primaryIpAddress"),
        image(container.text("imageUuid")),
        &created(container, now_ms),
        detail(container),
        container.id(),
        &docker,
    ];
    let cells = cells.map(str::to_owned).to_vec();
    let service = container.get("labels").get(SERVICE_LABEL).and_then(Value::as_str).unwrap_or_default();
    let stack = service.split_once('/').map(|(stack, _)| stack.to_owned());
    Item { stack, ..item(container, "container", container.name().to_owned(), cells) }
}

pub const STACKS: Columns = Columns { usual: &["NAME", "STATE", "SERVICES", "AGE", "DETAIL"], wide: &["ID"] };

pub fn stack(stack: &Resource, n_services: usize, now_ms: i64) -> Item {
    let cells =
        [stack.name(), state(stack), &n_services.to_string(), &created(stack, now_ms), detail(stack), stack.id()];
    let cells = cells.map(str::to_owned).to_vec();
    item(stack, "stack", stack.name().to_owned(), cells)
}

pub const HOSTS: Columns = Columns {
    usual: &["NAME", "STATE", "IP", "CONTAINERS", "CPUS", "MEMORY", "AGE", "DETAIL"],
    wide: &["ID", "DOCKER", "SYSTEM", "LABELS"],
};

/// Facts of a host for people, absent ones empty.
pub struct Facts {
    pub cpus: String,
    pub memory: String,
    pub docker: String,
    pub system: String,
}

pub fn facts(host: &Resource) -> Facts {
    let info = host.get("info");
    let number = |pointer: &str| info.pointer(pointer).and_then(Value::as_f64);
    let text = |pointer: &str| info.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Facts {
        cpus: number("/cpuInfo/count").map(|count| count.to_string()).unwrap_or_default(),
        // Reported in MiB.
        memory: number("/memoryInfo/memTotal").map(|mib| bytes(mib * 1024.0 * 1024.0)).unwrap_or_default(),
        docker: text("/osInfo/dockerVersion").trim_start_matches("Docker version ").to_owned(),
        system: text("/osInfo/operatingSystem"),
    }
}

pub fn host(host: &Resource, address: &str, n_containers: usize, now_ms: i64) -> Item {
    let facts = facts(host);
    let labels = host.get("labels").as_object().into_iter().flatten();
    let labels = labels.filter(|(key, _)| !key.starts_with("io.rancher"));
    let labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let cells = [
        host_name(host),
        state(host),
        address,
        &n_containers.to_string(),
        &facts.cpus,
        &facts.memory,
        &created(host, now_ms),
        host_detail(host),
        host.id(),
        &facts.docker,
        &facts.system,
        &labels.join(","),
    ];
    let cells = cells.map(str::to_owned).to_vec();
    item(host, "host", host_name(host).to_owned(), cells)
}

pub const ENVIRONMENTS: Columns = Columns { usual: &["NAME", "STATE", "AGE", "ID"], wide: &[] };

pub fn environment(project: &Resource, now_ms: i64) -> Item {
    let cells = [project.name(), project.state(), &created(project, now_ms), project.id()];
    let cells = cells.map(str::to_owned).to_vec();
    item(project, "environment", project.name().to_owned(), cells)
}

/// A number of bytes in the unit that suits it, 1024-based.
pub fn bytes(number: f64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB"];
    let mut number = number;
    let mut unit = 0;
    while number >= 1024.0 && unit + 1 < UNITS.len() {
        number /= 1024.0;
        unit += 1;
    }
    if unit == 0 || number >= 100.0 {
        format!("{number:.0} {}", UNITS[unit])
    } else {
        format!("{number:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_says_how_many_run_and_where() {
        let names = Names { stacks: BTreeMap::from([("1e1".into(), "shop".into())]), ..Names::default() };
        let containers = [
            Resource(json!({"state": "running", "labels": {SERVICE_LABEL: "shop/web"}})),
            Resource(json!({"state": "stopped", "labels": {SERVICE_LABEL: "shop/web"}})),
        ];
        let row = Resource(json!({
            "id": "1s5", "type": "service", "name": "web", "environmentId": "1e1", "state": "active", "scale": 2,
            "healthState": "degraded", "launchConfig": {"imageUuid": "docker:nginx:1"}, "createdTS": 0,
            "publicEndpoints": [{"ipAddress": "192.0.2.1", "port": 80}, {"ipAddress": "192.0.2.1", "port": 80}],
            "transitioning": "no", "transitioningMessage": "In Progress",
        }));
        let item = service(&row, &names, &running(&containers), 60_000);
        let expected = ["shop/web", "degraded", "1/2", "nginx:1", "192.0.2.1:80", "60s", "", "1s5", "service", "shop"];
        assert_eq!(item.cells, expected);
        assert_eq!(item.state, "active");
    }

    #[test]
    fn sizes_are_short() {
        for (number, text) in
            [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.5 KiB"), (8_589_934_592.0, "8.0 GiB"), (1e18, "909495 TiB")]
        {
            assert_eq!(bytes(number), text);
        }
    }
}
