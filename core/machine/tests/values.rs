//! Every duration and number of a local activity's request, and what it brings about. No server sees these values: what
//! is wrong with them is found here or nowhere. `bridge-python/tests/surface/test_surface_values.py` shows the same table on
//! the reference core.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "test code")]

use std::time::Duration;

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{Input, LocalReport, LocalResult, LocalTask, Output, RunId, Source, Task, Ticket};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_proto::json;
use outlast_proto::lens::lang::ScheduleLocalActivity;
use outlast_proto::lens::lang::activity_resolution::Status;
use outlast_proto::lens::lang::workflow_activation_job::Variant;
use outlast_proto::lens::{api, lang};
use prost::Message as _;
use prost_types::{Duration as Wire, Timestamp};
use serde_json::{Value, json};

const NOW: i64 = 1_000_000;

const fn of(seconds: i64, nanos: i32) -> Option<Wire> {
    Some(Wire { seconds, nanos })
}

/// How long a duration is; an error is how a negative one is called.
type Length = Result<Option<Duration>, &'static str>;

/// Each kind of duration that a message can carry.
const DURATIONS: [(Option<Wire>, Length); 15] = [
    (None, Ok(None)),
    (of(0, 0), Ok(Some(Duration::ZERO))),
    (of(0, 1), Ok(Some(Duration::from_nanos(1)))),
    (of(7, 0), Ok(Some(Duration::from_secs(7)))),
    (of(5, -1), Ok(Some(Duration::from_nanos(4_999_999_999)))),
    (of(0, 2_000_000_000), Ok(Some(Duration::from_secs(2)))),
    (of(315_576_000_000, 0), Ok(Some(Duration::from_secs(315_576_000_000)))),
    (of(i64::MAX, 999_999_999), Ok(Some(Duration::new(i64::MAX as u64, 999_999_999)))),
    (of(i64::MAX, i32::MAX), Ok(Some(Duration::new(i64::MAX as u64, 999_999_999)))),
    (of(-5, 0), Err("-5s")),
    (of(0, -1_000), Err("-0.000001s")),
    (of(-5, 1), Err("-4.999999999s")),
    (of(1, i32::MIN), Err("-1.147483648s")),
    (of(i64::MIN, 0), Err("-9223372036854775808s")),
    (of(i64::MIN, -999_999_999), Err("-9223372036854775808.999999999s")),
];

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    /// An attempt is to be run.
    Runs(Box<LocalTask>),
    /// The workflow hears that it timed out.
    TimedOut,
    /// The workflow task fails with this message.
    TaskFails(String),
}

/// A run whose code asks for one local activity.
struct Story {
    shard: Shard,
    run: RunId,
    /// The last wait was the worker's, not the workflow's.
    waited_here: bool,
}

impl Story {
    fn new() -> Self {
        let mut shard = Shard::new(Config { task_queue: "q".into(), ..Config::default() });
        let history = json!({ "events": [
            { "event_id": "1", "event_time": "1970-01-12T13:46:40Z", "event_type": "WorkflowExecutionStarted",
              "workflow_execution_started_event_attributes": {
                "workflow_type": { "name": "w" }, "original_execution_run_id": "r" } },
            { "event_id": "2", "event_time": "1970-01-12T13:46:40Z", "event_type": "WorkflowTaskScheduled",
              "workflow_task_scheduled_event_attributes": { "start_to_close_timeout": "1000s" } },
            { "event_id": "3", "event_time": "1970-01-12T13:46:40Z", "event_type": "WorkflowTaskStarted",
              "workflow_task_started_event_attributes": { "scheduled_event_id": "2" } },
        ] });
        let poll = api::PollWorkflowTaskQueueResponse {
            task_token: "token".into(),
            workflow_execution: Some(api::WorkflowExecution { workflow_id: "wf".into(), run_id: "r".into() }),
            workflow_type: Some(api::WorkflowType { name: "w".into() }),
            started_event_id: 3,
            attempt: 1,
            history: Some(encode("temporal.api.history.v1.History", history)),
            ..Default::default()
        };
        let task = Task { ticket: Ticket(1), poll, source: Source::Server };
        shard.handle(now(), Input::Task(Box::new(task)));
        assert!(matches!(shard.poll(), Some(Output::Activate(_))));
        Self { shard, run: RunId::from("r"), waited_here: false }
    }

    fn ask(&mut self, asked: ScheduleLocalActivity) -> Outcome {
        let variant = Some(lang::workflow_command::Variant::ScheduleLocalActivity(Box::new(asked)));
        self.completed(lang::WorkflowCommand { variant, ..Default::default() });
        self.outcome()
    }

    fn completed(&mut self, command: lang::WorkflowCommand) {
        let success = lang::WorkflowCompletionSuccess { commands: vec![command], ..Default::default() };
        let status = Some(lang::workflow_activation_completion::Status::Successful(success));
        let run_id = self.run.bytes();
        let completion = lang::WorkflowActivationCompletion { run_id, status, ..Default::default() };
        self.shard.handle(now(), Input::Completed(completion));
    }

    fn outcome(&mut self) -> Outcome {
        match self.shard.poll() {
            Some(Output::StartLocal(_, task)) => Outcome::Runs(Box::new(task)),
            Some(Output::Activate(activation)) => match resolution(activation) {
                Status::Failed(failed) => {
                    let cause = &words(failed.failure.unwrap())["cause"]["timeout_failure_info"];
                    assert_eq!(cause["timeout_type"], "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE");
                    Outcome::TimedOut
                }
                other => panic!("{other:?}"),
            },
            Some(Output::Fail(_, failure)) => {
                assert_eq!(failure.cause, 14, "the worker's own failure");
                Outcome::TaskFails(words(failure.failure)["message"].as_str().unwrap().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    /// The attempt fails with this failure: the wait that follows, if one does, and the attempt that comes after that.
    fn fails(&mut self, task: &LocalTask, failure: Bytes) -> Option<(Duration, u32)> {
        let result = LocalResult::Failed(Some(failure));
        let report = LocalReport { name: task.name, took: Duration::ZERO, result };
        self.shard.handle(now(), Input::Local(self.run.clone(), report));
        match self.shard.poll() {
            None => {
                self.waited_here = true;
                let (at, _) = self.shard.deadline().unwrap();
                self.shard.handle(at, Input::Tick);
                let Some(Output::StartLocal(_, next)) = self.shard.poll() else { panic!("no next attempt") };
                Some((at.since(now()), next.attempt))
            }
            Some(Output::Activate(activation)) => match resolution(activation) {
                Status::Backoff(wait) => {
                    Some((wait.backoff_duration.unwrap().try_into().unwrap(), wait.attempt))
                }
                Status::Failed(_) => None,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn now() -> Time {
    Time::from_nanos(NOW * 1_000_000_000)
}

fn encode(message: &str, value: Value) -> Bytes {
    json::from_json(message, value).unwrap()
}

fn words(failure: Bytes) -> Value {
    json::to_json("temporal.api.failure.v1.Failure", &failure, json::Names::Proto).unwrap()
}

fn resolution(activation: lang::WorkflowActivation) -> Status {
    let mut jobs = activation.jobs.into_iter();
    let Some(Variant::ResolveActivity(resolved)) = jobs.next().unwrap().variant else { panic!("no result") };
    assert!(resolved.is_local);
    resolved.result.unwrap().status.unwrap()
}

fn asked() -> ScheduleLocalActivity {
    ScheduleLocalActivity {
        seq: 7,
        activity_id: "a".into(),
        activity_type: "t".into(),
        start_to_close_timeout: of(5, 0),
        ..Default::default()
    }
}

#[track_caller]
fn assert_refused(outcome: Outcome, field: &str, given: &str) {
    let text = format!(
        "Invalid schedule local activity request (seq 7): {field} of activity \"a\" of type \"t\" is {given}; allowed is \
         zero or more, or nothing for no limit"
    );
    assert!(matches!(&outcome, Outcome::TaskFails(said) if *said == text), "{outcome:?}");
}

/// The limits of what runs.
fn limits(outcome: &Outcome) -> Option<[Option<Duration>; 3]> {
    let Outcome::Runs(task) = outcome else { return None };
    Some([task.schedule_to_close, task.schedule_to_start, task.start_to_close])
}

const FIVE: Option<Duration> = Some(Duration::from_secs(5));

#[test]
fn schedule_to_close_timeouts() {
    for (given, means) in DURATIONS {
        let outcome = Story::new().ask(ScheduleLocalActivity { schedule_to_close_timeout: given, ..asked() });
        match means {
            Err(given) => assert_refused(outcome, "schedule_to_close_timeout", given),
            Ok(Some(Duration::ZERO)) => assert!(matches!(outcome, Outcome::TimedOut), "{outcome:?}"),
            Ok(whole) => {
                assert_eq!(limits(&outcome), Some([whole, None, FIVE.min(whole.or(FIVE))]), "{given:?}")
            }
        }
    }
}

#[test]
fn schedule_to_start_timeouts() {
    for (given, means) in DURATIONS {
        let outcome = Story::new().ask(ScheduleLocalActivity { schedule_to_start_timeout: given, ..asked() });
        match means {
            Err(given) => assert_refused(outcome, "schedule_to_start_timeout", given),
            Ok(to_start) => assert_eq!(limits(&outcome), Some([None, to_start, FIVE]), "{given:?}"),
        }
    }
}

#[test]
fn start_to_close_timeouts() {
    for (given, means) in DURATIONS {
        let outcome = Story::new().ask(ScheduleLocalActivity { start_to_close_timeout: given, ..asked() });
        match means {
            Err(given) => assert_refused(outcome, "start_to_close_timeout", given),
            Ok(to_close) => assert_eq!(limits(&outcome), Some([None, None, to_close]), "{given:?}"),
        }
    }
}

#[test]
fn a_request_without_any_limit_runs_without_one() {
    let outcome = Story::new().ask(ScheduleLocalActivity { start_to_close_timeout: None, ..asked() });
    assert_eq!(limits(&outcome), Some([None; 3]));
}

/// The wait after a failure: waits are what the workflow asks for, so one that cannot be is taken as not given.
fn wait(asked: ScheduleLocalActivity, failure: Bytes) -> Option<(Duration, u32)> {
    let mut story = Story::new();
    let Outcome::Runs(task) = story.ask(asked) else { panic!("it does not run") };
    story.fails(&task, failure)
}

/// A failure, and when it wants to be followed by another attempt.
fn broken(next_retry_delay: Option<Wire>) -> Bytes {
    let info = api::ApplicationFailureInfo { next_retry_delay, ..Default::default() };
    let failure_info = Some(api::failure::FailureInfo::ApplicationFailureInfo(info));
    api::Failure { failure_info, ..Default::default() }.encode_to_vec().into()
}

fn with_policy(policy: api::RetryPolicy) -> ScheduleLocalActivity {
    ScheduleLocalActivity { retry_policy: Some(policy.encode_to_vec().into()), ..asked() }
}

/// Waits on the wire are no longer than its seconds can say.
fn on_the_wire(wait: Duration) -> Duration {
    wait.min(Duration::from_secs(i64::MAX as u64))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn initial_intervals() {
    for (given, means) in DURATIONS {
        let means = means.unwrap_or(None).unwrap_or(SECOND);
        let policy = api::RetryPolicy { initial_interval: given, ..Default::default() };
        let (waited, attempt) = wait(with_policy(policy), broken(None)).unwrap();
        assert_eq!((on_the_wire(waited), attempt), (on_the_wire(means), 2), "{given:?}");
    }
}

#[test]
fn maximum_intervals() {
    for (given, means) in DURATIONS {
        // No wait is shorter than the first one.
        let longest = means.unwrap_or(None).map_or(100 * SECOND, |means| means.max(SECOND));
        let policy = api::RetryPolicy { maximum_interval: given, ..Default::default() };
        let (waited, _) =
            wait(ScheduleLocalActivity { attempt: 20, ..with_policy(policy) }, broken(None)).unwrap();
        assert_eq!(waited, longest.min(Duration::from_secs(1 << 19)), "{given:?}");
    }
}

#[test]
fn next_retry_delays() {
    for (given, means) in DURATIONS {
        let means = means.unwrap_or(None).unwrap_or(SECOND);
        let (waited, _) = wait(asked(), broken(given)).unwrap();
        assert_eq!(on_the_wire(waited), on_the_wire(means), "{given:?}");
    }
}

#[test]
fn backoff_coefficients() {
    let table = [
        (f64::NEG_INFINITY, [1, 4, 100]),
        (-1.0, [1, 4, 100]),
        (0.0, [1, 4, 100]),
        (0.5, [1, 4, 100]),
        (f64::NAN, [1, 4, 100]),
        (1.0, [1, 1, 1]),
        (3.0, [1, 9, 100]),
        (1e300, [1, 100, 100]),
        (f64::INFINITY, [1, 100, 100]),
    ];
    for (backoff_coefficient, waits) in table {
        for (attempt, seconds) in [1, 3, u32::MAX].into_iter().zip(waits) {
            let policy = api::RetryPolicy { backoff_coefficient, ..Default::default() };
            let asked = ScheduleLocalActivity { attempt, ..with_policy(policy) };
            let waited = wait(asked, broken(None));
            let next = attempt.saturating_add(1);
            assert_eq!(waited, Some((seconds * SECOND, next)), "{backoff_coefficient} after {attempt}");
        }
    }
}

#[test]
fn a_wait_of_nothing_stays_nothing_however_often_it_grows() {
    for backoff_coefficient in [2.0, f64::INFINITY] {
        let policy = api::RetryPolicy {
            initial_interval: of(0, 0),
            maximum_interval: of(10, 0),
            backoff_coefficient,
            ..Default::default()
        };
        let asked = ScheduleLocalActivity { attempt: 5_000, ..with_policy(policy) };
        assert_eq!(wait(asked, broken(None)), Some((Duration::ZERO, 5_001)));
    }
}

#[test]
fn maximum_attempts() {
    for (maximum_attempts, attempt, again) in [
        (i32::MIN, 1_000, true),
        (-1, 1_000, true),
        (0, 1_000, true),
        (1, 1, false),
        (2, 1, true),
        (2, 2, false),
        (2, 3, false),
        (i32::MAX, i32::MAX as u32 - 1, true),
        (i32::MAX, i32::MAX as u32, false),
    ] {
        let policy = api::RetryPolicy { maximum_attempts, ..Default::default() };
        let waited = wait(ScheduleLocalActivity { attempt, ..with_policy(policy) }, broken(None));
        assert_eq!(waited.is_some(), again, "attempt {attempt} of {maximum_attempts}");
    }
}

#[test]
fn the_policy_that_the_activity_is_told_holds_in_every_value() {
    let policy = api::RetryPolicy {
        initial_interval: of(-1, 0),
        backoff_coefficient: f64::NAN,
        maximum_interval: of(0, -1),
        maximum_attempts: -1,
        non_retryable_error_types: vec!["E".into()],
    };
    let held = api::RetryPolicy {
        initial_interval: of(1, 0),
        backoff_coefficient: 2.0,
        maximum_interval: of(100, 0),
        maximum_attempts: 0,
        non_retryable_error_types: vec!["E".into()],
    };
    let Outcome::Runs(task) = Story::new().ask(with_policy(policy)) else { panic!("it does not run") };
    assert_eq!(*task.retry_policy, held);
}

#[test]
fn local_retry_thresholds() {
    for (given, means) in DURATIONS {
        let longest = means.unwrap_or(None).unwrap_or(Duration::from_secs(60));
        let policy = api::RetryPolicy { initial_interval: of(6, 0), ..Default::default() };
        let mut story = Story::new();
        let asked = ScheduleLocalActivity { local_retry_threshold: given, ..with_policy(policy) };
        let Outcome::Runs(task) = story.ask(asked) else { panic!("it does not run") };
        let waited = story.fails(&task, broken(None));
        assert_eq!(waited, Some((6 * SECOND, 2)), "{given:?}");
        assert_eq!(story.waited_here, 6 * SECOND <= longest, "{given:?}");
    }
}

#[test]
fn attempts() {
    for (attempt, runs) in [(0, 1), (1, 1), (2, 2), (u32::MAX, u32::MAX)] {
        let Outcome::Runs(task) = Story::new().ask(ScheduleLocalActivity { attempt, ..asked() }) else {
            panic!("it does not run")
        };
        assert_eq!(task.attempt, runs);
    }
}

/// The rest of the whole time: one that is past is over, and not without a limit.
#[test]
fn original_schedule_times() {
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    for (original_schedule_time, over) in [
        (None, false),
        (at(NOW, 0), false),
        (at(NOW - 49, 0), false),
        (at(NOW - 50, 1), false),
        (at(NOW - 50, 0), true),
        (at(NOW - 49, -1_000_000_000), true),
        (at(0, 0), true),
        (at(-5, 0), true),
        (at(i64::MIN, i32::MIN), true),
        (at(NOW + 1_000, 0), false),
        (at(i64::MAX, i32::MAX), false),
    ] {
        for attempt in [1, 2] {
            let asked = ScheduleLocalActivity {
                attempt,
                original_schedule_time,
                schedule_to_close_timeout: of(50, 0),
                ..asked()
            };
            let outcome = Story::new().ask(asked);
            assert_eq!(matches!(outcome, Outcome::TimedOut), over, "{original_schedule_time:?}: {outcome:?}");
        }
    }
}
