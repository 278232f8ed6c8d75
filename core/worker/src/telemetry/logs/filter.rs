//! Which records are kept, by target and level. Does not know where they go.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::{Context, Layer};

/// Another name for a target, for programs whose users know the records of this core by other names.
pub type Alias = fn(&str) -> Cow<'_, str>;

/// Which records are kept: by target and level.
///
/// ```
/// use outlast_worker::telemetry::logs::LogFilter;
/// use tracing::Level;
/// let by_words: LogFilter = "warn,outlast_worker::pollers=trace".parse().unwrap();
/// let by_levels = LogFilter::levels(Some(Level::DEBUG), Some(Level::ERROR));
/// assert!(by_words.keeps("outlast_worker::pollers", Level::TRACE));
/// assert!(by_levels.keeps("outlast_client", Level::DEBUG) && !by_levels.keeps("hyper", Level::WARN));
/// ```
#[derive(Clone)]
pub struct LogFilter {
    targets: Targets,
    alias: Alias,
}

/// The prefix of every target of our own crates.
const CORE: &str = "outlast";

impl LogFilter {
    fn new(targets: Targets) -> Self {
        Self { targets, alias: |target| target.into() }
    }

    /// One level for Outlast's own crates and one for all others; none, nothing.
    pub fn levels(core: Option<Level>, others: Option<Level>) -> Self {
        let level = |level: Option<Level>| level.map_or(LevelFilter::OFF, LevelFilter::from_level);
        Self::new(Targets::new().with_default(level(others)).with_target(CORE, level(core)))
    }

    /// Reads what it can of a filter, and tells what is wrong with the rest. Errors are kept if nothing is left.
    ///
    /// ```
    /// use outlast_worker::telemetry::logs::LogFilter;
    /// use tracing::Level;
    /// let (filter, problems) = LogFilter::lenient("a=debug,b=loud");
    /// assert!(filter.keeps("a", Level::DEBUG) && !filter.keeps("b", Level::ERROR));
    /// assert!(problems[0].starts_with("ignoring `b=loud`: "));
    /// ```
    pub fn lenient(text: &str) -> (Self, Vec<String>) {
        let (mut targets, mut problems, mut read) = (Targets::new(), Vec::new(), false);
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            match parse(directive) {
                Ok(one) => {
                    read = true;
                    if let Some(level) = one.default_level() {
                        targets = targets.with_default(level);
                    }
                    targets = targets.with_targets(one.iter().map(|(name, level)| (name.to_owned(), level)));
                }
                Err(problem) => problems.push(format!("ignoring `{directive}`: {problem}")),
            }
        }
        if !read {
            targets = targets.with_default(LevelFilter::ERROR);
        }
        (Self::new(targets), problems)
    }

    /// The same filter, asked with another name for each target. Records carry that name too.
    #[must_use]
    pub fn with_alias(self, alias: Alias) -> Self {
        Self { alias, ..self }
    }

    /// Whether a record is kept.
    pub fn keeps(&self, target: &str, level: Level) -> bool {
        self.targets.would_enable(&(self.alias)(target), &level)
    }

    pub(super) fn alias(&self) -> Alias {
        self.alias
    }
}

fn parse(directive: &str) -> Result<Targets, String> {
    let name = directive.split_once('=').map_or(directive, |(name, _)| name);
    let named = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_:-".contains(c));
    if !named {
        return Err("invalid filter directive".into());
    }
    directive.parse().map_err(|problem: ParseError| problem.to_string())
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.targets, f)
    }
}

impl FromStr for LogFilter {
    type Err = ParseError;

    /// Reads what `RUST_LOG` holds: `level` or `target=level`, separated by commas.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(Self::new)
    }
}

/// As a layer it decides for the whole subscriber, once for each place that logs.
impl<S: Subscriber> Layer<S> for LogFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.keeps(metadata.target(), *metadata.level()) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.keeps(metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_asked_with_the_other_name() {
        let (filter, problems) = LogFilter::lenient("error, sdk::core=debug");
        let filter = filter.with_alias(|target| target.replace("outlast_worker", "sdk::core").into());
        assert!(problems.is_empty());
        assert!(filter.keeps("outlast_worker::pollers", Level::DEBUG));
        assert!(!filter.keeps("outlast_worker::pollers", Level::TRACE));
        assert!(!filter.keeps("outlast_client", Level::WARN));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_errors_remain() {
        let (filter, problems) = LogFilter::lenient("a=b=c,=;;");
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(filter.keeps("any", Level::ERROR) && !filter.keeps("any", Level::WARN));
    }
}
