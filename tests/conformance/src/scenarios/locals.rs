//! Local activities: they run inside the workflow task, are retried there or after a timer, keep a long task alive,
//! and are cancelled in every way.

use outlast_core::proto::coresdk::workflow_commands::{
    ActivityCancellationType as Cancel, RequestCancelLocalActivity, ScheduleLocalActivity,
    workflow_command::Variant as Command,
};
use outlast_core::proto::temporal::api::common::v1::RetryPolicy;
use outlast_core::proto::temporal::api::enums::v1::EventType;
use outlast_core::proto::temporal::api::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::flow::done;
use crate::language::{Scripts, main};
use crate::scene::story;
use crate::words::{attempts, millis, payload, said, seconds};

fn local(name: &str, input: &str) -> ScheduleLocalActivity {
    ScheduleLocalActivity {
        activity_type: name.into(),
        arguments: vec![payload(input)],
        start_to_close_timeout: seconds(60),
        retry_policy: attempts(1),
        ..Default::default()
    }
}

/// Tasks are short, so that what waits for the next one does not wait for long.
fn briefly(request: &mut StartWorkflowExecutionRequest) {
    request.workflow_task_timeout = seconds(3);
}

/// A workflow that is one local activity.
fn one(task: ScheduleLocalActivity) -> Scripts {
    main(move |w| {
        let task = task.clone();
        async move { done(&said(&w.local(task).1.await)) }
    })
}

/// A workflow whose local activity is cancelled when a timer fires.
fn stopped(name: &'static str, how: Cancel) -> Scripts {
    main(move |w| async move {
        let task = ScheduleLocalActivity { cancellation_type: how.into(), ..local(name, "") };
        let (op, result) = w.local(task);
        w.timer(100).next().await;
        let seq = op.lock().unwrap().seq;
        w.command(Command::RequestCancelLocalActivity(RequestCancelLocalActivity { seq }));
        done(&said(&result.await))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_activity_completes_within_its_task() {
    story(one(local("echo", "near")), async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "near");
        assert_eq!(s.count(&run, EventType::MarkerRecorded).await, 1);
        assert_eq!(s.count(&run, EventType::WorkflowTaskCompleted).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_activity_fails() {
    story(one(local("fatal", "")), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: fatal");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_activity_is_tried_again() {
    story(one(ScheduleLocalActivity { retry_policy: attempts(5), ..local("flaky", "3") }), async |s| {
        assert_eq!(s.end(&s.start().await).await, "attempt 3");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_pause_between_attempts_is_a_timer() {
    let task = ScheduleLocalActivity {
        retry_policy: Some(RetryPolicy { initial_interval: millis(300), ..Default::default() }),
        local_retry_threshold: millis(100),
        ..local("flaky", "3")
    };
    story(one(task), async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "attempt 3");
        assert_eq!(s.count(&run, EventType::TimerFired).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_local_activity_keeps_its_task_alive() {
    story(one(local("slow", "6000")), async |s| {
        let run = s.start_with(briefly).await;
        assert_eq!(s.end(&run).await, "slow");
        assert_eq!(s.count(&run, EventType::WorkflowTaskTimedOut).await, 0);
        assert!(s.count(&run, EventType::WorkflowTaskCompleted).await > 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_activity_that_takes_too_long_times_out() {
    let task = ScheduleLocalActivity { start_to_close_timeout: millis(300), ..local("silent", "") };
    story(one(task), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: timeout START_TO_CLOSE");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_of_a_local_activity_end_with_the_time_for_all_of_them() {
    let task = ScheduleLocalActivity {
        schedule_to_close_timeout: millis(500),
        retry_policy: attempts(0),
        ..local("fail", "")
    };
    story(one(task), async |s| {
        // What ends it is the failure of the last attempt, or the time limit: either comes first.
        let end = s.end(&s.start().await).await;
        assert!(end == "failed: failed" || end.starts_with("failed: activity: "), "{end}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_activity_is_cancelled_at_once() {
    story(stopped("silent", Cancel::TryCancel), async |s| {
        assert_eq!(s.end(&s.start_with(briefly).await).await, "cancelled: activity: cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_local_activity_may_be_waited_for() {
    story(stopped("silent", Cancel::WaitCancellationCompleted), async |s| {
        assert_eq!(s.end(&s.start_with(briefly).await).await, "cancelled: activity: cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_local_activity_is_forgotten() {
    story(stopped("gate", Cancel::Abandon), async |s| {
        assert_eq!(s.end(&s.start_with(briefly).await).await, "cancelled: activity: cancelled");
        s.open(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_local_activities_and_timers_mix() {
    let code = main(|w| async move {
        let mut said = Vec::new();
        for round in 0..4 {
            let all: Vec<_> = (0..3).map(|n| w.local(local("slow", &(20 * n + 5).to_string())).1).collect();
            let timer = w.timer(15);
            for it in all {
                said.push(crate::words::said(&it.await));
            }
            timer.next().await;
            said.push(round.to_string());
        }
        done(&said.join(" "))
    });
    story(code, async |s| {
        let end = s.end(&s.start().await).await;
        assert_eq!(end, "slow slow slow 0 slow slow slow 1 slow slow slow 2 slow slow slow 3");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_is_heard_while_a_local_activity_runs() {
    let code = main(|w| async move {
        let (_, long) = w.local(local("gate", ""));
        let heard = w.signal("hello").await;
        let said = said(&long.await);
        done(&format!("{said} {}", crate::words::texts(&heard.input)))
    });
    story(code, async |s| {
        let run = s.start_with(briefly).await;
        s.arrived(1).await;
        s.signal(&run, "hello", "you").await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        s.open(1);
        assert_eq!(s.end(&run).await, "passed you");
    })
    .await;
}
