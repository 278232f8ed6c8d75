//! The calls that a worker makes, by name. Workflow tasks and histories come as the lens sees them: what is only
//! carried stays closed bytes. All other calls: [`Client::call`] and [`Client::call_bytes`].
//!
//! Every function sends the namespace of its request as a header, unless the options name another.

use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};

use crate::{CallOptions, Client, Error, RetryKind};

/// For the namespace of the request.
fn to(namespace: &str, options: CallOptions) -> CallOptions {
    let named = || Some(namespace.to_owned()).filter(|name| !name.is_empty());
    CallOptions { namespace: options.namespace.or_else(named), ..options }
}

/// For a call that waits for something to happen.
fn poll(namespace: &str, options: CallOptions) -> CallOptions {
    CallOptions { retry: RetryKind::LongPoll, ..to(namespace, options) }
}

impl Client {
    /// Waits for a workflow task; an empty task token means that none came.
    pub async fn poll_workflow_task_queue(
        &self,
        request: &api::PollWorkflowTaskQueueRequest,
        options: CallOptions,
    ) -> Result<lens::PollWorkflowTaskQueueResponse, Error> {
        self.call(path::POLL_WORKFLOW_TASK_QUEUE, request, poll(&request.namespace, options)).await
    }

    /// Waits for an activity task; an empty task token means that none came.
    pub async fn poll_activity_task_queue(
        &self,
        request: &api::PollActivityTaskQueueRequest,
        options: CallOptions,
    ) -> Result<api::PollActivityTaskQueueResponse, Error> {
        self.call(path::POLL_ACTIVITY_TASK_QUEUE, request, poll(&request.namespace, options)).await
    }

    /// Waits for a Nexus task; an empty task token means that none came.
    pub async fn poll_nexus_task_queue(
        &self,
        request: &api::PollNexusTaskQueueRequest,
        options: CallOptions,
    ) -> Result<api::PollNexusTaskQueueResponse, Error> {
        self.call(path::POLL_NEXUS_TASK_QUEUE, request, poll(&request.namespace, options)).await
    }

    /// Reports the commands of a workflow task.
    pub async fn respond_workflow_task_completed(
        &self,
        request: &lens::RespondWorkflowTaskCompletedRequest,
        options: CallOptions,
    ) -> Result<lens::RespondWorkflowTaskCompletedResponse, Error> {
        self.call(path::RESPOND_WORKFLOW_TASK_COMPLETED, request, to(&request.namespace, options)).await
    }

    /// Reports that a workflow task could not be done.
    pub async fn respond_workflow_task_failed(
        &self,
        request: &api::RespondWorkflowTaskFailedRequest,
        options: CallOptions,
    ) -> Result<api::RespondWorkflowTaskFailedResponse, Error> {
        self.call(path::RESPOND_WORKFLOW_TASK_FAILED, request, to(&request.namespace, options)).await
    }

    /// Answers a legacy query.
    pub async fn respond_query_task_completed(
        &self,
        request: &api::RespondQueryTaskCompletedRequest,
        options: CallOptions,
    ) -> Result<api::RespondQueryTaskCompletedResponse, Error> {
        self.call(path::RESPOND_QUERY_TASK_COMPLETED, request, to(&request.namespace, options)).await
    }

    /// Reports an activity's result.
    pub async fn respond_activity_task_completed(
        &self,
        request: &api::RespondActivityTaskCompletedRequest,
        options: CallOptions,
    ) -> Result<api::RespondActivityTaskCompletedResponse, Error> {
        self.call(path::RESPOND_ACTIVITY_TASK_COMPLETED, request, to(&request.namespace, options)).await
    }

    /// Reports an activity's failure.
    pub async fn respond_activity_task_failed(
        &self,
        request: &api::RespondActivityTaskFailedRequest,
        options: CallOptions,
    ) -> Result<api::RespondActivityTaskFailedResponse, Error> {
        self.call(path::RESPOND_ACTIVITY_TASK_FAILED, request, to(&request.namespace, options)).await
    }

    /// Reports that an activity ended because it was asked to.
    pub async fn respond_activity_task_canceled(
        &self,
        request: &api::RespondActivityTaskCanceledRequest,
        options: CallOptions,
    ) -> Result<api::RespondActivityTaskCanceledResponse, Error> {
        self.call(path::RESPOND_ACTIVITY_TASK_CANCELED, request, to(&request.namespace, options)).await
    }

    /// Says that an activity is alive, and learns whether it should go on.
    pub async fn record_activity_task_heartbeat(
        &self,
        request: &api::RecordActivityTaskHeartbeatRequest,
        options: CallOptions,
    ) -> Result<api::RecordActivityTaskHeartbeatResponse, Error> {
        self.call(path::RECORD_ACTIVITY_TASK_HEARTBEAT, request, to(&request.namespace, options)).await
    }

    /// Reports the answer of a Nexus handler.
    pub async fn respond_nexus_task_completed(
        &self,
        request: &api::RespondNexusTaskCompletedRequest,
        options: CallOptions,
    ) -> Result<api::RespondNexusTaskCompletedResponse, Error> {
        self.call(path::RESPOND_NEXUS_TASK_COMPLETED, request, to(&request.namespace, options)).await
    }

    /// Reports the failure of a Nexus handler.
    pub async fn respond_nexus_task_failed(
        &self,
        request: &api::RespondNexusTaskFailedRequest,
        options: CallOptions,
    ) -> Result<api::RespondNexusTaskFailedResponse, Error> {
        self.call(path::RESPOND_NEXUS_TASK_FAILED, request, to(&request.namespace, options)).await
    }

    /// Fetches a page of history; waits for one if the request says `wait_new_event`.
    pub async fn get_workflow_execution_history(
        &self,
        request: &api::GetWorkflowExecutionHistoryRequest,
        options: CallOptions,
    ) -> Result<lens::GetWorkflowExecutionHistoryResponse, Error> {
        let options = if request.wait_new_event { poll } else { to }(&request.namespace, options);
        self.call(path::GET_WORKFLOW_EXECUTION_HISTORY, request, options).await
    }

    /// What a namespace allows and can do.
    pub async fn describe_namespace(
        &self,
        namespace: &str,
        options: CallOptions,
    ) -> Result<api::DescribeNamespaceResponse, Error> {
        let request = api::DescribeNamespaceRequest { namespace: namespace.to_owned(), ..Default::default() };
        self.call(path::DESCRIBE_NAMESPACE, &request, to(namespace, options)).await
    }

    /// Says that a worker is going away. Not tried again: the worker will not wait for it.
    pub async fn shutdown_worker(
        &self,
        request: &api::ShutdownWorkerRequest,
        options: CallOptions,
    ) -> Result<api::ShutdownWorkerResponse, Error> {
        let options = CallOptions { retry: RetryKind::None, ..to(&request.namespace, options) };
        self.call(path::SHUTDOWN_WORKER, request, options).await
    }

    /// Says that workers are alive, and how they are.
    pub async fn record_worker_heartbeat(
        &self,
        request: &api::RecordWorkerHeartbeatRequest,
        options: CallOptions,
    ) -> Result<api::RecordWorkerHeartbeatResponse, Error> {
        self.call(path::RECORD_WORKER_HEARTBEAT, request, to(&request.namespace, options)).await
    }
}
