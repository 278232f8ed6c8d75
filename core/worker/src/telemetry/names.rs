//! Every metric the core records, with its shape and meaning, and every label and bucket.
//!
//! Names, labels and buckets are those which dashboards for Temporal SDKs already expect. Names here are without the
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
    REQUEST "request" Counter "Client requests, each try counted";
    REQUEST_FAILURE "request_failure" Counter "Client requests that failed";
    REQUEST_LATENCY "request_latency" HistogramDuration "Time of client requests";
    LONG_REQUEST "long_request" Counter "Long-poll requests";
    LONG_REQUEST_FAILURE "long_request_failure" Counter "Long-poll requests that failed";
    LONG_REQUEST_LATENCY "long_request_latency" HistogramDuration "Time of long-poll requests";

    WORKFLOW_COMPLETED "workflow_completed" Counter "Workflows completed";
    WORKFLOW_CANCELED "workflow_canceled" Counter "Workflows canceled";
    WORKFLOW_FAILED "workflow_failed" Counter "Workflows failed";
    WORKFLOW_CONTINUED "workflow_continue_as_new" Counter "Workflows continued as new";
    WORKFLOW_LATENCY "workflow_endtoend_latency" HistogramDuration "Time from a workflow's start to its end";
    WORKFLOW_TASK_POLL_EMPTY "workflow_task_queue_poll_empty" Counter "Workflow task polls that brought nothing";
    WORKFLOW_TASK_POLL_SUCCEED "workflow_task_queue_poll_succeed" Counter "Workflow task polls that brought a task";
    WORKFLOW_TASK_FAILED "workflow_task_execution_failed" Counter "Workflow tasks failed";
    WORKFLOW_TASK_SCHEDULE_TO_START "workflow_task_schedule_to_start_latency" HistogramDuration "Time a workflow task waited for a worker";
    WORKFLOW_TASK_REPLAY "workflow_task_replay_latency" HistogramDuration "Time to replay history before a workflow task";
    WORKFLOW_TASK_EXECUTION "workflow_task_execution_latency" HistogramDuration "Time to execute a workflow task";

    ACTIVITY_POLL_EMPTY "activity_poll_no_task" Counter "Activity polls that brought nothing";
    ACTIVITY_RECEIVED "activity_task_received" Counter "Activity tasks received";
    ACTIVITY_FAILED "activity_execution_failed" Counter "Activity attempts failed";
    ACTIVITY_SCHEDULE_TO_START "activity_schedule_to_start_latency" HistogramDuration "Time an activity task waited for a worker";
    ACTIVITY_EXECUTION "activity_execution_latency" HistogramDuration "Time of one activity attempt";
    ACTIVITY_SUCCEED "activity_succeed_endtoend_latency" HistogramDuration "Time from an activity's first schedule to its success";

    LOCAL_ACTIVITY_TOTAL "local_activity_total" Counter "Local activity attempts";
    LOCAL_ACTIVITY_CANCELLED "local_activity_execution_cancelled" Counter "Local activity attempts cancelled";
    LOCAL_ACTIVITY_FAILED "local_activity_execution_failed" Counter "Local activity attempts failed";
    LOCAL_ACTIVITY_EXECUTION "local_activity_execution_latency" HistogramDuration "Time of one local activity attempt";
    LOCAL_ACTIVITY_SUCCEED "local_activity_succeed_endtoend_latency" HistogramDuration "Time from a local activity's schedule to its success";

    NEXUS_POLL_EMPTY "nexus_poll_no_task" Counter "Nexus polls that brought nothing";
    NEXUS_SCHEDULE_TO_START "nexus_task_schedule_to_start_latency" HistogramDuration "Time a Nexus task waited for a worker";
    NEXUS_LATENCY "nexus_task_endtoend_latency" HistogramDuration "Time from a Nexus task's creation to its end";
    NEXUS_EXECUTION "nexus_task_execution_latency" HistogramDuration "Time to execute a Nexus task";
    NEXUS_FAILED "nexus_task_execution_failed" Counter "Nexus tasks failed";

    WORKER_START "worker_start" Counter "Workers started";
    POLLERS "num_pollers" Gauge "Polls in flight";
    SLOTS_AVAILABLE "worker_task_slots_available" Gauge "Slots free for tasks";
    SLOTS_USED "worker_task_slots_used" Gauge "Slots that run a task";
    STICKY_HIT "sticky_cache_hit" Counter "Workflow tasks continued from the cache";
    STICKY_MISS "sticky_cache_miss" Counter "Workflow tasks whose run was not in the cache";
    STICKY_SIZE "sticky_cache_size" Gauge "Runs in the cache";
    STICKY_EVICTION "sticky_cache_total_forced_eviction" Counter "Runs evicted for room or error";

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

/// The histogram bounds of a metric (by its name without prefix), in milliseconds.
pub fn buckets(name: &str) -> &'static [f64] {
    match name {
        "workflow_endtoend_latency" => END_TO_END,
        "workflow_task_execution_latency" | "workflow_task_replay_latency" => WORKFLOW_TASK,
        "activity_execution_latency" => ACTIVITY,
        "workflow_task_schedule_to_start_latency"
        | "activity_schedule_to_start_latency"
        | "nexus_task_schedule_to_start_latency" => SCHEDULE_TO_START,
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
            assert!(buckets(name.name).is_sorted_by(|a, b| a < b), "{}", name.name);
        }
    }
}
