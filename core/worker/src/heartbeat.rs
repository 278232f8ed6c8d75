//! What a worker tells the server of itself from time to time: how busy it is, what it has done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outlast_machine::time::Time;
use outlast_proto::temporal::api::deployment::v1::WorkerDeploymentVersion;
use outlast_proto::temporal::api::enums::v1::WorkerStatus;
use outlast_proto::temporal::api::worker::v1::{
    PluginInfo, StorageDriverInfo, WorkerHeartbeat, WorkerHostInfo, WorkerPollerInfo, WorkerSlotsInfo,
};

use crate::clock::Clock;
use crate::config::{Versioning, WorkerConfig};
use crate::counts::{Counts, Polls, Tasks};
use crate::permits::Permits;
use crate::pollers::PollerBehavior;
use crate::slots::host::HostSampler;
use crate::worker::Shared;

/// Sends heartbeats as long as the worker lives, if the namespace wants them.
pub(crate) async fn beat(shared: Arc<Shared>, every: Duration) {
    let _ = HostSampler::shared().usage(); // what the first heartbeat's use of the CPU is counted from
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if shared.namespace().heartbeats {
            shared.send_heartbeat().await;
        }
    }
}

/// What heartbeats are made of.
pub(crate) struct Vitals {
    pub(crate) clock: Clock,
    pub(crate) counts: Arc<Counts>,
    pub(crate) workflow_tasks: Permits,
    pub(crate) activities: Permits,
    pub(crate) local_activities: Permits,
    pub(crate) nexus_tasks: Permits,
    pub(crate) start: Time,
    last: std::sync::Mutex<Last>,
}

/// What the last heartbeat said.
#[derive(Clone, Copy, Default)]
struct Last {
    at: Option<Time>,
    workflow_tasks: (i32, i32),
    activities: (i32, i32),
    local_activities: (i32, i32),
    nexus_tasks: (i32, i32),
}

impl Vitals {
    pub(crate) fn new(clock: Clock, counts: Arc<Counts>, permits: [Permits; 4]) -> Self {
        let [workflow_tasks, activities, local_activities, nexus_tasks] = permits;
        let (start, last) = (clock.now(), std::sync::Mutex::default());
        Self { clock, counts, workflow_tasks, activities, local_activities, nexus_tasks, start, last }
    }

    /// How it goes now.
    pub(crate) fn heartbeat(
        &self,
        config: &WorkerConfig,
        identity: &str,
        instance_key: &str,
        group: &str,
        ending: bool,
    ) -> WorkerHeartbeat {
        let now = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = *last;
        let counts = &self.counts;
        *last = Last {
            at: Some(now),
            workflow_tasks: counts.workflow_tasks.so_far(),
            activities: counts.activities.so_far(),
            local_activities: counts.local_activities.so_far(),
            nexus_tasks: counts.nexus_tasks.so_far(),
        };
        let status = if ending { WorkerStatus::ShuttingDown } else { WorkerStatus::Running };
        let types = config.task_types;
        let cached = types.workflows && config.max_cached_workflows > 0;
        let host = HostSampler::shared().usage().unwrap_or_default();
        WorkerHeartbeat {
            worker_instance_key: instance_key.to_owned(),
            worker_identity: identity.to_owned(),
            host_info: Some(WorkerHostInfo {
                process_id: std::process::id().to_string(),
                current_host_cpu_usage: host.cpu as f32,
                current_host_mem_usage: host.memory as f32,
                host_name: outlast_client::host_name(),
                worker_grouping_key: group.to_owned(),
            }),
            task_queue: config.task_queue.clone(),
            deployment_version: deployment(&config.versioning),
            sdk_name: config.sdk.name.clone(),
            sdk_version: config.sdk.version.clone(),
            status: status.into(),
            start_time: Some(self.start.timestamp()),
            heartbeat_time: Some(now.timestamp()),
            elapsed_since_last_heartbeat: before.at.and_then(|at| crate::remote::wire(now.since(at))),
            workflow_task_slots_info: slots(
                types.workflows,
                &self.workflow_tasks,
                &counts.workflow_tasks,
                before.workflow_tasks,
            ),
            activity_task_slots_info: slots(
                types.activities,
                &self.activities,
                &counts.activities,
                before.activities,
            ),
            local_activity_slots_info: slots(
                types.local_activities,
                &self.local_activities,
                &counts.local_activities,
                before.local_activities,
            ),
            nexus_task_slots_info: slots(
                types.nexus,
                &self.nexus_tasks,
                &counts.nexus_tasks,
                before.nexus_tasks,
            ),
            workflow_poller_info: poller(types.workflows, config.workflow_pollers, &counts.workflow_polls),
            workflow_sticky_poller_info: poller(cached, config.workflow_pollers, &counts.sticky_polls),
            activity_poller_info: poller(types.activities, config.activity_pollers, &counts.activity_polls),
            nexus_poller_info: poller(types.nexus, config.nexus_pollers, &counts.nexus_polls),
            total_sticky_cache_hit: counts.sticky_hits.load(Ordering::Relaxed),
            total_sticky_cache_miss: counts.sticky_misses.load(Ordering::Relaxed),
            current_sticky_cache_size: count(counts.cached_runs.load(Ordering::Relaxed)),
            environment: config.environment_told.then(crate::environment::tell),
            plugins: config.plugins.iter().map(plugin).collect(),
            drivers: config
                .storage_drivers
                .iter()
                .map(|kind| StorageDriverInfo { r#type: kind.clone() })
                .collect(),
        }
    }
}

fn plugin((name, version): (&String, &String)) -> PluginInfo {
    PluginInfo { name: name.clone(), version: version.clone() }
}

/// Slots of one kind of tasks. A kind that the worker does not take is told too: nothing is free for it.
fn slots(taken: bool, permits: &Permits, tasks: &Tasks, before: (i32, i32)) -> Option<WorkerSlotsInfo> {
    let slots = permits.slots();
    let (processed, failed) = tasks.so_far();
    let available = slots.available().map_or(-1, count);
    Some(WorkerSlotsInfo {
        current_available_slots: if taken { available } else { 0 },
        current_used_slots: count(slots.counts().used),
        slot_supplier_kind: slots.supplier_name().to_owned(),
        total_processed_tasks: processed,
        total_failed_tasks: failed,
        last_interval_processed_tasks: processed - before.0,
        last_interval_failure_tasks: failed - before.1,
    })
}

/// Pollers of one kind of tasks; of a kind that is not polled, that there are none.
fn poller(polled: bool, behavior: PollerBehavior, polls: &Polls) -> Option<WorkerPollerInfo> {
    if !polled {
        return Some(WorkerPollerInfo::default());
    }
    let is_autoscaling = matches!(behavior, PollerBehavior::Autoscaling { .. });
    let (current_pollers, last) = polls.now();
    let last_successful_poll_time = last.map(Time::timestamp);
    Some(WorkerPollerInfo { current_pollers, last_successful_poll_time, is_autoscaling })
}

/// The version, as far as it is known: without a deployment the build alone.
fn deployment(versioning: &Versioning) -> Option<WorkerDeploymentVersion> {
    let (deployment_name, build_id) = versioning.names();
    let version =
        WorkerDeploymentVersion { deployment_name: deployment_name.into(), build_id: build_id.into() };
    Some(version).filter(|version| *version != WorkerDeploymentVersion::default())
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
