//! How runs begin, end and begin anew: results, failures, retries, cancellation, continue-as-new, cron, reset; and what
//! they record of themselves: patches, search attributes, memo, metadata.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outlast_core::proto::coresdk::workflow_commands::{
    ContinueAsNewWorkflowExecution, ModifyWorkflowProperties, StartTimer, UpsertWorkflowSearchAttributes,
    WorkflowCommand, workflow_command::Variant as Command,
};
use outlast_core::proto::temporal::api::common::v1::{Memo, SearchAttributes};
use outlast_core::proto::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause};
use outlast_core::proto::temporal::api::sdk::v1::UserMetadata;
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};

use crate::flow::{Flow, done, ended, failed, race};
use crate::language::main;
use crate::scene::{Run, Scene, execution, play, story};
use crate::words::{attempts, millis, payload, payloads, seconds, text};

/// The run that follows, from the words of its predecessor's end.
fn next(run: &Run, end: &str) -> Run {
    let run_id = end.strip_prefix("continued as ").unwrap_or_else(|| panic!("{end}")).to_owned();
    Run { id: run.id.clone(), run_id }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_completes_in_its_first_task() {
    story(main(|w| async move { done(&w.input()) }), async |s| {
        let run = s.start_with(|it| it.input = payloads("hello")).await;
        assert_eq!(s.end(&run).await, "hello");
        assert_eq!(s.history(&run).await.events.len(), 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_fails() {
    story(main(|_| async { failed("no luck", false) }), async |s| {
        assert_eq!(s.end(&s.start().await).await, "failed: no luck");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_fails_is_tried_again() {
    let code = main(|w| async move {
        let start = w.start();
        match start.attempt {
            1 => failed("not yet", true),
            n => done(&format!("attempt {n} after {}", start.continued_failure.unwrap().message)),
        }
    });
    story(code, async |s| {
        let first = s.start_with(|it| it.retry_policy = attempts(3)).await;
        assert_eq!(s.end(&first).await, "failed: not yet");
        let latest = Run { run_id: String::new(), ..first };
        assert_eq!(s.end(&latest).await, "attempt 2 after not yet");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_asked_to_end_and_ends() {
    let code = main(|w| async move {
        match race(w.cancelled(), w.timer(60_000).next()).await {
            Ok(reason) if reason == "enough" => ended(),
            _ => done("not asked"),
        }
    });
    story(code, async |s| {
        let run = s.start().await;
        s.until(&run, EventType::TimerStarted, 1).await;
        s.cancel(&run, "enough").await;
        assert_eq!(s.end(&run).await, "cancelled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_asked_to_end_before_it_begins_and_completes() {
    play(main(|w| async move { done(&w.cancelled().await) }), async |s| {
        let run = s.start().await;
        s.cancel(&run, "early").await;
        s.worker().await;
        assert_eq!(s.end(&run).await, "early");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_terminated() {
    story(main(|w| async move { done(&w.timer(60_000).said().await) }), async |s| {
        let run = s.start().await;
        s.until(&run, EventType::TimerStarted, 1).await;
        s.terminate(&run).await;
        assert_eq!(s.end(&run).await, "terminated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_times_out() {
    story(main(|w| async move { done(&w.timer(60_000).said().await) }), async |s| {
        let run = s.start_with(|it| it.workflow_run_timeout = seconds(1)).await;
        assert_eq!(s.end(&run).await, "timed out");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_starts_late() {
    story(main(|_| async { done("late") }), async |s| {
        let run = s.start_with(|it| it.workflow_start_delay = seconds(1)).await;
        assert_eq!(s.end(&run).await, "late");
    })
    .await;
}

fn shade(value: &str) -> SearchAttributes {
    let mut payload = payload(value);
    payload.metadata.insert("type".into(), "Keyword".into());
    SearchAttributes { indexed_fields: [("Shade".to_owned(), payload)].into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_continues_as_new_and_inherits() {
    let code = main(|w| async move {
        let start = w.start();
        let rounds: u32 = w.input().parse().unwrap();
        if rounds > 0 {
            return Command::ContinueAsNewWorkflowExecution(ContinueAsNewWorkflowExecution {
                workflow_type: "main".into(),
                arguments: vec![payload(&(rounds - 1).to_string())],
                ..Default::default()
            });
        }
        let memo = text(&start.memo.unwrap().fields["note"]);
        let shade = text(&start.search_attributes.unwrap().indexed_fields["Shade"]);
        let header = start.headers.len();
        done(&format!("{memo} {shade} {header} {}", start.first_execution_run_id))
    });
    story(code, async |s| {
        let first = s
            .start_with(|it| {
                it.input = payloads("2");
                it.memo = Some(Memo { fields: [("note".to_owned(), payload("kept"))].into() });
                it.search_attributes = Some(shade("dark"));
            })
            .await;
        let second = next(&first, &s.end(&first).await);
        let third = next(&first, &s.end(&second).await);
        assert_eq!(s.end(&third).await, format!("kept dark 0 {}", first.run_id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_continues_as_new_with_what_it_says() {
    let code = main(|w| async move {
        let start = w.start();
        if w.input() == "again" {
            let memo = text(&start.memo.unwrap().fields["note"]);
            return done(&format!("{memo} {:?}", start.workflow_task_timeout.unwrap().seconds));
        }
        Command::ContinueAsNewWorkflowExecution(ContinueAsNewWorkflowExecution {
            workflow_type: "main".into(),
            arguments: vec![payload("again")],
            memo: [("note".to_owned(), payload("new"))].into(),
            workflow_task_timeout: seconds(7),
            workflow_run_timeout: seconds(60),
            search_attributes: Some(shade("light")),
            ..Default::default()
        })
    });
    story(code, async |s| {
        let first = s.start_with(|it| it.input = payloads("first")).await;
        let second = next(&first, &s.end(&first).await);
        assert_eq!(s.end(&second).await, "new 7");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_workflow_finds_the_result_of_the_run_before() {
    let code = main(|w| async move {
        match w.start().last_completion_result.filter(|it| !it.payloads.is_empty()) {
            None => done("first"),
            Some(before) => {
                w.show(&text(&before.payloads[0]));
                w.signal("end").await;
                done("second")
            }
        }
    });
    story(code, async |s| {
        let first = s.start_with(|it| it.cron_schedule = "@every 1s".into()).await;
        assert_eq!(s.end(&first).await, "first");
        let latest = Run { run_id: String::new(), ..first };
        assert_eq!(s.query(&latest, "view").await, Ok("first".into()));
        s.terminate(&latest).await;
    })
    .await;
}

/// Resets a run to just after its `nth` completed task.
async fn reset(s: &Scene, run: &Run, nth: usize) -> Run {
    let events = s.history(run).await.events;
    let completed = events.iter().filter(|it| it.event_type() == EventType::WorkflowTaskCompleted);
    let request = api::ResetWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_execution: execution(run),
        reason: "again".into(),
        workflow_task_finish_event_id: completed.map(|it| it.event_id).nth(nth).unwrap(),
        request_id: s.name(),
        ..Default::default()
    };
    let answer: api::ResetWorkflowExecutionResponse =
        s.call(path::RESET_WORKFLOW_EXECUTION, &request).await.unwrap();
    Run { id: run.id.clone(), run_id: answer.run_id }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_run_has_a_new_seed_and_hears_its_signals_again() {
    let code = main(|w| async move {
        w.timer(20).next().await;
        let heard = crate::words::texts(&w.signal("go").await.input);
        let seeds = w.seeds();
        let fresh = seeds.len() == 1 || seeds.last() != seeds.first();
        done(&format!("{heard} {} {fresh}", seeds.len()))
    });
    story(code, async |s| {
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        s.signal(&run, "go", "on").await;
        assert_eq!(s.end(&run).await, "on 1 true");
        let again = reset(s, &run, 1).await;
        assert_eq!(s.end(&again).await, "on 2 true");
        let third = reset(s, &again, 0).await;
        assert_eq!(s.end(&third).await, "on 2 true");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_run_is_reset() {
    let code = main(|w| async move {
        w.timer(20).next().await;
        done(&crate::words::texts(&w.signal("go").await.input))
    });
    story(code, async |s| {
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        let again = reset(s, &run, 0).await;
        assert_eq!(s.end(&run).await, "terminated");
        s.signal(&again, "go", "on").await;
        assert_eq!(s.end(&again).await, "on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patched_workflow_marks_its_history() {
    let code = main(|w| async move {
        let before = w.patched("one");
        w.timer(20).next().await;
        let after = w.patched("two");
        w.timer(20).next().await;
        done(&format!("{before} {after} {} {}", w.patched("one"), w.patched("two")))
    });
    for cache in [100, 0] {
        let code = code.clone();
        play(code, async |s| {
            s.worker_with(|config| config.max_cached_workflows = cache).await;
            let run = s.start().await;
            assert_eq!(s.end(&run).await, "true true true true");
            assert_eq!(s.count(&run, EventType::MarkerRecorded).await, 2);
            assert_eq!(s.count(&run, EventType::UpsertWorkflowSearchAttributes).await, 2);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_began_before_a_patch_keeps_the_old_way() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let code = main(move |w| {
        let now = now.clone();
        async move {
            let new = match now.load(Ordering::SeqCst) {
                1 => false,
                _ => w.patched("new"),
            };
            if new {
                w.timer(10).next().await;
            }
            w.timer(20).next().await;
            w.signal("go").await;
            done(if new { "new" } else { "old" })
        }
    });
    play(code, async |s| {
        s.worker_with(|config| config.max_cached_workflows = 0).await;
        let old = s.start().await;
        s.until(&old, EventType::WorkflowTaskCompleted, 2).await;
        version.store(2, Ordering::SeqCst);
        let new = s.start().await;
        s.until(&new, EventType::WorkflowTaskCompleted, 3).await;
        s.signal(&old, "go", "").await;
        s.signal(&new, "go", "").await;
        assert_eq!(s.end(&old).await, "old");
        assert_eq!(s.end(&new).await, "new");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_is_deprecated_and_then_gone() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let code = main(move |w: Flow| {
        let now = now.clone();
        async move {
            match now.load(Ordering::SeqCst) {
                1 => drop(w.patched("new")),
                2 => w.mark("new", true),
                _ => {}
            }
            w.timer(20).next().await;
            w.signal("go").await;
            done("over")
        }
    });
    play(code, async |s| {
        s.worker_with(|config| config.max_cached_workflows = 0).await;
        let first = s.start().await;
        s.until(&first, EventType::WorkflowTaskCompleted, 2).await;
        version.store(2, Ordering::SeqCst);
        let second = s.start().await;
        s.until(&second, EventType::WorkflowTaskCompleted, 2).await;
        s.signal(&first, "go", "").await;
        assert_eq!(s.end(&first).await, "over");
        version.store(3, Ordering::SeqCst);
        s.signal(&second, "go", "").await;
        assert_eq!(s.end(&second).await, "over");
        // With the code of today only the second replays: the first needs the code that still knows the patch.
        s.unrepeatable.push(first.run_id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn search_attributes_and_memo_are_changed() {
    let code = main(|w| async move {
        w.command(Command::UpsertWorkflowSearchAttributes(UpsertWorkflowSearchAttributes {
            search_attributes: Some(shade("deep")),
        }));
        w.timer(20).next().await;
        let memo = Memo { fields: [("note".to_owned(), payload("changed"))].into() };
        w.command(Command::ModifyWorkflowProperties(ModifyWorkflowProperties { upserted_memo: Some(memo) }));
        w.signal("go").await;
        done("over")
    });
    story(code, async |s| {
        let run = s.start().await;
        s.until(&run, EventType::WorkflowPropertiesModified, 1).await;
        let request =
            api::DescribeWorkflowExecutionRequest { namespace: "default".into(), execution: execution(&run) };
        let described: api::DescribeWorkflowExecutionResponse =
            s.call(path::DESCRIBE_WORKFLOW_EXECUTION, &request).await.unwrap();
        let info = described.workflow_execution_info.unwrap();
        assert_eq!(text(&info.memo.unwrap().fields["note"]), "changed");
        assert_eq!(text(&info.search_attributes.unwrap().indexed_fields["Shade"]), "deep");
        s.signal(&run, "go", "").await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_carries_a_summary() {
    let code = main(|w| async move {
        w.raw(WorkflowCommand {
            user_metadata: Some(UserMetadata { summary: Some(payload("nap")), details: None }),
            variant: Some(Command::StartTimer(StartTimer { seq: 100, start_to_fire_timeout: millis(20) })),
            ..Default::default()
        });
        done(&w.timer(60).said().await)
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "fired");
        let events = s.history(&run).await.events;
        let started = events.iter().find(|it| it.event_type() == EventType::TimerStarted).unwrap();
        assert_eq!(text(started.user_metadata.as_ref().unwrap().summary.as_ref().unwrap()), "nap");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fails_in_the_language_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let code = main(move |w| {
        let tries = tries.clone();
        async move {
            w.timer(20).next().await;
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                w.fail_task("a slip");
            }
            w.timer(30).next().await;
            done("recovered")
        }
    });
    story(code, async |s| {
        s.expected.push(WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure);
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "recovered");
        assert_eq!(s.count(&run, EventType::WorkflowTaskFailed).await, 1);
    })
    .await;
}

/// Timers in the first version of the code, one of them gone in the second.
fn changing(version: &Arc<AtomicUsize>) -> crate::language::Scripts {
    let now = version.clone();
    main(move |w| {
        let now = now.clone();
        async move {
            match now.load(Ordering::SeqCst) {
                1 => drop(w.timer(20).next().await),
                _ => drop(w.cancelled().await),
            }
            w.signal("go").await;
            done("over")
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_code_is_noticed_and_mended_code_goes_on() {
    let version = Arc::new(AtomicUsize::new(1));
    play(changing(&version), async |s| {
        s.expected.push(WorkflowTaskFailedCause::NonDeterministicError);
        s.worker_with(|config| config.max_cached_workflows = 0).await;
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        version.store(2, Ordering::SeqCst);
        s.signal(&run, "go", "").await;
        s.until(&run, EventType::WorkflowTaskFailed, 1).await;
        assert!(
            s.journal.evictions().iter().any(|it| it.contains("TMPRL1100")),
            "{:?}",
            s.journal.evictions()
        );
        version.store(1, Ordering::SeqCst);
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_code_fails_the_workflow_where_that_is_wanted() {
    let version = Arc::new(AtomicUsize::new(1));
    play(changing(&version), async |s| {
        s.worker_with(|config| {
            config.max_cached_workflows = 0;
            config.nondeterminism_fails_workflow = true;
        })
        .await;
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        version.store(2, Ordering::SeqCst);
        s.signal(&run, "go", "").await;
        let end = s.end(&run).await;
        assert!(end.contains("Nondeterminism"), "{end}");
        s.unrepeatable.push(run.run_id);
    })
    .await;
}
