//! A running server: its routes, its listener, its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::middleware;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use remuda_orchestrator::Orchestrator;
use remuda_runtime::Seams;
use remuda_schema::Role;
use remuda_store::{Seal, SealError, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::access::Tokens;
use crate::bootstrap::{self, AdminKey};
use crate::config::ServerOptions;
use crate::contexts::{self, Shelf};
use crate::dispatch::{self, Peer};
use crate::failure::Failure;
use crate::hub::sessions::Sessions;
use crate::hub::{self, Hub};
use crate::metrics::Metrics;
use crate::settings::Book;
use crate::state::{Inner, MAX_REQUESTS, MAX_UPLOADS, ServerState, VERSION};
use crate::streams::{self, Streams};
use crate::{ops, proxy_protocol, scripts, secret_values, subscribe};

/// Connections at one time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;
/// A client has that long to send the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Requests under way at shutdown may take that long.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Why a server could not start. Each ends the start with a sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on `{listen}`; is another server running there?")]
    Listen {
        listen: SocketAddr,
        #[source]
        cause: std::io::Error,
    },
    #[error("the key that seals secrets cannot be used")]
    Seal(#[source] SealError),
    #[error("the keys of this server cannot be read from the database")]
    Keys(#[source] Failure),
    #[error("the first start failed")]
    First(#[source] bootstrap::Error),
}

/// A server that answers.
pub struct Running {
    /// Where it listens; the port is known even if 0 was asked for.
    pub address: SocketAddr,
    pub state: ServerState,
    /// Told once, at the first start with access control on.
    pub admin_key: Option<AdminKey>,
}

impl Running {
    /// Stops accepting, ends streams with a reason, lets requests under way finish. `false`: some did not in time.
    pub async fn shut_down(self) -> bool {
        self.state.slots.close();
        self.state.uploads.close();
        self.state.seams.tasks.shut_down(DRAIN_WITHIN).await
    }
}

/// Opens the keys of the database and puts the state together; nothing listens yet. For servers without sockets.
pub async fn open(
    options: ServerOptions,
    store: Store,
    orchestrator: Orchestrator,
    seams: Seams,
    seal: Seal,
) -> Result<ServerState, StartError> {
    seal.bind(&store).await.map_err(StartError::Seal)?;
    let random = seams.random.clone();
    let sealer = seal.clone();
    let keys = store
        .write::<_, Failure, _>(move |tx| {
            let token_key = match tx.meta("server.token-key")? {
                Some(sealed) => sealer.open(&sealed)?,
                None => {
                    let mut key = [0; 32];
                    random.fill(&mut key);
                    tx.meta_set("server.token-key", &sealer.seal(&key))?;
                    key.to_vec()
                }
            };
            let signing_key = match tx.meta("server.signing-key")? {
                Some(sealed) => sealer.open(&sealed)?,
                None => {
                    let key = scripts::generate_key()?;
                    tx.meta_set("server.signing-key", &sealer.seal(&key))?;
                    key
                }
            };
            Ok((token_key, scripts::public_key_pem(&signing_key)?))
        })
        .await
        .map_err(StartError::Keys)?;
    let (token_key, public_key) = keys.value;
    let settings = Book::new(VERSION, options.dev);
    let state = ServerState::new(Inner {
        settings,
        seal,
        tokens: Tokens::new(&token_key),
        metrics: Metrics::default(),
        sessions: Sessions::new(seams.random.clone()),
        public_key,
        contexts: Shelf::new(options.contexts_dir.clone()),
        uploads: Semaphore::new(MAX_UPLOADS),
        slots: Semaphore::new(MAX_REQUESTS),
        events: subscribe::Events::default(),
        options,
        store,
        orchestrator,
        seams,
    });
    dispatch::refresh_settings(&state).await;
    state.seams.tasks.spawn_until_stopped("events", subscribe::follow(state.clone()));
    Ok(state)
}

/// Every route of the server. Usable without a listener.
pub fn router(state: ServerState) -> Router {
    let streams = Streams {
        sessions: state.sessions.clone(),
        tokens: state.tokens.clone(),
        clock: state.seams.clock.clone(),
        tasks: state.seams.tasks.clone(),
    };
    let guard = middleware::from_fn_with_state(state.clone(), dispatch::guard);
    Router::new()
        .merge(ops::routes(state.clone()))
        .merge(contexts::routes::routes(state.clone()))
        .merge(secret_values::routes(state.clone()))
        .merge(streams::routes(streams))
        .merge(hub::routes(hub(&state), agents(state.clone())))
        .fallback_service(Router::new().fallback(dispatch::dispatch).with_state(state))
        .layer(guard)
}

/// What agents connect to.
pub fn hub(state: &ServerState) -> Hub {
    Hub::new(
        state.orchestrator.clone(),
        state.sessions.clone(),
        state.seams.tasks.clone(),
        state.seal.clone(),
        state.options.simulator,
    )
}

/// Lets agents in by their key.
fn agents(state: ServerState) -> hub::Authenticate {
    Arc::new(move |headers| {
        let state = state.clone();
        Box::pin(async move {
            let principal = state.authenticate(&headers, None).await.ok()?;
            (principal.role == Role::Agent).then_some(principal.account_id)
        })
    })
}

/// Starts a server: listens, makes what the first start makes, answers.
pub async fn start(
    options: ServerOptions,
    store: Store,
    orchestrator: Orchestrator,
    seams: Seams,
    seal: Seal,
) -> Result<Running, StartError> {
    let listen = options.listen;
    let listening = |cause| StartError::Listen { listen, cause };
    let listener = TcpListener::bind(listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    let options = ServerOptions { listen: address, ..options };
    // The server's tasks end before those of the loops it asks things of.
    let seams = Seams { tasks: seams.tasks.child(), ..seams };
    let state = open(options, store, orchestrator, seams, seal).await?;
    let admin_key = bootstrap::prepare(&state, address).await.map_err(StartError::First)?;
    state.seams.tasks.spawn_until_stopped("build contexts", contexts::keep::run(state.clone()));
    state.seams.tasks.spawn("listener", accept(state.clone(), listener));
    Ok(Running { address, state, admin_key })
}

async fn accept(state: ServerState, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = router(state.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = state.seams.tasks.stopping() => return,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), accepted) = accepted else { return };
        match accepted {
            Ok((stream, peer)) => {
                let (state, router) = (state.clone(), router.clone());
                let tasks = state.seams.tasks.clone();
                tasks.spawn("connection", async move {
                    state.metrics.connections.inc();
                    connection(&state, router, stream, peer).await;
                    state.metrics.connections.dec();
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets some go.
                tracing::warn!(%error, "a connection could not be accepted");
                state.seams.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(state: &ServerState, router: Router, stream: TcpStream, peer: SocketAddr) {
    // Small answers must not wait for more.
    drop(stream.set_nodelay(true));
    let greeted = tokio::time::timeout(HEAD_WITHIN, proxy_protocol::accept(stream));
    let greeted = tokio::select! {
        biased;
        () = state.seams.tasks.stopping() => return,
        greeted = greeted => greeted,
    };
    let (stream, called) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection began badly");
            return;
        }
        Err(_) => return,
    };
    let peer = match called {
        Some(called) => Peer { ip: Some(called.client.ip()), secure: called.port == 443 },
        None => Peer { ip: Some(peer.ip()), secure: false },
    };
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = serving.as_mut() => ended,
        () = state.seams.tasks.stopping() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
