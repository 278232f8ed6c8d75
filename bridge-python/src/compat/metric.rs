//! To be filled: metric.

use pyo3::prelude::*;

use super::runtime::RuntimeRef;

#[pyfunction]
fn new_metric_meter(_runtime_ref: &RuntimeRef) -> Option<Py<PyAny>> {
    None
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(new_metric_meter, module)?)
}
