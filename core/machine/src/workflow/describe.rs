//! Events and commands in words, for people who read how code and history differ. It does not know how they do.

use outlast_proto::lens::history as h;

use crate::event::{Event, Type, type_name};
use crate::queue::{Ask, Queued};

/// An event for people: its type, and what it names.
pub(super) fn event(event: &Event<'_>) -> String {
    let kind = type_name(event.event_type);
    named(event).map_or_else(|| kind.clone(), |name| format!("{kind} {name}"))
}

/// The same for a command that the code asked for. One that was sent has only its kind left.
pub(super) fn queued(queued: &Queued) -> String {
    let kind = queued.kind.words();
    let name = match &queued.ask {
        Ask::StartTimer(c) => format!("\"{}\"", c.seq),
        Ask::CancelTimer(seq) => format!("\"{seq}\""),
        Ask::ScheduleActivity(c) => of_type(&c.activity_id, &c.activity_type),
        Ask::StartChild(c) => of_type(&c.workflow_id, &c.workflow_type),
        Ask::SignalExternal(c) => format!("({:?})", text(&c.signal_name)),
        Ask::ScheduleNexus(c) => of_service(&c.operation, &c.service),
        Ask::Patch(c) => format!("of {:?}", c.patch_id),
        Ask::CancelActivity { .. }
        | Ask::CancelExternal(_)
        | Ask::CancelNexus { .. }
        | Ask::LocalMarker(_)
        | Ask::UpsertSearchAttributes(_)
        | Ask::ModifyProperties(_)
        | Ask::AcceptUpdate { .. }
        | Ask::CompleteUpdate { .. }
        | Ask::CompleteWorkflow(_)
        | Ask::FailWorkflow(_)
        | Ask::CancelWorkflow(_)
        | Ask::ContinueAsNew(_)
        | Ask::Sent => return kind.to_owned(),
    };
    format!("{kind} {name}")
}

pub(super) fn of_type(id: &[u8], name: &[u8]) -> String {
    format!("{:?} of type {:?}", text(id), text(name))
}

pub(super) fn of_service(operation: &[u8], service: &[u8]) -> String {
    format!("{:?} of service {:?}", text(operation), text(service))
}

fn named(event: &Event<'_>) -> Option<String> {
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
        return Some(of_service(&e.operation, &e.service));
    }
    None
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
