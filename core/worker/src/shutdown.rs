//! How a worker ends, as a pure state machine with a hard deadline. It waits for facts, never for hopes.
//!
//! Polls end first (by a server that promised to end them, or dropped by us), then the language finishes what it holds, then the
//! runs are evicted, then the doors close. What does not happen in time is cut off.
//!
//! The server is told of the end. One that promised to end polls must know first. Otherwise it hears of it after the polls
//! were dropped, on the same connection: once it has answered, it has seen that they are gone, and hands nobody's query to them.

use std::collections::VecDeque;
use std::time::Duration;

use outlast_machine::time::Time;

/// How long a server that promised to end our polls may take, and how long aborted polls may.
const POLLS_PATIENCE: Duration = Duration::from_secs(5);
/// Without a promise: a poll that is dropped while its task is on the way loses the task to a timeout. Polls are dropped
/// once none was answered for so long, or as soon as nothing is on the way that this worker knows of.
pub(crate) const SETTLING: Duration = Duration::from_millis(100);
/// How long they may be answered one after the other.
pub(crate) const SETTLING_MAX: Duration = Duration::from_secs(2);
/// How long a worker that is done waits for the server to take the announcement.
const PARTING: Duration = Duration::from_millis(500);

/// Where the end stands. `hard` is when it is over, whatever is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody has asked for an end.
    Running,
    /// No poll starts; those in flight may be answered until then, or as long as tasks come, until `latest`.
    EndingPolls { until: Time, latest: Time, hard: Time, promised: bool, word: Word },
    /// No poll starts; those in flight were dropped.
    AbortingPolls { until: Time, hard: Time, word: Word },
    /// What the language holds is finished, then runs leave the cache. `answered`: the server said something to the announcement.
    Draining { hard: Time, answered: bool },
    /// All is done; the server has not answered the announcement yet.
    Parting { until: Time },
    /// Nothing is left, or nothing more is waited for.
    Down(Ending),
}

/// Where the announcement to the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Due,
    Sent,
    Answered,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was held was finished and reported. Cached runs that the language did not let go are not counted among it.
    Clean,
    /// The deadline passed first; what was unfinished is the server's to repeat.
    Deadline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Somebody wants the worker to end.
    Asked { server_ends_polls: bool },
    /// The server took the announcement.
    Announced,
    /// The server did not take the announcement, so it will not end polls either, whatever it promised.
    NotAnnounced,
    /// Nothing that this worker did lately can bring a task any more.
    Settled,
    /// No poll is in flight, and none will start.
    PollsEnded,
    /// The halves hold nothing any more.
    Idle,
    /// The deadline passed. `tasks_came`: since the last one, or since the end was asked for.
    Tick { tasks_came: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// No poll starts any more.
    Begin,
    /// The grace of activities and operations starts. Once polls are dropped: what a cancelled activity brings about is then
    /// the next worker's, and is not begun here to be left in the middle.
    Grace,
    /// Tell the server, once. [`Input::Announced`] or [`Input::NotAnnounced`] must follow.
    Announce,
    /// Watch for the moment when no more tasks are to be expected: [`Input::Settled`] follows, if it comes soon.
    Settle,
    /// Drop the polls that are in flight; [`Input::PollsEnded`] must follow.
    AbortPolls,
    /// Let what is held be finished, and then all runs leave the cache; [`Input::Idle`] must follow.
    Drain,
    /// Polls of the language give what is left, then say that it is over.
    CloseDoors,
}

/// The end of one worker.
#[derive(Debug)]
pub(crate) struct Shutdown {
    phase: Phase,
    limit: Duration,
    grace_began: bool,
    out: VecDeque<Output>,
}

impl Shutdown {
    /// `limit`: the longest that everything may take.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { phase: Phase::Running, limit, grace_began: false, out: VecDeque::new() }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Running | Phase::Down(_) => None,
            Phase::EndingPolls { until, hard, .. } | Phase::AbortingPolls { until, hard, .. } => {
                Some(until.min(hard))
            }
            Phase::Draining { hard, .. } => Some(hard),
            Phase::Parting { until } => Some(until),
        }
    }

    pub(crate) fn handle(&mut self, now: Time, input: Input) {
        use {Input as I, Phase as P};
        self.phase = match (self.phase, input) {
            (P::Running, I::Asked { server_ends_polls }) => self.begin(now, server_ends_polls),
            (
                P::Running,
                I::Announced | I::NotAnnounced | I::Settled | I::PollsEnded | I::Idle | I::Tick { .. },
            ) => P::Running,

            (P::EndingPolls { hard, word, .. } | P::AbortingPolls { hard, word, .. }, I::PollsEnded) => {
                self.drain(hard, word)
            }
            (P::EndingPolls { hard, .. } | P::AbortingPolls { hard, .. }, I::Tick { .. }) if now >= hard => {
                self.down(Ending::Deadline)
            }
            (P::EndingPolls { until, latest, hard, promised, .. }, I::Announced) => {
                P::EndingPolls { until, latest, hard, promised, word: Word::Answered }
            }
            (P::EndingPolls { hard, .. }, I::NotAnnounced) => {
                self.out.push_back(Output::Settle);
                let (until, latest) = (now + SETTLING, now + SETTLING_MAX);
                P::EndingPolls { until, latest, hard, promised: false, word: Word::Answered }
            }
            (P::EndingPolls { hard, word, promised: false, .. }, I::Settled) => self.abort(now, hard, word),
            (P::EndingPolls { latest, hard, promised, word, .. }, I::Tick { tasks_came: true })
                if now < latest =>
            {
                P::EndingPolls { until: latest.min(now + SETTLING), latest, hard, promised, word }
            }
            (P::EndingPolls { until, hard, word, .. }, I::Tick { .. }) if now >= until => {
                self.abort(now, hard, word)
            }
            (P::AbortingPolls { until, hard, word }, I::Tick { .. }) if now >= until => {
                self.drain(hard, word)
            }
            (P::AbortingPolls { until, hard, .. }, I::Announced | I::NotAnnounced) => {
                P::AbortingPolls { until, hard, word: Word::Answered }
            }
            (phase @ P::EndingPolls { .. }, I::Asked { .. } | I::Settled | I::Idle | I::Tick { .. }) => phase,
            (phase @ P::AbortingPolls { .. }, I::Asked { .. } | I::Settled | I::Idle | I::Tick { .. }) => {
                phase
            }

            (P::Draining { answered: true, .. }, I::Idle) => self.down(Ending::Clean),
            (P::Draining { answered: false, hard }, I::Idle) => P::Parting { until: hard.min(now + PARTING) },
            (P::Draining { hard, .. }, I::Announced | I::NotAnnounced) => {
                P::Draining { hard, answered: true }
            }
            (P::Draining { hard, .. }, I::Tick { .. }) if now >= hard => self.down(Ending::Deadline),
            (phase @ P::Draining { .. }, I::Asked { .. } | I::Settled | I::PollsEnded | I::Tick { .. }) => {
                phase
            }

            (P::Parting { .. }, I::Announced | I::NotAnnounced) => self.down(Ending::Clean),
            (P::Parting { until }, I::Tick { .. }) if now >= until => self.down(Ending::Clean),
            (
                phase @ P::Parting { .. },
                I::Asked { .. } | I::Settled | I::PollsEnded | I::Idle | I::Tick { .. },
            ) => phase,

            (
                phase @ P::Down(_),
                I::Asked { .. }
                | I::Announced
                | I::NotAnnounced
                | I::Settled
                | I::PollsEnded
                | I::Idle
                | I::Tick { .. },
            ) => phase,
        };
    }

    fn begin(&mut self, now: Time, promised: bool) -> Phase {
        self.out.push_back(Output::Begin);
        let hard = now + self.limit;
        if promised {
            self.out.push_back(Output::Announce);
            self.grace();
            let latest = now + POLLS_PATIENCE;
            return Phase::EndingPolls { until: latest, latest, hard, promised, word: Word::Sent };
        }
        self.out.push_back(Output::Settle);
        let (until, latest) = (now + SETTLING, now + SETTLING_MAX);
        Phase::EndingPolls { until, latest, hard, promised, word: Word::Due }
    }

    fn abort(&mut self, now: Time, hard: Time, word: Word) -> Phase {
        self.out.push_back(Output::AbortPolls);
        self.grace();
        Phase::AbortingPolls { until: now + POLLS_PATIENCE, hard, word }
    }

    fn drain(&mut self, hard: Time, word: Word) -> Phase {
        self.grace();
        if word == Word::Due {
            self.out.push_back(Output::Announce);
        }
        self.out.push_back(Output::Drain);
        Phase::Draining { hard, answered: word == Word::Answered }
    }

    /// A server that promised to end polls may take its time: the grace does not wait for it.
    fn grace(&mut self) {
        if !std::mem::replace(&mut self.grace_began, true) {
            self.out.push_back(Output::Grace);
        }
    }

    fn down(&mut self, ending: Ending) -> Phase {
        self.out.push_back(Output::CloseDoors);
        Phase::Down(ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time::from_nanos(0) + Duration::from_secs(seconds)
    }

    /// Plays inputs, each at a second; returns what came out and where it stands.
    fn play(inputs: &[(u64, Input)]) -> (Vec<Output>, Phase) {
        let mut shutdown = Shutdown::new(LIMIT);
        let mut out = Vec::new();
        for (second, input) in inputs {
            shutdown.handle(at(*second), *input);
            out.extend(std::iter::from_fn(|| shutdown.poll()));
        }
        (out, shutdown.phase())
    }

    const ASKED: Input = Input::Asked { server_ends_polls: false };
    const ASKED_WITH_PROMISE: Input = Input::Asked { server_ends_polls: true };
    const QUIET: Input = Input::Tick { tasks_came: false };
    const BUSY: Input = Input::Tick { tasks_came: true };
    const CLEAN: Phase = Phase::Down(Ending::Clean);
    use Input::{Announced, Idle, NotAnnounced, PollsEnded, Settled};
    use Output::{AbortPolls, Announce, Begin, CloseDoors, Drain, Grace, Settle};

    #[test]
    fn without_a_promise_polls_are_dropped_and_then_the_server_is_told() {
        for dropped in [Settled, QUIET] {
            let (out, phase) = play(&[(0, ASKED), (1, dropped), (1, PollsEnded), (2, Idle), (2, Announced)]);
            assert_eq!(out, [Begin, Settle, AbortPolls, Grace, Announce, Drain, CloseDoors]);
            assert_eq!(phase, CLEAN);
        }
    }

    #[test]
    fn what_is_held_and_the_announcement_are_waited_for_in_any_order() {
        for (first, second) in [(Idle, Announced), (Announced, Idle), (NotAnnounced, Idle)] {
            let inputs = [(0, ASKED), (0, Settled), (0, PollsEnded), (1, first), (1, second)];
            let (_, before) = play(&inputs[..4]);
            assert!(!matches!(before, Phase::Down(_)), "{first:?} alone");
            let (out, phase) = play(&inputs);
            assert_eq!((out.last(), phase), (Some(&CloseDoors), CLEAN));
        }
    }

    #[test]
    fn silence_to_the_announcement_costs_half_a_second() {
        let inputs = [(0, ASKED), (0, Settled), (0, PollsEnded), (3, Idle), (4, QUIET)];
        assert_eq!(play(&inputs[..4]).1, Phase::Parting { until: at(3) + PARTING });
        assert_eq!(play(&inputs).1, CLEAN);
    }

    #[test]
    fn polls_are_not_aborted_while_they_bring_tasks_but_not_for_ever() {
        let settling = |second| {
            let (_, phase) = play(&[(0, ASKED), (second, BUSY)]);
            phase
        };
        let (until, latest, hard, word) = (at(1) + SETTLING, at(2), at(60), Word::Due);
        assert_eq!(settling(1), Phase::EndingPolls { until, latest, hard, promised: false, word });
        assert!(matches!(settling(2), Phase::AbortingPolls { .. }));
    }

    #[test]
    fn polls_that_are_answered_at_once_need_not_be_aborted() {
        let (out, _) = play(&[(0, ASKED), (0, PollsEnded), (3, Idle), (3, Announced)]);
        assert_eq!(out, [Begin, Settle, Grace, Announce, Drain, CloseDoors]);
    }

    #[test]
    fn a_server_that_keeps_its_promise_ends_the_polls_itself() {
        let (out, _) = play(&[(0, ASKED_WITH_PROMISE), (0, Announced), (2, PollsEnded), (3, Idle)]);
        assert_eq!(out, [Begin, Announce, Grace, Drain, CloseDoors]);
    }

    #[test]
    fn a_server_that_breaks_its_promise_costs_seconds() {
        let (out, _) = play(&[(0, ASKED_WITH_PROMISE), (5, QUIET), (5, PollsEnded)]);
        assert_eq!(out, [Begin, Announce, Grace, AbortPolls, Drain]);
    }

    #[test]
    fn a_server_that_says_unimplemented_after_promising_is_not_waited_for() {
        for dropped in [QUIET, Settled] {
            let (out, phase) = play(&[(0, ASKED_WITH_PROMISE), (0, NotAnnounced), (1, dropped)]);
            assert_eq!(out, [Begin, Announce, Grace, Settle, AbortPolls]);
            assert_eq!(phase, Phase::AbortingPolls { until: at(6), hard: at(60), word: Word::Answered });
        }
    }

    #[test]
    fn polls_that_do_not_even_abort_are_not_waited_for() {
        let (out, phase) = play(&[(0, ASKED), (1, QUIET), (6, QUIET)]);
        assert_eq!(out, [Begin, Settle, AbortPolls, Grace, Announce, Drain]);
        assert_eq!(phase, Phase::Draining { hard: at(60), answered: false });
    }

    #[test]
    fn the_deadline_ends_every_phase() {
        for before in [vec![(0, ASKED)], vec![(0, ASKED_WITH_PROMISE)], vec![(0, ASKED), (0, PollsEnded)]] {
            let mut inputs = before;
            inputs.push((60, QUIET));
            let (out, phase) = play(&inputs);
            assert_eq!(out.last(), Some(&CloseDoors), "{inputs:?}");
            assert_eq!(phase, Phase::Down(Ending::Deadline));
        }
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let (out, _) = play(&[(0, ASKED), (1, ASKED), (1, PollsEnded), (2, ASKED)]);
        assert_eq!(out, [Begin, Settle, Grace, Announce, Drain]);
    }

    #[test]
    fn each_phase_before_the_last_has_a_deadline() {
        let mut shutdown = Shutdown::new(LIMIT);
        assert_eq!(shutdown.deadline(), None);
        shutdown.handle(at(0), ASKED_WITH_PROMISE);
        assert_eq!(shutdown.deadline(), Some(at(5)));
        shutdown.handle(at(1), PollsEnded);
        assert_eq!(shutdown.deadline(), Some(at(60)));
        shutdown.handle(at(2), Idle);
        assert_eq!(shutdown.deadline(), Some(at(2) + PARTING));
        shutdown.handle(at(2), Announced);
        assert_eq!(shutdown.deadline(), None);
    }
}
