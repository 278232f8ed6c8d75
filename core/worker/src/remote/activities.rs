//! Activity tasks: polled, kept alive, reported.

use bytes::Bytes;
use outlast_client::{CallOptions, Code, Error};
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::enums::v1::ActivityTaskFailedCause;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueueMetadata;
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use prost::Message;

use super::Remote;
use super::tasks::{Got, read};
use crate::activity::{BeatReply, Report as ActivityReport};
use crate::delivery::{Delivery, Refusal, application};
use crate::pollers::Polled;
use crate::sizes::{self, SizeLimits};

impl Remote {
    pub(crate) async fn poll_activity(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Got<api::PollActivityTaskQueueResponse>>, Error> {
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
        let answer = self.poll(path::POLL_ACTIVITY_TASK_QUEUE, &request, options).await?;
        let got: Got<api::PollActivityTaskQueueResponse> = read(path::POLL_ACTIVITY_TASK_QUEUE, answer)?;
        let Got::Task(task) = got else {
            return Ok(Polled { task: Some(got), suggestion: None, backlog: None });
        };
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        let task = (!task.task_token.is_empty()).then_some(Got::Task(task));
        if task.is_none() {
            self.metrics.activity_polls_empty.add(1);
        }
        Ok(Polled { task, suggestion, backlog: None })
    }

    /// Tells the server how an activity went.
    pub(crate) async fn report_activity(
        &self,
        task_token: Bytes,
        report: ActivityReport,
        limits: SizeLimits,
    ) -> Result<(), Error> {
        self.deliver(self.activity_report(task_token, report), limits).await
    }

    #[expect(deprecated, reason = "what servers of the older versioning read")]
    fn activity_report(&self, task_token: Bytes, report: ActivityReport) -> Delivery {
        let (identity, namespace) = (self.identity(), self.namespace());
        let (deployment_options, worker_version) = (self.deployment(), self.stamp());
        match report {
            ActivityReport::Completed(result) => {
                let result = result.map(|payload| Payloads { payloads: vec![payload] });
                Delivery::ActivityCompleted(Box::new(api::RespondActivityTaskCompletedRequest {
                    task_token,
                    result,
                    identity,
                    namespace,
                    worker_version,
                    deployment_options,
                    ..Default::default()
                }))
            }
            ActivityReport::Failed { failure, cause, details } => {
                // A language that does not say why leaves it to us: it was its code.
                let cause = match cause {
                    0 => ActivityTaskFailedCause::ActivityWorkerUnhandledFailure.into(),
                    cause => cause,
                };
                Delivery::ActivityFailed(Box::new(api::RespondActivityTaskFailedRequest {
                    task_token,
                    failure: failure.map(|failure| *failure),
                    cause,
                    last_heartbeat_details: details.map(|payloads| Payloads { payloads }),
                    identity,
                    namespace,
                    worker_version,
                    deployment_options,
                    ..Default::default()
                }))
            }
            ActivityReport::Cancelled(details) => {
                Delivery::ActivityCanceled(Box::new(api::RespondActivityTaskCanceledRequest {
                    task_token,
                    details,
                    identity,
                    namespace,
                    worker_version,
                    deployment_options,
                    ..Default::default()
                }))
            }
        }
    }

    /// Fails an attempt whose task cannot be read, so that people see why, and another worker may try at once.
    pub(crate) async fn refuse_activity(&self, token: Bytes, problem: &str) {
        tracing::error!(problem, "an activity task cannot be read; its attempt fails");
        let failure = Box::new(application(&format!("the activity task cannot be read: {problem}")));
        let failed = ActivityReport::Failed { failure: Some(failure), cause: 0, details: None };
        if let Err(error) = self.report_activity(token, failed, SizeLimits::default()).await {
            tracing::warn!(%error, "that an activity task cannot be read did not reach the server");
        }
    }

    /// Tells the server that an activity is alive. `Err`: it does not take the details, and never will.
    pub(crate) async fn beat(
        &self,
        task_token: Bytes,
        details: Vec<Payload>,
        limits: SizeLimits,
    ) -> Result<BeatReply, Refusal> {
        let details = Payloads { payloads: details };
        sizes::check_payload(limits, "the details of a heartbeat", details.encoded_len())
            .map_err(Refusal::Payloads)?;
        let request = api::RecordActivityTaskHeartbeatRequest {
            task_token,
            details: Some(details).filter(|details| !details.payloads.is_empty()),
            identity: self.identity(),
            namespace: self.namespace(),
            ..Default::default()
        };
        let error = match self.client().record_activity_task_heartbeat(&request, CallOptions::default()).await
        {
            Ok(reply) => {
                return Ok(BeatReply {
                    not_found: false,
                    cancel_requested: reply.cancel_requested,
                    paused: reply.activity_paused,
                    reset: reply.activity_reset,
                });
            }
            Err(error) => error,
        };
        let bytes = request.encoded_len();
        match Refusal::of(&error, bytes) {
            Some(refusal @ Refusal::TooLarge { .. }) => {
                tracing::warn!(bytes, %error, "the details of a heartbeat are too large for the server; the attempt fails");
                Err(refusal)
            }
            // What was wrong with this one need not be wrong with the next.
            Some(Refusal::Payloads(_) | Refusal::Invalid(_)) | None if error.code != Code::NotFound => {
                tracing::warn!(%error, "a heartbeat did not reach the server");
                Ok(BeatReply::default())
            }
            Some(Refusal::Payloads(_) | Refusal::Invalid(_)) | None => {
                Ok(BeatReply { not_found: true, ..Default::default() })
            }
        }
    }
}
