//! One workflow: what its history tells becomes jobs for the language, what the language asks becomes commands. It goes
//! turn by turn: [`begin`](Workflow::begin) shows a turn, [`activation`](Workflow::activation) and
//! [`complete`](Workflow::complete) alternate until nothing is left to tell, then [`settle`](Workflow::settle) compares
//! what was asked with what the turn recorded, or [`answer`](Workflow::answer) hands it out for the server.
//!
//! It does not know of tasks, pages, queries or caches.

mod answer;
mod commands;
mod describe;
mod events;
mod local;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use outlast_proto::lens::lang::workflow_activation_job::Variant;
use outlast_proto::lens::{api, history as h, lang};

use crate::config::Config;
use crate::event::{Event, EventId};
use crate::fault::Fault;
use crate::flags::Flags;
use crate::history::Turn;
use crate::io::{Closed, LocalName, LocalTask, Note};
use crate::jobs::Jobs;
use crate::marker::Marker;
use crate::ops::local::{Local, Resolution};
use crate::ops::{Op, Out, Slab, Then};
use crate::queue::{Ask, Queue};
use crate::ring::Ring;
use crate::time::Time;

/// How a turn is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It was completed: what the code asks for is compared with what it recorded.
    Replay,
    /// It is the open task of a live worker: what the code asks for goes to the server.
    Live,
    /// It is the open end of a recorded history: what the code asks for goes nowhere.
    OpenEnd,
}

/// A workflow and everything it still cares about.
#[derive(Debug)]
pub(crate) struct Workflow {
    run_id: Bytes,
    workflow_id: String,
    pub workflow_type: Bytes,
    ops: Slab,
    timers: Ring,
    activities: Ring,
    locals: Ring,
    children: Ring,
    signals: Ring,
    cancels: Ring,
    nexus: Ring,
    /// From the event that records an op to the op.
    events: Ring,
    updates: BTreeMap<Box<str>, u32>,
    /// Requests of updates that history admitted, by update id, until they are accepted.
    admitted: BTreeMap<Bytes, Bytes>,
    queue: Queue,
    jobs: Jobs,
    /// A mismatch of names that counts only if no task was completed after it, where history lacks the flag for it.
    pub suspect: Option<Fault>,
    mode: Mode,
    flags: Flags,
    clock: Time,
    history_length: EventId,
    task: TaskFacts,
    /// How long the latest scheduled task may take.
    pub task_timeout: Option<std::time::Duration>,
    deployment: Option<Arc<lang::WorkerDeploymentVersion>>,
    /// Of the last completed tasks that say so.
    sdk: Option<Box<Sdk>>,
    patches: Patches,
    inherited: Option<Box<Inherited>>,
    /// Activations given in this turn, as far as they leave a trace in history.
    activations: u64,
    /// Requests in the activation at hand, if it holds nothing but requests for updates: rejected, they leave no trace.
    requests_only: usize,
    /// Markers that this turn recorded.
    markers: Vec<Marker>,
    /// How many of them, from the front, were delivered or passed by.
    markers_delivered: usize,
    /// How many of them, from the front, were compared.
    markers_settled: usize,
    /// Local activities that ended and that the language does not know of yet.
    resolved: Vec<Resolved>,
    locals_out: Vec<LocalOut>,
    local_executions: u32,
    /// Local activities that are to run, run, or wait for their next attempt.
    locals_open: usize,
    /// Local activities that the code abandoned while they ran: they go on by their own rules until the run closes or
    /// leaves the cache. Nobody hears of them, and no task waits for them.
    abandoned: Vec<Local>,
    /// Attempts started in the open task, of activities that began in a task before.
    nonfirst_attempts: u32,
    messages: Vec<api::Message>,
    versioning_behavior: i32,
    /// When the run started.
    pub started: Time,
    closing: Option<Closed>,
    terminal_seen: bool,
    notes: Vec<Note>,
}

/// What the latest started task says.
#[derive(Debug, Default)]
struct TaskFacts {
    history_size_bytes: u64,
    continue_as_new_suggested: bool,
    reasons: Vec<i32>,
    target_changed: bool,
}

/// Patches of this run.
#[derive(Debug, Default)]
struct Patches {
    /// Recorded in history, as far as it was shown.
    recorded: BTreeSet<String>,
    /// Asked for by the code.
    asked: BTreeSet<String>,
}

/// What a continued run takes over. Most runs have nothing of it.
#[derive(Debug, Default)]
struct Inherited {
    memo: Option<Bytes>,
    retry_policy: Option<Bytes>,
    search_attributes: Option<Bytes>,
}

impl Inherited {
    const NOTHING: Self = Self { memo: None, retry_policy: None, search_attributes: None };

    fn bytes(&self) -> usize {
        let all = [&self.memo, &self.retry_policy, &self.search_attributes];
        std::mem::size_of::<Self>() + all.into_iter().flatten().map(Bytes::len).sum::<usize>()
    }
}

/// An SDK, by the name and version that it leaves in history.
#[derive(Debug, Default)]
struct Sdk {
    name: Bytes,
    version: Bytes,
}

impl Sdk {
    fn is(&self, config: &Config) -> bool {
        self.name == config.sdk_name && self.version == config.sdk_version
    }
}

/// A local activity that ended.
#[derive(Debug)]
struct Resolved {
    op: u32,
    seq: u32,
    resolution: Resolution,
    complete_time: Option<Time>,
}

/// What local activities want of the shell.
#[derive(Debug)]
pub(crate) enum LocalOut {
    Start(Box<LocalTask>),
    Cancel(LocalName),
}

/// What answers a live task.
#[derive(Debug)]
pub(crate) struct Answer {
    pub commands: Vec<api::Command>,
    pub messages: Vec<api::Message>,
    pub core_flags: Vec<u32>,
    pub lang_flags: Vec<u32>,
    pub write_sdk: bool,
    pub versioning_behavior: i32,
    pub closes: Option<Closed>,
}

impl Workflow {
    pub fn new(
        run_id: Bytes,
        workflow_id: String,
        workflow_type: Bytes,
        local_executions: u32,
        config: &Config,
    ) -> Self {
        Self {
            run_id,
            workflow_id,
            workflow_type: Bytes::copy_from_slice(&workflow_type),
            ops: Slab::default(),
            timers: Ring::default(),
            activities: Ring::default(),
            locals: Ring::default(),
            children: Ring::default(),
            signals: Ring::default(),
            cancels: Ring::default(),
            nexus: Ring::default(),
            events: Ring::default(),
            updates: BTreeMap::new(),
            admitted: BTreeMap::new(),
            queue: Queue::default(),
            jobs: Jobs::default(),
            suspect: None,
            mode: Mode::Replay,
            flags: Flags::new(config.sdk_metadata),
            clock: Time::default(),
            history_length: EventId(0),
            task: TaskFacts::default(),
            task_timeout: None,
            deployment: None,
            sdk: None,
            patches: Patches::default(),
            inherited: None,
            activations: 0,
            requests_only: 0,
            markers: Vec::new(),
            markers_delivered: 0,
            markers_settled: 0,
            resolved: Vec::new(),
            locals_out: Vec::new(),
            local_executions,
            locals_open: 0,
            abandoned: Vec::new(),
            nonfirst_attempts: 0,
            messages: Vec::new(),
            versioning_behavior: config.default_versioning_behavior,
            started: Time::default(),
            closing: None,
            terminal_seen: false,
            notes: Vec::new(),
        }
    }

    /// Shows a turn: what happened, and what it recorded that the code must know early.
    pub fn begin(
        &mut self,
        turn: &mut Turn,
        mode: Mode,
        messages: Vec<api::Message>,
        config: &Config,
    ) -> Result<(), Fault> {
        self.mode = mode;
        self.activations = 0;
        self.forget_recorded_messages();
        if let Some(completed) = &turn.completed {
            self.absorb(completed);
        } else {
            self.deployment.clone_from(&config.deployment);
        }
        self.scan(turn)?;
        self.see(turn, messages)
    }

    /// Drops the messages of earlier turns, but for those of updates whose completion is still to be sent: the server takes the
    /// command and the message that it names only together.
    fn forget_recorded_messages(&mut self) {
        let queue = &self.queue;
        self.messages.retain(|message| {
            let names =
                |asked: &Ask| matches!(asked, Ask::CompleteUpdate { message: id } if **id == *message.id);
            queue.expected().any(|queued| names(&queued.ask))
        });
    }

    /// Takes in what a completed task says of the worker that completed it.
    fn absorb(&mut self, completed: &h::WorkflowTaskCompletedEventAttributes) {
        self.flags.absorb(completed.sdk_metadata.as_ref());
        if let Some(metadata) = &completed.sdk_metadata {
            if !metadata.sdk_name.is_empty() {
                self.sdk.get_or_insert_default().name = Bytes::copy_from_slice(&metadata.sdk_name);
            }
            if !metadata.sdk_version.is_empty() {
                self.sdk.get_or_insert_default().version = Bytes::copy_from_slice(&metadata.sdk_version);
            }
        }
        let deployment = deployment(completed);
        if self.deployment.as_deref() != deployment.as_ref() {
            self.deployment = deployment.map(Arc::new);
        }
    }

    /// The next activation of this turn, if there is anything to tell.
    pub fn activation(&mut self) -> Option<lang::WorkflowActivation> {
        self.deliver_locals();
        if self.jobs.is_empty() {
            return None;
        }
        self.activations += 1;
        let jobs = self.jobs.take();
        let requests = |j: &lang::WorkflowActivationJob| matches!(j.variant, Some(Variant::DoUpdate(_)));
        self.requests_only = if jobs.iter().all(requests) { jobs.len() } else { 0 };
        Some(self.activation_with(jobs, self.mode == Mode::Replay))
    }

    /// An activation outside the order of turns: for queries and evictions.
    pub fn activation_with(
        &self,
        jobs: Vec<lang::WorkflowActivationJob>,
        is_replaying: bool,
    ) -> lang::WorkflowActivation {
        lang::WorkflowActivation {
            run_id: self.run_id.clone(),
            timestamp: Some(self.clock.timestamp()),
            is_replaying,
            history_length: self.length(),
            jobs,
            available_internal_flags: self.flags.lang(),
            history_size_bytes: self.task.history_size_bytes,
            continue_as_new_suggested: self.task.continue_as_new_suggested,
            deployment_version_for_current_task: self.deployment.as_deref().cloned(),
            last_sdk_version: self.sdk.as_ref().map(|sdk| sdk.version.clone()).unwrap_or_default(),
            suggest_continue_as_new_reasons: self.task.reasons.clone(),
            target_worker_deployment_version_changed: self.task.target_changed,
        }
    }

    /// The activation that tells the language of its eviction: nothing of the workflow's state is in it.
    pub fn farewell(&self, job: Variant) -> lang::WorkflowActivation {
        lang::WorkflowActivation {
            run_id: self.run_id.clone(),
            history_length: self.length(),
            jobs: vec![lang::WorkflowActivationJob { variant: Some(job) }],
            ..Default::default()
        }
    }

    fn length(&self) -> u32 {
        u32::try_from(self.history_length.0).unwrap_or(u32::MAX)
    }

    /// How large history was when the latest task started.
    pub fn history_size_bytes(&self) -> u64 {
        self.task.history_size_bytes
    }

    /// The answer to the open turn: everything the code asked for and that was not sent before.
    pub fn answer(&mut self, config: &Config) -> Answer {
        let (core_flags, lang_flags) = self.flags.unrecorded();
        let inherited = self.inherited.as_deref().unwrap_or(&Inherited::NOTHING);
        let commands = answer::commands(&mut self.queue, inherited, config);
        Answer {
            commands,
            messages: std::mem::take(&mut self.messages),
            core_flags,
            lang_flags,
            write_sdk: self.flags.enabled && !self.sdk.as_ref().is_some_and(|sdk| sdk.is(config)),
            versioning_behavior: self.versioning_behavior,
            closes: self.closing,
        }
    }

    /// Whether anything is left to tell.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty() || !self.resolved.is_empty()
    }

    /// The workflow's id.
    pub fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    /// How the code closed the workflow, if it did.
    pub fn closing(&self) -> Option<Closed> {
        self.closing
    }

    /// Whether the workflow is over, by a command or by an event.
    pub fn is_over(&self) -> bool {
        self.closing.is_some() || self.terminal_seen
    }

    /// The started event of the latest task that was shown.
    pub fn history_length(&self) -> EventId {
        self.history_length
    }

    /// History is read up to `last`, for one who asks: commands count, and what was never shown to the code. The completion of
    /// the task that was shown last does not, if nothing comes after it.
    pub fn reached(&mut self, last: EventId) {
        if last.0 > self.history_length.0.saturating_add(1) {
            self.history_length = last;
        }
    }

    /// A speculative task was dropped: `event` started the last one that counts.
    pub fn rewind(&mut self, event: EventId) {
        self.history_length = event;
    }

    /// Facts for logs and metrics that arose since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// An estimate of the memory it holds, payloads in flight not counted.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>()
            + self.ops.bytes()
            + self.queue.bytes()
            + self.abandoned.capacity() * std::mem::size_of::<Local>()
            + self.workflow_id.len()
            + self.workflow_type.len()
            + self.inherited.as_ref().map_or(0, |inherited| inherited.bytes())
            + self.patches.recorded.iter().chain(&self.patches.asked).map(|p| p.len() + 32).sum::<usize>()
    }

    /// Gives back memory that nothing is in.
    pub fn shrink(&mut self) {
        self.queue.shrink();
        for ring in [
            &mut self.timers,
            &mut self.activities,
            &mut self.locals,
            &mut self.children,
            &mut self.signals,
            &mut self.cancels,
            &mut self.nexus,
            &mut self.events,
        ] {
            ring.shrink();
        }
        self.markers = Vec::new();
        self.markers_delivered = 0;
        self.markers_settled = 0;
        self.resolved.shrink_to_fit();
        self.locals_out = Vec::new();
        self.messages = Vec::new();
    }

    /// Gives an event to the op that `initiator` recorded.
    fn route(
        &mut self,
        event: &Event<'_>,
        initiator: i64,
        on: impl FnOnce(&mut Op, &mut Out<'_>) -> Option<Result<Then, Fault>>,
    ) -> Result<(), Fault> {
        let orphan = || Fault::orphan(event.id, event.event_type, initiator);
        let index = self.events.find(initiator as u64).ok_or_else(orphan)?;
        let op = self.ops.get_mut(index).ok_or_else(orphan)?;
        let mut out = Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue };
        let then = on(op, &mut out).ok_or_else(orphan)??;
        if then == Then::Ends {
            self.events.clear(initiator as u64);
            self.end(index);
        }
        Ok(())
    }

    /// An op is over: nothing of it is kept.
    fn end(&mut self, index: u32) {
        match self.ops.get_mut(index) {
            Some(Op::Timer(op)) => drop(self.timers.clear(op.seq.into())),
            Some(Op::Activity(op)) => drop(self.activities.clear(op.seq.into())),
            Some(Op::Local(op)) => drop(self.locals.clear(op.seq.into())),
            Some(Op::Child(op)) => drop(self.children.clear(op.seq.into())),
            Some(Op::Nexus(op)) => drop(self.nexus.clear(op.seq.into())),
            Some(Op::Signal(op)) => drop(op.seq.and_then(|seq| self.signals.clear(seq.into()))),
            Some(Op::Cancel(op)) => drop(op.seq.and_then(|seq| self.cancels.clear(seq.into()))),
            Some(Op::Update(op)) => drop(self.updates.remove(&op.protocol_instance)),
            None => return,
        }
        self.ops.remove(index);
    }
}

/// The version of the worker that completed a task: newer servers say it whole, older ones in parts.
fn deployment(completed: &h::WorkflowTaskCompletedEventAttributes) -> Option<lang::WorkerDeploymentVersion> {
    let version = match (&completed.deployment_version, &completed.worker_version) {
        (Some(v), _) => lang::WorkerDeploymentVersion {
            deployment_name: v.deployment_name.clone(),
            build_id: v.build_id.clone(),
        },
        (None, stamp) => lang::WorkerDeploymentVersion {
            deployment_name: completed.worker_deployment_name.clone(),
            build_id: stamp.as_ref().map(|s| s.build_id.clone()).unwrap_or_default(),
        },
    };
    (!version.deployment_name.is_empty() || !version.build_id.is_empty()).then_some(version)
}
