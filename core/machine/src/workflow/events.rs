//! What happened to the workflow: events that it saw in a turn.

use bytes::Bytes;
use outlast_proto::lens::history as h;
use outlast_proto::lens::lang::workflow_activation_job::Variant;
use outlast_proto::lens::{api, lang};
use prost::Message as _;

use super::{Inherited, Mode, TaskFacts, Workflow};
use crate::event::{Event, EventId, Type, type_name};
use crate::failure;
use crate::fault::Fault;
use crate::history::Turn;
use crate::marker::{self, Marker};
use crate::ops::external::Purpose;
use crate::ops::update::{State as UpdateState, Update};
use crate::ops::{Op, activity, child, external, nexus, timer};
use crate::seed::seed;
use crate::time::Time;
use crate::wire::Value;

/// `temporal.api.enums.v1.WorkflowTaskFailedCause`: the history was reset here.
const RESET_WORKFLOW: i32 = 20;

/// A request for an update, on its way to the language.
#[derive(Debug)]
pub(super) struct Request {
    /// The event after which the server placed it: an acceptance tells it back.
    pub sequencing: i64,
    pub message: String,
    pub protocol_instance: String,
    pub request: Bytes,
    /// The language must check it first.
    pub validate: bool,
}

impl Workflow {
    /// Looks at what the turn recorded, for what the code must know when it runs: patches, local results. Markers are read
    /// once, here.
    pub(super) fn scan(&mut self, turn: &Turn) -> Result<(), Fault> {
        self.read_markers(turn)?;
        for marker in &self.markers {
            if let Marker::Patch(patch) = marker {
                self.patches.recorded.insert(patch.id.clone());
                let job = lang::NotifyHasPatch { patch_id: patch.id.clone() };
                self.jobs.push(Variant::NotifyHasPatch(job));
            }
        }
        Ok(())
    }

    /// Reads the markers that the turn recorded.
    pub(super) fn read_markers(&mut self, turn: &Turn) -> Result<(), Fault> {
        self.markers.clear();
        self.markers_delivered = 0;
        self.markers_settled = 0;
        for event in turn.commands.iter().map(|e| e.event(&turn.page)) {
            if event.kind == Some(Type::MarkerRecorded) {
                self.markers.push(marker::read(event.id, &event.attributes()?)?);
            }
        }
        Ok(())
    }

    /// Shows what happened, in order, with requests for updates in the places among it that the server gave them.
    pub(super) fn see(&mut self, turn: &mut Turn, messages: Vec<api::Message>) -> Result<(), Fault> {
        let mut requests = self.requests(turn, messages)?.into_iter().peekable();
        let mut seen = std::mem::take(&mut turn.seen);
        let page = turn.page.clone();
        for entry in seen.drain(..) {
            let event = entry.event(&page);
            self.history_length = event.id;
            while let Some(request) = requests.next_if(|r| r.sequencing < event.id.0) {
                self.request(request)?;
            }
            self.happened(&event)?;
        }
        turn.seen = seen;
        for request in requests {
            self.request(request)?;
        }
        Ok(())
    }

    /// The requests of a turn: live those that came with the task, in replay those that it accepted.
    fn requests(&mut self, turn: &Turn, messages: Vec<api::Message>) -> Result<Vec<Request>, Fault> {
        let mut requests = Vec::new();
        for message in messages {
            requests.push(incoming(message)?);
        }
        for event in turn.commands.iter().map(|e| e.event(&turn.page)) {
            if event.kind != Some(Type::WorkflowExecutionUpdateAccepted) {
                continue;
            }
            let e: h::WorkflowExecutionUpdateAcceptedEventAttributes = event.attributes()?;
            let request = e.accepted_request.filter(|r| !r.is_empty());
            let Some(request) = request.or_else(|| self.was_admitted(turn, &e.protocol_instance_id)) else {
                return Err(Fault::malformed(
                    event.id,
                    &format!(
                        "the update {:?} was accepted, but no event has its request",
                        e.protocol_instance_id
                    ),
                ));
            };
            requests.push(Request {
                sequencing: e.accepted_request_sequencing_event_id,
                message: e.accepted_request_message_id,
                protocol_instance: e.protocol_instance_id,
                request,
                validate: false,
            });
        }
        requests.sort_by_key(|r| r.sequencing);
        Ok(requests)
    }

    /// The request of an update that an earlier event, or one of this turn, admitted.
    fn was_admitted(&mut self, turn: &Turn, update_id: &str) -> Option<Bytes> {
        if let Some(request) = self.admitted.remove(update_id.as_bytes()) {
            return Some(request);
        }
        turn.seen.iter().map(|e| e.event(&turn.page)).find_map(|event| {
            if event.kind != Some(Type::WorkflowExecutionUpdateAdmitted) {
                return None;
            }
            let request =
                event.attributes::<h::WorkflowExecutionUpdateAdmittedEventAttributes>().ok()?.request?;
            (update_id_of(&request).ok()? == update_id.as_bytes()).then_some(request)
        })
    }

    /// Asks the language for an update, unless it has it already.
    fn request(&mut self, r: Request) -> Result<(), Fault> {
        if self.updates.contains_key(r.protocol_instance.as_str()) {
            return Ok(());
        }
        let bad = |e: prost::DecodeError| {
            Fault::malformed(
                self.history_length,
                &format!("the request of update {:?} is not readable: {e}", r.message),
            )
        };
        let request = api::Request::decode(r.request.clone()).map_err(bad)?;
        let id = api::Meta::decode(request.meta.clone().unwrap_or_default()).map_err(bad)?.update_id;
        let input = request.input.unwrap_or_default();
        let op = Update {
            protocol_instance: r.protocol_instance.as_str().into(),
            message: r.message.into(),
            sequencing: r.sequencing,
            request: (self.mode != Mode::Replay).then_some(r.request),
            meta: request.meta.clone(),
            state: UpdateState::Requested,
        };
        let index = self.ops.insert(Op::Update(Box::new(op)));
        self.updates.insert(r.protocol_instance.as_str().into(), index);
        self.jobs.push(Variant::DoUpdate(Box::new(lang::DoUpdate {
            id,
            protocol_instance_id: r.protocol_instance,
            name: input.name,
            input: input.args.unwrap_or_default().payloads,
            headers: input.header.unwrap_or_default().fields,
            meta: request.meta,
            run_validator: r.validate,
        })));
        Ok(())
    }

    fn happened(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        let id = event.id;
        let Some(kind) = event.kind else { return unknown(event) };
        if self.terminal_seen {
            return Err(Fault::malformed(id, "it comes after the event that closed the workflow"));
        }
        match kind {
            Type::WorkflowExecutionStarted => self.started(event, event.attributes()?),
            Type::WorkflowTaskStarted => self.task_started(event)?,
            Type::WorkflowTaskFailed => {
                let e: h::WorkflowTaskFailedEventAttributes = event.attributes()?;
                if e.cause == RESET_WORKFLOW {
                    let randomness_seed = seed(&e.new_run_id);
                    self.jobs.push(Variant::UpdateRandomSeed(lang::UpdateRandomSeed { randomness_seed }));
                }
            }
            Type::WorkflowExecutionSignaled => self.signaled(id, event.attributes()?),
            Type::WorkflowExecutionCancelRequested => {
                let e: h::WorkflowExecutionCancelRequestedEventAttributes = event.attributes()?;
                self.jobs.push(Variant::CancelWorkflow(lang::CancelWorkflow { reason: e.cause }));
            }
            Type::WorkflowExecutionUpdateAdmitted => {
                let e: h::WorkflowExecutionUpdateAdmittedEventAttributes = event.attributes()?;
                self.admitted(id, e.request)?;
            }
            Type::WorkflowExecutionTimedOut | Type::WorkflowExecutionTerminated => {
                self.terminal_seen = true;
            }
            Type::WorkflowTaskScheduled if self.mode == Mode::Replay => {} // nobody waits for this one
            Type::WorkflowTaskScheduled => {
                let e: h::WorkflowTaskScheduledEventAttributes = event.attributes()?;
                // No time at all says nothing: the server's default holds.
                let timeout = crate::time::limit(e.start_to_close_timeout);
                self.task_timeout = timeout.filter(|timeout| !timeout.is_zero());
            }
            Type::WorkflowTaskTimedOut
            // Nothing in these concerns the code.
            | Type::WorkflowExecutionOptionsUpdated
            | Type::WorkflowExecutionPaused
            | Type::WorkflowExecutionUnpaused
            | Type::WorkflowExecutionTimeSkippingTransitioned => {}
            Type::WorkflowPropertiesModifiedExternally
            | Type::ActivityPropertiesModifiedExternally => return unknown(event),
            Type::TimerFired => {
                let e: h::TimerFiredEventAttributes = event.attributes()?;
                self.route(event, e.started_event_id, |op, out| {
                let Op::Timer(op) = op else { return None };
                Some(op.on(id, timer::Event::Fired { timer_id: &e.timer_id }, out))
                })?;
            }
            Type::ActivityTaskStarted => {
                self.activity(event, event.number(1)?, activity::Event::Started)?;
            }
            Type::ActivityTaskCompleted => {
                let (mut scheduled, mut result) = (0, None);
                event.fields(|tag, value| match (tag, value) {
                    (1, Value::Bytes(payloads)) => result = failure::first_of(payloads),
                    (2, Value::Number(id)) => scheduled = id as i64,
                    (_, Value::Number(_) | Value::Bytes(_) | Value::Other) => {}
                })?;
                let result = result.map(|payload| event.slice(payload));
                self.activity(event, scheduled, activity::Event::Completed { result })?;
            }
            Type::ActivityTaskFailed => {
                let e: h::ActivityTaskFailedEventAttributes = event.attributes()?;
                self.activity(event, e.scheduled_event_id, activity::Event::Failed(e))?;
            }
            Type::ActivityTaskTimedOut => {
                let e: h::ActivityTaskTimedOutEventAttributes = event.attributes()?;
                self.activity(event, e.scheduled_event_id, activity::Event::TimedOut(e))?;
            }
            Type::ActivityTaskCanceled => {
                let e: h::ActivityTaskCanceledEventAttributes = event.attributes()?;
                self.activity(event, e.scheduled_event_id, activity::Event::Canceled(e))?;
            }
            Type::ExternalWorkflowExecutionSignaled => {
                let e: h::ExternalWorkflowExecutionSignaledEventAttributes = event.attributes()?;
                self.external(event, e.initiated_event_id, Purpose::Signal, external::Event::Done)?;
            }
            Type::SignalExternalWorkflowExecutionFailed => {
                let e: h::SignalExternalWorkflowExecutionFailedEventAttributes = event.attributes()?;
                let failed = external::Event::Failed { cause: e.cause };
                self.external(event, e.initiated_event_id, Purpose::Signal, failed)?;
            }
            Type::ExternalWorkflowExecutionCancelRequested => {
                let e: h::ExternalWorkflowExecutionCancelRequestedEventAttributes = event.attributes()?;
                self.external(event, e.initiated_event_id, Purpose::Cancel, external::Event::Done)?;
            }
            Type::RequestCancelExternalWorkflowExecutionFailed => {
                let e: h::RequestCancelExternalWorkflowExecutionFailedEventAttributes = event.attributes()?;
                let failed = external::Event::Failed { cause: e.cause };
                self.external(event, e.initiated_event_id, Purpose::Cancel, failed)?;
            }
            Type::StartChildWorkflowExecutionFailed => {
                let e: h::StartChildWorkflowExecutionFailedEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::StartFailed(e))?;
            }
            Type::ChildWorkflowExecutionStarted => {
                let e: h::ChildWorkflowExecutionStartedEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::Started(e))?;
            }
            Type::ChildWorkflowExecutionCompleted => {
                let e: h::ChildWorkflowExecutionCompletedEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::Completed(e))?;
            }
            Type::ChildWorkflowExecutionFailed => {
                let e: h::ChildWorkflowExecutionFailedEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::Failed(e))?;
            }
            Type::ChildWorkflowExecutionCanceled => {
                let e: h::ChildWorkflowExecutionCanceledEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::Canceled)?;
            }
            Type::ChildWorkflowExecutionTimedOut => {
                let e: h::ChildWorkflowExecutionTimedOutEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::TimedOut(e))?;
            }
            Type::ChildWorkflowExecutionTerminated => {
                let e: h::ChildWorkflowExecutionTerminatedEventAttributes = event.attributes()?;
                self.child(event, e.initiated_event_id, child::Event::Terminated)?;
            }
            Type::NexusOperationStarted => {
                let e: h::NexusOperationStartedEventAttributes = event.attributes()?;
                let token = if e.operation_token.is_empty() { e.operation_id } else { e.operation_token };
                self.nexus(event, e.scheduled_event_id, nexus::Event::Started { token })?;
            }
            Type::NexusOperationCompleted => {
                let e: h::NexusOperationCompletedEventAttributes = event.attributes()?;
                self.nexus(event, e.scheduled_event_id, nexus::Event::Completed { result: e.result })?;
            }
            Type::NexusOperationFailed => {
                let e: h::NexusOperationFailedEventAttributes = event.attributes()?;
                self.nexus(event, e.scheduled_event_id, nexus::Event::Failed { failure: e.failure })?;
            }
            Type::NexusOperationCanceled => {
                let e: h::NexusOperationCanceledEventAttributes = event.attributes()?;
                self.nexus(event, e.scheduled_event_id, nexus::Event::Canceled { failure: e.failure })?;
            }
            Type::NexusOperationTimedOut => {
                let e: h::NexusOperationTimedOutEventAttributes = event.attributes()?;
                self.nexus(event, e.scheduled_event_id, nexus::Event::TimedOut { failure: e.failure })?;
            }
            Type::NexusOperationCancelRequestCompleted => {
                let e: h::NexusOperationCancelRequestCompletedEventAttributes = event.attributes()?;
                self.nexus(event, e.scheduled_event_id, nexus::Event::CancelRequestCompleted)?;
            }
            Type::NexusOperationCancelRequestFailed => {
                let e: h::NexusOperationCancelRequestFailedEventAttributes = event.attributes()?;
                let failed = nexus::Event::CancelRequestFailed { failure: e.failure };
                self.nexus(event, e.scheduled_event_id, failed)?;
            }
            Type::WorkflowTaskCompleted
            | Type::WorkflowExecutionCompleted
            | Type::WorkflowExecutionFailed
            | Type::WorkflowExecutionCanceled
            | Type::WorkflowExecutionContinuedAsNew
            | Type::WorkflowExecutionUpdateAccepted
            | Type::WorkflowExecutionUpdateRejected
            | Type::WorkflowExecutionUpdateCompleted
            | Type::WorkflowPropertiesModified
            | Type::ActivityTaskScheduled
            | Type::ActivityTaskCancelRequested
            | Type::TimerStarted
            | Type::TimerCanceled
            | Type::MarkerRecorded
            | Type::RequestCancelExternalWorkflowExecutionInitiated
            | Type::SignalExternalWorkflowExecutionInitiated
            | Type::StartChildWorkflowExecutionInitiated
            | Type::UpsertWorkflowSearchAttributes
            | Type::NexusOperationScheduled
            | Type::NexusOperationCancelRequested => {
                return Err(Fault::malformed(id, "it does not follow the completion of a task, as it must"));
            }
        }
        Ok(())
    }

    fn started(&mut self, event: &Event<'_>, e: h::WorkflowExecutionStartedEventAttributes) {
        self.clock = event.time().map(Time::from).unwrap_or_default();
        self.started = self.clock;
        let own = |b: &Option<Bytes>| b.as_ref().map(|b| Bytes::copy_from_slice(b));
        if e.memo.is_some() || e.retry_policy.is_some() || e.search_attributes.is_some() {
            self.inherited = Some(Box::new(Inherited {
                memo: own(&e.memo),
                retry_policy: own(&e.retry_policy),
                search_attributes: own(&e.search_attributes),
            }));
        }
        let parent_workflow_info = e.parent_workflow_execution.map(|p| lang::NamespacedWorkflowExecution {
            namespace: e.parent_workflow_namespace,
            workflow_id: p.workflow_id,
            run_id: p.run_id,
        });
        let job = lang::InitializeWorkflow {
            workflow_type: e.workflow_type.map(|t| t.name).unwrap_or_default(),
            workflow_id: Bytes::copy_from_slice(self.workflow_id.as_bytes()),
            arguments: e.input.unwrap_or_default().payloads,
            randomness_seed: seed(&e.original_execution_run_id),
            headers: e.header.unwrap_or_default().fields,
            identity: e.identity,
            parent_workflow_info,
            workflow_execution_timeout: e.workflow_execution_timeout,
            workflow_run_timeout: e.workflow_run_timeout,
            workflow_task_timeout: e.workflow_task_timeout,
            continued_from_execution_run_id: e.continued_execution_run_id,
            continued_initiator: e.initiator,
            continued_failure: e.continued_failure,
            last_completion_result: e.last_completion_result,
            first_execution_run_id: e.first_execution_run_id,
            retry_policy: e.retry_policy,
            attempt: e.attempt,
            cron_schedule: e.cron_schedule,
            workflow_execution_expiration_time: e.workflow_execution_expiration_time,
            cron_schedule_to_schedule_interval: e.first_workflow_task_backoff,
            memo: e.memo,
            search_attributes: e.search_attributes,
            start_time: event.time(),
            root_workflow: e.root_workflow_execution,
            priority: e.priority,
            original_execution_run_id: e.original_execution_run_id,
        };
        self.jobs.push(Variant::InitializeWorkflow(Box::new(job)));
    }

    /// Also of tasks that came to nothing: their time counts, their facts are replaced by those of the next.
    fn task_started(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        self.clock = self.clock.max(event.time().map(Time::from).unwrap_or_default());
        let mut task = TaskFacts::default();
        event.fields(|tag, value| match (tag, value) {
            (4, Value::Number(flag)) => task.continue_as_new_suggested = flag != 0,
            (5, Value::Number(size)) => task.history_size_bytes = u64::try_from(size as i64).unwrap_or(0),
            (9, Value::Number(flag)) => task.target_changed = flag != 0,
            (8, Value::Number(reason)) => task.reasons.push(reason as i32),
            (8, Value::Bytes(packed)) => task.reasons.extend(numbers(packed)),
            (_, Value::Number(_) | Value::Bytes(_) | Value::Other) => {}
        })?;
        self.task = task;
        Ok(())
    }

    fn signaled(&mut self, id: EventId, e: h::WorkflowExecutionSignaledEventAttributes) {
        self.jobs.push(Variant::SignalWorkflow(lang::SignalWorkflow {
            signal_name: e.signal_name,
            input: e.input.unwrap_or_default().payloads,
            identity: e.identity,
            headers: e.header.unwrap_or_default().fields,
            originating_event_id: id.0,
        }));
    }

    /// An admitted update is a request that history keeps. In replay it is known by its acceptance.
    fn admitted(&mut self, id: EventId, request: Option<Bytes>) -> Result<(), Fault> {
        let Some(request) = request else {
            return Err(Fault::malformed(id, "it admits an update without a request"));
        };
        let update_id = update_id_of(&request)
            .map_err(|e| Fault::malformed(id, &format!("the request of its update is not readable: {e}")))?;
        if self.mode == Mode::Replay {
            self.admitted.insert(Bytes::copy_from_slice(&update_id), request);
            return Ok(());
        }
        let name = String::from_utf8_lossy(&update_id).into_owned();
        self.request(Request {
            sequencing: id.0,
            message: format!("{name}/request"),
            protocol_instance: name,
            request,
            validate: true,
        })
    }

    fn activity(&mut self, event: &Event<'_>, initiator: i64, what: activity::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Activity(op) = op else { return None };
            Some(op.on(event.id, what, out))
        })
    }

    fn child(&mut self, event: &Event<'_>, initiator: i64, what: child::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Child(op) = op else { return None };
            Some(op.on(event.id, what, out))
        })
    }

    fn nexus(&mut self, event: &Event<'_>, initiator: i64, what: nexus::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Nexus(op) = op else { return None };
            Some(op.on(event.id, what, out))
        })
    }

    fn external(
        &mut self,
        event: &Event<'_>,
        initiator: i64,
        purpose: Purpose,
        what: external::Event,
    ) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let ((Op::Signal(op), Purpose::Signal) | (Op::Cancel(op), Purpose::Cancel)) = (op, purpose)
            else {
                return None;
            };
            Some(op.on(event.id, what, purpose, out))
        })
    }
}

/// The numbers of a packed field. A damaged rest is left out: the field is information for the language.
fn numbers(packed: &[u8]) -> impl Iterator<Item = i32> {
    packed
        .iter()
        .scan((0_u64, 0_u32), |(number, shift), &byte| {
            *number |= u64::from(byte & 0x7f).checked_shl(*shift).unwrap_or(0);
            *shift += 7;
            let done = (byte < 0x80).then_some(*number as i32);
            if done.is_some() {
                (*number, *shift) = (0, 0);
            }
            Some(done)
        })
        .flatten()
}

/// The update request in a message.
fn incoming(message: api::Message) -> Result<Request, Fault> {
    let Some(body) = message.body else {
        return Err(Fault::malformed(EventId(0), &format!("the message {:?} has no body", message.id)));
    };
    if !body.type_url.ends_with("/temporal.api.update.v1.Request") {
        let problem =
            format!("the message {:?} is of a kind not known here: {:?}", message.id, body.type_url);
        return Err(Fault::malformed(EventId(0), &problem));
    }
    let sequencing = match message.sequencing_id {
        Some(api::message::SequencingId::EventId(id)) => id,
        Some(api::message::SequencingId::CommandIndex(_)) => i64::MAX,
        None => 0,
    };
    Ok(Request {
        sequencing,
        message: message.id,
        protocol_instance: message.protocol_instance_id,
        request: body.value,
        validate: true,
    })
}

fn update_id_of(request: &Bytes) -> Result<Bytes, prost::DecodeError> {
    let request = api::Request::decode(request.clone())?;
    Ok(api::Meta::decode(request.meta.unwrap_or_default())?.update_id)
}

/// An event that this core does not know: passed over if the server says that workers may.
fn unknown(event: &Event<'_>) -> Result<(), Fault> {
    if event.worker_may_ignore {
        return Ok(());
    }
    Err(Fault::malformed(
        event.id,
        &format!("{} is not known to this version of the core: use a newer one", type_name(event.event_type)),
    ))
}
