//! A meter that keeps what was recorded as events, for a binding that feeds its language's own metrics library.
//!
//! Events name instruments and label sets by number; the record that introduces a number always comes before its
//! first use and is never dropped. Knows nothing of languages.

use super::meter::{Instrument, Meter, Record, Value};
use super::{Label, Labels};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of an instrument within one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstrumentId(pub u32);

/// Number of a label set within one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelsId(pub u32);

/// What a binding is told, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricEvent {
    Instrument { id: InstrumentId, instrument: Instrument },
    Labels { id: LabelsId, labels: Labels },
    Update { instrument: InstrumentId, labels: LabelsId, value: Value },
}

/// What [`MetricsBuffer::drain`] took out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BufferedMetrics {
    pub events: Vec<MetricEvent>,
    /// Updates lost since the last drain because nobody drained in time.
    pub dropped: u64,
}

/// How many instruments and how many label sets get a number of their own; further label sets share one.
const NUMBERS_MAX: usize = 10_000;

/// A bounded queue of metric events.
///
/// ```
/// use outlast_worker::telemetry::{Metrics, MetricsBuffer, MetricsOptions, names};
/// use std::sync::Arc;
/// let buffer = Arc::new(MetricsBuffer::new(1000));
/// Metrics::new(buffer.clone(), MetricsOptions::default()).counter(names::STICKY_HIT).add(1);
/// assert_eq!(buffer.drain().events.len(), 3); // the instrument, the labels, the update
/// ```
#[derive(Debug)]
pub struct MetricsBuffer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    updates_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Introductions not yet drained. They all come before all of `updates` in a drain, which keeps "before first use".
    introduced: Vec<MetricEvent>,
    updates: VecDeque<MetricEvent>,
    dropped: u64,
    instruments: BTreeMap<(String, super::Shape), InstrumentId>,
    labels: BTreeMap<Labels, LabelsId>,
}

impl MetricsBuffer {
    /// A buffer that holds at most `updates_max` updates; beyond, the newest are dropped and counted.
    pub fn new(updates_max: usize) -> Self {
        MetricsBuffer { inner: Arc::new(Inner { updates_max, state: Mutex::default() }) }
    }

    /// Takes everything out.
    pub fn drain(&self) -> BufferedMetrics {
        let mut state = self.inner.state();
        let mut events = std::mem::take(&mut state.introduced);
        events.extend(state.updates.drain(..));
        BufferedMetrics { events, dropped: std::mem::take(&mut state.dropped) }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn instrument(&mut self, instrument: &Instrument) -> Option<InstrumentId> {
        let key = (instrument.full_name(), instrument.shape);
        if let Some(id) = self.instruments.get(&key) {
            return Some(*id);
        }
        if self.instruments.len() >= NUMBERS_MAX {
            return None;
        }
        let id = InstrumentId(self.instruments.len() as u32);
        self.instruments.insert(key, id);
        self.introduced.push(MetricEvent::Instrument { id, instrument: instrument.clone() });
        Some(id)
    }

    fn labels(&mut self, labels: &Labels) -> LabelsId {
        let overflow = || Labels::from_iter([("otel.metric.overflow", Label::Bool(true))]);
        let full = self.labels.len() >= NUMBERS_MAX && !self.labels.contains_key(labels);
        let labels = if full { overflow() } else { labels.clone() };
        if let Some(id) = self.labels.get(&labels) {
            return *id;
        }
        let id = LabelsId(self.labels.len() as u32);
        self.labels.insert(labels.clone(), id);
        self.introduced.push(MetricEvent::Labels { id, labels });
        id
    }
}

struct Bound {
    inner: Arc<Inner>,
    instrument: InstrumentId,
    labels: LabelsId,
}

impl Meter for MetricsBuffer {
    fn bind(&self, instrument: &Instrument, labels: &Labels) -> Arc<dyn Record> {
        let mut state = self.inner.state();
        let Some(instrument) = state.instrument(instrument) else { return Arc::new(super::Noop) };
        let labels = state.labels(labels);
        Arc::new(Bound { inner: self.inner.clone(), instrument, labels })
    }
}

impl Record for Bound {
    fn record(&self, value: Value) {
        let mut state = self.inner.state();
        if state.updates.len() < self.inner.updates_max {
            let update = MetricEvent::Update { instrument: self.instrument, labels: self.labels, value };
            state.updates.push_back(update);
        } else {
            state.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Shape;

    #[test]
    fn numbers_are_introduced_once_and_before_use() {
        let buffer = MetricsBuffer::new(10);
        let (instrument, labels) = (Instrument::new("x", Shape::Counter), Labels::default().with("a", 1i64));
        let first = buffer.bind(&instrument, &labels);
        first.record(Value::Whole(1));
        buffer.bind(&instrument, &labels).record(Value::Whole(2));
        let (i, l) = (InstrumentId(0), LabelsId(0));
        let update = |count| MetricEvent::Update { instrument: i, labels: l, value: Value::Whole(count) };
        let introduced = [
            MetricEvent::Instrument { id: i, instrument: instrument.clone() },
            MetricEvent::Labels { id: l, labels: labels.clone() },
        ];
        assert_eq!(buffer.drain().events, [&introduced[..], &[update(1), update(2)]].concat());
        first.record(Value::Whole(3));
        assert_eq!(buffer.drain(), BufferedMetrics { events: vec![update(3)], dropped: 0 });
    }

    #[test]
    fn a_full_buffer_drops_updates_but_no_introduction() {
        let buffer = MetricsBuffer::new(1);
        let labels = Labels::default();
        buffer.bind(&Instrument::new("x", Shape::Counter), &labels).record(Value::Whole(1));
        let late = buffer.bind(&Instrument::new("y", Shape::Counter), &labels);
        late.record(Value::Whole(1));
        let drained = buffer.drain();
        assert_eq!((drained.events.len(), drained.dropped), (4, 1));
        late.record(Value::Whole(2));
        assert_eq!(buffer.drain().events.len(), 1);
    }

    #[test]
    fn label_sets_beyond_the_bound_share_one_number() {
        let buffer = MetricsBuffer::new(0);
        let instrument = Instrument::new("x", Shape::Counter);
        for number in 0..NUMBERS_MAX as i64 + 50 {
            buffer.bind(&instrument, &Labels::default().with("n", number));
        }
        assert_eq!(buffer.drain().events.len(), 1 + NUMBERS_MAX + 1);
    }
}
