//! What a worker has done so far, in numbers: for its heartbeats.

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Counted by the loops, read by heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) workflow_tasks: Tasks,
    pub(crate) activities: Tasks,
    pub(crate) local_activities: Tasks,
    pub(crate) nexus_tasks: Tasks,
    pub(crate) sticky_hits: AtomicI32,
    pub(crate) sticky_misses: AtomicI32,
    pub(crate) cached_runs: AtomicUsize,
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
