//! The scripted language: a workflow is an async block whose awaits are resolved by jobs and whose calls are commands.
//! One instance is one run in one cache. Deterministic: no clock, no threads, no wakers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use outlast_core::proto::coresdk::activity_result::activity_resolution::Status as Resolution;
use outlast_core::proto::coresdk::workflow_activation::{
    DoUpdate, InitializeWorkflow, SignalWorkflow, WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_core::proto::coresdk::workflow_commands::{
    CancelWorkflowExecution, CompleteWorkflowExecution, FailWorkflowExecution, QueryResult, QuerySuccess,
    ScheduleLocalActivity, SetPatchMarker, StartTimer, UpdateResponse, WorkflowCommand, query_result,
    update_response::Response, workflow_command::Variant as Command,
};
use prost_types::Timestamp;

use crate::words::{failure, millis, payload, texts};

pub type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A workflow: what it does, and the command that ends it.
pub type Script = Arc<dyn Fn(Flow) -> Waiting<Command> + Send + Sync>;

/// What a script sees of its run.
#[derive(Clone)]
pub struct Flow(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    start: InitializeWorkflow,
    now: WorkflowActivation,
    commands: Vec<WorkflowCommand>,
    seq: u32,
    resolved: BTreeMap<u32, VecDeque<Job>>,
    signals: VecDeque<SignalWorkflow>,
    updates: VecDeque<DoUpdate>,
    cancelled: Option<String>,
    seeds: Vec<u64>,
    patches: BTreeSet<String>,
    view: String,
    failing: Option<String>,
    spawned: Vec<Waiting<()>>,
    /// Grows with whatever happens, so that the instance knows when nothing does.
    steps: u64,
}

impl Flow {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn start(&self) -> InitializeWorkflow {
        self.state().start.clone()
    }

    /// The arguments of the workflow.
    pub fn input(&self) -> String {
        texts(&self.state().start.arguments)
    }

    /// The head of the activation that is being worked on.
    pub fn now(&self) -> WorkflowActivation {
        WorkflowActivation { jobs: vec![], ..self.state().now.clone() }
    }

    pub fn time(&self) -> Timestamp {
        self.state().now.timestamp.unwrap()
    }

    /// All seeds so far; the last one counts.
    pub fn seeds(&self) -> Vec<u64> {
        self.state().seeds.clone()
    }

    /// What queries are answered with.
    pub fn show(&self, view: &str) {
        self.state().view = view.to_owned();
    }

    /// Lets this activation fail, the first time that it is no replay.
    pub fn fail_task(&self, message: &str) {
        self.state().failing = Some(message.to_owned());
    }

    pub fn command(&self, variant: Command) {
        self.raw(WorkflowCommand { variant: Some(variant), ..Default::default() });
    }

    pub fn raw(&self, command: WorkflowCommand) {
        let mut state = self.state();
        state.steps += 1;
        state.commands.push(command);
    }

    /// A command with a number of its own, and what comes of it.
    pub fn ask(&self, command: impl FnOnce(u32) -> Command) -> Op {
        let seq = {
            let mut state = self.state();
            state.seq += 1;
            state.seq
        };
        self.command(command(seq));
        Op { flow: self.clone(), seq }
    }

    pub fn timer(&self, after: u64) -> Op {
        self.ask(|seq| Command::StartTimer(StartTimer { seq, start_to_fire_timeout: millis(after) }))
    }

    /// A local activity with all its attempts: longer pauses between them are timers.
    pub fn local(&self, task: ScheduleLocalActivity) -> (Arc<Mutex<Op>>, Waiting<Job>) {
        let schedule = move |flow: &Flow, attempt, original_schedule_time| {
            let task = task.clone();
            flow.ask(|seq| {
                let activity_id =
                    if task.activity_id.is_empty() { seq.to_string() } else { task.activity_id.clone() };
                Command::ScheduleLocalActivity(ScheduleLocalActivity {
                    seq,
                    activity_id,
                    attempt,
                    original_schedule_time,
                    ..task
                })
            })
        };
        let flow = self.clone();
        let current = Arc::new(Mutex::new(schedule(&flow, 1, None)));
        let shared = current.clone();
        let all = async move {
            loop {
                let op = shared.lock().unwrap().clone();
                let job = op.next().await;
                let backoff = match &job {
                    Job::ResolveActivity(it) => match it.result.clone().unwrap().status {
                        Some(Resolution::Backoff(backoff)) => backoff,
                        _ => return job,
                    },
                    _ => return job,
                };
                let pause = flow.ask(|seq| {
                    Command::StartTimer(StartTimer { seq, start_to_fire_timeout: backoff.backoff_duration })
                });
                pause.next().await;
                *shared.lock().unwrap() = schedule(&flow, backoff.attempt, backoff.original_schedule_time);
            }
        };
        (current, Box::pin(all))
    }

    fn wait<T, F>(&self, mut take: F) -> impl Future<Output = T> + Send + use<T, F>
    where
        F: FnMut(&mut State) -> Option<T> + Send,
    {
        let flow = self.clone();
        poll_fn(move |_| {
            let mut state = flow.state();
            match take(&mut state) {
                Some(it) => {
                    state.steps += 1;
                    Poll::Ready(it)
                }
                None => Poll::Pending,
            }
        })
    }

    /// The next signal of this name.
    pub async fn signal(&self, name: &str) -> SignalWorkflow {
        let name = name.to_owned();
        self.wait(move |state| {
            let at = state.signals.iter().position(|signal| signal.signal_name == name)?;
            state.signals.remove(at)
        })
        .await
    }

    /// The next update.
    pub async fn update(&self) -> DoUpdate {
        self.wait(|state| state.updates.pop_front()).await
    }

    /// Until somebody asks the workflow to end: with which reason.
    pub async fn cancelled(&self) -> String {
        self.wait(|state| state.cancelled.clone()).await
    }

    pub fn accept(&self, update: &DoUpdate) {
        self.respond(update, Response::Accepted(()));
    }

    pub fn complete(&self, update: &DoUpdate, with: &str) {
        self.respond(update, Response::Completed(payload(with)));
    }

    pub fn reject(&self, update: &DoUpdate, why: &str) {
        self.respond(update, Response::Rejected(failure(why, false)));
    }

    fn respond(&self, update: &DoUpdate, response: Response) {
        let protocol_instance_id = update.protocol_instance_id.clone();
        self.command(Command::UpdateResponse(UpdateResponse {
            protocol_instance_id,
            response: Some(response),
        }));
    }

    /// Whether the new code is to run: where history has the marker, and wherever there is no history yet.
    pub fn patched(&self, id: &str) -> bool {
        let known = {
            let state = self.state();
            state.patches.contains(id) || !state.now.is_replaying
        };
        if known {
            self.mark(id, false);
        }
        known
    }

    pub fn mark(&self, id: &str, deprecated: bool) {
        self.state().patches.insert(id.to_owned());
        self.command(Command::SetPatchMarker(SetPatchMarker { patch_id: id.to_owned(), deprecated }));
    }

    /// Goes on beside the workflow.
    pub fn spawn(&self, it: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state();
        state.steps += 1;
        state.spawned.push(Box::pin(it));
    }
}

/// Something that was asked for.
#[derive(Clone)]
pub struct Op {
    flow: Flow,
    pub seq: u32,
}

impl Op {
    /// The next thing that is said of it.
    pub async fn next(&self) -> Job {
        let seq = self.seq;
        self.flow.wait(move |state| state.resolved.get_mut(&seq)?.pop_front()).await
    }

    /// The same, in words.
    pub async fn said(&self) -> String {
        crate::words::said(&self.next().await)
    }
}

/// Whichever is there first, the left one if both are.
pub async fn race<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Result<A, B> {
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    poll_fn(move |cx| {
        if let Poll::Ready(it) = one.as_mut().poll(cx) {
            return Poll::Ready(Ok(it));
        }
        other.as_mut().poll(cx).map(Err)
    })
    .await
}

pub fn done(result: &str) -> Command {
    Command::CompleteWorkflowExecution(CompleteWorkflowExecution { result: Some(payload(result)) })
}

pub fn failed(message: &str, retryable: bool) -> Command {
    Command::FailWorkflowExecution(FailWorkflowExecution { failure: Some(failure(message, retryable)) })
}

pub fn ended() -> Command {
    Command::CancelWorkflowExecution(CancelWorkflowExecution::default())
}

/// A run in a cache.
pub struct Instance {
    flow: Flow,
    main: Option<Waiting<Command>>,
    others: Vec<Waiting<()>>,
}

/// What an activation came to: commands, or the reason why the task fails.
pub type Turn = Result<Vec<WorkflowCommand>, String>;

impl Instance {
    pub fn new(script: &Script, start: InitializeWorkflow) -> Self {
        let seeds = vec![start.randomness_seed];
        let flow = Flow(Arc::new(Mutex::new(State { start, seeds, ..Default::default() })));
        Self { main: Some(script(flow.clone())), flow, others: Vec::new() }
    }

    pub fn apply(&mut self, activation: &WorkflowActivation) -> Turn {
        let mut queries = Vec::new();
        {
            let mut state = self.flow.state();
            state.now = activation.clone();
            for job in activation.jobs.iter().filter_map(|job| job.variant.clone()) {
                match job {
                    Job::InitializeWorkflow(_) | Job::RemoveFromCache(_) => {}
                    Job::UpdateRandomSeed(it) => state.seeds.push(it.randomness_seed),
                    Job::NotifyHasPatch(it) => {
                        state.patches.insert(it.patch_id);
                    }
                    Job::QueryWorkflow(it) => queries.push(it),
                    Job::CancelWorkflow(it) => state.cancelled = Some(it.reason),
                    Job::SignalWorkflow(it) => state.signals.push_back(it),
                    Job::DoUpdate(it) => state.updates.push_back(it),
                    Job::FireTimer(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveActivity(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveChildWorkflowExecutionStart(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveChildWorkflowExecution(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveSignalExternalWorkflow(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveRequestCancelExternalWorkflow(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveNexusOperationStart(ref it) => resolve(&mut state, it.seq, job),
                    Job::ResolveNexusOperation(ref it) => resolve(&mut state, it.seq, job),
                }
            }
        }
        self.run();
        let mut state = self.flow.state();
        let mut commands = std::mem::take(&mut state.commands);
        if let Some(message) = state.failing.take().filter(|_| !activation.is_replaying) {
            return Err(message);
        }
        for query in queries {
            let variant = Some(match query.query_type.as_str() {
                "fail" => query_result::Variant::Failed(failure("no answer", true)),
                _ => query_result::Variant::Succeeded(QuerySuccess { response: Some(payload(&state.view)) }),
            });
            let answer = Command::RespondToQuery(QueryResult { query_id: query.query_id, variant });
            commands.push(WorkflowCommand { variant: Some(answer), ..Default::default() });
        }
        Ok(commands)
    }

    /// Polls everything until nothing happens any more.
    fn run(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let before = self.flow.state().steps;
            if let Some(Poll::Ready(end)) = self.main.as_mut().map(|main| main.as_mut().poll(cx)) {
                self.main = None;
                self.flow.command(end);
            }
            self.others.append(&mut self.flow.state().spawned);
            self.others.retain_mut(|it| it.as_mut().poll(cx).is_pending());
            if self.flow.state().steps == before {
                return;
            }
        }
    }
}

fn resolve(state: &mut State, seq: u32, job: Job) {
    state.resolved.entry(seq).or_default().push_back(job);
}
