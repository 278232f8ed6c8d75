//! What the user's slot supplier is told: plain objects with attributes.

use outlast_core::slots::{SlotKind, SlotUse, Wanted};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::deployment;

/// Who wants a slot, and for what.
#[pyclass(frozen, module = "builtins")]
pub struct SlotReserveCtx(Wanted);

impl SlotReserveCtx {
    pub fn new(wanted: &Wanted) -> Self {
        Self(wanted.clone())
    }
}

#[pymethods]
impl SlotReserveCtx {
    #[getter]
    fn slot_type(&self) -> &'static str {
        match self.0.kind {
            SlotKind::Workflow => "workflow",
            SlotKind::Activity => "activity",
            SlotKind::LocalActivity => "local-activity",
            SlotKind::Nexus => "nexus",
        }
    }

    #[getter]
    fn task_queue(&self) -> &str {
        &self.0.task_queue
    }

    #[getter]
    fn worker_identity(&self) -> &str {
        &self.0.worker_identity
    }

    #[getter]
    fn worker_build_id(&self) -> &str {
        &self.0.worker_build_id
    }

    #[getter]
    fn worker_deployment_version<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        deployment(py, &self.0.worker_deployment, &self.0.worker_build_id)
    }

    #[getter]
    fn is_sticky(&self) -> bool {
        self.0.is_sticky
    }
}

/// A slot is used.
#[pyclass(frozen, get_all, module = "builtins")]
pub struct SlotMarkUsedCtx {
    slot_info: Py<PyAny>,
    permit: Py<PyAny>,
}

impl SlotMarkUsedCtx {
    pub fn new(py: Python<'_>, used: &SlotUse, permit: Py<PyAny>) -> PyResult<Self> {
        Ok(Self { slot_info: info(py, used)?, permit })
    }
}

/// A slot is free again.
#[pyclass(frozen, get_all, module = "builtins")]
pub struct SlotReleaseCtx {
    slot_info: Option<Py<PyAny>>,
    permit: Py<PyAny>,
}

impl SlotReleaseCtx {
    pub fn new(py: Python<'_>, used: Option<&SlotUse>, permit: Py<PyAny>) -> PyResult<Self> {
        Ok(Self { slot_info: used.map(|used| info(py, used)).transpose()?, permit })
    }
}

#[pyclass(frozen, get_all, module = "builtins")]
pub struct WorkflowSlotInfo {
    workflow_type: String,
    is_sticky: bool,
}

#[pyclass(frozen, get_all, module = "builtins")]
pub struct ActivitySlotInfo {
    activity_type: String,
}

#[pyclass(frozen, get_all, module = "builtins")]
pub struct LocalActivitySlotInfo {
    activity_type: String,
}

#[pyclass(frozen, get_all, module = "builtins")]
pub struct NexusSlotInfo {
    service: String,
    operation: String,
}

fn info(py: Python<'_>, used: &SlotUse) -> PyResult<Py<PyAny>> {
    Ok(match used.clone() {
        SlotUse::Workflow { workflow_type, is_sticky } => {
            Py::new(py, WorkflowSlotInfo { workflow_type, is_sticky })?.into_any()
        }
        SlotUse::Activity { activity_type } => Py::new(py, ActivitySlotInfo { activity_type })?.into_any(),
        SlotUse::LocalActivity { activity_type } => {
            Py::new(py, LocalActivitySlotInfo { activity_type })?.into_any()
        }
        SlotUse::Nexus { service, operation } => {
            Py::new(py, NexusSlotInfo { service, operation })?.into_any()
        }
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<super::CustomSlotSupplier>()?;
    module.add_class::<SlotReserveCtx>()?;
    module.add_class::<SlotMarkUsedCtx>()?;
    module.add_class::<SlotReleaseCtx>()?;
    module.add_class::<WorkflowSlotInfo>()?;
    module.add_class::<ActivitySlotInfo>()?;
    module.add_class::<LocalActivitySlotInfo>()
}
