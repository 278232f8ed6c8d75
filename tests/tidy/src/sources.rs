//! What every Rust file must open with, and what none may say.

use std::path::Path;

use crate::repo::{files, none, text};

/// Banned everywhere. Written in two halves so that this file does not break its own rule.
const BANNED: &[(&str, &str, &str)] = &[
    ("#[", "allow", "say #[expect(.., reason = \"..\")]"),
    ("#![", "allow", "say #![expect(.., reason = \"..\")]"),
    ("to", "do!(", "finish it, or file an issue"),
    ("unimple", "mented!(", "finish it, or file an issue"),
    ("thread::", "sleep", "wait for the thing itself"),
    ("#[igno", "re]", "an ignored test says why: #[ignore = \"..\"]"),
];

/// Banned in the sources of the pure crates, besides what their `clippy.toml` bans.
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "async fn",
];

#[test]
fn every_file_opens_with_what_it_is() {
    let missing = |path: &&std::path::PathBuf| !text(path).starts_with("//! ");
    none(
        files(".rs")
            .iter()
            .filter(missing)
            .map(|p| format!("{} does not open with //!", p.display()))
            .collect(),
    );
}

fn naming(path: &Path, banned: &str, instead: &str, wrong: &mut Vec<String>) {
    for (i, line) in text(path).lines().enumerate() {
        let code = line.trim_start();
        if code.contains(banned) && !code.starts_with("//") {
            wrong.push(format!("{}:{}: {banned} — {instead}", path.display(), i + 1));
        }
    }
}

#[test]
fn nobody_says_what_is_banned() {
    let mut wrong = Vec::new();
    for path in files(".rs") {
        for (start, end, instead) in BANNED {
            naming(&path, &format!("{start}{end}"), instead, &mut wrong);
        }
    }
    none(wrong);
}

#[test]
fn pure_crates_do_not_name_the_world() {
    let mut wrong = Vec::new();
    for path in files(".rs") {
        if path.starts_with("core/machine/src") || path.starts_with("core/vm/src") {
            for banned in IMPURE {
                naming(&path, banned, "this crate is pure", &mut wrong);
            }
        }
    }
    none(wrong);
}
