//! A fixed number of slots.

use super::supplier::{Boxed, SlotSupplier, SlotUse, Ticket, Wanted};
use tokio::sync::Semaphore;

/// As many slots as said, served in the order asked.
#[derive(Debug)]
pub struct FixedSlots {
    free: Semaphore,
}

impl FixedSlots {
    pub fn new(count: usize) -> Self {
        FixedSlots { free: Semaphore::new(count.min(Semaphore::MAX_PERMITS)) }
    }
}

impl SlotSupplier for FixedSlots {
    fn name(&self) -> &str {
        "Fixed"
    }

    fn reserve<'a>(&'a self, _: &'a Wanted) -> Boxed<'a, Ticket> {
        Box::pin(async {
            self.free.acquire().await.expect("this semaphore is never closed").forget();
            Ticket::plain()
        })
    }

    fn try_reserve(&self, _: &Wanted) -> Option<Ticket> {
        self.free.try_acquire().ok()?.forget();
        Some(Ticket::plain())
    }

    fn release(&self, _: Ticket, _: &Wanted, _: Option<&SlotUse>) {
        self.free.add_permits(1);
    }

    fn available(&self) -> Option<usize> {
        Some(self.free.available_permits())
    }
}
