//! Nexus tasks: polled and answered.

use bytes::Bytes;
use outlast_client::{CallOptions, Error};
use outlast_proto::temporal::api::nexus::v1::{self as nexus, HandlerError};
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};

use super::Remote;
use super::tasks::{Got, read};
use crate::delivery::Delivery;
use crate::nexus::Report as NexusReport;
use crate::pollers::Polled;
use crate::sizes::SizeLimits;

impl Remote {
    pub(crate) async fn poll_nexus(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Got<api::PollNexusTaskQueueResponse>>, Error> {
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollNexusTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: self.queue(),
            identity: self.identity(),
            worker_instance_key: self.instance_key.clone(),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let answer = self.poll(path::POLL_NEXUS_TASK_QUEUE, &request, options).await?;
        let got: Got<api::PollNexusTaskQueueResponse> = read(path::POLL_NEXUS_TASK_QUEUE, answer)?;
        let Got::Task(task) = got else {
            return Ok(Polled { task: Some(got), suggestion: None, backlog: None });
        };
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        let task = (!task.task_token.is_empty()).then_some(Got::Task(task));
        if task.is_none() {
            self.metrics.nexus.polls_empty.add(1);
        }
        Ok(Polled { task, suggestion, backlog: None })
    }

    /// Answers a Nexus task.
    pub(crate) async fn report_nexus(&self, task_token: Bytes, report: NexusReport) -> Result<(), Error> {
        self.deliver(self.nexus_report(task_token, report), SizeLimits::default()).await
    }

    fn nexus_report(&self, task_token: Bytes, report: NexusReport) -> Delivery {
        let (identity, namespace) = (self.identity(), self.namespace());
        #[expect(deprecated, reason = "the older form of failures, for servers that ask for it")]
        let (request, older) = match report {
            NexusReport::Completed { response, poller_group: poller_group_id, older } => {
                let request = api::RespondNexusTaskCompletedRequest {
                    namespace,
                    identity,
                    task_token,
                    response: Some(*response),
                    poller_group_id,
                };
                return Delivery::NexusCompleted { request: Box::new(request), older };
            }
            NexusReport::Error { error, poller_group: poller_group_id } => {
                let request = api::RespondNexusTaskFailedRequest {
                    namespace,
                    identity,
                    task_token,
                    error: Some(*error),
                    poller_group_id,
                    ..Default::default()
                };
                (request, false)
            }
            NexusReport::Failure { failure, poller_group: poller_group_id, older } => {
                let request = api::RespondNexusTaskFailedRequest {
                    namespace,
                    identity,
                    task_token,
                    failure: Some(*failure),
                    poller_group_id,
                    ..Default::default()
                };
                (request, older)
            }
        };
        Delivery::NexusFailed { request: Box::new(request), older }
    }

    /// Answers a task that cannot be read with an error that says so; the server tries it again.
    pub(crate) async fn refuse_nexus(&self, token: Bytes, problem: &str) {
        tracing::error!(problem, "a Nexus task cannot be read; it is answered with an error");
        let failure = nexus::Failure {
            message: format!("the Nexus task cannot be read: {problem}"),
            ..Default::default()
        };
        let error =
            HandlerError { error_type: "INTERNAL".into(), failure: Some(failure), ..Default::default() };
        let report = NexusReport::Error { error: Box::new(error), poller_group: String::new() };
        if let Err(error) = self.report_nexus(token, report).await {
            tracing::warn!(%error, "that a Nexus task cannot be read did not reach the server");
        }
    }
}
