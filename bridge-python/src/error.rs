//! Failures as values that any thread can hold, and the one function that makes Python exceptions of them.

use outlast_core::Error;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

create_exception!(
    temporal_sdk_bridge,
    RPCError,
    PyException,
    "A call that the server refused: code, message, details."
);
create_exception!(
    temporal_sdk_bridge,
    PollShutdownError,
    PyException,
    "The worker is shut down; there are no more tasks."
);

/// What went wrong.
#[derive(Debug)]
pub enum Failure {
    /// The caller's argument is wrong.
    Value(String),
    /// It could not be done.
    Runtime(String),
    /// The server refused.
    Rpc(Box<Error>),
    /// No more tasks.
    PollShutdown,
    /// Native code panicked, a mistake of ours.
    Panic(String),
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Value(text) => PyValueError::new_err(text),
            Failure::Runtime(text) => PyRuntimeError::new_err(text),
            Failure::Rpc(error) => {
                let Error { code, message, details, .. } = *error;
                Python::attach(|py| {
                    let details = PyBytes::new(py, &details).unbind();
                    RPCError::new_err((i32::from(code), message, details))
                })
            }
            Failure::PollShutdown => PollShutdownError::new_err(()),
            Failure::Panic(text) => PanicException::new_err(text),
        }
    }
}

/// `ValueError`, right here.
pub fn value_error(text: impl Into<String>) -> PyErr {
    Failure::Value(text.into()).into()
}

/// `RuntimeError`, right here.
pub fn runtime_error(text: impl Into<String>) -> PyErr {
    Failure::Runtime(text.into()).into()
}

/// A refusal of the server as text, in the form that users of the reference look for.
/// `source`: what lies beneath, `None` or `Some(...)`.
pub fn status(error: &Error, source: &str) -> String {
    let (code, message) = (error.code, &error.message);
    format!(
        "Status {{ code: {code:?}, message: {message:?}, metadata: MetadataMap {{ headers: {{}} }}, source: {source} }}"
    )
}
