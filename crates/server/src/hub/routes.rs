//! The two WebSockets of an agent: its session and the streams it dials back.

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use remuda_wire::session::CONNECT_PATH;
use remuda_wire::stream::STREAM_PATH;
use std::sync::Arc;

use super::Hub;
use super::link::link;

/// Largest message of an agent, bytes: a complete report of a thousand containers with their inspect answers.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Finds the agent account whose key the request carries; `None` when it carries none.
pub type Authenticate = Arc<dyn Fn(HeaderMap) -> BoxFuture<'static, Option<i64>> + Send + Sync>;

#[derive(Clone)]
struct Agents {
    hub: Hub,
    authenticate: Authenticate,
}

/// The agents' routes, with their state.
pub fn routes(hub: Hub, authenticate: Authenticate) -> Router {
    Router::new()
        .route(CONNECT_PATH, get(connect))
        .route(&format!("{STREAM_PATH}/{{stream}}"), get(stream))
        .with_state(Agents { hub, authenticate })
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, "an agent's key is needed here").into_response()
}

async fn connect(State(agents): State<Agents>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let Some(account) = (agents.authenticate)(headers).await else { return unauthorized() };
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    upgrade.on_upgrade(move |socket| async move { agents.hub.serve(link(socket), account).await })
}

async fn stream(
    State(agents): State<Agents>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(account) = (agents.authenticate)(headers).await else { return unauthorized() };
    if !agents.hub.sessions().expects(&stream, account) {
        return (StatusCode::NOT_FOUND, "nobody waits for this stream").into_response();
    }
    upgrade.on_upgrade(move |socket| async move {
        agents.hub.sessions().arrive(&stream, account, link(socket));
    })
}
