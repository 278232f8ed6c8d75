//! Nexus tasks: from a poll to the answer.

use outlast_proto::coresdk::nexus::{
    NexusTask, NexusTaskCancelReason, NexusTaskCompletion, nexus_task::Variant, nexus_task_completion::Status,
};
use outlast_proto::temporal::api::nexus::v1::{
    Request, Response, StartOperationRequest, StartOperationResponse, request, response,
};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{TaskTypes, Worker};

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
