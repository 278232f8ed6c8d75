//! Nexus operations, asked for and handled by the same worker: at once, by a workflow behind them, failing, cancelled.

use outlast_core::proto::coresdk::nexus::NexusOperationCancellationType as Cancel;
use outlast_core::proto::coresdk::workflow_commands::{
    RequestCancelNexusOperation, ScheduleNexusOperation, workflow_command::Variant as Command,
};
use outlast_core::proto::temporal::api::enums::v1::EventType;
use outlast_core::proto::temporal::api::history::v1::history_event::Attributes;
use outlast_core::proto::temporal::api::nexus::v1::endpoint_target::{self, Worker as Target};
use outlast_core::proto::temporal::api::nexus::v1::{EndpointSpec, EndpointTarget};
use outlast_core::proto::temporal::api::operatorservice::v1::{self as operator, operator_service};

use crate::flow::{Flow, Op, done, ended, race};
use crate::language::{Scripts, main};
use crate::scene::{Run, Scene, story};
use crate::words::{payload, payloads, seconds, texts};

/// An endpoint for the queue of the scene; its name is the workflow's input.
async fn endpoint(s: &Scene) -> String {
    let name: String = s.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let target = Target { namespace: "default".into(), task_queue: s.queue.clone() };
    let target = EndpointTarget { variant: Some(endpoint_target::Variant::Worker(target)) };
    let spec = EndpointSpec { name: name.clone(), target: Some(target), ..Default::default() };
    let request = operator::CreateNexusEndpointRequest { spec: Some(spec) };
    let _: operator::CreateNexusEndpointResponse =
        s.call(operator_service::CREATE_NEXUS_ENDPOINT, &request).await.unwrap();
    name
}

async fn start(s: &Scene) -> Run {
    let name = endpoint(s).await;
    s.start_with(|it| it.input = payloads(&name)).await
}

fn operation(w: &Flow, name: &str, change: impl FnOnce(&mut ScheduleNexusOperation)) -> Op {
    let endpoint = w.input();
    w.ask(|seq| {
        let mut it = ScheduleNexusOperation {
            seq,
            endpoint,
            service: "service".into(),
            operation: name.into(),
            input: Some(payload("me")),
            schedule_to_close_timeout: seconds(60),
            ..Default::default()
        };
        change(&mut it);
        Command::ScheduleNexusOperation(it)
    })
}

/// A workflow that is one operation, with the workflow that is behind it.
fn one(name: &'static str) -> Scripts {
    with_behind(main(move |w| async move {
        let op = operation(&w, name, |_| {});
        let start = op.said().await;
        match start.starts_with("not started") {
            true => done(&start),
            false => done(&format!("{start}, {}", op.said().await)),
        }
    }))
}

fn with_behind(code: Scripts) -> Scripts {
    code.and("behind", |w| async move {
        match race(w.signal("go"), w.cancelled()).await {
            Ok(signal) => done(&format!("{} for {}", texts(&signal.input), w.input())),
            Err(_) => ended(),
        }
    })
}

/// A workflow that cancels its operation by a signal.
fn stopped(how: Cancel) -> Scripts {
    with_behind(main(move |w| async move {
        let op = operation(&w, "behind", |it| it.cancellation_type = how.into());
        let start = op.said().await;
        w.signal("stop").await;
        w.command(Command::RequestCancelNexusOperation(RequestCancelNexusOperation { seq: op.seq }));
        let end = op.said().await;
        done(&format!("{start}, {end}"))
    }))
}

/// The workflow behind the operation, when it runs.
async fn behind(s: &Scene, run: &Run) -> Run {
    s.until(run, EventType::NexusOperationStarted, 1).await;
    let events = s.history(run).await.events;
    let token = events.into_iter().find_map(|event| match event.attributes {
        Some(Attributes::NexusOperationStartedEventAttributes(it)) => Some(it.operation_token),
        _ => None,
    });
    Run { id: token.unwrap(), run_id: String::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_answers_at_once() {
    story(one("sync"), async |s| {
        let run = start(s).await;
        assert_eq!(s.end(&run).await, "started at once, heard me");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_fails_at_once() {
    story(one("fails"), async |s| {
        let run = start(s).await;
        assert_eq!(s.end(&run).await, "not started: nexus: operation failed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_a_workflow() {
    story(one("behind"), async |s| {
        let run = start(s).await;
        let behind = behind(s, &run).await;
        s.signal(&behind, "go", "done").await;
        assert_eq!(s.end(&run).await, "started, done for me");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_is_cancelled_at_once_is_never_sent() {
    let code = main(|w| async move {
        let op = operation(&w, "sync", |_| {});
        w.command(Command::RequestCancelNexusOperation(RequestCancelNexusOperation { seq: op.seq }));
        done(&op.said().await)
    });
    story(code, async |s| {
        let run = start(s).await;
        assert!(s.end(&run).await.starts_with("not started: "));
        assert_eq!(s.count(&run, EventType::NexusOperationScheduled).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_operation_may_be_waited_for() {
    story(stopped(Cancel::WaitCancellationCompleted), async |s| {
        let run = start(s).await;
        let behind = behind(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: nexus: cancelled");
        assert_eq!(s.end(&behind).await, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_may_be_cancelled_until_the_wish_has_arrived() {
    story(stopped(Cancel::WaitCancellationRequested), async |s| {
        let run = start(s).await;
        behind(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: nexus: cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn try_cancel_of_an_operation_resolves_at_once() {
    story(stopped(Cancel::TryCancel), async |s| {
        let run = start(s).await;
        behind(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: nexus: cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_operation_is_not_told() {
    story(stopped(Cancel::Abandon), async |s| {
        let run = start(s).await;
        let behind = behind(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: nexus: cancelled");
        assert_eq!(s.count(&run, EventType::NexusOperationCancelRequested).await, 0);
        s.signal(&behind, "go", "alone").await;
        assert_eq!(s.end(&behind).await, "alone for me");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_times_out() {
    let code = with_behind(main(|w| async move {
        let op = operation(&w, "behind", |it| it.start_to_close_timeout = seconds(1));
        let start = op.said().await;
        done(&format!("{start}, {}", op.said().await))
    }));
    story(code, async |s| {
        let run = start(s).await;
        behind(s, &run).await;
        assert_eq!(s.end(&run).await, "started, timed out: nexus: timeout START_TO_CLOSE");
    })
    .await;
}
