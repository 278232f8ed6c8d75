//! Slots: how many tasks of each kind may be worked on at once.
//!
//! A [`SlotSupplier`] decides (a [`FixedSlots`] number, [`ResourceSlots`] by memory and CPU, or a user's own); [`Slots`] deals its
//! slots out as [`Permit`]s, counts them, caps them and closes. A permit is *reserved*, then *used* for a task, and its
//! slot is *released* when it is dropped. Nothing here knows what a task is beyond its name.

mod dealer;
mod fixed;
pub mod host;
mod pid;
mod resource;
mod supplier;

pub use dealer::{Closed, Permit, Slots, SlotsCounts, SlotsOptions};
pub use fixed::FixedSlots;
pub use pid::{Pid, PidGains};
pub use resource::{ResourceController, ResourceOptions, ResourceSlots, ResourceTargets};
pub use supplier::{Boxed, SlotSupplier, SlotUse, Ticket, Wanted};

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlotKind {
    Workflow,
    Activity,
    LocalActivity,
    Nexus,
}
