//! Stories of slots that follow memory and CPU.

use super::super::host::{HostReader, Reading};
use super::*;
use crate::telemetry::{MetricsOptions, Prometheus};
use std::collections::BTreeSet;
use std::task::Poll;

/// A machine whose memory use a test sets, in percent; its CPU is idle.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<u64>>);

impl Scripted {
    fn memory(&self, percent: u64) {
        *self.0.lock().unwrap() = percent;
    }
}

impl HostReader for Scripted {
    fn read(&mut self, _: Duration) -> Option<Reading> {
        Some(Reading {
            memory_used: *self.0.lock().unwrap(),
            memory_limit: 100,
            cpu_used: 0.0,
            cpu_limit: 0.0,
        })
    }
}

fn slots(host: &Scripted, kind: SlotKind) -> ResourceSlots {
    let sampler = HostSampler::new(host.clone());
    let controller = ResourceController::new(ResourceTargets::new(0.8, 0.9), sampler, &Metrics::none());
    ResourceSlots::new(ResourceOptions::of(kind), controller)
}

fn sticky(is_sticky: bool) -> Wanted {
    Wanted { is_sticky, ..Wanted::new(SlotKind::Workflow, "q") }
}

#[tokio::test(start_paused = true)]
async fn a_full_machine_gives_the_minimum_and_more_when_it_empties() {
    let host = Scripted::default();
    host.memory(79);
    let slots = slots(&host, SlotKind::Activity);
    let wanted = Wanted::new(SlotKind::Activity, "q");
    assert!(slots.try_reserve(&wanted).is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(slots.try_reserve(&wanted).is_none());
    host.memory(50);
    let began = Instant::now();
    slots.reserve(&wanted).await;
    assert!(began.elapsed() <= 2 * SAMPLE_PERIOD);
}

#[tokio::test(start_paused = true)]
async fn slots_beyond_the_minimum_come_one_each_ramp() {
    let slots = slots(&Scripted::default(), SlotKind::Activity);
    let wanted = Wanted::new(SlotKind::Activity, "q");
    let began = Instant::now();
    for _ in 0..5 {
        slots.reserve(&wanted).await;
    }
    assert_eq!(began.elapsed(), 4 * Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_full_machine_still_gives_each_workflow_queue_one() {
    let host = Scripted::default();
    host.memory(99);
    let slots = slots(&host, SlotKind::Workflow);
    assert!(slots.try_reserve(&sticky(true)).is_some());
    assert!(slots.try_reserve(&sticky(true)).is_some(), "the minimum is two");
    assert!(slots.try_reserve(&sticky(true)).is_none());
    assert!(slots.try_reserve(&sticky(false)).is_some());
    assert!(slots.try_reserve(&sticky(false)).is_none());
}

#[test]
fn the_last_slot_waits_for_the_queue_that_has_none() {
    let options = ResourceOptions { slots_max: 3, ..ResourceOptions::of(SlotKind::Workflow) };
    let now = Instant::now();
    let mut out = Out { given: [0, 2], ..Out::default() };
    assert_eq!(decide(&options, &out, &sticky(true), now, || true), Decision::Give);
    out.waiting = [1, 1];
    assert_eq!(decide(&options, &out, &sticky(true), now, || true), Decision::AfterRelease);
    assert_eq!(decide(&options, &out, &sticky(false), now, || false), Decision::Give);
    out.given = [1, 2];
    assert_eq!(decide(&options, &out, &sticky(false), now, || true), Decision::AfterRelease);
}

#[test]
fn resources_are_not_read_where_they_do_not_matter() {
    let options = ResourceOptions::of(SlotKind::Activity);
    let now = Instant::now();
    let wanted = Wanted::new(SlotKind::Activity, "q");
    let unread = || -> bool { panic!("read") };
    assert_eq!(decide(&options, &Out::default(), &wanted, now, unread), Decision::Give);
    let out = Out { given: [1, 0], last: Some(now), ..Out::default() };
    assert_eq!(decide(&options, &out, &wanted, now, unread), Decision::At(now + options.ramp));
}

#[tokio::test(start_paused = true)]
async fn the_controllers_advance_once_a_sample_whoever_asks() {
    let host = Scripted::default();
    host.memory(70);
    let controller = ResourceController::new(
        ResourceTargets::new(0.8, 0.9),
        HostSampler::new(host.clone()),
        &Metrics::none(),
    );
    assert!(controller.has_room(Instant::now()), "5 x 0.1 is above 0.25");
    tokio::time::advance(SAMPLE_PERIOD).await;
    host.memory(76);
    let verdicts: BTreeSet<bool> = (0..10).map(|_| controller.has_room(Instant::now())).collect();
    assert_eq!(verdicts, [false].into(), "5 x 0.04 is not");
    tokio::time::advance(SAMPLE_PERIOD).await;
    host.memory(74);
    assert!(controller.has_room(Instant::now()), "5 x 0.06, and 0.02 for shrinking");
}

#[tokio::test(start_paused = true)]
async fn who_stood_back_is_woken_when_the_other_gives_up() {
    let sampler = HostSampler::new(Scripted::default());
    let controller = ResourceController::new(ResourceTargets::new(0.8, 0.9), sampler, &Metrics::none());
    let options = ResourceOptions { slots_max: 3, ..ResourceOptions::of(SlotKind::Workflow) };
    let slots = Arc::new(ResourceSlots::new(options, controller));
    assert_eq!((slots.most(), slots.available()), (Some(3), None));
    for _ in 0..3 {
        slots.reserve(&sticky(true)).await;
    }
    // One of each queue waits; the normal one is not looked at again before it gives up.
    let normal = sticky(false);
    let mut gives_up = slots.reserve(&normal);
    assert!(std::future::poll_fn(|context| Poll::Ready(gives_up.as_mut().poll(context).is_pending())).await);
    let stands_back = tokio::spawn({
        let slots = slots.clone();
        async move { slots.reserve(&sticky(true)).await }
    });
    tokio::task::yield_now().await;
    slots.release(Ticket::plain(), &sticky(true), None);
    tokio::task::yield_now().await;
    assert!(!stands_back.is_finished(), "the free slot is for the queue that has none");
    drop(gives_up);
    tokio::task::yield_now().await;
    assert!(stands_back.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_the_controllers_see_is_measured() {
    let prometheus = Arc::new(Prometheus::default());
    let metrics =
        Metrics::new(prometheus.clone(), MetricsOptions { service_name: None, ..Default::default() });
    let host = Scripted::default();
    host.memory(30);
    let targets = ResourceTargets::new(0.5, 0.9);
    assert!(ResourceController::new(targets, HostSampler::new(host), &metrics).has_room(Instant::now()));
    let text = prometheus.text();
    assert!(text.contains("\ntemporal_resource_slots_mem_usage 30\n"), "{text}");
    assert!(text.contains("\ntemporal_resource_slots_mem_pid_output 1\n"), "{text}");
}
