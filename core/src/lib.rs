//! What bindings and the Rust SDK see of Outlast: connect, work, replay. Re-exports, and the little that joins them.
//!
//! - [`connect`] takes a connect string and gives a [`Client`].
//! - [`Worker`] hands tasks to a language and takes its answers; [`Replayer`] does the same for recorded histories.
//! - [`ephemeral`] starts servers for tests.
//! - [`Runtime`] holds the threads and the telemetry that all of them share.
//!
//! Workflow logic is not here (`outlast-machine`), nor is anything of a particular language.

mod connect;
pub mod ephemeral;
mod runtime;

pub use connect::{ConnectString, connect, connect_with};
pub use outlast_client::{
    BasicAuth, CallEnd, CallInfo, CallObserver, CallOptions, Client, ClientOptions, Code, Compression, Error,
    HttpConnectProxy, KeepAlive, Kind, Metadata, RetryKind, RetryPolicy, Service, ServiceFuture, Status,
    Target, TlsIdentity, TlsOptions, WarnSizes, ascii_host, envconfig, raw,
};
/// Every message: the Temporal API, the lang protocol, JSON.
pub use outlast_proto as proto;
pub use outlast_worker::{
    CompleteError, ConfigError, Ending, FixedSlots, Health, Pages, PollError, PollerBehavior, Replay,
    ReplayConfig, ReplayError, Replayer, Sdk, Slots, TaskTypes, Tuner, Versioning, Worker, WorkerConfig,
    WorkerSet, slots, telemetry,
};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
