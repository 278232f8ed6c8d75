//! `TunerHolder`: who supplies the slots of each kind.

use std::sync::Arc;
use std::time::Duration;

use outlast_core::slots::host::HostSampler;
use outlast_core::slots::{
    FixedSlots, ResourceController, ResourceOptions, ResourceSlots, ResourceTargets,
    SlotSupplier as CoreSupplier,
};
use outlast_core::{Slots, Tuner};
use pyo3::prelude::*;

use super::slots::{CustomSlotSupplier, Home, PythonSlots};
use crate::error::Failure;
use crate::runtime::Shared;

#[derive(FromPyObject)]
pub struct TunerHolder {
    workflow_slot_supplier: SlotSupplier,
    activity_slot_supplier: SlotSupplier,
    local_activity_slot_supplier: SlotSupplier,
    nexus_slot_supplier: SlotSupplier,
}

#[derive(FromPyObject)]
enum SlotSupplier {
    FixedSize(FixedSizeSlotSupplier),
    ResourceBased(ResourceBasedSlotSupplier),
    Custom(Py<CustomSlotSupplier>),
}

#[derive(FromPyObject)]
struct FixedSizeSlotSupplier {
    num_slots: usize,
}

#[derive(FromPyObject)]
struct ResourceBasedSlotSupplier {
    minimum_slots: usize,
    maximum_slots: usize,
    ramp_throttle_ms: u64,
    tuner_config: ResourceBasedTunerConfig,
}

#[derive(FromPyObject, PartialEq, Clone, Copy)]
struct ResourceBasedTunerConfig {
    target_memory_usage: f64,
    target_cpu_usage: f64,
}

impl TunerHolder {
    pub fn into_core(self, py: Python<'_>, runtime: &Shared, home: &Home) -> Result<Slots, Failure> {
        let mut making = Making { py, runtime, home, controller: None };
        Ok(Slots::Tuner(Tuner {
            workflow_tasks: making.supplier(self.workflow_slot_supplier)?,
            activities: making.supplier(self.activity_slot_supplier)?,
            local_activities: making.supplier(self.local_activity_slot_supplier)?,
            nexus_tasks: making.supplier(self.nexus_slot_supplier)?,
        }))
    }
}

struct Making<'a> {
    py: Python<'a>,
    runtime: &'a Shared,
    home: &'a Home,
    /// One for all kinds: they share the machine.
    controller: Option<(ResourceBasedTunerConfig, Arc<ResourceController>)>,
}

impl Making<'_> {
    fn supplier(&mut self, supplier: SlotSupplier) -> Result<Arc<dyn CoreSupplier>, Failure> {
        Ok(match supplier {
            SlotSupplier::FixedSize(it) => Arc::new(FixedSlots::new(it.num_slots)),
            SlotSupplier::Custom(it) => Arc::new(PythonSlots::new(self.py, it.get(), self.home)),
            SlotSupplier::ResourceBased(it) => {
                let options = ResourceOptions {
                    slots_min: it.minimum_slots,
                    slots_max: it.maximum_slots,
                    ramp: Duration::from_millis(it.ramp_throttle_ms),
                };
                Arc::new(ResourceSlots::new(options, self.controller(it.tuner_config)?))
            }
        })
    }

    fn controller(&mut self, config: ResourceBasedTunerConfig) -> Result<Arc<ResourceController>, Failure> {
        if let Some((known, controller)) = &self.controller {
            return match *known == config {
                true => Ok(controller.clone()),
                false => Err(Failure::Value(
                    "All resource-based slot suppliers must have the same ResourceBasedTunerOptions".into(),
                )),
            };
        }
        let targets = ResourceTargets::new(config.target_memory_usage, config.target_cpu_usage);
        let controller = ResourceController::new(targets, HostSampler::shared(), self.runtime.core.metrics());
        self.controller = Some((config, controller.clone()));
        Ok(controller)
    }
}
