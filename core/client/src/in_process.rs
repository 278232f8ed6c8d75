//! Calls that never leave the process: the embedded server, and servers that tests script. Metadata, deadline and
//! retries are as over a socket; encoding is too, since both sides speak bytes.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use tonic::Code;

use crate::Metadata;

/// An answer that is an error, as gRPC has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of error.
    pub code: Code,
    /// For a human.
    pub message: String,
    /// An encoded `google.rpc.Status`, or nothing.
    pub details: Bytes,
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Bytes::new() }
    }
}

/// What [`Service::call`] returns. Dropping it is how the caller says that it no longer waits.
pub type ServiceFuture = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>;

/// A server in the same process.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use outlast_client::{CallOptions, Client, ClientOptions, Code, Metadata, Service, ServiceFuture, Status};
///
/// struct Echo;
/// impl Service for Echo {
///     fn call(&self, path: &str, _metadata: Metadata, request: Bytes) -> ServiceFuture {
///         let known = path == "/test.Echo/Say";
///         Box::pin(async move { if known { Ok(request) } else { Err(Status::new(Code::Unimplemented, "?")) } })
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let client = Client::in_process(Arc::new(Echo), ClientOptions::new("localhost:7233".parse()?))?;
/// let answer = client.call_bytes("test.Echo", "Say", Bytes::from_static(b"hi"), CallOptions::default()).await?;
/// assert_eq!(answer, "hi");
/// # Ok::<(), outlast_client::Error>(()) }).unwrap();
/// ```
pub trait Service: Send + Sync {
    /// Answers one unary call. `path` is `/package.Service/Method`, `request` and the answer are encoded messages.
    fn call(&self, path: &str, metadata: Metadata, request: Bytes) -> ServiceFuture;
}
