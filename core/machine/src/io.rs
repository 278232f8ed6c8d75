//! What goes into a shard and what comes out: plain values, no behaviour.
//!
//! Messages are the lens types of [`outlast_proto::lens`]; payloads in them are closed slices of the frame they came in.

use std::time::Duration;

use bytes::Bytes;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason as Reason;
use outlast_proto::lens::{api, lang};

use crate::time::Time;

/// A run's id. Cloning it shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Bytes);

impl RunId {
    /// The id as it is on the wire.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl From<Bytes> for RunId {
    fn from(id: Bytes) -> Self {
        Self(id)
    }
}

impl From<&str> for RunId {
    fn from(id: &str) -> Self {
        Self(Bytes::copy_from_slice(id.as_bytes()))
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Names one task among those its shard holds. The caller chooses it and gets it back in [`Output::Done`],
/// exactly once: that is when the slot permit of the task is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A workflow task as it was polled, or returned with the answer to an earlier one.
#[derive(Clone, Debug)]
pub struct Task {
    /// What [`Output::Done`] will name.
    pub ticket: Ticket,
    /// The server's message. `history` is decoded event by event as it is needed.
    pub poll: api::PollWorkflowTaskQueueResponse,
    /// What the history is shown to: a worker, or a replay of the whole.
    pub source: Source,
}

/// Where a task comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A live server: the history ends with the task that is to be answered.
    Server,
    /// A recorded history: it may end anywhere, and what is left after its last task is shown too. Nothing is answered.
    Replay,
}

/// One more page of a run's history, or of the whole of it.
#[derive(Clone, Debug)]
pub struct Page {
    /// An encoded `temporal.api.history.v1.History`.
    pub history: Bytes,
    /// What fetches the page after it; empty if there is none.
    pub next_page: Bytes,
}

/// Which history to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The run.
    pub run: RunId,
    /// Its workflow's id.
    pub workflow_id: String,
    /// The page; empty: from the first event on.
    pub page: Bytes,
}

/// Why an activation, task or query could not be served, in words for people and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFailed {
    /// The client's error.
    pub message: String,
}

/// How the server took an answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It was taken.
    Accepted {
        /// The next task of the same run, given with the answer. It takes over the ticket of the one before, which is
        /// not done then.
        task: Option<Box<Task>>,
        /// Not zero: a speculative task was dropped, and this event started the last one that counts.
        reset_history_event_id: i64,
    },
    /// `NOT_FOUND`: the task or the run is gone.
    NotFound,
    /// `INVALID_ARGUMENT` "UnhandledCommand": something happened meanwhile, the workflow must see it before it closes.
    UnhandledCommand,
    /// The answer has payloads larger than the namespace accepts; it was not sent.
    PayloadsTooLarge {
        /// Which rule.
        message: String,
    },
    /// The answer was too large for the transport.
    TooLarge {
        /// The client's error.
        message: String,
    },
    /// `INVALID_ARGUMENT`: the server finds something wrong with the answer. It may have failed the task itself, or not.
    Invalid {
        /// What it says.
        message: String,
    },
    /// Anything else, after all retries.
    Failed {
        /// The client's error.
        message: String,
    },
}

/// Something for a shard to take in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A task from the server, or a history to replay.
    Task(Box<Task>),
    /// The answer to [`Output::Fetch`].
    Page(RunId, Result<Page, FetchFailed>),
    /// The language's answer to [`Output::Activate`].
    Completed(lang::WorkflowActivationCompletion),
    /// How a local activity went.
    Local(RunId, LocalReport),
    /// How the server took [`Output::Complete`], [`Output::Fail`] or [`Output::Answer`].
    Reported(RunId, Reply),
    /// The run shall leave the cache. Unknown runs are ignored.
    Evict(RunId, Eviction),
    /// A deadline passed.
    Tick,
}

/// Something for the shell to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Give this to the language; [`Input::Completed`] must follow.
    Activate(lang::WorkflowActivation),
    /// Fetch history; [`Input::Page`] must follow.
    Fetch(Fetch),
    /// Run a local activity; [`Input::Local`] must follow, also after a cancellation.
    StartLocal(RunId, LocalTask),
    /// Cancel a local activity that runs. If none runs under this name, ignore it.
    CancelLocal(RunId, LocalName),
    /// Answer the task; [`Input::Reported`] must follow.
    Complete(RunId, Box<TaskCompletion>),
    /// Fail the task; [`Input::Reported`] must follow.
    Fail(RunId, TaskFailure),
    /// Answer a legacy query; [`Input::Reported`] must follow.
    Answer(RunId, QueryAnswer),
    /// The task is no longer held here, answered or not.
    Done(Ticket),
    /// The run has left the cache.
    Forgotten(RunId, Eviction),
    /// Something worth a line in the log or a count.
    Note(RunId, Note),
}

/// Facts for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A task for a cached run arrived with only what is new.
    StickyHit,
    /// A task arrived with only what is new, but the run was not cached: its whole history is fetched.
    StickyMiss,
    /// A run was evicted to make room.
    ForcedEviction,
    /// A task failed and its failure was not reported: it was not its first attempt, or it is a replay.
    FailureHeldBack {
        /// The attempt of the task.
        attempt: u32,
        /// `temporal.api.enums.v1.WorkflowTaskFailedCause`.
        cause: i32,
        /// What went wrong.
        message: String,
    },
    /// The workflow closed with this command, so long after its start (by the server's clock, to now by the caller's).
    Closed(Closed, Duration),
    /// A first live activation came after this long a replay (from task to activation, in the caller's time).
    Replayed(Duration),
    /// The search attribute that lists patches would have been too large, so it was not written.
    PatchesTooLarge,
}

/// How a workflow closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It returned.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled.
    Canceled,
    /// It went on as a new run.
    ContinuedAsNew,
}

/// Why a run leaves the cache, for the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The reason by number.
    pub reason: Reason,
    /// The reason in words.
    pub message: String,
}

impl Eviction {
    /// Of a run that closed.
    pub(crate) fn closed() -> Self {
        Self { reason: Reason::WorkflowExecutionEnding, message: "The workflow closed".to_owned() }
    }

    /// Of any run where there is no cache.
    pub(crate) fn uncached() -> Self {
        Self { reason: Reason::CacheFull, message: "Workflows are not cached".to_owned() }
    }
}

/// A local activity in one run: its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalName {
    /// The number the language gave it.
    pub seq: u32,
    /// Counts executions under this number (attempts, and reissues after an eviction).
    pub execution: u32,
}

/// One attempt of a local activity.
#[derive(Clone, Debug)]
pub struct LocalTask {
    /// What to report it under.
    pub name: LocalName,
    /// The workflow it belongs to.
    pub workflow_id: String,
    /// The type of that workflow.
    pub workflow_type: Bytes,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the workflow first asked for it.
    pub original_schedule_time: Time,
    /// When this attempt was asked for.
    pub schedule_time: Time,
    /// How long the activity as a whole may take.
    pub schedule_to_close: Option<Duration>,
    /// How long this attempt may wait for a slot.
    pub schedule_to_start: Option<Duration>,
    /// How long this attempt may run: the shell cancels it then and reports [`LocalResult::TimedOut`].
    pub start_to_close: Option<Duration>,
    /// When the activity as a whole is over, whatever it does.
    pub schedule_to_close_deadline: Option<Time>,
    /// When it is tried again, every value of it being one that holds.
    pub retry_policy: Box<api::RetryPolicy>,
    /// What the workflow asked for.
    pub command: Box<lang::ScheduleLocalActivity>,
}

/// How an attempt of a local activity went.
#[derive(Clone, Debug)]
pub struct LocalReport {
    /// Which.
    pub name: LocalName,
    /// How long it ran.
    pub took: Duration,
    /// With which result.
    pub result: LocalResult,
}

/// The result of one attempt of a local activity.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalResult {
    /// It returned: an encoded payload.
    Completed(Option<Bytes>),
    /// It failed: an encoded failure.
    Failed(Option<Bytes>),
    /// It was cancelled: an encoded failure.
    Cancelled(Option<Bytes>),
    /// It ran longer than it may.
    TimedOut(LocalTimeout),
}

/// Which time limit a local activity broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalTimeout {
    /// An attempt ran too long.
    StartToClose,
    /// It waited for a slot too long.
    ScheduleToStart,
    /// It was not done in time.
    ScheduleToClose,
}

/// The answer to a workflow task. The shell adds what it alone knows: identity, sticky queue, eager slots, versions.
#[derive(Clone, Debug)]
pub struct TaskCompletion {
    /// Which task.
    pub ticket: Ticket,
    /// The server's name for it.
    pub token: Bytes,
    /// What the workflow does.
    pub commands: Vec<api::Command>,
    /// Answers and refusals of updates.
    pub messages: Vec<api::Message>,
    /// Answers to queries, by id.
    pub query_results: std::collections::BTreeMap<String, api::WorkflowQueryResult>,
    /// Another task is wanted at once: local activities go on, or answers could not be given with this one.
    pub force_new_task: bool,
    /// Flags first used in this task.
    pub core_flags: Vec<u32>,
    /// The same, of the language.
    pub lang_flags: Vec<u32>,
    /// The name and version of the SDK are not yet in history, or have changed: write them.
    pub write_sdk: bool,
    /// `temporal.api.enums.v1.VersioningBehavior`.
    pub versioning_behavior: i32,
    /// Attempts of local activities that began in a task before, for metering.
    pub nonfirst_local_attempts: u32,
    /// The workflow's type, for metrics.
    pub workflow_type: Bytes,
    /// The workflow closes with it: no further task may follow.
    pub closes: bool,
    /// The run leaves the cache once this is taken, closed or not: its next task is better asked for anew.
    pub leaves: bool,
    /// How large history was when the task started, as it says itself.
    pub history_size_bytes: u64,
}

/// A workflow task that failed.
#[derive(Clone, Debug)]
pub struct TaskFailure {
    /// Which task.
    pub ticket: Ticket,
    /// The server's name for it.
    pub token: Bytes,
    /// `temporal.api.enums.v1.WorkflowTaskFailedCause`.
    pub cause: i32,
    /// An encoded `temporal.api.failure.v1.Failure`.
    pub failure: Bytes,
    /// The workflow's type, for metrics.
    pub workflow_type: Bytes,
    /// How large history was when the task started, as it says itself.
    pub history_size_bytes: u64,
}

/// The answer to a legacy query.
#[derive(Clone, Debug)]
pub struct QueryAnswer {
    /// Which task.
    pub ticket: Ticket,
    /// The server's name for it.
    pub token: Bytes,
    /// The answer, or a failure.
    pub result: QueryResult,
}

/// What a query gave.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryResult {
    /// An encoded payload.
    Answered(Option<Bytes>),
    /// An encoded failure, and `temporal.api.enums.v1.WorkflowTaskFailedCause` (0: none).
    Failed {
        /// An encoded `temporal.api.failure.v1.Failure`.
        failure: Bytes,
        /// What failed, by number.
        cause: i32,
    },
}
