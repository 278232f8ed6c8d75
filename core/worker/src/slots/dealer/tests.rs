//! Stories of slots: permits are never lost and never given twice.

use super::super::host::{HostReader, HostSampler, Reading};
use super::super::supplier::Boxed;
use super::super::{
    FixedSlots, ResourceController, ResourceOptions, ResourceSlots, ResourceTargets, SlotKind,
};
use super::*;
use crate::telemetry::Metrics;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn wanted() -> Wanted {
    Wanted::new(SlotKind::Activity, "q")
}

fn activity(name: &str) -> SlotUse {
    SlotUse::Activity { activity_type: name.into() }
}

fn fixed(count: usize) -> Slots {
    Slots::new(Arc::new(FixedSlots::new(count)), SlotsOptions::default())
}

/// Says what it was told, in order, with the number it attached to each ticket.
#[derive(Default)]
struct Witness {
    heard: Mutex<Vec<String>>,
}

impl Witness {
    fn heard(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl SlotSupplier for Witness {
    fn name(&self) -> &str {
        "Witness"
    }

    fn reserve<'a>(&'a self, wanted: &'a Wanted) -> Boxed<'a, Ticket> {
        Box::pin(async { self.try_reserve(wanted).expect("always") })
    }

    fn try_reserve(&self, wanted: &Wanted) -> Option<Ticket> {
        self.heard(format!("reserve {}", wanted.task_queue));
        Some(Ticket::with(7u32))
    }

    fn mark_used(&self, ticket: &Ticket, used: &SlotUse) {
        self.heard(format!("{:?} used by {used:?}", ticket.value::<u32>()));
    }

    fn release(&self, ticket: Ticket, _: &Wanted, used: Option<&SlotUse>) {
        self.heard(format!("{:?} released, used: {}", ticket.value::<u32>(), used.is_some()));
    }
}

#[tokio::test]
async fn a_users_supplier_hears_of_each_step_once() {
    let witness = Arc::new(Witness::default());
    let slots = Slots::new(witness.clone(), SlotsOptions::default());
    let mut permit = slots.reserve(wanted()).await.unwrap();
    permit.mark_used(activity("a"));
    permit.mark_used(activity("b"));
    drop(permit);
    drop(slots.try_reserve(wanted()));
    let expected = [
        "reserve q",
        "Some(7) used by Activity { activity_type: \"a\" }",
        "Some(7) released, used: true",
        "reserve q",
        "Some(7) released, used: false",
    ];
    assert_eq!(*witness.heard.lock().unwrap(), expected);
}

#[tokio::test]
async fn counts_tell_reserved_from_used() {
    let slots = fixed(3);
    let mut permit = slots.reserve(wanted()).await.unwrap();
    let other = slots.reserve(wanted()).await.unwrap();
    permit.mark_used(activity("a"));
    assert_eq!(slots.counts(), SlotsCounts { held: 2, used: 1, used_ever: 1, closed: false });
    assert_eq!(slots.available(), Some(2), "one unreserved, one reserved by a poll");
    drop((permit, other));
    assert_eq!(slots.counts(), SlotsCounts { used_ever: 1, ..SlotsCounts::default() });
    assert_eq!(slots.available(), Some(3));
}

#[tokio::test]
async fn the_cap_holds_whatever_the_supplier_says() {
    assert_eq!(SlotsOptions::for_cache(0), None);
    assert_eq!(SlotsOptions::for_cache(1), Some(2));
    assert_eq!(SlotsOptions::for_cache(5), Some(5));
    let options = SlotsOptions { permits_max: SlotsOptions::for_cache(1), ..SlotsOptions::default() };
    let slots = Slots::new(Arc::new(FixedSlots::new(100)), options);
    let permits = (slots.try_reserve(wanted()), slots.try_reserve(wanted()));
    assert!(permits.0.is_some() && permits.1.is_some());
    assert_eq!(slots.available(), Some(100), "what is shown is what was configured");
    assert!(slots.try_reserve(wanted()).is_none());
    drop(permits);
    assert!(slots.try_reserve(wanted()).is_some());
}

#[tokio::test]
async fn closing_refuses_those_who_wait_and_waits_for_those_who_hold() {
    let slots = fixed(1);
    let permit = slots.reserve(wanted()).await.unwrap();
    let waiter = tokio::spawn({
        let slots = slots.clone();
        async move { slots.reserve(wanted()).await.map(drop) }
    });
    let drained = tokio::spawn({
        let slots = slots.clone();
        async move { slots.all_returned().await }
    });
    tokio::task::yield_now().await;
    slots.close();
    assert_eq!(waiter.await.unwrap(), Err(Closed));
    assert!(!drained.is_finished());
    drop(permit);
    drained.await.unwrap();
    assert!(slots.reserve(wanted()).await.is_err());
    assert!(slots.try_reserve(wanted()).is_none());
}

/// Closes the dealer at the moment it gives a slot: what two threads could do at once.
#[derive(Default)]
struct Closing {
    slots: std::sync::OnceLock<Slots>,
    given: AtomicUsize,
}

impl SlotSupplier for Closing {
    fn name(&self) -> &str {
        "Closing"
    }

    fn reserve<'a>(&'a self, wanted: &'a Wanted) -> Boxed<'a, Ticket> {
        Box::pin(async { self.try_reserve(wanted).expect("always") })
    }

    fn try_reserve(&self, _: &Wanted) -> Option<Ticket> {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.slots.get().expect("set before use").close();
        Some(Ticket::plain())
    }

    fn release(&self, _: Ticket, _: &Wanted, _: Option<&SlotUse>) {
        self.given.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_slot_given_while_it_closes_goes_back() {
    for waits in [true, false] {
        let supplier = Arc::new(Closing::default());
        let slots = Slots::new(supplier.clone(), SlotsOptions::default());
        supplier.slots.set(slots.clone()).unwrap();
        let refused = if waits {
            slots.reserve(wanted()).await.is_err()
        } else {
            slots.try_reserve(wanted()).is_none()
        };
        assert!(refused);
        assert_eq!((supplier.given.load(Ordering::Relaxed), slots.counts().held), (0, 0));
        slots.all_returned().await;
    }
}

/// A machine with room.
struct Roomy;

impl HostReader for Roomy {
    fn read(&mut self, _: Duration) -> Option<Reading> {
        Some(Reading { memory_used: 0, memory_limit: 100, cpu_used: 0.0, cpu_limit: 0.0 })
    }
}

fn resource(max: usize) -> Arc<dyn SlotSupplier> {
    let targets = ResourceTargets::new(0.8, 0.8);
    let controller = ResourceController::new(targets, HostSampler::new(Roomy), &Metrics::none());
    let options = ResourceOptions { slots_max: max, ..ResourceOptions::of(SlotKind::Workflow) };
    Arc::new(ResourceSlots::new(options, controller))
}

/// Many tasks reserve, give up at random moments, use, hold and release, in an order each seed decides. Whatever the order:
/// never more permits than slots, nobody waits forever, and at the end every slot is back.
async fn interleave(seed: u64, supplier: Arc<dyn SlotSupplier>, count: usize, cap: Option<usize>) {
    let limit = cap.map_or(count, |cap| cap.min(count));
    let slots = Slots::new(supplier, SlotsOptions { permits_max: cap, ..SlotsOptions::default() });
    let mut random = fastrand::Rng::with_seed(seed);
    let tasks: Vec<_> = (0..20).map(|_| tokio::spawn(one(slots.clone(), random.fork(), limit))).collect();
    for task in tasks {
        // Paused time: an hour passes at once when nothing else can happen, that is, when somebody is stuck.
        tokio::time::timeout(Duration::from_secs(3600), task).await.expect("nobody waits forever").unwrap();
    }
    assert_eq!((slots.counts().held, slots.counts().used), (0, 0), "seed {seed}");
    let all: Vec<_> = futures(limit, || slots.reserve(Wanted { is_sticky: false, ..workflow() }))
        .await
        .into_iter()
        .collect();
    assert!(all.iter().all(Result::is_ok), "seed {seed}: every slot is back");
    assert!(slots.try_reserve(workflow()).is_none(), "seed {seed}: and not one more");
}

fn workflow() -> Wanted {
    Wanted::new(SlotKind::Workflow, "q")
}

async fn futures<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    for _ in 0..count {
        let output = tokio::time::timeout(Duration::from_secs(3600), make()).await;
        outputs.push(output.expect("a free slot is given"));
    }
    outputs
}

async fn one(slots: Slots, mut random: fastrand::Rng, limit: usize) {
    for _ in 0..random.usize(1..8) {
        let wanted = Wanted { is_sticky: random.bool(), ..workflow() };
        let permit = match random.u8(0..4) {
            0 => slots.try_reserve(wanted),
            1 => {
                let patience = Duration::from_millis(random.u64(0..4));
                tokio::time::timeout(patience, slots.reserve(wanted)).await.ok().map(|permit| permit.unwrap())
            }
            _ => Some(slots.reserve(wanted).await.unwrap()),
        };
        assert!(slots.counts().held <= limit);
        let Some(mut permit) = permit else { continue };
        match random.u8(0..3) {
            0 => tokio::task::yield_now().await,
            1 => tokio::time::sleep(Duration::from_millis(random.u64(0..6))).await,
            _ => permit.mark_used(SlotUse::Workflow { workflow_type: "w".into(), is_sticky: false }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_interleaving_leaks_or_loses_a_slot() {
    for seed in 0..200 {
        let count = 1 + seed as usize % 5;
        interleave(seed, Arc::new(FixedSlots::new(count)), count, None).await;
        interleave(seed, Arc::new(FixedSlots::new(count + 2)), count + 2, Some(count)).await;
        interleave(seed, resource(count + 1), count + 1, None).await;
    }
}

/// The same on several threads, without time: only wake-ups can move it on, so a lost one stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_loses_a_slot() {
    let suppliers = [Arc::new(FixedSlots::new(3)) as Arc<dyn SlotSupplier>, resource(3)];
    for (row, supplier) in suppliers.into_iter().enumerate() {
        let slots = Slots::new(supplier, SlotsOptions { permits_max: Some(4), ..SlotsOptions::default() });
        let tasks: Vec<_> = (0..8u64).map(|seed| tokio::spawn(racing(slots.clone(), row, seed))).collect();
        for task in tasks {
            // Only so that a lost wake-up fails rather than hangs.
            tokio::time::timeout(Duration::from_secs(60), task).await.expect("nobody stands still").unwrap();
        }
        slots.close();
        slots.all_returned().await;
        assert_eq!((slots.counts().held, slots.counts().used), (0, 0));
    }
}

static HELD: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

async fn racing(slots: Slots, row: usize, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2000 {
        let wanted = Wanted { is_sticky: random.bool(), ..workflow() };
        let gives_up = random.u8(0..4) == 0;
        let permit = tokio::select! {
            biased;
            permit = slots.reserve(wanted) => Some(permit.unwrap()),
            () = tokio::task::yield_now(), if gives_up => None,
        };
        let Some(permit) = permit else { continue };
        // Counted here: the dealer counts a permit until after its slot is free again.
        assert!(HELD[row].fetch_add(1, Ordering::SeqCst) < 3);
        if random.bool() {
            tokio::task::yield_now().await;
        }
        HELD[row].fetch_sub(1, Ordering::SeqCst);
        drop(permit);
    }
}
