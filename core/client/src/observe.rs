//! What a caller may know of every try of every call: enough for metrics and logs, which live elsewhere.

use std::time::Duration;

use outlast_proto::services;
use tonic::Code;

use crate::Error;

/// Retries are logged from this attempt on: a few retries are normal, a silent program without its server is not.
const LOGGED_FROM: u32 = 5;

/// One try of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo<'a> {
    /// `temporal.api.workflowservice.v1.WorkflowService`
    pub service: &'a str,
    /// `StartWorkflowExecution`
    pub method: &'a str,
    /// The namespace it was for, where the caller said so.
    pub namespace: Option<&'a str>,
    /// The task queue it was about, where the caller said so.
    pub task_queue: Option<&'a str>,
    /// A call that waits for something to happen.
    pub long_poll: bool,
    /// Counted from one.
    pub attempt: u32,
}

/// How a try ended.
#[derive(Clone, Copy, Debug)]
pub struct CallEnd {
    /// `Ok`, or the code of the error.
    pub code: Code,
    /// How long this try took.
    pub elapsed: Duration,
    /// The wait before the next try; `None` when this was the last.
    pub retry_after: Option<Duration>,
}

/// Told of every try, on the task that makes the call: be quick.
pub trait CallObserver: Send + Sync {
    /// A try begins. Nothing more is heard of one whose call is dropped.
    fn started(&self, call: &CallInfo<'_>) {
        let _ = call;
    }

    /// A try is over.
    fn finished(&self, call: &CallInfo<'_>, end: &CallEnd);
}

/// Logs that the call of this path failed so many times in a row and is tried again. Also for callers that do the retrying
/// themselves.
pub fn log_retry(path: &str, attempt: u32, error: &Error) {
    if attempt < LOGGED_FROM {
        return;
    }
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or(("", path));
    let rpc = services::all(service).iter().find(|rpc| rpc.path == path);
    let name = rpc.map_or(method, |rpc| rpc.name);
    tracing::warn!(target: "outlast_client::retry", code = ?error.code, %error, "gRPC call {name} retried {attempt} times");
}
