//! What time it is. Wall time for what is stored and shown, a monotonic reading for deadlines and durations.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A source of time. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// Milliseconds added to wall time: how tests make two hosts disagree.
    skew_ms: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Wall time is the runtime's monotonic clock (which tests pause) counted from a fixed start.
    Virtual {
        start_ms: i64,
        origin: tokio::time::Instant,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Clock {
        Clock { source: Source::System, skew_ms: Arc::default() }
    }

    /// A clock that shows `start_ms` (milliseconds since the epoch) now and moves with the runtime's time.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn virtual_from(start_ms: i64) -> Clock {
        Clock { source: Source::Virtual { start_ms, origin: tokio::time::Instant::now() }, skew_ms: Arc::default() }
    }

    /// Milliseconds since the epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn now_ms(&self) -> i64 {
        let shown = match &self.source {
            Source::System => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Virtual { start_ms, origin } => {
                start_ms.saturating_add(i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
        };
        shown.saturating_add(self.skew_ms.load(Ordering::Relaxed))
    }

    /// The runtime's monotonic reading, for durations and deadlines. Paused tests move it.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn instant(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    /// Milliseconds since the machine was started, those in which it slept too. Setting the wall clock does not move it.
    pub fn boot_ms(&self) -> u64 {
        match &self.source {
            Source::System => {
                let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
                let seconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no machine runs so long")]
                {
                    (seconds * 1000.0) as u64
                }
            }
            Source::Virtual { origin, .. } => u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Names the start of the machine that [`Clock::boot_ms`] counts from.
    pub fn boot(&self) -> String {
        match &self.source {
            Source::System => {
                std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
            }
            Source::Virtual { .. } => "virtual".to_owned(),
        }
    }

    /// Waits that long.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Makes this clock (and its clones) wrong by that much.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}
