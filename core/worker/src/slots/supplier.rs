//! The seam at which slots are supplied. Users implement it too, across a language border, so it is small and says
//! exactly when each method is called.

use super::SlotKind;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future behind a pointer; the trait must be usable as an object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who wants a slot, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: SlotKind,
    pub task_queue: Arc<str>,
    /// For a workflow slot: it is to poll the sticky queue.
    pub is_sticky: bool,
    pub worker_identity: Arc<str>,
    /// Empty if the worker is not versioned.
    pub worker_build_id: Arc<str>,
    pub worker_deployment: Arc<str>,
}

impl Wanted {
    pub fn new(kind: SlotKind, task_queue: impl Into<Arc<str>>) -> Self {
        let none: Arc<str> = "".into();
        Wanted {
            kind,
            task_queue: task_queue.into(),
            is_sticky: false,
            worker_identity: none.clone(),
            worker_build_id: none.clone(),
            worker_deployment: none,
        }
    }
}

/// What a slot is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotUse {
    Workflow { workflow_type: String, is_sticky: bool },
    Activity { activity_type: String },
    LocalActivity { activity_type: String },
    Nexus { service: String, operation: String },
}

/// A slot as its supplier knows it; a user's supplier may attach a value of its own.
#[derive(Default)]
pub struct Ticket(Option<Box<dyn Any + Send + Sync>>);

impl Ticket {
    pub fn plain() -> Self {
        Ticket(None)
    }

    pub fn with(value: impl Any + Send + Sync) -> Self {
        Ticket(Some(Box::new(value)))
    }

    /// The attached value, if it is a `T`.
    pub fn value<T: Any>(&self) -> Option<&T> {
        self.0.as_deref().and_then(|value| value.downcast_ref())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

/// Supplies slots of one kind.
///
/// For each ticket given out: at most one [`mark_used`](Self::mark_used), then exactly one [`release`](Self::release).
/// A [`reserve`](Self::reserve) future may be dropped at any await; then no ticket was given and none must be lost.
///
/// ```
/// use outlast_worker::slots::{Boxed, SlotSupplier, SlotUse, Ticket, Wanted};
/// /// No limit at all.
/// struct Endless;
/// impl SlotSupplier for Endless {
///     fn name(&self) -> &str {
///         "Endless"
///     }
///     fn reserve<'a>(&'a self, _: &'a Wanted) -> Boxed<'a, Ticket> {
///         Box::pin(async { Ticket::plain() })
///     }
///     fn try_reserve(&self, _: &Wanted) -> Option<Ticket> {
///         Some(Ticket::plain())
///     }
/// }
/// ```
pub trait SlotSupplier: Send + Sync + 'static {
    /// For heartbeats and logs: `Fixed`, `ResourceBased`, ...
    fn name(&self) -> &str;

    /// Waits until there is a slot.
    fn reserve<'a>(&'a self, wanted: &'a Wanted) -> Boxed<'a, Ticket>;

    /// A slot if there is one right now.
    fn try_reserve(&self, wanted: &Wanted) -> Option<Ticket>;

    /// The ticket's slot now runs this.
    fn mark_used(&self, _ticket: &Ticket, _used: &SlotUse) {}

    /// The ticket's slot is free again; `used` says what it ran, if anything. Must not block.
    fn release(&self, _ticket: Ticket, _wanted: &Wanted, _used: Option<&SlotUse>) {}

    /// How many more could be reserved, if that is known.
    fn available(&self) -> Option<usize> {
        None
    }

    /// The most that could be out at once, asked before any is; `None`: that is not known.
    fn most(&self) -> Option<usize> {
        self.available()
    }
}
