//! Meters, attributes and instruments of Python programs: no prefix, and the labels that all series of a runtime have.

mod buffered;

use std::sync::Arc;
use std::time::Duration;

use outlast_core::telemetry::{Instrument, Label, Labels, Meter, Shape, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::runtime::RuntimeRef;
use crate::runtime::Shared;
pub use buffered::{Buffered, BufferedMetric, BufferedMetricUpdate};

#[pyclass(frozen, module = "builtins")]
pub struct MetricMeterRef {
    /// The threads that send what is recorded.
    shared: Shared,
    meter: Arc<dyn Meter>,
    labels: Labels,
    /// A buffer shows units as they are; an exporter knows no unit `duration`.
    exported: bool,
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricAttributesRef(Labels);

#[pyfunction]
fn new_metric_meter(runtime_ref: &RuntimeRef) -> Option<MetricMeterRef> {
    let measured = runtime_ref.measured.as_ref()?;
    let (meter, labels) = (measured.metrics.meter().clone(), measured.metrics.labels().clone());
    let exported = measured.buffer.is_none();
    Some(MetricMeterRef { shared: runtime_ref.shared.clone(), meter, labels, exported })
}

impl MetricMeterRef {
    fn instrument(
        &self,
        shape: Shape,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> Custom {
        let mut instrument = Instrument::new(name, shape);
        instrument.description = description.unwrap_or_default().into();
        let unit = unit.unwrap_or_default();
        if !(self.exported && shape == Shape::HistogramDuration && matches!(&*unit, "" | buffered::DURATION))
        {
            instrument.unit = unit.into();
        }
        Custom { shared: self.shared.clone(), meter: self.meter.clone(), instrument }
    }
}

#[pymethods]
impl MetricMeterRef {
    #[getter]
    fn default_attributes(&self) -> MetricAttributesRef {
        MetricAttributesRef(self.labels.clone())
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_counter(
        &self,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> MetricCounterRef {
        MetricCounterRef(self.instrument(Shape::Counter, name, description, unit))
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_histogram(
        &self,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> MetricHistogramRef {
        MetricHistogramRef(self.instrument(Shape::Histogram, name, description, unit))
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_histogram_float(
        &self,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> MetricHistogramFloatRef {
        MetricHistogramFloatRef(self.instrument(Shape::HistogramFloat, name, description, unit))
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_histogram_duration(
        &self,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> MetricHistogramDurationRef {
        MetricHistogramDurationRef(self.instrument(Shape::HistogramDuration, name, description, unit))
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_gauge(&self, name: String, description: Option<String>, unit: Option<String>) -> MetricGaugeRef {
        MetricGaugeRef(self.instrument(Shape::Gauge, name, description, unit))
    }

    #[pyo3(signature = (name, description, unit))]
    fn new_gauge_float(
        &self,
        name: String,
        description: Option<String>,
        unit: Option<String>,
    ) -> MetricGaugeFloatRef {
        MetricGaugeFloatRef(self.instrument(Shape::GaugeFloat, name, description, unit))
    }
}

#[pymethods]
impl MetricAttributesRef {
    #[pyo3(signature = (meter, new_attrs))]
    fn with_additional_attributes(
        &self,
        meter: &MetricMeterRef,
        new_attrs: &Bound<'_, PyDict>,
    ) -> PyResult<MetricAttributesRef> {
        // Attributes here are of no particular meter.
        let _ = meter;
        let mut more = Vec::with_capacity(new_attrs.len());
        for (key, value) in new_attrs {
            let key: String = key.extract()?;
            let value = label(&key, &value)?;
            more.push((key, value));
        }
        Ok(MetricAttributesRef(self.0.and(&Labels::from_iter(more))))
    }
}

fn label(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Label> {
    let label = value.extract::<String>().map(Label::from);
    let label = label.or_else(|_| value.extract::<bool>().map(Label::from));
    let label = label.or_else(|_| value.extract::<i64>().map(Label::from));
    label.or_else(|_| value.extract::<f64>().map(Label::from)).map_err(|_| {
        let text = format!("Invalid value type for key {key}, must be str, int, float, or bool");
        PyTypeError::new_err(text)
    })
}

/// An instrument of a Python program.
struct Custom {
    shared: Shared,
    meter: Arc<dyn Meter>,
    instrument: Instrument,
}

impl Custom {
    fn record(&self, value: Value, attributes: &MetricAttributesRef) {
        self.shared.with_logs(|| self.meter.bind(&self.instrument, &attributes.0).record(value));
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricCounterRef(Custom);

#[pymethods]
impl MetricCounterRef {
    fn add(&self, value: u64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Whole(value), attrs_ref);
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricHistogramRef(Custom);

#[pymethods]
impl MetricHistogramRef {
    fn record(&self, value: u64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Whole(value), attrs_ref);
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricHistogramFloatRef(Custom);

#[pymethods]
impl MetricHistogramFloatRef {
    fn record(&self, value: f64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Float(value), attrs_ref);
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricHistogramDurationRef(Custom);

#[pymethods]
impl MetricHistogramDurationRef {
    fn record(&self, value: u64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Time(Duration::from_millis(value)), attrs_ref);
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricGaugeRef(Custom);

#[pymethods]
impl MetricGaugeRef {
    fn set(&self, value: u64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Whole(value), attrs_ref);
    }
}

#[pyclass(frozen, module = "builtins")]
pub struct MetricGaugeFloatRef(Custom);

#[pymethods]
impl MetricGaugeFloatRef {
    fn set(&self, value: f64, attrs_ref: &MetricAttributesRef) {
        self.0.record(Value::Float(value), attrs_ref);
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MetricMeterRef>()?;
    module.add_class::<MetricAttributesRef>()?;
    module.add_class::<MetricCounterRef>()?;
    module.add_class::<MetricHistogramRef>()?;
    module.add_class::<MetricHistogramFloatRef>()?;
    module.add_class::<MetricHistogramDurationRef>()?;
    module.add_class::<MetricGaugeRef>()?;
    module.add_class::<MetricGaugeFloatRef>()?;
    module.add_class::<BufferedMetric>()?;
    module.add_class::<BufferedMetricUpdate>()?;
    module.add_function(wrap_pyfunction!(new_metric_meter, module)?)
}
