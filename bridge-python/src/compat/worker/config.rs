//! `WorkerConfig` of the package, field by field, and the core's settings that it means.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use outlast_core::{ConfigError, PollerBehavior as CorePollers, Sdk, TaskTypes, Versioning};
use pyo3::prelude::*;

use super::slots::Home;
use super::tuner::TunerHolder;
use crate::error::Failure;
use crate::runtime::Shared;

#[derive(FromPyObject)]
pub struct WorkerConfig {
    namespace: String,
    task_queue: String,
    versioning_strategy: WorkerVersioningStrategy,
    identity_override: Option<String>,
    max_cached_workflows: usize,
    tuner: TunerHolder,
    workflow_task_poller_behavior: PollerBehavior,
    nonsticky_to_sticky_poll_ratio: f32,
    activity_task_poller_behavior: PollerBehavior,
    task_types: WorkerTaskTypes,
    sticky_queue_schedule_to_start_timeout_millis: u64,
    max_heartbeat_throttle_interval_millis: u64,
    default_heartbeat_throttle_interval_millis: u64,
    max_activities_per_second: Option<f64>,
    max_task_queue_activities_per_second: Option<f64>,
    max_eager_activity_reservations_per_workflow_task: usize,
    graceful_shutdown_period_millis: u64,
    nondeterminism_as_workflow_fail: bool,
    nondeterminism_as_workflow_fail_for_types: HashSet<String>,
    nexus_task_poller_behavior: PollerBehavior,
    plugins: Vec<String>,
    storage_drivers: HashSet<String>,
    disable_payload_error_limit: bool,
}

#[derive(FromPyObject)]
enum PollerBehavior {
    SimpleMaximum(PollerBehaviorSimpleMaximum),
    Autoscaling(PollerBehaviorAutoscaling),
}

#[derive(FromPyObject)]
struct PollerBehaviorSimpleMaximum {
    simple_maximum: usize,
}

#[derive(FromPyObject)]
struct PollerBehaviorAutoscaling {
    minimum: usize,
    maximum: usize,
    initial: usize,
}

#[derive(FromPyObject)]
struct WorkerTaskTypes {
    enable_workflows: bool,
    enable_local_activities: bool,
    enable_remote_activities: bool,
    enable_nexus: bool,
}

#[derive(FromPyObject)]
enum WorkerVersioningStrategy {
    None(WorkerVersioningNone),
    DeploymentBased(WorkerDeploymentOptions),
    LegacyBuildIdBased(WorkerVersioningLegacy),
}

#[derive(FromPyObject)]
struct WorkerVersioningNone {
    build_id_no_versioning: String,
}

#[derive(FromPyObject)]
struct WorkerDeploymentOptions {
    version: WorkerDeploymentVersion,
    use_worker_versioning: bool,
    default_versioning_behavior: i32,
}

#[derive(FromPyObject)]
struct WorkerDeploymentVersion {
    deployment_name: String,
    build_id: String,
}

#[derive(FromPyObject)]
struct WorkerVersioningLegacy {
    build_id_with_versioning: String,
}

impl PollerBehavior {
    fn into_core(self) -> CorePollers {
        match self {
            Self::SimpleMaximum(it) => CorePollers::SimpleMaximum(it.simple_maximum),
            Self::Autoscaling(it) => {
                CorePollers::Autoscaling { min: it.minimum, max: it.maximum, initial: it.initial }
            }
        }
    }
}

impl WorkerVersioningStrategy {
    fn into_core(self) -> Versioning {
        match self {
            Self::None(it) => Versioning::None { build_id: it.build_id_no_versioning },
            Self::DeploymentBased(it) => Versioning::Deployment {
                deployment_name: it.version.deployment_name,
                build_id: it.version.build_id,
                use_worker_versioning: it.use_worker_versioning,
                default_behavior: if it.use_worker_versioning { it.default_versioning_behavior } else { 0 },
            },
            Self::LegacyBuildIdBased(it) => {
                Versioning::LegacyBuildId { build_id: it.build_id_with_versioning }
            }
        }
    }
}

impl WorkerConfig {
    pub fn into_core(
        self,
        py: Python<'_>,
        runtime: &Shared,
        sdk: Sdk,
        home: &Home,
    ) -> Result<outlast_core::WorkerConfig, Failure> {
        for pollers in [
            &self.workflow_task_poller_behavior,
            &self.activity_task_poller_behavior,
            &self.nexus_task_poller_behavior,
        ] {
            pollers.check()?;
        }
        let mut config = outlast_core::WorkerConfig::new(self.namespace, self.task_queue);
        let millis = Duration::from_millis;
        config.sdk = sdk;
        config.versioning = self.versioning_strategy.into_core();
        config.identity = self.identity_override;
        config.max_cached_workflows = self.max_cached_workflows;
        config.slots = self.tuner.into_core(py, runtime, home)?;
        config.workflow_pollers = self.workflow_task_poller_behavior.into_core();
        config.activity_pollers = self.activity_task_poller_behavior.into_core();
        config.nexus_pollers = self.nexus_task_poller_behavior.into_core();
        config.nonsticky_to_sticky_poll_ratio = share(self.nonsticky_to_sticky_poll_ratio);
        config.task_types = TaskTypes {
            workflows: self.task_types.enable_workflows,
            local_activities: self.task_types.enable_local_activities,
            activities: self.task_types.enable_remote_activities,
            nexus: self.task_types.enable_nexus,
        };
        config.sticky_queue_schedule_to_start_timeout =
            millis(self.sticky_queue_schedule_to_start_timeout_millis);
        config.max_heartbeat_throttle_interval = millis(self.max_heartbeat_throttle_interval_millis);
        config.default_heartbeat_throttle_interval = millis(self.default_heartbeat_throttle_interval_millis);
        config.max_worker_activities_per_second = self.max_activities_per_second;
        if let Some(rate) = self.max_task_queue_activities_per_second
            && !(rate.is_finite() && rate >= 0.0)
        {
            tracing::warn!(
                rate,
                "max_task_queue_activities_per_second is no rate; the server says what it means"
            );
        }
        config.max_task_queue_activities_per_second = self.max_task_queue_activities_per_second;
        config.max_eager_activities = self.max_eager_activity_reservations_per_workflow_task;
        // Python waits for its activities however long they take, and then for us: what they give must still be told.
        config.shutdown_limit = Duration::from_secs(10 * 365 * 24 * 3600);
        config.graceful_shutdown_period = Some(millis(self.graceful_shutdown_period_millis));
        config.nondeterminism_fails_workflow = self.nondeterminism_as_workflow_fail;
        config.nondeterminism_fails_workflow_types =
            self.nondeterminism_as_workflow_fail_for_types.into_iter().collect();
        config.plugins =
            self.plugins.into_iter().map(|name| (name, String::new())).collect::<BTreeMap<_, _>>();
        config.storage_drivers = self.storage_drivers.into_iter().collect();
        config.heartbeat_interval = runtime.heartbeat_interval;
        config.environment_told = runtime.environment_told;
        config.payload_limits = !self.disable_payload_error_limit;
        Ok(config)
    }
}

/// The reference takes any number as the share of polls of the normal queue, where each queue has at least one.
fn share(given: f32) -> f32 {
    let share = match given {
        more if more > 1.0 => 1.0,
        share if share >= 0.0 => share,
        // Less than none, or no number.
        _ => 0.0,
    };
    if share != given {
        tracing::warn!(given, taken = share, "nonsticky_to_sticky_poll_ratio should be between 0 and 1");
    }
    share
}

/// The core's refusal in the words of the reference.
pub fn failure(error: ConfigError) -> Failure {
    let refused = |text: &str| Failure::Value(format!("Invalid worker config: {text}"));
    match (error.field, error.problem.as_str()) {
        ("namespace", _) => not_created("Worker namespace cannot be empty"),
        ("task_types", problem) if problem.contains("local") => {
            refused("`task_types` cannot enable local activities without workflows")
        }
        ("task_types", _) => refused("At least one task type must be enabled in `task_types`"),
        ("workflow_pollers", problem) if problem.contains("with a cache") => {
            refused("`max_cached_workflows` > 0 requires `workflow_task_poller_behavior` to be at least 2")
        }
        ("max_worker_activities_per_second", _) => {
            refused("`max_worker_activities_per_second` must be positive and nonzero")
        }
        ("versioning.build_id", _) => {
            refused("Legacy build id-based versioning must have a non-empty build_id")
        }
        ("versioning", _) => refused(
            "WorkerDeploymentVersion must have a non-empty build_id and deployment_name when deployment-based \
             versioning is enabled",
        ),
        (_, _) => refused(&error.to_string()),
    }
}

/// The refusal of a second worker of the same tasks.
pub fn duplicate(error: ConfigError) -> Failure {
    not_created(&overlap(&error))
}

pub fn overlap(error: &ConfigError) -> String {
    format!(
        "Registration of multiple workers with overlapping worker task types on the same namespace, task queue, and \
         deployment build ID not allowed: {}",
        error.problem
    )
}

fn not_created(cause: &str) -> Failure {
    Failure::Runtime(format!("Failed creating worker\n\nCaused by:\n    {cause}"))
}

impl PollerBehavior {
    /// In this order, before anything else is looked at.
    fn check(&self) -> Result<(), Failure> {
        let refused = |text: &str| Err(Failure::Value(format!("Invalid worker config: {text}")));
        match self {
            Self::SimpleMaximum(it) if it.simple_maximum == 0 => {
                refused("SimpleMaximum poller behavior must be at least 1")
            }
            Self::Autoscaling(it) if it.minimum == 0 => {
                refused("Autoscaling minimum poller behavior must be at least 1")
            }
            Self::Autoscaling(it) if it.maximum < it.minimum => {
                refused("Autoscaling maximum must be greater than or equal to minimum")
            }
            Self::Autoscaling(it) if it.initial < it.minimum || it.initial > it.maximum => {
                refused("Autoscaling initial must be between minimum and maximum")
            }
            Self::SimpleMaximum(_) | Self::Autoscaling(_) => Ok(()),
        }
    }
}
