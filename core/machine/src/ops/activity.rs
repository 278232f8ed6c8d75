//! An activity that the server dispatches.

use bytes::Bytes;
use outlast_proto::lens::history as h;
use outlast_proto::lens::lang::{
    ActivityCancellationType as Cancellation, ActivityResolution, Failed, ResolveActivity, Success,
    activity_resolution::Status, workflow_activation_job::Variant,
};

use super::{Names, Out, Then, unexpected};
use crate::event::EventId;
use crate::failure::{self, ActivityWrap, retry_state};
use crate::fault::Fault;
use crate::queue::{Ask, Extras, Kind, Place};

#[derive(Debug)]
pub(crate) struct Activity {
    pub seq: u32,
    pub names: Names,
    pub cancellation: Cancellation,
    pub state: State,
    /// The language has its result: what history adds changes nothing for it.
    pub told: bool,
    /// What a cancellation inherits.
    pub extras: Option<Box<Extras>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history.
    Open { scheduled: EventId },
    /// Its cancellation is asked for, not yet in history.
    CancelAsked,
    /// Its cancellation is in history.
    Canceling,
}

/// What history says of an activity.
#[derive(Debug)]
pub(crate) enum Event {
    Scheduled,
    Started,
    CancelRequested,
    /// With the first payload of its result.
    Completed {
        result: Option<Bytes>,
    },
    Failed(h::ActivityTaskFailedEventAttributes),
    TimedOut(h::ActivityTaskTimedOutEventAttributes),
    Canceled(h::ActivityTaskCanceledEventAttributes),
}

impl Activity {
    pub fn on(&mut self, id: EventId, event: Event, out: &mut Out<'_>) -> Result<Then, Fault> {
        match (self.state, event) {
            (State::Asked(_), Event::Scheduled) => {
                self.state = State::Open { scheduled: id };
                Ok(Then::Stays)
            }
            (State::CancelAsked, Event::CancelRequested) => {
                self.state = State::Canceling;
                Ok(Then::Stays)
            }
            (State::Open { .. } | State::Canceling, Event::Started) => Ok(Then::Stays),
            (State::Open { .. } | State::Canceling, Event::Completed { result }) => {
                self.tell(Status::Completed(Success { result }), out);
                Ok(Then::Ends)
            }
            (State::Open { .. } | State::Canceling, Event::Failed(e)) => Ok(self.failed(e, out)),
            (State::Open { .. } | State::Canceling, Event::TimedOut(e)) => Ok(self.timed_out(e, out)),
            (State::Open { .. } | State::Canceling, Event::Canceled(e)) => Ok(self.canceled(e, out)),
            (
                State::CancelAsked,
                event @ (Event::Started
                | Event::Completed { .. }
                | Event::Failed(_)
                | Event::TimedOut(_)
                | Event::Canceled(_)),
            ) => Err(self.not_cancelled(id, &event)),
            (
                State::Asked(_),
                Event::Started
                | Event::CancelRequested
                | Event::Completed { .. }
                | Event::Failed(_)
                | Event::TimedOut(_)
                | Event::Canceled(_),
            )
            | (State::Open { .. } | State::Canceling, Event::Scheduled | Event::CancelRequested)
            | (State::CancelAsked, Event::Scheduled) => {
                Err(unexpected(id, "an activity's event", &self.state))
            }
        }
    }

    /// The language wants it cancelled, in the way it chose when it asked for it.
    pub fn cancel(&mut self, out: &mut Out<'_>) -> Then {
        match (self.state, self.cancellation) {
            (
                State::Asked(place),
                Cancellation::TryCancel | Cancellation::WaitCancellationCompleted | Cancellation::Abandon,
            ) => {
                out.retract(place);
                self.tell_cancelled(out);
                Then::Ends
            }
            (State::Open { scheduled }, Cancellation::TryCancel) => {
                self.ask_cancel(scheduled, out);
                self.tell_cancelled(out);
                Then::Stays
            }
            (State::Open { scheduled }, Cancellation::WaitCancellationCompleted) => {
                self.ask_cancel(scheduled, out);
                Then::Stays
            }
            (State::Open { .. }, Cancellation::Abandon) => {
                self.tell_cancelled(out);
                Then::Stays
            }
            (
                State::CancelAsked | State::Canceling,
                Cancellation::TryCancel | Cancellation::WaitCancellationCompleted | Cancellation::Abandon,
            ) => Then::Stays,
        }
    }

    fn ask_cancel(&mut self, scheduled: EventId, out: &mut Out<'_>) {
        out.ask(Kind::CancelActivity, Ask::CancelActivity { scheduled }, self.extras.take());
        self.state = State::CancelAsked;
    }

    /// What a task did is recorded before what happens after it: this history was made with code that did not cancel it.
    fn not_cancelled(&self, id: EventId, event: &Event) -> Fault {
        let what = match event {
            Event::Scheduled => "SCHEDULED",
            Event::Started => "STARTED",
            Event::CancelRequested => "CANCEL_REQUESTED",
            Event::Completed { .. } => "COMPLETED",
            Event::Failed(_) => "FAILED",
            Event::TimedOut(_) => "TIMED_OUT",
            Event::Canceled(_) => "CANCELED",
        };
        let activity = String::from_utf8_lossy(self.names.id());
        let recorded = format!("ACTIVITY_TASK_{what} of activity {activity:?}");
        Fault::mismatch(id, recorded, Some(Kind::CancelActivity.words().to_owned()), Vec::new())
    }

    fn tell_cancelled(&mut self, out: &mut Out<'_>) {
        let wrap = ActivityWrap { retry_state: retry_state::CANCEL_REQUESTED, ..self.wrap() };
        let failure = failure::activity("Activity cancelled", Some(failure::cancelled("", None)), wrap);
        self.tell(Status::Cancelled(Failed { failure: Some(failure) }), out);
    }

    fn failed(&mut self, e: h::ActivityTaskFailedEventAttributes, out: &mut Out<'_>) -> Then {
        let wrap = ActivityWrap {
            scheduled: e.scheduled_event_id,
            started: e.started_event_id,
            identity: e.identity,
            retry_state: e.retry_state,
            ..self.wrap()
        };
        let failure = failure::activity("Activity task failed", e.failure, wrap);
        self.tell(Status::Failed(Failed { failure: Some(failure) }), out);
        Then::Ends
    }

    fn timed_out(&mut self, e: h::ActivityTaskTimedOutEventAttributes, out: &mut Out<'_>) -> Then {
        let wrap = ActivityWrap {
            scheduled: e.scheduled_event_id,
            started: e.started_event_id,
            retry_state: e.retry_state,
            ..self.wrap()
        };
        let failure = failure::activity("Activity task timed out", e.failure, wrap);
        self.tell(Status::Failed(Failed { failure: Some(failure) }), out);
        Then::Ends
    }

    fn canceled(&mut self, e: h::ActivityTaskCanceledEventAttributes, out: &mut Out<'_>) -> Then {
        let wrap = ActivityWrap {
            scheduled: e.scheduled_event_id,
            started: e.started_event_id,
            identity: e.identity,
            retry_state: retry_state::CANCEL_REQUESTED,
            ..self.wrap()
        };
        let failure = failure::activity("Activity cancelled", Some(failure::cancelled("", e.details)), wrap);
        self.tell(Status::Cancelled(Failed { failure: Some(failure) }), out);
        Then::Ends
    }

    fn wrap(&self) -> ActivityWrap<'_> {
        ActivityWrap {
            id: self.names.id(),
            kind: self.names.kind(),
            identity: Bytes::new(),
            ..ActivityWrap::default()
        }
    }

    fn tell(&mut self, status: Status, out: &mut Out<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            let result = Some(ActivityResolution { status: Some(status) });
            out.job(Variant::ResolveActivity(ResolveActivity { seq: self.seq, result, is_local: false }));
        }
    }
}
