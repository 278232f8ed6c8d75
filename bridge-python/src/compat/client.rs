//! `connect_client` and `ClientRef`: one generic call for every method of every service.

mod config;
pub mod connect;
mod headers;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use outlast_core::proto::services::{self, Rpc};
use outlast_core::proto::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;
use outlast_core::{CallOptions, Client, Code, Error, RetryKind, WorkerSet, proto, raw};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use self::config::ClientConfig;
use self::headers::{Headers, RpcMetadataValue};
use super::runtime::RuntimeRef;
use crate::error::{Failure, value_error};
use crate::live::{Kind, Live};
use crate::runtime::Shared;
use crate::{aio, buffers};

#[derive(FromPyObject)]
struct RpcCall {
    rpc: String,
    req: Request,
    retry: bool,
    metadata: HashMap<String, RpcMetadataValue>,
    timeout_millis: Option<u64>,
}

/// An encoded message: `bytes` as a rule, else whatever gives bytes.
struct Request(Bytes);

impl<'py> FromPyObject<'_, 'py> for Request {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self(buffers::taken(&bytes))),
            Err(_) => Ok(Self(value.extract::<Vec<u8>>()?.into())),
        }
    }
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

#[pyfunction]
fn connect_client<'py>(
    py: Python<'py>,
    runtime_ref: &RuntimeRef,
    config: ClientConfig,
) -> PyResult<Bound<'py, PyAny>> {
    let mut wanted = config.wanted()?;
    runtime_ref.shared.assert_same_process("create client")?;
    wanted.options.observer = Some(runtime_ref.shared.core.observer());
    let shared = runtime_ref.shared.clone();
    aio::start(py, &runtime_ref.shared, async move {
        let failed = |cause| Failure::Runtime(format!("Failed client connect: {cause}"));
        let (options, headers) = wanted.checked().map_err(failed)?;
        let client = connect::connect(options).await.map_err(failed)?;
        let workers = WorkerSet::default();
        let (headers, live) = (Mutex::new(headers), Live::new(Kind::Client));
        let client = ClientRef { shared, client, workers, headers, _live: live };
        Ok(aio::Outcome::object(client))
    })
}

#[pymethods]
impl ClientRef {
    /// Attached throughout: whoever waits for `headers` does so with the interpreter in hand.
    fn update_metadata(&self, headers: HashMap<String, RpcMetadataValue>) -> PyResult<()> {
        let wanted = Headers::split(headers);
        let mut current = self.headers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ascii = Headers { ascii: wanted.ascii, binary: current.binary.clone() };
        let set = |headers: &Headers| {
            let metadata = headers.metadata().map_err(value_error)?;
            self.client.set_metadata(metadata).map_err(|e| value_error(e.message))
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
        let key = headers::api_key(api_key);
        self.client.set_api_key(key.as_deref()).map_err(|e| value_error(e.message))
    }

    fn call_workflow_service<'py>(&self, py: Python<'py>, call: RpcCall) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.workflowservice.v1.WorkflowService", call)
    }

    fn call_operator_service<'py>(&self, py: Python<'py>, call: RpcCall) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.operatorservice.v1.OperatorService", call)
    }

    fn call_cloud_service<'py>(&self, py: Python<'py>, call: RpcCall) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.cloud.cloudservice.v1.CloudService", call)
    }

    fn call_test_service<'py>(&self, py: Python<'py>, call: RpcCall) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "temporal.api.testservice.v1.TestService", call)
    }

    fn call_health_service<'py>(&self, py: Python<'py>, call: RpcCall) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, "grpc.health.v1.Health", call)
    }
}

impl ClientRef {
    fn call<'py>(
        &self,
        py: Python<'py>,
        service: &'static str,
        call: RpcCall,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.shared.assert_same_process("use client")?;
        let ready = prepare(service, &call, &self.client);
        let (rpc, mut options) = match ready {
            Ok(ready) => ready,
            Err(failure) => return aio::ready(py, aio::Outcome::Failed(failure)),
        };
        match headers::of_call(call.metadata) {
            Ok(metadata) => options.metadata = metadata,
            Err(text) => return aio::ready(py, aio::Outcome::Failed(Failure::Value(text))),
        }
        let (client, request) = (self.client.clone(), call.req.0);
        if rpc.name == "start_workflow_execution" && raw::flag(&request, EAGER) {
            let workers = self.workers.clone();
            return aio::start(py, &self.shared, start(client, workers, request, options));
        }
        aio::start(py, &self.shared, async move {
            let answer = client.call_rpc(rpc, request, options).await;
            answer.map_err(failed)
        })
    }
}

/// `StartWorkflowExecutionRequest.request_eager_execution`
const EAGER: u32 = 17;

/// What is called, and how; a failure is for the future to raise.
fn prepare(service: &str, call: &RpcCall, client: &Client) -> Result<(&'static Rpc, CallOptions), Failure> {
    let unknown = || Failure::Value(format!("Unknown RPC call {}", call.rpc));
    let rpc = services::find(service, &call.rpc).ok_or_else(unknown)?;
    let facts = raw::read(rpc, &call.req.0)
        .map_err(|e| Failure::Value(format!("Invalid proto: failed to decode Protobuf message: {e}")))?;
    let usual = (call.retry && facts.waits).then(|| client.long_poll_timeout());
    let options = CallOptions {
        timeout: call.timeout_millis.map(Duration::from_millis).or(usual),
        timeout_each_try: true,
        waits: facts.waits,
        retry: if call.retry { RetryKind::Default } else { RetryKind::None },
        namespace: facts.namespace.map(str::to_owned),
        task_queue: facts.task_queue.map(str::to_owned),
        ..CallOptions::default()
    };
    Ok((rpc, options))
}

/// Starts a workflow whose first task a worker of this client may get with the answer.
async fn start(
    client: Client,
    workers: WorkerSet,
    request: Bytes,
    options: CallOptions,
) -> Result<Bytes, Failure> {
    let invalid = |e| Failure::Value(format!("Invalid proto: {e}"));
    let request: StartWorkflowExecutionRequest = proto::decode(request).map_err(invalid)?;
    let answer = workers.start_workflow(&client, request, options).await;
    answer.map(|answer| proto::encode(&answer)).map_err(failed)
}

/// A deadline that passed here, before the server said so, is told as users know it; what the server said, in its own
/// words.
fn failed(mut error: Error) -> Failure {
    if let Some(own) = error.message.strip_prefix("message too large: ") {
        error.message = own.to_owned();
    }
    if error.kind == outlast_core::Kind::TimedOut && error.source.is_some() {
        (error.code, error.message) = (Code::Cancelled, "Timeout expired".into());
    }
    Failure::Rpc(Box::new(error))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ClientRef>()?;
    module.add_function(wrap_pyfunction!(connect_client, module)?)
}
