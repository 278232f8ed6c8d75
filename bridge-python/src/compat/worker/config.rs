//! `WorkerConfig` of the package, field by field, and the core's settings that it means.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use outlast_core::{FixedSlots, PollerBehavior as CorePollers, Slots, TaskTypes, Versioning};
use pyo3::prelude::*;

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
    #[pyo3(default)]
    storage_drivers: HashSet<String>,
    #[pyo3(default)]
    disable_payload_error_limit: bool,
}

#[derive(FromPyObject)]
struct TunerHolder {
    workflow_slot_supplier: SlotSupplier,
    activity_slot_supplier: SlotSupplier,
    local_activity_slot_supplier: SlotSupplier,
    nexus_slot_supplier: SlotSupplier,
}

#[derive(FromPyObject)]
enum SlotSupplier {
    FixedSize(FixedSizeSlotSupplier),
}

#[derive(FromPyObject)]
struct FixedSizeSlotSupplier {
    num_slots: usize,
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

impl TunerHolder {
    fn into_core(self) -> Result<Slots, Failure> {
        let fixed = |it: SlotSupplier| match it {
            SlotSupplier::FixedSize(it) => it.num_slots,
        };
        Ok(Slots::Fixed(FixedSlots {
            workflow_tasks: fixed(self.workflow_slot_supplier),
            activities: fixed(self.activity_slot_supplier),
            local_activities: fixed(self.local_activity_slot_supplier),
            nexus_tasks: fixed(self.nexus_slot_supplier),
        }))
    }
}

impl WorkerConfig {
    pub fn into_core(self, _runtime: &Shared) -> Result<outlast_core::WorkerConfig, Failure> {
        let mut config = outlast_core::WorkerConfig::new(self.namespace, self.task_queue);
        let millis = Duration::from_millis;
        config.versioning = self.versioning_strategy.into_core();
        config.identity = self.identity_override;
        config.max_cached_workflows = self.max_cached_workflows;
        config.slots = self.tuner.into_core()?;
        config.workflow_pollers = self.workflow_task_poller_behavior.into_core();
        config.activity_pollers = self.activity_task_poller_behavior.into_core();
        config.nexus_pollers = self.nexus_task_poller_behavior.into_core();
        config.nonsticky_to_sticky_poll_ratio = self.nonsticky_to_sticky_poll_ratio;
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
        config.max_task_queue_activities_per_second = self.max_task_queue_activities_per_second;
        config.max_eager_activities = self.max_eager_activity_reservations_per_workflow_task;
        config.graceful_shutdown_period = Some(millis(self.graceful_shutdown_period_millis));
        config.nondeterminism_fails_workflow = self.nondeterminism_as_workflow_fail;
        config.nondeterminism_fails_workflow_types =
            self.nondeterminism_as_workflow_fail_for_types.into_iter().collect();
        config.plugins =
            self.plugins.into_iter().map(|name| (name, String::new())).collect::<BTreeMap<_, _>>();
        config.storage_drivers = self.storage_drivers.into_iter().collect();
        config.payload_limits = !self.disable_payload_error_limit;
        Ok(config)
    }
}
