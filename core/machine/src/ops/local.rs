//! A local activity: attempts, backoff and time limits are decided here, the shell only runs what it is told to.
//! Its result becomes a marker in history; in replay the marker gives the result.

mod limits;
mod retry;

use std::time::Duration;

use bytes::Bytes;
use outlast_proto::lens::api::{Failure, RecordMarkerCommandAttributes, RetryPolicy, failure::FailureInfo};
use outlast_proto::lens::lang::{
    ActivityCancellationType as Cancellation, ActivityResolution, DoBackoff, Failed, ResolveActivity,
    ScheduleLocalActivity, Success, activity_resolution::Status, workflow_activation_job::Variant,
};
use prost::Message;

use super::Names;
use crate::failure::{self, ActivityWrap, retry_state, timeout_type};
use crate::fault::Fault;
use crate::io::{LocalName, LocalReport, LocalResult, LocalTask, LocalTimeout};
use crate::marker::{self, LocalData, LocalMarker};
use crate::queue::Extras;
use crate::time::{Time, wire};
use limits::Limits;
use retry::{Policy, waits_here_max};

#[derive(Debug)]
pub(crate) struct Local {
    pub seq: u32,
    pub names: Names,
    pub cancellation: Cancellation,
    /// What was asked for, as long as it may have to be run.
    pub command: Box<ScheduleLocalActivity>,
    limits: Limits,
    pub state: State,
    /// The attempt that runs, or will run next; from 1.
    pub attempt: u32,
    /// When the workflow first asked for it; known once it is run or its marker is read.
    pub original_schedule_time: Option<Time>,
    /// The workflow's time when it was asked for.
    pub asked_at: Time,
    /// The caller's time when it was first run under this command.
    pub run_since: Option<Time>,
    /// Cancellation was asked for.
    pub canceling: bool,
    /// Its first attempt was in a task before the open one.
    pub began_before: bool,
    /// What goes along with its marker.
    pub extras: Option<Box<Extras>>,
}

/// Where a local activity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Asked for in replay: its marker is to come, now or in a later task.
    Replaying,
    /// Asked for live, in the completion being taken in: it is to be run.
    Wanted,
    /// The shell runs it.
    Running { execution: u32 },
    /// The next attempt starts then.
    Backoff { until: Time },
    /// The language has its result, or is about to: its marker is to come.
    Resolved { from_marker: bool },
}

/// The message of a failure that is made here when a time limit is broken.
const TIMED_OUT: &str = "Activity timed out";

/// Whether a failure is a time-out: made here of a broken time limit, or the activity's own.
fn is_timeout(encoded: &Option<Bytes>) -> bool {
    let failure = encoded.clone().and_then(|failure| Failure::decode(failure).ok());
    failure.is_some_and(|f| matches!(f.failure_info, Some(FailureInfo::TimeoutFailureInfo(_))))
}

/// How a local activity ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Resolution {
    Completed(Option<Bytes>),
    /// The encoded failure of the attempt.
    Failed(Option<Bytes>),
    Cancelled(Option<Bytes>),
    /// The next attempt is far off: the workflow waits for it with a timer of its own.
    Backoff {
        attempt: u32,
        after: Duration,
        failure: Option<Bytes>,
    },
}

/// What follows from a report.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// It is over.
    Over(Resolution),
    /// Another attempt, later.
    Retry(Time),
}

impl Local {
    pub fn new(
        command: Box<ScheduleLocalActivity>,
        extras: Option<Box<Extras>>,
        asked_at: Time,
        state: State,
    ) -> Result<Self, Fault> {
        Ok(Self {
            limits: Limits::of(&command)?,
            seq: command.seq,
            names: Names::new(&command.activity_id, &command.activity_type),
            cancellation: command.cancellation_type(),
            state,
            attempt: command.attempt.max(1),
            original_schedule_time: command.original_schedule_time.map(Time::from),
            asked_at,
            run_since: None,
            canceling: false,
            began_before: false,
            extras,
            command,
        })
    }

    /// How it ends without another attempt, if its whole time is over.
    pub fn too_late(&self, now: Time) -> Option<Resolution> {
        let late = self.deadline(now).is_some_and(|deadline| deadline <= now);
        late.then(|| self.timed_out(LocalTimeout::ScheduleToClose))
    }

    /// Starts the next attempt.
    pub fn start(
        &mut self,
        now: Time,
        execution: u32,
        workflow_id: &str,
        workflow_type: &Bytes,
    ) -> LocalTask {
        self.run_since.get_or_insert(now);
        let original = *self.original_schedule_time.get_or_insert(now);
        self.state = State::Running { execution };
        LocalTask {
            name: LocalName { seq: self.seq, execution },
            workflow_id: workflow_id.to_owned(),
            workflow_type: workflow_type.clone(),
            attempt: self.attempt,
            original_schedule_time: original,
            schedule_time: now,
            schedule_to_close: self.limits.schedule_to_close,
            schedule_to_start: self.limits.of_attempt(self.limits.schedule_to_start),
            start_to_close: self.limits.of_attempt(self.limits.start_to_close),
            retry_policy: Box::new(self.policy().told()),
            schedule_to_close_deadline: self.deadline(now),
            command: self.command.clone(),
        }
    }

    /// What the shell runs it under, if it does.
    pub fn running(&self) -> Option<LocalName> {
        match self.state {
            State::Running { execution } => Some(LocalName { seq: self.seq, execution }),
            State::Replaying | State::Wanted | State::Backoff { .. } | State::Resolved { .. } => None,
        }
    }

    /// What runs on of it without the workflow.
    pub fn abandoned(&self) -> Self {
        Self {
            names: Names::new(self.names.id(), self.names.kind()),
            command: self.command.clone(),
            extras: None,
            canceling: false,
            ..*self
        }
    }

    /// How it ends because the workflow said so: no attempt counts.
    pub fn cancelled(&mut self) -> Resolution {
        self.attempt = 0;
        self.original_schedule_time.get_or_insert(self.asked_at);
        Resolution::Cancelled(Some(failure::cancelled("Activity cancelled", None)))
    }

    /// When the next attempt is due, if it waits for that.
    pub fn next_attempt(&self) -> Option<Time> {
        match self.state {
            State::Backoff { until } => Some(until),
            State::Replaying | State::Wanted | State::Running { .. } | State::Resolved { .. } => None,
        }
    }

    /// The workflow's time when it was over, if it is over `now`.
    pub fn complete_time(&self, now: Time) -> Time {
        self.asked_at + now.since(self.run_since.unwrap_or(now))
    }

    /// What follows from how an attempt went.
    pub fn report(&mut self, now: Time, report: LocalReport) -> Next {
        match report.result {
            LocalResult::Completed(result) => Next::Over(Resolution::Completed(result)),
            LocalResult::Cancelled(None) => Next::Over(self.cancelled()),
            LocalResult::Cancelled(failure) => Next::Over(Resolution::Cancelled(failure)),
            LocalResult::Failed(failure) => self.failed(now, failure),
            LocalResult::TimedOut(LocalTimeout::StartToClose) => {
                let failure = failure::timed_out(TIMED_OUT, timeout_type::START_TO_CLOSE);
                self.failed(now, Some(failure))
            }
            LocalResult::TimedOut(
                limit @ (LocalTimeout::ScheduleToStart | LocalTimeout::ScheduleToClose),
            ) => Next::Over(self.timed_out(limit)),
        }
    }

    fn failed(&mut self, now: Time, encoded: Option<Bytes>) -> Next {
        let failure = encoded.clone().and_then(|f| Failure::decode(f).ok()).unwrap_or_default();
        let over = || {
            Next::Over(match failure.failure_info {
                // That is all its marker will say of it.
                Some(FailureInfo::CanceledFailureInfo(_)) => Resolution::Cancelled(encoded.clone()),
                _ => Resolution::Failed(encoded.clone()),
            })
        };
        let policy = self.policy();
        let spent = policy.attempts_max != 0 && self.attempt >= policy.attempts_max;
        if self.canceling || spent || !policy.retries(&failure) {
            return over();
        }
        let after = policy.backoff(self.attempt, &failure);
        let waits_here = after <= waits_here_max(self.command.local_retry_threshold);
        if waits_here && self.deadline(now).is_some_and(|deadline| now + after >= deadline) {
            return over();
        }
        self.attempt = self.attempt.saturating_add(1);
        if !waits_here {
            // As in the reference, the workflow waits even if the whole time will be over by then.
            return Next::Over(Resolution::Backoff { attempt: self.attempt, after, failure: encoded });
        }
        Next::Retry(now + after)
    }

    fn timed_out(&self, limit: LocalTimeout) -> Resolution {
        let kind = match limit {
            LocalTimeout::StartToClose => timeout_type::START_TO_CLOSE,
            LocalTimeout::ScheduleToStart => timeout_type::SCHEDULE_TO_START,
            LocalTimeout::ScheduleToClose => timeout_type::SCHEDULE_TO_CLOSE,
        };
        Resolution::Failed(Some(failure::timed_out(TIMED_OUT, kind)))
    }

    /// When its whole time is over, which begins now if it has not yet.
    fn deadline(&self, now: Time) -> Option<Time> {
        let from = self.original_schedule_time.unwrap_or(now);
        self.limits.schedule_to_close.map(|limit| from + limit)
    }

    fn policy(&self) -> Policy {
        let asked = self.command.retry_policy.clone().and_then(|p| RetryPolicy::decode(p).ok());
        Policy::of(asked.unwrap_or_default())
    }

    /// The job that tells the language. Both live and in replay it is made of what the marker says.
    pub fn job(&self, resolution: &Resolution) -> Variant {
        let wrapped = |message: &str, cause: &Option<Bytes>, retry_state| {
            let wrap = ActivityWrap {
                id: self.names.id(),
                kind: self.names.kind(),
                retry_state,
                ..ActivityWrap::default()
            };
            Failed { failure: Some(failure::activity(message, cause.clone(), wrap)) }
        };
        let status = match resolution {
            Resolution::Completed(result) => Status::Completed(Success { result: result.clone() }),
            Resolution::Failed(cause) if is_timeout(cause) => {
                Status::Failed(wrapped("Local Activity timed out", cause, retry_state::CANCEL_REQUESTED))
            }
            // The language sees what its own code failed with, as it is.
            Resolution::Failed(cause) => Status::Failed(Failed { failure: cause.clone() }),
            Resolution::Cancelled(cause) => {
                Status::Cancelled(wrapped("Local Activity cancelled", cause, retry_state::CANCEL_REQUESTED))
            }
            Resolution::Backoff { attempt, after, .. } => Status::Backoff(DoBackoff {
                attempt: *attempt,
                backoff_duration: Some(wire(*after)),
                original_schedule_time: self.original_schedule_time.map(Time::timestamp),
            }),
        };
        let result = Some(ActivityResolution { status: Some(status) });
        Variant::ResolveActivity(ResolveActivity { seq: self.seq, result, is_local: true })
    }

    /// The marker command that records it.
    pub fn marker(
        &self,
        resolution: Resolution,
        complete_time: Option<Time>,
        activation_index: u64,
    ) -> RecordMarkerCommandAttributes {
        let (attempt, result, failure, backoff) = match resolution {
            Resolution::Completed(result) => (self.attempt, result, None, None),
            Resolution::Failed(failure) => (self.attempt, None, Some(failure.unwrap_or_default()), None),
            Resolution::Cancelled(failure) => (self.attempt, None, Some(failure.unwrap_or_default()), None),
            Resolution::Backoff { attempt, after, failure } => (attempt - 1, None, failure, Some(after)),
        };
        let data = LocalData {
            seq: self.seq,
            attempt,
            activity_id: String::from_utf8_lossy(self.names.id()).into_owned(),
            activity_type: String::from_utf8_lossy(self.names.kind()).into_owned(),
            complete_time: complete_time.map(Into::into),
            backoff: backoff.map(Into::into),
            original_schedule_time: self.original_schedule_time.map(Into::into),
            activation_index: Some(activation_index),
        };
        let input = self.command.include_arguments_in_marker.then(|| self.command.arguments.clone());
        marker::local(&data, result, failure, input)
    }

    /// What a marker says of how it ended.
    pub fn recorded(&mut self, marker: &LocalMarker) -> Resolution {
        if let Some(time) = marker.data.original_schedule_time {
            self.original_schedule_time = Some(time.into());
        }
        if let Some(after) = marker.data.backoff {
            let attempt = marker.data.attempt.saturating_add(1);
            return Resolution::Backoff { attempt, after: after.into(), failure: marker.failure.clone() };
        }
        let Some(failure) = marker.failure.clone() else {
            return Resolution::Completed(marker.result.clone());
        };
        let decoded = Failure::decode(failure.clone()).unwrap_or_default();
        if matches!(decoded.failure_info, Some(FailureInfo::CanceledFailureInfo(_))) {
            return Resolution::Cancelled(Some(failure));
        }
        Resolution::Failed(Some(failure))
    }
}
