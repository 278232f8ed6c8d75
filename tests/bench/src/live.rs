//! What a worker costs at a real server: instructions of its process for each activity of a workflow (the task that asks for
//! it, the activity, their calls), the same with bare calls, and what it takes when it has nothing to do.

use std::time::Duration;

use outlast_core::proto::coresdk::activity_result::{
    ActivityExecutionResult, Success, activity_execution_result::Status,
};
use outlast_core::proto::coresdk::{ActivityTaskCompletion, activity_task::activity_task::Variant};
use outlast_core::proto::temporal::api::common::v1::{Payloads, WorkflowType};
use outlast_core::proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_core::proto::temporal::api::workflowservice::v1 as api;
use outlast_core::{CallOptions, Client, PollError, Runtime, Worker, WorkerConfig};

use crate::history::{QUEUE, Shape, json};
use crate::language::Language;
use crate::valgrind::{Profile, instructions};

/// Workflows side by side, and their activities in the shorter and in the longer of two runs.
const WORKFLOWS: u32 = 20;
const ACTIVITIES: [u32; 2] = [5, 25];

/// The profile of one activity cycle.
pub struct Cycle {
    profile: Profile,
}

impl Cycle {
    /// Runs this program at a server under callgrind, twice. `part`: `cycles` or `polled` of a worker, or bare `calls`.
    pub fn count(part: &str, address: &str) -> Self {
        let run =
            |activities: u32| instructions(&[part, address, &WORKFLOWS.to_string(), &activities.to_string()]);
        let [fewer, more] = ACTIVITIES.map(run);
        Self { profile: more.minus(&fewer) }
    }

    fn each(n: i64) -> f64 {
        n as f64 / f64::from(WORKFLOWS * (ACTIVITIES[1] - ACTIVITIES[0]))
    }

    /// Instructions without memory moves, as the reference is counted.
    pub fn instructions(&self) -> f64 {
        Self::each(self.profile.all() - self.profile.moves())
    }

    /// The functions that take the most instructions.
    pub fn top(&self, count: usize) -> Vec<(&str, f64)> {
        self.profile.top(count).into_iter().map(|(name, n)| (name, Self::each(n))).collect()
    }
}

/// Starts that many workflows, and ends when they have: each has so many activities, one after the other. `eager`: the server
/// may give them with its reply to the workflow task, as it does by default; otherwise they are polled.
pub fn cycles(address: &str, workflows: u32, activities: u32, eager: bool) {
    let (runtime, client) = connect(address);
    runtime.block_on(async {
        start(&client, workflows, activities).await;
        let max_eager_activities = if eager { config().max_eager_activities } else { 0 };
        let config = WorkerConfig { max_eager_activities, ..config() };
        let worker = runtime.worker(client, config).expect("the settings are good");
        worker.validate().await.expect("the namespace is there");
        let hands = runtime.handle().spawn(act(worker.clone()));
        let mut language = Language::new();
        loop {
            let activation = match worker.poll_workflow_activation_bytes().await {
                Ok(activation) => activation,
                Err(PollError::ShutDown) => break,
                Err(error) => panic!("{error}"),
            };
            let answer = language.activate_bytes(&activation);
            worker.complete_workflow_activation_bytes(answer.into()).expect("the worker listens");
            if language.completed == workflows as usize {
                worker.initiate_shutdown();
            }
        }
        assert_eq!(language.complaint, None);
        hands.await.expect("activities do not panic");
        worker.finalize_shutdown().await;
    });
}

/// Runs are cached, as a binding would have it; all else is as it comes.
fn config() -> WorkerConfig {
    WorkerConfig { max_cached_workflows: 1_000, ..WorkerConfig::new("default", QUEUE) }
}

/// Does every activity at once.
async fn act(worker: Worker) {
    while let Ok(task) = worker.poll_activity_task().await {
        if let Some(Variant::Start(_)) = task.variant {
            let status = Status::Completed(Success { result: Some(json("\"ok\"")) });
            let result = Some(ActivityExecutionResult { status: Some(status) });
            worker
                .complete_activity_task(ActivityTaskCompletion { task_token: task.task_token, result })
                .expect("the worker listens");
        }
    }
}

/// What an idle worker takes.
pub struct Idle {
    /// Resident memory of its process, bytes.
    pub rss: f64,
    /// How often a thread of it went to sleep, a second: each had been woken.
    pub wakes: f64,
}

/// Runs this program as an idle worker, not under valgrind.
pub fn idle(address: &str) -> Idle {
    let program = std::env::current_exe().expect("this program has a path");
    let said = std::process::Command::new(program).args(["rest", address]).output();
    let said = said.expect("this program runs");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(|word| word.parse().expect("`rest` prints numbers"));
    let mut next = || numbers.next().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&said.stderr)));
    Idle { rss: next(), wakes: next() }
}

/// A worker whose polls wait; prints what it takes.
pub fn rest(address: &str) -> (f64, f64) {
    const SETTLE: Duration = Duration::from_secs(2);
    const WATCH: Duration = Duration::from_secs(10);
    let (runtime, client) = connect(address);
    let worker = runtime.worker(client, config()).expect("the settings are good");
    runtime.block_on(worker.validate()).expect("the namespace is there");
    let asks = worker.clone();
    runtime.handle().spawn(async move { asks.poll_workflow_activation_bytes().await });
    let asks = worker.clone();
    runtime.handle().spawn(async move { asks.poll_activity_task().await });
    let asks = worker.clone();
    runtime.handle().spawn(async move { asks.poll_nexus_task().await });
    // This thread lets time pass without the runtime's timer, which would wake the threads that are watched.
    std::thread::park_timeout(SETTLE);
    let before = sleeps();
    std::thread::park_timeout(WATCH);
    // One is this thread's own.
    let wakes = (sleeps() - before - 1.0) / WATCH.as_secs_f64();
    (field("/proc/self/status", "VmRSS:") * 1024.0, wakes)
}

/// How often threads of this process went to sleep so far.
fn sleeps() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists the threads of a process");
    let of = |task: std::fs::DirEntry| {
        field(&task.path().join("status").to_string_lossy(), "voluntary_ctxt_switches:")
    };
    tasks.flatten().map(of).sum()
}

fn field(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

pub(crate) fn connect(address: &str) -> (Runtime, Client) {
    let runtime = Runtime::new(Default::default()).expect("threads can be started");
    let client = runtime.block_on(outlast_core::connect(address)).expect("the server listens");
    (runtime, client)
}

pub(crate) async fn start(client: &Client, workflows: u32, activities: u32) {
    let unique = std::process::id();
    for n in 0..workflows {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_id: format!("bench-{unique}-{n}"),
            request_id: format!("bench-{unique}-{n}"),
            workflow_type: Some(WorkflowType { name: Shape::Activities.name().into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            input: Some(Payloads { payloads: vec![json(activities.to_string())] }),
            ..Default::default()
        };
        let path = api::workflow_service::START_WORKFLOW_EXECUTION;
        let _: api::StartWorkflowExecutionResponse =
            client.call(path, &request, CallOptions::default()).await.expect("the server starts workflows");
    }
}
