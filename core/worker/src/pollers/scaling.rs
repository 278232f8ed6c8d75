//! How many polls to keep in flight on one queue.
//!
//! Pure: it is told how each poll ended and when.

use std::time::{Duration, Instant};

/// How a user wants the number decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollerBehavior {
    /// Always as many as slots allow, up to this.
    SimpleMaximum(usize),
    /// As the server suggests, within bounds.
    Autoscaling { min: usize, max: usize, initial: usize },
}

impl Default for PollerBehavior {
    fn default() -> Self {
        PollerBehavior::SimpleMaximum(5)
    }
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// With a task, and perhaps the server's suggestion of more polls or fewer.
    Task {
        suggestion: Option<i32>,
    },
    Empty {
        suggestion: Option<i32>,
    },
    /// The server asks to be spared.
    ResourceExhausted,
    Failed,
}

/// The number of polls wanted, following what polls bring.
///
/// ```
/// use outlast_worker::pollers::{PollOutcome, PollerBehavior, Scaling};
/// use std::time::Instant;
/// let now = Instant::now();
/// let mut scaling = Scaling::new(PollerBehavior::Autoscaling { min: 1, max: 100, initial: 5 }, false, now);
/// scaling.ended(PollOutcome::Task { suggestion: Some(3) }, now);
/// assert_eq!(scaling.target(), 8);
/// scaling.ended(PollOutcome::ResourceExhausted, now);
/// assert_eq!(scaling.target(), 4);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling(Mode);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Fixed(usize),
    Auto(Auto),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Auto {
    min: usize,
    max: usize,
    target: usize,
    /// The server does make suggestions, so that an empty poll without one means something.
    server_suggests: bool,
    period: Period,
}

/// Tasks that came in this stretch of 100 ms, and in the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Period {
    began: Instant,
    tasks: u64,
    tasks_before: u64,
}

const PERIOD: Duration = Duration::from_millis(100);

/// The time a poll may take while tasks come fast: the server then answers sooner, with a fresh suggestion.
const BUSY_TIMEOUT: Duration = Duration::from_secs(11);

impl Scaling {
    /// `server_suggests`: the namespace is known to make suggestions.
    pub fn new(behavior: PollerBehavior, server_suggests: bool, now: Instant) -> Self {
        Scaling(match behavior {
            PollerBehavior::SimpleMaximum(count) => Mode::Fixed(count.max(1)),
            PollerBehavior::Autoscaling { min, max, initial } => {
                let min = min.max(1);
                let max = max.max(min);
                let period = Period { began: now, tasks: 0, tasks_before: 0 };
                Mode::Auto(Auto { min, max, target: initial.clamp(min, max), server_suggests, period })
            }
        })
    }

    /// How many polls to keep in flight.
    pub fn target(&self) -> usize {
        match &self.0 {
            Mode::Fixed(count) => *count,
            Mode::Auto(auto) => auto.target,
        }
    }

    pub fn is_autoscaling(&self) -> bool {
        matches!(self.0, Mode::Auto(_))
    }

    /// A poll ended.
    pub fn ended(&mut self, outcome: PollOutcome, now: Instant) {
        match &mut self.0 {
            Mode::Fixed(_) => {}
            Mode::Auto(auto) => auto.ended(outcome, now),
        }
    }

    /// How long the next poll may take, if less than usual.
    pub fn timeout(&self, now: Instant) -> Option<Duration> {
        match &self.0 {
            Mode::Fixed(_) => None,
            Mode::Auto(auto) => (auto.period.at(now).tasks > 1).then_some(BUSY_TIMEOUT),
        }
    }
}

impl Auto {
    fn ended(&mut self, outcome: PollOutcome, now: Instant) {
        self.period = self.period.at(now);
        let target = match outcome {
            PollOutcome::Task { suggestion } => {
                self.period.tasks += 1;
                suggestion.map_or(self.target, |by| self.suggested(by))
            }
            PollOutcome::Empty { suggestion: Some(by) } => self.suggested(by),
            PollOutcome::Empty { suggestion: None } if self.server_suggests => self.target.saturating_sub(1),
            PollOutcome::Empty { suggestion: None } => self.target,
            PollOutcome::ResourceExhausted => self.target / 2,
            PollOutcome::Failed => self.target.saturating_sub(1),
        };
        self.target = target.clamp(self.min, self.max);
    }

    fn suggested(&mut self, by: i32) -> usize {
        self.server_suggests = true;
        if by > 0 && !self.period.grows() {
            return self.target;
        }
        self.target.saturating_add_signed(by as isize)
    }
}

impl Period {
    /// The period as it stands at a time.
    fn at(&self, now: Instant) -> Period {
        let passed = now.saturating_duration_since(self.began).as_nanos() / PERIOD.as_nanos();
        match passed {
            0 => self.clone(),
            1 => Period { began: self.began + PERIOD, tasks: 0, tasks_before: self.tasks },
            _ => Period { began: now, tasks: 0, tasks_before: 0 },
        }
    }

    /// A tenth more tasks than before: more polls do bring more.
    fn grows(&self) -> bool {
        self.tasks * 10 >= self.tasks_before * 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(initial: usize, server_suggests: bool) -> (Scaling, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        let behavior = PollerBehavior::Autoscaling { min: 2, max: 20, initial };
        (Scaling::new(behavior, server_suggests, began), move |ms| began + Duration::from_millis(ms))
    }

    fn after(scaling: &mut Scaling, outcome: PollOutcome, now: Instant) -> usize {
        scaling.ended(outcome, now);
        scaling.target()
    }

    #[test]
    fn a_simple_maximum_never_moves() {
        let mut scaling = Scaling::new(PollerBehavior::default(), true, Instant::now());
        for outcome in [PollOutcome::ResourceExhausted, PollOutcome::Task { suggestion: Some(9) }] {
            assert_eq!(after(&mut scaling, outcome, Instant::now()), 5);
        }
    }

    #[test]
    fn the_bounds_hold() {
        let (mut scaling, at) = auto(5, false);
        assert_eq!(after(&mut scaling, PollOutcome::Task { suggestion: Some(i32::MAX) }, at(0)), 20);
        assert_eq!(after(&mut scaling, PollOutcome::Task { suggestion: Some(i32::MIN) }, at(0)), 2);
        assert_eq!(after(&mut scaling, PollOutcome::Failed, at(0)), 2);
        assert_eq!(Scaling::new(PollerBehavior::SimpleMaximum(0), false, at(0)).target(), 1);
        let upside_down = PollerBehavior::Autoscaling { min: 9, max: 3, initial: 0 };
        assert_eq!(Scaling::new(upside_down, false, at(0)).target(), 9);
    }

    #[test]
    fn an_empty_poll_counts_only_where_the_server_suggests() {
        let (mut scaling, at) = auto(5, false);
        assert_eq!(after(&mut scaling, PollOutcome::Empty { suggestion: None }, at(0)), 5);
        assert_eq!(after(&mut scaling, PollOutcome::Task { suggestion: Some(0) }, at(0)), 5);
        assert_eq!(after(&mut scaling, PollOutcome::Empty { suggestion: None }, at(0)), 4);
        let (mut scaling, at) = auto(5, true);
        assert_eq!(after(&mut scaling, PollOutcome::Empty { suggestion: None }, at(0)), 4);
    }

    #[test]
    fn growth_needs_a_tenth_more_tasks_than_before() {
        let (mut scaling, at) = auto(5, false);
        for _ in 0..10 {
            scaling.ended(PollOutcome::Task { suggestion: None }, at(50));
        }
        for _ in 0..10 {
            assert_eq!(after(&mut scaling, PollOutcome::Task { suggestion: Some(1) }, at(150)), 5);
        }
        assert_eq!(
            after(&mut scaling, PollOutcome::Task { suggestion: Some(1) }, at(150)),
            6,
            "the eleventh"
        );
        assert_eq!(
            after(&mut scaling, PollOutcome::Task { suggestion: Some(-1) }, at(201)),
            5,
            "fewer, always"
        );
        assert_eq!(after(&mut scaling, PollOutcome::Task { suggestion: Some(1) }, at(900)), 6, "none before");
    }

    #[test]
    fn polls_are_shorter_while_tasks_come_fast() {
        let (mut scaling, at) = auto(5, false);
        scaling.ended(PollOutcome::Task { suggestion: None }, at(10));
        assert_eq!(scaling.timeout(at(10)), None);
        scaling.ended(PollOutcome::Task { suggestion: None }, at(20));
        assert_eq!(scaling.timeout(at(20)), Some(BUSY_TIMEOUT));
        assert_eq!(scaling.timeout(at(120)), None);
    }
}
