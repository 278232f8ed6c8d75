//! Rates held down: how often heartbeats are sent and how fast tasks are taken.
//!
//! Pure: every call is told the time.

mod bucket;
mod heartbeat;

pub use bucket::TokenBucket;
pub use heartbeat::{Ending, HeartbeatThrottle, heartbeat_interval};
