//! Nexus tasks: polled and answered.

use bytes::Bytes;
use outlast_client::{CallOptions, Error};
use outlast_proto::temporal::api::workflowservice::v1 as api;

use super::Remote;
use crate::nexus::Report as NexusReport;
use crate::pollers::Polled;

impl Remote {
    pub(crate) async fn poll_nexus(
        &self,
        options: CallOptions,
    ) -> Result<Polled<Box<api::PollNexusTaskQueueResponse>>, Error> {
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
        let options = CallOptions { task_queue: Some(self.config.task_queue.clone()), ..options };
        let task = self.client().poll_nexus_task_queue(&request, options).await?;
        if task.task_token.is_empty() {
            self.metrics.nexus.polls_empty.add(1);
        }
        let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
        Ok(Polled { task: (!task.task_token.is_empty()).then(|| Box::new(task)), suggestion, backlog: None })
    }

    pub(crate) async fn report_nexus(&self, task_token: Bytes, report: NexusReport) -> Result<(), Error> {
        let (client, options) = (self.client(), CallOptions::default());
        let (identity, namespace) = (self.identity(), self.namespace());
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
}
