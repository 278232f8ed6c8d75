//! The demo: a real server, an order that is being worked on, the worker killed halfway, and nothing lost.
//!
//! `OUTLAST_TEMPORAL_BIN=…/temporal cargo run -p outlast-core --example demo`

mod order;
mod server;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use order::{Orders, payload, text};
use outlast_core::proto::coresdk::ActivityTaskCompletion;
use outlast_core::proto::coresdk::activity_result::{
    ActivityExecutionResult, Success, activity_execution_result::Status,
};
use outlast_core::proto::coresdk::activity_task::activity_task::Variant;
use outlast_core::proto::coresdk::workflow_activation::WorkflowActivation;
use outlast_core::proto::coresdk::workflow_completion::WorkflowActivationCompletion;
use outlast_core::proto::temporal::api::common::v1::{Payloads, WorkflowExecution, WorkflowType};
use outlast_core::proto::temporal::api::enums::v1::{EventType, UpdateWorkflowExecutionLifecycleStage};
use outlast_core::proto::temporal::api::history::v1::{History, HistoryEvent, history_event::Attributes};
use outlast_core::proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_core::proto::temporal::api::update::v1::{Input, Meta, Request, WaitPolicy, outcome};
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_core::{
    CallOptions, Client, CompleteError, PollError, ReplayConfig, Replayer, Worker, WorkerConfig,
};
use prost::Message;
use server::Server;

type Failed = Box<dyn std::error::Error>;

const QUEUE: &str = "orders";
const ORDER: &str = "order-1001";

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failed> {
    match std::env::args().nth(1) {
        Some(address) => work(&address).await,
        None => show().await,
    }
}

/// The demo itself.
async fn show() -> Result<(), Failed> {
    println!("==> a Temporal server");
    let server = Server::start()?;
    let client = server.client().await?;

    println!("==> a worker, and an order");
    let worker = WorkerProcess::start(&server.address)?;
    start(&client).await?;
    until(&client, EventType::TimerStarted).await?;

    println!("==> the card is charged, the worker is killed (SIGKILL)");
    drop(worker);
    println!("==> meanwhile the customer sends an address");
    signal(&client, "221B Baker Street").await?;

    println!("==> another worker");
    let worker = WorkerProcess::start(&server.address)?;
    println!("    update answered: {}", add(&client, "a magnifying glass").await?);
    until(&client, EventType::WorkflowExecutionCompleted).await?;

    let history = history(&client).await?;
    println!("==> the history");
    for event in &history.events {
        println!("    {:>3}  {}", event.event_id, event.event_type().as_str_name());
    }
    println!("==> the result: {}", result(&history));
    check(&history)?;
    drop(worker);

    println!("==> the same history once more, replayed against the code");
    replay(&history).await?;
    println!("    the code still does what it did");
    Ok(())
}

/// The child process: a worker, until it is killed.
async fn work(address: &str) -> Result<(), Failed> {
    let client = outlast_core::connect(address).await?;
    let config = WorkerConfig {
        max_cached_workflows: 100,
        // A killed worker's sticky queue is given up after this: short, so that the demo is.
        sticky_queue_schedule_to_start_timeout: Duration::from_secs(2),
        ..WorkerConfig::new("default", QUEUE)
    };
    let worker = Worker::new(client, config)?;
    worker.validate().await?;
    let workflows = workflows(
        async || worker.poll_workflow_activation().await,
        |completion| worker.complete_workflow_activation(completion),
    );
    let (workflows, activities) = tokio::join!(workflows, activities(&worker));
    workflows.and(activities)
}

/// The language side of workflows: poll, apply, answer.
async fn workflows(
    poll: impl AsyncFn() -> Result<WorkflowActivation, PollError>,
    complete: impl Fn(WorkflowActivationCompletion) -> Result<(), CompleteError>,
) -> Result<(), Failed> {
    let mut orders = Orders::default();
    loop {
        match poll().await {
            Ok(activation) => complete(orders.activate(activation))?,
            Err(PollError::ShutDown) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// The language side of activities.
async fn activities(worker: &Worker) -> Result<(), Failed> {
    loop {
        let task = match worker.poll_activity_task().await {
            Ok(task) => task,
            Err(PollError::ShutDown) => return Ok(()),
            Err(other) => return Err(other.into()),
        };
        if let Some(Variant::Start(start)) = task.variant {
            let result = Some(order::perform(&start.activity_type, &start.input));
            let status = Some(Status::Completed(Success { result }));
            let result = Some(ActivityExecutionResult { status });
            worker.complete_activity_task(ActivityTaskCompletion { task_token: task.task_token, result })?;
        }
    }
}

/// A worker in a process of its own. Dropping it kills it, as `kill -9` does.
struct WorkerProcess(Child);

impl WorkerProcess {
    fn start(address: &str) -> Result<Self, Failed> {
        let this = std::env::current_exe()?;
        Ok(Self(Command::new(this).arg(address).stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It is ours; if it has ended by itself there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(client: &Client) -> Result<(), Failed> {
    let request = api::StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: ORDER.into(),
        workflow_type: Some(WorkflowType { name: "order".into() }),
        task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
        input: Some(Payloads { payloads: vec![payload("a pipe"), payload("a deerstalker")] }),
        request_id: ORDER.into(),
        ..Default::default()
    };
    let path = path::START_WORKFLOW_EXECUTION;
    let _: api::StartWorkflowExecutionResponse = client.call(path, &request, CallOptions::default()).await?;
    Ok(())
}

async fn signal(client: &Client, address: &str) -> Result<(), Failed> {
    let request = api::SignalWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_execution: execution(),
        signal_name: "address".into(),
        input: Some(Payloads { payloads: vec![payload(address)] }),
        ..Default::default()
    };
    let path = path::SIGNAL_WORKFLOW_EXECUTION;
    let _: api::SignalWorkflowExecutionResponse = client.call(path, &request, CallOptions::default()).await?;
    Ok(())
}

async fn add(client: &Client, item: &str) -> Result<String, Failed> {
    let stage = UpdateWorkflowExecutionLifecycleStage::Completed.into();
    let request = api::UpdateWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_execution: execution(),
        wait_policy: Some(WaitPolicy { lifecycle_stage: stage }),
        request: Some(Request {
            meta: Some(Meta { update_id: "add-1".into(), ..Default::default() }),
            input: Some(Input {
                name: "add".into(),
                args: Some(Payloads { payloads: vec![payload(item)] }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let path = path::UPDATE_WORKFLOW_EXECUTION;
    let answer: api::UpdateWorkflowExecutionResponse =
        client.call(path, &request, CallOptions::default()).await?;
    match answer.outcome.and_then(|outcome| outcome.value) {
        Some(outcome::Value::Success(said)) => Ok(said.payloads.first().map(text).unwrap_or_default()),
        other => Err(format!("the update was not taken: {other:?}").into()),
    }
}

/// Waits until the history has an event of this type.
async fn until(client: &Client, wanted: EventType) -> Result<(), Failed> {
    let mut request = api::GetWorkflowExecutionHistoryRequest {
        namespace: "default".into(),
        execution: execution(),
        wait_new_event: true,
        ..Default::default()
    };
    let path = path::GET_WORKFLOW_EXECUTION_HISTORY;
    loop {
        let page: api::GetWorkflowExecutionHistoryResponse =
            client.call(path, &request, CallOptions::long_poll()).await?;
        let events = page.history.unwrap_or_default().events;
        if events.iter().any(|event| event.event_type() == wanted) {
            return Ok(());
        }
        if page.next_page_token.is_empty() {
            return Err(format!("the workflow closed without {}", wanted.as_str_name()).into());
        }
        request.next_page_token = page.next_page_token;
    }
}

async fn history(client: &Client) -> Result<History, Failed> {
    let request = api::GetWorkflowExecutionHistoryRequest {
        namespace: "default".into(),
        execution: execution(),
        ..Default::default()
    };
    let path = path::GET_WORKFLOW_EXECUTION_HISTORY;
    let page: api::GetWorkflowExecutionHistoryResponse =
        client.call(path, &request, CallOptions::default()).await?;
    Ok(page.history.unwrap_or_default())
}

fn execution() -> Option<WorkflowExecution> {
    Some(WorkflowExecution { workflow_id: ORDER.into(), run_id: String::new() })
}

fn result(history: &History) -> String {
    let closed = history.events.last().and_then(|event| event.attributes.clone());
    match closed {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(done)) => {
            done.result.unwrap_or_default().payloads.first().map(text).unwrap_or_default()
        }
        other => format!("{other:?}"),
    }
}

/// The story as the history must tell it: each activity once, in spite of the kill.
fn check(history: &History) -> Result<(), Failed> {
    let count = |wanted| history.events.iter().filter(|e: &&HistoryEvent| e.event_type() == wanted).count();
    let told = [
        (EventType::ActivityTaskCompleted, 2),
        (EventType::TimerFired, 1),
        (EventType::WorkflowExecutionSignaled, 1),
        (EventType::WorkflowExecutionUpdateCompleted, 1),
    ];
    for (wanted, times) in told {
        if count(wanted) != times {
            return Err(format!("{} happened {} times", wanted.as_str_name(), count(wanted)).into());
        }
    }
    match result(history).as_str() {
        "shipped a pipe, a deerstalker, a magnifying glass to 221B Baker Street" => Ok(()),
        other => Err(format!("the result is {other}").into()),
    }
}

async fn replay(history: &History) -> Result<(), Failed> {
    let replayer = Replayer::new(ReplayConfig { task_queue: QUEUE.into(), ..Default::default() });
    let replay = replayer.replay(ORDER, Bytes::from(history.encode_to_vec()));
    let language = workflows(
        async || replayer.poll_workflow_activation().await,
        |completion| replayer.complete_workflow_activation(completion),
    );
    let ended = async {
        let result = replay.result().await;
        replayer.shutdown();
        result
    };
    let (language, result) = tokio::join!(language, ended);
    result?;
    language
}
