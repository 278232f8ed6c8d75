//! The worker as its caller sees it: polls and completions in, tasks out. It owns the loops and starts their pollers
//! when the language first asks.

mod shared;
mod start;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use outlast_client::{Client, Error};
use outlast_machine::io::{Eviction, RunId};
use outlast_proto::coresdk;
use outlast_proto::coresdk::workflow_activation::WorkflowActivation;
use outlast_proto::coresdk::workflow_completion::WorkflowActivationCompletion;
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::workflow_activation_completion::Status;
use prost::Message;
pub(crate) use shared::{NamespaceFacts, Shared, facts};
pub(crate) use start::machine_config;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::config::WorkerConfig;
use crate::poll::Polling;
use crate::shutdown::Ending;
use crate::sizes::SizeLimits;
use crate::telemetry::Metrics;
use crate::{CompleteError, ConfigError, PollError, activity, nexus};

/// Takes tasks of one task queue and hands them to a language. Clones are the same worker.
///
/// ```no_run
/// use outlast_client::{Client, ClientOptions};
/// use outlast_worker::{PollError, Worker, WorkerConfig};
///
/// # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientOptions::new("localhost:7233".parse()?)).await?;
/// let worker = Worker::new(client, WorkerConfig::new("default", "orders"))?;
/// worker.validate().await?;
/// loop {
///     let activation = match worker.poll_workflow_activation().await {
///         Ok(activation) => activation,
///         Err(PollError::ShutDown) => break,
///         Err(other) => return Err(other.into()),
///     };
///     // … apply the jobs of the activation, collect commands …
///     # let completion = Default::default();
///     worker.complete_workflow_activation(completion)?;
/// }
/// worker.finalize_shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Ends the loops when the last clone is gone, shut down or not.
    _tasks: Arc<Tasks>,
    asked: watch::Sender<bool>,
    ended: watch::Receiver<Option<Ending>>,
}

#[derive(Debug)]
struct Tasks {
    loops: Vec<AbortHandle>,
    conductor: JoinHandle<()>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.conductor.abort();
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

impl Worker {
    /// A worker that begins to poll when it is first polled itself. Must be called within a tokio runtime.
    pub fn new(client: Client, config: WorkerConfig) -> Result<Self, ConfigError> {
        Self::with_metrics(client, config, &Metrics::none())
    }

    /// The same, measured.
    pub fn with_metrics(
        client: Client,
        config: WorkerConfig,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let no_runtime = |_| ConfigError::new("runtime", "a worker must be made within a tokio runtime");
        tokio::runtime::Handle::try_current().map_err(no_runtime)?;
        Ok(start::start(client, config.bounded(), metrics))
    }

    /// Asks the server for the namespace: that it exists, what it allows, what it can do.
    pub async fn validate(&self) -> Result<coresdk::NamespaceInfo, Error> {
        let info = self.shared.remote.describe_namespace().await?.namespace_info.unwrap_or_default();
        let (limits, can) = (info.limits.unwrap_or_default(), info.capabilities.unwrap_or_default());
        let limit = |n: i64| usize::try_from(n).ok().filter(|n| *n > 0);
        let warn = self.shared.namespace().sizes.warn;
        *self.shared.namespace.lock().unwrap_or_else(PoisonError::into_inner) = NamespaceFacts {
            known: true,
            ends_polls: can.worker_poll_complete_on_shutdown,
            autoscaling: can.poller_autoscaling,
            heartbeats: can.worker_heartbeats,
            pages: can.workflow_task_completion_pagination,
            sizes: match self.shared.config.payload_limits {
                true => SizeLimits {
                    payload: limit(limits.blob_size_limit_error),
                    memo: limit(limits.memo_size_limit_error),
                    warn,
                },
                false => SizeLimits { warn, ..SizeLimits::default() },
            },
        };
        let limits = coresdk::namespace_info::Limits {
            blob_size_limit_error: limits.blob_size_limit_error,
            memo_size_limit_error: limits.memo_size_limit_error,
        };
        Ok(coresdk::NamespaceInfo { limits: Some(limits) })
    }

    /// The next activation, encoded: a `coresdk.workflow_activation.WorkflowActivation`.
    pub async fn poll_workflow_activation_bytes(&self) -> Result<Bytes, PollError> {
        let workflows = self.shared.workflows.as_ref().ok_or(PollError::NotConfigured("workflows"))?;
        open(&workflows.polling);
        Ok(self.shared.alarm.or(workflows.activations.next()).await?.encode_to_vec().into())
    }

    /// The next activation, with every field. It must be answered.
    pub async fn poll_workflow_activation(&self) -> Result<WorkflowActivation, PollError> {
        let encoded = self.poll_workflow_activation_bytes().await?;
        WorkflowActivation::decode(encoded)
            .map_err(|e| PollError::Fatal(format!("an activation is damaged: {e}")))
    }

    /// Takes the answer to an activation: an encoded `coresdk.workflow_completion.WorkflowActivationCompletion`.
    /// Payloads in it are not copied. What it says to the server is sent by the worker; shutdown waits for it.
    pub fn complete_workflow_activation_bytes(&self, completion: Bytes) -> Result<(), CompleteError> {
        let workflows = self.shared.workflows.as_ref().ok_or(CompleteError::NotConfigured("workflows"))?;
        taken(workflows.shards.completed(read_completion(completion)?))
    }

    /// The same, with every field.
    pub fn complete_workflow_activation(
        &self,
        completion: WorkflowActivationCompletion,
    ) -> Result<(), CompleteError> {
        self.complete_workflow_activation_bytes(completion.encode_to_vec().into())
    }

    /// The next activity, encoded: a `coresdk.activity_task.ActivityTask`.
    pub async fn poll_activity_task_bytes(&self) -> Result<Bytes, PollError> {
        Ok(self.poll_activity_task().await?.encode_to_vec().into())
    }

    /// The next activity, remote or local, or the wish that one ends.
    pub async fn poll_activity_task(&self) -> Result<coresdk::activity_task::ActivityTask, PollError> {
        let activities = self.shared.activities.as_ref().ok_or(PollError::NotConfigured("activities"))?;
        if open(&activities.polling) {
            // A worker that has ended opens nothing.
            let _ = activities.inbox.send(activity::Arrival::Open);
        }
        self.shared.alarm.or(activities.tasks.next()).await
    }

    /// The result of an activity.
    pub fn complete_activity_task(
        &self,
        completion: coresdk::ActivityTaskCompletion,
    ) -> Result<(), CompleteError> {
        let activities = self.shared.activities.as_ref().ok_or(CompleteError::NotConfigured("activities"))?;
        let malformed = |problem| {
            CompleteError::Malformed(format!(
                "malformed activity completion (Activity completion{problem}): None"
            ))
        };
        let missing = || malformed(" had empty result/status field");
        let status = completion.result.and_then(|result| result.status).ok_or_else(missing)?;
        if matches!(&status, coresdk::activity_result::activity_execution_result::Status::Completed(it) if it.result.is_none())
        {
            return Err(malformed("s must contain a `result` payload (which may be empty)"));
        }
        let arrival = activity::Arrival::Completed(completion.task_token, Box::new(status));
        taken(activities.inbox.send(arrival).is_ok())
    }

    /// The same, encoded: a `coresdk.ActivityTaskCompletion`.
    pub fn complete_activity_task_bytes(&self, completion: Bytes) -> Result<(), CompleteError> {
        self.complete_activity_task(read(completion)?)
    }

    /// Says that an activity is alive, encoded: a `coresdk.ActivityHeartbeat`.
    pub fn record_activity_heartbeat_bytes(&self, heartbeat: Bytes) -> Result<(), CompleteError> {
        self.record_activity_heartbeat(read(heartbeat)?);
        Ok(())
    }

    /// Says that an activity is alive. What the server answers comes back as a cancellation, if at all.
    pub fn record_activity_heartbeat(&self, heartbeat: coresdk::ActivityHeartbeat) {
        if let Some(activities) = &self.shared.activities {
            // A worker that has ended needs no heartbeats.
            let _ = activities.inbox.send(activity::Arrival::Beat(heartbeat.task_token, heartbeat.details));
        }
    }

    /// The next Nexus task, encoded: a `coresdk.nexus.NexusTask`.
    pub async fn poll_nexus_task_bytes(&self) -> Result<Bytes, PollError> {
        Ok(self.poll_nexus_task().await?.encode_to_vec().into())
    }

    /// The result of a Nexus task, encoded: a `coresdk.nexus.NexusTaskCompletion`.
    pub fn complete_nexus_task_bytes(&self, completion: Bytes) -> Result<(), CompleteError> {
        self.complete_nexus_task(read(completion)?)
    }

    /// The next Nexus task, or the wish that one ends.
    pub async fn poll_nexus_task(&self) -> Result<coresdk::nexus::NexusTask, PollError> {
        let nexus = self.shared.nexus.as_ref().ok_or(PollError::NotConfigured("Nexus tasks"))?;
        open(&nexus.polling);
        self.shared.alarm.or(nexus.tasks.next()).await
    }

    /// The result of a Nexus task.
    pub fn complete_nexus_task(
        &self,
        completion: coresdk::nexus::NexusTaskCompletion,
    ) -> Result<(), CompleteError> {
        let nexus = self.shared.nexus.as_ref().ok_or(CompleteError::NotConfigured("Nexus tasks"))?;
        let missing = || {
            CompleteError::Malformed(
                "malformed nexus completion: Nexus completion had empty status field".into(),
            )
        };
        let status = completion.status.ok_or_else(missing)?;
        taken(nexus.inbox.send(nexus::Arrival::Completed(completion.task_token, Box::new(status))).is_ok())
    }

    /// Lets a run leave the cache: an eviction activation follows if it is there.
    pub fn request_workflow_eviction(
        &self,
        run_id: &str,
        reason: lang::remove_from_cache::EvictionReason,
        message: &str,
    ) {
        if let Some(workflows) = &self.shared.workflows {
            let eviction = Eviction { reason, message: message.to_owned() };
            workflows.shards.evict(RunId::from(run_id), eviction);
        }
    }

    /// Calls go through this client from now on; polls that are in flight end as they began.
    pub fn replace_client(&self, client: Client) {
        self.shared.remote.replace_client(client);
    }

    /// Begins the end and returns at once. Go on polling and answering until polls say [`PollError::ShutDown`].
    pub fn initiate_shutdown(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.asked.send_replace(true);
    }

    /// Begins the end, and waits for it. It comes, whatever the server or the language do.
    pub async fn shutdown(&self) -> Ending {
        self.initiate_shutdown();
        let mut ended = self.ended.clone();
        let ending = ended.wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
        ending.unwrap_or(Ending::Deadline)
    }

    /// The same, as the last word.
    pub async fn finalize_shutdown(self) -> Ending {
        self.shutdown().await
    }

    /// Whether tasks are taken: the namespace is known, and nobody has asked for the end.
    pub fn ready(&self) -> bool {
        self.shared.namespace().known && !*self.asked.borrow() && self.alive()
    }

    /// Whether the worker's loops run.
    pub fn alive(&self) -> bool {
        self.ended.borrow().is_none() && self._tasks.loops.iter().all(|it| !it.is_finished())
    }

    /// Names this worker among all that ever were.
    pub fn instance_key(&self) -> &str {
        &self.shared.remote.instance_key
    }

    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    /// What it was told.
    pub fn config(&self) -> &WorkerConfig {
        &self.shared.config
    }
}

/// The language asked; for the first time, if so it says: tasks will not wait for nobody.
fn open(polling: &watch::Sender<Polling>) -> bool {
    polling.send_if_modified(|polling| {
        let first = *polling == Polling::Waiting;
        if first {
            *polling = Polling::Open;
        }
        first
    })
}

fn read<M: Message + Default>(encoded: Bytes) -> Result<M, CompleteError> {
    M::decode(outlast_proto::Frame::new(&encoded)).map_err(|e| CompleteError::Unreadable(e.to_string()))
}

/// What every answer to an activation must have.
pub(crate) fn read_completion(encoded: Bytes) -> Result<lang::WorkflowActivationCompletion, CompleteError> {
    let completion: lang::WorkflowActivationCompletion = read(encoded)?;
    let malformed = |problem| {
        let run = String::from_utf8_lossy(&completion.run_id);
        Err(CompleteError::Malformed(format!("malformed workflow completion for run ({run}): {problem}")))
    };
    match &completion.status {
        None => malformed("Workflow completion had empty status field"),
        Some(Status::Successful(success))
            if success.commands.iter().any(|command| command.variant.is_none()) =>
        {
            malformed("At least one workflow command in the completion contained an empty variant")
        }
        Some(Status::Successful(_) | Status::Failed(_)) => Ok(completion),
    }
}

fn taken(sent: bool) -> Result<(), CompleteError> {
    sent.then_some(()).ok_or(CompleteError::Ended)
}
