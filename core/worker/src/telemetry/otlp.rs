//! A meter that sends totals to an OpenTelemetry collector, by gRPC or HTTP, at an interval.
//!
//! Aggregation and encoding are OpenTelemetry's; the loop is ours, so that it runs on the caller's tokio runtime, starts no
//! thread and blocks none.

use super::meter::{Instrument, Meter, Record, Shape, Value};
use super::prometheus::bounds;
use super::{Label, Labels};
use crate::config::LONGEST;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};

/// How metrics travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpTransport {
    #[default]
    Grpc,
    /// Protobuf over HTTP; the endpoint is the whole address, `http://host:4318/v1/metrics`.
    Http,
}

/// Where and how to send.
#[derive(Clone, Debug)]
pub struct OtlpOptions {
    /// `http://` or `https://`.
    pub endpoint: String,
    pub transport: OtlpTransport,
    /// By HTTP, those that are no valid headers are left out.
    pub headers: BTreeMap<String, String>,
    pub interval: Duration,
    /// Send what was added since the last time, instead of totals.
    pub delta: bool,
    pub durations_as_seconds: bool,
    /// Histogram bounds by a metric's name or a part of it (the longest counts), in the unit that is sent.
    pub bucket_overrides: BTreeMap<String, Vec<f64>>,
    /// What the collector is told of this process; `service.name` belongs here.
    pub resource: BTreeMap<String, String>,
    pub timeout: Duration,
}

impl OtlpOptions {
    pub fn new(endpoint: impl Into<String>) -> Self {
        OtlpOptions {
            endpoint: endpoint.into(),
            transport: OtlpTransport::default(),
            headers: BTreeMap::new(),
            interval: Duration::from_secs(1),
            delta: false,
            durations_as_seconds: false,
            bucket_overrides: BTreeMap::new(),
            resource: BTreeMap::new(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why metrics cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("header {name:?}: {problem}")]
    Header { name: String, problem: &'static str },
    #[error("the machine's trusted certificates cannot be read: {0}")]
    Certificates(std::io::Error),
    #[error(transparent)]
    Options(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error(transparent)]
    Export(#[from] OTelSdkError),
}

/// A running exporter. Dropping it stops it without a last export; [`shutdown`](Self::shutdown) sends what is left.
pub struct Otlp {
    options: OtlpOptions,
    meter: opentelemetry::metrics::Meter,
    /// Keeps the pipeline alive that the reader collects from.
    _provider: SdkMeterProvider,
    sender: Arc<Sender>,
    exporting: JoinHandle<()>,
}

struct Sender {
    reader: Reader,
    exporter: MetricExporter,
}

impl Otlp {
    /// Starts to export. Needs a tokio runtime; connects when it first sends.
    pub fn start(options: OtlpOptions) -> Result<Self, OtlpError> {
        let temporality = if options.delta { Temporality::Delta } else { Temporality::Cumulative };
        let exporter = exporter(&options, temporality)?;
        let reader = Reader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
        let attributes =
            options.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let resource = Resource::builder().with_attributes(attributes).build();
        let provider =
            SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone()).build();
        let meter = provider.meter("outlast");
        let sender = Arc::new(Sender { reader, exporter });
        let exporting = tokio::spawn(export(sender.clone(), options.interval));
        Ok(Otlp { options, meter, _provider: provider, sender, exporting })
    }

    /// Sends now what has been recorded.
    pub async fn flush(&self) -> Result<(), OtlpError> {
        self.sender.send().await
    }

    /// Stops, and sends a last time.
    pub async fn shutdown(&self) -> Result<(), OtlpError> {
        self.exporting.abort();
        self.flush().await
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        self.exporting.abort();
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Otlp({})", self.options.endpoint)
    }
}

async fn export(sender: Arc<Sender>, period: Duration) {
    let period = period.clamp(Duration::from_millis(10), LONGEST);
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sender.send().await {
            tracing::warn!(%error, "metrics could not be exported");
        }
    }
}

impl Sender {
    async fn send(&self) -> Result<(), OtlpError> {
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics)?;
        if metrics.scope_metrics().next().is_some() {
            self.exporter.export(&metrics).await?;
        }
        Ok(())
    }
}

fn exporter(options: &OtlpOptions, temporality: Temporality) -> Result<MetricExporter, OtlpError> {
    let exporter = MetricExporter::builder().with_temporality(temporality);
    Ok(match options.transport {
        OtlpTransport::Grpc => exporter
            .with_tonic()
            .with_endpoint(&options.endpoint)
            .with_timeout(options.timeout)
            .with_metadata(MetadataMap::from_headers(headers(&options.headers)?))
            .build()?,
        OtlpTransport::Http => {
            let provider = rustls::crypto::ring::default_provider();
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(provider)
                .map_err(OtlpError::Certificates)?
                .https_or_http()
                .enable_http1()
                .build();
            exporter
                .with_http()
                .with_http_client(HyperClient::new(connector, options.timeout, None))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&options.endpoint)
                .with_timeout(options.timeout)
                .with_headers(options.headers.clone().into_iter().collect())
                .build()?
        }
    })
}

fn headers(pairs: &BTreeMap<String, String>) -> Result<HeaderMap, OtlpError> {
    let header = |(name, value): (&String, &String)| {
        let refused = |problem| OtlpError::Header { name: name.clone(), problem };
        let parsed_name = HeaderName::try_from(name).map_err(|_| refused("invalid HTTP header name"))?;
        let parsed_value =
            HeaderValue::try_from(value).map_err(|_| refused("failed to parse header value"))?;
        Ok((parsed_name, parsed_value))
    };
    pairs.iter().map(header).collect()
}

/// A manual reader that both the provider and the loop hold.
#[derive(Clone, Debug)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

impl Meter for Otlp {
    fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record> {
        let seconds = self.options.durations_as_seconds;
        let (name, description) = (instrument.full_name(), instrument.description.clone());
        let unit = match (&*instrument.unit, seconds) {
            ("ms", true) => "s".into(),
            _ => instrument.unit.clone(),
        };
        let bounds = || bounds(&self.options.bucket_overrides, seconds, instrument);
        let meter = &self.meter;
        let to = match instrument.shape {
            Shape::Counter => {
                To::Counter(meter.u64_counter(name).with_unit(unit).with_description(description).build())
            }
            Shape::Gauge | Shape::GaugeFloat => {
                To::Gauge(meter.f64_gauge(name).with_unit(unit).with_description(description).build())
            }
            Shape::Histogram | Shape::HistogramFloat | Shape::HistogramDuration => {
                let builder = meter.f64_histogram(name).with_unit(unit).with_description(description);
                To::Histogram(builder.with_boundaries(bounds()).build(), seconds)
            }
        };
        Arc::new(Bound { to, labels: labels.iter().map(key_value).collect() })
    }
}

fn key_value((name, value): (&str, &Label)) -> KeyValue {
    let name = name.to_owned();
    match value {
        Label::Text(text) => KeyValue::new(name, text.clone()),
        Label::Int(number) => KeyValue::new(name, *number),
        Label::Float(number) => KeyValue::new(name, *number),
        Label::Bool(truth) => KeyValue::new(name, *truth),
    }
}

struct Bound {
    to: To,
    labels: Box<[KeyValue]>,
}

enum To {
    Counter(Counter<u64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>, bool),
}

impl Record for Bound {
    fn record(&self, value: Value) {
        match &self.to {
            To::Counter(counter) => {
                let more = match value {
                    Value::Whole(more) => more,
                    Value::Float(_) | Value::Time(_) => value.as_float(false) as u64,
                };
                counter.add(more, &self.labels);
            }
            To::Gauge(gauge) => gauge.record(value.as_float(false), &self.labels),
            To::Histogram(histogram, seconds) => histogram.record(value.as_float(*seconds), &self.labels),
        }
    }
}

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
