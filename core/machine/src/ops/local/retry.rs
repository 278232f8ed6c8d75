//! When a local activity is tried again, and after how long. It knows neither time limits nor the time.

use std::time::Duration;

use outlast_proto::lens::api::{Failure, RetryPolicy, failure::FailureInfo};
use prost_types::Duration as WireDuration;

use crate::failure::timeout_type;
use crate::time::{duration, wire};

/// How long to wait before the second attempt, where the workflow does not say: what the server has for remote activities.
const INITIAL: Duration = Duration::from_secs(1);
/// How many times longer each further wait is, where the workflow does not say.
const COEFFICIENT: f64 = 2.0;
/// The longest wait where the workflow does not say, in first ones.
const LONGEST: u32 = 100;

/// When and how often to try again.
pub(crate) struct Policy {
    /// The wait before the second attempt.
    initial: Duration,
    /// How many times longer each further wait is.
    coefficient: f64,
    longest: Duration,
    /// 0: as many as it takes.
    pub attempts_max: u32,
    hopeless: Vec<String>,
}

impl Policy {
    /// What `asked` means. Every value means something, as in the reference: what cannot be is taken as not given.
    pub fn of(asked: RetryPolicy) -> Self {
        let initial = or_absent(asked.initial_interval).unwrap_or(INITIAL);
        let longest = or_absent(asked.maximum_interval);
        Self {
            initial,
            // Not a number is not at least one, either.
            coefficient: if asked.backoff_coefficient >= 1.0 {
                asked.backoff_coefficient
            } else {
                COEFFICIENT
            },
            longest: longest.map_or(initial.saturating_mul(LONGEST), |longest| longest.max(initial)),
            attempts_max: u32::try_from(asked.maximum_attempts).unwrap_or(0),
            hopeless: asked.non_retryable_error_types,
        }
    }

    /// The policy with every value that holds.
    pub fn told(self) -> RetryPolicy {
        RetryPolicy {
            initial_interval: Some(wire(self.initial)),
            backoff_coefficient: self.coefficient,
            maximum_interval: Some(wire(self.longest)),
            maximum_attempts: i32::try_from(self.attempts_max).unwrap_or(i32::MAX),
            non_retryable_error_types: self.hopeless,
        }
    }

    pub fn retries(&self, failure: &Failure) -> bool {
        match &failure.failure_info {
            Some(FailureInfo::ApplicationFailureInfo(info)) => {
                !info.non_retryable && !self.hopeless.iter().any(|t| t.eq_ignore_ascii_case(&info.r#type))
            }
            Some(FailureInfo::TimeoutFailureInfo(info)) => info.timeout_type == timeout_type::START_TO_CLOSE,
            Some(
                FailureInfo::CanceledFailureInfo(_)
                | FailureInfo::TerminatedFailureInfo(_)
                | FailureInfo::ActivityFailureInfo(_)
                | FailureInfo::ChildWorkflowExecutionFailureInfo(_)
                | FailureInfo::NexusOperationExecutionFailureInfo(_),
            )
            | None => true,
        }
    }

    /// How long to wait after `attempt` failed.
    pub fn backoff(&self, attempt: u32, failure: &Failure) -> Duration {
        if let Some(FailureInfo::ApplicationFailureInfo(info)) = &failure.failure_info
            && let Some(delay) = or_absent(info.next_retry_delay)
        {
            return delay;
        }
        if self.initial.is_zero() {
            return Duration::ZERO; // however often it is multiplied, also without end
        }
        let factor = self.coefficient.powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
        let grown = Duration::try_from_secs_f64(self.initial.as_secs_f64() * factor);
        grown.unwrap_or(self.longest).min(self.longest)
    }
}

/// The longest wait that is waited for here, without a timer of the workflow, where the workflow names none.
const WAITS_HERE_MAX: Duration = Duration::from_secs(60);

/// The longest wait for the next attempt that is waited for here.
pub(crate) fn waits_here_max(asked: Option<WireDuration>) -> Duration {
    or_absent(asked).unwrap_or(WAITS_HERE_MAX)
}

/// A negative one is taken as not given, as in the reference. Only for waits: a limit is never read so.
fn or_absent(given: Option<WireDuration>) -> Option<Duration> {
    duration(given).unwrap_or_default()
}
