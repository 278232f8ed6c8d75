//! What kinds of event there are, and how they fall into turns. It does not know what they do to a workflow.

use bytes::Bytes;
use outlast_proto::Frame;
use prost::Message;
use prost_types::Timestamp;

use crate::fault::Fault;
use crate::wire::{Fields, Value, WireError};

/// An event's number in its history, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// An event as it was found in a page: where its parts lie. They are decoded once, by whom they concern.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: EventId,
    /// `None`: a type that this core does not know, or no attributes.
    pub kind: Option<Type>,
    pub worker_may_ignore: bool,
    /// `temporal.api.enums.v1.EventType`, for people.
    pub event_type: i32,
    time: Span,
    attributes: Span,
    /// The page, if it is no longer the one that is being read.
    page: Option<Bytes>,
}

/// A part of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    from: u32,
    length: u32,
}

const _: () = assert!(std::mem::size_of::<Entry>() <= 72);

/// The keys of `version` and `task_id`: every event has them, nobody here reads them.
const NOT_READ: [u8; 2] = [4 << 3, 5 << 3];

impl Entry {
    /// Opens an encoded `HistoryEvent` that lies in `page`: its id and type. Written by hand, since every event of every
    /// replay passes here; the numbers are those of the lens (`outlast.history.HistoryEvent`).
    #[inline]
    pub fn open(page: &[u8], event: &[u8]) -> Result<Self, WireError> {
        let mut opened = Self {
            id: EventId(0),
            kind: None,
            worker_may_ignore: false,
            event_type: 0,
            time: Span::default(),
            attributes: Span::default(),
            page: None,
        };
        let mut fields = Fields::new(event);
        loop {
            fields.pass(NOT_READ);
            let Some((tag, value)) = fields.next()? else { return Ok(opened) };
            match (tag, value) {
                (1, Value::Number(id)) => opened.id = EventId(id as i64),
                (2, Value::Bytes(time)) => opened.time = Span::of(page, time),
                (3, Value::Number(number)) => opened.event_type = number as i32,
                (300, Value::Number(flag)) => opened.worker_may_ignore = flag != 0,
                (FIRST..=LAST, Value::Bytes(attributes)) => {
                    opened.kind = Type::of(tag);
                    opened.attributes = Span::of(page, attributes);
                }
                (_, Value::Number(_) | Value::Bytes(_) | Value::Other) => {}
            }
        }
    }

    /// The event, given the page that is being read.
    pub fn event<'a>(&'a self, page: &'a Bytes) -> Event<'a> {
        Event { entry: self, page: self.page.as_ref().unwrap_or(page) }
    }

    /// Another page is about to be read: it keeps its own.
    pub fn keep(&mut self, page: &Bytes) {
        self.page.get_or_insert_with(|| page.clone());
    }

    /// The part it plays.
    pub fn part(&self) -> Part {
        self.kind.map_or(Part::Seen, Type::part)
    }
}

impl Span {
    /// Where `part` lies in `page`. Pages are shorter than 4 GiB: the transport's limit is far below.
    fn of(page: &[u8], part: &[u8]) -> Self {
        let from = part.as_ptr() as usize - page.as_ptr() as usize;
        Self { from: from as u32, length: part.len() as u32 }
    }

    fn get(self, page: &[u8]) -> &[u8] {
        let from = self.from as usize;
        page.get(from..from + self.length as usize).unwrap_or_default()
    }
}

/// An event in its page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    entry: &'a Entry,
    page: &'a Bytes,
}

impl std::ops::Deref for Event<'_> {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.entry
    }
}

impl<'a> Event<'a> {
    /// When it happened.
    pub fn time(&self) -> Option<Timestamp> {
        let time = self.entry.time.get(self.page);
        (!time.is_empty()).then(|| timestamp(time).unwrap_or_default())
    }

    /// Its attributes. The caller names the lens message of the event's kind.
    pub fn attributes<M: Message + Default>(&self) -> Result<M, Fault> {
        let attributes = self.entry.attributes.get(self.page);
        M::decode(Frame::within(self.page, attributes)).map_err(|e| self.unreadable(&e))
    }

    /// A number among its attributes.
    pub fn number(&self, tag: u32) -> Result<i64, Fault> {
        let mut found = 0;
        self.fields(|at, value| {
            if at == tag {
                found = value.number() as i64;
            }
        })?;
        Ok(found)
    }

    /// Its attributes, field by field.
    #[inline]
    pub fn fields(&self, mut field: impl FnMut(u32, Value<'a>)) -> Result<(), Fault> {
        let mut fields = Fields::new(self.entry.attributes.get(self.page));
        while let Some((tag, value)) = fields.next().map_err(|e| self.unreadable(&e))? {
            field(tag, value);
        }
        Ok(())
    }

    /// A part of its attributes, as a slice of the page.
    pub fn slice(&self, part: &[u8]) -> Bytes {
        self.page.slice_ref(part)
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Fault {
        Fault::malformed(
            self.entry.id,
            &format!("its attributes cannot be decoded ({error}); fetch the history again"),
        )
    }
}

fn timestamp(encoded: &[u8]) -> Result<Timestamp, WireError> {
    let mut time = Timestamp::default();
    let mut fields = Fields::new(encoded);
    while let Some((tag, value)) = fields.next()? {
        match tag {
            1 => time.seconds = value.number() as i64,
            2 => time.nanos = value.number() as i32,
            _ => {}
        }
    }
    Ok(time)
}

/// A kind of event: the number of its attributes in `HistoryEvent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Type {
    WorkflowExecutionStarted = 6,
    WorkflowExecutionCompleted = 7,
    WorkflowExecutionFailed = 8,
    WorkflowExecutionTimedOut = 9,
    WorkflowTaskScheduled = 10,
    WorkflowTaskStarted = 11,
    WorkflowTaskCompleted = 12,
    WorkflowTaskTimedOut = 13,
    WorkflowTaskFailed = 14,
    ActivityTaskScheduled = 15,
    ActivityTaskStarted = 16,
    ActivityTaskCompleted = 17,
    ActivityTaskFailed = 18,
    ActivityTaskTimedOut = 19,
    TimerStarted = 20,
    TimerFired = 21,
    ActivityTaskCancelRequested = 22,
    ActivityTaskCanceled = 23,
    TimerCanceled = 24,
    MarkerRecorded = 25,
    WorkflowExecutionSignaled = 26,
    WorkflowExecutionTerminated = 27,
    WorkflowExecutionCancelRequested = 28,
    WorkflowExecutionCanceled = 29,
    RequestCancelExternalWorkflowExecutionInitiated = 30,
    RequestCancelExternalWorkflowExecutionFailed = 31,
    ExternalWorkflowExecutionCancelRequested = 32,
    WorkflowExecutionContinuedAsNew = 33,
    StartChildWorkflowExecutionInitiated = 34,
    StartChildWorkflowExecutionFailed = 35,
    ChildWorkflowExecutionStarted = 36,
    ChildWorkflowExecutionCompleted = 37,
    ChildWorkflowExecutionFailed = 38,
    ChildWorkflowExecutionCanceled = 39,
    ChildWorkflowExecutionTimedOut = 40,
    ChildWorkflowExecutionTerminated = 41,
    SignalExternalWorkflowExecutionInitiated = 42,
    SignalExternalWorkflowExecutionFailed = 43,
    ExternalWorkflowExecutionSignaled = 44,
    UpsertWorkflowSearchAttributes = 45,
    WorkflowExecutionUpdateAccepted = 46,
    WorkflowExecutionUpdateRejected = 47,
    WorkflowExecutionUpdateCompleted = 48,
    WorkflowPropertiesModifiedExternally = 49,
    ActivityPropertiesModifiedExternally = 50,
    WorkflowPropertiesModified = 51,
    WorkflowExecutionUpdateAdmitted = 52,
    NexusOperationScheduled = 53,
    NexusOperationStarted = 54,
    NexusOperationCompleted = 55,
    NexusOperationFailed = 56,
    NexusOperationCanceled = 57,
    NexusOperationTimedOut = 58,
    NexusOperationCancelRequested = 59,
    WorkflowExecutionOptionsUpdated = 60,
    NexusOperationCancelRequestCompleted = 61,
    NexusOperationCancelRequestFailed = 62,
    WorkflowExecutionPaused = 63,
    WorkflowExecutionUnpaused = 64,
    WorkflowExecutionTimeSkippingTransitioned = 65,
}

const FIRST: u32 = 6;
const LAST: u32 = 65;

impl Type {
    fn of(tag: u32) -> Option<Self> {
        Some(match tag {
            6 => Self::WorkflowExecutionStarted,
            7 => Self::WorkflowExecutionCompleted,
            8 => Self::WorkflowExecutionFailed,
            9 => Self::WorkflowExecutionTimedOut,
            10 => Self::WorkflowTaskScheduled,
            11 => Self::WorkflowTaskStarted,
            12 => Self::WorkflowTaskCompleted,
            13 => Self::WorkflowTaskTimedOut,
            14 => Self::WorkflowTaskFailed,
            15 => Self::ActivityTaskScheduled,
            16 => Self::ActivityTaskStarted,
            17 => Self::ActivityTaskCompleted,
            18 => Self::ActivityTaskFailed,
            19 => Self::ActivityTaskTimedOut,
            20 => Self::TimerStarted,
            21 => Self::TimerFired,
            22 => Self::ActivityTaskCancelRequested,
            23 => Self::ActivityTaskCanceled,
            24 => Self::TimerCanceled,
            25 => Self::MarkerRecorded,
            26 => Self::WorkflowExecutionSignaled,
            27 => Self::WorkflowExecutionTerminated,
            28 => Self::WorkflowExecutionCancelRequested,
            29 => Self::WorkflowExecutionCanceled,
            30 => Self::RequestCancelExternalWorkflowExecutionInitiated,
            31 => Self::RequestCancelExternalWorkflowExecutionFailed,
            32 => Self::ExternalWorkflowExecutionCancelRequested,
            33 => Self::WorkflowExecutionContinuedAsNew,
            34 => Self::StartChildWorkflowExecutionInitiated,
            35 => Self::StartChildWorkflowExecutionFailed,
            36 => Self::ChildWorkflowExecutionStarted,
            37 => Self::ChildWorkflowExecutionCompleted,
            38 => Self::ChildWorkflowExecutionFailed,
            39 => Self::ChildWorkflowExecutionCanceled,
            40 => Self::ChildWorkflowExecutionTimedOut,
            41 => Self::ChildWorkflowExecutionTerminated,
            42 => Self::SignalExternalWorkflowExecutionInitiated,
            43 => Self::SignalExternalWorkflowExecutionFailed,
            44 => Self::ExternalWorkflowExecutionSignaled,
            45 => Self::UpsertWorkflowSearchAttributes,
            46 => Self::WorkflowExecutionUpdateAccepted,
            47 => Self::WorkflowExecutionUpdateRejected,
            48 => Self::WorkflowExecutionUpdateCompleted,
            49 => Self::WorkflowPropertiesModifiedExternally,
            50 => Self::ActivityPropertiesModifiedExternally,
            51 => Self::WorkflowPropertiesModified,
            52 => Self::WorkflowExecutionUpdateAdmitted,
            53 => Self::NexusOperationScheduled,
            54 => Self::NexusOperationStarted,
            55 => Self::NexusOperationCompleted,
            56 => Self::NexusOperationFailed,
            57 => Self::NexusOperationCanceled,
            58 => Self::NexusOperationTimedOut,
            59 => Self::NexusOperationCancelRequested,
            60 => Self::WorkflowExecutionOptionsUpdated,
            61 => Self::NexusOperationCancelRequestCompleted,
            62 => Self::NexusOperationCancelRequestFailed,
            63 => Self::WorkflowExecutionPaused,
            64 => Self::WorkflowExecutionUnpaused,
            65 => Self::WorkflowExecutionTimeSkippingTransitioned,
            _ => return None,
        })
    }

    fn part(self) -> Part {
        match self {
            Self::WorkflowTaskStarted => Part::TaskStarted,
            Self::WorkflowTaskCompleted => Part::TaskCompleted,
            Self::WorkflowTaskTimedOut | Self::WorkflowTaskFailed => Part::TaskLost,
            Self::ActivityTaskScheduled
            | Self::ActivityTaskCancelRequested
            | Self::TimerStarted
            | Self::TimerCanceled
            | Self::MarkerRecorded
            | Self::RequestCancelExternalWorkflowExecutionInitiated
            | Self::SignalExternalWorkflowExecutionInitiated
            | Self::StartChildWorkflowExecutionInitiated
            | Self::UpsertWorkflowSearchAttributes
            | Self::WorkflowPropertiesModified
            | Self::NexusOperationScheduled
            | Self::NexusOperationCancelRequested
            | Self::WorkflowExecutionUpdateAccepted
            | Self::WorkflowExecutionUpdateRejected
            | Self::WorkflowExecutionUpdateCompleted
            | Self::WorkflowExecutionCompleted
            | Self::WorkflowExecutionFailed
            | Self::WorkflowExecutionCanceled
            | Self::WorkflowExecutionContinuedAsNew => Part::Command,
            Self::WorkflowExecutionStarted
            | Self::WorkflowExecutionTimedOut
            | Self::WorkflowExecutionTerminated
            | Self::WorkflowExecutionSignaled
            | Self::WorkflowExecutionCancelRequested
            | Self::WorkflowExecutionUpdateAdmitted
            | Self::WorkflowExecutionOptionsUpdated
            | Self::WorkflowExecutionPaused
            | Self::WorkflowExecutionUnpaused
            | Self::WorkflowExecutionTimeSkippingTransitioned
            | Self::WorkflowPropertiesModifiedExternally
            | Self::ActivityPropertiesModifiedExternally
            | Self::WorkflowTaskScheduled
            | Self::ActivityTaskStarted
            | Self::ActivityTaskCompleted
            | Self::ActivityTaskFailed
            | Self::ActivityTaskTimedOut
            | Self::ActivityTaskCanceled
            | Self::TimerFired
            | Self::RequestCancelExternalWorkflowExecutionFailed
            | Self::ExternalWorkflowExecutionCancelRequested
            | Self::SignalExternalWorkflowExecutionFailed
            | Self::ExternalWorkflowExecutionSignaled
            | Self::StartChildWorkflowExecutionFailed
            | Self::ChildWorkflowExecutionStarted
            | Self::ChildWorkflowExecutionCompleted
            | Self::ChildWorkflowExecutionFailed
            | Self::ChildWorkflowExecutionCanceled
            | Self::ChildWorkflowExecutionTimedOut
            | Self::ChildWorkflowExecutionTerminated
            | Self::NexusOperationStarted
            | Self::NexusOperationCompleted
            | Self::NexusOperationFailed
            | Self::NexusOperationCanceled
            | Self::NexusOperationTimedOut
            | Self::NexusOperationCancelRequestCompleted
            | Self::NexusOperationCancelRequestFailed => Part::Seen,
        }
    }
}

/// An event's part in the grammar of a history: `seen… TaskStarted | TaskCompleted commands… | seen…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Something that happened to the workflow, or around it.
    Seen,
    /// A worker took the task.
    TaskStarted,
    /// A worker answered the task.
    TaskCompleted,
    /// The task came to nothing.
    TaskLost,
    /// What a workflow did in the task completed before.
    Command,
}

/// The name of an event type, as the API spells it without its prefix: `TIMER_STARTED`.
pub(crate) fn type_name(event_type: i32) -> String {
    usize::try_from(event_type)
        .ok()
        .and_then(|n| TYPE_NAMES.get(n).copied())
        .map_or_else(|| format!("event type {event_type}"), str::to_owned)
}

/// Indexed by `temporal.api.enums.v1.EventType`; a test holds it to the descriptors.
const TYPE_NAMES: [&str; 61] = [
    "UNSPECIFIED",
    "WORKFLOW_EXECUTION_STARTED",
    "WORKFLOW_EXECUTION_COMPLETED",
    "WORKFLOW_EXECUTION_FAILED",
    "WORKFLOW_EXECUTION_TIMED_OUT",
    "WORKFLOW_TASK_SCHEDULED",
    "WORKFLOW_TASK_STARTED",
    "WORKFLOW_TASK_COMPLETED",
    "WORKFLOW_TASK_TIMED_OUT",
    "WORKFLOW_TASK_FAILED",
    "ACTIVITY_TASK_SCHEDULED",
    "ACTIVITY_TASK_STARTED",
    "ACTIVITY_TASK_COMPLETED",
    "ACTIVITY_TASK_FAILED",
    "ACTIVITY_TASK_TIMED_OUT",
    "ACTIVITY_TASK_CANCEL_REQUESTED",
    "ACTIVITY_TASK_CANCELED",
    "TIMER_STARTED",
    "TIMER_FIRED",
    "TIMER_CANCELED",
    "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
    "WORKFLOW_EXECUTION_CANCELED",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
    "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
    "MARKER_RECORDED",
    "WORKFLOW_EXECUTION_SIGNALED",
    "WORKFLOW_EXECUTION_TERMINATED",
    "WORKFLOW_EXECUTION_CONTINUED_AS_NEW",
    "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
    "START_CHILD_WORKFLOW_EXECUTION_FAILED",
    "CHILD_WORKFLOW_EXECUTION_STARTED",
    "CHILD_WORKFLOW_EXECUTION_COMPLETED",
    "CHILD_WORKFLOW_EXECUTION_FAILED",
    "CHILD_WORKFLOW_EXECUTION_CANCELED",
    "CHILD_WORKFLOW_EXECUTION_TIMED_OUT",
    "CHILD_WORKFLOW_EXECUTION_TERMINATED",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED",
    "EXTERNAL_WORKFLOW_EXECUTION_SIGNALED",
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
    "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
    "WORKFLOW_EXECUTION_UPDATE_REJECTED",
    "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
    "WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY",
    "ACTIVITY_PROPERTIES_MODIFIED_EXTERNALLY",
    "WORKFLOW_PROPERTIES_MODIFIED",
    "WORKFLOW_EXECUTION_UPDATE_ADMITTED",
    "NEXUS_OPERATION_SCHEDULED",
    "NEXUS_OPERATION_STARTED",
    "NEXUS_OPERATION_COMPLETED",
    "NEXUS_OPERATION_FAILED",
    "NEXUS_OPERATION_CANCELED",
    "NEXUS_OPERATION_TIMED_OUT",
    "NEXUS_OPERATION_CANCEL_REQUESTED",
    "WORKFLOW_EXECUTION_OPTIONS_UPDATED",
    "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED",
    "NEXUS_OPERATION_CANCEL_REQUEST_FAILED",
    "WORKFLOW_EXECUTION_PAUSED",
    "WORKFLOW_EXECUTION_UNPAUSED",
    "WORKFLOW_EXECUTION_TIME_SKIPPING_TRANSITIONED",
];
