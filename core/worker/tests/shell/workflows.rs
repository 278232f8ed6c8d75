//! Workflows: from a poll to the answer, with what the worker adds to it.

use std::sync::Arc;
use std::time::Duration;

use outlast_client::Code;
use outlast_proto::coresdk::ActivityTaskCompletion;
use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Success as ActivitySuccess, activity_execution_result,
};
use outlast_proto::coresdk::activity_task::activity_task;
use outlast_proto::coresdk::workflow_activation::{
    WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_proto::coresdk::workflow_commands::{
    CompleteWorkflowExecution, QueryResult, QuerySuccess, ScheduleActivity, ScheduleLocalActivity,
    StartTimer, WorkflowCommand, query_result, workflow_command::Variant as Command,
};
use outlast_proto::coresdk::workflow_completion::{
    Failure, Success, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_proto::lens::lang::remove_from_cache::EvictionReason;
use outlast_proto::temporal::api::command::v1::command::Attributes as ApiCommand;
use outlast_proto::temporal::api::common::v1::{Payload, WorkflowExecution, WorkflowType};
use outlast_proto::temporal::api::enums::v1::{
    EventType, QueryResultType, TaskQueueKind, WorkflowTaskFailedCause,
};
use outlast_proto::temporal::api::history::v1::history_event::Attributes;
use outlast_proto::temporal::api::history::v1::{self as event, History, HistoryEvent};
use outlast_proto::temporal::api::query::v1::WorkflowQuery;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_proto::temporal::api::worker::v1::WorkerPollerInfo;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{CompleteError, Ending, FixedSlots, PollError, Slots, TaskTypes, Worker, WorkerConfig};
use prost::Message;

use crate::server::{Answer, Server};
use crate::sizes::describe;
use crate::{begin_the_end, config};

pub const POLL: &str = "PollWorkflowTaskQueue";
pub const COMPLETED: &str = "RespondWorkflowTaskCompleted";
pub const FAILED: &str = "RespondWorkflowTaskFailed";

pub fn cached() -> WorkerConfig {
    let types = TaskTypes { nexus: false, ..TaskTypes::ALL };
    WorkerConfig { max_cached_workflows: 10, ..config(types) }
}

pub fn worker(server: &Arc<Server>) -> Worker {
    Worker::new(server.client(), cached()).unwrap()
}

pub fn event(id: i64, kind: EventType, attributes: Attributes) -> HistoryEvent {
    let event_time = Some(prost_types::Timestamp { seconds: 1_000 + id, nanos: 0 });
    HistoryEvent {
        event_id: id,
        event_time,
        event_type: kind.into(),
        attributes: Some(attributes),
        ..Default::default()
    }
}

pub fn started(run: &str) -> HistoryEvent {
    let attributes = event::WorkflowExecutionStartedEventAttributes {
        workflow_type: Some(WorkflowType { name: "order".into() }),
        original_execution_run_id: run.into(),
        first_execution_run_id: run.into(),
        workflow_task_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        attempt: 1,
        ..Default::default()
    };
    let attributes = Attributes::WorkflowExecutionStartedEventAttributes(attributes);
    event(1, EventType::WorkflowExecutionStarted, attributes)
}

/// The two events that every task begins with.
pub fn task_events(id: i64) -> [HistoryEvent; 2] {
    let scheduled = Attributes::WorkflowTaskScheduledEventAttributes(Default::default());
    let started = Attributes::WorkflowTaskStartedEventAttributes(event::WorkflowTaskStartedEventAttributes {
        scheduled_event_id: id,
        ..Default::default()
    });
    [
        event(id, EventType::WorkflowTaskScheduled, scheduled),
        event(id + 1, EventType::WorkflowTaskStarted, started),
    ]
}

pub fn task_completed(id: i64) -> HistoryEvent {
    let attributes = event::WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: id - 2,
        started_event_id: id - 1,
        ..Default::default()
    };
    event(id, EventType::WorkflowTaskCompleted, Attributes::WorkflowTaskCompletedEventAttributes(attributes))
}

pub fn timer_started(id: i64) -> HistoryEvent {
    let attributes = event::TimerStartedEventAttributes {
        timer_id: "1".into(),
        start_to_fire_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        workflow_task_completed_event_id: id - 1,
    };
    event(id, EventType::TimerStarted, Attributes::TimerStartedEventAttributes(attributes))
}

pub fn timer_fired(id: i64, started: i64) -> HistoryEvent {
    let attributes = event::TimerFiredEventAttributes { timer_id: "1".into(), started_event_id: started };
    event(id, EventType::TimerFired, Attributes::TimerFiredEventAttributes(attributes))
}

fn task(run: &str, token: &'static str, events: Vec<HistoryEvent>) -> api::PollWorkflowTaskQueueResponse {
    let last = events.last().map_or(0, |event| event.event_id);
    api::PollWorkflowTaskQueueResponse {
        task_token: token.into(),
        workflow_execution: Some(WorkflowExecution { workflow_id: "w".into(), run_id: run.into() }),
        workflow_type: Some(WorkflowType { name: "order".into() }),
        started_event_id: last,
        attempt: 1,
        history: Some(History { events }),
        ..Default::default()
    }
}

pub fn first(run: &str) -> api::PollWorkflowTaskQueueResponse {
    let [scheduled, begun] = task_events(2);
    task(run, "t1", vec![started(run), scheduled, begun])
}

/// What came after the first task: the timer that it started has fired.
fn second(run: &str) -> api::PollWorkflowTaskQueueResponse {
    let [scheduled, begun] = task_events(7);
    let events = vec![task_completed(4), timer_started(5), timer_fired(6, 5), scheduled, begun];
    api::PollWorkflowTaskQueueResponse { previous_started_event_id: 3, ..task(run, "t2", events) }
}

pub fn commands(run: &str, commands: Vec<Command>) -> WorkflowActivationCompletion {
    let command = |variant| WorkflowCommand { variant: Some(variant), ..Default::default() };
    let commands = commands.into_iter().map(command).collect();
    let status = Some(Status::Successful(Success { commands, ..Default::default() }));
    WorkflowActivationCompletion { run_id: run.into(), status, ..Default::default() }
}

pub fn timer() -> Command {
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    Command::StartTimer(StartTimer { seq: 1, start_to_fire_timeout: second })
}

pub fn complete() -> Command {
    Command::CompleteWorkflowExecution(CompleteWorkflowExecution::default())
}

pub fn jobs(activation: &WorkflowActivation) -> Vec<&Job> {
    activation.jobs.iter().filter_map(|job| job.variant.as_ref()).collect()
}

pub fn is_eviction(activation: &WorkflowActivation) -> bool {
    matches!(jobs(activation)[..], [Job::RemoveFromCache(_)])
}

/// Takes the next activation and answers it so.
pub async fn answer(worker: &Worker, with: Vec<Command>) -> WorkflowActivation {
    let activation = worker.poll_workflow_activation().await.unwrap();
    worker.complete_workflow_activation(commands(&activation.run_id, with)).unwrap();
    activation
}

/// Answers evictions until the worker says that it is over.
pub async fn evictions(worker: &Worker) -> usize {
    let mut count = 0;
    loop {
        match worker.poll_workflow_activation().await {
            Ok(activation) => {
                assert!(is_eviction(&activation), "{activation:?}");
                count += 1;
                worker.complete_workflow_activation(commands(&activation.run_id, vec![])).unwrap();
            }
            Err(PollError::ShutDown) => return count,
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub async fn completed(server: &Server) -> api::RespondWorkflowTaskCompletedRequest {
    server.heard(COMPLETED).await
}

#[tokio::test(start_paused = true)]
async fn a_task_becomes_an_activation_and_its_commands_an_answer() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    let activation = answer(&worker, vec![timer()]).await;
    assert!(matches!(jobs(&activation)[..], [Job::InitializeWorkflow(_)]));
    let said = completed(&server).await;
    assert_eq!((said.task_token.as_ref(), said.identity.as_str()), (&b"t1"[..], "tester"));
    assert!(matches!(said.commands[0].attributes, Some(ApiCommand::StartTimerCommandAttributes(_))));
    assert!(
        said.return_new_workflow_task
            && said.capabilities.unwrap().discard_speculative_workflow_task_with_events
    );
    let sticky = said.sticky_attributes.unwrap();
    let queue = sticky.worker_task_queue.unwrap();
    assert!(queue.name.starts_with("tester-"), "{}", queue.name);
    assert_eq!((queue.kind(), queue.normal_name.as_str()), (TaskQueueKind::Sticky, "q"));
    assert_eq!(sticky.schedule_to_start_timeout.unwrap().seconds, 10);
    let sdk = said.sdk_metadata.unwrap();
    assert_eq!(sdk.sdk_name, "outlast");
    assert!(!sdk.core_used_flags.is_empty());
}

#[tokio::test(start_paused = true)]
async fn both_queues_are_polled_and_without_a_cache_only_one() {
    let kinds = async |cache| {
        let server = Server::new();
        let worker =
            Worker::new(server.client(), WorkerConfig { max_cached_workflows: cache, ..cached() }).unwrap();
        let polling = tokio::spawn(async move { worker.poll_workflow_activation().await });
        let mut kinds = Vec::new();
        for _ in 0..5 {
            let request: api::PollWorkflowTaskQueueRequest = server.heard(POLL).await;
            kinds.push(request.task_queue.unwrap().kind());
        }
        polling.abort();
        kinds.iter().filter(|kind| **kind == TaskQueueKind::Sticky).count()
    };
    assert_eq!(kinds(10).await, 4);
    assert_eq!(kinds(0).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_task_in_the_answer_goes_on_in_the_same_slot() {
    let server = Server::new();
    let one = FixedSlots { workflow_tasks: 2, activities: 1, local_activities: 1, nexus_tasks: 1 };
    let worker = Worker::new(server.client(), WorkerConfig { slots: Slots::Fixed(one), ..cached() }).unwrap();
    let next =
        api::RespondWorkflowTaskCompletedResponse { workflow_task: Some(second("r1")), ..Default::default() };
    server.answer(COMPLETED, Answer::is(&next));
    server.answer(COMPLETED, Answer::Is(bytes::Bytes::new()));
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    let activation = answer(&worker, vec![complete()]).await;
    assert!(matches!(jobs(&activation)[..], [Job::FireTimer(_)]));
    completed(&server).await;
    let said = completed(&server).await;
    assert_eq!(said.task_token.as_ref(), b"t2");
    assert!(!said.return_new_workflow_task, "nothing follows the last command");
    // The run has closed, so it leaves; then both slots are free for two more runs.
    assert!(is_eviction(&answer(&worker, vec![]).await));
    server.give(POLL, &first("r2"));
    server.give(POLL, &first("r3"));
    answer(&worker, vec![timer()]).await;
    answer(&worker, vec![timer()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_read_is_failed() {
    let server = Server::new();
    let worker = worker(&server);
    // Field 1, the token; field 2, an execution that breaks off.
    server.give_bytes(POLL, b"\x0a\x02t1\x12\x03\x0a\x7fx".as_slice().into());
    let polling = tokio::spawn(async move { worker.poll_workflow_activation().await });
    let said: api::RespondWorkflowTaskFailedRequest = server.heard(FAILED).await;
    assert_eq!(said.task_token.as_ref(), b"t1");
    assert!(said.failure.unwrap().message.contains("cannot be read"));
    polling.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_activation_fails_the_task_and_the_run_leaves() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    worker.poll_workflow_activation().await.unwrap();
    let failure =
        outlast_proto::temporal::api::failure::v1::Failure { message: "oops".into(), ..Default::default() };
    let status = Some(Status::Failed(Failure { failure: Some(failure), ..Default::default() }));
    let failed = WorkflowActivationCompletion { run_id: "r1".into(), status, ..Default::default() };
    worker.complete_workflow_activation(failed).unwrap();
    let said: api::RespondWorkflowTaskFailedRequest = server.heard(FAILED).await;
    assert_eq!(said.failure.as_ref().unwrap().message, "oops");
    assert_eq!(said.cause(), WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure);
    assert!(is_eviction(&answer(&worker, vec![]).await));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_task_the_server_forgot_leaves() {
    let server = Server::new();
    let worker = worker(&server);
    server.answer(COMPLETED, Answer::Fails(Code::NotFound, "no such task"));
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    let activation = answer(&worker, vec![]).await;
    let [Job::RemoveFromCache(remove)] = jobs(&activation)[..] else { panic!("{activation:?}") };
    assert_eq!(remove.reason, EvictionReason::TaskNotFound as i32);
}

#[tokio::test(start_paused = true)]
async fn an_unhandled_command_makes_the_run_leave_and_come_back() {
    let server = Server::new();
    let worker = worker(&server);
    server.answer(COMPLETED, Answer::Fails(Code::InvalidArgument, "UnhandledCommand"));
    server.give(POLL, &first("r1"));
    answer(&worker, vec![complete()]).await;
    let activation = answer(&worker, vec![]).await;
    let [Job::RemoveFromCache(remove)] = jobs(&activation)[..] else { panic!("{activation:?}") };
    assert_eq!(remove.reason, EvictionReason::UnhandledCommand as i32);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_fails_the_task_with_that_cause() {
    let server = Server::new();
    let worker = worker(&server);
    let words = "grpc: received message larger than max (5 vs. 4)";
    server.answer(COMPLETED, Answer::Fails(Code::ResourceExhausted, words));
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    let said: api::RespondWorkflowTaskFailedRequest = server.heard(FAILED).await;
    assert_eq!(said.cause(), WorkflowTaskFailedCause::GrpcMessageTooLarge);
    assert_eq!(server.unheard(COMPLETED), 1, "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn what_a_task_lacks_of_its_history_is_fetched() {
    let server = Server::new();
    let worker = worker(&server);
    let [scheduled, begun] = task_events(2);
    let page = |events| History { events };
    let rest = api::GetWorkflowExecutionHistoryResponse {
        history: Some(page(vec![scheduled, begun])),
        ..Default::default()
    };
    server.answer("GetWorkflowExecutionHistory", Answer::is(&rest));
    let partial = api::PollWorkflowTaskQueueResponse {
        history: Some(page(vec![started("r1")])),
        next_page_token: "p2".into(),
        ..first("r1")
    };
    server.give(POLL, &partial);
    let activation = answer(&worker, vec![timer()]).await;
    assert_eq!(activation.history_length, 3);
    let asked: api::GetWorkflowExecutionHistoryRequest = server.heard("GetWorkflowExecutionHistory").await;
    assert_eq!(asked.next_page_token.as_ref(), b"p2");
    completed(&server).await;
}

pub fn query() -> api::PollWorkflowTaskQueueResponse {
    let query = WorkflowQuery { query_type: "state".into(), ..Default::default() };
    let [scheduled, begun] = task_events(2);
    let events = vec![started("r1"), scheduled, begun, task_completed(4), timer_started(5)];
    api::PollWorkflowTaskQueueResponse {
        query: Some(query),
        started_event_id: 0,
        previous_started_event_id: 3,
        ..task("r1", "t1", events)
    }
}

/// Replays what comes before the query, then answers it.
async fn answer_query(worker: &Worker) {
    answer(worker, vec![timer()]).await;
    let activation = worker.poll_workflow_activation().await.unwrap();
    let [Job::QueryWorkflow(query)] = jobs(&activation)[..] else { panic!("{activation:?}") };
    let response = Some(Payload { data: "fine".into(), ..Default::default() });
    let result = QueryResult {
        query_id: query.query_id.clone(),
        variant: Some(query_result::Variant::Succeeded(QuerySuccess { response })),
    };
    worker.complete_workflow_activation(commands("r1", vec![Command::RespondToQuery(result)])).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_legacy_query_is_answered_by_its_own_call() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &query());
    answer_query(&worker).await;
    let said: api::RespondQueryTaskCompletedRequest = server.heard("RespondQueryTaskCompleted").await;
    assert_eq!(said.completed_type(), QueryResultType::Answered);
    assert_eq!(said.query_result.unwrap().payloads[0].data, "fine");
    assert_eq!(server.unheard(COMPLETED), 0);
}

#[tokio::test(start_paused = true)]
async fn a_query_s_answer_that_is_too_large_becomes_a_failure_that_says_so() {
    let server = Server::new();
    let worker = worker(&server);
    let words = "grpc: received message larger than max (5 vs. 4)";
    server.answer("RespondQueryTaskCompleted", Answer::Fails(Code::ResourceExhausted, words));
    server.answer("RespondQueryTaskCompleted", Answer::Is(bytes::Bytes::new()));
    server.give(POLL, &query());
    answer_query(&worker).await;
    let _: api::RespondQueryTaskCompletedRequest = server.heard("RespondQueryTaskCompleted").await;
    let said: api::RespondQueryTaskCompletedRequest = server.heard("RespondQueryTaskCompleted").await;
    assert_eq!(said.completed_type(), QueryResultType::Failed);
    assert_eq!(said.error_message, "GRPC Message too large");
}

pub fn schedule(seq: u32) -> Command {
    Command::ScheduleActivity(ScheduleActivity {
        seq,
        activity_id: seq.to_string(),
        activity_type: "charge".into(),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    })
}

fn local() -> Command {
    Command::ScheduleLocalActivity(ScheduleLocalActivity {
        seq: 1,
        activity_id: "1".into(),
        activity_type: "look".into(),
        attempt: 1,
        headers: [("h".to_owned(), Payload { data: "v".into(), ..Default::default() })].into(),
        arguments: vec![Payload { data: "arg".into(), ..Default::default() }],
        start_to_close_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..Default::default()
    })
}

fn activity_done(task_token: bytes::Bytes) -> ActivityTaskCompletion {
    let status =
        activity_execution_result::Status::Completed(ActivitySuccess { result: Some(Payload::default()) });
    ActivityTaskCompletion { task_token, result: Some(ActivityExecutionResult { status: Some(status) }) }
}

#[tokio::test(start_paused = true)]
async fn a_local_activity_runs_here_and_its_result_goes_into_the_same_task() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    answer(&worker, vec![local()]).await;
    let task = worker.poll_activity_task().await.unwrap();
    let Some(activity_task::Variant::Start(start)) = task.variant else { panic!() };
    assert!(start.is_local);
    assert_eq!((start.activity_type.as_str(), start.workflow_type.as_str()), ("look", "order"));
    assert_eq!(
        (start.input[0].data.as_ref(), start.header_fields["h"].data.as_ref()),
        (&b"arg"[..], &b"v"[..])
    );
    assert_eq!(start.workflow_execution.unwrap().run_id, "r1");
    worker.complete_activity_task(activity_done(task.task_token)).unwrap();
    let activation = answer(&worker, vec![complete()]).await;
    assert!(matches!(jobs(&activation)[..], [Job::ResolveActivity(_)]), "{activation:?}");
    let said = completed(&server).await;
    assert_eq!(said.commands.len(), 2, "the marker and the end");
    assert_eq!(said.task_token.as_ref(), b"t1");
}

#[tokio::test(start_paused = true)]
async fn a_local_activity_is_still_run_during_shutdown() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    worker.poll_workflow_activation().await.unwrap();
    worker.initiate_shutdown();
    worker.complete_workflow_activation(commands("r1", vec![local()])).unwrap();
    let task = worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(activity_done(task.task_token)).unwrap();
    let activation = answer(&worker, vec![complete()]).await;
    assert!(matches!(jobs(&activation)[..], [Job::ResolveActivity(_)]), "{activation:?}");
    completed(&server).await;
    evictions(&worker).await;
    assert_eq!(worker.shutdown().await, Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn shutdown_evicts_every_cached_run_and_waits_for_the_language() {
    let server = Server::new();
    let worker = worker(&server);
    for run in ["r1", "r2", "r3"] {
        server.give(POLL, &first(run));
        answer(&worker, vec![timer()]).await;
        completed(&server).await;
    }
    let ending = begin_the_end(&worker);
    assert_eq!(evictions(&worker).await, 3);
    assert_eq!(ending.await.unwrap(), Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn shutdown_may_leave_the_runs_to_the_language() {
    let server = Server::new();
    let worker =
        Worker::new(server.client(), WorkerConfig { ignore_evicts_on_shutdown: true, ..cached() }).unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    completed(&server).await;
    assert_eq!(worker.shutdown().await, Ending::Clean);
    assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_given_reaches_a_server_that_stumbles_before_the_end() {
    let server = Server::new();
    server.answer(COMPLETED, Answer::Fails(Code::Unavailable, "later"));
    server.answer(COMPLETED, Answer::Fails(Code::Unavailable, "later"));
    server.answer(COMPLETED, Answer::Is(bytes::Bytes::new()));
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    worker.initiate_shutdown();
    evictions(&worker).await;
    assert_eq!(worker.shutdown().await, Ending::Clean);
    assert_eq!(server.unheard(COMPLETED), 3);
}

#[tokio::test(start_paused = true)]
async fn an_activation_that_is_out_is_waited_for() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    let activation = worker.poll_workflow_activation().await.unwrap();
    let ending = begin_the_end(&worker);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!ending.is_finished());
    worker.complete_workflow_activation(commands(&activation.run_id, vec![timer()])).unwrap();
    let said = completed(&server).await;
    assert!(!said.return_new_workflow_task, "a worker that ends wants no more");
    evictions(&worker).await;
    assert_eq!(ending.await.unwrap(), Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_cannot_hold_the_end_up_for_ever() {
    let server = Server::new();
    server.answer(COMPLETED, Answer::Silence);
    let worker =
        Worker::new(server.client(), WorkerConfig { shutdown_limit: Duration::from_secs(15), ..cached() })
            .unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    assert_eq!(worker.shutdown().await, Ending::Deadline);
    tokio::task::yield_now().await;
    assert_eq!(worker.complete_workflow_activation(commands("r1", vec![])), Err(CompleteError::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_run_leaves_when_the_language_asks() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    completed(&server).await;
    worker.request_workflow_eviction("r1", EvictionReason::LangRequested, "enough");
    let activation = answer(&worker, vec![]).await;
    let [Job::RemoveFromCache(remove)] = jobs(&activation)[..] else { panic!("{activation:?}") };
    assert_eq!((remove.message.as_str(), remove.reason), ("enough", EvictionReason::LangRequested as i32));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_asked_to_leave_serves_the_task_in_the_answer_first() {
    let server = Server::new();
    let worker = worker(&server);
    let next =
        api::RespondWorkflowTaskCompletedResponse { workflow_task: Some(second("r1")), ..Default::default() };
    server.answer(COMPLETED, Answer::is(&next));
    server.answer(COMPLETED, Answer::Is(bytes::Bytes::new()));
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    worker.request_workflow_eviction("r1", EvictionReason::LangRequested, "enough");
    let activation = answer(&worker, vec![timer()]).await;
    assert!(matches!(jobs(&activation)[..], [Job::FireTimer(_)]), "{activation:?}");
    completed(&server).await;
    let said = completed(&server).await;
    assert_eq!(said.task_token.as_ref(), b"t2");
    assert!(said.sticky_attributes.is_none() && !said.return_new_workflow_task, "it leaves");
    assert!(is_eviction(&answer(&worker, vec![]).await));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_does_not_ask_for_its_runs_again() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    let activation = worker.poll_workflow_activation().await.unwrap();
    worker.initiate_shutdown();
    let _: api::ShutdownWorkerRequest = server.heard("ShutdownWorker").await;
    worker.complete_workflow_activation(commands(&activation.run_id, vec![timer()])).unwrap();
    let said = completed(&server).await;
    assert!(said.sticky_attributes.is_none() && !said.return_new_workflow_task);
    assert_eq!(evictions(&worker).await, 1);
    assert_eq!(worker.shutdown().await, Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn without_a_cache_each_run_leaves_after_its_task() {
    let server = Server::new();
    let worker = Worker::new(server.client(), WorkerConfig { max_cached_workflows: 0, ..cached() }).unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    let said = completed(&server).await;
    assert!(said.sticky_attributes.is_none() && !said.return_new_workflow_task);
    assert!(is_eviction(&answer(&worker, vec![]).await));
}

#[tokio::test(start_paused = true)]
async fn answers_go_to_the_client_that_is_there_when_they_are_given() {
    let (before, after) = (Server::new(), Server::new());
    let worker = worker(&before);
    before.give(POLL, &first("r1"));
    let activation = worker.poll_workflow_activation().await.unwrap();
    worker.replace_client(after.client());
    worker.complete_workflow_activation(commands(&activation.run_id, vec![timer()])).unwrap();
    completed(&after).await;
    assert_eq!(before.unheard(COMPLETED), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_tried_again_goes_to_the_client_that_is_there_then() {
    let (before, after) = (Server::new(), Server::new());
    before.answer(COMPLETED, Answer::Fails(Code::Unavailable, "gone"));
    let worker = worker(&before);
    before.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    completed(&before).await;
    worker.replace_client(after.client());
    completed(&after).await;
}

#[tokio::test(start_paused = true)]
async fn activations_and_completions_also_go_as_bytes() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    let encoded = worker.poll_workflow_activation_bytes().await.unwrap();
    let activation = WorkflowActivation::decode(encoded).unwrap();
    let completion = commands(&activation.run_id, vec![timer()]).encode_to_vec();
    worker.complete_workflow_activation_bytes(completion.into()).unwrap();
    completed(&server).await;
    let garbage = worker.complete_workflow_activation_bytes(b"\x0a\x7f".as_slice().into());
    assert!(matches!(garbage, Err(CompleteError::Unreadable(_))));
    let empty = WorkflowActivationCompletion { run_id: "r1".into(), ..Default::default() };
    assert!(matches!(worker.complete_workflow_activation(empty), Err(CompleteError::Malformed(_))));
}

#[tokio::test(start_paused = true)]
async fn deployments_and_their_default_behaviour_are_told() {
    let server = Server::new();
    let versioning = outlast_worker::Versioning::Deployment {
        deployment_name: "shop".into(),
        build_id: "b1".into(),
        use_worker_versioning: true,
        default_behavior: 2,
    };
    let worker = Worker::new(server.client(), WorkerConfig { versioning, ..cached() }).unwrap();
    server.give(POLL, &first("r1"));
    let activation = answer(&worker, vec![timer()]).await;
    assert_eq!(activation.deployment_version_for_current_task.unwrap().build_id, "b1");
    let said = completed(&server).await;
    let deployment = said.deployment_options.unwrap();
    assert_eq!((deployment.deployment_name.as_str(), deployment.build_id.as_str()), ("shop", "b1"));
    assert_eq!(said.versioning_behavior, 2);
    let poll: api::PollWorkflowTaskQueueRequest = server.heard(POLL).await;
    assert_eq!(poll.deployment_options.unwrap().build_id, "b1");
    let _: TaskQueue = poll.task_queue.unwrap();
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_how_busy_the_worker_is_and_that_it_ends() {
    let server = Server::new();
    server.answer("DescribeNamespace", Answer::is(&describe(100)));
    let every = Some(Duration::from_secs(60));
    let worker =
        Worker::new(server.client(), WorkerConfig { heartbeat_interval: every, ..cached() }).unwrap();
    worker.validate().await.unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![timer()]).await;
    server.give(POLL, &first("r2"));
    worker.poll_workflow_activation().await.unwrap();
    let first: api::RecordWorkerHeartbeatRequest = server.heard("RecordWorkerHeartbeat").await;
    assert!(first.worker_heartbeat[0].elapsed_since_last_heartbeat.is_none());
    let said: api::RecordWorkerHeartbeatRequest = server.heard("RecordWorkerHeartbeat").await;
    let beat = &said.worker_heartbeat[0];
    assert_eq!(beat.elapsed_since_last_heartbeat.unwrap().seconds, 60);
    let slots = beat.workflow_task_slots_info.as_ref().unwrap();
    assert_eq!((slots.current_used_slots, slots.total_processed_tasks), (1, 1));
    assert_eq!((beat.current_sticky_cache_size, beat.sdk_name.as_str()), (2, "outlast"));
    assert_eq!(beat.worker_instance_key, worker.instance_key());
    let polls = |info: &Option<WorkerPollerInfo>| info.as_ref().unwrap().current_pollers;
    assert_eq!((polls(&beat.workflow_poller_info), polls(&beat.workflow_sticky_poller_info)), (1, 4));
    let tasks = [&beat.workflow_poller_info, &beat.workflow_sticky_poller_info];
    let last = tasks.map(|info| info.as_ref().unwrap().last_successful_poll_time);
    assert!(last.iter().any(Option::is_some), "{last:?}");
    assert!(beat.host_info.as_ref().unwrap().current_host_mem_usage > 0.0);
    worker.initiate_shutdown();
    let said: api::ShutdownWorkerRequest = server.heard("ShutdownWorker").await;
    let last = said.worker_heartbeat.unwrap();
    assert_eq!(last.status(), outlast_proto::temporal::api::enums::v1::WorkerStatus::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_measured() {
    use outlast_worker::telemetry::{Metrics, MetricsOptions, Prometheus, PrometheusOptions};
    let prometheus = Arc::new(Prometheus::new(PrometheusOptions::default()));
    let metrics = Metrics::new(prometheus.clone(), MetricsOptions::default());
    let server = Server::new();
    let worker = Worker::with_metrics(server.client(), cached(), &metrics).unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![local()]).await;
    let task = worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(activity_done(task.task_token)).unwrap();
    answer(&worker, vec![complete()]).await;
    completed(&server).await;
    assert!(is_eviction(&answer(&worker, vec![]).await));
    let text = prometheus.text();
    for (metric, label) in [
        ("temporal_workflow_completed", "workflow_type=\"order\""),
        ("temporal_workflow_endtoend_latency_count", "workflow_type=\"order\""),
        ("temporal_workflow_task_queue_poll_succeed", "task_queue=\"q\""),
        ("temporal_workflow_task_execution_latency_count", "workflow_type=\"order\""),
        ("temporal_local_activity_total", "activity_type=\"look\""),
        ("temporal_local_activity_succeed_endtoend_latency_count", "activity_type=\"look\""),
        ("temporal_worker_start", "namespace=\"default\""),
    ] {
        let line = text
            .lines()
            .find(|line| line.starts_with(metric) && line.contains(label) && line.ends_with(" 1"));
        assert!(line.is_some(), "{metric} with {label} in\n{text}");
    }
}
