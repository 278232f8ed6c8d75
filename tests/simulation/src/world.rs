//! A shard, servers, programs and what is under way between them, in an order that the seed gives. Asserted on the way:
//! no activation for an unknown run, none that differs from what was shown live before, every ticket done once, nothing
//! told twice, reports of local activities only to those who asked, and at the end nothing outstanding.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{
    Eviction, Fetch, FetchFailed, Input, LocalName, LocalReport, LocalResult, LocalTask, LocalTimeout,
    Output, Page, Reply, RunId, Source, Task, TaskCompletion, Ticket,
};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_proto::lens::api;
use outlast_proto::lens::history::History;
use outlast_proto::lens::lang::workflow_activation_job::Variant as Job;
use outlast_proto::lens::lang::{self, workflow_activation_completion::Status};
use prost::Message;

use crate::program::{Instance, Program, failure, payload};
use crate::random::Random;
use crate::replay::{self, Shown};
use crate::server::{Server, Tickets, Verdict};

/// One run: its server, its program, and what the language keeps of it.
struct Run {
    server: Server,
    program: Program,
    instance: Option<Instance>,
    /// How often the language began it anew.
    incarnation: u64,
    /// What was shown in tasks that the server took, in order.
    recorded: Vec<Shown>,
    /// What was shown in the task that is open.
    live: Vec<Shown>,
    /// How much of `recorded` this incarnation was shown again.
    caught_up: usize,
    /// Attempts of local activities that were asked for since the run came into the cache.
    locals: BTreeSet<LocalName>,
    /// This incarnation plays a task that the server has given up: nothing of it stays.
    late: bool,
}

/// Something under way.
enum Arrival {
    Lang(lang::WorkflowActivation),
    Page(Fetch),
    Complete(RunId, Box<TaskCompletion>),
    Fail(RunId, Bytes),
    Answer(RunId),
    Local(RunId, Box<LocalTask>, u64),
    Task(Box<Task>),
}

/// Everything.
pub struct World {
    random: Random,
    now: i64,
    shard: Shard,
    runs: BTreeMap<String, Run>,
    arrivals: Vec<Arrival>,
    tickets: Tickets,
    cancelled: Vec<(RunId, LocalName)>,
    /// New things happen, and things go wrong.
    busy: bool,
    trace: Option<Vec<String>>,
    steps: usize,
}

const SECOND: i64 = 1_000_000_000;

/// What a seed led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub events: usize,
    pub closed: usize,
    pub trace: Vec<String>,
}

/// Plays a seed to its end.
pub fn simulate(seed: u64, traced: bool) -> Outcome {
    let mut world = World::new(seed, traced);
    let busy_steps = 50 + world.random.below(400);
    for _ in 0..busy_steps {
        world.step();
    }
    world.busy = false;
    let shutdown = world.random.percent(15);
    if shutdown {
        world.shut_down();
    } else {
        world.settle();
    }
    world.replays();
    let events = world.runs.values().map(|r| r.server.events.len()).sum();
    let closed = world.runs.values().filter(|r| r.server.closed).count();
    Outcome { events, closed, trace: world.trace.unwrap_or_default() }
}

impl World {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let config = Config {
            cache_runs: *random.pick(&[0, 1, 2, 8, 1000]),
            cache_bytes: *random.pick(&[usize::MAX, usize::MAX, usize::MAX, 4000]),
            sdk_name: "sim".to_owned(),
            sdk_version: "1".to_owned(),
            ..Config::default()
        };
        let now = 1000 * SECOND;
        let mut runs = BTreeMap::new();
        for n in 0..1 + random.below(4) {
            let id = format!("run-{n}");
            let run = Run {
                server: Server::new(id.clone(), now),
                program: Program::generate(&mut random),
                instance: None,
                incarnation: 0,
                recorded: Vec::new(),
                live: Vec::new(),
                caught_up: 0,
                locals: BTreeSet::new(),
                late: false,
            };
            runs.insert(id, run);
        }
        Self {
            random,
            now,
            shard: Shard::new(config),
            runs,
            arrivals: Vec::new(),
            tickets: Tickets::default(),
            cancelled: Vec::new(),
            busy: true,
            trace: traced.then(Vec::new),
            steps: 0,
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        self.steps += 1;
        self.now += 1_000_000 * (1 + self.random.below(200) as i64);
        let now = self.now;
        self.runs.values_mut().for_each(|r| r.server.now = r.server.now.max(now));
        match self.random.below(100) {
            0..=54 => self.arrive(),
            55..=74 => self.poll(),
            75..=89 => self.happen(),
            90..=94 => self.wait(),
            _ if self.busy => self.trouble(),
            _ => self.arrive(),
        }
    }

    fn some_run(&mut self) -> String {
        let at = self.random.below(self.runs.len());
        self.runs.keys().nth(at).expect("it is below their number").clone()
    }

    fn handle(&mut self, input: Input) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("> {input:?}"));
        }
        self.shard.handle(Time::from_nanos(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.shard.poll() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("< {output:?}"));
            }
            self.said(output);
        }
    }

    fn said(&mut self, output: Output) {
        match output {
            Output::Activate(activation) => {
                let id = String::from_utf8_lossy(&activation.run_id).into_owned();
                assert!(self.runs.contains_key(&id), "an activation for an unknown run {id}");
                self.arrivals.push(Arrival::Lang(activation));
            }
            Output::Fetch(fetch) => self.arrivals.push(Arrival::Page(fetch)),
            Output::StartLocal(run, task) => {
                let state = self.run(&run);
                assert!(state.locals.insert(task.name), "{:?} is started twice", task.name);
                let incarnation = state.incarnation;
                self.arrivals.push(Arrival::Local(run, Box::new(task), incarnation));
            }
            Output::CancelLocal(run, name) => {
                assert!(self.run(&run).locals.contains(&name), "{name:?} is cancelled after its run left");
                self.cancelled.push((run, name));
            }
            Output::Complete(run, completion) => {
                self.holds(completion.ticket);
                self.arrivals.push(Arrival::Complete(run, completion));
            }
            Output::Fail(run, failure) => {
                self.holds(failure.ticket);
                self.arrivals.push(Arrival::Fail(run, failure.token));
            }
            Output::Answer(run, answer) => {
                self.holds(answer.ticket);
                self.arrivals.push(Arrival::Answer(run));
            }
            Output::Done(ticket) => self.tickets.done(ticket),
            Output::Forgotten(run, _) => {
                let run = self.run(&run);
                run.locals.clear();
                assert!(run.instance.is_none(), "forgotten before the language was told");
            }
            Output::Note(..) => {}
        }
    }

    fn holds(&self, ticket: Ticket) {
        assert!(self.tickets.held().contains(&ticket), "{ticket:?} is answered but not held");
    }

    /// Something that was under way arrives.
    fn arrive(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        let at = self.random.below(self.arrivals.len());
        match self.arrivals.swap_remove(at) {
            Arrival::Lang(activation) => self.lang(activation),
            Arrival::Page(fetch) => self.page(fetch),
            Arrival::Complete(run, completion) => self.complete(run, &completion),
            Arrival::Fail(run, token) => {
                let state = self.run(&run);
                state.live.clear();
                let reply = match state.server.fail(&token) {
                    Verdict::Taken { .. } => accepted(None, 0),
                    Verdict::Unknown | Verdict::Unhandled => Reply::NotFound,
                };
                self.handle(Input::Reported(run, reply));
            }
            Arrival::Answer(run) => {
                let reply = if self.random.percent(10) { Reply::NotFound } else { accepted(None, 0) };
                self.handle(Input::Reported(run, reply));
            }
            // They take their time: some outlive the incarnation that asked for them.
            local @ Arrival::Local(..) if self.random.percent(75) => self.arrivals.push(local),
            Arrival::Local(run, task, incarnation) => self.local(run, &task, incarnation),
            Arrival::Task(task) => self.handle(Input::Task(task)),
        }
    }

    fn run(&mut self, id: &RunId) -> &mut Run {
        self.runs.get_mut(&id.to_string()).expect("only known runs are spoken of")
    }

    /// The language takes an activation.
    fn lang(&mut self, activation: lang::WorkflowActivation) {
        let id = RunId::from(activation.run_id.clone());
        let fails = self.busy && self.random.percent(2);
        let run = self.run(&id);
        let has = |is: fn(&Job) -> bool| {
            activation.jobs.iter().filter(|j| j.variant.as_ref().is_some_and(is)).count()
        };
        assert!(!activation.jobs.is_empty(), "an activation without jobs");
        let removals = has(|j| matches!(j, Job::RemoveFromCache(_)));
        let queries = has(|j| matches!(j, Job::QueryWorkflow(_)));
        if removals > 0 {
            assert_eq!(activation.jobs.len(), 1, "an eviction is alone");
            run.instance = None;
            run.live.clear();
            return self.completed(id, Ok(Vec::new()));
        }
        if queries > 0 {
            assert_eq!(activation.jobs.len(), queries, "queries are alone");
            assert!(activation.is_replaying, "a query is no progress");
            let instance = run.instance.as_mut().expect("a query is for a run that the language knows");
            let answers = instance.activate(&activation);
            assert_eq!(answers.len(), queries, "a query changes nothing");
            return self.completed(id, Ok(answers));
        }
        if has(|j| matches!(j, Job::InitializeWorkflow(_))) > 0 {
            assert!(run.instance.is_none(), "initialised twice");
            run.instance = Some(Instance::new(run.program.clone()));
            run.incarnation += 1;
            run.caught_up = 0;
            run.late = false;
        }
        let instance = run.instance.as_mut().expect("an activation for a run that was not initialised");
        let commands = instance.activate(&activation);
        if !activation.is_replaying {
            for job in &activation.jobs {
                assert_own(job, run.incarnation);
            }
        }
        if let Some(shown) = Shown::new(&activation, &commands) {
            let last = run.recorded.last().map_or(0, Shown::length);
            run.late |=
                !activation.is_replaying && shown.length() <= last && run.caught_up < run.recorded.len();
            if run.late {
                // The server will know no such task.
            } else if activation.is_replaying {
                let live =
                    run.recorded.get(run.caught_up).unwrap_or_else(|| panic!("never shown live: {shown:#?}"));
                assert!(shown == *live, "{}", replay::differences(live, &shown));
                run.caught_up += 1;
            } else {
                assert_eq!(run.caught_up, run.recorded.len(), "live before all was replayed");
                run.live.push(shown);
            }
        }
        self.completed(id, if fails { Err(failure("the language failed")) } else { Ok(commands) });
    }

    fn completed(&mut self, id: RunId, result: Result<Vec<lang::WorkflowCommand>, Bytes>) {
        let status = match result {
            Ok(commands) => {
                Status::Successful(lang::WorkflowCompletionSuccess { commands, ..Default::default() })
            }
            Err(failure) => {
                Status::Failed(lang::WorkflowCompletionFailure { failure: Some(failure), force_cause: 0 })
            }
        };
        self.handle(Input::Completed(lang::WorkflowActivationCompletion {
            run_id: id.bytes(),
            status: Some(status),
            ..Default::default()
        }));
    }

    /// The server takes an answer, or does not.
    fn complete(&mut self, id: RunId, completion: &TaskCompletion) {
        let trouble = if self.busy { self.random.below(40) } else { 9 };
        let run = self.run(&id);
        if trouble == 0 {
            run.server.lose(true); // just too late
        }
        let verdict = run.server.complete(completion);
        assert!(!run.late || matches!(verdict, Verdict::Unknown), "a task that was given up is taken");
        match &verdict {
            Verdict::Taken { reset: 0 } => {
                let live = std::mem::take(&mut run.live);
                run.recorded.extend(live);
                run.caught_up = run.recorded.len();
            }
            Verdict::Taken { .. } => assert!(run.live.is_empty(), "a dropped task showed nothing that stays"),
            Verdict::Unknown | Verdict::Unhandled => run.live.clear(),
        }
        let reply = match verdict {
            Verdict::Taken { .. } if trouble == 1 => {
                Reply::Failed { message: "the connection was lost".to_owned() }
            }
            Verdict::Taken { reset } => {
                let next = run.server.has_task() && self.random.percent(40);
                let task = next.then(|| Box::new(self.task(&id.to_string(), Some(completion.ticket))));
                accepted(task, reset)
            }
            Verdict::Unknown if trouble == 2 => Reply::TooLarge { message: "too large".to_owned() },
            Verdict::Unknown => Reply::NotFound,
            Verdict::Unhandled => Reply::UnhandledCommand,
        };
        self.handle(Input::Reported(id, reply));
    }

    /// A worker asks for a task, and gets one if there is one.
    fn poll(&mut self) {
        let id = self.some_run();
        if !self.runs[&id].server.has_task() {
            return;
        }
        let task = self.task(&id, None);
        self.arrivals.push(Arrival::Task(Box::new(task)));
    }

    fn task(&mut self, id: &str, ticket: Option<Ticket>) -> Task {
        let ticket = ticket.unwrap_or_else(|| self.tickets.give());
        let queries = self.busy && self.random.percent(15);
        let run = self.runs.get_mut(id).expect("it is known");
        let mut poll = run.server.start();
        if queries && run.server.previous_started > 0 {
            let query = api::WorkflowQuery { query_type: "q".into(), query_args: None, header: None };
            poll.queries = [("q1".to_owned(), query.clone()), ("q2".to_owned(), query)].into();
        }
        let sticky = run.server.sticky;
        self.with_history(id, poll, sticky, ticket)
    }

    fn with_history(
        &mut self,
        id: &str,
        mut poll: api::PollWorkflowTaskQueueResponse,
        sticky: bool,
        ticket: Ticket,
    ) -> Task {
        let events = self.runs[id].server.visible();
        let from =
            if sticky && self.random.percent(90) { poll.previous_started_event_id as usize } else { 0 };
        let empty = poll.query.is_some() && from > 0;
        let page = self.cut(&events, if empty { events.len() } else { from }, events.len());
        poll.history = Some(page.history);
        poll.next_page_token = page.next_page;
        Task { ticket, poll, source: Source::Server }
    }

    /// A page of the events `from..to`, with what fetches the rest.
    fn cut(&mut self, events: &[Bytes], from: usize, to: usize) -> Page {
        let size = *self.random.pick(&[1, 2, 5, usize::MAX, usize::MAX, usize::MAX]);
        let to = to.min(events.len());
        let from = from.min(to);
        let end = to.min(from.saturating_add(size));
        // Servers send the last event of a page again now and then, and pages with nothing in them.
        let begin = if from > 0 && self.random.percent(10) { from - 1 } else { from };
        let history = History { events: events[begin..end].to_vec() }.encode_to_vec().into();
        let more = end < to || (end > from && self.random.percent(5));
        let next_page = if more { format!("{end}:{to}").into() } else { Bytes::new() };
        Page { history, next_page }
    }

    fn page(&mut self, fetch: Fetch) {
        if self.busy && self.random.percent(3) {
            let failed = FetchFailed { message: "unavailable".to_owned() };
            return self.handle(Input::Page(fetch.run, Err(failed)));
        }
        let events = self.run(&fetch.run).server.visible();
        let token = String::from_utf8_lossy(&fetch.page).into_owned();
        let (from, to) = match token.split_once(':') {
            Some((from, to)) => (from.parse().expect("it is ours"), to.parse().expect("it is ours")),
            None => (0, events.len()),
        };
        let page = self.cut(&events, from, to);
        self.handle(Input::Page(fetch.run, Ok(page)));
    }

    /// A local activity ends.
    fn local(&mut self, run: RunId, task: &LocalTask, incarnation: u64) {
        let whose = format!("inc={incarnation};");
        let cancelled = self.cancelled.iter().any(|(r, n)| *r == run && *n == task.name);
        let result = match self.random.below(10) {
            _ if cancelled && self.random.percent(70) => LocalResult::Cancelled(None),
            0..=4 => LocalResult::Completed(Some(payload(&whose))),
            5..=7 => LocalResult::Failed(Some(failure(&whose))),
            8 => LocalResult::TimedOut(LocalTimeout::StartToClose),
            _ => LocalResult::TimedOut(LocalTimeout::ScheduleToStart),
        };
        let report = LocalReport { name: task.name, took: Duration::from_millis(5), result };
        self.handle(Input::Local(run, report));
    }

    /// Something happens in the world.
    fn happen(&mut self) {
        let id = self.some_run();
        let (dice, busy) = (self.random.below(20), self.busy);
        let run = self.runs.get_mut(&id).expect("it is known");
        match dice {
            0..=1 if busy => run.server.signal(),
            2 if busy => run.server.update(false),
            3 if busy => run.server.update(true),
            4 if busy && self.random.percent(20) => run.server.cancel(),
            5 if busy && self.random.percent(5) => run.server.terminate(),
            6 if busy && run.server.takes_queries() => {
                let poll = run.server.query();
                let sticky = run.server.sticky;
                let ticket = self.tickets.give();
                let task = self.with_history(&id, poll, sticky, ticket);
                self.arrivals.push(Arrival::Task(Box::new(task)));
            }
            _ => run.server.progress(&mut self.random),
        }
    }

    /// Time passes up to what the shard waits for.
    fn wait(&mut self) {
        if let Some((deadline, _)) = self.shard.deadline()
            && self.random.percent(70)
        {
            self.now = self.now.max(deadline.nanos());
        }
        self.handle(Input::Tick);
    }

    fn trouble(&mut self) {
        let id = self.some_run();
        match self.random.below(3) {
            0 => {
                let eviction = eviction();
                self.handle(Input::Evict(RunId::from(id.as_str()), eviction));
            }
            1 => {
                let run = self.runs.get_mut(&id).expect("it is known");
                run.server.lose(true);
            }
            _ => self.now += SECOND * self.random.below(20) as i64,
        }
    }

    /// Nothing new happens and nothing goes wrong: every workflow comes to its end.
    fn settle(&mut self) {
        for round in 0..20_000 {
            if self.arrivals.is_empty() && self.runs.values().all(|r| r.server.closed) {
                break;
            }
            if self.arrivals.is_empty() && self.shard.deadline().is_none() && !self.has_work() {
                let stuck: Vec<_> = self.runs.values_mut().filter(|r| !r.server.closed).collect();
                for run in stuck {
                    assert!(run.server.is_started(), "a workflow waits for nothing: {:#?}", run.instance);
                    run.server.lose(true); // a task that was given with an answer and not taken
                }
            }
            assert!(round < 19_999, "no end after {} steps", self.steps);
            self.step();
        }
        self.drained();
        assert!(self.shard.is_idle(), "all is answered, yet the shard is not idle");
        self.evict_all();
    }

    fn has_work(&self) -> bool {
        self.runs.values().any(|r| !r.server.closed && (r.server.has_task() || r.server.pending() > 0))
    }

    /// No task is polled any more; what is under way arrives.
    fn shut_down(&mut self) {
        self.evict_all();
    }

    fn evict_all(&mut self) {
        for _ in 0..50 {
            self.shard.evict_all(Time::from_nanos(self.now), &eviction());
            self.drain();
            self.drained();
            if self.shard.runs() == 0 {
                break;
            }
        }
        assert_eq!(self.tickets.held(), [], "tickets that are not done");
        assert_eq!((self.shard.runs(), self.shard.bytes()), (0, 0), "runs that did not leave");
        assert!(self.shard.is_idle() && self.shard.deadline().is_none());
    }

    /// Everything that is under way arrives.
    fn drained(&mut self) {
        for _ in 0..5000 {
            if self.arrivals.is_empty() {
                if self.shard.deadline().is_none() {
                    return;
                }
                self.wait();
            }
            self.now += 1_000_000;
            self.arrive();
        }
        panic!("what is under way never ends");
    }

    /// The histories that came of it show on replay what was shown live.
    fn replays(&mut self) {
        for (id, run) in &self.runs {
            replay::check(id, &run.server.events, &run.program, &run.recorded, &mut self.random);
            replay::check_change(id, &run.server.events, &run.program, &run.recorded, &mut self.random);
        }
    }
}

fn accepted(task: Option<Box<Task>>, reset_history_event_id: i64) -> Reply {
    Reply::Accepted { task, reset_history_event_id }
}

fn eviction() -> Eviction {
    let reason = lang::remove_from_cache::EvictionReason::LangRequested;
    Eviction { reason, message: "asked for".to_owned() }
}

/// A live result of a local activity must be of this incarnation: an earlier one's came too late.
fn assert_own(job: &lang::WorkflowActivationJob, incarnation: u64) {
    let Some(Job::ResolveActivity(r)) = &job.variant else { return };
    if !r.is_local {
        return;
    }
    let bytes = job.encode_to_vec();
    let text = String::from_utf8_lossy(&bytes);
    if let Some((_, rest)) = text.split_once("inc=") {
        let whose = rest.split(';').next().unwrap_or_default();
        assert_eq!(whose, incarnation.to_string(), "a report of an earlier incarnation was taken");
    }
}
