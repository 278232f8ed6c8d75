//! Whatever comes in, in whatever order: a shard does not panic, comes to an end, gives each ticket back once, and holds
//! nothing when all runs have left. `OUTLAST_FUZZ=n` plays n times as many cases; a failure names the seed of its case.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "test code reads its data and how much of it is wanted"
)]

#[expect(dead_code, reason = "here its cases are only read; others compare them")]
mod oracle;
mod wild;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use outlast_machine::io::{
    Eviction, FetchFailed, Input, LocalName, LocalReport, Output, Page, Reply, RunId, Source, Task, Ticket,
};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_machine::{Config, Nondeterminism};
use outlast_proto::lens::{api, history as h, lang};
use prost::Message as _;

use oracle::Case;
use wild::Chance;

/// How many cases, given how many by default.
fn cases(by_default: u64) -> std::ops::Range<u64> {
    let times = std::env::var("OUTLAST_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    0..by_default * times
}

/// Recorded histories that are not long.
fn recordings() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings.jsonl.gz");
        let mut cases = oracle::load(&[file]);
        cases.retain(|c| c.history.len() < 16_000);
        assert!(cases.len() > 100, "only {} recordings were found", cases.len());
        cases
    })
}

/// What is outstanding of a run, to be answered well or badly.
#[derive(Debug)]
enum Owed {
    Activation(lang::WorkflowActivation),
    Page(RunId),
    Local(RunId, LocalName),
    Report(RunId, Ticket, bool),
}

struct World {
    shard: Shard,
    now: Time,
    chance: Chance,
    owed: VecDeque<Owed>,
    /// Every ticket that was given, and how often it came back.
    tickets: BTreeMap<u64, u32>,
    said: usize,
    case: &'static Case,
    /// What tasks and pages are cut from.
    history: Bytes,
    /// How much of the script of a task was given.
    position: BTreeMap<u32, usize>,
    /// What was asked for beside the script.
    numbers: wild::Numbers,
    /// Answers are those of the script, as far as there are any.
    scripted: bool,
}

impl World {
    fn new(seed: u64, config: Config) -> Self {
        let mut chance = Chance::new(seed);
        let case = chance.pick(recordings());
        Self {
            shard: Shard::new(config),
            now: Time::from_nanos(1_700_000_000_000_000_000),
            chance,
            owed: VecDeque::new(),
            tickets: BTreeMap::new(),
            said: 0,
            case,
            history: case.history.clone(),
            position: BTreeMap::new(),
            numbers: wild::Numbers::default(),
            scripted: false,
        }
    }

    fn give(&mut self, input: Input) {
        self.shard.handle(self.now, input);
        while let Some(output) = self.shard.poll() {
            self.said += 1;
            assert!(self.said < 100_000, "it does not come to an end");
            match output {
                Output::Activate(activation) => {
                    assert!(!activation.jobs.is_empty(), "an activation without jobs");
                    self.owed.push_back(Owed::Activation(activation));
                }
                Output::Fetch(fetch) => self.owed.push_back(Owed::Page(fetch.run)),
                Output::StartLocal(run, task) => self.owed.push_back(Owed::Local(run, task.name)),
                Output::Complete(run, c) => self.owed.push_back(Owed::Report(run, c.ticket, true)),
                Output::Fail(run, f) => self.owed.push_back(Owed::Report(run, f.ticket, false)),
                Output::Answer(run, a) => self.owed.push_back(Owed::Report(run, a.ticket, false)),
                Output::Done(Ticket(n)) => {
                    let times = self.tickets.get_mut(&n).expect("a ticket that was given");
                    *times += 1;
                    assert_eq!(*times, 1, "ticket {n} came back twice");
                }
                Output::CancelLocal(..) | Output::Forgotten(..) | Output::Note(..) => {}
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        let n = self.tickets.len() as u64;
        self.tickets.insert(n, 0);
        Ticket(n)
    }

    /// Some of the history, cut anywhere or where an event begins.
    fn some_history(&mut self) -> Bytes {
        let all = self.history.clone();
        match self.chance.below(8) {
            0 => all.slice(..self.chance.below(all.len())),
            1 => Bytes::new(),
            2 | 3 => {
                let Ok(mut events) = h::History::decode(all).map(|h| h.events) else { return Bytes::new() };
                let from = self.chance.below(events.len());
                events.drain(..from);
                events.truncate(1 + self.chance.below(20));
                h::History { events }.encode_to_vec().into()
            }
            _ => all,
        }
    }

    fn some_token(&mut self) -> Bytes {
        if self.chance.one_in(3) { "more".into() } else { Bytes::new() }
    }

    fn some_task(&mut self, ticket: Ticket, run: &RunId) -> Task {
        let query = |_: ()| api::WorkflowQuery { query_type: "q".into(), query_args: None, header: None };
        let message = api::Message {
            id: "u/request".into(),
            protocol_instance_id: "u".into(),
            sequencing_id: self.chance.one_in(2).then_some(api::message::SequencingId::EventId(3)),
            body: self.chance.below(4).gt(&0).then(|| api::Any {
                type_url: "type.googleapis.com/temporal.api.update.v1.Request".into(),
                value: Bytes::from_static(if self.chance.one_in(4) { b"\xff" } else { b"" }),
            }),
        };
        let numbers = [0, 1, 3, 9, 40, -7, i64::MAX];
        let poll = api::PollWorkflowTaskQueueResponse {
            task_token: "t".into(),
            workflow_execution: Some(api::WorkflowExecution {
                workflow_id: "wf".into(),
                run_id: run.to_string(),
            }),
            started_event_id: *self.chance.pick(&numbers),
            previous_started_event_id: *self.chance.pick(&numbers),
            attempt: *self.chance.pick(&[1, 1, 2, 0, -1]),
            history: Some(self.some_history()),
            next_page_token: self.some_token(),
            query: self.chance.one_in(8).then_some(()).map(query),
            queries: self.chance.one_in(8).then(|| ("a".to_owned(), query(()))).into_iter().collect(),
            messages: if self.chance.one_in(4) { vec![message] } else { Vec::new() },
            ..Default::default()
        };
        let source = if self.chance.one_in(4) { Source::Replay } else { Source::Server };
        Task { ticket, poll, source }
    }

    /// Answers an activation: with the script, with nothing, with anything, with a failure, not at all.
    fn complete(&mut self, activation: &lang::WorkflowActivation) {
        use lang::workflow_activation_completion::Status;
        use lang::workflow_activation_job::Variant as Job;
        let mut commands = Vec::new();
        if activation.jobs.iter().any(|j| matches!(j.variant, Some(Job::InitializeWorkflow(_)))) {
            self.position.clear();
        }
        if self.scripted {
            let script = self.case.script.get(&activation.history_length);
            let script = script.map(Vec::as_slice).unwrap_or_default();
            let from = self.position.entry(activation.history_length).or_default();
            // All at once, or the rest in a later activation of the same task, if there is one.
            let less = if self.chance.one_in(8) { self.chance.below(script.len() - *from) } else { 0 };
            let to = script.len() - less;
            commands.extend_from_slice(&script[*from..to]);
            *from = to;
        }
        if !self.scripted || self.chance.one_in(40) {
            for _ in 0..self.chance.below(5) {
                commands.push(wild::command(&mut self.numbers, &mut self.chance));
            }
        }
        let mut queries = false;
        for job in &activation.jobs {
            if matches!(&job.variant, Some(Job::DoUpdate(u)) if u.protocol_instance_id == "u") {
                let answer = wild::answer_update(&mut self.chance);
                commands.push(lang::WorkflowCommand { variant: Some(answer), ..Default::default() });
            }
            if let Some(Job::QueryWorkflow(q)) = &job.variant
                && self.chance.below(8) > 0
            {
                if !std::mem::replace(&mut queries, true) {
                    commands.clear();
                }
                let answer = lang::QueryResult { query_id: q.query_id.clone(), variant: None };
                commands.push(lang::WorkflowCommand {
                    variant: Some(lang::workflow_command::Variant::RespondToQuery(answer)),
                    ..Default::default()
                });
            }
        }
        let status = match self.chance.below(40) {
            0 => None,
            1 => Some(Status::Failed(lang::WorkflowCompletionFailure {
                failure: None,
                force_cause: self.chance.below(30) as i32,
            })),
            _ => Some(Status::Successful(lang::WorkflowCompletionSuccess { commands, ..Default::default() })),
        };
        let run_id = activation.run_id.clone();
        self.give(Input::Completed(lang::WorkflowActivationCompletion {
            run_id,
            status,
            ..Default::default()
        }));
    }

    fn some_reply(&mut self, task: Option<(Ticket, RunId)>) -> Reply {
        match self.chance.below(12) {
            0 => Reply::NotFound,
            1 => Reply::UnhandledCommand,
            2 => Reply::TooLarge { message: "large".into() },
            3 => Reply::Failed { message: "failed".into() },
            4 => Reply::Invalid { message: "wrong".into() },
            _ => {
                let next = task.filter(|_| self.chance.one_in(4));
                let task = next.map(|(ticket, run)| Box::new(self.some_task(ticket, &run)));
                let reset = [0, 0, 0, 0, 0, 3, -5, i64::MAX, i64::MIN];
                Reply::Accepted { task, reset_history_event_id: *self.chance.pick(&reset) }
            }
        }
    }

    fn some_page(&mut self) -> Result<Page, FetchFailed> {
        if self.chance.one_in(12) {
            return Err(FetchFailed { message: "unavailable".into() });
        }
        Ok(Page { history: self.some_history(), next_page: self.some_token() })
    }

    /// Answers what is owed.
    fn pay(&mut self, owed: Owed) {
        match owed {
            Owed::Activation(activation) => self.complete(&activation),
            Owed::Page(run) => {
                let page = self.some_page();
                self.give(Input::Page(run, page));
            }
            Owed::Local(run, name) => {
                let result = wild::local_result(&mut self.chance);
                let took = wild::span(&mut self.chance);
                self.give(Input::Local(run, LocalReport { name, took, result }));
            }
            Owed::Report(run, ticket, may_have_next) => {
                // A report that nobody asked for may have taken the place of this one.
                let open = self.tickets[&ticket.0] == 0;
                let next = (may_have_next && open).then(|| (ticket, run.clone()));
                let reply = self.some_reply(next);
                self.give(Input::Reported(run, reply));
            }
        }
    }

    /// Pays all debts and lets all runs leave. Then nothing may be left.
    fn end(mut self) {
        let eviction = Eviction {
            reason: lang::remove_from_cache::EvictionReason::LangRequested,
            message: String::new(),
        };
        for _ in 0..20_000 {
            // Nothing new is fetched or begun any more.
            match self.owed.pop_front() {
                Some(Owed::Page(run)) => {
                    self.give(Input::Page(run, Err(FetchFailed { message: "the end".into() })));
                }
                Some(Owed::Report(run, ..)) => self.give(Input::Reported(run, Reply::NotFound)),
                Some(owed) => self.pay(owed),
                None if self.shard.runs() == 0 => break,
                None => {
                    if let Some((deadline, _)) = self.shard.deadline() {
                        self.now = self.now.max(deadline);
                        self.give(Input::Tick);
                    }
                    self.shard.evict_all(self.now, &eviction);
                    self.give(Input::Tick);
                }
            }
        }
        assert_eq!((self.shard.runs(), self.shard.bytes()), (0, 0), "all runs have left");
        assert!(self.shard.is_idle(), "nothing waits");
        assert_eq!(self.shard.deadline().map(|(time, _)| time), None, "nothing is due");
        for (ticket, times) in self.tickets {
            assert_eq!(times, 1, "ticket {ticket} came back {times} times");
        }
    }
}

/// Says which case failed.
fn with_seed(seed: u64, play: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(panic) = std::panic::catch_unwind(play) {
        eprintln!("the case of seed {seed} fails");
        std::panic::resume_unwind(panic);
    }
}

/// A damaged history, as one task of a run or in pages, with the answers of the undamaged one.
fn damaged(seed: u64) {
    let mut world = World::new(seed, Config { task_queue: "q".into(), ..Config::default() });
    let other = world.chance.pick(recordings());
    if world.chance.one_in(2) {
        world.history = wild::cut(&world.history, &mut world.chance);
    }
    world.history = match world.chance.below(4) {
        0 => wild::damage(&world.history, &other.history, &mut world.chance).into(),
        1 | 2 => wild::shuffle(&world.history, &other.history, &mut world.chance).into(),
        _ => world.history,
    };
    world.scripted = world.chance.below(4) > 0;
    let (ticket, run) = (world.ticket(), RunId::from("r"));
    let mut task = world.some_task(ticket, &run);
    task.poll.history = Some(world.history.clone());
    if world.chance.below(4) > 0 {
        (task.poll.query, task.poll.next_page_token) = (None, Bytes::new());
    }
    let limit = 1_000_000 + 64 * world.history.len();
    world.give(Input::Task(Box::new(task)));
    for _ in 0..200 {
        let Some(owed) = world.owed.pop_front() else { break };
        world.pay(owed);
        assert!(world.shard.bytes() < limit, "the shard holds {} bytes", world.shard.bytes());
    }
    world.end();
}

/// Anything, for some runs, in any order.
fn anything(seed: u64) {
    let mut chance = Chance::new(!seed);
    let mut world = World::new(
        seed,
        Config {
            cache_runs: *chance.pick(&[0, 1, 2, 1000]),
            cache_bytes: *chance.pick(&[0, 5000, usize::MAX]),
            nondeterminism: if chance.one_in(3) {
                Nondeterminism::FailWorkflow
            } else {
                Nondeterminism::FailTask
            },
            sdk_metadata: chance.below(4) > 0,
            ..Config::default()
        },
    );
    let runs = ["a", "b", "c", ""].map(RunId::from);
    for _ in 0..120 {
        let run = world.chance.pick(&runs).clone();
        world.scripted = world.chance.one_in(2);
        match world.chance.below(20) {
            0..=3 => {
                // The workflow goes on, or goes back: with whole histories runs are live for many tasks.
                world.history = wild::cut(&world.case.history, &mut world.chance);
                let ticket = world.ticket();
                let task = world.some_task(ticket, &run);
                world.give(Input::Task(Box::new(task)));
            }
            4 => {
                let page = world.some_page();
                world.give(Input::Page(run, page));
            }
            5 => world.complete(&lang::WorkflowActivation { run_id: run.bytes(), ..Default::default() }),
            6 => {
                let reply = world.some_reply(None);
                world.give(Input::Reported(run, reply));
            }
            7 => {
                let name = LocalName { seq: wild::absurd(&mut world.chance), execution: 1 };
                world.pay(Owed::Local(run, name));
            }
            8 if world.chance.one_in(4) => {
                world.shard.drop_evicting(world.now);
                world.give(Input::Tick);
            }
            8 => {
                let eviction = Eviction {
                    reason: lang::remove_from_cache::EvictionReason::LangRequested,
                    message: "out".into(),
                };
                world.give(Input::Evict(run, eviction));
            }
            9 | 10 => {
                world.now = world.now + wild::span(&mut world.chance);
                world.give(Input::Tick);
            }
            _ => {
                let at = world.chance.below(world.owed.len());
                if let Some(owed) = world.owed.remove(at) {
                    world.pay(owed);
                }
            }
        }
    }
    world.end();
}

#[test]
fn damaged_histories() {
    cases(2000).for_each(|seed| with_seed(seed, || damaged(seed)));
}

#[test]
fn any_input_in_any_order() {
    cases(600).for_each(|seed| with_seed(seed, || anything(seed)));
}

/// Each of them fails at once and lets the next one in.
#[test]
fn many_tasks_that_wait_and_fail_at_once() {
    let mut world = World::new(1, Config::default());
    let run = RunId::from("r");
    for n in 0..2000 {
        let ticket = world.ticket();
        let mut task = world.some_task(ticket, &run);
        let query = api::WorkflowQuery { query_type: "q".into(), query_args: None, header: None };
        task.source = Source::Replay;
        task.poll.query = Some(query);
        task.poll.queries = Default::default();
        task.poll.history = Some(if n == 0 { Bytes::new() } else { Bytes::from_static(b"\xff") });
        task.poll.next_page_token = "more".into();
        world.give(Input::Task(Box::new(task)));
    }
    world.end();
}
