//! Where the metrics of one runtime go: scraped by Prometheus, sent to a collector, or kept for Python.

use std::collections::BTreeMap;
use std::net::{AddrParseError, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outlast_core::telemetry::otlp::{Otlp, OtlpError, OtlpOptions, OtlpTransport};
use outlast_core::telemetry::{
    Labels, Metrics, MetricsBuffer, MetricsOptions, Prometheus, PrometheusEndpoint, PrometheusOptions,
};
use outlast_core::{Runtime, ascii_host};
use pyo3::prelude::*;

use super::config::{MetricsConfig, OpenTelemetryConfig, PrometheusConfig};
use crate::compat::url::{Url, scheme};
use crate::error::value_error;
use crate::runtime::Attachment;

/// The name under which metrics of this core are known.
const SERVICE: &str = "temporal-core-sdk";

/// Metrics, and what holds them.
pub struct Measured {
    pub metrics: Metrics,
    /// If they are kept for Python.
    pub buffer: Option<Arc<MetricsBuffer>>,
    /// What serves or sends them.
    pub attachment: Option<Attachment>,
}

/// Starts what `config` asks for, on the threads of `core`.
pub fn start(config: MetricsConfig, core: &Runtime) -> PyResult<Measured> {
    let tags = config.global_tags.unwrap_or_default();
    let options = MetricsOptions {
        prefix: config.metric_prefix.unwrap_or_else(|| "temporal_".into()),
        service_name: config.attach_service_name.then(|| SERVICE.into()),
        ..MetricsOptions::default()
    };
    match (config.opentelemetry, config.prometheus, config.buffered_with_size) {
        (Some(_), _, 1..) | (_, Some(_), 1..) => {
            Err(value_error("Cannot have buffer size with OpenTelemetry or Prometheus metric config"))
        }
        (Some(_), Some(_), 0) => Err(value_error("Cannot have OpenTelemetry and Prometheus metrics")),
        (None, None, 0) => Err(value_error("Either OpenTelemetry or Prometheus config must be provided")),
        (None, None, size) => {
            let buffer = Arc::new(MetricsBuffer::new(size));
            let metrics = Metrics::new(buffer.clone(), options);
            Ok(Measured { metrics, buffer: Some(buffer), attachment: None })
        }
        (None, Some(config), 0) => scraped(config, options, tags, core),
        (Some(config), None, 0) => sent(config, options, tags, core),
    }
}

fn scraped(
    config: PrometheusConfig,
    options: MetricsOptions,
    tags: BTreeMap<String, String>,
    core: &Runtime,
) -> PyResult<Measured> {
    let address: SocketAddr = config
        .bind_address
        .parse()
        .map_err(|error: AddrParseError| value_error(format!("Invalid Prometheus address: {error}")))?;
    let prometheus = Arc::new(Prometheus::new(PrometheusOptions {
        counters_total_suffix: config.counters_total_suffix,
        unit_suffix: config.unit_suffix,
        durations_as_seconds: config.durations_as_seconds,
        bucket_overrides: config.histogram_bucket_overrides.unwrap_or_default(),
    }));
    let endpoint = core
        .block_on(PrometheusEndpoint::bind(address, prometheus.clone()))
        .map_err(|error| value_error(format!("Failed starting Prometheus exporter: {error}")))?;
    let options = MetricsOptions { global_tags: Labels::from_iter(tags), ..options };
    let metrics = Metrics::new(prometheus, options);
    Ok(Measured { metrics, buffer: None, attachment: Some(Arc::new(endpoint)) })
}

/// A collector knows the tags as those of the process, not of each series.
fn sent(
    config: OpenTelemetryConfig,
    options: MetricsOptions,
    tags: BTreeMap<String, String>,
    core: &Runtime,
) -> PyResult<Measured> {
    let url = endpoint(&config.url);
    let url = url.map_err(|problem| value_error(format!("Invalid OTel URL: {problem}")))?;
    let mut otlp = OtlpOptions::new(url);
    otlp.transport = if config.http { OtlpTransport::Http } else { OtlpTransport::Grpc };
    otlp.headers = config.headers;
    if let Some(millis) = config.metric_periodicity_millis {
        otlp.interval = Duration::from_millis(millis);
    }
    otlp.delta = config.metric_temporality_delta;
    otlp.durations_as_seconds = config.durations_as_seconds;
    otlp.bucket_overrides = config.histogram_bucket_overrides.unwrap_or_default();
    otlp.resource = tags;
    otlp.resource.entry("service.name".into()).or_insert_with(|| SERVICE.into());
    let otlp = core.within(|| Otlp::start(otlp)).map_err(|error| {
        let problem = match error {
            OtlpError::Header { problem, .. } => problem.into(),
            OtlpError::Certificates(_) | OtlpError::Options(_) | OtlpError::Export(_) => error.to_string(),
        };
        value_error(format!("Failed building OTel exporter: {problem}"))
    })?;
    let otlp = Arc::new(otlp);
    let last = LastExport { otlp: otlp.clone(), core: core.clone() };
    let metrics = Metrics::new(otlp, options);
    Ok(Measured { metrics, buffer: None, attachment: Some(Arc::new(last)) })
}

/// Sends what is left when the runtime is dropped, on its threads, which it keeps for so long.
struct LastExport {
    otlp: Arc<Otlp>,
    core: Runtime,
}

/// A collector that does not answer holds the threads for no longer.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(5);

impl Drop for LastExport {
    fn drop(&mut self) {
        let (otlp, core) = (self.otlp.clone(), self.core.clone());
        self.core.handle().spawn(async move {
            let sent = tokio::time::timeout(LAST_EXPORT_MAX, otlp.shutdown()).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!("the last metrics could not be exported");
            }
            drop(core);
        });
    }
}

/// Where to send, as the exporter can read it; or what is wrong, in the words that users know. Schemes that are not of the
/// web are the exporter's to judge.
fn endpoint(url: &str) -> Result<String, &'static str> {
    match scheme(url.trim()) {
        Some((scheme, _)) if !matches!(&*scheme, "http" | "https") => Ok(url.trim().to_owned()),
        Some(_) | None => {
            let url = Url::read(url)?;
            let host = ascii_host(&url.host).ok_or("invalid international domain name")?;
            Ok(url.written(&host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_exporters_can_read_them() {
        for (url, expected) in [
            ("http://a:1/x y", Ok("http://a:1/x%20y")),
            (" http://b\u{fc}cher.example/ ", Ok("http://xn--bcher-kva.example/")),
            ("unix:///x", Ok("unix:///x")),
            ("127.0.0.1:4317", Err("relative URL without a base")),
        ] {
            assert_eq!(endpoint(url).as_deref().map_err(|problem| *problem), expected, "{url}");
        }
    }
}
