//! Metrics that are kept for Python: the same object for the same metric, and for the same attributes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use outlast_core::telemetry::{
    Instrument, InstrumentId, Label, Labels, LabelsId, MetricEvent, MetricsBuffer, Shape, Value,
};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

/// The unit that is shown as the one in which durations are given.
pub const DURATION: &str = "duration";

#[pyclass(frozen, get_all, module = "builtins")]
pub struct BufferedMetric {
    name: String,
    description: Option<String>,
    unit: Option<String>,
    /// 0 counter, 1 gauge, 2 histogram.
    kind: u8,
}

#[pyclass(frozen, get_all, module = "builtins")]
pub struct BufferedMetricUpdate {
    metric: Py<BufferedMetric>,
    value: Number,
    attributes: Py<PyDict>,
}

/// What Python sees as `int` or `float`.
#[derive(Clone, Copy, IntoPyObject, IntoPyObjectRef)]
pub enum Number {
    Whole(u64),
    Float(f64),
}

/// The buffer, and the objects that its numbers stand for.
pub struct Buffered {
    buffer: Arc<MetricsBuffer>,
    known: Mutex<Known>,
}

/// As many as the buffer gives numbers to, which is bounded.
#[derive(Default)]
struct Known {
    metrics: HashMap<InstrumentId, Py<BufferedMetric>>,
    attributes: HashMap<LabelsId, Py<PyDict>>,
}

impl Buffered {
    pub fn new(buffer: Arc<MetricsBuffer>) -> Self {
        Self { buffer, known: Mutex::default() }
    }

    /// Takes out all updates, oldest first.
    pub fn retrieve(&self, py: Python<'_>, seconds: bool) -> PyResult<Vec<BufferedMetricUpdate>> {
        // Whoever holds the lock needs the interpreter to go on, so it is not waited for with it in hand.
        let mut known = self.known.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let drained = self.buffer.drain();
        if drained.dropped > 0 {
            let dropped = drained.dropped;
            tracing::error!(
                dropped,
                "the buffer of metrics was full and updates were lost; drain it more often"
            );
        }
        let mut updates = Vec::with_capacity(drained.events.len());
        for event in drained.events {
            match event {
                MetricEvent::Instrument { id, instrument } => {
                    known.metrics.insert(id, Py::new(py, BufferedMetric::new(&instrument, seconds))?);
                }
                MetricEvent::Labels { id, labels } => {
                    known.attributes.insert(id, attributes(py, &labels)?);
                }
                MetricEvent::Update { instrument, labels, value } => {
                    let (Some(metric), Some(attributes)) =
                        (known.metrics.get(&instrument), known.attributes.get(&labels))
                    else {
                        continue;
                    };
                    updates.push(BufferedMetricUpdate {
                        metric: metric.clone_ref(py),
                        value: Number::new(value, seconds),
                        attributes: attributes.clone_ref(py),
                    });
                }
            }
        }
        Ok(updates)
    }
}

impl BufferedMetric {
    fn new(instrument: &Instrument, seconds: bool) -> Self {
        let kind = match instrument.shape {
            Shape::Counter => 0,
            Shape::Gauge | Shape::GaugeFloat => 1,
            Shape::Histogram | Shape::HistogramFloat | Shape::HistogramDuration => 2,
        };
        // Durations of the core itself, and those of a program that says so, follow how they are retrieved.
        let follows = match &*instrument.unit {
            DURATION => true,
            unit => unit == "ms" && !instrument.prefix.is_empty(),
        };
        let unit = match (instrument.shape == Shape::HistogramDuration && follows, seconds) {
            (true, true) => "s",
            (true, false) => "ms",
            (false, _) => &instrument.unit,
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            name: instrument.full_name(),
            description: some(&instrument.description),
            unit: some(unit),
            kind,
        }
    }
}

impl Number {
    fn new(value: Value, seconds: bool) -> Self {
        match value {
            Value::Whole(number) => Self::Whole(number),
            Value::Float(number) => Self::Float(number),
            Value::Time(time) if seconds => Self::Float(time.as_secs_f64()),
            Value::Time(time) => Self::Whole(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn attributes(py: Python<'_>, labels: &Labels) -> PyResult<Py<PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in labels.iter() {
        match value {
            Label::Text(text) => dict.set_item(name, &**text),
            Label::Int(number) => dict.set_item(name, number),
            Label::Float(number) => dict.set_item(name, number),
            Label::Bool(truth) => dict.set_item(name, truth),
        }?;
    }
    Ok(dict.unbind())
}
