//! Seeds, each a world of its own. `OUTLAST_SEEDS=10000` plays more, `OUTLAST_SEED=7` plays one and prints its trace.

use outlast_simulation::world::simulate;

/// Seeds that found something once.
const KEPT: &[u64] = &[];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

fn play(seed: u64) -> bool {
    let traced = number("OUTLAST_SEED").is_some();
    let played = std::panic::catch_unwind(|| simulate(seed, traced));
    if played.is_err() {
        eprintln!("seed {seed} fails: OUTLAST_SEED={seed} cargo test -p outlast-simulation -- --nocapture");
    }
    played.is_ok()
}

#[test]
fn every_seed_holds() {
    let seeds: Vec<u64> = match number("OUTLAST_SEED") {
        Some(seed) => vec![seed],
        None => KEPT.iter().copied().chain(0..number("OUTLAST_SEEDS").unwrap_or(500)).collect(),
    };
    let failed: Vec<u64> = seeds.iter().copied().filter(|&seed| !play(seed)).collect();
    assert!(failed.is_empty(), "{} of {} seeds fail: {failed:?}", failed.len(), seeds.len());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        assert!(first == second, "seed {seed} does not repeat");
        assert!(!first.trace.is_empty());
    }
}
