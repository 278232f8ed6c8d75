//! The loop of one shard: drain what the machine says and act on it, wait for an arrival or the deadline, handle.

use std::sync::Arc;

use outlast_client::{Code, Error, Kind};
use outlast_machine::io::{
    Eviction, FetchFailed, Input, Output, Page, Reply, RunId, Source, Task, TaskCompletion, Ticket,
};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_proto::lens::api;
use outlast_proto::lens::api::command::Attributes;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason;
use tokio::sync::{mpsc, oneshot};

use super::draining::{Draining, Facts, Step};
use super::held::Held;
use super::{Arrival, Eager, Surroundings};
use crate::activity;
use crate::calls::{Broken, Calls};
use crate::delivery::GRPC_TOO_LARGE;
use crate::permits::Permit;
use crate::remote::Accepted;
use crate::sizes;
use crate::worker::{NamespaceFacts, facts};

/// What the language reads in the evictions at the end of a worker.
const SHUTS_DOWN: &str = "the worker shuts down";

/// What a call of the loop came to.
enum Done {
    Page(RunId, Result<Page, FetchFailed>),
    Completed { run: RunId, ticket: Ticket, closes: bool, reply: Result<Accepted, Error>, eager: Vec<Permit> },
    Told(RunId, Told, Result<(), Error>),
    Oversized(RunId, String),
}

/// What else than a completion the server was told of a task.
#[derive(Clone, Copy)]
enum Told {
    Failure,
    Answer,
}

struct Loop {
    around: Arc<Surroundings>,
    shard: Shard,
    held: Held,
    calls: Calls<Done>,
    /// The worker ends. Polls in flight may still bring tasks.
    ending: bool,
    end: Option<End>,
}

/// The stage of the end that the worker waits for.
struct End {
    draining: Draining,
    dropped: usize,
    over: oneshot::Sender<usize>,
}

/// Runs until the other side of the inbox is gone.
pub(crate) async fn run(
    around: Arc<Surroundings>,
    shard: Shard,
    mut inbox: mpsc::UnboundedReceiver<Arrival>,
) {
    let clock = around.clock;
    let held = Held::new(around.metrics.clone(), around.counts.clone());
    let mut it = Loop { around, shard, held, calls: Calls::new(), ending: false, end: None };
    loop {
        while let Some(output) = it.shard.poll() {
            it.act(output);
        }
        it.held.cached(it.shard.runs());
        if it.end(clock.now()) {
            continue;
        }
        let patience = it.end.as_ref().and_then(|end| end.draining.until());
        let deadline = it.shard.deadline().map(|(at, _)| at).into_iter().chain(patience).min();
        let input = tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => it.arrived(arrival),
                None => return,
            },
            done = it.calls.next() => it.done(done),
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
            Arrival::Task(poll, permit) => {
                let ticket = self.held.take(self.around.clock.now(), &poll, permit);
                Some(Input::Task(Box::new(Task { ticket, poll: *poll, source: Source::Server })))
            }
            Arrival::Input(input) => {
                if let Input::Completed(completion) = &input {
                    self.held.answered(completion);
                }
                Some(input)
            }
            Arrival::Ending => {
                self.ending = true;
                None
            }
            Arrival::Drain(stage, over) => {
                self.end = Some(End { draining: Draining::new(stage), dropped: 0, over });
                None
            }
        }
    }

    /// Takes the next step of the end, if there is one. A task that is held is finished first, with its local activities:
    /// dropped, it would come back only after its timeout. `true`: the shard has something to say.
    fn end(&mut self, now: Time) -> bool {
        let Some(end) = &mut self.end else { return false };
        let facts = Facts {
            busy: !self.shard.has_only_evictions(),
            evicting: self.shard.evicting(),
            staying: self.shard.runs() - self.shard.evicting(),
            waits: self.shard.waits_for_evictions(),
        };
        match end.draining.step(now, facts) {
            Step::Wait => return false,
            Step::Evict => {
                let message = SHUTS_DOWN.to_owned();
                let eviction = Eviction { reason: EvictionReason::Unspecified, message };
                self.shard.evict_all(now, &eviction);
            }
            Step::Drop => end.dropped += self.shard.drop_evicting(now),
            Step::Done => {
                let over = self.end.take().map(|end| (end.over, end.dropped));
                // Whoever asked may have stopped waiting.
                let _ = over.map(|(over, dropped)| over.send(dropped));
                return false;
            }
        }
        true
    }

    fn act(&mut self, output: Output) {
        let remote = self.around.remote.clone();
        match output {
            Output::Activate(activation) => {
                self.around.activations.push(activation.run_id.clone(), activation);
            }
            Output::Fetch(fetch) => {
                let fetches = self.around.fetches.clone();
                self.calls.start(async move {
                    let _turn = fetches.acquire().await;
                    let run = fetch.run.clone();
                    Done::Page(run, remote.fetch(fetch).await)
                });
            }
            Output::StartLocal(run, task) => self.activities(activity::Arrival::StartLocal(run, task)),
            Output::CancelLocal(run, name) => self.activities(activity::Arrival::CancelLocal(run, name)),
            Output::Complete(run, done) => self.complete(run, *done),
            Output::Fail(run, failed) => {
                self.held.fails(self.around.clock.now(), &run, &failed);
                let limits = facts(&self.around.namespace).sizes;
                self.calls
                    .start(async move { Done::Told(run, Told::Failure, remote.fail(failed, limits).await) });
            }
            Output::Answer(run, answer) => {
                let limits = facts(&self.around.namespace).sizes;
                self.calls
                    .start(async move { Done::Told(run, Told::Answer, remote.answer(answer, limits).await) });
            }
            Output::Done(ticket) => self.held.done(ticket),
            Output::Forgotten(run, eviction) => self.forgotten(&run, eviction),
            Output::Note(run, note) => self.held.note(&run, &note),
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
        let NamespaceFacts { sizes, pages, .. } = facts(&self.around.namespace);
        if let Err(message) = sizes::check(sizes, &done) {
            not_taken(&run, &message);
            self.calls.start(async move { Done::Oversized(run, message) });
            return;
        }
        // A worker that ends would cancel them at once.
        let eager = self.around.eager.as_ref().filter(|_| !self.ending);
        let eager = reserve(eager, &mut done.commands);
        let (ticket, closes) = (done.ticket, done.closes);
        self.held.completes(self.around.clock.now(), &done);
        // Local activities that run need a next task to be recorded in, here: only then does a worker that ends ask for one.
        let stays = done.force_new_task || !(self.ending || done.leaves);
        self.calls.start(async move {
            let reply = remote.complete(done, stays, pages).await;
            Done::Completed { run, ticket, closes, reply, eager }
        });
    }

    fn done(&mut self, done: Result<Done, Broken>) -> Option<Input> {
        match done {
            Ok(Done::Page(run, page)) => Some(Input::Page(run, page)),
            Ok(Done::Oversized(run, message)) => {
                Some(Input::Reported(run, Reply::PayloadsTooLarge { message }))
            }
            Ok(Done::Told(run, what, result)) => {
                let reply = told(&run, what, result);
                Some(Input::Reported(run, reply))
            }
            Ok(Done::Completed { run, ticket, closes, reply, eager }) => {
                if closes && reply.is_ok() {
                    self.held.closed(&run);
                }
                let reply = match reply {
                    Ok(accepted) => self.accepted(ticket, accepted, eager),
                    Err(error) => not_completed(&run, error),
                };
                Some(Input::Reported(run, reply))
            }
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        }
    }

    /// The next task goes on in the slot of the one before; activities that came along start in theirs.
    fn accepted(&mut self, ticket: Ticket, accepted: Accepted, eager: Vec<Permit>) -> Reply {
        for (task, permit) in accepted.activities.into_iter().zip(eager) {
            self.activities(activity::Arrival::Task { task: Box::new(task), permit, eager: true });
        }
        if let Some(poll) = &accepted.task {
            self.held.goes_on(self.around.clock.now(), ticket, poll);
        }
        let task = accepted.task.map(|poll| Box::new(Task { ticket, poll: *poll, source: Source::Server }));
        Reply::Accepted { task, reset_history_event_id: accepted.reset_history_event_id }
    }

    fn forgotten(&self, run: &RunId, eviction: Eviction) {
        let Eviction { reason, message: cause } = eviction;
        self.held.evicted(reason);
        tracing::debug!(run_id = %run, ?reason, cause, "a run left the cache");
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

fn not_completed(run: &RunId, error: Error) -> Reply {
    let text = error.to_string();
    let reply = refused(error);
    // News that came meanwhile are in the next task: nothing is wrong.
    if !matches!(reply, Reply::UnhandledCommand) {
        not_taken(run, &text);
    }
    reply
}

fn not_taken(run: &RunId, error: &str) {
    tracing::warn!(run_id = %run, error, "Error while completing workflow activation");
}

fn told(run: &RunId, what: Told, result: Result<(), Error>) -> Reply {
    let error = match result {
        Ok(()) => return Reply::Accepted { task: None, reset_history_event_id: 0 },
        Err(error) => error,
    };
    match (error.code == Code::NotFound, what) {
        (true, Told::Answer) => {
            tracing::warn!(run_id = %run, %error, "a query was over before its answer came");
        }
        // That it fails is in the log already, and how it ended in history: the server fails tasks whose commands are wrong.
        (true, Told::Failure) => {
            tracing::debug!(run_id = %run, %error, "a workflow task was over before its failure came");
        }
        (false, Told::Answer) => {
            tracing::warn!(run_id = %run, %error, "the answer to a query did not reach the server");
        }
        (false, Told::Failure) => {
            tracing::warn!(run_id = %run, %error, "the failure of a workflow task did not reach the server");
        }
    }
    refused(error)
}

fn refused(error: Error) -> Reply {
    let message = error.to_string();
    match (error.kind, error.code) {
        (Kind::TooLarge, _) => Reply::TooLarge { message: GRPC_TOO_LARGE.to_owned() },
        (_, Code::NotFound) => Reply::NotFound,
        (_, Code::InvalidArgument) if message.contains("UnhandledCommand") => Reply::UnhandledCommand,
        (_, Code::InvalidArgument) => Reply::Invalid { message },
        _ => Reply::Failed { message },
    }
}
