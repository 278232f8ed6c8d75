//! The server as a worker sees it: each call filled in with who the worker is. No state but the client itself, which
//! can be exchanged while calls are made.

mod activities;
mod deliver;
mod life;
mod nexus;
mod tasks;
mod workflows;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{CallOptions, Client, Current, Error, RetryKind, unique_name};
use outlast_proto::temporal::api::common::v1::{WorkerVersionCapabilities, WorkerVersionStamp};
use outlast_proto::temporal::api::deployment::v1::WorkerDeploymentOptions;
use outlast_proto::temporal::api::enums::v1::{TaskQueueKind, WorkerVersioningMode};
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost::Message;
use tokio::sync::watch;

pub(crate) use tasks::Got;
pub(crate) use workflows::Accepted;

use crate::config::{Versioning, WorkerConfig};
use crate::telemetry::WorkerMetrics;

/// Who this worker is, and the way to its server.
pub(crate) struct Remote {
    client: Current,
    /// Counts how often the client was replaced.
    replaced: watch::Sender<u64>,
    config: WorkerConfig,
    metrics: Arc<WorkerMetrics>,
    /// Names this worker among all that ever were.
    pub(crate) instance_key: String,
    /// The sticky queue, if there is one.
    pub(crate) sticky: Option<String>,
}

impl Remote {
    pub(crate) fn new(client: Client, config: WorkerConfig, metrics: Arc<WorkerMetrics>) -> Self {
        let identity = config.identity.clone().unwrap_or_else(|| client.identity());
        let sticky = config.has_sticky_queue().then(|| format!("{identity}-{}", unique_name()));
        let instance_key = unique_name();
        let (client, replaced) = (Current::new(client), watch::Sender::new(0));
        Self { client, replaced, config, metrics, instance_key, sticky }
    }

    /// Its calls go by the client of now, also those that are tried again.
    pub(crate) fn client(&self) -> Client {
        self.client.get()
    }

    pub(crate) fn replace_client(&self, client: Client) {
        self.client.set(client);
        self.replaced.send_modify(|times| *times += 1);
    }

    /// Changes with each new client.
    pub(crate) fn replaced(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Who works, as histories show it: as configured, else as the client of now says.
    pub(crate) fn identity(&self) -> String {
        self.config.identity.clone().unwrap_or_else(|| self.client().identity())
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

    /// The worker's build, and whether tasks go by it in the older way, for servers that know builds.
    fn stamped(&self) -> Option<(String, bool)> {
        let build_id = self.config.versioning.build_id();
        let by_build = matches!(self.config.versioning, Versioning::LegacyBuildId { .. });
        (!build_id.is_empty() && self.knows_builds()).then(|| (build_id.to_owned(), by_build))
    }

    /// The worker's build for servers that do not know builds: they show it as the checksum of the binary.
    fn checksum(&self) -> String {
        match self.knows_builds() {
            true => String::new(),
            false => self.config.versioning.build_id().to_owned(),
        }
    }

    fn knows_builds(&self) -> bool {
        self.client().capabilities().is_none_or(|server| server.build_id_based_versioning)
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

    /// Polls. The answer stays encoded: of a task that cannot be read, the token may be.
    async fn poll(
        &self,
        path: &'static str,
        request: &impl Message,
        options: CallOptions,
    ) -> Result<Bytes, Error> {
        let options = CallOptions {
            namespace: Some(self.namespace()),
            task_queue: Some(self.config.task_queue.clone()),
            retry: RetryKind::LongPoll,
            ..options
        };
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        self.client().call_bytes(service, method, request.encode_to_vec().into(), options).await
    }

    /// The worker's own task queue.
    fn queue(&self) -> Option<TaskQueue> {
        Some(queue(self.config.task_queue.clone(), TaskQueueKind::Normal, String::new()))
    }
}

fn queue(name: String, kind: TaskQueueKind, normal_name: String) -> TaskQueue {
    TaskQueue { name, kind: kind.into(), normal_name }
}

pub(crate) fn wire(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}
