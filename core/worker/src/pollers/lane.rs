//! What [`Pollers`](super::Pollers) is told and tells: a queue to poll, what a poll brought, what to do about an error, when to stop.

use super::scaling::Scaling;
use crate::slots::{Boxed, Wanted};
use crate::telemetry::Gauge;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What a poll that did not fail brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled<T> {
    pub task: Option<T>,
    /// The server's suggestion of more polls or fewer.
    pub suggestion: Option<i32>,
    /// How many tasks the server says wait in this queue.
    pub backlog: Option<u64>,
}

/// What a poll may want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollHints {
    /// A shorter time than usual.
    pub timeout: Option<Duration>,
}

/// A poll that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a, E> {
    pub error: &'a E,
    /// How many failed in a row on this lane, this one included. Polls that were in flight together count as one.
    pub in_a_row: u32,
    pub lasted: Duration,
    pub now: Instant,
}

/// What to do about a failed poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It only found nothing.
    Empty,
    /// No new poll on this lane before that time has passed; then one, until the server has taken it.
    Retry { after: Duration },
    /// The same, and the server asked to be spared.
    Spare { after: Duration },
    /// The error goes to the consumer and no poll is started again.
    GiveUp,
}

/// Makes one poll.
pub type Poll<T, E> = Box<dyn FnMut(PollHints) -> Boxed<'static, Result<Polled<T>, E>> + Send>;

/// Judges a failed poll.
pub type Judge<E> = Box<dyn FnMut(Failed<'_, E>) -> Verdict + Send>;

/// One queue to poll.
pub struct Lane<T, E> {
    /// What its permits are reserved for.
    pub wanted: Wanted,
    pub scaling: Scaling,
    /// Shows how many polls are in flight.
    pub gauge: Gauge,
    pub poll: Poll<T, E>,
    pub judge: Judge<E>,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// No new polls; those in flight end by themselves, because the server completes them.
    Drain,
    /// Those in flight are dropped. What has arrived is still given out.
    Abort,
}

/// Stops the pollers it came from.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<Option<Stop>>);

impl Stopper {
    pub(super) fn new(stop: watch::Sender<Option<Stop>>) -> Self {
        Stopper(stop)
    }

    /// Stops, or stops harder.
    pub fn stop(&self, how: Stop) {
        self.0.send_if_modified(|now| {
            let harder = Some(how) > *now;
            if harder {
                *now = Some(how);
            }
            harder
        });
    }
}
