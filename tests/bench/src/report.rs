//! Rows of `bench.json`, and the table that people read. It knows the targets and the reference's figures, not how a value came about.

use serde_json::{Value, json};

/// One figure.
pub struct Row {
    /// Its name, for other programs.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// What measures it.
    pub command: String,
}

/// What a figure must be, and what the reference has.
#[derive(Clone, Copy, Default)]
struct Mark {
    at_most: Option<f64>,
    at_least: Option<f64>,
    reference: Option<f64>,
}

/// The reference's figures are the lowest of their range (`docs/performance.md`), so that no ratio flatters us.
fn mark(name: &str) -> Mark {
    let at_most = |limit| Mark { at_most: Some(limit), ..Mark::default() };
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["replay", "two_core_speedup"] => Mark { at_least: Some(1.8), ..Mark::default() },
        ["replay", "payloads_copied"] => at_most(0.0),
        ["replay", _, "instructions_ratio_10000_to_100"] => at_most(1.2),
        ["replay", _, _, "instructions_per_event"] => Mark { reference: Some(10_000.0), ..at_most(2_000.0) },
        ["replay", shape, _, "allocs_per_event"] => Mark {
            reference: match *shape {
                "timers" => Some(10.0),
                "activities" => Some(18.0),
                _ => None,
            },
            ..at_most(1.5)
        },
        ["replay", _, k, "ns_per_event"] => Mark {
            reference: match *k {
                "10" => Some(4_000.0),
                "100" => Some(5_000.0),
                "1000" => Some(19_000.0),
                "10000" => Some(421_000.0),
                _ => None,
            },
            ..Mark::default()
        },
        ["run", "idle_bytes" | "idle_after_10000_activities_bytes"] => {
            Mark { reference: Some(22.0 * 1024.0), ..at_most(4_096.0) }
        }
        ["live", "instructions_per_activity_cycle"] => {
            Mark { reference: Some(790_000.0), ..at_most(550_000.0) }
        }
        ["live", "instructions_per_polled_activity_cycle"] => at_most(550_000.0),
        ["live", "bare_calls_per_activity_cycle"] => Mark { reference: Some(450_000.0), ..Mark::default() },
        ["worker", "idle_rss_bytes"] => {
            Mark { reference: Some(16.0 * 1024.0 * 1024.0), ..at_most(10.0 * 1024.0 * 1024.0) }
        }
        _ => Mark::default(),
    }
}

/// The table.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<52} {:>12} {:<13} {:>9} {:>7} {:>12} {:>7}\n",
        "name", "value", "unit", "target", "holds", "reference", "ratio"
    );
    for row in rows {
        let mark = mark(&row.name);
        let (target, holds) = match (mark.at_most, mark.at_least) {
            (Some(limit), _) => (format!("<= {limit}"), yes(row.value <= limit)),
            (None, Some(limit)) => (format!(">= {limit}"), yes(row.value >= limit)),
            (None, None) => (String::new(), ""),
        };
        let reference = mark.reference.map(|r| format!("{r}")).unwrap_or_default();
        let ratio = mark.reference.map(|r| format!("{:.3}", row.value / r)).unwrap_or_default();
        let line = format!(
            "{:<52} {:>12.3} {:<13} {target:>9} {holds:>7} {reference:>12} {ratio:>7}",
            row.name, row.value, row.unit
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}

/// The rows as `bench.json` has them.
pub fn encode(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|r| json!({ "name": r.name, "value": r.value, "unit": r.unit, "command": r.command }))
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64) -> Row {
        Row { name: name.to_owned(), value, unit: "", command: "make bench".to_owned() }
    }

    #[test]
    fn a_target_that_is_missed_is_said() {
        let table = table(&[row("run.idle_bytes", 4_096.0), row("replay.two_core_speedup", 1.7)]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains(" yes "), "{table}");
        assert!(lines[2].ends_with(" NO"), "{table}");
    }

    #[test]
    fn rows_are_a_list_of_objects() {
        let text = encode(&[row("run.idle_bytes", 2.5)]);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read,
            json!([{ "name": "run.idle_bytes", "value": 2.5, "unit": "", "command": "make bench" }])
        );
    }
}
