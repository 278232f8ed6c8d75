//! Slot suppliers that the user writes in Python.

use pyo3::prelude::*;

/// Wraps the user's supplier.
#[pyclass(frozen, module = "builtins")]
pub struct CustomSlotSupplier {
    _inner: Py<PyAny>,
}

#[pymethods]
impl CustomSlotSupplier {
    #[new]
    fn new(inner: Py<PyAny>) -> Self {
        Self { _inner: inner }
    }
}
