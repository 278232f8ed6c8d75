//! Many runs in one owner: which run an input is for, which tasks wait, and which runs leave to make room.
//! It does not know what happens inside a run.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason as Reason;

use crate::config::Config;
use crate::io::{Eviction, Input, Note, Output, RunId, Source, Task};
use crate::run::Run;
use crate::time::Time;

/// How many queries may wait for one run. Older ones give way: whoever asked will ask again.
const WAITING_QUERIES_MAX: usize = 1000;

/// A set of runs with one owner.
///
/// ```
/// use outlast_machine::{Config, shard::Shard, time::Time, io::Input};
///
/// let mut shard = Shard::new(Config::default());
/// shard.handle(Time::from_nanos(0), Input::Tick);
/// assert!(shard.poll().is_none());
/// assert!(shard.is_idle());
/// ```
#[derive(Debug)]
pub struct Shard {
    config: Config,
    /// Boxed: the nodes of the map are half empty.
    runs: BTreeMap<RunId, Box<Cached>>,
    /// Free runs by when they were last used: the first leaves first.
    free: BTreeMap<u64, RunId>,
    used: u64,
    /// Tasks of runs that are not cached, while there is no room.
    waiting: VecDeque<Task>,
    /// Tasks that waited for a run which has left since: each run starts afresh with its own, before anything else comes.
    again: VecDeque<(RunId, VecDeque<Task>)>,
    /// Runs that were asked to leave to make room, and have not left yet.
    leaving: usize,
    /// Runs whose eviction the language has not answered yet, whatever they leave for.
    evicting: usize,
    /// The most attempts of local activities that a run had which has left: later ones name theirs after it, for reports
    /// of the earlier may still come.
    local_executions: u32,
    bytes: usize,
    /// When runs must be woken.
    deadlines: BTreeMap<(Time, RunId), ()>,
    out: VecDeque<Output>,
}

#[derive(Debug)]
struct Cached {
    run: Run,
    /// Tasks that wait until the one in hand is answered: at most one that is not a query.
    tasks: VecDeque<Task>,
    /// Its key in `free`.
    free_since: Option<u64>,
    bytes: usize,
    deadline: Option<Time>,
    /// It was asked to leave to make room.
    leaving: bool,
    /// The language was told of its eviction, and nothing else is awaited.
    evicting: bool,
}

/// Why a shard wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A task with local activities must be answered, or the next attempt of a local activity is due.
    LocalActivities,
}

impl Shard {
    /// A shard without runs.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            runs: BTreeMap::new(),
            free: BTreeMap::new(),
            used: 0,
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            leaving: 0,
            evicting: 0,
            local_executions: 0,
            bytes: 0,
            deadlines: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Takes something in. Drain [`poll`](Self::poll) after it.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Task(task) => self.task(now, *task),
            Input::Page(id, page) => self.with(now, &id, |run, config| run.page(now, page, config)),
            Input::Completed(completion) => {
                let id = RunId::from(completion.run_id.clone());
                self.with(now, &id, |run, config| run.completed(now, completion, config));
            }
            Input::Local(id, report) => self.with(now, &id, |run, config| run.local(now, report, config)),
            Input::Reported(id, reply) => self.with(now, &id, |run, config| run.reported(now, reply, config)),
            Input::Evict(id, eviction) => {
                self.with(now, &id, |run, config| run.evict_now(now, eviction, config))
            }
            Input::Tick => self.tick(now),
        }
        self.make_room(now);
    }

    /// The next thing to do for the outside; `None`: wait for an arrival or the [`deadline`](Self::deadline).
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Tick`] is due, and why.
    pub fn deadline(&self) -> Option<(Time, Why)> {
        self.deadlines.keys().next().map(|(time, _)| (*time, Why::LocalActivities))
    }

    /// How many runs are cached.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The bytes that cached runs hold, by estimate.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no task, activation, fetch or report is outstanding. Cached runs may be there.
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.runs.len() && self.waiting.is_empty()
    }

    /// Whether at most answers to evictions are outstanding. Tasks may wait for those: see [`Self::waits_for_evictions`].
    pub fn has_only_evictions(&self) -> bool {
        self.free.len() + self.evicting == self.runs.len() && (self.evicting > 0 || self.waiting.is_empty())
    }

    /// How many runs the language has not let go yet, although it was told to.
    pub fn evicting(&self) -> usize {
        self.evicting
    }

    /// Whether a task cannot begin before an eviction is answered: it is of that run, or there is no room.
    pub fn waits_for_evictions(&self) -> bool {
        let waits = |cached: &Cached| cached.evicting && !cached.tasks.is_empty();
        self.evicting > 0 && (!self.waiting.is_empty() || self.runs.values().any(|cached| waits(cached)))
    }

    /// Drops the runs whose evictions the language has not answered, with the tasks that wait for them: the language still has
    /// those runs, so nothing can be begun anew for them. What waited for room begins. Answers that come later are for nobody.
    pub fn drop_evicting(&mut self, now: Time) -> usize {
        let dropped: Vec<RunId> =
            self.runs.iter().filter(|(_, cached)| cached.evicting).map(|(id, _)| id.clone()).collect();
        for id in &dropped {
            if let Some(cached) = self.runs.get_mut(id) {
                let tasks = std::mem::take(&mut cached.tasks);
                self.out.extend(tasks.into_iter().map(|task| Output::Done(task.ticket)));
            }
            self.left(id);
        }
        self.make_room(now);
        dropped.len()
    }

    /// Asks every run to leave once its task is answered.
    pub fn evict_all(&mut self, now: Time, eviction: &Eviction) {
        let ids: Vec<RunId> = self.runs.keys().cloned().collect();
        for id in ids {
            self.handle(now, Input::Evict(id, eviction.clone()));
        }
    }

    fn task(&mut self, now: Time, task: Task) {
        let id = run_id(&task);
        if let Some(cached) = self.runs.get_mut(&id) {
            if cached.run.is_free() && cached.tasks.is_empty() {
                self.with(now, &id, |run, config| run.task(now, task, config));
            } else if let Some(dropped) = cached.wait(task) {
                self.out.push_back(Output::Done(dropped.ticket));
            }
            return;
        }
        if self.is_full() {
            self.waiting.push_back(task);
        } else {
            self.start(now, id, task, VecDeque::new());
        }
    }

    /// A run begins with a task; others wait for it.
    fn start(&mut self, now: Time, id: RunId, task: Task, tasks: VecDeque<Task>) {
        let run = Run::new(id.clone(), &task, self.local_executions, &self.config);
        let cached = Cached {
            run,
            tasks,
            free_since: None,
            bytes: 0,
            deadline: None,
            leaving: false,
            evicting: false,
        };
        self.runs.insert(id.clone(), Box::new(cached));
        self.with(now, &id, |run, config| run.task(now, task, config));
    }

    fn tick(&mut self, now: Time) {
        while let Some((time, id)) = self.deadlines.keys().next().cloned() {
            if time > now {
                return;
            }
            self.with(now, &id, |run, config| run.tick(now, config));
            // A run that wants to be woken at once again must not hold the loop.
            if self.runs.get(&id).and_then(|c| c.deadline).is_some_and(|d| d <= now) {
                return;
            }
        }
    }

    /// Gives a run an input, and takes from it what follows. Inputs for unknown runs are late: they are dropped.
    fn with(&mut self, now: Time, id: &RunId, input: impl FnOnce(&mut Run, &Config)) {
        let Some(cached) = self.runs.get_mut(id) else { return };
        if let Some(since) = cached.free_since.take() {
            self.free.remove(&since);
        }
        input(&mut cached.run, &self.config);
        cached.run.drain(&mut self.out);
        self.settle(now, id);
    }

    /// Notes what changed for a run: it left, it is free, it wants to be woken at another time.
    fn settle(&mut self, now: Time, id: &RunId) {
        let Some(cached) = self.runs.get_mut(id) else { return };
        let deadline = cached.run.deadline();
        if deadline != cached.deadline {
            if let Some(before) = cached.deadline.take() {
                self.deadlines.remove(&(before, id.clone()));
            }
            if let Some(deadline) = deadline {
                self.deadlines.insert((deadline, id.clone()), ());
            }
            cached.deadline = deadline;
        }
        let evicting = cached.run.is_evicting();
        self.evicting -= usize::from(std::mem::replace(&mut cached.evicting, evicting));
        self.evicting += usize::from(evicting);
        if cached.run.is_gone() {
            self.left(id);
        } else if cached.run.is_free() {
            self.became_free(now, id);
        }
    }

    fn became_free(&mut self, now: Time, id: &RunId) {
        let Some(cached) = self.runs.get_mut(id) else { return };
        if let Some(task) = cached.tasks.pop_front() {
            self.with(now, id, |run, config| run.task(now, task, config));
            return;
        }
        let bytes = cached.run.bytes();
        self.bytes = self.bytes - cached.bytes + bytes;
        cached.bytes = bytes;
        cached.tasks.shrink_to_fit();
        self.used += 1;
        cached.free_since = Some(self.used);
        self.free.insert(self.used, id.clone());
        // A run whose local activities go on would run them again: its next task is on the way.
        if self.config.cache_runs == 0
            && !self.runs.get(id).is_some_and(|cached| cached.run.has_open_locals())
        {
            self.with(now, id, |run, config| run.evict_now(now, Eviction::uncached(), config));
        }
    }

    fn left(&mut self, id: &RunId) {
        let Some(mut cached) = self.runs.remove(id) else { return };
        self.bytes -= cached.bytes;
        self.local_executions = self.local_executions.max(cached.run.local_executions());
        self.leaving -= usize::from(cached.leaving);
        self.evicting -= usize::from(cached.evicting);
        if let Some(deadline) = cached.deadline {
            self.deadlines.remove(&(deadline, id.clone()));
        }
        if !cached.tasks.is_empty() {
            self.again.push_back((id.clone(), std::mem::take(&mut cached.tasks)));
        }
    }

    fn is_full(&self) -> bool {
        self.config.cache_runs > 0 && self.runs.len() >= self.config.cache_runs
    }

    /// Lets waiting tasks in as far as there is room, and asks the least recently used runs to leave as far as there is not.
    fn make_room(&mut self, now: Time) {
        loop {
            self.let_in(now);
            let short = self.leaving < self.waiting.len() || self.bytes > self.config.cache_bytes;
            let Some((_, id)) = short.then(|| self.free.pop_first()).flatten() else { return };
            self.ask_to_leave(now, &id); // it may leave at once
        }
    }

    /// A task may fail at once, and its run leave: this is a loop, not a recursion, since many may.
    fn let_in(&mut self, now: Time) {
        loop {
            if let Some((id, mut tasks)) = self.again.pop_front() {
                let Some(first) = tasks.pop_front() else { continue };
                self.start(now, id, first, tasks);
            } else if !self.is_full()
                && let Some(task) = self.waiting.pop_front()
            {
                self.task(now, task);
            } else {
                return;
            }
        }
    }

    fn ask_to_leave(&mut self, now: Time, id: &RunId) {
        if let Some(cached) = self.runs.get_mut(id) {
            cached.free_since = None;
            cached.leaving = true;
            self.bytes -= std::mem::take(&mut cached.bytes);
            self.leaving += 1;
        }
        self.out.push_back(Output::Note(id.clone(), Note::ForcedEviction));
        let message = "The cache is full, and this run was used least recently".to_owned();
        let eviction = Eviction { reason: Reason::CacheFull, message };
        self.with(now, id, |run, config| run.evict_now(now, eviction, config));
    }
}

impl Cached {
    /// Lets a task wait. Returns one that gives way: of tasks that are not queries the newest counts.
    fn wait(&mut self, task: Task) -> Option<Task> {
        let is_query = |t: &Task| t.poll.query.is_some();
        let gives_way = if is_query(&task) {
            let queries = self.tasks.iter().filter(|t| is_query(t)).count();
            (queries >= WAITING_QUERIES_MAX).then(|| self.tasks.iter().position(is_query)).flatten()
        } else {
            self.tasks.iter().position(|t| !is_query(t))
        };
        let dropped = gives_way.and_then(|at| self.tasks.remove(at));
        self.tasks.push_back(task);
        dropped
    }
}

fn run_id(task: &Task) -> RunId {
    let id = task.poll.workflow_execution.as_ref().map(|e| e.run_id.as_str()).unwrap_or_default();
    RunId::from(Bytes::copy_from_slice(id.as_bytes()))
}

/// A task that shows a recorded history to the language, to see whether it still fits. `run_id` may be any id that is
/// not in the shard.
pub fn replay_task(
    ticket: crate::io::Ticket,
    workflow_id: &str,
    run_id: &str,
    workflow_type: Bytes,
    page: crate::io::Page,
) -> Task {
    use outlast_proto::lens::api;
    let poll = api::PollWorkflowTaskQueueResponse {
        workflow_execution: Some(api::WorkflowExecution {
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
        }),
        workflow_type: Some(api::WorkflowType { name: workflow_type }),
        history: Some(page.history),
        next_page_token: page.next_page,
        ..Default::default()
    };
    Task { ticket, poll, source: Source::Replay }
}
