//! The end of a worker as its cached runs see it: they are evicted, and a language that does not let them go is waited for only
//! so long.

use std::time::Duration;

use outlast_worker::telemetry::logs::{LogBuffer, LogTo, Logs};
use outlast_worker::{Ending, PollError, TaskTypes, Worker, WorkerConfig};
use tokio::time::Instant;

use crate::server::Server;
use crate::workflows::{
    POLL, answer, cached, commands, complete, completed, evictions, first, is_eviction, timer,
};
use crate::{begin_the_end, config, ending};

/// A worker with these runs in its cache.
async fn with_runs(server: &std::sync::Arc<Server>, config: WorkerConfig, runs: usize) -> Worker {
    let worker = Worker::new(server.client(), config).unwrap();
    for run in 0..runs {
        server.give(POLL, &first(&format!("r{run}")));
        answer(&worker, vec![timer()]).await;
        completed(server).await;
    }
    worker
}

/// What this thread logs, if somebody should look at it.
fn logs() -> LogBuffer {
    let buffer = LogBuffer::default();
    Logs::new(LogTo::Buffer(buffer.clone()), "warn".parse().unwrap()).adopt_thread();
    buffer
}

/// What was logged of runs that were dropped: how many.
fn dropped(logs: &LogBuffer) -> Vec<String> {
    let texts = logs.drain().records.into_iter().map(|record| record.message);
    texts
        .filter_map(|text| text.split_once(" cached workflow run(s) did not").map(|(n, _)| n.to_owned()))
        .collect()
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A name; after how many milliseconds each eviction is answered; how many the end takes then; how many runs are dropped.
type Case = (&'static str, &'static [Option<u64>], u64, Option<&'static str>);

#[tokio::test(start_paused = true)]
async fn runs_that_do_not_leave_are_waited_for_only_so_long() {
    const NEVER: Option<u64> = None;
    let table: &[Case] = &[
        ("an empty cache costs nothing", &[], 0, None),
        ("each is answered at once", &[Some(0), Some(0), Some(0)], 0, None),
        ("late, but answered", &[Some(2_900), Some(5_800), Some(8_700)], 8_700, None),
        ("one is never answered", &[Some(0), NEVER, Some(100)], 3_100, Some("1")),
        ("no one is", &[NEVER, NEVER, NEVER], 3_000, Some("3")),
        (
            "one after the other, but too many",
            &[Some(2_500), Some(5_000), Some(7_500), Some(9_900), Some(12_000)],
            10_000,
            Some("1"),
        ),
    ];
    for (what, answers, takes, left) in table {
        let logs = logs();
        let server = Server::new();
        // The patience is that of each shard.
        let worker = with_runs(&server, WorkerConfig { shards: Some(1), ..cached() }, answers.len()).await;
        let before = Instant::now();
        let ending = begin_the_end(&worker);
        for after in *answers {
            let activation = worker.poll_workflow_activation().await.unwrap();
            assert!(is_eviction(&activation), "{what}: {activation:?}");
            let (worker, after) = (worker.clone(), after.map(millis));
            tokio::spawn(async move {
                let Some(after) = after else { return };
                tokio::time::sleep(after).await;
                // A worker that has ended does not need it.
                let _ = worker.complete_workflow_activation(commands(&activation.run_id, vec![]));
            });
        }
        assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown, "{what}");
        assert_eq!(ending.await.unwrap(), Ending::Clean, "{what}");
        assert_eq!(
            (before.elapsed(), dropped(&logs)),
            (millis(*takes), left.iter().map(|n| (*n).to_owned()).collect()),
            "{what}"
        );
        assert_eq!(worker.finalize_shutdown().await, Ending::Clean, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn evictions_that_nobody_fetched_are_not_given_after_the_end() {
    let server = Server::new();
    let worker = with_runs(&server, cached(), 2).await;
    assert_eq!(worker.shutdown().await, Ending::Clean);
    assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn the_hard_deadline_comes_first_if_it_is_sooner() {
    let server = Server::new();
    let worker = with_runs(&server, WorkerConfig { shutdown_limit: millis(1_000), ..cached() }, 1).await;
    let before = Instant::now();
    assert_eq!(worker.shutdown().await, Ending::Deadline);
    assert_eq!(before.elapsed(), millis(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_room_is_served_although_the_run_before_it_does_not_leave() {
    let logs = logs();
    let server = Server::new();
    let small = WorkerConfig { max_cached_workflows: 1, shards: Some(1), ..cached() };
    let worker = with_runs(&server, small, 1).await;
    server.give(POLL, &first("next"));
    let stays = worker.poll_workflow_activation().await.unwrap();
    assert!(is_eviction(&stays) && stays.run_id == "r0", "{stays:?}");
    let before = Instant::now();
    let ending = begin_the_end(&worker);
    let begun = answer(&worker, vec![complete()]).await;
    assert_eq!((begun.run_id.as_str(), before.elapsed()), ("next", millis(3_000)));
    completed(&server).await;
    // An answer that comes too late is for nobody.
    worker.complete_workflow_activation(commands(&stays.run_id, vec![])).unwrap();
    assert_eq!(evictions(&worker).await, 1);
    assert_eq!((ending.await.unwrap(), before.elapsed()), (Ending::Clean, millis(3_000)));
    assert_eq!(dropped(&logs), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_left_before_the_end_and_does_not_go_is_not_waited_for_longer() {
    let server = Server::new();
    // The language wants no evictions at the end; this one came before.
    let config = WorkerConfig { ignore_evicts_on_shutdown: true, ..cached() };
    let worker = with_runs(&server, config, 2).await;
    let reason = outlast_proto::lens::lang::remove_from_cache::EvictionReason::LangRequested;
    worker.request_workflow_eviction("r0", reason, "enough");
    assert!(is_eviction(&worker.poll_workflow_activation().await.unwrap()));
    let before = Instant::now();
    assert_eq!((worker.shutdown().await, before.elapsed()), (Ending::Clean, millis(3_000)));
}

#[tokio::test(start_paused = true)]
async fn runs_leave_when_the_activities_have_ended() {
    let server = Server::new();
    let types = TaskTypes { nexus: false, ..TaskTypes::ALL };
    let worker = with_runs(&server, WorkerConfig { max_cached_workflows: 10, ..config(types) }, 1).await;
    server.give("PollActivityTaskQueue", &ending::task());
    worker.poll_activity_task().await.unwrap();
    let end = begin_the_end(&worker);
    tokio::select! {
        biased;
        activation = worker.poll_workflow_activation() => panic!("{activation:?}"),
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    worker.complete_activity_task(ending::done()).unwrap();
    assert_eq!(evictions(&worker).await, 1);
    assert_eq!(end.await.unwrap(), Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_held_is_answered_before_its_run_leaves() {
    let server = Server::new();
    let worker = with_runs(&server, cached(), 2).await;
    server.give(POLL, &first("held"));
    let held = worker.poll_workflow_activation().await.unwrap();
    let ending = begin_the_end(&worker);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!ending.is_finished(), "a task has no bound but the worker's");
    worker.complete_workflow_activation(commands(&held.run_id, vec![timer()])).unwrap();
    assert_eq!(evictions(&worker).await, 3);
    assert_eq!(ending.await.unwrap(), Ending::Clean);
}
