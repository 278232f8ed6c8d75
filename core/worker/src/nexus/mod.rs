//! The half of a worker that runs Nexus tasks: one loop that owns the pure table, makes its calls and hands tasks to
//! the language.

mod json;
pub(crate) mod older;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{Code, Error};
use outlast_machine::time::Time;
use outlast_proto::coresdk::nexus::{NexusTask, nexus_task::Variant, nexus_task_completion::Status};
use outlast_proto::temporal::api::nexus::v1::{Response, request, response};
use outlast_proto::temporal::api::workflowservice::v1::PollNexusTaskQueueResponse;
use tokio::sync::{mpsc, oneshot};

pub(crate) use table::Report;

use crate::calls::{Broken, Calls};
use crate::clock::Clock;
use crate::counts::Counts;
use crate::handout::Handout;
use crate::permits::Permit;
use crate::recent::Of;
use crate::remote::Remote;
use crate::slots::SlotUse;
use crate::telemetry::WorkerMetrics;

/// The header that says how long the caller waits.
const TIMEOUT_HEADER: &str = "request-timeout";

/// Something for the loop to take in.
pub(crate) enum Arrival {
    /// A task that was polled.
    Task(Box<PollNexusTaskQueueResponse>, Permit),
    /// The language is done with a task.
    Completed(Bytes, Box<Status>),
    /// The worker ends: the grace begins.
    ShutDown(Option<Duration>),
    /// Say so when nothing is held any more.
    WhenIdle(oneshot::Sender<()>),
}

struct Held {
    _permit: Permit,
    since: Time,
    wanted: Time,
}

struct Loop {
    remote: Arc<Remote>,
    tasks: Arc<Handout<NexusTask>>,
    table: table::Table,
    held: BTreeMap<Bytes, Held>,
    metrics: Arc<WorkerMetrics>,
    counts: Arc<Counts>,
    calls: Calls<(Bytes, Result<(), Error>)>,
    idle: Option<oneshot::Sender<()>>,
}

/// Runs until the other side of the inbox is gone.
pub(crate) async fn run(
    clock: Clock,
    remote: Arc<Remote>,
    tasks: Arc<Handout<NexusTask>>,
    metrics: Arc<WorkerMetrics>,
    counts: Arc<Counts>,
    mut inbox: mpsc::UnboundedReceiver<Arrival>,
) {
    let (table, calls) = (table::Table::default(), Calls::new());
    let mut it = Loop { remote, tasks, table, held: BTreeMap::new(), metrics, counts, calls, idle: None };
    loop {
        it.act();
        tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => it.take(clock.now(), arrival),
                None => return,
            },
            done = it.calls.next() => it.done(clock.now(), done),
            () = clock.until(it.table.deadline()) => it.table.handle(clock.now(), table::Input::Tick),
        }
    }
}

impl Loop {
    fn take(&mut self, now: Time, arrival: Arrival) {
        match arrival {
            Arrival::Task(task, permit) => self.start(now, *task, permit),
            Arrival::Completed(token, status) => {
                self.measure(now, &token, &status);
                self.counts.recent.told(now, Of::Waiting);
                self.table.handle(now, table::Input::Completed(token, status));
            }
            Arrival::ShutDown(grace) => self.table.handle(now, table::Input::ShutDown(grace)),
            Arrival::WhenIdle(tell) => self.idle = Some(tell),
        }
    }

    fn done(&mut self, now: Time, done: Result<(Bytes, Result<(), Error>), Broken>) {
        match done {
            Ok((token, result)) => {
                match result {
                    Ok(()) => {}
                    Err(error) if error.code == Code::NotFound => {
                        tracing::warn!(%error, "a Nexus task was over before its answer came");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the answer of a Nexus task did not reach the server")
                    }
                }
                self.table.handle(now, table::Input::Reported(token));
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    fn act(&mut self) {
        while let Some(output) = self.table.poll() {
            match output {
                table::Output::Cancel(cancel) => {
                    let token = cancel.task_token.clone();
                    let variant = Some(Variant::CancelTask(cancel));
                    self.tasks.push_cancel(token, NexusTask { variant, ..Default::default() });
                }
                table::Output::Report(token, report) => {
                    let remote = self.remote.clone();
                    self.calls.start(async move {
                        let result = remote.report_nexus(token.clone(), report).await;
                        (token, result)
                    });
                }
                table::Output::Done(token) => drop(self.held.remove(&token)),
            }
        }
        if self.table.is_empty()
            && let Some(tell) = self.idle.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = tell.send(());
        }
    }

    fn measure(&self, now: Time, token: &Bytes, status: &Status) {
        let Some(held) = self.held.get(token) else { return };
        self.metrics.nexus.execution.observe(now.since(held.since));
        self.metrics.nexus.end_to_end.observe(now.since(held.wanted));
        let reason = match status {
            Status::Completed(response) => operation_failed(response).then(|| "operation_failed".to_owned()),
            Status::AckCancel(_) => Some("timeout".to_owned()),
            #[expect(deprecated, reason = "languages that answer in the older form")]
            Status::Error(error) => Some(format!("handler_error_{}", error.error_type)),
            Status::Failure(_) => Some("handler_error".to_owned()),
        };
        match reason {
            Some(reason) => {
                self.metrics.nexus.failed.of(&reason).add(1);
                self.counts.nexus_tasks.failed();
            }
            None => self.counts.nexus_tasks.processed(),
        }
    }

    fn start(&mut self, now: Time, mut task: PollNexusTaskQueueResponse, mut permit: Permit) {
        let token = task.task_token.clone();
        let mut request = task.request.take().unwrap_or_default();
        request.header = std::mem::take(&mut request.header)
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let timeout = request.header.get(TIMEOUT_HEADER).and_then(|text| span(text));
        let deadline = timeout.map(|timeout| now + timeout);
        let kind = match &request.variant {
            Some(request::Variant::StartOperation(_)) => table::Kind::Start,
            Some(request::Variant::CancelOperation(_)) => table::Kind::Cancel,
            None => table::Kind::Unknown,
        };
        permit.mark_used(slot_use(request.variant.as_ref()));
        let wanted = request.scheduled_time.map_or(now, Time::from);
        self.metrics.nexus.schedule_to_start.observe(now.since(wanted));
        self.held.insert(token.clone(), Held { _permit: permit, since: now, wanted });
        let started = table::Started {
            token: token.clone(),
            kind,
            deadline,
            poller_group: task.poller_group_id.clone(),
            failures: request.capabilities.is_some_and(|c| c.temporal_failure_responses),
        };
        let endpoint = request.endpoint.clone();
        task.request = Some(request);
        let request_deadline = deadline.map(Time::timestamp);
        self.tasks.push(token, NexusTask { request_deadline, endpoint, variant: Some(Variant::Task(task)) });
        self.table.handle(now, table::Input::Started(started));
    }
}

fn operation_failed(response: &Response) -> bool {
    use outlast_proto::temporal::api::nexus::v1::start_operation_response::Variant as Started;
    match &response.variant {
        Some(response::Variant::StartOperation(start)) => match &start.variant {
            #[expect(deprecated, reason = "languages that answer in the older form")]
            Some(Started::OperationError(_)) => true,
            Some(Started::Failure(_)) => true,
            Some(Started::SyncSuccess(_) | Started::AsyncSuccess(_)) | None => false,
        },
        Some(response::Variant::CancelOperation(_)) | None => false,
    }
}

fn slot_use(request: Option<&request::Variant>) -> SlotUse {
    let (service, operation) = match request {
        Some(request::Variant::StartOperation(start)) => (start.service.clone(), start.operation.clone()),
        Some(request::Variant::CancelOperation(cancel)) => (cancel.service.clone(), cancel.operation.clone()),
        None => Default::default(),
    };
    SlotUse::Nexus { service, operation }
}

/// A duration in the words of Nexus: a number and one of `ms`, `s`, `m`, `h`; several of them add up. What is left of a time
/// that is over may be less than nothing.
fn span(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(beyond) = text.strip_prefix('-') {
        return span(beyond).map(|_| Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_ends = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_ends);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_callers_write_them() {
        assert_eq!(span("10s"), Some(Duration::from_secs(10)));
        assert_eq!(span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(span("1.5m"), Some(Duration::from_secs(90)));
        assert_eq!(span("1h2m3s"), Some(Duration::from_secs(3723)));
        assert_eq!(span("9.999s"), Some(Duration::from_millis(9999)));
    }

    #[test]
    fn a_time_that_is_over_is_no_time() {
        for text in ["0s", "-3s", "-153.872µs"] {
            assert_eq!(span(text), Some(Duration::ZERO), "{text}");
        }
    }

    #[test]
    fn a_timeout_that_says_nothing_is_none() {
        for text in ["", "-", "soon", "10", "s", "-soon", "1 s", "3w", "1e400s"] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
