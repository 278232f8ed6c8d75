//! The floor under a live worker: the same calls, with nothing between them but what the next call needs.

use outlast_core::proto::temporal::api::command::v1::{
    Command, ScheduleActivityTaskCommandAttributes, command::Attributes,
};
use outlast_core::proto::temporal::api::common::v1::{ActivityType, Payloads};
use outlast_core::proto::temporal::api::enums::v1::{CommandType, TaskQueueKind};
use outlast_core::proto::temporal::api::history::v1::history_event::Attributes as Event;
use outlast_core::proto::temporal::api::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_core::{CallOptions, Client};
use tokio::sync::mpsc;

use crate::history::{ACTIVITY, INPUT, QUEUE, json};
use crate::live::{connect, start};

const STICKY: &str = "bench-sticky";
/// Polls of the sticky queue, beside one of the normal queue: as a worker has them.
const STICKY_POLLS: usize = 4;

/// The same as `live::cycles`, without a worker.
pub fn calls(address: &str, workflows: u32, activities: u32) {
    let (runtime, client) = connect(address);
    runtime.block_on(async {
        start(&client, workflows, activities).await;
        let (ended, mut ends) = mpsc::unbounded_channel();
        for n in 0..=STICKY_POLLS {
            let queue = if n > 0 { sticky() } else { queue() };
            runtime.handle().spawn(poll(client.clone(), queue, activities, ended.clone()));
        }
        for _ in 0..workflows {
            ends.recv().await.expect("pollers do not end");
        }
    });
}

fn queue() -> TaskQueue {
    TaskQueue { name: QUEUE.into(), kind: TaskQueueKind::Normal.into(), ..Default::default() }
}

fn sticky() -> TaskQueue {
    TaskQueue { name: STICKY.into(), kind: TaskQueueKind::Sticky.into(), normal_name: QUEUE.into() }
}

/// Polls, answers, and does the activities that come with the reply, without end.
async fn poll(client: Client, queue: TaskQueue, activities: u32, ended: mpsc::UnboundedSender<()>) {
    let request = api::PollWorkflowTaskQueueRequest {
        namespace: "default".into(),
        task_queue: Some(queue),
        identity: "bare".into(),
        ..Default::default()
    };
    loop {
        let task: api::PollWorkflowTaskQueueResponse = client
            .call(path::POLL_WORKFLOW_TASK_QUEUE, &request, CallOptions::long_poll())
            .await
            .expect("the server answers");
        if task.task_token.is_empty() {
            continue;
        }
        let so_far = finished(&task);
        let reply: api::RespondWorkflowTaskCompletedResponse = client
            .call(
                path::RESPOND_WORKFLOW_TASK_COMPLETED,
                &answer(task, so_far, activities),
                Default::default(),
            )
            .await
            .expect("the server takes answers");
        for activity in reply.activity_tasks {
            let done = api::RespondActivityTaskCompletedRequest {
                namespace: "default".into(),
                task_token: activity.task_token,
                identity: "bare".into(),
                result: Some(Payloads { payloads: vec![json("\"ok\"")] }),
                ..Default::default()
            };
            let _: api::RespondActivityTaskCompletedResponse = client
                .call(path::RESPOND_ACTIVITY_TASK_COMPLETED, &done, Default::default())
                .await
                .expect("the server takes results");
        }
        if so_far == activities {
            ended.send(()).expect("somebody waits for the end");
        }
    }
}

/// How many activities have finished: they are numbered, and done one after the other.
fn finished(task: &api::PollWorkflowTaskQueueResponse) -> u32 {
    let events = task.history.iter().flat_map(|history| &history.events);
    let numbers = events.filter_map(|event| {
        let Some(Event::ActivityTaskScheduledEventAttributes(scheduled)) = &event.attributes else {
            return None;
        };
        scheduled.activity_id.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

fn answer(
    task: api::PollWorkflowTaskQueueResponse,
    so_far: u32,
    activities: u32,
) -> api::RespondWorkflowTaskCompletedRequest {
    let (command_type, attributes) = match so_far == activities {
        true => (
            CommandType::CompleteWorkflowExecution,
            Attributes::CompleteWorkflowExecutionCommandAttributes(Default::default()),
        ),
        false => (CommandType::ScheduleActivityTask, schedule(so_far + 1)),
    };
    api::RespondWorkflowTaskCompletedRequest {
        namespace: "default".into(),
        task_token: task.task_token,
        identity: "bare".into(),
        commands: vec![Command {
            command_type: command_type.into(),
            attributes: Some(attributes),
            ..Default::default()
        }],
        sticky_attributes: Some(StickyExecutionAttributes {
            worker_task_queue: Some(sticky()),
            schedule_to_start_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        }),
        ..Default::default()
    }
}

fn schedule(number: u32) -> Attributes {
    Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
        activity_id: number.to_string(),
        activity_type: Some(ActivityType { name: ACTIVITY.into() }),
        task_queue: Some(queue()),
        input: Some(Payloads { payloads: vec![json(INPUT)] }),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        request_eager_execution: true,
        ..Default::default()
    })
}
