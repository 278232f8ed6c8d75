//! What the worker tells of itself: metrics and logs.
//!
//! [`Metrics`] and [`WorkerMetrics`] say what is measured, a [`Meter`] says where it goes ([`Prometheus`],
//! [`MetricsBuffer`], OTLP, [`Noop`], or a user's own). [`logs`] forwards log records. Nothing here knows of workflows.

mod buffer;
mod calls;
mod endpoint;
mod labels;
pub mod logs;
mod meter;
mod metrics;
pub mod names;
#[cfg(feature = "otlp")]
pub mod otlp;
mod prometheus;
mod worker;

pub use buffer::{BufferedMetrics, InstrumentId, LabelsId, MetricEvent, MetricsBuffer};
pub use calls::{Call, CallMetrics};
pub use endpoint::PrometheusEndpoint;
pub use labels::{Label, Labels};
pub use meter::{Counter, Gauge, Instrument, Meter, Noop, Record, Shape, Spread, Timing, Value};
pub use metrics::{Family, Metrics, MetricsOptions, TaskQueueLabel};
pub use prometheus::{Prometheus, PrometheusOptions};
pub use worker::{
    ActivityMetrics, CacheMetrics, LocalActivityMetrics, NexusMetrics, PollerType, SlotGauges, WorkerMetrics,
    WorkflowMetrics, worker_type,
};
