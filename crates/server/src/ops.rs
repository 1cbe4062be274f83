//! What operators and machines ask of a server: `/ping`, `/healthcheck`, `/metrics`, `/version`, and the agent's binary.

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use remuda_model::Certificate;
use remuda_schema::Row;
use remuda_store::{Error, Query, Scope};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use remuda_orchestrator::hosts::balancing::Balancing;
use remuda_schema::id::encode;

use crate::managers::certificates;
use crate::request;
use crate::state::{ServerState, VERSION};

/// The routes; none needs authentication, none carries API headers.
pub fn routes(state: ServerState) -> Router {
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/healthcheck", get(health))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route("/agent/binary", get(agent_binary))
        .with_state(state)
}

/// 500 only when the database is away: a loop that waits for its next try is shown, but no reason to take a server out
/// of service.
async fn health(State(state): State<ServerState>) -> Response<Body> {
    let checks = state.checks().await;
    let is_well = checks.get("database").is_some_and(|check| check.error.is_none());
    let body: serde_json::Map<String, Value> = checks
        .into_iter()
        .map(|(name, check)| {
            let mut shown = json!({ "healthy": check.error.is_none(), "message": check.error });
            for (name, at) in [("lastPass", check.last_pass), ("nextTry", check.next_try)] {
                if let (Some(at), Some(shown)) = (at, shown.as_object_mut()) {
                    shown.insert(name.to_owned(), at.iso().into());
                    shown.insert(format!("{name}TS"), at.0.into());
                }
            }
            (name, shown)
        })
        .collect();
    let status = if is_well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    (status, axum::Json(body)).into_response()
}

async fn metrics(State(state): State<ServerState>) -> Response<Body> {
    let mut text = state.metrics.text();
    // The registry ends its text; what the loops say goes before that end.
    let end = "# EOF\n";
    text.truncate(text.strip_suffix(end).map_or(text.len(), str::len));
    text.push_str("# HELP remuda_loop_healthy Whether the last pass of a loop succeeded.\n");
    text.push_str("# TYPE remuda_loop_healthy gauge\n");
    let statuses = state.orchestrator.status();
    for status in &statuses {
        let name = status.name.replace(['\\', '"', '\n'], "_");
        let healthy = i32::from(status.last_error.is_none());
        text.push_str(&format!("remuda_loop_healthy{{loop=\"{name}\"}} {healthy}\n"));
    }
    text.push_str("# HELP remuda_loop_keys Keys that wait for a loop.\n# TYPE remuda_loop_keys gauge\n");
    for status in &statuses {
        let name = status.name.replace(['\\', '"', '\n'], "_");
        text.push_str(&format!("remuda_loop_keys{{loop=\"{name}\"}} {}\n", status.n_keys));
    }
    balancing(&state, &mut text);
    // A database that is away is `/healthcheck`'s to tell.
    let rows = state.store.read(|read| read.list::<Certificate>(&Scope::Everything, &Query::new()));
    let rows: Result<Vec<Row<Certificate>>, Error> = rows.await;
    if let Ok(rows) = rows {
        text.push_str(&certificates::expiries(&rows));
    }
    text.push_str(end);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// What load balancers do: services whose hosts are connected to this server.
fn balancing(state: &ServerState, text: &mut String) {
    let services = state.orchestrator.balancing();
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Balancing) -> Option<f64>| {
        text.push_str(&format!("# HELP remuda_balancer_{name} {help}\n# TYPE remuda_balancer_{name} {kind}\n"));
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (service, balancing) in &services {
            if let Some(value) = value(balancing) {
                let service = encode("service", *service);
                text.push_str(&format!("remuda_balancer_{name}{suffix}{{service=\"{service}\"}} {value}\n"));
            }
        }
    };
    family("requests", "counter", "Requests to a load balancer service.", &|it| Some(it.requests as f64));
    family("errors", "counter", "Answers 5xx and connections without a server.", &|it| Some(it.errors as f64));
    family("connections", "gauge", "Open connections to a load balancer service.", &|it| Some(it.connections as f64));
    family("response_seconds", "gauge", "How long targets took to answer lately.", &|it| {
        Some(it.response_ms? / 1_000.0)
    });
}

async fn version() -> Response<Body> {
    axum::Json(json!({ "name": "remuda", "version": VERSION, "gitVersion": format!("v{VERSION}") })).into_response()
}

/// The agent for an architecture: this very program, or a file of `--agents-dir`.
async fn agent_binary(State(state): State<ServerState>, RawQuery(query): RawQuery) -> Response<Body> {
    let query = request::Query::parse(query.as_deref().unwrap_or_default());
    let arch = match query.get("arch").unwrap_or(std::env::consts::ARCH) {
        "amd64" | "x86_64" => "x86_64",
        "arm64" | "aarch64" => "aarch64",
        other => {
            let known = other.chars().filter(char::is_ascii_alphanumeric).take(20).collect::<String>();
            return (StatusCode::NOT_FOUND, format!("there is no agent for `{known}`; x86_64 and aarch64 are known\n"))
                .into_response();
        }
    };
    let in_dir = state.options.agents_dir.as_ref().map(|dir| dir.join(format!("remuda-{arch}")));
    let own = (arch == std::env::consts::ARCH).then(|| std::env::current_exe().ok()).flatten();
    for path in in_dir.into_iter().chain(own) {
        let Ok(file) = tokio::fs::File::open(&path).await else { continue };
        let length = file.metadata().await.map(|metadata| metadata.len()).ok();
        let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(file, 256 * 1024)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        return response;
    }
    let sentence = format!(
        "this server has no agent for {arch}: put the binary as `remuda-{arch}` into the directory named by `--agents-dir`\n"
    );
    (StatusCode::NOT_FOUND, sentence).into_response()
}
