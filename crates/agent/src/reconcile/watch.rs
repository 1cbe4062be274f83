//! What happens on the engine: its events, each followed by a look; a look at everything when events may be missing
//! and once a minute; and whether it answers at all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use remuda_runtime::Seams;
use tokio::sync::{Notify, mpsc};

use crate::engine::{Error, Event};
use crate::reconcile::act::{Seen, Tools, look};
use crate::reconcile::worker::Input;

const LOOKS_AT_ONCE: usize = 8;
const EVENTS_AT_ONCE: usize = 256;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Watches until stopped.
pub async fn watch(
    tools: Arc<Tools>,
    seams: Seams,
    inputs: mpsc::Sender<Input>,
    look_at_everything: Arc<Notify>,
    every: Duration,
) {
    let mut retry = FIRST_RETRY;
    loop {
        let mut answered = false;
        let why = follow(&tools, &seams, &inputs, &look_at_everything, every, &mut answered).await;
        let Err(why) = why else { return };
        if answered {
            retry = FIRST_RETRY;
        }
        if inputs.send(Input::EngineDown(why.to_string())).await.is_err() {
            return;
        }
        let jitter = seams.random.below(u64::try_from(retry.as_millis() / 2).unwrap_or(0));
        seams.clock.sleep(retry + Duration::from_millis(jitter)).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

/// Until the engine goes away (an error) or nobody listens.
async fn follow(
    tools: &Tools,
    seams: &Seams,
    inputs: &mpsc::Sender<Input>,
    look_at_everything: &Notify,
    every: Duration,
    answered: &mut bool,
) -> Result<(), Error> {
    let mut events = tools.engine.events().await?;
    loop {
        let (ticket, containers) = everything(tools).await?;
        *answered = true;
        if inputs.send(Input::Listing { ticket, containers }).await.is_err() {
            return Ok(());
        }
        // Spread, so that a thousand hosts do not look at the same moment.
        let spread = seams.random.below(u64::try_from(every.as_millis() / 5).unwrap_or(0));
        let next_look = seams.clock.sleep(every - every / 10 + Duration::from_millis(spread));
        tokio::pin!(next_look);
        loop {
            tokio::select! {
                biased;
                event = events.next() => {
                    let event = event.unwrap_or_else(|| Err(Error::Unreachable("its events ended".to_owned())))?;
                    let Some(ids) = gather(event, &mut events)? else { break };
                    for seen in readable(looks(tools, ids).await)? {
                        if inputs.send(Input::Seen(seen)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                () = look_at_everything.notified() => break,
                () = &mut next_look => break,
            }
        }
    }
}

/// The containers of this event and of those that are here already; `None`: everything.
fn gather(
    first: Event,
    events: &mut BoxStream<'static, Result<Event, Error>>,
) -> Result<Option<BTreeSet<String>>, Error> {
    let mut ids = BTreeSet::new();
    let mut next = Some(Ok(first));
    for _ in 0..EVENTS_AT_ONCE {
        match next.take() {
            Some(Ok(Event::Container { docker_id })) => drop(ids.insert(docker_id)),
            Some(Ok(Event::Unknown)) => return Ok(None),
            Some(Err(gone)) => return Err(gone),
            None => return Err(Error::Unreachable("its events ended".to_owned())),
        }
        match events.next().now_or_never() {
            Some(event) => next = Some(event.unwrap_or_else(|| Err(Error::Unreachable("its events ended".to_owned())))),
            None => break,
        }
    }
    // What was taken last but not looked at is in nobody's hands: look at everything then.
    Ok(next.is_none().then_some(ids))
}

async fn looks(tools: &Tools, ids: BTreeSet<String>) -> Vec<Result<Seen, Error>> {
    stream::iter(ids).map(|id| async move { look(tools, &id).await }).buffered(LOOKS_AT_ONCE).collect().await
}

async fn everything(tools: &Tools) -> Result<(u64, Vec<Seen>), Error> {
    let ticket = tools.tickets.fetch_add(1, Ordering::Relaxed) + 1;
    let ids = tools.engine.list().await?.into_iter().map(|listed| listed.docker_id).collect();
    Ok((ticket, readable(looks(tools, ids).await)?))
}

/// One odd container does not hide the others.
fn readable(looks: Vec<Result<Seen, Error>>) -> Result<Vec<Seen>, Error> {
    let mut containers = Vec::with_capacity(looks.len());
    for seen in looks {
        match seen {
            Ok(seen) => containers.push(seen),
            Err(gone) if gone.is_unreachable() => return Err(gone),
            Err(odd) => tracing::warn!(error = %odd, "cannot look at a container"),
        }
    }
    Ok(containers)
}
