//! Time, for orientation: CPU time of one thread per event, and how much two threads get done together.

use std::time::Instant;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::history::{Shape, write};
use crate::replay::Replayer;

/// CPU nanoseconds an event: the median of several measurements of about 100,000 events each.
pub fn cpu_ns_per_event(shape: Shape, k: u32) -> f64 {
    let written = write(shape, k, 8);
    let (history, events) = (written.encode(), written.events());
    let times = (100_000 / events).max(1);
    let mut replayer = Replayer::new(shape);
    replayer.replay(&history, |_, _| {});
    let mut measured: Vec<f64> = (0..7)
        .map(|_| {
            let before = cpu_ns();
            (0..times).for_each(|_| replayer.replay(&history, |_, _| {}));
            (cpu_ns() - before) as f64 / (times * events) as f64
        })
        .collect();
    replayer.check();
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}

fn cpu_ns() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// How much faster two threads, each with a shard of its own, replay the same number of histories than one. The best of
/// several measurements of each: other work on the machine only ever makes one slower.
pub fn two_core_speedup() -> f64 {
    let history = write(Shape::Activities, 100, 8).encode();
    let best = |threads: usize| -> f64 {
        let measured = (0..9).map(|_| wall_seconds(&history, threads, 800 / threads));
        measured.fold(f64::INFINITY, f64::min)
    };
    best(1) / best(2)
}

fn wall_seconds(history: &Bytes, threads: usize, histories: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            // Each has a buffer of its own, as histories from a server have.
            let history = Bytes::from(history.to_vec());
            scope.spawn(move || {
                let mut replayer = Replayer::new(Shape::Activities);
                (0..histories).for_each(|_| replayer.replay(&history, |_, _| {}));
                replayer.check();
            });
        }
    });
    start.elapsed().as_secs_f64()
}
