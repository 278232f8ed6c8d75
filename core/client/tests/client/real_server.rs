//! Against a real Temporal server, if `OUTLAST_TEST_SERVER` names one (`host:port`): what it says of itself, and one
//! workflow from start to end with the worker's calls.

use bytes::Bytes;
use outlast_client::{CallOptions, Client, ClientOptions, Code, Compression};
use outlast_proto::lens::api as lens;
use outlast_proto::lens::history;
use outlast_proto::temporal::api::common::v1::WorkflowType;
use outlast_proto::temporal::api::enums::v1::{CommandType, HistoryEventFilterType};
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use prost::Message;

/// The server's address; says so if there is none.
fn server() -> Option<String> {
    let address = std::env::var("OUTLAST_TEST_SERVER").ok();
    if address.is_none() {
        eprintln!("SKIPPED: OUTLAST_TEST_SERVER is not set, no real server was tried");
    }
    address
}

#[tokio::test]
async fn a_real_server_answers() {
    let Some(address) = server() else { return };
    for compression in [Compression::Auto, Compression::Gzip] {
        let mut options = ClientOptions::new(address.parse().unwrap());
        options.compression = compression;
        let client = Client::connect(options).await.unwrap();
        assert!(client.capabilities().unwrap().signal_and_query_header);

        let described = client.describe_namespace("default", CallOptions::default()).await.unwrap();
        assert_eq!(described.namespace_info.unwrap().name, "default");

        let error = client.describe_namespace("no-such-namespace", CallOptions::default()).await.unwrap_err();
        assert_eq!(error.code, Code::NotFound);
        assert!(error.status().unwrap().details[0].type_url.ends_with("NamespaceNotFoundFailure"));

        let request = Bytes::from(api::GetClusterInfoRequest::default().encode_to_vec());
        let service = "temporal.api.workflowservice.v1.WorkflowService";
        let answer =
            client.call_bytes(service, "GetClusterInfo", request, CallOptions::default()).await.unwrap();
        assert!(!api::GetClusterInfoResponse::decode(answer).unwrap().server_version.is_empty());
    }
}

#[tokio::test]
async fn a_workflow_from_start_to_end() {
    let Some(address) = server() else { return };
    let client = Client::connect(ClientOptions::new(address.parse().unwrap())).await.unwrap();
    let unique = format!("outlast-client-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos());
    let namespace = "default".to_owned();
    let task_queue = Some(TaskQueue { name: unique.clone(), ..Default::default() });
    let start = api::StartWorkflowExecutionRequest {
        namespace: namespace.clone(),
        workflow_id: unique.clone(),
        workflow_type: Some(WorkflowType { name: "greet".into() }),
        task_queue: task_queue.clone(),
        request_id: unique.clone(),
        ..Default::default()
    };
    let started: api::StartWorkflowExecutionResponse =
        client.call(path::START_WORKFLOW_EXECUTION, &start, CallOptions::default()).await.unwrap();

    let poll = api::PollWorkflowTaskQueueRequest {
        namespace: namespace.clone(),
        task_queue,
        identity: client.identity(),
        ..Default::default()
    };
    let task = client.poll_workflow_task_queue(&poll, CallOptions::default()).await.unwrap();
    assert_eq!(task.workflow_type.unwrap().name, "greet");
    assert_eq!(events(task.history), 3, "started, scheduled, started");

    let result = lens::CompleteWorkflowExecutionCommandAttributes::default();
    let attributes = lens::command::Attributes::CompleteWorkflowExecutionCommandAttributes(result);
    let completed = lens::RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token,
        identity: client.identity(),
        namespace: namespace.clone(),
        commands: vec![lens::Command {
            command_type: CommandType::CompleteWorkflowExecution.into(),
            attributes: Some(attributes),
            ..Default::default()
        }],
        ..Default::default()
    };
    client.respond_workflow_task_completed(&completed, CallOptions::default()).await.unwrap();
    let again = client.respond_workflow_task_completed(&completed, CallOptions::default()).await.unwrap_err();
    assert_eq!(again.code, Code::NotFound);

    let execution = outlast_proto::temporal::api::common::v1::WorkflowExecution {
        workflow_id: unique,
        run_id: started.run_id,
    };
    let fetch = api::GetWorkflowExecutionHistoryRequest {
        namespace,
        execution: Some(execution),
        wait_new_event: true,
        history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
        ..Default::default()
    };
    let closed = client.get_workflow_execution_history(&fetch, CallOptions::default()).await.unwrap();
    assert_eq!(events(closed.history), 1);
}

fn events(encoded: Option<Bytes>) -> usize {
    history::History::decode(encoded.unwrap()).unwrap().events.len()
}
