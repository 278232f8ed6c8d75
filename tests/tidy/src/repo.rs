//! The repository as the rules see it: its files, and a way to say aloud that a rule could not be checked.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every file below the root whose name ends with `suffix`, relative to the root, in order. Hidden folders, build
/// output and generated code are left out.
pub fn files(suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), suffix, &mut found);
    let mut found: Vec<PathBuf> = found.iter().map(|p| p.strip_prefix(root()).unwrap().to_owned()).collect();
    found.retain(|p| !p.starts_with("proto/src/gen"));
    found.sort();
    found
}

fn walk(dir: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || ["target", "node_modules", "__pycache__"].contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), suffix, found);
        } else if name.ends_with(suffix) {
            found.push(entry.path());
        }
    }
}

/// The text of a file, by its path below the root.
pub fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Fails with the list of what is wrong, one a line.
#[track_caller]
pub fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Notes a rule that could not be checked where `make test` lists it; with REQUIRE_ALL=1 that is a failure.
pub fn skip(reason: &str) {
    assert!(
        std::env::var("REQUIRE_ALL").unwrap_or_default().is_empty(),
        "skipped with REQUIRE_ALL: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
    if let Some(list) = std::env::var_os("OUTLAST_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{reason}").unwrap();
    }
}
