//! A Nexus operation. The language hears of its start once and of its result once, whatever history says after that.

use bytes::Bytes;
use outlast_proto::lens::api::NexusOperationFailureInfo;
use outlast_proto::lens::lang::{
    NexusOperationCancellationType as Cancellation, NexusOperationResult, ResolveNexusOperation,
    ResolveNexusOperationStart, nexus_operation_result::Status as Result_,
    resolve_nexus_operation_start::Status as Start, workflow_activation_job::Variant,
};

use super::{Out, Then, unexpected};
use crate::event::EventId;
use crate::failure;
use crate::fault::Fault;
use crate::queue::{Ask, Extras, Kind, Place};

#[derive(Debug)]
pub(crate) struct Nexus {
    pub seq: u32,
    pub endpoint: Bytes,
    pub service: Bytes,
    pub operation: Bytes,
    pub cancellation: Cancellation,
    pub state: State,
    pub cancel: Cancel,
    /// The language knows whether it started.
    pub start_told: bool,
    /// The language has its result.
    pub told: bool,
    /// It is over at its handler: only the answer to its cancellation is missing.
    pub over: bool,
    /// What a cancellation inherits.
    pub extras: Option<Box<Extras>>,
}

#[derive(Debug)]
pub(crate) enum State {
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history, not yet started.
    Scheduled { scheduled: EventId },
    /// Started, with the token that names it at its handler.
    Started { scheduled: EventId, token: Bytes },
}

/// How far its cancellation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    No,
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history.
    Requested,
    /// Answered.
    Over,
}

/// What history says of it.
#[derive(Debug)]
pub(crate) enum Event {
    Scheduled,
    Started { token: Bytes },
    Completed { result: Option<Bytes> },
    Failed { failure: Option<Bytes> },
    Canceled { failure: Option<Bytes> },
    TimedOut { failure: Option<Bytes> },
    CancelRequested,
    CancelRequestCompleted,
    CancelRequestFailed { failure: Option<Bytes> },
}

impl Nexus {
    pub fn on(&mut self, id: EventId, event: Event, out: &mut Out<'_>) -> Result<Then, Fault> {
        match (&self.state, event) {
            (State::Asked(_), Event::Scheduled) => {
                self.state = State::Scheduled { scheduled: id };
                Ok(Then::Stays)
            }
            (State::Scheduled { scheduled }, Event::Started { token }) => {
                self.state = State::Started { scheduled: *scheduled, token: Bytes::copy_from_slice(&token) };
                self.tell_start(Start::OperationToken(token), out);
                Ok(Then::Stays)
            }
            (State::Scheduled { .. }, Event::Completed { result }) => {
                self.tell_start(Start::StartedSync(true), out);
                self.tell(Result_::Completed(result.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (
                State::Scheduled { .. },
                Event::Failed { failure } | Event::Canceled { failure } | Event::TimedOut { failure },
            ) => {
                self.tell_start(Start::Failed(failure.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (State::Started { .. }, Event::Completed { result }) => {
                self.tell(Result_::Completed(result.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (State::Started { .. }, Event::Failed { failure }) => {
                self.tell(Result_::Failed(failure.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (State::Started { .. }, Event::Canceled { failure }) => {
                self.tell(Result_::Cancelled(failure.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (State::Started { .. }, Event::TimedOut { failure }) => {
                self.tell(Result_::TimedOut(failure.unwrap_or_default()), out);
                Ok(self.ends(out))
            }
            (
                State::Scheduled { .. } | State::Started { .. },
                event @ (Event::CancelRequested
                | Event::CancelRequestCompleted
                | Event::CancelRequestFailed { .. }),
            ) => self.on_cancel(id, event, out),
            (
                State::Asked(_),
                Event::Started { .. }
                | Event::Completed { .. }
                | Event::Failed { .. }
                | Event::Canceled { .. }
                | Event::TimedOut { .. }
                | Event::CancelRequested
                | Event::CancelRequestCompleted
                | Event::CancelRequestFailed { .. },
            )
            | (State::Scheduled { .. }, Event::Scheduled)
            | (State::Started { .. }, Event::Scheduled | Event::Started { .. }) => {
                Err(unexpected(id, "a Nexus operation's event", &self.state))
            }
        }
    }

    fn on_cancel(&mut self, id: EventId, event: Event, out: &mut Out<'_>) -> Result<Then, Fault> {
        match (self.cancel, event) {
            (Cancel::Asked(_), Event::CancelRequested) => {
                self.cancel = Cancel::Requested;
                Ok(Then::Stays)
            }
            (Cancel::Requested, Event::CancelRequestCompleted) => {
                self.cancel = Cancel::Over;
                if self.cancellation == Cancellation::NexusWaitCancellationRequested {
                    self.tell_cancelled(out);
                }
                Ok(if self.over { Then::Ends } else { Then::Stays })
            }
            (Cancel::Requested, Event::CancelRequestFailed { failure }) => {
                self.cancel = Cancel::Over;
                if self.cancellation == Cancellation::NexusWaitCancellationRequested {
                    self.tell_failed(failure, out);
                }
                Ok(if self.over { Then::Ends } else { Then::Stays })
            }
            (cancel, _) => Err(unexpected(id, "an event of a Nexus operation's cancellation", &cancel)),
        }
    }

    /// The language wants it cancelled, in the way it chose when it asked for it.
    pub fn cancel(&mut self, out: &mut Out<'_>) -> Then {
        let scheduled = match &self.state {
            State::Asked(place) => {
                out.retract(*place);
                let failure = failure::nexus(
                    "Nexus Operation cancelled before scheduled",
                    Some(failure::cancelled("", None)),
                    self.info(),
                );
                self.tell_start(Start::Failed(failure), out);
                return Then::Ends;
            }
            State::Scheduled { scheduled } | State::Started { scheduled, .. } => *scheduled,
        };
        if self.cancel != Cancel::No || self.told {
            return Then::Stays;
        }
        if self.cancellation != Cancellation::NexusAbandon {
            let ask = Ask::CancelNexus { scheduled };
            self.cancel = Cancel::Asked(out.ask(Kind::CancelNexus, ask, self.extras.take()));
        }
        match self.cancellation {
            Cancellation::NexusAbandon | Cancellation::NexusTryCancel => self.tell_cancelled(out),
            Cancellation::NexusWaitCancellationCompleted | Cancellation::NexusWaitCancellationRequested => {}
        }
        Then::Stays
    }

    /// It is over at its handler. An answer to its cancellation may still come: then it must be known.
    fn ends(&mut self, out: &mut Out<'_>) -> Then {
        match self.cancel {
            Cancel::Asked(place) => {
                out.retract(place);
                Then::Ends
            }
            Cancel::Requested => {
                self.over = true;
                Then::Stays
            }
            Cancel::No | Cancel::Over => Then::Ends,
        }
    }

    fn tell_cancelled(&mut self, out: &mut Out<'_>) {
        let cause = Some(failure::cancelled("", None));
        if self.start_told {
            let failure = failure::nexus("Nexus operation cancelled after starting", cause, self.info());
            self.tell(Result_::Cancelled(failure), out);
        } else {
            let failure = failure::nexus("Nexus operation cancelled before it started", cause, self.info());
            self.tell_start(Start::Failed(failure), out);
        }
    }

    fn tell_failed(&mut self, cause: Option<Bytes>, out: &mut Out<'_>) {
        let failure = failure::nexus("Nexus operation cancellation request failed", cause, self.info());
        if self.start_told {
            self.tell(Result_::Failed(failure), out);
        } else {
            self.tell_start(Start::Failed(failure), out);
        }
    }

    /// A start that failed is the result too: none follows it.
    fn tell_start(&mut self, status: Start, out: &mut Out<'_>) {
        if self.told || std::mem::replace(&mut self.start_told, true) {
            return;
        }
        self.told = matches!(status, Start::Failed(_));
        let job = ResolveNexusOperationStart { seq: self.seq, status: Some(status) };
        out.job(Variant::ResolveNexusOperationStart(job));
    }

    fn tell(&mut self, status: Result_, out: &mut Out<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            let result = Some(NexusOperationResult { status: Some(status) });
            out.job(Variant::ResolveNexusOperation(ResolveNexusOperation { seq: self.seq, result }));
        }
    }

    fn info(&self) -> NexusOperationFailureInfo {
        let (scheduled, token) = match &self.state {
            State::Asked(_) => (0, Bytes::new()),
            State::Scheduled { scheduled } => (scheduled.0, Bytes::new()),
            State::Started { scheduled, token } => (scheduled.0, token.clone()),
        };
        NexusOperationFailureInfo {
            scheduled_event_id: scheduled,
            endpoint: self.endpoint.clone(),
            service: self.service.clone(),
            operation: self.operation.clone(),
            operation_id: Bytes::new(),
            operation_token: token,
        }
    }
}
