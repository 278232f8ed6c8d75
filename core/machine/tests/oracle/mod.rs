//! Replays recorded histories with recorded answers and compares the activations with those of the reference core.
//! The format of the files is told in `../data/README.md`. This module knows the format, not what is right.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;

use outlast_machine::Config;
use outlast_machine::io::{Input, Output, Page, Ticket};
use outlast_machine::shard::{Shard, replay_task};
use outlast_machine::time::Time;
use outlast_proto::json::{self, Names};
use outlast_proto::lens::{history, lang};
use prost::Message;
use serde_json::{Map, Value, json};

/// One recorded replay.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub workflow_id: String,
    pub run_id: String,
    pub history: bytes::Bytes,
    pub script: BTreeMap<u32, Vec<lang::WorkflowCommand>>,
    /// The script was changed: it asks for something else than the history records.
    pub changed: bool,
    expected: Vec<Step>,
    outcome: Option<String>,
}

#[derive(Clone, Debug)]
struct Step {
    takes: usize,
    activation: Value,
}

/// How a case compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// Different, for a reason that is known and wanted.
    Explained(String),
    Different(String),
}

/// Every case of the files. Cuts and mutations stand on the recordings named as their base, which are in the same files or in
/// `recordings.jsonl.gz` beside them.
pub fn load(files: &[impl AsRef<Path>]) -> Vec<Case> {
    let lines: Vec<Value> = files.iter().flat_map(|f| read(f.as_ref())).collect();
    let mut bases: HashMap<String, Value> = HashMap::new();
    let mut add = |lines: &[Value]| {
        let whole = lines.iter().filter(|l| l.get("history_b64").is_some());
        bases.extend(whole.map(|l| (text(&l["name"]), l.clone())));
    };
    add(&lines);
    for beside in files.iter().map(|f| f.as_ref().with_file_name("recordings.jsonl.gz")) {
        if beside.exists() && !files.iter().any(|f| f.as_ref() == beside) {
            add(&read(&beside));
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut without_base = 0;
    let mut cases = Vec::new();
    for line in &lines {
        let base = line.get("base").map_or(Some(line), |base| bases.get(&text(base)));
        match base {
            Some(base) => cases.push(case(line, base, &mut counts)),
            None => without_base += 1,
        }
    }
    if without_base > 0 {
        eprintln!("{without_base} lines stand on recordings that are not here: left out");
    }
    cases
}

fn read(path: &Path) -> Vec<Value> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut all = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut all).unwrap();
    all.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn case(line: &Value, base: &Value, counts: &mut HashMap<String, usize>) -> Case {
    let name = match line.get("name") {
        Some(name) => text(name),
        None => {
            let label = match line.get("history_ends_after_event") {
                Some(event) => format!("{}@{event}", text(&line["base"])),
                None => format!("{} {}", text(&line["base"]), line["mutation"]),
            };
            let n = counts.entry(label.clone()).or_default();
            *n += 1;
            format!("{label} #{n}")
        }
    };
    let mut history = bytes::Bytes::from(base64(&text(&base["history_b64"])));
    if let Some(last) = line.get("history_ends_after_event").and_then(Value::as_i64) {
        history = cut(history, last);
    }
    let script = line["script"].as_object().unwrap().iter();
    let script = script.map(|(at, commands)| {
        (at.parse().unwrap(), commands.as_array().unwrap().iter().map(command).collect())
    });
    let expected = line["activations"].as_array().unwrap().iter().map(|a| {
        let mut activation = a.as_object().unwrap().clone();
        let takes = activation.remove("takes").and_then(|t| t.as_u64()).unwrap_or(0) as usize;
        Step { takes, activation: Value::Object(activation) }
    });
    Case {
        name,
        workflow_id: text(&base["workflow_id"]),
        run_id: text(&base["run_id"]),
        history,
        script: script.collect(),
        changed: line.get("mutation").is_some(),
        expected: expected.collect(),
        outcome: line["outcome"]["evicted"]["reason"].as_str().map(str::to_owned),
    }
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_owned()
}

fn base64(text: &str) -> Vec<u8> {
    // A JSON string of a bytes field is base64: the JSON reader knows it.
    let payload = json::from_json("temporal.api.common.v1.Payload", json!({ "data": text })).unwrap();
    history::Payload::decode(payload).unwrap().data.to_vec()
}

fn cut(history: bytes::Bytes, last: i64) -> bytes::Bytes {
    let mut all = history::History::decode(history).unwrap();
    all.events.retain(|e| history::HistoryEvent::decode(e.clone()).unwrap().event_id <= last);
    all.encode_to_vec().into()
}

fn command(v: &Value) -> lang::WorkflowCommand {
    let bytes = json::from_json("coresdk.workflow_commands.WorkflowCommand", v.clone()).unwrap();
    lang::WorkflowCommand::decode(bytes).unwrap()
}

/// Plays a case, in pages that end after the given numbers of events (one page if empty), and returns the activations and
/// the reason of the eviction at the end.
pub struct Played {
    pub activations: Vec<Value>,
    pub evicted: String,
    pub message: String,
    pub commands_given: usize,
}

/// Plays a case with its script.
pub fn play(case: &Case) -> Played {
    play_in_pages(case, usize::MAX)
}

/// The same, with the history in pages of so many events.
pub fn play_in_pages(case: &Case, page_events: usize) -> Played {
    let config = Config {
        task_queue: "oracle".into(),
        deployment: Some(
            lang::WorkerDeploymentVersion { deployment_name: "".into(), build_id: "oracle".into() }.into(),
        ),
        ..Config::default()
    };
    let mut shard = Shard::new(config);
    let mut pages = pages(&case.history, page_events);
    let mut answers = Answers::new(case);
    let first = pages.next_page();
    let task = replay_task(Ticket(1), &case.workflow_id, &case.run_id, "".into(), first);
    shard.handle(Time::default(), Input::Task(Box::new(task)));
    let mut played =
        Played { activations: Vec::new(), evicted: String::new(), message: String::new(), commands_given: 0 };
    while let Some(output) = shard.poll() {
        match output {
            Output::Activate(activation) => {
                let removal = activation.jobs.iter().find_map(|j| match &j.variant {
                    Some(lang::workflow_activation_job::Variant::RemoveFromCache(r)) => Some(r.clone()),
                    _ => None,
                });
                let commands = match removal {
                    Some(_) => Vec::new(),
                    None => {
                        let value = value(&activation);
                        let commands = answers.next(&value);
                        played.activations.push(value);
                        commands
                    }
                };
                played.commands_given += commands.len();
                let success = lang::WorkflowCompletionSuccess { commands, ..Default::default() };
                let completion = lang::WorkflowActivationCompletion {
                    run_id: activation.run_id,
                    status: Some(lang::workflow_activation_completion::Status::Successful(success)),
                    ..Default::default()
                };
                shard.handle(Time::default(), Input::Completed(completion));
            }
            Output::Fetch(fetch) => {
                shard.handle(Time::default(), Input::Page(fetch.run, Ok(pages.next_page())));
            }
            Output::Forgotten(_, eviction) => {
                played.evicted = format!("{:?}", eviction.reason);
                played.message = eviction.message;
            }
            Output::Done(_) | Output::Note(..) => {}
            other => panic!("{}: a replay wants nothing of the outside, not {other:?}", case.name),
        }
    }
    played
}

struct Pages {
    events: std::vec::IntoIter<bytes::Bytes>,
    size: usize,
}

fn pages(history: &bytes::Bytes, size: usize) -> Pages {
    let events = history::History::decode(history.clone()).unwrap().events;
    Pages { events: events.into_iter(), size }
}

impl Pages {
    fn next_page(&mut self) -> Page {
        let events: Vec<_> = self.events.by_ref().take(self.size).collect();
        let history = history::History { events }.encode_to_vec().into();
        let more = self.events.len() > 0;
        Page { history, next_page: if more { "more".into() } else { bytes::Bytes::new() } }
    }
}

/// An activation in the form of the files.
fn value(activation: &lang::WorkflowActivation) -> Value {
    let bytes = activation.encode_to_vec();
    let mut value =
        json::to_json("coresdk.workflow_activation.WorkflowActivation", &bytes, Names::Proto).unwrap();
    let map = value.as_object_mut().unwrap();
    map.remove("run_id");
    for (key, default) in [
        ("is_replaying", json!(false)),
        ("history_length", json!(0)),
        ("history_size_bytes", json!("0")),
        ("continue_as_new_suggested", json!(false)),
        ("jobs", json!([])),
    ] {
        map.entry(key).or_insert(default);
    }
    value
}

fn length(activation: &Value) -> u32 {
    activation["history_length"].as_u64().unwrap_or(0) as u32
}

/// Hands out the recorded answers: those of an activation of the reference once all its jobs were told here. (Where the
/// reference joined tasks, they are told here in several activations.)
struct Answers<'a> {
    case: &'a Case,
    step: usize,
    position: BTreeMap<u32, usize>,
    told: Vec<Value>,
}

impl<'a> Answers<'a> {
    fn new(case: &'a Case) -> Self {
        Self { case, step: 0, position: BTreeMap::new(), told: Vec::new() }
    }

    fn next(&mut self, activation: &Value) -> Vec<lang::WorkflowCommand> {
        self.told.extend(activation["jobs"].as_array().unwrap().iter().cloned());
        let mut commands = Vec::new();
        while let Some(step) = self.case.expected.get(self.step) {
            let mut rest = self.told.clone();
            let jobs = step.activation["jobs"].as_array().unwrap();
            let only_patches = jobs.iter().all(is_patch);
            let all_told = jobs.iter().all(|job| {
                let at = rest.iter().position(|told| told == job);
                at.map(|at| rest.remove(at)).is_some() || (is_patch(job) && !only_patches)
            });
            if !all_told || length(&step.activation) < length(activation) {
                break;
            }
            self.told = rest;
            self.step += 1;
            let group = length(&step.activation);
            let script = self.case.script.get(&group).map(Vec::as_slice).unwrap_or_default();
            let position = self.position.entry(group).or_default();
            let to = (*position + step.takes).min(script.len());
            commands.extend_from_slice(&script[*position..to]);
            *position = to;
        }
        commands
    }
}

fn is_patch(job: &Value) -> bool {
    job.get("notify_has_patch").is_some()
}

/// Plays a case and compares.
pub fn judge(case: &Case) -> Verdict {
    let played = play(case);
    compare(case, &played)
}

/// Compares what was played with what was recorded.
pub fn compare(case: &Case, played: &Played) -> Verdict {
    let expected: Vec<&Value> = case.expected.iter().map(|s| &s.activation).collect();
    let ours: Vec<&Value> = played.activations.iter().collect();
    let outcome = case.outcome.as_deref().unwrap_or("").replace('_', "").to_lowercase();
    let same_outcome = outcome == played.evicted.to_lowercase();
    if ours == expected && same_outcome {
        return Verdict::Equal;
    }
    if let Some(why) = explain(case, played, &expected, &ours, &outcome) {
        return Verdict::Explained(why);
    }
    Verdict::Different(difference(&expected, &ours, &outcome, played))
}

/// The differences that are wanted, each with its reason.
fn explain(
    case: &Case,
    played: &Played,
    expected: &[&Value],
    ours: &[&Value],
    outcome: &str,
) -> Option<String> {
    let ended = played.evicted.to_lowercase();
    let mut why = Vec::new();
    match (outcome, ended.as_str()) {
        (theirs, ours) if theirs == ours => {}
        ("fatal", "nondeterminism") => why.push("a mismatch that the reference calls FATAL".to_owned()),
        ("langrequested", "nondeterminism") if played.message.contains("TIMER_FIRED of timer") => {
            why.push("a mismatch after the last task, which the reference does not look at".to_owned());
        }
        ("langrequested", "nondeterminism") if case.changed && asked_for_more(played) => {
            return noticed_sooner(case, expected, ours).map(|()| NOT_NOTICED.to_owned());
        }
        ("langrequested", "nondeterminism") if asked_for_more(played) => {
            return answers_cannot_be_placed(case, expected, ours).then(|| NOT_PLACED.to_owned());
        }
        _ => return None,
    }
    if expected != ours && case.changed && asked_for_more(played) {
        return noticed_sooner(case, expected, ours).map(|()| NOTICED_LATER.to_owned());
    }
    if expected != ours {
        why.push(joined(case, expected, ours)?);
    }
    Some(why.join("; "))
}

const NOT_NOTICED: &str = "a task with more commands than it recorded, which the reference does not notice";
const NOTICED_LATER: &str = "a task with more commands than it recorded, which the reference notices later";
const NOT_PLACED: &str = "the script answers a joined task, in which nothing is told here";

fn asked_for_more(played: &Played) -> bool {
    played.message.contains("records WORKFLOW_TASK_COMPLETED with")
}

/// Up to the task in which the replay ended here, both must tell the same.
fn noticed_sooner(case: &Case, expected: &[&Value], ours: &[&Value]) -> Option<()> {
    let last = length(ours.last()?);
    let before: Vec<&Value> = expected.iter().copied().filter(|a| length(a) < last).collect();
    let ours_before: Vec<&Value> = ours.iter().copied().filter(|a| length(a) < last).collect();
    if before != ours_before {
        joined(case, &before, &ours_before)?;
    }
    // In that task the reference may go on; and it may tell updates before what is told together with them here.
    let theirs = expected.iter().filter(|a| length(a) >= last).flat_map(|a| jobs(a));
    let theirs: Vec<&Value> = theirs.collect();
    let told = ours.iter().filter(|a| length(a) == last).flat_map(|a| jobs(a));
    told.into_iter().all(|job| theirs.contains(&job)).then_some(())
}

/// An operation that the script abandons tells nothing when it ends, so a task that it alone woke is not shown here. The
/// reference joins such a task to the one before it if that had no commands, and the script has its answers there.
fn answers_cannot_be_placed(case: &Case, expected: &[&Value], ours: &[&Value]) -> bool {
    let Some(last) = ours.last().map(|a| length(a)) else { return false };
    let Some(group) = expected.iter().map(|a| length(a)).find(|&at| at > last) else { return false };
    case.name.ends_with("__abandon")
        && empty_tasks(&case.history).contains(&last)
        && !expected.iter().any(|a| length(a) == last)
        && case.script.contains_key(&group)
}

fn jobs(activation: &Value) -> &[Value] {
    activation["jobs"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Where the reference joins tasks that were completed without commands to a later one, it shows a later time and length
/// than the code had seen. Joined, both must tell the same things in the same order; outside of such groups all must be equal.
/// Updates that history admitted the reference shows in their place live and after signals in replay; here they keep it.
fn joined(case: &Case, expected: &[&Value], ours: &[&Value]) -> Option<String> {
    let empty = empty_tasks(&case.history);
    let group = |at: u32| expected.iter().map(|s| length(s)).find(|&l| l >= at);
    let mut groups: BTreeMap<u32, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for theirs in expected {
        groups.entry(length(theirs)).or_default().0.push(theirs);
    }
    for ours in ours {
        groups.entry(group(length(ours))?).or_default().1.push(ours);
    }
    let (mut joined, mut reordered) = (0, 0);
    let mut before = 0;
    for (&at, (theirs, ours)) in &groups {
        if theirs != ours {
            let same = theirs.iter().zip(ours).all(|(a, b)| updates_last(a) == updates_last(b));
            if theirs.len() == ours.len() && same && admits(&case.history) {
                reordered += 1;
            } else {
                empty.range(before + 1..=at).next()?;
                let lengths_fit = ours.iter().all(|a| length(a) == at || empty.contains(&length(a)));
                if !lengths_fit || jobs_in_order(theirs) != jobs_in_order(ours) {
                    return None;
                }
                joined += 1;
            }
        }
        before = at;
    }
    let mut why = Vec::new();
    if joined > 0 {
        why.push(format!(
            "{joined} times the reference joins a task completed without commands to what follows it"
        ));
    }
    if reordered > 0 {
        why.push(format!("{reordered} times the reference shows admitted updates later in replay than live"));
    }
    Some(why.join("; "))
}

fn updates_last(activation: &Value) -> Value {
    let mut activation = activation.clone();
    if let Some(jobs) = activation["jobs"].as_array_mut() {
        let at: Vec<usize> = (0..jobs.len())
            .filter(|&i| jobs[i].get("signal_workflow").is_some() || jobs[i].get("do_update").is_some())
            .collect();
        let mut moved: Vec<Value> = at.iter().map(|&i| jobs[i].clone()).collect();
        moved.sort_by_key(|j| j.get("do_update").is_some());
        for (i, job) in at.into_iter().zip(moved) {
            jobs[i] = job;
        }
    }
    activation
}

fn admits(history: &bytes::Bytes) -> bool {
    const UPDATE_ADMITTED: i32 = 47;
    let events = history::History::decode(history.clone()).unwrap().events;
    events.into_iter().any(|e| history::HistoryEvent::decode(e).unwrap().event_type == UPDATE_ADMITTED)
}

/// The tasks that were completed without commands, by the event that started them.
fn empty_tasks(history: &bytes::Bytes) -> std::collections::BTreeSet<u32> {
    use history::history_event::Attributes as A;
    let events = history::History::decode(history.clone()).unwrap().events;
    let events: Vec<_> = events.into_iter().map(|e| history::HistoryEvent::decode(e).unwrap()).collect();
    let mut empty = std::collections::BTreeSet::new();
    for (at, event) in events.iter().enumerate() {
        let Some(A::WorkflowTaskCompletedEventAttributes(e)) = &event.attributes else { continue };
        let next = events.get(at + 1).map_or(0, |e| e.event_type);
        const COMMANDS: [i32; 19] =
            [2, 3, 10, 15, 17, 19, 21, 22, 25, 28, 29, 37, 40, 41, 42, 43, 46, 48, 54];
        if !COMMANDS.contains(&next) {
            empty.insert(e.started_event_id as u32);
        }
    }
    empty
}

fn jobs_in_order(activations: &[&Value]) -> Vec<Value> {
    let mut jobs: Vec<Value> =
        activations.iter().flat_map(|a| a["jobs"].as_array().unwrap().iter().cloned()).collect();
    jobs.sort_by_key(|job| {
        let (kind, body) = job.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "initialize_workflow" => 0,
            "notify_has_patch" => 1,
            "update_random_seed" => 2,
            "signal_workflow" | "do_update" => 3,
            _ if body["is_local"] == json!(true) => 5,
            _ => 4,
        }
    });
    jobs
}

fn difference(expected: &[&Value], ours: &[&Value], outcome: &str, played: &Played) -> String {
    for (at, (theirs, ours)) in expected.iter().zip(ours).enumerate() {
        if theirs != ours {
            let mut fields = Vec::new();
            diff("", theirs, ours, &mut fields);
            return format!("activation {at}: {}", fields.join("; "));
        }
    }
    if expected.len() != ours.len() {
        return format!(
            "{} activations for {}; ours ends {} {}; theirs {outcome}",
            ours.len(),
            expected.len(),
            played.evicted,
            played.message.lines().next().unwrap_or_default()
        );
    }
    format!("ends {} ({}) for {outcome}", played.evicted, played.message.lines().next().unwrap_or_default())
}

fn diff(path: &str, theirs: &Value, ours: &Value, out: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let empty = Map::new();
            let keys: std::collections::BTreeSet<&String> =
                a.keys().chain(b.keys()).chain(empty.keys()).collect();
            for key in keys {
                let none = Value::Null;
                diff(&format!("{path}.{key}"), a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                diff(&format!("{path}[{i}]"), a, b, out);
            }
        }
        (a, b) if a != b => out.push(format!("{path}: theirs {a}, ours {b}")),
        _ => {}
    }
}
