//! Signals, queries and updates: from before the start to after the end, alone and in crowds, with and without a cache.

use outlast_core::proto::coresdk::workflow_commands::ScheduleLocalActivity;
use outlast_core::proto::temporal::api::common::v1::WorkflowType;
use outlast_core::proto::temporal::api::enums::v1::{
    EventType, UpdateWorkflowExecutionLifecycleStage as Stage,
};
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};

use crate::flow::{Flow, done};
use crate::language::{Scripts, main};
use crate::scene::{Run, play, story};
use crate::words::{payloads, seconds, texts};

/// Hears signals until one says "end"; shows what it has heard.
fn listener() -> Scripts {
    main(|w| async move {
        let mut heard = Vec::new();
        loop {
            match texts(&w.signal("say").await.input).as_str() {
                "end" => return done(&heard.join(" ")),
                other => heard.push(other.to_owned()),
            }
            w.show(&heard.join(" "));
        }
    })
}

/// Answers updates by their name, ends by a signal.
fn updated() -> Scripts {
    main(|w| async move {
        let handler = w.clone();
        w.spawn(async move {
            loop {
                let update = handler.update().await;
                let w = handler.clone();
                handler.spawn(async move { one_update(w, update).await });
            }
        });
        w.signal("end").await;
        done("over")
    })
}

async fn one_update(w: Flow, update: outlast_core::proto::coresdk::workflow_activation::DoUpdate) {
    let said = texts(&update.input);
    match update.name.as_str() {
        "at once" => {
            w.accept(&update);
            w.complete(&update, &format!("heard {said}"));
        }
        "later" => {
            w.accept(&update);
            w.timer(30).next().await;
            w.complete(&update, &format!("thought about {said}"));
        }
        "local" => {
            w.accept(&update);
            let task = ScheduleLocalActivity {
                activity_type: "echo".into(),
                arguments: update.input.clone(),
                start_to_close_timeout: seconds(10),
                ..Default::default()
            };
            let said = crate::words::said(&w.local(task).1.await);
            w.complete(&update, &said);
        }
        "fail" => {
            w.accept(&update);
            w.reject(&update, "could not");
        }
        "never" => w.accept(&update),
        _ => w.reject(&update, "not with me"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_are_heard_in_order() {
    story(listener(), async |s| {
        let run = s.start().await;
        for word in ["a", "b", "c", "end"] {
            s.signal(&run, "say", word).await;
        }
        assert_eq!(s.end(&run).await, "a b c");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_starts_the_workflow_that_it_is_for() {
    story(listener(), async |s| {
        let id = s.name();
        let mut run_id = String::new();
        for word in ["first", "end"] {
            let request = api::SignalWithStartWorkflowExecutionRequest {
                namespace: "default".into(),
                workflow_id: id.clone(),
                workflow_type: Some(WorkflowType { name: "main".into() }),
                task_queue: s.task_queue(),
                signal_name: "say".into(),
                signal_input: payloads(word),
                ..Default::default()
            };
            let started: api::SignalWithStartWorkflowExecutionResponse =
                s.call(path::SIGNAL_WITH_START_WORKFLOW_EXECUTION, &request).await.unwrap();
            run_id = started.run_id;
        }
        assert_eq!(s.end(&Run { id, run_id }).await, "first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_comes_when_the_workflow_ends_is_not_lost() {
    let code = main(|w| async move {
        let task = ScheduleLocalActivity {
            activity_type: "gate".into(),
            start_to_close_timeout: seconds(10),
            ..Default::default()
        };
        // The signal arrives while the task is open that would end the workflow: the server refuses that end.
        w.local(task).1.await;
        let heard = crate::flow::race(w.signal("late"), std::future::ready(())).await;
        done(if heard.is_ok() { "heard" } else { "missed" })
    });
    story(code, async |s| {
        let run = s.start().await;
        s.arrived(1).await;
        s.signal(&run, "late", "").await;
        s.open(2);
        assert_eq!(s.end(&run).await, "heard");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_sees_what_the_workflow_shows() {
    story(listener(), async |s| {
        let run = s.start().await;
        assert_eq!(s.query(&run, "view").await, Ok(String::new()));
        s.signal(&run, "say", "now").await;
        assert_eq!(s.query(&run, "view").await, Ok("now".into()), "what was said before is known");
        assert!(s.query(&run, "fail").await.unwrap_err().contains("no answer"));
        s.signal(&run, "say", "end").await;
        assert_eq!(s.end(&run).await, "now");
        assert_eq!(s.query(&run, "view").await, Ok("now".into()), "also when it has closed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_answered_without_a_cache() {
    play(listener(), async |s| {
        s.worker_with(|config| config.max_cached_workflows = 0).await;
        let run = s.start().await;
        for n in 0..5 {
            s.signal(&run, "say", &n.to_string()).await;
        }
        assert_eq!(s.query(&run, "view").await, Ok("0 1 2 3 4".into()));
        s.signal(&run, "say", "end").await;
        s.end(&run).await;
        assert_eq!(s.query(&run, "view").await, Ok("0 1 2 3 4".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_comes_with_a_task_that_has_work() {
    let code = main(|w| async move {
        w.show("waiting");
        let task = ScheduleLocalActivity {
            activity_type: "gate".into(),
            start_to_close_timeout: seconds(60),
            ..Default::default()
        };
        let end = crate::words::said(&w.local(task).1.await);
        w.show("over");
        done(&end)
    });
    story(code, async |s| {
        let run = s.start_with(|it| it.workflow_task_timeout = seconds(1)).await;
        s.arrived(1).await;
        assert_eq!(s.query(&run, "view").await, Ok("waiting".into()));
        s.open(1);
        assert_eq!(s.end(&run).await, "passed");
        assert_eq!(s.query(&run, "view").await, Ok("over".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_at_once_are_all_answered() {
    story(listener(), async |s| {
        let run = s.start().await;
        s.signal(&run, "say", "x").await;
        let s = &*s;
        let asked: Vec<_> = (0..10).map(|_| s.query(&run, "view")).collect();
        for answer in all(asked).await {
            assert_eq!(answer, Ok("x".into()));
        }
    })
    .await;
}

/// Waits for all of them at a time.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut open: Vec<_> = futures.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in open.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(it) = future.as_mut().poll(cx) {
                *output = Some(it);
            }
        }
        match open.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    open.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_completed_at_once() {
    story(updated(), async |s| {
        let run = s.start().await;
        assert_eq!(s.update(&run, "at once", "you").await, Ok("heard you".into()));
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
        assert_eq!(s.count(&run, EventType::WorkflowExecutionUpdateCompleted).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_completed_later() {
    story(updated(), async |s| {
        let run = s.start().await;
        assert_eq!(s.update(&run, "later", "it").await, Ok("thought about it".into()));
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_may_run_a_local_activity() {
    story(updated(), async |s| {
        let run = s.start().await;
        assert_eq!(s.update(&run, "local", "near").await, Ok("near".into()));
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_rejected_leaves_no_trace() {
    story(updated(), async |s| {
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 1).await;
        for _ in 0..3 {
            assert_eq!(s.update(&run, "strange", "").await, Err("not with me".into()));
        }
        assert_eq!(s.history(&run).await.events.len(), 4);
        assert_eq!(s.update(&run, "at once", "then").await, Ok("heard then".into()));
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_fails_after_it_was_accepted() {
    story(updated(), async |s| {
        let run = s.start().await;
        assert_eq!(s.update(&run, "fail", "").await, Err("could not".into()));
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
        assert_eq!(s.count(&run, EventType::WorkflowExecutionUpdateAccepted).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_never_completed_ends_with_its_workflow() {
    story(updated(), async |s| {
        let run = s.start().await;
        let accepted = s.update_until(&run, "never", "", Stage::Accepted).await;
        assert_eq!(accepted.stage(), Stage::Accepted);
        s.signal(&run, "end", "").await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_updates_at_once_are_all_answered() {
    for cache in [100, 0] {
        play(updated(), async |s| {
            s.worker_with(|config| config.max_cached_workflows = cache).await;
            let run = s.start().await;
            let here = &*s;
            let asked = (0..8).map(|n| {
                let name = ["at once", "later", "local", "strange"][n % 4];
                here.update(&run, name, "x")
            });
            let answers = all(asked.collect()).await;
            let answers: Vec<_> = answers.iter().map(|it| it.as_deref().map_err(String::as_str)).collect();
            let expected = [Ok("heard x"), Ok("thought about x"), Ok("x"), Err("not with me")];
            assert_eq!(answers[..4], expected);
            assert_eq!(answers[4..], expected);
            s.signal(&run, "end", "").await;
            assert_eq!(s.end(&run).await, "over");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_waits_for_a_worker() {
    play(updated(), async |s| {
        let run = s.start().await;
        let (answer, _) = {
            let here = &*s;
            let asked = here.update(&run, "at once", "early");
            let worker = here.run_worker(|_| {});
            let (answer, worker) = tokio::join!(asked, worker);
            here.signal(&run, "end", "").await;
            assert_eq!(here.end(&run).await, "over");
            (answer, worker.stop().await)
        };
        assert_eq!(answer, Ok("heard early".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_queries_and_updates_mix() {
    let code = main(|w| async move {
        let handler = w.clone();
        w.spawn(async move {
            for n in 0.. {
                let update = handler.update().await;
                handler.accept(&update);
                handler.show(&n.to_string());
                handler.timer(5).next().await;
                handler.complete(&update, &n.to_string());
            }
        });
        for _ in 0..10 {
            w.signal("tick").await;
        }
        done("10")
    });
    story(code, async |s| {
        let run = s.start().await;
        for n in 0..10 {
            assert_eq!(s.update(&run, "count", "").await, Ok(n.to_string()));
            assert_eq!(s.query(&run, "view").await, Ok(n.to_string()));
            s.signal(&run, "tick", "").await;
        }
        assert_eq!(s.end(&run).await, "10");
    })
    .await;
}
