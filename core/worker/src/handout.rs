//! The queue between a half of the worker and the language that polls it: cancellations go before new tasks,
//! yet never before the task that they cancel. Closed, it gives what is left and then says so.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// A queue with many askers. What is in it is bounded by the slots of the tasks it holds.
#[derive(Debug)]
pub(crate) struct Handout<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<Item<T>>,
    closed: bool,
}

#[derive(Debug)]
struct Item<T> {
    key: Bytes,
    cancels: bool,
    value: T,
}

impl<T> Handout<T> {
    pub(crate) fn new() -> Self {
        let state = State { queue: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    /// A new task, last in line.
    pub(crate) fn push(&self, key: Bytes, value: T) {
        self.lock().queue.push_back(Item { key, cancels: false, value });
        self.arrived.notify_one();
    }

    /// A cancellation: behind its own task if that is still here, else behind earlier cancellations.
    pub(crate) fn push_cancel(&self, key: Bytes, value: T) {
        let mut state = self.lock();
        let own = state.queue.iter().position(|item| item.key == key).map(|at| at + 1);
        let at = own.unwrap_or_else(|| state.queue.iter().take_while(|item| item.cancels).count());
        state.queue.insert(at, Item { key, cancels: true, value });
        drop(state);
        self.arrived.notify_one();
    }

    /// The next one; `None` once it is closed and empty.
    pub(crate) async fn next(&self) -> Option<T> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                if let Some(item) = state.queue.pop_front() {
                    if !state.queue.is_empty() || state.closed {
                        self.arrived.notify_one();
                    }
                    return Some(item.value);
                }
                if state.closed {
                    self.arrived.notify_one();
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancellation_overtakes_other_tasks_but_not_its_own() {
        let handout = Handout::new();
        handout.push("a".into(), "start a");
        handout.push("b".into(), "start b");
        handout.push_cancel("x".into(), "cancel x");
        handout.push_cancel("a".into(), "cancel a");
        handout.close();
        let mut given = Vec::new();
        while let Some(next) = handout.next().await {
            given.push(next);
        }
        assert_eq!(given, ["cancel x", "start a", "cancel a", "start b"]);
    }

    #[tokio::test]
    async fn closing_wakes_everyone_who_waits() {
        let handout = std::sync::Arc::new(Handout::<()>::new());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let handout = handout.clone();
                tokio::spawn(async move { handout.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        handout.close();
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), None);
        }
    }
}
