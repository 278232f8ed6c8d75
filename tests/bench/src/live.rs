//! Rows that need a worker at a server. The worker is not driven from here yet, so they are named and left out, never zero.

/// Rows of `bench.json` that nothing measures yet.
pub const MISSING: [&str; 2] = ["live.instructions_per_activity_cycle", "worker.idle_rss_bytes"];
