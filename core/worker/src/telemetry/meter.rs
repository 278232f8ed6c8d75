//! The seam between what is measured and where it goes: a [`Meter`] binds an instrument and labels to a recorder.
//!
//! Binding may be slow (locks, maps, calls into a language); recording must be cheap, so callers bind once and keep
//! the handle. This file does not know any metric's name nor any exporter.

use super::Labels;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What shape of numbers an instrument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    Counter,
    Gauge,
    GaugeFloat,
    Histogram,
    HistogramFloat,
    HistogramDuration,
}

/// A metric as it is declared: its name, shape, unit and meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Before the name of every core metric; empty for those a user defines.
    pub prefix: Cow<'static, str>,
    pub name: Cow<'static, str>,
    pub shape: Shape,
    /// `ms` for durations; exporters that show seconds convert.
    pub unit: Cow<'static, str>,
    pub description: Cow<'static, str>,
}

impl Instrument {
    /// A metric that a user defines.
    pub fn new(name: impl Into<Cow<'static, str>>, shape: Shape) -> Self {
        Instrument {
            prefix: "".into(),
            name: name.into(),
            shape,
            unit: if shape == Shape::HistogramDuration { "ms" } else { "" }.into(),
            description: "".into(),
        }
    }

    /// Prefix and name.
    pub fn full_name(&self) -> String {
        format!("{}{}", self.prefix, self.name)
    }
}

/// One recorded number. Counters add it, gauges become it, histograms count it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Whole(u64),
    Float(f64),
    Time(Duration),
}

/// Where one series' numbers go.
pub trait Record: Send + Sync {
    fn record(&self, value: Value);
}

/// A destination of metrics: Prometheus, OTLP, a buffer that a binding drains, or a user's own.
///
/// ```
/// use outlast_worker::telemetry::{Instrument, Labels, Meter, Record, Value};
/// use std::sync::Arc;
/// struct Print;
/// struct Line(String);
/// impl Meter for Print {
///     fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record> {
///         Arc::new(Line(format!("{} {labels}", instrument.full_name())))
///     }
/// }
/// impl Record for Line {
///     fn record(&self, value: Value) {
///         println!("{} {value:?}", self.0);
///     }
/// }
/// ```
pub trait Meter: Send + Sync + 'static {
    fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record>;
}

/// A meter for those who want none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noop;

impl Meter for Noop {
    fn bind(&self, _: &Instrument, _: &Labels) -> Arc<dyn Record> {
        Arc::new(Noop)
    }
}

impl Record for Noop {
    fn record(&self, _: Value) {}
}

/// Every value goes to all of these meters.
impl Meter for Vec<Arc<dyn Meter>> {
    fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record> {
        Arc::new(self.iter().map(|meter| meter.bind(instrument, labels)).collect::<Vec<_>>())
    }
}

impl Record for Vec<Arc<dyn Record>> {
    fn record(&self, value: Value) {
        self.iter().for_each(|to| to.record(value));
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(pub(super) Arc<dyn Record>);

        impl $name {
            /// A handle that goes nowhere.
            pub fn none() -> Self {
                $name(Arc::new(Noop))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

// Four handles that differ in name and in which numbers they take; a generic struct would name the difference by
// marker types, which reads worse than this one repetition.
handle!(
    /// A count that only grows.
    Counter
);
handle!(
    /// A number that is what it was last set to.
    Gauge
);
handle!(
    /// A spread of durations.
    Timing
);
handle!(
    /// A spread of plain numbers.
    Spread
);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.record(Value::Whole(count));
    }
}

impl Gauge {
    pub fn set(&self, value: usize) {
        self.0.record(Value::Whole(value as u64));
    }

    pub fn set_float(&self, value: f64) {
        self.0.record(Value::Float(value));
    }
}

impl Timing {
    pub fn observe(&self, time: Duration) {
        self.0.record(Value::Time(time));
    }
}

impl Spread {
    pub fn observe(&self, value: u64) {
        self.0.record(Value::Whole(value));
    }

    pub fn observe_float(&self, value: f64) {
        self.0.record(Value::Float(value));
    }
}

impl Value {
    /// As a float; a duration in milliseconds, or in seconds if asked.
    pub fn as_float(self, seconds: bool) -> f64 {
        match self {
            Value::Whole(number) => number as f64,
            Value::Float(number) => number,
            Value::Time(time) if seconds => time.as_secs_f64(),
            Value::Time(time) => time.as_secs_f64() * 1000.0,
        }
    }
}
