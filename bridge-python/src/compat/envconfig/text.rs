//! What is wrong with a profile, in the words that users of the package know: place, line and marker first.

use std::error::Error as _;
use std::ops::Range;

use outlast_core::Error;
use outlast_core::envconfig::{Problem, UnknownKey, Wanted};

pub const LOADING: &str = "Configuration loading error: ";

/// The text of an error of the core about the file `toml`.
pub fn told(error: &Error, toml: &str, strict: bool) -> String {
    let problem = error.source().and_then(|source| source.downcast_ref::<Problem>());
    match problem {
        Some(Problem::Syntax { at, message, .. }) => placed(toml, at, message),
        Some(Problem::Unknown(keys)) => keys.first().map_or_else(String::new, |key| unknown(key, toml)),
        Some(Problem::Mistyped { at, wanted, found, .. }) => {
            let message = format!("invalid type: {found}, expected {}", expected(*wanted, strict));
            placed(toml, at, &message)
        }
        Some(Problem::Both { path, data }) => {
            let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
            format!("Invalid configuration: Cannot specify both {} and {}", last(path), last(data))
        }
        Some(Problem::Flag { .. } | Problem::NoProfile { .. }) | None => format!("{LOADING}{error}"),
    }
}

fn unknown(key: &UnknownKey, toml: &str) -> String {
    let name = key.path.last().map_or("", String::as_str);
    let known: Vec<String> = key.known.iter().map(|known| format!("`{known}`")).collect();
    let known = match known.as_slice() {
        [one] => one.clone(),
        [one, other] => format!("{one} or {other}"),
        more => format!("one of {}", more.join(", ")),
    };
    placed(toml, &key.at, &format!("unknown field `{name}`, expected {known}"))
}

/// What the value should have been; the package's users see the names of structs that are no longer anywhere.
fn expected(wanted: Wanted, strict: bool) -> String {
    let table = |name: &str| format!("struct {}TomlClientConfig{name}", if strict { "Strict" } else { "" });
    match wanted {
        Wanted::Text => "a string".into(),
        Wanted::Flag => "a boolean".into(),
        Wanted::Profiles | Wanted::Meta => "a map".into(),
        Wanted::Profile => table("Profile"),
        Wanted::Tls => table("TLS"),
        Wanted::Codec => table("Codec"),
    }
}

/// The line that is wrong, and markers below what is wrong in it.
fn placed(toml: &str, at: &Range<usize>, message: &str) -> String {
    let (before, after) = toml.split_at_checked(at.start).unwrap_or((toml, ""));
    let (number, begin) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |i| i + 1));
    let rest = after.split('\n').next().unwrap_or_default();
    let (head, line) = (&before[begin..], format!("{}{rest}", &before[begin..]));
    let column = head.chars().count();
    let marks = (at.end.saturating_sub(at.start)).min(line.len().saturating_sub(column)).max(1);
    let (margin, indent) = (" ".repeat(number.to_string().len()), " ".repeat(column));
    let marks = "^".repeat(marks);
    format!(
        "{LOADING}TOML parse error at line {number}, column {}\n{margin} |\n{number} | {line}\n\
         {margin} | {indent}{marks}\n{message}\n",
        column + 1
    )
}
