//! The way of a request, in the order whose errors clients can observe (`api-conventions.md` §2): scripts, body,
//! authentication, CSRF, then what the API does with it; then the audit log.

use std::net::IpAddr;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use axum::middleware::Next;
use remuda_orchestrator::commands::CommandError;
use remuda_schema::row::{Object, RowError};
use remuda_schema::{ApiError, Code, Role, Time};
use serde_json::Value;

use crate::audit::{self, Outcome};
use crate::auth::{self, Principal};
use crate::base_url::{self, Arrival, Urls};
use crate::body::{self, MAX_BODY};
use crate::call::Call;
use crate::failure::Failure;
use crate::handlers::{read, write};
use crate::managers;
use crate::reply::{self, ApiHeaders, Content, Reply};
use crate::request::{self, Path, Query, Target, Verb};
use crate::state::{ServerState, VERSION};
use crate::{html, metrics, origin, plain, render, scripts, settings, subscribe};

/// Attempts at a write that others got in the way of.
const MAX_ATTEMPTS: u32 = 5;

/// Who is at the other end of the connection; set by whoever accepted it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    pub ip: Option<IpAddr>,
    /// The client speaks TLS, as far as we know.
    pub secure: bool,
}

/// What is known of a request before it is understood.
struct Arrived {
    parts: Parts,
    query: Query,
    origin: String,
    client_ip: String,
    request_id: String,
}

impl Arrived {
    fn new(state: &ServerState, parts: Parts) -> Arrived {
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or_default();
        let allow_override = allows_override(state);
        let origin = origin_of(state, &parts, peer, allow_override);
        let client_ip = base_url::client_ip(&parts.headers, peer.ip, allow_override);
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let request_id = state.seams.random.uuid();
        Arrived { parts, query, origin, client_ip, request_id }
    }

    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }
}

fn allows_override(state: &ServerState) -> bool {
    let settings = state.settings.current();
    state.settings.value(&settings, "api.allow.client.override").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn host_of(parts: &Parts) -> Option<&str> {
    let in_line = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    in_line.or_else(|| parts.headers.get("host").and_then(|host| host.to_str().ok()))
}

fn origin_of(state: &ServerState, parts: &Parts, peer: Peer, allow_override: bool) -> String {
    let local = state.options.listen.to_string();
    base_url::origin(&Arrival {
        headers: &parts.headers,
        host: host_of(parts),
        path: parts.uri.path(),
        local: &local,
        secure: peer.secure,
        allow_override,
    })
}

/// Before every route, streams and agents included: what a web page may not make a browser do (DESIGN §8).
pub async fn guard(State(state): State<ServerState>, request: Request, next: Next) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().copied().unwrap_or_default();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let verb = request::verb(&parts.method, query.get("_method"), &parts.headers);
    let mut checked = Ok(());
    if state.options.dev {
        checked = origin::check_loopback_host(host_of(&parts));
    }
    if checked.is_ok() && (verb.is_write() || origin::is_upgrade(&parts.headers)) {
        checked = origin::check_origin(&parts.headers, &origin_of(&state, &parts, peer, allows_override(&state)));
    }
    match checked {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => {
            let arrived = Arrived::new(&state, parts);
            let told = told(&state, &arrived, &Urls::new(arrived.origin.clone(), None), None, Vec::new());
            reply::api_response(Reply::error(&error, &arrived.request_id), arrived.headers(), &told, None)
        }
    }
}

/// Every request that no other route takes.
pub async fn dispatch(State(state): State<ServerState>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let arrived = Arrived::new(&state, parts);
    let started = state.seams.clock.instant();
    let target = request::target(arrived.parts.uri.path());
    let method = arrived.parts.method.clone();
    // Script names are tokens: they open a project to new hosts.
    let shown_path = match &target {
        Target::Script { .. } => "/v1/scripts/…".to_owned(),
        _ => arrived.parts.uri.path().chars().take(256).collect(),
    };
    let (request_id, client_ip) = (arrived.request_id.clone(), arrived.client_ip.clone());
    state.metrics.requests_under_way.inc();
    let (response, resource) = answer(&state, arrived, target, body).await;
    state.metrics.requests_under_way.dec();
    let elapsed = state.seams.clock.instant().duration_since(started);
    let status = response.status().as_u16();
    let method_label = match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    };
    state.metrics.requests.get_or_create(&metrics::Request { method: method_label, resource, status }).inc();
    state.metrics.request_seconds.observe(elapsed.as_secs_f64());
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    if method_label == "GET" && status < 500 {
        tracing::debug!(target: "remuda_server::requests", request_id, method = %method, path = shown_path, status, elapsed_ms, client_ip);
    } else {
        tracing::info!(target: "remuda_server::requests", request_id, method = %method, path = shown_path, status, elapsed_ms, client_ip);
    }
    response
}

async fn answer(state: &ServerState, arrived: Arrived, target: Target, body: Body) -> (Response<Body>, &'static str) {
    let page = |arrived: &Arrived| reply::write(Reply::html(html::index(VERSION)), arrived.headers(), None);
    let is_get = arrived.parts.method == "GET";
    match target {
        Target::Root if is_get && origin::is_mozilla(arrived.headers()) => (page(&arrived), "page"),
        Target::Root => (api(state, arrived, None, body).await, "apiVersion"),
        Target::Page if is_get => (page(&arrived), "page"),
        Target::Page => {
            let error = Reply::error(&ApiError::new(Code::NotFound), &arrived.request_id);
            (reply::write(error, arrived.headers(), None), "page")
        }
        Target::Script { name } => {
            let bytes = match bounded(body).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let reply = Reply::error(&error, &arrived.request_id);
                    return (reply::write(reply, arrived.headers(), None), "scripts");
                }
            };
            let asked = scripts::Asked {
                name: &name,
                is_post: arrived.parts.method == "POST",
                body: &bytes,
                content_type: arrived.headers().get("content-type").and_then(|value| value.to_str().ok()),
                origin: &arrived.origin,
                client_ip: &arrived.client_ip,
            };
            let reply = scripts::answer(state, &asked)
                .await
                .unwrap_or_else(|failure| Reply::error(&failure.answer(&arrived.request_id), &arrived.request_id));
            (reply::write(reply, arrived.headers(), None), "scripts")
        }
        Target::UnsupportedVersion { version } => {
            let unsupported = Unsupported(version);
            (api_path(state, arrived, Path::default(), Some(unsupported), body).await, "unsupported")
        }
        Target::Api(path) => {
            let resource = path
                .type_name
                .as_deref()
                .and_then(|name| remuda_model::registry().find(name))
                .map_or("other", |def| def.name);
            (api(state, arrived, Some(path), body).await, resource)
        }
    }
}

/// A version of the API there is none of.
struct Unsupported(String);

async fn api(state: &ServerState, arrived: Arrived, path: Option<Path>, body: Body) -> Response<Body> {
    let is_root = path.is_none();
    let path = path.unwrap_or_default();
    let is_subscribe = path.id.is_none()
        && path
            .type_name
            .as_deref()
            .is_some_and(|name| name.eq_ignore_ascii_case("subscribe") || name.eq_ignore_ascii_case("subscribes"));
    if is_subscribe && (origin::is_upgrade(arrived.headers()) || arrived.parts.method == "POST") {
        return subscribe_response(state, arrived, path, body).await;
    }
    if is_root {
        let path = Path { beyond: true, ..path };
        return api_path(state, arrived, path, None, body).await;
    }
    api_path(state, arrived, path, None, body).await
}

fn told(
    state: &ServerState,
    arrived: &Arrived,
    urls: &Urls,
    principal: Option<&Principal>,
    mut cookies: Vec<String>,
) -> ApiHeaders {
    let settings = state.settings.current();
    if let Some(product) = state.settings.value(&settings, "ui.pl").filter(|product| is_cookie_value(product)) {
        cookies.push(format!("PL={product};Path=/"));
    }
    ApiHeaders {
        schemas: urls.schemas(),
        account_id: principal.map(|principal| remuda_schema::id::encode("account", principal.effective_id)),
        client_ip: arrived.client_ip.clone(),
        cookies,
        request_id: arrived.request_id.clone(),
    }
}

fn is_cookie_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

async fn bounded(body: Body) -> Result<Vec<u8>, ApiError> {
    match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(ApiError::new(Code::RequestTooLarge)
            .detailed(format!("the body has more than {MAX_BODY} bytes, or ended early"))),
    }
}

/// What a request was understood as, once somebody stands behind it.
struct Answered {
    reply: Result<Reply, Failure>,
    principal: Option<Principal>,
    cookies: Vec<String>,
}

async fn api_path(
    state: &ServerState,
    arrived: Arrived,
    path: Path,
    unsupported: Option<Unsupported>,
    body: Body,
) -> Response<Body> {
    let urls = Urls::new(arrived.origin.clone(), path.project.as_deref());
    let answered = match state.slots.acquire().await {
        Ok(_slot) => understood(state, &arrived, &urls, path, unsupported, body).await,
        Err(_) => Answered {
            reply: Err(ApiError::new(Code::ServiceUnavailable).detailed("the server is stopping").into()),
            principal: None,
            cookies: Vec::new(),
        },
    };
    respond(state, &arrived, &urls, answered)
}

fn respond(state: &ServerState, arrived: &Arrived, urls: &Urls, answered: Answered) -> Response<Body> {
    let reply = answered
        .reply
        .unwrap_or_else(|failure| Reply::error(&failure.answer(&arrived.request_id), &arrived.request_id));
    let told = told(state, arrived, urls, answered.principal.as_ref(), answered.cookies);
    let title = arrived.parts.uri.path().to_owned();
    let schemas = urls.schemas();
    let page = |body: &Value| html::page(&title, &schemas, body);
    let wants_page = html::wants_page(arrived.headers(), arrived.query.get("_format"));
    reply::api_response(reply, arrived.headers(), &told, wants_page.then_some(&page))
}

async fn understood(
    state: &ServerState,
    arrived: &Arrived,
    urls: &Urls,
    path: Path,
    unsupported: Option<Unsupported>,
    body: Body,
) -> Answered {
    let refused = |error: ApiError| Answered { reply: Err(error.into()), principal: None, cookies: Vec::new() };
    let bytes = match bounded(body).await {
        Ok(bytes) => bytes,
        Err(error) => return refused(error),
    };
    let content_type = arrived.headers().get("content-type").and_then(|value| value.to_str().ok());
    let parsed = match body::parse(content_type, &bytes) {
        Ok(parsed) => parsed,
        Err(error) => return refused(error),
    };
    let in_form = parsed.is_form.then(|| parsed.fields.get("_method").and_then(Value::as_str)).flatten();
    let overridden = arrived.query.get("_method").or(in_form).map(str::to_owned);
    let verb = request::verb(&arrived.parts.method, overridden.as_deref(), arrived.headers());
    let maker = CallMaker {
        state: state.clone(),
        headers: arrived.headers().clone(),
        urls: urls.clone(),
        verb,
        path,
        query: arrived.query.clone(),
        input: body::merge(&arrived.query, parsed.fields),
        client_ip: arrived.client_ip.clone(),
    };
    if verb == Verb::Get && unsupported.is_none() {
        return get(state, arrived, maker).await;
    }
    let authenticating = maker.clone();
    let call = state.store.read::<_, Failure, _>(move |read| authenticating.call(read)).await;
    let call = match call {
        Ok(call) => call,
        Err(failure) => return Answered { reply: Err(failure), principal: None, cookies: Vec::new() },
    };
    let principal = Some(call.principal.clone());
    let csrf = csrf(arrived, verb);
    let (reply, cookies) = match csrf {
        Err(error) => (Err(error.into()), Vec::new()),
        Ok(cookies) => match unsupported {
            Some(Unsupported(version)) => {
                let error = ApiError::new(Code::UnsupportedVersion).because(format!("there is no version `{version}`"));
                (Err(error.into()), cookies)
            }
            None => (change(state, arrived, call).await, cookies),
        },
    };
    Answered { reply, principal, cookies }
}

async fn get(state: &ServerState, arrived: &Arrived, maker: CallMaker) -> Answered {
    let is_root = maker.path.type_name.is_none() && maker.path.beyond;
    let answered = state
        .store
        .read::<_, Failure, _>(move |store| {
            let call = maker.call(store)?;
            if let Some(file) = managers::file(store, &call) {
                return Ok((file, call.principal));
            }
            let document = if is_root { Ok(render::versions(&call)) } else { read::get(store, &call) };
            let reply = document.map(|document| finished(&call, 200, document));
            Ok((reply, call.principal))
        })
        .await;
    match answered {
        Ok((reply, principal)) => {
            let cookies = csrf(arrived, Verb::Get).unwrap_or_default();
            Answered { reply, principal: Some(principal), cookies }
        }
        Err(failure) => Answered { reply: Err(failure), principal: None, cookies: Vec::new() },
    }
}

fn finished(call: &Call, status: u16, document: remuda_schema::output::Document) -> Reply {
    if !call.plain_ids {
        return Reply::document(status, document);
    }
    let mut value = document.to_value();
    plain::ids(call.schemas, &mut value);
    Reply::json(status, value)
}

/// Everything of a call but who makes it.
#[derive(Clone)]
struct CallMaker {
    state: ServerState,
    headers: HeaderMap,
    urls: Urls,
    verb: Verb,
    path: Path,
    query: Query,
    input: Object,
    client_ip: String,
}

impl CallMaker {
    /// Finds out who calls.
    fn call(self, read: &remuda_store::Read<'_>) -> Result<Call, Failure> {
        let asked = self.state.asked(&self.headers, &self.query, self.path.project.as_deref());
        let principal = auth::authenticate(read, &asked)?;
        let now = Time(asked.now_ms);
        let may_be_plain = principal.role.all_accounts() || principal.role == Role::Agent;
        let plain_ids = may_be_plain && self.query.is_true("_plainId");
        let mut role = principal.role;
        if role == Role::Admin
            && let Some(named) = self.query.get("_role")
        {
            role = Role::ALL.into_iter().find(|role| role.to_string().eq_ignore_ascii_case(named)).unwrap_or(role);
        }
        Ok(Call {
            schemas: remuda_model::registry().schemas(role),
            settings: self.state.settings.current(),
            server: self.state,
            principal,
            urls: self.urls,
            verb: self.verb,
            path: self.path,
            query: self.query,
            input: self.input,
            now,
            client_ip: self.client_ip,
            plain_ids,
        })
    }
}

/// Browsers prove that a request comes from our own pages by repeating a cookie (`api-conventions.md` §12.4).
fn csrf(arrived: &Arrived, verb: Verb) -> Result<Vec<String>, ApiError> {
    if !origin::is_mozilla(arrived.headers()) {
        return Ok(Vec::new());
    }
    let cookie = arrived
        .headers()
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == "CSRF")
        .map(|(_, value)| value);
    match cookie {
        // The request's own random id serves: it is told to this client only.
        None => Ok(vec![format!("CSRF={};Path=/", arrived.request_id.replace('-', ""))]),
        Some(_) if !verb.is_write() => Ok(Vec::new()),
        Some(cookie) => {
            let header = arrived.headers().get("x-api-csrf").and_then(|value| value.to_str().ok());
            if header.or_else(|| arrived.query.get("CSRF")) == Some(cookie) {
                Ok(Vec::new())
            } else {
                Err(ApiError::new(Code::InvalidCsrfToken).because("CSRF header and cookie do not match"))
            }
        }
    }
}

/// Does a write in one transaction with its audit row; a write that others were in the way of is done again.
async fn change(state: &ServerState, arrived: &Arrived, call: Call) -> Result<Reply, Failure> {
    let mut attempt = 1;
    let done = loop {
        let working = call.clone();
        let done = state
            .store
            .write::<_, Failure, _>(move |tx| {
                let written = write::write(tx, &working)?;
                let body = written.document.as_ref().map(remuda_schema::output::Document::to_value);
                let outcome = Outcome { status: written.status, body: body.as_ref(), resource_id: written.resource_id };
                audit::write(tx, &working, &outcome)?;
                Ok(written)
            })
            .await;
        match done {
            Err(failure) if failure.is_repeatable() && attempt < MAX_ATTEMPTS => attempt += 1,
            done => break done,
        }
    };
    match done {
        Ok(committed) => {
            let written = committed.value;
            if written.resource_type == "setting" {
                refresh_settings(state).await;
            }
            Ok(match written.document {
                Some(document) => finished(&call, written.status, document),
                None => Reply { status: written.status, content: Content::Empty },
            })
        }
        Err(failure) => {
            audit_failure(state, arrived, call, &failure).await;
            Err(failure)
        }
    }
}

/// Failures are logged too, in a transaction of their own.
async fn audit_failure(state: &ServerState, arrived: &Arrived, call: Call, failure: &Failure) {
    // A database that is away cannot be told about it.
    if matches!(failure, Failure::Store(remuda_store::Error::Unavailable { .. } | remuda_store::Error::Closed)) {
        return;
    }
    let error = failure.answer(&arrived.request_id);
    let body = error.body(&arrived.request_id);
    let outcome = Outcome { status: error.status, body: Some(&body), resource_id: None };
    let Some(row) = audit::entry(&call, &outcome) else { return };
    let stored = state.store.write::<_, Failure, _>(move |tx| Ok(tx.insert(row.clone()).map(drop)?)).await;
    if let Err(failure) = stored {
        tracing::warn!(error = %failure, "an audit row could not be written");
    }
}

/// Puts stored settings into effect.
pub async fn refresh_settings(state: &ServerState) {
    match state.store.read::<_, Failure, _>(|read| settings::rows(read)).await {
        Ok(rows) => state.settings.replace(settings::snapshot(&rows)),
        Err(failure) => tracing::warn!(error = %failure, "settings could not be read; the former ones stay in effect"),
    }
}

async fn subscribe_response(state: &ServerState, mut arrived: Arrived, path: Path, body: Body) -> Response<Body> {
    let urls = Urls::new(arrived.origin.clone(), path.project.as_deref());
    let failed = |state: &ServerState, arrived: &Arrived, failure: Failure| {
        respond(state, arrived, &urls, Answered { reply: Err(failure), principal: None, cookies: Vec::new() })
    };
    let bytes = match bounded(body).await {
        Ok(bytes) => bytes,
        Err(error) => return failed(state, &arrived, error.into()),
    };
    let content_type = arrived.headers().get("content-type").and_then(|value| value.to_str().ok());
    let fields = match body::parse(content_type, &bytes) {
        Ok(parsed) => parsed.fields,
        Err(error) => return failed(state, &arrived, error.into()),
    };
    let is_upgrade = origin::is_upgrade(arrived.headers());
    let maker = CallMaker {
        state: state.clone(),
        headers: arrived.headers().clone(),
        urls: urls.clone(),
        verb: Verb::Get,
        path,
        query: arrived.query.clone(),
        input: body::merge(&arrived.query, fields),
        client_ip: arrived.client_ip.clone(),
    };
    let call = match state.store.read::<_, Failure, _>(move |read| maker.call(read)).await {
        Ok(call) => call,
        Err(failure) => return failed(state, &arrived, failure),
    };
    match subscribe::open(state, call, is_upgrade, &mut arrived.parts).await {
        Ok(response) => response,
        Err(error) => failed(state, &arrived, error.into()),
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        match error {
            CommandError::Api(error) => Failure::Api(error),
            CommandError::Store(error) => Failure::Store(error),
            CommandError::Row(error) => match &*error {
                // Not stored yet: what cannot be read is what the client sent.
                RowError::Read { id: 0, source, .. } => {
                    ApiError::new(Code::InvalidFormat).because(source.to_string()).into()
                }
                error => Failure::internal(error.to_string()),
            },
        }
    }
}
