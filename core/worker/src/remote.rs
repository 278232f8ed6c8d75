//! The server as a worker sees it: each call filled in with who the worker is. No state but the client itself, which
//! can be exchanged while calls are made.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{CallOptions, Client, Code, Error, Kind};
use outlast_machine::io::{Fetch, FetchFailed, Page, QueryAnswer, QueryResult, TaskCompletion, TaskFailure};
use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::common::v1::{
    Payload, Payloads, WorkerVersionCapabilities, WorkerVersionStamp, WorkflowExecution,
};
use outlast_proto::temporal::api::deployment::v1::WorkerDeploymentOptions;
use outlast_proto::temporal::api::enums::v1::{
    QueryResultType, TaskQueueKind, TaskQueueType, WorkerVersioningMode, WorkflowTaskFailedCause,
};
use outlast_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use outlast_proto::temporal::api::taskqueue::v1::{TaskQueue, TaskQueueMetadata};
use outlast_proto::temporal::api::worker::v1::WorkerHeartbeat;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

use crate::activity::{BeatReply, Report as ActivityReport};
use crate::config::{Versioning, WorkerConfig};
use crate::nexus::Report as NexusReport;
use crate::pollers::Polled;
use crate::telemetry::WorkerMetrics;

/// How long the announcement of the end may take.
const ANNOUNCEMENT: Duration = Duration::from_secs(5);
const SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";

/// Who this worker is, and the way to its server.
pub(crate) struct Remote {
    client: RwLock<Client>,
    config: WorkerConfig,
    metrics: Arc<WorkerMetrics>,
    identity: String,
    /// Names this worker among all that ever were.
    pub(crate) instance_key: String,
    /// The sticky queue; there is none without a cache.
    pub(crate) sticky: Option<String>,
}

/// A task as a poll gave it.
#[derive(Debug)]
pub(crate) enum WorkflowPoll {
    Task(Box<lens::PollWorkflowTaskQueueResponse>),
    /// A message that cannot be read, but for its token.
    Unreadable {
        token: Bytes,
        problem: String,
    },
}

/// What the server gave with its reply to a completed task.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) task: Option<Box<lens::PollWorkflowTaskQueueResponse>>,
    pub(crate) activities: Vec<api::PollActivityTaskQueueResponse>,
    pub(crate) reset_history_event_id: i64,
}

impl Remote {
    pub(crate) fn new(client: Client, config: WorkerConfig, metrics: Arc<WorkerMetrics>) -> Self {
        let identity = config.identity.clone().unwrap_or_else(|| client.identity());
        let cached = config.task_types.workflows && config.max_cached_workflows > 0;
        let sticky = cached.then(|| format!("{identity}-{}", unique()));
        let instance_key = unique();
        Self { client: RwLock::new(client), config, metrics, identity, instance_key, sticky }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace_client(&self, client: Client) {
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) async fn poll_workflow(
        &self,
        sticky: bool,
        options: CallOptions,
    ) -> Result<Polled<WorkflowPoll>, Error> {
        let normal = self.config.task_queue.clone();
        let task_queue = match self.sticky.as_ref().filter(|_| sticky) {
            Some(name) => queue(name.clone(), TaskQueueKind::Sticky, normal),
            None => queue(normal, TaskQueueKind::Normal, String::new()),
        };
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollWorkflowTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: Some(task_queue),
            identity: self.identity.clone(),
            worker_instance_key: self.instance_key.clone(),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let options = CallOptions {
            namespace: Some(self.namespace()),
            retry: outlast_client::RetryKind::LongPoll,
            ..options
        };
        let request = request.encode_to_vec().into();
        let answer = self.client().call_bytes(SERVICE, "PollWorkflowTaskQueue", request, options).await?;
        let polled = read_poll(answer);
        match &polled.task {
            Some(_) => self.metrics.workflow_polls_succeeded.add(1),
            None => self.metrics.workflow_polls_empty.add(1),
        }
        Ok(polled)
    }

    pub(crate) async fn poll_activity(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Box<api::PollActivityTaskQueueResponse>>, Error> {
        let rate = self.config.max_task_queue_activities_per_second;
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollActivityTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: Some(queue(self.config.task_queue.clone(), TaskQueueKind::Normal, String::new())),
            identity: self.identity.clone(),
            worker_instance_key: self.instance_key.clone(),
            task_queue_metadata: rate.map(|rate| TaskQueueMetadata { max_tasks_per_second: Some(rate) }),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let task = self.client().poll_activity_task_queue(&request, options).await?;
        if task.task_token.is_empty() {
            self.metrics.activity_polls_empty.add(1);
        }
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        Ok(Polled { task: (!task.task_token.is_empty()).then(|| Box::new(task)), suggestion, backlog: None })
    }

    pub(crate) async fn poll_nexus(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Box<api::PollNexusTaskQueueResponse>>, Error> {
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollNexusTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: Some(queue(self.config.task_queue.clone(), TaskQueueKind::Normal, String::new())),
            identity: self.identity.clone(),
            worker_instance_key: self.instance_key.clone(),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let task = self.client().poll_nexus_task_queue(&request, options).await?;
        if task.task_token.is_empty() {
            self.metrics.nexus.polls_empty.add(1);
        }
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        Ok(Polled { task: (!task.task_token.is_empty()).then(|| Box::new(task)), suggestion, backlog: None })
    }

    pub(crate) async fn fetch(&self, fetch: Fetch) -> Result<Page, FetchFailed> {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace(),
            execution: Some(WorkflowExecution {
                workflow_id: fetch.workflow_id,
                run_id: fetch.run.to_string(),
            }),
            next_page_token: fetch.page,
            ..Default::default()
        };
        let answer = self.client().get_workflow_execution_history(&request, CallOptions::default()).await;
        match answer {
            Ok(page) => {
                Ok(Page { history: page.history.unwrap_or_default(), next_page: page.next_page_token })
            }
            Err(error) => Err(FetchFailed { message: error.to_string() }),
        }
    }

    /// Answers a workflow task. Commands are moved; payloads in them stay closed. `wants_next`: the server may answer
    /// with the next task of the run.
    pub(crate) async fn complete(&self, done: TaskCompletion, wants_next: bool) -> Result<Accepted, Error> {
        let request = self.completion(done, wants_next);
        let answer = self.client().respond_workflow_task_completed(&request, CallOptions::default()).await?;
        let mut activities = Vec::with_capacity(answer.activity_tasks.len());
        for task in answer.activity_tasks {
            match api::PollActivityTaskQueueResponse::decode(task) {
                Ok(task) => activities.push(task),
                Err(problem) => {
                    tracing::error!(%problem, "an eager activity task cannot be read; it will time out")
                }
            }
        }
        let task = match answer.workflow_task.and_then(|task| read_poll(task).task) {
            Some(WorkflowPoll::Task(task)) => Some(task),
            Some(WorkflowPoll::Unreadable { token, problem }) => {
                self.refuse(token, &problem).await;
                None
            }
            None => None,
        };
        Ok(Accepted { task, activities, reset_history_event_id: answer.reset_history_event_id })
    }

    fn completion(
        &self,
        done: TaskCompletion,
        wants_next: bool,
    ) -> lens::RespondWorkflowTaskCompletedRequest {
        let sticky_attributes = self.sticky.as_ref().map(|name| lens::StickyExecutionAttributes {
            worker_task_queue: Some(lens::TaskQueue {
                name: Bytes::copy_from_slice(name.as_bytes()),
                kind: TaskQueueKind::Sticky.into(),
                normal_name: Bytes::copy_from_slice(self.config.task_queue.as_bytes()),
            }),
            schedule_to_start_timeout: wire(self.config.sticky_queue_schedule_to_start_timeout),
        });
        let (sdk_name, sdk_version) = match done.write_sdk {
            true => (self.config.sdk.name.clone(), self.config.sdk.version.clone()),
            false => Default::default(),
        };
        lens::RespondWorkflowTaskCompletedRequest {
            task_token: done.token,
            commands: done.commands,
            messages: done.messages,
            query_results: done.query_results,
            identity: self.identity.clone(),
            namespace: self.namespace(),
            return_new_workflow_task: sticky_attributes.is_some() && wants_next,
            sticky_attributes,
            force_create_new_workflow_task: done.force_new_task,
            worker_version_stamp: self.stamp().map(|stamp| stamp.encode_to_vec().into()),
            sdk_metadata: Some(lens::WorkflowTaskCompletedMetadata {
                core_used_flags: done.core_flags,
                lang_used_flags: done.lang_flags,
                sdk_name,
                sdk_version,
            }),
            metering_metadata: Some(lens::MeteringMetadata {
                nonfirst_local_activity_execution_attempts: done.nonfirst_local_attempts,
            }),
            capabilities: Some(lens::respond_workflow_task_completed_request::Capabilities {
                discard_speculative_workflow_task_with_events: true,
            }),
            versioning_behavior: done.versioning_behavior,
            deployment_options: self.deployment().map(|options| options.encode_to_vec().into()),
            worker_instance_key: self.instance_key.clone(),
            ..Default::default()
        }
    }

    pub(crate) async fn fail(&self, failed: TaskFailure) -> Result<(), Error> {
        let failure = Failure::decode(failed.failure).unwrap_or_else(|problem| {
            application(&format!("a workflow task failed, and its failure cannot be read: {problem}"))
        });
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::RespondWorkflowTaskFailedRequest {
            task_token: failed.token,
            cause: failed.cause,
            failure: Some(failure),
            identity: self.identity.clone(),
            namespace: self.namespace(),
            worker_version: self.stamp(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        self.client().respond_workflow_task_failed(&request, CallOptions::default()).await.map(|_| ())
    }

    /// Fails a task that cannot be read, so that people see why, instead of a timeout.
    pub(crate) async fn refuse(&self, token: Bytes, problem: &str) {
        tracing::error!(problem, "a workflow task cannot be read");
        let failed = TaskFailure {
            ticket: outlast_machine::io::Ticket(0),
            token,
            cause: WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure.into(),
            failure: application(&format!("the workflow task cannot be read: {problem}"))
                .encode_to_vec()
                .into(),
            workflow_type: Bytes::new(),
        };
        if let Err(error) = self.fail(failed).await {
            tracing::warn!(%error, "that a workflow task cannot be read could not be told");
        }
    }

    /// Answers a legacy query; an answer that is too large becomes a failure that says so.
    pub(crate) async fn answer(&self, answer: QueryAnswer) -> Result<(), Error> {
        let QueryAnswer { token, result, .. } = answer;
        let request = self.query_answer(token.clone(), result);
        let said = self.client().respond_query_task_completed(&request, CallOptions::default()).await;
        let error = match said {
            Ok(_) => return Ok(()),
            Err(error) if error.code == Code::NotFound => return Ok(()),
            Err(error) => error,
        };
        if error.kind != Kind::TooLarge {
            return Err(error);
        }
        let failed = QueryResult::Failed {
            failure: application(&error.to_string()).encode_to_vec().into(),
            cause: WorkflowTaskFailedCause::GrpcMessageTooLarge.into(),
        };
        let request = self.query_answer(token, failed);
        self.client().respond_query_task_completed(&request, CallOptions::default()).await.map(|_| ())
    }

    fn query_answer(&self, task_token: Bytes, result: QueryResult) -> api::RespondQueryTaskCompletedRequest {
        let base = api::RespondQueryTaskCompletedRequest {
            task_token,
            namespace: self.namespace(),
            ..Default::default()
        };
        let failed = |failure: Failure, cause| api::RespondQueryTaskCompletedRequest {
            completed_type: QueryResultType::Failed.into(),
            error_message: failure.message.clone(),
            failure: Some(failure),
            cause,
            ..base.clone()
        };
        let unreadable = |problem| application(&format!("the query's answer cannot be read: {problem}"));
        match result {
            QueryResult::Answered(payload) => match payload.map(Payload::decode).transpose() {
                Ok(payload) => api::RespondQueryTaskCompletedRequest {
                    completed_type: QueryResultType::Answered.into(),
                    query_result: Some(Payloads { payloads: payload.into_iter().collect() }),
                    ..base
                },
                Err(problem) => failed(unreadable(problem), 0),
            },
            QueryResult::Failed { failure, cause } => {
                failed(Failure::decode(failure).unwrap_or_else(unreadable), cause)
            }
        }
    }

    pub(crate) async fn report_activity(
        &self,
        task_token: Bytes,
        report: ActivityReport,
    ) -> Result<(), Error> {
        let (client, options) = (self.client(), CallOptions::default());
        let (identity, namespace) = (self.identity.clone(), self.namespace());
        let deployment_options = self.deployment();
        match report {
            ActivityReport::Completed(result) => {
                let result = result.map(|payload| Payloads { payloads: vec![payload] });
                let request = api::RespondActivityTaskCompletedRequest {
                    task_token,
                    result,
                    identity,
                    namespace,
                    deployment_options,
                    ..Default::default()
                };
                client.respond_activity_task_completed(&request, options).await.map(|_| ())
            }
            ActivityReport::Failed { failure, cause, details } => {
                let request = api::RespondActivityTaskFailedRequest {
                    task_token,
                    failure: failure.map(|failure| *failure),
                    cause,
                    last_heartbeat_details: details.map(|payloads| Payloads { payloads }),
                    identity,
                    namespace,
                    deployment_options,
                    ..Default::default()
                };
                client.respond_activity_task_failed(&request, options).await.map(|_| ())
            }
            ActivityReport::Cancelled(details) => {
                let request = api::RespondActivityTaskCanceledRequest {
                    task_token,
                    details,
                    identity,
                    namespace,
                    deployment_options,
                    ..Default::default()
                };
                client.respond_activity_task_canceled(&request, options).await.map(|_| ())
            }
        }
    }

    pub(crate) async fn beat(&self, task_token: Bytes, details: Vec<Payload>) -> BeatReply {
        let request = api::RecordActivityTaskHeartbeatRequest {
            task_token,
            details: (!details.is_empty()).then_some(Payloads { payloads: details }),
            identity: self.identity.clone(),
            namespace: self.namespace(),
            ..Default::default()
        };
        match self.client().record_activity_task_heartbeat(&request, CallOptions::default()).await {
            Ok(reply) => BeatReply {
                not_found: false,
                cancel_requested: reply.cancel_requested,
                paused: reply.activity_paused,
                reset: reply.activity_reset,
            },
            Err(error) if error.code == Code::NotFound => BeatReply { not_found: true, ..Default::default() },
            Err(error) => {
                tracing::warn!(%error, "a heartbeat did not reach the server");
                BeatReply::default()
            }
        }
    }

    pub(crate) async fn report_nexus(&self, task_token: Bytes, report: NexusReport) -> Result<(), Error> {
        let (client, options) = (self.client(), CallOptions::default());
        let (identity, namespace) = (self.identity.clone(), self.namespace());
        #[expect(deprecated, reason = "the older form of failures, for servers that ask for it")]
        let request = match report {
            NexusReport::Completed { response, poller_group: poller_group_id } => {
                let request = api::RespondNexusTaskCompletedRequest {
                    namespace,
                    identity,
                    task_token,
                    response: Some(*response),
                    poller_group_id,
                };
                return client.respond_nexus_task_completed(&request, options).await.map(|_| ());
            }
            NexusReport::Error { error, poller_group: poller_group_id } => {
                api::RespondNexusTaskFailedRequest {
                    namespace,
                    identity,
                    task_token,
                    error: Some(*error),
                    poller_group_id,
                    ..Default::default()
                }
            }
            NexusReport::Failure { failure, poller_group: poller_group_id } => {
                api::RespondNexusTaskFailedRequest {
                    namespace,
                    identity,
                    task_token,
                    failure: Some(*failure),
                    poller_group_id,
                    ..Default::default()
                }
            }
        };
        client.respond_nexus_task_failed(&request, options).await.map(|_| ())
    }

    /// Tells the server that the worker ends. One try, a few seconds at most.
    pub(crate) async fn announce_end(&self, heartbeat: Option<WorkerHeartbeat>) -> Result<(), Error> {
        let types = self.config.task_types;
        let kinds = [
            (types.workflows, TaskQueueType::Workflow),
            (types.activities, TaskQueueType::Activity),
            (types.nexus, TaskQueueType::Nexus),
        ];
        let request = api::ShutdownWorkerRequest {
            namespace: self.namespace(),
            sticky_task_queue: self.sticky.clone().unwrap_or_default(),
            identity: self.identity.clone(),
            reason: "graceful shutdown".into(),
            worker_heartbeat: heartbeat,
            worker_instance_key: self.instance_key.clone(),
            task_queue: self.config.task_queue.clone(),
            task_queue_types: kinds.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind.into()).collect(),
        };
        let options = CallOptions { timeout: Some(ANNOUNCEMENT), ..Default::default() };
        self.client().shutdown_worker(&request, options).await.map(|_| ())
    }

    pub(crate) async fn describe_namespace(&self) -> Result<api::DescribeNamespaceResponse, Error> {
        self.client().describe_namespace(&self.config.namespace, CallOptions::default()).await
    }

    pub(crate) async fn send_heartbeat(&self, heartbeat: WorkerHeartbeat) -> Result<(), Error> {
        let request = api::RecordWorkerHeartbeatRequest {
            namespace: self.namespace(),
            identity: self.identity.clone(),
            worker_heartbeat: vec![heartbeat],
            ..Default::default()
        };
        self.client().record_worker_heartbeat(&request, CallOptions::default()).await.map(|_| ())
    }

    fn namespace(&self) -> String {
        self.config.namespace.clone()
    }

    /// What the older versioning says on polls.
    fn capabilities(&self) -> Option<WorkerVersionCapabilities> {
        let (build_id, use_versioning) = self.stamped()?;
        Some(WorkerVersionCapabilities { build_id, use_versioning, ..Default::default() })
    }

    /// What the older versioning says on answers.
    fn stamp(&self) -> Option<WorkerVersionStamp> {
        let (build_id, use_versioning) = self.stamped()?;
        Some(WorkerVersionStamp { build_id, use_versioning })
    }

    fn stamped(&self) -> Option<(String, bool)> {
        match &self.config.versioning {
            Versioning::Deployment { .. } => None,
            Versioning::None { build_id } => (!build_id.is_empty()).then(|| (build_id.clone(), false)),
            Versioning::LegacyBuildId { build_id } => Some((build_id.clone(), true)),
        }
    }

    pub(crate) fn deployment(&self) -> Option<WorkerDeploymentOptions> {
        let Versioning::Deployment { deployment_name, build_id, use_worker_versioning, .. } =
            &self.config.versioning
        else {
            return None;
        };
        let mode = match use_worker_versioning {
            true => WorkerVersioningMode::Versioned,
            false => WorkerVersioningMode::Unversioned,
        };
        Some(WorkerDeploymentOptions {
            deployment_name: deployment_name.clone(),
            build_id: build_id.clone(),
            worker_versioning_mode: mode.into(),
        })
    }
}

/// Only the token of a task: what can be read of a message that is damaged further in.
#[derive(Clone, PartialEq, Message)]
struct TokenOnly {
    #[prost(bytes = "bytes", tag = "1")]
    token: Bytes,
}

fn read_poll(answer: Bytes) -> Polled<WorkflowPoll> {
    match lens::PollWorkflowTaskQueueResponse::decode(answer.clone()) {
        Ok(task) => {
            let suggestion =
                task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
            let backlog = u64::try_from(task.backlog_count_hint).ok();
            let task = (!task.task_token.is_empty()).then(|| WorkflowPoll::Task(Box::new(task)));
            Polled { task, suggestion, backlog }
        }
        Err(problem) => {
            let token = TokenOnly::decode(answer).map(|known| known.token).unwrap_or_default();
            let task = Some(WorkflowPoll::Unreadable { token, problem: problem.to_string() });
            Polled { task, suggestion: None, backlog: None }
        }
    }
}

fn queue(name: String, kind: TaskQueueKind, normal_name: String) -> TaskQueue {
    TaskQueue { name, kind: kind.into(), normal_name }
}

fn application(message: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo::default())),
        ..Default::default()
    }
}

pub(crate) fn wire(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// A name that no other worker has: the form of a random UUID.
fn unique() -> String {
    let n = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
