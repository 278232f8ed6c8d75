//! The Nexus tasks that the language holds, as a pure state machine: deadlines, cancellation, the form of answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use outlast_machine::time::Time;
use outlast_proto::coresdk::nexus::nexus_task_completion::Status;
use outlast_proto::coresdk::nexus::{CancelNexusTask, NexusTaskCancelReason};
use outlast_proto::temporal::api::failure::v1::Failure;
use outlast_proto::temporal::api::nexus::v1::{HandlerError, Response, response};

use crate::grace::Grace;

/// What a request asks for: its answer must be of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Start,
    Cancel,
    /// A kind that is newer than this code: any answer is passed on.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) token: Bytes,
    pub(crate) kind: Kind,
    pub(crate) deadline: Option<Time>,
    pub(crate) poller_group: String,
    /// The caller understands failures in Temporal's own form; others get the older form.
    pub(crate) failures: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Started(Started),
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
    /// Tell the language. At most once for each task.
    Cancel(CancelNexusTask),
    /// Tell the server; [`Input::Reported`] must follow.
    Report(Bytes, Report),
    /// The task is over here: its slot is free.
    Done(Bytes),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// `older`: failures take the older form when they are sent.
    Completed {
        response: Box<Response>,
        poller_group: String,
        older: bool,
    },
    Error {
        error: Box<HandlerError>,
        poller_group: String,
    },
    Failure {
        failure: Box<Failure>,
        poller_group: String,
        older: bool,
    },
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    deadline: Option<Time>,
    cancelled: bool,
    reporting: bool,
    poller_group: String,
    failures: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<Bytes, Entry>,
    timers: BTreeSet<(Time, Bytes)>,
    grace: Grace<Time>,
    out: VecDeque<Output>,
}

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at).into_iter().chain(self.grace.deadline()).min()
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Started(started) => self.started(started),
            Input::Completed(token, status) => self.completed(token, *status),
            Input::Reported(token) => self.remove(token),
            Input::ShutDown(grace) => self.grace = Grace::until(grace.map(|grace| now + grace)),
            Input::Tick => self.tick(now),
        }
    }

    fn started(&mut self, started: Started) {
        let Started { token, kind, deadline, poller_group, failures } = started;
        if let Some(at) = deadline {
            self.timers.insert((at, token.clone()));
        }
        let entry = Entry { kind, deadline, cancelled: false, reporting: false, poller_group, failures };
        self.entries.insert(token.clone(), entry);
        if self.grace.is_over() {
            self.cancel(token, NexusTaskCancelReason::WorkerShutdown);
        }
    }

    fn completed(&mut self, token: Bytes, status: Status) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        if entry.reporting {
            return;
        }
        let poller_group = std::mem::take(&mut entry.poller_group);
        let report = match status {
            Status::AckCancel(_) => return self.remove(token),
            Status::Completed(response) if entry.kind.fits(&response) => {
                Report::Completed { response: Box::new(response), poller_group, older: !entry.failures }
            }
            Status::Completed(_) => Report::Error { error: Box::new(wrong_kind(entry.kind)), poller_group },
            #[expect(deprecated, reason = "languages that answer in the older form")]
            Status::Error(error) => Report::Error { error: Box::new(error), poller_group },
            Status::Failure(failure) => {
                Report::Failure { failure: Box::new(failure), poller_group, older: !entry.failures }
            }
        };
        entry.reporting = true;
        if let Some(at) = entry.deadline.take() {
            self.timers.remove(&(at, token.clone()));
        }
        self.out.push_back(Output::Report(token, report));
    }

    fn tick(&mut self, now: Time) {
        if self.grace.ends(now) {
            let tokens: Vec<Bytes> = self.entries.keys().cloned().collect();
            for token in tokens {
                self.cancel(token, NexusTaskCancelReason::WorkerShutdown);
            }
        }
        while let Some((at, token)) = self.timers.first().cloned()
            && at <= now
        {
            self.timers.pop_first();
            self.cancel(token, NexusTaskCancelReason::TimedOut);
        }
    }

    fn cancel(&mut self, token: Bytes, reason: NexusTaskCancelReason) {
        let Some(entry) = self.entries.get_mut(&token) else { return };
        if !entry.reporting && !std::mem::replace(&mut entry.cancelled, true) {
            let cancel = CancelNexusTask { task_token: token, reason: reason.into() };
            self.out.push_back(Output::Cancel(cancel));
        }
    }

    fn remove(&mut self, token: Bytes) {
        if let Some(entry) = self.entries.remove(&token) {
            if let Some(at) = entry.deadline {
                self.timers.remove(&(at, token.clone()));
            }
            self.out.push_back(Output::Done(token));
        }
    }
}

impl Kind {
    fn fits(self, response: &Response) -> bool {
        match (self, &response.variant) {
            (Kind::Start, Some(response::Variant::StartOperation(_)))
            | (Kind::Cancel, Some(response::Variant::CancelOperation(_)))
            | (Kind::Unknown, _) => true,
            (Kind::Start | Kind::Cancel, _) => false,
        }
    }
}

fn wrong_kind(kind: Kind) -> HandlerError {
    let failure = outlast_proto::temporal::api::nexus::v1::Failure {
        message: format!("the handler's answer does not fit a request of kind {kind:?}"),
        ..Default::default()
    };
    HandlerError { error_type: "INTERNAL".into(), failure: Some(failure), ..Default::default() }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
