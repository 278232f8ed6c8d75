//! A timer. Its id in history is its sequence number in decimal.

use outlast_proto::lens::lang::{FireTimer, workflow_activation_job::Variant};

use super::{Out, Then, unexpected};
use crate::event::EventId;
use crate::fault::{Difference, Fault};
use crate::queue::{Ask, Extras, Kind, Place};

#[derive(Debug)]
pub(crate) struct Timer {
    pub seq: u32,
    pub state: State,
    /// What a cancellation inherits.
    pub extras: Option<Box<Extras>>,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history, not yet fired.
    Running,
    /// Its cancellation is asked for.
    Canceling,
}

/// What history says of a timer.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Started,
    Fired { timer_id: &'a [u8] },
    Canceled,
}

impl Timer {
    pub fn on(&mut self, id: EventId, event: Event<'_>, out: &mut Out<'_>) -> Result<Then, Fault> {
        match (&self.state, event) {
            (State::Asked(_), Event::Started) => {
                self.state = State::Running;
                Ok(Then::Stays)
            }
            (State::Running, Event::Fired { timer_id }) => {
                self.same_id(id, timer_id)?;
                out.job(Variant::FireTimer(FireTimer { seq: self.seq }));
                Ok(Then::Ends)
            }
            // Whatever its id: histories were made with code whose other timers gave it another number.
            (State::Canceling, Event::Canceled) => Ok(Then::Ends),
            (State::Canceling, Event::Fired { .. }) => Err(Fault::mismatch(
                id,
                format!("TIMER_FIRED of timer {}", self.seq),
                Some(Kind::CancelTimer.words().to_owned()),
                Vec::new(),
            )),
            (State::Asked(_), Event::Fired { .. } | Event::Canceled)
            | (State::Running, Event::Started | Event::Canceled)
            | (State::Canceling, Event::Started) => Err(unexpected(id, "a timer's event", &self.state)),
        }
    }

    /// The language gives the timer up. It hears no more of it.
    pub fn cancel(&mut self, out: &mut Out<'_>) -> Then {
        match self.state {
            State::Asked(place) => {
                out.retract(place);
                Then::Ends
            }
            State::Running => {
                out.ask(Kind::CancelTimer, Ask::CancelTimer(self.seq), self.extras.take());
                self.state = State::Canceling;
                Then::Stays
            }
            State::Canceling => Then::Stays,
        }
    }

    fn same_id(&self, id: EventId, recorded: &[u8]) -> Result<(), Fault> {
        if is_decimal(recorded, self.seq) {
            return Ok(());
        }
        let recorded = String::from_utf8_lossy(recorded).into_owned();
        let asked = self.seq.to_string();
        Err(Fault::mismatch(
            id,
            format!("TIMER_FIRED of timer {recorded:?}"),
            Some(format!("timer {asked:?} in its place")),
            vec![Difference { field: "timer_id", recorded, asked }],
        ))
    }
}

/// Whether `text` is `number` in decimal, without an allocation.
fn is_decimal(text: &[u8], mut number: u32) -> bool {
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..] == text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_decimal;

    #[test]
    fn ids_are_plain_decimals() {
        assert!(is_decimal(b"0", 0) && is_decimal(b"10", 10) && is_decimal(b"4294967295", u32::MAX));
        assert!(!is_decimal(b"01", 1) && !is_decimal(b"", 0) && !is_decimal(b"1 ", 1));
    }
}
