//! Carries out one action on the engine. Short and boring: everything was decided before.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remuda_model::build_context;
use remuda_runtime::Clock;
use remuda_wire::observe::Status;
use remuda_wire::plan::{ContainerPlan, NetworkMode, NetworkPlan, Pull, Removal};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::balancer::keeper::{self, Keeper};
use crate::balancer::place::Dir;
use crate::engine::inspect::{self, Container};
use crate::engine::spec::{self, Here};
use crate::engine::{Engine, Error, Progress};
use crate::fence::Fence;
use crate::host_network::{HostNetwork, Problem};
use crate::links::Source;
use crate::reconcile::decide::{Action, Start};
use crate::secrets::{self, Secrets};

/// A build that says nothing for that long is still there.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// How long a start waits for the container to be in the directory.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// What actions work with.
pub struct Tools {
    pub engine: Arc<dyn Engine>,
    pub network: Arc<dyn HostNetwork>,
    /// Where build contexts and secrets come from.
    pub server: Arc<dyn Source>,
    pub secrets: Secrets,
    pub clock: Clock,
    /// One pull of an image at a time; the others find it there.
    pub pulls: Pulls,
    /// Containers being created or started at once: engines get slower, not faster, beyond a few.
    pub starts: Semaphore,
    /// Orders observations, see [`Seen`].
    pub tickets: AtomicU64,
    /// The host's own search domains.
    pub search: Vec<String>,
    pub balancers: Keeper,
    pub fence: Fence,
}

/// Locks by image.
#[derive(Default)]
pub struct Pulls(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Pulls {
    fn lock(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(image.to_owned()).or_default().clone()
    }
}

/// Why an action did not succeed, by its step.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot pull image `{image}`: {source}")]
    Pull { image: String, source: Error },
    #[error("cannot build image `{image}`: {source}")]
    Build { image: String, source: Error },
    #[error("cannot create volume `{name}`: {source}")]
    Volume { name: String, source: Error },
    #[error("cannot use the managed network: {0}")]
    Network(#[source] Problem),
    #[error("cannot prepare name resolution: {0}")]
    Resolver(#[source] Problem),
    #[error("cannot prepare the load balancer: {0}")]
    Balancer(#[source] keeper::Problem),
    #[error(transparent)]
    Secret(#[from] secrets::Problem),
    #[error("cannot create the container: {0}")]
    Spec(#[source] spec::Error),
    #[error("cannot create the container: {0}")]
    Create(#[source] Error),
    #[error("cannot start the container: {0}")]
    Start(#[source] Error),
    #[error("failed to stop container {uuid}: {source}")]
    Stop { uuid: String, source: Error },
    #[error("cannot remove the container: {0}")]
    Remove(#[source] Error),
    #[error("cannot remove volume `{name}`: {source}")]
    RemoveVolume { name: String, source: Error },
    #[error("cannot look at the container: {0}")]
    Inspect(#[source] Error),
}

impl Failure {
    /// The engine itself was away: says nothing about the container.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Failure::Pull { source, .. }
            | Failure::Build { source, .. }
            | Failure::Volume { source, .. }
            | Failure::Stop { source, .. }
            | Failure::RemoveVolume { source, .. }
            | Failure::Create(source)
            | Failure::Start(source)
            | Failure::Remove(source)
            | Failure::Inspect(source) => source.is_unreachable(),
            Failure::Network(_)
            | Failure::Secret(_)
            | Failure::Resolver(_)
            | Failure::Balancer(_)
            | Failure::Spec(_) => false,
        }
    }
}

/// A container as it was found. The ticket is drawn before the engine is asked: of two observations of one container
/// the one with the higher ticket counts, in whatever order they arrive.
pub struct Seen {
    pub ticket: u64,
    pub docker_id: String,
    /// With the whole inspect answer; `None`: it is not there.
    pub container: Option<(Container, Value)>,
}

/// How an action ended.
pub struct Outcome {
    pub result: Result<(), Failure>,
    /// The container afterwards, when it could be looked at.
    pub seen: Option<Seen>,
    /// Volumes that stay because something still uses them.
    pub kept: Vec<String>,
}

/// Does it.
pub async fn act(tools: &Tools, action: &Action, network: Option<&NetworkPlan>, progress: Progress) -> Outcome {
    match action {
        Action::Start(it) => start(tools, it, false, network, progress).await,
        Action::Restart(it) => start(tools, it, true, network, progress).await,
        Action::Stop { uuid, docker_id, timeout_seconds } => {
            let result = stop(tools, uuid, docker_id, *timeout_seconds).await;
            looked(tools, docker_id, result).await
        }
        Action::Remove { removal, docker_id } => {
            let result = tolerate_missing(tools.engine.remove(docker_id).await).map_err(Failure::Remove);
            let mut outcome = looked(tools, docker_id, result).await;
            if outcome.result.is_ok() {
                outcome.kept = clean_up(tools, removal).await;
            }
            outcome
        }
        Action::ConfirmRemoved { removal } => {
            let kept = clean_up(tools, removal).await;
            Outcome { result: Ok(()), seen: None, kept }
        }
        Action::RemoveVolume { removal } => {
            let result = tolerate_missing(tools.engine.volume_remove(&removal.name).await);
            let result = result.map_err(|source| Failure::RemoveVolume { name: removal.name.clone(), source });
            Outcome { result, seen: None, kept: Vec::new() }
        }
    }
}

fn tolerate_missing(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// Adds how the container is now.
async fn looked(tools: &Tools, docker_id: &str, result: Result<(), Failure>) -> Outcome {
    let (result, seen) = match look(tools, docker_id).await {
        Ok(seen) => (result, Some(seen)),
        Err(failed) => (result.and(Err(Failure::Inspect(failed))), None),
    };
    Outcome { result, seen, kept: Vec::new() }
}

/// The container as the engine has it.
pub async fn look(tools: &Tools, docker_id: &str) -> Result<Seen, Error> {
    let ticket = tools.tickets.fetch_add(1, Ordering::Relaxed) + 1;
    let container = match tools.engine.inspect(docker_id).await {
        Ok(answer) => match inspect::read(&answer) {
            Some(container) => Some((container, answer)),
            None => {
                let reason = "it has no `Id`".to_owned();
                return Err(Error::Odd { call: format!("inspect {docker_id}"), reason });
            }
        },
        Err(Error::NotFound(_)) => None,
        Err(other) => return Err(other),
    };
    Ok(Seen { ticket, docker_id: docker_id.to_owned(), container })
}

async fn start(
    tools: &Tools,
    start: &Start,
    stop_first: bool,
    network: Option<&NetworkPlan>,
    progress: Progress,
) -> Outcome {
    let plan = &start.plan;
    let mut docker_id = start.existing.as_ref().map(|container| container.docker_id.clone());
    let result = async {
        if let Some(existing) = start.existing.as_ref() {
            if existing.status == Status::Dead {
                tolerate_missing(tools.engine.remove(&existing.docker_id).await).map_err(Failure::Remove)?;
                docker_id = None;
            } else if stop_first {
                stop(tools, &plan.uuid, &existing.docker_id, plan.stop_timeout_seconds).await?;
            }
        }
        let id = match docker_id.clone() {
            Some(id) => id,
            None => create(tools, start, network, progress).await?,
        };
        docker_id = Some(id.clone());
        // Again, because pulling its image may have taken a while.
        tools.balancers.prepare(&plan.uuid).await.map_err(Failure::Balancer)?;
        if let NetworkMode::Managed { .. } = plan.spec.network
            && let Some(network) = network.filter(|_| !plan.native)
        {
            tools.network.ensure(network).await.map_err(Failure::Network)?;
        }
        if plan.spec.resolver && !plan.native {
            // The file may have gone with the state directory; the engine would make a directory in its place.
            tools.network.resolver(&plan.spec, &plan.uuid).map_err(Failure::Resolver)?;
        }
        tools.secrets.ensure(&plan.uuid, &plan.spec.secrets, tools.server.as_ref()).await?;
        if let NetworkMode::Managed { .. } = plan.spec.network {
            // Programs ask for their own metadata first of all. The server says it along with the plan; one that is
            // away must not keep a container from starting.
            tokio::select! {
                biased;
                () = tools.network.container_known(&plan.uuid) => {}
                () = tools.clock.sleep(KNOWN_WITHIN) => {
                    tracing::debug!(uuid = plan.uuid, "starting a container that is not in the directory yet");
                }
            }
        }
        let _turn = tools.starts.acquire().await;
        tools.engine.start(&id).await.map_err(Failure::Start)
    }
    .await;
    match docker_id {
        Some(id) => looked(tools, &id, result).await,
        None => Outcome { result, seen: None, kept: Vec::new() },
    }
}

async fn create(
    tools: &Tools,
    start: &Start,
    network: Option<&NetworkPlan>,
    progress: Progress,
) -> Result<String, Failure> {
    let ContainerPlan { uuid, name, spec, .. } = &start.plan;
    image(tools, &start.plan, progress.clone()).await?;
    for volume in &spec.volumes {
        let created = tools.engine.volume_create(volume).await;
        created.map_err(|source| Failure::Volume { name: volume.name.clone(), source })?;
    }
    let mut here = Here { docker_ids: start.docker_ids.clone(), search: tools.search.clone(), ..Here::default() };
    if let NetworkMode::Managed { .. } = spec.network {
        let missing = || Failure::Network(Problem("the server has not described it yet".to_owned()));
        let network = network.ok_or_else(missing)?;
        let docker_name = tools.network.ensure(network).await.map_err(Failure::Network)?;
        let prefix = network.subnet.rsplit_once('/').and_then(|(_, prefix)| prefix.parse().ok()).unwrap_or(16);
        here.network = Some((docker_name, prefix));
    }
    if spec.resolver {
        here.resolver = tools.network.resolver(spec, uuid).map_err(Failure::Resolver)?;
    }
    let balancer = tools.balancers.prepare(uuid).await.map_err(Failure::Balancer)?;
    here.balancer = balancer.map(|dir| spec::Balancer { command: Dir::command(), binds: dir.binds().to_vec() });
    let files = tools.secrets.ensure(uuid, &spec.secrets, tools.server.as_ref()).await?;
    here.secrets = files.into_iter().zip(spec.secrets.iter().map(|secret| secret.path.clone())).collect();
    let body = spec::create_body(uuid, name, spec, &here).map_err(Failure::Spec)?;
    let preferred = if spec.docker_name.is_empty() { uuid } else { &spec.docker_name };
    let mut created = create_named(tools, [preferred, uuid], &body).await;
    if let Err(Error::NotFound(_)) = created {
        // Most often the image: asking for it first would cost every creation a question.
        pull(tools, &spec.image, false, progress).await?;
        created = create_named(tools, [preferred, uuid], &body).await;
    }
    created.map_err(Failure::Create)
}

/// Creates it under the first name, else under the second.
async fn create_named(tools: &Tools, [preferred, uuid]: [&str; 2], body: &Value) -> Result<String, Error> {
    let _turn = tools.starts.acquire().await;
    match tools.engine.create(preferred, body).await {
        Err(Error::Conflict(_)) if preferred != uuid => tools.engine.create(uuid, body).await,
        created => created,
    }
}

/// What is to be done with the image before anything else: one that is only missed is pulled when creation says so.
async fn image(tools: &Tools, plan: &ContainerPlan, progress: Progress) -> Result<(), Failure> {
    let image = &plan.spec.image;
    match &plan.spec.build {
        Some(build) => {
            let failed = |source| Failure::Build { image: image.clone(), source };
            let lock = tools.pulls.lock(image);
            let _turn = lock.lock().await;
            // Once per host: what is built anew has a name of its own (`compose.md` §11).
            if tools.engine.image_exists(image).await.map_err(failed)? {
                return Ok(());
            }
            let kept = build.context.as_deref().and_then(build_context::hash_of);
            let context = match kept {
                Some(hash) => {
                    progress(format!("Building {image}: getting the build context"), None);
                    let got = tools.server.fetch(build_context::reference(hash)).await;
                    let told = |why| format!("cannot get the build context: {why}");
                    Some(got.map_err(|why| failed(Error::Refused { status: 502, message: told(why) }))?)
                }
                None => None,
            };
            let said = Arc::new(Mutex::new(format!("Building {image}")));
            let built = tools.engine.build(image, build, context, spoken(image, &said, &progress));
            while_told(tools, built, &said, &progress).await.map_err(failed)
        }
        None if plan.spec.pull == Pull::Always => pull(tools, image, true, progress).await,
        None => Ok(()),
    }
}

/// What a build says, with the image before it.
fn spoken(image: &str, said: &Arc<Mutex<String>>, progress: &Progress) -> Progress {
    let (image, said, progress) = (image.to_owned(), Arc::clone(said), Arc::clone(progress));
    Arc::new(move |line: String, percent| {
        let text = format!("Building {image}: {line}");
        text.clone_into(&mut said.lock().unwrap_or_else(PoisonError::into_inner));
        progress(text, percent);
    })
}

/// A step of a build may be silent for as long as a compiler takes. Its last words are repeated, so that the server
/// goes on waiting.
async fn while_told<T>(tools: &Tools, built: impl Future<Output = T>, said: &Mutex<String>, progress: &Progress) -> T {
    let mut built = std::pin::pin!(built);
    loop {
        tokio::select! {
            biased;
            built = &mut built => return built,
            () = tools.clock.sleep(REPEAT_AFTER) => {
                let text = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                progress(text, None);
            }
        }
    }
}

async fn pull(tools: &Tools, image: &str, always: bool, progress: Progress) -> Result<(), Failure> {
    let failed = |source| Failure::Pull { image: image.to_owned(), source };
    let lock = tools.pulls.lock(image);
    let _turn = lock.lock().await;
    if !always && tools.engine.image_exists(image).await.map_err(failed)? {
        return Ok(());
    }
    tools.engine.pull(image, progress).await.map_err(failed)
}

/// Stop, and kill what is still there after the grace period.
async fn stop(tools: &Tools, uuid: &str, docker_id: &str, timeout_seconds: i64) -> Result<(), Failure> {
    let failed = |source| Failure::Stop { uuid: uuid.to_owned(), source };
    let patience = Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0)) + Duration::from_secs(15);
    let stopped = tokio::select! {
        biased;
        stopped = tools.engine.stop(docker_id, timeout_seconds) => stopped,
        () = tools.clock.sleep(patience) => Err(Error::Unreachable("it does not answer the stop".to_owned())),
    };
    match tolerate_missing(stopped) {
        Ok(()) => {}
        Err(first) => {
            let killed = tools.engine.kill(docker_id).await;
            if let Err(Error::Unreachable(_)) = killed {
                return Err(failed(first));
            }
        }
    }
    match look(tools, docker_id).await.map_err(failed)?.container {
        Some((container, _)) if container.status == Status::Running => {
            tolerate_missing(tools.engine.kill(docker_id).await).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// Deletes the volumes that go with a container; gives those that stay, with the reason.
async fn clean_up(tools: &Tools, removal: &Removal) -> Vec<String> {
    tools.network.forget(&removal.uuid);
    tools.secrets.forget(&removal.uuid);
    tools.balancers.forget(&removal.uuid);
    let mut kept = Vec::new();
    for name in &removal.volumes.names {
        if let Err(why) = tolerate_missing(tools.engine.volume_remove(name).await) {
            kept.push(format!("volume `{name}` stays: {why}"));
        }
    }
    kept
}

/// The search domains of a `resolv.conf`.
pub fn search_domains(resolv_conf: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then(|| words.map(str::to_owned).collect::<Vec<_>>())
    });
    // The last line counts, as in the C library. A lone dot says "none".
    let last: Vec<String> = lines.next_back().unwrap_or_default();
    last.into_iter().filter(|domain| domain != ".").collect()
}
