//! A child workflow. The language hears of its start, and then of its result; if it gives the child up between the two,
//! only of the result.

use bytes::Bytes;
use outlast_proto::lens::api::{self, ChildWorkflowExecutionFailureInfo};
use outlast_proto::lens::history as h;
use outlast_proto::lens::lang::{
    ChildWorkflowCancellationType as Cancellation, ChildWorkflowResult, Failed,
    ResolveChildWorkflowExecution, ResolveChildWorkflowExecutionStart,
    ResolveChildWorkflowExecutionStartCancelled, ResolveChildWorkflowExecutionStartFailure,
    ResolveChildWorkflowExecutionStartSuccess, Success, child_workflow_result::Status,
    resolve_child_workflow_execution_start::Status as Start, workflow_activation_job::Variant,
};
use prost::Message;

use super::{Names, Out, Then, unexpected};
use crate::event::EventId;
use crate::failure::{self, first_payload, retry_state};
use crate::fault::Fault;
use crate::queue::{Extras, Place};

#[derive(Debug)]
pub(crate) struct Child {
    pub seq: u32,
    /// Its workflow id and type.
    pub names: Names,
    pub namespace: Bytes,
    pub cancellation: Cancellation,
    pub state: State,
    /// The language has its result.
    pub told: bool,
    /// What a cancellation inherits.
    pub extras: Option<Box<Extras>>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Asked for, not yet in history.
    Asked(Place),
    /// In history, not yet started.
    Initiated { initiated: EventId },
    /// Started.
    Started { initiated: EventId, started: EventId, run_id: Bytes },
}

/// What history says of a child.
#[derive(Debug)]
pub(crate) enum Event {
    Initiated,
    Started(h::ChildWorkflowExecutionStartedEventAttributes),
    StartFailed(h::StartChildWorkflowExecutionFailedEventAttributes),
    Completed(h::ChildWorkflowExecutionCompletedEventAttributes),
    Failed(h::ChildWorkflowExecutionFailedEventAttributes),
    Canceled,
    TimedOut(h::ChildWorkflowExecutionTimedOutEventAttributes),
    Terminated,
}

/// What the cancellation of a child asks of its workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Ask {
    Nothing,
    CancelRequest,
}

impl Child {
    pub fn on(&mut self, id: EventId, event: Event, out: &mut Out<'_>) -> Result<Then, Fault> {
        match (&self.state, event) {
            (State::Asked(_), Event::Initiated) => {
                self.state = State::Initiated { initiated: id };
                Ok(Then::Stays)
            }
            (State::Initiated { initiated }, Event::Started(e)) => {
                self.started(*initiated, id, e, out);
                Ok(Then::Stays)
            }
            (State::Initiated { .. }, Event::StartFailed(e)) => {
                self.start_failed(e, out);
                Ok(Then::Ends)
            }
            (State::Started { .. }, Event::Completed(e)) => {
                self.tell(Status::Completed(Success { result: first_payload(e.result) }), out);
                Ok(Then::Ends)
            }
            (State::Started { .. }, Event::Failed(e)) => {
                self.failed(
                    "Child Workflow execution failed",
                    e.failure.unwrap_or_default(),
                    e.retry_state,
                    out,
                );
                Ok(Then::Ends)
            }
            (State::Started { .. }, Event::Canceled) => {
                self.tell_cancelled(out);
                Ok(Then::Ends)
            }
            (State::Started { .. }, Event::TimedOut(e)) => {
                let cause = failure::timed_out("Timed out", failure::timeout_type::START_TO_CLOSE);
                self.failed("Child Workflow execution timed out", cause, e.retry_state, out);
                Ok(Then::Ends)
            }
            (State::Started { .. }, Event::Terminated) => {
                let state = retry_state::NON_RETRYABLE_FAILURE;
                self.failed("Child Workflow execution terminated", failure::terminated(), state, out);
                Ok(Then::Ends)
            }
            (
                State::Asked(_) | State::Initiated { .. },
                Event::Completed(_)
                | Event::Failed(_)
                | Event::Canceled
                | Event::TimedOut(_)
                | Event::Terminated,
            )
            | (State::Asked(_), Event::Started(_) | Event::StartFailed(_))
            | (State::Initiated { .. }, Event::Initiated)
            | (State::Started { .. }, Event::Initiated | Event::Started(_) | Event::StartFailed(_)) => {
                Err(unexpected(id, "a child workflow's event", &self.state))
            }
        }
    }

    /// The language wants it cancelled, in the way it chose when it asked for it.
    pub fn cancel(&mut self, reason: &str, out: &mut Out<'_>) -> (Then, Ask) {
        if let State::Asked(place) = self.state {
            out.retract(place);
            let message = format!("Child Workflow Execution cancelled before scheduled: {reason}");
            let cause = Some(failure::cancelled("", None));
            let failure =
                Some(failure::child(&message, cause, self.info(retry_state::NON_RETRYABLE_FAILURE)));
            let cancelled = ResolveChildWorkflowExecutionStartCancelled { failure };
            self.tell_start(Start::Cancelled(cancelled), out);
            return (Then::Ends, Ask::Nothing);
        }
        if self.told {
            return (Then::Stays, Ask::Nothing);
        }
        match self.cancellation {
            Cancellation::ChildAbandon => {
                self.tell_cancelled(out);
                (Then::Stays, Ask::Nothing)
            }
            Cancellation::ChildTryCancel => {
                self.tell_cancelled(out);
                (Then::Stays, Ask::CancelRequest)
            }
            // Also the latter hears of it from the child itself, and both ask as often as the code does: that is what
            // histories were made with.
            Cancellation::ChildWaitCancellationCompleted | Cancellation::ChildWaitCancellationRequested => {
                (Then::Stays, Ask::CancelRequest)
            }
        }
    }

    /// The command that cancels it.
    pub fn cancel_command(
        &self,
        reason: String,
    ) -> api::RequestCancelExternalWorkflowExecutionCommandAttributes {
        api::RequestCancelExternalWorkflowExecutionCommandAttributes {
            namespace: self.namespace.clone(),
            workflow_id: Bytes::copy_from_slice(self.names.id()),
            run_id: Bytes::new(),
            child_workflow_only: true,
            reason,
        }
    }

    fn started(
        &mut self,
        initiated: EventId,
        started: EventId,
        e: h::ChildWorkflowExecutionStartedEventAttributes,
        out: &mut Out<'_>,
    ) {
        let run_id = e.workflow_execution.map(|w| w.run_id).unwrap_or_default();
        self.state = State::Started { initiated, started, run_id: Bytes::copy_from_slice(&run_id) };
        if !self.told {
            self.tell_start(Start::Succeeded(ResolveChildWorkflowExecutionStartSuccess { run_id }), out);
        }
    }

    fn start_failed(&self, e: h::StartChildWorkflowExecutionFailedEventAttributes, out: &mut Out<'_>) {
        if !self.told {
            let failure = ResolveChildWorkflowExecutionStartFailure {
                workflow_id: Bytes::copy_from_slice(self.names.id()),
                workflow_type: Bytes::copy_from_slice(self.names.kind()),
                cause: e.cause,
            };
            self.tell_start(Start::Failed(failure), out);
        }
    }

    fn failed(&mut self, message: &str, cause: Bytes, retry_state: i32, out: &mut Out<'_>) {
        let failure = Some(failure::child(message, Some(cause), self.info(retry_state)));
        self.tell(Status::Failed(Failed { failure }), out);
    }

    /// Without the details that a cancelled child may leave: the reference core does not show them, and code must see the
    /// same on workers of either core.
    fn tell_cancelled(&mut self, out: &mut Out<'_>) {
        let info = self.info(retry_state::NON_RETRYABLE_FAILURE);
        let cause = Some(failure::cancelled("", None));
        let failure = Some(failure::child("Child Workflow execution cancelled", cause, info));
        self.tell(Status::Cancelled(Failed { failure }), out);
    }

    fn tell_start(&self, status: Start, out: &mut Out<'_>) {
        let job = ResolveChildWorkflowExecutionStart { seq: self.seq, status: Some(status) };
        out.job(Variant::ResolveChildWorkflowExecutionStart(job));
    }

    fn tell(&mut self, status: Status, out: &mut Out<'_>) {
        if !std::mem::replace(&mut self.told, true) {
            let result = Some(ChildWorkflowResult { status: Some(status) });
            out.job(Variant::ResolveChildWorkflowExecution(ResolveChildWorkflowExecution {
                seq: self.seq,
                result,
            }));
        }
    }

    fn info(&self, retry_state: i32) -> ChildWorkflowExecutionFailureInfo {
        let (initiated, started, run_id) = match &self.state {
            State::Asked(_) => (0, 0, Bytes::new()),
            State::Initiated { initiated } => (initiated.0, 0, Bytes::new()),
            State::Started { initiated, started, run_id } => (initiated.0, started.0, run_id.clone()),
        };
        let execution = h::WorkflowExecution { workflow_id: Bytes::copy_from_slice(self.names.id()), run_id };
        let kind = h::WorkflowType { name: Bytes::copy_from_slice(self.names.kind()) };
        ChildWorkflowExecutionFailureInfo {
            namespace: self.namespace.clone(),
            workflow_execution: Some(execution.encode_to_vec().into()),
            workflow_type: Some(kind.encode_to_vec().into()),
            initiated_event_id: initiated,
            started_event_id: started,
            retry_state,
        }
    }
}
