//! Heartbeats of one activity, held down to an interval.
//!
//! The first goes at once; of those within an interval only the latest goes, at its end. Does not send: it says what to
//! send when, and is told when the answer came, so that one call at most is under way.

use std::mem;
use std::time::{Duration, Instant};

/// The interval between heartbeats of one activity: 80 % of its heartbeat timeout, or the default if it has none, and at
/// most the maximum.
pub fn heartbeat_interval(timeout: Option<Duration>, default: Duration, max: Duration) -> Duration {
    timeout.filter(|timeout| !timeout.is_zero()).map_or(default, |timeout| timeout.mul_f64(0.8)).min(max)
}

/// How an activity ended, as far as heartbeats matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Completed,
    /// Another process will complete it.
    LeftOpen,
    Failed,
    Cancelled,
}

/// The throttle of one activity; `D` is what a heartbeat carries.
///
/// ```
/// use outlast_worker::throttle::{Ending, HeartbeatThrottle};
/// use std::time::{Duration, Instant};
/// let began = Instant::now();
/// let at = |seconds| began + Duration::from_secs(seconds);
/// let mut throttle = HeartbeatThrottle::new(Duration::from_secs(10));
/// assert_eq!(throttle.record("a", at(0)), Some("a"));
/// assert_eq!(throttle.answered(at(1)), None);
/// assert_eq!(throttle.record("b", at(2)), None);
/// assert_eq!(throttle.record("c", at(3)), None);
/// assert_eq!(throttle.deadline(), Some(at(10)));
/// assert_eq!(throttle.tick(at(10)), Some("c"));
/// ```
#[derive(Clone, Debug)]
pub struct HeartbeatThrottle<D> {
    interval: Duration,
    state: State<D>,
}

#[derive(Clone, Debug)]
enum State<D> {
    /// The next heartbeat goes at once.
    Ready,
    /// One is under way.
    Sending {
        next: Instant,
        latest: Option<D>,
    },
    /// The last was answered; the next may go then.
    Waiting {
        next: Instant,
        latest: Option<D>,
    },
    Ended,
}

impl<D> HeartbeatThrottle<D> {
    pub fn new(interval: Duration) -> Self {
        HeartbeatThrottle { interval, state: State::Ready }
    }

    /// The activity heartbeats. What is returned is to be sent now.
    #[must_use]
    pub fn record(&mut self, details: D, now: Instant) -> Option<D> {
        match &mut self.state {
            State::Ready => {
                self.state = State::Sending { next: now + self.interval, latest: None };
                Some(details)
            }
            State::Sending { latest, .. } | State::Waiting { latest, .. } => {
                *latest = Some(details);
                self.tick(now)
            }
            State::Ended => None,
        }
    }

    /// The heartbeat under way was answered, well or badly. What is returned is to be sent now.
    #[must_use]
    pub fn answered(&mut self, now: Instant) -> Option<D> {
        self.state = match mem::replace(&mut self.state, State::Ended) {
            State::Sending { next, latest } => State::Waiting { next, latest },
            other @ (State::Ready | State::Waiting { .. } | State::Ended) => other,
        };
        self.tick(now)
    }

    /// The deadline may have come. What is returned is to be sent now.
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Option<D> {
        let State::Waiting { next, latest } = &mut self.state else { return None };
        if now < *next {
            return None;
        }
        let due = latest.take();
        self.state = match &due {
            Some(_) => State::Sending { next: now + self.interval, latest: None },
            None => State::Ready,
        };
        due
    }

    /// When to call [`tick`](Self::tick); none while there is nothing to wait for.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { next, latest: Some(_) } => Some(*next),
            State::Waiting { latest: None, .. } | State::Ready | State::Sending { .. } | State::Ended => None,
        }
    }

    /// The activity ended. What is returned is to be sent before its result: the next attempt begins from there.
    #[must_use]
    pub fn end(&mut self, ending: Ending) -> Option<D> {
        let latest = match mem::replace(&mut self.state, State::Ended) {
            State::Sending { latest, .. } | State::Waiting { latest, .. } => latest,
            State::Ready | State::Ended => None,
        };
        match ending {
            Ending::Failed | Ending::Cancelled => latest,
            Ending::Completed | Ending::LeftOpen => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn clock() -> impl Fn(u64) -> Instant {
        let began = Instant::now();
        move |seconds| began + Duration::from_secs(seconds)
    }

    #[test]
    fn the_interval_follows_the_timeout_up_to_the_maximum() {
        let seconds = Duration::from_secs;
        let interval = |timeout| heartbeat_interval(timeout, seconds(30), seconds(60));
        assert_eq!(interval(None), seconds(30));
        assert_eq!(interval(Some(Duration::ZERO)), seconds(30));
        assert_eq!(interval(Some(seconds(10))), seconds(8));
        assert_eq!(interval(Some(seconds(1000))), seconds(60));
        assert_eq!(heartbeat_interval(None, seconds(30), seconds(5)), seconds(5));
    }

    #[test]
    fn only_one_is_under_way_however_long_it_takes() {
        let at = clock();
        let mut throttle = HeartbeatThrottle::new(TEN);
        assert_eq!(throttle.record(1, at(0)), Some(1));
        assert_eq!(throttle.record(2, at(15)), None);
        assert_eq!((throttle.deadline(), throttle.tick(at(20))), (None, None));
        assert_eq!(throttle.answered(at(25)), Some(2));
    }

    #[test]
    fn after_a_quiet_interval_the_next_goes_at_once() {
        let at = clock();
        let mut throttle = HeartbeatThrottle::new(TEN);
        assert_eq!(throttle.record(1, at(0)), Some(1));
        assert_eq!(throttle.answered(at(1)), None);
        assert_eq!(throttle.deadline(), None, "nothing to send, nothing to wake for");
        assert_eq!(throttle.record(2, at(50)), Some(2));
    }

    #[test]
    fn failure_and_cancellation_flush_the_latest_and_others_do_not() {
        let at = clock();
        for (ending, flushed) in [
            (Ending::Failed, Some(3)),
            (Ending::Cancelled, Some(3)),
            (Ending::Completed, None),
            (Ending::LeftOpen, None),
        ] {
            let mut throttle = HeartbeatThrottle::new(TEN);
            assert_eq!(throttle.record(1, at(0)), Some(1));
            assert_eq!(throttle.answered(at(1)), None);
            assert_eq!(throttle.record(2, at(2)), None);
            assert_eq!(throttle.record(3, at(3)), None);
            assert_eq!(throttle.end(ending), flushed, "{ending:?}");
            assert_eq!(throttle.record(4, at(99)), None, "ended is ended");
            assert_eq!(throttle.end(ending), None);
        }
    }
}
