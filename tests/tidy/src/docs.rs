//! Documents point at things that exist.

use crate::repo::{files, none, root, text};

/// The targets of a document's links that are paths.
fn paths(markdown: &str) -> Vec<&str> {
    let mut inside_code = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside_code = !inside_code;
        }
        if inside_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target);
            }
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for path in files(".md") {
        let text = text(&path);
        for target in paths(&text) {
            if !root().join(path.parent().unwrap()).join(target).exists() {
                wrong.push(format!("{}: nothing at {target}", path.display()));
            }
        }
    }
    none(wrong);
}

#[test]
fn links_are_found() {
    let text = "[a](b.md#c) and [d](https://e) [f](g)\n```\n[h](i)\n```\n[j](#k)";
    assert_eq!(paths(text), ["b.md", "g"]);
}

/// Every decision is a file of its own with a number of its own.
#[test]
fn decisions_have_numbers_of_their_own() {
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for path in files(".md").iter().filter(|p| p.starts_with("docs/decisions")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 3 || number.parse::<u16>().is_err() || !seen.insert(number.to_owned()) {
            wrong.push(format!("{name} does not begin with three digits of its own"));
        }
    }
    none(wrong);
}
