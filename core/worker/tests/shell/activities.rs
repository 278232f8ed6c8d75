//! Activities: from a poll to the report.

use std::time::Duration;

use outlast_client::Code;
use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Cancellation, Failure, Success, activity_execution_result::Status,
};
use outlast_proto::coresdk::activity_task::{
    ActivityCancelReason, ActivityTask, Cancel, Start, activity_task::Variant,
};
use outlast_proto::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use outlast_proto::temporal::api::common::v1::{ActivityType, Payload};
use outlast_proto::temporal::api::enums::v1::ActivityTaskFailedCause;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{CompleteError, PollError, PollerBehavior, TaskTypes, Versioning, Worker, WorkerConfig};

use crate::server::{Answer, Server};
use crate::{NONE, config};

const POLL: &str = "PollActivityTaskQueue";
const COMPLETED: &str = "RespondActivityTaskCompleted";

fn activities() -> WorkerConfig {
    config(TaskTypes { activities: true, ..NONE })
}

fn task(token: &'static str) -> api::PollActivityTaskQueueResponse {
    api::PollActivityTaskQueueResponse {
        task_token: token.into(),
        activity_type: Some(ActivityType { name: "charge".into() }),
        activity_id: "1".into(),
        attempt: 1,
        ..Default::default()
    }
}

fn done(token: &'static str, status: Status) -> ActivityTaskCompletion {
    let result = Some(ActivityExecutionResult { status: Some(status) });
    ActivityTaskCompletion { task_token: token.into(), result }
}

fn success(text: &'static str) -> Status {
    Status::Completed(Success { result: Some(Payload { data: text.into(), ..Default::default() }) })
}

fn start(task: ActivityTask) -> Start {
    match task.variant {
        Some(Variant::Start(start)) => start,
        other => panic!("{other:?}"),
    }
}

fn cancel(task: ActivityTask) -> Cancel {
    match task.variant {
        Some(Variant::Cancel(cancel)) => cancel,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_reaches_the_language_and_its_result_the_server() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task("a"));
    let start = start(worker.poll_activity_task().await.unwrap());
    assert_eq!((start.activity_type.as_str(), start.attempt, start.is_local), ("charge", 1, false));
    worker.complete_activity_task(done("a", success("ok"))).unwrap();
    let said: api::RespondActivityTaskCompletedRequest = server.heard(COMPLETED).await;
    assert_eq!(
        (said.task_token.as_ref(), said.identity.as_str(), said.namespace.as_str()),
        (&b"a"[..], "tester", "default")
    );
    assert_eq!(said.result.unwrap().payloads[0].data, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_which_build_failed_and_that_it_was_the_languages_code() {
    let server = Server::new();
    let versioning = Versioning::None { build_id: "b1".into() };
    let worker = Worker::new(server.client(), WorkerConfig { versioning, ..activities() }).unwrap();
    server.give(POLL, &task("a"));
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done("a", Status::Failed(Failure::default()))).unwrap();
    let said: api::RespondActivityTaskFailedRequest = server.heard("RespondActivityTaskFailed").await;
    assert_eq!(said.cause(), ActivityTaskFailedCause::ActivityWorkerUnhandledFailure);
    #[expect(deprecated, reason = "what servers of the older versioning read")]
    let stamp = said.worker_version.unwrap();
    assert_eq!((stamp.build_id.as_str(), stamp.use_versioning), ("b1", false));
}

#[tokio::test(start_paused = true)]
async fn no_poll_starts_before_the_language_asks() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(server.unheard(POLL), 0);
    server.give(POLL, &task("a"));
    worker.poll_activity_task().await.unwrap();
    assert!(server.unheard(POLL) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_read_does_not_end_the_worker() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give_bytes(POLL, b"\xff\xff".as_slice().into());
    server.give(POLL, &task("a"));
    start(worker.poll_activity_task().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn polls_that_are_ended_at_once_again_and_again_slow_down() {
    for code in [Code::Cancelled, Code::DeadlineExceeded] {
        let server = Server::new();
        server.answer(POLL, Answer::Fails(code, "no"));
        let activity_pollers = PollerBehavior::Autoscaling { min: 1, max: 1, initial: 1 };
        let worker = Worker::new(server.client(), WorkerConfig { activity_pollers, ..activities() }).unwrap();
        let minute = tokio::time::timeout(Duration::from_secs(60), worker.poll_activity_task());
        minute.await.unwrap_err();
        // 0, 0.2, 0.4, ... 6.4 seconds after the one before.
        assert!((10..=20).contains(&server.unheard(POLL)), "{code:?}: {}", server.unheard(POLL));
    }
}

#[tokio::test(start_paused = true)]
async fn slots_bound_what_the_language_holds() {
    let server = Server::new();
    let mut config = activities();
    config.slots = outlast_worker::Slots::Fixed(outlast_worker::FixedSlots {
        workflow_tasks: 1,
        activities: 1,
        local_activities: 1,
        nexus_tasks: 1,
    });
    let worker = Worker::new(server.client(), config).unwrap();
    server.give(POLL, &task("a"));
    server.give(POLL, &task("b"));
    worker.poll_activity_task().await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(60), worker.poll_activity_task()).await;
    assert!(second.is_err(), "the only slot is taken");
    worker.complete_activity_task(done("a", success("ok"))).unwrap();
    assert_eq!(worker.poll_activity_task().await.unwrap().task_token, "b");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_brings_back_a_cancellation_and_then_the_activity_is_cancelled() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task("a"));
    worker.poll_activity_task().await.unwrap();
    let reply = api::RecordActivityTaskHeartbeatResponse { cancel_requested: true, ..Default::default() };
    server.answer("RecordActivityTaskHeartbeat", Answer::is(&reply));
    worker.record_activity_heartbeat(ActivityHeartbeat { task_token: "a".into(), details: vec![] });
    let cancel = cancel(worker.poll_activity_task().await.unwrap());
    assert_eq!(cancel.reason(), ActivityCancelReason::Cancelled);
    worker.complete_activity_task(done("a", Status::Cancelled(Cancellation::default()))).unwrap();
    let said: api::RespondActivityTaskCanceledRequest = server.heard("RespondActivityTaskCanceled").await;
    assert_eq!(said.task_token, "a");
}

#[tokio::test(start_paused = true)]
async fn an_activity_that_the_server_forgot_is_cancelled_and_not_reported() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task("a"));
    worker.poll_activity_task().await.unwrap();
    server.answer("RecordActivityTaskHeartbeat", Answer::Fails(Code::NotFound, "no such task"));
    worker.record_activity_heartbeat(ActivityHeartbeat { task_token: "a".into(), details: vec![] });
    let cancel = cancel(worker.poll_activity_task().await.unwrap());
    assert_eq!(cancel.reason(), ActivityCancelReason::NotFound);
    worker.complete_activity_task(done("a", success("late"))).unwrap();
    worker.shutdown().await;
    assert_eq!(server.unheard(COMPLETED), 0);
}

#[tokio::test(start_paused = true)]
async fn an_activity_that_runs_too_long_is_cancelled_five_seconds_after_its_timeout() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    let limit = prost_types::Duration { seconds: 10, nanos: 0 };
    server
        .give(POLL, &api::PollActivityTaskQueueResponse { start_to_close_timeout: Some(limit), ..task("a") });
    worker.poll_activity_task().await.unwrap();
    let before = tokio::time::Instant::now();
    let cancel = cancel(worker.poll_activity_task().await.unwrap());
    assert_eq!(cancel.reason(), ActivityCancelReason::TimedOut);
    assert_eq!(before.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_as_one() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task("a"));
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done("a", Status::Failed(Failure::default()))).unwrap();
    let said: api::RespondActivityTaskFailedRequest = server.heard("RespondActivityTaskFailed").await;
    assert_eq!(said.task_token, "a");
}

#[tokio::test(start_paused = true)]
async fn a_completion_without_a_result_is_refused() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    let empty = ActivityTaskCompletion { task_token: "a".into(), result: None };
    assert!(matches!(worker.complete_activity_task(empty), Err(CompleteError::Malformed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_for_a_minute_is_told_to_the_language() {
    let began = tokio::time::Instant::now();
    let server = Server::new();
    server.answer(POLL, Answer::Fails(Code::PermissionDenied, "not yours"));
    let worker = Worker::new(server.client(), activities()).unwrap();
    match worker.poll_activity_task().await {
        Err(PollError::Fatal(text)) => assert!(text.contains("not yours"), "{text}"),
        other => panic!("{other:?}"),
    }
    let took = began.elapsed().as_secs();
    assert!((60..75).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_worker_without_workflows_says_so() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::NotConfigured("workflows"));
}
