//! What a turn recorded, against what the code asked for: command events meet the queue in order.

use outlast_proto::lens::history::HistoryEvent;
use outlast_proto::lens::history::history_event::Attributes as A;

use super::{Mode, Workflow, local};
use crate::event::{EventId, type_name};
use crate::fault::{AROUND, Difference, Fault};
use crate::flags::CoreFlag;
use crate::history::Turn;
use crate::marker::{LocalMarker, Marker, Patch};
use crate::ops::external::Purpose;
use crate::ops::local::State as LocalState;
use crate::ops::{Names, Op, Out, activity, child, external, nexus, timer, update};
use crate::queue::{Kind, NO_OP, Queued};

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
            result = match self.record(rest, check_names) {
                Ok(taken) => {
                    at += taken;
                    Ok(())
                }
                Err(fault) => Err(self.explain(fault, rest)),
            };
        }
        turn.commands = commands;
        result?;
        if self.mode == Mode::Replay {
            self.drop_unrecorded_patches();
        }
        Ok(())
    }

    /// Takes in what completed the turn that was answered live.
    pub fn recorded(&mut self, turn: &mut Turn) -> Result<(), Fault> {
        if let Some(completed) = turn.completed.take() {
            self.absorb(&completed);
        }
        self.markers.clear();
        self.markers_settled = 0;
        for event in &turn.commands {
            let Some(A::MarkerRecordedEventAttributes(e)) = &event.attributes else { continue };
            self.markers.push(crate::marker::read(EventId(event.event_id), e)?);
        }
        self.settle(turn)
    }

    /// Meets the first of `events` with the queue. Returns how many of them are done with.
    fn record(&mut self, events: &[HistoryEvent], check_names: bool) -> Result<usize, Fault> {
        let event = &events[0];
        let id = EventId(event.event_id);
        if let Some(A::MarkerRecordedEventAttributes(_)) = &event.attributes {
            let Some(marker) = self.markers.get(self.markers_settled) else {
                return Err(Fault::malformed(id, "its marker was not read"));
            };
            self.markers_settled += 1;
            return match marker {
                Marker::Patch(patch) => {
                    let patch = Patch { id: patch.id.clone(), deprecated: patch.deprecated };
                    self.record_patch(events, &patch)
                }
                Marker::Local(_) => self.record_local(event, self.markers_settled - 1, check_names),
            };
        }
        let Some(kind) = kind(event) else {
            return Err(Fault::malformed(id, "the core does not know what command it records"));
        };
        let queued = self.expect(event, kind)?;
        self.record_op(event, queued, check_names)?;
        if kind.closes() {
            self.terminal_seen = true;
        }
        Ok(1)
    }

    /// Takes the front of the queue, which must be of `kind`. Patches that the code asked for and that are not in
    /// history give way: the code was changed after this task.
    fn expect(&mut self, event: &HistoryEvent, kind: Kind) -> Result<Queued, Fault> {
        loop {
            match self.queue.front() {
                Some(front) if front.kind == kind => {}
                Some(front) if front.kind == Kind::Patch => {
                    self.queue.pop();
                    continue;
                }
                Some(_) | None => return Err(self.not_asked(event, describe(event))),
            }
            if let Some(queued) = self.queue.pop() {
                return Ok(queued);
            }
        }
    }

    /// A patch marker in history. A deprecated one may be missing in the code.
    fn record_patch(&mut self, events: &[HistoryEvent], patch: &Patch) -> Result<usize, Fault> {
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
            return Ok(if events.get(1).is_some_and(is_change_version) { 2 } else { 1 });
        }
        let recorded = format!("the marker of patch {:?}", patch.id);
        let Some(asked) = asked else { return Err(self.not_asked(&events[0], recorded)) };
        let differs =
            vec![Difference { field: "patch_id", recorded: patch.id.clone(), asked: asked.clone() }];
        let asked = Some(format!("patch {asked:?}"));
        Err(Fault::mismatch(EventId(events[0].event_id), recorded, asked, differs))
    }

    /// A local activity's marker. One that gave its result in replay stands outside the order of commands.
    fn record_local(
        &mut self,
        event: &HistoryEvent,
        marker: usize,
        check_names: bool,
    ) -> Result<usize, Fault> {
        let Some(Marker::Local(marker)) = self.markers.get(marker) else { return Ok(1) };
        let recorded = format!(
            "the marker of local activity {:?} of type {:?}",
            marker.data.activity_id, marker.data.activity_type
        );
        let index = self.locals.find(marker.data.seq.into());
        let Some((index, Op::Local(op))) = index.and_then(|i| Some((i, self.ops.get_mut(i)?))) else {
            return Err(self.not_asked(event, recorded));
        };
        let same = same_local(event, recorded.clone(), &op.names, marker, local::words(op));
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
                return Err(self.not_asked(event, recorded));
            }
        }
        self.end(index);
        Ok(1)
    }

    /// Tells the op of a command that it is in history.
    fn record_op(&mut self, event: &HistoryEvent, queued: Queued, check_names: bool) -> Result<(), Fault> {
        if queued.op == NO_OP {
            return Ok(());
        }
        let id = EventId(event.event_id);
        let index = queued.op;
        let Some(op) = self.ops.get_mut(index) else { return Ok(()) };
        let mut out = Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue };
        let begins = match op {
            Op::Timer(op) => match &event.attributes {
                Some(A::TimerCanceledEventAttributes(e)) => {
                    let _ends = op.on(id, timer::Event::Canceled { timer_id: &e.timer_id }, &mut out)?;
                    self.events.clear(e.started_event_id as u64);
                    self.end(index);
                    false
                }
                Some(_) | None => {
                    let _stays = op.on(id, timer::Event::Started, &mut out)?;
                    true
                }
            },
            Op::Activity(op) => match &event.attributes {
                Some(A::ActivityTaskScheduledEventAttributes(e)) => {
                    let kind = e.activity_type.as_ref().map(|t| &t.name[..]).unwrap_or_default();
                    let same =
                        same_names(event, &op.names, &e.activity_id, kind, ["activity_id", "activity_type"]);
                    suspect(same, check_names, &mut self.suspect)?;
                    let _stays = op.on(id, activity::Event::Scheduled, &mut out)?;
                    true
                }
                Some(_) | None => {
                    let _stays = op.on(id, activity::Event::CancelRequested, &mut out)?;
                    false
                }
            },
            Op::Child(op) => {
                if let Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(e)) = &event.attributes {
                    let kind = e.workflow_type.as_ref().map(|t| &t.name[..]).unwrap_or_default();
                    let same =
                        same_names(event, &op.names, &e.workflow_id, kind, ["workflow_id", "workflow_type"]);
                    suspect(same, check_names, &mut self.suspect)?;
                }
                let _stays = op.on(id, child::Event::Initiated, &mut out)?;
                true
            }
            Op::Signal(op) => {
                let _stays = op.on(id, external::Event::Initiated, Purpose::Signal, &mut out)?;
                true
            }
            Op::Cancel(op) => {
                let _stays = op.on(id, external::Event::Initiated, Purpose::Cancel, &mut out)?;
                true
            }
            Op::Nexus(op) => {
                let begins = queued.kind == Kind::ScheduleNexus;
                let what = if begins { nexus::Event::Scheduled } else { nexus::Event::CancelRequested };
                let _stays = op.on(id, what, &mut out)?;
                begins
            }
            Op::Update(op) => {
                let what = if queued.kind == Kind::AcceptUpdate {
                    update::Event::Accepted
                } else {
                    update::Event::Completed
                };
                if op.on(id, what)? == crate::ops::Then::Ends {
                    self.end(index);
                }
                false
            }
            Op::Local(_) => false,
        };
        if begins {
            self.events.set(event.event_id as u64, index);
        }
        Ok(())
    }

    /// Patches that the code asked for at the end of a replayed task, and that are not in history, never were.
    fn drop_unrecorded_patches(&mut self) {
        while self.queue.front().is_some_and(|q| q.kind == Kind::Patch) {
            self.queue.pop();
        }
    }

    fn not_asked(&mut self, event: &HistoryEvent, recorded: String) -> Fault {
        let asked = self.queue.front().map(|q| q.kind.words().to_owned());
        Fault::mismatch(EventId(event.event_id), recorded, asked, Vec::new())
    }

    /// Adds what surrounds a mismatch.
    fn explain(&self, fault: Fault, events: &[HistoryEvent]) -> Fault {
        let Fault::Nondeterminism(mut mismatch) = fault else { return fault };
        mismatch.recorded_next = events.iter().skip(1).take(AROUND).map(describe).collect();
        mismatch.asked_next =
            self.queue.expected().skip(1).take(AROUND).map(|q| q.kind.words().to_owned()).collect();
        Fault::Nondeterminism(mismatch)
    }
}

/// The kind of command that an event records. Markers have theirs in what they say.
fn kind(event: &HistoryEvent) -> Option<Kind> {
    use Kind as K;
    const KINDS: [Kind; 17] = [
        K::StartTimer,
        K::CancelTimer,
        K::ScheduleActivity,
        K::CancelActivity,
        K::StartChild,
        K::CancelExternal,
        K::SignalExternal,
        K::ScheduleNexus,
        K::CancelNexus,
        K::UpsertSearchAttributes,
        K::ModifyProperties,
        K::AcceptUpdate,
        K::CompleteUpdate,
        K::CompleteWorkflow,
        K::FailWorkflow,
        K::CancelWorkflow,
        K::ContinueAsNew,
    ];
    KINDS.into_iter().find(|k| k.event_type() == event.event_type)
}

/// An event for people: its type, and what it names.
fn describe(event: &HistoryEvent) -> String {
    let kind = type_name(event.event_type);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    match &event.attributes {
        Some(A::TimerStartedEventAttributes(e)) => format!("{kind} {:?}", text(&e.timer_id)),
        Some(A::TimerCanceledEventAttributes(e)) => format!("{kind} {:?}", text(&e.timer_id)),
        Some(A::ActivityTaskScheduledEventAttributes(e)) => {
            let name = e.activity_type.as_ref().map(|t| text(&t.name)).unwrap_or_default();
            format!("{kind} {:?} of type {name:?}", text(&e.activity_id))
        }
        Some(A::StartChildWorkflowExecutionInitiatedEventAttributes(e)) => {
            let name = e.workflow_type.as_ref().map(|t| text(&t.name)).unwrap_or_default();
            format!("{kind} {:?} of type {name:?}", text(&e.workflow_id))
        }
        Some(A::MarkerRecordedEventAttributes(e)) => format!("{kind} {:?}", text(&e.marker_name)),
        Some(A::WorkflowExecutionUpdateAcceptedEventAttributes(e)) => {
            format!("{kind} {:?}", e.protocol_instance_id)
        }
        Some(A::NexusOperationScheduledEventAttributes(e)) => {
            format!("{kind} {:?} of service {:?}", text(&e.operation), text(&e.service))
        }
        Some(_) | None => kind,
    }
}

fn is_change_version(event: &HistoryEvent) -> bool {
    let Some(A::UpsertWorkflowSearchAttributesEventAttributes(e)) = &event.attributes else { return false };
    e.search_attributes.as_ref().is_some_and(|a| a.indexed_fields.contains_key("TemporalChangeVersion"))
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
    event: &HistoryEvent,
    asked: &Names,
    id: &[u8],
    kind: &[u8],
    [id_field, kind_field]: [&'static str; 2],
) -> Result<(), Fault> {
    if asked.id() == id && asked.kind() == kind {
        return Ok(());
    }
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let mut differs = Vec::new();
    for (field, recorded, asked) in [(id_field, id, asked.id()), (kind_field, kind, asked.kind())] {
        if recorded != asked {
            differs.push(Difference { field, recorded: text(recorded), asked: text(asked) });
        }
    }
    let words = format!("{:?} of type {:?}", text(asked.id()), text(asked.kind()));
    Err(Fault::mismatch(EventId(event.event_id), describe(event), Some(words), differs))
}

fn same_local(
    event: &HistoryEvent,
    recorded: String,
    asked: &Names,
    marker: &LocalMarker,
    words: String,
) -> Result<(), Fault> {
    let (id, kind) = (marker.data.activity_id.as_bytes(), marker.data.activity_type.as_bytes());
    match same_names(event, asked, id, kind, ["activity_id", "activity_type"]) {
        Err(Fault::Nondeterminism(mut mismatch)) => {
            mismatch.recorded = recorded;
            mismatch.asked = Some(words);
            Err(Fault::Nondeterminism(mismatch))
        }
        other => other,
    }
}
