//! What begins at once on the worker that asks for it: activities of its workflows, and workflows started beside it.

use std::time::Duration;

use outlast_proto::temporal::api::command::v1::command::Attributes;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{Ending, FixedSlots, Slots, Worker, WorkerConfig};

use crate::begin_the_end;
use crate::server::{Answer, Server};
use crate::workflows::{
    COMPLETED, POLL, answer, cached, commands, completed, evictions, first, schedule, timer, worker,
};

fn eager(said: &api::RespondWorkflowTaskCompletedRequest) -> Vec<bool> {
    let mut all = Vec::new();
    for command in &said.commands {
        if let Some(Attributes::ScheduleActivityTaskCommandAttributes(schedule)) = &command.attributes {
            all.push(schedule.request_eager_execution);
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn free_slots_are_claimed_for_at_most_three_activities() {
    let server = Server::new();
    let worker = worker(&server);
    let task = api::PollActivityTaskQueueResponse { task_token: "eager".into(), ..Default::default() };
    let reply =
        api::RespondWorkflowTaskCompletedResponse { activity_tasks: vec![task], ..Default::default() };
    server.answer(COMPLETED, Answer::is(&reply));
    server.give(POLL, &first("r1"));
    answer(&worker, (1..=5).map(schedule).collect()).await;
    assert_eq!(eager(&completed(&server).await), [true, true, true, false, false]);
    assert_eq!(worker.poll_activity_task().await.unwrap().task_token, "eager");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ends_claims_no_activities() {
    let server = Server::new();
    let worker = worker(&server);
    server.give(POLL, &first("r1"));
    let activation = worker.poll_workflow_activation().await.unwrap();
    let ending = begin_the_end(&worker);
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.complete_workflow_activation(commands(&activation.run_id, vec![schedule(1)])).unwrap();
    assert_eq!(eager(&completed(&server).await), [false]);
    evictions(&worker).await;
    assert_eq!(ending.await.unwrap(), Ending::Clean);
}

#[tokio::test(start_paused = true)]
async fn an_activity_that_finds_no_free_slot_goes_through_its_queue() {
    let server = Server::new();
    let one = FixedSlots { workflow_tasks: 2, activities: 1, local_activities: 1, nexus_tasks: 1 };
    let worker = Worker::new(server.client(), WorkerConfig { slots: Slots::Fixed(one), ..cached() }).unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![schedule(1), schedule(2)]).await;
    assert_eq!(eager(&completed(&server).await), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_for_the_whole_queue_ends_eager_activities() {
    let server = Server::new();
    let limited = WorkerConfig { max_task_queue_activities_per_second: Some(5.0), ..cached() };
    let worker = Worker::new(server.client(), limited).unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![schedule(1)]).await;
    assert_eq!(eager(&completed(&server).await), [false]);
}

fn start_request() -> api::StartWorkflowExecutionRequest {
    api::StartWorkflowExecutionRequest {
        namespace: "default".into(),
        task_queue: Some(TaskQueue { name: "q".into(), ..Default::default() }),
        request_eager_execution: true,
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_is_started_beside_a_worker_begins_on_it_at_once() {
    let server = Server::new();
    let set = outlast_worker::WorkerSet::default();
    let worker = worker(&server);
    set.add(&worker).unwrap();
    let polling = {
        let worker = worker.clone();
        tokio::spawn(async move { answer(&worker, vec![timer()]).await })
    };
    let _: api::PollWorkflowTaskQueueRequest = server.heard(POLL).await;
    let reply =
        api::StartWorkflowExecutionResponse { eager_workflow_task: Some(first("r1")), ..Default::default() };
    server.answer("StartWorkflowExecution", Answer::is(&reply));
    let started = set.start_workflow(&server.client(), start_request(), Default::default()).await.unwrap();
    assert_eq!(started.eager_workflow_task, Some(Default::default()), "it is the worker's");
    let said: api::StartWorkflowExecutionRequest = server.heard("StartWorkflowExecution").await;
    assert!(said.request_eager_execution);
    assert_eq!(polling.await.unwrap().run_id, "r1");
    completed(&server).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_for_a_queue_that_nobody_here_polls() {
    let server = Server::new();
    let set = outlast_worker::WorkerSet::default();
    let worker = worker(&server);
    set.add(&worker).unwrap();
    let other = TaskQueue { name: "other".into(), ..Default::default() };
    let request = api::StartWorkflowExecutionRequest { task_queue: Some(other), ..start_request() };
    set.start_workflow(&server.client(), request, Default::default()).await.unwrap();
    let said: api::StartWorkflowExecutionRequest = server.heard("StartWorkflowExecution").await;
    assert!(!said.request_eager_execution);

    worker.initiate_shutdown();
    set.start_workflow(&server.client(), start_request(), Default::default()).await.unwrap();
    let said: api::StartWorkflowExecutionRequest = server.heard("StartWorkflowExecution").await;
    assert!(!said.request_eager_execution, "it takes no new tasks");
}

#[tokio::test(start_paused = true)]
async fn two_workers_of_one_client_do_not_take_the_same_tasks() {
    let server = Server::new();
    let set = outlast_worker::WorkerSet::default();
    let first = worker(&server);
    set.add(&first).unwrap();
    assert_eq!(set.add(&worker(&server)).unwrap_err().field, "task_queue");
    let other = outlast_worker::Versioning::None { build_id: "b2".into() };
    set.add(&Worker::new(server.client(), WorkerConfig { versioning: other, ..cached() }).unwrap()).unwrap();
    first.shutdown().await;
    set.add(&worker(&server)).unwrap();
}
