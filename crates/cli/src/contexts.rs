//! Build contexts on their way to the server (`compose.md` §11): what each is called, and sending those it lacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use remuda_client::build_context::Kept;
use remuda_client::engine::Upload;
use remuda_compose::{Build, Service};
use remuda_model::build_context;
use ring::digest::{Context as Digest, SHA256};
use tokio::sync::mpsc;

use crate::commands::images::{self, When};
use crate::failure::{Failure, exit};
use crate::session::{Session, now_ms};
use crate::{context, items};

/// How often an upload shows how far it is.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// The bytes of a context, before it is sent.
struct Measured {
    hash: String,
    n_bytes: u64,
}

async fn measure(build: &Build) -> Result<Measured, Failure> {
    let mut pieces = context::tar(build);
    let mut digest = Digest::new(&SHA256);
    let mut n_bytes = 0;
    while let Some(piece) = pieces.recv().await {
        let piece = piece.map_err(|error| unreadable(build, &error))?;
        n_bytes += piece.len() as u64;
        digest.update(&piece);
    }
    let digest = digest.finish();
    let hash = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Measured { hash, n_bytes })
}

fn unreadable(build: &Build, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: cannot read the build context {}: {error}", build.launch_config, build.directory))
}

/// Gives every service that is built from a directory the image it will have.
pub async fn name(services: &mut [Service], when: When) -> Result<(), Failure> {
    for service in services.iter_mut() {
        for build in service.builds.clone() {
            if when == When::Push {
                service.image_is(&build, &pushed_image(service, &build)?);
                continue;
            }
            let measured = measure(&build).await?;
            let reference = build_context::reference(&measured.hash);
            let reference = (when != When::Local).then_some(reference.as_str());
            service.context_is(&build, &measured.hash, &context::dockerfile(&build), reference);
        }
        if when == When::Always {
            service.mint(&now_ms().to_string());
        }
    }
    Ok(())
}

/// An image that is pushed needs the name of a registry: without one it would go to Docker's own.
fn pushed_image(service: &Service, build: &Build) -> Result<String, Failure> {
    let registry = |image: &String| {
        let first = image.split_once('/').map(|(first, _)| first).unwrap_or_default();
        first.contains(['.', ':']) || first == "localhost"
    };
    build.image.clone().filter(registry).ok_or_else(|| {
        Failure::usage(format!(
            "{}: {}: `--build=push` needs an `image` that begins with a registry",
            service.place, build.launch_config
        ))
        .hint("write it like `image: registry.example.com/team/web:1`")
    })
}

/// Sends the contexts of these services that the server lacks, each once.
pub async fn send(session: &Session, services: &[&Service]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (hash, (build, image)) in by_hash(services) {
        if let Err(failure) = send_one(session, &hash, build, &image).await {
            failures.push(failure);
        }
    }
    failures
}

fn by_hash<'s>(services: &[&'s Service]) -> BTreeMap<String, (&'s Build, String)> {
    let builds = services.iter().flat_map(|service| {
        let hash = |build: &Build| service.context_of(&build.launch_config).map(str::to_owned);
        service
            .builds
            .iter()
            .filter_map(move |build| Some((hash(build)?, (build, service.image_of(&build.launch_config)))))
    });
    builds.collect()
}

async fn send_one(session: &Session, hash: &str, build: &Build, image: &str) -> Result<(), Failure> {
    let Kept::No { max_bytes } = session.client.build_context_kept(hash).await? else { return Ok(()) };
    let title = format!("context of {image}");
    session.progress.say(&title, "reading", None);
    let n_bytes = measure(build).await?.n_bytes;
    let shown = |n_bytes: u64| items::bytes(n_bytes as f64);
    if let Some(limit) = max_bytes.filter(|limit| n_bytes > *limit) {
        let what = format!("{} has {} to send, and the server takes {}", build.directory, shown(n_bytes), shown(limit));
        session.progress.done(&title, "too large", false);
        return Err(Failure::usage(format!("{}: {what}", build.launch_config)).hint(
            "name what the image does not need in `.dockerignore`, or raise the setting `build.context.max.bytes`",
        ));
    }
    let sent = Arc::new(AtomicU64::new(0));
    let pieces = counted(context::tar(build), Arc::clone(&sent));
    let sending = session.client.build_context_put(hash, image, Upload::from(pieces.0));
    let mut sending = std::pin::pin!(async {
        let (outcome, ()) = tokio::join!(sending, pieces.1);
        outcome
    });
    let outcome = loop {
        let text = format!("{} of {}", shown(sent.load(Ordering::Relaxed)), shown(n_bytes));
        session.progress.say(&title, "uploading", Some(&text));
        tokio::select! {
            biased;
            outcome = &mut sending => break outcome,
            () = tokio::time::sleep(SHOW_EVERY) => {}
        }
    };
    match outcome {
        Ok(()) => {
            session.progress.done(&title, "uploaded", true);
            Ok(())
        }
        Err(error) => {
            session.progress.done(&title, "not uploaded", false);
            Err(Failure::from(error).hint(format!("the context was {}", build.directory)))
        }
    }
}

type Pieces = mpsc::Receiver<std::io::Result<bytes::Bytes>>;

/// The same pieces, and what moves and counts them.
fn counted(mut from: Pieces, sent: Arc<AtomicU64>) -> (Pieces, impl Future<Output = ()>) {
    let (to, pieces) = mpsc::channel(1);
    let moving = async move {
        while let Some(piece) = from.recv().await {
            let n_bytes = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if to.send(piece).await.is_err() {
                return;
            }
            sent.fetch_add(n_bytes, Ordering::Relaxed);
        }
    };
    (pieces, moving)
}

/// With `--no-build`: an error for each image that no host has and that the server cannot have built.
pub async fn check_known(session: &Session, services: &[&Service]) -> Result<Vec<Failure>, Failure> {
    let mut failures = Vec::new();
    for (hash, (_, image)) in by_hash(services) {
        if session.client.build_context_kept(&hash).await? == Kept::Yes {
            continue;
        }
        let hosts = images::hosts(session, &[]).await?;
        let mut lacking = Vec::new();
        for host in &hosts {
            if !images::has(session, host, &image).await? {
                lacking.push(items::host_name(host));
            }
        }
        if !lacking.is_empty() {
            failures.push(
                Failure::new(exit::FAILED, format!("no image {image} on {}", lacking.join(", ")))
                    .hint("leave out `--no-build` to have it built there"),
            );
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pushed_image_names_its_registry() {
        let check = |image: Option<&str>, is_good: bool| {
            let build = Build { image: image.map(str::to_owned), ..Build::default() };
            assert_eq!(pushed_image(&Service::default(), &build).is_ok(), is_good, "{image:?}");
        };
        check(Some("registry.example.com/web:1"), true);
        check(Some("localhost/web"), true);
        check(Some("reg:5000/web"), true);
        check(Some("acme/web"), false);
        check(Some("web:1"), false);
        check(None, false);
    }
}
