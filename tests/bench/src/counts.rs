//! Counts of replays and of cached runs: differences between runs of this program under valgrind.

use crate::history::{Shape, write};
use crate::valgrind::{Profile, heap, instructions};

/// How often a child does its work at most.
pub const TIMES_MAX: usize = 200;

/// What a part of this program costs, an event.
pub struct PerEvent {
    /// Allocated blocks.
    pub allocations: f64,
    profile: Profile,
    events: f64,
}

impl PerEvent {
    /// `part`, `replay` or `language`, of histories of a shape and size.
    pub fn count(part: &str, shape: Shape, k: u32) -> Self {
        let times = (1_000 / k).max(1);
        let (once, twice, k_text) = (times.to_string(), (2 * times).to_string(), k.to_string());
        let (once, twice) = ([part, shape.name(), &k_text, &once], [part, shape.name(), &k_text, &twice]);
        let events = write(shape, k, 8).events() as f64 * f64::from(times);
        let blocks = heap(&twice).blocks - heap(&once).blocks;
        let profile = instructions(&twice).minus(&instructions(&once));
        Self { allocations: blocks as f64 / events, profile, events }
    }

    /// Instructions without memory moves, as the reference is counted.
    pub fn instructions(&self) -> f64 {
        (self.profile.all() - self.profile.moves()) as f64 / self.events
    }

    /// Instructions of memory moves.
    pub fn moves(&self) -> f64 {
        self.profile.moves() as f64 / self.events
    }

    /// The functions that take the most instructions.
    pub fn top(&self, count: usize) -> Vec<(&str, f64)> {
        self.profile.top(count).into_iter().map(|(name, n)| (name, n as f64 / self.events)).collect()
    }
}

/// Heap bytes of a cached idle run with one open timer: a thousand of them in a shard, without what an empty shard holds.
pub fn idle_bytes() -> f64 {
    (idle(1_000, 0) - idle(0, 0)) as f64 / 1_000.0
}

/// What `activities` finished activities leave behind in such a run.
pub fn left_by_activities(activities: u32) -> f64 {
    (idle(4, activities) - idle(4, 0)) as f64 / 4.0
}

fn idle(runs: u32, activities: u32) -> i64 {
    heap(&["idle", &runs.to_string(), &activities.to_string()]).bytes_left
}
