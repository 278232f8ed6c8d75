//! Stories of pollers with scripted polls, in virtual time.

use super::super::{Poll, PollerBehavior, Scaling, split};
use super::*;
use crate::slots::{FixedSlots, SlotKind, SlotsOptions, Wanted};
use crate::telemetry::Gauge;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;
use tokio::task::yield_now;

type Answer = Result<Polled<&'static str>, &'static str>;

/// A server whose polls a test answers one by one, oldest first.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<VecDeque<oneshot::Sender<Answer>>>>);

impl Server {
    fn poll(&self) -> Poll<&'static str, &'static str> {
        let server = self.clone();
        Box::new(move |_| {
            let (sender, answer) = oneshot::channel();
            server.0.lock().unwrap().push_back(sender);
            Box::pin(async move { answer.await.expect("a test answers or the poll is dropped") })
        })
    }

    /// Polls that wait for an answer.
    async fn waiting(&self) -> usize {
        settle().await;
        self.0.lock().unwrap().iter().filter(|poll| !poll.is_closed()).count()
    }

    async fn answer(&self, answer: Answer) {
        settle().await;
        self.0.lock().unwrap().pop_front().expect("a poll waits").send(answer).expect("it still does");
    }

    async fn task(&self, task: &'static str) {
        self.answer(Ok(Polled { task: Some(task), suggestion: None, backlog: None })).await;
    }
}

async fn advance(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

/// Lets every other task run until none can.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

const EMPTY: Answer = Ok(Polled { task: None, suggestion: None, backlog: None });

fn slots(count: usize) -> Slots {
    Slots::new(Arc::new(FixedSlots::new(count)), SlotsOptions::default())
}

fn lane(server: &Server, polls: usize) -> Lane<&'static str, &'static str> {
    Lane {
        wanted: Wanted::new(SlotKind::Activity, "q"),
        scaling: Scaling::new(PollerBehavior::SimpleMaximum(polls), false, std::time::Instant::now()),
        gauge: Gauge::none(),
        poll: server.poll(),
        judge: Box::new(|failed| match *failed.error {
            "gone" => Verdict::GiveUp,
            "late" => Verdict::Empty,
            "brief" => Verdict::Spare { after: Duration::from_millis(5) },
            _ => Verdict::Retry { after: Duration::from_secs(1u64 << failed.in_a_row) },
        }),
    }
}

fn options(
    slots: &Slots,
    lanes: Vec<Lane<&'static str, &'static str>>,
) -> PollersOptions<&'static str, &'static str> {
    PollersOptions { slots: slots.clone(), lanes, rate: None }
}

/// Pollers of one lane, asked once.
async fn asked(slots: &Slots, server: &Server, polls: usize) -> Pollers<&'static str, &'static str> {
    let mut pollers = Pollers::start(options(slots, vec![lane(server, polls)]));
    ask(&mut pollers).await;
    pollers
}

async fn ask(pollers: &mut Pollers<&'static str, &'static str>) {
    tokio::select! {
        biased;
        _ = pollers.next() => panic!("nothing can have arrived"),
        () = settle() => {}
    }
}

/// Pollers of one lane, whose three polls failed together, which is one failure.
async fn refused(slots: &Slots, server: &Server) -> Pollers<&'static str, &'static str> {
    let pollers = asked(slots, server, 3).await;
    for _ in 0..3 {
        server.answer(Err("busy")).await;
    }
    settle().await;
    pollers
}

async fn taken(pollers: &mut Pollers<&'static str, &'static str>) -> (Permit, &'static str) {
    pollers.next().await.expect("not stopped").expect("no error")
}

#[tokio::test(start_paused = true)]
async fn nothing_is_polled_before_somebody_asks() {
    let (slots, server) = (slots(5), Server::default());
    let mut pollers = Pollers::start(options(&slots, vec![lane(&server, 3)]));
    assert_eq!((server.waiting().await, slots.counts().held), (0, 0));
    ask(&mut pollers).await;
    assert_eq!((server.waiting().await, slots.counts().held), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn each_poll_has_a_permit_in_hand() {
    let (slots, server) = (slots(2), Server::default());
    let mut pollers = asked(&slots, &server, 5).await;
    assert_eq!(server.waiting().await, 2);
    server.task("a").await;
    let (permit, task) = taken(&mut pollers).await;
    assert_eq!((task, server.waiting().await), ("a", 1), "the task holds the other slot");
    drop(permit);
    assert_eq!(server.waiting().await, 2);
    server.answer(EMPTY).await;
    assert_eq!(server.waiting().await, 2, "an empty poll is followed by another");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_nobody_takes_stops_the_asking() {
    let (slots, server) = (slots(10), Server::default());
    let mut pollers = asked(&slots, &server, 3).await;
    server.task("a").await;
    assert_eq!(server.waiting().await, 2);
    server.task("b").await;
    server.task("c").await;
    assert_eq!(server.waiting().await, 0, "three tasks untaken, no poll started");
    let tasks = [taken(&mut pollers).await.1, taken(&mut pollers).await.1];
    assert_eq!((tasks, server.waiting().await), (["a", "b"], 0));
    assert_eq!(taken(&mut pollers).await.1, "c");
    assert_eq!(server.waiting().await, 3);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_polls_in_flight_and_gives_out_what_they_bring() {
    let (slots, server) = (slots(10), Server::default());
    let mut pollers = asked(&slots, &server, 2).await;
    pollers.stop(Stop::Drain);
    assert_eq!(server.waiting().await, 2);
    server.task("late").await;
    server.answer(EMPTY).await;
    assert_eq!(taken(&mut pollers).await.1, "late");
    assert!(pollers.next().await.is_none() && pollers.next().await.is_none());
    assert_eq!((server.waiting().await, slots.counts().held), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn aborting_drops_polls_but_not_what_has_arrived() {
    let (slots, server) = (slots(10), Server::default());
    let mut pollers = asked(&slots, &server, 3).await;
    server.task("a").await;
    server.task("b").await;
    settle().await;
    pollers.stopper().stop(Stop::Abort);
    pollers.stop(Stop::Drain); // Softer than what was said: changes nothing.
    assert_eq!((server.waiting().await, slots.counts().held), (0, 2));
    let tasks = [taken(&mut pollers).await.1, taken(&mut pollers).await.1];
    assert_eq!(tasks, ["a", "b"]);
    assert!(pollers.next().await.is_none());
    assert_eq!(slots.counts().held, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_can_be_aborted() {
    let (slots, server) = (slots(10), Server::default());
    let mut pollers = asked(&slots, &server, 2).await;
    let stopper = pollers.stopper();
    stopper.stop(Stop::Drain);
    ask(&mut pollers).await;
    assert_eq!(server.waiting().await, 2);
    stopper.stop(Stop::Abort);
    assert!(pollers.next().await.is_none());
    assert_eq!((server.waiting().await, slots.counts().held), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn stopped_before_asked_or_while_waiting_for_a_permit_it_ends_at_once() {
    let (slots, server) = (slots(1), Server::default());
    let mut pollers = Pollers::start(options(&slots, vec![lane(&server, 1)]));
    pollers.stop(Stop::Drain);
    assert!(pollers.next().await.is_none());
    let held = slots.try_reserve(Wanted::new(SlotKind::Activity, "q"));
    let mut pollers = asked(&slots, &server, 1).await;
    pollers.stop(Stop::Drain);
    assert!(pollers.next().await.is_none());
    let mut pollers = asked(&slots, &server, 1).await;
    slots.close();
    assert!(pollers.next().await.is_none(), "closed slots end it too");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn dropped_pollers_leave_nothing_behind() {
    let (slots, server) = (slots(3), Server::default());
    let pollers = asked(&slots, &server, 2).await;
    server.task("untaken").await;
    settle().await;
    drop(pollers);
    assert_eq!((server.waiting().await, slots.counts().held), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn after_an_error_all_wait_and_one_tries() {
    let (slots, server) = (slots(3), Server::default());
    let _pollers = refused(&slots, &server).await;
    for seconds in [2, 4, 8] {
        assert_eq!((server.waiting().await, slots.counts().held), (0, 0));
        advance(seconds * 1000 - 1).await;
        assert_eq!(server.waiting().await, 0);
        advance(1).await;
        assert_eq!(server.waiting().await, 1);
        server.answer(Err("busy")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_one_succeeds_all_go_on_at_once() {
    let (slots, server) = (slots(3), Server::default());
    let _pollers = refused(&slots, &server).await;
    advance(2_000).await;
    assert_eq!(server.waiting().await, 1);
    server.answer(EMPTY).await;
    assert_eq!(server.waiting().await, 3);
    server.answer(Err("busy")).await;
    assert_eq!(server.waiting().await, 2);
    advance(2_000).await;
    assert_eq!(server.waiting().await, 3, "a success begins the count anew");
}

#[tokio::test(start_paused = true)]
async fn when_one_is_kept_waiting_the_others_follow() {
    let (slots, server) = (slots(3), Server::default());
    let _pollers = refused(&slots, &server).await;
    advance(2_000).await;
    assert_eq!(server.waiting().await, 1);
    advance(1_000).await;
    assert_eq!(server.waiting().await, 3);
}

#[tokio::test(start_paused = true)]
async fn one_refusal_slows_the_others_whatever_they_bring() {
    let (slots, server) = (slots(9), Server::default());
    let mut pollers = asked(&slots, &server, 3).await;
    server.answer(Err("busy")).await;
    server.task("a").await;
    assert_eq!(taken(&mut pollers).await.1, "a");
    assert_eq!(server.waiting().await, 1, "that poll was accepted before the other was refused");
    advance(2_000).await;
    assert_eq!(server.waiting().await, 2);
}

#[tokio::test(start_paused = true)]
async fn another_server_is_asked_at_once() {
    let (slots, server) = (slots(3), Server::default());
    let pollers = asked(&slots, &server, 2).await;
    server.answer(Err("busy")).await;
    server.answer(Err("busy")).await;
    assert_eq!(server.waiting().await, 0);
    pollers.begin_anew();
    assert_eq!(server.waiting().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_cut_off_is_followed_by_another() {
    let (slots, server) = (slots(3), Server::default());
    let _pollers = asked(&slots, &server, 2).await;
    server.answer(Err("late")).await;
    assert_eq!(server.waiting().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_refused_does_not_slow_another() {
    let (slots, normal, sticky) = (slots(9), Server::default(), Server::default());
    let mut pollers = Pollers::start(options(&slots, vec![lane(&normal, 1), lane(&sticky, 2)]));
    ask(&mut pollers).await;
    normal.answer(Err("busy")).await;
    sticky.answer(EMPTY).await;
    assert_eq!((normal.waiting().await, sticky.waiting().await), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_without_hope_is_given_out_last() {
    let (slots, server) = (slots(3), Server::default());
    let mut pollers = asked(&slots, &server, 2).await;
    server.answer(Err("gone")).await;
    server.task("a").await;
    assert_eq!(pollers.next().await.unwrap().unwrap_err(), "gone");
    assert_eq!(taken(&mut pollers).await.1, "a");
    assert!(pollers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "inside a poll")]
async fn a_panic_inside_a_poll_reaches_the_consumer() {
    let mut lane = lane(&Server::default(), 1);
    lane.poll = Box::new(|_| Box::pin(async { panic!("inside a poll") }));
    Pollers::start(options(&slots(1), vec![lane])).next().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_tasks_a_second_than_allowed() {
    let (slots, server) = (slots(100), Server::default());
    let rate = TokenBucket::new(2.0, Instant::now().into_std());
    let mut pollers = Pollers::start(PollersOptions { rate, ..options(&slots, vec![lane(&server, 5)]) });
    let began = Instant::now();
    ask(&mut pollers).await;
    for _ in 0..6 {
        assert_eq!(server.waiting().await, 1, "one token, one poll");
        server.task("a").await;
        assert_eq!(taken(&mut pollers).await.1, "a");
        assert_eq!(server.waiting().await, 0);
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn with_two_queues_neither_is_left_without_a_poll() {
    let (slots, normal, sticky) = (slots(3), Server::default(), Server::default());
    let polls = split(5, 0.2);
    let lanes = vec![lane(&normal, polls.0), lane(&sticky, polls.1)];
    let mut pollers = Pollers::start(options(&slots, lanes));
    ask(&mut pollers).await;
    assert_eq!((normal.waiting().await, sticky.waiting().await), (1, 2), "three slots");
    // The sticky queue waits for a slot when the normal queue's only poll ends: the next slot goes to the normal queue.
    sticky.task("s").await;
    let s = taken(&mut pollers).await;
    normal.task("n").await;
    let n = taken(&mut pollers).await;
    assert_eq!((normal.waiting().await, sticky.waiting().await), (0, 1));
    drop(s);
    assert_eq!((normal.waiting().await, sticky.waiting().await), (1, 1));
    drop(n);
    assert_eq!((normal.waiting().await, sticky.waiting().await), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_polls_follows_the_servers_suggestions() {
    let (slots, server) = (slots(100), Server::default());
    let behavior = PollerBehavior::Autoscaling { min: 1, max: 10, initial: 2 };
    let scaling = Scaling::new(behavior, false, Instant::now().into_std());
    let mut pollers = Pollers::start(options(&slots, vec![Lane { scaling, ..lane(&server, 0) }]));
    ask(&mut pollers).await;
    assert_eq!(server.waiting().await, 2);
    server.answer(Ok(Polled { task: Some("a"), suggestion: Some(3), backlog: None })).await;
    drop(taken(&mut pollers).await);
    assert_eq!(server.waiting().await, 5);
    for _ in 0..3 {
        server.answer(EMPTY).await;
    }
    assert_eq!(server.waiting().await, 2, "each empty poll takes one away");
}

/// Whatever happens in whatever order, every task the server gave is taken once and every slot comes back.
#[tokio::test(start_paused = true)]
async fn no_interleaving_loses_a_task_or_a_slot() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let given = Arc::new(AtomicUsize::new(0));
        let slots = slots(random.usize(1..6));
        let lanes = (0..random.usize(1..3))
            .map(|_| Lane { poll: generated(random.fork(), given.clone()), ..lane(&Server::default(), 3) })
            .collect();
        let mut pollers = Pollers::start(options(&slots, lanes));
        let tasks = random.usize(1..40);
        let mut taken = 0;
        while taken < tasks {
            let patience = Duration::from_millis(random.u64(0..8));
            if let Ok(arrived) = tokio::time::timeout(patience, pollers.next()).await {
                let (permit, _) = arrived.expect("not stopped").expect("no error");
                taken += 1;
                let work = Duration::from_millis(random.u64(0..5));
                tokio::spawn(async move {
                    tokio::time::sleep(work).await;
                    drop(permit);
                });
            }
        }
        pollers.stop(Stop::Drain);
        while let Some(arrived) = pollers.next().await {
            drop(arrived.expect("no error"));
            taken += 1;
        }
        assert_eq!(taken, given.load(Ordering::Relaxed), "seed {seed}");
        tokio::time::timeout(Duration::from_secs(3600), slots.all_returned())
            .await
            .expect("every slot is back");
    }
}

/// Polls that bring tasks, nothing or errors after a while.
fn generated(mut random: fastrand::Rng, given: Arc<AtomicUsize>) -> Poll<&'static str, &'static str> {
    Box::new(move |_| {
        let (time, kind, given) = (random.u64(0..10), random.u8(0..10), given.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            match kind {
                0 => Err("brief"),
                1..4 => EMPTY,
                _ => {
                    given.fetch_add(1, Ordering::Relaxed);
                    Ok(Polled { task: Some("t"), suggestion: None, backlog: Some(u64::from(kind)) })
                }
            }
        })
    })
}
