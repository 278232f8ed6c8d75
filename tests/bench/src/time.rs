//! Time, for orientation: CPU time of one thread per event, and how much two threads get done together.

use std::sync::Barrier;
use std::time::Instant;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::history::{Shape, write};
use crate::replay::{Exchange, Replayer};

/// CPU nanoseconds an event: the median of several measurements of about 100,000 events each.
pub fn cpu_ns_per_event(shape: Shape, k: u32) -> f64 {
    let written = write(shape, k, 8);
    let (history, events) = (written.encode(), written.events());
    let times = (100_000 / events).max(1);
    let mut replayer = Replayer::new(shape, Exchange::Typed);
    replayer.replay(&history, |_| {});
    let mut measured: Vec<f64> = (0..7)
        .map(|_| {
            let before = cpu_ns();
            (0..times).for_each(|_| replayer.replay(&history, |_| {}));
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
/// many short rounds of each: other work on the machine only ever makes a round longer.
pub fn two_core_speedup() -> f64 {
    let history = write(Shape::Activities, 100, 8).encode();
    quickest(&history, 1, 12) / quickest(&history, 2, 6)
}

/// The seconds of the quickest round in which each of `threads` threads replays so many histories.
fn quickest(history: &Bytes, threads: usize, histories: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let rounds: Vec<Vec<Round>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| rounds(history.to_vec().into(), histories, &barrier)))
            .collect();
        all.into_iter().map(|thread| thread.join().expect("a thread replays")).collect()
    });
    let seconds = (0..ROUNDS).map(|n| {
        let start = rounds.iter().map(|of| of[n].start).min();
        let end = rounds.iter().map(|of| of[n].end).max();
        end.zip(start).map_or(f64::INFINITY, |(end, start)| (end - start).as_secs_f64())
    });
    seconds.fold(f64::INFINITY, f64::min)
}

const ROUNDS: usize = 1_500;

struct Round {
    start: Instant,
    end: Instant,
}

fn rounds(history: Bytes, histories: usize, barrier: &Barrier) -> Vec<Round> {
    let mut replayer = Replayer::new(Shape::Activities, Exchange::Typed);
    let rounds = (0..ROUNDS).map(|_| {
        barrier.wait();
        let start = Instant::now();
        (0..histories).for_each(|_| replayer.replay(&history, |_| {}));
        Round { start, end: Instant::now() }
    });
    let rounds = rounds.collect();
    replayer.check();
    rounds
}
