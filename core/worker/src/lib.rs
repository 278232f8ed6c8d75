//! The tokio shell around the machine: everything that polls, waits, runs and reports.

pub mod slots;
pub mod telemetry;
