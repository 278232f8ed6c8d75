//! Commands between the moment the code asks for them and the event that records them. It keeps their order and what
//! they will say; it does not know what follows from them.

use std::collections::VecDeque;

use bytes::Bytes;
use outlast_proto::lens::{api, lang};

use crate::event::EventId;

/// What the code asked for, kept until it is sent or met in history.
#[derive(Debug)]
pub(crate) enum Ask {
    StartTimer(lang::StartTimer),
    CancelTimer(u32),
    ScheduleActivity(Box<lang::ScheduleActivity>),
    CancelActivity {
        scheduled: EventId,
    },
    StartChild(Box<lang::StartChildWorkflowExecution>),
    CancelExternal(Box<api::RequestCancelExternalWorkflowExecutionCommandAttributes>),
    SignalExternal(Box<lang::SignalExternalWorkflowExecution>),
    ScheduleNexus(Box<lang::ScheduleNexusOperation>),
    CancelNexus {
        scheduled: EventId,
    },
    Patch(Box<lang::SetPatchMarker>),
    LocalMarker(Box<api::RecordMarkerCommandAttributes>),
    UpsertSearchAttributes(Option<Bytes>),
    ModifyProperties(Option<Bytes>),
    AcceptUpdate {
        message: Box<str>,
    },
    CompleteUpdate {
        message: Box<str>,
    },
    CompleteWorkflow(lang::CompleteWorkflowExecution),
    FailWorkflow(lang::FailWorkflowExecution),
    CancelWorkflow(lang::CancelWorkflowExecution),
    ContinueAsNew(Box<lang::ContinueAsNewWorkflowExecution>),
    /// It was sent: only its kind still matters.
    Sent,
}

/// The kinds of command, as events record them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    StartTimer,
    CancelTimer,
    ScheduleActivity,
    CancelActivity,
    StartChild,
    CancelExternal,
    SignalExternal,
    ScheduleNexus,
    CancelNexus,
    Patch,
    LocalMarker,
    UpsertSearchAttributes,
    ModifyProperties,
    AcceptUpdate,
    CompleteUpdate,
    CompleteWorkflow,
    FailWorkflow,
    CancelWorkflow,
    ContinueAsNew,
}

impl Kind {
    /// Whether it closes the workflow.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::CompleteWorkflow | Self::FailWorkflow | Self::CancelWorkflow | Self::ContinueAsNew
        )
    }

    /// Whether its event is what later events of its op refer to.
    pub fn begins(self) -> bool {
        matches!(
            self,
            Self::StartTimer
                | Self::ScheduleActivity
                | Self::StartChild
                | Self::CancelExternal
                | Self::SignalExternal
                | Self::ScheduleNexus
        )
    }

    /// For people: what the code asked for.
    pub fn words(self) -> &'static str {
        match self {
            Self::StartTimer => "a timer",
            Self::CancelTimer => "the cancellation of a timer",
            Self::ScheduleActivity => "an activity",
            Self::CancelActivity => "the cancellation of an activity",
            Self::StartChild => "a child workflow",
            Self::CancelExternal => "the cancellation of a workflow",
            Self::SignalExternal => "a signal to a workflow",
            Self::ScheduleNexus => "a Nexus operation",
            Self::CancelNexus => "the cancellation of a Nexus operation",
            Self::Patch => "a patch marker",
            Self::LocalMarker => "the marker of a local activity",
            Self::UpsertSearchAttributes => "an upsert of search attributes",
            Self::ModifyProperties => "an upsert of memo",
            Self::AcceptUpdate => "the acceptance of an update",
            Self::CompleteUpdate => "the completion of an update",
            Self::CompleteWorkflow => "the completion of the workflow",
            Self::FailWorkflow => "the failure of the workflow",
            Self::CancelWorkflow => "the cancellation of this workflow",
            Self::ContinueAsNew => "continue-as-new",
        }
    }
}

/// What goes along with a command to the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub user_metadata: Option<Bytes>,
    pub event_group_markers: Vec<Bytes>,
}

/// A command that was asked for.
#[derive(Debug)]
pub(crate) struct Queued {
    pub kind: Kind,
    /// The op it belongs to; [`NO_OP`] if nothing follows from it.
    pub op: u32,
    pub ask: Ask,
    pub extras: Option<Box<Extras>>,
    retracted: bool,
}

/// The op of commands that end with their event.
pub(crate) const NO_OP: u32 = u32::MAX;

/// A command's place in the queue, as long as it is in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// Commands in the order they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    commands: VecDeque<Queued>,
    /// How many were taken from the front so far.
    taken: u64,
    /// How many, from the front, were sent.
    sent: usize,
}

impl Queue {
    /// Makes room for so many commands.
    pub fn reserve(&mut self, commands: usize) {
        self.commands.reserve(commands);
    }

    /// Appends a command.
    pub fn push(&mut self, kind: Kind, op: u32, ask: Ask, extras: Option<Box<Extras>>) -> Place {
        let place = Place(self.taken + self.commands.len() as u64);
        self.commands.push_back(Queued { kind, op, ask, extras, retracted: false });
        place
    }

    /// Takes a command back: it will be neither sent nor expected in history.
    pub fn retract(&mut self, place: Place) {
        let at = place.0.checked_sub(self.taken).and_then(|at| usize::try_from(at).ok());
        if let Some(queued) = at.and_then(|at| self.commands.get_mut(at)) {
            queued.retracted = true;
            queued.ask = Ask::Sent;
            queued.extras = None;
        }
    }

    /// The command that the next command event must record.
    pub fn front(&mut self) -> Option<&Queued> {
        while self.commands.front().is_some_and(|q| q.retracted) {
            self.pop_front();
        }
        self.commands.front()
    }

    /// Moves the command of this op to the front, if only commands of its kind stand before it.
    pub fn bring_forward(&mut self, kind: Kind, op: u32) {
        let same = self.commands.iter().take_while(|q| q.retracted || q.kind == kind);
        let at = same.enumerate().find(|(_, q)| !q.retracted && q.op == op).map(|(at, _)| at);
        let first = self.commands.iter().position(|q| !q.retracted);
        if let (Some(at), Some(first)) = (at, first) {
            self.commands.swap(first, at);
        }
    }

    /// Takes the front.
    pub fn pop(&mut self) -> Option<Queued> {
        self.front()?;
        self.pop_front()
    }

    fn pop_front(&mut self) -> Option<Queued> {
        let queued = self.commands.pop_front()?;
        self.taken += 1;
        self.sent = self.sent.saturating_sub(1);
        Some(queued)
    }

    /// Hands out, in order, what was not sent yet. It stays queued until its event comes.
    pub fn send(&mut self) -> impl Iterator<Item = (Kind, Ask, Option<Box<Extras>>)> + '_ {
        let from = std::mem::replace(&mut self.sent, self.commands.len());
        self.commands
            .iter_mut()
            .skip(from)
            .filter(|q| !q.retracted)
            .map(|q| (q.kind, std::mem::replace(&mut q.ask, Ask::Sent), q.extras.take()))
    }

    /// Commands that are expected in history, from the front.
    pub fn expected(&self) -> impl Iterator<Item = &Queued> {
        self.commands.iter().filter(|q| !q.retracted)
    }

    /// Memory it holds, without what the asks carry.
    pub fn bytes(&self) -> usize {
        self.commands.capacity() * std::mem::size_of::<Queued>()
    }

    /// Gives back memory that is not used.
    pub fn shrink(&mut self) {
        if self.commands.is_empty() {
            self.commands = VecDeque::new();
        }
    }
}

const _: () = assert!(std::mem::size_of::<Queued>() <= 88);
