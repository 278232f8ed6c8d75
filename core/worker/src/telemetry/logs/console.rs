//! Records as lines of text: for people in two forms, for machines as JSON.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::UNIX_EPOCH;

use tracing::Level;

use super::{LogField, LogRecord};

/// How a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line.
    #[default]
    Compact,
    /// A line and some air; where it came from below.
    Pretty,
    /// One JSON object on a line.
    Json,
}

/// Where and how lines are written.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    pub format: LogFormat,
    /// Standard output instead of standard error.
    pub stdout: bool,
    /// With the colours of a terminal.
    pub colors: bool,
}

impl Default for Console {
    /// Standard error, compact, without colours.
    fn default() -> Self {
        Self { format: LogFormat::Compact, stdout: false, colors: false }
    }
}

impl Console {
    pub(super) fn write(self, record: &LogRecord) {
        let mut text = self.text(record);
        text.push('\n');
        // A console that is gone takes no complaint about it either.
        let _ = match self.stdout {
            true => io::stdout().lock().write_all(text.as_bytes()),
            false => io::stderr().lock().write_all(text.as_bytes()),
        };
    }

    fn text(self, record: &LogRecord) -> String {
        let mut text = String::new();
        let written = match self.format {
            LogFormat::Compact => self.compact(&mut text, record),
            LogFormat::Pretty => self.pretty(&mut text, record),
            LogFormat::Json => json(&mut text, record),
        };
        written.expect("writing to a string cannot fail");
        text
    }

    fn compact(self, out: &mut String, record: &LogRecord) -> fmt::Result {
        let LogRecord { level, target, message, .. } = record;
        let (dim, plain, hue) = (self.code("2"), self.code("0"), self.code(hue(*level)));
        write!(out, "{dim}{}{plain} {hue}{level:>5}{plain} ", time(record))?;
        for span in &record.spans {
            write!(out, "{dim}{span}:{plain}")?;
        }
        write!(out, "{dim}{target}{plain}{dim}:{plain} {message}")?;
        for (name, value) in &record.fields {
            write!(out, " {}{name}{plain}{dim}={plain}{value}", self.code("3"))?;
        }
        Ok(())
    }

    fn pretty(self, out: &mut String, record: &LogRecord) -> fmt::Result {
        let LogRecord { level, target, message, .. } = record;
        let (dim, plain, hue, bold) =
            (self.code("2"), self.code("0"), self.code(hue(*level)), self.bold(*level));
        write!(out, "  {dim}{}{plain} {hue}{level:>5}{plain} ", time(record))?;
        write!(out, "{bold}{target}{plain}{hue}: {hue}{message}")?;
        for (name, value) in &record.fields {
            write!(out, ", {bold}{name}{plain}{hue}: {value}")?;
        }
        writeln!(out, "{plain}")?;
        for span in record.spans.iter().rev() {
            writeln!(out, "    {dim}in{plain} {span}")?;
        }
        Ok(())
    }

    fn code(self, code: &str) -> String {
        if self.colors { format!("\x1b[{code}m") } else { String::new() }
    }

    fn bold(self, level: Level) -> String {
        self.code(&format!("1;{}", hue(level)))
    }
}

fn hue(level: Level) -> &'static str {
    match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    }
}

/// RFC 3339 with microseconds, always of the same width.
fn time(record: &LogRecord) -> String {
    let since = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = prost_types::Timestamp { seconds: since.as_secs() as i64, nanos: 0 }.to_string();
    format!("{}.{:06}Z", seconds.trim_end_matches('Z'), since.subsec_micros())
}

fn json(out: &mut String, record: &LogRecord) -> fmt::Result {
    write!(out, r#"{{"timestamp":"{}","level":"{}","fields":{{"message":"#, time(record), record.level)?;
    quoted(out, &record.message)?;
    for (name, value) in &record.fields {
        out.push(',');
        quoted(out, name)?;
        out.push(':');
        match value {
            LogField::Text(text) => quoted(out, text)?,
            LogField::Float(number) if !number.is_finite() => quoted(out, &number.to_string())?,
            LogField::Bool(_) | LogField::Int(_) | LogField::Whole(_) | LogField::Float(_) => {
                write!(out, "{value}")?;
            }
        }
    }
    out.push_str("}}");
    Ok(())
}

fn quoted(out: &mut String, text: &str) -> fmt::Result {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
            other => out.push(other),
        }
    }
    out.push('"');
    Ok(())
}

impl fmt::Display for LogField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogField::Bool(truth) => truth.fmt(f),
            LogField::Int(number) => number.fmt(f),
            LogField::Whole(number) => number.fmt(f),
            LogField::Float(number) => number.fmt(f),
            LogField::Text(text) => write!(f, "{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shown(format: LogFormat) -> String {
        let record = LogRecord {
            time: UNIX_EPOCH + Duration::new(1_000_000_000, 42_000),
            level: Level::INFO,
            target: "here".into(),
            message: "said \"so\"".into(),
            fields: [("n", LogField::Int(-1)), ("t", LogField::Text("a\nb\u{1}".into()))].into(),
            spans: vec!["turn"],
        };
        Console { format, ..Console::default() }.text(&record)
    }

    #[test]
    fn a_record_in_each_format() {
        assert_eq!(
            shown(LogFormat::Compact),
            "2001-09-09T01:46:40.000042Z  INFO turn:here: said \"so\" n=-1 t=\"a\\nb\\u{1}\""
        );
        assert_eq!(
            shown(LogFormat::Pretty),
            "  2001-09-09T01:46:40.000042Z  INFO here: said \"so\", n: -1, t: \"a\\nb\\u{1}\"\n    in turn\n"
        );
        assert_eq!(
            shown(LogFormat::Json),
            r#"{"timestamp":"2001-09-09T01:46:40.000042Z","level":"INFO","fields":{"message":"said \"so\"","n":-1,"t":"a\nb\u0001"}}"#
        );
    }

    #[test]
    fn colours_are_only_there_if_asked_for() {
        let record = LogRecord {
            time: UNIX_EPOCH,
            level: Level::WARN,
            target: "here".into(),
            message: "x".into(),
            fields: [("n", LogField::Int(1))].into(),
            spans: vec![],
        };
        let console = Console { colors: true, ..Console::default() };
        let expected = "\x1b[2m1970-01-01T00:00:00.000000Z\x1b[0m \x1b[33m WARN\x1b[0m \
                        \x1b[2mhere\x1b[0m\x1b[2m:\x1b[0m x \x1b[3mn\x1b[0m\x1b[2m=\x1b[0m1";
        assert_eq!(console.text(&record), expected);
    }
}
