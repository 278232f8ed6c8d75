//! The threads and the telemetry that clients, workers and replayers of one program share.

use std::future::Future;
use std::sync::Arc;

use outlast_client::{CallEnd, CallInfo, CallObserver, Client, Code};
use outlast_worker::telemetry::logs::Logs;
use outlast_worker::telemetry::{Call, CallMetrics, Metrics};
use outlast_worker::{ConfigError, Worker, WorkerConfig};

/// What a runtime is made of.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Threads that run tasks. `None`: one for each CPU.
    pub threads: Option<usize>,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Where the log records of these threads go.
    pub logs: Logs,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { threads: None, metrics: Metrics::none(), logs: Logs::inherited() }
    }
}

/// The threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the runtime's threads could not be started: {0}")]
pub struct RuntimeError(#[from] std::io::Error);

/// Threads and telemetry. Dropping the last clone ends the threads without waiting for what runs on them.
///
/// ```
/// use outlast_core::{Runtime, RuntimeOptions};
///
/// let runtime = Runtime::new(RuntimeOptions::default())?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # Ok::<(), outlast_core::RuntimeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runtime {
    threads: Arc<Threads>,
    metrics: Metrics,
    logs: Logs,
}

#[derive(Debug)]
struct Threads(Option<tokio::runtime::Runtime>, tokio::runtime::Handle);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The last clone may go on one of its own threads, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Runtime {
    /// Starts the threads.
    pub fn new(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = options.threads {
            builder.worker_threads(threads.max(1));
        }
        let logs = options.logs.clone();
        builder.on_thread_start(move || logs.adopt_thread());
        let runtime = builder.enable_all().thread_name("outlast").build()?;
        let handle = runtime.handle().clone();
        let threads = Arc::new(Threads(Some(runtime), handle));
        Ok(Self { threads, metrics: options.metrics, logs: options.logs })
    }

    /// The same threads with another destination of metrics: for one that needs threads itself, as exporters do.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where tasks run.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.threads.1
    }

    /// Waits for a future on the caller's own thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.logs.within(|| self.handle().block_on(future))
    }

    /// Runs `f` on the caller's own thread; what it logs goes where the records of this runtime go, and what it spawns
    /// runs on this runtime's threads.
    ///
    /// ```
    /// # use outlast_core::{Runtime, RuntimeOptions, telemetry::logs::{LogBuffer, LogTo, Logs}};
    /// let buffer = LogBuffer::default();
    /// let logs = Logs::new(LogTo::Buffer(buffer.clone()), "info".parse()?);
    /// let runtime = Runtime::new(RuntimeOptions { logs, ..Default::default() })?;
    /// runtime.within(|| tracing::info!("from outside"));
    /// assert_eq!(buffer.drain().records[0].message, "from outside");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        let _here = self.handle().enter();
        self.logs.within(f)
    }

    /// Where metrics go.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts and times every call of a client whose options name this observer.
    pub fn observer(&self) -> Arc<dyn CallObserver> {
        Arc::new(Observer(CallMetrics::new(&self.metrics)))
    }

    /// A worker on these threads, measured.
    pub fn worker(&self, client: Client, config: WorkerConfig) -> Result<Worker, ConfigError> {
        self.within(|| Worker::with_metrics(client, config, &self.metrics))
    }
}

struct Observer(CallMetrics);

impl CallObserver for Observer {
    fn started(&self, info: &CallInfo<'_>) {
        self.0.started(&call(info));
    }

    fn finished(&self, info: &CallInfo<'_>, end: &CallEnd) {
        self.0.finished(&call(info), failure(end.code), end.elapsed);
    }
}

fn call<'a>(info: &CallInfo<'a>) -> Call<'a> {
    Call {
        operation: info.method,
        namespace: info.namespace.unwrap_or_default(),
        task_queue: info.task_queue.unwrap_or_default(),
        long_poll: info.long_poll,
    }
}

/// The code as dashboards know it.
fn failure(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Ok => return None,
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_made_from_outside_of_the_runtime() {
        let runtime = Runtime::new(RuntimeOptions { threads: Some(1), ..Default::default() }).unwrap();
        let options = outlast_client::ClientOptions::new("localhost:1".parse().unwrap());
        let client = runtime.block_on(async { Client::lazy(options) }).unwrap();
        let worker = runtime.worker(client, WorkerConfig::new("default", "q")).unwrap();
        assert!(worker.alive() && !worker.ready());
    }
}
