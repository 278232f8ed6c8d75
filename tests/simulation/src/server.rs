//! A small model of a Temporal server for one run: it writes history by its own rules, keeps what is pending in the world,
//! and knows no machine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use outlast_machine::io::{TaskCompletion, Ticket};
use outlast_proto::lens::api::{self, command::Attributes as C};
use outlast_proto::lens::history::history_event::Attributes as A;
use outlast_proto::lens::history::{self as h, HistoryEvent};
use prost::Message;
use prost_types::{Duration, Timestamp};

use crate::program::{failure, payload};
use crate::random::Random;

/// One run as the server keeps it.
#[derive(Debug)]
pub struct Server {
    pub run_id: String,
    pub now: i64,
    /// History as it is stored.
    pub events: Vec<HistoryEvent>,
    /// What happened while a task was started.
    buffered: Vec<(A, bool)>,
    pub task: Option<WorkflowTask>,
    pub previous_started: i64,
    /// The worker that answered last keeps the run: tasks go there with only what is new.
    pub sticky: bool,
    pending: Vec<Pending>,
    updates: VecDeque<Update>,
    updates_made: usize,
    pub closed: bool,
    tokens: u64,
}

/// The workflow task that is scheduled or started.
#[derive(Debug)]
pub struct WorkflowTask {
    pub started: Option<Started>,
    pub attempt: i32,
    /// Its events are not stored before it is completed: a speculative task, or a later attempt.
    unwritten: bool,
    speculative: bool,
}

#[derive(Clone, Debug)]
pub struct Started {
    pub event: i64,
    pub token: Bytes,
    /// When: the events of an unwritten task carry it, whenever they are written.
    at: i64,
}

#[derive(Clone, Debug)]
struct Update {
    id: String,
    /// It goes along with the task that is started.
    sent: bool,
    /// Where it stands in history.
    sequencing: i64,
}

/// Something in the world that will have an end.
#[derive(Clone, Debug)]
pub struct Pending {
    initiated: i64,
    what: Thing,
}

#[derive(Clone, Debug)]
enum Thing {
    Timer { id: Bytes },
    Activity { started: bool, canceling: bool },
    Child { id: Bytes, started: bool, canceling: bool },
    Signal,
    Cancel,
    Nexus { started: bool, canceling: bool },
    NexusCancel { scheduled: i64 },
}

/// How the server takes an answer.
#[derive(Debug)]
pub enum Verdict {
    Taken { reset: i64 },
    Unknown,
    Unhandled,
}

const SECOND: i64 = 1_000_000_000;

impl Server {
    pub fn new(run_id: String, now: i64) -> Self {
        let mut server = Self {
            run_id,
            now,
            events: Vec::new(),
            buffered: Vec::new(),
            task: None,
            previous_started: 0,
            sticky: false,
            pending: Vec::new(),
            updates: VecDeque::new(),
            updates_made: 0,
            closed: false,
            tokens: 0,
        };
        let started = h::WorkflowExecutionStartedEventAttributes {
            workflow_type: Some(h::WorkflowType { name: "w".into() }),
            original_execution_run_id: server.run_id.clone().into(),
            ..Default::default()
        };
        server.write(A::WorkflowExecutionStartedEventAttributes(Box::new(started)));
        server.schedule(false);
        server
    }

    fn event(&self, id: i64, attributes: A) -> HistoryEvent {
        HistoryEvent {
            event_id: id,
            event_time: Some(Timestamp {
                seconds: self.now.div_euclid(SECOND),
                nanos: self.now.rem_euclid(SECOND) as i32,
            }),
            event_type: event_type(&attributes),
            worker_may_ignore: false,
            attributes: Some(attributes),
        }
    }

    /// The events of an unwritten task.
    fn unwritten(&self, started: &Started) -> [HistoryEvent; 2] {
        let at = |mut event: HistoryEvent| {
            let (seconds, nanos) = (started.at.div_euclid(SECOND), started.at.rem_euclid(SECOND) as i32);
            event.event_time = Some(Timestamp { seconds, nanos });
            event
        };
        let id = started.event;
        [at(self.event(id - 1, scheduled_event())), at(self.event(id, started_event(id - 1)))]
    }

    fn write(&mut self, attributes: A) -> i64 {
        self.now += 1_000_000;
        let id = self.events.len() as i64 + 1;
        self.events.push(self.event(id, attributes));
        id
    }

    /// A task is to be made, if there is none.
    fn schedule(&mut self, speculative: bool) {
        if self.closed {
            return;
        }
        match &mut self.task {
            None => {
                self.task =
                    Some(WorkflowTask { started: None, attempt: 1, unwritten: speculative, speculative });
                if !speculative {
                    self.write(scheduled_event());
                }
            }
            Some(task) if task.speculative && task.started.is_none() && !speculative => {
                task.speculative = false;
                task.unwritten = false;
                self.write(scheduled_event());
            }
            Some(_) => {}
        }
    }

    /// Something happened: it is written, or kept while a task is started.
    fn happen(&mut self, attributes: A, wakes: bool) {
        if self.closed {
            return;
        }
        if let Some(task) = &mut self.task {
            if task.started.is_some() {
                task.speculative = false;
                self.buffered.push((attributes, wakes));
                return;
            }
            if task.unwritten && task.speculative {
                self.schedule(false);
            } else if task.unwritten {
                // A later attempt that waits is made anew, and written.
                self.task = None;
                self.write(attributes);
                self.schedule(false);
                return;
            }
        }
        self.write(attributes);
        if wakes {
            self.schedule(false);
        }
    }

    pub fn signal(&mut self) {
        let signal =
            h::WorkflowExecutionSignaledEventAttributes { signal_name: "s".into(), ..Default::default() };
        self.happen(A::WorkflowExecutionSignaledEventAttributes(signal), true);
    }

    pub fn cancel(&mut self) {
        self.happen(A::WorkflowExecutionCancelRequestedEventAttributes(Default::default()), true);
    }

    /// Somebody asks for an update: by a message with the next task, or kept in history.
    pub fn update(&mut self, admitted: bool) {
        if self.closed || self.updates_made >= 8 {
            return;
        }
        self.updates_made += 1;
        let id = format!("u{}", self.updates_made);
        if admitted {
            let request = Some(request(&id));
            let attributes = h::WorkflowExecutionUpdateAdmittedEventAttributes { request };
            return self.happen(A::WorkflowExecutionUpdateAdmittedEventAttributes(attributes), true);
        }
        self.updates.push_back(Update { id, sent: false, sequencing: 0 });
        self.schedule(true);
    }

    /// Whether a task waits for a worker.
    pub fn has_task(&self) -> bool {
        self.task.as_ref().is_some_and(|t| t.started.is_none())
    }

    pub fn is_started(&self) -> bool {
        self.task.as_ref().is_some_and(|t| t.started.is_some())
    }

    /// Whether a query can be asked apart from a task.
    pub fn takes_queries(&self) -> bool {
        self.task.is_none() && self.previous_started > 0
    }

    fn token(&mut self) -> Bytes {
        self.tokens += 1;
        format!("{}/{}", self.run_id, self.tokens).into()
    }

    /// Starts the task for a worker. The caller pages the history of the answer.
    pub fn start(&mut self) -> api::PollWorkflowTaskQueueResponse {
        let token = self.token();
        let written = self.events.len() as i64;
        let task = self.task.as_mut().expect("a task waits");
        let event = if task.unwritten { written + 2 } else { written + 1 };
        task.started = Some(Started { event, token: token.clone(), at: self.now });
        let (attempt, unwritten) = (task.attempt, task.unwritten);
        if !unwritten {
            self.write(started_event(event - 1));
        } else {
            self.now += 2_000_000;
        }
        let mut messages = Vec::new();
        for update in &mut self.updates {
            update.sent = true;
            update.sequencing = event - 2;
            messages.push(api::Message {
                id: format!("{}/request", update.id),
                protocol_instance_id: update.id.clone(),
                sequencing_id: Some(api::message::SequencingId::EventId(update.sequencing)),
                body: Some(api::Any {
                    type_url: "type.googleapis.com/temporal.api.update.v1.Request".to_owned(),
                    value: request(&update.id),
                }),
            });
        }
        api::PollWorkflowTaskQueueResponse { started_event_id: event, attempt, messages, ..self.poll(token) }
    }

    /// A query apart from tasks.
    pub fn query(&mut self) -> api::PollWorkflowTaskQueueResponse {
        let token = self.token();
        let query = api::WorkflowQuery { query_type: "q".into(), query_args: None, header: None };
        api::PollWorkflowTaskQueueResponse { attempt: 1, query: Some(query), ..self.poll(token) }
    }

    fn poll(&self, token: Bytes) -> api::PollWorkflowTaskQueueResponse {
        api::PollWorkflowTaskQueueResponse {
            task_token: token,
            workflow_execution: Some(api::WorkflowExecution {
                workflow_id: format!("wf-{}", self.run_id),
                run_id: self.run_id.clone(),
            }),
            workflow_type: Some(api::WorkflowType { name: "w".into() }),
            previous_started_event_id: self.previous_started,
            ..Default::default()
        }
    }

    /// The events that a worker may see now, with those of an unwritten task.
    pub fn visible(&self) -> Vec<Bytes> {
        let mut events: Vec<Bytes> = self.events.iter().map(|e| e.encode_to_vec().into()).collect();
        if let Some(task) = &self.task
            && task.unwritten
            && let Some(started) = &task.started
        {
            events.extend(self.unwritten(started).iter().map(|e| Bytes::from(e.encode_to_vec())));
        }
        events
    }

    fn is_current(&self, token: &Bytes) -> bool {
        self.task.as_ref().and_then(|t| t.started.as_ref()).is_some_and(|s| s.token == *token)
    }

    /// The task came to nothing: it timed out, or the worker failed it.
    pub fn lose(&mut self, timed_out: bool) {
        let Some(task) = &mut self.task else { return };
        let Some(started) = task.started.take() else { return };
        let (unwritten, attempt, speculative) = (task.unwritten, task.attempt, task.speculative);
        self.sticky = false;
        self.updates.iter_mut().for_each(|u| u.sent = false);
        if unwritten && !speculative && attempt > 1 && self.buffered.is_empty() {
            // Nothing is written of later attempts.
            let task = self.task.as_mut().expect("it was there");
            task.attempt += 1;
            return;
        }
        if unwritten {
            let events = self.unwritten(&started);
            self.events.extend(events);
        }
        self.write(if timed_out {
            A::WorkflowTaskTimedOutEventAttributes(Bytes::new())
        } else {
            A::WorkflowTaskFailedEventAttributes(h::WorkflowTaskFailedEventAttributes {
                started_event_id: started.event,
                ..Default::default()
            })
        });
        self.task = None;
        if self.flush() {
            self.schedule(false);
        } else {
            self.task = Some(WorkflowTask {
                started: None,
                attempt: attempt + 1,
                unwritten: true,
                speculative: false,
            });
        }
    }

    /// Writes what was kept. The ends of activities, children and Nexus operations come last.
    fn flush(&mut self) -> bool {
        let buffered = std::mem::take(&mut self.buffered);
        let (last, first): (Vec<_>, Vec<_>) = buffered.into_iter().partition(|(a, _)| is_closing(a));
        let any = !last.is_empty() || !first.is_empty();
        for (attributes, _) in first.into_iter().chain(last) {
            self.write(attributes);
        }
        any
    }

    pub fn fail(&mut self, token: &Bytes) -> Verdict {
        if !self.is_current(token) {
            return Verdict::Unknown;
        }
        self.lose(false);
        Verdict::Taken { reset: 0 }
    }

    /// Takes an answer.
    pub fn complete(&mut self, c: &TaskCompletion) -> Verdict {
        if !self.is_current(&c.token) {
            return Verdict::Unknown;
        }
        for command in &c.commands {
            if let Some(C::CancelTimerCommandAttributes(cancel)) = &command.attributes {
                let fired =
                    |a: &A| matches!(a, A::TimerFiredEventAttributes(e) if e.timer_id == cancel.timer_id);
                if let Some(at) = self.buffered.iter().position(|(a, _)| fired(a)) {
                    let (A::TimerFiredEventAttributes(e), _) = self.buffered.remove(at) else {
                        unreachable!()
                    };
                    let what = Thing::Timer { id: e.timer_id };
                    self.pending.push(Pending { initiated: e.started_event_id, what });
                }
            }
        }
        if c.closes && !self.buffered.is_empty() {
            self.lose(false);
            return Verdict::Unhandled;
        }
        let task = self.task.take().expect("it is current");
        let started = task.started.expect("it is current");
        let rejected = c.messages.iter().all(|m| m.id.ends_with("/reject"));
        let nothing = c.commands.is_empty() && !c.force_new_task && self.buffered.is_empty();
        self.updates.retain(|u| !u.sent || !c.messages.iter().any(|m| m.protocol_instance_id == u.id));
        self.sticky = true;
        if task.speculative && rejected && nothing && self.previous_started > 0 {
            self.after(false);
            return Verdict::Taken { reset: self.previous_started };
        }
        if task.unwritten {
            let events = self.unwritten(&started);
            self.events.extend(events);
        }
        assert_eq!(self.events.len() as i64, started.event, "nothing is written while a task is started");
        self.previous_started = started.event;
        self.write(completed_event(c, started.event));
        c.commands.iter().for_each(|command| self.command(command, c));
        let flushed = self.flush();
        self.after(flushed || c.force_new_task);
        Verdict::Taken { reset: 0 }
    }

    fn after(&mut self, needs_task: bool) {
        if self.closed {
            self.pending.clear();
            self.updates.clear();
            return;
        }
        self.updates.iter_mut().for_each(|u| u.sent = false);
        if needs_task {
            self.schedule(false);
        } else if !self.updates.is_empty() {
            self.schedule(true);
        }
    }

    fn command(&mut self, command: &api::Command, c: &TaskCompletion) {
        assert!(!self.closed, "a command after the one that closes");
        let pending = match command.attributes.as_ref().expect("a command has attributes") {
            C::StartTimerCommandAttributes(a) => {
                let id = Bytes::from(a.timer_id.clone().into_bytes());
                self.write(A::TimerStartedEventAttributes(h::TimerStartedEventAttributes {
                    timer_id: id.clone(),
                }));
                Some(Thing::Timer { id })
            }
            C::CancelTimerCommandAttributes(a) => {
                let is = |p: &Pending| matches!(&p.what, Thing::Timer { id } if *id == a.timer_id);
                let at = self.pending.iter().position(is).expect("only timers that run are cancelled");
                let started_event_id = self.pending.remove(at).initiated;
                let timer_id = Bytes::from(a.timer_id.clone().into_bytes());
                let attributes = h::TimerCanceledEventAttributes { timer_id, started_event_id };
                self.write(A::TimerCanceledEventAttributes(attributes));
                None
            }
            C::ScheduleActivityTaskCommandAttributes(a) => {
                let activity_type =
                    a.activity_type.as_ref().map(|t| h::ActivityType { name: t.name.clone() });
                let activity_id = a.activity_id.clone();
                let attributes = h::ActivityTaskScheduledEventAttributes { activity_id, activity_type };
                self.write(A::ActivityTaskScheduledEventAttributes(attributes));
                Some(Thing::Activity { started: false, canceling: false })
            }
            C::RequestCancelActivityTaskCommandAttributes(a) => {
                let scheduled_event_id = a.scheduled_event_id;
                let attributes = h::ActivityTaskCancelRequestedEventAttributes { scheduled_event_id };
                self.write(A::ActivityTaskCancelRequestedEventAttributes(attributes));
                self.canceling(scheduled_event_id);
                None
            }
            C::StartChildWorkflowExecutionCommandAttributes(a) => {
                let workflow_type =
                    a.workflow_type.as_ref().map(|t| h::WorkflowType { name: t.name.clone() });
                let id = a.workflow_id.clone();
                let attributes = h::StartChildWorkflowExecutionInitiatedEventAttributes {
                    workflow_id: id.clone(),
                    workflow_type,
                };
                self.write(A::StartChildWorkflowExecutionInitiatedEventAttributes(attributes));
                Some(Thing::Child { id, started: false, canceling: false })
            }
            C::SignalExternalWorkflowExecutionCommandAttributes(_) => {
                self.write(A::SignalExternalWorkflowExecutionInitiatedEventAttributes(Bytes::new()));
                Some(Thing::Signal)
            }
            C::RequestCancelExternalWorkflowExecutionCommandAttributes(a) => {
                self.write(A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(Bytes::new()));
                for pending in &mut self.pending {
                    if let Thing::Child { id, canceling, .. } = &mut pending.what {
                        *canceling |= *id == a.workflow_id;
                    }
                }
                Some(Thing::Cancel)
            }
            C::ScheduleNexusOperationCommandAttributes(a) => {
                let (endpoint, service, operation) =
                    (a.endpoint.clone(), a.service.clone(), a.operation.clone());
                let attributes = h::NexusOperationScheduledEventAttributes { endpoint, service, operation };
                self.write(A::NexusOperationScheduledEventAttributes(attributes));
                Some(Thing::Nexus { started: false, canceling: false })
            }
            C::RequestCancelNexusOperationCommandAttributes(a) => {
                let scheduled = a.scheduled_event_id;
                let attributes =
                    h::NexusOperationCancelRequestedEventAttributes { scheduled_event_id: scheduled };
                self.write(A::NexusOperationCancelRequestedEventAttributes(attributes));
                // An operation whose end is kept for after this task takes no cancellation.
                self.canceling(scheduled).then_some(Thing::NexusCancel { scheduled })
            }
            C::RecordMarkerCommandAttributes(a) => {
                let details =
                    a.details.iter().map(|(k, v)| (k.clone(), Bytes::from(v.encode_to_vec()))).collect();
                let marker_name = Bytes::from(a.marker_name.clone().into_bytes());
                let attributes =
                    h::MarkerRecordedEventAttributes { marker_name, details, failure: a.failure.clone() };
                self.write(A::MarkerRecordedEventAttributes(attributes));
                None
            }
            C::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
                let given = a.search_attributes.clone().unwrap_or_default();
                let search_attributes = Some(h::SearchAttributes::decode(given).expect("they are sound"));
                let attributes = h::UpsertWorkflowSearchAttributesEventAttributes { search_attributes };
                self.write(A::UpsertWorkflowSearchAttributesEventAttributes(attributes));
                None
            }
            C::ModifyWorkflowPropertiesCommandAttributes(_) => {
                self.write(A::WorkflowPropertiesModifiedEventAttributes(Bytes::new()));
                None
            }
            C::ProtocolMessageCommandAttributes(a) => {
                let message =
                    c.messages.iter().find(|m| m.id == a.message_id).expect("its message came along");
                self.protocol(message);
                None
            }
            C::CompleteWorkflowExecutionCommandAttributes(_) => {
                self.close(A::WorkflowExecutionCompletedEventAttributes(Bytes::new()))
            }
            C::FailWorkflowExecutionCommandAttributes(_) => {
                self.close(A::WorkflowExecutionFailedEventAttributes(Bytes::new()))
            }
            C::CancelWorkflowExecutionCommandAttributes(_) => {
                self.close(A::WorkflowExecutionCanceledEventAttributes(Bytes::new()))
            }
            C::ContinueAsNewWorkflowExecutionCommandAttributes(_) => {
                self.close(A::WorkflowExecutionContinuedAsNewEventAttributes(Bytes::new()))
            }
        };
        if let Some(what) = pending {
            self.pending.push(Pending { initiated: self.events.len() as i64, what });
        }
    }

    fn close(&mut self, attributes: A) -> Option<Thing> {
        self.write(attributes);
        self.closed = true;
        None
    }

    fn canceling(&mut self, op: i64) -> bool {
        let Some(pending) = self.pending.iter_mut().find(|p| p.initiated == op) else { return false };
        if let Thing::Activity { canceling, .. } | Thing::Nexus { canceling, .. } = &mut pending.what {
            *canceling = true;
        }
        true
    }

    fn protocol(&mut self, message: &api::Message) {
        let body = message.body.as_ref().expect("a message has a body");
        let id = &message.protocol_instance_id;
        if message.id.ends_with("/accept") {
            let acceptance = api::Acceptance::decode(body.value.clone()).expect("it is an acceptance");
            let attributes = h::WorkflowExecutionUpdateAcceptedEventAttributes {
                protocol_instance_id: id.clone(),
                accepted_request_message_id: acceptance.accepted_request_message_id,
                accepted_request_sequencing_event_id: acceptance.accepted_request_sequencing_event_id,
                accepted_request: acceptance.accepted_request,
            };
            self.write(A::WorkflowExecutionUpdateAcceptedEventAttributes(attributes));
            return;
        }
        let accepted = |e: &HistoryEvent| matches!(&e.attributes, Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(a)) if a.protocol_instance_id == *id);
        let accepted_event_id = self.events.iter().find(|e| accepted(e)).expect("it was accepted").event_id;
        let attributes = h::WorkflowExecutionUpdateCompletedEventAttributes { accepted_event_id };
        self.write(A::WorkflowExecutionUpdateCompletedEventAttributes(attributes));
    }

    /// How many things in the world have no end yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Something in the world goes on.
    pub fn progress(&mut self, random: &mut Random) {
        if self.pending.is_empty() {
            return;
        }
        let at = random.below(self.pending.len());
        let mut pending = self.pending.remove(at);
        let id = pending.initiated;
        let dice = random.below(10);
        match &mut pending.what {
            Thing::Timer { id: timer_id } => {
                let timer_id = timer_id.clone();
                let attributes = h::TimerFiredEventAttributes { timer_id, started_event_id: id };
                self.happen(A::TimerFiredEventAttributes(attributes), true);
            }
            Thing::Activity { started, canceling } => {
                if !*started && !*canceling && dice < 8 {
                    *started = true; // its start is written with its end
                    self.pending.push(pending);
                    return;
                }
                let mut begun = 0;
                if *started {
                    let attributes = h::ActivityTaskStartedEventAttributes { scheduled_event_id: id };
                    self.happen(A::ActivityTaskStartedEventAttributes(attributes), false);
                    begun = self.events.len() as i64;
                }
                let canceled = *canceling && (!*started || dice < 6);
                let attributes = activity_end(id, begun, if canceled { 9 } else { dice.min(8) });
                self.happen(attributes, true);
            }
            Thing::Child { id: child, started: started @ false, .. } => {
                if dice == 0 {
                    let failed = h::StartChildWorkflowExecutionFailedEventAttributes {
                        initiated_event_id: id,
                        workflow_id: child.clone(),
                        cause: 1,
                        ..Default::default()
                    };
                    return self.happen(A::StartChildWorkflowExecutionFailedEventAttributes(failed), true);
                }
                *started = true;
                let execution =
                    h::WorkflowExecution { workflow_id: child.clone(), run_id: format!("c{id}").into() };
                let attributes = h::ChildWorkflowExecutionStartedEventAttributes {
                    initiated_event_id: id,
                    workflow_execution: Some(execution),
                };
                self.pending.push(pending);
                self.happen(A::ChildWorkflowExecutionStartedEventAttributes(attributes), true);
            }
            Thing::Child { canceling, .. } => {
                let end = child_end(id, if *canceling && dice < 8 { 9 } else { dice.min(8) });
                self.happen(end, true);
            }
            Thing::Signal if dice < 8 => {
                let done = h::ExternalWorkflowExecutionSignaledEventAttributes { initiated_event_id: id };
                self.happen(A::ExternalWorkflowExecutionSignaledEventAttributes(done), true);
            }
            Thing::Signal => {
                let failed = h::SignalExternalWorkflowExecutionFailedEventAttributes {
                    cause: 1,
                    initiated_event_id: id,
                };
                self.happen(A::SignalExternalWorkflowExecutionFailedEventAttributes(failed), true);
            }
            Thing::Cancel if dice < 8 => {
                let done =
                    h::ExternalWorkflowExecutionCancelRequestedEventAttributes { initiated_event_id: id };
                self.happen(A::ExternalWorkflowExecutionCancelRequestedEventAttributes(done), true);
            }
            Thing::Cancel => {
                let failed = h::RequestCancelExternalWorkflowExecutionFailedEventAttributes {
                    cause: 1,
                    initiated_event_id: id,
                };
                self.happen(A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(failed), true);
            }
            Thing::Nexus { started: started @ false, .. } if dice < 6 => {
                *started = true;
                let attributes = h::NexusOperationStartedEventAttributes {
                    scheduled_event_id: id,
                    operation_token: format!("t{id}").into(),
                    ..Default::default()
                };
                self.pending.push(pending);
                self.happen(A::NexusOperationStartedEventAttributes(attributes), true);
            }
            Thing::Nexus { canceling, .. } => {
                let end = nexus_end(id, if *canceling && dice < 8 { 9 } else { dice.min(8) });
                self.happen(end, true);
            }
            Thing::NexusCancel { scheduled } if dice < 8 => {
                let done =
                    h::NexusOperationCancelRequestCompletedEventAttributes { scheduled_event_id: *scheduled };
                self.happen(A::NexusOperationCancelRequestCompletedEventAttributes(done), true);
            }
            Thing::NexusCancel { scheduled } => {
                let failed = h::NexusOperationCancelRequestFailedEventAttributes {
                    scheduled_event_id: *scheduled,
                    failure: Some(failure("refused")),
                };
                self.happen(A::NexusOperationCancelRequestFailedEventAttributes(failed), true);
            }
        }
    }

    /// The run is ended from outside.
    pub fn terminate(&mut self) {
        if self.closed {
            return;
        }
        if self.is_started() {
            self.lose(false);
        }
        self.task = None;
        self.write(A::WorkflowExecutionTerminatedEventAttributes(Bytes::new()));
        self.closed = true;
        self.after(false);
    }
}

fn payloads(text: &str) -> Option<Bytes> {
    Some(h::Payloads { payloads: vec![payload(text)] }.encode_to_vec().into())
}

fn activity_end(id: i64, started: i64, how: usize) -> A {
    match how {
        0..=5 => A::ActivityTaskCompletedEventAttributes(h::ActivityTaskCompletedEventAttributes {
            result: payloads("done"),
            scheduled_event_id: id,
        }),
        6..=7 => A::ActivityTaskFailedEventAttributes(h::ActivityTaskFailedEventAttributes {
            failure: Some(failure("bad")),
            scheduled_event_id: id,
            started_event_id: started,
            ..Default::default()
        }),
        8 => A::ActivityTaskTimedOutEventAttributes(h::ActivityTaskTimedOutEventAttributes {
            scheduled_event_id: id,
            started_event_id: started,
            ..Default::default()
        }),
        _ => A::ActivityTaskCanceledEventAttributes(h::ActivityTaskCanceledEventAttributes {
            scheduled_event_id: id,
            started_event_id: started,
            ..Default::default()
        }),
    }
}

fn child_end(id: i64, how: usize) -> A {
    match how {
        0..=5 => A::ChildWorkflowExecutionCompletedEventAttributes(
            h::ChildWorkflowExecutionCompletedEventAttributes {
                result: payloads("done"),
                initiated_event_id: id,
            },
        ),
        6 => A::ChildWorkflowExecutionFailedEventAttributes(h::ChildWorkflowExecutionFailedEventAttributes {
            failure: Some(failure("bad")),
            initiated_event_id: id,
            retry_state: 1,
        }),
        7 => A::ChildWorkflowExecutionTimedOutEventAttributes(
            h::ChildWorkflowExecutionTimedOutEventAttributes { initiated_event_id: id, retry_state: 3 },
        ),
        8 => A::ChildWorkflowExecutionTerminatedEventAttributes(
            h::ChildWorkflowExecutionTerminatedEventAttributes { initiated_event_id: id },
        ),
        _ => A::ChildWorkflowExecutionCanceledEventAttributes(
            h::ChildWorkflowExecutionCanceledEventAttributes { details: None, initiated_event_id: id },
        ),
    }
}

fn nexus_end(id: i64, how: usize) -> A {
    let scheduled_event_id = id;
    let bad = Some(failure("bad"));
    match how {
        0..=5 => A::NexusOperationCompletedEventAttributes(h::NexusOperationCompletedEventAttributes {
            scheduled_event_id,
            result: Some(payload("done")),
        }),
        6..=7 => A::NexusOperationFailedEventAttributes(h::NexusOperationFailedEventAttributes {
            scheduled_event_id,
            failure: bad,
        }),
        8 => A::NexusOperationTimedOutEventAttributes(h::NexusOperationTimedOutEventAttributes {
            scheduled_event_id,
            failure: bad,
        }),
        _ => A::NexusOperationCanceledEventAttributes(h::NexusOperationCanceledEventAttributes {
            scheduled_event_id,
            failure: bad,
        }),
    }
}

fn scheduled_event() -> A {
    let start_to_close_timeout = Some(Duration { seconds: 10, nanos: 0 });
    A::WorkflowTaskScheduledEventAttributes(h::WorkflowTaskScheduledEventAttributes {
        start_to_close_timeout,
    })
}

fn started_event(scheduled_event_id: i64) -> A {
    A::WorkflowTaskStartedEventAttributes(h::WorkflowTaskStartedEventAttributes {
        scheduled_event_id,
        history_size_bytes: 100 * scheduled_event_id,
        ..Default::default()
    })
}

fn completed_event(c: &TaskCompletion, started_event_id: i64) -> A {
    let metadata = h::WorkflowTaskCompletedMetadata {
        core_used_flags: c.core_flags.clone(),
        lang_used_flags: c.lang_flags.clone(),
        sdk_name: if c.write_sdk { "sim".into() } else { Default::default() },
        sdk_version: if c.write_sdk { "1".into() } else { Default::default() },
    };
    A::WorkflowTaskCompletedEventAttributes(h::WorkflowTaskCompletedEventAttributes {
        started_event_id,
        sdk_metadata: Some(metadata),
        ..Default::default()
    })
}

fn request(id: &str) -> Bytes {
    let meta = api::Meta { update_id: id.to_owned().into() };
    let input = api::Input { header: None, name: "up".into(), args: None };
    api::Request { meta: Some(meta.encode_to_vec().into()), input: Some(input) }.encode_to_vec().into()
}

fn is_closing(attributes: &A) -> bool {
    let t = event_type(attributes);
    [12, 13, 14, 16, 32, 33, 34, 35, 36, 50, 51, 52, 53].contains(&t)
}

/// By its place in the oneof: the API numbers events in another order.
fn event_type(attributes: &A) -> i32 {
    const TYPES: &[(u64, i32)] = &[
        (6, 1),
        (7, 2),
        (8, 3),
        (9, 4),
        (10, 5),
        (11, 6),
        (12, 7),
        (13, 8),
        (14, 9),
        (15, 10),
        (16, 11),
        (17, 12),
        (18, 13),
        (19, 14),
        (20, 17),
        (21, 18),
        (22, 15),
        (23, 16),
        (24, 19),
        (25, 25),
        (26, 26),
        (27, 27),
        (28, 20),
        (29, 21),
        (30, 22),
        (31, 23),
        (32, 24),
        (33, 28),
        (34, 29),
        (35, 30),
        (36, 31),
        (37, 32),
        (38, 33),
        (39, 34),
        (40, 35),
        (41, 36),
        (42, 37),
        (43, 38),
        (44, 39),
        (45, 40),
        (46, 41),
        (47, 42),
        (48, 43),
        (51, 46),
        (52, 47),
        (53, 48),
        (54, 49),
        (55, 50),
        (56, 51),
        (57, 52),
        (58, 53),
        (59, 54),
        (61, 56),
        (62, 57),
    ];
    let event = HistoryEvent { attributes: Some(attributes.clone()), ..Default::default() };
    let mut bytes = &event.encode_to_vec()[..];
    let tag = prost::encoding::decode_varint(&mut bytes).expect("it was just encoded") >> 3;
    let types: BTreeMap<u64, i32> = TYPES.iter().copied().collect();
    types[&tag]
}

/// The tickets of tasks that are held, each once.
#[derive(Debug, Default)]
pub struct Tickets {
    next: u64,
    held: Vec<Ticket>,
}

impl Tickets {
    pub fn give(&mut self) -> Ticket {
        self.next += 1;
        self.held.push(Ticket(self.next));
        Ticket(self.next)
    }

    pub fn done(&mut self, ticket: Ticket) {
        let at = self.held.iter().position(|t| *t == ticket);
        self.held.remove(at.unwrap_or_else(|| panic!("{ticket:?} is done twice, or was never given")));
    }

    pub fn held(&self) -> &[Ticket] {
        &self.held
    }
}
