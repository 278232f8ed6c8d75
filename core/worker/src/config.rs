//! What a worker can be told, with the defaults that need no thought, and what is wrong with it.

mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ConfigError;
use crate::pollers::PollerBehavior;
use crate::slots::{self, SlotKind, SlotSupplier};
pub(crate) use spans::LONGEST;

/// How one worker works.
///
/// ```
/// use outlast_worker::WorkerConfig;
///
/// let mut config = WorkerConfig::new("default", "orders");
/// config.max_cached_workflows = 1_000;
/// assert!(config.check().is_ok());
/// config.task_queue.clear();
/// assert_eq!(config.check().unwrap_err().field, "task_queue");
/// ```
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The namespace whose tasks are taken.
    pub namespace: String,
    /// The task queue whose tasks are taken.
    pub task_queue: String,
    /// Who works, as histories show it. `None`: the client's identity.
    pub identity: Option<String>,
    /// Runs kept in memory between tasks. 0: none, and no sticky queue.
    pub max_cached_workflows: usize,
    /// Estimated bytes that cached runs may hold together. `None`: no such limit.
    pub max_cached_bytes: Option<usize>,
    /// Who gives out slots.
    pub slots: Slots,
    /// How many polls for workflow tasks are kept open.
    pub workflow_pollers: PollerBehavior,
    /// How many polls for activity tasks are kept open.
    pub activity_pollers: PollerBehavior,
    /// How many polls for Nexus tasks are kept open.
    pub nexus_pollers: PollerBehavior,
    /// The share of workflow polls that go to the normal queue and not to the sticky one.
    pub nonsticky_to_sticky_poll_ratio: f32,
    /// Which kinds of tasks are taken.
    pub task_types: TaskTypes,
    /// How long a task waits on the sticky queue before any worker may take it.
    pub sticky_queue_schedule_to_start_timeout: Duration,
    /// The longest time between heartbeats to the server, whatever an activity's own timeout.
    pub max_heartbeat_throttle_interval: Duration,
    /// The time between heartbeats to the server for activities without a heartbeat timeout.
    pub default_heartbeat_throttle_interval: Duration,
    /// Activities per second on this task queue, over all its workers; the server keeps to it, and it alone says what
    /// numbers mean that are no rate. Ends eager activities.
    pub max_task_queue_activities_per_second: Option<f64>,
    /// Activities per second that this worker starts.
    pub max_worker_activities_per_second: Option<f64>,
    /// At shutdown runs do not leave the cache one by one: the language drops them itself. By default each is evicted once nothing
    /// else is held. Those that the language does not let go are dropped when it has answered no eviction for 3 s, or after 10 s.
    pub ignore_evicts_on_shutdown: bool,
    /// How many histories are fetched at the same time.
    pub fetching_concurrency: usize,
    /// At shutdown activities and Nexus tasks that still run after this are cancelled. `None`: they never are.
    pub graceful_shutdown_period: Option<Duration>,
    /// Counted from the end of the grace: when shutdown ends, whatever is left. Results that come later are lost, so a
    /// language that waits for its code without end gives it as much time here.
    pub shutdown_limit: Duration,
    /// Given to activities on top of their timeouts before they are cancelled from here.
    pub local_timeout_buffer_for_activities: Duration,
    /// Activities that one completion may claim at once, without a trip through their queue.
    pub max_eager_activities: usize,
    /// Nondeterminism closes the workflow as failed, where by default only the task fails and is tried again.
    pub nondeterminism_fails_workflow: bool,
    /// The same for workflows of these types only.
    pub nondeterminism_fails_workflow_types: BTreeSet<String>,
    /// Which version of the code this is.
    pub versioning: Versioning,
    /// How many owners the runs are divided among. `None`: one for each CPU.
    pub shards: Option<usize>,
    /// Name and version of the SDK, written to histories.
    pub sdk: Sdk,
    /// Time between reports to the server of how this worker does. `None`: none are sent.
    pub heartbeat_interval: Option<Duration>,
    /// Results larger than the namespace accepts fail their task here, with a clear error. `false`: the server decides.
    pub payload_limits: bool,
    /// Reported with heartbeats: names and versions of plugins.
    pub plugins: BTreeMap<String, String>,
    /// Reported with heartbeats: kinds of storage drivers.
    pub storage_drivers: BTreeSet<String>,
    /// Whether heartbeats say what the worker runs on: the platform, and a host such as Kubernetes.
    pub environment_told: bool,
    /// Allow a second worker on one client for the same queue, build and kinds of tasks.
    pub skip_client_worker_set_check: bool,
}

/// More owners than any machine has CPUs do nothing for anybody.
const SHARDS_MAX: usize = 1024;

/// Slots: how many tasks of each kind may be held at a time.
#[derive(Clone, Debug)]
pub enum Slots {
    /// Fixed numbers.
    Fixed(FixedSlots),
    /// A supplier for each kind.
    Tuner(Tuner),
}

/// Who supplies the slots of each kind.
#[derive(Clone)]
pub struct Tuner {
    /// Workflow tasks.
    pub workflow_tasks: Arc<dyn SlotSupplier>,
    /// Activities.
    pub activities: Arc<dyn SlotSupplier>,
    /// Local activities.
    pub local_activities: Arc<dyn SlotSupplier>,
    /// Nexus tasks.
    pub nexus_tasks: Arc<dyn SlotSupplier>,
}

impl std::fmt::Debug for Tuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [&self.workflow_tasks, &self.activities, &self.local_activities, &self.nexus_tasks];
        f.debug_list().entries(names.map(|supplier| supplier.name().to_owned())).finish()
    }
}

/// Fixed numbers of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSlots {
    /// Workflow tasks.
    pub workflow_tasks: usize,
    /// Activities.
    pub activities: usize,
    /// Local activities.
    pub local_activities: usize,
    /// Nexus tasks.
    pub nexus_tasks: usize,
}

/// Which kinds of tasks a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTypes {
    /// Workflow tasks.
    pub workflows: bool,
    /// Local activities; they need workflows.
    pub local_activities: bool,
    /// Activities.
    pub activities: bool,
    /// Nexus tasks.
    pub nexus: bool,
}

impl TaskTypes {
    /// Everything.
    pub const ALL: Self = Self { workflows: true, local_activities: true, activities: true, nexus: true };
}

/// Which version of the code a worker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// No versioning; the build id is only told.
    None {
        /// The build, as the user names it.
        build_id: String,
    },
    /// Worker deployments.
    Deployment {
        /// The deployment's name.
        deployment_name: String,
        /// The build within it.
        build_id: String,
        /// Whether the server routes by version.
        use_worker_versioning: bool,
        /// `temporal.api.enums.v1.VersioningBehavior` of workflows that do not say themselves.
        default_behavior: i32,
    },
    /// The older versioning by build id alone.
    LegacyBuildId {
        /// The build.
        build_id: String,
    },
}

/// The SDK on top of this core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdk {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl WorkerConfig {
    /// The defaults for this namespace and task queue.
    pub fn new(namespace: impl Into<String>, task_queue: impl Into<String>) -> Self {
        let fixed =
            FixedSlots { workflow_tasks: 100, activities: 100, local_activities: 100, nexus_tasks: 100 };
        Self {
            namespace: namespace.into(),
            task_queue: task_queue.into(),
            identity: None,
            max_cached_workflows: 0,
            max_cached_bytes: None,
            slots: Slots::Fixed(fixed),
            workflow_pollers: PollerBehavior::SimpleMaximum(5),
            activity_pollers: PollerBehavior::SimpleMaximum(5),
            nexus_pollers: PollerBehavior::SimpleMaximum(5),
            nonsticky_to_sticky_poll_ratio: 0.2,
            task_types: TaskTypes::ALL,
            sticky_queue_schedule_to_start_timeout: Duration::from_secs(10),
            max_heartbeat_throttle_interval: Duration::from_secs(60),
            default_heartbeat_throttle_interval: Duration::from_secs(30),
            max_task_queue_activities_per_second: None,
            max_worker_activities_per_second: None,
            ignore_evicts_on_shutdown: false,
            fetching_concurrency: 5,
            graceful_shutdown_period: None,
            shutdown_limit: Duration::from_secs(300),
            local_timeout_buffer_for_activities: Duration::from_secs(5),
            max_eager_activities: 3,
            nondeterminism_fails_workflow: false,
            nondeterminism_fails_workflow_types: BTreeSet::new(),
            versioning: Versioning::None { build_id: String::new() },
            shards: None,
            sdk: Sdk { name: "outlast".into(), version: env!("CARGO_PKG_VERSION").into() },
            heartbeat_interval: Some(Duration::from_secs(60)),
            payload_limits: true,
            plugins: BTreeMap::new(),
            storage_drivers: BTreeSet::new(),
            environment_told: true,
            skip_client_worker_set_check: false,
        }
    }

    /// What is wrong with these settings, if anything is.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, problem: &str| Err(ConfigError::new(field, problem));
        if self.namespace.is_empty() {
            return wrong("namespace", "must not be empty");
        }
        if self.task_queue.is_empty() {
            return wrong("task_queue", "must not be empty");
        }
        let types = self.task_types;
        if types.local_activities && !types.workflows {
            return wrong("task_types", "local activities are run by workflow workers: turn workflows on");
        }
        if !(types.workflows || types.activities || types.nexus) {
            return wrong("task_types", "at least one of workflows, activities and nexus must be on");
        }
        let divided = matches!(self.workflow_pollers, PollerBehavior::SimpleMaximum(max) if max < 2);
        if types.workflows && self.max_cached_workflows > 0 && divided {
            return wrong(
                "workflow_pollers",
                "must be at least 2 with a cache: one for the normal queue and one for the sticky queue",
            );
        }
        check_polls("workflow_pollers", self.workflow_pollers)?;
        check_polls("activity_pollers", self.activity_pollers)?;
        check_polls("nexus_pollers", self.nexus_pollers)?;
        if !(0.0..=1.0).contains(&self.nonsticky_to_sticky_poll_ratio) {
            return wrong("nonsticky_to_sticky_poll_ratio", "must be between 0 and 1");
        }
        let rate = |rate: Option<f64>| rate.is_none_or(|rate| rate.is_finite() && rate > 0.0);
        if !rate(self.max_worker_activities_per_second) {
            return wrong(
                "max_worker_activities_per_second",
                "must be more than 0; leave it out for no limit",
            );
        }
        if self.fetching_concurrency == 0 {
            return wrong("fetching_concurrency", "must be at least 1, or no long history can be read");
        }
        if self.shards.is_some_and(|shards| !(1..=SHARDS_MAX).contains(&shards)) {
            return wrong("shards", "must be between 1 and 1024");
        }
        if self.shutdown_limit.is_zero() {
            return wrong("shutdown_limit", "must be more than 0, or no answer could be given any more");
        }
        let second = Duration::from_secs(1);
        if self.heartbeat_interval.is_some_and(|d| d < second || d > 60 * second) {
            return wrong("heartbeat_interval", "must be between 1 and 60 seconds");
        }
        self.slots.check(types)?;
        self.versioning.check()
    }

    /// Whether tasks of cached runs come by a queue of this worker's own. With one slot they cannot: the poll of the
    /// normal queue holds it while it waits, and they would wait with it.
    pub(crate) fn has_sticky_queue(&self) -> bool {
        self.task_types.workflows && self.max_cached_workflows > 0 && !self.slots.has_one_for_workflows()
    }

    /// The longest that shutdown takes.
    pub(crate) fn shutdown_longest(&self) -> Duration {
        self.graceful_shutdown_period.unwrap_or_default().saturating_add(self.shutdown_limit)
    }
}

impl Slots {
    /// The supplier of one kind.
    pub(crate) fn supplier(&self, kind: SlotKind) -> Arc<dyn SlotSupplier> {
        match (self, kind) {
            (Slots::Fixed(fixed), kind) => Arc::new(slots::FixedSlots::new(fixed.of(kind))),
            (Slots::Tuner(tuner), SlotKind::Workflow) => tuner.workflow_tasks.clone(),
            (Slots::Tuner(tuner), SlotKind::Activity) => tuner.activities.clone(),
            (Slots::Tuner(tuner), SlotKind::LocalActivity) => tuner.local_activities.clone(),
            (Slots::Tuner(tuner), SlotKind::Nexus) => tuner.nexus_tasks.clone(),
        }
    }

    /// Whether one workflow task at a time is all there can be.
    fn has_one_for_workflows(&self) -> bool {
        match self {
            Slots::Fixed(fixed) => fixed.workflow_tasks == 1,
            Slots::Tuner(tuner) => tuner.workflow_tasks.most() == Some(1),
        }
    }

    fn check(&self, types: TaskTypes) -> Result<(), ConfigError> {
        let fixed = match self {
            Slots::Fixed(fixed) => fixed,
            Slots::Tuner(_) => return Ok(()),
        };
        let none = |on: bool, slots: usize| on && slots == 0;
        let field = match fixed {
            _ if none(types.workflows, fixed.workflow_tasks) => "slots.workflow_tasks",
            _ if none(types.activities, fixed.activities) => "slots.activities",
            _ if none(types.local_activities, fixed.local_activities) => "slots.local_activities",
            _ if none(types.nexus, fixed.nexus_tasks) => "slots.nexus_tasks",
            _ => return Ok(()),
        };
        Err(ConfigError::new(field, "must be at least 1; to take no such tasks, turn them off in task_types"))
    }
}

impl FixedSlots {
    fn of(&self, kind: SlotKind) -> usize {
        match kind {
            SlotKind::Workflow => self.workflow_tasks,
            SlotKind::Activity => self.activities,
            SlotKind::LocalActivity => self.local_activities,
            SlotKind::Nexus => self.nexus_tasks,
        }
    }
}

fn check_polls(field: &'static str, behavior: PollerBehavior) -> Result<(), ConfigError> {
    match behavior {
        PollerBehavior::SimpleMaximum(0) => Err(ConfigError::new(field, "must be at least 1")),
        PollerBehavior::SimpleMaximum(_) => Ok(()),
        PollerBehavior::Autoscaling { min, max, initial } if min == 0 || initial < min || max < initial => {
            Err(ConfigError::new(field, "must have 1 <= min <= initial <= max"))
        }
        PollerBehavior::Autoscaling { .. } => Ok(()),
    }
}

impl Versioning {
    /// The build id, empty if there is none.
    pub fn build_id(&self) -> &str {
        match self {
            Versioning::None { build_id }
            | Versioning::Deployment { build_id, .. }
            | Versioning::LegacyBuildId { build_id } => build_id,
        }
    }

    /// Deployment and build; empty where there is none.
    pub(crate) fn names(&self) -> (&str, &str) {
        match self {
            Versioning::Deployment { deployment_name, build_id, .. } => (deployment_name, build_id),
            Versioning::None { build_id } | Versioning::LegacyBuildId { build_id } => ("", build_id),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self {
            Versioning::None { .. } => Ok(()),
            Versioning::LegacyBuildId { build_id } if build_id.is_empty() => {
                Err(ConfigError::new("versioning.build_id", "must not be empty"))
            }
            Versioning::LegacyBuildId { .. } => Ok(()),
            Versioning::Deployment { deployment_name, build_id, use_worker_versioning: true, .. }
                if deployment_name.is_empty() || build_id.is_empty() =>
            {
                Err(ConfigError::new("versioning", "deployment_name and build_id must not be empty"))
            }
            Versioning::Deployment { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_one_slot_for_workflow_tasks_there_is_no_sticky_queue() {
        let mut config = WorkerConfig::new("default", "queue");
        let fixed = FixedSlots { workflow_tasks: 1, activities: 1, local_activities: 1, nexus_tasks: 1 };
        config.slots = Slots::Fixed(fixed);
        config.max_cached_workflows = 10;
        assert_eq!((config.check(), config.has_sticky_queue()), (Ok(()), false));
        config.slots = Slots::Fixed(FixedSlots { workflow_tasks: 2, ..fixed });
        assert!(config.has_sticky_queue());
        config.max_cached_workflows = 0;
        assert!(!config.has_sticky_queue());
    }
}
