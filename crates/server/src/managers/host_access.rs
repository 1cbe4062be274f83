//! Tokens that open streams to hosts: logs, exec, console, proxy, docker socket, stats (`api-conventions.md` §§15, 16).
//! Who may call the action or follow the link gets a token for exactly that, good for a short time.

use std::collections::BTreeMap;

use remuda_model::{Agent, BalancerTraffic, Container, Host};
use remuda_schema::id::encode;
use remuda_schema::output::Document;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Row, Schema};
use remuda_store::{Query, Read, Scope};
use serde_json::Value;

use crate::access::{Claim, PROXY_TOKEN_MS, STREAM_TOKEN_MS};
use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::write::Written;
use crate::render;

/// `execute`, `logs`, `proxy` and `console` of a container.
pub fn container(
    read: &Read<'_>,
    call: &Call,
    schema: &'static Schema,
    row: &AnyRow,
    action: &str,
    input: &Object,
) -> Result<Written, Failure> {
    let not_found = || Failure::from(ApiError::new(Code::NotFound));
    let typed: Row<Container> = row.typed()?;
    let host_id = typed.data.host_id.ok_or_else(not_found)?.number();
    let host: Row<Host> = read.get(&Scope::Everything, Id::new(host_id))?.ok_or_else(not_found)?;
    let container = docker_id(&typed);
    let flag = |name: &str| input.get(name).and_then(Value::as_bool).unwrap_or(true);
    let text = |name: &str| input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let (claim, url, lifetime_ms) = match action {
        "execute" => {
            let claim = Claim::Exec {
                host_id,
                container,
                command: words(input, "command"),
                stdin: flag("attachStdin"),
                stdout: flag("attachStdout"),
                tty: flag("tty"),
                user: text("user"),
                working_dir: text("workingDir"),
                env: words(input, "env"),
            };
            (claim, call.urls.socket("/v1/exec/"), STREAM_TOKEN_MS)
        }
        "logs" => {
            let number = |name: &str| input.get(name).and_then(Value::as_i64);
            let claim = Claim::Logs {
                host_id,
                container,
                follow: flag("follow"),
                lines: number("lines"),
                since: number("since"),
                until: number("until"),
            };
            (claim, call.urls.socket("/v1/logs/"), STREAM_TOKEN_MS)
        }
        "console" => (Claim::Console { host_id, container }, call.urls.socket("/v1/console/"), STREAM_TOKEN_MS),
        "proxy" => {
            let port = input.get("port").and_then(Value::as_i64).unwrap_or(80);
            let scheme = input.get("scheme").and_then(Value::as_str).unwrap_or("http").to_owned();
            let on_host = typed.data.network_mode.as_deref() == Some("host");
            let address = if on_host { host.data.agent_ip.clone() } else { None }
                .or(typed.data.primary_ip_address.clone())
                .or(typed.data.docker_ip.clone())
                .filter(|address| !address.is_empty())
                .ok_or_else(not_found)?;
            let claim = Claim::Proxy { host_id, address: format!("{address}:{port}"), scheme };
            (claim, format!("{}/v1/container-proxy/", call.urls.origin), PROXY_TOKEN_MS)
        }
        _ => return Err(not_found()),
    };
    let document = access(call, "hostAccess", claim, url, lifetime_ms)?;
    Ok(Written { status: 200, document: Some(document), resource_type: schema.name, resource_id: Some(row.meta.id) })
}

/// A list of texts.
fn words(input: &Object, name: &str) -> Vec<String> {
    let words = input.get(name).and_then(Value::as_array).into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The docker socket of a host.
pub fn docker_socket(call: &Call, schema: &'static Schema, row: &AnyRow) -> Result<Written, Failure> {
    let url = call.urls.socket("/v1/dockersocket/");
    let document = access(call, "hostAccess", Claim::DockerSocket { host_id: row.meta.id }, url, STREAM_TOKEN_MS)?;
    Ok(Written { status: 200, document: Some(document), resource_type: schema.name, resource_id: Some(row.meta.id) })
}

/// `stats`, `hostStats` and `containerStats` links.
pub fn stats(read: &Read<'_>, call: &Call, schema: &Schema, row: &AnyRow, link: &str) -> Result<Document, Failure> {
    let id = row.meta.id;
    let (claim, path) = match (schema.base, link) {
        ("instance", _) => {
            let container: Row<Container> = row.typed()?;
            let host_id = container.data.host_id.ok_or_else(|| ApiError::new(Code::NotFound))?.number();
            if !is_reachable(read, host_id)? {
                return Err(unavailable(host_id));
            }
            let path = if link == "stats" { "stats" } else { "containerstats" };
            let path = format!("/v1/{path}/{}", docker_id(&container));
            (Claim::ContainerStats { hosts: BTreeMap::from([(host_id, names([&container]))]) }, path)
        }
        ("host", "containerStats") => {
            if !is_reachable(read, id)? {
                return Err(unavailable(id));
            }
            let query = Query::new().eq("hostId", id);
            let containers: Vec<Row<Container>> = read.list(&Scope::Everything, &query)?;
            (
                Claim::ContainerStats { hosts: BTreeMap::from([(id, names(&containers))]) },
                "/v1/containerstats".to_owned(),
            )
        }
        ("host", _) => {
            if !is_reachable(read, id)? {
                return if link == "stats" { Err(unavailable(id)) } else { Ok(nothing(call)) };
            }
            let path = if link == "stats" { "/v1/stats" } else { "/v1/hoststats" };
            (Claim::HostStats { hosts: BTreeMap::from([(id, encode("host", id))]) }, path.to_owned())
        }
        ("service", _) => {
            let query = Query::new().eq("serviceId", id);
            let containers: Vec<Row<Container>> = read.list(&Scope::Everything, &query)?;
            let mut hosts: BTreeMap<i64, Vec<&Row<Container>>> = BTreeMap::new();
            for container in &containers {
                if let Some(host_id) = container.data.host_id {
                    hosts.entry(host_id.number()).or_default().push(container);
                }
            }
            let mut reachable = BTreeMap::new();
            for (host_id, containers) in hosts {
                if is_reachable(read, host_id)? {
                    reachable.insert(host_id, names(containers));
                }
            }
            if reachable.is_empty() {
                return Ok(nothing(call));
            }
            (Claim::ContainerStats { hosts: reachable }, "/v1/containerstats/service/".to_owned())
        }
        ("account", _) => {
            let mut hosts = BTreeMap::new();
            for host in read.list::<Host>(&Scope::Account(id), &Query::new())? {
                if is_reachable(read, host.meta.id)? {
                    hosts.insert(host.meta.id, encode("host", host.meta.id));
                }
            }
            if hosts.is_empty() {
                return Ok(nothing(call));
            }
            (Claim::HostStats { hosts }, "/v1/hoststats/project/".to_owned())
        }
        _ => return Err(ApiError::new(Code::NotFound).into()),
    };
    access(call, "statsAccess", claim, call.urls.socket(&path), STREAM_TOKEN_MS)
}

/// Progress of a pull, which is heard of and never stored.
pub fn overlay_sample(call: &Call, row: &mut AnyRow) {
    if let Some(sample) = call.server.orchestrator.sample(row.meta.id) {
        row.meta.progress.message = Some(sample.message);
        row.meta.progress.percent = sample.percent;
    }
}

/// What a load balancer does, which is heard of and never stored.
pub fn overlay_traffic(call: &Call, row: &mut AnyRow) {
    let Some(now) = call.server.orchestrator.balancing_of(row.meta.id) else { return };
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let traffic = BalancerTraffic {
        requests: count(now.requests),
        errors: count(now.errors),
        bytes_in: count(now.bytes_in),
        bytes_out: count(now.bytes_out),
        connections: count(now.connections),
        requests_per_second: now.requests_per_second,
        errors_per_second: now.errors_per_second,
        response_time: now.response_ms,
    };
    if let Ok(traffic) = serde_json::to_value(traffic) {
        row.data.insert("traffic".to_owned(), traffic);
    }
}

fn access(call: &Call, ty: &str, claim: Claim, url: String, lifetime_ms: i64) -> Result<Document, Failure> {
    let token = call
        .server
        .tokens
        .sign(claim, call.now.plus_ms(lifetime_ms).0)
        .map_err(|error| Failure::internal(format!("signing a token: {error}")))?;
    let mut data = Object::new();
    data.insert("url".into(), url.into());
    data.insert("token".into(), token.into());
    Ok(render::value(call, ty, &data))
}

/// Nobody to ask: an answer with nothing in it.
fn nothing(call: &Call) -> Document {
    let data = Object::from_iter([("url".to_owned(), Value::Null), ("token".to_owned(), Value::Null)]);
    render::value(call, "statsAccess", &data)
}

fn unavailable(host_id: i64) -> Failure {
    let host = encode("host", host_id);
    ApiError::new(Code::ServiceUnavailable).detailed(format!("the agent of host {host} is not connected")).into()
}

/// Whether the agent of a host is active.
fn is_reachable(read: &Read<'_>, host_id: i64) -> Result<bool, Failure> {
    let host: Option<Row<Host>> = read.get(&Scope::Everything, Id::new(host_id))?;
    let Some(agent_id) = host.filter(|host| host.meta.is_live()).and_then(|host| host.data.agent_id) else {
        return Ok(false);
    };
    let agent: Option<Row<Agent>> = read.get(&Scope::Everything, agent_id)?;
    Ok(agent.is_some_and(|agent| agent.meta.state == "active"))
}

/// How the host knows a container: by Docker's id, before that by uuid.
fn docker_id(container: &Row<Container>) -> String {
    container.data.external_id.clone().unwrap_or_else(|| container.meta.uuid.clone())
}

/// Docker ids and the public ids that samples carry.
fn names<'c>(containers: impl IntoIterator<Item = &'c Row<Container>>) -> BTreeMap<String, String> {
    containers
        .into_iter()
        .filter(|container| container.meta.is_live())
        .map(|container| (docker_id(container), encode("instance", container.meta.id)))
        .collect()
}
