//! `make bench`: what the core costs, in counts first. Without arguments it measures everything, prints a table with targets
//! and the reference, and writes `bench.json`; the other forms are what it runs under valgrind, and `profile` for people.
//! It knows no targets of its own: those are the issue's.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod history;
mod idle;
mod language;
mod replay;
mod valgrind;

use history::{Shape, write};
use replay::Replayer;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["profile", shape, k] => profile(shape, k),
        ["replay", shape, k, times] => {
            let shape: Shape = shape.parse().expect("SHAPE");
            let history = write(shape, k.parse().expect("K"), 8).encode();
            let mut replayer = Replayer::new(shape);
            for _ in 0..times.parse().expect("TIMES") {
                replayer.replay(&history, |_, _| {});
            }
            replayer.check();
        }
        ["idle", runs, activities] => {
            let shard = idle::shard(runs.parse().expect("RUNS"), activities.parse().expect("ACTIVITIES"));
            std::mem::forget(shard);
        }
        _ => eprintln!("usage"),
    }
}

fn profile(shape: &str, k: &str) {
    let shape_: Shape = shape.parse().expect("SHAPE");
    let k_: u32 = k.parse().expect("K");
    let events = write(shape_, k_, 8).events() as f64;
    let n = (1000 / k_).max(1);
    let (a, b) = (n.to_string(), (2 * n).to_string());
    let p = valgrind::instructions(&["replay", shape, k, &b])
        .minus(&valgrind::instructions(&["replay", shape, k, &a]));
    let h =
        valgrind::heap(&["replay", shape, k, &b]).blocks - valgrind::heap(&["replay", shape, k, &a]).blocks;
    let per = |x: i64| x as f64 / (events * f64::from(n));
    println!(
        "{shape} K={k}: {:.0} instructions an event, {:.0} of them moves; {:.3} allocations",
        per(p.all()),
        per(p.moves()),
        per(h)
    );
    for (name, cost) in p.top(15) {
        println!("{:8.1}  {name}", per(cost));
    }
}
