//! Compares the activations of this core with recorded ones: prints each difference with its reason.
//!
//! `cargo run --release --example activations -p outlast-machine -- FILE.jsonl.gz…`
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a development tool that reads files"
)]

#[path = "../tests/oracle/mod.rs"]
mod oracle;

use oracle::Verdict;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let (mut equal, mut explained, mut different) = (0, 0, 0);
    for case in oracle::load(&files) {
        match oracle::judge(&case) {
            Verdict::Equal => equal += 1,
            Verdict::Explained(why) => {
                explained += 1;
                println!("{}: explained: {why}", case.name);
            }
            Verdict::Different(what) => {
                different += 1;
                println!("{}: {what}", case.name);
            }
        }
    }
    println!("{equal} equal, {explained} explained, {different} different");
    std::process::exit(i32::from(different > 0));
}
