//! The surface of `temporalio.bridge.temporal_sdk_bridge`, so that the official package runs on this core. What each
//! name means is written in `docs/python-dropin.md`; texts and types are those that the package and its users know.

mod client;
mod envconfig;
mod ephemeral;
mod metric;
pub mod runtime;
mod url;
mod worker;

use pyo3::prelude::*;

use crate::error::{PollShutdownError, RPCError};

/// Adds the module `temporal_sdk_bridge` to `parent`.
pub fn register(parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = parent.py();
    let module = PyModule::new(py, "temporal_sdk_bridge")?;
    module.add("FIPS", false)?;
    module.add("RPCError", py.get_type::<RPCError>())?;
    module.add("PollShutdownError", py.get_type::<PollShutdownError>())?;
    runtime::register(&module)?;
    metric::register(&module)?;
    client::register(&module)?;
    envconfig::register(&module)?;
    ephemeral::register(&module)?;
    worker::register(&module)?;
    parent.add_submodule(&module)
}
