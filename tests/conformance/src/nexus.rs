//! What Nexus operations do, by their name. An asynchronous one is the workflow `behind` of the same queue.

use std::sync::Arc;

use outlast_core::proto::coresdk::nexus::NexusTaskCompletion;
use outlast_core::proto::coresdk::nexus::nexus_task::Variant as Task;
use outlast_core::proto::coresdk::nexus::nexus_task_completion::Status;
use outlast_core::proto::temporal::api::common::v1::callback::{self, Nexus};
use outlast_core::proto::temporal::api::common::v1::{Callback, Payloads, WorkflowExecution, WorkflowType};
use outlast_core::proto::temporal::api::nexus::v1::start_operation_response::{self, Async, Sync};
use outlast_core::proto::temporal::api::nexus::v1::{
    CancelOperationResponse, Response, StartOperationRequest, StartOperationResponse, request, response,
};
use outlast_core::proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_core::{CallOptions, Client, PollError, Worker};

use crate::journal::Journal;
use crate::words::{failure, payload, text};

/// Answers Nexus tasks until it is over.
pub async fn handle(worker: Worker, client: Client, journal: Arc<Journal>) {
    loop {
        let task = match worker.poll_nexus_task().await {
            Ok(task) => task,
            Err(PollError::ShutDown) => return,
            Err(other) => return journal.problem(format!("a poll for Nexus tasks failed: {other}")),
        };
        let Some(Task::Task(task)) = task.variant else { continue };
        let status = match task.request.and_then(|request| request.variant).unwrap() {
            request::Variant::StartOperation(start) => started(&worker, &client, start).await,
            request::Variant::CancelOperation(cancel) => {
                let request = api::RequestCancelWorkflowExecutionRequest {
                    namespace: "default".into(),
                    workflow_execution: Some(WorkflowExecution {
                        workflow_id: cancel.operation_token,
                        ..Default::default()
                    }),
                    ..Default::default()
                };
                let _: api::RequestCancelWorkflowExecutionResponse = client
                    .call(path::REQUEST_CANCEL_WORKFLOW_EXECUTION, &request, CallOptions::default())
                    .await
                    .unwrap();
                responds(response::Variant::CancelOperation(CancelOperationResponse {}))
            }
        };
        let completion = NexusTaskCompletion { task_token: task.task_token, status: Some(status) };
        if let Err(error) = worker.complete_nexus_task(completion) {
            journal.problem(format!("a Nexus completion was not taken: {error}"));
        }
    }
}

fn responds(variant: response::Variant) -> Status {
    Status::Completed(Response { variant: Some(variant) })
}

async fn started(worker: &Worker, client: &Client, start: StartOperationRequest) -> Status {
    let variant = match start.operation.as_str() {
        "sync" => {
            let said = start.payload.as_ref().map(text).unwrap_or_default();
            let payload = Some(payload(&format!("heard {said}")));
            start_operation_response::Variant::SyncSuccess(Sync { payload, links: vec![] })
        }
        "fails" => start_operation_response::Variant::Failure(failure("operation failed", false)),
        "behind" => {
            let token = behind(worker, client, start).await;
            let it = Async { operation_token: token, ..Default::default() };
            start_operation_response::Variant::AsyncSuccess(it)
        }
        other => panic!("no operation {other}"),
    };
    responds(response::Variant::StartOperation(StartOperationResponse { variant: Some(variant) }))
}

async fn behind(worker: &Worker, client: &Client, start: StartOperationRequest) -> String {
    let token = format!("behind-{}", start.request_id);
    let nexus = Nexus { url: start.callback, header: start.callback_header };
    let callback = Callback { variant: Some(callback::Variant::Nexus(nexus)), ..Default::default() };
    let request = api::StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: token.clone(),
        workflow_type: Some(WorkflowType { name: "behind".into() }),
        task_queue: Some(TaskQueue { name: worker.config().task_queue.clone(), ..Default::default() }),
        input: Some(Payloads { payloads: start.payload.into_iter().collect() }),
        request_id: start.request_id,
        completion_callbacks: vec![callback],
        ..Default::default()
    };
    let _: api::StartWorkflowExecutionResponse =
        client.call(path::START_WORKFLOW_EXECUTION, &request, CallOptions::default()).await.unwrap();
    token
}
