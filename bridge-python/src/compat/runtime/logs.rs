//! Log records of one runtime: to the console, or in batches to a Python callable, from a thread of its own.

use std::borrow::Cow;
use std::env;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use outlast_core::telemetry::logs::{
    Console, LogBatch, LogBuffer, LogField, LogFilter, LogFormat, LogRecord, LogTo, Logs,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::config::LoggingConfig;
use crate::error::{runtime_error, value_error};
use crate::gate;
use crate::runtime::Attachment;

/// The target of the records that tests of the package ask for.
pub const TEST_TARGET: &str = "temporal_sdk_bridge::runtime";
/// How many records Python is given at once.
const BATCH_MAX: usize = 2048;
/// How long records wait for others.
const LINGER: Duration = Duration::from_millis(10);
/// How many records wait for Python before the oldest are dropped.
const WAITING_MAX: usize = 8 * BATCH_MAX;

/// Where records go, and what keeps them going there.
pub fn start(config: Option<LoggingConfig>) -> PyResult<(Logs, Option<Attachment>)> {
    let Some(LoggingConfig { filter, forward_to, format }) = config else {
        return Ok((Logs::inherited(), None));
    };
    let console = match forward_to {
        Some(_) => None,
        None => Some(console(format.as_deref())?),
    };
    let (filter, problems) = LogFilter::lenient(&filter);
    for problem in problems {
        eprintln!("{problem}");
    }
    let filter = filter.with_alias(alias);
    match (console, forward_to) {
        (Some(console), _) => Ok((Logs::new(LogTo::Console(console), filter), None)),
        (None, None) => Ok((Logs::inherited(), None)),
        (None, Some(callable)) => {
            let buffer = LogBuffer::new(WAITING_MAX);
            let forwarder = Forwarder::start(buffer.clone(), callable)?;
            Ok((Logs::new(LogTo::Buffer(buffer), filter), Some(Arc::new(forwarder))))
        }
    }
}

fn console(format: Option<&str>) -> PyResult<Console> {
    let format = match format {
        Some("compact") => LogFormat::Compact,
        Some("pretty") => LogFormat::Pretty,
        Some("json") => LogFormat::Json,
        Some(_) => return Err(value_error("Unrecognized logging format")),
        None if env::var_os("TEMPORAL_CORE_PRETTY_LOGS").is_some() => LogFormat::Pretty,
        None => LogFormat::Compact,
    };
    let colors = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(Console { format, stdout: true, colors })
}

/// Users and their filters know the parts of a core by the names of the package's own.
fn alias(target: &str) -> Cow<'_, str> {
    let of_crate = |name: &str| {
        let rest = target.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with("::")).then_some(rest)
    };
    if matches!(target, "outlast_worker::sizes" | "outlast_client::sizes") {
        return "temporalio_common::payload_limits".into();
    }
    if let Some(rest) = of_crate("outlast_worker") {
        if rest == "::workflow::slow" {
            return "temporalio_sdk_core::worker::workflow::managed_run".into();
        }
        if rest.starts_with("::workflow") {
            return "temporalio_sdk_core::worker::workflow".into();
        }
        for (own, known) in [("::activity", "activities"), ("::nexus", "nexus")] {
            if rest.starts_with(own) {
                return format!("temporalio_sdk_core::worker::{known}").into();
            }
        }
        return format!("temporalio_sdk_core{rest}").into();
    }
    for name in ["outlast_machine", "outlast_core"] {
        if let Some(rest) = of_crate(name) {
            return format!("temporalio_sdk_core{rest}").into();
        }
    }
    if let Some(rest) = of_crate("outlast_client") {
        return format!("temporalio_client{rest}").into();
    }
    match of_crate("_native") {
        Some(rest) => format!("temporal_sdk_bridge{}", rest.strip_prefix("::compat").unwrap_or(rest)).into(),
        None => target.into(),
    }
}

/// A thread that gives batches to Python until the buffer is closed, which dropping this does.
///
/// It is not one of the runtime's: it may wait long for the interpreter, and it must outlive them by a batch.
struct Forwarder(LogBuffer);

impl Forwarder {
    fn start(buffer: LogBuffer, callable: Py<PyAny>) -> PyResult<Self> {
        let forwarder = Self(buffer.clone());
        let thread = thread::Builder::new().name("outlast-logs".into());
        let started = thread.spawn(move || forward(&buffer, callable));
        started.map_err(|error| runtime_error(format!("Failed initializing runtime: {error}")))?;
        Ok(forwarder)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn forward(buffer: &LogBuffer, callable: Py<PyAny>) {
    while let Some(batch) = buffer.next(BATCH_MAX, LINGER) {
        if gate::attach(|py| give(py, batch, &callable)).is_none() {
            // The interpreter is about to end.
            break;
        }
    }
    gate::attach(|_| drop(callable));
}

fn give(py: Python<'_>, batch: LogBatch, callable: &Py<PyAny>) {
    let entries = batch.records.into_iter().map(|record| Bound::new(py, BufferedLogEntry(record)));
    let given = entries
        .collect::<PyResult<Vec<_>>>()
        .and_then(|entries| PyList::new(py, entries))
        .and_then(|entries| callable.call1(py, (entries,)));
    // There is nobody to tell: a logger that fails is not to stop what it logs of.
    drop(given);
}

#[pyclass(frozen, module = "builtins")]
pub struct BufferedLogEntry(LogRecord);

#[pymethods]
impl BufferedLogEntry {
    #[getter]
    fn target(&self) -> &str {
        &self.0.target
    }

    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    #[getter]
    fn time(&self) -> f64 {
        self.0.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// As Python's `logging` counts them.
    #[getter]
    fn level(&self) -> u8 {
        match self.0.level {
            tracing::Level::TRACE => 9,
            tracing::Level::DEBUG => 10,
            tracing::Level::INFO => 20,
            tracing::Level::WARN => 30,
            tracing::Level::ERROR => 40,
        }
    }

    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        for (name, value) in &self.0.fields {
            match value {
                LogField::Bool(truth) => fields.set_item(name, truth),
                LogField::Int(number) => fields.set_item(name, number),
                LogField::Whole(number) => fields.set_item(name, number),
                LogField::Float(number) => fields.set_item(name, number),
                LogField::Text(text) => fields.set_item(name, text),
            }?;
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_the_names_that_filters_use() {
        for (own, known) in [
            ("outlast_worker::workflow::held", "temporalio_sdk_core::worker::workflow"),
            ("outlast_worker::workflow::slow", "temporalio_sdk_core::worker::workflow::managed_run"),
            ("outlast_worker::sizes", "temporalio_common::payload_limits"),
            ("outlast_worker::activity", "temporalio_sdk_core::worker::activities"),
            ("outlast_worker::nexus::table", "temporalio_sdk_core::worker::nexus"),
            ("outlast_worker::health", "temporalio_sdk_core::health"),
            ("outlast_machine", "temporalio_sdk_core"),
            ("outlast_client::retry", "temporalio_client::retry"),
            ("_native::compat::worker", "temporal_sdk_bridge::worker"),
            ("outlast_workers", "outlast_workers"),
            ("hyper::proto", "hyper::proto"),
        ] {
            assert_eq!(alias(own), known);
        }
    }
}
