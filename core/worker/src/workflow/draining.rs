//! What a shard of a worker that ends waits for, as a table without tokio: first for tasks, then for runs to leave the cache,
//! and for those that do not leave only so long. It does not know the runs, nor what the language does with its evictions.

use std::time::Duration;

use outlast_machine::time::Time;

/// Evictions that the language owes an answer to are waited for so long, counted from when nothing else is outstanding, and
/// anew from each answer: a language that is slow, or has many to let go, is not cut off by this.
pub(crate) const EVICTIONS_PATIENCE: Duration = Duration::from_secs(3);
/// How long answers may come one after the other.
pub(crate) const EVICTIONS_MAX: Duration = Duration::from_secs(10);

/// What is waited for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Tasks are finished. Runs that leave already may do so meanwhile.
    Tasks,
    /// Runs leave the cache: all, or those that leave already.
    Runs { all: bool },
}

/// What the shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Something other than answers to evictions is outstanding.
    pub(super) busy: bool,
    /// Runs that were told to leave and did not answer.
    pub(super) evicting: usize,
    /// Runs that stay in the cache.
    pub(super) staying: usize,
    /// A task cannot begin before one of the evictions is answered.
    pub(super) waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something will arrive, or [`Draining::until`] passes.
    Wait,
    /// Tell all runs to leave.
    Evict,
    /// Drop the runs that were told to leave and do not.
    Drop,
    /// Nothing is left to wait for.
    Done,
}

/// One stage of a shard's end.
#[derive(Debug)]
pub(super) struct Draining {
    stage: Stage,
    patience: Option<Patience>,
}

#[derive(Clone, Copy, Debug)]
struct Patience {
    began: Time,
    answered: Time,
    evicting: usize,
}

impl Draining {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, patience: None }
    }

    /// When [`Self::step`] is to be asked again if nothing arrives.
    pub(super) fn until(&self) -> Option<Time> {
        self.patience.map(|it| (it.answered + EVICTIONS_PATIENCE).min(it.began + EVICTIONS_MAX))
    }

    pub(super) fn step(&mut self, now: Time, facts: Facts) -> Step {
        if facts.busy {
            self.patience = None;
            return Step::Wait;
        }
        match self.stage {
            Stage::Runs { all: true } if facts.staying > 0 => Step::Evict,
            Stage::Tasks if !facts.waits => Step::Done,
            Stage::Tasks | Stage::Runs { .. } if facts.evicting == 0 => Step::Done,
            Stage::Tasks | Stage::Runs { .. } => self.wait(now, facts.evicting),
        }
    }

    fn wait(&mut self, now: Time, evicting: usize) -> Step {
        let patience = self.patience.get_or_insert(Patience { began: now, answered: now, evicting });
        if evicting < std::mem::replace(&mut patience.evicting, evicting) {
            patience.answered = now;
        }
        if self.until().is_some_and(|until| until <= now) { Step::Drop } else { Step::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(0) + Duration::from_millis(millis)
    }

    const NOTHING: Facts = Facts { busy: false, evicting: 0, staying: 0, waits: false };
    const TASK: Facts = Facts { busy: true, ..NOTHING };

    const fn leaving(evicting: usize) -> Facts {
        Facts { evicting, ..NOTHING }
    }

    const fn blocked(evicting: usize) -> Facts {
        Facts { waits: true, ..leaving(evicting) }
    }

    /// Asks at each of these times, in milliseconds.
    fn steps(stage: Stage, asked: &[(u64, Facts)]) -> Vec<Step> {
        let mut draining = Draining::new(stage);
        asked.iter().map(|(time, facts)| draining.step(at(*time), *facts)).collect()
    }

    const ALL: Stage = Stage::Runs { all: true };
    const LEAVING: Stage = Stage::Runs { all: false };
    use Stage::Tasks;
    use Step::{Done, Drop, Evict, Wait};

    /// A name, the stage, when what was held, and what is said to that.
    type Case = (&'static str, Stage, &'static [(u64, Facts)], &'static [Step]);

    #[test]
    fn what_is_waited_for_and_how_long() {
        const TWO: Facts = Facts { staying: 2, ..NOTHING };
        const TABLE: &[Case] = &[
            ("an empty cache costs nothing", ALL, &[(0, NOTHING)], &[Done]),
            (
                "runs that answer",
                ALL,
                &[(0, TWO), (0, leaving(2)), (1, leaving(1)), (2, NOTHING)],
                &[Evict, Wait, Wait, Done],
            ),
            (
                "a run that does not",
                ALL,
                &[(0, TWO), (0, leaving(2)), (1, leaving(1)), (3000, leaving(1)), (3001, leaving(1))],
                &[Evict, Wait, Wait, Wait, Drop],
            ),
            (
                "runs that are slow, but not for ever",
                ALL,
                &[
                    (0, leaving(5)),
                    (2900, leaving(4)),
                    (5800, leaving(3)),
                    (8700, leaving(2)),
                    (9999, leaving(2)),
                    (10_000, leaving(2)),
                ],
                &[Wait, Wait, Wait, Wait, Wait, Drop],
            ),
            (
                "a task in between starts the wait anew",
                ALL,
                &[
                    (0, leaving(1)),
                    (2000, TASK),
                    (60_000, leaving(1)),
                    (62_999, leaving(1)),
                    (63_000, leaving(1)),
                ],
                &[Wait, Wait, Wait, Wait, Drop],
            ),
            ("runs that stay are left alone", LEAVING, &[(0, TWO)], &[Done]),
            (
                "those that leave already are waited for",
                LEAVING,
                &[(0, Facts { staying: 2, ..leaving(1) }), (3000, Facts { staying: 2, ..leaving(1) })],
                &[Wait, Drop],
            ),
            (
                "tasks do not wait for runs",
                Tasks,
                &[(0, TASK), (9_000, Facts { staying: 2, ..leaving(1) })],
                &[Wait, Done],
            ),
            (
                "but for room",
                Tasks,
                &[
                    (0, blocked(2)),
                    (2999, blocked(1)),
                    (5998, blocked(1)),
                    (5999, blocked(1)),
                    (6000, TASK),
                    (6001, NOTHING),
                ],
                &[Wait, Wait, Wait, Drop, Wait, Done],
            ),
        ];
        for (what, stage, asked, expected) in TABLE {
            assert_eq!(steps(*stage, asked), *expected, "{what}");
        }
    }
}
