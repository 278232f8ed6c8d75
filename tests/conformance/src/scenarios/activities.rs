//! Activities: success, retries, timeouts, heartbeats, every way to cancel, completion from elsewhere, eager starts.

use outlast_core::proto::coresdk::workflow_commands::{
    ActivityCancellationType as Cancel, RequestCancelActivity, ScheduleActivity,
    workflow_command::Variant as Command,
};
use outlast_core::proto::temporal::api::common::v1::RetryPolicy;
use outlast_core::proto::temporal::api::enums::v1::EventType;
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};

use crate::flow::{Flow, Op, done};
use crate::language::{Scripts, main};
use crate::scene::{execution, story};
use crate::words::{attempts, failure, millis, payload, payloads, seconds};

/// An activity with what differs from the ordinary.
fn activity(w: &Flow, name: &str, input: &str, change: impl FnOnce(&mut ScheduleActivity)) -> Op {
    w.ask(|seq| {
        let mut it = ScheduleActivity {
            seq,
            activity_id: format!("a{seq}"),
            activity_type: name.into(),
            arguments: vec![payload(input)],
            start_to_close_timeout: seconds(60),
            retry_policy: attempts(1),
            ..Default::default()
        };
        change(&mut it);
        Command::ScheduleActivity(it)
    })
}

/// A workflow that is one activity.
fn one(name: &'static str, input: &'static str, change: fn(&mut ScheduleActivity)) -> Scripts {
    main(move |w| async move { done(&activity(&w, name, input, change).said().await) })
}

/// A workflow whose activity is cancelled by a signal, in this way.
fn stopped(name: &'static str, input: &'static str, how: Cancel) -> Scripts {
    main(move |w| async move {
        let op = activity(&w, name, input, |it| {
            it.cancellation_type = how.into();
            it.heartbeat_timeout = seconds(30);
        });
        w.signal("stop").await;
        w.command(Command::RequestCancelActivity(RequestCancelActivity { seq: op.seq }));
        done(&op.said().await)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_completes() {
    story(one("echo", "hello", |_| {}), async |s| {
        assert_eq!(s.end(&s.start().await).await, "hello");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_fails_is_tried_again() {
    story(one("flaky", "3", |it| it.retry_policy = attempts(5)), async |s| {
        assert_eq!(s.end(&s.start().await).await, "attempt 3");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_fails_when_its_attempts_are_used_up() {
    story(one("fail", "", |it| it.retry_policy = attempts(2)), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: failed");
        assert_eq!(*s.meeting.began.lock().unwrap(), ["fail 1", "fail 2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_says_so_is_not_tried_again() {
    story(one("fatal", "", |it| it.retry_policy = attempts(5)), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: fatal");
        assert_eq!(*s.meeting.began.lock().unwrap(), ["fatal 1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_takes_too_long_times_out() {
    story(one("silent", "", |it| it.start_to_close_timeout = seconds(1)), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: timeout START_TO_CLOSE");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_nobody_takes_times_out() {
    let code = one("echo", "", |it| {
        it.task_queue = "nobody is there".into();
        it.schedule_to_start_timeout = seconds(1);
    });
    story(code, async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: timeout SCHEDULE_TO_START");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_without_heartbeats_times_out() {
    story(one("silent", "", |it| it.heartbeat_timeout = seconds(1)), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: activity: timeout HEARTBEAT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_attempt_finds_the_details_of_the_last_heartbeat() {
    let code = one("resume", "", |it| {
        it.heartbeat_timeout = seconds(30);
        it.retry_policy = attempts(3);
    });
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "found half")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_end_with_the_time_for_all_of_them() {
    let code = one("fail", "", |it| {
        it.schedule_to_close_timeout = seconds(1);
        it.retry_policy = Some(RetryPolicy { initial_interval: millis(400), ..Default::default() });
    });
    story(code, async |s| {
        let end = s.end(&s.start().await).await;
        assert!(
            ["failed: activity: failed", "failed: activity: timeout SCHEDULE_TO_CLOSE"]
                .contains(&end.as_str()),
            "{end}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn try_cancel_resolves_at_once_and_tells_the_activity() {
    story(stopped("beat", "", Cancel::TryCancel), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "cancelled: activity: cancelled");
        assert_eq!(s.count(&run, EventType::ActivityTaskCancelRequested).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_activity_may_be_waited_for() {
    story(stopped("beat", "", Cancel::WaitCancellationCompleted), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "cancelled: activity: cancelled");
        assert_eq!(s.count(&run, EventType::ActivityTaskCanceled).await, 1);
        assert_eq!(*s.meeting.cancels.lock().unwrap(), ["CANCELLED"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_activity_may_complete_all_the_same() {
    story(stopped("beat", "complete", Cancel::WaitCancellationCompleted), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "all the same");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_activity_may_fail() {
    story(stopped("beat", "fail", Cancel::WaitCancellationCompleted), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "failed: activity: in the end");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_activity_goes_on_unheard() {
    story(stopped("gate", "", Cancel::Abandon), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "cancelled: activity: cancelled");
        assert_eq!(s.count(&run, EventType::ActivityTaskCancelRequested).await, 0);
        s.open(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_activity_completes_while_the_workflow_goes_on() {
    let code = main(|w| async move {
        let op = activity(&w, "gate", "", |it| it.cancellation_type = Cancel::Abandon.into());
        w.signal("stop").await;
        w.command(Command::RequestCancelActivity(RequestCancelActivity { seq: op.seq }));
        let said = op.said().await;
        w.signal("go on").await;
        done(&said)
    });
    story(code, async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "stop", "").await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        s.open(1);
        s.until(&run, EventType::ActivityTaskCompleted, 1).await;
        s.signal(&run, "go on", "").await;
        assert_eq!(s.end(&run).await, "cancelled: activity: cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_that_is_cancelled_at_once_is_never_sent() {
    let code = main(|w| async move {
        let op =
            activity(&w, "echo", "", |it| it.cancellation_type = Cancel::WaitCancellationCompleted.into());
        w.command(Command::RequestCancelActivity(RequestCancelActivity { seq: op.seq }));
        done(&op.said().await)
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "cancelled: activity: cancelled");
        assert_eq!(s.count(&run, EventType::ActivityTaskScheduled).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_is_completed_from_elsewhere() {
    story(one("async", "", |_| {}), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        let task_token = s.meeting.tokens.lock().unwrap().pop().unwrap();
        let request = api::RespondActivityTaskCompletedRequest {
            namespace: "default".into(),
            task_token,
            result: payloads("from elsewhere"),
            ..Default::default()
        };
        let _: api::RespondActivityTaskCompletedResponse =
            s.call(path::RESPOND_ACTIVITY_TASK_COMPLETED, &request).await.unwrap();
        assert_eq!(s.end(&run).await, "from elsewhere");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_is_failed_from_elsewhere() {
    story(one("async", "", |_| {}), async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        let task_token = s.meeting.tokens.lock().unwrap().pop().unwrap();
        let request = api::RespondActivityTaskFailedRequest {
            namespace: "default".into(),
            task_token,
            failure: Some(failure("no way", false)),
            ..Default::default()
        };
        let _: api::RespondActivityTaskFailedResponse =
            s.call(path::RESPOND_ACTIVITY_TASK_FAILED, &request).await.unwrap();
        assert_eq!(s.end(&run).await, "failed: activity: no way");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eager_and_ordinary_activities_run_side_by_side() {
    let code = main(|w| async move {
        let all: Vec<_> = (0..12)
            .map(|n: usize| {
                activity(&w, "echo", &n.to_string(), |it| it.do_not_eagerly_execute = n.is_multiple_of(2))
            })
            .collect();
        let mut said = Vec::new();
        for op in all {
            said.push(op.said().await);
        }
        done(&said.join(" "))
    });
    story(code, async |s| {
        assert_eq!(s.end(&s.start().await).await, "0 1 2 3 4 5 6 7 8 9 10 11");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_is_paused_and_goes_on() {
    let code = one("beat_once", "", |it| {
        it.heartbeat_timeout = seconds(30);
        it.retry_policy = attempts(0);
    });
    story(code, async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        let request = api::PauseActivityRequest {
            namespace: "default".into(),
            execution: execution(&run),
            activity: Some(api::pause_activity_request::Activity::Id("a1".into())),
            ..Default::default()
        };
        let _: api::PauseActivityResponse = s.call(path::PAUSE_ACTIVITY, &request).await.unwrap();
        s.arrived(1).await;
        assert_eq!(*s.meeting.cancels.lock().unwrap(), ["PAUSED"]);
        let request = api::UnpauseActivityRequest {
            namespace: "default".into(),
            execution: execution(&run),
            activity: Some(api::unpause_activity_request::Activity::Id("a1".into())),
            ..Default::default()
        };
        let _: api::UnpauseActivityResponse = s.call(path::UNPAUSE_ACTIVITY, &request).await.unwrap();
        assert!(s.end(&run).await.starts_with("attempt "));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activity_is_reset_and_begins_anew() {
    let code = one("beat_once", "", |it| {
        it.heartbeat_timeout = seconds(30);
        it.retry_policy = attempts(0);
    });
    story(code, async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        let request = api::ResetActivityRequest {
            namespace: "default".into(),
            execution: execution(&run),
            activity: Some(api::reset_activity_request::Activity::Id("a1".into())),
            ..Default::default()
        };
        let _: api::ResetActivityResponse = s.call(path::RESET_ACTIVITY, &request).await.unwrap();
        s.arrived(1).await;
        assert_eq!(*s.meeting.cancels.lock().unwrap(), ["RESET"]);
        assert!(s.end(&run).await.starts_with("attempt "));
    })
    .await;
}
