//! `init_runtime`, `RuntimeRef`, and `raise_in_thread`.

mod config;
mod exporters;
mod logs;

use std::time::Duration;

use outlast_core::Runtime;
use pyo3::prelude::*;

use super::metric::{Buffered, BufferedMetricUpdate};
use crate::error::{Failure, runtime_error, value_error};
use crate::runtime::Shared;
use config::RuntimeOptions;

#[pyclass(frozen, module = "builtins")]
pub struct RuntimeRef {
    pub shared: Shared,
    /// Where metrics are, if they are kept for Python.
    buffered: Option<Buffered>,
    /// Whether Python has a meter.
    pub measured: Option<exporters::Measured>,
    logged: bool,
}

/// What both settings of the package allow for the interval of heartbeats.
const HEARTBEAT_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);

#[pyfunction]
fn init_runtime(py: Python<'_>, options: RuntimeOptions) -> PyResult<RuntimeRef> {
    py.detach(|| start(options))
}

/// Without the interpreter: it listens, and starts threads.
fn start(options: RuntimeOptions) -> PyResult<RuntimeRef> {
    let RuntimeOptions { telemetry, worker_heartbeat_interval_millis, disable_environment_info } = options;
    let logged = telemetry.logging.is_some();
    let (logs, forwarder) = logs::start(telemetry.logging)?;
    let heartbeat_interval = worker_heartbeat_interval_millis.map(Duration::from_millis);
    if let Some(interval) = heartbeat_interval.filter(|it| !HEARTBEAT_INTERVALS.contains(it)) {
        let text = format!("heartbeat_interval ({interval:?}) must be between 1s and 60s");
        return Err(value_error(format!("Invalid runtime options: {text}")));
    }
    let options = outlast_core::RuntimeOptions { logs, ..Default::default() };
    let core = Runtime::new(options)
        .map_err(|error| runtime_error(format!("Failed initializing runtime: {error}")))?;
    let measured = telemetry.metrics.map(|config| exporters::start(config, &core)).transpose()?;
    let mut attachments = Vec::from_iter(forwarder);
    let (mut core, mut buffered) = (core, None);
    if let Some(measured) = &measured {
        core = core.with_metrics(measured.metrics.clone());
        attachments.extend(measured.attachment.clone());
        buffered = measured.buffer.clone().map(Buffered::new);
    }
    let mut shared = Shared::new(core, attachments);
    shared.heartbeat_interval = heartbeat_interval;
    shared.environment_told = !disable_environment_info;
    Ok(RuntimeRef { shared, buffered, measured, logged })
}

#[pymethods]
impl RuntimeRef {
    fn retrieve_buffered_metrics(
        &self,
        py: Python<'_>,
        durations_as_seconds: bool,
    ) -> PyResult<Vec<BufferedMetricUpdate>> {
        let Some(buffered) = &self.buffered else {
            let text = "Attempting to retrieve buffered metrics without buffer";
            return Err(Failure::Panic(text.into()).into());
        };
        self.shared.with_logs(|| buffered.retrieve(py, durations_as_seconds))
    }

    fn write_test_info_log(&self, py: Python<'_>, message: &str, extra_data: &str) -> PyResult<()> {
        self.log(py, || tracing::info!(target: logs::TEST_TARGET, extra_data, "{message}"))
    }

    fn write_test_debug_log(&self, py: Python<'_>, message: &str, extra_data: &str) -> PyResult<()> {
        self.log(py, || tracing::debug!(target: logs::TEST_TARGET, extra_data, "{message}"))
    }
}

impl RuntimeRef {
    fn log(&self, py: Python<'_>, write: impl FnOnce() + Send) -> PyResult<()> {
        if !self.logged {
            return Err(Failure::Panic("called `Option::unwrap()` on a `None` value".into()).into());
        }
        py.detach(|| self.shared.with_logs(write));
        Ok(())
    }
}

/// By way of ctypes, which is Python's own: this workspace has no unsafe code.
#[pyfunction]
fn raise_in_thread(py: Python<'_>, thread_id: i64, exc: &Bound<'_, PyAny>) -> PyResult<bool> {
    let ctypes = py.import("ctypes")?;
    let thread_id = ctypes.call_method1("c_ulong", (thread_id,))?;
    let exc = ctypes.call_method1("py_object", (exc,))?;
    let raised = ctypes.getattr("pythonapi")?.call_method1("PyThreadState_SetAsyncExc", (thread_id, exc))?;
    Ok(raised.extract::<i64>()? == 1)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RuntimeRef>()?;
    module.add_class::<logs::BufferedLogEntry>()?;
    module.add_function(wrap_pyfunction!(init_runtime, module)?)?;
    module.add_function(wrap_pyfunction!(raise_in_thread, module)?)
}
