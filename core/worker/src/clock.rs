//! Wall-clock time for the pure parts: read once, then carried on by the monotonic clock, so that it never jumps.
//!
//! Under tokio's paused time it stands still with it.

use std::time::{SystemTime, UNIX_EPOCH};

use outlast_machine::time::Time;
use tokio::time::Instant;

/// The time of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Time,
    anchor: Instant,
}

impl Clock {
    /// A clock that starts with what the system says.
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Time::from_nanos(0) + since, anchor: Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        self.start + self.anchor.elapsed()
    }

    /// Sleeps until then; for ever if there is no then.
    pub(crate) async fn until(&self, then: Option<Time>) {
        match then {
            Some(then) => tokio::time::sleep_until(self.anchor + then.since(self.start)).await,
            None => std::future::pending().await,
        }
    }
}

/// The instant now, as tokio tells it.
pub(crate) fn instant() -> std::time::Instant {
    Instant::now().into_std()
}

/// Sleeps until then; for ever if there is no then.
pub(crate) async fn until(then: Option<std::time::Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(Instant::from_std(then)).await,
        None => std::future::pending().await,
    }
}
