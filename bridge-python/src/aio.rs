//! Native work as asyncio futures. Each event loop has a [`Mailbox`]: native threads put outcomes into it and wake the
//! loop once for however many have come; the loop then resolves its futures. No native thread needs the interpreter.
//!
//! A loop owns its mailbox through the reader it registers, so when the loop is closed or collected, whatever it still
//! waited for is aborted. A cancelled future aborts its own work.

mod mailbox;
mod signal;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::error::Failure;
use crate::runtime::Shared;
use mailbox::{Mailbox, Reply};

type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What a future is resolved with.
pub enum Outcome {
    /// Python sees `()`.
    Done,
    /// Python sees `bytes`.
    Bytes(Bytes),
    /// Whatever this makes, on the loop's thread.
    Object(Make),
    Failed(Failure),
}

impl Outcome {
    /// Python sees an object of this class.
    pub fn object<T>(value: T) -> Self
    where
        T: pyo3::PyClass + Into<pyo3::PyClassInitializer<T>> + Send + 'static,
    {
        Self::Object(Box::new(move |py| Ok(Py::new(py, value)?.into_any())))
    }

    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Done => Ok(PyTuple::empty(py).into_any().unbind()),
            Self::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any().unbind()),
            Self::Object(make) => make(py),
            Self::Failed(failure) => Err(failure.into()),
        }
    }
}

impl<T: Into<Outcome>> From<Result<T, Failure>> for Outcome {
    fn from(result: Result<T, Failure>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(failure) => Self::Failed(failure),
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl From<Bytes> for Outcome {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Starts `work` on the runtime's threads now, and gives the future of the running loop that it will resolve.
pub fn start<'py, O: Into<Outcome>>(
    py: Python<'py>,
    runtime: &Shared,
    work: impl Future<Output = O> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let mailbox = mailbox::of_running_loop(py)?;
    let (ticket, future) = mailbox.open(py)?;
    let reply = Reply::new(mailbox.clone(), ticket);
    let task = runtime.core.handle().spawn(async move {
        let outcome = work.await.into();
        reply.send(outcome);
    });
    mailbox.attach_task(py, ticket, task.abort_handle())?;
    Ok(future)
}

/// An event loop, for native threads that have something to be run on it.
pub struct Loop(Arc<Mailbox>);

impl Loop {
    /// The one that runs on this thread.
    pub fn running(py: Python<'_>) -> PyResult<Self> {
        mailbox::of_running_loop(py).map(Self)
    }

    /// Has `f` run on the loop, if it is still there. From any thread.
    pub fn run_soon(&self, f: impl FnOnce(Python<'_>) + Send + 'static) {
        self.0.run_soon(f);
    }
}

/// A future that is resolved already.
pub fn ready<'py>(py: Python<'py>, outcome: impl Into<Outcome>) -> PyResult<Bound<'py, PyAny>> {
    mailbox::of_running_loop(py)?.ready(py, outcome.into())
}
