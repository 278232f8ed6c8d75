//! `new_replay_worker` and `HistoryPusher`: recorded histories instead of a server's tasks.

use std::sync::Arc;

use bytes::Bytes;
use outlast_core::{ReplayError, Replayer, Sdk};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::Semaphore;

use super::config::{WorkerConfig, failure};
use super::slots::Home;
use super::{Source, WorkerRef};
use crate::compat::runtime::RuntimeRef;
use crate::error::Failure;
use crate::runtime::Shared;
use crate::{aio, buffers};

/// Histories that are taken before the first has been replayed: one is shown, one waits.
const TAKEN_MAX: usize = 2;

/// Gives histories to a replay worker, as fast as it takes them.
#[pyclass(frozen, module = "builtins")]
struct HistoryPusher {
    shared: Shared,
    replayer: Replayer,
    room: Arc<Semaphore>,
}

#[pymethods]
impl HistoryPusher {
    fn push_history<'py>(
        &self,
        py: Python<'py>,
        workflow_id: String,
        history_proto: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let history = buffers::taken(history_proto);
        outlast_core::proto::check::<outlast_core::proto::temporal::api::history::v1::History>(&history)
            .map_err(|problem| Failure::Value(format!("Invalid proto: {problem}")))?;
        if self.room.is_closed() {
            return Err(closed().into());
        }
        let (replayer, room) = (self.replayer.clone(), self.room.clone());
        aio::start(py, &self.shared, async move { push(replayer, room, workflow_id, history).await })
    }

    fn close(&self, py: Python<'_>) {
        self.room.close();
        py.detach(|| self.replayer.close());
    }
}

fn closed() -> Failure {
    Failure::Runtime("Replay worker is no longer accepting new histories".into())
}

async fn push(
    replayer: Replayer,
    room: Arc<Semaphore>,
    workflow_id: String,
    history: Bytes,
) -> Result<(), Failure> {
    let place = room.acquire_owned().await.map_err(|_| closed())?;
    let mut result = Box::pin(replayer.replay(&workflow_id, history).result());
    // What is no history at all is refused at once; the language would hear nothing of it.
    let refused = tokio::select! {
        biased;
        result = &mut result => result.err(),
        () = std::future::ready(()) => None,
    };
    if let Some(ReplayError::History(problem)) = refused {
        return Err(Failure::Runtime(format!("the history of {workflow_id} cannot be replayed: {problem}")));
    }
    tokio::spawn(async move {
        // How it went is told by the activation that takes the run out of the cache.
        let _ = result.await;
        drop(place);
    });
    Ok(())
}

#[pyfunction]
fn new_replay_worker(
    py: Python<'_>,
    runtime_ref: &RuntimeRef,
    config: WorkerConfig,
) -> PyResult<(WorkerRef, HistoryPusher)> {
    let shared = &runtime_ref.shared;
    shared.assert_same_process("create replay worker")?;
    let home = Home::default();
    let config = config.into_core(py, shared, Sdk { name: String::new(), version: String::new() }, &home)?;
    let replayer = py
        .detach(|| {
            let _here = shared.core.handle().enter();
            // One after the other: the package tells by their end which is which.
            Replayer::like_worker(&config, Some(1))
        })
        .map_err(failure)?;
    let room = Arc::new(Semaphore::new(TAKEN_MAX));
    let pusher = HistoryPusher { shared: shared.clone(), replayer: replayer.clone(), room };
    Ok((WorkerRef::new(shared.clone(), Source::Replay(replayer), home), pusher))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HistoryPusher>()?;
    module.add_function(wrap_pyfunction!(new_replay_worker, module)?)
}
