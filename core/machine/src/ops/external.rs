//! A signal to, or a cancellation of, another workflow. Both have the same life: asked for, recorded, answered.

use outlast_proto::lens::lang::{
    ResolveRequestCancelExternalWorkflow, ResolveSignalExternalWorkflow, workflow_activation_job::Variant,
};

use super::{Out, Then, unexpected};
use crate::event::EventId;
use crate::failure;
use crate::fault::Fault;
use crate::queue::Place;

#[derive(Debug)]
pub(crate) struct External {
    /// `None`: the core asked for it itself, the language hears nothing of it.
    pub seq: Option<u32>,
    pub state: State,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history, not yet answered.
    Initiated,
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Signal,
    Cancel,
}

/// What history says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Initiated,
    Done,
    /// `temporal.api.enums.v1.{Signal,Cancel}ExternalWorkflowExecutionFailedCause`.
    Failed {
        cause: i32,
    },
}

impl External {
    pub fn on(
        &mut self,
        id: EventId,
        event: Event,
        purpose: Purpose,
        out: &mut Out<'_>,
    ) -> Result<Then, Fault> {
        match (self.state, event) {
            (State::Asked(_), Event::Initiated) => {
                self.state = State::Initiated;
                Ok(Then::Stays)
            }
            (State::Initiated, Event::Done) => {
                self.tell(purpose, None, 0, out);
                Ok(Then::Ends)
            }
            (State::Initiated, Event::Failed { cause }) => {
                self.tell(purpose, Some(failed(purpose, cause)), cause, out);
                Ok(Then::Ends)
            }
            (State::Asked(_), Event::Done | Event::Failed { .. }) | (State::Initiated, Event::Initiated) => {
                Err(unexpected(id, "an event of a signal to or cancellation of a workflow", &self.state))
            }
        }
    }

    /// The language takes a signal back: possible until it is sent.
    pub fn cancel(&mut self, out: &mut Out<'_>) -> Then {
        match self.state {
            State::Asked(place) => {
                out.retract(place);
                let failure = failure::cancelled("Signal was cancelled before being sent", None);
                self.tell(Purpose::Signal, Some(failure), 0, out);
                Then::Ends
            }
            State::Initiated => Then::Stays,
        }
    }

    fn tell(&self, purpose: Purpose, failure: Option<bytes::Bytes>, cause: i32, out: &mut Out<'_>) {
        let Some(seq) = self.seq else { return };
        out.job(match purpose {
            Purpose::Signal => {
                Variant::ResolveSignalExternalWorkflow(ResolveSignalExternalWorkflow { seq, failure, cause })
            }
            Purpose::Cancel => {
                Variant::ResolveRequestCancelExternalWorkflow(ResolveRequestCancelExternalWorkflow {
                    seq,
                    failure,
                    cause,
                })
            }
        });
    }
}

fn failed(purpose: Purpose, cause: i32) -> bytes::Bytes {
    let (verb, not_found) = match purpose {
        Purpose::Signal => ("signal", "it was not found"),
        Purpose::Cancel => ("cancel", "not found"),
    };
    let (why, kind) = match cause {
        1 => (not_found, "ExternalWorkflowExecutionNotFound"),
        2 => ("the namespace was not found", "NamespaceNotFound"),
        3 => ("it has received too many signals", "SignalCountLimitExceeded"),
        _ => ("of an unknown error", ""),
    };
    failure::application(&format!("Unable to {verb} external workflow because {why}"), kind)
}
