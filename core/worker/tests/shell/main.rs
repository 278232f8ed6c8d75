//! The worker against a scripted server: what the server said, what the language said, what came of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]

mod activities;
mod builds;
mod eager;
mod ending;
mod leaving;
mod nexus;
mod refusals;
mod replays;
mod reports;
mod server;
mod settling;
mod sizes;
mod values;
mod workflows;

use outlast_worker::{Ending, TaskTypes, Worker, WorkerConfig};
use tokio::task::JoinHandle;

/// A worker's settings with these kinds of tasks only.
fn config(types: TaskTypes) -> WorkerConfig {
    WorkerConfig {
        task_types: types,
        shards: Some(2),
        heartbeat_interval: None,
        ..WorkerConfig::new("default", "q")
    }
}

const NONE: TaskTypes =
    TaskTypes { workflows: false, local_activities: false, activities: false, nexus: false };

/// Asks for the end, and waits for it elsewhere.
fn begin_the_end(worker: &Worker) -> JoinHandle<Ending> {
    let worker = worker.clone();
    tokio::spawn(async move { worker.shutdown().await })
}
