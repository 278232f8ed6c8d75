//! Every metric the core records, with its shape and meaning, and every label and bucket.
//!
//! Names, labels, descriptions and buckets are those which dashboards for Temporal SDKs already expect. Names here are without the
//! prefix; [`Metrics`](super::Metrics) adds it.

use super::Shape::{self, Counter, Gauge, GaugeFloat, HistogramDuration};

/// A metric's name, shape and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: &'static str,
    pub shape: Shape,
    pub description: &'static str,
}

macro_rules! names {
    ($($constant:ident $name:literal $shape:ident $description:literal;)*) => {
        $(#[doc = $description] pub const $constant: Name = Name { name: $name, shape: $shape, description: $description };)*
        /// All of them, for tests and documentation.
        pub const ALL: &[Name] = &[$($constant),*];
    };
}

// A macro because each line must give both a constant and an entry of `ALL`; a function cannot declare constants.
names! {
    REQUEST "request" Counter "Count of client request successes by rpc name";
    REQUEST_FAILURE "request_failure" Counter "Count of client request failures by rpc name";
    REQUEST_LATENCY "request_latency" HistogramDuration "Histogram of client request latencies";
    LONG_REQUEST "long_request" Counter "Count of long-poll request successes by rpc name";
    LONG_REQUEST_FAILURE "long_request_failure" Counter "Count of long-poll request failures by rpc name";
    LONG_REQUEST_LATENCY "long_request_latency" HistogramDuration "Histogram of client long-poll request latencies";

    WORKFLOW_COMPLETED "workflow_completed" Counter "Count of successfully completed workflows";
    WORKFLOW_CANCELED "workflow_canceled" Counter "Count of canceled workflows";
    WORKFLOW_FAILED "workflow_failed" Counter "Count of failed workflows";
    WORKFLOW_CONTINUED "workflow_continue_as_new" Counter "Count of continued-as-new workflows";
    WORKFLOW_LATENCY "workflow_endtoend_latency" HistogramDuration "Histogram of total workflow execution latencies";
    WORKFLOW_TASK_POLL_EMPTY "workflow_task_queue_poll_empty" Counter "Count of workflow task queue polls that brought nothing";
    WORKFLOW_TASK_POLL_SUCCEED "workflow_task_queue_poll_succeed" Counter "Count of workflow task queue poll successes";
    WORKFLOW_TASK_FAILED "workflow_task_execution_failed" Counter "Count of workflow task execution failures";
    WORKFLOW_TASK_SCHEDULE_TO_START "workflow_task_schedule_to_start_latency" HistogramDuration "Histogram of workflow task schedule-to-start latencies";
    WORKFLOW_TASK_REPLAY "workflow_task_replay_latency" HistogramDuration "Histogram of workflow task replay latencies";
    WORKFLOW_TASK_EXECUTION "workflow_task_execution_latency" HistogramDuration "Histogram of workflow task execution (not replay) latencies";

    ACTIVITY_POLL_EMPTY "activity_poll_no_task" Counter "Count of activity task queue polls that brought nothing";
    ACTIVITY_RECEIVED "activity_task_received" Counter "Count of activity task queue poll successes";
    ACTIVITY_FAILED "activity_execution_failed" Counter "Count of activity task execution failures";
    ACTIVITY_SCHEDULE_TO_START "activity_schedule_to_start_latency" HistogramDuration "Histogram of activity schedule-to-start latencies";
    ACTIVITY_EXECUTION "activity_execution_latency" HistogramDuration "Histogram of activity execution latencies";
    ACTIVITY_SUCCEED "activity_succeed_endtoend_latency" HistogramDuration "Histogram of activity execution latencies for successful activities";

    LOCAL_ACTIVITY_TOTAL "local_activity_total" Counter "Count of local activities executed";
    LOCAL_ACTIVITY_CANCELLED "local_activity_execution_cancelled" Counter "Count of local activity executions that were cancelled";
    LOCAL_ACTIVITY_FAILED "local_activity_execution_failed" Counter "Count of local activity executions that failed";
    LOCAL_ACTIVITY_EXECUTION "local_activity_execution_latency" HistogramDuration "Histogram of local activity execution latencies";
    LOCAL_ACTIVITY_SUCCEED "local_activity_succeed_endtoend_latency" HistogramDuration "Histogram of local activity execution latencies for successful local activities";

    NEXUS_POLL_EMPTY "nexus_poll_no_task" Counter "Count of Nexus task queue polls that brought nothing";
    NEXUS_SCHEDULE_TO_START "nexus_task_schedule_to_start_latency" HistogramDuration "Time a Nexus task waited for a worker";
    NEXUS_LATENCY "nexus_task_endtoend_latency" HistogramDuration "Time from a Nexus task's creation to its end";
    NEXUS_EXECUTION "nexus_task_execution_latency" HistogramDuration "Time to execute a Nexus task";
    NEXUS_FAILED "nexus_task_execution_failed" Counter "Nexus tasks failed";

    WORKER_START "worker_start" Counter "Count of the number of initialized workers";
    POLLERS "num_pollers" Gauge "Current number of active pollers per queue type";
    SLOTS_AVAILABLE "worker_task_slots_available" Gauge "Current number of available slots per task type";
    SLOTS_USED "worker_task_slots_used" Gauge "Current number of used slots per task type";
    STICKY_HIT "sticky_cache_hit" Counter "Count of times the workflow cache was used for a new workflow task";
    STICKY_MISS "sticky_cache_miss" Counter "Count of times the workflow cache was missing a workflow for a sticky task";
    STICKY_SIZE "sticky_cache_size" Gauge "Current number of cached workflows";
    STICKY_EVICTION "sticky_cache_total_forced_eviction" Counter "Count of evictions of cached workflows";

    RESOURCE_MEMORY "resource_slots_mem_usage" GaugeFloat "Memory in use, percent";
    RESOURCE_CPU "resource_slots_cpu_usage" GaugeFloat "CPU in use, percent";
    RESOURCE_MEMORY_OUTPUT "resource_slots_mem_pid_output" GaugeFloat "Output of the memory controller";
    RESOURCE_CPU_OUTPUT "resource_slots_cpu_pid_output" GaugeFloat "Output of the CPU controller";
}

/// Label names.
pub mod label {
    pub const NAMESPACE: &str = "namespace";
    pub const SERVICE_NAME: &str = "service_name";
    pub const TASK_QUEUE: &str = "task_queue";
    pub const WORKFLOW_TYPE: &str = "workflow_type";
    pub const ACTIVITY_TYPE: &str = "activity_type";
    pub const POLLER_TYPE: &str = "poller_type";
    pub const WORKER_TYPE: &str = "worker_type";
    pub const EAGER: &str = "eager";
    pub const FAILURE_REASON: &str = "failure_reason";
    pub const OPERATION: &str = "operation";
    pub const STATUS_CODE: &str = "status_code";
}

const END_TO_END: &[f64] =
    &[100., 500., 1000., 1500., 2000., 5000., 1e4, 3e4, 6e4, 1.2e5, 3e5, 6e5, 1.8e6, 3.6e6, 3.06e7, 8.64e7];
const WORKFLOW_TASK: &[f64] = &[1., 10., 20., 50., 100., 200., 500., 1000.];
const ACTIVITY: &[f64] = &[50., 100., 500., 1000., 5000., 1e4, 6e4];
const SCHEDULE_TO_START: &[f64] = &[100., 500., 1000., 5000., 1e4, 1e5, 1e6];
const OTHERS: &[f64] = &[50., 100., 500., 1000., 2500., 1e4];

/// The histogram bounds of a metric by its whole name, in milliseconds. Under another prefix all have the general ones,
/// as in the reference.
pub fn buckets(name: &str) -> &'static [f64] {
    match name {
        "temporal_workflow_endtoend_latency" => END_TO_END,
        "temporal_workflow_task_execution_latency" | "temporal_workflow_task_replay_latency" => WORKFLOW_TASK,
        "temporal_activity_execution_latency" => ACTIVITY,
        "temporal_workflow_task_schedule_to_start_latency"
        | "temporal_activity_schedule_to_start_latency"
        | "temporal_nexus_task_schedule_to_start_latency" => SCHEDULE_TO_START,
        _ => OTHERS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once() {
        let names: BTreeSet<_> = ALL.iter().map(|name| name.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(ALL.len(), 45);
    }

    #[test]
    fn bounds_rise() {
        for name in ALL {
            let bounds = buckets(&format!("temporal_{}", name.name));
            assert!(bounds.is_sorted_by(|a, b| a < b), "{}", name.name);
        }
    }
}
