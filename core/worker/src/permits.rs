//! Slots as the loops ask for them: what is wanted is said once, a permit is given back by dropping it.

use crate::config::WorkerConfig;
use crate::slots::{Closed, SlotKind, Slots, SlotsOptions, Wanted};
use crate::telemetry::{SlotGauges, WorkerMetrics};

pub(crate) use crate::slots::Permit;

/// The dealer of one kind of slot, and what to ask it for.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    slots: Slots,
    wanted: Wanted,
}

impl Permits {
    pub(crate) fn new(
        kind: SlotKind,
        config: &WorkerConfig,
        identity: &str,
        metrics: &WorkerMetrics,
    ) -> Self {
        let cap = match kind {
            SlotKind::Workflow => SlotsOptions::for_cache(config.max_cached_workflows),
            SlotKind::Activity | SlotKind::LocalActivity | SlotKind::Nexus => None,
        };
        let types = config.task_types;
        let used = match kind {
            SlotKind::Workflow => types.workflows,
            SlotKind::Activity => types.activities,
            SlotKind::LocalActivity => types.local_activities,
            SlotKind::Nexus => types.nexus,
        };
        // Slots for tasks that never come would only confuse who reads the gauges.
        let gauges = if used { metrics.slots(kind) } else { SlotGauges::none() };
        let options = SlotsOptions { permits_max: cap, gauges };
        let slots = Slots::new(config.slots.supplier(kind), options);
        let (deployment, build_id) = config.versioning.names();
        let wanted = Wanted {
            worker_identity: identity.into(),
            worker_build_id: build_id.into(),
            worker_deployment: deployment.into(),
            ..Wanted::new(kind, config.task_queue.as_str())
        };
        Self { slots, wanted }
    }

    /// The same for polls of the sticky queue.
    pub(crate) fn sticky(&self) -> Self {
        Self { slots: self.slots.clone(), wanted: Wanted { is_sticky: true, ..self.wanted.clone() } }
    }

    pub(crate) async fn reserve(&self) -> Result<Permit, Closed> {
        self.slots.reserve(self.wanted.clone()).await
    }

    pub(crate) fn try_reserve(&self) -> Option<Permit> {
        self.slots.try_reserve(self.wanted.clone())
    }

    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }
}
