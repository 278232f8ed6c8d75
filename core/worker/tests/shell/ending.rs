//! The end of a worker, in each phase and whatever the server answers.

use std::sync::Arc;
use std::time::Duration;

use outlast_client::Code;
use outlast_proto::coresdk::ActivityTaskCompletion;
use outlast_proto::coresdk::activity_result::{
    ActivityExecutionResult, Success, activity_execution_result::Status,
};
use outlast_proto::coresdk::activity_task::{ActivityCancelReason, activity_task::Variant};
use outlast_proto::temporal::api::common::v1::Payload;
use outlast_proto::temporal::api::namespace::v1::{NamespaceInfo, namespace_info::Capabilities};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{CompleteError, Ending, PollError, TaskTypes, Worker, WorkerConfig};
use tokio::time::Instant;

use crate::server::{Answer, Server};
use crate::{NONE, begin_the_end, config};

const POLL: &str = "PollActivityTaskQueue";

fn activities() -> WorkerConfig {
    config(TaskTypes { activities: true, ..NONE })
}

pub fn task() -> api::PollActivityTaskQueueResponse {
    api::PollActivityTaskQueueResponse { task_token: "a".into(), ..Default::default() }
}

pub fn done() -> ActivityTaskCompletion {
    let status = Some(Status::Completed(Success { result: Some(Payload::default()) }));
    ActivityTaskCompletion { task_token: "a".into(), result: Some(ActivityExecutionResult { status }) }
}

/// The namespace promises to end polls of workers that end.
async fn promised(server: &Server, worker: &Worker) {
    let can = Capabilities { worker_poll_complete_on_shutdown: true, ..Default::default() };
    let info = NamespaceInfo { capabilities: Some(can), ..Default::default() };
    let answer = api::DescribeNamespaceResponse { namespace_info: Some(info), ..Default::default() };
    server.answer("DescribeNamespace", Answer::is(&answer));
    worker.validate().await.unwrap();
}

/// Polls until the worker says that it is over; true if it says so and nothing else.
fn polling(worker: &Worker) -> tokio::task::JoinHandle<PollError> {
    let worker = worker.clone();
    tokio::spawn(async move { worker.poll_activity_task().await.unwrap_err() })
}

async fn polls_in_flight(server: &Server) {
    let _: api::PollActivityTaskQueueRequest = server.heard(POLL).await;
}

/// How long a worker that is done waits for the server to say something to the announcement.
const PARTING: Duration = Duration::from_millis(500);

/// A worker with polls in flight, and its end: how, and after how long.
async fn end(server: Arc<Server>, worker: Worker) -> (Ending, Duration) {
    let waits = polling(&worker);
    polls_in_flight(&server).await;
    let before = Instant::now();
    let ending = worker.shutdown().await;
    assert_eq!(waits.await.unwrap(), PollError::ShutDown);
    (ending, before.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_never_polled_ends_at_once() {
    let server = Server::new();
    let worker = Worker::new(server.client(), config(TaskTypes::ALL)).unwrap();
    assert_eq!(worker.shutdown().await, Ending::Clean);
    assert_eq!(worker.poll_activity_task().await.unwrap_err(), PollError::ShutDown);
    assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
    assert_eq!(worker.poll_nexus_task().await.unwrap_err(), PollError::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn polls_are_aborted_and_the_server_is_told() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    assert_eq!(end(server.clone(), worker).await, (Ending::Clean, Duration::ZERO));
    assert!(server.dropped_polls() > 0);
    let said: api::ShutdownWorkerRequest = server.heard("ShutdownWorker").await;
    assert_eq!((said.identity.as_str(), said.task_queue.as_str()), ("tester", "q"));
    assert!(said.sticky_task_queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_promised_ends_the_polls_itself() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    promised(&server, &worker).await;
    let ending = tokio::spawn(end(server.clone(), worker));
    let _: api::ShutdownWorkerRequest = server.heard("ShutdownWorker").await;
    server.end_polls();
    assert_eq!(ending.await.unwrap().0, Ending::Clean);
    assert_eq!(server.dropped_polls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_a_poll_during_shutdown_is_still_done() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    promised(&server, &worker).await;
    let given = {
        let worker = worker.clone();
        tokio::spawn(async move { worker.poll_activity_task().await })
    };
    polls_in_flight(&server).await;
    let ending = begin_the_end(&worker);
    let _: api::ShutdownWorkerRequest = server.heard("ShutdownWorker").await;
    server.give(POLL, &task());
    assert_eq!(given.await.unwrap().unwrap().task_token, "a");
    server.end_polls();
    worker.complete_activity_task(done()).unwrap();
    let said: api::RespondActivityTaskCompletedRequest = server.heard("RespondActivityTaskCompleted").await;
    assert_eq!(said.task_token, "a");
    assert_eq!(ending.await.unwrap(), Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_is_broken_by_silence_costs_five_seconds() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    promised(&server, &worker).await;
    let (ending, took) = end(server, worker).await;
    assert_eq!((ending, took.as_secs()), (Ending::Clean, 5));
}

#[tokio::test(start_paused = true)]
async fn no_answer_to_the_announcement_holds_the_end_up() {
    for (answer, takes) in [
        (Answer::Fails(Code::Unimplemented, "what?"), Duration::ZERO),
        (Answer::Fails(Code::Unavailable, "gone"), Duration::ZERO),
        (Answer::Fails(Code::Internal, "oops"), Duration::ZERO),
        (Answer::Silence, PARTING),
    ] {
        let server = Server::new();
        server.answer("ShutdownWorker", answer);
        let worker = Worker::new(server.client(), activities()).unwrap();
        let (ending, took) = end(server, worker).await;
        assert_eq!((ending, took), (Ending::Clean, takes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_promised_and_then_knows_nothing_of_it_is_not_waited_for() {
    for code in [Code::Unimplemented, Code::Unavailable] {
        let server = Server::new();
        server.answer("ShutdownWorker", Answer::Fails(code, "no"));
        let worker = Worker::new(server.client(), activities()).unwrap();
        promised(&server, &worker).await;
        let (ending, took) = end(server, worker).await;
        assert_eq!((ending, took), (Ending::Clean, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_brings_nothing_to_a_worker_without_workflows() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task());
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done()).unwrap();
    let _: api::RespondActivityTaskCompletedRequest = server.heard("RespondActivityTaskCompleted").await;
    assert_eq!(end(server, worker).await, (Ending::Clean, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_was_given_is_reported_before_the_end_although_the_server_stumbles() {
    let server = Server::new();
    server.answer("RespondActivityTaskCompleted", Answer::Fails(Code::Unavailable, "later"));
    server.answer("RespondActivityTaskCompleted", Answer::Fails(Code::Unavailable, "later"));
    server.answer("RespondActivityTaskCompleted", Answer::Is(bytes::Bytes::new()));
    let worker = Worker::new(server.client(), activities()).unwrap();
    server.give(POLL, &task());
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done()).unwrap();
    assert_eq!(worker.shutdown().await, Ending::Clean);
    assert_eq!(server.unheard("RespondActivityTaskCompleted"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_activity_is_cancelled_when_the_grace_is_over() {
    let server = Server::new();
    let grace = Some(Duration::from_secs(7));
    let worker =
        Worker::new(server.client(), WorkerConfig { graceful_shutdown_period: grace, ..activities() })
            .unwrap();
    server.give(POLL, &task());
    worker.poll_activity_task().await.unwrap();
    let before = Instant::now();
    worker.initiate_shutdown();
    match worker.poll_activity_task().await.unwrap().variant {
        Some(Variant::Cancel(cancel)) => assert_eq!(cancel.reason(), ActivityCancelReason::WorkerShutdown),
        other => panic!("{other:?}"),
    }
    assert_eq!(before.elapsed().as_secs(), 7);
    worker.complete_activity_task(done()).unwrap();
    assert_eq!(worker.shutdown().await, Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_language_that_never_answers_is_cut_off_at_the_deadline() {
    let server = Server::new();
    let worker = Worker::new(
        server.client(),
        WorkerConfig { shutdown_limit: Duration::from_secs(20), ..activities() },
    )
    .unwrap();
    server.give(POLL, &task());
    worker.poll_activity_task().await.unwrap();
    let before = Instant::now();
    assert_eq!(worker.shutdown().await, Ending::Deadline);
    assert_eq!(before.elapsed().as_secs(), 20);
    assert_eq!(worker.poll_activity_task().await.unwrap_err(), PollError::ShutDown);
    tokio::task::yield_now().await;
    assert_eq!(worker.complete_activity_task(done()), Err(CompleteError::Ended));
    assert!(!worker.alive());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_result_is_cut_off_at_the_deadline_too() {
    let server = Server::new();
    server.answer("RespondActivityTaskCompleted", Answer::Silence);
    let worker = Worker::new(
        server.client(),
        WorkerConfig { shutdown_limit: Duration::from_secs(20), ..activities() },
    )
    .unwrap();
    server.give(POLL, &task());
    worker.poll_activity_task().await.unwrap();
    worker.complete_activity_task(done()).unwrap();
    assert_eq!(worker.shutdown().await, Ending::Deadline);
}

#[tokio::test(start_paused = true)]
async fn ready_means_known_and_not_ending() {
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    assert!(!worker.ready() && worker.alive());
    promised(&server, &worker).await;
    assert!(worker.ready());
    worker.initiate_shutdown();
    assert!(!worker.ready());
}

#[tokio::test]
async fn health_is_told_over_http() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::new();
    let worker = Worker::new(server.client(), activities()).unwrap();
    let health = outlast_worker::Health::bind("127.0.0.1:0".parse().unwrap(), worker.clone()).await.unwrap();
    let status = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(health.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((status("/ready").await.as_str(), status("/alive").await.as_str()), ("503", "200"));
    promised(&server, &worker).await;
    assert_eq!(status("/ready").await, "200");
    server.end_polls();
    worker.shutdown().await;
    assert_eq!((status("/ready").await.as_str(), status("/alive").await.as_str()), ("503", "503"));
    assert_eq!(status("/").await, "404");
}
