//! Delivers what polls bring: from the language's first wish until the end of the polls.

use std::time::Duration;

use outlast_client::retry::{Decision, EVERY, Failure, is_retryable_poll};
use outlast_client::{CallOptions, Code, Error, Kind, RetryKind, RetryPolicy, log_retry};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::permits::{Permit, Permits};
use crate::pollers::{
    Failed, Lane, PollHints, Polled, PollerBehavior, Pollers, PollersOptions, Scaling, Stop, Verdict,
};
use crate::slots::Boxed;
use crate::telemetry::Gauge;
use crate::throttle::TokenBucket;

/// Whether polls may start and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polling {
    /// The language has not asked yet: tasks would wait for nobody.
    Waiting,
    Open,
    /// No poll starts; those in flight are left to the server.
    Closing,
    /// Those in flight are dropped.
    Aborted,
}

/// One queue to poll.
pub(crate) struct Queue<T> {
    pub(crate) permits: Permits,
    pub(crate) behavior: PollerBehavior,
    /// The namespace is known to suggest numbers of polls.
    pub(crate) server_suggests: bool,
    pub(crate) gauge: Gauge,
    /// The path of the call that polls.
    pub(crate) path: &'static str,
    pub(crate) retry: RetryPolicy,
    pub(crate) ask: Ask<T>,
}

/// Makes one poll.
pub(crate) type Ask<T> = Box<dyn Fn(CallOptions) -> Boxed<'static, Result<Polled<T>, Error>> + Send>;

/// Polls these queues until told to stop, or until the server refuses for good. `replaced` changes with each new client.
pub(crate) async fn deliver<T: Send + 'static>(
    mut polling: watch::Receiver<Polling>,
    mut replaced: watch::Receiver<u64>,
    queues: impl FnOnce() -> Vec<Queue<T>>,
    rate: Option<f64>,
    take: impl Fn(T, Permit),
) -> Result<(), Error> {
    match polling.wait_for(|polling| *polling != Polling::Waiting).await.as_deref() {
        Ok(Polling::Open) => {}
        Ok(Polling::Waiting | Polling::Closing | Polling::Aborted) | Err(_) => return Ok(()),
    }
    let mut pollers = start(queues(), rate);
    let stopper = pollers.stopper();
    loop {
        tokio::select! {
            changed = polling.changed() => match (changed, *polling.borrow()) {
                (Ok(()), Polling::Waiting | Polling::Open) => {}
                (Ok(()), Polling::Closing) => stopper.stop(Stop::Drain),
                (Ok(()), Polling::Aborted) | (Err(_), _) => stopper.stop(Stop::Abort),
            },
            Ok(()) = replaced.changed() => pollers.begin_anew(),
            next = pollers.next() => match next {
                Some(Ok((permit, task))) => take(task, permit),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}

fn start<T: Send + 'static>(queues: Vec<Queue<T>>, rate: Option<f64>) -> Pollers<T, Error> {
    let now = Instant::now().into_std();
    let slots = queues.first().map(|queue| queue.permits.slots().clone());
    let lanes = queues.into_iter().map(|queue| lane(queue, now)).collect();
    let slots = slots.expect("each half polls at least its normal queue");
    let rate = rate.and_then(|rate| TokenBucket::new(rate, now));
    Pollers::start(PollersOptions { slots, lanes, rate })
}

/// The client makes one try of each poll. When to try again is decided for all pollers of a queue together: what a server
/// refuses one of them it will refuse the others.
fn lane<T: 'static>(queue: Queue<T>, now: std::time::Instant) -> Lane<T, Error> {
    let Queue { permits, behavior, server_suggests, gauge, path, retry, ask } = queue;
    let scaling = Scaling::new(behavior, server_suggests, now);
    let poll = move |hints: PollHints| -> Boxed<'static, _> {
        let answer =
            ask(CallOptions { timeout: hints.timeout, return_on: EVERY, ..CallOptions::long_poll() });
        Box::pin(async move { answer.await.inspect_err(log_unreadable) })
    };
    let mut patience = Patience { path, retry, throttled: 0, refused: None };
    let judge = move |failed: Failed<'_, Error>| patience.judge(&failed, fastrand::f64());
    Lane { wanted: permits.wanted(), scaling, gauge, poll: Box::new(poll), judge: Box::new(judge) }
}

/// How long the failures in a row of one queue's polls are borne.
struct Patience {
    path: &'static str,
    retry: RetryPolicy,
    /// How many of the failures were RESOURCE_EXHAUSTED.
    throttled: u32,
    /// Since when the server refuses.
    refused: Option<Instant>,
}

impl Patience {
    fn judge(&mut self, failed: &Failed<'_, Error>, random: f64) -> Verdict {
        let (error, attempt) = (failed.error, failed.in_a_row);
        if attempt == 1 {
            (self.throttled, self.refused) = (0, None);
        }
        let code = match error.kind {
            Kind::Config => return Verdict::GiveUp,
            // The next answer may be a better one.
            Kind::Malformed | Kind::TooLarge => Code::Unavailable,
            Kind::Unreachable | Kind::Refused | Kind::TimedOut => error.code,
        };
        let cut_off = matches!(code, Code::Cancelled | Code::DeadlineExceeded);
        if cut_off && failed.lasted >= self.retry.long_poll.max {
            return Verdict::Empty;
        }
        self.throttled += u32::from(code == Code::ResourceExhausted);
        if !is_retryable_poll(code) {
            self.refused.get_or_insert(failed.now);
        }
        let failure = Failure {
            attempt,
            throttled: self.throttled,
            elapsed: Duration::ZERO,
            refused_for: self.refused.map_or(Duration::ZERO, |since| failed.now - since),
            code,
            too_large: false,
            first_goaway: false,
        };
        let Decision::Retry(after) = self.retry.decide(RetryKind::LongPoll, failure, random) else {
            return Verdict::GiveUp;
        };
        log_retry(self.path, attempt, error);
        if code == Code::ResourceExhausted { Verdict::Spare { after } } else { Verdict::Retry { after } }
    }
}

/// The task in such an answer, if there was one, will time out; its server knows why it cannot be had.
fn log_unreadable(error: &Error) {
    if matches!(error.kind, Kind::Malformed | Kind::TooLarge) {
        tracing::error!(%error, "what a poll was answered cannot be taken; if it was a task, it will time out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn error(kind: Kind, code: Code) -> Error {
        Error { kind, code, ..Error::config("no") }
    }

    /// What a poll that lasted so long and failed so means, without jitter, when the ones before it failed, too.
    fn judged(kind: Kind, code: Code, lasted: Duration, in_a_row: u32) -> Verdict {
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let throttled =
            if (kind, code) == (Kind::Refused, Code::ResourceExhausted) { in_a_row - 1 } else { 0 };
        let mut patience = Patience { path: "/a/B", retry, throttled, refused: None };
        patience.judge(&Failed { error: &error(kind, code), in_a_row, lasted, now: Instant::now() }, 0.5)
    }

    #[tokio::test(start_paused = true)]
    async fn what_errors_of_polls_mean() {
        let (refused, at_once) = (Kind::Refused, Duration::ZERO);
        let wait = |milliseconds| Verdict::Retry { after: Duration::from_millis(milliseconds) };
        for (kind, code, lasted, in_a_row, verdict) in [
            (refused, Code::Unavailable, at_once, 1, wait(200)),
            (refused, Code::Unavailable, 60 * SECOND, 3, wait(800)),
            (refused, Code::PermissionDenied, at_once, 1, wait(10_000)),
            (refused, Code::ResourceExhausted, at_once, 1, Verdict::Spare { after: SECOND }),
            (refused, Code::ResourceExhausted, at_once, 3, Verdict::Spare { after: 4 * SECOND }),
            (refused, Code::Cancelled, 9 * SECOND, 1, wait(200)),
            (refused, Code::Cancelled, 10 * SECOND, 1, Verdict::Empty),
            (Kind::TimedOut, Code::DeadlineExceeded, 70 * SECOND, 5, Verdict::Empty),
            (Kind::Malformed, Code::Internal, at_once, 1, wait(200)),
            (Kind::TooLarge, Code::ResourceExhausted, at_once, 2, wait(400)),
            (Kind::Config, Code::InvalidArgument, at_once, 1, Verdict::GiveUp),
        ] {
            assert_eq!(judged(kind, code, lasted, in_a_row), verdict, "{kind:?} {code:?} {in_a_row}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_borne_for_a_minute_from_the_first() {
        let mut patience =
            Patience { path: "/a/B", retry: RetryPolicy::default(), throttled: 0, refused: None };
        let mut judge = |code, in_a_row| {
            let error = error(Kind::Refused, code);
            patience.judge(&Failed { error: &error, in_a_row, lasted: SECOND, now: Instant::now() }, 0.5)
        };
        judge(Code::NotFound, 1);
        tokio::time::advance(59 * SECOND).await;
        assert_ne!(judge(Code::NotFound, 2), Verdict::GiveUp);
        tokio::time::advance(SECOND).await;
        assert_ne!(judge(Code::Unavailable, 3), Verdict::GiveUp, "it may come back");
        assert_eq!(judge(Code::NotFound, 4), Verdict::GiveUp);
        assert_ne!(judge(Code::NotFound, 1), Verdict::GiveUp, "a poll succeeded meanwhile");
    }
}
