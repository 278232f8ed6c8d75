//! Deals a supplier's slots as permits that give themselves back, and counts, caps and closes them.
//!
//! The counts, and whether it is closed, change together under one watch channel: a permit is either counted before the
//! close, and then waited for, or refused.

use super::supplier::{SlotSupplier, SlotUse, Ticket, Wanted};
use crate::telemetry::SlotGauges;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// No more permits: the worker shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker is shutting down and gives out no more slots")]
pub struct Closed;

/// What [`Slots`] adds to its supplier.
#[derive(Clone, Debug)]
pub struct SlotsOptions {
    /// At most so many permits at once, whatever the supplier says.
    pub permits_max: Option<usize>,
    pub gauges: SlotGauges,
}

impl Default for SlotsOptions {
    fn default() -> Self {
        SlotsOptions { permits_max: None, gauges: SlotGauges::none() }
    }
}

impl SlotsOptions {
    /// The cap of workflow slots: a run beyond the cache would only wait for another's eviction.
    pub fn for_cache(runs_max: usize) -> Option<usize> {
        (runs_max > 0).then(|| runs_max.max(2))
    }
}

/// How many permits are out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotsCounts {
    /// Held, used or not.
    pub held: usize,
    /// Held and running a task.
    pub used: usize,
    /// Permits used for a task so far, since the beginning.
    pub used_ever: u64,
    /// No new ones are given.
    pub closed: bool,
}

/// The dealer of one kind of slot. Cheap to clone; clones share everything.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outlast_worker::slots::{FixedSlots, SlotKind, SlotUse, Slots, SlotsOptions, Wanted};
/// use std::sync::Arc;
/// let slots = Slots::new(Arc::new(FixedSlots::new(1)), SlotsOptions::default());
/// let wanted = Wanted::new(SlotKind::Activity, "orders");
/// let mut permit = slots.reserve(wanted.clone()).await.unwrap();
/// permit.mark_used(SlotUse::Activity { activity_type: "charge".into() });
/// assert!(slots.try_reserve(wanted.clone()).is_none());
/// drop(permit);
/// assert!(slots.try_reserve(wanted).is_some());
/// # });
/// ```
#[derive(Clone)]
pub struct Slots(Arc<Shared>);

struct Shared {
    supplier: Arc<dyn SlotSupplier>,
    cap: Option<Arc<Semaphore>>,
    gauges: SlotGauges,
    counts: watch::Sender<SlotsCounts>,
    /// Wakes those who wait for a slot; apart from the counts, which would wake them at every change.
    closing: watch::Sender<bool>,
}

impl Slots {
    pub fn new(supplier: Arc<dyn SlotSupplier>, options: SlotsOptions) -> Self {
        let cap = options.permits_max.map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        let shared = Shared {
            supplier,
            cap,
            gauges: options.gauges,
            counts: watch::Sender::new(SlotsCounts::default()),
            closing: watch::Sender::new(false),
        };
        shared.measure(SlotsCounts::default());
        Slots(Arc::new(shared))
    }

    /// Waits for a slot. Dropping the future gives up and leaves nothing behind.
    pub async fn reserve(&self, wanted: Wanted) -> Result<Permit, Closed> {
        let mut closing = self.0.closing.subscribe();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => Err(Closed),
            permit = self.reserve_open(wanted) => permit,
        }
    }

    async fn reserve_open(&self, wanted: Wanted) -> Result<Permit, Closed> {
        let cap = match &self.0.cap {
            Some(cap) => Some(cap.clone().acquire_owned().await.map_err(|_| Closed)?),
            None => None,
        };
        let ticket = self.0.supplier.reserve(&wanted).await;
        // No await from here on: the ticket is in a permit before anybody can drop this future.
        self.permit(ticket, wanted, cap)
    }

    /// A slot if there is one right now.
    pub fn try_reserve(&self, wanted: Wanted) -> Option<Permit> {
        if self.0.counts.borrow().closed {
            return None;
        }
        let cap = match &self.0.cap {
            Some(cap) => Some(cap.clone().try_acquire_owned().ok()?),
            None => None,
        };
        let ticket = self.0.supplier.try_reserve(&wanted)?;
        self.permit(ticket, wanted, cap).ok()
    }

    fn permit(
        &self,
        ticket: Ticket,
        wanted: Wanted,
        cap: Option<OwnedSemaphorePermit>,
    ) -> Result<Permit, Closed> {
        let mut closed = false;
        self.0.change(|counts| {
            counts.held += 1;
            closed = counts.closed;
        });
        let permit = Permit { slots: self.0.clone(), ticket: Some(ticket), wanted, used: None, cap };
        // Closed in between: the permit goes back by being dropped.
        if closed { Err(Closed) } else { Ok(permit) }
    }

    /// Refuses every reservation from now on, also those that wait.
    pub fn close(&self) {
        self.0.change(|counts| counts.closed = true);
        self.0.closing.send_replace(true);
    }

    /// Waits until every permit has come back. New ones may be given meanwhile unless closed first.
    pub async fn all_returned(&self) {
        let mut counts = self.0.counts.subscribe();
        let returned = counts.wait_for(|counts| counts.held == 0).await;
        debug_assert!(returned.is_ok(), "the sender is in self");
    }

    pub fn counts(&self) -> SlotsCounts {
        *self.0.counts.borrow()
    }

    /// Slots that no task occupies, if the supplier knows: those of polls in flight count as free.
    pub fn available(&self) -> Option<usize> {
        self.0.available(self.counts())
    }

    /// The supplier's name.
    pub fn supplier_name(&self) -> &str {
        self.0.supplier.name()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({}, {:?})", self.supplier_name(), self.counts())
    }
}

impl Shared {
    fn change(&self, how: impl FnOnce(&mut SlotsCounts)) {
        self.counts.send_modify(how);
        // Others may change and show counts at the same time; whoever shows last must have shown the latest.
        loop {
            let shown = *self.counts.borrow();
            self.measure(shown);
            if *self.counts.borrow() == shown {
                return;
            }
        }
    }

    fn measure(&self, counts: SlotsCounts) {
        self.gauges.used.set(counts.used);
        if let Some(available) = self.available(counts) {
            self.gauges.available.set(available);
        }
    }

    fn available(&self, counts: SlotsCounts) -> Option<usize> {
        // What was configured, whatever the cap: dashboards compare it with that.
        let cap = || self.cap.as_ref().map(|cap| cap.available_permits());
        let unreserved = self.supplier.available().or_else(cap)?;
        Some(unreserved + (counts.held - counts.used))
    }
}

/// The right to work on one task. Dropping it gives the slot back.
#[must_use]
pub struct Permit {
    slots: Arc<Shared>,
    /// Taken only by drop.
    ticket: Option<Ticket>,
    wanted: Wanted,
    used: Option<SlotUse>,
    cap: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// The slot now runs this; said once, further calls change nothing.
    pub fn mark_used(&mut self, what: SlotUse) {
        if self.used.is_some() {
            return;
        }
        if let Some(ticket) = &self.ticket {
            self.slots.supplier.mark_used(ticket, &what);
        }
        self.used = Some(what);
        self.slots.change(|counts| {
            counts.used += 1;
            counts.used_ever += 1;
        });
    }

    /// What it runs, once said.
    pub fn used(&self) -> Option<&SlotUse> {
        self.used.as_ref()
    }

    /// What was asked for when it was reserved.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.slots.supplier.release(ticket, &self.wanted, self.used.as_ref());
        }
        drop(self.cap.take());
        // Counted out last: when all have returned, their supplier knows it too.
        let used = usize::from(self.used.is_some());
        self.slots.change(|counts| {
            counts.held -= 1;
            counts.used -= used;
        });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?}, used: {:?})", self.wanted.kind, self.used)
    }
}

#[cfg(test)]
mod tests;
