//! What this worker told the server lately, and which of it may still bring tasks back: an activity's result brings its
//! workflow's next task, a workflow's commands bring activities. What closed workflows told brings nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use outlast_machine::time::Time;

/// How many reports are remembered. More within a moment mean a busy worker, and the newest say so.
const REMEMBERED: usize = 32;

/// Whose task a report may bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// This run's, or an activity of its.
    Run(Bytes),
    /// That of some run which waits for it here, if one does: whose is not told.
    Waiting,
    /// That of something new: a run that nobody holds yet, an operation.
    New,
}

/// The latest reports that may bring tasks, as far as this worker knows.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    reports: Mutex<VecDeque<(Time, Of)>>,
}

impl Recent {
    /// The server is told something that brings such a task.
    pub(crate) fn told(&self, now: Time, of: Of) {
        let mut reports = self.lock();
        if reports.len() == REMEMBERED {
            reports.pop_front();
        }
        reports.push_back((now, of));
    }

    /// The run closed: what it told before brings nothing any more.
    pub(crate) fn closed(&self, run: &[u8]) {
        self.lock().retain(|(_, told)| !matches!(told, Of::Run(told) if told == run));
    }

    /// Whether something was told within this time that may bring a task yet. `holds_runs`: tasks of runs that are under way may
    /// come here.
    pub(crate) fn may_bring(&self, now: Time, within: Duration, holds_runs: bool) -> bool {
        let reports = self.lock();
        reports.iter().any(|(told, of)| now.since(*told) < within && (holds_runs || *of == Of::New))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Time, Of)>> {
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

    fn run(id: &'static str) -> Of {
        Of::Run(id.into())
    }

    #[test]
    fn what_was_told_of_an_open_run_may_bring_a_task_for_a_while() {
        let recent = Recent::default();
        assert!(!recent.may_bring(at(0), WITHIN, true));
        recent.told(at(0), run("a"));
        assert!(recent.may_bring(at(99), WITHIN, true));
        assert!(!recent.may_bring(at(100), WITHIN, true));
    }

    #[test]
    fn what_was_told_of_a_closed_run_brings_nothing() {
        let recent = Recent::default();
        recent.told(at(0), run("a"));
        recent.told(at(1), run("b"));
        recent.told(at(2), run("a"));
        recent.closed(b"a");
        assert!(recent.may_bring(at(3), WITHIN, true));
        recent.closed(b"b");
        assert!(!recent.may_bring(at(3), WITHIN, true));
    }

    #[test]
    fn who_holds_no_runs_waits_for_new_ones_only() {
        let recent = Recent::default();
        recent.told(at(0), run("a"));
        recent.told(at(0), Of::Waiting);
        assert!(recent.may_bring(at(1), WITHIN, true));
        assert!(!recent.may_bring(at(1), WITHIN, false));
        recent.told(at(0), Of::New);
        recent.told(at(0), run("a"));
        assert!(recent.may_bring(at(1), WITHIN, false));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let recent = Recent::default();
        for millis in 0..1_000 {
            recent.told(at(millis), run("a"));
        }
        assert_eq!(recent.lock().len(), REMEMBERED);
        assert!(recent.may_bring(at(1_000), WITHIN, true));
    }
}
