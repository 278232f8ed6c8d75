//! One run: a task comes in, its history is read turn by turn, the language is activated, the task is answered. What is
//! outstanding is the phase; everything else follows from it.
//!
//! It does not know of other runs, of the cache, or of tasks that wait.

mod fail;
mod query;
mod task;

use std::collections::VecDeque;

use bytes::Bytes;
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason as Reason;
use outlast_proto::lens::lang::workflow_activation_completion::Status;

use crate::config::Config;
use crate::event::EventId;
use crate::fault::Fault;
use crate::history::{Read, Reader, first_event_id};
use crate::io::{
    Closed, Eviction, Fetch, FetchFailed, LocalReport, Note, Output, Page, Reply, RunId, Source, Task,
    TaskCompletion,
};
use crate::time::Time;
use crate::workflow::{LocalOut, Mode, Workflow};
use task::Held;

/// A run in the cache, or on its way into it.
#[derive(Debug)]
pub(crate) struct Run {
    id: RunId,
    workflow: Workflow,
    feed: Reader,
    /// How the turn in `feed` is being played; `None`: it is not yet, or no longer.
    playing: Option<Mode>,
    phase: Phase,
    task: Option<Box<Held>>,
    eviction: Option<Eviction>,
    /// The language has seen this run: it must hear when it is evicted.
    known_to_lang: bool,
    out: VecDeque<Output>,
}

// What each cached run takes at least.
const _: () = assert!(std::mem::size_of::<Run>() <= 984);

/// What is awaited.
#[derive(Debug)]
enum Phase {
    /// Nothing. Without a task: the next one.
    Idle,
    /// A page of history.
    Fetching,
    /// The language's completion.
    Activated(Asked),
    /// Local activities, or the time at which the task must be answered all the same.
    Locals { heartbeat: Time },
    /// The server's reply.
    Reporting(Sent),
    /// The language's answer to its eviction.
    Evicting(Eviction),
    /// Nothing any more.
    Gone,
}

/// What the language was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Jobs,
    Queries,
    LegacyQuery,
}

/// What the server was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Completion,
    Failure,
    /// A completion that fails the workflow, where code and history part.
    WorkflowFailure,
    /// A legacy query's.
    Answer,
}

impl Run {
    /// A run whose first task is about to come. Its attempts of local activities are counted from `local_executions` on.
    pub fn new(id: RunId, task: &Task, local_executions: u32, config: &Config) -> Self {
        let workflow_id =
            task.poll.workflow_execution.as_ref().map(|e| e.workflow_id.clone()).unwrap_or_default();
        let workflow_type = task.poll.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default();
        Self {
            workflow: Workflow::new(id.bytes(), workflow_id, workflow_type, local_executions, config),
            id,
            feed: Reader::default(),
            playing: None,
            phase: Phase::Idle,
            task: None,
            eviction: None,
            known_to_lang: false,
            out: VecDeque::new(),
        }
    }

    /// What is to be done for the outside, into one queue for all runs.
    pub fn drain(&mut self, out: &mut VecDeque<Output>) {
        out.append(&mut self.out);
        if self.is_free() {
            self.out = VecDeque::new(); // an idle run holds no buffer
        }
    }

    /// How many attempts of local activities there were, with those of runs before.
    pub fn local_executions(&self) -> u32 {
        self.workflow.local_executions()
    }

    /// Whether local activities run, or wait to.
    pub fn has_open_locals(&self) -> bool {
        self.workflow.locals_open()
    }

    /// Whether it waits for a task.
    pub fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Idle) && self.task.is_none() && self.eviction.is_none()
    }

    /// Whether all that is awaited of it is the language's answer to its eviction.
    pub fn is_evicting(&self) -> bool {
        matches!(self.phase, Phase::Evicting(_))
    }

    /// Whether it has left.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// When it must be woken.
    pub fn deadline(&mut self) -> Option<Time> {
        let heartbeat = match self.phase {
            Phase::Locals { heartbeat } => Some(heartbeat),
            Phase::Idle
            | Phase::Fetching
            | Phase::Activated(_)
            | Phase::Reporting(_)
            | Phase::Evicting(_)
            | Phase::Gone => None,
        };
        heartbeat.into_iter().chain(self.workflow.locals_deadline()).min()
    }

    /// An estimate of the memory it holds.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Self>() + self.workflow.bytes() + self.feed.bytes()
    }

    /// A task, when it is free.
    pub fn task(&mut self, now: Time, task: Task, config: &Config) {
        debug_assert!(self.is_free(), "tasks that come while one is in hand wait in the shard");
        self.serve(now, task, config);
    }

    fn serve(&mut self, now: Time, task: Task, config: &Config) {
        let workflow_type = task.poll.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default();
        if self.workflow.workflow_type.is_empty() {
            self.workflow.workflow_type = workflow_type;
        }
        let (held, history) = Held::new(task, now);
        self.task = Some(Box::new(held));
        match self.take_history(history) {
            Ok(()) => self.advance(now, config),
            Err(fault) => self.fault(fault, config),
        }
    }

    /// Decides whether what came with the task is enough to go on, or the whole history is needed.
    fn take_history(&mut self, history: Bytes) -> Result<(), Fault> {
        let first = first_event_id(&history)?;
        let read = self.feed.last_read();
        let Some(held) = &mut self.task else { return Ok(()) };
        if held.is_query() && !held.queries.is_empty() {
            return Err(Fault::malformed(read, "the task has queries of the old and of the new kind"));
        }
        let cached = read > EventId(0);
        let fits = match first {
            Some(first) => first.0 <= read.0 + 1,
            None => cached && (held.is_query() || !held.queries.is_empty()),
        };
        // There is nowhere to fetch the rest of a recorded history from: reading it tells what is missing.
        if fits || held.source == Source::Replay {
            if cached && first.is_some_and(|f| f > EventId(1)) {
                self.out.push_back(Output::Note(self.id.clone(), Note::StickyHit));
            }
            let more = !held.next_page.is_empty();
            self.feed.open().push(history, more);
            return Ok(());
        }
        if first.is_none() && cached && held.source == Source::Server {
            return Err(Fault::malformed(read, "the task came without history"));
        }
        self.out.push_back(Output::Note(self.id.clone(), Note::StickyMiss));
        held.tail = Some(history);
        held.next_page = Bytes::new();
        self.feed.open().push(Bytes::new(), true);
        self.fetch();
        Ok(())
    }

    fn fetch(&mut self) {
        let page = self.task.as_ref().map(|t| t.next_page.clone()).unwrap_or_default();
        let workflow_id = self.workflow.workflow_id().to_owned();
        self.phase = Phase::Fetching;
        self.out.push_back(Output::Fetch(Fetch { run: self.id.clone(), workflow_id, page }));
    }

    /// The page that was asked for.
    pub fn page(&mut self, now: Time, page: Result<Page, FetchFailed>, config: &Config) {
        if !matches!(self.phase, Phase::Fetching) {
            return;
        }
        self.phase = Phase::Idle;
        let Some(held) = &mut self.task else { return };
        match page {
            Ok(page) => {
                held.next_page = page.next_page;
                let more = !held.next_page.is_empty() || held.tail.is_some();
                self.feed.open().push(page.history, more);
                self.advance(now, config);
            }
            Err(failed) => self.fetch_failed(failed),
        }
    }

    /// Goes on until something is awaited.
    fn advance(&mut self, now: Time, config: &Config) {
        while matches!(self.phase, Phase::Idle) {
            let step = match (&self.task, self.playing) {
                (None, _) => {
                    self.evict_if_asked();
                    break;
                }
                (Some(_), Some(mode)) => self.play(now, mode, config),
                (Some(_), None) => self.read(config),
            };
            if let Err(fault) = step {
                self.fault(fault, config);
            }
        }
        self.emit_locals();
    }

    /// Plays the turn in hand a step further.
    fn play(&mut self, now: Time, mode: Mode, config: &Config) -> Result<(), Fault> {
        if mode == Mode::Live {
            self.workflow.start_locals(now);
        }
        if let Some(activation) = self.workflow.activation() {
            self.activate(now, activation, Asked::Jobs, mode);
            return Ok(());
        }
        match mode {
            Mode::Replay => {
                self.workflow.settle(&mut self.feed.open().turn)?;
                self.feed.open().clear();
                self.playing = None;
            }
            Mode::OpenEnd => {
                self.playing = None;
                self.feed.open().clear();
                self.replay_is_over();
            }
            Mode::Live => self.live(now, config),
        }
        Ok(())
    }

    /// Nothing is left to tell the language in the open task, but for queries.
    fn live(&mut self, now: Time, config: &Config) {
        let Some(held) = &mut self.task else { return };
        if !held.queries.is_empty() {
            let queries = std::mem::take(&mut held.queries);
            self.ask_queries(queries);
        } else if !self.workflow.locals_open() {
            self.answer(false, config);
        } else if !held.results.is_empty() {
            self.answer(true, config); // whoever asked does not wait for local activities
        } else {
            let heartbeat = held.heartbeat(self.workflow.task_timeout);
            if heartbeat <= now {
                self.answer(true, config);
            } else {
                self.phase = Phase::Locals { heartbeat };
            }
        }
    }

    /// Reads the next turn.
    fn read(&mut self, config: &Config) -> Result<(), Fault> {
        let Some(held) = &mut self.task else { return Ok(()) };
        let recorded = held.source == Source::Replay;
        let read = self.feed.open().read(recorded)?;
        if let Some(suspect) = self.workflow.suspect.take_if(|_| !matches!(read, Read::Replayed | Read::Page))
        {
            return Err(suspect);
        }
        match read {
            Read::Replayed => {
                held.replayed = true;
                self.playing = Some(Mode::Replay);
                self.workflow.begin(&mut self.feed.open().turn, Mode::Replay, Vec::new(), config)?;
            }
            Read::Open if held.is_query() => self.caught_up(),
            // What happened between the last task and a violent end was never shown to the code.
            Read::Rest
                if self.workflow.history_length() > EventId(0) && self.feed.open().turn.ends_violently() =>
            {
                self.replay_is_over();
            }
            Read::Open | Read::Rest => {
                let mode = if recorded { Mode::OpenEnd } else { Mode::Live };
                let messages = std::mem::take(&mut held.messages);
                self.playing = Some(mode);
                self.workflow.begin(&mut self.feed.open().turn, mode, messages, config)?;
            }
            Read::Recorded => {
                self.workflow.recorded(&mut self.feed.open().turn)?;
                self.feed.open().clear();
            }
            Read::Page if held.next_page.is_empty() => {
                let tail = held.tail.take().unwrap_or_default();
                self.feed.open().push(tail, false);
            }
            Read::Page => self.fetch(),
            Read::End if recorded => self.replay_is_over(),
            Read::End if held.is_query() => self.caught_up(),
            Read::End => {
                return Err(Fault::malformed(
                    self.feed.last_read(),
                    &format!("the history ends there, before the start of its task ({})", held.started),
                ));
            }
        }
        Ok(())
    }

    fn activate(&mut self, now: Time, activation: lang::WorkflowActivation, asked: Asked, mode: Mode) {
        if let Some(held) = &mut self.task
            && mode == Mode::Live
            && std::mem::take(&mut held.replayed)
        {
            let took = now.since(held.received);
            self.out.push_back(Output::Note(self.id.clone(), Note::Replayed(took)));
        }
        self.known_to_lang = true;
        self.phase = Phase::Activated(asked);
        self.out.push_back(Output::Activate(activation));
    }

    /// What the language made of an activation.
    pub fn completed(&mut self, now: Time, completion: lang::WorkflowActivationCompletion, config: &Config) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        match (phase, completion.status) {
            (Phase::Activated(Asked::Jobs), Some(Status::Successful(success))) => {
                match self.workflow.complete(success, config) {
                    Ok(()) => self.advance(now, config),
                    Err(fault) => self.fault(fault, config),
                }
            }
            (Phase::Activated(Asked::Queries), Some(Status::Successful(success))) => {
                self.queries_answered(now, success, config);
            }
            (Phase::Activated(Asked::LegacyQuery), Some(Status::Successful(success))) => {
                self.legacy_answered(success, config);
            }
            (Phase::Activated(_), Some(Status::Failed(failure))) => self.lang_failed(failure, config),
            (Phase::Activated(_), None) => {
                self.fault(Fault::misuse("a completion that is neither a success nor a failure"), config);
            }
            (Phase::Evicting(eviction), _) => self.leave(eviction),
            (
                phase @ (Phase::Idle
                | Phase::Fetching
                | Phase::Locals { .. }
                | Phase::Reporting(_)
                | Phase::Gone),
                _,
            ) => {
                self.phase = phase; // nothing was asked
            }
        }
        self.emit_locals();
    }

    /// Answers the open task.
    fn answer(&mut self, force_new_task: bool, config: &Config) {
        let answer = self.workflow.answer(config);
        let force_new_task = force_new_task && answer.closes.is_none();
        let Some(held) = &mut self.task else { return };
        let completion = TaskCompletion {
            ticket: held.ticket,
            token: held.token.clone(),
            commands: answer.commands,
            messages: answer.messages,
            query_results: std::mem::take(&mut held.results),
            force_new_task,
            core_flags: answer.core_flags,
            lang_flags: answer.lang_flags,
            write_sdk: answer.write_sdk,
            versioning_behavior: answer.versioning_behavior,
            nonfirst_local_attempts: self.workflow.take_nonfirst_attempts(force_new_task),
            workflow_type: self.workflow.workflow_type.clone(),
            closes: answer.closes.is_some(),
            leaves: answer.closes.is_some() || self.eviction.is_some(),
            history_size_bytes: self.workflow.history_size_bytes(),
        };
        self.phase = Phase::Reporting(Sent::Completion);
        self.out.push_back(Output::Complete(self.id.clone(), Box::new(completion)));
    }

    /// How the server took what it was told.
    pub fn reported(&mut self, now: Time, reply: Reply, config: &Config) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let Phase::Reporting(sent) = phase else {
            self.phase = phase;
            return;
        };
        match (sent, reply) {
            (Sent::Completion, Reply::Accepted { task, reset_history_event_id }) => {
                self.accepted(now, task, reset_history_event_id, config);
            }
            (Sent::Completion, reply) => self.refused(reply),
            (
                Sent::WorkflowFailure,
                reply @ (Reply::TooLarge { .. } | Reply::PayloadsTooLarge { .. } | Reply::Invalid { .. }),
            ) => self.refused(reply),
            (sent @ (Sent::Failure | Sent::WorkflowFailure | Sent::Answer), reply) => {
                if matches!((sent, reply), (Sent::WorkflowFailure, Reply::Accepted { .. })) {
                    self.note_closed(now, Closed::Failed);
                }
                if sent == Sent::Answer && self.workflow.is_over() {
                    self.evict_closed(config); // who asks again is answered from the beginning
                }
                self.done();
                self.advance(now, config);
            }
        }
    }

    fn accepted(&mut self, now: Time, next: Option<Box<Task>>, reset: i64, config: &Config) {
        self.playing = None;
        if reset > 0 {
            self.feed.open().dropped();
            self.workflow.rewind(EventId(reset));
        } else {
            self.feed.open().answered();
        }
        for note in self.workflow.take_notes() {
            self.out.push_back(Output::Note(self.id.clone(), note));
        }
        if let Some(closed) = self.workflow.closing() {
            self.note_closed(now, closed);
        }
        let over = self.workflow.is_over();
        match next {
            // The ticket of the next task is that of this one. A run that was asked to leave meanwhile serves it first:
            // dropped, it would come back only after its timeout.
            Some(next) if !over => {
                self.task = None;
                self.serve(now, *next, config);
                return;
            }
            Some(_) | None => self.done(),
        }
        if over {
            self.evict_closed(config);
        }
        self.workflow.shrink();
        self.feed.shrink();
        self.advance(now, config);
    }

    fn evict_closed(&mut self, config: &Config) {
        self.evict(if config.cache_runs == 0 { Eviction::uncached() } else { Eviction::closed() });
    }

    fn note_closed(&mut self, now: Time, closed: Closed) {
        let took = now.since(self.workflow.started);
        self.out.push_back(Output::Note(self.id.clone(), Note::Closed(closed, took)));
    }

    /// The task is no longer held.
    fn done(&mut self) {
        if let Some(held) = self.task.take() {
            self.out.push_back(Output::Done(held.ticket));
        }
    }

    /// A history that was only to be replayed is at its end.
    fn replay_is_over(&mut self) {
        self.done();
        self.evict(Eviction {
            reason: Reason::LangRequested,
            message: "The replay reached the end of its history".to_owned(),
        });
    }

    /// How a local activity went.
    pub fn local(&mut self, now: Time, report: LocalReport, config: &Config) {
        self.workflow.local_reported(now, report);
        if matches!(self.phase, Phase::Locals { .. })
            && (self.workflow.has_jobs() || !self.workflow.locals_open())
        {
            self.phase = Phase::Idle;
            self.advance(now, config);
        }
        self.emit_locals();
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Time, config: &Config) {
        self.workflow.locals_tick(now);
        if let Phase::Locals { heartbeat } = self.phase
            && (heartbeat <= now || self.workflow.has_jobs())
        {
            self.phase = Phase::Idle;
            self.advance(now, config);
        }
        self.emit_locals();
    }

    fn emit_locals(&mut self) {
        for local in self.workflow.take_locals() {
            self.out.push_back(match local {
                LocalOut::Start(task) => Output::StartLocal(self.id.clone(), *task),
                LocalOut::Cancel(name) => Output::CancelLocal(self.id.clone(), name),
            });
        }
    }

    /// It shall leave, once no task is in hand. The latest reason counts.
    pub fn evict(&mut self, eviction: Eviction) {
        if matches!(self.phase, Phase::Evicting(_) | Phase::Gone) {
            return;
        }
        self.eviction = Some(eviction);
    }

    /// The same, from outside.
    pub fn evict_now(&mut self, now: Time, eviction: Eviction, config: &Config) {
        self.evict(eviction);
        self.advance(now, config);
    }

    fn evict_if_asked(&mut self) {
        let Some(eviction) = self.eviction.take() else { return };
        self.workflow.drop_locals();
        self.emit_locals();
        if !self.known_to_lang {
            self.leave(eviction);
            return;
        }
        let removal =
            lang::RemoveFromCache { message: eviction.message.clone(), reason: eviction.reason.into() };
        let job = lang::workflow_activation_job::Variant::RemoveFromCache(removal);
        self.out.push_back(Output::Activate(self.workflow.farewell(job)));
        self.phase = Phase::Evicting(eviction);
    }

    fn leave(&mut self, eviction: Eviction) {
        self.phase = Phase::Gone;
        self.out.push_back(Output::Forgotten(self.id.clone(), eviction));
    }
}
