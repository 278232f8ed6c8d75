//! The half of a worker that runs workflows: runs are divided among shards by their id, each shard is owned by one loop.

mod draining;
mod held;
mod shard;
mod slow;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use outlast_machine::io::{Eviction, Input, LocalReport, RunId};
use outlast_proto::lens::{api, lang};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::activity;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::handout::Handout;
use crate::permits::{Permit, Permits};
use crate::remote::Remote;
use crate::telemetry::WorkerMetrics;
use crate::worker::NamespaceFacts;

/// Something for a shard's loop to take in.
pub(crate) enum Arrival {
    /// A task that was polled.
    Task(Box<api::PollWorkflowTaskQueueResponse>, Permit),
    /// Anything that the machine takes as it is.
    Input(Input),
    /// The worker ends: runs are not expected back here.
    Ending,
    /// The worker waits for this stage of the end. The answer, once it is over: how many runs were dropped in it, because the
    /// language did not let them go.
    Drain(Stage, oneshot::Sender<usize>),
}

/// What all shards of a worker share.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) remote: Arc<Remote>,
    pub(crate) activations: Arc<Handout<lang::WorkflowActivation>>,
    /// Bounds how many histories are fetched at a time.
    pub(crate) fetches: Arc<Semaphore>,
    pub(crate) activities: Option<mpsc::UnboundedSender<activity::Arrival>>,
    pub(crate) eager: Option<Eager>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) namespace: Arc<Mutex<NamespaceFacts>>,
}

/// Activities that a completion may claim at once.
pub(crate) struct Eager {
    pub(crate) permits: Permits,
    pub(crate) task_queue: Bytes,
    pub(crate) max: usize,
}

/// The ways into the shards. What is in their inboxes is bounded by slots, and by what the language holds.
#[derive(Clone)]
pub(crate) struct Shards {
    inboxes: Arc<[mpsc::UnboundedSender<Arrival>]>,
}

impl Shards {
    /// Channels for that many shards, and their other ends.
    pub(crate) fn channels(count: usize) -> (Self, Vec<mpsc::UnboundedReceiver<Arrival>>) {
        let (inboxes, ends): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        (Self { inboxes: inboxes.into() }, ends)
    }

    /// `false`: the loop has ended.
    pub(crate) fn task(&self, task: Box<api::PollWorkflowTaskQueueResponse>, permit: Permit) -> bool {
        let run = task.workflow_execution.as_ref().map_or("", |execution| &execution.run_id).to_owned();
        self.to(run.as_bytes(), Arrival::Task(task, permit))
    }

    pub(crate) fn completed(&self, completion: lang::WorkflowActivationCompletion) -> bool {
        let run = completion.run_id.clone();
        self.to(&run, Arrival::Input(Input::Completed(completion)))
    }

    pub(crate) fn local(&self, run: RunId, report: LocalReport) -> bool {
        self.to(&run.bytes(), Arrival::Input(Input::Local(run, report)))
    }

    pub(crate) fn evict(&self, run: RunId, eviction: Eviction) -> bool {
        self.to(&run.bytes(), Arrival::Input(Input::Evict(run, eviction)))
    }

    /// The worker ends, and drains soon.
    pub(crate) fn ending(&self) {
        for inbox in self.inboxes.iter() {
            // A shard that has ended holds nothing.
            let _ = inbox.send(Arrival::Ending);
        }
    }

    /// Returns when no task is held any more; with how many runs that did not leave were dropped to that end.
    pub(crate) async fn finish(&self) -> usize {
        self.drain(Stage::Tasks).await
    }

    /// Returns when the runs have left the cache: all, or those that were told to before. With how many did not, and were dropped.
    pub(crate) async fn leave(&self, all: bool) -> usize {
        self.drain(Stage::Runs { all }).await
    }

    async fn drain(&self, stage: Stage) -> usize {
        let waits: Vec<_> = self
            .inboxes
            .iter()
            .filter_map(|inbox| {
                let (over, waits) = oneshot::channel();
                inbox.send(Arrival::Drain(stage, over)).ok().map(|()| waits)
            })
            .collect();
        let mut dropped = 0;
        for wait in waits {
            // A shard that has ended holds nothing.
            dropped += wait.await.unwrap_or(0);
        }
        dropped
    }

    fn to(&self, run: &[u8], arrival: Arrival) -> bool {
        let at = (fnv(run) % self.inboxes.len() as u64) as usize;
        self.inboxes[at].send(arrival).is_ok()
    }
}

/// FNV-1a: short ids, spread well enough over a handful of shards, the same in every process.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

use draining::Stage;
pub(crate) use draining::{EVICTIONS_MAX, EVICTIONS_PATIENCE};
pub(crate) use held::warn_of;
pub(crate) use shard::run;
