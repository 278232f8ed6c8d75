//! What a worker has done so far, in numbers: for its heartbeats.

use std::future::Future;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use outlast_machine::time::Time;

use crate::clock::Clock;
use crate::pollers::Polled;
use crate::recent::Recent;

/// Counted by the loops, read by heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) workflow_tasks: Tasks,
    pub(crate) activities: Tasks,
    pub(crate) local_activities: Tasks,
    pub(crate) nexus_tasks: Tasks,
    pub(crate) workflow_polls: Polls,
    pub(crate) sticky_polls: Polls,
    pub(crate) activity_polls: Polls,
    pub(crate) nexus_polls: Polls,
    pub(crate) sticky_hits: AtomicI32,
    pub(crate) sticky_misses: AtomicI32,
    pub(crate) cached_runs: AtomicUsize,
    pub(crate) recent: Recent,
}

/// Tasks of one kind.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    processed: AtomicI32,
    failed: AtomicI32,
}

impl Tasks {
    /// One more is done.
    pub(crate) fn processed(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    /// One more is done, and failed.
    pub(crate) fn failed(&self) {
        self.processed();
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were done, and how many of them failed.
    pub(crate) fn so_far(&self) -> (i32, i32) {
        (self.processed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// Polls of one queue.
#[derive(Debug, Default)]
pub(crate) struct Polls {
    in_flight: AtomicI32,
    last_task: Mutex<Option<Time>>,
}

impl Polls {
    /// Counts a poll as long as it waits, and notes when it brings a task.
    pub(crate) async fn counted<T, E>(
        &self,
        clock: Clock,
        poll: impl Future<Output = Result<Polled<T>, E>>,
    ) -> Result<Polled<T>, E> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.in_flight);
        let answer = poll.await;
        if answer.as_ref().is_ok_and(|polled| polled.task.is_some()) {
            *self.last_task.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock.now());
        }
        answer
    }

    /// How many wait now, and when one last brought a task.
    pub(crate) fn now(&self) -> (i32, Option<Time>) {
        let last = *self.last_task.lock().unwrap_or_else(PoisonError::into_inner);
        (self.in_flight.load(Ordering::Relaxed), last)
    }
}

/// A poll that waits; dropped with it.
struct Waits<'a>(&'a AtomicI32);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
