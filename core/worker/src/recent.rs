//! What this worker told the server lately, and which of it may still bring tasks back: an activity's result brings its
//! workflow's next task, a workflow's commands bring activities. What closed workflows told brings nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use outlast_machine::time::Time;

/// How many reports are remembered. More within a moment mean a busy worker, and the newest say so.
const REMEMBERED: usize = 32;

/// The latest reports of runs that are open as far as this worker knows.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    reports: Mutex<VecDeque<(Time, Bytes)>>,
}

impl Recent {
    /// The server took a report of this run, which goes on.
    pub(crate) fn told(&self, now: Time, run: Bytes) {
        let mut reports = self.lock();
        if reports.len() == REMEMBERED {
            reports.pop_front();
        }
        reports.push_back((now, run));
    }

    /// The run closed: what it told before brings nothing any more.
    pub(crate) fn closed(&self, run: &[u8]) {
        self.lock().retain(|(_, told)| told != run);
    }

    /// Whether something was told within this time that may bring a task yet.
    pub(crate) fn may_bring(&self, now: Time, within: Duration) -> bool {
        self.lock().back().is_some_and(|(told, _)| now.since(*told) < within)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Time, Bytes)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Time {
        Time::from_nanos(0) + Duration::from_millis(millis)
    }

    #[test]
    fn what_was_told_of_an_open_run_may_bring_a_task_for_a_while() {
        let recent = Recent::default();
        assert!(!recent.may_bring(at(0), WITHIN));
        recent.told(at(0), "a".into());
        assert!(recent.may_bring(at(99), WITHIN));
        assert!(!recent.may_bring(at(100), WITHIN));
    }

    #[test]
    fn what_was_told_of_a_closed_run_brings_nothing() {
        let recent = Recent::default();
        recent.told(at(0), "a".into());
        recent.told(at(1), "b".into());
        recent.told(at(2), "a".into());
        recent.closed(b"a");
        assert!(recent.may_bring(at(3), WITHIN));
        recent.closed(b"b");
        assert!(!recent.may_bring(at(3), WITHIN));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let recent = Recent::default();
        for millis in 0..1_000 {
            recent.told(at(millis), "a".into());
        }
        assert_eq!(recent.lock().len(), REMEMBERED);
        assert!(recent.may_bring(at(1_000), WITHIN));
    }
}
