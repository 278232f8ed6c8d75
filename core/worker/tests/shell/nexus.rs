//! Nexus tasks: from a poll to the answer.

use outlast_proto::coresdk::nexus::{
    NexusTask, NexusTaskCancelReason, NexusTaskCompletion, nexus_task::Variant, nexus_task_completion::Status,
};
use outlast_proto::temporal::api::failure::v1::{Failure, NexusHandlerFailureInfo, failure::FailureInfo};
use outlast_proto::temporal::api::nexus::v1::{
    HandlerError, Request, Response, StartOperationRequest, StartOperationResponse, request, response,
};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{TaskTypes, Worker};
use prost::Message;

use crate::server::Server;
use crate::{NONE, config};

fn task(header: (&str, &str)) -> api::PollNexusTaskQueueResponse {
    let request = Request {
        header: [(header.0.to_owned(), header.1.to_owned())].into(),
        variant: Some(request::Variant::StartOperation(StartOperationRequest::default())),
        ..Default::default()
    };
    api::PollNexusTaskQueueResponse { task_token: "n".into(), request: Some(request), ..Default::default() }
}

fn worker(server: &std::sync::Arc<Server>) -> Worker {
    Worker::new(server.client(), config(TaskTypes { nexus: true, ..NONE })).unwrap()
}

fn started(task: &NexusTask) -> &Request {
    match &task.variant {
        Some(Variant::Task(task)) => task.request.as_ref().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn headers_arrive_in_lower_case_and_the_answer_goes_back() {
    let server = Server::new();
    let worker = worker(&server);
    server.give("PollNexusTaskQueue", &task(("X-Tenant", "Blue")));
    let task = worker.poll_nexus_task().await.unwrap();
    assert_eq!(started(&task).header.get("x-tenant").unwrap(), "Blue");
    assert_eq!(task.request_deadline, None);
    let variant = response::Variant::StartOperation(StartOperationResponse::default());
    let status = Some(Status::Completed(Response { variant: Some(variant) }));
    worker.complete_nexus_task(NexusTaskCompletion { task_token: "n".into(), status }).unwrap();
    let said: api::RespondNexusTaskCompletedRequest = server.heard("RespondNexusTaskCompleted").await;
    assert_eq!(said.task_token, "n");
}

#[tokio::test(start_paused = true)]
async fn the_callers_timeout_cancels() {
    let server = Server::new();
    let worker = worker(&server);
    server.give("PollNexusTaskQueue", &task(("Request-Timeout", "8s")));
    let before = tokio::time::Instant::now();
    assert!(worker.poll_nexus_task().await.unwrap().request_deadline.is_some());
    match worker.poll_nexus_task().await.unwrap().variant {
        Some(Variant::CancelTask(cancel)) => assert_eq!(cancel.reason(), NexusTaskCancelReason::TimedOut),
        other => panic!("{other:?}"),
    }
    assert_eq!(before.elapsed().as_secs(), 8);
}

/// A caller that does not know Temporal's own failures; the failure is of that many bytes.
async fn failed_for_an_older_caller(bytes: usize) -> Vec<HandlerError> {
    let server = Server::new();
    let worker = worker(&server);
    server.give("PollNexusTaskQueue", &task(("a", "b")));
    worker.poll_nexus_task().await.unwrap();
    let info = NexusHandlerFailureInfo { r#type: "NOT_FOUND".into(), ..Default::default() };
    let failure_info = Some(FailureInfo::NexusHandlerFailureInfo(info));
    let failure = Failure { message: "m".repeat(bytes), failure_info, ..Default::default() };
    let status = Some(Status::Failure(failure));
    worker.complete_nexus_task(NexusTaskCompletion { task_token: "n".into(), status }).unwrap();
    worker.shutdown().await;
    let told = server.told().into_iter();
    let read = |request| api::RespondNexusTaskFailedRequest::decode(request).unwrap();
    #[expect(deprecated, reason = "the older form, which is what is tested")]
    told.map(|(_, request)| read(request).error.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_older_caller_gets_failures_in_the_older_form_also_in_place_of_what_is_too_large() {
    let [error] = &failed_for_an_older_caller(1).await[..] else { panic!("one answer") };
    assert_eq!(
        (error.error_type.as_str(), error.failure.as_ref().unwrap().message.as_str()),
        ("NOT_FOUND", "m")
    );
    let [_, error] = &failed_for_an_older_caller(5_000_000).await[..] else {
        panic!("one answer, and another")
    };
    assert_eq!(error.error_type, "NOT_FOUND");
    assert!(error.failure.as_ref().unwrap().message.starts_with("GRPC Message too large: "));
}
