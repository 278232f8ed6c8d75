//! A language in its smallest form: it counts what was resolved and asks for what comes next. It has no coroutines and no data
//! of its own, so what it costs is the price of the exchange, as typed messages or as bytes. It knows nothing of histories or
//! shards.

use std::collections::BTreeMap;

use bytes::Bytes;
use outlast_proto::Frame;
use outlast_proto::lens::{history, lang};
use prost::Message;

use lang::workflow_activation_completion::Status;
use lang::workflow_activation_job::Variant as Job;
use lang::workflow_command::Variant as Command;

use crate::history::{ACTIVITY, INPUT, QUEUE, Shape, json};

/// The workflows of one shard.
pub struct Language {
    runs: BTreeMap<Bytes, Workflow>,
    script: Script,
    /// How many workflows have come to their end.
    pub completed: usize,
    /// Why a run was removed, if not because it was asked for or had ended.
    pub complaint: Option<String>,
}

/// What workflows say, and what they say it with: payloads and durations are shared.
struct Script {
    activity: lang::ScheduleActivity,
    timeout: Bytes,
    result: Bytes,
    /// Commands of the activation in hand.
    said: Vec<lang::WorkflowCommand>,
}

struct Workflow {
    shape: Shape,
    k: u32,
    resolved: u32,
}

impl Language {
    /// A language without workflows.
    pub fn new() -> Self {
        Self { runs: BTreeMap::new(), script: Script::new(), completed: 0, complaint: None }
    }

    /// Applies an activation.
    pub fn activate(&mut self, activation: lang::WorkflowActivation) -> lang::WorkflowActivationCompletion {
        for job in activation.jobs {
            let job = job.variant.expect("the core sends jobs that the lens knows");
            self.apply(&activation.run_id, job);
        }
        let commands = std::mem::take(&mut self.script.said);
        let success = lang::WorkflowCompletionSuccess { commands, ..Default::default() };
        lang::WorkflowActivationCompletion {
            run_id: activation.run_id,
            status: Some(Status::Successful(success)),
            ..Default::default()
        }
    }

    /// Applies an encoded activation, and encodes the completion.
    pub fn activate_bytes(&mut self, activation: &Bytes) -> Vec<u8> {
        let activation =
            lang::WorkflowActivation::decode(Frame::new(activation)).expect("the core encodes well");
        self.activate(activation).encode_to_vec()
    }

    fn apply(&mut self, run: &Bytes, job: Job) {
        match job {
            Job::InitializeWorkflow(init) => {
                let workflow = Workflow::new(&init);
                self.script.start(&workflow);
                self.runs.insert(run.clone(), workflow);
            }
            Job::FireTimer(_) | Job::ResolveActivity(_) | Job::SignalWorkflow(_) => {
                self.resolved(run);
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
    }

    fn resolved(&mut self, run: &Bytes) {
        let workflow = self.runs.get_mut(run).expect("a run is initialized first");
        workflow.resolved += 1;
        let is_over = workflow.resolved == workflow.k && workflow.shape != Shape::Idle;
        if is_over {
            self.script.end();
            self.completed += 1;
        } else if !matches!(workflow.shape, Shape::Fanout | Shape::Signals) {
            self.script.next(workflow);
        }
    }
}

impl Script {
    fn new() -> Self {
        let duration = |seconds| prost_types::Duration { seconds, nanos: 0 }.encode_to_vec().into();
        Self {
            activity: lang::ScheduleActivity {
                activity_type: Bytes::from_static(ACTIVITY.as_bytes()),
                task_queue: Bytes::from_static(QUEUE.as_bytes()),
                arguments: vec![json(INPUT).encode_to_vec().into()],
                start_to_close_timeout: Some(duration(60)),
                ..Default::default()
            },
            timeout: duration(1),
            result: json("\"done\"").encode_to_vec().into(),
            said: Vec::new(),
        }
    }

    fn start(&mut self, workflow: &Workflow) {
        match workflow.shape {
            Shape::Fanout => {
                self.said.reserve(workflow.k as usize);
                (1..=workflow.k).for_each(|n| self.activity(n));
            }
            Shape::Signals => {}
            Shape::Timers | Shape::Activities | Shape::Idle => self.next(workflow),
        }
    }

    /// The next step of a workflow that takes one after the other.
    fn next(&mut self, workflow: &Workflow) {
        let seq = workflow.resolved + 1;
        let is_timer = match workflow.shape {
            Shape::Timers => true,
            Shape::Idle => workflow.resolved >= workflow.k,
            Shape::Activities | Shape::Fanout | Shape::Signals => false,
        };
        if is_timer {
            let timer = lang::StartTimer { seq, start_to_fire_timeout: Some(self.timeout.clone()) };
            self.say(Command::StartTimer(timer));
        } else {
            self.activity(seq);
        }
    }

    fn activity(&mut self, seq: u32) {
        let activity =
            lang::ScheduleActivity { seq, activity_id: seq.to_string().into(), ..self.activity.clone() };
        self.say(Command::ScheduleActivity(Box::new(activity)));
    }

    fn end(&mut self) {
        let end = lang::CompleteWorkflowExecution { result: Some(self.result.clone()) };
        self.say(Command::CompleteWorkflowExecution(end));
    }

    fn say(&mut self, command: Command) {
        self.said.push(lang::WorkflowCommand { variant: Some(command), ..Default::default() });
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
