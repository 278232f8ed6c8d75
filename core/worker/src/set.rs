//! The workers that share a client: none may take another's tasks by mistake, and a workflow that is started through
//! the set may begin on one of them at once, without a trip through its task queue.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use outlast_client::{CallOptions, Client, Error};
use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::workflowservice::v1::{
    StartWorkflowExecutionRequest, StartWorkflowExecutionResponse, workflow_service as path,
};
use prost::Message;

use crate::ConfigError;
use crate::config::{TaskTypes, WorkerConfig};
use crate::permits::Permit;
use crate::worker::{Shared, Worker};

/// Workers by namespace and task queue. Clones are the same set.
///
/// ```no_run
/// use outlast_worker::{Worker, WorkerConfig, WorkerSet};
///
/// # async fn demo(client: outlast_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let set = WorkerSet::default();
/// let worker = Worker::new(client.clone(), WorkerConfig::new("default", "orders"))?;
/// set.add(&worker)?;
/// # let request = Default::default();
/// let started = set.start_workflow(&client, request, Default::default()).await?;
/// # let _ = started; Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct WorkerSet {
    workers: Arc<Mutex<Vec<Weak<Shared>>>>,
}

impl WorkerSet {
    /// Adds a worker. Refused if one is there already that takes some of the same tasks with the same build.
    pub fn add(&self, worker: &Worker) -> Result<(), ConfigError> {
        let mut workers = self.lock();
        workers.retain(|other| other.upgrade().is_some_and(|other| !other.is_ending()));
        let config = worker.config();
        let clash =
            |other: &Weak<Shared>| other.upgrade().is_some_and(|other| clashes(&other.config, config));
        if !config.skip_client_worker_set_check && workers.iter().any(clash) {
            return Err(ConfigError::new(
                "task_queue",
                "a worker of this client takes such tasks from this queue already; stop it first, give the new one \
                 another build id, or set skip_client_worker_set_check",
            ));
        }
        workers.push(worker.downgrade());
        Ok(())
    }

    /// Takes a worker out, as when it gets another client.
    pub fn remove(&self, worker: &Worker) {
        let gone = worker.downgrade();
        self.lock().retain(|other| !other.ptr_eq(&gone));
    }

    /// Starts a workflow. If the request asks for eager execution, and one of the workers has a slot for it, the server
    /// may give that one its first task at once; an empty task is left in the answer to say so.
    pub async fn start_workflow(
        &self,
        client: &Client,
        mut request: StartWorkflowExecutionRequest,
        options: CallOptions,
    ) -> Result<StartWorkflowExecutionResponse, Error> {
        let queue = request.task_queue.as_ref().map_or("", |queue| queue.name.as_str());
        let wanted = request.request_eager_execution;
        let reserved = wanted.then(|| self.reserve(&request.namespace, queue)).flatten();
        request.request_eager_execution = reserved.is_some();
        if let Some((worker, _)) = &reserved {
            request.eager_worker_deployment_options = worker.deployment();
        }
        client.warn_sizes().check_payloads(request.input.as_ref().map_or(0, Message::encoded_len));
        client.warn_sizes().check_memo(request.memo.as_ref().map_or(0, Message::encoded_len));
        let options = CallOptions {
            namespace: options.namespace.or_else(|| Some(request.namespace.clone())),
            ..options
        };
        let mut answer: StartWorkflowExecutionResponse =
            client.call(path::START_WORKFLOW_EXECUTION, &request, options).await?;
        if let (Some(task), Some((worker, permit))) = (&mut answer.eager_workflow_task, reserved) {
            let task = std::mem::take(task);
            let encoded = task.encode_to_vec();
            match lens::PollWorkflowTaskQueueResponse::decode(bytes::Bytes::from(encoded)) {
                Ok(task) => worker.begin(Box::new(task), permit),
                Err(problem) => {
                    tracing::error!(%problem, "an eager workflow task cannot be read; it will time out")
                }
            }
        }
        Ok(answer)
    }

    /// A slot of one of the workers of this queue, any of them.
    fn reserve(&self, namespace: &str, queue: &str) -> Option<(Arc<Shared>, Permit)> {
        let mut workers: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        workers.retain(|it| it.config.namespace == namespace && it.config.task_queue == queue);
        fastrand::shuffle(&mut workers);
        workers.into_iter().find_map(|worker| worker.reserve_eager().map(|permit| (worker, permit)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clashes(one: &WorkerConfig, other: &WorkerConfig) -> bool {
    let both = |kind: fn(&TaskTypes) -> bool| kind(&one.task_types) && kind(&other.task_types);
    let overlap = both(|t| t.workflows) || both(|t| t.activities) || both(|t| t.nexus);
    overlap
        && one.namespace == other.namespace
        && one.task_queue == other.task_queue
        && one.versioning.names() == other.versioning.names()
}
