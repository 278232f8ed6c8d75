//! `new_worker` and `WorkerRef`: polls out, completions in.

mod config;
mod replay;
mod slots;
mod tuner;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use outlast_core::{CompleteError, PollError, Replayer, Sdk, Worker, WorkerSet, proto};
use proto::lens::lang::remove_from_cache::EvictionReason;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::watch;

use self::config::WorkerConfig;
use self::slots::Home;
use super::client::ClientRef;
use super::runtime::RuntimeRef;
use crate::error::{self, Failure};
use crate::live::{Kind, Live};
use crate::runtime::Shared;
use crate::{aio, buffers};

/// A worker of the server's tasks, or of recorded histories.
#[pyclass(frozen, module = "builtins")]
pub struct WorkerRef {
    shared: Shared,
    worker: Mutex<Option<Arc<Held>>>,
    /// Where custom slot suppliers run.
    home: Home,
    /// Ends polls in flight when Python lets the worker go.
    dropped: watch::Sender<bool>,
}

struct Held {
    worker: Source,
    _live: Live,
}

enum Source {
    /// And where it is registered, so that no second worker of its client takes the same tasks.
    Server(Worker, Mutex<WorkerSet>),
    Replay(Replayer),
}

impl Drop for WorkerRef {
    fn drop(&mut self) {
        if let Some(held) = self.lock().take() {
            held.initiate_shutdown();
        }
        self.dropped.send_replace(true);
    }
}

impl WorkerRef {
    fn new(shared: Shared, worker: Source, home: Home) -> Self {
        let held = Arc::new(Held { worker, _live: Live::new(Kind::Worker) });
        Self { shared, worker: Mutex::new(Some(held)), home, dropped: watch::Sender::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Held>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> PyResult<Arc<Held>> {
        Ok(self.lock().clone().ok_or_else(finalized)?)
    }

    /// One poll; it ends when the worker is dropped.
    fn poll<'py, F>(&self, py: Python<'py>, poll: impl FnOnce(Arc<Held>) -> F) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future<Output = Result<Bytes, PollError>> + Send + 'static,
    {
        self.shared.assert_same_process("use worker")?;
        let poll = poll(self.held()?);
        let mut dropped = self.dropped.subscribe();
        aio::start(py, &self.shared, async move {
            let task = tokio::select! {
                biased;
                task = poll => task,
                _ = dropped.wait_for(|dropped| *dropped) => Err(PollError::ShutDown),
            };
            task.map_err(poll_failure)
        })
    }
}

fn finalized() -> Failure {
    Failure::Panic("the worker was finalized".into())
}

fn poll_failure(error: PollError) -> Failure {
    match error {
        PollError::ShutDown | PollError::NotConfigured(_) => Failure::PollShutdown,
        PollError::Broken => Failure::Runtime(format!("Poll failure: {error}")),
        PollError::Fatal(cause) => {
            Failure::Runtime(format!("Poll failure: Unhandled grpc error when polling: {cause}"))
        }
    }
}

/// What is wrong with the bytes is said at once, all else by the future.
fn completed<'py>(py: Python<'py>, result: Result<(), CompleteError>) -> PyResult<Bound<'py, PyAny>> {
    let failed = |cause: &str| Failure::Runtime(format!("Completion failure\n\nCaused by:\n    {cause}"));
    let outcome = match result {
        Ok(()) => Ok(()),
        Err(CompleteError::Unreadable(problem)) => {
            return Err(Failure::Value(format!("Invalid proto: {problem}")).into());
        }
        // The server was told, or gives the task to another: nothing is left to do.
        Err(CompleteError::Ended) => Ok(()),
        Err(CompleteError::Malformed(problem)) => Err(failed(&format!("Lang SDK sent us a {problem}"))),
        Err(CompleteError::NotConfigured(what)) => Err(failed(match what {
            "workflows" => "Workflows are not enabled on this worker",
            "activities" => "Activities are not enabled on this worker",
            _ => "Nexus is not enabled on this worker",
        })),
    };
    aio::ready(py, outcome)
}

#[pymethods]
impl WorkerRef {
    fn validate<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.assert_same_process("use worker")?;
        let held = self.held()?;
        if !self.home.capture(py)? {
            return Err(Failure::Panic("validate was called twice on one worker".into()).into());
        }
        aio::start(py, &self.shared, async move { held.validate().await })
    }

    fn poll_workflow_activation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.poll(py, |held| async move { held.poll_workflow_activation().await })
    }

    fn poll_activity_task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.poll(py, |held| async move { held.poll_activity_task().await })
    }

    fn poll_nexus_task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.poll(py, |held| async move { held.poll_nexus_task().await })
    }

    fn complete_workflow_activation<'py>(
        &self,
        py: Python<'py>,
        proto: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (held, bytes) = (self.held()?, buffers::taken(proto));
        completed(py, py.detach(|| held.complete_workflow_activation(bytes)))
    }

    fn complete_activity_task<'py>(
        &self,
        py: Python<'py>,
        proto: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (held, bytes) = (self.held()?, buffers::taken(proto));
        completed(py, py.detach(|| held.complete_activity_task(bytes)))
    }

    fn complete_nexus_task<'py>(
        &self,
        py: Python<'py>,
        proto: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (held, bytes) = (self.held()?, buffers::taken(proto));
        completed(py, py.detach(|| held.complete_nexus_task(bytes)))
    }

    fn record_activity_heartbeat(&self, py: Python<'_>, proto: &Bound<'_, PyBytes>) -> PyResult<()> {
        let (held, bytes) = (self.held()?, buffers::taken(proto));
        py.detach(|| held.record_activity_heartbeat(bytes)).map_err(|error| match error {
            CompleteError::Unreadable(problem) => Failure::Value(format!("Invalid proto: {problem}")).into(),
            other
            @ (CompleteError::Malformed(_) | CompleteError::NotConfigured(_) | CompleteError::Ended) => {
                Failure::Runtime(other.to_string()).into()
            }
        })
    }

    fn request_workflow_eviction(&self, py: Python<'_>, run_id: &str) -> PyResult<()> {
        let held = self.held()?;
        py.detach(|| held.request_workflow_eviction(run_id));
        Ok(())
    }

    fn replace_client(&self, py: Python<'_>, client: &ClientRef) -> PyResult<()> {
        let held = self.held()?;
        Ok(py.detach(|| held.replace_client(client))?)
    }

    fn initiate_shutdown(&self, py: Python<'_>) -> PyResult<()> {
        let held = self.held()?;
        py.detach(|| held.initiate_shutdown());
        Ok(())
    }

    fn finalize_shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let held = self.lock().take().ok_or_else(finalized)?;
        let held = Arc::try_unwrap(held).map_err(|held| {
            // Whoever still holds it ends with it.
            held.initiate_shutdown();
            let count = Arc::strong_count(&held);
            Failure::Value(format!("Cannot finalize, expected 1 reference, got {count}"))
        })?;
        aio::start(py, &self.shared, async move {
            held.finalize().await;
            Ok(())
        })
    }
}

impl Held {
    async fn validate(&self) -> Result<Bytes, Failure> {
        match &self.worker {
            Source::Server(worker, _) => match worker.validate().await {
                Ok(info) => Ok(proto::encode(&info)),
                Err(error) => {
                    let namespace = &worker.config().namespace;
                    Err(Failure::Runtime(format!(
                        "Worker validation failed: Namespace {namespace} was not found or otherwise could not be \
                         described: {}",
                        error::status(&error, "None")
                    )))
                }
            },
            Source::Replay(_) => Ok(Bytes::new()),
        }
    }

    async fn poll_workflow_activation(&self) -> Result<Bytes, PollError> {
        match &self.worker {
            Source::Server(worker, _) => worker.poll_workflow_activation_bytes().await,
            Source::Replay(replayer) => replayer.poll_workflow_activation_bytes().await,
        }
    }

    async fn poll_activity_task(&self) -> Result<Bytes, PollError> {
        match &self.worker {
            Source::Server(worker, _) => worker.poll_activity_task_bytes().await,
            Source::Replay(_) => Err(PollError::ShutDown),
        }
    }

    async fn poll_nexus_task(&self) -> Result<Bytes, PollError> {
        match &self.worker {
            Source::Server(worker, _) => worker.poll_nexus_task_bytes().await,
            Source::Replay(_) => Err(PollError::ShutDown),
        }
    }

    fn complete_workflow_activation(&self, bytes: Bytes) -> Result<(), CompleteError> {
        match &self.worker {
            Source::Server(worker, _) => worker.complete_workflow_activation_bytes(bytes),
            Source::Replay(replayer) => replayer.complete_workflow_activation_bytes(bytes),
        }
    }

    fn complete_activity_task(&self, bytes: Bytes) -> Result<(), CompleteError> {
        match &self.worker {
            Source::Server(worker, _) => worker.complete_activity_task_bytes(bytes),
            Source::Replay(_) => Err(CompleteError::NotConfigured("Activities")),
        }
    }

    fn complete_nexus_task(&self, bytes: Bytes) -> Result<(), CompleteError> {
        match &self.worker {
            Source::Server(worker, _) => worker.complete_nexus_task_bytes(bytes),
            Source::Replay(_) => Err(CompleteError::NotConfigured("Nexus tasks")),
        }
    }

    fn record_activity_heartbeat(&self, bytes: Bytes) -> Result<(), CompleteError> {
        match &self.worker {
            Source::Server(worker, _) => worker.record_activity_heartbeat_bytes(bytes),
            Source::Replay(_) => Ok(()),
        }
    }

    fn request_workflow_eviction(&self, run_id: &str) {
        match &self.worker {
            Source::Server(worker, _) => {
                let message = "the language asked for it";
                worker.request_workflow_eviction(run_id, EvictionReason::LangRequested, message);
            }
            // Each history leaves when it has been shown.
            Source::Replay(_) => {}
        }
    }

    fn replace_client(&self, client: &ClientRef) -> Result<(), Failure> {
        let (worker, set) = match &self.worker {
            Source::Server(worker, set) => (worker, set),
            Source::Replay(_) => return Ok(()),
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        set.remove(worker);
        if let Err(error) = client.workers.add(worker) {
            // It was there until now.
            let _ = set.add(worker);
            return Err(Failure::Value(format!("Failed replacing client: {}", config::overlap(&error))));
        }
        *set = client.workers.clone();
        worker.replace_client(client.client.clone());
        Ok(())
    }

    fn initiate_shutdown(&self) {
        match &self.worker {
            Source::Server(worker, _) => worker.initiate_shutdown(),
            Source::Replay(replayer) => replayer.shutdown(),
        }
    }

    async fn finalize(self) {
        match self.worker {
            Source::Server(worker, _) => drop(worker.finalize_shutdown().await),
            Source::Replay(replayer) => replayer.shutdown(),
        }
    }
}

#[pyfunction]
fn new_worker(
    py: Python<'_>,
    runtime_ref: &RuntimeRef,
    client: &ClientRef,
    config: WorkerConfig,
) -> PyResult<WorkerRef> {
    runtime_ref.shared.assert_same_process("create worker")?;
    let home = Home::default();
    let (name, version) = client.client.sdk();
    let mut config = config.into_core(py, &runtime_ref.shared, Sdk { name, version }, &home)?;
    config.ignore_evicts_on_shutdown = !evictions_guarded(py)?;
    let runtime = &runtime_ref.shared.core;
    let worker = py.detach(|| {
        let worker = runtime.worker(client.client.clone(), config).map_err(config::failure)?;
        client.workers.add(&worker).map_err(config::duplicate).map(|()| worker)
    })?;
    let workers = Mutex::new(client.workers.clone());
    Ok(WorkerRef::new(runtime_ref.shared.clone(), Source::Server(worker, workers), home))
}

/// Whether Python ends although a workflow does not let itself be evicted. Where it would wait for it, runs are not evicted at the
/// end of their worker: the interpreter drops them some time later.
fn evictions_guarded(py: Python<'_>) -> PyResult<bool> {
    py.import("outlast.compat._evictions")?.call_method0("guard")?.extract()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WorkerRef>()?;
    slots::register(module)?;
    replay::register(module)?;
    module.add_function(wrap_pyfunction!(new_worker, module)?)
}
