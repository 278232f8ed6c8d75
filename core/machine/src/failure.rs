//! Failures that the core makes itself, as every SDK words them. It does not know when they arise.

use bytes::Bytes;
use outlast_proto::Frame;
use outlast_proto::lens::api::failure::FailureInfo;
use outlast_proto::lens::api::{
    ActivityFailureInfo, ActivityType, ApplicationFailureInfo, CanceledFailureInfo,
    ChildWorkflowExecutionFailureInfo, Failure, NexusOperationFailureInfo, TimeoutFailureInfo,
};
use prost::Message;

use crate::wire::{Fields, Value};

/// `temporal.api.enums.v1.RetryState`, the values that are used here.
pub(crate) mod retry_state {
    pub const NON_RETRYABLE_FAILURE: i32 = 2;
    pub const CANCEL_REQUESTED: i32 = 7;
}

/// `temporal.api.enums.v1.TimeoutType`.
pub(crate) mod timeout_type {
    pub const START_TO_CLOSE: i32 = 1;
    pub const SCHEDULE_TO_START: i32 = 2;
    pub const SCHEDULE_TO_CLOSE: i32 = 3;
}

fn encode(message: &str, cause: Option<Bytes>, info: FailureInfo) -> Bytes {
    let failure =
        Failure { message: message.to_owned(), source: String::new(), cause, failure_info: Some(info) };
    failure.encode_to_vec().into()
}

/// A failure of the application kind, of a type.
pub(crate) fn application(message: &str, kind: &str) -> Bytes {
    let info =
        ApplicationFailureInfo { r#type: kind.to_owned(), non_retryable: false, next_retry_delay: None };
    encode(message, None, FailureInfo::ApplicationFailureInfo(info))
}

/// A cancellation, with its details.
pub(crate) fn cancelled(message: &str, details: Option<Bytes>) -> Bytes {
    encode(message, None, FailureInfo::CanceledFailureInfo(CanceledFailureInfo { details }))
}

/// A time-out.
pub(crate) fn timed_out(message: &str, timeout_type: i32) -> Bytes {
    encode(message, None, FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo { timeout_type }))
}

/// A termination.
pub(crate) fn terminated() -> Bytes {
    encode("Terminated", None, FailureInfo::TerminatedFailureInfo(Bytes::new()))
}

/// What an activity's failure is wrapped in.
#[derive(Default)]
pub(crate) struct ActivityWrap<'a> {
    pub id: &'a [u8],
    pub kind: &'a [u8],
    pub scheduled: i64,
    pub started: i64,
    pub identity: Bytes,
    pub retry_state: i32,
}

/// A failure of an activity around its cause.
pub(crate) fn activity(message: &str, cause: Option<Bytes>, wrap: ActivityWrap<'_>) -> Bytes {
    let info = ActivityFailureInfo {
        scheduled_event_id: wrap.scheduled,
        started_event_id: wrap.started,
        identity: wrap.identity,
        activity_type: Some(ActivityType { name: Bytes::copy_from_slice(wrap.kind) }),
        activity_id: Bytes::copy_from_slice(wrap.id),
        retry_state: wrap.retry_state,
    };
    encode(message, cause, FailureInfo::ActivityFailureInfo(info))
}

/// A failure of a child workflow around its cause.
pub(crate) fn child(message: &str, cause: Option<Bytes>, info: ChildWorkflowExecutionFailureInfo) -> Bytes {
    encode(message, cause, FailureInfo::ChildWorkflowExecutionFailureInfo(info))
}

/// A failure of a Nexus operation around its cause.
pub(crate) fn nexus(message: &str, cause: Option<Bytes>, info: NexusOperationFailureInfo) -> Bytes {
    encode(message, cause, FailureInfo::NexusOperationExecutionFailureInfo(info))
}

/// What an encoded failure says, nothing if it cannot be read.
pub(crate) fn message(failure: &Bytes) -> String {
    Failure::decode(Frame::new(failure)).map(|f| f.message).unwrap_or_default()
}

/// The messages of an encoded failure and of its causes.
pub(crate) fn chain(failure: &Bytes) -> String {
    let mut messages = Vec::new();
    let mut next = Some(failure.clone());
    while let Some(failure) = next.and_then(|failure| Failure::decode(Frame::new(&failure)).ok()) {
        messages.push(failure.message);
        next = failure.cause;
    }
    messages.join(": ")
}

/// The first payload of an encoded `Payloads`, still encoded.
pub(crate) fn first_payload(payloads: Option<Bytes>) -> Option<Bytes> {
    let payloads = payloads?;
    Some(payloads.slice_ref(first_of(&payloads)?))
}

/// The same, in place.
pub(crate) fn first_of(payloads: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields::new(payloads);
    while let Ok(Some((tag, value))) = fields.next() {
        if let (1, Value::Bytes(payload)) = (tag, value) {
            return Some(payload);
        }
    }
    None
}
