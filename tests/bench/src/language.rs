//! A language in its smallest form: it decodes an activation, counts what was resolved, and encodes its commands. It has no
//! coroutines and no data of its own, so what it costs is the price of the protocol. It knows nothing of histories or shards.

use std::collections::BTreeMap;

use bytes::Bytes;
use outlast_proto::Frame;
use outlast_proto::lens::{history, lang};
use prost::Message;

use lang::workflow_activation_completion::Status;
use lang::workflow_activation_job::Variant as Job;
use lang::workflow_command::Variant as Command;

use crate::history::{ACTIVITY, INPUT, QUEUE, Shape, json};

/// What the language said of an activation.
pub struct Answer {
    /// An encoded completion.
    pub bytes: Vec<u8>,
    /// The run is gone.
    pub removed: bool,
}

/// The workflows of one shard.
pub struct Language {
    runs: BTreeMap<Bytes, Workflow>,
    /// Encoded once, as a compiled workflow would have its constants.
    input: Bytes,
    done: Bytes,
    second: Bytes,
    minute: Bytes,
    /// How many workflows have come to their end.
    pub completed: usize,
    /// Why a run was removed, if not because it was asked for or had ended.
    pub complaint: Option<String>,
}

struct Workflow {
    shape: Shape,
    k: u32,
    resolved: u32,
}

impl Language {
    /// A language without workflows.
    pub fn new() -> Self {
        let duration = |seconds| prost_types::Duration { seconds, nanos: 0 }.encode_to_vec().into();
        Self {
            runs: BTreeMap::new(),
            input: json(INPUT).encode_to_vec().into(),
            done: json("\"done\"").encode_to_vec().into(),
            second: duration(1),
            minute: duration(60),
            completed: 0,
            complaint: None,
        }
    }

    /// Applies an encoded activation.
    pub fn activate(&mut self, activation: &Bytes) -> Answer {
        let activation =
            lang::WorkflowActivation::decode(Frame::new(activation)).expect("the core encodes well");
        let mut commands = Vec::new();
        let mut removed = false;
        for job in activation.jobs {
            let job = job.variant.expect("the core sends jobs that the lens knows");
            removed |= self.apply(&activation.run_id, job, &mut commands);
        }
        let success = lang::WorkflowCompletionSuccess { commands, ..Default::default() };
        let completion = lang::WorkflowActivationCompletion {
            run_id: activation.run_id,
            status: Some(Status::Successful(success)),
        };
        Answer { bytes: completion.encode_to_vec(), removed }
    }

    /// Applies a job. Whether the run is gone after it.
    fn apply(&mut self, run: &Bytes, job: Job, commands: &mut Vec<lang::WorkflowCommand>) -> bool {
        match job {
            Job::InitializeWorkflow(init) => {
                let workflow = Workflow::new(&init);
                self.start(&workflow, commands);
                self.runs.insert(run.clone(), workflow);
            }
            Job::FireTimer(_) | Job::ResolveActivity(_) | Job::SignalWorkflow(_) => {
                self.resolved(run, commands);
            }
            Job::UpdateRandomSeed(_) => {}
            Job::RemoveFromCache(removal) => {
                use lang::remove_from_cache::EvictionReason as Why;
                if !matches!(
                    removal.reason(),
                    Why::LangRequested | Why::WorkflowExecutionEnding | Why::CacheFull
                ) {
                    self.complaint = Some(removal.message);
                }
                self.runs.remove(run);
                return true;
            }
            Job::QueryWorkflow(_)
            | Job::CancelWorkflow(_)
            | Job::NotifyHasPatch(_)
            | Job::ResolveChildWorkflowExecutionStart(_)
            | Job::ResolveChildWorkflowExecution(_)
            | Job::ResolveSignalExternalWorkflow(_)
            | Job::ResolveRequestCancelExternalWorkflow(_)
            | Job::DoUpdate(_)
            | Job::ResolveNexusOperationStart(_)
            | Job::ResolveNexusOperation(_) => panic!("no history here asks for {job:?}"),
        }
        false
    }

    fn start(&self, workflow: &Workflow, commands: &mut Vec<lang::WorkflowCommand>) {
        match workflow.shape {
            Shape::Fanout => commands.extend((1..=workflow.k).map(|n| self.activity(n))),
            Shape::Signals => {}
            Shape::Timers | Shape::Activities | Shape::Idle => commands.push(self.next(workflow)),
        }
    }

    fn resolved(&mut self, run: &Bytes, commands: &mut Vec<lang::WorkflowCommand>) {
        let workflow = self.runs.get_mut(run).expect("a run is initialized first");
        workflow.resolved += 1;
        let workflow = &self.runs[run];
        let is_over = workflow.resolved == workflow.k && workflow.shape != Shape::Idle;
        if is_over {
            let result = Some(self.done.clone());
            commands.push(command(Command::CompleteWorkflowExecution(lang::CompleteWorkflowExecution {
                result,
            })));
            self.completed += 1;
        } else if !matches!(workflow.shape, Shape::Fanout | Shape::Signals) {
            commands.push(self.next(workflow));
        }
    }

    /// The next step of a workflow that takes one after the other.
    fn next(&self, workflow: &Workflow) -> lang::WorkflowCommand {
        let seq = workflow.resolved + 1;
        let is_timer = match workflow.shape {
            Shape::Timers => true,
            Shape::Idle => workflow.resolved >= workflow.k,
            Shape::Activities | Shape::Fanout | Shape::Signals => false,
        };
        if !is_timer {
            return self.activity(seq);
        }
        let start_to_fire_timeout = Some(self.second.clone());
        command(Command::StartTimer(lang::StartTimer { seq, start_to_fire_timeout }))
    }

    fn activity(&self, seq: u32) -> lang::WorkflowCommand {
        command(Command::ScheduleActivity(Box::new(lang::ScheduleActivity {
            seq,
            activity_id: seq.to_string().into(),
            activity_type: Bytes::from_static(ACTIVITY.as_bytes()),
            task_queue: Bytes::from_static(QUEUE.as_bytes()),
            arguments: vec![self.input.clone()],
            start_to_close_timeout: Some(self.minute.clone()),
            ..Default::default()
        })))
    }
}

impl Workflow {
    fn new(init: &lang::InitializeWorkflow) -> Self {
        let name = std::str::from_utf8(&init.workflow_type).expect("a shape's name is text");
        let argument = init.arguments.first().expect("the first argument is K");
        let argument = history::Payload::decode(Frame::new(argument)).expect("K is a payload");
        let k = std::str::from_utf8(&argument.data).ok().and_then(|k| k.parse().ok()).expect("K is a number");
        Self { shape: name.parse().expect("a workflow is named after its shape"), k, resolved: 0 }
    }
}

fn command(variant: Command) -> lang::WorkflowCommand {
    lang::WorkflowCommand { variant: Some(variant), ..Default::default() }
}
