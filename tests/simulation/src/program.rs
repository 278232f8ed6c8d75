//! Workflow programs: generated scripts, and the language that runs them over the lang protocol. A program is a function of
//! what it is told: it knows no server and no machine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use outlast_proto::lens::history::Payload;
use outlast_proto::lens::lang::workflow_activation_job::Variant as Job;
use outlast_proto::lens::lang::workflow_command::Variant as C;
use outlast_proto::lens::lang::{self, activity_resolution, update_response::Response};
use outlast_proto::lens::{api, history};
use prost::Message;
use prost_types::Duration;

use crate::random::Random;

/// A step of a script.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Start(What),
    /// Waits for the oldest op of the branch that is not done.
    Await,
    /// Waits for all.
    AwaitAll,
    /// Cancels the op that the branch started last, if it is not done.
    Cancel,
    Patch(u8),
    Deprecate(u8),
    Upsert,
    Memo,
}

/// What can be started, with its cancellation type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Timer,
    Activity(i32),
    Local(i32),
    Child(i32),
    Signal,
    CancelExternal,
    Nexus(i32),
}

/// How a program ends.
#[derive(Clone, Copy, Debug)]
pub enum Close {
    Complete,
    Fail,
    Cancel,
    ContinueAsNew,
}

/// A generated program.
#[derive(Clone, Debug)]
pub struct Program {
    main: Vec<Step>,
    on_signal: Vec<Vec<Step>>,
    on_update: Vec<Vec<Step>>,
    on_cancel: Vec<Step>,
    close: Close,
}

impl Program {
    pub fn generate(random: &mut Random) -> Self {
        let length = 2 + random.below(14);
        let mut main = script(random, length);
        if random.percent(80) {
            main.push(Step::AwaitAll);
        }
        let few = |random: &mut Random| (0..3).map(|_| short(random)).collect();
        Self {
            main,
            on_signal: few(random),
            on_update: few(random),
            on_cancel: short(random),
            close: *random.pick(&[
                Close::Complete,
                Close::Complete,
                Close::Fail,
                Close::Cancel,
                Close::ContinueAsNew,
            ]),
        }
    }
}

fn short(random: &mut Random) -> Vec<Step> {
    let length = random.below(5);
    script(random, length)
}

fn script(random: &mut Random, length: usize) -> Vec<Step> {
    (0..length)
        .map(|_| match random.below(20) {
            0..=8 => Step::Start(what(random)),
            9..=12 => Step::Await,
            13 => Step::AwaitAll,
            14..=15 => Step::Cancel,
            16 => Step::Patch(random.below(3) as u8),
            17 => Step::Deprecate(3 + random.below(2) as u8),
            18 => Step::Upsert,
            _ => Step::Memo,
        })
        .collect()
}

fn what(random: &mut Random) -> What {
    match random.below(10) {
        0..=1 => What::Timer,
        2..=3 => What::Activity(random.below(3) as i32),
        4..=6 => What::Local(random.below(3) as i32),
        7 => What::Child(random.below(4) as i32),
        8 if random.percent(50) => What::Signal,
        8 => What::CancelExternal,
        _ => What::Nexus(random.below(4) as i32),
    }
}

/// A program while it runs: what a language keeps of a workflow in its cache.
#[derive(Debug)]
pub struct Instance {
    program: Program,
    branches: Vec<Branch>,
    ops: Vec<Op>,
    by_seq: BTreeMap<(u8, u32), usize>,
    seqs: [u32; 7],
    patched: BTreeSet<u8>,
    notified: BTreeSet<String>,
    signals: usize,
    canceling: bool,
    closed: bool,
    now: i64,
    replaying: bool,
    commands: Vec<C>,
}

#[derive(Debug)]
struct Branch {
    script: Vec<Step>,
    at: usize,
    open: Vec<usize>,
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    Workflow,
    Update(String),
    Quietly,
    Over,
}

#[derive(Debug)]
struct Op {
    what: What,
    seq: u32,
    done: bool,
    /// The timer that stands for a local activity's backoff, and what follows it.
    backoff: Option<(u32, u32, Option<prost_types::Timestamp>)>,
}

const TIMER: u8 = 0;
const ACTIVITY: u8 = 1;
const LOCAL: u8 = 2;
const CHILD: u8 = 3;
const SIGNAL: u8 = 4;
const EXTERNAL: u8 = 5;
const NEXUS: u8 = 6;

impl Instance {
    pub fn new(program: Program) -> Self {
        Self {
            program,
            branches: Vec::new(),
            ops: Vec::new(),
            by_seq: BTreeMap::new(),
            seqs: [0; 7],
            patched: BTreeSet::new(),
            notified: BTreeSet::new(),
            signals: 0,
            canceling: false,
            closed: false,
            now: 0,
            replaying: false,
            commands: Vec::new(),
        }
    }

    /// Applies an activation and runs until everything waits.
    pub fn activate(&mut self, activation: &lang::WorkflowActivation) -> Vec<lang::WorkflowCommand> {
        let time = activation.timestamp.unwrap_or_default();
        self.now = time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
        self.replaying = activation.is_replaying;
        for job in &activation.jobs {
            self.apply(job.variant.as_ref().expect("a job is never empty"));
        }
        self.run();
        let commands = std::mem::take(&mut self.commands);
        commands
            .into_iter()
            .map(|c| lang::WorkflowCommand { variant: Some(c), ..Default::default() })
            .collect()
    }

    fn apply(&mut self, job: &Job) {
        match job {
            Job::InitializeWorkflow(_) => {
                assert!(self.branches.iter().all(|b| !matches!(b.ends, Ends::Workflow)), "initialised twice");
                let main = self.program.main.clone();
                self.branch(main, Ends::Workflow);
            }
            Job::NotifyHasPatch(n) => {
                self.notified.insert(n.patch_id.clone());
            }
            Job::UpdateRandomSeed(_) => {}
            Job::SignalWorkflow(_) => {
                let script = self.program.on_signal[self.signals % 3].clone();
                self.signals += 1;
                self.branch(script, Ends::Quietly);
            }
            Job::CancelWorkflow(_) => {
                if !std::mem::replace(&mut self.canceling, true) {
                    let script = self.program.on_cancel.clone();
                    self.branch(script, Ends::Quietly);
                }
            }
            Job::DoUpdate(update) => self.update(update),
            Job::QueryWorkflow(query) => {
                let response = Some(payload(&format!("{} branches", self.branches.len())));
                self.commands.push(C::RespondToQuery(lang::QueryResult {
                    query_id: query.query_id.clone(),
                    variant: Some(lang::query_result::Variant::Succeeded(lang::QuerySuccess { response })),
                }));
            }
            Job::FireTimer(f) => self.fired(f.seq),
            Job::ResolveActivity(r) if r.is_local => self.local(r),
            Job::ResolveActivity(r) => self.done(ACTIVITY, r.seq),
            Job::ResolveChildWorkflowExecutionStart(r) => {
                let started = matches!(
                    r.status,
                    Some(lang::resolve_child_workflow_execution_start::Status::Succeeded(_))
                );
                if started { self.known(CHILD, r.seq) } else { self.done(CHILD, r.seq) }
            }
            Job::ResolveChildWorkflowExecution(r) => self.done(CHILD, r.seq),
            Job::ResolveSignalExternalWorkflow(r) => self.done(SIGNAL, r.seq),
            Job::ResolveRequestCancelExternalWorkflow(r) => self.done(EXTERNAL, r.seq),
            Job::ResolveNexusOperationStart(r) => {
                let failed = matches!(r.status, Some(lang::resolve_nexus_operation_start::Status::Failed(_)));
                if failed { self.done(NEXUS, r.seq) } else { self.known(NEXUS, r.seq) }
            }
            Job::ResolveNexusOperation(r) => self.done(NEXUS, r.seq),
            Job::RemoveFromCache(_) => unreachable!("its owner drops the instance"),
        }
    }

    fn branch(&mut self, script: Vec<Step>, ends: Ends) {
        self.branches.push(Branch { script, at: 0, open: Vec::new(), ends });
    }

    fn update(&mut self, update: &lang::DoUpdate) {
        let id = update.protocol_instance_id.clone();
        let number: usize = id.trim_start_matches('u').parse().expect("updates are numbered");
        if update.run_validator && rejects(&id) {
            let response = Some(Response::Rejected(failure("rejected")));
            return self
                .commands
                .push(C::UpdateResponse(lang::UpdateResponse { protocol_instance_id: id, response }));
        }
        assert!(!rejects(&id), "an update that was rejected came back");
        let response = Some(Response::Accepted(Bytes::new()));
        self.commands
            .push(C::UpdateResponse(lang::UpdateResponse { protocol_instance_id: id.clone(), response }));
        let script = self.program.on_update[number % 3].clone();
        self.branch(script, Ends::Update(id));
    }

    fn known(&self, kind: u8, seq: u32) {
        let op =
            self.by_seq.get(&(kind, seq)).unwrap_or_else(|| panic!("op {kind}/{seq} was never asked for"));
        assert!(!self.ops[*op].done, "op {kind}/{seq} was told twice");
    }

    fn done(&mut self, kind: u8, seq: u32) {
        self.known(kind, seq);
        let op = self.by_seq[&(kind, seq)];
        self.ops[op].done = true;
    }

    fn fired(&mut self, seq: u32) {
        self.known(TIMER, seq);
        let index = self.by_seq[&(TIMER, seq)];
        match self.ops[index].backoff.take() {
            Some((_, attempt, original)) => {
                self.by_seq.remove(&(TIMER, seq));
                let What::Local(cancel) = self.ops[index].what else { unreachable!("only they back off") };
                self.schedule_local(index, cancel, attempt, original);
            }
            None => self.ops[index].done = true,
        }
    }

    fn local(&mut self, r: &lang::ResolveActivity) {
        self.known(LOCAL, r.seq);
        let status = r.result.as_ref().and_then(|r| r.status.as_ref()).expect("a result");
        let activity_resolution::Status::Backoff(backoff) = status else { return self.done(LOCAL, r.seq) };
        let index = self.by_seq[&(LOCAL, r.seq)];
        let seq = self.seq(TIMER);
        self.by_seq.insert((TIMER, seq), index);
        self.ops[index].backoff = Some((seq, backoff.attempt, backoff.original_schedule_time));
        let start_to_fire_timeout = backoff.backoff_duration.map(|d| d.encode_to_vec().into());
        self.commands.push(C::StartTimer(lang::StartTimer { seq, start_to_fire_timeout }));
    }

    fn seq(&mut self, kind: u8) -> u32 {
        self.seqs[kind as usize] += 1;
        self.seqs[kind as usize]
    }

    fn run(&mut self) {
        let mut progress = true;
        while progress {
            progress = false;
            for branch in 0..self.branches.len() {
                while !self.closed && self.step(branch) {
                    progress = true;
                }
            }
        }
    }

    /// One step of a branch; false: it waits, or is over.
    fn step(&mut self, branch: usize) -> bool {
        let at = self.branches[branch].at;
        let Some(step) = self.branches[branch].script.get(at).copied() else { return self.end(branch) };
        match step {
            Step::Start(what) => {
                let op = self.start(what);
                self.branches[branch].open.push(op);
            }
            Step::Await => {
                let open = &mut self.branches[branch].open;
                match open.first() {
                    Some(&op) if !self.ops[op].done => return false,
                    Some(_) => drop(open.remove(0)),
                    None => {}
                }
            }
            Step::AwaitAll => {
                if self.branches[branch].open.iter().any(|&op| !self.ops[op].done) {
                    return false;
                }
            }
            Step::Cancel => {
                let last = self.branches[branch].open.last().copied();
                if let Some(op) = last.filter(|&op| !self.ops[op].done) {
                    self.cancel(op);
                }
            }
            Step::Patch(id) => {
                let name = format!("patch-{id}");
                let is = self.patched.contains(&id) || !self.replaying || self.notified.contains(&name);
                assert!(is, "{name} was patched before and is not now");
                self.patched.insert(id);
                self.commands
                    .push(C::SetPatchMarker(lang::SetPatchMarker { patch_id: name, deprecated: false }));
            }
            Step::Deprecate(id) => {
                let patch_id = format!("patch-{id}");
                self.commands.push(C::SetPatchMarker(lang::SetPatchMarker { patch_id, deprecated: true }));
            }
            Step::Upsert => {
                let fields = [("Key".to_owned(), payload(&self.now.to_string()))].into();
                let attributes = history::SearchAttributes { indexed_fields: fields };
                let search_attributes = Some(attributes.encode_to_vec().into());
                let upsert = lang::UpsertWorkflowSearchAttributes { search_attributes };
                self.commands.push(C::UpsertWorkflowSearchAttributes(upsert));
            }
            Step::Memo => {
                let memo = history::Memo { fields: [("k".to_owned(), payload("v"))].into() };
                let upserted_memo = Some(memo.encode_to_vec().into());
                let modify = lang::ModifyWorkflowProperties { upserted_memo };
                self.commands.push(C::ModifyWorkflowProperties(modify));
            }
        }
        self.branches[branch].at += 1;
        true
    }

    /// A script came to its end.
    fn end(&mut self, branch: usize) -> bool {
        match std::mem::replace(&mut self.branches[branch].ends, Ends::Over) {
            Ends::Workflow => {
                self.closed = true;
                let result = Some(payload("result"));
                self.commands.push(match self.program.close {
                    Close::Complete => {
                        C::CompleteWorkflowExecution(lang::CompleteWorkflowExecution { result })
                    }
                    Close::Fail => C::FailWorkflowExecution(lang::FailWorkflowExecution {
                        failure: Some(failure("failed")),
                    }),
                    Close::Cancel => {
                        C::CancelWorkflowExecution(lang::CancelWorkflowExecution { details: None })
                    }
                    Close::ContinueAsNew => C::ContinueAsNewWorkflowExecution(Default::default()),
                });
                true
            }
            Ends::Update(protocol_instance_id) => {
                let response = Some(Response::Completed(payload("updated")));
                self.commands
                    .push(C::UpdateResponse(lang::UpdateResponse { protocol_instance_id, response }));
                true
            }
            Ends::Quietly | Ends::Over => false,
        }
    }

    fn start(&mut self, what: What) -> usize {
        let index = self.ops.len();
        let kind = match what {
            What::Timer => TIMER,
            What::Activity(_) => ACTIVITY,
            What::Local(cancel) => {
                self.ops.push(Op { what, seq: 0, done: false, backoff: None });
                self.schedule_local(index, cancel, 1, None);
                return index;
            }
            What::Child(_) => CHILD,
            What::Signal => SIGNAL,
            What::CancelExternal => EXTERNAL,
            What::Nexus(_) => NEXUS,
        };
        let seq = self.seq(kind);
        self.by_seq.insert((kind, seq), index);
        self.ops.push(Op { what, seq, done: false, backoff: None });
        // Names hold what the program saw of time: if that differs in replay, so do they, and the machine must notice.
        let name = Bytes::from(format!("{seq}-{}", self.now));
        self.commands.push(match what {
            What::Timer => {
                let timeout = Duration { seconds: 1 + i64::from(seq % 7), nanos: 0 };
                let start_to_fire_timeout = Some(timeout.encode_to_vec().into());
                C::StartTimer(lang::StartTimer { seq, start_to_fire_timeout })
            }
            What::Activity(cancellation_type) => C::ScheduleActivity(Box::new(lang::ScheduleActivity {
                seq,
                activity_id: name,
                activity_type: "act".into(),
                cancellation_type,
                ..Default::default()
            })),
            What::Child(cancellation_type) => {
                C::StartChildWorkflowExecution(Box::new(lang::StartChildWorkflowExecution {
                    seq,
                    workflow_id: name,
                    workflow_type: "child".into(),
                    cancellation_type,
                    ..Default::default()
                }))
            }
            What::Signal => {
                C::SignalExternalWorkflowExecution(Box::new(lang::SignalExternalWorkflowExecution {
                    seq,
                    signal_name: "s".into(),
                    target: Some(lang::signal_external_workflow_execution::Target::WorkflowExecution(
                        Default::default(),
                    )),
                    ..Default::default()
                }))
            }
            What::CancelExternal => {
                let cancel = lang::RequestCancelExternalWorkflowExecution { seq, ..Default::default() };
                C::RequestCancelExternalWorkflowExecution(Box::new(cancel))
            }
            What::Nexus(cancellation_type) => {
                C::ScheduleNexusOperation(Box::new(lang::ScheduleNexusOperation {
                    seq,
                    operation: name,
                    cancellation_type,
                    ..Default::default()
                }))
            }
            What::Local(_) => unreachable!("it was scheduled above"),
        });
        index
    }

    fn schedule_local(
        &mut self,
        index: usize,
        cancellation_type: i32,
        attempt: u32,
        original_schedule_time: Option<prost_types::Timestamp>,
    ) {
        let seq = self.seq(LOCAL);
        self.by_seq.insert((LOCAL, seq), index);
        self.ops[index].seq = seq;
        let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
        let policy =
            api::RetryPolicy { maximum_attempts: 4, initial_interval: seconds(2), ..Default::default() };
        self.commands.push(C::ScheduleLocalActivity(Box::new(lang::ScheduleLocalActivity {
            seq,
            activity_id: format!("{seq}-{}", self.now).into(),
            activity_type: "local".into(),
            attempt,
            original_schedule_time,
            cancellation_type,
            start_to_close_timeout: seconds(20),
            schedule_to_close_timeout: if seq.is_multiple_of(3) { seconds(60) } else { None },
            local_retry_threshold: seconds(if seq.is_multiple_of(2) { 3 } else { 60 }),
            retry_policy: Some(policy.encode_to_vec().into()),
            ..Default::default()
        })));
    }

    fn cancel(&mut self, index: usize) {
        let op = &mut self.ops[index];
        let seq = op.seq;
        self.commands.push(match op.what {
            What::Timer => {
                op.done = true;
                C::CancelTimer(lang::CancelTimer { seq })
            }
            What::Activity(_) => C::RequestCancelActivity(lang::RequestCancelActivity { seq }),
            What::Local(_) => match op.backoff.take() {
                Some((timer, ..)) => {
                    op.done = true;
                    C::CancelTimer(lang::CancelTimer { seq: timer })
                }
                None => C::RequestCancelLocalActivity(lang::RequestCancelLocalActivity { seq }),
            },
            What::Child(_) => C::CancelChildWorkflowExecution(lang::CancelChildWorkflowExecution {
                child_workflow_seq: seq,
                reason: "enough".to_owned(),
            }),
            What::Signal => C::CancelSignalWorkflow(lang::CancelSignalWorkflow { seq }),
            What::CancelExternal => return,
            What::Nexus(_) => C::RequestCancelNexusOperation(lang::RequestCancelNexusOperation { seq }),
        });
    }
}

/// Whether programs reject this update: always or never.
pub fn rejects(id: &str) -> bool {
    id.trim_start_matches('u').parse::<usize>().is_ok_and(|n| n.is_multiple_of(4))
}

/// An encoded payload.
pub fn payload(text: &str) -> Bytes {
    Payload { metadata: Default::default(), data: Bytes::copy_from_slice(text.as_bytes()) }
        .encode_to_vec()
        .into()
}

/// An encoded failure of the application.
pub fn failure(message: &str) -> Bytes {
    let info = api::ApplicationFailureInfo {
        r#type: message.to_owned(),
        non_retryable: message == "fatal",
        next_retry_delay: None,
    };
    let failure_info = Some(api::failure::FailureInfo::ApplicationFailureInfo(info));
    api::Failure { message: message.to_owned(), source: String::new(), cause: None, failure_info }
        .encode_to_vec()
        .into()
}
