//! What happened to the workflow: events that it saw in a turn.

use bytes::Bytes;
use outlast_proto::lens::history::history_event::Attributes as A;
use outlast_proto::lens::history::{self as h, HistoryEvent};
use outlast_proto::lens::lang::workflow_activation_job::Variant;
use outlast_proto::lens::{api, lang};
use prost::Message as _;

use super::{Mode, TaskFacts, Workflow};
use crate::event::{EventId, type_name};
use crate::fault::Fault;
use crate::history::Turn;
use crate::marker::{self, Marker};
use crate::ops::external::Purpose;
use crate::ops::update::{State as UpdateState, Update};
use crate::ops::{Op, activity, child, external, nexus, timer};
use crate::seed::seed;
use crate::time::Time;

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
        self.markers.clear();
        self.markers_delivered = 0;
        self.markers_settled = 0;
        for event in &turn.commands {
            let Some(A::MarkerRecordedEventAttributes(e)) = &event.attributes else { continue };
            let marker = marker::read(EventId(event.event_id), e)?;
            if let Marker::Patch(patch) = &marker {
                self.patches.recorded.insert(patch.id.clone());
                let job = lang::NotifyHasPatch { patch_id: patch.id.clone() };
                self.jobs.push(Variant::NotifyHasPatch(job));
            }
            self.markers.push(marker);
        }
        Ok(())
    }

    /// Shows what happened, in order, with requests for updates in the places among it that the server gave them.
    pub(super) fn see(&mut self, turn: &mut Turn, messages: Vec<api::Message>) -> Result<(), Fault> {
        let mut requests = self.requests(turn, messages)?.into_iter().peekable();
        let mut seen = std::mem::take(&mut turn.seen);
        for event in seen.drain(..) {
            self.history_length = EventId(event.event_id);
            while let Some(request) = requests.next_if(|r| r.sequencing < event.event_id) {
                self.request(request)?;
            }
            self.happened(event)?;
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
        for event in &turn.commands {
            let Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(e)) = &event.attributes else {
                continue;
            };
            let request = e.accepted_request.clone().filter(|r| !r.is_empty());
            let Some(request) = request.or_else(|| self.was_admitted(&turn.seen, &e.protocol_instance_id))
            else {
                return Err(Fault::malformed(
                    EventId(event.event_id),
                    &format!(
                        "the update {:?} was accepted, but no event has its request",
                        e.protocol_instance_id
                    ),
                ));
            };
            requests.push(Request {
                sequencing: e.accepted_request_sequencing_event_id,
                message: e.accepted_request_message_id.clone(),
                protocol_instance: e.protocol_instance_id.clone(),
                request,
                validate: false,
            });
        }
        requests.sort_by_key(|r| r.sequencing);
        Ok(requests)
    }

    /// The request of an update that an earlier event, or one of this turn, admitted.
    fn was_admitted(&mut self, seen: &[HistoryEvent], update_id: &str) -> Option<Bytes> {
        if let Some(request) = self.admitted.remove(update_id.as_bytes()) {
            return Some(request);
        }
        seen.iter().find_map(|event| {
            let Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(e)) = &event.attributes else {
                return None;
            };
            let request = e.request.clone()?;
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
        self.jobs.push(Variant::DoUpdate(lang::DoUpdate {
            id,
            protocol_instance_id: r.protocol_instance,
            name: input.name,
            input: input.args.unwrap_or_default().payloads,
            headers: input.header.unwrap_or_default().fields,
            meta: request.meta,
            run_validator: r.validate,
        }));
        Ok(())
    }

    fn happened(&mut self, event: HistoryEvent) -> Result<(), Fault> {
        let id = EventId(event.event_id);
        let Some(attributes) = event.attributes else { return unknown(&event) };
        let event = HistoryEvent { attributes: None, ..event };
        if self.terminal_seen {
            return Err(Fault::malformed(id, "it comes after the event that closed the workflow"));
        }
        match attributes {
            A::WorkflowExecutionStartedEventAttributes(e) => self.started(&event, *e),
            A::WorkflowTaskStartedEventAttributes(e) => self.task_started(&event, e),
            A::WorkflowTaskFailedEventAttributes(e) => {
                if e.cause == RESET_WORKFLOW {
                    let randomness_seed = seed(&e.new_run_id);
                    self.jobs.push(Variant::UpdateRandomSeed(lang::UpdateRandomSeed { randomness_seed }));
                }
            }
            A::WorkflowExecutionSignaledEventAttributes(e) => self.signaled(id, e),
            A::WorkflowExecutionCancelRequestedEventAttributes(e) => {
                self.jobs.push(Variant::CancelWorkflow(lang::CancelWorkflow { reason: e.cause }));
            }
            A::WorkflowExecutionUpdateAdmittedEventAttributes(e) => self.admitted(id, e.request)?,
            A::WorkflowExecutionTimedOutEventAttributes(_) | A::WorkflowExecutionTerminatedEventAttributes(_) => {
                self.terminal_seen = true;
            }
            A::WorkflowTaskScheduledEventAttributes(e) => {
                self.task_timeout = crate::time::duration(e.start_to_close_timeout);
            }
            A::WorkflowTaskTimedOutEventAttributes(_)
            // Nothing in these concerns the code.
            | A::WorkflowExecutionOptionsUpdatedEventAttributes(_)
            | A::WorkflowExecutionPausedEventAttributes(_)
            | A::WorkflowExecutionUnpausedEventAttributes(_)
            | A::WorkflowExecutionTimeSkippingTransitionedEventAttributes(_) => {}
            A::WorkflowPropertiesModifiedExternallyEventAttributes(_)
            | A::ActivityPropertiesModifiedExternallyEventAttributes(_) => return unknown(&event),
            A::TimerFiredEventAttributes(e) => self.route(&event, e.started_event_id, |op, out| {
                let Op::Timer(op) = op else { return None };
                Some(op.on(id, timer::Event::Fired { timer_id: &e.timer_id }, out))
            })?,
            A::ActivityTaskStartedEventAttributes(e) => {
                self.activity(&event, e.scheduled_event_id, activity::Event::Started)?;
            }
            A::ActivityTaskCompletedEventAttributes(e) => {
                self.activity(&event, e.scheduled_event_id, activity::Event::Completed(e))?;
            }
            A::ActivityTaskFailedEventAttributes(e) => {
                self.activity(&event, e.scheduled_event_id, activity::Event::Failed(e))?;
            }
            A::ActivityTaskTimedOutEventAttributes(e) => {
                self.activity(&event, e.scheduled_event_id, activity::Event::TimedOut(e))?;
            }
            A::ActivityTaskCanceledEventAttributes(e) => {
                self.activity(&event, e.scheduled_event_id, activity::Event::Canceled(e))?;
            }
            A::ExternalWorkflowExecutionSignaledEventAttributes(e) => {
                self.external(&event, e.initiated_event_id, Purpose::Signal, external::Event::Done)?;
            }
            A::SignalExternalWorkflowExecutionFailedEventAttributes(e) => {
                let failed = external::Event::Failed { cause: e.cause };
                self.external(&event, e.initiated_event_id, Purpose::Signal, failed)?;
            }
            A::ExternalWorkflowExecutionCancelRequestedEventAttributes(e) => {
                self.external(&event, e.initiated_event_id, Purpose::Cancel, external::Event::Done)?;
            }
            A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(e) => {
                let failed = external::Event::Failed { cause: e.cause };
                self.external(&event, e.initiated_event_id, Purpose::Cancel, failed)?;
            }
            A::StartChildWorkflowExecutionFailedEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::StartFailed(e))?;
            }
            A::ChildWorkflowExecutionStartedEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::Started(e))?;
            }
            A::ChildWorkflowExecutionCompletedEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::Completed(e))?;
            }
            A::ChildWorkflowExecutionFailedEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::Failed(e))?;
            }
            A::ChildWorkflowExecutionCanceledEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::Canceled(e))?;
            }
            A::ChildWorkflowExecutionTimedOutEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::TimedOut(e))?;
            }
            A::ChildWorkflowExecutionTerminatedEventAttributes(e) => {
                self.child(&event, e.initiated_event_id, child::Event::Terminated)?;
            }
            A::NexusOperationStartedEventAttributes(e) => {
                let token = if e.operation_token.is_empty() { e.operation_id } else { e.operation_token };
                self.nexus(&event, e.scheduled_event_id, nexus::Event::Started { token })?;
            }
            A::NexusOperationCompletedEventAttributes(e) => {
                self.nexus(&event, e.scheduled_event_id, nexus::Event::Completed { result: e.result })?;
            }
            A::NexusOperationFailedEventAttributes(e) => {
                self.nexus(&event, e.scheduled_event_id, nexus::Event::Failed { failure: e.failure })?;
            }
            A::NexusOperationCanceledEventAttributes(e) => {
                self.nexus(&event, e.scheduled_event_id, nexus::Event::Canceled { failure: e.failure })?;
            }
            A::NexusOperationTimedOutEventAttributes(e) => {
                self.nexus(&event, e.scheduled_event_id, nexus::Event::TimedOut { failure: e.failure })?;
            }
            A::NexusOperationCancelRequestCompletedEventAttributes(e) => {
                self.nexus(&event, e.scheduled_event_id, nexus::Event::CancelRequestCompleted)?;
            }
            A::NexusOperationCancelRequestFailedEventAttributes(e) => {
                let failed = nexus::Event::CancelRequestFailed { failure: e.failure };
                self.nexus(&event, e.scheduled_event_id, failed)?;
            }
            A::WorkflowTaskCompletedEventAttributes(_)
            | A::WorkflowExecutionCompletedEventAttributes(_)
            | A::WorkflowExecutionFailedEventAttributes(_)
            | A::WorkflowExecutionCanceledEventAttributes(_)
            | A::WorkflowExecutionContinuedAsNewEventAttributes(_)
            | A::WorkflowExecutionUpdateAcceptedEventAttributes(_)
            | A::WorkflowExecutionUpdateRejectedEventAttributes(_)
            | A::WorkflowExecutionUpdateCompletedEventAttributes(_)
            | A::WorkflowPropertiesModifiedEventAttributes(_)
            | A::ActivityTaskScheduledEventAttributes(_)
            | A::ActivityTaskCancelRequestedEventAttributes(_)
            | A::TimerStartedEventAttributes(_)
            | A::TimerCanceledEventAttributes(_)
            | A::MarkerRecordedEventAttributes(_)
            | A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_)
            | A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_)
            | A::StartChildWorkflowExecutionInitiatedEventAttributes(_)
            | A::UpsertWorkflowSearchAttributesEventAttributes(_)
            | A::NexusOperationScheduledEventAttributes(_)
            | A::NexusOperationCancelRequestedEventAttributes(_) => {
                return Err(Fault::malformed(id, "it does not follow the completion of a task, as it must"));
            }
        }
        Ok(())
    }

    fn started(&mut self, event: &HistoryEvent, e: h::WorkflowExecutionStartedEventAttributes) {
        self.clock = event.event_time.map(Time::from).unwrap_or_default();
        let own = |b: &Option<Bytes>| b.as_ref().map(|b| Bytes::copy_from_slice(b));
        self.inherited.memo = own(&e.memo);
        self.inherited.retry_policy = own(&e.retry_policy);
        self.inherited.search_attributes = own(&e.search_attributes);
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
            start_time: event.event_time,
            root_workflow: e.root_workflow_execution,
            priority: e.priority,
            original_execution_run_id: e.original_execution_run_id,
        };
        self.jobs.push(Variant::InitializeWorkflow(Box::new(job)));
    }

    /// Also of tasks that came to nothing: their time counts, their facts are replaced by those of the next.
    fn task_started(&mut self, event: &HistoryEvent, e: h::WorkflowTaskStartedEventAttributes) {
        self.clock = self.clock.max(event.event_time.map(Time::from).unwrap_or_default());
        self.task = TaskFacts {
            history_size_bytes: u64::try_from(e.history_size_bytes).unwrap_or(0),
            continue_as_new_suggested: e.suggest_continue_as_new,
            reasons: e.suggest_continue_as_new_reasons,
            target_changed: e.target_worker_deployment_version_changed,
        };
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

    fn activity(&mut self, event: &HistoryEvent, initiator: i64, what: activity::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Activity(op) = op else { return None };
            Some(op.on(EventId(event.event_id), what, out))
        })
    }

    fn child(&mut self, event: &HistoryEvent, initiator: i64, what: child::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Child(op) = op else { return None };
            Some(op.on(EventId(event.event_id), what, out))
        })
    }

    fn nexus(&mut self, event: &HistoryEvent, initiator: i64, what: nexus::Event) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let Op::Nexus(op) = op else { return None };
            Some(op.on(EventId(event.event_id), what, out))
        })
    }

    fn external(
        &mut self,
        event: &HistoryEvent,
        initiator: i64,
        purpose: Purpose,
        what: external::Event,
    ) -> Result<(), Fault> {
        self.route(event, initiator, |op, out| {
            let ((Op::Signal(op), Purpose::Signal) | (Op::Cancel(op), Purpose::Cancel)) = (op, purpose)
            else {
                return None;
            };
            Some(op.on(EventId(event.event_id), what, purpose, out))
        })
    }
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
fn unknown(event: &HistoryEvent) -> Result<(), Fault> {
    if event.worker_may_ignore {
        return Ok(());
    }
    Err(Fault::malformed(
        EventId(event.event_id),
        &format!("{} is not known to this version of the core: use a newer one", type_name(event.event_type)),
    ))
}
