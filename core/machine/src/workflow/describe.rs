//! Events in words, for people who read what code and history disagree on. It does not know what disagrees.

use outlast_proto::lens::history as h;

use crate::event::{Event, Type, type_name};

/// An event for people: its type, and what it names.
pub(super) fn event(event: &Event<'_>) -> String {
    let kind = type_name(event.event_type);
    named(event).map_or_else(|| kind.clone(), |name| format!("{kind} {name}"))
}

fn named(event: &Event<'_>) -> Option<String> {
    let of_type = |id: &[u8], name: &[u8]| format!("{:?} of type {:?}", text(id), text(name));
    let kind = event.kind?;
    if matches!(kind, Type::TimerStarted | Type::TimerCanceled) {
        let e: h::TimerStartedEventAttributes = event.attributes().ok()?;
        return Some(format!("{:?}", text(&e.timer_id)));
    }
    if kind == Type::ActivityTaskScheduled {
        let e: h::ActivityTaskScheduledEventAttributes = event.attributes().ok()?;
        return Some(of_type(&e.activity_id, &e.activity_type?.name));
    }
    if kind == Type::StartChildWorkflowExecutionInitiated {
        let e: h::StartChildWorkflowExecutionInitiatedEventAttributes = event.attributes().ok()?;
        return Some(of_type(&e.workflow_id, &e.workflow_type?.name));
    }
    if kind == Type::MarkerRecorded {
        let e: h::MarkerRecordedEventAttributes = event.attributes().ok()?;
        return Some(format!("{:?}", text(&e.marker_name)));
    }
    if kind == Type::WorkflowExecutionUpdateAccepted {
        let e: h::WorkflowExecutionUpdateAcceptedEventAttributes = event.attributes().ok()?;
        return Some(format!("{:?}", e.protocol_instance_id));
    }
    if kind == Type::NexusOperationScheduled {
        let e: h::NexusOperationScheduledEventAttributes = event.attributes().ok()?;
        return Some(format!("{:?} of service {:?}", text(&e.operation), text(&e.service)));
    }
    None
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
