//! One lane: takes a history, drives one run of a shard over it, tells how it went, takes the next.

use std::sync::Arc;

use outlast_machine::Config;
use outlast_machine::io::{
    Eviction, Fetch, FetchFailed, Input, LocalReport, LocalResult, Note, Output, Page, Reply, RunId, Ticket,
};
use outlast_machine::shard::{Shard, replay_task};
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason as Reason;
use tokio::sync::mpsc;

use super::{Item, MORE, Pages, ReplayError, Shared};
use crate::clock::Clock;
use crate::workflow::warn_of;

/// Nothing else waits for a lane's only task.
const TICKET: Ticket = Ticket(1);

struct Lane {
    shared: Arc<Shared>,
    clock: Clock,
    shard: Shard,
    answers: mpsc::UnboundedReceiver<lang::WorkflowActivationCompletion>,
    /// The language has seen something of the history that is being replayed.
    shown: bool,
}

/// Where one replay stands after the machine was drained.
enum Next {
    /// The language is asked.
    Answer,
    Fetch(Fetch),
    Over(Eviction),
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, config: Config) {
    let (inbox, answers) = mpsc::unbounded_channel();
    let mut lane = Lane {
        shared: shared.clone(),
        clock: Clock::start(),
        shard: Shard::new(config),
        answers,
        shown: false,
    };
    loop {
        let item = shared.take(&inbox).await;
        let run = item.run.clone();
        let (tell, result) = lane.replay(item).await;
        shared.finished(&run);
        // Whoever asked may not want to know.
        let _ = tell.send(result);
    }
}

type Told = tokio::sync::oneshot::Sender<Result<(), ReplayError>>;

impl Lane {
    async fn replay(&mut self, item: Item) -> (Told, Result<(), ReplayError>) {
        let Item { run, workflow_id, workflow_type, first, mut rest, damage, tell } = item;
        self.shown = false;
        if let Some(message) = damage {
            let eviction = Eviction { reason: Reason::Fatal, message };
            self.tell_end(&run, &eviction).await;
            return (tell, outcome(eviction));
        }
        let task = replay_task(TICKET, &workflow_id, &run.to_string(), workflow_type, first);
        self.handle(Input::Task(Box::new(task)));
        loop {
            match self.drain() {
                Next::Over(eviction) => {
                    if !self.shown {
                        self.tell_end(&run, &eviction).await;
                    }
                    return (tell, outcome(eviction));
                }
                Next::Fetch(fetch) => {
                    let page = next_page(&mut rest, fetch).await;
                    self.handle(Input::Page(run.clone(), page));
                }
                Next::Answer => match self.answers.recv().await {
                    Some(completion) => self.handle(Input::Completed(completion)),
                    None => return (tell, Err(ReplayError::ShutDown)),
                },
            }
        }
    }

    /// The language has not seen this history: it hears of its end all the same, where it wants to.
    async fn tell_end(&mut self, run: &RunId, eviction: &Eviction) {
        if !self.shared.tells_every_end {
            return;
        }
        let job = lang::RemoveFromCache { message: eviction.message.clone(), reason: eviction.reason.into() };
        let variant = Some(lang::workflow_activation_job::Variant::RemoveFromCache(job));
        let jobs = vec![lang::WorkflowActivationJob { variant }];
        let run_id = bytes::Bytes::from(run.to_string());
        let activation = lang::WorkflowActivation { run_id: run_id.clone(), jobs, ..Default::default() };
        self.shared.activations.push(run_id, activation);
        // Whatever it answers, there is nothing more.
        let _ = self.answers.recv().await;
    }

    fn handle(&mut self, input: Input) {
        self.shard.handle(self.clock.now(), input);
    }

    /// Acts on what the machine says until it waits for something.
    fn drain(&mut self) -> Next {
        let mut next = Next::Answer;
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Activate(activation) => {
                    self.shown = true;
                    self.shared.activations.push(activation.run_id.clone(), activation);
                }
                Output::Fetch(fetch) => next = Next::Fetch(fetch),
                Output::Forgotten(_, eviction) => next = Next::Over(eviction),
                Output::Done(_) => self.leave(),
                Output::StartLocal(run, task) => {
                    // History ends while it runs; nothing is executed in a replay.
                    let result = LocalResult::Cancelled(None);
                    let report = LocalReport { name: task.name, took: Default::default(), result };
                    self.handle(Input::Local(run, report));
                }
                Output::Complete(run, _) | Output::Fail(run, _) | Output::Answer(run, _) => {
                    // A replay answers nobody; what the machine would say is taken as said.
                    let reply = Reply::Accepted { task: None, reset_history_event_id: 0 };
                    self.handle(Input::Reported(run, reply));
                }
                Output::Note(run, Note::FailureHeldBack { message, .. }) => warn_of(&run, &message),
                Output::CancelLocal(..) | Output::Note(..) => {}
            }
        }
        next
    }

    /// The history has been shown. The run leaves now, unless it does so by itself, with a reason of its own.
    fn leave(&mut self) {
        if self.shard.is_idle() {
            let eviction = Eviction { reason: Reason::LangRequested, message: REPLAYED.to_owned() };
            let now = self.clock.now();
            self.shard.evict_all(now, &eviction);
        }
    }
}

const REPLAYED: &str = "the history has been replayed";

async fn next_page(rest: &mut Option<Pages>, _fetch: Fetch) -> Result<Page, FetchFailed> {
    let Some(pages) = rest else {
        return Err(FetchFailed { message: "a replay has no more pages than it was given".into() });
    };
    match pages.recv().await {
        // Whether it is the last is known when the channel has ended: an empty page then says so.
        Some(history) => Ok(Page { history, next_page: MORE }),
        None => Ok(Page { history: Default::default(), next_page: Default::default() }),
    }
}

fn outcome(eviction: Eviction) -> Result<(), ReplayError> {
    let Eviction { reason, message } = eviction;
    match reason {
        Reason::LangRequested | Reason::WorkflowExecutionEnding | Reason::Unspecified | Reason::CacheFull => {
            Ok(())
        }
        Reason::Nondeterminism => Err(ReplayError::Nondeterminism(message)),
        Reason::LangFail => Err(ReplayError::Language(message)),
        Reason::CacheMiss
        | Reason::TaskNotFound
        | Reason::UnhandledCommand
        | Reason::Fatal
        | Reason::PaginationOrHistoryFetch => Err(ReplayError::History(message)),
    }
}
