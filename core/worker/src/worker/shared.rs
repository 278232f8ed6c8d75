//! What the caller, the loops and the conductor of one worker share: the ways into its halves, and what is known of the
//! namespace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outlast_machine::time::Time;
use outlast_proto::coresdk;
use outlast_proto::lens::{api, lang};
use outlast_proto::temporal::api::deployment::v1::WorkerDeploymentOptions;
use outlast_proto::temporal::api::worker::v1::WorkerHeartbeat;
use tokio::sync::{mpsc, oneshot, watch};

use crate::alarm::Alarm;
use crate::config::WorkerConfig;
use crate::handout::Handout;
use crate::heartbeat::Vitals;
use crate::permits::Permit;
use crate::poll::Polling;
use crate::remote::Remote;
use crate::shutdown::{Input as ShutdownInput, SETTLING, SETTLING_MAX};
use crate::sizes::SizeLimits;
use crate::workflow::{EVICTIONS_MAX, EVICTIONS_PATIENCE, Shards};
use crate::{activity, nexus};

/// How soon a worker that ends looks again whether tasks are to be expected.
const LOOKED_AGAIN: Duration = Duration::from_millis(3);

/// What the caller, the loops and the conductor share.
pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(super) remote: Arc<Remote>,
    pub(super) workflows: Option<Workflows>,
    pub(super) activities: Option<Activities>,
    pub(super) nexus: Option<Nexus>,
    pub(super) namespace: Arc<Mutex<NamespaceFacts>>,
    pub(super) vitals: Vitals,
    /// Its end was asked for.
    pub(super) ending: AtomicBool,
    /// A part of it panicked.
    pub(super) alarm: Alarm,
}

pub(super) struct Workflows {
    pub(super) shards: Shards,
    pub(super) activations: Arc<Handout<lang::WorkflowActivation>>,
    pub(super) polling: watch::Sender<Polling>,
}

pub(super) struct Activities {
    pub(super) inbox: mpsc::UnboundedSender<activity::Arrival>,
    pub(super) tasks: Arc<Handout<coresdk::activity_task::ActivityTask>>,
    pub(super) polling: watch::Sender<Polling>,
}

pub(super) struct Nexus {
    pub(super) inbox: mpsc::UnboundedSender<nexus::Arrival>,
    pub(super) tasks: Arc<Handout<coresdk::nexus::NexusTask>>,
    pub(super) polling: watch::Sender<Polling>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = &self.config;
        write!(f, "{}/{} ({})", config.namespace, config.task_queue, self.remote.identity())
    }
}

/// What the namespace can do; nothing before `validate`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NamespaceFacts {
    pub(crate) known: bool,
    /// The server answers polls of a worker that announced its end.
    pub(crate) ends_polls: bool,
    pub(crate) autoscaling: bool,
    pub(crate) heartbeats: bool,
    /// The server takes the answer to a workflow task in pages.
    pub(crate) pages: bool,
    pub(crate) sizes: SizeLimits,
}

impl Shared {
    pub(crate) fn namespace(&self) -> NamespaceFacts {
        facts(&self.namespace)
    }

    fn heartbeat(&self, ending: bool) -> WorkerHeartbeat {
        let remote = &self.remote;
        self.vitals.heartbeat(
            &self.config,
            &remote.identity(),
            &remote.instance_key,
            remote.client().key(),
            ending,
        )
    }

    pub(crate) async fn send_heartbeat(&self) {
        if let Err(error) = self.remote.send_heartbeat(self.heartbeat(false)).await {
            tracing::debug!(%error, "a worker's heartbeat did not reach the server");
        }
    }

    /// A slot for a workflow that begins here. The language may not be polling yet: whoever puts a worker into a set is
    /// about to.
    pub(crate) fn reserve_eager(&self) -> Option<Permit> {
        let open = self.workflows.is_some() && !self.is_ending();
        open.then(|| self.vitals.workflow_tasks.try_reserve()).flatten()
    }

    /// Begins a workflow with a task that did not come by a poll.
    pub(crate) fn begin(&self, task: Box<api::PollWorkflowTaskQueueResponse>, permit: Permit) {
        if let Some(workflows) = &self.workflows {
            // A worker that has ended leaves the task to its timeout.
            let _ = workflows.shards.task(task, permit);
        }
    }

    pub(crate) fn deployment(&self) -> Option<WorkerDeploymentOptions> {
        self.remote.deployment()
    }

    /// Whether it takes no new tasks any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn pollings(&self) -> impl Iterator<Item = &watch::Sender<Polling>> {
        let all = [
            self.workflows.as_ref().map(|half| &half.polling),
            self.activities.as_ref().map(|half| &half.polling),
            self.nexus.as_ref().map(|half| &half.polling),
        ];
        all.into_iter().flatten()
    }

    pub(crate) fn set_polling(&self, to: Polling) {
        for polling in self.pollings() {
            polling.send_replace(to);
        }
    }

    /// How many tasks came so far.
    pub(crate) fn tasks_taken(&self) -> u64 {
        let vitals = &self.vitals;
        let all = [&vitals.workflow_tasks, &vitals.activities, &vitals.nexus_tasks];
        all.into_iter().map(|permits| permits.slots().counts().used_ever).sum()
    }

    /// Returns when nothing was told lately that could bring a task; at the latest when it no longer matters. What is told
    /// later, of tasks that are held, brings tasks to others: no poll of ours is left then that could lose them.
    pub(crate) async fn settled(&self) {
        let clock = self.vitals.clock;
        let latest = clock.now() + SETTLING_MAX;
        while clock.now() < latest && !self.is_settled(clock.now()) {
            tokio::time::sleep(LOOKED_AGAIN).await;
        }
    }

    fn is_settled(&self, now: Time) -> bool {
        !self.vitals.counts.recent.may_bring(now, SETTLING, self.holds_runs())
    }

    /// Whether tasks of runs that are under way may come here. Without a cache there is no telling.
    fn holds_runs(&self) -> bool {
        let cached = || self.vitals.counts.cached_runs.load(Ordering::Relaxed) > 0;
        self.workflows.is_some() && (self.config.max_cached_workflows == 0 || cached())
    }

    pub(crate) fn prepare_drain(&self) {
        if let Some(workflows) = &self.workflows {
            workflows.shards.ending();
        }
    }

    /// Halves that have ended need not know how long they have.
    pub(crate) fn start_grace(&self) {
        let grace = self.config.graceful_shutdown_period;
        if let Some(activities) = &self.activities {
            let _ = activities.inbox.send(activity::Arrival::ShutDown(grace));
        }
        if let Some(nexus) = &self.nexus {
            let _ = nexus.inbox.send(nexus::Arrival::ShutDown(grace));
        }
    }

    pub(crate) async fn announce(&self) -> ShutdownInput {
        let last = self.namespace().heartbeats.then(|| self.heartbeat(true));
        match self.remote.announce_end(last).await {
            Ok(()) => ShutdownInput::Announced,
            Err(error) => {
                tracing::debug!(%error, "the server did not take the announcement that this worker ends");
                ShutdownInput::NotAnnounced
            }
        }
    }

    /// Returns when nothing is held any more: first the tasks, then the activities they may have started, at last the runs. An
    /// attempt of a local activity that its workflow has abandoned ends before its run leaves.
    pub(crate) async fn drained(&self) {
        let mut dropped = 0;
        if let Some(workflows) = &self.workflows {
            dropped += workflows.shards.finish().await;
        }
        let (idle, activities) = oneshot::channel();
        let asked = |half: &Activities| half.inbox.send(activity::Arrival::WhenIdle(idle)).is_ok();
        if self.activities.as_ref().is_some_and(asked) {
            let _ = activities.await;
        }
        let (idle, nexus) = oneshot::channel();
        let asked = |half: &Nexus| half.inbox.send(nexus::Arrival::WhenIdle(idle)).is_ok();
        if self.nexus.as_ref().is_some_and(asked) {
            let _ = nexus.await;
        }
        if let Some(workflows) = &self.workflows {
            dropped += workflows.shards.leave(!self.config.ignore_evicts_on_shutdown).await;
            if dropped > 0 {
                workflows.activations.clear();
                tracing::warn!(
                    runs = dropped,
                    "{dropped} cached workflow run(s) did not let themselves be evicted at the end of this worker and were dropped: none \
                     did for {} s, or the evictions took {} s in all. Code that blocks or catches BaseException can be why",
                    EVICTIONS_PATIENCE.as_secs(),
                    EVICTIONS_MAX.as_secs(),
                );
            }
        }
    }

    pub(crate) fn close_doors(&self, drop: bool) {
        if let Some(half) = &self.workflows {
            half.activations.close(drop);
        }
        if let Some(half) = &self.activities {
            half.tasks.close(drop);
        }
        if let Some(half) = &self.nexus {
            half.tasks.close(drop);
        }
    }
}

/// What is known of the namespace now.
pub(crate) fn facts(namespace: &Mutex<NamespaceFacts>) -> NamespaceFacts {
    *namespace.lock().unwrap_or_else(PoisonError::into_inner)
}
