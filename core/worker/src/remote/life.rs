//! The worker's own life: what its namespace is, how it does, that it ends.

use std::time::Duration;

use outlast_client::{CallOptions, Error};
use outlast_proto::temporal::api::enums::v1::TaskQueueType;
use outlast_proto::temporal::api::worker::v1::WorkerHeartbeat;
use outlast_proto::temporal::api::workflowservice::v1 as api;

use super::Remote;

/// How long the announcement of the end may take.
const ANNOUNCEMENT: Duration = Duration::from_secs(5);

impl Remote {
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
            identity: self.identity(),
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
            identity: self.identity(),
            worker_heartbeat: vec![heartbeat],
            ..Default::default()
        };
        self.client().record_worker_heartbeat(&request, CallOptions::default()).await.map(|_| ())
    }
}
