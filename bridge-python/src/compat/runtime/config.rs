//! What `init_runtime` is given. The names of structs and fields are part of the texts of errors; what the oldest
//! supported version does not have has a default.

use std::collections::BTreeMap;

use pyo3::prelude::*;

#[derive(FromPyObject)]
pub struct RuntimeOptions {
    pub telemetry: TelemetryConfig,
    pub worker_heartbeat_interval_millis: Option<u64>,
    #[pyo3(default)]
    pub disable_environment_info: bool,
}

#[derive(FromPyObject)]
pub struct TelemetryConfig {
    pub logging: Option<LoggingConfig>,
    pub metrics: Option<MetricsConfig>,
}

#[derive(FromPyObject)]
pub struct LoggingConfig {
    pub filter: String,
    pub forward_to: Option<Py<PyAny>>,
    #[pyo3(default)]
    pub format: Option<String>,
}

#[derive(FromPyObject)]
pub struct MetricsConfig {
    pub opentelemetry: Option<OpenTelemetryConfig>,
    pub prometheus: Option<PrometheusConfig>,
    pub buffered_with_size: usize,
    pub attach_service_name: bool,
    pub global_tags: Option<BTreeMap<String, String>>,
    pub metric_prefix: Option<String>,
}

#[derive(FromPyObject)]
pub struct OpenTelemetryConfig {
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub metric_periodicity_millis: Option<u64>,
    pub metric_temporality_delta: bool,
    pub durations_as_seconds: bool,
    pub http: bool,
    pub histogram_bucket_overrides: Option<BTreeMap<String, Vec<f64>>>,
}

#[derive(FromPyObject)]
pub struct PrometheusConfig {
    pub bind_address: String,
    pub counters_total_suffix: bool,
    pub unit_suffix: bool,
    pub durations_as_seconds: bool,
    pub histogram_bucket_overrides: Option<BTreeMap<String, Vec<f64>>>,
}
