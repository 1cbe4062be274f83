//! Waiting for resources: events make it quick, reading again makes it sure.

use std::time::Duration;

use serde_json::Value;

use crate::error::Error;
use crate::events::Ear;
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

/// No transition is under way, however it ended.
fn at_rest(resource: &Resource) -> Verdict {
    if resource.is_transitioning() { Verdict::NotYet } else { Verdict::Done }
}

/// A change to one resource.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    Update(&'a Value),
    Action(&'a str, &'a Value),
    Delete,
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
            let mut ear = self.feed().listen(self).await.ok();
            let mut pause = READ_SOON;
            loop {
                last = self.reload(&last).await?;
                watch(&last);
                match judge(&last) {
                    Verdict::Done => return Ok(()),
                    Verdict::Failed(message) => return Err(Error::Failed { what: (&last).into(), message }),
                    Verdict::NotYet => {}
                }
                // A change only says that it is time to look: it may be older than what was read before it was heard.
                self.next_change(&mut ear, last.id(), pause).await;
                pause = (pause * 2).min(READ_AGAIN);
            }
        });
        match waited.await {
            Ok(outcome) => outcome.map(|()| last),
            Err(_) => Err(Error::TimedOut {
                what: (&last).into(),
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

    /// Sends a change. What the server cannot begin because another transition is under way (409 for a stored one, an
    /// action that is not offered) is sent again when that has ended.
    pub async fn change(
        &self,
        resource: &Resource,
        change: Change<'_>,
        limit: Duration,
        mut watch: impl FnMut(&Resource),
    ) -> Result<Resource, Error> {
        let mut row = resource.clone();
        let mut was_at_rest = false;
        let sent = tokio::time::timeout(limit, async {
            loop {
                let outcome = match change {
                    Change::Update(body) => self.update(&row, body).await,
                    Change::Action(action, input) => self.action(&row, action, input).await,
                    Change::Delete => self.delete(&row).await,
                };
                let error = match outcome {
                    Err(error) if error.is_conflict() || error.status() == Some(405) => error,
                    outcome => return outcome,
                };
                // Read anew, for the transition may have ended, or the actions on offer be old: then once more.
                row = self.reload(&row).await?;
                if !row.is_transitioning() && was_at_rest {
                    return Err(error);
                }
                was_at_rest = !row.is_transitioning();
                row = self.wait(&row, limit, at_rest, &mut watch).await?;
            }
        });
        match sent.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::TimedOut {
                what: resource.into(),
                seconds: limit.as_secs(),
                state: resource.state().to_owned(),
                message: None,
            }),
        }
    }

    /// Returns when the resource may have changed.
    async fn next_change(&self, ear: &mut Option<Ear>, id: &str, pause: Duration) {
        let Some(open) = ear else {
            tokio::time::sleep(READ_OFTEN).await;
            *ear = self.feed().listen(self).await.ok();
            return;
        };
        let heard = tokio::time::timeout(pause, async {
            loop {
                match self.feed().next(open).await {
                    Ok(change) if change.id == id => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        });
        if !heard.await.unwrap_or(true) {
            *ear = None;
        }
    }
}
