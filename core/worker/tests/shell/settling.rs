//! How long polls of a worker that ends stay open: as long as what it told the server may bring tasks at once.

use std::time::Duration;

use outlast_proto::coresdk::workflow_commands::workflow_command::Variant as Command;
use outlast_proto::coresdk::workflow_commands::{ContinueAsNewWorkflowExecution, StartTimer};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{Ending, Worker};
use tokio::time::Instant;

use crate::ending::{done, task};
use crate::server::Server;
use crate::workflows::{answer, complete, completed, evictions, first, schedule, timer, worker};

/// How long polls may stay open for what was told just now.
const SETTLING: Duration = Duration::from_millis(100);

/// How long a worker takes to end.
async fn end(worker: &Worker) -> Duration {
    let before = Instant::now();
    worker.initiate_shutdown();
    evictions(worker).await;
    assert_eq!(worker.shutdown().await, Ending::Clean);
    before.elapsed()
}

/// The time that a worker's end takes whose workflow just said so.
async fn ends_after(commands: Vec<Command>) -> Duration {
    let server = Server::new();
    let worker = worker(&server);
    server.give("PollWorkflowTaskQueue", &first("r1"));
    answer(&worker, commands).await;
    completed(&server).await;
    end(&worker).await
}

#[tokio::test(start_paused = true)]
async fn what_brings_no_task_at_once_holds_nothing_up() {
    for commands in [vec![], vec![timer()], vec![complete()], vec![schedule(1), complete()]] {
        assert_eq!(ends_after(commands.clone()).await, Duration::ZERO, "{commands:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_bring_one_keeps_polls_open_for_a_moment() {
    let soon = Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 });
    let again = ContinueAsNewWorkflowExecution::default();
    for command in [
        schedule(1),
        Command::StartTimer(StartTimer { seq: 1, start_to_fire_timeout: soon }),
        // A run that goes on under another id is closed, and still has a next task.
        Command::ContinueAsNewWorkflowExecution(again),
    ] {
        let took = ends_after(vec![command.clone()]).await;
        assert!((SETTLING / 2..=SETTLING * 3 / 2).contains(&took), "{took:?} {command:?}");
    }
}

/// The time that a worker's end takes which just gave an activity's result, of a run that it has cached or not.
async fn ends_after_a_result(cached: bool) -> Duration {
    let server = Server::new();
    let worker = worker(&server);
    if cached {
        server.give("PollWorkflowTaskQueue", &first("r1"));
        answer(&worker, vec![timer()]).await;
        completed(&server).await;
    }
    server.give("PollActivityTaskQueue", &task());
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done()).unwrap();
    let _: api::RespondActivityTaskCompletedRequest = server.heard("RespondActivityTaskCompleted").await;
    end(&worker).await
}

#[tokio::test(start_paused = true)]
async fn a_result_brings_a_task_only_if_its_run_may_be_here() {
    assert_eq!(ends_after_a_result(false).await, Duration::ZERO);
    let took = ends_after_a_result(true).await;
    assert!((SETTLING / 2..=SETTLING * 3 / 2).contains(&took), "{took:?}");
}
