//! Waiting for resources: events make it quick, reading again makes it sure.

use std::time::Duration;

use crate::error::Error;
use crate::events::Events;
use crate::http::Client;
use crate::resource::Resource;

/// Longest time between two readings while events come.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// The first time: a server may open the socket a moment before it listens for changes.
const READ_SOON: Duration = Duration::from_secs(1);
/// The same while there are none (no environment, or the subscription broke).
const READ_OFTEN: Duration = Duration::from_millis(500);

/// What a look at a resource says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// It will not get there; the reason.
    Failed(String),
    NotYet,
}

/// The rule of the old clients: no transition under way and no error.
pub fn settled(resource: &Resource) -> Verdict {
    if resource.is_transitioning() {
        Verdict::NotYet
    } else if resource.has_failed() {
        Verdict::Failed(resource.message().unwrap_or("no reason was given").to_owned())
    } else {
        Verdict::Done
    }
}

impl Client {
    /// Waits until `judge` has an answer about the resource, at most `limit`. `watch` sees every version on the way.
    pub async fn wait(
        &self,
        resource: &Resource,
        limit: Duration,
        mut judge: impl FnMut(&Resource) -> Verdict,
        mut watch: impl FnMut(&Resource),
    ) -> Result<Resource, Error> {
        let mut last = resource.clone();
        let waited = tokio::time::timeout(limit, async {
            let mut events = self.events().await.ok();
            let mut pause = READ_SOON;
            loop {
                let now = self.reload(&last).await?;
                watch(&now);
                last = now;
                match judge(&last) {
                    Verdict::Done => return Ok(()),
                    Verdict::Failed(message) => return Err(Error::Failed { what: last.title(), message }),
                    Verdict::NotYet => {
                        next_change(&mut events, last.id(), pause).await;
                        pause = (pause * 2).min(READ_AGAIN);
                    }
                }
            }
        });
        match waited.await {
            Ok(outcome) => outcome.map(|()| last),
            Err(_) => Err(Error::TimedOut {
                what: last.title(),
                seconds: limit.as_secs(),
                state: last.state().to_owned(),
                message: last.message().map(str::to_owned),
            }),
        }
    }

    /// Waits for the running transition to end well.
    pub async fn wait_settled(&self, resource: &Resource, limit: Duration) -> Result<Resource, Error> {
        self.wait(resource, limit, settled, |_| {}).await
    }
}

/// Returns when the resource may have changed.
async fn next_change(events: &mut Option<Events>, id: &str, pause: Duration) {
    let Some(open) = events else {
        return tokio::time::sleep(READ_OFTEN).await;
    };
    let heard = tokio::time::timeout(pause, async {
        loop {
            match open.next().await {
                Ok(change) if change.id == id => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    });
    if !heard.await.unwrap_or(true) {
        *events = None;
    }
}
