//! The native module `outlast._native`: translates between Python and `outlast-core`, and decides nothing.
//!
//! - `aio` turns native work into asyncio futures; `gate` lets native threads call Python, until the interpreter ends.
//! - `error` is the one place where a failure becomes a Python exception.
//! - `runtime` and `live` are shared by everything that Python can hold on to.
//! - `compat` is the surface that the official `temporalio` package expects of its native module.

mod aio;
mod buffers;
mod compat;
mod error;
mod gate;
mod live;
mod runtime;

use std::collections::BTreeMap;

use pyo3::prelude::*;

/// How many native objects are alive, by kind. All zero once everything is dropped and collected.
#[pyfunction]
fn handles() -> BTreeMap<&'static str, usize> {
    live::counts()
}

#[pymodule(name = "_native", gil_used = false)]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(handles, module)?)?;
    compat::register(module)?;
    gate::close_at_exit(module.py())
}
