//! Every dependency says in one line what it is for.

use crate::repo::{files, none, text};

/// The dependencies of a manifest that carry no comment, on their line or the one above.
fn unjustified(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut above = "";
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            // What the workspace only gives a version to is justified where it is used.
            let section = section.split(']').next().unwrap_or_default();
            inside = section.ends_with("dependencies") && !section.starts_with("workspace.");
            if section.contains("dependencies.") && !section.starts_with("workspace.") {
                found.push(format!("[{section}]: write it as one line"));
            }
        } else if inside && line.contains('=') && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !line.contains(" # ") && !above.starts_with("# ") {
                found.push(name.to_owned());
            }
        }
        above = line;
    }
    found
}

#[test]
fn every_dependency_is_justified() {
    let mut wrong = Vec::new();
    for path in files("Cargo.toml") {
        for name in unjustified(&text(&path)) {
            wrong.push(format!("{}: {name} has no comment that says what it is for", path.display()));
        }
    }
    none(wrong);
}

#[test]
fn a_missing_reason_is_seen() {
    let manifest = "[dependencies]\na = \"1\"\nb = \"1\" # for b\n# for c\nc.workspace = true\n[lints]\nworkspace = true\n";
    assert_eq!(unjustified(manifest), ["a"]);
    assert_eq!(unjustified("[dev-dependencies]\nd.workspace = true"), ["d"]);
    assert_eq!(unjustified("[target.'cfg(unix)'.dependencies]\ne = \"1\""), ["e"]);
    assert!(unjustified("[workspace.dependencies]\nf = \"1\"").is_empty());
    assert_eq!(unjustified("[dependencies.g]\nversion = \"1\"").len(), 1);
}

#[test]
fn every_crate_takes_the_workspaces_lints() {
    let own = ["proto/Cargo.toml", "Cargo.toml"]; // generated code has rules of its own; the root has no code
    let mut wrong = Vec::new();
    for path in files("Cargo.toml") {
        if !own.iter().any(|o| path.as_os_str() == *o) && !text(&path).contains("[lints]\nworkspace = true") {
            wrong.push(format!("{}: [lints] workspace = true is missing", path.display()));
        }
    }
    none(wrong);
}
