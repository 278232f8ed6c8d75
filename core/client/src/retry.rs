//! When a failed call is tried again, and after how long: one pure function. It has no clock and no dice: time passed
//! and a random number are arguments, and whoever asks does the waiting.

use std::time::Duration;

use tonic::Code;

/// Which calls are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryKind {
    /// Ordinary calls: some tries within some seconds.
    #[default]
    Default,
    /// Polls for tasks: without end, since a worker has nothing better to do than wait for its server.
    LongPoll,
    /// Never, save for the one retry after a GOAWAY.
    None,
}

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub initial: Duration,
    /// Each wait is this many times the one before.
    pub factor: f64,
    /// No wait is longer, jitter aside.
    pub max: Duration,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Waits between tries of an ordinary call.
    pub call: Backoff,
    /// An ordinary call is not tried again once this much time would have passed since its start.
    pub elapsed_max: Duration,
    /// Tries of an ordinary call, the first included.
    pub attempts_max: u32,
    /// Waits between tries of a long poll, which have no end.
    pub long_poll: Backoff,
    /// Waits after a long poll was refused: answered with a code after which another try is of no use. Jitter makes them
    /// longer only.
    pub refused: Backoff,
    /// How long a long poll goes on although the server refuses it: a namespace or a permission may be on its way.
    pub refusals_max: Duration,
    /// Waits after RESOURCE_EXHAUSTED, of every kind of call: the server asks for fewer.
    pub throttle: Backoff,
    /// The share by which a wait is made longer or shorter at random.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            call: Backoff { initial: ms(100), factor: 1.7, max: ms(5_000) },
            elapsed_max: ms(10_000),
            attempts_max: 10,
            long_poll: Backoff { initial: ms(200), factor: 2.0, max: ms(10_000) },
            refused: Backoff { initial: ms(10_000), factor: 1.0, max: ms(10_000) },
            refusals_max: ms(60_000),
            throttle: Backoff { initial: ms(1_000), factor: 2.0, max: ms(10_000) },
            jitter: 0.2,
        }
    }
}

/// One failed try.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Tries so far, this one included.
    pub attempt: u32,
    /// How many of them, this one included, were answered RESOURCE_EXHAUSTED.
    pub throttled: u32,
    /// Since the call began.
    pub elapsed: Duration,
    /// Since a try of this call was first refused: answered with a code after which another try is of no use. Zero when it is
    /// this one.
    pub refused_for: Duration,
    /// What this try ended with.
    pub code: Code,
    /// The message was too large: it will be so the next time.
    pub too_large: bool,
    /// The connection was closed with a GOAWAY, and this is the first time in this call.
    pub first_goaway: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this wait.
    Retry(Duration),
    /// Give the error to the caller.
    GiveUp,
}

impl RetryPolicy {
    /// Decides about one failure; `random` is in `0.0..1.0`.
    ///
    /// ```
    /// use outlast_client::{Code, RetryKind, RetryPolicy, retry::{Decision, Failure}};
    /// use std::time::Duration;
    ///
    /// let failure = Failure {
    ///     attempt: 1, throttled: 0, elapsed: Duration::ZERO, refused_for: Duration::ZERO, code: Code::Unavailable,
    ///     too_large: false, first_goaway: false,
    /// };
    /// let policy = RetryPolicy::default();
    /// assert_eq!(policy.decide(RetryKind::Default, failure, 0.5), Decision::Retry(Duration::from_millis(100)));
    /// assert_eq!(policy.decide(RetryKind::None, failure, 0.5), Decision::GiveUp);
    /// ```
    pub fn decide(&self, kind: RetryKind, failure: Failure, random: f64) -> Decision {
        if failure.too_large {
            return Decision::GiveUp;
        }
        if failure.first_goaway {
            return Decision::Retry(Duration::ZERO);
        }
        let (own, bounded) = match kind {
            RetryKind::None => return Decision::GiveUp,
            RetryKind::Default if !is_retryable(failure.code) => return Decision::GiveUp,
            RetryKind::LongPoll
                if !is_retryable_poll(failure.code) && failure.refused_for >= self.refusals_max =>
            {
                return Decision::GiveUp;
            }
            RetryKind::Default => (self.call, true),
            RetryKind::LongPoll if !is_retryable_poll(failure.code) => {
                return Decision::Retry(self.refused.wait(
                    failure.attempt,
                    self.jitter,
                    random.midpoint(1.0),
                ));
            }
            RetryKind::LongPoll => (self.long_poll, false),
        };
        let (backoff, failures) = if failure.code == Code::ResourceExhausted {
            (self.throttle, failure.throttled)
        } else {
            (own, failure.attempt - failure.throttled)
        };
        // A server that asks for time gets it without its being counted, or a result would be given up for no fault.
        let counted = own.wait(failure.attempt, self.jitter, random);
        let spent = failure.attempt >= self.attempts_max || failure.elapsed + counted > self.elapsed_max;
        if bounded && spent {
            return Decision::GiveUp;
        }
        Decision::Retry(backoff.wait(failures, self.jitter, random))
    }
}

impl Backoff {
    /// The wait after so many failures, counted from one.
    fn wait(&self, failures: u32, jitter: f64, random: f64) -> Duration {
        let steps = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let (grown, max) = (self.initial.as_secs_f64() * self.factor.powi(steps), self.max.as_secs_f64());
        // What is below zero or no number is no wait: the longest one is on the safe side.
        let capped = if grown >= 0.0 { grown.min(max) } else { max };
        let wobbly = capped * (1.0 + jitter * (2.0 * random - 1.0));
        // Jitter of more than the whole may leave nothing.
        let seconds = if wobbly.is_nan() { max } else { wobbly.max(0.0) };
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max)
    }
}

/// Every code of an error: as [`CallOptions::return_on`](crate::CallOptions) it turns retries off, also those of a
/// long poll, save for the one retry after a GOAWAY.
pub const EVERY: &[Code] = &[
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// Codes after which the same call may succeed.
pub(crate) fn is_retryable(code: Code) -> bool {
    match code {
        Code::DataLoss
        | Code::Internal
        | Code::Unknown
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable => true,
        Code::Ok
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => false,
    }
}

/// A poll that ran into its deadline, or that a proxy cut off, simply found nothing.
pub fn is_retryable_poll(code: Code) -> bool {
    is_retryable(code) || matches!(code, Code::Cancelled | Code::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(attempt: u32, code: Code) -> Failure {
        let throttled = if code == Code::ResourceExhausted { attempt } else { 0 };
        let (elapsed, refused_for) = (Duration::ZERO, Duration::ZERO);
        Failure { attempt, throttled, elapsed, refused_for, code, too_large: false, first_goaway: false }
    }

    /// Waits in milliseconds without jitter, until the policy gives up or `count` are seen, time passing as told.
    fn waits(kind: RetryKind, code: Code, count: u32) -> Vec<u128> {
        let (policy, mut elapsed, mut waits) = (RetryPolicy::default(), Duration::ZERO, Vec::new());
        for attempt in 1..=count {
            match policy.decide(kind, Failure { elapsed, ..failure(attempt, code) }, 0.5) {
                Decision::Retry(wait) => {
                    elapsed += wait;
                    waits.push(wait.as_millis());
                }
                Decision::GiveUp => break,
            }
        }
        waits
    }

    #[test]
    fn an_ordinary_call_is_tried_for_ten_seconds() {
        assert_eq!(
            waits(RetryKind::Default, Code::Unavailable, 99),
            [100, 170, 289, 491, 835, 1419, 2413, 4103]
        );
    }

    #[test]
    fn an_ordinary_call_is_tried_ten_times() {
        let policy = RetryPolicy::default();
        let retry = |attempt| policy.decide(RetryKind::Default, failure(attempt, Code::Internal), 0.5);
        assert!(matches!(retry(9), Decision::Retry(_)));
        assert_eq!(retry(10), Decision::GiveUp);
    }

    #[test]
    fn a_poll_is_tried_for_ever() {
        let expected = [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000];
        assert_eq!(waits(RetryKind::LongPoll, Code::Unavailable, 8), expected);
        let late = Failure { elapsed: Duration::from_secs(1 << 40), ..failure(u32::MAX, Code::Unavailable) };
        let decision = RetryPolicy::default().decide(RetryKind::LongPoll, late, 0.5);
        assert_eq!(decision, Decision::Retry(Duration::from_secs(10)));
    }

    #[test]
    fn a_poll_that_is_refused_is_tried_for_a_minute() {
        let retry = |code, seconds| {
            let failure = Failure { refused_for: Duration::from_secs(seconds), ..failure(9, code) };
            RetryPolicy::default().decide(RetryKind::LongPoll, failure, 0.5) != Decision::GiveUp
        };
        assert_eq!(waits(RetryKind::LongPoll, Code::NotFound, 3), [11_000, 11_000, 11_000]);
        let none = Failure { refused_for: Duration::ZERO, ..failure(1, Code::NotFound) };
        let decision = RetryPolicy::default().decide(RetryKind::LongPoll, none, 0.0);
        assert_eq!(decision, Decision::Retry(Duration::from_secs(10)), "never sooner");
        assert!(retry(Code::NotFound, 59));
        assert!(!retry(Code::NotFound, 60));
        assert!(retry(Code::Unavailable, 61), "it may come back");
    }

    #[test]
    fn a_throttled_call_waits_longer_whatever_its_kind() {
        assert_eq!(waits(RetryKind::Default, Code::ResourceExhausted, 99), [1_000, 2_000, 4_000, 8_000]);
        let poll = waits(RetryKind::LongPoll, Code::ResourceExhausted, 6);
        assert_eq!(poll, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn throttling_and_other_failures_grow_apart() {
        let mixed = Failure { throttled: 1, ..failure(4, Code::ResourceExhausted) };
        let decision = RetryPolicy::default().decide(RetryKind::Default, mixed, 0.5);
        assert_eq!(decision, Decision::Retry(Duration::from_secs(1)));
    }

    #[test]
    fn jitter_is_a_fifth_either_way() {
        let retry =
            |random| RetryPolicy::default().decide(RetryKind::Default, failure(1, Code::Aborted), random);
        assert_eq!(retry(0.0), Decision::Retry(Duration::from_millis(80)));
        let Decision::Retry(most) = retry(0.999_999) else { panic!("not tried again") };
        assert!(most > Duration::from_millis(119) && most < Duration::from_millis(120), "{most:?}");
    }

    #[test]
    fn which_codes_are_tried_again() {
        let retried = |kind| -> Vec<Code> {
            let again = |code| RetryPolicy::default().decide(kind, failure(1, code), 0.5) != Decision::GiveUp;
            EVERY.iter().copied().filter(|code| again(*code)).collect()
        };
        use Code::*;
        let call = [Unknown, ResourceExhausted, Aborted, OutOfRange, Internal, Unavailable, DataLoss];
        assert_eq!(retried(RetryKind::Default), call);
        assert_eq!(retried(RetryKind::LongPoll), EVERY);
        assert_eq!(retried(RetryKind::None), []);
    }

    #[test]
    fn a_goaway_is_tried_again_once_and_at_once() {
        let goaway = Failure { first_goaway: true, ..failure(1, Code::Unavailable) };
        for kind in [RetryKind::Default, RetryKind::LongPoll, RetryKind::None] {
            assert_eq!(RetryPolicy::default().decide(kind, goaway, 0.5), Decision::Retry(Duration::ZERO));
        }
        let second = Failure { first_goaway: false, attempt: 2, ..goaway };
        assert_eq!(RetryPolicy::default().decide(RetryKind::None, second, 0.5), Decision::GiveUp);
    }

    #[test]
    fn what_is_too_large_stays_too_large() {
        let large = Failure { too_large: true, ..failure(1, Code::ResourceExhausted) };
        for kind in [RetryKind::Default, RetryKind::LongPoll] {
            assert_eq!(RetryPolicy::default().decide(kind, large, 0.5), Decision::GiveUp);
        }
    }

    /// Waits in milliseconds after the first, second and tenth failure with the least, the middle and the most of jitter.
    fn waits_of(change: impl Fn(&mut RetryPolicy)) -> [[u128; 3]; 3] {
        let ms = Duration::from_millis;
        let mut policy = RetryPolicy {
            call: Backoff { initial: ms(100), factor: 2.0, max: ms(1_000) },
            elapsed_max: Duration::MAX,
            attempts_max: u32::MAX,
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        change(&mut policy);
        [1, 2, 10].map(|attempt| {
            [0.0, 0.5, 0.999].map(|random| {
                match policy.decide(RetryKind::Default, failure(attempt, Code::Unavailable), random) {
                    Decision::Retry(wait) => wait.as_millis(),
                    Decision::GiveUp => panic!("it gives up"),
                }
            })
        })
    }

    const LONGEST: [u128; 3] = [1_000; 3];

    #[test]
    fn every_factor_makes_a_wait() {
        for (factor, second, tenth) in [
            (-1.0, LONGEST, LONGEST),
            (0.0, [0; 3], [0; 3]),
            (0.5, [50; 3], [0; 3]),
            (1.0, [100; 3], [100; 3]),
            (1e300, LONGEST, LONGEST),
            (f64::INFINITY, LONGEST, LONGEST),
            (f64::NEG_INFINITY, LONGEST, LONGEST),
            (f64::NAN, LONGEST, LONGEST),
        ] {
            let waits = waits_of(|policy| policy.call.factor = factor);
            assert_eq!(waits, [[100; 3], second, tenth], "{factor}");
        }
    }

    #[test]
    fn every_jitter_makes_a_wait() {
        for (jitter, first) in [
            (-1.0, [200, 100, 0]),
            (0.0, [100; 3]),
            (1.0, [0, 100, 199]),
            (1.5, [0, 100, 249]),
            (f64::NAN, LONGEST),
            // Without end, times nothing, is no number.
            (f64::INFINITY, [0, 1_000, 1_000]),
            (f64::NEG_INFINITY, [1_000, 1_000, 0]),
        ] {
            assert_eq!(waits_of(|policy| policy.jitter = jitter)[0], first, "{jitter}");
        }
    }

    #[test]
    fn every_interval_makes_a_wait() {
        let [zero, most] = [Duration::ZERO, Duration::MAX];
        assert_eq!(waits_of(|policy| policy.call.initial = zero), [[0; 3]; 3]);
        assert_eq!(waits_of(|policy| policy.call.initial = most), [LONGEST; 3]);
        assert_eq!(waits_of(|policy| policy.call.max = zero), [[0; 3]; 3]);
        assert_eq!(waits_of(|policy| policy.call.max = most), [[100; 3], [200; 3], [51_200; 3]]);
        let both = waits_of(|policy| (policy.call.initial, policy.call.max) = (most, most));
        assert_eq!(both, [[most.as_millis(); 3]; 3]);
    }

    #[test]
    fn no_time_and_no_tries_are_one_try() {
        for (elapsed_max, attempts_max) in [(Duration::ZERO, 10), (Duration::MAX, 0), (Duration::MAX, 1)] {
            let policy = RetryPolicy { elapsed_max, attempts_max, ..RetryPolicy::default() };
            let decision = policy.decide(RetryKind::Default, failure(1, Code::Unavailable), 0.5);
            assert_eq!(decision, Decision::GiveUp, "{elapsed_max:?}, {attempts_max}");
        }
    }
}
