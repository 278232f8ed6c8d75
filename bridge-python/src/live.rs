//! Counts what is alive, so that tests can see that nothing leaks. A [`Live`] inside an object is its count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Runtime,
    Client,
    Worker,
    Server,
    Future,
    Loop,
}

const NAMES: [&str; 6] = ["runtimes", "clients", "workers", "servers", "futures", "loops"];
static COUNTS: [AtomicUsize; 6] = [const { AtomicUsize::new(0) }; 6];

/// One living object of a kind.
#[derive(Debug)]
pub struct Live(Kind);

impl Live {
    pub fn new(kind: Kind) -> Self {
        COUNTS[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self(kind)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        COUNTS[self.0 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counts by name.
pub fn counts() -> BTreeMap<&'static str, usize> {
    NAMES.iter().zip(&COUNTS).map(|(name, count)| (*name, count.load(Ordering::Relaxed))).collect()
}
