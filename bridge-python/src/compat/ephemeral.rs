//! `start_dev_server`, `start_test_server` and `EphemeralServerRef`. Programs that are not on this machine are fetched by
//! Python code of ours, which has HTTPS and archives at hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::ephemeral::{DevServer, STARTUP_TIMEOUT, Server, StartError, TestServer};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use tokio::task::spawn_blocking;

use super::client::connect;
use super::runtime::RuntimeRef;
use crate::error::{Failure, runtime_error};
use crate::live::{Kind, Live};
use crate::{aio, gate};

/// The number of a port; users know in which way another number is none.
struct Port(u16);

impl<'py> FromPyObject<'_, 'py> for Port {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number: i64 = value.extract()?;
        u16::try_from(number).map(Self).map_err(|_| {
            let size = if number < 0 { "small" } else { "large" };
            PyOverflowError::new_err(format!("number too {size} to fit in target type"))
        })
    }
}

#[derive(FromPyObject)]
struct DevServerConfig {
    existing_path: Option<String>,
    sdk_name: String,
    sdk_version: String,
    download_version: String,
    download_dest_dir: Option<String>,
    download_ttl_ms: Option<u64>,
    namespace: String,
    ip: String,
    port: Option<Port>,
    database_filename: Option<String>,
    ui: bool,
    ui_port: Option<Port>,
    log_format: String,
    log_level: String,
    extra_args: Vec<String>,
    #[pyo3(default)]
    startup_timeout_ms: Option<u64>,
}

#[derive(FromPyObject)]
struct TestServerConfig {
    existing_path: Option<String>,
    sdk_name: String,
    sdk_version: String,
    download_version: String,
    download_dest_dir: Option<String>,
    download_ttl_ms: Option<u64>,
    port: Option<Port>,
    extra_args: Vec<String>,
    #[pyo3(default)]
    startup_timeout_ms: Option<u64>,
}

/// Where the program comes from.
enum Program {
    Existing(PathBuf),
    Fetched(Fetch),
}

/// What Python's `_download.fetch` is told.
struct Fetch {
    name: &'static str,
    version: String,
    dest_dir: Option<String>,
    ttl_ms: Option<u64>,
    sdk: (String, String),
}

impl Program {
    fn new(existing: Option<String>, fetch: Fetch) -> Self {
        existing.map_or(Self::Fetched(fetch), |path| Self::Existing(path.into()))
    }

    async fn path(self) -> Result<PathBuf, String> {
        let failed = |why: String| format!("failed to download ephemeral server executable: {why}");
        match self {
            Self::Existing(path) => Ok(path),
            Self::Fetched(fetch) => match spawn_blocking(|| gate::attach(|py| fetch.run(py))).await {
                Ok(Some(Ok(path))) => Ok(path.into()),
                Ok(Some(Err(error))) => Err(failed(error)),
                Ok(None) => Err(failed("the interpreter ends".into())),
                Err(_) => Err(failed("the download was abandoned".into())),
            },
        }
    }
}

impl Fetch {
    fn run(self, py: Python<'_>) -> Result<String, String> {
        let (sdk_name, sdk_version) = self.sdk;
        let arguments = (self.name, self.version, self.dest_dir, self.ttl_ms, sdk_name, sdk_version);
        let fetch = || py.import("outlast.compat._download")?.call_method1("fetch", arguments)?.extract();
        fetch().map_err(|error: PyErr| error.value(py).to_string())
    }
}

fn timeout(millis: Option<u64>) -> Duration {
    millis.map_or(STARTUP_TIMEOUT, Duration::from_millis)
}

impl DevServerConfig {
    fn split(self) -> (Program, DevServer) {
        let server = DevServer {
            program: PathBuf::new(),
            namespace: self.namespace,
            ip: self.ip,
            port: self.port.map(|it| it.0),
            database: self.database_filename,
            ui: self.ui,
            ui_port: self.ui_port.map(|it| it.0),
            log_format: self.log_format,
            log_level: self.log_level,
            extra_args: self.extra_args,
            startup_timeout: timeout(self.startup_timeout_ms),
        };
        let fetch = Fetch {
            name: "temporal",
            version: self.download_version,
            dest_dir: self.download_dest_dir,
            ttl_ms: self.download_ttl_ms,
            sdk: (self.sdk_name, self.sdk_version),
        };
        (Program::new(self.existing_path, fetch), server)
    }
}

impl TestServerConfig {
    fn split(self) -> (Program, TestServer) {
        let server = TestServer {
            program: PathBuf::new(),
            port: self.port.map(|it| it.0),
            extra_args: self.extra_args,
            startup_timeout: timeout(self.startup_timeout_ms),
        };
        let fetch = Fetch {
            name: "temporal-test-server",
            version: self.download_version,
            dest_dir: self.download_dest_dir,
            ttl_ms: self.download_ttl_ms,
            sdk: (self.sdk_name, self.sdk_version),
        };
        (Program::new(self.existing_path, fetch), server)
    }
}

/// A server that runs until it is shut down, or nobody holds this any longer.
#[pyclass(frozen, module = "builtins")]
pub struct EphemeralServerRef {
    runtime: crate::runtime::Shared,
    server: Arc<Server>,
    _live: Live,
}

impl EphemeralServerRef {
    fn kept(&self) -> PyResult<&Server> {
        if self.server.is_kept() { Ok(&self.server) } else { Err(runtime_error("Server shutdown")) }
    }
}

#[pymethods]
impl EphemeralServerRef {
    #[getter]
    fn target(&self) -> PyResult<&str> {
        Ok(self.kept()?.target())
    }

    #[getter]
    fn has_test_service(&self) -> PyResult<bool> {
        Ok(self.kept()?.has_test_service())
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let server = self.server.clone();
        aio::start(py, &self.runtime, async move { server.shutdown().await })
    }
}

#[pyfunction]
fn start_dev_server<'py>(
    py: Python<'py>,
    runtime_ref: &RuntimeRef,
    config: DevServerConfig,
) -> PyResult<Bound<'py, PyAny>> {
    let (program, mut server) = config.split();
    start(py, runtime_ref, "Temporal dev server", async move {
        server.program = program.path().await?;
        server.start().await.map_err(said)
    })
}

#[pyfunction]
fn start_test_server<'py>(
    py: Python<'py>,
    runtime_ref: &RuntimeRef,
    config: TestServerConfig,
) -> PyResult<Bound<'py, PyAny>> {
    let (program, mut server) = config.split();
    start(py, runtime_ref, "test server", async move {
        server.program = program.path().await?;
        server.start().await.map_err(said)
    })
}

/// In the words that users know, where it is about connecting.
fn said(error: StartError) -> String {
    match error {
        StartError::Silent { address, timeout, last } => {
            let last = connect::told(&last, "127.0.0.1", false);
            format!(
                "ephemeral server at {address} did not start within {timeout:?}; last connection error: {last}"
            )
        }
        StartError::Missing(_) | StartError::Failed(_) => error.to_string(),
    }
}

fn start<'py>(
    py: Python<'py>,
    runtime_ref: &RuntimeRef,
    what: &'static str,
    work: impl Future<Output = Result<Server, String>> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let runtime = runtime_ref.shared.clone();
    aio::start(py, &runtime_ref.shared, async move {
        let server = work.await.map_err(|why| Failure::Runtime(format!("Failed starting {what}: {why}")))?;
        let (server, live) = (Arc::new(server), Live::new(Kind::Server));
        Ok(aio::Outcome::object(EphemeralServerRef { runtime, server, _live: live }))
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EphemeralServerRef>()?;
    module.add_function(wrap_pyfunction!(start_dev_server, module)?)?;
    module.add_function(wrap_pyfunction!(start_test_server, module)?)
}
