//! How each report comes about, in the least number of steps, and what it is in short.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Cancellation, Failure as ActivityFailure, Success,
    activity_execution_result::Status,
};
use outlast_proto::coresdk::nexus::{NexusTaskCompletion, nexus_task_completion::Status as NexusStatus};
use outlast_proto::coresdk::workflow_commands::{
    QueryResult, QuerySuccess, query_result, workflow_command::Variant as Command,
};
use outlast_proto::coresdk::workflow_completion::{
    Failure as TaskFailure, WorkflowActivationCompletion, workflow_activation_completion,
};
use outlast_proto::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;
use outlast_proto::temporal::api::failure::v1::{
    ApplicationFailureInfo, CanceledFailureInfo, Failure, failure::FailureInfo,
};
use outlast_proto::temporal::api::nexus::v1::start_operation_response::{Sync, Variant as Started};
use outlast_proto::temporal::api::nexus::v1::{
    Request, Response, StartOperationRequest, StartOperationResponse, request, response,
};
use outlast_proto::temporal::api::query::v1::WorkflowQuery;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{TaskTypes, Worker};
use prost::Message;

use crate::server::Server;
use crate::workflows::{POLL, answer, cached, commands, evictions, first, is_eviction, query, timer};
use crate::{NONE, begin_the_end, config};

type Told = Pin<Box<dyn Future<Output = ()>>>;

/// A report, the call that carries it, and what leads to it, with a payload or a text of so many bytes.
pub struct Report {
    pub name: &'static str,
    pub method: &'static str,
    pub tell: fn(Arc<Server>, usize) -> Told,
}

const fn report(name: &'static str, method: &'static str, tell: fn(Arc<Server>, usize) -> Told) -> Report {
    Report { name, method, tell }
}

pub const REPORTS: [Report; 11] = [
    report("workflow task completed", "RespondWorkflowTaskCompleted", |s, n| Box::pin(completed(s, n))),
    report("workflow task completed, with a query's answer", "RespondWorkflowTaskCompleted", |s, n| {
        Box::pin(query_beside(s, n))
    }),
    report("workflow task failed", "RespondWorkflowTaskFailed", |s, n| Box::pin(failed(s, n))),
    report("query answered", "RespondQueryTaskCompleted", |s, n| Box::pin(query_alone(s, n, false))),
    report("query failed", "RespondQueryTaskCompleted", |s, n| Box::pin(query_alone(s, n, true))),
    report("activity completed", "RespondActivityTaskCompleted", |s, n| {
        Box::pin(activity(s, Status::Completed(Success { result: Some(payload(n)) })))
    }),
    report("activity failed", "RespondActivityTaskFailed", |s, n| {
        Box::pin(activity(s, Status::Failed(ActivityFailure { failure: Some(failure(n)), cause: 0 })))
    }),
    report("activity cancelled", "RespondActivityTaskCanceled", |s, n| Box::pin(activity(s, cancelled(n)))),
    report("heartbeat", "RecordActivityTaskHeartbeat", |s, n| Box::pin(heartbeat(s, n))),
    report("Nexus task completed", "RespondNexusTaskCompleted", |s, n| Box::pin(nexus(s, success(n)))),
    report("Nexus task failed", "RespondNexusTaskFailed", |s, n| {
        Box::pin(nexus(s, NexusStatus::Failure(failure(n))))
    }),
];

pub const UNREADABLE: [Report; 4] = [
    report("workflow task", POLL, |s, _| Box::pin(damaged(s, POLL, cached().task_types))),
    report("query", POLL, |s, _| Box::pin(damaged_query(s))),
    report("activity task", ACTIVITY, |s, _| Box::pin(damaged(s, ACTIVITY, ACTIVITIES))),
    report("Nexus task", NEXUS, |s, _| Box::pin(damaged(s, NEXUS, NEXUS_TASKS))),
];

const ACTIVITY: &str = "PollActivityTaskQueue";
const NEXUS: &str = "PollNexusTaskQueue";
const ACTIVITIES: TaskTypes = TaskTypes { activities: true, ..NONE };
const NEXUS_TASKS: TaskTypes = TaskTypes { nexus: true, ..NONE };

fn payload(bytes: usize) -> Payload {
    Payload { data: vec![0; bytes].into(), ..Default::default() }
}

fn failure(bytes: usize) -> Failure {
    let details = Some(Payloads { payloads: vec![payload(bytes)] });
    let info =
        ApplicationFailureInfo { r#type: "Mine".into(), non_retryable: true, details, ..Default::default() };
    let failure_info = Some(FailureInfo::ApplicationFailureInfo(info));
    Failure { message: "oops".into(), failure_info, ..Default::default() }
}

fn cancelled(bytes: usize) -> Status {
    let info = CanceledFailureInfo {
        details: Some(Payloads { payloads: vec![payload(bytes)] }),
        ..Default::default()
    };
    let failure_info = Some(FailureInfo::CanceledFailureInfo(info));
    Status::Cancelled(Cancellation { failure: Some(Failure { failure_info, ..Default::default() }) })
}

fn success(bytes: usize) -> NexusStatus {
    let sync = Sync { payload: Some(payload(bytes)), ..Default::default() };
    let start = StartOperationResponse { variant: Some(Started::SyncSuccess(sync)) };
    NexusStatus::Completed(Response { variant: Some(response::Variant::StartOperation(start)) })
}

async fn workflows(server: &Arc<Server>) -> Worker {
    let worker = Worker::new(server.client(), cached()).unwrap();
    worker.validate().await.unwrap();
    worker
}

/// Ends the worker: then all that it had to say is said.
async fn end(worker: &Worker) {
    let ending = begin_the_end(worker);
    evictions(worker).await;
    ending.await.unwrap();
}

async fn completed(server: Arc<Server>, bytes: usize) {
    let worker = workflows(&server).await;
    server.give(POLL, &first("r1"));
    answer(&worker, vec![crate::sizes::result(bytes)]).await;
    end(&worker).await;
}

async fn failed(server: Arc<Server>, bytes: usize) {
    let worker = workflows(&server).await;
    server.give(POLL, &first("r1"));
    worker.poll_workflow_activation().await.unwrap();
    let failed = TaskFailure { failure: Some(failure(bytes)), ..Default::default() };
    let status = Some(workflow_activation_completion::Status::Failed(failed));
    let failed = WorkflowActivationCompletion { run_id: "r1".into(), status, ..Default::default() };
    worker.complete_workflow_activation(failed).unwrap();
    end(&worker).await;
}

fn answered(id: &str, variant: query_result::Variant) -> WorkflowActivationCompletion {
    let result = QueryResult { query_id: id.into(), variant: Some(variant) };
    commands("r1", vec![Command::RespondToQuery(result)])
}

fn succeeded(bytes: usize) -> query_result::Variant {
    query_result::Variant::Succeeded(QuerySuccess { response: Some(payload(bytes)) })
}

async fn query_alone(server: Arc<Server>, bytes: usize, fails: bool) {
    let worker = workflows(&server).await;
    server.give(POLL, &query());
    answer(&worker, vec![timer()]).await;
    worker.poll_workflow_activation().await.unwrap();
    let said = if fails { query_result::Variant::Failed(failure(bytes)) } else { succeeded(bytes) };
    worker.complete_workflow_activation(answered("legacy_query", said)).unwrap();
    end(&worker).await;
}

async fn query_beside(server: Arc<Server>, bytes: usize) {
    let worker = workflows(&server).await;
    let asked = WorkflowQuery { query_type: "state".into(), ..Default::default() };
    let queries = [("q1".to_owned(), asked)].into();
    server.give(POLL, &api::PollWorkflowTaskQueueResponse { queries, ..first("r1") });
    answer(&worker, vec![timer()]).await;
    let activation = worker.poll_workflow_activation().await.unwrap();
    assert!(!is_eviction(&activation));
    worker.complete_workflow_activation(answered("q1", succeeded(bytes))).unwrap();
    end(&worker).await;
}

async fn activities(server: &Arc<Server>) -> Worker {
    let worker = Worker::new(server.client(), config(ACTIVITIES)).unwrap();
    worker.validate().await.unwrap();
    server
        .give(ACTIVITY, &api::PollActivityTaskQueueResponse { task_token: "a".into(), ..Default::default() });
    worker.poll_activity_task().await.unwrap();
    worker
}

fn complete(worker: &Worker, status: Status) {
    let result = Some(ActivityExecutionResult { status: Some(status) });
    worker.complete_activity_task(ActivityTaskCompletion { task_token: "a".into(), result }).unwrap();
}

async fn activity(server: Arc<Server>, status: Status) {
    let worker = activities(&server).await;
    complete(&worker, status);
    worker.shutdown().await;
}

/// The activity goes on until it is told to stop, or its time is over.
async fn heartbeat(server: Arc<Server>, bytes: usize) {
    let worker = activities(&server).await;
    worker.record_activity_heartbeat(ActivityHeartbeat {
        task_token: "a".into(),
        details: vec![payload(bytes)],
    });
    let told = tokio::time::timeout(std::time::Duration::from_secs(1), worker.poll_activity_task()).await;
    match told {
        Ok(cancel) => {
            cancel.unwrap();
            complete(&worker, Status::Cancelled(Cancellation::default()));
        }
        Err(_) => complete(&worker, Status::Completed(Success { result: Some(payload(1)) })),
    }
    worker.shutdown().await;
}

async fn nexus(server: Arc<Server>, status: NexusStatus) {
    let worker = Worker::new(server.client(), config(NEXUS_TASKS)).unwrap();
    worker.validate().await.unwrap();
    let capabilities = Some(request::Capabilities { temporal_failure_responses: true });
    let variant = Some(request::Variant::StartOperation(StartOperationRequest::default()));
    let request = Some(Request { variant, capabilities, ..Default::default() });
    server.give(
        NEXUS,
        &api::PollNexusTaskQueueResponse { task_token: "n".into(), request, ..Default::default() },
    );
    worker.poll_nexus_task().await.unwrap();
    let status = Some(status);
    worker.complete_nexus_task(NexusTaskCompletion { task_token: "n".into(), status }).unwrap();
    worker.shutdown().await;
}

/// Field 1, the token; field 3, which says that it is longer than the message.
const DAMAGED: &[u8] = b"\x0a\x02t1\x1a\x7fx";

async fn damaged(server: Arc<Server>, poll: &str, types: TaskTypes) {
    let worker = Worker::new(server.client(), config(types)).unwrap();
    server.give_bytes(poll, DAMAGED.into());
    let waits = worker.clone();
    let waiting = tokio::spawn(async move {
        match poll_of(types) {
            POLL => drop(waits.poll_workflow_activation().await),
            ACTIVITY => drop(waits.poll_activity_task().await),
            _ => drop(waits.poll_nexus_task().await),
        }
    });
    while server.told().is_empty() {
        tokio::task::yield_now().await;
    }
    worker.shutdown().await;
    waiting.await.unwrap();
}

fn poll_of(types: TaskTypes) -> &'static str {
    match (types.workflows, types.activities) {
        (true, _) => POLL,
        (false, true) => ACTIVITY,
        (false, false) => NEXUS,
    }
}

async fn damaged_query(server: Arc<Server>) {
    let unknown = crate::server::Answer::Fails(outlast_client::Code::NotFound, "no such task");
    server.answer("RespondWorkflowTaskFailed", unknown);
    damaged(server, POLL, cached().task_types).await;
}

/// The call, and what it says.
pub fn outline(method: &str, request: &Bytes) -> String {
    fn read<M: Message + Default>(request: &Bytes) -> M {
        M::decode(request.clone()).unwrap()
    }
    let of = |failure: Option<Failure>| failure.map_or_else(String::new, |it| words(&it));
    let size = || if request.len() > 1_000 { "large" } else { "small" }.to_owned();
    let said = match method {
        "RespondWorkflowTaskFailed" => {
            let it: api::RespondWorkflowTaskFailedRequest = read(request);
            format!("{:?}, {}", WorkflowTaskFailedCause::try_from(it.cause).unwrap(), of(it.failure))
        }
        "RespondQueryTaskCompleted" => {
            let it: api::RespondQueryTaskCompletedRequest = read(request);
            if it.failure.is_some() { of(it.failure) } else { size() }
        }
        "RespondWorkflowTaskCompleted" => {
            let it: api::RespondWorkflowTaskCompletedRequest = read(request);
            let failed = it.query_results.into_values().find_map(|result| result.failure);
            if failed.is_some() { format!("commands, and for the query {}", of(failed)) } else { size() }
        }
        "RespondActivityTaskFailed" => of(read::<api::RespondActivityTaskFailedRequest>(request).failure),
        "RespondActivityTaskCanceled" => {
            let it: api::RespondActivityTaskCanceledRequest = read(request);
            let details =
                it.details.map(|details| if details.encoded_len() > 1_000 { "large" } else { "small" });
            details.map_or_else(|| "without details".to_owned(), |size| format!("{size} details"))
        }
        "RespondNexusTaskFailed" => {
            let it: api::RespondNexusTaskFailedRequest = read(request);
            #[expect(deprecated, reason = "the older form, which has no failure")]
            let error = it.error.and_then(|error| error.failure).map(|failure| failure.message);
            error.unwrap_or_else(|| of(it.failure))
        }
        _ => size(),
    };
    format!("`{}`: {said}", method.trim_start_matches("Respond"))
}

fn words(failure: &Failure) -> String {
    let details = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            info.details.as_ref().map_or(0, Payloads::encoded_len)
        }
        Some(_) | None => 0,
    };
    let large = if details > 1_000 { " with large details" } else { "" };
    let kind = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) if !info.r#type.is_empty() => {
            format!(" ({})", info.r#type)
        }
        Some(FailureInfo::NexusHandlerFailureInfo(info)) => format!(" ({}, not retried)", info.r#type),
        Some(_) | None => String::new(),
    };
    format!("\u{201c}{}\u{201d}{kind}{large}", failure.message)
}
