//! One reservation by the user's supplier: its coroutine runs as a task of the worker's loop, and is cancelled if the
//! core does not want the slot any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outlast_core::slots::{Ticket, Wanted};
use pyo3::prelude::*;
use tokio::sync::oneshot;

use super::context::SlotReserveCtx;
use super::{Home, Permit, release};

/// After an exception the user is asked again, not at full speed.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Asks until there is a permit.
pub async fn until_reserved(inner: &Arc<Py<PyAny>>, home: &Home, wanted: &Wanted) -> Ticket {
    loop {
        if let Some(permit) = once(inner, home, wanted).await {
            return Ticket::with(Permit(permit));
        }
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

async fn once(inner: &Arc<Py<PyAny>>, home: &Home, wanted: &Wanted) -> Option<Py<PyAny>> {
    let Some((event_loop, _)) = home.0.get() else {
        tracing::error!("a custom slot supplier needs a validated worker: call validate() before polling");
        return std::future::pending().await;
    };
    let (tell, told) = oneshot::channel();
    let task = Arc::new(Mutex::new(Task::default()));
    let abandon = Abandon { home: home.clone(), task: task.clone() };
    let begin = Begin { inner: inner.clone(), home: home.clone(), wanted: wanted.clone(), task, tell };
    event_loop.run_soon(move |py| begin.run(py));
    let permit = told.await.ok().flatten();
    abandon.not_needed();
    permit
}

/// The asyncio task of a reservation, and whether it is still wanted.
#[derive(Default)]
struct Task {
    task: Option<Py<PyAny>>,
    abandoned: bool,
}

fn lock(task: &Mutex<Task>) -> std::sync::MutexGuard<'_, Task> {
    task.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cancels the task on its loop if the core's future is dropped before the end.
struct Abandon {
    home: Home,
    task: Arc<Mutex<Task>>,
}

impl Abandon {
    fn not_needed(self) {
        lock(&self.task).task.take();
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        let task = {
            let mut task = lock(&self.task);
            task.abandoned = true;
            task.task.take()
        };
        if let (Some(task), Some((event_loop, _))) = (task, self.home.0.get()) {
            event_loop.run_soon(move |py| {
                if let Err(error) = task.call_method0(py, "cancel") {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}

/// What is needed to begin, on the loop.
struct Begin {
    inner: Arc<Py<PyAny>>,
    home: Home,
    wanted: Wanted,
    task: Arc<Mutex<Task>>,
    tell: oneshot::Sender<Option<Py<PyAny>>>,
}

impl Begin {
    fn run(self, py: Python<'_>) {
        if lock(&self.task).abandoned {
            return;
        }
        if let Err(error) = self.start(py) {
            tracing::error!(error = %error.value(py), "the custom slot supplier's reserve_slot failed");
        }
    }

    fn start(self, py: Python<'_>) -> PyResult<()> {
        let Some((_, context)) = self.home.0.get() else { return Ok(()) };
        let created = Created(self.task.clone());
        let asked = SlotReserveCtx::new(&self.wanted);
        let coroutine = self.inner.bind(py).call_method1("reserve_slot", (asked, created))?;
        let ensure = py.import("asyncio")?.getattr("ensure_future")?;
        let task = context.bind(py).call_method1("run", (ensure, coroutine))?;
        {
            let mut known = lock(&self.task);
            if known.task.is_none() {
                known.task = Some(task.clone().unbind());
            }
        }
        let done = Done { inner: self.inner, tell: Mutex::new(Some(self.tell)) };
        task.call_method1("add_done_callback", (done,))?;
        Ok(())
    }
}

/// Takes the task that the user's coroutine has made for itself: to cancel it is enough.
#[pyclass(frozen, module = "outlast._native")]
struct Created(Arc<Mutex<Task>>);

#[pymethods]
impl Created {
    fn __call__(&self, task: Py<PyAny>) {
        lock(&self.0).task = Some(task);
    }
}

/// Hears of the end of a reservation. A permit that nobody waits for any more is given back.
#[pyclass(frozen, module = "outlast._native")]
struct Done {
    inner: Arc<Py<PyAny>>,
    tell: Mutex<Option<oneshot::Sender<Option<Py<PyAny>>>>>,
}

#[pymethods]
impl Done {
    fn __call__(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(tell) = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        if task.call_method0("cancelled")?.is_truthy()? || !task.call_method0("exception")?.is_none() {
            // Nobody asks again unless somebody still waits.
            let _ = tell.send(None);
            return Ok(());
        }
        let permit = task.call_method0("result")?.unbind();
        if let Err(Some(permit)) = tell.send(Some(permit)) {
            py.detach(|| release(&self.inner, &permit, None));
        }
        Ok(())
    }
}
