//! Plays a transcript on a shard: lines that begin with `<` are what the shard says, all others are what it is told.
//! It knows the words of `transcripts/README.md`, not what is right.

mod history;
mod text;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use outlast_machine::io::{
    Eviction, Fetch, FetchFailed, Input, LocalName, LocalReport, LocalResult, LocalTimeout, Output, Page,
    QueryResult, Reply, RunId, Source, Task, Ticket,
};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_machine::{Config, Nondeterminism};
use outlast_proto::lens::{api, lang};
use prost::Message as _;
use serde_json::{Value, json};

use history::{Record, request, snake};
use text::{encode, items, number, option};

/// The transcript with what the shard really says.
pub fn play(story: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    for line in story.lines().filter(|l| !l.starts_with('<')) {
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            stage.line(line);
            for said in stage.said() {
                for part in said.lines() {
                    out.push_str("< ");
                    out.push_str(part.trim_end());
                    out.push('\n');
                }
            }
        }
    }
    out
}

struct Stage {
    shard: Shard,
    config: Config,
    now: Time,
    histories: BTreeMap<String, Record>,
    tickets: u64,
    /// The run whose turn it is, unless a line names another.
    current: String,
    fetches: VecDeque<Fetch>,
    /// Events per page, and how many pages of the fetched history were given.
    page_size: usize,
    paged: usize,
}

impl Stage {
    fn new() -> Self {
        let config = Config {
            task_queue: "q".into(),
            sdk_name: "test".into(),
            sdk_version: "1".into(),
            ..Config::default()
        };
        Self {
            shard: Shard::new(config.clone()),
            config,
            now: Time::from_nanos(0),
            histories: BTreeMap::new(),
            tickets: 0,
            current: "r".into(),
            fetches: VecDeque::new(),
            page_size: usize::MAX,
            paged: 0,
        }
    }

    fn line(&mut self, line: &str) {
        let words = text::words(line);
        let (verb, rest) = words.split_first().unwrap();
        let after = line[verb.len()..].trim();
        match verb.as_str() {
            "config" => self.configure(rest),
            "run" => self.current.clone_from(&rest[0]),
            "+" => {
                let run = self.current.clone();
                let record = self.histories.entry(run.clone()).or_default();
                items(after).iter().for_each(|event| record.add(&run, event));
            }
            "cut" => self.record().cut(rest[0].parse().unwrap()),
            "task" => {
                let task = self.task(rest, Source::Server);
                self.give(Input::Task(Box::new(task)));
            }
            "replay" => {
                let task = self.task(rest, Source::Replay);
                self.give(Input::Task(Box::new(task)));
            }
            "page" => self.page(rest),
            "lang" => self.lang(after),
            "lang-nothing" => {
                let run_id = self.current.clone().into();
                self.give(Input::Completed(lang::WorkflowActivationCompletion {
                    run_id,
                    ..Default::default()
                }));
            }
            "lang-fail" => self.lang_fail(rest),
            "answer" => self.answer_query(rest),
            "accept" => {
                let reset_history_event_id = number(rest, "reset").unwrap_or(0);
                let task =
                    rest.iter().any(|w| w == "task").then(|| Box::new(self.task(rest, Source::Server)));
                self.reported(Reply::Accepted { task, reset_history_event_id });
            }
            "not-found" => self.reported(Reply::NotFound),
            "unhandled" => self.reported(Reply::UnhandledCommand),
            "too-large" => self.reported(Reply::TooLarge { message: "too large".into() }),
            "invalid" => self.reported(Reply::Invalid { message: "wrong".into() }),
            "refuse" => self.reported(Reply::Failed { message: "refused".into() }),
            "local" => self.local(rest),
            "at" => self.now = Time::from_nanos((rest[0].parse::<f64>().unwrap() * 1e9) as i64),
            "tick" => self.give(Input::Tick),
            "wait" => match self.shard.deadline() {
                Some((time, _)) => {
                    self.now = self.now.max(time);
                    self.give(Input::Tick);
                }
                None => panic!("nothing is waited for"),
            },
            "evict" => {
                let reason = lang::remove_from_cache::EvictionReason::LangRequested;
                let eviction = Eviction { reason, message: "evicted".into() };
                self.give(Input::Evict(RunId::from(self.current.as_str()), eviction));
            }
            "evict-all" => {
                let reason = lang::remove_from_cache::EvictionReason::LangRequested;
                self.shard.evict_all(self.now, &Eviction { reason, message: "shutdown".into() });
            }
            "drop-evicting" => {
                self.shard.drop_evicting(self.now);
            }
            other => panic!("{other} is no word of transcripts"),
        }
    }

    fn give(&mut self, input: Input) {
        self.shard.handle(self.now, input);
    }

    fn configure(&mut self, words: &[String]) {
        let c = &mut self.config;
        c.cache_runs = number(words, "cache").map_or(c.cache_runs, |n| n as usize);
        c.cache_bytes = number(words, "bytes").map_or(c.cache_bytes, |n| n as usize);
        c.sdk_metadata = option(words, "metadata") != Some("false");
        match option(words, "nondeterminism") {
            Some("fail-workflow") => c.nondeterminism = Nondeterminism::FailWorkflow,
            Some(kind) => {
                c.nondeterminism = Nondeterminism::FailWorkflowTypes([kind.to_owned().into()].into())
            }
            None => {}
        }
        if let Some(behavior) = number(words, "behavior") {
            c.default_versioning_behavior = behavior as i32;
        }
        if let Some(build) = option(words, "build") {
            let version = lang::WorkerDeploymentVersion {
                deployment_name: "d".into(),
                build_id: build.to_owned().into(),
            };
            c.deployment = Some(version.into());
        }
        self.shard = Shard::new(self.config.clone());
    }

    fn record(&mut self) -> &mut Record {
        self.histories.entry(self.current.clone()).or_default()
    }

    /// `task [sticky] [empty] [pages=N] [attempt=N] [query=NAME] [queries=a,b] [update=a,b] [seq=N]`
    fn task(&mut self, words: &[String], source: Source) -> Task {
        if source == Source::Server || words.iter().all(|w| w != "same") {
            self.tickets += 1;
        }
        let ticket = Ticket(self.tickets);
        let has = |word: &str| words.iter().any(|w| w == word);
        let run = self.current.clone();
        let size = number(words, "pages").map_or(usize::MAX, |n| n as usize);
        self.page_size = size;
        let record = self.record();
        let from =
            if has("sticky") { record.sent } else { number(words, "from").map_or(0, |n| n as usize - 1) };
        let all = number(words, "to").map_or(record.events.len(), |n| n as usize);
        let to = if has("empty") { from } else { all.min(from.saturating_add(size)) };
        let history = record.page(from, to);
        record.sent = all;
        let (started, previous) = (record.started, record.previous);
        self.paged = to;
        let query = |name: &str| api::WorkflowQuery {
            query_type: name.to_owned().into(),
            query_args: None,
            header: None,
        };
        let names = |key: &str| option(words, key).unwrap_or_default().split(',').filter(|n| !n.is_empty());
        let poll = api::PollWorkflowTaskQueueResponse {
            task_token: format!("token-{}", ticket.0).into(),
            workflow_execution: Some(api::WorkflowExecution { workflow_id: "wf".into(), run_id: run }),
            workflow_type: Some(api::WorkflowType { name: "w".into() }),
            previous_started_event_id: number(words, "previous").unwrap_or(previous),
            started_event_id: number(words, "started").unwrap_or(started),
            attempt: number(words, "attempt").unwrap_or(1) as i32,
            history: Some(history),
            next_page_token: if !has("empty") && to < all { "next".into() } else { Bytes::new() },
            query: option(words, "query").map(query),
            queries: names("queries").map(|n| (n.to_owned(), query(n))).collect(),
            messages: names("update").map(|id| update(id, number(words, "seq"))).collect(),
            ..Default::default()
        };
        Task { ticket, poll, source }
    }

    /// `page`: the page that was asked for; `page size=N`, `page empty`, `page fail`.
    fn page(&mut self, words: &[String]) {
        let fetch = self.fetches.pop_front().expect("a page was asked for");
        let run = fetch.run.to_string();
        let size = number(words, "size").map_or(self.page_size, |n| n as usize);
        if words.iter().any(|w| w == "fail") {
            let failed = FetchFailed { message: "unavailable".into() };
            return self.give(Input::Page(fetch.run, Err(failed)));
        }
        let from = if fetch.page.is_empty() { 0 } else { self.paged };
        let record = &self.histories[&run];
        let empty = words.iter().any(|w| w == "empty");
        let all = number(words, "to").map_or(record.events.len(), |n| n as usize);
        let to = if empty { from } else { all.min(from.saturating_add(size)) };
        let history = record.page(from, to);
        self.paged = to;
        let next_page = if to < all { "next".into() } else { Bytes::new() };
        self.give(Input::Page(fetch.run, Ok(Page { history, next_page })));
    }

    /// `lang Command field=… / Command …`
    fn lang(&mut self, line: &str) {
        let mut versioning_behavior = 0;
        let mut used_internal_flags = Vec::new();
        let mut commands = Vec::new();
        for words in items(line) {
            let (name, rest) = words.split_first().unwrap();
            match name.as_str() {
                "flags" => used_internal_flags = rest.iter().map(|f| f.parse().unwrap()).collect(),
                "versioning" => versioning_behavior = rest[0].parse().unwrap(),
                "unknown" => commands.push(lang::WorkflowCommand::default()),
                name => {
                    let mut fields = text::message(rest);
                    let metadata = fields.as_object_mut().unwrap().remove("summary");
                    let groups = fields.as_object_mut().unwrap().remove("groups");
                    let mut command = json!({ snake(name): fields });
                    if let Some(groups) = groups {
                        command["event_group_markers"] = groups;
                    }
                    if let Some(summary) = metadata {
                        command["user_metadata"] =
                            json!({ "summary": text::payload(summary.as_str().unwrap()) });
                    }
                    let bytes = encode("coresdk.workflow_commands.WorkflowCommand", command);
                    commands.push(lang::WorkflowCommand::decode(bytes).unwrap());
                }
            }
        }
        let success = lang::WorkflowCompletionSuccess { commands, used_internal_flags, versioning_behavior };
        self.completed(lang::workflow_activation_completion::Status::Successful(success));
    }

    fn lang_fail(&mut self, words: &[String]) {
        let failure = encode("temporal.api.failure.v1.Failure", text::value(&format!("f({})", words[0])));
        let force_cause = number(words, "cause").unwrap_or(0) as i32;
        let failed = lang::WorkflowCompletionFailure { failure: Some(failure), force_cause };
        self.completed(lang::workflow_activation_completion::Status::Failed(failed));
    }

    /// `answer id=x id=failed:why`
    fn answer_query(&mut self, words: &[String]) {
        let answers: Vec<String> = words
            .iter()
            .map(|word| {
                let (id, answer) = word.split_once('=').unwrap();
                match answer.strip_prefix("failed:") {
                    Some(why) => format!("RespondToQuery query_id={id} failed=f({why})"),
                    None => format!("RespondToQuery query_id={id} succeeded.response=p({answer})"),
                }
            })
            .collect();
        self.lang(&answers.join(" / "));
    }

    fn completed(&mut self, status: lang::workflow_activation_completion::Status) {
        let run_id = self.current.clone().into();
        self.give(Input::Completed(lang::WorkflowActivationCompletion {
            run_id,
            status: Some(status),
            ..Default::default()
        }));
    }

    fn reported(&mut self, reply: Reply) {
        self.give(Input::Reported(RunId::from(self.current.as_str()), reply));
    }

    /// `local seq=1 [execution=1] [took=2] completed=x | failed=f(x) | cancelled | timeout=StartToClose`
    fn local(&mut self, words: &[String]) {
        let failure = |f: &str| Some(encode("temporal.api.failure.v1.Failure", text::value(f)));
        let result = if let Some(x) = option(words, "completed") {
            LocalResult::Completed(Some(encode("temporal.api.common.v1.Payload", text::payload(x))))
        } else if let Some(f) = option(words, "failed") {
            LocalResult::Failed(failure(f))
        } else if let Some(limit) = option(words, "timeout") {
            LocalResult::TimedOut(match limit {
                "StartToClose" => LocalTimeout::StartToClose,
                "ScheduleToStart" => LocalTimeout::ScheduleToStart,
                _ => LocalTimeout::ScheduleToClose,
            })
        } else {
            LocalResult::Cancelled(None)
        };
        let seq = number(words, "seq").unwrap() as u32;
        let execution = number(words, "execution").unwrap_or(1) as u32;
        let took = Duration::from_secs(number(words, "took").unwrap_or(0) as u64);
        let report = LocalReport { name: LocalName { seq, execution }, took, result };
        self.give(Input::Local(RunId::from(self.current.as_str()), report));
    }

    /// What the shard says to the line before.
    fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(output) = self.shard.poll() {
            if let Output::Fetch(fetch) = &output {
                self.fetches.push_back(fetch.clone());
            }
            said.push(self.words(output));
        }
        said
    }

    fn words(&self, output: Output) -> String {
        let of = |run: &RunId| if run.to_string() == "r" { String::new() } else { format!(" {run}") };
        match output {
            Output::Activate(activation) => activated(&activation),
            Output::Fetch(fetch) => {
                let page = if fetch.page.is_empty() { "from the first event" } else { "the next page" };
                format!("fetch{} {page}", of(&fetch.run))
            }
            Output::StartLocal(run, task) => {
                let limit =
                    |name: &str, d: Option<Duration>| d.map(|d| format!(" {name}={d:?}")).unwrap_or_default();
                let deadline = task.schedule_to_close_deadline.map(|t| t.since(Time::default()));
                format!(
                    "start local{} {}.{} attempt={} first asked at {:?}{}{}{}",
                    of(&run),
                    task.name.seq,
                    task.name.execution,
                    task.attempt,
                    task.original_schedule_time.since(Time::default()),
                    limit("schedule_to_start", task.schedule_to_start),
                    limit("start_to_close", task.start_to_close),
                    limit("over_at", deadline),
                )
            }
            Output::CancelLocal(run, name) => {
                format!("cancel local{} {}.{}", of(&run), name.seq, name.execution)
            }
            Output::Complete(run, completion) => format!("complete{} {}", of(&run), completed(&completion)),
            Output::Fail(run, failure) => {
                let text = text::render("temporal.api.failure.v1.Failure", &failure.failure);
                format!("fail{} cause={} {}", of(&run), failure.cause, text.replace("\\n", "\n  "))
            }
            Output::Answer(run, answer) => match answer.result {
                QueryResult::Answered(payload) => {
                    let payload =
                        text::render("temporal.api.common.v1.Payload", &payload.unwrap_or_default());
                    format!("answer{} {payload}", of(&run))
                }
                QueryResult::Failed { failure, cause } => {
                    let text = text::render("temporal.api.failure.v1.Failure", &failure);
                    format!("answer{} failed cause={cause} {text}", of(&run))
                }
            },
            Output::Done(ticket) => format!("done {}", ticket.0),
            Output::Forgotten(run, eviction) => format!("forgotten{} {:?}", of(&run), eviction.reason),
            Output::Note(run, note) => format!("note{} {note:?}", of(&run)),
        }
    }
}

fn update(id: &str, seq: Option<i64>) -> api::Message {
    let bytes = encode("temporal.api.update.v1.Request", request(id));
    api::Message {
        id: format!("{id}/request"),
        protocol_instance_id: id.to_owned(),
        sequencing_id: seq.map(api::message::SequencingId::EventId),
        body: Some(api::Any {
            type_url: "type.googleapis.com/temporal.api.update.v1.Request".into(),
            value: bytes,
        }),
    }
}

fn activated(activation: &lang::WorkflowActivation) -> String {
    let bytes = activation.encode_to_vec();
    let name = "coresdk.workflow_activation.WorkflowActivation";
    let json = outlast_proto::json::to_json(name, &bytes, outlast_proto::json::Names::Proto).unwrap();
    let fields = json.as_object().unwrap();
    let mut words = Vec::new();
    for (key, value) in fields {
        match key.as_str() {
            "jobs" | "timestamp" => {}
            "run_id" if value == "r" => {}
            "is_replaying" => words.push("replaying".to_owned()),
            "last_sdk_version" if value == "1" => {}
            key => text::flatten(key, value, &mut words),
        }
    }
    let mut out = "activate ".to_owned();
    if let Some(timestamp) = activation.timestamp {
        out.push_str(&format!("at={:?} ", Time::from(timestamp).since(Time::default())));
    }
    out.push_str(&words.join(" ").replace("history_length", "length"));
    for job in fields.get("jobs").and_then(Value::as_array).into_iter().flatten() {
        let (kind, body) = job.as_object().unwrap().iter().next().unwrap();
        let mut words = Vec::new();
        text::flatten("", body, &mut words);
        words.retain(|w| w != "={}" && w != "original_execution_run_id=r" && !w.starts_with("start_time="));
        out.push_str(&format!("\n  {kind} {}", words.join(" ").replace("\\n", "\n    ")));
    }
    out
}

/// A command by its type and what it says; that it goes to the worker's own task queue is not worth a word, but where
/// a new run does.
fn command_words(command: &api::Command) -> String {
    let text = text::render("temporal.api.command.v1.Command", &command.encode_to_vec());
    let mut words = text::words(&text);
    let own = |w: &str| w.ends_with(".task_queue.name=q") && !w.starts_with("continue_as_new");
    words.retain(|w| !w.ends_with(".task_queue.kind=TASK_QUEUE_KIND_NORMAL") && !own(w));
    for word in &mut words {
        if let Some((_, rest)) = word.split_once("_command_attributes") {
            *word = rest.trim_start_matches('.').to_owned();
        }
        *word = word.trim_start_matches("command_type=COMMAND_TYPE_").to_owned();
    }
    words.retain(|w| w != "={}");
    words.join(" ")
}

fn completed(c: &outlast_machine::io::TaskCompletion) -> String {
    let mut out = String::new();
    let mut flag = |on: bool, text: &str| {
        if on {
            out.push_str(text);
            out.push(' ');
        }
    };
    flag(c.force_new_task, "force_new_task");
    flag(c.closes, "closes");
    flag(c.write_sdk, "write_sdk");
    flag(!c.core_flags.is_empty(), &format!("core_flags={:?}", c.core_flags));
    flag(!c.lang_flags.is_empty(), &format!("lang_flags={:?}", c.lang_flags));
    flag(c.versioning_behavior != 0, &format!("versioning={}", c.versioning_behavior));
    flag(c.nonfirst_local_attempts != 0, &format!("nonfirst_local_attempts={}", c.nonfirst_local_attempts));
    let mut out = out.trim_end().to_owned();
    if c.commands.is_empty() && c.messages.is_empty() && c.query_results.is_empty() {
        out.push_str(" with nothing");
    }
    for command in &c.commands {
        out.push_str(&format!("\n  {}", command_words(command)));
    }
    for message in &c.messages {
        let text = text::render("temporal.api.protocol.v1.Message", &message.encode_to_vec());
        out.push_str(&format!("\n  message {text}"));
    }
    for (id, result) in &c.query_results {
        let text = text::render("temporal.api.query.v1.WorkflowQueryResult", &result.encode_to_vec());
        out.push_str(&format!("\n  query {id}: {text}"));
    }
    out
}
