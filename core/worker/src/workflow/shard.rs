//! The loop of one shard: drain what the machine says and act on it, wait for an arrival or the deadline, handle.

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_client::{Code, Error, Kind};
use outlast_machine::io::{
    Eviction, FetchFailed, Input, Note, Output, Page, Reply, RunId, Source, Task, TaskCompletion, Ticket,
};
use outlast_machine::shard::Shard;
use outlast_proto::lens::api;
use outlast_proto::lens::api::command::Attributes;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Arrival, Eager, Surroundings};
use crate::activity;
use crate::permits::Permit;
use crate::remote::Accepted;
use crate::slots::SlotUse;

/// What a call of the loop came to.
enum Done {
    Page(RunId, Result<Page, FetchFailed>),
    Completed { run: RunId, ticket: Ticket, reply: Result<Accepted, Error>, eager: Vec<Permit> },
    Told(RunId, Result<(), Error>),
}

struct Loop {
    around: Arc<Surroundings>,
    shard: Shard,
    permits: BTreeMap<Ticket, Permit>,
    tickets: u64,
    calls: JoinSet<Done>,
    draining: Option<Draining>,
}

struct Draining {
    evict: bool,
    idle: oneshot::Sender<()>,
}

/// Runs until the other side of the inbox is gone.
pub(crate) async fn run(
    around: Arc<Surroundings>,
    shard: Shard,
    mut inbox: mpsc::UnboundedReceiver<Arrival>,
) {
    let clock = around.clock;
    let (permits, calls) = (BTreeMap::new(), JoinSet::new());
    let mut it = Loop { around, shard, permits, tickets: 0, calls, draining: None };
    loop {
        while let Some(output) = it.shard.poll() {
            it.act(output);
        }
        if it.end() {
            continue;
        }
        let deadline = it.shard.deadline().map(|(at, _)| at);
        let input = tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => it.arrived(arrival),
                None => return,
            },
            Some(done) = it.calls.join_next() => it.done(done),
            () = clock.until(deadline) => Some(Input::Tick),
        };
        if let Some(input) = input {
            it.shard.handle(clock.now(), input);
        }
    }
}

impl Loop {
    fn arrived(&mut self, arrival: Arrival) -> Option<Input> {
        match arrival {
            Arrival::Task(poll, permit) => Some(Input::Task(Box::new(self.task(*poll, permit)))),
            Arrival::Input(input) => Some(input),
            Arrival::Drain { evict, idle } => {
                self.draining = Some(Draining { evict, idle });
                self.evict_all();
                None
            }
        }
    }

    fn task(&mut self, poll: api::PollWorkflowTaskQueueResponse, mut permit: Permit) -> Task {
        let workflow_type =
            poll.workflow_type.as_ref().map(|kind| String::from_utf8_lossy(&kind.name).into_owned());
        let is_sticky = permit.wanted().is_sticky;
        permit.mark_used(SlotUse::Workflow { workflow_type: workflow_type.unwrap_or_default(), is_sticky });
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.permits.insert(ticket, permit);
        Task { ticket, poll, source: Source::Server }
    }

    /// Asks all runs to leave, if that is wanted.
    fn evict_all(&mut self) {
        if self.draining.as_ref().is_some_and(|draining| draining.evict) {
            let message = "the worker shuts down".to_owned();
            let eviction = Eviction { reason: EvictionReason::Unspecified, message };
            self.shard.evict_all(self.around.clock.now(), &eviction);
        }
    }

    /// Says that nothing is held any more. `true`: runs that came back from waiting were asked to leave first.
    fn end(&mut self) -> bool {
        if !self.shard.is_idle() {
            return false;
        }
        if self.shard.runs() > 0 && self.draining.as_ref().is_some_and(|draining| draining.evict) {
            self.evict_all();
            return true;
        }
        if let Some(draining) = self.draining.take() {
            // Whoever asked may have stopped waiting.
            let _ = draining.idle.send(());
        }
        false
    }

    fn act(&mut self, output: Output) {
        let remote = self.around.remote.clone();
        match output {
            Output::Activate(activation) => {
                self.around.activations.push(activation.run_id.clone(), activation);
            }
            Output::Fetch(fetch) => {
                let fetches = self.around.fetches.clone();
                self.calls.spawn(async move {
                    let _turn = fetches.acquire().await;
                    let run = fetch.run.clone();
                    Done::Page(run, remote.fetch(fetch).await)
                });
            }
            Output::StartLocal(run, task) => self.activities(activity::Arrival::StartLocal(run, task)),
            Output::CancelLocal(run, name) => self.activities(activity::Arrival::CancelLocal(run, name)),
            Output::Complete(run, done) => self.complete(run, *done),
            Output::Fail(run, failed) => {
                self.calls.spawn(async move { Done::Told(run, remote.fail(failed).await) });
            }
            Output::Answer(run, answer) => {
                self.calls.spawn(async move { Done::Told(run, remote.answer(answer).await) });
            }
            Output::Done(ticket) => drop(self.permits.remove(&ticket)),
            Output::Forgotten(run, eviction) => self.forgotten(&run, eviction),
            Output::Note(run, note) => self.note(&run, note),
        }
    }

    fn activities(&self, arrival: activity::Arrival) {
        if let Some(activities) = &self.around.activities {
            // Its loop ends after ours: only the deadline of shutdown ends both at once.
            let _ = activities.send(arrival);
        }
    }

    fn complete(&mut self, run: RunId, mut done: TaskCompletion) {
        let remote = self.around.remote.clone();
        let eager = reserve(self.around.eager.as_ref(), &mut done.commands);
        let ticket = done.ticket;
        let wants_next = !done.closes && self.draining.is_none();
        self.calls.spawn(async move {
            let reply = remote.complete(done, wants_next).await;
            Done::Completed { run, ticket, reply, eager }
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Input> {
        match done {
            Ok(Done::Page(run, page)) => Some(Input::Page(run, page)),
            Ok(Done::Told(run, result)) => Some(Input::Reported(run, told(result))),
            Ok(Done::Completed { run, ticket, reply, eager }) => {
                let reply = match reply {
                    Ok(accepted) => self.accepted(ticket, accepted, eager),
                    Err(error) => refused(error),
                };
                Some(Input::Reported(run, reply))
            }
            Err(error) => {
                tracing::error!(%error, "a call broke off");
                None
            }
        }
    }

    /// The next task goes on in the slot of the one before; activities that came along start in theirs.
    fn accepted(&self, ticket: Ticket, accepted: Accepted, eager: Vec<Permit>) -> Reply {
        for (task, permit) in accepted.activities.into_iter().zip(eager) {
            self.activities(activity::Arrival::Task { task: Box::new(task), permit, eager: true });
        }
        let task = accepted.task.map(|poll| Box::new(Task { ticket, poll: *poll, source: Source::Server }));
        Reply::Accepted { task, reset_history_event_id: accepted.reset_history_event_id }
    }

    fn forgotten(&self, run: &RunId, eviction: Eviction) {
        let Eviction { reason, message } = eviction;
        tracing::debug!(%run, ?reason, message, "a run left the cache");
    }

    fn note(&self, run: &RunId, note: Note) {
        match note {
            Note::StickyHit
            | Note::StickyMiss
            | Note::ForcedEviction
            | Note::Replayed(_)
            | Note::Closed(_) => {
                tracing::debug!(%run, ?note, "a workflow went on");
            }
            Note::FailureHeldBack { attempt, message } => {
                tracing::warn!(%run, attempt, message, "a workflow task failed again; the server will time it out");
            }
            Note::PatchesTooLarge => {
                tracing::warn!(%run, "the search attribute that lists patches would be too large; it was not written");
            }
        }
    }
}

/// Claims slots for activities that the server may start at once on this worker; the others go through their queue.
fn reserve(eager: Option<&Eager>, commands: &mut [api::Command]) -> Vec<Permit> {
    let mut permits = Vec::new();
    for command in commands {
        let Some(Attributes::ScheduleActivityTaskCommandAttributes(schedule)) = &mut command.attributes
        else {
            continue;
        };
        let wanted = std::mem::take(&mut schedule.request_eager_execution);
        let Some(eager) = eager.filter(|eager| wanted && permits.len() < eager.max) else { continue };
        let ours = schedule.task_queue.as_ref().is_none_or(|queue| queue.name == eager.task_queue);
        if let Some(permit) = ours.then(|| eager.permits.try_reserve()).flatten() {
            schedule.request_eager_execution = true;
            permits.push(permit);
        }
    }
    permits
}

fn told(result: Result<(), Error>) -> Reply {
    match result {
        Ok(()) => Reply::Accepted { task: None, reset_history_event_id: 0 },
        Err(error) => refused(error),
    }
}

fn refused(error: Error) -> Reply {
    let message = error.to_string();
    match (error.kind, error.code) {
        (Kind::TooLarge, _) => Reply::TooLarge { message },
        (_, Code::NotFound) => Reply::NotFound,
        (_, Code::InvalidArgument) if message.contains("UnhandledCommand") => Reply::UnhandledCommand,
        _ => Reply::Failed { message },
    }
}
