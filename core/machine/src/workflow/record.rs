//! What a turn recorded, against what the code asked for: command events meet the queue in order.

use bytes::Bytes;
use outlast_proto::lens::history as h;

use super::describe::{self, of_service, of_type, text};
use super::{Mode, Workflow, local};
use crate::event::{Entry, Event, EventId, Type};
use crate::failure::first_of;
use crate::fault::{AROUND, Difference, Fault, Mismatch};
use crate::flags::CoreFlag;
use crate::history::Turn;
use crate::marker::{LocalMarker, Marker, Patch};
use crate::ops::external::Purpose;
use crate::ops::local::{Local, State as LocalState};
use crate::ops::{Names, Op, Out, Then, activity, child, external, nexus, timer, update};
use crate::queue::{Kind, NO_OP, Queued};
use crate::wire::Value;

impl Workflow {
    /// Compares the commands of the turn that was just played with what the code asked for.
    pub fn settle(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        self.suspect = None;
        let check_names = self.flags.on(CoreFlag::IdAndTypeChecks, self.mode == Mode::Live);
        let commands = std::mem::take(&mut turn.commands);
        let mut at = 0;
        let mut result = Ok(());
        while at < commands.len() && result.is_ok() {
            let rest = &commands[at..];
            result = match self.record(rest, &turn.page, check_names) {
                Ok(taken) => {
                    at += taken;
                    Ok(())
                }
                Err(fault) => Err(self.explain(fault, rest, &turn.page)),
            };
        }
        turn.commands = commands;
        result?;
        if self.mode == Mode::Replay {
            self.drop_unrecorded_patches();
            self.nothing_more(turn)?;
        }
        Ok(())
    }

    /// The commands of a completed task are all known: code that asks for more in its place was changed. One exception: a
    /// task of the reference core that answers queries beside local activities may end with the marker of one whose result
    /// the code heard only in the next task, which follows at once. What the code asked for then is there.
    fn nothing_more(&self, turn: &Turn) -> Result<(), Fault> {
        let by_marker = turn.commands.last().is_some_and(|event| event.kind == Some(Type::MarkerRecorded));
        if turn.goes_on && by_marker && matches!(self.markers.last(), Some(Marker::Local(_))) {
            return Ok(());
        }
        let mut more = self.queue.expected().filter(|q| q.kind != Kind::Patch).map(describe::queued);
        let (Some(first), Some(started)) = (more.next(), turn.started) else { return Ok(()) };
        let recorded = match turn.commands.len() {
            0 => "WORKFLOW_TASK_COMPLETED without commands".to_owned(),
            1 => "WORKFLOW_TASK_COMPLETED with 1 command".to_owned(),
            n => format!("WORKFLOW_TASK_COMPLETED with {n} commands"),
        };
        let mut mismatch = Mismatch::new(EventId(started.0 + 1), recorded, Some(format!("{first} as well")));
        mismatch.asked_next = more.take(AROUND).collect();
        Err(Fault::Nondeterminism(Box::new(mismatch)))
    }

    /// Takes in what completed the turn that was answered live.
    pub fn recorded(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        if let Some(completed) = turn.completed.take() {
            self.absorb(&completed);
        }
        self.read_markers(turn)?;
        self.settle(turn)
    }

    /// Meets the first of `events` with the queue. Returns how many of them are done with.
    fn record(&mut self, events: &[Entry], page: &Bytes, check_names: bool) -> Result<usize, Fault> {
        let event = &events[0].event(page);
        let id = event.id;
        if event.kind == Some(Type::MarkerRecorded) {
            let Some(marker) = self.markers.get(self.markers_settled) else {
                return Err(Fault::malformed(id, "its marker was not read"));
            };
            self.markers_settled += 1;
            return match marker {
                Marker::Patch(patch) => {
                    let patch = Patch { id: patch.id.clone(), deprecated: patch.deprecated };
                    self.record_patch(events, page, &patch)
                }
                Marker::Local(_) => self.record_local(event, self.markers_settled - 1, check_names),
            };
        }
        let Some(kind) = kind(event) else {
            return Err(Fault::malformed(id, "the core does not know what command it records"));
        };
        if kind == Kind::CancelTimer {
            self.bring_forward(event)?;
        }
        let queued = self.expect(event, kind)?;
        if queued.op != NO_OP {
            self.record_op(event, &queued, check_names)?;
        }
        if kind.closes() {
            self.terminal_seen = true;
        }
        Ok(1)
    }

    /// Takes the front of the queue, which must be of `kind`. Patches that the code asked for and that are not in
    /// history give way: the code was changed after this task.
    fn expect(&mut self, event: &Event<'_>, kind: Kind) -> Result<Queued, Fault> {
        loop {
            match self.queue.front() {
                Some(front) if front.kind == kind => {}
                Some(front) if front.kind == Kind::Patch => {
                    self.queue.pop();
                    continue;
                }
                Some(_) | None => return Err(self.not_asked(event, describe::event(event))),
            }
            if let Some(queued) = self.queue.pop() {
                return Ok(queued);
            }
        }
    }

    /// Cancellations of timers next to each other may come in any order: languages that give up a set of timers
    /// together, as a task group does, need not do it in the same order on replay.
    fn bring_forward(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        let e: h::TimerCanceledEventAttributes = event.attributes()?;
        let seq = std::str::from_utf8(&e.timer_id).ok().and_then(|id| id.parse::<u32>().ok());
        if let Some(index) = seq.and_then(|seq| self.timers.find(seq.into())) {
            self.queue.bring_forward(Kind::CancelTimer, index);
        }
        Ok(())
    }

    /// A patch marker in history. A deprecated one may be missing in the code.
    fn record_patch(&mut self, events: &[Entry], page: &Bytes, patch: &Patch) -> Result<usize, Fault> {
        let asked = match self.queue.front() {
            Some(Queued { kind: Kind::Patch, ask: crate::queue::Ask::Patch(asked), .. }) => {
                Some(asked.patch_id.clone())
            }
            // It was sent and is recorded now, in order.
            Some(Queued { kind: Kind::Patch, .. }) => Some(patch.id.clone()),
            Some(_) | None => None,
        };
        if asked.as_deref() == Some(patch.id.as_str()) {
            self.queue.pop();
            return Ok(1);
        }
        if patch.deprecated {
            return Ok(if events.get(1).is_some_and(|e| is_change_version(&e.event(page))) { 2 } else { 1 });
        }
        let recorded = format!("the marker of patch {:?}", patch.id);
        let Some(asked) = asked else { return Err(self.not_asked(&events[0].event(page), recorded)) };
        let differs =
            vec![Difference { field: "patch_id", recorded: patch.id.clone(), asked: asked.clone() }];
        let asked = Some(format!("patch {asked:?}"));
        Err(Fault::mismatch(events[0].id, recorded, asked, differs))
    }

    /// A local activity's marker. One that gave its result in replay stands outside the order of commands.
    fn record_local(&mut self, event: &Event<'_>, marker: usize, check_names: bool) -> Result<usize, Fault> {
        let Some(Marker::Local(marker)) = self.markers.get(marker) else { return Ok(1) };
        let index = self.locals.find(marker.data.seq.into());
        let Some((index, Op::Local(op))) = index.and_then(|i| Some((i, self.ops.get_mut(i)?))) else {
            let recorded = marker.words();
            return Err(self.not_asked(event, recorded));
        };
        let same = same_local(event, op, marker);
        suspect(same, check_names, &mut self.suspect)?;
        match op.state {
            LocalState::Resolved { from_marker: true } => {}
            LocalState::Resolved { from_marker: false } => {
                self.expect(event, Kind::LocalMarker)?;
            }
            LocalState::Replaying
            | LocalState::Wanted
            | LocalState::Running { .. }
            | LocalState::Backoff { .. } => {
                let recorded = marker.words();
                return Err(self.not_asked(event, recorded));
            }
        }
        self.end(index);
        Ok(1)
    }

    /// Tells the op of a command that it is in history.
    fn record_op(&mut self, event: &Event<'_>, queued: &Queued, check_names: bool) -> Result<(), Fault> {
        let (id, index) = (event.id, queued.op);
        let Some(op) = self.ops.get_mut(index) else { return Ok(()) };
        let mut out = Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue };
        let then = match op {
            Op::Timer(op) if queued.kind == Kind::StartTimer => op.on(id, timer::Event::Started, &mut out)?,
            Op::Timer(op) => {
                let e: h::TimerCanceledEventAttributes = event.attributes()?;
                self.events.clear(e.started_event_id as u64);
                op.on(id, timer::Event::Canceled, &mut out)?
            }
            Op::Activity(op) if queued.kind == Kind::ScheduleActivity => {
                let (mut activity_id, mut kind) = (&[][..], &[][..]);
                event.fields(|tag, value| match (tag, value) {
                    (1, Value::Bytes(text)) => activity_id = text,
                    // A message that holds a name: one field, like a list of one payload.
                    (2, Value::Bytes(named)) => kind = first_of(named).unwrap_or_default(),
                    (_, Value::Number(_) | Value::Bytes(_) | Value::Other) => {}
                })?;
                let same = same_names(event, &op.names, activity_id, kind, ["activity_id", "activity_type"]);
                suspect(same, check_names, &mut self.suspect)?;
                op.on(id, activity::Event::Scheduled, &mut out)?
            }
            Op::Activity(op) => op.on(id, activity::Event::CancelRequested, &mut out)?,
            Op::Child(op) => {
                let e: h::StartChildWorkflowExecutionInitiatedEventAttributes = event.attributes()?;
                let kind = e.workflow_type.unwrap_or_default().name;
                let same =
                    same_names(event, &op.names, &e.workflow_id, &kind, ["workflow_id", "workflow_type"]);
                suspect(same, check_names, &mut self.suspect)?;
                op.on(id, child::Event::Initiated, &mut out)?
            }
            Op::Signal(op) => op.on(id, external::Event::Initiated, Purpose::Signal, &mut out)?,
            Op::Cancel(op) => op.on(id, external::Event::Initiated, Purpose::Cancel, &mut out)?,
            Op::Nexus(op) if queued.kind == Kind::ScheduleNexus => {
                let e: h::NexusOperationScheduledEventAttributes = event.attributes()?;
                let same = same_operation(event, op, &e);
                suspect(same, check_names, &mut self.suspect)?;
                op.on(id, nexus::Event::Scheduled, &mut out)?
            }
            Op::Nexus(op) => op.on(id, nexus::Event::CancelRequested, &mut out)?,
            Op::Update(op) if queued.kind == Kind::AcceptUpdate => op.on(id, update::Event::Accepted)?,
            Op::Update(op) => op.on(id, update::Event::Completed)?,
            Op::Local(_) => Then::Stays,
        };
        match then {
            Then::Ends => self.end(index),
            Then::Stays if queued.kind.begins() => drop(self.events.set(id.0 as u64, index)),
            Then::Stays => {}
        }
        Ok(())
    }

    /// Patches that the code asked for at the end of a replayed task, and that are not in history, never were.
    fn drop_unrecorded_patches(&mut self) {
        while self.queue.front().is_some_and(|q| q.kind == Kind::Patch) {
            self.queue.pop();
        }
    }

    fn not_asked(&mut self, event: &Event<'_>, recorded: String) -> Fault {
        let asked = self.queue.front().map(describe::queued);
        Fault::mismatch(event.id, recorded, asked, Vec::new())
    }

    /// Adds what surrounds a mismatch.
    fn explain(&self, fault: Fault, events: &[Entry], page: &Bytes) -> Fault {
        let Fault::Nondeterminism(mut mismatch) = fault else { return fault };
        mismatch.recorded_next =
            events.iter().skip(1).take(AROUND).map(|e| describe::event(&e.event(page))).collect();
        mismatch.asked_next = self.queue.expected().skip(1).take(AROUND).map(describe::queued).collect();
        Fault::Nondeterminism(mismatch)
    }
}

/// The kind of command that an event records. Markers have theirs in what they say.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the commands are listed, in the order of `Kind`; all else is none"
)]
fn kind(event: &Event<'_>) -> Option<Kind> {
    Some(match event.kind? {
        Type::TimerStarted => Kind::StartTimer,
        Type::TimerCanceled => Kind::CancelTimer,
        Type::ActivityTaskScheduled => Kind::ScheduleActivity,
        Type::ActivityTaskCancelRequested => Kind::CancelActivity,
        Type::StartChildWorkflowExecutionInitiated => Kind::StartChild,
        Type::RequestCancelExternalWorkflowExecutionInitiated => Kind::CancelExternal,
        Type::SignalExternalWorkflowExecutionInitiated => Kind::SignalExternal,
        Type::NexusOperationScheduled => Kind::ScheduleNexus,
        Type::NexusOperationCancelRequested => Kind::CancelNexus,
        Type::UpsertWorkflowSearchAttributes => Kind::UpsertSearchAttributes,
        Type::WorkflowPropertiesModified => Kind::ModifyProperties,
        Type::WorkflowExecutionUpdateAccepted => Kind::AcceptUpdate,
        Type::WorkflowExecutionUpdateCompleted => Kind::CompleteUpdate,
        Type::WorkflowExecutionCompleted => Kind::CompleteWorkflow,
        Type::WorkflowExecutionFailed => Kind::FailWorkflow,
        Type::WorkflowExecutionCanceled => Kind::CancelWorkflow,
        Type::WorkflowExecutionContinuedAsNew => Kind::ContinueAsNew,
        _ => return None,
    })
}

fn is_change_version(event: &Event<'_>) -> bool {
    event.kind == Some(Type::UpsertWorkflowSearchAttributes)
        && event.attributes::<h::UpsertWorkflowSearchAttributesEventAttributes>().is_ok_and(|e| {
            e.search_attributes.is_some_and(|a| a.indexed_fields.contains_key("TemporalChangeVersion"))
        })
}

/// A mismatch of names counts at once if names are checked, else only if it is in the last task.
fn suspect(same: Result<(), Fault>, check_names: bool, suspect: &mut Option<Fault>) -> Result<(), Fault> {
    match same {
        Err(fault) if !check_names => {
            suspect.get_or_insert(fault);
            Ok(())
        }
        same => same,
    }
}

fn same_names(
    event: &Event<'_>,
    asked: &Names,
    id: &[u8],
    kind: &[u8],
    [id_field, kind_field]: [&'static str; 2],
) -> Result<(), Fault> {
    if asked.id() == id && asked.kind() == kind {
        return Ok(());
    }
    let words = of_type(asked.id(), asked.kind());
    Err(differ(event, [(id_field, id, asked.id()), (kind_field, kind, asked.kind())], words))
}

/// Where its endpoint leads may change; what is asked for there may not.
fn same_operation(
    event: &Event<'_>,
    asked: &nexus::Nexus,
    recorded: &h::NexusOperationScheduledEventAttributes,
) -> Result<(), Fault> {
    if asked.service == recorded.service && asked.operation == recorded.operation {
        return Ok(());
    }
    let words = of_service(&asked.operation, &asked.service);
    let service = ("service", &recorded.service[..], &asked.service[..]);
    Err(differ(event, [service, ("operation", &recorded.operation, &asked.operation)], words))
}

/// Names of fields, with what is recorded and what was asked for.
#[cold]
fn differ(event: &Event<'_>, fields: [(&'static str, &[u8], &[u8]); 2], asked: String) -> Fault {
    let differ = fields.into_iter().filter(|(_, recorded, asked)| recorded != asked);
    let differs = differ
        .map(|(field, recorded, asked)| Difference { field, recorded: text(recorded), asked: text(asked) })
        .collect();
    Fault::mismatch(event.id, describe::event(event), Some(asked), differs)
}

fn same_local(event: &Event<'_>, asked: &Local, marker: &LocalMarker) -> Result<(), Fault> {
    let (id, kind) = (marker.data.activity_id.as_bytes(), marker.data.activity_type.as_bytes());
    match same_names(event, &asked.names, id, kind, ["activity_id", "activity_type"]) {
        Err(Fault::Nondeterminism(mut mismatch)) => {
            mismatch.recorded = marker.words();
            mismatch.asked = Some(local::words(asked));
            Err(Fault::Nondeterminism(mismatch))
        }
        other => other,
    }
}
