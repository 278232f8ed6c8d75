//! Delivers what polls bring: from the language's first wish until the end of the polls.

use std::time::Duration;

use outlast_client::{CallOptions, Code, Error, Kind};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::permits::{Permit, Permits};
use crate::pollers::{
    Lane, PollHints, Polled, PollerBehavior, Pollers, PollersOptions, Scaling, Stop, Verdict,
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
    pub(crate) ask: Ask<T>,
}

/// Makes one poll.
pub(crate) type Ask<T> = Box<dyn Fn(CallOptions) -> Boxed<'static, Result<Polled<T>, Error>> + Send>;

/// Polls these queues until told to stop, or until the server refuses for good.
pub(crate) async fn deliver<T: Send + 'static>(
    mut polling: watch::Receiver<Polling>,
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
    Pollers::start(PollersOptions { slots, lanes, rate, verdict: Box::new(verdict) })
}

fn lane<T: 'static>(queue: Queue<T>, now: std::time::Instant) -> Lane<T, Error> {
    let Queue { permits, behavior, server_suggests, gauge, ask } = queue;
    let scaling = Scaling::new(behavior, server_suggests, now);
    let return_on: &[Code] = match scaling.is_autoscaling() {
        // Each of these says something about the right number of polls.
        true => &[Code::ResourceExhausted, Code::Cancelled, Code::DeadlineExceeded],
        false => &[],
    };
    let poll = move |hints: PollHints| {
        ask(CallOptions { timeout: hints.timeout, return_on, ..CallOptions::long_poll() })
    };
    Lane { wanted: permits.wanted(), scaling, gauge, poll: Box::new(poll) }
}

/// The client has tried again as often as makes sense; what it hands back early is for scaling.
fn verdict(error: &Error, failures: u32) -> Verdict {
    if matches!(error.kind, Kind::Malformed | Kind::TooLarge) {
        // The next task may be a better one. This one will time out, and its server knows why it cannot be had.
        tracing::error!(%error, "what a poll was answered cannot be taken; if it was a task, it will time out");
        return Verdict::Retry { after: pause(failures.saturating_add(1)) };
    }
    match error.code {
        Code::ResourceExhausted => {
            Verdict::Spare { after: Duration::from_secs(1 << failures.clamp(1, 4).saturating_sub(1)) }
        }
        // Once, that is how a poll may end. Again and again, the server is not well.
        Code::Cancelled | Code::DeadlineExceeded => Verdict::Retry { after: pause(failures) },
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Verdict::GiveUp,
    }
}

/// After so many failures in a row: nothing after the first, then twice as long each time.
fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => Duration::from_millis(200 << more.saturating_sub(2).min(5)),
    }
}
