//! What happens to workers: killed, crowded, ended in every phase, given another client, told to forget; and what they
//! are given: long histories, large payloads, deployments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outlast_core::proto::coresdk::workflow_commands::{
    CancelTimer, ScheduleActivity, ScheduleLocalActivity, workflow_command::Variant as Command,
};
use outlast_core::proto::coresdk::workflow_completion::{
    Success, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_core::proto::lens::lang::remove_from_cache::EvictionReason;
use outlast_core::proto::temporal::api::enums::v1::{EventType, WorkflowTaskFailedCause};
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_core::{
    CallEnd, CallInfo, CallObserver, CallOptions, Ending, PollError, Versioning, Worker, WorkerConfig,
    WorkerSet,
};

use crate::flow::{Flow, Op, done};
use crate::language::{Scripts, main};
use crate::scene::{Run, Scene, play, play_on, story};
use crate::server::Server;
use crate::words::{attempts, payload, said, seconds, texts};

fn activity(w: &Flow, name: &str, input: &str) -> Op {
    w.ask(|seq| {
        Command::ScheduleActivity(ScheduleActivity {
            seq,
            activity_id: seq.to_string(),
            activity_type: name.into(),
            arguments: vec![payload(input)],
            start_to_close_timeout: seconds(5),
            retry_policy: attempts(0),
            ..Default::default()
        })
    })
}

fn local(name: &str, input: &str) -> ScheduleLocalActivity {
    ScheduleLocalActivity {
        activity_type: name.into(),
        arguments: vec![payload(input)],
        start_to_close_timeout: seconds(30),
        retry_policy: attempts(0),
        ..Default::default()
    }
}

/// A little of everything, some tasks long.
fn walk() -> Scripts {
    main(|w| async move {
        let mut heard = vec![activity(&w, "echo", "a").said().await];
        heard.push(said(&w.local(local("echo", "b")).1.await));
        w.timer(30).next().await;
        w.patched("p");
        let (one, two) = (activity(&w, "echo", "c"), w.local(local("echo", "d")).1);
        heard.push(one.said().await);
        heard.push(said(&two.await));
        w.timer(30).next().await;
        done(&heard.join(""))
    })
}

async fn start_many(s: &Scene, count: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(s.start().await);
    }
    runs
}

async fn all_end(s: &Scene, runs: &[Run], with: &str) {
    for run in runs {
        assert_eq!(s.end(run).await, with, "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_within_a_task_and_another_goes_on() {
    let code = main(|w| async move {
        let before = activity(&w, "echo", "before").said().await;
        let inside = said(&w.local(local("gate", "")).1.await);
        done(&format!("{before}, {inside}"))
    });
    play(code, async |s| {
        let first = s.run_worker(|_| {}).await;
        let run = s.start_with(|it| it.workflow_task_timeout = seconds(1)).await;
        s.arrived(1).await;
        first.kill().await;
        s.worker().await;
        s.arrived(1).await;
        s.open(1);
        assert_eq!(s.end(&run).await, "before, passed");
        assert!(s.count(&run, EventType::WorkflowTaskTimedOut).await >= 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_within_an_activity_and_another_does_it_again() {
    let code = main(|w| async move {
        let op = w.ask(|seq| {
            Command::ScheduleActivity(ScheduleActivity {
                seq,
                activity_id: "a".into(),
                activity_type: "gate".into(),
                start_to_close_timeout: seconds(3),
                retry_policy: attempts(0),
                ..Default::default()
            })
        });
        done(&op.said().await)
    });
    play(code, async |s| {
        let first = s.run_worker(|_| {}).await;
        let run = s.start().await;
        s.arrived(1).await;
        first.kill().await;
        s.worker().await;
        s.arrived(1).await;
        s.open(1);
        assert_eq!(s.end(&run).await, "passed");
        assert_eq!(*s.meeting.began.lock().unwrap(), ["gate 1", "gate 2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_the_sticky_queue_of_a_worker_that_is_gone() {
    let code = main(|w| async move {
        w.timer(20).next().await;
        done(&texts(&w.signal("go").await.input))
    });
    play(code, async |s| {
        let first = s.run_worker(|_| {}).await;
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        first.kill().await;
        s.signal(&run, "go", "on").await;
        s.worker().await;
        assert_eq!(s.end(&run).await, "on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_share_a_cache_of_one() {
    play(walk(), async |s| {
        s.worker_with(|config| {
            config.max_cached_workflows = 1;
            config.shards = Some(1);
        })
        .await;
        let runs = start_many(s, 8).await;
        all_end(s, &runs, "abcd").await;
        assert!(s.journal.evictions().iter().any(|it| it.starts_with("CACHE_FULL")));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_do_without_a_cache() {
    play(walk(), async |s| {
        s.worker_with(|config| config.max_cached_workflows = 0).await;
        let runs = start_many(s, 8).await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_is_bounded_by_bytes() {
    play(walk(), async |s| {
        s.worker_with(|config| config.max_cached_bytes = Some(10_000)).await;
        let runs = start_many(s, 8).await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_a_queue() {
    play(walk(), async |s| {
        s.worker().await;
        s.worker().await;
        let runs = start_many(s, 8).await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_slots_are_enough() {
    play(walk(), async |s| {
        s.worker_with(|config| {
            let few = outlast_core::FixedSlots {
                workflow_tasks: 2,
                activities: 1,
                local_activities: 1,
                nexus_tasks: 1,
            };
            config.slots = outlast_core::Slots::Fixed(few);
        })
        .await;
        let runs = start_many(s, 10).await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollers_that_scale_themselves_do_the_same_work() {
    play(walk(), async |s| {
        s.worker_with(|config| {
            let scaling = outlast_core::PollerBehavior::Autoscaling { min: 1, max: 10, initial: 2 };
            config.workflow_pollers = scaling;
            config.activity_pollers = scaling;
        })
        .await;
        let runs = start_many(s, 8).await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_under_load_and_another_goes_on() {
    play(walk(), async |s| {
        let first = s.run_worker(|_| {}).await;
        let runs = start_many(s, 8).await;
        first.stop().await;
        s.worker().await;
        all_end(s, &runs, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_thousands_of_events_is_read_again() {
    let code = main(|w| async move {
        for _ in 0..2 {
            let timers: Vec<_> = (0..800).map(|_| w.timer(3_600_000)).collect();
            w.timer(10).next().await;
            for timer in timers {
                w.command(Command::CancelTimer(CancelTimer { seq: timer.seq }));
            }
            w.timer(10).next().await;
        }
        done(&texts(&w.signal("go").await.input))
    });
    play(code, async |s| {
        let worker = s.worker().await;
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 5).await;
        assert!(s.history(&run).await.events.len() > 3200);
        worker.request_workflow_eviction(&run.run_id, EvictionReason::LangRequested, "to read it all again");
        s.signal(&run, "go", "on").await;
        assert_eq!(s.end(&run).await, "on");
    })
    .await;
}

/// Counts the pages of history that a worker asks for.
#[derive(Default)]
struct Pages(AtomicUsize);

impl CallObserver for Pages {
    fn finished(&self, info: &CallInfo<'_>, _: &CallEnd) {
        if info.method == "GetWorkflowExecutionHistory" {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_read_in_two_hundred_pages() {
    let small =
        &["frontend.historyMaxPageSize=5", "limit.historyMaxPageSize=5", "matching.historyMaxPageSize=5"];
    let Some(server) = Server::start("paged", small) else { return };
    let code = main(|w| async move {
        for n in 0.. {
            if texts(&w.signal("say").await.input) == "end" {
                return done(&n.to_string());
            }
        }
        unreachable!()
    });
    play_on(&server, code, async |s| {
        // Nobody works while the signals come, so that they are one task.
        let run = s.start().await;
        for _ in 0..1000 {
            s.signal(&run, "say", "more").await;
        }
        let pages = Arc::new(Pages::default());
        let observer = pages.clone();
        let client = server.client_with(|options| options.observer = Some(observer.clone())).await;
        let worker = s.run_worker_of(client, |config| config.max_cached_workflows = 0).await;
        s.signal(&run, "say", "end").await;
        assert_eq!(s.end(&run).await, "1000");
        worker.stop().await;
        let pages = pages.0.load(Ordering::SeqCst);
        assert!(pages >= 199, "{pages} pages besides the first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_forgotten_when_asked_and_goes_on() {
    let code = main(|w| async move {
        w.timer(20).next().await;
        let first = texts(&w.signal("go").await.input);
        w.timer(20).next().await;
        done(&first)
    });
    story(code, async |s| {
        let worker = s.run_worker(|_| {}).await;
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskCompleted, 2).await;
        worker.worker.request_workflow_eviction("nobody", EvictionReason::LangRequested, "unknown");
        for worker in [&worker.worker, &s.workers()[0]] {
            worker.request_workflow_eviction(&run.run_id, EvictionReason::LangRequested, "as you like");
        }
        s.signal(&run, "go", "on").await;
        assert_eq!(s.end(&run).await, "on");
        assert!(s.journal.evictions().iter().any(|it| it == "LANG_REQUESTED: as you like"));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_goes_on_with_another_client() {
    play(walk(), async |s| {
        let worker = s.worker().await;
        let before = start_many(s, 5).await;
        worker.replace_client(Server::shared().unwrap().client().await);
        let after = start_many(s, 5).await;
        all_end(s, &before, "abcd").await;
        all_end(s, &after, "abcd").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_begins_on_a_worker_of_the_same_client_at_once() {
    play(walk(), async |s| {
        let worker = s.worker().await;
        let set = WorkerSet::default();
        set.add(&worker).unwrap();
        // Its language polls as soon as another run is done.
        let other = s.start().await;
        assert_eq!(s.end(&other).await, "abcd");
        let request = s.start_request();
        let id = request.workflow_id.clone();
        let started = set.start_workflow(&s.client, request, CallOptions::default()).await.unwrap();
        let run = Run { id, run_id: started.run_id };
        assert_eq!(s.end(&run).await, "abcd");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_pass() {
    let code = main(|w| async move {
        let one = activity(&w, "big", "1500000").said().await.len();
        let two = said(&w.local(local("big", "1500000")).1.await).len();
        done(&"y".repeat(one.min(two)))
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await.len(), 1_500_000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_too_large_fails_its_task() {
    let size = Arc::new(AtomicUsize::new(3_000_000));
    let now = size.clone();
    let code = main(move |w| {
        let now = now.clone();
        async move {
            w.timer(10).next().await;
            done(&"z".repeat(now.load(Ordering::SeqCst)))
        }
    });
    story(code, async |s| {
        s.expected.push(WorkflowTaskFailedCause::PayloadsTooLarge);
        let run = s.start().await;
        s.until(&run, EventType::WorkflowTaskFailed, 1).await;
        size.store(3, Ordering::SeqCst);
        assert_eq!(s.end(&run).await, "zzz");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_a_deployment_takes_its_tasks() {
    let code = main(|w| async move {
        w.timer(20).next().await;
        let version = w.now().deployment_version_for_current_task.unwrap_or_default();
        activity(&w, "echo", "x").next().await;
        done(&format!("{}.{}", version.deployment_name, version.build_id))
    });
    play(code, async |s| {
        s.worker_with(|config| {
            config.versioning = Versioning::Deployment {
                deployment_name: "shop".into(),
                build_id: "one".into(),
                use_worker_versioning: true,
                default_behavior: 1,
            };
        })
        .await;
        let request = api::SetWorkerDeploymentCurrentVersionRequest {
            namespace: "default".into(),
            deployment_name: "shop".into(),
            build_id: "one".into(),
            ignore_missing_task_queues: true,
            allow_no_pollers: true,
            ..Default::default()
        };
        let _: api::SetWorkerDeploymentCurrentVersionResponse =
            s.call(path::SET_WORKER_DEPLOYMENT_CURRENT_VERSION, &request).await.unwrap();
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "shop.one");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_restarted_under_load() {
    let Some(server) = Server::start("restarted", &[]) else { return };
    let code = main(|w| async move {
        let first = activity(&w, "gate", "").said().await;
        w.timer(50).next().await;
        let second = said(&w.local(local("echo", "b")).1.await);
        let third = activity(&w, "echo", "c").said().await;
        done(&format!("{first} {second} {third}"))
    });
    play_on(&server, code, async |s| {
        s.worker().await;
        let runs = start_many(s, 10).await;
        s.arrived(10).await;
        s.open(5);
        server.restart();
        server.client().await;
        s.open(100);
        for run in &runs {
            assert_eq!(s.end_despite_outage(run).await, "passed b c");
        }
    })
    .await;
}

/// A worker whose language is the test itself.
async fn bare(s: &Scene, change: impl FnOnce(&mut WorkerConfig)) -> Worker {
    let mut config = WorkerConfig {
        max_cached_workflows: 10,
        shutdown_limit: Duration::from_secs(20),
        ..WorkerConfig::new("default", &s.queue)
    };
    config.task_types.activities = false;
    config.task_types.local_activities = false;
    config.task_types.nexus = false;
    change(&mut config);
    let worker = Worker::new(s.client.clone(), config).unwrap();
    worker.validate().await.unwrap();
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_never_polled_ends() {
    play(walk(), async |s| {
        let worker = bare(s, |_| {}).await;
        assert_eq!(worker.shutdown().await, Ending::Clean);
        assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_while_its_polls_are_under_way() {
    play(walk(), async |s| {
        let worker = bare(s, |_| {}).await;
        let polling = worker.clone();
        let polling = tokio::spawn(async move { polling.poll_workflow_activation().await });
        s.until_polled().await;
        assert_eq!(worker.shutdown().await, Ending::Clean);
        assert_eq!(polling.await.unwrap().unwrap_err(), PollError::ShutDown);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_while_the_language_has_an_activation() {
    play(main(|_| async { done("over") }), async |s| {
        let worker = bare(s, |_| {}).await;
        let run = s.start().await;
        let activation = worker.poll_workflow_activation().await.unwrap();
        worker.initiate_shutdown();
        let commands = vec![outlast_core::proto::coresdk::workflow_commands::WorkflowCommand {
            variant: Some(done("in time")),
            ..Default::default()
        }];
        let answer = |commands| WorkflowActivationCompletion {
            run_id: activation.run_id.clone(),
            status: Some(Status::Successful(Success { commands, ..Default::default() })),
            ..Default::default()
        };
        worker.complete_workflow_activation(answer(commands)).unwrap();
        // What was answered is not lost; the run then leaves, and that is the end.
        let eviction = worker.poll_workflow_activation().await.unwrap();
        assert_eq!(eviction.jobs.len(), 1);
        worker.complete_workflow_activation(answer(vec![])).unwrap();
        assert_eq!(worker.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
        assert_eq!(worker.shutdown().await, Ending::Clean);
        assert_eq!(s.end(&run).await, "in time");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_when_its_activity_has_ended() {
    let code = main(|w| async move { done(&activity(&w, "gate", "").said().await) });
    play(code, async |s| {
        let first = s.run_worker(|_| {}).await;
        let run = s.start().await;
        s.arrived(1).await;
        first.worker.initiate_shutdown();
        s.open(1);
        first.stop().await;
        s.worker().await;
        assert_eq!(s.end(&run).await, "passed");
        assert_eq!(*s.meeting.began.lock().unwrap(), ["gate 1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_cancels_its_activity_after_the_grace() {
    let code = main(|w| async move { done(&activity(&w, "gate", "").said().await) });
    play(code, async |s| {
        let grace = Some(Duration::from_millis(200));
        let first = s.run_worker(|config| config.graceful_shutdown_period = grace).await;
        let run = s.start().await;
        s.arrived(1).await;
        first.stop().await;
        assert_eq!(*s.meeting.cancels.lock().unwrap(), ["WORKER_SHUTDOWN"]);
        s.open(1);
        s.worker().await;
        assert_eq!(s.end(&run).await, "passed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_when_its_local_activity_has_ended() {
    let code = main(|w| async move {
        let said = said(&w.local(local("gate", "")).1.await);
        w.timer(20).next().await;
        done(&said)
    });
    play(code, async |s| {
        let first = s.run_worker(|_| {}).await;
        let run = s.start().await;
        s.arrived(1).await;
        first.worker.initiate_shutdown();
        s.open(1);
        first.stop().await;
        s.worker().await;
        assert_eq!(s.end(&run).await, "passed");
        assert_eq!(*s.meeting.began.lock().unwrap(), ["gate 1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_by_its_deadline_when_the_language_is_silent() {
    play(main(|_| async { done("over") }), async |s| {
        let worker = bare(s, |config| config.shutdown_limit = Duration::from_secs(1)).await;
        let run = s.start_with(|it| it.workflow_task_timeout = seconds(1)).await;
        worker.poll_workflow_activation().await.unwrap();
        assert_eq!(worker.shutdown().await, Ending::Deadline);
        s.worker().await;
        assert_eq!(s.end(&run).await, "over");
    })
    .await;
}
