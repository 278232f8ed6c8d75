//! The loop that keeps polls in flight: a permit first, then the poll, then both to whoever asks.
//!
//! It asks for nothing before the consumer first asks, nor while the consumer leaves a task untaken. Which poll, whose
//! tasks and what an error means are the caller's, given as closures.

use super::balance::{LaneLoad, pick};
use super::lane::{Failed, Lane, PollHints, Polled, Stop, Stopper, Verdict};
use super::scaling::PollOutcome;
use super::streak::{Era, Streak};
use crate::slots::{Boxed, Closed, Permit, Slots};
use crate::throttle::TokenBucket;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until};

/// What [`Pollers`] is made of.
pub struct PollersOptions<T, E> {
    pub slots: Slots,
    /// The normal queue first, then the sticky one if there is one.
    pub lanes: Vec<Lane<T, E>>,
    /// The most tasks taken per second.
    pub rate: Option<TokenBucket>,
}

/// Polls, given out as they arrive. Dropping it drops every poll and every task not yet taken.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use outlast_worker::pollers::{Lane, Polled, PollerBehavior, Pollers, PollersOptions, Scaling, Stop, Verdict};
/// use outlast_worker::slots::{FixedSlots, SlotKind, Slots, SlotsOptions, Wanted};
/// use outlast_worker::telemetry::Gauge;
/// use std::{sync::Arc, time::{Duration, Instant}};
/// let lane: Lane<&str, String> = Lane {
///     wanted: Wanted::new(SlotKind::Activity, "orders"),
///     scaling: Scaling::new(PollerBehavior::SimpleMaximum(2), false, Instant::now()),
///     gauge: Gauge::none(),
///     poll: Box::new(|_| Box::pin(async { Ok(Polled { task: Some("charge"), suggestion: None, backlog: None }) })),
///     judge: Box::new(|failed| Verdict::Retry { after: Duration::from_millis(200) * failed.in_a_row }),
/// };
/// let mut pollers = Pollers::start(PollersOptions {
///     slots: Slots::new(Arc::new(FixedSlots::new(10)), SlotsOptions::default()),
///     lanes: vec![lane],
///     rate: None,
/// });
/// let (permit, task) = pollers.next().await.unwrap().unwrap();
/// assert_eq!(task, "charge");
/// drop(permit);
/// pollers.stop(Stop::Drain);
/// while pollers.next().await.is_some() {}
/// # });
/// ```
pub struct Pollers<T, E> {
    arrived: mpsc::Receiver<Arrived<T, E>>,
    asked: Arc<Notify>,
    anew: Arc<Notify>,
    stopper: Stopper,
    /// None once it is known to have ended.
    driver: Option<JoinHandle<()>>,
    driver_abort: AbortHandle,
}

type Arrived<T, E> = Result<(Permit, T), E>;

impl<T: Send + 'static, E: Send + 'static> Pollers<T, E> {
    /// Needs a tokio runtime. The first poll starts when [`next`](Self::next) is first called.
    pub fn start(options: PollersOptions<T, E>) -> Self {
        // One: a task that nobody has taken yet is the sign to stop asking.
        let (sender, arrived) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(None);
        let (asked, anew) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let driver = Driver {
            slots: options.slots,
            lanes: options.lanes.into_iter().map(LaneState::new).collect(),
            rate: options.rate,
            polls: FuturesUnordered::new(),
            reserving: None,
            arrived: VecDeque::new(),
            out: sender,
            stopped,
            anew: anew.clone(),
            no_more: false,
        };
        let driver = tokio::spawn(driver.run(asked.clone()));
        let driver_abort = driver.abort_handle();
        Pollers { arrived, asked, anew, stopper: Stopper::new(stop), driver: Some(driver), driver_abort }
    }

    /// The next task with its permit, or the error that ended it all; none when stopped and drained.
    ///
    /// May be dropped and called again at any time; nothing is lost. A panic inside a poll is a panic here.
    pub async fn next(&mut self) -> Option<Result<(Permit, T), E>> {
        self.asked.notify_one();
        if let Some(arrived) = self.arrived.recv().await {
            return Some(arrived);
        }
        // The driver let go of its sender, so it has ended; a finished handle may be asked only once.
        if let Some(driver) = self.driver.take()
            && let Err(error) = driver.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        None
    }
}

impl<T, E> Pollers<T, E> {
    /// Stops, or stops harder.
    pub fn stop(&self, how: Stop) {
        self.stopper.stop(how);
    }

    /// Polls go to another server from now on: that the one before refused them does not count any more.
    pub fn begin_anew(&self) {
        self.anew.notify_one();
    }

    /// A handle to stop it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl<T, E> Drop for Pollers<T, E> {
    fn drop(&mut self) {
        self.driver_abort.abort();
    }
}

impl<T, E> fmt::Debug for Pollers<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pollers({:?})", self.stopper)
    }
}

struct LaneState<T, E> {
    lane: Lane<T, E>,
    in_flight: usize,
    backlog: u64,
    streak: Streak,
}

impl<T, E> LaneState<T, E> {
    fn new(lane: Lane<T, E>) -> Self {
        LaneState { lane, in_flight: 0, backlog: 0, streak: Streak::default() }
    }

    fn load(&self, now: Instant) -> LaneLoad {
        let target = self.streak.allowed(self.lane.scaling.target(), self.in_flight, now);
        LaneLoad { in_flight: self.in_flight, target, backlog: self.backlog }
    }

    fn change(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
        self.lane.gauge.set(in_flight);
    }

    fn rest(&mut self, outcome: PollOutcome, after: Duration, now: Instant) {
        self.lane.scaling.ended(outcome, now.into_std());
        self.streak.failed(now, after);
    }
}

/// A poll in flight: its lane, and when it began.
#[derive(Clone, Copy)]
struct Begun {
    lane: usize,
    at: Instant,
    era: Era,
}

/// What a poll brought, and the permit that it had.
type PollEnd<T, E> = (Begun, Permit, Result<Polled<T>, E>);

struct Driver<T, E> {
    slots: Slots,
    lanes: Vec<LaneState<T, E>>,
    rate: Option<TokenBucket>,
    /// Driven here: an answer wakes the driver and nobody else.
    polls: FuturesUnordered<Boxed<'static, PollEnd<T, E>>>,
    /// The lane that waits for a permit. Kept over turns of the loop: who waits keeps its place in line.
    reserving: Option<(usize, Boxed<'static, Result<Permit, Closed>>)>,
    /// At most as many as there were polls in flight.
    arrived: VecDeque<Arrived<T, E>>,
    out: mpsc::Sender<Arrived<T, E>>,
    stopped: watch::Receiver<Option<Stop>>,
    anew: Arc<Notify>,
    no_more: bool,
}

/// Why the loop woke.
enum Woke<T, E> {
    Stopped,
    Room,
    Ended(PollEnd<T, E>),
    Reserved(usize, Result<Permit, Closed>),
    Time,
    Anew,
    NobodyLeft,
}

impl<T: Send + 'static, E: Send + 'static> Driver<T, E> {
    async fn run(mut self, asked: Arc<Notify>) {
        tokio::select! {
            () = asked.notified() => {}
            _ = self.stopped.changed() => self.stop(),
        }
        while !(self.no_more && self.polls.is_empty() && self.arrived.is_empty()) {
            let wake = self.aim(Instant::now());
            match self.wait(wake).await {
                Woke::Stopped => self.stop(),
                Woke::Room | Woke::Time => {}
                Woke::Anew => self.lanes.iter_mut().for_each(|lane| lane.streak.forget()),
                Woke::Ended(ended) => self.ended(ended, Instant::now()),
                Woke::Reserved(lane, Ok(permit)) => self.poll(lane, permit, Instant::now()),
                Woke::Reserved(_, Err(Closed)) => self.no_more = true,
                Woke::NobodyLeft => return,
            }
        }
    }

    async fn wait(&mut self, wake: Option<Instant>) -> Woke<T, E> {
        let untaken = self.out.capacity() == 0;
        let has_arrived = !self.arrived.is_empty();
        tokio::select! {
            biased;
            changed = self.stopped.changed() => if changed.is_ok() { Woke::Stopped } else { Woke::NobodyLeft },
            room = self.out.reserve(), if untaken || has_arrived => match (room, self.arrived.pop_front()) {
                (Ok(room), Some(arrived)) => { room.send(arrived); Woke::Room }
                (Ok(_), None) => Woke::Room,
                (Err(_), _) => Woke::NobodyLeft,
            },
            Some(ended) = self.polls.next() => Woke::Ended(ended),
            Some((lane, permit)) = reserved(&mut self.reserving), if !untaken && !has_arrived => {
                Woke::Reserved(lane, permit)
            }
            () = self.anew.notified() => Woke::Anew,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Woke::Time,
        }
    }

    /// Decides which lane to reserve a permit for, if any, and says when to decide anew.
    fn aim(&mut self, now: Instant) -> Option<Instant> {
        if self.no_more {
            self.reserving = None;
            return None;
        }
        let in_flight = self.polls.len();
        if let Some(rate) = &self.rate
            && rate.available(now.into_std()) <= in_flight
        {
            // Every poll may bring a task, so each needs a token to come.
            self.reserving = None;
            return rate.when(in_flight + 1, now.into_std()).map(Instant::from_std);
        }
        let loads: Vec<LaneLoad> = self.lanes.iter().map(|lane| lane.load(now)).collect();
        let wanted = pick(loads.iter().copied());
        let current = self.reserving.as_ref().map(|(lane, _)| *lane);
        match (current, wanted) {
            // Waiting for one lane must not starve another.
            (Some(lane), Some(other)) if keeps(&loads[lane], &loads[other]) => {}
            (_, Some(lane)) => self.reserve(lane),
            (_, None) => self.reserving = None,
        }
        self.lanes.iter().filter_map(|lane| lane.streak.changes(now)).min()
    }

    fn reserve(&mut self, lane: usize) {
        let slots = self.slots.clone();
        let wanted = self.lanes[lane].lane.wanted.clone();
        self.reserving = Some((lane, Box::pin(async move { slots.reserve(wanted).await })));
    }

    fn poll(&mut self, lane: usize, permit: Permit, now: Instant) {
        let state = &mut self.lanes[lane];
        let hints = PollHints { timeout: state.lane.scaling.timeout(now.into_std()) };
        let poll = (state.lane.poll)(hints);
        let begun = Begun { lane, at: now, era: state.streak.begin(now) };
        self.polls.push(Box::pin(async move { (begun, permit, poll.await) }));
        state.change(state.in_flight + 1);
    }

    fn ended(&mut self, (begun, permit, end): PollEnd<T, E>, now: Instant) {
        let state = &mut self.lanes[begun.lane];
        state.change(state.in_flight - 1);
        match end {
            Ok(polled) => self.polled(begun, permit, polled, now),
            Err(error) => {
                drop(permit);
                self.failed(begun, error, now);
            }
        }
    }

    fn polled(&mut self, begun: Begun, permit: Permit, polled: Polled<T>, now: Instant) {
        let state = &mut self.lanes[begun.lane];
        state.streak.succeeded(begun.era);
        state.backlog = polled.backlog.unwrap_or(state.backlog);
        let Polled { task, suggestion, .. } = polled;
        let outcome = match &task {
            Some(_) => PollOutcome::Task { suggestion },
            None => PollOutcome::Empty { suggestion },
        };
        state.lane.scaling.ended(outcome, now.into_std());
        let Some(task) = task else {
            // An empty answer says that nothing waits.
            state.backlog = polled.backlog.unwrap_or(0);
            return;
        };
        if let Some(rate) = &mut self.rate {
            rate.take(now.into_std());
        }
        self.arrived.push_back(Ok((permit, task)));
    }

    fn failed(&mut self, begun: Begun, error: E, now: Instant) {
        if self.no_more {
            return;
        }
        let state = &mut self.lanes[begun.lane];
        let Some(in_a_row) = state.streak.failures_with(begun.era) else { return };
        match (state.lane.judge)(Failed { error: &error, in_a_row, lasted: now - begun.at, now }) {
            Verdict::Empty => {
                state.streak.succeeded(begun.era);
                state.lane.scaling.ended(PollOutcome::Failed, now.into_std());
            }
            Verdict::Retry { after } => state.rest(PollOutcome::Failed, after, now),
            Verdict::Spare { after } => state.rest(PollOutcome::ResourceExhausted, after, now),
            Verdict::GiveUp => {
                self.arrived.push_back(Err(error));
                self.no_more = true;
            }
        }
    }

    fn stop(&mut self) {
        self.no_more = true;
        self.reserving = None;
        let how = *self.stopped.borrow_and_update();
        match how {
            Some(Stop::Abort) => {
                self.polls.clear();
                self.lanes.iter_mut().for_each(|lane| lane.change(0));
            }
            Some(Stop::Drain) | None => {}
        }
    }
}

/// A lane that waits for a permit goes on waiting unless it is full by now, or another has no poll at all while it has.
fn keeps(current: &LaneLoad, wanted: &LaneLoad) -> bool {
    current.in_flight < current.target && (current.starves() || !wanted.starves())
}

async fn reserved(
    reserving: &mut Option<(usize, Boxed<'static, Result<Permit, Closed>>)>,
) -> Option<(usize, Result<Permit, Closed>)> {
    let (lane, permit) = reserving.as_mut()?;
    let (lane, permit) = (*lane, permit.await);
    *reserving = None;
    Some((lane, permit))
}

#[cfg(test)]
mod tests;
