//! Local activities as a pure state machine: waiting for a slot, running, timed out, cancelled.
//!
//! Attempts, backoff and markers are the machine's affair; here one attempt is run and reported once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use outlast_machine::io::{LocalName, LocalReport, LocalResult, LocalTask, LocalTimeout, RunId};
use outlast_machine::time::Time;
use outlast_proto::coresdk::activity_result::activity_execution_result::Status;
use outlast_proto::coresdk::activity_task::{ActivityCancelReason, ActivityCancellationDetails, Cancel};
use outlast_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use prost::Message;

use crate::delivery::within_a_page;

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Start(RunId, LocalTask),
    Cancel(RunId, LocalName),
    /// A slot is free: the first that waits takes it.
    Slot,
    /// The language is done with it.
    Completed(Bytes, Box<Status>),
    Tick,
}

#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Give it to the language under this token; it holds the slot from [`Input::Slot`] until [`Output::Done`].
    Give(Bytes, RunId, LocalTask),
    /// Tell the language. At most once for each token.
    Cancel(Bytes, Cancel),
    /// Tell the run's shard.
    Report(RunId, LocalReport),
    /// The language holds it no longer: its slot is free.
    Done(Bytes),
}

type Key = (RunId, LocalName);

#[derive(Debug)]
struct Waiting {
    key: Key,
    task: LocalTask,
    give_up: Option<(Time, LocalTimeout)>,
}

#[derive(Debug)]
struct Running {
    key: Key,
    since: Time,
    give_up: Option<(Time, LocalTimeout)>,
    cancelled: bool,
    /// Its result is known to the machine already; what the language says is dropped.
    reported: bool,
}

/// All local activities of a worker.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    waiting: VecDeque<Waiting>,
    running: BTreeMap<Bytes, Running>,
    tokens: BTreeMap<Key, Bytes>,
    timers: BTreeSet<(Time, Bytes)>,
    last: u64,
    out: VecDeque<Output>,
}

impl Locals {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn holds(&self, token: &Bytes) -> bool {
        self.running.contains_key(token)
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let waiting = self.waiting.iter().filter_map(|w| w.give_up.map(|(at, _)| at)).min();
        let running = self.timers.first().map(|(at, _)| *at);
        waiting.into_iter().chain(running).min()
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Start(run, task) => self.start(now, run, task),
            Input::Cancel(run, name) => self.cancel(now, (run, name)),
            Input::Slot => self.give(now),
            Input::Completed(token, status) => self.completed(now, &token, *status),
            Input::Tick => self.tick(now),
        }
    }

    fn start(&mut self, now: Time, run: RunId, task: LocalTask) {
        let to_start = task.schedule_to_start.map(|d| (now + d, LocalTimeout::ScheduleToStart));
        let to_close = task.schedule_to_close_deadline.map(|at| (at, LocalTimeout::ScheduleToClose));
        let give_up = earlier(to_start, to_close);
        self.waiting.push_back(Waiting { key: (run, task.name), task, give_up });
    }

    fn give(&mut self, now: Time) {
        self.give_up(now);
        let Some(Waiting { key, task, .. }) = self.waiting.pop_front() else { return };
        self.last += 1;
        let token = Bytes::from(format!("outlast-local-{}", self.last));
        let to_close = task.schedule_to_close_deadline.map(|at| (at, LocalTimeout::ScheduleToClose));
        let attempt = task.start_to_close.map(|d| (now + d, LocalTimeout::StartToClose));
        let give_up = earlier(to_close, attempt);
        if let Some((at, _)) = give_up {
            self.timers.insert((at, token.clone()));
        }
        let running = Running { key: key.clone(), since: now, give_up, cancelled: false, reported: false };
        self.running.insert(token.clone(), running);
        self.tokens.insert(key.clone(), token.clone());
        self.out.push_back(Output::Give(token, key.0, task));
    }

    fn cancel(&mut self, now: Time, key: Key) {
        if let Some(at) = self.waiting.iter().position(|w| w.key == key) {
            self.waiting.remove(at);
            let result = LocalResult::Cancelled(None);
            return self.report(key, now, now, result);
        }
        if let Some(token) = self.tokens.get(&key).cloned() {
            self.tell(&token, ActivityCancelReason::Cancelled);
        }
    }

    fn completed(&mut self, now: Time, token: &Bytes, status: Status) {
        let Some(running) = self.running.remove(token) else { return };
        if let Some((at, _)) = running.give_up {
            self.timers.remove(&(at, token.clone()));
        }
        self.tokens.remove(&running.key);
        self.out.push_back(Output::Done(token.clone()));
        if running.reported {
            return;
        }
        let encode = |failure: Option<Failure>| failure.map(|f| within_a_page(f).encode_to_vec().into());
        let result = match status {
            Status::Completed(s) => LocalResult::Completed(s.result.map(|p| p.encode_to_vec().into())),
            Status::Failed(f) => LocalResult::Failed(encode(f.failure)),
            Status::Cancelled(c) => LocalResult::Cancelled(encode(c.failure)),
            Status::WillCompleteAsync(_) => LocalResult::Failed(encode(Some(never_async()))),
        };
        self.report(running.key, running.since, now, result);
    }

    /// What has waited too long is not run any more, even if its slot comes first.
    fn give_up(&mut self, now: Time) {
        let late = |w: &Waiting| w.give_up.is_some_and(|(at, _)| at <= now);
        while let Some(at) = self.waiting.iter().position(late)
            && let Some(Waiting { key, give_up: Some((_, why)), .. }) = self.waiting.remove(at)
        {
            self.report(key, now, now, LocalResult::TimedOut(why));
        }
    }

    fn tick(&mut self, now: Time) {
        self.give_up(now);
        while let Some((at, token)) = self.timers.first().cloned()
            && at <= now
        {
            self.timers.pop_first();
            let Some(running) = self.running.get_mut(&token) else { continue };
            let Some((_, why)) = running.give_up.take() else { continue };
            running.reported = true;
            let (key, since) = (running.key.clone(), running.since);
            self.tokens.remove(&key);
            self.tell(&token, ActivityCancelReason::TimedOut);
            self.report(key, since, now, LocalResult::TimedOut(why));
        }
    }

    fn tell(&mut self, token: &Bytes, reason: ActivityCancelReason) {
        let Some(running) = self.running.get_mut(token) else { return };
        if std::mem::replace(&mut running.cancelled, true) {
            return;
        }
        let details = ActivityCancellationDetails {
            is_cancelled: reason == ActivityCancelReason::Cancelled,
            is_timed_out: reason == ActivityCancelReason::TimedOut,
            ..Default::default()
        };
        let cancel = Cancel { reason: reason.into(), details: Some(details) };
        self.out.push_back(Output::Cancel(token.clone(), cancel));
    }

    fn report(&mut self, (run, name): Key, since: Time, now: Time, result: LocalResult) {
        let report = LocalReport { name, took: now.since(since), result };
        self.out.push_back(Output::Report(run, report));
    }
}

/// The earlier of two limits; the first one if they are equal.
fn earlier(a: Option<(Time, LocalTimeout)>, b: Option<(Time, LocalTimeout)>) -> Option<(Time, LocalTimeout)> {
    match (a, b) {
        (Some(a), Some(b)) if b.0 < a.0 => Some(b),
        (Some(a), _) => Some(a),
        (None, b) => b,
    }
}

fn never_async() -> Failure {
    let info = ApplicationFailureInfo { non_retryable: true, ..Default::default() };
    Failure {
        message: "a local activity cannot be completed asynchronously".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Default::default()
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
