//! The tokio shell around the machine: everything that polls, waits, runs and reports.

pub mod pollers;
pub mod slots;
pub mod telemetry;
pub mod throttle;
