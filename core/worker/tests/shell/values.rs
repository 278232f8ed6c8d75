//! Every number and time that a worker can be told, at its edges and beyond: either it is refused by name, or the worker runs
//! a workflow and an activity that heartbeats, and ends in order.

use std::sync::Arc;
use std::time::Duration;

use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Success, activity_execution_result::Status,
};
use outlast_proto::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::slots::host::{HostReader, HostSampler, Reading};
use outlast_worker::slots::{ResourceController, ResourceOptions, ResourceSlots, ResourceTargets};
use outlast_worker::telemetry::Metrics;
use outlast_worker::{Ending, FixedSlots, PollerBehavior, Slots, TaskTypes, Tuner, Worker, WorkerConfig};

use crate::server::Server;
use crate::workflows::{POLL, answer, complete, completed, evictions, first};
use crate::{begin_the_end, config};

/// What is expected of a setting.
type Expected = Result<(), &'static str>;

const RUNS: Expected = Ok(());

const NONE: Duration = Duration::ZERO;
const LEAST: Duration = Duration::from_nanos(1);
const MOST: Duration = Duration::MAX;

type Change = Box<dyn Fn(&mut WorkerConfig)>;

fn row(expected: Expected, change: impl Fn(&mut WorkerConfig) + 'static) -> (Expected, Change) {
    (expected, Box::new(change))
}

fn times() -> Vec<(Expected, Change)> {
    let mut rows = Vec::new();
    for time in [NONE, LEAST, MOST] {
        rows.push(row(RUNS, move |c| c.sticky_queue_schedule_to_start_timeout = time));
        rows.push(row(RUNS, move |c| c.max_heartbeat_throttle_interval = time));
        rows.push(row(RUNS, move |c| c.default_heartbeat_throttle_interval = time));
        rows.push(row(RUNS, move |c| {
            c.max_heartbeat_throttle_interval = time;
            c.default_heartbeat_throttle_interval = time;
        }));
        rows.push(row(RUNS, move |c| c.graceful_shutdown_period = Some(time)));
        rows.push(row(RUNS, move |c| c.local_timeout_buffer_for_activities = time));
        let shutdown = if time == NONE { Err("shutdown_limit") } else { RUNS };
        // One that is over at once is no clean end; that is tested elsewhere.
        if time != LEAST {
            rows.push(row(shutdown, move |c| c.shutdown_limit = time));
        }
    }
    for (seconds, expected) in
        [(0.0, Err("heartbeat_interval")), (0.999, Err("heartbeat_interval")), (1.0, RUNS), (60.0, RUNS)]
    {
        rows.push(row(expected, move |c| c.heartbeat_interval = Some(Duration::from_secs_f64(seconds))));
    }
    rows.push(row(Err("heartbeat_interval"), |c| c.heartbeat_interval = Some(Duration::from_millis(60_001))));
    rows.push(row(Err("heartbeat_interval"), |c| c.heartbeat_interval = Some(MOST)));
    rows
}

fn rates() -> Vec<(Expected, Change)> {
    let mut rows = Vec::new();
    let wrong = Err("max_worker_activities_per_second");
    let table = [
        (f64::NEG_INFINITY, wrong),
        (-1.0, wrong),
        (-0.0, wrong),
        (0.0, wrong),
        (f64::NAN, wrong),
        (f64::INFINITY, wrong),
        (5e-324, RUNS),
        (1e-300, RUNS),
        (1e-9, RUNS),
        (1e300, RUNS),
        (f64::MAX, RUNS),
    ];
    for (rate, expected) in table {
        rows.push(row(expected, move |c| c.max_worker_activities_per_second = Some(rate)));
        rows.push(row(RUNS, move |c| c.max_task_queue_activities_per_second = Some(rate)));
    }
    let wrong = Err("nonsticky_to_sticky_poll_ratio");
    let table = [
        (f32::NEG_INFINITY, wrong),
        (-1.0, wrong),
        (-0.0, RUNS),
        (0.0, RUNS),
        (1e-9, RUNS),
        (1.0, RUNS),
        (1.5, wrong),
        (f32::INFINITY, wrong),
        (f32::NAN, wrong),
    ];
    for (ratio, expected) in table {
        rows.push(row(expected, move |c| c.nonsticky_to_sticky_poll_ratio = ratio));
    }
    rows
}

fn counts() -> Vec<(Expected, Change)> {
    let mut rows = Vec::new();
    for (count, expected) in [(0, Err("")), (1, RUNS), (usize::MAX, RUNS)] {
        let or = |field: &'static str| expected.map_err(|_: &str| field);
        rows.push(row(RUNS, move |c| c.max_cached_workflows = count));
        rows.push(row(RUNS, move |c| c.max_cached_bytes = Some(count)));
        rows.push(row(RUNS, move |c| c.max_eager_activities = count));
        rows.push(row(or("fetching_concurrency"), move |c| c.fetching_concurrency = count));
        let shards = if count == 1 { RUNS } else { Err("shards") };
        rows.push(row(shards, move |c| c.shards = Some(count)));
        let pollers = PollerBehavior::SimpleMaximum(count);
        let workflows = if count == 1 { Err("workflow_pollers") } else { or("workflow_pollers") };
        rows.push(row(workflows, move |c| c.workflow_pollers = pollers));
        rows.push(row(or("activity_pollers"), move |c| c.activity_pollers = pollers));
        rows.push(row(or("nexus_pollers"), move |c| c.nexus_pollers = pollers));
        let one = FixedSlots { workflow_tasks: 1, activities: 1, local_activities: 1, nexus_tasks: 1 };
        let slots = Slots::Fixed;
        rows.push(row(or("slots.workflow_tasks"), move |c| {
            c.slots = slots(FixedSlots { workflow_tasks: count, ..one });
        }));
        rows.push(row(or("slots.activities"), move |c| {
            c.slots = slots(FixedSlots { activities: count, ..one })
        }));
        rows.push(row(or("slots.local_activities"), move |c| {
            c.slots = slots(FixedSlots { local_activities: count, ..one });
        }));
        rows.push(row(or("slots.nexus_tasks"), move |c| {
            c.slots = slots(FixedSlots { nexus_tasks: count, ..one })
        }));
    }
    let most = usize::MAX;
    for (min, initial, max, fits) in [
        (0, 1, 1, false),
        (1, 0, 1, false),
        (1, 2, 1, false),
        (2, 1, 3, false),
        (2, 2, 1, false),
        (1, 1, 1, true),
        (1, 1, most, true),
        (most, most, most, true),
    ] {
        let behavior = PollerBehavior::Autoscaling { min, max, initial };
        let or = |field| if fits { RUNS } else { Err(field) };
        rows.push(row(or("workflow_pollers"), move |c| c.workflow_pollers = behavior));
        rows.push(row(or("activity_pollers"), move |c| c.activity_pollers = behavior));
        rows.push(row(or("nexus_pollers"), move |c| c.nexus_pollers = behavior));
    }
    rows
}

/// A machine of which nothing is used.
struct Idle;

impl HostReader for Idle {
    fn read(&mut self, elapsed: Duration) -> Option<Reading> {
        let cpu_limit = elapsed.as_secs_f64();
        Some(Reading { memory_used: 0, memory_limit: 1 << 30, cpu_used: 0.0, cpu_limit })
    }
}

fn by_resources(options: ResourceOptions, targets: ResourceTargets) -> Slots {
    let controller = ResourceController::new(targets, HostSampler::new(Idle), &Metrics::none());
    let supplier = Arc::new(ResourceSlots::new(options, controller));
    Slots::Tuner(Tuner {
        workflow_tasks: supplier.clone(),
        activities: supplier.clone(),
        local_activities: supplier.clone(),
        nexus_tasks: supplier,
    })
}

fn resources() -> Vec<(Expected, Change)> {
    let mut rows = Vec::new();
    let usual = || ResourceTargets::new(0.8, 0.9);
    // Four kinds share these slots: each keeps a poll open, workflows two.
    let options = ResourceOptions { slots_min: 8, slots_max: 9, ramp: NONE };
    for (slots_min, slots_max) in [(8, 0), (8, 7), (8, usize::MAX), (usize::MAX, usize::MAX), (usize::MAX, 0)]
    {
        let options = ResourceOptions { slots_min, slots_max, ..options };
        rows.push(row(RUNS, move |c| c.slots = by_resources(options, usual())));
    }
    for ramp in [NONE, LEAST, MOST] {
        let options = ResourceOptions { ramp, ..options };
        rows.push(row(RUNS, move |c| c.slots = by_resources(options, usual())));
    }
    for number in [f64::NEG_INFINITY, -1.0, 0.0, 1e-9, 1.0, 2.0, f64::INFINITY, f64::NAN] {
        rows.push(row(RUNS, move |c| c.slots = by_resources(options, ResourceTargets::new(number, 0.9))));
        rows.push(row(RUNS, move |c| c.slots = by_resources(options, ResourceTargets::new(0.8, number))));
        rows.push(row(RUNS, move |c| {
            let mut targets = usual();
            targets.memory_gains.limit = number;
            targets.cpu_gains.proportional = number;
            targets.cpu_threshold = number;
            c.slots = by_resources(options, targets);
        }));
    }
    rows
}

/// A workflow, an activity that heartbeats, and the end.
async fn works(config: WorkerConfig) -> Expected {
    let server = Server::new();
    let types = config.task_types;
    let worker = Worker::new(server.client(), config).map_err(|refused| refused.field)?;
    assert!(types.workflows && types.activities && types.nexus);
    server.give(POLL, &first("r1"));
    answer(&worker, vec![complete()]).await;
    completed(&server).await;
    let task =
        api::PollActivityTaskQueueResponse { task_token: "a".into(), attempt: 1, ..Default::default() };
    server.give("PollActivityTaskQueue", &task);
    worker.poll_activity_task().await.unwrap();
    for _ in 0..3 {
        worker.record_activity_heartbeat(ActivityHeartbeat { task_token: "a".into(), details: Vec::new() });
    }
    let _: api::RecordActivityTaskHeartbeatRequest = server.heard("RecordActivityTaskHeartbeat").await;
    let status = Some(Status::Completed(Success { result: Some(Default::default()) }));
    let result = Some(ActivityExecutionResult { status });
    worker.complete_activity_task(ActivityTaskCompletion { task_token: "a".into(), result }).unwrap();
    let _: api::RespondActivityTaskCompletedRequest = server.heard("RespondActivityTaskCompleted").await;
    let ending = begin_the_end(&worker);
    evictions(&worker).await;
    assert_eq!(ending.await.unwrap(), Ending::Clean);
    RUNS
}

async fn check(rows: Vec<(Expected, Change)>) {
    for (number, (expected, change)) in rows.into_iter().enumerate() {
        let mut config = WorkerConfig {
            max_cached_workflows: 10,
            ignore_evicts_on_shutdown: true,
            ..config(TaskTypes::ALL)
        };
        change(&mut config);
        let told = format!("row {number}: {config:?}");
        let found = tokio::time::timeout(Duration::from_secs(3_600), works(config)).await;
        assert_eq!(found.expect(&told), expected, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn times_of_a_worker() {
    check(times()).await;
}

#[tokio::test(start_paused = true)]
async fn rates_of_a_worker() {
    check(rates()).await;
}

#[tokio::test(start_paused = true)]
async fn counts_of_a_worker() {
    check(counts()).await;
}

#[tokio::test(start_paused = true)]
async fn slots_by_resources_of_a_worker() {
    check(resources()).await;
}
