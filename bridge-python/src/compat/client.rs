//! `connect_client` and `ClientRef`: one generic call for every method of every service.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use outlast_core::{
    BasicAuth, CallOptions, Client, ClientOptions, Compression, HttpConnectProxy, KeepAlive, Metadata,
    RetryKind, RetryPolicy, TlsIdentity, TlsOptions, WorkerSet,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::runtime::RuntimeRef;
use crate::error::{Failure, value_error};
use crate::live::{Kind, Live};
use crate::runtime::Shared;
use crate::{aio, buffers};

#[derive(FromPyObject)]
struct ClientConfig {
    target_url: String,
    metadata: HashMap<String, RpcMetadataValue>,
    api_key: Option<String>,
    identity: String,
    tls_config: Option<ClientTlsConfig>,
    retry_config: Option<ClientRetryConfig>,
    keep_alive_config: Option<ClientKeepAliveConfig>,
    client_name: String,
    client_version: String,
    http_connect_proxy_config: Option<ClientHttpConnectProxyConfig>,
    dns_load_balancing_config: Option<ClientDnsLoadBalancingConfig>,
    grpc_compression: String,
    payloads_warn_size: u64,
    memo_warn_size: u64,
    #[pyo3(default)]
    connect_timeout_millis: Option<u64>,
}

#[derive(FromPyObject)]
enum RpcMetadataValue {
    #[pyo3(transparent, annotation = "str")]
    Str(String),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(Vec<u8>),
}

#[derive(FromPyObject)]
struct ClientTlsConfig {
    server_root_ca_cert: Option<Vec<u8>>,
    domain: Option<String>,
    client_cert: Option<Vec<u8>>,
    client_private_key: Option<Vec<u8>>,
    verification_server_name: Option<String>,
}

#[derive(FromPyObject)]
struct ClientRetryConfig {
    initial_interval_millis: u64,
    randomization_factor: f64,
    multiplier: f64,
    max_interval_millis: u64,
    max_elapsed_time_millis: Option<u64>,
    max_retries: usize,
}

#[derive(FromPyObject)]
struct ClientKeepAliveConfig {
    interval_millis: u64,
    timeout_millis: u64,
}

#[derive(FromPyObject)]
struct ClientHttpConnectProxyConfig {
    target_host: String,
    basic_auth: Option<(String, String)>,
}

#[derive(FromPyObject)]
struct ClientDnsLoadBalancingConfig {
    resolution_interval_millis: u64,
}

#[derive(FromPyObject)]
struct RpcCall<'py> {
    rpc: String,
    req: Bound<'py, PyBytes>,
    retry: bool,
    metadata: HashMap<String, RpcMetadataValue>,
    timeout_millis: Option<u64>,
}

/// A client, and the workers that share its connection.
#[pyclass(frozen, module = "builtins")]
pub struct ClientRef {
    pub shared: Shared,
    pub client: Client,
    pub workers: WorkerSet,
    headers: Mutex<Headers>,
    _live: Live,
}

/// What the user wants sent with every call; each half is replaced as a whole.
#[derive(Clone, Default)]
struct Headers {
    ascii: HashMap<String, String>,
    binary: HashMap<String, Vec<u8>>,
}

impl Headers {
    fn split(metadata: HashMap<String, RpcMetadataValue>) -> Self {
        let mut headers = Self::default();
        for (key, value) in metadata {
            match value {
                RpcMetadataValue::Str(text) => drop(headers.ascii.insert(key, text)),
                RpcMetadataValue::Bytes(bytes) => drop(headers.binary.insert(key, bytes)),
            }
        }
        headers
    }

    fn metadata(&self) -> Result<Metadata, String> {
        let mut metadata = Metadata::default();
        let bad =
            |kind, key: &str| format!("Invalid {kind} header key '{key}': invalid gRPC metadata key name");
        for (key, value) in &self.ascii {
            metadata.set(&key.to_ascii_lowercase(), value).map_err(|_| bad("ASCII", key))?;
        }
        for (key, value) in &self.binary {
            metadata.set_binary(&key.to_ascii_lowercase(), value).map_err(|_| bad("binary", key))?;
        }
        Ok(metadata)
    }
}

/// The metadata of one call.
fn call_metadata(values: HashMap<String, RpcMetadataValue>) -> Result<Metadata, String> {
    let mut metadata = Metadata::default();
    for (key, value) in values {
        let lower = key.to_ascii_lowercase();
        let set = match (value, lower.ends_with("-bin")) {
            (RpcMetadataValue::Str(text), false) => metadata.set(&lower, &text),
            (RpcMetadataValue::Bytes(bytes), true) => metadata.set_binary(&lower, &bytes),
            (RpcMetadataValue::Str(_), true) => {
                return Err(format!("Invalid metadata value for binary key {key}: expected bytes"));
            }
            (RpcMetadataValue::Bytes(_), false) => {
                return Err(format!("Invalid metadata value for ASCII key {key}: expected str"));
            }
        };
        set.map_err(|error| format!("Invalid metadata key: {}", error.message))?;
    }
    Ok(metadata)
}

impl ClientConfig {
    fn options(self, runtime: &RuntimeRef) -> Result<(ClientOptions, Headers), Failure> {
        let target = self.target_url.parse();
        let mut options = ClientOptions::new(
            target.map_err(|e: outlast_core::Error| Failure::Value(format!("invalid target URL: {e}")))?,
        );
        options.compression = match self.grpc_compression.as_str() {
            "gzip" => Compression::Auto,
            "none" => Compression::None,
            other => return Err(Failure::Value(format!("invalid grpc_compression: {other}"))),
        };
        options.identity = self.identity;
        options.client_name = self.client_name;
        options.client_version = self.client_version;
        options.api_key = self.api_key;
        options.tls = self.tls_config.map(ClientTlsConfig::options).transpose()?;
        // The scheme alone decides, also where an API key is sent.
        options.tls_disabled = options.tls.is_none() && options.target.tls() != Some(true);
        options.retry = self.retry_config.map_or_else(RetryPolicy::default, ClientRetryConfig::policy);
        options.keep_alive = self.keep_alive_config.map(|it| KeepAlive {
            interval: Duration::from_millis(it.interval_millis),
            timeout: Duration::from_millis(it.timeout_millis),
        });
        options.proxy =
            self.http_connect_proxy_config.map(ClientHttpConnectProxyConfig::proxy).transpose()?;
        options.resolve_interval =
            self.dns_load_balancing_config.map(|it| Duration::from_millis(it.resolution_interval_millis));
        if let Some(millis) = self.connect_timeout_millis {
            options.connect_timeout = Duration::from_millis(millis);
        }
        options.observer = Some(runtime.shared.core.observer());
        // Warnings about large payloads are not given by the client yet.
        let _ = (self.payloads_warn_size, self.memo_warn_size);
        Ok((options, Headers::split(self.metadata)))
    }
}

impl ClientTlsConfig {
    fn options(self) -> Result<TlsOptions, Failure> {
        let identity = match (self.client_cert, self.client_private_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(TlsIdentity { certificate, key }),
            (None, Some(_)) | (Some(_), None) => {
                return Err(Failure::Value("Must have both client cert and private key or neither".into()));
            }
        };
        if self.verification_server_name.is_some() && self.server_root_ca_cert.is_none() {
            let text = "Must have server root CA cert when verification server name is set";
            return Err(Failure::Value(text.into()));
        }
        Ok(TlsOptions {
            ca: self.server_root_ca_cert,
            identity,
            server_name: self.verification_server_name.or(self.domain),
            verification_disabled: false,
        })
    }
}

impl ClientRetryConfig {
    fn policy(self) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        policy.call.initial = Duration::from_millis(self.initial_interval_millis);
        policy.call.factor = self.multiplier;
        policy.call.max = Duration::from_millis(self.max_interval_millis);
        policy.elapsed_max = self.max_elapsed_time_millis.map_or(Duration::MAX, Duration::from_millis);
        policy.attempts_max = match self.max_retries {
            0 => u32::MAX,
            tries => u32::try_from(tries).unwrap_or(u32::MAX),
        };
        policy.jitter = self.randomization_factor;
        policy
    }
}

impl ClientHttpConnectProxyConfig {
    fn proxy(self) -> Result<HttpConnectProxy, Failure> {
        let mut proxy =
            HttpConnectProxy::parse(&self.target_host).map_err(|e| Failure::Value(e.to_string()))?;
        proxy.auth = self.basic_auth.map(|(user, password)| BasicAuth { user, password });
        Ok(proxy)
    }
}

#[pyfunction]
fn connect_client<'py>(
    py: Python<'py>,
    runtime_ref: &RuntimeRef,
    config: ClientConfig,
) -> PyResult<Bound<'py, PyAny>> {
    runtime_ref.shared.assert_same_process("create client")?;
    let (mut options, headers) = config.options(runtime_ref)?;
    let shared = runtime_ref.shared.clone();
    aio::start(py, &runtime_ref.shared, async move {
        let failed = |cause: String| Failure::Runtime(format!("Failed client connect: {cause}"));
        options.metadata = headers.metadata().map_err(|e| failed(format!("Invalid headers: {e}")))?;
        let client = Client::connect(options).await.map_err(|e| failed(e.to_string()))?;
        let workers = WorkerSet::default();
        let (headers, live) = (Mutex::new(headers), Live::new(Kind::Client));
        let client = ClientRef { shared, client, workers, headers, _live: live };
        Ok(aio::Outcome::object(client))
    })
}

#[pymethods]
impl ClientRef {
    fn update_metadata(&self, py: Python<'_>, headers: HashMap<String, RpcMetadataValue>) -> PyResult<()> {
        let wanted = Headers::split(headers);
        let mut current = self.headers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ascii = Headers { ascii: wanted.ascii, binary: current.binary.clone() };
        let set = |headers: &Headers| {
            let metadata = headers.metadata().map_err(value_error)?;
            py.detach(|| self.client.set_metadata(metadata)).map_err(|e| value_error(e.message))
        };
        set(&ascii)?;
        *current = ascii;
        let both = Headers { ascii: current.ascii.clone(), binary: wanted.binary };
        set(&both)?;
        *current = both;
        Ok(())
    }

    #[pyo3(signature = (api_key))]
    fn update_api_key(&self, api_key: Option<String>) -> PyResult<()> {
        self.client.set_api_key(api_key.as_deref()).map_err(|e| value_error(e.message))
    }

    fn call_workflow_service<'py>(&self, py: Python<'py>, call: RpcCall<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.workflowservice.v1.WorkflowService", call)
    }

    fn call_operator_service<'py>(&self, py: Python<'py>, call: RpcCall<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.operatorservice.v1.OperatorService", call)
    }

    fn call_cloud_service<'py>(&self, py: Python<'py>, call: RpcCall<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.cloud.cloudservice.v1.CloudService", call)
    }

    fn call_test_service<'py>(&self, py: Python<'py>, call: RpcCall<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.testservice.v1.TestService", call)
    }

    fn call_health_service<'py>(&self, py: Python<'py>, call: RpcCall<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "grpc.health.v1.Health", call)
    }
}

impl ClientRef {
    fn call<'py>(
        &self,
        py: Python<'py>,
        service: &'static str,
        call: RpcCall<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.shared.assert_same_process("use client")?;
        let request = buffers::taken(&call.req);
        let options = CallOptions {
            timeout: call.timeout_millis.map(Duration::from_millis),
            retry: if call.retry { RetryKind::Default } else { RetryKind::None },
            ..CallOptions::default()
        };
        let (client, rpc, metadata) = (self.client.clone(), call.rpc, call.metadata);
        aio::start(py, &self.shared, async move {
            let method = camel(&rpc);
            let metadata = call_metadata(metadata).map_err(Failure::Value)?;
            let options = CallOptions { metadata, ..options };
            let answer = client.call_bytes(service, &method, request, options).await;
            answer.map_err(|error| Failure::Rpc(Box::new(error)))
        })
    }
}

/// `start_workflow_execution` as services name it: `StartWorkflowExecution`.
fn camel(snake: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    snake.split('_').map(word).collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ClientRef>()?;
    module.add_function(wrap_pyfunction!(connect_client, module)?)
}
