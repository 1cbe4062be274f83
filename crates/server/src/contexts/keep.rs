//! Clears away build contexts: what no service, no upgrade's former launch config and no container names is kept for a
//! while and then removed.

use std::collections::BTreeSet;
use std::time::Duration;

use remuda_model::build_context::hashes_in;
use remuda_model::{Container, Service};
use remuda_store::{Query, Read, Scope};
use serde::Serialize;

use crate::contexts::{Shelf, removable};
use crate::failure::Failure;
use crate::state::ServerState;

const EVERY: Duration = Duration::from_secs(60 * 60);
/// An upload that has not ended after a day never will.
const PART_KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// The first pass comes when a server that just started has done what is urgent.
const FIRST_AFTER: Duration = Duration::from_secs(5 * 60);

/// Runs until the server stops.
pub async fn run(state: ServerState) {
    let mut pause = FIRST_AFTER;
    loop {
        state.seams.clock.sleep(pause).await;
        pause = EVERY;
        if let Err(failure) = pass(&state).await {
            tracing::warn!(error = %failure, "build contexts could not be cleared away; trying again later");
        }
    }
}

/// Looks at every project once.
pub async fn pass(state: &ServerState) -> Result<(), Failure> {
    let shelf = state.contexts.clone();
    let projects = blocking(state, move || shelf.projects()).await?;
    for project in projects {
        clear(state, project, usize::MAX).await?;
    }
    Ok(())
}

/// Removes what need not stay of a project's contexts, so that at most so many are left if that is possible; gives how
/// many are left.
pub async fn clear(state: &ServerState, project: i64, most: usize) -> Result<usize, Failure> {
    let named = state.store.read::<_, Failure, _>(move |read| named(read, project)).await?;
    let now = state.seams.clock.now_ms();
    let since = now.saturating_sub(number(state, "build.context.keep.seconds", 604_800).saturating_mul(1000));
    let shelf = state.contexts.clone();
    blocking(state, move || cleared(&shelf, project, &named, now, since, most)).await
}

fn cleared(
    shelf: &Shelf,
    project: i64,
    named: &BTreeSet<String>,
    now: i64,
    since: i64,
    most: usize,
) -> std::io::Result<usize> {
    let kept = shelf.list(project)?;
    let going = removable(&kept, named, since, most);
    for context in &going {
        tracing::info!(project, hash = context.hash, "removing a build context that no service names");
        shelf.remove(project, &context.hash)?;
    }
    // What is named now was used now: the time it is kept for begins when the last that names it goes.
    for context in kept.iter().filter(|context| named.contains(&context.hash)) {
        shelf.touch(project, &context.hash, now)?;
    }
    shelf.sweep(project, now.saturating_sub(PART_KEPT_MS))?;
    Ok(kept.len() - going.len())
}

/// Hashes that a service or container of the project names, wherever in its row: launch configs, those before an
/// upgrade, those of sidekicks.
fn named(read: &Read<'_>, project: i64) -> Result<BTreeSet<String>, Failure> {
    let scope = Scope::Account(project);
    let mut found = BTreeSet::new();
    for service in read.list::<Service>(&scope, &Query::new())? {
        gather(&service.data, &mut found)?;
    }
    for container in read.list::<Container>(&scope, &Query::new())? {
        gather(&container.data.build, &mut found)?;
    }
    Ok(found)
}

fn gather(part: &impl Serialize, found: &mut BTreeSet<String>) -> Result<(), Failure> {
    let text = serde_json::to_string(part).map_err(|error| Failure::internal(error.to_string()))?;
    found.extend(hashes_in(&text).map(str::to_owned));
    Ok(())
}

/// A setting that is a number.
pub fn number(state: &ServerState, name: &str, otherwise: i64) -> i64 {
    let settings = state.settings.current();
    let set = state.settings.value(&settings, name);
    set.and_then(|text| text.trim().parse().ok()).filter(|number| *number >= 0).unwrap_or(otherwise)
}

/// Work on the disk, away from the tasks that answer.
pub async fn blocking<T: Send + 'static>(
    state: &ServerState,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::internal(format!("the directory of contexts: {error}"));
    match state.seams.tasks.blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}
