//! The tasks that a shard holds, as the shell sees them: their slots, and what is measured of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outlast_machine::io::{Closed, Note, RunId, TaskCompletion, TaskFailure, Ticket};
use outlast_machine::time::{Time, limit};
use outlast_proto::lens::lang::remove_from_cache::EvictionReason;
use outlast_proto::lens::{api, lang};
use outlast_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;
use outlast_proto::temporal::api::failure::v1::Failure;
use prost::Message;

use super::slow;
use crate::counts::Counts;
use crate::permits::Permit;
use crate::recent::Of;
use crate::shutdown::SETTLING;
use crate::slots::SlotUse;
use crate::telemetry::{WorkerMetrics, WorkflowMetrics};

/// The tasks of one shard.
pub(super) struct Held {
    metrics: Arc<WorkerMetrics>,
    counts: Arc<Counts>,
    tasks: BTreeMap<Ticket, Entry>,
    last: u64,
    /// How many runs this shard had cached when it last said so.
    runs: usize,
}

struct Entry {
    _permit: Permit,
    run: RunId,
    since: Time,
    of_type: Arc<WorkflowMetrics>,
    slow: slow::Facts,
}

impl Held {
    pub(super) fn new(metrics: Arc<WorkerMetrics>, counts: Arc<Counts>) -> Self {
        Self { metrics, counts, tasks: BTreeMap::new(), last: 0, runs: 0 }
    }

    /// A task came with its slot.
    pub(super) fn take(
        &mut self,
        now: Time,
        poll: &api::PollWorkflowTaskQueueResponse,
        mut permit: Permit,
    ) -> Ticket {
        let workflow_type = text(poll.workflow_type.as_ref().map_or(&[][..], |kind| &kind.name));
        let of_type = self.metrics.workflows.of(&workflow_type);
        if let (Some(scheduled), Some(started)) = (poll.scheduled_time, poll.started_time) {
            let waited = Time::from(started).since(Time::from(scheduled));
            self.metrics.workflow_schedule_to_start.observe(waited);
        }
        let is_sticky = permit.wanted().is_sticky;
        let slow = slow::Facts::new(workflow_type.clone(), poll);
        permit.mark_used(SlotUse::Workflow { workflow_type, is_sticky });
        let run = poll.workflow_execution.as_ref().map_or("", |execution| execution.run_id.as_str());
        self.last += 1;
        let ticket = Ticket(self.last);
        self.tasks
            .insert(ticket, Entry { _permit: permit, run: RunId::from(run), since: now, of_type, slow });
        ticket
    }

    /// The next task of a run goes on in the slot of the one before.
    pub(super) fn goes_on(&mut self, now: Time, ticket: Ticket, poll: &api::PollWorkflowTaskQueueResponse) {
        if let Some(entry) = self.tasks.get_mut(&ticket) {
            entry.since = now;
            entry.slow.next(poll);
        }
    }

    pub(super) fn done(&mut self, ticket: Ticket) {
        self.tasks.remove(&ticket);
    }

    /// The language answered an activation. Only what it kept outside of history is of interest here.
    pub(super) fn answered(&mut self, completion: &lang::WorkflowActivationCompletion) {
        if completion.payload_download_metrics.is_none() && completion.payload_upload_metrics.is_none() {
            return;
        }
        let mut entries = self.tasks.values_mut();
        if let Some(entry) = entries.find(|entry| entry.run.bytes() == completion.run_id) {
            entry.slow.answered(completion);
        }
    }

    pub(super) fn completes(&self, now: Time, done: &TaskCompletion) {
        if let Some(entry) = self.tasks.get(&done.ticket) {
            let took = now.since(entry.since);
            entry.of_type.task_execution.observe(took);
            entry.slow.ended(&entry.run, took, done.history_size_bytes);
            brings(&entry.run, done).for_each(|of| self.counts.recent.told(now, of));
        }
        self.counts.workflow_tasks.processed();
    }

    /// The workflow closed: nothing comes of what was told for it.
    pub(super) fn closed(&self, run: &RunId) {
        self.counts.recent.closed(&run.bytes());
    }

    pub(super) fn fails(&self, now: Time, run: &RunId, failed: &TaskFailure) {
        self.counts.recent.told(now, Of::Run(run.bytes()));
        // Its details may be private: they are not for a log.
        let failure = Failure::decode(&*failed.failure).unwrap_or_default();
        warn_of(run, format!("{}\n{}", failure.message, failure.stack_trace).trim_end());
        if let Some(entry) = self.tasks.get(&failed.ticket) {
            entry.slow.ended(run, now.since(entry.since), failed.history_size_bytes);
        }
        self.failed(Some(&self.metrics.workflows.of(&text(&failed.workflow_type))), failed.cause);
    }

    fn failed(&self, of_type: Option<&Arc<WorkflowMetrics>>, cause: i32) {
        if let Some(of_type) = of_type {
            of_type.task_failed.of(reason(cause)).add(1);
        }
        self.counts.workflow_tasks.failed();
    }

    pub(super) fn note(&self, run: &RunId, note: &Note) {
        let of_type = self.tasks.values().find(|entry| entry.run == *run).map(|entry| &entry.of_type);
        match (note, of_type) {
            (Note::StickyHit, of_type) => {
                if let Some(of_type) = of_type {
                    of_type.sticky_hit.add(1);
                    of_type.task_replay.observe(Duration::ZERO);
                }
                self.counts.sticky_hits.fetch_add(1, Ordering::Relaxed);
            }
            (Note::StickyMiss, _) => {
                self.metrics.cache.miss.add(1);
                self.counts.sticky_misses.fetch_add(1, Ordering::Relaxed);
            }
            (Note::ForcedEviction, _) => self.metrics.cache.forced_eviction.add(1),
            (Note::Replayed(took), Some(of_type)) => of_type.task_replay.observe(*took),
            (Note::Closed(how, took), Some(of_type)) => {
                of_type.end_to_end.observe(*took);
                match how {
                    Closed::Completed => of_type.completed.add(1),
                    Closed::Failed => of_type.failed.add(1),
                    Closed::Canceled => of_type.canceled.add(1),
                    Closed::ContinuedAsNew => of_type.continued_as_new.add(1),
                }
            }
            (Note::FailureHeldBack { attempt, cause, message }, _) => {
                let failure = message;
                tracing::debug!(run_id = %run, attempt, failure, "a workflow task failed again; the server will time it out");
                self.failed(of_type, *cause);
            }
            (Note::PatchesTooLarge, _) => {
                tracing::warn!(run_id = %run, "the search attribute that lists patches would be too large; it was not written");
            }
            (Note::Replayed(_) | Note::Closed(..), None) => {
                tracing::debug!(run_id = %run, ?note, "of a run that holds no task");
            }
        }
    }

    /// A run left the cache. Those that made room were noted already.
    pub(super) fn evicted(&self, reason: EvictionReason) {
        if matches!(reason, EvictionReason::LangFail | EvictionReason::Nondeterminism | EvictionReason::Fatal)
        {
            self.metrics.cache.forced_eviction.add(1);
        }
    }

    /// How many runs are cached now, over all shards.
    pub(super) fn cached(&mut self, runs: usize) {
        if runs == self.runs {
            return;
        }
        let before = std::mem::replace(&mut self.runs, runs);
        let all: &AtomicUsize = &self.counts.cached_runs;
        let total = match runs > before {
            true => all.fetch_add(runs - before, Ordering::Relaxed) + (runs - before),
            false => all.fetch_sub(before - runs, Ordering::Relaxed).saturating_sub(before - runs),
        };
        self.metrics.cache.size.set(total);
    }
}

/// A workflow task failed, live or on replay.
pub(crate) fn warn_of(run: &RunId, failure: &str) {
    tracing::warn!(run_id = %run, failure, "Failing workflow task");
}

/// Timers that fire this soon may bring their task while polls of a worker that ends are still open.
const SOON: Duration = SETTLING;

/// What brings tasks at once. Most of what a workflow says brings none.
fn brings(run: &RunId, done: &TaskCompletion) -> impl Iterator<Item = Of> {
    let own = || Some(Of::Run(run.bytes()));
    use api::command::Attributes as A;
    let commands = done.commands.iter().filter_map(move |command| match command.attributes.as_ref()? {
        A::ScheduleActivityTaskCommandAttributes(_) | A::RequestCancelActivityTaskCommandAttributes(_) => {
            own()
        }
        A::StartTimerCommandAttributes(timer) => {
            let encoded = timer.start_to_fire_timeout.as_deref().unwrap_or_default();
            let time = limit(prost_types::Duration::decode(encoded).ok());
            if time.is_some_and(|time| time <= SOON) { own() } else { None }
        }
        A::ContinueAsNewWorkflowExecutionCommandAttributes(_)
        | A::StartChildWorkflowExecutionCommandAttributes(_)
        | A::ScheduleNexusOperationCommandAttributes(_)
        | A::RequestCancelNexusOperationCommandAttributes(_) => Some(Of::New),
        A::SignalExternalWorkflowExecutionCommandAttributes(_)
        | A::RequestCancelExternalWorkflowExecutionCommandAttributes(_) => Some(Of::Waiting),
        A::CompleteWorkflowExecutionCommandAttributes(_)
        | A::FailWorkflowExecutionCommandAttributes(_)
        | A::CancelWorkflowExecutionCommandAttributes(_)
        | A::CancelTimerCommandAttributes(_)
        | A::RecordMarkerCommandAttributes(_)
        | A::UpsertWorkflowSearchAttributesCommandAttributes(_)
        | A::ProtocolMessageCommandAttributes(_)
        | A::ModifyWorkflowPropertiesCommandAttributes(_) => None,
    });
    let more = if done.force_new_task { own() } else { None };
    more.into_iter().chain(commands)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The cause of a failed task, as the metric says it.
fn reason(cause: i32) -> &'static str {
    const NAMED: [(WorkflowTaskFailedCause, &str); 3] = [
        (WorkflowTaskFailedCause::NonDeterministicError, "NonDeterminismError"),
        (WorkflowTaskFailedCause::GrpcMessageTooLarge, "GrpcMessageTooLarge"),
        (WorkflowTaskFailedCause::PayloadsTooLarge, "PayloadsTooLarge"),
    ];
    let named = NAMED.iter().find(|(named, _)| *named as i32 == cause);
    named.map_or("WorkflowError", |(_, reason)| reason)
}
