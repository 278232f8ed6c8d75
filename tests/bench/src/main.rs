//! `make bench`: what the core costs, in counts first. Without arguments it measures everything, prints a table with targets
//! and the reference, and writes `bench.json` in the root of the repository. The other forms are what it runs under valgrind,
//! and `profile` for people. Nothing here gates: a target that is missed is said.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

mod calls;
mod counts;
mod history;
mod idle;
mod language;
mod live;
mod payloads;
mod replay;
mod report;
mod server;
mod time;
mod valgrind;

use std::path::Path;

use counts::PerEvent;
use history::{Shape, write};
use language::Language;
use replay::{Exchange, Replayer};
use report::Row;

const KS: [u32; 4] = [10, 100, 1_000, 10_000];
const PROGRAM: &str = "cargo run --release -p outlast-bench --";
const USAGE: &str = "outlast-bench                     measure everything, write bench.json
outlast-bench replay SHAPE K N    replay a history of SHAPE (timers, activities, fanout, signals) N times
outlast-bench replay-bytes SHAPE K N   the same, activations and completions as bytes
outlast-bench language SHAPE K N  only the language's part of it
outlast-bench idle RUNS K         cache runs with an open timer after K activities
outlast-bench cores               how much faster two threads are than one
outlast-bench profile SHAPE K     the functions that take the most instructions
outlast-bench cycles SERVER N K   N workflows with K activities each, on a worker at a server (host:port)
outlast-bench polled SERVER N K   the same, without activities in the replies to workflow tasks
outlast-bench calls SERVER N K    the same with bare calls
outlast-bench rest SERVER         an idle worker: bytes of memory, wake-ups a second
outlast-bench profile PART        the same list for `cycles`, `polled` or `calls`, at a server of its own";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => everything(),
        ["replay", shape, k, times] => replay(parse(shape), parse(k), parse(times), Exchange::Typed),
        ["replay-bytes", shape, k, times] => replay(parse(shape), parse(k), parse(times), Exchange::Bytes),
        ["language", shape, k, times] => language(parse(shape), parse(k), parse(times)),
        // Forgotten, so that what it holds is what is left at the end.
        ["idle", runs, activities] => std::mem::forget(idle::shard(parse(runs), parse(activities))),
        ["cores"] => println!("{:.3}", time::two_core_speedup()),
        ["cycles", address, n, k] => live::cycles(address, parse(n), parse(k), true),
        ["polled", address, n, k] => live::cycles(address, parse(n), parse(k), false),
        ["calls", address, n, k] => calls::calls(address, parse(n), parse(k)),
        ["rest", address] => {
            let (rss, wakes) = live::rest(address);
            println!("{rss} {wakes}");
        }
        ["profile", part @ ("cycles" | "polled" | "calls")] => profile_live(part),
        ["profile", shape, k] => profile(parse(shape), parse(k)),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    }
}

fn parse<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| {
        eprintln!("{word}?\n{USAGE}");
        std::process::exit(2)
    })
}

fn replay(shape: Shape, k: u32, times: u32, exchange: Exchange) {
    let history = write(shape, k, 8).encode();
    let mut replayer = Replayer::new(shape, exchange);
    (0..times).for_each(|_| replayer.replay(&history, |_| {}));
    replayer.check();
}

/// The activations of one replay, given to the language so many times. The activations are the core's part: as many are made
/// whatever `times` is, so that the difference of two runs leaves them out.
fn language(shape: Shape, k: u32, times: usize) {
    let history = write(shape, k, 8).encode();
    let mut activations = Vec::new();
    Replayer::new(shape, Exchange::Typed).replay(&history, |activation| activations.push(activation.clone()));
    let copies = vec![activations; counts::TIMES_MAX];
    let mut language = Language::new();
    for activation in copies.into_iter().take(times).flatten() {
        std::hint::black_box(language.activate(activation));
    }
    assert_eq!(language.completed, times, "not more than {} times", counts::TIMES_MAX);
}

fn profile(shape: Shape, k: u32) {
    let count = PerEvent::count("replay", shape, k);
    println!(
        "{} K={k}: {:.0} instructions an event and {:.0} of moves, {:.3} allocations",
        shape.name(),
        count.instructions(),
        count.moves(),
        count.allocations
    );
    for (name, instructions) in count.top(15) {
        println!("{instructions:8.1}  {name}");
    }
}

fn profile_live(part: &str) {
    let server = server::Server::start().unwrap_or_else(|problem| {
        eprintln!("{problem}");
        std::process::exit(2)
    });
    let cycle = live::Cycle::count(part, &server.address);
    println!("{part}: {:.0} instructions an activity cycle", cycle.instructions());
    for (name, instructions) in cycle.top(40) {
        println!("{instructions:8.0}  {name}");
    }
}

/// Rows of a worker at a real server.
fn live(rows: &mut Vec<Row>, left_out: &mut Vec<String>) {
    let server = match server::Server::start() {
        Ok(server) => server,
        Err(problem) => return left_out.push(format!("all of live.* and worker.*: {problem}")),
    };
    eprintln!("watching an idle worker");
    let idle = live::idle(&server.address);
    rows.push(row("worker.idle_rss_bytes", idle.rss, "bytes", "rest SERVER"));
    rows.push(row("worker.idle_wakes_per_second", idle.wakes, "1/s", "rest SERVER"));
    if !valgrind::is_installed() {
        return;
    }
    for (part, name) in [
        ("cycles", "live.instructions_per_activity_cycle"),
        ("polled", "live.instructions_per_polled_activity_cycle"),
        ("calls", "live.bare_calls_per_activity_cycle"),
    ] {
        eprintln!("counting {part} at a server");
        let cycle = live::Cycle::count(part, &server.address);
        rows.push(row(name, cycle.instructions(), "1/cycle", &format!("profile {part}")));
    }
}

fn everything() {
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    live(&mut rows, &mut left_out);
    if valgrind::is_installed() {
        Shape::REPLAYED.into_iter().for_each(|shape| counted(shape, &mut rows));
        held(&mut rows);
    } else {
        left_out.push("all instructions, allocations and bytes: valgrind is not installed".to_owned());
    }
    for shape in Shape::REPLAYED {
        for k in KS {
            let name = format!("replay.{}.{k}.ns_per_event", shape.name());
            rows.push(row(name, time::cpu_ns_per_event(shape, k), "ns/event", ""));
        }
    }
    rows.push(row("replay.two_core_speedup", two_core_speedup(), "ratio", "cores"));
    let copied =
        payloads::copied(Shape::Signals, 10, 1 << 20) + payloads::copied(Shape::Activities, 10, 1 << 20);
    rows.push(row("replay.payloads_copied", copied as f64, "payloads", ""));
    print!("{}", report::table(&rows));
    for what in left_out {
        println!("!!!! LEFT OUT: {what}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench.json");
    std::fs::write(&path, report::encode(&rows)).expect("the root of the repository can be written");
}

/// In processes of their own, whose memory no other measurement has touched; the best of three, since other work on the
/// machine can only hide the answer.
fn two_core_speedup() -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let once = || {
        let output =
            std::process::Command::new(&program).arg("cores").output().expect("this program runs again");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a ratio is printed")
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

/// Instructions and allocations of a shape's replays.
fn counted(shape: Shape, rows: &mut Vec<Row>) {
    let name = shape.name();
    let mut by_k = Vec::new();
    for k in KS {
        eprintln!("counting {name}, K = {k}");
        let count = PerEvent::count("replay", shape, k);
        let args = format!("replay {name} {k} N");
        let per_event = |what: &str| format!("replay.{name}.{k}.{what}_per_event");
        rows.push(row(per_event("instructions"), count.instructions(), "1/event", &args));
        rows.push(row(per_event("move_instructions"), count.moves(), "1/event", &args));
        rows.push(row(per_event("allocs"), count.allocations, "1/event", &args));
        by_k.push(count.instructions());
    }
    let growth = by_k[3] / by_k[1];
    rows.push(row(format!("replay.{name}.instructions_ratio_10000_to_100"), growth, "ratio", ""));
    let count = PerEvent::count("replay-bytes", shape, 1_000);
    let args = format!("replay-bytes {name} 1000 N");
    let per_event = |what: &str| format!("replay.{name}.1000.as_bytes.{what}_per_event");
    rows.push(row(per_event("instructions"), count.instructions(), "1/event", &args));
    rows.push(row(per_event("allocs"), count.allocations, "1/event", &args));
    let count = PerEvent::count("language", shape, 1_000);
    let args = format!("language {name} 1000 N");
    let per_event = |what: &str| format!("replay.{name}.1000.language.{what}_per_event");
    rows.push(row(per_event("instructions"), count.instructions(), "1/event", &args));
    rows.push(row(per_event("allocs"), count.allocations, "1/event", &args));
}

/// Memory of cached runs.
fn held(rows: &mut Vec<Row>) {
    eprintln!("counting bytes of cached runs");
    let idle = counts::idle_bytes();
    rows.push(row("run.idle_bytes", idle, "bytes", "idle 1000 0"));
    let after = idle + counts::left_by_activities(10_000);
    rows.push(row("run.idle_after_10000_activities_bytes", after, "bytes", "idle 4 10000"));
}

/// `args`: what runs under valgrind; empty for what is measured in this process.
fn row(name: impl Into<String>, value: f64, unit: &'static str, args: &str) -> Row {
    let command = if args.is_empty() { "make bench".to_owned() } else { format!("{PROGRAM} {args}") };
    Row { name: name.into(), value, unit, command }
}
