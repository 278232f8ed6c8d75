//! Child workflows: results, every way to cancel and to part, names that are taken; and workflows that are no children.

use outlast_core::proto::coresdk::child_workflow::{
    ChildWorkflowCancellationType as Cancel, ParentClosePolicy as Parting,
};
use outlast_core::proto::coresdk::common::NamespacedWorkflowExecution;
use outlast_core::proto::coresdk::workflow_commands::{
    CancelChildWorkflowExecution, CancelSignalWorkflow, RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution, StartChildWorkflowExecution, signal_external_workflow_execution::Target,
    workflow_command::Variant as Command,
};
use outlast_core::proto::temporal::api::enums::v1::EventType;
use outlast_core::proto::temporal::api::history::v1::history_event::Attributes;

use crate::flow::{Flow, Op, done, ended, failed};
use crate::language::{Scripts, main};
use crate::scene::{Run, Scene, story};
use crate::words::{attempts, payload, seconds, texts};

fn child(w: &Flow, kind: &str, change: impl FnOnce(&mut StartChildWorkflowExecution)) -> Op {
    let workflow_id = format!("{}/child", w.start().workflow_id);
    w.ask(|seq| {
        let mut it = StartChildWorkflowExecution {
            seq,
            namespace: "default".into(),
            workflow_id,
            workflow_type: kind.into(),
            input: vec![payload("in")],
            ..Default::default()
        };
        change(&mut it);
        Command::StartChildWorkflowExecution(it)
    })
}

/// Children that scenarios need: one that answers, one that fails, one that waits for a signal or for its end.
fn with_children(code: Scripts) -> Scripts {
    code.and("answer", |w| async move { done(&format!("child of {}", w.input())) })
        .and("fail", |_| async move { failed("no", false) })
        .and("wait", |w| async move {
            match crate::flow::race(w.signal("go"), w.cancelled()).await {
                Ok(signal) => done(&texts(&signal.input)),
                Err(_) => ended(),
            }
        })
        .and("stubborn", |w| async move {
            w.cancelled().await;
            done(&texts(&w.signal("go").await.input))
        })
}

/// The child's run, when it has been started.
async fn started(s: &Scene, run: &Run) -> Run {
    s.until(run, EventType::ChildWorkflowExecutionStarted, 1).await;
    let history = s.history(run).await;
    let child = history.events.iter().find_map(|event| match &event.attributes {
        Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(it)) => it.workflow_execution.clone(),
        _ => None,
    });
    let child = child.unwrap();
    Run { id: child.workflow_id, run_id: child.run_id }
}

/// A parent that starts a child, cancels it by a signal and tells how it ended.
fn stopped(kind: &'static str, how: Cancel) -> Scripts {
    with_children(main(move |w| async move {
        let op = child(&w, kind, |it| it.cancellation_type = how.into());
        let start = op.said().await;
        w.signal("stop").await;
        w.command(Command::CancelChildWorkflowExecution(CancelChildWorkflowExecution {
            child_workflow_seq: op.seq,
            reason: "enough".into(),
        }));
        let end = op.said().await;
        done(&format!("{start}, {end}"))
    }))
}

/// A parent that starts a child and ends.
fn parted(policy: Parting) -> Scripts {
    with_children(main(move |w| async move {
        done(&child(&w, "wait", |it| it.parent_close_policy = policy.into()).said().await)
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_answers() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "answer", |_| {});
        let start = op.said().await;
        done(&format!("{start}, {}", op.said().await))
    }));
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "started, child of in")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_fails() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "fail", |_| {});
        op.next().await;
        done(&op.said().await)
    }));
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "failed: child: no")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_fails_may_be_tried_again() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "third", |it| it.retry_policy = attempts(5));
        op.next().await;
        done(&op.said().await)
    }))
    .and("third", |w| async move {
        match w.start().attempt {
            3 => done("third time"),
            _ => failed("not yet", true),
        }
    });
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "third time")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_times_out() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "wait", |it| it.workflow_run_timeout = seconds(1));
        op.next().await;
        done(&op.said().await)
    }));
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "failed: child: timeout START_TO_CLOSE"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_is_terminated() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "wait", |_| {});
        op.next().await;
        done(&op.said().await)
    }));
    story(code, async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        s.terminate(&child).await;
        assert_eq!(s.end(&run).await, "failed: child: terminated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_starts_no_child() {
    let code = with_children(main(|w| async move {
        let first = child(&w, "wait", |_| {}).said().await;
        let second = child(&w, "wait", |_| {}).said().await;
        done(&format!("{first}, {second}"))
    }));
    story(code, async |s| {
        assert_eq!(s.end(&s.start().await).await, "started, not started: already exists");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_cancelled_at_once_is_never_sent() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "wait", |it| it.cancellation_type = Cancel::WaitCancellationCompleted.into());
        w.command(Command::CancelChildWorkflowExecution(CancelChildWorkflowExecution {
            child_workflow_seq: op.seq,
            reason: "enough".into(),
        }));
        done(&op.said().await)
    }));
    story(code, async |s| {
        let run = s.start().await;
        assert!(s.end(&run).await.starts_with("not started: "));
        assert_eq!(s.count(&run, EventType::StartChildWorkflowExecutionInitiated).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_child_may_be_waited_for() {
    story(stopped("wait", Cancel::WaitCancellationCompleted), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: child: cancelled");
        assert_eq!(s.end(&child).await, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_child_may_complete_all_the_same() {
    story(stopped("stubborn", Cancel::WaitCancellationCompleted), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        s.signal(&run, "stop", "").await;
        s.signal(&child, "go", "still here").await;
        assert_eq!(s.end(&run).await, "started, still here");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_heard_the_wish_is_still_waited_for() {
    story(stopped("stubborn", Cancel::WaitCancellationRequested), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        s.signal(&run, "stop", "").await;
        s.until(&run, EventType::ExternalWorkflowExecutionCancelRequested, 1).await;
        s.signal(&child, "go", "heard it").await;
        assert_eq!(s.end(&run).await, "started, heard it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn try_cancel_of_a_child_resolves_at_once() {
    story(stopped("stubborn", Cancel::TryCancel), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: child: cancelled");
        s.terminate_if_open(&child).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_child_is_not_told() {
    story(stopped("wait", Cancel::Abandon), async |s| {
        let run = s.start().await;
        started(s, &run).await;
        s.signal(&run, "stop", "").await;
        assert_eq!(s.end(&run).await, "started, cancelled: child: cancelled");
        assert_eq!(s.count(&run, EventType::RequestCancelExternalWorkflowExecutionInitiated).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_ends_terminates_its_child() {
    story(parted(Parting::Terminate), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        assert_eq!(s.end(&run).await, "started");
        assert_eq!(s.end(&child).await, "terminated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_ends_cancels_its_child() {
    story(parted(Parting::RequestCancel), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        assert_eq!(s.end(&child).await, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_may_outlive_its_parent() {
    story(parted(Parting::Abandon), async |s| {
        let run = s.start().await;
        let child = started(s, &run).await;
        assert_eq!(s.end(&run).await, "started");
        s.signal(&child, "go", "alone").await;
        assert_eq!(s.end(&child).await, "alone");
    })
    .await;
}

fn other(id: String) -> NamespacedWorkflowExecution {
    NamespacedWorkflowExecution { namespace: "default".into(), workflow_id: id, run_id: String::new() }
}

fn signal(w: &Flow, target: Target) -> Op {
    w.ask(|seq| {
        Command::SignalExternalWorkflowExecution(SignalExternalWorkflowExecution {
            seq,
            signal_name: "go".into(),
            args: vec![payload("from outside")],
            target: Some(target),
            ..Default::default()
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_signals_its_child() {
    let code = with_children(main(|w| async move {
        let op = child(&w, "wait", |_| {});
        op.next().await;
        let sent =
            signal(&w, Target::ChildWorkflowId(format!("{}/child", w.start().workflow_id))).said().await;
        done(&format!("{sent}, {}", op.said().await))
    }));
    story(code, async |s| assert_eq!(s.end(&s.start().await).await, "signalled, from outside")).await;
}

/// Sends what its input names a signal, then the wish to end.
fn knocking() -> Scripts {
    with_children(main(|w| async move {
        let sent = signal(&w, Target::WorkflowExecution(other(w.input()))).said().await;
        let asked = w.ask(|seq| {
            Command::RequestCancelExternalWorkflowExecution(RequestCancelExternalWorkflowExecution {
                seq,
                workflow_execution: Some(other(w.input())),
                reason: "please".into(),
            })
        });
        done(&format!("{sent}, {}", asked.said().await))
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_signals_and_cancels_another() {
    story(knocking(), async |s| {
        let target = s.start_with(|it| it.workflow_type.as_mut().unwrap().name = "stubborn".into()).await;
        let run = s.start_with(|it| it.input = crate::words::payloads(&target.id)).await;
        assert_eq!(s.end(&run).await, "signalled, requested");
        assert_eq!(s.end(&target).await, "from outside");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_does_not_exist_cannot_be_reached() {
    story(knocking(), async |s| {
        let run = s.start_with(|it| it.input = crate::words::payloads("nobody")).await;
        let end = s.end(&run).await;
        assert!(end.starts_with("not signalled: ") && end.contains("not requested: "), "{end}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_is_taken_back_at_once_is_never_sent() {
    let code = main(|w| async move {
        let op = signal(&w, Target::WorkflowExecution(other("nobody".into())));
        w.command(Command::CancelSignalWorkflow(CancelSignalWorkflow { seq: op.seq }));
        done(&op.said().await)
    });
    story(code, async |s| {
        let run = s.start().await;
        assert!(s.end(&run).await.starts_with("not signalled: "));
        assert_eq!(s.count(&run, EventType::SignalExternalWorkflowExecutionInitiated).await, 0);
    })
    .await;
}
