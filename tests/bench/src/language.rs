//! A language in its smallest form: it decodes an activation, counts what was resolved, and encodes its commands as it goes.
//! It has no coroutines and no data of its own, and one message of each kind that it fills in again, so what it costs is the
//! price of the protocol. It knows nothing of histories or shards.

use std::collections::BTreeMap;

use bytes::Bytes;
use outlast_proto::Frame;
use outlast_proto::lens::{history, lang};
use prost::{Message, encoding};

use lang::workflow_activation_job::Variant as Job;

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
    script: Script,
    /// How many workflows have come to their end.
    pub completed: usize,
    /// Why a run was removed, if not because it was asked for or had ended.
    pub complaint: Option<String>,
}

/// What workflows say: each command is kept and filled in again.
struct Script {
    timer: lang::StartTimer,
    activity: lang::ScheduleActivity,
    end: lang::CompleteWorkflowExecution,
    /// Encoded commands of the activation in hand.
    said: Vec<u8>,
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

    /// Applies an encoded activation.
    pub fn activate(&mut self, activation: &Bytes) -> Answer {
        let activation =
            lang::WorkflowActivation::decode(Frame::new(activation)).expect("the core encodes well");
        let mut removed = false;
        for job in activation.jobs {
            let job = job.variant.expect("the core sends jobs that the lens knows");
            removed |= self.apply(&activation.run_id, job);
        }
        Answer { bytes: self.script.completion(&activation.run_id), removed }
    }

    /// Applies a job. Whether the run is gone after it.
    fn apply(&mut self, run: &Bytes, job: Job) -> bool {
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
        let duration = |seconds| Some(prost_types::Duration { seconds, nanos: 0 }.encode_to_vec().into());
        Self {
            timer: lang::StartTimer { seq: 0, start_to_fire_timeout: duration(1) },
            activity: lang::ScheduleActivity {
                activity_type: Bytes::from_static(ACTIVITY.as_bytes()),
                task_queue: Bytes::from_static(QUEUE.as_bytes()),
                arguments: vec![json(INPUT).encode_to_vec().into()],
                start_to_close_timeout: duration(60),
                ..Default::default()
            },
            end: lang::CompleteWorkflowExecution { result: Some(json("\"done\"").encode_to_vec().into()) },
            said: Vec::new(),
        }
    }

    fn start(&mut self, workflow: &Workflow) {
        match workflow.shape {
            Shape::Fanout => (1..=workflow.k).for_each(|n| self.activity(n)),
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
            self.timer.seq = seq;
            say(&mut self.said, TIMER, &self.timer);
        } else {
            self.activity(seq);
        }
    }

    fn activity(&mut self, seq: u32) {
        self.activity.seq = seq;
        self.activity.activity_id = seq.to_string().into();
        say(&mut self.said, SCHEDULE, &self.activity);
    }

    fn end(&mut self) {
        say(&mut self.said, END, &self.end);
    }

    /// The completion of an activation: its run, and as success what was said.
    fn completion(&mut self, run: &Bytes) -> Vec<u8> {
        let length = |of: usize| encoding::key_len(RUN_ID) + encoding::encoded_len_varint(of as u64) + of;
        let mut bytes = Vec::with_capacity(length(run.len()) + length(self.said.len()));
        encoding::bytes::encode(RUN_ID, run, &mut bytes);
        encoding::bytes::encode(SUCCESSFUL, &self.said, &mut bytes);
        self.said.clear();
        bytes
    }
}

// Field numbers of a command in a success, of its variants, and of a completion.
const COMMANDS: u32 = 1;
const TIMER: u32 = 1;
const SCHEDULE: u32 = 2;
const END: u32 = 6;
const RUN_ID: u32 = 1;
const SUCCESSFUL: u32 = 2;

/// Adds a command to a success: the field of the command, and in it that of its variant.
fn say(said: &mut Vec<u8>, variant: u32, command: &impl Message) {
    let length = command.encoded_len();
    let length = encoding::key_len(variant) + encoding::encoded_len_varint(length as u64) + length;
    encoding::encode_key(COMMANDS, encoding::WireType::LengthDelimited, said);
    encoding::encode_varint(length as u64, said);
    encoding::message::encode(variant, command, said);
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
