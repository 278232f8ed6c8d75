//! A meter that keeps totals in memory and writes them in Prometheus' text format.
//!
//! The text is written here rather than by a crate: Temporal's metrics use one name with different label sets, which
//! the usual registry refuses, and the format is a page. Knows no sockets; [`PrometheusEndpoint`](super::PrometheusEndpoint)
//! serves the text.

use super::meter::{Instrument, Meter, Noop, Record, Shape, Value};
use super::{Label, Labels, names};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How numbers are shown.
#[derive(Clone, Debug, Default)]
pub struct PrometheusOptions {
    /// Counters end in `_total`.
    pub counters_total_suffix: bool,
    /// Names of histograms end in their unit: `_milliseconds`, `_seconds`.
    pub unit_suffix: bool,
    /// Durations in seconds instead of milliseconds.
    pub durations_as_seconds: bool,
    /// Histogram bounds by a metric's name or a part of it (the longest counts), in the unit that is shown.
    pub bucket_overrides: BTreeMap<String, Vec<f64>>,
}

/// How many series one metric may have; more are gathered in one labelled `otel_metric_overflow="true"`.
const SERIES_MAX: usize = 10_000;

/// The in-memory totals of every series.
#[derive(Default)]
pub struct Prometheus {
    options: PrometheusOptions,
    metrics: RwLock<BTreeMap<String, Metric>>,
}

struct Metric {
    shape: Shape,
    help: String,
    series: BTreeMap<Labels, Arc<Series>>,
}

/// One series. Written from many threads, read when scraped; each number on its own is exact.
enum Series {
    Counter(AtomicU64),
    /// Bits of a float; of [`UNSET`] until first set.
    Gauge(AtomicU64),
    Histogram(Histogram),
}

struct Histogram {
    bounds: Arc<[f64]>,
    /// One for each bound and one for all above.
    counts: Box<[AtomicU64]>,
    /// Bits of a float.
    sum: AtomicU64,
    seconds: bool,
}

/// A float nobody sets: a NaN with a payload.
const UNSET: u64 = 0x7ff8_dead_beef_0000;

impl Prometheus {
    pub fn new(options: PrometheusOptions) -> Self {
        Prometheus { options, metrics: RwLock::default() }
    }

    /// Everything recorded so far, in the text format version 0.0.4. Series never recorded are left out.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        for (name, metric) in &*metrics {
            let mut series = metric.series.iter().filter(|(_, series)| series.recorded()).peekable();
            if series.peek().is_some() {
                header(&mut text, name, metric);
            }
            for (labels, series) in series {
                series.write(&mut text, name, labels);
            }
        }
        text
    }

    fn name(&self, instrument: &Instrument) -> String {
        let mut name = sanitized(&instrument.full_name());
        if self.options.unit_suffix {
            let unit = match (instrument.shape, self.options.durations_as_seconds) {
                (Shape::HistogramDuration, false) => "milliseconds",
                (Shape::HistogramDuration, true) => "seconds",
                (Shape::Histogram | Shape::HistogramFloat, _) => &*instrument.unit,
                (Shape::Counter | Shape::Gauge | Shape::GaugeFloat, _) => "",
            };
            if !unit.is_empty() {
                name = format!("{name}_{}", sanitized(unit));
            }
        }
        if self.options.counters_total_suffix && instrument.shape == Shape::Counter {
            name.push_str("_total");
        }
        name
    }

    fn series(&self, instrument: &Instrument) -> Series {
        match instrument.shape {
            Shape::Counter => Series::Counter(AtomicU64::new(0)),
            Shape::Gauge | Shape::GaugeFloat => Series::Gauge(AtomicU64::new(UNSET)),
            Shape::Histogram | Shape::HistogramFloat | Shape::HistogramDuration => {
                let seconds = self.options.durations_as_seconds;
                let bounds: Arc<[f64]> = bounds(&self.options.bucket_overrides, seconds, instrument).into();
                let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
                Series::Histogram(Histogram { bounds, counts, sum: AtomicU64::new(0f64.to_bits()), seconds })
            }
        }
    }
}

/// The histogram bounds of an instrument, in the unit that is shown.
pub(super) fn bounds(
    overrides: &BTreeMap<String, Vec<f64>>,
    durations_as_seconds: bool,
    instrument: &Instrument,
) -> Vec<f64> {
    let name = instrument.full_name();
    let fitting = overrides.iter().filter(|(part, _)| name.contains(part.as_str()));
    if let Some((_, own)) = fitting.max_by_key(|(part, _)| part.len()) {
        return in_order(own);
    }
    let scale = if durations_as_seconds { 1000.0 } else { 1.0 };
    names::buckets(&name).iter().map(|bound| bound / scale).collect()
}

/// Bounds as histograms need them: growing, each once, and none that is not finite, for the last bucket is always without
/// end.
fn in_order(bounds: &[f64]) -> Vec<f64> {
    let mut bounds: Vec<f64> = bounds.iter().copied().filter(|bound| bound.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

impl Meter for Prometheus {
    fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record> {
        let name = self.name(instrument);
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        let metric = metrics.entry(name).or_insert_with(|| Metric {
            shape: instrument.shape,
            help: instrument.description.to_string(),
            series: BTreeMap::new(),
        });
        if metric.shape != instrument.shape {
            let (had, wanted) = (metric.shape, instrument.shape);
            // Whoever takes the log record may bind metrics too.
            drop(metrics);
            tracing::warn!(name = %instrument.full_name(), ?had, ?wanted, "metric declared twice; the second is not recorded");
            return Arc::new(Noop);
        }
        if let Some(series) = metric.series.get(labels) {
            return series.clone();
        }
        let overflow = metric.series.len() >= SERIES_MAX;
        let labels =
            if overflow { Labels::default().with("otel.metric.overflow", true) } else { labels.clone() };
        metric.series.entry(labels).or_insert_with(|| Arc::new(self.series(instrument))).clone()
    }
}

impl Record for Series {
    fn record(&self, value: Value) {
        match self {
            Series::Counter(count) => {
                let more = match value {
                    Value::Whole(more) => more,
                    Value::Float(_) | Value::Time(_) => value.as_float(false) as u64,
                };
                count.fetch_add(more, Ordering::Relaxed);
            }
            Series::Gauge(bits) => bits.store(value.as_float(false).to_bits(), Ordering::Relaxed),
            Series::Histogram(histogram) => histogram.observe(value.as_float(histogram.seconds)),
        }
    }
}

impl Histogram {
    fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let added = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure never declines, so neither does the update.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
    }

    fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Series {
    fn recorded(&self) -> bool {
        match self {
            Series::Counter(count) => count.load(Ordering::Relaxed) != 0,
            Series::Gauge(bits) => bits.load(Ordering::Relaxed) != UNSET,
            Series::Histogram(histogram) => histogram.count() != 0,
        }
    }

    fn write(&self, text: &mut String, name: &str, labels: &Labels) {
        match self {
            Series::Counter(count) => line(text, name, "", labels, None, count.load(Ordering::Relaxed)),
            Series::Gauge(bits) => {
                line(text, name, "", labels, None, f64::from_bits(bits.load(Ordering::Relaxed)));
            }
            Series::Histogram(histogram) => {
                let mut below = 0;
                for (index, count) in histogram.counts.iter().enumerate() {
                    below += count.load(Ordering::Relaxed);
                    let bound = histogram.bounds.get(index).copied().unwrap_or(f64::INFINITY);
                    line(text, name, "_bucket", labels, Some(bound), below);
                }
                line(text, name, "_sum", labels, None, f64::from_bits(histogram.sum.load(Ordering::Relaxed)));
                line(text, name, "_count", labels, None, below);
            }
        }
    }
}

fn header(text: &mut String, name: &str, metric: &Metric) {
    let kind = match metric.shape {
        Shape::Counter => "counter",
        Shape::Gauge | Shape::GaugeFloat => "gauge",
        Shape::Histogram | Shape::HistogramFloat | Shape::HistogramDuration => "histogram",
    };
    let help = if metric.help.is_empty() { name } else { &metric.help };
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    put(text, format_args!("# HELP {name} {help}\n"));
    put(text, format_args!("# TYPE {name} {kind}\n"));
}

/// `name_suffix{labels,le="bound"} value`.
fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    bound: Option<f64>,
    value: impl fmt::Display,
) {
    put(text, format_args!("{name}{suffix}"));
    let mut before = '{';
    for (label, value) in labels.iter() {
        put(text, format_args!("{before}{}=\"{}\"", sanitized(label), escaped(value)));
        before = ',';
    }
    if let Some(bound) = bound {
        if bound.is_finite() {
            put(text, format_args!("{before}le=\"{bound}\""));
        } else {
            put(text, format_args!("{before}le=\"+Inf\""));
        }
        before = ',';
    }
    let end = if before == '{' { "" } else { "}" };
    put(text, format_args!("{end} {value}\n"));
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("writing to a string cannot fail");
}

fn escaped(value: &Label) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Names may hold letters, digits, `_` and, for metrics, `:`; anything else becomes `_`.
fn sanitized(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut clean: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, MetricsOptions};
    use std::time::Duration;

    #[test]
    fn text_of_each_shape() {
        let prometheus = Prometheus::new(PrometheusOptions::default());
        let labels = Labels::default().with("queue", "a\"b\\c\nd");
        prometheus.bind(&Instrument::new("done", Shape::Counter), &labels).record(Value::Whole(3));
        prometheus
            .bind(&Instrument::new("level", Shape::GaugeFloat), &Labels::default())
            .record(Value::Float(0.5));
        let time = prometheus.bind(&Instrument::new("time", Shape::HistogramDuration), &Labels::default());
        time.record(Value::Time(Duration::from_millis(50)));
        time.record(Value::Time(Duration::from_secs(60)));
        let expected = r#"# HELP done done
# TYPE done counter
done{queue="a\"b\\c\nd"} 3
# HELP level level
# TYPE level gauge
level 0.5
# HELP time time
# TYPE time histogram
time_bucket{le="50"} 1
time_bucket{le="100"} 1
time_bucket{le="500"} 1
time_bucket{le="1000"} 1
time_bucket{le="2500"} 1
time_bucket{le="10000"} 1
time_bucket{le="+Inf"} 2
time_sum 60050
time_count 2
"#;
        assert_eq!(prometheus.text(), expected);
    }

    #[test]
    fn suffixes_seconds_and_overrides() {
        let options = PrometheusOptions {
            counters_total_suffix: true,
            unit_suffix: true,
            durations_as_seconds: true,
            bucket_overrides: [("l_request_lat".into(), vec![0.5]), ("latency".into(), vec![0.1])].into(),
        };
        let prometheus = Arc::new(Prometheus::new(options));
        let metrics =
            Metrics::new(prometheus.clone(), MetricsOptions { service_name: None, ..Default::default() });
        metrics.counter(names::REQUEST).add(1);
        metrics.timing(names::REQUEST_LATENCY).observe(Duration::from_millis(250));
        metrics.timing(names::LONG_REQUEST_LATENCY).observe(Duration::from_millis(250));
        let text = prometheus.text();
        assert!(text.contains("temporal_request_total 1\n"), "{text}");
        assert!(text.contains("temporal_request_latency_seconds_bucket{le=\"0.5\"} 1\n"), "{text}");
        assert!(text.contains("temporal_long_request_latency_seconds_bucket{le=\"0.1\"} 0\n"), "{text}");
        assert!(text.contains("temporal_long_request_latency_seconds_sum 0.25\n"), "{text}");
    }

    #[test]
    fn what_was_bound_but_never_recorded_is_not_shown() {
        let prometheus = Prometheus::default();
        let gauge = prometheus.bind(&Instrument::new("level", Shape::Gauge), &Labels::default());
        prometheus.bind(&Instrument::new("done", Shape::Counter), &Labels::default());
        assert_eq!(prometheus.text(), "");
        gauge.record(Value::Whole(0));
        assert_eq!(prometheus.text(), "# HELP level level\n# TYPE level gauge\nlevel 0\n");
    }

    #[test]
    fn the_same_name_in_another_shape_is_not_recorded() {
        let prometheus = Prometheus::default();
        prometheus.bind(&Instrument::new("x", Shape::Counter), &Labels::default()).record(Value::Whole(1));
        prometheus.bind(&Instrument::new("x", Shape::Gauge), &Labels::default()).record(Value::Whole(9));
        assert_eq!(prometheus.text(), "# HELP x x\n# TYPE x counter\nx 1\n");
    }

    #[test]
    fn series_beyond_the_bound_are_gathered_in_one() {
        let prometheus = Prometheus::default();
        let instrument = Instrument::new("x", Shape::Counter);
        for number in 0..SERIES_MAX as i64 + 5 {
            prometheus.bind(&instrument, &Labels::default().with("n", number)).record(Value::Whole(1));
        }
        assert!(prometheus.text().contains("x{otel_metric_overflow=\"true\"} 5\n"));
    }

    #[test]
    fn bounds_that_no_histogram_can_have_are_put_in_order() {
        for (told, held) in [
            (&[][..], &[][..]),
            (&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY], &[]),
            (&[1.0, f64::NAN, 2.0, f64::INFINITY], &[1.0, 2.0]),
            (&[2.0, 1.0, 3.0], &[1.0, 2.0, 3.0]),
            (&[1.0, 1.0], &[1.0]),
            (&[0.0, -1.0, -0.0], &[-1.0, 0.0]),
        ] {
            assert_eq!(in_order(told), held, "{told:?}");
        }
    }
}
