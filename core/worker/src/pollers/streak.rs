//! Failures of one queue's polls in a row, and what they mean for the next polls: all its pollers rest, then one of them
//! tries, and the others follow once the server took its poll. Pure: it is told what happened and when. How long a rest is,
//! is for others to say.

use std::time::Duration;

use tokio::time::Instant;

/// A poll that the server has kept waiting for so long was not refused: refusals come at once.
const ACCEPTED_AFTER: Duration = Duration::from_secs(1);

/// No rest is longer, whatever a policy of retries comes to.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// What is known of the polls of one queue since one of them last succeeded.
#[derive(Debug, Default)]
pub(super) struct Streak {
    failures: u32,
    /// Counts up with each failure. What becomes of a poll that began before the last failure says nothing new.
    era: Era,
    rest_ends: Option<Instant>,
    /// When the first poll after the rest began.
    tried: Option<Instant>,
}

/// Between which failures a poll began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Era(u32);

impl Streak {
    /// A poll begins.
    pub(super) fn begin(&mut self, now: Instant) -> Era {
        if self.failures > 0 && self.tried.is_none() {
            self.tried = Some(now);
        }
        self.era
    }

    /// A poll failed: how many have failed in a row with it. `None` if it began before the last failure: polls that are
    /// refused together are refused once.
    pub(super) fn failures_with(&self, began: Era) -> Option<u32> {
        (began == self.era).then(|| self.failures.saturating_add(1))
    }

    /// One more failure. No poll begins for so long.
    pub(super) fn failed(&mut self, now: Instant, rest: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.era.0 = self.era.0.wrapping_add(1);
        self.rest_ends = Some(now + rest.min(REST_MAX));
        self.tried = None;
    }

    /// The server answered a poll as it should.
    pub(super) fn succeeded(&mut self, began: Era) {
        if began == self.era {
            self.failures = 0;
            self.rest_ends = None;
            self.tried = None;
        }
    }

    /// What was so far does not count any more: the next polls go to another server.
    pub(super) fn forget(&mut self) {
        *self = Self { era: Era(self.era.0.wrapping_add(1)), ..Self::default() };
    }

    /// How many polls may be in flight, of those that are wanted.
    pub(super) fn allowed(&self, wanted: usize, in_flight: usize, now: Instant) -> usize {
        if self.failures == 0 {
            return wanted;
        }
        if self.rest_ends.is_some_and(|end| now < end) {
            return 0;
        }
        match self.tried {
            None => wanted.min(in_flight.saturating_add(1)),
            Some(at) if now < at + ACCEPTED_AFTER => wanted.min(in_flight),
            Some(_) => wanted,
        }
    }

    /// When [`allowed`](Self::allowed) changes, if nothing happens until then.
    pub(super) fn changes(&self, now: Instant) -> Option<Instant> {
        let accepted = self.tried.map(|at| at + ACCEPTED_AFTER).filter(|_| self.failures > 0);
        [self.rest_ends, accepted].into_iter().flatten().filter(|then| *then > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn resting(now: Instant) -> Streak {
        let mut streak = Streak::default();
        let first = streak.begin(now);
        assert_eq!(streak.failures_with(first), Some(1));
        streak.failed(now, SECOND);
        streak
    }

    #[tokio::test(start_paused = true)]
    async fn all_rest_then_one_tries_then_all_go_on() {
        let now = Instant::now();
        let mut streak = resting(now);
        assert_eq!((streak.allowed(5, 3, now), streak.changes(now)), (0, Some(now + SECOND)));
        let later = now + SECOND;
        assert_eq!(
            (streak.allowed(5, 3, later), streak.changes(later)),
            (4, None),
            "one more than there are"
        );
        let tried = streak.begin(later);
        assert_eq!(streak.allowed(5, 4, later), 4);
        streak.succeeded(tried);
        assert_eq!((streak.allowed(5, 4, later), streak.failures_with(tried)), (5, Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_is_kept_waiting_was_accepted_but_did_not_succeed_yet() {
        let now = Instant::now();
        let mut streak = resting(now);
        let later = now + SECOND;
        let tried = streak.begin(later);
        assert_eq!(streak.changes(later), Some(later + ACCEPTED_AFTER));
        assert_eq!(streak.allowed(5, 1, later + ACCEPTED_AFTER), 5);
        assert_eq!(streak.failures_with(tried), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn polls_that_began_before_a_failure_count_neither_way() {
        let now = Instant::now();
        let mut streak = Streak::default();
        let (first, second, third) = (streak.begin(now), streak.begin(now), streak.begin(now));
        assert_eq!(streak.failures_with(first), Some(1));
        streak.failed(now, SECOND);
        assert_eq!(streak.failures_with(second), None);
        streak.succeeded(third);
        assert_eq!(streak.allowed(5, 0, now), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_server_is_a_new_beginning() {
        let now = Instant::now();
        let mut streak = resting(now);
        let before = streak.begin(now);
        streak.forget();
        assert_eq!((streak.allowed(5, 0, now), streak.changes(now)), (5, None));
        assert_eq!(streak.failures_with(before), None, "the other server's refusal");
    }
}
