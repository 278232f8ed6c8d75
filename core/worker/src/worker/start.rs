//! Puts a worker together: loops, channels between them, pollers.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{CallOptions, Client};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{Activities, Nexus, Shared, Tasks, Worker, Workflows};
use crate::clock::Clock;
use crate::conduct::{Players, conduct};
use crate::config::WorkerConfig;
use crate::handout::Handout;
use crate::machine::Shard;
use crate::permits::Permits;
use crate::poll::{Polling, poll};
use crate::remote::{Remote, WorkflowPoll};
use crate::slots::SlotKind;
use crate::telemetry::{Metrics, WorkerMetrics};
use crate::workflow::{self, Eager, Shards};
use crate::{activity, nexus};

/// Starts the loops and the pollers; the pollers wait for the language.
pub(super) fn start(client: Client, config: WorkerConfig, metrics: &Metrics) -> Worker {
    let clock = Clock::start();
    let remote = Arc::new(Remote::new(client, config.clone()));
    let metrics = Arc::new(WorkerMetrics::new(metrics, &config.namespace, &config.task_queue));
    let permits = |kind| Permits::new(kind, &config, remote.identity(), &metrics);
    let mut it = Starting { polls: JoinSet::new(), loops: Vec::new() };
    let types = config.task_types;

    let (shards, ends) = Shards::channels(shard_count(&config));
    let runs_activities = types.activities || types.local_activities;
    let activity_permits = permits(SlotKind::Activity);
    let activities = runs_activities.then(|| {
        let (inbox, end) = mpsc::unbounded_channel();
        let tasks = Arc::new(Handout::new());
        let reports = shards.clone();
        let around = activity::Surroundings {
            clock,
            remote: remote.clone(),
            tasks: tasks.clone(),
            local_permits: permits(SlotKind::LocalActivity),
            reports: Arc::new(move |run, report| {
                // A shard that has ended wants no reports.
                let _ = reports.local(run, report);
            }),
        };
        let own = config.clone();
        it.run(async move { activity::run(around, &own, end).await });
        let half = Activities { inbox, tasks, polling: watch::Sender::new(Polling::Waiting) };
        if types.activities {
            it.poll_activities(&remote, &config, &activity_permits, &half);
        }
        half
    });

    let workflows = types.workflows.then(|| {
        let activations = Arc::new(Handout::new());
        let unlimited = config.max_task_queue_activities_per_second.is_none();
        let eager = (types.activities && unlimited && config.max_eager_activities > 0).then(|| Eager {
            permits: activity_permits.clone(),
            task_queue: Bytes::copy_from_slice(config.task_queue.as_bytes()),
            max: config.max_eager_activities,
        });
        let around = Arc::new(workflow::Surroundings {
            clock,
            remote: remote.clone(),
            activations: activations.clone(),
            fetches: Arc::new(Semaphore::new(config.fetching_concurrency)),
            activities: activities.as_ref().map(|half| half.inbox.clone()),
            eager,
        });
        for end in ends {
            it.run(workflow::run(around.clone(), shard(&config), end));
        }
        let half = Workflows { shards, activations, polling: watch::Sender::new(Polling::Waiting) };
        it.poll_workflows(&remote, &config, &permits(SlotKind::Workflow), &half);
        half
    });

    let nexus = types.nexus.then(|| {
        let (inbox, end) = mpsc::unbounded_channel();
        let tasks = Arc::new(Handout::new());
        it.run(nexus::run(clock, remote.clone(), tasks.clone(), end));
        let half = Nexus { inbox, tasks, polling: watch::Sender::new(Polling::Waiting) };
        it.poll_nexus(&remote, &config, &permits(SlotKind::Nexus), &half);
        half
    });

    metrics.started.add(1);
    let shared = Arc::new(Shared { config, remote, workflows, activities, nexus, namespace: Mutex::default() });
    let (asked, hears) = watch::channel(false);
    let (tells, ended) = watch::channel(None);
    let Starting { polls, loops, .. } = it;
    let players = Players { clock, polls, loops: loops.clone() };
    let conductor = tokio::spawn(conduct(shared.clone(), players, hears, tells));
    Worker { shared, _tasks: Arc::new(Tasks { loops, conductor }), asked, ended }
}

struct Starting {
    polls: JoinSet<()>,
    loops: Vec<AbortHandle>,
}

impl Starting {
    fn run(&mut self, it: impl Future<Output = ()> + Send + 'static) {
        self.loops.push(tokio::spawn(it).abort_handle());
    }

    fn poll_workflows(
        &mut self,
        remote: &Arc<Remote>,
        config: &WorkerConfig,
        permits: &Permits,
        half: &Workflows,
    ) {
        let (normal, sticky) = split(config, remote.sticky.is_some());
        let queues = std::iter::repeat_n(false, normal).chain(std::iter::repeat_n(true, sticky));
        for sticky in queues {
            let permits = if sticky { permits.sticky() } else { permits.clone() };
            let (polling, remote, shards) = (half.polling.subscribe(), remote.clone(), half.shards.clone());
            let activations = half.activations.clone();
            self.polls.spawn(async move {
                let ask = || remote.poll_workflow(sticky, CallOptions::default());
                let take = |task, permit| match task {
                    WorkflowPoll::Task(task) => {
                        shards.task(task, permit);
                    }
                    WorkflowPoll::Unreadable { token, problem } => {
                        let remote = remote.clone();
                        tokio::spawn(async move {
                            remote.refuse(token, &problem).await;
                            drop(permit);
                        });
                    }
                };
                if let Err(error) = poll(polling, permits, ask, take).await {
                    activations.fail(error.to_string());
                }
            });
        }
    }

    fn poll_activities(
        &mut self,
        remote: &Arc<Remote>,
        config: &WorkerConfig,
        permits: &Permits,
        half: &Activities,
    ) {
        let pace = config.max_worker_activities_per_second.map(|rate| Arc::new(Pace::new(rate)));
        for _ in 0..config.activity_pollers.maximum() {
            let (polling, remote, inbox) = (half.polling.subscribe(), remote.clone(), half.inbox.clone());
            let (permits, tasks, pace) = (permits.clone(), half.tasks.clone(), pace.clone());
            self.polls.spawn(async move {
                let ask = || async {
                    if let Some(pace) = &pace {
                        pace.turn().await;
                    }
                    remote.poll_activity(CallOptions::default()).await
                };
                let take = |task, permit| {
                    // Without its loop the worker has ended, and the server will give the task to another.
                    let _ = inbox.send(activity::Arrival::Task { task, permit, eager: false });
                };
                if let Err(error) = poll(polling, permits, ask, take).await {
                    tasks.fail(error.to_string());
                }
            });
        }
    }

    fn poll_nexus(&mut self, remote: &Arc<Remote>, config: &WorkerConfig, permits: &Permits, half: &Nexus) {
        for _ in 0..config.nexus_pollers.maximum() {
            let (polling, remote, inbox) = (half.polling.subscribe(), remote.clone(), half.inbox.clone());
            let (permits, tasks) = (permits.clone(), half.tasks.clone());
            self.polls.spawn(async move {
                let ask = || remote.poll_nexus(CallOptions::default());
                let take = |task, permit| {
                    // Without its loop the worker has ended, and the server will give the task to another.
                    let _ = inbox.send(nexus::Arrival::Task(task, permit));
                };
                if let Err(error) = poll(polling, permits, ask, take).await {
                    tasks.fail(error.to_string());
                }
            });
        }
    }
}

/// How many polls go to the normal queue, and how many to the sticky one: at least one each, if there is one.
fn split(config: &WorkerConfig, sticky: bool) -> (usize, usize) {
    let all = config.workflow_pollers.maximum();
    if !sticky {
        return (all, 0);
    }
    let share = all as f32 * config.nonsticky_to_sticky_poll_ratio;
    let normal = (share as usize).clamp(1, all.saturating_sub(1).max(1));
    (normal, all.saturating_sub(normal).max(1))
}

fn shard_count(config: &WorkerConfig) -> usize {
    config.shards.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn shard(_config: &WorkerConfig) -> Shard {
    Shard::default()
}

/// Lets callers through at a steady rate.
struct Pace {
    step: Duration,
    next: tokio::sync::Mutex<tokio::time::Instant>,
}

impl Pace {
    fn new(rate: f64) -> Self {
        let step = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
        Self { step, next: tokio::sync::Mutex::new(tokio::time::Instant::now()) }
    }

    async fn turn(&self) {
        let mut next = self.next.lock().await;
        tokio::time::sleep_until(*next).await;
        *next = tokio::time::Instant::now() + self.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_a_poll_of_its_own() {
        let mut config = WorkerConfig::new("default", "q");
        assert_eq!(split(&config, false), (5, 0));
        assert_eq!(split(&config, true), (1, 4));
        config.nonsticky_to_sticky_poll_ratio = 1.0;
        assert_eq!(split(&config, true), (4, 1));
        config.nonsticky_to_sticky_poll_ratio = 0.0;
        assert_eq!(split(&config, true), (1, 4));
    }
}
