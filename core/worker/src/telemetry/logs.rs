//! Where log records go: the console, a buffer that a binding drains in batches, or a callback.
//!
//! Records come from `tracing`; spans are `tracing` spans, so whoever wants OpenTelemetry spans adds such a layer beside
//! [`Forward`]. Knows nothing of what is logged.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry, Scope};

/// One log record, ready to cross a language border.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    pub time: SystemTime,
    pub level: Level,
    /// The module that logged: `outlast_worker::pollers`.
    pub target: String,
    pub message: String,
    /// The event's own fields over those of the spans around it.
    pub fields: BTreeMap<&'static str, LogField>,
    /// Names of the spans around it, outermost first.
    pub spans: Vec<&'static str>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum LogField {
    Bool(bool),
    Int(i64),
    Whole(u64),
    Float(f64),
    Text(String),
}

/// Which records are kept: by target and level.
///
/// ```
/// use outlast_worker::telemetry::logs::LogFilter;
/// use tracing::Level;
/// let by_words: LogFilter = "warn,outlast_worker::pollers=trace".parse().unwrap();
/// let by_levels = LogFilter::levels(Some(Level::DEBUG), Some(Level::ERROR));
/// assert!(by_words.keeps("outlast_worker::pollers", Level::TRACE));
/// assert!(by_levels.keeps("outlast_client", Level::DEBUG) && !by_levels.keeps("hyper", Level::WARN));
/// ```
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

/// The prefix of every target of our own crates.
const CORE: &str = "outlast";

impl LogFilter {
    /// One level for Outlast's own crates and one for all others; none, nothing.
    pub fn levels(core: Option<Level>, others: Option<Level>) -> Self {
        let level = |level: Option<Level>| level.map_or(LevelFilter::OFF, LevelFilter::from_level);
        LogFilter(Targets::new().with_default(level(others)).with_target(CORE, level(core)))
    }

    pub fn keeps(&self, target: &str, level: Level) -> bool {
        self.0.would_enable(target, &level)
    }
}

impl FromStr for LogFilter {
    type Err = ParseError;

    /// Reads what `RUST_LOG` holds: `level` or `target=level`, separated by commas.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(LogFilter)
    }
}

/// How many records a buffer holds unless told otherwise.
pub const RECORDS_MAX: usize = 2048;

/// A ring of records; when full, the oldest goes and is counted. Clones share it.
#[derive(Clone, Debug)]
pub struct LogBuffer(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    records_max: usize,
    state: Mutex<(VecDeque<LogRecord>, u64)>,
    filled: Notify,
}

/// What [`LogBuffer::drain`] took out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogBatch {
    pub records: Vec<LogRecord>,
    /// Records lost since the last drain because nobody drained in time.
    pub dropped: u64,
}

impl Default for LogBuffer {
    fn default() -> Self {
        LogBuffer::new(RECORDS_MAX)
    }
}

impl LogBuffer {
    pub fn new(records_max: usize) -> Self {
        LogBuffer(Arc::new(Ring { records_max, state: Mutex::default(), filled: Notify::new() }))
    }

    /// Takes everything out.
    pub fn drain(&self) -> LogBatch {
        let (records, dropped) = std::mem::take(&mut *self.state());
        LogBatch { records: records.into(), dropped }
    }

    /// Waits until there is something to drain.
    pub async fn filled(&self) {
        loop {
            let filled = self.0.filled.notified();
            if !self.state().0.is_empty() {
                return;
            }
            filled.await;
        }
    }

    fn push(&self, record: LogRecord) {
        let mut state = self.state();
        let (records, dropped) = &mut *state;
        if records.len() >= self.0.records_max {
            *dropped += 1;
            records.pop_front();
        }
        if self.0.records_max > 0 {
            records.push_back(record);
        }
        drop(state);
        self.0.filled.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, (VecDeque<LogRecord>, u64)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A callback that takes each record as it is logged, on the thread that logs. It must not log itself.
pub type LogPush = Arc<dyn Fn(LogRecord) + Send + Sync>;

/// Where records go.
#[derive(Clone)]
pub enum LogTo {
    /// Standard error, one line each.
    Console,
    Buffer(LogBuffer),
    Push(LogPush),
}

/// A subscriber for one destination, for `tracing::subscriber::set_global_default` or `with_default`.
pub fn subscriber(to: LogTo, filter: LogFilter) -> Box<dyn Subscriber + Send + Sync> {
    match to {
        LogTo::Console => {
            let console = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            Box::new(Registry::default().with(console.with_filter(filter.0)))
        }
        LogTo::Buffer(buffer) => {
            let push: LogPush = Arc::new(move |record| buffer.push(record));
            Box::new(Registry::default().with(Forward(push).with_filter(filter.0)))
        }
        LogTo::Push(push) => Box::new(Registry::default().with(Forward(push).with_filter(filter.0))),
    }
}

/// The layer that makes records of events, for those who build their own subscriber.
pub struct Forward(pub LogPush);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Forward {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            spans.push(span.name());
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend(outer.0.iter().map(|(name, value)| (*name, value.clone())));
            }
        }
        // A span's own field of this name is not the record's message.
        fields.0.remove(MESSAGE);
        event.record(&mut fields);
        let message = match fields.0.remove(MESSAGE) {
            Some(LogField::Text(text)) => text,
            Some(other) => format!("{other:?}"),
            None => String::new(),
        };
        let metadata = event.metadata();
        (self.0)(LogRecord {
            time: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message,
            fields: fields.0,
            spans,
        });
    }
}

/// The name `tracing` gives to an event's text.
const MESSAGE: &str = "message";

#[derive(Default)]
struct Fields(BTreeMap<&'static str, LogField>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), LogField::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), LogField::Text(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), LogField::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), LogField::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), LogField::Whole(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), LogField::Float(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::subscriber::with_default;

    fn forwarded(filter: &str, logging: impl FnOnce()) -> Vec<LogRecord> {
        let buffer = LogBuffer::default();
        with_default(subscriber(LogTo::Buffer(buffer.clone()), filter.parse().unwrap()), logging);
        buffer.drain().records
    }

    #[test]
    fn a_record_carries_its_fields_and_those_of_its_spans() {
        let records = forwarded("info", || {
            let span =
                tracing::info_span!("turn", run_id = "r1", attempt = 1, result = tracing::field::Empty);
            let _in = span.enter();
            span.record("result", true);
            tracing::warn!(target: "outlast_x", attempt = 2, took = 0.5, "slow {}", "turn");
        });
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!(
            (record.level, &*record.target, &*record.message),
            (Level::WARN, "outlast_x", "slow turn")
        );
        assert_eq!(record.spans, ["turn"]);
        let expected = [
            ("attempt", LogField::Int(2)),
            ("result", LogField::Bool(true)),
            ("run_id", LogField::Text("r1".into())),
            ("took", LogField::Float(0.5)),
        ];
        assert_eq!(record.fields, expected.into());
    }

    #[test]
    fn only_what_the_filter_keeps_is_forwarded() {
        let records = forwarded("error,outlast_x=debug", || {
            tracing::debug!(target: "outlast_x::deep", "kept");
            tracing::trace!(target: "outlast_x", "too fine");
            tracing::warn!(target: "hyper", "not ours");
        });
        assert_eq!(records.iter().map(|r| &*r.message).collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts() {
        let buffer = LogBuffer::new(2);
        with_default(subscriber(LogTo::Buffer(buffer.clone()), "info".parse().unwrap()), || {
            for number in 0..5 {
                tracing::info!("{number}");
            }
        });
        let batch = buffer.drain();
        assert_eq!(batch.records.iter().map(|r| &*r.message).collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!(batch.dropped, 3);
        assert_eq!(buffer.drain(), LogBatch::default());
    }

    #[tokio::test]
    async fn a_waiter_learns_of_the_first_record() {
        let buffer = LogBuffer::default();
        let waiter = tokio::spawn({
            let buffer = buffer.clone();
            async move {
                buffer.filled().await;
                buffer.drain().records.len()
            }
        });
        tokio::task::yield_now().await;
        with_default(subscriber(LogTo::Buffer(buffer), "info".parse().unwrap()), || tracing::info!("x"));
        assert_eq!(waiter.await.unwrap(), 1);
    }

    #[test]
    fn a_callback_gets_each_record() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let push: LogPush = Arc::new({
            let seen = seen.clone();
            move |record: LogRecord| seen.lock().unwrap().push(record.message)
        });
        with_default(subscriber(LogTo::Push(push), "info".parse().unwrap()), || tracing::info!("here"));
        assert_eq!(*seen.lock().unwrap(), ["here"]);
    }
}
