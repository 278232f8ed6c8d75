//! The queue between a half of the worker and the language that polls it: cancellations go before new tasks,
//! yet never before the task that they cancel. Closed, it gives what is left and then says so.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::PollError;

/// A queue with many askers. What is in it is bounded by the slots of the tasks it holds.
#[derive(Debug)]
pub(crate) struct Handout<T> {
    state: Mutex<State<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<Item<T>>,
    /// Told to one asker, once.
    problem: Option<String>,
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
        let state = State { queue: VecDeque::new(), problem: None, closed: false };
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

    /// No task will come from the server any more, for this reason. What is asked meanwhile still comes.
    pub(crate) fn fail(&self, problem: String) {
        self.lock().problem = Some(problem);
        self.arrived.notify_one();
    }

    /// The next one; the error says that it is over, or what is wrong.
    pub(crate) async fn next(&self) -> Result<T, PollError> {
        loop {
            if let Some(next) = self.lock().take() {
                // One notification wakes one asker; whoever was served wakes the next.
                self.arrived.notify_one();
                return next;
            }
            self.arrived.notified().await;
        }
    }

    /// Nothing more will come; what is left is given, unless `drop` says otherwise.
    pub(crate) fn close(&self, drop: bool) {
        let mut state = self.lock();
        state.closed = true;
        if drop {
            state.queue.clear();
        }
        self.arrived.notify_one();
    }

    /// Forgets what is in it.
    pub(crate) fn clear(&self) {
        self.lock().queue.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<Result<T, PollError>> {
        if let Some(problem) = self.problem.take() {
            return Some(Err(PollError::Fatal(problem)));
        }
        match self.queue.pop_front() {
            Some(item) => Some(Ok(item.value)),
            None if self.closed => Some(Err(PollError::ShutDown)),
            None => None,
        }
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
        handout.close(false);
        let mut given = Vec::new();
        while let Ok(next) = handout.next().await {
            given.push(next);
        }
        assert_eq!(given, ["cancel x", "start a", "cancel a", "start b"]);
    }

    #[tokio::test]
    async fn a_problem_is_told_once_and_then_work_goes_on() {
        let handout = Handout::new();
        handout.push("a".into(), "start a");
        handout.fail("no such namespace".into());
        assert_eq!(handout.next().await, Err(PollError::Fatal("no such namespace".into())));
        assert_eq!(handout.next().await, Ok("start a"));
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
        handout.close(false);
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), Err(PollError::ShutDown));
        }
    }
}
