//! `init_runtime` and `RuntimeRef`.

use outlast_core::{Runtime, RuntimeOptions};
use pyo3::prelude::*;

use crate::error::runtime_error;
use crate::runtime::Shared;

#[pyclass(frozen, module = "builtins")]
pub struct RuntimeRef {
    pub shared: Shared,
}

#[pyfunction]
fn init_runtime(_options: &Bound<'_, PyAny>) -> PyResult<RuntimeRef> {
    let runtime = Runtime::new(RuntimeOptions::default())
        .map_err(|error| runtime_error(format!("Failed initializing runtime: {error}")))?;
    Ok(RuntimeRef { shared: Shared::new(runtime) })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RuntimeRef>()?;
    module.add_function(wrap_pyfunction!(init_runtime, module)?)
}
