//! A bounded ring of records, for a binding that takes them out in batches on a thread of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::LogRecord;

/// How many records a buffer holds unless told otherwise.
pub const RECORDS_MAX: usize = 2048;

/// A ring of records; when full, the oldest goes and is counted. Clones share it.
#[derive(Clone, Debug)]
pub struct LogBuffer(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    records_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<LogRecord>,
    dropped: u64,
    /// The one who waits wants to be woken at this many records.
    wanted: usize,
    closed: bool,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogBatch {
    pub records: Vec<LogRecord>,
    /// Records lost since the last time because nobody took them.
    pub dropped: u64,
}

impl Default for LogBuffer {
    fn default() -> Self {
        LogBuffer::new(RECORDS_MAX)
    }
}

impl LogBuffer {
    pub fn new(records_max: usize) -> Self {
        LogBuffer(Arc::new(Ring { records_max, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Takes everything out.
    pub fn drain(&self) -> LogBatch {
        self.state().take(usize::MAX)
    }

    /// Blocks this thread until there are records; then for `linger` more, or until there are `records_max`, which is
    /// how many it takes at most. `None` once the buffer is closed and empty.
    pub fn next(&self, records_max: usize, linger: Duration) -> Option<LogBatch> {
        let state = self.wait(self.state(), 1, None);
        let state = self.wait(state, records_max, Some(Instant::now() + linger));
        let mut state = state;
        if state.records.is_empty() && state.closed { None } else { Some(state.take(records_max)) }
    }

    /// No more records are taken in; whoever waits goes on.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.changed.notify_all();
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        wanted: usize,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.wanted = wanted;
        while state.records.len() < wanted && !state.closed {
            let changed = &self.0.changed;
            let Some(until) = until else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wanted = 0;
        state
    }

    pub(super) fn push(&self, record: LogRecord) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if state.records.len() >= self.0.records_max {
            state.dropped += 1;
            state.records.pop_front();
        }
        if self.0.records_max > 0 {
            state.records.push_back(record);
        }
        let wake = state.wanted > 0 && state.records.len() >= state.wanted;
        drop(state);
        if wake {
            self.0.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, records_max: usize) -> LogBatch {
        let count = self.records.len().min(records_max);
        LogBatch {
            records: self.records.drain(..count).collect(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogTo, Logs};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn log(buffer: &LogBuffer, count: usize) {
        Logs::new(LogTo::Buffer(buffer.clone()), "info".parse().unwrap()).within(|| {
            for number in 0..count {
                tracing::info!("{number}");
            }
        });
    }

    fn texts(batch: &LogBatch) -> Vec<&str> {
        batch.records.iter().map(|record| &*record.message).collect()
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts() {
        let buffer = LogBuffer::new(2);
        log(&buffer, 5);
        let batch = buffer.drain();
        assert_eq!((texts(&batch), batch.dropped), (vec!["3", "4"], 3));
        assert_eq!(buffer.drain(), LogBatch::default());
    }

    #[test]
    fn batches_are_of_the_wanted_size_and_end_when_closed() {
        let buffer = LogBuffer::default();
        let waiter = std::thread::spawn({
            let buffer = buffer.clone();
            move || {
                let sizes = std::iter::from_fn(|| buffer.next(2, LONG)).map(|batch| batch.records.len());
                sizes.collect::<Vec<_>>()
            }
        });
        log(&buffer, 5);
        buffer.close();
        log(&buffer, 1);
        assert_eq!(waiter.join().unwrap(), [2, 2, 1]);
    }

    #[test]
    fn the_first_record_does_not_wait_for_ever() {
        let buffer = LogBuffer::default();
        log(&buffer, 1);
        assert_eq!(texts(&buffer.next(100, Duration::from_millis(1)).unwrap()), ["0"]);
    }
}
