//! Handles of everything a worker measures, bound ahead of time.
//!
//! One struct per kind of task and one per type within it; the worker's code then only adds and observes.

use super::meter::{Counter, Gauge, Timing};
use super::metrics::{Family, Metrics};
use super::names::{self, label};
use crate::slots::SlotKind;

/// Which poll is counted by `num_pollers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollerType {
    WorkflowTask,
    StickyWorkflowTask,
    ActivityTask,
    NexusTask,
}

impl PollerType {
    pub fn label(self) -> &'static str {
        match self {
            PollerType::WorkflowTask => "workflow_task",
            PollerType::StickyWorkflowTask => "sticky_workflow_task",
            PollerType::ActivityTask => "activity_task",
            PollerType::NexusTask => "nexus_task",
        }
    }
}

/// The value of `worker_type` for slots of a kind.
pub fn worker_type(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Workflow => "WorkflowWorker",
        SlotKind::Activity => "ActivityWorker",
        SlotKind::LocalActivity => "LocalActivityWorker",
        SlotKind::Nexus => "NexusWorker",
    }
}

/// All handles of one worker. `scope` carries namespace and task queue.
#[derive(Debug)]
pub struct WorkerMetrics {
    scope: Metrics,
    pub started: Counter,
    pub cache: CacheMetrics,
    pub workflow_polls_empty: Counter,
    pub workflow_polls_succeeded: Counter,
    pub workflow_schedule_to_start: Timing,
    pub workflows: Family<WorkflowMetrics>,
    pub activity_polls_empty: Counter,
    pub activity_schedule_to_start: Timing,
    /// By workflow type, then by their own.
    pub activities: Family<Family<ActivityMetrics>>,
    /// By workflow type, then by their own.
    pub local_activities: Family<Family<LocalActivityMetrics>>,
    pub nexus: NexusMetrics,
}

impl WorkerMetrics {
    /// `scope` without a task queue; the queue's label is added here.
    pub fn new(scope: &Metrics, namespace: &str, task_queue: &str) -> Self {
        let scope = scope.with(label::NAMESPACE, namespace).with_queue(task_queue, None);
        WorkerMetrics {
            started: scope.counter(names::WORKER_START),
            cache: CacheMetrics::new(&scope),
            workflow_polls_empty: scope.counter(names::WORKFLOW_TASK_POLL_EMPTY),
            workflow_polls_succeeded: scope.counter(names::WORKFLOW_TASK_POLL_SUCCEED),
            workflow_schedule_to_start: scope.timing(names::WORKFLOW_TASK_SCHEDULE_TO_START),
            workflows: family(&scope, label::WORKFLOW_TYPE, |scope| WorkflowMetrics::new(&scope)),
            activity_polls_empty: scope.counter(names::ACTIVITY_POLL_EMPTY),
            activity_schedule_to_start: scope.timing(names::ACTIVITY_SCHEDULE_TO_START),
            activities: family(&scope, label::WORKFLOW_TYPE, |scope| {
                family(&scope, label::ACTIVITY_TYPE, |scope| ActivityMetrics::new(&scope))
            }),
            local_activities: family(&scope, label::WORKFLOW_TYPE, |scope| {
                family(&scope, label::ACTIVITY_TYPE, |scope| LocalActivityMetrics::new(&scope))
            }),
            nexus: NexusMetrics::new(&scope),
            scope,
        }
    }

    /// Handles that go nowhere.
    pub fn none() -> Self {
        WorkerMetrics::new(&Metrics::none(), "", "")
    }

    /// The scope that the handles were bound in.
    pub fn scope(&self) -> &Metrics {
        &self.scope
    }

    /// The gauge of polls in flight; a sticky queue's own name matters if it is to be its own label.
    pub fn pollers(&self, poller: PollerType, task_queue: &str, sticky: Option<&str>) -> Gauge {
        self.scope
            .with_queue(task_queue, sticky)
            .with(label::POLLER_TYPE, poller.label())
            .gauge(names::POLLERS)
    }

    /// The gauges of slots of one kind: available, used.
    pub fn slots(&self, kind: SlotKind) -> SlotGauges {
        let scope = self.scope.with(label::WORKER_TYPE, worker_type(kind));
        SlotGauges { available: scope.gauge(names::SLOTS_AVAILABLE), used: scope.gauge(names::SLOTS_USED) }
    }
}

/// Slots of one kind, free and busy.
#[derive(Clone, Debug)]
pub struct SlotGauges {
    pub available: Gauge,
    pub used: Gauge,
}

impl SlotGauges {
    pub fn none() -> Self {
        SlotGauges { available: Gauge::none(), used: Gauge::none() }
    }
}

/// The cache of workflow runs.
#[derive(Debug)]
pub struct CacheMetrics {
    pub miss: Counter,
    pub size: Gauge,
    pub forced_eviction: Counter,
}

impl CacheMetrics {
    fn new(scope: &Metrics) -> Self {
        CacheMetrics {
            miss: scope.counter(names::STICKY_MISS),
            size: scope.gauge(names::STICKY_SIZE),
            forced_eviction: scope.counter(names::STICKY_EVICTION),
        }
    }
}

/// One workflow type.
#[derive(Debug)]
pub struct WorkflowMetrics {
    pub completed: Counter,
    pub canceled: Counter,
    pub failed: Counter,
    pub continued_as_new: Counter,
    pub end_to_end: Timing,
    pub sticky_hit: Counter,
    pub task_replay: Timing,
    pub task_execution: Timing,
    /// By `failure_reason`: `NonDeterminismError`, `WorkflowError`, ...
    pub task_failed: Family<Counter>,
}

impl WorkflowMetrics {
    fn new(scope: &Metrics) -> Self {
        WorkflowMetrics {
            completed: scope.counter(names::WORKFLOW_COMPLETED),
            canceled: scope.counter(names::WORKFLOW_CANCELED),
            failed: scope.counter(names::WORKFLOW_FAILED),
            continued_as_new: scope.counter(names::WORKFLOW_CONTINUED),
            end_to_end: scope.timing(names::WORKFLOW_LATENCY),
            sticky_hit: scope.counter(names::STICKY_HIT),
            task_replay: scope.timing(names::WORKFLOW_TASK_REPLAY),
            task_execution: scope.timing(names::WORKFLOW_TASK_EXECUTION),
            task_failed: family(scope, label::FAILURE_REASON, |scope| {
                scope.counter(names::WORKFLOW_TASK_FAILED)
            }),
        }
    }
}

/// One activity type.
#[derive(Debug)]
pub struct ActivityMetrics {
    pub received: Counter,
    pub received_eagerly: Counter,
    pub failed: Counter,
    pub execution: Timing,
    pub succeeded: Timing,
}

impl ActivityMetrics {
    fn new(scope: &Metrics) -> Self {
        let received = |eager| scope.with(label::EAGER, eager).counter(names::ACTIVITY_RECEIVED);
        ActivityMetrics {
            received: received(false),
            received_eagerly: received(true),
            failed: failed(scope, names::ACTIVITY_FAILED),
            execution: scope.timing(names::ACTIVITY_EXECUTION),
            succeeded: scope.timing(names::ACTIVITY_SUCCEED),
        }
    }
}

/// One local activity type.
#[derive(Debug)]
pub struct LocalActivityMetrics {
    pub total: Counter,
    pub cancelled: Counter,
    pub failed: Counter,
    pub execution: Timing,
    pub succeeded: Timing,
}

impl LocalActivityMetrics {
    fn new(scope: &Metrics) -> Self {
        LocalActivityMetrics {
            total: scope.counter(names::LOCAL_ACTIVITY_TOTAL),
            cancelled: scope.counter(names::LOCAL_ACTIVITY_CANCELLED),
            failed: failed(scope, names::LOCAL_ACTIVITY_FAILED),
            execution: scope.timing(names::LOCAL_ACTIVITY_EXECUTION),
            succeeded: scope.timing(names::LOCAL_ACTIVITY_SUCCEED),
        }
    }
}

/// Nexus tasks.
#[derive(Debug)]
pub struct NexusMetrics {
    pub polls_empty: Counter,
    pub schedule_to_start: Timing,
    pub end_to_end: Timing,
    pub execution: Timing,
    /// By `failure_reason`: `handler_error_INTERNAL`, `timeout`, ...
    pub failed: Family<Counter>,
}

impl NexusMetrics {
    fn new(scope: &Metrics) -> Self {
        NexusMetrics {
            polls_empty: scope.counter(names::NEXUS_POLL_EMPTY),
            schedule_to_start: scope.timing(names::NEXUS_SCHEDULE_TO_START),
            end_to_end: scope.timing(names::NEXUS_LATENCY),
            execution: scope.timing(names::NEXUS_EXECUTION),
            failed: family(scope, label::FAILURE_REASON, |scope| scope.counter(names::NEXUS_FAILED)),
        }
    }
}

/// Failures of activities have one reason.
fn failed(scope: &Metrics, name: names::Name) -> Counter {
    scope.with(label::FAILURE_REASON, "ActivityError").counter(name)
}

fn family<T>(
    scope: &Metrics,
    label: &'static str,
    make: impl Fn(Metrics) -> T + Send + Sync + 'static,
) -> Family<T> {
    let scope = scope.clone();
    Family::new(move |value| make(scope.with(label, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MetricsOptions, Prometheus, PrometheusOptions};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn series_carry_the_labels_that_dashboards_ask_for() {
        let prometheus = Arc::new(Prometheus::new(PrometheusOptions::default()));
        let options = MetricsOptions { service_name: None, ..Default::default() };
        let worker = WorkerMetrics::new(&Metrics::new(prometheus.clone(), options), "n", "q");
        worker.started.add(1);
        worker.pollers(PollerType::StickyWorkflowTask, "q", Some("host-1")).set(4);
        worker.slots(SlotKind::LocalActivity).used.set(2);
        worker.activities.of("order").of("charge").received_eagerly.add(1);
        worker.workflows.of("order").task_failed.of("NonDeterminismError").add(1);
        worker.workflows.of("order").task_replay.observe(Duration::from_millis(15));
        worker.nexus.failed.of("timeout").add(1);
        let text = prometheus.text();
        for series in [
            "worker_start{namespace=\"n\",task_queue=\"q\"} 1",
            "num_pollers{namespace=\"n\",poller_type=\"sticky_workflow_task\",task_queue=\"q\"} 4",
            "worker_task_slots_used{namespace=\"n\",task_queue=\"q\",worker_type=\"LocalActivityWorker\"} 2",
            "activity_task_received{activity_type=\"charge\",eager=\"true\",namespace=\"n\",task_queue=\"q\",workflow_type=\"order\"} 1",
            "workflow_task_execution_failed{failure_reason=\"NonDeterminismError\",namespace=\"n\",task_queue=\"q\",workflow_type=\"order\"} 1",
            "workflow_task_replay_latency_bucket{namespace=\"n\",task_queue=\"q\",workflow_type=\"order\",le=\"20\"} 1",
            "nexus_task_execution_failed{failure_reason=\"timeout\",namespace=\"n\",task_queue=\"q\"} 1",
        ] {
            assert!(text.contains(&format!("\ntemporal_{series}\n")), "{series}\n{text}");
        }
    }
}
