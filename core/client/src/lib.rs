//! The gRPC client of Outlast: where to connect, what to send along, how long to wait, when to try again.
//!
//! One generic call ([`Client::call_bytes`]) reaches every method of every service; [`rpc`] names the few that a
//! worker needs. What a message means is not known here, nor are workers, histories or metrics: a caller who wants
//! to count calls gives a [`CallObserver`].
//!
//! ```no_run
//! use outlast_client::{CallOptions, Client, ClientOptions};
//! # async fn demo() -> Result<(), outlast_client::Error> {
//! let client = Client::connect(ClientOptions::new("localhost:7233".parse()?)).await?;
//! let info = client.describe_namespace("default", CallOptions::default()).await?;
//! # let _ = info; Ok(()) }
//! ```

mod client;
mod codec;
mod connect;
mod current;
mod dial;
mod endpoint;
pub mod envconfig;
mod error;
mod in_process;
mod lanes;
mod metadata;
mod observe;
mod options;
mod proxy;
mod punycode;
pub mod raw;
mod resolve;
pub mod retry;
pub mod rpc;
mod sizes;
mod target;
mod together;
mod verify;

pub use client::{CallOptions, Client};
pub use current::Current;
pub use error::{Error, Kind};
pub use in_process::{Service, ServiceFuture, Status};
pub use metadata::Metadata;
pub use observe::{CallEnd, CallInfo, CallObserver, log_retry};
pub use options::{
    BasicAuth, ClientOptions, Compression, HttpConnectProxy, KeepAlive, ProxyAddress, TlsIdentity,
    TlsOptions, host_name, unique_name,
};
pub use punycode::ascii_host;
pub use retry::{RetryKind, RetryPolicy};
pub use sizes::WarnSizes;
pub use target::Target;
pub use tonic::Code;
