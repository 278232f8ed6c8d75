//! Every recorded replay gives the activations of the reference core, or differs for a reason that is known and wanted:
//! in one page, in small pages, and cut at every task.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "test code reads its data"
)]

mod oracle;

use std::path::PathBuf;

use oracle::{Case, Verdict};

fn data(files: &[&str]) -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    files.iter().map(|f| dir.join(f)).collect()
}

fn events(case: &Case) -> usize {
    use outlast_proto::lens::history::History;
    use prost::Message as _;
    History::decode(case.history.clone()).unwrap().events.len()
}

/// Counts verdicts; anything unexplained fails the test.
fn judge(cases: &[Case]) -> (usize, usize) {
    let (mut equal, mut explained, mut different) = (0, 0, Vec::new());
    for case in cases {
        match oracle::judge(case) {
            Verdict::Equal => equal += 1,
            Verdict::Explained(_) => explained += 1,
            Verdict::Different(what) => different.push(format!("{}: {what}", case.name)),
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    (equal, explained)
}

#[test]
fn whole_histories() {
    assert_eq!(judge(&oracle::load(&data(&["recordings.jsonl.gz"]))), (433, 129));
}

#[test]
fn histories_cut_at_every_task() {
    let cases = oracle::load(&data(&["cuts.jsonl.gz"]));
    assert_eq!(judge(&cases), (686, 142));
}

#[test]
fn scripts_with_one_change() {
    let cases = oracle::load(&data(&["mutations.jsonl.gz"]));
    assert_eq!(judge(&cases), (1028, 145));
}

#[test]
fn pages_make_no_difference() {
    for case in oracle::load(&data(&["recordings.jsonl.gz"])) {
        let whole = oracle::play(&case);
        // Every size for what was recorded by hand; some for the long generated programs.
        let sizes = if case.name.starts_with("golden") {
            (1..=events(&case)).collect()
        } else {
            vec![1, 2, 3, 7, 64]
        };
        for size in sizes {
            let paged = oracle::play_in_pages(&case, size);
            assert_eq!(paged.activations, whole.activations, "{} in pages of {size}", case.name);
            assert_eq!(paged.message, whole.message, "{} in pages of {size}", case.name);
        }
    }
}
