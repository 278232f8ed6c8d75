//! Labels of a metric series: an ordered map from name to a small value.
//!
//! Ordered, so that the same labels always make the same series and the same text. Knows nothing of any exporter.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One label's value.
#[derive(Clone, Debug)]
pub enum Label {
    Text(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Label {
    fn rank(&self) -> u8 {
        match self {
            Label::Text(_) => 0,
            Label::Int(_) => 1,
            Label::Float(_) => 2,
            Label::Bool(_) => 3,
        }
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Label::Text(a), Label::Text(b)) => a.cmp(b),
            (Label::Int(a), Label::Int(b)) => a.cmp(b),
            (Label::Float(a), Label::Float(b)) => a.total_cmp(b),
            (Label::Bool(a), Label::Bool(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Label {}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::Text(text) => f.write_str(text),
            Label::Int(number) => number.fmt(f),
            Label::Float(number) => number.fmt(f),
            Label::Bool(truth) => truth.fmt(f),
        }
    }
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Label::Text(text.into())
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Label::Text(text.into())
    }
}

impl From<i64> for Label {
    fn from(number: i64) -> Self {
        Label::Int(number)
    }
}

impl From<f64> for Label {
    fn from(number: f64) -> Self {
        Label::Float(number)
    }
}

impl From<bool> for Label {
    fn from(truth: bool) -> Self {
        Label::Bool(truth)
    }
}

/// The labels of one series.
///
/// ```
/// use outlast_worker::telemetry::Labels;
/// let base = Labels::default().with("namespace", "default");
/// let more = base.with("task_queue", "orders");
/// assert_eq!(more.to_string(), "namespace=default,task_queue=orders");
/// assert_eq!(base.iter().count(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Arc<BTreeMap<Arc<str>, Label>>);

impl Labels {
    /// These labels and one more; an equal name is replaced.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Label>) -> Labels {
        let mut map = BTreeMap::clone(&self.0);
        map.insert(name.into(), value.into());
        Labels(Arc::new(map))
    }

    /// These labels with all of `others` laid over them.
    #[must_use]
    pub fn and(&self, others: &Labels) -> Labels {
        let mut map = BTreeMap::clone(&self.0);
        map.extend(others.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        Labels(Arc::new(map))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Label)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: AsRef<str>, V: Into<Label>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Labels(Arc::new(pairs.into_iter().map(|(n, v)| (n.as_ref().into(), v.into())).collect()))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}
