//! What a workflow was shown live, and whether a replay of its history shows the same.

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{Input, Output, Page, Ticket};
use outlast_machine::shard::{Shard, replay_task};
use outlast_machine::time::Time;
use outlast_proto::lens::history::history_event::Attributes as A;
use outlast_proto::lens::history::{History, HistoryEvent};
use outlast_proto::lens::lang::workflow_activation_job::Variant as Job;
use outlast_proto::lens::lang::{self, workflow_activation_completion::Status};
use prost::Message;

use crate::program::{Instance, Program, rejects};
use crate::random::Random;

/// An activation and what the program made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub activation: lang::WorkflowActivation,
    pub commands: Vec<lang::WorkflowCommand>,
}

impl Shown {
    /// Without what may differ between live and replay: that it is a replay, the patches and flags that it knows ahead, and
    /// updates that were rejected, which leave no trace. `None`: nothing is left.
    pub fn new(activation: &lang::WorkflowActivation, commands: &[lang::WorkflowCommand]) -> Option<Self> {
        let mut activation = activation.clone();
        activation.is_replaying = false;
        activation.available_internal_flags.clear();
        activation.last_sdk_version.clear();
        activation.jobs.retain_mut(|job| match job.variant.as_mut() {
            Some(Job::NotifyHasPatch(_)) => false,
            Some(Job::DoUpdate(update)) => {
                update.run_validator = false;
                !rejects(&update.protocol_instance_id)
            }
            _ => true,
        });
        let rejection = |c: &lang::WorkflowCommand| matches!(&c.variant, Some(lang::workflow_command::Variant::UpdateResponse(r)) if rejects(&r.protocol_instance_id));
        let commands = commands.iter().filter(|c| !rejection(c)).cloned().collect();
        (!activation.jobs.is_empty()).then_some(Self { activation, commands })
    }

    pub fn length(&self) -> i64 {
        i64::from(self.activation.history_length)
    }
}

/// How a replay ended.
#[derive(Debug)]
pub struct Played {
    pub shown: Vec<Shown>,
    pub reason: lang::remove_from_cache::EvictionReason,
    pub message: String,
}

/// Replays events, in pages. `change` may change what the program asks for.
pub fn play(
    run_id: &str,
    events: &[HistoryEvent],
    program: &Program,
    page_size: usize,
    mut change: impl FnMut(usize, &lang::WorkflowActivation, &mut Vec<lang::WorkflowCommand>),
) -> Played {
    let encoded: Vec<Bytes> = events.iter().map(|e| e.encode_to_vec().into()).collect();
    let page = |from: usize| {
        let to = encoded.len().min(from.saturating_add(page_size));
        let next_page = if to < encoded.len() { to.to_string().into() } else { Bytes::new() };
        Page { history: History { events: encoded[from..to].to_vec() }.encode_to_vec().into(), next_page }
    };
    let mut shard = Shard::new(Config { sdk_name: "sim".into(), ..Config::default() });
    let task = replay_task(Ticket(1), &format!("wf-{run_id}"), run_id, "w".into(), page(0));
    shard.handle(Time::default(), Input::Task(Box::new(task)));
    let mut instance = Instance::new(program.clone());
    let (mut shown, mut ended, mut done) = (Vec::new(), None, false);
    while let Some(output) = shard.poll() {
        match output {
            Output::Activate(activation) => {
                let removal = matches!(activation.jobs[0].variant, Some(Job::RemoveFromCache(_)));
                let mut commands = if removal { Vec::new() } else { instance.activate(&activation) };
                if !removal {
                    change(shown.len(), &activation, &mut commands);
                    shown.extend(Shown::new(&activation, &commands));
                }
                let success = lang::WorkflowCompletionSuccess { commands, ..Default::default() };
                let completion = lang::WorkflowActivationCompletion {
                    run_id: activation.run_id,
                    status: Some(Status::Successful(success)),
                    ..Default::default()
                };
                shard.handle(Time::default(), Input::Completed(completion));
            }
            Output::Fetch(fetch) => {
                let from = std::str::from_utf8(&fetch.page).expect("it is ours").parse().expect("it is ours");
                shard.handle(Time::default(), Input::Page(fetch.run, Ok(page(from))));
            }
            Output::Forgotten(_, eviction) => ended = Some(eviction),
            Output::Done(_) => assert!(!std::mem::replace(&mut done, true), "a replay is done once"),
            Output::Note(..) => {}
            other => panic!("a replay wants nothing of the outside, not {other:?}"),
        }
    }
    assert!(done, "a replay is done");
    assert_eq!((shard.runs(), shard.bytes()), (0, 0), "nothing is left of a replay");
    let ended = ended.expect("a replay ends");
    Played { shown, reason: ended.reason, message: ended.message }
}

/// Where turns end: the place after the last command of each completed task, with the event that started it.
fn turns(events: &[HistoryEvent]) -> Vec<(usize, i64)> {
    let mut turns = Vec::new();
    let mut at = 0;
    while at < events.len() {
        if let Some(A::WorkflowTaskCompletedEventAttributes(completed)) = &events[at].attributes {
            let mut end = at + 1;
            while events.get(end).is_some_and(is_command) {
                end += 1;
            }
            turns.push((end, completed.started_event_id));
            at = end;
        } else {
            at += 1;
        }
    }
    turns
}

const COMMANDS: [i32; 19] = [2, 3, 10, 15, 17, 19, 21, 22, 25, 28, 29, 37, 40, 41, 42, 43, 46, 48, 54];

fn is_command(event: &HistoryEvent) -> bool {
    COMMANDS.contains(&event.event_type)
}

/// A replay shows what was shown live: whole, from prefixes, in pages of many sizes.
pub fn check(
    run_id: &str,
    events: &[HistoryEvent],
    program: &Program,
    recorded: &[Shown],
    random: &mut Random,
) {
    let turns = turns(events);
    let Some(last) = turns.last() else { return };
    let mut ends = vec![*last];
    ends.extend((0..4).map(|_| *random.pick(&turns)));
    for (end, started) in ends {
        let size = *random.pick(&[1, 2, 3, 7, usize::MAX]);
        let played = play(run_id, &events[..end], program, size, |_, _, _| {});
        let expected: Vec<&Shown> = recorded.iter().filter(|s| s.length() <= started).collect();
        compare(&played.shown, &expected, &format!("{run_id} up to event {end} in pages of {size}"));
        assert_eq!(
            played.reason,
            lang::remove_from_cache::EvictionReason::LangRequested,
            "{run_id} up to event {end}: {}",
            played.message
        );
    }
    // A history may also end with the start of a task: what the task saw is shown, what it recorded is not known.
    let (_, started) = *random.pick(&turns);
    let played = play(run_id, &events[..started as usize], program, 5, |_, _, _| {});
    let before = |s: &&Shown| s.length() < started;
    let shown: Vec<Shown> = played.shown.iter().filter(before).cloned().collect();
    compare(
        &shown,
        &recorded.iter().filter(before).collect::<Vec<_>>(),
        &format!("{run_id} up to task {started}"),
    );
}

fn compare(shown: &[Shown], expected: &[&Shown], what: &str) {
    for (at, (ours, live)) in shown.iter().zip(expected).enumerate() {
        assert!(ours == *live, "{what}, activation {at}:\n{}", differences(live, ours));
    }
    let lengths = |of: Vec<i64>| format!("{of:?}");
    assert_eq!(
        lengths(shown.iter().map(Shown::length).collect()),
        lengths(expected.iter().map(|s| s.length()).collect()),
        "{what}: more or fewer activations than live"
    );
}

/// The lines in which two differ.
pub fn differences(live: &Shown, replay: &Shown) -> String {
    let (live, replay) = (format!("{live:#?}"), format!("{replay:#?}"));
    let only = |a: &str, b: &str, sign: &str| {
        let others: Vec<&str> = b.lines().collect();
        a.lines()
            .filter(|l| !others.contains(l))
            .map(|l| format!("{sign} {}\n", l.trim()))
            .collect::<String>()
    };
    let same: Vec<&str> =
        live.lines().filter(|l| l.contains("history_length") || l.contains("variant:")).collect();
    format!("{}\n{}{}", same.join("\n"), only(&live, &replay, "live  "), only(&replay, &live, "replay"))
}

/// A program that asks for something else in one task is found out at the first command that differs.
pub fn check_change(
    run_id: &str,
    events: &[HistoryEvent],
    program: &Program,
    recorded: &[Shown],
    random: &mut Random,
) {
    let turns = turns(events);
    if turns.is_empty() {
        return;
    }
    let (end, started) = *random.pick(&turns);
    // The command events of the turn begin after its completion.
    let mut first = end;
    while is_command(&events[first - 1]) {
        first -= 1;
    }
    const MARKER: i32 = 25;
    const NEXUS: i32 = 48;
    let Some(event) =
        events.get(first).filter(|e| is_command(e) && e.event_type != MARKER && e.event_type != NEXUS)
    else {
        return;
    };
    let Some(at) = recorded.iter().position(|s| s.length() == started) else { return };
    let played = play(run_id, &events[..end], program, usize::MAX, |n, _, commands| {
        if n == at {
            let nexus = lang::ScheduleNexusOperation { seq: 1_000_000, ..Default::default() };
            let variant = Some(lang::workflow_command::Variant::ScheduleNexusOperation(Box::new(nexus)));
            commands.insert(0, lang::WorkflowCommand { variant, ..Default::default() });
        }
    });
    let place = format!("event {} of the history", event.event_id);
    let found = played.reason == lang::remove_from_cache::EvictionReason::Nondeterminism;
    assert!(
        found && played.message.contains(&place),
        "{run_id}: a change before {place} is reported as {:?} {}",
        played.reason,
        played.message
    );
}
