//! Replays: a recorded history against code that still fits, and code that does not.

use std::collections::HashMap;

use bytes::Bytes;
use outlast_proto::coresdk::workflow_activation::workflow_activation_job::Variant as Job;
use outlast_proto::coresdk::workflow_completion::{
    Failure, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_proto::temporal::api::enums::v1::EventType;
use outlast_proto::temporal::api::history::v1::history_event::Attributes;
use outlast_proto::temporal::api::history::v1::{self as event, History, HistoryEvent};
use outlast_worker::{PollError, ReplayConfig, ReplayError, Replayer};
use prost::Message;

use crate::workflows::{
    commands, complete, event, jobs, started, task_completed, task_events, timer, timer_fired, timer_started,
};

/// A workflow that sleeps once, then returns.
fn events(run: &str) -> Vec<HistoryEvent> {
    let [scheduled, begun] = task_events(2);
    let [scheduled_again, begun_again] = task_events(7);
    let completed = event::WorkflowExecutionCompletedEventAttributes {
        workflow_task_completed_event_id: 9,
        ..Default::default()
    };
    vec![
        started(run),
        scheduled,
        begun,
        task_completed(4),
        timer_started(5),
        timer_fired(6, 5),
        scheduled_again,
        begun_again,
        task_completed(9),
        event(
            10,
            EventType::WorkflowExecutionCompleted,
            Attributes::WorkflowExecutionCompletedEventAttributes(completed),
        ),
    ]
}

fn encode(events: Vec<HistoryEvent>) -> Bytes {
    History { events }.encode_to_vec().into()
}

/// What the code does.
#[derive(Clone, Copy)]
enum Code {
    /// What it did when the history was made.
    Fits,
    /// It returns without sleeping.
    Returns,
    /// It breaks.
    Breaks,
}

/// Answers activations until the replayer is shut down; how many runs it saw.
async fn language(replayer: Replayer, code: Code) -> usize {
    let mut seen: HashMap<String, usize> = HashMap::new();
    loop {
        let activation = match replayer.poll_workflow_activation().await {
            Ok(activation) => activation,
            Err(PollError::ShutDown) => return seen.len(),
            Err(other) => panic!("{other:?}"),
        };
        *seen.entry(activation.run_id.clone()).or_default() += 1;
        let run = activation.run_id.as_str();
        let answer = match (jobs(&activation)[0], code) {
            (Job::InitializeWorkflow(_), Code::Fits) => commands(run, vec![timer()]),
            (Job::InitializeWorkflow(_), Code::Returns) => commands(run, vec![complete()]),
            (Job::InitializeWorkflow(_), Code::Breaks) => {
                let failure = outlast_proto::temporal::api::failure::v1::Failure {
                    message: "no such field".into(),
                    ..Default::default()
                };
                let status = Some(Status::Failed(Failure { failure: Some(failure), ..Default::default() }));
                WorkflowActivationCompletion { run_id: run.into(), status, ..Default::default() }
            }
            (Job::FireTimer(_), _) => commands(run, vec![complete()]),
            (Job::RemoveFromCache(_), _) => commands(run, vec![]),
            (other, _) => panic!("{other:?}"),
        };
        replayer.complete_workflow_activation(answer).unwrap();
    }
}

/// Replays one history.
async fn replay(code: Code, events: Vec<HistoryEvent>) -> Result<(), ReplayError> {
    let replayer = Replayer::new(ReplayConfig::default());
    let language = tokio::spawn(language(replayer.clone(), code));
    let result = replayer.replay("w", encode(events)).result().await;
    replayer.shutdown();
    language.await.unwrap();
    result
}

#[tokio::test]
async fn code_that_still_fits() {
    assert_eq!(replay(Code::Fits, events("r")).await, Ok(()));
}

#[tokio::test]
async fn a_history_may_end_anywhere_but_between_a_task_and_its_commands() {
    for length in 1..=10 {
        let events = events("r").into_iter().take(length).collect();
        let replayed = replay(Code::Fits, events).await;
        // A server writes a completed task and its commands at once: without any, it is a task that had none.
        if [4, 9].contains(&length) {
            let Err(ReplayError::Nondeterminism(text)) = replayed else { panic!("{replayed:?}") };
            assert!(text.contains(&format!("event {length} of the history")), "{text}");
        } else {
            assert_eq!(replayed, Ok(()), "the first {length} events");
        }
    }
}

#[tokio::test]
async fn code_that_does_something_else_is_told_where_and_what() {
    let Err(ReplayError::Nondeterminism(text)) = replay(Code::Returns, events("r")).await else { panic!() };
    assert!(text.starts_with("[TMPRL1100]"), "{text}");
    assert!(text.contains("event 5") && text.contains("TIMER_STARTED"), "{text}");
}

#[tokio::test]
async fn code_that_breaks_is_not_nondeterminism() {
    let Err(ReplayError::Language(text)) = replay(Code::Breaks, events("r")).await else { panic!() };
    assert!(text.contains("no such field"), "{text}");
}

#[tokio::test]
async fn what_is_no_history_is_said_to_be_none() {
    for events in [vec![], events("r").split_off(1)] {
        assert!(matches!(replay(Code::Fits, events).await, Err(ReplayError::History(_))));
    }
}

#[tokio::test]
async fn a_history_that_skips_an_event_is_refused() {
    let mut events = events("r");
    events.remove(5);
    assert!(matches!(replay(Code::Fits, events).await, Err(ReplayError::History(_))));
}

#[tokio::test]
async fn a_history_may_come_in_pages_of_any_size() {
    for size in 1..=10 {
        let replayer = Replayer::new(ReplayConfig::default());
        let language = tokio::spawn(language(replayer.clone(), Code::Fits));
        let mut pages =
            events("r").chunks(size).map(|page| encode(page.to_vec())).collect::<Vec<_>>().into_iter();
        let (send, rest) = tokio::sync::mpsc::channel(1);
        let first = pages.next().unwrap();
        let sender = tokio::spawn(async move {
            for page in pages {
                send.send(page).await.unwrap();
            }
        });
        assert_eq!(replayer.replay_pages("w", first, rest).result().await, Ok(()), "pages of {size}");
        sender.await.unwrap();
        replayer.shutdown();
        language.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_histories_are_replayed_side_by_side_also_of_one_run() {
    let replayer = Replayer::new(ReplayConfig { lanes: Some(4), ..Default::default() });
    let language = tokio::spawn(language(replayer.clone(), Code::Fits));
    let replays: Vec<_> =
        (0..100).map(|n| replayer.replay("w", encode(events(&format!("run-{}", n % 50))))).collect();
    for replay in replays {
        assert_eq!(replay.result().await, Ok(()));
    }
    replayer.shutdown();
    assert_eq!(language.await.unwrap(), 50);
}

#[tokio::test]
async fn shutdown_ends_what_waits() {
    let replayer = Replayer::new(ReplayConfig { lanes: Some(1), ..Default::default() });
    let first = replayer.replay("w", encode(events("r1")));
    let second = replayer.replay("w", encode(events("r2")));
    let activation = replayer.poll_workflow_activation().await.unwrap();
    replayer.shutdown();
    assert_eq!(second.result().await, Err(ReplayError::ShutDown));
    let language = tokio::spawn(language(replayer.clone(), Code::Fits));
    replayer.complete_workflow_activation(commands(&activation.run_id, vec![timer()])).unwrap();
    assert_eq!(first.result().await, Ok(()));
    language.await.unwrap();
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_as_the_temporal_command_prints_it() {
    use outlast_proto::json::{Names, to_json};
    let history = encode(events("r"));
    let json = to_json("temporal.api.history.v1.History", &history, Names::Json).unwrap().to_string();
    let replayer = Replayer::new(ReplayConfig::default());
    let language = tokio::spawn(language(replayer.clone(), Code::Fits));
    assert_eq!(replayer.replay_json("w", &json).result().await, Ok(()));
    assert!(matches!(replayer.replay_json("w", "{").result().await, Err(ReplayError::History(_))));
    replayer.shutdown();
    language.await.unwrap();
}
