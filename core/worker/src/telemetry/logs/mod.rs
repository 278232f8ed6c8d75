//! Where log records go: the console, a buffer that a binding drains in batches, or a callback.
//!
//! Records come from `tracing`; spans are `tracing` spans, so whoever wants OpenTelemetry spans adds such a layer beside
//! [`Forward`]. Knows nothing of what is logged.

mod buffer;
mod console;
mod filter;

pub use buffer::{LogBatch, LogBuffer, RECORDS_MAX};
pub use console::{Console, LogFormat};
pub use filter::{Alias, LogFilter};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::dispatcher::{Dispatch, set_default, with_default};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
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

/// A callback that takes each record as it is logged, on the thread that logs. It must not log itself.
pub type LogPush = Arc<dyn Fn(LogRecord) + Send + Sync>;

/// Where records go.
#[derive(Clone)]
pub enum LogTo {
    /// Standard error or output.
    Console(Console),
    Buffer(LogBuffer),
    Push(LogPush),
}

impl LogTo {
    fn push(self) -> LogPush {
        match self {
            LogTo::Console(console) => Arc::new(move |record| console.write(&record)),
            LogTo::Buffer(buffer) => Arc::new(move |record| buffer.push(record)),
            LogTo::Push(push) => push,
        }
    }
}

/// A subscriber for one destination, for `tracing::subscriber::set_global_default` or `with_default`.
pub fn subscriber(to: LogTo, filter: LogFilter) -> impl Subscriber + Send + Sync {
    let forward = Forward { push: to.push(), alias: filter.alias() };
    Registry::default().with(filter).with(forward)
}

/// Where the records of some threads go, and not those of the whole process.
///
/// ```
/// use outlast_worker::telemetry::logs::{LogBuffer, LogTo, Logs};
/// let buffer = LogBuffer::default();
/// let logs = Logs::new(LogTo::Buffer(buffer.clone()), "info".parse()?);
/// tracing::info!("not here");
/// logs.within(|| tracing::info!("here"));
/// assert_eq!(buffer.drain().records.len(), 1);
/// # Ok::<(), tracing_subscriber::filter::ParseError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Logs(Option<Dispatch>);

impl Logs {
    /// Records go to one destination.
    pub fn new(to: LogTo, filter: LogFilter) -> Self {
        Self(Some(Dispatch::new(subscriber(to, filter))))
    }

    /// Records go where the process sends them.
    pub fn inherited() -> Self {
        Self(None)
    }

    /// Runs `f`; what it logs on this thread goes here.
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(dispatch) => with_default(dispatch, f),
            None => f(),
        }
    }

    /// From now on, and until it ends, what this thread logs goes here.
    pub fn adopt_thread(&self) {
        if let Some(dispatch) = &self.0 {
            // The guard would end it.
            std::mem::forget(set_default(dispatch));
        }
    }
}

/// The layer that makes records of events, for those who build their own subscriber.
pub struct Forward {
    push: LogPush,
    alias: Alias,
}

impl Forward {
    /// Records carry the names of targets as they are.
    pub fn new(push: LogPush) -> Self {
        Self { push, alias: |target| target.into() }
    }
}

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
        (self.push)(LogRecord {
            time: SystemTime::now(),
            level: *metadata.level(),
            target: (self.alias)(metadata.target()).into_owned(),
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
    use std::sync::Mutex;

    fn forwarded(filter: &str, logging: impl FnOnce()) -> Vec<LogRecord> {
        let buffer = LogBuffer::default();
        Logs::new(LogTo::Buffer(buffer.clone()), filter.parse().unwrap()).within(logging);
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
    fn a_callback_gets_each_record() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let push: LogPush = Arc::new({
            let seen = seen.clone();
            move |record: LogRecord| seen.lock().unwrap().push(record.message)
        });
        Logs::new(LogTo::Push(push), "info".parse().unwrap()).within(|| tracing::info!("here"));
        assert_eq!(*seen.lock().unwrap(), ["here"]);
    }

    #[test]
    fn a_thread_keeps_to_its_own_destination() {
        let (own, other) = (LogBuffer::default(), LogBuffer::default());
        let logs = |to: &LogBuffer| Logs::new(LogTo::Buffer(to.clone()), "info".parse().unwrap());
        let (own_logs, other_logs) = (logs(&own), logs(&other));
        std::thread::spawn(move || {
            own_logs.adopt_thread();
            tracing::info!("own");
            other_logs.within(|| tracing::info!("other"));
            Logs::inherited().within(|| tracing::info!("own again"));
        })
        .join()
        .unwrap();
        let texts = |buffer: LogBuffer| {
            buffer.drain().records.into_iter().map(|record| record.message).collect::<Vec<_>>()
        };
        assert_eq!(
            (texts(own), texts(other)),
            (vec!["own".into(), "own again".into()], vec!["other".into()])
        );
    }
}
