//! Times of a configuration, none of them longer than a clock can add to the present.

use std::time::Duration;

use super::WorkerConfig;

/// As good as for ever: a hundred years. Some clocks count nanoseconds in 64 bits, and a sum beyond those is a panic.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl WorkerConfig {
    /// The same, no time longer than [`LONGEST`].
    pub(crate) fn bounded(mut self) -> Self {
        for time in [
            &mut self.sticky_queue_schedule_to_start_timeout,
            &mut self.max_heartbeat_throttle_interval,
            &mut self.default_heartbeat_throttle_interval,
            &mut self.shutdown_limit,
            &mut self.local_timeout_buffer_for_activities,
        ] {
            *time = LONGEST.min(*time);
        }
        self.graceful_shutdown_period = self.graceful_shutdown_period.map(|time| LONGEST.min(time));
        self
    }
}
