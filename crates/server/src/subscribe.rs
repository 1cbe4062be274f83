//! `/v1/subscribe`: what changes, as it changes (`api-conventions.md` §13).
//!
//! One task follows the change feed and hands every commit to all subscribers; each renders what concerns it as its own
//! caller would see it, at most once a second per resource, with the state at the time of sending. Nobody waits for a
//! slow reader: a hundred unsent messages end its stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use remuda_schema::output::Document;
use remuda_schema::row::Object;
use remuda_schema::{ApiError, Code, filter};
use remuda_store::{Change, Feed, Read};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::call::Call;
use crate::failure::Failure;
use crate::state::ServerState;
use crate::{auth, dispatch, lookup, policy, render};

/// Time between pings.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Pings after which the server ends the stream: twelve hours.
const MAX_PINGS: u32 = 8640;
/// Unsent messages a subscriber may have.
const MAX_QUEUED: usize = 100;
/// Least time between two events about one resource.
const EVENT_EVERY: Duration = Duration::from_secs(1);
/// Commits a subscriber may be behind.
const MAX_BEHIND: usize = 4096;
/// The follower looks at the feed at least this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What happens to resources; the only events there are beside pings.
const CHANGE: &str = "resource.change";

/// Commits, handed to whoever subscribes.
pub struct Events(broadcast::Sender<Arc<Vec<Change>>>);

impl Default for Events {
    fn default() -> Events {
        Events(broadcast::channel(MAX_BEHIND).0)
    }
}

/// Follows the feed until the server stops.
pub async fn follow(state: ServerState) {
    let mut after = head(&state).await;
    loop {
        // Taken before the feed is read: what is shown later wakes. It may be ahead of the feed, and that must not.
        let shown = state.store.newest().at();
        match state.store.changes(after, 1000).await {
            Ok(Feed::Changes(changes)) if changes.is_empty() => {
                // A wake-up that was lost costs one period.
                drop(tokio::time::timeout(LOOK_EVERY, state.store.newest().reached(after.max(shown) + 1)).await);
            }
            Ok(Feed::Changes(changes)) => {
                after = changes.last().map_or(after, |change| change.revision);
                if changes.iter().any(|change| change.table == "setting") {
                    dispatch::refresh_settings(&state).await;
                }
                // Nobody listening is fine.
                drop(state.events.0.send(Arc::new(changes)));
            }
            Ok(Feed::TooOld) => {
                dispatch::refresh_settings(&state).await;
                after = head(&state).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the change feed cannot be read; subscribers wait");
                state.seams.clock.sleep(LOOK_EVERY).await;
            }
        }
    }
}

async fn head(state: &ServerState) -> i64 {
    loop {
        match state.store.read::<_, remuda_store::Error, _>(|read| read.revision()).await {
            Ok(revision) => return revision,
            Err(error) => {
                tracing::warn!(%error, "the change feed cannot be read; subscribers wait");
                state.seams.clock.sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Answers a subscription: 101 for a WebSocket, 200 with an endless text for a POST.
pub async fn open(
    state: &ServerState,
    call: Call,
    is_upgrade: bool,
    parts: &mut Parts,
) -> Result<Response<Body>, ApiError> {
    let schema = call.schema()?;
    if !schema.collection_allows(if is_upgrade { "GET" } else { "POST" }) {
        return Err(ApiError::new(Code::MethodNotAllowed));
    }
    let names = event_names(&call.input)?;
    let wants_changes = names.iter().any(|name| matches(name, CHANGE));
    let subscriber = Subscriber { call, headers: parts.headers.clone(), wants_changes };
    let state = state.clone();
    // Before the answer: who reads a resource once it has come must hear of every later change.
    let commits = state.events.0.subscribe();
    if is_upgrade {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|error| ApiError::new(Code::BadRequest).detailed(error.to_string()))?;
        return Ok(upgrade.on_upgrade(move |socket| serve(state, subscriber, commits, socket)));
    }
    let (send, receive) = mpsc::channel(MAX_QUEUED);
    let tasks = state.seams.tasks.clone();
    tasks.spawn_until_stopped("subscriber", async move {
        state.metrics.subscribers.inc();
        subscriber.produce(&state, commits, send).await;
        state.metrics.subscribers.dec();
    });
    let stream = futures_util::stream::unfold(receive, |mut receive: mpsc::Receiver<String>| async move {
        let mut text = receive.recv().await?;
        // Padding gets the event past proxies that wait for a full buffer.
        text.push('\n');
        text.push_str(&" ".repeat(510));
        text.push('\n');
        Some((Ok::<Bytes, std::convert::Infallible>(Bytes::from(text)), receive))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// The names asked for, without what follows a semicolon.
fn event_names(input: &Object) -> Result<Vec<String>, ApiError> {
    let values = match input.get("eventNames") {
        Some(Value::Array(values)) => values.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(one) => vec![one.clone()],
    };
    if values.is_empty() {
        return Err(ApiError::field(Code::MissingRequired, "eventNames"));
    }
    let is_allowed = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '*' | '.' | '_' | ';' | '=');
    values
        .iter()
        .map(|value| match value.as_str() {
            Some(name) if name.chars().all(is_allowed) => Ok(name.split(';').next().unwrap_or_default().to_owned()),
            _ => Err(ApiError::field(Code::InvalidCharacters, "eventNames")),
        })
        .collect()
}

/// Whether a name, with `*` standing for anything, is that of the event.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            let Some(rest) = name.strip_prefix(head) else { return false };
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| matches(tail, &rest[at..]))
        }
    }
}

async fn serve(state: ServerState, subscriber: Subscriber, commits: Commits, socket: WebSocket) {
    state.metrics.subscribers.inc();
    let (mut sink, mut stream) = socket.split();
    let (send, mut receive) = mpsc::channel::<String>(MAX_QUEUED);
    let write = async {
        while let Some(text) = receive.recv().await {
            if sink.send(Message::Text(Utf8Bytes::from(text))).await.is_err() {
                return "the client is gone";
            }
        }
        "the stream is over"
    };
    // What clients say is of no interest, but pings are answered while reading.
    let read = async { while stream.next().await.is_some_and(|message| message.is_ok()) {} };
    let reason = tokio::select! {
        biased;
        () = state.seams.tasks.stopping() => "the server is stopping",
        () = read => "the client is gone",
        // Its end closes the queue; what is queued is not worth sending any more.
        reason = subscriber.produce(&state, commits, send) => reason,
        reason = write => reason,
    };
    let frame = CloseFrame { code: 1001, reason: Utf8Bytes::from_static(reason) };
    let close = async {
        drop(sink.send(Message::Close(Some(frame))).await);
    };
    drop(tokio::time::timeout(Duration::from_secs(1), close).await);
    state.metrics.subscribers.dec();
}

/// What was committed since the subscription.
type Commits = broadcast::Receiver<Arc<Vec<Change>>>;

/// One stream and who reads it.
struct Subscriber {
    call: Call,
    headers: axum::http::HeaderMap,
    wants_changes: bool,
}

/// When events about a resource were and may be sent.
#[derive(Default)]
struct Due {
    sent: Option<Instant>,
    pending: bool,
}

impl Subscriber {
    /// Makes messages until the stream must end; says why.
    async fn produce(&self, state: &ServerState, mut commits: Commits, send: mpsc::Sender<String>) -> &'static str {
        const SLOW: &str = "the client reads too slowly";
        let mut resources: BTreeMap<(String, String, i64), Due> = BTreeMap::new();
        let clock = &state.seams.clock;
        let slow = || {
            state.metrics.subscribers_dropped.inc();
            SLOW
        };
        if send.try_send(ping(state)).is_err() {
            return slow();
        }
        let mut n_pings = 1;
        let mut next_ping = clock.instant() + PING_EVERY;
        loop {
            let now = clock.instant();
            let due: Vec<_> = resources
                .iter()
                .filter(|(_, due)| due.pending && due.sent.is_none_or(|sent| sent + EVENT_EVERY <= now))
                .map(|(key, _)| key.clone())
                .collect();
            if !due.is_empty() {
                let messages = match self.messages(state, due.clone()).await {
                    Ok(messages) => messages,
                    Err(_) => return "the database is not available",
                };
                for message in messages {
                    if send.try_send(message).is_err() {
                        return slow();
                    }
                }
                for key in due {
                    resources.insert(key, Due { sent: Some(now), pending: false });
                }
            }
            resources.retain(|_, due| due.pending || due.sent.is_some_and(|sent| sent + EVENT_EVERY > now));
            let wake = resources
                .values()
                .filter(|due| due.pending)
                .filter_map(|due| due.sent.map(|sent| sent + EVENT_EVERY))
                .fold(next_ping, Instant::min);
            tokio::select! {
                biased;
                commit = commits.recv() => match commit {
                    Ok(changes) => {
                        for change in changes.iter().filter(|change| self.concerns(change)) {
                            let key = (change.table.clone(), change.kind.clone(), change.id);
                            resources.entry(key).or_default().pending = true;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => return slow(),
                    Err(broadcast::error::RecvError::Closed) => return "the server is stopping",
                },
                () = tokio::time::sleep_until(wake) => {
                    if clock.instant() >= next_ping {
                        if n_pings >= MAX_PINGS {
                            return "the stream is twelve hours old";
                        }
                        if !self.may_still_listen(state).await {
                            return "the credentials are no longer good";
                        }
                        if send.try_send(ping(state)).is_err() {
                            return slow();
                        }
                        n_pings += 1;
                        next_ping = clock.instant() + PING_EVERY;
                    }
                }
            }
        }
    }

    /// Keys are withdrawn and members removed while streams are open.
    async fn may_still_listen(&self, state: &ServerState) -> bool {
        let (owned, call, headers) = (state.clone(), self.call.clone(), self.headers.clone());
        let found = state
            .store
            .read::<_, Failure, _>(move |read| {
                let asked = owned.asked(&headers, &call.query, call.path.project.as_deref());
                let principal = auth::authenticate(read, &asked)?;
                Ok(principal.effective_id == call.principal.effective_id)
            })
            .await;
        match found {
            Ok(is_same) => is_same,
            // Only a refusal ends the stream; a database that is away for a moment does not.
            Err(failure) => !matches!(failure, Failure::Api(_)),
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        if !self.wants_changes {
            return false;
        }
        if policy::sees_everything(&self.call.principal) {
            return true;
        }
        let own = self.call.principal.effective_id;
        change.account_id == Some(own) || change.table == "account" && change.id == own
    }

    async fn messages(&self, state: &ServerState, due: Vec<(String, String, i64)>) -> Result<Vec<String>, Failure> {
        let mut call = self.call.clone();
        call.now = remuda_schema::Time(state.seams.clock.now_ms());
        call.settings = state.settings.current();
        let random = state.seams.random.clone();
        state
            .store
            .read::<_, Failure, _>(move |read| {
                let mut messages = Vec::with_capacity(due.len());
                for (table, kind, number) in due {
                    let seen = seen(read, &call, &table, &kind, number)?;
                    let base = remuda_model::registry().base(&kind).to_owned();
                    let id = remuda_schema::id::encode(&base, number);
                    let (ty, data) = match seen {
                        Some(document) => {
                            let ty = document.get("type").and_then(Value::as_str).unwrap_or(&base).to_owned();
                            (ty, json!({ "resource": document.to_value() }))
                        }
                        None => (base, Value::Null),
                    };
                    messages.push(message(&random.uuid(), CHANGE, Some(&id), Some(&ty), data, call.now.0));
                }
                Ok(messages)
            })
            .await
    }
}

/// The resource as the subscriber would get it.
fn seen(read: &Read<'_>, call: &Call, table: &str, kind: &str, number: i64) -> Result<Option<Document>, Failure> {
    let registry = remuda_model::registry();
    let general = registry.types().find(|def| def.table() == Some(table) && def.parent.is_none());
    let schema = call.schemas.get(kind).or_else(|| general.and_then(|def| call.schemas.get(def.name)));
    let Some(schema) = schema else { return Ok(None) };
    let Some(row) = lookup::by_number(read, call, schema, number)? else { return Ok(None) };
    let include = filter::includes(schema, call.pairs());
    Ok(render::resources(read, call, schema, std::slice::from_ref(&row), &include)?.pop())
}

fn ping(state: &ServerState) -> String {
    let data = json!({ "options": {}, "resources": [] });
    message(&state.seams.random.uuid(), "ping", None, None, data, state.seams.clock.now_ms())
}

fn message(
    id: &str,
    name: &str,
    resource_id: Option<&str>,
    resource_type: Option<&str>,
    data: Value,
    now_ms: i64,
) -> String {
    json!({
        "id": id, "name": name, "replyTo": null, "resourceId": resource_id, "resourceType": resource_type,
        "publisher": null, "transitioning": null, "transitioningMessage": null, "transitioningInternalMessage": null,
        "previousIds": null, "previousNames": null, "data": data, "time": now_ms, "timeoutMillis": null,
        "transitioningProgress": null, "context": {},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_have_wildcards_and_no_scope() {
        for (pattern, expected) in [
            ("resource.change", true),
            ("resource.*", true),
            ("*", true),
            ("*change", true),
            ("*.*", true),
            ("ping", false),
            ("resource", false),
            ("resource.changed*", false),
        ] {
            assert_eq!(matches(pattern, CHANGE), expected, "{pattern}");
        }
        let names = |value: Value| event_names(&Object::from_iter([("eventNames".to_owned(), value)]));
        assert_eq!(names(json!("resource.change;account=7")), Ok(vec!["resource.change".to_owned()]));
        assert_eq!(names(json!(["a", "b"])).map(|names| names.len()), Ok(2));
        for bad in [json!("a b"), json!([1]), json!(["é"])] {
            assert_eq!(names(bad).map_err(|error| error.code), Err(Code::InvalidCharacters));
        }
        assert_eq!(names(json!([])).map_err(|error| error.code), Err(Code::MissingRequired));
    }
}
