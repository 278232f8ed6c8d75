//! The calls that a loop has under way, driven by the loop itself: an answer wakes the loop and nobody else, and no task
//! is started for it on another thread. A call that panics ends alone.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::future::{CatchUnwind, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::slots::Boxed;

/// Calls that come to a `T`. Dropping it drops them.
pub(crate) struct Calls<T>(FuturesUnordered<CatchUnwind<AssertUnwindSafe<Boxed<'static, T>>>>);

/// A call panicked.
#[derive(Debug, thiserror::Error)]
#[error("a call broke off: {0}")]
pub(crate) struct Broken(String);

impl<T> Calls<T> {
    pub(crate) fn new() -> Self {
        Self(FuturesUnordered::new())
    }

    /// One more call; it begins when the next answer is waited for.
    pub(crate) fn start(&mut self, call: impl Future<Output = T> + Send + 'static) {
        let call: Boxed<'static, T> = Box::pin(call);
        self.0.push(AssertUnwindSafe(call).catch_unwind());
    }

    /// The next that is over; waits for ever if none is under way. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<T, Broken> {
        match self.0.next().await {
            Some(done) => done.map_err(|panic| Broken(words(&*panic))),
            None => std::future::pending().await,
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_call_that_is_over_is_told_once() {
        let mut calls = Calls::new();
        calls.start(std::future::pending());
        calls.start(async { 1 });
        calls.start(async { 2 });
        let mut told = [calls.next().await.unwrap(), calls.next().await.unwrap()];
        told.sort_unstable();
        assert_eq!(told, [1, 2]);
    }

    #[tokio::test]
    async fn a_panic_ends_one_call() {
        let mut calls = Calls::new();
        calls.start(async { panic!("no") });
        assert_eq!(calls.next().await.unwrap_err().to_string(), "a call broke off: no");
        calls.start(async { 1 });
        assert_eq!(calls.next().await.unwrap(), 1);
    }
}
