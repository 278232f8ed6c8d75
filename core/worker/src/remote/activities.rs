//! Activity tasks: polled, kept alive, reported.

use bytes::Bytes;
use outlast_client::{CallOptions, Code, Error};
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::enums::v1::ActivityTaskFailedCause;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueueMetadata;
use outlast_proto::temporal::api::workflowservice::v1 as api;

use super::Remote;
use crate::activity::{BeatReply, Report as ActivityReport};
use crate::pollers::Polled;

impl Remote {
    pub(crate) async fn poll_activity(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Box<api::PollActivityTaskQueueResponse>>, Error> {
        let rate = self.config.max_task_queue_activities_per_second;
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollActivityTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: self.queue(),
            identity: self.identity(),
            worker_instance_key: self.instance_key.clone(),
            task_queue_metadata: rate.map(|rate| TaskQueueMetadata { max_tasks_per_second: Some(rate) }),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let options = CallOptions { task_queue: Some(self.config.task_queue.clone()), ..options };
        let task = self.client().poll_activity_task_queue(&request, options).await?;
        if task.task_token.is_empty() {
            self.metrics.activity_polls_empty.add(1);
        }
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        Ok(Polled { task: (!task.task_token.is_empty()).then(|| Box::new(task)), suggestion, backlog: None })
    }

    #[expect(deprecated, reason = "what servers of the older versioning read")]
    pub(crate) async fn report_activity(
        &self,
        task_token: Bytes,
        report: ActivityReport,
    ) -> Result<(), Error> {
        let (client, options) = (self.client(), CallOptions::default());
        let (identity, namespace) = (self.identity(), self.namespace());
        let (deployment_options, worker_version) = (self.deployment(), self.stamp());
        match report {
            ActivityReport::Completed(result) => {
                let result = result.map(|payload| Payloads { payloads: vec![payload] });
                let request = api::RespondActivityTaskCompletedRequest {
                    task_token,
                    result,
                    identity,
                    namespace,
                    worker_version,
                    deployment_options,
                    ..Default::default()
                };
                client.respond_activity_task_completed(&request, options).await.map(|_| ())
            }
            ActivityReport::Failed { failure, cause, details } => {
                // A language that does not say why leaves it to us: it was its code.
                let cause = match cause {
                    0 => ActivityTaskFailedCause::ActivityWorkerUnhandledFailure.into(),
                    cause => cause,
                };
                let request = api::RespondActivityTaskFailedRequest {
                    task_token,
                    failure: failure.map(|failure| *failure),
                    cause,
                    last_heartbeat_details: details.map(|payloads| Payloads { payloads }),
                    identity,
                    namespace,
                    worker_version,
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
                    worker_version,
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
            identity: self.identity(),
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
}
