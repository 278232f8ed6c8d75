//! What the code asks for: the language's commands become ops and queued commands.

use bytes::Bytes;
use outlast_proto::lens::history::SearchAttributes;
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::update_response::Response;
use outlast_proto::lens::lang::workflow_command::Variant as C;
use prost::Message as _;

use super::{Closed, Mode, Workflow};
use crate::config::Config;
use crate::fault::Fault;
use crate::flags::CoreFlag;
use crate::io::Note;
use crate::marker;
use crate::ops::child::Ask as ChildAsk;
use crate::ops::local::{Local, State as LocalState};
use crate::ops::update::State as UpdateState;
use crate::ops::{Names, Op, Out, Then, activity, child, external, nexus, timer};
use crate::queue::{Ask, Extras, Kind, NO_OP};
use crate::ring::Ring;

/// The search attribute that lists a run's patches.
const CHANGE_VERSION: &str = "TemporalChangeVersion";
/// From this size on its value is not written any more.
const CHANGE_VERSION_BYTES_MAX: usize = 2048;

impl Workflow {
    /// Takes in a completed activation. Answers to queries have been taken out before.
    pub fn complete(
        &mut self,
        success: lang::WorkflowCompletionSuccess,
        config: &Config,
    ) -> Result<(), Fault> {
        self.flags.lang_used(&success.used_internal_flags);
        if success.versioning_behavior != 0 {
            self.versioning_behavior = success.versioning_behavior;
        }
        self.queue.reserve(success.commands.len());
        self.ops.reserve(success.commands.len());
        for command in self.in_order(success.commands) {
            let extras = Extras {
                user_metadata: command.user_metadata,
                event_group_markers: command.event_group_markers,
            };
            let given = extras.user_metadata.is_some() || !extras.event_group_markers.is_empty();
            let extras = given.then(|| Box::new(extras));
            let Some(variant) = command.variant else {
                return Err(Fault::misuse(
                    "a command of a kind not known here; the language needs a newer core",
                ));
            };
            self.command(variant, extras, config)?;
        }
        self.all_updates_answered()
    }

    /// Updates are accepted or rejected in the activation that brings them: the server waits for that with the task.
    fn all_updates_answered(&mut self) -> Result<(), Fault> {
        if self.mode != Mode::Live || self.is_over() {
            return Ok(());
        }
        for (name, &index) in &self.updates {
            if let Some(Op::Update(op)) = self.ops.get_mut(index)
                && op.state == UpdateState::Requested
            {
                return Err(Fault::misuse(format!(
                    "no answer to the update {name:?}; accept or reject it in the activation that brings it"
                )));
            }
        }
        Ok(())
    }

    /// One command that closes the workflow may come, and it comes last. Histories from before that rule keep what
    /// they did: nothing after the first one.
    fn in_order(&self, mut commands: Vec<lang::WorkflowCommand>) -> Vec<lang::WorkflowCommand> {
        let Some(first) = commands.iter().position(closes) else { return commands };
        if !self.flags.on(CoreFlag::MoveTerminalCommands, self.mode != Mode::Replay) {
            commands.truncate(first + 1);
            return commands;
        }
        let last = commands.remove(first);
        commands.retain(|c| !closes(c));
        commands.push(last);
        commands
    }

    fn command(&mut self, command: C, extras: Option<Box<Extras>>, config: &Config) -> Result<(), Fault> {
        if self.terminal_seen || (self.closing.is_some() && self.mode != Mode::Replay) {
            return Ok(()); // nothing can follow what closed it; in replay the history says what did
        }
        match command {
            C::StartTimer(c) => self.start_timer(c, extras)?,
            C::CancelTimer(c) => self.cancel_timer(c.seq)?,
            C::ScheduleActivity(c) => self.schedule_activity(c, extras)?,
            C::RequestCancelActivity(c) => self.cancel_activity(c.seq)?,
            C::ScheduleLocalActivity(c) => self.schedule_local(c, extras)?,
            C::RequestCancelLocalActivity(c) => self.cancel_local(c.seq)?,
            C::StartChildWorkflowExecution(c) => self.start_child(c, extras, config)?,
            C::CancelChildWorkflowExecution(c) => self.cancel_child(c)?,
            C::SignalExternalWorkflowExecution(c) => self.signal_external(c, extras)?,
            C::CancelSignalWorkflow(c) => self.cancel_signal(c.seq)?,
            C::RequestCancelExternalWorkflowExecution(c) => self.cancel_external(*c, extras)?,
            C::ScheduleNexusOperation(c) => self.schedule_nexus(c, extras)?,
            C::RequestCancelNexusOperation(c) => self.cancel_nexus(c.seq)?,
            C::SetPatchMarker(c) => self.patch(c, extras),
            C::UpsertWorkflowSearchAttributes(c) => self.upsert(c, extras)?,
            C::ModifyWorkflowProperties(c) => {
                self.queue.push(
                    Kind::ModifyProperties,
                    NO_OP,
                    Ask::ModifyProperties(c.upserted_memo),
                    extras,
                );
            }
            C::UpdateResponse(c) => self.update(c, extras)?,
            C::CompleteWorkflowExecution(c) => {
                self.close(Closed::Completed, Kind::CompleteWorkflow, Ask::CompleteWorkflow(c), extras);
            }
            C::FailWorkflowExecution(c) => {
                self.close(Closed::Failed, Kind::FailWorkflow, Ask::FailWorkflow(c), extras);
            }
            C::CancelWorkflowExecution(c) => {
                self.close(Closed::Canceled, Kind::CancelWorkflow, Ask::CancelWorkflow(c), extras);
            }
            C::ContinueAsNewWorkflowExecution(c) => {
                self.close(Closed::ContinuedAsNew, Kind::ContinueAsNew, Ask::ContinueAsNew(c), extras);
            }
            C::RespondToQuery(_) => {
                return Err(Fault::misuse("an answer to a query in an activation that has none"));
            }
        }
        Ok(())
    }

    fn start_timer(&mut self, c: lang::StartTimer, extras: Option<Box<Extras>>) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.timers.set(seq.into(), op), "timer", seq)?;
        let place = self.queue.push(Kind::StartTimer, op, Ask::StartTimer(c), extras.clone());
        self.ops.insert(Op::Timer(timer::Timer { seq, state: timer::State::Asked(place), extras }));
        Ok(())
    }

    fn cancel_timer(&mut self, seq: u32) -> Result<(), Fault> {
        let Some(index) = known(&self.timers, "timer", seq)? else { return Ok(()) };
        self.on_op(index, |op, out| {
            let Op::Timer(op) = op else { return Then::Stays };
            op.cancel(out)
        });
        Ok(())
    }

    fn schedule_activity(
        &mut self,
        c: Box<lang::ScheduleActivity>,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.activities.set(seq.into(), op), "activity", seq)?;
        let names = Names::new(&c.activity_id, &c.activity_type);
        let cancellation = c.cancellation_type();
        let place = self.queue.push(Kind::ScheduleActivity, op, Ask::ScheduleActivity(c), extras.clone());
        let state = activity::State::Asked(place);
        let activity = activity::Activity { seq, names, cancellation, state, told: false, extras };
        self.ops.insert(Op::Activity(activity));
        Ok(())
    }

    fn cancel_activity(&mut self, seq: u32) -> Result<(), Fault> {
        let Some(index) = known(&self.activities, "activity", seq)? else { return Ok(()) };
        self.on_op(index, |op, out| {
            let Op::Activity(op) = op else { return Then::Stays };
            op.cancel(out)
        });
        Ok(())
    }

    fn schedule_local(
        &mut self,
        c: Box<lang::ScheduleLocalActivity>,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.locals.set(seq.into(), op), "local activity", seq)?;
        let state = if self.mode == Mode::Live { LocalState::Wanted } else { LocalState::Replaying };
        self.ops.insert(Op::Local(Box::new(Local::new(c, extras, self.clock, state)?)));
        self.locals_open += 1;
        Ok(())
    }

    fn start_child(
        &mut self,
        c: Box<lang::StartChildWorkflowExecution>,
        extras: Option<Box<Extras>>,
        config: &Config,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.children.set(seq.into(), op), "child workflow", seq)?;
        let namespace = if c.namespace.is_empty() { &config.namespace } else { &c.namespace };
        let child = child::Child {
            seq,
            names: Names::new(&c.workflow_id, &c.workflow_type),
            namespace: Bytes::copy_from_slice(namespace),
            cancellation: c.cancellation_type(),
            state: child::State::Asked(self.queue.push(
                Kind::StartChild,
                op,
                Ask::StartChild(c),
                extras.clone(),
            )),
            told: false,
            extras,
        };
        self.ops.insert(Op::Child(Box::new(child)));
        Ok(())
    }

    fn cancel_child(&mut self, c: lang::CancelChildWorkflowExecution) -> Result<(), Fault> {
        let seq = c.child_workflow_seq;
        let Some(index) = known(&self.children, "child workflow", seq)? else { return Ok(()) };
        let Some(Op::Child(child)) = self.ops.get_mut(index) else { return Ok(()) };
        let mut out = Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue };
        let (then, ask) = child.cancel(&c.reason, &mut out);
        let (command, extras) = (child.cancel_command(c.reason), child.extras.take());
        if then == Then::Ends {
            self.end(index);
        }
        if ask == ChildAsk::CancelRequest {
            let op = self.ops.next();
            let place =
                self.queue.push(Kind::CancelExternal, op, Ask::CancelExternal(Box::new(command)), extras);
            let state = external::State::Asked(place);
            self.ops.insert(Op::Cancel(external::External { seq: None, state }));
        }
        Ok(())
    }

    fn signal_external(
        &mut self,
        c: Box<lang::SignalExternalWorkflowExecution>,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.signals.set(seq.into(), op), "signal to a workflow", seq)?;
        let place = self.queue.push(Kind::SignalExternal, op, Ask::SignalExternal(c), extras);
        let state = external::State::Asked(place);
        self.ops.insert(Op::Signal(external::External { seq: Some(seq), state }));
        Ok(())
    }

    fn cancel_signal(&mut self, seq: u32) -> Result<(), Fault> {
        let Some(index) = known(&self.signals, "signal to a workflow", seq)? else { return Ok(()) };
        self.on_op(index, |op, out| {
            let Op::Signal(op) = op else { return Then::Stays };
            op.cancel(out)
        });
        Ok(())
    }

    fn cancel_external(
        &mut self,
        c: lang::RequestCancelExternalWorkflowExecution,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.cancels.set(seq.into(), op), "cancellation of a workflow", seq)?;
        let target = c.workflow_execution.unwrap_or_default();
        let run = String::from_utf8_lossy(&self.run_id);
        let reason = format!("Cancel requested by workflow with run id {run} with reason: {}", c.reason);
        let ask = Ask::CancelExternal(Box::new(
            outlast_proto::lens::api::RequestCancelExternalWorkflowExecutionCommandAttributes {
                namespace: target.namespace,
                workflow_id: target.workflow_id,
                run_id: target.run_id,
                child_workflow_only: false,
                reason,
            },
        ));
        let state = external::State::Asked(self.queue.push(Kind::CancelExternal, op, ask, extras));
        self.ops.insert(Op::Cancel(external::External { seq: Some(seq), state }));
        Ok(())
    }

    fn schedule_nexus(
        &mut self,
        c: Box<lang::ScheduleNexusOperation>,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let (seq, op) = (c.seq, self.ops.next());
        fresh(self.nexus.set(seq.into(), op), "Nexus operation", seq)?;
        let own = |b: &Bytes| Bytes::copy_from_slice(b);
        let nexus = nexus::Nexus {
            seq,
            endpoint: own(&c.endpoint),
            service: own(&c.service),
            operation: own(&c.operation),
            cancellation: c.cancellation_type(),
            state: nexus::State::Asked(self.queue.push(
                Kind::ScheduleNexus,
                op,
                Ask::ScheduleNexus(c),
                extras.clone(),
            )),
            cancel: nexus::Cancel::No,
            start_told: false,
            told: false,
            over: false,
            extras,
        };
        self.ops.insert(Op::Nexus(Box::new(nexus)));
        Ok(())
    }

    fn cancel_nexus(&mut self, seq: u32) -> Result<(), Fault> {
        let Some(index) = known(&self.nexus, "Nexus operation", seq)? else { return Ok(()) };
        self.on_op(index, |op, out| {
            let Op::Nexus(op) = op else { return Then::Stays };
            op.cancel(out)
        });
        Ok(())
    }

    /// A patch is recorded once per run, however often the code asks for it, with an upsert of the attribute that lists all
    /// patches. In replay both exist only if the marker does.
    fn patch(&mut self, c: lang::SetPatchMarker, extras: Option<Box<Extras>>) {
        if !self.patches.asked.insert(c.patch_id.clone()) {
            return;
        }
        let recorded = self.mode != Mode::Replay || self.patches.recorded.contains(&c.patch_id);
        self.queue.push(Kind::Patch, NO_OP, Ask::Patch(Box::new(c)), extras.clone());
        if !recorded || !self.flags.on(CoreFlag::UpsertOnPatch, self.mode != Mode::Replay) {
            return;
        }
        // Strings always have a JSON form.
        let value = serde_json::to_vec(&self.patches.asked).unwrap_or_default();
        if value.len() >= CHANGE_VERSION_BYTES_MAX {
            self.notes.push(Note::PatchesTooLarge);
            return;
        }
        let value = marker::json_payload(value, Some("KeywordList"));
        let attributes = SearchAttributes { indexed_fields: [(CHANGE_VERSION.to_owned(), value)].into() };
        let ask = Ask::UpsertSearchAttributes(Some(attributes.encode_to_vec().into()));
        self.queue.push(Kind::UpsertSearchAttributes, NO_OP, ask, extras);
    }

    /// The language's upserts are remembered for continue-as-new. The attribute that lists patches is the core's own.
    fn upsert(
        &mut self,
        c: lang::UpsertWorkflowSearchAttributes,
        extras: Option<Box<Extras>>,
    ) -> Result<(), Fault> {
        let bad = |e| Fault::misuse(format!("search attributes that cannot be decoded ({e})"));
        let given = c.search_attributes.unwrap_or_default();
        let mut upserted = SearchAttributes::decode(given.clone()).map_err(bad)?;
        let own = self.flags.on(CoreFlag::UpsertOnPatch, self.mode != Mode::Replay)
            && upserted.indexed_fields.remove(CHANGE_VERSION).is_some();
        let sent = if own { upserted.encode_to_vec().into() } else { given };
        let inherited = &mut self.inherited.get_or_insert_default().search_attributes;
        let mut all = SearchAttributes::decode(inherited.take().unwrap_or_default()).map_err(bad)?;
        all.indexed_fields.extend(upserted.indexed_fields);
        *inherited = Some(all.encode_to_vec().into());
        self.queue.push(Kind::UpsertSearchAttributes, NO_OP, Ask::UpsertSearchAttributes(Some(sent)), extras);
        Ok(())
    }

    fn update(&mut self, c: lang::UpdateResponse, extras: Option<Box<Extras>>) -> Result<(), Fault> {
        let unknown = || {
            Fault::misuse(format!("an answer to the update {:?}, which is not open", c.protocol_instance_id))
        };
        let index = *self.updates.get(c.protocol_instance_id.as_str()).ok_or_else(unknown)?;
        let Some(Op::Update(op)) = self.ops.get_mut(index) else { return Err(unknown()) };
        let Some(response) = c.response else {
            return Err(Fault::misuse(format!("an empty answer to the update {:?}", c.protocol_instance_id)));
        };
        let rejected = op.state == UpdateState::Requested && matches!(response, Response::Rejected(_));
        let mut out = Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue };
        let then = op.respond(response, extras, &mut self.messages, &mut out)?;
        if then == Then::Ends {
            self.end(index);
        }
        if rejected && self.requests_only > 0 {
            self.requests_only -= 1;
            self.activations -= u64::from(self.requests_only == 0);
        }
        Ok(())
    }

    fn close(&mut self, closed: Closed, kind: Kind, ask: Ask, extras: Option<Box<Extras>>) {
        self.queue.push(kind, NO_OP, ask, extras);
        self.closing = Some(closed);
        if self.mode != Mode::Replay {
            self.drop_locals();
        }
    }

    /// Gives an op to `on`, and ends it if that is what follows.
    fn on_op(&mut self, index: u32, on: impl FnOnce(&mut Op, &mut Out<'_>) -> Then) {
        let Some(op) = self.ops.get_mut(index) else { return };
        let then = on(op, &mut Out { op: index, jobs: &mut self.jobs, queue: &mut self.queue });
        if then == Then::Ends {
            self.end(index);
        }
    }
}

fn closes(command: &lang::WorkflowCommand) -> bool {
    matches!(
        command.variant,
        Some(
            C::CompleteWorkflowExecution(_)
                | C::FailWorkflowExecution(_)
                | C::CancelWorkflowExecution(_)
                | C::ContinueAsNewWorkflowExecution(_)
        )
    )
}

fn fresh(before: Option<u32>, what: &str, seq: u32) -> Result<(), Fault> {
    match before {
        None => Ok(()),
        Some(_) => Err(Fault::misuse(format!("two open ops of the kind {what} with sequence number {seq}"))),
    }
}

/// The op of a sequence number, `None` if it is over.
pub(super) fn known(ring: &Ring, what: &str, seq: u32) -> Result<Option<u32>, Fault> {
    let found = ring.find(seq.into());
    if found.is_none() && !ring.was_set(seq.into()) {
        return Err(Fault::misuse(format!("the cancellation of {what} {seq}, which was never asked for")));
    }
    Ok(found)
}
