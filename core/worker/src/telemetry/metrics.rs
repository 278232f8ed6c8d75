//! A scope to record core metrics in: a meter, a prefix, and the labels every series of the scope carries.
//!
//! Binding a name to labels happens here, once per handle. Options that change how numbers are shown (suffixes,
//! seconds, buckets) belong to the exporters.

use super::meter::{Counter, Gauge, Instrument, Meter, Noop, Spread, Timing};
use super::names::{Name, label};
use super::{Label, Labels, Shape};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The task-queue label of a sticky queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskQueueLabel {
    /// Sticky and normal queue share the normal queue's name: few series.
    #[default]
    Normal,
    /// A sticky queue is labelled with its own name: one series per worker.
    Own,
}

/// What all core metrics of a program share.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    pub prefix: String,
    /// Value of the `service_name` label; none, no label.
    pub service_name: Option<String>,
    pub global_tags: Labels,
    pub task_queue_label: TaskQueueLabel,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        MetricsOptions {
            prefix: "temporal_".into(),
            service_name: Some("temporal-core-sdk".into()),
            global_tags: Labels::default(),
            task_queue_label: TaskQueueLabel::default(),
        }
    }
}

/// A scope: cheap to clone, cheap to narrow with more labels.
///
/// ```
/// use outlast_worker::telemetry::{Metrics, MetricsOptions, Prometheus, PrometheusOptions, names};
/// use std::sync::Arc;
/// let prometheus = Arc::new(Prometheus::new(PrometheusOptions::default()));
/// let metrics = Metrics::new(prometheus.clone(), MetricsOptions { service_name: None, ..Default::default() });
/// metrics.with("namespace", "default").counter(names::WORKER_START).add(1);
/// assert!(prometheus.text().contains("temporal_worker_start{namespace=\"default\"} 1"));
/// ```
#[derive(Clone)]
pub struct Metrics {
    meter: Arc<dyn Meter>,
    prefix: Arc<str>,
    labels: Labels,
    task_queue_label: TaskQueueLabel,
}

impl Metrics {
    pub fn new(meter: Arc<dyn Meter>, options: MetricsOptions) -> Self {
        let labels = match options.service_name {
            Some(name) => options.global_tags.with(label::SERVICE_NAME, name),
            None => options.global_tags,
        };
        Metrics { meter, prefix: options.prefix.into(), labels, task_queue_label: options.task_queue_label }
    }

    /// A scope that records nothing.
    pub fn none() -> Self {
        Metrics::new(Arc::new(Noop), MetricsOptions::default())
    }

    /// This scope with one more label.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Label>) -> Metrics {
        Metrics { labels: self.labels.with(name, value), ..self.clone() }
    }

    /// This scope for a task queue; `sticky` is the sticky queue's own name if this is one.
    #[must_use]
    pub fn with_queue(&self, normal: &str, sticky: Option<&str>) -> Metrics {
        let name = match self.task_queue_label {
            TaskQueueLabel::Normal => normal,
            TaskQueueLabel::Own => sticky.unwrap_or(normal),
        };
        self.with(label::TASK_QUEUE, name)
    }

    pub fn counter(&self, name: Name) -> Counter {
        debug_assert_eq!(name.shape, Shape::Counter);
        Counter(self.meter.bind(&self.instrument(name), &self.labels))
    }

    pub fn gauge(&self, name: Name) -> Gauge {
        debug_assert!(matches!(name.shape, Shape::Gauge | Shape::GaugeFloat));
        Gauge(self.meter.bind(&self.instrument(name), &self.labels))
    }

    pub fn timing(&self, name: Name) -> Timing {
        debug_assert_eq!(name.shape, Shape::HistogramDuration);
        Timing(self.meter.bind(&self.instrument(name), &self.labels))
    }

    pub fn spread(&self, name: Name) -> Spread {
        debug_assert!(matches!(name.shape, Shape::Histogram | Shape::HistogramFloat));
        Spread(self.meter.bind(&self.instrument(name), &self.labels))
    }

    /// The meter itself, for metrics a user defines: no prefix, no labels but the user's own.
    pub fn meter(&self) -> &Arc<dyn Meter> {
        &self.meter
    }

    /// The labels of this scope.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    fn instrument(&self, name: Name) -> Instrument {
        let prefix = self.prefix.to_string().into();
        let description = name.description.into();
        Instrument { prefix, description, ..Instrument::new(name.name, name.shape) }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metrics({}; {})", self.prefix, self.labels)
    }
}

/// How many distinct values of one label get series of their own.
const MEMBERS_MAX: usize = 1000;

/// Handles per value of one label (a workflow type, an activity type), made when first asked for.
///
/// Values beyond the first thousand share the handles of the value `_other`.
pub struct Family<T> {
    make: Box<dyn Fn(&str) -> T + Send + Sync>,
    members: RwLock<HashMap<String, Arc<T>>>,
}

impl<T> Family<T> {
    pub fn new(make: impl Fn(&str) -> T + Send + Sync + 'static) -> Self {
        Family { make: Box::new(make), members: RwLock::default() }
    }

    pub fn of(&self, value: &str) -> Arc<T> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(value) {
            return member.clone();
        }
        let value = if members.len() < MEMBERS_MAX { value } else { "_other" };
        if let Some(other) = members.get(value) {
            return other.clone();
        }
        drop(members);
        // Made outside the lock: a meter may call a user's code.
        let made = Arc::new((self.make)(value));
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        members.entry(value.to_owned()).or_insert(made).clone()
    }
}

impl<T> fmt::Debug for Family<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Family")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Prometheus, PrometheusOptions, names};

    #[test]
    fn a_sticky_queue_has_its_own_label_only_if_asked() {
        let scope = Metrics::none();
        assert!(scope.with_queue("q", Some("host-1")).labels().to_string().contains("task_queue=q"));
        let options = MetricsOptions { task_queue_label: TaskQueueLabel::Own, ..Default::default() };
        let scope = Metrics::new(Arc::new(Noop), options);
        assert!(scope.with_queue("q", Some("host-1")).labels().to_string().contains("task_queue=host-1"));
        assert!(scope.with_queue("q", None).labels().to_string().contains("task_queue=q"));
    }

    #[test]
    fn prefix_service_name_and_global_tags_are_on_every_series() {
        let prometheus = Arc::new(Prometheus::new(PrometheusOptions::default()));
        let options = MetricsOptions {
            prefix: "mine_".into(),
            service_name: Some("svc".into()),
            global_tags: Labels::default().with("zone", "b"),
            ..Default::default()
        };
        Metrics::new(prometheus.clone(), options).counter(names::STICKY_HIT).add(2);
        let text = prometheus.text();
        assert!(text.contains("mine_sticky_cache_hit{service_name=\"svc\",zone=\"b\"} 2\n"), "{text}");
    }

    #[test]
    fn a_family_stops_growing() {
        let family = Family::new(str::to_owned);
        for number in 0..MEMBERS_MAX + 50 {
            family.of(&number.to_string());
        }
        assert_eq!(*family.of("7"), "7");
        assert_eq!(*family.of("a stranger"), "_other");
        assert_eq!(family.members.read().unwrap().len(), MEMBERS_MAX + 1);
    }
}
