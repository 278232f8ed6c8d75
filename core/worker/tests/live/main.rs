//! Against a real Temporal server, if `OUTLAST_TEST_SERVER` names one (`host:port`): many runs over a small cache, a
//! worker that ends under load and one that takes over, cancellation by heartbeat, queries; every history is replayed.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

mod ledger;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ledger::Ledger;
use outlast_client::{CallOptions, Client, ClientOptions};
use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Cancellation, Success as ActivitySuccess,
    activity_execution_result::Status as ActivityStatus, activity_resolution::Status as Resolution,
};
use outlast_proto::coresdk::activity_task::{ActivityCancelReason, activity_task};
use outlast_proto::coresdk::workflow_activation::{
    WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_proto::coresdk::workflow_commands::{
    ActivityCancellationType, CompleteWorkflowExecution, QueryResult, QuerySuccess, RequestCancelActivity,
    ScheduleActivity, ScheduleLocalActivity, StartTimer, WorkflowCommand, query_result,
    workflow_command::Variant as Command,
};
use outlast_proto::coresdk::workflow_completion::{
    Success, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_proto::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use outlast_proto::temporal::api::common::v1::{Payload, WorkflowExecution, WorkflowType};
use outlast_proto::temporal::api::enums::v1::{EventType, HistoryEventFilterType};
use outlast_proto::temporal::api::history::v1::{History, history_event::Attributes};
use outlast_proto::temporal::api::query::v1::WorkflowQuery;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_worker::{CompleteError, Ending, PollError, ReplayConfig, Replayer, Worker, WorkerConfig};
use prost::Message;

/// The server, and a task queue that nobody else uses; `None` and a word about it if there is no server.
async fn server(name: &str) -> Option<(Client, String)> {
    let Ok(address) = std::env::var("OUTLAST_TEST_SERVER") else {
        eprintln!("SKIPPED: OUTLAST_TEST_SERVER is not set, no real server was tried");
        return None;
    };
    let client = Client::connect(ClientOptions::new(address.parse().unwrap())).await.unwrap();
    let unique = format!("{name}-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos());
    Some((client, unique))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn activity(seq: u32, name: &str, heartbeat: i64) -> Command {
    Command::ScheduleActivity(ScheduleActivity {
        seq,
        activity_id: seq.to_string(),
        activity_type: name.into(),
        start_to_close_timeout: seconds(30),
        heartbeat_timeout: seconds(heartbeat),
        cancellation_type: ActivityCancellationType::WaitCancellationCompleted.into(),
        do_not_eagerly_execute: seq.is_multiple_of(2),
        ..Default::default()
    })
}

fn local(seq: u32) -> Command {
    Command::ScheduleLocalActivity(ScheduleLocalActivity {
        seq,
        activity_id: seq.to_string(),
        activity_type: "look".into(),
        attempt: 1,
        start_to_close_timeout: seconds(5),
        ..Default::default()
    })
}

fn done() -> Command {
    Command::CompleteWorkflowExecution(CompleteWorkflowExecution::default())
}

/// What each kind of workflow does next.
fn step(workflow: &str, job: &Job) -> Vec<Command> {
    let mut resolved = None;
    if let Job::ResolveActivity(activity) = job {
        let status = activity.result.clone().and_then(|result| result.status);
        resolved = Some((activity.seq, matches!(status, Some(Resolution::Completed(_)))));
    }
    match (workflow, job, resolved) {
        ("walk", Job::InitializeWorkflow(_), _) => vec![activity(1, "work", 0), activity(2, "work", 0)],
        ("walk", _, Some((2, true))) => vec![local(3)],
        ("walk", _, Some((3, true))) => {
            vec![Command::StartTimer(StartTimer { seq: 4, start_to_fire_timeout: seconds(1) })]
        }
        ("walk", Job::FireTimer(_), _) => vec![local(5)],
        ("walk", _, Some((5, true))) => vec![done()],
        ("stop", Job::InitializeWorkflow(_), _) => vec![activity(1, "wait", 2)],
        ("stop", Job::SignalWorkflow(_), _) => {
            vec![Command::RequestCancelActivity(RequestCancelActivity { seq: 1 })]
        }
        ("stop", _, Some((1, false))) => vec![done()],
        (_, Job::QueryWorkflow(query), _) => {
            let response = Some(Payload { data: "\"fine\"".into(), ..Default::default() });
            let variant = Some(query_result::Variant::Succeeded(QuerySuccess { response }));
            vec![Command::RespondToQuery(QueryResult { query_id: query.query_id.clone(), variant })]
        }
        _ => vec![],
    }
}

/// Who gives activations.
enum Giver {
    Worker(Worker),
    Replayer(Replayer),
}

impl Giver {
    async fn poll(&self) -> Result<WorkflowActivation, PollError> {
        match self {
            Giver::Worker(worker) => worker.poll_workflow_activation().await,
            Giver::Replayer(replayer) => replayer.poll_workflow_activation().await,
        }
    }

    fn complete(&self, completion: WorkflowActivationCompletion) -> Result<(), CompleteError> {
        match self {
            Giver::Worker(worker) => worker.complete_workflow_activation(completion),
            Giver::Replayer(replayer) => replayer.complete_workflow_activation(completion),
        }
    }
}

/// Answers activations until it is over.
async fn workflows(giver: Giver) {
    let mut types: HashMap<String, String> = HashMap::new();
    loop {
        let activation = match giver.poll().await {
            Ok(activation) => activation,
            Err(PollError::ShutDown) => return,
            Err(other) => panic!("{other:?}"),
        };
        let run_id = activation.run_id;
        let mut commands = Vec::new();
        for job in activation.jobs.into_iter().filter_map(|job| job.variant) {
            if let Job::InitializeWorkflow(start) = &job {
                types.insert(run_id.clone(), start.workflow_type.clone());
            }
            if let Job::RemoveFromCache(_) = &job {
                types.remove(&run_id);
            }
            let workflow = types.get(&run_id).map_or("", String::as_str);
            commands.extend(step(workflow, &job));
        }
        let command = |variant| WorkflowCommand { variant: Some(variant), ..Default::default() };
        let commands = commands.into_iter().map(command).collect();
        let status = Some(Status::Successful(Success { commands, ..Default::default() }));
        giver.complete(WorkflowActivationCompletion { run_id, status, ..Default::default() }).unwrap();
    }
}

async fn activities(worker: &Worker) {
    loop {
        let task = match worker.poll_activity_task().await {
            Ok(task) => task,
            Err(PollError::ShutDown) => return,
            Err(other) => panic!("{other:?}"),
        };
        let status = match task.variant {
            Some(activity_task::Variant::Start(start)) if start.activity_type == "wait" => {
                beats(worker.clone(), task.task_token);
                continue;
            }
            Some(activity_task::Variant::Start(_)) => {
                ActivityStatus::Completed(ActivitySuccess { result: Some(Payload::default()) })
            }
            Some(activity_task::Variant::Cancel(cancel)) => {
                assert_eq!(cancel.reason(), ActivityCancelReason::Cancelled);
                ActivityStatus::Cancelled(Cancellation::default())
            }
            None => panic!(),
        };
        let result = Some(ActivityExecutionResult { status: Some(status) });
        worker
            .complete_activity_task(ActivityTaskCompletion { task_token: task.task_token, result })
            .unwrap();
    }
}

/// An activity that says that it is alive, and nothing else.
fn beats(worker: Worker, task_token: Bytes) {
    tokio::spawn(async move {
        while worker.alive() {
            worker.record_activity_heartbeat(ActivityHeartbeat {
                task_token: task_token.clone(),
                details: vec![],
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
}

/// A worker with its language; the task ends when the worker does.
async fn worker(client: &Client, queue: &str, cache: usize) -> (Worker, tokio::task::JoinHandle<()>) {
    let config = WorkerConfig {
        max_cached_workflows: cache,
        sticky_queue_schedule_to_start_timeout: Duration::from_secs(1),
        ..WorkerConfig::new("default", queue)
    };
    let worker = Worker::new(client.clone(), config).unwrap();
    worker.validate().await.unwrap();
    assert!(worker.ready());
    let language = worker.clone();
    let language = tokio::spawn(async move {
        let workflows = workflows(Giver::Worker(language.clone()));
        tokio::join!(workflows, activities(&language), async {
            assert_eq!(language.poll_nexus_task().await.unwrap_err(), PollError::ShutDown);
        });
    });
    (worker, language)
}

async fn start(client: &Client, queue: &str, id: &str, kind: &str) {
    let request = api::StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: id.into(),
        workflow_type: Some(WorkflowType { name: kind.into() }),
        task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
        request_id: id.into(),
        ..Default::default()
    };
    let path = path::START_WORKFLOW_EXECUTION;
    let _: api::StartWorkflowExecutionResponse =
        client.call(path, &request, CallOptions::default()).await.unwrap();
}

fn execution(id: &str) -> Option<WorkflowExecution> {
    Some(WorkflowExecution { workflow_id: id.into(), run_id: String::new() })
}

/// Waits for the end, then reads the whole history.
async fn history(client: &Client, id: &str) -> History {
    let mut request = api::GetWorkflowExecutionHistoryRequest {
        namespace: "default".into(),
        execution: execution(id),
        wait_new_event: true,
        history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
        ..Default::default()
    };
    let path = path::GET_WORKFLOW_EXECUTION_HISTORY;
    loop {
        let page: api::GetWorkflowExecutionHistoryResponse =
            client.call(path, &request, CallOptions::long_poll()).await.unwrap();
        if page.history.is_some_and(|history| !history.events.is_empty()) {
            break;
        }
        request.next_page_token = page.next_page_token;
    }
    request.wait_new_event = false;
    request.history_event_filter_type = HistoryEventFilterType::AllEvent.into();
    request.next_page_token = Bytes::new();
    let page: api::GetWorkflowExecutionHistoryResponse =
        client.call(path, &request, CallOptions::default()).await.unwrap();
    page.history.unwrap()
}

async fn replay(histories: Vec<(String, History)>) {
    let replayer = Replayer::new(ReplayConfig::default());
    let language = tokio::spawn(workflows(Giver::Replayer(replayer.clone())));
    for (id, history) in histories {
        let replay = replayer.replay(&id, history.encode_to_vec().into());
        assert_eq!(replay.result().await, Ok(()), "{id}");
    }
    replayer.shutdown();
    language.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_outlive_a_worker_that_ends_under_load() {
    let Some((client, queue)) = server("load").await else { return };
    for cache in [0, 1, 10, 1000] {
        let queue = format!("{queue}-{cache}");
        let ids: Vec<String> = (0..60).map(|n| format!("{queue}-{n}")).collect();
        let ledger = Arc::new(Ledger::default());
        let through = ledger.client(client.clone());
        let (first, language) = worker(&through, &queue, cache).await;
        for id in &ids {
            start(&client, &queue, id, "walk").await;
        }
        assert_eq!(first.shutdown().await, Ending::Clean);
        language.await.unwrap();
        assert_eq!(ledger.wrong(), [], "each task that came is answered, once");
        let (second, language) = worker(&through, &queue, cache).await;
        let mut histories = Vec::new();
        for id in ids {
            let history = history(&client, &id).await;
            let last = history.events.last().unwrap().event_type();
            assert_eq!(last, EventType::WorkflowExecutionCompleted, "{id}");
            for started in timed_out(&history) {
                eprintln!("{id}: the task of event {started} timed out; cache {cache}");
                assert!(!ledger.knows(&run_id(&history), started), "{id}: it came and was not answered");
            }
            histories.push((id, history));
        }
        assert_eq!(second.shutdown().await, Ending::Clean);
        language.await.unwrap();
        assert_eq!(ledger.wrong(), [], "each task that came is answered, once");
        replay(histories).await;
    }
}

/// The workflow tasks that were started and then heard of no more: polls that were dropped with their task on the way.
fn timed_out(history: &History) -> Vec<i64> {
    let started = history.events.iter().map(|event| {
        if let Some(Attributes::WorkflowTaskTimedOutEventAttributes(timed_out)) = &event.attributes {
            timed_out.started_event_id
        } else {
            0
        }
    });
    started.filter(|started| *started > 0).collect()
}

fn run_id(history: &History) -> String {
    match &history.events[0].attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => {
            started.original_execution_run_id.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_cancels_an_activity_by_its_heartbeat_and_queries_are_answered() {
    let Some((client, queue)) = server("stop").await else { return };
    let (worker, language) = worker(&client, &queue, 10).await;
    start(&client, &queue, &queue, "stop").await;
    let ask = async || {
        let query = WorkflowQuery { query_type: "state".into(), ..Default::default() };
        let request = api::QueryWorkflowRequest {
            namespace: "default".into(),
            execution: execution(&queue),
            query: Some(query),
            ..Default::default()
        };
        let answer: api::QueryWorkflowResponse =
            client.call(path::QUERY_WORKFLOW, &request, CallOptions::default()).await.unwrap();
        answer.query_result.unwrap().payloads[0].data.clone()
    };
    assert_eq!(ask().await, "\"fine\"");
    let signal = api::SignalWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_execution: execution(&queue),
        signal_name: "stop".into(),
        ..Default::default()
    };
    let _: api::SignalWorkflowExecutionResponse =
        client.call(path::SIGNAL_WORKFLOW_EXECUTION, &signal, CallOptions::default()).await.unwrap();
    let history = history(&client, &queue).await;
    let happened = |kind| history.events.iter().any(|event| event.event_type() == kind);
    assert!(happened(EventType::ActivityTaskCanceled));
    assert!(happened(EventType::WorkflowExecutionCompleted));
    assert_eq!(ask().await, "\"fine\"", "also when it has closed");
    assert_eq!(worker.shutdown().await, Ending::Clean);
    language.await.unwrap();
    replay(vec![(queue, history)]).await;
}
