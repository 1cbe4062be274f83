//! Tasks with names and one end: every background task belongs to a [`Tasks`], hears its stop signal, and is waited
//! for at shutdown. A panic in one task is logged and does not take the process along.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// A group of tasks. Clones share the group; a child group stops with its parent.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    inline: bool,
}

/// Handle of one task; dropping it leaves the task running.
pub type Handle = tokio::task::JoinHandle<()>;

impl Tasks {
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// A group whose blocking work runs on the caller: a thread would make a paused clock jump, and end whenever it
    /// likes.
    pub fn inline() -> Tasks {
        Tasks { inline: true, ..Tasks::default() }
    }

    /// A group that stops with this one or by itself.
    pub fn child(&self) -> Tasks {
        Tasks { stop: self.stop.child_token(), tracker: TaskTracker::new(), inline: self.inline }
    }

    /// Starts a task. It should end soon after [`Tasks::stopping`] resolves; one that does not is abandoned at shutdown.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> Handle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tracker.track_future(task.instrument(tracing::debug_span!("task", name)));
        tokio::spawn(task)
    }

    /// Starts a task that is cut off at its next await when the group stops.
    pub fn spawn_until_stopped<F>(&self, name: &'static str, task: F) -> Handle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        })
    }

    /// Runs blocking work on a thread of its own pool, or where it is when the group is [`Tasks::inline`].
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, tokio::task::JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.inline { Ok(work()) } else { tokio::task::spawn_blocking(work).await }
    }

    /// Asks every task of the group to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when the group is asked to end.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Stops the group and waits for its tasks, at most `patience`. `false`: some were still running.
    pub async fn shut_down(&self, patience: Duration) -> bool {
        self.stop();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shut_down_waits_for_tasks_and_children_stop_with_parents() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let listening = child.clone();
        let done = child.spawn("listener", async move { listening.stopping().await });
        tasks.spawn_until_stopped("endless", std::future::pending());
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
        assert!(done.await.is_ok());
    }
}
