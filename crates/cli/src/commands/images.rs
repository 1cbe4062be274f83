//! `pull` and `build`: images on hosts before anything needs them, through the hosts' engines (`cli.md` §7).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use remuda_client::engine::{Call, Upload};
use remuda_client::{Method, Resource};
use remuda_compose::{Build, Service};
use serde_json::Value;

use crate::commands::up::report;
use crate::failure::{Failure, exit};
use crate::globals::ProjectOptions;
use crate::project;
use crate::resolve::Kind;
use crate::session::Session;
use crate::{complete, context, contexts, items, local_engine, plan};

/// Pull the images of compose files on hosts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda pull\n  remuda pull web --host node3\n  remuda pull --cached         # only where there is one already\n\nNo service is created or changed. See also: build, up --pull"
)]
pub struct PullArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services whose images are pulled; all when none is named
    #[arg(add = complete::project_services())]
    pub services: Vec<String>,
    /// Only on hosts that have the image already
    #[arg(short, long)]
    pub cached: bool,
    /// Hosts to pull on; every active one when none is named
    #[arg(long, value_name = "HOST", add = complete::hosts())]
    pub host: Vec<String>,
}

/// Build the images of compose files on hosts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  remuda build\n  remuda build web --host node3\n\nThe directory is sent to each host, whose engine builds. `remuda up` alone has hosts build what they need.\n\nSee also: up --build, pull"
)]
pub struct BuildArgs {
    #[command(flatten)]
    pub project: ProjectOptions,
    /// Services whose images are built; all that have a `build` when none is named
    #[arg(add = complete::project_services())]
    pub services: Vec<String>,
    /// Hosts to build on; every active one when none is named
    #[arg(long, value_name = "HOST", add = complete::hosts())]
    pub host: Vec<String>,
    /// Take no layer from an earlier build
    #[arg(long)]
    pub no_cache: bool,
}

/// When and where `up` has images built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// By each host that runs a container of it and has no image of that name.
    #[default]
    Missing,
    /// By every active host, now, also where there is one.
    Always,
    /// Here, when this machine is the only host.
    Local,
    /// Here, and pushed to the registry its name begins with.
    Push,
    /// Never: it is there, or may not be needed.
    Never,
}

/// So many hosts are busy at the same time.
const AT_ONCE: usize = 8;

pub async fn pull(session: &Session, args: PullArgs) -> Result<u8, Failure> {
    let project = project::load_named(&session.globals, &session.progress, &args.services)?;
    let services = chosen(&project.compiled.services, &args.services)?;
    let hosts = hosts(session, &args.host).await?;
    let failures = pull_on(session, &services, &hosts, args.cached).await;
    report(session, failures).map_or(Ok(exit::DONE), Err)
}

pub async fn build(session: &Session, args: BuildArgs) -> Result<u8, Failure> {
    let mut project = project::load_named(&session.globals, &session.progress, &args.services)?;
    contexts::name(&mut project.compiled.services, When::Missing).await?;
    let services = chosen(&project.compiled.services, &args.services)?;
    if services.iter().all(|service| service.builds.is_empty()) {
        session.progress.note("nothing to build: no service has a `build` with a directory");
        return Ok(exit::DONE);
    }
    let hosts = hosts(session, &args.host).await?;
    let failures = build_on(session, &services, &hosts, args.no_cache).await;
    report(session, failures).map_or(Ok(exit::DONE), Err)
}

fn chosen<'a>(services: &'a [Service], names: &[String]) -> Result<Vec<&'a Service>, Failure> {
    let is_known = |name: &String| services.iter().any(|service| plan::names(service, std::slice::from_ref(name)));
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        return Err(plan::no_such_service(name, &known));
    }
    let is_named = |service: &&Service| names.is_empty() || plan::names(service, names);
    Ok(services.iter().filter(is_named).collect())
}

/// The named hosts, or every active one.
pub async fn hosts(session: &Session, names: &[String]) -> Result<Vec<Resource>, Failure> {
    let mut hosts = Vec::new();
    for name in names {
        hosts.push(session.resolve(name, &[Kind::Host]).await?);
    }
    if names.is_empty() {
        hosts = session.client.list("hosts", &[("state", "active"), ("removed_null", "true")]).await?;
    }
    if hosts.is_empty() {
        return Err(
            Failure::new(exit::FAILED, "no host is active").hint("`remuda host add` prints the line that joins one")
        );
    }
    Ok(hosts)
}

/// Pulls the images that are not built, each once per host.
pub async fn pull_on(session: &Session, services: &[&Service], hosts: &[Resource], cached: bool) -> Vec<Failure> {
    let built: BTreeSet<String> =
        services.iter().flat_map(|service| images_built(service)).map(|(_, image)| image).collect();
    let images: BTreeSet<&String> =
        services.iter().flat_map(|service| &service.images).filter(|image| !built.contains(*image)).collect();
    let work = images.iter().flat_map(|image| hosts.iter().map(move |host| (image.as_str(), host)));
    each(work, async |(image, host)| {
        let title = format!("{} {image}", items::host_name(host));
        if cached && !has(session, host, image).await? {
            return Ok(());
        }
        session.progress.say(&title, "pulling", None);
        let outcome = pull_one(session, host, image, &title).await;
        finish(session, &title, "pulled", outcome)?;
        session.progress.old(&format!("Finished pulling {image}"));
        Ok(())
    })
    .await
}

/// Builds what is to be built, each image once per host.
pub async fn build_on(session: &Session, services: &[&Service], hosts: &[Resource], no_cache: bool) -> Vec<Failure> {
    let builds: Vec<(&Build, String)> = services.iter().flat_map(|service| images_built(service)).collect();
    let work = builds.iter().flat_map(|build| hosts.iter().map(move |host| (build, host)));
    each(work, async |((build, image), host)| {
        let title = format!("{} {image}", items::host_name(host));
        session.progress.say(&title, "building", None);
        let outcome = build_one(session, host, build, image, no_cache, &title).await;
        finish(session, &title, "built", outcome)
    })
    .await
}

fn finish(session: &Session, title: &str, done: &str, outcome: Result<(), Failure>) -> Result<(), Failure> {
    match &outcome {
        Ok(()) => session.progress.done(title, done, true),
        Err(failure) => session.progress.done(title, &failure.message, false),
    }
    outcome
}

async fn each<T>(work: impl Iterator<Item = T>, step: impl AsyncFn(T) -> Result<(), Failure>) -> Vec<Failure> {
    let outcomes = futures_util::stream::iter(work.map(|item| step(item))).buffered(AT_ONCE);
    outcomes.filter_map(async |outcome| outcome.err()).collect().await
}

/// The builds of a service and what their images are called.
fn images_built(service: &Service) -> impl Iterator<Item = (&Build, String)> {
    service.builds.iter().map(|build| (build, service.image_of(&build.launch_config)))
}

/// Builds on this machine, each image once, and pushes it if that is wanted.
pub async fn build_here(session: &Session, services: &[&Service], is_pushed: bool) -> Vec<Failure> {
    let builds: BTreeMap<String, &Build> =
        services.iter().flat_map(|service| images_built(service)).map(|(build, image)| (image, build)).collect();
    let mut failures = Vec::new();
    for (image, build) in builds {
        let mut outcome = local_engine::build(session, build, &image).await;
        if outcome.is_ok() && is_pushed {
            outcome = local_engine::push(session, &image).await;
        }
        failures.extend(outcome.err());
    }
    failures
}

/// Whether the engine of a host has an image of that name.
pub async fn has(session: &Session, host: &Resource, image: &str) -> Result<bool, Failure> {
    let path = format!("/images/{}/json", encoded(image));
    let call = Call::bare(Method::GET, path);
    match session.client.engine(host, call, |_| {}).await {
        Ok(()) => Ok(true),
        Err(remuda_client::Error::Failed { message, .. }) if message.to_lowercase().contains("no such image") => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

async fn pull_one(session: &Session, host: &Resource, image: &str, title: &str) -> Result<(), Failure> {
    // Without a tag the engine would take all of them.
    let last = image.rsplit('/').next().unwrap_or(image);
    let tag = if last.contains([':', '@']) { String::new() } else { "&tag=latest".to_owned() };
    let path = format!("/images/create?fromImage={}{tag}", encoded(image));
    let call = Call::bare(Method::POST, path);
    let mut layers = Layers::default();
    let watch = |line: &Value| {
        let text = layers.hear(line);
        session.progress.say(title, "pulling", text.as_deref());
    };
    Ok(session.client.engine(host, call, watch).await?)
}

async fn build_one(
    session: &Session,
    host: &Resource,
    build: &Build,
    image: &str,
    no_cache: bool,
    title: &str,
) -> Result<(), Failure> {
    let path = context::build_path(build, image, no_cache);
    let call = Call::tar(path, Upload::from(context::tar(build)));
    let watch = |line: &Value| {
        let said = line.get("stream").and_then(Value::as_str).map(str::trim).filter(|said| !said.is_empty());
        if let Some(said) = said {
            session.progress.say(title, "building", Some(said));
        }
    };
    let hint = format!("the context was {}", build.directory);
    session.client.engine(host, call, watch).await.map_err(|error| Failure::from(error).hint(hint))
}

/// Bytes of the layers of an image that is being pulled.
#[derive(Default)]
struct Layers(BTreeMap<String, (i64, i64)>);

impl Layers {
    /// What to show after that line.
    fn hear(&mut self, line: &Value) -> Option<String> {
        let status = line.get("status").and_then(Value::as_str).unwrap_or_default();
        let detail = line.get("progressDetail");
        let number = |name: &str| detail.and_then(|detail| detail.get(name)).and_then(Value::as_i64);
        if status == "Downloading"
            && let (Some(id), Some(total)) = (line.get("id").and_then(Value::as_str), number("total"))
        {
            self.0.insert(id.to_owned(), (number("current").unwrap_or(0), total));
        }
        let (current, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let shown = |number: i64| items::bytes(number as f64);
        (total > 0).then(|| format!("{} of {}", shown(current), shown(total)))
    }
}

/// For a query or a path.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pull_shows_its_bytes() {
        let mut layers = Layers::default();
        assert_eq!(layers.hear(&json!({"status": "Pulling from library/nginx", "id": "1"})), None);
        let line = |id: &str, current: i64| json!({"status": "Downloading", "id": id, "progressDetail": {"current": current, "total": 2048}});
        assert_eq!(layers.hear(&line("a", 1024)).as_deref(), Some("1.0 KiB of 2.0 KiB"));
        assert_eq!(layers.hear(&line("b", 512)).as_deref(), Some("1.5 KiB of 4.0 KiB"));
        assert_eq!(layers.hear(&line("a", 2048)).as_deref(), Some("2.5 KiB of 4.0 KiB"));
    }

    #[test]
    fn names_are_safe_in_a_query() {
        assert_eq!(encoded("ghcr.io/a/b:1@sha256:0"), "ghcr.io/a/b:1@sha256:0");
        assert_eq!(encoded("{\"A\":\"x y&z\"}"), "%7B%22A%22:%22x%20y%26z%22%7D");
    }
}
