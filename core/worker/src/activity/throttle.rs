//! Heartbeats: the first goes out at once, later ones at most once in an interval, and then with the latest details.

use std::time::Duration;

use outlast_machine::time::Time;

/// How often the server is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeartbeatLimits {
    /// Never more seldom.
    pub(crate) max: Duration,
    /// For activities without a heartbeat timeout.
    pub(crate) default: Duration,
}

impl HeartbeatLimits {
    /// The time between two heartbeats of an activity with this timeout.
    pub(crate) fn interval(&self, timeout: Option<Duration>) -> Duration {
        let timeout = timeout.filter(|d| !d.is_zero());
        timeout.map_or(self.default, |timeout| timeout.mul_f64(0.8)).min(self.max)
    }
}

/// The heartbeats of one activity: at most one is on its way, at most one waits.
#[derive(Debug)]
pub(crate) struct Throttle<T> {
    interval: Duration,
    next: Option<Time>,
    in_flight: bool,
    waiting: Option<T>,
}

impl<T> Throttle<T> {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: None, in_flight: false, waiting: None }
    }

    /// A new heartbeat; returned if it is to be sent now.
    pub(crate) fn offer(&mut self, now: Time, beat: T) -> Option<T> {
        self.waiting = Some(beat);
        self.due(now)
    }

    /// The one on its way has arrived, or failed to.
    pub(crate) fn taken(&mut self) {
        self.in_flight = false;
    }

    /// What is to be sent now.
    pub(crate) fn due(&mut self, now: Time) -> Option<T> {
        match self.deadline() {
            None => None,
            Some(at) if at > now => None,
            Some(_) => self.flush(now),
        }
    }

    /// What was not sent yet, to be sent whatever the interval says.
    pub(crate) fn flush(&mut self, now: Time) -> Option<T> {
        let beat = self.waiting.take()?;
        self.in_flight = true;
        self.next = Some(now + self.interval);
        Some(beat)
    }

    /// When [`Throttle::due`] gives something.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let waits = self.waiting.is_some() && !self.in_flight;
        waits.then(|| self.next.unwrap_or_default())
    }
}
