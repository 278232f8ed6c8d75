//! Slots as the shell holds them: a permit is given back by dropping it.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Debug)]
pub(crate) struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<Semaphore>);

impl Permits {
    pub(crate) fn new(count: usize) -> Self { Self(Arc::new(Semaphore::new(count))) }
    pub(crate) async fn reserve(&self) -> Permit {
        Permit(self.0.clone().acquire_owned().await.expect("never closed"))
    }
    pub(crate) fn try_reserve(&self) -> Option<Permit> {
        self.0.clone().try_acquire_owned().ok().map(Permit)
    }
}
