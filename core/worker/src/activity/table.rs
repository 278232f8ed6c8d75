//! The activities that this worker runs for the server, as a pure state machine: heartbeats, timeouts, cancellation.
//!
//! Driven like everything pure here: `handle(now, input)`, drain `poll()`, wait for an arrival or `deadline()`.
//! It knows nothing of slots, RPCs or the queue to the language.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_proto::coresdk::activity_result::activity_execution_result::Status;
use outlast_proto::coresdk::activity_task::{ActivityCancelReason, ActivityCancellationDetails, Cancel};
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};

use crate::delivery::Refusal;
use crate::grace::Grace;
use crate::throttle::{Ending, HeartbeatThrottle, heartbeat_interval};

/// An activity was handed to the language.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) token: Bytes,
    pub(crate) start_to_close: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
}

/// What the server answered to a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BeatReply {
    pub(crate) not_found: bool,
    pub(crate) cancel_requested: bool,
    pub(crate) paused: bool,
    pub(crate) reset: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Started(Started),
    /// The language says that it is alive.
    Beat(Bytes, Vec<Payload>),
    /// The answer to [`Output::Beat`].
    BeatTaken(Bytes, BeatReply),
    /// The same: the details of [`Output::Beat`] will never be taken.
    BeatRefused(Bytes, Refusal),
    /// The language is done with it.
    Completed(Bytes, Box<Status>),
    /// [`Output::Report`] was taken, or given up.
    Reported(Bytes),
    /// The worker shuts down: what still runs after the grace is cancelled. Without one nothing is.
    ShutDown(Option<Duration>),
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Tell the language. At most once for each activity.
    Cancel(Bytes, Cancel),
    /// Tell the server that the activity is alive; [`Input::BeatTaken`] or [`Input::BeatRefused`] must follow.
    Beat(Bytes, Vec<Payload>),
    /// Tell the server how it went; [`Input::Reported`] must follow.
    Report(Bytes, Report),
    /// The activity is over here: its slot is free.
    Done(Bytes),
}

/// How an activity went, for the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    Completed(Option<Payload>),
    Failed { failure: Option<Box<Failure>>, cause: i32, details: Option<Vec<Payload>> },
    Cancelled(Option<Payloads>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Heartbeats go to the server at least this often, if the language makes them.
    pub(crate) heartbeat_max: Duration,
    /// The same for activities without a heartbeat timeout.
    pub(crate) heartbeat_default: Duration,
    /// Given on top of each timeout, since the server decides first.
    pub(crate) buffer: Duration,
}

#[derive(Debug)]
enum Phase {
    Running,
    /// The server has forgotten it, or knows how it ended; what the language will say is not sent.
    Gone,
    /// That its heartbeat was refused is on its way to the server, while the language still runs it.
    Refused,
    /// The last heartbeat is on its way, the report follows.
    Flushing(Report),
    Reporting,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    cancelled: Option<ActivityCancelReason>,
    throttle: HeartbeatThrottle<Vec<Payload>>,
    last_details: Option<Vec<Payload>>,
    close_by: Option<Instant>,
    heartbeat: Option<Duration>,
    beat_by: Option<Instant>,
    armed: Option<Instant>,
}

impl Entry {
    /// A heartbeat goes out. What only the language knows of does not count: without word from here the server gives the
    /// activity to another worker, and this attempt shall not run on beside that one.
    fn sent(&mut self, now: Instant, token: &Bytes, details: Vec<Payload>, buffer: Duration) -> Output {
        self.beat_by = self.heartbeat.and_then(|d| after(now, d, buffer));
        Output::Beat(token.clone(), details)
    }
}

/// `None`: so far away that it never comes.
fn after(now: Instant, timeout: Duration, buffer: Duration) -> Option<Instant> {
    now.checked_add(timeout.saturating_add(buffer))
}

/// All activities that the language holds.
#[derive(Debug)]
pub(crate) struct Table {
    limits: Limits,
    entries: BTreeMap<Bytes, Entry>,
    timers: BTreeSet<(Instant, Bytes)>,
    grace: Grace<Instant>,
    out: VecDeque<Output>,
}

impl Table {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            grace: Grace::default(),
            out: VecDeque::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn holds(&self, token: &Bytes) -> bool {
        self.entries.contains_key(token)
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.grace.deadline()).min()
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Started(started) => self.started(now, started),
            Input::Beat(token, details) => self.beat(now, token, details),
            Input::BeatTaken(token, reply) => self.beat_taken(now, token, reply),
            Input::BeatRefused(token, refusal) => self.beat_refused(now, token, &refusal),
            Input::Completed(token, status) => self.completed(token, *status),
            Input::Reported(token) => self.reported(token),
            Input::ShutDown(grace) => {
                self.grace = Grace::until(grace.and_then(|grace| now.checked_add(grace)));
            }
            Input::Tick => self.tick(now),
        }
    }

    fn started(&mut self, now: Instant, started: Started) {
        let Started { token, start_to_close, heartbeat } = started;
        let Limits { heartbeat_max, heartbeat_default, buffer } = self.limits;
        let interval = heartbeat_interval(heartbeat, heartbeat_default, heartbeat_max);
        let entry = Entry {
            phase: Phase::Running,
            cancelled: None,
            throttle: HeartbeatThrottle::new(interval),
            last_details: None,
            close_by: start_to_close.and_then(|d| after(now, d, buffer)),
            heartbeat,
            beat_by: heartbeat.and_then(|d| after(now, d, buffer)),
            armed: None,
        };
        self.entries.insert(token.clone(), entry);
        if self.grace.is_over() {
            self.cancel(&token, ActivityCancelReason::WorkerShutdown, BeatReply::default());
        }
        self.arm(&token);
    }

    fn beat(&mut self, now: Instant, token: Bytes, details: Vec<Payload>) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        match entry.phase {
            Phase::Running => {}
            Phase::Gone | Phase::Refused | Phase::Flushing(_) | Phase::Reporting => return,
        }
        entry.last_details = Some(details.clone());
        if let Some(details) = entry.throttle.record(details, now) {
            self.out.push_back(entry.sent(now, &token, details, self.limits.buffer));
        }
        self.arm(&token);
    }

    fn beat_taken(&mut self, now: Instant, token: Bytes, reply: BeatReply) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        let next = entry.throttle.answered(now);
        match std::mem::replace(&mut entry.phase, Phase::Reporting) {
            Phase::Running if reply.not_found => {
                entry.phase = Phase::Gone;
                self.cancel(&token, ActivityCancelReason::NotFound, reply);
            }
            Phase::Running => {
                entry.phase = Phase::Running;
                let reason = match reply {
                    BeatReply { cancel_requested: true, .. } => Some(ActivityCancelReason::Cancelled),
                    BeatReply { reset: true, .. } => Some(ActivityCancelReason::Reset),
                    BeatReply { paused: true, .. } => Some(ActivityCancelReason::Paused),
                    _ => None,
                };
                if let Some(reason) = reason {
                    self.cancel(&token, reason, reply);
                }
                if let Some(details) = next
                    && let Some(entry) = self.entries.get_mut(&token)
                {
                    self.out.push_back(entry.sent(now, &token, details, self.limits.buffer));
                }
            }
            Phase::Flushing(_) if reply.not_found => return self.remove(token),
            Phase::Flushing(report) => self.out.push_back(Output::Report(token.clone(), report)),
            Phase::Gone => entry.phase = Phase::Gone,
            Phase::Refused => entry.phase = Phase::Refused,
            Phase::Reporting => {}
        }
        self.arm(&token);
    }

    /// Ends the attempt: without a heartbeat it would time out. What the code does from then on is lost, so it is told to
    /// stop. An attempt that is cancelled is so all the same.
    fn beat_refused(&mut self, now: Instant, token: Bytes, refusal: &Refusal) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        if !matches!(entry.phase, Phase::Running) {
            return self.beat_taken(now, token, BeatReply::default());
        }
        // What was to be sent after this one is of no use any more.
        let _ = entry.throttle.answered(now);
        entry.phase = Phase::Refused;
        let (failure, cause) = refusal.of_heartbeat();
        let report = Report::Failed { failure: Some(Box::new(failure)), cause, details: None };
        self.out.push_back(Output::Report(token.clone(), report));
        self.cancel(
            &token,
            ActivityCancelReason::Cancelled,
            BeatReply { cancel_requested: true, ..Default::default() },
        );
        self.arm(&token);
    }

    fn reported(&mut self, token: Bytes) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        match entry.phase {
            Phase::Refused => entry.phase = Phase::Gone,
            Phase::Running | Phase::Gone | Phase::Flushing(_) | Phase::Reporting => self.remove(token),
        }
    }

    fn completed(&mut self, token: Bytes, status: Status) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        match entry.phase {
            Phase::Running => {}
            Phase::Gone => return self.remove(token),
            Phase::Refused => {
                entry.phase = Phase::Reporting;
                return;
            }
            Phase::Flushing(_) | Phase::Reporting => return,
        }
        let report = match status {
            Status::WillCompleteAsync(_) => return self.remove(token),
            Status::Completed(success) => Report::Completed(success.result),
            Status::Failed(failed) => Report::Failed {
                failure: failed.failure.map(Box::new),
                cause: failed.cause,
                details: entry.last_details.take(),
            },
            Status::Cancelled(_) if entry.cancelled == Some(ActivityCancelReason::WorkerShutdown) => {
                Report::Failed {
                    failure: Some(Box::new(stopped())),
                    cause: 0,
                    details: entry.last_details.take(),
                }
            }
            Status::Cancelled(cancellation) => {
                let report = Report::Cancelled(cancellation.failure.and_then(details));
                if let Some(details) = entry.throttle.end(Ending::Cancelled) {
                    entry.phase = Phase::Flushing(report);
                    self.out.push_back(Output::Beat(token.clone(), details));
                    return self.arm(&token);
                }
                report
            }
        };
        entry.phase = Phase::Reporting;
        self.out.push_back(Output::Report(token.clone(), report));
        self.arm(&token);
    }

    fn tick(&mut self, now: Instant) {
        if self.grace.ends(now) {
            let running: Vec<Bytes> = self.entries.keys().cloned().collect();
            for token in running {
                self.cancel(&token, ActivityCancelReason::WorkerShutdown, BeatReply::default());
                self.arm(&token);
            }
        }
        while let Some((at, token)) = self.timers.first().cloned()
            && at <= now
        {
            self.due(now, &token);
            self.arm(&token);
        }
    }

    fn due(&mut self, now: Instant, token: &Bytes) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        let late = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        if late(entry.close_by) || late(entry.beat_by) {
            (entry.close_by, entry.beat_by, entry.heartbeat) = (None, None, None);
            self.cancel(token, ActivityCancelReason::TimedOut, BeatReply::default());
        } else if let Some(details) = entry.throttle.tick(now) {
            self.out.push_back(entry.sent(now, token, details, self.limits.buffer));
        }
    }

    fn cancel(&mut self, token: &Bytes, reason: ActivityCancelReason, reply: BeatReply) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        let waits = matches!(entry.phase, Phase::Running | Phase::Gone | Phase::Refused);
        if !waits || entry.cancelled.is_some() {
            return;
        }
        entry.cancelled = Some(reason);
        let details = ActivityCancellationDetails {
            is_not_found: reason == ActivityCancelReason::NotFound,
            is_cancelled: reply.cancel_requested,
            is_paused: reply.paused,
            is_timed_out: reason == ActivityCancelReason::TimedOut,
            is_worker_shutdown: reason == ActivityCancelReason::WorkerShutdown,
            is_reset: reply.reset,
        };
        self.out.push_back(Output::Cancel(
            token.clone(),
            Cancel { reason: reason.into(), details: Some(details) },
        ));
    }

    /// Puts the next time at which this activity needs attention among the timers.
    fn arm(&mut self, token: &Bytes) {
        let Some(entry) = self.entries.get_mut(token) else { return };
        let next = match entry.phase {
            Phase::Running => {
                [entry.close_by, entry.beat_by, entry.throttle.deadline()].into_iter().flatten().min()
            }
            Phase::Gone | Phase::Refused | Phase::Flushing(_) | Phase::Reporting => None,
        };
        if entry.armed == next {
            return;
        }
        if let Some(at) = std::mem::replace(&mut entry.armed, next) {
            self.timers.remove(&(at, token.clone()));
        }
        if let Some(at) = next {
            self.timers.insert((at, token.clone()));
        }
    }

    fn remove(&mut self, token: Bytes) {
        if let Some(entry) = self.entries.remove(&token) {
            if let Some(at) = entry.armed {
                self.timers.remove(&(at, token.clone()));
            }
            self.out.push_back(Output::Done(token));
        }
    }
}

/// The server would take `Canceled` as the workflow's own wish; an activity that its worker stopped shall be retried.
fn stopped() -> Failure {
    Failure {
        message: "Worker is shutting down and this activity did not complete in time".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
            r#type: "WorkerShutdown".into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn details(failure: Failure) -> Option<Payloads> {
    match failure.failure_info {
        Some(FailureInfo::CanceledFailureInfo(info)) => info.details,
        Some(_) | None => None,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
