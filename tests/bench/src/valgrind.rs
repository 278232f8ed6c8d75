//! Counts that do not wobble: instructions (callgrind) and heap blocks (dhat) of a child process. It knows what the tools
//! print, not what the child does. What a child does once is left out by taking the difference of two runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Instructions by function.
#[derive(Debug, Default)]
pub struct Profile {
    functions: BTreeMap<String, i64>,
}

impl Profile {
    /// All of them.
    pub fn all(&self) -> i64 {
        self.functions.values().sum()
    }

    /// Those that only move memory. Valgrind counts `rep movsb` once per byte, so they say nothing about time.
    pub fn moves(&self) -> i64 {
        let is_move = |name: &str| name.contains("memcpy") || name.contains("memmove");
        self.functions.iter().filter(|(name, _)| is_move(name)).map(|(_, n)| n).sum()
    }

    /// What this has beyond `other`.
    pub fn minus(mut self, other: &Self) -> Self {
        for (name, n) in &other.functions {
            *self.functions.entry(name.clone()).or_default() -= n;
        }
        self
    }

    /// The functions that take the most, without what they call.
    pub fn top(&self, count: usize) -> Vec<(&str, i64)> {
        let mut all: Vec<_> = self.functions.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        all.sort_by_key(|(_, n)| -n);
        all.truncate(count);
        all
    }
}

/// What a child allocated.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// Blocks, over its whole life.
    pub blocks: i64,
    /// Bytes it still held at its end.
    pub bytes_left: i64,
}

/// Whether valgrind is here.
pub fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Instructions of this program with these arguments.
pub fn instructions(args: &[&str]) -> Profile {
    let out = scratch();
    run("callgrind", &[format!("--callgrind-out-file={}", out.display())], args);
    let text = std::fs::read_to_string(&out).expect("callgrind writes its file");
    std::fs::remove_file(&out).expect("the file is ours");
    parse_callgrind(&text)
}

/// Allocations of this program with these arguments.
pub fn heap(args: &[&str]) -> Heap {
    let said = run("dhat", &["--dhat-out-file=/dev/null".to_owned()], args);
    parse_dhat(&said)
}

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("outlast-bench-{}.callgrind", std::process::id()))
}

/// Runs this program under a tool, and returns what the tool said.
fn run(tool: &str, options: &[String], args: &[&str]) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let child =
        Command::new("valgrind").arg(format!("--tool={tool}")).args(options).arg(program).args(args).output();
    let child = child.expect("valgrind is installed");
    let said = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(child.status.success(), "{tool} {args:?}: {said}");
    said
}

/// Sums the cost lines of each function; the line after `calls=` is the cost of the callee and is left out.
fn parse_callgrind(text: &str) -> Profile {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut profile = Profile::default();
    let mut function = "";
    let mut is_call = false;
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            let (id, name) = value.split_once(' ').unwrap_or((value, ""));
            if matches!(key, "fn" | "cfn") && !name.is_empty() {
                names.insert(id, name);
            }
            match key {
                "fn" => function = names.get(id).copied().unwrap_or(id),
                "calls" => is_call = true,
                _ => {}
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            let cost = line.split(' ').nth(1).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
            if !std::mem::take(&mut is_call) {
                *profile.functions.entry(function.to_owned()).or_default() += cost;
            }
        }
    }
    profile
}

/// `Total: 1,234 bytes in 56 blocks`, `At t-end: 78 bytes in 9 blocks`.
fn parse_dhat(said: &str) -> Heap {
    let words = |label: &str| -> Vec<String> {
        let line = said.lines().find(|l| l.contains(label)).unwrap_or_else(|| panic!("no {label} in {said}"));
        let rest = line.split_once(label).map_or("", |(_, rest)| rest);
        rest.split_whitespace().map(|w| w.replace(',', "")).collect()
    };
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{word} is no number in {said}"));
    Heap { blocks: number(&words("Total:")[3]), bytes_left: number(&words("At t-end:")[0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_holds_what_each_function_costs_without_its_callees() {
        let text = "events: Ir\nfn=(1) main\n16 100\ncfn=(2) memcpy\ncalls=3 20\n17 900\n+2 5\n\nfn=(2)\n20 890\n* 10\nfn=(1)\n3 1\n";
        let profile = parse_callgrind(text);
        assert_eq!(profile.top(9), [("memcpy", 900), ("main", 106)]);
        assert_eq!((profile.all(), profile.moves()), (1006, 900));
    }

    #[test]
    fn dhat_is_read() {
        let said = "==1== Total:     1,234 bytes in 56 blocks\n==1== At t-gmax: 1 bytes in 1 blocks\n==1== At t-end:  78 bytes in 9 blocks\n";
        let heap = parse_dhat(said);
        assert_eq!((heap.blocks, heap.bytes_left), (56, 78));
    }
}
