//! "The revision has grown", for any number of waiters, woken in the order they came.
//!
//! Tokio's `watch` spreads its waiters over several lists by a random number of its own: with two hosts waiting, two
//! runs from one seed would differ.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

/// A number that only grows, and who waits for it.
#[derive(Debug, Default)]
pub struct Signal {
    at: AtomicI64,
    notify: Notify,
}

impl Signal {
    /// Where it is.
    pub fn at(&self) -> i64 {
        self.at.load(Ordering::Acquire)
    }

    /// Moves it, never back, and wakes everybody.
    pub fn raise(&self, to: i64) {
        self.at.fetch_max(to, Ordering::AcqRel);
        self.notify.notify_waiters();
    }

    /// Waits until it is at least there.
    pub async fn reached(&self, wanted: i64) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        loop {
            // Listens before it looks, so that nothing falls between.
            notified.as_mut().enable();
            if self.at() >= wanted {
                return;
            }
            notified.as_mut().await;
            notified.set(self.notify.notified());
        }
    }
}
