//! Polls in flight: how many, on which queue, and what becomes of their answers.
//!
//! [`Scaling`] and [`pick`] are pure decisions; [`Pollers`] is the loop that follows them. A poll is a closure that
//! returns a future: nothing here knows a client or what a task is.

mod balance;
mod driver;
mod lane;
mod scaling;
mod streak;

pub use balance::{LaneLoad, pick, split};
pub use driver::{Pollers, PollersOptions};
pub use lane::{Failed, Judge, Lane, Poll, PollHints, Polled, Stop, Stopper, Verdict};
pub use scaling::{PollOutcome, PollerBehavior, Scaling};
