//! `…/buildcontexts/HASH`: HEAD says whether a context is there, PUT brings one, GET gives it to a host of the project.
//!
//! Beside the API proper, because bodies are tars of any size and travel as they arrive; who may do what is decided by
//! the same policy: whoever may create a service may bring its context.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt;
use remuda_model::build_context::{PATH, is_hash, reference};
use remuda_schema::{ApiError, Code, Role};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use crate::auth::{self, Principal};
use crate::contexts::{Refused, keep};
use crate::failure::Failure;
use crate::policy::{self, Act};
use crate::reply::{self, Reply};
use crate::request::Query;
use crate::state::ServerState;

/// An upload that brings nothing for that long is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Pieces between the connection and the disk.
const WAITING: usize = 8;
const PIECE: usize = 256 * 1024;
/// What an upload may have.
const MAX_BYTES: &str = "x-build-context-max-bytes";

fn limit(state: &ServerState) -> u64 {
    u64::try_from(keep::number(state, "build.context.max.bytes", 2 << 30)).unwrap_or(0)
}

/// The routes, with and without a project in the path.
pub fn routes(state: ServerState) -> Router {
    let within = PATH.replacen("/v1", "/v1/projects/{project}", 1);
    Router::new()
        .route(&format!("{PATH}/{{hash}}"), get(bare_get).head(bare_get).put(bare_put))
        .route(&format!("{within}/{{hash}}"), get(scoped_get).head(scoped_get).put(scoped_put))
        .with_state(state)
}

struct Asked {
    project: Option<String>,
    hash: String,
    headers: HeaderMap,
    query: Query,
}

async fn bare_get(
    State(state): State<ServerState>,
    Path(hash): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let asked = Asked { project: None, hash, headers, query: Query::parse(query.as_deref().unwrap_or_default()) };
    let answer = context_get(&state, &asked, &method).await;
    answer.unwrap_or_else(|failure| refused(&state, &asked, &failure))
}

async fn scoped_get(
    State(state): State<ServerState>,
    Path((project, hash)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked { project: Some(project), hash, headers, query };
    let answer = context_get(&state, &asked, &method).await;
    answer.unwrap_or_else(|failure| refused(&state, &asked, &failure))
}

async fn bare_put(
    State(state): State<ServerState>,
    Path(hash): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let asked = Asked { project: None, hash, headers, query: Query::parse(query.as_deref().unwrap_or_default()) };
    let answer = context_put(&state, &asked, body).await;
    answer.unwrap_or_else(|failure| refused(&state, &asked, &failure))
}

async fn scoped_put(
    State(state): State<ServerState>,
    Path((project, hash)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let asked = Asked { project: Some(project), hash, headers, query };
    let answer = context_put(&state, &asked, body).await;
    answer.unwrap_or_else(|failure| refused(&state, &asked, &failure))
}

fn refused(state: &ServerState, asked: &Asked, failure: &Failure) -> Response<Body> {
    let id = state.seams.random.uuid();
    reply::write(Reply::error(&failure.answer(&id), &id), &asked.headers, None)
}

/// Whoever asks, and the project whose contexts these are.
async fn project_of(state: &ServerState, asked: &Asked) -> Result<(Principal, i64), Failure> {
    let (shared, headers, query) = (state.clone(), asked.headers.clone(), asked.query.clone());
    let project = asked.project.clone();
    let found = state.store.read::<_, Failure, _>(move |read| {
        auth::authenticate(read, &shared.asked(&headers, &query, project.as_deref()))
    });
    let principal = found.await?;
    match (principal.role, principal.resource_account_id) {
        (Role::Agent, Some(project)) => Ok((principal, project)),
        (Role::Project, _) => {
            let project = principal.effective_id;
            Ok((principal, project))
        }
        _ => Err(ApiError::new(Code::NotFound)
            .because("build contexts belong to an environment: ask below `/v1/projects/ID`")
            .into()),
    }
}

fn checked(asked: &Asked) -> Result<(), Failure> {
    if is_hash(&asked.hash) {
        return Ok(());
    }
    Err(ApiError::new(Code::NotFound).because("a build context is named by 64 hexadecimal digits").into())
}

async fn context_get(state: &ServerState, asked: &Asked, method: &Method) -> Result<Response<Body>, Failure> {
    let (_, project) = project_of(state, asked).await?;
    checked(asked)?;
    let (shelf, hash, now) = (state.contexts.clone(), asked.hash.clone(), state.seams.clock.now_ms());
    let found = keep::blocking(state, move || shelf.open(project, &hash, now)).await?;
    let Some((file, length)) = found else {
        let why = "this server does not keep that build context (any more); `remuda up` brings it again";
        let error = Failure::from(ApiError::new(Code::NotFound).because(why));
        let mut response = refused(state, asked, &error);
        // Said before somebody sends two gigabytes for nothing.
        response.headers_mut().insert(MAX_BYTES, HeaderValue::from(limit(state)));
        return Ok(response);
    };
    let body = match *method == Method::HEAD {
        true => Body::empty(),
        false => Body::from_stream(ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

async fn context_put(state: &ServerState, asked: &Asked, body: Body) -> Result<Response<Body>, Failure> {
    let (principal, project) = project_of(state, asked).await?;
    let schema = remuda_model::registry().schemas(principal.role).get("service");
    let schema = schema.ok_or_else(|| ApiError::new(Code::MethodNotAllowed))?;
    policy::decide(&principal, Act::Create, schema, None)?;
    checked(asked)?;
    let Ok(_place) = state.uploads.acquire().await else {
        return Err(ApiError::new(Code::ServiceUnavailable).detailed("the server is stopping").into());
    };
    let most = usize::try_from(keep::number(state, "build.context.max.count", 100)).unwrap_or(usize::MAX);
    let (shelf, hash, now) = (state.contexts.clone(), asked.hash.clone(), state.seams.clock.now_ms());
    let is_there = keep::blocking(state, move || Ok(shelf.open(project, &hash, now)?.is_some())).await?;
    if !is_there {
        if keep::clear(state, project, most.saturating_sub(1)).await? >= most {
            let detail = format!(
                "services of this environment name {most} build contexts already, and no more are kept (setting \
                 `build.context.max.count`); remove services that are not needed"
            );
            drain(state, body).await;
            return Err(ApiError::new(Code::MaxLimitExceeded).because(detail).into());
        }
        let n_bytes = arrive(state, project, &asked.hash, body).await?;
        tracing::info!(project, hash = asked.hash, n_bytes, "keeping a build context");
    } else {
        drain(state, body).await;
    }
    let answer = json!({ "hash": asked.hash, "context": reference(&asked.hash) });
    let status = if is_there { StatusCode::OK } else { StatusCode::CREATED };
    Ok(reply::write(Reply::json(status.as_u16(), answer), &asked.headers, None))
}

/// The next piece; nothing when the body ends, breaks, or is silent for too long.
async fn next(state: &ServerState, body: &mut BodyDataStream) -> Option<Bytes> {
    tokio::select! {
        biased;
        piece = body.next() => piece?.ok(),
        () = state.seams.clock.sleep(SILENCE_LIMIT) => None,
    }
}

/// Reads what nobody needs: a client that is still sending does not see an answer.
async fn drain(state: &ServerState, body: Body) {
    let mut left = limit(state);
    let mut body = body.into_data_stream();
    while let Some(piece) = next(state, &mut body).await {
        left = left.saturating_sub(piece.len() as u64);
        if left == 0 {
            return;
        }
    }
}

/// Brings the body to the disk, piece by piece: the disk is written by a thread that may wait for it.
async fn arrive(state: &ServerState, project: i64, hash: &str, body: Body) -> Result<u64, Failure> {
    let limit = limit(state);
    let (pieces, mut arriving) = mpsc::channel::<Bytes>(WAITING);
    let (shelf, token, hash) = (state.contexts.clone(), state.seams.random.uuid(), Arc::<str>::from(hash));
    let written = state.seams.tasks.blocking(move || {
        let mut context = shelf.begin(project, &token, limit)?;
        while let Some(piece) = arriving.blocking_recv() {
            context.take(&piece)?;
        }
        context.keep(&shelf, project, &hash)
    });
    let brought = async move {
        let mut body = body.into_data_stream();
        // What is wrong with what arrived shows in its hash.
        while let Some(piece) = next(state, &mut body).await {
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    };
    let ((), written) = tokio::join!(brought, written);
    let written = written.map_err(|error| Failure::internal(format!("writing a build context: {error}")))?;
    written.map_err(|refused| match &refused {
        Refused::TooLarge { .. } => {
            ApiError::new(Code::RequestTooLarge).because(format!("the build context: {refused}")).into()
        }
        Refused::Different { .. } => {
            ApiError::new(Code::InvalidBodyContent).because(format!("the build context is not kept: {refused}")).into()
        }
        Refused::Disk(cause) if cause.kind() == std::io::ErrorKind::StorageFull => {
            ApiError::new(Code::ServiceUnavailable)
                .with_status(507)
                .because("the disk of the server is full: the build context is not kept")
                .into()
        }
        Refused::Disk(cause) => Failure::internal(format!("{refused}: {cause}")),
    })
}
