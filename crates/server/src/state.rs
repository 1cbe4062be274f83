//! What every request of one server shares.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use axum::http::HeaderMap;
use remuda_orchestrator::Orchestrator;
use remuda_runtime::Seams;
use remuda_schema::{ApiError, Time};
use remuda_store::Store;
use tokio::sync::Semaphore;

use crate::access::{Claim, Invalid, Tokens};
use crate::auth::{self, Asked, Principal};
use crate::config::ServerOptions;
use crate::contexts::Shelf;
use crate::failure::Failure;
use crate::hub::sessions::Sessions;
use crate::metrics::Metrics;
use crate::request::Query;
use crate::settings::Book;
use remuda_store::Seal;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Requests answered at one time; more wait their turn, each holding at most its body.
pub const MAX_REQUESTS: usize = 512;
/// Build contexts that arrive at one time.
pub const MAX_UPLOADS: usize = 8;

/// The state of a server. Clones share it.
#[derive(Clone)]
pub struct ServerState(Arc<Inner>);

/// See [`ServerState`].
pub struct Inner {
    pub options: ServerOptions,
    pub store: Store,
    pub orchestrator: Orchestrator,
    pub seams: Seams,
    pub settings: Book,
    pub seal: Seal,
    pub tokens: Tokens,
    pub metrics: Metrics,
    /// Hosts connected to this server.
    pub sessions: Sessions,
    /// PEM of the public key at `/v1/scripts/api.crt`.
    pub public_key: String,
    /// Build contexts of compose files.
    pub contexts: Shelf,
    /// Contexts that arrive at one time; more wait their turn.
    pub(crate) uploads: Semaphore,
    pub(crate) slots: Semaphore,
    /// Events for subscribers.
    pub(crate) events: crate::subscribe::Events,
}

impl Deref for ServerState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl ServerState {
    pub fn new(inner: Inner) -> ServerState {
        ServerState(Arc::new(inner))
    }

    /// Who sends a request with these headers and this query. For routes beside the API: agents, streams.
    pub async fn authenticate(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Principal, ApiError> {
        let (state, headers) = (self.clone(), headers.clone());
        let query = Query::parse(query.unwrap_or_default());
        let found: Result<Principal, Failure> =
            self.store.read(move |read| auth::authenticate(read, &state.asked(&headers, &query, None))).await;
        found.map_err(|failure| failure.answer(&self.seams.random.uuid()))
    }

    /// What authentication looks at.
    pub(crate) fn asked<'r>(
        &'r self,
        headers: &'r HeaderMap,
        query: &'r Query,
        path_project: Option<&'r str>,
    ) -> Asked<'r> {
        Asked {
            headers,
            query,
            path_project,
            now_ms: self.seams.clock.now_ms(),
            dev: self.options.dev,
            seal: &self.seal,
            registration_period_ms: self.registration_period_ms(),
        }
    }

    /// How long registration tokens are good for.
    pub(crate) fn registration_period_ms(&self) -> i64 {
        let settings = self.settings.current();
        let set = self.settings.value(&settings, "registration.token.period.millis");
        set.and_then(|text| text.trim().parse().ok()).unwrap_or(315_360_000_000)
    }

    /// A token for a claim, good for that many milliseconds from now.
    pub fn sign_token(&self, claim: Claim, lifetime_ms: i64) -> Result<String, serde_json::Error> {
        self.tokens.sign(claim, self.seams.clock.now_ms().saturating_add(lifetime_ms))
    }

    /// What a token allows now.
    pub fn verify_token(&self, token: &str) -> Result<Claim, Invalid> {
        self.tokens.verify(token, self.seams.clock.now_ms())
    }

    /// Checks of `/healthcheck`, by name.
    pub async fn checks(&self) -> BTreeMap<String, Check> {
        let mut checks = BTreeMap::new();
        let error = self.store.ping().await.err().map(|error| error.to_string());
        checks.insert("database".to_owned(), Check { error, ..Check::default() });
        for status in self.orchestrator.status() {
            let check = Check {
                error: status.last_error,
                last_pass: status.last_pass_ms.map(Time),
                next_try: status.next_try_ms.map(Time),
            };
            checks.insert(format!("loop {}", status.name), check);
        }
        checks
    }
}

/// How one part of the server fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// What is wrong, if anything.
    pub error: Option<String>,
    /// When a loop last ran.
    pub last_pass: Option<Time>,
    /// When a loop that failed tries again.
    pub next_try: Option<Time>,
}
