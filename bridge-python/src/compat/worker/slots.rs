//! Slot suppliers that the user writes in Python. A reservation runs on the loop that `validate` was called on; all else
//! is called from native threads, with the interpreter attached.

mod context;
mod reserve;

use std::sync::{Arc, OnceLock};

use outlast_core::slots::{Boxed, SlotSupplier, SlotUse, Ticket, Wanted};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::aio::Loop;
use crate::gate;
pub use context::register;
use context::{SlotMarkUsedCtx, SlotReleaseCtx, SlotReserveCtx};

/// Wraps the user's supplier.
#[pyclass(frozen, module = "builtins")]
pub struct CustomSlotSupplier {
    inner: Py<PyAny>,
}

#[pymethods]
impl CustomSlotSupplier {
    #[new]
    fn new(inner: Py<PyAny>) -> Self {
        Self { inner }
    }
}

/// The loop and the context variables that reservations run in, known once the worker was validated.
#[derive(Clone, Default)]
pub struct Home(Arc<OnceLock<(Loop, Py<PyAny>)>>);

impl Home {
    /// The running loop and a copy of the current context; false if that was known already.
    pub fn capture(&self, py: Python<'_>) -> PyResult<bool> {
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        Ok(self.0.set((Loop::running(py)?, context.unbind())).is_ok())
    }
}

/// The user's supplier as the core knows one.
pub struct PythonSlots {
    inner: Arc<Py<PyAny>>,
    home: Home,
}

impl PythonSlots {
    pub fn new(py: Python<'_>, custom: &CustomSlotSupplier, home: &Home) -> Self {
        Self { inner: Arc::new(custom.inner.clone_ref(py)), home: home.clone() }
    }
}

/// What the user's supplier gave out: any object.
struct Permit(Py<PyAny>);

impl SlotSupplier for PythonSlots {
    fn name(&self) -> &str {
        "Custom"
    }

    fn reserve<'a>(&'a self, wanted: &'a Wanted) -> Boxed<'a, Ticket> {
        Box::pin(reserve::until_reserved(&self.inner, &self.home, wanted))
    }

    fn try_reserve(&self, wanted: &Wanted) -> Option<Ticket> {
        gate::attach(|py| {
            let asked = SlotReserveCtx::new(wanted);
            let permit = self.inner.bind(py).call_method1("try_reserve_slot", (asked,));
            let permit = told(py, "try_reserve_slot", permit)?;
            if permit.is_none() { None } else { Some(Ticket::with(Permit(permit.unbind()))) }
        })
        .flatten()
    }

    fn mark_used(&self, ticket: &Ticket, used: &SlotUse) {
        let Some(Permit(permit)) = ticket.value() else { return };
        gate::attach(|py| {
            let marked = SlotMarkUsedCtx::new(py, used, permit.clone_ref(py))
                .and_then(|marked| self.inner.bind(py).call_method1("mark_slot_used", (marked,)));
            told(py, "mark_slot_used", marked);
        });
    }

    fn release(&self, ticket: Ticket, _wanted: &Wanted, used: Option<&SlotUse>) {
        let Some(Permit(permit)) = ticket.value() else { return };
        release(&self.inner, permit, used);
    }
}

fn release(inner: &Py<PyAny>, permit: &Py<PyAny>, used: Option<&SlotUse>) {
    gate::attach(|py| {
        let released = SlotReleaseCtx::new(py, used, permit.clone_ref(py))
            .and_then(|released| inner.bind(py).call_method1("release_slot", (released,)));
        told(py, "release_slot", released);
    });
}

/// Exceptions of the user's methods are logged; the worker goes on.
fn told<'py>(
    py: Python<'py>,
    method: &str,
    result: PyResult<Bound<'py, PyAny>>,
) -> Option<Bound<'py, PyAny>> {
    result
        .inspect_err(
            |error| tracing::error!(error = %error.value(py), "the custom slot supplier's {method} failed"),
        )
        .ok()
}

/// `{deployment_name, build_id}`, or `None` without any version.
fn deployment<'py>(py: Python<'py>, name: &str, build_id: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
    if name.is_empty() && build_id.is_empty() {
        return Ok(None);
    }
    let version = PyDict::new(py);
    version.set_item("deployment_name", name)?;
    version.set_item("build_id", build_id)?;
    Ok(Some(version))
}
