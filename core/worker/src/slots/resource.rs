//! Slots by resources: as many as memory and CPU allow, between a minimum and a maximum.
//!
//! [`decide`] is pure and says yes, or what to wait for. The supplier around it keeps counts and waits.

use super::SlotKind;
use super::host::{HostSampler, HostUsage, SAMPLE_PERIOD};
use super::pid::{Pid, PidGains};
use super::supplier::{Boxed, SlotSupplier, SlotUse, Ticket, Wanted};
use crate::config::LONGEST;
use crate::telemetry::{Gauge, Metrics, names};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How full the machine may get, and how the controllers steer there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResourceTargets {
    /// Fractions, 0.0 to 1.0.
    pub memory: f64,
    pub cpu: f64,
    pub memory_gains: PidGains,
    pub cpu_gains: PidGains,
    /// A slot is given only while the controller's output is above this.
    pub memory_threshold: f64,
    pub cpu_threshold: f64,
}

impl ResourceTargets {
    pub fn new(memory: f64, cpu: f64) -> Self {
        let gains = PidGains { proportional: 5.0, integral: 0.0, derivative: 1.0, limit: 100.0 };
        ResourceTargets {
            memory,
            cpu,
            memory_gains: gains,
            cpu_gains: gains,
            memory_threshold: 0.25,
            cpu_threshold: 0.05,
        }
    }
}

/// Bounds of one kind of slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceOptions {
    /// Given whatever the load, even where it is more than the maximum.
    pub slots_min: usize,
    pub slots_max: usize,
    /// Time between two slots beyond the minimum, so that a task's load shows before the next begins.
    pub ramp: Duration,
}

impl ResourceOptions {
    pub fn of(kind: SlotKind) -> Self {
        let (slots_min, ramp) = match kind {
            SlotKind::Workflow => (2, 0),
            SlotKind::Activity | SlotKind::LocalActivity => (1, 50),
            SlotKind::Nexus => (1, 0),
        };
        ResourceOptions { slots_min, slots_max: 10_000, ramp: Duration::from_millis(ramp) }
    }
}

/// The controllers, shared by the suppliers of all kinds.
pub struct ResourceController {
    targets: ResourceTargets,
    sampler: Arc<HostSampler>,
    gauges: [Gauge; 4],
    steering: Mutex<Steering>,
}

struct Steering {
    memory: Pid,
    cpu: Pid,
    sample_number: u64,
    room: bool,
}

impl ResourceController {
    pub fn new(targets: ResourceTargets, sampler: Arc<HostSampler>, metrics: &Metrics) -> Arc<Self> {
        let steering = Steering {
            memory: Pid::new(targets.memory_gains),
            cpu: Pid::new(targets.cpu_gains),
            sample_number: 0,
            room: false,
        };
        let names = [
            names::RESOURCE_MEMORY,
            names::RESOURCE_CPU,
            names::RESOURCE_MEMORY_OUTPUT,
            names::RESOURCE_CPU_OUTPUT,
        ];
        let gauges = names.map(|name| metrics.gauge(name));
        Arc::new(ResourceController { targets, sampler, gauges, steering: Mutex::new(steering) })
    }

    /// Whether the machine has room for more; the controllers advance once for each new sample.
    pub fn has_room(&self, now: Instant) -> bool {
        let sample = self.sampler.sample(now);
        let mut steering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.number > steering.sample_number {
            steering.sample_number = sample.number;
            // A machine that cannot be read gets no more than the minimum.
            steering.room = sample.usage.is_some_and(|usage| self.steer(&mut steering, usage));
        }
        steering.room
    }

    fn steer(&self, steering: &mut Steering, usage: HostUsage) -> bool {
        let memory = steering.memory.next(self.targets.memory, usage.memory);
        let cpu = steering.cpu.next(self.targets.cpu, usage.cpu);
        let shown = [usage.memory * 100.0, usage.cpu * 100.0, memory, cpu];
        self.gauges.iter().zip(shown).for_each(|(gauge, value)| gauge.set_float(value));
        memory > self.targets.memory_threshold && cpu > self.targets.cpu_threshold
    }
}

impl fmt::Debug for ResourceController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceController({:?})", self.targets)
    }
}

/// Slots of one kind by resources.
#[derive(Debug)]
pub struct ResourceSlots {
    options: ResourceOptions,
    controller: Arc<ResourceController>,
    state: Mutex<Out>,
    released: Notify,
    /// Those who wait for the same queue decide one after the other, in the order they came.
    turns: [tokio::sync::Mutex<()>; 2],
}

/// What is out, and who waits. Indexed by `is_sticky`; only workflow slots ever are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Out {
    given: [usize; 2],
    waiting: [usize; 2],
    last: Option<Instant>,
}

/// What to do about one who wants a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Give,
    /// Ask again when a slot comes back.
    AfterRelease,
    /// Ask again then, or when a slot comes back.
    At(Instant),
}

/// The whole policy. `room` is asked last and only if it matters, for it may read files.
fn decide(
    options: &ResourceOptions,
    out: &Out,
    wanted: &Wanted,
    now: Instant,
    room: impl FnOnce() -> bool,
) -> Decision {
    let (own, other) = (usize::from(wanted.is_sticky), usize::from(!wanted.is_sticky));
    let total = out.given[0] + out.given[1];
    let free = options.slots_max.saturating_sub(total);
    // The last slot is for the queue that has none, if it asks: neither queue may starve the other.
    let last_is_theirs = free == 1 && out.given[own] > 0 && out.given[other] == 0 && out.waiting[other] > 0;
    if free == 0 || last_is_theirs {
        return Decision::AfterRelease;
    }
    let first_of_queue = wanted.kind == SlotKind::Workflow && out.given[own] == 0;
    if total < options.slots_min || first_of_queue {
        return Decision::Give;
    }
    match out.last.map(|last| last + options.ramp) {
        Some(next) if next > now => Decision::At(next),
        _ if room() => Decision::Give,
        _ => Decision::At(now + SAMPLE_PERIOD),
    }
}

impl ResourceSlots {
    pub fn new(options: ResourceOptions, controller: Arc<ResourceController>) -> Self {
        let slots_max = options.slots_max.max(options.slots_min);
        ResourceSlots {
            options: ResourceOptions { slots_max, ramp: options.ramp.min(LONGEST), ..options },
            controller,
            state: Mutex::default(),
            released: Notify::new(),
            turns: Default::default(),
        }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, wanted: &Wanted) -> Decision {
        let now = Instant::now();
        let mut out = self.out();
        let decision = decide(&self.options, &out, wanted, now, || self.controller.has_room(now));
        if decision == Decision::Give {
            out.given[usize::from(wanted.is_sticky)] += 1;
            out.last = Some(now);
        }
        decision
    }

    async fn wait(&self, wanted: &Wanted) -> Ticket {
        let _waiting = Waiting::new(self, wanted.is_sticky);
        let _turn = self.turns[usize::from(wanted.is_sticky)].lock().await;
        loop {
            // Made before asking: a release between the answer and the wait still wakes.
            let released = self.released.notified();
            match self.ask(wanted) {
                Decision::Give => return Ticket::plain(),
                Decision::AfterRelease => released.await,
                Decision::At(then) => tokio::select! {
                    () = released => {}
                    () = tokio::time::sleep_until(then) => {}
                },
            }
        }
    }
}

/// Counts one who waits, for as long as it does.
struct Waiting<'a> {
    slots: &'a ResourceSlots,
    sticky: usize,
}

impl<'a> Waiting<'a> {
    fn new(slots: &'a ResourceSlots, is_sticky: bool) -> Self {
        let sticky = usize::from(is_sticky);
        slots.out().waiting[sticky] += 1;
        Waiting { slots, sticky }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slots.out().waiting[self.sticky] -= 1;
        // Others may have stood back for this one.
        self.slots.released.notify_waiters();
    }
}

impl SlotSupplier for ResourceSlots {
    fn name(&self) -> &str {
        "ResourceBased"
    }

    fn reserve<'a>(&'a self, wanted: &'a Wanted) -> Boxed<'a, Ticket> {
        Box::pin(self.wait(wanted))
    }

    fn try_reserve(&self, wanted: &Wanted) -> Option<Ticket> {
        (self.ask(wanted) == Decision::Give).then(Ticket::plain)
    }

    fn release(&self, _: Ticket, wanted: &Wanted, _: Option<&SlotUse>) {
        self.out().given[usize::from(wanted.is_sticky)] -= 1;
        self.released.notify_waiters();
    }

    fn most(&self) -> Option<usize> {
        Some(self.options.slots_max)
    }
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
