//! Sends reports, and in their place what the server takes.

use outlast_client::{CallOptions, Error};
use outlast_proto::temporal::api::workflowservice::v1 as api;

use super::Remote;
use crate::delivery::{Delivery, Refusal};
use crate::nexus::older;
use crate::sizes::SizeLimits;

impl Remote {
    /// Tells the server. A report that breaks the limits of the namespace is not sent, and one that the server finds too
    /// large or wrong is not sent again: a small one that says so goes in its place, once. An error is one of the network, or
    /// says that the task is over; what it means is up to whoever held the task.
    pub(crate) async fn deliver(&self, report: Delivery, limits: SizeLimits) -> Result<(), Error> {
        let report = match report.check(limits) {
            Ok(()) => report,
            Err(refusal) => report.instead(&refusal),
        };
        let Err(error) = self.send(&report).await else { return Ok(()) };
        let (what, bytes) = (report.what(), report.bytes());
        let Some(refusal) = Refusal::of(&error, bytes) else { return Err(error) };
        tracing::warn!(what, bytes, %error, "The server refused a report; a small one that says so is sent in its place");
        self.send(&report.instead(&refusal)).await
    }

    async fn send(&self, report: &Delivery) -> Result<(), Error> {
        let (client, options) = (self.client(), CallOptions::default());
        match report {
            Delivery::ActivityCompleted(request) => {
                client.respond_activity_task_completed(request, options).await.map(drop)
            }
            Delivery::ActivityFailed(request) => {
                client.respond_activity_task_failed(request, options).await.map(drop)
            }
            Delivery::ActivityCanceled(request) => {
                client.respond_activity_task_canceled(request, options).await.map(drop)
            }
            Delivery::NexusCompleted { request, older: false } => {
                client.respond_nexus_task_completed(request, options).await.map(drop)
            }
            Delivery::NexusCompleted { request, older: true } => {
                let response = request.response.clone().map(older::response);
                let request = api::RespondNexusTaskCompletedRequest { response, ..(**request).clone() };
                client.respond_nexus_task_completed(&request, options).await.map(drop)
            }
            Delivery::NexusFailed { request, older: false } => {
                client.respond_nexus_task_failed(request, options).await.map(drop)
            }
            #[expect(deprecated, reason = "the older form of failures, for servers that ask for it")]
            Delivery::NexusFailed { request, older: true } => {
                let mut request = (**request).clone();
                request.error = request.failure.take().map(older::error).or(request.error);
                client.respond_nexus_task_failed(&request, options).await.map(drop)
            }
            Delivery::QueryAnswered(request) => {
                client.respond_query_task_completed(request, options).await.map(drop)
            }
            Delivery::WorkflowTaskFailed(request) => {
                client.respond_workflow_task_failed(request, options).await.map(drop)
            }
        }
    }
}
