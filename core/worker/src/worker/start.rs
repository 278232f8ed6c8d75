//! Puts a worker together: loops, channels between them, pollers.

use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use outlast_client::{CallOptions, Client, Error};
use outlast_machine::shard::Shard;
use outlast_machine::{Config, Nondeterminism};
use outlast_proto::lens::lang;
use outlast_proto::temporal::api::workflowservice::v1::workflow_service as path;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::shared::{Activities, NamespaceFacts, Nexus, Shared, Workflows};
use super::{Tasks, Worker};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::conduct::{Players, conduct};
use crate::config::{Versioning, WorkerConfig};
use crate::counts::Counts;
use crate::handout::Handout;
use crate::heartbeat::{self, Vitals};
use crate::permits::Permits;
use crate::poll::{Polling, Queue, deliver};
use crate::pollers::{self, Polled, PollerBehavior};
use crate::remote::{Got, Remote};
use crate::sizes::SizeLimits;
use crate::slots::{Boxed, SlotKind};
use crate::telemetry::{Gauge, Metrics, PollerType, WorkerMetrics};
use crate::workflow::{self, Eager, Shards};
use crate::{activity, nexus};

/// Starts the loops and the pollers; the pollers wait for the language.
pub(super) fn start(client: Client, config: WorkerConfig, metrics: &Metrics) -> Worker {
    let clock = Clock::start();
    // A server that was not asked yet is taken for one of today.
    let sdk_metadata = client.capabilities().is_none_or(|can| can.sdk_metadata);
    let metrics = Arc::new(WorkerMetrics::new(metrics, &config.namespace, &config.task_queue));
    let sizes = SizeLimits { warn: client.warn_sizes(), ..SizeLimits::default() };
    let remote = Arc::new(Remote::new(client, config.clone(), metrics.clone()));
    let counts = Arc::new(Counts::default());
    let permits = |kind| Permits::new(kind, &config, &remote.identity(), &metrics);
    let namespace = Arc::new(Mutex::new(NamespaceFacts { sizes, ..NamespaceFacts::default() }));
    let mut it = Starting {
        remote: remote.clone(),
        clock,
        counts: counts.clone(),
        metrics: metrics.clone(),
        namespace: namespace.clone(),
        polls: JoinSet::new(),
        loops: Vec::new(),
        alarm: Alarm::default(),
    };
    let types = config.task_types;

    let (shards, ends) = Shards::channels(shard_count(&config));
    let runs_activities = types.activities || types.local_activities;
    let activity_permits = permits(SlotKind::Activity);
    let local_permits = permits(SlotKind::LocalActivity);
    let workflow_permits = permits(SlotKind::Workflow);
    let nexus_permits = permits(SlotKind::Nexus);
    let activities = runs_activities.then(|| {
        let (inbox, end) = mpsc::unbounded_channel();
        let tasks = Arc::new(Handout::new());
        let reports = shards.clone();
        let around = activity::Surroundings {
            clock,
            remote: remote.clone(),
            tasks: tasks.clone(),
            local_permits: local_permits.clone(),
            local_activities: types.local_activities,
            metrics: metrics.clone(),
            counts: counts.clone(),
            namespace: namespace.clone(),
            reports: Arc::new(move |run, report| {
                // A shard that has ended wants no reports.
                let _ = reports.local(run, report);
            }),
        };
        let own = config.clone();
        it.run(async move { activity::run(around, &own, end).await });
        let half = Activities { inbox, tasks, polling: watch::Sender::new(Polling::Waiting) };
        if types.activities {
            it.poll_activities(&config, &activity_permits, &half);
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
            fetches: Arc::new(Semaphore::new(config.fetching_concurrency.min(Semaphore::MAX_PERMITS))),
            activities: activities.as_ref().map(|half| half.inbox.clone()),
            eager,
            metrics: metrics.clone(),
            counts: counts.clone(),
            namespace: namespace.clone(),
        });
        let machine = machine_config(&config, sdk_metadata, ends.len());
        for end in ends {
            it.run(workflow::run(around.clone(), Shard::new(machine.clone()), end));
        }
        let half = Workflows { shards, activations, polling: watch::Sender::new(Polling::Waiting) };
        it.poll_workflows(&config, &workflow_permits, &half);
        half
    });

    let nexus = types.nexus.then(|| {
        let (inbox, end) = mpsc::unbounded_channel();
        let tasks = Arc::new(Handout::new());
        it.run(nexus::run(clock, remote.clone(), tasks.clone(), metrics.clone(), counts.clone(), end));
        let half = Nexus { inbox, tasks, polling: watch::Sender::new(Polling::Waiting) };
        it.poll_nexus(&config, &nexus_permits, &half);
        half
    });

    metrics.started.add(1);
    let all = [workflow_permits, activity_permits, local_permits, nexus_permits];
    let vitals = Vitals::new(clock, counts, all);
    let heartbeats = config.heartbeat_interval;
    let (ending, alarm) = (AtomicBool::new(false), it.alarm.clone());
    let shared =
        Arc::new(Shared { config, remote, workflows, activities, nexus, namespace, vitals, ending, alarm });
    let (asked, hears) = watch::channel(false);
    let (tells, ended) = watch::channel(None);
    if let Some(every) = heartbeats {
        it.run(heartbeat::beat(shared.clone(), every));
    }
    let Starting { polls, loops, .. } = it;
    let players = Players { clock, polls, loops: loops.clone() };
    let conductor = tokio::spawn(conduct(shared.clone(), players, hears, tells));
    Worker { shared, _tasks: Arc::new(Tasks { loops, conductor }), asked, ended }
}

/// What pollers are made of, and where they run.
struct Starting {
    remote: Arc<Remote>,
    clock: Clock,
    counts: Arc<Counts>,
    metrics: Arc<WorkerMetrics>,
    namespace: Arc<Mutex<NamespaceFacts>>,
    polls: JoinSet<()>,
    loops: Vec<AbortHandle>,
    alarm: Alarm,
}

impl Starting {
    fn run(&mut self, it: impl Future<Output = ()> + Send + 'static) {
        self.loops.push(tokio::spawn(self.alarm.guard(it)).abort_handle());
    }

    fn poll_workflows(&mut self, config: &WorkerConfig, permits: &Permits, half: &Workflows) {
        let queues = {
            let (normal, sticky) = behaviors(config);
            let (metrics, queue) = (&self.metrics, &config.task_queue);
            let gauge = metrics.pollers(PollerType::WorkflowTask, queue, None);
            let own = self.remote.sticky.as_deref();
            let sticky_gauge = metrics.pollers(PollerType::StickyWorkflowTask, queue, own);
            let of = |behavior, permits, sticky, gauge| {
                let (remote, clock, counts) = (self.remote.clone(), self.clock, self.counts.clone());
                self.queue(path::POLL_WORKFLOW_TASK_QUEUE, behavior, permits, gauge, move |options| {
                    let (remote, counts) = (remote.clone(), counts.clone());
                    Box::pin(async move {
                        let polls = if sticky { &counts.sticky_polls } else { &counts.workflow_polls };
                        polls.counted(clock, remote.poll_workflow(sticky, options)).await
                    })
                })
            };
            let normal = of(normal, permits.clone(), false, gauge);
            let sticky = own.map(|_| of(sticky, permits.sticky(), true, sticky_gauge));
            move || std::iter::once(normal()).chain(sticky.map(|sticky| sticky())).collect()
        };
        let (polling, shards, activations) =
            (half.polling.subscribe(), half.shards.clone(), half.activations.clone());
        let remote = self.remote.clone();
        let (alarm, replaced) = (self.alarm.clone(), self.remote.replaced());
        self.polls.spawn(alarm.guard(async move {
            let take = |task, permit| match task {
                // Without its loop the worker has ended, and the server will give the task to another.
                Got::Task(task) => {
                    let _ = shards.task(task, permit);
                }
                Got::Unreadable { token, problem } => {
                    let remote = remote.clone();
                    tokio::spawn(async move {
                        remote.refuse(token, &problem).await;
                        drop(permit);
                    });
                }
            };
            if let Err(error) = deliver(polling, replaced, queues, None, take).await {
                activations.fail(error.to_string());
            }
        }));
    }

    fn poll_activities(&mut self, config: &WorkerConfig, permits: &Permits, half: &Activities) {
        let (remote, clock, counts) = (self.remote.clone(), self.clock, self.counts.clone());
        let gauge = self.metrics.pollers(PollerType::ActivityTask, &config.task_queue, None);
        let path = path::POLL_ACTIVITY_TASK_QUEUE;
        let queue = self.queue(path, config.activity_pollers, permits.clone(), gauge, move |options| {
            let (remote, counts) = (remote.clone(), counts.clone());
            Box::pin(async move { counts.activity_polls.counted(clock, remote.poll_activity(options)).await })
        });
        let (polling, inbox, tasks) = (half.polling.subscribe(), half.inbox.clone(), half.tasks.clone());
        let rate = config.max_worker_activities_per_second;
        let remote = self.remote.clone();
        let (alarm, replaced) = (self.alarm.clone(), self.remote.replaced());
        self.polls.spawn(alarm.guard(async move {
            let take = |task, permit| match task {
                // Without its loop the worker has ended, and the server will give the task to another.
                Got::Task(task) => {
                    let _ = inbox.send(activity::Arrival::Task { task, permit, eager: false });
                }
                Got::Unreadable { token, problem } => {
                    let remote = remote.clone();
                    tokio::spawn(async move {
                        remote.refuse_activity(token, &problem).await;
                        drop(permit);
                    });
                }
            };
            if let Err(error) = deliver(polling, replaced, || vec![queue()], rate, take).await {
                tasks.fail(error.to_string());
            }
        }));
    }

    fn poll_nexus(&mut self, config: &WorkerConfig, permits: &Permits, half: &Nexus) {
        let (remote, clock, counts) = (self.remote.clone(), self.clock, self.counts.clone());
        let gauge = self.metrics.pollers(PollerType::NexusTask, &config.task_queue, None);
        let path = path::POLL_NEXUS_TASK_QUEUE;
        let queue = self.queue(path, config.nexus_pollers, permits.clone(), gauge, move |options| {
            let (remote, counts) = (remote.clone(), counts.clone());
            Box::pin(async move { counts.nexus_polls.counted(clock, remote.poll_nexus(options)).await })
        });
        let (polling, inbox, tasks) = (half.polling.subscribe(), half.inbox.clone(), half.tasks.clone());
        let remote = self.remote.clone();
        let (alarm, replaced) = (self.alarm.clone(), self.remote.replaced());
        self.polls.spawn(alarm.guard(async move {
            let take = |task, permit| match task {
                // Without its loop the worker has ended, and the server will give the task to another.
                Got::Task(task) => {
                    let _ = inbox.send(nexus::Arrival::Task(task, permit));
                }
                Got::Unreadable { token, problem } => {
                    let remote = remote.clone();
                    tokio::spawn(async move {
                        remote.refuse_nexus(token, &problem).await;
                        drop(permit);
                    });
                }
            };
            if let Err(error) = deliver(polling, replaced, || vec![queue()], None, take).await {
                tasks.fail(error.to_string());
            }
        }));
    }

    /// A queue to be made when the language first asks: by then the namespace may be known.
    fn queue<T: 'static>(
        &self,
        path: &'static str,
        behavior: PollerBehavior,
        permits: Permits,
        gauge: Gauge,
        ask: impl Fn(CallOptions) -> Boxed<'static, Result<Polled<T>, Error>> + Send + 'static,
    ) -> Box<dyn FnOnce() -> Queue<T> + Send> {
        let (namespace, retry) = (self.namespace.clone(), self.remote.client().retry_policy());
        Box::new(move || {
            let server_suggests = namespace.lock().unwrap_or_else(PoisonError::into_inner).autoscaling;
            Queue { permits, behavior, server_suggests, gauge, path, retry, ask: Box::new(ask) }
        })
    }
}

/// How the polls of the normal and the sticky queue are numbered: a fixed number is divided, at least one each;
/// autoscaling counts for each queue.
fn behaviors(config: &WorkerConfig) -> (PollerBehavior, PollerBehavior) {
    let cached = config.max_cached_workflows > 0;
    match config.workflow_pollers {
        PollerBehavior::SimpleMaximum(max) if cached => {
            let (normal, sticky) = pollers::split(max, f64::from(config.nonsticky_to_sticky_poll_ratio));
            (PollerBehavior::SimpleMaximum(normal), PollerBehavior::SimpleMaximum(sticky))
        }
        behavior @ (PollerBehavior::SimpleMaximum(_) | PollerBehavior::Autoscaling { .. }) => {
            (behavior, behavior)
        }
    }
}

/// Runs are spread over shards by chance, so a small cache is not split: its bound would not be the one that was asked for.
const CACHED_PER_SHARD_MIN: usize = 50;

fn shard_count(config: &WorkerConfig) -> usize {
    let parallel = || std::thread::available_parallelism().map_or(1, usize::from);
    let shards_max = match config.max_cached_workflows {
        0 => usize::MAX,
        runs => (runs / CACHED_PER_SHARD_MIN).max(1),
    };
    config.shards.unwrap_or_else(|| parallel().min(shards_max))
}

/// What each of these many shards must know. Together they keep to the worker's limits.
pub(crate) fn machine_config(config: &WorkerConfig, sdk_metadata: bool, shards: usize) -> Config {
    let share = |all: usize| all.div_ceil(shards.max(1));
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let (deployment, default_versioning_behavior) = match &config.versioning {
        Versioning::Deployment { deployment_name, build_id, default_behavior, .. } => {
            let version = lang::WorkerDeploymentVersion {
                deployment_name: bytes(deployment_name),
                build_id: bytes(build_id),
            };
            (Some(version), *default_behavior)
        }
        Versioning::None { build_id } | Versioning::LegacyBuildId { build_id } => {
            let version = lang::WorkerDeploymentVersion { build_id: bytes(build_id), ..Default::default() };
            (Some(version).filter(|version| !version.build_id.is_empty()), 0)
        }
    };
    let types = &config.nondeterminism_fails_workflow_types;
    let nondeterminism = match config.nondeterminism_fails_workflow {
        true => Nondeterminism::FailWorkflow,
        false if types.is_empty() => Nondeterminism::FailTask,
        false => Nondeterminism::FailWorkflowTypes(types.iter().map(|name| bytes(name)).collect()),
    };
    Config {
        cache_runs: share(config.max_cached_workflows),
        cache_bytes: config.max_cached_bytes.map_or(usize::MAX, share),
        namespace: bytes(&config.namespace),
        task_queue: bytes(&config.task_queue),
        deployment: deployment.map(Arc::new),
        sdk_name: config.sdk.name.clone(),
        sdk_version: config.sdk.version.clone(),
        sdk_metadata,
        nondeterminism,
        default_versioning_behavior,
    }
}
