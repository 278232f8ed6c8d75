//! The tokio shell around the machine: everything that polls, waits, runs and reports.
//!
//! [`Worker`] is what a language talks to. Behind it, one loop for each shard of workflow runs, one for activities and
//! one for Nexus tasks; each owns a pure state machine, makes its calls, and hands tasks to the language. What a
//! history means is the machine's affair, how a call reaches the server the client's.

mod activity;
mod alarm;
mod calls;
mod clock;
mod conduct;
mod config;
mod counts;
mod delivery;
mod environment;
mod error;
mod grace;
mod handout;
mod health;
mod heartbeat;
mod nexus;
mod permits;
mod poll;
pub mod pollers;
mod recent;
mod remote;
mod replayer;
mod set;
mod shutdown;
mod sizes;
pub mod slots;
pub mod telemetry;
pub mod throttle;
mod worker;
mod workflow;

pub use config::{FixedSlots, Sdk, Slots, TaskTypes, Tuner, Versioning, WorkerConfig};
pub use error::{CompleteError, ConfigError, PollError};
pub use health::Health;
pub use pollers::PollerBehavior;
pub use replayer::{Pages, Replay, ReplayConfig, ReplayError, Replayer};
pub use set::WorkerSet;
pub use shutdown::Ending;
pub use worker::Worker;
