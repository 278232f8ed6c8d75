//! Which crate may use which: the map of `docs/architecture.md`, read off `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::repo::{none, root};

/// What each crate may use of ours, directly. A crate that is not here has no place on the map yet.
const EDGES: &[(&str, &[&str])] = &[
    ("outlast-proto", &[]),
    ("outlast-machine", &["outlast-proto"]),
    ("outlast-vm", &["outlast-proto"]),
    ("outlast-client", &["outlast-proto"]),
    ("outlast-server", &["outlast-proto"]),
    ("outlast-worker", &["outlast-proto", "outlast-machine", "outlast-client"]),
    (
        "outlast-core",
        &[
            "outlast-proto",
            "outlast-machine",
            "outlast-vm",
            "outlast-client",
            "outlast-worker",
            "outlast-server",
        ],
    ),
    ("outlast-macros", &[]),
    ("outlast", &["outlast-core", "outlast-macros"]),
    ("outlast-cli", &["outlast-core"]),
    ("outlast-bridge-python", &["outlast-core"]),
    ("outlast-bridge-node", &["outlast-core"]),
    ("outlast-bridge-uniffi", &["outlast-core"]),
];

/// Edges that exist only behind a feature.
const OPTIONAL: &[(&str, &str)] = &[("outlast-core", "outlast-server")];

/// Crates that hold tests: they may use anything, and nothing may use them.
const TESTS: &[&str] =
    &["outlast-tidy", "outlast-bench", "outlast-simulation", "outlast-conformance", "outlast-fuzz"];

/// Crates that are a function of their inputs, and what therefore must not be below them.
const PURE: &[&str] = &["outlast-machine", "outlast-vm"];
const WORLD: &[&str] = &[
    "tokio",
    "tonic",
    "hyper",
    "h2",
    "mio",
    "socket2",
    "rustls",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "uuid",
    "tempfile",
    "rusqlite",
    "async-std",
    "smol",
    "reqwest",
    "libc",
];

fn metadata() -> Value {
    let run = |offline: bool| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]).current_dir(root());
        if offline {
            cargo.arg("--offline");
        }
        cargo.output().unwrap()
    };
    // Crates for other platforms are missing until somebody fetches them; then offline is enough.
    let mut out = run(true);
    if !out.status.success() {
        out = run(false);
    }
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// The packages of this workspace.
fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids: BTreeSet<&str> =
        list(metadata, "workspace_members").iter().map(|id| id.as_str().unwrap()).collect();
    list(metadata, "packages").iter().filter(move |p| ids.contains(string(p, "id")))
}

fn allowed(user: &str) -> Option<&'static [&'static str]> {
    EDGES.iter().find(|(name, _)| *name == user).map(|(_, uses)| *uses)
}

#[test]
fn crates_use_only_what_the_map_allows() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = members(&metadata).map(|p| string(p, "name")).collect();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        let user = string(package, "name");
        if TESTS.contains(&user) {
            continue;
        }
        let Some(uses) = allowed(user) else {
            wrong
                .push(format!("{user} has no place on the map: add it to EDGES and to docs/architecture.md"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let name = string(dependency, "name");
            if !ours.contains(name) || dependency["kind"] == "dev" {
                continue;
            }
            if !uses.contains(&name) {
                wrong.push(format!("{user} must not use {name}"));
            }
            if OPTIONAL.contains(&(user, name)) && dependency["optional"] != true {
                wrong.push(format!("{user} may use {name} only behind a feature"));
            }
        }
    }
    none(wrong);
}

#[test]
fn nothing_uses_a_test_crate() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in members(&metadata) {
        for dependency in list(package, "dependencies") {
            let (user, name) = (string(package, "name"), string(dependency, "name"));
            if TESTS.contains(&name) {
                wrong.push(format!("{user} must not use the test crate {name}"));
            }
        }
    }
    none(wrong);
}

/// The names of all crates that end up in `start`: dependencies of every target and feature, without tests and builds.
fn below<'a>(metadata: &'a Value, start: &str) -> BTreeMap<&'a str, &'a str> {
    let names: BTreeMap<&str, &str> =
        list(metadata, "packages").iter().map(|p| (string(p, "id"), string(p, "name"))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().map(|n| (string(n, "id"), n)).collect();
    let mut seen = BTreeMap::new();
    let mut open: Vec<&str> = names.iter().filter(|(_, name)| **name == start).map(|(id, _)| *id).collect();
    while let Some(id) = open.pop() {
        for dependency in list(nodes[id], "deps") {
            let normal = list(dependency, "dep_kinds").iter().any(|k| k["kind"].is_null());
            let used = string(dependency, "pkg");
            if normal && seen.insert(names[used], names[id]).is_none() {
                open.push(used);
            }
        }
    }
    seen
}

#[test]
fn nothing_below_a_pure_crate_touches_the_world() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for pure in PURE {
        for (name, user) in below(&metadata, pure) {
            if WORLD.contains(&name) {
                wrong.push(format!("{pure} is pure, but {user} below it uses {name}"));
            }
        }
    }
    none(wrong);
}

/// The walk above finds what is there: a pure crate stands on the wire types, and those on prost.
#[test]
fn the_walk_sees_indirect_dependencies() {
    let metadata = metadata();
    assert!(below(&metadata, "outlast-proto").contains_key("bytes"));
    assert!(below(&metadata, "outlast-proto").contains_key("anyhow"), "prost-derive uses it");
    assert!(!below(&metadata, "outlast-proto").contains_key("protox"), "only tests use it");
}
